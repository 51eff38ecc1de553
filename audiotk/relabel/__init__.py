"""Repair labels by rule: each rule is a function of labels that returns new labels and an audit of what it changed.

By hierarchy (:mod:`audiotk.relabel.hierarchy`): :func:`parent_expand`, :func:`mask_children`, :func:`pe_cml`. By the
scores of a teacher, here: :func:`correct` and the rules it is compared with. S. Braun, H. Gamper, "Multi-label audio
classification with a noisy zero-shot teacher" (arXiv:2407.14712, here P1). The rules read values only: an absent cell
is one of value 0, whether somebody said so or it is the default. An unknown cell stays unknown. All inequalities are
strict; how a threshold is compared with float16 scores is said in :mod:`audiotk.scores`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from audiotk.ontology import Ontology
from audiotk.relabel.audit import Audit as Audit
from audiotk.relabel.audit import Relabeled as Relabeled
from audiotk.relabel.audit import compose as compose
from audiotk.relabel.audit import overlay
from audiotk.relabel.audit import record as record
from audiotk.relabel.hierarchy import coselected as coselected
from audiotk.relabel.hierarchy import coselection as coselection
from audiotk.relabel.hierarchy import mask_children as mask_children
from audiotk.relabel.hierarchy import parent_expand as parent_expand
from audiotk.relabel.hierarchy import pe_cml as pe_cml
from audiotk.relabel.hierarchy import statistics as statistics
from audiotk.scores import Scores, comparable, exceeds, open_scores
from audiotk.tables import AudiotkError, Labels

PRESENT, ABSENT, UNKNOWN = 1, 2, 3  # codes, see Labels
MODES = ("keep", "correct", "mask", "correct+mask")
# New code by code (row) and proposal (column: the new code): the rules below decide beforehand.
SET = np.array([[0, 1, 2, 3]] * 4, dtype=np.int8)
SET[:, 0] = [0, 1, 2, 3]


def correct(
    labels: Labels,
    scores: Any,
    threshold: float | Mapping[str, float] | pd.Series = 0.05,
    missing: str = "correct+mask",
    wrong: str = "keep",
) -> Relabeled:
    """Where a teacher contradicts a label: correct it if the teacher is sure, mask it if not (P1, eq. 4-7).

    With threshold T and score p, all inequalities strict, anything else unchanged; rule ``correct``:

    ========= ============================== ==================================
    label     "correct"                      "mask"
    ========= ============================== ==================================
    0 missing p > 1 - T: 1 (eq. 4)           0.5 < p < 1 - T: unknown (eq. 6)
    1 wrong   p < T: 0 (eq. 5)               T < p < 0.5: unknown (eq. 7)
    ========= ============================== ==================================

    Parameters
    ----------
    labels
        Shape (n_segments, n_classes).
    scores
        What :func:`audiotk.scores.open_scores` takes: DataFrame, Parquet file, Scores.
    threshold
        T in [0, 0.5], P1: 0.05; or one for each class. T is the decimal number that it is shown as (also a float32),
        and 1 - T is computed in decimal (1 - 0.07 is 0.93).
    missing, wrong
        ``"keep"``, ``"correct"``, ``"mask"`` (alone it leaves labels that the teacher is sure about) or
        ``"correct+mask"``. The defaults are P1's best.

    Raises
    ------
    AudiotkError
        A score is NaN or outside [0, 1], scores and labels do not match, or an option is out of range.
    """
    for name, mode in (("missing", missing), ("wrong", wrong)):
        if mode not in MODES:
            raise AudiotkError(f"correct: expected {name} to be one of {MODES}, got {mode!r}")
    exact = _thresholds(labels, threshold)
    low, high = [float(one) for one in exact], [float(1 - one) for one in exact]
    cells = _Columns(labels)

    def decide(place: int, raw: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        values, t, half, one_t = comparable(raw, low[place], 0.5, high[place])
        if missing != "keep":
            rows = cells.absent(place, np.flatnonzero(values > min(half, one_t)))
            some = values[rows]
            if "correct" in missing:
                yield rows[some > one_t], PRESENT
            if "mask" in missing:
                yield rows[(some > half) & (some < one_t)], UNKNOWN
        if wrong != "keep":
            rows = cells.present(place)
            some = values[rows]
            if "correct" in wrong:
                yield rows[some < t], ABSENT
            if "mask" in wrong:
                yield rows[(some > t) & (some < half)], UNKNOWN

    return _by_class("correct", labels, open_scores(scores), decide)


def percentile(labels: Labels, scores: Any, q: float = 5, mode: str = "mask") -> Relabeled:
    """The `q` percent highest scores among the absent cells of each class become unknown (or present).

    E. Fonseca et al., "Addressing missing labels in large-scale sound event recognition using a teacher-student
    framework with loss masking", IEEE SPL 27:1235 (2020). Of the n absent cells of a class, ceil(q / 100 * n) are taken
    (computed exactly); of equal scores those with the smaller segment id. Rule ``percentile``.

    Parameters
    ----------
    labels, scores
        As for :func:`correct`.
    q
        In [0, 100]; 5 in the paper.
    mode
        ``"mask"`` (the paper) or ``"correct"`` (P1's variant).
    """
    percent = _exact(q, 100)
    if percent is None or mode not in ("mask", "correct"):
        raise AudiotkError(f"percentile: expected q in [0, 100] and mode 'mask' or 'correct', got {q!r} and {mode!r}")
    share = Fraction(percent) / 100
    cells, rank = _Columns(labels), _Rank(labels.segments)
    new = UNKNOWN if mode == "mask" else PRESENT

    def decide(place: int, raw: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        rows = cells.absent(place)
        if count := math.ceil(share * len(rows)):
            values = comparable(raw)[0][rows]
            border = np.partition(values, len(values) - count)[len(values) - count]
            above, level = rows[values > border], rows[values == border]
            if len(above) + len(level) > count:
                level = level[np.argsort(rank[level])[: count - len(above)]]
            yield np.sort(np.concatenate([above, level])), new

    return _by_class("percentile", labels, open_scores(scores), decide)


def mean_threshold(
    labels: Labels,
    scores: Any,
    statistic: str | float = "mean",
    scope: str = "any",
    ontology: Ontology | None = None,
) -> Relabeled:
    """An absent cell becomes present if its score is above what is usual where its class is present.

    Y. Gong, Y.-A. Chung, J. Glass, "PSLA: improving audio tagging with pretraining, sampling, labeling, and
    aggregation", IEEE/ACM TASLP 29:3292 (2021). The threshold of a class is the mean (in float64) of its scores over
    the segments where it is present; a class that is never present has none and is left alone. Rule
    ``mean-threshold``.

    Parameters
    ----------
    labels, scores
        As for :func:`correct`.
    statistic
        ``"mean"``, ``"median"`` or a percentile in [0, 100] (linear between two scores).
    scope
        ``"any"`` class (P1's reading) or ``"ontology"`` (PSLA's own): just direct children and all ancestors of the
        classes that are present in the segment before the rule.
    ontology
        For ``scope="ontology"``.
    """
    exact = _exact(statistic, 100)
    if exact is None and not (isinstance(statistic, str) and statistic in ("mean", "median")):
        raise AudiotkError(f"mean_threshold: expected 'mean', 'median' or a percentile 0 to 100, got {statistic!r}")
    if scope not in ("any", "ontology") or (scope == "ontology") != (ontology is not None):
        raise AudiotkError(f"mean_threshold: expected scope 'any', or 'ontology' and an ontology, got {scope!r}")
    cells = _Columns(labels)
    related = None
    if ontology is not None:  # [j, k]: class j may be added where k is present
        related = sparse.csr_array(ontology.direct(labels.classes) + ontology.closure(labels.classes).T)

    def decide(place: int, raw: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        known = raw[cells.present(place)].astype(np.float64)
        if not len(known):
            return
        above = exceeds(raw, _level(known, statistic if exact is None else float(exact)))
        if related is not None:
            near = np.zeros(len(raw), dtype=bool)
            for other in related[[place]].indices:
                near[cells.present(other)] = True
            above &= near
        yield cells.absent(place, np.flatnonzero(above)), PRESENT

    return _by_class("mean-threshold", labels, open_scores(scores), decide)


def cross_fit(
    fit_predict: Callable[[pd.Index, pd.Index], pd.DataFrame],
    labels: Labels,
    groups: pd.Series,
    folds: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Scores of every segment by a teacher that has not been trained on it.

    Parameters
    ----------
    fit_predict
        Ids of segments to train on, ids of segments to score -> scores (index segment, one float column a class).
    labels
        Its segments and classes are those of the result.
    groups
        Index segment: what must not be divided between folds (recording, person, upload).
    folds
        At least 2. Groups in random order go to the fold with the fewest segments.
    rng
        Source of the order; the order of the rows makes no difference.

    Returns
    -------
    pandas.DataFrame
        Index the segments of the labels, columns their classes.

    Raises
    ------
    AudiotkError
        Fewer groups than folds, a segment without group, or `fit_predict` returns other segments or classes, or a score
        that is NaN or outside [0, 1].
    """
    if groups.index.has_duplicates:
        raise AudiotkError(f"cross_fit: segment {groups.index[groups.index.duplicated()][0]!r} has two rows of groups")
    group = groups.reindex(labels.segments)
    if group.isna().any():
        raise AudiotkError(f"cross_fit: segment {group.index[group.isna()][0]!r} has no group")
    sizes = group.value_counts().sort_index()
    if not 2 <= folds <= len(sizes):
        raise AudiotkError(f"cross_fit: expected 2 to {len(sizes)} folds (there are so many groups), got {folds}")
    load, fold_of = np.zeros(folds, dtype=np.int64), {}
    for place in rng.permutation(len(sizes)):
        fold_of[sizes.index[place]] = smallest = int(load.argmin())
        load[smallest] += sizes.iloc[place]
    fold = group.map(fold_of).to_numpy()
    parts = []
    for number in range(folds):
        mine = fold == number
        part = fit_predict(labels.segments[~mine], labels.segments[mine])
        some = labels.select(labels.segments[mine])
        columns = [values for _, values in open_scores(part).columns(some)]
        parts.append(pd.DataFrame(np.stack(columns, axis=1), index=some.segments, columns=labels.classes))
    return pd.concat(parts).loc[labels.segments]


# --- within -----------------------------------------------------------------------------------------------------------


class _Columns:
    """The cells of labels by class."""

    def __init__(self, labels: Labels) -> None:
        self._cells = sparse.csc_array(labels.cells)
        self._stored_only = np.isnan(labels.default)
        self._taken = np.zeros(len(labels.segments), dtype=bool)

    def _rows(self, place: int, *codes: int) -> np.ndarray:
        some = slice(*self._cells.indptr[place : place + 2])
        rows = self._cells.indices[some]
        return np.sort(rows[np.isin(self._cells.data[some], codes)])

    def present(self, place: int) -> np.ndarray:
        """Rows in which class `place` has value 1."""
        return self._rows(place, PRESENT)

    def absent(self, place: int, among: np.ndarray | None = None) -> np.ndarray:
        """Rows in which class `place` has value 0, of those `among` (rising)."""
        if self._stored_only:
            rows = self._rows(place, ABSENT)
            return rows if among is None else rows[np.isin(rows, among, assume_unique=True)]
        other = self._rows(place, PRESENT, UNKNOWN)
        self._taken[other] = True
        rows = np.flatnonzero(~self._taken) if among is None else among[~self._taken[among]]
        self._taken[other] = False
        return rows


class _Rank:
    """Rank of a segment by its id; computed when first asked for, since it takes seconds for millions."""

    def __init__(self, segments: pd.Index) -> None:
        self._segments = segments
        self._rank: np.ndarray | None = None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        if self._rank is None:
            order = pc.sort_indices(pa.array(self._segments, type=pa.large_string())).to_numpy()
            self._rank = np.empty(len(order), dtype=np.int32)
            self._rank[order] = np.arange(len(order), dtype=np.int32)
        return self._rank[rows]


def _exact(value: Any, top: float) -> Decimal | None:
    """A number in [0, top] as it is shown: for a float the shortest decimal that reads as it; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating | Decimal):
        return None
    exact = Decimal(str(value))
    return exact if exact.is_finite() and 0 <= exact <= top else None


def _thresholds(labels: Labels, threshold: float | Mapping[str, float] | pd.Series) -> list[Decimal]:
    """One threshold a class."""
    if isinstance(threshold, pd.Series):
        names, values = list(threshold.index), list(threshold.to_numpy())  # items() would widen a float32
    elif isinstance(threshold, Mapping):
        names, values = list(threshold), list(threshold.values())
    else:
        names, values = list(labels.classes), [threshold] * len(labels.classes)
    given = dict(zip(map(str, names), values, strict=True))
    if len(given) < len(names):
        twice = next(name for name, count in Counter(map(str, names)).items() if count > 1)
        raise AudiotkError(f"correct: class {twice!r} has more than one threshold; give one for each class")
    if odd := sorted(set(labels.classes) ^ set(given)):
        raise AudiotkError(
            f"correct: expected one threshold for each class of the labels; {odd[0]!r} "
            f"{'has none' if odd[0] in labels.classes else 'is not among them'} ({len(odd)} such)"
        )
    found = []
    for name in labels.classes:
        exact = _exact(given[name], 0.5)
        if exact is None:
            raise AudiotkError(f"correct: class {name!r}: expected a threshold in [0, 0.5], got {given[name]!r}")
        found.append(exact)
    return found


def _level(values: np.ndarray, statistic: str | float) -> float:
    """Mean, median or percentile of float64 values; it does not depend on their order."""
    if statistic == "mean":
        return float(np.clip(math.fsum(values) / len(values), values.min(), values.max()))
    return float(np.percentile(values, 50 if isinstance(statistic, str) else statistic))


Decide = Callable[[int, np.ndarray], Iterator[tuple[np.ndarray, int]]]


def _by_class(rule: str, labels: Labels, scores: Scores, decide: Decide) -> Relabeled:
    """Apply what `decide` says for each class and its scores: rows and their new code."""
    proposal = _proposal(labels, scores, decide)
    return overlay(rule, labels, lambda some: proposal[some], SET)


def _proposal(labels: Labels, scores: Scores, decide: Decide) -> sparse.csr_array:
    """New codes of the cells that `decide` wants to change."""
    rows, codes, ends = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)], [0]
    for place, values in scores.columns(labels):
        found = 0
        for some, code in decide(place, values):
            rows.append(some.astype(np.int32))
            codes.append(np.full(len(some), code, dtype=np.int8))
            found += len(some)
        ends.append(ends[-1] + found)
    indptr = np.array(ends, dtype=np.int32 if ends[-1] < 2**31 else np.int64)
    together = np.concatenate(codes), np.concatenate(rows)
    rows.clear()  # with tens of millions of cells, memory that counts
    codes.clear()
    return sparse.csr_array(sparse.csc_array((*together, indptr), shape=labels.shape))
