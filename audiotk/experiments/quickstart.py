"""Notebook 00: any data set -> labels -> a trained model -> average precision with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio, datasets, labels, metrics, stats
from audiotk.events import truth_ranges
from audiotk.experiments import (
    COARSE,
    Material,
    check_judged,
    check_scale,
    first_readable,
    load_material,
    mean_over_seeds,
    on_scale,
    one_thread,
    row,
    run_folder,
)
from audiotk.experiments.devices import own_gpu
from audiotk.resample import map_statistic
from audiotk.tables import SPLITS, AudiotkError, Dataset, Labels
from audiotk.train import Run, TrainConfig, train

EXPERIMENT = "quickstart"
LONGEST_S = 10.0  # longer recordings are cut into windows of this length
EMBEDDED = {"smoke": 60, "demo": 300, "paper": 2000}  # recordings
EPOCHS = {"smoke": 2, "demo": 100, "paper": 200}
EMBEDDED_EPOCHS = {"smoke": 2, "demo": 30, "paper": 60}


def load(data: str, data_root: str, scale: str, complete: bool = False) -> Dataset:
    """The data set by name; the embedded one in the size of `scale`, a folder's ranges as `complete` or not."""
    check_scale(scale)
    options: dict[str, dict[str, Any]] = {
        "embedded": {"n": EMBEDDED[scale], "progress": True},
        "folder": {"complete": complete, "progress": True},
        "esc50": {"val_share": 0.1},  # so few recordings in ESC-10 that training needs them more
    }
    return check_judged(datasets.load(data, data_root or None, **options.get(data, {})))


def window_s(dataset: Dataset) -> float:
    """Length of the segments: the longest recording, rounded up to a tenth of a second, within 1 s and `LONGEST_S`."""
    longest = float(dataset.recordings["duration_s"].max())
    return min(LONGEST_S, max(1.0, float(np.ceil(longest * 10 - 0.05) / 10)))


def overview(dataset: Dataset) -> pd.DataFrame:
    """Recordings, groups and hours of each split."""
    table = dataset.recordings.assign(split=dataset.recordings["recording"].map(dataset.split))
    counts = table.groupby("split").agg(
        recordings=("recording", "size"), groups=("group", "nunique"), hours=("duration_s", "sum")
    )
    return counts.reindex([name for name in SPLITS if name in counts.index]).assign(hours=lambda t: t["hours"] / 3600)


def choose(dataset: Dataset, count: int = 6) -> dict[str, str]:
    """Recording -> title: a training recording of each of the first `count` classes that have one."""
    train = dataset.part("train")["recording"]
    rows = dataset.annotations[(dataset.annotations["value"] == 1)].merge(dataset.segments, on="segment")
    rows = rows[rows["recording"].isin(train)].drop_duplicates("recording")
    chosen: dict[str, str] = {}
    for name in dataset.classes[:count]:
        found = first_readable(dataset.recordings, rows.loc[rows["class_name"] == name, "recording"], 1)
        chosen |= {recording: f"{recording}: {name}" for recording in found}
    return chosen


def ranges(dataset: Dataset) -> pd.DataFrame | None:
    """Labelled time ranges, if a source gives any."""
    strong = [name for name in dataset.sources.index if not dataset.sources.loc[name, "weak"]]
    return truth_ranges(dataset.annotations, dataset.segments, strong[0]) if strong else None


def sounds(dataset: Dataset, chosen: Mapping[str, str]) -> list[tuple[str, np.ndarray]]:
    """(title, wave at 16 kHz) of recordings, for players."""
    paths = dataset.recordings.set_index("recording")["path"]
    return [(title, audio.load(paths[name], sr=16000)[0]) for name, title in chosen.items()]


def recipe(dataset: Dataset, scale: str) -> TrainConfig:
    """MelCNN with time rolls and spectrogram masks, one-cycle AdamW: chosen on folds 1 and 2 of ESC-10."""
    embedded = dataset.name == "embedded"
    epochs = (EMBEDDED_EPOCHS if embedded else EPOCHS)[check_scale(scale)]
    options: dict[str, Any] = COARSE if embedded else {"deeper": True}
    return TrainConfig(
        model_options=options, clip_s=window_s(dataset), epochs=epochs, batch_size=16, roll=True, masks=2
    )


def read(dataset: Dataset, config: TrainConfig) -> dict[str, Material]:
    """Material of train, val and test."""
    return {split: load_material(dataset, split, config.sr, config.clip_s) for split in ("train", "val", "test")}


def problems(dataset: Dataset, material: dict[str, Material]) -> pd.DataFrame:
    """Every file that was skipped, with the reason."""
    return pd.concat([dataset.problems, *(part.problems for part in material.values())], ignore_index=True)


