"""Notebook 03: find the ghosts of a model, listen to clusters of them, promote these to negatives, train again (B2).

==========================  ===========================================================================================
arm                         trained with as many steps each on
==========================  ===========================================================================================
accidental silence          ranges, but silence carries a class by accident (:mod:`audiotk.experiments.ghosts`)
promoted, outputs           the same and the promoted segments (a quarter of what is drawn), their themes as outputs
promoted, zeros             the same without outputs for themes
random negatives            the same and as many random segments of the pool, their absent classes known to be absent
labels without accident     the true labels of the training segments: what is to be reached
==========================  ===========================================================================================

The pool stands for the log of a deployed model: its detections are judged true or false, nothing else is known, and of
the true ones a share (`LOG_ERRORS`) is called false, as by somebody who did not listen. What the false ones are, and
what is absent besides the class that fired, a listener says who hears a sample of each cluster. The simulated listener
knows the truth: he finds the errors of the log that he hears, and the rest of a promoted cluster keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import embed, labels, mining
from audiotk.experiments import Arm, Material, one_thread, read_segments, run_folder, train_tasks
from audiotk.experiments.ghosts import (
    SHARE,
    SR,
    WINDOW_S,
    Found,
    Ghosts,
    collect,
    config,
    joined,
    measures,
    store_of,
    thresholds,
    with_concepts,
)
from audiotk.experiments.replay import LISTENER, replay
from audiotk.models.checkpoints import load_checkpoint
from audiotk.tables import Labels

EXPERIMENT = "ghost_sounds"
RAW, OUTPUTS, ZEROS, RANDOM = "accidental silence", "promoted, outputs", "promoted, zeros", "random negatives"
CLEAN = "labels without accident"
ARMS = (RAW, OUTPUTS, ZEROS, RANDOM, CLEAN)
HEARD = 10  # members of a cluster that the simulated listener hears, drawn at random
PURE = 0.5  # lower bound of the purity from which the simulated listener promotes: 5 of 5, 9 of 10 right
MEMBERS = 5  # of a cluster at least
LOG_ERRORS = 0.1  # of the pool's true detections are called false
EVENTFUL = 0.1  # share of the heard members with any event up to which a cluster is silence or ambience
WAYS = (OUTPUTS, ZEROS)  # in which promoted segments enter training


@dataclass(frozen=True)
class Mined:
    """What one model fires on in the pool where the class is absent, with embeddings and clusters.

    `positives` are the embeddings of true detections, `positive_groups` their groups.
    """

    seed: int
    false_positives: pd.DataFrame
    vectors: np.ndarray
    positives: np.ndarray
    positive_groups: np.ndarray
    thresholds: pd.Series
    scores: Mapping[str, pd.DataFrame]
    checkpoint: Path

    def __repr__(self) -> str:
        clusters = self.false_positives["cluster"]
        return (
            f"Mined(seed {self.seed}: {len(clusters):,} false positives, {clusters[clusters >= 0].nunique()} clusters, "
            f"{int((clusters < 0).sum()):,} unassigned)"
        )


@dataclass(frozen=True)
class Outcome:
    """All arms: (arm, seed) -> scores of the test segments, and what they measure.

    `quiet` is the share of the *validation* segments without event that fire, by arm (mean over seeds); `way` is that
    of `WAYS` in which fewer do, "" where nothing was promoted.
    """

    scores: Mapping[tuple[str, int], pd.DataFrame]
    thresholds: Mapping[tuple[str, int], pd.Series]
    pool: Mapping[tuple[str, int], pd.DataFrame]  # scores of the pool
    found: Found
    quiet: pd.Series
    promotions: pd.DataFrame = field(repr=False)

    @property
    def way(self) -> str:
        both = [way for way in WAYS if way in self.quiet]
        return min(both, key=lambda way: np.nan_to_num(self.quiet[way], nan=np.inf), default="")


def mine(ghosts: Ghosts, seeds: Sequence[int], out: str | Path, jobs: int | None = None) -> list[Mined]:
    """Train on the accidental labels with each seed, and cluster what the models fire on in the pool."""
    base = Arm(RAW, ghosts.train, with_concepts(ghosts.labels, mining.THEMES), config(ghosts))
    scores = train_tasks([(base, seed) for seed in seeds], _val(ghosts), _materials(ghosts), _runs(out), jobs)
    return [_mined(ghosts, seed, scores[RAW, seed], out) for seed in seeds]


@one_thread()
def _mined(ghosts: Ghosts, seed: int, scores: dict[str, pd.DataFrame], out: str | Path) -> Mined:
    limits = thresholds(ghosts, scores["val"])
    said, truth = scores["pool"][ghosts.classes], ghosts.truth["pool"]
    log = _log(said, truth, limits, np.random.default_rng([seed, 7]))
    found = mining.false_positives(said, log, ghosts.pool.segments, ghosts.dataset.recordings, limits)
    path = run_folder(_runs(out), RAW, seed) / "best.pt"
    checkpoint, segments = load_checkpoint(path), ghosts.pool.segments
    vectors = embed.embed_student(checkpoint, ghosts.pool.waves[_places(segments, found)])
    true = np.flatnonzero(((said > limits) & (log.frame() == 1)).any(axis=1))
    positives = embed.embed_student(checkpoint, ghosts.pool.waves[true])
    found["cluster"] = embed.cluster(vectors, np.random.default_rng([seed, 1]), min_size=MEMBERS)
    return Mined(seed, found, vectors, positives, segments["group"].to_numpy()[true], limits, scores, path)


def _log(scores: pd.DataFrame, truth: Labels, limits: pd.Series, rng: np.random.Generator) -> Labels:
    """What a log says of the detections: the truth, but a share of the true ones is called false."""
    frame = truth.frame()
    mistaken = (frame == 1) & (scores[frame.columns] > limits) & (rng.random(frame.shape) < LOG_ERRORS)
    return Labels.from_frame(frame.where(~mistaken, 0.0))


def _places(segments: pd.DataFrame, found: pd.DataFrame) -> np.ndarray:
    """Row of each false positive's segment."""
    return pd.Index(segments["segment"]).get_indexer(pd.Index(found["segment"]))


