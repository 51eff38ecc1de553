"""Which cells of a teacher somebody listens to: a random sample of each class, drawn from four strata, and its order.

A teacher says "present" where its score is above the threshold of the class, else "absent". With what the label says,
a cell is of one of four strata; cells where both say absent, or where the teacher says absent of an unknown one, are
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiotk.scores import Scores, comparable
from audiotk.tables import AudiotkError, Labels
from audiotk.widgets.verdicts import MOST

STRATA = (("present", "present"), ("present", "absent"), ("present", "unknown"), ("absent", "present"))
PRESENT, ABSENT, UNKNOWN = 1, 2, 3  # codes of labels
ORDERS = ("disagreement", "score", "random")


def check_thresholds(
    thresholds: float | Mapping[str, float] | pd.Series, scored: pd.Index, classes: Sequence[str] | None
) -> dict[str, float]:
    """Threshold of each class that is reviewed, in the order of `classes` (default: of the scores); NaN leaves one out.

    Parameters
    ----------
    thresholds
        One for all classes, or one for each.
    scored
        The classes that have scores.
    classes
        Those of interest, default all.

    Raises
    ------
    AudiotkError
        A class is not among the scores, has no threshold, has one outside [0, 1], or none is left.
    """
    names = list(scored) if classes is None else [classes] if isinstance(classes, str) else list(dict.fromkeys(classes))
    if unknown := [name for name in names if name not in scored]:
        raise AudiotkError(f"review: class {unknown[0]!r} is not among the {len(scored)} of the scores")
    if isinstance(thresholds, (pd.Series, Mapping)):
        values = thresholds.to_numpy() if isinstance(thresholds, pd.Series) else thresholds.values()
        given = dict(zip(map(str, thresholds.keys()), values, strict=True))
        if len(given) < len(thresholds):
            raise AudiotkError("review: a class has more than one threshold; give one for each class")
        if unknown := [name for name in given if name not in scored]:
            raise AudiotkError(f"review: there is a threshold for {unknown[0]!r}, but the scores have no such class")
        if lost := [name for name in names if name not in given]:
            raise AudiotkError(f"review: class {lost[0]!r} has no threshold; give one, or NaN to leave the class out")
    else:
        given = dict.fromkeys(names, thresholds)
    found = {}
    for name in names:
        value = given[name]
        is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not is_number or value < 0 or value > 1:
            raise AudiotkError(f"review: class {name!r}: expected a threshold in [0, 1], or NaN, got {value!r}")
        if not np.isnan(value):
            found[name] = float(str(value))  # as it is shown: a float32 0.95 is 0.95
    if not found:
        raise AudiotkError("review: no class has a threshold, so there is nothing to review; give one that is not NaN")
    return found


def draw_cells(
    scores: Scores, labels: Labels | None, levels: Mapping[str, float], rng: np.random.Generator, per_class: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random sample of each class, and the strata from which it was drawn.

    Of each class `per_class` cells are drawn (all, if there are fewer), shared out over its strata as evenly as their
    sizes allow: so each has some, and the few cells in dispute are heard beside the many that are not. Within a stratum
    each cell is equally likely.

    Parameters
    ----------
    scores
        Of any number of segments; one class at a time is in memory.
    labels
        Whose segments all have scores. A segment or class that is not among them is unknown; None: everything is.
    levels
        Threshold of each class to be reviewed.
    rng
        Source of the draws; equal states draw equal cells.
    per_class
        At least one for each stratum: 4.

    Returns
    -------
    cells : DataFrame
        segment, class_name, score, threshold, teacher, label (present / absent / unknown), stratum (row of `strata`),
        judged_on (what was known, in words); in the order of classes, strata and scores' segments.
    strata : DataFrame
        class_name, teacher, label, cells, drawn: four rows a class.

    Raises
    ------
    AudiotkError
        `per_class` is too small, more cells than anybody listens to, or labels and scores do not fit.
    """
    if isinstance(per_class, bool) or not isinstance(per_class, (int, np.integer)) or per_class < len(STRATA):
        raise AudiotkError(f"review: expected per_class >= {len(STRATA)}, one for each stratum, got {per_class!r}")
    code_of = _Codes(scores, labels, list(levels))
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    numbers: list[int] = []  # of the stratum of each drawn cell
    strata: list[tuple[str, str, str, int, int]] = []
    for name, raw in scores.by_class(list(levels)):
        compared, level = comparable(raw, levels[name])
        fires, code = compared > level, code_of(name)
        parts = [fires & (code == PRESENT), fires & (code == ABSENT), fires & (code == UNKNOWN)]
        parts.append(~fires & (code == PRESENT))
        sizes = [int(part.sum()) for part in parts]
        for part, size, count in zip(parts, sizes, shares(sizes, per_class), strict=True):
            chosen = np.flatnonzero(part)[np.sort(rng.choice(size, count, replace=False))]
            rows.append(chosen)
            values.append(raw[chosen].astype(np.float64))
            numbers += [len(strata)] * count
            strata.append((name, *STRATA[len(strata) % len(STRATA)], size, count))
    if len(numbers) > MOST:
        raise AudiotkError(f"review: {len(numbers):,} cells would be drawn; expected at most {MOST:,} for one review")
    table = pd.DataFrame(strata, columns=["class_name", "teacher", "label", "cells", "drawn"])
    of = table.take(numbers).reset_index(drop=True)
    cells = pd.DataFrame({"segment": scores.segments.take(np.concatenate(rows)).array})
    cells["class_name"], cells["score"] = of["class_name"], np.concatenate(values)
    cells["threshold"] = of["class_name"].map(levels).astype("float64")
    cells["teacher"], cells["label"], cells["stratum"] = of["teacher"], of["label"], np.array(numbers, dtype=np.int64)
    cells["judged_on"] = [_in_words(row) for row in cells.to_dict("records")]
    return cells, table


