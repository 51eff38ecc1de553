"""The page of claims: a table with a picture of each, and a forest that shows all effects on one scale."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from audiotk.claims import KEY, NOT_RUN, effect_text
from audiotk.figures import FAINT, GREEN, INK, ORANGE, RED, STYLE
from audiotk.render import slug
from audiotk.stats import INCONCLUSIVE, NEEDS_DATA
from audiotk.widgets.base import headless

COLOURS = {"reproduced": GREEN, "not reproduced": RED, INCONCLUSIVE: ORANGE, NEEDS_DATA: "#697586", NOT_RUN: FAINT}
STANDINGS = {
    "contradicts": "contradicts what was recorded: {}", "differs": "recorded: {}", "as recorded": "as recorded",
    "new": "none recorded yet with these data, scale and settings",
}  # fmt: skip
LEGEND = (
    "In each picture the dot is our effect, the bar its 95 % interval, the solid line no effect, the dashed one the "
    "smallest effect that matters. <b>Shaded is where the claim holds</b>: reproduced where the whole bar lies inside, "
    "not reproduced where all of it lies outside, inconclusive where it crosses the dashed line (and always with few "
    "seeds or at scale smoke). A diamond is the effect that the source prints, on its own data."
)
WIDE, HIGH = 220, 42  # of the picture of a claim, in pixels
FAR = 40.0  # smallest effects that matter: what is farther is drawn at the edge


@mpl.rc_context(STYLE)
def forest(table: pd.DataFrame) -> Figure:
    """Every measured effect with its interval, in units of the smallest effect that matters, the claim to the right.

    A claim that there is *no* effect ("not lower", "not higher") is drawn as the effect that it denies: it is
    reproduced left of the dashed line, all others right of it. An interval without ends is dotted.

    Parameters
    ----------
    table
        As from :func:`audiotk.claims.table`; rows without a number are left out.
    """
    rows = table[table["value"].notna()]
    figure = Figure(figsize=(8.2, 1.5 + 0.3 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    for y, item in enumerate(rows.to_dict("records")):
        sign = -1 if item["direction"].endswith("lower") else 1
        value, *ends = (sign * item[name] / item["smallest_effect"] for name in ("value", "low", "high"))
        bounded, colour = bool(np.isfinite(ends).all()), COLOURS[item["verdict"]]
        low, high = sorted(ends) if bounded else (-FAR, FAR)
        axes.plot(
            np.clip([low, high], -FAR, FAR), [y, y], color=colour, linewidth=2.6, linestyle="-" if bounded else ":"
        )
        axes.plot(np.clip(value, -FAR, FAR), y, "o", color=colour, markersize=6)
        for end, mark in ((low, "<"), (high, ">")):
            if abs(end) > FAR:
                axes.plot(np.sign(end) * FAR, y, mark, color=colour, markersize=7, clip_on=False)
    denies = [str(direction).startswith("not") for direction in rows["direction"]]
    names = [f"{name}{' (denies)' if no else ''}" for name, no in zip(rows.index, denies, strict=True)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle="--")
    axes.set_xscale("symlog", linthresh=2, linscale=1.2)
    axes.set_xlim(-FAR * 1.12, FAR * 1.12)
    ticks = [-30, -10, -3, -1, 0, 1, 3, 10, 30]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color="#eef0f3", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "effect, in smallest effects that matter (dashed line); a claim says: to the right, if it denies: left"
    )
    found = [verdict for verdict in COLOURS if verdict in set(rows["verdict"])]
    handles = [Line2D([], [], color=COLOURS[one], marker="o", linewidth=2.6, label=one) for one in found]
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def page(table: pd.DataFrame, run: str = "", out: str | Path = "") -> Any:
    """All claims as from :func:`audiotk.claims.of_notebook` with the same `run` and `out`, for a notebook.

    Links lead from where the page lies (headless beside `out`, else in the current folder) into the run folder.
    """
    from IPython.display import HTML

    here = Path(out).parent if headless() else Path.cwd()
    return HTML(claims_html(table, Path(os.path.relpath(run or Path(out).parent, here)).as_posix()))


def claims_html(table: pd.DataFrame, folder: str = ".", anchors: bool = False) -> str:
    """Claims as an HTML table, those that were not run at the end.

    Parameters
    ----------
    table
        As from :func:`audiotk.claims.table`.
    folder
        The run folder as seen from the page: where links to executed notebooks and their folders lead.
    anchors
        Whether the notebooks are parts of the same page, so that their names lead there.
    """
    done, rest = table[table["verdict"] != NOT_RUN], table[table["verdict"] == NOT_RUN]
    lines = [_row(str(name), item.to_dict(), folder, anchors) for name, item in [*done.iterrows(), *rest.iterrows()]]
    heads = {"": 6, "claim": 33, "printed": 10, "ours, 95 % interval": 21, "verdict": 13, "made with": 17}  # per cent
    head = "".join(f'<th style="text-align:left;width:{width}%">{text}</th>' for text, width in heads.items())
    style = "width:100%;table-layout:fixed"
    caption = f'<caption style="text-align:left;white-space:normal"><small>{LEGEND}</small></caption>'
    return f'<table style="{style}">{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def strip(item: Mapping[Any, Any]) -> str:
    """The picture of one claim (a row of :func:`audiotk.claims.table`) as SVG; "" without a number.

    Shaded is where the claim holds, from the smallest effect that matters on: *reproduced* is an interval that lies
    wholly inside, *not reproduced* one wholly outside. A diamond is the effect that the source prints.
    """
    numbers = [float(item[name]) for name in ("value", "low", "high", "printed_effect") if pd.notna(item[name])]
    if pd.isna(item["value"]):
        return ""
    lower, denies = item["direction"].endswith("lower"), item["direction"].startswith("not")
    edge = -item["smallest_effect"] if lower else float(item["smallest_effect"])
    low, high = min(0.0, edge, *numbers), max(0.0, edge, *numbers)
    room = max(0.09 * (high - low), 0.4 * abs(edge))
    low, high = low - room, high + room

    def x(value: float) -> str:
        return f"{WIDE * (value - low) / (high - low):.1f}"

    colour, middle = COLOURS[item["verdict"]], 14
    begins, ends = (low, edge) if lower != denies else (edge, high)
    bounded = pd.notna(item["low"]) and pd.notna(item["high"])
    ends_at = (x(item["low"]), x(item["high"])) if bounded else ("0", str(WIDE))
    dotted = "" if bounded else ' stroke-dasharray="2 4"'
    marks = [
        f'<path d="M0 28.5H{WIDE}" stroke="#7b8794" stroke-opacity="0.5"/>',
        f'<rect x="{x(begins)}" width="{float(x(ends)) - float(x(begins)):.1f}" height="28" fill="{GREEN}" '
        'fill-opacity="0.2"/>',
        f'<path d="M{x(0)} 0V28" stroke="#7b8794"/>',
        f'<path d="M{x(edge)} 0V28" stroke="{GREEN}" stroke-dasharray="3 2"/>',
        f'<path d="M{ends_at[0]} {middle}H{ends_at[1]}" stroke="{colour}" stroke-width="3"{dotted}/>',
        f'<circle cx="{x(item["value"])}" cy="{middle}" r="4.5" fill="{colour}"/>',
    ]
    if pd.notna(item["printed_effect"]):
        marks.append(
            f'<path d="M{x(item["printed_effect"])} {middle - 6}l5 6l-5 6l-5 -6z" fill="#fff" stroke="{INK}" '
            'stroke-width="1.5"/>'
        )
    for value, told, outward in ((0.0, "0", not lower), (edge, f"{edge:+g}".replace("-", "−"), lower)):
        anchor = "end" if outward else "start"  # away from each other, however near they are
        marks.append(f'<text x="{x(value)}" y="39" text-anchor="{anchor}">{told}</text>')
    told = html.escape(_in_words(item))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" '
        f'role="img" aria-label="{told}" font-family="sans-serif" font-size="11" fill="#7b8794"><title>{told}</title>'
        f"{''.join(marks)}</svg>"
    )


def _in_words(item: Mapping[Any, Any]) -> str:
    """What the picture of a claim shows, for who cannot see it."""
    printed = "" if pd.isna(item["printed_effect"]) else f"; the source prints {item['printed_effect']:+g}"
    return f"effect {effect_text(item)}; {_rule(item)}{printed}; {item['verdict']}".replace("-", "−")


def counts(table: pd.DataFrame) -> pd.Series:
    """How many claims have which verdict."""
    return table["verdict"].value_counts().reindex([one for one in COLOURS if one in set(table["verdict"])])


def _row(name: str, item: Mapping[Any, Any], folder: str, anchors: bool) -> str:
    left = "text-align:left;white-space:normal"
    claim, effect = html.escape(str(item["claim"])), html.escape(str(item["effect"]))
    place = html.escape(f"{item['source']}, {item['place']}")
    measured = f"{place}. Measured: {effect}; {_rule(item)}."
    changed = f"<br><small>Changed {html.escape(item['changed'])}</small>" if item["changed"] else ""
    verdict, told = str(item["verdict"]), effect_text(item)
    number, _, ends = told.partition(" ")
    standing = STANDINGS.get(str(item["standing"]), "").format(item["recorded_verdict"])
    settles = "" if verdict == "reproduced" else f"<br><small>To settle it: {html.escape(str(item['open']))}.</small>"
    cells = [
        f'<th scope="row">{html.escape(name)}</th>',
        f'<td style="{left}">{claim}<br><small>{measured}</small>{settles}{changed}</td>',
        f'<td style="{left}">{html.escape(str(item["printed"])) if item["printed"] else "–"}</td>',
        f'<td style="{left}"><b>{html.escape(number) or "–"}</b> <small>{ends}</small>{_picture(item)}</td>',
        f'<td style="{left}"><b style="color:{COLOURS[verdict]}">{html.escape(verdict)}</b>'
        f"<br><small>{html.escape(standing)}</small></td>",
        f'<td style="{left};overflow-wrap:anywhere">{_links(item, folder, anchors)}'
        f"<br><small>{html.escape(_made(item))}</small></td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _picture(item: Mapping[Any, Any]) -> str:
    """The strip as an image: reports and untrusted notebooks keep these, and drop SVG that stands in the text."""
    drawn = strip(item)
    if not drawn:
        return ""
    told, coded = html.escape(_in_words(item)), base64.b64encode(drawn.encode()).decode()
    return f'<br><img alt="{told}" title="{told}" style="width:100%" src="data:image/svg+xml;base64,{coded}">'


def _links(item: Mapping[Any, Any], folder: str, anchors: bool) -> str:
    """The notebook of a row, and where what it left lies: its executed copy and its folder."""
    notebook = str(item["notebook"] or item["experiment"])
    name = html.escape(notebook).replace("_", "_<wbr>")
    if anchors and item["verdict"] != NOT_RUN:
        name = f'<a href="#{slug(notebook)}">{name}</a>'
    files = [
        f'<a href="{html.escape(quote(f"{folder}/{file}"))}">{"executed copy" if "." in file else "folder"}</a>'
        for file in item["files"]
    ]
    return f"{name}<br><small>{' · '.join(files)}</small>" if files else name


def _rule(item: Mapping[Any, Any]) -> str:
    """The rule of the verdict: direction and the smallest effect that matters."""
    denies, way = str(item["direction"]).startswith("not"), str(item["direction"]).split()[-1]
    sign = "−" if way == "lower" else "+"
    return f"claim: {'no effect' if denies else 'effect'} of {sign}{item['smallest_effect']:g} or {way}"


def _made(item: Mapping[Any, Any]) -> str:
    if item["verdict"] == NOT_RUN:
        return ""
    told = [item[name] for name in KEY if item[name]]
    if pd.notna(item["seeds"]):
        one = int(item["seeds"]) == 1
        told.append("1 seed: interval over recordings only" if one else f"{int(item['seeds'])} seeds")
    if pd.notna(item["n"]):
        told.append(f"n = {int(item['n'])}")
    run = ", ".join(filter(None, (item["run"], item["date"]))) + f", commit {item['commit'] or 'not known'}"
    return ", ".join(told) + f"; run {run}"
