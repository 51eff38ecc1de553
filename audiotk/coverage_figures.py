"""A figure of what a labeler heard and marked, and what became of the claims.

As in :mod:`audiotk.figures`, functions return a Figure and draw nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from audiotk.figures import FAINT, GREEN, INK, ORANGE, RED, STYLE
from audiotk.tables import AudiotkError
from audiotk.widgets.base import COLOURS

HEARD, UNHEARD = "#dce8fa", "#f6f7f8"
VERDICTS = {
    "confirmed": ("✓ confirmed", GREEN), "not_found": ("✗ not found", RED), "unsure": ("? unsure", ORANGE),
    "open": ("open", FAINT),
}  # fmt: skip
HIGH = 0.78  # of a lane


@mpl.rc_context(STYLE)
def coverage(
    recordings: pd.DataFrame,
    segments: pd.DataFrame,
    heard: pd.DataFrame,
    answers: pd.DataFrame,
    classes: Sequence[str],
) -> Figure:
    """One lane a recording: what was heard, the segments in it, the claim on the left and its end on the right.

    Parameters
    ----------
    recordings
        recording, duration_s: the lanes, from top to bottom.
    segments
        recording, start_s, end_s, class_name, of one labeler; those of other recordings are left out.
    heard
        recording, start_s, end_s; what lies outside is hatched: nothing is known of it.
    answers
        Index recording; claim ("" if none) and verdict. A recording that is not in it is open.
    classes
        Names of the classes; their places give the colours, those of the labeler.
    """
    if recordings.empty:
        raise AudiotkError("coverage: expected at least one recording, got none")
    figure = Figure(figsize=(9.5, 1.0 + 0.52 * len(recordings)), layout="constrained")
    axes = figure.subplots()
    longest_s, shown = float(recordings["duration_s"].max()), set()
    for lane, about in enumerate(recordings.to_dict("records")):
        name = about["recording"]
        _ground(axes, lane, about["duration_s"], heard[heard["recording"] == name])
        mine = segments[segments["recording"] == name].sort_values(["start_s", "end_s"])
        _marks(axes, lane, mine.to_dict("records"), classes, longest_s)
        shown |= set(mine["class_name"])
        verdict = answers["verdict"].get(name, "open")
        ending, colour = VERDICTS[verdict] if answers["claim"].get(name, "") else ("", FAINT)
        axes.annotate(ending, (1.01, lane), xycoords=("axes fraction", "data"), va="center", color=colour,
                      weight="bold", annotation_clip=False)  # fmt: skip
    claims = [answers["claim"].get(name, "") for name in recordings["recording"]]
    words = [
        f"{name}\n“{claim}”" if claim else f"{name}\nno claim"
        for name, claim in zip(recordings["recording"], claims, strict=True)
    ]
    axes.set_yticks(range(len(words)), words, fontsize=8, parse_math=False)
    axes.set(xlim=(0, longest_s), ylim=(len(words) - 0.5, -0.5), xlabel="seconds")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _legend(figure, [name for name in classes if name in shown], classes)
    return figure


def _ground(axes: Axes, lane: int, duration_s: float, heard: pd.DataFrame) -> None:
    """What was heard over what was not."""
    with mpl.rc_context({"hatch.linewidth": 0.6}):
        axes.barh(
            lane, duration_s, height=HIGH, color=UNHEARD, edgecolor="#c3cad1", hatch="////", linewidth=0, zorder=1
        )
    for start_s, end_s in heard[["start_s", "end_s"]].to_numpy():
        axes.barh(lane, end_s - start_s, left=start_s, height=HIGH, color=HEARD, linewidth=0, zorder=2)


def _marks(
    axes: Axes, lane: int, segments: Sequence[Mapping[Any, Any]], classes: Sequence[str], longest_s: float
) -> None:
    """Segments; those that overlap share the height."""
    rows: list[float] = []  # the end of the last segment in each row
    placed = []
    for item in segments:
        row = next((place for place, end_s in enumerate(rows) if end_s <= item["start_s"]), len(rows))
        rows[row:] = [item["end_s"], *rows[row + 1 :]]
        placed.append((row, item))
    high = 0.56 / max(len(rows), 1)
    for row, item in placed:
        y, length_s = lane - 0.28 + (row + 0.5) * high, item["end_s"] - item["start_s"]
        colour = (
            COLOURS[list(classes).index(item["class_name"]) % len(COLOURS)] if item["class_name"] in classes else FAINT
        )
        axes.barh(y, length_s, left=item["start_s"], height=0.92 * high, color=colour, zorder=3)
        if length_s > 0.014 * longest_s * len(item["class_name"]) and len(rows) < 3:
            axes.text(item["start_s"] + length_s / 2, y, item["class_name"], ha="center", va="center", fontsize=7,
                      color="white", parse_math=False, zorder=4)  # fmt: skip


def _legend(figure: Figure, shown: Sequence[str], classes: Sequence[str]) -> None:
    marks = [Patch(facecolor=HEARD, label="heard, nothing marked"),
             Patch(facecolor=UNHEARD, edgecolor="#c3cad1", hatch="////", label="not heard: unknown")]  # fmt: skip
    marks += [Patch(color=COLOURS[list(classes).index(name) % len(COLOURS)], label=name) for name in shown]
    legend = figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), 6), fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color(INK)
