"""What a teacher of notebook 07 is told: examples of the training recordings, or texts of the classes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk import labels, teachers
from audiotk.experiments import labelled_windows, p1_data
from audiotk.tables import AudiotkError, Dataset
from audiotk.teachers import Prompts, Teacher
from audiotk.teachers.examples import Examples

MOST = 20_000  # recordings among which those of no class are looked for


def sources(dataset: Dataset) -> list[str]:
    """Whom to believe: the truth where it is known, else all sources of the data set in their order."""
    return ["truth"] if "truth" in dataset.sources.index else list(dataset.sources.index)


def taught_by(dataset: Dataset) -> pd.DataFrame:
    """Annotations of training segments as present: segment, class_name, recording, ..."""
    given = dataset.annotations
    rows = given[given["source"].isin(sources(dataset)) & (given["value"] == 1)].merge(dataset.segments, on="segment")
    return rows[rows["recording"].isin(dataset.part("train")["recording"])]


def with_examples(dataset: Dataset) -> Dataset:
    """The data set without the classes that no training recording holds: they are named in a warning.

    Raises
    ------
    AudiotkError
        No class is left.
    """
    known = set(taught_by(dataset)["class_name"])
    kept = [name for name in dataset.classes if name in known]
    if not kept:
        raise AudiotkError(f"examples: {dataset.name} has no training recording in which a class is present")
    if lost := [name for name in dataset.classes if name not in known]:
        told = f"left out, as no training recording holds an example: {', '.join(lost)}"
        warnings.warn(f"{dataset.name}: {told}", stacklevel=3)
    return replace(dataset, classes=kept)


def by_example(dataset: Dataset, shots: int, seed: int) -> Examples:
    """A teacher of a few training segments a class, drawn at random: labelled ranges, or whole recordings.

    Segments that hold no other class come first, as a person would choose them. Segments on which every class was
    judged absent are the background, where there are some.
    """
    rng = np.random.default_rng(seed)
    recordings, rows = dataset.part("train"), taught_by(dataset)
    others = rows.groupby("segment")["class_name"].nunique().to_dict()
    chosen = {}
    for name in dataset.classes:
        drawn = rng.permutation(rows.loc[rows["class_name"] == name, "segment"].unique())
        chosen[name] = [str(one) for one in sorted(drawn, key=others.__getitem__)[:shots]]
    some = np.sort(rng.permutation(len(recordings))[:MOST]) if len(recordings) > MOST else slice(None)
    windows = labelled_windows(dataset, recordings.iloc[some], 1.0)
    truth = labels.resolve(dataset, windows, sources(dataset)).frame()
    empty = rng.permutation(truth.index[(truth == 0).all(axis=1)].to_numpy())[: 4 * shots].tolist()
    segments = pd.concat([dataset.segments, windows]).drop_duplicates("segment")
    return Examples.fit(None, recordings, segments, chosen, background=empty)


def words_for(dataset: Dataset, teacher: Teacher) -> Prompts:
    """Prompts that come with audiotk for this data; else, for a teacher that reads text, the names of the classes.

    Of P1's classes those of its Table 1: where fsd50k or audioset was mapped to them, or a data set has all eleven.
    """
    folder = Path(teachers.__file__).parent
    known = {"embedded": "prompts_embedded", "esc50": "prompts_esc10"}.get(dataset.name, "")
    path = folder / f"{known}{'' if teacher.dim else '_yamnet'}.yaml"
    table = Prompts.read(teachers.P1)
    mapped = any(name in dataset.name for name in p1_data.MAPPED)  # a folder of cats and dogs is not P1's
    if (
        teacher.dim
        and set(dataset.classes) <= set(table.classes)
        and (mapped or len(dataset.classes) == len(table.classes))
    ):
        return table
    if known and path.exists() and set(dataset.classes) <= set((found := Prompts.read(path)).classes):
        return found
    if not teacher.dim:
        raise AudiotkError(f"{teacher.name}: no prompts come with audiotk for {dataset.name}; give prompts=FILE")
    texts = {name: (name.replace("_", " "),) for name in dataset.classes}
    return Prompts(texts, "This is a sound of ", ("silence", "background noise"))
