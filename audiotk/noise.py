"""Known noise on known labels: simulated raters and teachers, injected errors, and how many of them a rule repairs.

Where the truth is known, a rule can be judged by itself, without training anything: which of its corrections are right,
which of its masks hide an error, and how many errors it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit, logit, ndtri

from audiotk.errors import AudiotkError
from audiotk.ontology import Ontology
from audiotk.tristate import Labels

PRESENT, ABSENT, UNKNOWN = 1, 2, 3  # codes of `Labels.cells`
Rate = float | Mapping[str, float] | pd.Series


def simulate_raters(
    labels: Labels,
    ontology: Ontology,
    parent_rate: Any,
    general_rate: Any,
    miss_rate: Any,
    rng: np.random.Generator,
    raters: int = 3,
) -> dict[str, Labels]:
    """What raters tick who know the truth but are careless about the hierarchy.

    The same model as :func:`audiotk.datasets.raters.tick`, for all segments at once. Each present cell is missed with
    probability `miss_rate`; else, with probability `general_rate`, one of its direct parents is ticked in its place
    (it stays where it has none). Then each direct parent of a ticked class is ticked with probability `parent_rate`,
    drawn once for a parent however many of its children are ticked, and so on upwards. Only classes of `labels` are
    ticked, and no abstract ones: where a direct parent is neither, climbing ends.

    Parameters
    ----------
    labels
        The truth: its most specific classes, (n_segments, n_classes). Only present cells matter.
    ontology
        Holds all classes of `labels`.
    parent_rate, general_rate, miss_rate
        Probabilities, one for all raters or one for each.
    rng
        Source of chance.
    raters
        How many, at most 26.

    Returns
    -------
    dict
        "rater:A", "rater:B", ... -> Labels of the same shape: present where ticked, else absent.

    Raises
    ------
    AudiotkError
        A class is not in the ontology, a rate is no probability, or `raters` is out of range.
    """
    if not 1 <= raters <= len(ascii_uppercase):
        raise AudiotkError(f"raters: expected 1 to {len(ascii_uppercase)}, got {raters}")
    named = {"parent_rate": parent_rate, "general_rate": general_rate, "miss_rate": miss_rate}
    rates = np.stack([_probabilities(np.atleast_1d(value), name, raters) for name, value in named.items()], axis=1)
    abstract = ontology.nodes["abstract"].to_numpy(dtype=bool)[ontology.positions(labels.classes)]
    child, parent = ontology.direct(labels.classes).nonzero()
    may, n_classes = ~abstract[parent], len(labels.classes)
    up = sparse.coo_array((may[may], (child[may], parent[may])), shape=(n_classes, n_classes)).tocsr()
    present = _keys(labels, PRESENT)
    ticked = {}
    for letter, (p, g, m) in zip(ascii_uppercase, rates, strict=False):
        row, col = np.divmod(_tick(present, up, p, g, m, rng), n_classes)
        ticked[f"rater:{letter}"] = Labels.from_cells(
            labels.segments, labels.classes, row, col, np.ones(len(row)), default=0.0
        )
    return ticked


def inject(
    labels: Labels,
    missing: Rate = 0.0,
    wrong: Rate = 0.0,
    confusion: pd.DataFrame | None = None,
    *,
    rng: np.random.Generator,
) -> Labels:
    """Labels with errors at stated rates; unknown cells stay unknown.

    Each present cell is first confused: named another class, by the probabilities of its row of `confusion`. One that
    is not becomes absent with its class's rate `missing`. Each absent cell becomes present with its class's rate
    `wrong`, or because another class was confused with it. All draws are independent.

    Parameters
    ----------
    labels
        Clean labels.
    missing, wrong
        A probability, or one for each class named (0 for the others), as a dict or Series.
    confusion
        Index true class, columns class named instead, values probabilities. The diagonal does not count; what a row
        lacks to 1 is the probability to stay.
    rng
        Source of chance.

    Raises
    ------
    AudiotkError
        A class is unknown, or a rate or the sum of a row is no probability.
    """
    n_classes = len(labels.classes)
    missing_rate, wrong_rate = _by_class(missing, "missing", labels), _by_class(wrong, "wrong", labels)
    row, col = np.divmod(_keys(labels, PRESENT), n_classes)
    named = _confuse(col, confusion, labels, rng)
    kept = (named == col) & (rng.random(len(col)) >= missing_rate[col])
    moved = (row * n_classes + named)[named != col]
    unknown, absent = _keys(labels, UNKNOWN), _keys(labels, ABSENT)
    if labels.default == 0:
        moved = moved[~_among(moved, unknown)]
    else:  # all that is not stored is unknown
        moved = moved[_among(moved, _unique(absent, row * n_classes + col))]
    present = _unique((row * n_classes + col)[kept], moved, _wrong(labels, wrong_rate, rng))
    absent = _unique(absent, row * n_classes + col)
    absent = absent[~_among(absent, present)]
    row, col = np.divmod(np.concatenate([present, absent, unknown]), n_classes)
    values = np.repeat([1.0, 0.0, np.nan], [len(present), len(absent), len(unknown)])
    return Labels.from_cells(labels.segments, labels.classes, row, col, values, labels.default)


def simulate_teacher(
    truth: Labels, auc: float, rng: np.random.Generator, labels: Labels | None = None, repeats: float = 0.0
) -> pd.DataFrame:
    """Scores of a made-up teacher of known quality.

    The logit of a score is normally distributed, with the same spread where a class is present and where it is absent,
    so that the area under the ROC curve is `auc` and the score is calibrated: of the cells with score p, a share p is
    present. Errors are independent. A teacher that has learnt from wrong labels repeats some: a cell where `labels` are
    wrong is scored with probability `repeats` as if they were right; `auc` then holds for the rest.

    Parameters
    ----------
    truth, auc
        Labels without unknown cells, and a number in [0.5, 1), the same for each class.
    labels, repeats
        Labels of the same segments and classes, and the share of their errors that is repeated.

    Returns
    -------
    DataFrame
        float32 (n_segments, n_classes).

    Raises
    ------
    AudiotkError
        The truth holds unknown cells, `labels` have other segments or classes, or a number is out of range.
    """
    if not 0.5 <= auc < 1 or not 0 <= repeats <= 1:
        raise AudiotkError(f"teacher: expected 0.5 <= auc < 1 and 0 <= repeats <= 1, got {auc} and {repeats}")
    if truth.counts()["unknown"].any():
        raise AudiotkError("teacher: the truth holds unknown cells; leave their segments or classes out")
    apart, there = float(np.sqrt(2) * ndtri(auc)), _keys(truth, PRESENT)
    z = rng.standard_normal(truth.shape, dtype=np.float32)
    z.ravel()[there] += apart
    if labels is not None:
        if not (labels.segments.equals(truth.segments) and labels.classes.equals(truth.classes)):
            raise AudiotkError("teacher: expected labels of the segments and classes of the truth, in the same order")
        said, unsaid = _keys(labels, PRESENT), _keys(labels, UNKNOWN if labels.default == 0 else ABSENT)
        missing = there[~_among(there, said) & (_among(there, unsaid) != (labels.default == 0))]
        wrong = said[~_among(said, there)]
        z.ravel()[missing[rng.random(len(missing)) < repeats]] -= apart
        z.ravel()[wrong[rng.random(len(wrong)) < repeats]] += apart
    share = np.bincount(there % len(truth.classes), minlength=len(truth.classes)) / max(len(truth.segments), 1)
    prior = logit(np.clip(share, 1e-6, 1 - 1e-6)).astype(np.float32)
    return pd.DataFrame(expit(apart * z + (prior - apart**2 / 2)), index=truth.segments, columns=truth.classes)


def repair_quality(truth: Labels, before: Labels, after: Labels) -> pd.DataFrame:
    """How well a rule repaired labels whose truth is known.

    An *error* is a cell that is judged before and not as in the truth. Cells whose truth is unknown do not count.

    Parameters
    ----------
    truth
        Its classes are those that count.
    before, after
        Labels of the same segments, in any order. A class of the truth that they lack has their default everywhere.

    Returns
    -------
    DataFrame
        One row a class, then "(all)", all cells together, and "(mean)", the mean over classes (undefined ratios left
        out). Columns:

        - judged (cells judged before), missing (errors: absent but true), wrong (errors: present but untrue)
        - corrected (cells that became present or absent and were not so before), corrected_right (those that are now
          as in the truth)
        - repaired (errors that are now as in the truth)
        - masked (cells that became unknown), masked_errors (those that were errors)
        - left (errors after)
        - correction_precision = corrected_right / corrected; correction_recall = repaired / errors
        - mask_precision = masked_errors / masked; mask_recall = masked_errors / errors
        - chance = errors / judged: the mask_precision to expect of a random mask; in "(all)", of one that hides as many
          cells of each class as the rule

    Raises
    ------
    AudiotkError
        Segments differ, or `before` or `after` has a class that the truth lacks.
    """
    n = _joint_counts(truth, before, after)  # (n_classes, 3, 3, 3): truth, before, after as present, absent, unknown
    n = np.concatenate([n, n.sum(axis=0, keepdims=True)])
    known = n[:, :2]
    same = np.eye(2, 3, dtype=bool)  # [t, x]: x is judged as in the truth t
    other = np.zeros((2, 3), dtype=bool)
    other[[0, 1], [1, 0]] = True

    def count(t_b: np.ndarray, t_a: np.ndarray, changed: bool = False) -> np.ndarray:
        """Cells whose truth and before fulfil `t_b`, and truth and after `t_a`, both (2, 3)."""
        wanted = t_b[:, :, None] & t_a[:, None, :]
        if changed:
            wanted = wanted & ~np.eye(3, dtype=bool)
        return (known * wanted).sum(axis=(1, 2, 3))

    every, judged = np.ones((2, 3), dtype=bool), same | other
    masked = ~judged
    table = pd.DataFrame({"judged": count(judged, every)}, index=pd.Index([*truth.classes, "(all)"], name="class_name"))
    table["missing"], table["wrong"] = known[:, 0, 1].sum(axis=1), known[:, 1, 0].sum(axis=1)
    table["corrected"], table["corrected_right"] = count(every, judged, True), count(every, same, True)
    table["repaired"] = count(other, same)
    table["masked"], table["masked_errors"] = count(judged, masked), count(other, masked)
    table["left"] = count(every, other)
    errors = table["missing"] + table["wrong"]
    ratios = {
        "correction_precision": (table["corrected_right"], table["corrected"]),
        "correction_recall": (table["repaired"], errors),
        "mask_precision": (table["masked_errors"], table["masked"]),
        "mask_recall": (table["masked_errors"], errors),
        "chance": (errors, table["judged"]),
    }
    for name, (above, below) in ratios.items():
        table[name] = above / below.astype("float64").where(below > 0)
    by_class = table.iloc[:-1]
    pooled = (
        np.average(by_class["chance"].fillna(0.0), weights=by_class["masked"]) if by_class["masked"].any() else np.nan
    )
    table.loc["(all)", "chance"] = pooled
    return pd.concat([table, by_class.mean().to_frame("(mean)").T]).rename_axis("class_name")


# --- cells as numbers: row * n_classes + class ------------------------------------------------------------------------


def _keys(labels: Labels, code: int) -> np.ndarray:
    """Sorted int64 keys of the stored cells with this code."""
    cells = labels.cells
    row = np.repeat(np.arange(cells.shape[0], dtype=np.int64), np.diff(cells.indptr))
    return np.sort((row * cells.shape[1] + cells.indices)[cells.data == code])


def _unique(*keys: np.ndarray) -> np.ndarray:
    """Sorted, each once; by sorting, as numpy's hash table takes half a second for a million such keys."""
    every = np.sort(np.concatenate(keys))
    return every[np.diff(every, prepend=-1) > 0]


