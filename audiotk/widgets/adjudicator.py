"""Adjudication: the marks of several labelers below each other, and one key to say who is right.

:class:`Adjudicator` is the plain object that a notebook holds, :class:`AdjudicatorWidget` carries its messages, and
``static/adjudicator.js`` is what people touch. What counts as a disagreement: :mod:`audiotk.agreement.disagreements`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid as uuids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from audiotk.agreement import read_said
from audiotk.agreement.consensus import heard_by_several
from audiotk.agreement.disagreements import OTHERS, Case, case_table, find_cases, find_clusters, names_of
from audiotk.agreement.matching import COLLAR_S, END_SHARE
from audiotk.store import Store, StoreUnavailable, open_store
from audiotk.store.history import active
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, check_recordings
from audiotk.widgets.base import COLOURS, STORE_S, Answer, Plain, checked_settings
from audiotk.widgets.cards import CardsWidget
from audiotk.widgets.media import Media

SETTINGS: dict[str, Any] = {"theme": "auto", "autoplay": True, "height": 150}
ORDERS = ("longest", "recording")
MARK = "adjudication "  # how the reason of its judgements begins; the rest is JSON
LETTERS = "ABCDEFGHI"
RANGE_COLUMNS = {
    "recording": "str", "start_s": "float64", "end_s": "float64", "class_name": "str", "labeler": "str",
    "decision": "str",
}  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """Who is right about a case: a labeler, or one of `OTHERS`."""

    uuid: str
    case: str
    choice: str


class Adjudicator(Plain):
    """Walk through the cases in which labelers disagree and decide each with one key; then take the final ranges.

    Show it as the last line of a cell. Under ``AUDIOTK_HEADLESS=1`` it is a still picture of the recording with most
    cases. The cases are those of the moment in which it is made; a case whose marks have changed since it was decided
    is open again.

    Each decision is a ``judgement`` of the adjudicator in the store, on the disk before it counts as saved: class and
    range of the case, 1 if the class is among the decided ranges, 0 if it is not, None if unsure; `reason` holds who
    was right and the decided ranges. The same adjudicator finds his decisions again.

    Parameters
    ----------
    store
        The store with the labels, or its path or URL.
    labelers
        Two to nine, in the order of their lanes; default all but the adjudicator and hidden repeats.
    labeler
        Who decides; needed, and none of those he judges.
    blind
        Hides the names: lanes A, B, ... in an order drawn for each recording.
    rng
        Source of that order; needed if blind. The same seed gives the same lanes.
    classes, collar_s, end_share
        See :func:`audiotk.agreement.disagreements.disagreements`.
    recordings
        A *recordings* table with the sound; default what the store has registered.
    order
        "longest" (dispute first) or "recording" (by recording and time).
    settings
        Any of theme ("auto", "light", "dark"), autoplay, height (pixels of the spectrogram).

    Raises
    ------
    AudiotkError
        A name or setting is missing or unknown, the adjudicator is among those he judges, or the store cannot be used.
    """

    def __init__(
        self,
        store: Store | str | Path,
        labelers: Sequence[str] | None = None,
        *,
        labeler: str = "",
        blind: bool = True,
        rng: np.random.Generator | None = None,
        classes: Sequence[str] | None = None,
        collar_s: float = COLLAR_S,
        end_share: float = END_SHARE,
        recordings: pd.DataFrame | None = None,
        order: str = "longest",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(labeler, str) or not labeler.strip():
            raise AudiotkError(f"labeler: expected the name of who decides, as in labeler='anna', got {labeler!r}")
        if blind and rng is None:
            raise AudiotkError("adjudicator: blind lanes need rng, as in rng=np.random.default_rng(0); or blind=False")
        if order not in ORDERS:
            raise AudiotkError(f"adjudicator: expected an order of {', '.join(ORDERS)}, got {order!r}")
        self.labeler, self.blind, self.settings = labeler.strip(), blind, checked_settings(settings, SETTINGS)
        self.store = store if isinstance(store, Store) else open_store(store, create=False)
        self.lock = threading.RLock()
        self._said = read_said(self.store.segments(), self.store.heard(), classes)
        self.labelers = self._judged(labelers)
        self._clusters = find_clusters(self._said, self.labelers, collar_s, end_share)
        self._cases = find_cases(self._said, self._clusters, self.labelers)
        if order == "longest":
            self._cases.sort(key=lambda case: -round(case.disputed_s, 6))
        self._about = self.store.recordings() if recordings is None else check_recordings(recordings)
        self._seed = int(rng.integers(2**32)) if blind and rng is not None else None
        self._ids = {case.id: case for case in self._cases}
        self._keys = {self.key(name): name for name in self._ids}
        self._decided: list[Decision] = []
        self._resume()

    def __repr__(self) -> str:
        done = f"{len(self._decisions())} of {len(self._cases)} cases decided"
        return f"Adjudicator({' and '.join(self.labelers)} by {self.labeler!r}: {done})"

    def _judged(self, labelers: Sequence[str] | None) -> list[str]:
        said = self._said
        if labelers is None:
            labelers = [name for name in names_of(said, None) if name != self.labeler]
        names = names_of(said, labelers)
        if self.labeler in names:
            raise AudiotkError(f"adjudicator: {self.labeler!r} is one of those to be judged; decide under another name")
        if len(names) > len(LETTERS) or set(names) & set(OTHERS):
            raise AudiotkError(f"adjudicator: expected at most {len(LETTERS)} labelers not named {OTHERS}, got {names}")
        return names

    # --- what a notebook asks -----------------------------------------------------------------------------------------

    @property
    def cases(self) -> pd.DataFrame:
        """The cases in order, as :func:`audiotk.agreement.disagreements.disagreements` gives them, and `decision`.

        decision is the name of a labeler, "both", "neither", "unsure" or "" (open).
        """
        with self.lock:
            decisions = self._decisions()
        table = case_table(self._cases, sort=False)
        said = [decisions.get(name, "") for name in self._ids]
        return table.assign(decision=pd.Series(said, index=table.index, dtype="str"))

    def ranges(self) -> pd.DataFrame:
        """The final ranges: what everybody marked (medians of their edges), and what was decided.

        Returns
        -------
        DataFrame
            recording, start_s, end_s, class_name, labeler (the adjudicator), decision ("agreed", the name of a
            labeler, or "both"); cases that are open or unsure have none.
        """
        rows = [
            (cluster.recording, *cluster.median, cluster.class_name, self.labeler, "agreed")
            for cluster in self._clusters
            if cluster.agreed
        ]
        with self.lock:
            decisions = self._decisions()
        for name, choice in decisions.items():
            case = self._ids[name]
            rows += [(case.recording, *span, self.labeler, choice) for span in case.decided(choice)]
        table = pd.DataFrame(rows, columns=list(RANGE_COLUMNS)).astype(RANGE_COLUMNS)
        return table.sort_values(["recording", "start_s", "end_s", "class_name"], kind="stable", ignore_index=True)

    def heard(self) -> pd.DataFrame:
        """Where a class without a range is absent: what at least two have heard, without open and unsure cases.

        Columns recording, labeler, start_s, end_s.
        """
        cases = self.cases
        return heard_by_several(
            self._said, self.labelers, 2, cases[cases["decision"].isin(["", "unsure"])], self.labeler
        )

    def decide(self, case: int, choice: str) -> None:
        """Decide a row of :attr:`cases`, as a key press does: the name of a labeler, "both", "neither" or "unsure"."""
        if not 0 <= case < len(self._cases):
            raise AudiotkError(f"adjudicator: expected a case of 0 to {len(self._cases) - 1}, got {case}")
        with self.lock:
            self._decide(str(uuids.uuid4()), list(self._ids)[case], choice)

    def make_widget(self) -> AdjudicatorWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        return AdjudicatorWidget(self)

    def picture(self) -> Figure:
        """The recording with most cases, as a still picture."""
        from audiotk.agreement_figures import disagreement_lanes

        table = self.cases
        if table.empty:
            figure = Figure(figsize=(9, 0.5))
            figure.text(0.01, 0.5, f"{self!r}: nothing to decide.", va="center", parse_math=False)
            return figure
        recording = str(table["recording"].value_counts().index[0])
        mine = table[table["recording"] == recording]
        mine = mine.assign(kind=mine["kind"].where(mine["decision"] == "", "decided"))
        lanes = self.lanes(recording)
        marks = [self._said.of(recording, who).assign(labeler=who) for who in lanes]
        path = self.sound_of(recording)[0]
        try:
            sound = Media(path) if path else None
        except AudiotkError:
            sound = None
        title = f"{recording}: {len(mine)} of {len(table)} cases, {(table['decision'] != '').sum()} decided"
        return disagreement_lanes(sound, pd.concat(marks), mine, lanes, self.called(recording), title)

    # --- lanes --------------------------------------------------------------------------------------------------------

    def lanes(self, recording: str) -> list[str]:
        """The labelers in the order of their lanes."""
        if self._seed is None:
            return list(self.labelers)
        digest = hashlib.sha256(recording.encode()).digest()
        order = np.random.default_rng([self._seed, int.from_bytes(digest[:8], "big")]).permutation(len(self.labelers))
        return [self.labelers[place] for place in order]

    def called(self, recording: str) -> dict[str, str]:
        """Labeler -> what he is called here."""
        return {who: LETTERS[lane] if self.blind else who for lane, who in enumerate(self.lanes(recording))}

    def sound_of(self, recording: str) -> tuple[str, str]:
        """(path, what is wrong with it); one of both is empty."""
        rows = self._about[self._about["recording"] == recording]
        path = str(rows["path"].iloc[0]) if len(rows) else ""
        return path, "" if path else "no sound is registered for this recording"

    # --- decisions ----------------------------------------------------------------------------------------------------

    def take(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation of the browser; returns the acknowledgement or the refusal. Called under `lock`."""
        uuid, key = op.get("uuid"), op.get("case")
        try:
            if not isinstance(uuid, str) or not uuid:
                raise AudiotkError(f"operation: expected a uuid, got {uuid!r:.80}")
            if (name := self._keys.get(str(key))) is None:
                raise AudiotkError("this case is not there any more: its marks or lanes changed; run the cell again")
            if op.get("kind") == "undo":
                self._undo(uuid, name, op.get("target"))
            else:
                self._decide(uuid, name, self._choice(self._ids[name], op.get("choice")))
        except AudiotkError as err:
            return {"type": "nack", "uuid": uuid, "text": str(err), "retry": isinstance(err, StoreUnavailable)}
        return {"type": "ack", "uuid": uuid, "case": key, "choice": self.shown(name), "undoable": self.undoable()}

    def key(self, name: str) -> str:
        """What the browser calls a case; another one when its lanes stand in another order: no key is misread."""
        return hashlib.sha256(json.dumps([name, self.lanes(self._ids[name].recording)]).encode()).hexdigest()[:16]

    def shown(self, name: str) -> str:
        """The decision on a case as the browser knows it: "1", "2", ... for a lane, one of `OTHERS`, or ""."""
        return self._lane(name, self._decisions().get(name, ""))

    def _lane(self, name: str, choice: str) -> str:
        return str(self.lanes(self._ids[name].recording).index(choice) + 1) if choice in self.labelers else choice

    def undoable(self) -> list[dict[str, str]]:
        """The decisions that can be taken back, the last one first in turn."""
        found = []
        for place in range(max(len(self._decided) - 99, 0), len(self._decided)):
            name = self._decided[place].case
            earlier = {decision.case: decision.choice for decision in self._decided[:place]}.get(name, "")
            told = {"case": self.key(name), "before": self._lane(name, earlier)}
            found.append({"uuid": self._decided[place].uuid, **told})
        return found

    def _choice(self, case: Case, told: Any) -> str:
        lanes = self.lanes(case.recording)
        numbers = {str(lane): who for lane, who in enumerate(lanes, start=1)}
        if told not in (*numbers, *OTHERS):
            raise AudiotkError(f"decision: expected one of {', '.join((*numbers, *OTHERS))}, got {told!r:.80}")
        return numbers.get(str(told), str(told))

    def _decisions(self) -> dict[str, str]:
        return {decision.case: decision.choice for decision in self._decided}

    def _decide(self, uuid: str, name: str, choice: str) -> None:
        case = self._ids[name]
        spans = case.decided(choice)
        if any(decision.uuid == uuid for decision in self._decided):
            return
        start_s, end_s = case.reach
        class_name = case.classes[0]
        told = {"case": name, "choice": choice, "blind": self.blind, "ranges": [list(span) for span in spans]}
        payload: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "class_name": class_name}
        payload["value"] = None if choice == "unsure" else int(any(span[2] == class_name for span in spans))
        payload["reason"] = MARK + json.dumps(told, ensure_ascii=False)
        self.store.append([Operation(uuid, "judgement", self.labeler, case.recording, payload)], STORE_S)
        self._decided.append(Decision(uuid, name, choice))

    def _undo(self, uuid: str, name: str, target: Any) -> None:
        undo = Operation(uuid, "undo", self.labeler, self._ids[name].recording, {"target": target})
        self.store.append([undo], STORE_S)
        self._decided = [decision for decision in self._decided if decision.uuid != target]

    def _resume(self) -> None:
        """Read from the store what this adjudicator has decided about these cases."""
        rows = self.store.operations(labeler=self.labeler)
        names = ("uuid", "kind", "labeler", "recording", "payload")
        found = [Operation(*(row[name] for name in names)) for row in rows.to_dict("records")]
        for operation in active(found):
            reason = operation.payload.get("reason", "") if operation.kind == "judgement" else ""
            if reason.startswith(MARK):
                told = json.loads(reason.removeprefix(MARK))
                if told["case"] in self._ids:
                    self._decided.append(Decision(operation.uuid, told["case"], told["choice"]))


