"""Figures of several labelers: who marked what, where they disagree, and how far they agree.

As in :mod:`audiotk.figures`, functions return a Figure and draw nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from audiotk.agreement import ALL
from audiotk.figures import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE
from audiotk.tables import AudiotkError
from audiotk.widgets.base import COLOURS
from audiotk.widgets.media import Media
from audiotk.widgets.picture import mel, waveform

KIND_COLOURS = {"missed": RED, "boundary": ORANGE, "class": "#8b5cf6", "alone": FAINT, "decided": GREEN}
KIND_WORDS = {
    "missed": "missed by somebody", "boundary": "other edges", "class": "other class", "alone": "heard by one only",
    "decided": "decided",
}  # fmt: skip
MEASURES = {"f1": ("event F1", "segments"), "kappa": ("kappa of frames", "frames")}
FEWEST = 10  # segments below which an F1 is printed pale
MOST_NUMBERS = 24  # cases that are numbered


@mpl.rc_context(STYLE)
def disagreement_lanes(
    sound: str | Path | Media | None,
    segments: pd.DataFrame,
    cases: pd.DataFrame,
    labelers: Sequence[str],
    names: Mapping[str, str] | None = None,
    title: str = "",
    view: tuple[float, float] | None = None,
) -> Figure:
    """One recording: its sound, one lane of marks a labeler, and the disagreements, numbered by their weight.

    Parameters
    ----------
    sound
        File or opened recording; None draws the lanes only.
    segments
        start_s, end_s, class_name, labeler; of this recording.
    cases
        As from :func:`audiotk.agreement.disagreements.disagreements`; of this recording. A kind "decided" is green.
    labelers
        In the order of their lanes.
    names
        Labeler -> what to call him.
    view
        start_s and end_s of what is shown; default all.

    Raises
    ------
    AudiotkError
        The sound cannot be read, or there is neither a sound nor a mark.
    """
    media = sound if sound is None or isinstance(sound, Media) else Media(sound)
    if media is None and segments.empty:
        raise AudiotkError("disagreement_lanes: expected a sound or segments, got neither")
    if view is None:
        view = (0.0, media.duration_s if media is not None else 1.02 * float(segments["end_s"].max()))
    classes = sorted(segments["class_name"].unique())
    heights = [0.6, 1.5] * (media is not None) + [0.3 * len(labelers), 0.28]
    figure = Figure(figsize=(9.5, 1.1 + sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.08))
    panels = list(np.atleast_1d(figure.subplots(len(heights), sharex=True, height_ratios=heights)))
    if media is not None:
        waveform(panels[0], media)
        mel(panels[1], media)
    _lanes(panels[-2], segments, labelers, classes, names or {})
    _cases(panels, cases)
    panels[0].set_xlim(*view)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold", parse_math=False)
    panels[-1].set_xlabel("seconds")
    _legend(figure, classes, list(dict.fromkeys(cases["kind"])))
    return figure


def _lanes(
    axes: Axes, segments: pd.DataFrame, labelers: Sequence[str], classes: Sequence[str], names: Mapping[str, str]
) -> None:
    lane_of = {labeler: lane for lane, labeler in enumerate(labelers)}
    for row in segments[segments["labeler"].isin(labelers)].to_dict("records"):
        own = segments[(segments["labeler"] == row["labeler"]) & (segments["class_name"] != row["class_name"])]
        crowded = ((own["start_s"] < row["end_s"]) & (own["end_s"] > row["start_s"])).any()
        place = classes.index(row["class_name"])
        high = 0.72 / len(classes) if crowded else 0.72
        y = lane_of[row["labeler"]] + (0.72 * (place + 0.5) / len(classes) - 0.36 if crowded else 0)
        colour = COLOURS[place % len(COLOURS)]
        axes.barh(
            y,
            row["end_s"] - row["start_s"],
            left=row["start_s"],
            height=high,
            color=colour,
            edgecolor="white",
            linewidth=0.8,
        )
    for border in range(1, len(labelers)):
        axes.axhline(border - 0.5, color="#e4e7eb", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(labelers)), [names.get(who, who) for who in labelers], parse_math=False)
    axes.set_ylim(len(labelers) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)


def _cases(panels: Sequence[Axes], cases: pd.DataFrame) -> None:
    """A shade over all panels where labelers disagree, and a numbered bar below."""
    last = panels[-1]
    for number, row in enumerate(cases.to_dict("records"), start=1):
        colour, middle = KIND_COLOURS[row["kind"]], (row["start_s"] + row["end_s"]) / 2
        panels[-2].axvspan(row["start_s"], row["end_s"], color=colour, alpha=0.13, linewidth=0, zorder=0)
        for axes in panels[:-2]:
            for edge in (row["start_s"], row["end_s"]):
                axes.axvline(edge, color=colour, linewidth=0.9, alpha=0.9)
        last.barh(0, row["end_s"] - row["start_s"], left=row["start_s"], height=0.5, color=colour)
        if number <= MOST_NUMBERS:
            ring = {"boxstyle": "circle,pad=0.18", "facecolor": colour, "edgecolor": "white", "linewidth": 0.8}
            last.text(
                middle, 0, str(number), fontsize=7, color="white", weight="bold", ha="center", va="center", bbox=ring
            )
    last.set_ylim(-0.7, 0.7)
    last.set_yticks([0], ["disagree"])
    last.tick_params(axis="y", length=0)


def _legend(figure: Figure, classes: Sequence[str], kinds: Sequence[str]) -> None:
    marks = [Patch(color=COLOURS[place % len(COLOURS)], label=name) for place, name in enumerate(classes)]
    marks += [Patch(color=KIND_COLOURS[kind], alpha=0.55, label=KIND_WORDS[kind]) for kind in kinds]
    if marks:
        legend = figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), 6), fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)


@mpl.rc_context(STYLE)
def agreement_matrix(table: pd.DataFrame, names: Mapping[str, str] | None = None) -> Figure:
    """Event F1 and kappa of each pair (column) and class (row), with the number of segments behind each F1.

    Parameters
    ----------
    table
        As from :func:`audiotk.agreement.agreement`. Undefined numbers are hatched.
    names
        Labeler -> what to call him.
    """
    if table.empty:
        raise AudiotkError("agreement_matrix: expected a table with a row; no two labelers were given")
    called = dict(names or {})
    pairs = list(dict.fromkeys(zip(table["one"], table["other"], strict=True)))
    classes = sorted(set(table["class_name"]) - {ALL})
    rows = [*classes, ALL]
    keyed = {(row["class_name"], row["one"], row["other"]): row for row in table.to_dict("records")}
    size = (2.0 + 2 * max(0.95 * len(pairs), 1.4), 1.3 + 0.34 * len(rows))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.08))
    panels = figure.subplots(ncols=2, sharey=True)
    for axes, (measure, (title, counted)) in zip(panels, MEASURES.items(), strict=True):
        for x, pair in enumerate(pairs):
            for y, name in enumerate(rows):
                _cell(axes, x, y, keyed.get((name, *pair)), measure)
        axes.set(xlim=(-0.5, len(pairs) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.set_title(title)
        axes.set_xlabel(f"small: {counted} of the two", fontsize=7.5, color=FAINT)
        labels = ["\n".join(called.get(who, who) for who in pair) for pair in pairs]
        axes.set_xticks(range(len(pairs)), labels, fontsize=8, parse_math=False)
        axes.axhline(len(classes) - 0.5, color=INK, linewidth=1)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    panels[0].set_yticks(range(len(rows)), [*classes, "all classes"], parse_math=False)
    return figure


def _cell(axes: Axes, x: int, y: int, row: Any, measure: str) -> None:
    value = np.nan if row is None else float(row[measure])
    box: dict[str, Any] = {"width": 0.94, "height": 0.9, "linewidth": 0}
    if np.isnan(value):
        axes.add_patch(
            mpl.patches.Rectangle((x - 0.47, y - 0.45), **box, facecolor="none", edgecolor="#cfd6dd", hatch="////")
        )
        return
    share = float(np.clip(value, 0, 1))
    colour = mpl.colors.to_rgba(BLUE, 0.06 + 0.86 * share)
    axes.add_patch(mpl.patches.Rectangle((x - 0.47, y - 0.45), **box, facecolor=colour))
    ink = "white" if share > 0.55 else INK
    axes.text(x, y - 0.1, f"{value:.2f}", ha="center", va="center", color=ink, weight="bold")
    counts = ("n_one", "n_other") if measure == "f1" else ("frames_one", "frames_other")
    number = " / ".join(f"{int(row[name]):,}" for name in counts)
    few = measure == "f1" and row["n_one"] + row["n_other"] < FEWEST
    axes.text(x, y + 0.26, number, ha="center", va="center", color=ink, fontsize=6.5, alpha=0.6 if few else 0.9)
