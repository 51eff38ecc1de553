"""Figures of notebooks 03 and 04: where false positives lie, what clusters hold, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiotk.energy import NoiseFloor
from audiotk.errors import AudiotkError
from audiotk.figures import ARM_COLOURS, BLUE, FAINT, GREEN, INK, RED

EDGE = 1.5  # of an axis of relative changes; an interval without ends reaches over it
LEAST = 20  # absent segments in a bin of levels, of which a share is drawn


def table(frame: pd.DataFrame) -> Any:
    """A table whose headings and cells break into lines, so that more columns fit on a page; its text is escaped."""
    from IPython.display import HTML

    with pd.option_context("display.max_colwidth", None):
        text = frame.to_html(border=0)
    for tag in ("th", "td"):
        text = text.replace(f"<{tag}>", f'<{tag} style="text-align:left;white-space:normal">')
    return HTML(text)


def by_level(table: pd.DataFrame) -> Figure:
    """How often each class fires where it is absent, by level; bars are where the audio is.

    Parameters
    ----------
    table
        Of :func:`audiotk.mining.by_level`. Bins of fewer than `LEAST` absent segments are not drawn as a point.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    middle = (table["low_dbfs"] + table["high_dbfs"]) / 2
    absent = table.assign(middle=middle).groupby("middle")["absent"].sum()
    behind = axes.twinx()
    behind.bar(absent.index, absent, width=4.6, color=FAINT, alpha=0.35)
    behind.set_ylabel("absent cells (bars)", color=INK)
    by_class = table.assign(middle=middle).groupby("class_name", sort=False)
    for (name, part), colour in zip(by_class, _colours(), strict=False):
        shown = part[part["absent"] >= LEAST]
        axes.plot(shown["middle"], shown["share"], marker="o", markersize=3, lw=1.3, color=colour, label=str(name))
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    used = absent.index[absent > 0]
    if len(used):
        axes.set_xlim(used.min() - 5, used.max() + 5)
    axes.set(xlabel="level of the segment (dBFS)", ylabel="share that fires, class absent", ylim=(0, None))
    axes.set_title(f"levels with fewer than {LEAST} segments without a class have no point of it", fontsize=9)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure


def _colours() -> list[str]:
    return [*ARM_COLOURS, "#0f766e", "#be185d", "#64748b", "#4d7c0f", RED, INK]


def clusters(table: pd.DataFrame, most: int = 20) -> Figure:
    """The largest clusters: how many members, in how many of them nothing is heard, what they sound like.

    Parameters
    ----------
    table
        cluster, members, ``nothing heard`` (share), sounds, theme.
    most
        Clusters that are shown.
    """
    shown = table.sort_values("members", ascending=False, kind="stable").head(most)[::-1]
    figure = Figure(figsize=(8, 0.9 + 0.28 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    names = [f"{row['cluster']}: {row['sounds']}" for row in shown.to_dict("records")]
    silent = shown["members"] * shown["nothing heard"]
    axes.barh(names, silent, color=BLUE, label="nothing is heard")
    axes.barh(names, shown["members"] - silent, left=silent, color=FAINT, label="other events are heard")
    for place, row in enumerate(shown.to_dict("records")):
        axes.text(row["members"], place, f" {row['theme']}", va="center", fontsize=8, color=INK)
    axes.margins(x=0.15)
    axes.set_xlabel("false positives in the cluster (suggested theme beside it)")
    if len(shown):
        axes.legend(frameon=False, loc="lower right")
    return figure


def changes(
    tables: Mapping[str, pd.DataFrame], smallest: float | None = None, order: Sequence[str] = (), columns: int = 2
) -> Figure:
    """Relative change against a baseline with its interval, one panel a metric: left of 0 is fewer.

    Parameters
    ----------
    tables
        Metric -> table with index arm and columns value, low, high (-0.5 = half of the baseline).
    smallest
        The smallest fall that matters; drawn as a dashed line.
    order
        Arms from top to bottom; default that of the first table.
    columns
        Panels in a row.

    Raises
    ------
    AudiotkError
        There is no table.
    """
    if not tables:
        raise AudiotkError("changes: expected a table for each metric, got none; compare two arms or more")
    arms = list(order) or list(next(iter(tables.values())).index)
    columns = min(columns, len(tables))
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(3.4 * columns + 1.8, (1.0 + 0.24 * len(arms)) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(tables) :]:
        axes.set_visible(False)
    for axes, (metric, table) in zip(grid.ravel(), tables.items(), strict=False):
        for place, arm in enumerate(arms):
            if arm not in table.index:
                continue
            row = table.loc[arm].astype(float)
            colour = GREEN if row["high"] < 0 else RED if row["low"] > 0 else INK
            low, high = np.nan_to_num(row["low"], nan=-EDGE), np.nan_to_num(row["high"], nan=EDGE)
            axes.plot(np.clip([low, high], -EDGE, EDGE), [place, place], color=colour, lw=2)
            axes.plot(row["value"], place, "o", color=colour, markersize=5)
        axes.axvline(0, color=INK, lw=0.8)
        if smallest:
            axes.axvline(-smallest, color=FAINT, ls="--")
        axes.set(xlim=(-1.2, 1.2), xlabel="relative change")
        axes.set_title(fill(metric, 34), fontsize=10)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f} %")
    grid[0, 0].set_yticks(range(len(arms)), arms)
    grid[0, 0].invert_yaxis()
    return figure


def floors(found: Mapping[str, NoiseFloor]) -> Figure:
    """The noise floor of each device: power by frequency, with its level and how much sound it rests on."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    for floor, colour in zip(found.values(), _colours(), strict=False):
        hz = np.linspace(0.0, floor.sr / 2, len(floor.spectrum))[1:]
        level = floor.level_dbfs + 10 * np.log10(np.maximum(floor.spectrum[1:] / hz[0], 1e-20))
        told = f"{floor.device or 'all'}: {floor.level_dbfs:.0f} dBFS ({floor.seconds:.0f} s of {floor.recordings})"
        axes.semilogx(hz, level, color=colour, lw=1.2, label=told)
    axes.set(xlabel="Hz", ylabel="dBFS per Hz", xlim=(40, None))
    axes.legend(frameon=False, fontsize=8)
    return figure
