"""Recordings of notebooks 05, 06 and 07 that are taken as they are: P1's own setting, or any two data sets.

P1 trains on AudioSet, and validates and tests on FSD50K, both in its eleven classes. A label of AudioSet belongs to the
classes in whose columns of `CLASS_MAP` it stands; a recording has a class if it has any label of it, so it may have
several. Labels in the column "unused" are in no class: P1 does not say what became of recordings that have no others;
here they are training recordings in which every class is absent. (Files of FSD50K are chosen by their classes, so none
of them is validated or tested on.)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import datasets, labels
from audiotk.datasets.joined import join
from audiotk.ontology.classmaps import ClassMap, read_class_map
from audiotk.tables import AudiotkError, Dataset, Labels, whole_recordings

FILES = {"val": (8.0, 200), "test": (5.0, 140)}  # shortest file in s, files a class; P1, section 4.2
CLASS_MAP = "acd_class_mapping.csv"
MAPPED = ("fsd50k", "audioset")  # data sets whose classes have AudioSet's names
WHERE = (
    f"P1's classes, which both can be put in, need its map {CLASS_MAP} "
    "(github.com/sebraun-msr/acd_class_mapping) in data_root or train_root"
)


def load(
    data: str, data_root: str, train_data: str = "", train_root: str = "",
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:  # fmt: skip
    """One data set, or the train split of `train_data` with validation and test recordings of `data`.

    Of fsd50k the files that P1 would choose are taken. If `CLASS_MAP` lies in a root, fsd50k and audioset are in P1's
    classes. With `train_data`, all of FSD50K's development set is for validation, as in P1.

    Parameters
    ----------
    data, data_root, train_data, train_root
        Names and folders; no `train_data`: all is from `data`.
    options
        For the readers, by name of the data set.

    Raises
    ------
    AudiotkError
        The data are not there, the two do not fit (see :func:`audiotk.datasets.joined.join`), or each root has another
        class map.
    """
    if train_root and not train_data:
        raise AudiotkError(f"train_root={train_root!r} needs train_data, the name of the data set that lies there")
    known = class_map(*(root for root in (data_root, train_root) if root))
    there = all(Path(root).is_dir() for root in (data_root, train_root))  # else the readers say what is missing
    if known is None and {data, train_data} == set(MAPPED) and there:
        raise AudiotkError(f"{data} and {train_data} write the names of their classes in two ways. {WHERE}")

    def read(name: str, root: str) -> Dataset:
        dataset = datasets.load(name, root or None, **(options or {}).get(name, {}))
        return in_p1_classes(dataset, known) if known and name in MAPPED else dataset

    if not train_data:
        return _chosen(read(data, data_root))
    with warnings.catch_warnings():  # whether it has validation and test recordings does not matter
        warnings.filterwarnings("ignore", message=f"{train_data}: no recording is in")
        first = read(train_data, train_root)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f"{data}: no recording is in train;")
        warnings.filterwarnings("ignore", message="fsd50k: .* validation recordings went to train")  # all validate
        second = read(data, data_root)
    if data == "fsd50k":
        second = replace(second, split=second.split.replace("train", "val"))
    return join(first, _chosen(second, first.classes))


def applies(data: str, data_root: str, train_data: str = "", train_root: str = "") -> bool:
    """Whether notebook 07 takes its recordings as :func:`load` does: trained elsewhere, or in P1's classes."""
    return bool(train_data or train_root or (data in MAPPED and data_root and class_map(data_root)))


def class_map(*roots: str) -> ClassMap | None:
    """P1's class map, if it lies in one of the folders.

    Raises
    ------
    AudiotkError
        It cannot be read, or there are two different ones.
    """
    found = [path for root in dict.fromkeys(roots) if (path := Path(root) / CLASS_MAP).exists()]
    if len({path.read_bytes() for path in found}) > 1:
        raise AudiotkError(f"{found[0]} and {found[1]} differ; expected the same class map, or only one")
    return read_class_map(found[0]) if found else None


def write_manifest(dataset: Dataset, out: str | Path) -> Path:
    """Which recordings are trained on, validated and tested: ``out/manifest.csv``."""
    Path(out).mkdir(parents=True, exist_ok=True)
    table = dataset.recordings.assign(split=dataset.recordings["recording"].map(dataset.split))
    table = table if "data" in table else table.assign(data=dataset.name)
    path = Path(out) / "manifest.csv"
    table[["data", "recording", "group", "duration_s", "split"]].to_csv(path, index=False)
    return path


def _chosen(dataset: Dataset, among: Sequence[str] | None = None) -> Dataset:
    """Of FSD50K the files that P1 would choose for validation and test (by the classes `among`); all training files."""
    if dataset.name != "fsd50k":
        return dataset
    classes = [name for name in dataset.classes if among is None or name in set(among)]
    kept = [dataset.part("train")["recording"]]
    for number, (split, (shortest_s, count)) in enumerate(FILES.items()):
        part = dataset.part(split)
        truth = labels.resolve(dataset, whole_recordings(part), list(dataset.sources.index), classes)
        kept.append(choose_files(part, truth, shortest_s, count, np.random.default_rng([0, number]))["recording"])
    return dataset.only(pd.concat(kept))


def choose_files(
    recordings: pd.DataFrame, truth: Labels, shortest_s: float, count: int, rng: np.random.Generator
) -> pd.DataFrame:
    """`count` recordings of each class (all where there are fewer) of at least `shortest_s` seconds; P1, section 4.2.

    `truth` has one row a recording, in the order of `recordings`.
    """
    long = (recordings["duration_s"] >= shortest_s).to_numpy()
    if not long.any():
        raise AudiotkError(f"no recording is at least {shortest_s:g} s long, so P1's files cannot be chosen")
    present = truth.dense() == 1  # (n, C)
    taken = np.zeros(len(recordings), dtype=bool)
    for column in present.T:
        taken[rng.permutation(np.flatnonzero(long & column))[:count]] = True
    return recordings[taken].reset_index(drop=True)


def in_p1_classes(dataset: Dataset, class_map: ClassMap) -> Dataset:
    """The data set in P1's classes by its map of AudioSet's names, which FSD50K writes in another way.

    ``Chirp_and_tweet`` is "Chirp, tweet". A class that the map does not know is in no class.
    """

    def plain(name: str) -> str:
        return re.sub("[^a-z]", "", re.sub(r"\band\b", "", name.replace("_", " ").lower()))

    own = {plain(name): name for name in dataset.classes}
    member = class_map.table["label"].map(lambda name: own.get(plain(name)))
    table = pd.DataFrame({"was": member, "to": class_map.table["class_name"]}).dropna().drop_duplicates()
    notes = dataset.annotations.merge(table, left_on="class_name", right_on="was")
    first = dataset.annotations.drop_duplicates(["segment", "source"])
    seen = first.assign(class_name=class_map.classes[0], value=0.0)  # a recording of other classes was looked at, too
    notes = notes.assign(class_name=notes["to"])[list(first.columns)].sort_values("value", ascending=False)
    notes = pd.concat([notes, seen]).drop_duplicates(["segment", "class_name", "source"])
    present = [name for name in class_map.classes if name in set(table["to"])]
    return replace(dataset, annotations=notes.reset_index(drop=True), classes=present)
