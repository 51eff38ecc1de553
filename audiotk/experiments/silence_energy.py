"""Notebook 04: silence as a class, energy in training, what is said not to help: each by itself (B2, B2.4 to B2.7).

A model is trained on the accidental labels of :mod:`audiotk.experiments.ghosts` and deployed. Then it is trained again
from its weights, at as many steps in each arm:

==============================  =======================================================================================
arm                             beside the accidental labels
==============================  =======================================================================================
accidental silence              nothing: more of the same
KIND silence                    made silence of one kind, all classes absent, a quarter of what is drawn
four silences, zeros / outputs  all four kinds; with outputs, each kind is a class of its own
energy penalty                  confident events cost in frames below a level
gain jitter                     levels vary by 8 dB in place of 2
background only                 some segments are quiet stretches of the training recordings, all classes absent
dropouts                        stretches of the sound fall to faint noise
penalty and augmentation        the four above together
random negatives                random segments of the pool, their absent classes known to be absent
deeper                          two convolutions a block, in the deployed model too
longer                          as many epochs as the deployed model had, several times those of the other arms
deeper, same verdicts           deeper, and trained on what the validator is fitted on
longer, same verdicts           longer, and trained on what the validator is fitted on
... and gate                    nothing is said below a level of the device (from validation)
==============================  =======================================================================================

The deployed model itself is measured alone, with a gate, and with a validator: a second stage that was fitted on judged
detections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch

from audiotk import embed, energy, models, silence, stats
from audiotk.backgrounds import SILENCE_KINDS
from audiotk.experiments import SMALL, Arm, Material, one_thread, read_segments, run_folder, train_tasks
from audiotk.experiments.ghosts import (
    HOURLY,
    QUIET,
    SHARE,
    SR,
    WEAKER,
    WINDOW_S,
    Found,
    Ghosts,
    change,
    changes,
    collect,
    config,
    joined,
    measures,
    results,
    thresholds,
    weaker,
    with_concepts,
)
from audiotk.files import cores
from audiotk.models.base import count_macs, count_parameters
from audiotk.models.checkpoints import load_checkpoint
from audiotk.tables import Labels, make_segments
from audiotk.validator import NUMBERS, Validator, detections, validated

EXPERIMENT = "silence_energy"
DEPLOYED, DEEP = "deployed", "deployed, deeper"
RAW, ZEROS, OUTPUTS = "accidental silence", "four silences, zeros", "four silences, outputs"
PENALTY, GAIN, BACKGROUND, DROPOUTS = "energy penalty", "gain jitter", "background only", "dropouts"
TOGETHER, RANDOM, DEEPER, LONGER = "penalty and augmentation", "random negatives", "deeper", "longer"
GATE, GATED, VALIDATOR = f"{DEPLOYED}, gate", f"{TOGETHER}, gate", f"{DEPLOYED}, validator"
INFORMED = ("deeper, same verdicts", "longer, same verdicts")
DEEPER_NET = {**SMALL, "deeper": True}
AGAIN = 13  # arms that are trained again as they are; two are deeper, two longer
CONCEPTS = tuple(f"neg_{kind}" for kind in SILENCE_KINDS)
MADE = 160  # segments of silence
EPOCHS = {"smoke": 1, "demo": 4, "paper": 10}  # of training again
MS, NEED = "ms a segment", "share of segments that need it"
FLOOR = 0.02  # score from which the validator looks at a segment
USELESS = (RANDOM, DEEPER, LONGER)  # B2.6: what is said not to help
CLAIMED = {
    "B2.4": f"{OUTPUTS} minus {RAW}, {WEAKER}",
    "B2.5": f"{TOGETHER} minus {RAW}, {WEAKER}",
    "B2.6": f"the best of {', '.join(USELESS)} minus {RAW}",
    "B2.7": f"{VALIDATOR} minus the best of {', '.join(INFORMED)}",
}


@dataclass(frozen=True)
class Outcome:
    """What all arms measure, and their thresholds."""

    found: Found
    thresholds: Mapping[tuple[str, int], pd.Series]
    scores: Mapping[tuple[str, int], pd.DataFrame]
    gates: Mapping[str, pd.Series]
    folder: Path


def run(ghosts: Ghosts, seeds: Sequence[int], out: str | Path, scale: str, jobs: int | None = None) -> Outcome:
    """Train all arms with all seeds, add gate and validator, and measure them on the test segments."""
    runs, first = Path(out) / "runs", with_concepts(ghosts.labels, CONCEPTS)
    materials = {"val": ghosts.val, "test": ghosts.test}
    val = ghosts.val, Labels.from_frame(ghosts.truth["val"].frame().reindex(columns=[*ghosts.classes, *CONCEPTS]))
    deployed = [
        Arm(DEPLOYED, ghosts.train, first, config(ghosts)),
        Arm(DEEP, ghosts.train, first, config(ghosts, model_options=DEEPER_NET)),
    ]
    tasks = [(arm, seed) for arm in deployed for seed in seeds]
    told = train_tasks(tasks, val, {**materials, "pool": ghosts.pool}, runs, jobs)
    base = Arm(RAW, ghosts.train, first, config(ghosts, epochs=EPOCHS[scale]))
    arms = arms_of(ghosts, base)
    tasks = [(arm, seed) for seed in seeds for arm in [*arms, *informed(ghosts, base, told[DEPLOYED, seed]["pool"])]]
    begun = {seed: {arm.name: run_folder(runs, arm.name, seed) / "best.pt" for arm in deployed} for seed in seeds}
    from_it = [
        (replace(arm, start=begun[seed][DEEP if arm.config.model_options == DEEPER_NET else DEPLOYED]), seed)
        for arm, seed in tasks
    ]
    told |= train_tasks(from_it, val, materials, runs, jobs)
    told = {key: {part: scores[ghosts.classes] for part, scores in parts.items()} for key, parts in told.items()}
    parts = {"pool": ghosts.pool, "val": ghosts.val}
    sound = {name: energy.describe(ghosts.dataset.recordings, part.segments) for name, part in parts.items()}
    sound["test"] = ghosts.sound
    gates = energy.fit_gate(sound["val"], ghosts.truth["val"], ghosts.device(ghosts.val))
    for seed in seeds:
        told[GATE, seed] = _gated(ghosts, told[DEPLOYED, seed], gates, sound)
        if (TOGETHER, seed) in told:
            told[GATED, seed] = _gated(ghosts, told[TOGETHER, seed], gates, sound)
    calls = [
        joblib.delayed(_validated)(ghosts, told[DEPLOYED, seed], sound, begun[seed][DEPLOYED], seed) for seed in seeds
    ]
    second = joblib.Parallel(n_jobs=min(jobs or cores(), len(calls)), max_nbytes="1M")(calls)
    told |= {(VALIDATOR, seed): parts for seed, parts in zip(seeds, second, strict=True) if parts is not None}
    told = _filled(told, seeds)
    limits = {key: thresholds(ghosts, parts["val"]) for key, parts in told.items()}
    found = collect({key: measures(ghosts, parts["test"], limits[key]) for key, parts in told.items()})
    return Outcome(found, limits, {key: parts["test"] for key, parts in told.items()}, {RAW: gates}, runs)


def _filled(told: Mapping[tuple[str, int], Any], seeds: Sequence[int]) -> dict[tuple[str, int], Any]:
    """What needs verdicts with every seed, if with any: a seed with too few of them leaves its model as it was."""
    known = [arm for arm in (VALIDATOR, *INFORMED) if any((arm, seed) in told for seed in seeds)]
    return dict(told) | {(arm, s): told[DEPLOYED, s] for arm in known for s in seeds if (arm, s) not in told}


def arms_of(ghosts: Ghosts, base: Arm) -> list[Arm]:
    """All arms that are trained again, but for those that need detections of the deployed model."""
    rng = np.random.default_rng(11)
    quiet_dbfs = float(np.median([floor.level_dbfs for floor in ghosts.floors.values()])) + energy.FAINT_DB
    penalty = {"energy_penalty": 0.5, "quiet_dbfs": quiet_dbfs}
    jitter, background, dropouts = {"gain_db": 8.0}, {"background_share": 0.15}, {"dropout_share": 0.5}
    quiet = quiet_sound(ghosts)
    made = {kind: made_silence(ghosts, (kind,), rng) for kind in SILENCE_KINDS}
    every = made_silence(ghosts, SILENCE_KINDS, rng)
    arms = [joined(f"{kind} silence", base, part, nothing(part, base, ()), SHARE) for kind, part in made.items()]
    arms += [joined(ZEROS, base, every, nothing(every, base, ()), SHARE)]
    arms += [joined(OUTPUTS, base, every, nothing(every, base, CONCEPTS), SHARE)]
    arms += [
        replace(base, name=name, config=replace(base.config, **changes), backgrounds=behind)
        for name, changes, behind in (
            (PENALTY, penalty, None),
            (GAIN, jitter, None),
            (BACKGROUND, background, quiet),
            (DROPOUTS, dropouts, None),
            (TOGETHER, {**penalty, **jitter, **background, **dropouts}, quiet),
            (DEEPER, {"model_options": DEEPER_NET}, None),
            (LONGER, {"epochs": ghosts.epochs}, None),
        )
        if "background_share" not in changes or behind is not None
    ]
    rows = np.sort(rng.choice(len(ghosts.pool.segments), min(MADE, len(ghosts.pool.segments)), replace=False))
    known = ghosts.truth["pool"].frame().iloc[rows]
    return [base, *arms, joined(RANDOM, base, _rows(ghosts.pool, rows), _partly(known.where(known == 0), base), SHARE)]


def informed(ghosts: Ghosts, base: Arm, scores: pd.DataFrame) -> list[Arm]:
    """Deeper and longer-trained nets with the verdicts that the validator is fitted on: only judged cells are known.

    None where there is no detection. `scores` are the deployed model's of the pool.
    """
    judged = ghosts.truth["pool"].frame().where(scores[ghosts.classes] > FLOOR)
    rows = np.flatnonzero(judged.notna().any(axis=1))
    if not len(rows):
        return []
    arm = joined("", base, _rows(ghosts.pool, rows), _partly(judged.iloc[rows], base), SHARE)
    changes: list[dict[str, Any]] = [{"model_options": DEEPER_NET}, {"epochs": ghosts.epochs}]
    return [
        replace(arm, name=name, config=replace(base.config, **change))
        for name, change in zip(INFORMED, changes, strict=True)
    ]


def _rows(material: Material, rows: np.ndarray) -> Material:
    return replace(material, segments=material.segments.iloc[rows].reset_index(drop=True), waves=material.waves[rows])


def _partly(known: pd.DataFrame, base: Arm) -> Labels:
    """Labels that know some cells of the events and nothing of explicit negatives."""
    return Labels.from_frame(known.reindex(columns=list(base.labels.classes)))


def made_silence(ghosts: Ghosts, kinds: Sequence[str], rng: np.random.Generator, n: int = MADE) -> Material:
    """Made silence of these kinds in turn, each as a random device of the training recordings records it.

    The ids of its segments name the kind.
    """
    floors = list(ghosts.floors.values())
    names = [f"made-{kinds[k % len(kinds)]}-{k:04d}" for k in range(n)]
    waves = np.stack([
        silence.make_silence(kinds[k % len(kinds)], round(WINDOW_S * SR), floors[rng.integers(len(floors))], rng)
        for k in range(n)
    ])  # fmt: skip
    return Material(make_segments(names, 0.0, WINDOW_S).assign(group=names), waves, SR, ghosts.train.problems)


def made_sounds(ghosts: Ghosts) -> list[tuple[str, np.ndarray]]:
    """Title and sound of one made silence of each kind."""
    made = made_silence(ghosts, SILENCE_KINDS, np.random.default_rng(11), n=len(SILENCE_KINDS))
    return list(zip(SILENCE_KINDS, made.waves, strict=True))


def nothing(material: Material, base: Arm, concepts: Sequence[str]) -> Labels:
    """All events absent in made silence; with `concepts` its kind is present and the other kinds absent."""
    table = pd.DataFrame(0.0, index=material.segments["segment"], columns=list(base.labels.classes))
    table[list(CONCEPTS)] = np.nan
    kinds = "neg_" + material.segments["recording"].str.split("-").str[1]
    for name in concepts:
        table[name] = (kinds == name).to_numpy(dtype=float)
    return Labels.from_frame(table)


def quiet_sound(ghosts: Ghosts) -> np.ndarray | None:
    """Quiet stretches of a second or more in the training recordings (m, samples), None where there are none."""
    names = ghosts.train.segments["recording"].unique()
    recordings = ghosts.dataset.recordings[ghosts.dataset.recordings["recording"].isin(names)]
    found = silence.quiet_stretches(recordings, ghosts.floors, shortest_s=1.0)
    if found.empty:
        return None
    sound = []
    for row in found.to_dict("records"):
        place = make_segments(row["recording"], row["start_s"], min(row["end_s"], row["start_s"] + WINDOW_S))
        wave = read_segments(recordings, place, SR, None).waves[0]
        sound.append(np.resize(np.concatenate([wave, wave[::-1]]), round(WINDOW_S * SR)))
    return np.stack(sound).astype(np.float32)


Tables = Mapping[str, pd.DataFrame]  # part of the data -> scores, or what its sound is like


def _gated(ghosts: Ghosts, parts: Tables, gates: pd.Series, sound: Tables) -> dict[str, pd.DataFrame]:
    """Scores with the gate closed; a device that validation does not know has the lowest gate of the others."""
    known = pd.Series({**dict.fromkeys(ghosts.device(ghosts.test).unique(), gates.min()), **gates}, dtype=float)
    return {
        "val": energy.gate(parts["val"], sound["val"], known, ghosts.device(ghosts.val)),
        "test": energy.gate(parts["test"], sound["test"], known, ghosts.device(ghosts.test)),
    }


@one_thread()
def _validated(ghosts: Ghosts, parts: Tables, sound: Tables, path: Path, seed: int) -> dict[str, pd.DataFrame] | None:
    """Scores with a validator in them, fitted on the judged detections of the pool; None if these are too few."""
    checkpoint = load_checkpoint(path)
    found, vectors = {}, {}
    for part, material in (("pool", ghosts.pool), ("val", ghosts.val), ("test", ghosts.test)):
        found[part] = detections(parts[part], material.segments, FLOOR, sound[part])
        vectors[part] = embed.embed_student(checkpoint, material.waves)[found[part]["row"]]
    judged = ghosts.truth["pool"].frame().stack()
    right = judged.reindex(pd.MultiIndex.from_frame(found["pool"][["segment", "class_name"]])).to_numpy()
    known = np.isfinite(right)
    groups = ghosts.pool.unit.reindex(found["pool"]["segment"]).to_numpy()[known]
    rng = np.random.default_rng([seed, 21])
    if len(set(groups[right[known] == 1])) < 2 or len(set(groups[right[known] == 0])) < 2:
        return None
    second = Validator.fit(found["pool"][known], vectors["pool"][known], right[known], groups, rng)
    return {
        part: validated(parts[part], found[part], second.scores(found[part], vectors[part]), FLOOR)
        for part in ("val", "test")
    }


def changed(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """Relative change of each arm against "accidental silence", for :func:`audiotk.ghost_figures.changes`."""
    return changes(outcome.found, RAW)


# --- cost and claims --------------------------------------------------------------------------------------------------


def cost(ghosts: Ghosts, outcome: Outcome) -> pd.DataFrame:
    """What the arms of B2.7 cost: parameters, MACs and milliseconds for one segment of 2 s on one thread.

    The validator's is the deployed net's and its own; of its MACs the features are left out, of its time they are not.
    Only segments with a score above `FLOOR` in any class need it: their share of the test segments is the last column,
    mean over seeds.
    """
    rows = {}
    wave = torch.as_tensor(np.array(ghosts.test.waves[:16]))
    with one_thread():
        for arm, options in ((DEPLOYED, SMALL), (DEEP, DEEPER_NET)):
            rng = np.random.default_rng(0)
            net = models.build("melcnn", len(ghosts.classes), sr=SR, clip_s=WINDOW_S, rng=rng, **options).eval()
            with torch.inference_mode():
                seconds = _seconds(partial(net, wave)) / len(wave)
            rows[arm] = {"parameters": count_parameters(net), "MACs": count_macs(net), MS: 1000 * seconds, NEED: 1.0}
        inputs = 2 * (1 + len(NUMBERS)) + net.embed_dim  # score, numbers, squares, embedding
        second = _any_validator(ghosts.classes, inputs)
        own = 1000 * _seconds(_second_stage(ghosts, second)) / len(wave)
    first, fires = (
        rows[DEPLOYED],
        [(scores > FLOOR).any(axis=1).mean() for (arm, _), scores in outcome.scores.items() if arm == DEPLOYED],
    )
    rows[VALIDATOR] = {
        "parameters": first["parameters"] + len(second.weights), "MACs": first["MACs"] + 2 * inputs,
        MS: first[MS] + own, NEED: float(np.mean(fires)),
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def cost_in_words(table: pd.DataFrame) -> str:
    """One sentence: the validator's time beside that of the deeper net, both as multiples of the deployed net's."""
    ms, share = table[MS].to_dict(), float(table[NEED].to_dict()[VALIDATOR])
    second, deep = (ms[arm] / ms[DEPLOYED] for arm in (VALIDATOR, DEEP))
    here = "all" if share == 1 else f"{share:.0%} of the"
    mean = "" if share == 1 else f"{1 + share * (second - 1):.2f} times on average, "
    return (
        f"In time a segment takes {second:.2f} times the deployed net's with the validator where a score is above "
        f"{FLOOR} in any class (here: {here} test segments), {mean}and {deep:.2f} times with the deeper net, always."
    )


def _seconds(call: Callable[[], Any], times: int = 5) -> float:
    """The median time of a call, after one to warm up."""
    call()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def _any_validator(classes: Sequence[str], inputs: int) -> Validator:
    """A validator of the right size, whose weights do not matter for its time."""
    known = tuple(sorted(classes))
    weights = np.zeros(inputs + len(known) * (inputs + 1) + 1)
    return Validator(known, NUMBERS, np.zeros(inputs), np.ones(inputs), weights)


def _second_stage(ghosts: Ghosts, second: Validator) -> Callable[[], pd.DataFrame]:
    """All that a validator does for 16 segments with a detection each; the embeddings are the first stage's."""
    waves, segments = np.array(ghosts.test.waves[:16]), ghosts.test.segments[:16]
    names = pd.Index(segments["segment"], dtype="str", name="segment")
    scores = pd.DataFrame(0.0, index=names, columns=ghosts.classes)
    scores.iloc[:, 0] = 0.5
    vectors = np.zeros((len(waves), second.dim), np.float32)

    def hear() -> pd.DataFrame:
        found = detections(scores, segments, FLOOR, energy.describe_waves(waves, names, SR))
        return validated(scores, found, second.scores(found, vectors[found["row"]]), FLOOR)

    return hear


