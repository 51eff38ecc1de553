"""formats: round trips of hostile labels, other people's readers, real samples, and errors that name the line."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiotk import formats
from audiotk.formats.ranges import RANGE_COLUMNS, Ranges
from audiotk.store import Store, make_operation, open_store
from audiotk.tables import AudiotkError

NAMES = list(RANGE_COLUMNS)
HOLDS = {  # beside recording, start, end and class
    "csv": ["low_hz", "high_hz", "note", "labeler"],
    "labelstudio": ["low_hz", "high_hz", "note", "labeler"],
    "audacity": ["low_hz", "high_hz"],
    "raven": ["low_hz", "high_hz", "note"],
    "dcase": [],
}
FILES = {"csv": "a.csv", "labelstudio": "a.json", "dcase": "a.tsv", "audacity": "folder", "raven": "folder"}
RECORDINGS = pd.DataFrame(
    {
        "recording": ["rec", "r 2.0", "empty"],
        "path": ["/data/A b.wav", "/data/r 2.0.flac", "/e/empty.wav"],
        "duration_s": [5.0, 60.5, 3.0],
    }
)


def made(*rows: tuple[Any, ...], checked: tuple[str, ...] = ()) -> Ranges:
    """Ranges of rows that may leave the last columns out."""
    fill = ("rec", 0.0, 1.0, "bark", np.nan, np.nan, "", "")
    table = pd.DataFrame([(*row, *fill[len(row) :]) for row in rows], columns=NAMES)
    return Ranges(table, checked)


def rows_of(ranges: Ranges, columns: list[str]) -> list[tuple[Any, ...]]:
    """Rows that can be compared: NaN is None, numbers to a billionth (Raven's sequences are sums), in one order."""
    table = ranges.table[["recording", "start_s", "end_s", "class_name", *columns]]
    rows = [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in table.to_numpy(dtype=object)]
    return sorted([tuple(None if v != v else v for v in row) for row in rows], key=repr)


def is_plain(text: str) -> bool:
    """What a file without quotes can hold."""
    return text == text.strip() and not set(text) & set("\t\0\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


def encodes(text: str) -> bool:
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


hostile = st.one_of(
    st.text(st.sampled_from(list("ab ,;\"'\\\\/|犬é0.1=")), min_size=1, max_size=8).map(str.strip).filter(bool),
    st.text(min_size=1, max_size=8),
    st.text(st.sampled_from(list("ab ,;\t\n\r\"'\\/|犬é\u2028\x85=0.1")), min_size=1, max_size=8),
    st.sampled_from(
        ["NaN", "NA", "null", "nan", "1.5", "\\", '"', '""', "=1+1", "<b>x</b>", "犬が吠える", "bark, howl"]
    ),
)
times = st.floats(0, 1e5, allow_nan=False).map(abs)
hertz = st.one_of(st.just(np.nan), st.floats(0, 1e5, allow_nan=False).map(abs))


@st.composite
def all_ranges(draw: st.DrawFn) -> Ranges:
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted([draw(times), draw(times)])
        low, high = sorted([draw(hertz), draw(hertz)])
        note, labeler = draw(st.one_of(st.just(""), hostile)), draw(st.sampled_from(["", "ann", 'b "q"']))
        rows.append((draw(st.sampled_from(["rec", "r 2.0"])), start, end, draw(hostile), low, high, note, labeler))
    return made(*rows, checked=tuple(draw(st.lists(st.sampled_from(["rec", "r 2.0", "empty"]), min_size=1))))


@pytest.mark.parametrize("format", HOLDS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranges=all_ranges())
def test_what_is_written_is_read_back_or_refused(format: str, ranges: Ranges, tmp_path: Path) -> None:
    path = tmp_path / FILES[format]
    if path.name == "folder":
        path.mkdir(exist_ok=True)
        for file in path.iterdir():
            file.unlink()
    quoted = format in ("csv", "labelstudio")
    texts = [*ranges.table["class_name"]] + [*ranges.table["note"]] * ("note" in HOLDS[format])
    fits = all(encodes(text) and (quoted or is_plain(text)) for text in texts)
    if not fits:
        with pytest.raises(AudiotkError, match="label"):
            formats.write(ranges, path, format, overwrite=True)
        return
    formats.write(ranges, path, format, overwrite=True)
    back = formats.read(path, format)
    assert rows_of(back, HOLDS[format]) == rows_of(ranges, HOLDS[format])
    assert set(back.checked) == set(ranges.checked), "checked and empty has to survive"


def test_a_class_that_only_lacks_quotes_is_not_lost(tmp_path: Path) -> None:
    """The property above refuses what cannot be held; this says that ordinary labels are not refused."""
    ranges = made(("rec", 0.25, 1.0, 'a "loud" bark, 犬'), ("rec", 0.5, 0.5, "NA"))
    for format in HOLDS:
        formats.write(ranges, tmp_path / format / FILES[format], format)
        assert rows_of(formats.read(tmp_path / format / FILES[format], format), []) == rows_of(ranges, [])


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb", " a", "a ", "a\0b", "a\u2028b"])
@pytest.mark.parametrize("format", ["audacity", "raven", "dcase", "textgrid"])
def test_formats_without_quotes_refuse_what_they_would_tear(format: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match=rf"{format}: a label can have no tab"):
        formats.write(made(("rec", 0.0, 1.0, text)), tmp_path / "x.y", format)
    assert list(tmp_path.iterdir()) == []


# --- Audacity ---------------------------------------------------------------------------------------------------------


def test_audacity_points_frequencies_and_lines_to_come(tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    path.write_bytes(
        b"\xef\xbb\xbf0.5\t1.5\tbark\r\n\\\t100.0\t2000.5\r\n\\\tof a later version\r\n2.5\t2.5\tclick\r\n"
        b"3.0\thowl 2\r\n4.0\t5.0\twhine\r\n\\\t-1.000000\t800\r\n"
    )
    assert rows_of(formats.read(path), ["low_hz", "high_hz"]) == [
        ("rec", 0.5, 1.5, "bark", 100.0, 2000.5),
        ("rec", 2.5, 2.5, "click", None, None),
        ("rec", 3.0, 3.0, "howl 2", None, None),
        ("rec", 4.0, 5.0, "whine", None, 800.0),
    ]


def test_audacity_labels_without_text_need_a_class(tmp_path: Path) -> None:
    path = tmp_path / "rec.txt"
    path.write_text("0.5\t1.5\tbark\n2.0\t3.0\t\n4.0\t5.0\n")
    with pytest.raises(AudiotkError, match=r"line 2: expected a label .*unnamed"):
        formats.read(path)
    assert list(formats.read(path, unnamed="dog").table["class_name"]) == ["bark", "dog", "dog"]


def test_an_empty_audacity_track_is_a_checked_recording(tmp_path: Path) -> None:
    formats.write(Ranges(made().table, ("rec",)), tmp_path / "rec.txt")
    assert (tmp_path / "rec.txt").read_bytes() == b""
    assert formats.read(tmp_path / "rec.txt").checked == ("rec",)


# --- Raven ------------------------------------------------------------------------------------------------------------

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def raven(path: Path, heads: str, *lines: str) -> Path:
    path.write_text("\n".join([RAVEN + heads, *lines]) + "\n")
    return path


def test_raven_lists_a_selection_once_although_it_has_two_views(tmp_path: Path) -> None:
    path = raven(
        tmp_path / "rec.Table.1.selections.txt",
        "\tDelta Time (s)\tOccupancy",
        "1\tWaveform 1\t1\t6.7\t15.1\t\t\t8.4\tbirb",
        "1\tSpectrogram 1\t1\t6.7\t15.1\t1739.012\t3798.813\t8.4\tbirb",
        "2\tSpectrogram 1\t1\t29.4\t40.3\t1587.06\t4136.485\t10.9\tdonkey",
        "2\tWaveform 1\t1\t29.4\t40.3\t\t\t10.9\tdonkey",
    )
    found = [("rec", 29.4, 40.3, "donkey", 1587.06), ("rec", 6.7, 15.1, "birb", 1739.012)]
    assert rows_of(formats.read(path), ["low_hz"]) == found


def test_raven_tables_joined_from_files_keep_selections_of_the_same_number(tmp_path: Path) -> None:
    path = raven(
        tmp_path / "all.txt",
        "\tBegin Path\tFile Offset (s)\tCommon Name",
        "1\tSpectrogram 1\t1\t1.0\t2.0\t0\t9000\tC:\\rec\\a.wav\t1.0\tWren",
        "1\tSpectrogram 1\t1\t31.0\t33.5\t0\t9000\tC:\\rec\\b.wav\t1.0\tWren",
    )
    assert rows_of(formats.read(path), []) == [("a", 1.0, 2.0, "Wren"), ("b", 1.0, 3.5, "Wren")]


def test_raven_sequence_of_files(tmp_path: Path) -> None:
    ranges = made(("rec", 0.5, 1.5), ("r 2.0", 2.0, 4.0, "howl", 100.0, 900.0))
    path = tmp_path / "both.txt"
    formats.write(ranges, path, "raven", recordings=RECORDINGS, column="Species")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert rows[0][-3:] == ["Begin Path", "File Offset (s)", "Species"]
    assert rows[2][3:5] == ["7.0", "9.0"], "times run on over the first file, of 5 s"
    assert rows_of(formats.read(path, recordings=RECORDINGS), []) == rows_of(ranges, [])
    named = rows_of(formats.read(path), [])
    assert [row[0] for row in named] == ["A b", "r 2.0"], "without recordings, the name of the file"
    with pytest.raises(AudiotkError, match="without a range"):
        formats.write(Ranges(ranges.table, ("empty",)), tmp_path / "x.txt", "raven", recordings=RECORDINGS)


def test_raven_refuses_times_it_cannot_place(tmp_path: Path) -> None:
    two = ("1\tS\t1\t1\t2\t0\t9\t/x/a.wav\twren", "2\tS\t1\t31\t32\t0\t9\t/x/b.wav\twren")
    with pytest.raises(AudiotkError, match=r"x\.txt, line 1: expected column 'File Offset"):
        formats.read(raven(tmp_path / "x.txt", "\tBegin Path\tAnnotation", *two))
    over = "1\tS\t1\t1\t2\t0\t9\ta.wav\tb.wav\t1.0\twren"
    with pytest.raises(AudiotkError, match=r"line 2: expected a selection within one file"):
        formats.read(raven(tmp_path / "y.txt", "\tBegin File\tEnd File\tFile Offset (s)\tAnnotation", over))
    same = ("1\tS\t1\t1\t2\t0\t9\t/x/a.wav\t1\twren", "2\tS\t1\t31\t32\t0\t9\t/y/a.wav\t1\twren")
    with pytest.raises(AudiotkError, match="files that differ in name"):
        formats.read(raven(tmp_path / "z.txt", "\tBegin Path\tFile Offset (s)\tAnnotation", *same))


def test_raven_column_of_labels_is_found_or_asked_for(tmp_path: Path) -> None:
    line = "1\tSpectrogram 1\t1\t1.0\t2.0\t0\t9\twren\tsong"
    path = raven(tmp_path / "x.txt", "\tWhat\tKind of call", line)
    with pytest.raises(AudiotkError, match=r"one column of labels \(pass column= "):
        formats.read(path)
    assert list(formats.read(path, column="kind of call").table["class_name"]) == ["song"]
    with pytest.raises(AudiotkError, match="a column 'Species'"):
        formats.read(path, column="Species")


# --- DCASE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_dcase_is_read_by_its_header(order: list[int], tmp_path: Path) -> None:
    lines = [
        ["filename", "onset", "offset", "event_label"],
        ["a/Y_1.0_2.0.wav", "0.5", "1.25", "Dog"],
        ["b.FLAC", "", "", ""],
    ]
    text = "\n".join("\t".join(cells[place] for place in order) for cells in lines)
    (tmp_path / "x.tsv").write_text(text)
    ranges = formats.read(tmp_path / "x.tsv")
    assert rows_of(ranges, []) == [("a/Y_1.0_2.0", 0.5, 1.25, "Dog")]
    assert ranges.checked == ("a/Y_1.0_2.0", "b")


def test_dcase_as_dcase_util_reads_it(tmp_path: Path) -> None:
    containers = pytest.importorskip("dcase_util.containers", reason="dcase_util reads the same file")
    ranges = made(("rec", 0.25, 1.5, "Dog"), ("r 2.0", 3.0, 4.0, "Alarm_bell_ringing"), checked=("empty",))
    formats.write(ranges, tmp_path / "x.tsv", suffix=".flac")
    events = containers.MetaDataContainer().load(str(tmp_path / "x.tsv"), delimiter="\t", fields=None)
    found = [(e.filename, e.onset, e.offset, e.event_label) for e in events if e.event_label]
    assert found == [("rec.flac", 0.25, 1.5, "Dog"), ("r 2.0.flac", 3.0, 4.0, "Alarm_bell_ringing")]


def test_dcase_as_pandas_reads_it(tmp_path: Path) -> None:
    ranges = made(("rec", 0.25, 1.5, 'a "b" c'), checked=("empty",))
    formats.write(ranges, tmp_path / "x.tsv")
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t").set_index("filename")  # as the DESED baseline does
    assert list(table.columns) == ["onset", "offset", "event_label"]
    assert table.loc["rec.wav"].tolist() == [0.25, 1.5, 'a "b" c']
    assert table.loc["empty.wav"].isna().all()


# --- Label Studio -----------------------------------------------------------------------------------------------------


def region(start: float, end: float, *labels: str, id: str = "r1", **more: Any) -> dict[str, Any]:
    value = {"start": start, "end": end, "channel": 0, "labels": list(labels)}
    return {"id": id, "type": "labels", "from_name": "label", "to_name": "audio", "value": value, **more}


def tasks(path: Path, *content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(content)))
    return path


def test_label_studio_tasks_of_people(tmp_path: Path) -> None:
    notes = {"id": "r1", "type": "textarea", "value": {"text": ["far", "away"]}}
    path = tasks(
        tmp_path / "x.json",
        {
            "data": {"audio": "/data/upload/1/2c9d1b0e-rec.wav"},
            "annotations": [
                {"completed_by": {"id": 3, "email": "a@b"}, "result": [region(0.5, 1.5, "bark", "howl"), notes]},
                {"completed_by": 4, "was_cancelled": True, "result": [region(0, 1, "wrong")]},
            ],
            "predictions": [{"model_version": "m1", "result": [region(2, 3, "machine")]}],
        },
        {"data": {"audio": "/data/local-files/?d=some/deadbeef-b.flac"}, "annotations": [{"result": []}]},
        {"data": {"audio": "s3://x/untouched.wav"}, "annotations": []},
        {"data": {"audio": "s3://x/skipped.wav"}, "annotations": [{"was_cancelled": True, "result": []}]},
    )
    ranges = formats.read(path)
    rows = [("rec", 0.5, 1.5, name, "far\naway", "a@b") for name in ("bark", "howl")]
    assert rows_of(ranges, ["note", "labeler"]) == rows
    assert ranges.checked == ("rec", "deadbeef-b"), "neither untouched nor skipped tasks were checked"
    assert rows_of(formats.read(path, under="predictions"), ["labeler"]) == [("rec", 2.0, 3.0, "machine", "m1")]


def test_label_studio_tells_what_it_leaves_out(tmp_path: Path) -> None:
    choice = {"id": "c", "type": "choices", "value": {"choices": ["noisy"]}}
    path = tasks(tmp_path / "x.json", {"data": {"audio": "a.wav"}, "annotations": [{"result": [choice, choice]}]})
    with pytest.warns(UserWarning, match="left out 2 of type choices"):
        assert formats.read(path).checked == ("a",)


def test_label_studio_pre_annotations_are_predictions(tmp_path: Path) -> None:
    ranges = made(("rec", 0.5, 1.5, "bark", np.nan, np.nan, "", "yamnet"), checked=("rec", "empty"))
    address = "/data/local-files/?d={path}"
    formats.write(ranges, tmp_path / "x.json", recordings=RECORDINGS, under="predictions", url=address)
    task = json.loads((tmp_path / "x.json").read_text())
    assert task[0]["data"]["audio"] == "/data/local-files/?d=/data/A b.wav"
    assert [set(one) for one in task] == [{"data", "predictions"}] * 2
    made_by = task[0]["predictions"][0]
    assert made_by["model_version"] == "yamnet"
    assert made_by["result"][0]["value"] == {"start": 0.5, "end": 1.5, "channel": 0, "labels": ["bark"]}
    assert made_by["result"][0]["original_length"] == 5.0
    assert formats.read(tmp_path / "x.json").checked == (), "a prediction is nobody's check"
    assert rows_of(formats.read(tmp_path / "x.json", under="predictions"), ["labeler"])[0][-1] == "yamnet"


# --- JAMS and TextGrid ------------------------------------------------------------------------------------------------

OVERLAPPING = made(
    ("rec", 0.5, 2.0, 'the "bark"', np.nan, np.nan, "", "ann"),
    ("rec", 1.0, 1.5, "howl", np.nan, np.nan, "", "bob"),
    ("rec", 1.9, 3.0, 'the "bark"', np.nan, np.nan, "", "bob"),
    ("rec", 2.0, 2.5, 'the "bark"', np.nan, np.nan, "", "ann"),
    ("rec", 2.5, 2.5, "click"),
)


def parsed_textgrid(text: str) -> list[tuple[str, str, list[tuple[Any, ...]]]]:
    """A small reader of Praat's long text format: values in order, whatever their names are."""
    values = re.findall(r'"((?:[^"]|"")*)"|(?<![\w\[])(-?\d+(?:\.\d+)?)(?![\w\]])|(<exists>)', text)
    flat = iter([word.replace('""', '"') if not number and not flag else number for word, number, flag in values])
    assert (next(flat), next(flat)) == ("ooTextFile", "TextGrid")
    next(flat), next(flat), next(flat)
    tiers = []
    for _ in range(int(next(flat))):
        kind, name, _, _, count = (next(flat) for _ in range(5))
        fields = 3 if kind == "IntervalTier" else 2
        items = [tuple(next(flat) for _ in range(fields)) for _ in range(int(count))]
        tiers.append((kind, name, [(*map(float, item[:-1]), item[-1]) for item in items]))
    assert list(flat) == []
    return tiers


def test_textgrid_has_a_tier_for_each_class_and_covers_all_time(tmp_path: Path) -> None:
    path = tmp_path / "x.TextGrid"
    formats.write(OVERLAPPING, path, recordings=RECORDINGS)
    tiers = parsed_textgrid(path.read_text())
    assert [tier[:2] for tier in tiers] == [
        ("TextTier", "click"),
        ("IntervalTier", "howl"),
        ("IntervalTier", 'the "bark"'),
        ("IntervalTier", 'the "bark" (2)'),
    ]
    assert tiers[0][2] == [(2.5, "click")]
    found = []
    for _, _, items in tiers[1:]:
        edges = [item[:2] for item in items]
        assert edges[0][0] == 0.0
        assert edges[-1][1] == 5.0
        assert all(end == start for (_, end), (start, _) in pairwise(edges))
        found += [item for item in items if item[2]]
    table = OVERLAPPING.table[OVERLAPPING.table["class_name"] != "click"]
    assert sorted(found) == sorted(table[["start_s", "end_s", "class_name"]].itertuples(index=False, name=None))


def test_textgrid_as_praatio_and_crowsetta_read_it(tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio reads TextGrids too")
    path = tmp_path / "x.TextGrid"
    formats.write(OVERLAPPING, path, recordings=RECORDINGS)
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    found = [(e.start, e.end, e.label) for tier in grid.tiers if tier.name != "click" for e in tier.entries]
    table = OVERLAPPING.table[OVERLAPPING.table["class_name"] != "click"]
    assert sorted(found) == sorted(table[["start_s", "end_s", "class_name"]].itertuples(index=False, name=None))
    assert grid.maxTimestamp == 5.0
    crowsetta = pytest.importorskip("crowsetta", reason="crowsetta reads TextGrids too")
    howl = made(("rec", 1.0, 1.5, "howl"), ("rec", 3.0, 4.0, "howl"))
    formats.write(howl, tmp_path / "y.TextGrid", recordings=RECORDINGS)
    read = crowsetta.formats.seq.TextGrid.from_file(tmp_path / "y.TextGrid").to_seq(tier=0)
    assert list(zip(read.onsets_s, read.offsets_s, read.labels, strict=True)) == [
        (1.0, 1.5, "howl"),
        (3.0, 4.0, "howl"),
    ]


def test_jams_as_jams_reads_it(tmp_path: Path) -> None:
    jams = pytest.importorskip("jams", reason="jams checks and reads JAMS files")
    path = tmp_path / "x.jams"
    formats.write(OVERLAPPING, path, recordings=RECORDINGS)
    read = jams.load(str(path))  # validates against the schema
    assert read.file_metadata.duration == 5.0
    found = {
        (
            round(o.time, 9),
            round(o.time + o.duration, 9),
            o.value,
            getattr(track.annotation_metadata.annotator, "name", ""),
        )
        for track in read.annotations
        for o in track.data
    }
    columns = ["start_s", "end_s", "class_name", "labeler"]
    assert found == set(OVERLAPPING.table[columns].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", ["e.jams", "e.TextGrid"])
def test_a_checked_and_empty_recording_has_a_file(name: str, tmp_path: Path) -> None:
    empty = Ranges(made().table, ("empty",))
    formats.write(empty, tmp_path / name, recordings=RECORDINGS)
    text = (tmp_path / name).read_text()
    if name.endswith(".jams"):
        content = json.loads(text)
        assert content["file_metadata"]["duration"] == 3.0
        assert content["annotations"][0]["data"] == []
    else:
        assert parsed_textgrid(text) == [("IntervalTier", "no ranges", [(0.0, 3.0, "")])]
    with pytest.raises(AudiotkError, match="length is not known"):
        formats.write(empty, tmp_path / ("2" + name))


# --- crowsetta and its samples ----------------------------------------------------------------------------------------


@pytest.fixture
def crowsetta() -> Any:
    return pytest.importorskip("crowsetta", reason="crowsetta (PyPI) has samples of Audacity and Raven, and readers")


def test_a_real_audacity_track(crowsetta: Any, tmp_path: Path) -> None:
    path = crowsetta.example("spinetail.txt", return_path=True)
    boxes = crowsetta.formats.bbox.AudBBox.from_file(path).to_bbox()
    ranges = formats.read(path, "audacity")
    expected = [("spinetail", b.onset, b.offset, b.label, b.low_freq, b.high_freq) for b in boxes]
    assert rows_of(ranges, ["low_hz", "high_hz"]) == sorted(expected, key=repr)
    formats.write(ranges, tmp_path / "back.txt", "audacity")
    again = crowsetta.formats.bbox.AudBBox.from_file(tmp_path / "back.txt").to_bbox()
    assert again == sorted(boxes, key=lambda box: box.onset)


def test_a_real_audacity_track_without_frequencies(crowsetta: Any) -> None:
    path = crowsetta.example("marron1", return_path=True)
    read = crowsetta.formats.seq.AudSeq.from_file(path).to_seq()
    table = formats.read(path, "audacity").table
    assert np.allclose(table["start_s"], read.onsets_s, atol=0.0005001)  # crowsetta rounds to milliseconds
    assert np.allclose(table["end_s"], read.offsets_s, atol=0.0005001)
    assert list(table["class_name"]) == [str(label) for label in read.labels]


def test_a_real_raven_table(crowsetta: Any, tmp_path: Path) -> None:
    path = crowsetta.example("Recording1", return_path=True)
    boxes = crowsetta.formats.bbox.Raven.from_file(path, annot_col="Species").to_bbox()
    ranges = formats.read(path)
    expected = [("Recording_1_Segment_02", b.onset, b.offset, b.label, b.low_freq, b.high_freq) for b in boxes]
    assert rows_of(ranges, ["low_hz", "high_hz"]) == sorted(expected, key=repr)
    formats.write(ranges, tmp_path / "back.txt", "raven", column="Species")
    assert crowsetta.formats.bbox.Raven.from_file(tmp_path / "back.txt", annot_col="Species").to_bbox() == boxes


def test_what_crowsetta_writes_is_read(crowsetta: Any, tmp_path: Path) -> None:
    for name, form, options in (("spinetail.txt", "AudBBox", {}), ("Recording1", "Raven", {"annot_col": "Species"})):
        read = getattr(crowsetta.formats.bbox, form).from_file(crowsetta.example(name, return_path=True), **options)
        read.to_file(tmp_path / f"{form}.txt")
        table = formats.read(tmp_path / f"{form}.txt").table
        expected = [(b.onset, b.offset, b.label) for b in read.to_bbox()]
        assert list(table[["start_s", "end_s", "class_name"]].itertuples(index=False, name=None)) == expected


# --- errors -----------------------------------------------------------------------------------------------------------

BAD = [
    ("x.txt", "audacity", "0.5\t1.5\tbark\n0,5\t1,5\tbark\n", "line 2: expected a number with a decimal point"),
    ("x.txt", "audacity", "2.0\t1.0\tbark\n", "line 1: expected 0 <= start <= end"),
    ("x.txt", "audacity", "-1.0\t1.0\tbark\n", "line 1: expected 0 <= start <= end"),
    ("x.txt", "audacity", "1_0\t20\tbark\n", "line 1: expected a number"),
    ("x.txt", "audacity", "0\t1e999\tbark\n", "line 1: expected a number"),
    ("x.txt", "audacity", "\\\t1\t2\n0\t1\tbark\n", "line 1: expected a label before its frequencies"),
    ("x.txt", "audacity", "0\t1\tbark\n\n\\\t900\t100\n", "line 1: expected 0 <= low <= high"),
    ("x.txt", "audacity", "0\t1\tbark\tmore\n", "line 1: expected start, end and label"),
    ("x.txt", "raven", "Selection\tBegin Time (s)\tSpecies\n", r"line 1: expected a header with End Time \(s\)"),
    ("x.txt", "raven", RAVEN + "\tSpecies\n1\tS\t1\t0\tx\t0\t9\twren\n", r"line 2: expected a number .* End Time"),
    ("x.txt", "raven", RAVEN + "\tSpecies\n1\tS\t1\t0\t1\t0\t9\twren\tmore\n", "line 2: expected 8 cells"),
    ("x.txt", "raven", RAVEN + "\tSpecies\n1\tS\t1\t0\t1\t0\t9\n", "line 2: expected a label"),
    ("x.txt", "raven", RAVEN + "\tSpecies\tspecies\n", "line 1: expected each column once"),
    ("x.txt", "raven", "", "line 1: expected a header"),
    ("x.tsv", "dcase", "a.wav\t0\t1\tdog\n", "line 1: expected a header with filename"),
    ("x.tsv", "dcase", "filename\tonset\toffset\tevent_label\na.wav\t0\t\tdog\n", "line 2: expected a number"),
    ("x.tsv", "dcase", "filename\tonset\toffset\tevent_label\n.wav\t\t\t\n", "line 2: expected the name of a rec"),
    ("x.tsv", "dcase", 'filename\tonset\toffset\tevent_label\na.wav\t0\t1\t"dog\n', "line 2: expected quoted cells"),
    ("x.csv", "csv", "recording,start_s,end_s\n", "line 1: expected a header with class_name"),
    ("x.csv", "csv", "recording,start_s,end_s,class_name\n\n\na,1,0,b\n", "line 4: expected 0 <= start <= end"),
    ("x.csv", "csv", "recording,start_s,end_s,class_name\na,nan,1,b\n", "line 2: expected a number"),
    ("x.json", "labelstudio", "[{]", "line 1: expected JSON"),
    ("x.json", "labelstudio", '[{"audio": "x", "label": []}]', "top: expected a list of tasks, each with data"),
    ("x.json", "labelstudio", '[{"data": {}}]', "task 1: expected data with the address"),
    ("x.json", "labelstudio", '[{"data": {"audio": "a"}, "annotations": {}}]', "task 1: expected a list under"),
    (
        "x.json", "labelstudio",
        json.dumps([{"data": ["a"]}, {"data": {"audio": "b"}, "annotations": [{"result": [region(2, 1, "x")]}]}][::-1]),
        "task 1, result 1: expected 0 <= start <= end",
    ),
    (
        "x.json", "labelstudio",
        json.dumps([{"data": {"audio": "a"}, "annotations": [{"result": [region(True, 1, "x")]}]}]),
        "task 1, result 1: expected a number",
    ),
    (
        "x.json", "labelstudio",
        json.dumps([{"data": {"audio": "a"}, "annotations": [{"result": [{"type": "labels"}]}]}]),
        "task 1: expected a value in each result",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "format", "text", "told"), BAD)
def test_errors_name_file_place_and_what_was_expected(
    name: str, format: str, text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AudiotkError, match=rf"{re.escape(str(tmp_path / name))}, {told}"):
        formats.read(tmp_path / name, format)


def refusal(call: Callable[[], Any]) -> str | None:
    """The text of the AudiotkError that a call raises, if it does; every other error is a failure."""
    try:
        call()
    except AudiotkError as err:
        return str(err)
    return None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60), format=st.sampled_from(list(formats.READERS)))
def test_any_file_is_read_or_refused(data: bytes, format: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert str(tmp_path / "x") in (refusal(lambda: formats.read(tmp_path / "x", format)) or str(tmp_path / "x"))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["data", "annotations", "result", "value", "type", "start", "labels", "meta", "text", "id"]
            ),
            inner | st.just("labels"),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:.*left out")
@given(results=st.lists(json_values, max_size=3), data=json_values, meta=json_values)
def test_any_json_is_read_or_refused(results: list[Any], data: Any, meta: Any, tmp_path: Path) -> None:
    made_by = {"result": [*results, region(0, 1, "x", meta=meta)], "completed_by": meta}
    for task in ({"data": data, "annotations": results}, {"data": {"audio": "a.wav"}, "annotations": [made_by]}):
        (tmp_path / "x.json").write_text(json.dumps([task]))
        assert "task 1" in (refusal(lambda: formats.read(tmp_path / "x.json")) or "task 1")


def test_other_encodings_are_named_and_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("0\t1\tbark\n1\t2\tbr\u00fcllen\n".encode("cp1252"))
    with pytest.raises(AudiotkError, match=r"x\.txt, line 2: expected text in utf-8-sig; .*cp1252"):
        formats.read(tmp_path / "x.txt")
    assert list(formats.read(tmp_path / "x.txt", encoding="cp1252").table["class_name"]) == ["bark", "br\u00fcllen"]
    with pytest.raises(AudiotkError, match="encoding 'klingon' is not known"):
        formats.read(tmp_path / "x.txt", encoding="klingon")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("x.csv", "x.txt", "x.tsv", "x.json", "x.jams", "x.TextGrid"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(AudiotkError, match="is there already"):
            formats.write(made(("rec", 0.0, 1.0)), tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
        formats.write(made(("rec", 0.0, 1.0)), tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_text() != "mine"
    assert len(list(tmp_path.iterdir())) == 6, "no drafts are left"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", "\0"])
def test_a_recording_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="cannot be a file name"):
        formats.write(made((name, 0.0, 1.0)), tmp_path / "folder", "audacity")
    assert list(tmp_path.rglob("*.txt")) == []


def test_recordings_that_differ_in_case_need_a_format_that_holds_both(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="differ only in case"):
        formats.write(made(("A", 0.0, 1.0), ("a", 0.0, 1.0)), tmp_path / "folder", "raven")


def test_formats_and_options_that_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "x.xyz").write_text("")
    for call, told in (
        (lambda: formats.read(tmp_path / "x.xyz"), r"expected format= one of csv, .*got '\.xyz'"),
        (lambda: formats.read(tmp_path / "x.TextGrid"), "got 'textgrid'"),
        (lambda: formats.read(tmp_path), "expected format="),
        (lambda: formats.read(tmp_path, "csv"), "is a folder"),
        (lambda: formats.read(tmp_path, "raven"), "holds no .txt"),
        (lambda: formats.read(tmp_path / "x.csv"), "no such file"),
        (lambda: formats.read(tmp_path / "x.xyz", "csv", colunm="x"), r"unknown options \['colunm'\]"),
        (lambda: formats.write(made(("a", 0.0, 1.0)), tmp_path / "x.json", under="both"), "expected under="),
        (
            lambda: formats.write(made(("a", 0.0, 1.0), ("b", 0.0, 1.0)), tmp_path / "x.txt"),
            "a file holds one recording",
        ),
        (lambda: formats.write(made(("a", 0.0, 1.0)), tmp_path / "x.tsv", suffix=".exe"), "expected a suffix"),
    ):
        with pytest.raises(AudiotkError, match=told):
            call()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("rec", 2.0, 1.0), "start_s <= end_s"),
        (("rec", np.nan, 1.0), "start_s <= end_s"),
        (("rec", 0.0, np.inf), "start_s <= end_s"),
        (("rec", 0.0, 1.0, ""), "a class_name"),
        (("", 0.0, 1.0, "x"), "a recording"),
        (("rec", 0.0, 1.0, "x", 5.0, 1.0), "low_hz <= high_hz"),
        (("rec", 0.0, 1.0, "x", -5.0, 1.0), "low_hz <= high_hz"),
    ],
)
def test_ranges_are_checked(row: tuple[Any, ...], told: str) -> None:
    with pytest.raises(AudiotkError, match=told):
        made(("rec", 0.0, 1.0), row)


