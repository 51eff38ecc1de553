"""The batches of an epoch: which rows, in which order, and how they are changed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from audiotk import augment
from audiotk.models.base import Change
from audiotk.models.predict import Waves, prefetch
from audiotk.tables import Labels
from audiotk.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def steps(config: TrainConfig, n: int) -> int:
    """Batches an epoch."""
    return -(-(config.epoch_size or n) // config.batch_size)


def order_of(config: TrainConfig, n: int, weights: np.ndarray | None, epoch: int) -> np.ndarray:
    """Rows of an epoch in their order: each as often as the others (+- 1), or drawn by `weights`."""
    rng, size = np.random.default_rng([config.seed, epoch]), config.epoch_size or n
    if weights is not None:
        return rng.choice(n, size=size, p=weights / weights.sum())
    return np.concatenate([rng.permutation(n) for _ in range(-(-size // n))])[:size]


def make_sequences(config: TrainConfig, waves: Waves, labels: Labels) -> augment.Sequences | None:
    """What makes the training sequences, if the config says so."""
    if config.sequences is None:
        return None
    return augment.Sequences(
        waves, labels.dense(), augment.Recipe.of(config.sequences), sr=config.sr,
        samples=round(config.clip_s * config.sr), mix=config.mix, max_sources=config.max_sources,
        seed=config.seed, workers=config.workers,
    )  # fmt: skip


def batches(
    config: TrainConfig,
    waves: Waves,
    targets: np.ndarray,
    order: np.ndarray,
    epoch: int,
    fabric: Fabric,
    sequences: augment.Sequences | None,
    backgrounds: np.ndarray | None,
    events: np.ndarray | None = None,
) -> Iterator[tuple[Tensor, Tensor, Change | None]]:
    """This process's share of an epoch: wave (B, samples), target (B, C), change of the spectrogram.

    Order and augmentation depend on seed, epoch, batch and process alone, so an epoch can be repeated exactly.
    """
    parts = np.array_split(np.arange(len(order)), steps(config, len(waves)))
    places = [part[fabric.global_rank :: fabric.world_size] for part in parts]
    blocks = [order[part] for part in places]
    read: Iterator[tuple[Any, Any]] = (
        zip(prefetch(waves, blocks), (targets[rows] for rows in blocks), strict=True)
        if sequences is None
        else sequences.batches(epoch, order, places)
    )
    for place, (array, known) in enumerate(read):
        rng = np.random.default_rng([config.seed, epoch, place, fabric.global_rank])
        wave, target = (
            torch.as_tensor(array, device=fabric.device),
            torch.as_tensor(known, device=fabric.device),
        )
        if config.roll:
            wave = augment.roll(wave, rng)
        if sequences is None:
            wave, target = augment.mix(wave, target, config.mix, rng, max_sources=config.max_sources)
        if config.gain_db:
            wave = wave * augment.decibels((len(wave), 1), config.gain_db, rng).to(wave.device)
        if config.noise_snr_db:
            wave = augment.add_noise(wave, config.noise_snr_db, rng)
        if config.dropout_share:
            wave = augment.dropouts(wave, config.dropout_share, rng)
        if config.background_share and backgrounds is not None:
            wave, target = augment.background_only(wave, target, backgrounds, config.background_share, rng, events)
        hide = partial(augment.mask_spectrogram, masks=config.masks, share=config.mask_share, rng=rng)
        yield wave, target, hide if config.masks else None
