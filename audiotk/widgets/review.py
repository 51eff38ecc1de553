"""Review of a rule by ear: a sample of the cells it changed, one key a verdict, and how often the rule was right.

:class:`RuleReview` is the plain object that a notebook holds, :class:`ReviewWidget` carries its messages, and
``static/review.js`` is what people touch. What the verdicts say is computed in :mod:`audiotk.widgets.verdicts`.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import uuid as uuids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from audiotk.ontology import Ontology
from audiotk.relabel.audit import Audit
from audiotk.scores import open_scores
from audiotk.store import Store, StoreUnavailable, open_store
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, Dataset, Labels, check_recordings, make_annotations, make_sources
from audiotk.widgets.base import Answer, Plain, checked_settings
from audiotk.widgets.cards import CardsWidget
from audiotk.widgets.review_picture import review_picture
from audiotk.widgets.verdicts import ORDERS, draw, estimate, ordered, placed, scores_of, wanted

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


class RuleReview(Plain):
    """Hear a random sample of the cells that a rule changed and say whether the class is there; see what follows.

    Show it as the last line of a cell. Under ``AUDIOTK_HEADLESS=1`` it is a still picture of the first cells and of
    the estimate so far.

    Whatever the rule did, a verdict is about the *sound*: the class is present, absent, or one cannot tell. For a
    correction, "accept" means that the new label is true and "reject" that it is not. A mask (to unknown) claims
    nothing, so there the question is simply whether the class is there, and what is reported is how often the hidden
    label was *wrong*: the share of masks that took an error away. A mask on a right label is no error of the rule, only
    the loss of a label; compare with the share of wrong labels among cells that no rule touched.

    The cells are a random sample, shown in an order of your choice. Until all of them are judged, those that are come
    from one end of that order, so the estimate is marked as *provisional*; only with order "random", judged one after
    the other, is it a fair one at any time. See :func:`audiotk.widgets.verdicts.estimate` for the interval.

    Parameters
    ----------
    audit
        What a rule changed, as every rule returns it.
    scores
        Of a teacher, any kind that :func:`audiotk.scores.open_scores` takes: shown, and the measure of confidence (the
        score of what the rule wants to be true). A cell without a score is shown without one, and last.
    labeler
        Who listens; needed, and never guessed.
    rng
        Source of the sample; needed, and the same seed draws the same cells.
    recordings
        A *recordings* table or a Dataset, for the sound and as units of the interval (column ``group``). Without it,
        or where a recording has no sound, cells are shown by name only.
    segments
        A *segments* table; needed only if ids are not of the form ``REC@1.200-2.800``.
    ontology
        Shows the parents of each class.
    store
        A store, or the path or URL of one. Each verdict is on the disk before it counts as saved, and is there again
        when the same labeler reviews the same cell. Without a store verdicts live as long as this object.
    n, per_class, per_change, classes
        Which sample, by default 50 cells of each change; see :func:`audiotk.widgets.verdicts.draw`.
    order
        "confident" (the rule's surest changes first), "doubtful", "class" or "random".
    settings
        Any of theme ("auto", "light", "dark"), autoplay, height (pixels of the spectrogram).

    Raises
    ------
    AudiotkError
        A name, table, class or order is missing or unknown, no cell has a score, or the store cannot be used.
    """

    def __init__(
        self,
        audit: Audit,
        scores: Any = None,
        *,
        labeler: str = "",
        rng: np.random.Generator | None = None,
        recordings: pd.DataFrame | Dataset | None = None,
        segments: pd.DataFrame | None = None,
        ontology: Ontology | None = None,
        store: Store | str | Path | None = None,
        n: int | None = None,
        per_class: int | None = None,
        per_change: int | None = None,
        classes: Sequence[str] | None = None,
        order: str = "confident",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(labeler, str) or not labeler.strip():
            raise AudiotkError(f"labeler: expected the name of who listens, as in labeler='anna', got {labeler!r}")
        if not isinstance(rng, np.random.Generator):
            raise AudiotkError(f"rng: expected a random generator, as in rng=np.random.default_rng(0), got {rng!r}")
        if order not in ORDERS:
            raise AudiotkError(f"review: expected an order of {', '.join(ORDERS)}, got {order!r}")
        if isinstance(recordings, Dataset):
            segments = recordings.segments if segments is None else segments
            recordings = recordings.recordings
        about = None if recordings is None else check_recordings(recordings)
        self.rule, self.labeler, self.order = audit.rule, labeler.strip(), order
        self.settings, self.ontology = checked_settings(settings, SETTINGS), ontology
        self.lock = threading.RLock()
        drawn, self._strata = draw(audit, rng, n, per_class, classes, per_change)
        self._stratified = per_class is not None
        drawn["score"] = np.nan if scores is None else scores_of(drawn, open_scores(scores))
        self._scored = scores is not None
        drawn["confidence"] = np.where(wanted(drawn) == 1, drawn["score"], 1 - drawn["score"])
        self._cells = ordered(placed(drawn, about, segments), order, rng)
        self.store = store if isinstance(store, Store) or store is None else open_store(store)
        told = self._cells[["segment", "class_name", "change"]].to_numpy(dtype=object).tolist()
        sample = hashlib.sha256(json.dumps([self.rule, told]).encode()).hexdigest()[:16]
        self.id = f"{self.store.id if self.store else uuids.uuid4()}:{sample}"
        self._said: list[Verdict] = []
        if self.store is not None:
            if about is not None:
                self.store.register(about[about["recording"].isin(self._cells["recording"])])
            self._resume()

    def __repr__(self) -> str:
        done = len(self._verdicts())
        return f"RuleReview({self.rule!r} by {self.labeler!r}: {done} of {len(self._cells)} cells judged)"

    # --- what a notebook asks -----------------------------------------------------------------------------------------

    @property
    def cells(self) -> pd.DataFrame:
        """The drawn cells in their order: segment, class_name, before, after, change, score, ..., verdict, right.

        verdict is "present", "absent", "unsure" or "" (open); right is 1, 0 or NaN.
        """
        with self.lock:
            verdicts = self._verdicts()
        cells = self._cells.copy()
        said = [WORDS[verdicts[cell].value] if cell in verdicts else "" for cell in range(len(cells))]
        cells["verdict"] = pd.Series(said, index=cells.index, dtype="str")
        value = np.array([VALUES.get(word) for word in said], dtype=float)
        cells["right"] = np.where(np.isnan(value), np.nan, value == wanted(cells))
        return cells

    def precision(self, by_class: bool = False) -> pd.DataFrame:
        """How often the rule was right: one row a change, with `by_class` one row a change and class.

        Returns
        -------
        DataFrame, index change (and class_name)
            meaning ("new label right" or "old label wrong"), value, low, high (95 %), n (cells judged and sure), right
            (of them), unsure, open (drawn and not judged), cells (that the rule changed), provisional.
        """
        cells, keys = self.cells, ["change", "class_name"] if by_class else ["change"]
        rows = []
        for key, part in self._strata.groupby(keys, sort=False):
            mine = cells[cells["stratum"].isin(part.index)]
            if by_class and mine.empty:
                continue
            found = estimate(mine, part["cells"] if self._stratified else None)
            is_open, sure = mine["verdict"] == "", mine["right"].notna()
            masked = str(key[0]).endswith("unknown")
            row: dict[str, Any] = dict(zip(keys, key, strict=True))
            row |= {"meaning": "old label wrong" if masked else "new label right"}
            row |= {"value": found.value, "low": found.low, "high": found.high, "n": int(sure.sum())}
            row |= {"right": int((mine["right"] == 1).sum()), "unsure": int((mine["verdict"] == "unsure").sum())}
            row |= {"open": int(is_open.sum()), "cells": int(part["cells"].sum())}
            rows.append(row | {"provisional": not self._fair(is_open.to_numpy())})
        names = ["meaning", "value", "low", "high", "n", "right", "unsure", "open", "cells", "provisional"]
        return pd.DataFrame(rows, columns=[*keys, *names]).set_index(keys)

    def _fair(self, is_open: np.ndarray) -> bool:
        """Whether the judged cells (in their order) are a random part: all, or the first ones of a random order."""
        judged = np.flatnonzero(~is_open)
        return bool(len(judged) == len(is_open) or (self.order == "random" and (judged < len(judged)).all()))

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

        Name the source before ``relabel:RULE`` in :func:`audiotk.labels.resolve` and verdicts overrule the rule.

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

    def make_widget(self) -> ReviewWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        return ReviewWidget(self)

    def picture(self) -> Figure:
        """The estimate so far and the first cells, as a still picture."""
        return review_picture(self.rule, self.labeler, self.precision(), self.cells)

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def take(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation of the browser; returns the acknowledgement or the refusal. Called under `lock`."""
        uuid = op.get("uuid")
        try:
            cell = self._write(op)
        except AudiotkError as err:
            return {"type": "nack", "uuid": uuid, "text": str(err), "retry": isinstance(err, StoreUnavailable)}
        return {"type": "ack", "uuid": uuid, "cell": cell, "verdict": self.word(cell), **self.told()}

    def told(self) -> dict[str, Any]:
        """What changes with every verdict, for the browser."""
        table = self.precision().reset_index()
        estimates = [
            {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
            for row in table.to_dict("records")
        ]
        done = [verdict for verdict in self._said if verdict.uuid is not None]
        undoable = [
            {"uuid": verdict.uuid, "cell": verdict.cell, "before": self._earlier(verdict)} for verdict in done[-99:]
        ]
        return {"estimates": estimates, "undoable": undoable}

    def word(self, cell: int | None) -> str:
        """The verdict on a cell, or ""."""
        verdicts = self._verdicts()
        return WORDS[verdicts[cell].value] if cell in verdicts else ""

    def _verdicts(self) -> dict[int, Verdict]:
        return {verdict.cell: verdict for verdict in self._said}

    def _earlier(self, verdict: Verdict) -> str:
        """What was said about its cell before a verdict."""
        before = [other for other in self._said[: self._said.index(verdict)] if other.cell == verdict.cell]
        return WORDS[before[-1].value] if before else ""

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
            reason = f"relabel:{self.rule} {row['change']}"
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
            self.store.append([Operation(uuid, kind, self.labeler, recording, payload, seen_teacher=self._scored)])

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


class ReviewWidget(CardsWidget):
    """The messages of a :class:`RuleReview`."""

    name = "review"
    review_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, review: RuleReview) -> None:
        self.review = self.taker = review
        cells = review.cells[["recording", "path", "silent"]].drop_duplicates("recording")
        paths = {row["recording"]: row["path"] for row in cells.to_dict("records") if not row["silent"]}
        told = {"labeler": review.labeler, "settings": review.settings, "review_id": review.id}
        super().__init__(paths, lock=review.lock, **told)

    def answer_hello(self, message: Mapping[str, Any]) -> Answer:
        """All cells with the verdicts so far, for a browser that has just drawn the widget."""
        review = self.review
        rows = [_told_row(row, review.ontology) for row in review.cells.to_dict("records")]
        told = {"rule": review.rule, "order": review.order, "stored": review.store is not None, "rows": rows}
        return {"type": "review", **told, **review.told()}


def _told_row(row: Mapping[Any, Any], ontology: Ontology | None) -> dict[str, Any]:
    """One cell for the browser."""
    name = row["class_name"]
    known = ontology is not None and (ontology.names == name).sum() == 1
    told = {key: row[key] for key in ("class_name", "segment", "recording", "title", "start_s", "end_s", "change")}
    told |= {"above": list(ontology.parents(name)) if known and ontology is not None else []}
    told |= {key: None if math.isnan(row[key]) else round(row[key], 4) for key in ("score", "confidence")}
    masked = math.isnan(row["after"])
    told |= {"masked": masked, "accept": "present" if masked or row["after"] == 1 else "absent"}
    return told | {"silent": row["silent"], "verdict": row["verdict"]}
