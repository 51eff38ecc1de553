"""The still picture of a teacher's review: precision of each class on the left, its first cells on the right."""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiotk.figures import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE
from audiotk.tables import AudiotkError
from audiotk.widgets.media import HOP_S, TILE, Shelf

CLASSES, CELLS = 8, 4  # classes, and cells of each, that are shown
FRAMES = 400  # of spectrogram, at most


@mpl.rc_context(STYLE)
def teacher_picture(title: str, said: str, table: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """One row a class: its precision with interval, and its first cells with spectrogram, score, label and verdict.

    Parameters
    ----------
    title, said
        What stands above, left and right.
    table
        As :meth:`audiotk.widgets.TeacherReview.precision` returns it, the row of all classes last.
    cells
        As :attr:`audiotk.widgets.TeacherReview.cells`.
    """
    names = list(table.index[:-1])
    shown = names[:CLASSES]
    rest = len(names) - len(shown)
    rows = pd.concat([table.loc[shown], table.iloc[[-1]]])
    figure = Figure(figsize=(11, 0.8 * len(rows) + 0.9))
    grid = figure.add_gridspec(len(rows), 1 + CELLS, width_ratios=[2.0, *[1.0] * CELLS])
    _precision(figure.add_subplot(grid[:, 0]), rows)
    height = figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.3 / height))
    style: dict[str, Any] = {"y": 1 - 0.08 / height, "va": "top", "parse_math": False}
    figure.text(0.008, s=title, fontsize=11, weight="bold", **style)
    figure.text(0.995, s=said, ha="right", fontsize=8, **style)
    shelf = Shelf(size=2)
    try:
        for place, name in enumerate(shown):
            some = cells[cells["class_name"] == name].head(CELLS)
            for column, cell in enumerate(some.to_dict("records")):
                _cell(figure.add_subplot(grid[place, 1 + column]), cell, shelf)
    finally:
        shelf.close()
    words = "The first cells of each class; the frame has the colour of the verdict."
    words += f" {rest} more classes: see precision()." if rest else ""
    note = figure.add_subplot(grid[len(rows) - 1, 1:])
    note.axis("off")
    note.text(0, 0.5, words, color=FAINT, fontsize=8, va="center")
    return figure


def _precision(axes: Axes, rows: pd.DataFrame) -> None:
    """Dots and intervals, one line a class, the line of all below."""
    place = np.arange(len(rows))[::-1]
    axes.set_yticks(place, [_short(name, 22) for name in rows.index], fontsize=8.5, parse_math=False)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axhline(0.5, color="#e4e7eb", linewidth=0.8)
    axes.set_title("Precision at the threshold", fontsize=9)
    for y, row in zip(place, rows.to_dict("records"), strict=True):
        colour = INK if y == 0 else BLUE
        if not np.isnan(row["value"]):
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=4, alpha=0.3, solid_capstyle="round")
            axes.plot(row["value"], y, "o", color=colour, markersize=6, clip_on=False)
        axes.text(0, y - 0.34, in_words(row), va="center", fontsize=7.5, color=INK if row["n"] else FAINT)


def in_words(row: dict[Any, Any]) -> str:
    """One row of the table of precision in words."""
    above = f"{row['cells']:,} cells" + ("" if np.isnan(row["threshold"]) else f" above {row['threshold']:.3g}")
    unsure = f", {row['unsure']} unsure" if row["unsure"] else ""
    done = f"{row['n']} judged{unsure}" + (f", {row['open']} open" if row["open"] else "")
    if np.isnan(row["value"]):
        return f"{done} · {above}"
    value = f"{100 * row['value']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    return f"{value}{' provisional' if row['provisional'] else ''} · {done} · {above}"


def _cell(axes: Axes, cell: dict[Any, Any], shelf: Shelf) -> None:
    """Spectrogram of a segment; score and label above it, the verdict in the colour of its frame."""
    colour = {"present": GREEN, "absent": RED, "unsure": ORANGE}.get(cell["verdict"], FAINT)
    problem = cell["silent"]
    if not problem:
        try:
            axes.imshow(_spectrum(cell, shelf), aspect="auto", cmap="magma", vmin=0, vmax=255)
        except AudiotkError as err:
            problem = str(err).replace(cell["path"], Path(cell["path"]).name)
    if problem:
        axes.text(0.5, 0.5, _short(problem, 60), ha="center", va="center", fontsize=6, color=FAINT, parse_math=False,
                  wrap=True, transform=axes.transAxes)  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1.6 if cell["verdict"] else 0.8)
    label = "" if cell["label"] == "unknown" else f" · label {cell['label']}"
    style: dict[str, Any] = {"fontsize": 7, "weight": "normal", "pad": 3}
    axes.set_title(f"{cell['score']:.2f}{label}", **style)
    axes.set_title(cell["verdict"] or "open", loc="right", color=colour, **style)


def _spectrum(cell: dict[Any, Any], shelf: Shelf) -> np.ndarray:
    """Log-mel picture of a segment, uint8 (MELS, frames), stretched so that its quiet and loud parts can be seen."""
    media = shelf.get(cell["path"])
    media.wait(timeout_s=60.0)
    start_s, end_s = cell["start_s"], min(cell["end_s"], media.duration_s)
    if start_s >= end_s:
        raise AudiotkError(f"{media.path.name}: the segment lies behind its end")
    zoom = next(z for z in range(10) if (end_s - start_s) / (HOP_S * 4**z) <= FRAMES or z == 9)
    first, last = floor(start_s / (HOP_S * 4**zoom)), max(ceil(end_s / (HOP_S * 4**zoom)), 1)
    tiles = [media.tile(zoom, index) for index in range(first // TILE, (last - 1) // TILE + 1)]
    picture = np.concatenate(tiles, axis=1)[:, first % TILE :][:, : last - first].astype(float)  # (MELS, frames)
    low, high = np.percentile(picture, [5, 99.8])
    return np.clip((picture - low) * (255 / max(high - low, 1.0)), 0, 255)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
