"""Two data sets as one: the training recordings of the first; validation and test recordings of the second."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from audiotk.datasets.found import sha256
from audiotk.ontology.files import some
from audiotk.tables import AudiotkError, Dataset

PIECE = 4096  # bytes from the middle of a file that are compared before all of it is read
FREESOUND = ("esc50", "fsd50k")  # groups of the first and recordings of the second are ids of Freesound


def join(first: Dataset, second: Dataset) -> Dataset:
    """Train on the train split of `first`; validate and test on those of `second`.

    Parameters
    ----------
    first, second
        Of each only its best source counts: "truth" where there is one, else all in their order. Classes are those that
        both have, in the order of `second`; of a recording that holds others only, all of them are absent.

    Returns
    -------
    Dataset
        Its name is ``FIRST for SECOND``; recordings have the further column data (the name of their data set), sources
        are named after their data set. Problems are those of both.

    Raises
    ------
    AudiotkError
        No class is in both; there is no training recording, or it has no sound; a recording, group or file is in both.

    Warns
    -----
    UserWarning
        Classes that only one of them has are left out.
    """
    classes = _shared(first, second)
    ours, theirs = first.part("train"), second.recordings[second.recordings["recording"].map(second.split) != "train"]
    if ours.empty:
        raise AudiotkError(f"{first.name}: its train split holds no recording, so there is nothing to train on")
    if lacking := {"val", "test"} - set(theirs["recording"].map(second.split)):
        raise AudiotkError(f"{second.name}: its {' and '.join(sorted(lacking))} split holds no recording")
    for name, part in ((first.name, ours), (second.name, theirs)):
        if (part["path"] == "").any():
            raise AudiotkError(f"{name}: has labels but no sound, and networks are trained here")
    _check_apart(first.name, ours, second.name, theirs)
    tags = ("train: ", "") if first.name == second.name else ("", "")
    parts = [
        _believed(dataset.only(part["recording"]), tag)
        for dataset, part, tag in ((first, ours, tags[0]), (second, theirs, tags[1]))
    ]
    both = {
        name: pd.concat([getattr(part, name) for part in parts])
        for name in ("recordings", "segments", "annotations", "split", "sources", "problems")
    }
    return Dataset(name=f"{first.name} for {second.name}", classes=classes, **both)


def _shared(first: Dataset, second: Dataset) -> list[str]:
    """Classes of both; a warning names the others."""
    classes = [name for name in second.classes if name in set(first.classes)]
    if not classes:
        raise AudiotkError(
            f"no class is both in {first.name} (train) and in {second.name}; expected the same names, got "
            f"{some(map(repr, first.classes))} and {some(map(repr, second.classes))}"
        )
    for one, other in ((first, second), (second, first)):
        if alone := [name for name in one.classes if name not in set(other.classes)]:
            told = f"{len(alone)} classes of {one.name} that {other.name} does not have: {some(map(repr, alone))}"
            warnings.warn(f"left out are {told}", stacklevel=4)
    return classes


def _believed(dataset: Dataset, tag: str) -> Dataset:
    """The annotations of its best sources, each renamed to ``TAG DATASET`` or ``TAG DATASET: SOURCE``."""
    kept = ["truth"] if "truth" in dataset.sources.index else list(dataset.sources.index)
    name = {old: f"{tag}{dataset.name}" + (f": {old}" if len(kept) > 1 else "") for old in kept}
    notes = dataset.annotations[dataset.annotations["source"].isin(kept)]
    return replace(
        dataset,
        recordings=dataset.recordings.assign(data=dataset.name),
        annotations=notes.assign(source=notes["source"].map(name)),
        sources=dataset.sources.loc[kept].rename(index=name),
    )


def _check_apart(first: str, ours: pd.DataFrame, second: str, theirs: pd.DataFrame) -> None:
    """Raise if something that is trained on is tested on, too."""
    advice = f"take it out of the training recordings of {first}"
    for column, noun in (("recording", "recording"), ("group", "group (person, device, upload)")):
        same = sorted(set(ours[column]) & set(theirs[column]))
        if same:
            raise AudiotkError(
                f"{len(same)} {noun} in both {first} (train) and {second}: {some(map(repr, same))}; {advice}"
            )
    if (first, second) in (FREESOUND, FREESOUND[::-1]):
        esc, fsd = (ours, theirs) if first == FREESOUND[0] else (theirs, ours)
        if same := sorted(set(esc["group"]) & set(fsd["recording"])):
            raise AudiotkError(
                f"{len(same)} recordings of Freesound in both {first} and {second}: {some(map(repr, same))}; {advice}"
            )
    pairs = _same_files(ours["path"], theirs["path"])
    if pairs:
        told = f"{pairs[0][0]} and {pairs[0][1]}"
        raise AudiotkError(f"{len(pairs)} file(s) of {first} (train) and {second} are the same: {told}; {advice}")


def _same_files(ours: Iterable[str], theirs: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a path each with the same content; only what has the same size and middle is read whole."""
    sides = [pd.DataFrame({"path": pd.unique(pd.Series(list(paths), dtype="str"))}) for paths in (ours, theirs)]
    for key in (os.path.getsize, _middle, sha256):
        if sides[0].empty:
            return []
        keys = [side["path"].map(key) for side in sides]
        sides = [side[mine.isin(set(other))] for side, mine, other in zip(sides, keys, keys[::-1], strict=True)]
    content = sides[1].set_index(sides[1]["path"].map(sha256))["path"]
    content = content[~content.index.duplicated()]
    return [(path, content[sha256(path)]) for path in sides[0]["path"]]


def _middle(path: str) -> str:
    with open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) // 2 - PIECE // 2))
        return hashlib.sha256(stream.read(PIECE)).hexdigest()
