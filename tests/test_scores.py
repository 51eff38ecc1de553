"""Scores on disk and in memory: round trips, order, types, and what is refused."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import audiotk.scores
from audiotk.scores import comparable, exceeds, open_scores, write_scores
from audiotk.tables import AudiotkError, Labels

CLASSES = ["Dog", "Whimper (dog)", "Dishes, pots, and pans", "a.b", "a"]


def scores_of(n=7, seed=0, dtype="float32"):
    values = np.random.default_rng(seed).random((n, len(CLASSES))).astype(dtype)
    return pd.DataFrame(values, [f"s{k}" for k in range(n)], CLASSES)


def labels_like(scores):
    return Labels.from_cells(scores.index, scores.columns, [], [], [], 0.0)


def read_all(source, labels):
    columns = [values for _, values in open_scores(source).columns(labels)]
    return pd.DataFrame(np.stack(columns, axis=1), labels.segments, labels.classes)


def assert_same(ours, expected):
    pd.testing.assert_frame_equal(ours, expected, check_names=False, check_column_type=False, check_index_type=False)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_written_is_read_in_the_order_of_the_labels(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(audiotk.scores, "READ_BYTES", 100)  # some columns at a time
    monkeypatch.setattr(audiotk.scores, "GROUP_CELLS", 15)  # three segments a row group
    scores = scores_of(dtype="float64")
    parts = [scores.iloc[:2], scores.iloc[2:3], scores.iloc[3:, ::-1], scores.iloc[7:]]
    write_scores(tmp_path / "s.parquet", iter(parts), dtype)
    assert pq.ParquetFile(tmp_path / "s.parquet").metadata.num_row_groups > 1
    file = open_scores(tmp_path / "s.parquet")
    assert (list(file.segments), list(file.classes)) == (list(scores.index), CLASSES)
    moved = scores.astype(dtype).iloc[[3, 0, 6, 2, 5, 1, 4], [1, 0, 4, 3, 2]]
    for source in (file, scores.astype(dtype)):
        assert_same(read_all(source, labels_like(moved)), moved)
        assert_same(read_all(source, labels_like(moved)), moved)  # as often as asked
        places, blocks = zip(*open_scores(source).blocks(labels_like(moved), width=2), strict=True)
        assert places == (slice(0, 2), slice(2, 4), slice(4, 5))
        assert {block.dtype for block in blocks} == {np.dtype("float64" if dtype == "float64" else "float32")}
        assert np.array_equal(np.concatenate(blocks, axis=1), moved.to_numpy())
        at = open_scores(source).at(["s3", "s0", "s3"], ["a", "Dog", "Dog"])
        assert at.tolist() == [moved.loc["s3", "a"], moved.loc["s0", "Dog"], moved.loc["s3", "Dog"]]


def test_pandas_own_files_and_whole_numbers_are_read(tmp_path):
    scores = pd.DataFrame({"a": [0, 1], "b": [0.25, 0.5]}, index=pd.Index(["x", "y"], name="segment"))
    scores.to_parquet(tmp_path / "p.parquet")
    for source in (scores, tmp_path / "p.parquet", str(tmp_path / "p.parquet")):
        assert read_all(source, labels_like(scores)).to_numpy().tolist() == [[0.0, 0.25], [1.0, 0.5]]


def test_no_segments(tmp_path):
    empty = scores_of(0)
    write_scores(tmp_path / "s.parquet", empty)
    assert read_all(tmp_path / "s.parquet", labels_like(empty)).shape == (0, len(CLASSES))


@pytest.mark.parametrize("value", [np.nan, 1.0001, -0.25, np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_bad_score_is_named(tmp_path, value, dtype):
    scores = scores_of(dtype=dtype)
    scores.loc["s4", "Whimper (dog)"] = np.array(1.01 if value > 1 and np.isfinite(value) else value, dtype)
    told = r"segment 's4', class 'Whimper \(dog\)': expected a score in \[0, 1\], got (nan|1\.0|-0\.25|inf)"
    pq.write_table(pa.Table.from_pandas(scores.rename_axis("segment").reset_index()), tmp_path / "bad.parquet")
    for source in (scores, tmp_path / "bad.parquet"):
        with pytest.raises(AudiotkError, match=told):
            read_all(source, labels_like(scores))
        with pytest.raises(AudiotkError, match=told):
            open_scores(source).at(["s4"], ["Whimper (dog)"])
    with pytest.raises(AudiotkError, match=told):
        write_scores(tmp_path / "out.parquet", [scores_of(), scores.rename(index=lambda s: s)], "float32")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.parquet"]  # nothing half-written


def test_a_missing_score_in_a_file_is_named(tmp_path):
    pq.write_table(pa.table({"segment": ["x", "y"], "a": pa.array([0.5, None])}), tmp_path / "s.parquet")
    with pytest.raises(AudiotkError, match=r"segment 'y', class 'a'.* got nan"):
        read_all(tmp_path / "s.parquet", Labels.from_cells(["x", "y"], ["a"], [], [], [], 0.0))


def test_a_segment_or_class_without_a_name_is_refused(tmp_path):
    pq.write_table(pa.table({"segment": ["x", None], "a": [0.5, 0.5]}), tmp_path / "s.parquet")
    with pytest.raises(AudiotkError, match=r"s\.parquet: segment number 1: expected a name, got none"):
        open_scores(tmp_path / "s.parquet")
    with pytest.raises(AudiotkError, match="class number 0: expected a name, got none"):
        open_scores(pd.DataFrame([[0.5, 0.5]], ["x"], [None, "b"]))


@pytest.mark.parametrize("source", [np.zeros((2, 2)), pd.Series([0.5]), {"a": [0.5]}, None, 3])
def test_sources_of_another_type_are_refused(tmp_path, source):
    told = f"expected a DataFrame or a Parquet path, got {type(source).__name__}"
    with pytest.raises(AudiotkError, match=told):
        open_scores(source)
    with pytest.raises(AudiotkError, match="expected a DataFrame or several"):
        write_scores(tmp_path / "s.parquet", source)


def test_errors_about_values_name_the_file(tmp_path):
    pq.write_table(pa.table({"segment": ["x"], "a": [1.5], "b": ["high"]}), tmp_path / "s.parquet")
    for name, told in (("a", "segment 'x', class 'a': expected a score"), ("b", "class b: expected floats")):
        with pytest.raises(AudiotkError, match=rf"s\.parquet: {told}"):
            open_scores(tmp_path / "s.parquet").at(["x"], [name])


def test_minus_zero_is_zero():
    scores = pd.DataFrame({"a": np.array([-0.0, 0.5], dtype="float16")}, index=["x", "y"])
    ((_, values),) = open_scores(scores).columns(labels_like(scores))
    assert not np.signbit(values).any()


def test_scores_and_labels_have_to_match():
    scores = scores_of()
    labels = labels_like(scores)
    for source, told in (
        (scores.drop("s3"), "segment 's3' of the labels has no scores"),
        (scores.drop(columns="Dog"), "class 'Dog' of the labels has no scores"),
        (scores.rename(columns={"Dog": "Cat"}), "class 'Dog' of the labels has no scores"),
        (pd.concat([scores, scores.iloc[:1].rename({"s0": "new"})]), "segment 'new' is not in the labels"),
        (scores.assign(Cat=0.5), "class 'Cat' is not in the labels"),
    ):
        with pytest.raises(AudiotkError, match=told):
            read_all(source, labels)


def test_what_is_no_table_of_scores_is_refused(tmp_path):
    scores = scores_of()
    with pytest.raises(AudiotkError, match="segment 's0' occurs twice"):
        open_scores(scores.iloc[[0, 0]])
    with pytest.raises(AudiotkError, match="class 'Dog' occurs twice"):
        open_scores(scores.iloc[:, [0, 0]])
    with pytest.raises(AudiotkError, match="class Dog: expected floats, got object"):
        read_all(scores.astype({"Dog": "str"}), labels_like(scores))
    with pytest.raises(AudiotkError, match=r"class .*Dog.*: expected floats, got object"):
        write_scores(tmp_path / "s.parquet", scores.astype({"Dog": "str"}))
    with pytest.raises(AudiotkError, match="no segment 'zzz'"):
        open_scores(scores).at(["zzz"], ["Dog"])
    with pytest.raises(AudiotkError, match="no class 'zzz'"):
        open_scores(scores).at(["s0"], ["zzz"])
    (tmp_path / "text.parquet").write_text("not parquet")
    for name in ("text.parquet", "none.parquet"):
        with pytest.raises(AudiotkError, match=f"{name}: cannot be read as Parquet"):
            open_scores(tmp_path / name)
    pq.write_table(pa.table({"a": [0.5]}), tmp_path / "a.parquet")
    with pytest.raises(AudiotkError, match="expected a column 'segment'"):
        open_scores(tmp_path / "a.parquet")
    with pytest.raises(AudiotkError, match="dtype float16, float32 or float64, got 'int8'"):
        write_scores(tmp_path / "s.parquet", scores, "int8")
    with pytest.raises(AudiotkError, match="no scores to write"):
        write_scores(tmp_path / "s.parquet", [])
    with pytest.raises(AudiotkError, match=r"same classes in each part.*'Cat'"):
        write_scores(tmp_path / "s.parquet", [scores, scores.rename(columns={"Dog": "Cat"})])
    with pytest.raises(AudiotkError, match="none called 'segment'"):
        write_scores(tmp_path / "s.parquet", scores.rename(columns={"Dog": "segment"}))
    assert not (tmp_path / "s.parquet").exists()


# --- float16 ----------------------------------------------------------------------------------------------------------

LEVELS = st.floats(0, 1) | st.integers(0, 0x3C00).map(lambda bits: float(np.uint16(bits).view(np.float16)))


@given(st.lists(LEVELS, max_size=20), LEVELS, st.sampled_from([np.float16, np.float32, np.float64]))
def test_thresholds_take_the_type_of_the_scores_and_levels_do_not(values, level, dtype):
    scores = np.array(values, dtype=dtype)
    ours, border = comparable(scores, level)
    assert (ours > border).tolist() == [float(score) > float(dtype(level)) for score in scores]
    assert (ours < border).tolist() == [float(score) < float(dtype(level)) for score in scores]
    assert exceeds(scores, level).tolist() == [float(score) > level for score in scores]


@given(st.lists(LEVELS, max_size=20), st.sampled_from([np.float32, np.float64]))
def test_float16_is_rounded_as_numpy_does(values, dtype):
    scores = np.array([*values, 0, 2**-14, 2**-24, 2**-25, 3 * 2**-25, np.nextafter(2**-14, 0), 1], dtype=dtype)
    assert np.array_equal(audiotk.scores._half(scores).view(np.uint16), scores.astype(np.float16).view(np.uint16))


def test_all_float16_scores_in_order():
    scores = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
    ours, t = comparable(scores, 0.95)
    assert (ours > t).sum() == (scores.astype(float) > float(np.float16(0.95))).sum()
    assert float(np.float16(0.95)) > 0.95  # so an exact comparison would call a score of 0.95 larger than 0.95
    assert not (comparable(np.array([0.95], np.float16), 0.95)[0] > t).any()


def test_classes_are_read_without_labels_in_their_own_type(tmp_path):
    frame = pd.DataFrame({"a": [0.95, 0.5], "b": [0.1, 0.2]}, index=["s", "t"])
    write_scores(tmp_path / "scores.parquet", frame)
    opened = open_scores(tmp_path / "scores.parquet")
    found = dict(opened.by_class(["b", "a"]))
    assert list(found) == ["b", "a"]
    assert found["a"].dtype == np.float16
    np.testing.assert_array_equal(found["a"], frame["a"].astype("float16"))
    with pytest.raises(AudiotkError, match="there is no class 'c'"):
        next(opened.by_class(["a", "c"]))
    with pytest.raises(AudiotkError, match="class 'a': expected a score in"):
        next(open_scores(frame + 1).by_class(["a"]))
