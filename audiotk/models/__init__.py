"""The networks: waveform (B, samples) in, logits (B, n_classes) out, features inside.

>>> model = build("melcnn", 10)
>>> model(torch.zeros(2, 160000)).shape, model.embed(torch.zeros(2, 160000)).shape
(torch.Size([2, 10]), torch.Size([2, 128]))
>>> build("acdnet", 6, **DEMO["acdnet"])  # narrow, 8 kHz, 4 s: effects in minutes on a laptop

`audiotk.models.checkpoints` saves and loads them.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from audiotk.errors import AudiotkError
from audiotk.models.acdnet import ACDnet
from audiotk.models.base import WaveformModel, count_macs, count_parameters, macs_by_layer
from audiotk.models.melcnn import MelCNN
from audiotk.models.rawcnn import RawCNN

__all__ = [
    "DEMO",
    "MODELS",
    "ACDnet",
    "MelCNN",
    "RawCNN",
    "WaveformModel",
    "build",
    "count_macs",
    "count_parameters",
    "macs_by_layer",
]

MODELS: dict[str, type[WaveformModel]] = {m.name: m for m in (ACDnet, RawCNN, MelCNN)}

# Arguments of `build` for narrow variants that show label-noise effects in minutes on one thread (4 s)
DEMO: dict[str, dict[str, Any]] = {
    "melcnn": {"sr": 16000, "clip_s": 4.0, "mels": 40, "n_fft": 512, "hop": 256},  # lr 2e-3, 512 segments x 8
    "acdnet": {
        "sr": 8000, "clip_s": 4.0, "n_fft": 256, "hop": 256, "width": 0.25, "first_hidden": 4,
        "frequency_pools": (2, 2, 2, 2, 2, 2, 1),
    },  # lr 6e-3, 512 segments x 24 epochs
    "rawcnn": {
        "sr": 8000, "clip_s": 4.0, "filters": (16, 16, 24, 24, 32, 32, 48, 64),
        "kernels": (17, 16, 15, 14, 13, 12, 9, 5), "dense": (64, 32),
    },  # lr 3e-3, 2048 segments x 8 epochs (512 are too few)
}  # fmt: skip


def build(
    name: str,
    n_classes: int,
    *,
    sr: int = 16000,
    clip_s: float = 10.0,
    rng: np.random.Generator | None = None,
    **options: Any,
) -> WaveformModel:
    """Make a model with fresh weights.

    Parameters
    ----------
    name : {"acdnet", "rawcnn", "melcnn"}
    n_classes : int
        Number of outputs.
    sr : int
        Sampling rate in Hz of the waveforms it will get (P2's RawCNN: 8000).
    clip_s : float
        Duration in seconds it is built for; other durations work, down to the model's `min_samples`.
    rng : np.random.Generator, optional
        Source of the initial weights; torch's global random state is then neither used nor changed. Without it,
        torch's global generator is used.
    **options
        Options of the model, see its class; `model.options` holds all of them.

    Raises
    ------
    AudiotkError
        Unknown name or option (with the known ones), or sizes that do not fit together.
    """
    if name not in MODELS:
        raise AudiotkError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    known = [p for p in inspect.signature(MODELS[name].__init__).parameters if p not in ("self", "n_classes")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AudiotkError(f"{name}: unknown option {', '.join(unknown)}; known: {', '.join(known)}")
    if rng is None:
        return MODELS[name](n_classes, sr=sr, clip_s=clip_s, **options)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(int(rng.integers(2**63)))  # the CPU's, where weights are made
        return MODELS[name](n_classes, sr=sr, clip_s=clip_s, **options)