def shares(sizes: Sequence[int], number: int) -> list[int]:
    """How many of `number` are drawn from each stratum: equally many, or all it has, the rest from the larger ones."""
    found = [0] * len(sizes)
    order = sorted((place for place, size in enumerate(sizes) if size), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        found[place] = min(sizes[place], number // (len(order) - done))
        number -= found[place]
    return found


def ranked(cells: pd.DataFrame, order: str, rng: np.random.Generator) -> pd.DataFrame:
    """The cells as they are shown, class after class.

    "disagreement": first what the teacher says against the label or without one (highest score first), then what it
    denies (lowest first), then where both agree; "score": the highest first; "random".
    """
    class_of = cells["stratum"].to_numpy() // len(STRATA)
    score = cells["score"].to_numpy()
    denied = (cells["teacher"] == "absent").to_numpy()
    agreed = (cells["teacher"] == cells["label"]).to_numpy()
    keys: tuple[np.ndarray, ...]
    if order == "random":
        keys = (rng.permutation(len(cells)), class_of)
    elif order == "score":
        keys = (-score, class_of)
    else:
        keys = (np.where(denied, score, -score), np.where(agreed, 2, np.where(denied, 1, 0)), class_of)
    return cells.iloc[np.lexsort(keys)].reset_index(drop=True)


def _in_words(row: Mapping[Any, Any]) -> str:
    """What was known of a cell when it was judged."""
    sign = ">" if row["teacher"] == "present" else "<="
    return f"{row['teacher']} (score {row['score']:.4g} {sign} {row['threshold']:.4g}), label {row['label']}"


class _Codes:
    """Codes of labels, class by class, in the order of the scores' segments."""

    def __init__(self, scores: Scores, labels: Labels | None, classes: list[str]) -> None:
        self._labels, self._count = labels, len(scores.segments)
        if labels is None:
            return
        if not labels.classes.isin(classes).any():
            raise AudiotkError(
                f"review: none of the classes {classes[:3]} is among those of the labels {list(labels.classes)[:3]}; "
                "are these labels of this data? None reviews without labels"
            )
        self._place: np.ndarray | None = None
        if not labels.segments.equals(scores.segments):
            self._place = scores.segments.get_indexer(labels.segments)
            if (lost := self._place < 0).any():
                raise AudiotkError(
                    f"{scores.name}: segment {labels.segments[lost][0]!r} of the labels has no scores "
                    f"({int(lost.sum())} such); score it, or leave it out of the labels with select()"
                )
        self._cells = labels.cells.tocsc()

    def __call__(self, class_name: str) -> np.ndarray:
        """1 present, 2 absent, 3 unknown: int8 (n_segments,)."""
        code = np.full(self._count, UNKNOWN, dtype=np.int8)
        if self._labels is None or class_name not in self._labels.classes:
            return code
        at = int(self._labels.classes.get_loc(class_name))
        mine = np.full(len(self._labels.segments), UNKNOWN if np.isnan(self._labels.default) else ABSENT, dtype=np.int8)
        stored = slice(self._cells.indptr[at], self._cells.indptr[at + 1])
        mine[self._cells.indices[stored]] = self._cells.data[stored]
        if self._place is None:
            return mine
        code[self._place] = mine
        return code
