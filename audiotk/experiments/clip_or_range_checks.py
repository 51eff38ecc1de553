"""Notebook 02, what stands beside its claims: another baseline, each class on silence, and what the data set settles.

A threshold that finds 80 % of the events lets scores that know nothing fire in 80 % of all windows, so that of eight
classes at least one fires nearly everywhere. How far "fires on silence" (B1.6) and the confusion of bark and howl
(B1.2) are only that is seen class by class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from audiotk import resample, stats
from audiotk.experiments.clip_or_range import (
    CLIPS,
    COMPARED,
    EXPERIMENT,
    PAIRS,
    RANGES,
    RANGES_A_CLIP,
    SILENT,
    WHOLE,
    Outcome,
    labelled_ranges,
    quiet_kinds,
    table,
)
from audiotk.resample import Statistic
from audiotk.tables import Dataset

Found = Mapping[str, Mapping[str, Mapping[int, Statistic]]]


def baselines(found: Found, seed: int = 0) -> pd.DataFrame:
    """Effects of B1.1 to B1.3: time ranges minus the clip labels that the claims use, and minus whole clips.

    Returns
    -------
    pandas.DataFrame
        metric, arm, value, low, high, n, experiment; paired intervals of the same draws as the claims'.
    """
    rows = []
    for metric, arm, baseline, relative in COMPARED.values():
        if (arm, baseline) != (RANGES, CLIPS) or metric not in found:
            continue
        for other in (CLIPS, WHOLE):
            draws = np.random.default_rng(seed)
            effect = stats.paired_bootstrap(found[metric][arm], found[metric][other], draws, relative=relative)
            name = metric + (", relative change" if relative else "")
            rows.append({"metric": name, "arm": f"{arm} minus {other}", **vars(effect)})
    return pd.DataFrame(rows).drop(columns="level").assign(experiment=f"{EXPERIMENT}: baselines")


def silence_by_class(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """Share of the silent test windows on which each class fires: metric, class_name, arm, value, low, high, n, ..."""
    quiet = quiet_kinds(outcome).isin(SILENT)
    found = {
        name: {arm: {key: _on_silence(outcome, quiet, name, arm, key) for key in outcome.seeds} for arm in outcome.arms}
        for name in outcome.truth.classes
    }
    named = table(found, seed).rename(columns={"metric": "class_name"})
    return named.assign(metric="fires on silence", experiment=f"{EXPERIMENT}: silence")


def confused_or_silent(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """How often bark fires where only howl is and on silence, and howl likewise; as :func:`silence_by_class`.

    Without a row if the data set has no bark or no howl.
    """
    quiet, found = quiet_kinds(outcome).isin(SILENT), {}
    for present, fired in reversed(PAIRS):
        if {present, fired} <= set(outcome.truth.classes):
            keys = [(arm, key) for arm in outcome.arms for key in outcome.seeds]
            for metric, each in (
                (f"{fired} where only {present} is", {key: _confused(outcome, present, fired, *key) for key in keys}),
                (f"{fired} on silence", {key: _on_silence(outcome, quiet, fired, *key) for key in keys}),
            ):
                found[metric] = {arm: {key: each[arm, key] for key in outcome.seeds} for arm in outcome.arms}
    columns = ["metric", "arm", "value", "low", "high", "n"]
    rows = table(found, seed) if found else pd.DataFrame(columns=columns)
    return rows.assign(experiment=f"{EXPERIMENT}: silence")


def _on_silence(outcome: Outcome, quiet: pd.Series, name: str, arm: str, seed: int) -> Statistic:
    scores, limits = outcome.scores[arm, seed], outcome.thresholds[arm, seed]
    here = (quiet & bool(pd.notna(limits[name]))).astype(float).to_frame(name)
    fires = (scores[[name]] > limits[name]).astype(float)
    return resample.ratio_statistic(fires * here, here, outcome.test.unit)


def _confused(outcome: Outcome, present: str, fired: str, arm: str, seed: int) -> Statistic:
    scores, limits = outcome.scores[arm, seed], outcome.thresholds[arm, seed]
    return resample.confusion_statistic(scores, outcome.truth, limits, outcome.test.unit, [(present, fired)])


def ranges_a_clip(dataset: Dataset, seed: int = 0) -> pd.DataFrame:
    """What B1.5 counts, as one row of results: of the embedded data a parameter of their synthesis, no test."""
    counted = stats.bootstrap(labelled_ranges(dataset), np.random.default_rng(seed))
    place = {"experiment": f"{EXPERIMENT}: training clips", "split": "train"}
    return pd.DataFrame([{"metric": RANGES_A_CLIP, "arm": RANGES, **place, **vars(counted)}])
