"""The contract: checks that say what was expected and what came; labels that survive every trip."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import tables
from audiotk.files import atomic
from audiotk.tables import AudiotkError, Dataset, Labels


@pytest.fixture
def recordings():
    names = [f"r{i}" for i in range(12)]
    groups = [f"g{i // 3}" for i in range(12)]
    return pd.DataFrame({"recording": names, "path": "x.wav", "duration_s": 4.0, "sr": 16000, "group": groups})


def test_columns_are_put_in_order_and_typed(recordings):
    shuffled = recordings.assign(sr="8000", note="kept")[["note", "sr", "group", "path", "duration_s", "recording"]]
    checked = tables.check_recordings(shuffled)
    assert list(checked.columns) == ["recording", "path", "duration_s", "sr", "group", "note"]
    assert checked["sr"].dtype == "int64"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sr": 0}, "sr > 0 Hz"),
        ({"duration_s": np.nan}, r"duration_s > 0.*first row 0: recording='r0'"),
        ({"recording": "same"}, "each recording id once"),
        ({"duration_s": "long"}, "cannot be read as float64"),
        ({"group": None}, "'group' is empty in row 0"),
    ],
)
def test_bad_recordings_are_refused(recordings, change, message):
    with pytest.raises(AudiotkError, match=message):
        tables.check_recordings(recordings.assign(**change))


def test_missing_column_is_named(recordings):
    with pytest.raises(AudiotkError, match=r"columns \['group'\] are missing"):
        tables.check_recordings(recordings.drop(columns="group"))


def test_segments_have_to_lie_in_their_recording(recordings):
    tables.check_segments(tables.make_segments("r0", 0.0, 4.0), recordings)
    with pytest.raises(AudiotkError, match="within the recording"):
        tables.check_segments(tables.make_segments("r0", 0.0, 4.1), recordings)
    with pytest.raises(AudiotkError, match="recording that is in"):
        tables.check_segments(tables.make_segments("else", 0.0, 4.0), recordings)
    with pytest.raises(AudiotkError, match="start_s < end_s"):
        tables.make_segments("r0", 2.0, 2.0)
    with pytest.raises(AudiotkError, match="each segment id once"):
        tables.make_segments(["r0", "r0"], 0.0, 4.0)


def test_annotation_values():
    rows = tables.make_annotations(["s", "t", "u"], "bark", [1, 0, np.nan], "human:ann")
    assert str(rows["at"].dt.tz) == "UTC"
    with pytest.raises(AudiotkError, match=r"value 1 \(present\)"):
        tables.make_annotations("s", "bark", 0.5, "human:ann")


@given(
    duration=st.floats(0.3, 40),
    window=st.sampled_from([0.5, 1.0, 2.0, 10.0]),
    hop=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_windows_cover_everything(duration, window, hop):
    hop = min(hop, window)
    table = pd.DataFrame({"recording": ["r"], "path": ["x"], "duration_s": [duration], "sr": [8000], "group": ["g"]})
    windows = tables.check_segments(tables.make_windows(table, window, hop), table)
    assert windows["start_s"].iloc[0] == 0
    assert duration - windows["end_s"].max() <= 0.05 * hop + 2e-3
    starts = windows["start_s"].to_numpy()
    assert (np.diff(starts) > 0.05 * hop - 2e-3).all()  # no two windows that are nearly the same
    assert (windows["start_s"].diff().dropna() <= hop + 1e-6).all()
    assert ((windows["end_s"] - windows["start_s"]) - min(window, duration)).abs().max() < 2e-3


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n_groups=st.integers(5, 60), classes=st.integers(1, 4))
def test_no_group_crosses_and_shares_are_met(seed, n_groups, classes):
    rng = np.random.default_rng(seed)
    groups = rng.integers(n_groups, size=n_groups * 4)
    table = pd.DataFrame(
        {"recording": [f"r{i}" for i in range(len(groups))], "path": "x", "duration_s": 1.0, "sr": 8000}
    )
    table["group"] = groups.astype(str)
    kind = pd.Series(rng.integers(classes, size=len(groups)).astype(str), index=table["recording"])
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    split = tables.grouped_split(table, shares, rng, stratify=kind)
    assert split.groupby(table.set_index("recording")["group"].loc[split.index].to_numpy()).nunique().max() == 1
    # each stratum is off by at most its largest group
    largest = table.groupby("group").size().max()
    for name, share in shares.items():
        assert abs((split == name).sum() - share * len(table)) <= classes * largest + 1


@pytest.mark.parametrize(("classes", "each"), [(10, 4), (10, 3), (10, 2), (1, 3), (4, 1), (2, 30)])
def test_small_sets_are_not_left_without_a_split(classes, each):
    table = pd.DataFrame({"recording": [f"r{i}" for i in range(classes * each)], "path": "x", "duration_s": 1.0})
    table = table.assign(sr=8000, group=table["recording"])
    kind = pd.Series(np.repeat([f"c{k}" for k in range(classes)], each), index=table["recording"])
    split = tables.grouped_split(table, {"train": 0.7, "val": 0.15, "test": 0.15}, np.random.default_rng(0), kind)
    assert split.nunique() == (3 if classes * each >= 3 else 1)
    if each >= 3:  # every class is in every split
        assert pd.crosstab(kind, split.loc[kind.index].to_numpy()).to_numpy().min() >= 1
    assert (split == "train").mean() >= (0.3 if each == 3 else 0.45)


def test_windows_leave_no_gaps(recordings):
    with pytest.raises(AudiotkError, match="hop_s <= window_s"):
        tables.make_windows(recordings, 2.0, 4.0)
    long = recordings.assign(duration_s=10.03)
    assert len(tables.make_windows(long, 10.0)) == len(long)


def test_split_that_crosses_is_refused(recordings):
    split = pd.Series("train", index=recordings["recording"])
    split["r0"] = "test"
    with pytest.raises(AudiotkError, match="group 'g0' is in more than one split"):
        tables.check_split(split, recordings)
    with pytest.raises(AudiotkError, match="no split, first 'r11'"):
        tables.check_split(split.drop("r11"), recordings)
    with pytest.raises(AudiotkError, match=r"expected .*got \['dev'\]"):
        tables.check_split(split.replace("test", "dev"), recordings)


def test_dataset_checks_that_its_tables_belong_together(recordings):
    segments = tables.whole_recordings(recordings)
    notes = tables.make_annotations(segments["segment"], "bark", 1, "truth")
    split = pd.Series("train", index=recordings["recording"])
    data = Dataset("toy", recordings, segments, notes, split, ["bark"], tables.make_sources(truth=""))
    assert len(data.part("train")) == 12
    assert len(data.part("test")) == 0
    with pytest.raises(AudiotkError, match=r"sources \['truth'\] are not"):
        Dataset("toy", recordings, segments, notes, split, ["bark"], tables.make_sources(other=""))
    with pytest.raises(AudiotkError, match="a segment in the segments table"):
        Dataset("toy", recordings, segments[1:], notes, split, ["bark"], tables.make_sources(truth=""))


# Labels -------------------------------------------------------------------------------------------------------------

frames = (
    st.integers(0, 2**32 - 1)
    .map(np.random.default_rng)
    .flatmap(
        lambda rng: st.tuples(
            st.integers(1, 30), st.integers(1, 8), st.sampled_from([(1, 1, 1), (1, 20, 1), (1, 1, 20)])
        ).map(
            lambda shape: pd.DataFrame(
                rng.choice([1.0, 0.0, np.nan], size=shape[:2], p=np.array(shape[2]) / sum(shape[2])),
                index=[f"s{i}" for i in range(shape[0])],
                columns=[f"c{i}" for i in range(shape[1])],
            ).astype("float32")
        )
    )
)


@settings(deadline=None)
@given(frame=frames, default=st.sampled_from([None, 0.0, np.nan]))
def test_frame_round_trip_whatever_the_default(frame, default):
    labels = Labels.from_frame(frame, default)
    pd.testing.assert_frame_equal(labels.frame(), frame, check_names=False)
    counts = labels.counts()
    assert counts["present"].tolist() == (frame == 1).sum().tolist()
    assert counts["absent"].tolist() == (frame == 0).sum().tolist()
    assert counts["unknown"].tolist() == frame.isna().sum().tolist()
    assert labels == Labels.from_frame(frame)
    if default is None:
        assert labels.cells.nnz <= frame.size - max((frame == 0).sum().sum(), frame.isna().sum().sum())


@settings(deadline=None)
@given(frame=frames, seed=st.integers(0, 99))
def test_select_is_loc(frame, seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(frame.index.to_numpy(dtype=object))[: max(1, len(frame) // 2)]
    cols = rng.permutation(frame.columns.to_numpy(dtype=object))[: max(1, frame.shape[1] // 2)]
    labels = Labels.from_frame(frame)
    chosen = labels.select(rows, cols)
    pd.testing.assert_frame_equal(chosen.frame(), frame.loc[rows, cols], check_names=False)
    np.testing.assert_array_equal(labels.dense(slice(0, 2)), frame.to_numpy()[:2])


def test_parquet_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"Bjørn's dog, {i}" for i in range(7)]
    for probabilities, default in (((0.1, 0.8, 0.1), 0.0), ((0.1, 0.1, 0.8), np.nan)):
        values = rng.choice([1.0, 0.0, np.nan], size=(50, 7), p=probabilities)
        labels = Labels.from_frame(pd.DataFrame(values, index=[f"r@{i}" for i in range(50)], columns=names))
        labels.to_parquet(tmp_path / "labels.parquet")
        again = Labels.from_parquet(tmp_path / "labels.parquet")
        assert again == labels
        assert np.array_equal(again.default, default, equal_nan=True)
        assert again.cells.nnz == labels.cells.nnz
    assert [p.name for p in tmp_path.iterdir()] == ["labels.parquet"]


def test_parquet_of_something_else_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(AudiotkError, match="expected labels written by audiotk"):
        Labels.from_parquet(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(AudiotkError, match="cannot be read as Parquet"):
        Labels.from_parquet(tmp_path / "text.parquet")
    with pytest.raises(AudiotkError, match="cannot be read"):
        Labels.from_parquet(tmp_path / "absent.parquet")


ABOUT = {"format": 1, "classes": ["a", "b", "c"], "default": "absent"}


def written(path, about=ABOUT, **columns):
    """A file like those of to_parquet with three segments, and some columns of it changed."""
    table = {"segment": ["x", "y", "z"], "classes": [[0, 2], [], [1]], "codes": [[1, 3], [], [1]], **columns}
    kinds = {"segment": pa.large_string(), "classes": pa.large_list(pa.int32()), "codes": pa.large_list(pa.int8())}
    arrays = {name: pa.array(values, kinds[name]) for name, values in table.items() if values is not None}
    told = about if isinstance(about, bytes) else json.dumps(about)
    pq.write_table(pa.table(arrays).replace_schema_metadata({"audiotk.labels": told}), path)
    return path


def test_cells_of_a_file_may_be_in_any_order(tmp_path):
    path = written(tmp_path / "l.parquet", classes=[[2, 0], [0], [0]], codes=[[3, 1], [1], [1]])  # 0 follows on 0
    assert np.array_equal(Labels.from_parquet(path).dense(), [[1, 0, np.nan], [1, 0, 0], [1, 0, 0]], equal_nan=True)
    none = written(tmp_path / "none.parquet", {**ABOUT, "classes": []}, segment=[], classes=[], codes=[])
    assert Labels.from_parquet(none).shape == (0, 0)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"classes": [[0, 2], [], [3]]}, "row 2: segment 'z': expected class positions 0 to 2, got 3"),
        ({"classes": [[0, 2**31 - 1], [], [1]]}, "row 0: segment 'x': expected class positions 0 to 2, got 2147483647"),
        ({"classes": [[0, 2], [], [-1]]}, "row 2: segment 'z': expected class positions 0 to 2, got -1"),
        ({"classes": [[0, 2], [], [None]]}, "row 2: segment 'z': expected class positions 0 to 2, got None"),
        ({"classes": [[0, 2], [1], []]}, "row 1: segment 'y': expected as many codes as class positions"),
        ({"codes": [[1, 7], [], [1]]}, "row 0: segment 'x': expected codes 1 to 3, got 7"),
        ({"codes": [[1, 1], [], [0]]}, "row 2: segment 'z': expected codes 1 to 3, got 0"),
        ({"codes": [[1, 1], None, [1]]}, "row 1: expected a value in column 'codes', got none"),
        ({"classes": [[0], [], [1, 1]], "codes": [[1], [], [1, 1]]}, "row 2: segment 'z': class position 1 is there"),
        ({"classes": [[2, 0, 2], [], []], "codes": [[1, 1, 2], [], []]}, "row 0: segment 'x': class position 2 is"),
        ({"segment": ["x", None, "z"]}, "row 1: expected a value in column 'segment', got none"),
        ({"segment": ["x", "z", "z"]}, "labels: segment 'z' occurs twice"),
        ({"codes": None}, r"expected columns segment, classes and codes, got \['segment', 'classes'\]"),
        ({"about": b"{"}, "its metadata audiotk.labels cannot be read as JSON"),
        ({"about": b"\xff"}, "its metadata audiotk.labels cannot be read as JSON"),
        ({"about": [1]}, r"expected labels written by audiotk \(format 1\), got format \[1\]"),
        ({"about": {**ABOUT, "format": 2}}, r"\(format 1\), got format 2"),
        ({"about": {"format": 1, "default": "absent"}}, "expected a list of class names in its metadata, got None"),
        ({"about": {**ABOUT, "classes": ["a", 1, "c"]}}, "expected a list of class names in its metadata"),
        ({"about": {**ABOUT, "classes": ["a", "a", "c"]}}, "labels: class 'a' occurs twice"),
        ({"about": {**ABOUT, "default": "Absent"}}, "the default 'unknown' or 'absent' in its metadata, got 'Absent'"),
    ],
)
def test_a_damaged_file_of_labels_is_refused(tmp_path, columns, told):
    path = written(tmp_path / "l.parquet", **columns)
    with pytest.raises(AudiotkError, match=rf"l\.parquet:? .*{told}"):
        Labels.from_parquet(path)


def test_columns_of_another_type_are_refused(tmp_path):
    table = pq.read_table(written(tmp_path / "l.parquet"))
    codes = table.schema.get_field_index("codes")
    for column in (pa.array(["1", "2", "3"]), pa.array([[1, 300], [], [1]])):
        pq.write_table(table.set_column(codes, "codes", column), tmp_path / "l.parquet")
        with pytest.raises(AudiotkError, match=r"l\.parquet: column 'codes': expected large_list"):
            Labels.from_parquet(tmp_path / "l.parquet")


def test_bad_cells_are_refused():
    with pytest.raises(AudiotkError, match="given twice"):
        Labels.from_cells(["s"], ["c"], [0, 0], [0, 0], [1, 1])
    with pytest.raises(AudiotkError, match="outside of 1 segments x 1 classes"):
        Labels.from_cells(["s"], ["c"], [1], [0], [1])
    with pytest.raises(AudiotkError, match="values 1, 0 or NaN"):
        Labels.from_cells(["s"], ["c"], [0], [0], [0.5])
    with pytest.raises(AudiotkError, match="segment 's' occurs twice"):
        Labels.from_cells(["s", "s"], ["c"], [], [], [])
    with pytest.raises(AudiotkError, match="class 'no' is not there"):
        Labels.from_cells(["s"], ["c"], [], [], []).select(classes=["no"])


def test_audioset_size_fits_in_a_gigabyte():
    """2 M segments x 527 classes, 25 stored cells each (PE-CML on AudioSet masks 20-25 a segment): count the bytes."""
    n, per_row = 200_000, 25  # a tenth; bytes grow linearly with rows
    rows = np.repeat(np.arange(n), per_row)
    cols = (np.arange(n * per_row) * 7919) % 527
    values = np.where(np.arange(n * per_row) % per_row < 3, 1.0, np.nan)
    ids = [f"YTID{i:07d}@30.000-40.000" for i in range(n)]
    labels = Labels.from_cells(ids, [f"c{i}" for i in range(527)], rows, cols, values, 0.0)
    cells = labels.cells.data.nbytes + labels.cells.indices.nbytes + labels.cells.indptr.nbytes
    assert 10 * (cells + labels.segments.memory_usage(deep=True)) < 1e9


# files ---------------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as draft:  # noqa: PT012
        draft.write_text("half")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(AudiotkError, match="will not be overwritten"), atomic(target, overwrite=False) as draft:
        draft.write_text("new")
    assert target.read_text() == "old"


def test_a_full_disk_is_reported(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(AudiotkError, match=r"a\.txt: cannot be written: No space left"), atomic(target):
        raise OSError(28, "No space left on device")


def test_atomic_says_when_the_folder_is_a_file(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(AudiotkError, match=r"the folder .*a cannot be made"), atomic(tmp_path / "a" / "b.txt"):
        pass


def test_atomic_never_replaces_what_is_no_regular_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(AudiotkError, match=f"{name}: is no regular file"), atomic(tmp_path / name) as draft:
            draft.write_text("new")
    assert pipe.is_fifo()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_atomic_follows_a_link_to_the_file_it_replaces(tmp_path):
    (tmp_path / "disk").mkdir()
    for content in ("old", "new"):  # the first time the link leads nowhere
        if content == "old":
            (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
        with atomic(tmp_path / "link") as draft:
            draft.write_text(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "file").read_text() == content
    with pytest.raises(AudiotkError, match="is there already"), atomic(tmp_path / "link", overwrite=False) as draft:
        draft.write_text("newer")
    assert (tmp_path / "disk" / "file").read_text() == "new"
