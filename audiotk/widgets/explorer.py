"""The cluster explorer: a map of false positives; select some, hear a sample, say what they are, promote them.

:class:`ClusterExplorer` is the plain object that a notebook holds. Its points are made in
:mod:`audiotk.widgets.explorer_points`, who is heard is chosen in :mod:`audiotk.widgets.explorer_sample`, what was said
is kept in :mod:`audiotk.widgets.explorer_ledger`, messages are those of :mod:`audiotk.widgets.explorer_widget`, and
``static/explorer.js`` is what people touch.
"""

from __future__ import annotations

import hashlib
import threading
import uuid as uuids
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from audiotk import mining
from audiotk.store import Store, open_store
from audiotk.tables import AudiotkError, Dataset, Labels
from audiotk.widgets.base import Plain, checked_settings, headless
from audiotk.widgets.explorer_clusters import Clusters, cluster_name
from audiotk.widgets.explorer_ledger import Ledger, check_word
from audiotk.widgets.explorer_points import make_points, oddities, positives_of, with_clusters, with_places
from audiotk.widgets.explorer_sample import Purity, Selection, counted, names_of, select
from audiotk.widgets.explorer_truth import known_words, still_firing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from audiotk.widgets.explorer_widget import ExplorerWidget

SETTINGS: dict[str, Any] = {"theme": "auto", "autoplay": True, "height": 470}
MAPS = ("auto", "canvas", "scatter")
CANVAS_AUTO, CANVAS_MOST = 50_000, 150_000  # points that our own map takes by itself, and at all


