"""Do several labelers of the same recordings agree? Event F1, kappa on frames, and how far apart their edges lie.

Only what *both* of a pair have heard counts (``store.heard()``): what one of them never played is no disagreement.

What counts as the same event: :mod:`audiotk.agreement.matching`. The cases in which labelers disagree, and what a
majority of them says: :mod:`audiotk.agreement.disagreements`, :mod:`audiotk.agreement.consensus`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from audiotk.agreement.matching import COLLAR_S, END_SHARE, inside, intersect, match, match_overlap
from audiotk.store.history import Ranges, union
from audiotk.store.operations import AGAIN
from audiotk.tables import AudiotkError

ALL = "(all)"
HOP_S = 0.01
NO_SPAN = np.zeros((0, 2))
COLUMNS = (
    "one", "other", "class_name", "f1", "matched", "n_one", "n_other", "kappa", "frames", "frames_one", "frames_other",
    "frames_both", "start_median_s", "start_p90_s", "end_median_s", "end_p90_s", "overlapping", "recordings", "heard_s",
)  # fmt: skip


# --- what was said and heard ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """Segments and heard ranges of several labelers, checked and by recording.

    Attributes
    ----------
    spans
        (recording, labeler) -> class name -> array [shape=(n, 2)] of start_s and end_s, by start.
    heard
        (recording, labeler) -> disjoint ranges.
    """

    spans: dict[tuple[str, str], dict[str, np.ndarray]]
    heard: dict[tuple[str, str], Ranges]

    @property
    def labelers(self) -> list[str]:
        """All who marked or heard something."""
        return sorted({labeler for _, labeler in (*self.spans, *self.heard)})

    def recordings(self, labelers: Iterable[str]) -> list[str]:
        """The recordings of which each of the labelers heard something, sorted."""
        heard = [{recording for recording, who in self.heard if who == labeler} for labeler in labelers]
        return sorted(set.intersection(*heard)) if heard else []

    def of(self, recording: str, labeler: str) -> pd.DataFrame:
        """The segments of one labeler in one recording: start_s, end_s, class_name."""
        parts = self.spans.get((recording, labeler), {})
        rows = sorted((float(start), float(end), name) for name, part in parts.items() for start, end in part)
        columns = {"start_s": "float64", "end_s": "float64", "class_name": "str"}
        return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def read_said(segments: pd.DataFrame, heard: pd.DataFrame, classes: Sequence[str] | None = None) -> Said:
    """Check and arrange what labelers said.

    Parameters
    ----------
    segments
        recording, start_s, end_s, class_name, labeler, as from ``store.segments()``.
    heard
        recording, labeler, start_s, end_s, as from ``store.heard()``; for labels from elsewhere, of recordings heard
        as a whole, as from :func:`heard_whole`.
    classes
        Only segments of these.

    Raises
    ------
    AudiotkError
        A column is missing, or a range is not finite or not 0 <= start_s < end_s.
    """
    _check(segments, "segments", ("recording", "start_s", "end_s", "class_name", "labeler"))
    _check(heard, "heard", ("recording", "start_s", "end_s", "labeler"))
    if classes is not None:
        segments = segments[segments["class_name"].isin(list(classes))]
    marked: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for keys, part in _grouped(segments, ("recording", "labeler", "class_name")):
        marked.setdefault((keys[0], keys[1]), {})[keys[2]] = part
    played = {(keys[0], keys[1]): union(part.tolist()) for keys, part in _grouped(heard, ("recording", "labeler"))}
    return Said(marked, played)


def _grouped(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray]]:
    """The values of `columns` that occur together, and start_s and end_s (n, 2) of those rows by start; sorted."""
    group, keys = pd.factorize(pd.MultiIndex.from_frame(table[list(columns)].astype("str")), sort=True)
    times = table[["start_s", "end_s"]].to_numpy(float)
    order = np.lexsort((times[:, 1], times[:, 0], group))
    edges = np.searchsorted(group[order], np.arange(len(keys) + 1))
    for place, key in enumerate(keys):
        yield list(key), times[order[edges[place] : edges[place + 1]]]


def _check(table: pd.DataFrame, what: str, columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in table.columns]:
        raise AudiotkError(f"{what}: columns {missing} are missing, found {list(table.columns)}")
    start, end = table["start_s"].to_numpy(float), table["end_s"].to_numpy(float)
    bad = ~(np.isfinite(start) & np.isfinite(end) & (start >= 0) & (end > start))
    if bad.any():
        row = int(bad.argmax())
        told = table[list(columns)].iloc[row].to_dict()
        raise AudiotkError(f"{what}: expected finite times with 0 <= start_s < end_s, got in row {row}: {told}")


def heard_whole(recordings: pd.DataFrame, labelers: Sequence[str]) -> pd.DataFrame:
    """Ranges for labels without a record of listening: each labeler heard the whole of each recording.

    `recordings` has recording and duration_s.
    """
    parts = [
        recordings[["recording"]].assign(labeler=who, start_s=0.0, end_s=recordings["duration_s"]) for who in labelers
    ]
    columns = {"recording": "str", "labeler": "str", "start_s": "float64", "end_s": "float64"}
    empty = pd.DataFrame(columns=list(columns))
    return (pd.concat(parts, ignore_index=True) if parts else empty).astype(columns)


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass
class _Counts:
    """What is added up over recordings for one pair of labelers and class."""

    matched: int = 0
    n_one: int = 0
    n_other: int = 0
    frames: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))  # one, other, both
    apart: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # differences of starts and of ends, seconds

    def __add__(self, other: _Counts) -> _Counts:
        numbers = (self.matched + other.matched, self.n_one + other.n_one, self.n_other + other.n_other)
        return _Counts(*numbers, self.frames + other.frames, np.concatenate([self.apart, other.apart]))

    def any(self) -> bool:
        """Whether anything of the class was there."""
        return bool(self.n_one + self.n_other + self.frames.sum())

    def add_events(self, one: np.ndarray, other: np.ndarray, common: Ranges, collar_s: float, end_share: float) -> None:
        """Count the segments (n, 2) and (m, 2) of a recording in the ranges that both have heard."""
        counts = [inside(spans, common) >= 0.5 for spans in (one, other)]
        pairs = match(one, other, collar_s, end_share)
        pairs = pairs[counts[0][pairs[:, 0]] | counts[1][pairs[:, 1]]]
        for mask, column in zip(counts, pairs.T, strict=True):
            mask[column] = True
        self.matched += len(pairs)
        self.n_one, self.n_other = self.n_one + int(counts[0].sum()), self.n_other + int(counts[1].sum())
        one, other = one[counts[0]], other[counts[1]]
        near = match_overlap(one, other)
        self.apart = np.concatenate([self.apart, np.abs(one[near[:, 0]] - other[near[:, 1]])])

    def add_frames(self, one: np.ndarray, other: np.ndarray) -> None:
        """Count frames (bool) with the class."""
        self.frames = self.frames + np.array([one.sum(), other.sum(), (one & other).sum()])

    def numbers(self, total: int) -> dict[str, Any]:
        """The columns that follow; `total` frames were heard by both."""
        events = self.n_one + self.n_other
        one, other, both = (int(count) for count in self.frames)
        found: dict[str, Any] = {"f1": 2 * self.matched / events if events else np.nan, "matched": self.matched}
        found |= {"n_one": self.n_one, "n_other": self.n_other, "kappa": kappa(total, one, other, both)}
        found |= {"frames": total, "frames_one": one, "frames_other": other, "frames_both": both}
        for column, edge in enumerate(("start", "end")):
            for share, name in ((0.5, "median"), (0.9, "p90")):
                values = self.apart[:, column]
                found[f"{edge}_{name}_s"] = float(np.quantile(values, share)) if len(values) else np.nan
        return found | {"overlapping": len(self.apart)}


def kappa(total: int, one: int, other: int, both: int) -> float:
    """Cohen's kappa of `total` frames of which `one` and `other` are marked, `both` by both; NaN if it is undefined."""
    if not total:
        return np.nan
    by_chance = (one * other + (total - one) * (total - other)) / total**2
    observed = (total - one - other + 2 * both) / total
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else np.nan


