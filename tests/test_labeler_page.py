"""The segment labeler's front end on a page in a real browser, with a stand-in for the kernel (labeler_page.js)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from audiotk.doctor import find_chromium
from audiotk.widgets.base import css, esm

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")

PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="/labeler.css"></head>
<body style="margin:0"><input id="other"><div id="place"></div></body></html>"""
START = """async (options) => {
  const { makeModel } = await import('/labeler_page.js');
  const { default: widget } = await import('/labeler.js');
  const { patch, ...rest } = options;
  window.model = makeModel(rest);
  Object.assign(window.model, patch ?? {});
  window.end = widget.render({ model: window.model, el: document.getElementById('place') });
}"""
ROOT = "[data-testid=labeler]"


def module_text() -> str:
    """The ESM as the browser gets it, with its functions exported for the tests."""
    names = "mergeRanges formatTime keyName assignLanes zoomView fitView viewWith axisTicks tilesFor peaksFor hitTest"
    names += (
        " matchClasses orderedRange moveEdge applyOperation patchOf applyPatch bandOf createCache tileSpan levelsOf"
    )
    return f"{esm('labeler')}\n\nexport {{ {', '.join(names.split())} }};"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A fresh profile that reaches nothing but the files under test; ends with the demand that nothing went wrong."""
    troubles: list[str] = []
    files = {
        "/": (PAGE, "text/html"),
        "/labeler.css": (css("labeler"), "text/css"),
        "/labeler.js": (module_text(), "text/javascript"),
        "/labeler_page.js": ((Path(__file__).parent / "labeler_page.js").read_text("utf-8"), "text/javascript"),
    }

    def serve(route: Any) -> None:
        name = route.request.url.removeprefix("http://localhost")
        if name in files:
            route.fulfill(body=files[name][0], content_type=files[name][1])
        else:
            troubles.append(f"asked for {route.request.url}")
            route.abort()

    opened = browser.new_context(viewport={"width": 1000, "height": 800})
    opened.route("**/*", serve)
    opened.on("weberror", lambda error: troubles.append(str(error.error)))
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
    yield opened
    opened.close()
    assert troubles == []


@pytest.fixture
def page(context: Any) -> Any:
    opened = context.new_page()
    opened.goto("http://localhost/")
    return opened


@pytest.fixture
def start(page: Any) -> Callable[..., Any]:
    """Show the labeler: ``start(settings=..., teacher=...)``; the options are those of makeModel."""

    def begin(**options: Any) -> Any:
        page.evaluate(START, options)
        page.wait_for_selector(f"{ROOT}[data-ready=true]")
        page.focus(ROOT)
        return page

    return begin


def press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def segments(page: Any) -> list[tuple[str, float, float]]:
    """Class, start and end of the segments in the mirror, after the next picture."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    rows = page.eval_on_selector_all(".atk-mirror li", "rows => rows.map((row) => ({ ...row.dataset }))")
    return [(row["class"], round(float(row["start"]), 3), round(float(row["end"]), 3)) for row in rows]


def wait_saved(page: Any, state: str = "saved") -> None:
    page.wait_for_selector(f"{ROOT}[data-saved={state}]")


def operations(page: Any, *kinds: str) -> list[dict[str, Any]]:
    """What the stand-in's store holds."""
    wait_saved(page)
    return [op for op in page.evaluate("model.operations") if not kinds or op["kind"] in kinds]


def status(page: Any) -> str:
    return page.inner_text(".atk-status")


def wait_time(page: Any, seconds: float) -> None:
    page.wait_for_function(f"Number(document.querySelector('{ROOT}').dataset.time) >= {seconds}")


def drag(page: Any, start_s: float, end_s: float, y: float, duration_s: float = 10.0) -> None:
    """Drag in the picture of a recording that is seen whole."""
    box = page.locator(".atk-overlay").bounding_box()
    left, width = box["x"] + 56, box["width"] - 64
    x = [left + width * (start_s + (end_s - start_s) * step / 8) / duration_s for step in range(9)]
    page.mouse.move(x[0], box["y"] + y)
    page.mouse.down()
    for place in x[1:]:
        page.mouse.move(place, box["y"] + y)
    page.mouse.up()


# --- labeling --------------------------------------------------------------------------------------------------------


def test_four_keys_label_a_segment_while_it_plays(start: Any) -> None:
    page = start()
    press(page, "Space")
    wait_time(page, 0.4)
    press(page, "s")
    wait_time(page, 0.8)
    press(page, "Enter Space 3")
    [(name, start_s, end_s)] = segments(page)
    assert name == "bird song"
    assert 0.4 <= start_s < end_s
    made, changed = operations(page, "segment")
    assert made["payload"]["class_name"] == "bark"  # the claim, until another class was chosen
    assert changed["payload"] == made["payload"] | {"class_name": "bird song"}
    assert made["recording"] == "a"
    [heard] = operations(page, "heard")[:1]
    assert heard["payload"]["ranges"][0][0] < 0.1
    assert heard["payload"]["ranges"][0][1] >= 0.8


def test_a_held_class_key_marks_while_it_sounds(start: Any) -> None:
    page = start()
    press(page, "Space")
    wait_time(page, 0.3)
    page.keyboard.down("2")
    down_s = float(page.get_attribute(ROOT, "data-time"))
    wait_time(page, down_s + 0.6)
    page.keyboard.up("2")
    [(name, start_s, end_s)] = segments(page)
    assert name == "rain"
    assert 0.3 <= start_s <= down_s + 0.1
    assert end_s >= down_s + 0.6


