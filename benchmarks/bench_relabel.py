"""Relabelling at the size of AudioSet: ours, a plain loop over sets, and `hierarchical-label-propagation`, in one run.

    uv pip install hierarchical-label-propagation        # optional; its row is left out where it is missing
    python benchmarks/bench_relabel.py

The segments CSV of AudioSet's size (2.08 M rows) is made from the real balanced one (``../shared/data/audioset`` or
``AUDIOTK_TEST_DATA``): rows drawn with replacement, each under a new YTID. Scores are made up: high for most present
labels, low for most others; float16, by column, in Parquet.

Each part runs in a process of its own, which reports the best of the repeats and its peak memory. The plain loops hold
one Python set a segment, as a research script does: `climbing` walks through the parents (or children) of each label;
`tables` has looked up the ancestors (or descendants) of each label once before its clock starts. Both and
`hierarchical-label-propagation` (a dense product of segments x classes x classes) run on some of the segments, and
their time is scaled to all (``--loop 2084320`` runs the loops on all of them: 5 GB, minutes, and slower a segment).
Their results have to equal ours there, cell by cell, or the benchmark fails. Two ratios of processor time, which other
work on the machine disturbs less than the clock: `rule` is the rule alone (sets, or our labels, are there already),
`from CSV` counts the parsing on both sides.

Ours treats each different set of labels once, and rows drawn with replacement repeat their sets more often than real
ones do. So there are two tables, between which the truth lies: for the second one each row has got two random labels
more, which makes nearly all sets different (`parse` says how many are) and larger.
"""

from __future__ import annotations

import argparse
import csv
import gc
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.datasets.audioset import read_classes, read_labels
from audiotk.ontology import Ontology
from audiotk.relabel import correct, parent_expand, pe_cml
from audiotk.scores import open_scores, write_scores
from audiotk.tables import Labels

DATA = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "audioset"
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", "S1")
RULES: dict[str, Callable[..., Any]] = {"pel": parent_expand, "pe-cml": pe_cml}
Sets = dict[str, set[str]]