# --- the store --------------------------------------------------------------------------------------------------------


def test_a_file_goes_into_a_store_once_and_comes_out(tmp_path: Path) -> None:
    ranges = made(("rec", 0.5, 1.5, "bark", np.nan, np.nan, "n"), ("r 2.0", 1.0, 2.0, "howl"), checked=("empty",))
    store = open_store(tmp_path / "labels.sqlite")
    store.register(RECORDINGS.assign(sr=8000, group="g"))
    twice = Ranges(pd.concat([ranges.table, ranges.table]), ranges.checked)
    store.append(formats.to_operations(ranges, "ann", RECORDINGS))
    store.append(formats.to_operations(twice, "ann", RECORDINGS))
    back = formats.from_store(store)
    with_labeler = Ranges(ranges.table.assign(labeler="ann"), ranges.checked)
    assert rows_of(back, ["note", "labeler"]) == rows_of(with_labeler, ["note", "labeler"])
    assert set(back.checked) == {"rec", "r 2.0", "empty"}
    segments, annotations, _ = store.dataset_tables()
    absent = annotations[annotations["value"] == 0].merge(segments, on="segment")
    heard_s = (absent["end_s"] - absent["start_s"]).groupby([absent["recording"], absent["class_name"]]).sum()
    assert heard_s.to_dict() == {
        ("rec", "bark"): 4.0, ("rec", "howl"): 5.0, ("r 2.0", "bark"): 60.5, ("r 2.0", "howl"): 59.5,
        ("empty", "bark"): 3.0, ("empty", "howl"): 3.0,
    }  # fmt: skip


