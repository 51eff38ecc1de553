"""The points of an explorer: false positives, each with its place on the map, its cluster and its sound.

Nothing is refused because it is little or odd: an explorer of nothing, of one point, or of points without a place still
shows its table, and says in words (:func:`oddities`) what is odd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from audiotk.mining import check_false_positives
from audiotk.tables import AudiotkError, check_recordings

UNASSIGNED = -1
NO_PLACE = 65535  # on the map; else 0 to 65534 from left to right and from bottom to top
COLOURINGS = ("cluster", "class", "level", "device")
MOST_NAMES = 60_000  # in one colouring


def make_points(false_positives: pd.DataFrame, embeddings: Any, recordings: pd.DataFrame | None) -> pd.DataFrame:
    """The false positives with path, title, silent (why there is no sound, "" if there is) and is_true.

    Columns cluster, theme, x and y are as they were given; see :func:`with_clusters` and :func:`with_places`.

    Raises
    ------
    AudiotkError
        The table is not valid, or there is not one embedding for each of its rows.
    """
    points = check_false_positives(false_positives)
    vectors = np.asarray(embeddings)
    if vectors.ndim != 2 or len(vectors) != len(points) or vectors.dtype.kind not in "fiu":
        raise AudiotkError(
            f"explorer: expected embeddings of shape ({len(points):,}, dim), one row a false positive; "
            f"got shape {vectors.shape} of {vectors.dtype}"
        )
    names, points["title"] = points["recording"], points["recording"]
    if recordings is not None:
        about = check_recordings(recordings).set_index("recording")
        points["path"] = names.map(about["path"]).fillna(points["path"]).astype("str")
        if "title" in about:
            points["title"] = names.map(about["title"].astype("str")).fillna(names)
    points["silent"] = np.where(points["path"] == "", "there is no sound file of this recording", "")
    points["is_true"] = points["is_true"].fillna(False).astype(bool) if "is_true" in points else False
    points["theme"] = points["theme"].fillna("").astype("str") if "theme" in points else ""
    return points


def placed_rows(embeddings: np.ndarray) -> np.ndarray:
    """Which embeddings are finite, bool (n,)."""
    return np.asarray(np.isfinite(embeddings).all(axis=1))


def with_clusters(points: pd.DataFrame, embeddings: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """The points with a column cluster; -1 is unassigned, and so is what cannot be clustered or is true."""
    if "cluster" in points:
        cluster = pd.to_numeric(points["cluster"], errors="coerce").fillna(UNASSIGNED).to_numpy(dtype=np.int64)
    else:
        from audiotk import embed

        cluster = np.full(len(points), UNASSIGNED, dtype=np.int64)
        false = ~points["is_true"].to_numpy()
        if false.any():
            cluster[false] = embed.cluster(embeddings[false], rng)
    cluster = np.where(points["is_true"] | (cluster < 0), UNASSIGNED, cluster)
    return points.assign(cluster=cluster)


def with_places(points: pd.DataFrame, embeddings: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """The points with columns x and y: those given, else a map of the embeddings; NaN where there is no place."""
    if {"x", "y"} <= set(points.columns):
        return points.astype({"x": "float64", "y": "float64"})
    from audiotk import embed

    place = embed.map_2d(embeddings, rng) if len(points) else np.zeros((0, 2))
    return points.assign(x=place[:, 0].astype(float), y=place[:, 1].astype(float))


def positives_of(points: pd.DataFrame, embeddings: np.ndarray, given: Any) -> np.ndarray:
    """Embeddings of true events: those `given` and those of points that are true, (m, dim), finite."""
    found = embeddings[points["is_true"].to_numpy()]
    if given is not None:
        given = np.asarray(given)
        if given.ndim != 2 or given.shape[1] != embeddings.shape[1]:
            raise AudiotkError(f"positives: expected shape (m, {embeddings.shape[1]}), got {given.shape}")
        found = np.concatenate([found, given])
    return np.asarray(found[np.isfinite(found).all(axis=1)])


def scaled(points: pd.DataFrame) -> np.ndarray:
    """Places on a square map with equal scales, uint16 (n, 2); (65535, 65535) for points without a place."""
    place = points[["x", "y"]].to_numpy(dtype=float)  # (n, 2)
    known = np.isfinite(place).all(axis=1)
    found = np.full(place.shape, NO_PLACE, dtype=np.uint16)
    if known.any():
        low, high = place[known].min(axis=0), place[known].max(axis=0)
        span = max(float((high - low).max()), 1e-9)
        centred = (place[known] - (low + high) / 2) / span + 0.5  # the longer side is 0 to 1
        found[known] = np.rint(centred * (NO_PLACE - 1))
    return found


def oddities(points: pd.DataFrame, embeddings: np.ndarray) -> list[str]:
    """What is odd about the points, in words for people."""
    told = []
    false, fit = points[~points["is_true"]], placed_rows(embeddings)
    if false.empty:
        return ["There is no false positive: nothing fires wrongly at these thresholds."]
    if len(false) == 1:
        told.append("There is a single false positive: hear it, but one is no cluster.")
    if not fit.all():
        number = int((~fit).sum())
        told.append(f"{number:,} of {len(points):,} without a place on the map: their embeddings are not finite.")
    if fit.sum() > 1 and (embeddings[fit] == embeddings[fit][0]).all():
        told.append("All embeddings are the same, so the map says nothing; do they belong to these false positives?")
    if (silent := int((false["silent"] != "").sum())) and silent < len(false):
        told.append(f"{silent:,} have no sound file and cannot be heard.")
    elif silent:
        told.append("None of them has a sound file, so nothing can be heard.")
    return told


def colouring(points: pd.DataFrame, by: str) -> tuple[dict[str, Any], np.ndarray]:
    """How the points are coloured `by` one of :data:`COLOURINGS`: what a legend needs, and a uint16 code for each.

    Categories are coded in the order of `names`, the most frequent first; a number ("level") from 0 to 254 between
    `low` and `high`, 255 where it is unknown.
    """
    if by == "level":
        value = points["level_dbfs"].to_numpy(dtype=float)
        finite = np.isfinite(value)
        low, high = (float(v) for v in np.percentile(value[finite], [1, 99])) if finite.any() else (-90.0, 0.0)
        share = np.clip((value - low) / max(high - low, 1e-9), 0, 1)
        code = np.where(finite, np.rint(np.where(finite, share, 0) * 254), 255)
        return {"by": by, "unit": "dBFS", "low": round(low, 1), "high": round(high, 1)}, code.astype(np.uint16)
    if by == "cluster":
        known = sorted(set(points["cluster"]) - {UNASSIGNED})
        number = points["cluster"].map({name: at + 1 for at, name in enumerate(known)}).fillna(0)
        return {"by": by, "names": ["unassigned", *map(str, known)]}, number.to_numpy(dtype=np.uint16)
    kinds = points["class_name"] if by == "class" else points["device"].replace("", "unknown")
    names = [str(name) for name in kinds.value_counts(sort=True).index[:MOST_NAMES]]
    place = kinds.map({name: at for at, name in enumerate(names)}).fillna(max(len(names) - 1, 0))
    return {"by": by, "names": names}, place.to_numpy(dtype=np.uint16)
