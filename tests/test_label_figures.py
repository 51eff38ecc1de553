"""Figures of labels: they hold the numbers they were given and can be drawn."""

import io

import numpy as np
import pandas as pd
import pytest

from audiotk import label_figures
from audiotk.noise import repair_quality
from audiotk.tables import Labels


def drawn(figure):
    """The figure as PNG; drawing is where most mistakes show."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.tell() > 2000
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_coselection_draws_each_frequent_pair_and_names_the_marked_ones():
    table = pd.DataFrame(
        [("a", "b", "X", 5, 20), ("c", "$b^$", "Y", 20, 20), ("d", "b", "X", 1, 2)],
        columns=["child", "parent", "part", "both", "n"],
    )
    table["share"] = table["both"] / table["n"]
    axes = drawn(label_figures.coselection(table, [("c", "$b^$"), ("no", "pair"), ("d", "b")], fewest=10)).axes[0]
    dots = axes.collections[0].get_offsets()
    np.testing.assert_allclose(sorted(dots[:, 0]), [0.25, 1.0])
    assert texts(axes) == ["all pairs: 62 %", "c > $b^$: 100 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["X", "Y"]


def test_empty_tables_say_so():
    edges = pd.DataFrame({"child": ["a"], "parent": ["b"], "part": ["X"], "both": [0], "n": [0], "share": [np.nan]})
    none = pd.DataFrame(columns=["metric", "arm", "value", "low", "high"])
    few = pd.DataFrame({"missing": [2], "wrong": [1], "repaired": [1], "masked_errors": [0], "left": [2]}, index=["a"])
    figures = {
        "no pair of a class": [label_figures.coselection(edges), label_figures.coselection(edges[:0])],
        "no shares": [label_figures.shares(none, "share")],
        "no group with 30 errors": [label_figures.repairs({"rule": few}), label_figures.repairs({})],
        "no rules": [label_figures.quality({}), label_figures.quality({"trial": {}})],
    }
    for told, drawings in figures.items():
        for figure in drawings:
            assert told in drawn(figure).texts[0].get_text()


def test_shares_show_values_and_intervals():
    rows = [("x", "A", 0.2, 0.1, 0.3), ("x", "B", 0.5, 0.4, 0.6), ("y", "B", 0.9, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["metric", "arm", "value", "low", "high"])
    axes = drawn(label_figures.shares(table, "share")).axes[0]
    by_arm = {line.get_label(): list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    assert by_arm == {"A": [0.2], "B": [0.5, 0.9]}
    ends = [segment[:, 0].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert ends == [[0.1, 0.3], [0.4, 0.6], [0, 1]]
    assert axes.collections[3].get_linestyle()[0][1] is not None  # no interval: a dotted line
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]


def test_per_segment_is_the_share_with_at_least_so_many():
    tables = {
        "OL": pd.DataFrame({"labels": [1, 1, 3, 3], "masked": [0, 0, 0, 0]}),
        "PE-CML": pd.DataFrame({"labels": [2, 2, 3, 4], "masked": [0, 5, 0, 0]}),
    }
    left, right = drawn(label_figures.per_segment(tables)).axes
    first = next(line for line in left.lines if line.get_label().startswith("OL: mean 2.00"))
    assert list(first.get_ydata()) == [1, 1, 0.5, 0.5, 0]
    assert [line.get_label() for line in right.lines] == ["PE-CML: mean 1.25"]
    assert list(right.lines[0].get_ydata()) == [1, *[0.25] * 5, 0]
    nothing = {"OL": tables["OL"]}
    assert texts(drawn(label_figures.per_segment(nothing)).axes[1]) == ["none"]


def test_repairs_add_up():
    table = pd.DataFrame(
        {"missing": [60, 40, 2], "wrong": [0, 60, 1], "repaired": [30, 0, 0], "masked_errors": [15, 50, 0],
         "left": [15, 70, 3]},
        index=["a", "b", "few"],
    )  # fmt: skip
    axes = drawn(label_figures.repairs({"rule": table})).axes[0]
    widths = {box.get_label(): [bar.get_width() for bar in box] for box in axes.containers}
    assert widths["repaired"] == pytest.approx([0.5, 0.0])
    assert widths["masked"] == pytest.approx([0.25, 0.5])
    assert widths["left"] == pytest.approx([0.25, 0.5])
    assert widths["made by the rule"] == pytest.approx([0.0, -0.2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (60)", "b (100)"]


def test_quality_shows_all_cells_the_spread_over_classes_and_chance():
    rng, names = np.random.default_rng(0), [f"c{i}" for i in range(5)]
    truth, before, after = (
        Labels.from_frame(
            pd.DataFrame(rng.choice(values, (200, 5)), index=[f"s{i}" for i in range(200)], columns=names)
        )
        for values in ([0.0, 1.0], [0.0, 1.0], [0.0, 1.0, np.nan])
    )
    table, same = repair_quality(truth, before, after), repair_quality(truth, before, before)
    figure = drawn(label_figures.quality({"one": {"$rule$": table, "idle": same}, "two": {"$rule$": same}}))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$rule$", "idle"]
    for axes, column in zip(figure.axes, label_figures.QUALITY, strict=True):
        shown = [line for line in axes.lines if line.get_marker() == "o"]
        assert [list(line.get_xdata()) for line in shown] == [
            [table.loc["(all)", column]]
        ]  # a rule that does nothing: -
        ((ends,),) = [[path[:, 0] for path in lines.get_segments()] for lines in axes.collections]
        np.testing.assert_allclose(ends, np.quantile(table.loc[names, column], [0.1, 0.9]))
    chance = [line.get_xdata() for line in figure.axes[2].lines if line.get_marker() == "x"]
    assert [list(x) for x in chance] == [[table.loc["(all)", "chance"]]]


def test_words_escape_and_cut_off_nothing():
    long = "word " * 60
    page = label_figures.words(pd.DataFrame({"a<b": ["<script>", long]}, index=["x&y", "z"])).data
    assert "<script" not in page
    assert "a&lt;b" in page
    assert "x&amp;y" in page
    assert long in page
    several = pd.MultiIndex.from_tuples([("features", "<OL>"), ("scratch", "")])
    page = label_figures.words(pd.DataFrame({"a": ["1", "2"]}, index=several)).data
    assert ">features, &lt;OL&gt;<" in page
    assert ">scratch<" in page
