"""What the processes of test_store.py do; small, so that they start quickly. Each writes its own result file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from audiotk.errors import AudiotkError
from audiotk.store import Operation, make_operation, open_store


def segment(labeler: str, recording: str, number: int) -> Operation:
    uuid = f"{labeler}-{number}"
    place = {"id": uuid, "start_s": 0.0, "end_s": 1.0 + number, "class_name": "dog"}
    return make_operation("segment", labeler, recording, uuid=uuid, **place)


def write(place: str, labeler: str, count: int, seed: int, out: Path) -> None:
    """Append `count` operations in batches of random size, some of them again, as after a lost answer."""
    rng = np.random.default_rng(seed)
    store = open_store(place)
    acknowledged: dict[str, int] = {}
    done = 0
    while done < count:
        size = int(rng.integers(1, 6))
        batch = [segment(labeler, "shared", number) for number in range(done, min(done + size, count))]
        for _ in range(int(rng.integers(1, 3))):
            numbers = store.append(batch)
            for operation, number in zip(batch, numbers, strict=True):
                assert acknowledged.setdefault(operation.uuid, number) == number
        if rng.random() < 0.1:
            assert len(store.state("shared", labeler).segments) == done + len(batch)
        done += size
    store.close()
    lines = "".join(f"{uuid} {number}\n" for uuid, number in acknowledged.items())
    out.write_text(lines)


def write_until_killed(place: str, labeler: str, side: Path) -> None:
    """Append batches of three for ever; each uuid is put on the disk beside the store once append has returned."""
    file = os.open(side, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = open_store(place)
    number = 0
    while True:
        batch = [segment(labeler, labeler, number + k) for k in range(3)]
        store.append(batch)
        os.write(file, "".join(f"{operation.uuid}\n" for operation in batch).encode())
        os.fsync(file)
        number += 3


def write_across_a_fork(place: str, out: Path) -> None:
    """Parent and child of a fork go on writing to a store that was open before."""
    store = open_store(place)
    store.append([segment("before", "r", 0)])
    store._lock.acquire()  # as when another thread of the parent is just writing
    child = os.fork()
    if child:
        store._lock.release()
    else:
        signal.alarm(30)
    who = "parent" if child else "child"
    for number in range(20):
        store.append([segment(who, "r", number)])
    if child == 0:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    out.write_text(str(status))


def read_as_nobody(place: str, out: Path) -> None:
    """Read a store that this process may not write, and try to."""
    os.setuid(65534)
    store = open_store(place, create=False)
    try:
        store.append([segment("nobody", "r", 2)])
    except AudiotkError as err:
        out.write_text(f"{len(store.segments())} segments, then {type(err).__name__}: {err}")
