"""Executed notebooks as clean HTML: figures and sounds embedded, code folded, and nothing that runs or is fetched."""

from __future__ import annotations

import base64
import functools
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

IMAGE_TYPES = ("image/png", "image/jpeg", "image/svg+xml")  # best first
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BESIDE = re.compile(r"(\.\.?/)*[\w%][\w%.-]*(/[\w%][\w%.-]*)*/?")  # a file near the page: no scheme, no host
_TAGS = frozenset(  # no style, script, form, frame, link or object
    re.findall(
        r"\w+",
        "a abbr audio b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h3 h4 h5 "
        "h6 hr i img kbd li mark ol p pre s small source span strong sub summary sup table tbody td tfoot th thead tr "
        "u ul wbr",
    )
)


def render_cells(cells: Sequence[Mapping[str, Any]], name: str) -> tuple[str, list[tuple[str, str]], str]:
    """Render the cells of an executed notebook.

    Parameters
    ----------
    cells
        Its cells in nbformat 4. The tag ``hide-input`` hides the code of a cell.
    name
        The name of the notebook: begins the anchors, and is the title where no first heading says one.

    Returns
    -------
    title, headings, body
        The first level-1 heading, taken out of the body; (anchor, text) of the headings below it; HTML.
    """
    title, parts = name, []
    headings: list[tuple[str, str]] = []
    for cell in cells:
        tags, source = set(cell["metadata"].get("tags", ())), "".join(cell["source"])
        if tags & {"parameters", "injected-parameters", "papermill-error-cell-tag"}:
            continue  # the report shows them in its own way
        if cell["cell_type"] == "markdown":
            if title == name and (found := re.match(r"\s*# +(.+)\n?", source)):
                title, source = found[1].strip(), source[found.end() :]
            parts.append(f"<div class=prose>{_markdown(source, slug(name), headings)}</div>")
        elif cell["cell_type"] == "code" and source.strip():
            parts.append("" if "hide-input" in tags else _code(cell, source))
            parts.extend(_output(output) for output in cell["outputs"])
    return title, headings, "".join(parts)


def _code(cell: Mapping[str, Any], source: str) -> str:
    """The source of a cell, folded: one muted line until someone opens it."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    seconds = cell["metadata"].get("papermill", {}).get("duration") or 0
    first = next(line for line in source.strip().splitlines() if line.strip())
    spent = f"<span class=muted>{duration(seconds)}</span>" if seconds >= 1 else ""
    listing = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True))
    return (
        f"<details class=code><summary><code>{html.escape(first)}</code>{spent}</summary>"
        f'<pre class="highlight">{listing}</pre></details>'
    )


def _output(output: Mapping[str, Any]) -> str:
    """One output of a cell as HTML: a figure, a sound, a table or text."""
    kind = output["output_type"]
    if kind == "error":
        return f"<pre class=traceback>{plain_text(chr(10).join(output['traceback']))}</pre>"
    if kind == "stream":
        text = plain_text("".join(output["text"]))
        if output["name"] == "stderr":
            return f"<details class=stderr><summary>messages</summary><pre>{text}</pre></details>"
        return f"<pre class=output>{text}</pre>"
    data = {
        mime: content if isinstance(content, str) else "".join(map(str, content))
        for mime, content in output["data"].items()
    }
    for mime in IMAGE_TYPES:
        if mime in data:
            raw = data[mime].encode()
            coded = base64.b64encode(raw).decode() if mime == "image/svg+xml" else "".join(data[mime].split())
            told = plain_text(data.get("text/plain", "figure"))
            return f'<figure><img alt="{told}" src="data:{mime};base64,{html.escape(coded)}"></figure>'
    if "text/html" in data:
        return f"<div class=rich>{_clean(data['text/html'])}</div>"
    if "text/markdown" in data:
        return f"<div class=prose>{_markdown(data['text/markdown'], 'output', [])}</div>"
    if "application/vnd.jupyter.widget-view+json" in data or "text/plain" not in data:
        return ""  # a widget has nothing to show on paper
    return f"<pre class=output>{plain_text(data['text/plain'])}</pre>"


def _markdown(source: str, anchor: str, headings: list[tuple[str, str]]) -> str:
    """Markdown as clean HTML; its headings move down one level, get anchors and are added to `headings`."""
    import mistune

    rendered = str(mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])(source))

    def move(found: re.Match[str]) -> str:
        level, inner = min(int(found[1]) + 1, 6), found[2]
        text = html.unescape(re.sub(r"<[^>]*>", "", inner))
        target = f"{anchor}-{len(headings)}-{slug(text)}"
        if level <= 3:
            headings.append((target, text))
        level = max(level, 3)
        return f'<h{level} id="{target}">{inner}</h{level}>'

    return _clean(re.sub(r"<h([1-6])>(.*?)</h\1>", move, rendered, flags=re.S))


def _clean(text: str) -> str:
    """HTML from a notebook without scripts, styles, forms, frames, or anything that would be fetched."""
    text = re.sub(r"<(script|style)\b.*?(</\1\s*>|\Z)", "", text, flags=re.S | re.I)  # bleach would keep what is inside
    return _cleaner().clean(text)


@functools.cache
def _cleaner() -> Any:
    import bleach
    from bleach.css_sanitizer import CSSSanitizer

    def allowed(tag: str, name: str, value: str) -> bool:
        if name == "src":
            return value.startswith(
                {"img": "data:image/", "audio": "data:audio/", "source": "data:audio/"}.get(tag, "?")
            )
        if name == "href":
            return tag == "a" and (value.startswith(("#", "https://", "http://")) or bool(_BESIDE.fullmatch(value)))
        if name == "id":
            return tag in ("h3", "h4", "h5", "h6")
        known = {"audio": ("controls", "title"), "img": ("alt", "width", "height"), "source": ("type",)}
        return name in ("colspan", "rowspan", "scope", "title", "class", "style", "open", *known.get(tag, ()))

    text = ("color", "background-color", "text-align", "font-weight", "font-style", "white-space")
    looks = CSSSanitizer([*text, "display", "flex-wrap", "gap", "margin", "width"])
    return bleach.Cleaner(_TAGS, allowed, ["data", "https", "http"], strip=True, css_sanitizer=looks)


def code_css() -> str:
    from pygments.formatters import HtmlFormatter

    def rules(style: str) -> str:
        css = str(HtmlFormatter(style=style).get_style_defs(".highlight"))
        return "\n".join(line for line in css.splitlines() if line.startswith(".highlight ."))

    return f"{rules('friendly')}\n@media (prefers-color-scheme: dark) {{\n{rules('github-dark')}\n}}"


def plain_text(text: str) -> str:
    """Terminal output as escaped text: no colours, and of a progress bar only its last state."""
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ANSI.sub("", text).split("\n"))
    return html.escape("\n".join(lines).strip("\n"))


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
