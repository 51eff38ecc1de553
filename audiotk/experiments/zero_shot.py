"""Notebook 07, first half: what a teacher that was not trained for these classes says of them (P1, section 3.4).

Teachers: "examples" (the default; no download), "yamnet", "clap" (LAION's), "msclap" (P1's) or any name of
`audiotk.teachers`. Thresholds and sigmoids are chosen on validation recordings; the test recordings are opened once.
The data sets are those of notebook 00, but for esc50: mixtures of its recordings, as in notebooks 05 and 06.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio, datasets, labels, metrics, teachers
from audiotk.experiments import (
    check_judged,
    check_scale,
    labelled_windows,
    mean_over_seeds,
    on_scale,
    p1_data,
    polyphony,
    quickstart,
    row,
)
from audiotk.experiments.quickstart import EMBEDDED, mistakes, window_s
from audiotk.experiments.quickstart import evaluate as average_precision
from audiotk.experiments.zero_shot_cost import hop_s
from audiotk.experiments.zero_shot_told import by_example, sources, with_examples, words_for
from audiotk.resample import Statistic, ratio_statistic
from audiotk.scoring import Heard, listen
from audiotk.scoring.heard import check_question
from audiotk.stats import Interval
from audiotk.tables import SPLITS as EVERY_SPLIT
from audiotk.tables import AudiotkError, Dataset, Labels
from audiotk.teachers import Prompts, Teacher
from audiotk.teachers.readings import Reading, common_threshold, fit_sigmoid

__all__ = ["EMBEDDED", "compare", "load", "mistakes", "results", "run", "sensitivity"]

EXPERIMENT = "zero-shot teacher"
NAMES = {"clap": "laion-clap", "prototypes": "examples"}
SHOTS = 10  # examples of a class
VARIED = (1, 3, 10, 30)  # how many there are in the table of sensitivity
ENDS = ("value", "low", "high", "n")
PREFIXES = ("", "This is a sound of ", "a recording of ", "I can hear ")
SPLITS = ("val", "test")
P1 = "softmax (P1)"


@dataclass(frozen=True)
class Asked:
    """A teacher, what it was asked, and what it heard of validation and test."""

    teacher: Teacher
    prompts: Prompts | None
    heard: Mapping[str, Heard]
    truth: Mapping[str, Labels]

    def similarities(self, split: str) -> pd.DataFrame:
        """Before they are read as scores."""
        return self.heard[split].similarities(self.prompts)

    def readings(self) -> dict[str, Reading]:
        """The readings that this teacher can be given, the usual one first; the sigmoid is fitted on validation.

        It is left out, with a warning, where validation has a class without a present or an absent label.
        """
        scale, counts = self.teacher.logit_scale, self.truth["val"].counts()
        read = {"its own scores": Reading("own")}
        if self.teacher.dim:
            read = {P1: Reading("softmax", scale), "cosine": Reading("cosine")}
        lost = counts.index[(counts["present"] == 0) | (counts["absent"] == 0)]
        if len(lost):
            told = f"validation needs present and absent labels of each class, but for {', '.join(map(str, lost))}"
            warnings.warn(f"{self.teacher.name}: no sigmoid is fitted; {told} it lacks one of them", stacklevel=2)
        else:
            read["sigmoid, fitted"] = fit_sigmoid(self.similarities("val"), self.truth["val"], scale)
        if self.teacher.dim:
            background = len(self.teacher.similarities(self.heard["val"].values[:1], self.prompts)[0])
            if background > len(self.truth["val"].classes):
                read["against background"] = Reading("background", scale)
        return read

    def scores(self, split: str, reading: Reading) -> pd.DataFrame:
        """Scores of a split."""
        return self.heard[split].scores(self.prompts, reading)


@dataclass(frozen=True)
class Outcome:
    """What each seed's teacher says; only "examples" depends on the seed (by which they are drawn)."""

    dataset: Dataset
    name: str
    asked: Mapping[int, Asked]
    segments: pd.DataFrame
    out: Path

    @property
    def first(self) -> Asked:
        """That of the first seed."""
        return next(iter(self.asked.values()))

    @property
    def unit(self) -> pd.Series:
        """Group of each segment."""
        groups = self.dataset.recordings.set_index("recording")["group"]
        return self.segments.set_index("segment")["recording"].map(groups)

    def __repr__(self) -> str:
        return (
            f"Outcome({self.name!r} on {self.dataset.name!r}, {len(self.segments)} segments, seeds {list(self.asked)})"
        )


