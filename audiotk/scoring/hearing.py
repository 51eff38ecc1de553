"""One shard of recordings: files are read and resampled in threads while the teacher hears the windows before."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from audiotk.datasets.found import sha256
from audiotk.decode import stream_ranges
from audiotk.scoring.parts import file_key, table_of
from audiotk.tables import AudiotkError
from audiotk.teachers.base import Teacher

AHEAD = 8  # windows of one recording that wait for the teacher, at most
_DONE = object()


@dataclass(frozen=True, slots=True)
class Job:
    """Windows of one file that are to be heard: `ranges` are (first, last) samples at the teacher's rate, rising."""

    path: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """A file as it was when it was read."""

    audio: str
    size: int
    mtime_ns: int


def shard_name(jobs: Iterable[Job]) -> str:
    """Name of the part that holds a shard: the same work has the same name."""
    text = "\n".join(f"{job.path}\t{job.ranges}" for job in jobs)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def hear_shard(
    teacher: Teacher,
    jobs: list[Job],
    batch_size: int = 8,
    threads: int = 1,
    told: Callable[[int], None] = lambda windows: None,
) -> pa.Table:
    """Hear all windows of some files; the table of a part (see :mod:`audiotk.scoring.parts`).

    A file that cannot be read, or that the teacher refuses or makes NaN of, is a row with the reason; the others go on.

    Parameters
    ----------
    teacher
        Who hears.
    jobs
        Files and windows; batches are made in this order, whatever the number of threads.
    batch_size
        Windows that the teacher hears at once.
    threads
        Threads that read files.
    told
        Is called with the number of windows that are done, now and then.
    """
    batch = np.empty((batch_size, teacher.samples), np.float32)
    owners: list[tuple[int, tuple[int, int]]] = []  # job number and range of each window that was heard, in order
    heard: list[np.ndarray] = []
    waiting = 0
    sources: dict[int, Source] = {}
    reasons: dict[int, str] = {}

    def hear() -> None:
        nonlocal waiting
        if waiting:
            heard.append(_heard(teacher, batch[:waiting]))
            told(waiting)
            waiting = 0

    work = ahead(range(len(jobs)), lambda number: _read(teacher, jobs[number]), threads)
    for number, thing in work:
        if isinstance(thing, Source):
            sources[number] = thing
        elif isinstance(thing, str):
            reasons[number] = thing
        else:
            span, batch[waiting] = thing
            owners.append((number, span))
            waiting += 1
            if waiting == batch_size:
                hear()
    hear()
    return _table(teacher, jobs, owners, heard, sources, reasons)


def _read(teacher: Teacher, job: Job) -> Iterator[Source | str | tuple[tuple[int, int], np.ndarray]]:
    """What the file is, each of its ranges with the window, and why it cannot be read any further (if so)."""
    size, mtime_ns = file_key(job.path)
    try:
        yield Source(sha256(job.path) if size >= 0 else "", size, mtime_ns)
        ranges = [(first / teacher.sr, last / teacher.sr) for first, last in job.ranges]
        for span, wave in zip(job.ranges, stream_ranges(job.path, teacher.sr, ranges), strict=True):
            yield span, wave if len(wave) == teacher.samples else teacher.fill(wave)
    except AudiotkError as err:
        yield str(err)
    except OSError as err:
        yield f"{job.path}: cannot be read: {err.strerror or err}"


def _heard(teacher: Teacher, waves: np.ndarray) -> np.ndarray:
    """Numbers of some windows [shape=(n, width)]; NaN for one that the teacher refuses, which is asked for alone."""
    shape = (len(waves), teacher.width)
    try:
        return np.array(teacher.hear(waves), np.float32).reshape(shape)
    except AudiotkError:
        if len(waves) == 1:
            return np.full(shape, np.nan, np.float32)
        return np.concatenate([_heard(teacher, waves[place : place + 1]) for place in range(len(waves))])


def _table(
    teacher: Teacher,
    jobs: list[Job],
    owners: list[tuple[int, tuple[int, int]]],
    heard: list[np.ndarray],
    sources: dict[int, Source],
    reasons: dict[int, str],
) -> pa.Table:
    """The rows that were heard, then those of files that failed."""
    values = np.concatenate(heard) if heard else np.zeros((0, teacher.width), np.float32)
    for place in np.flatnonzero(~np.isfinite(values).all(axis=1)):
        number = owners[place][0]
        reasons.setdefault(number, f"{jobs[number].path}: {teacher.name} refuses a window of it, or gives NaN")
    good = [place for place, (number, _) in enumerate(owners) if number not in reasons]
    rows: list[tuple[Any, ...]] = []
    for number, (first, last) in (owners[place] for place in good):
        source = sources[number]
        rows.append((source.audio, jobs[number].path, source.size, source.mtime_ns, first, last, None))
    for number, reason in sorted(reasons.items()):
        size, mtime_ns = (sources[number].size, sources[number].mtime_ns) if number in sources else (-1, -1)
        rows.append(("", jobs[number].path, size, mtime_ns, -1, -1, reason))
    return table_of(rows, values[good], teacher.width)


class _Stopped(Exception):
    """The reader is gone."""


def ahead(items: Iterable[Any], work: Callable[[Any], Iterator[Any]], threads: int) -> Iterator[tuple[Any, Any]]:
    """(item, thing) for each thing that ``work(item)`` yields, in order, made by `threads` ahead of whoever reads.

    At most `AHEAD` things of each of ``threads + 1`` items wait. An exception in `work` is raised where its thing would
    have come. When the reader stops, so do the threads.
    """
    stop = threading.Event()

    def put(line: queue.Queue[Any], thing: Any) -> None:
        while not stop.is_set():
            try:
                line.put(thing, timeout=0.1)
            except queue.Full:
                continue
            return
        raise _Stopped

    def produce(item: Any, line: queue.Queue[Any]) -> None:
        try:
            for thing in work(item):
                put(line, (thing, None))
            put(line, (_DONE, None))
        except _Stopped:
            return
        except BaseException as err:  # raised again in the thread that reads
            with suppress(_Stopped):
                put(line, (_DONE, err))

    waiting: deque[tuple[Any, queue.Queue[Any]]] = deque()
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:

        def start(count: int) -> None:
            for item in islice(left, count):
                line: queue.Queue[Any] = queue.Queue(AHEAD)
                waiting.append((item, line))
                pool.submit(produce, item, line)

        try:
            start(threads + 1)
            while waiting:
                item, line = waiting.popleft()
                while (found := line.get())[0] is not _DONE:
                    yield item, found[0]
                if found[1] is not None:
                    raise found[1]
                start(1)
        finally:
            stop.set()
