"""What notebooks 03 and 04 share: data with accidental silence in its labels, and how false positives are measured.

The labels are those of somebody who marked time ranges, but for the accident that B2 describes: a share of the training
segments in which nothing is heard carries the class of the recording it was cut from, as leading and trailing silence
of a labelled recording does, and as quiet recordings do that somebody labelled by mistake.

==========  ===========================================================================================================
material    what for
==========  ===========================================================================================================
train       segments with the accidental labels
pool        recordings of a deployed device: nobody has labelled them, and they are in no other part
val         chooses epochs and thresholds, by its true labels
test        opened once, by its true labels
==========  ===========================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import datasets, energy, events, labels, metrics, mining, resample, stats
from audiotk.backgrounds import AMBIENT_KINDS, SILENCE_KINDS
from audiotk.datasets import embedded
from audiotk.errors import AudiotkError, NotForThisData
from audiotk.experiments import (
    SMALL,
    Arm,
    Material,
    check_judged,
    check_scale,
    intervals_wide,
    load_material,
    mean_over_seeds,
    on_scale,
    read_windows,
    row,
)
from audiotk.experiments.simulated_labeler import range_source
from audiotk.resample import Statistic
from audiotk.tables import Dataset, Labels
from audiotk.train import TrainConfig

WINDOW_S, SR = 2.0, 16000
RECALL = 0.7  # thresholds are chosen on validation to reach it, so that arms are compared at equal recall
SHARE = 0.25  # of what is drawn in training: segments that an arm adds; without them the others are drawn more often
ACCIDENT = 0.5  # share of the training segments without any event that carry the class of their recording
SIZES = {  # recordings: train, pool, validation, test; epochs
    "smoke": (14, 14, 10, 14, 1),
    "demo": (80, 400, 32, 112, 12),
    "paper": (2000, 2000, 400, 1000, 40),
}
REAL_SIZES = {  # of data=esc50, where a few dogs and sneezes are all there is to learn from
    "smoke": (14, 14, 10, 14, 1),
    "demo": (160, 160, 64, 112, 12),
    "paper": (1000, 1000, 400, 1000, 40),
}
REAL = "esc50"
QUIET = "fires on silence and ambience"
AT_TEST = " at equal test recall"  # thresholds from the test segments themselves: what chance in thresholds hides
WEAKER = "the weaker of the changes at thresholds of validation and at equal test recall"  # see weaker()
HOURLY = "false positives per hour"
SHOWN = [QUIET, f"{QUIET}{AT_TEST}", "fires on silence", f"fires on silence{AT_TEST}", HOURLY, f"{HOURLY}{AT_TEST}",
         "recall", "mAP", "fires on ambience"]  # fmt: skip
COMPARED = (QUIET, f"{QUIET}{AT_TEST}", HOURLY, f"{HOURLY}{AT_TEST}", "recall")  # each arm with its baseline
NOTHING = "nothing"  # kind of a segment without event, where the data set does not say more


@dataclass(frozen=True)
class Ghosts:
    """The parts of the data; `labels` are the accidental ones of train, `truth` the true ones of each part."""

    dataset: Dataset
    train: Material
    pool: Material
    val: Material
    test: Material
    labels: Labels
    truth: Mapping[str, Labels]
    kinds: pd.Series  # of the test segments without event: silence or ambience; NaN elsewhere
    sound: pd.DataFrame  # of the test segments, energy.describe
    floors: Mapping[str, energy.NoiseFloor]  # by device, from the training recordings
    epochs: int
    accidents: pd.Series  # bool, index segment of train: carries a class by accident

    @property
    def classes(self) -> list[str]:
        """Classes of events."""
        return list(self.dataset.classes)

    @property
    def door(self) -> mining.Door:
        """What may be trained on."""
        return mining.Door(self.dataset.recordings, self.dataset.split)

    def device(self, material: Material) -> pd.Series:
        """Device of each segment, "" where it is not known; index segment."""
        known = self.dataset.recordings.set_index("recording")
        names = known["device"].fillna("") if "device" in known else pd.Series("", index=known.index)
        return material.segments.set_index("segment")["recording"].map(names).astype("str")

    def kinds_of(self, material: Material, part: str) -> pd.Series:
        """Kind of silence or ambience of the segments of a part without event, NaN elsewhere; index segment."""
        return _kinds(self.dataset, material, self.truth[part])

    def floor_dbfs(self, material: Material) -> pd.Series:
        """Noise floor of each segment's device; the lowest known one for a device that was never trained on."""
        levels = {name: floor.level_dbfs for name, floor in self.floors.items()}
        return self.device(material).map(levels).fillna(min(levels.values()))


