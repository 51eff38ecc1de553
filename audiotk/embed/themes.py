"""What to listen to of each cluster, and what it may be: members worth hearing, and a theme with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audiotk.embed.clusters import Column, Space, check_rows
from audiotk.errors import AudiotkError
from audiotk.mining import THEMES

ROLES = ("medoid", "border", "near_positive", "random")
COMPARED = 2000  # members that a member is compared with, at most
SOUND = ("level_dbfs", "flatness", "tonality", "spread_db")
QUIET_DBFS, LOUD_DBFS, MOVING_DB, TONAL, TONELESS, FLAT = -55.0, -35.0, 20.0, 0.3, 0.05, 0.12  # by embedded data
LEAD = 0.2  # by which a teacher's best theme is clear


def members(
    false_positives: pd.DataFrame,
    embeddings: np.ndarray,
    labels: Column,
    rng: np.random.Generator,
    *,
    positives: np.ndarray | None = None,
    k: int = 4,
) -> pd.DataFrame:
    """The members of each cluster that are worth hearing, of different groups as far as there are.

    Only the random ones say how pure a cluster is (`mining.purity_bound`): all others are chosen for what they are.

    Parameters
    ----------
    false_positives
        One row a member; with columns segment, class_name and group [n rows].
    embeddings
        Of the same rows [shape=(n, dim)].
    labels
        Clusters, -1 unassigned [shape=(n,)].
    rng
        Draws the random ones.
    positives
        Embeddings of true positives [shape=(m, dim)]; without them nothing has the role near_positive.
    k
        How many of each role.

    Returns
    -------
    pandas.DataFrame
        cluster, role, rank (from 1), row (its number in `false_positives`), segment, class_name, distance. By role:

        =============  ===============================================================================================
        medoid         the smallest mean distance to the members: what the cluster is
        border         the largest one: what else is in it
        near_positive  the smallest distance to a true positive: what may be a true event
        random         drawn at random (distance: the mean one to the members)
        =============  ===============================================================================================

    Raises
    ------
    AudiotkError
        Not as many rows, embeddings and labels; a member that is not finite; positives of another width; k below 1.
    """
    embeddings, values = check_rows(embeddings), np.asarray(labels)
    if not len(false_positives) == len(embeddings) == len(values) or k < 1:
        raise AudiotkError(
            f"members: expected as many rows, embeddings and labels and k >= 1, got {len(false_positives)}, "
            f"{len(embeddings)}, {len(values)} and k={k}"
        )
    inside = np.flatnonzero(values >= 0)
    if not np.isfinite(embeddings[inside]).all():
        raise AudiotkError("members: a row that has a cluster is not finite; take the labels that cluster() gave")
    space = Space.fit(embeddings[inside])
    points, near = space.place(embeddings[inside]), None
    if positives is not None and len(positives := check_rows(positives)):
        if positives.shape[1] != embeddings.shape[1]:
            raise AudiotkError(f"members: positives have {positives.shape[1]} numbers, not {embeddings.shape[1]}")
        near = _distances(points, space.place(positives[np.isfinite(positives).all(axis=1)]))[0]
    groups = false_positives["group"].to_numpy()
    chosen = []
    for name in np.unique(values[inside]):
        mine = np.flatnonzero(values[inside] == name)
        mean = _distances(points[mine], points[rng.permutation(mine)[:COMPARED]])[1]
        keys = {"medoid": (mean, mean), "border": (-mean, mean), "random": (rng.random(len(mine)), mean)}
        if near is not None:
            keys["near_positive"] = (near[mine], near[mine])
        for role in [role for role in ROLES if role in keys]:
            key, distance = keys[role]
            order = np.argsort(key, kind="stable")
            best = order[:k] if role == "random" else _of_different_groups(order, groups[inside[mine]], k)
            chosen += [(name, role, rank, inside[mine[at]], distance[at]) for rank, at in enumerate(best, start=1)]
    table = pd.DataFrame(chosen, columns=["cluster", "role", "rank", "row", "distance"])
    told = false_positives.iloc[table["row"].to_numpy(np.int64)][["segment", "class_name"]].reset_index(drop=True)
    return pd.concat([table[["cluster", "role", "rank", "row"]], told, table["distance"]], axis=1)


def suggest_themes(
    false_positives: pd.DataFrame, labels: Column, *, prompt_scores: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A theme for each cluster with the reason in words: a first guess, to be confirmed by ear.

    The first that holds of the medians over the members (columns that are missing are passed over):

    ====================================================================  ============================================
    level_dbfs below -55                                                  neg_silence: next to nothing to hear
    spread_db above 20; where it is missing: level_dbfs above -35         neg_hard: comes and goes (loud), as events do
    tonality above 0.3                                                    neg_ambient: tones, as of hum, music, voices
    flatness above 0.12 and tonality below 0.05                           neg_silence: broadband noise of no source
    else                                                                  neg_ambient: coloured noise, as of a fan
    ====================================================================  ============================================

    A teacher that is asked about the themes decides if its best one leads by 0.2 or more, on average over the members.

    Parameters
    ----------
    false_positives
        With columns level_dbfs and flatness, and any of tonality and spread_db, as `energy.describe` gives them and
        `mining.false_positives` has them [n rows].
    labels
        Clusters, -1 unassigned [shape=(n,)].
    prompt_scores
        What a teacher says of the same rows, in this order: a column a theme, 0 to 1 [n rows].

    Returns
    -------
    pandas.DataFrame
        One row a cluster: cluster, theme ("" where nothing is known), reason, members, level_dbfs, flatness, tonality,
        spread_db (medians, NaN unknown).

    Raises
    ------
    AudiotkError
        A column is missing, other numbers of rows, or a column of `prompt_scores` that is no theme.
    """
    values = np.asarray(labels)
    if missing := [name for name in ("level_dbfs", "flatness") if name not in false_positives]:
        raise AudiotkError(f"themes: the false positives have no column {missing[0]!r}; see mining.false_positives")
    if len(values) != len(false_positives) or (prompt_scores is not None and len(prompt_scores) != len(values)):
        raise AudiotkError(f"themes: expected a label and prompt scores for each of {len(false_positives)} rows")
    if prompt_scores is not None and (odd := [name for name in prompt_scores if name not in THEMES]):
        raise AudiotkError(f"themes: prompts are read as themes, one of {', '.join(THEMES)}; got {odd[0]!r}")
    sounds = false_positives.reindex(columns=list(SOUND)).astype(float).reset_index(drop=True)
    rows = []
    for name in np.unique(values[values >= 0]):
        mine = np.flatnonzero(values == name)
        medians = sounds.iloc[mine].median()
        theme, reason = _theme(medians)
        if prompt_scores is not None:
            theme, reason = _asked(prompt_scores.iloc[mine].mean(), theme, reason)
        rows.append({"cluster": int(name), "theme": theme, "reason": reason, "members": len(mine), **medians})
    return pd.DataFrame(rows, columns=["cluster", "theme", "reason", "members", *SOUND])


