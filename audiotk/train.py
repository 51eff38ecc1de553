"""Train a model on waveforms and tri-state labels: one loop, the best epoch by validation mAP, exact resume.

The same loop runs on a CPU, a GPU, or many by ``torchrun`` (Lightning Fabric). A run is a folder:
``config.json``, ``history.jsonl`` (one line an epoch), ``best.pt`` (a checkpoint that explains itself) and ``last.pt``
(what resuming needs). Calling :func:`train` again with the same arguments continues a killed run, or returns a
finished one without training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from audiotk import augment, losses, metrics, models
from audiotk.files import atomic
from audiotk.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from audiotk.models.predict import Waves, predict_logits, prefetch, score
from audiotk.tables import AudiotkError, Labels


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
    mix: str = "none"  # none, vanilla, join (P1)
    max_sources: int = 2  # P1: I_max = 2 is best
    masks: int = 0  # stripes a direction on the spectrogram (SpecAugment)
    mask_share: float = 0.15
    seed: int = 0
    precision: str = "32-true"  # Fabric's names: 32-true, bf16-mixed, ...

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


@dataclass(frozen=True)
class Run:
    """A finished training run in its folder."""

    folder: Path
    config: TrainConfig
    history: pd.DataFrame  # epoch, loss, val_map, lr
    best_epoch: int

    def checkpoint(self, device: str = "cpu") -> Checkpoint:
        """The model of the best epoch."""
        return load_checkpoint(self.folder / "best.pt", device)

    def score(self, waves: Waves, segments: Any) -> pd.DataFrame:
        """Scores of the best epoch's model, see :func:`audiotk.models.predict.score`."""
        return score(self.checkpoint("cuda" if torch.cuda.is_available() else "cpu"), waves, segments)


