"""Adjudication: what decisions leave, that they are kept, that names stay hidden; and the page in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from page_bridge import Screen, chromium, screens

from audiotk.doctor import find_chromium
from audiotk.errors import AudiotkError
from audiotk.store import Store, open_store
from audiotk.store.operations import make_operation
from audiotk.widgets import Adjudicator

EVIL = "<img src=x onerror=alert(1)>"
MARKS = (
    ("r0", "ann", 1.0, 2.0, "Dog"), ("r0", "ben", 1.05, 2.1, "Dog"),  # agreed
    ("r0", "ann", 3.0, 5.0, "Dog"), ("r0", "ben", 3.6, 4.2, "Dog"),  # other edges, 1.4 s
    ("r0", "ann", 6.0, 7.0, "Dog"), ("r0", "ben", 6.1, 7.0, EVIL),  # other class, 1 s
    ("r1", "ben", 2.0, 2.5, "Dog"),  # missed by ann, 0.5 s
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two recordings of 8 s, heard as a whole by ann and ben."""
    found = open_store(tmp_path / "labels.sqlite")
    time = np.arange(8 * 16000) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 900 * time * (1 - 0.02 * time)) * (time % 1 < 0.6)
    rows = []
    for name in ("r0", "r1"):
        path = tmp_path / f"{name}.wav"
        sf.write(path, wave.astype("float32"), 16000)
        rows.append({"recording": name, "path": str(path), "duration_s": 8.0, "sr": 16000, "group": name})
    found.register(pd.DataFrame(rows))
    mark(found, *MARKS)
    found.append(
        [make_operation("heard", who, name, ranges=[[0, 8]]) for who in ("ann", "ben") for name in ("r0", "r1")]
    )
    return found


def mark(store: Store, *rows: tuple[str, str, float, float, str]) -> None:
    store.append(
        [
            make_operation("segment", who, name, id=f"{who}{start}", start_s=start, end_s=end, class_name=class_name)
            for name, who, start, end, class_name in rows
        ]
    )


def adjudicator(store: Store, **options: Any) -> Adjudicator:
    given: dict[str, Any] = {"labeler": "carla", "rng": np.random.default_rng(0)}
    return Adjudicator(store, **given | options)


def spans(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in table[["recording", "start_s", "end_s", "class_name", "decision"]].to_numpy(object)]


# --- what decisions leave ---------------------------------------------------------------------------------------------


def test_cases_and_what_is_agreed(store: Store) -> None:
    found = adjudicator(store)
    assert found.cases["kind"].tolist() == ["boundary", "class", "missed"]
    assert found.cases["decision"].tolist() == ["", "", ""]
    assert spans(found.ranges()) == [("r0", 1.025, 2.05, "Dog", "agreed")]
    assert found.heard()[["start_s", "end_s"]].to_numpy().tolist() == [[0, 3], [5, 6], [7, 8], [0, 2], [2.5, 8]]
    assert repr(found) == "Adjudicator(ann and ben by 'carla': 0 of 3 cases decided)"
    assert adjudicator(store, order="recording").cases["recording"].tolist() == ["r0", "r0", "r1"]


def test_each_decision(store: Store) -> None:
    found = adjudicator(store)
    expected: dict[str, list[tuple[float, float, str]]] = {
        "ann": [(3.0, 5.0, "Dog")],
        "ben": [(3.6, 4.2, "Dog")],
        "both": [(3.3, 4.6, "Dog")],
        "neither": [],
        "unsure": [],
    }
    for choice, ranges in expected.items():
        found.decide(0, choice)
        left = spans(found.ranges())[1:]
        assert left == [("r0", *span, choice) for span in ranges]
        assert found.heard()["end_s"].tolist()[0] == (3.0 if choice == "unsure" else 6.0)
    found.decide(1, "both")  # of two classes both stay
    assert {row[3] for row in spans(found.ranges())[1:]} == {"Dog", EVIL}
    found.decide(2, "ann")  # who marked nothing is right if there is nothing
    assert len(found.ranges()) == 3
    with pytest.raises(AudiotkError, match="nothing to merge"):
        found.decide(2, "both")
    with pytest.raises(AudiotkError, match="eve"):
        found.decide(2, "eve")
    with pytest.raises(AudiotkError, match="0 to 2"):
        found.decide(3, "ann")


