"""Trees: every node is there once, with its own number and bar, and no text lies on another."""

import io
import os
import sys
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from audiotk.datasets.raters import PATH
from audiotk.ontology import Ontology
from audiotk.tables import AudiotkError
from audiotk.trees import QUIET, tree

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "audioset"


@pytest.fixture(scope="module")
def mini() -> Ontology:
    return Ontology.from_json(PATH)


@pytest.fixture
def small() -> Ontology:
    """top > (left > shared > leaf, right > shared); other > right."""
    pairs = [("top", "left"), ("top", "right"), ("left", "shared"), ("right", "shared"), ("shared", "leaf")]
    return Ontology.from_pairs(pd.DataFrame([*pairs, ("other", "right")], columns=["parent", "child"]))


def texts(figure, kind: str) -> list[tuple[str, str]]:
    """(rest of the mark, text) of what carries a mark of this kind, from top to bottom."""
    found = [text for text in figure.findobj(Text) if (text.get_gid() or "").split(":")[0] == kind]
    return [(text.get_gid().removeprefix(kind)[1:], text.get_text()) for text in found]


def bars(figure) -> dict[float, list[float]]:
    """Lengths from zero of all bars, by the middle of their height in the figure, each list from left to right."""
    found = {}
    for axes in figure.axes:
        for bar in axes.patches:
            y = axes.transData.transform((1, bar.get_y() + bar.get_height() / 2))[1]
            found.setdefault(round(y), []).append(bar.get_x() + bar.get_width())
    return found


