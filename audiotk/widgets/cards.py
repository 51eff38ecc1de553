"""What the widgets of cards share: one row after the other with its sound, and one key to say what it is.

Their front end is ``static/cards.js``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import traitlets

from audiotk.tables import AudiotkError
from audiotk.widgets.base import Answer, AudioWidget, need
from audiotk.widgets.media import FLOOR_DB, TOP_DB, mel_hz


class Taker(Protocol):
    """Whoever writes what the browser says; called under its lock."""

    def take(self, op: Mapping[str, Any]) -> dict[str, Any]:
        """Write one operation; returns the acknowledgement or the refusal."""


class CardsWidget(AudioWidget):
    """The messages that all widgets of cards answer alike; a subclass sets `taker` before anything is asked."""

    shared: tuple[str, ...] = ("cards",)
    in_background = AudioWidget.in_background | {"open"}
    labeler = traitlets.Unicode().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    taker: Taker

    def answer_open(self, message: Mapping[str, Any]) -> Answer:
        """What the sound of a recording is like, or what is wrong with it."""
        try:
            media = self.shelf.get(self.path(message), again=True)
        except AudiotkError as err:
            return {"recording": need(message, "recording", str), "readable": False, "problem": str(err)}
        media.wait(timeout_s=0.1)
        told = {"recording": message["recording"], "readable": True, "problem": media.problem()}
        told |= {"duration_s": media.duration_s, "sr": media.sr, "tile_db": [FLOOR_DB, TOP_DB]}
        return told | {"mel_hz": [round(float(hz), 1) for hz in mel_hz(media.sr)]}

    def answer_op(self, message: Mapping[str, Any]) -> Answer:
        """Write what was said, or take it back; the answer comes when the disk has it."""
        return self.taker.take(need(message, "op", dict))
