"""The still picture of an explorer: the map with numbers of clusters and what is promoted, and the largest clusters."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiotk.figures import FAINT, INK, STYLE
from audiotk.widgets.explorer_colours import TRUE, look
from audiotk.widgets.explorer_points import UNASSIGNED

SHOWN = 14  # clusters in the table
NAMED = 40  # clusters with their number on the map
CLOSE = 0.05, 0.04  # of the map's extent: numbers nearer than this in x and y would overlap
MOST = 60_000  # points that are drawn


@mpl.rc_context(STYLE)
def explorer_picture(
    points: pd.DataFrame,
    clusters: pd.DataFrame,
    theme: np.ndarray,
    still: np.ndarray | None,
    said: str,
    notes: list[str],
) -> Figure:
    """The map on the left, the table of clusters on the right.

    Parameters
    ----------
    points, clusters
        As :class:`audiotk.widgets.ClusterExplorer` has them.
    theme
        Number of the theme each point is promoted to, 0: none; those that are promoted are hollow.
    still
        Which fire after retraining; None: not known, and the map is coloured by cluster.
    said
        How much is done, in words.
    notes
        What is odd.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    map_of(left, points, theme, still)
    left.set_title("False positives by " + ("what fires after retraining" if still is not None else "cluster"))
    right.set_title(said, loc="left", fontsize=9, weight="normal", parse_math=False)
    _table(right, clusters, still is not None)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=8, color=INK, parse_math=False)
    return figure


def map_of(axes: Axes, points: pd.DataFrame, theme: np.ndarray, still: np.ndarray | None) -> None:
    """Draw the points: hollow where promoted, squares where true, a number in each cluster where there is room."""
    colours, code, _ = look(points, "cluster" if still is None else "after", theme, still)
    place = points[["x", "y"]].to_numpy(dtype=float)
    known = np.flatnonzero(np.isfinite(place).all(axis=1))
    drawn = known[:: max(1, -(-len(known) // MOST))]
    true = points["is_true"].to_numpy()[drawn]
    paint = np.array(colours, dtype=object)[code[drawn]]
    size = float(np.clip(2200 / max(len(drawn), 1) ** 0.75, 1.2, 26))
    hollow = (theme[drawn] > 0) & ~true
    for mask, style in (
        (~hollow & ~true, {"s": size, "linewidths": 0, "alpha": 0.75}),
        (hollow, {"s": size * 1.6, "facecolors": "none", "linewidths": 0.7}),
        (true, {"s": size * 1.4, "marker": "s", "linewidths": 0, "color": TRUE}),
    ):
        own: dict[str, Any] = dict(style)
        if "color" not in own:
            own["edgecolors" if "facecolors" in own else "color"] = list(paint[mask])
        if mask.any():
            axes.scatter(*place[drawn][mask].T, rasterized=True, **own)
    axes.set_aspect("equal", "datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if not len(known):
        axes.text(0.5, 0.5, "no point has a place", ha="center", color=FAINT, transform=axes.transAxes)
    _names(axes, points.iloc[known])
    if (theme > 0).any():
        axes.text(0, 0, "hollow: promoted", fontsize=8, color=INK, transform=axes.transAxes)


def _names(axes: Axes, points: pd.DataFrame) -> None:
    found = points[points["cluster"] != UNASSIGNED].groupby("cluster")[["x", "y"]]
    middle = found.median().assign(size=found.size()).sort_values("size", ascending=False)
    span = float((points[["x", "y"]].max() - points[["x", "y"]].min()).max())
    taken: list[tuple[float, float]] = []
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": FAINT, "linewidth": 0.6, "alpha": 0.85}
    for name, row in middle.head(NAMED).iterrows():
        if any(abs(row["x"] - x) < CLOSE[0] * span and abs(row["y"] - y) < CLOSE[1] * span for x, y in taken):
            continue  # over the number of a larger one
        taken.append((row["x"], row["y"]))
        axes.text(row["x"], row["y"], str(name), fontsize=7.5, ha="center", va="center", bbox=box, color=INK)


def _table(axes: Axes, clusters: pd.DataFrame, has_still: bool) -> None:
    """The first clusters as text in columns."""
    axes.axis("off")
    heads = ["cluster", "mostly", "size", "theme", "heard", "purity", "promoted", *(["still"] if has_still else [])]
    at = [0.0, 0.15, 0.46, 0.49, 0.71, 0.83, 0.97, 1.08]
    right = {2, 4, 5, 6, 7}
    rows = [heads]
    for row in clusters.head(SHOWN).to_dict("records"):
        name = "unassigned" if row["cluster"] == UNASSIGNED else str(row["cluster"])
        heard = f"{row['right']}/{row['heard']}" if row["heard"] else ""
        low = "" if np.isnan(row["purity_low"]) else f"≥ {int(100 * row['purity_low'] + 1e-9)} %"
        short = row["class_name"] if len(row["class_name"]) <= 20 else row["class_name"][:19] + "…"
        cells = [
            name,
            short,
            f"{row['size']:,}",
            row["theme"],
            heard,
            low,
            f"{row['promoted']:,}" if row["promoted"] else "",
        ]
        rows.append(cells + ([f"{row['still']:,.0f}"] if has_still else []))
    style: dict[str, Any] = {"fontsize": 8, "va": "top", "transform": axes.transAxes, "parse_math": False}
    for line, cells in enumerate(rows):
        for column, text in enumerate(cells):
            side = "right" if column in right else "left"
            axes.text(at[column], 0.98 - 0.062 * line, text, ha=side, color=FAINT if line == 0 else INK, **style)
    if len(clusters) > SHOWN:
        axes.text(0, 0.98 - 0.062 * len(rows), f"{len(clusters) - SHOWN} more: see clusters", color=FAINT, **style)
    if clusters.empty:
        axes.text(0, 0.9, "no cluster", color=FAINT, **style)
