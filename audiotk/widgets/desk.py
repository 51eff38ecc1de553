"""What lies on a labeler's desk: queue, store and teacher, and what the widget may ask and say about them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from audiotk.store import Store, StoreUnavailable
from audiotk.store.history import State
from audiotk.store.operations import AGAIN, Operation, check_operation
from audiotk.tables import AudiotkError
from audiotk.widgets.base import STORE_S
from audiotk.widgets.media import Media
from audiotk.widgets.mel import FLOOR_DB, TOP_DB, mel_hz
from audiotk.widgets.queue import Place, Queue
from audiotk.widgets.teacher import Teacher

GRACE_S = 0.001  # an end may lie this much behind the recording's and is put on it
MOST_SEGMENTS = 5000  # of one recording in a message: about 1 MB
OLDEST = timedelta(days=30)  # that a browser may have kept an act; behind it its clock is not believed
KINDS = ("segment", "delete", "claim", "heard", "note", "undo")


class Elsewhere(AudiotkError):
    """A recording that is not in this queue: another notebook's, perhaps, with the same store and labeler."""


class Desk:
    """The state behind a labeler; its methods are called under `lock`, from any thread.

    Parameters
    ----------
    labeler, classes, store
        Who labels what, and where it goes.
    about
        Recording -> its row of the recordings table.
    claims
        Recording -> class that its noisy label claims.
    places
        The order of the recordings.
    teacher, blind
        Scores, and whether they stay hidden until the labeler has said something about a recording.
    others
        Whether segments of other labelers are shown.
    """

    def __init__(
        self,
        labeler: str,
        classes: Sequence[str],
        store: Store,
        about: Mapping[str, Mapping[str, Any]],
        claims: Mapping[str, str],
        places: Sequence[Place],
        teacher: Teacher | None = None,
        blind: bool = False,
        others: bool = False,
    ) -> None:
        self.labeler, self.classes, self.store, self.about, self.claims = labeler, classes, store, about, claims
        self.teacher, self.blind, self.others = teacher, blind, others
        self.lock = threading.RLock()
        titles = {name: str(row.get("title", name)) for name, row in about.items()}
        self.queue = Queue(places, titles, claims, self._statuses)
        self._keys: dict[str, list[str]] = {}  # of a recording: a hidden repeat has one of its own
        for place in places:
            self._keys.setdefault(place.recording, []).append(place.key)
        self._revealed: set[str] = set()  # keys whose scores are not, or no longer, hidden
        self._shown_at: dict[str, datetime] = {}  # recording -> when its scores were first shown

    def item(self, position: int, media: Media | None, problem: str | None) -> tuple[dict[str, Any], list[bytes]]:
        """One recording of the queue, all that the browser needs to show it."""
        place = self.queue.places[position]
        about, title = self.about[place.recording], self.queue.titles[place.recording]
        state = self.state(place.key)
        sr = int(about["sr"] if media is None else media.sr)
        duration_s = float(about["duration_s"])
        told: dict[str, Any] = {
            "position": position,
            "title": title,
            "duration_s": duration_s if media is None else min(duration_s, media.duration_s),  # behind it is no sound
            "sr": sr,
        }
        if problem is None and (count := len(state.segments)) > MOST_SEGMENTS:
            problem = f"only the first {MOST_SEGMENTS:,} of {count:,} segments are shown here; all are in the store"
        told |= {"claim": self.claims.get(place.recording), "problem": problem, "readable": media is not None}
        told |= {"mel_hz": [round(float(hz), 1) for hz in mel_hz(sr)], "tile_db": [FLOOR_DB, TOP_DB]}
        told |= self.told_state(place.key, state)
        teacher, buffers = self.revealed(place.key, state) or (None, [])
        return told | {"teacher": teacher}, buffers

    def told_state(self, key: str, state: State | None = None) -> dict[str, Any]:
        """What the labeler has said about a recording so far, for the browser."""
        state = self.state(key) if state is None else state
        segments = [
            _told_segment(row) | {"labeler": self.labeler} for row in state.segments
        ]  # a hidden repeat stays hidden
        if self.others:
            every = self.store.state(self._recording(key)).segments
            mine = {self.labeler, self.labeler + AGAIN}
            segments += [_told_segment(row) for row in every if row["labeler"] not in mine]
        told: dict[str, Any] = {
            "recording": key,
            "segments": segments[:MOST_SEGMENTS],
            "heard": [list(pair) for pair in state.heard],
        }
        told |= {"claims": {name or "": verdict for name, verdict in state.verdicts.items()}}
        told |= {"notes": [row["text"] for row in state.notes]}
        return told | {"undoable": state.undoable[-MOST_SEGMENTS:], "redoable": state.redoable[-MOST_SEGMENTS:]}

    def revealed(self, key: str, state: State | None = None) -> tuple[dict[str, Any], list[bytes]] | None:
        """The teacher's scores of a recording for the browser, if there are any and they may be shown."""
        if self.teacher is None or not self.may_see(key, state):
            return None
        found = self.teacher.of(self._recording(key))
        if found is None:
            return None
        scores, times = found
        hop_s = float(np.median(np.diff(times[:, 0]))) if len(times) > 1 else float(times[0, 1] - times[0, 0])
        told: dict[str, Any] = {
            "classes": self.teacher.classes,
            "hop_s": hop_s,
            "rows": len(scores),
            "columns": scores.shape[1],
        }
        return told, [scores.tobytes(), times.tobytes()]

    def showed_teacher(self, key: str) -> None:
        """Remember that the labeler is shown the scores of a recording from now on."""
        self._shown_at.setdefault(self._recording(key), datetime.now(UTC))

    def append(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation of the browser and wait for the disk; returns the acknowledgement or the refusal."""
        uuid = op.get("uuid")
        try:
            operation = self._operation(op)
            number = self.store.append([operation], STORE_S)[0]
        except AudiotkError as err:
            retry = isinstance(err, StoreUnavailable | Elsewhere)
            elsewhere = {"elsewhere": True} if isinstance(err, Elsewhere) else {}
            return {"type": "nack", "uuid": uuid, "text": str(err), "retry": retry, **elsewhere}
        told: dict[str, Any] = {"type": "ack", "uuid": uuid, "seq": number}
        try:
            state = self.state(op["recording"])
            self.queue.set_status(op["recording"], self._status(op["recording"], state))
        except StoreUnavailable:  # written it is, and that is what the browser has to know
            return told
        undo = {"undoable": state.undoable[-MOST_SEGMENTS:], "redoable": state.redoable[-MOST_SEGMENTS:]}
        return told | undo | {"progress": self.queue.progress()}

    def evidence(self, media: Media, key: str, at_s: float, edge: str, class_name: str | None) -> dict[str, Any]:
        """Where an edge belongs: the nearest crossing of the level or, if it may be seen, of the teacher's score."""
        if edge not in ("start", "end"):
            raise AudiotkError(f"snap: expected the edge 'start' or 'end', got {edge!r}")
        found = {"energy": media.snap(at_s, edge)}
        with self.lock:
            if self.teacher is not None and class_name is not None and self.may_see(key):
                found["teacher"] = self.teacher.crossing(self._recording(key), class_name, at_s, edge)
        near = {name: time for name, time in found.items() if time is not None}
        if not near:
            return {"to_s": at_s, "evidence": "none"}
        best = min(near, key=lambda name: abs(near[name] - at_s))
        return {"to_s": near[best], "evidence": best}

    # --- inside -------------------------------------------------------------------------------------------------------

    def _recording(self, key: Any) -> str:
        if not isinstance(key, str):
            raise AudiotkError(f"recording: expected its name, got {key!r:.80}")
        if key not in self.queue.by_key:
            raise Elsewhere(f"recording {key!r} is not in the queue of this labeler; run the cell that shows it")
        return self.queue.by_key[key].recording

    def _name(self, key: str) -> str:
        """Who labels at a place: hidden repeats are kept apart from the first labels."""
        return self.labeler + (AGAIN if self.queue.by_key[key].again else "")

    def state(self, key: str) -> State:
        """What the labeler has said about a recording so far."""
        return self.store.state(self._recording(key), self._name(key))

    def may_see(self, key: str, state: State | None = None) -> bool:
        """Whether the teacher's scores may be shown: not blind, or the labeler once said something here."""
        if not self.blind or key in self._revealed:
            return True
        state = self.state(key) if state is None else state
        if state.segments or state.claims or state.undoable or state.redoable:
            self._revealed.add(key)
        return key in self._revealed

    def _operation(self, op: Mapping[str, Any]) -> Operation:
        """The checked operation of what the browser sent."""
        kind, payload = op.get("kind"), op.get("payload")
        if kind not in KINDS or not isinstance(payload, Mapping):
            raise AudiotkError(f"operation: expected one of {', '.join(KINDS)} with a payload, got {kind!r:.80}")
        recording = self._recording(op.get("recording"))
        duration_s = float(self.about[recording]["duration_s"])
        at = _moment(op.get("at_client"))
        operation = Operation(
            op.get("uuid", ""), kind, self._name(op["recording"]), recording, _within(payload, duration_s), at,
            seen_teacher=op.get("seen_teacher") is True or self._seen(op["recording"], at),
        )  # fmt: skip
        operation = check_operation(operation)
        self._check_class(operation)
        return operation

    def _seen(self, key: str, at: datetime) -> bool:
        """Whether the labeler had been shown scores of this recording at that time, as far as the kernel knows.

        What the browser shows now, it says itself; this adds what was shown at the other place of a hidden repeat,
        by this kernel or, as the store tells, by one before.
        """
        recording = self._recording(key)
        if recording in self._shown_at and self._shown_at[recording] <= at:
            return True
        if len(self._keys[recording]) == 1:
            return False
        opens = self.blind and self.teacher is not None and self.teacher.of(recording) is not None  # any label does
        names = {self._name(other) for other in self._keys[recording] if other != key}
        told = pd.concat([self.store.operations(recording, name) for name in names])
        return bool((told["kind"].ne("heard") & told["at"].le(at) & (told["seen_teacher"] | opens)).any())

    def _check_class(self, operation: Operation) -> None:
        """A class has to be in the list, unless the label that is changed or claimed has it already."""
        name = operation.payload.get("class_name")
        if name is None or name in self.classes:
            return
        state = self.store.state(operation.recording, operation.labeler)
        before = {row["class_name"] for row in state.segments if row["id"] == operation.payload.get("id")}
        if name not in before | set(state.verdicts):
            raise AudiotkError(f"class {name!r} is not in the list of classes: {', '.join(self.classes)}")

    def _status(self, key: str, state: State) -> str:
        recording = self._recording(key)
        return _status(state, self.claims.get(recording), float(self.about[recording]["duration_s"]))

    def _statuses(self) -> dict[str, str]:
        """Status of every recording, by key, from the store."""
        found: dict[str, str] = {}
        places = self.queue.places
        for again in sorted({place.again for place in places}):
            states = _states_of(
                self.store, self.labeler + (AGAIN if again else ""), len(self.claims) == len(self.about)
            )
            for place in (place for place in places if place.again == again):
                found[place.key] = self._status(place.key, states.get(place.recording, State(place.recording)))
        return found


def _moment(told: Any) -> datetime:
    """When something was done, as a browser says (ISO 8601, or ms since 1970); now if that cannot be."""
    now = datetime.now(UTC)
    try:
        is_number = isinstance(told, int | float)
        moment = datetime.fromtimestamp(told / 1000, UTC) if is_number else datetime.fromisoformat(told)
    except (TypeError, ValueError, OverflowError, OSError):
        return now
    return moment if moment.tzinfo is not None and now - OLDEST <= moment <= now else now


def _status(state: State, claim: str | None, duration_s: float) -> str:
    """Status of a recording: the verdict on its claim or, without a claim, what was found at all."""
    verdicts = state.verdicts
    if claim is not None:
        verdict = verdicts.get(claim, verdicts.get(None))
        return "open" if verdict is None else verdict
    if state.segments or "confirmed" in verdicts.values():
        return "confirmed"
    if "unsure" in verdicts.values():
        return "unsure"
    heard_s = sum(end - start for start, end in state.heard)
    return "not_found" if "not_found" in verdicts.values() or heard_s >= 0.95 * duration_s else "open"


def _states_of(store: Store, labeler: str, claims_only: bool) -> dict[str, State]:
    """Recording -> what one labeler left there, as far as a status needs it; claims alone if only they matter.

    Segments are read one by one only where something was taken back or deleted, so that millions of them do not matter.
    """
    states: dict[str, State] = {}
    for row in store.claims(labeler=labeler).to_dict("records"):
        name = row["class_name"] if isinstance(row["class_name"], str) else None
        states.setdefault(row["recording"], State(row["recording"])).claims.append(
            {"class_name": name, "verdict": row["verdict"]}
        )
    if claims_only:
        return states
    tally = store.tally(labeler)
    for recording, kinds in tally.groupby("recording")["kind"].agg(set).items():
        if kinds & {"undo", "delete"} or "segment" not in kinds:
            states[str(recording)] = store.state(str(recording), labeler)
        else:
            states.setdefault(str(recording), State(str(recording))).segments.append({})
    return states


def _told_segment(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "start_s", "end_s", "class_name", "note", "labeler", "seen_teacher")
    return {name: row[name] for name in names}


def _within(payload: Mapping[str, Any], duration_s: float) -> dict[str, Any]:
    """The payload with ends that lie at most 1 ms behind the recording put on its end."""

    def put(end: Any) -> Any:
        is_number = isinstance(end, (int, float)) and not isinstance(end, bool)
        return duration_s if is_number and duration_s < end <= duration_s + GRACE_S else end

    told = dict(payload)
    if "end_s" in told:
        told["end_s"] = put(told["end_s"])
    if isinstance(ranges := told.get("ranges"), list):
        told["ranges"] = [[p[0], put(p[1])] if isinstance(p, list) and len(p) == 2 else p for p in ranges]
    return told
