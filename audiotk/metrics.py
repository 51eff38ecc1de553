"""How good are scores, measured against tri-state labels (1 present, 0 absent, NaN unknown)?

Rules that hold for every function here:

- an unknown cell never counts, whatever its score; how many cells counted is in the result (`masked` = left out);
- a class for which a number is undefined (no positive, no negative) has NaN and says why in `note`; means leave it
  out;
- a class *fires* on a segment when ``score > threshold``, strictly, as in the sources and in sed_scores_eval;
- `scores` and `labels` must hold the same segments and the same classes, in any order;
- names carry the direction: ``*_error`` and rates of false positives are better lower, all others better higher.

Row names in parentheses, "(all)" and "(none)", are not classes. Time ranges and events are in `audiotk.events`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from audiotk.tables import AudiotkError, Labels

ALL = "(all)"  # pooled over all classes
NONE = "(none)"  # segments on which every class was judged absent

Thresholds = float | pd.Series  # one for all classes, or one per class; NaN = leave this class out


class Aligned(NamedTuple):
    """Scores and labels in the same order, that of the labels."""

    scores: np.ndarray  # (n, C) float64, finite
    labels: np.ndarray  # (n, C) float32 in 1 / 0 / NaN
    segments: pd.Index  # (n,)
    classes: pd.Index  # (C,)


def aligned(scores: pd.DataFrame, labels: Labels | pd.DataFrame) -> Aligned:
    """Bring scores into the order of the labels, after checking both.

    Parameters
    ----------
    scores : DataFrame [shape=(n, C)]
        Finite numbers, index segment, columns classes.
    labels : Labels or DataFrame of 1 / 0 / NaN [shape=(n, C)]
        The same segments and classes, in any order.

    Raises
    ------
    AudiotkError
        Segments or classes missing, extra or duplicate; scores not finite, not numbers or float16 (its sigmoids tie,
        which sinks AP: science.md, section 7); label values other than 1, 0 and NaN.
    """
    if not isinstance(scores, pd.DataFrame):
        raise AudiotkError(f"scores must be a DataFrame (index segment, columns classes), got {type(scores).__name__}")
    if isinstance(labels, Labels):
        segments, classes, values = labels.segments, labels.classes, labels.dense()
    elif isinstance(labels, pd.DataFrame):
        segments, classes, values = labels.index, labels.columns, labels.to_numpy(np.float32, na_value=np.nan)
    else:
        raise AudiotkError(f"labels must be Labels or a DataFrame of 1 / 0 / NaN, got {type(labels).__name__}")
    wrong = values[np.isfinite(values) & (values != 0) & (values != 1) | np.isinf(values)]
    if len(wrong):
        raise AudiotkError(f"labels must be 1, 0 or NaN, but {len(wrong)} cells are not, the first is {wrong[0]}")
    rows = _positions("segments", scores.index, segments)
    columns = _positions("classes", scores.columns, classes)
    return Aligned(_finite(scores)[rows][:, columns], values, pd.Index(segments), pd.Index(classes))


def _positions(what: str, have: pd.Index, want: pd.Index) -> np.ndarray:
    """Positions in `have` (of the scores) of each entry of `want` (of the labels); both must be the same set."""
    for name, index in (("scores", have), ("labels", want)):
        if index.has_duplicates:
            twice = index[index.duplicated()]
            raise AudiotkError(f"{name} hold {len(twice)} duplicate {what}, the first is {twice[0]!r}")
    missing, extra = want.difference(have, sort=False), have.difference(want, sort=False)
    if len(missing) or len(extra):
        raise AudiotkError(
            f"scores and labels must hold the same {what}: labels have {len(want)}, scores have {len(have)}; "
            f"{len(missing)} missing from scores {_first(missing)}, {len(extra)} not in labels {_first(extra)}. "
            "Select the same ones on both sides first, for example labels.select(segments=scores.index)."
        )
    return have.get_indexer(want)


def _first(index: pd.Index) -> str:
    return str([*index[:2], "..."] if len(index) > 3 else list(index))


def _finite(scores: pd.DataFrame) -> np.ndarray:
    bad = [
        f"{name} is {dtype}" for name, dtype in scores.dtypes.items() if dtype.kind not in "fiu" or dtype == np.float16
    ]
    if bad:
        raise AudiotkError(
            f"scores must be float32 or float64 (float16 ties): column {bad[0]}; {len(bad)} such columns"
        )
    values = scores.to_numpy(np.float64)
    rows, columns = np.nonzero(~np.isfinite(values))
    if len(rows):
        raise AudiotkError(
            f"scores must be finite, but {len(rows)} cells are not; the first is {values[rows[0], columns[0]]} "
            f"at segment {scores.index[rows[0]]!r}, class {scores.columns[columns[0]]!r}"
        )
    return values


def class_thresholds(thresholds: Thresholds, classes: pd.Index) -> np.ndarray:
    """One threshold per class, in the order of `classes`; NaN where the class is to be left out.

    Raises
    ------
    AudiotkError
        A class of `classes` has no entry in `thresholds`.
    """
    if not isinstance(thresholds, pd.Series):
        return np.full(len(classes), float(thresholds))
    missing = classes.difference(thresholds.index, sort=False)
    if len(missing) or thresholds.index.has_duplicates:
        raise AudiotkError(
            f"thresholds must have one entry for each of the {len(classes)} classes, missing {_first(missing)}, "
            f"duplicate {_first(thresholds.index[thresholds.index.duplicated()])}"
        )
    return thresholds[classes].to_numpy(np.float64)


def _counts(y: np.ndarray, classes: pd.Index) -> pd.DataFrame:
    """Cells per class: positives, negatives, masked; and the note on what is undefined."""
    frame = pd.DataFrame({"positives": (y == 1).sum(axis=0), "negatives": (y == 0).sum(axis=0)}, index=classes)
    frame["masked"] = len(y) - frame.positives - frame.negatives
    no_positive, no_negative = frame.positives == 0, frame.negatives == 0
    frame["note"] = np.select(
        [no_positive & no_negative, no_positive, no_negative], ["nothing known", "no positive", "no negative"], ""
    )
    return frame.rename_axis("class_name")


def average_precision(scores: pd.DataFrame, labels: Labels | pd.DataFrame) -> pd.DataFrame:
    """Average precision per class: scikit-learn's, the step-wise sum over recall, ties taken as one step.

    Returns
    -------
    DataFrame, index class_name
        ap (float64, NaN if the class has no positive or no negative), positives, negatives, masked, note.

    Raises
    ------
    AudiotkError
        As `aligned`.
    """
    s, y, _, classes = aligned(scores, labels)
    frame = _counts(y, classes)
    defined = (frame.note == "").to_numpy()
    ap = np.full(len(classes), np.nan)
    for c in np.flatnonzero(defined):
        known = np.isfinite(y[:, c])
        ap[c] = average_precision_score(y[known, c].astype(int), s[known, c])
    frame.insert(0, "ap", ap)
    return frame


def mean_average_precision(scores: pd.DataFrame, labels: Labels | pd.DataFrame) -> float:
    """Macro mean of `average_precision` over the classes that have a positive and a negative.

    Raises
    ------
    AudiotkError
        No class has both; or as `aligned`.
    """
    frame = average_precision(scores, labels)
    if frame.ap.isna().all():
        raise AudiotkError(
            f"mAP needs a class with a positive and a negative label, none of {len(frame)} has both: "
            f"{frame.note.value_counts().to_dict()}"
        )
    return float(frame.ap.mean())


def mean_scores(scores: pd.DataFrame, labels: Labels | pd.DataFrame) -> pd.DataFrame:
    """Mean score where the class was judged present and where it was judged absent, for scores of any scale.

    Returns
    -------
    DataFrame, index class_name, the last row "(all)" pools every cell
        present, absent (NaN without such a cell), positives, negatives, masked, note.
    """
    s, y, _, classes = aligned(scores, labels)
    return _by_class(_mean_scores, s, y, classes)


def _mean_scores(s: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {name: float(s[y == v].mean()) if (y == v).any() else np.nan for name, v in (("present", 1), ("absent", 0))}


def _by_class(
    numbers_of: Callable[[np.ndarray, np.ndarray], dict[str, float]], s: np.ndarray, y: np.ndarray, classes: pd.Index
) -> pd.DataFrame:
    """Rows of `numbers_of(scores, labels)` over the known cells of each class, and of all classes pooled."""
    counts = pd.concat([_counts(y, classes), _counts(y.reshape(-1, 1), pd.Index([ALL]))])
    cells = [(s[:, c], y[:, c]) for c in range(len(classes))] + [(s.ravel(), y.ravel())]
    numbers = [numbers_of(sc[np.isfinite(yc)], yc[np.isfinite(yc)]) for sc, yc in cells]
    return pd.concat([pd.DataFrame(numbers, index=counts.index), counts], axis=1).rename_axis("class_name")


def calibration(scores: pd.DataFrame, labels: Labels | pd.DataFrame, n_bins: int = 15) -> pd.DataFrame:
    """Do scores mean what they say? Expected calibration error and Brier score, per class and pooled.

    ece_error = sum over bins of (cells in bin / cells) * |mean score - share present|, with `n_bins` bins of equal
    width over [0, 1], each closed on the left, the last on both sides (Naeini 2015; Guo 2017 uses 15 bins).
    brier_error = mean of (score - label)^2. Both are computed on single cells: a multi-label score is one binary
    forecast per class.

    Returns
    -------
    DataFrame, index class_name, the last row "(all)" pools every cell
        ece_error, brier_error (NaN where nothing is known), positives, negatives, masked, note.

    Raises
    ------
    AudiotkError
        A score outside [0, 1] (logits: apply the sigmoid first), n_bins < 1; or as `aligned`.
    """
    s, y, _, classes = aligned_probabilities(scores, labels, n_bins)

    def errors(s: np.ndarray, y: np.ndarray) -> dict[str, float]:
        if len(s) == 0:
            return {"ece_error": np.nan, "brier_error": np.nan}
        gap = np.bincount(score_bins(s, n_bins), weights=s - y, minlength=n_bins)  # (n_bins,) sum of score - label
        return {"ece_error": float(np.abs(gap).sum() / len(s)), "brier_error": float(((s - y) ** 2).mean())}

    return _by_class(errors, s, y, classes)


def score_bins(s: np.ndarray, n_bins: int) -> np.ndarray:
    """Which of `n_bins` equal bins of [0, 1] each score falls into, int array of the same shape."""
    return np.minimum((s * n_bins).astype(int), n_bins - 1)


def aligned_probabilities(scores: pd.DataFrame, labels: Labels | pd.DataFrame, n_bins: int) -> Aligned:
    """`aligned`, and an AudiotkError when a known cell's score is no probability or `n_bins` is not positive."""
    both = aligned(scores, labels)
    if n_bins < 1:
        raise AudiotkError(f"n_bins must be at least 1, got {n_bins}")
    known = both.scores[np.isfinite(both.labels)]
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise AudiotkError(
            f"calibration needs scores between 0 and 1, got {known.min():.4g} to {known.max():.4g}; "
            "if these are logits, apply the sigmoid first"
        )
    return both