def with_map(mined: Mined) -> Mined:
    """The same with places x, y on a picture of the embeddings."""
    places = embed.map_2d(mined.vectors, np.random.default_rng([mined.seed, 2]))
    return replace(mined, false_positives=mined.false_positives.assign(x=places[:, 0], y=places[:, 1]))


def clusters(ghosts: Ghosts, mined: Mined) -> pd.DataFrame:
    """One row a cluster: members, what it sounds like, the suggested theme and its reason, and what it holds in truth.

    nothing heard is the share of the members in which no event of any class is heard; sounds names the commonest
    silence, ambience or event of the truth.
    """
    found = mined.false_positives
    found = found[found["cluster"] >= 0]
    suggested = embed.suggest_themes(found, found["cluster"]).set_index("cluster")
    by_cluster = found.assign(silent=_silent(ghosts, found), kind=_sounds(ghosts, found)).groupby("cluster")
    about = {
        "classes": by_cluster["class_name"].agg(lambda names: ", ".join(names.value_counts().index[:2])),
        "nothing heard": by_cluster["silent"].mean(),
        "sounds": by_cluster["kind"].agg(lambda kinds: ", ".join(kinds.value_counts().index[:2])),
    }
    return suggested[["members", "level_dbfs", "flatness", "tonality", "theme", "reason"]].assign(**about).reset_index()


def _silent(ghosts: Ghosts, found: pd.DataFrame) -> np.ndarray:
    """Whether no event of any class is heard in the segment of each false positive."""
    silent = (ghosts.truth["pool"].frame() == 0).all(axis=1)
    return silent.reindex(found["segment"]).to_numpy(dtype=bool)


def _sounds(ghosts: Ghosts, found: pd.DataFrame) -> np.ndarray:
    """What is in the segment of each false positive: the events, or the kind of silence or ambience."""
    frame = ghosts.truth["pool"].frame().reindex(found["segment"].unique())
    events = frame.apply(lambda row: "+".join(row.index[row == 1]) or "part of an event", axis=1)
    kinds = ghosts.kinds_of(ghosts.pool, "pool").reindex(frame.index)
    return kinds.fillna(events).reindex(found["segment"]).to_numpy()