def resolve(dataset: Dataset, material: dict[str, Material]) -> dict[str, Labels]:
    """Labels of each split, from the truth where a data set has it, else from all its sources in their order."""
    sources = ["truth"] if "truth" in dataset.sources.index else list(dataset.sources.index)
    return {name: labels.resolve(dataset, part.segments, sources) for name, part in material.items()}


@one_thread()
def fit(
    config: TrainConfig, material: dict[str, Material], labels: dict[str, Labels], seeds: Sequence[int], out: str | Path
) -> dict[int, Run]:
    """One run for each seed, on one thread, in ``out/melcnn-seedN``."""
    check_testable(labels["test"], material["test"])
    train_, val = material["train"].waves, material["val"].waves
    with own_gpu():
        return {
            seed: train(
                replace(config, seed=seed), train_, labels["train"], val, labels["val"], run_folder(out, "melcnn", seed)
            )
            for seed in seeds
        }


def check_testable(truth: Labels, material: Material) -> None:
    """Raise before training if there will be nothing to report: no testable class, or fewer than two groups."""
    counts = truth.counts()
    testable = int(((counts["present"] > 0) & (counts["absent"] > 0)).sum())
    groups = material.unit.nunique()
    if not testable or groups < 2:
        raise AudiotkError(
            f"the test split has {len(truth.segments)} segments of {groups} group(s), and {testable} of {len(counts)} "
            "classes are both present and absent in it; add recordings of other groups, or set the split column"
        )


@one_thread()
def score(runs: Mapping[int, Run], material: Material) -> dict[int, pd.DataFrame]:
    """Scores of each seed's run for all segments of a material."""
    return {seed: run.score(material.waves, material.segments["segment"]) for seed, run in runs.items()}


def evaluate(scores: Mapping[int, pd.DataFrame], truth: Labels, material: Material | pd.Series) -> pd.DataFrame:
    """Average precision of each class and their mean, averaged over seeds, with 95 % intervals over groups (and seeds).

    `material` gives the group of each segment; so does a Series of them.

    Returns
    -------
    pandas.DataFrame
        Index class, last row "mean (mAP)"; value, low, high, n (groups), positives. Classes that are nowhere present or
        nowhere absent in the test split are left out.
    """
    unit = material if isinstance(material, pd.Series) else material.unit
    counted = metrics.average_precision(next(iter(scores.values())), truth)
    rows = {}
    for name in [*counted.index[counted["ap"].notna()], None]:
        by_seed = {
            seed: map_statistic(one, truth, unit, class_name=None if name is None else str(name))
            for seed, one in scores.items()
        }
        positives = counted["positives"].sum() if name is None else counted.loc[name, "positives"]
        own = vars(mean_over_seeds(by_seed, np.random.default_rng(0)))
        rows["mean (mAP)" if name is None else name] = {**own, "positives": positives}
    table = pd.DataFrame.from_dict(rows, orient="index")[["value", "low", "high", "n", "positives"]]
    return on_scale(table).rename_axis("class")


def mistakes(by_seed: Mapping[int, pd.DataFrame], truth: Labels, count: int = 6) -> pd.DataFrame:
    """The highest scores (mean over seeds) of classes that were judged absent: segment, class_name, score."""
    scores = pd.concat(list(by_seed.values())).groupby(level="segment", sort=False).mean()
    wrong = scores.where(truth.select(scores.index, scores.columns).frame() == 0)
    table = wrong.rename_axis("segment").reset_index().melt("segment", var_name="class_name", value_name="score")
    return table.dropna().nlargest(count, "score").reset_index(drop=True)


def sounds_of_mistakes(table: pd.DataFrame, material: Material) -> list[tuple[str, np.ndarray]]:
    """(caption, wave) of the segments of :func:`mistakes`, for players."""
    place = pd.Index(material.segments["segment"]).get_indexer(pd.Index(table["segment"]))
    captions = [f"{item.class_name}? {item.score:.2f} · {item.segment}" for item in table.itertuples()]
    return list(zip(captions, material.waves[place], strict=True))


def results(table: pd.DataFrame, *, seeds: Sequence[int], data: str, scale: str) -> list[dict[str, Any]]:
    """Rows of results.jsonl from the table of :func:`evaluate`; the seed is null where there were several."""
    rows = []
    for name, values in table.iterrows():
        mean = str(name) == "mean (mAP)"
        found = stats.Interval(values["value"], values["low"], values["high"], 0.95, int(values["n"]))
        about: dict[str, Any] = {"seed": seeds[0] if len(seeds) == 1 else None, "data": data, "scale": scale}
        about["class_name"] = None if mean else str(name)
        rows.append(row(EXPERIMENT, "melcnn", "mAP" if mean else "AP", found, **about))
    return rows
