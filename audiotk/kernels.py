"""One process a notebook: start it, follow it cell by cell, end it.

`Crew` belongs to the process that runs notebooks; ``python -m audiotk.kernels`` is the worker that it starts for
each. The worker reads its job from the first line of its standard input, answers with one JSON object a line, and ends
itself and its kernel when that input closes, so a killed parent leaves nothing behind.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiotk.errors import NotForThisData

KERNEL_NAME = "audiotk-run"
TICK_S = 0.5
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Crew:
    """The notebooks that run now.

    Parameters
    ----------
    out
        The run folder: ``out/NAME.ipynb`` appears when the notebook NAME has ended.
    size
        How many notebooks run at the same time.
    threads
        Threads that each may use for numerics; None leaves it to the libraries.
    """

    def __init__(self, out: Path, size: int, threads: int | None = None) -> None:
        self.out, self.size, self.peak_mb = out, size, 0.0
        self._measure_at = 0.0
        self.running: dict[str, subprocess.Popen[str]] = {}
        self._began: dict[str, float] = {}
        self._events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._private = tempfile.TemporaryDirectory(prefix="audiotk-")
        self._environment = _environment(Path(self._private.name), threads)

    def has_room(self) -> bool:
        return len(self.running) < self.size

    def start(self, name: str, path: Path, parameters: Mapping[str, Any]) -> None:
        """Start the notebook at `path`; `wait` tells how it goes."""
        job = {"path": str(path), "out": str(self.out), "name": name, "parameters": dict(parameters)}
        log = Path(self._private.name) / f"{name}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "audiotk.kernels"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment,
                start_new_session=True,  # Ctrl+C reaches us alone, and we end the others in order
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        self.running[name], self._began[name] = process, time.monotonic()
        threading.Thread(target=self._listen, args=(name, process, log), daemon=True).start()

    def wait(self, each_tick: Callable[[], None]) -> tuple[str, dict[str, Any]]:
        """Block until something happens and return it: the name of the notebook and an event.

        An event holds ``cell`` and ``of``, or, when the notebook has ended, ``status`` (finished, failed, not
        applicable), ``seconds``, ``peak_memory_mb`` and ``error`` (None, or name, text, cell, traceback).
        """
        while True:
            if time.monotonic() > self._measure_at:
                began = time.monotonic()
                self._measure()
                took = time.monotonic() - began  # half a second for large processes: at most a fiftieth of the time
                self._measure_at = began + max(TICK_S, 50 * took)
            each_tick()
            try:
                name, event = self._events.get(timeout=TICK_S)
            except queue.Empty:
                continue
            if "status" in event:
                event["seconds"] = round(time.monotonic() - self._began[name], 1)
                del self.running[name]
            return name, event

    def stop(self) -> None:
        """End what still runs, kernels included; a worker that does not listen within ten seconds is killed."""
        import psutil

        family = {name: _family(process.pid) for name, process in self.running.items()}
        for process in self.running.values():
            assert process.stdin is not None
            process.stdin.close()
        _, alive = psutil.wait_procs([member for members in family.values() for member in members], timeout=10)
        for member in alive:
            member.kill()
        for name in self.running:
            (self.out / f".{name}.partial.ipynb").unlink(missing_ok=True)
        self.running.clear()
        self._private.cleanup()

    def _listen(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        """Turn the worker's lines into events; a worker that ends without a status has failed."""
        ended = False
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            ended = ended or "status" in event
            self._events.put((name, event))
        code = process.wait()
        if not ended:
            why = f"the process that ran it ended with code {code}" + (
                ", perhaps for want of memory" if code == -9 else ""
            )
            error = {
                "name": "Killed",
                "text": why,
                "cell": None,
                "traceback": log.read_text("utf-8", "replace")[-4000:],
            }
            self._events.put((name, {"status": "failed", "peak_memory_mb": None, "error": error}))

    def _measure(self) -> None:
        """Keep the largest memory (MB) that our processes had together; on Linux, pages that they share count once."""
        import psutil

        total = 0
        for process in [psutil.Process(), *_family(os.getpid())]:
            try:
                told = process.memory_full_info() if sys.platform == "linux" else process.memory_info()
                total += getattr(told, "pss", told.rss)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended between the two calls
        self.peak_mb = max(self.peak_mb, total / 2**20)


