"""The labeler where custom widgets are barred: a figure (ipympl) and buttons. Slower and plainer, the same store.

Use it where :class:`audiotk.widgets.SegmentLabeler` shows nothing, in a notebook with ``%matplotlib widget``::

    from audiotk.widgets.fallback import Fallback
    Fallback(SegmentLabeler(recordings, classes, store, labeler="anna"))

Drag over the figure (or type two times), play, press a class. There is no audio clock here, so what was heard is said
by hand: "I heard this" counts the selection.
"""

from __future__ import annotations

import html
import io
import uuid
from collections.abc import Callable
from typing import Any

import ipywidgets
import soundfile
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.widgets import SpanSelector

from audiotk.tables import AudiotkError
from audiotk.widgets.base import AudioWidget, Plain
from audiotk.widgets.labeler import SegmentLabeler
from audiotk.widgets.media import Media, Shelf

LONGEST_S = 30.0  # that is played at once


def ipympl_canvas(figure: Figure) -> Any:
    """A canvas that lives in the notebook."""
    try:
        from ipympl.backend_nbagg import Canvas, FigureManager
    except ImportError as err:
        raise AudiotkError("the fallback labeler needs ipympl: pip install ipympl") from err
    canvas = Canvas(figure)
    FigureManager(canvas, 0)
    canvas.header_visible = canvas.toolbar_visible = False
    return canvas


