"""Correction and masking by scores against loops over every cell, and at the thresholds themselves."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import twins_relabel as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_relabel import NODES, label_frames, labels_of, repairs, score_frames

import audiotk.relabel.audit
from audiotk.relabel import (
    compose,
    correct,
    cross_fit,
    mean_threshold,
    parent_expand,
    percentile,
)
from audiotk.scores import write_scores
from audiotk.tables import AudiotkError, Labels

TYPES = st.sampled_from([np.float16, np.float32, np.float64])
DEFAULTS = st.sampled_from([0.0, np.nan])
HOW = st.sampled_from(["keep", "correct", "mask", "correct+mask"])
FEW = settings(max_examples=50)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    kept, audiotk.relabel.audit.BLOCK = audiotk.relabel.audit.BLOCK, 2
    yield
    audiotk.relabel.audit.BLOCK = kept


@st.composite
def scored(draw, max_segments=6):
    """(labels, their frame, scores in some float type and another order, the type)."""
    frame = draw(label_frames(NODES[: draw(st.integers(1, 3))], max_segments))
    dtype = draw(TYPES)
    return labels_of(frame, draw(DEFAULTS)), frame, draw(score_frames(frame, dtype)), dtype


# --- correct ----------------------------------------------------------------------------------------------------------


@FEW
@given(scored(), HOW, HOW, st.data())
def test_correct_equals_its_twin(case, missing, wrong, data):
    labels, frame, scores, _ = case
    some = st.sampled_from(["0", "0.05", "0.1", "0.15", "0.3", "0.45", "0.5"])
    number = data.draw(st.sampled_from([float, np.float32, np.float16, Decimal]))
    texts = {name: data.draw(some) for name in frame.columns}
    by_class = {name: number(text) for name, text in texts.items()}
    one = by_class[frame.columns[0]]
    series = pd.Series(by_class, dtype=object if number is Decimal else np.dtype(number))[::-1]
    threshold = data.draw(st.sampled_from([one, by_class, series]))
    result = correct(labels, scores, threshold, missing, wrong)
    limits = dict.fromkeys(frame.columns, texts[frame.columns[0]]) if threshold is one else texts
    twins.frames_equal(result.labels.frame(), twins.correct(frame, scores, limits, missing, wrong))
    expected = twins.changes(frame, result.labels.frame(), labels.default)
    assert result.audit.cells == len(expected)
    assert result.audit.rule == "correct"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("threshold", [0.05, 0.07, 0.1, 0.3])
@pytest.mark.parametrize("default", [0.0, np.nan])
def test_a_score_at_a_threshold_changes_nothing_and_one_beside_it_does(dtype, threshold, default, tmp_path):
    limits = np.array([threshold, 0.5, float(1 - Decimal(str(threshold)))]).astype(dtype)
    below, above = np.nextafter(limits, limits.dtype.type(0)), np.nextafter(limits, limits.dtype.type(1))
    scores = np.stack([below, limits, above]).T.ravel()  # three scores at each of T, 0.5, 1 - T
    ids = [f"s{k}" for k in range(9)]
    frame = pd.DataFrame({"was 0": [0.0] * 9, "was 1": [1.0] * 9}, index=ids)
    table = pd.DataFrame({"was 0": scores, "was 1": scores}, index=ids)
    write_scores(tmp_path / "s.parquet", table, dtype)
    keep, nan = "keep", np.nan
    zero = [0, 0, 0, 0, 0, nan, nan, 0, 1]  # T: no matter; 0.5: masked above; 1 - T: masked below, 1 above
    one = [0, 1, nan, nan, 1, 1, 1, 1, 1]
    for source in (table, tmp_path / "s.parquet"):
        both = correct(labels_of(frame, default), source, threshold, "correct+mask", "correct+mask").labels.frame()
        assert np.array_equal(both["was 0"], zero, equal_nan=True)
        assert np.array_equal(both["was 1"], one, equal_nan=True)
        missing = correct(labels_of(frame, default), source, threshold, "correct", keep).labels.frame()
        assert missing["was 0"].tolist() == [0] * 8 + [1]
        assert missing["was 1"].tolist() == [1] * 9
        masked = correct(labels_of(frame, default), source, threshold, keep, "mask").labels.frame()
        assert masked["was 1"].isna().tolist() == [False, False, True, True] + [False] * 5


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, Decimal])
@pytest.mark.parametrize("text", ["0.05", "0.07", "0.1", "0.3"])
def test_a_threshold_is_the_decimal_that_it_is_shown_as(kind, text):
    exact = Fraction(text)
    frame = pd.DataFrame({"was 0": [0.0, 0.0], "was 1": [1.0, 1.0]}, index=["low", "high"])
    scores = pd.DataFrame({name: [float(exact), float(1 - exact)] for name in frame}, index=frame.index)
    given = pd.Series([kind(text)] * 2, index=frame.columns, dtype=object if kind is Decimal else kind)
    for threshold in (kind(text), given, dict.fromkeys(frame.columns, kind(text))):
        result = correct(labels_of(frame, 0.0), scores, threshold, "correct+mask", "correct+mask")
        assert result.audit.cells == 0  # every score is at a limit


def test_thresholds_by_class_and_the_audit_by_class():
    frame = pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 1.0]}, index=["x", "y"])
    scores = pd.DataFrame({"a": [0.92, 0.7], "b": [0.92, 0.2]}, index=["x", "y"])
    result = correct(labels_of(frame, 0.0), scores, {"a": 0.1, "b": 0.05}, wrong="correct+mask")
    told = result.audit.table().to_dict("list")
    assert told == {
        "rule": ["correct"] * 4,
        "class_name": ["a", "a", "b", "b"],
        "before": ["absent", "absent", "present", "absent"],
        "after": ["present", "unknown", "unknown", "unknown"],
        "cells": [1, 1, 1, 1],
    }


def test_options_out_of_range_are_refused():
    frame = pd.DataFrame({"a": [0.0], "b": [1.0]}, index=["x"])
    labels = labels_of(frame, 0.0)
    scores = frame * 0.5
    with pytest.raises(AudiotkError, match=r"missing to be one of .* got 'fix'"):
        correct(labels, scores, missing="fix")
    with pytest.raises(AudiotkError, match=r"wrong to be one of .* got ''"):
        correct(labels, scores, wrong="")
    for bad in (-0.1, 0.51, math.nan, None, "0.05", False, [0.1, 0.1], {"a": 0.1, "b": 0.6}, {"a": 0.1, "b": "0.1"}):
        with pytest.raises(AudiotkError, match=r"class '[ab]': expected a threshold in \[0, 0.5\], got"):
            correct(labels, scores, bad)
    with pytest.raises(AudiotkError, match="class 'a' has more than one threshold"):
        correct(labels, scores, pd.Series([0.1, 0.2, 0.1], index=["a", "a", "b"]))
    with pytest.raises(AudiotkError, match="'b' has none"):
        correct(labels, scores, {"a": 0.1})
    with pytest.raises(AudiotkError, match="'c' is not among them"):
        correct(labels, scores, {"a": 0.1, "b": 0.1, "c": 0.1})
    for q, mode in (
        (-1, "mask"),
        (101, "mask"),
        (math.nan, "mask"),
        ("5", "mask"),
        (True, "mask"),
        (None, "mask"),
        (5, "keep"),
    ):
        with pytest.raises(AudiotkError, match=r"q in \[0, 100\] and mode"):
            percentile(labels, scores, q, mode)
    for statistic in ("max", -1, 101, math.nan, None, True, ["mean"]):
        with pytest.raises(AudiotkError, match="'mean', 'median' or a percentile"):
            mean_threshold(labels, scores, statistic)
    with pytest.raises(AudiotkError, match="'ontology' and an ontology"):
        mean_threshold(labels, scores, scope="ontology")
    with pytest.raises(AudiotkError, match="expected scope 'any'"):
        mean_threshold(labels, scores, scope="all")


@pytest.mark.parametrize("rule", [correct, percentile, mean_threshold])
def test_bad_scores_are_refused_by_every_rule(rule):
    labels = labels_of(pd.DataFrame({"a": [0.0, 1.0]}, index=["x", "y"]), 0.0)
    for value in (np.nan, 1.5, -0.1):
        with pytest.raises(AudiotkError, match=rf"segment 'y', class 'a': expected .* got {value}"):
            rule(labels, pd.DataFrame({"a": [0.5, value]}, index=["x", "y"]))
    with pytest.raises(AudiotkError, match="segment 'y' of the labels has no scores"):
        rule(labels, pd.DataFrame({"a": [0.5]}, index=["x"]))


# --- percentile and mean threshold ------------------------------------------------------------------------------------


@FEW
@given(scored(max_segments=9), st.sampled_from([0, 1, 5, 7, 20, 33.3, 50, 100]), st.booleans())
def test_percentile_equals_its_twin(case, q, mask):
    labels, frame, scores, _ = case
    result = percentile(labels, scores, q, "mask" if mask else "correct")
    twins.frames_equal(result.labels.frame(), twins.percentile(frame, scores, q, np.nan if mask else 1.0))


def test_the_share_is_exact_and_never_touches_a_positive():
    ids = [f"s{k:03d}" for k in range(100)]
    frame = pd.DataFrame({"a": [0.0] * 100, "b": [1.0] * 50 + [0.0] * 50, "c": [1.0] * 100}, index=ids)
    scores = pd.DataFrame({name: np.linspace(0, 1, 100) for name in "abc"}, index=ids)
    changed = percentile(labels_of(frame, 0.0), scores, q=7).audit.table().set_index("class_name")["cells"]
    assert changed.to_dict() == {"a": 7, "b": 4}  # 7 % of 100 is 7 (0.07 * 100 is a little more in floats), of 50: 3.5


@FEW
@given(scored(), st.sampled_from(["mean", "median", 0, 25, 100]))
def test_mean_threshold_equals_its_twin(case, statistic):
    labels, frame, scores, _ = case
    result = mean_threshold(labels, scores, statistic)
    twins.frames_equal(result.labels.frame(), twins.mean_threshold(frame, scores, statistic))


@FEW
@given(repairs(), TYPES, st.data())
def test_mean_threshold_within_the_hierarchy_equals_its_twin(case, dtype, data):
    ontology, parents, labels, frame = case
    scores = data.draw(score_frames(frame, dtype))
    result = mean_threshold(labels, scores, scope="ontology", ontology=ontology)
    twins.frames_equal(result.labels.frame(), twins.mean_threshold(frame, scores, "mean", parents))


def test_a_class_without_a_positive_has_no_threshold():
    frame = pd.DataFrame({"a": [0.0, 0.0, np.nan], "b": [1.0, 0.0, np.nan]}, index=list("xyz"))
    scores = pd.DataFrame({"a": [1.0, 0.9, 1.0], "b": [0.2, 0.9, 0.9]}, index=list("xyz"))
    for default in (0.0, np.nan):
        result = mean_threshold(labels_of(frame, default), scores)
        assert result.audit.table().to_dict("records") == [
            {"rule": "mean-threshold", "class_name": "b", "before": "absent", "after": "present", "cells": 1}
        ]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_score_equal_to_the_mean_of_equal_scores_is_not_above_it(dtype):
    for value in (0.1, 0.3, 0.7, 0.95):
        scores = pd.DataFrame({"a": np.full(8, value, dtype)}, index=list("abcdefgh"))
        frame = pd.DataFrame({"a": [1.0] * 7 + [0.0]}, index=list("abcdefgh"))
        assert mean_threshold(labels_of(frame, 0.0), scores).audit.cells == 0


# --- all rules --------------------------------------------------------------------------------------------------------

RULES = {
    "correct": lambda labels, scores: correct(labels, scores, 0.1, wrong="correct+mask"),
    "percentile": lambda labels, scores: percentile(labels, scores, 30),
    "mean-threshold": mean_threshold,
}


@FEW
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_classes_and_the_default_make_no_difference(case, random):
    labels, frame, scores, _ = case
    rows, columns = list(frame.index), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    for rule in RULES.values():
        result = rule(labels, scores).labels.frame()
        for default in (0.0, np.nan):
            moved = rule(labels_of(frame.loc[rows, columns], default), scores).labels.frame()
            twins.frames_equal(moved.loc[frame.index, frame.columns], result)
    twins.frames_equal(labels.frame(), frame)  # the input is as it was


@FEW
@given(scored())
def test_unknown_cells_stay_unknown(case):
    labels, frame, scores, _ = case
    for rule in RULES.values():
        assert rule(labels, scores).labels.frame().isna()[frame.isna()].fillna(True).all(axis=None)


@FEW
@given(repairs(), st.data())
def test_rules_one_after_the_other(case, data):
    ontology, parents, labels, frame = case
    scores = data.draw(score_frames(frame))
    steps = [lambda x: parent_expand(x, ontology), lambda x: correct(x, scores, 0.1), lambda x: percentile(x, scores)]
    final, audits = compose(labels, steps)
    limits = dict.fromkeys(frame.columns, "0.1")
    expected = twins.correct(twins.pel(frame, parents), scores, limits, "correct+mask", "keep")
    twins.frames_equal(final.frame(), twins.percentile(expected, scores, 5, np.nan))
    assert [audit.rule for audit in audits] == ["pel", "correct", "percentile"]
    assert audits[0].before is labels
    assert audits[1].before is audits[0].after
    assert audits[2].after is final


# --- cross_fit --------------------------------------------------------------------------------------------------------


def test_no_segment_is_scored_by_a_teacher_that_knew_its_group():
    ids = [f"s{k:02d}" for k in range(23)]
    groups = pd.Series([f"g{k % 7}" for k in range(23)], index=ids)
    labels = Labels.from_cells(ids[::-1], ["a", "b"], [0], [0], [1], 0.0)
    calls = []

    def fit_predict(train, predict):
        calls.append((set(train), set(predict)))
        assert set(groups[train]) & set(groups[predict]) == set()
        fold = float(len(calls)) / 10
        return pd.DataFrame({"b": fold, "a": 0.5}, index=predict[::-1])  # in another order

    scores = cross_fit(fit_predict, labels, groups, 3, np.random.default_rng(0))
    assert list(scores.index) == list(labels.segments)
    assert list(scores.columns) == ["a", "b"]
    assert len(calls) == 3
    assert all(train | predict == set(ids) and not train & predict for train, predict in calls)
    assert max(len(predict) for _, predict in calls) <= 10
    for number, (_, predict) in enumerate(calls, 1):
        assert (scores.loc[sorted(predict), "b"] == number / 10).all()
    first = [predict for _, predict in calls]
    calls.clear()
    moved = labels.select(ids)
    cross_fit(fit_predict, moved, groups[::-1], 3, np.random.default_rng(0))
    assert [predict for _, predict in calls] == first  # the order of rows makes no difference
    correct(labels, scores)


def test_cross_fit_refuses_what_does_not_fit():
    labels = Labels.from_cells(["x", "y", "z"], ["a"], [], [], [], 0.0)
    groups = pd.Series(["g", "g", "h"], index=["x", "y", "z"])
    rng = np.random.default_rng(0)

    def with_scores(value, ids=None):
        return lambda train, predict: pd.DataFrame({"a": value}, index=predict if ids is None else ids)

    for folds in (1, 3):
        with pytest.raises(AudiotkError, match=rf"expected 2 to 2 folds .* got {folds}"):
            cross_fit(with_scores(0.5), labels, groups, folds, rng)
    with pytest.raises(AudiotkError, match="segment 'z' has no group"):
        cross_fit(with_scores(0.5), labels, groups[:2], 2, rng)
    with pytest.raises(AudiotkError, match="segment 'x' has two rows of groups"):
        cross_fit(with_scores(0.5), labels, pd.concat([groups, groups[:1]]), 2, rng)
    with pytest.raises(AudiotkError, match="expected a score in"):
        cross_fit(with_scores(2.0), labels, groups, 2, rng)
    with pytest.raises(AudiotkError, match=r"segment '[xyz]' of the labels has no scores"):
        cross_fit(with_scores(0.5, ["w"]), labels, groups, 2, rng)
