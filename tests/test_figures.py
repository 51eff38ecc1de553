"""Figures: they hold the numbers they were given, draw without pyplot, and captions cannot carry HTML."""

import base64
import io
import re
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile

from audiotk import audio, figures, stats


def drawn(figure):
    """The figure as PNG bytes; drawing is where most mistakes show."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.tell() > 2000
    return figure


@pytest.fixture
def summary():
    rows = [("mAP", arm, value, value - 0.1, value + 0.1) for arm, value in (("a", 0.4), ("b", 0.6))]
    return pd.DataFrame(rows, columns=["metric", "arm", "value", "low", "high"])


def test_players_escape_captions_and_carry_the_sound():
    wave = 0.1 * np.sin(np.arange(16000) / 5).astype("float32")
    page = figures.players([("<script>alert(1)</script>", wave), ("quiet", wave * 0)], 16000, seconds=0.5).data
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    sounds = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    read, sr = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert (sr, len(read)) == (16000, 8000)
    assert np.abs(read).max() == pytest.approx(0.89, abs=0.01)
    quiet, _ = soundfile.read(io.BytesIO(base64.b64decode(sounds[1])))
    assert not quiet.any()
    assert "made louder" not in page
    assert "faint (made louder by 39 dB)" in figures.players([("faint", 0.1 * wave)], 16000).data


def test_arms_and_intervals_show_their_values(summary):
    panel = drawn(figures.arms(summary, ["mAP"])).axes[0]
    points = sorted(line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o")
    assert points == [0.4, 0.6]
    panel = drawn(figures.intervals(summary.set_index("arm"), "AP", highlight="a")).axes[0]
    spans = [tuple(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 2]
    assert spans == [pytest.approx((0.3, 0.5)), pytest.approx((0.5, 0.7))]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["a", "b"]


def test_heatmap_prints_every_cell():
    table = pd.DataFrame([[0.0, 1.0], [0.25, np.nan]], index=["a", "b"], columns=["clean", "fan hum"])
    panel = drawn(figures.heatmap(table, "t")).axes[0]
    assert [text.get_text() for text in panel.texts] == ["0.00", "1.00", "0.25", "–"]


def test_recordings_and_timeline(tmp_path):
    rng = np.random.default_rng(0)
    path = audio.save(tmp_path / "a.wav", rng.normal(0, 0.1, 16000).astype("float32"), 16000)
    silent = audio.save(tmp_path / "b.wav", np.zeros(16000, "float32"), 16000)
    table = pd.DataFrame({"recording": ["a", "b"], "path": [str(path), str(silent)]})
    ranges = pd.DataFrame({"recording": ["a"], "start_s": [0.2], "end_s": [0.5], "class_name": ["bark"]})
    classes = ["bark", "howl"]
    figure = drawn(figures.recordings(table, {"a": "one", "b": "silence"}, ranges, classes))
    bars = [(bar.get_x(), bar.get_width()) for axes in figure.axes for bar in axes.patches]
    assert bars == [(pytest.approx(0.2), pytest.approx(0.3))]
    scores = pd.DataFrame(rng.random((4, 2)), index=[0.2, 0.4, 0.6, 0.8], columns=classes)
    figure = drawn(figures.timeline(rng.normal(0, 0.1, 16000), 16000, ranges, {"x": scores}))
    image = figure.axes[2].images[0]
    np.testing.assert_allclose(image.get_array(), scores.to_numpy().T)
    assert image.get_extent() == pytest.approx([0.1, 0.9, -0.5, 1.5])


def test_timeline_shows_how_far_a_window_reaches():
    ranges = pd.DataFrame({"start_s": [4.0], "end_s": [5.0], "class_name": ["bark"]})
    scores = pd.DataFrame({"bark": [0.1, 0.9]}, index=[3.0, 5.0])
    figure = drawn(figures.timeline(np.zeros(160000), 16000, ranges, {"x": scores}, reach_s=1.0))
    frames = sorted((bar.get_x(), bar.get_width()) for bar in figure.axes[2].patches)
    assert frames == [(3.0, 3.0), (4.0, 1.0)]


def test_an_unbounded_interval_does_not_look_certain():
    table = pd.DataFrame({"value": [0.9], "low": [np.nan], "high": [np.nan]}, index=["one"])
    lines = drawn(figures.intervals(table, "AP")).axes[0].lines
    assert any(line.get_linestyle() == ":" for line in lines)


def test_names_with_dollar_signs_are_text(tmp_path):
    path = audio.save(tmp_path / "a.wav", np.zeros(8000, "float32"), 16000)
    table = pd.DataFrame({"recording": ["$x^$"], "path": [str(path)]})
    ranges = pd.DataFrame({"recording": ["$x^$"], "start_s": [0.1], "end_s": [0.2], "class_name": ["$y^$"]})
    drawn(figures.recordings(table, {"$x^$": "$x^$"}, ranges, ["$y^$"]))


def test_the_others_draw():
    counts = pd.DataFrame({"present": [1, 2], "absent": [3, 2], "unknown": [0, 0]}, index=["bark", "howl"])
    drawn(figures.label_counts({"train": counts, "test": counts}))
    drawn(figures.history(pd.DataFrame({"epoch": [0, 1], "loss": [1, 0.5], "val_map": [0.2, 0.4]}), 1))
    bins = pd.DataFrame({"mean_score": [0.1, 0.9], "share_present": [0.2, 0.8], "n": [10, 0]})
    drawn(figures.reliability({"a": bins}))


def test_claims_table_escapes_and_colours():
    table = pd.DataFrame(
        {
            "claim": ["<b>bold</b>"],
            "effect": ["e"],
            "value": [0.5],
            "low": [0.1],
            "high": [0.9],
            "verdict": ["reproduced"],
        }
    )
    page = figures.claims(table).data
    assert "&lt;b&gt;" in page
    assert "+0.500" in page
    assert "[+0.100, +0.900]" in page
    assert figures.GREEN in page
    assert "*" not in page, "nothing was changed"


def test_claims_that_were_changed_after_results_are_marked():
    about = {"claim": "c", "effect": "e", "value": 0.5, "low": 0.1, "high": 0.9, "verdict": "reproduced"}
    rows = pd.DataFrame(
        [about | {"changed": "<i>2026</i>: the limit"}, about | {"changed": ""}, about], index=["X1", "X2", "X3"]
    ).fillna({"changed": ""})
    page = figures.claims(rows).data
    assert page.count("*") == 2, "one claim, and the line below"
    assert '<th scope="row">X1*</th>' in page
    assert "<b>X1</b>: &lt;i&gt;2026&lt;/i&gt;: the limit" in page.partition("</table>")[2]
    known = stats.claims()
    of_ledger = pd.DataFrame([about, about], index=["B1.4", "B2.1"])  # rows that do not say it: the ledger does
    page = figures.claims(of_ledger).data
    assert "B1.4*" in page
    assert "B2.1*" not in page
    assert known.loc["B1.4", "changed"] in page


def test_figures_leave_pyplot_alone():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_stacked_table_has_each_interval_below_its_value():
    table = pd.DataFrame({"a<b": ["0.512 [0.437, 0.590]", "1.000 no spread"]}, index=["mAP", "x"])
    page = figures.stacked(table).data
    assert "<td>0.512<br><small>[0.437, 0.590]</small></td>" in page
    assert "<td>1.000<br><small>no spread</small></td>" in page
    assert "a&lt;b" in page
    assert "no such class" in figures.stacked(pd.DataFrame()).data