def test_decisions_are_in_the_store_and_found_again(store: Store) -> None:
    found = adjudicator(store)
    found.decide(0, "ben")
    found.decide(0, "both")
    found.decide(1, "unsure")
    rows = store.judgements("carla")
    assert rows["value"].fillna(-1).tolist() == [1.0, -1.0]
    assert json.loads(rows["reason"][0].removeprefix("adjudication "))["ranges"] == [[3.3, 4.6, "Dog"]]
    again = adjudicator(store, rng=np.random.default_rng(99))
    assert again.cases["decision"].tolist() == ["both", "unsure", ""]
    pd.testing.assert_frame_equal(again.ranges(), found.ranges())
    assert adjudicator(store, labeler="dora").cases["decision"].tolist() == ["", "", ""]
    mark(store, ("r0", "ann", 4.5, 5.5, "Dog"))  # carla has not judged that
    assert adjudicator(store).cases["decision"].tolist() == ["", "unsure", ""]


def test_who_may_judge_whom(store: Store) -> None:
    mark(store, ("r0", "carla", 1, 2, "Dog"))
    assert adjudicator(store).labelers == ["ann", "ben"]
    for options, said in (
        ({"labeler": " "}, "labeler"),
        ({"labelers": ["ann", "carla"]}, "to be judged"),
        ({"labelers": ["ann"]}, "at least two"),
        ({"rng": None}, "rng"),
        ({"order": "odd"}, "order"),
        ({"settings": {"colour": 1}}, "colour"),
    ):
        with pytest.raises(AudiotkError, match=said):
            adjudicator(store, **options)
    with pytest.raises(AudiotkError):
        Adjudicator("nowhere.sqlite", labeler="carla", blind=False)


# --- messages ---------------------------------------------------------------------------------------------------------


def ask(found: Adjudicator, **message: Any) -> dict[str, Any]:
    widget = found.make_widget()
    told: list[Any] = []
    widget.send = lambda content, buffers=None: told.append(content)
    widget.receive(message)
    widget.drain()
    assert len(told) == 1
    return dict(told[0])


def test_names_are_hidden_and_lanes_are_drawn_for_each_recording(store: Store) -> None:
    found = adjudicator(store)
    told = ask(found, type="hello")
    assert "ann" not in json.dumps(told)
    assert "ben" not in json.dumps(told)
    assert told["recordings"]["r0"]["names"] == ["A", "B"]
    row = told["rows"][0]
    first = found.lanes("r0")[0]
    assert row["lanes"][0] == ((3.0, 5.0, "Dog"),) if first == "ann" else ((3.6, 4.2, "Dog"),)
    orders = {tuple(adjudicator(store).lanes(f"r{k}")) for k in range(20)}
    assert orders == {("ann", "ben"), ("ben", "ann")}
    assert adjudicator(store).lanes("r7") == adjudicator(store).lanes("r7")
    named = ask(adjudicator(store, blind=False, rng=None), type="hello")
    assert named["recordings"]["r0"]["names"] == ["ann", "ben"]


def test_an_answer_from_the_page_and_its_undo(store: Store) -> None:
    found = adjudicator(store)
    key = ask(found, type="hello")["rows"][0]["case"]
    op = {"uuid": "u1", "kind": "judgement", "case": key, "choice": "2"}
    ack = ask(found, type="op", op=op)
    assert (ack["type"], ack["choice"]) == ("ack", "2")
    assert found.cases["decision"][0] == found.lanes("r0")[1]
    assert ask(found, type="op", op=op)["type"] == "ack"  # sent twice, stored once
    assert len(store.operations(labeler="carla")) == 1
    again = adjudicator(store)
    assert ask(again, type="hello")["undoable"] == [{"uuid": "u1", "case": key, "before": ""}]
    undo = {"uuid": "u2", "kind": "undo", "case": key, "target": "u1"}
    assert ask(again, type="op", op=undo)["choice"] == ""
    assert ask(again, type="op", op=undo)["undoable"] == []
    assert adjudicator(store).cases["decision"].tolist() == ["", "", ""]


