"""Run notebooks: parameters checked first, in parallel where independent, resumable, one table of results.

A run folder holds, for each notebook ``NAME.ipynb``, the executed copy ``NAME.ipynb`` and the folder ``NAME/`` that
the notebook gets as its parameter ``out``; ``results.jsonl`` with the rows of all finished notebooks; and ``run.json``:
what ran, when, with which parameters, versions and memory. A later call reads it and skips what is finished.
``claims.jsonl`` is joined in the same way, see :mod:`audiotk.claims`.

A notebook says what must run before it in its metadata: ``{"audiotk": {"needs": ["00_quickstart"]}}``. One that sums
up says ``{"audiotk": {"last": true}}``: it runs when all others have ended, however they did, and again when one did.
One that keeps all processors busy says ``{"audiotk": {"alone": true}}``: but for scale smoke none runs beside it.
"""

from __future__ import annotations

import ast
import difflib
import graphlib
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audiotk.claims import CLAIMS_FILE
from audiotk.errors import AudiotkError
from audiotk.files import atomic, circumstances, cores
from audiotk.fingerprints import data_hash, data_paths, package_hash
from audiotk.kernels import Crew, Display
from audiotk.results import RESULT_COLUMNS as RESULT_COLUMNS
from audiotk.results import RESULTS_FILE, parameters_told, read_lines
from audiotk.results import append_results as append_results
from audiotk.results import read_results as read_results

MANIFEST_FILE = "run.json"
MERGED = (RESULTS_FILE, CLAIMS_FILE)


@dataclass(frozen=True)
class Notebook:
    """A notebook ready to run: `key` changes with its source, parameters, data, package and what it needs."""

    name: str
    path: Path
    needs: tuple[str, ...]
    parameters: dict[str, Any]
    key: str
    told: dict[str, str]  # seed_list, settings (columns of its rows, see `audiotk.results`) and scale
    after: tuple[str, ...] = ()  # what it waits for
    alone: bool = False


def find_notebooks(paths: Iterable[str | Path]) -> list[Path]:
    """The notebooks that `paths` (files, or folders of them) name, in order.

    Raises
    ------
    AudiotkError
        A path is missing or no notebook, a folder holds none, or two notebooks share a name.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
        if not inside:
            raise AudiotkError(f"{path}: no notebook (*.ipynb) in this folder")
        found.extend(inside)
    for path in found:
        if path.suffix != ".ipynb" or not path.is_file():
            raise AudiotkError(f"{path}: expected a notebook (*.ipynb) or a folder of them, but there is none here")
    names = [path.stem for path in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise AudiotkError(f"notebooks need different names, but these come twice: {twice}")
    if not found:
        raise AudiotkError("expected at least one notebook")
    return found


def notebook_parameters(path: str | Path) -> dict[str, Any]:
    """Names and default values in the cell tagged ``parameters`` of the notebook at `path`; empty without such a cell.

    Raises
    ------
    AudiotkError
        The file is no notebook, or the cell holds anything but ``NAME = LITERAL``.
    """
    source = "\n".join(
        "".join(cell["source"])
        for cell in read_notebook(path)["cells"]
        if "parameters" in cell["metadata"].get("tags", ())
    )
    parameters = {}
    try:
        for line in ast.parse(source).body:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            if not isinstance(target, ast.Name):
                raise ValueError(f"line {line.lineno} does something else")
            parameters[target.id] = ast.literal_eval(line.value)  # type: ignore[attr-defined]
    except (ValueError, SyntaxError) as err:
        raise AudiotkError(f"{path}: the cell tagged 'parameters' may only hold NAME = LITERAL: {err}") from err
    return parameters


def notebook_values(paths: Iterable[str | Path], parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By name of the notebook: its parameters as they are with `parameters`, which are read as `run_notebooks` does.

    Raises
    ------
    AudiotkError
        A parameter is unknown or of the wrong type.
    """
    return {name: own | given for name, (own, given) in _asked(find_notebooks(paths), parameters).items()}


