"""Embeddings to clusters and a picture, beside umap-learn and hdbscan with their defaults: `python
benchmarks/bench_embed.py`.

Rows are planted: Gaussian clusters of unequal size and spread in 512 dimensions and a fifth of scattered rows. Each arm
runs in a process of its own, of which the peak memory is told; compilation by numba (once a process) is in its time.
Arms take turns, and the best turn of each counts; trust ratios.

clusters  `embed.cluster` against ``hdbscan.HDBSCAN()`` with a smallest cluster of the same size. Its time grows with
          the square of the rows, so it runs on fewer of them (--peer-rows), beside ours on as many; what it would need
          for all rows is extrapolated and said to be.
picture   `embed.map_2d` against ``umap.UMAP(random_state=0)``, on all rows; and without a seed, on all threads of numba

Agreement is the adjusted Rand index with the planted clusters over the rows that have one, and over all rows.

Options: --rows N, --peer-rows N, --turns N, --only NAME.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec

import numpy as np

DIM, PLANTED, SCATTERED = 512, 40, 0.2


def planted(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [shape=(n, DIM), float32] and their clusters, -1 scattered."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(PLANTED, 2.0))
    centres, spread = rng.standard_normal((PLANTED, DIM), np.float32), rng.uniform(0.4, 1.1, PLANTED)
    truth = rng.choice(PLANTED, n, p=share)
    rows = centres[truth] + spread.astype(np.float32)[truth, None] * rng.standard_normal((n, DIM), np.float32)
    far = rng.random(n) < SCATTERED
    rows[far] = 1.5 * rng.standard_normal((int(far.sum()), DIM), np.float32)
    return rows, np.where(far, -1, truth)


def arm(name: str, n: int) -> dict[str, float]:
    """Seconds, GB and agreement of one arm, in this process."""
    from sklearn.metrics import adjusted_rand_score

    from audiotk import embed
    from audiotk.embed.clusters import MIN_SIZE

    warnings.simplefilter("ignore")
    rows, truth = planted(n)
    size = max(MIN_SIZE, round(np.sqrt(n) / 3))
    labels, start = None, time.perf_counter()
    if name == "audiotk clusters":
        labels = embed.cluster(rows, np.random.default_rng(0))
    elif name == "hdbscan":
        import hdbscan

        labels = hdbscan.HDBSCAN(min_cluster_size=size).fit_predict(rows)
    elif name == "audiotk picture":
        embed.map_2d(rows, np.random.default_rng(0))
    else:
        import umap

        umap.UMAP(random_state=0 if name == "umap, seeded" else None).fit(rows)
    found = {"s": time.perf_counter() - start, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if labels is not None:
        inside = truth >= 0
        found["ari_planted"] = adjusted_rand_score(truth[inside], labels[inside])
        found["ari_all"] = adjusted_rand_score(truth, labels)
        found["clusters"] = float(labels.max() + 1)
        found["unassigned"] = float((labels < 0).mean())
    return found


def best(arms: list[tuple[str, int]], turns: int) -> dict[tuple[str, int], dict[str, float]]:
    """The fastest turn of each arm, each in a process of its own; arms take turns."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for turn in range(turns):
        for name, n in arms:
            command = [sys.executable, __file__, "--arm", name, "--rows", str(n)]
            told = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            if (name, n) not in found or told["s"] < found[name, n]["s"]:
                found[name, n] = told
            print(f"  turn {turn + 1}: {name}, {n:,} rows: {told['s']:.1f} s", file=sys.stderr)
    return found


def show(found: dict[tuple[str, int], dict[str, float]]) -> None:
    for (name, n), one in found.items():
        told = f"{name:18} {n:9,} rows {one['s']:8.1f} s {one['gb']:5.1f} GB"
        if "clusters" in one:
            told += (f"   ARI {one['ari_planted']:.3f} of planted, {one['ari_all']:.3f} of all rows, "
                     f"{one['clusters']:.0f} clusters, {one['unassigned']:.0%} unassigned")  # fmt: skip
        print(told)


def clusters(rows: int, peer_rows: int, turns: int) -> None:
    ours, peer, small = ("audiotk clusters", rows), ("hdbscan", peer_rows), ("audiotk clusters", peer_rows)
    there = find_spec("hdbscan") is not None
    if not there:
        print("the package hdbscan is not installed (pip install hdbscan): no comparison of clusters")
    found = best([ours, small, peer] if there else [ours], turns)
    show(found)
    if there:
        ratio, squared = found[peer]["s"] / found[small]["s"], found[peer]["s"] * (rows / peer_rows) ** 2
        print(f"on {peer_rows:,} rows hdbscan takes {ratio:.1f} times as long as ours")
        print(f"on {rows:,} it was not run; if its time grows with the square of the rows: {squared:,.0f} s, "
              f"{squared / found[ours]['s']:.0f} times ours")  # fmt: skip


def picture(rows: int, peer_rows: int, turns: int) -> None:
    ours, peers = ("audiotk picture", rows), [("umap, seeded", rows), ("umap, no seed", rows)]
    found = best([ours, *peers], turns)
    show(found)
    for peer in peers:
        print(f"{peer[0]} takes {found[peer]['s'] / found[ours]['s']:.2f} times as long as ours")


PARTS = {"clusters": clusters, "picture": picture}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peer-rows", type=int, default=10_000, help="rows of hdbscan")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(arm(arguments.arm, arguments.rows)))
        return
    threads = os.environ.get("NUMBA_NUM_THREADS", "all")
    print(f"{arguments.rows:,} x {DIM} numbers, {len(os.sched_getaffinity(0))} cores, {threads} threads of numba, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            part(arguments.rows, arguments.peer_rows, arguments.turns)


if __name__ == "__main__":
    main()
