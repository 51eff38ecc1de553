"""The segment labeler in real JupyterLab and Chromium against its targets: ``python benchmarks/bench_labeler.py``.

Starts a private JupyterLab, drives it through Playwright, and prints quantity, median, 95th percentile and target.
Times of paints run from the start of the cell (or from the key) to the frame after the picture is complete; of commits
from the key to the word "saved"; of round trips from the operation leaving the socket to its acknowledgement (so they
hold the disk's time too). Loop edges are measured on what goes to the loudspeaker: an AudioWorklet records it while a
ramp plays, whose value tells the time. Kills are SIGKILL at random moments of labeling; an acknowledgement counts when
its frame arrived at the browser, and is lost if its operation is not in the store afterwards.

``--kills 200`` how many kernels to kill (a tab is reloaded after every fifth, and every tenth time the tab alone);
``--only paint,heap,commit,busy,loop,keys,kills,peer`` some parts; ``--peer PYTHON`` a Python that has ``ipyannote`` and
``jupyterlab`` (``uv venv peer && uv pip install --python peer ipyannote jupyterlab``), to measure it side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
import websocket
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lab_server import CHROMIUM, KERNEL, PANEL, PATIENCE_S, ROOT, Lab, Server, heap, jupyterlab, write_notebook

from audiotk.doctor import find_chromium
from audiotk.store import make_operation, open_store

SR, CLIPS, HOUR_S, RAMP_S = 16_000, 20, 3600, 4.0
CLASSES = ["dog", "rain", "speech"]
IMPORTS = """import os
from pathlib import Path
import pandas as pd
from audiotk.widgets import SegmentLabeler
Path('kernel.pid').write_text(str(os.getpid()))"""
SHOW = "SegmentLabeler(pd.read_csv('{table}.csv'), {classes}, '{store}.sqlite', labeler='ann')"
BUSY = "while Path('busy').exists():\n    {work}"
SLEEPS, COMPUTES = "__import__('time').sleep(0.02)", "sum(i * i for i in range(20_000))"

# Before the page's own scripts: notes when operations leave and acknowledgements come, and records the loudspeaker.
PROBE = r"""(() => {
  const probe = window.probe = { sent: {}, acked: {}, saved: [], seen: [], pressed: 0, tape: [], rate: 0 };
  const note = (where, data, pattern) => {
    if (typeof data !== 'string' && !(data?.byteLength < 50000)) return;
    const text = typeof data === 'string' ? data : new TextDecoder('latin1').decode(data);
    const found = pattern.exec(text);
    if (found) where[found[1]] ??= performance.now();
  };
  const { send } = WebSocket.prototype;
  const [out, back] = [/"op": ?\{"uuid": ?"([0-9a-f-]{36})"/, /"type": ?"ack".{0,40}"uuid": ?"([0-9a-f-]{36})"/];
  WebSocket.prototype.send = function (data) { note(probe.sent, data, out); return send.call(this, data); };
  window.WebSocket = new Proxy(WebSocket, { construct(kind, rest) {
    const socket = new kind(...rest);
    socket.addEventListener('message', ({ data }) => note(probe.acked, data, back));
    return socket;
  } });
  const { connect } = AudioNode.prototype;
  const text = `registerProcessor('tape', class extends AudioWorkletProcessor {
    process([[sound]]) { this.port.postMessage(sound ? sound.slice() : new Float32Array(128)); return true; } })`;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      const { context } = this;
      probe.rate = context.sampleRate;
      context.audioWorklet.addModule(URL.createObjectURL(new Blob([text], { type: 'text/javascript' }))).then(() => {
        const tape = new AudioWorkletNode(context, 'tape');
        tape.port.onmessage = ({ data }) => { if (probe.taping) probe.tape.push(...data); };
        connect.call(this, tape);
        probe.ready = true;
      });
    }
    return connect.call(this, to, ...rest);
  };
  addEventListener('keydown', (event) => { probe.pressed += !event.repeat; }, true);
})()"""
# Milliseconds from Enter to the frame after the segment is drawn, and to "saved".
COMMITS = f"""() => {{
  const root = document.querySelector('{ROOT}:not([data-old])');
  let [drawn, saved] = [null, null];
  const begin = ({{ key, timeStamp }}) => {{ if (key === 'Enter') [drawn, saved] = [timeStamp, timeStamp]; }};
  addEventListener('keydown', begin, true);
  new MutationObserver(() => {{
    if (drawn === null) return;
    const since = drawn;
    drawn = null;
    requestAnimationFrame(() => probe.seen.push(performance.now() - since));
  }}).observe(root.querySelector('.atk-mirror'), {{ childList: true }});
  new MutationObserver(() => {{
    if (saved === null || root.dataset.saved !== 'saved') return;
    probe.saved.push(performance.now() - saved);
    saved = null;
  }}).observe(root, {{ attributeFilter: ['data-saved'] }});
}}"""
# Run a cell; milliseconds to the frames in which each of the conditions is true for the first time.
PAINTS = """async ([index, conditions, limit]) => {
  const panel = PANEL;
  document.querySelectorAll('[data-testid=labeler]').forEach((root) => { root.dataset.old = '1'; });
  const tests = conditions.map((text) => new Function(`return ${text}`));
  const times = conditions.map(() => null);
  panel.content.activeCellIndex = index;
  panel.content.widgets[index].model.outputs.clear();
  await new Promise((done) => requestAnimationFrame(done));
  const start = performance.now();
  window.jupyterapp.commands.execute('notebook:run-cell');
  while (times.includes(null) && performance.now() - start < limit) {
    await new Promise((done) => requestAnimationFrame(done));
    tests.forEach((test, place) => { if (times[place] === null && test()) times[place] = performance.now() - start; });
  }
  return times;
}""".replace("PANEL", PANEL)
READY = f"document.querySelector('{ROOT}:not([data-old])[data-ready=true]')"
# The middle of a canvas differs from its upper edge at most of ten places: a waveform is there.
WAVE = """((canvas) => {{
  if (!canvas || !canvas.width || !canvas.height) return false;
  const g = canvas.getContext('2d');
  const at = (x, y) => g.getImageData(Math.floor(canvas.width * x), Math.floor(canvas.height * y), 1, 1).data.join();
  return [1, 2, 3, 4, 5, 6, 7, 8, 9].filter((x) => at(x / 10 + 0.03, 0.5) !== at(x / 10 + 0.03, 0.06)).length >= 5;
}})({})"""
OVERVIEW = WAVE.format(f"document.querySelector('{ROOT}:not([data-old]) .atk-overview')")
PEER = WAVE.format(
    "[...document.querySelectorAll('.jp-OutputArea *')].find((node) => node.shadowRoot)?.shadowRoot"
    ".querySelector('.canvases canvas')"
)


class Table:
    """The rows that are printed, as they come."""

    def __init__(self) -> None:
        print("| quantity | p50 | p95 | n | target | |\n|---|---|---|---|---|---|", flush=True)

    def times(self, name: str, seconds: Sequence[float | None], target: str, p50: float = 0, p95: float = 0) -> None:
        """A row of times; `p50` and `p95` are the limits."""
        known = [value for value in seconds if value is not None]
        if not known:
            return self.row(name, "never", "", str(len(seconds)), target, False)
        middle, high = np.quantile(known, [0.5, 0.95])
        good = (not p50 or middle <= p50) and (not p95 or high <= p95) and len(known) == len(seconds)
        unit, scale = ("ms", 1000.0) if high < 0.01 else ("s", 1.0)
        middle_text, high_text = (f"{value * scale:.3f} {unit}" for value in (middle, high))
        return self.row(name, middle_text, high_text, str(len(seconds)), target, good if p95 else None)

    def row(self, name: str, middle: str, high: str, count: str, target: str, good: bool | None) -> None:
        verdict = {True: "met", False: "MISSED", None: ""}[good]
        print(f"| {name} | {middle} | {high} | {count} | {target} | {verdict} |", flush=True)


# --- what is looked at ------------------------------------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Sound and tables: clips of 10 s, an hour, and a ramp whose value tells the time."""
    rng = np.random.default_rng(0)
    beat = np.where(np.arange(SR) < SR // 2, 0.2, 0.002) * rng.normal(size=SR)
    clips = [(f"clip{k:02}", 10.0, f"person{k}") for k in range(CLIPS)]
    hour, ramp = ("hour", float(HOUR_S), "person"), ("ramp", RAMP_S, "nobody")
    for name, seconds, _ in [*clips, hour]:
        sf.write(folder / f"{name}.wav", np.tile(beat, int(seconds)).astype("float32"), SR, subtype="PCM_16")
    sf.write(folder / "ramp.wav", 0.05 + 0.9 * np.arange(int(RAMP_S * SR)) / (RAMP_S * SR), SR, subtype="PCM_16")
    tables = {"clip": clips[:1], "clips": clips, "hour": [hour], "all": [hour, *clips], "ramp": [ramp]}
    for table, rows in tables.items():
        frame = pd.DataFrame(rows, columns=["recording", "duration_s", "group"]).assign(sr=SR)
        frame.assign(path=[str(folder / f"{name}.wav") for name in frame["recording"]]).to_csv(folder / f"{table}.csv")


def begin(lab: Lab, name: str, table: str) -> None:
    """Open a notebook with a labeler and run its imports."""
    folder = lab.server.root
    shown = SHOW.format(table=table, classes=CLASSES, store=name)
    cells = [IMPORTS, shown, BUSY.format(work=SLEEPS), BUSY.format(work=COMPUTES)]
    lab.open(write_notebook(folder / f"{name}.ipynb", cells).name)


def paints(lab: Lab, index: int, conditions: Sequence[str], limit_s: float = 120) -> list[float | None]:
    """Seconds from the start of a cell until each condition was true; None: not within the limit."""
    times = lab.page.evaluate(PAINTS, [index, list(conditions), limit_s * 1000])
    return [None if value is None else value / 1000 for value in times]


def warm_kernel(lab: Lab) -> None:
    lab.run_cell(0)
    lab.wait(f"() => {PANEL}.content.widgets[0].model.executionCount > 0")
    lab.wait_for_kernel()


def press(lab: Lab, keys: str) -> None:
    for key in keys.split():
        lab.page.keyboard.press(key)


# --- parts ------------------------------------------------------------------------------------------------------------


def measure_paint(lab: Lab, table: Table, repeats: int) -> None:
    begin(lab, "paint", "clip")
    warm_kernel(lab)
    first, *again = [paints(lab, 1, [READY])[0] for _ in range(repeats + 1)]
    table.times("first paint of 10 s with spectrogram, first in a kernel", [first], "<= 0.4 s", p95=0.4)
    table.times("first paint of 10 s with spectrogram", again, "<= 0.4 s", p95=0.4)
    begin(lab, "paint_hour", "hour")
    warm_kernel(lab)
    cold, *times = [paints(lab, 1, [OVERVIEW, READY]) for _ in range(repeats + 1)]
    table.times("first paint of 1 h, overview, first in a kernel", [cold[0]], "<= 1.0 s", p95=1.0)
    table.times("first paint of 1 h, visible spectrogram, first in a kernel", [cold[1]], "<= 2.0 s", p95=2.0)
    table.times("first paint of 1 h, overview", [pair[0] for pair in times], "<= 1.0 s", p95=1.0)
    table.times("first paint of 1 h, visible spectrogram", [pair[1] for pair in times], "<= 2.0 s", p95=2.0)


def measure_heap(lab: Lab, table: Table, switches: int) -> None:
    begin(lab, "heap", "all")
    warm_kernel(lab)
    empty = heap(lab.page)
    lab.run_all()
    lab.page.focus(ROOT)
    opened = heap(lab.page)
    times: list[float | None] = []
    after = []
    for turn in range(2 * switches):  # from the hour through the clips and back
        key = ">" if (turn // CLIPS) % 2 == 0 else "<"
        before = lab.page.get_attribute(f"{ROOT}:not([data-old])", "data-position")
        start = time.perf_counter()
        press(lab, key)
        lab.page.wait_for_selector(f"{ROOT}[data-ready=true]:not([data-position='{before}']):not([data-old])")
        times.append(time.perf_counter() - start)
        if turn % switches == switches - 1:
            after.append(heap(lab.page))
    mega = 1e6
    told = f"{opened / mega:.0f} MB (Lab alone {empty / mega:.0f})"
    table.row("JS heap of the tab after opening 1 h", told, "", "1", "<= 120 MB", opened <= 120 * mega)
    told = f"{after[0] / mega:.0f} MB, then {after[1] / mega:.0f} MB"
    flat = after[1] - after[0] <= 5 * mega and after[1] <= 120 * mega
    table.row(f"JS heap after {switches} switches, and as many again", told, "", "1", "flat", flat)
    table.times("next recording with its picture (key to picture, seen from outside)", times, "")


def commits(lab: Lab, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the drawn segment, to "saved", and from socket to socket, of `count` segments."""
    lab.page.evaluate("() => { Object.assign(probe, { sent: {}, acked: {}, saved: [], seen: [] }); }")
    lab.page.focus(f"{ROOT}:not([data-old])")
    for number in range(count):
        press(lab, f"{'Home' if number % 8 == 0 else 'Escape'} {number % 3 + 1} s Shift+ArrowRight Enter")
        lab.wait_saved()
        press(lab, "Escape")
    lab.page.wait_for_function(f"probe.saved.length >= {count} && probe.seen.length >= {count}")
    probe = lab.page.evaluate("({ ...probe, tape: null })")
    trips = [probe["acked"][name] - sent for name, sent in probe["sent"].items() if name in probe["acked"]]
    return tuple([value / 1000 for value in values] for values in (probe["seen"], probe["saved"], trips))  # type: ignore[return-value]


def measure_commit(lab: Lab, table: Table, count: int) -> None:
    begin(lab, "commit", "clips")
    lab.run_all()
    lab.page.evaluate(COMMITS)
    cold = commits(lab, 1)
    table.times("label commit, the first after the widget is shown", cold[1], "", 0)
    seen, done, trips = commits(lab, count)
    table.times("label commit, key to acknowledgement", done, "<= 0.060 / 0.150 s", 0.060, 0.150)
    table.times("visible feedback, key to frame", seen, "<= 0.050 s", p95=0.050)
    table.times("message round trip with the disk, idle kernel", trips, "")


def measure_busy(lab: Lab, table: Table, count: int) -> None:
    sign = lab.server.root / "busy"
    begin(lab, "busy", "clips")
    lab.run_all()
    lab.page.evaluate(COMMITS)
    for index, name in ((2, "sleeps"), (3, "computes (pure Python)")):
        sign.touch()
        lab.run_cell(index)
        lab.wait(f"() => {PANEL}.content.widgets[{index}].model.executionState === 'running'")
        seen, done, trips = commits(lab, count)
        assert lab.running(index)
        sign.unlink()
        lab.wait(f"() => {PANEL}.content.widgets[{index}].model.executionState === 'idle'")
        table.times(f"message round trip with the disk while a cell {name}", trips, "<= 0.250 s", p95=0.250)
        table.times(f"label commit while a cell {name}", done, "")
        table.times(f"visible feedback while a cell {name}", seen, "<= 0.050 s", p95=0.050)


def measure_loop(lab: Lab, table: Table, count: int) -> None:
    rng = np.random.default_rng(1)
    starts = np.sort(rng.uniform(0.05, RAMP_S - 1.0, count))
    ends = starts + rng.uniform(0.15, 0.9, count)
    store = open_store(lab.server.root / "loop.sqlite")
    frame = pd.read_csv(lab.server.root / "ramp.csv", index_col=0)
    store.register(frame)
    store.append(
        make_operation("segment", "ann", "ramp", id=f"s{k:02}", start_s=a, end_s=b, class_name="dog")
        for k, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
    )
    begin(lab, "loop", "ramp")
    lab.run_all()
    lab.page.focus(ROOT)
    press(lab, "Space")
    lab.wait("() => probe.ready")
    press(lab, "Space Home Tab")
    errors: dict[str, list[float]] = {"loop start": [], "loop end": [], "end of one playing": []}
    for start, end in zip(starts, ends, strict=True):
        sound = _recorded(lab, "l", (end - start) * 3.3, stop="l")
        falls = np.flatnonzero(np.diff(sound) < -0.3 * (end - start))
        errors["loop end"] += [abs(sound[k - 2] + 2 / _rate(lab) - end) for k in falls if k > 2 and sound[k - 2] > 0]
        errors["loop start"] += [
            abs(sound[k + 3] - 2 / _rate(lab) - start) for k in falls if sound[k + 3] > start - 0.5
        ]
        sound = _recorded(lab, "p", end - start + 0.5)
        errors["end of one playing"].append(abs(sound[sound > start - 0.03].max() - end))
        press(lab, "Tab")
    for name, found in errors.items():
        rows = [float(value) for value in found]
        table.times(f"edge error, {name} (recorded)", rows, "<= 0.005 s", p95=0.005)


def _rate(lab: Lab) -> float:
    return float(lab.page.evaluate("probe.rate"))


def _recorded(lab: Lab, key: str, seconds: float, stop: str = "") -> np.ndarray:
    """Times (of the ramp) that were heard one after another; silence is negative."""
    lab.page.evaluate("() => { probe.tape = []; probe.taping = true; }")
    press(lab, key)
    lab.wait(f"() => probe.tape.length > {seconds * _rate(lab)}")
    values = lab.page.evaluate("() => { probe.taping = false; return probe.tape; }")
    if stop:
        press(lab, stop)
    lab.page.wait_for_selector(f"{ROOT}:not([data-old])[data-playing=false]")
    return (np.asarray(values) - 0.05) / 0.9 * RAMP_S


def measure_keys(lab: Lab, table: Table) -> None:
    begin(lab, "keys", "clips")
    lab.run_all()
    lab.page.focus(ROOT)
    at = f"Number(document.querySelector('{ROOT}').dataset.time)"
    press(lab, "Space")
    lab.page.evaluate("() => { probe.pressed = 0; }")
    for number in range(3):
        lab.wait(f"() => {at} > {number + 0.2}")
        press(lab, f"s {number + 1}")
        lab.wait(f"() => {at} > {number + 0.7}")
        press(lab, "Enter")
    marked = lab.page.evaluate("probe.pressed") / 3
    for number in range(3, 6):
        lab.wait(f"() => {at} > {number + 0.2}")
        lab.page.keyboard.down("1")
        lab.wait(f"() => {at} > {number + 0.8}")
        lab.page.keyboard.up("1")
    held = (lab.page.evaluate("probe.pressed") - 3 * marked) / 3
    lab.wait_saved()
    assert len(open_store(lab.server.root / "keys.sqlite").segments()) == 6
    told = f"{marked:.0f} (S, class, Enter), {held:.0f} (class held)"
    table.row("keys per labelled segment, other class each time", told, "", "6", "<= 4", max(marked, held) <= 4)


def measure_kills(lab: Lab, table: Table, kills: int) -> None:
    """Kill kernels (and reload the tab) at random moments of labeling."""
    rng = np.random.default_rng(2)
    lab.forget()
    begin(lab, "kills", "clips")
    lab.run_all()
    lost, unsent, killed, reloads, bare, took = 0, 0, 0, 0, 0, []
    store = open_store(lab.server.root / "kills.sqlite")
    while killed < kills:
        start = time.perf_counter()
        turn = killed + reloads
        only_tab, reload = turn % 10 == 9, turn % 5 == 4
        lab.save()
        lab.watch_kernel()
        killer = threading.Timer(rng.uniform(0, 1.0), _kill, [lab]) if not only_tab else None
        if killer:
            killer.start()
        _label_at_random(lab, rng, until=killer)
        if reload:
            lab.page.reload()
            reloads += 1
        if only_tab:
            bare += _needs_help(lab, lab.wait_ready)
        else:
            killed += 1
            _wait_for_new_kernel(lab) if reload else lab.wait_for_restart()
            lost += len(lab.acknowledged - set(store.operations()["uuid"]))
            bare += _needs_help(lab, lab.run_all)
        lab.wait_saved()
        known = set(store.operations()["uuid"])
        lost += len(lab.acknowledged - known)
        unsent += len(set(lab.sent) - known)
        took.append(time.perf_counter() - start)
        if turn % 10 == 0:
            told = f"{killed} kills, {reloads} reloads: {lost} of {len(lab.acknowledged)} acknowledged operations lost"
            print(told, file=sys.stderr, flush=True)
    told = f"{lost} of {len(lab.acknowledged)}"
    name = f"acknowledged operations lost, {killed} kills, {reloads} reloads"
    table.row(name, told, "", str(len(took)), "0", lost == 0)
    table.row("operations sent and never stored", f"{unsent} of {len(lab.sent)}", "", "", "0", unsent == 0)
    table.row("times that Jupyter showed nothing until the cells were run (again)", str(bare), "", "", "0", bare == 0)
    table.times("(one kill, restart and rerun)", took, "")


def _needs_help(lab: Lab, bring_back: Callable[[], None]) -> bool:
    """Whether Jupyter shows no labeler after `bring_back`; then the cells are run (again), as a person would."""
    try:
        bring_back()
    except AssertionError as err:
        print(err, file=sys.stderr, flush=True)
        lab.run_all()
        return True
    return False


def _kill(lab: Lab) -> None:
    os.kill(int((lab.server.root / "kernel.pid").read_text()), signal.SIGKILL)


def _label_at_random(lab: Lab, rng: np.random.Generator, until: threading.Timer | None) -> None:
    """Label on until the kernel is dead, and once more; for reloads, a random number of segments."""
    lab.page.focus(f"{ROOT}:not([data-old])")
    number, most = 0, int(rng.integers(1, 8))
    while until.is_alive() if until else number < most:
        press(lab, f"{'Home' if number % 8 == 0 else 'Escape'} {rng.integers(1, 4)} s Shift+ArrowRight Enter")
        lab.page.wait_for_timeout(float(rng.uniform(0, 60)))
        number += 1
    if until:
        until.join()
        press(lab, "Home s Shift+ArrowRight Enter")


def _wait_for_new_kernel(lab: Lab) -> None:
    """After a reload: the server has started a new kernel, and it answers this page."""
    dead = int((lab.server.root / "kernel.pid").read_text())
    while all(
        child.pid == dead or child.status() == "zombie" for child in psutil.Process(lab.server.process.pid).children()
    ):
        time.sleep(0.05)
    lab.wait(f"() => {KERNEL}")
    lab.wait_for_answer()


class Raw:
    """A Chromium spoken to without Playwright, which reads every frame of a socket and dies of 300 MB in one."""

    def __init__(self, folder: Path) -> None:
        options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--window-size=1280,900"]
        command = [str(find_chromium()), *CHROMIUM, *options, "--remote-allow-origins=*", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = folder / "DevToolsActivePort"
        while not told.exists() or not told.read_text():
            time.sleep(0.1)
        port = told.read_text().split()[0]
        targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        place = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        self.socket, self.number = websocket.create_connection(place, timeout=400), 0
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a call of the DevTools protocol."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        return dict(answer["result"])

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script:.80}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            if time.monotonic() > until:
                raise RuntimeError(f"waited {PATIENCE_S} s for {condition}")
            time.sleep(0.1)

    def heap(self) -> float:
        self.call("HeapProfiler.collectGarbage")
        held = self.call("Runtime.getHeapUsage")
        return float(held["usedSize"] + held.get("backingStorageSize", 0))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()


def measure_beside(python: str, folder: Path, table: Table, repeats: int) -> None:
    """Ours and ipyannote in the same browser, on the same clip and the same hour."""
    peer = ["from ipyannote import IAnnotation", "IAnnotation('clip00.wav')", "IAnnotation('hour.wav')"]
    ours = [IMPORTS, *(SHOW.format(table=name, classes=CLASSES, store="beside") for name in ("clip", "hour"))]
    both = {"ours, with spectrogram": (ours, READY, sys.executable), "ipyannote, waveform only": (peer, PEER, python)}
    for number, (name, (cells, shown, executable)) in enumerate(both.items()):
        write_notebook(folder / f"beside{number}.ipynb", cells)
        with (
            jupyterlab(folder, folder.parent / f"beside{number}", executable) as server,
            closing(Raw(folder.parent / f"chromium{number}")) as browser,
        ):
            _beside(browser, server, f"beside{number}.ipynb", name, shown, table, repeats)


def _beside(browser: Raw, server: Server, notebook: str, name: str, shown: str, table: Table, repeats: int) -> None:
    """The rows of one of the two; `shown` is true when its picture is complete."""
    panel, idle = PANEL.replace("?.", "."), f"{KERNEL}?.status === 'idle' && {KERNEL}.connectionStatus === 'connected'"
    browser.call("Page.navigate", url=f"{server.url}lab/workspaces/beside/tree/{notebook}?reset&token={server.token}")
    browser.wait(idle)
    browser.evaluate(f"void ({panel}.content.activeCellIndex = 0)")
    browser.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
    browser.wait(f"{PANEL}.content.widgets[0].model.executionCount > 0 && {idle}")
    empty = browser.heap()

    def paint(index: int) -> float | None:
        taken = browser.evaluate(f"({PAINTS})([{index}, {json.dumps([shown])}, 300000])")[0]
        return None if taken is None else taken / 1000

    first, *again = [paint(1) for _ in range(repeats + 1)]
    table.times(f"first paint of 10 s, first in a kernel: {name}", [first], "(side by side)")
    table.times(f"first paint of 10 s: {name}", again, "(side by side)")
    browser.evaluate(f"{panel}.content.widgets[1].model.outputs.clear()")
    table.times(f"first paint of 1 h: {name}", [paint(2)], "(side by side)")
    told = f"{browser.heap() / 1e6:.0f} MB (Lab alone {empty / 1e6:.0f})"
    table.row(f"JS heap of the tab after opening 1 h: {name}", told, "", "1", "(side by side)", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=10, help="of paints")
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--only", default="paint,heap,commit,busy,loop,keys,kills,peer")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with ipyannote and jupyterlab")
    given = parser.parse_args()
    print(f"load average at the start {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made) / "notebooks"
        folder.mkdir()
        make_folder(folder)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script(PROBE)
        table = Table()
        with jupyterlab(folder, Path(made) / "home") as server:
            lab = Lab(context.new_page(), server)
            parts: dict[str, Callable[[], None]] = {
                "paint": lambda: measure_paint(lab, table, given.repeats),
                "heap": lambda: measure_heap(lab, table, 50),
                "commit": lambda: measure_commit(lab, table, given.commits),
                "busy": lambda: measure_busy(lab, table, max(given.commits // 3, 3)),
                "loop": lambda: measure_loop(lab, table, 20),
                "keys": lambda: measure_keys(lab, table),
                "kills": lambda: measure_kills(lab, table, given.kills),
            }
            for name, part in parts.items():
                if name in given.only.split(","):
                    part()
            outside = len(lab.outside)
            table.row("requests to other machines", str(outside), "", "", "0", outside == 0)
            if lab.troubles:
                print("\nerrors in the page:", *lab.troubles, sep="\n  ")
        if given.peer and "peer" in given.only.split(","):
            measure_beside(given.peer, folder, table, given.repeats)
        browser.close()
    print(f"\nload average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