def test_an_answer_for_other_lanes_is_refused(store: Store) -> None:
    """A page that was open before the lanes were drawn anew must not turn A into B."""
    found = adjudicator(store)
    key = ask(found, type="hello")["rows"][0]["case"]
    others = (adjudicator(store, rng=np.random.default_rng(seed)) for seed in range(1, 50))
    other = next(each for each in others if each.lanes("r0") != found.lanes("r0"))
    nack = ask(other, type="op", op={"uuid": "u1", "kind": "judgement", "case": key, "choice": "1"})
    assert (nack["type"], nack["retry"]) == ("nack", False)
    for bad in ({"choice": "3"}, {"choice": "ann"}, {"choice": None}, {"uuid": ""}, {"case": 3}):
        good = {"uuid": "u3", "kind": "judgement", "case": key, "choice": "1"}
        assert ask(found, type="op", op=good | bad)["type"] == "nack"
    assert store.operations(labeler="carla").empty


def test_a_lane_of_one_who_has_not_heard(store: Store) -> None:
    store.append([make_operation("heard", "eve", "r1", ranges=[[0, 8]])])
    found = adjudicator(store, blind=False, rng=None)
    rows = {row["recording"]: row["lanes"] for row in ask(found, type="hello")["rows"]}
    assert rows["r0"][2] is None
    assert rows["r1"] == [(), ((2.0, 2.5, "Dog"),), ()]
    with pytest.raises(AudiotkError, match="heard"):
        found.decide(0, "eve")


def test_headless_it_is_a_picture(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = adjudicator(store)
    found.decide(0, "ann")
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    assert found._repr_mimebundle_()["image/png"].startswith(b"\x89PNG")
    assert found.picture().get_suptitle() == "r0: 2 of 3 cases, 1 decided"
    (tmp_path / "r0.wav").unlink()
    assert len(found.picture().axes) == 2  # lanes without sound
    assert found.picture().axes[0].get_yticklabels()[0].get_text() == "A"
    agreed = adjudicator(store, classes=["Cat"])
    assert "nothing to decide" in agreed.picture().texts[0].get_text()


# --- the page ---------------------------------------------------------------------------------------------------------

browser = pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)")


@pytest.fixture
def open_screen() -> Iterator[Callable[..., Screen]]:
    """Opens adjudications in a page each, with the keyboard on them."""
    pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")
    with chromium() as found, screens(found) as make:

        def open_one(adjudicator: Adjudicator, **options: Any) -> Screen:
            screen = make(adjudicator.make_widget(), **options)
            screen.root.focus()
            return screen

        yield open_one


@browser
@pytest.mark.browser
def test_every_key(store: Store, open_screen: Callable[..., Screen]) -> None:
    found = adjudicator(store, blind=False, rng=None)
    screen = open_screen(found)
    screen.expect(at="0", decided="0", ready="true")
    lanes = screen.page.locator("ol[aria-label='What each labeler says'] li")
    assert lanes.all_inner_texts() == ["ann: Dog 3.000-5.000", "ben: Dog 3.600-4.200"]
    screen.press("2", "b")  # decides and moves on
    screen.expect(at="2", decided="2")
    screen.press("b")
    assert "nothing to merge" in screen.page.locator(".atk-status").inner_text()
    screen.press("9")
    assert "only 2 lanes" in screen.page.locator(".atk-status").inner_text()
    screen.press("u")
    screen.expect(decided="3", saved="saved")
    assert found.cases["decision"].tolist() == ["ben", "both", "unsure"]
    assert "Every case is decided" in screen.page.locator(".atk-status").inner_text()
    screen.press("k", "k", "n")
    screen.expect(choice="neither", at="0")
    screen.press("Control+z")
    screen.expect(choice="2", at="0", saved="saved")
    screen.press("Control+z", "Control+z", "Control+z", "Control+z")
    screen.expect(decided="0", saved="saved")
    assert found.cases["decision"].tolist() == ["", "", ""]
    assert "nothing to undo" in screen.page.locator(".atk-status").inner_text()
    screen.press("?", "1", "Escape")  # no decision behind the help
    screen.expect(decided="0")