def reliability(scores: pd.DataFrame, labels: Labels | pd.DataFrame, n_bins: int = 15) -> pd.DataFrame:
    """The table behind a reliability diagram, with the bins of `calibration`.

    Returns
    -------
    DataFrame
        class_name ("(all)" pools every cell), low, high (edges of the bin), n (known cells in it), mean_score and
        share_present (NaN in an empty bin); n_bins rows for each class.
    """
    s, y, _, classes = aligned_probabilities(scores, labels, n_bins)
    edges = np.arange(n_bins + 1) / n_bins
    tables = []
    for name, sc, yc in [*((name, s[:, c], y[:, c]) for c, name in enumerate(classes)), (ALL, s.ravel(), y.ravel())]:
        known = np.isfinite(yc)
        bins = score_bins(sc[known], n_bins)
        n = np.bincount(bins, minlength=n_bins)
        with np.errstate(invalid="ignore"):
            mean_score = np.bincount(bins, weights=sc[known], minlength=n_bins) / n
            share = np.bincount(bins, weights=yc[known], minlength=n_bins) / n
        columns = {"low": edges[:-1], "high": edges[1:], "n": n, "mean_score": mean_score, "share_present": share}
        tables.append(pd.DataFrame({"class_name": name, **columns}))
    return pd.concat(tables, ignore_index=True)


