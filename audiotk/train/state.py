"""What changes during training: weights, optimiser, schedule, running average; saved after each epoch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from audiotk import losses, models
from audiotk.errors import AudiotkError
from audiotk.files import atomic
from audiotk.models.base import Change
from audiotk.train.config import TrainConfig

CONCEPT = "neg_"  # classes of this prefix are explicit negatives: silence, ambience, what was mistaken


class TrainState:
    """What changes during training: weights, optimiser, schedule, running average; saved after each epoch."""

    def __init__(self, model: models.WaveformModel, config: TrainConfig, steps: int, classes: pd.Index) -> None:
        self.model, self.config = model, config
        self.events = np.flatnonzero([not str(name).startswith(CONCEPT) for name in classes])
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), config.lr, fused=True)
        if config.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(
                model.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
            )
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

    def loss(self, model: Any, wave: Tensor, target: Tensor, change: Change | None) -> Tensor:
        function = losses.masked_bce if self.config.loss == "bce" else losses.masked_mse
        if not self.config.energy_penalty:
            return function(model(wave, change), target, denominator=self.config.denominator)
        logits, frames = model(wave, change, frames=True)
        quiet = losses.energy_penalty(frames[..., self.events], self.model.frame_levels(wave), self.config.quiet_dbfs)
        return function(logits, target, denominator=self.config.denominator) + self.config.energy_penalty * quiet

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


def begun_in(out: Path) -> str | None:
    """The precision of the run in a folder, None where no epoch is done."""
    about = out / "config.json"
    if not (out / "last.pt").exists() or not about.exists():
        return None
    known: str | None = json.loads(about.read_text("utf8")).get("precision")
    return known
