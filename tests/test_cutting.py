"""cutting: what is cut is what was labelled, names cannot escape or collide, and a second call only does the rest."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import audio
from audiotk.formats import cutting
from audiotk.formats.cutting import export_segments
from audiotk.formats.manifest import MANIFEST, NEGATIVE, class_folders, folded, read_manifest, safe_name, write_manifest
from audiotk.store import Store, make_operation, open_store
from audiotk.tables import AudiotkError

SR = 8000
Fill = Callable[..., Store]


def wave(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose every sample tells where it is from."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SR)).astype(np.float32)


def segment(recording: str, start: float, end: float, name: str, labeler: str = "ann") -> Any:
    key = f"{labeler}{recording}{name}{start}"
    return make_operation("segment", labeler, recording, id=key, start_s=start, end_s=end, class_name=name, note="")


def claim(recording: str, name: str | None, verdict: str, labeler: str = "ann") -> Any:
    return make_operation("claim", labeler, recording, class_name=name, verdict=verdict)


def heard(recording: str, *ranges: list[float], labeler: str = "ann") -> Any:
    return make_operation("heard", labeler, recording, ranges=list(ranges))


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """A store with operations; ``sounds`` says how long each recording is, which is written as a WAV."""

    def make(*operations: Any, sounds: dict[str, float] | None = None, claimed: str | None = "bark") -> Store:
        store = open_store(tmp_path / "labels.sqlite")
        lengths = {"rec": 10.0} if sounds is None else sounds
        for number, (name, seconds) in enumerate(lengths.items()):
            path = tmp_path / "sound" / f"{number}.wav"
            audio.save(path, wave(seconds, number), SR)
            about = {"path": str(path), "duration_s": seconds, "sr": SR, "group": name, "claim": claimed}
            store.append([make_operation("recording", "", name, **about)])
        store.append(operations)
        return store

    return make


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def export(store: Store, out: Path, **options: Any) -> cutting.Export:
    return export_segments(store, out, progress=False, workers=1, **options)


# --- what is cut ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_file_holds_the_samples_of_its_segment(format: str, fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.5, "bark"), segment("rec", 2.0, 2.25, "howl"))
    done = export(store, tmp_path / "out", format=format, fade_s=0.0)
    assert (done.written, done.kept, len(done.problems), done.changed, done.strays) == (2, 0, 0, (), ())
    whole, _ = audio.load(tmp_path / "sound" / "0.wav")
    for row in done.manifest.to_dict("records"):
        found, sr = audio.load(done.out / row["file"])
        assert sr == SR
        assert np.array_equal(found, whole[round(row["start_s"] * SR) : round(row["end_s"] * SR)])
        assert Path(row["file"]).parent == Path(row["class_name"])
        assert row["sha256"] == cutting.sha256(done.out / row["file"])
        assert (row["kind"], row["labeler"], row["path"]) == ("positive", "ann", str(tmp_path / "sound" / "0.wav"))


def test_pads_go_as_far_as_the_recording_and_fades_as_far_as_the_file(fill: Fill, tmp_path: Path) -> None:
    store = fill(
        segment("rec", 0.25, 1.0, "bark"), segment("rec", 9.0, 10.0, "bark"), segment("rec", 5.0, 5.004, "bark")
    )
    done = export(store, tmp_path / "out", pad_s=0.5, fade_s=0.1)
    whole, _ = audio.load(tmp_path / "sound" / "0.wav")
    ranges = [(0.0, 1.5), (4.5, 5.504), (8.5, 10.0)]
    assert list(done.manifest["start_s"]) == [0.25, 5.0, 9.0], "the manifest tells the label, not the cut"
    for file, (start, end) in zip(done.manifest["file"], ranges, strict=True):
        found, _ = audio.load(done.out / file)
        expected = whole[round(start * SR) : round(end * SR)]
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(800) + 0.5) / 800)
        assert len(found) == len(expected)
        assert np.allclose(found[800:-800], expected[800:-800], atol=2**-15)
        assert np.allclose(found[:800], expected[:800] * ramp, atol=2**-15)
    short = fill(segment("rec", 5.0, 5.004, "howl"), sounds={})
    assert export(short, tmp_path / "short", fade_s=0.1, classes=["howl"]).problems.empty


def test_unsure_and_not_found_are_no_confirmed_segments(fill: Fill, tmp_path: Path) -> None:
    operations = [segment("rec", 1.0 + n, 1.5 + n, name) for n, name in enumerate(["bark", "howl", "whine", "yelp"])]
    claims = [claim("rec", "bark", "unsure"), claim("rec", "howl", "not_found"), claim("rec", "whine", "confirmed")]
    done = export(fill(*operations, *claims), tmp_path / "out")
    assert list(done.manifest["class_name"]) == ["whine", "yelp"]
    told = "\n".join(done.problems["reason"])
    assert "ann calls 'bark' unsure" in told
    assert "ann calls 'howl' not_found" in told
    other = [claim("rec", "bark", "confirmed"), claim("rec", "howl", "unsure", labeler="bob")]
    done = export(fill(*other, sounds={}), tmp_path / "later")
    assert list(done.manifest["class_name"]) == ["bark", "whine", "yelp"], "the last word counts, and one's own"


def test_the_choice_of_classes_labelers_and_time(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"), segment("rec", 3.0, 4.0, "howl", "bob"))
    assert list(export(store, tmp_path / "a", classes=["howl"]).manifest["class_name"]) == ["howl"]
    assert list(export(store, tmp_path / "b", labelers=["ann"]).manifest["class_name"]) == ["bark"]
    assert export(store, tmp_path / "c", as_of="2001-01-01").manifest.empty


def test_a_range_labelled_twice_is_one_file_and_two_labelers_are_two(fill: Fill, tmp_path: Path) -> None:
    again = make_operation("segment", "ann", "rec", id="other", start_s=1.0, end_s=2.0, class_name="bark", note="")
    store = fill(segment("rec", 1.0, 2.0, "bark"), again, segment("rec", 1.0, 2.0, "bark", "bob"))
    done = export(store, tmp_path / "out")
    assert sorted(done.manifest["labeler"]) == ["ann", "bob"]
    assert done.manifest["file"].is_unique
    assert done.expansion == 1.0


# --- negatives --------------------------------------------------------------------------------------------------------


def test_negatives_are_what_was_heard_without_anyones_segments(fill: Fill, tmp_path: Path) -> None:
    store = fill(
        segment("rec", 2.0, 3.0, "bark"),
        segment("rec", 3.4, 4.0, "howl", "bob"),  # 0.4 s between them: too short
        heard("rec", [0.0, 6.0], [7.0, 7.5]),
        claim("rec", "bark", "confirmed"),
        claim("rec", "whine", "not_found"),
    )
    done = export(store, tmp_path / "out", pad_s=0.2, fade_s=0.0, negative_s=0.5)
    negative = done.manifest[done.manifest["kind"] == "negative"]
    found = set(negative[["start_s", "end_s", "class_name", "labeler"]].itertuples(index=False, name=None))
    ranges = [(0.0, 2.0), (4.0, 6.0), (7.0, 7.5)]
    assert found == {(*pair, name, "ann") for pair in ranges for name in ("bark", "whine")}, "howl was not claimed"
    assert negative["file"].nunique() == 3
    whole, _ = audio.load(tmp_path / "sound" / "0.wav")
    for row in negative.to_dict("records"):
        assert Path(row["file"]).parts[0] == NEGATIVE
        wanted = whole[round(row["start_s"] * SR) : round(row["end_s"] * SR)]
        assert np.array_equal(audio.load(done.out / row["file"])[0], wanted), "negatives are not padded"
    assert done.written == 2 + 3


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], 0),  # heard, but nothing said
        ([claim("rec", "bark", "open")], 0),
        ([claim("rec", "bark", "not_found")], 1),
        ([claim("rec", None, "not_found")], 1),
        ([claim("rec", "bark", "not_found"), claim("rec", "howl", "unsure")], 0),
        ([claim("rec", "bark", "not_found"), claim("rec", "howl", "unsure", labeler="bob")], 0),
        ([claim("rec", "bark", "not_found"), claim("rec", "howl", "confirmed")], 0),  # a howl without a place
        ([claim("rec", None, "confirmed"), segment("rec", 8.0, 9.0, "howl")], 1),
    ],
)
def test_negatives_need_a_decision_and_no_doubt(
    operations: list[Any], expected: int, fill: Fill, tmp_path: Path
) -> None:
    done = export(fill(heard("rec", [0.0, 4.0]), *operations), tmp_path / "out")
    assert done.manifest.loc[done.manifest["kind"] == "negative", "file"].nunique() == expected


def test_long_negatives_come_in_equal_pieces(fill: Fill, tmp_path: Path) -> None:
    store = fill(heard("rec", [0.0, 70.0]), claim("rec", "bark", "not_found"), sounds={"rec": 75.0})
    rows = export(store, tmp_path / "a").manifest
    assert np.allclose(rows["end_s"] - rows["start_s"], 70 / 3)
    assert list(rows["start_s"][1:]) == list(rows["end_s"][:-1])
    rows = export(store, tmp_path / "b", negative_s=40.0).manifest
    assert list(rows["end_s"] - rows["start_s"]) == [70.0], "no piece is shorter than negative_s"
    assert export(store, tmp_path / "c", negative_s=None).manifest.empty


# --- twice ------------------------------------------------------------------------------------------------------------


def test_a_second_call_does_only_what_is_missing(fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"), segment("rec", 3.0, 4.0, "howl"))
    out = tmp_path / "out"
    first = export(store, out)
    before = files_in(out)
    monkeypatch.setattr(audio, "cut", lambda *_, **__: pytest.fail("nothing is to be cut"))
    monkeypatch.setattr(audio, "info", lambda *_: pytest.fail("no recording is to be opened"))
    second = export(store, out)
    assert (second.written, second.kept) == (0, 2)
    assert files_in(out) == before
    pd.testing.assert_frame_equal(second.manifest, first.manifest)
    monkeypatch.undo()
    (out / first.manifest["file"][0]).unlink()
    store.append([segment("rec", 5.0, 6.0, "bark")])
    third = export(store, out)
    assert (third.written, third.kept) == (2, 1)
    assert before.items() - {("manifest.csv", before["manifest.csv"])} <= files_in(out).items()


def test_a_file_that_was_edited_is_left_and_told_every_time(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    out = tmp_path / "out"
    name = export(store, out).manifest["file"][0]
    (out / name).write_bytes(b"mine")
    for _ in range(2):
        done = export(store, out)
        assert done.changed == (name,)
        assert "is not what was exported" in done.problems["reason"][0]
        assert (out / name).read_bytes() == b"mine"


def test_someone_elses_file_is_not_taken_for_ours(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"), segment("rec", 3.0, 4.0, "bark"))
    names = list(export(store, tmp_path / "first").manifest["file"])
    out = tmp_path / "out"
    for name, content in zip(names, [b"mine", (tmp_path / "first" / names[1]).read_bytes()], strict=True):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    done = export(store, out)
    assert done.changed == (names[0],)
    assert (done.written, done.kept) == (0, 1), "the other one is just what would have been cut"
    assert (out / names[0]).read_bytes() == b"mine"


def test_labels_that_are_gone_leave_strays(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"), segment("rec", 3.0, 4.0, "bark"))
    out = tmp_path / "out"
    names = list(export(store, out).manifest["file"])
    store.append([make_operation("delete", "ann", "rec", id="annrecbark1.0")])
    audio.save(out / "bark" / "new.wav", wave(0.1), SR)
    done = export(store, out)
    assert list(done.manifest["file"]) == names[1:]
    assert done.strays == tuple(sorted([str(out / names[0]), str(out / "bark" / "new.wav")]))
    assert (out / names[0]).exists()


def test_other_settings_need_another_folder(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    out = tmp_path / "out"
    export(store, out)
    before = files_in(out)
    for options in ({"pad_s": 0.1}, {"format": "flac"}, {"sr": 4000}, {"classes": ["bark"]}, {"negative_s": 2.0}):
        with pytest.raises(AudiotkError, match=rf"other settings .*{next(iter(options))}"):
            export(store, out, **options)
    assert files_in(out) == before
    shutil.copytree(out, tmp_path / "copy")
    (tmp_path / "copy" / "export.json").unlink()
    with pytest.raises(AudiotkError, match="is no export"):
        export(store, tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("export.json", "{", "is not the settings of an export"),
        ("export.json", "[]", "is not the settings of an export"),
        ("export.json", None, "names folders that audiotk does not make"),
        ("manifest.csv", "file,recording\n1,2\n", "expected the columns file, recording, path"),
        ("manifest.csv", ",".join(MANIFEST) + "\na,b\n", "as many cells"),
        ("manifest.csv", ",".join(MANIFEST) + "\na,b,c,one,2,d,e,f,g,h\n", "cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused(name: str, content: str | None, told: str, fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    out = tmp_path / "out"
    export(store, out)
    if content is None:
        held = json.loads((out / name).read_text())
        content = json.dumps(held | {"folders": {"bark": "../../bark"}})
    (out / name).write_text(content)
    with pytest.raises(AudiotkError, match=told):
        export(store, out)


KILLED = """
import os, sys
from audiotk import audio
from audiotk.formats import cutting
from audiotk.store import open_store
real, count = audio.cut, 0
def cut(*args, **options):
    global count
    count += 1
    if count == 3:
        os._exit(9)  # as kill -9: nothing is tidied up
    return real(*args, **options)