def sizes(data: str, scale: str) -> tuple[int, int, int, int, int]:
    """Recordings of train, pool, validation and test, and epochs."""
    return (REAL_SIZES if data == REAL else SIZES)[check_scale(scale)]


def load(data: str, data_root: str, scale: str, complete: bool = False) -> Dataset:
    """Recordings with true ranges and one label a clip (source scraped), the quiet ones mislabelled.

    Raises
    ------
    NotForThisData
        A data set without labelled ranges; see :mod:`audiotk.experiments.real_ghosts` for ESC-50.
    """
    train, pool, val, test, _ = sizes(data, scale)
    if data == "embedded":
        counts = {"n_train": train + pool, "n_val": val, "n_test": test}
        return datasets.load(data, data_root or None, progress=True, mislabeled_silence=1.0, **counts)
    if data == REAL:
        from audiotk.experiments import real_ghosts

        return real_ghosts.load(data_root, scale)
    dataset = datasets.load(data, data_root or None, **({"complete": complete} if data == "folder" else {}))
    if all(dataset.sources["weak"]):
        raise NotForThisData(
            f"{data}: this experiment needs to know where nothing is heard, and no source of this data set gives "
            "ranges; use data=embedded, data=esc50, or data=folder with a CSV of path,start_s,end_s,label"
        )
    return labels.with_clip_labels(check_judged(dataset), source=range_source(dataset))


def prepare(dataset: Dataset, scale: str, seed: int = 0) -> Ghosts:
    """Cut the parts, make the accidental labels, describe the test sound."""
    train_n, pool_n, *_, epochs = sizes(dataset.name.split()[0], scale)
    source = range_source(dataset)
    recordings = dataset.part("train")
    groups = recordings["group"].unique()
    if len(groups) < 2:
        raise AudiotkError(
            f"{dataset.name}: expected recordings of two groups or more to train on and to mine, got {len(groups)} "
            "group(s) in the training split; say in a column group who or what was recorded"
        )
    cut = int(np.clip(round(len(groups) * train_n / (train_n + pool_n)), 1, len(groups) - 1))
    first = recordings["group"].isin(groups[:cut])  # a dog, person or upload is in train or in the pool, never in both
    parts = {
        "train": read_windows(recordings[first], SR, WINDOW_S, progress=True),
        "pool": read_windows(recordings[~first], SR, WINDOW_S, progress=True),
        "val": load_material(dataset, "val", SR, WINDOW_S),
        "test": load_material(dataset, "test", SR, WINDOW_S),
    }
    truth = {name: labels.resolve(dataset, part.segments, [source]) for name, part in parts.items()}
    faulty, accidents = accidental(dataset, parts["train"], truth["train"], np.random.default_rng([seed, 3]))
    return Ghosts(
        dataset, parts["train"], parts["pool"], parts["val"], parts["test"], faulty, truth,
        kinds=_kinds(dataset, parts["test"], truth["test"]),
        sound=energy.describe(dataset.recordings, parts["test"].segments),
        floors=energy.noise_floors(recordings[first]), epochs=epochs, accidents=accidents,
    )  # fmt: skip


def accidental(
    dataset: Dataset, material: Material, truth: Labels, rng: np.random.Generator, share: float = ACCIDENT
) -> tuple[Labels, pd.Series]:
    """True labels, but for a share of the segments in which nothing is heard: they carry their recording's class.

    Returns
    -------
    Labels
        As a labeler would have left them who cut recordings without looking at each segment.
    Series
        bool, index segment: by accident.
    """
    frame, named = truth.frame(), labels.resolve(dataset, material.segments, ["scraped"], truth.classes).frame()
    free = (frame == 0).all(axis=1) & (named == 1).any(axis=1)
    chosen = free & (rng.random(len(frame)) < share)
    return Labels.from_frame(frame.where(~chosen, named)), chosen


def accidents(ghosts: Ghosts, count: int = 4) -> list[tuple[str, np.ndarray]]:
    """Title and sound of training segments that carry a class by accident."""
    rows = np.flatnonzero(ghosts.accidents)[:count]
    said = ghosts.labels.frame().iloc[rows]
    titles = [f"“{said.columns[int(np.nanargmax(row))]}”" for row in said.to_numpy()]
    names = ghosts.train.segments["segment"].iloc[rows]
    return [(f"{name}: {title}", ghosts.train.waves[row]) for name, title, row in zip(names, titles, rows, strict=True)]


def _kinds(dataset: Dataset, material: Material, truth: Labels) -> pd.Series:
    """Kind of silence or ambience of the segments in which every class is absent, NaN elsewhere; index segment."""
    free = (truth.frame() == 0).all(axis=1)
    if dataset.name == "embedded":
        kinds = embedded.quiet_kinds(dataset, material.segments)
    elif "background" in dataset.recordings:
        known = dataset.recordings.set_index("recording")["background"]
        kinds = material.segments.set_index("segment")["recording"].map(known)
    else:
        kinds = pd.Series(NOTHING, index=free.index)
    return kinds.reindex(free.index).where(free)


