"""Are clusters repeatable, or made by chance? Agreement of clusters found in halves of the groups, with a null.

The question of claim B2.2 is whether other recordings would have shown the same clusters. So groups (not segments) are
split into halves, clusters are found in each half by itself, all rows join the clusters of either half, and the two
answers are compared on pairs of rows of *different* groups; neighbours within one recording prove nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from tqdm.auto import tqdm

from audiotk.embed.clusters import MOST, Clusters, Column, check_rows, cluster, find_clusters
from audiotk.errors import AudiotkError
from audiotk.resample import Statistic

SPLITS = 10
NULLS = 5  # times that a null is drawn; its numbers are averaged
ASKED = 5000  # rows whose nearest neighbour is looked for, at most
BLOCK = 1024


@dataclass(frozen=True)
class Stability:
    """How repeatable and how tight the clusters of some rows are, ready for intervals over groups.

    Attributes
    ----------
    repeatable
        Adjusted Rand index between the clusters of two halves of the groups, see :func:`agreement`; mean over splits.
        1: the halves say the same; 0: what chance gives, or no clusters.
    tight
        1 - (mean distance to the nearest row of another group) / (the same among shuffled rows). 0: as the null.
    labels
        Clusters of all rows together, as :func:`audiotk.embed.cluster` [shape=(n,)].
    table
        One row a cluster of `labels`: cluster, members, groups, jaccard (of it with the most similar cluster of a
        half, mean over halves and splits; Hennig 2007 calls one above 0.75 stable and one below 0.5 dissolved).
    """

    repeatable: Statistic
    tight: Statistic
    labels: np.ndarray
    table: pd.DataFrame


def stability(
    embeddings: np.ndarray,
    groups: Column,
    rng: np.random.Generator,
    *,
    units: Column | None = None,
    splits: int = SPLITS,
    min_size: int | None = None,
    progress: bool = False,
) -> Stability:
    """How repeatable and how tight clusters are, over random halves of the groups; of 20,000 rows where there are more.

    Parameters
    ----------
    embeddings
        One row a segment, finite [shape=(n, dim)].
    groups
        The group of each (person, device, upload; as of the recordings table) [shape=(n,)].
    rng
        Draws the halves and the shuffled rows.
    units
        What intervals resample; None: the groups that occur. To compare several sets of rows give the same for all.
    splits
        How often the groups are halved.
    min_size
        As of :func:`audiotk.embed.cluster`, for all rows; halves use half of it.

    Returns
    -------
    Stability

    Raises
    ------
    AudiotkError
        Rows that are not finite, fewer than 4 groups, or a group that is not among `units`.

    Warns
    -----
    UserWarning
        As :func:`audiotk.embed.cluster`, of all rows together.
    """
    embeddings, codes, named = _checked(embeddings, groups, units)
    labels = cluster(embeddings, rng, min_size=min_size, progress=progress)
    table = pd.DataFrame({"cluster": np.arange(labels.max(initial=-1) + 1)})
    table["members"] = np.bincount(labels[labels >= 0], minlength=len(table))
    table["groups"] = [len(np.unique(codes[labels == name])) for name in table["cluster"]]
    if len(codes) > MOST:
        some = np.sort(rng.choice(len(codes), MOST, replace=False))
        min_size = None if min_size is None else max(2, round(min_size * MOST / len(codes)))
        embeddings, codes, asked = embeddings[some], codes[some], labels[some]
    else:
        asked = labels
    halves = [_halves(embeddings, codes, rng, min_size) for _ in tqdm(range(splits), "halves", disable=not progress)]
    table["jaccard"] = np.mean([_jaccard(asked, other) for pair in halves for other in pair], axis=0)
    return Stability(
        _agreement(np.array([a for a, _ in halves]), np.array([b for _, b in halves]), codes, named),
        _tightness(embeddings, shuffled(embeddings, rng), codes, named, rng),
        labels,
        table,
    )


def compare(
    false: np.ndarray,
    false_groups: Column,
    true: np.ndarray,
    true_groups: Column,
    rng: np.random.Generator,
    *,
    splits: int = SPLITS,
    min_size: int | None = None,
    units: Column | None = None,
    progress: bool = False,
) -> dict[str, Stability]:
    """Stability of false positives, of true positives and of two nulls, for `stats.paired_bootstrap`.

    As clusters depend on the number of rows, as many true positives as there are false ones are drawn (or the other
    way round). All four resample the same units: the groups of both.

    Parameters
    ----------
    false, true
        Embeddings [shapes=(n, dim), (m, dim)], finite.
    false_groups, true_groups
        The group of each row.
    rng, splits, min_size, units
        As of :func:`stability`.

    Returns
    -------
    dict
        "false positives", "true positives"; "shuffled" and "unclustered", nulls of the false ones (the functions of
        these names, numbers averaged over five draws, labels and table of the first).
    """
    false, true = check_rows(false), check_rows(true)
    codes, others = np.asarray(false_groups, object), np.asarray(true_groups, object)
    n = min(len(false), len(true))
    mine, theirs = (np.sort(rng.choice(len(rows), n, replace=False)) for rows in (false, true))
    units = pd.Index([*codes, *others]).unique() if units is None else units
    options: dict[str, Any] = {"units": units, "splits": splits, "min_size": min_size, "progress": progress}

    def null(make: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Stability:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a null has no cluster is no news
            drawn = [stability(make(false[mine], rng), codes[mine], rng, **options) for _ in range(NULLS)]
        return replace(
            drawn[0], repeatable=_mean([one.repeatable for one in drawn]), tight=_mean([one.tight for one in drawn])
        )

    return {
        "false positives": stability(false[mine], codes[mine], rng, **options),
        "true positives": stability(true[theirs], others[theirs], rng, **options),
        "shuffled": null(shuffled),
        "unclustered": null(unclustered),
    }


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    return Statistic(statistics[0].recordings, lambda counts: np.mean([one.of(counts) for one in statistics], axis=0))


def shuffled(embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A null: each column permuted by itself, so that each number is as common as before and nothing goes together.

    It is an easy one: embeddings are always correlated, and the denser middle of one heap is found again and again.
    """
    return rng.permuted(check_rows(embeddings), axis=0)


