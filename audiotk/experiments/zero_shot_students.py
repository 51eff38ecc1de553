"""Notebook 07, second half: students of a zero-shot teacher's labels (P1, section 5.2, Fig. 3).

=================  ===================================================================================================
arm                labels of the training segments
=================  ===================================================================================================
true labels        what is really there, where that is known: what human labels without an error would give
human labels       those of the data set; where the truth is known, the truth with errors at the rates of notebooks 05
                   and 06: `MISSING` of the present cells, `WRONG` of the absent ones
teacher's labels   present where the teacher's score is above its threshold, absent elsewhere; nobody else is asked
corrected          the same, corrected by a network that was trained on them (P1, eq. 4 and 6, T = 0.05)
the teacher        is no student: its own scores
=================  ===================================================================================================

Epochs and thresholds are chosen on the best labels there are of the validation recordings, by all alike. A teacher by
example was shown some of the training segments that it then labels: `zero_shot.SHOTS` of each class.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch

from audiotk import augment, labels, metrics, noise, stats
from audiotk.experiments import (
    MOST_BYTES,
    Material,
    check_scale,
    labelled_windows,
    mean_over_seeds,
    on_scale,
    one_thread,
    polyphony,
    read_segments,
    row,
    run_folder,
)
from audiotk.experiments.devices import at_once, own_gpu
from audiotk.experiments.polyphony import MISSING, WRONG
from audiotk.experiments.quickstart import window_s
from audiotk.experiments.zero_shot import EXPERIMENT, Outcome, ask
from audiotk.experiments.zero_shot_cost import hop_s, macs, parameters, speed
from audiotk.experiments.zero_shot_told import sources
from audiotk.models import build, count_macs, count_parameters
from audiotk.relabel import correct
from audiotk.resample import Statistic, map_statistic, weighted_statistic
from audiotk.stats import Interval
from audiotk.tables import Dataset, Labels
from audiotk.teachers.readings import common_threshold
from audiotk.train import TrainConfig, train

TRUE, HUMAN, ZERO_SHOT, CORRECTED = "true labels", "human labels", "teacher's labels", "corrected"
STUDENTS, TEACHER = (TRUE, HUMAN, ZERO_SHOT, CORRECTED), "the teacher"
SMALLER = 100  # P1: "over 2 orders of magnitude smaller"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Students:
    """Scores of each arm and seed on val and test, the training labels behind them, and the best labels there are."""

    scores: Mapping[tuple[str, int], Mapping[str, pd.DataFrame]]
    taught: Mapping[tuple[str, int], Labels]
    truth: Mapping[str, Labels]
    unit: pd.Series  # group of each segment
    seeds: Sequence[int]
    config: TrainConfig
    teacher: Outcome

    @property
    def arms(self) -> list[str]:
        """The students that there are: without the truth, none of it."""
        return [arm for arm in STUDENTS if (arm, self.seeds[0]) in self.taught]

    def statistics(self, arm: str, class_name: str | None = None) -> dict[int, Statistic]:
        """mAP on test (or the AP of a class) by seed, as a number of the groups."""
        return {
            seed: map_statistic(self.scores[arm, seed]["test"], self.truth["test"], self.unit, class_name)
            for seed in self.seeds
        }


def recipe(scale: str, clip_s: float) -> TrainConfig:
    """P1's settings at scale "paper", those of notebooks 05 and 06; below it label-join mixing and a MelCNN of 31 K."""
    if check_scale(scale) == "paper":
        return polyphony.recipe(clip_s, scale)
    small = {"mels": 32, "n_fft": 1024, "hop": 1024, "width": 0.5}
    epochs = {"smoke": 2, "demo": 40}[scale]
    return TrainConfig(
        model_options=small, clip_s=clip_s, epochs=epochs, batch_size=16, roll=True, mix="join", max_sources=2
    )


