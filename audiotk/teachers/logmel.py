"""Log-mel statistics: a space of 384 numbers that needs no weights, no download and no torch. It is not CLAP.

It knows how the energy of a sound lies over frequency and how it moves, and nothing of what sounds mean: there is no
text side, so that classes come from examples (`audiotk.teachers.examples`).
"""

from __future__ import annotations

import hashlib

import librosa
import numpy as np
from scipy import fft, sparse

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher, checked_waves, unit

__all__ = ["LogMelStatistics"]

MELS, FRAME_S, HOP_S, FLOOR = 64, 0.064, 0.02, 1e-10  # as audiotk.features.LogMel
STATISTICS = ("mean", "std", "p10", "median", "p90", "movement")
DIM = MELS * len(STATISTICS)
VERSION = 1  # raised when the same sound gives other numbers
LEAST_SPREAD = 1e-3  # of a number that hardly varies among the examples, so that it is not blown up
SHRINK = 0.5  # of the covariance towards a multiple of the identity: chosen on embedded data, with 5 to 20 examples


class LogMelStatistics(Teacher):
    """Six statistics over time of each of 64 log-mel bands, standardised by examples.

    Bands: power spectrum of 64 ms Hann frames every 20 ms (no padding), Slaney mel filters from 0 Hz to half the
    sampling rate, natural logarithm with floor 1e-10. Statistics over the frames: mean, standard deviation, 10th
    percentile, median, 90th percentile, and mean absolute step from one frame to the next ("movement").

    An embedding is (statistics - center) / spread, times `whiten`, scaled to norm 1. These three come from examples,
    see :meth:`standardised`. Each window is computed by itself, so batches change nothing.

    Parameters
    ----------
    sr
        Sampling rate in Hz, at least 8000 (below, the lowest bands would be empty).
    window_s
        Length of a window in seconds.
    center, spread, whiten
        What the statistics are standardised by [shapes=(384,), (384,), (384, 384)]. Without them there are
        :meth:`statistics`, but no embeddings.

    Raises
    ------
    AudiotkError
        Settings out of range, or arrays that are not all given, not finite or of another shape.
    """

    name = "logmel"
    dim = DIM

    def __init__(
        self,
        sr: int = 16000,
        window_s: float = 1.0,
        center: np.ndarray | None = None,
        spread: np.ndarray | None = None,
        whiten: np.ndarray | None = None,
    ) -> None:
        self.sr, self.window_s = int(sr), float(window_s)
        if self.sr < 8000 or not 2 * FRAME_S <= self.window_s <= 1e8 / self.sr:
            raise AudiotkError(
                f"logmel: expected sr >= 8000 Hz and windows of {2 * FRAME_S} s to 1e8 samples, "
                f"got sr={sr}, window_s={window_s}"
            )
        given = {"center": center, "spread": spread, "whiten": whiten}
        if len(lacking := [name for name, part in given.items() if part is None]) in (1, 2):
            raise AudiotkError(f"logmel: expected center, spread and whiten or none of them, got no {lacking[0]}")
        self.parts = {} if lacking else {name: _numbers(part, name) for name, part in given.items()}
        if self.parts and not (self.parts["spread"] > 0).all():
            raise AudiotkError("logmel: expected a spread above 0 in each of the numbers")
        n_fft = 2 * round(FRAME_S / 2 * self.sr)
        self._hop = round(HOP_S * self.sr)
        self._taper = np.hanning(n_fft + 1)[:-1].astype(np.float32)  # (n_fft,), periodic
        filters = librosa.filters.mel(sr=self.sr, n_fft=n_fft, n_mels=MELS, dtype=np.float32)
        self._filters = sparse.csr_array(filters)  # (mels, n_fft / 2 + 1): no BLAS, so the same bits everywhere
        self.checksum = self._digest()

    def statistics(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples)] -> the 384 numbers as they are [shape=(n, 384), float64]."""
        waves = checked_waves(self, waves)
        return np.stack([self._describe(wave) for wave in waves]) if len(waves) else np.zeros((0, DIM))

    def standardised(self, statistics: np.ndarray, groups: np.ndarray) -> LogMelStatistics:
        """This space, standardised by the statistics of some windows.

        `center` and `spread` are their mean and standard deviation; `whiten` is the inverse square root of the
        covariance within groups (shrunk half way to a multiple of the identity): directions in which windows of one
        class differ among each other count less (Fisher's linear discriminant).

        Parameters
        ----------
        statistics
            As :meth:`statistics` gives them [shape=(n, 384)].
        groups
            What each of them is an example of, any numbers [shape=(n,)].

        Raises
        ------
        AudiotkError
            No window, or not as many groups.
        """
        statistics, groups = np.asarray(statistics, np.float64), np.asarray(groups)
        if statistics.ndim != 2 or not len(statistics) or groups.shape != statistics.shape[:1]:
            raise AudiotkError(
                f"logmel: expected statistics of some windows and the group of each, got shapes {statistics.shape} "
                f"and {groups.shape}"
            )
        center, spread = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), LEAST_SPREAD)
        standard = (statistics - center) / spread  # (n, 384)
        within = np.concatenate([standard[groups == g] - standard[groups == g].mean(axis=0) for g in np.unique(groups)])
        covariance = within.T @ within / len(within)  # (384, 384)
        level = max(np.trace(covariance) / DIM, LEAST_SPREAD)  # all zero where each group is one window
        values, vectors = np.linalg.eigh((1 - SHRINK) * covariance + SHRINK * level * np.eye(DIM))
        whiten = (vectors / np.sqrt(values)) @ vectors.T
        return LogMelStatistics(self.sr, self.window_s, center, spread, whiten.astype(np.float32))

    def place(self, statistics: np.ndarray) -> np.ndarray:
        """:meth:`statistics` [shape=(n, 384)] -> embeddings of unit norm [shape=(n, 384), float32]."""
        if not self.parts:
            raise AudiotkError(
                "logmel: has nothing to standardise by; audiotk.teachers.examples.Examples.fit finds it from examples"
            )
        standard = (statistics - self.parts["center"]) / self.parts["spread"]
        return unit(standard @ self.parts["whiten"]).astype(np.float32)

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> embeddings of unit norm [shape=(n, 384), float32]."""
        return self.place(self.statistics(waves))

    def _describe(self, wave: np.ndarray) -> np.ndarray:
        """One window [shape=(samples,)] -> [shape=(384,), float64], statistic by statistic."""
        frames = np.lib.stride_tricks.sliding_window_view(wave, len(self._taper))[:: self._hop]  # (T, n_fft)
        spectrum = fft.rfft(frames * self._taper, axis=1)  # (T, n_fft / 2 + 1)
        power = spectrum.real**2 + spectrum.imag**2
        mel = np.log(np.maximum(self._filters @ power.T, FLOOR)).astype(np.float64)  # (mels, T)
        movement = np.abs(np.diff(mel, axis=1)).mean(axis=1)
        ordered = np.sort(mel, axis=1)
        low, median, high = (_quantile(ordered, q) for q in (0.1, 0.5, 0.9))  # (mels,) each
        return np.concatenate([mel.mean(axis=1), mel.std(axis=1), low, median, high, movement])

    def _digest(self) -> str:
        """SHA-256 of the definition and of what the numbers are standardised by, in hex."""
        settings = (VERSION, self.sr, self.window_s, MELS, FRAME_S, HOP_S, FLOOR, STATISTICS)
        digest = hashlib.sha256(repr(settings).encode())
        for name, part in self.parts.items():
            digest.update(name.encode() + part.tobytes())
        return digest.hexdigest()


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """`q` quantile of each sorted row, between the two nearest values linearly (as np.quantile, much quicker)."""
    at = q * (ordered.shape[1] - 1)
    low = int(at)
    high = min(low + 1, ordered.shape[1] - 1)
    return ordered[:, low] + (at - low) * (ordered[:, high] - ordered[:, low])


def _numbers(values: np.ndarray | None, what: str) -> np.ndarray:
    """`values` as they are, finite and of the shape of `what`; `whiten` as float32, the others as float64."""
    shape, dtype = ((DIM, DIM), np.float32) if what == "whiten" else ((DIM,), np.float64)
    found = np.asarray(values)
    if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise AudiotkError(f"logmel: expected {what} as finite numbers of shape {shape}, got shape {found.shape}")
    return np.ascontiguousarray(found, dtype)
