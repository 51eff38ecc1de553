"""Everything that decides a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiotk import augment, models
from audiotk.errors import AudiotkError


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, stored with it. The defaults are the recipe for small data sets."""

    model: str = "melcnn"  # models.MODELS
    model_options: Mapping[str, Any] = field(default_factory=dict)
    sr: int = 16000  # Hz; P1 16000, P2 8000
    clip_s: float = 10.0  # P1, P2: 10
    epochs: int = 80  # our choice; P2: 100
    epoch_size: int | None = None  # segments drawn an epoch, None = each once; P1: 10,000
    batch_size: int = 32  # our choice; P2: 24
    optimizer: str = "adamw"  # P1 adamw, P2 adam
    lr: float = 2e-3  # our choice with one_cycle; P1 1e-4, P2 1e-3
    weight_decay: float = 1e-2  # torch's default for adamw; not used by adam
    schedule: str = "one_cycle"  # one_cycle, plateau (P1), exponential (P2), constant
    plateau_epochs: int = 150  # P1: lr halved after 150 epochs without a better validation AP
    gamma: float = 0.987  # P2: lr times 0.987 an epoch
    loss: str = "bce"  # bce (P1), mse (P2)
    denominator: str = "all"  # all cells (P1 and P2's "zero weight") or valid ones
    stop_after: int | None = None  # end after so many epochs without a better validation mAP
    average: float = 0.0  # decay of the running average of the weights that is evaluated and kept; 0 = none
    roll: bool = False  # roll in time
    gain_db: float = 0.0  # standard deviation of a random level; P1: 2
    noise_snr_db: tuple[float, float] | None = None
    dropout_share: float = 0.0  # of the segments have a dropout; audiotk.augment.quiet
    background_share: float = 0.0  # of the segments are background alone, all classes absent; needs `backgrounds`
    energy_penalty: float = 0.0  # weight of losses.energy_penalty, on frames below quiet_dbfs
    quiet_dbfs: float = -55.0
    mix: str = "none"  # none, vanilla, join (P1)
    max_sources: int = 2  # P1: I_max = 2 is best
    sequences: Mapping[str, Any] | None = None  # options of augment.Recipe: each sequence made by P1's Algorithm 1
    workers: int = 0  # processes that make sequences; no number depends on it
    masks: int = 0  # stripes a direction on the spectrogram (SpecAugment)
    mask_share: float = 0.15
    seed: int = 0
    precision: str = "auto"  # bf16-mixed if all GPUs here can, else 32-true; or Fabric's names of these and others

    def __post_init__(self) -> None:
        known = {
            "model": tuple(models.MODELS),
            "optimizer": ("adamw", "adam"),
            "schedule": ("one_cycle", "plateau", "exponential", "constant"),
            "loss": ("bce", "mse"),
            "mix": augment.MIXES,
        }
        for name, options in known.items():
            if getattr(self, name) not in options:
                raise AudiotkError(f"TrainConfig: {name} is one of {options}, got {getattr(self, name)!r}")
        if self.masks and self.model == "rawcnn":
            raise AudiotkError("TrainConfig: masks hide stripes of a spectrogram, and rawcnn has none; set masks=0")
        for name in ("epochs", "batch_size", "lr", "clip_s", "sr", "plateau_epochs"):
            if not getattr(self, name) > 0:
                raise AudiotkError(f"TrainConfig: expected {name} > 0, got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """A config from plain values, for example from JSON; an unknown key is an error."""
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise AudiotkError(f"TrainConfig: unknown keys {unknown}; known are {sorted(known)}")
        values = dict(values)
        if values.get("noise_snr_db") is not None:
            values["noise_snr_db"] = tuple(values["noise_snr_db"])
        return cls(**values)
