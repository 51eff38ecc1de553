"""Notebook 09, second half: the tables of P2 (I, III and IV are made here and printed there), effects and claims.

See :mod:`audiotk.experiments.transfer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiotk import metrics, stats
from audiotk.experiments import on_scale, row
from audiotk.experiments.transfer import EXPERIMENT, OL, PE_CML, PEL, ROOTS, SCHEMES, Outcome, effect
from audiotk.experiments.transfer_training import BASE, FEATURES, SCRATCH, TUNED, Key
from audiotk.stats import Interval

# What P2 prints: Table III, and the cells of Table IV in the order of ROOTS, in each OL, PEL, PE-CML
PRINTED_BASE = {
    OL: (0.361, 0.469, 0.408, 0.410),
    PEL: (0.497, 0.595, 0.513, 0.504),
    PE_CML: (0.562, 0.646, 0.575, 0.557),
}
PRINTED = {
    (FEATURES, OL): (0.790, 0.805, 0.812, 0.195, 0.304, 0.323, 0.461, 0.461, 0.465, 0.468, 0.656, 0.653),
    (FEATURES, PEL): (0.795, 0.809, 0.817, 0.207, 0.314, 0.333, 0.487, 0.492, 0.494, 0.487, 0.669, 0.670),
    (FEATURES, PE_CML): (0.793, 0.808, 0.820, 0.199, 0.303, 0.319, 0.492, 0.497, 0.493, 0.529, 0.690, 0.691),
    (SCRATCH, ""): (0.782, 0.800, 0.811, 0.139, 0.310, 0.343, 0.385, 0.396, 0.440, 0.411, 0.596, 0.579),
    (TUNED, OL): (0.770, 0.796, 0.808, 0.186, 0.311, 0.338, 0.464, 0.471, 0.462, 0.476, 0.674, 0.678),
    (TUNED, PEL): (0.774, 0.793, 0.810, 0.187, 0.333, 0.358, 0.477, 0.468, 0.477, 0.472, 0.665, 0.674),
    (TUNED, PE_CML): (0.783, 0.806, 0.810, 0.191, 0.334, 0.357, 0.483, 0.476, 0.486, 0.514, 0.693, 0.698),
}


# --- tables -----------------------------------------------------------------------------------------------------------


def base_table(outcome: Outcome) -> pd.DataFrame:
    """P2's Table III: mAP of base models, each on test labels of its own labeling (so columns cannot be compared)."""
    rows = {
        f"base for {root}": {scheme: outcome.value(root, Key(BASE, scheme, "")) for scheme in SCHEMES}
        for root in outcome.roots
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def target_table(outcome: Outcome) -> pd.DataFrame:
    """P2's Table IV: rows how and on which base, columns split and target labeling; mAP, mean over seeds."""
    rows = {
        way: [outcome.value(root, Key(*way, target)) for root in outcome.roots for target in SCHEMES] for way in PRINTED
    }
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples(list(rows), names=["how", "base labels"]),
        columns=pd.MultiIndex.from_product([outcome.roots, SCHEMES], names=["target", "labels"]),
    )


def compared(outcome: Outcome) -> pd.DataFrame:
    """Mean over all cells, and in how many a base is better than OL's: what P2 prints, and ours."""
    ours = target_table(outcome)
    cells: dict[str, Mapping[tuple[str, str], Any]] = {
        "P2": PRINTED, "ours": dict(zip(PRINTED, ours.to_numpy(), strict=True)),
    }  # fmt: skip
    rows: dict[str, list[str]] = {f"{name}: mean mAP": [] for name in cells}
    rows |= {f"{name}: better than OL's base": [] for name in cells}
    for name, table in cells.items():
        for way, base in PRINTED:
            mine, other = np.array(table[way, base]), np.array(table.get((way, OL), ()))
            rows[f"{name}: mean mAP"].append(f"{mine.mean():.3f}")
            told = f"{int((mine > other).sum())} of {len(mine)}" if base in (PEL, PE_CML) else ""
            rows[f"{name}: better than OL's base"].append(told)
    return pd.DataFrame(rows, index=ours.index)


