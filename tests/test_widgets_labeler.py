"""The Python side of the labeler: the protocol with the browser mocked, the store real."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import sqlalchemy as sa

from audiotk.errors import AudiotkError
from audiotk.search import by_recording
from audiotk.store import Store, StoreUnavailable, open_store
from audiotk.tables import make_segments
from audiotk.widgets import SegmentLabeler, base, desk, media
from audiotk.widgets.entrance import RESERVED, Entrance
from audiotk.widgets.labeler import LabelerWidget

SR = 8000
CLASSES = ["dog", "cat", "<b>bird</b>"]
HOSTILE = '<img src=x onerror="alert(1)">'


class Browser:
    """What a browser is to the kernel: sends messages, keeps the answers."""

    def __init__(self, labeler: SegmentLabeler) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.widget = labeler.make_widget()
        assert isinstance(self.widget, LabelerWidget)
        self.widget.send = self.hear  # type: ignore[method-assign]
        self.number = 0

    def hear(self, content: Any, buffers: Sequence[bytes] | None = None) -> None:
        self.sent.append((json.loads(json.dumps(content, allow_nan=False)), list(buffers or [])))

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        """The answer to a message; `buffers` are those of the answer."""
        self.number += 1
        self.widget._handle_custom_msg({"type": type, "id": self.number, **fields}, [])
        self.widget.drain()
        answers = [(content, buffers) for content, buffers in self.sent if content.get("id") == self.number]
        assert len(answers) == 1, self.sent
        self.buffers = answers[0][1]
        return answers[0][0]

    def do(self, kind: str, recording: str = "r0", **payload: Any) -> dict[str, Any]:
        """The answer to an operation."""
        return self.ask("op", op=operation(kind, recording, **payload))

    def told(self, type: str) -> list[dict[str, Any]]:
        """What came unasked, oldest first."""
        return [content for content, _ in self.sent if content["type"] == type and "id" not in content]


def operation(kind: str, recording: str = "r0", seen_teacher: bool = False, **payload: Any) -> dict[str, Any]:
    head = {"uuid": str(uuid.uuid4()), "kind": kind, "recording": recording, "seen_teacher": seen_teacher}
    return {**head, "payload": payload, "at_client": "2026-01-01T00:00:00Z"}


def segment(start_s: float = 0.5, end_s: float = 1.0, class_name: str = "dog", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "start_s": start_s, "end_s": end_s, "class_name": class_name, **more}


@pytest.fixture
def recordings(tmp_path: Path) -> pd.DataFrame:
    rows = []
    for number in range(4):
        path = tmp_path / f"r{number}.wav"
        wave = 0.3 * np.sin(np.arange(2 * SR) / (3 + number))
        wave[: SR // 2] *= 0.001
        sf.write(path, wave, SR)
        rows.append((f"r{number}", str(path), 2.0, SR, f"g{number}"))
    return pd.DataFrame(rows, columns=["recording", "path", "duration_s", "sr", "group"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "labels.sqlite")


@pytest.fixture
def make(recordings: pd.DataFrame, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Browser]:
    monkeypatch.setattr(base, "esm", lambda name, shared: "")
    monkeypatch.setattr(base, "css", lambda name, shared: "")
    monkeypatch.delenv("AUDIOTK_HEADLESS", raising=False)

    def build(**more: Any) -> Browser:
        chosen: dict[str, Any] = {"recordings": recordings, "classes": CLASSES, "store": store, "labeler": "ann"}
        return Browser(SegmentLabeler(**(chosen | more)))

    return build


def test_what_a_search_found_comes_first(recordings: pd.DataFrame, store: Store) -> None:
    found = pd.DataFrame({"recording": ["r2", "r0", "r2"], "similarity": [0.3, 0.5, 0.9]})
    labeler = SegmentLabeler(recordings, ["dog"], store, labeler="ada", order="worth", worth=by_recording(found))
    assert [place.recording for place in labeler.desk.queue.places[:2]] == ["r2", "r0"]
    with pytest.raises(AudiotkError, match="'worth' needs worth"):
        SegmentLabeler(recordings, ["dog"], store, labeler="ada", order="worth")


def scores(names: Sequence[str] = ("r0", "r1", "r2", "r3")) -> pd.DataFrame:
    windows = make_segments(
        np.repeat(list(names), 4), np.tile(np.arange(4) / 2, len(names)), np.tile(np.arange(4) / 2 + 0.5, len(names))
    )
    values = np.tile([0.1, 0.2, 0.8, 0.9], len(names))
    return pd.DataFrame({"cat": values, "dog": values[::-1]}, index=windows["segment"])


# --- items ------------------------------------------------------------------------------------------------------------


def test_hello_brings_the_first_recording_and_the_next_ahead(make: Callable[..., Browser]) -> None:
    browser = make(claims={"r0": "dog", "r1": "cat"})
    item = browser.ask("hello")
    expected = {
        "type": "item",
        "recording": "r0",
        "position": 0,
        "title": "r0",
        "duration_s": 2.0,
        "sr": SR,
        "claim": "dog",
    }
    assert expected.items() <= item.items()
    empty = {"segments": [], "heard": [], "claims": {}, "notes": [], "undoable": [], "redoable": []}
    assert (empty | {"teacher": None, "problem": None}).items() <= item.items()
    assert len(item["mel_hz"]) == 96
    assert item["mel_hz"] == sorted(item["mel_hz"])
    (ahead,) = browser.told("item")
    assert (ahead["prefetch"], ahead["recording"], ahead["claim"]) == (True, "r1", "cat")
    widget = browser.widget
    assert widget.queue == {
        "position": 0, "total": 4, "done": 0, "order": "given", "filtered": False, "claims": {"done": 0, "total": 4}
    }  # fmt: skip
    assert [row["name"] for row in widget.classes] == CLASSES
    assert [row["key"] for row in widget.classes] == ["1", "2", "3"]
    assert (widget.labeler, widget.settings["blind"], widget.settings["claims"]) == ("ann", False, True)
    assert widget.store_id


def test_steps_and_filters_move_through_the_queue(make: Callable[..., Browser]) -> None:
    browser = make()
    assert browser.ask("step", by=1)["recording"] == "r1"
    assert browser.widget.queue["position"] == 1
    assert browser.ask("open", position=3)["recording"] == "r3"
    assert "last recording" in browser.ask("step", by=1)["text"]
    assert browser.ask("open", position=9)["type"] == "error"
    assert browser.ask("filter", text="r2", status="")["recording"] == "r2"
    assert browser.widget.queue["filtered"]
    assert browser.ask("filter", text="nothing", status="")["type"] == "error"
    assert browser.ask("filter", text="", status="confirmed")["type"] == "error"
    found = browser.ask("list", text="r", status="open", page=0)
    assert found["total"] == 4
    assert found["rows"][2] == {
        "position": 2, "recording": "r2", "title": "r2", "status": "open", "claim": None, "problem": None,
        "n_segments": 0,
    }  # fmt: skip
    assert browser.ask("list", text="r", status="open", page=1)["rows"] == []


@pytest.mark.parametrize(
    "message",
    [{"type": "open"}, {"type": "step", "by": "1"}, {"type": "filter", "text": 3, "status": ""}, {"type": "op"},
     {"type": "op", "op": "x"}, {"type": "peaks", "recording": "r0"}, {"type": "snap", "recording": "r0", "at_s": 1},
     {"type": "snap", "recording": "r0", "at_s": 1, "edge": "middle"}, {"type": "list", "text": "", "status": ""}],
)  # fmt: skip
def test_malformed_messages_are_answered_in_words(make: Callable[..., Browser], message: dict[str, Any]) -> None:
    told = make().ask(**message)
    assert told["type"] == "error"
    assert "expected" in told["text"]
    assert "fault of audiotk" not in told["text"]


# --- operations -------------------------------------------------------------------------------------------------------


def test_an_operation_is_acknowledged_after_the_store_has_it(make: Callable[..., Browser], store: Store) -> None:
    browser = make()
    op = operation("segment", **segment(note="low"))
    ack = browser.ask("op", op=op)
    assert (ack["type"], ack["uuid"], ack["undoable"], ack["redoable"]) == ("ack", op["uuid"], [op["uuid"]], [])
    assert ack["progress"] == {"done": 1, "total": 4}
    (row,) = store.segments(labeler="ann").to_dict("records")
    assert (row["recording"], row["start_s"], row["class_name"], row["note"]) == ("r0", 0.5, "dog", "low")
    assert store.operations().iloc[-1]["seq"] == ack["seq"]
    again = browser.ask("op", op=op)  # the answer was lost, so the browser sends it again
    assert (again["type"], again["seq"]) == ("ack", ack["seq"])
    assert len(store.segments()) == 1
    other = browser.ask("op", op=op | {"payload": segment()})
    assert (other["type"], other["retry"]) == ("nack", False)


def test_every_kind_of_operation_shows_in_the_state(make: Callable[..., Browser], store: Store) -> None:
    browser = make(claims={"r0": "dog"})
    one, two = segment(), segment(0.7, 1.4, "cat")
    for kind, payload in (
        ("segment", one), ("segment", two), ("segment", one | {"end_s": 1.1}), ("delete", {"id": two["id"]}),
        ("claim", {"class_name": "dog", "verdict": "confirmed"}), ("heard", {"ranges": [[0, 1], [0.5, 2]]}),
        ("note", {"text": HOSTILE}),
    ):  # fmt: skip
        assert browser.do(kind, **payload)["type"] == "ack"
    item = browser.ask("open", position=0)
    (left,) = item["segments"]
    assert left == one | {"end_s": 1.1, "note": "", "labeler": "ann", "seen_teacher": False}
    assert (item["claims"], item["heard"], item["notes"]) == ({"dog": "confirmed"}, [[0, 2]], [HOSTILE])
    assert len(item["undoable"]) == 6  # what was heard stays heard
    assert browser.widget.queue["claims"] == {"done": 1, "total": 4}
    assert browser.ask("list", text="", status="confirmed", page=0)["rows"][0]["n_segments"] == 1


def test_a_recording_with_very_many_segments_still_fits_into_a_message(
    make: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_SEGMENTS", 3)
    browser = make()
    for start in (0.9, 0.1, 0.5, 0.3):
        browser.do("segment", **segment(start, start + 0.05))
    item = browser.ask("open", position=0)
    assert [row["start_s"] for row in item["segments"]] == [0.1, 0.3, 0.5]
    assert item["problem"] == "only the first 3 of 4 segments are shown here; all are in the store"
    assert len(item["undoable"]) == 3
    assert browser.ask("list", text="", status="", page=0)["rows"][0]["n_segments"] == 4


def test_undo_and_redo_send_the_state(make: Callable[..., Browser]) -> None:
    browser = make()
    made = browser.do("segment", **segment())
    undone = browser.do("undo", target=made["undoable"][-1])
    assert (undone["undoable"], len(undone["redoable"])) == ([], 1)
    assert browser.told("state")[-1]["segments"] == []
    assert undone["progress"]["done"] == 0
    redone = browser.do("undo", target=undone["redoable"][-1])
    assert len(browser.told("state")[-1]["segments"]) == 1
    assert (redone["undoable"], redone["redoable"]) == (made["undoable"], [])
    assert browser.do("undo", target=str(uuid.uuid4()))["type"] == "nack"


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("segment", segment(-0.1, 1), "0 <= start_s < end_s"),
        ("segment", segment(1, 1), "0 <= start_s < end_s"),
        ("segment", segment(1.5, 0.5), "0 <= start_s < end_s"),
        ("segment", segment(1.5, 2.01), "outside of recording"),
        ("segment", segment(5, 6), "outside of recording"),
        ("segment", segment(class_name="cow"), "'cow' is not in the list of classes"),
        ("segment", segment() | {"start_s": "0"}, "finite number"),
        ("segment", segment() | {"colour": "red"}, "expected a payload of"),
        ("segment", {"id": "x"}, "missing"),
        ("claim", {"class_name": "cow", "verdict": "confirmed"}, "not in the list of classes"),
        ("claim", {"class_name": "dog", "verdict": "maybe"}, "expected one of confirmed"),
        ("heard", {"ranges": [[0, 3]]}, "outside of recording"),
        ("heard", {"ranges": "all"}, "expected a list"),
        ("note", {"text": 3}, "expected text"),
        ("recording", {"path": "/etc/passwd", "duration_s": 9, "sr": 1, "group": ""}, "expected one of segment"),
        ("judgement", {}, "expected one of segment"),
        ("drop table", {}, "expected one of segment"),
    ],
)
def test_bad_operations_are_refused_and_change_nothing(
    make: Callable[..., Browser], store: Store, kind: str, payload: dict[str, Any], words: str
) -> None:
    browser = make()
    before = len(store.operations())
    told = browser.do(kind, **payload)
    assert (told["type"], told["retry"]) == ("nack", False)
    assert words in told["text"]
    assert len(store.operations()) == before
    assert browser.told("state")[-1]["segments"] == []  # so the browser drops what it drew


def test_what_another_notebook_left_unsent_is_not_refused_here(
    make: Callable[..., Browser], recordings: pd.DataFrame, store: Store
) -> None:
    """Two notebooks of one labeler and store share what the browser keeps; the second leaves it to the first."""
    op = operation("segment", "r3", **segment())
    elsewhere = make(recordings=recordings.iloc[:2])
    told = elsewhere.ask("op", op=op)
    assert (told["type"], told["uuid"], told["retry"], told["elsewhere"]) == ("nack", op["uuid"], True, True)
    assert "not in the queue" in told["text"]
    assert elsewhere.told("state") == []
    assert "elsewhere" not in elsewhere.do("segment", "r0", **segment(1, 0.5))
    assert make().ask("op", op=op)["type"] == "ack"
    assert store.segments()["recording"].tolist() == ["r3"]


@pytest.mark.parametrize(
    ("hours", "form", "believed"),
    [
        (-1, lambda at: at.isoformat().replace("+00:00", ".000Z"), True),  # as browsers write it
        (-1, lambda at: at.timestamp() * 1000, True),
        (-1, lambda at: at.astimezone(timezone(timedelta(hours=5))).isoformat(), True),
        (24, datetime.isoformat, False),
        (-40 * 24, datetime.isoformat, False),
        (-1, lambda at: at.replace(tzinfo=None).isoformat(), False),
        *[(-1, lambda at, told=told: told, False) for told in ("noon", None, 1e300, [], True)],
    ],
    ids=["iso", "ms", "zone", "ahead", "old", "naive", "word", "none", "huge", "list", "bool"],
)
def test_an_operation_is_of_when_it_was_done(
    make: Callable[..., Browser], store: Store, hours: float, form: Callable[[datetime], Any], believed: bool
) -> None:
    before = datetime.now(UTC)
    done = before.replace(microsecond=0) + timedelta(hours=hours)
    op = operation("note", text="x") | {"at_client": form(done)}
    assert make().ask("op", op=op)["type"] == "ack"
    at = store.operations().iloc[-1]["at"]
    if believed:
        assert at == done
    else:  # of now, where the browser's clock cannot be right
        assert before <= at <= datetime.now(UTC)
    assert make().ask("op", op=op)["type"] == "ack"  # sent again, in a new kernel


def test_operations_on_unknown_recordings_or_without_uuid_are_refused(make: Callable[..., Browser]) -> None:
    browser = make()
    assert (
        "expected its name" in browser.ask("op", op=operation("segment", **segment()) | {"recording": ["r0"]})["text"]
    )
    assert "uuid" in browser.ask("op", op=operation("segment", **segment()) | {"uuid": ""})["text"]
    assert browser.ask("op", op={"kind": "segment"})["type"] == "nack"
    assert browser.ask("op", op=operation("segment", **segment()) | {"payload": None})["type"] == "nack"


def test_an_end_a_rounding_behind_the_recording_is_put_on_it(make: Callable[..., Browser], store: Store) -> None:
    browser = make()
    assert browser.do("segment", **segment(1.0, 2.0005))["type"] == "ack"
    assert browser.do("heard", ranges=[[0, 1], [1.5, 2.0009]])["type"] == "ack"
    assert store.segments()["end_s"].max() == store.heard()["end_s"].max() == 2.0


@pytest.mark.parametrize(
    ("pragma", "undo", "words"),
    [
        ("max_page_count=1", "max_page_count=1000000", "the disk is full: free some space"),
        ("query_only=1", "query_only=0", "it is read-only: make the file and its folder writable"),
    ],
)
def test_a_store_that_cannot_write_keeps_the_browser_waiting(
    make: Callable[..., Browser], store: Store, pragma: str, undo: str, words: str
) -> None:
    browser, op = make(), operation("segment", **segment(note="x" * 5000))
    now = [pragma]
    sa.event.listen(store._engine, "checkout", lambda connection, *_: connection.execute(f"PRAGMA {now[0]}"))
    told = browser.ask("op", op=op)
    assert words in told.pop("text")
    assert told == {"type": "nack", "id": 1, "uuid": op["uuid"], "retry": True}
    assert browser.told("state") == []
    assert browser.widget.queue["done"] == 0
    now[0] = undo
    assert browser.ask("op", op=op)["type"] == "ack"
    assert len(store.segments()) == 1


def test_a_locked_store_is_told_before_the_browser_gives_up(
    make: Callable[..., Browser], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = re.search(r"patience = (\d+)", (base.STATIC / "sound.js").read_text("utf-8"))
    assert given_up is not None
    assert int(given_up[1]) > 1000 * base.STORE_S
    monkeypatch.setattr(desk, "STORE_S", 0.05)
    browser, op = make(), operation("segment", **segment())
    with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = browser.ask("op", op=op)
        assert (told["type"], told["retry"]) == ("nack", True)
        assert "another process keeps it locked" in told["text"]
        assert browser.ask("open", position=1)["type"] == "item"  # the rest goes on
        other.execute("ROLLBACK")
    assert browser.ask("op", op=op)["type"] == "ack"


def test_a_store_that_is_damaged_under_the_labeler_is_told_and_nothing_is_dropped(
    make: Callable[..., Browser], store: Store
) -> None:
    browser, op = make(), operation("segment", **segment())
    assert browser.do("note", text="before")["type"] == "ack"
    store.close()  # into one file, without a log
    path = Path(str(store.url.database))
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\x5a" * (len(whole) - 100))
    browser.widget.receive({"type": "op", "op": op})
    told = browser.told("nack")[0]
    assert told["retry"] is False  # the browser keeps it, and offers to try again
    assert "audiotk store check" in told["text"]
    store.close()
    path.write_bytes(whole)  # the backup
    assert browser.ask("op", op=op)["type"] == "ack"
    assert store.check().ok


def test_what_was_written_is_acknowledged_even_if_it_cannot_be_read_back(
    make: Callable[..., Browser], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = make()
    real = store.append

    def write_and_lose(operations: Any, patience_s: float) -> list[int]:
        numbers = real(operations)
        monkeypatch.setattr(store, "state", lambda *_: (_ for _ in ()).throw(StoreUnavailable("gone")))
        return numbers

    monkeypatch.setattr(store, "append", write_and_lose)
    op = operation("note", text="kept")
    told = browser.ask("op", op=op)
    assert (told["type"], told["uuid"]) == ("ack", op["uuid"])


def test_a_fault_in_the_store_is_told_and_not_swallowed(
    make: Callable[..., Browser], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = make()
    monkeypatch.setattr(store, "append", lambda *_: 1 / 0)
    told = browser.do("note", text="x")
    assert told["type"] == "error"
    assert "ZeroDivisionError" in told["text"]


def test_operations_from_many_threads_are_all_kept(make: Callable[..., Browser], store: Store) -> None:
    browser = make()
    ops = [operation("segment", f"r{number % 4}", **segment(class_name="cat")) for number in range(24)]

    def send(part: list[dict[str, Any]]) -> None:
        for number, op in enumerate(part):
            browser.widget._handle_custom_msg({"type": "op", "id": hash(op["uuid"]), "op": op}, [])
            browser.widget._handle_custom_msg({"type": "open", "position": number % 4}, [])

    threads = [threading.Thread(target=send, args=(ops[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    browser.widget.drain()
    assert [content for content, _ in browser.sent if content["type"] in ("error", "nack")] == []
    assert len([content for content, _ in browser.sent if content["type"] == "ack"]) == 24
    assert set(store.segments()["segment"]) == {op["payload"]["id"] for op in ops}


def test_two_labelers_do_not_see_each_other_unless_asked(make: Callable[..., Browser]) -> None:
    ann, ben = make(), make(labeler="ben")
    ann.do("segment", **segment())
    assert ben.ask("hello")["segments"] == []
    assert ben.ask("hello")["undoable"] == []
    both = make(labeler="ben", others=True).ask("hello")
    assert [row["labeler"] for row in both["segments"]] == ["ann"]
    assert both["undoable"] == []


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_new_kernel_goes_on_where_the_last_ended(
    make: Callable[..., Browser], recordings: pd.DataFrame, tmp_path: Path
) -> None:
    make(claims={"r0": "dog", "r1": "dog", "r2": "cat"}).do("claim", class_name="dog", verdict="not_found")
    anew = make(store=str(tmp_path / "labels.sqlite"), claims={"r0": "dog", "r1": "dog", "r2": "cat"})
    assert anew.ask("hello")["recording"] == "r1"
    assert anew.widget.queue["claims"] == {"done": 1, "total": 4}
    assert anew.ask("open", position=0)["claims"] == {"dog": "not_found"}


def test_without_claims_whatever_was_found_or_heard_in_full_is_done(make: Callable[..., Browser]) -> None:
    browser = make()
    browser.do("segment", "r0", **segment())
    browser.do("heard", "r1", ranges=[[0, 1.95]])
    browser.do("heard", "r2", ranges=[[0, 1.0]])
    browser.do("claim", "r3", class_name=None, verdict="unsure")
    statuses = ["confirmed", "not_found", "open", "unsure"]
    assert [row["status"] for row in browser.ask("list", text="", status="", page=0)["rows"]] == statuses
    assert [row["status"] for row in make().ask("list", text="", status="", page=0)["rows"]] == statuses


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_new_kernel_counts_as_the_old_one_did(make: Callable[..., Browser], claimed: bool, seed: int) -> None:
    """Statuses at the start (from counts) equal those kept up after each of many random operations."""
    claims = {"r0": "dog", "r1": "cat", "r2": "dog", "r3": "dog"} if claimed else None
    browser, rng = make(claims=claims), np.random.default_rng(seed)
    for _ in range(25):
        name = f"r{rng.integers(4)}"
        state = browser.widget.desk.state(name)
        choices: list[tuple[str, dict[str, Any]]] = [
            ("segment", segment(class_name=str(rng.choice(CLASSES)))),
            ("heard", {"ranges": [[0, float(rng.choice([1, 2]))]]}),
            ("claim", {"class_name": "dog", "verdict": str(rng.choice(["confirmed", "not_found", "unsure", "open"]))}),
            *[("delete", {"id": row["id"]}) for row in state.segments[:1]],
            *[("undo", {"target": target}) for target in [*state.undoable[-1:], *state.redoable[-1:]]],
        ]  # fmt: skip
        kind, payload = choices[rng.integers(len(choices))]
        assert browser.do(kind, name, **payload)["type"] == "ack"
    rows = [widget.ask("list", text="", status="", page=0)["rows"] for widget in (browser, make(claims=claims))]
    assert rows[0] == rows[1]


def test_labels_of_a_class_that_left_the_list_are_shown_and_kept(make: Callable[..., Browser], store: Store) -> None:
    old = segment(class_name="cat")
    make().do("segment", **old)
    browser = make(classes=["dog"])
    assert browser.ask("open", position=0)["segments"][0]["class_name"] == "cat"
    assert browser.do("segment", **segment(class_name="cat"))["type"] == "nack"  # no new ones
    assert browser.do("segment", **old | {"end_s": 1.5})["type"] == "ack"  # but their edges may be moved
    assert store.segments()["end_s"].tolist() == [1.5]
    assert browser.do("delete", id=old["id"])["type"] == "ack"


def test_hidden_repeats_are_labelled_unaware_and_kept_apart(make: Callable[..., Browser], store: Store) -> None:
    browser = make(repeats=0.5, rng=np.random.default_rng(0))
    rows = browser.ask("list", text="", status="", page=0)["rows"]
    assert len(rows) == 6
    (twice, *_) = [row["recording"] for row in rows if row["recording"].endswith("#2")]
    first = twice.removesuffix("#2")
    browser.do("segment", first, **segment())
    position = next(row["position"] for row in rows if row["recording"] == twice)
    item = browser.ask("open", position=position)
    assert (item["title"], item["segments"]) == (first, [])
    assert len(browser.ask("peaks", recording=twice, start_s=0, end_s=2, n=10)) > 3
    made = browser.do("segment", twice, **segment(0.1, 0.4))
    assert browser.do("undo", twice, target=made["undoable"][-1])["type"] == "ack"
    browser.do("segment", twice, **segment(0.2, 0.4))
    assert [row["labeler"] for row in browser.ask("open", position=position)["segments"]] == ["ann"]  # editable
    assert sorted(store.segments()["labeler"]) == ["ann", "ann (again)"]
    assert set(store.segments()["recording"]) == {first}
    again = make(repeats=0.5, rng=np.random.default_rng(0))
    assert again.widget.queue["claims"] == {"done": 2, "total": 6}


# --- teacher ----------------------------------------------------------------------------------------------------------


def test_blind_scores_come_with_the_first_commit(make: Callable[..., Browser], store: Store) -> None:
    browser = make(teacher=scores())
    assert browser.widget.settings["blind"]
    assert browser.ask("hello")["teacher"] is None
    assert browser.buffers == []
    browser.do("heard", ranges=[[0, 1]])
    assert browser.told("teacher") == []
    browser.do("segment", **segment())
    (told,) = browser.told("teacher")
    assert (told["recording"], told["classes"], told["hop_s"]) == ("r0", ["dog", "cat"], 0.5)
    browser.ask("op", op=operation("segment", seen_teacher=True, **segment()))
    assert len(browser.told("teacher")) == 1
    assert store.segments()["seen_teacher"].tolist() == [False, True]
    item = browser.ask("open", position=0)
    assert (item["teacher"]["rows"], item["teacher"]["columns"]) == (4, 2)
    values, times = (np.frombuffer(buffer, np.float32) for buffer in browser.buffers)
    np.testing.assert_allclose(values.reshape(4, 2)[:, 1], [0.1, 0.2, 0.8, 0.9])
    np.testing.assert_allclose(times.reshape(4, 2)[-1], [1.5, 2.0])
    assert browser.ask("open", position=1)["teacher"] is None
    assert make(teacher=scores()).ask("open", position=0)["teacher"] is not None  # in a new kernel, too


def test_open_scores_are_there_from_the_start_and_marked_as_seen(make: Callable[..., Browser], store: Store) -> None:
    browser = make(teacher=scores(["r0", "r1"]), blind=False)
    assert browser.ask("hello")["teacher"]["classes"] == ["dog", "cat"]
    browser.do("segment", **segment())
    assert store.segments()["seen_teacher"].tolist() == [True]
    assert browser.ask("open", position=2)["teacher"] is None  # not scored


def test_without_a_teacher_nothing_was_seen(make: Callable[..., Browser], store: Store) -> None:
    browser = make()
    browser.ask("hello")
    browser.do("segment", **segment())
    assert store.segments()["seen_teacher"].tolist() == [False]


@pytest.mark.parametrize("seen", [True, False])
def test_what_was_seen_is_of_the_time_of_the_act(make: Callable[..., Browser], store: Store, seen: bool) -> None:
    """Unsent when the kernel died, sent to one that shows the teacher only now, or no more."""
    op = operation("segment", seen_teacher=seen, **segment())
    op["at_client"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    after = make() if seen else make(teacher=scores(), blind=False)
    after.ask("hello")
    first = after.ask("op", op=op)
    assert first["type"] == "ack"
    assert store.segments()["seen_teacher"].tolist() == [seen]
    after.do("segment", **segment())
    assert store.segments()["seen_teacher"].tolist() == [seen, not seen]
    other = make(teacher=scores(), blind=False)
    other.ask("hello")
    again = other.ask("op", op=op | {"at_client": None, "seen_teacher": not seen})
    assert (again["type"], again["seq"]) == ("ack", first["seq"])
    assert store.segments()["seen_teacher"].tolist() == [seen, not seen]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("blind", [False, True])
def test_hidden_repeats_know_what_was_seen_at_the_first_showing(
    make: Callable[..., Browser], store: Store, blind: bool, restart: bool
) -> None:
    about = {"repeats": 1.0, "teacher": scores(["r0", "r1"]), "blind": blind}
    browser = make(**about, rng=np.random.default_rng(0))
    browser.ask("hello")
    browser.ask("op", op=operation("segment", "r0", seen_teacher=not blind, **segment()))
    browser.ask("op", op=operation("segment", "r2", **segment()))  # has no scores
    if restart:
        browser = make(**about, rng=np.random.default_rng(0))
    before = datetime.now(UTC) - timedelta(hours=1)
    browser.ask("op", op=operation("claim", "r0#2", class_name="dog", verdict="unsure") | {"at_client": str(before)})
    for name in ("r0#2", "r1#2", "r2#2"):
        browser.do("segment", name, **segment())
    again = store.segments(labeler="ann (again)").set_index("recording")["seen_teacher"]
    assert again.to_dict() == {"r0": True, "r1": False, "r2": False}
    assert store.claims(labeler="ann (again)")["seen_teacher"].tolist() == [False]
    position = next(i for i, place in enumerate(browser.widget.desk.queue.places) if place.key == "r3#2")
    assert browser.ask("open", position=position)["teacher"] is None  # not scored
    first = make(**about | {"teacher": scores()}, rng=np.random.default_rng(0))
    first.ask("op", op=operation("segment", "r3", **segment()))
    assert (first.ask("open", position=position)["teacher"] is None) is blind  # a repeat is as blind as the first


def test_edges_snap_to_sound_and_to_scores_that_may_be_seen(make: Callable[..., Browser]) -> None:
    browser = make(teacher=scores())
    ask = {"recording": "r0", "at_s": 0.6, "edge": "start", "class_name": "cat"}
    found = browser.ask("snap", **ask)
    assert found["evidence"] == "energy"
    assert found["to_s"] == pytest.approx(0.5, abs=0.02)
    ask["at_s"] = 1.02
    assert browser.ask("snap", **ask)["evidence"] == "none"  # the teacher is hidden
    browser.do("segment", **segment())
    found = browser.ask("snap", **ask)
    assert found["evidence"] == "teacher"
    assert found["to_s"] == pytest.approx(1.0, abs=1e-6)
    ask |= {"at_s": 1.9, "class_name": "<b>bird</b>"}
    assert browser.ask("snap", **ask) | {"id": 0} == {"type": "snap", "id": 0, "to_s": 1.9, "evidence": "none"}


def test_queue_orders_follow_the_teacher_and_other_labelers(make: Callable[..., Browser]) -> None:
    table = scores()
    table.loc[[name.startswith("r2") for name in table.index], "dog"] = 0.5
    browser = make(teacher=table, order="uncertain", claims=dict.fromkeys(["r0", "r1", "r2", "r3"], "dog"))
    assert browser.ask("hello")["recording"] == "r2"
    make(labeler="ben").do("claim", "r3", class_name="dog", verdict="not_found")
    make(labeler="cem").do("segment", "r3", **segment())
    assert make(order="disagreement").ask("hello")["recording"] == "r3"
    assert make(order="random", rng=np.random.default_rng(1)).widget.queue["order"] == "random"


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_files_in_trouble_give_a_problem_and_not_an_exception(
    make: Callable[..., Browser], recordings: pd.DataFrame
) -> None:
    paths = [Path(path) for path in recordings["path"]]
    paths[0].unlink()
    paths[1].write_bytes(b"RIFF not really")
    sf.write(paths[2], np.zeros(2 * SR), SR)
    sf.write(paths[3], np.ones(SR) * np.linspace(0, 0.5, SR), SR)
    browser = make()
    for position, words in enumerate(
        ["No such file", "r1.wav", "is silent", "lasts 1.000 s, the recordings table says 2.000"]
    ):
        item = browser.ask("open", position=position)
        assert item["type"] == "item"
        assert words in item["problem"]
        assert item["readable"] is (position >= 2)  # silence and a changed length are warnings over a picture
        assert item["duration_s"] == (1.0 if position == 3 else 2.0)  # the shorter: behind it is no sound
    assert browser.ask("list", text="", status="problem", page=0)["total"] == 4
    assert browser.do("note", "r0", text="gone")["type"] == "ack"  # labels go on
    sf.write(paths[0], 0.1 * np.sin(np.arange(2 * SR)), SR)
    assert browser.ask("open", position=0)["problem"] is None  # it is back
    assert browser.ask("list", text="", status="problem", page=0)["total"] == 3


def test_a_file_that_changes_under_the_cursor_is_told_and_opens_anew(
    make: Callable[..., Browser], recordings: pd.DataFrame
) -> None:
    browser = make()
    browser.ask("hello")
    path = Path(recordings["path"][0])
    sf.write(path, 0.1 * np.sin(np.arange(3 * SR)), SR)
    assert "changed on the disk" in browser.ask("audio", recording="r0", start_s=0, end_s=1)["text"]
    item = browser.ask("open", position=0)
    assert "lasts 3.000 s" in item["problem"]
    assert item["readable"]  # a warning over a picture that works
    assert browser.ask("audio", recording="r0", start_s=0, end_s=1)["sr"] == SR
    path.unlink()
    assert "No such file" in browser.ask("tile", recording="r0", zoom=0, index=0)["text"]


def test_a_table_that_says_a_little_more_than_the_file_has_plays_to_its_end(
    make: Callable[..., Browser], recordings: pd.DataFrame
) -> None:
    browser = make(recordings=recordings.assign(duration_s=2.005))
    item = browser.ask("hello")
    assert (item["duration_s"], item["problem"]) == (2.0, None)
    told = browser.ask("audio", recording="r0", start_s=2.0, end_s=2.005)
    assert (told["type"], told["end_s"]) == ("audio", 2.0)
    assert make(recordings=recordings.assign(duration_s=1.995)).ask("hello")["duration_s"] == 1.995


def test_sound_that_is_not_decoded_yet_holds_up_no_other_recording(
    make: Callable[..., Browser], recordings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests than threads wait for a slow Ogg; labels and other files go on, and at last theirs are answered."""
    gate, real = threading.Event(), media.read_frames
    monkeypatch.setattr(media, "WAIT_S", 0.01)
    monkeypatch.setattr(
        media, "read_frames",
        lambda handle, path, *range: (Path(path).suffix != ".ogg" or gate.wait(60)) and real(handle, path, *range),
    )  # fmt: skip
    sf.write(tmp_path / "slow.ogg", 0.1 * np.sin(np.arange(2 * SR)), SR)
    paths = [str(tmp_path / "slow.ogg"), *recordings["path"][1:]]
    browser = make(recordings=recordings.assign(path=paths))
    asked = {"recording": "r0", "start_s": 0, "end_s": 2}
    for number in range(100, 110):
        browser.widget._handle_custom_msg({"type": "audio", "id": number, **asked}, [])
    browser.widget._handle_custom_msg({"type": "tile", "id": 110, "recording": "r0", "zoom": 0, "index": 0}, [])
    browser.widget._handle_custom_msg({"type": "peaks", "id": 111, "n": 4000, **asked}, [])
    assert browser.ask("audio", recording="r1", start_s=0, end_s=2)["type"] == "audio"
    assert browser.do("note", text="x")["type"] == "ack"
    assert not [content for content, _ in browser.sent if content.get("id", 0) >= 100]
    sound = browser.widget.media({"recording": "r0"})
    gate.set()
    assert sound.wait(timeout_s=60)
    ended = threading.Event()
    sound.when_read(sound.frames, ended.set)
    assert ended.wait(60)
    for _ in range(600):  # the scanning thread hands the last ones over
        browser.widget.drain()
        late = {content["id"]: content["type"] for content, _ in browser.sent if content.get("id", 0) >= 100}
        if len(late) == 12:
            break
        threading.Event().wait(0.1)
    assert late == dict.fromkeys(range(100, 110), "audio") | {110: "tile", 111: "peaks"}