def test_dragging_makes_moves_and_resizes_in_one_operation_each(start: Any) -> None:
    page = start()
    drag(page, 2, 4, 200)
    [(name, start_s, end_s)] = segments(page)
    assert (name, start_s, end_s) == ("bark", pytest.approx(2, abs=0.01), pytest.approx(4, abs=0.01))
    drag(page, 3, 5, 32)  # the bar in its lane
    assert segments(page) == [("bark", pytest.approx(4, abs=0.02), pytest.approx(6, abs=0.02))]
    drag(page, 6, 7.5, 150)  # the right edge, which reaches through the picture
    assert segments(page) == [("bark", pytest.approx(4, abs=0.02), pytest.approx(7.5, abs=0.02))]
    drag(page, 4, 3, 150)
    assert segments(page) == [("bark", pytest.approx(3, abs=0.02), pytest.approx(7.5, abs=0.02))]
    assert len(operations(page, "segment")) == 4
    drag(page, 9, 9.02, 200)  # less than four pixels: a click, which moves the playhead
    assert len(segments(page)) == 1
    assert float(page.get_attribute(ROOT, "data-time")) == pytest.approx(9, abs=0.05)


def test_undo_and_redo_walk_through_everything(start: Any) -> None:
    page = start()
    drag(page, 1, 2, 200)
    press(page, "2 Delete")
    drag(page, 5, 6, 200)
    final = segments(page)
    assert [row[0] for row in final] == ["rain"]
    wait_saved(page)
    press(page, "u")
    assert segments(page) == []
    press(page, "Control+z")
    assert [row[:2] for row in segments(page)] == [("rain", pytest.approx(1, abs=0.01))]
    press(page, "u")
    assert [row[0] for row in segments(page)] == ["bark"]
    press(page, "u")
    assert segments(page) == []
    wait_saved(page)
    press(page, "Shift+U Shift+U Control+Shift+Z Control+y")
    assert segments(page) == final
    assert len(operations(page, "undo")) == 8
    assert page.evaluate("model.sent.filter(({ type }) => type === 'state').at(-1).segments.length") == 1
    press(page, "Shift+U")
    assert "Nothing to redo" in status(page)


def test_operations_of_an_earlier_session_can_be_undone(start: Any) -> None:
    payload = {"id": "s1", "start_s": 1, "end_s": 2, "class_name": "bark"}
    old = {"uuid": "u1", "kind": "segment", "recording": "a", "payload": payload, "seen_teacher": False}
    page = start(kept=[old])
    assert segments(page) == [("bark", 1, 2)]
    press(page, "u")
    page.wait_for_selector(".atk-mirror li", state="detached")  # the kernel's word is needed here
    press(page, "Shift+U")
    page.wait_for_selector(".atk-mirror li", state="attached")
    assert segments(page) == [("bark", 1, 2)]


def test_arrows_nudge_the_chosen_edge_and_settle_into_one_operation(start: Any, page: Any) -> None:
    page.clock.install(time=0)
    page.reload()
    start()
    drag(page, 2, 4, 200)
    [(_, start_s, end_s)] = segments(page)
    page.clock.pause_at(600_000)
    press(page, "ArrowRight ArrowRight Shift+ArrowLeft e Shift+ArrowRight ArrowLeft")
    page.clock.run_for(100)
    assert len(page.evaluate("model.operations")) == 1
    page.clock.resume()
    assert segments(page) == [("bark", pytest.approx(start_s + 0.09), pytest.approx(end_s - 0.08))]
    press(page, "Alt+ArrowRight Escape")
    assert segments(page) == [("bark", pytest.approx(start_s + 0.1), pytest.approx(end_s - 0.07))]
    assert len(operations(page, "segment")) == 2


def test_deleting_right_after_a_nudge_goes_on_to_the_next_one(start: Any) -> None:
    page = start()
    for at in (1, 3, 5):
        drag(page, at, at + 1, 200)
        press(page, "Escape")
    ids = [op["payload"]["id"] for op in operations(page, "segment")]
    press(page, "Home Tab Tab ArrowRight Delete")
    assert len(segments(page)) == 2
    assert page.get_attribute(ROOT, "data-selected") == ids[2]
    assert len(operations(page, "segment")) == 3  # what goes away is not moved first
    press(page, "ArrowRight Delete")
    segments(page)
    assert page.get_attribute(ROOT, "data-selected") == ids[0]


def test_typed_times_are_checked(start: Any) -> None:
    page = start()
    drag(page, 2, 4, 200)
    press(page, "e i")
    page.keyboard.type("1.5")
    press(page, "Enter")
    assert segments(page) == [("bark", 1.5, pytest.approx(4, abs=0.01))]
    length = page.locator("input[data-field=length_s]")
    length.fill("2")
    length.press("Enter")
    assert segments(page) == [("bark", 1.5, 3.5)]
    for field, wrong in (("start_s", "3.6"), ("end_s", "10.5"), ("length_s", ""), ("length_s", "-1")):
        page.fill(f"input[data-field={field}]", wrong)
        page.locator(f"input[data-field={field}]").press("Enter")
        assert "lies inside" in status(page)
        assert segments(page) == [("bark", 1.5, 3.5)]
    assert page.input_value("input[data-field=length_s]") == "2.000"
    assert page.evaluate("document.activeElement.dataset.testid") == "labeler"


def test_classes_by_key_palette_and_click(start: Any) -> None:
    page = start()
    drag(page, 2, 4, 200)
    press(page, "Enter")
    page.keyboard.type("cp")  # letters in order
    page.wait_for_selector("[data-panel=palette] li:only-child")
    chosen = page.get_attribute("[data-panel=palette] input", "aria-activedescendant")
    assert page.inner_text(f"#{chosen}").startswith("car passing")
    press(page, "Enter")
    assert segments(page)[0][0] == "car passing"
    press(page, "/ ArrowDown Enter")
    assert segments(page)[0][0] == "rain"
    page.click("button[data-class=voice]")
    assert segments(page)[0][0] == "voice"
    press(page, "/ Escape Escape 2")  # nothing selected: the class of what comes next
    drag(page, 6, 7, 200)
    assert [row[0] for row in segments(page)] == ["voice", "rain"]