def train(
    config: TrainConfig,
    waves: Waves,
    labels: Labels,
    val_waves: Waves,
    val_labels: Labels,
    out: str | Path,
    *,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> Run:
    """Train `config.model` and keep the epoch with the best validation mAP (the later one if equal).

    Parameters
    ----------
    config
        Every choice of the run.
    waves, val_waves
        Waveforms (n, samples), float32, full scale 1, at ``config.sr``; row i belongs to row i of the labels.
    labels, val_labels
        Tri-state labels; unknown cells take no part in the loss or in the metric.
    out
        Run folder. A killed run in it is continued from its last whole epoch and ends with the same weights as an
        uninterrupted one; a finished run is returned as it is.
    fabric
        Lightning Fabric of your own; default: :func:`make_fabric`.
    progress
        Show a progress bar on standard error.

    Returns
    -------
    Run

    Raises
    ------
    AudiotkError
        Rows or classes of waves and labels do not match, nothing can be validated, the loss is not finite, or `out`
        holds a run of other settings or other data.
    """
    _check_data(waves, labels, val_waves, val_labels)
    fabric = fabric or make_fabric(config.precision)
    fabric.launch()
    out = Path(out)
    stamp = _fingerprint(config, waves, labels, val_labels)
    model = models.build(
        config.model, len(labels.classes), sr=config.sr, clip_s=config.clip_s,
        rng=np.random.default_rng(config.seed), **config.model_options,
    )  # fmt: skip
    state = _TrainState(model, config, steps=_steps(config, len(waves)))
    wrapped, optimizer = fabric.setup(model, state.optimizer)
    history = state.resume(out, stamp, fabric.device)
    targets = labels.dense()  # (n, C)
    bar = tqdm(
        initial=len(history), total=config.epochs, desc=f"train {out.name}", disable=not progress, file=sys.stderr
    )
    for epoch in range(len(history), config.epochs):
        if _waited(history) >= (config.stop_after or np.inf):
            break
        total, count = 0.0, 0
        for wave, target, change in _batches(config, waves, targets, epoch, fabric):
            loss = state.loss(wrapped(wave, change), target)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            state.after_step()
            total, count = total + float(loss.detach()) * len(wave), count + len(wave)
        if not np.isfinite(total):
            raise AudiotkError(f"{out}: the loss is {total} in epoch {epoch}; lower the learning rate ({config.lr})")
        logits = _gather_logits(state.kept, val_waves, config.batch_size, fabric)
        val_map = metrics.mean_average_precision(_frame(logits, val_labels), val_labels)
        history.append({"epoch": epoch, "loss": total / count, "val_map": val_map, "lr": state.lr})
        state.after_epoch(val_map)
        if fabric.is_global_zero:
            if _waited(history) == 0:
                about = {"epoch": epoch, "val_map": val_map}
                save_checkpoint(out / "best.pt", state.kept, list(labels.classes), config, about)
            state.save(out, stamp, history)
        bar.update()
        bar.set_postfix(loss=f"{total / count:.4f}", val_mAP=f"{val_map:.3f}")
    bar.close()
    fabric.barrier()
    table = pd.DataFrame(history)
    return Run(out, config, table, best_epoch=len(history) - 1 - _waited(history))


def make_fabric(precision: str = "32-true") -> Fabric:
    """Fabric for where we are: the processes that ``torchrun`` started, else one, on a GPU if there is one."""
    local, world = int(os.environ.get("LOCAL_WORLD_SIZE", 0)), int(os.environ.get("WORLD_SIZE", 0))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    nodes = world // local if local else 1
    return Fabric(accelerator=accelerator, devices=local or 1, num_nodes=nodes, precision=precision)  # type: ignore[arg-type]


class _TrainState:
    """What changes during training: weights, optimiser, schedule, running average; saved after each epoch."""

    def __init__(self, model: models.WaveformModel, config: TrainConfig, steps: int) -> None:
        self.model, self.config = model, config
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), config.lr)
        if config.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
        self.average: AveragedModel | None = None
        self.schedule: Any = None
        if config.average:
            blend = get_ema_multi_avg_fn(config.average)
            self.average = AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
        if config.schedule == "one_cycle":
            self.schedule = schedules.OneCycleLR(self.optimizer, config.lr, total_steps=config.epochs * steps + 1)
        elif config.schedule == "exponential":
            self.schedule = schedules.ExponentialLR(self.optimizer, config.gamma)
        elif config.schedule == "plateau":
            self.schedule = schedules.ReduceLROnPlateau(self.optimizer, "max", 0.5, config.plateau_epochs - 1, 0)

    @property
    def kept(self) -> models.WaveformModel:
        """The model that is evaluated and saved."""
        return self.model if self.average is None else cast(models.WaveformModel, self.average.module)

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        function = losses.masked_bce if self.config.loss == "bce" else losses.masked_mse
        return function(logits, target, denominator=self.config.denominator)

    def after_step(self) -> None:
        if self.config.schedule == "one_cycle":
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def after_epoch(self, val_map: float) -> None:
        if self.config.schedule == "plateau":
            self.schedule.step(val_map)
        elif self.config.schedule == "exponential":
            self.schedule.step()

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "average": self.average}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, out: Path, stamp: str, history: list[dict[str, Any]]) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        with atomic(out / "last.pt") as draft:
            torch.save({"stamp": stamp, "history": history, "state": state}, draft)
        with atomic(out / "history.jsonl") as draft:
            draft.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf8")

    def resume(self, out: Path, stamp: str, device: torch.device) -> list[dict[str, Any]]:
        """The epochs done so far, none for a new folder; the state is put back to the end of the last one."""
        if self.average is not None:
            self.average.to(device)
        last = out / "last.pt"
        if not last.exists():
            about = json.dumps(dataclasses.asdict(self.config), indent=2)
            with atomic(out / "config.json") as draft:
                draft.write_text(about + "\n", encoding="utf8")
            return []
        saved = torch.load(last, map_location=device, weights_only=True)
        if saved["stamp"] != stamp:
            raise AudiotkError(
                f"{out}: holds a run of other settings or other data; choose another folder or delete it"
            )
        for name, part in self._parts().items():
            part.load_state_dict(saved["state"][name])
        return list(saved["history"])