class AdjudicatorWidget(CardsWidget):
    """The messages of an :class:`Adjudicator`."""

    name = "adjudicator"
    adjudication_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, adjudicator: Adjudicator) -> None:
        self.adjudicator = self.taker = adjudicator
        recordings = {case.recording for case in adjudicator._cases}
        sounds = {name: adjudicator.sound_of(name)[0] for name in sorted(recordings)}
        told = {
            "labeler": adjudicator.labeler,
            "settings": adjudicator.settings,
            "adjudication_id": adjudicator.store.id,
        }
        super().__init__({name: path for name, path in sounds.items() if path}, lock=adjudicator.lock, **told)

    def answer_hello(self, message: Mapping[str, Any]) -> Answer:
        """All cases with the decisions so far, for a browser that has just drawn the widget."""
        own = self.adjudicator
        recordings = {case.recording: self._recording(case.recording) for case in own._cases}
        rows = [self._row(name, case) for name, case in own._ids.items()]
        names = sorted({mark[3] for told in recordings.values() for mark in told["marks"]})
        colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
        told = {"recordings": recordings, "rows": rows, "colours": colours, "undoable": own.undoable()}
        return {"type": "adjudication", "blind": own.blind, **told}

    def _recording(self, recording: str) -> dict[str, Any]:
        own = self.adjudicator
        path, silent = own.sound_of(recording)
        called = own.called(recording)
        marks = [
            [lane, row["start_s"], row["end_s"], row["class_name"]]
            for lane, who in enumerate(called)
            for row in own._said.of(recording, who).to_dict("records")
        ]
        return {"title": Path(path).name or recording, "names": list(called.values()), "marks": marks, "silent": silent}

    def _row(self, name: str, case: Case) -> dict[str, Any]:
        own = self.adjudicator
        start_s, end_s = case.reach
        told: dict[str, Any] = {"case": own.key(name), "recording": case.recording, "kind": case.kind}
        told |= {"start_s": start_s, "end_s": end_s, "classes": case.classes, "disputed_s": case.disputed_s}
        told["lanes"] = [case.says.get(who) for who in own.lanes(case.recording)]
        several = sum(bool(spans) for spans in case.says.values()) > 1
        return told | {"merged": case.merged if several else None, "choice": own.shown(name)}
