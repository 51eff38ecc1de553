"""Notebook 05: are joined labels better than mixed ones? (P1, Fig. 2, claims P1.1 and P1.2)

Arms differ in how training sequences are mixed, and in nothing else:

==============  ======================================================================================================
no mixup        one track
label-join, 2   1 or 2 tracks (as likely), labels joined by OR: P1's proposal, I_max = 2
label-join, 3   1 to 3 tracks, I_max = 3
vanilla mixup   two tracks, a x + (1 - a) y, labels alike
==============  ======================================================================================================

The teacher of notebook 07 is a line for reference: not trained on these labels, but told some if it is by example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from audiotk import augment, models, stats
from audiotk.experiments import Arm, interval_text, mean_over_seeds, on_scale, row, run_folder, train_arms, zero_shot
from audiotk.experiments.polyphony import SR, Case, jobs_for, recipe
from audiotk.experiments.polyphony import intervals_over as intervals_over
from audiotk.experiments.polyphony import load as load
from audiotk.resample import Statistic, map_statistic
from audiotk.tables import Labels

EXPERIMENT = "label_joining"
NONE, JOIN2, JOIN3, VANILLA = "no mixup", "label-join, 2", "label-join, 3", "vanilla mixup"
ARMS = {NONE: ("none", 1), JOIN2: ("join", 2), JOIN3: ("join", 3), VANILLA: ("vanilla", 2)}
ZERO_SHOT, BY_EXAMPLE = "zero-shot teacher", "teacher (examples)"
MEAN = "mean (mAP)"
COMPARED = {"P1.2a": (JOIN2, NONE), "P1.2b": (VANILLA, NONE), "P1.2c": (JOIN2, VANILLA), "P1.2d": (JOIN3, JOIN2)}
PRINTED = {"parameters": 248_540, "MACs": 1.40e9}  # P1, section 2.2: of ACDnet with 11 classes, for 10 s
P1_CLASSES = 11


@dataclass(frozen=True)
class Outcome:
    """What each arm and seed says of the test segments, and what the teacher says (by seed of its examples)."""

    case: Case
    scores: Mapping[tuple[str, int], pd.DataFrame]
    teacher: Mapping[int, pd.DataFrame]
    teacher_name: str
    seeds: Sequence[int]
    folder: Path

    @property
    def reference(self) -> str:
        """The teacher among the arms, by what it is."""
        return BY_EXAMPLE if self.teacher_name == "examples" else ZERO_SHOT

    def about_teacher(self) -> str:
        """What it knows of the classes, in words."""
        return f"{self.reference}: {zero_shot.told(self.teacher_name)}"

    def by_seed(self, arm: str) -> dict[int, pd.DataFrame]:
        """Scores of one arm, or of the teacher."""
        if arm == self.reference:
            return dict(self.teacher)
        return {seed: self.scores[arm, seed] for seed in self.seeds}


def run(
    case: Case, scale: str, seeds: Sequence[int], out: str | Path, teacher: str = "examples", weights: str = "",
    jobs: int | None = None,
) -> Outcome:  # fmt: skip
    """Ask the teacher, and train every arm with every seed; finished runs in `out` are used again."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    heard, name = ask(case, teacher, weights, seeds, out)  # first: what it lacks shows before hours of training
    with TemporaryDirectory(dir=out, prefix="waves-") as shelf:
        material = case.on_disk(shelf).material
        arms = [
            Arm(arm, material["train"], case.given, recipe(case.seconds, scale, mix=mix, max_sources=most))
            for arm, (mix, most) in ARMS.items()
        ]
        val = (material["val"], case.truth["val"])
        tested = {"test": material["test"]}
        scores = train_arms(arms, val, tested, seeds, out / "runs", jobs or jobs_for(scale))
    return Outcome(case, {key: found["test"] for key, found in scores.items()}, heard, name, list(seeds), out)


def ask(
    case: Case, teacher: str, weights: str, seeds: Sequence[int], out: str | Path
) -> tuple[dict[int, pd.DataFrame], str]:
    """Scores of a teacher on test, in its usual reading, by seed of its examples; and its name."""
    asked = zero_shot.run(case.dataset, teacher, weights, "", seeds, out)
    heard = {}
    for seed, one in asked.asked.items():
        reading = next(iter(one.readings().values()))
        heard[seed] = _of_test(case, one.scores("test", reading))
    return heard, asked.name


def _of_test(case: Case, scores: pd.DataFrame) -> pd.DataFrame:
    """The first window of each test recording, under our id: ends may be rounded in another way."""
    ours = case.material["test"].segments.set_index("recording")["segment"]
    place = scores.index.str.rsplit("@", n=1)
    first = scores[~place.str[0].duplicated() & place.str[0].isin(ours.index)]
    return first.set_axis(pd.Index(ours[first.index.str.rsplit("@", n=1).str[0]], name="segment"))


# --- what came out ----------------------------------------------------------------------------------------------------


def statistics(outcome: Outcome, class_name: str | None = None) -> dict[str, dict[int, Statistic]]:
    """Arm (and teacher) -> seed -> average precision on test (None: the macro mean), ready to be resampled."""
    truth, unit = outcome.case.truth["test"], outcome.case.unit
    return {
        arm: {seed: map_statistic(scores, truth, unit, class_name) for seed, scores in outcome.by_seed(arm).items()}
        for arm in [*ARMS, outcome.reference]
    }


