"""The page of claims: a table to read, and a forest that shows all effects on one scale."""

from __future__ import annotations

import html
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from audiotk.claims import KEY, NOT_RUN, effect_text
from audiotk.figures import FAINT, GREEN, INK, ORANGE, RED, STYLE
from audiotk.render import slug
from audiotk.stats import INCONCLUSIVE, NEEDS_DATA

COLOURS = {"reproduced": GREEN, "not reproduced": RED, INCONCLUSIVE: ORANGE, NEEDS_DATA: "#697586", NOT_RUN: FAINT}
STANDINGS = {
    "contradicts": "contradicts what was recorded: {}", "differs": "recorded: {}", "as recorded": "as recorded",
    "new": "none recorded yet with these data, scale and settings",
}  # fmt: skip
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
    axes.set_xlabel("effect, in smallest effects that matter (dashed line); the claim says: to the right")
    found = [verdict for verdict in COLOURS if verdict in set(rows["verdict"])]
    handles = [Line2D([], [], color=COLOURS[one], marker="o", linewidth=2.6, label=one) for one in found]
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def page(table: pd.DataFrame) -> Any:
    """All claims as from :func:`audiotk.claims.table`, those that were not run at the end, for a notebook."""
    from IPython.display import HTML

    return HTML(claims_html(table))


def claims_html(table: pd.DataFrame) -> str:
    """Claims as an HTML table; notebooks are links to their part of the report."""
    done, rest = table[table["verdict"] != NOT_RUN], table[table["verdict"] == NOT_RUN]
    lines = [_row(str(name), item) for name, item in [*done.iterrows(), *rest.iterrows()]]
    heads = {"": 6, "claim": 33, "printed": 11, "ours, 95 %": 16, "verdict": 15, "made with": 19}  # widths in per cent
    head = "".join(f'<th style="text-align:left;width:{width}%">{text}</th>' for text, width in heads.items())
    style = "width:100%;table-layout:fixed"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def counts(table: pd.DataFrame) -> pd.Series:
    """How many claims have which verdict."""
    return table["verdict"].value_counts().reindex([one for one in COLOURS if one in set(table["verdict"])])


def open_ends(table: pd.DataFrame) -> Any:
    """The claims that are not reproduced, and what it would take to settle each."""
    from IPython.display import HTML

    rest = table[table["verdict"] != "reproduced"]
    lines = [
        f"<tr><th scope='row' style='text-align:left'>{html.escape(str(name))}</th>"
        f"<td style='text-align:left;color:{COLOURS[item['verdict']]}'>{html.escape(str(item['verdict']))}</td>"
        f"<td style='text-align:left;white-space:normal'>{html.escape(str(item['open']))}</td></tr>"
        for name, item in rest.iterrows()
    ]
    return HTML(f"<table><tbody>{''.join(lines)}</tbody></table>")


def _row(name: str, item: pd.Series) -> str:
    left = "text-align:left;white-space:normal"
    claim, effect = html.escape(str(item["claim"])), html.escape(str(item["effect"]))
    place = html.escape(f"{item['source']}, {item['place']}")
    changed = f"<br><small>Changed {html.escape(item['changed'])}</small>" if item["changed"] else ""
    verdict, told = str(item["verdict"]), effect_text(item.to_dict())
    number, _, ends = told.partition(" ")
    standing = STANDINGS.get(str(item["standing"]), "").format(item["recorded_verdict"])
    notebook = html.escape(str(item["experiment"]))
    link = notebook if verdict == NOT_RUN else f'<a href="#{slug(str(item["experiment"]))}">{notebook}</a>'
    cells = [
        f'<th scope="row">{html.escape(name)}</th>',
        f'<td style="{left}">{claim}<br><small>{place}. Measured: {effect}; {_rule(item)}</small>{changed}</td>',
        f'<td style="{left}">{html.escape(str(item["printed"])) if item["printed"] else "–"}</td>',
        f'<td style="white-space:nowrap"><b>{html.escape(number) or "–"}</b><br><small>{ends}</small></td>',
        f'<td style="{left}"><b style="color:{COLOURS[verdict]}">{html.escape(verdict)}</b>'
        f"<br><small>{html.escape(standing)}</small></td>",
        f'<td style="{left};overflow-wrap:anywhere">{link}<br><small>{html.escape(_made(item))}</small></td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _rule(item: pd.Series) -> str:
    """The rule of the verdict: direction and the smallest effect that matters."""
    denies, way = str(item["direction"]).startswith("not"), str(item["direction"]).split()[-1]
    sign = "−" if way == "lower" else "+"
    return f"claim: {'no effect' if denies else 'effect'} of {sign}{item['smallest_effect']:g} or {way}"


def _made(item: pd.Series) -> str:
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
