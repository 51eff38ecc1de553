"""The explorer in real JupyterLab: a lasso on 20,000 points to Python, keys, a dead kernel, and jupyter-scatter.

What the front end does alone is tested in test_explorer_page.py. Here a server, a kernel and a store are real, and it
is the store that is asked what was kept.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_server import CHROMIUM, KERNEL, Lab, Server, jupyterlab, write_notebook
from toy_ghosts import make_ghosts, write_recordings

from audiotk.doctor import find_chromium
from audiotk.store import Store, open_store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")
pytest.importorskip("jupyterlab", reason="no JupyterLab here (make setup brings it)")

MANY = 20_000
EXPLORER = "[data-testid=explorer]"
BEGIN = """import os
from pathlib import Path
import numpy as np, pandas as pd
from audiotk import mining
from audiotk.widgets import ClusterExplorer
Path('{name}.pid').write_text(str(os.getpid()))
ghosts, vectors = pd.read_parquet('ghosts.parquet'), np.load('vectors.npy')
recordings = pd.read_parquet('recordings.parquet')
door = mining.Door(recordings, pd.Series('train', index=recordings['recording']))"""
SHOW = """rng = np.random.default_rng(0)
explorer = ClusterExplorer(ghosts, vectors, '{name}.sqlite', labeler='ann', rng=rng, door=door, map='{map}')
explorer"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("lab") / "notebooks"
    here.mkdir()
    recordings = write_recordings(here)
    ghosts, vectors = make_ghosts(recordings, MANY, clusters=12)
    ghosts.to_parquet(here / "ghosts.parquet")
    recordings.to_parquet(here / "recordings.parquet")
    np.save(here / "vectors.npy", vectors)
    return here


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with jupyterlab(folder, folder.parent / "home") as started:
        yield started


@pytest.fixture(scope="module")
def tab(server: Server) -> Iterator[Lab]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        yield Lab(browser.new_context(viewport={"width": 1500, "height": 1000}).new_page(), server)
        browser.close()


def expect(lab: Lab, **data: str) -> None:
    root = lab.page.locator(f"{EXPLORER}:not([data-old])")
    for name, value in data.items():
        sync_api.expect(root).to_have_attribute(f"data-{name}", value, timeout=60_000)


def run_all(lab: Lab) -> None:
    mark = f"document.querySelectorAll('{EXPLORER}').forEach((root) => {{ root.dataset.old = '1'; }})"
    lab.page.evaluate(f"() => {{ {mark}; }}")
    lab.command("notebook:run-all-cells")
    lab.page.wait_for_selector(f"{EXPLORER}:not([data-old])[data-ready=true]")


def show(lab: Lab, folder: Path, name: str, kind: str) -> Store:
    """A new notebook with an explorer; returns its store."""
    lab.forget()
    cells = [BEGIN.format(name=name), SHOW.format(name=name, map=kind)]
    lab.open(write_notebook(folder / f"{name}.ipynb", cells).name)
    run_all(lab)
    return open_store(folder / f"{name}.sqlite")


def press(lab: Lab, keys: str) -> None:
    for key in keys.split():
        lab.page.keyboard.press(key)


def lasso(lab: Lab, box: dict[str, float]) -> None:
    """Draw around the middle of a map."""
    mouse, angle = lab.page.mouse, np.linspace(0, 2 * np.pi, 16)
    x = box["x"] + box["width"] * (0.5 + 0.2 * np.cos(angle))
    y = box["y"] + box["height"] * (0.5 + 0.2 * np.sin(angle))
    mouse.move(x[0], y[0])
    mouse.down()
    for left, top in zip(x[1:], y[1:], strict=True):
        mouse.move(left, top, steps=3)
    mouse.up()


def python(lab: Lab, expression: str) -> Any:
    """The value of an expression in the kernel, as text."""
    script = f"""async (code) => {{
      let text = '';
      const future = {KERNEL}.requestExecute({{ code: `print(${{code}}, end='')` }});
      future.onIOPub = ({{ header, content }}) => {{ if (header.msg_type === 'stream') text += content.text; }};
      await future.done;
      return text;
    }}"""
    return lab.page.evaluate(script, expression)


