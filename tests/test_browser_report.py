"""The report of a real run, opened offline in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audiotk.doctor import find_chromium
from audiotk.report import write_report
from audiotk.runs import run_notebooks

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")

FIGURE = """%matplotlib inline
from matplotlib.figure import Figure
figure = Figure(figsize=(12, 3))
figure.subplots().plot([1, 3, 2])
figure"""
SOUND = "import numpy as np\nfrom IPython.display import Audio\nAudio(np.sin(np.arange(8000) / 9), rate=16000)"
TABLE = "import pandas as pd\npd.DataFrame({'class_name': ['<img src=x onerror=alert(1)>'], 'n': [3]})"
ROWS = """
from audiotk.runs import append_results
row = dict(experiment='e', arm='a', seed=None, data=data, scale=scale, split='test', metric='mAP', class_name=None,
           value=0.93, low=0.9, high=0.96, n=12)
append_results(out, [row])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, make_notebook: Callable[..., Path]) -> Path:
    here = tmp_path_factory.mktemp("run")
    text = "#md # See and hear\n\n## First part\n\nWords, and a [link](https://example.org).\n\n" + "Long. " * 400
    make_notebook(here / "nb" / "a.ipynb", [text, FIGURE, SOUND, TABLE, ROWS, "#md ## Last part"])
    make_notebook(here / "nb" / "b.ipynb", ["#md # Fails", "raise ValueError('<b>because</b>')"])
    run_notebooks([here / "nb"], here / "out", progress=False)
    return write_report(here / "out")


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, report: Path) -> Iterator[Any]:
    """The open report; ends with the demand that nothing was fetched and nothing went wrong."""
    troubles: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        opened = browser.new_page(color_scheme=request.param, viewport={"width": 1280, "height": 800})
        opened.on("request", lambda r: None if r.url.startswith(("data:", report.as_uri())) else troubles.append(r.url))
        opened.on("console", lambda message: troubles.append(message.text))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
        opened.goto(report.as_uri())
        yield opened
        browser.close()
    assert troubles == []


def test_everything_is_there_to_see_and_hear(page: Any) -> None:
    for heading in ("Failures", "Results", "See and hear", "First part", "Last part", "Fails", "How this was made"):
        assert page.get_by_role("heading", name=heading, exact=True).first.is_visible(), heading
    picture = page.locator("figure img").first
    assert picture.evaluate("img => img.complete && img.naturalWidth > 300")
    sync_api.expect(page.locator("audio")).to_have_js_property("duration", 0.5)  # the sound was decoded
    assert page.locator(".rich td").first.inner_text() == "<img src=x onerror=alert(1)>"  # shown as text
    assert page.locator("pre.traceback").first.inner_text().endswith("ValueError: <b>because</b>")
    assert page.locator("#results td.value").inner_text() == "0.930"


def test_code_opens_and_contents_jump(page: Any) -> None:
    code = page.locator("details.code").first
    assert not code.locator("pre").is_visible()
    code.locator("summary").click()
    assert code.locator("pre").is_visible()
    sync_api.expect(page.get_by_role("heading", name="Last part")).not_to_be_in_viewport()
    page.get_by_role("navigation").get_by_role("link", name="Last part").click()
    sync_api.expect(page.get_by_role("heading", name="Last part")).to_be_in_viewport()


def test_themes_differ_and_text_can_be_read(page: Any) -> None:
    def brightness(selector: str, what: str) -> float:
        colour = page.locator(selector).first.evaluate(f"node => getComputedStyle(node).{what}")
        return sum(int(part) for part in colour[4:-1].split(",")[:3]) / 765

    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (brightness("body", "backgroundColor") < 0.2) == dark
    for selector, ground in (("main h2", "article.card"), (".prose p", "article.card"), ("nav li li a", "body")):
        assert abs(brightness(selector, "color") - brightness(ground, "backgroundColor")) > 0.4, selector


def test_narrow_screens_do_not_scroll_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
