"""What works on this machine, in ten lines, and what to do about the rest."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from audiotk.files import cache_dir, cores

CORE = ("numpy", "pandas", "scipy", "scikit-learn", "soundfile", "librosa", "soxr", "pyarrow")
NOTEBOOKS = ("papermill", "jupyterlab", "ipykernel", "matplotlib")
FRONT_ENDS = {  # distribution -> folder below share/jupyter/labextensions; None: served through anywidget
    "ipywidgets": "@jupyter-widgets/jupyterlab-manager",
    "anywidget": "anywidget",
    "ipympl": "jupyter-matplotlib",
    "jupyter-scatter": None,
}
TEACHERS = ("laion-clap", "msclap", "ai-edge-litert", "onnxruntime")
WEIGHTS = (".pt", ".pth", ".safetensors", ".tflite", ".onnx", ".npz")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETUP = "run: make setup"
MARKS = {"ok": "ok  ", "warn": "warn", "FAIL": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One line: `mark` FAIL means that something essential does not work; `todo` says what to do about it."""

    name: str
    mark: Literal["ok", "warn", "FAIL"]
    text: str
    todo: str = ""


def examine(out: str | Path = "runs") -> list[Finding]:
    """Look at everything; `out` is the run folder that must be writable."""
    return [
        _python(),
        _core(),
        _torch(),
        _compute(),
        _audio(),
        _notebooks(),
        _widgets(),
        _browser(),
        _clap(),
        _disk(out),
    ]


