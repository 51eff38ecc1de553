"""What a majority of several labelers says, and what it leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from audiotk.agreement import Said, read_said
from audiotk.agreement.disagreements import (
    Case,
    Cluster,
    case_table,
    find_clusters,
    heard_by_whom,
    names_of,
    overlapping,
    says_of,
    with_classes,
)
from audiotk.agreement.matching import COLLAR_S, END_SHARE
from audiotk.store.history import Ranges, subtract, union
from audiotk.tables import AudiotkError

NAME = "consensus"
RANGE_COLUMNS = {
    "recording": "str", "start_s": "float64", "end_s": "float64", "class_name": "str", "labeler": "str",
    "support": "int64", "heard_by": "int64", "start_spread_s": "float64", "end_spread_s": "float64",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Consensus:
    """What a majority says.

    Attributes
    ----------
    ranges
        recording, start_s, end_s (medians of those who agree), class_name, labeler ("consensus"), support (who marked
        it), heard_by (who heard it), start_spread_s, end_spread_s (largest difference among them).
    open
        What is not settled, as :func:`disagreements` gives it; kind may also be "alone": heard by too few.
    heard
        recording, labeler, start_s, end_s: what enough people heard, without the open questions. There a class is
        absent where it has no range.
    """

    ranges: pd.DataFrame
    open: pd.DataFrame
    heard: pd.DataFrame

    def __repr__(self) -> str:
        return f"Consensus({len(self.ranges)} ranges, {len(self.open)} open questions)"


def consensus(
    segments: pd.DataFrame,
    heard: pd.DataFrame,
    labelers: Sequence[str] | None = None,
    k: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    collar_s: float = COLLAR_S,
    end_share: float = END_SHARE,
) -> Consensus:
    """Labels by vote of those who heard: k of them within the collar make a range; k without a segment make none.

    What reaches neither is an open question: a tie, a place where k mark the class but not within the collar, or one
    that fewer than max(k, 2) have heard.

    Parameters
    ----------
    segments, heard, labelers, classes, collar_s, end_share
        As for :func:`disagreements`.
    k
        Votes that are needed; default more than half of those who heard the place.

    Raises
    ------
    AudiotkError
        k below 1 or above the number of labelers; or as :func:`disagreements`.
    """
    said = read_said(segments, heard, classes)
    names = names_of(said, labelers)
    if k is not None and not 1 <= k <= len(names):
        raise AudiotkError(f"consensus: expected k of 1 to {len(names)} labelers, got {k}")
    clusters = find_clusters(said, names, collar_s, end_share)
    won = [c for c in clusters if len(c.heard_by) >= 2 and len(c.spans) >= _needed(k, len(c.heard_by))]
    taken = {id(cluster) for cluster in won}
    alone: list[Case] = []
    unsettled: dict[str, list[Case]] = {}
    for group in overlapping([cluster for cluster in clusters if id(cluster) not in taken]):
        recording = group[0].recording
        reach = min(c.reach[0] for c in group), max(c.reach[1] for c in group)
        says = says_of(group, heard_by_whom(said, recording, reach, names))
        votes, n = sum(bool(spans) for spans in says.values()), len(says)
        needed = _needed(k, n)
        if n < 2 or n < needed:
            alone.append(Case(recording, "alone", says))
        elif votes >= needed or n - votes < needed:
            kind = "boundary" if len(group) > 1 and votes > 1 else "missed"
            unsettled.setdefault(recording, []).append(Case(recording, kind, says))
    open_ones = case_table([*alone, *(case for cases in unsettled.values() for case in with_classes(cases))])
    return Consensus(_range_table(won), open_ones, heard_by_several(said, names, k, open_ones))


def _needed(k: int | None, n: int) -> int:
    return n // 2 + 1 if k is None else k


def _range_table(clusters: Sequence[Cluster]) -> pd.DataFrame:
    rows = []
    for cluster in clusters:
        spread = np.ptp(list(cluster.spans.values()), axis=0)
        numbers = (len(cluster.spans), len(cluster.heard_by), *map(float, spread))
        rows.append((cluster.recording, *cluster.median, cluster.class_name, NAME, *numbers))
    table = pd.DataFrame(rows, columns=list(RANGE_COLUMNS)).astype(RANGE_COLUMNS)
    return table.sort_values(["recording", "start_s", "end_s", "class_name"], kind="stable", ignore_index=True)


def heard_by_several(
    said: Said, labelers: Sequence[str], k: int | None, open_ones: pd.DataFrame, name: str = NAME
) -> pd.DataFrame:
    """What at least max(k, 2) have heard, without the open questions: recording, labeler (`name`), start_s, end_s."""
    rows: list[tuple[str, str, float, float]] = []
    for recording in sorted({recording for recording, who in said.heard if who in labelers}):
        parts = [said.heard.get((recording, who), []) for who in labelers]
        mine = open_ones[open_ones["recording"] == recording]
        left = subtract(_by_at_least(parts, max(k or 2, 2)), mine[["start_s", "end_s"]].to_numpy(float).tolist())
        rows += [(recording, name, start, end) for start, end in left]
    columns = {"recording": "str", "labeler": "str", "start_s": "float64", "end_s": "float64"}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _by_at_least(parts: Sequence[Ranges], number: int) -> Ranges:
    """What lies in at least `number` of the lists of ranges."""
    steps = sorted((edge, step) for part in parts for pair in part for edge, step in zip(pair, (1, -1), strict=True))
    found, depth, since = [], 0, 0.0
    for edge, step in steps:
        if depth >= number and edge > since:
            found.append((since, edge))
        depth, since = depth + step, edge
    return union(found)