def _among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of `keys` are in `known`, which is sorted."""
    at = np.searchsorted(known, keys)
    there = at < len(known)
    there[there] = known[at[there]] == keys[there]
    return there


def _tick(present: np.ndarray, up: sparse.csr_array, p: float, g: float, m: float, rng: np.random.Generator) -> Any:
    """Keys that one rater ticks; `up` [i, j]: j is a direct parent of i that may be ticked."""
    n_classes, n_parents = up.shape[0], np.diff(up.indptr)
    row, col = np.divmod(present[rng.random(len(present)) >= m], n_classes)
    general = np.flatnonzero((rng.random(len(col)) < g) & (n_parents[col] > 0))
    which = (rng.random(len(general)) * n_parents[col[general]]).astype(np.int64)
    col[general] = up.indices[up.indptr[col[general]] + which]
    new = ticked = decided = _unique(row * n_classes + col)
    while len(new):
        row, col = np.divmod(new, n_classes)
        count = n_parents[col]
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        asked = _unique(np.repeat(row, count) * n_classes + up.indices[np.repeat(up.indptr[col], count) + nth])
        asked = asked[~_among(asked, decided)]
        decided = _unique(decided, asked)
        new = asked[rng.random(len(asked)) < p]
        ticked = np.concatenate([ticked, new])
    return ticked


def _confuse(col: np.ndarray, confusion: pd.DataFrame | None, labels: Labels, rng: np.random.Generator) -> np.ndarray:
    """The class named instead of each class in `col`, mostly itself."""
    if confusion is None:
        return col
    source, target = (_positions(names, labels, "confusion") for names in (confusion.index, confusion.columns))
    chance = np.zeros((len(labels.classes),) * 2)
    chance[np.ix_(source, target)] = confusion.to_numpy(dtype=np.float64)
    np.fill_diagonal(chance, 0.0)
    bad = ~((chance >= 0).all(axis=1) & (chance.sum(axis=1) <= 1 + 1e-9))
    if bad.any():
        name = labels.classes[int(bad.argmax())]
        raise AudiotkError(f"confusion: row {name!r}: expected probabilities >= 0 that add up to at most 1")
    reach = np.cumsum(chance, axis=1)  # [a, b]: a draw below it names b or a class before it
    draw = rng.random(len(col))
    named = col.copy()
    for a in np.flatnonzero(reach[:, -1]):
        mine = np.flatnonzero(col == a)
        at = np.searchsorted(reach[a], draw[mine], side="right")
        named[mine] = np.where(at < reach.shape[1], at, a)
    return named


def _wrong(labels: Labels, rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keys of absent cells that become present, each with its class's rate."""
    n_segments, n_classes = labels.shape
    columns = labels.cells.tocsc()
    found = [np.zeros(0, dtype=np.int64)]
    for c in np.flatnonzero(rates):
        part = slice(columns.indptr[c], columns.indptr[c + 1])
        rows, codes = columns.indices[part].astype(np.int64), columns.data[part]
        if labels.default == 0:
            taken = np.sort(rows[codes != ABSENT])
            size = n_segments - len(taken)
            drawn = rng.choice(size, rng.binomial(size, rates[c]), replace=False, shuffle=False)
            rows = drawn + np.searchsorted(taken - np.arange(len(taken)), drawn, side="right")  # the n-th free row
        else:
            rows = rows[codes == ABSENT]
            rows = rng.choice(rows, rng.binomial(len(rows), rates[c]), replace=False, shuffle=False)
        found.append(rows * n_classes + c)
    return np.concatenate(found)