def listen(ghosts: Ghosts, mined: Mined, out: str | Path, recorded: str | Path = "") -> pd.DataFrame:
    """Promotions of one model's clusters: those a person made, or else those of a simulated listener.

    A store `recorded` elsewhere is taken over whole (whatever model its clusters are of), and nobody listens.
    If ``promotions-seedN.sqlite`` in `out` holds any (of somebody who used the explorer, or of an earlier run), they
    stay. Otherwise the listener hears `HEARD` random members of each cluster, judges them by the truth, and promotes
    the cluster: by its suggested theme if an event is heard in at most `EVENTFUL` of them, all classes being absent;
    else as neg_hard, only the class that fired being absent.

    Returns
    -------
    pandas.DataFrame
        As :func:`audiotk.mining.promotions`.
    """
    store = store_of(out, mined.seed)
    if recorded:
        return replay(recorded, store)
    told = mining.promotions(store) if store.exists() else pd.DataFrame()
    if len(told) and set(told["labeler"]) != {LISTENER}:
        return told
    done = set(told["cluster"]) if len(told) else set()
    found, door, rng = mined.false_positives, ghosts.door, np.random.default_rng([mined.seed, 4])
    suggested = embed.suggest_themes(found, found["cluster"]).set_index("cluster")["theme"]
    truth, silent = truth_of(ghosts, found), _silent(ghosts, found)
    for name, theme in suggested.items():
        rows = np.flatnonzero(found["cluster"] == name)
        heard = rng.choice(rows, min(HEARD, len(rows)), replace=False)
        if f"{name}" in done:  # after the draw, so that a run that goes on hears what a whole one would
            continue
        said = np.select([truth[heard] == 0, truth[heard] == 1], ["false", "true"], "unsure")
        sure = said != "unsure"
        if mining.purity_bound(int((said == "false").sum()), int(sure.sum())) < PURE:
            continue
        theme = str(theme) if theme and (~silent[heard]).mean() <= EVENTFUL else "neg_hard"
        verdicts = found.iloc[heard][["segment", "class_name"]].assign(verdict=said)
        if theme != "neg_hard":  # what holds an event to his ear is no silence
            rows = np.setdiff1d(rows, heard[~silent[heard]])
        mining.promote(
            store, found.iloc[rows], theme, door, labeler=LISTENER, cluster=f"{name}", verdicts=verdicts,
            absent=None if theme == "neg_hard" else ghosts.classes,
        )  # fmt: skip
    return mining.promotions(store) if store.exists() else pd.DataFrame(columns=mining.PROMOTION_COLUMNS)


def truth_of(ghosts: Ghosts, found: pd.DataFrame) -> np.ndarray:
    """Whether the class of each row is there: 1, 0 or NaN (only in part)."""
    truth = ghosts.truth["pool"].frame().stack(future_stack=True)
    return truth.reindex(pd.MultiIndex.from_frame(found[["segment", "class_name"]])).to_numpy()


def train_again(ghosts: Ghosts, mined: Sequence[Mined], out: str | Path, jobs: int | None = None) -> Outcome:
    """Train the arms with what was promoted, and measure all of them on the test segments."""
    base = Arm(RAW, ghosts.train, with_concepts(ghosts.labels, mining.THEMES), config(ghosts))
    clean = Arm(CLEAN, ghosts.train, with_concepts(ghosts.truth["train"], mining.THEMES), config(ghosts))
    tasks: list[tuple[Arm, int]] = []
    for one in mined:
        arms = _promoted_arms(ghosts, base, one, out)
        tasks += [(arm, one.seed) for arm in [*arms, clean]]
    trained = train_tasks(tasks, _val(ghosts), _materials(ghosts), _runs(out), jobs)
    told = {(RAW, one.seed): one.scores for one in mined} | trained
    for arm in {arm for arm, _ in trained} - {CLEAN}:  # where nothing was promoted, the loop leaves the model as it was
        told = {(arm, one.seed): one.scores for one in mined} | told
    limits = {key: thresholds(ghosts, scores["val"]) for key, scores in told.items()}
    keys = sorted(told, key=lambda key: (ARMS.index(key[0]), key[1]))
    found = collect({key: measures(ghosts, told[key]["test"], limits[key]) for key in keys})
    every = [
        mining.promotions(store).assign(seed=one.seed) for one in mined if (store := store_of(out, one.seed)).exists()
    ]
    table = pd.concat(every, ignore_index=True) if every else pd.DataFrame(columns=[*mining.PROMOTION_COLUMNS, "seed"])
    test, pool = ({key: told[key][part] for key in keys} for part in ("test", "pool"))
    nothing = ghosts.kinds_of(ghosts.val, "val").notna()
    fires = {key: (told[key]["val"][ghosts.classes] > limits[key]).any(axis=1)[nothing].mean() for key in keys}
    quiet = pd.Series(fires).groupby(level=0).mean()
    return Outcome(test, limits, pool, found, quiet, table)


