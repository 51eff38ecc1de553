"""The annotation store with many annotations: ``python benchmarks/bench_store.py [number of annotations]``.

Fills an SQLite store (default 1,000,000 segments in 20,000 recordings by five labelers, with claims, heard ranges and
undos), then prints, each in a new process where it says so: opening and the first page (the first 50 recordings and
the state of one; the target is < 1 s), single appends (what a labeler waits for), replay of everything, check, backup,
export. ``--keep PATH`` keeps the store, and uses it again if it is there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.store import Operation, Store, make_operation, open_store

LABELERS = ("ann", "bob", "cleo", "dan", "eve")
CLASSES = [f"class {k}" for k in range(50)]
A_RECORDING, A_BATCH = 50, 20_000
FIRST_PAGE = """
import sys, time
from audiotk.store import open_store
start = time.perf_counter()
store = open_store(sys.argv[1], create=False)
opened = time.perf_counter()
page = store.recordings(limit=50)
listed = time.perf_counter()
state = store.state(page["recording"].iloc[7], "ann")
done = time.perf_counter()
print(opened - start, listed - opened, done - listed, done - start, len(state.segments))
"""


def fill(store: Store, count: int) -> None:
    """`count` segments, and around them what a labeler leaves."""
    rng = np.random.default_rng(0)
    recordings = pd.DataFrame({"recording": [f"recording-{k:06d}" for k in range(count // A_RECORDING)]})
    recordings["path"] = "audio/" + recordings["recording"] + ".flac"
    store.register(recordings.assign(duration_s=60.0, sr=16_000, group="g"))
    batch: list[Operation] = []
    for number, recording in enumerate(recordings["recording"]):
        labeler = LABELERS[number % len(LABELERS)]
        starts = rng.uniform(0, 50, A_RECORDING)
        for k, start in enumerate(starts):
            name = CLASSES[int(start * 997) % len(CLASSES)]
            place = {"id": f"{recording}-{k}", "start_s": start, "end_s": start + 2.0, "class_name": name}
            batch.append(make_operation("segment", labeler, recording, **place))
        batch.append(make_operation("heard", labeler, recording, ranges=[(0.0, 60.0)]))
        batch.append(make_operation("claim", labeler, recording, class_name=CLASSES[0], verdict="confirmed"))
        if number % 10 == 0:
            batch.append(make_operation("undo", labeler, recording, target=batch[-1].uuid))
        if len(batch) >= A_BATCH:
            store.append(batch)
            batch = []
    store.append(batch)


def timed(name: str, call: Callable[[], Any]) -> None:
    start = time.perf_counter()
    call()
    print(f"{name:<46} {time.perf_counter() - start:8.2f} s", flush=True)


def first_pages(path: Path, turns: int) -> None:
    times = []
    for _ in range(turns):
        command = [sys.executable, "-c", FIRST_PAGE, str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times.append([float(word) for word in told.split()[:4]])
    worst = np.max(times, axis=0)
    for name, value in zip(
        ("open", "first 50 recordings", "state of one recording", "open and first page"), worst, strict=True
    ):
        print(f"{f'{name} (new process, worst of {turns})':<46} {value:8.3f} s")


def single_appends(store: Store, count: int = 500) -> None:
    times = []
    for k in range(count):
        place = {"id": f"new-{k}", "start_s": 1.0, "end_s": 2.0, "class_name": "dog"}
        operation = make_operation("segment", "ann", "recording-000007", **place)
        start = time.perf_counter()
        store.append([operation])
        times.append(time.perf_counter() - start)
    p50, p95, p100 = np.quantile(times, [0.5, 0.95, 1.0]) * 1e3
    print(f"{'one append, on the disk: p50 / p95 / worst':<46} {p50:.2f} / {p95:.2f} / {p100:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, metavar="PATH")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "labels.sqlite"
        if not path.exists():
            start = time.perf_counter()
            with open_store(path) as store:
                fill(store, arguments.count)
            seconds = time.perf_counter() - start
            print(f"{'append in batches of 20,000':<46} {arguments.count / seconds:8,.0f} operations a second")
        print(f"{'size':<46} {path.stat().st_size / 1e6:8.0f} MB")
        first_pages(path, arguments.turns)
        with open_store(path) as store:
            single_appends(store)
            timed("claims of everyone", store.claims)
            timed("all segments, replayed", store.segments)
            timed("tables of a data set", lambda: store.dataset_tables(CLASSES))
            timed("check", lambda: print(store.check()))
            timed("backup", lambda: store.backup(Path(folder) / "backup.sqlite"))
            timed("export to Parquet", lambda: store.export_parquet(Path(folder) / "x.parquet"))


if __name__ == "__main__":
    main()
