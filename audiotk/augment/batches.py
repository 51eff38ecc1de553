"""Changes of a training batch that keep its labels right: roll, gain, noise, mixing, masks on the spectrogram.

Every random choice comes from the generator passed in, so a batch is the same whatever ran before it.
Shapes: wave (B, samples), targets (B, C) of 1 / 0 / NaN, spectrogram (B, channels, T, F).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiotk.errors import AudiotkError

MIXES = ("none", "vanilla", "join")


def kleene_or(a: Tensor, b: Tensor) -> Tensor:
    """Three-valued OR: present if either is present, absent if both are, unknown otherwise.

    `torch.maximum` would give NaN for (1, NaN), where the answer is certain: 1.
    """
    present = (a == 1) | (b == 1)
    unknown = (a.isnan() | b.isnan()) & ~present
    joined = present.to(a.dtype)
    return torch.where(unknown, torch.full_like(joined, torch.nan), joined)


def decibels(shape: tuple[int, ...], std_db: float, rng: np.random.Generator) -> Tensor:
    """Random amplitude factors, normal in dB with standard deviation `std_db`: float32 of `shape`."""
    return torch.from_numpy(10 ** (rng.normal(0.0, std_db, shape) / 20)).float()


def roll(wave: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each row in time by a random amount, what leaves at the end coming in at the start."""
    shifts = rng.integers(wave.shape[1], size=len(wave))
    if wave.device.type == "cpu":  # a few copies, several times faster than gathering sample by sample
        return torch.stack([row.roll(-int(shift)) for row, shift in zip(wave, shifts, strict=True)])
    places = torch.arange(wave.shape[1], device=wave.device) + torch.from_numpy(shifts).to(wave.device)[:, None]
    return wave.gather(1, places % wave.shape[1])  # (B, samples)


def add_noise(wave: Tensor, snr_db: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Add white noise at a signal-to-noise ratio drawn uniformly from `snr_db` for each row; silence stays silent."""
    level = wave.square().mean(1, keepdim=True).sqrt()  # (B, 1)
    ratio = torch.from_numpy(10 ** (-rng.uniform(*snr_db, size=(len(wave), 1)) / 20)).float().to(wave.device)
    source = torch.Generator(wave.device).manual_seed(int(rng.integers(2**62)))
    return wave + level * ratio * torch.randn(wave.shape, generator=source, device=wave.device)


def mix(
    wave: Tensor,
    targets: Tensor,
    kind: str,
    rng: np.random.Generator,
    *,
    max_sources: int = 2,
    level_db: float = 2.0,
    alpha: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Mix rows of a batch with each other.

    Parameters
    ----------
    wave, targets
        (B, samples) and (B, C).
    kind
        ``"none"``; ``"join"``, P1's label-joining: each row gets 1..`max_sources` sources (uniform), each at a level of
        N(0, `level_db`) dB, and the Kleene OR of their labels (Algorithm 1); ``"vanilla"``: a x_i + (1 - a) x_j for
        data and labels alike, a ~ Beta(`alpha`, `alpha`) (eq. (1), (2)).
    rng
        Source of partners and levels.

    Returns
    -------
    tuple of Tensor
        Mixed wave and targets, of the same shapes.
    """
    if kind not in MIXES:
        raise AudiotkError(f"mix: expected one of {MIXES}, got {kind!r}")
    if kind == "vanilla":
        other = rng.permutation(len(wave))
        share = torch.from_numpy(rng.beta(alpha, alpha, size=(len(wave), 1))).float().to(wave.device)
        mixed = _add_rows(share * wave, wave, other, 1 - share, np.ones(len(wave), dtype=bool))
        return mixed, share * targets + (1 - share) * targets[torch.from_numpy(other).to(targets.device)]
    if kind == "none":
        return wave, targets
    count = rng.integers(1, max_sources + 1, size=len(wave))
    mixed, joined = wave * decibels((len(wave), 1), level_db, rng).to(wave.device), targets
    for place in range(1, max_sources):
        other, more = rng.permutation(len(wave)), count > place
        gain = decibels((len(wave), 1), level_db, rng).to(wave.device)
        mixed = _add_rows(mixed, wave, other, gain, more)
        known = kleene_or(joined, targets[torch.from_numpy(other).to(targets.device)])
        joined = torch.where(torch.from_numpy(more[:, None]).to(targets.device), known, joined)
    return mixed, joined


def _add_rows(to: Tensor, wave: Tensor, other: np.ndarray, gain: Tensor, which: np.ndarray) -> Tensor:
    """Add gain[k] * wave[other[k]] to row k of `to`, for the rows in `which`.

    Row by row, so that what is in between stays in the cache: on a CPU twenty times as fast as the batch at once.
    """
    for row in np.flatnonzero(which):
        to[row] += gain[row] * wave[other[row]]
    return to


def mask_spectrogram(spectrogram: Tensor, masks: int, share: float, rng: np.random.Generator) -> Tensor:
    """SpecAugment: `masks` stripes along time and along frequency of each row are set to the row's mean.

    Each stripe is up to `share` of its axis long (Park et al. 2019, arXiv 1904.08779, without time warping).
    """
    rows, _, frames, bins = spectrogram.shape
    hidden = torch.zeros((rows, 1, frames, bins), dtype=torch.bool, device=spectrogram.device)
    for length, shape in ((frames, (rows, 1, frames, 1)), (bins, (rows, 1, 1, bins))):
        for _ in range(masks):
            width = rng.uniform(0, share * length, size=(rows, 1))
            start = rng.uniform(0, length - width)
            place = np.arange(length)
            stripe = (place >= start) & (place < start + width)  # (B, length)
            hidden |= torch.from_numpy(stripe).reshape(shape).to(spectrogram.device)
    mean = spectrogram.mean((1, 2, 3), keepdim=True)
    return torch.where(hidden, mean, spectrogram)
