"""The explorer in a real browser: lasso, hear, verdict, promote, undo by mouse and keys; hostile text; lost answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page_bridge import EVIL, Screen, chromium, screens
from toy_ghosts import make_door, make_ghosts, write_recordings

from audiotk.doctor import find_chromium
from audiotk.widgets import ClusterExplorer
from audiotk.widgets.base import STATIC
from audiotk.widgets.explorer_colours import category_colour, level_colours
from audiotk.widgets.explorer_points import scaled
from audiotk.widgets.explorer_widget import from_bits, to_bits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")

MANY = 20_000
Make = Callable[..., ClusterExplorer]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_recordings(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def make(recordings: pd.DataFrame, tmp_path: Path) -> Make:
    def build(table: pd.DataFrame | None = None, number: int = 600, **options: Any) -> ClusterExplorer:
        ghosts, vectors = make_ghosts(recordings, number)
        given: dict[str, Any] = {"labeler": "anna", "rng": np.random.default_rng(1), "map": "canvas"}
        given["door"] = make_door(recordings)
        table = ghosts if table is None else table
        return ClusterExplorer(table, vectors[: len(table)], tmp_path / "labels.sqlite", **given | options)

    return build


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def open_screen(browser: Any) -> Iterator[Callable[..., Screen]]:
    with screens(browser) as make:
        yield lambda explorer, *given, **options: make(explorer.widget, *given, **options)


def screen_place(screen: Screen, explorer: ClusterExplorer, rows: np.ndarray) -> np.ndarray:
    """Where the map shows points, in pixels of the page (n, 2), as the page's fitView and toScreen have it."""
    box = screen.page.get_by_test_id("map").bounding_box()
    place = scaled(explorer.points).astype(float)
    known = place[(place[:, 0] < 65535)]
    low, high = known.min(axis=0), known.max(axis=0)
    scale = min((box["width"] - 44) / (high[0] - low[0]), (box["height"] - 44) / (high[1] - low[1]), 1.0)
    moved = (place[rows] - (low + high) / 2) * scale
    return np.stack([box["x"] + box["width"] / 2 + moved[:, 0], box["y"] + box["height"] / 2 - moved[:, 1]], axis=1)


def lasso(screen: Screen, polygon: np.ndarray) -> None:
    mouse, corners = screen.page.mouse, polygon.astype(float).tolist()
    mouse.move(*corners[0])
    mouse.down()
    for x, y in corners[1:]:
        mouse.move(x, y, steps=3)
    mouse.up()


def around(place: np.ndarray, spread: float = 1.05) -> np.ndarray:
    """A polygon of 24 corners around most of the points."""
    angle = np.linspace(0, 2 * np.pi, 24)
    middle, half = np.median(place, axis=0), np.percentile(np.abs(place - np.median(place, axis=0)), 90, axis=0)
    return middle + spread * half * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lasso_hear_judge_promote_and_undo(
    scheme: str, make: Make, open_screen: Callable[..., Screen], tmp_path: Path
) -> None:
    explorer = make(number=MANY)
    screen = open_screen(explorer, scheme, width=1280)
    page = screen.page
    screen.expect(theme=scheme, selected="0", map="canvas")
    rows = np.flatnonzero(explorer.points["cluster"] == 2)
    polygon = around(screen_place(screen, explorer, rows))
    lasso(screen, polygon)
    screen.expect(selection="lasso", page="12")
    selection = explorer.selection
    assert selection is not None
    place = screen_place(screen, explorer, np.arange(len(explorer.points)))
    sure, possible = (set(points_inside(polygon, place, by)) for by in (-4, 4))
    assert sure <= set(selection.rows) <= possible  # by a twin, in pixels; the page leaves out steps below 3
    assert len(selection.rows) > 500
    screen.expect(playing="true", pictured="12")  # the first member plays by itself: the mouse was a gesture
    screen.press("f", "f", "t")
    screen.expect(judged="3", saved="saved", at="3", playing="true")
    screen.press("j", "k", "u")
    screen.expect(judged="4", saved="saved")
    assert explorer.sample["verdict"].tolist()[:5] == ["false", "false", "true", "unsure", ""]
    screen.expect(heard=str(explorer.purity.heard), low=f"{explorer.purity.low:.4f}")
    held = explorer.points["group"].iloc[selection.rows].eq("site3").sum()
    screen.expect(refused=str(held))
    sync_api.expect(page.locator(".atk-door")).to_contain_text("it is held out (test)")
    screen.press("1", "p")
    sync_api.expect(page.locator(".atk-status")).to_contain_text("Not promoted. Refused")
    assert explorer.store.promotions().empty
    screen.press("x")
    screen.expect(refused="0", selected=str(len(selection.rows) - held))
    screen.press("2", "n")
    page.keyboard.type("a fan")  # f and p in the note are letters
    screen.press("Enter", "p")
    left = pairs(explorer.points.iloc[explorer.selection.rows])  # type: ignore[union-attr]
    left -= pairs(explorer.store.judgements().query("value != 0"))
    screen.expect(promoted=str(len(left)), saved="saved")
    told = explorer.store.promotions()
    assert pairs(told) == left
    assert set(told["theme"]) == {"neg_silence"}
    assert set(told["note"]) == {"a fan"}
    screen.press("Control+z")
    screen.expect(promoted="0", saved="saved")
    assert explorer.store.promotions().empty
    screen.press("Control+z")
    screen.expect(judged=str(len(explorer.sample.query("verdict != ''"))), saved="saved")
    assert len(explorer.store.judgements()) == 3


def pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["segment"], table["class_name"], strict=True))


def points_inside(polygon: np.ndarray, place: np.ndarray, grown: float = 0.0) -> np.ndarray:
    from matplotlib.path import Path as Polygon

    middle = polygon.mean(axis=0)
    away = polygon - middle
    return np.flatnonzero(Polygon(polygon + grown * away / np.hypot(*away.T)[:, None]).contains_points(place))


def test_clusters_by_keys_and_by_a_click(make: Make, open_screen: Callable[..., Screen]) -> None:
    explorer = make()
    screen = open_screen(explorer)
    page = screen.page
    assert "noise" not in screen.root.inner_text().lower()
    sync_api.expect(page.locator("tr[data-cluster='-1']")).to_contain_text("unassigned")
    screen.root.focus()
    screen.press(">")
    first = int(explorer.clusters["cluster"].iloc[0])
    screen.expect(selection=f"cluster {first}", at="0")
    screen.press(">")
    screen.expect(selection=f"cluster {int(explorer.clusters['cluster'].iloc[1])}", busy="false")
    keys = "root => ['<', '<'].forEach((key) => root.dispatchEvent(new KeyboardEvent('keydown', { key })))"
    screen.root.evaluate(keys)  # the second one is answered at once; the kernel's answer to the first leaves that alone
    screen.expect(selection=f"cluster {first}", busy="false")
    page.wait_for_timeout(300)
    sync_api.expect(page.locator(".atk-status")).to_have_text("This is the first cluster.")
    page.locator("tr[data-cluster='-1']").click()
    screen.expect(selection="unassigned")
    place = screen_place(screen, explorer, np.flatnonzero(explorer.points["cluster"] == 1))
    nearest = np.abs(place - np.median(place, axis=0)).sum(axis=1).argmin()
    page.mouse.click(*place[nearest])
    screen.expect(selection="cluster 1")
    screen.press("m")
    screen.expect(page="12")
    assert explorer.sample["why"].eq("random").all()
    sync_api.expect(page.locator(".atk-why[data-why=random]")).to_have_count(12)
    for key, colour in zip("cccc", ("class", "level", "device", "theme"), strict=True):
        screen.press(key)
        screen.expect(colour=colour)
    screen.press("?")
    sync_api.expect(page.get_by_role("dialog")).to_contain_text("promote the selection")
    screen.press("Escape", "Escape")
    screen.expect(selected="0")


