"""Notebook 06: which repair of training labels helps? (P1, Table 2, claim P1.3)

A teacher, the network itself trained on the raw labels, scores its own training segments. Each rule changes the labels
by these scores, and a fresh network is trained on what comes out. All take the same number of steps, but for one:

=====================================  =================================================================================
the eight rows of Table 2              `ROWS`; "raw labels" is the teacher itself
raw labels, twice as long              as many steps as teacher and student together
random mask                            of each class as many absent cells become unknown as "correct + mask missing"
                                       changes, at random
out-of-fold teacher                    "correct + mask missing" by teachers that were not trained on what they score
true labels                            where they are known: what a perfect repair would give
=====================================  =================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd

from audiotk import noise, relabel, resample, stats
from audiotk.augment import Sources
from audiotk.experiments import Arm, Material, interval_text, mean_over_seeds, on_scale, row, train_arms, train_tasks
from audiotk.experiments.devices import at_once
from audiotk.experiments.label_joining import label_counts as label_counts
from audiotk.experiments.polyphony import Case, jobs_for, recipe
from audiotk.experiments.polyphony import intervals_over as intervals_over
from audiotk.experiments.polyphony import load as load
from audiotk.experiments.rule_quality import TAUGHT
from audiotk.metrics import mean_average_precision
from audiotk.resample import Statistic
from audiotk.tables import Labels
from audiotk.teachers.readings import common_threshold
from audiotk.train import TrainConfig

EXPERIMENT = "label_correction"
RAW, BEST = "raw labels", "correct + mask missing"
TWICE, RANDOM, FOLDS, TRUE = "raw labels, twice as long", "random mask", "out-of-fold teacher", "true labels"
PRINTED = {  # P1, Table 2: accuracy, mAP
    RAW: (0.899, 0.741),
    "percentile, mask": (0.897, 0.750),
    "percentile, correct": (0.864, 0.720),
    "mean threshold, any class": (0.892, 0.754),
    "correct missing": (0.902, 0.751),
    "correct both": (0.900, 0.756),
    BEST: (0.899, 0.767),
    "correct + mask both": (0.905, 0.762),
}
ROWS = tuple(PRINTED)
CONTROLS = ((BEST, RANDOM), (BEST, TWICE), (BEST, FOLDS), (RAW, TRUE))  # arm and baseline
N_FOLDS = 2
QUICK = {  # below scale "paper": label-join of whole recordings in a batch, without P1's cuts and effects
    "epochs": 24,
    "batch_size": 24,
    "lr": 5e-3,
    "roll": True,
    "sequences": None,
    "model_options": {"mels": 32, "n_fft": 1024, "hop": 1024, "width": 0.5},
}
METRICS = ("mAP", "accuracy")
QUALITY = ["errors", "corrected", "correction_precision", "correction_recall", "masked", "mask_precision",
           "mask_recall", "chance", "left"]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What each arm and seed says of validation and test, and the training labels of each (arm, seed)."""

    case: Case
    scores: Mapping[tuple[str, int], Mapping[str, pd.DataFrame]]
    labels: Mapping[tuple[str, int], Labels]
    seeds: Sequence[int]
    folder: Path

    @property
    def arms(self) -> list[str]:
        """In the order of the tables."""
        return list(dict.fromkeys(arm for arm, _ in self.labels))


def config_of(seconds: float, scale: str) -> TrainConfig:
    """How every arm is trained: P1's settings with label-join of up to two sources, or a quick variant of them."""
    return recipe(seconds, scale) if scale == "paper" else recipe(seconds, scale, **QUICK)


