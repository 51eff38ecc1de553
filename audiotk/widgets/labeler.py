"""The segment labeler: hear a recording, mark ranges, answer its claim. What is acknowledged is on the disk.

:class:`SegmentLabeler` is the plain object that a notebook holds, :class:`LabelerWidget` carries its messages, and
``static/labeler*.js`` is what people touch. The labels live in the store; the next cell reads them from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets

from audiotk.store import Store, open_store
from audiotk.store.operations import AGAIN
from audiotk.tables import AudiotkError, Dataset, check_recordings
from audiotk.widgets.base import COLOURS, Answer, AudioWidget, Plain, checked_settings, need
from audiotk.widgets.desk import Desk
from audiotk.widgets.media import Media
from audiotk.widgets.queue import disagreement, make_places, uncertainty
from audiotk.widgets.teacher import Teacher

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, Any] = {
    "theme": "auto", "speeds": [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2], "height": 200, "snap": False, "auto_next": False,
}  # fmt: skip


class SegmentLabeler(Plain):
    """Label time ranges of recordings by hand; every label goes into `store` before it counts as saved.

    Show it as the last line of a cell. Under ``AUDIOTK_HEADLESS=1`` it is a still picture of the first recording.

    Parameters
    ----------
    recordings
        A *recordings* table or a Dataset; a column ``title`` is shown instead of the id.
    classes
        Names of the classes, in the order of the keys 1-9.
    store
        A store, or the path or URL of one (:func:`audiotk.store.open_store`).
    labeler
        Who labels; needed, and never guessed. Each labeler has his own labels.
    order, repeats, rng
        See :func:`audiotk.widgets.queue.make_places`.
    worth
        Index recording, a number; for order "worth", the highest first: what a search found, for one
        (:func:`audiotk.search.by_recording`).
    teacher
        *scores* of windows, shown as a ribbon and used by snapping and by the orders.
    blind
        The teacher's scores of a recording stay hidden until the labeler has said something about it.
    claims
        Recording -> class that its noisy label claims (None or NaN: none); a Series or a mapping.
    others
        Also show the segments of other labelers.
    settings
        Any of theme, speeds, height (pixels of the spectrogram), snap (at once), auto_next (after a verdict).

    Raises
    ------
    AudiotkError
        A table is not valid, a name is missing or unknown, or the store cannot be opened or written.
    """

    def __init__(
        self,
        recordings: pd.DataFrame | Dataset,
        classes: Sequence[str],
        store: Store | str | Path,
        *,
        labeler: str = "",
        order: str = "given",
        worth: pd.Series | None = None,
        teacher: pd.DataFrame | None = None,
        blind: bool = True,
        claims: pd.Series | Mapping[str, str] | None = None,
        repeats: float = 0.0,
        rng: np.random.Generator | None = None,
        others: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        table = check_recordings(recordings.recordings if isinstance(recordings, Dataset) else recordings)
        if table.empty:
            raise AudiotkError("recordings: expected at least one to label, got an empty table")
        self.settings, names = checked_settings(settings, SETTINGS), _checked_classes(classes)
        who, claimed = _checked_name(labeler), _checked_claims(claims, table, names)
        scores = None if teacher is None else Teacher(teacher, names)
        self.store = store if isinstance(store, Store) else open_store(store)
        self.store.register(table, None if claims is None else claimed)
        about: dict[str, Any] = {str(row["recording"]): row for row in table.to_dict("records")}
        places = make_places(list(about), order, rng, self._worth(order, scores, claimed, worth), repeats)
        self.desk = Desk(who, names, self.store, about, claimed, places, scores, blind and scores is not None, others)
        self.desk.queue.go_to_first_open()
        self.order, self.repeats = order, repeats

    def __repr__(self) -> str:
        done = self.progress()
        name = self.desk.labeler
        return f"SegmentLabeler({name!r}: {done['done']} of {done['total']} recordings done, {self.store!r})"

    # --- what a notebook asks -----------------------------------------------------------------------------------------

    @property
    def segments(self) -> pd.DataFrame:
        """The labeler's segments in the store (hidden repeats apart); see :meth:`audiotk.store.Store.segments`."""
        return self.store.segments(labeler=self.desk.labeler)

    def progress(self) -> dict[str, int]:
        """Recordings that are done, and all: done has a verdict on its claim or, without one, anything found."""
        with self.desk.lock:
            self.desk.queue.refresh()
            return self.desk.queue.progress()

    def make_widget(self) -> LabelerWidget:
        """A new widget; usually :attr:`widget` is what you want."""
        return LabelerWidget(self)

    def picture(self) -> Figure:
        """The current recording with the labeler's segments, as a still picture."""
        from audiotk.widgets.picture import still

        desk, progress = self.desk, self.progress()
        with desk.lock:
            place = desk.queue.place
            state, status = desk.state(place.key), desk.queue.status(place.key)
        title = desk.queue.titles[place.recording]
        said = f"{desk.labeler}: {progress['done']} of {progress['total']} done"
        if claim := desk.claims.get(place.recording):
            said = f"claim: {claim} ({status.replace('_', ' ')})   {said}"
        try:
            return still(Media(desk.about[place.recording]["path"]), state.segments, desk.classes, title, said)
        except AudiotkError as err:
            return still(None, state.segments, desk.classes, title, str(err))

    def _worth(
        self, order: str, teacher: Teacher | None, claims: Mapping[str, str], worth: pd.Series | None
    ) -> pd.Series | None:
        """By what "uncertain", "disagreement" and "worth" order."""
        if order == "worth":
            return worth
        best = None if teacher is None else teacher.best()
        if order == "uncertain" and best is not None:
            return uncertainty(best, claims)
        if order == "disagreement":
            segments, verdicts = self.store.segments(), self.store.claims()
            if best is not None or len(segments) or len(verdicts):
                return disagreement(best, claims, segments, verdicts)
        return None