def _promoted_arms(ghosts: Ghosts, base: Arm, mined: Mined, out: str | Path) -> list[Arm]:
    """The arms with promoted and with as many random negatives; none where nothing was promoted."""
    store = store_of(out, mined.seed)
    segments = mining.promoted(store, ghosts.door)[0] if store.exists() else pd.DataFrame()
    if segments.empty:
        return []
    every = [*ghosts.classes, *mining.THEMES]
    recordings, dataset = ghosts.dataset.recordings, mining.with_promoted(ghosts.dataset, store, ghosts.door)
    extra = read_segments(recordings, segments[list(segments.columns[:4])], SR, WINDOW_S)
    said = labels.resolve(dataset, extra.segments.drop(columns="group"), ["promoted"], every)
    zeros = said.frame()
    zeros[list(mining.THEMES)] = np.nan
    rng = np.random.default_rng([mined.seed, 5])
    rows = np.sort(rng.choice(len(ghosts.pool.segments), min(len(segments), len(ghosts.pool.segments)), replace=False))
    drawn = Material(
        ghosts.pool.segments.iloc[rows].reset_index(drop=True), ghosts.pool.waves[rows], SR, extra.problems
    )
    known = ghosts.truth["pool"].frame().iloc[rows]
    absent = known.where(known == 0).reindex(columns=every)
    return [
        joined(OUTPUTS, base, extra, _exclusive(said), SHARE),
        joined(ZEROS, base, extra, Labels.from_frame(zeros), SHARE),
        joined(RANDOM, base, drawn, Labels.from_frame(absent), SHARE),
    ]


def _exclusive(said: Labels) -> Labels:
    """Labels in which a segment of one theme is absent for the other themes."""
    frame, themes = said.frame(), list(mining.THEMES)
    named = (frame[themes] == 1).any(axis=1)
    frame[themes] = frame[themes].where(frame[themes].notna() | ~named.to_numpy()[:, None], 0.0)
    return Labels.from_frame(frame)


def _val(ghosts: Ghosts) -> tuple[Material, Labels]:
    frame = ghosts.truth["val"].frame().reindex(columns=[*ghosts.classes, *mining.THEMES])
    return ghosts.val, Labels.from_frame(frame)


def _materials(ghosts: Ghosts) -> dict[str, Material]:
    return {"val": ghosts.val, "pool": ghosts.pool, "test": ghosts.test}


def _runs(out: str | Path) -> Path:
    return Path(out) / "runs"


def show_after(explorer: Any, ghosts: Ghosts, outcome: Outcome, seed: int) -> None:
    """Tell an explorer which of its points still fire after retraining (the better way, if anything was promoted)."""
    if (outcome.way, seed) in outcome.pool:
        explorer.after(outcome.pool[outcome.way, seed][ghosts.classes], outcome.thresholds[outcome.way, seed])


def promotion_quality(ghosts: Ghosts, mined: Sequence[Mined], out: str | Path) -> pd.DataFrame:
    """What the promotions got right by the truth: one row a seed.

    promoted (segments), wrong (of them hold a class that is said to be absent), unsure (hold a part of one), precision.
    """
    rows = []
    for one in mined:
        store = store_of(out, one.seed)
        if not store.exists():
            continue
        said = mining.promoted(store, ghosts.door)[1]
        said = said[said["value"] == 0]
        truth = ghosts.truth["pool"].frame().stack()
        there = truth.reindex(pd.MultiIndex.from_frame(said[["segment", "class_name"]])).to_numpy()
        told = pd.DataFrame({"present": there == 1, "absent": there == 0}, dtype=bool).groupby(
            said["segment"].to_numpy()
        )
        wrong, right = int(told["present"].any().sum()), int(told["absent"].all().sum())
        promoted = said["segment"].nunique()
        row = {"seed": one.seed, "promoted": promoted, "wrong": wrong, "unsure": promoted - wrong - right}
        rows.append({**row, "precision": right / max(1, right + wrong)})
    return pd.DataFrame(rows, columns=["seed", "promoted", "wrong", "unsure", "precision"])
