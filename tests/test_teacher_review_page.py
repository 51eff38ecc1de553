"""The review of a teacher in a real browser: keys, classes, hostile text, and the sums that Python makes of it."""

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
from audiotk.tables import Labels, make_segments
from audiotk.widgets.teacher_review import TeacherReview

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")

CLASSES = ["Dog", EVIL, "Guitar, mastication"]
VERDICT = {"present": 1.0, "absent": 0.0, "unsure": -1.0}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_sounds(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def make_review(sounds: pd.DataFrame) -> Callable[..., TeacherReview]:
    """Six segments and three classes; of each the teacher says present of four, the label of two of these, and one."""

    def make(labelled: bool = True, **options: Any) -> TeacherReview:
        segments = make_segments(sounds["recording"], 1.0, 4.0)["segment"]
        scores = pd.DataFrame(np.tile(np.linspace(0.9, 0.1, 6)[:, None], 3), index=segments, columns=CLASSES)
        said = pd.DataFrame(np.tile(np.array([[0, np.nan, 1, 1, 1, 0]]).T, 3), index=segments, columns=CLASSES)
        labels = Labels.from_frame(said) if labelled else None
        given: dict[str, Any] = {"teacher": f"CLAP {EVIL}", "labeler": "anna", "rng": np.random.default_rng(0)}
        return TeacherReview(scores, labels, options.pop("threshold", 0.3), **given | {"recordings": sounds} | options)

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def open_screen(browser: Any) -> Iterator[Callable[..., Screen]]:
    with screens(browser) as make:
        yield lambda review, *given, **options: make(review.make_widget(), *given, **options)


def shown(screen: Screen) -> dict[tuple[str, str], str]:
    """Estimates on the page: share by kind and class."""
    found = screen.page.eval_on_selector_all(
        ".atk-estimate", "nodes => nodes.map((n) => [n.dataset.kind, n.dataset.class, n.dataset.value])"
    )
    return {(kind, name): value for kind, name, value in found}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_keys_alone_judge_hear_undo_and_change_the_class(
    scheme: str, make_review: Callable[..., TeacherReview], open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    review = make_review(store=tmp_path / "labels.sqlite")
    screen = open_screen(review, scheme)
    page = screen.page
    screen.expect(cell="0", judged="0", playing="false", theme=scheme)
    sync_api.expect(page.locator("li[role=option]")).to_have_count(5)  # of the first class
    sync_api.expect(page.locator(".atk-to").first).to_have_text("label absent")
    screen.root.focus()
    screen.press("y")
    screen.expect(cell="1", playing="true")  # moved on and plays by itself
    screen.press("n", "a", "u", "r")
    screen.expect(judged="5", saved="saved")
    sync_api.expect(page.locator(".atk-status")).to_contain_text("Press > for the next class")
    assert review.cells["verdict"].tolist()[:6] == ["present", "absent", "present", "unsure", "absent", ""]
    precision, missed = (f"{table.loc['Dog', 'value']:.4f}" for table in (review.precision(), review.missed()))
    assert shown(screen) == {("precision", "Dog"): precision, ("missed", "Dog"): missed, ("precision", "(all)"): ""}
    screen.press("Control+z")
    screen.expect(judged="4", cell="4", verdict="")
    screen.press(">", ".")
    sync_api.expect(page.locator("h3")).to_have_text("Guitar, mastication")
    screen.press(">")
    sync_api.expect(page.locator(".atk-status")).to_have_text("This is the last class.")
    screen.press("y", "<")
    sync_api.expect(page.locator("h3")).to_have_text(EVIL)
    screen.press(",")
    screen.expect(cell="4", judged="5", saved="saved")  # the open one of the first class
    cells = review.cells.query("verdict != ''")
    value = cells["verdict"].map(VERDICT)
    assert sorted(kept(tmp_path / "labels.sqlite")) == sorted(
        zip(cells["segment"], cells["class_name"], value, strict=True)
    )


def test_classes_are_chosen_by_hand_and_hostile_names_are_text(
    make_review: Callable[..., TeacherReview], open_screen: Callable[..., Screen]
) -> None:
    screen = open_screen(make_review())
    page = screen.page
    chips, listed = page.locator(".atk-class"), page.locator("li[role=option]")
    assert chips.count() == 3
    sync_api.expect(page.locator(".atk-title")).to_have_text(f"Review of CLAP {EVIL}")
    chips.filter(has_text=EVIL).click()
    sync_api.expect(page.locator("h3")).to_have_text(EVIL)
    sync_api.expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")
    sync_api.expect(page.get_by_label("Class", exact=True)).to_have_value(EVIL)
    screen.press("y", "y")  # the keys go on to the review
    screen.expect(judged="2")
    page.get_by_label("Class", exact=True).select_option("")
    sync_api.expect(listed).to_have_count(15)
    for text in ("✓", f"{EVIL} · "):  # a slow machine counts rows before it has written into them
        sync_api.expect(listed.nth(5)).to_contain_text(text)
    page.get_by_label("Teacher and label").select_option("absent")
    sync_api.expect(listed).to_have_count(3)
    screen.press("n")
    screen.expect(judged="3")
    sync_api.expect(page.locator("li[data-outcome=right]")).to_have_count(1)  # the teacher denied it, too
    chips.nth(0).click()
    sync_api.expect(listed).to_have_count(15)  # a filter of cells does not hide those of the class


def test_without_labels_and_without_sound(
    make_review: Callable[..., TeacherReview], open_screen: Callable[..., Screen]
) -> None:
    review = make_review(labelled=False, classes=["Dog"], threshold=0.0)
    screen = open_screen(review, width=420)
    screen.root.focus()
    assert "label" not in screen.page.locator(".atk-change").inner_text()
    screen.page.locator("li", has_text="five.wav").click()
    sync_api.expect(screen.page.locator(".atk-silent")).to_contain_text("no sound")
    screen.press("y", "n")
    screen.expect(judged="2", saved="saved")
    assert review.cells.query("recording == 'r4'")["verdict"].tolist() == ["present"]
    told = review.precision().loc["Dog"]
    assert shown(screen) == {("precision", "Dog"): f"{told['value']:.4f}"}
    assert screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screen.press("?")
    sync_api.expect(screen.page.get_by_role("dialog")).to_contain_text("previous, next class")


def test_unsent_verdicts_survive_a_reload(
    make_review: Callable[..., TeacherReview], open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    review = make_review(store=tmp_path / "labels.sqlite")
    screen = open_screen(review)
    screen.root.focus()
    screen.page.evaluate("window.down = true")
    screen.press("n", "u")
    screen.expect(judged="2", saved="saving")
    screen.open()
    screen.expect(judged="2", saved="saved", cell="2")
    assert sorted(value for *_, value in kept(tmp_path / "labels.sqlite")) == [-1.0, 0.0]


def test_a_review_of_nothing(open_screen: Callable[..., Screen]) -> None:
    scores = pd.DataFrame(0.1, index=["a@0.000-1.000"], columns=["x"])
    review = TeacherReview(scores, None, 0.5, labeler="anna", rng=np.random.default_rng(0))
    screen = open_screen(review, ready=None)
    sync_api.expect(screen.page.locator(".atk-status")).to_contain_text("no score is above its threshold")


NOTEBOOK = """import numpy as np, pandas as pd
from audiotk.tables import make_segments
from audiotk.widgets import TeacherReview
names = list("abcd")
recordings = pd.DataFrame({"recording": names, "path": PATH, "duration_s": 60.0, "sr": 16000, "group": names})
segments = make_segments(recordings["recording"], 1.0, 4.0)["segment"]
scores = pd.DataFrame({"Dog": [0.9, 0.8, 0.7, 0.6], "Rain": 0.7}, index=segments)
rng = np.random.default_rng(0)
review = TeacherReview(scores, None, 0.5, labeler="anna", rng=rng, recordings=recordings, store="labels.sqlite")
review
"""


@pytest.mark.slow
def test_in_a_real_jupyterlab(browser: Any, sounds: pd.DataFrame, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    write_notebook(work / "review.ipynb", [NOTEBOOK.replace("PATH", repr(sounds["path"][0]))])
    with jupyterlab(work, tmp_path / "home") as server:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        lab = Lab(page, server)
        lab.visit("review.ipynb")
        lab.command("notebook:run-all-cells")
        page.wait_for_selector("[data-testid=teacher_review][data-ready=true]")
        root = page.get_by_test_id("teacher_review")
        root.click(position={"x": 200, "y": 20})
        for key in ("y", "n", ">", "u", "Control+z", "y", "d", "d", "x"):  # the last ones would cut the cell
            page.keyboard.press(key)
        for name, value in (("judged", "3"), ("saved", "saved"), ("theme", "light")):
            sync_api.expect(root).to_have_attribute(f"data-{name}", value)
        sync_api.expect(root.locator("h3")).to_have_text("Rain")
        assert len(lab.cells()) == 1
        assert [name for _, name, _ in kept(work / "labels.sqlite")].count("Dog") == 2
        lab.check()
        page.close()