def recipe(rows: int, epochs: int) -> TrainConfig:
    """How all arms are trained on `rows` segments of 2 s: MelCNN, as many steps for each."""
    return TrainConfig(
        model_options=SMALL, sr=SR, clip_s=WINDOW_S, epochs=epochs, batch_size=16, lr=4e-3, roll=True, gain_db=2.0,
        epoch_size=round(rows / (1 - SHARE)),
    )  # fmt: skip


def config(ghosts: Ghosts, **changes: Any) -> TrainConfig:
    """:func:`recipe` for these data, with changes."""
    return replace(recipe(len(ghosts.train.waves), ghosts.epochs), **changes)


def with_concepts(said: Labels, concepts: Sequence[str]) -> Labels:
    """Labels with further classes for explicit negatives: absent where an event is said to be, else unknown."""
    frame = said.frame()
    event = (frame == 1).any(axis=1)
    more = pd.DataFrame({name: np.where(event, 0.0, np.nan) for name in concepts}, index=frame.index)
    return Labels.from_frame(pd.concat([frame, more], axis=1))


def joined(name: str, base: Arm, extra: Material, extra_labels: Labels, share: float, **changes: Any) -> Arm:
    """An arm with further segments that make up `share` of what is drawn; as many steps as before."""
    material = replace(
        base.material,
        segments=pd.concat([base.material.segments, extra.segments], ignore_index=True),
        waves=np.concatenate([base.material.waves, extra.waves]),
    )
    both = Labels.from_frame(pd.concat([base.labels.frame(), extra_labels.frame()[list(base.labels.classes)]]))
    n, m = len(base.labels.segments), len(extra_labels.segments)
    weights = np.concatenate([np.full(n, (1 - share) / n), np.full(m, share / m)])
    return replace(base, name=name, material=material, labels=both, weights=weights, **changes)


def thresholds(ghosts: Ghosts, scores: pd.DataFrame) -> pd.Series:
    """Threshold of each class at recall `RECALL` on validation."""
    return metrics.thresholds(scores[ghosts.classes], ghosts.truth["val"], by="recall", at=RECALL)


# --- measures ---------------------------------------------------------------------------------------------------------


def measures(ghosts: Ghosts, scores: pd.DataFrame, limits: pd.Series) -> dict[str, Statistic]:
    """What is measured of one run on the test segments, ready to be resampled by group.

    Of `scores` columns that are no events are left out; `limits` are of :func:`thresholds`.
    """
    scores, truth, unit = scores[ghosts.classes], ghosts.truth["test"], ghosts.test.unit
    groups = ghosts.dataset.recordings.set_index("recording")["group"]
    places = {
        QUIET: ghosts.kinds.notna(),
        "fires on silence": ghosts.kinds.isin(SILENCE_KINDS),
        "fires on ambience": ghosts.kinds.notna() & ~ghosts.kinds.isin([*SILENCE_KINDS, NOTHING]),
    }
    here = {name: place.astype(float).to_frame("any") for name, place in places.items() if place.any()}
    found = {
        "mAP": resample.map_statistic(scores, truth, unit),
        "recall": resample.recall_statistic(scores, truth, limits, unit),
    }
    if QUIET in here:
        loudest = scores.max(axis=1).to_frame("any") * here[QUIET]
        found["mean score where nothing is heard"] = resample.ratio_statistic(loudest, here[QUIET], unit)
    for more, at in ((AT_TEST, metrics.thresholds(scores, truth, by="recall", at=RECALL)), ("", limits)):
        by_recording = events.false_positives_by_recording(scores, truth, ghosts.test.segments, at)
        found[f"{HOURLY}{more}"] = resample.false_positive_statistic(by_recording, groups)
        fires = (scores > at).any(axis=1).astype(float).to_frame("any")
        found |= {f"{name}{more}": resample.ratio_statistic(fires * part, part, unit) for name, part in here.items()}
    for kind in ghosts.kinds.dropna().unique():
        place = (ghosts.kinds == kind).astype(float).to_frame("any")
        found[f"fires on {kind}"] = resample.ratio_statistic(fires * place, place, unit)
    return found


Found = Mapping[str, Mapping[str, Mapping[int, Statistic]]]  # metric -> arm -> seed -> statistic


def collect(runs: Mapping[tuple[str, int], Mapping[str, Statistic]]) -> dict[str, dict[str, dict[int, Statistic]]]:
    """(arm, seed) -> metric -> statistic, the other way round: metric -> arm -> seed -> statistic."""
    found: dict[str, dict[str, dict[int, Statistic]]] = {}
    for (arm, seed), by_metric in runs.items():
        for metric, statistic in by_metric.items():
            found.setdefault(metric, {}).setdefault(arm, {})[seed] = statistic
    return found