def read_notebook(path: str | Path) -> dict[str, Any]:
    """The notebook at `path` as plain JSON (format 4), or an AudiotkError that names it."""
    try:
        notebook = json.loads(Path(path).read_text("utf-8"))
        if not isinstance(notebook, dict) or notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise KeyError("nbformat 4 and cells")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as err:
        raise AudiotkError(f"{path}: not a notebook of format 4: {err}") from err
    return notebook


def read_manifest(out: str | Path) -> dict[str, Any]:
    """What ``run.json`` in the folder `out` says; a fresh manifest without notebooks when there is none."""
    path = Path(out) / MANIFEST_FILE
    if not path.exists():
        if (Path(out) / RESULTS_FILE).exists():
            raise AudiotkError(
                f"{out}: holds {RESULTS_FILE} but no {MANIFEST_FILE}, so it is not a run folder: choose another --out"
            )
        return {"notebooks": {}}
    try:
        return json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as err:
        raise AudiotkError(f"{path}: not JSON ({err}); delete it to run everything again") from err


def run_notebooks(
    paths: Iterable[str | Path],
    out: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    jobs: int | None = None,
    resume: bool = True,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Execute notebooks into the run folder `out`.

    Every notebook runs in a kernel of this Python, in the current folder, so relative paths mean what the caller typed;
    gets ``out/NAME`` as its parameter ``out``; and sees ``AUDIOTK_HEADLESS=1``. A notebook that fails is recorded,
    those that need it are not run, all others are.

    Parameters
    ----------
    paths
        Notebooks, or folders of them.
    out
        The run folder, made when missing.
    parameters
        Values by name. Text is read as the type of the default it replaces (``"[0, 1]"`` for a list). A notebook gets
        those that it knows; a name that no notebook knows is an error before anything runs.
    jobs
        How many notebooks run at the same time; default: the number of cores.
    resume
        Skip a notebook that finished in `out` with the same source, parameters, package and data: names, sizes and
        times of change of all files below a parameter value that is a path. False runs everything from scratch.
    progress
        Show the state of each notebook on standard error.

    Returns
    -------
    dict
        By notebook name: ``status`` (finished, failed, not run, not applicable), ``seconds``, ``peak_memory_mb``,
        ``error``, ...

    Raises
    ------
    AudiotkError
        A parameter is unknown or of the wrong type, a needed notebook is absent, or `out` cannot be used.
    KeyboardInterrupt
        Passed on after all kernels were ended; the same call again goes on where this one stopped.
    """
    out = Path(out)
    manifest = read_manifest(out)
    plan = _plan(find_notebooks(paths), out, dict(parameters or {}), manifest)
    jobs = min(cores() if jobs is None else jobs, len(plan))
    if jobs < 1:
        raise AudiotkError(f"jobs: expected 1 or more, got {jobs}")
    manifest |= circumstances() | {"status": "running", "started": _now()}  # of this call; entries keep their own
    began = time.monotonic()
    crew = Crew(out, jobs, threads=max(1, cores() // jobs) if jobs > 1 else None)
    display = Display(list(plan), progress)
    try:
        _execute(plan, crew, manifest, display, out, resume)
        manifest["status"] = "ended"
    except BaseException:
        manifest["status"] = "interrupted"
        raise
    finally:
        crew.stop()
        manifest |= {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(crew.peak_mb)}
        _write_manifest(out, manifest)
    return {name: manifest["notebooks"][name] for name in plan}


def _execute(
    plan: Mapping[str, Notebook], crew: Crew, manifest: dict[str, Any], display: Display, out: Path, resume: bool
) -> None:
    """Run `plan` with `crew`; write manifest and results after each notebook: a kill loses only what was running."""
    entries = manifest["notebooks"]
    before = dict(entries)
    sorter = graphlib.TopologicalSorter({name: set(nb.after) & set(plan) for name, nb in plan.items()})
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        ready.extend(sorter.get_ready())
        settled = []  # without running
        for name in ready[:] if crew.has_room() else []:
            nb, old = plan[name], before.get(name, {})
            if blocked := ", ".join(need for need in nb.needs if entries[need]["status"] != "finished"):
                error = {"name": "Needs", "text": blocked}
                entries[name] = _entry(nb, manifest) | {"status": "not run", "error": error}
                display.state(name, f"not run, needs {blocked}", ended=True)
                settled.append(name)
            elif resume and _is_finished(out, nb, old):
                display.state(name, f"finished before, {old['started']}", ended=True)
                settled.append(name)
            elif crew.has_room() and not (crew.running and any(plan[one].alone for one in (name, *crew.running))):
                aside = _clear(out, name, old, whole=bool(old) and (not resume or old["key"] != nb.key))
                entries[name] = _entry(nb, manifest) | {"status": "running"}
                _merge_results(out, entries)
                _write_manifest(out, manifest)
                crew.start(name, nb.path, nb.parameters)
                display.state(name, f"starting; what was there is now in {aside}" if aside else "starting")
                ready.remove(name)
        for name in settled:
            ready.remove(name)
            sorter.done(name)
        if crew.running and not settled:
            name, event = crew.wait(display.refresh)
            if "status" in event:
                entries[name] |= event
                display.state(name, f"{event['status']}, {event['peak_memory_mb'] or '?'} MB", ended=True)
                _merge_results(out, entries)
                _write_manifest(out, manifest)
                sorter.done(name)
            else:
                display.state(name, f"cell {event['cell']}/{event['of']}")
    _merge_results(out, entries)


def _is_finished(out: Path, nb: Notebook, entry: Mapping[str, Any]) -> bool:
    same = entry.get("status") == "finished" and entry["key"] == nb.key
    return same and (out / f"{nb.name}.ipynb").exists()


def _entry(nb: Notebook, manifest: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: manifest[name] for name in ("commit", "python", "versions", "machine")}
    return {
        "source": str(nb.path), "needs": nb.needs, "parameters": nb.parameters, "key": nb.key, "started": _now(),
        "seconds": None, "peak_memory_mb": None, "error": None, **nb.told, **made,
    }  # fmt: skip


def _clear(out: Path, name: str, old: Mapping[str, Any], whole: bool) -> Path | None:
    """Remove what an earlier run of the notebook left: its result rows, or (`whole`) its folder and checkpoints too.

    At scale "paper" a folder is days of work: it is moved aside, with the executed copy, and its new name returned.
    """
    folder, copy, aside = out / name, out / f"{name}.ipynb", None
    if whole and folder.is_dir():
        if old.get("scale", old["parameters"].get("scale")) == "paper":
            numbers = itertools.count(1)
            aside = next(path for n in numbers if not (path := out / f"{name}.before-{n}").exists())
            folder.rename(aside)
            if copy.exists():
                copy.rename(aside / copy.name)
        else:
            shutil.rmtree(folder)
    copy.unlink(missing_ok=True)
    for file in MERGED:
        (folder / file).unlink(missing_ok=True)
    for shelf in folder.glob("waves-*"):  # what a killed run had no time to remove
        shutil.rmtree(shelf) if shelf.is_dir() else shelf.unlink()
    return aside


def _merge_results(out: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the files of `MERGED` in `out` anew: the rows of the finished notebooks, in the order of their names.

    Each row gets what only the runner knows of its origin, see `audiotk.results`: seeds and settings of the notebook.
    """
    for merged in MERGED:
        rows = [
            record | {column: entry.get(column, "") for column in ("seed_list", "settings")}
            for name, entry in sorted(entries.items())
            if entry["status"] == "finished"
            for _, record in read_lines(out / name / merged)
        ]
        with atomic(out / merged) as draft:
            draft.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


# --- before anything runs -------------------------------------------------------------------------------------------


def _plan(paths: list[Path], out: Path, parameters: dict[str, Any], manifest: Mapping[str, Any]) -> dict[str, Notebook]:
    """The notebooks by name, in an order in which each comes after what it needs."""
    asked = _asked(paths, parameters)
    content = {path.stem: read_notebook(path) for path in paths}
    about = {name: nb["metadata"].get("audiotk", {}) for name, nb in content.items()}
    needs = {name: tuple(told.get("needs", ())) for name, told in about.items()}
    entries, package = manifest["notebooks"], package_hash()
    data: dict[str, str] = {}
    plan: dict[str, Notebook] = {}
    order = _order(needs, done={name for name, entry in entries.items() if entry["status"] == "finished"})
    for name in sorted(order, key=lambda name: bool(about[name].get("last"))):
        after = tuple(sorted({*entries, *plan} - {name})) if about[name].get("last") else needs[name]
        own, mine = asked[name]
        mine |= {"out": str(out / name)} if "out" in own else {}
        source = ["".join(cell["source"]) for cell in content[name]["cells"] if cell["cell_type"] == "code"]
        keys = [plan[need].key if need in plan else entries[need]["key"] for need in after]
        values = own | mine
        paths_in = data_paths(values, out)
        data |= {path: data_hash(path, out) for path in paths_in if path not in data}
        keys += [data[path] for path in paths_in]
        key = hashlib.sha256(json.dumps([source, mine, package, keys]).encode()).hexdigest()[:16]
        told = parameters_told(values, own) | {"scale": str(values.get("scale", ""))}
        alone = bool(about[name].get("alone")) and values.get("scale") != "smoke"  # where nothing takes long
        path = {path.stem: path for path in paths}[name]
        plan[name] = Notebook(name, path, needs[name], mine, key, told, after, alone)
    return plan


def _asked(paths: list[Path], parameters: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By name of the notebook its own parameters, and those of `parameters` that it knows, as the types of its own.

    Refused are a parameter that no notebook knows, one of the wrong type, and ``out``.
    """
    known = {path.stem: notebook_parameters(path) for path in paths}
    if "out" in parameters:
        raise AudiotkError("parameter 'out' comes from the run folder: say --out DIR, and each notebook gets DIR/NAME")
    names = sorted(set().union(*known.values()) - {"out"})
    if unknown := sorted(set(parameters) - set(names)):
        near = [
            f"did you mean {match!r}? " for name in unknown for match in difflib.get_close_matches(name, names, n=1)
        ]
        raise AudiotkError(
            f"unknown parameter {', '.join(map(repr, unknown))}: {''.join(near)}"
            f"{', '.join(known)} take{'s' * (len(known) == 1)}: {', '.join(names) or 'none'}"
        )
    return {
        name: (own, {key: _typed(key, value, own[key]) for key, value in parameters.items() if key in own})
        for name, own in known.items()
    }


def _order(needs: Mapping[str, tuple[str, ...]], done: set[str]) -> list[str]:
    """The names so that each comes after what it needs; a need is among them or in `done`."""
    for name, wanted in needs.items():
        if absent := [need for need in wanted if need not in needs and need not in done]:
            raise AudiotkError(f"{name} needs {', '.join(absent)}: run it too, or first, with the same --out")
    try:
        return [name for name in graphlib.TopologicalSorter(needs).static_order() if name in needs]
    except graphlib.CycleError as err:
        raise AudiotkError(f"notebooks need each other in a circle: {' -> '.join(err.args[1])}") from err


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`: text from the command line is read as YAML unless the default is text."""
    if isinstance(value, str) and not isinstance(default, str):
        import yaml

        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as err:
            raise AudiotkError(f"parameter {name!r}: cannot read {value!r}: {err}") from err
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if default is not None and value is not None and type(value) is not type(default):
        kind = {"str": "text", "list": "a list like [0, 1, 2]", "bool": "true or false"}.get(type(default).__name__)
        raise AudiotkError(
            f"parameter {name!r}: expected {kind or type(default).__name__} like {default!r}, got {value!r}"
        )
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    with atomic(out / MANIFEST_FILE) as draft:
        draft.write_text(json.dumps(manifest, indent=1), "utf-8")
