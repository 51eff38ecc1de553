"""Figures of labels from a hierarchy: what raters tick, what rules make of it, and what of their errors is repaired.

As in :mod:`audiotk.figures`, functions return a Figure (or HTML) and draw nothing by themselves.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from audiotk.figures import ARM_COLOURS, BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE

PART_COLOURS = (*ARM_COLOURS, FAINT, RED)
GRID, PALE = "#e4e7eb", "#cfd6dd"


def _percent(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


@mpl.rc_context(STYLE)
def coselection(edges: pd.DataFrame, marked: Sequence[tuple[str, str]] = (), fewest: int = 10) -> Figure:
    """Each class and direct parent as a dot: how often the parent is ticked too, one lane a part of the tree.

    Dots of equal shares stand above each other; their area grows with the number of segments.

    Parameters
    ----------
    edges
        child, parent, part, both, n, share.
    marked
        Pairs (child, parent) to name; those that are not among the edges are left out.
    fewest
        Pairs with fewer segments than this are not drawn.
    """
    drawn = edges[edges["n"] >= fewest]
    if drawn.empty:
        return _nothing(f"no pair of a class and its parent with {fewest} segments or more")
    parts = list(dict.fromkeys(drawn["part"]))
    drawn = drawn.assign(lane=[parts.index(part) for part in drawn["part"]], bin=(drawn["share"] * 50).round())
    place = drawn.groupby(["lane", "bin"]).cumcount()
    high = place.groupby(drawn["lane"]).transform("max").clip(lower=11)
    drawn = drawn.assign(y=drawn["lane"] + 0.36 - 0.72 * place / high)
    figure = Figure(figsize=(8.2, 0.9 + 0.75 * max(len(parts), 1)), layout="constrained")
    axes = figure.subplots()
    sizes = 10 + 60 * drawn["n"] / max(drawn["n"].max(), 1)
    colours = [PART_COLOURS[lane % len(PART_COLOURS)] for lane in drawn["lane"]]
    axes.scatter(drawn["share"], drawn["y"], s=sizes, color=colours, alpha=0.75, linewidth=0, zorder=2)
    whole = edges["both"].sum() / max(edges["n"].sum(), 1)
    axes.axvline(whole, color=INK, linestyle="--", linewidth=1, zorder=1)
    axes.annotate(f"all pairs: {100 * whole:.0f} %", (whole, 1), xycoords=("data", "axes fraction"), xytext=(3, 2),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    keyed = drawn.set_index(["child", "parent"])
    named = keyed.loc[[pair for pair in marked if pair in keyed.index]].sort_values(["lane", "share"])
    steps = named.groupby("lane").cumcount()
    for step, item in zip(steps, named.reset_index().to_dict("records"), strict=True):
        text = f"{item['child']} > {item['parent']}: {100 * item['share']:.0f} %"
        _name_dot(axes, text, item["share"], item["y"], step)
    axes.set_yticks(range(len(parts)), parts, parse_math=False)
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(max(len(parts), 1) - 0.5, -0.5),
        xlabel="with the parent too, of the segments with the child",
    )
    axes.tick_params(axis="y", length=0)
    for border in np.arange(len(parts) - 1) + 0.5:
        axes.axhline(border, color=GRID, linewidth=0.8)
    _percent(axes.xaxis)
    return figure


def _name_dot(axes: Axes, text: str, x: float, y: float, step: int) -> None:
    """A ring around a dot and its name above, each `step` one line higher."""
    right = x > 0.5
    axes.scatter(x, y, s=70, facecolor="none", edgecolor=INK, linewidth=1.2, zorder=3)
    axes.annotate(
        text, (x, y), xytext=(-6 if right else 14, 16 + 13 * step), textcoords="offset points", fontsize=8,
        ha="right" if right else "left", va="center", parse_math=False, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        arrowprops={
            "arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4, "relpos": (float(right), 0.2)
        },
    )  # fmt: skip


@mpl.rc_context(STYLE)
def shares(table: pd.DataFrame, xlabel: str) -> Figure:
    """Shares with their intervals, one group of lines a metric, one colour an arm; unbounded intervals are dotted.

    `table` has metric, arm, value, low, high.
    """
    if table.empty:
        return _nothing("no shares to show")
    metrics, arms = list(dict.fromkeys(table["metric"])), list(dict.fromkeys(table["arm"]))
    figure = Figure(figsize=(7.4, 0.9 + len(metrics) * (0.16 + 0.14 * len(arms))), layout="constrained")
    axes = figure.subplots()
    step = 0.7 / len(arms)
    for number, arm in enumerate(arms):
        some = table[table["arm"] == arm]
        y = np.array([metrics.index(name) for name in some["metric"]]) + (number - (len(arms) - 1) / 2) * step
        colour = ARM_COLOURS[number % len(ARM_COLOURS)]
        known = some["low"].notna().to_numpy()
        axes.hlines(y[known], some["low"][known], some["high"][known], color=colour, linewidth=2.2, alpha=0.45)
        axes.hlines(y[~known], 0, 1, color=colour, linewidth=1.2, alpha=0.6, linestyle=":")
        axes.plot(some["value"], y, "o", color=colour, markersize=5, label=arm)
    axes.set_yticks(range(len(metrics)), metrics, parse_math=False)
    axes.set(ylim=(len(metrics) - 0.4, -0.6), xlim=(0, 1), xlabel=xlabel)
    _percent(axes.xaxis)
    for border in np.arange(len(metrics) - 1) + 0.5:
        axes.axhline(border, color=GRID, linewidth=0.8)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if len(arms) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@mpl.rc_context(STYLE)
def per_segment(tables: Mapping[str, pd.DataFrame], columns: Sequence[str] = ("labels", "masked")) -> Figure:
    """Distribution over segments of each of `columns`, one line a scheme: share of segments with at least so many.

    A scheme whose column is 0 throughout is left out of that panel.
    """
    figure = Figure(figsize=(8.6, 3.0), layout="constrained")
    panels = figure.subplots(ncols=len(columns))
    colours = dict(zip(tables, (INK, BLUE, ORANGE, GREEN), strict=False))
    for axes, column in zip(np.atleast_1d(panels), columns, strict=True):
        shown = {name: table[column].to_numpy() for name, table in tables.items() if table[column].any()}
        for name, values in shown.items():
            share = np.bincount(values)[::-1].cumsum()[::-1] / len(values)  # [k]: at least k
            same = [n for n in shown if n != name and np.array_equal(shown[n], values)]
            style = "--" if same and list(shown).index(name) > list(shown).index(same[0]) else "-"
            axes.step([*range(len(share)), len(share)], [*share, 0], where="mid", color=colours[name], linestyle=style,
                      linewidth=1.8, label=f"{name}: mean {values.mean():.2f}")  # fmt: skip
        axes.set(xlabel=f"{column} a segment, at least", ylim=(0, 1.03))
        if shown:
            axes.set_xlim(0, max(np.quantile(values, 0.999) for values in shown.values()) + 1)
            axes.legend(loc="upper right")
        else:
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center")
        _percent(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    np.atleast_1d(panels)[0].set_ylabel("share of segments")
    return figure


@mpl.rc_context(STYLE)
def repairs(tables: Mapping[str, pd.DataFrame], fewest: int = 30) -> Figure:
    """What becomes of the errors of each class or group of them, one panel a rule; left of zero, errors that it makes.

    Parameters
    ----------
    tables
        Rule -> rows like those of :func:`audiotk.noise.repair_quality`, the same in all.
    fewest
        Rows with fewer errors than this are not drawn.
    """
    first = next(iter(tables.values()), pd.DataFrame(columns=["missing", "wrong"]))
    errors = first["missing"] + first["wrong"]
    errors = errors[errors >= fewest]
    if errors.empty:
        return _nothing(f"no group with {fewest} errors or more")
    figure = Figure(figsize=(2.6 + 2.4 * len(tables), 1.0 + 0.24 * len(errors)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(ncols=len(tables), sharex=True, sharey=True))
    for axes, (rule, table) in zip(panels, tables.items(), strict=True):
        _repairs(axes, table.loc[errors.index], errors)
        axes.set_title(rule, parse_math=False)
    names = [f"{name} ({count:,.0f})" for name, count in errors.items()]
    panels[0].set_yticks(range(len(names)), names, parse_math=False)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[len(panels) // 2].set_xlabel("share of the errors before the rule (their number behind the name)")
    handles, texts = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, texts, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _repairs(axes: Axes, table: pd.DataFrame, errors: pd.Series) -> None:
    kept = errors - table["repaired"] - table["masked_errors"]
    y, left = np.arange(len(table)), np.zeros(len(table))
    parts = (("repaired", table["repaired"], GREEN), ("masked", table["masked_errors"], ORANGE), ("left", kept, PALE))
    for label, values, colour in parts:
        share = (values / errors).to_numpy()
        axes.barh(y, share, left=left, color=colour, height=0.75, label=label)
        left = left + share
    axes.barh(y, -(table["left"] - kept) / errors, color=RED, height=0.75, label="made by the rule")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * abs(value):.0f} %"))
    axes.tick_params(axis="y", length=0)


QUALITY = {  # column of `repair_quality`: title, and its denominator
    "correction_precision": ("corrections that are right", "corrected"),
    "correction_recall": ("errors corrected", "errors"),
    "mask_precision": ("masks that hide an error", "masked"),
    "mask_recall": ("errors masked", "errors"),
}


@mpl.rc_context(STYLE)
def quality(trials: Mapping[str, Mapping[str, pd.DataFrame]], fewest: int = 10) -> Figure:
    """Precision and recall of corrections and masks, one line a rule, one colour a trial.

    A dot stands for all cells together, a bar for the middle 80 % of the classes, a cross for a random mask of the same
    rate in each class.

    Parameters
    ----------
    trials
        Trial -> rule -> what :func:`audiotk.noise.repair_quality` returns.
    fewest
        Classes with fewer cells (corrected, masked or wrong) are not in the bars.
    """
    rules = list(dict.fromkeys(rule for tables in trials.values() for rule in tables))
    if not rules:
        return _nothing("no rules to show")
    figure = Figure(figsize=(10.4, 1.1 + len(rules) * (0.14 + 0.17 * len(trials))), layout="constrained")
    panels = figure.subplots(ncols=len(QUALITY), sharey=True)
    for axes, (column, (title, of)) in zip(panels, QUALITY.items(), strict=True):
        for number, tables in enumerate(trials.values()):
            colour = ARM_COLOURS[number % len(ARM_COLOURS)]
            shift = 0.7 / len(trials) * (number - (len(trials) - 1) / 2)
            for rule, table in tables.items():
                _quality(axes, table, column, of, rules.index(rule) + shift, colour, fewest)
        axes.set(xlim=(-0.03, 1.03), ylim=(len(rules) - 0.4, -0.6), xticks=[0, 0.5, 1])
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(len(rules)), rules, parse_math=False)
        axes.tick_params(axis="y", length=0)
        _percent(axes.xaxis)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for border in np.arange(len(rules) - 1) + 0.5:
            axes.axhline(border, color=GRID, linewidth=0.8)
    keys: list[Any] = [
        Line2D([], [], color=ARM_COLOURS[k % len(ARM_COLOURS)], marker="o", linewidth=0, label=name)
        for k, name in enumerate(trials)
    ]
    keys.append(Line2D([], [], color=FAINT, linewidth=3, alpha=0.6, label="middle 80 % of the classes"))
    keys.append(Line2D([], [], color=INK, marker="x", linewidth=0, label="a random mask"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


def _quality(axes: Axes, table: pd.DataFrame, column: str, of: str, y: float, colour: str, fewest: int) -> None:
    """One rule in one panel: all cells, the spread over classes, and chance."""
    whole, classes = table.loc["(all)"], table.drop(index=["(all)", "(mean)"])
    made = "corrected" if column.startswith("correction") else "masked"
    if not whole[made]:
        return
    below = classes["missing"] + classes["wrong"] if of == "errors" else classes[of]
    some = classes.loc[below >= fewest, column]
    if len(some) > 1:
        axes.hlines(y, *np.quantile(some, [0.1, 0.9]), color=colour, linewidth=3, alpha=0.35)
    axes.plot(whole[column], y, "o", color=colour, markersize=5)
    if column == "mask_precision":
        axes.plot(whole["chance"], y, "x", color=INK, markersize=4, markeredgewidth=1)


@mpl.rc_context(STYLE)
def _nothing(why: str) -> Figure:
    """A figure in place of one that would have been empty."""
    figure = Figure(figsize=(7.4, 0.6))
    figure.text(0.02, 0.5, f"Nothing to draw: {why}.", va="center", color=INK, fontsize=9, parse_math=False)
    return figure


def words(table: pd.DataFrame) -> Any:
    """A table of texts to read: nothing is cut off, all is escaped; a name of several parts is told with commas."""
    from IPython.display import HTML

    def cell(value: Any, tag: str = "td") -> str:
        told = ", ".join(filter(None, map(str, value))) if isinstance(value, tuple) else str(value)
        return f'<{tag} style="text-align:left;white-space:normal">{html.escape(told)}</{tag}>'

    head = "".join(cell(name, "th") for name in ["", *table.columns])
    values = zip(table.index, table.to_numpy(dtype=object), strict=True)
    rows = "".join(f"<tr>{cell(name, 'th')}{''.join(map(cell, row))}</tr>" for name, row in values)
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