def _joint_counts(truth: Labels, before: Labels, after: Labels) -> np.ndarray:
    """Number of segments by class, truth, before and after: int64 (n_classes, 3, 3, 3), states in the order of codes.

    The three codes of a cell become one number, so that only stored cells are visited.
    """
    n_segments, n_classes = truth.shape
    three = (truth.cells, _as_in(before, truth, "before"), _as_in(after, truth, "after"))
    joint = sparse.csr_array(sum(part.astype(np.int8) * np.int8(4**k) for k, part in enumerate(three)))
    counts = np.bincount(joint.indices * np.int64(64) + joint.data, minlength=64 * n_classes).reshape(n_classes, 64)
    counts[:, 0] = n_segments - counts[:, 1:].sum(axis=1)
    split = counts.reshape(n_classes, 4, 4, 4).transpose(0, 3, 2, 1)  # class, truth, before, after
    for axis, labels in enumerate((truth, before, after), start=1):
        split = np.moveaxis(split, axis, 0).copy()
        split[ABSENT if labels.default == 0 else UNKNOWN] += split[0]
        split = np.moveaxis(split, 0, axis)
    return split[:, 1:, 1:, 1:]


def _as_in(labels: Labels, truth: Labels, which: str) -> sparse.csr_array:
    """Cells of `labels` in the order of the truth's segments and classes; a class that is not there is empty."""
    if surplus := sorted(set(labels.classes) - set(truth.classes)):
        raise AudiotkError(f"{which}: the truth says nothing about {len(surplus)} class(es), first {surplus[0]!r}")
    if labels.classes.equals(truth.classes) and labels.segments.equals(truth.segments):
        return labels.cells
    if len(labels.segments) != len(truth.segments):
        raise AudiotkError(f"{which}: expected the {len(truth.segments)} segments of the truth, got {labels.shape[0]}")
    cells = labels.select(truth.segments).cells.tocoo()
    place = _positions(labels.classes, truth, which)
    return sparse.csr_array(sparse.coo_array((cells.data, (cells.row, place[cells.col])), shape=truth.shape))