def test_without_recordings_only_the_ranges_are_known(tmp_path: Path) -> None:
    store = open_store(tmp_path / "labels.sqlite")
    store.append(formats.to_operations(made(("rec", 0.5, 1.5), checked=("empty",)), "ann"))
    _, annotations, _ = store.dataset_tables()
    assert annotations["value"].tolist() == [1.0]


def test_points_and_frequencies_have_no_place_in_a_store() -> None:
    with pytest.raises(AudiotkError, match="1 ranges are points in time"):
        formats.to_operations(made(("rec", 0.5, 0.5)), "ann")
    with pytest.warns(UserWarning, match="no frequencies"):
        formats.to_operations(made(("rec", 0.5, 1.0, "bark", 1.0, 2.0)), "ann")
    with pytest.raises(AudiotkError, match="not in recordings, first 'other'"):
        formats.to_operations(made(("other", 0.5, 1.0)), "ann", RECORDINGS)


def words(store: Store, who: str, heard_s: float, segments: int = 0, **verdicts: str) -> None:
    """What somebody says about the recording "rec" of 5 s."""
    made = [make_operation("heard", who, "rec", ranges=[[0.0, heard_s]])]
    places = [{"id": f"{k}", "start_s": k, "end_s": k + 0.5, "class_name": "dog"} for k in range(segments)]
    made += [make_operation("segment", who, "rec", **place) for place in places]
    for name, verdict in verdicts.items():
        about = {"class_name": None if name == "every" else name, "verdict": verdict}
        made.append(make_operation("claim", who, "rec", **about))
    store.append(made)