def run(case: Case, scale: str, seeds: Sequence[int], out: str | Path, jobs: int | None = None) -> Outcome:
    """Train teacher, students and controls with every seed; finished runs in `out` are used again."""
    out = Path(out)
    runs = out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    config, jobs = config_of(case.seconds, scale), jobs or jobs_for(scale)
    with TemporaryDirectory(dir=out, prefix="waves-") as shelf:
        on_disk = case.on_disk(shelf)
        train, truth = on_disk.material["train"], case.truth
        val = (on_disk.material["val"], truth["val"])
        tested = {split: on_disk.material[split] for split in ("val", "test")}
        first = [Arm(RAW, train, case.given, config), Arm(TWICE, train, case.given, twice(config))]
        first += [Arm(TRUE, train, truth["train"], config)] if "train" in truth else []
        scores = train_arms(first, val, {**tested, "train": train}, seeds, runs, jobs)
        unseen = joblib.Parallel(n_jobs=at_once(jobs, len(seeds)))(
            joblib.delayed(out_of_fold)(on_disk, config, seed, runs) for seed in seeds
        )
        labels: dict[tuple[str, int], Labels] = {(arm.name, seed): arm.labels for arm in first for seed in seeds}
        arms = []
        for seed, strange in zip(seeds, unseen, strict=True):
            made = repaired(case.given, scores[RAW, seed]["train"], strange, np.random.default_rng([seed, 6]))
            labels |= {(name, seed): one for name, one in made.items()}
            arms += [(Arm(name, train, one, config), seed) for name, one in made.items()]
        scores |= train_tasks(arms, val, tested, runs, jobs)
    order = [*ROWS, TWICE, RANDOM, FOLDS, TRUE]
    keys = [(name, seed) for name in order for seed in seeds if (name, seed) in labels]
    return Outcome(case, {key: scores[key] for key in keys}, {key: labels[key] for key in keys}, list(seeds), out)


def twice(config: TrainConfig) -> TrainConfig:
    """The same with twice as many epochs."""
    return replace(config, epochs=2 * config.epochs)


def repaired(given: Labels, seen: pd.DataFrame, unseen: pd.DataFrame, rng: np.random.Generator) -> dict[str, Labels]:
    """Labels by every rule of Table 2 but raw, and of the controls; from the teacher's scores of training segments.

    `seen` are those of a teacher that was trained on them, `unseen` those out of fold.
    """
    made = {name: TAUGHT[name](given, seen, None).labels for name in ROWS if name != RAW}  # type: ignore[arg-type]
    made[RANDOM] = random_mask(given, made[BEST], rng)
    made[FOLDS] = TAUGHT[BEST](given, unseen, None).labels  # type: ignore[arg-type]
    return made


def random_mask(given: Labels, changed: Labels, rng: np.random.Generator) -> Labels:
    """Of each class as many absent cells become unknown as differ between `given` and `changed`, drawn at random."""
    before, after = given.dense(), changed.select(given.segments, given.classes).dense()
    touched = (before == 0) & (after != 0)  # (n, C)
    for c, count in enumerate(touched.sum(axis=0)):
        before[rng.choice(np.flatnonzero(before[:, c] == 0), count, replace=False), c] = np.nan
    return Labels.from_frame(pd.DataFrame(before, index=given.segments, columns=given.classes), given.default)


def out_of_fold(case: Case, config: TrainConfig, seed: int, runs: Path) -> pd.DataFrame:
    """Scores of the training segments by teachers trained on the other folds (groups undivided), each as many steps."""
    train, val = case.material["train"], (case.material["val"], case.truth["val"])

    def fit_predict(known: pd.Index, asked: pd.Index) -> pd.DataFrame:
        parts = [_part(train, ids) for ids in (known, asked)]
        name = f"teacher without {asked[0]}"
        steady = replace(config, epoch_size=config.epoch_size or len(train.segments))
        arm = Arm(name, parts[0], case.given.select(known), steady)
        return train_arms([arm], val, {"asked": parts[1]}, [seed], runs, jobs=1)[name, seed]["asked"]

    return relabel.cross_fit(fit_predict, case.given, train.unit, N_FOLDS, np.random.default_rng([seed, 5]))


def _part(material: Material, segments: pd.Index) -> Material:
    rows = pd.Index(material.segments["segment"]).get_indexer(segments)
    waves = material.waves.part(rows) if isinstance(material.waves, Sources) else material.waves[rows]
    return replace(material, segments=material.segments.iloc[rows].reset_index(drop=True), waves=waves)


# --- what came out ----------------------------------------------------------------------------------------------------


