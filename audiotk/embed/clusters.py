"""Clusters of embeddings: HDBSCAN on principal components, of many rows on a sample that the others then join."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk.errors import AudiotkError

Column = Sequence[Any] | np.ndarray | pd.Series  # one value a row

UNASSIGNED = -1
DIMS = 48  # principal components: of 40 planted clusters 16 of them tell half apart
MOST = 20_000  # rows that HDBSCAN compares pairwise; of more a sample is clustered and the rest joins it
MIN_SIZE, CORE = 5, 3  # smallest cluster; rows (itself included) within whose reach a row is said to lie densely
BLOCK = 8192  # rows at once


@dataclass(frozen=True)
class Space:
    """Principal components: ``(rows - center) @ axes``.

    Attributes
    ----------
    center, axes
        float64 [shapes=(dim,), (dim, d)].
    """

    center: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, dims: int = DIMS) -> Space:
        """The `dims` directions of most variance of finite rows [shape=(n, dim)]; fewer where there are no more."""
        if not len(rows):
            return cls(np.zeros(rows.shape[1]), np.zeros((rows.shape[1], 0)))
        blocks = [rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK)]
        center = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
        covariance = np.zeros((rows.shape[1],) * 2)
        for block in blocks:
            apart = block - center
            covariance += apart.T @ apart
        values, vectors = np.linalg.eigh(covariance / len(rows))
        kept = np.arange(len(values))[::-1][:dims]
        kept = kept[values[kept] > 1e-12 * max(values[-1], np.square(center).max(), 1e-300)]
        return cls(center, vectors[:, kept])

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Rows [shape=(n, dim)] -> points [shape=(n, d), float64]."""
        points = np.empty((len(rows), self.axes.shape[1]))
        for at in range(0, len(rows), BLOCK):
            points[at : at + BLOCK] = (rows[at : at + BLOCK] - self.center) @ self.axes
        return points


@dataclass(frozen=True)
class Clusters:
    """Clusters that were found, and how further rows join them.

    Attributes
    ----------
    space
        Where distances are taken.
    rows
        Which of the given rows were clustered (all, or a sample) [shape=(m,)].
    points, labels
        Their places and clusters, 0 the largest one, -1 unassigned [shapes=(m, d), (m,)].
    reach
        How far from a member one may be to join each cluster [shape=(n_clusters,)]: the longest distance from a
        member to its third nearest row, itself the first.
    """

    space: Space
    rows: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    reach: np.ndarray

    def assign(self, embeddings: np.ndarray, *, progress: bool = False) -> np.ndarray:
        """The cluster of each row [shape=(n, dim)]: that of the nearest clustered row if in reach, else -1.

        Rows near an unassigned one, and rows that are not finite, are unassigned. int64 [shape=(n,)].
        """
        embeddings = np.asarray(embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.space.center):
            raise AudiotkError(
                f"cluster: expected rows of {len(self.space.center)} numbers to assign, got shape {embeddings.shape}"
            )
        good = np.isfinite(embeddings).all(axis=1)
        found = np.full(len(embeddings), UNASSIGNED)
        if self.points.shape[1]:
            found[good] = self._nearest(self.space.place(embeddings[good]), progress)
        elif len(self.reach):  # equal rows only: their like joins them
            found[good] = np.where(np.isclose(embeddings[good], self.space.center).all(axis=1), 0, UNASSIGNED)
        return found

    def _nearest(self, points: np.ndarray, progress: bool) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        found = np.full(len(points), UNASSIGNED)
        if not len(points) or not len(self.reach):
            return found
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(
            self.points
        )  # trees are slow on scattered rows
        slack = 1e-6 * np.abs(self.points).max()  # where members are equal, reach is 0
        for at in tqdm(range(0, len(points), BLOCK), desc="assign", disable=not progress):
            distance, row = nearest.kneighbors(points[at : at + BLOCK])
            label = self.labels[row[:, 0]]
            found[at : at + BLOCK] = np.where(distance[:, 0] <= self.reach[label] + slack, label, UNASSIGNED)
        return found


