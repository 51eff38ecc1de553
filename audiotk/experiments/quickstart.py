"""Notebook 00: any data set -> labels -> a trained model -> average precision with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio, datasets, labels, metrics, stats
from audiotk.events import truth_ranges
from audiotk.experiments import Material, check_scale, load_material, row
from audiotk.resample import map_statistic
from audiotk.tables import SPLITS, Dataset, Labels
from audiotk.train import TrainConfig

EXPERIMENT = "quickstart"
LONGEST_S = 10.0  # longer recordings are cut into windows of this length
EMBEDDED = {"smoke": 60, "demo": 300, "paper": 2000}  # recordings
EPOCHS = {"smoke": 2, "demo": 80, "paper": 200}
EMBEDDED_EPOCHS = {"smoke": 2, "demo": 20, "paper": 60}


def load(data: str, data_root: str, scale: str) -> Dataset:
    """The data set by name; the embedded one in the size of `scale`."""
    check_scale(scale)
    options: dict[str, dict[str, Any]] = {
        "embedded": {"n": EMBEDDED[scale], "progress": True},
        "folder": {"complete": True, "progress": True},  # where ranges are labelled, a class is absent outside of them
    }
    return datasets.load(data, data_root or None, **options.get(data, {}))


def window_s(dataset: Dataset) -> float:
    """Length of the segments: the longest recording, at most `LONGEST_S`, rounded up to a tenth of a second."""
    longest = float(dataset.recordings["duration_s"].max())
    return min(LONGEST_S, float(np.ceil(longest * 10 - 1e-6) / 10))


def overview(dataset: Dataset) -> pd.DataFrame:
    """Recordings, groups and hours of each split."""
    table = dataset.recordings.assign(split=dataset.recordings["recording"].map(dataset.split))
    counts = table.groupby("split").agg(
        recordings=("recording", "size"), groups=("group", "nunique"), hours=("duration_s", "sum")
    )
    return counts.reindex([name for name in SPLITS if name in counts.index]).assign(hours=lambda t: t["hours"] / 3600)


def choose(dataset: Dataset, count: int = 6) -> dict[str, str]:
    """Recording -> title for the first training recording of each of the first `count` classes that have one."""
    train = dataset.part("train")["recording"]
    rows = dataset.annotations[(dataset.annotations["value"] == 1)].merge(dataset.segments, on="segment")
    rows = rows[rows["recording"].isin(train)].drop_duplicates("recording")
    firsts = rows.drop_duplicates("class_name").set_index("class_name")["recording"]
    names = [name for name in dataset.classes if name in firsts.index][:count]
    return {firsts[name]: f"{firsts[name]}: {name}" for name in names}


def ranges(dataset: Dataset) -> pd.DataFrame | None:
    """Labelled time ranges, if a source gives any."""
    strong = [name for name in dataset.sources.index if not dataset.sources.loc[name, "weak"]]
    return truth_ranges(dataset.annotations, dataset.segments, strong[0]) if strong else None


def sounds(dataset: Dataset, chosen: Mapping[str, str]) -> list[tuple[str, np.ndarray]]:
    """(title, wave at 16 kHz) of recordings, for players."""
    paths = dataset.recordings.set_index("recording")["path"]
    return [(title, audio.load(paths[name], sr=16000)[0]) for name, title in chosen.items()]


def recipe(dataset: Dataset, scale: str, seed: int = 0) -> TrainConfig:
    """MelCNN with time rolls and spectrogram masks, one-cycle AdamW: chosen on folds 1 and 2 of ESC-10 alone."""
    epochs = (EMBEDDED_EPOCHS if dataset.name == "embedded" else EPOCHS)[check_scale(scale)]
    return TrainConfig(clip_s=window_s(dataset), epochs=epochs, batch_size=16, roll=True, masks=2, seed=seed)


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


def evaluate(scores: pd.DataFrame, truth: Labels, material: Material, seed: int = 0) -> pd.DataFrame:
    """Average precision of each class and their mean with 95 % intervals over recordings.

    Returns
    -------
    pandas.DataFrame
        Index class, last row "mean (mAP)"; value, low, high, n (recordings), positives.
    """
    rng = np.random.default_rng(seed)
    counted = metrics.average_precision(scores, truth)
    rows = {}
    for name in counted.index[counted["ap"].notna()]:
        found = stats.bootstrap(map_statistic(scores, truth, material.recording, class_name=name), rng)
        rows[name] = {**vars(found), "positives": counted.loc[name, "positives"]}
    mean = stats.bootstrap_map(scores, truth, material.recording, rng)
    rows["mean (mAP)"] = {**vars(mean), "positives": counted["positives"].sum()}
    return pd.DataFrame.from_dict(rows, orient="index")[["value", "low", "high", "n", "positives"]].rename_axis("class")


def mistakes(scores: pd.DataFrame, truth: Labels, count: int = 6) -> pd.DataFrame:
    """The highest scores of classes that were judged absent: segment, class_name, score."""
    wrong = scores.where(truth.select(scores.index, scores.columns).frame() == 0)
    table = wrong.rename_axis("segment").reset_index().melt("segment", var_name="class_name", value_name="score")
    return table.dropna().nlargest(count, "score").reset_index(drop=True)


def sounds_of_mistakes(table: pd.DataFrame, material: Material) -> list[tuple[str, np.ndarray]]:
    """(caption, wave) of the segments of :func:`mistakes`, for players."""
    place = pd.Index(material.segments["segment"]).get_indexer(pd.Index(table["segment"]))
    captions = [f"{item.class_name}? {item.score:.2f} · {item.segment}" for item in table.itertuples()]
    return list(zip(captions, material.waves[place], strict=True))


def results(table: pd.DataFrame, *, seed: int, data: str, scale: str) -> list[dict[str, Any]]:
    """Rows of results.jsonl from the table of :func:`evaluate`."""
    rows = []
    for name, values in table.iterrows():
        mean = str(name) == "mean (mAP)"
        found = stats.Interval(values["value"], values["low"], values["high"], 0.95, int(values["n"]))
        about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale, "class_name": None if mean else str(name)}
        rows.append(row(EXPERIMENT, "melcnn", "mAP" if mean else "AP", found, **about))
    return rows
