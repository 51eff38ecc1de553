"""Real notebook servers for browser tests and benchmarks: JupyterLab and Voila on this machine, and a tab of a browser.

Servers keep to themselves: folders of their own for settings and kernels, a token, a port nobody else has, no news, no
look-ups. A :class:`Tab` watches what its page asks for and what goes over its sockets; :meth:`Tab.check` is the demand
that nothing went wrong and nothing left this machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = "[data-testid=labeler]"
PATIENCE_S = 90  # for one thing to happen on a busy machine
AT_HOME = {"127.0.0.1", "localhost", ""}
CHROMIUM = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]
OP = re.compile(rb'"op": ?\{"uuid": ?"([0-9a-f-]{36})", ?"kind": ?"(\w+)"')
ACK = re.compile(rb'"type": ?"ack",(?: ?"id": ?\d+,)? ?"uuid": ?"([0-9a-f-]{36})"')
LAB = {
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    },
    "JupyterNotebookApp": {"expose_app_in_browser": True},
    "ServerApp": {"jpserver_extensions": {"jupyter_lsp": False, "jupyter_server_terminals": False}},
    "KernelRestarter": {"time_to_dead": 0.5, "restart_limit": 100_000},  # tests kill kernels on purpose
}
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


class Server:
    """A running server of notebooks in `root`; `url` ends with a slash."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, root: Path, log: Path) -> None:
        self.process, self.root, self.log = process, root, log
        self.url, self.token = f"http://127.0.0.1:{port}/", ""

    def stop(self) -> None:
        """End the server; it ends its kernels."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def jupyterlab(root: Path, home: Path, python: str = sys.executable, module: str = "jupyterlab") -> Iterator[Server]:
    """JupyterLab over the folder `root` (or Notebook 7: module "notebook"); `home` takes what it leaves."""
    config = home / "config" / "labconfig"
    config.mkdir(parents=True, exist_ok=True)
    (config / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    (home / "config" / "jupyter_server_config.json").write_text(json.dumps(LAB))
    command = [python, "-m", module, "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={root}"]
    command += ["--allow-root", "--ServerApp.port_retries=0"]
    token = secrets.token_hex(16)
    with _served(command, "ServerApp", "IdentityProvider", token, root, home, "api/status") as server:
        yield server


@contextmanager
def voila(notebook: Path, home: Path) -> Iterator[Server]:
    """Voila showing one notebook, as ``make labeler`` starts it."""
    make = ["make", "--dry-run", "--old-file=.venv/.audiotk-setup", "--no-print-directory", "labeler", f"NB={notebook}"]
    told = subprocess.run(make, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True).stdout
    command = [sys.executable, "-m", "voila", *shlex.split(told)[1:], "--no-browser", "--Voila.port_retries=0"]
    token = secrets.token_hex(16)
    with _served(command, "Voila", "Voila", token, notebook.parent, home, "voila/static/voila.js") as server:
        yield server


@contextmanager
def _served(
    command: Sequence[str], port_of: str, token_of: str, token: str, root: Path, home: Path, probe: str
) -> Iterator[Server]:
    """Start a server, wait until it answers, and end it. Another process may take the port first: then once more."""
    names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    names |= {"IPYTHONDIR": "ipython", "XDG_CACHE_HOME": "cache"}
    environment = {key: value for key, value in os.environ.items() if key != "AUDIOTK_HEADLESS"}
    environment |= {name: str(home / folder) for name, folder in names.items()}
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    for attempt in range(3):
        port = _free_port()
        with log.open("wb") as out:
            arguments = [*command, f"--{port_of}.port={port}", f"--{token_of}.token={token}"]
            process = subprocess.Popen(arguments, env=environment, cwd=root, stdout=out, stderr=out)
        server = Server(process, port, root, log)
        server.token = token
        try:
            if _answers(server, probe):
                yield server
                return
            if attempt == 2:
                raise RuntimeError(f"{command[2]} did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(server: Server, probe: str) -> bool:
    """Wait until the server answers; False if it ended instead."""
    until = time.monotonic() + PATIENCE_S
    while server.process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{server.url}{probe}?token={server.token}", timeout=5).close()
            return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.1)
    return False


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """A notebook of code cells."""
    from nbformat import v4, write

    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write(notebook, path)
    return path


# What runs in the page. `panel` is the notebook on top, `session` its kernel's.
PANEL = "window.jupyterapp?.shell.currentWidget"
KERNEL = f"{PANEL}?.sessionContext?.session?.kernel"


class Tab:
    """A tab of the browser, and what was seen in it: `sent` (operation -> kind) and `acknowledged` operations."""

    def __init__(self, page: Any) -> None:
        self.page, self.troubles, self.outside = page, [], []
        self.sent: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.largest_frame = 0
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("requestfailed", self._refused)
        page.on("websocket", self._watch)

    def _asked(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname not in AT_HOME:
            self.outside.append(url)

    def _refused(self, request: Any) -> None:
        """What the page's own policy forbade never left."""
        if request.failure == "csp" and request.url in self.outside:
            self.outside.remove(request.url)

    def _watch(self, socket: Any) -> None:
        self._asked(socket.url)
        socket.on("framesent", lambda frame: self.sent.update(_found(OP, frame)))
        socket.on("framereceived", self._hear)

    def _hear(self, frame: str | bytes) -> None:
        self.largest_frame = max(self.largest_frame, len(frame))
        self.acknowledged.update(_found(ACK, frame))

    def forget(self) -> None:
        """Begin anew to note what is seen."""
        self.sent.clear()
        self.acknowledged.clear()
        self.largest_frame = 0

    def check(self) -> None:
        """Nothing failed in the page, and nothing was asked of another machine."""
        assert self.outside == []
        assert self.troubles == []

    def wait_saved(self) -> None:
        """Wait until the labeler says that all is on the disk."""
        self._wait_for("[data-saved=saved]")

    def wait_ready(self) -> None:
        """Wait until the labeler shows a recording with its picture."""
        self._wait_for("[data-ready=true]")

    def _wait_for(self, state: str) -> None:
        try:
            self.page.wait_for_selector(f"{ROOT}:not([data-old]){state}")
        except Exception as err:
            said = self.page.eval_on_selector_all(ROOT, "roots => roots.map((root) => ({ ...root.dataset }))")
            said += self.page.locator(".atk-saved, .atk-status, .jp-OutputArea, .jp-Dialog").all_inner_texts()
            waiting = {name: kind for name, kind in self.sent.items() if name not in self.acknowledged}
            raise AssertionError(f"no {state}: {said}, sent without an answer: {waiting}, {self.troubles}") from err

    def wait(self, predicate: str, argument: Any = None) -> None:
        """Wait for a *synchronous* JavaScript expression to be true."""
        self.page.wait_for_function(predicate, arg=argument)


