"""What it costs a teacher to hear, for notebook 07: how large it is, and how fast on this machine."""

from __future__ import annotations

import time

import numpy as np
from torch import nn

from audiotk.models.base import macs_while
from audiotk.teachers import Teacher
from audiotk.teachers.yamnet import Yamnet


def hop_s(teacher: Teacher) -> float:
    """Distance of the windows in which it hears: they overlap by half, unless embeddings are summed up."""
    return teacher.window_s / (1 if teacher.adds_up == "embedding" else 2)


def speed(teacher: Teacher, windows: int = 16) -> float:
    """Seconds of sound per second, measured now: each window brings :func:`hop_s` of new sound."""
    waves = _noise(teacher, windows)
    teacher.hear(waves[:1])  # warms up
    start = time.perf_counter()
    for first in range(0, windows, 8):
        teacher.hear(waves[first : first + 8])
    return windows * hop_s(teacher) / (time.perf_counter() - start)


def parameters(teacher: Teacher) -> float:
    """Number of weights that hear: of its torch modules, or as YAMNet's file says (`Yamnet.size`); NaN otherwise."""
    if isinstance(teacher, Yamnet):
        return float(teacher.size()[0] or np.nan)
    own = {id(p): p.numel() for part in _modules(teacher) for p in part.parameters()}
    return float(sum(own.values())) if own else np.nan


def macs(teacher: Teacher) -> float:
    """Multiply-accumulates of convolutions and dense layers for one window; NaN where :func:`parameters` is.

    Products of attention with itself are not counted, nor YAMNet's Fourier transform and mel filters.
    """
    if isinstance(teacher, Yamnet):
        return float(teacher.size()[1] or np.nan)
    modules = nn.ModuleList(_modules(teacher))
    counted = macs_while(modules, lambda: teacher.hear(_noise(teacher, 1)))
    return float(sum(counted.values())) if len(modules) else np.nan


def _modules(teacher: Teacher) -> list[nn.Module]:
    held = [getattr(part, "model", part) for part in vars(teacher).values()]
    return [part for part in held if isinstance(part, nn.Module)]


def _noise(teacher: Teacher, windows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (windows, teacher.samples)).astype(np.float32)