def overlapping(figure) -> list[tuple[str, str]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    drawn = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in drawn]
    frame = figure.bbox
    outside = [(name, "figure") for name, box in boxes if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < 0]
    crossing = [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    return outside + crossing


def test_every_node_is_drawn_once_with_its_number(mini):
    counts = pd.Series(np.arange(len(mini)) * 7, index=mini.ids)
    figure = tree(mini, None, counts)
    assert sorted(texts(figure, "node")) == sorted(zip(mini.ids, mini.names, strict=True))
    numbers = {int(place): text for place, text in texts(figure, "value")}
    assert numbers == {place: f"{value:,}" for place, value in enumerate(counts)}
    further = sum(len(mini.parents(name)) - 1 for name in mini.multi_parent)
    assert len(texts(figure, "again")) == further
    lengths = sorted(length for row in bars(figure).values() for length in row)
    assert lengths == pytest.approx(sorted(counts[counts > 0]))
    assert texts(figure, "title") == [("", "All roots  ·  70 nodes")]
    assert overlapping(figure) == []


def test_bars_stand_beside_their_names(mini):
    counts = pd.DataFrame({"before": np.arange(1, 71), "after": np.arange(1, 71) * 3}, index=mini.names)
    figure = tree(mini, "Animal", counts, columns=2)
    found = bars(figure)
    names = [text for text in figure.findobj(Text) if (text.get_gid() or "").startswith("node:")]
    assert len(names) == 1 + len(mini.descendants("Animal"))
    for text in names:
        y = figure.axes[0].transData.transform(text.get_position())[1]
        near = [length for at, row in found.items() if abs(at - y) < 9 for length in row]
        assert set(counts.loc[text.get_text()]) <= {round(length) for length in near}
    headings = [text for _, text in texts(figure, "heading")]
    assert headings == ["before", "after"] * 2
    assert overlapping(figure) == []


def test_several_parents(small):
    figure = tree(small, "top", {"top": 4, "shared": 1, "other": 9})
    assert [text for _, text in texts(figure, "node")] == ["top", "left", "shared", "leaf", "right"]
    assert texts(figure, "again") == [("shared", "shared")]
    assert texts(figure, "note") == [("right", "+ other"), ("shared", "↑ left")]
    assert [text for _, text in texts(figure, "value")] == ["4", "1"]
    [(_, legend)] = texts(figure, "legend")
    assert "↑" in legend
    assert "+" in legend
    assert "○" in legend  # left, right and leaf are no classes
    y = {text.get_gid(): text.get_position()[1] for text in figure.findobj(Text)}
    solid, dashed = (lines.get_segments() for lines in figure.axes[0].collections)
    upright = {tuple(sorted(line[:, 1])) for line in solid if line[0, 0] == line[1, 0]}
    links = [("top", "right"), ("left", "shared"), ("shared", "leaf")]
    expected = {(y[f"node:{parent}"], y[f"node:{last}"]) for parent, last in links}
    assert upright == expected | {(y["node:right"], y["again:shared"])}
    assert sorted(line[0, 1] for line in solid if line[0, 1] == line[1, 1]) == sorted(
        y[f"node:{name}"] for name in ("left", "shared", "leaf", "right")
    )
    assert [line[0, 1] for line in dashed] == [y["again:shared"]]
    hollow = {dot.get_ydata()[0] for dot in figure.axes[0].lines if dot.get_markerfacecolor() == "white"}
    assert hollow == {y[f"node:{name}"] for name in ("left", "leaf", "right")}
    [(_, alone)] = texts(tree(small, "left"), "legend")
    assert alone == "+ a further parent outside of this tree"


def test_depth_and_columns(small, mini):
    figure = tree(small, "top", depth=1)
    assert [text for _, text in texts(figure, "node")] == ["top", "left", "right"]
    assert texts(figure, "note") == [("left", "… 2 below"), ("right", "… 2 below  + other")]
    three = tree(mini, columns=3)
    assert sorted(texts(three, "node")) == sorted(zip(mini.ids, mini.names, strict=True))
    assert overlapping(three) == []
    lefts = {
        round(text.get_position()[0]) for text in three.findobj(Text) if (text.get_gid() or "").startswith("node:")
    }
    assert len(lefts) >= 3
    assert overlapping(tree(mini, "Dog", columns=50)) == []


def test_a_column_repeats_what_lies_above_its_first_node():
    chain = [("r", "a"), ("a", "b"), *(("b", f"leaf {i}") for i in range(10))]
    figure = tree(Ontology.from_pairs(pd.DataFrame(chain, columns=["parent", "child"])), "r", columns=2)
    assert [text for _, text in texts(figure, "context")] == ["r", "a", "b"]
    assert len(texts(figure, "node")) == 13


def test_extreme_values_and_long_names():
    names = ["a very long name, with commas, $dollars$ and <tags> that goes on and on " + str(i) for i in range(4)]
    pairs = pd.DataFrame({"parent": names[0], "child": names[1:]})
    ontology = Ontology.from_pairs(pairs)
    figure = tree(ontology, names[0], pd.DataFrame({"x": [0, 3_000_000, np.nan, 0.004]}, index=names))
    assert [text for _, text in texts(figure, "node")] == names
    assert [text for _, text in texts(figure, "value")] == ["0", "3,000,000", "–", "0.004"]
    assert sorted(length for row in bars(figure).values() for length in row) == pytest.approx([0.004, 3_000_000])
    assert overlapping(figure) == []
    assert overlapping(tree(ontology, names[0], dict.fromkeys(names, 0))) == []
    assert overlapping(tree(ontology, names[1], title="one node")) == []
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    assert b"<tags>" not in file.getvalue()


def test_names_are_cleaned_and_shortened_in_the_drawing_only():
    names = ["top\nof\tall", "x" * 300, "a name with \x07 a bell"]
    ontology = Ontology.from_pairs(pd.DataFrame({"parent": names[0], "child": names[1:]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph 10 missing from font"
        figure = tree(ontology, names[0], dict.fromkeys(names, 3))
        assert overlapping(figure) == []
    assert [text for _, text in texts(figure, "node")] == ["top of all", "x" * 79 + "…", "a name with a bell"]
    assert texts(figure, "title")[0][1].startswith("top of all  ·  3 nodes")
    assert figure.get_figwidth() < 10


def test_a_node_without_a_number_is_told_and_not_drawn_as_counted(small):
    nodes = ["top", "left", "right", "shared", "leaf"]
    counts = pd.DataFrame({"OL": [1, np.nan, 2, 3, 4], "PEL": [10, 5, 2, 3, 4]}, index=nodes)
    figure = tree(small, "top", counts)
    told = texts(figure, "legend")[0][1]
    assert "○ with –: no class in that column" in told
    assert "○ no class of the data" not in told
    colours = {text.get_text(): text.get_color() for text in figure.findobj(Text) if text.get_gid()}
    assert colours["left"] == QUIET != colours["right"]
    assert "–" not in texts(tree(small, "top", counts.fillna(0)), "legend")[0][1]
    without = tree(small, "top", counts.drop("left"))
    assert "○ no class of the data" in texts(without, "legend")[0][1]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"Dgo": 1}, "Dog"),
        ({"Dog": -1}, "'Dog'"),
        ({"Dog": np.inf}, "'Dog'"),
        ({"Dog": 1, "/m/0bt9lr": 2}, "'Dog'"),
        (pd.DataFrame(np.ones((1, 4)), index=["Dog"]), "1 to 3 values"),
    ],
)
def test_bad_values(mini, counts, told):
    with pytest.raises(AudiotkError) as caught:
        tree(mini, "Animal", counts)
    assert told in str(caught.value)


def test_an_unknown_root_and_sizes_that_cannot_be(mini):
    for wrong in ({"columns": 0}, {"depth": -1}):
        with pytest.raises(AudiotkError, match="depth >= 0 and columns >= 1"):
            tree(mini, "Animal", **wrong)
    with pytest.raises(AudiotkError, match="'Animl'; similar to 'Animl': 'Animal'"):
        tree(mini, "Animl")


@pytest.mark.skipif(not (AUDIOSET / "ontology.json").exists(), reason="no AudioSet label files")
@pytest.mark.parametrize(("root", "nodes"), [("Animal", 73), ("Musical instrument", 92), ("Vehicle", 45)])
def test_audioset(root, nodes):
    ontology = Ontology.read(AUDIOSET / "ontology.json")
    rng = np.random.default_rng(0)
    values = pd.DataFrame(
        rng.integers(0, 10**6, (len(ontology), 2)), columns=["original", "PE-CML"], index=ontology.ids
    )
    figure = tree(ontology, root, values)
    wanted = {root, *ontology.descendants(root)}
    assert sorted(text for _, text in texts(figure, "node")) == sorted(wanted)
    assert len(wanted) == nodes
    assert overlapping(figure) == []
    assert figure.get_figwidth() < 14


def test_pyplot_is_left_alone():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
