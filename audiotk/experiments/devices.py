"""Many trainings on few GPUs: one at a time on each, whichever notebooks and processes they come from.

A training takes a GPU by locking a file that belongs to it, and waits while all are taken. The operating system frees
the lock of a process that ends, however it ends. Without a GPU nothing is locked.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from audiotk.files import cores

LOOK_S = 1.0  # between two looks for a free GPU
_mine: list[int] = []  # the GPU that this process has taken


def gpu_count() -> int:
    """GPUs that this process may use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpus() -> list[str]:
    """UUID of each GPU that this process may use: numbers mean other GPUs in other containers, jobs and settings."""
    return [str(torch.cuda.get_device_properties(k).uuid) for k in range(gpu_count())]


def at_once(jobs: int | None, trainings: int) -> int:
    """Processes for so many trainings: one for each GPU or, without any, each processor; not more than `jobs`."""
    if count := gpu_count():
        return min(jobs or count, count, trainings)
    return min(jobs or cores(), trainings)


@contextmanager
def own_gpu() -> Iterator[None]:
    """Within it ``cuda`` is a GPU on which no other training of this user runs; waits for one. Nothing without GPUs."""
    names = gpus()
    if not names or _mine:
        yield
        return
    user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
    with claim(names, Path(tempfile.gettempdir()) / f"audiotk-gpus-{user}") as k, torch.cuda.device(k):
        _mine.append(k)
        try:
            yield
        finally:
            _mine.clear()


@contextmanager
def claim(names: Sequence[str], folder: Path) -> Iterator[int]:
    """Number of the first of `names` that nobody has claimed in `folder`, until the block or this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        for k, name in enumerate(names):
            lock = FileLock(folder / f"{name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield k
            finally:
                lock.release()
            return
        if not told:
            print(f"audiotk: waiting, {len(names)} of {len(names)} GPUs are in use by other trainings", file=sys.stderr)
            told = True
        time.sleep(LOOK_S)