SAID: list[tuple[list[dict[str, Any]], bool]] = [
    ([{"who": "ann", "heard_s": 1.0, "dog": "not_found"}], False),
    ([{"who": "ann", "heard_s": 5.0, "dog": "not_found"}], False),  # nothing of the cat
    ([{"who": "ann", "heard_s": 4.95, "dog": "not_found", "cat": "not_found"}], True),
    ([{"who": "ann", "heard_s": 4.8, "dog": "not_found", "cat": "not_found"}], False),
    ([{"who": "ann", "heard_s": 5.0, "every": "not_found"}], True),
    ([{"who": "ann", "heard_s": 5.0, "every": "not_found", "cat": "unsure"}], False),
    ([{"who": "ann", "heard_s": 5.0, "every": "not_found", "cat": "confirmed"}], False),  # somewhere
    ([{"who": "ann", "heard_s": 5.0, "every": "confirmed", "segments": 1}], True),
    ([{"who": "ann", "heard_s": 1.0, "every": "confirmed", "segments": 1}], False),
    ([{"who": "ann", "heard_s": 5.0, "dog": "confirmed", "cat": "open", "segments": 2}], False),
    ([{"who": "ann", "heard_s": 5.0, "every": "not_found"}, {"who": "bob", "heard_s": 1.0, "dog": "not_found"}], True),
    ([{"who": "ann", "heard_s": 5.0, "every": "not_found"}, {"who": "bob", "heard_s": 5.0, "segments": 1}], False),
]


