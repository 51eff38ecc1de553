"""Numbers of resamples: what a metric is if each unit of recording counts as often as it was drawn.

Segments of one recording resemble each other, and so do recordings of one dog, device or upload. So the unit that is
drawn with replacement is never the segment but the recording or, better, its group (`group` of the recordings table):
whatever the caller passes as the values of `recording_of_segment`. A resample is a row of counts, how often each unit
was drawn; a `Statistic` computes a number for many such rows at once, which makes thousands of resamples cheap.
`audiotk.stats` makes intervals and tests of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk.metrics import Thresholds, aligned, aligned_probabilities, class_thresholds, only_present, score_bins
from audiotk.tables import AudiotkError, Labels

CHUNK = 4_000_000  # cells of the largest temporary array


@dataclass(frozen=True)
class Statistic:
    """A number of a set of units (recordings or, better, their groups), computed from how often each was drawn.

    ``of(counts)`` takes (B, G) float64 counts, columns in the order of `recordings`, and returns (B,) values, NaN =
    undefined.
    """

    recordings: pd.Index  # (G,) the units
    of: Callable[[np.ndarray], np.ndarray]

    def value(self) -> float:
        """The number with every unit counted once."""
        return float(self.of(np.ones((1, len(self.recordings))))[0])


def recording_codes(
    recording_of_segment: pd.Series, segments: pd.Index, name: str = "recording_of_segment", row: str = "segment"
) -> tuple[np.ndarray, pd.Index]:
    """Code of the unit of each segment, and the units in sorted order; `name` and `row` are words of the errors."""
    missing = segments.difference(recording_of_segment.index, sort=False)
    if len(missing) or recording_of_segment.index.has_duplicates:
        raise AudiotkError(
            f"{name} must be a Series with each {row} once as index; "
            f"{len(missing)} of {len(segments)} {row}s are missing (first: {list(missing[:1])}), "
            f"{recording_of_segment.index.duplicated().sum()} are duplicate"
        )
    code, recordings = pd.factorize(recording_of_segment[segments], sort=True)
    if (code < 0).any():
        raise AudiotkError(f"{name} is missing for {row} {segments[code < 0][0]!r}")
    return code, pd.Index(recordings)


def map_statistic(
    scores: pd.DataFrame, labels: Labels | pd.DataFrame, recording_of_segment: pd.Series, class_name: str | None = None
) -> Statistic:
    """Macro mAP (or the AP of one class), as `metrics.mean_average_precision` on rows repeated as often as drawn.

    A class that has no positive or no negative in a resample is left out of the mean of that resample, as in the
    metric itself.

    Parameters
    ----------
    scores, labels
        As for `metrics.aligned`.
    recording_of_segment : Series
        Index segment, values the unit: the recording, ``segments.set_index("segment").recording``, or, better, its
        group, ``segments.set_index("segment").recording.map(recordings.set_index("recording").group)``.
    class_name : str, optional
        This class only.

    Raises
    ------
    AudiotkError
        As `metrics.aligned`; a segment without unit; unknown class.
    """
    s, y, segments, classes = aligned(scores, labels)
    code, recordings = recording_codes(recording_of_segment, segments)
    if class_name is not None and class_name not in classes:
        raise AudiotkError(f"class_name must be one of {list(classes)}, got {class_name!r}")
    chosen = range(len(classes)) if class_name is None else [classes.get_loc(class_name)]
    known = [np.isfinite(y[:, c]) for c in chosen]
    parts = [_ap_blocks(s[k, c], y[k, c], code[k], len(recordings)) for c, k in zip(chosen, known, strict=True)]

    def of(counts: np.ndarray) -> np.ndarray:
        ap = np.stack([_block_ap(part, counts) for part in parts])  # (C, B)
        return _mean_of_defined(ap)

    return Statistic(recordings, of)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where all is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)


def _ap_blocks(s: np.ndarray, y: np.ndarray, code: np.ndarray, n_recordings: int) -> tuple[Any, Any, np.ndarray]:
    """Sort once: rows by descending score, cut behind every group of tied scores that holds a positive.

    Average precision changes at these K cuts only, so all a resample needs are the weights of all rows and of the
    positive rows in each block: two (K, G) sparse matrices of counts by recording, and the number of negatives of
    each recording (G,).
    """
    order = np.argsort(-s, kind="stable")
    s, y, code = s[order], y[order], code[order]
    tie = np.cumsum(np.concatenate([[0], s[1:] != s[:-1]])) if len(s) else np.zeros(0, int)  # (n,) tied scores
    cuts = np.unique(tie[y == 1])  # (K,) groups with a positive
    block = np.searchsorted(cuts, tie)  # rows behind the last cut get K and do not matter
    inside, positive = block < len(cuts), y == 1
    shape = (len(cuts), n_recordings)

    def by_block(rows: np.ndarray) -> sparse.csr_array:
        return sparse.csr_array((np.ones(rows.sum()), (block[rows], code[rows])), shape=shape)

    return by_block(inside), by_block(positive), np.bincount(code[y == 0], minlength=n_recordings).astype(float)


def _block_ap(part: tuple[Any, Any, np.ndarray], counts: np.ndarray) -> np.ndarray:
    every, positive, negatives = part
    ap = np.full(len(counts), np.nan)
    step = max(1, CHUNK // max(1, every.shape[0]))
    for first in range(0, len(counts), step):
        drawn = np.ascontiguousarray(counts[first : first + step].T)  # (G, b)
        gained = positive @ drawn  # (K, b) weight of positives in each block
        true, fired = gained.cumsum(axis=0), (every @ drawn).cumsum(axis=0)
        hits = gained * np.divide(true, fired, out=np.zeros_like(true), where=fired > 0)  # recall step times precision
        total = gained.sum(axis=0)
        defined = (total > 0) & (negatives @ drawn > 0)
        ap[first : first + step][defined] = hits.sum(axis=0)[defined] / total[defined]
    return ap


def ratio_statistic(
    numerator: pd.DataFrame, denominator: pd.DataFrame, recording: pd.Series, combine: Literal["mean", "sum"] = "mean"
) -> Statistic:
    """Sum of `numerator` / sum of `denominator` for each column, then their mean or sum.

    Rates, means, shares and Brier scores are such ratios: ``ratio_statistic(scores.where(absent, 0.0), absent,
    recording_of_segment)`` with ``absent = labels.frame() == 0`` is the mean score where a class is absent.

    Parameters
    ----------
    numerator, denominator : DataFrame [shape=(n, k)]
        Same index and columns; no NaN.
    recording : Series
        Unit (recording or, better, its group) of each row, found by its index.
    combine
        "mean" leaves out columns whose denominator is 0 in a resample; with "sum" the resample is then undefined.
        Without any column both are undefined.
    """
    if not (numerator.index.equals(denominator.index) and numerator.columns.equals(denominator.columns)):
        raise AudiotkError(
            f"numerator {numerator.shape} and denominator {denominator.shape} must have equal index and columns"
        )
    if numerator.isna().to_numpy().any() or denominator.isna().to_numpy().any():
        raise AudiotkError("numerator and denominator must not hold NaN: set both to 0 where a row does not count")
    code, recordings = recording_codes(recording, numerator.index)

    def by_recording(table: pd.DataFrame) -> np.ndarray:
        sums = np.zeros((len(recordings), table.shape[1]))
        np.add.at(sums, code, table.to_numpy(np.float64))
        return sums  # (G, k)

    above, below = by_recording(numerator), by_recording(denominator)

    def of(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (counts @ above) / np.where(counts @ below == 0, np.nan, counts @ below)  # (B, k)
        return ratios.sum(axis=1) if combine == "sum" and ratios.shape[1] else _mean_of_defined(ratios.T)

    return Statistic(recordings, of)


def weighted_statistic(parts: Sequence[tuple[float, Statistic]]) -> Statistic:
    """Sum of weight times number of several statistics; its units are all of theirs, undefined if one of them is.

    With weights 1 and -1 this is a difference, with 1 / n a mean. The parts may be numbers of different units (of
    several test sets that share some groups): each looks at its own.

    Raises
    ------
    AudiotkError
        There is no part.
    """
    if not parts:
        raise AudiotkError("weighted_statistic: expected at least one part")
    units = pd.Index(np.unique(np.concatenate([part.recordings.to_numpy() for _, part in parts])))
    places = [units.get_indexer(part.recordings) for _, part in parts]

    def of(counts: np.ndarray) -> np.ndarray:
        terms = [weight * part.of(counts[:, at]) for (weight, part), at in zip(parts, places, strict=True)]
        return np.sum(terms, axis=0)

    return Statistic(units, of)


def order_statistic(parts: Mapping[str, Statistic], expected: Mapping[str, float]) -> Statistic:
    """Kendall's tau-b between the numbers of several arms and those expected: 1 = the same order, -1 = the reverse.

    Parameters
    ----------
    parts
        Arm -> statistic, all of the same units.
    expected
        Arm -> number, of every arm in `parts`; only the order of these counts.

    Raises
    ------
    AudiotkError
        Fewer than two arms, or units that differ.

    Notes
    -----
    Undefined where an arm is, or where all arms (or all expected numbers) are equal.
    """
    units = [part.recordings for part in parts.values()]
    if len(parts) < 2 or not all(one.equals(units[0]) for one in units):
        raise AudiotkError(f"order_statistic: expected two arms or more on the same units, got {list(parts)}")
    first, second = np.triu_indices(len(parts), 1)
    want = np.array([expected[name] for name in parts])
    want = np.sign(want[first] - want[second])  # (P,) pairs of arms

    def of(counts: np.ndarray) -> np.ndarray:
        values = np.stack([part.of(counts) for part in parts.values()], axis=1)  # (B, A)
        got = np.sign(values[:, first] - values[:, second])  # (B, P)
        untied = (got**2).sum(axis=1) * (want**2).sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            tau: np.ndarray = got @ want / np.sqrt(untied)
        return tau

    return Statistic(units[0], of)


def false_positive_statistic(table: pd.DataFrame, unit: pd.Series | None = None) -> Statistic:
    """False positives per hour, summed over the classes, of a table from `events.false_positives_by_recording`.

    Classes without threshold or without absent audio are left out, as in `events.false_positives_per_hour`. A class
    that fires all the time is one long false positive a recording: look at `fired_share_statistic` too.

    Parameters
    ----------
    table
        recording, class_name, false_positives, absent_s, fired_s.
    unit : Series, optional
        Index recording, values the unit that is drawn, ``recordings.set_index("recording").group``: counts and
        seconds are summed within a unit before any ratio is taken. Default: the recording itself.

    Raises
    ------
    AudiotkError
        A recording of `table` without unit.
    """
    count, absent_s, unit = _by_recording(table, "false_positives", unit)
    return ratio_statistic(count, absent_s / 3600, unit, combine="sum")


def fired_share_statistic(table: pd.DataFrame, unit: pd.Series | None = None) -> Statistic:
    """Share of the absent time that fires: fired_s / absent_s of each class, mean over the classes.

    Parameters, errors and the classes left out are those of `false_positive_statistic`. Unlike its rate, this one
    grows with every second that fires, so it cannot reward firing all the time.
    """
    fired_s, absent_s, unit = _by_recording(table, "fired_s", unit)
    return ratio_statistic(fired_s, absent_s, unit)


def _by_recording(
    table: pd.DataFrame, column: str, unit: pd.Series | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """`column` and absent_s as (recordings, classes with a threshold and absent audio); the unit of each recording."""
    wide = table.pivot(index="recording", columns="class_name", values=[column, "absent_s"]).astype(float)
    number, absent_s = wide[column], wide["absent_s"]
    keep = number.columns[number.notna().all() & (absent_s.sum() > 0)]
    if unit is None:
        unit = pd.Series(wide.index, index=wide.index)
    recording_codes(unit, wide.index, "unit", "recording")
    return number[keep], absent_s[keep], unit


def absent_score_statistic(
    scores: pd.DataFrame, labels: Labels | pd.DataFrame, recording_of_segment: pd.Series
) -> Statistic:
    """Mean score where a class was judged absent, macro mean over classes (`metrics.mean_scores`)."""
    s, y, segments, classes = aligned(scores, labels)
    absent = pd.DataFrame(y == 0, index=segments, columns=classes)
    return ratio_statistic(pd.DataFrame(s, segments, classes).where(absent, 0.0), absent, recording_of_segment)


def confusion_statistic(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    thresholds: Thresholds,
    recording_of_segment: pd.Series,
    pairs: list[tuple[str, str]],
) -> Statistic:
    """Mean of the cells (present, fired) of `metrics.confusion`, as ``[("bark", "howl"), ("howl", "bark")]``.

    Cells that are NaN there are left out: no segment with the present class only, no threshold of the fired class.
    """
    s, y, segments, classes = aligned(scores, labels)
    limits, only = class_thresholds(thresholds, classes), only_present(y)
    unknown = {name for pair in pairs for name in pair} - set(classes)
    if unknown or not pairs:
        raise AudiotkError(f"pairs must name two of {list(classes)} each, got {pairs}, unknown {sorted(unknown)}")
    present, fired = (classes.get_indexer(pd.Index(names)) for names in zip(*pairs, strict=True))
    present, fired = present[~np.isnan(limits[fired])], fired[~np.isnan(limits[fired])]
    below = pd.DataFrame(only[:, present], index=segments)
    return ratio_statistic(below & (s > limits)[:, fired], below, recording_of_segment)


def recall_statistic(
    scores: pd.DataFrame, labels: Labels | pd.DataFrame, thresholds: Thresholds, recording_of_segment: pd.Series
) -> Statistic:
    """Share of the segments judged present that fire, macro mean over classes (`metrics.precision_recall_f1`).

    Classes without threshold or without a positive are left out.
    """
    s, y, segments, classes = aligned(scores, labels)
    limits = class_thresholds(thresholds, classes)
    present = pd.DataFrame(y == 1, index=segments, columns=classes).loc[:, ~np.isnan(limits)]
    return ratio_statistic(present & (s > limits)[:, ~np.isnan(limits)], present, recording_of_segment)


def calibration_statistic(
    scores: pd.DataFrame, labels: Labels | pd.DataFrame, recording_of_segment: pd.Series, n_bins: int = 15
) -> Statistic:
    """ece_error over the pooled cells of all classes (row "(all)" of `metrics.calibration`, with its errors)."""
    s, y, segments, _ = aligned_probabilities(scores, labels, n_bins)
    code, recordings = recording_codes(recording_of_segment, segments)
    rows, columns = np.nonzero(np.isfinite(y))
    gap, n = np.zeros((len(recordings), n_bins)), np.bincount(code[rows], minlength=len(recordings))
    np.add.at(gap, (code[rows], score_bins(s[rows, columns], n_bins)), s[rows, columns] - y[rows, columns])

    def of(counts: np.ndarray) -> np.ndarray:
        cells = counts @ n
        return np.abs(counts @ gap).sum(axis=1) / np.where(cells == 0, np.nan, cells)

    return Statistic(recordings, of)


def resample_counts(n: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `n` units is drawn in each of `n_boot` resamples of n draws: (n_boot, n) float64."""
    drawn = rng.integers(n, size=(n_boot, n)) + np.arange(n_boot)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=n_boot * n).reshape(n_boot, n).astype(np.float64)
