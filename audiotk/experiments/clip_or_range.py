"""Notebook 02: the same recordings with one label a clip or with labelled time ranges (B1, claims B1.1 to B1.6).

Arms, trained with the same number of steps on windows of `WINDOW_S` seconds, validated and tested alike on the truth:

=============  =======================================================================================================
time ranges    each window has the labels of the ranges in it; a window that holds a part of an event is unknown for it
clip labels    each window inherits the one label of its recording, what cutting a labelled clip to input size gives
whole clips    the recording as one input with its one label; only tested on windows
clip labels    two and four times as many recordings, no more steps
2x, 4x
=============  =======================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio, datasets, events, labels, metrics, resample, stats
from audiotk.backgrounds import SILENCE_KINDS
from audiotk.datasets import embedded
from audiotk.errors import NotForThisData
from audiotk.experiments import (
    SMALL,
    Arm,
    Material,
    check_judged,
    check_scale,
    first_readable,
    load_material,
    mean_over_seeds,
    on_scale,
    read_windows,
    row,
    run_folder,
    train_arms,
)
from audiotk.experiments import intervals_wide as intervals_wide
from audiotk.models.checkpoints import load_checkpoint
from audiotk.models.predict import score
from audiotk.resample import Statistic
from audiotk.tables import Dataset, Labels
from audiotk.train import TrainConfig

EXPERIMENT = "clip_or_range"
RANGES, CLIPS, WHOLE = "time ranges", "clip labels", "whole clips"
WINDOW_S, HOP_S = 2.0, 1.0
WHOLE_S = 30.0  # longer recordings are cut into clips of this length
RECALL = 0.8  # thresholds are chosen on validation to reach it, so that arms are compared at equal recall
PAIRS = [("bark", "howl"), ("howl", "bark")]
SIZES = {  # recordings: train of 1x, validation, test; epochs
    "smoke": (16, 16, 16, 1),
    "demo": (128, 64, 128, 16),
    "paper": (2000, 500, 1000, 40),
}
TIMES = (1, 2, 4)
SILENT = [*SILENCE_KINDS, "nothing"]  # of `quiet_kinds`
RANGES_A_CLIP = "labelled ranges a clip, beyond one"
SHOWN = ["mAP", "recall", "false positives per hour", "share of absent time that fires", "fires on silence",
         "bark/howl confusion", "mean score where absent", "calibration error"]  # fmt: skip

COMPARED = {  # claim: metric, arm minus baseline, as a share of the baseline?
    "B1.1": ("false positives per hour", RANGES, CLIPS, True),
    "B1.2": ("bark/howl confusion", RANGES, CLIPS, False),
    "B1.3": ("mean score where absent", RANGES, CLIPS, False),
    "B1.4": ("false positives per hour", f"{CLIPS} {max(TIMES)}x", CLIPS, True),
    "B1.6": ("fires on silence", CLIPS, RANGES, False),
}


@dataclass(frozen=True)
class Outcome:
    """Trained arms and what they say: scores by (arm, seed), on the windows of `test`; thresholds from validation."""

    dataset: Dataset
    test: Material
    truth: Labels
    scores: Mapping[tuple[str, int], pd.DataFrame]
    thresholds: Mapping[tuple[str, int], pd.Series]
    seeds: Sequence[int]
    arms: Sequence[str]
    folder: Path


def load(data: str, data_root: str, scale: str, complete: bool = False) -> Dataset:
    """Recordings with ranges (source truth) and one label a clip (source scraped).

    Raises
    ------
    NotForThisData
        A data set without labelled ranges.
    AudiotkError
        Ranges that say only where a class is; see `complete`.
    """
    train, val, test, _ = SIZES[check_scale(scale)]
    if data == "embedded":
        counts = {"n_train": train * max(TIMES), "n_val": val, "n_test": test}
        return datasets.load(data, data_root or None, progress=True, **counts)
    dataset = datasets.load(data, data_root or None, **({"complete": complete} if data == "folder" else {}))
    if not _range_sources(dataset):
        raise NotForThisData(
            f"{data}: this experiment compares labelled ranges with clip labels, and no source of this data set gives "
            "ranges; use data=embedded, or data=folder with a CSV of path,start_s,end_s,label"
        )
    return labels.with_clip_labels(check_judged(dataset), source=_range_sources(dataset)[0])


def _range_sources(dataset: Dataset) -> list[str]:
    return [str(name) for name in dataset.sources.index if not dataset.sources.loc[name, "weak"]]


def ranges(dataset: Dataset, recording: str | None = None) -> pd.DataFrame:
    """What can be heard: recording, start_s, end_s, class_name; of one recording or all."""
    table = events.truth_ranges(dataset.annotations, dataset.segments, _range_sources(dataset)[0])
    return table if recording is None else table[table["recording"] == recording]


def choose(dataset: Dataset, count: int = 6) -> dict[str, str]:
    """Recording -> title for the first training recordings that hold two classes or more (one, if none does)."""
    kinds = ranges(dataset).groupby("recording")["class_name"].nunique()
    train = [name for name in dataset.part("train")["recording"] if kinds.get(name, 0)]
    several = [name for name in train if kinds[name] >= 2]
    names = first_readable(dataset.recordings, several or train, count)
    scraped = dataset.annotations[(dataset.annotations["source"] == "scraped") & (dataset.annotations["value"] == 1)]
    label = scraped.merge(dataset.segments, on="segment").set_index("recording")["class_name"]
    return {name: f"{name}: “{label.get(name, 'nothing')}”" for name in names}


def run(dataset: Dataset, scale: str, seeds: Sequence[int], out: str | Path, jobs: int | None = None) -> Outcome:
    """Train all arms with all seeds; finished runs in `out` are used again."""
    size, _, _, epochs = SIZES[check_scale(scale)]
    train, sr = dataset.part("train"), 16000
    size = min(size, len(train))
    Path(out).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix="waves-") as shelf:
        val = load_material(dataset, "val", sr, WINDOW_S).on_disk(shelf)
        test = load_material(dataset, "test", sr, WINDOW_S, HOP_S).on_disk(shelf)
        val_truth, test_truth = _judged(dataset, val), _judged(dataset, test)
        pool = read_windows(train, sr, WINDOW_S, progress=True).on_disk(shelf)
        whole = read_windows(train[:size], sr, min(WHOLE_S, float(train["duration_s"].max()))).on_disk(shelf)
        arms = _arms(dataset, pool, whole, size, epochs)
        material = {"val": val, "test": test}
        scores = train_arms(arms, (val, val_truth), material, seeds, Path(out) / "runs", jobs)
    thresholds = {
        key: metrics.thresholds(found["val"], val_truth, by="recall", at=RECALL) for key, found in scores.items()
    }
    tested = {key: found["test"] for key, found in scores.items()}
    names = [arm.name for arm in arms]
    return Outcome(dataset, test, test_truth, tested, thresholds, list(seeds), names, Path(out) / "runs")


def _judged(dataset: Dataset, material: Material) -> Labels:
    return labels.resolve(dataset, material.segments, [_range_sources(dataset)[0]])


def recipe(epochs: int, rows: int) -> TrainConfig:
    """How the arms are trained: `rows` windows an epoch, whatever they are drawn from."""
    return TrainConfig(
        model_options=SMALL, clip_s=WINDOW_S, epochs=epochs, epoch_size=rows, batch_size=16, lr=4e-3, roll=True,
        gain_db=2.0,
    )  # fmt: skip


def _arms(dataset: Dataset, pool: Material, whole: Material, size: int, epochs: int) -> list[Arm]:
    """The arms of the module's docstring; `pool` are windows of all training recordings, `whole` the first `size`."""

    def clips(material: Material) -> Labels:
        return labels.resolve(dataset, material.segments, ["scraped"])

    once = pool.first(size)
    config = recipe(epochs, len(once.waves))
    # as many steps as the other arms, each with about as many seconds of sound
    steps = -(-len(once.waves) // config.batch_size)
    batch = max(2, -(-len(whole.waves) // steps))
    changes = {"clip_s": whole.waves.shape[1] / whole.sr, "batch_size": batch, "epoch_size": steps * batch}
    arms = [
        Arm(RANGES, once, _judged(dataset, once), config),
        Arm(CLIPS, once, clips(once), config),
        Arm(WHOLE, whole, clips(whole), replace(config, **changes)),
    ]
    available = pool.segments["recording"].nunique()
    for times in [times for times in TIMES[1:] if times * size <= available]:
        more = pool.first(times * size)
        arms.append(Arm(f"{CLIPS} {times}x", more, clips(more), config))
    return arms


def quiet_kinds(outcome: Outcome) -> pd.Series:
    """Kind of silence or background of the test windows without any event (NaN elsewhere), index segment."""
    if outcome.dataset.name == "embedded":
        return embedded.quiet_kinds(outcome.dataset, outcome.test.segments)
    absent = (outcome.truth.frame() == 0).all(axis=1)
    return pd.Series("nothing", index=outcome.truth.segments).where(absent)


def statistics(outcome: Outcome) -> dict[str, dict[str, dict[int, Statistic]]]:
    """metric -> arm -> seed -> number of a set of test recordings, ready to be resampled."""
    kinds = quiet_kinds(outcome)
    found: dict[str, dict[str, dict[int, Statistic]]] = {}
    for arm in outcome.arms:
        for seed in outcome.seeds:
            for metric, statistic in _of_run(outcome, arm, seed, kinds).items():
                found.setdefault(metric, {}).setdefault(arm, {})[seed] = statistic
    return found


def _of_run(outcome: Outcome, arm: str, seed: int, kinds: pd.Series) -> dict[str, Statistic]:
    scores, limits = outcome.scores[arm, seed], outcome.thresholds[arm, seed]
    truth, unit = outcome.truth, outcome.test.unit
    groups = outcome.dataset.recordings.set_index("recording")["group"]
    fires = (scores > limits).any(axis=1).astype(float).to_frame("any")
    silent = kinds.isin(SILENT).astype(float).to_frame("any")
    by_recording = events.false_positives_by_recording(scores, truth, outcome.test.segments, limits)
    statistics = {
        "mAP": resample.map_statistic(scores, truth, unit),
        "false positives per hour": resample.false_positive_statistic(by_recording, groups),
        "share of absent time that fires": resample.fired_share_statistic(by_recording, groups),
        "mean score where absent": resample.absent_score_statistic(scores, truth, unit),
        "calibration error": resample.calibration_statistic(scores, truth, unit),
        "fires on silence": resample.ratio_statistic(fires * silent, silent, unit),
        "recall": resample.recall_statistic(scores, truth, limits, unit),
    }
    if {"bark", "howl"} <= set(scores.columns):
        statistics["bark/howl confusion"] = resample.confusion_statistic(scores, truth, limits, unit, PAIRS)
    for kind in kinds.dropna().unique():
        here = (kinds == kind).astype(float).to_frame("any")
        statistics[f"fires on {kind}"] = resample.ratio_statistic(fires * here, here, unit)
    return statistics


def table(found: Mapping[str, Mapping[str, Mapping[int, Statistic]]], seed: int = 0) -> pd.DataFrame:
    """Mean over seeds of each metric and arm with its 95 % interval over groups (and seeds).

    Returns
    -------
    pandas.DataFrame
        metric, arm, value, low, high, n.
    """
    rows = []
    for metric, arms in found.items():
        for arm, by_seed in arms.items():
            rows.append({"metric": metric, "arm": arm, **vars(mean_over_seeds(by_seed, np.random.default_rng(seed)))})
    table = pd.DataFrame(rows).drop(columns="level")
    return on_scale(table, np.where(table["metric"] == "false positives per hour", np.inf, 1.0))


def wide(summary: pd.DataFrame) -> pd.DataFrame:
    """The metrics of `SHOWN` as text "value [low, high]", one row a metric, one column an arm."""
    table = intervals_wide(summary[summary["metric"].isin(SHOWN)], "metric", "arm")
    return table.loc[[metric for metric in SHOWN if metric in table.index]]


def by_kind(summary: pd.DataFrame) -> pd.DataFrame:
    """Share of windows without event that fire: one row an arm, one column a kind of silence or background."""
    part = summary[summary["metric"].str.startswith("fires on ") & (summary["metric"] != "fires on silence")]
    kinds = part["metric"].str.removeprefix("fires on ")
    order = [*SILENCE_KINDS, *sorted(set(kinds) - set(SILENCE_KINDS))]
    table = part.assign(kind=kinds).pivot(index="arm", columns="kind", values="value")
    return table.reindex(
        index=list(dict.fromkeys(part["arm"])), columns=[kind for kind in order if kind in table.columns]
    )


def reliability(outcome: Outcome, arms: Sequence[str] = (RANGES, CLIPS)) -> dict[str, pd.DataFrame]:
    """Reliability of the pooled classes and seeds of each arm, ten bins."""
    truth, tables = outcome.truth.frame(), {}
    for arm in arms:
        scores = pd.concat([outcome.scores[arm, seed].add_prefix(f"{seed}:", axis=0) for seed in outcome.seeds])
        judged = pd.concat([truth.add_prefix(f"{seed}:", axis=0) for seed in outcome.seeds])
        table = metrics.reliability(scores, judged, n_bins=10)
        tables[arm] = table[table["class_name"] == "(all)"]
    return tables


def labelled_ranges(dataset: Dataset) -> Statistic:
    """Labelled ranges a clip minus one, over all training recordings that were given a clip label (B1.5).

    One in which nothing was found counts, with no range.
    """
    given = dataset.annotations.loc[dataset.annotations["source"] == "scraped", "segment"]
    clips = dataset.segments.loc[dataset.segments["segment"].isin(given), "recording"]
    train = dataset.part("train")["recording"]
    counts = ranges(dataset).groupby("recording").size()
    extra = (counts.reindex(train[train.isin(clips)], fill_value=0) - 1).astype(float).to_frame("extra")
    groups = dataset.recordings.set_index("recording")["group"]
    return resample.ratio_statistic(extra, extra * 0 + 1, groups)


def claims(
    outcome: Outcome, found: Mapping[str, Mapping[str, Mapping[int, Statistic]]], data: str, scale: str, seed: int = 0
) -> pd.DataFrame:
    """Claims B1.1 to B1.6 with effect, interval and verdict; index id.

    How many ranges a clip holds is a parameter of the embedded data, which therefore say nothing of B1.5.
    """
    draws = np.random.default_rng  # the same for each effect, as in the tables
    counted = None if data == "embedded" else stats.bootstrap(labelled_ranges(outcome.dataset), draws(seed))
    effects: dict[str, stats.Interval | None] = {"B1.5": counted}
    for name, (metric, arm, baseline, relative) in COMPARED.items():
        by_arm = found.get(metric, {})
        there = arm in by_arm and baseline in by_arm
        effects[name] = (
            stats.paired_bootstrap(by_arm[arm], by_arm[baseline], draws(seed), relative=relative) if there else None
        )
    seeds = len(outcome.seeds)
    rows = [
        stats.claim_row(name, effects[name], data, scale, seeds if name in COMPARED else None)
        for name in sorted(effects)
    ]
    return pd.DataFrame(rows).set_index("id")


def results(
    summary: pd.DataFrame, ledger: pd.DataFrame, data: str, scale: str, more: Sequence[pd.DataFrame] = ()
) -> list[dict[str, Any]]:
    """Rows of results.jsonl: each metric of each arm, the effect behind each claim, and what stands beside them.

    `more` are tables like `summary` that may say an experiment, a split and a class_name, too.
    """
    about: dict[str, Any] = {"seed": None, "data": data, "scale": scale}
    effects = []
    for name, claim in ledger[ledger["value"].notna()].iterrows():
        metric, arm, baseline, relative = COMPARED.get(str(name), (RANGES_A_CLIP, RANGES, "", False))
        metric += ", relative change" if relative else ""
        arm += f" minus {baseline}" if baseline else ""
        effects.append({**claim.to_dict(), "metric": metric, "arm": arm, "experiment": name})
    measured = [item for part in (summary, *more) for item in part[part["value"].notna()].to_dict("records")]
    rows = []
    for item in [*measured, *effects]:
        value = stats.Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        place = {name: item[name] for name in ("split", "class_name") if name in item}
        rows.append(row(item.get("experiment", EXPERIMENT), item["arm"], item["metric"], value, **about, **place))
    return rows


def most_wrong(outcome: Outcome, arm: str = CLIPS) -> str:
    """The test recording with the highest mean score of absent classes, among those that hold two classes or more.

    If no recording holds two, the choice is among those that hold one.
    """
    truth = outcome.truth.frame()
    recording = outcome.test.segments.set_index("segment")["recording"]
    mean = pd.concat([outcome.scores[arm, seed] for seed in outcome.seeds]).groupby(level="segment").mean()
    wrong = mean.where(truth == 0).mean(axis=1).groupby(recording).mean()
    present = truth.groupby(recording).max().sum(axis=1).reindex(wrong.index)
    return str(wrong[present >= min(2.0, present.max())].idxmax())


def sound(outcome: Outcome, recording: str) -> np.ndarray:
    """The wave (n,) of a recording at the sample rate of the test material."""
    paths = outcome.dataset.recordings.set_index("recording")["path"]
    return audio.load(str(paths[recording]), sr=outcome.test.sr)[0]


def timeline(outcome: Outcome, recording: str, arms: Sequence[str] = (RANGES, CLIPS)) -> dict[str, pd.DataFrame]:
    """Scores over time in one recording, a window every quarter of a second, mean over seeds; index centre in s."""
    recordings = outcome.dataset.recordings
    material = read_windows(recordings[recordings["recording"] == recording], outcome.test.sr, WINDOW_S, 0.25)
    centre = material.segments[["start_s", "end_s"]].mean(axis=1).to_numpy()
    found = {}
    for arm in arms:
        checkpoints = [load_checkpoint(run_folder(outcome.folder, arm, seed) / "best.pt") for seed in outcome.seeds]
        parts = [score(one, material.waves, material.segments["segment"]) for one in checkpoints]
        found[arm] = (sum(parts[1:], parts[0]) / len(parts)).set_axis(centre)
    return found