class LabelerWidget(AudioWidget):
    """The messages of a :class:`SegmentLabeler`."""

    name = "labeler"
    in_background = AudioWidget.in_background | {"snap"}
    classes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    labeler = traitlets.Unicode().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    queue = traitlets.Dict().tag(sync=True)
    store_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, labeler: SegmentLabeler) -> None:
        self.desk, self._order = labeler.desk, labeler.order
        desk = labeler.desk
        shown = [{"name": name, "colour": COLOURS[i % len(COLOURS)]} for i, name in enumerate(desk.classes)]
        for number, row in enumerate(shown[:9], start=1):
            row["key"] = str(number)
        flags = {"blind": desk.blind, "repeats": labeler.repeats > 0, "others": desk.others}
        super().__init__(
            {place.key: desk.about[place.recording]["path"] for place in desk.queue.places},
            lock=desk.lock,
            classes=shown,
            labeler=desk.labeler,
            settings=labeler.settings | flags | {"claims": bool(desk.claims)},
            queue=self._told_queue(),
            store_id=desk.store.id,
        )

    def scanned(self, media: Media) -> None:
        """A recording was read to its end: its peaks are complete, and silence is now known."""
        super().scanned(media)
        if (problem := media.problem()) is not None:
            for key in [key for key, path in self.paths.items() if path == str(media.path)]:
                with self.lock:
                    self.desk.queue.problems[key] = problem
                self.tell({"type": "problem", "recording": key, "text": problem})

    def answer_hello(self, message: Mapping[str, Any]) -> Answer:
        """The current recording, for a browser that has just drawn the widget."""
        return self._show(self.desk.queue.position)

    def answer_open(self, message: Mapping[str, Any]) -> Answer:
        """The recording at a position."""
        return self._show(self.desk.queue.go_to(int(need(message, "position", float))))

    def answer_step(self, message: Mapping[str, Any]) -> Answer:
        """The next (or previous) recording that passes the filter."""
        return self._show(self.desk.queue.step(int(need(message, "by", float))))

    def answer_filter(self, message: Mapping[str, Any]) -> Answer:
        """Set the filter and go to the nearest recording that passes it."""
        return self._show(self.desk.queue.set_filter(need(message, "text", str), need(message, "status", str)))

    def answer_list(self, message: Mapping[str, Any]) -> Answer:
        """A page of the recordings that pass a filter."""
        queue = self.desk.queue
        found = queue.matching(need(message, "text", str), need(message, "status", str))
        page = queue.page(found, int(need(message, "page", float)))
        rows = [queue.row(position) | {"n_segments": self._count(position)} for position in page]
        return {"rows": rows, "total": len(found)}

    def answer_op(self, message: Mapping[str, Any]) -> Answer:
        """Write an operation; the answer comes when the disk has it."""
        op = need(message, "op", dict)
        is_known = isinstance(op.get("recording"), str) and op["recording"] in self.paths
        hidden = is_known and not self.desk.may_see(op["recording"])
        answer = self.desk.append(op)
        number = {"id": message["id"]} if "id" in message else {}
        self.tell({**number, **answer})
        if answer["type"] == "nack":
            if not answer["retry"] and is_known:
                self.tell({"type": "state", **self.desk.told_state(op["recording"])})
            return None
        self._tell_queue()
        if op["kind"] == "undo":
            self.tell({"type": "state", **self.desk.told_state(op["recording"])})
        if hidden and (teacher := self.desk.revealed(op["recording"])) is not None:
            self.tell({"type": "teacher", "recording": op["recording"], **teacher[0]}, teacher[1])
            self.desk.showed_teacher(op["recording"])
        return None

    def answer_snap(self, message: Mapping[str, Any]) -> Answer:
        """Where an edge belongs."""
        at_s, edge = need(message, "at_s", float), need(message, "edge", str)
        return self.desk.evidence(self.media(message), message["recording"], at_s, edge, message.get("class_name"))

    def _show(self, position: int) -> Answer:
        self._tell_queue()
        following = self.desk.queue.neighbour(1)
        if following is not None:
            self.later(lambda: self._prefetch(following))
        content, buffers = self._item(position)
        if content["teacher"] is not None:
            self.desk.showed_teacher(content["recording"])
        return content, buffers

    def _prefetch(self, position: int) -> None:
        content, buffers = self._item(position)
        self.tell({"type": "item", "prefetch": True, **content}, buffers)

    def _item(self, position: int) -> tuple[dict[str, Any], list[bytes]]:
        key = self.desk.queue.places[position].key
        media, problem = self._open(key)
        with self.lock:
            if problem is None:
                self.desk.queue.problems.pop(key, None)
            else:
                self.desk.queue.problems[key] = problem
            content, buffers = self.desk.item(position, media, problem)
        return {"type": "item", **content}, buffers

    def _open(self, key: str) -> tuple[Media | None, str | None]:
        """The opened sound of a recording, anew if its file changed, and what is wrong with it."""
        about = self.desk.about[self.desk.queue.by_key[key].recording]
        try:
            media = self.shelf.get(about["path"], again=True)
        except AudiotkError as err:
            return None, str(err)
        media.wait(timeout_s=0.1)
        told = media.problem()
        if told is None and abs(media.duration_s - about["duration_s"]) > 0.01:
            lasts = f"{media.path.name} lasts {media.duration_s:.3f} s, the recordings table says"
            told = f"{lasts} {about['duration_s']:.3f} s: the file was changed or replaced, and labels may not fit"
        return media, told

    def _count(self, position: int) -> int:
        return len(self.desk.state(self.desk.queue.places[position].key).segments)

    def _told_queue(self) -> dict[str, Any]:
        queue, progress = self.desk.queue, self.desk.queue.progress()
        told = {"position": queue.position, "order": self._order, "filtered": queue.is_filtered()}
        return told | {"total": len(queue.places), "done": progress["done"], "claims": progress}

    def _tell_queue(self) -> None:
        self.queue = self._told_queue()


