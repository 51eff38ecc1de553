"""What is known without a listener: verdicts of labels or of a recorded store, and what fires after retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.metrics import class_thresholds
from audiotk.store import Store, open_store
from audiotk.tables import AudiotkError, Labels
from audiotk.widgets.explorer_ledger import VALUES, WORDS

Truth = Labels | pd.DataFrame | Store | str | Path


def known_words(sample: pd.DataFrame, truth: Truth) -> list[str]:
    """What the truth says of each row of a sample: "false", "true", "unsure", or "" where it is silent.

    Raises
    ------
    AudiotkError
        Labels lack a segment or class, or the table is none of verdicts.
    """
    if isinstance(truth, Labels):
        place = truth.segments.get_indexer(pd.Index(sample["segment"]))
        column = truth.classes.get_indexer(pd.Index(sample["class_name"]))
        if (lost := (place < 0) | (column < 0)).any():
            row = sample[lost].iloc[0]
            raise AudiotkError(f"explorer: the truth lacks segment {row['segment']!r} or class {row['class_name']!r}")
        rows, inverse = np.unique(place, return_inverse=True)
        values = truth.dense(rows)[inverse, column] if len(rows) else np.zeros(0)
        return [_word(value) for value in values]
    if not isinstance(truth, pd.DataFrame):
        store = truth if isinstance(truth, Store) else open_store(truth, create=False)
        said = store.judgements().sort_values("at", kind="stable")
        truth = said.assign(verdict=[_word(value) for value in said["value"]])
    if not {"segment", "class_name", "verdict"} <= set(truth.columns) or not set(truth["verdict"]) <= set(VALUES):
        raise AudiotkError(
            f"explorer: expected verdicts as a table segment, class_name, verdict ({', '.join(VALUES)}), Labels or a "
            f"store; got columns {list(truth.columns)}"
        )
    told = truth.drop_duplicates(["segment", "class_name"], keep="last").set_index(["segment", "class_name"])["verdict"]
    keys = pd.MultiIndex.from_frame(sample[["segment", "class_name"]])
    return [str(word) for word in told.reindex(keys).fillna("")]


def _word(value: float) -> str:
    return WORDS[None if np.isnan(value) else int(value)]


def still_firing(points: pd.DataFrame, found: pd.DataFrame, thresholds: Any = None) -> np.ndarray:
    """Which points fire after retraining, bool (n,).

    With false positives of the new model: where one of the same class and recording overlaps the event. With scores:
    where the score of the peak segment is above the threshold.

    Raises
    ------
    AudiotkError
        Neither kind of table, or scores without thresholds, or without a segment or class of the points.
    """
    if not isinstance(found, pd.DataFrame):
        raise AudiotkError(f"after: expected false positives or scores, got {type(found).__name__}")
    if {"recording", "class_name", "event_start_s", "event_end_s"} <= set(found.columns):
        return _overlapping(points, found)
    if thresholds is None:
        raise AudiotkError("after: scores need thresholds, one for all classes or one for each")
    row = found.index.get_indexer(pd.Index(points["segment"]))
    column = found.columns.get_indexer(pd.Index(points["class_name"]))
    if (lost := (row < 0) | (column < 0)).any():
        one = points[lost].iloc[0]
        raise AudiotkError(
            f"after: the scores lack segment {one['segment']!r} or class {one['class_name']!r} "
            f"({int(lost.sum()):,} points in all); score the segments of the points"
        )
    level = np.asarray(class_thresholds(thresholds, found.columns), dtype=float)
    return np.asarray(found.to_numpy()[row, column] > level[column])


def _overlapping(points: pd.DataFrame, found: pd.DataFrame) -> np.ndarray:
    still = np.zeros(len(points), dtype=bool)
    names = ["recording", "class_name"]
    new = dict(iter(found.groupby(names, sort=False)))
    for key, part in points.groupby(names, sort=False):
        if key not in new:
            continue
        start, end = (new[key][name].to_numpy(dtype=float) for name in ("event_start_s", "event_end_s"))
        own_start, own_end = (part[name].to_numpy(dtype=float) for name in ("event_start_s", "event_end_s"))
        overlap = (own_start[:, None] < end[None]) & (start[None] < own_end[:, None])  # (points, events)
        still[part.index] = overlap.any(axis=1)
    return still