@browser
@pytest.mark.browser
def test_it_plays_the_case_and_a_little_around_it(store: Store, open_screen: Callable[..., Screen]) -> None:
    screen = open_screen(adjudicator(store))
    screen.expect(ready="true")
    screen.press("Space")
    screen.expect(playing="true")
    screen.page.wait_for_function("document.querySelector('[data-testid=adjudicator]').dataset.time === '5.250'")
    screen.expect(playing="false")
    assert {message["recording"] for message in screen.messages if message["type"] == "audio"} >= {"r0"}


@browser
@pytest.mark.browser
def test_decisions_outlive_a_dead_kernel_and_a_reload(store: Store, open_screen: Callable[..., Screen]) -> None:
    found = adjudicator(store)
    screen = open_screen(found)
    screen.expect(decided="0")
    screen.page.evaluate("window.down = true")
    screen.press("1", "n")
    screen.expect(decided="2", saved="saving")
    assert store.operations(labeler="carla").empty
    screen.open()
    screen.root.focus()
    screen.expect(decided="2", saved="saved", at="2")
    assert found.cases["decision"].tolist() == [found.lanes("r0")[0], "neither", ""]
    screen.press("Control+z")
    screen.expect(decided="1", at="1", saved="saved")


@browser
@pytest.mark.browser
def test_filters_mouse_and_hostile_names(store: Store, open_screen: Callable[..., Screen]) -> None:
    found = adjudicator(store)
    screen = open_screen(found, width=420)
    screen.expect(decided="0")
    listed = screen.page.locator("li[role=option]")
    assert listed.count() == 3
    screen.page.get_by_label("Class").select_option(EVIL)
    screen.expect(at="1")
    assert listed.count() == 1
    assert screen.page.locator("h3").inner_text() == f"{EVIL} / Dog"
    screen.page.get_by_role("button", name="Both").click()
    screen.expect(choice="both", saved="saved")
    screen.page.get_by_label("Class").select_option("")
    screen.page.get_by_label("Kind").select_option("missed")
    screen.expect(at="2")
    assert screen.page.locator("[data-choice=both]").is_disabled()
    assert screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screen.page.evaluate("window.close_widget()")
    assert screen.root.count() == 0


@browser
@pytest.mark.browser
def test_without_a_case_and_without_sound(store: Store, open_screen: Callable[..., Screen], tmp_path: Path) -> None:
    empty = open_screen(adjudicator(store, classes=["Cat"]), ready=None)
    empty.page.get_by_text("there is nothing to decide").wait_for()
    (tmp_path / "r0.wav").write_bytes(b"no sound at all")
    screen = open_screen(adjudicator(store, labeler="dora"))
    screen.expect(ready="true")
    screen.page.get_by_text("No sound").wait_for()
    screen.press("1")
    screen.expect(decided="1", saved="saved")


@browser
@pytest.mark.browser
def test_a_refused_decision_is_shown_until_it_is_dismissed(store: Store, open_screen: Callable[..., Screen]) -> None:
    found = adjudicator(store)
    screen = open_screen(found)
    key = screen.root.get_attribute("data-case")
    name = found._keys.pop(key)
    screen.press("1")
    screen.page.locator(".atk-status", has_text="Not saved: this case is not there any more").wait_for()
    screen.expect(saved="unsaved", decided="0")
    found._keys[key] = name
    screen.page.get_by_role("button", name="Try again").click()
    screen.expect(saved="saved", decided="1")
    assert found.cases["decision"].tolist() == [found.lanes("r0")[0], "", ""]
    del found._keys[key]
    screen.press("k", "n")
    screen.expect(saved="unsaved", decided="1")
    screen.page.get_by_role("button", name="Dismiss").click()
    assert f"judgement of {key}?" in screen.page.get_by_role("alertdialog").inner_text()
    screen.page.get_by_role("button", name="Throw away").click()
    screen.expect(saved="saved", decided="1")
    assert screen.page.locator(".atk-link:visible").count() == 0