def test_silence_that_is_found_late_is_told(make: Callable[..., Browser], recordings: pd.DataFrame) -> None:
    sf.write(recordings["path"][0], np.zeros(2 * SR), SR)
    browser = make()
    browser.ask("hello")
    browser.widget.scanned(browser.widget.media({"recording": "r0"}))
    assert browser.told("problem")[-1]["recording"] == "r0"
    assert "is silent" in browser.told("problem")[-1]["text"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labeler": ""}, "expected the name of who labels"),
        ({"labeler": None}, "expected the name of who labels"),
        ({"labeler": "ann (again)"}, "must not end with"),
        ({"classes": []}, "expected at least one name"),
        ({"classes": ["dog", "dog"]}, "each once"),
        ({"classes": ["dog", ""]}, "expected at least one name"),
        ({"claims": {"r0": "cow"}}, "'cow' is not in the list of classes"),
        ({"claims": {"r9": "dog"}}, "first 'r9'"),
        ({"settings": {"colour": "red"}}, "expected any of theme"),
        ({"order": "random"}, "need rng"),
        ({"order": "disagreement"}, "needs a teacher or"),
        ({"teacher": pd.DataFrame({"cow": [1.0]}, index=["r0@0.000-1.000"])}, "no column is one of the classes"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_is_written(
    make: Callable[..., Browser], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(AudiotkError, match=words):
        make(**change)


def test_an_empty_table_is_refused(make: Callable[..., Browser], recordings: pd.DataFrame) -> None:
    with pytest.raises(AudiotkError, match="at least one to label"):
        make(recordings=recordings.iloc[:0])


# --- headless, and the notebook's side --------------------------------------------------------------------------------


def test_headless_it_is_a_picture_and_no_widget_model_exists(
    make: Callable[..., Browser], recordings: pd.DataFrame, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(claims={"r0": "dog"}).do("segment", **segment(class_name="<b>bird</b>"))
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    before = set(ipywidgets.widgets.widget._instances)
    labeler = SegmentLabeler(recordings, ["dog"], store, labeler="ann", claims={"r0": "dog"})
    bundle = labeler._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"].startswith("SegmentLabeler('ann': 0 of 4 recordings done, Store(")
    assert set(ipywidgets.widgets.widget._instances) == before
    axes = labeler.picture().axes
    assert [label.get_text() for label in axes[2].get_yticklabels()] == ["<b>bird</b>"]
    Path(recordings["path"][0]).unlink()
    assert "No such file" in labeler.picture().axes[0].texts[1].get_text()


def test_segments_and_progress_read_the_store(
    make: Callable[..., Browser], recordings: pd.DataFrame, store: Store
) -> None:
    labeler = SegmentLabeler(recordings, CLASSES, store, labeler="ann")
    assert labeler.segments.empty
    make().do("segment", **segment())  # elsewhere
    assert labeler.segments["class_name"].tolist() == ["dog"]
    assert labeler.progress() == {"done": 1, "total": 4}
    assert store.recordings()["recording"].tolist() == ["r0", "r1", "r2", "r3"]


def test_recordings_are_registered_once_and_claims_with_them(make: Callable[..., Browser], store: Store) -> None:
    make(claims=pd.Series({"r0": "dog", "r1": np.nan}))
    count = len(store.operations())
    make(claims={"r0": "dog"})
    make()
    assert len(store.operations()) == count == 4
    assert store.recordings().set_index("recording")["claim"]["r0"] == "dog"


@pytest.mark.parametrize("name", [*RESERVED, " Truth "])
def test_nobody_labels_under_a_name_of_the_replay(recordings: pd.DataFrame, store: Store, name: str) -> None:
    with pytest.raises(AudiotkError, match=f"{name.strip()!r} stands for simulated labelers or the known truth"):
        Entrance(recordings, CLASSES, store, (store, "example"), labeler=name)
    assert store.operations().empty
