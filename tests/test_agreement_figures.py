"""What the figures of several labelers draw, read from the figure itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from audiotk.agreement import agreement, heard_whole
from audiotk.agreement.disagreements import disagreements
from audiotk.agreement_figures import agreement_matrix, disagreement_lanes
from audiotk.errors import AudiotkError

EVIL = "$\\frac{<b>"


@pytest.fixture
def segments() -> pd.DataFrame:
    rows = [("ann", 1.0, 2.0, "Dog"), ("ben", 1.1, 2.0, "Dog"), ("ann", 4.0, 5.0, EVIL), ("ben", 6.0, 6.5, "Dog")]
    table = pd.DataFrame(rows, columns=["labeler", "start_s", "end_s", "class_name"])
    return table.assign(recording="r")


@pytest.fixture
def heard() -> pd.DataFrame:
    return heard_whole(pd.DataFrame({"recording": ["r"], "duration_s": [8.0]}), ["ann", "ben"])


def test_lanes_and_cases(segments: pd.DataFrame, heard: pd.DataFrame, tmp_path: Path) -> None:
    sound = tmp_path / "r.wav"
    sf.write(sound, np.random.default_rng(0).normal(0, 0.1, 8 * 16000).astype("float32"), 16000)
    cases = disagreements(segments, heard)
    figure = disagreement_lanes(sound, segments, cases, ["ann", "ben"], {"ann": "A"}, title=EVIL)
    wave, mel, lanes, below = figure.axes
    assert [text.get_text() for text in lanes.get_yticklabels()] == ["A", "ben"]
    bars = {
        tuple(patch.get_extents().transformed(below.transData.inverted()).intervalx.round(3)) for patch in below.patches
    }
    assert bars == {(4.0, 5.0), (6.0, 6.5)}
    assert {text.get_text() for text in below.texts} == {"1", "2"}
    assert sorted({float(np.asarray(line.get_xdata())[0]) for line in mel.lines}) == [4.0, 5.0, 6.0, 6.5]
    assert wave.get_xlim() == (0.0, 8.0)
    figure.savefig(tmp_path / "lanes.png")  # hostile names are drawn as they are


def test_without_sound(segments: pd.DataFrame, heard: pd.DataFrame) -> None:
    figure = disagreement_lanes(None, segments, disagreements(segments, heard), ["ann", "ben"], view=(3, 7))
    assert len(figure.axes) == 2
    assert figure.axes[0].get_xlim() == (3, 7)
    with pytest.raises(AudiotkError, match="neither"):
        disagreement_lanes(None, segments[:0], disagreements(segments, heard), ["ann"])


def test_the_matrix_shows_numbers_and_leaves_unknown_ones_open(segments: pd.DataFrame, heard: pd.DataFrame) -> None:
    table = agreement(segments, heard, classes=["Dog", EVIL, "Cat"])
    f1, kappa = agreement_matrix(table, {"ann": "A"}).axes
    assert [text.get_text() for text in f1.get_yticklabels()] == [EVIL, "Cat", "Dog", "all classes"]
    assert [text.get_text() for text in f1.get_xticklabels()] == ["A\nben"]
    told = [text.get_text() for text in f1.texts]
    assert told == ["0.00", "1 / 0", "0.67", "1 / 2", "0.50", "2 / 2"]  # no cell for Cat: nobody marked it
    assert [text.get_text() for text in kappa.texts][-1] == "200 / 140"
    with pytest.raises(AudiotkError, match="no two labelers"):
        agreement_matrix(table[:0])