def load(
    data: str, data_root: str, scale: str, out: str | Path, complete: bool = False, train_data: str = "",
    train_root: str = "",
) -> Dataset:  # fmt: skip
    """The data set of notebook 00 by name; of esc50 mixtures, which are written into ``out/mixtures``.

    With `train_data`, or where P1's class map lies in the root, those of notebooks 05 and 06: see
    :func:`audiotk.experiments.p1_data.load`. They are listed in ``out/manifest.csv``.
    """
    counts = dict(zip(EVERY_SPLIT, polyphony.COUNTS[check_scale(scale)], strict=True))
    if p1_data.applies(data, data_root, train_data, train_root):
        options = {**polyphony.reading(scale), "folder": {"complete": complete}}
        dataset = check_judged(p1_data.load(data, data_root, train_data, train_root, options))
        p1_data.write_manifest(dataset, out)
        return dataset
    if data == "esc50":
        return polyphony.compose(datasets.load(data, data_root, val_share=0.3), counts, Path(out) / "mixtures")
    return quickstart.load(data, data_root, scale, complete)


def run(dataset: Dataset, teacher: str, weights: str, prompts: str, seeds: Sequence[int], out: str | Path) -> Outcome:
    """Have the teacher hear validation and test, as windows of up to ten seconds.

    Parameters
    ----------
    dataset
        From :func:`load`.
    teacher, weights, prompts
        Name, file of weights and YAML of prompts; "" for what comes with audiotk or is in the cache.
    seeds
        Of the draw of examples, and of nothing else.
    out
        What was heard is kept in ``out/heard``.
    """
    name, out = NAMES.get(teacher, teacher), Path(out)
    dataset = with_examples(dataset) if name == "examples" else dataset
    recordings = pd.concat([dataset.part(split) for split in SPLITS])
    segments = labelled_windows(dataset, recordings, window_s(dataset))
    given = prompts and Prompts.read(prompts)
    asked: dict[int, Asked] = {}
    for seed in seeds if name == "examples" else list(seeds)[:1]:
        if name == "examples":
            made: Teacher = by_example(dataset, SHOTS, seed)
            words = given or None
        else:
            made = teachers.load(name, **({"weights": weights} if weights else {}))
            words = given or words_for(dataset, made)
        asked[seed] = ask(dataset, made, words, segments, out / "heard")
    return Outcome(dataset, name, asked, segments, out)


def ask(
    dataset: Dataset,
    teacher: Teacher,
    prompts: Prompts | None,
    segments: pd.DataFrame,
    out: Path,
    splits: Sequence[str] = SPLITS,
) -> Asked:
    """Have a teacher hear the windows `segments` of some splits; what was heard before in `out` is not heard again."""
    if prompts is not None:
        if lost := [name for name in dataset.classes if name not in prompts.classes]:
            told = f"{lost[0]!r} of {dataset.name} has none ({len(lost)} such)"
            raise AudiotkError(f"prompts: class {told}; give prompts=FILE")
        prompts = replace(prompts, classes={name: prompts.classes[name] for name in dataset.classes})
    check_question(teacher, prompts, None)
    heard, truth = {}, {}
    for split in splits:
        mine = segments[segments["recording"].isin(dataset.part(split)["recording"])].reset_index(drop=True)
        heard[split] = listen(dataset.recordings, mine, teacher, out, hop_s=hop_s(teacher))
        truth[split] = labels.resolve(dataset, heard[split].segments, sources(dataset))
    return Asked(teacher, prompts, heard, truth)