@pytest.mark.filterwarnings("ignore:store. 1 recordings have labels")
@pytest.mark.parametrize(("said", "known"), SAID, ids=range(len(SAID)))
@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.json"])
@pytest.mark.parametrize("classes", [["cat", "dog"], None], ids=["named", "all"])
def test_what_goes_through_a_file_invents_no_absence(
    said: list[dict[str, Any]], known: bool, name: str, classes: list[str] | None, tmp_path: Path
) -> None:
    """Every second and class that the second store calls absent, somebody called so in the first."""
    about = RECORDINGS[:1].assign(sr=8000, group="g")
    with open_store(tmp_path / "a.sqlite") as first, open_store(tmp_path / "b.sqlite") as second:
        first.register(about)
        second.register(about)
        for one in said:
            words(first, **one)
        ranges = formats.from_store(first, classes=classes, complete=True)
        known = known and (classes is not None or any("every" in one for one in said))
        assert ranges.checked == (("rec",) if known else ())
        formats.write(ranges, tmp_path / name)
        second.append(formats.to_operations(formats.read(tmp_path / name), "ann", RECORDINGS, classes=classes))

        def absent(store: Store) -> dict[str, np.ndarray]:
            segments, annotations, _ = store.dataset_tables(["cat", "dog", "cow"])
            grid = {class_name: np.zeros(50, dtype=bool) for class_name in ("cat", "dog", "cow")}
            rows = annotations[annotations["value"] == 0].merge(segments, on="segment")
            for class_name, start, end in zip(rows["class_name"], rows["start_s"], rows["end_s"], strict=True):
                grid[class_name][round(start * 10) : round(end * 10 + 0.1)] = True
            return grid

        before, after = absent(first), absent(second)
        for class_name, seconds in after.items():
            assert not (seconds & ~before[class_name]).any(), class_name
        assert any(seconds.any() for seconds in after.values()) == known


def test_recordings_that_are_not_finished_are_told_and_not_called_empty(tmp_path: Path) -> None:
    with open_store(tmp_path / "labels.sqlite") as store:
        store.register(RECORDINGS.assign(sr=8000, group="g"))
        words(store, "ann", 5.0, dog="not_found")
        with pytest.warns(UserWarning, match=r"1 recordings have labels, but .* every class.*'rec'"):
            assert formats.from_store(store).checked == ()  # there may be a cow
        assert formats.from_store(store, classes=["dog"]).checked == ("rec",)
        words(store, "bob", 1.0, segments=1)
        with pytest.warns(UserWarning, match="1 recordings have labels"):
            assert len(formats.from_store(store, classes=["dog"])) == 1
        assert len(formats.from_store(store, classes=["dog"], complete=True)) == 0
        assert formats.from_store(store, ["ann"], classes=["dog"]).checked == ("rec",)