# --- rates ------------------------------------------------------------------------------------------------------------


def _probabilities(values: Any, name: str, size: int) -> np.ndarray:
    """`values`, one or `size` of them, as float64 (size,)."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape not in {(1,), (size,)} or not ((values >= 0) & (values <= 1)).all():
        raise AudiotkError(f"{name}: expected 1 or {size} probabilities in [0, 1], got {values.tolist()}")
    return np.broadcast_to(values, size)


def _by_class(rate: Rate, name: str, labels: Labels) -> np.ndarray:
    """The rate of each class, float64 (n_classes,)."""
    size = len(labels.classes)
    if not isinstance(rate, Mapping | pd.Series):
        return _probabilities(np.atleast_1d(rate), name, size)
    given = pd.Series(rate, dtype=np.float64)
    rates = np.zeros(size)
    rates[_positions(given.index, labels, name)] = given.to_numpy()
    return _probabilities(rates, name, size)


def _positions(names: Any, labels: Labels, what: str) -> np.ndarray:
    at = labels.classes.get_indexer(pd.Index(names, dtype="str"))
    if (at < 0).any():
        raise AudiotkError(
            f"{what}: {pd.Index(names)[at < 0][0]!r} is not among the classes {list(labels.classes[:5])}..."
        )
    return at
