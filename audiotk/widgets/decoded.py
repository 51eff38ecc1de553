"""Decoded samples of long compressed recordings, kept as files under ``pcm/`` of the cache folder."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path

from audiotk.files import cache_dir

CACHE_BYTES = 8 << 30  # decoded sound on the disk, the oldest goes first


def cache_file(path: Path, signature: tuple[int, int]) -> Path:
    """Where the samples of a file in a certain state are kept."""
    name = hashlib.sha256(repr((str(path.resolve()), *signature)).encode()).hexdigest()[:32]
    return cache_dir() / "pcm" / f"{name}.i16"


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of `data`, which one call may not do."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def make_room(folder: Path, needed: int) -> None:
    """Remove the oldest decoded files until `needed` bytes fit into CACHE_BYTES, and drafts of killed kernels."""
    kept, total = [], 0
    for path in folder.glob("*.i16"):
        with suppress(FileNotFoundError):  # another process tidies up, too
            facts = path.stat()
            if not path.name.startswith("."):
                kept.append((facts.st_mtime, facts.st_size, path))
                total += facts.st_size
            elif time.time() - facts.st_mtime > 86_400:
                path.unlink(missing_ok=True)
    for _, size, path in sorted(kept):
        if total + needed <= CACHE_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
