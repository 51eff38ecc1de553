"""Annotations -> labels: which source is believed where, and what a label of one range says about another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from audiotk.tables import (
    AudiotkError,
    Dataset,
    Labels,
    check_segments,
    make_annotations,
    make_sources,
    whole_recordings,
)

GRACE_S = 0.002  # ids hold milliseconds, so ranges that touch may miss each other by one


def resolve(
    dataset: Dataset,
    windows: pd.DataFrame | None = None,
    sources: Sequence[str] = ("truth",),
    classes: Sequence[str] | None = None,
    *,
    inherit_weak: bool = True,
    min_overlap: float = 0.5,
) -> Labels:
    """Labels of `windows` as the annotations of `sources` say, the first source that decides a cell winning.

    Within one source the latest annotation of a segment and class counts. An annotated range A then speaks about a
    window W that it overlaps by these rules:

    - value 1, strong: W is present if the overlap reaches `min_overlap` of the shorter of the two; a smaller overlap
      makes W unknown (the event's boundary).
    - value 1, weak ("somewhere in A"): W is present if it covers A. A window cut out of A is present with
      `inherit_weak` (what clip labels are usually taken to mean, P1's reading) and unknown without.
    - value 0: W is absent where ranges of value 0 cover all of it.
    - value NaN (looked and unsure): W is unknown.
    - a closed source: W is absent for every class that the source did not name, if its annotated ranges cover all of W.

    Present beats unknown beats absent within a source. What no source decides is unknown.

    Parameters
    ----------
    dataset
        Recordings, segments, annotations and how to read their sources.
    windows
        Segments table to label; default one segment a recording.
    sources
        Sources in the order in which they are believed.
    classes
        Class names of the result; default those of the data set.
    inherit_weak
        See above.
    min_overlap
        Share in (0, 1].

    Returns
    -------
    Labels
        Shape (n_windows, n_classes).

    Raises
    ------
    AudiotkError
        A source is not in the data set, or `min_overlap` is out of range.
    """
    if not 0 < min_overlap <= 1:
        raise AudiotkError(f"labels: expected min_overlap in (0, 1], got {min_overlap}")
    unknown = [name for name in sources if name not in dataset.sources.index]
    if unknown or not len(sources):
        raise AudiotkError(f"labels: sources {unknown or '(none)'} are not among {list(dataset.sources.index)}")
    windows = whole_recordings(dataset.recordings) if windows is None else check_segments(windows, dataset.recordings)
    classes = list(dataset.classes if classes is None else classes)

    decisions = []
    decided_by = np.full(len(windows), len(sources))  # rank of the first closed source that reviewed all of the window
    for rank, name in enumerate(sources):
        flags = dataset.sources.loc[name]
        rows = dataset.annotations[dataset.annotations["source"] == name]
        cells, reviewed = _read_source(
            rows, dataset.segments, windows, classes, bool(flags["weak"]), inherit_weak, min_overlap
        )
        decisions.append(cells.assign(rank=rank))
        if flags["closed"]:
            decided_by = np.where(reviewed, np.minimum(decided_by, rank), decided_by)

    cells = pd.concat(decisions, ignore_index=True)
    cells = cells[cells["rank"] <= decided_by[cells["window"]]]
    cells = cells.sort_values("rank", kind="stable").drop_duplicates(["window", "class"])
    return _labels(windows["segment"], classes, cells, closed=decided_by < len(sources))


def with_clip_labels(dataset: Dataset, source: str, name: str = "scraped") -> Dataset:
    """The data set with one more source: one class a recording, the one that `source` marks for the longest time.

    This is what scraping leaves of labelled ranges (B1): a closed, weak source. A recording without any range gets an
    explicit 0 for the first class, so that it counts as looked at.
    """
    rows = dataset.annotations[(dataset.annotations["source"] == source)].merge(dataset.segments, on="segment")
    present = rows[rows["value"] == 1]
    length = (present["end_s"] - present["start_s"]).groupby([present["recording"], present["class_name"]]).sum()
    longest = length.groupby(level="recording").idxmax().map(lambda key: key[1])
    wholes = whole_recordings(dataset.recordings[dataset.recordings["recording"].isin(rows["recording"])])
    named = wholes["recording"].map(longest)
    notes = make_annotations(
        wholes["segment"], named.fillna(dataset.classes[0]), named.notna().astype(float), name, rows["at"].max()
    )
    return replace(
        dataset,
        segments=pd.concat([dataset.segments, wholes]).drop_duplicates("segment"),
        annotations=pd.concat([dataset.annotations, notes]),
        sources=pd.concat([dataset.sources, make_sources(**{name: "closed weak"})]),
    )


def _read_source(
    rows: pd.DataFrame,
    segments: pd.DataFrame,
    windows: pd.DataFrame,
    classes: list[str],
    weak: bool,
    inherit_weak: bool,
    min_overlap: float,
) -> tuple[pd.DataFrame, np.ndarray]:
    """What one source decides: cells (window, class, value), and which windows its annotated ranges cover wholly."""
    rows = rows.sort_values("at", kind="stable").drop_duplicates(["segment", "class_name"], keep="last")
    annotated = segments[segments["segment"].isin(rows["segment"].unique())].reset_index(drop=True)
    pairs = _overlaps(annotated, windows)  # range, window, start_s, end_s of what they share
    window_s = (windows["end_s"] - windows["start_s"]).to_numpy()
    reviewed_s = np.bincount(pairs["window"], weights=_new_s(pairs, ["window"]), minlength=len(windows))

    place = pd.Index(annotated["segment"]).get_indexer(pd.Index(rows["segment"]))
    column = pd.Index(classes).get_indexer(pd.Index(rows["class_name"]))
    said = pd.DataFrame({"range": place, "class": column, "value": rows["value"].to_numpy()})
    pairs = pairs.merge(said[said["class"] >= 0], on="range")
    value = pairs["value"].to_numpy()
    shared_s = (pairs["end_s"] - pairs["start_s"]).to_numpy()
    range_s = (annotated["end_s"] - annotated["start_s"]).to_numpy()[pairs["range"]]
    present = shared_s >= min_overlap * np.minimum(range_s, window_s[pairs["window"]]) - GRACE_S
    if weak:
        present = (shared_s >= range_s - GRACE_S) | (present & inherit_weak)
    pairs["present"] = (value == 1) & present
    pairs["unsure"] = (np.isnan(value) | ((value == 1) & ~present)) & (shared_s > GRACE_S)
    pairs["absent_s"] = 0.0
    zeros = pairs[value == 0]
    pairs.loc[zeros.index, "absent_s"] = _new_s(zeros, ["window", "class"])
    cells = (
        pairs.groupby(["window", "class"], sort=False)
        .agg({"present": "any", "unsure": "any", "absent_s": "sum"})
        .reset_index()
    )
    absent = cells["absent_s"].to_numpy() >= window_s[cells["window"]] - GRACE_S
    cells["value"] = np.where(cells["present"], 1.0, np.where(cells["unsure"], np.nan, 0.0))
    decided = cells["present"] | cells["unsure"] | absent
    return cells.loc[decided, ["window", "class", "value"]], reviewed_s >= window_s - GRACE_S


def _new_s(pairs: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """Seconds of each row's range that no earlier row of the same `keys` covers: they add up to the union's length."""
    ordered = pairs.sort_values([*keys, "start_s"])
    before = ordered.groupby(keys)["end_s"].cummax().groupby([ordered[key] for key in keys]).shift(fill_value=-np.inf)
    new_s = (ordered["end_s"] - np.maximum(ordered["start_s"], before)).clip(lower=0.0)
    return new_s.reindex(pairs.index).to_numpy()


def _overlaps(ranges: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of row numbers (range, window) of the same recording that share time, and the range they share."""
    names = pd.Index(windows["recording"].unique())
    at = names.get_indexer(windows["recording"])
    order = np.lexsort((windows["start_s"], at))
    span = float(max(windows["end_s"].max(), ranges["end_s"].max(), 0.0)) + 1.0 if len(windows) and len(ranges) else 1.0
    starts = at[order] * span + windows["start_s"].to_numpy()[order]
    ends = np.maximum.accumulate(at[order] * span + windows["end_s"].to_numpy()[order])
    base = names.get_indexer(ranges["recording"]) * span
    first = np.searchsorted(ends, base + ranges["start_s"].to_numpy(), side="right")
    last = np.searchsorted(starts, base + ranges["end_s"].to_numpy(), side="left")
    counts = np.where(base < 0, 0, np.maximum(last - first, 0))
    which = np.repeat(np.arange(len(ranges)), counts)
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[which]
    window = order[place.astype(np.int64)]
    pairs = pd.DataFrame({"range": which, "window": window})
    pairs["start_s"] = np.maximum(ranges["start_s"].to_numpy()[which], windows["start_s"].to_numpy()[window])
    pairs["end_s"] = np.minimum(ranges["end_s"].to_numpy()[which], windows["end_s"].to_numpy()[window])
    return pairs[pairs["end_s"] > pairs["start_s"]].reset_index(drop=True)


def _labels(segments: Any, classes: list[str], cells: pd.DataFrame, closed: np.ndarray) -> Labels:
    """Labels from decided cells; undecided ones are absent in `closed` windows and unknown in the others."""
    default, rest = (0.0, np.nan) if closed.sum() * 2 > len(closed) else (np.nan, 0.0)
    other = np.flatnonzero(closed != (default == 0.0))  # windows whose undecided cells differ from the default
    taken = np.zeros((len(other), len(classes)), dtype=bool)
    place = pd.Series(np.arange(len(other)), index=other).reindex(cells["window"]).to_numpy()
    mine = ~np.isnan(place)
    taken[place[mine].astype(np.int64), cells["class"].to_numpy()[mine]] = True
    row, col = np.nonzero(~taken)
    rows = np.concatenate([cells["window"].to_numpy(), other[row]])
    cols = np.concatenate([cells["class"].to_numpy(), col])
    values = np.concatenate([cells["value"].to_numpy(), np.full(len(row), rest)])
    return Labels.from_cells(segments, classes, rows, cols, values, default)
