"""Sound and labels of notebooks 05 and 06: several classes at once, labels with known errors, a clean test (P1).

===========  ==========================================================================================================
data         what is heard
===========  ==========================================================================================================
embedded     recordings of 4 s with up to four events; truth known
esc50        mixtures of 1 to 3 recordings; those of train, validation and test come from sources of their own; truth
             known. Every mixture is made within a *block* of a few sources, and no source is in two blocks, so that
             blocks are independent: they are the groups that intervals resample
fsd50k       P1's evaluation: files of 8 s (validation) and 5 s (test) or more, so many a class, listed in
             ``manifest.csv``; see :mod:`audiotk.experiments.p1_data`
others       up to 10 s of each recording, with the labels that it has
===========  ==========================================================================================================

With ``train_data`` the training recordings are those of another data set, and both are taken as they are.

Where the truth is known, training labels are the truth with errors at the rates `MISSING` and `WRONG`, the same for all
seeds and arms. Validation and test are always judged by the best labels there are.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio, augment, datasets, labels, noise
from audiotk.experiments import (
    COARSE,
    MOST_BYTES,
    Material,
    check_scale,
    labelled_segments,
    load_material,
    p1_data,
    read_segments,
)
from audiotk.experiments.devices import gpu_count
from audiotk.tables import (
    SPLITS,
    AudiotkError,
    Dataset,
    Labels,
    make_annotations,
    make_segments,
    make_sources,
    whole_recordings,
)
from audiotk.train import TrainConfig

SR = 16000
MISSING, WRONG = 0.3, 0.02  # of the present cells of a class, and of the absent ones, in training labels
COUNTS = {"smoke": (24, 24, 24), "demo": (384, 160, 256), "paper": (8000, 1000, 1000)}  # train, val, test; made data
EPOCHS = {"smoke": 1, "demo": 16, "paper": 600}
EMBEDDED_S = 4.0
LONGEST_S = 10.0  # P1
MORE_S = 0.05  # a file this much longer was rounded, not cut
BLOCK, MOST = 5, 3  # sources of a block, and recordings of a mixture at most
MIXTURES = 1  # raise it where the same plan makes other sound


@dataclass(frozen=True)
class Case:
    """What both experiments start from.

    `given` are the training labels; `truth` has val and test, and train where it is known. Of `shortened` recordings
    only the start is used.
    """

    dataset: Dataset
    material: Mapping[str, Material]
    given: Labels
    truth: Mapping[str, Labels]
    shortened: int = 0

    @property
    def unit(self) -> pd.Series:
        """Group of each test segment: what intervals resample."""
        return self.material["test"].unit

    @property
    def seconds(self) -> float:
        """Length of a segment."""
        return float(self.material["train"].waves.shape[1] / SR)

    def on_disk(self, folder: str | Path) -> Case:
        """The same with the arrays of sound in files of `folder`, so that processes share them."""
        return replace(self, material={name: part.on_disk(folder) for name, part in self.material.items()})

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(part.segments):,} {name}" for name, part in self.material.items())
        told = [f"Case({self.dataset.name!r}: {sizes} segments of {self.seconds:g} s, given {self.given})"]
        if "train" in self.truth:
            told.append(f"Training labels: the truth, but {MISSING:.0%} of what is there is missing and {WRONG:.0%} of "
                        "what is not there is marked, at random.")  # fmt: skip
        else:
            told.append("Training labels: as the data set has them. How many are wrong is not known.")
        if self.shortened:
            told.append(f"Of {self.shortened:,} recordings longer than {LONGEST_S:g} s only the start is used, with "
                        "the labels of the whole.")  # fmt: skip
        return "\n".join(told)


def load(data: str, data_root: str, scale: str, out: str | Path, train_data: str = "", train_root: str = "") -> Case:
    """Recordings, their sound and labels; mixtures and the manifest are written into `out`.

    Parameters
    ----------
    data, data_root
        Name and folder of the data set.
    scale, out
        As in the notebooks.
    train_data, train_root
        Another data set whose train split is trained on, see :func:`audiotk.experiments.p1_data.load`.

    Raises
    ------
    AudiotkError
        An unknown scale or data set, data that are not there or do not fit, or no class is left.

    Warns
    -----
    UserWarning
        Classes are left out, see :func:`usable`.
    """
    counts = dict(zip(SPLITS, COUNTS[check_scale(scale)], strict=True))
    options = reading(scale)
    if train_data or train_root or data not in options:
        dataset = p1_data.load(data, data_root, train_data, train_root, options)
        if train_data or data in p1_data.MAPPED:
            p1_data.write_manifest(dataset, out)
        return usable(_as_it_is(dataset))
    dataset = datasets.load(data, data_root or None, **options[data])
    if data == "esc50":
        dataset = compose(dataset, counts, Path(out) / "mixtures")
    material = {split: load_material(dataset, split, SR) for split in SPLITS}
    truth = {split: labels.resolve(dataset, part.segments, ["truth"]) for split, part in material.items()}
    given = noise.inject(truth["train"], MISSING, WRONG, rng=np.random.default_rng(0))
    return usable(Case(dataset, material, given, truth))


def reading(scale: str) -> dict[str, dict[str, Any]]:
    """How data sets whose truth is known are read: options by name."""
    sizes = {f"n_{name}": count for name, count in zip(SPLITS, COUNTS[scale], strict=True)}
    made = {**sizes, "duration_s": EMBEDDED_S, "quiet_share": 0.1, "progress": True}
    return {"embedded": made, "esc50": {"val_share": 0.3}}


def usable(case: Case) -> Case:
    """The case without the classes that are nowhere present, or nowhere absent, in training or validation labels.

    They can neither be learnt nor be shown to a teacher, nor can an epoch be chosen by them. A warning names them.

    Raises
    ------
    AudiotkError
        No class is left.
    """
    judged = {"training": case.given, **{name: case.truth[name] for name in ("train", "val") if name in case.truth}}
    lacking = {"training": "training", "train": "training (in truth)", "val": "validation"}
    lost: dict[str, str] = {}
    for part, found in judged.items():
        for value in ("present", "absent"):
            counts = found.counts()[value]
            lost |= {str(name): f"{value} in {lacking[part]}" for name in counts.index[counts == 0] if name not in lost}
    if not lost:
        return case
    told = ", ".join(f"{name!r} (nowhere {why})" for name, why in lost.items())
    kept = [name for name in case.dataset.classes if name not in lost]
    if not kept:
        raise AudiotkError(
            f"{case.dataset.name}: expected classes that are both present and absent in training and in validation "
            f"labels, got none: {told}; give more recordings, or another split"
        )
    warnings.warn(f"{case.dataset.name}: left out are {told}", stacklevel=3)
    truth = {name: found.select(classes=kept) for name, found in case.truth.items()}
    dataset, given = replace(case.dataset, classes=kept), case.given.select(classes=kept)
    return replace(case, dataset=dataset, given=given, truth=truth)


def compose(dataset: Dataset, counts: Mapping[str, int], folder: Path, seed: int = 0) -> Dataset:
    """Mixtures of recordings of one class each, as WAV files in `folder`, with the classes that are in them.

    They are as long as most recordings are; longer ones are cut, shorter ones padded.

    Parameters
    ----------
    dataset
        Its split and groups are kept to: sources are parted before anything is mixed.
    counts
        Mixtures of each split.
    folder
        Files go to ``folder/<digest>/<split>-<number>.wav``; those that are there already are kept. The digest is of
        all that decides how they sound: other recordings, or the same ones in another form, get their own folder.
    seed
        Of blocks, partners and levels.

    Returns
    -------
    Dataset
        Recordings with the columns parts (names joined by +) and group (the block). Source "truth" is closed and weak.
    """
    of = dataset.annotations[dataset.annotations["value"] == 1].merge(dataset.segments, on="segment")
    class_of = of.drop_duplicates("recording").set_index("recording")["class_name"]
    seconds = round(float(dataset.recordings["duration_s"].median()), 1)
    plan: list[tuple[str, str, list[str], list[float]]] = []  # split, block, parts, their levels
    heard = {split: _heard(dataset.part(split), seconds) for split in counts}
    for number, split in enumerate(counts):
        rng = np.random.default_rng([seed, number])
        recordings = dataset.part(split)
        blocks = _blocks(recordings[recordings["recording"].isin(heard[split].segments["recording"])], rng)
        for k in range(counts[split]):
            names = _draw(blocks[k % len(blocks)], rng)
            levels = (10 ** (rng.normal(0, 2, len(names)) / 20)).tolist()
            plan.append((split, f"{split}-block-{k % len(blocks):03d}", names, levels))
    folder = folder / _digest(dataset.recordings, {name for *_, names, _ in plan for name in names}, seconds, plan)
    rows, present = [], []
    for split in counts:
        sound = dict(zip(heard[split].segments["recording"], heard[split].waves, strict=True))
        for k, (_, block, names, levels) in enumerate(one for one in plan if one[0] == split):
            wave = np.sum([a * sound[name] for a, name in zip(levels, names, strict=True)], axis=0)
            name = f"{split}-{k:05d}"
            path = folder / f"{name}.wav"
            if not path.exists():
                audio.save(path, (wave / max(1.0, 1.01 * np.abs(wave).max())).astype(np.float32), SR)
            about = {"group": block, "parts": "+".join(names), "split": split}
            rows.append({"recording": name, "path": str(path), "duration_s": seconds, "sr": SR, **about})
            present += [(name, class_name) for class_name in sorted({class_of[one] for one in names})]
    table = pd.DataFrame(rows)
    segments = whole_recordings(table)
    segment_of = segments.set_index("recording")["segment"]
    heard_in, classes = zip(*present, strict=True)
    at = dataset.annotations["at"].max()
    return Dataset(
        name=dataset.name,
        recordings=table.drop(columns="split"),
        segments=segments,
        annotations=make_annotations(segment_of.loc[list(heard_in)], classes, 1.0, "truth", at),
        split=table.set_index("recording")["split"],
        classes=dataset.classes,
        sources=make_sources(truth="closed weak"),
        problems=pd.concat([dataset.problems, *(part.problems for part in heard.values())], ignore_index=True),
    )


def _digest(recordings: pd.DataFrame, used: set[str], seconds: float, plan: Any) -> str:
    """Of the files that are mixed (path, size, time of change), and of how."""
    paths = recordings.set_index("recording")["path"]
    files = [(name, str(paths[name]), (on_disk := Path(paths[name]).stat()).st_size, on_disk.st_mtime_ns)
             for name in sorted(used)]  # fmt: skip
    text = json.dumps([MIXTURES, SR, seconds, plan, files])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _blocks(recordings: pd.DataFrame, rng: np.random.Generator) -> list[list[list[str]]]:
    """Groups in random order, `BLOCK` to a block (the last one may be larger): recordings of each group."""
    of_group = recordings.groupby("group")["recording"].agg(list)
    order = rng.permutation(of_group.index.to_numpy(dtype=object))
    count = max(1, len(order) // BLOCK)
    return [[of_group[name] for name in part] for part in np.array_split(order, count)]


def _draw(block: list[list[str]], rng: np.random.Generator) -> list[str]:
    """One to `MOST` recordings, each of another group."""
    chosen = rng.permutation(len(block))[: rng.integers(1, MOST + 1)]
    return [block[k][rng.integers(len(block[k]))] for k in chosen]


def _heard(recordings: pd.DataFrame, seconds: float) -> Material:
    segments = make_segments(recordings["recording"], 0.0, recordings["duration_s"].clip(upper=seconds))
    return read_segments(recordings, segments, SR, seconds)


# --- data that are taken as they are ----------------------------------------------------------------------------------


def _as_it_is(dataset: Dataset) -> Case:
    """Up to `LONGEST_S` seconds of each recording, with its labels."""
    sources = ["truth"] if "truth" in dataset.sources.index else list(dataset.sources.index)
    material: dict[str, Material] = {}
    truth: dict[str, Labels] = {}
    shortened = 0
    for split in SPLITS:
        recordings = dataset.part(split)
        whole = labelled_segments(dataset, recordings)
        shortened += int((whole["end_s"] - whole["start_s"] > LONGEST_S + MORE_S).sum())
        ends = (whole["start_s"] + LONGEST_S).clip(upper=whole["end_s"])
        segments = make_segments(whole["recording"], whole["start_s"], ends)
        read = read_segments(recordings, segments, SR, LONGEST_S, progress=True, most_bytes=MOST_BYTES)
        lengths_s = (read.segments["end_s"] - read.segments["start_s"]).to_numpy()
        material[split] = replace(read, waves=augment.Sources(read.waves, lengths_s))
        truth[split] = labels.resolve(dataset, material[split].segments, sources)
    return Case(dataset, material, truth.pop("train"), truth, shortened)


# --- words ------------------------------------------------------------------------------------------------------------


def intervals_over(seeds: Sequence[int]) -> str:
    """What the intervals of an experiment with these seeds are over."""
    groups = "95 % intervals over the groups (sources) of the test recordings"
    if len(seeds) == 1:
        return f"{groups} alone: with one seed ({seeds[0]}) they say nothing about other seeds."
    return f"Means over {len(seeds)} seeds, {groups} and over seeds."


# --- training ---------------------------------------------------------------------------------------------------------


def jobs_for(scale: str) -> int | None:
    """Training runs at once: one at scale "paper" without a GPU (it has workers of its own), else all (None)."""
    return 1 if scale == "paper" and not gpu_count() else None


def recipe(seconds: float, scale: str, **changes: Any) -> TrainConfig:
    """How every arm is trained on sequences of so many seconds; P1's own settings at scale "paper".

    Nothing ends a run early: arms that stop at different steps could not be compared.
    At the smaller scales a narrow MelCNN stands for ACDnet, one cycle for the plateau, and `sequences` (see
    `augment.Recipe`) leave out what costs most: pitch and time, codecs.
    """
    if check_scale(scale) == "paper":
        config = TrainConfig(
            model="acdnet", clip_s=seconds, epochs=EPOCHS[scale], epoch_size=10_000, lr=1e-4, schedule="plateau",
            plateau_epochs=150, stop_after=None, mix="join", sequences={}, workers=4,
        )  # fmt: skip
    else:
        light = {"min_cut_s": seconds / 2, "stretch": 0.0, "codec": 0.0, "spectral": 0.1, "band_pass": 0.1,
                 "reverb": 0.1, "distortion": 0.1}  # fmt: skip
        config = TrainConfig(
            model_options={**COARSE, "width": 0.5}, clip_s=seconds, epochs=EPOCHS[scale], batch_size=16,
            mix="join", sequences=light,
        )  # fmt: skip
    return replace(config, **changes)
