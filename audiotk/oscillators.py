"""Oscillators, filters and envelopes that sounds are built from; all mono, float32, shape (samples,)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import fft

Wave = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]


def noise(n: int, rng: np.random.Generator) -> Wave:
    """White Gaussian noise, (n,)."""
    return rng.standard_normal(n, dtype=np.float32)


def shaped(n: int, gain: Callable[[Curve], Curve], sr: int, rng: np.random.Generator) -> Wave:
    """Gaussian noise (n,) with amplitude spectrum ``gain(frequency in Hz)``, of RMS 1."""
    size = fft.next_fast_len(n, real=True)
    spectrum = noise(2 * (size // 2 + 1), rng).view(np.complex64)
    spectrum *= gain(fft.rfftfreq(size, 1 / sr)).astype(np.float32)
    wave = fft.irfft(spectrum, size)[:n]
    return wave / np.sqrt(np.mean(wave**2))


def harmonics(pitch: Curve, tilt: float, sr: int) -> Wave:
    """Sum of all harmonics of a pitch track (Hz, one value a sample) below Nyquist, k-th with amplitude k**-tilt.

    sin(k x) comes from the recurrence sin((k+1)x) = 2 cos(x) sin(kx) - sin((k-1)x): two operations a harmonic.
    """
    angle = (2 * np.pi * np.cumsum(pitch) / sr) % (2 * np.pi)
    before, now = np.zeros(len(pitch), np.float32), np.sin(angle, dtype=np.float32, casting="unsafe")
    twice_cos = 2 * np.cos(angle, dtype=np.float32, casting="unsafe")
    wave = now.copy()
    for k in range(2, max(2, int(0.46 * sr / pitch.min())) + 1):
        before, now = now, twice_cos * now - before
        weight = np.float32(k**-tilt)
        wave += now * (weight if k * pitch.max() < 0.46 * sr else weight * (k * pitch < 0.46 * sr))
    return wave


def pulses(pitch: Curve, shimmer: float, sr: int, rng: np.random.Generator) -> Wave:
    """Glottal pulses at a low pitch track (Hz), each with its own strength (`shimmer`: relative deviation)."""
    cycle = np.floor(np.cumsum(pitch) / sr)
    at = np.flatnonzero(np.diff(cycle))
    wave = np.zeros(len(pitch), np.float32)
    wave[at] = 1 + shimmer * rng.standard_normal(len(at))
    return wave


def formants(
    wave: Wave, centres: npt.ArrayLike, widths: npt.ArrayLike, gains_db: npt.ArrayLike, sr: int, slope_db: float = 0.0
) -> Wave:
    """`wave` through parallel two-pole resonances (Hz, Hz, dB) beside a faint direct path.

    `slope_db` tilts the result about 1 kHz, in dB per octave.
    """
    size = fft.next_fast_len(len(wave) + int(0.02 * sr), real=True)
    f = fft.rfftfreq(size, 1 / sr)[:, None]
    centre, width = np.atleast_1d(centres), np.atleast_1d(widths)
    gain = 10 ** (np.atleast_1d(gains_db) / 20) * (-1.0) ** np.arange(len(centre))
    response = (gain * (1j * f * width) / (centre**2 - f**2 + 1j * f * width)).sum(1) + 0.02
    response *= np.maximum(f[:, 0], 100.0) ** (slope_db / 6.02) * 1000.0 ** (-slope_db / 6.02)
    return fft.irfft(fft.rfft(wave, size) * response.astype(np.complex64), size)[: len(wave)].astype(np.float32)


def rise_and_fall(n: int, sr: int, attack_s: float, release_s: float) -> Wave:
    """Envelope (n,): squared-sine attack, flat, squared-sine release; both shortened to fit."""
    envelope = np.ones(n, np.float32)
    for seconds, end in ((attack_s, slice(None)), (release_s, slice(None, None, -1))):
        m = max(1, min(n // 2, int(seconds * sr)))
        envelope[end][:m] *= np.sin(0.5 * np.pi * (np.arange(m) + 0.5) / m) ** 2
    return envelope


def decay(n: int, sr: int, tau_s: float) -> Wave:
    """exp(-t / tau), (n,)."""
    return np.exp(-np.arange(n, dtype=np.float32) / np.float32(tau_s * sr))


def wander(n: int, sr: int, rate_hz: float, sd: float, rng: np.random.Generator) -> Curve:
    """Slow random curve (n,) around 0: normal knots `rate_hz` times a second, joined linearly."""
    knots = max(2, int(n / sr * rate_hz) + 2)
    return np.interp(np.arange(n), np.linspace(0, n, knots), sd * rng.standard_normal(knots))


def curve(n: int, *points: tuple[float, float]) -> Curve:
    """Smooth curve (n,) through (position 0..1, value) points (cosine steps)."""
    x, y = np.array(points).T
    u = np.arange(n) / max(n - 1, 1)
    i = np.clip(np.searchsorted(x, u, side="right") - 1, 0, len(x) - 2)
    s = 0.5 - 0.5 * np.cos(np.pi * (u - x[i]) / (x[i + 1] - x[i]))
    return y[i] + (y[i + 1] - y[i]) * s


def train(pieces: list[Wave], onsets_s: list[float], sr: int) -> Wave:
    """Pieces added up at their onsets."""
    starts = [int(onset * sr) for onset in onsets_s]
    wave = np.zeros(max(s + len(p) for s, p in zip(starts, pieces, strict=True)), np.float32)
    for start, piece in zip(starts, pieces, strict=True):
        wave[start : start + len(piece)] += piece
    return wave


def spaced(count: int, gap_s: float, spread: float, rng: np.random.Generator) -> list[float]:
    """`count` onsets about `gap_s` apart (log-normal spread), the first at 0."""
    return [0.0, *np.cumsum(gap_s * np.exp(spread * rng.standard_normal(count - 1)))] if count > 1 else [0.0]