def test_snapping_asks_the_kernel_for_both_edges(start: Any) -> None:
    page = start()
    drag(page, 2, 4, 200)
    [(_, start_s, end_s)] = segments(page)
    press(page, "t")
    page.wait_for_function("document.querySelector('.atk-status').textContent.includes('Snapped')")
    assert segments(page) == [("bark", pytest.approx(start_s - 0.03), pytest.approx(end_s + 0.04))]
    assert len(operations(page, "segment")) == 2
    press(page, "u")
    assert segments(page) == [("bark", start_s, end_s)]


def test_overlaps_keep_apart_and_tab_walks_over_them(start: Any) -> None:
    page = start()
    drag(page, 2, 6, 200)
    press(page, "Escape 2")
    drag(page, 3, 5, 230)
    press(page, "Escape Home")
    picked = []
    for _ in range(3):
        press(page, "Tab")
        segments(page)
        picked.append(page.get_attribute(ROOT, "data-selected"))
    assert picked[0] == picked[2] != picked[1]
    press(page, "Shift+Tab")
    segments(page)
    assert page.get_attribute(ROOT, "data-selected") == picked[1]
    press(page, "Escape Escape Tab")  # lets go of the keyboard
    assert page.evaluate("document.activeElement.dataset.testid") is None


def test_other_labelers_segments_are_seen_and_left_alone(start: Any) -> None:
    others = [{"id": "x", "start_s": 1, "end_s": 2, "class_name": "bark", "labeler": "ben", "seen_teacher": False}]
    page = start()
    fields = {"claims": {}, "heard": [], "notes": [], "undoable": [], "redoable": []}
    page.evaluate("(m) => model.say(m)", {"type": "state", "recording": "a", "segments": others, **fields})
    assert segments(page) == [("bark", 1, 2)]
    press(page, "Tab Delete")
    assert "ben's" in status(page)
    assert operations(page) == []


# --- listening -------------------------------------------------------------------------------------------------------

WATCH = """() => {
  window.started = [];
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (...when) {
    const { loop, loopStart, loopEnd, buffer } = this;
    window.started.push({ loop, loopStart, loopEnd, samples: buffer.length, sr: buffer.sampleRate, when });
    return start.apply(this, when);
  };
}"""


def test_a_loop_is_cut_to_the_sample_and_stays_inside(start: Any) -> None:
    page = start()
    page.evaluate(WATCH)
    drag(page, 2, 2.4, 200)
    [(_, start_s, end_s)] = segments(page)
    payload = operations(page, "segment")[0]["payload"]
    press(page, "l")
    page.wait_for_selector(f"{ROOT}[data-playing=true]")
    seen = []
    for _ in range(12):
        page.wait_for_timeout(60)
        seen.append(float(page.get_attribute(ROOT, "data-time")))
    assert start_s - 0.001 <= min(seen) < max(seen) <= end_s + 0.001
    assert any(later < earlier for earlier, later in pairwise(seen))  # it went round
    [source] = page.evaluate("started")
    wanted = round(payload["end_s"] * 16000) - round(payload["start_s"] * 16000)
    assert (source["loop"], source["samples"], source["sr"]) == (True, wanted, 16000)
    assert (source["loopStart"], source["loopEnd"]) == (0, pytest.approx(wanted / 16000))
    press(page, "l")
    page.wait_for_selector(f"{ROOT}[data-playing=false]")
    [[low, high]] = operations(page, "heard")[0]["payload"]["ranges"]
    assert (low, high) == (pytest.approx(start_s, abs=0.002), pytest.approx(end_s, abs=0.002))


def test_long_playing_is_chunks_without_a_gap(start: Any) -> None:
    page = start()
    page.evaluate(WATCH)
    page.evaluate("model.emit('msg:custom', {type: 'none'}, [])")
    page.evaluate("model.send({type: 'open', position: 3}), 0")
    page.wait_for_selector(f"{ROOT}[data-recording=d][data-ready=true]")
    press(page, "Shift+ArrowRight Shift+ArrowRight ArrowRight ArrowRight ArrowRight")  # tenths and hundredths of 20 s
    press(page, "] ] ] Space")  # 2x
    page.wait_for_function("started.length >= 2")
    first, second = page.evaluate("started")[:2]
    assert first["when"][1:] == [pytest.approx(4.6), pytest.approx(5.4)]
    assert second["when"][:2] == [pytest.approx(first["when"][0] + 2.7), 0]  # at double speed, to the sample
    wait_time(page, 5.5)
    press(page, "Space")
    [[low, high]] = operations(page, "heard")[0]["payload"]["ranges"]
    assert low == pytest.approx(4.6, abs=0.02)
    assert high >= 5.5
    asked = page.evaluate("model.received.filter(({ type }) => type === 'audio')")
    assert max(ask["end_s"] - ask["start_s"] for ask in asked) <= 30


def test_only_what_was_played_counts_as_heard(start: Any) -> None:
    page = start()
    press(page, "ArrowRight f + End Home n")
    assert operations(page, "heard") == []
    assert "0 % was heard; the rest stays unknown" in status(page)
    press(page, "n Home Space")
    wait_time(page, 0.2)
    press(page, "Space")
    [[low, high]] = operations(page, "heard")[0]["payload"]["ranges"]
    assert (low, high) == (0, pytest.approx(float(page.get_attribute(ROOT, "data-time")), abs=0.01))
    assert page.inner_text(".atk-claim").count("heard") == 1