def claims(outcome: Outcome, data: str, scale: str, seed: int = 0) -> pd.DataFrame:
    """Claims B2.4 to B2.7 with effect, interval and verdict; index id. Of B2.4 and B2.5 the weaker of two falls."""
    found = outcome.found
    best = [one for arm in USELESS if (one := change(found, QUIET, arm, RAW, seed))]
    rivals = [one for arm in INFORMED if (one := change(found, HOURLY, VALIDATOR, arm, seed))]  # the stronger counts
    effects = {
        "B2.4": weaker(found, "fires on silence", OUTPUTS, RAW, seed),
        "B2.5": weaker(found, QUIET, TOGETHER, RAW, seed),
        "B2.6": min(best, key=lambda one: one.value) if best else None,
        "B2.7": max(rivals, key=lambda one: one.value) if rivals else None,
    }
    seeds = len({seed for _, seed in outcome.scores})
    rows = [stats.claim_row(name, one, data, scale, seeds) for name, one in effects.items()]
    return pd.DataFrame(rows).set_index("id")


def result_rows(
    summary: pd.DataFrame, changed: Mapping[str, pd.DataFrame], ledger: pd.DataFrame, data: str, scale: str
) -> list[dict[str, Any]]:
    """Rows of results.jsonl."""
    return results(EXPERIMENT, summary, changed, RAW, ledger, CLAIMED, data, scale)
