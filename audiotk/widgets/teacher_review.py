"""Review of a teacher by ear: class after class what it says against the labels, and how often it is right.

:class:`TeacherReview` is the plain object that a notebook holds, :class:`TeacherReviewWidget` carries its messages, and
``static/teacher_review.js`` is what people touch. Which cells are heard: :mod:`audiotk.widgets.teacher_sample`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiotk.scores import open_scores
from audiotk.store import Store
from audiotk.tables import AudiotkError, Dataset, Labels
from audiotk.widgets.cell_review import CellReview, CellReviewWidget
from audiotk.widgets.teacher_review_picture import teacher_picture
from audiotk.widgets.teacher_sample import ORDERS, STRATA, check_thresholds, draw_cells, ranked

PER_CLASS = 24
ALL = "(all)"


class TeacherReview(CellReview):
    """Hear a random sample of what a teacher says, class by class, and say whether the class is there.

    Show it as the last line of a cell. Under ``AUDIOTK_HEADLESS=1`` it is a still picture: the precision of each class,
    and the first cells of each.

    **What is drawn.** The teacher says "present" of a cell (segment x class) where its score is above the threshold of
    the class. Each class has four strata: the teacher says present and the label says present, absent or nothing
    (unknown), and the teacher says absent where the label says present. Of each class `per_class` cells are drawn at
    random, shared out over its strata as evenly as their sizes allow. Cells in dispute are thus heard more often than
    they occur; so :meth:`precision`, which uses only the three strata in which the teacher says present, weights each
    verdict by the size of its stratum over the number of verdicts there. The fourth one tells how many of the teacher's
    misses are real (:meth:`missed`). What was drawn, not the order in which it is shown, decides what is estimated.

    Until all drawn cells of a class are judged, those that are come from one end of the order, so its estimates are
    marked as *provisional*; only with order "random" are they fair at any time. Cells judged "unsure" are left out.

    Parameters
    ----------
    scores
        Of the teacher, any kind that :func:`audiotk.scores.open_scores` takes.
    labels
        To be compared with; their segments all have scores. A segment or class that they lack is unknown. None for
        audio that nobody labelled: then only what the teacher says is heard.
    thresholds
        One for all classes, or one for each (Series or mapping; NaN leaves a class out); see :mod:`audiotk.scores` for
        how scores are compared with them.
    teacher
        What the teacher is called, for titles and for the reason that the store keeps with each verdict.
    labeler, rng, recordings, segments, store, settings
        As for :class:`audiotk.widgets.RuleReview`.
    per_class
        Cells drawn of each class; at least 4.
    classes
        Which classes, in this order; default those of the scores.
    order
        Within each class: "disagreement" (where teacher and label differ first, the surest on top), "score" (highest
        first) or "random".

    Attributes
    ----------
    cells
        The drawn cells in their order: segment, class_name, score, threshold, teacher and label (present / absent /
        unknown), ..., verdict ("present", "absent", "unsure" or "", open) and right (of the teacher: 1, 0 or NaN).

    Raises
    ------
    AudiotkError
        A name, table, class, threshold or order is missing or unknown, labels and scores do not fit, or the store
        cannot be used.
    """

    orders, why = ORDERS, "judged_on"

    def __init__(
        self,
        scores: Any,
        labels: Labels | None,
        thresholds: float | Mapping[str, float] | pd.Series,
        *,
        teacher: str = "teacher",
        labeler: str = "",
        rng: np.random.Generator | None = None,
        recordings: pd.DataFrame | Dataset | None = None,
        segments: pd.DataFrame | None = None,
        store: Store | str | Path | None = None,
        per_class: int = PER_CLASS,
        classes: Sequence[str] | None = None,
        order: str = "disagreement",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        about: dict[str, Any] = {"recordings": recordings, "segments": segments, "store": store, "settings": settings}
        super().__init__(f"teacher:{teacher}", labeler=labeler, rng=rng, order=order, **about)
        if labels is not None and not isinstance(labels, Labels):
            raise AudiotkError(f"labels: expected Labels, or None for unlabelled audio, got {type(labels).__name__}")
        opened = open_scores(scores)
        self.teacher, self.labelled = teacher, labels is not None
        levels = check_thresholds(thresholds, opened.classes, classes)
        self.thresholds = pd.Series(levels, name="threshold")
        if ALL in levels:
            raise AudiotkError(f"review: a class is called {ALL!r}, as the row of all classes is; give it another name")
        drawn, self._strata = draw_cells(opened, labels, levels, self.rng, per_class)
        self._hold(ranked(self._placed(drawn), order, self.rng), seen_teacher=True)

    def __repr__(self) -> str:
        return f"TeacherReview({self.teacher!r} by {self.labeler!r}: {self.progress})"

    def wanted(self, cells: pd.DataFrame) -> np.ndarray:
        """What is true where the teacher is right: 1 or 0 for each cell."""
        return (cells["teacher"] == "present").to_numpy(dtype=float)

    # --- what a notebook asks -----------------------------------------------------------------------------------------

    def precision(self) -> pd.DataFrame:
        """How often the teacher is right where it says present, by class and for all reviewed classes together.

        The estimate is that of a stratified sample: each verdict counts for as many cells as its stratum has for each
        verdict in it. The interval is :func:`audiotk.widgets.verdicts.estimate`'s, with recordings or their groups as
        units; of strata that differ it is on the wide side (in 500 simulations each of 14 designs, 95 % intervals held
        the truth in 96 to 100 %). There is no value before each stratum that has cells has a verdict; one whose drawn
        cells are all unsure is left out, and the estimate stays provisional. ``(all)`` is the share among all cells
        that the teacher calls present, so common classes count more.

        Returns
        -------
        DataFrame, index class_name and, last, "(all)"
            threshold, value, low, high (95 %), n (cells judged and sure), right (of them), unsure, open (drawn and not
            judged), cells (above the threshold), provisional.
        """
        return self._table("present")

    def missed(self) -> pd.DataFrame:
        """How often the class is there where the label says present and the teacher absent, by class and for all.

        The share is that of misses of the teacher; the rest are wrong labels.

        Returns
        -------
        DataFrame, index class_name and, last, "(all)"
            As :meth:`precision`; `right` counts cells where the label is right, `cells` all such cells.
        """
        return self._table("absent")

    def _table(self, teacher: str, only: str | None = None, judged: pd.DataFrame | None = None) -> pd.DataFrame:
        """Estimates of the cells of which the teacher says `teacher`, with `only` of that class and of all."""
        judged = self._judged() if judged is None else judged
        stratum, sizes = judged["stratum"].to_numpy(), self._strata["cells"]
        fair = self._fair(judged, stratum, len(sizes))
        sure, is_open = judged["right"].notna().to_numpy(), (judged["verdict"] == "").to_numpy()
        n_sure, n_open = (np.bincount(stratum[mask], minlength=len(sizes)) for mask in (sure, is_open))
        unheard = (sizes.to_numpy() > 0) & (n_sure == 0)  # strata of which the estimate does not speak
        if teacher == "absent":  # what counts is whether the class is there
            judged = judged.assign(right=1 - judged["right"])
        numbers = np.arange(len(sizes)).reshape(-1, len(STRATA))[:, [said == teacher for said, _ in STRATA]]
        parts = dict(zip(self.thresholds.index, numbers, strict=True)) | {ALL: numbers.ravel()}
        rows = []
        for name, at in parts.items():
            if only not in (None, name) and name != ALL:
                continue
            row: dict[str, Any] = {"class_name": name, "threshold": self.thresholds.get(name, np.nan)}
            row |= self._estimated(judged[np.isin(stratum, at)], sizes)
            if (unheard[at] & (n_open[at] > 0)).any():
                row |= dict.fromkeys(("value", "low", "high"), np.nan)
            provisional = bool((unheard[at] | ~fair[at]).any())
            rows.append(row | {"cells": int(sizes[at].sum()), "provisional": provisional})
        return pd.DataFrame(rows).set_index("class_name")

    def make_widget(self) -> TeacherReviewWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        return TeacherReviewWidget(self)

    def picture(self) -> Figure:
        """The precision so far and the first cells of each class, as a still picture."""
        title, said = f"Review of {self.teacher}", f"{self.labeler}: {self.progress}"
        return teacher_picture(title, said, self.precision(), self.cells)

    # --- for the browser ----------------------------------------------------------------------------------------------

    def told_row(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """What teacher and label say."""
        return {key: row[key] for key in ("teacher", "label", "threshold")}

    def told_about(self) -> dict[str, Any]:
        """The teacher, and whether there are labels."""
        return {"teacher": self.teacher, "labelled": self.labelled}

    def told_estimates(self, cell: int | None) -> pd.DataFrame:
        """Precision and misses, of all classes or of that of a cell and together."""
        only = None if cell is None else str(self._cells["class_name"].iloc[cell])
        judged = self._judged()
        tables = {
            kind: self._table(said, only, judged) for kind, said in (("precision", "present"), ("missed", "absent"))
        }
        return pd.concat([table.reset_index().assign(kind=kind) for kind, table in tables.items()], ignore_index=True)


class TeacherReviewWidget(CellReviewWidget):
    """The messages of a :class:`TeacherReview`."""

    name = "teacher_review"