def table(found: Found, seed: int = 0) -> pd.DataFrame:
    """Mean over seeds with its 95 % interval over groups (and seeds): metric, arm, value, low, high, n."""
    rows = [
        {"metric": metric, "arm": arm, **vars(mean_over_seeds(by_seed, np.random.default_rng(seed)))}
        for metric, arms in found.items()
        for arm, by_seed in arms.items()
    ]
    summary = pd.DataFrame(rows).drop(columns="level")
    return on_scale(summary, np.where(summary["metric"].str.startswith(HOURLY), np.inf, 1.0))


def wide(summary: pd.DataFrame) -> pd.DataFrame:
    """The metrics of `SHOWN` as text "value [low, high]", one row an arm, one column a metric."""
    shown = intervals_wide(summary[summary["metric"].isin(SHOWN)], "arm", "metric")
    return shown[[name for name in SHOWN if name in shown.columns]]


def by_kind(summary: pd.DataFrame) -> pd.DataFrame:
    """Share of the segments without event that fire: one row an arm, one column a kind of silence or ambience."""
    known = [*SILENCE_KINDS, *AMBIENT_KINDS, NOTHING]
    told = summary["metric"]
    one = told.str.startswith("fires on ") & ~told.isin(SHOWN) & ~told.str.endswith(AT_TEST)
    part = summary.assign(kind=told.str.removeprefix("fires on "))[one]
    shown = part.pivot(index="arm", columns="kind", values="value")
    order = [kind for kind in known if kind in shown] + sorted(set(shown.columns) - set(known))
    return shown.loc[list(dict.fromkeys(part["arm"])), order].rename_axis(index=None, columns=None)


def changes(found: Found, baseline: str, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Relative change of each arm against `baseline` in each metric of `COMPARED`, paired by groups and seeds.

    Returns
    -------
    dict
        Metric (without those that were not measured) -> index arm; value, low, high (-0.5 = half of the baseline), n.
    """
    tables = {}
    for metric in COMPARED:
        every = {arm: change(found, metric, arm, baseline, seed) for arm in found.get(metric, {})}
        rows = {arm: vars(one) for arm, one in every.items() if one and arm != baseline}
        if rows:
            tables[metric] = pd.DataFrame.from_dict(rows, orient="index").drop(columns="level").rename_axis("arm")
    return tables


def change(found: Found, metric: str, arm: str, baseline: str, seed: int = 0) -> stats.Interval | None:
    """One relative change of :func:`changes`; None where one of both was not measured with the seeds of the other."""
    arms = found.get(metric, {})
    if set(arms.get(arm, ())) != set(arms.get(baseline, ())) or not arms.get(arm):
        return None
    return stats.paired_bootstrap(arms[arm], arms[baseline], np.random.default_rng(seed), relative=True)


def weaker(found: Found, metric: str, arm: str, baseline: str, seed: int = 0) -> stats.Interval | None:
    """Of the changes at thresholds of validation and at equal recall on test the higher value, low, high; or None."""
    both = [change(found, f"{metric}{more}", arm, baseline, seed) for more in ("", AT_TEST)]
    there = [one for one in both if one is not None]
    return stats.weakest(there, "lower") if len(there) == len(both) else None


def results(
    experiment: str,
    summary: pd.DataFrame,
    changed: Mapping[str, pd.DataFrame],
    baseline: str,
    ledger: pd.DataFrame,
    arms: Mapping[str, str],
    data: str,
    scale: str,
) -> list[dict[str, Any]]:
    """Rows of results.jsonl: each metric of each arm, its :func:`changes` against `baseline`, effects behind claims.

    `arms` says of each claim between which arms its effect is.
    """
    measured = [{"experiment": experiment, **item} for item in summary.to_dict("records")]
    shifts = [
        {"experiment": experiment, "metric": f"{metric}, change as a share of {baseline}", **item}
        for metric, table in changed.items()
        for item in table.reset_index().to_dict("records")
    ]
    effects = [
        {**claim.to_dict(), "experiment": str(name), "metric": "effect", "arm": arms[str(name)]}
        for name, claim in ledger[ledger["value"].notna()].iterrows()
    ]
    rows = []
    for item in [*measured, *shifts, *effects]:
        value = stats.Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        rows.append(row(item["experiment"], item["arm"], item["metric"], value, seed=None, data=data, scale=scale))
    return rows


def store_of(out: str | Path, seed: int) -> Path:
    """Where the promotions of one seed's model are kept."""
    return Path(out) / f"promotions-seed{seed}.sqlite"
