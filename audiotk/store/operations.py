"""Operations of labelers: what can be said, and the checks of it.

===========  ====================================================  ====================================================
kind         payload                                               meaning
===========  ====================================================  ====================================================
recording    path, duration_s, sr, group, claim (name or None)     registers a recording; the last one counts
segment      id, start_s, end_s, class_name, note ("")             makes or replaces the labeler's segment `id`
delete       id                                                    removes the labeler's segment `id`
claim        class_name (None: every class), verdict               confirmed, not_found, unsure or open
heard        ranges: [[start_s, end_s], ...]                       what was played to the labeler
note         text                                                  the labeler's note on the recording ("" removes it)
judgement    start_s, end_s, class_name, value (1, 0, None),       a one-key verdict on a given range (review,
             segment_id (None), reason ("")                        adjudication, explorer)
promotion    promotion, theme, start_s, end_s, class_name, absent, one member of a promoted cluster of false positives:
             verdict (""), cluster (""), heard, right,             the classes `absent` are absent in it; see
             purity_low, note ("")                                 :mod:`audiotk.mining`
undo         target: uuid of an earlier operation                  takes it back; the undo of an undo is a redo
===========  ====================================================  ====================================================

What a series of operations leaves: :mod:`audiotk.store.history`.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from numbers import Real
from typing import Any

from audiotk.errors import AudiotkError

VERDICTS = ("confirmed", "not_found", "unsure", "open")
NAME_LENGTH, TEXT_LENGTH = 1_000, 100_000  # characters
TOOL = f"audiotk {importlib.metadata.version('audiotk')}"
GRACE_S = 0.001  # a range may end this much after its recording, as in tables.check_segments
AGAIN = " (again)"  # behind a labeler's name: second labels of recordings that came again unannounced


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a labeler did. Made by :func:`make_operation`; appended to a store; never changed.

    Attributes
    ----------
    uuid
        Given by who makes it (the browser): the same operation sent twice is stored once.
    kind, payload
        See the module's docstring.
    labeler
        Who; "" only for kind ``recording``.
    recording
        Id of the recording.
    at
        When it was done, with time zone; None lets the store say now.
    tool
        What wrote it, with its version.
    seen_teacher
        Whether the labeler had seen a teacher's scores of this recording.
    """

    uuid: str
    kind: str
    labeler: str
    recording: str
    payload: Mapping[str, Any]
    at: datetime | None = None
    tool: str = TOOL
    seen_teacher: bool = False


def counts(labeler: str, labelers: Sequence[str] | None) -> bool:
    """Whether what `labeler` said is asked for: all but hidden repeats, or only the named `labelers`."""
    return not labeler.endswith(AGAIN) if labelers is None else labeler in labelers


def make_operation(
    kind: str,
    labeler: str,
    recording: str,
    *,
    uuid: str | None = None,
    at: datetime | None = None,
    seen_teacher: bool = False,
    **payload: Any,
) -> Operation:
    """A checked operation with a new uuid, as in ``make_operation("delete", "ann", "rec1", id="...")``."""
    operation = Operation(uuid or str(uuids.uuid4()), kind, labeler, recording, payload, at, seen_teacher=seen_teacher)
    return check_operation(operation)


# --- checks -----------------------------------------------------------------------------------------------------------


def _text(value: Any, limit: int = TEXT_LENGTH) -> str:
    if not isinstance(value, str):
        raise AudiotkError(f"expected text, got {_short(value)}")
    if len(value) > limit:
        raise AudiotkError(f"expected at most {limit:,} characters, got {len(value):,}")
    if "\0" in value or not _encodes(value):
        raise AudiotkError(f"expected text without NUL and broken Unicode, got {_short(value)}")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _name(value: Any) -> str:
    if not _text(value, NAME_LENGTH):
        raise AudiotkError("expected a name, got an empty one")
    return str(value)


def _maybe_name(value: Any) -> str | None:
    return None if value is None else _name(value)


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise AudiotkError(f"expected a finite number, got {_short(value)}")
    return number + 0.0  # no minus zero


