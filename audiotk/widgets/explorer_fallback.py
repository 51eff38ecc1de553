"""The explorer where custom widgets are barred: a figure with a lasso (ipympl) and buttons. The same store.

Use it where :class:`audiotk.widgets.ClusterExplorer` shows nothing, in a notebook with ``%matplotlib widget``::

    from audiotk.widgets.explorer_fallback import ExplorerFallback
    ExplorerFallback(ClusterExplorer(ghosts, vectors, store, labeler="anna", rng=rng, door=door))

Draw around points (or choose a cluster), hear one member after the other, say what it is, choose a theme, promote.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
import soundfile
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.widgets import LassoSelector

from audiotk import mining
from audiotk.tables import AudiotkError
from audiotk.widgets.base import AudioWidget, Plain
from audiotk.widgets.explorer import ClusterExplorer
from audiotk.widgets.explorer_clusters import cluster_name
from audiotk.widgets.explorer_ledger import VALUES
from audiotk.widgets.explorer_picture import map_of
from audiotk.widgets.fallback import ipympl_canvas
from audiotk.widgets.media import Shelf


class ExplorerFallback(Plain):
    """What a :class:`ClusterExplorer` does, with nothing but a figure and buttons.

    Parameters
    ----------
    explorer
        Whose points are shown, and where verdicts and promotions go.
    canvas
        Makes the canvas of a figure.
    """

    def __init__(self, explorer: ClusterExplorer, canvas: Callable[[Figure], Any] = ipympl_canvas) -> None:
        self.explorer, self._canvas, self._shelf = explorer, canvas, Shelf(size=4)
        self.at = 0
        names = [(cluster_name(name), int(name)) for name in explorer.clusters["cluster"]]
        self.cluster = ipywidgets.Dropdown(description="cluster", options=[("choose", None), *names])
        self.cluster.observe(lambda change: self.do(self.choose), names=["value"])
        self.theme = ipywidgets.Dropdown(description="theme", options=list(mining.THEMES))
        self.title, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.player = ipywidgets.Audio(format="wav", autoplay=True, loop=False, value=b"")
        self.place = ipywidgets.VBox()  # of the canvas
        actions: dict[str, Callable[[], str]] = {
            "previous": lambda: self.step(-1), "play": self.play, "next": lambda: self.step(1), "more": self.more,
            **{word: (lambda word=word: self.judge(word)) for word in VALUES},  # type: ignore[misc]
            "leave refused out": self.narrow, "promote": self.promote, "undo": self.undo,
        }  # fmt: skip
        self.buttons = {name: ipywidgets.Button(description=name) for name in actions}
        for name, action in actions.items():
            self.buttons[name].on_click(lambda _, action=action: self.do(action))
        shown = list(self.buttons.values())
        rows = [ipywidgets.HBox([self.cluster, *shown[:4]]), ipywidgets.HBox(shown[4:7])]
        rows.append(ipywidgets.HBox([self.theme, *shown[7:]]))
        self.box = ipywidgets.VBox([self.title, self.place, *rows, self.player, self.status])
        self._draw()
        self._tell()

    def picture(self) -> Figure:
        """The still picture of the explorer."""
        return self.explorer.picture()

    def make_widget(self) -> AudioWidget:
        """The box of figure and buttons."""
        return self.box

    def do(self, action: Callable[[], str]) -> None:
        """Do something and say how it went."""
        try:
            said, style = action(), ""
        except AudiotkError as err:
            said, style = str(err), "color: #c22f47"
        self._tell()
        self.status.value = f'<span style="{style}">{html.escape(said)}</span>'

    # --- what the buttons do ------------------------------------------------------------------------------------------

    def choose(self) -> str:
        """Select the chosen cluster."""
        if self.cluster.value is None:
            return ""
        self.explorer.select(cluster=self.cluster.value)
        return self._begin()

    def lasso(self, corners: list[tuple[float, float]]) -> str:
        """Select the points inside of a polygon."""
        place = self.explorer.points[["x", "y"]].to_numpy(dtype=float)
        inside = Path(corners).contains_points(np.nan_to_num(place, nan=np.inf)) & np.isfinite(place).all(axis=1)
        self.explorer.select(rows=np.flatnonzero(inside))
        return self._begin()

    def step(self, by: int) -> str:
        """Hear the next member, or the one before."""
        self.at = int(np.clip(self.at + by, 0, max(len(self.explorer.sample) - 1, 0)))
        return self.play()

    def play(self) -> str:
        """Play the current member."""
        sample = self.explorer.sample
        if sample.empty:
            raise AudiotkError("select a cluster, or draw around points, first")
        row = sample.iloc[self.at]
        if row["silent"]:
            raise AudiotkError(row["silent"])
        media = self._shelf.get(row["path"], again=True)
        pcm, _, _ = media.chunk(row["start_s"], row["end_s"])
        file = io.BytesIO()
        soundfile.write(file, pcm, media.play_sr, format="WAV")
        self.player.value = file.getvalue()
        return f"playing {row['segment']}"

    def more(self) -> str:
        """Show more members, drawn at random."""
        self.explorer.more()
        return self._begin()

    def judge(self, word: str) -> str:
        """Say what the current member is, and go on to the next."""
        self.explorer.judge(self.at, word)
        said = f"saved: {word}"
        if self.at + 1 < len(self.explorer.sample):
            self.step(1)
        return said

    def narrow(self) -> str:
        """Leave out what the door refuses."""
        self.explorer.narrow()
        return self._begin()

    def promote(self) -> str:
        """Promote the selection."""
        self.explorer.promote(self.theme.value)
        self._draw()
        return f"promoted as {self.theme.value}"

    def undo(self) -> str:
        """Take the last verdict or promotion back."""
        said = f"taken back: {self.explorer.undo()}"
        self._draw()
        return said

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        self.at = 0
        return self.play()

    def _tell(self) -> None:
        """What is selected, and how pure it is."""
        selection = self.explorer.selection
        words = self.explorer.progress
        if selection is not None:
            purity, sample = self.explorer.purity, self.explorer.sample
            row = sample.iloc[self.at]
            words = f"{selection.name}: {len(selection.rows):,} false positives, purity at least {purity.low:.2f} "
            words += f"({purity.right} of {purity.heard}) - {self.at + 1} of {len(sample)}: {row['class_name']} "
            words += f"{row['segment']}, {row['why']} {row['verdict']}"
        self.title.value = f"<b>{html.escape(words)}</b>"

    def _draw(self) -> None:
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.subplots()
        map_of(axes, self.explorer.points, self.explorer._ledger.theme, self.explorer.still)
        canvas: FigureCanvasBase = self._canvas(figure)
        self._selector = LassoSelector(axes, lambda corners: self.do(lambda: self.lasso(corners)), useblit=False)
        self.place.children = [canvas] if isinstance(canvas, ipywidgets.Widget) else []
