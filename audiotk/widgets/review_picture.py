"""The still picture of a review, for notebooks that nobody watches: the estimate so far, and the first cells."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiotk.figures import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE

ROWS = 12
COLUMNS = {"class": 0.0, "change": 0.27, "score": 0.49, "segment": 0.53, "verdict": 0.99}


@mpl.rc_context(STYLE)
def review_picture(rule: str, labeler: str, table: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """One line a change with its interval, and one a cell.

    Parameters
    ----------
    rule, labeler
        What is reviewed, and who listens.
    table
        As :meth:`audiotk.widgets.review.RuleReview.precision` returns it, one row a change.
    cells
        As :attr:`audiotk.widgets.review.RuleReview.cells`.
    """
    heights = [0.42 * max(len(table), 1) + 0.5, 0.21 * (min(len(cells), ROWS) + 2)]
    figure = Figure(figsize=(9, sum(heights) + 0.4), layout="constrained")
    top, below = figure.subplots(2, height_ratios=heights)
    done = int((cells["verdict"] != "").sum())
    top.set_title(f"Review of relabel:{rule}", parse_math=False)
    top.set_title(
        f"{labeler}: {done} of {len(cells)} cells judged", loc="right", fontsize=8, weight="normal", parse_math=False
    )
    _estimates(top, table)
    _rows(below, cells)
    return figure


def _estimates(axes: Axes, table: pd.DataFrame) -> None:
    place = range(len(table))[::-1]
    names = [f"{change}\n{row['meaning']}" for change, row in zip(table.index, table.to_dict("records"), strict=True)]
    axes.set_yticks(list(place), names, fontsize=8)
    axes.set_ylim(-0.6, max(len(table), 1) - 0.4)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    for y, row in zip(place, table.to_dict("records"), strict=True):
        if row["n"]:
            axes.plot([row["low"], row["high"]], [y, y], color=BLUE, linewidth=4, alpha=0.35, solid_capstyle="round")
            axes.plot(row["value"], y, "o", color=BLUE, markersize=6, clip_on=False)
        axes.text(1.02, y, in_words(row), va="center", fontsize=8, color=INK)


def in_words(row: dict[Any, Any]) -> str:
    """One row of the table of precision in words."""
    of = f"{row['open']} open, {row['cells']:,} cells changed"
    if not row["n"]:
        return f"nothing judged\n{of}"
    value = f"{100 * row['value']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    unsure = f", {row['unsure']} unsure" if row["unsure"] else ""
    return f"{value} of {row['n']}{unsure}{', provisional' if row['provisional'] else ''}\n{of}"


def _rows(axes: Axes, cells: pd.DataFrame) -> None:
    shown = cells.head(ROWS)
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shown) + 1.4, -0.6)
    style: dict[str, Any] = {"fontsize": 8, "va": "center", "parse_math": False}
    for name, x in COLUMNS.items():
        axes.text(x, 0, name, color=FAINT, ha=_side(name), **style)
    for y, row in enumerate(shown.to_dict("records"), start=1):
        score = "–" if math.isnan(row["score"]) else f"{row['score']:.2f}"
        told = {"class": row["class_name"], "change": row["change"], "score": score, "segment": row["segment"]}
        told["verdict"] = row["verdict"] or "open"
        for name, text in told.items():
            longest = {"class": 25, "segment": 44}.get(name, 40)
            text = text if len(text) <= longest else text[: longest - 1] + "…"
            colour = _colour(row) if name == "verdict" else INK
            axes.text(COLUMNS[name], y, text, color=colour, ha=_side(name), **style)
    if rest := len(cells) - len(shown):
        axes.text(0, len(shown) + 1, f"and {rest} more", color=FAINT, **style)
    if cells.empty:
        axes.text(0, 1, "The rule changed no cell.", color=FAINT, **style)


def _colour(row: dict[Any, Any]) -> str:
    """Green where the change is right, red where a correction is wrong; a needless mask is no error."""
    if row["verdict"] in ("", "unsure"):
        return ORANGE if row["verdict"] else FAINT
    return GREEN if row["right"] == 1 else INK if math.isnan(row["after"]) else RED


def _side(name: str) -> str:
    return "right" if name in ("score", "verdict") else "left"