def test_a_lasso_of_nothing_leaves_the_selection_and_zoom_needs_the_focus(
    make: Make, open_screen: Callable[..., Screen]
) -> None:
    explorer = make()
    screen = open_screen(explorer)
    box = screen.page.get_by_test_id("map").bounding_box()
    drawn = screen.root.get_attribute("data-drawn")
    screen.page.mouse.move(box["x"] + 200, box["y"] + 200)
    screen.page.mouse.wheel(0, -300)
    screen.root.focus()
    screen.press(">")
    screen.expect(page="12")
    right, top = box["x"] + box["width"] - 20, box["y"] + 4
    corner = np.array([[right + x, top + y] for x, y in ((3, 3), (3, 9), (9, 9), (12, 3))])
    lasso(screen, corner)
    sync_api.expect(screen.page.locator(".atk-status")).to_contain_text("what was selected stays")
    screen.expect(selection=f"cluster {explorer.clusters['cluster'].iloc[0]}")
    before = screen.root.get_attribute("data-drawn")
    assert drawn == "1"
    screen.page.mouse.move(box["x"] + 200, box["y"] + 200)
    screen.page.mouse.wheel(0, -300)
    screen.page.wait_for_function("(n) => document.querySelector('.atk-explorer').dataset.drawn !== n", arg=before)
    screen.press("0", "+", "-", "h", "l")
    sync_api.expect(screen.page.get_by_role("button", name="Lasso: draw around points")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_unsent_words_survive_a_reload_and_a_lost_answer(
    make: Make, open_screen: Callable[..., Screen], recordings: pd.DataFrame
) -> None:
    explorer = make(door=make_door(recordings, held_out=0))
    screen = open_screen(explorer)
    screen.root.focus()
    screen.press(">")
    screen.expect(page="12", refused="0")
    screen.page.evaluate("window.down = true")
    screen.press("f", "t", "Control+z", "f", "1", "p")
    screen.expect(saved="saving")
    assert explorer.store.judgements().empty
    screen.open()
    screen.expect(saved="saved", page="12", judged="2")
    assert explorer.sample["verdict"].tolist()[:3] == ["false", "false", ""]
    assert len(explorer.store.promotions()) == len(explorer.selection.rows)  # type: ignore[union-attr]
    screen.root.focus()
    screen.press("Control+z")  # by a page that did not make it
    screen.expect(promoted="0", saved="saved")
    assert mining_rows(explorer) == 0


def mining_rows(explorer: ClusterExplorer) -> int:
    return len(explorer.store.promotions())


def test_hostile_names_missing_sound_and_points_without_a_place(
    make: Make, open_screen: Callable[..., Screen], recordings: pd.DataFrame, tmp_path: Path
) -> None:
    ghosts, _ = make_ghosts(recordings, 40, clusters=2)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound at all")
    ghosts["class_name"] = EVIL
    ghosts["device"] = EVIL
    ghosts.loc[ghosts.index[:20], "path"] = ""
    ghosts.loc[ghosts.index[20:], "path"] = str(broken)
    ghosts.loc[ghosts.index[:5], ["x", "y"]] = np.nan
    explorer = make(ghosts, number=40)
    screen = open_screen(explorer, width=420)
    page = screen.page
    screen.root.focus()
    sync_api.expect(page.get_by_role("note")).to_contain_text("20 have no sound file")
    screen.press(">")
    screen.expect(selected=str((ghosts["cluster"] == explorer.clusters["cluster"][0]).sum()))
    sync_api.expect(page.locator(".atk-tile .atk-name").first).to_have_text(EVIL)
    sync_api.expect(page.locator(".atk-no-sound").first).to_have_text("no sound")
    screen.press("f")
    sync_api.expect(page.locator(".atk-status")).to_contain_text("It cannot be heard, so it can only be unsure")
    screen.press("u")
    screen.expect(judged="1", saved="saved")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("tr").nth(1).hover()
    page.get_by_label("Colour").select_option("class")
    sync_api.expect(page.locator(".atk-legend")).to_contain_text(EVIL)


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_and_a_single_one(number: int, make: Make, open_screen: Callable[..., Screen]) -> None:
    explorer = make(make(number=60).points.head(number))
    screen = open_screen(explorer)
    sync_api.expect(screen.page.get_by_role("note")).to_contain_text("false positive")
    screen.root.focus()
    screen.press(">", "f", "c", "0", "+")
    sync_api.expect(screen.page.locator("tbody tr")).to_have_count(number)


def test_before_and_after_and_what_is_done_from_code(make: Make, open_screen: Callable[..., Screen]) -> None:
    explorer = make()
    screen = open_screen(explorer)
    screen.root.focus()
    answers: list[dict[str, Any]] = []
    explorer.widget.send = lambda content, buffers=None: answers.append(content)  # type: ignore[method-assign]
    table = explorer.after(explorer.points[explorer.points["cluster"] == 0])
    still = int(table["still"].sum())
    explorer.widget.send = lambda content, buffers=None: screen._answers.append((content, buffers or []))  # type: ignore[method-assign]
    assert answers[-1]["type"] == "state"
    screen.open()
    screen.expect(colour="after")
    sync_api.expect(screen.page.locator(".atk-legend")).to_contain_text("fires still")
    shown = screen.page.locator("tbody td:last-child").all_inner_texts()
    assert sum(int(text.replace(",", "")) for text in shown) == still


def test_keys_stay_inside(make: Make, open_screen: Callable[..., Screen]) -> None:
    screen = open_screen(make())
    page = screen.page
    page.evaluate("window.leaked = []; addEventListener('keydown', (event) => leaked.push(event.key)); 0")
    screen.root.focus()
    screen.press(*"fajmpxdd0cl", "Escape", "Enter", "ArrowDown", "Control+z", "Shift+m")
    assert page.evaluate("leaked") == []
    assert screen.root.get_attribute("data-lm-suppress-shortcuts") == "true"


# --- pure functions ---------------------------------------------------------------------------------------------------

PURE = """([names, calls]) => {
  const code = CODE + `\\nreturn { ${names.join()} };`;
  const found = new Function('make', code)(() => null);
  const plain = (told) => (told instanceof Uint8Array ? [...told] : told);
  return calls.map(([name, ...given]) => plain(found[name](...given)));
}"""


def call(page: Any, *calls: Any) -> list[Any]:
    """What pure functions of the explorer's scripts return."""
    parts = ["sound", "cards", "explorer_hear", "explorer_map", "explorer_panel"]
    text = "\n".join((STATIC / f"{part}.js").read_text("utf-8") for part in parts)
    return list(page.evaluate(PURE.replace("CODE", json.dumps(text)), [[name for name, *_ in calls], list(calls)]))


def test_pure_functions(browser: Any) -> None:
    page = browser.new_page()
    rng = np.random.default_rng(0)
    bits = rng.random(1003) < 0.4
    packed, unpacked = call(page, ["toBits", np.flatnonzero(bits).tolist(), 1003], ["fromBits", to_bits(bits), 1003])
    assert packed == to_bits(bits)
    np.testing.assert_array_equal(from_bits(packed, 1003), np.flatnonzero(bits))
    assert unpacked == bits.astype(int).tolist()
    place = rng.integers(0, 1000, (300, 2))
    place[:3] = 65535
    star = [[100, 100], [900, 120], [500, 500], [880, 900], [90, 850]]
    flat = place.ravel().tolist()
    inside, near, none = call(
        page, ["rowsInside", star, flat], ["nearestRow", flat, 500, 500, 400], ["nearestRow", flat, 500, 500, 0.01]
    )
    assert inside == points_inside(np.array(star, float), place).tolist()
    assert near == np.hypot(*(place - 500.0).T).argmin()
    assert none == -1
    view, zoomed, back = call(
        page, ["fitView", flat, 400, 300], ["zoomed", {"x": 5, "y": 6, "scale": 0.1}, 400, 300, 40, 50, 2.0],
        ["fitView", [], 400, 300],
    )  # fmt: skip
    known = place[3:]
    span = np.ptp(known, axis=0)
    assert view["scale"] == pytest.approx(min(356 / span[0], 256 / span[1]))
    before = call(page, ["toPlace", {"x": 5, "y": 6, "scale": 0.1}, 400, 300, 40, 50])[0]
    assert call(page, ["toPlace", zoomed, 400, 300, 40, 50])[0] == pytest.approx(before)
    assert back["scale"] == 1
    rows = [{"row": 4, "word": ""}, {"row": 7, "word": "true"}]
    pending = [
        {"kind": "judgement", "uuid": "a", "row": 4, "value": 0},
        {"kind": "undo", "target": "b", "before": "unsure"},
    ]
    acts = [{"kind": "judgement", "target": "b", "row": 7}]
    told = call(page, ["withPending", rows, acts, pending])[0]
    assert told["words"] == [[4, "false"], [7, "unsure"]]
    assert [act["target"] for act in told["acts"]] == ["a"]
    clusters = [{"cluster": 3}, {"cluster": 0}, {"cluster": -1}]
    beside = [["clusterBeside", clusters, now, 1] for now in (None, 3, -1)]
    assert call(page, *beside) == [{"cluster": 3}, {"cluster": 0}, None]
    assert call(page, ["share", 0.6999], ["share", 0.7]) == ["69 %", "70 %"]
    shown = call(page, ["categoryColour", 3, "light"], ["levelColour", 0.5])
    css = page.evaluate(
        "(c) => { const n = document.createElement('i'); n.style.color = c; return n.style.color; }", shown[0]
    )
    hexed = category_colour(3)
    own = [int(hexed[at : at + 2], 16) for at in (1, 3, 5)]
    assert np.abs(np.array([int(part) for part in css[4:-1].split(",")]) - own).max() <= 2
    assert level_colours(3)[1] == "#{:02x}{:02x}{:02x}".format(*shown[1])
    page.close()