def _theme(medians: pd.Series) -> tuple[str, str]:
    """Theme and reason by the medians of a cluster; comparisons with NaN are false."""
    level, flatness, tones, spread = (float(medians[name]) for name in SOUND)
    if np.isnan(level):
        return "", "no member could be read"
    if level < QUIET_DBFS:
        return "neg_silence", f"next to nothing to hear: {level:.0f} dBFS, below {QUIET_DBFS:.0f}"
    if spread > MOVING_DB:
        return "neg_hard", f"comes and goes as events do: the loudest part is {spread:.0f} dB above the quiet ones"
    if np.isnan(spread) and level > LOUD_DBFS:
        return "neg_hard", f"as loud as events: {level:.0f} dBFS, above {LOUD_DBFS:.0f}"
    if tones > TONAL:
        return "neg_ambient", f"tones stand out ({tones:.2f} of the power), as of hum, music or voices"
    if flatness > FLAT and not tones >= TONELESS:
        return "neg_silence", f"broadband noise that no source stands out of: flatness {flatness:.2f}, {level:.0f} dBFS"
    return "neg_ambient", f"coloured noise, as of a fan or traffic: flatness {flatness:.2f}, {level:.0f} dBFS"


def _asked(scores: pd.Series, theme: str, reason: str) -> tuple[str, str]:
    """The teacher's theme if it has a clear one, else the one given, and both reasons."""
    best = scores.dropna().sort_values(ascending=False, kind="stable")
    if not len(best):
        return theme, reason
    lead = best.iloc[0] - (best.iloc[1] if len(best) > 1 else 0.0)
    told = f"the teacher says {best.index[0]} ({best.iloc[0]:.2f}, a lead of {lead:.2f})"
    return (
        (str(best.index[0]), f"{told}; {reason}") if lead >= LEAD else (theme, f"{reason}; {told}, which is not clear")
    )


def _of_different_groups(order: np.ndarray, groups: np.ndarray, k: int) -> np.ndarray:
    """The first `k` of `order`, each of another group as long as there are groups."""
    first = ~pd.Series(groups[order]).duplicated().to_numpy()
    return np.concatenate([order[first], order[~first]])[:k]


def _distances(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the mean distance of each point to the others; NaN without any."""
    if not len(others):
        return np.full((2, len(points)), np.nan)[0], np.full(len(points), np.nan)
    found = np.empty((2, len(points)))
    for at in range(0, len(points), 512):
        part = np.sqrt(np.square(points[at : at + 512, None] - others).sum(axis=2))  # (b, m)
        found[:, at : at + 512] = part.min(axis=1), part.mean(axis=1)
    return found[0], found[1]
