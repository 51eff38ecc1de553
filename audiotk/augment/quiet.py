"""Nothing to hear, in training: segments of background alone, and moments in which the sound drops out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DROPOUT_SHARE = 0.3  # of the segment, at most
DROPOUT_DB = (-90.0, -60.0)  # level of the noise that is left, re full scale


def background_only(
    wave: Tensor,
    targets: Tensor,
    backgrounds: np.ndarray,
    share: float,
    rng: np.random.Generator,
    events: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Some rows of a batch become background alone, with every class absent.

    Parameters
    ----------
    wave : Tensor [shape=(B, samples)]
    targets : Tensor [shape=(B, C)]
    backgrounds
        Sound without any event (m, samples), full scale 1; two of them are added up, each within 6 dB of its level.
    share
        Probability that a row is replaced.
    rng
        Source of every choice.
    events
        Columns of the targets that are events; of the others (explicit negatives) nothing is known in a replaced row.
        None: all.

    Returns
    -------
    tuple of Tensor
        Changed copies; targets of replaced rows are 0 for events, whatever they were.
    """
    replaced = rng.random(len(wave)) < share
    rows, gain = rng.integers(len(backgrounds), size=(2, len(wave))), 10 ** (rng.uniform(-6, 6, (2, len(wave), 1)) / 20)
    mixed = sum(np.asarray(backgrounds[part], np.float32) * level for part, level in zip(rows, gain, strict=True))
    mask = torch.from_numpy(replaced).to(wave.device)[:, None]
    mixed = torch.as_tensor(mixed, dtype=wave.dtype, device=wave.device)
    absent = torch.full_like(targets, torch.nan)
    absent[:, slice(None) if events is None else torch.as_tensor(events, device=targets.device)] = 0.0
    return torch.where(mask, mixed, wave), torch.where(mask, absent, targets)


def dropouts(wave: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """In some rows one stretch of up to 0.3 of the segment falls to faint noise (-90 to -60 dBFS); labels stay.

    Parameters
    ----------
    wave : Tensor [shape=(B, samples)]
    share
        Probability that a row has a dropout.
    rng
        Source of every choice.
    """
    rows, samples = wave.shape
    length = rng.uniform(0.0, DROPOUT_SHARE, rows) * (rng.random(rows) < share) * samples
    start = rng.uniform(0.0, samples - length)
    level = 10 ** (rng.uniform(*DROPOUT_DB, size=rows) / 20)
    changed = wave.clone()
    for row, (first, last) in enumerate(np.ceil([start, start + length]).astype(int).T):
        faint = rng.standard_normal(last - first, dtype=np.float32) * np.float32(level[row])
        changed[row, first:last] = torch.from_numpy(faint).to(wave)
    return changed
