"""One shard of recordings: files are read and resampled in threads while the teacher hears the windows before."""

from __future__ import annotations

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

AHEAD = 16  # windows that wait for the teacher, about
CHANGED = "changed while it was read; score again"
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


def hear_shard(
    teacher: Teacher,
    jobs: list[Job],
    batch_size: int = 8,
    threads: int = 1,
    told: Callable[[int], None] = lambda windows: None,
) -> pa.Table:
    """Hear all windows of some files; the table of a part (see :mod:`audiotk.scoring.parts`).

    A file that cannot be read to its end, or of which the teacher refuses a window or makes NaN, gives a row with the
    reason besides the windows that were heard; the others go on.

    Parameters
    ----------
    teacher
        Who hears.
    jobs
        Files and windows; batches are made in this order, whatever the number of threads.
    batch_size
        Windows that the teacher hears at once.
    threads
        Threads that read files; 0: whoever hears reads, too.
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
            values, refused = _heard(teacher, batch[:waiting])
            for place, reason in refused.items():
                number = owners[len(owners) - waiting + place][0]
                reasons.setdefault(number, f"{jobs[number].path}: {teacher.name} refuses a window of it: {reason}")
            heard.append(values)
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
        if file_key(job.path) != (size, mtime_ns):
            yield f"{job.path}: {CHANGED}"
    except AudiotkError as err:
        yield str(err)
    except OSError as err:
        yield f"{job.path}: cannot be read: {err.strerror or err}"


def _heard(teacher: Teacher, waves: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    """Numbers of some windows [shape=(n, width)], and which of them are refused and why (NaN; asked for alone)."""
    shape = (len(waves), teacher.width)
    try:
        return np.array(teacher.hear(waves), np.float32).reshape(shape), {}
    except AudiotkError as err:
        if len(waves) == 1:
            return np.full(shape, np.nan, np.float32), {0: str(err)}
    alone = [_heard(teacher, waves[place : place + 1]) for place in range(len(waves))]
    refused = {place: reason[0] for place, (_, reason) in enumerate(alone) if reason}
    return np.concatenate([values for values, _ in alone]), refused


def _table(
    teacher: Teacher,
    jobs: list[Job],
    owners: list[tuple[int, tuple[int, int]]],
    heard: list[np.ndarray],
    sources: dict[int, Source],
    reasons: dict[int, str],
) -> pa.Table:
    """The windows that were heard, then the reasons of files that failed."""
    values = np.concatenate(heard) if heard else np.zeros((0, teacher.width), np.float32)
    fine = np.asarray(np.isfinite(values).all(axis=1))
    for place in np.flatnonzero(~fine):
        number = owners[place][0]
        reasons.setdefault(number, f"{jobs[number].path}: {teacher.name} gives NaN or infinity for a window of it")
    changed = {number for number, reason in reasons.items() if reason.endswith(CHANGED)}
    good = [place for place, (number, _) in enumerate(owners) if fine[place] and number not in changed]
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

    About `AHEAD` things wait, two or more of each of ``threads + 1`` items. An exception in `work` is raised where its
    thing would have come. When the reader stops, so do the threads. With 0 threads things are made when asked for.
    """
    if not threads:
        yield from ((item, thing) for item in items for thing in work(item))
        return
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
                line: queue.Queue[Any] = queue.Queue(max(2, AHEAD // (threads + 1)))
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