def agreement(
    segments: pd.DataFrame,
    heard: pd.DataFrame,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    classes: Sequence[str] | None = None,
    collar_s: float = COLLAR_S,
    end_share: float = END_SHARE,
    hop_s: float = HOP_S,
) -> pd.DataFrame:
    """How far labelers agree where both have heard, for each pair of them and each class.

    Parameters
    ----------
    segments, heard, classes
        See :func:`read_said`. A class that is in neither's segments, but is asked for, has rows without an event.
    pairs
        Names of labelers, two by two; default all pairs, hidden repeats left out.
    collar_s, end_share
        What counts as the same event; see :mod:`audiotk.agreement.matching`.
    hop_s
        Grid of the kappa: frame k stands for what is there at (k + 1/2) hop_s.

    Returns
    -------
    DataFrame, one row a pair and class, and one with class_name "(all)" a pair
        one, other, class_name;
        f1 (2 matched / (n_one + n_other); the same whoever is the truth), matched, n_one, n_other (segments that count:
        at least half of it lies where both have heard, or it matches such a one);
        kappa (Cohen 1960), frames (heard by both), frames_one, frames_other, frames_both (of them with the class);
        start_median_s, start_p90_s, end_median_s, end_p90_s (median and 90 % of the absolute differences, over the
        pairs of segments that share at least half of what they cover together: pairs within the collar would make
        the collar the largest difference there can be), overlapping (such pairs);
        recordings (both heard some), heard_s (by both).
        Undefined numbers are NaN: F1 without a segment, kappa where chance alone agrees everywhere (neither marked a
        frame, or both all), everything where nothing was heard by both. "(all)" adds up segments over classes; its
        kappa is the mean of those of the classes that have one.

    Raises
    ------
    AudiotkError
        As :func:`read_said`; a labeler of `pairs` said nothing; a pair of one; a collar or hop out of range.
    """
    if not 0 < hop_s < np.inf:
        raise AudiotkError(f"agreement: expected hop_s > 0, got {hop_s}")
    said = read_said(segments, heard, classes)
    if pairs is None:
        pairs = list(combinations([name for name in said.labelers if not name.endswith(AGAIN)], 2))
    rows: list[dict[str, Any]] = []
    for one, other in pairs:
        if one == other or not {one, other} <= set(said.labelers):
            raise AudiotkError(f"agreement: expected pairs of two of {', '.join(said.labelers)}, got {(one, other)!r}")
        rows += _pair_rows(said, one, other, classes, collar_s, end_share, hop_s)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"one": "str", "other": "str", "class_name": "str"})


