"""What an experiment will train, and what that costs on this machine, before it begins.

The numbers of trainings are those of the experiments' own tables of arms; the speed is measured with a few steps on
noise, in the sizes of the training itself. Not counted: reading and scoring of recordings, statistics and figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from audiotk import audio, datasets, mining, models
from audiotk.experiments import (
    MOST_BYTES,
    check_scale,
    clip_or_range,
    ghost_sounds,
    ghosts,
    label_correction,
    label_joining,
    label_segments,
    label_training,
    polyphony,
    quickstart,
    silence_energy,
    transfer,
    zero_shot_students,
)
from audiotk.experiments.hierarchies import Case as Hierarchy
from audiotk.files import cores
from audiotk.shards import stored_bytes
from audiotk.tables import SPLITS, AudiotkError, Dataset, Labels
from audiotk.train import TrainConfig, automatic_precision, make_fabric
from audiotk.train.batches import batches, make_sequences
from audiotk.train.state import TrainState

READ = 2  # recordings of each split that a plan reads
EMBEDDED_S, ESC50_S = 10.0, 5.0
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


@dataclass(frozen=True)
class Plan:
    """What the data are, what will be trained, and how much decoded sound the cache will hold."""

    data: str
    stages: list[Stage]
    sound_gb: float = 0.0


@dataclass(frozen=True)
class _Data:
    """Recordings of each split, their length and classes; `dataset` None: they will be made."""

    told: str
    counts: Mapping[str, int]
    seconds: float
    classes: int
    dataset: Dataset | None

    def windows(self, split: str, seconds: float) -> int:
        """Windows of so many seconds in a split."""
        if self.dataset is None:
            return self.counts[split] * max(1, round(self.seconds / seconds))
        lengths = self.dataset.part(split)["duration_s"]
        return int(np.maximum(1, np.ceil(lengths / seconds - 0.01)).sum())


def plan(notebook: str, values: Mapping[str, Any]) -> Plan | None:
    """Data and trainings of a notebook with these parameters; None if it trains nothing.

    Labels are read whole, and a few recordings of each split.

    Raises
    ------
    AudiotkError
        The data are not there or do not fit, a recording cannot be read, or the settings are wrong.
    """
    check_scale(values.get("scale", "demo"))
    made = PLANS.get(notebook.split("_")[0])
    return None if made is None else made(values)


def _data(values: Mapping[str, Any], counts: tuple[int, ...], seconds: float = EMBEDDED_S, made: str = "") -> _Data:
    """The data set that `values` name. `made`: a data set whose recordings are mixed into as many as `counts` says."""
    name, root = values["data"], values["data_root"]
    sizes = dict(zip(SPLITS, counts, strict=True))
    if name == "embedded":
        classes = len(datasets.load(name, n_train=1, n_val=1, n_test=1).classes)
        return _Data(f"embedded: {_told(sizes)} made recordings", sizes, seconds, classes, None)
    options = {"complete": values["complete"]} if name == "folder" and "complete" in values else {}
    dataset = datasets.load(name, root or None, **options)
    _read_some(dataset)
    if name == made:
        told = f"{name}: {_told(sizes)} recordings made of {len(dataset.recordings):,}"
        return _Data(told, sizes, seconds, len(dataset.classes), None)
    found = {split: len(dataset.part(split)) for split in SPLITS}
    hours = dataset.recordings["duration_s"].sum() / 3600
    told = f"{name}: {_told(found)} recordings, {hours:,.1f} h, {len(dataset.problems):,} with problems"
    return _Data(told, found, seconds, len(dataset.classes), dataset)


def _sound_gb(rows: Iterable[int], config: TrainConfig) -> float:
    """Room that splits of so many segments take in the cache, those that are more than memory may hold."""
    samples = round(config.clip_s * config.sr)
    return sum(stored_bytes(n, samples) for n in rows if 4 * n * samples > MOST_BYTES) / 1e9


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _read_some(dataset: Dataset) -> None:
    """Read a few recordings of each split; those that cannot be read are an error if no other can."""
    for split in SPLITS:
        part = dataset.part(split)
        if part.empty:
            raise AudiotkError(f"{dataset.name}: the {split} split holds no recording")
        failed: list[str] = []
        for path in part["path"].iloc[np.unique(np.linspace(0, len(part) - 1, READ).astype(int))]:
            try:
                audio.load(str(path), 16000, 0.0, 1.0)
            except AudiotkError as err:
                failed.append(str(err))
        if len(failed) == min(READ, len(part)):
            raise AudiotkError(f"{dataset.name}: of {len(failed)} recordings of {split} none can be read: {failed[0]}")


# --- the notebooks ----------------------------------------------------------------------------------------------------


def _quickstart(values: Mapping[str, Any]) -> Plan:
    scale, seeds = values["scale"], len(values["seeds"])
    n = quickstart.EMBEDDED[scale]
    found = _data(values, (round(0.6 * n), round(0.2 * n), round(0.2 * n)))
    like = found.dataset or datasets.load("embedded", n_train=1, n_val=1, n_test=1)
    config = quickstart.recipe(like, scale)
    rows = {split: found.windows(split, config.clip_s) for split in SPLITS}
    stages = [Stage("MelCNN", seeds, config, rows["train"], found.classes)]
    return Plan(found.told, stages, _sound_gb(rows.values(), config))


def _label_segments(values: Mapping[str, Any]) -> Plan:
    *counts, epochs = label_segments.SIZES[values["scale"]]
    found = _data(values, tuple(counts))
    window_s = clip_or_range.WINDOW_S
    rows = round(min(counts[0], found.counts["train"]) * max(1.0, found.seconds / window_s))
    config = label_training.recipe(window_s, epochs)
    runs = len(label_training.ARMS) * len(values["seeds"])
    stages = [Stage("both labelings", runs, config, rows, found.classes)]
    return Plan(found.told, stages, _tested_gb(found, config))


def _clip_or_range(values: Mapping[str, Any]) -> Plan:
    size, val, test, epochs = clip_or_range.SIZES[values["scale"]]
    found = _data(values, (size * max(clip_or_range.TIMES), val, test))
    size = min(size, found.counts["train"])
    rows = round(found.windows("train", clip_or_range.WINDOW_S) * size / found.counts["train"])
    config = clip_or_range.recipe(epochs, rows)
    times = [1, *(t for t in clip_or_range.TIMES if t * size <= found.counts["train"])]
    whole = config.epochs * rows / (found.seconds / clip_or_range.WINDOW_S)
    whole_config = replace(config, clip_s=found.seconds, epoch_size=max(1, round(whole / config.epochs)))
    seeds = len(values["seeds"])
    return Plan(
        found.told,
        [
            Stage("ranges and clip labels", len(times) * seeds, config, rows, found.classes),
            Stage("whole clips", seeds, whole_config, rows, found.classes),
        ],
        _sound_gb([found.windows("val", config.clip_s), found.windows("test", clip_or_range.HOP_S)], config),
    )


def _ghosts(values: Mapping[str, Any]) -> tuple[_Data, int, TrainConfig]:
    train_n, pool_n, val, test, epochs = ghosts.sizes(values["data"], values["scale"])
    found = _data(values, (train_n + pool_n, val, test), made=ghosts.REAL)
    rows = round(found.windows("train", ghosts.WINDOW_S) * train_n / (train_n + pool_n))
    return found, rows, ghosts.recipe(rows, epochs)


def _tested_gb(found: _Data, config: TrainConfig) -> float:
    return _sound_gb([found.windows(split, config.clip_s) for split in ("val", "test")], config)


def _ghost_sounds(values: Mapping[str, Any]) -> Plan:
    found, rows, config = _ghosts(values)
    runs = len(ghost_sounds.ARMS) * len(values["seeds"])
    stages = [Stage("all arms", runs, config, rows, found.classes + len(mining.THEMES))]
    return Plan(found.told, stages, _tested_gb(found, config))


def _silence_energy(values: Mapping[str, Any]) -> Plan:
    found, rows, config = _ghosts(values)
    seeds, classes = len(values["seeds"]), found.classes + len(silence_energy.CONCEPTS)
    again = replace(config, epochs=silence_energy.EPOCHS[values["scale"]])
    deep = silence_energy.DEEPER_NET
    return Plan(
        found.told,
        [
            Stage("deployed", seeds, config, rows, classes),
            Stage("deployed, deeper", seeds, replace(config, model_options=deep), rows, classes),
            Stage("trained again", silence_energy.AGAIN * seeds, again, rows, classes),
            Stage("trained again, deeper", 2 * seeds, replace(again, model_options=deep), rows, classes),
            Stage("trained again, longer", 2 * seeds, config, rows, classes),
        ],
        _tested_gb(found, config),
    )


def _polyphony(values: Mapping[str, Any]) -> _Data:
    scale = values["scale"]
    seconds = polyphony.EMBEDDED_S if values["data"] == "embedded" else polyphony.LONGEST_S
    return _data(values, polyphony.COUNTS[scale], seconds, made="esc50")


def _label_joining(values: Mapping[str, Any]) -> Plan:
    found = _polyphony(values)
    config = polyphony.recipe(found.seconds, values["scale"])
    runs = len(label_joining.ARMS) * len(values["seeds"])
    stages = [Stage("all arms", runs, config, found.counts["train"], found.classes)]
    return Plan(found.told, stages, _sound_gb(found.counts.values(), config))


def _label_correction(values: Mapping[str, Any]) -> Plan:
    found, seeds = _polyphony(values), len(values["seeds"])
    config = label_correction.config_of(found.seconds, values["scale"])
    rows, classes = found.counts["train"], found.classes
    fold = replace(config, epoch_size=config.epoch_size or rows)
    known = found.dataset is None  # made recordings: their truth is known
    once = len(label_correction.ROWS) + 2 + known  # and random mask, out-of-fold teacher; true labels
    return Plan(
        found.told,
        [
            Stage("Table 2 and controls", once * seeds, config, rows, classes),
            Stage("raw labels, twice as long", seeds, label_correction.twice(config), rows, classes),
            Stage("teachers of the folds", label_correction.N_FOLDS * seeds, fold, rows, classes),
        ],
        _sound_gb(found.counts.values(), config),
    )


def _zero_shot(values: Mapping[str, Any]) -> Plan:
    scale, n = values["scale"], quickstart.EMBEDDED[values["scale"]]
    mixed = values["data"] == "esc50"
    counts = polyphony.COUNTS[scale] if mixed else (round(0.6 * n), round(0.2 * n), round(0.2 * n))
    found = _data(values, counts, ESC50_S if mixed else EMBEDDED_S, made="esc50")
    like = found.dataset or datasets.load("embedded", n_train=1, n_val=1, n_test=1)
    config = zero_shot_students.recipe(scale, ESC50_S if mixed else quickstart.window_s(like))
    known = found.dataset is None  # made recordings: their truth is known, and has a student, too
    runs = (len(zero_shot_students.STUDENTS) - (not known)) * len(values["seeds"])
    rows = {split: found.windows(split, config.clip_s) for split in SPLITS}
    stages = [Stage("students", runs, config, rows["train"], found.classes)]
    return Plan(found.told, stages, _sound_gb(rows.values(), config))


def _transfer(values: Mapping[str, Any]) -> Plan:
    case = transfer.load(values["data"], values["data_root"], values["scale"])
    if values["data"] != "embedded":
        _read_some(case.dataset)
    recipe, seeds = transfer.recipe(values["scale"]), len(values["seeds"])
    stages: list[Stage] = []
    for split in transfer.splits(case, tuple(values.get("roots", ()))):
        if split.problem:
            continue
        base, target = split.base[transfer.OL]["train"], split.target[transfer.OL]["train"]
        config = replace(recipe.config, epochs=recipe.base_epochs)
        stages.append(_transfer_stage(f"{split.root}: base", len(split.base) * seeds, config, base))
        config = replace(recipe.config, epochs=recipe.target_epochs)
        models_ = len(split.base) + 1  # fine-tuned from each base, and from scratch
        different = len({tuple(id(part) for part in parts.values()) for parts in _different(split.target)})
        stages.append(_transfer_stage(f"{split.root}: targets", different * models_ * seeds, config, target))
        shares = sum(recipe.shares) - 1.0
        less = replace(config, epoch_size=max(2, round(shares / max(1, len(recipe.shares) - 1) * len(target.segments))))
        runs = (len(recipe.shares) - 1) * models_ * seeds
        stages.append(_transfer_stage(f"{split.root}: learning curve", runs, less, target))
    return Plan(_transfer_told(case), stages, _sound_gb([len(case.labels.segments)], recipe.config))


def _different(target: Mapping[str, Mapping[str, Labels]]) -> list[Mapping[str, Labels]]:
    """Labelings that are not equal to an earlier one, which is not trained again."""
    found: list[Mapping[str, Labels]] = []
    for parts in target.values():
        if all(dict(parts) != dict(one) for one in found):
            found.append(parts)
    return found


def _transfer_stage(what: str, runs: int, config: TrainConfig, labels: Labels) -> Stage:
    return Stage(what, runs, config, len(labels.segments), len(labels.classes))


def _transfer_told(case: Hierarchy) -> str:
    return f"{case.told}; {len(case.labels.segments):,} segments"


PLANS: dict[str, Callable[[Mapping[str, Any]], Plan]] = {
    "00": _quickstart, "01": _label_segments, "02": _clip_or_range, "03": _ghost_sounds, "04": _silence_energy,
    "05": _label_joining, "06": _label_correction, "07": _zero_shot, "09": _transfer,
}  # fmt: skip


# --- what it costs ----------------------------------------------------------------------------------------------------


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
