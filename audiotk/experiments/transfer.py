"""Notebook 09: do repaired labels make better networks to build on? (P2, Tables I, III, IV, claims P2.3 to P2.6).

P2 is T. Grzywalski, D. Botteldooren, "Automatic re-labeling of Google AudioSet for improved quality of learned features
and pre-training". A split takes all classes below one root of the ontology as *target*, the rest as *base*; a recording
with a target label is a target recording, and its base labels are dropped. Base models are trained on OL, PEL or PE-CML
labels; on each of them target models are built from features or by fine-tuning, with each labeling of the targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk import resample
from audiotk.errors import NotForThisData
from audiotk.experiments import MOST_BYTES, check_scale, hierarchies, mean_over_seeds, read_segments
from audiotk.experiments.devices import at_once
from audiotk.experiments.hierarchies import Case
from audiotk.experiments.transfer_training import (
    BASE,
    Key,
    Recipe,
    Split,
    problem_of,
    train_split,
)
from audiotk.models import MODELS
from audiotk.ontology import base_target
from audiotk.relabel import parent_expand, pe_cml
from audiotk.resample import Statistic
from audiotk.stats import Interval
from audiotk.tables import SPLITS, AudiotkError, Labels
from audiotk.train import TrainConfig

EXPERIMENT = "transfer"
OL, PEL, PE_CML = SCHEMES = ("OL", "PEL", "PE-CML")
ROOTS = ("Human sounds", "Sounds of things", "Source-ambiguous sounds", "Natural sounds")  # P2
MORE_ROOTS = {"embedded": ("Animal",)}  # where the embedded data have most of their hierarchy
SIZES = {"smoke": (96, 48, 48), "demo": (512, 128, 384), "paper": (2000, 500, 1000)}  # embedded: train, val, test


def recipe(scale: str) -> Recipe:
    """P2's network and training at scale "paper"; below it a small MelCNN, so that a laptop is done in minutes."""
    check_scale(scale)
    common: dict[str, Any] = {
        "optimizer": "adam",
        "schedule": "exponential",
        "loss": "mse",
        "batch_size": 24,
        "sr": 8000,
    }
    if scale == "paper":
        config = TrainConfig(model="rawcnn", clip_s=10.0, lr=1e-3, gamma=0.987, **common)
        return Recipe(config, 100, 100, 100, (1.0, 0.5, 0.25, 0.125))
    small = {"mels": 16, "n_fft": 1024, "hop": 1024, "width": 0.5}
    config = TrainConfig(model_options=small, clip_s=10.0, lr=3e-3, gamma=0.92, **common)  # decays as far as P2's
    if scale == "smoke":
        return Recipe(config, 1, 1, 2, (1.0, 0.5))
    return Recipe(config, 16, 10, 20, (1.0, 0.25, 0.125))


def load(data: str, data_root: str, scale: str, split: str = "", excerpt: int = 0) -> Case:
    """Labels of a hierarchy whose recordings can be heard; `split` and `excerpt` as in :func:`hierarchies.load`.

    Raises
    ------
    NotForThisData
        No hierarchy, or AudioSet's label files without sound.
    """
    case = hierarchies.load(data, data_root, scale, SIZES, split, excerpt)
    if (case.dataset.recordings["path"] == "").any():
        raise NotForThisData(
            f"{data}: networks are trained here, and its recordings have no sound; put AudioSet's sound files into the "
            "folder audio/ of data_root (see audiotk.datasets.audioset), or use data=embedded"
        )
    return case


# --- the splits -------------------------------------------------------------------------------------------------------


def labelings(labels: Labels, case: Case) -> dict[str, Labels]:
    """OL, PEL and PE-CML of labels, over their own classes."""
    return {
        OL: labels,
        PEL: parent_expand(labels, case.ontology).labels,
        PE_CML: pe_cml(labels, case.ontology).labels,
    }


def split_by_root(case: Case, root: str) -> Split:
    """Base and target of one root; the rules see the labels that are left, base or target."""
    base, target = base_target(case.ontology, root, list(case.labels.classes))
    heard = _recording_of(case)
    part = heard[case.labels.segments].map(case.dataset.split).to_numpy()
    ours = np.zeros(len(part), dtype=bool)
    if target:
        ours = (case.labels.select(classes=target).dense() == 1).any(axis=1)
    sides = []
    for classes, rows in ((base, ~ours), (target, ours)):
        found = labelings(case.labels.select(case.labels.segments[rows], classes), case)
        each = {
            scheme: {name: some.select(segments=some.segments[part[rows] == name]) for name in SPLITS}
            for scheme, some in found.items()
        }
        sides.append(each)
    split = Split(root, sides[0], sides[1])
    return replace(split, problem=problem_of(split, case.group))


def _recording_of(case: Case) -> pd.Series:
    return case.dataset.segments.set_index("segment")["recording"]


def splits(case: Case, roots: Sequence[str] = ()) -> list[Split]:
    """The splits of P2 (or of `roots`), usable or not.

    Raises
    ------
    AudiotkError
        None can be used; the text says why.
    """
    chosen = list(roots) or [*ROOTS, *MORE_ROOTS.get(case.dataset.name, ())]
    found = [split_by_root(case, root) for root in chosen]
    if all(one.problem for one in found):
        told = "; ".join(f"{one.root}: {one.problem}" for one in found)
        raise AudiotkError(f"none of the splits into base and target can be used. {told}")
    return found


