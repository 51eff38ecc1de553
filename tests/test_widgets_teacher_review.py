"""Review of a teacher: the sample against plain counting, precision against known truth, keeping of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_bridge import bark
from soundfile import write
from test_widgets_review import ask, hello, say

from audiotk.errors import AudiotkError
from audiotk.labels import resolve
from audiotk.scores import open_scores, write_scores
from audiotk.store import open_store
from audiotk.tables import Dataset, Labels, make_annotations, make_segments, make_sources
from audiotk.widgets import TeacherReview
from audiotk.widgets.teacher_sample import STRATA, check_thresholds, draw_cells, shares

NAN = np.nan
CLASSES = ["a", "b", "c, d"]


def some_scores(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Scores of n segments, one a recording, and three classes."""
    segments = make_segments([f"r{k:03}" for k in range(n)], 0.0, 2.0)["segment"]
    return pd.DataFrame(np.random.default_rng(seed).random((n, 3)).round(2), index=segments, columns=CLASSES)


def some_labels(scores: pd.DataFrame, seed: int = 1) -> Labels:
    values = np.random.default_rng(seed).choice([0.0, 1.0, NAN], scores.shape, p=[0.6, 0.2, 0.2])
    return Labels.from_frame(pd.DataFrame(values, index=scores.index, columns=scores.columns))


def review(scores: Any = None, labels: Any = "some", thresholds: Any = 0.6, **options: Any) -> TeacherReview:
    scores = some_scores() if scores is None else scores
    labels = some_labels(scores) if isinstance(labels, str) else labels
    given: dict[str, Any] = {"labeler": "anna", "rng": np.random.default_rng(1)}
    return TeacherReview(scores, labels, thresholds, **given | options)


def truth_of(scores: pd.DataFrame, seed: int = 2) -> Labels:
    values = (np.random.default_rng(seed).random(scores.shape) < 0.7 * scores.to_numpy()).astype(float)
    return Labels.from_frame(pd.DataFrame(values, index=scores.index, columns=scores.columns))


