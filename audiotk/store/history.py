"""Replay of operations into the state they leave: pure functions, no files.

An operation counts unless one that counts takes it back. Of several that say something about the same thing by the same
labeler, the latest that counts wins: the one that was done last (its `at`, then its number), which after a merge, or
after work offline, is not the one that was stored last. Labelers never change each other's state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from audiotk.store.operations import UNDOABLE, Operation, check_inside, counts, ranges_of
from audiotk.tables import SEGMENT_COLUMNS, check_annotations, check_segments, make_sources, segment_id

TOUCH_S = 1e-6  # ranges closer than this are one
NOW = datetime.max.replace(tzinfo=UTC)  # what has no time yet comes last
Row = dict[str, Any]
Ranges = list[tuple[float, float]]


@dataclass(frozen=True)
class State:
    """What the operations on one recording leave, of one labeler or of all.

    Attributes
    ----------
    recording
        Its id.
    about
        path, duration_s, sr, group, claim as registered; None if it is not.
    segments
        Rows id, start_s, end_s, class_name, note, labeler, seen_teacher, at; by start.
    claims
        Rows class_name, verdict, labeler, seen_teacher, at; in the order of their making.
    heard
        Ranges (start_s, end_s) that were played, to any of the labelers; sorted and disjoint.
    notes
        Rows text, labeler, at; one a labeler.
    undoable, redoable
        uuids to take back, the last one first in turn; only of one labeler, so empty for all. Redo = undo of the undo.
    """

    recording: str
    about: Row | None = None
    segments: list[Row] = field(default_factory=list)
    claims: list[Row] = field(default_factory=list)
    heard: Ranges = field(default_factory=list)
    notes: list[Row] = field(default_factory=list)
    undoable: list[str] = field(default_factory=list)
    redoable: list[str] = field(default_factory=list)

    @property
    def verdicts(self) -> dict[str | None, str]:
        """Class name -> verdict; with several labelers the latest."""
        return {row["class_name"]: row["verdict"] for row in self.claims}


def undone(operations: Sequence[Operation]) -> set[str]:
    """uuids of the operations that are taken back; in the order of the store, so each before what takes it back."""
    dead: set[str] = set()
    for operation in reversed(operations):
        if operation.kind == "undo" and operation.uuid not in dead:
            dead.add(operation.payload["target"])
    return dead


def active(operations: Sequence[Operation]) -> list[Operation]:
    """The operations that count, without undos, by the time they were done; given in the order of the store."""
    dead = undone(operations)
    return _by_time(operation for operation in operations if operation.kind != "undo" and operation.uuid not in dead)


def _by_time(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda operation: operation.at or NOW)


def replay(recording: str, operations: Sequence[Operation], labeler: str | None = None) -> State:
    """The state that the operations on one recording, in the order of the store, leave; of one labeler, or of all."""
    about = [dict(operation.payload) for operation in operations if operation.kind == "recording"]
    mine = [operation for operation in operations if labeler is None or operation.labeler == labeler]
    counting = active(mine)
    undoable, redoable = ([], []) if labeler is None else _undo_lists(mine)
    segments = segment_rows(counting)
    return State(
        recording=recording,
        about=about[-1] if about else None,
        segments=[_without(row, "recording") for row in sorted(segments, key=lambda row: (row["start_s"], row["id"]))],
        claims=[_without(row, "recording") for row in claim_rows(counting)],
        heard=union(pair for operation in counting if operation.kind == "heard" for pair in ranges_of(operation)),
        notes=[_without(row, "recording") for row in note_rows(counting)],
        undoable=undoable,
        redoable=redoable,
    )


def _undo_lists(operations: Sequence[Operation]) -> tuple[list[str], list[str]]:
    """What one labeler can undo, and redo: the undos made since his last other act."""
    dead, operations = undone(operations), _by_time(operations)
    kinds = {operation.uuid: operation.kind for operation in operations}
    undoable = [op.uuid for op in operations if op.kind in UNDOABLE and op.uuid not in dead]
    last = max((place for place, op in enumerate(operations) if op.kind in UNDOABLE), default=-1)
    undos = [op for op in operations[last + 1 :] if op.kind == "undo" and op.uuid not in dead]
    return undoable, [op.uuid for op in undos if kinds.get(op.payload["target"]) in UNDOABLE]


def _without(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}


def segment_rows(counting: Iterable[Operation]) -> list[Row]:
    """Segments left by operations that count: recording, id, start_s, end_s, class_name, note, labeler, ..., at."""
    left: dict[tuple[str, str, str], Row] = {}
    for operation in counting:
        if operation.kind not in ("segment", "delete"):
            continue
        key = (operation.recording, operation.labeler, operation.payload["id"])
        left.pop(key, None)
        if operation.kind == "segment":
            left[key] = _row(operation)
    return list(left.values())


def claim_rows(counting: Iterable[Operation]) -> list[Row]:
    """The last claim of each recording, labeler and class: recording, class_name, verdict, labeler, ..., at."""
    return _last(counting, "claim", ("class_name",))


def judgement_rows(counting: Iterable[Operation]) -> list[Row]:
    """The last judgement of each recording, labeler, range and class; value 1, 0 or None."""
    return _last(counting, "judgement", ("start_s", "end_s", "class_name"))


def promotion_rows(counting: Iterable[Operation]) -> list[Row]:
    """The last promotion of each recording, labeler, range and class."""
    return _last(counting, "promotion", ("start_s", "end_s", "class_name"))


def note_rows(counting: Iterable[Operation]) -> list[Row]:
    """The last note of each recording and labeler, if it says anything."""
    return [row for row in _last(counting, "note", ()) if row["text"]]


def heard_ranges(counting: Iterable[Operation]) -> dict[tuple[str, str], Ranges]:
    """(recording, labeler) -> the ranges heard, sorted and disjoint."""
    heard: dict[tuple[str, str], list[Sequence[float]]] = {}
    for operation in counting:
        if operation.kind == "heard":
            heard.setdefault((operation.recording, operation.labeler), []).extend(operation.payload["ranges"])
    return {key: union(pairs) for key, pairs in heard.items()}


def _last(counting: Iterable[Operation], kind: str, fields: Sequence[str]) -> list[Row]:
    left: dict[tuple[Any, ...], Row] = {}
    for operation in counting:
        if operation.kind == kind:
            key = (operation.recording, operation.labeler, *(operation.payload[name] for name in fields))
            left.pop(key, None)  # the order is that of the last word
            left[key] = _row(operation)
    return list(left.values())


def _row(operation: Operation) -> Row:
    return {
        "recording": operation.recording,
        **operation.payload,
        "labeler": operation.labeler,
        "seen_teacher": operation.seen_teacher,
        "at": operation.at,
    }


# --- ranges -----------------------------------------------------------------------------------------------------------


def union(pairs: Iterable[Sequence[float]]) -> Ranges:
    """Sorted, disjoint ranges that cover what `pairs` of (start_s, end_s) cover; those that touch become one."""
    merged: Ranges = []
    for start, end in sorted((float(pair[0]), float(pair[1])) for pair in pairs):
        if merged and start <= merged[-1][1] + TOUCH_S:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def subtract(pairs: Iterable[Sequence[float]], holes: Iterable[Sequence[float]], shortest_s: float = 0.001) -> Ranges:
    """What is left of `pairs` outside of `holes`: sorted, disjoint ranges; those below `shortest_s` are dropped."""
    left: Ranges = []
    gaps = union(holes)
    for start, end in union(pairs):
        for hole_start, hole_end in gaps:
            if hole_end <= start or hole_start >= end:
                continue
            if hole_start > start:
                left.append((start, hole_start))
            start = max(start, hole_end)
        if end > start:
            left.append((start, end))
    return [(start, end) for start, end in left if end - start >= shortest_s]


# --- tables -----------------------------------------------------------------------------------------------------------


def dataset_tables(
    counting: Sequence[Operation],
    classes: Sequence[str] | None = None,
    labelers: Sequence[str] | None = None,
    complete: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(segments, annotations, sources) of ``tables``, one source ``human:NAME`` a labeler (not closed, not weak).

    A labelled segment is 1. Around the segments of a class, what its labeler heard is 0 if the class was claimed
    (confirmed or not found; a claim of class None speaks of every class) and NaN if the claim is "unsure". What was
    not heard stays unknown, and so does a class that was confirmed without a segment: it may be anywhere.

    Parameters
    ----------
    counting
        Operations that count, of every kind (see :func:`active`).
    classes
        Class names to give; default all that were labelled or claimed.
    labelers
        Whose; default all (hidden repeats are no labelers of their own).
    complete
        The labelers marked every class of `classes` wherever they listened: 0 there, claimed or not.

    Raises
    ------
    AudiotkError
        A labelled or heard range lies outside of its recording as last registered.
    """
    counting = [op for op in counting if counts(op.labeler, labelers) or op.kind == "recording"]
    _check_inside(counting)
    marked: dict[tuple[str, str, str], list[Row]] = {}
    for row in segment_rows(counting):
        marked.setdefault((row["recording"], row["labeler"], row["class_name"]), []).append(row)
    claimed = {(row["recording"], row["labeler"], row["class_name"]): row for row in claim_rows(counting)}
    names = {key[2] for key in (*marked, *claimed)} - {None}
    classes = sorted(names) if classes is None else list(classes)
    said = []  # recording, start_s, end_s, class_name, value, labeler, at
    for (recording, labeler, class_name), rows in marked.items():
        if class_name in set(classes):
            said += [(recording, row["start_s"], row["end_s"], class_name, 1.0, labeler, row["at"]) for row in rows]
    listened = {(op.recording, op.labeler): op.at for op in counting if op.kind == "heard"}
    for (recording, labeler), pairs in heard_ranges(counting).items():
        for class_name in classes:
            key = (recording, labeler, class_name)
            claim = claimed.get(key) or claimed.get((recording, labeler, None))
            value = _around(claim, key in marked, complete)
            if value is None:
                continue
            at = max([listened[recording, labeler], *([claim["at"]] if claim else [])])
            left = subtract(pairs, ((row["start_s"], row["end_s"]) for row in marked.get(key, ())))
            said += [(recording, start, end, class_name, value, labeler, at) for start, end in left]
    return _as_tables(said, sorted({op.labeler for op in counting if op.labeler} | set(labelers or ())))