def test_a_pause_of_some_ms_between_two_plays_is_not_heard(start: Any) -> None:
    page = start()
    press(page, "Space")
    wait_time(page, 0.2)
    press(page, "Space")
    [[_, first]] = operations(page, "heard")[0]["payload"]["ranges"]
    drag(page, first + 0.03, first + 0.6, 200)  # begins some pixels, or 30 ms, later
    [(_, start_s, _)] = segments(page)
    press(page, "p")
    page.wait_for_function("model.operations.filter(({ kind }) => kind === 'heard').length === 2")
    page.wait_for_selector(f"{ROOT}[data-playing=false]")
    later = operations(page, "heard")[-1]["payload"]["ranges"]
    assert later[0][0] == pytest.approx(start_s, abs=0.001)
    assert first < later[0][0]


def test_what_is_heard_is_sent_while_it_goes_on(start: Any, page: Any) -> None:
    page.clock.install()
    page.reload()
    start()
    press(page, "Space")
    wait_time(page, 0.2)
    page.clock.fast_forward(5500)
    page.wait_for_function("model.operations.some(({ kind }) => kind === 'heard')")
    assert page.get_attribute(ROOT, "data-playing") == "true"


def test_speed_and_gain_are_told(start: Any) -> None:
    page = start()
    press(page, "[ [ ArrowUp")
    segments(page)
    assert "0.5×" in page.inner_text(".atk-transport")
    assert "+3 dB" in page.inner_text(".atk-transport")
    press(page, "]")
    assert "the pitch goes with it" in status(page)


# --- claims, notes, queue --------------------------------------------------------------------------------------------


def test_claims_are_answered_by_key(start: Any) -> None:
    page = start()
    press(page, "c")
    assert "Mark at least one range of bark first" in status(page)
    drag(page, 2, 4, 200)
    press(page, "c")
    segments(page)
    assert page.get_attribute("button[data-verdict=confirmed]", "aria-pressed") == "true"
    press(page, "m")
    press(page, "m")  # taken back
    press(page, "Shift+N")
    page.wait_for_selector(f"{ROOT}[data-recording=b]")
    sync_api.expect(page.locator(".atk-head")).to_contain_text("claims 1 / 5")
    said = [op["payload"] for op in operations(page, "claim")]
    assert said == [{"class_name": "bark", "verdict": word} for word in ("confirmed", "unsure", "open", "not_found")]


def test_the_next_recording_is_there_before_the_kernel_answers(start: Any) -> None:
    page = start()
    page.wait_for_function("model.sent.some(({ type, recording }) => type === 'tile' && recording === 'b')")
    page.evaluate("model.delay = 100000, 0")
    press(page, ">")
    page.wait_for_selector(f"{ROOT}[data-recording=b][data-ready=true]", timeout=2000)
    assert page.inner_text(".atk-title") == "5-9032-A-0.wav"
    press(page, "<")
    page.wait_for_selector(f"{ROOT}[data-recording=a]", timeout=2000)


def test_a_broken_recording_shows_why_and_lets_one_go_on(start: Any) -> None:
    page = start()
    page.evaluate("model.send({type: 'open', position: 2}), 0")
    page.wait_for_selector(f"{ROOT}[data-recording=c]")
    assert "cannot be decoded" in page.inner_text(".atk-problem")
    press(page, "Space s")
    assert "cannot be decoded" in status(page)
    press(page, "Shift+M")  # a verdict is possible, and on it goes
    page.wait_for_selector(f"{ROOT}[data-recording=d][data-ready=true]")
    assert not page.is_visible(".atk-problem")
    assert [op["payload"]["verdict"] for op in operations(page, "claim")] == ["unsure"]
    page.evaluate("model.say({type: 'problem', recording: 'd', text: 'it is silent'}), 0")
    sync_api.expect(page.locator(".atk-warning")).to_have_text("it is silent")
    assert page.is_visible(".atk-overlay")


def test_find_filter_and_open(start: Any) -> None:
    page = start()
    press(page, "o")
    page.wait_for_selector("[data-panel=list] li:nth-child(5)")
    page.keyboard.type("9032")
    page.wait_for_selector("[data-panel=list] li:only-child")
    press(page, "Enter")
    page.wait_for_selector(f"{ROOT}[data-recording=b]")
    press(page, "o")
    page.select_option("[data-panel=list] select", "problem")
    page.wait_for_selector("[data-panel=list] li:only-child")
    page.click("text=Work through these")
    page.wait_for_selector(f"{ROOT}[data-recording=c]")
    assert page.evaluate("model.received.findLast(({ type }) => type === 'filter')")["status"] == "problem"
    press(page, "o")
    page.fill("[data-panel=list] input", "nothing like it")
    page.wait_for_selector("[data-panel=list] li", state="detached")
    page.click("text=Work through these")
    page.wait_for_function("document.querySelector('.atk-status').dataset.kind === 'error'")
    assert status(page) == "no recording matches this filter"


def test_notes_are_kept(start: Any) -> None:
    page = start()
    press(page, "w")
    page.keyboard.type("a <b>dog</b>, far away")
    press(page, "Enter")
    drag(page, 2, 4, 200)
    press(page, "w")
    page.keyboard.type("two of them")
    press(page, "Enter")
    assert [op["payload"]["text"] for op in operations(page, "note")] == ["a <b>dog</b>, far away"]
    assert operations(page, "segment")[-1]["payload"]["note"] == "two of them"
    press(page, "w Delete Enter Escape w Delete Enter")  # what is selected on entry goes away: both notes
    segments(page)
    assert [op["payload"]["text"] for op in operations(page, "note")] == ["a <b>dog</b>, far away", ""]
    assert "note" not in operations(page, "segment")[-1]["payload"]
    assert page.evaluate("[...document.querySelectorAll('.atk-notes input')].map(({ value }) => value)") == ["", ""]
    press(page, ">")
    page.wait_for_selector(f"{ROOT}[data-recording=b]")
    assert page.input_value("input[aria-label='Note on this recording']") == ""