def _positive(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise AudiotkError(f"expected a number > 0, got {number}")
    return number


def _rate(value: Any) -> int:
    if (number := _positive(value)) != int(number):
        raise AudiotkError(f"expected a whole number of Hz, got {number}")
    return int(number)


def _verdict(value: Any) -> str:
    if value not in VERDICTS:
        raise AudiotkError(f"expected one of {', '.join(VERDICTS)}, got {_short(value)}")
    return str(value)


def _value(value: Any) -> int | None:
    if value is None:
        return None
    if (number := _number(value)) not in (0.0, 1.0):
        raise AudiotkError(f"expected 1, 0 or None, got {number}")
    return int(number)


def _count(value: Any) -> int:
    if (number := _number(value)) != int(number) or number < 0:
        raise AudiotkError(f"expected a whole number >= 0, got {number}")
    return int(number)


def _names(value: Any) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not len(value):
        raise AudiotkError(f"expected a list of names, got {_short(value)}")
    return [_name(name) for name in value]


def _pairs(value: Any) -> list[list[float]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not len(value):
        raise AudiotkError(f"expected a list of [start_s, end_s], got {_short(value)}")
    pairs = []
    for pair in value:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise AudiotkError(f"expected [start_s, end_s], got {_short(pair)}")
        pairs.append([_number(pair[0]), _number(pair[1])])
    return pairs


REQUIRED = object()
FIELDS: dict[str, dict[str, tuple[Callable[[Any], Any], Any]]] = {  # kind -> field -> its check, its default
    "recording": {
        "path": (_text, REQUIRED), "duration_s": (_positive, REQUIRED), "sr": (_rate, REQUIRED),
        "group": (_text, REQUIRED), "claim": (_maybe_name, None),
    },
    "segment": {
        "id": (_name, REQUIRED), "start_s": (_number, REQUIRED), "end_s": (_number, REQUIRED),
        "class_name": (_name, REQUIRED), "note": (_text, ""),
    },
    "delete": {"id": (_name, REQUIRED)},
    "claim": {"class_name": (_maybe_name, REQUIRED), "verdict": (_verdict, REQUIRED)},
    "heard": {"ranges": (_pairs, REQUIRED)},
    "note": {"text": (_text, REQUIRED)},
    "judgement": {
        "start_s": (_number, REQUIRED), "end_s": (_number, REQUIRED), "class_name": (_name, REQUIRED),
        "value": (_value, REQUIRED), "segment_id": (_maybe_name, None), "reason": (_text, ""),
    },
    "promotion": {
        "promotion": (_name, REQUIRED), "theme": (_name, REQUIRED), "start_s": (_number, REQUIRED),
        "end_s": (_number, REQUIRED), "class_name": (_name, REQUIRED), "absent": (_names, REQUIRED),
        "verdict": (_text, ""), "cluster": (_text, ""), "heard": (_count, REQUIRED), "right": (_count, REQUIRED),
        "purity_low": (_number, REQUIRED), "note": (_text, ""),
    },
    "undo": {"target": (_name, REQUIRED)},
}  # fmt: skip
UNDOABLE = frozenset({"segment", "delete", "claim", "note", "judgement"})  # by the undo key; what was heard stays heard


def check_operation(operation: Operation) -> Operation:
    """Return `operation` with plain, complete payload.

    Raises
    ------
    AudiotkError
        An unknown kind or field, a missing field, a wrong type, a time that is not finite, negative or reversed, text
        with NUL or too long, a labeler without a name.
    """
    what = _named(operation)
    if not isinstance(operation.kind, str) or operation.kind not in FIELDS:
        raise AudiotkError(f"{what}: expected one of the kinds {', '.join(FIELDS)}")
    fields, given = FIELDS[operation.kind], operation.payload
    if not isinstance(given, Mapping) or any(name not in fields for name in given):
        raise AudiotkError(f"{what}: expected a payload of {', '.join(fields)}; got {_short(given)}")
    if missing := [name for name, (_, default) in fields.items() if default is REQUIRED and name not in given]:
        raise AudiotkError(f"{what}: {', '.join(missing)} missing in {_short(dict(given))}")
    column = "payload"
    try:
        payload = {}
        for column, (check, default) in fields.items():
            payload[column] = check(given[column]) if column in given else default
        for column in ("uuid", "recording", "tool", "labeler"):
            (_text if (column, operation.kind) == ("labeler", "recording") else _name)(getattr(operation, column))
    except AudiotkError as err:
        raise AudiotkError(f"{what}: {column}: {err}") from None
    if not isinstance(operation.seen_teacher, bool):
        raise AudiotkError(f"{what}: seen_teacher: expected True or False, got {_short(operation.seen_teacher)}")
    if operation.at is not None and (not isinstance(operation.at, datetime) or operation.at.tzinfo is None):
        raise AudiotkError(f"{what}: at: expected a datetime with time zone or None, got {_short(operation.at)}")
    checked = replace(operation, payload=payload)
    for start_s, end_s in ranges_of(checked):
        if not 0 <= start_s < end_s:
            raise AudiotkError(f"{what}: expected 0 <= start_s < end_s, got {start_s} to {end_s} s")
    return checked


def check_inside(operation: Operation, duration_s: float | None) -> None:
    """Refuse ranges outside of a recording of `duration_s` seconds; None: nothing is known of its end."""
    if duration_s is None:
        return
    for start_s, end_s in ranges_of(operation):
        if end_s > duration_s + GRACE_S:
            raise AudiotkError(
                f"{_named(operation)}: {start_s:.3f} to {end_s:.3f} s lies outside of recording "
                f"{_short(operation.recording)}, which lasts {duration_s:.3f} s; "
                "if its file has changed, register it again"
            )


def ranges_of(operation: Operation) -> list[Sequence[float]]:
    """The ranges in seconds that an operation speaks about."""
    if operation.kind == "heard":
        return list(operation.payload["ranges"])
    if operation.kind in ("segment", "judgement", "promotion"):
        return [(operation.payload["start_s"], operation.payload["end_s"])]
    return []


def _named(operation: Operation) -> str:
    return f"operation {_short(operation.uuid)} ({_short(operation.kind)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def to_text(payload: Mapping[str, Any]) -> str:
    """The payload as one line of JSON, equal for equal payloads."""
    return json.dumps(payload, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
