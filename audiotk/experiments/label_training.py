"""Train on labels of a store and on clip labels of the same recordings (the second half of notebook 01).

Labels of the same windows of the same recordings; the first two are arms, trained with the same number of steps:

===============  =====================================================================================================
labelled ranges  what the labeler marked; 0 for every class in what he heard around it; unknown where he did not listen
clip labels      the one noisy label of the recording, the claim
true ranges      what a labeler without an error would have marked; to measure the others, where the truth is known
===============  =====================================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk import labels, metrics
from audiotk.experiments import COARSE, Arm, Material, check_scale, load_material, read_windows
from audiotk.experiments import clip_or_range as training
from audiotk.experiments.label_segments import SIZES, Labeled
from audiotk.experiments.quickstart import check_testable
from audiotk.experiments.simulated_labeler import claim_source, range_source
from audiotk.tables import AudiotkError, Dataset, Labels
from audiotk.train import TrainConfig

RANGES, CLIPS, TRUE = "labelled ranges", "clip labels", "true ranges"
ARMS = (RANGES, CLIPS)
METRICS = ["mAP", "false positives per hour", "fires on silence", "mean score where absent"]


@dataclass(frozen=True)
class Lesson:
    """Windows of the recordings that were heard, and their labels by arm (and the true ones, where known)."""

    labeled: Labeled
    material: Material
    labels: Mapping[str, Labels]

    @property
    def classes(self) -> list[str]:
        """The classes that every arm has seen both present and absent: only those can be compared."""
        counts = [self.labels[arm].counts()[["present", "absent"]].min(axis=1) for arm in ARMS]
        least = pd.concat(counts, axis=1).min(axis=1)
        return [name for name in self.labeled.dataset.classes if least[name] > 0]

    @property
    def key(self) -> str:
        """Changes with the labels and windows."""
        digest = hashlib.sha256()
        for arm in ARMS:
            digest.update(pd.util.hash_pandas_object(self.labels[arm].frame()).to_numpy().tobytes())
        return digest.hexdigest()[:10]


def resolve(labeled: Labeled) -> Lesson:
    """Labels of two-second windows from the store, from the claims and, where known, from the truth."""
    dataset, who = _with_store(labeled), f"human:{labeled.labeler}"
    touched = labeled.touched
    material = read_windows(touched, 16000, min(training.WINDOW_S, float(touched["duration_s"].max())))
    arms = {RANGES: [who], CLIPS: [claim_source(labeled.dataset)]}
    if source := range_source(labeled.dataset):
        arms[TRUE] = [source]
    found = {name: labels.resolve(dataset, material.segments, sources) for name, sources in arms.items()}
    return Lesson(labeled, material, found)


def _with_store(labeled: Labeled) -> Dataset:
    """The data set with what the labeler said as one more source. He was asked to mark every class in what he heard."""
    dataset = labeled.dataset
    tables = labeled.store.dataset_tables(dataset.classes, labelers=[labeled.labeler], complete=True)
    wanted = tables[0]["recording"].isin(dataset.recordings["recording"])
    segments = tables[0][wanted]
    notes = tables[1][tables[1]["segment"].isin(segments["segment"])]
    return replace(
        dataset,
        segments=pd.concat([dataset.segments, segments]).drop_duplicates("segment"),
        annotations=pd.concat([dataset.annotations, notes], ignore_index=True),
        sources=pd.concat([dataset.sources, tables[2]]),
    )


def quality(lesson: Lesson) -> pd.DataFrame:
    """How good each arm's labels of the windows are: cells of each kind and, with a known truth, how many are right.

    Returns
    -------
    DataFrame
        Index arm; present, absent, unknown (cells) and present_right, absent_right, found (shares: of the cells called
        present those that are, of those called absent, and of those truly present the ones called present).
    """
    rows = {}
    for arm, given in lesson.labels.items():
        rows[arm] = given.counts()[["present", "absent", "unknown"]].sum().to_dict()
        if TRUE in lesson.labels and arm != TRUE:
            said_, true = given.frame().to_numpy(), lesson.labels[TRUE].frame().to_numpy()
            judged = ~np.isnan(true)
            rows[arm] |= {
                "present_right": _share(true == 1, (said_ == 1) & judged),
                "absent_right": _share(true == 0, (said_ == 0) & judged),
                "found": _share(said_ == 1, true == 1),
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype(dict.fromkeys(("present", "absent", "unknown"), "int64"))


def _share(hit: np.ndarray, among: np.ndarray) -> float:
    return float(hit[among].mean()) if among.any() else float("nan")


def recipe(length_s: float, epochs: int) -> TrainConfig:
    """How both arms are trained, on windows of `length_s`."""
    return TrainConfig(model_options=COARSE, clip_s=length_s, epochs=epochs, batch_size=32, roll=True, gain_db=2.0)


def learn(
    lesson: Lesson, scale: str, seeds: Sequence[int], out: str | Path, jobs: int | None = None
) -> training.Outcome:
    """Train every arm with every seed, and score the test split; as notebook 02 does.

    Runs are kept in a folder of `out` for each state of the labels, so that more labels start new ones.

    Raises
    ------
    AudiotkError
        No class was marked in some windows and judged absent in others, or the test split cannot tell.
    """
    dataset, classes = lesson.labeled.dataset, lesson.classes
    if not classes:
        raise AudiotkError(
            "no class is both present and absent in what was labelled, so nothing can be learnt: label more recordings"
        )
    sources = [source] if (source := range_source(dataset)) else list(dataset.sources.index)
    length_s = lesson.material.waves.shape[1] / lesson.material.sr
    val, test = (load_material(dataset, split, lesson.material.sr, length_s) for split in ("val", "test"))
    val_truth, truth = (labels.resolve(dataset, part.segments, sources, classes) for part in (val, test))
    check_testable(truth, test)
    epochs = SIZES[check_scale(scale)][3]
    config = recipe(length_s, epochs)
    ids = lesson.material.segments["segment"]
    arms = [Arm(name, lesson.material, lesson.labels[name].select(ids, classes), config) for name in ARMS]
    folder = lesson.labeled.folder(out) / f"runs-{scale}-{lesson.key}"
    scores = training.train_arms(arms, (val, val_truth), {"val": val, "test": test}, seeds, folder, jobs)
    thresholds = {
        key: metrics.thresholds(found["val"], val_truth, by="recall", at=training.RECALL)
        for key, found in scores.items()
    }
    tested = {key: found["test"] for key, found in scores.items()}
    return training.Outcome(dataset, test, truth, tested, thresholds, list(seeds), ARMS, folder)


def compare(outcome: training.Outcome) -> pd.DataFrame:
    """The metrics of notebook 02 for each arm: metric, arm, value, low, high, n."""
    found = training.statistics(outcome)
    return training.table({metric: found[metric] for metric in training.SHOWN if metric in found})