def run(outcome: Outcome, scale: str, seeds: Sequence[int], out: str | Path, jobs: int | None = None) -> Students:
    """Have the teacher label the training recordings, and train students on its labels and on others.

    Parameters
    ----------
    outcome
        Of :func:`audiotk.experiments.zero_shot.run`: the teacher, with what it heard of validation and test.
    scale, seeds
        One student an arm and seed; the teacher "examples" is another for each seed, others are the same.
    out
        Finished runs in ``out/students`` are used again.
    """
    dataset, folder = outcome.dataset, Path(out) / "students"
    config = recipe(scale, window_s(dataset))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix="waves-") as shelf:
        material = {split: read(dataset, split, config, shelf) for split in SPLITS}
        truth = {name: labels.resolve(dataset, part.segments, sources(dataset)) for name, part in material.items()}
        given_by = human(dataset, truth["train"])
        taught = {
            seed: {**given_by, ZERO_SHOT: _taught(outcome, seed, material["train"].segments["segment"])}
            for seed in seeds
        }
        jobs = at_once(jobs or polyphony.jobs_for(scale), len(seeds))
        calls = (joblib.delayed(_train_seed)(config, seed, material, truth, taught[seed], folder) for seed in seeds)
        done = joblib.Parallel(n_jobs=jobs, max_nbytes="1M")(calls)
    scores: dict[tuple[str, int], Mapping[str, pd.DataFrame]] = {}
    given: dict[tuple[str, int], Labels] = {}
    for seed, (found, used) in zip(seeds, done, strict=True):
        scores |= {(arm, seed): one for arm, one in found.items()}
        given |= {(arm, seed): one for arm, one in used.items()}
        scores[TEACHER, seed] = {name: _own(outcome, seed, name).loc[truth[name].segments] for name in ("val", "test")}
    unit = pd.concat([part.unit for part in material.values()])
    return Students(scores, given, truth, unit, list(seeds), config, outcome)


def read(dataset: Dataset, split: str, config: TrainConfig, shelf: str | Path) -> Material:
    """Sound of a split as windows that know their length, in a file of `shelf` or, much of it, in the cache."""
    recordings = dataset.part(split)
    windows = labelled_windows(dataset, recordings, config.clip_s)
    part = read_segments(recordings, windows, config.sr, config.clip_s, True, MOST_BYTES).on_disk(shelf)
    lengths_s = (part.segments["end_s"] - part.segments["start_s"]).to_numpy()
    return replace(part, waves=augment.Sources(part.waves, lengths_s))


def human(dataset: Dataset, best: Labels) -> dict[str, Labels]:
    """Training labels by people, from the best labels there are; where these are the truth, with errors, and beside it.

    The errors are the same for all seeds, as in notebooks 05 and 06.
    """
    if "truth" not in dataset.sources.index:
        return {HUMAN: best}
    return {TRUE: best, HUMAN: noise.inject(best, MISSING, WRONG, rng=np.random.default_rng(0))}


def _asked(outcome: Outcome, seed: int) -> Any:
    """The teacher of a seed, or the one there is."""
    return outcome.asked.get(seed, outcome.first)


def _own(outcome: Outcome, seed: int, split: str) -> pd.DataFrame:
    """The teacher's scores in its usual reading."""
    asked = _asked(outcome, seed)
    return asked.scores(split, next(iter(asked.readings().values())))


def _taught(outcome: Outcome, seed: int, segments: pd.Series) -> Labels:
    """The teacher's labels of the training segments: present above the threshold chosen on validation."""
    dataset, asked = outcome.dataset, _asked(outcome, seed)
    reading = next(iter(asked.readings().values()))
    windows = labelled_windows(dataset, dataset.part("train"), window_s(dataset))
    heard = ask(dataset, asked.teacher, asked.prompts, windows, outcome.out / "heard", ["train"])
    level = common_threshold(asked.scores("val", reading), asked.truth["val"])
    fires = (heard.scores("train", reading).loc[segments] > level).astype(float)
    return Labels.from_frame(fires[list(dataset.classes)], default=0.0)


def _train_seed(
    config: TrainConfig, seed: int, material: Mapping[str, Material], truth: Mapping[str, Labels],
    taught: Mapping[str, Labels], folder: Path,
) -> tuple[dict[str, dict[str, pd.DataFrame]], dict[str, Labels]]:  # fmt: skip
    """Scores of val and test, and training labels, of each student of one seed; `taught` has all but the corrected."""
    config = replace(config, seed=seed)
    waves = {name: part.waves for name, part in material.items()}

    def fit(arm: str, given: Labels) -> Any:
        return train(
            config, waves["train"], given, waves["val"], truth["val"], run_folder(folder, arm, seed), progress=False
        )

    with one_thread(), own_gpu():
        runs = {arm: fit(arm, given) for arm, given in taught.items()}
        confident = runs[ZERO_SHOT].score(waves["train"], taught[ZERO_SHOT].segments)
        used = {**taught, CORRECTED: correct(taught[ZERO_SHOT], confident).labels}
        runs[CORRECTED] = fit(CORRECTED, used[CORRECTED])
        scores = {
            arm: {name: one.score(waves[name], truth[name].segments) for name in ("val", "test")}
            for arm, one in runs.items()
        }
    return scores, used


