"""A labeler who is not there: operations as a person would leave them, made from the truth with human-like errors.

For notebooks that nobody watches, and for tests. The rates in :class:`Habits` are our choice, nobody's measurement:
what is computed from such labels shows that a path works, not how well people label.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from audiotk.errors import NotForThisData
from audiotk.events import truth_ranges
from audiotk.store.operations import Operation, make_operation
from audiotk.tables import Dataset

NAMESPACE = uuid.UUID("7f0e5a52-3c2e-5d0b-9a41-6d1f0c9b8e11")
BEGIN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)  # of the first working day
A_DAY = 20  # recordings
SHORTEST_S = 0.05
SLIP = 7  # every so many segments one gets the wrong class at first, and is taken back


@dataclass(frozen=True)
class Habits:
    """How a simulated labeler errs; seconds and shares.

    Attributes
    ----------
    start_s, end_s
        Standard deviation of the edges.
    late_s
        How much too late ends are on average: the room still sounds.
    miss, miss_short
        Share of events that are missed, and what is added for very short ones (it falls with the length, by 1 / e in
        150 ms).
    confuse
        Share of events that get another class.
    merge_s
        Events of one class with a shorter pause between them become one segment.
    whole
        Share of recordings that are heard to the end; the others are left at a random place in their second half.
    """

    start_s: float = 0.05
    end_s: float = 0.09
    late_s: float = 0.05
    miss: float = 0.08
    miss_short: float = 0.3
    confuse: float = 0.03
    merge_s: float = 0.15
    whole: float = 0.8


CAREFUL, HASTY = Habits(), Habits(0.08, 0.16, 0.10, 0.12, 0.5, 0.06, 0.30, 0.7)


def claims_of(dataset: Dataset) -> pd.Series:
    """The class that each recording's noisy label claims, index recording; recordings without a label are left out.

    Of several classes it is the first of the data set's.
    """
    mine = (dataset.annotations["source"] == claim_source(dataset)) & (dataset.annotations["value"] == 1)
    rows = dataset.annotations[mine]
    rows = rows.assign(place=pd.Index(dataset.classes).get_indexer(pd.Index(rows["class_name"])))
    rows = rows[rows["place"] >= 0].merge(dataset.segments, on="segment").sort_values("place", kind="stable")
    return rows.drop_duplicates("recording").set_index("recording")["class_name"].rename("claim")


def claim_source(dataset: Dataset) -> str:
    """The source of clip labels: "scraped" or, without one, the first weak source; "" if there is none."""
    weak = [str(name) for name in dataset.sources.index if dataset.sources.loc[name, "weak"]]
    return "scraped" if "scraped" in weak else next(iter(weak), "")


def range_source(dataset: Dataset) -> str:
    """The first source that gives time ranges; "" if there is none."""
    return next((str(name) for name in dataset.sources.index if not dataset.sources.loc[name, "weak"]), "")


def simulate_labeling(
    dataset: Dataset, recordings: Sequence[str], labeler: str, rng: np.random.Generator, habits: Habits = CAREFUL
) -> list[Operation]:
    """What a labeler of these habits would have done with `recordings`, one after the other.

    The same arguments give the same operations, uuids and times included, so that they can be sent to a store again.
    He listens, marks what he notices of every class in it, corrects some of it, and answers the claim of
    :func:`claims_of`: confirmed if he marked its class; not found if he did not and heard everything; unsure if it is
    there and he missed it.

    Parameters
    ----------
    dataset
        With a source of time ranges, which is taken for the truth.
    recordings
        Their ids, in the order of labeling.
    labeler
        Name.
    rng
        Source of all chance.
    habits
        How he errs.

    Returns
    -------
    list of Operation
        The registration of each recording (labeler ""), then what he did.

    Raises
    ------
    NotForThisData
        No source of the data set gives time ranges.
    """
    source = range_source(dataset)
    if not source:
        raise NotForThisData(
            f"{dataset.name}: a labeler is simulated from true time ranges, and no source of this data set gives any; "
            "label some recordings yourself (see the parameter labeler), or use data=embedded"
        )
    truth = truth_ranges(dataset.annotations, dataset.segments, source)
    about = dataset.recordings.set_index("recording")
    claims = claims_of(dataset)
    hand = _Hand(labeler, rng, habits, list(dataset.classes))
    for place, name in enumerate(recordings):
        row: dict[Any, Any] = about.loc[name].to_dict()
        day = timedelta(days=place // A_DAY)
        hand.now = max(hand.now, BEGIN + day)
        events = truth.loc[truth["recording"] == name, ["start_s", "end_s", "class_name"]]
        hand.label(name, row, claims.get(name), list(events.itertuples(index=False, name=None)))
    return hand.operations


class _Hand:
    """Writes down what the labeler does, with the clock running."""

    def __init__(self, labeler: str, rng: np.random.Generator, habits: Habits, classes: list[str]) -> None:
        self.labeler, self.rng, self.habits, self.classes = labeler, rng, habits, classes
        self.now, self.marked = BEGIN, 0
        self.operations: list[Operation] = []

    def do(self, kind: str, recording: str, seconds: float, labeler: str | None = None, **payload: Any) -> str:
        """One operation, `seconds` after the one before; returns its uuid."""
        self.now += timedelta(milliseconds=round(1000 * seconds))
        who = self.labeler if labeler is None else labeler
        name = f"{self.labeler}|{recording}|{len(self.operations)}|{kind}"
        made = str(uuid.uuid5(NAMESPACE, name))
        self.operations.append(make_operation(kind, who, recording, uuid=made, at=self.now, **payload))
        return made

    def label(self, recording: str, about: dict[Any, Any], claim: str | None, truth: list[Any]) -> None:
        """Go through one recording."""
        duration_s = float(about["duration_s"])
        registered = {key: about[key] for key in ("path", "duration_s", "sr", "group")}
        self.do("recording", recording, 2.0, "", **registered, claim=claim)
        until = duration_s
        if self.rng.random() >= self.habits.whole:
            until = round(duration_s * self.rng.uniform(0.5, 0.95), 3)
        self.do("heard", recording, until + 1.0, ranges=[[0.0, until]])
        found = [self._edges(*event, until) for event in self._noticed(truth, until)]
        for start_s, end_s, class_name in sorted(found):
            self._mark(recording, start_s, end_s, class_name)
        if claim is not None:
            self._answer(recording, claim, {name for *_, name in found}, truth, until, duration_s)

    def _noticed(self, truth: list[Any], until: float) -> list[tuple[float, float, str]]:
        """The events that are noticed, those of a class with a short pause between them as one."""
        habits, noticed = self.habits, []
        for start_s, end_s, class_name in truth:
            heard_s = min(end_s, until) - start_s
            missed = self.rng.random() < habits.miss + habits.miss_short * math.exp(-(end_s - start_s) / 0.15)
            if not missed and heard_s >= 0.5 * (end_s - start_s):
                noticed.append((start_s, end_s, class_name))
        merged: list[tuple[float, float, str]] = []
        for start_s, end_s, class_name in sorted(noticed, key=lambda event: (event[2], event[0])):
            if merged and merged[-1][2] == class_name and start_s - merged[-1][1] < habits.merge_s:
                merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]), class_name)
            else:
                merged.append((start_s, end_s, class_name))
        return merged

    def _edges(self, start_s: float, end_s: float, class_name: str, until: float) -> tuple[float, float, str]:
        """An event as it is marked."""
        start_s += self.rng.normal(0.0, self.habits.start_s)
        end_s += self.rng.normal(self.habits.late_s, self.habits.end_s)
        if self.rng.random() < self.habits.confuse:
            class_name = self._other(class_name)
        start_s = round(min(max(start_s, 0.0), until - SHORTEST_S), 3)
        return start_s, round(min(max(end_s, start_s + SHORTEST_S), until), 3), class_name

    def _other(self, class_name: str) -> str:
        others = [name for name in self.classes if name != class_name] or [class_name]
        return str(others[self.rng.integers(len(others))])

    def _mark(self, recording: str, start_s: float, end_s: float, class_name: str) -> None:
        """Make one segment; now and then with a slip that is undone, or an edge that is corrected."""
        self.marked += 1
        made = str(uuid.uuid5(NAMESPACE, f"{self.labeler}|{recording}|segment {self.marked}"))
        payload: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "class_name": class_name}
        if self.marked % SLIP == SLIP - 2:
            slip = self.do("segment", recording, 3.0, **payload | {"id": made, "class_name": self._other(class_name)})
            self.do("undo", recording, 1.5, target=slip)
        elif self.rng.random() < 0.15 and end_s - start_s > 4 * SHORTEST_S:
            rough = round(start_s + (end_s - start_s) * self.rng.uniform(0.5, 0.9), 3)
            self.do("segment", recording, 3.0, **payload | {"id": made, "end_s": rough})
        self.do("segment", recording, 2.0 + self.rng.exponential(1.0), id=made, **payload)

    def _answer(
        self, recording: str, claim: str, marked: set[str], truth: list[Any], until: float, duration_s: float
    ) -> None:
        """Answer the claim, or leave it open if he stopped before its class came."""
        there = any(name == claim and start_s < until for start_s, _, name in truth)
        if claim in marked:
            self.do("claim", recording, 1.0, class_name=claim, verdict="confirmed")
        elif there:
            self.do("claim", recording, 2.5, class_name=claim, verdict="unsure")
        elif until >= duration_s:
            self.do("claim", recording, 1.5, class_name=claim, verdict="not_found")
