"""Write a file wholly or not at all; the cache folder, and where we are: processors, commit, versions, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiotk.errors import AudiotkError

VERSIONS_OF = (
    "audiotk", "numpy", "pandas", "scipy", "scikit-learn", "soundfile", "librosa", "torch", "torchaudio", "papermill",
)  # fmt: skip


@contextmanager
def atomic(path: str | Path, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    A killed process or a full disk leaves the old file (or none), never half a file.

    Parameters
    ----------
    path
        The file to write; its folder is made when missing. Of a symbolic link the file that it points to is replaced.
    overwrite
        False refuses to replace an existing file.

    Raises
    ------
    AudiotkError
        The folder cannot be written, the disk is full, the file is there and `overwrite` is false, or `path` is a
        folder, a device or a pipe: a rename would replace such a thing by a file.
    """
    path = Path(path)
    if not_a_file(path):
        raise AudiotkError(f"{path}: is no regular file and will not be replaced; give the name of a file")
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    draft = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise AudiotkError(f"{path}: the folder {path.parent} cannot be made: {err.strerror or err}") from err
    try:
        yield draft
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        if overwrite:
            os.replace(draft, path)
        else:
            os.link(draft, path)  # fails if another process was first
    except FileExistsError as err:
        raise AudiotkError(f"{path}: is there already and will not be overwritten") from err
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be written: {err.strerror or err}") from err
    finally:
        draft.unlink(missing_ok=True)


def not_a_file(path: Path) -> bool:
    """Whether there is something at `path`, or where its link points to, that is no regular file."""
    try:
        return path.exists() and not path.is_file()
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be looked at: {err.strerror or err}") from err


def cache_dir() -> Path:
    """Folder for what can be made or downloaded again: ``$AUDIOTK_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("AUDIOTK_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "audiotk"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_commit() -> str | None:
    """Commit of the checkout that audiotk runs from, with ``-dirty`` after local edits; None outside a checkout."""
    here = Path(__file__).parent
    # the first question fails where the package was installed into a folder that another project's git knows
    questions = ("ls-files --error-unmatch __init__.py", "describe --always --dirty --abbrev=12 --exclude=*")
    try:
        for question in questions:
            command = ["git", *question.split()]
            told = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return told.strip()


def circumstances() -> dict[str, Any]:
    """Versions, commit and machine of this run."""
    versions: dict[str, str | None] = {}
    for name in VERSIONS_OF:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = model[1] if model else platform.processor() or platform.machine()
    machine = {"system": platform.platform(terse=True), "processor": processor, "cores": os.cpu_count()}
    return {"python": platform.python_version(), "versions": versions, "commit": package_commit(), "machine": machine}