class Fallback(Plain):
    """The recordings of a :class:`SegmentLabeler`, one after another, with nothing but a figure and buttons.

    Parameters
    ----------
    labeler
        What to label and where it goes; its queue, classes and claims count here, too.
    canvas
        Makes the canvas of a figure.
    """

    def __init__(self, labeler: SegmentLabeler, canvas: Callable[[Figure], Any] = ipympl_canvas) -> None:
        self.labeler, self.desk, self._canvas = labeler, labeler.desk, canvas
        self._shelf = Shelf(size=2)
        self.start, self.end = (
            ipywidgets.BoundedFloatText(description=name, step=0.01) for name in ("start s", "end s")
        )
        self.chosen = ipywidgets.Dropdown(description="segment")
        self.status = ipywidgets.HTML()
        self.title = ipywidgets.HTML()
        self.player = ipywidgets.Audio(format="wav", autoplay=True, loop=False, value=b"")
        self.place = ipywidgets.VBox()  # of the canvas
        self._buttons = self._make_buttons()
        self.box = ipywidgets.VBox([self.title, self.place, *self._rows(), self.player, self.status])
        self.show(self.desk.queue.position)

    def picture(self) -> Figure:
        """The still picture of the current recording."""
        return self.labeler.picture()

    def make_widget(self) -> AudioWidget:
        """The box of figure and buttons."""
        return self.box

    # --- buttons ------------------------------------------------------------------------------------------------------

    def _make_buttons(self) -> dict[str, ipywidgets.Button]:
        actions: dict[str, Callable[[], str]] = {
            "previous": lambda: self.step(-1), "next": lambda: self.step(1), "play": self.play,
            "I heard this": self.heard, "delete": self.delete, "undo": self.undo,
        }  # fmt: skip
        for name in self.desk.classes:
            actions[f"+ {name}"] = lambda name=name: self.add(name)  # type: ignore[misc]
        for verdict in ("confirmed", "not_found", "unsure"):
            actions[verdict.replace("_", " ")] = lambda verdict=verdict: self.claim(verdict)  # type: ignore[misc]
        buttons = {}
        for name, action in actions.items():
            buttons[name] = ipywidgets.Button(description=name)
            buttons[name].on_click(lambda _, action=action: self.do(action))
        return buttons

    def _rows(self) -> list[ipywidgets.HBox]:
        names = list(self._buttons)
        count = len(self.desk.classes)
        moves, classes, verdicts = names[:6], names[6 : 6 + count], names[6 + count :]
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        return [
            ipywidgets.HBox([self._buttons[name] for name in moves[:2]] + [self._buttons[name] for name in verdicts]),
            ipywidgets.HBox([self.start, self.end, self._buttons["play"], self._buttons["I heard this"]]),
            ipywidgets.HBox([self._buttons[name] for name in classes], layout=wrap),
            ipywidgets.HBox([self.chosen, self._buttons["delete"], self._buttons["undo"]]),
        ]

    def do(self, action: Callable[[], str]) -> None:
        """Carry out what a button says; what goes wrong is shown, since a notebook swallows errors of callbacks."""
        try:
            with self.desk.lock:
                self._say(action(), "")
        except Exception as err:
            self._say(str(err) if isinstance(err, AudiotkError) else f"{type(err).__name__}: {err}", "color:#c93535")

    def _say(self, text: str, style: str) -> None:
        self.status.value = f'<span style="{style}">{html.escape(text)}</span>'

    # --- what they do -------------------------------------------------------------------------------------------------

    def step(self, by: int) -> str:
        """Show the next recording, or the one before."""
        self.show(self.desk.queue.step(by))
        return ""

    def play(self) -> str:
        """Play the selection (all, if there is none), at most 30 s of it."""
        start_s, end_s = self._selection(whole=True)
        pcm, start_s, end_s = self._media().chunk(start_s, min(end_s, start_s + LONGEST_S))
        file = io.BytesIO()
        soundfile.write(file, pcm, self._media().play_sr, format="WAV")
        self.player.value = file.getvalue()
        return f"playing {start_s:.3f} to {end_s:.3f} s"

    def add(self, class_name: str) -> str:
        """Make the selection a segment of a class."""
        start_s, end_s = self._selection()
        payload = {"id": str(uuid.uuid4()), "start_s": start_s, "end_s": end_s, "class_name": class_name}
        return self._append("segment", payload)

    def heard(self) -> str:
        """Count the selection as heard."""
        return self._append("heard", {"ranges": [list(self._selection(whole=True))]})

    def claim(self, verdict: str) -> str:
        """Answer the claim (without one: whether there is anything at all)."""
        name = self.desk.claims.get(self.desk.queue.place.recording)
        return self._append("claim", {"class_name": name, "verdict": verdict})

    def delete(self) -> str:
        """Remove the chosen segment."""
        if self.chosen.value is None:
            raise AudiotkError("there is no segment to delete")
        return self._append("delete", {"id": self.chosen.value})

    def undo(self) -> str:
        """Take the last operation back."""
        undoable = self.desk.state(self.desk.queue.place.key).undoable
        if not undoable:
            raise AudiotkError("there is nothing to undo")
        return self._append("undo", {"target": undoable[-1]})

    def show(self, position: int) -> None:
        """Show a recording of the queue."""
        self.desk.queue.go_to(position)
        self.player.value = b""
        duration_s = float(self.desk.about[self.desk.queue.place.recording]["duration_s"])
        for field in (self.start, self.end):
            field.value, field.max = 0.0, duration_s
        self._draw()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _media(self) -> Media:
        return self._shelf.get(self.desk.about[self.desk.queue.place.recording]["path"], again=True)

    def _selection(self, whole: bool = False) -> tuple[float, float]:
        if self.start.value < self.end.value:
            return self.start.value, self.end.value
        if whole:
            return 0.0, self.end.max
        raise AudiotkError("select a range first: drag over the figure, or type its start and end")

    def _append(self, kind: str, payload: dict[str, Any]) -> str:
        key = self.desk.queue.place.key
        told = self.desk.append({"uuid": str(uuid.uuid4()), "kind": kind, "recording": key, "payload": payload})
        if told["type"] == "nack":
            raise AudiotkError(f"not saved: {told['text']}")
        self._draw(payload.get("id"))
        return f"saved: {kind} {payload.get('class_name') or payload.get('verdict') or ''}".rstrip()

    def _draw(self, made: str | None = None) -> None:
        """A new figure of the current recording, and the list of its segments, the one just `made` chosen."""
        state, place = self.desk.state(self.desk.queue.place.key), self.desk.queue.place
        claim, queue = self.desk.claims.get(place.recording), self.desk.queue
        words = f"{queue.position + 1} of {len(queue.places)}: {queue.titles[place.recording]}"
        self.title.value = f"<b>{html.escape(words + (f' - claim: {claim}' if claim else ''))}</b>"
        texts = [f"{row['class_name']} {row['start_s']:.3f}-{row['end_s']:.3f} s" for row in state.segments]
        names = [row["id"] for row in state.segments]
        self.chosen.options = list(zip(texts, names, strict=True))
        self.chosen.value = made if made in names else names[-1] if names else None
        figure = self.picture()
        canvas: FigureCanvasBase = self._canvas(figure)
        self._spans = [
            SpanSelector(axes, self._select, "horizontal", useblit=False, interactive=True)  # blit: nothing to see
            for axes in figure.axes[:2]
        ]
        self.place.children = [canvas] if isinstance(canvas, ipywidgets.Widget) else []

    def _select(self, start_s: float, end_s: float) -> None:
        self.start.value, self.end.value = max(start_s, 0.0), min(end_s, self.end.max)