class Display:
    """One line a notebook on standard error; rewritten in place on a terminal, one after the other elsewhere."""

    def __init__(self, names: Sequence[str], shown: bool) -> None:
        self._lines = dict.fromkeys(names, "waiting")
        self._began: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._width = max(map(len, names)) + 2
        self._shown, self._live, self._drawn = shown, shown and sys.stderr.isatty(), False

    def state(self, name: str, text: str, ended: bool = False) -> None:
        """The notebook `name` is at `text`; its clock starts at the first call and stops when it has `ended`."""
        now = time.monotonic()
        self._began.setdefault(name, now)
        if ended:
            self._seconds[name] = now - self._began[name]
        self._lines[name] = text
        if self._shown and not self._live:
            print(self._line(name), file=sys.stderr, flush=True)
        self.refresh()

    def refresh(self) -> None:
        """Draw all lines anew, on a terminal."""
        if self._live:
            up = f"\x1b[{len(self._lines)}A" if self._drawn else ""
            body = "".join(f"\x1b[2K{self._line(name)}\n" for name in self._lines)
            print(up + body, end="", file=sys.stderr, flush=True)
            self._drawn = True

    def _line(self, name: str) -> str:
        seconds = self._seconds.get(name, time.monotonic() - self._began.get(name, time.monotonic()))
        clock = f"{int(seconds // 60)}:{int(seconds % 60):02d}" if seconds >= 1 else ""
        return f"{name:<{self._width}}{clock:>7}  {self._lines[name]}"


def _family(pid: int) -> list[Any]:
    """All processes below `pid`, and `pid` itself unless it is ours."""
    import psutil

    try:
        root = psutil.Process(pid)
        return ([] if pid == os.getpid() else [root]) + root.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _environment(private: Path, threads: int | None) -> dict[str, str]:
    """Environment of the workers, in which `KERNEL_NAME` means this very Python, whatever kernels are installed."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "audiotk run",
        "language": "python",
    }
    folder = private / "kernels" / KERNEL_NAME
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec), "utf-8")
    chosen = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    ours = {
        "AUDIOTK_HEADLESS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures go into the notebook
        "JUPYTER_PATH": str(private),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "IPYTHONDIR": str(private / "ipython"),
    }
    return chosen | os.environ | ours


# --- the worker -----------------------------------------------------------------------------------------------------


def _work() -> None:
    """Execute the notebook that standard input names; leave ``out/NAME.ipynb``, whole, whether it failed or not."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import papermill
    from papermill.exceptions import PapermillExecutionError

    out, name = Path(job["out"]), job["name"]
    out.mkdir(parents=True, exist_ok=True)
    draft, done = out / f".{name}.partial.ipynb", out / f"{name}.ipynb"
    cells = json.loads(Path(job["path"]).read_text("utf-8"))["cells"]
    total = sum(cell["cell_type"] == "code" for cell in cells) + bool(
        job["parameters"]
    )  # papermill adds a cell for these
    count = itertools.count(1)
    error, status = None, "finished"
    try:
        papermill.execute_notebook(
            _escaped(job["path"]),
            _escaped(draft),
            parameters=job["parameters"],
            kernel_name=KERNEL_NAME,
            language="python",
            progress_bar=False,
            store_widget_state=False,
            on_cell_start=lambda cell, **_: _tell(cell=next(count), of=total) if cell.cell_type == "code" else None,
        )
    except PapermillExecutionError as err:
        lines = "\n".join(err.traceback)
        error = {"name": err.ename, "text": err.evalue, "cell": err.exec_count, "traceback": _ANSI.sub("", lines)}
        status = "not applicable" if err.ename == NotForThisData.__name__ else "failed"
    except (
        Exception
    ) as err:  # a dead kernel, a full disk: the notebook failed, the others go on, and the reader sees why
        error = {"name": type(err).__name__, "text": str(err), "cell": None, "traceback": traceback.format_exc()}
        status = "failed"
    if draft.exists():
        os.replace(draft, done)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    _tell(status=status, error=error, peak_memory_mb=round(peak))


def _tell(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def _escaped(path: str | Path) -> str:
    """papermill fills ``{name}`` in paths; ours are meant as they stand."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _end_with_parent() -> None:
    """Wait until the parent closes our input (or dies); then the signal makes nbclient end the kernel."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _work()