def scratch_words(outcome: Outcome) -> str:
    """In how many columns of Table IV training from scratch is above the features of every base."""
    table = target_table(outcome)
    above = table.loc[(SCRATCH, "")] > table.loc[FEATURES].max()
    return f"From scratch is above the features of every base in {int(above.sum())} of {len(above)} columns."


def printed_cells() -> dict[tuple[str, str, str, str], float]:
    """P2's Table IV: (how, base labels, target, labels) -> mAP."""
    places = [(root, scheme) for root in ROOTS for scheme in SCHEMES]
    return {(*way, *place): v for way, row_ in PRINTED.items() for place, v in zip(places, row_, strict=True)}


def on_truth(outcome: Outcome) -> pd.DataFrame:
    """mAP on what is really there, where that is known: the same test for every labeling; mean over the labelings."""
    truth = outcome.case.truth
    assert truth is not None, "on_truth: only where the truth is known"
    rows: dict[tuple[str, str], dict[str, float]] = {way: {} for way in PRINTED}
    for split in outcome.splits:
        test = split.target[OL]["test"]
        known = truth.select(test.segments, test.classes)
        for way, told in rows.items():
            found = [
                metrics.mean_average_precision(outcome.logits[split.root, seed][Key(*way, target)], known)
                for target in SCHEMES
                for seed in outcome.seeds
            ]
            told[split.root] = float(np.mean(found))
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(list(rows), names=["how", "base labels"])).assign(
        mean=lambda t: t.mean(axis=1)
    )


def curve(outcome: Outcome) -> pd.DataFrame:
    """mAP by number of target recordings, labels OL: root, how, base labels, recordings, share, value, low, high, n.

    Epochs are as many for all, so that fewer recordings are also fewer steps of training.
    """
    rows = []
    for split in outcome.splits:
        n = len(split.target[OL]["train"].segments)
        for way in PRINTED:
            for share in outcome.recipe.shares:
                found = effect(outcome, {Key(*way, OL, share): 1.0}, np.random.default_rng(0), [split.root])
                told = {"root": split.root, "how": way[0], "base labels": way[1], "recordings": round(share * n)}
                rows.append(
                    {**told, "share": share, **{name: getattr(found, name) for name in ("value", "low", "high", "n")}}
                )
    return on_scale(pd.DataFrame(rows))


# --- effects and claims -----------------------------------------------------------------------------------------------


def gain(way: str, base: str, over: str = OL, targets: Sequence[str] = SCHEMES, share: float = 1.0) -> dict[Key, float]:
    """Terms of :func:`effect`: mAP on one base minus that on another, mean over the target labelings."""
    weight = 1 / len(targets)
    return {
        **{Key(way, base, target, share): weight for target in targets},
        **{Key(way, over, target, share): -weight for target in targets},
    }


def growth(outcome: Outcome) -> dict[Key, float]:
    """The gain of a PE-CML base over OL's with the fewest target recordings, minus that with all; both ways, mean."""
    terms: dict[Key, float] = {}
    for share, sign in ((min(outcome.recipe.shares), 0.5), (1.0, -0.5)):
        for way in (FEATURES, TUNED):
            terms |= {key: sign * w for key, w in gain(way, PE_CML, OL, [OL], share).items()}
    return terms


