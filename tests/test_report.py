"""The report of a hand-made run folder: no kernel runs here (test_browser_report.py opens a real one)."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from audiotk.errors import AudiotkError
from audiotk.render import plain_text, render_cells
from audiotk.report import write_report
from audiotk.results import RESULT_COLUMNS, append_results, read_results

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()
WAV = "data:audio/wav;base64," + base64.b64encode(b"RIFF sound").decode()
HOSTILE = "<script>alert('code')</script><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "br", "hr", "img", "input", "source", "col", "path", "circle"}


class Page(HTMLParser):
    """Tags with their attributes, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, tag
            assert self.open.pop() == tag


def code(source: str, *outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=1, metadata={"tags": list(tags)})


def shown(**data: str) -> Any:
    return v4.new_output(
        "display_data", data={mime.replace("__", "/").replace("_", "+"): x for mime, x in data.items()}
    )


def entry(status: str, **more: Any) -> dict[str, Any]:
    fields = {"source": "nb/x.ipynb", "needs": [], "parameters": {"seeds": [0, 1], "out": "run/x"}, "key": "k"}
    fields |= {"commit": "abc123", "python": "3.11.1", "versions": {"numpy": "2.0", "torch": None},
               "machine": {"system": "Linux", "processor": "CPU <b>", "cores": 2}}  # fmt: skip
    return fields | {"started": "2026-01-02T03:04:05+00:00", "seconds": 61.2, "peak_memory_mb": 1536, "error": None,
                     "status": status} | more  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a good notebook full of traps, a failed one and one that was not run."""
    cells = [
        v4.new_markdown_cell(f"# Good <b>news</b>\n\nText {HOSTILE}\n\n## A & B\n\n[safe](https://example.org) "
                             "[bad](javascript:alert(1)) ![far](https://example.org/x.png)"),
        code("data = 'embedded'", tags=("parameters",)),
        code("draw()  # <script>", shown(image__png=PNG, text__plain="<Figure>")),
        code("listen()", shown(text__html=f'<audio controls src="{WAV}" onplay="alert(1)">old browser</audio>')),
        code("table()", shown(text__html=f"<style>p {{}}</style><table><tr><td>{HOSTILE}</td></tr></table>"
                                         "<iframe src='https://example.org'></iframe><link rel=stylesheet href=//x>"
                                         "<div style='background: url(https://example.org); color: red'>d</div>")),
        code("players()", shown(text__html="<div style='display: flex; position: fixed; gap: 12px'>side by side</div>",
                                text__plain="<HTML>")),
        code("svg()", shown(image__svg_xml="<svg xmlns='x'><script>alert(2)</script></svg>")),
        code("widget()", v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": "{}",
                                                             "text/plain": "Labeler(...)"})),
        code("secret_source()", v4.new_output("stream", name="stdout", text="  5%\r 50%\r100%\n\x1b[31mred\x1b[0m <i>"),
             tags=("hide-input",)),
        code("warn()", v4.new_output("stream", name="stderr", text="careful")),
    ]  # fmt: skip
    out = tmp_path / "my run"
    out.mkdir()
    nbformat.write(v4.new_notebook(cells=cells), out / "00_good.ipynb")
    failed = code("1/0", v4.new_output("error", ename="E", evalue="x", traceback=["\x1b[31mE\x1b[0m: boom <script>"]))
    nbformat.write(v4.new_notebook(cells=[failed]), out / "01_bad.ipynb")
    error = {"name": "E", "text": HOSTILE, "cell": 1, "traceback": "line 7\nE: boom <script>"}
    entries = {
        "00_good": entry("finished"),
        "01_bad": entry("failed", error=error),
        "02_after": entry(
            "not run", seconds=None, peak_memory_mb=None, commit="def456", error={"name": "Needs", "text": "01_bad"}
        ),
    }
    machine = {"system": "Linux", "processor": "CPU <b>", "cores": 2}
    manifest = {"notebooks": entries, "python": "3.11.1", "versions": {"numpy": "2.0", "torch": None}, "seconds": 3720,
                "machine": machine, "commit": "abc123", "status": "ended", "started": "2026-01-02T03:04:05+00:00",
                "peak_memory_mb": 2048}  # fmt: skip
    (out / "run.json").write_text(json.dumps(manifest))
    row = {"experiment": "quick <b>start", "arm": "melcnn", "seed": None, "data": "embedded", "scale": "smoke",
           "split": "test", "metric": "mAP", "class_name": None, "value": 0.93, "low": 0.9, "high": 0.96,
           "n": 12}  # fmt: skip
    append_results(
        out, [row, row | {"class_name": HOSTILE, "metric": "AP", "value": float("nan"), "low": float("nan")}]
    )
    return out


def test_page_is_well_formed_and_fetches_nothing(run: Path) -> None:
    page = Page(write_report(run).read_text("utf-8"))
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base"}
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "srcset", "poster", "data", "action", "background"):
            assert str(attributes.get(name, "data:")).startswith("data:"), (tag, attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "a":
            assert re.match("#|https?://", attributes.get("href") or "#"), attributes
        assert "url(" not in (attributes.get("style") or "")
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_links_of_the_contents_lead_somewhere(run: Path) -> None:
    page = Page(write_report(run).read_text("utf-8"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for tag, a in page.tags if tag == "a" and str(a.get("href")).startswith("#")}
    assert targets - set(ids) == {"harmful-link"}  # what the Markdown renderer makes of javascript:
    assert {"failures", "results", "00-good", "made"} <= targets


def test_figure_sound_and_vector_graphic_are_embedded(run: Path) -> None:
    tags = Page(write_report(run).read_text("utf-8")).tags
    pictures = [attributes["src"] for tag, attributes in tags if tag == "img" and "src" in attributes]
    assert f"data:image/png;base64,{PNG}" in pictures
    assert any(str(src).startswith("data:image/svg+xml;base64,") for src in pictures)
    assert [a for tag, a in tags if tag == "audio"] == [{"controls": "", "src": WAV}] or [
        a["src"] for tag, a in tags if tag == "audio"
    ] == [WAV]


def test_failure_comes_first_with_its_traceback(run: Path) -> None:
    text = write_report(run).read_text("utf-8")
    assert "line 7\nE: boom &lt;script&gt;" in text
    assert text.index('id="failures"') < text.index('id="results"') < text.index('id="00-good"')
    assert "was not run: it needs 01_bad" in text


def test_results_table_has_value_and_interval(run: Path) -> None:
    text = write_report(run).read_text("utf-8")
    table = text[text.index('id="results"') : text.index('id="00-good"')]
    assert "0.930" in table
    assert "0.900 to 0.960" in table
    assert "by class or seed (1)" in table
    assert "nan" not in table.lower()


def test_ends_that_differ_by_rounding_are_no_spread_and_each_experiment_has_one_large_number(run: Path) -> None:
    row = {"experiment": "e", "seed": None, "data": "embedded", "scale": "smoke", "split": "test", "class_name": None,
           "metric": "mAP", "value": 1.0, "low": 1 - 1e-15, "high": 1.0, "n": 3}  # fmt: skip
    append_results(run, [row | {"arm": arm} for arm in ("first", "second")])
    append_results(run, [row | {"experiment": "e: more of it", "arm": "third"}])
    text = write_report(run).read_text("utf-8")
    assert text.count("no spread") >= 2
    large = text[text.index("<ul class=headline>") : text.index("</ul>", text.index("<ul class=headline>"))]
    assert "first" in large
    assert "second" not in large
    assert "third" not in large


def test_arms_stand_side_by_side(run: Path) -> None:
    row = {"experiment": "e", "seed": None, "data": "embedded", "scale": "smoke", "split": "test", "class_name": None,
           "low": None, "high": None, "n": 3}  # fmt: skip
    numbers = {("mAP", "clip <labels>"): 0.111, ("mAP", "ranges"): 0.222, ("recall", "ranges"): 0.333}
    append_results(run, [row | {"metric": m, "arm": a, "value": value} for (m, a), value in numbers.items()])
    text = write_report(run).read_text("utf-8")
    table = text[text.index("<table class='results arms'>") : text.index('id="00-good"')]
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall("<t[hd].*?</t[hd]>", table)]
    assert cells == ["", "clip &lt;labels&gt;", "ranges", "mAP", "0.111", "0.222", "recall", "", "0.333"]


def test_how_it_was_made(run: Path) -> None:
    text = write_report(run).read_text("utf-8")
    for told in ("abc123", "numpy 2.0", "torch absent", "CPU &lt;b&gt;", "1 h 2 min", "1 min 1 s", "2.0 GB", "1.5 GB"):
        assert told in text, told
    assert "audiotk run nb/x.ipynb --out" in text
    assert "-p seeds &#x27;[0, 1]&#x27;" in text  # quoted for a shell
    made = text[text.index('id="made"') :]
    assert "<td>abc123; def456</td>" in made  # of the notebooks, not of the last call
    assert made.count("<td>2 Jan 2026, 03:04 UTC</td><td>def456</td>") == 1
    assert "commit abc123 and def456" in text


def test_no_interval_without_spread(run: Path) -> None:
    row = read_results(run).iloc[0][list(RESULT_COLUMNS)].to_dict()
    append_results(run, [row | {"experiment": "always", "seed": None, "class_name": None, "low": 0.93, "high": 0.93}])
    text = write_report(run).read_text("utf-8")
    assert "no spread" in text
    assert "0.930 to 0.930" not in text


def test_a_folder_from_before_notebooks_kept_their_commit(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text())
    for one in manifest["notebooks"].values():
        for name in ("commit", "python", "versions", "machine"):
            del one[name]
    (run / "run.json").write_text(json.dumps(manifest))
    assert "<tr><th>commit</th><td>unknown</td></tr>" in write_report(run).read_text("utf-8")


def test_notebook_parts(run: Path) -> None:
    text = write_report(run).read_text("utf-8")
    assert "secret_source" not in text  # hide-input
    assert "100%\nred &lt;i&gt;" in text  # last state of the progress bar, no colours
    assert " 50%" not in text
    assert "Labeler(...)" not in text  # a widget has nothing to show on paper
    assert "<span>data</span> embedded" in text  # defaults are shown beside what was given
    assert "<span>seeds</span> [0, 1]" in text
    assert '<h3 id="00-good-0-a-b">A &amp; B</h3>' in text
    assert "careful" in text
    assert '<div style="display: flex; gap: 12px;">side by side' in text


def test_text_of_scripts_and_styles_goes_too() -> None:
    cell = code("x", shown(text__html="<p>a</p><script>steal()</script><STYLE>p{}</STYLE><b>b</b><script>open"))
    _, _, body = render_cells([cell], "n")
    assert "steal" not in body
    assert "p{}" not in body
    assert "open" not in body.split("<b>b</b>")[1].split("</div>")[0]


def test_a_picture_cannot_break_out_of_its_address() -> None:
    _, _, body = render_cells([code("x", shown(image__png='x"><script>alert(1)</script>'))], "n")
    assert "<script" not in body


def test_plain_text_keeps_windows_line_ends_and_empty_text() -> None:
    assert plain_text("a\r\nb\r\n") == "a\nb"
    assert plain_text("") == ""


def test_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="no notebook was run"):
        write_report(tmp_path)
