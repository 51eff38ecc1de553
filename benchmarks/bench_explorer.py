"""The explorer in real JupyterLab and Chromium against its targets: ``python benchmarks/bench_explorer.py``.

Starts a private JupyterLab, drives it through Playwright, and prints quantity, median, 95th percentile and target.
Times of paints run from the start of the cell to the frame after the map is drawn (the canvas says so; of
jupyter-scatter the first frame in which its canvas has pixels); of a lasso from the mouse button going up to the page
of members that Python drew; of verdicts from the key to the mark on the tile, and to the word
"saved", after 0.4 s of listening to it. Embeddings, clusters and places are given, so nothing is computed on the way.

``--points 100000`` how many in the scatter, ``--canvas 20000,50000`` in the canvas; ``--only
paint,lasso,commit,promote`` some parts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench_labeler import Table
from lab_server import CHROMIUM, PANEL, Lab, jupyterlab, write_notebook
from toy_ghosts import make_ghosts, write_recordings

from audiotk.doctor import find_chromium

ROOT = "[data-testid=explorer]:not([data-old])"
HEARD_S = 0.4  # that each member is listened to before a verdict
IMPORTS = """import numpy as np, pandas as pd
import jscatter
from audiotk import mining
from audiotk.widgets import ClusterExplorer
ghosts, vectors = pd.read_parquet('{size}.parquet'), np.load('{size}.npy')
recordings = pd.read_parquet('recordings.parquet')
door = mining.Door(recordings, pd.Series('train', index=recordings['recording']))"""
SHOW = """explorer = ClusterExplorer(
    ghosts, vectors, '{name}.sqlite', labeler='ann', rng=np.random.default_rng(0), door=door, map='{map}')
