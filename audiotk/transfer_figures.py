"""Figures of transfer: what the labels of a base model do for the models that are built on it (P2, Table IV).

As in :mod:`audiotk.figures`, functions return a Figure and draw nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from audiotk.figures import BLUE, FAINT, GREEN, INK, ORANGE, STYLE

COLOURS = {"OL": INK, "PEL": BLUE, "PE-CML": ORANGE, "": GREEN}
WORDS = {"": "no base: from scratch"}


@mpl.rc_context(STYLE)
def effects(table: pd.DataFrame, total: str) -> Figure:
    """One panel an effect, one line a split, the mean over splits (`total`) below in bold.

    Parameters
    ----------
    table
        what, root, value, low, high; see :func:`audiotk.experiments.transfer_tables.effects`. An interval without ends
        is dotted over the whole panel.
    """
    panels, roots = list(dict.fromkeys(table["what"])), list(dict.fromkeys(table["root"]))
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9.2, (0.75 + 0.27 * len(roots)) * rows), layout="constrained")
    axes = figure.subplots(nrows=rows, ncols=2, squeeze=False, sharey=True)
    reach = float(np.nanmax(np.abs(table[["value", "low", "high"]].to_numpy(dtype=float)), initial=0.01))
    for panel, what in zip(axes.ravel(), panels, strict=False):
        part = table[table["what"] == what].set_index("root")
        for y, root in enumerate(roots):
            item, colour = part.loc[root], BLUE if root == total else FAINT
            bounded = np.isfinite([item["low"], item["high"]]).all()
            low, high = (item["low"], item["high"]) if bounded else (-reach, reach)
            panel.plot([low, high], [y, y], color=colour, linewidth=2.4, linestyle="-" if bounded else ":")
            panel.plot(item["value"], y, "o", color=BLUE if root == total else INK, markersize=5)
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.axhline(len(roots) - 1.5, color="#e4e7eb", linewidth=0.8)
        panel.set_title(what)
        panel.set_yticks(range(len(roots)), roots, parse_math=False)
        panel.set_ylim(len(roots) - 0.5, -0.5)
        panel.set_xlim(-1.08 * reach, 1.08 * reach)
        panel.tick_params(axis="y", length=0)
    for panel in axes.ravel()[len(panels) :]:
        panel.set_visible(False)
    figure.supxlabel("difference in mAP, 95 %", fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def cells(ours: pd.DataFrame, printed: Mapping[tuple[str, str, str, str], float]) -> Figure:
    """How much better than on a base trained with OL, cell by cell: filled dots ours, rings what P2 prints.

    Parameters
    ----------
    ours
        mAP; index (how, base labels), columns (target, labels), with a base "OL" for each how that is drawn.
    printed
        (how, base labels, target, labels) -> mAP, where P2 prints one.
    """
    ways = [way for way in dict.fromkeys(ours.index.get_level_values(0)) if (way, "OL") in ours.index]
    figure = Figure(figsize=(9.2, 1.3 + 0.24 * ours.shape[1]), layout="constrained")
    axes = figure.subplots(ncols=len(ways), sharey=True, squeeze=False)[0]
    bases = ("PEL", "PE-CML")
    for panel, way in zip(axes, ways, strict=True):
        for y, place in enumerate(ours.columns):
            for base, shift in zip(bases, (-0.16, 0.16), strict=True):
                gain = ours.loc[(way, base), place] - ours.loc[(way, "OL"), place]
                panel.plot(gain, y + shift, "o", color=COLOURS[base], markersize=5, zorder=3)
                keys = [(way, name, *place) for name in (base, "OL")]
                if all(key in printed for key in keys):
                    known = printed[keys[0]] - printed[keys[1]]
                    panel.plot(known, y + shift, "o", color=COLOURS[base], fillstyle="none", markersize=6)
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.set_title(way)
        panel.set_xlabel("mAP minus that on the OL base")
        panel.grid(axis="y", color="#eef0f3", linewidth=0.8)
        panel.tick_params(axis="y", length=0)
    names = [" · ".join(place) for place in ours.columns]
    axes[0].set_yticks(range(len(names)), names, parse_math=False)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [Line2D([], [], color=COLOURS[base], marker="o", linestyle="", label=f"{base} base") for base in bases]
    handles.append(Line2D([], [], color=INK, marker="o", fillstyle="none", linestyle="", label="P2 (AudioSet)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


@mpl.rc_context(STYLE)
def curve(table: pd.DataFrame) -> Figure:
    """mAP over the number of target recordings: one column a split, one row a way, from scratch in both.

    Parameters
    ----------
    table
        root, how, base labels, recordings, value, low, high; see :func:`audiotk.experiments.transfer_tables.curve`.
    """
    roots = list(dict.fromkeys(table["root"]))
    ways = list(dict.fromkeys(table.loc[table["base labels"] != "", "how"]))
    figure = Figure(figsize=(1.4 + 2.7 * len(roots), 0.7 + 2.1 * len(ways)), layout="constrained")
    axes = figure.subplots(nrows=len(ways), ncols=len(roots), sharex="col", sharey="col", squeeze=False)
    for line, way in enumerate(ways):
        for panel, root in zip(axes[line], roots, strict=True):
            here = table[(table["root"] == root) & ((table["how"] == way) | (table["base labels"] == ""))]
            for base, part in here.groupby("base labels", sort=False):
                _line(panel, part.sort_values("recordings"), str(base))
            if line == 0:
                panel.set_title(root, parse_math=False)
            if line == len(ways) - 1:
                panel.set_xlabel("target recordings")
        axes[line, 0].set_ylabel(f"{way}\nmAP")
    names = list(dict.fromkeys(table["base labels"]))
    handles = [
        Line2D([], [], color=COLOURS[name], marker="o", linestyle=_dashes(name), label=WORDS.get(name, f"{name} base"))
        for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names))
    return figure


def _dashes(base: str) -> Literal["-", "--"]:
    return "--" if base == "" else "-"


def _line(panel: Axes, part: pd.DataFrame, base: str) -> None:
    dashes = "--" if base == "" else "-"
    panel.plot(
        part["recordings"], part["value"], dashes, color=COLOURS[base], marker="o", markersize=3.5, linewidth=1.4
    )
    if base in ("OL", "PE-CML"):
        panel.fill_between(part["recordings"], part["low"], part["high"], color=COLOURS[base], alpha=0.1, linewidth=0)
    panel.set_xscale("log", base=2)
    ticks = sorted(set(part["recordings"]))
    panel.set_xticks(ticks, [f"{n:,}" for n in ticks])
    panel.minorticks_off()