def told(name: str) -> str:
    """What a teacher of this name knows of the classes, in words."""
    if name == "examples":
        return f"not trained, but told the classes of training segments, {SHOTS} of each class; this is not zero-shot"
    return "never trained on these labels; it knows what the classes are called"


# --- what it says -----------------------------------------------------------------------------------------------------


def compare(outcome: Outcome) -> pd.DataFrame:
    """Every reading on test: mAP, and macro F1 at the common threshold chosen on validation.

    Returns
    -------
    pandas.DataFrame
        arm (reading), metric, value, low, high, n, threshold (mean over seeds), seed (None: several).
    """
    rows = []
    for reading in outcome.first.readings():
        found = {seed: asked.readings()[reading] for seed, asked in outcome.asked.items()}
        scores = {seed: asked.scores("test", found[seed]) for seed, asked in outcome.asked.items()}
        level = {
            seed: common_threshold(asked.scores("val", found[seed]), asked.truth["val"])
            for seed, asked in outcome.asked.items()
        }
        truth = outcome.first.truth["test"]
        precise = average_precision(scores, truth, outcome.unit[truth.segments]).loc["mean (mAP)"]
        by_seed = {seed: f1_statistic(scores[seed], truth, at, outcome.unit) for seed, at in level.items()}
        f1 = mean_over_seeds(by_seed, np.random.default_rng(0))
        about = {"arm": reading, "threshold": float(np.mean(list(level.values())))}
        rows.append({**about, "metric": "mAP", **{name: precise[name] for name in ENDS}})
        rows.append({**about, "metric": "macro F1", "value": f1.value, "low": f1.low, "high": f1.high, "n": f1.n})
    return on_scale(pd.DataFrame(rows))


def f1_statistic(scores: pd.DataFrame, truth: Labels, threshold: float, unit: pd.Series) -> Statistic:
    """Macro F1 at a threshold, over the classes that are somewhere present; unknown cells take no part."""
    y = truth.frame()[scores.columns]
    fires = (scores > threshold).where(y.notna(), False).astype(float)
    present = (y == 1).astype(float)
    used = present.columns[present.sum() > 0]
    return ratio_statistic((2 * fires * present)[used], (fires + present)[used], unit[scores.index])


def by_class(outcome: Outcome, reading: str | None = None) -> pd.DataFrame:
    """Average precision of each class on test, with intervals; see :func:`audiotk.experiments.quickstart.evaluate`."""
    scores = {
        seed: asked.scores("test", asked.readings()[reading or next(iter(asked.readings()))])
        for seed, asked in outcome.asked.items()
    }
    truth = outcome.first.truth["test"]
    return average_precision(scores, truth, outcome.unit[truth.segments])


def at_threshold(outcome: Outcome) -> tuple[pd.DataFrame, float]:
    """Precision and recall of the first seed's usual reading on test, and the threshold, chosen on validation."""
    asked = outcome.first
    reading = next(iter(asked.readings().values()))
    level = common_threshold(asked.scores("val", reading), asked.truth["val"])
    return metrics.precision_recall_f1(usual_scores(outcome), asked.truth["test"], level), level


def usual_scores(outcome: Outcome) -> pd.DataFrame:
    """Scores of the first seed's usual reading on test."""
    asked = outcome.first
    return asked.scores("test", next(iter(asked.readings().values())))


def keep(outcome: Outcome) -> Path:
    """Write the scores of test, with the threshold and all that they depend on; returns the file."""
    asked = outcome.first
    reading = next(iter(asked.readings().values()))
    _, level = at_threshold(outcome)
    path = outcome.out / "scores.parquet"
    asked.heard["test"].write_scores(path, asked.prompts, reading, thresholds=level)
    return path