def tell(findings: Sequence[Finding], as_json: bool = False) -> str:
    """The findings as lines for a terminal, or as JSON."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=1)
    width = max(len(finding.name) for finding in findings)
    return "\n".join(
        f"{MARKS[finding.mark]}  {finding.name:<{width}}  {finding.text}{f' -> {finding.todo}' if finding.todo else ''}"
        for finding in findings
    )


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome; None when there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _list(name: str, wanted: Sequence[str], otherwise: Literal["warn", "FAIL"]) -> Finding:
    """Installed versions of the distributions `wanted`, and which are absent."""
    versions = {package: _version(package) for package in wanted}
    absent = [package for package, version in versions.items() if version is None]
    told = ", ".join(f"{package} {version or 'absent'}" for package, version in versions.items())
    return Finding(name, otherwise, told, SETUP) if absent else Finding(name, "ok", told)


def _python() -> Finding:
    audiotk = _version("audiotk")
    told = f"audiotk {audiotk or 'not installed'}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    return Finding("python", "ok", told) if audiotk else Finding("python", "warn", told, "run: pip install -e .")


def _core() -> Finding:
    found = _list("libraries", CORE, "FAIL")
    try:
        for module in ("numpy", "scipy.signal", "sklearn.metrics", "soundfile", "pyarrow"):
            importlib.import_module(module)
    except (ImportError, OSError) as err:
        return Finding("libraries", "FAIL", f"{found.text}: {err}", SETUP)
    if found.mark == "ok" and _version("sed-scores-eval") is None:
        told = f"{found.text}; no sed-scores-eval, so no event F1 and PSDS"
        return Finding("libraries", "warn", told, "install a C compiler; then: make clean setup")
    return found


def _torch() -> Finding:
    """torch, torchaudio and torchvision are built for each other: 2.N goes with 2.N and 0.(N+15)."""
    found = _list("torch", ("torch", "torchaudio", "torchvision"), "FAIL")
    if found.mark != "ok":
        return found
    torch, audio, vision = (_version(name) or "" for name in ("torch", "torchaudio", "torchvision"))
    minor = int(torch.split(".")[1])
    if audio.split(".")[:2] != torch.split(".")[:2] or vision.split(".")[:2] != ["0", str(minor + 15)]:
        return Finding("torch", "FAIL", f"{found.text}: these do not match", SETUP)
    try:
        for module in ("torch", "torchaudio", "torchvision"):
            importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as err:
        return Finding("torch", "FAIL", f"{found.text}: {err}", SETUP)
    return Finding("torch", "ok", f"{found.text}: they match and import")


def _compute() -> Finding:
    processors = cores()
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError):
        return Finding("compute", "warn", f"{processors} cores; GPU unknown without torch", SETUP)
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("compute", "ok", f"{processors} cores, {torch.cuda.device_count()} GPU: {name}, {memory:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding("compute", "ok", f"{processors} cores, Apple GPU")
    return Finding(
        "compute", "ok", f"{processors} cores, no GPU: scales smoke and demo are made for this, paper is not"
    )


def _audio() -> Finding:
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError) as err:
        return Finding("audio", "FAIL", f"no file can be read: {err}", SETUP)
    known = soundfile.available_formats()
    formats = {name: name in known for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF")}
    told = (
        f"libsndfile {soundfile.__libsndfile_version__}: {', '.join(name for name, there in formats.items() if there)}"
    )
    if absent := [name for name, there in formats.items() if not there]:
        return Finding("audio", "warn", f"{told}; no {', '.join(absent)}", "a newer soundfile wheel reads all five")
    return Finding("audio", "ok", told)


def _notebooks() -> Finding:
    return _list("notebooks", NOTEBOOKS, "FAIL")


def _widgets() -> Finding:
    found = _list("widgets", tuple(FRONT_ENDS), "warn")
    places = [Path(sys.prefix), Path(sys.base_prefix), Path.home() / ".local"]
    missing = [
        name
        for name, folder in FRONT_ENDS.items()
        if folder and not any((place / "share/jupyter/labextensions" / folder).is_dir() for place in places)
    ]
    if found.mark == "ok" and missing:
        return Finding("widgets", "warn", f"{found.text}; no JupyterLab front end for {', '.join(missing)}", SETUP)
    return found


def _browser() -> Finding:
    path, driver = find_chromium(), _version("playwright")
    if path and driver:
        return Finding("browser", "ok", f"{path}, playwright {driver}: browser tests run")
    told = f"{path or 'no chromium'}, playwright {driver or 'absent'}: browser tests are skipped"
    return Finding("browser", "warn", told, SETUP if path else "install chromium (Debian: apt-get install chromium)")


def _clap() -> Finding:
    """Packages, weights and tokenizers of the teachers; importing the CLAP packages would ask the network for files."""
    packages = [f"{name} {_version(name) or 'absent'}" for name in TEACHERS]
    try:
        known = importlib.import_module("audiotk.teachers.weights")
    except ImportError as err:
        return Finding("teachers", "warn", f"{', '.join(packages)}: {err}", SETUP)
    place = known.teachers_dir()
    files = sorted(path for path in place.glob("*") if path.suffix in WEIGHTS) if place.is_dir() else []
    weights = [f"{path.name} {path.stat().st_size / 2**20:,.0f} MB" for path in files]
    readers = [name for name in known.TOKENIZERS if known.has_tokenizer(place / name)]
    told = f"{', '.join(packages)}; weights: {', '.join(weights) or 'none'}; tokenizers: {', '.join(readers) or 'none'}"
    todo = [SETUP] if any(package.endswith("absent") for package in packages) else []
    if not any(path.suffix in (".pt", ".pth") for path in files):
        wanted = " or ".join(f"{one.file} ({one.page})" for one in (known.LAION[0], known.MICROSOFT[0]))
        todo.append(f"at first use, or by hand without network, {wanted} go to {place}")
    return Finding("teachers", "warn" if todo else "ok", told, "; ".join(todo))


def _disk(out: str | Path) -> Finding:
    """Both the run folder and the cache must take files."""
    told = []
    for name, folder in (("runs", Path(out)), ("cache", cache_dir())):
        there = folder.absolute()
        while not there.exists():
            there = there.parent
        if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
            todo = (
                "choose another with --out DIR" if name == "runs" else "set AUDIOTK_CACHE to a folder you can write to"
            )
            return Finding("disk", "FAIL", f"{name} {folder}: cannot write there", todo)
        told.append(f"{name} {folder}, {shutil.disk_usage(there).free / 2**30:.0f} GB free")
    return Finding("disk", "ok", "; ".join(told))
