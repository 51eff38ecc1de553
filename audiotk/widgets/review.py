"""Review of a rule by ear: a sample of the cells it changed, one key a verdict, and how often the rule was right.

:class:`RuleReview` is the plain object that a notebook holds, :class:`ReviewWidget` carries its messages, and
``static/review.js`` is what people touch. What the verdicts say is computed in :mod:`audiotk.widgets.verdicts`; what
becomes of them in :mod:`audiotk.widgets.cell_review`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiotk.ontology import Ontology
from audiotk.relabel.audit import Audit
from audiotk.scores import open_scores
from audiotk.store import Store
from audiotk.tables import Dataset
from audiotk.widgets.cell_review import CellReview, CellReviewWidget
from audiotk.widgets.review_picture import review_picture
from audiotk.widgets.verdicts import ORDERS, draw, ordered, scores_of, wanted


class RuleReview(CellReview):
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

    Attributes
    ----------
    cells
        The drawn cells in their order: segment, class_name, before, after, change, score, ..., verdict ("present",
        "absent", "unsure" or "", open) and right (1, 0 or NaN).

    Raises
    ------
    AudiotkError
        A name, table, class or order is missing or unknown, no cell has a score, or the store cannot be used.
    """

    orders, why = ORDERS, "change"

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
        about: dict[str, Any] = {"recordings": recordings, "segments": segments, "store": store, "settings": settings}
        super().__init__(f"relabel:{audit.rule}", labeler=labeler, rng=rng, order=order, **about)
        self.rule, self.ontology = audit.rule, ontology
        drawn, self._strata = draw(audit, self.rng, n, per_class, classes, per_change)
        self._stratified = per_class is not None
        drawn["score"] = np.nan if scores is None else scores_of(drawn, open_scores(scores))
        drawn["confidence"] = np.where(wanted(drawn) == 1, drawn["score"], 1 - drawn["score"])
        self._hold(ordered(self._placed(drawn), order, self.rng), seen_teacher=scores is not None)

    def __repr__(self) -> str:
        return f"RuleReview({self.rule!r} by {self.labeler!r}: {self.progress})"

    def wanted(self, cells: pd.DataFrame) -> np.ndarray:
        """What is true where the change is right: 1 or 0 for each cell."""
        return wanted(cells)

    def precision(self, by_class: bool = False) -> pd.DataFrame:
        """How often the rule was right: one row a change, with `by_class` one row a change and class.

        Returns
        -------
        DataFrame, index change (and class_name)
            meaning ("new label right" or "old label wrong"), value, low, high (95 %), n (cells judged and sure), right
            (of them), unsure, open (drawn and not judged), cells (that the rule changed), provisional.
        """
        judged, keys = self._judged(), ["change", "class_name"] if by_class else ["change"]
        rows = []
        for key, part in self._strata.groupby(keys, sort=False):
            mine = judged[judged["stratum"].isin(part.index)]
            if by_class and mine.empty:
                continue
            row: dict[str, Any] = dict(zip(keys, key, strict=True))
            row |= {"meaning": "old label wrong" if str(key[0]).endswith("unknown") else "new label right"}
            row |= self._estimated(mine, part["cells"] if self._stratified else None)
            rows.append(row | {"cells": int(part["cells"].sum()), "provisional": not self._fair(mine).all()})
        names = ["meaning", "value", "low", "high", "n", "right", "unsure", "open", "cells", "provisional"]
        return pd.DataFrame(rows, columns=[*keys, *names]).set_index(keys)

    def make_widget(self) -> ReviewWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        return ReviewWidget(self)

    def picture(self) -> Figure:
        """The estimate so far and the first cells, as a still picture."""
        return review_picture(self.rule, self.labeler, self.precision(), self.cells)

    # --- for the browser ----------------------------------------------------------------------------------------------

    def told_row(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """What is known of a change."""
        name, ontology = row["class_name"], self.ontology
        known = ontology is not None and (ontology.names == name).sum() == 1
        masked = math.isnan(row["after"])
        told: dict[str, Any] = {"above": list(ontology.parents(name)) if known and ontology is not None else []}
        told |= {"confidence": None if math.isnan(row["confidence"]) else round(row["confidence"], 4)}
        told |= {"masked": masked, "accept": "present" if masked or row["after"] == 1 else "absent"}
        return told | {"change": row["change"]}

    def told_about(self) -> dict[str, Any]:
        """The rule."""
        return {"rule": self.rule}

    def told_estimates(self, cell: int | None) -> pd.DataFrame:
        """One row a change."""
        return self.precision().reset_index()


class ReviewWidget(CellReviewWidget):
    """The messages of a :class:`RuleReview`."""

    name = "review"
