"""A class hierarchy as a picture: an indented tree, one line a node, with the counts of a data set beside the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import NullLocator

from audiotk.errors import AudiotkError
from audiotk.figures import BLUE, GREEN, INK, ORANGE, STYLE
from audiotk.ontology import Ontology

VALUE_COLOURS = (BLUE, ORANGE, GREEN)
LINE, QUIET = "#c3cad2", "#6b7785"
SIZE, SMALL = 8.0, 6.5  # points
ROW, INDENT, PAD, BAR, GUTTER, MARGIN = (
    0.18,
    0.17,
    0.12,
    1.5,
    0.45,
    0.15,
)  # inches; a row grows with the number of values
MOST_LETTERS = 80  # of a name
ONE_COLUMN, LONGEST = 40, 60  # rows: more than the first make two columns, more than the second are too many for one


@dataclass(frozen=True)
class _Row:
    """One line of the picture."""

    node: int  # position in the ontology
    level: int
    parent: int  # row of the parent, -1 for a top
    kind: str  # "node"; "again": a further place of a node that is drawn in full elsewhere; "context": repeated on top
    note: str = ""


@mpl.rc_context(STYLE)
def tree(
    ontology: Ontology,
    root: str | None = None,
    counts: pd.Series | pd.DataFrame | Mapping[str, float] | None = None,
    *,
    depth: int | None = None,
    columns: int | None = None,
    title: str | None = None,
) -> Figure:
    """Draw `root` and all below it, children indented under their parent, with bars and numbers beside the names.

    A node with several parents is drawn in full under the first of them that comes up; its other places hold its name
    on a dashed line and, behind an arrow, where to look. Parents outside of the picture stand behind a plus sign. A
    column goes on where the one before ends: the nodes above its first one are repeated in grey.

    Parameters
    ----------
    ontology
        The hierarchy.
    root
        Id or name of the top node; default: all roots.
    counts
        Values by id or name, as ``labels.counts()["present"]``: bars on a logarithmic axis. A DataFrame draws one bar
        a column, up to three (as before and after). Nodes without a row are not classes of the data set: their names
        are grey, as are those without a number ("–") in some column. Rows outside of the picture are left out.
    depth
        Leave out what lies deeper below the root, and say how many nodes that are.
    columns
        Columns side by side; default: one for up to 40 lines, else at least two, none much longer than 60.
    title
        Default: the name of `root` and the number of nodes.

    Line breaks in a name are drawn as spaces, and of names with more than 80 letters only the beginning.

    Raises
    ------
    AudiotkError
        `root` or a row of `counts` is no node, a value is negative or infinite, or `depth` or `columns` is too small.
    """
    if (depth is not None and depth < 0) or (columns is not None and columns < 1):
        raise AudiotkError(f"tree: expected depth >= 0 and columns >= 1, got depth={depth} and columns={columns}")
    rows = _outline(ontology, root, depth)
    values = _values(ontology, counts)
    if columns is None:
        columns = max(-(-len(rows) // LONGEST), 1 + (len(rows) > ONE_COLUMN))
    parts = _columns(rows, columns)
    drawn = len({row.node for row in rows})
    heading = title if title is not None else f"{_title(ontology, root)}  ·  {drawn} nodes"
    return _draw(ontology, parts, values, heading)


def _title(ontology: Ontology, root: str | None) -> str:
    return "All roots" if root is None else _shown(ontology.names[ontology.position(root)])


def _shown(name: str) -> str:
    """A name as it is drawn: one line, not longer than MOST_LETTERS."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    return line if len(line) <= MOST_LETTERS else line[: MOST_LETTERS - 1] + "…"


def _values(ontology: Ontology, counts: Any) -> pd.DataFrame:
    """Values by position in the ontology, one column a bar."""
    if counts is None:
        return pd.DataFrame(index=pd.Index([], dtype=np.int64))
    table = counts if isinstance(counts, pd.DataFrame) else pd.Series(counts, dtype="float64").to_frame("count")
    if not 1 <= table.shape[1] <= len(VALUE_COLOURS):
        raise AudiotkError(f"tree: expected 1 to {len(VALUE_COLOURS)} values a node, got columns {list(table.columns)}")
    if isinstance(counts, pd.Series) and counts.name is not None:
        table = table.set_axis([str(counts.name)], axis=1)
    given = list(table.index)
    table = table.astype("float64").set_axis(ontology.positions(given), axis=0)
    bad = (table < 0) | np.isinf(table)
    if bad.any(axis=None):
        at = int(bad.any(axis=1).to_numpy().argmax())
        raise AudiotkError(f"tree: expected values >= 0, got {table.iloc[at].to_dict()} for {given[at]!r}")
    if table.index.has_duplicates:
        raise AudiotkError(f"tree: {ontology.names[table.index[table.index.duplicated()][0]]!r} has two rows of values")
    return table


