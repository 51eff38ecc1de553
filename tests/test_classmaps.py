"""Class maps: P1's real one, Kleene OR against a loop over cells, and broken files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotk.datasets.audioset import read_classes
from audiotk.ontology import read_class_map
from audiotk.tables import AudiotkError, Labels

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "audioset"
SMALL = 'unused,animal,water\nnoise,"bark, woof",rain\n,meow,splash\n,splash,\n'


@pytest.fixture
def small(tmp_path):
    (tmp_path / "map.csv").write_text(SMALL)
    return read_class_map(tmp_path / "map.csv")


@pytest.mark.skipif(not (AUDIOSET / "acd_class_mapping.csv").exists(), reason="no AudioSet label files")
def test_p1s_map():
    found = read_class_map(AUDIOSET / "acd_class_mapping.csv")
    names = read_classes(AUDIOSET)["display_name"]
    assert found.classes == (
        "voice", "music", "cat", "dog", "clapping", "urban", "machinery", "nature", "windnoise", "alarm", "gunshot",
    )  # fmt: skip
    assert len(found.unused) == 333
    assert {*found.unused, *found.table["label"]} == set(names)
    assert found.table["label"][found.table["label"].duplicated()].tolist() == ["Wind"]
    assert set(found.table["class_name"][found.table["label"] == "Wind"]) == {"nature", "windnoise"}
    members = found.table.groupby("class_name")["label"].agg(set)
    assert members["music"] == {"Music", "Musical instrument"}
    one = Labels.from_cells(names, names, range(527), range(527), np.ones(527), 0.0)
    mapped = found.apply(one).frame()
    assert mapped.to_numpy().sum() == len(found.table) == 195
    assert mapped.columns[mapped.loc["Wind"] == 1].tolist() == ["nature", "windnoise"]
    assert mapped.loc[list(found.unused)].to_numpy().sum() == 0


VALUES = st.sampled_from([0.0, 1.0, np.nan])


@given(st.lists(st.tuples(*[VALUES] * 5), min_size=1, max_size=6), st.sampled_from([0.0, np.nan]))
def test_classes_are_joined_by_kleene_or(tmp_path_factory, rows, default):
    path = tmp_path_factory.mktemp("map") / "map.csv"
    path.write_text(SMALL)
    frame = pd.DataFrame(rows, columns=["rain", "splash", "noise", "meow", "bark, woof"])
    frame.index = pd.Index([f"s{i}" for i in range(len(rows))])
    got = read_class_map(path).apply(Labels.from_frame(frame, default))
    assert got.default == default or (np.isnan(got.default) and np.isnan(default))
    for name, members in {"animal": ["bark, woof", "meow", "splash"], "water": ["rain", "splash"]}.items():
        for segment in frame.index:
            values = [frame.loc[segment, member] for member in members]
            expected = 1.0 if 1.0 in values else (np.nan if np.isnan(values).any() else 0.0)
            np.testing.assert_equal(float(got.frame().loc[segment, name]), expected)


def test_labels_and_map_have_to_agree(small):
    names = ["bark, woof", "meow", "splash", "rain", "noise"]
    frame = pd.DataFrame(np.zeros((1, 5)), columns=names, index=["s"])
    assert small.apply(Labels.from_frame(frame)).classes.tolist() == ["animal", "water"]
    with pytest.raises(AudiotkError, match="1 in neither: 'moo'"):
        small.apply(Labels.from_frame(frame.assign(moo=0.0)))
    with pytest.raises(AudiotkError, match="no classes of the labels: 'rain', 'meow'"):
        small.apply(Labels.from_frame(frame.drop(columns=["meow", "rain"])))
    small.apply(Labels.from_frame(frame.drop(columns="noise")))  # an unused label need not be there


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "first row"),
        ("unused\nx\n", "first row"),
        ("a,a\nx,y\n", "first row"),
        ("a,b\nx,y\nz,z,z\n", "row 3"),
        ("a,b\nx,y\nx,z\n", "('x', 'a')"),
        ("unused,b\nx,y\n,x\n", "'unused': x"),
        ("a,b\nx,\n", "['b']"),
        ('a,b\n"x,y\n', "map.csv"),
    ],
)
def test_broken_maps(tmp_path, text, told):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(AudiotkError) as caught:
        read_class_map(tmp_path / "map.csv")
    assert told in str(caught.value)
    assert "map.csv" in str(caught.value)


def test_no_map(tmp_path):
    with pytest.raises(AudiotkError, match=r"none\.csv"):
        read_class_map(tmp_path / "none.csv")
