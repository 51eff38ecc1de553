"""Figures of notebooks 05 and 06: P1's Fig. 2 and Table 2 as pictures, and how training sequences look."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from audiotk.figures import BLUE, FAINT, GREEN, INK, ORANGE, STYLE

COLOURS = (BLUE, ORANGE, "#8b5cf6", GREEN, "#a15c2f", INK)
FARTHEST = 0.3  # a difference beyond this is cut off, or wide intervals would hide all others


@mpl.rc_context(STYLE)
def by_class(table: pd.DataFrame, reference: str, mean: str) -> Figure:
    """Average precision of each class and arm with its interval (P1, Fig. 2): one band a class, one dot an arm.

    Parameters
    ----------
    table
        class_name, arm, value, low, high.
    reference
        The arm that is drawn in grey, as a line for the eye.
    mean
        The class_name whose band is shaded.

    Unbounded intervals are dotted.
    """
    names, arms = list(dict.fromkeys(table["class_name"])), list(dict.fromkeys(table["arm"]))
    figure = Figure(figsize=(7.6, 0.7 + 0.1 * (len(arms) + 1.5) * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip([arm for arm in arms if arm != reference], COLOURS, strict=False)) | {reference: FAINT}
    for k, arm in enumerate(arms):
        part = table[table["arm"] == arm].set_index("class_name").reindex(names)
        place = np.arange(len(names)) + (k - (len(arms) - 1) / 2) * 0.8 / len(arms)
        axes.hlines(place, part["low"], part["high"], color=colours[arm], linewidth=1.8, alpha=0.45)
        open_ = place[part["low"].isna() | part["high"].isna()]  # too few groups: the interval has no ends
        axes.hlines(open_, 0, 1, color=colours[arm], linewidth=1, linestyle=":", alpha=0.6)
        axes.plot(part["value"], place, "D" if arm == reference else "o", color=colours[arm], markersize=4.5, label=arm)
    axes.axhspan(names.index(mean) - 0.5, names.index(mean) + 0.5, color="#eef2f7", zorder=0)
    for k in range(1, len(names)):
        axes.axhline(k - 0.5, color="#e4e7eb", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.0), xlabel="average precision on test (95 % interval)")
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@mpl.rc_context(STYLE)
def against_baseline(table: pd.DataFrame, baseline: str) -> Figure:
    """How far each row lies from the baseline, with its interval, and (hollow) what the paper prints.

    `table`: index row; difference, low, high, printed (NaN where the paper has no such row). Unbounded intervals are
    dotted; what lies beyond the picture is an arrow at its edge.
    """
    rows = table.drop(index=baseline)
    figure = Figure(figsize=(6.8, 0.9 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(rows))
    own = rows["printed"].notna().to_numpy()
    colours = np.where(own, BLUE, ORANGE)
    axes.axvline(0, color=INK, linewidth=1)
    ends = rows[["difference", "low", "high", "printed"]].to_numpy(dtype=np.float64)
    left, right = max(np.nanmin(ends) - 0.01, -FARTHEST), min(np.nanmax(ends) + 0.01, FARTHEST)
    axes.hlines(place, rows["low"], rows["high"], color=colours, linewidth=2.2, alpha=0.45)
    unbounded = rows[["low", "high"]].isna().any(axis=1).to_numpy()
    axes.hlines(place[unbounded], left, right, color=colours[unbounded], linewidth=1, linestyle=":")
    for edge, marker, beyond in (
        (left, "<", np.nanmin(ends, axis=1) < left),
        (right, ">", np.nanmax(ends, axis=1) > right),
    ):
        axes.scatter(np.full(beyond.sum(), edge), place[beyond], marker=marker, c=colours[beyond], s=40, clip_on=False)
    for mask, colour, name in ((own, BLUE, "row of Table 2, ours"), (~own, ORANGE, "controls")):
        axes.plot(rows["difference"][mask], place[mask], "o", color=colour, markersize=5, label=name)
    axes.plot(rows["printed"], place, "d", color=INK, fillstyle="none", markersize=6, label="printed in P1")
    axes.set_yticks(place, rows.index, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left, right)
    axes.set_xlabel(f"mAP on test minus that of {baseline} (95 % interval)")
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@mpl.rc_context(STYLE)
def repairs(table: pd.DataFrame) -> Figure:
    """Of what a rule changed, how much was an error: three panels, one line a rule.

    `table`: index rule; correction_precision, mask_precision, chance, and errors, left (cells, on average). Empty where
    the truth is not known: then an empty figure says so.
    """
    if table.empty:
        figure = Figure(figsize=(4, 0.5))
        figure.text(0, 0.5, "The truth of the training labels is not known here.")
        return figure
    figure = Figure(figsize=(8.6, 0.9 + 0.27 * len(table)), layout="constrained")
    axes = figure.subplots(ncols=3, sharey=True)
    place = np.arange(len(table))
    parts = (("correction_precision", "corrections that are right"), ("mask_precision", "masks that hide an error"))
    for panel, (column, title) in zip(axes, parts, strict=False):
        panel.barh(place, table[column], color=BLUE, height=0.6)
        marks = table["chance"] if column == "mask_precision" else [np.nan] * len(table)
        for y, value, mark in zip(place, table[column], marks, strict=True):
            left, told = (0.0, "none") if np.isnan(value) else (value, f"{value:.0%}")
            left = mark if left < mark < left + 0.25 else left  # beyond a mark that would lie on the number
            panel.text(left + 0.04, y, told, va="center", fontsize=8, color=FAINT if told == "none" else INK)
        panel.set(title=title, xlim=(0, 1.18), xticks=(0, 0.5, 1))
    axes[1].plot(table["chance"], place, "|", color=ORANGE, markersize=11, markeredgewidth=2)
    axes[1].set_title("masks that hide an error\n(orange: by chance)")
    axes[2].barh(place, table["left"], color=GREEN, height=0.6)
    axes[2].axvline(table["errors"].iloc[0], color=INK, linewidth=1, linestyle="--")
    axes[2].set_title("errors left\n(dashed: before)")
    axes[0].set_yticks(place, table.index, parse_math=False)
    axes[0].set_ylim(len(table) - 0.4, -0.6)
    return figure


@mpl.rc_context(STYLE)
def sequences(made: Sequence[tuple[str, np.ndarray]], sr: int) -> Figure:
    """Spectrograms of training sequences side by side, each under its joined labels."""
    figure = Figure(figsize=(3.4 * len(made), 2.1), layout="constrained")
    axes = figure.subplots(ncols=len(made), squeeze=False)
    for panel, (title, wave) in zip(axes[0], made, strict=True):
        panel.specgram(
            wave + 1e-9,
            NFFT=512,
            Fs=sr / 1000,
            noverlap=256,
            cmap="magma",
            vmin=-100,
            vmax=-30,
            xextent=(0, len(wave) / sr),
        )
        panel.set_ylabel("kHz")
        panel.set_title(textwrap.fill(title, 34), fontsize=8, parse_math=False)
        panel.set_xlabel("seconds")
    return figure


@mpl.rc_context(STYLE)
def histories(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation mAP over epochs (mean over seeds), one line an arm: who was still learning when training ended."""
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    axes = figure.subplots()
    for (name, table), colour in zip(tables.items(), COLOURS, strict=False):
        axes.plot(table["epoch"], table["val_map"], ".-", color=colour, label=name)
    axes.set(xlabel="epoch", ylabel="validation mAP")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
