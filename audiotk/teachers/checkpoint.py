"""A model that audiotk trained, as a teacher: for correcting labels by what a student learnt from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from audiotk.errors import AudiotkError
from audiotk.models.checkpoints import load_checkpoint
from audiotk.models.predict import predict_logits
from audiotk.teachers.base import Teacher, checked_waves, unit
from audiotk.teachers.weights import digest

__all__ = ["CheckpointTeacher"]

BATCH = 32  # windows at once, at most


class CheckpointTeacher(Teacher):
    """A checkpoint of audiotk: scores of its classes, or the embeddings that its last layer sees.

    The scores are those of `audiotk.models.predict.score`, in float32. Numbers are the same in every run on the same
    machine, and within 1e-5 for any number of windows at once.

    Parameters
    ----------
    weights
        File written by `audiotk.models.checkpoints.save_checkpoint`, as the ``best.pt`` of a run.
    device
        Where torch computes, as ``cpu`` or ``cuda``.
    as_embeddings
        Give embeddings of unit norm in place of scores; classes then come from examples
        (`audiotk.teachers.examples`).

    Raises
    ------
    AudiotkError
        The file is missing or no checkpoint of audiotk, or the device is not there.
    """

    name = "audiotk"

    def __init__(self, weights: str | Path, device: str = "cpu", as_embeddings: bool = False) -> None:
        try:
            self.checkpoint = load_checkpoint(weights, device)
        except (RuntimeError, AssertionError) as err:  # torch's words for a device that is not there
            raise AudiotkError(f"device {device!r}: cannot be used: {str(err).partition(chr(10))[0]}") from err
        self.sr, self.window_s = self.checkpoint.sr, self.checkpoint.clip_s
        self.checksum = digest(Path(weights))
        if as_embeddings:
            self.dim = self.checkpoint.model.embed_dim
        else:
            self.classes, self.says = self.checkpoint.classes, "sigmoid"

    def own_scores(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> sigmoids of its logits [shape=(n, len(classes)), float32]."""
        if self.dim:
            return super().own_scores(waves)
        waves = checked_waves(self, waves)
        if not len(waves):
            return np.zeros((0, len(self.classes)), np.float32)
        logits = predict_logits(self.checkpoint.model, waves, BATCH)  # (n, C)
        return expit(logits.astype(np.float64)).astype(np.float32)

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> embeddings of unit norm [shape=(n, dim), float32]."""
        if not self.dim:
            return super().embed_audio(waves)
        waves = checked_waves(self, waves)
        found = np.empty((len(waves), self.dim), np.float32)
        device = next(self.checkpoint.model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(waves), BATCH):
                part = torch.as_tensor(waves[start : start + BATCH], device=device)
                found[start : start + BATCH] = self.checkpoint.model.embed(part).float().cpu().numpy()
        return unit(found)

    def fingerprint(self) -> dict[str, Any]:
        """With what it gives: scores or embeddings."""
        return super().fingerprint() | {"gives": "embeddings" if self.dim else "scores"}