def best(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds by the clock and of the processor in the quickest repeat, and what the last one returned."""
    turns, result = [], None
    for _ in range(repeats):
        result = None
        gc.collect()
        start, used = time.perf_counter(), time.process_time()
        result = work()
        turns.append([time.perf_counter() - start, time.process_time() - used])
    return min(turns), result


# --- what is made -----------------------------------------------------------------------------------------------------


def make_csv(folder: Path, n: int, different: bool) -> None:
    rng = np.random.default_rng(0)
    lines = (DATA / "balanced_train_segments.csv").read_text("utf-8").splitlines()
    tails = [line.split(",", 1)[1] for line in lines if not line.startswith("#")]
    ids = np.empty((n, 11), "S1")
    ids[:, :5] = ALPHABET[rng.integers(64, size=(n, 5))]
    for place in range(6):  # the rest counts, so that no id comes twice
        ids[:, 5 + place] = ALPHABET[(np.arange(n) >> (6 * place)) & 63]
    chosen: Iterator[str] = (tails[k] for k in rng.integers(len(tails), size=n).tolist())
    if different:
        mids = read_classes(DATA)["mid"].tolist()
        pairs = rng.integers(len(mids), size=(n, 2)).tolist()
        more = (f',{mids[one]},{mids[other]}"' for one, other in pairs)
        parts = (tail.replace('"', "").split(",", 2) for tail in chosen)
        chosen = (f'{start},{end},"{named}{two}' for (start, end, named), two in zip(parts, more, strict=True))
    names = ids.view("S11").ravel().astype(str).tolist()
    rows = [f"{name},{tail}" for name, tail in zip(names, chosen, strict=True)]
    (folder / "segments.csv").write_text("\n".join([lines[1], *rows]) + "\n", encoding="utf-8")


def make_scores(folder: Path) -> None:
    labels, rng = Labels.from_parquet(folder / "labels.parquet"), np.random.default_rng(1)

    def parts(rows: int = 30_000) -> Iterator[pd.DataFrame]:
        for start in range(0, len(labels.segments), rows):
            some = slice(start, start + rows)
            present = labels.dense(some) == 1
            scores = rng.random(present.shape, dtype=np.float32) ** 8
            scores *= (scores * scores) ** 2  # to the 40th
            scores[present] = 1 - scores[present]
            yield pd.DataFrame(scores, labels.segments[some], labels.classes)

    write_scores(folder / "scores.parquet", parts())


# --- ours -------------------------------------------------------------------------------------------------------------


def parse(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    files = folder / "segments.csv", DATA / "class_labels_indices.csv"
    seconds, labels = best(lambda: read_labels(*files), options.repeats)
    peak = peak_mb()
    labels.to_parquet(folder / "labels.parquet")
    labels.select(labels.segments[: options.loop]).to_parquet(folder / "some.parquet")
    cells, ends = labels.cells.indices, labels.cells.indptr.tolist()
    kinds = len({cells[start:end].tobytes() for start, end in itertools.pairwise(ends)})
    return {"parse": (seconds, len(labels.segments), peak, f"{labels.cells.nnz:,} labels, {kinds:,} different sets")}


def ours(folder: Path, options: argparse.Namespace, rule: str) -> dict[str, Any]:
    labels, ontology = Labels.from_parquet(folder / "labels.parquet"), Ontology.read(DATA / "ontology.json")
    seconds, result = best(lambda: RULES[rule](labels, ontology), options.repeats)
    peak, counts = peak_mb(), result.labels.counts().sum()
    told = f"{counts['present'] / len(labels.segments):.3f} labels"
    told += f", {counts['unknown'] / len(labels.segments):.2f} masks a segment" if counts["unknown"] else " a segment"
    result.labels.select(labels.segments[: options.loop]).to_parquet(folder / f"{rule}.parquet")
    return {rule: (seconds, len(labels.segments), peak, told)}


def ours_correct(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    labels = Labels.from_parquet(folder / "labels.parquet")
    how = {"missing": "correct+mask", "wrong": "correct+mask"}
    seconds, result = best(lambda: correct(labels, open_scores(folder / "scores.parquet"), **how), 1)
    peak = peak_mb()
    result.labels.select(labels.segments[: options.loop]).to_parquet(folder / "correct.parquet")
    told = f"{result.audit.cells / len(labels.segments):.2f} changed cells a segment"
    return {"correct": (seconds, len(labels.segments), peak, told)}


# --- the others -------------------------------------------------------------------------------------------------------


def read_sets(path: Path, names: dict[str, str], n: int) -> Sets:
    sets: Sets = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.reader(file, skipinitialspace=True):
            if row[0].startswith("#"):
                continue
            start_ms, length = round(float(row[1]) * 1000), float(row[2]) - float(row[1])
            sets[f"{row[0]}_{start_ms}@0.000-{length:.3f}"] = {names[mid] for mid in row[3].split(",")}
            if len(sets) == n:
                break
    return sets


def walk(label: str, edges: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(edges[label])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(edges[node])
    return found


def loop_pel(sets: Sets, above: Callable[[str], set[str]], vocabulary: set[str]) -> Sets:
    expanded = {}
    for segment, labels in sets.items():
        new = set(labels)
        for label in labels:
            new |= above(label) & vocabulary
        expanded[segment] = new
    return expanded


def loop_pe_cml(
    sets: Sets, above: Callable[[str], set[str]], below: Callable[[str], set[str]], vocabulary: set[str]
) -> tuple[Sets, Sets]:
    expanded, masks = loop_pel(sets, above, vocabulary), {}
    for segment, labels in sets.items():
        mask: set[str] = set()
        for label in labels:
            descendants = below(label) & vocabulary
            if not descendants & labels:
                mask |= descendants
        masks[segment] = mask - expanded[segment]
    return expanded, masks


def loops(folder: Path, options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Parsing, PEL and PE-CML by `climbing` or by `tables`."""
    classes, records = read_classes(DATA), json.loads((DATA / "ontology.json").read_text("utf-8"))
    names = dict(zip(classes["mid"], classes["display_name"], strict=True))
    vocabulary, called = set(names.values()), {record["id"]: record["name"] for record in records}
    children = {record["name"]: [called[child] for child in record["child_ids"]] for record in records}
    parents: dict[str, list[str]] = {name: [] for name in children}
    for name, below in children.items():
        for child in below:
            parents[child].append(name)
    up, down = (lambda label: walk(label, parents)), (lambda label: walk(label, children))
    if kind == "tables":
        tables = [{label: walk(label, edges) & vocabulary for label in vocabulary} for edges in (parents, children)]
        up, down = (table.__getitem__ for table in tables)
    repeats, n = options.repeats, options.loop
    parsing, sets = best(lambda: read_sets(folder / "segments.csv", names, n), repeats)
    check_sets(sets, {}, Labels.from_parquet(folder / "some.parquet"))
    pel_s, expanded = best(lambda: loop_pel(sets, up, vocabulary), repeats)
    check_sets(expanded, {}, Labels.from_parquet(folder / "pel.parquet"))
    del expanded
    cml_s, both = best(lambda: loop_pe_cml(sets, up, down, vocabulary), repeats)
    peak = peak_mb()
    check_sets(*both, Labels.from_parquet(folder / "pe-cml.parquet"))
    rows = {"parse": parsing, "pel": pel_s, "pe-cml": cml_s}
    return {name: (seconds, n, peak, "equal") for name, seconds in rows.items()}


def check_sets(present: Sets, masked: Sets, labels: Labels) -> None:
    """Fail unless a loop's sets are the labels."""
    assert list(present) == list(labels.segments), "other segments"
    at = {name: place for place, name in enumerate(labels.classes)}
    cells = labels.cells
    for row, (segment, names) in enumerate(present.items()):
        found = slice(cells.indptr[row], cells.indptr[row + 1])
        told = dict(zip(cells.indices[found].tolist(), cells.data[found].tolist(), strict=True))
        expected = {at[name]: 1 for name in names} | {at[name]: 3 for name in masked.get(segment, ())}
        assert told == expected, f"{segment}: {told} is not {expected}"


def propagation(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`hierarchical-label-propagation`: PEL with one parent only, which is what its table for AudioSet holds."""
    try:
        import torch
        from hierarchical_label_propagation import HLP
    except ImportError:
        return {}
    torch.set_num_threads(1)
    labels = Labels.from_parquet(folder / "some.parquet").select(first(folder, options.dense))
    dense = torch.from_numpy(labels.dense())
    ontology = Ontology.read(DATA / "ontology.json")
    rows = {}
    for how in ("unambiguous", "all"):
        closure = ontology.closure(labels.classes, multi_parent=how).toarray() | np.eye(len(labels.classes), dtype=bool)
        theirs = HLP() if how == "unambiguous" else HLP(torch.from_numpy(closure))
        assert np.array_equal(theirs.get_HLP_lookup_table().numpy() != 0, closure), "another table of ancestors"
        seconds, got = best(
            lambda used=theirs: torch.cat([used.propagate(b) for b in dense.split(64)]), options.repeats
        )
        expected = parent_expand(labels, ontology, multi_parent=how).labels.dense()
        assert np.array_equal(got.numpy(), expected), "other labels"
        rows[f"pel ({how})"] = (seconds, len(labels.segments), peak_mb(), "equal")
    return rows


def first(folder: Path, n: int) -> list[str]:
    return Labels.from_parquet(folder / "some.parquet").segments[:n].tolist()


def by_numpy(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Equations (4)-(7) of the paper on dense float arrays, as they stand there: a check of `correct`."""
    import pyarrow.parquet as pq

    labels = Labels.from_parquet(folder / "some.parquet").select(first(folder, 50_000))
    expected = Labels.from_parquet(folder / "correct.parquet").select(labels.segments)

    def work() -> np.ndarray:
        done, low, high = [], np.float16(0.05), np.float16(0.95)
        start = 0
        for batch in pq.ParquetFile(folder / "scores.parquet").iter_batches(10_000):
            rows = slice(start, min(start + len(batch), len(labels.segments)))
            y = labels.dense(rows)
            p = np.stack([batch[name].to_numpy() for name in labels.classes], axis=1)[: len(y)]
            new = y.copy()
            new[(y == 0) & (p > high)] = 1
            new[(y == 1) & (p < low)] = 0
            new[(y == 0) & (p > 0.5) & (p < high)] = np.nan
            new[(y == 1) & (p > low) & (p < 0.5)] = np.nan
            done.append(new)
            start += len(batch)
            if start >= len(labels.segments):
                break
        return np.concatenate(done)

    seconds, new = best(work, 1)
    assert np.array_equal(new, expected.dense(), equal_nan=True), "other labels"
    return {"correct": (seconds, len(labels.segments), peak_mb(), "equal")}


# --- the run ----------------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "parse": ("audiotk", parse),
    "pel": ("audiotk", lambda folder, options: ours(folder, options, "pel")),
    "pe-cml": ("audiotk", lambda folder, options: ours(folder, options, "pe-cml")),
    "correct": ("audiotk", ours_correct),
    "climbing": ("loop, climbing", lambda folder, options: loops(folder, options, "climbing")),
    "tables": ("loop, tables", lambda folder, options: loops(folder, options, "tables")),
    "propagation": ("h.-l.-propagation", propagation),
    "numpy": ("dense numpy", by_numpy),
}
DIFFERENT = ("parse", "pel", "pe-cml", "climbing", "tables")  # parts of the second table


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def in_child(part: str, folder: Path) -> dict[str, Any]:
    """What a part reports from a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part, "--folder", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return json.loads((folder / "report.json").read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2_084_320, help="segments")
    parser.add_argument("--loop", type=int, default=200_000, help="segments of the loops")
    parser.add_argument("--dense", type=int, default=512, help="segments of hierarchical-label-propagation")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts (correct: of one)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.loop = min(options.loop, options.n)
    if options.part == "scores":
        make_scores(options.folder)
        told: dict[str, Any] = {}
    elif options.part:
        told = PARTS[options.part][1](options.folder, options)
    if options.part:
        (options.folder / "report.json").write_text(json.dumps(told), encoding="utf-8")
        return
    print(f"{options.n:,} segments, {os.cpu_count()} cores, best of {options.repeats}; ~ is scaled from fewer segments")
    for title, parts in (("label sets of balanced_train", tuple(PARTS)), ("different label sets", DIFFERENT)):
        rows = []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_csv(folder, options.n, parts == DIFFERENT)
            for part in parts:
                if part == "correct":
                    in_child("scores", folder)
                rows += [(PARTS[part][0], rule, *found) for rule, found in in_child(part, folder).items()]
        show(title, rows, options)


def show(title: str, rows: list[tuple[Any, ...]], options: argparse.Namespace) -> None:
    used = {(side, rule): spent[1] * options.n / n for side, rule, spent, n, _, _ in rows}
    print(f"\n{title:76}{'times ours':>19}")
    print(f"{'rule':19}{'side':19}{'seconds':>9}{'CPU s':>9}{'segments':>11}{'peak MB':>9}", end="")
    print(f"{'rule':>9}{'from CSV':>10}  result")
    for side, rule, (clock, _), n, peak, told in sorted(rows, key=lambda row: (row[1].split()[0], row[0] != "audiotk")):
        plain = rule.split()[0]
        mine, ours = used[side, rule], used["audiotk", plain]
        times = [f"{mine / ours:.1f}", ""]
        if (side, "parse") in used and plain in RULES:
            times[1] = f"{(mine + used[side, 'parse']) / (ours + used['audiotk', 'parse']):.1f}"
        mark = "~" if n < options.n else ""
        costs = [mark + f"{seconds:.2f}" for seconds in (clock * options.n / n, mine)]
        print(f"{rule:19}{side:19}{costs[0]:>9}{costs[1]:>9}{n:11,}{peak:9,.0f}{times[0]:>9}{times[1]:>10}  {told}")


if __name__ == "__main__":
    main()
