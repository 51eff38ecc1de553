"""The segment labeler in real JupyterLab and Voila: by keyboard, through reloads, dead and busy kernels, nothing lost.

What the front end does alone is tested in test_labeler_page.py. Here a server, a kernel and a store are real, and it
is the store that is asked what was kept. Each test has its own notebook, kernel and store; all share a server.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from lab_server import (
    CHROMIUM,
    KERNEL,
    PANEL,
    PATIENCE_S,
    ROOT,
    Lab,
    Server,
    Tab,
    heap,
    jupyterlab,
    voila,
    write_notebook,
)

from audiotk.doctor import find_chromium
from audiotk.store import make_operation, open_store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")
pytest.importorskip("jupyterlab", reason="no JupyterLab here (make setup brings it)")

SR, CLIPS, HOUR_S = 16_000, 4, 3600
CLASSES = ["dog", "rain", "speech"]
BEGIN = """import os
from pathlib import Path
import pandas as pd
from audiotk.widgets import SegmentLabeler
Path('{name}.pid').write_text(str(os.getpid()))"""
SHOW = """labeler = SegmentLabeler(pd.read_csv('{table}.csv'), {classes}, '{store}.sqlite', labeler='{labeler}')
labeler"""
JUDGE = "from audiotk.widgets import Adjudicator\nAdjudicator('judged.sqlite', labeler='carla', blind=False)"
DOOR = f"""import pandas as pd
from audiotk.store import open_store
from audiotk.widgets.entrance import Entrance
example = open_store('example.sqlite'), 'replayed'
Entrance(pd.read_csv('clips.csv'), {CLASSES}, 'door.sqlite', example)"""
BUSY = """import time
while Path('{name}.busy').exists():
    {work}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server serves: clips of 10 s with a sound in each second, an hour of the same, and their tables."""
    here = tmp_path_factory.mktemp("lab") / "notebooks"
    here.mkdir()
    rng = np.random.default_rng(0)
    beat = np.where(np.arange(SR) < SR // 2, 0.2, 0.002) * rng.normal(size=SR)
    rows = [(f"clip{k}", 10.0, f"person{k}") for k in range(CLIPS)]
    for name, seconds, _ in [*rows, ("hour", HOUR_S, "person")]:
        sf.write(here / f"{name}.wav", np.tile(beat, int(seconds)).astype("float32"), SR, subtype="PCM_16")
    for table, content in {"clips": rows, "hours": [("hour", float(HOUR_S), "person"), *rows]}.items():
        frame = pd.DataFrame(content, columns=["recording", "duration_s", "group"]).assign(sr=SR)
        frame.assign(path=[str(here / f"{name}.wav") for name in frame["recording"]]).to_csv(here / f"{table}.csv")
    return here


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with jupyterlab(folder, folder.parent / "home") as started:
        yield started


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        yield browser.new_context(viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture(scope="module")
def tab(context: Any, server: Server) -> Lab:
    return Lab(context.new_page(), server)


@pytest.fixture
def fresh(tab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """The tab of JupyterLab; nothing may go wrong in it, and a picture is kept of what failed."""
    tab.forget()
    yield tab
    tab.page.screenshot(path=tmp_path / "at_the_end.png")
    tab.check()


@pytest.fixture
def show(fresh: Lab, folder: Path) -> Callable[..., Lab]:
    """Open a new notebook with a labeler: ``show(name, ...)``."""

    def begin(name: str, table: str = "clips", work: Sequence[str] = ()) -> Lab:
        fresh.open(notebook(folder, name, table=table, work=work).name)
        fresh.run_all()
        fresh.page.focus(ROOT)
        return fresh

    return begin


def notebook(
    folder: Path, name: str, table: str = "clips", store: str = "", labeler: str = "ann", work: Sequence[str] = ()
) -> Path:
    show = SHOW.format(table=table, classes=CLASSES, store=store or name, labeler=labeler)
    cells = [BEGIN.format(name=name), show, *(BUSY.format(name=name, work=doing) for doing in work)]
    return write_notebook(folder / f"{name}.ipynb", cells)


def press(tab: Tab, keys: str) -> None:
    for key in keys.split():
        tab.page.keyboard.press(key)


def label(tab: Tab, key: str) -> None:
    """A segment of 100 ms, by five keys; the playhead moves on."""
    press(tab, f"{key} s Shift+ArrowRight Enter Escape")


def kept(folder: Path, name: str) -> pd.DataFrame:
    """Segments in a store."""
    return open_store(folder / f"{name}.sqlite", create=False).segments()


def mirrored(tab: Tab) -> list[str]:
    """Ids of the segments that the labeler shows."""
    tab.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return sorted(tab.page.eval_on_selector_all(".atk-mirror li", "rows => rows.map((row) => row.dataset.id)"))


# --- by keyboard -----------------------------------------------------------------------------------------------------


def test_labeling_by_keyboard_alone(show: Callable[..., Lab], folder: Path) -> None:
    tab = show("keys")
    cells = tab.cells()
    tab.page.evaluate("window.pressed = 0; addEventListener('keydown', (e) => { pressed += !e.repeat; }, true); 0")
    press(tab, "Space")
    for number, key in enumerate("123"):  # held while it is heard
        tab.wait(f"() => Number(document.querySelector('{ROOT}').dataset.time) > {number + 0.2}")
        tab.page.keyboard.down(key)
        tab.wait(f"() => Number(document.querySelector('{ROOT}').dataset.time) > {number + 0.8}")
        tab.page.keyboard.up(key)
    press(tab, "Space Escape Home")
    assert tab.page.evaluate("pressed") - 2 <= 4 * 3
    press(tab, "2 s Shift+ArrowRight Enter")
    tab.wait_saved()
    found = kept(folder, "keys")
    assert sorted(found["class_name"]) == ["dog", "rain", "rain", "speech"]
    assert found["end_s"].gt(found["start_s"]).all()
    assert sorted(found["segment"]) == mirrored(tab)
    assert open_store(folder / "keys.sqlite").heard("ann")["end_s"].max() > 2.5  # what was played counts as heard
    press(tab, "a b d d x y z m Shift+m Delete u Shift+u / Escape Control+z > <")
    tab.wait_saved()
    assert tab.cells() == cells  # nothing leaked
    assert tab.page.evaluate("window.jupyterapp.shell.currentWidget.content.mode") == "command"


# --- what is acknowledged is kept ------------------------------------------------------------------------------------


def test_a_reload_keeps_labels_and_sends_what_was_not_sent(show: Callable[..., Lab], folder: Path) -> None:
    tab = show("reload")
    label(tab, "1")
    tab.wait_saved()
    tab.save()
    tab.page.evaluate("WebSocket.prototype.send = () => {}, 0")  # the connection hangs
    label(tab, "2")
    label(tab, "3")
    tab.page.wait_for_selector(f"{ROOT}[data-unsent='2']:not([data-saved=saved])")
    assert list(kept(folder, "reload")["class_name"]) == ["dog"]
    tab.page.reload()
    tab.wait_ready()  # the kernel still has the labeler: no cell was run again
    tab.wait_saved()
    found = kept(folder, "reload")
    assert list(found.sort_values("start_s")["class_name"]) == ["dog", "rain", "speech"]
    assert mirrored(tab) == sorted(found["segment"])


def test_an_answer_to_a_view_that_is_gone_leaves_no_one_unheard(show: Callable[..., Lab], folder: Path) -> None:
    """ipykernel 7.4 sends what comes next to the subshell of the last answer, which is closed after a reload, say."""
    tab = show("unheard")
    told = "labeler.widget.comm._reply_subshell_id = 'closed'"
    tab.page.evaluate(f"(code) => {KERNEL}.requestExecute({{ code }}).done.then(() => null)", told)
    label(tab, "1")
    tab.wait_saved()
    assert list(kept(folder, "unheard")["class_name"]) == ["dog"]


def test_killed_kernels_lose_nothing(show: Callable[..., Lab], folder: Path) -> None:
    tab = show("killed")
    for kill in range(3):
        tab.watch_kernel()
        for key in "1231"[: kill + 2]:
            label(tab, key)
        kernel = int((folder / "killed.pid").read_text())
        os.kill(kernel, signal.SIGSTOP)
        label(tab, "2")  # nobody hears it; after the kill Jupyter's message would take these keys
        tab.page.wait_for_selector(f"{ROOT}:not([data-saved=saved])")
        os.kill(kernel, signal.SIGKILL)
        tab.wait_for_restart()
        assert tab.acknowledged <= set(open_store(folder / "killed.sqlite").operations()["uuid"])
        tab.run_all()
        tab.page.focus(ROOT)
        tab.wait_saved()
    operations = open_store(folder / "killed.sqlite").operations()
    assert set(tab.sent) <= set(operations["uuid"])
    assert len(kept(folder, "killed")) == 3 + 4 + 5
    assert operations["uuid"].is_unique


# --- at the same time ------------------------------------------------------------------------------------------------


def test_a_busy_kernel_still_takes_labels(show: Callable[..., Lab], folder: Path) -> None:
    tab = show("busy", work=["time.sleep(0.02)", "sum(i * i for i in range(20_000))"])
    state = f"{PANEL}.content.widgets[%d].model.executionState === '%s'"
    sign = folder / "busy.busy"
    for number in range(2):
        sign.touch()
        tab.run_cell(2 + number)
        tab.wait(f"() => {state % (2 + number, 'running')}")
        tab.page.focus(ROOT)
        label(tab, "1")
        press(tab, "Shift+n")  # the next recording, with its picture
        tab.page.wait_for_selector(f"{ROOT}[data-position='{number + 1}'][data-ready=true]")
        tab.wait_saved()
        assert tab.running(2 + number)
        assert len(kept(folder, "busy")) == number + 1
        sign.unlink()
        tab.wait(f"() => {state % (2 + number, 'idle')}")


def test_two_labelers_on_one_store(show: Callable[..., Lab], context: Any, server: Server, folder: Path) -> None:
    ann = show("ours")
    bob = Lab(context.new_page(), server)
    bob.visit(notebook(folder, "his", store="ours", labeler="bob").name, workspace="bob")
    bob.run_all()
    bob.page.focus(ROOT)
    for key in "123":
        for tab in (ann, bob):
            tab.page.bring_to_front()
            label(tab, key)
    for tab, name in ((ann, "ann"), (bob, "bob")):
        tab.page.bring_to_front()
        tab.wait_saved()
        found = open_store(folder / "ours.sqlite").segments(labeler=name)
        assert list(found.sort_values("start_s")["class_name"]) == CLASSES
        assert mirrored(tab) == sorted(found["segment"])
    bob.check()
    bob.page.close()


# --- an hour ---------------------------------------------------------------------------------------------------------


def test_an_hour_comes_in_small_parts(show: Callable[..., Lab], folder: Path) -> None:
    tab = show("hour", table="hours")
    press(tab, "End Shift+ArrowLeft")
    tab.page.wait_for_selector(f"{ROOT}[data-ready=true]")
    before = float(tab.page.get_attribute(ROOT, "data-time"))
    press(tab, "Space")
    tab.wait(f"() => Number(document.querySelector('{ROOT}').dataset.time) > {before + 0.3}")
    press(tab, "Space 2 s Shift+ArrowRight Enter")
    tab.wait_saved()
    found = kept(folder, "hour")
    assert list(found["class_name"]) == ["rain"]
    assert found["start_s"].item() > HOUR_S - 30
    assert tab.largest_frame < 2_000_000
    assert heap(tab.page) < 120e6


# --- judging, and the door -------------------------------------------------------------------------------------------


def test_adjudication_by_keyboard_alone(fresh: Lab, folder: Path) -> None:
    store = open_store(folder / "judged.sqlite")
    store.register(pd.read_csv(folder / "clips.csv", index_col=0))
    marks = [("ann", 1.0, 3.0), ("ben", 1.5, 3.0), ("ann", 5.0, 5.4), ("ben", 7.0, 7.3)]
    store.append(
        make_operation("segment", who, "clip0", id=f"{who}{start}", start_s=start, end_s=end, class_name="dog")
        for who, start, end in marks
    )
    store.append(make_operation("heard", who, "clip0", ranges=[[0, 10]]) for who in ("ann", "ben"))
    fresh.open(write_notebook(folder / "judged.ipynb", [JUDGE]).name)
    root = fresh.page.get_by_test_id("adjudicator")
    for decided in (0, 2):  # by a new kernel the decisions are found again
        fresh.command("notebook:run-all-cells")
        fresh.page.wait_for_selector(f"[data-testid=adjudicator][data-ready=true][data-decided='{decided}']")
        root.focus()
        cells = fresh.cells()
        if not decided:
            press(fresh, "2 u n Control+z d d x")  # the last ones would cut the cell
            sync_api.expect(root).to_have_attribute("data-saved", "saved")
            sync_api.expect(root).to_have_attribute("data-decided", "2")
            assert fresh.cells() == cells
            fresh.open(write_notebook(folder / "judged_again.ipynb", [JUDGE]).name)
    told = store.judgements("carla")
    assert told["value"].isna().tolist() == [False, True]
    assert told["value"].iloc[0] == 1.0
    assert "ben" in told["reason"].iloc[0]
    assert set(fresh.sent) <= set(store.operations()["uuid"])


def test_a_name_opens_the_labeler(fresh: Lab, folder: Path) -> None:
    fresh.open(write_notebook(folder / "door.ipynb", [DOOR]).name)
    fresh.command("notebook:run-all-cells")
    name = fresh.page.get_by_placeholder("your name")
    name.fill("replayed")
    press(fresh, "Tab Enter")
    fresh.page.get_by_text("is the name of the recorded example").wait_for()
    assert not (folder / "door.sqlite").exists()
    name.fill("bob")
    press(fresh, "Tab Enter")
    fresh.wait_ready()
    fresh.page.focus(ROOT)
    label(fresh, "2")
    fresh.wait_saved()
    found = kept(folder, "door")
    assert found[["labeler", "class_name"]].to_numpy().tolist() == [["bob", "rain"]]
    assert open_store(folder / "example.sqlite").labelers() == []


# --- other places -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("notebook") is None, reason="no Notebook 7 here (make setup brings it)")
def test_the_classic_notebook_takes_labels_by_keyboard(context: Any, folder: Path) -> None:
    with jupyterlab(folder, folder.parent / "classic", module="notebook") as server:
        tab = Lab(context.new_page(), server)
        tab.page.goto(f"{server.url}notebooks/{notebook(folder, 'classic').name}?token={server.token}")
        tab.wait_for_kernel()
        tab.troubles.clear()  # its own, while it reads its settings
        tab.run_all()
        tab.page.focus(ROOT)
        cells = tab.cells()
        for key in "123":
            label(tab, key)
        press(tab, "Tab e Shift+ArrowRight u a b d d x y z / Escape > <")
        tab.wait_saved()
        assert tab.cells() == cells  # nothing leaked
        found = kept(folder, "classic")
        assert sorted(found["class_name"]) == CLASSES
        assert mirrored(tab) == sorted(found["segment"])
        tab.check()
        tab.page.close()


# --- for those who do not code ---------------------------------------------------------------------------------------


def test_voila_shows_plays_and_keeps(context: Any, folder: Path) -> None:
    page = context.new_page()
    with voila(notebook(folder, "page"), folder.parent / "voila") as server:
        tab = Tab(page)
        page.goto(f"{server.url}?token={server.token}", timeout=PATIENCE_S * 1000)
        page.wait_for_selector(f"{ROOT}[data-ready=true]")
        page.focus(ROOT)
        press(tab, "Space")
        tab.wait(f"() => Number(document.querySelector('{ROOT}').dataset.time) > 0.3")
        press(tab, "Space 3 s Shift+ArrowRight Enter")
        tab.wait_saved()
        assert list(kept(folder, "page")["class_name"]) == ["speech"]
        assert (
            page.evaluate("fetch('voila/files/clip0.wav').then((answer) => answer.status)") == 403
        )  # sound came from the kernel
        tab.check()
    page.close()
