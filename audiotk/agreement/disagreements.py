"""Where several labelers disagree, case by case.

Segments of one class by different labelers that mean the same event (:mod:`audiotk.agreement.matching`) make one
*cluster*, at most one segment a labeler, every two of them within the collar. A cluster to which everybody
contributes who heard it is agreed. What is left over makes the *cases*: clusters of one class that overlap in time
are one case ("boundary"); a cluster alone was "missed" by somebody; two cases of different classes by different
labelers that share at least half of what they cover together are one case ("class").

Somebody has heard a cluster or case if at least half of its time was played to him; only those have a say in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from audiotk.agreement import NO_SPAN, Said, read_said
from audiotk.agreement.matching import COLLAR_S, END_SHARE, SLACK_S, fits, inside, match
from audiotk.store.operations import AGAIN
from audiotk.tables import AudiotkError

Span = tuple[float, float, str]  # start_s, end_s, class_name
OTHERS = ("both", "neither", "unsure")  # decisions on a case that name no labeler
KINDS = ("missed", "boundary", "class")
CASE_COLUMNS = {
    "recording": "str", "start_s": "float64", "end_s": "float64", "class_name": "str", "kind": "str",
    "missed_by": "str", "disputed_s": "float64", "told": "str", "says": "object",
}  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """Segments of one class that mean the same event: labeler -> (start_s, end_s)."""

    recording: str
    class_name: str
    spans: Mapping[str, tuple[float, float]]
    heard_by: tuple[str, ...] = ()

    @property
    def median(self) -> tuple[float, float]:
        """Median of the starts, and of the ends."""
        start, end = np.median(list(self.spans.values()), axis=0)
        return float(start), float(end)

    @property
    def reach(self) -> tuple[float, float]:
        """First start and last end."""
        return min(start for start, _ in self.spans.values()), max(end for _, end in self.spans.values())

    @property
    def agreed(self) -> bool:
        """Whether several have heard it and all of them marked it."""
        return len(self.spans) > 1 and set(self.heard_by) <= set(self.spans)


@dataclass(frozen=True)
class Case:
    """A disagreement.

    Attributes
    ----------
    recording, kind
        `kind` is one of `KINDS`.
    says
        Labeler -> his segments (start_s, end_s, class_name), by time; whoever heard it and marked nothing has ().
    """

    recording: str
    kind: str
    says: Mapping[str, tuple[Span, ...]]

    @property
    def spans(self) -> list[Span]:
        """All segments, by time."""
        return sorted(span for spans in self.says.values() for span in spans)

    @property
    def reach(self) -> tuple[float, float]:
        """First start and last end."""
        return min(span[0] for span in self.spans), max(span[1] for span in self.spans)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted({span[2] for span in self.spans})

    @property
    def missed_by(self) -> list[str]:
        """Those who heard it and marked nothing."""
        return [labeler for labeler, spans in self.says.items() if not spans]

    @property
    def disputed_s(self) -> float:
        """Seconds for which they do not all say the same."""
        edges = sorted({edge for start, end, _ in self.spans for edge in (start, end)})
        disputed = 0.0
        for start, end in pairwise(edges):
            middle = (start + end) / 2
            said = {frozenset(c for a, b, c in spans if a <= middle < b) for spans in self.says.values()}
            disputed += end - start if len(said) > 1 else 0.0
        return disputed

    @property
    def merged(self) -> tuple[Span, ...]:
        """One range a class: medians, over those who marked it, of their first starts and of their last ends."""
        found = []
        for name in self.classes:
            own = [[span for span in spans if span[2] == name] for spans in self.says.values()]
            reaches = [(min(s[0] for s in spans), max(s[1] for s in spans)) for spans in own if spans]
            start, end = np.median(reaches, axis=0)
            found.append((float(start), float(end), name))
        return tuple(found)

    @property
    def id(self) -> str:
        """Equal for equal marks of the same people."""
        told = [self.recording, sorted((who, spans) for who, spans in self.says.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]

    def decided(self, choice: str) -> tuple[Span, ...]:
        """The segments that a decision leaves: a labeler's, those merged ("both"), or none ("neither", "unsure").

        Raises
        ------
        AudiotkError
            Unknown choice, a labeler who has not heard the case, or "both" where fewer than two marked something.
        """
        if choice in ("neither", "unsure"):
            return ()
        if choice == "both":
            if sum(bool(spans) for spans in self.says.values()) < 2:
                raise AudiotkError("there is nothing to merge: only one labeler marked something here")
            return self.merged
        if choice not in self.says:
            raise AudiotkError(
                f"decision: expected one who heard it ({', '.join(self.says)}) or {OTHERS}, got {choice!r}"
            )
        return self.says[choice]

    def told(self) -> str:
        """Who says what, in words."""
        return "; ".join(
            f"{labeler}: " + (", ".join(f"{name} {a:.3f}-{b:.3f} s" for a, b, name in spans) or "nothing")
            for labeler, spans in self.says.items()
        )


# --- finding ----------------------------------------------------------------------------------------------------------


def names_of(said: Said, labelers: Sequence[str] | None) -> list[str]:
    """The labelers in question: those given, or all but hidden repeats; at least two."""
    names = [name for name in said.labelers if not name.endswith(AGAIN)] if labelers is None else list(labelers)
    if unknown := sorted(set(names) - set(said.labelers)):
        raise AudiotkError(f"labelers: {', '.join(unknown)} said nothing; those who did: {', '.join(said.labelers)}")
    if len(names) != len(set(names)) or len(names) < 2:
        raise AudiotkError(f"labelers: expected at least two different ones, got {names}")
    return names


def find_clusters(
    said: Said, labelers: Sequence[str], collar_s: float = COLLAR_S, end_share: float = END_SHARE
) -> list[Cluster]:
    """All clusters, by recording, class and time; those that nobody who marked them has heard are left out."""
    found = []
    for recording in sorted({recording for recording, who in said.spans if who in labelers}):
        parts = {who: said.spans.get((recording, who), {}) for who in labelers}
        for class_name in sorted({name for part in parts.values() for name in part}):
            spans = {who: part.get(class_name, NO_SPAN) for who, part in parts.items()}
            for rows in _clusters(spans, collar_s, end_share):
                own = {who: (float(spans[who][row][0]), float(spans[who][row][1])) for who, row in rows.items()}
                cluster = Cluster(recording, class_name, own)
                heard_by = heard_by_whom(said, recording, cluster.reach, labelers)
                own = {who: span for who, span in own.items() if who in heard_by}
                if own:
                    found.append(Cluster(recording, class_name, own, tuple(heard_by)))
    return found


def heard_by_whom(said: Said, recording: str, reach: tuple[float, float], labelers: Sequence[str]) -> list[str]:
    """Those of the labelers to whom at least half of a range was played."""
    span = np.array([reach])
    return [who for who in labelers if inside(span, said.heard.get((recording, who), []))[0] >= 0.5]


def _clusters(spans: Mapping[str, np.ndarray], collar_s: float, end_share: float) -> list[dict[str, int]]:
    """Labeler -> row of `spans`; the closest matches first, as long as all of a cluster lie within the collar."""
    edges = []
    for one, other in combinations(sorted(spans), 2):
        for i, j in match(spans[one], spans[other], collar_s, end_share).tolist():
            apart = float(np.abs(spans[one][i] - spans[other][j]).sum())
            edges.append((round(apart, 6), float(spans[one][i][0]), (one, i), (other, j)))
    home = {(who, row): {who: row} for who in sorted(spans) for row in range(len(spans[who]))}
    for _, _, a, b in sorted(edges):
        first, second = home[a], home[b]
        if first is second or set(first) & set(second):
            continue
        rows = [np.array([spans[who][row] for who, row in part.items()]) for part in (first, second)]
        left, right = np.repeat(rows[0], len(rows[1]), axis=0), np.tile(rows[1], (len(rows[0]), 1))
        if fits(left, right, collar_s, end_share).all():
            first.update(second)
            for member in first.items():
                home[member] = first
    unique = {id(part): part for part in home.values()}
    return sorted(
        unique.values(), key=lambda part: min((spans[who][row][0], spans[who][row][1]) for who, row in part.items())
    )


def overlapping(clusters: Sequence[Cluster]) -> list[list[Cluster]]:
    """Clusters of one recording and class in groups that hang together in time."""
    groups: list[list[Cluster]] = []
    until: tuple[str, str, float] | None = None
    for cluster in sorted(clusters, key=lambda each: (each.recording, each.class_name, each.reach)):
        key = (cluster.recording, cluster.class_name)
        if until is not None and until[:2] == key and cluster.reach[0] < until[2] - SLACK_S:
            groups[-1].append(cluster)
            until = (*key, max(until[2], cluster.reach[1]))
        else:
            groups.append([cluster])
            until = (*key, cluster.reach[1])
    return groups


def says_of(group: Sequence[Cluster], heard_by: Iterable[str]) -> dict[str, tuple[Span, ...]]:
    """Labeler -> his segments in a group of clusters; whoever heard it and has none: ()."""
    names = dict.fromkeys([*heard_by, *(who for cluster in group for who in cluster.spans)])
    return {
        who: tuple(sorted((*cluster.spans[who], cluster.class_name) for cluster in group if who in cluster.spans))
        for who in names
    }


def find_cases(said: Said, clusters: Sequence[Cluster], labelers: Sequence[str]) -> list[Case]:
    """The disagreements that clusters leave, by recording and time; what only one has heard is none."""
    cases: dict[str, list[Case]] = {}
    for group in overlapping([cluster for cluster in clusters if not cluster.agreed]):
        reach = min(c.reach[0] for c in group), max(c.reach[1] for c in group)
        says = says_of(group, heard_by_whom(said, group[0].recording, reach, labelers))
        if len(says) > 1:
            kind = "boundary" if sum(bool(spans) for spans in says.values()) > 1 and len(group) > 1 else "missed"
            cases.setdefault(group[0].recording, []).append(Case(group[0].recording, kind, says))
    return [case for recording in sorted(cases) for case in with_classes(cases[recording])]


def with_classes(cases: Sequence[Case]) -> list[Case]:
    """Join cases of different classes by different labelers at the same place, the nearest first."""
    cases = sorted(cases, key=lambda case: (case.reach, case.classes))
    pairs = []
    for i, one in enumerate(cases):
        for j in range(i + 1, len(cases)):
            if cases[j].reach[0] >= one.reach[1]:
                break
            pairs.append((-_shared(one.reach, cases[j].reach), i, j))
    home = dict(enumerate(cases))
    for share, i, j in sorted(pairs):
        one, other = home[i], home[j]
        both = [{who for who, own in case.says.items() if own} for case in (one, other)]
        if -share < 0.5 or one is other or both[0] & both[1] or set(one.classes) & set(other.classes):
            continue
        names = dict.fromkeys([*one.says, *other.says])
        says = {who: tuple(sorted((*one.says.get(who, ()), *other.says.get(who, ())))) for who in names}
        joined = Case(one.recording, "class", says)
        home = {place: joined if case is one or case is other else case for place, case in home.items()}
    unique = {id(case): case for case in home.values()}
    return sorted(unique.values(), key=lambda case: (case.reach, case.classes))


def _shared(one: tuple[float, float], other: tuple[float, float]) -> float:
    """What two ranges have in common, of what they cover together."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return max(common, 0.0) / (max(one[1], other[1]) - min(one[0], other[0]))