# --- what came of it --------------------------------------------------------------------------------------------------


def table(students: Students) -> pd.DataFrame:
    """mAP on test of each arm, mean over seeds with its interval: metric, arm, value, low, high, n."""
    rows = [
        {"metric": "mAP", "arm": arm, **vars(mean_over_seeds(students.statistics(arm), np.random.default_rng(0)))}
        for arm in (*students.arms, TEACHER)
    ]
    return on_scale(pd.DataFrame(rows).drop(columns="level"))


def label_quality(students: Students) -> pd.DataFrame:
    """Training labels against the best there are: precision, recall, share of unknown cells; mean over seeds.

    All training segments count, also those that a teacher by example was shown.
    """
    y = students.truth["train"].dense()
    rows = {}
    for arm in students.arms:
        each = []
        for seed in students.seeds:
            x = students.taught[arm, seed].dense()
            hits = float(((x == 1) & (y == 1)).sum())
            told = {"precision": hits / max(float(((x == 1) & np.isfinite(y)).sum()), 1.0)}
            told |= {"recall": hits / max(float((y == 1).sum()), 1.0), "unknown": float(np.isnan(x).mean())}
            each.append(told)
        rows[arm] = pd.DataFrame(each).mean()
    return pd.DataFrame(rows).T


def correction_words(students: Students) -> str:
    """How many training cells the correction changed, mean over seeds; if hardly any was added, P1.4 is about masks."""
    added, masked = [], []
    for seed in students.seeds:
        before, after = (students.taught[arm, seed].dense() for arm in (ZERO_SHOT, CORRECTED))
        added.append(((before == 0) & (after == 1)).sum())
        masked.append((np.isfinite(before) & np.isnan(after)).sum())
    cells = before.size
    parts = [f"{np.mean(n):,.0f} ({np.mean(n) / cells:.1%})" for n in (added, masked)]
    return (
        f"Mean over seeds: of {cells:,} cells the correction added a class in {parts[0]} and made {parts[1]} unknown.\n"
        "Where hardly any class was added, what P1.4 measures is the mask."
    )


def by_class(students: Students) -> pd.DataFrame:
    """Average precision on test: rows arms, columns classes; mean over seeds."""
    return pd.DataFrame(
        {
            arm: pd.concat(
                [metrics.average_precision(students.scores[arm, s]["test"], students.truth["test"])["ap"]
                 for s in students.seeds],
                axis=1,
            ).mean(axis=1)
            for arm in (*students.arms, TEACHER)
        }
    ).T  # fmt: skip


def ahead(students: Students) -> list[str]:
    """Classes in which the student of corrected labels is ahead of its teacher on *validation*, mean over seeds.

    If there is none, the one in which it is nearest; none at all only where no class can be tested.
    """
    each = [
        metrics.average_precision(students.scores[CORRECTED, seed]["val"], students.truth["val"])["ap"]
        - metrics.average_precision(students.scores[TEACHER, seed]["val"], students.truth["val"])["ap"]
        for seed in students.seeds
    ]
    gain = pd.concat(each, axis=1).sum(axis=1, skipna=False)
    tested = metrics.average_precision(students.scores[TEACHER, students.seeds[0]]["test"], students.truth["test"])
    gain = gain[np.isfinite(tested.loc[gain.index, "ap"])].dropna()
    found = gain.index[gain > 0] if (gain > 0).any() else gain.nlargest(1).index
    return [str(name) for name in found]