# --- nothing is lost -------------------------------------------------------------------------------------------------


def test_unsent_operations_survive_a_reload_and_are_sent_in_order(start: Any, page: Any) -> None:
    page.clock.install()
    page.reload()
    start()
    page.evaluate("model.down = true, 0")
    drag(page, 1, 2, 200)
    press(page, "2")
    drag(page, 5, 6, 200)
    press(page, "n")
    wait_saved(page, "saving")
    page.clock.fast_forward(5000)
    wait_saved(page, "unsaved")
    assert "the kernel does not answer; kept in this browser" in page.inner_text(".atk-saved")
    before = segments(page)
    assert page.get_attribute(ROOT, "data-unsent") == "4"
    page.reload()
    start()
    assert segments(page) == before  # shown before they are acknowledged, and after
    assert [op["kind"] for op in operations(page)] == ["segment", "segment", "segment", "claim"]
    assert segments(page) == before
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert page.get_attribute("button[data-verdict=not_found]", "aria-pressed") == "true"
    press(page, "u")
    segments(page)
    assert page.get_attribute("button[data-verdict=not_found]", "aria-pressed") == "false"


def test_a_full_disk_is_waited_for(start: Any, page: Any) -> None:
    page.clock.install()
    page.reload()
    start(patch={"full": True})
    drag(page, 1, 2, 200)
    wait_saved(page, "unsaved")
    assert "not saved: the disk is full" in page.inner_text(".atk-saved")
    page.evaluate("model.full = false, 0")
    page.clock.fast_forward(9000)
    assert len(operations(page, "segment")) == 1
    assert page.inner_text(".atk-saved") == "saved"


def test_an_answer_that_was_lost_does_not_double_an_operation(start: Any, page: Any) -> None:
    page.clock.install()
    page.reload()
    start()
    page.evaluate("model.say = ((say) => (m, b) => m.type === 'ack' && !model.acks++ ? 0 : say(m, b))(model.say), 0")
    page.evaluate("model.acks = 0, 0")
    drag(page, 1, 2, 200)
    page.wait_for_function("model.operations.length === 1")
    for _ in range(2):
        page.clock.fast_forward(5000)
    assert len(operations(page)) == 1
    assert page.evaluate("model.received.filter(({ type }) => type === 'op').length") == 2


def test_a_refused_operation_is_told_until_it_is_dismissed(start: Any) -> None:
    page = start()
    page.evaluate("model.refuse = (op) => op.kind === 'segment' && 'class <i>bark</i> is gone', 0")
    drag(page, 1, 2, 200)
    wait_saved(page, "unsaved")
    assert "class <i>bark</i> is gone" in page.inner_text(".atk-saved")
    assert segments(page) == []  # the store's state is what counts
    press(page, "m")
    page.wait_for_function("model.operations.length === 1")  # the others go on
    page.click("text=Dismiss")
    assert "Throw away for good: segment bark 1.00 – 2.00 s of a?" in page.inner_text("[role=alertdialog]")
    page.click("text=Keep")
    assert page.get_attribute(ROOT, "data-saved") == "unsaved"
    assert page.evaluate("document.activeElement.dataset.testid") == "labeler"
    page.click("text=Dismiss")
    page.get_by_role("button", name="Throw away").click()
    wait_saved(page)
    assert page.locator("[role=alertdialog]").count() == 0
    assert page.evaluate("Object.keys(localStorage)") == []


def test_what_belongs_to_another_notebook_is_left_to_it(start: Any, page: Any) -> None:
    page.clock.install()
    page.reload()
    start()
    page.evaluate("model.down = true, 0")
    drag(page, 1, 2, 200)
    page.reload()
    other = [{"recording": "z", "title": "z.wav", "duration_s": 10, "claim": "rain", "seed": 5}]
    start(items=other)  # the same store and labeler
    wait_saved(page)
    assert page.get_attribute(ROOT, "data-unsent") == "0"
    assert not page.is_visible("text=Dismiss")
    drag(page, 3, 4, 200)
    assert [op["recording"] for op in operations(page)] == ["z"]
    page.clock.fast_forward(30_000)
    assert len(page.evaluate("model.received.filter(({ type, op }) => type === 'op' && op.recording === 'a')")) == 1
    page.reload()
    start()
    assert [op["recording"] for op in operations(page)] == ["a"]
    assert page.evaluate("Object.keys(localStorage)") == []


def test_what_another_tab_sent_is_not_unsaved_here(context: Any, start: Any, page: Any) -> None:
    start(patch={"full": True})
    drag(page, 1, 2, 200)
    wait_saved(page, "unsaved")
    tab = context.new_page()
    tab.goto("http://localhost/")
    tab.evaluate(START, {})
    tab.wait_for_function("model.operations.length === 1")
    wait_saved(page)


def test_faults_are_shown(start: Any) -> None:
    page = start()
    page.evaluate("model.say({type: 'error', text: 'ValueError: <script>alert(1)</script>'}), 0")
    assert status(page) == "ValueError: <script>alert(1)</script>"
    assert page.get_attribute(".atk-status", "data-kind") == "error"


