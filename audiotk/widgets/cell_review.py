"""What reviews of single cells share: a drawn sample, one key a verdict, the store that keeps it, annotations of it.

:class:`CellReview` is the base of the plain objects, :class:`CellReviewWidget` that of their widgets; their front ends
begin with ``static/verdicts.js``. A subclass says which cells, what makes one right, and what follows from it all.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import uuid as uuids
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from audiotk.store import Store, StoreUnavailable, open_store
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, Dataset, Labels, check_recordings, make_annotations, make_sources
from audiotk.widgets.base import STORE_S, Answer, Plain, checked_settings
from audiotk.widgets.cards import CardsWidget
from audiotk.widgets.verdicts import estimate, placed

SETTINGS: dict[str, Any] = {"theme": "auto", "autoplay": True, "height": 180}
VALUES: dict[str, int | None] = {"present": 1, "absent": 0, "unsure": None}
WORDS = {1: "present", 0: "absent", None: "unsure"}


@dataclass
class Verdict:
    """What somebody said about a cell: 1, 0 or None (unsure); `uuid` None if it was read from the store."""

    cell: int
    value: int | None
    at: pd.Timestamp
    uuid: str | None = None


class CellReview(Plain):
    """A sample of cells (segment x class) to be heard, and what was said about them.

    A subclass draws its cells and hands them to `_hold`; it gives `wanted`, `told_row`, `told_about`, `told_estimates`,
    and in `why` the column of its cells that goes into the store as reason.

    Parameters
    ----------
    subject
        What is reviewed, as ``relabel:pel``: the first word of each reason in the store.
    labeler, rng, order, recordings, segments, store, settings
        As :class:`audiotk.widgets.RuleReview` says.

    Raises
    ------
    AudiotkError
        A name, generator, order or setting is missing or unknown, a table is not valid, or the store cannot be used.
    """

    orders: tuple[str, ...] = ()
    why = ""

    def __init__(
        self,
        subject: str,
        *,
        labeler: str,
        rng: np.random.Generator | None,
        order: str,
        recordings: pd.DataFrame | Dataset | None,
        segments: pd.DataFrame | None,
        store: Store | str | Path | None,
        settings: Mapping[str, Any] | None,
    ) -> None:
        if not isinstance(labeler, str) or not labeler.strip():
            raise AudiotkError(f"labeler: expected the name of who listens, as in labeler='anna', got {labeler!r}")
        if not isinstance(rng, np.random.Generator):
            raise AudiotkError(f"rng: expected a random generator, as in rng=np.random.default_rng(0), got {rng!r}")
        if order not in self.orders:
            raise AudiotkError(f"review: expected an order of {', '.join(self.orders)}, got {order!r}")
        if isinstance(recordings, Dataset):
            segments = recordings.segments if segments is None else segments
            recordings = recordings.recordings
        self.subject, self.labeler, self.order = subject, labeler.strip(), order
        self.settings, self.lock, self.rng = checked_settings(settings, SETTINGS), threading.RLock(), rng
        self._about = None if recordings is None else check_recordings(recordings)
        self._segments, self._store = segments, store
        self._said: list[Verdict] = []

    def _placed(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The drawn cells with the place of their sound."""
        return placed(cells, self._about, self._segments)

    def _hold(self, cells: pd.DataFrame, seen_teacher: bool) -> None:
        """Take the cells in the order in which they are shown, and what the store knows about them."""
        self._cells, self._scored, self._wanted = cells, seen_teacher, self.wanted(cells)
        self._units = pd.DataFrame({"stratum": cells["stratum"], "unit": pd.factorize(cells["unit"])[0]})
        given = self._store
        self.store = given if isinstance(given, Store) or given is None else open_store(given)
        told = cells[["segment", "class_name", self.why]].to_numpy(dtype=object).tolist()
        sample = hashlib.sha256(json.dumps([self.subject, told]).encode()).hexdigest()[:16]
        self.id = f"{self.store.id if self.store else uuids.uuid4()}:{sample}"
        if self.store is not None:
            if self._about is not None:
                self.store.register(self._about[self._about["recording"].isin(cells["recording"])])
            self._resume()

    # --- what a notebook asks -----------------------------------------------------------------------------------------

    def wanted(self, cells: pd.DataFrame) -> np.ndarray:
        """What is true where what is reviewed is right: 1 or 0 for each cell."""
        raise NotImplementedError

    @property
    def cells(self) -> pd.DataFrame:
        """The drawn cells in their order, with `verdict` and `right`.

        verdict is "present", "absent", "unsure" or "" (open); right is 1, 0 or NaN.
        """
        judged = self._judged()
        verdict = pd.Series(judged["verdict"].to_numpy(), index=self._cells.index, dtype="str")
        return self._cells.assign(verdict=verdict, right=judged["right"].to_numpy())

    @property
    def progress(self) -> str:
        """How much is done, in words."""
        with self.lock:
            return f"{len(self._verdicts())} of {len(self._cells)} cells judged"

    def annotations(self) -> pd.DataFrame:
        """The verdicts as an annotations table: value 1, 0 or NaN (unsure), source ``human:NAME``."""
        with self.lock:
            verdicts = sorted(self._verdicts().items())
        rows = self._cells.iloc[[cell for cell, _ in verdicts]]
        value = [np.nan if verdict.value is None else verdict.value for _, verdict in verdicts]
        at = pd.Series([verdict.at for _, verdict in verdicts], dtype="datetime64[us, UTC]")
        return make_annotations(rows["segment"], rows["class_name"], value, f"human:{self.labeler}", at)

    def record(self, dataset: Dataset) -> Dataset:
        """The data set with the verdicts as annotations of a weak source (the class is *somewhere* in the segment).

        Name the source before the others (``relabel:RULE``, ...) in :func:`audiotk.labels.resolve` and verdicts
        overrule them.

        Raises
        ------
        AudiotkError
            The source is there and not weak, or a segment is not in the data set.
        """
        name = f"human:{self.labeler}"
        if name not in dataset.sources.index:
            sources = pd.concat([dataset.sources, make_sources(**{name: "weak"})])
        elif dataset.sources.loc[name, "weak"]:
            sources = dataset.sources
        else:
            raise AudiotkError(
                f"review: source {name!r} is there for exact ranges; review under another labeler's name"
            )
        both = pd.concat([dataset.annotations, self.annotations()], ignore_index=True)
        return replace(dataset, annotations=both, sources=sources)

    def judge(self, cell: int, verdict: str) -> None:
        """Give the verdict "present", "absent" or "unsure" on a row of :attr:`cells`, as a key press does."""
        if verdict not in VALUES:
            raise AudiotkError(f"review: expected a verdict of {', '.join(VALUES)}, got {verdict!r}")
        with self.lock:
            self._write({"uuid": str(uuids.uuid4()), "kind": "judgement", "cell": cell, "value": VALUES[verdict]})

    def judge_by(self, truth: Labels) -> None:
        """Let known labels judge the open cells in place of a listener; NaN is "unsure"."""
        place = truth.segments.get_indexer(pd.Index(self._cells["segment"]))
        column = truth.classes.get_indexer(pd.Index(self._cells["class_name"]))
        if (place < 0).any() or (column < 0).any():
            raise AudiotkError("review: the truth lacks a segment or class of the drawn cells")
        rows, inverse = np.unique(place, return_inverse=True)
        done = self._verdicts()
        for cell, value in enumerate(truth.dense(rows)[inverse, column]):
            if cell in done:
                continue
            self.judge(cell, WORDS[None if math.isnan(value) else int(value)])

    # --- what follows from the verdicts -------------------------------------------------------------------------------

    def _judged(self) -> pd.DataFrame:
        """Stratum, unit (a number), verdict and right of each cell: what estimates need, in columns that are quick."""
        with self.lock:
            verdicts = self._verdicts()
        said = [WORDS[verdicts[cell].value] if cell in verdicts else "" for cell in range(len(self._cells))]
        value = np.array([VALUES.get(word) for word in said], dtype=float)
        right = np.where(np.isnan(value), np.nan, value == self._wanted)
        return self._units.assign(verdict=pd.Series(said, dtype=object), right=right)

    def _estimated(self, judged: pd.DataFrame, sizes: pd.Series | None) -> dict[str, Any]:
        """What the verdicts on some cells say, as part of a row of a table; see :func:`estimate`."""
        found = estimate(judged, sizes)
        row: dict[str, Any] = {"value": found.value, "low": found.low, "high": found.high}
        counts = judged["verdict"].value_counts()
        row |= {"n": int(judged["right"].notna().sum()), "right": int((judged["right"] == 1).sum())}
        return row | {"unsure": int(counts.get("unsure", 0)), "open": int(counts.get("", 0))}

    def _fair(self, judged: pd.DataFrame, group: Any = 0, groups: int = 1) -> np.ndarray:
        """Whether those judged of each group of cells are a random part of it: all, or the first of a random order.

        `group` has the number of the group of each cell; the answer is bool (groups,).
        """
        is_open = (judged["verdict"] == "").to_numpy()
        place, group = np.arange(len(judged)), np.broadcast_to(group, len(judged))
        first_open, last_done = np.full(groups, len(judged)), np.full(groups, -1)
        np.minimum.at(first_open, group[is_open], place[is_open])
        np.maximum.at(last_done, group[~is_open], place[~is_open])
        all_done: np.ndarray = first_open == len(judged)
        return all_done | (last_done < first_open) if self.order == "random" else all_done

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def take(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation of the browser; returns the acknowledgement or the refusal. Called under `lock`."""
        uuid = op.get("uuid")
        try:
            cell = self._write(op)
        except AudiotkError as err:
            return {"type": "nack", "uuid": uuid, "text": str(err), "retry": isinstance(err, StoreUnavailable)}
        return {"type": "ack", "uuid": uuid, "cell": cell, "verdict": self.word(cell), **self.told(cell)}

    def told_row(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """What the browser is told of one cell beyond what it is told of all."""
        raise NotImplementedError

    def told_about(self) -> dict[str, Any]:
        """What the browser is told of the review itself."""
        raise NotImplementedError

    def told_estimates(self, cell: int | None) -> pd.DataFrame:
        """The estimates that a verdict on `cell` can change (None: all)."""
        raise NotImplementedError

    def told(self, cell: int | None = None) -> dict[str, Any]:
        """What a verdict on `cell` changes (None: whatever verdicts change), for the browser."""
        estimates = [
            {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
            for row in self.told_estimates(cell).to_dict("records")
        ]
        before: dict[int, str] = {}
        undoable = []
        for verdict in self._said:
            if verdict.uuid is not None:
                told = {"uuid": verdict.uuid, "cell": verdict.cell, "before": before.get(verdict.cell, "")}
                undoable.append(told)
            before[verdict.cell] = WORDS[verdict.value]
        return {"estimates": estimates, "undoable": undoable[-99:]}

    def told_all(self) -> dict[str, Any]:
        """All cells with the verdicts so far, for a browser that has just drawn the widget."""
        rows = []
        for row in self.cells.to_dict("records"):
            told = {key: row[key] for key in ("class_name", "segment", "recording", "title", "start_s", "end_s")}
            told |= {"score": None if math.isnan(row["score"]) else round(row["score"], 4)}
            rows.append(told | {"silent": row["silent"], "verdict": row["verdict"]} | self.told_row(row))
        told = {"order": self.order, "stored": self.store is not None, "rows": rows}
        return {"type": "review", **told, **self.told_about(), **self.told()}

    def word(self, cell: int | None) -> str:
        """The verdict on a cell, or ""."""
        verdicts = self._verdicts()
        return WORDS[verdicts[cell].value] if cell in verdicts else ""

    def _verdicts(self) -> dict[int, Verdict]:
        return {verdict.cell: verdict for verdict in self._said}

    def _write(self, op: Mapping[str, Any]) -> int | None:
        """Make a verdict, or take one back; returns the cell that changed."""
        kind, uuid = op.get("kind"), op.get("uuid")
        if not isinstance(uuid, str) or not uuid:
            raise AudiotkError(f"operation: expected a uuid, got {uuid!r:.80}")
        if kind == "undo":
            return self._undo(uuid, op.get("target"))
        cell, value = op.get("cell"), op.get("value")
        if kind != "judgement" or value not in WORDS or isinstance(value, bool):
            raise AudiotkError(f"operation: expected a judgement of 1, 0 or None, or an undo; got {dict(op)!r:.120}")
        if not isinstance(cell, (int, np.integer)) or isinstance(cell, bool) or not 0 <= cell < len(self._cells):
            raise AudiotkError(f"operation: expected a cell of 0 to {len(self._cells) - 1}, got {cell!r:.80}")
        if all(verdict.uuid != uuid for verdict in self._said):
            row = self._cells.iloc[int(cell)]
            place = {name: float(row[name]) for name in ("start_s", "end_s")}
            told = {"class_name": row["class_name"], "segment_id": row["segment"], "value": value, **place}
            reason = f"{self.subject} {row[self.why]}"
            self._append(uuid, kind, row["recording"], told | {"reason": reason})
            self._said.append(Verdict(int(cell), value, pd.Timestamp.now("UTC"), uuid))
        return int(cell)

    def _undo(self, uuid: str, target: Any) -> int | None:
        """Take back the verdict `target`; again, or after a restart, only the store may still know it."""
        found = next((verdict for verdict in self._said if verdict.uuid == target), None)
        if found is not None:
            self._append(uuid, "undo", self._cells["recording"].iloc[found.cell], {"target": target})
            self._said.remove(found)
            return found.cell
        if self.store is None:
            return None
        rows = self.store.operations(labeler=self.labeler)
        rows = rows[rows["uuid"] == target]
        if len(rows):
            self._append(uuid, "undo", rows["recording"].iloc[0], {"target": target})
            self._resume()
        return None

    def _append(self, uuid: str, kind: str, recording: str, payload: Mapping[str, Any]) -> None:
        if self.store is not None:
            operation = Operation(uuid, kind, self.labeler, recording, payload, seen_teacher=self._scored)
            self.store.append([operation], STORE_S)

    def _resume(self) -> None:
        """Read from the store what this labeler has said about the drawn cells."""
        assert self.store is not None
        keys = zip(self._cells["segment"], self._cells["class_name"], strict=True)
        place = {key: cell for cell, key in enumerate(keys)}
        self._said = []
        for row in self.store.judgements(labeler=self.labeler).to_dict("records"):
            cell = place.get((row["segment"], row["class_name"]))
            if cell is not None:
                value = None if pd.isna(row["value"]) else int(row["value"])
                self._said.append(Verdict(cell, value, pd.Timestamp(row["at"])))


class CellReviewWidget(CardsWidget):
    """The messages of a :class:`CellReview`."""

    shared = ("cards", "verdicts")
    review_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, review: CellReview) -> None:
        self.review = self.taker = review
        cells = review.cells[["recording", "path", "silent"]].drop_duplicates("recording")
        paths = {row["recording"]: row["path"] for row in cells.to_dict("records") if not row["silent"]}
        told = {"labeler": review.labeler, "settings": review.settings, "review_id": review.id}
        super().__init__(paths, lock=review.lock, **told)

    def answer_hello(self, message: Mapping[str, Any]) -> Answer:
        """All cells with the verdicts so far."""
        return self.review.told_all()
