"""The messages of the cluster explorer, between :class:`audiotk.widgets.ClusterExplorer` and ``static/explorer.js``."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets

from audiotk import mining
from audiotk.store import StoreUnavailable
from audiotk.tables import AudiotkError
from audiotk.widgets.base import Answer, need
from audiotk.widgets.cards import CardsWidget
from audiotk.widgets.explorer_ledger import WORDS
from audiotk.widgets.explorer_points import COLOURINGS, colouring, scaled
from audiotk.widgets.media import Shelf

if TYPE_CHECKING:
    from audiotk.widgets.explorer import ClusterExplorer

OPEN = 24  # recordings that stay open: two pages of the grid
UNDOABLE = 99  # that the browser is told of
TOLD = ["recording", "title", "class_name", "score", "level_dbfs", "start_s", "end_s", "silent", "device", "segment"]


class ExplorerWidget(CardsWidget):
    """The messages of a :class:`ClusterExplorer`.

    Rows of points travel as bits (one a point, base64), so that a lasso of 100,000 points is 17 kB.
    """

    name = "explorer"
    in_background = CardsWidget.in_background | {"points", "door"}
    explorer_id = traitlets.Unicode().tag(sync=True)
    map = traitlets.Unicode().tag(sync=True)

    def __init__(self, explorer: ClusterExplorer) -> None:
        self.explorer, self.taker = explorer, self
        heard = explorer.points[explorer.points["silent"] == ""]
        paths = dict(zip(heard["recording"], heard["path"], strict=True))
        told = {"labeler": explorer.labeler, "settings": explorer.settings}
        super().__init__(paths, lock=explorer.lock, explorer_id=explorer.id, map=explorer.map, **told)
        self.shelf.close()
        self.shelf = Shelf(OPEN, on_scanned=self.scanned)
        self._reasons: dict[str, str | None] = {}  # recording -> why the door refuses it, as far as it was asked
        self.link: Any = None  # to the jupyter-scatter beside it

    def with_scatter(self) -> Any:
        """This widget below a jupyter-scatter of the points."""
        from audiotk.widgets.explorer_scatter import ScatterLink

        self.link = ScatterLink(self.explorer, self._scattered)
        return self.link.box(self)

    def _scattered(self, fault: str) -> None:
        """Something was selected in the scatter, or went wrong."""
        with self.lock:
            self.tell({"type": "error", "text": fault} if fault else {"type": "state", **self.state()})

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer_hello(self, message: Mapping[str, Any]) -> Answer:
        """All that is said and known, without the points."""
        explorer = self.explorer
        about = {"count": len(explorer.points), "title": explorer._clusters.words, "notes": explorer.notes}
        about |= {"themes": list(mining.THEMES), "may_promote": explorer.door is not None}
        return {"type": "explorer", **about, **self.state(everything=True)}

    def answer_points(self, message: Mapping[str, Any]) -> Answer:
        """Places (uint16 pairs) and the codes (uint16) of each colouring, and which points are true events (uint8)."""
        points = self.explorer.points
        made = [colouring(points, by) for by in COLOURINGS]
        arrays = [scaled(points), *(code for _, code in made), points["is_true"].to_numpy(dtype=np.uint8)]
        return {"colourings": [about for about, _ in made]}, [array.tobytes() for array in arrays]

    def answer_select(self, message: Mapping[str, Any]) -> Answer:
        """Select a cluster or rows, or nothing."""
        explorer = self.explorer
        if "cluster" in message:
            explorer._select(cluster=int(need(message, "cluster", float)))
        elif "rows" in message:
            explorer._select(rows=from_bits(need(message, "rows", str), len(explorer.points)))
        else:
            explorer.selection = None
        if self.link is not None:
            self.link.show()
        return {"type": "selected", **self.state()}

    def answer_more(self, message: Mapping[str, Any]) -> Answer:
        """The next page."""
        self.explorer.selection = self.explorer._selection().more()
        return {"type": "selected", **self.state()}

    def answer_narrow(self, message: Mapping[str, Any]) -> Answer:
        """Leave out what the door refuses."""
        self.explorer._narrow(pd.Series({name: why for name, why in self._reasons.items() if why}, dtype="str"))
        return {"type": "selected", **self.state()}

    def answer_door(self, message: Mapping[str, Any]) -> Answer:
        """What the door says of the selection: how many members it refuses, and why the first ones."""
        explorer = self.explorer
        with self.lock:
            selection = explorer.selection
            if selection is None:
                return {"key": "", "refused": 0, "reasons": []}
            names = explorer.points["recording"].iloc[selection.rows]
        unknown = [name for name in names.unique() if name not in self._reasons]
        if unknown:
            refused = explorer._refused(unknown)
            self._reasons |= {name: refused.get(name) for name in unknown}
        why = names.map(self._reasons)
        count = int(why.notna().sum())
        reasons = [f"{name}: {reason}" for name, reason in zip(names[why.notna()], why.dropna(), strict=True)]
        return {"key": selection.key, "refused": count, "reasons": list(dict.fromkeys(reasons))[:3]}

    def answer_colour(self, message: Mapping[str, Any]) -> Answer:
        """Colour the jupyter-scatter beside it."""
        if self.link is not None:
            self.link.colour(need(message, "by", str))
        return None

    def answer_theme(self, message: Mapping[str, Any]) -> Answer:
        """Give the jupyter-scatter beside it the ground of day or night."""
        if self.link is not None:
            self.link.ground(need(message, "theme", str))
        return None

    def take(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation; returns the acknowledgement or the refusal."""
        uuid = op.get("uuid")
        try:
            row, everything = self._write(op)
        except AudiotkError as err:
            return {"type": "nack", "uuid": uuid, "text": str(err), "retry": isinstance(err, StoreUnavailable)}
        if everything and self.link is not None:
            self.link.recolour()
        told = {} if row is None else {"row": row, "word": self.explorer._ledger.word(row)}
        return {"type": "ack", "uuid": uuid, **told, **self.state(everything, row)}

    def _write(self, op: Mapping[str, Any]) -> tuple[int | None, bool]:
        """Do what an operation says; returns the point that it is about, and whether all may have changed."""
        explorer, kind, uuid = self.explorer, op.get("kind"), op.get("uuid")
        if not isinstance(uuid, str) or not uuid:
            raise AudiotkError(f"operation: expected a uuid, got {uuid!r:.80}")
        if kind == "judgement":
            row, value = op.get("row"), op.get("value")
            if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(explorer.points):
                raise AudiotkError(f"operation: expected a row of 0 to {len(explorer.points) - 1}, got {row!r:.80}")
            if value not in WORDS or isinstance(value, bool):
                raise AudiotkError(f"operation: expected a value of 1, 0 or None, got {value!r:.80}")
            explorer._ledger.judge(uuid, row, WORDS[value], _text(op, "key"), _text(op, "why"))
            return row, False
        if kind == "undo":
            return explorer._ledger.undo(uuid, _text(op, "what"), _text(op, "target")), op.get("what") == "promotion"
        if kind == "promote":
            rows = from_bits(_text(op, "rows"), len(explorer.points))
            explorer._promote(rows, _text(op, "name"), _text(op, "key"), _text(op, "theme"), _text(op, "note"))
            return None, True
        raise AudiotkError(f"operation: expected a judgement, a promote or an undo, got {dict(op)!r:.120}")

    # --- what the browser is told -------------------------------------------------------------------------------------

    def show(self, everything: bool) -> None:
        """Tell the browser what was done from code."""
        if self.link is not None:
            self.link.show()
            self.link.recolour()
        self.tell({"type": "state", **self.state(everything)})

    def state(self, everything: bool = False, row: int | None = None) -> dict[str, Any]:
        """What is selected and said; the clusters that may have changed (with `row`: its own), or `everything`."""
        explorer = self.explorer
        ledger, selection = explorer._ledger, explorer.selection
        only: list[int] | None = None
        if not everything:
            only = [explorer._clusters.of(row)] if row is not None else []
            only += [] if selection is None or selection.cluster is None else [selection.cluster]
        clusters = [_plain(one) for one in explorer._clusters.rows(ledger, selection, explorer.still, only)]
        told: dict[str, Any] = {"clusters": clusters, "progress": explorer.progress}
        acts = ledger.acts[-UNDOABLE:]
        told["undoable"] = [vars(act) | {"before": ledger.before(act)} for act in acts]
        if everything:
            told["promoted"] = [to_bits(ledger.theme == code + 1) for code in range(len(mining.THEMES))]
            told["still"] = None if explorer.still is None else to_bits(explorer.still)
        if selection is None:
            return told | {"selection": None, "purity": None}
        told["purity"] = vars(explorer.purity)
        if row is None:
            told["selection"] = self._selected()
        return told

    def _selected(self) -> dict[str, Any]:
        """The selection and the members that are heard."""
        explorer = self.explorer
        selection = explorer.selection
        assert selection is not None
        mine = explorer.points.iloc[selection.rows]
        classes = mine["class_name"].value_counts()
        bits = np.zeros(len(explorer.points), dtype=bool)
        bits[selection.rows] = True
        facts: dict[str, Any] = {"recordings": mine["recording"].nunique(), "groups": mine["group"].nunique()}
        facts |= {"level_dbfs": float(mine["level_dbfs"].median()), "score": float(mine["score"].median())}
        facts["promoted"] = int((explorer._ledger.theme[selection.rows] > 0).sum())
        facts["classes"] = [[str(name), int(count)] for name, count in classes.head(3).items()]
        facts["devices"] = [str(name) for name in mine["device"].value_counts().index[:2] if name]
        one = selection.cluster
        theme = mine["theme"].mode().iloc[0] if one is None else explorer._clusters.theme(one, explorer._ledger)
        told = {"key": selection.key, "name": selection.name, "cluster": one, "size": len(mine)}
        told |= {"drawn": selection.drawn, "theme": theme, "rows": to_bits(bits), **_plain(facts)}
        rows = explorer.sample[["point", "why", "verdict", *TOLD]].to_dict("records")
        return told | {"sample": [_plain(row) for row in rows]}


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row for JSON: NaN is None, numbers are Python's."""
    found = {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}


def _text(op: Mapping[str, Any], name: str) -> str:
    value = op.get(name)
    if not isinstance(value, str):
        raise AudiotkError(f"operation: expected {name!r} to be text, got {value!r:.80}")
    return value


def to_bits(rows: np.ndarray) -> str:
    """Which points, bool (n,), as base64 of bits, the first one lowest."""
    return base64.b64encode(np.packbits(rows, bitorder="little").tobytes()).decode("ascii")


def from_bits(text: str, count: int) -> np.ndarray:
    """Rows, rising, from base64 of bits."""
    try:
        raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError) as err:
        raise AudiotkError(f"rows: expected base64 of bits ({err})") from err
    if len(raw) != -(-count // 8):
        raise AudiotkError(f"rows: expected bits of {count:,} points, got {8 * len(raw):,}")
    return np.flatnonzero(np.unpackbits(raw, count=count, bitorder="little"))
