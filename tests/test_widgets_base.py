"""The door through which messages come: answers, errors that are told, locks and threads, files, headless."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from matplotlib.figure import Figure

from audiotk.errors import AudiotkError
from audiotk.widgets import base
from audiotk.widgets.base import Answer, AudioWidget, Plain, css, esm, headless, need

ROOT = Path(__file__).parents[1]


class Echo(AudioWidget):
    """A widget that does little, and keeps what it sends."""

    name = "echo"
    in_background = AudioWidget.in_background | {"slow"}

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.threads: list[tuple[str, threading.Thread]] = []
        self.may_end = threading.Event()
        super().__init__(paths)

    def send(self, content: Any, buffers: Sequence[bytes] | None = None) -> None:
        self.sent.append((json.loads(json.dumps(content, allow_nan=False)), list(buffers or [])))

    def ask(self, **message: Any) -> dict[str, Any]:
        before = len(self.sent)
        self._handle_custom_msg(message, [])
        self.drain()
        assert len(self.sent) == before + 1
        return self.sent[-1][0]

    def answer_echo(self, message: Mapping[str, Any]) -> Answer:
        self.threads.append(("echo", threading.current_thread()))
        return {"text": need(message, "text", str)}

    def answer_slow(self, message: Mapping[str, Any]) -> Answer:
        self.threads.append(("slow", threading.current_thread()))
        assert self.may_end.wait(30)
        return {"text": "at last"}

    def answer_divide(self, message: Mapping[str, Any]) -> Answer:
        return {"value": 1 / need(message, "by", float)}

    def answer_nothing(self, message: Mapping[str, Any]) -> Answer:
        return None

    def answer_flood(self, message: Mapping[str, Any]) -> Answer:
        return {}, [bytes(2_000_001)]


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Echo:
    monkeypatch.setattr(base, "STATIC", tmp_path)
    for name in ("sound.js", "echo.js", "theme.css", "echo.css"):
        (tmp_path / name).write_text(f"/* {name} */")
    sf.write(tmp_path / "a.wav", np.sin(np.arange(8000) / 5), 8000)
    return Echo({"a": str(tmp_path / "a.wav"), "gone": str(tmp_path / "gone.wav")})


def test_an_answer_repeats_type_and_id(echo: Echo) -> None:
    assert echo.ask(type="echo", id=7, text="hello") == {"type": "echo", "id": 7, "text": "hello"}
    assert echo.ask(type="ping", id=8) == {"type": "pong", "id": 8}
    echo.receive({"type": "nothing", "id": 9})
    assert len(echo.sent) == 2


@pytest.mark.parametrize("kind", ["unknown", "__init__", "echo; drop", "", None, 7, ["echo"]])
def test_an_unknown_type_is_refused_in_words(echo: Echo, kind: Any) -> None:
    told = echo.ask(type=kind, id=1)
    assert (told["type"], told["id"]) == ("error", 1)
    assert "unknown type" in told["text"]
    assert "'echo'" in told["text"]


@pytest.mark.parametrize("message", [None, "echo", 3, [1]])
def test_what_is_no_message_is_refused(echo: Echo, message: Any) -> None:
    echo.receive(message)
    assert echo.sent[-1][0]["type"] == "error"
    assert "id" not in echo.sent[-1][0]


@pytest.mark.parametrize("value", [None, "3", float("nan"), float("inf"), True, [1]])
def test_a_wrong_field_is_named(echo: Echo, value: Any) -> None:
    told = echo.ask(type="divide", id=1, by=value)
    assert told["type"] == "error"
    assert "message 'divide': expected 'by' to be a finite number" in told["text"]


def test_a_fault_is_shown_and_logged_and_the_next_message_works(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "audiotk.widgets"):
        told = echo.ask(type="divide", id=1, by=0)
    assert told == {
        "type": "error",
        "id": 1,
        "text": "ZeroDivisionError: division by zero (a fault of audiotk; the log has more)",
    }
    assert caplog.records[0].exc_info is not None
    assert "too large" in echo.ask(type="flood")["text"]
    assert echo.ask(type="echo", text="on")["text"] == "on"


def test_errors_of_background_work_are_shown(echo: Echo) -> None:
    echo.later(lambda: 1 / 0)
    echo.drain()
    assert echo.sent[-1][0]["type"] == "error"


def test_slow_requests_do_not_hold_up_others(echo: Echo) -> None:
    echo.receive({"type": "slow", "id": 1})
    assert echo.receive({"type": "echo", "id": 2, "text": "quick"}) is None
    assert [content["id"] for content, _ in echo.sent] == [2]
    echo.may_end.set()
    echo.drain()
    assert [content["id"] for content, _ in echo.sent] == [2, 1]
    threads = dict(echo.threads)
    assert threads["echo"] is threading.main_thread()
    assert threads["slow"] is not threading.main_thread()


def test_messages_from_another_thread_wait_for_the_lock(echo: Echo) -> None:
    caller = threading.Thread(target=echo.receive, args=({"type": "echo", "id": 5, "text": "second"},))
    with echo.lock:
        caller.start()
        caller.join(0.05)
        assert caller.is_alive()
        assert echo.sent == []
    caller.join(30)
    assert echo.sent[0][0]["id"] == 5


def test_a_cell_that_computes_soon_lets_messages_through(echo: Echo) -> None:
    before = sys.getswitchinterval()
    try:
        for interval, then in ((0.005, base.HAND_OVER_S), (0.0005, 0.0005)):
            sys.setswitchinterval(interval)
            Echo(echo.paths)
            assert sys.getswitchinterval() == pytest.approx(then)
    finally:
        sys.setswitchinterval(before)


def test_sound_is_answered_as_the_protocol_says(echo: Echo) -> None:
    told = echo.ask(type="peaks", id=1, recording="a", start_s=0, end_s=1, n=100)
    assert told == {"type": "peaks", "id": 1, "recording": "a", "n": 100, "start_s": 0, "end_s": 1, "until_s": 1}
    assert np.frombuffer(echo.sent[-1][1][0], np.int16).reshape(100, 2)[:, 1].max() > 30000
    told = echo.ask(type="tile", id=2, recording="a", zoom=0, index=0)
    assert (told["mels"], told["frames"], told["start_s"], told["end_s"]) == (96, 100, 0, 1)
    assert len(echo.sent[-1][1][0]) == 96 * 100
    told = echo.ask(type="audio", id=3, recording="a", start_s=0.25, end_s=0.5)
    assert (told["sr"], told["start_s"], told["end_s"]) == (8000, 0.25, 0.5)
    assert len(echo.sent[-1][1][0]) == 2 * 2000
    assert "not among those" in echo.ask(type="audio", id=4, recording="b", start_s=0, end_s=1)["text"]
    assert "No such file" in echo.ask(type="audio", id=5, recording="gone", start_s=0, end_s=1)["text"]
    assert "expected a zoom" in echo.ask(type="tile", id=6, recording="a", zoom=99, index=0)["text"]
    assert echo.ready >= 1


def test_scripts_are_joined_in_order_and_a_missing_one_is_named(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "echo_b.js").write_text("b")
    (tmp_path / "echo_a.js").write_text("a")
    assert esm("echo") == "/* sound.js */\na\nb\n/* echo.js */"
    (tmp_path / "more.js").write_text("more")
    (tmp_path / "more.css").write_text("more")
    assert esm("echo", ("more",)) == "/* sound.js */\nmore\na\nb\n/* echo.js */"
    assert css("echo", ("more",)) == "/* theme.css */\nmore\n/* echo.css */"
    with pytest.raises(AudiotkError, match=r"other\.js: a file of audiotk is missing"):
        esm("other")


def test_the_scripts_of_the_labeler_are_one_module_that_fetches_nothing() -> None:
    text = esm("labeler")
    assert text.count("export default") == 1
    assert "import " not in [line[:7] for line in text.splitlines()]
    assert len(text.encode()) <= 120_000
    assert set(re.findall(r"\w+://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}  # a name, not an address


class Dot(Plain):
    def make_widget(self) -> AudioWidget:
        raise AssertionError("a widget was made")

    def picture(self) -> Figure:
        return Figure(figsize=(1, 1))


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_headless_is_a_switch(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool) -> None:
    monkeypatch.delenv("AUDIOTK_HEADLESS", raising=False)
    if value is not None:
        monkeypatch.setenv("AUDIOTK_HEADLESS", value)
    assert headless() is expected


def test_headless_shows_a_picture_and_makes_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    bundle = Dot()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"}
    assert bundle["image/png"].startswith(b"\x89PNG")
    with pytest.raises(AudiotkError, match="AUDIOTK_HEADLESS is set"):
        _ = Dot().widget
    monkeypatch.delenv("AUDIOTK_HEADLESS")
    assert Dot()._repr_png_() is None  # no second output beside the widget
    with pytest.raises(AssertionError, match="a widget was made"):
        Dot()._repr_mimebundle_()


def test_importing_widgets_loads_neither_torch_nor_ipywidgets() -> None:
    script = (
        "import sys, audiotk.widgets; assert 'ipywidgets' not in sys.modules; "
        "audiotk.widgets.SegmentLabeler; print('ipywidgets' in sys.modules, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.split() == ["True", "False"]
