"""What all widgets share: objects that a notebook shows, and the one door through which a browser's messages come.

A widget of audiotk is three things: a plain Python object with the state (a :class:`Plain`), a small
:class:`AudioWidget` that carries messages, and its JavaScript in ``static/``. Where nobody sits at the screen
(``AUDIOTK_HEADLESS=1``, set by the notebook runner) no widget is made at all and the object shows a still picture.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from audiotk.tables import AudiotkError
from audiotk.widgets.media import HOP_S, TILE, Media, NotYet, Shelf

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # loading it takes a second that a browser would wait for

STATIC = Path(__file__).parent / "static"
THREADS = 4  # that read sound while labels go on being written
LARGEST = 2_000_000  # bytes in one message
HAND_OVER_S = 0.001  # after which a cell that computes lets a message through: a label takes dozens of such turns
STORE_S = 2.0  # that a label waits for others who write; after 4 s the browser gives up the answer and asks again
COLOURS = (  # of classes, in their order
    "#4e79d4", "#e07b39", "#3f9d74", "#c8505f", "#8866c4", "#b08a2e", "#2f97ab", "#c25f9c", "#6f8a3a", "#8a6f5c",
)  # fmt: skip

log = logging.getLogger("audiotk.widgets")
Answer = Mapping[str, Any] | tuple[Mapping[str, Any], Sequence[bytes]] | None


def headless() -> bool:
    """Whether nobody sits at the screen: ``AUDIOTK_HEADLESS`` is set to something but 0."""
    return os.environ.get("AUDIOTK_HEADLESS", "0") not in ("", "0")


def esm(name: str, shared: Sequence[str] = ()) -> str:
    """The JavaScript of a widget, one text for anywidget: ``sound.js``, `shared`, ``NAME_*.js``, ``NAME.js``."""
    before = [STATIC / f"{part}.js" for part in ("sound", *shared)]
    return "\n".join(_text(path) for path in (*before, *sorted(STATIC.glob(f"{name}_*.js")), STATIC / f"{name}.js"))


def css(name: str, shared: Sequence[str] = ()) -> str:
    """The style sheet of a widget: ``theme.css``, `shared`, ``NAME.css``."""
    return "\n".join(_text(STATIC / f"{part}.css") for part in ("theme", *shared, name))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as err:
        raise AudiotkError(f"{path}: a file of audiotk is missing ({err.strerror}); install it again") from err


def need(message: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value `name` of a message, if it is of that type (float: any finite number)."""
    value = message.get(name)
    fits = isinstance(value, (int, float)) and isfinite(value) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        expected = "a finite number" if kind is float else kind.__name__
        raise AudiotkError(f"message {message.get('type')!r}: expected {name!r} to be {expected}, got {value!r:.80}")
    return value