# --- what is drawn where ----------------------------------------------------------------------------------------------


def _outline(ontology: Ontology, root: str | None, depth: int | None) -> list[_Row]:
    """Rows from top to bottom: depth first, children in the order of the ontology."""
    tops = ontology.positions(ontology.roots if root is None else [root]).tolist()
    inside = set(tops).union(*(ontology.positions(ontology.descendants(ontology.ids[top])).tolist() for top in tops))
    names = [_shown(name) for name in ontology.names]
    rows: list[_Row] = []
    home: dict[int, int] = {}  # node -> row where it is drawn in full

    def walk(node: int, level: int, parent: int) -> None:
        if node in home:
            first = rows[home[node]].parent
            rows.append(_Row(node, level, parent, "again", f"↑ {names[rows[first].node]}"))
            return
        home[node] = len(rows)
        others = ontology.positions(ontology.parents(ontology.ids[node])).tolist()
        notes = [f"+ {names[other]}" for other in sorted(others) if other not in inside and parent >= 0]
        below = sorted(ontology.positions(ontology.children(ontology.ids[node])).tolist())
        if depth is not None and level >= depth and below:
            notes.insert(0, f"… {len(ontology.descendants(ontology.ids[node]))} below")
            below = []
        rows.append(_Row(node, level, parent, "node", "  ".join(notes)))
        here = len(rows) - 1
        for child in below:
            walk(child, level + 1, here)

    for top in tops:
        walk(top, 0, -1)
    return rows


def _columns(rows: Sequence[_Row], count: int) -> list[list[_Row]]:
    """Cut rows into `count` columns, best before a high node; each repeats the nodes above its first row."""
    size, cuts = len(rows) / count, [0]
    for place in range(1, count):
        goal, slack = place * size, max(1.0, 0.2 * size)
        near = [i for i in range(cuts[-1] + 1, len(rows)) if abs(i - goal) <= slack]
        if near:
            cuts.append(min(near, key=lambda i: (rows[i].level + 2 * abs(i - goal) / slack, i)))
    parts = []
    for start, end in zip(cuts, [*cuts[1:], len(rows)], strict=True):
        above: list[int] = []
        at = rows[start].parent
        while at >= 0:
            above.insert(0, at)
            at = rows[at].parent
        moved = {old: new for new, old in enumerate([*above, *range(start, end)])}
        part = [_Row(rows[i].node, rows[i].level, moved.get(rows[i].parent, -1), "context") for i in above]
        part += [_Row(row.node, row.level, moved.get(row.parent, -1), row.kind, row.note) for row in rows[start:end]]
        parts.append(part)
    return parts


# --- drawing ----------------------------------------------------------------------------------------------------------


def _width(
    text: str, size: float = SIZE, style: Literal["normal", "italic"] = "normal", weight: str = "normal"
) -> float:
    """Width of a line of text in inches."""
    font = FontProperties(family=STYLE["font.family"], size=size, style=style, weight=weight)
    return 1.04 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72 if text else 0.0


