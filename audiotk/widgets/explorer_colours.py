"""Colours of an explorer's points in Python, the same as those of ``static/explorer_map.js``."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pandas as pd

from audiotk import mining
from audiotk.widgets.explorer_points import colouring

GREY, TRUE, TRUE_NIGHT = "#b3bac6", "#12805c", "#5fe0b4"
LEVELS = ("#4456c7", "#5f9fd6", "#58b89a", "#e0a63a", "#d1495b")  # quiet to loud
THEMES = {"neg_hard": "#d9583b", "neg_silence": "#5b7bd5", "neg_ambient": "#3f9d74"}
STILL = ("#a9b8cc", "#d1495b")  # silent now, fires still
UNPROMOTED = "not promoted"


def category_colour(at: int) -> str:
    """The colour of category number `at`: hues by the golden angle, two lightnesses."""
    red, green, blue = colorsys.hls_to_rgb((215 + at * 137.508) % 360 / 360, (0.46, 0.58)[at % 2], 0.58)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def level_colours(number: int = 255) -> list[str]:
    """The scale of levels in so many steps."""
    stops = np.array([[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in LEVELS], dtype=float)
    place = np.linspace(0, len(LEVELS) - 1, number)
    mixed = np.stack([np.interp(place, np.arange(len(LEVELS)), stops[:, channel]) for channel in range(3)], axis=1)
    return ["#{:02x}{:02x}{:02x}".format(*np.rint(row).astype(int)) for row in mixed]


def look(
    points: pd.DataFrame, by: str, theme: np.ndarray, still: np.ndarray | None
) -> tuple[list[str], np.ndarray, dict[str, Any]]:
    """A list of colours, the number of each point's one, and what a legend needs (names, or low and high).

    `by` is a colouring of the points, "theme" (what they are promoted to) or "after" (whether they fire still).
    """
    if by == "theme":
        colours = [GREY, *(THEMES[name] for name in mining.THEMES)]
        return colours, theme.astype(np.int64), {"by": by, "names": [UNPROMOTED, *mining.THEMES]}
    if by == "after" and still is not None:
        return list(STILL), still.astype(np.int64), {"by": by, "names": ["silent now", "fires still"]}
    about, code = colouring(points, by)
    if by == "level":
        return [*level_colours(), GREY], code.astype(np.int64), about
    skip = int(by == "cluster")
    colours = [GREY if at < skip else category_colour(at - skip) for at in range(len(about["names"]))]
    return colours, code.astype(np.int64), about
