"""A quick, deterministic teacher for tests of scoring; it can be slow, count what it hears, and be loaded by name."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from audiotk.teachers.base import Teacher, unit


class Toy(Teacher):
    """Energy in 16 bands of a window of half a second at 8 kHz; texts are hashed to directions."""

    name, sr, window_s, dim, logit_scale = "toy", 8000, 0.5, 16, 20.0

    def __init__(self, weights: str = "a", slow_s: float = 0.0, log: str = "", nan_above: float = np.inf) -> None:
        self.checksum, self.slow_s, self.log, self.nan_above = weights, slow_s, log, nan_above

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        time.sleep(self.slow_s * len(waves))
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{os.getpid()} {len(waves)}\n")
        spectrum = np.abs(np.fft.rfft(waves.astype(np.float64), axis=1))[:, 1:]  # (n, 2000)
        bands = spectrum.reshape(len(waves), 16, -1).mean(axis=2) + 1e-9  # (n, 16)
        vectors = unit(bands).astype(np.float32)
        vectors[np.abs(waves).max(axis=1) > self.nan_above] = np.nan
        return vectors

    def embed_text(self, texts: list[str]) -> np.ndarray:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        return unit(np.stack([np.random.default_rng(seed).random(16) for seed in seeds])).astype(np.float32)


class ToyTagger(Teacher):
    """Three classes of its own: level, and how much of it is low and high."""

    name, sr, window_s, classes, says, checksum = "toy-tagger", 8000, 0.5, ("loud", "low", "high"), "sigmoid", "t"

    def own_scores(self, waves: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(waves.astype(np.float64), axis=1)) ** 2
        total = power.sum(axis=1) + 1e-12
        low = power[:, : power.shape[1] // 4].sum(axis=1) / total
        return np.stack([np.tanh(total / 1e4), low, 1 - low], axis=1).astype(np.float32)


def heard_windows(log: Path) -> int:
    """How many windows a teacher with this log was asked about."""
    return sum(int(line.split()[1]) for line in log.read_text().splitlines()) if log.exists() else 0
