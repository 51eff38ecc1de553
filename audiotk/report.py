"""One self-contained HTML page from a run folder: results, figures, sounds, failures, and how it was made.

The page needs no network and runs no script; its content policy forbids both. Whatever comes from notebooks or data is
escaped, or passed through a list of allowed tags: figures and sounds only as ``data:`` addresses.
"""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from audiotk.claims import NOT_RUN, caveats, read_claims
from audiotk.claims import table as claims_table
from audiotk.errors import AudiotkError
from audiotk.files import atomic
from audiotk.render import code_css, duration, plain_text, render_cells, slug
from audiotk.results import read_results
from audiotk.runs import notebook_parameters, read_manifest, read_notebook

REPORT_FILE = "report.html"
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
UNKNOWN = "unknown"
MARKS = {"finished": "✓", "failed": "✗", "not run": "–", "not applicable": "–", "running": "…"}


def write_report(out: str | Path) -> Path:
    """Write ``report.html`` into the run folder `out` from its executed notebooks and results, and return its path.

    Raises
    ------
    AudiotkError
        `out` is not a run folder, or nothing was run in it.
    """
    out = Path(out)
    manifest = read_manifest(out)
    entries = manifest["notebooks"]
    if not entries:
        raise AudiotkError(f"{out}: no notebook was run in this folder; first: audiotk run NOTEBOOK --out {out}")
    results = read_results(out)
    notebooks = {name: _notebook(name, entry, out) for name, entry in sorted(entries.items())}
    titles = {name: title for name, (title, _, _) in notebooks.items()}
    page = _PAGE.format(
        policy=html.escape(POLICY),
        css=Path(__file__).with_suffix(".css").read_text("utf-8") + code_css(),
        title=html.escape(_page_title(out, titles)),
        facts=_facts(manifest),
        headline=_headline(results),
        claims=_claims(out),
        nav=_nav(entries, notebooks, has_results=len(results) > 0, has_claims=len(read_claims(out)) > 0),
        failures=_failures(entries, titles),
        results=_results(results),
        notebooks="\n".join(body for _, _, body in notebooks.values()),
        made=_made(manifest, out),
    )
    with atomic(out / REPORT_FILE) as draft:
        draft.write_text(page, "utf-8")
    return out / REPORT_FILE


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title} · audiotk</title>
<style>
{css}
</style>
</head>
<body>
<header id="top">
<div class="brand">audiotk<span> run report</span></div>
<h1>{title}</h1>
<p class="facts">{facts}</p>
{headline}
</header>
<div class="columns">
<nav aria-label="Contents">{nav}</nav>
<main>
{failures}
{claims}
{results}
{notebooks}
{made}
</main>
</div>
</body>
</html>
"""


# --- the frame --------------------------------------------------------------------------------------------------------


def _page_title(out: Path, titles: Mapping[str, str]) -> str:
    return next(iter(titles.values())) if len(titles) == 1 else out.resolve().name


def _facts(manifest: Mapping[str, Any]) -> str:
    """When, how long, how much memory and what became of the notebooks, in one line."""
    statuses = [entry["status"] for entry in manifest["notebooks"].values()]
    counts = [
        _status(status, f"{MARKS[status]} {statuses.count(status)} {status}") for status in MARKS if status in statuses
    ]
    told = [_when(manifest["started"])]
    told += [duration(manifest["seconds"])] if manifest.get("seconds") else []
    told += [f"peak memory {_memory(manifest['peak_memory_mb'])}"] if manifest.get("peak_memory_mb") else []
    told += [f"commit {html.escape(' and '.join(_distinct(manifest, _commit)))}"]
    return " ".join(counts) + " " + " · ".join(told)


def _nav(entries: Mapping[str, Any], notebooks: Mapping[str, Any], has_results: bool, has_claims: bool) -> str:
    failed = any(entry["status"] == "failed" for entry in entries.values())
    items = ['<li><a href="#failures">Failures</a></li>'] * failed
    items += ['<li><a href="#claims">Claims</a></li>'] * has_claims
    items += ['<li><a href="#results">Results</a></li>'] * has_results
    for name, (title, headings, _) in notebooks.items():
        status = entries[name]["status"]
        below = "".join(f'<li><a href="#{anchor}">{html.escape(text)}</a></li>' for anchor, text in headings)
        link = f'{_status(status, MARKS[status])}<a href="#{slug(name)}">{html.escape(title)}</a>'
        items.append(f"<li>{link}<ul>{below}</ul></li>")
    items.append('<li><a href="#made">How this was made</a></li>')
    return f"<ul>{''.join(items)}</ul>"


def _failures(entries: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """What went wrong, first on the page; empty when nothing did."""
    parts = []
    for name, entry in sorted(entries.items()):
        error = entry.get("error")
        if not error:
            continue
        link = f'<a href="#{slug(name)}">{html.escape(titles[name])}</a>'
        if entry["status"] == "not run":
            parts.append(f"<p>{link} was not run: it needs {html.escape(error['text'])}.</p>")
            continue
        if entry["status"] == "not applicable":
            parts.append(f"<p>{link} does not apply: {html.escape(error['text'])}.</p>")
            continue
        where = f" in cell [{error['cell']}]" if error.get("cell") else ""
        told = f"{error['name']}: {error['text']}"
        parts.append(
            f"<h3>{link}</h3><p><strong>{html.escape(told)}</strong>{where}</p>"
            f"<pre class=traceback>{plain_text(error['traceback'])}</pre>"
        )
    bad = any(entry["status"] in ("failed", "not run") for entry in entries.values())
    title, look = ("Failures", "card bad") if bad else ("Not applicable", "card")
    return f'<section id="failures" class="{look}"><h2>{title}</h2>{"".join(parts)}</section>' if parts else ""


def _made(manifest: Mapping[str, Any], out: Path) -> str:
    """Versions, machine, parameters and the command that makes the same again."""
    rows = [
        (name, "; ".join(_distinct(manifest, of)))
        for name, of in {"commit": _commit, "machine": _machine, "versions": _versions}.items()
    ]
    told = "".join(f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in rows)
    timed = "".join(
        f"<tr><td><a href='#{slug(name)}'>{html.escape(name)}</a></td><td>{entry['status']}</td>"
        f"<td class=number>{duration(entry['seconds'])}</td><td class=number>{_memory(entry['peak_memory_mb'])}</td>"
        f"<td>{_when(entry['started'])}</td><td>{html.escape(_commit(entry))}</td>"
        f"<td><code>{html.escape(_command(entry, out))}</code></td></tr>"
        for name, entry in sorted(manifest["notebooks"].items())
    )
    return (
        f'<section id="made" class="card"><h2>How this was made</h2><table class="facts-table">{told}</table>'
        "<div class=scroll><table><thead><tr><th>notebook</th><th>status</th><th>time</th><th>peak memory</th>"
        "<th>started</th><th>commit</th>"
        f"<th>command</th></tr></thead><tbody>{timed}</tbody></table></div>"
        "<p class=muted>One file, no network, no scripts: keep it or mail it. Only links to executed copies and "
        "folders need the run folder beside it.</p></section>"
    )


def _distinct(manifest: Mapping[str, Any], of: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """What the notebooks say of their circumstances, each text once: they may have run in calls of different days."""
    return list(dict.fromkeys(of(entry) for _, entry in sorted(manifest["notebooks"].items())))


def _commit(entry: Mapping[str, Any]) -> str:
    return str(entry.get("commit") or UNKNOWN)


def _machine(entry: Mapping[str, Any]) -> str:
    machine = entry.get("machine")
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}" if machine else UNKNOWN


def _versions(entry: Mapping[str, Any]) -> str:
    versions = {"python": entry["python"], **entry["versions"]} if "versions" in entry else {}
    return ", ".join(f"{name} {version or 'absent'}" for name, version in versions.items()) or UNKNOWN


def _command(entry: Mapping[str, Any], out: Path) -> str:
    given = {name: value for name, value in entry["parameters"].items() if name != "out"}
    words = ["audiotk", "run", entry["source"], "--out", str(out)]
    for name, value in given.items():
        words += ["-p", name, str(value)]
    return shlex.join(words)


def _notebook(name: str, entry: Mapping[str, Any], out: Path) -> tuple[str, list[tuple[str, str]], str]:
    """Title, (anchor, text) of its headings, and the HTML of one executed notebook."""
    path = out / f"{name}.ipynb"
    title, headings, body = render_cells(read_notebook(path)["cells"] if path.exists() else [], name)
    parameters = (notebook_parameters(path) if path.exists() else {}) | entry["parameters"]
    chips = "".join(
        f"<li><span>{html.escape(key)}</span> {html.escape(str(value)) if value not in ('', None) else '–'}</li>"
        for key, value in parameters.items()
    )
    spent = f" · {duration(entry['seconds'])}" if entry["seconds"] else ""
    page = (
        f'<article id="{slug(name)}" class="card"><h2>{html.escape(title)}</h2>'
        f"<p class=facts>{_status(entry['status'])} {html.escape(name)}{spent}</p><ul class=chips>{chips}</ul>"
        f"{body or '<p class=muted>This notebook has no executed copy.</p>'}</article>"
    )
    return title, headings, page


def _status(status: str, text: str | None = None) -> str:
    told = f"{MARKS[status]} {status}" if text is None else text
    return f'<span class="status {status.replace(" ", "-")}" title="{status}">{told}</span>'


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(out: Path) -> str:
    """What this run says of the sources' claims, before all numbers; empty when it tested none."""
    found = claims_table(out)
    done = found["verdict"] != NOT_RUN
    if not done.any():
        return ""
    from audiotk.claim_figures import claims_html, counts

    told = " · ".join(f"{n} {verdict}" for verdict, n in counts(found[done]).items())
    told = " ".join([f"{told}.", *caveats(found[done])])
    rest = ", ".join(found.index[~done])
    missing = f"<p class=muted>Not run here: {html.escape(rest)}.</p>" if rest else ""
    return (
        f'<section id="claims" class="card"><h2>Claims of the sources</h2><p class=muted>{html.escape(told)}</p>'
        f"<div class=scroll>{claims_html(found[done], anchors=True)}</div>{missing}</section>"
    )