def checked_settings(settings: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a widget: `defaults`, and what the caller sets of them."""
    if unknown := set(settings or {}) - set(defaults):
        raise AudiotkError(f"settings: expected any of {', '.join(defaults)}; got {', '.join(sorted(unknown))}")
    return dict(defaults) | dict(settings or {})


def keep_answering(widget: Any) -> None:
    """Let each message to a widget go where its sender says.

    ipykernel 7.4 sends it to the subshell of the last answer instead. Once that one is closed (the one that a reloaded
    page opens for a moment, say), no message would reach the widget any more.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, subshell: subshell


class Plain:
    """A plain object that a notebook shows: as a widget, or as a still picture where nobody sits at the screen.

    A subclass gives `make_widget` and `picture`. The widget is made when it is first asked for, never when headless.
    """

    _widget: AudioWidget | None = None

    def make_widget(self) -> AudioWidget:
        """A new widget of this object."""
        raise NotImplementedError

    def picture(self) -> Figure:
        """The still picture."""
        raise NotImplementedError

    @property
    def widget(self) -> AudioWidget:
        """The widget, to be put beside others."""
        if headless():
            raise AudiotkError("AUDIOTK_HEADLESS is set, so there is no widget; unset it to work with one")
        if self._widget is None:
            self._widget = self.make_widget()
        return self._widget

    def _repr_png_(self) -> bytes | None:
        """The still picture as PNG, when headless (a notebook asks for it beside the widget, too)."""
        if not headless():
            return None
        file = io.BytesIO()
        self.picture().savefig(file, format="png", dpi=110)
        return file.getvalue()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """What the notebook shows: the widget or, when headless, the picture."""
        if headless():
            return {"text/plain": repr(self), "image/png": self._repr_png_()}
        return self.widget._repr_mimebundle_(**kwargs)


class AudioWidget(anywidget.AnyWidget):
    """Carries messages between a browser and methods named ``answer_TYPE``.

    ``answer_TYPE(message)`` gets what the browser sent and returns None (no answer), the answer as a dict, or a pair of
    that and binary buffers; ``type`` and ``id`` are added here. Messages change the state one at a time, under
    `self.lock`, whichever thread they come on (Jupyter changes it). Types in `in_background` (reading sound) run in
    threads without the lock, so that a long file never delays a label; their answers may overtake others.

    Whatever goes wrong in a method is caught here and nowhere else: it is logged, and the browser gets
    ``{type: "error", id, text}``, because Jupyter swallows errors of callbacks.

    Requests of sound (``peaks``, ``tile``, ``audio``) are answered here, for the recordings in `paths`. A subclass says
    in `name` what its files in ``static/`` are called, and in `shared` which others come before them.

    Parameters
    ----------
    paths
        What the browser calls a recording -> its sound file.
    lock
        The lock of the state; by default one of its own.
    traits
        What the browser is told from the start.
    """

    name = ""
    shared: tuple[str, ...] = ()
    in_background = frozenset({"peaks", "tile", "audio"})
    ready = traitlets.Int(0).tag(sync=True)  # rises when a long recording was read to its end

    def __init__(self, paths: Mapping[str, str], lock: threading.RLock | None = None, **traits: Any) -> None:
        self.lock = threading.RLock() if lock is None else lock
        self.paths, self.shelf = paths, Shelf(on_scanned=self.scanned)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="audiotk-widget")
        self._waiting: set[Future[None]] = set()
        self._closed = False
        self._esm, self._css = esm(self.name, self.shared), css(self.name, self.shared)
        sys.setswitchinterval(min(sys.getswitchinterval(), HAND_OVER_S))
        super().__init__(**traits)
        self.on_msg(lambda _, message, buffers: self.receive(message))

    def open(self) -> None:
        """Open the channel to the browser."""
        super().open()
        keep_answering(self)

    def receive(self, message: Any) -> None:
        """Take one message from the browser."""
        kind = message.get("type") if isinstance(message, dict) else None
        method = getattr(self, f"answer_{kind}", None) if isinstance(kind, str) and kind.isidentifier() else None
        if method is None:
            known = sorted(name.removeprefix("answer_") for name in dir(type(self)) if name.startswith("answer_"))
            text = f"message of unknown type {kind!r}; expected one of {known}"
            self._send_error(message, AudiotkError(text))
        elif kind in self.in_background:
            self._submit(method, message)
        else:
            with self.lock:
                self._answer(method, message)

    def answer_ping(self, message: Mapping[str, Any]) -> Answer:
        """A sign of life."""
        return {"type": "pong"}

    def media(self, message: Mapping[str, Any]) -> Media:
        """The opened recording that a message is about."""
        return self.shelf.get(self.path(message))

    def path(self, message: Mapping[str, Any]) -> str:
        """The sound file of the recording that a message is about."""
        recording = need(message, "recording", str)
        if recording not in self.paths:
            raise AudiotkError(
                f"message {message.get('type')!r}: recording {recording!r} is not among those shown here"
            )
        return self.paths[recording]

    def scanned(self, media: Media) -> None:
        """Called in a thread of its own when a recording was read to its end."""
        with self.lock:
            self.ready += 1

    def answer_peaks(self, message: Mapping[str, Any]) -> Answer:
        """Lowest and highest samples of `n` parts of a range: int16 (n, 2)."""
        number = int(need(message, "n", float))
        found = self.media(message).peaks(need(message, "start_s", float), need(message, "end_s", float), number)
        told = {"recording": message["recording"], "n": len(found.pairs)}
        told |= {"start_s": found.start_s, "end_s": found.end_s, "until_s": found.until_s}
        return told, [found.pairs.tobytes()]

    def answer_tile(self, message: Mapping[str, Any]) -> Answer:
        """A piece of spectrogram: uint8 (mels, frames)."""
        zoom, index = int(need(message, "zoom", float)), int(need(message, "index", float))
        picture, hop_s = self.media(message).tile(zoom, index), HOP_S * 4**zoom
        told = {"recording": message["recording"], "zoom": zoom, "index": index}
        told |= {"mels": picture.shape[0], "frames": picture.shape[1], "start_s": index * TILE * hop_s}
        return told | {"end_s": (index * TILE + picture.shape[1]) * hop_s}, [picture.tobytes()]

    def answer_audio(self, message: Mapping[str, Any]) -> Answer:
        """Samples of a range: int16, mono."""
        media = self.media(message)
        pcm, start_s, end_s = media.chunk(need(message, "start_s", float), need(message, "end_s", float))
        told = {"recording": message["recording"], "start_s": start_s, "end_s": end_s, "sr": media.play_sr}
        return told, [pcm.tobytes()]

    def later(self, work: Callable[[], None]) -> None:
        """Do `work` in a background thread; what goes wrong there is told like anything else."""
        self._submit(lambda _: work(), {})

    def drain(self) -> None:
        """Wait until the background threads have nothing left to do."""
        while waiting := list(self._waiting):
            for future in waiting:
                future.result()

    def close(self) -> None:
        """Let go of the browser and of what waits in the background."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.shelf.close()
        super().close()

    def tell(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to the browser."""
        size = sum(len(buffer) for buffer in buffers)
        if size > LARGEST:
            raise AudiotkError(f"a message of {size:,} bytes is too large (type {content.get('type')!r}); ask for less")
        self.send(dict(content), list(buffers))

    def _answer(self, method: Callable[[Any], Answer], message: Mapping[str, Any]) -> None:
        """Run one method and send what it returns: the one place where errors of messages are caught."""
        try:
            answer = method(message)
            if answer is None:
                return
            content, buffers = answer if isinstance(answer, tuple) else (answer, ())
            number = {"id": message["id"]} if "id" in message else {}
            self.tell({"type": message.get("type"), **number, **content}, buffers)
        except NotYet as wait:  # answered once it is decoded; until then no thread is held
            wait.media.when_read(wait.frames, lambda: self._submit(method, message))
        except Exception as err:
            self._send_error(message, err)

    def _submit(self, method: Callable[[Any], Answer], message: Mapping[str, Any]) -> None:
        """Have a background thread answer, unless the widget was closed."""
        if not self._closed:
            future = self._pool.submit(self._answer, method, message)
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)

    def _send_error(self, message: Any, err: Exception) -> None:
        """Log what went wrong and show it in the browser."""
        expected = isinstance(err, AudiotkError)
        log.log(logging.WARNING if expected else logging.ERROR, "%s", err, exc_info=None if expected else err)
        text = str(err) if expected else f"{type(err).__name__}: {err} (a fault of audiotk; the log has more)"
        number = {"id": message["id"]} if isinstance(message, dict) and "id" in message else {}
        self.send({"type": "error", **number, "text": text})
