"""What a labeler said of the points of an explorer, and what is promoted of them: all of it read from a store.

A verdict is a ``judgement`` operation (value 0: the class is absent, so the false positive is one; 1: a true event;
None: unsure), whose reason says of which selection it was a member and why it was heard. Nothing is known here before
the store has it, so a new kernel finds what the old one knew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from audiotk import mining
from audiotk.store import Store
from audiotk.store.history import active
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, segment_id
from audiotk.widgets.base import STORE_S

VALUES: dict[str, int | None] = {"false": 0, "true": 1, "unsure": None}
WORDS = {value: word for word, value in VALUES.items()}
REASON = "explorer"


@dataclass(frozen=True)
class Said:
    """One verdict: its operation, the point, "false" / "true" / "unsure", of which selection, and why it was heard."""

    uuid: str
    row: int
    word: str
    key: str
    why: str


@dataclass(frozen=True)
class Act:
    """What can be undone: a verdict (`target` is its operation) or a promotion (`target` is its name)."""

    kind: str
    target: str
    row: int
    words: str


class Ledger:
    """Verdicts and promotions of the points; the caller holds a lock.

    Attributes
    ----------
    theme
        Number of the theme each point is promoted to, 1 for the first of :data:`audiotk.mining.THEMES`; 0: to none.
    acts
        What this labeler can undo, the last one at the end.
    """

    def __init__(self, store: Store, labeler: str, points: pd.DataFrame) -> None:
        self.store, self.labeler, self._points = store, labeler, points
        rows = zip(points["segment"], points["class_name"], strict=True)
        self._row_of = {key: row for row, key in enumerate(rows)}
        places = zip(points["recording"], points["start_s"], points["end_s"], points["class_name"], strict=True)
        self._row_at = {(segment_id(*place[:3]), place[3]): row for row, place in enumerate(places)}
        self.reload()

    def reload(self) -> None:
        """Read everything from the store."""
        table = self.store.operations(labeler=self.labeler)
        table = table[table["kind"].isin(["judgement", "promotion", "undo"])]
        names = ["uuid", "kind", "labeler", "recording", "payload", "at"]
        said: dict[int, list[Said]] = {}
        acts: dict[str, Act] = {}
        for op in active([Operation(*row) for row in table[names].itertuples(index=False)]):
            if op.kind == "judgement" and (found := self._said(op)) is not None:
                said.setdefault(found.row, []).append(found)
                if found.key:
                    acts[found.uuid] = Act("judgement", found.uuid, found.row, "")
            elif op.kind == "promotion" and self._row_at_of(op.recording, op.payload) is not None:
                name, words = op.payload["promotion"], f"{op.payload['cluster']} as {op.payload['theme']}"
                acts.pop(name, None)
                acts[name] = Act("promotion", name, -1, words)
        self._said_of, self.acts = said, list(acts.values())
        self._read_themes()

    def _read_themes(self) -> None:
        theme, self._promotion = np.zeros(len(self._points), dtype=np.uint8), dict[int, str]()
        self._mine = dict[int, str]()
        for row in self.store.promotions().to_dict("records"):
            at = self._row_at.get((row["segment"], row["class_name"]))
            if at is not None:
                theme[at] = mining.THEMES.index(row["theme"]) + 1 if row["theme"] in mining.THEMES else 0
                self._promotion[at] = row["promotion"]
                if row["labeler"] == self.labeler:
                    self._mine[at] = row["promotion"]
        self.theme = theme

    def _said(self, op: Operation) -> Said | None:
        payload = op.payload
        row = self._row_of.get((payload["segment_id"], payload["class_name"]))
        if row is None:
            return None
        subject, _, rest = payload["reason"].partition(":")
        key, _, why = rest.partition(" ") if subject == REASON else ("", "", "")
        return Said(op.uuid, row, WORDS[payload["value"]], key, why)

    def _row_at_of(self, recording: str, payload: Mapping[str, Any]) -> int | None:
        return self._row_at.get((segment_id(recording, payload["start_s"], payload["end_s"]), payload["class_name"]))

    # --- asked --------------------------------------------------------------------------------------------------------

    def word(self, row: int) -> str:
        """The verdict on a point, or ""."""
        said = self._said_of.get(row)
        return said[-1].word if said else ""

    def last(self) -> dict[int, Said]:
        """The last verdict on each point that has one."""
        return {row: said[-1] for row, said in self._said_of.items() if said}

    def told(self, rows: np.ndarray, key: str, shown: Collection[int]) -> list[tuple[Said, bool]]:
        """The verdicts on some points, and whether each was drawn at random from the selection `key`.

        `shown` are those of which this is known; of others the store tells.
        """
        inside = set(map(int, rows))
        last = [said for row, said in self.last().items() if row in inside]
        return [(said, said.row in shown or (said.key, said.why) == (key, "random")) for said in last]

    def before(self, act: Act) -> str:
        """The verdict on its point before an act."""
        said = self._said_of.get(act.row, [])
        place = next((at for at, one in enumerate(said) if one.uuid == act.target), 0)
        return said[place - 1].word if place else ""

    # --- done ---------------------------------------------------------------------------------------------------------

    def judge(self, uuid: str, row: int, word: str, key: str, why: str) -> None:
        """Write a verdict; the same `uuid` again changes nothing."""
        if any(said.uuid == uuid for said in self._said_of.get(row, [])):
            return
        point = self._points.iloc[row]
        payload = {"class_name": point["class_name"], "segment_id": point["segment"], "value": VALUES[word]}
        payload |= {name: float(point[name]) for name in ("start_s", "end_s")} | {"reason": f"{REASON}:{key} {why}"}
        operation = Operation(uuid, "judgement", self.labeler, point["recording"], payload, seen_teacher=True)
        self.store.append([operation], STORE_S)
        self._said_of.setdefault(row, []).append(Said(uuid, row, word, key, why))
        self.acts.append(Act("judgement", uuid, row, ""))

    def promote(
        self, rows: np.ndarray, theme: str, door: mining.Door, cluster: str, heard: pd.DataFrame, note: str
    ) -> str:
        """Promote points; if all that are left of them are promoted so by this labeler, that promotion is meant."""
        left = [row for row in map(int, rows) if self.word(row) not in ("true", "unsure")]
        code = mining.THEMES.index(theme) + 1 if theme in mining.THEMES else 0
        names = {self._mine.get(row, "") if self.theme[row] == code else "" for row in left}
        if left and code and len(names) == 1 and (same := names.pop()):
            return same
        about: dict[str, Any] = {"labeler": self.labeler, "cluster": cluster, "verdicts": heard, "note": note}
        members = self._points.iloc[rows][list(mining.FALSE_POSITIVE_COLUMNS)]
        name = mining.promote(self.store, members, theme, door, **about)
        self.acts.append(Act("promotion", name, -1, f"{cluster} as {theme}"))
        self._read_themes()
        return name

    def undo(self, uuid: str, kind: str, target: str) -> int | None:
        """Take back a verdict or a promotion, unless it is gone already. Returns the point of a verdict."""
        act = next((act for act in self.acts if (act.kind, act.target) == (kind, target)), None)
        if act is None:
            return None
        if kind == "promotion":
            mining.take_back(self.store, target, labeler=self.labeler)
            self.acts.remove(act)
            self._read_themes()
            return None
        recording = self._points["recording"].iloc[act.row]
        self.store.append([Operation(uuid, "undo", self.labeler, recording, {"target": target})], STORE_S)
        self._said_of[act.row] = [said for said in self._said_of[act.row] if said.uuid != target]
        self.acts.remove(act)
        return act.row


def check_word(word: Any) -> str:
    """`word`, if it is a verdict."""
    if word not in VALUES:
        raise AudiotkError(f"explorer: expected a verdict of {', '.join(VALUES)}, got {word!r:.80}")
    return str(word)