class ClusterExplorer(Plain):
    """Look at false positives on a map, hear a sample of a cluster (or of a lasso), and promote what is pure.

    Show it as the last line of a cell. Under ``AUDIOTK_HEADLESS=1`` it is a still picture of the map; then, or from
    code, the same is done by :meth:`select`, :meth:`judge` (or :meth:`judge_by`) and :meth:`promote`.

    **What is heard.** Of a selection 12 members are shown: random ones, the most typical one (the medoid), two at the
    border and three nearest to true events (without `positives`: at the border). :meth:`more` shows further random
    ones. Only random members make the lower bound on :attr:`purity`; a chosen one counts if it is a true event, which
    lowers the bound. A verdict, a promotion and their undo are on the disk before they count as saved.

    **What is promoted.** All members of the selection, without those heard as true events or as unsure; a selection
    with a member that the door refuses is refused as a whole, and :meth:`narrow` leaves the refused ones out.

    Parameters
    ----------
    false_positives
        A *false positives* table (see :mod:`audiotk.mining`). Columns cluster, x and y are used if they are there,
        else computed; theme is what is suggested. Rows with is_true are true events: shown, never sampled or promoted.
    embeddings
        One row a false positive, (n, dim). A row that is not finite has no place on the map.
    store
        A store, or the path or URL of one.
    labeler
        Who listens; needed, and never guessed.
    rng
        Source of samples and of what is computed; needed, and the same seed shows the same.
    door
        What may be promoted; None: nothing, and only listening is possible.
    recordings
        A *recordings* table or a Dataset, for titles and for paths that differ from those in `false_positives`.
    positives
        Embeddings of true events (m, dim); members near them are heard first. Rows with is_true count, too.
    prompt_scores
        What a teacher says of each false positive, a column a theme; see :func:`audiotk.embed.suggest_themes`. Of no
        use where themes are given.
    map
        "scatter" draws with jupyter-scatter (WebGL; any number of points), "canvas" with our own map (up to 150,000),
        "auto" takes the canvas up to 50,000 points.
    settings
        Any of theme ("auto", "light", "dark"), autoplay, height (pixels of the map).

    Attributes
    ----------
    points
        The false positives with cluster, x and y.
    notes
        What is odd about them, in words.
    selection
        What is selected, a :class:`audiotk.widgets.explorer_sample.Selection`, or None.

    Raises
    ------
    AudiotkError
        A name, generator, table or map is missing or unknown, embeddings do not fit, or the store cannot be used.
    """

    def __init__(
        self,
        false_positives: pd.DataFrame,
        embeddings: np.ndarray,
        store: Store | str | Path,
        *,
        labeler: str = "",
        rng: np.random.Generator | None = None,
        door: mining.Door | None = None,
        recordings: pd.DataFrame | Dataset | None = None,
        positives: np.ndarray | None = None,
        prompt_scores: pd.DataFrame | None = None,
        map: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(labeler, str) or not labeler.strip():
            raise AudiotkError(f"labeler: expected the name of who listens, as in labeler='anna', got {labeler!r}")
        if not isinstance(rng, np.random.Generator):
            raise AudiotkError(f"rng: expected a random generator, as in rng=np.random.default_rng(0), got {rng!r}")
        if map not in MAPS:
            raise AudiotkError(f"explorer: expected a map of {', '.join(MAPS)}, got {map!r}")
        self.labeler, self.rng, self.door, self.lock = labeler.strip(), rng, door, threading.RLock()
        self.settings, self._at_door = checked_settings(settings, SETTINGS), threading.Lock()
        self._seed = int(rng.integers(2**62))
        about = recordings.recordings if isinstance(recordings, Dataset) else recordings
        points = make_points(false_positives, embeddings, about)
        self._embeddings = np.asarray(embeddings)
        points = with_clusters(points, self._embeddings, rng)
        self.points = with_places(points, self._embeddings, rng)
        self.map = map if map != "auto" else "canvas" if len(points) <= CANVAS_AUTO else "scatter"
        if self.map == "canvas" and len(points) > CANVAS_MOST:
            raise AudiotkError(
                f"explorer: the canvas map takes {CANVAS_MOST:,} points, not {len(points):,}; use 'auto'"
            )
        self.notes = oddities(self.points, self._embeddings)
        self._positives = positives_of(self.points, self._embeddings, positives)
        self.store = store if isinstance(store, Store) else open_store(store)
        self._ledger = Ledger(self.store, self.labeler, self.points)
        self._clusters = Clusters(self.points, prompt_scores)
        self.still: np.ndarray | None = None
        self.selection: Selection | None = None
        told = "\n".join(f"{row[0]}\n{row[1]}" for row in zip(points["segment"], points["class_name"], strict=True))
        self.id = f"{self.store.id}:{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"ClusterExplorer({self.progress})"

    # --- select and hear ----------------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int] | np.ndarray | None = None, *, cluster: int | None = None) -> pd.DataFrame:
        """Select a cluster (-1: the unassigned), or rows of :attr:`points`; returns the sample to be heard.

        Raises
        ------
        AudiotkError
            No such cluster or row, nothing or both are named, or no false positive is among them.
        """
        with self.lock:
            self._select(rows, cluster)
        self._changed()
        return self.sample

    def more(self) -> pd.DataFrame:
        """Show the next members of the selection, all random; returns the sample."""
        with self.lock:
            self.selection = self._selection().more()
        self._changed()
        return self.sample

    def narrow(self) -> pd.DataFrame:
        """Leave out of the selection what the door refuses; returns the sample.

        Raises
        ------
        AudiotkError
            Nothing is left.
        """
        refused = self.refusals()
        with self.lock:
            self._narrow(refused)
        self._changed()
        return self.sample

    @property
    def sample(self) -> pd.DataFrame:
        """The members to be heard, in their order: point (row of `points`), why, verdict ("" is open), segment, ..."""
        with self.lock:
            page = [] if self.selection is None else list(self.selection.page)
            words = [self._ledger.word(row) for row, _ in page]
        found = self.points.iloc[[row for row, _ in page]].reset_index(names="point")
        found.insert(1, "why", pd.Series([why for _, why in page], dtype="str"))
        found.insert(2, "verdict", pd.Series(words, dtype="str"))
        return found

    def judge(self, place: int, verdict: str) -> None:
        """Say that a row of :attr:`sample` is "false" (a false positive indeed), "true" (an event) or "unsure"."""
        word = check_word(verdict)
        with self.lock:
            page = self._selection().page
            if not isinstance(place, (int, np.integer)) or isinstance(place, bool) or not 0 <= place < len(page):
                raise AudiotkError(f"explorer: expected a row of the sample, 0 to {len(page) - 1}, got {place!r:.80}")
            row, why = page[int(place)]
            self._ledger.judge(str(uuids.uuid4()), row, word, self._selection().key, why)
        self._changed()

    def judge_by(self, truth: Labels | pd.DataFrame | Store | str | Path) -> int:
        """Let known labels, or a recorded listener, judge the open members of the sample; returns how many were judged.

        Parameters
        ----------
        truth
            Labels of the peak segments (1: a true event, 0: none, NaN: unsure); or verdicts, as a table segment,
            class_name, verdict or as a store with judgements. Of the latter two, what they lack stays open.

        Raises
        ------
        AudiotkError
            Labels lack a segment or class of the sample.
        """
        sample = self.sample
        words = known_words(sample, truth)
        places = [place for place in np.flatnonzero(sample["verdict"] == "") if words[place]]
        for place in places:
            self.judge(int(place), words[place])
        return len(places)

    @property
    def purity(self) -> Purity:
        """What was heard of the selection: heard, right, low (lower bound, 95 %), unsure, true."""
        with self.lock:
            now = self._selection()
            told = self._ledger.told(now.rows, now.key, now.shown)
        return counted((said.word, is_random) for said, is_random in told)

    # --- promote and undo ---------------------------------------------------------------------------------------------

    def refusals(self) -> pd.Series:
        """Why the door refuses recordings of the selection: index recording; empty if all may be promoted."""
        with self.lock:
            recordings = self.points["recording"].iloc[self._selection().rows].unique()
        return self._refused(list(recordings))

    def promote(self, theme: str, *, note: str = "") -> str:
        """Make the selection explicit negatives of a theme; returns the promotion's name.

        Raises
        ------
        AudiotkError
            The door refuses a member, the theme is unknown, or all members were heard as true events.
        """
        with self.lock:
            selection = self._selection()
            name = self._promote(selection.rows, selection.name, selection.key, theme, note)
        self._changed(everything=True)
        return name

    def undo(self) -> str:
        """Take back the last verdict or promotion of this labeler, of an earlier kernel too; returns what it was."""
        with self.lock:
            if not self._ledger.acts:
                raise AudiotkError("explorer: there is nothing to undo")
            act = self._ledger.acts[-1]
            self._ledger.undo(str(uuids.uuid4()), act.kind, act.target)
        self._changed(everything=True)
        return act.kind

    def _promote(self, rows: np.ndarray, name: str, key: str, theme: str, note: str) -> str:
        if self.door is None:
            raise AudiotkError("promote: no door was given, so nothing may be promoted; give door=mining.Door(...)")
        with self._at_door:
            return self._ledger.promote(rows, theme, self.door, name, self._heard(rows, key), note)

    def _heard(self, rows: np.ndarray, key: str) -> pd.DataFrame:
        """The verdicts that a promotion rests on: those that :func:`counted` counts, and the unsure ones."""
        shown = self.selection.shown if self.selection is not None and self.selection.key == key else set()
        told = self._ledger.told(rows, key, shown)
        kept = [said for said, is_random in told if is_random or said.word != "false"]
        found = self.points.iloc[[said.row for said in kept]][["segment", "class_name"]].reset_index(drop=True)
        return found.assign(verdict=pd.Series([said.word for said in kept], dtype="str"))

    # --- tables -------------------------------------------------------------------------------------------------------

    @property
    def clusters(self) -> pd.DataFrame:
        """One row a cluster, the largest first and the unassigned (-1) last.

        Returns
        -------
        DataFrame
            cluster, size, class_name (the most frequent), theme (suggested; once promoted, to which), reason (in
            words; "given", "promoted"), heard, right, purity_low (lower bound; see :attr:`purity`), promoted (members),
            still (that fire after :meth:`after`; NaN before it).
        """
        with self.lock:
            return self._clusters.table(self._ledger, self.selection, self.still)

    @property
    def progress(self) -> str:
        """How much is done, in words: heard by this labeler, promoted by anybody."""
        with self.lock:
            heard, promoted = len(self._ledger.last()), int((self._ledger.theme > 0).sum())
        return f"{self._clusters.words}, {heard:,} heard by {self.labeler}, {promoted:,} promoted by anybody"

    def after(self, found: pd.DataFrame, thresholds: Any = None) -> pd.DataFrame:
        """Show on the same map which points still fire after retraining; returns :attr:`clusters`.

        What the store holds is read again: others may have promoted since.

        Parameters
        ----------
        found
            The false positives of the new model, or its scores (index segment, columns classes) with `thresholds`.
        thresholds
            One for all classes or one for each, for scores.

        Raises
        ------
        AudiotkError
            Neither kind of table, or scores without thresholds or without a segment of the points.
        """
        still = still_firing(self.points, found, thresholds)
        with self.lock:
            self.still = still
            self._ledger.reload()
        self._changed(everything=True)
        return self.clusters

    # --- inside -------------------------------------------------------------------------------------------------------

    def _selection(self) -> Selection:
        if self.selection is None:
            raise AudiotkError("explorer: nothing is selected; call select(cluster=...) or select(rows=[...]) first")
        return self.selection

    def _select(self, rows: Any = None, cluster: int | None = None) -> None:
        if (rows is None) == (cluster is None):
            raise AudiotkError("explorer: expected rows=[...] or cluster=..., and one of them")
        at = self._rows(rows) if cluster is None else self._clusters.members(cluster)
        about: dict[str, Any] = {"name": "lasso" if cluster is None else cluster_name(cluster), "cluster": cluster}
        names = names_of(self.points.iloc[at])
        self.selection = select(at, self._embeddings, names, self._seed, positives=self._positives, **about)

    def _narrow(self, refused: pd.Series) -> None:
        selection = self._selection()
        allowed = ~self.points["recording"].isin(refused.index).to_numpy()
        if not allowed[selection.rows].any():
            why = f": {refused.iloc[0]}" if len(refused) else ""
            raise AudiotkError(f"explorer: every recording in {selection.name} is refused{why}")
        self.selection = selection.within(allowed)

    def _refused(self, recordings: Sequence[str]) -> pd.Series:
        if self.door is None:
            return pd.Series("no door was given, so nothing may be promoted", index=list(recordings), dtype="str")
        with self._at_door:  # a door that learns what is held out must not be asked twice at once
            return self.door.refusals(recordings)

    def _rows(self, rows: Any) -> np.ndarray:
        """Rows as a rising array, without true events."""
        at = np.unique(np.asarray(rows))
        if at.size and (at.dtype.kind not in "iu" or at[0] < 0 or at[-1] >= len(self.points)):
            raise AudiotkError(f"explorer: expected rows of 0 to {len(self.points) - 1}, got {rows!r:.80}")
        at = at.astype(np.int64)
        at = at[~self.points["is_true"].to_numpy()[at]] if at.size else at
        if not at.size:
            raise AudiotkError("explorer: no false positive is among what was selected")
        return at

    def _changed(self, everything: bool = False) -> None:
        """Tell the browser what was done from code."""
        if self._widget is not None:
            self._widget.show(everything)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """What the notebook shows: the widget, with a jupyter-scatter above it if that is the map, or a picture."""
        if headless() or self.map == "canvas":
            return super()._repr_mimebundle_(**kwargs)
        return self.box._repr_mimebundle_(**kwargs)

    @cached_property
    def box(self) -> Any:
        """The jupyter-scatter and the widget, linked; the same ones whenever they are shown."""
        return self.widget.with_scatter()

    def make_widget(self) -> ExplorerWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        from audiotk.widgets.explorer_widget import ExplorerWidget

        return ExplorerWidget(self)

    def picture(self) -> Figure:
        """The map as a still picture, with names of clusters and what is promoted."""
        from audiotk.widgets.explorer_picture import explorer_picture

        return explorer_picture(self.points, self.clusters, self._ledger.theme, self.still, self.progress, self.notes)