def unclustered(embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The harder null: each column permuted so that the columns also keep their correlations, as in one heap.

    A Gaussian copula: rows are drawn from a normal distribution with the correlations of the columns' normal scores,
    and each column's numbers are put in the order of the drawn ones. Finite rows [shape=(n, dim)] -> same shape.
    """
    embeddings = check_rows(embeddings)
    n, dim = embeddings.shape
    ties = rng.random(embeddings.shape)  # equal numbers (a ReLU's zeros) rank at random
    ranks = np.lexsort((ties, embeddings), axis=0).argsort(axis=0)
    scores = stats.norm.ppf((ranks + 0.5) / max(n, 1))  # (n, dim)
    values, vectors = np.linalg.eigh(scores.T @ scores / max(n, 1))
    drawn = rng.normal(size=(n, dim)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return np.take_along_axis(np.sort(embeddings, axis=0), drawn.argsort(axis=0).argsort(axis=0), axis=0)


def agreement(
    first: Sequence[np.ndarray] | np.ndarray,
    second: Sequence[np.ndarray] | np.ndarray,
    groups: Column,
    units: Column | None = None,
) -> Statistic:
    """Adjusted Rand index of two labelings over pairs of rows of different groups, as a statistic of the groups.

    A pair is *together* where both rows have the same cluster; an unassigned row is together with none. With B pairs
    together in both labelings, T and U in each, of N: (B - T U / N) / ((T + U) / 2 - T U / N), which is Cohen's kappa
    of the pairs. 1: the same; 0: as by chance, and where there is nothing to agree on (no cluster in either, or one
    of everything in both). NaN where all drawn rows are of one group.

    Parameters
    ----------
    first, second
        Labels, -1 unassigned [shape=(n,)], or several of them [shape=(r, n)]: pairs whose index is averaged.
    groups
        The group of each row [shape=(n,)]; a copy of a group in a resample counts as the same group.
    units
        As of :func:`stability`.

    Raises
    ------
    AudiotkError
        Other numbers of labels than of groups, or a group that is not among `units`.
    """
    ones, twos = np.atleast_2d(first), np.atleast_2d(second)
    codes, named = _codes(groups, units)
    if ones.shape != twos.shape or ones.shape[1] != len(codes):
        raise AudiotkError(f"agreement: expected a label a row in both, got {ones.shape}, {twos.shape}, {len(codes)}")
    return _agreement(ones, twos, codes, named)


def _agreement(first: np.ndarray, second: np.ndarray, codes: np.ndarray, units: pd.Index) -> Statistic:
    """:func:`agreement` of labels [shape=(r, n)] of rows whose groups have numbers among the units."""
    parts = [
        tuple(_Together(labels, codes, len(units)) for labels in (a, b, _both(a, b)))
        for a, b in zip(first, second, strict=True)
    ]
    every = _Together(np.zeros(len(codes), np.int64), codes, len(units))

    def of(counts: np.ndarray) -> np.ndarray:
        pairs = every.pairs(counts)
        values = np.zeros((len(parts), len(counts)))
        for number, part in enumerate(parts):
            t, u, both = (one.pairs(counts) for one in part)
            with np.errstate(invalid="ignore", divide="ignore"):
                chance = t * u / pairs
                room = (t + u) / 2 - chance
                values[number] = np.where(room > 1e-9 * pairs, (both - chance) / room, 0.0)
        return np.where(pairs > 0, values.mean(axis=0), np.nan)

    return Statistic(units, of)


class _Together:
    """Counts ordered pairs of rows of different groups that share a cluster, given how often each group is drawn."""

    def __init__(self, labels: np.ndarray, codes: np.ndarray, n_groups: int) -> None:
        rows = labels >= 0
        shape = (n_groups, int(labels.max(initial=-1)) + 1)
        self.members = sparse.csr_array((np.ones(rows.sum()), (codes[rows], labels[rows])), shape=shape)  # (G, K)
        self.within = np.asarray(self.members.power(2).sum(axis=1)).ravel()  # (G,) pairs within a group

    def pairs(self, counts: np.ndarray) -> np.ndarray:
        """(B, G) -> (B,)."""
        return np.square(counts @ self.members).sum(axis=1) - np.square(counts) @ self.within


def _both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A label for each pair of labels that occurs; -1 where either is."""
    return np.where((a >= 0) & (b >= 0), a * (b.max(initial=0) + 1) + b, -1)


def _halves(
    embeddings: np.ndarray, codes: np.ndarray, rng: np.random.Generator, min_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all rows by the clusters of either half of the groups, each of about half of the rows."""
    order = rng.permutation(np.unique(codes))
    rows_of = np.bincount(codes)[order]
    cut = int(np.clip(np.searchsorted(rows_of.cumsum(), rows_of.sum() / 2) + 1, 2, len(order) - 2))
    size = None if min_size is None else max(2, round(min_size / 2))
    found: list[Clusters] = []
    for half in (order[:cut], order[cut:]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no cluster in a half is a finding: it agrees with nothing
            found.append(find_clusters(embeddings[np.isin(codes, half)], rng, min_size=size))
    return found[0].assign(embeddings), found[1].assign(embeddings)


def _jaccard(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each cluster of `labels` with the most similar one of `other`: shared rows / rows of either."""
    shape = (int(labels.max(initial=-1)) + 1, int(other.max(initial=-1)) + 1)
    table = np.zeros((shape[0] + 1, shape[1] + 1))
    np.add.at(table, (labels, other), 1)  # -1 is the last row and column
    shared = table[:-1, :-1]
    either = table[:-1].sum(axis=1)[:, None] + table[:, :-1].sum(axis=0)[None] - shared
    return (shared / either).max(axis=1, initial=0.0)


def _tightness(
    embeddings: np.ndarray, null: np.ndarray, codes: np.ndarray, units: pd.Index, rng: np.random.Generator
) -> Statistic:
    """See `Stability.tight`; columns are scaled to equal spread, and of many rows a sample is asked."""
    spread = embeddings.std(axis=0, dtype=np.float64)
    used = spread > 1e-9 * max(spread.max(initial=0.0), 1e-300)
    asked = np.sort(rng.permutation(len(codes))[:ASKED])
    own, theirs = (
        _nearest_other((rows[:, used] / spread[used]).astype(np.float32), codes, asked) for rows in (embeddings, null)
    )
    above, below = (np.bincount(codes[asked], values, minlength=len(units)) for values in (theirs - own, theirs))

    def of(counts: np.ndarray) -> np.ndarray:
        total = counts @ below
        return np.divide(counts @ above, total, out=np.full(len(counts), np.nan), where=total > 0)

    return Statistic(units, of)


def _nearest_other(rows: np.ndarray, codes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Distance of each asked row to the nearest row of another group."""
    squares = np.square(rows).sum(axis=1)
    found = np.empty(len(asked))
    for at in range(0, len(asked), BLOCK):
        some = asked[at : at + BLOCK]
        near = squares[some, None] + squares - 2 * rows[some] @ rows.T  # (b, n)
        near[codes[some, None] == codes] = np.inf
        found[at : at + BLOCK] = np.sqrt(np.maximum(near.min(axis=1), 0))
    return found


def _codes(groups: Column, units: Column | None) -> tuple[np.ndarray, pd.Index]:
    """The number of each row's group among the units, and the units."""
    values = pd.Index(groups)
    named = pd.Index(units).unique() if units is not None else values.unique().sort_values()
    codes = named.get_indexer(values)
    if (codes < 0).any() or values.hasnans:
        raise AudiotkError(f"embed: group {values[codes < 0][:1].tolist() or None} of a row is not among the units")
    return codes, named


def _checked(embeddings: np.ndarray, groups: Column, units: Column | None) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Embeddings, codes of the groups and the units; AudiotkError where halves cannot be made of them."""
    embeddings = check_rows(embeddings)
    codes, named = _codes(groups, units)
    if len(codes) != len(embeddings) or not np.isfinite(embeddings).all():
        raise AudiotkError(
            f"stability: expected finite rows and the group of each, got {len(embeddings)} rows, "
            f"{(~np.isfinite(embeddings).all(axis=1)).sum()} of them not finite, and {len(codes)} groups"
        )
    if (n := len(np.unique(codes))) < 4:
        raise AudiotkError(f"stability: halves need 2 groups each, so at least 4, got {n}: {list(named[:3])}")
    return embeddings, codes, named
