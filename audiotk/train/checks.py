"""What training refuses, and the digest by which a run knows its own data again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import torch

from audiotk import models
from audiotk.models.predict import Waves
from audiotk.tables import AudiotkError, Labels
from audiotk.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def check_data(waves: Waves, labels: Labels, val_waves: Waves, val_labels: Labels) -> None:
    for noun, array, rows in (("training", waves, labels), ("validation", val_waves, val_labels)):
        if len(array) != len(rows.segments) or not len(array):
            raise AudiotkError(
                f"train: expected as many {noun} waveforms as labelled segments and more than none, "
                f"got {len(array)} and {len(rows.segments)}"
            )
    if not labels.classes.equals(val_labels.classes):
        raise AudiotkError(
            f"train: classes {list(labels.classes)} and validation classes {list(val_labels.classes)} differ"
        )
    counts = val_labels.counts()
    if not ((counts["present"] > 0) & (counts["absent"] > 0)).any():
        raise AudiotkError("train: no class has both a present and an absent segment in the validation labels")
    if shared := set(labels.segments) & set(val_labels.segments):
        raise AudiotkError(f"train: {len(shared)} segments are in training and validation, first {min(shared)!r}")


def check_fabric(fabric: Fabric) -> None:
    """Refuse mixed precision that rounds the waves before the front end: same name, other features."""
    plugin = fabric.strategy.precision
    heard = plugin.convert_input(torch.zeros(1)).dtype
    if str(plugin.precision).endswith("-mixed") and heard != torch.float32:
        raise AudiotkError(
            f"train: this Fabric rounds waves to {heard} before the model computes its features in float32; use "
            f'audiotk.train.make_fabric("{plugin.precision}"), or its plugin in yours: '
            f'Fabric(plugins=make_fabric("{plugin.precision}").strategy.precision)'
        )


def checked_weights(
    config: TrainConfig, waves: Waves, weights: np.ndarray | None, backgrounds: np.ndarray | None
) -> np.ndarray | None:
    if config.background_share and backgrounds is None:
        raise AudiotkError("train: background_share > 0 needs backgrounds: sound without any event, (m, samples)")
    if backgrounds is not None and (len(backgrounds) == 0 or backgrounds.shape[1:] != waves[np.arange(1)].shape[1:]):
        raise AudiotkError(
            f"train: expected backgrounds of shape (m, {waves[np.arange(1)].shape[1]}), got {backgrounds.shape}"
        )
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(waves),) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise AudiotkError(f"train: expected {len(waves)} weights >= 0, not all 0, got shape {weights.shape}")
    return weights


def fingerprint(
    config: TrainConfig,
    waves: Waves,
    labels: Labels,
    val_labels: Labels,
    weights: np.ndarray | None,
    backgrounds: np.ndarray | None,
    start: models.WaveformModel | None,
    head: bool,
) -> str:
    """Digest of what a run depends on: settings, ids, labels, a sample of the sound, and the weights it begins with."""
    about = {**dataclasses.asdict(config), "workers": 0}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for part in (labels, val_labels):
        digest.update("\n".join([*part.segments, *part.classes]).encode())
        for array in (part.cells.indptr, part.cells.indices, part.cells.data):
            digest.update(array.tobytes())
    some = np.unique(np.linspace(0, len(waves) - 1, 16).astype(int))
    digest.update(np.ascontiguousarray(waves[some], dtype=np.float32).tobytes())
    for array in (weights, backgrounds):
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    for weight in start.state_dict().values() if start is not None else ():
        digest.update(weight.cpu().numpy().tobytes())
    digest.update(b"with its output layer" if head else b"")
    return digest.hexdigest()