def cluster(
    embeddings: np.ndarray, rng: np.random.Generator, *, min_size: int | None = None, progress: bool = False
) -> np.ndarray:
    """The cluster of each row: HDBSCAN (Campello 2013) on the first 48 principal components.

    Of more than 20,000 rows a random sample is clustered and each other row joins the cluster of its nearest one, see
    `Clusters.assign`: a cluster that has few members in the sample is then lost.

    Parameters
    ----------
    embeddings
        One row a segment [shape=(n, dim)].
    rng
        Draws the sample; up to 20,000 rows nothing is drawn and the result depends on the rows alone.
    min_size
        Rows a cluster has at least, among those given. None: a third of the square root of n, at least 5.

    Returns
    -------
    numpy.ndarray [shape=(n,), int64]
        0 is the largest cluster; -1 unassigned: in no dense region, or not finite.

    Raises
    ------
    AudiotkError
        Not a table of numbers, or min_size below 2.

    Warns
    -----
    UserWarning
        Rows that are not finite; fewer rows than `min_size`; equal rows only; no cluster at all.
    """
    found = find_clusters(embeddings, rng, min_size=min_size)
    embeddings = np.asarray(embeddings)
    if len(found.rows) == len(embeddings):
        return found.labels.copy()
    labels = found.assign(embeddings, progress=progress)
    labels[found.rows] = found.labels
    return _by_size(labels)


def find_clusters(embeddings: np.ndarray, rng: np.random.Generator, *, min_size: int | None = None) -> Clusters:
    """Clusters as :func:`cluster` finds them, with what is needed to let further rows join; same parameters."""
    embeddings = check_rows(embeddings)
    good = finite_rows(embeddings)
    rows = good if len(good) <= MOST else np.sort(rng.choice(good, MOST, replace=False))
    size = max(MIN_SIZE, round(np.sqrt(len(good)) / 3)) if min_size is None else int(min_size)
    if size < 2:
        raise AudiotkError(f"cluster: expected min_size of at least 2, got {min_size}")
    if len(rows) < len(good):
        size = max(2, round(size * len(rows) / len(good)))
    space = Space.fit(embeddings[rows])
    points = space.place(embeddings[rows])
    labels = _by_size(_hdbscan(points, size))
    _tell_of(labels, points, size)
    return Clusters(space, rows, points, labels, _reach(points, labels))


def check_rows(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings as an array; AudiotkError unless they are numbers of shape (n, dim)."""
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or not embeddings.shape[1] or embeddings.dtype.kind not in "fiu":
        raise AudiotkError(
            f"embed: expected embeddings as numbers of shape (n, dim), got {embeddings.dtype} of shape "
            f"{embeddings.shape}"
        )
    return embeddings


def finite_rows(embeddings: np.ndarray) -> np.ndarray:
    """Numbers of the rows without NaN or infinity; warns of the others."""
    good = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    if lost := len(embeddings) - len(good):
        first = np.setdiff1d(np.arange(len(embeddings)), good)[0]
        _warn(
            f"{lost} of {len(embeddings)} rows hold NaN or infinity and stay without cluster or place; first: {first}"
        )
    return good


def _hdbscan(points: np.ndarray, size: int) -> np.ndarray:
    """Labels of HDBSCAN; all in one cluster where all points are equal, in none where they are fewer than `size`."""
    if len(points) < size:
        return np.full(len(points), UNASSIGNED)
    if not points.shape[1]:
        return np.zeros(len(points), np.int64)
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=size, min_samples=min(size, CORE, len(points)), algorithm="kd_tree", copy=True)
    return model.fit_predict(points)


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Clusters numbered anew: the largest is 0, the earlier one first of equal ones."""
    names, first, counts = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    number = np.full(int(names.max(initial=-1)) + 2, UNASSIGNED)  # the last one is that of -1
    number[names[np.lexsort((first, -counts))]] = np.arange(len(names))
    return number[labels]


def _reach(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The longest distance from a member of each cluster to its `CORE`-th nearest point, itself the first."""
    clusters = int(labels.max(initial=-1)) + 1
    reach = np.zeros(clusters)
    if clusters and points.shape[1]:
        from sklearn.neighbors import NearestNeighbors

        near = NearestNeighbors(n_neighbors=min(CORE, len(points)), algorithm="brute").fit(points)
        members = labels >= 0
        np.maximum.at(reach, labels[members], near.kneighbors(points[members])[0][:, -1])
    return reach


def _tell_of(labels: np.ndarray, points: np.ndarray, size: int) -> None:
    """Warn where the answer is no finding: no rows, too few, equal ones, or no cluster among them."""
    n = len(labels)
    if n < size:
        _warn(f"{n} rows are fewer than the {size} of a smallest cluster: all are unassigned; give more, or a min_size")
    elif not points.shape[1]:
        _warn(f"all {n} rows are equal: one cluster of everything, which tells nothing apart")
    elif not (labels >= 0).any():
        _warn(f"no cluster of {size} or more among {n} rows: all are unassigned; they are scattered, or one heap")


def _warn(text: str) -> None:
    warnings.warn(f"cluster: {text}", stacklevel=4)