def kill_kernel(lab: Lab, folder: Path, name: str) -> None:
    lab.watch_kernel()
    os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)
    lab.wait_for_restart()


def test_a_lasso_is_heard_promoted_and_undone_through_reloads_and_a_dead_kernel(tab: Lab, folder: Path) -> None:
    store = show(tab, folder, "canvas", "canvas")
    cells = tab.cells()
    overlay = tab.page.get_by_test_id("map")
    overlay.scroll_into_view_if_needed()
    lasso(tab, overlay.bounding_box())
    expect(tab, selection="lasso", page="12", refused="0", playing="true")
    selected = int(tab.page.get_attribute(EXPLORER, "data-selected") or 0)
    assert selected > 300
    assert python(tab, "len(explorer.selection.rows)") == str(selected)
    press(tab, "f f t u f")
    expect(tab, judged="5", saved="saved")
    assert store.judgements("ann")["value"].fillna(-1).tolist().count(0.0) == 3
    press(tab, "3 p")
    expect(tab, promoted=str(selected - 2), saved="saved")
    assert len(store.promotions()) == selected - 2
    press(tab, "a b d d x y z Shift+m Escape")
    assert tab.cells() == cells  # nothing leaked
    kill_kernel(tab, folder, "canvas")
    run_all(tab)
    expect(tab, promoted=str(selected - 2))
    tab.save()
    assert "5 heard" in python(tab, "explorer.progress")
    tab.page.reload()
    tab.page.wait_for_selector(f"{EXPLORER}[data-ready=true]")
    expect(tab, promoted=str(selected - 2))
    tab.page.focus(EXPLORER)
    press(tab, "Control+z Control+z")
    expect(tab, promoted="0", saved="saved")
    assert store.promotions().empty
    assert len(store.judgements("ann")) == 4
    assert tab.acknowledged <= set(store.operations()["uuid"]) | tab.acknowledged
    tab.check()


def test_words_said_to_a_kernel_that_dies_are_kept(tab: Lab, folder: Path) -> None:
    store = show(tab, folder, "dying", "canvas")
    tab.page.focus(EXPLORER)
    press(tab, ">")
    expect(tab, page="12", refused="0")
    press(tab, "f f")
    expect(tab, judged="2", saved="saved")
    os.kill(int((folder / "dying.pid").read_text()), signal.SIGSTOP)
    press(tab, "t f")  # nobody hears it
    tab.page.wait_for_selector(f"{EXPLORER}:not([data-saved=saved])")
    assert tab.acknowledged <= set(store.operations()["uuid"])
    kill_kernel(tab, folder, "dying")
    run_all(tab)
    expect(tab, saved="saved")
    told = store.operations(labeler="ann")
    assert set(tab.sent) <= set(told["uuid"])
    assert store.judgements("ann")["value"].tolist().count(1.0) == 1
    assert len(told) == 4
    tab.check()


def test_jupyter_scatter_is_the_map_and_its_lasso_comes_to_python(tab: Lab, folder: Path) -> None:
    store = show(tab, folder, "scatter", "scatter")
    canvas = tab.page.locator(".jp-OutputArea canvas").first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    tab.page.wait_for_timeout(1500)  # until it is drawn, it hears no mouse
    lasso(tab, canvas.bounding_box())
    expect(tab, selection="lasso", page="12")
    selected = int(tab.page.get_attribute(EXPLORER, "data-selected") or 0)
    assert selected > 300
    tab.page.wait_for_timeout(600)  # what the mouse sends later does not wipe it
    expect(tab, selection="lasso", selected=str(selected))
    assert python(tab, "len(explorer.selection.rows)") == str(selected)
    tab.page.focus(EXPLORER)
    press(tab, "f t")
    expect(tab, judged="2", saved="saved")
    press(tab, "> c")
    expect(tab, selection="cluster 0", colour="class")
    assert python(tab, "len(explorer.widget.link.scatter.widget.selection)") == str(
        len(np.flatnonzero(np.array(python(tab, "list(explorer.points['cluster'])").strip("[]").split(", ")) == "0"))
    )
    assert len(store.judgements("ann")) == 2
    tab.check()
