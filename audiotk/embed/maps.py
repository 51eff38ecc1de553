"""A picture of embeddings: UMAP in two dimensions, the same for the same seed."""

from __future__ import annotations

import warnings

import numpy as np

from audiotk.embed.clusters import Space, check_rows, finite_rows
from audiotk.errors import AudiotkError

DIMS = 50  # principal components that neighbours are looked for in
FEWEST = 10  # different rows; fewer are shown by their first two principal components


def map_2d(
    embeddings: np.ndarray,
    rng: np.random.Generator,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
    progress: bool = False,
) -> np.ndarray:
    """Places of rows in a picture by UMAP (McInnes 2018), begun from the first two principal components.

    Near rows lie near each other. Distances between groups, their sizes and how tight they look mean little: find
    clusters by :func:`audiotk.embed.cluster`. Equal rows share a place.

    The picture is the same for the same state of `rng` on one machine; for that UMAP runs on one thread.

    Parameters
    ----------
    embeddings
        One row a segment [shape=(n, dim)].
    rng
        Gives UMAP its seed.
    neighbors
        More of them: more of the whole, less of the detail.
    min_dist
        How close points may lie, in units of the picture.

    Returns
    -------
    numpy.ndarray [shape=(n, 2), float32]
        NaN for rows that are not finite. Fewer than 10 different rows lie as in their first two principal components.

    Raises
    ------
    AudiotkError
        Not a table of numbers, neighbors below 2, or min_dist outside 0 to 1.

    Warns
    -----
    UserWarning
        Rows that are not finite.
    """
    embeddings = check_rows(embeddings)
    if neighbors < 2 or not 0 <= min_dist <= 1:
        raise AudiotkError(
            f"map: expected neighbors of at least 2 and min_dist in 0 to 1, got {neighbors} and {min_dist}"
        )
    seed = int(rng.integers(2**31))
    good = finite_rows(embeddings)
    places = np.full((len(embeddings), 2), np.nan, np.float32)
    points = Space.fit(embeddings[good], DIMS).place(embeddings[good]).astype(np.float32)
    points, which = np.unique(points, axis=0, return_inverse=True)
    flat = np.pad(points[:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))  # (n, 2), padded where all lie on a line
    drawn = (
        flat if len(points) < FEWEST else _umap(points, flat, seed, min(neighbors, len(points) - 1), min_dist, progress)
    )
    places[good] = drawn[which.ravel()]
    return places


def _umap(
    points: np.ndarray, start: np.ndarray, seed: int, neighbors: int, min_dist: float, progress: bool
) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional packages that are not there, and of numba about itself
        from umap import UMAP

        model = UMAP(
            n_neighbors=neighbors, min_dist=min_dist, init=start, random_state=seed, n_jobs=1,
            tqdm_kwds={"disable": not progress, "desc": "map"},
        )  # fmt: skip
        return np.asarray(model.fit_transform(points), np.float32)