def _waited(history: list[dict[str, Any]]) -> int:
    """Epochs since the best validation mAP, the later of equal ones being the best."""
    values = [row["val_map"] for row in history]
    return values[::-1].index(max(values)) if values else 0


def _steps(config: TrainConfig, n: int) -> int:
    """Batches an epoch."""
    return -(-(config.epoch_size or n) // config.batch_size)


def _batches(
    config: TrainConfig, waves: Waves, targets: np.ndarray, epoch: int, fabric: Fabric
) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor] | None]]:
    """This process's share of an epoch: wave (B, samples), target (B, C), change of the spectrogram.

    Order and augmentation depend on seed, epoch, batch and process alone, so an epoch can be repeated exactly.
    """
    rng = np.random.default_rng([config.seed, epoch])
    size = config.epoch_size or len(waves)
    rounds = -(-size // len(waves))
    order = np.concatenate([rng.permutation(len(waves)) for _ in range(rounds)])[:size]
    blocks = [
        block[fabric.global_rank :: fabric.world_size] for block in np.array_split(order, _steps(config, len(waves)))
    ]
    for place, (rows, array) in enumerate(zip(blocks, prefetch(waves, blocks), strict=True)):
        rng = np.random.default_rng([config.seed, epoch, place, fabric.global_rank])
        wave, target = (
            torch.as_tensor(array, device=fabric.device),
            torch.as_tensor(targets[rows], device=fabric.device),
        )
        if config.roll:
            wave = augment.roll(wave, rng)
        wave, target = augment.mix(wave, target, config.mix, rng, max_sources=config.max_sources)
        if config.gain_db:
            wave = wave * augment.decibels((len(wave), 1), config.gain_db, rng).to(wave.device)
        if config.noise_snr_db:
            wave = augment.add_noise(wave, config.noise_snr_db, rng)
        hide = partial(augment.mask_spectrogram, masks=config.masks, share=config.mask_share, rng=rng)
        yield wave, target, hide if config.masks else None


def _gather_logits(model: nn.Module, waves: Waves, batch_size: int, fabric: Fabric) -> np.ndarray:
    """Logits (n, C) of all rows on every process, each computing its share with the first one's batch statistics."""
    if fabric.world_size == 1:
        return predict_logits(model, waves, batch_size)
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)
    share = -(-len(waves) // fabric.world_size)
    rows = np.arange(share) * fabric.world_size + fabric.global_rank
    local = predict_logits(model, waves, batch_size, np.minimum(rows, len(waves) - 1))  # (share, C)
    gathered = cast(Tensor, fabric.all_gather(torch.as_tensor(local, device=fabric.device)))  # (world, share, C)
    return gathered.transpose(0, 1).reshape(-1, local.shape[1])[: len(waves)].cpu().numpy()


def _frame(logits: np.ndarray, labels: Labels) -> pd.DataFrame:
    return pd.DataFrame(logits.astype(np.float64), index=labels.segments, columns=labels.classes)


def _check_data(waves: Waves, labels: Labels, val_waves: Waves, val_labels: Labels) -> None:
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


def _fingerprint(config: TrainConfig, waves: Waves, labels: Labels, val_labels: Labels) -> str:
    """Digest of what a run depends on: settings, ids, labels, and a sample of the sound."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    for part in (labels, val_labels):
        digest.update("\n".join([*part.segments, *part.classes]).encode())
        for array in (part.cells.indptr, part.cells.indices, part.cells.data):
            digest.update(array.tobytes())
    some = np.unique(np.linspace(0, len(waves) - 1, 16).astype(int))
    digest.update(np.ascontiguousarray(waves[some], dtype=np.float32).tobytes())
    return digest.hexdigest()
