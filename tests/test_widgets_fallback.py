"""The plain labeler: its buttons write to the same store, and say what goes wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from matplotlib.backends.backend_agg import FigureCanvasAgg

from audiotk.store import Store, StoreUnavailable, open_store
from audiotk.widgets import SegmentLabeler
from audiotk.widgets.fallback import Fallback, ipympl_canvas

SR = 8000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "labels.sqlite")


@pytest.fixture
def plain(tmp_path: Path, store: Store) -> Fallback:
    rows = []
    for name in ("r0", "<i>r1</i>"):
        path = tmp_path / f"{len(rows)}.wav"
        sf.write(path, 0.2 * np.sin(np.arange(2 * SR) / 4), SR)
        rows.append((name, str(path), 2.0, SR, name))
    table = pd.DataFrame(rows, columns=["recording", "path", "duration_s", "sr", "group"])
    labeler = SegmentLabeler(table, ["dog", "cat"], store, labeler="ann", claims={"r0": "dog"})
    return Fallback(labeler, FigureCanvasAgg)


def press(plain: Fallback, name: str) -> str:
    plain._buttons[name].click()
    return str(plain.status.value)


def test_a_drag_and_a_button_make_a_segment(plain: Fallback, store: Store) -> None:
    plain._spans[1].onselect(0.25, 0.75)
    assert "saved: segment cat" in press(plain, "+ cat")
    (row,) = store.segments().to_dict("records")
    assert (row["recording"], row["start_s"], row["end_s"], row["class_name"]) == ("r0", 0.25, 0.75, "cat")
    assert plain.chosen.options[0][0] == "cat 0.250-0.750 s"
    assert not plain._spans[0].useblit
    assert "saved: undo" in press(plain, "undo")
    assert store.segments().empty
    plain.start.value, plain.end.value = 1.0, 1.5
    press(plain, "+ dog")
    assert "saved: delete" in press(plain, "delete")
    assert store.segments().empty
    assert plain.chosen.value is None


def test_verdicts_and_what_was_heard(plain: Fallback, store: Store) -> None:
    press(plain, "not found")
    plain._spans[0].onselect(-0.1, 2.4)
    press(plain, "I heard this")
    press(plain, "next")
    press(plain, "unsure")
    assert store.claims()[["recording", "class_name", "verdict"]].to_numpy(dtype=object).tolist() == [
        ["r0", "dog", "not_found"], ["<i>r1</i>", None, "unsure"]
    ]  # fmt: skip
    assert store.heard()[["start_s", "end_s"]].to_numpy().tolist() == [[0, 2]]
    assert plain.labeler.progress()["done"] == 2
    assert "&lt;i&gt;r1" in plain.title.value


def test_the_selection_is_played(plain: Fallback) -> None:
    plain._spans[0].onselect(0.5, 1.0)
    assert "playing 0.500 to 1.000 s" in press(plain, "play")
    wave, sr = sf.read(io.BytesIO(plain.player.value))
    assert (len(wave), sr) == (SR // 2, SR)
    press(plain, "next")
    assert plain.player.value == b""
    assert "playing 0.000 to 2.000 s" in press(plain, "play")


def test_what_goes_wrong_is_shown(plain: Fallback, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "first recording" in press(plain, "previous")
    assert "select a range first" in press(plain, "+ dog")
    assert "no segment to delete" in press(plain, "delete")
    assert "nothing to undo" in press(plain, "undo")
    plain._spans[0].onselect(0.5, 1.0)

    def full(*_: Any) -> list[int]:
        raise StoreUnavailable("<the disk is full>")

    monkeypatch.setattr(store, "append", full)
    assert "not saved: &lt;the disk is full&gt;" in press(plain, "+ dog")
    monkeypatch.setattr(store, "append", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in press(plain, "+ dog")


def test_a_file_that_is_gone_is_told(plain: Fallback) -> None:
    Path(plain.desk.about["r0"]["path"]).unlink()
    assert "No such file" in press(plain, "play")
    plain.show(0)
    assert plain._spans != []


def test_it_shows_as_a_box_with_an_ipympl_canvas(plain: Fallback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIOTK_HEADLESS", raising=False)
    shown = Fallback(plain.labeler, ipympl_canvas)
    assert type(shown.place.children[0]).__name__ == "Canvas"
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()