def _number(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"


def _short_number(value: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


@dataclass(frozen=True)
class _Column:
    """Where one column of rows lies, in inches."""

    rows: Sequence[_Row]
    left: float
    names: float  # width of indented names and notes
    numbers: tuple[float, ...]  # widths of the numbers of each value

    @property
    def right(self) -> float:
        return self.left + self.names + (BAR + sum(self.numbers) + PAD * len(self.numbers) if self.numbers else 0.0)


def _place(ontology: Ontology, rows: Sequence[_Row], values: pd.DataFrame, left: float) -> _Column:
    names = [_shown(ontology.names[row.node]) for row in rows]
    wide = [
        _x(0.0, row.level) + PAD + _width(name, style="italic") + PAD + _width(row.note, SMALL)
        for name, row in zip(names, rows, strict=True)
    ]
    own = values.loc[[row.node for row in rows if row.kind == "node" and row.node in values.index]]
    numbers = [
        max(_width(text, SMALL, weight="bold") for text in (str(name), *map(_number, own[name]))) for name in values
    ]
    return _Column(rows, left, max(wide) + PAD, tuple(numbers))


def _x(left: float, level: int) -> float:
    """Where the dot of a node is."""
    return left + 0.05 + INDENT * level


def _draw(ontology: Ontology, parts: Sequence[Sequence[_Row]], values: pd.DataFrame, title: str) -> Figure:
    """Place everything in inches: one pair of axes covers the figure, the bars of each column have their own."""
    row_height = ROW + 0.03 * max(0, values.shape[1] - 1)
    top = 0.68 if values.shape[1] else 0.45
    columns: list[_Column] = []
    for rows in parts:
        columns.append(_place(ontology, rows, values, columns[-1].right + GUTTER if columns else MARGIN))
    legend = _legend(parts, values)
    told = max(_width(title, 11, weight="bold"), _width(legend, SMALL))
    width = max(columns[-1].right, MARGIN + told) + MARGIN
    height = top + row_height * max(map(len, parts)) + (0.32 if legend else 0.1)
    figure = Figure(figsize=(width, height))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, width), ylim=(height, 0))
    canvas.set_axis_off()
    canvas.text(MARGIN, 0.22, title, fontsize=11, weight="bold", va="center", parse_math=False, gid="title")
    shown = values.loc[values.index.isin([row.node for rows in parts for row in rows])].to_numpy()
    limits = _limits(shown[shown > 0])
    canvas.text(MARGIN, height - 0.13, legend, fontsize=SMALL, color=QUIET, va="center", parse_math=False, gid="legend")
    for place, column in enumerate(columns):
        ys = top + row_height * (np.arange(len(column.rows)) + 0.5)
        _draw_links(canvas, column, ys, _going_on(columns[place + 1 :]))
        _draw_names(canvas, ontology, column, values, ys)
        if values.shape[1]:
            _draw_bars(figure, column, values, limits, top / height, row_height / height)
            _draw_numbers(canvas, column, values, ys, top)
    return figure


def _legend(parts: Sequence[Sequence[_Row]], values: pd.DataFrame) -> str:
    """What the marks mean, as far as they occur."""
    rows = [row for part in parts for row in part]
    told = ["↑ drawn and counted in full under that parent"] if any(row.kind == "again" for row in rows) else []
    if any("+ " in row.note for row in rows if row.kind == "node"):
        told.append("+ a further parent outside of this tree")
    if values.shape[1] and any(row.kind == "node" and row.node not in values.index for row in rows):
        told.append("○ no class of the data")
    if values.loc[values.index.isin([row.node for row in rows if row.kind == "node"])].isna().any(axis=None):
        told.append("○ with –: no class in that column")
    return "     ".join(told)


def _limits(positive: np.ndarray) -> tuple[float, float]:
    """Ends of the logarithmic axis: a count of 1 still has a bar."""
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 1.0)
    return 0.6 * min(low, 1.0), max(1.15 * high, 10.0 * min(low, 1.0))


def _going_on(later: Sequence[_Column]) -> set[int]:
    """Nodes that are drawn before these columns and have children in them."""
    found = set()
    for column in later:
        pairs = [(row, column.rows[row.parent]) for row in column.rows if row.parent >= 0 and row.kind != "context"]
        found |= {parent.node for _, parent in pairs if parent.kind == "context"}
    return found


def _draw_links(canvas: Axes, column: _Column, ys: np.ndarray, open_ended: set[int]) -> None:
    """From each node down and right to its children; dashed to a further place of a node.

    A node in `open_ended` has more children in a later column, so its line goes to the end of this one.
    """
    solid: list[Any] = []
    dashed: list[Any] = []
    last = {row.parent: place for place, row in enumerate(column.rows)}
    for place, row in enumerate(column.rows):
        if row.parent < 0:
            continue
        x, y = _x(column.left, row.level - 1), ys[place]
        (dashed if row.kind == "again" else solid).append([(x, y), (x + INDENT, y)])
        if last[row.parent] == place:
            solid.append([(x, ys[row.parent]), (x, y)])
    for row, y in zip(column.rows, ys, strict=True):
        if row.node in open_ended and row.kind != "again":
            x = _x(column.left, row.level)
            solid.append([(x, y), (x, ys[-1] + 0.5 * ROW)])
    for lines, style in ((solid, "-"), (dashed, (0, (2, 1.5)))):
        canvas.add_collection(LineCollection(lines, colors=LINE, linewidths=0.8, linestyles=style, zorder=1))


