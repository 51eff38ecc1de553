"""The review in a real browser: the page's JavaScript with the real Python behind it, without Jupyter in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab_server import Lab, jupyterlab, write_notebook
from page_bridge import EVIL, Screen, chromium, kept, screens, write_sounds

from audiotk.doctor import find_chromium
from audiotk.ontology import Ontology
from audiotk.relabel.audit import Audit
from audiotk.tables import Labels, make_segments
from audiotk.widgets.review import RuleReview

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")

CLASSES = ["Dog", "Guitar, mastication", EVIL]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_sounds(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def make_review(sounds: pd.DataFrame) -> Callable[..., RuleReview]:
    """Six segments, three classes; Dog and the evil one added, Guitar masked."""

    def make(end_s: float = 4.0, **options: Any) -> RuleReview:
        segments = make_segments(sounds["recording"], 1.0, end_s)["segment"]
        before = Labels.from_frame(pd.DataFrame(0.0, index=segments, columns=CLASSES))
        values = np.tile([1.0, np.nan, 1.0], (6, 1))
        after = Labels.from_frame(pd.DataFrame(values, index=segments, columns=CLASSES), default=0.0)
        scores = pd.DataFrame(np.linspace(0.99, 0.05, 18).reshape(6, 3), index=segments, columns=CLASSES)
        ontology = Ontology.from_records(
            [{"id": "a", "name": "Animal", "child_ids": ["d"]}, {"id": "d", "name": "Dog", "child_ids": []}]
        )
        given: dict[str, Any] = {"labeler": "anna", "rng": np.random.default_rng(0), "ontology": ontology}
        return RuleReview(Audit("pe-cml", before, after), scores, **given | {"recordings": sounds} | options)

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def open_screen(browser: Any) -> Iterator[Callable[..., Screen]]:
    with screens(browser) as make:
        yield lambda review, *given, **options: make(review.make_widget(), *given, **options)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_keys_alone_judge_hear_and_undo(
    scheme: str, make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    review = make_review(store=tmp_path / "labels.sqlite")
    screen = open_screen(review, scheme)
    screen.expect(cell="0", judged="0", playing="false")
    screen.page.keyboard.press("Tab")  # the first stop is the review itself, and a real gesture
    screen.press("a")
    screen.expect(cell="1", playing="true")  # moved on and plays by itself
    sync_api.expect(screen.page.locator(".atk-question")).to_have_text(
        "The rule hides this label as doubtful. Is the class there?"
    )
    screen.press("n", "r", "u", "j", "j", "k", "y")
    screen.expect(judged="5", saved="saved", cell="6")
    assert review.cells["verdict"].tolist()[:7] == ["present", "absent", "absent", "unsure", "", "present", ""]
    screen.press("Control+z")
    screen.expect(judged="4", saved="saved", cell="5", verdict="")
    cells = review.cells
    judged = cells[cells["verdict"] != ""]
    value = judged["verdict"].map({"present": 1.0, "absent": 0.0, "unsure": -1.0})
    assert sorted(kept(tmp_path / "labels.sqlite")) == sorted(
        zip(judged["segment"], judged["class_name"], value, strict=True)
    )
    told = {change: (str(row["n"]), f"{row['value']:.4f}") for change, row in review.precision().T.items()}
    shown = screen.page.eval_on_selector_all(
        ".atk-estimate", "nodes => nodes.map((n) => [n.dataset.change, n.dataset.n, n.dataset.value])"
    )
    assert {change: (n, value) for change, n, value in shown} == told
    ink, ground = (
        screen.root.evaluate(f"node => getComputedStyle(node).{what}") for what in ("color", "backgroundColor")
    )
    light = [sum(int(part) for part in colour[4:-1].split(",")[:3]) / 765 for colour in (ink, ground)]
    assert (light[1] > 0.8) == (scheme == "light")
    assert abs(light[0] - light[1]) > 0.6


def test_nothing_plays_before_a_gesture_and_sound_stops_at_the_end_of_the_segment(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen]
) -> None:
    screen = open_screen(make_review(end_s=2.0))
    assert screen.root.get_attribute("data-time") is None
    screen.root.focus()
    screen.press("Space")
    screen.expect(time="2.000", playing="false")
    long = open_screen(make_review(end_s=59.0))
    long.root.focus()
    long.press("Space")
    long.expect(playing="true")
    long.press("Space")
    long.expect(playing="false")
    assert 1.0 <= float(long.root.get_attribute("data-time")) < 59


def test_unsent_verdicts_survive_a_lost_kernel_and_a_reload(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    review = make_review(store=tmp_path / "labels.sqlite")
    screen = open_screen(review)
    screen.root.focus()
    screen.page.evaluate("window.down = true")
    screen.press("r", "u")
    screen.expect(judged="2", saved="saving")
    assert (review.cells["verdict"] == "").all()
    screen.open()
    screen.expect(judged="2", saved="saved", cell="2")
    assert review.cells["verdict"].tolist()[:3] == ["absent", "unsure", ""]
    assert len(kept(tmp_path / "labels.sqlite")) == 2
    screen.root.focus()
    screen.press("Control+z")
    screen.expect(judged="1", cell="1", saved="saved")


def test_filters_lists_and_hostile_names(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen]
) -> None:
    screen = open_screen(make_review())
    options = screen.page.get_by_role("option")
    listed = screen.page.locator("li[role=option]")
    assert listed.count() == 18
    screen.page.get_by_label("Class").select_option(EVIL)
    sync_api.expect(listed).to_have_count(6)
    assert listed.first.inner_text().startswith(EVIL)
    sync_api.expect(screen.page.locator("h3")).to_have_text(EVIL)
    screen.press("r", "a")
    screen.expect(judged="2")
    screen.page.get_by_label("Verdict").select_option("wrong")
    sync_api.expect(listed).to_have_count(1)
    screen.page.get_by_label("Verdict").select_option("open")
    sync_api.expect(listed).to_have_count(4)
    listed.nth(2).click()
    assert screen.root.get_attribute("data-cell") == listed.nth(2).get_attribute("data-cell")
    assert options.filter(has_text="any class").count() == 1
    screen.press("?")
    sync_api.expect(screen.page.get_by_role("dialog")).to_be_visible()
    screen.press("a", "Escape")  # no verdict behind the help
    sync_api.expect(screen.page.get_by_role("dialog")).to_be_hidden()
    screen.expect(judged="2")


def test_cells_without_sound_are_judged_by_name(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen]
) -> None:
    review = make_review()
    screen = open_screen(review, width=420)
    screen.root.focus()
    silent = screen.page.locator(".atk-silent")
    for recording, words in (("r4", "no sound"), ("r5", "5.wav")):
        cell = int(np.flatnonzero(review.cells["recording"] == recording)[0])
        screen.page.locator(f"li[data-cell='{cell}']").click()
        screen.expect(cell=str(cell))
        sync_api.expect(silent).to_contain_text(words)
        screen.press("Space", "u")
        sync_api.expect(screen.page.locator(f"li[data-cell='{cell}']")).to_have_attribute("data-outcome", "unsure")
    assert screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_end_and_an_empty_review(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen]
) -> None:
    screen = open_screen(make_review(n=2))
    screen.root.focus()
    screen.press("u", "u")
    status = screen.page.locator(".atk-status")
    sync_api.expect(status).to_have_text("Every drawn cell is judged.")
    screen.page.evaluate("window.close_widget()")
    assert screen.root.count() == 0
    labels = Labels.from_frame(pd.DataFrame(0.0, index=["a@0.000-1.000"], columns=["x"]))
    review = RuleReview(Audit("idle", labels, labels), labeler="anna", rng=np.random.default_rng(0))
    empty = open_screen(review, ready=None)
    sync_api.expect(empty.page.locator(".atk-status")).to_contain_text("changed no cell")


PIXEL = """(() => {
  const g = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  g.drawImage(document.querySelector(".atk-picture"), -200, -20);
  return [...g.getImageData(0, 0, 1, 1).data.slice(0, 3)];
})()"""
UNLAID = """() => {
  const { style } = document.getElementById("place");
  requestAnimationFrame(() => { style.display = "none"; });
  document.body.dataset.jpThemeLight = "false"; // heard at the end of this task, and drawn in the next frame
  Promise.resolve().then(() => requestAnimationFrame(() => { style.display = ""; }));
}"""


def test_a_theme_that_comes_while_the_page_is_not_laid_out_is_painted(
    make_review: Callable[..., RuleReview], open_screen: Callable[..., Screen]
) -> None:
    """JupyterLab takes the widget off the page for a moment when it changes its theme."""
    screen = open_screen(make_review())
    assert screen.page.evaluate(f"Math.min(...{PIXEL})") > 120
    screen.page.evaluate(UNLAID)
    screen.expect(theme="dark")
    screen.page.wait_for_function(f"Math.max(...{PIXEL}) < 120")


NOTEBOOK = """import numpy as np, pandas as pd
from audiotk.relabel.audit import Audit
from audiotk.tables import Labels, make_segments
from audiotk.widgets import RuleReview
names = list("abcd")
recordings = pd.DataFrame({"recording": names, "path": PATH, "duration_s": 60.0, "sr": 16000, "group": names})
segments = make_segments(recordings["recording"], 1.0, 4.0)["segment"]
old = Labels.from_frame(pd.DataFrame(0.0, index=segments, columns=["Dog"]))
new = Labels.from_frame(pd.DataFrame(1.0, index=segments, columns=["Dog"]), default=0.0)
rng = np.random.default_rng(0)
RuleReview(Audit("pel", old, new), labeler="anna", rng=rng, recordings=recordings, store="labels.sqlite")
"""


@pytest.mark.slow
def test_in_a_real_jupyterlab(browser: Any, sounds: pd.DataFrame, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("review", "again"):
        write_notebook(work / f"{name}.ipynb", [NOTEBOOK.replace("PATH", repr(sounds["path"][0]))])
    with jupyterlab(work, tmp_path / "home") as server:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        lab = Lab(page, server)
        lab.visit("review.ipynb")
        lab.command("notebook:run-all-cells")
        ready = "[data-testid=review][data-ready=true]"
        page.wait_for_selector(ready)
        root = page.get_by_test_id("review")
        root.click(position={"x": 200, "y": 20})
        for key in ("a", "r", "u", "Control+z", "d", "d", "x"):  # the last ones would cut the cell
            page.keyboard.press(key)
        for name, value in (("judged", "2"), ("saved", "saved"), ("playing", "true"), ("theme", "light")):
            sync_api.expect(root).to_have_attribute(f"data-{name}", value)
        assert len(lab.cells()) == 1
        page.evaluate("{ window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }); }")
        lab.wait(f"Math.max(...{PIXEL}) < 120")
        lab.open("again.ipynb")  # the kernel before is ended
        lab.command("notebook:run-all-cells")
        page.wait_for_selector(ready)
        sync_api.expect(page.get_by_test_id("review")).to_have_attribute("data-judged", "2")
        assert sorted(value for *_, value in kept(work / "labels.sqlite")) == [0.0, 1.0]
        lab.check()
        page.close()