def statistics(outcome: Outcome) -> dict[str, dict[str, dict[int, Statistic]]]:
    """Metric -> arm -> seed -> number on test. The threshold of accuracy is one for all classes, from validation."""
    truth, unit = outcome.case.truth, outcome.case.unit
    found: dict[str, dict[str, dict[int, Statistic]]] = {metric: {} for metric in METRICS}
    for (arm, seed), scores in outcome.scores.items():
        level = common_threshold(scores["val"], truth["val"])
        own = {
            "mAP": resample.map_statistic(scores["test"], truth["test"], unit),
            "accuracy": accuracy_statistic(scores["test"], truth["test"], level, unit),
        }
        for metric, one in own.items():
            found[metric].setdefault(arm, {})[seed] = one
    return found


def accuracy_statistic(scores: pd.DataFrame, truth: Labels, level: float, unit: pd.Series) -> Statistic:
    """Share of the judged cells of a class in which score > level says what is true, mean over classes."""
    y = truth.frame().loc[scores.index, scores.columns]
    judged = y.notna().astype(float)
    right = ((scores > level) == (y == 1)).astype(float) * judged
    return resample.ratio_statistic(right, judged, unit)


def table(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """Metric of each arm with its interval, and its difference from raw labels: columns metric, arm, value, low, high,
    n, difference, difference_low, difference_high."""
    rows = []
    for metric, arms in statistics(outcome).items():
        for arm, by_seed in arms.items():
            own = vars(mean_over_seeds(by_seed, np.random.default_rng(seed)))
            apart = stats.paired_bootstrap(by_seed, arms[RAW], np.random.default_rng(seed))
            ends = {"difference": apart.value, "difference_low": apart.low, "difference_high": apart.high}
            rows.append({"metric": metric, "arm": arm, **own, **ends})
    return on_scale(pd.DataFrame(rows).drop(columns="level"))


def against_controls(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """Whether "correct + mask missing" is better than its controls, and what errors cost: differences in mAP on test.

    Index "arm minus baseline", of `CONTROLS`; value, low, high, n. The last one only where the truth is known.
    """
    arms = statistics(outcome)["mAP"]
    rows = {
        f"{arm} minus {baseline}": vars(stats.paired_bootstrap(arms[arm], arms[baseline], np.random.default_rng(seed)))
        for arm, baseline in CONTROLS
        if baseline in arms
    }
    return pd.DataFrame.from_dict(rows, orient="index").drop(columns="level")


def words(summary: pd.DataFrame) -> pd.DataFrame:
    """Table 2 with ours beside what is printed: rows arms."""
    told: dict[str, dict[str, str]] = {}
    for item in summary.to_dict("records"):
        line = told.setdefault(str(item["arm"]), {})
        line[f"{item['metric']}, ours"] = interval_text(item)
        apart = {key: item[f"difference{end}"] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
        line[f"{item['metric']} minus raw"] = "" if item["arm"] == RAW else interval_text(apart)
        printed = PRINTED.get(str(item["arm"]))
        line[f"{item['metric']}, P1"] = "" if printed is None else f"{printed[item['metric'] == 'mAP']:.3f}"
    return pd.DataFrame.from_dict(told, orient="index")


def differences(summary: pd.DataFrame, metric: str = "mAP") -> pd.DataFrame:
    """For the figure: index arm; difference from raw labels, low, high, and the printed one."""
    part = summary[summary["metric"] == metric].set_index("arm")
    column = METRICS.index(metric) - 1  # PRINTED has accuracy first
    printed = pd.Series({arm: values[column] - PRINTED[RAW][column] for arm, values in PRINTED.items()})
    names = {"difference": "difference", "difference_low": "low", "difference_high": "high"}
    return part[list(names)].rename(columns=names).assign(printed=printed.reindex(part.index))


def quality(outcome: Outcome) -> pd.DataFrame:
    """How good the labels of each rule are (`noise.repair_quality` of all cells), mean over seeds; empty without truth.

    Index rule; errors (before), corrected, correction_precision, correction_recall, masked, mask_precision,
    mask_recall, chance, left. Rules that change nothing are left out.
    """
    if "train" not in outcome.case.truth:
        return pd.DataFrame(columns=QUALITY)
    truth, given = outcome.case.truth["train"], outcome.case.given
    rows: dict[str, pd.Series] = {}
    for arm in [arm for arm in outcome.arms if arm not in (RAW, TWICE, TRUE)]:
        own = [noise.repair_quality(truth, given, outcome.labels[arm, seed]).loc["(all)"] for seed in outcome.seeds]
        rows[arm] = pd.concat(own, axis=1).mean(axis=1)
        rows[arm]["errors"] = rows[arm]["missing"] + rows[arm]["wrong"]
    return pd.DataFrame(rows).T.reindex(columns=QUALITY)


def runner_up(outcome: Outcome) -> str:
    """The row of Table 2 beside `BEST` with the best mean mAP on validation."""
    truth = outcome.case.truth["val"]
    val = {
        arm: np.mean([mean_average_precision(outcome.scores[arm, seed]["val"], truth) for seed in outcome.seeds])
        for arm in ROWS
        if arm != BEST
    }
    return max(val, key=val.__getitem__)


def compared(outcome: Outcome) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Claim -> arm and what it has to differ from: from each of them, the smallest difference counts."""
    return {
        "P1.3a": ("percentile, correct", (RAW,)),
        "P1.3b": (BEST, (RAW, RANDOM)),  # hiding as many labels at random must not do as well
        "P1.3c": (BEST, (runner_up(outcome),)),
    }


def claims(outcome: Outcome, data: str, scale: str, seed: int = 0) -> pd.DataFrame:
    """Claims P1.3a to P1.3d with effect, interval and verdict; index id.

    Of several differences the effect is the smallest, with the lowest of their lower and of their upper ends.
    """
    found = statistics(outcome)["mAP"]
    rows = []
    for name, (arm, baselines) in compared(outcome).items():
        every = [stats.paired_bootstrap(found[arm], found[one], np.random.default_rng(seed)) for one in baselines]
        rows.append(stats.claim_row(name, stats.weakest(every, "higher"), data, scale, len(outcome.seeds)))
    rows.append(stats.claim_row("P1.3d", order(outcome, np.random.default_rng(seed)), data, scale, len(outcome.seeds)))
    return pd.DataFrame(rows).set_index("id")


def order(outcome: Outcome, rng: np.random.Generator) -> stats.Interval:
    """Kendall's tau between our mAP of the eight rows of Table 2 and the printed one, mean over seeds."""
    found, printed = statistics(outcome)["mAP"], {arm: values[1] for arm, values in PRINTED.items()}
    return mean_over_seeds(
        {seed: resample.order_statistic({arm: found[arm][seed] for arm in ROWS}, printed) for seed in outcome.seeds},
        rng,
    )


def results(
    outcome: Outcome, summary: pd.DataFrame, controls: pd.DataFrame, ledger: pd.DataFrame, data: str, scale: str
) -> list[dict[str, Any]]:
    """Rows of results.jsonl: both metrics of each arm and their differences from raw labels, those from the controls,
    the quality of the labels, and the effect behind each claim."""
    seed = outcome.seeds[0] if len(outcome.seeds) == 1 else None
    about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale}
    rows = []
    for item in summary.to_dict("records"):
        rows.append(row(EXPERIMENT, item["arm"], item["metric"], _interval(item), **about))
        if item["arm"] != RAW:
            apart = {"value": "difference", "low": "difference_low", "high": "difference_high", "n": "n"}
            value = _interval({end: item[name] for end, name in apart.items()})
            rows.append(row(EXPERIMENT, f"{item['arm']} minus {RAW}", item["metric"], value, **about))
    rows += [row(EXPERIMENT, str(name), "mAP", _interval(item), **about) for name, item in controls.T.to_dict().items()]
    told, trained = quality(outcome), {**about, "split": "train"}
    for metric in ("correction_precision", "correction_recall", "mask_precision", "mask_recall"):
        name = metric.replace("_", " ")
        rows += [row(EXPERIMENT, str(arm), name, value, **trained) for arm, value in told[metric].items()]
    for name, (arm, baselines) in compared(outcome).items():
        rival = baselines[0] if len(baselines) == 1 else f"the best of {' and '.join(baselines)}"
        rows.append(row(name, f"{arm} minus {rival}", "mAP", _interval(ledger.loc[name].to_dict()), **about))
    rows.append(row("P1.3d", "rows of Table 2", "order of mAP", _interval(ledger.loc["P1.3d"].to_dict()), **about))
    return rows


def _interval(item: Mapping[Any, Any]) -> stats.Interval:
    return stats.Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