audio.cut = cut
cutting.export_segments(open_store(sys.argv[1]), sys.argv[2], workers=1, progress=False)
"""


def test_a_killed_export_goes_on(fill: Fill, tmp_path: Path) -> None:
    store = fill(*(segment("rec", n, n + 0.5, "Bark") for n in range(6)))
    whole = export(store, tmp_path / "whole")
    out = tmp_path / "out"
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "labels.sqlite"), str(out)], check=False)
    assert died.returncode == 9
    assert len(list(out.rglob("*.wav"))) == 2
    assert not (out / "manifest.csv").exists()
    done = export(store, out)
    assert (done.written, done.kept, done.changed, done.strays) == (4, 2, (), ())
    assert files_in(out) == files_in(whole.out)


@pytest.mark.parametrize("every", [1, 256])
def test_an_interrupted_export_keeps_its_manifest(
    every: int, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r{n}" for n in range(4)]
    store = fill(*(segment(name, 1.0, 2.0, "bark") for name in names), sounds=dict.fromkeys(names, 3.0))
    real, asked = audio.cut, []

    def cut(*args: Any, **options: Any) -> Path:
        asked.append(args)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(audio, "cut", cut)
    monkeypatch.setattr(cutting, "EVERY", every)
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out")
    assert [row["recording"] for row in read_manifest(tmp_path / "out" / "manifest.csv")] == names[:2]
    left = len(list((tmp_path / "out").rglob("*.wav")))  # the thread may have been ahead of what was asked of it
    done = export(store, tmp_path / "out")
    assert (done.written, done.kept, done.problems.empty) == (4 - left, left, True)


def test_a_changed_recording_is_told(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    out = tmp_path / "out"
    export(store, out)
    before = files_in(out)
    audio.save(tmp_path / "sound" / "0.wav", wave(11.0, 5), SR, overwrite=True)
    done = export(store, out)
    assert list(done.problems["reason"]) == [
        "the recording has changed since its segments were cut; export to a new folder"
    ]
    assert files_in(out) == before
    (tmp_path / "sound" / "0.wav").unlink()
    assert export(store, out).kept == 1, "what is there needs no recording"


# --- what cannot be cut -----------------------------------------------------------------------------------------------


def test_one_bad_recording_is_skipped_listed_and_counted(fill: Fill, tmp_path: Path) -> None:
    names = ["good", "text", "gone", "short"]
    store = fill(
        *(segment(name, n, n + 0.5, "bark") for name in names for n in (1.0, 8.0)),
        segment("unknown", 1.0, 2.0, "bark"),
        sounds=dict.fromkeys(names, 10.0),
    )
    (tmp_path / "sound" / "1.wav").write_text("no sound")
    (tmp_path / "sound" / "2.wav").unlink()
    audio.save(tmp_path / "sound" / "3.wav", wave(8.2), SR, overwrite=True)
    done = export(store, tmp_path / "out")
    assert (done.written, len(done.manifest)) == (3, 3)
    assert list(done.problems["recording"]) == ["unknown", "gone", "short", "text"]
    told = dict(zip(done.problems["recording"], done.problems["reason"], strict=True))
    assert "not registered" in told["unknown"]
    assert "no such file" in told["gone"]
    assert "segment 8.000-8.500 s ends behind the recording (8.200 s)" in told["short"]
    assert "problems: 4" in repr(done)
    audio.save(tmp_path / "sound" / "1.wav", wave(10.0), SR, overwrite=True)
    assert export(store, tmp_path / "out").written == 2, "what could not be cut is made when it can"


def test_settings_that_are_not_possible(fill: Fill, tmp_path: Path) -> None:
    store = fill()
    for options in ({"pad_s": -1.0}, {"fade_s": math.nan}, {"format": "mp3"}, {"negative_s": 0.0}, {"pad_s": math.inf}):
        with pytest.raises(AudiotkError, match="export: expected"):
            export(store, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_empty_store_makes_an_empty_export(fill: Fill, tmp_path: Path) -> None:
    done = export(fill(), tmp_path / "out")
    assert list(done.manifest.columns) == list(MANIFEST)
    assert (len(done.manifest), done.clips) == (0, (0, 0))
    assert math.isnan(done.expansion)
    assert math.isnan(done.per_label)
    assert read_manifest(tmp_path / "out" / "manifest.csv") == []


def test_a_folder_that_cannot_be_written(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    (tmp_path / "file").write_text("")
    with pytest.raises(AudiotkError, match="cannot be made"):
        export(store, tmp_path / "file" / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bark").write_text("a file")
    assert "cannot be made" in export(store, tmp_path / "out").problems["reason"][0]


# --- names ------------------------------------------------------------------------------------------------------------

HOSTILE = ["../../etc/passwd", "/abs", "C:\\x", "..", ".", "con", "NUL.txt", "a/b", "<b>&amp;", "x" * 300, "犬" * 90,
           "-rf", "a\nb", "\x00", "trailing. ", "négatif", "manifest.csv", "Negative", "%2e%2e", "$HOME"]  # fmt: skip


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(HOSTILE)), unique=True, max_size=12))
def test_no_two_classes_share_a_folder_and_none_leads_away(classes: list[str]) -> None:
    folders = class_folders(classes)
    assert set(folders) == set(classes)
    assert len({folded(name) for name in folders.values()} | {NEGATIVE}) == len(classes) + 1
    for name in folders.values():
        assert os.path.basename(name) == name.split("\\")[-1] == name
        assert name.strip(" .") == name
        assert 0 < len(name.encode()) <= 100
        assert not set(name) & set('/\\:*?"<>|\0\n\t')
        assert name.split(".")[0].lower() not in ("con", "nul", "aux", "prn", "com1", "lpt9")
        assert safe_name(name, 200) == name, "a name that was made is a name that is taken back"
    assert class_folders(classes, folders) == folders
    assert {**class_folders([*classes, "one more"], folders), **folders} == class_folders(
        [*classes, "one more"], folders
    )


@pytest.mark.parametrize(
    "pair", [("Bark", "bark"), ("a/b", "a_b"), ("e\u0301", "\u00e9"), ("ﬁ", "fi"), ("x.", "x"), ("ß", "SS")]
)
def test_names_that_disks_take_for_one(pair: tuple[str, str]) -> None:
    one, two = class_folders(pair).values()
    assert folded(one) != folded(two)


def test_ordinary_names_stay_as_they_are() -> None:
    names = ["Bark", "baby cry, infant cry", "Waves_surf", "狗", "Ding-dong (bell)"]
    assert class_folders(names) == {name: name for name in names}


def test_a_folder_is_kept_when_classes_come_and_go(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    out = tmp_path / "out"
    export(store, out)
    store.append([segment("rec", 3.0, 4.0, "Bark"), make_operation("delete", "ann", "rec", id="annrecbark1.0")])
    done = export(store, out)
    folder = Path(done.manifest["file"][0]).parts[0]
    assert folder.startswith("Bark-"), "bark was first, and may be the same folder on this disk"
    store.append([segment("rec", 5.0, 6.0, "bark")])
    assert {Path(f).parts[0] for f in export(store, out).manifest["file"]} == {folder, "bark"}


def test_hostile_classes_and_recordings_stay_inside(fill: Fill, tmp_path: Path) -> None:
    names = [name for name in HOSTILE if "\0" not in name]
    store = fill(
        *(segment(name, 1.0, 1.25, name, labeler=name) for name in names),
        *(heard(name, [2.0, 4.0], labeler=name) for name in names),
        *(claim(name, name, "confirmed", labeler=name) for name in names),
        sounds=dict.fromkeys(names, 5.0),
    )
    out = tmp_path / "deep" / "out"
    around = files_in(tmp_path)
    done = export(store, out)
    assert done.problems.empty
    assert done.written == 2 * len(names)
    inside = {f"deep/out/{name}" for name in files_in(out)}
    assert set(files_in(tmp_path)) - set(around) == inside
    back = read_manifest(out / "manifest.csv")
    assert sorted(row["class_name"] for row in back) == sorted(2 * names)
    assert all((out / row["file"]).is_file() for row in back)


def test_a_link_does_not_lead_out(fill: Fill, tmp_path: Path) -> None:
    store = fill(segment("rec", 1.0, 2.0, "bark"))
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "bark").symlink_to(tmp_path / "elsewhere")
    done = export(store, tmp_path / "out")
    assert "leads out of the export folder" in done.problems["reason"][0]
    assert list((tmp_path / "elsewhere").iterdir()) == []


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=40)
@given(st.lists(st.tuples(texts, texts, st.floats(0, 1e6)), max_size=4))
def test_the_manifest_reads_back(rows: list[tuple[str, str, float]]) -> None:
    made = [
        dict.fromkeys(MANIFEST, name) | {"class_name": text, "start_s": start, "end_s": start + 0.1}
        for name, text, start in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        write_manifest(path, made)
        assert sorted(read_manifest(path), key=repr) == sorted(made, key=repr)


# --- expansion --------------------------------------------------------------------------------------------------------


def test_expansion_counts_samples_a_clip_label(fill: Fill, tmp_path: Path) -> None:
    """B1.5 as claims.json has it (plus one), over all clips, and over those in which something was labelled."""
    store = fill(
        *(segment("three", n, n + 0.5, "bark") for n in (1.0, 3.0, 5.0)),
        segment("three", 5.25, 6.0, "bark", "bob"),  # the third bark again
        segment("two", 1.0, 2.0, "bark"),
        segment("two", 1.0, 2.0, "howl"),
        claim("none", "bark", "not_found"),
        claim("started", "bark", "open"),
        sounds=dict.fromkeys(["three", "two", "none", "started", "untouched"], 8.0),
    )
    about = {"path": str(tmp_path / "sound" / "0.wav"), "duration_s": 8.0, "sr": SR, "group": "g", "claim": None}
    store.append([make_operation("recording", "", "unclaimed", **about), segment("unclaimed", 1.0, 2.0, "bark")])
    done = export(store, tmp_path / "out")
    assert done.expansion == (3 + 2) / 2
    assert done.clips == (2, 3), "three and two held some; none was decided too; started is open, untouched unheard"
    assert done.per_label == pytest.approx((3 + 2) / 3)
    assert "1.67 clean samples a clip label, 2.50 a clip that held any (2 of 3)" in repr(done)
