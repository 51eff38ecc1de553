"""What notebook 03 says of claims B2.1 to B2.3: where false positives lie, whether clusters repeat, what promotion did.

Promoted segments can enter training in two ways (:mod:`audiotk.experiments.ghost_sounds`). B2 does not say which, so
B2.3 is about the one that fires less where nothing is heard on *validation*. A fall counts at thresholds of validation
and at equal recall on test: the weaker of both is the effect.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiotk import embed, energy, mining, stats
from audiotk.errors import AudiotkError
from audiotk.experiments import interval_text, mean_over_seeds, row
from audiotk.experiments.ghost_sounds import EXPERIMENT, MEMBERS, RANDOM, RAW, Mined, Outcome
from audiotk.experiments.ghosts import COMPARED, QUIET, WEAKER, Ghosts, change, results, weaker
from audiotk.resample import Statistic

INDEX = "adjusted Rand index of clusters in halves of the groups"
FOLDS = 4  # halvings of the groups for the stability of clusters


def concentration(ghosts: Ghosts, outcome: Outcome) -> dict[str, dict[int, Statistic]]:
    """B2.1: the share of false positives, and of absent audio, that lies on low-information audio, of each seed."""
    low = energy.low_information(ghosts.sound, ghosts.floor_dbfs(ghosts.test))
    pairs: dict[str, dict[int, Statistic]] = {"false positives": {}, "absent audio": {}}
    for (arm, seed), scores in outcome.scores.items():
        if arm == RAW:
            both = mining.concentration(
                scores[ghosts.classes], ghosts.truth["test"], low, outcome.thresholds[arm, seed], ghosts.test.unit
            )
            pairs["false positives"][seed], pairs["absent audio"][seed] = both
    return pairs


def levels(ghosts: Ghosts, outcome: Outcome, seed: int | None = None) -> pd.DataFrame:
    """Figures of B2.1: how often each class fires where it is absent, by level; see :func:`audiotk.mining.by_level`."""
    seed = min(key[1] for key in outcome.scores) if seed is None else seed
    scores, limits = outcome.scores[RAW, seed][ghosts.classes], outcome.thresholds[RAW, seed]
    return mining.by_level(scores, ghosts.truth["test"], ghosts.sound, limits)


def repeatability(ghosts: Ghosts, mined: Sequence[Mined]) -> dict[str, dict[int, Statistic]]:
    """B2.2: adjusted Rand index of clusters found in halves of the groups, by set of rows and seed.

    False positives, true ones, and the nulls of :func:`audiotk.embed.compare`. Seeds whose model makes
    too few of either are left out.
    """
    found: dict[str, dict[int, Statistic]] = {}
    units = pd.Index(ghosts.pool.segments["group"].unique())
    for one in mined:
        single = ~one.false_positives.duplicated(
            "segment"
        ).to_numpy()  # a segment that fires for two classes counts once
        vectors, groups = one.vectors[single], one.false_positives["group"].to_numpy()[single]
        if min(len(set(groups)), len(set(one.positive_groups))) < 4:
            continue
        rng = np.random.default_rng([one.seed, 6])
        options: dict[str, Any] = {"splits": FOLDS, "min_size": MEMBERS, "units": units}
        try:
            sets = embed.compare(vectors, groups, one.positives, one.positive_groups, rng, **options)
        except AudiotkError as err:
            warnings.warn(f"seed {one.seed} says nothing of B2.2: {err}", stacklevel=2)
            continue
        for name, stability in sets.items():
            found.setdefault(name, {})[one.seed] = stability.repeatable
    return found


def agreement(repeatable: Mapping[str, Mapping[int, Statistic]], seed: int = 0) -> pd.DataFrame:
    """Adjusted Rand index of each set of :func:`repeatability`, mean over seeds: index rows; value, low, high, n.

    Empty where no model makes enough false and true positives.
    """
    rows = {name: vars(mean_over_seeds(by_seed, np.random.default_rng(seed))) for name, by_seed in repeatable.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "level", "n"])
    return table.drop(columns="level").rename_axis("rows")


def against_random(outcome: Outcome, seed: int = 0) -> dict[str, stats.Interval]:
    """Metric -> change by promoted segments (the way chosen on validation) as a share of as many random negatives.

    Paired as in :func:`audiotk.experiments.ghosts.changes`. Empty where nothing was promoted.
    """
    found = {metric: change(outcome.found, metric, outcome.way, RANDOM, seed) for metric in COMPARED}
    return {metric: one for metric, one in found.items() if one}


def against_random_in_words(outcome: Outcome) -> str:
    """A line for each metric of :func:`against_random`."""
    lines = [f"  {metric}: {interval_text(vars(one))}" for metric, one in against_random(outcome).items()]
    head = (
        f"{outcome.way} minus {RANDOM}, as a share of {RANDOM} (-0.5 = half; an interval over 0: no difference shown)"
    )
    return "\n".join([head, *lines]) if lines else "nothing was promoted"


def claims(
    ghosts: Ghosts,
    outcome: Outcome,
    repeatable: Mapping[str, Mapping[int, Statistic]],
    data: str,
    scale: str,
    seed: int = 0,
) -> pd.DataFrame:
    """Claims B2.1 to B2.3 with effect, interval and verdict; index id."""
    draws = np.random.default_rng  # the same for each effect, as in the tables
    low = concentration(ghosts, outcome)
    effects: dict[str, stats.Interval | None] = {
        "B2.1": stats.paired_bootstrap(low["false positives"], low["absent audio"], draws(seed))
    }
    false, null = (repeatable.get(name, {}) for name in ("false positives", "unclustered"))
    effects["B2.2"] = stats.paired_bootstrap(false, null, draws(seed)) if false and null else None
    effects["B2.3"] = weaker(outcome.found, QUIET, outcome.way, RAW, seed)
    seeds = dict.fromkeys(effects, len(low["false positives"])) | {"B2.2": len(false)}
    rows = [stats.claim_row(name, effect, data, scale, seeds[name]) for name, effect in effects.items()]
    return pd.DataFrame(rows).set_index("id")


def result_rows(
    summary: pd.DataFrame,
    changed: Mapping[str, pd.DataFrame],
    agreed: pd.DataFrame,
    ledger: pd.DataFrame,
    outcome: Outcome,
    data: str,
    scale: str,
) -> list[dict[str, Any]]:
    """Rows of results.jsonl; `agreed` of :func:`agreement`, whose clusters are of the pool, a part of train."""
    claimed = {"B2.1": RAW, "B2.2": RAW, "B2.3": f"{outcome.way} minus {RAW}, {WEAKER}"}
    about: dict[str, Any] = {"seed": None, "data": data, "scale": scale}
    clusters = [
        row(f"{EXPERIMENT}, clusters", str(name), INDEX, stats.Interval(a, b, c, 0.95, int(n)), split="train", **about)
        for name, (a, b, c, n) in agreed.T.to_dict("list").items()
    ]
    beside = [
        row(EXPERIMENT, outcome.way, f"{metric}, change as a share of {RANDOM}", one, **about)
        for metric, one in against_random(outcome).items()
    ]
    return results(EXPERIMENT, summary, changed, RAW, ledger, claimed, data, scale) + beside + clusters
