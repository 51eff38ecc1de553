"""What an experiment will train, before it begins: the numbers of trainings are those of its own table of arms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from audiotk import audio, datasets, mining
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
    labelled_segments,
    p1_data,
    polyphony,
    quickstart,
    silence_energy,
    transfer,
    zero_shot_students,
)
from audiotk.experiments.hierarchies import Case as Hierarchy
from audiotk.experiments.plan_costs import Stage
from audiotk.shards import stored_bytes
from audiotk.tables import SPLITS, AudiotkError, Dataset, Labels
from audiotk.train import TrainConfig

READ = 2  # recordings of each split that a plan reads
EMBEDDED_S, ESC50_S = 10.0, 5.0


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

    def windows(self, split: str, seconds: float, labelled: bool = False) -> int:
        """Windows of so many seconds in a split; `labelled`: of its labelled segments, else of whole recordings."""
        if self.dataset is None:
            return self.counts[split] * max(1, round(self.seconds / seconds))
        part = self.dataset.part(split)
        lengths = part["duration_s"]
        if labelled:
            segments = labelled_segments(self.dataset, part)
            lengths = segments["end_s"] - segments["start_s"]
        return int(np.maximum(1, np.ceil(lengths / seconds - 0.05)).sum())  # as tables.make_windows


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
    return _as_it_is(dataset, seconds)


def _as_it_is(dataset: Dataset, seconds: float = EMBEDDED_S) -> _Data:
    """A data set whose recordings are taken as they are."""
    found = {split: len(dataset.part(split)) for split in SPLITS}
    hours = dataset.recordings["duration_s"].sum() / 3600
    told = f"{dataset.name}: {_told(found)} recordings, {hours:,.1f} h, {len(dataset.problems):,} with problems"
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
        some = part.iloc[np.unique(np.linspace(0, len(part) - 1, READ).astype(int))]
        for path, duration_s in zip(some["path"], some["duration_s"], strict=True):
            try:
                audio.load(str(path), 16000, 0.0, min(1.0, duration_s))
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
    if (dataset := _p1_data(values, also="fsd50k")) is not None:
        return _as_it_is(dataset, polyphony.LONGEST_S)
    seconds = polyphony.EMBEDDED_S if values["data"] == "embedded" else polyphony.LONGEST_S
    return _data(values, polyphony.COUNTS[scale], seconds, made="esc50")


def _p1_data(values: Mapping[str, Any], also: str = "") -> Dataset | None:
    """The recordings of 05, 06 and 07 where they (or those of the data set `also`) are read by :mod:`p1_data`."""
    data, root, other, other_root = (
        str(values.get(name, "")) for name in ("data", "data_root", "train_data", "train_root")
    )
    if not (p1_data.applies(data, root, other, other_root) or data == also):
        return None
    options = {**polyphony.reading(values["scale"]), "folder": {"complete": values.get("complete", False)}}
    dataset = p1_data.load(data, root, other, other_root, options)
    _read_some(dataset)
    return dataset


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
    own = _p1_data(values)
    mixed = own is None and values["data"] == "esc50"
    counts = polyphony.COUNTS[scale] if mixed else (round(0.6 * n), round(0.2 * n), round(0.2 * n))
    length_s = ESC50_S if mixed else EMBEDDED_S
    found = _data(values, counts, length_s, made="esc50") if own is None else _as_it_is(own)
    like = found.dataset or datasets.load("embedded", n_train=1, n_val=1, n_test=1)
    config = zero_shot_students.recipe(scale, ESC50_S if mixed else quickstart.window_s(like))
    known = found.dataset is None  # made recordings: their truth is known, and has a student, too
    runs = (len(zero_shot_students.STUDENTS) - (not known)) * len(values["seeds"])
    rows = {split: found.windows(split, config.clip_s, labelled=True) for split in SPLITS}
    stages = [Stage("students", runs, config, rows["train"], found.classes)]
    return Plan(found.told, stages, _sound_gb(rows.values(), config))


def _transfer(values: Mapping[str, Any]) -> Plan:
    chosen = values.get("split", ""), values.get("excerpt", 0)
    case = transfer.load(values["data"], values["data_root"], values["scale"], *chosen)
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