def by_class(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """Average precision with 95 % intervals over groups (and seeds).

    Returns
    -------
    pandas.DataFrame
        class_name (last: "mean (mAP)"), arm, value, low, high, n. Classes that cannot be tested are left out.
    """
    rows = []
    for name in [*testable(outcome.case.truth["test"]), None]:
        for arm, found in statistics(outcome, name).items():
            own = mean_over_seeds(found, np.random.default_rng(seed))
            rows.append({"class_name": name or MEAN, "arm": arm, **vars(own)})
    return on_scale(pd.DataFrame(rows).drop(columns="level"))


def testable(truth: Labels) -> list[str]:
    """Classes that are both present and absent."""
    counts = truth.counts()
    return [str(name) for name in counts.index[(counts["present"] > 0) & (counts["absent"] > 0)]]


def words(table: pd.DataFrame) -> pd.DataFrame:
    """The same to read: rows classes, columns arms, cells "value [low, high]"."""
    text = [interval_text(item) for item in table.to_dict("records")]
    arms, names = dict.fromkeys(table["arm"]), dict.fromkeys(table["class_name"])
    wide = table.assign(text=text).pivot(index="class_name", columns="arm", values="text")
    return wide.loc[list(names), list(arms)].rename_axis(index=None, columns=None)


def size(n_classes: int = P1_CLASSES) -> pd.DataFrame:
    """ACDnet as it is built here next to what P1 prints: parameters, and multiply-accumulates of 10 s."""
    model = models.build("acdnet", n_classes, rng=np.random.default_rng(0))
    ours = {"parameters": models.count_parameters(model), "MACs": models.count_macs(model)}
    table = pd.DataFrame({"printed": PRINTED, "ours": ours}).astype(np.float64)
    return table.assign(relative_difference=table["ours"] / table["printed"] - 1)


def claims(outcome: Outcome, data: str, scale: str, seed: int = 0) -> pd.DataFrame:
    """Claims P1.1 and P1.2 with effect, interval and verdict; index id."""
    largest = float(size()["relative_difference"].abs().max())
    rows = [stats.claim_row("P1.1", stats.Interval(largest, largest, largest, 0.95, len(PRINTED)), data, scale)]
    found = statistics(outcome)
    for name, (arm, baseline) in COMPARED.items():
        effect = stats.paired_bootstrap(found[arm], found[baseline], np.random.default_rng(seed))
        rows.append(stats.claim_row(name, effect, data, scale, len(outcome.seeds)))
    return pd.DataFrame(rows).set_index("id")


def results(outcome: Outcome, table: pd.DataFrame, ledger: pd.DataFrame, data: str, scale: str) -> list[dict[str, Any]]:
    """Rows of results.jsonl: AP and mAP of each arm, and the effect behind each claim."""
    seed = outcome.seeds[0] if len(outcome.seeds) == 1 else None
    about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale}
    rows = []
    for item in table.to_dict("records"):
        found = stats.Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        mean = item["class_name"] == MEAN
        about["class_name"] = None if mean else item["class_name"]
        rows.append(row(EXPERIMENT, item["arm"], "mAP" if mean else "AP", found, **about))
    about["class_name"] = None
    for name, claim in ledger.iterrows():
        value = stats.Interval(claim["value"], claim["low"], claim["high"], 0.95, int(claim["n"]))
        arm, baseline = COMPARED.get(str(name), ("ACDnet", "printed"))
        metric = "mAP" if str(name) in COMPARED else "largest relative difference of size"
        rows.append(row(str(name), f"{arm} minus {baseline}", metric, value, **about))
    return rows


def histories(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """Arm -> epoch and validation mAP, mean over seeds."""
    found: dict[str, pd.DataFrame] = {}
    for arm in ARMS:
        files = [run_folder(outcome.folder / "runs", arm, seed) / "history.jsonl" for seed in outcome.seeds]
        every = pd.concat([pd.read_json(file, lines=True) for file in files])
        found[arm] = every.groupby("epoch")[["val_map"]].mean().reset_index()
    return found


def label_counts(case: Case) -> dict[str, pd.DataFrame]:
    """Present, absent and unknown of each class: as given for training, and in truth."""
    names = {"train": "train, in truth", "val": "validation", "test": "test"}
    return {"train, as given": case.given.counts()} | {names[key]: one.counts() for key, one in case.truth.items()}


# --- how a sequence is made, for the picture --------------------------------------------------------------------------


def made(case: Case, scale: str, seed: int = 0, count: int = 3) -> list[tuple[str, np.ndarray]]:
    """(labels, wave) of the first training sequences with two tracks or more, for a picture and players."""
    config = recipe(case.seconds, scale)
    sequences = augment.Sequences(
        case.material["train"].waves, case.given.dense(), augment.Recipe.of(config.sequences or {}), sr=SR,
        samples=round(config.clip_s * SR), mix="join", max_sources=3, seed=seed,
    )  # fmt: skip
    shown = []
    for place in range(len(sequences)):
        wave, targets, _ = sequences.make(0, place, place)
        if (targets == 1).sum() >= 2:
            shown.append((" + ".join(case.given.classes[targets == 1]), wave))
        if len(shown) == count:
            break
    return shown