explorer"""
# Run a cell; milliseconds to the frame in which a condition is true for the first time.
PAINT = f"""async ([index, condition, limit]) => {{
  const panel = {PANEL};
  document.querySelectorAll('[data-testid=explorer]').forEach((root) => {{ root.dataset.old = '1'; }});
  const test = new Function(`return ${{condition}}`);
  panel.content.activeCellIndex = index;
  panel.content.widgets[index].model.outputs.clear();
  await new Promise((done) => requestAnimationFrame(done));
  const start = performance.now();
  window.jupyterapp.commands.execute('notebook:run-cell');
  while (performance.now() - start < limit) {{
    await new Promise((done) => requestAnimationFrame(done));
    if (test()) return performance.now() - start;
  }}
  return null;
}}"""
DRAWN = f"document.querySelector('{ROOT}[data-ready=true][data-drawn]')"
SCATTERED = """[...document.querySelectorAll('.jp-OutputArea canvas')].some((canvas) => {
  if (canvas.closest('[data-testid=explorer]') || canvas.width < 100) return false;
  const copy = Object.assign(document.createElement('canvas'), { width: 60, height: 60 });
  const g = copy.getContext('2d');
  g.drawImage(canvas, 0, 0, 60, 60);
  const { data } = g.getImageData(0, 0, 60, 60);
  const found = new Set();
  for (let at = 0; at < data.length; at += 4) found.add(data[at] + 256 * data[at + 1] + 65536 * data[at + 2]);
  return found.size > 20;
})"""
# Milliseconds from keys to the mark on a tile and to "saved", and from the mouse going up to a page of members.
WATCH = f"""() => {{
  const root = document.querySelector('{ROOT}');
  window.probe = {{ seen: [], saved: [], lasso: [] }};
  let [key, save, up] = [null, null, null];
  const begin = (event) => {{ if (event.key === 'f') [key, save] = [event.timeStamp, event.timeStamp]; }};
  addEventListener('keydown', begin, true);
  addEventListener('pointerup', (event) => {{ up = event.timeStamp; }}, true);
  new MutationObserver(() => {{
    if (key === null) return;
    const since = key;
    key = null;
    requestAnimationFrame(() => probe.seen.push(performance.now() - since));
  }}).observe(root.querySelector('.atk-grid'), {{ subtree: true, attributeFilter: ['data-word'] }});
  new MutationObserver(() => {{
    if (save === null || root.dataset.saved !== 'saved') return;
    probe.saved.push(performance.now() - save);
    save = null;
  }}).observe(root, {{ attributeFilter: ['data-saved'] }});
  new MutationObserver(() => {{
    if (up === null || root.dataset.selection !== 'lasso') return;
    const since = up;
    up = null;
    requestAnimationFrame(() => probe.lasso.push(performance.now() - since));
  }}).observe(root, {{ attributeFilter: ['data-selected'] }});
}}"""


def make_folder(folder: Path, sizes: Sequence[int]) -> None:
    """Sound, and tables of so many false positives with their embeddings."""
    recordings = write_recordings(folder, 60)
    recordings.to_parquet(folder / "recordings.parquet")
    for size in sizes:
        ghosts, vectors = make_ghosts(recordings, size, clusters=24)
        ghosts.to_parquet(folder / f"{size}.parquet")
        np.save(folder / f"{size}.npy", vectors)


def begin(lab: Lab, name: str, size: int, kind: str) -> None:
    """Open a notebook and run its imports."""
    cells = [IMPORTS.format(size=size), SHOW.format(name=name, map=kind)]
    lab.open(write_notebook(lab.server.root / f"{name}.ipynb", cells).name)
    lab.run_cell(0)
    lab.wait(f"() => {PANEL}.content.widgets[0].model.executionCount > 0")
    lab.wait_for_kernel()


def paint(lab: Lab, kind: str) -> float | None:
    """Seconds from the start of the cell until the map is drawn."""
    taken = lab.page.evaluate(PAINT, [1, DRAWN if kind == "canvas" else SCATTERED, 120_000])
    return None if taken is None else taken / 1000


def measure_paint(lab: Lab, table: Table, size: int, kind: str, repeats: int) -> None:
    begin(lab, f"paint{size}{kind}", size, kind)
    first, *again = [paint(lab, kind) for _ in range(repeats + 1)]
    limit = 4.0 if size <= 100_000 else 10.0
    table.times(f"{kind}: {size:,} points visible, first in a kernel", [first], f"<= {limit:.0f} s", p95=limit)
    table.times(f"{kind}: {size:,} points visible", again, f"<= {limit:.0f} s", p95=limit)


def draw(lab: Lab, box: dict[str, float], part: float) -> None:
    """A lasso around the middle of a map."""
    mouse, angle = lab.page.mouse, np.linspace(0, 2 * np.pi, 14)
    x = box["x"] + box["width"] / 2 + part * box["height"] * np.cos(angle)
    y = box["y"] + box["height"] / 2 + part * box["height"] * np.sin(angle)
    mouse.move(float(x[0]), float(y[0]))
    mouse.down()
    for left, top in zip(x[1:].tolist(), y[1:].tolist(), strict=True):
        mouse.move(left, top, steps=2)
    mouse.up()


def measure_lasso(lab: Lab, table: Table, size: int, kind: str, repeats: int) -> None:
    begin(lab, f"lasso{size}{kind}", size, kind)
    paint(lab, kind)
    lab.page.wait_for_selector(f"{ROOT}[data-ready=true]")
    lab.page.wait_for_timeout(1500)
    lab.page.evaluate(WATCH)
    canvas = lab.page.get_by_test_id("map") if kind == "canvas" else lab.page.locator(".jp-OutputArea canvas").first
    selected = []
    for turn in range(repeats):
        canvas.scroll_into_view_if_needed()
        draw(lab, canvas.bounding_box(), 0.22 + 0.01 * (turn % 5))
        lab.page.wait_for_function(f"probe.lasso.length > {turn}")
        selected.append(int(lab.page.get_attribute(ROOT, "data-selected") or 0))
        lab.page.wait_for_timeout(700)
    times = [value / 1000 for value in lab.page.evaluate("probe.lasso")]
    told = f"{np.median(selected):,.0f} of {size:,}"
    table.times(f"{kind}: lasso of {told} points to Python and back with its sample", times, "(0.63 s)")


def measure_commit(lab: Lab, table: Table, size: int, count: int) -> None:
    begin(lab, f"commit{size}", size, "canvas")
    paint(lab, "canvas")
    lab.page.evaluate(WATCH)
    lab.page.focus(ROOT)
    lab.page.keyboard.press(">")
    lab.page.wait_for_selector(f"{ROOT}[data-page='12']")
    done = 0
    while done < count:
        lab.page.wait_for_selector(f"{ROOT}[data-busy=false][data-pictured='12']")
        for _ in range(min(12, count - done)):
            lab.page.wait_for_timeout(HEARD_S * 1000)
            lab.page.keyboard.press("f")
            done += 1
            lab.page.wait_for_function(f"probe.saved.length >= {done}")
        lab.page.keyboard.press("m")
    seen, saved = (lab.page.evaluate(f"probe.{name}") for name in ("seen", "saved"))
    about = f"verdict among {size:,} points"
    table.times(f"{about}: key to acknowledgement", [v / 1000 for v in saved], "<= 0.060 / 0.150 s", 0.060, 0.150)
    table.times(f"{about}: visible feedback, key to frame", [v / 1000 for v in seen], "<= 0.050 s", p95=0.050)


def measure_promote(lab: Lab, table: Table, size: int) -> None:
    begin(lab, f"promote{size}", size, "canvas")
    paint(lab, "canvas")
    lab.page.focus(ROOT)
    lab.page.keyboard.press(">")
    lab.page.wait_for_selector(f"{ROOT}[data-refused='0']")
    members = lab.page.get_attribute(ROOT, "data-selected")
    times = []
    for key, state in (("p", ":not([data-promoted='0'])"), ("Control+z", "[data-promoted='0']")):
        start = time.perf_counter()
        lab.page.keyboard.press(key)
        lab.page.wait_for_selector(f"{ROOT}{state}[data-saved=saved]")
        times.append(time.perf_counter() - start)
    table.times(f"promotion of {members} members, key to acknowledgement", times[:1], "")
    table.times("its undo", times[1:], "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--canvas", default="20000,50000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--only", default="paint,lasso,commit,promote")
    given = parser.parse_args()
    canvas, parts = [int(size) for size in given.canvas.split(",")], given.only.split(",")
    print(f"load average at the start {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made) / "notebooks"
        folder.mkdir()
        make_folder(folder, sorted({*canvas, given.points}))
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        table = Table()
        with jupyterlab(folder, Path(made) / "home") as server:
            lab = Lab(browser.new_context(viewport={"width": 1400, "height": 1000}).new_page(), server)
            maps = [*((size, "canvas") for size in canvas), (given.points, "scatter")]
            for size, kind in maps:
                if "paint" in parts:
                    measure_paint(lab, table, size, kind, given.repeats)
                if "lasso" in parts:
                    measure_lasso(lab, table, size, kind, given.repeats)
            if "commit" in parts:
                measure_commit(lab, table, canvas[0], given.commits)
            if "promote" in parts:
                measure_promote(lab, table, canvas[0])
            outside = len(lab.outside)
            table.row("requests to other machines", str(outside), "", "", "0", outside == 0)
            if lab.troubles:
                print("\nerrors in the page:", *lab.troubles, sep="\n  ")
        browser.close()
    print(f"\nload average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
