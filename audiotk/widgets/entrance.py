"""The door to the segment labeler: who labels says so first, in the notebook or on the page that Voila serves."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from audiotk.store import Store
from audiotk.tables import AudiotkError
from audiotk.widgets.base import Plain, headless, keep_answering
from audiotk.widgets.labeler import SegmentLabeler

RESERVED = ("truth", "replayed", "second")  # names in tables of labelers who are not persons


class Entrance(Plain):
    """A :class:`SegmentLabeler` for whoever gives a name; before that, and where nobody is, an example of others' work.

    What people label goes into `store`. The example is only looked at: nobody can label in it.

    Parameters
    ----------
    recordings, classes, claims
        As for :class:`SegmentLabeler`.
    store
        The store of those who label, or its path or URL.
    example
        A store and the name of a labeler in it.
    labeler
        Name, if it is known; then no name is asked for.
    options
        More for :class:`SegmentLabeler`.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        classes: Sequence[str],
        store: Store | str | Path,
        example: tuple[Store, str],
        *,
        claims: pd.Series | Mapping[str, str] | None = None,
        labeler: str = "",
        **options: Any,
    ) -> None:
        self._make = lambda where, who: SegmentLabeler(
            recordings, classes, where, labeler=who, claims=claims, **options
        )
        self._own, self._example = store, example
        self.desk: SegmentLabeler | None = None
        self.box = ipywidgets.VBox() if not headless() else None
        if labeler.strip():
            self.enter(labeler)
        elif self.box is not None:
            self.box.children = self._form()

    def __repr__(self) -> str:
        return repr(self.desk) if self.desk else f"nobody labels here yet; the example is by {self.labeler!r}"

    @property
    def store(self) -> Store:
        """The store of who labels; while nobody does, that of the example."""
        return self.desk.store if self.desk else self._example[0]

    @property
    def labeler(self) -> str:
        """Who labels; while nobody does, the name in the example."""
        return self.desk.desk.labeler if self.desk else self._example[1]

    def enter(self, labeler: str) -> None:
        """Open the labeler under a name.

        Raises
        ------
        AudiotkError
            It is no name, that of the example, or one in RESERVED; or the store cannot be opened.
        """
        if labeler.strip() == self._example[1]:
            raise AudiotkError(f"labeler: {labeler.strip()!r} is the name of the recorded example; give your own")
        if labeler.strip().casefold() in RESERVED:
            told = "stands for simulated labelers or the known truth beside whom yours are compared"
            raise AudiotkError(f"labeler: the name {labeler.strip()!r} {told}; give another, such as your own")
        self.desk = self._make(self._own, labeler)
        if self.box is not None:
            self.box.children = [self.desk.widget]

    def picture(self) -> Figure:
        """The current recording of who labels; of the example, the one with most segments."""
        if self.desk:
            return self.desk.picture()
        example = self._make(*self._example)
        if len(example.segments):
            most, queue = example.segments["recording"].mode()[0], example.desk.queue
            queue.go_to(next(i for i, place in enumerate(queue.places) if place.recording == most))
        return example.picture()

    def make_widget(self) -> Any:
        """The form, or the labeler in its place."""
        return self.box

    def _form(self) -> list[ipywidgets.Widget]:
        name = ipywidgets.Text(placeholder="your name", layout=ipywidgets.Layout(width="16em"))
        button = ipywidgets.Button(description="Start labeling", button_style="primary")
        told = ipywidgets.HTML(
            "Who labels? Every label is kept under this name; the same name goes on where it stopped."
        )
        fault = ipywidgets.HTML()

        def start(_: object) -> None:
            try:
                self.enter(name.value)
            except Exception as err:  # a notebook swallows errors of callbacks: show them
                text = str(err) if isinstance(err, AudiotkError) else f"{type(err).__name__}: {err}"
                fault.value = f'<span style="color:#c93535">{html.escape(text)}</span>'

        button.on_click(start)
        for widget in (name, button):
            keep_answering(widget)
        return [told, ipywidgets.HBox([name, button]), fault]