def reliability(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """Of each reading, whether a score means a share: pooled over the classes of the first seed's test."""
    asked = outcome.first
    tables = {}
    for name, reading in asked.readings().items():
        table = metrics.reliability(asked.scores("test", reading), asked.truth["test"], 10)
        tables[name] = table[table["class_name"] == metrics.ALL]
    return tables


def errors(outcome: Outcome, count: int = 6) -> tuple[list[tuple[str, np.ndarray]], list[tuple[str, np.ndarray]]]:
    """(caption, wave at 16 kHz) of the surest false alarms and of the surest misses on test, for players."""
    asked = outcome.first
    scores, truth = usual_scores(outcome), asked.truth["test"]
    alarms = mistakes({0: scores}, truth, count)
    there = scores.where(truth.frame()[scores.columns] == 1).rename_axis("segment").reset_index()
    missed = there.melt("segment", var_name="class_name", value_name="score").dropna().nsmallest(count, "score")
    return _sounds(outcome, alarms, "?"), _sounds(outcome, missed, "!")


def _sounds(outcome: Outcome, table: pd.DataFrame, mark: str) -> list[tuple[str, np.ndarray]]:
    paths = outcome.dataset.recordings.set_index("recording")["path"]
    place = outcome.segments.set_index("segment").loc[table["segment"]]
    spans = zip(place["recording"], place["start_s"], place["end_s"], strict=True)
    waves = [audio.load(str(paths[name]), 16000, start_s, end_s)[0] for name, start_s, end_s in spans]
    rows = zip(table["class_name"], table["score"], table["segment"], strict=True)
    captions = [f"{name}{mark} {score:.2f} · {segment}" for name, score, segment in rows]
    return list(zip(captions, waves, strict=True))


# --- how much it depends on what it was asked -------------------------------------------------------------------------


def sensitivity(outcome: Outcome) -> pd.DataFrame:
    """Average precision of each class on *validation* for other ways to ask: rows variants, columns classes and mean.

    Other numbers of examples, other prefixes of the text, or only the first of several class names.
    """
    asked, dataset = outcome.first, outcome.dataset
    if outcome.name == "examples":
        seeds = list(outcome.asked)
        rows = {f"{n} examples": [_ap(_again(outcome, by_example(dataset, n, seed))) for seed in seeds] for n in VARIED}
        return pd.DataFrame({name: pd.concat(found, axis=1).mean(axis=1) for name, found in rows.items()}).T
    prompts = asked.prompts
    assert prompts is not None
    first = replace(prompts, classes={name: texts[:1] for name, texts in prompts.classes.items()})
    if asked.teacher.dim:
        ways = {f"“{prefix}…”": replace(prompts, prefix=prefix) for prefix in PREFIXES}
        ways["names of the classes"] = Prompts({name: (name.replace("_", " "),) for name in prompts.classes})
    else:
        ways = {"as given": prompts} | ({"first name only": first} if first != prompts else {})
    return pd.DataFrame({name: _ap(replace(asked, prompts=way)) for name, way in ways.items()}).T


def _again(outcome: Outcome, teacher: Teacher) -> Asked:
    asked = outcome.first
    return ask(outcome.dataset, teacher, asked.prompts, outcome.segments, outcome.out / "heard", ["val"])


def _ap(asked: Asked) -> pd.Series:
    reading = Reading("softmax", asked.teacher.logit_scale) if asked.teacher.dim else Reading("own")
    found = metrics.average_precision(asked.scores("val", reading), asked.truth["val"])["ap"]
    return pd.concat([found.rename(lambda name: name.replace("_", " ")), pd.Series({"mean": found.mean()})])


def results(outcome: Outcome, compared: pd.DataFrame, data: str, scale: str) -> list[dict[str, Any]]:
    """Rows of results.jsonl: each reading, and the classes of the usual one."""
    seed = next(iter(outcome.asked)) if len(outcome.asked) == 1 else None
    about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale}
    rows = []
    for item in compared.to_dict("records"):
        found = Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        rows.append(row(EXPERIMENT, f"{outcome.name}: {item['arm']}", str(item["metric"]), found, **about))
    for name, values in by_class(outcome).drop(index="mean (mAP)").iterrows():
        found = Interval(values["value"], values["low"], values["high"], 0.95, int(values["n"]))
        rows.append(row(EXPERIMENT, outcome.name, "AP", found, class_name=str(name), **about))
    return rows