def thresholds(
    scores: pd.DataFrame, labels: Labels | pd.DataFrame, by: Literal["recall", "f1", "fpr"] = "recall", at: float = 0.8
) -> pd.Series:
    """One threshold per class; choose it on validation segments, then keep it.

    by="recall": the highest threshold that still reaches recall >= `at`; by="fpr": the lowest threshold that keeps
    the share of negatives that fire <= `at`; by="f1": the best F1, of several the highest threshold (`at` is not
    used). A threshold lies half way between two neighbouring scores, so that no score of the data it was chosen on
    equals it.

    Returns
    -------
    Series, index class_name
        NaN for a class without a positive (fpr: without a negative): nothing to choose from, the class is then left
        out.

    Raises
    ------
    AudiotkError
        `by` unknown, `at` outside [0, 1]; or as `aligned`.
    """
    if by not in ("recall", "f1", "fpr") or not 0 <= at <= 1:
        raise AudiotkError(f"by must be 'recall', 'f1' or 'fpr' and at in [0, 1], got by={by!r}, at={at!r}")
    s, y, _, classes = aligned(scores, labels)
    chosen = [_threshold(s[np.isfinite(y[:, c]), c], y[np.isfinite(y[:, c]), c], by, at) for c in range(len(classes))]
    return pd.Series(chosen, index=classes, name="threshold", dtype=np.float64).rename_axis("class_name")