def test_undo_does_not_wait_for_a_slow_store(start: Any) -> None:
    page = start()
    for at in range(4):
        drag(page, 2 * at, 2 * at + 1, 200)
        press(page, "Escape")
    wait_saved(page)
    page.evaluate("model.delay = 300, 0")
    press(page, "u u")
    page.wait_for_function("model.operations.length === 5")  # the state that follows knows of one undo
    press(page, "u")
    assert len(segments(page)) == 1
    assert len(operations(page, "undo")) == 3
    assert len(segments(page)) == 1
    press(page, "Shift+U Shift+U")
    page.wait_for_function("model.operations.length === 8")
    press(page, "Shift+U")
    assert len(segments(page)) == 4
    assert len(operations(page, "undo")) == 6
    assert len(segments(page)) == 4
    undone = [op["payload"]["target"] for op in operations(page, "undo")]
    assert len(set(undone)) == 6


# --- a good guest ----------------------------------------------------------------------------------------------------


def test_keys_and_focus_stay_where_they_belong(start: Any) -> None:
    page = start()
    page.evaluate(
        "window.leaked = []; for (const kind of ['keydown', 'keyup', 'keypress', 'input', 'paste'])"
        " document.addEventListener(kind, (event) => leaked.push(kind + event.key))"
    )
    press(page, "a b d x 0 Delete Space s ArrowRight Enter / Escape ? Escape w q Enter Control+z PageDown Tab")
    assert page.evaluate("leaked") == []
    assert page.get_attribute(ROOT, "data-lm-suppress-shortcuts") == "true"
    page.focus("#other")
    page.keyboard.type("abc s1")  # outside, the labeler does nothing and takes no focus
    page.evaluate("model.send({type: 'open', position: 3}), 0")
    page.wait_for_selector(f"{ROOT}[data-recording=d]")
    assert page.evaluate("document.activeElement.id") == "other"
    assert page.input_value("#other") == "abc s1"


def test_a_wheel_over_it_scrolls_the_page_until_it_has_the_focus(start: Any) -> None:
    page = start()
    view = "model.received.filter(({ type }) => type === 'peaks').length"
    wide = page.evaluate(view)
    page.focus("#other")
    page.hover(".atk-overlay", position={"x": 400, "y": 200})
    page.mouse.wheel(0, -400)
    segments(page)
    assert page.evaluate(view) == wide
    page.focus(ROOT)
    for _ in range(4):
        page.mouse.wheel(0, -400)
    page.wait_for_function(f"{view} > {wide}")


