"""What trainings cost on this machine, measured with a few steps on noise in the sizes of the training itself.

Not counted: reading and scoring of recordings, statistics and figures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from audiotk import models
from audiotk.files import cores
from audiotk.tables import Labels
from audiotk.train import TrainConfig, automatic_precision, make_fabric
from audiotk.train.batches import batches, make_sequences
from audiotk.train.state import TrainState

FEW = 2  # sequences of a step of a large network that is timed on a CPU
STEPS = 4  # that are timed, the first of which does not count


@dataclass(frozen=True)
class Stage:
    """Trainings of one kind: `runs` of them, each with `config` on `rows` segments of `classes` classes."""

    what: str
    runs: int
    config: TrainConfig
    rows: int
    classes: int

    @property
    def sequences(self) -> int:
        """Sequences that all runs together hear in training, if none stops early."""
        return self.runs * self.config.epochs * (self.config.epoch_size or self.rows)


def costs(stages: list[Stage]) -> pd.DataFrame:
    """What the stages cost here.

    Returns
    -------
    pandas.DataFrame
        what, model, runs, epochs, sequences (all together), seconds (of sound, each), petamacs (10^15
        multiply-accumulates of the networks, three times the forward pass), hours (of this machine, one training
        after the other), disk_gb (checkpoints).
    """
    speeds: dict[str, float] = {}
    rows = []
    for stage in stages:
        config = stage.config
        key = repr(replace(config, epochs=1, epoch_size=None, seed=0))
        if key not in speeds:
            speeds[key] = seconds_a_sequence(config, stage.classes)
        net = _net(config, stage.classes)
        size = models.count_parameters(net) * 4 / 1e9
        kept = 4 + bool(config.average)  # best; weights, two moments (and the average) of the last
        rows.append({
            "what": stage.what, "model": config.model, "runs": stage.runs, "epochs": config.epochs,
            "sequences": stage.sequences, "seconds": config.clip_s,
            "petamacs": 3 * models.count_macs(net) * stage.sequences / 1e15,
            "hours": stage.sequences * speeds[key] / 3600, "disk_gb": stage.runs * kept * size,
        })  # fmt: skip
    return pd.DataFrame(rows)


def seconds_a_sequence(config: TrainConfig, classes: int) -> float:
    """Seconds that a training sequence takes on this machine: the quickest of a few steps on noise, as `train` does."""
    on_gpu = torch.cuda.is_available()
    few = config.batch_size if on_gpu or config.model == "melcnn" else min(FEW, config.batch_size)
    rng = np.random.default_rng(0)
    waves = rng.normal(0.0, 0.05, (few * STEPS, round(config.clip_s * config.sr))).astype(np.float32)
    table = pd.DataFrame(rng.integers(0, 2, (len(waves), classes)).astype(float)).rename(index=str, columns=str)
    labels = Labels.from_frame(table)
    config = replace(config, batch_size=few, epoch_size=None, workers=config.workers if on_gpu else 0)
    fabric = make_fabric(config.precision)
    state = TrainState(_net(config, classes), config, STEPS, labels.classes)
    model, optimizer = fabric.setup(state.model, state.optimizer)
    sequences, order = make_sequences(config, waves, labels), np.arange(len(waves))
    took, begin = [], time.perf_counter()
    for wave, target, change in batches(config, waves, labels.dense(), order, 0, fabric, sequences, waves[:1]):
        loss = state.loss(model, wave, target, change)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        float(loss.detach())  # a GPU has to be done with it
        took.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return min(took[1:]) / few


def machine() -> str:
    """What the costs are those of."""
    if not torch.cuda.is_available():
        return f"{cores()} processor cores, no GPU"
    return f"one GPU ({torch.cuda.get_device_name()}, {automatic_precision()}) of {torch.cuda.device_count()}"


def _net(config: TrainConfig, classes: int) -> models.WaveformModel:
    rng = np.random.default_rng(0)
    return models.build(config.model, classes, sr=config.sr, clip_s=config.clip_s, rng=rng, **config.model_options)