def _around(claim: Row | None, marked: bool, complete: bool) -> float | None:
    """What is said of a class where its labeler heard no segment of it: 0, NaN (unsure) or None (nothing)."""
    verdict = claim["verdict"] if claim else "open"
    if verdict == "unsure":
        return math.nan
    if claim and verdict == "confirmed" and claim["class_name"] is not None and not marked:
        return None
    return 0.0 if complete or verdict != "open" else None


def _check_inside(counting: Sequence[Operation]) -> None:
    """Refuse ranges outside of their recordings as last registered (a file may have changed)."""
    durations = {op.recording: op.payload["duration_s"] for op in counting if op.kind == "recording"}
    for operation in counting:
        if operation.kind in ("segment", "heard"):
            check_inside(operation, durations.get(operation.recording))


def _as_tables(said: list[tuple[Any, ...]], labelers: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    names = ["recording", "start_s", "end_s", "class_name", "value", "labeler", "at"]
    rows = pd.DataFrame(said, columns=names).sort_values(["recording", "start_s", "end_s"], kind="stable")
    places = zip(rows["recording"], rows["start_s"], rows["end_s"], strict=True)
    rows["segment"] = [segment_id(recording, start, end) for recording, start, end in places]
    rows["source"] = "human:" + rows["labeler"].astype("str")
    annotations = check_annotations(rows[["segment", "class_name", "value", "source", "at"]])
    sources = make_sources(**{f"human:{name}": "" for name in labelers})
    return check_segments(rows[list(SEGMENT_COLUMNS)].drop_duplicates("segment")), annotations, sources