class Lab(Tab):
    """A tab of JupyterLab."""

    def __init__(self, page: Any, server: Server) -> None:
        super().__init__(page)
        self.server = server

    def visit(self, notebook: str, workspace: str = "test") -> None:
        """Load JupyterLab with this notebook, and wait for its kernel."""
        self.page.goto(f"{self.server.url}lab/workspaces/{workspace}/tree/{notebook}?reset&token={self.server.token}")
        self.wait_for_kernel()

    def open(self, notebook: str) -> None:
        """Show another notebook in this tab; the one before is closed, its kernel ended."""
        if self.page.url == "about:blank":
            return self.visit(notebook)
        script = f"""async (path) => {{
          const panel = {PANEL}, app = window.jupyterapp;
          await panel.sessionContext.shutdown();
          panel.dispose();
          await app.commands.execute('docmanager:open', {{ path }});
        }}"""
        self.page.evaluate(script, notebook)
        self.wait(f"(path) => {PANEL}?.context?.path === path", notebook)
        return self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.wait(f"() => {KERNEL}?.status === 'idle' && {KERNEL}.connectionStatus === 'connected'")

    def wait_for_answer(self) -> None:
        """Wait until the kernel answers this page; a status may be of the connection before."""
        script = f"""Promise.race([{KERNEL}.requestKernelInfo().then(() => true, () => false),
          new Promise((late) => setTimeout(late, 5000, false))])"""
        until = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(script):
            assert time.monotonic() < until, "the kernel does not answer"
        self.wait_for_kernel()

    def command(self, name: str) -> None:
        """Start a command of JupyterLab; what it does may go on after this."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)

    def run_all(self) -> None:
        """Run all cells and wait for the labeler that they show; one that is there already does not count."""
        mark = f"document.querySelectorAll('{ROOT}').forEach((root) => {{ root.dataset.old = '1'; }})"
        self.page.evaluate(f"() => {{ {mark}; }}")
        self.command("notebook:run-all-cells")
        self.wait_ready()

    def run_cell(self, index: int) -> None:
        """Start one cell; does not wait for its end."""
        self.page.evaluate(f"(index) => {{ const panel = {PANEL}; panel.content.activeCellIndex = index; }}", index)
        self.command("notebook:run-cell")

    def running(self, index: int) -> bool:
        """Whether a cell is waited for. (The kernel's own state is of its last message, which may be a widget's.)"""
        script = f"(index) => {PANEL}.content.widgets[index].model.executionState === 'running'"
        return bool(self.page.evaluate(script, index))

    def cells(self) -> list[str]:
        """Sources of the notebook's cells."""
        return list(self.page.evaluate(f"[...{PANEL}.content.model.cells].map((cell) => cell.sharedModel.source)"))

    def save(self) -> None:
        self.page.evaluate(f"{PANEL}.context.save()")

    def watch_kernel(self) -> None:
        """Begin to note the states of the kernel, for `wait_for_restart`."""
        note = f"window.states = []; {KERNEL}.statusChanged.connect((_, state) => window.states.push(state));"
        self.page.evaluate(f"() => {{ {note} }}")

    def wait_for_restart(self) -> None:
        """Wait until the kernel died and the server's new one is ready; take away what JupyterLab says about it."""
        self.wait("window.states.some((state) => state.endsWith('restarting')) && window.states.at(-1) === 'idle'")
        self.page.eval_on_selector_all(
            ".jp-Dialog .jp-mod-accept", "buttons => buttons.forEach((node) => node.click())"
        )
        self.wait_for_answer()


def heap(page: Any) -> float:
    """Bytes of JavaScript that a tab holds after a collection, with what its array buffers hold."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    held = session.send("Runtime.getHeapUsage")
    session.detach()
    return float(held["usedSize"] + held.get("backingStorageSize", 0))


def _found(pattern: re.Pattern[bytes], frame: str | bytes) -> Any:
    """What a pattern finds in a frame, unless the frame is sound or pictures."""
    text = frame.encode() if isinstance(frame, str) else frame
    groups = pattern.findall(text) if len(text) < 200_000 else []
    is_pair = pattern.groups == 2
    return [(a.decode(), b.decode()) for a, b in groups] if is_pair else [found.decode() for found in groups]