def stratum_of(fires: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Number of the stratum of each cell, -1 for none: the plain way."""
    word = {1.0: "present", 0.0: "absent"}
    pairs = [("present" if f else "absent", word.get(v, "unknown")) for f, v in zip(fires, label, strict=True)]
    return np.array([STRATA.index(pair) if pair in STRATA else -1 for pair in pairs])


# --- the sample -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("default", [0.0, NAN])
def test_strata_are_those_of_plain_counting(dtype: str, default: float, tmp_path: Path) -> None:
    scores = some_scores()
    labels = Labels.from_frame(some_labels(scores).frame(), default)
    write_scores(tmp_path / "scores.parquet", scores, dtype)
    levels = {"b": 0.6, "a": 0.95, "c, d": 0.37}  # values that occur among the scores, and are not above themselves
    opened = open_scores(tmp_path / "scores.parquet")
    cells, strata = draw_cells(opened, labels, levels, np.random.default_rng(0), per_class=500)
    assert strata["class_name"].unique().tolist() == ["b", "a", "c, d"]
    for number, name in enumerate(levels):
        found = stratum_of(scores[name].to_numpy() > levels[name], labels.frame()[name].to_numpy())
        mine = strata.iloc[4 * number : 4 * number + 4]
        assert mine["cells"].tolist() == mine["drawn"].tolist() == [int((found == k).sum()) for k in range(4)]
        assert list(zip(mine["teacher"], mine["label"], strict=True)) == list(STRATA)
        for k in range(4):
            drawn = cells[cells["stratum"] == 4 * number + k]
            assert drawn["segment"].tolist() == scores.index[found == k].tolist()
            np.testing.assert_allclose(drawn["score"], scores[name][found == k], atol=1e-3)
            assert (drawn["teacher"] + drawn["label"] == "".join(STRATA[k])).all()


def test_segments_and_classes_that_the_labels_lack_are_unknown() -> None:
    scores = some_scores()
    some = some_labels(scores).select(segments=scores.index[40:10:-1], classes=["b", "a"])
    for name in CLASSES:
        found = review(scores, some, classes=[name], per_class=500) if name != "c, d" else None
        full = pd.Series(NAN, index=scores.index)
        if found is not None:
            full[some.segments] = some.frame()[name]
            expected = np.bincount(stratum_of((scores[name] > 0.6).to_numpy(), full.to_numpy()) + 1, minlength=5)[1:]
            assert found._strata["cells"].tolist() == expected.tolist()
    unknown = review(scores, some, per_class=500).cells.query("class_name == 'c, d'")
    assert set(unknown["label"]) == {"unknown"}


def test_without_labels_there_is_one_stratum() -> None:
    scores = some_scores()
    found = review(scores, None, per_class=30)
    assert set(found.cells["label"]) == {"unknown"}
    assert (found.cells["score"] > 0.6).all()
    assert found.precision()["cells"].tolist() == [*(n := (scores > 0.6).sum().tolist()), sum(n)]
    assert (found.missed()["cells"] == 0).all()
    assert not hello(found.make_widget())["labelled"]


@given(st.lists(st.integers(0, 60), min_size=4, max_size=4), st.integers(4, 90))
def test_shares_are_as_even_as_sizes_allow(sizes: list[int], number: int) -> None:
    found = shares(sizes, number)
    assert sum(found) == min(number, sum(sizes))
    assert all(0 < count <= size or size == count == 0 for count, size in zip(found, sizes, strict=True))
    most = max(found)
    assert all(count == size or count >= most - 1 for count, size in zip(found, sizes, strict=True))


def test_every_cell_of_a_stratum_is_drawn_equally_often() -> None:
    scores, rng, times = some_scores(), np.random.default_rng(0), 150
    opened, labels = open_scores(scores), some_labels(scores)
    levels = dict.fromkeys(CLASSES, 0.6)
    drawn = [draw_cells(opened, labels, levels, rng, per_class=12) for _ in range(times)]
    counts = pd.concat([cells for cells, _ in drawn]).groupby(["stratum", "segment"]).size()
    for number, (size, count) in enumerate(drawn[0][1][["cells", "drawn"]].to_numpy()):
        expected = times * count / size
        assert len(counts[number]) == size
        assert ((counts[number] - expected) ** 2 / expected).sum() < size + 4 * np.sqrt(2 * size)  # chi square


def test_equal_seeds_draw_equal_cells() -> None:
    assert review().cells.equals(review().cells)
    assert not review().cells.equals(review(rng=np.random.default_rng(2)).cells)


def test_orders() -> None:
    cells = review(per_class=60).cells
    assert cells["class_name"].is_monotonic_increasing
    for _, part in cells.groupby("class_name"):
        denied, agreed = part["teacher"] == "absent", part["teacher"] == part["label"]
        place = np.where(agreed, 2, np.where(denied, 1, 0))
        assert (np.diff(place) >= 0).all()
        assert part["score"][place != 1].groupby(place[place != 1]).agg(lambda s: s.is_monotonic_decreasing).all()
        assert part["score"][denied].is_monotonic_increasing
    by_score = review(per_class=60, order="score").cells
    assert by_score.groupby("class_name")["score"].agg(lambda score: score.is_monotonic_decreasing).all()
    shuffled = review(per_class=60, order="random").cells
    keys = ["segment", "class_name"]
    assert shuffled["class_name"].is_monotonic_increasing
    assert not shuffled[keys].equals(cells[keys])
    assert set(shuffled["segment"]) == set(cells["segment"])
    assert review(classes=["c, d", "a"]).cells["class_name"].unique().tolist() == ["c, d", "a"]


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labeler": ""}, "labeler"),
        ({"rng": 3}, "rng: .* got 3"),
        ({"order": "confident"}, "disagreement, score, random, got 'confident'"),
        ({"settings": {"colour": 1}}, "settings"),
        ({"per_class": 3}, "per_class >= 4, one for each stratum, got 3"),
        ({"per_class": True}, "per_class"),
        ({"classes": ["e"]}, "class 'e' is not among the 3"),
        ({"thresholds": 1.5}, r"class 'a': expected a threshold in \[0, 1\], or NaN, got 1.5"),
        ({"thresholds": "high"}, "got 'high'"),
        ({"thresholds": NAN}, "no class has a threshold"),
        ({"thresholds": {"a": 0.5}}, "class 'b' has no threshold"),
        ({"thresholds": pd.Series({"a": 0.5, "e": 0.5})}, "threshold for 'e'"),
        ({"thresholds": pd.Series([0.5, 0.5], index=["a", "a"])}, "more than one threshold"),
        ({"labels": pd.DataFrame()}, "expected Labels, or None .* got DataFrame"),
    ],
)
def test_what_cannot_be_reviewed(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AudiotkError, match=told):
        review(**options)


def test_labels_of_something_else() -> None:
    scores = some_scores()
    with pytest.raises(AudiotkError, match=r"segment 'x@0.000-1.000' of the labels has no scores \(1 such\)"):
        review(scores, Labels.from_frame(pd.DataFrame([[1.0]], index=["x@0.000-1.000"], columns=["a"])))
    with pytest.raises(AudiotkError, match="none of the classes"):
        review(scores, Labels.from_frame(pd.DataFrame([[1.0]], index=scores.index[:1], columns=["z"])))
    with pytest.raises(AudiotkError, match="another name"):
        review(scores.rename(columns={"a": "(all)"}), None)
    many = pd.DataFrame(1.0, index=scores.index, columns=[f"c{k}" for k in range(20)])
    with pytest.raises(AudiotkError, match="2,400 cells would be drawn; expected at most 2,000"):
        review(many, None, per_class=120)


def test_a_class_without_threshold_is_left_out() -> None:
    found = review(thresholds=pd.Series({"a": 0.95, "b": NAN, "c, d": 0}, dtype="float32"))
    assert found.thresholds.to_dict() == {"a": 0.95, "c, d": 0.0}
    assert found.precision().index.tolist() == ["a", "c, d", "(all)"]
    assert check_thresholds(0.5, pd.Index(CLASSES), "b") == {"b": 0.5}


def test_a_teacher_that_says_nothing_can_be_reviewed() -> None:
    scores = some_scores()
    found = review(scores, None, 1.0)
    assert len(found.cells) == len(found.annotations()) == 0
    assert found.precision()["cells"].tolist() == [0, 0, 0, 0]
    found.picture().canvas.draw()
    assert hello(found.make_widget())["rows"] == []


# --- what the verdicts say --------------------------------------------------------------------------------------------


def test_a_truth_that_judges_all_gives_the_true_precision_and_misses() -> None:
    scores = some_scores()
    labels, truth = some_labels(scores), truth_of(scores)
    found = review(scores, labels, per_class=500)
    found.judge_by(truth)
    there, fires, label = truth.dense(), (scores > 0.6).to_numpy(), labels.dense()
    only = ~fires & (label == 1)
    precision, missed = found.precision(), found.missed()
    for table, mask in ((precision, fires), (missed, only)):
        expected = [there[:, k][mask[:, k]].mean() for k in range(3)] + [there[mask].mean()]
        np.testing.assert_allclose(table["value"], expected, rtol=1e-6)
        assert table["n"].tolist() == table["cells"].tolist() == [*mask.sum(axis=0), mask.sum()]
        assert (table["low"] <= table["value"]).all()
        assert (table["high"] >= table["value"]).all()
        assert not table["provisional"].any()
        assert table["right"].tolist() == [*(there * mask).sum(axis=0), (there * mask).sum()]
    right = found.cells["right"]
    said = found.cells["verdict"] == found.cells["teacher"]
    assert (right == said).all()
    assert precision["threshold"].tolist()[:3] == [0.6] * 3


SIZES, SHARES = (1400, 400, 200, 150), (0.95, 0.4, 0.7, 0.5)  # of the strata, and how many of their cells are present


def known_teacher(rng: np.random.Generator, classes: int) -> tuple[pd.DataFrame, Labels, Labels]:
    """Scores, labels and truth of `classes` classes with strata of SIZES; recordings of about 7 alike cells each."""
    n = sum(SIZES)
    names = [f"c{k:02}" for k in range(classes)]
    segments = make_segments([f"r{k % 300:03}" for k in range(n)], [float(k // 300) for k in range(n)],
                             [k // 300 + 1.0 for k in range(n)])["segment"]  # fmt: skip
    score, label, truth = np.empty((3, n, classes))
    for k in range(classes):
        stratum = rng.permutation(np.repeat(np.arange(4), SIZES))
        chance = np.where(rng.random(n) < 0.3, rng.random(300)[np.arange(n) % 300], rng.random(n))
        truth[:, k] = chance < np.array(SHARES)[stratum]
        score[:, k] = np.where(stratum == 3, 0.1, 0.6 + 0.3 * rng.random(n))
        label[:, k] = np.array([1.0, 0.0, NAN, 1.0])[stratum]
    frames = [pd.DataFrame(values, index=segments, columns=names) for values in (score, label, truth)]
    return frames[0], Labels.from_frame(frames[1]), Labels.from_frame(frames[2])


def test_precision_is_unbiased_and_its_intervals_hold_the_truth() -> None:
    """As the ranked list favours cells in dispute, a plain share of right verdicts would be far too low."""
    rng = np.random.default_rng(7)
    errors, held, plain, held_all = [], [], [], []
    for _ in range(10):
        scores, labels, truth = known_teacher(rng, 20)
        real = np.nanmean(np.where(scores > 0.5, truth.dense(), NAN), axis=0)
        found = review(scores, labels, 0.5, rng=rng, per_class=24)
        found.judge_by(truth)
        table = found.precision()
        whole, table = table.loc["(all)"], table.iloc[:-1]
        errors.append(table["value"] - real)
        held.append((table["low"] <= real) & (real <= table["high"]))
        plain.append(table["right"] / table["n"] - real)
        held_all.append(whole["low"] <= real.mean() <= whole["high"])
    error, unweighted = np.concatenate(errors), np.concatenate(plain)
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error))
    assert np.concatenate(held).mean() >= 0.95
    assert np.mean(held_all) >= 0.8
    assert unweighted.mean() < -0.1


def test_misses_are_unbiased_and_their_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(8)
    scores, labels, truth = known_teacher(rng, 80)
    only = (scores <= 0.5).to_numpy() & (labels.dense() == 1)
    real = np.nanmean(np.where(only, truth.dense(), NAN), axis=0)
    found = review(scores, labels, 0.5, rng=rng, per_class=24)
    found.judge_by(truth)
    table = found.missed().iloc[:-1]
    error = table["value"] - real
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error))
    assert ((table["low"] <= real) & (real <= table["high"])).mean() >= 0.9


def test_no_value_before_each_stratum_has_a_verdict_and_provisional_until_all_are_judged() -> None:
    found = review(classes=["a"], per_class=16)
    cells = found.cells
    for cell in np.flatnonzero(cells["label"] != "present"):
        found.judge(int(cell), "present")
    row = found.precision().loc["a"]
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    assert row["n"] == 8
    assert row["provisional"]
    agreed = np.flatnonzero((cells["label"] == "present") & (cells["teacher"] == "present"))
    found.judge(int(agreed[0]), "present")
    assert found.precision().loc["a", "value"] == 1
    assert found.precision().loc["a", "provisional"]
    for cell in agreed[1:]:
        found.judge(int(cell), "unsure")
    row = found.precision().loc["a"]
    assert (row["n"], row["unsure"], row["open"], row["provisional"]) == (9, 3, 0, False)
    assert found.missed().loc["a", "open"] == 4


def test_a_stratum_that_nobody_can_judge_is_left_out_and_told() -> None:
    found = review(classes=["a"], per_class=16)
    for cell, row in enumerate(found.cells.to_dict("records")):
        found.judge(cell, "unsure" if row["label"] == "unknown" else "present")
    row = found.precision().loc["a"]
    assert (row["value"], row["unsure"], row["open"]) == (1.0, 4, 0)
    assert row["provisional"]


def test_a_random_order_is_fair_at_any_time() -> None:
    found = review(classes=["a"], per_class=40, order="random")
    for cell in range(25):
        found.judge(cell, "present")
    assert not found.precision()["provisional"].any()
    found.judge(39, "present")  # chosen, not drawn
    later = found.cells.loc[39, ["teacher", "label"]]
    between = found.cells.iloc[25:39]
    skipped = bool((between[["teacher", "label"]] == later).all(axis=1).any())
    assert (found.precision().loc["a", "provisional"] or found.missed().loc["a", "provisional"]) == skipped


# --- keeping ----------------------------------------------------------------------------------------------------------


def test_verdicts_become_annotations_of_a_data_set() -> None:
    segments = make_segments([f"r{k}" for k in range(8)], 0.0, 10.0)
    recordings = pd.DataFrame(
        {"recording": segments["recording"], "path": "", "duration_s": 10.0, "sr": 16000, "group": "g"}
    )
    notes = make_annotations(segments["segment"], "a", 0.0, "scraped")
    split = pd.Series("train", index=recordings["recording"])
    dataset = Dataset("d", recordings, segments, notes, split, ["a"], make_sources(scraped="weak"))
    scores = pd.DataFrame(np.linspace(0.9, 0.6, 8), index=segments["segment"], columns=["a"])
    found = review(scores, resolve(dataset, sources=["scraped"]), 0.5, recordings=dataset, per_class=8)
    for cell, verdict in enumerate(["present", "absent", "unsure"]):
        found.judge(cell, verdict)
    labels = resolve(found.record(dataset), sources=["human:anna", "scraped"]).frame()["a"]
    np.testing.assert_array_equal(labels, [1.0, 0.0, NAN, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert found.annotations()["source"].unique().tolist() == ["human:anna"]


def test_verdicts_are_on_the_disk_when_acknowledged_and_there_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    found = review(store=path, teacher="CLAP")
    told = say(found.make_widget(), "u1", 3, 0)
    assert (told["type"], told["cell"], told["verdict"]) == ("ack", 3, "absent")
    assert {(row["kind"], row["class_name"]) for row in told["estimates"]} == {
        (kind, name) for kind in ("precision", "missed") for name in ("a", "(all)")
    }
    cell = found.cells.iloc[3]
    with open_store(path) as other:
        row, operation = other.judgements().iloc[0], other.operations(labeler="anna").iloc[-1]
    assert (row["segment"], row["class_name"], row["value"]) == (cell["segment"], "a", 0.0)
    assert row["reason"] == f"teacher:CLAP present (score {cell['score']:.4g} > 0.6), label {cell['label']}"
    assert bool(operation["seen_teacher"])
    again = review(store=path, teacher="CLAP")
    assert again.cells["verdict"].tolist() == found.cells["verdict"].tolist()
    assert again.id == found.id
    undone = ask(again.make_widget(), type="op", op={"uuid": "u2", "kind": "undo", "target": "u1"})
    assert undone["type"] == "ack"
    assert len(undone["estimates"]) == 8  # of all classes: only the store knew of which one it was
    assert (again.cells["verdict"] == "").all()
    assert (review(store=path, labeler="ben").cells["verdict"] == "").all()


def test_the_browser_gets_all_cells_and_estimates() -> None:
    found = review()
    told = hello(found.make_widget())
    assert (told["type"], told["teacher"], told["labelled"], told["stored"]) == ("review", "teacher", True, False)
    for row, cell in zip(told["rows"], found.cells.to_dict("records"), strict=True):
        assert (row["teacher"], row["label"], row["threshold"]) == (cell["teacher"], cell["label"], 0.6)
        assert row["score"] == cell["score"]
    assert [row["value"] for row in told["estimates"]] == [None] * 8


# --- headless ---------------------------------------------------------------------------------------------------------


def test_headless_is_a_picture_and_no_widget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    write(tmp_path / "a.wav", bark(3), 16000)
    scores = some_scores(40)
    names = [segment.split("@")[0] for segment in scores.index]
    paths = [str(tmp_path / ("a.wav" if k % 3 else "gone.wav")) for k in range(40)]
    table = pd.DataFrame({"recording": names, "path": paths, "duration_s": 3.0, "sr": 16000, "group": names})
    found = review(scores, recordings=table, per_class=8)
    for cell in range(10):
        found.judge(cell, ["present", "absent", "unsure"][cell % 3])
    shown = found._repr_mimebundle_()
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown["text/plain"] == "TeacherReview('teacher' by 'anna': 10 of 24 cells judged)"
    axes = found.picture().axes
    texts = [text.get_text() for each in axes for text in each.texts]
    assert sum("judged" in text for text in texts) == 4
    assert any("gone.wav" in text for text in texts)
    assert sum(len(each.images) for each in axes) >= 6
    with pytest.raises(AudiotkError, match="AUDIOTK_HEADLESS"):
        _ = found.widget


def test_hostile_names_are_text_in_the_picture_and_many_classes_are_cut() -> None:
    index = make_segments("$\\frac{1$ <b>", 0.0, 1.0)["segment"]
    scores = pd.DataFrame(0.9, index=index, columns=["$x_{$", *(f"c{k}" for k in range(12))])
    figure = review(scores, None, 0.5, labeler="$", teacher="$^$").picture()
    figure.canvas.draw()
    assert any("5 more classes" in text.get_text() for axes in figure.axes for text in axes.texts)
