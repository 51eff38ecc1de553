"""What may be appended to an annotation store, and which number and time it gets. Use :class:`audiotk.store.Store`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from audiotk.errors import AudiotkError
from audiotk.store.operations import Operation, check_inside
from audiotk.store.storage import moment_of, to_operation, to_row
from audiotk.store.storage import operations_table as table

CHUNK = 500  # names in one question to the database
Known = dict[str, tuple[int, Operation]]  # uuid -> number, operation


def append_to(connection: sa.Connection, operations: Sequence[Operation], where: str) -> list[int]:
    """Insert what is new of checked `operations`, in a transaction of the only writer; the number of each.

    Numbers go on without gaps, so that a gap is damage. The time of an operation is when it was done, as its maker
    says, but never later than it is stored; and without one, not before that of the operation stored last, though a
    clock was put back.
    """
    known = _known(connection, operations, where)
    durations = _durations(connection, {operation.recording for operation in operations}, where)
    end = connection.execute(sa.select(table.c.seq, table.c.at).order_by(table.c.seq.desc()).limit(1)).first()
    last, now = (end.seq, max(datetime.now(UTC), moment_of(end.at))) if end else (0, datetime.now(UTC))
    new: list[dict[str, Any]] = []
    numbers = []
    for operation in operations:
        if (found := known.get(operation.uuid)) is not None:
            _same(found[1], operation)
            numbers.append(found[0])
            continue
        check_inside(operation, durations.get(operation.recording))
        if operation.kind == "recording":
            durations[operation.recording] = operation.payload["duration_s"]
        if operation.kind == "undo":
            _check_undo(operation, known)
        row = to_row(last + len(new) + 1, replace(operation, at=min(operation.at or now, now)))
        new.append(row)
        numbers.append(row["seq"])
        known[operation.uuid] = (row["seq"], operation)
    if new:
        connection.execute(table.insert(), new)
    return numbers


def parts(names: Iterable[Any]) -> Iterator[list[Any]]:
    """Sorted `names` in lists that one question to the database can hold."""
    ordered = sorted(names)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def _known(connection: sa.Connection, new: Sequence[Operation], where: str) -> Known:
    """Operations that are there of the uuids that `new` bears or takes back."""
    wanted = {operation.uuid for operation in new}
    wanted |= {operation.payload["target"] for operation in new if operation.kind == "undo"}
    rows = (row for part in parts(wanted) for row in connection.execute(sa.select(table).where(table.c.uuid.in_(part))))
    return {row.uuid: (row.seq, to_operation(row, where)) for row in rows}


def _durations(connection: sa.Connection, recordings: Iterable[str], where: str) -> dict[str, float]:
    """Seconds of each registered recording, by its last registration."""
    found = {}
    for part in parts(recordings):
        query = sa.select(table).where(table.c.kind == "recording", table.c.recording.in_(part))
        for row in connection.execute(query.order_by(table.c.seq)):
            found[row.recording] = to_operation(row, where).payload["duration_s"]
    return found


def _same(old: Operation, new: Operation) -> None:
    """Refuse a uuid that came with other content; what is stored counts for when, with what tool and teacher."""
    differ = [name for name in ("kind", "labeler", "recording", "payload") if getattr(old, name) != getattr(new, name)]
    if differ:
        raise AudiotkError(
            f"operation {new.uuid!r} is there already with other content ({', '.join(differ)} differ): "
            "each operation needs a uuid of its own"
        )


def _check_undo(undo: Operation, known: Mapping[str, tuple[int, Operation]]) -> None:
    name = undo.payload["target"]
    if name not in known or name == undo.uuid:
        raise AudiotkError(f"operation {undo.uuid!r}: there is no operation {name!r} to take back")
    target = known[name][1]
    if target.kind == "recording":
        raise AudiotkError(f"operation {undo.uuid!r}: a registration is not taken back; register the recording again")
    if (target.labeler, target.recording) != (undo.labeler, undo.recording):
        raise AudiotkError(
            f"operation {undo.uuid!r} of {undo.labeler!r} on {undo.recording!r} cannot take back "
            f"what {target.labeler!r} did on {target.recording!r}"
        )
