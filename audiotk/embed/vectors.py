"""Embeddings of segments in memory: of the student's next-to-last layer, of any teacher, or log-mel statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from audiotk.errors import AudiotkError

if TYPE_CHECKING:
    from audiotk.models.base import WaveformModel
    from audiotk.models.checkpoints import Checkpoint
    from audiotk.teachers.base import Teacher


def embed_student(
    student: Checkpoint | WaveformModel, waves: Any, *, batch_size: int = 32, progress: bool = False
) -> np.ndarray:
    """What the head of a student sees: its next-to-last layer, in evaluation mode.

    Parameters
    ----------
    student
        From `models.checkpoints.load_checkpoint`, or a model.
    waves
        (n, samples) at the student's sampling rate: an array, a memory map or `shards.StoredWaves`.

    Returns
    -------
    numpy.ndarray [shape=(n, embed_dim), float32]

    Raises
    ------
    AudiotkError
        Waves of another shape or type, or too short for the student.
    """
    import torch

    from audiotk.models.checkpoints import Checkpoint

    model = student.model if isinstance(student, Checkpoint) else student
    device = next(model.parameters()).device

    def embed(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.embed(torch.as_tensor(batch, device=device)).float().cpu().numpy()

    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        return _in_batches(embed, waves, model.embed_dim, batch_size, progress)
    finally:
        for module, training in modes.items():
            module.training = training


def embed_teacher(
    teacher: Teacher, waves: Any, *, hop_s: float | None = None, batch_size: int = 8, progress: bool = False
) -> np.ndarray:
    """The mean embedding of the windows of each segment, scaled to norm 1.

    For segments in files, and for many, `audiotk.scoring.listen` hears them on several machines and keeps the result.

    Parameters
    ----------
    teacher
        One that gives embeddings.
    waves
        (n, samples) at ``teacher.sr``, of any length: longer ones are heard in windows, shorter ones are filled up.
    hop_s
        Distance of windows in seconds; None: half a window.

    Returns
    -------
    numpy.ndarray [shape=(n, teacher.dim), float32]

    Raises
    ------
    AudiotkError
        A teacher without embeddings; samples that are not finite.
    """
    from audiotk.scoring.windows import check_hop
    from audiotk.teachers.base import unit

    if not teacher.dim:
        raise AudiotkError(f"embed: {teacher.name} gives scores and no embeddings; take another teacher, or its scores")
    hop = max(1, round(check_hop(teacher.window_s, teacher.window_s / 2 if hop_s is None else hop_s) * teacher.sr))

    def embed(batch: np.ndarray) -> np.ndarray:
        room = batch.shape[1] - teacher.samples
        if room < 0:
            batch, starts = np.stack([teacher.fill(wave) for wave in batch]), [0]
        else:
            starts = sorted({*range(0, room + 1, hop), room})
        heard = [teacher.embed_audio(batch[:, at : at + teacher.samples]) for at in starts]  # (B, dim) each
        return unit(np.stack(heard).mean(axis=0, dtype=np.float64)).astype(np.float32)

    return _in_batches(embed, waves, teacher.dim, batch_size, progress)


def embed_logmel(waves: Any, sr: int, *, batch_size: int = 64, progress: bool = False) -> np.ndarray:
    """Six statistics over time of 64 log-mel bands (`teachers.logmel`), as they are: natural logarithms of power.

    Parameters
    ----------
    waves
        (n, samples) at `sr` Hz, at least 0.128 s long.

    Returns
    -------
    numpy.ndarray [shape=(n, 384), float32]

    Raises
    ------
    AudiotkError
        `sr` below 8000 Hz, too few samples, or samples that are not finite.
    """
    from audiotk.teachers.logmel import LogMelStatistics

    if np.ndim(waves) != 2 and not len(waves):
        raise AudiotkError(f"embed: expected waves of shape (n, samples), got shape {np.shape(waves)}")
    samples = np.shape(waves[np.arange(min(1, len(waves)))])[1]
    space = LogMelStatistics(sr, samples / sr)
    return _in_batches(lambda batch: space.statistics(batch), waves, space.dim, batch_size, progress)


def _in_batches(
    embed: Callable[[np.ndarray], np.ndarray], waves: Any, dim: int, batch_size: int, progress: bool
) -> np.ndarray:
    """What `embed` gives for blocks of rows, float32 [shape=(n, dim)]."""
    found = np.empty((len(waves), dim), np.float32)
    blocks = [np.arange(at, min(at + batch_size, len(found))) for at in range(0, len(found), batch_size)]
    for rows in tqdm(blocks, desc="embed", disable=not progress):
        found[rows] = embed(np.asarray(waves[rows], np.float32))
    return found