COMPARED = {
    "P2.3": (
        {Key(BASE, PEL, ""): 1.0, Key(BASE, OL, ""): -1.0},
        {Key(BASE, PE_CML, ""): 1.0, Key(BASE, PEL, ""): -1.0},
    ),
    "P2.4": (gain(FEATURES, PEL), gain(FEATURES, PE_CML), gain(FEATURES, PE_CML, PEL)),
    "P2.5": (gain(TUNED, PE_CML),),
}
WORDS = {
    "P2.3": ("base models: PEL − OL", "base models: PE-CML − PEL"),
    "P2.4": ("features: PEL − OL", "features: PE-CML − OL", "features: PE-CML − PEL"),
    "P2.5": ("fine-tuning: PE-CML − OL",),
    "P2.6": ("gain with fewest − with all targets",),
}
EVERY = "all splits"


def effects(outcome: Outcome, seed: int = 0) -> pd.DataFrame:
    """What each claim is about, in each split and over all: claim, what, root, value, low, high, n.

    In a split the interval is over groups of its test recordings and seeds, n their number. Over all splits it reaches
    as far as either of two: the same with all groups, and Student's t over the splits, which says what other roots
    might give; n is the number of splits.
    """
    draws, rows = np.random.default_rng, []
    asked = {**COMPARED, "P2.6": (growth(outcome),)}
    for name, several in asked.items():
        for what, terms in zip(WORDS[name], several, strict=True):
            each = {root: effect(outcome, terms, draws(seed), [root]) for root in outcome.roots}
            wide = _wider(effect(outcome, terms, draws(seed)), stats.over_units([one.value for one in each.values()]))
            for root, one in {**each, EVERY: wide}.items():
                rows.append({"claim": name, "what": what, "root": root, **vars(one)})
    return pd.DataFrame(rows).drop(columns="level")


def _wider(one: Interval, other: Interval) -> Interval:
    """From the lower of both lows to the higher of both highs (NaN if either is); number and n of `other`."""
    return Interval(
        other.value, float(np.minimum(one.low, other.low)), float(np.maximum(one.high, other.high)), 0.95, other.n
    )


def claims(outcome: Outcome, found: pd.DataFrame, data: str, scale: str) -> pd.DataFrame:
    """Claims P2.3 to P2.6 with effect, interval and verdict; index id.

    A claim of several differences holds if all do: its interval goes from the lowest low to the lowest high.
    """
    rows = []
    for name, part in found[found["root"] == EVERY].groupby("claim"):
        ends = {column: float(part[column].min(skipna=False)) for column in ("value", "low", "high")}
        least = Interval(**ends, level=0.95, n=int(part["n"].iloc[0]))
        rows.append(stats.claim_row(str(name), least, data, scale, len(outcome.seeds)))
    return pd.DataFrame(rows).set_index("id")


def results(outcome: Outcome, found: pd.DataFrame, data: str, scale: str) -> list[dict[str, Any]]:
    """Rows of results.jsonl: mAP of every cell of Tables III and IV, the learning curve, and the effects of claims."""
    seed = outcome.seeds[0] if len(outcome.seeds) == 1 else None
    about: dict[str, Any] = {"seed": seed, "data": data, "scale": scale}
    rows = [
        row(f"{EXPERIMENT}: base", root, f"mAP, {scheme}", outcome.value(root, Key(BASE, scheme, "")), **about)
        for root in outcome.roots
        for scheme in SCHEMES
    ]
    for way, base in PRINTED:
        for root in outcome.roots:
            for target in SCHEMES:
                arm, value = f"{way}, {base}" if base else way, outcome.value(root, Key(way, base, target))
                rows.append(row(f"{EXPERIMENT}: target", arm, f"mAP, {root}, {target}", value, **about))
    for item in curve(outcome).to_dict("records"):
        arm = f"{item['how']}, {item['base labels']}" if item["base labels"] else item["how"]
        reached = Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        metric = f"mAP, {item['root']}, {OL}, {item['recordings']} recordings"
        rows.append(row(f"{EXPERIMENT}: learning curve", arm, metric, reached, **about))
    for item in found.to_dict("records"):
        found_effect = Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        rows.append(row(item["claim"], item["root"], item["what"], found_effect, **about))
    return rows