def cost(students: Students, windows: int = 8) -> pd.DataFrame:
    """Teacher and student side by side, measured now on one thread; NaN is not known.

    Returns
    -------
    pandas.DataFrame
        Columns parameters, M multiply-accumulates a second of sound, seconds of sound per second, hours for a million
        recordings of 10 s. A teacher's overlapping windows count only with the sound that each one adds.
    """
    config, n, teacher = students.config, len(students.truth["test"].classes), students.teacher.first.teacher
    model = build(config.model, n, sr=config.sr, clip_s=config.clip_s, **config.model_options).eval()
    waves = torch.as_tensor(np.random.default_rng(0).normal(0, 0.1, (windows, model.samples)).astype(np.float32))
    spent = []
    with one_thread(), torch.inference_mode():
        heard = speed(teacher, windows)
        for _ in range(4):  # the first one warms up
            start = time.perf_counter()
            model(waves)
            spent.append(time.perf_counter() - start)
    rows = {
        f"teacher: {teacher.name}": (parameters(teacher), macs(teacher) / hop_s(teacher), heard),
        f"student: {model.name}": (
            float(count_parameters(model)), count_macs(model) / model.clip_s, windows * model.clip_s / min(spent[1:])
        ),
    }  # fmt: skip
    columns = ["parameters", "M multiply-accumulates a second of sound", "seconds of sound per second"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table[columns[1]] /= 1e6
    return table.assign(**{"hours for a million of 10 s": 1e7 / table[columns[2]] / 3600})


def effects(students: Students, seed: int = 0) -> dict[str, Interval | None]:
    """P1.4: the smaller of two differences in mAP, with the lower of both ends. P1.5: gain in the classes of `ahead`.

    P1.5 is None where the teacher is not `SMALLER` times as large.
    """
    draws = np.random.default_rng  # the same for each effect, as in the tables
    by_arm = {arm: students.statistics(arm) for arm in (HUMAN, ZERO_SHOT, CORRECTED)}
    both = [stats.paired_bootstrap(by_arm[arm], by_arm[ZERO_SHOT], draws(seed)) for arm in (HUMAN, CORRECTED)]
    found: dict[str, Interval | None] = {"P1.4": stats.weakest(both, "higher"), "P1.5": None}
    config, classes = students.config, ahead(students)
    n = len(students.truth["test"].classes)
    small = count_parameters(build(config.model, n, sr=config.sr, clip_s=config.clip_s, **config.model_options))
    if classes and parameters(students.teacher.first.teacher) > SMALLER * small:
        ours, theirs = (_mean_ap(students, arm, classes) for arm in (CORRECTED, TEACHER))
        found["P1.5"] = stats.paired_bootstrap(ours, theirs, draws(seed))
    return found


def _mean_ap(students: Students, arm: str, classes: Sequence[str]) -> dict[int, Statistic]:
    each = [students.statistics(arm, name) for name in classes]
    return {seed: weighted_statistic([(1 / len(each), one[seed]) for one in each]) for seed in students.seeds}


def claims(students: Students, data: str, scale: str, seed: int = 0) -> pd.DataFrame:
    """Claims P1.4 and P1.5 with effect, interval and verdict; index id."""
    found = effects(students, seed)
    rows = [stats.claim_row(name, one, data, scale, len(students.seeds)) for name, one in found.items()]
    return pd.DataFrame(rows).set_index("id")


def results(
    students: Students, summary: pd.DataFrame, quality: pd.DataFrame, spent: pd.DataFrame, ledger: pd.DataFrame,
    data: str, scale: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of results.jsonl: mAP of each arm, the effects behind the claims, quality of training labels, and cost.

    The tables are those of :func:`table`, :func:`label_quality`, :func:`cost` and :func:`claims`.
    """
    seed = students.seeds[0] if len(students.seeds) == 1 else None
    about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale}
    told = ledger[ledger["value"].notna()]
    measured = [(f"{EXPERIMENT}: students", item) for item in summary.to_dict("records")]
    measured += [
        (str(name), {**item, "metric": "effect", "arm": CORRECTED}) for name, item in told.to_dict("index").items()
    ]
    rows = []
    for name, item in measured:
        found = Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        rows.append(row(name, item["arm"], item["metric"], found, **about))
    for what, shown, split in (("training labels", quality, "train"), ("cost", spent, "all")):
        for arm, numbers in shown.to_dict("index").items():
            for metric, value in numbers.items():
                rows.append(row(f"{EXPERIMENT}: {what}", str(arm), str(metric), float(value), split=split, **about))
    return rows