def self_agreement(
    segments: pd.DataFrame,
    heard: pd.DataFrame,
    *,
    classes: Sequence[str] | None = None,
    collar_s: float = COLLAR_S,
    end_share: float = END_SHARE,
    hop_s: float = HOP_S,
) -> pd.DataFrame:
    """:func:`agreement` of each labeler with himself, on recordings that came again unannounced (hidden repeats).

    The second labels stand under the name "NAME (again)". No two people can be expected to agree better than that.
    """
    names = set(read_said(segments, heard).labelers)
    pairs = sorted((name.removesuffix(AGAIN), name) for name in names if name.endswith(AGAIN))
    pairs = [pair for pair in pairs if pair[0] in names]
    options = {"collar_s": collar_s, "end_share": end_share, "hop_s": hop_s}
    return agreement(segments, heard, pairs, classes=classes, **options)


def _pair_rows(
    said: Said, one: str, other: str, classes: Sequence[str] | None, collar_s: float, end_share: float, hop_s: float
) -> list[dict[str, Any]]:
    """The rows of one pair: classes that either marked where both have heard (or those asked for), and all together."""
    counts = {name: _Counts() for name in classes or ()}
    total, heard_s, recordings = 0, 0.0, 0
    for recording in said.recordings((one, other)):
        common = intersect(said.heard[recording, one], said.heard[recording, other])
        grid = raster(common, hop_s)
        total, heard_s = total + int(grid.sum()), heard_s + sum(end - start for start, end in common)
        recordings += bool(common)
        both = [said.spans.get((recording, name), {}) for name in (one, other)]
        for name in sorted({*both[0], *both[1]}):
            spans = [part.get(name, NO_SPAN) for part in both]
            found = counts.setdefault(name, _Counts())
            found.add_events(spans[0], spans[1], common, collar_s, end_share)
            one_frames, other_frames = (raster(part, hop_s, len(grid)) & grid for part in spans)
            found.add_frames(one_frames, other_frames)
    counts = {name: counts[name] for name in classes or sorted(counts) if classes is not None or counts[name].any()}
    rows = [{"class_name": name} | found.numbers(total) for name, found in counts.items()]
    kappas = [row["kappa"] for row in rows if not np.isnan(row["kappa"])]
    last = sum(counts.values(), _Counts()).numbers(total) | {"kappa": np.mean(kappas) if kappas else np.nan}
    about = {"one": one, "other": other, "recordings": recordings, "heard_s": heard_s}
    return [row | about for row in [*rows, {"class_name": ALL} | last]]


def raster(ranges: Iterable[Sequence[float]], hop_s: float, n: int | None = None) -> np.ndarray:
    """Which of `n` frames (default: up to the last range) have their middle (k + 1/2) hop_s in a range: bool (n,)."""
    edges = np.asarray(list(ranges), dtype=float).reshape(-1, 2)
    places = np.ceil((edges / hop_s - 0.5).round(6)).astype(np.int64)  # start is in, end is out
    frames = np.zeros(int(places.max(initial=0)) if n is None else n, dtype=bool)
    for first, last in places:
        frames[first:last] = True
    return frames