# --- results ----------------------------------------------------------------------------------------------------------


def _results(results: pd.DataFrame) -> str:
    """Per experiment the means first; rows of single classes and seeds are folded away."""
    if results.empty:
        return ""
    parts: list[str] = []
    alone, folded = [], []  # experiments whose mean is one number share a table
    for experiment, rows in results.groupby("experiment", sort=False):
        mean = rows["class_name"].isna()
        first = mean & rows["seed"].isna()
        first = first if first.any() else mean if mean.any() else pd.Series(True, index=rows.index)
        if first.sum() == 1:
            alone.append(rows[first])
            folded.append(rows[~first])
        else:
            parts.append(f"<h3>{html.escape(str(experiment))}</h3>{_arms(rows[first])}{_folded(rows[~first])}")
    if alone:
        parts.insert(0, _result_table(pd.concat(alone)) + _folded(pd.concat(folded)))
    told = "Intervals are 95 %; n is how many units (groups of recordings, splits or seeds) a number rests on."
    return f'<section id="results" class="card"><h2>Results</h2><p class=muted>{told}</p>{"".join(parts)}</section>'


def _folded(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    return f"<details><summary>by class or seed ({len(rows)})</summary>{_result_table(rows)}</details>"


def _arms(rows: pd.DataFrame) -> str:
    """Metrics by arms, where there are several arms and each number is named by these two; else one row a number."""
    arms = rows["arm"].unique()
    if len(arms) == 1 or rows.duplicated(["metric", "arm"]).any():
        return _result_table(rows)
    cells = {
        (row["metric"], row["arm"]): f"<b>{_number(row['value'])}</b><small>{_interval(row)}</small>"
        for row in rows.to_dict("records")
    }
    head = "".join(f"<th class=number>{html.escape(arm)}</th>" for arm in arms)
    body = "".join(
        f"<tr><th>{html.escape(metric)}</th>"
        + "".join(f"<td class=number>{cells.get((metric, arm), '')}</td>" for arm in arms)
        + "</tr>"
        for metric in rows["metric"].unique()
    )
    return (
        f"<p class=muted>{_common(rows, ['seed', 'data', 'scale', 'split', 'n'])}; small: 95 % interval</p>"
        f"<div class=scroll><table class='results arms'><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _common(rows: pd.DataFrame, names: list[str]) -> str:
    """The values that are the same in all rows, as words."""
    same = [name for name in names if rows[name].nunique(dropna=False) == 1 and pd.notna(rows[name].iloc[0])]
    return html.escape(" · ".join(f"{name.split('_')[0]} {rows[name].iloc[0]}" for name in same))


def _headline(results: pd.DataFrame) -> str:
    """Up to four numbers on held-out recordings, large: the first mean of each experiment, less its "x: parts"."""
    mean = results[results["class_name"].isna() & (results["split"] == "test") & results["value"].notna()]
    mean = mean[~mean["experiment"].str.contains(": ", regex=False)]
    first = mean.sort_values("seed", na_position="first", kind="stable").drop_duplicates("experiment")
    cards = [
        f"<li><b>{_number(row['value'])}</b><span>{html.escape(row['metric'])} · {html.escape(row['arm'])}</span>"
        f"<span>{html.escape(row['experiment'])}{f', 95 %: {_interval(row)}' if _interval(row) else ''}</span></li>"
        for row in first.sort_index().head(4).to_dict("records")
    ]
    return f"<ul class=headline>{''.join(cards)}</ul>" if cards else ""


def _result_table(rows: pd.DataFrame) -> str:
    """One table; columns that say the same in every row are said once, above it."""
    told = ["experiment", "arm", "seed", "data", "scale", "split", "class_name"]
    shown = [name for name in told if rows[name].nunique(dropna=False) > 1]
    shown.insert(shown.index("experiment") + 1 if "experiment" in shown else 0, "metric")
    head = "".join(f"<th>{name.split('_')[0]}</th>" for name in shown)
    body = ""
    for row in rows.to_dict("records"):
        cells = [f"<td>{_cell(row[name])}</td>" for name in shown]
        cells += [f"<td class='number value'>{_number(row['value'])}</td>", f"<td class=number>{_interval(row)}</td>"]
        cells += [f"<td>{_bar(row)}</td>", f"<td class=number>{_cell(row['n'])}</td>"]
        body += f"<tr>{''.join(cells)}</tr>"
    return (
        f"<p class=muted>{_common(rows, told)}</p><div class=scroll><table class=results><thead><tr>{head}"
        "<th class=number>value</th><th class=number>95 % interval</th><th></th><th class=number>n</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    return "" if pd.isna(value) else html.escape(str(value))


def _number(value: float) -> str:
    if pd.isna(value):
        return "–"
    value = round(value, 3) + 0.0  # no -0.000
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _interval(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return ""
    same = math.isclose(row["low"], row["high"], rel_tol=0, abs_tol=1e-9)
    return "no spread" if same else f"{_number(row['low'])} to {_number(row['high'])}"


def _bar(row: Mapping[Any, Any]) -> str:
    """Value and interval drawn on the range 0 to 1; empty for numbers outside of it."""
    low, value, high = (100 * float(row[name]) for name in ("low", "value", "high"))
    if not 0 <= low <= high <= 100 or not 0 <= value <= 100:  # also false for NaN
        return ""
    return (
        '<svg class=bar viewBox="-2 0 104 12" role="img" aria-label="on a scale from 0 to 1">'
        f'<path d="M0 6H100" class=axis /><path d="M{low:.1f} 6H{high:.1f}" class=range />'
        f'<circle cx="{value:.1f}" cy="6" r="3.4" /></svg>'
    )


def _when(at: str) -> str:
    return f"{datetime.fromisoformat(at).astimezone(UTC):%d %b %Y, %H:%M} UTC".lstrip("0")


def _memory(megabytes: float | None) -> str:
    return "–" if megabytes is None else f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"
