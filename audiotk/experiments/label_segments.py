"""Notebook 01: claims, labelled segments, their coverage, history and agreement.

Training on them: :mod:`audiotk.experiments.label_training`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import datasets, labels
from audiotk.agreement import ALL, heard_whole
from audiotk.agreement.disagreements import disagreements
from audiotk.errors import NotForThisData
from audiotk.events import truth_ranges
from audiotk.experiments import check_judged, check_scale, row
from audiotk.experiments.simulated_labeler import CAREFUL, HASTY, claims_of, range_source, simulate_labeling
from audiotk.formats.cutting import Export
from audiotk.formats.manifest import safe_name
from audiotk.stats import Interval
from audiotk.store import Store, open_store
from audiotk.store.history import union
from audiotk.store.operations import VERDICTS, Operation
from audiotk.tables import AudiotkError, Dataset

EXPERIMENT = "label_segments"
REPLAYED, SECOND, TRUTH = "replayed", "second", "truth"
FIRST = 8  # recordings shown in figures
WRONG_SHARE = 0.5  # of the recordings without any event: so many claim a class all the same
SIZES = {  # recordings: to label, validation, test; epochs
    "smoke": (5, 16, 16, 1),
    "demo": (40, 16, 48, 16),
    "paper": (400, 200, 400, 40),
}


# --- before labeling --------------------------------------------------------------------------------------------------


def load(data: str, data_root: str, scale: str, complete: bool = False) -> Dataset:
    """The data set by name; without clip labels of its own it gets those that scraping leaves of its ranges.

    In the embedded data, claims of half of the recordings without any event are wrong.
    """
    train, val, test, _ = SIZES[check_scale(scale)]
    if data == "embedded":
        counts = {"n_train": train, "n_val": val, "n_test": test}
        return datasets.load(data, data_root or None, progress=True, mislabeled_silence=WRONG_SHARE, **counts)
    dataset = datasets.load(data, data_root or None, **({"complete": complete} if data == "folder" else {}))
    if source := range_source(dataset):
        return labels.with_clip_labels(check_judged(dataset), source=source)
    return dataset


def choose(dataset: Dataset, scale: str) -> pd.DataFrame:
    """The recordings to label, as a recordings table: of the training split, classes claimed in turn."""
    train = dataset.part("train")
    if train.empty:
        raise AudiotkError(f"{dataset.name}: the train split holds no recording, so there is nothing to label")
    claim = train["recording"].map(claims_of(dataset))
    turn = claim.groupby(claim.fillna("")).cumcount()
    order = np.lexsort((np.arange(len(train)), turn))
    return train.iloc[order][: SIZES[check_scale(scale)][0]].reset_index(drop=True)


def replay(dataset: Dataset, recordings: pd.DataFrame, out: str | Path) -> Store:
    """A store of its own in `out` with the recorded work of two labelers on `recordings`; again: nothing is added.

    Without true ranges there is nothing to record from, and the store is empty.
    """
    operations: list[Operation] = []
    if range_source(dataset):
        names = recordings["recording"].tolist()
        for number, (labeler, habits) in enumerate({REPLAYED: CAREFUL, SECOND: HASTY}.items()):
            operations += simulate_labeling(dataset, names, labeler, np.random.default_rng([1, number]), habits)
    mark = hashlib.sha256(repr(operations).encode()).hexdigest()[:10]  # other operations go to another file
    store = open_store(Path(out) / f"replayed-{mark}.sqlite")
    store.append(operations)
    return store


# --- what was said ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labeled:
    """What one labeler said about recordings of a data set."""

    dataset: Dataset
    recordings: pd.DataFrame
    store: Store
    labeler: str
    segments: pd.DataFrame
    heard: pd.DataFrame

    def __repr__(self) -> str:
        minutes = _seconds(self.heard) / 60
        return (
            f"{self.labeler}: {len(self.segments)} segments; {len(self.touched)} of {len(self.recordings)} recordings "
            f"worked on, {minutes:.1f} min heard"
        )

    def folder(self, out: str | Path) -> Path:
        """A folder in `out` for what is made of these labels; each labeler has his own."""
        return Path(out) / safe_name(self.labeler)

    @property
    def touched(self) -> pd.DataFrame:
        """The recordings of which something was heard or marked."""
        names = {*self.heard["recording"], *self.segments["recording"]}
        return self.recordings[self.recordings["recording"].isin(names)]


def read(dataset: Dataset, recordings: pd.DataFrame, store: Store, labeler: str) -> Labeled:
    """What the store holds of one labeler about `recordings`, now.

    Raises
    ------
    NotForThisData
        There is nothing because no labeler could be replayed.
    AudiotkError
        There is nothing yet.
    """
    mine = [
        part[part["recording"].isin(recordings["recording"])]
        for part in (store.segments(labeler), store.heard(labeler))
    ]
    if all(part.empty for part in mine):
        if labeler == REPLAYED:
            raise NotForThisData(
                f"{dataset.name}: no source of this data set gives time ranges, so no labeler can be replayed; label "
                "some recordings above under your name and run the cells from here on, or use data=embedded"
            )
        raise AudiotkError(
            f"{labeler} has not labelled anything here yet: label above, then run the cells from here on"
        )
    return Labeled(dataset, recordings, store, labeler, *(part.reset_index(drop=True) for part in mine))


def _seconds(ranges: pd.DataFrame) -> float:
    """Length of the union of ranges, recording by recording."""
    parts = (part[["start_s", "end_s"]].to_numpy().tolist() for _, part in ranges.groupby("recording"))
    return float(sum(end - start for part in parts for start, end in union(part)))


def answers(labeled: Labeled) -> pd.DataFrame:
    """What became of each claim.

    Returns
    -------
    DataFrame
        Index recording; claim ("" if none), verdict ("open" if none was given), of_claim, others (segments of the
        claimed class, and of other classes), heard (share), and, where the truth is known, truly (yes or no).
    """
    table = labeled.recordings.set_index("recording")[["duration_s"]]
    table["claim"] = claims_of(labeled.dataset).reindex(table.index).fillna("")
    said = labeled.store.claims(labeled.labeler).dropna(subset=["class_name"]).set_index(["recording", "class_name"])
    pairs = pd.MultiIndex.from_arrays([table.index, table["claim"]])
    table["verdict"] = said["verdict"].reindex(pairs).fillna("open").to_numpy()
    own = labeled.segments["class_name"] == labeled.segments["recording"].map(table["claim"])
    for name, mask in (("of_claim", own), ("others", ~own)):
        table[name] = labeled.segments[mask].groupby("recording").size().reindex(table.index, fill_value=0)
    heard = {name: _seconds(part) for name, part in labeled.heard.groupby("recording")}
    table["heard"] = pd.Series(heard, dtype=float).reindex(table.index).fillna(0.0) / table.pop("duration_s")
    if source := range_source(labeled.dataset):
        truth = truth_ranges(labeled.dataset.annotations, labeled.dataset.segments, source)
        there = set(zip(truth["recording"], truth["class_name"], strict=True))
        table["truly"] = ["" if not name else "yes" if (key, name) in there else "no" for key, name in pairs]
    return table


def history(labeled: Labeled, most: int = 12) -> pd.DataFrame:
    """The operations on one recording (one with an undo, if there is any) and the segments that each left.

    Returns
    -------
    DataFrame
        at (UTC), operation (in words), segments (classes of those that were left).
    """
    operations = labeled.store.operations(labeler=labeled.labeler)
    operations = operations[operations["recording"].isin(labeled.recordings["recording"])]
    order = operations.assign(undo=operations["kind"] == "undo").sort_values("undo", ascending=False, kind="stable")
    recording = str(order["recording"].iloc[0])
    mine = operations[operations["recording"] == recording][:most]
    told = {item["uuid"]: _words(item["kind"], item["payload"]) for item in mine.to_dict("records")}
    rows = []
    for item in mine.to_dict("records"):
        text = told[item["uuid"]]
        if item["kind"] == "undo":
            text = f"undo: {told.get(item['payload']['target'], 'an earlier operation')}"
        left = labeled.store.state(recording, labeled.labeler, as_of=item["at"]).segments
        names = ", ".join(one["class_name"] for one in left)
        rows.append({"at": f"{item['at']:%Y-%m-%d %H:%M:%S}", "operation": text, "segments": names})
    return pd.DataFrame(rows).rename_axis(columns=recording)


def _words(kind: str, payload: Mapping[str, Any]) -> str:
    if kind == "segment":
        return f"segment {payload['class_name']} {payload['start_s']:.2f}–{payload['end_s']:.2f} s"
    if kind == "heard":
        return "heard " + ", ".join(f"{start:.1f}–{end:.1f} s" for start, end in payload["ranges"])
    if kind == "claim":
        return f"claim {payload['class_name'] or 'any class'}: {payload['verdict'].replace('_', ' ')}"
    return {"delete": "a segment deleted", "note": f"note: {payload.get('text', '')}"}.get(kind, kind)


def as_of(labeled: Labeled, days: int = 5) -> pd.DataFrame:
    """The labels as they were at the end of each of the last `days` days of work (UTC): one row a day.

    Returns
    -------
    DataFrame
        segments, answers (claims that are not open), present_s (seconds marked), absent_s (seconds heard in which a
        class is absent, added up over the classes).
    """
    store, who, names = labeled.store, labeled.labeler, labeled.recordings["recording"]
    operations = store.operations(labeler=who)
    at = operations.loc[operations["recording"].isin(names), "at"]
    rows = {}
    for day, moment in at.groupby(at.dt.date).max()[-days:].items():
        segments, claims = (
            part[part["recording"].isin(names)] for part in (store.segments(who, moment), store.claims(who, moment))
        )
        ranges, notes, _ = store.dataset_tables(labeled.dataset.classes, moment, [who], complete=True)
        judged = notes.merge(ranges[ranges["recording"].isin(names)], on="segment")
        length_s = (judged["end_s"] - judged["start_s"]).groupby(judged["value"]).sum()
        rows[str(day)] = {
            "segments": len(segments),
            "answers": int((claims["verdict"] != "open").sum()),
            "present_s": float(length_s.get(1.0, 0.0)),
            "absent_s": float(length_s.get(0.0, 0.0)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("at the end of")


def said(labeled: Labeled) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
    """Segments and heard ranges of everyone in the store and of the truth, where known; pairs to compare.

    Returns
    -------
    segments, heard
        As :func:`audiotk.agreement.agreement` takes them.
    pairs
        The labeler with each of the others, then the others among each other; empty if there are no others.
    """
    wanted = labeled.recordings["recording"]
    segments, heard = labeled.store.segments(), labeled.store.heard()
    segments = segments[segments["recording"].isin(wanted)]
    heard = heard[heard["recording"].isin(wanted)]
    others = sorted(set(heard["labeler"]) - {labeled.labeler})
    if source := range_source(labeled.dataset):
        truth = truth_ranges(labeled.dataset.annotations, labeled.dataset.segments, source).assign(labeler=TRUTH)
        segments = pd.concat([segments, truth[truth["recording"].isin(wanted)]], ignore_index=True)
        heard = pd.concat([heard, heard_whole(labeled.recordings, [TRUTH])], ignore_index=True)
        others.append(TRUTH)
    return segments, heard, list(combinations([labeled.labeler, *others], 2))


def dispute(labeled: Labeled) -> dict[str, Any]:
    """What `agreement_figures.disagreement_lanes` takes, for the recording in which labelers differ for the longest."""
    segments, heard, pairs = said(labeled)
    labelers = list(dict.fromkeys(name for pair in pairs for name in pair))
    cases = disagreements(segments, heard, labelers)
    length = cases.groupby("recording")["disputed_s"].sum()
    recording = str(length.idxmax() if len(length) else labeled.touched["recording"].iloc[0])
    paths = labeled.recordings.set_index("recording")["path"]
    mine = [table[table["recording"] == recording] for table in (segments, cases)]
    told = {"sound": paths[recording], "segments": mine[0], "cases": mine[1], "labelers": labelers}
    return told | {"title": recording}


# --- numbers ----------------------------------------------------------------------------------------------------------


def results(
    labeled: Labeled, agreed: pd.DataFrame, export: Export, summary: pd.DataFrame, data: str, scale: str
) -> list[dict[str, Any]]:
    """Rows of results.jsonl: what was labelled (arm: the labeler), how far labelers agree, and what training gave."""
    heard_s, n = _seconds(labeled.heard), len(labeled.touched)
    verdicts = answers(labeled)["verdict"]
    numbers: dict[tuple[str, str], Any] = {
        (labeled.labeler, "recordings worked on"): float(n),
        (labeled.labeler, "share heard"): heard_s / float(labeled.recordings["duration_s"].sum()),
        (labeled.labeler, "segments a recording"): len(labeled.segments) / n,
        (labeled.labeler, "seconds heard a segment"): heard_s / max(len(labeled.segments), 1),
        (labeled.labeler, "expansion factor"): export.expansion,
        (labeled.labeler, "clean samples a clip label"): export.per_label,
    }
    for verdict in VERDICTS:
        numbers[labeled.labeler, f"claims {verdict.replace('_', ' ')}"] = float((verdicts == verdict).sum())
    for item in agreed[agreed["class_name"] == ALL].to_dict("records"):
        pair = f"{item['one']} and {item['other']}"
        numbers |= {(pair, "event F1"): item["f1"], (pair, "kappa of frames"): item["kappa"]}
    about: dict[str, Any] = {"seed": None, "data": data, "scale": scale}
    rows = [row(EXPERIMENT, arm, metric, value, split="train", **about) for (arm, metric), value in numbers.items()]
    for item in summary.to_dict("records"):
        found = Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        rows.append(row(EXPERIMENT, item["arm"], item["metric"], found, **about))
    return rows