def overview(case: Case, found: Sequence[Split]) -> pd.DataFrame:
    """P2's Table I: recordings and classes of each target, and what cannot be learnt or tested there."""
    rows = {}
    for split in found:
        parts = split.target[OL]
        n = sum(len(labels.segments) for labels in parts.values())
        counts = {name: labels.counts()["present"] for name, labels in parts.items()}
        told = {"target recordings": f"{n:,} ({100 * n / len(case.labels.segments):.0f} %)"}
        told["train, val, test"] = ", ".join(f"{len(labels.segments):,}" for labels in parts.values())
        told["target classes"] = str(len(parts["train"].classes))
        told["heard in training"] = str(int((counts["train"] > 0).sum()))
        told["heard in test"] = str(int((counts["test"] > 0).sum()))
        told["used"] = "yes" if not split.problem else f"no. {split.problem}"
        rows[split.root] = told
    return pd.DataFrame.from_dict(rows, orient="index")


# --- training ---------------------------------------------------------------------------------------------------------


def _readable(split: Split, segments: pd.Index, unit: pd.Series) -> Split:
    """The split without segments that cannot be read; it may then have a problem that it had not."""
    if split.problem:
        return split
    base, target = (
        {
            scheme: {name: labels.select(segments=labels.segments[labels.segments.isin(segments)])
                     for name, labels in parts.items()}
            for scheme, parts in side.items()
        }
        for side in (split.base, split.target)
    )  # fmt: skip
    kept = Split(split.root, base, target)
    return replace(kept, problem=problem_of(kept, unit))


@dataclass(frozen=True)
class Outcome:
    """Trained models of the usable splits: logits of their test segments by (root, seed), then by key."""

    case: Case
    splits: Sequence[Split]
    logits: Mapping[tuple[str, int], Mapping[Key, pd.DataFrame]]
    seeds: Sequence[int]
    recipe: Recipe

    @property
    def roots(self) -> list[str]:
        return [split.root for split in self.splits]

    @cached_property
    def statistics(self) -> dict[tuple[str, int, Key], Statistic]:
        """mAP of each model on test labels of its own labeling, as a number of the groups."""
        found = {}
        for split in self.splits:
            for seed in self.seeds:
                for key, logits in self.logits[split.root, seed].items():
                    labels = (split.base[key.base] if key.way == BASE else split.target[key.target])["test"]
                    found[split.root, seed, key] = resample.map_statistic(logits, labels, self.case.group)
        return found

    def value(self, root: str, key: Key) -> float:
        """mAP, mean over seeds."""
        return float(np.mean([self.statistics[root, seed, key].value() for seed in self.seeds]))


def run(
    case: Case, found: Sequence[Split], scale: str, seeds: Sequence[int], out: str | Path, jobs: int | None = None
) -> Outcome:
    """Train base and target models of all usable splits with all seeds; finished runs in `out` are used again."""
    plan = recipe(scale)
    config = plan.config
    Path(out).mkdir(parents=True, exist_ok=True)
    wanted = case.dataset.segments[case.dataset.segments["segment"].isin(case.labels.segments)].reset_index(drop=True)
    material = read_segments(case.dataset.recordings, wanted, config.sr, config.clip_s, True, MOST_BYTES)
    segments = pd.Index(material.segments["segment"])
    usable = [split for split in (_readable(one, segments, case.group) for one in found) if not split.problem]
    if not usable:
        raise AudiotkError(f"{len(material.problems)} recordings cannot be read, and no split can be used without them")
    tasks = [(split, seed) for split in usable for seed in seeds]
    jobs = at_once(jobs, len(tasks))
    with TemporaryDirectory(dir=out, prefix="waves-") as shelf:
        waves = material.on_disk(shelf).waves
        folders = [Path(out) / "runs" / f"{split.root.replace(' ', '-')}-seed{seed}" for split, seed in tasks]
        calls = (
            joblib.delayed(train_split)(split, waves, segments, plan, seed, folder)
            for (split, seed), folder in zip(tasks, folders, strict=True)
        )
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", max_nbytes="1M")
        done = list(tqdm(parallel(calls), total=len(tasks), desc="splits and seeds"))
    logits = {(split.root, seed): one for (split, seed), one in zip(tasks, done, strict=True)}
    return Outcome(case, usable, logits, list(seeds), plan)


def effect(
    outcome: Outcome, terms: Mapping[Key, float], rng: np.random.Generator, roots: Sequence[str] | None = None
) -> Interval:
    """Sum of weight times mAP, mean over splits, with its interval over groups of recordings and seeds.

    With one seed the interval is over recordings only.
    """
    roots = outcome.roots if roots is None else roots
    by_seed = {
        seed: resample.weighted_statistic(
            [(w / len(roots), outcome.statistics[root, seed, key]) for root in roots for key, w in terms.items()]
        )
        for seed in outcome.seeds
    }
    return mean_over_seeds(by_seed, rng)


def network(scale: str) -> str:
    """Which network is trained at this scale, in words."""
    config = recipe(scale).config
    return f"{MODELS[config.model].__name__} at {config.sr} Hz"