# --- tables -----------------------------------------------------------------------------------------------------------


def disagreements(
    segments: pd.DataFrame,
    heard: pd.DataFrame,
    labelers: Sequence[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    collar_s: float = COLLAR_S,
    end_share: float = END_SHARE,
) -> pd.DataFrame:
    """The cases in which labelers disagree, the longest dispute first.

    Parameters
    ----------
    segments, heard, classes
        See :func:`audiotk.agreement.read_said`.
    labelers
        Whose; default all but hidden repeats.
    collar_s, end_share
        What counts as the same event; see :mod:`audiotk.agreement.matching`.

    Returns
    -------
    DataFrame
        recording, start_s, end_s (of all that was marked), class_name (of several "Cat / Dog"), kind ("missed",
        "boundary" or "class", see the module's docstring), missed_by (names of those who heard it and marked nothing),
        disputed_s (seconds for which they do not all say the same), told (who says what, in words), says (dict
        labeler -> segments (start_s, end_s, class_name)).

    Raises
    ------
    AudiotkError
        As :func:`audiotk.agreement.read_said`; an unknown labeler, or fewer than two.
    """
    said = read_said(segments, heard, classes)
    names = names_of(said, labelers)
    return case_table(find_cases(said, find_clusters(said, names, collar_s, end_share), names))


def case_table(cases: Iterable[Case], sort: bool = True) -> pd.DataFrame:
    """Cases as :func:`disagreements` gives them; in their own order unless `sort`."""
    rows = [
        (case.recording, *case.reach, " / ".join(case.classes), case.kind, ", ".join(case.missed_by), case.disputed_s,
         case.told(), dict(case.says))
        for case in cases
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(CASE_COLUMNS)).astype(CASE_COLUMNS)
    if not sort:
        return table
    order = np.lexsort((table["start_s"], table["recording"], -table["disputed_s"].round(6)))
    return table.iloc[order].reset_index(drop=True)
