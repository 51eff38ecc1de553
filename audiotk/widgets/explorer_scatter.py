"""The explorer's map drawn by jupyter-scatter, for more points than a canvas takes: one scatter, linked both ways."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pandas as pd

from audiotk.tables import AudiotkError
from audiotk.widgets.explorer_colours import look

if TYPE_CHECKING:
    from audiotk.widgets.explorer import ClusterExplorer

AFTER_S = 0.4  # after a lasso, in which a selection of at most one point is an echo of the mouse, not a wish
log = logging.getLogger("audiotk.widgets")


class ScatterLink:
    """A jupyter-scatter of the points of an explorer; a lasso in it selects, and what is selected is shown in it.

    A browser has about 16 WebGL contexts, so there is one scatter, however often it is coloured anew.

    Parameters
    ----------
    explorer
        Whose points are shown; those without a place are not.
    tell
        Tells the browser what is selected now (or, given a text, what went wrong).
    clock
        Seconds, rising.
    """

    def __init__(
        self, explorer: ClusterExplorer, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        import jscatter  # takes a second or two

        self.explorer, self._tell, self._clock = explorer, tell, clock
        place = explorer.points[["x", "y"]].to_numpy(dtype=float)
        self._rows = np.flatnonzero(np.isfinite(place).all(axis=1))  # point of each drawn one
        self._frame = pd.DataFrame(place[self._rows], columns=["x", "y"])
        self.scatter: Any = jscatter.Scatter(data=self._frame, x="x", y="y", height=explorer.settings["height"])
        self.scatter.axes(False)
        self.scatter.legend(False)
        self.scatter.lasso(on_long_press=True, initiator=False)
        self.scatter.mouse(mode="lasso")
        self.by, self._lasso, self._lasso_at = "cluster", np.zeros(0, np.int64), -AFTER_S
        self.colour(self.by)
        self.scatter.widget.observe(self._observed, names=["selection"])

    def box(self, below: ipywidgets.Widget) -> ipywidgets.Widget:
        """The scatter with the other widget below it."""
        return ipywidgets.VBox([self.scatter.show(["lasso", "pan_zoom", "reset"]), below])

    def colour(self, by: str) -> None:
        """Colour the points by something else."""
        explorer = self.explorer
        colours, code, about = look(explorer.points, by, explorer._ledger.theme, explorer.still)
        used = range(len(colours))
        names = [str(name) for name in about.get("names", used)]
        labels = [f"{at} {names[at] if at < len(names) else ''}" for at in used]
        named = pd.Categorical.from_codes(code[self._rows], categories=pd.Index(labels))
        self.scatter.data(self._frame.assign(colour=named))
        self.scatter.color(by="colour", map=colours)
        self.by = by

    def ground(self, theme: str) -> None:
        """The ground of a theme, "light" or "dark"."""
        self.scatter.background("#14171d" if theme == "dark" else "#ffffff")

    def recolour(self) -> None:
        """Show what was promoted, or what fires still, since."""
        if self.explorer.still is not None and self.by == "cluster":
            self.by = "after"
        if self.by in ("theme", "after"):
            self.colour(self.by)

    def show(self) -> None:
        """Show what is selected."""
        selection = self.explorer.selection
        drawn = np.zeros(0, np.int64) if selection is None else np.searchsorted(self._rows, selection.rows)
        if selection is not None:  # some have no place
            drawn = drawn[
                (drawn < len(self._rows)) & (self._rows[np.minimum(drawn, len(self._rows) - 1)] == selection.rows)
            ]
        self._lasso = drawn
        self.scatter.selection(drawn if len(drawn) else None)

    def _observed(self, change: Any) -> None:
        """Jupyter swallows errors of callbacks, so they are caught and told here."""
        try:
            with self.explorer.lock:
                told = self._take(np.zeros(0, np.int64) if change["new"] is None else np.asarray(change["new"]))
            if told:
                self._tell("")
        except AudiotkError as err:
            self._tell(str(err))
        except Exception as err:
            log.exception("%s", err)
            self._tell(f"{type(err).__name__}: {err} (a fault of audiotk; the log has more)")

    def _take(self, drawn: np.ndarray) -> bool:
        """Take a selection made in the scatter; False if nothing is new."""
        drawn = np.sort(drawn.astype(np.int64).ravel())
        if np.array_equal(drawn, self._lasso):
            return False
        if len(drawn) <= 1 and self._clock() - self._lasso_at < AFTER_S:
            self.scatter.selection(self._lasso)
            return False
        if not len(drawn):
            self._lasso, self.explorer.selection = drawn, None
            return True
        if len(drawn) == 1:  # a click takes the cluster of its point
            self.explorer._select(cluster=self.explorer._clusters.of(int(self._rows[drawn[0]])))
            self.show()
            return True
        self._lasso, self._lasso_at = drawn, self._clock()
        self.explorer._select(rows=self._rows[drawn])
        return True