def _threshold(s: np.ndarray, y: np.ndarray, by: str, at: float) -> float:
    positives, negatives = (y == 1).sum(), (y == 0).sum()
    if (negatives if by == "fpr" else positives) == 0:
        return np.nan
    unique, group = np.unique(-s, return_inverse=True)  # (K,) ascending -s = descending scores
    levels = -unique
    tp = np.concatenate([[0], np.cumsum(np.bincount(group, weights=y == 1))])  # (K + 1,) if the k highest levels fire
    fp = np.concatenate([[0], np.cumsum(np.bincount(group, weights=y == 0))])
    if by == "recall":
        k = int(np.argmax(tp / positives >= at))
    elif by == "fpr":
        k = int(np.flatnonzero(fp / negatives <= at)[-1])
    else:
        k = int(np.argmax(2 * tp / (tp + fp + positives)))
    if k == 0:
        return float(levels[0])  # nothing fires
    if k == len(levels):
        return float(np.nextafter(levels[-1], -np.inf))  # everything fires
    middle = levels[k] + (levels[k - 1] - levels[k]) / 2
    return float(middle if middle < levels[k - 1] else levels[k])  # two neighbouring floats have no middle


def precision_recall_f1(scores: pd.DataFrame, labels: Labels | pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """Counts and rates per class when a class fires at ``score > threshold``.

    Returns
    -------
    DataFrame, index class_name
        threshold, precision (NaN if nothing fires), recall, f1 (NaN without a positive), fpr (share of negatives that
        fire, NaN without a negative), tp, fp, fn, tn, positives, negatives, masked, note.

    Raises
    ------
    AudiotkError
        A class has no threshold entry; or as `aligned`.
    """
    s, y, _, classes = aligned(scores, labels)
    limits = class_thresholds(thresholds, classes)
    counts, fires = _counts(y, classes), s > limits
    tp, fp = (fires & (y == 1)).sum(axis=0), (fires & (y == 0)).sum(axis=0)
    positives, negatives = counts.positives.to_numpy(), counts.negatives.to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = {
            "precision": tp / (tp + fp),
            "recall": tp / positives,
            "f1": np.where(positives > 0, 2 * tp / (tp + fp + positives), np.nan),
            "fpr": fp / negatives,
        }
    cells = {"tp": tp, "fp": fp, "fn": positives - tp, "tn": negatives - fp}
    frame = pd.DataFrame({"threshold": limits, **rates, **cells}, index=counts.index)
    unset = np.isnan(limits)
    frame.loc[unset, ["precision", "recall", "f1", "fpr"]] = np.nan
    counts.loc[unset, "note"] = "no threshold"
    return pd.concat([frame, counts], axis=1)


def confusion(scores: pd.DataFrame, labels: Labels | pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """How often class B (column) fires on segments where class A (row) is the only class present.

    A segment counts in row A if A was judged present and every other class judged absent, and in row "(none)" if
    every class was judged absent; a segment with an unknown cell, or with two classes, is in no row.

    Returns
    -------
    DataFrame, index present (classes, "(none)"), columns fired (classes, "(segments)")
        Share of the row's segments; "(segments)" is their number. NaN in a row without a segment and for a class
        without threshold. ``confusion(...).loc["howl", "bark"]`` is the rate at which bark fires on howls.

    Raises
    ------
    AudiotkError
        A class has no threshold entry; or as `aligned`.
    """
    s, y, _, classes = aligned(scores, labels)
    limits = class_thresholds(thresholds, classes)
    fires = np.where(np.isnan(limits), np.nan, s > limits)  # (n, C)
    members = np.concatenate([only_present(y), (y == 0).all(axis=1, keepdims=True)], axis=1)  # (n, C + 1)
    n = members.sum(axis=0)
    with np.errstate(invalid="ignore"):
        rates = members.T.astype(float) @ fires / n[:, None]  # (C + 1, C)
    frame = pd.DataFrame(
        rates, index=pd.Index([*classes, NONE], name="present"), columns=pd.Index(classes, name="fired")
    )
    frame["(segments)"] = n
    return frame


def only_present(y: np.ndarray) -> np.ndarray:
    """(n, C) bool: class c was judged present and every other class judged absent."""
    return (y == 1) & np.isfinite(y).all(axis=1, keepdims=True) & ((y == 1).sum(axis=1, keepdims=True) == 1)