def _checked_name(labeler: str) -> str:
    if not isinstance(labeler, str) or not labeler.strip():
        raise AudiotkError(f"labeler: expected the name of who labels, as in labeler='anna', got {labeler!r}")
    if labeler.endswith(AGAIN):
        raise AudiotkError(f"labeler: a name must not end with {AGAIN!r}, which marks hidden repeats; got {labeler!r}")
    return labeler.strip()


def _checked_classes(classes: Sequence[str]) -> list[str]:
    names = [classes] if isinstance(classes, str) else list(classes)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise AudiotkError(f"classes: expected at least one name, each once, got {names!r:.200}")
    return names


def _checked_claims(claims: Any, recordings: pd.DataFrame, classes: Sequence[str]) -> dict[str, str]:
    """Recording -> claimed class, of those that have one."""
    if claims is None:
        return {}
    given = {str(name): value for name, value in dict(claims).items() if not pd.isna(value)}
    if unknown := sorted(set(map(str, given.values())) - set(classes)):
        raise AudiotkError(f"claims: {unknown[0]!r} is not in the list of classes: {', '.join(classes)}")
    if unknown := sorted(set(given) - set(recordings["recording"])):
        raise AudiotkError(f"claims: {len(unknown)} recording(s) are not in the recordings table, first {unknown[0]!r}")
    return given