def _draw_names(canvas: Axes, ontology: Ontology, column: _Column, values: pd.DataFrame, ys: np.ndarray) -> None:
    known = set(values.index[values.notna().all(axis=1)])
    for row, y in zip(column.rows, ys, strict=True):
        x, name = _x(column.left, row.level), _shown(ontology.names[row.node])
        full, counted = row.kind == "node", row.node in known or not values.shape[1]
        dark = full and counted
        style: Literal["normal", "italic"] = "normal" if full else "italic"
        weight = "bold" if full and row.level == 0 else "normal"
        inside = INK if dark else ("white" if full else LINE)  # hollow: no class of the data
        size = 3.4 if full else 2.4
        canvas.plot(x, y, "o", markersize=size, color=INK if dark else LINE, markerfacecolor=inside, zorder=2)
        gid = f"{row.kind}:{ontology.ids[row.node]}"
        text: dict[str, Any] = {"va": "center_baseline", "parse_math": False}
        canvas.text(
            x + PAD, y, name, fontsize=SIZE, color=INK if dark else QUIET, style=style, weight=weight, gid=gid, **text
        )
        if row.note:
            at = x + PAD + _width(name, SIZE, style, weight) + 0.5 * PAD
            canvas.text(at, y, row.note, fontsize=SMALL, color=QUIET, gid=f"note:{ontology.ids[row.node]}", **text)


def _draw_bars(
    figure: Figure, column: _Column, values: pd.DataFrame, limits: tuple[float, float], top: float, row: float
) -> None:
    """Bars in axes with one unit a row; `top` and `row` are shares of the figure's height."""
    width, size = figure.get_figwidth(), len(column.rows)
    axes = figure.add_axes(((column.left + column.names) / width, 1 - top - row * size, BAR / width, row * size))
    axes.set(xscale="log", xlim=limits, ylim=(size - 0.5, -0.5), facecolor="none", yticks=[])
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    decades = 10.0 ** np.arange(np.ceil(np.log10(limits[0])), np.floor(np.log10(limits[1])) + 1)
    decades = decades[:: -(-len(decades) // 5)]
    axes.set_xticks(decades, [_short_number(value) for value in decades], fontsize=SMALL, color=QUIET)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(length=0, pad=2)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    places = [
        (place, row.node) for place, row in enumerate(column.rows) if row.kind == "node" and row.node in values.index
    ]
    thick = 0.62 / values.shape[1]
    for number, name in enumerate(values):
        length = values[name].loc[[node for _, node in places]].to_numpy()
        y = np.array([place for place, _ in places]) + thick * (number - (values.shape[1] - 1) / 2)
        drawn = length > 0
        bars = axes.barh(
            y[drawn], length[drawn] - limits[0], left=limits[0], height=0.9 * thick, color=VALUE_COLOURS[number]
        )
        bars.set_label(str(name))


def _draw_numbers(canvas: Axes, column: _Column, values: pd.DataFrame, ys: np.ndarray, top: float) -> None:
    """One column of numbers a value, under its name."""
    right = column.left + column.names + BAR
    for number, (name, wide) in enumerate(zip(values, column.numbers, strict=True)):
        right += PAD + wide
        text: dict[str, Any] = {"fontsize": SMALL, "ha": "right", "va": "center_baseline", "parse_math": False}
        colour = VALUE_COLOURS[number]
        canvas.text(right, top - 0.09, str(name), color=colour, weight="bold", gid="heading", **text)
        for row, y in zip(column.rows, ys, strict=True):
            if row.kind == "node" and row.node in values.index:
                value = float(values[name].loc[row.node])
                canvas.text(
                    right, y, _number(value), color=INK if value > 0 else QUIET, gid=f"value:{row.node}", **text
                )