def test_hostile_text_is_text(start: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    items = [{"recording": evil, "title": evil, "duration_s": 4, "claim": evil, "seed": 0}]
    page = start(
        items=items, classes=[{"name": evil, "colour": "red;background:url(//evil)"}], traits={"labeler": evil}
    )
    drag(page, 1, 2, 200, 4)
    press(page, "Enter")
    segments(page)
    assert page.inner_text("[data-panel=palette] li").startswith(evil)
    assert page.inner_text(".atk-title") == evil
    assert page.locator(f"{ROOT} img").count() == 0
    assert operations(page, "segment")[0]["payload"]["class_name"] == evil


def test_a_class_that_left_the_list_can_be_retimed_but_not_made(start: Any) -> None:
    page = start()
    drag(page, 1, 2, 200)
    page.evaluate("model.change('classes', [{name: 'rain'}]), 0")
    segments(page)
    press(page, "ArrowRight Escape")
    assert [op["payload"]["class_name"] for op in operations(page, "segment")] == ["bark", "bark"]
    drag(page, 5, 6, 200)
    assert [row[0] for row in segments(page)] == ["bark", "rain"]


def test_blind_mode_hides_the_teacher_until_the_first_label(start: Any) -> None:
    page = start(teacher=True, settings={"blind": True})
    height = page.locator(".atk-overlay").bounding_box()["height"]
    assert page.is_visible("text=hidden until your first label")
    drag(page, 1, 2, 200)
    page.wait_for_selector("text=hidden until your first label", state="hidden")
    assert page.locator(".atk-overlay").bounding_box()["height"] > height  # the ribbon
    drag(page, 5, 6, 200)
    assert [op["seen_teacher"] for op in operations(page, "segment")] == [False, True]


@pytest.mark.parametrize("wish", ["system", "jupyter", "told"])
def test_the_theme_follows(context: Any, wish: str) -> None:
    page = context.new_page()
    page.emulate_media(color_scheme="dark" if wish == "system" else "light")
    page.goto("http://localhost/")
    if wish == "jupyter":
        page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.evaluate(START, {"settings": {"theme": "dark"} if wish == "told" else {}})
    page.wait_for_selector(f"{ROOT}[data-theme=dark][data-ready=true]")
    pixel = "(() => { const g = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });"
    pixel += " const c = document.querySelector('.atk-main'); g.drawImage(c, 20 - c.width, -73);"
    pixel += " return [...g.getImageData(0, 0, 1, 1).data]; })()"
    dark = page.evaluate(pixel)
    if wish == "jupyter":
        page.evaluate("document.body.dataset.jpThemeLight = 'true', 0")
        page.wait_for_selector(f"{ROOT}[data-theme=light]")
        segments(page)
        assert sum(page.evaluate(pixel)) > sum(dark) + 100


def test_a_theme_that_changes_while_nothing_is_laid_out_reaches_the_picture(start: Any) -> None:
    page = start(settings={"theme": "auto"})
    script = """async () => {
      const place = document.getElementById('place');
      const light = () => {
        const g = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
        const canvas = document.querySelector('.atk-main');
        g.drawImage(canvas, 20 - canvas.width, -73); // the ground of the waveform
        return g.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((sum, value) => sum + value);
      };
      const frame = () => new Promise(requestAnimationFrame);
      const before = light();
      place.style.display = 'none';
      document.body.dataset.jpThemeLight = 'false';
      await Promise.resolve(); // the labeler asks for a frame
      await frame(); // which finds no place; the one who looks at sizes never hears of it
      place.style.display = '';
      for (let tries = 0; tries < 30; tries++) await frame();
      return [before, light()];
    }"""
    before, after = page.evaluate(script)
    assert page.get_attribute(ROOT, "data-theme") == "dark"
    assert after < before - 300


def test_it_fits_under_a_cell(start: Any, page: Any) -> None:
    page.set_viewport_size({"width": 848, "height": 900})
    start()
    drag(page, 1, 2, 200)
    segments(page)
    assert page.locator(ROOT).bounding_box()["height"] < 640
    tops = [page.locator(f".atk-{name}").bounding_box()["y"] for name in ("fields", "notes")]
    assert abs(tops[0] - tops[1]) < 10  # one line


def test_what_is_saved_stays_in_sight_when_narrow(start: Any, page: Any) -> None:
    page.set_viewport_size({"width": 340, "height": 900})
    start(patch={"full": True})
    drag(page, 1, 2, 200)
    wait_saved(page, "unsaved")
    box = page.locator(".atk-saved").bounding_box()
    assert 0 <= box["x"] < box["x"] + box["width"] <= 340
    assert page.evaluate(
        "(() => { const e = document.querySelector('.atk-saved span'); return e.scrollWidth <= e.clientWidth; })()"
    )
    shown = f"[...document.querySelectorAll('{ROOT} button')].filter((node) => node.offsetParent)"
    assert page.evaluate(f"{shown}.every((node) => node.getBoundingClientRect().right <= 340)")


def test_two_views_do_not_skip_a_recording(start: Any) -> None:
    page = start()
    page.evaluate("model.delay = 200, 0")
    press(page, "> < >")
    page.wait_for_function("model.received.filter(({ type }) => type === 'open').length === 3")
    asked = page.evaluate("model.received.filter(({ type }) => ['open', 'step'].includes(type)).map((m) => m.position)")
    assert asked == [1, 0, 1]


@pytest.mark.parametrize("width", [600, 1600])
def test_narrow_and_wide(start: Any, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    start(teacher=True)
    drag(page, 1, 2, 230)
    assert segments(page) == [("bark", pytest.approx(1, abs=0.03), pytest.approx(2, abs=0.03))]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = f"[...document.querySelectorAll('{ROOT} button, {ROOT} input')].filter((node) => node.offsetParent)"
    for trouble in (
        "node.getBoundingClientRect().right > innerWidth",
        "node.offsetWidth < 24 || node.offsetHeight < 24",
        "!node.ariaLabel && !node.labels?.length",
    ):
        assert page.evaluate(f"{shown}.filter((node) => {trouble}).length") == 0, trouble


def test_an_hour_is_asked_for_in_small_parts(start: Any) -> None:
    page = start()
    page.evaluate("model.send({type: 'open', position: 3}), 0")
    page.wait_for_selector(f"{ROOT}[data-recording=d][data-ready=true]")
    press(page, "PageDown + f")
    page.wait_for_selector(f"{ROOT}[data-ready=true]")
    asked = [m for m in page.evaluate("model.received") if m.get("recording") == "d"]
    assert max(m["n"] for m in asked if m["type"] == "peaks") <= 4000
    assert {m["zoom"] for m in asked if m["type"] == "tile"} >= {0, 4}
    assert len([m for m in asked if m["type"] == "tile"]) < 60
    assert [(m["start_s"], m["end_s"]) for m in asked if m["type"] == "audio"] == [(0, 10)]  # not asked to play


def test_the_end_leaves_nothing_behind(start: Any) -> None:
    page = start()
    press(page, "Space")
    wait_time(page, 0.1)
    page.evaluate("window.end()")
    assert page.locator(ROOT).count() == 0
    asked = page.evaluate("model.received.length")
    assert page.evaluate("model.received.at(-1).op.kind") == "heard"  # not lost
    page.evaluate("model.change('ready', 1), model.say({type: 'item', recording: 'b'})")
    page.wait_for_timeout(200)
    assert page.evaluate("model.received.length") == asked


# --- pure functions --------------------------------------------------------------------------------------------------


@pytest.fixture
def call(page: Any) -> Callable[..., Any]:
    """``call("name", arguments...)`` runs an exported function of the module."""

    def run(name: str, *arguments: Any) -> Any:
        text = ", ".join(json.dumps(argument) for argument in arguments)
        return page.evaluate(f"import('/labeler.js').then((m) => m.{name}({text}))")

    return run


def test_ranges_unite_like_sets_of_instants(call: Any) -> None:
    rng = random.Random(0)
    for _ in range(20):
        ranges = [sorted(rng.sample(range(40), 2)) for _ in range(rng.randrange(1, 9))]
        merged = call("mergeRanges", ranges)
        points = {at for low, high in ranges for at in range(2 * low, 2 * high + 1)}
        assert {at for low, high in merged for at in range(2 * low, 2 * high + 1)} == points
        assert all(before[1] < after[0] for before, after in pairwise(merged))


def test_lanes_hold_overlaps_apart_with_as_few_as_can_be(page: Any, call: Any) -> None:
    rng = random.Random(1)
    for _ in range(20):
        rows = [(str(at), *sorted(rng.sample(range(30), 2))) for at in range(rng.randrange(1, 12))]
        given = [{"id": name, "start_s": low, "end_s": high} for name, low, high in rows]
        script = "(rows) => import('/labeler.js').then((m) => m.assignLanes(rows))"
        script += ".then(({ lanes, count }) => [[...lanes], count])"
        lanes, count = page.evaluate(script, given)
        lane = dict(lanes)
        for name, low, high in rows:
            for other, other_low, other_high in rows:
                assert name == other or lane[name] != lane[other] or high <= other_low or other_high <= low
        assert count == max(sum(low <= at < high for _, low, high in rows) for at in range(30))


def test_views(call: Any) -> None:
    for factor, at in ((0.5, 3.0), (0.01, 7.5), (2.0, 4.0)):
        view = call("zoomView", {"start": 2, "end": 8}, factor, at, 100)
        assert view["end"] - view["start"] == pytest.approx(6 * factor)
        assert (at - view["start"]) / (view["end"] - view["start"]) == pytest.approx((at - 2) / 6)  # stays in its place
    assert call("zoomView", {"start": 0, "end": 10}, 9, 5, 10) == {"start": 0, "end": 10}
    assert call("fitView", -3, 2, 10) == {"start": 0, "end": 5}
    assert call("viewWith", {"start": 0, "end": 5}, 4, 10) == {"start": 0, "end": 5}
    rng = random.Random(2)
    for _ in range(20):
        duration = rng.uniform(0.5, 4000)
        low = rng.uniform(0, duration * 0.9)
        view = {"start": low, "end": rng.uniform(low + 0.02, duration)}
        tiles, peaks = call("tilesFor", view, 900, duration), call("peaksFor", view, 900, duration)
        span = 5.12 * 4 ** tiles["zoom"]
        assert tiles["indexes"][0] * span <= view["start"] + 1e-9
        assert (tiles["indexes"][-1] + 1) * span >= view["end"] - 1e-9
        assert len(tiles["indexes"]) <= 9
        assert peaks["start"] <= view["start"] < view["end"] <= peaks["end"] + 1e-9
        assert 1 <= peaks["n"] <= 4000
        ticks = call("axisTicks", view, 900)["ticks"]
        assert all(view["start"] - 1e-6 <= tick["time"] <= view["end"] + 1e-6 for tick in ticks)
        assert len(ticks) <= 80


def test_edges_never_cross_nor_leave(call: Any) -> None:
    segment = {"id": "a", "start_s": 2, "end_s": 3}
    assert call("moveEdge", segment, "start", 5, 10)["start_s"] == pytest.approx(2.995)
    assert call("moveEdge", segment, "end", 50, 10)["end_s"] == 10
    assert call("moveEdge", segment, "both", 50, 10) == {"id": "a", "start_s": 9, "end_s": 10}
    assert call("orderedRange", 5, 2, 10) == {"start_s": 2, "end_s": 5}
    assert call("orderedRange", 5, 5.004, 10) is None
    assert call("orderedRange", -5, -1, 10) is None


def test_what_is_hit(call: Any) -> None:
    boxes = [
        {"id": "a", "left": 100, "right": 200, "top": 20, "bottom": 40},
        {"id": "b", "left": 150, "right": 300, "top": 42, "bottom": 62},
    ]
    assert call("hitTest", boxes, 150, 30, None) == {"id": "a", "part": "body"}
    assert call("hitTest", boxes, 199, 30, None) == {"id": "a", "part": "end"}
    assert call("hitTest", boxes, 151, 300, None) is None
    assert call("hitTest", boxes, 151, 300, "b") == {"id": "b", "part": "start"}  # through the whole picture
    assert call("hitTest", boxes, 202, 30, "b") == {"id": "a", "part": "end"}


def test_texts(call: Any) -> None:
    assert [call("formatTime", t, d) for t, d in ((0, 3), (59.9996, 3), (3725.25, 2), (61, 0))] == [
        "0:00.000",
        "1:00.000",
        "1:02:05.25",
        "1:01",
    ]
    names = ["dog bark", "bark", "car passing", "Bärenruf", "bird song"]
    assert call("matchClasses", names, "bark") == ["bark", "dog bark"]
    assert call("matchClasses", names, "B") == ["bark", "Bärenruf", "bird song", "dog bark"]
    assert call("matchClasses", names, "cp") == ["car passing"]
    assert call("matchClasses", names, "") == names
    assert call("matchClasses", names, "zz") == []


def test_keys_of_other_keyboards(page: Any) -> None:
    script = """(presses) => import('/labeler.js').then((m) => presses.map(([key, code, ...down]) => m.keyName({
      key, code, ctrlKey: down.includes('Ctrl'), altKey: down.includes('Alt'), shiftKey: down.includes('Shift'),
      metaKey: down.includes('Meta'), getModifierState: (name) => down.includes(name),
    })))"""
    names = {
        "s": ["s", "KeyS"],
        "Shift+u": ["U", "KeyU", "Shift"],
        "Ctrl+z": ["z", "KeyZ", "Meta"],
        "Ctrl+Shift+z": ["Z", "KeyZ", "Ctrl", "Shift"],
        "Space": [" ", "Space"],
        "/": ["/", "Digit7", "Shift"],  # German
        "[": ["[", "Digit8", "Ctrl", "Alt", "AltGraph"],
        "c": ["с", "KeyC"],  # Cyrillic
        "Shift+n": ["Ν", "KeyN", "Shift"],  # Greek
        "Alt+Shift+ArrowLeft": ["ArrowLeft", "ArrowLeft", "Alt", "Shift"],
    }
    assert page.evaluate(script, list(names.values())) == list(names)


def test_the_cache_forgets_what_is_old(page: Any) -> None:
    script = """async () => {
      const { createCache } = await import('/labeler.js');
      const cache = createCache(10, (value) => value);
      for (const [key, value] of [['a', 4], ['b', 4], ['c', 2]]) cache.set(key, value);
      cache.get('a');
      cache.set('d', 3);
      return [['a', 'b', 'c', 'd'].filter((key) => cache.get(key) !== undefined), cache.bytes()];
    }"""
    assert page.evaluate(script) == [["a", "c", "d"], 9]


def test_small_enough() -> None:
    assert len(esm("labeler").encode()) <= 120_000
    assert len(css("labeler").encode()) <= 13_000
