"""Data sets: official layouts, golden numbers, no group in two splits, and one clear error for what is broken."""

import io
import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
import soundfile as sf

from audiotk import audio, datasets
from audiotk.datasets import archives, audioset, esc50, folder, found, fsd50k
from audiotk.labels import resolve
from audiotk.tables import AudiotkError, Dataset

DATA = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def needs(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"real test data {path.name} is not here (set AUDIOTK_TEST_DATA)")
    return path


def sound(path: Path, seed: int, seconds: float = 0.5, sr: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.random.default_rng(seed).standard_normal(round(seconds * sr)) * 0.1, sr)
    return path


def assert_no_group_crosses(dataset: Dataset) -> None:
    splits = dataset.recordings["recording"].map(dataset.split).groupby(dataset.recordings["group"]).nunique()
    assert len(splits)
    assert (splits == 1).all()


def labels_of(dataset: Dataset) -> dict[tuple[str, str], float]:
    """(recording, class) -> value, for data with one segment a recording."""
    recording = dataset.annotations["segment"].map(dataset.segments.set_index("segment")["recording"])
    return dict(
        zip(zip(recording, dataset.annotations["class_name"], strict=True), dataset.annotations["value"], strict=True)
    )


# ------------------------------------------------------------------------------------------------ by name


def test_load_by_name(tmp_path: Path) -> None:
    sound(tmp_path / "dog" / "a.wav", 0)
    assert datasets.load("folder", tmp_path, seed=3).classes == ("dog",)


def test_an_unknown_name_or_option_says_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="embedded, esc50, fsd50k, audioset, folder, got 'esc5'"):
        datasets.load("esc5", tmp_path)
    with pytest.raises(AudiotkError, match=r"unknown options \['esc_10'\]; expected some of \['esc10'"):
        datasets.load("esc50", tmp_path, esc_10=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [("esc50", "meta/esc50.csv"), ("fsd50k", "FSD50K.dev_audio/"), ("audioset", "YouTube"), ("folder", "root/CLASS")],
)
def test_without_data_the_error_says_what_to_put_where(tmp_path: Path, name: str, words: str) -> None:
    for root in (None, tmp_path / "nothing", tmp_path):
        with pytest.raises(AudiotkError, match=words):
            datasets.load(name, root)


# ------------------------------------------------------------------------------------------------ esc50


def fake_esc50(root: Path, folds: int = 3, suffix: str = ".ogg") -> Path:
    """Three classes, in each fold four recordings a class that were cut from two sources."""
    rows = []
    for fold in range(1, folds + 1):
        for target, category in [(0, "dog"), (10, "rain"), (36, "vacuum_cleaner")]:
            for take, source in [("A", 1), ("B", 1), ("A", 2), ("B", 2)]:
                source_file = fold * 1000 + target * 10 + source
                name = f"{fold}-{source_file}-{take}-{target}{suffix}"
                sound(root / "audio" / name, len(rows), 1.0, 44100)
                rows.append((name, fold, target, category, target < 36, source_file, take))
    (root / "meta").mkdir()
    columns = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "meta" / "esc50.csv", index=False)
    return root


@pytest.mark.parametrize("suffix", [".ogg", ".wav"])
def test_esc50_official_layout(tmp_path: Path, suffix: str) -> None:
    dataset = esc50.load(fake_esc50(tmp_path, suffix=suffix), val_share=0.5)
    assert dataset.classes == ("dog", "rain", "vacuum_cleaner")
    assert len(dataset.recordings) == 36
    assert labels_of(dataset)["1-1001-A-0", "dog"] == 1.0
    fold = dataset.split.index.str[0]
    assert (dataset.split[fold == "3"] == "test").all()
    assert set(dataset.split[fold != "3"]) == {"train", "val"}
    assert_no_group_crosses(dataset)
    assert dataset.sources.loc["esc50"].tolist() == [True, True]
    part = dataset.annotations["segment"].str.split("@").str[0].map(dataset.split)
    assert dataset.annotations.groupby(part.array)["class_name"].nunique().to_dict() == {
        "train": 3,
        "val": 3,
        "test": 3,
    }


def test_esc10_is_a_subset_and_seeds_differ_only_in_validation(tmp_path: Path) -> None:
    root = fake_esc50(tmp_path)
    first, again, other = (esc50.load(root, esc10=True, seed=seed, val_share=0.3) for seed in (0, 0, 1))
    assert first.classes == ("dog", "rain")
    assert len(first.recordings) == 24
    pd.testing.assert_series_equal(first.split, again.split)
    assert (first.split == "test").equals(other.split == "test")


def test_the_validation_share_of_esc50_is_an_option_by_name(tmp_path: Path) -> None:
    root = fake_esc50(tmp_path)
    parts = {share: datasets.load("esc50", root, val_share=share).split.value_counts() for share in (0.0, 0.25, 0.5)}
    assert "val" not in parts[0.0]
    assert [parts[share].get("val", 0) + parts[share]["train"] for share in parts] == [24, 24, 24]
    assert parts[0.5]["val"] == 12
    assert parts[0.25]["val"] < 12
    for share in (-0.1, 1.0, np.nan):
        with pytest.raises(AudiotkError, match=r"val_share: expected 0 <= share < 1"):
            datasets.load("esc50", root, val_share=share)


def test_esc50_lists_missing_and_broken_audio(tmp_path: Path) -> None:
    root = fake_esc50(tmp_path)
    (root / "audio" / "1-1001-A-0.ogg").unlink()
    (root / "audio" / "2-2001-A-0.ogg").write_text("no sound")
    with pytest.warns(UserWarning, match="skipped 2 of 36"):
        dataset = esc50.load(root)
    assert dataset.problems["recording"].tolist() == ["1-1001-A-0", "2-2001-A-0"]
    assert len(dataset.recordings) == len(dataset.annotations) == 34
    shutil.rmtree(root / "audio")
    with pytest.warns(match="skipped 36"), pytest.raises(AudiotkError, match=r"none of 36 .*so that the root holds"):
        esc50.load(root)


def test_esc50_refuses_a_source_in_test_and_training_folds(tmp_path: Path) -> None:
    root = fake_esc50(tmp_path)
    meta = pd.read_csv(root / "meta" / "esc50.csv")
    meta.loc[meta["src_file"] == 3001, "src_file"] = 1001
    meta.to_csv(root / "meta" / "esc50.csv", index=False)
    with pytest.raises(AudiotkError, match="group '1001' is in more than one split"):
        esc50.load(root)


def test_esc50_needs_two_folds_and_names_inside_its_folder(tmp_path: Path) -> None:
    root = fake_esc50(tmp_path, folds=1)
    with pytest.raises(AudiotkError, match="at least two folds, found only fold 1"):
        esc50.load(root)
    meta = pd.read_csv(root / "meta" / "esc50.csv")
    meta.loc[0, "filename"] = "../../secret.wav"
    meta.to_csv(root / "meta" / "esc50.csv", index=False)
    with pytest.raises(AudiotkError, match="inside"):
        esc50.load(root)


def test_real_esc10() -> None:
    dataset = esc50.load(needs(DATA / "esc10"), esc10=True)
    assert len(dataset.recordings) == 240
    assert len(dataset.classes) == 10
    assert dataset.split.value_counts()["test"] == 80
    assert not len(dataset.problems)
    assert (dataset.recordings["sr"] == 44100).all()
    assert_no_group_crosses(dataset)
    in_val = dataset.annotations["segment"].isin(
        dataset.segments.loc[dataset.segments["recording"].map(dataset.split) == "val", "segment"]
    )
    assert set(dataset.annotations["class_name"][in_val]) == set(dataset.classes)


# ------------------------------------------------------------------------------------------------ fsd50k


def fake_fsd50k(root: Path, crossing: bool = False) -> Path:
    """Six development and three evaluation recordings; `crossing` gives ann val and eval recordings besides train."""
    dev = [
        ("11", "Bark,Dog", "train", "ann"),
        ("12", "Bark,Dog", "train", "ann"),
        ("13", "Rain", "train", "bob"),
        ("14", "Rain", "val", "ann" if crossing else "cid"),
        ("15", "Dog", "val", "dan"),
        ("16", "Dog", "val", "dan"),
    ]
    evaluation = [("21", "Dog", "eva"), ("22", "Rain,Dog", "eva"), ("23", "Rain", "bob" if crossing else "fay")]
    truth, meta = root / "FSD50K.ground_truth", root / "FSD50K.metadata"
    truth.mkdir(parents=True)
    meta.mkdir()
    (truth / "vocabulary.csv").write_text("0,Bark,/m/05tny_\n1,Dog,/m/0bt9lr\n2,Rain,/m/06mb1\n")
    table = pd.DataFrame(dev, columns=["fname", "labels", "split", "uploader"]).assign(mids="")
    table[["fname", "labels", "mids", "split"]].to_csv(truth / "dev.csv", index=False)
    held = pd.DataFrame(evaluation, columns=["fname", "labels", "uploader"]).assign(mids="")
    held[["fname", "labels", "mids"]].to_csv(truth / "eval.csv", index=False)
    for part, rows in (("dev", table), ("eval", held)):
        info = {name: {"uploader": who} for name, who in zip(rows["fname"], rows["uploader"], strict=True)}
        (meta / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(info))
        for name in rows["fname"]:
            sound(root / f"FSD50K.{part}_audio" / f"{name}.wav", int(name), 0.3, 44100)
    return root


def test_fsd50k_official_layout(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    dataset = fsd50k.load(fake_fsd50k(tmp_path))
    assert dataset.classes == ("Bark", "Dog", "Rain")
    assert dataset.split.to_dict() == {
        "11": "train", "12": "train", "13": "train", "14": "val", "15": "val", "16": "val",
        "21": "test", "22": "test", "23": "test",
    }  # fmt: skip
    assert {key for key in labels_of(dataset) if key[0] in ("11", "22")} == {
        ("11", "Bark"), ("11", "Dog"), ("22", "Rain"), ("22", "Dog")}  # fmt: skip
    assert len(dataset.annotations) == 12
    assert not len(recwarn)
    assert_no_group_crosses(dataset)


def test_fsd50k_uploaders_that_cross_are_repaired_and_counted(tmp_path: Path) -> None:
    root = fake_fsd50k(tmp_path, crossing=True)
    with (
        pytest.warns(UserWarning, match="1 validation recordings went to train"),
        pytest.warns(UserWarning, match="1 development recordings of evaluation uploaders are left out"),
    ):
        dataset = fsd50k.load(root)
    assert dataset.split["14"] == "train"
    assert dataset.problems["recording"].tolist() == ["13"]
    assert "evaluation set" in dataset.problems["reason"].item()
    assert_no_group_crosses(dataset)


def test_fsd50k_without_evaluation_sound_warns_that_there_is_no_test_set(tmp_path: Path) -> None:
    root = fake_fsd50k(tmp_path)
    shutil.rmtree(root / "FSD50K.eval_audio")
    with pytest.warns(UserWarning, match="skipped 3 of 9"), pytest.warns(UserWarning, match="no recording is in test"):
        assert set(fsd50k.load(root).split) == {"train", "val"}


def test_fsd50k_without_uploaders_or_with_unknown_labels(tmp_path: Path) -> None:
    root = fake_fsd50k(tmp_path)
    (root / "FSD50K.ground_truth" / "vocabulary.csv").write_text("0,Bark,/m/05tny_\n1,Dog,/m/0bt9lr\n")
    with pytest.raises(AudiotkError, match=r"\['Rain'\] are not in vocabulary"):
        fsd50k.load(root)
    (root / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").unlink()
    with pytest.raises(AudiotkError, match=r"dev_clips_info_FSD50K\.json: the uploader"):
        fsd50k.load(root)


# ------------------------------------------------------------------------------------------------ audioset

HEADER = "# Segments csv created\n# num_ytids=4\n# YTID, start_seconds, end_seconds, positive_labels\n"
ROWS = [
    '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"',
    "-0SdAVK79lg, 0.000, 10.000, \"/m/04rlf\"",
    '_0-2meOf9qY,5,12.5,/m/09x0r',
    'Y0123456789, 100, 110, "/m/04rlf, /m/09x0r"',
]  # fmt: skip


def fake_audioset(root: Path, rows: list[str] | None = None, header: str = HEADER, end: str = "\n") -> Path:
    root.mkdir(exist_ok=True)
    names = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/04rlf,Music\n2,/t/dd00088,"Gush, flow"\n'
    (root / "class_labels_indices.csv").write_text(names)
    (root / "balanced_train_segments.csv").write_text(
        (header + "\n".join(rows or ROWS) + "\n").replace("\n", end), newline=""
    )
    return root


@pytest.mark.parametrize("header", ["", HEADER, HEADER * 3, "\ufeff" + HEADER])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_audioset_rows_under_any_header(tmp_path: Path, header: str, end: str) -> None:
    root = fake_audioset(tmp_path, header=header, end=end)
    segments, positives = audioset.read_segments(root / "balanced_train_segments.csv")
    assert segments["ytid"].tolist() == ["--PJHxphWEs", "-0SdAVK79lg", "_0-2meOf9qY", "Y0123456789"]
    assert segments["start_s"].tolist() == [30, 0, 5, 100]
    assert segments["end_s"].tolist() == [40, 10, 12.5, 110]
    assert positives["row"].tolist() == [0, 0, 1, 2, 3, 3]
    assert positives["mid"].tolist() == ["/m/09x0r", "/t/dd00088", "/m/04rlf", "/m/09x0r", "/m/04rlf", "/m/09x0r"]


@pytest.mark.parametrize(
    "broken",
    ["short_id,0,10,/m/09x0r", "--PJHxphWEs,0,/m/09x0r", "--PJHxphWEs,a,10,/m/09x0r", "--PJHxphWEs,10,10,/m/09x0r",
     "--PJHxphWEs,0,10,", "--PJHxphWEs,0,10,/m/09x0r,/m/04rlf,", "--PJHxphWEs,0,10,/m/unknown", "garbage",
     '--PJHxphWEs,0,10,"/m/09x0r', '--PJHxphWEs,0,10,/m/09x0r"', "--PJHxphWEs,0,10,/m/09x0r,/m/04rlf",
     '--PJHxphWEs,0,10,"/m/09x0r",/m/04rlf', '--PJHxphWEs,0,10,""', "--PJHxphWEs,0," + "9" * 24 + ",/m/09x0r",
     "--PJHxphWEs,0," + "9" * 400 + ",/m/09x0r", "--PJHxphWEs,0,3000000.5,/m/09x0r"],
)  # fmt: skip
def test_a_broken_audioset_row_is_named_with_line_and_content(tmp_path: Path, broken: str) -> None:
    root = fake_audioset(tmp_path, [*ROWS[:2], broken, ROWS[3]])
    with pytest.raises(AudiotkError, match=r"balanced_train_segments\.csv line 6: ") as caught:
        audioset.load(root)
    assert broken in str(caught.value) or "'/m/unknown'" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("# num_ytids=4, num_segs=5, num_unique_labels=3, num_positive_labels=7\n", ["num_segs=5, but it has 4 rows"]),
        ("# num_segs=4, num_positive_labels=7\n", ["num_positive_labels=7, but it has 6 labels"]),
        ("# num_ytids=4, num_segs=4, num_unique_labels=3, num_positive_labels=6\n", []),
        ("# a\n# num_segs=22160\n", ["num_segs=22160, but it has 4 rows"]),
    ],
)  # fmt: skip
def test_a_cut_audioset_file_is_noticed_by_its_header(tmp_path: Path, header: str, told: list[str]) -> None:
    path = fake_audioset(tmp_path, header=header) / "balanced_train_segments.csv"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(audioset.read_segments(path)[0]) == 4
    assert len(caught) == len(told)
    for one, words in zip(caught, told, strict=True):
        assert f"{path}: its header says" in str(one.message)
        assert words in str(one.message)


def test_a_missing_audioset_file_says_where_it_comes_from(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path)
    names = root / "balanced_train_segments.csv", root / "class_labels_indices.csv"
    for absent in (0, 1):
        given = [tmp_path / "absent.csv" if place == absent else name for place, name in enumerate(names)]
        with pytest.raises(AudiotkError, match=r"absent\.csv: .*research\.google\.com") as caught:
            audioset.read_labels(*given)
        assert "root" not in str(caught.value).replace(str(tmp_path), "")


def test_audioset_with_labels_only(tmp_path: Path) -> None:
    dataset = audioset.load(fake_audioset(tmp_path))
    assert dataset.classes == ("Speech", "Music", "Gush, flow")
    assert dataset.recordings["recording"].tolist()[0] == "--PJHxphWEs_30000"
    assert labels_of(dataset)["--PJHxphWEs_30000", "Gush, flow"] == 1.0
    assert dataset.segments["segment"].tolist()[2] == "_0-2meOf9qY_5000@0.000-7.500"
    assert (dataset.recordings["path"] == "").all()
    assert_no_group_crosses(dataset)


def test_audioset_evaluation_file_is_the_test_set(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path)
    (root / "eval_segments.csv").write_text('abcdefghijk, 1, 11, "/m/04rlf"\n')
    dataset = audioset.load(root)
    assert dataset.split.loc["abcdefghijk_1000"] == "test"
    assert set(dataset.split.drop("abcdefghijk_1000")) <= {"train", "val"}
    assert len(audioset.load(root, segments="eval_segments.csv").recordings) == 1


def test_audioset_finds_files_under_all_their_names(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path)
    sound(root / "audio" / "deep" / "Y--PJHxphWEs_30.flac", 1, 10.0)
    sound(root / "audio" / "-0SdAVK79lg_0_10000.wav", 2, 10.0)
    sound(root / "audio" / "_0-2meOf9qY.ogg", 3, 20.0)  # the whole video
    sound(root / "audio" / "Y0123456789.wav", 4, 9.5)  # a cut, a little short
    sound(root / "audio" / "--PJHxphWEs_99.wav", 5, 10.0)  # another segment of that video
    dataset = audioset.load(root)
    assert not len(dataset.problems)
    place = dataset.segments.set_index("recording")
    assert place.loc["_0-2meOf9qY_5000", ["start_s", "end_s"]].tolist() == [5.0, 12.5]
    assert place.loc["Y0123456789_100000", ["start_s", "end_s"]].tolist() == [0.0, 9.5]
    assert place.loc["--PJHxphWEs_30000", ["start_s", "end_s"]].tolist() == [0.0, 10.0]
    path = dataset.recordings.set_index("recording")["path"]
    assert path["--PJHxphWEs_30000"].endswith("Y--PJHxphWEs_30.flac")
    waves, _, _ = audio.load_segments(dataset.recordings, dataset.segments, 8000)
    assert waves.shape == (4, 80000)


@pytest.mark.parametrize(
    ("row", "seconds", "expected"),
    [
        ("30, 40", 39.6, (30.0, 39.6)),  # the whole video, which ends a little before the segment
        ("30, 40", 60.0, (30.0, 40.0)),
        ("30, 40", 39.4, None),  # it ends too early
        ("30, 40", 20.0, None),
        ("30, 40", 10.9, (0.0, 10.0)),  # a cut, a little long
        ("0, 10", 10.0, (0.0, 10.0)),
        ("0.5, 10", 10.0, (0.5, 10.0)),
        ("30, 37.5", 7.4, (0.0, 7.4)),
    ],
)
def test_audioset_never_takes_the_start_of_a_video_for_a_later_segment(
    tmp_path: Path, row: str, seconds: float, expected: tuple[float, float] | None
) -> None:
    root = fake_audioset(tmp_path, [f'--PJHxphWEs, {row}, "/m/09x0r"', ROWS[1]])
    path = sound(root / "audio" / "--PJHxphWEs.wav", 1, seconds)
    sound(root / "audio" / "-0SdAVK79lg_0.wav", 2, 10.0)
    dataset = audioset.load(root)
    place = dataset.segments.set_index("recording")[["start_s", "end_s"]]
    name = dataset.recordings["recording"][0] if expected else dataset.problems["recording"].item()
    assert name.startswith("--PJHxphWEs_")
    if expected:
        assert place.loc[name].tolist() == list(expected)
        assert not len(dataset.problems)
    else:
        assert place.index.tolist() == ["-0SdAVK79lg_0"]
        assert dataset.problems["path"].item() == str(path)
        assert f"video ({seconds} s) ends before the segment does, at 40.0 s" in dataset.problems["reason"].item()
        assert dataset.annotations["class_name"].tolist() == ["Music"]


def test_audioset_lists_what_is_missing_or_broken(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path)
    sound(root / "audio" / "--PJHxphWEs.wav", 1, 10.0)
    (root / "audio" / "-0SdAVK79lg_0.wav").write_text("no sound")
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        dataset = audioset.load(root)
    assert dataset.recordings["recording"].tolist() == ["--PJHxphWEs_30000"]
    reasons = dataset.problems.set_index("recording")["reason"]
    assert "not a sound file" in reasons["-0SdAVK79lg_0"]
    assert "no file in" in reasons["_0-2meOf9qY_5000"]
    assert len(dataset.annotations) == 2


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_audioset_manifest_looks_at_a_file_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    root = fake_audioset(tmp_path)
    one = sound(root / "audio" / "--PJHxphWEs_30.wav", 1, 10.0)
    two = sound(root / "audio" / "_0-2meOf9qY.wav", 2, 10.0)
    segments, _ = audioset.read_segments(root / "balanced_train_segments.csv")
    kept = tmp_path / f"manifest{suffix}"
    hashed: list[str] = []
    monkeypatch.setattr(audioset, "sha256", lambda path: hashed.append(path) or found.sha256(path))
    first = audioset.manifest(segments, root / "audio", kept)
    assert first["available"].tolist() == [True, False, True, False]
    assert first["duration_s"].tolist()[0] == 10.0
    assert first["sha256"].tolist()[2] == found.sha256(two)
    assert hashed == sorted([str(one), str(two)])
    again = audioset.manifest(segments, root / "audio", kept)
    pd.testing.assert_frame_equal(again, first)
    assert len(hashed) == 2
    sound(one, 9, 12.0)
    os.utime(one, ns=(1, 1))
    changed = audioset.manifest(segments, root / "audio", kept)
    assert len(hashed) == 3
    assert changed["duration_s"].tolist()[0] == 12.0


def test_real_audioset_golden_numbers() -> None:
    root = needs(DATA / "audioset")
    dataset = audioset.load(root, segments="balanced_train_segments.csv")
    assert (len(dataset.segments), len(dataset.annotations), len(dataset.classes)) == (22_160, 52_882, 527)
    assert dataset.annotations["class_name"].nunique() == 527
    assert dataset.recordings["group"].nunique() == 22_160
    assert dataset.classes[1] == "Male speech, man speaking"
    shares = dataset.split.value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.02)
    assert_no_group_crosses(dataset)
    assert dataset.segments["segment"][0] == "--PJHxphWEs_30000@0.000-10.000"


def test_audioset_labels_are_those_of_the_data_set(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path)
    labels = audioset.read_labels(root / "balanced_train_segments.csv", root / "class_labels_indices.csv")
    dataset = audioset.load(root)
    assert labels.segments.tolist() == dataset.segments["segment"].tolist()
    assert labels.default == 0
    assert labels == resolve(dataset, sources=["audioset"])
    assert labels.frame().loc["_0-2meOf9qY_5000@0.000-7.500"].tolist() == [1, 0, 0]


def test_audioset_labels_named_twice_in_a_row_count_once(tmp_path: Path) -> None:
    root = fake_audioset(tmp_path, ['--PJHxphWEs,0,10,"/m/09x0r,/m/04rlf,/m/09x0r"', ROWS[1]])
    labels = audioset.read_labels(root / "balanced_train_segments.csv", root / "class_labels_indices.csv")
    assert labels.dense().tolist() == [[1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([*ROWS, "-0SdAVK79lg,0,10,/m/09x0r"], r"lines 5 and 8 are both '-0SdAVK79lg_0@0\.000-10\.000' \(1 such\)$"),
        ([*ROWS[:2], "-0SdAVK79lh,0,10,/m/09x0"], r"line 6: expected labels of class_labels.*, got '/m/09x0'"),
        ([*ROWS[:2], "-0SdAVK79lh,0,ten,/m/09x0r"], r"line 6: expected a row YTID,start,end,.* got '-0SdAVK79lh,0,ten"),
        (["# nothing else"], r"segments\.csv: expected rows YTID,start,end.*, got none"),
    ],
)
def test_audioset_labels_say_what_is_wrong_with_a_file(tmp_path: Path, rows: list[str], told: str) -> None:
    root = fake_audioset(tmp_path, rows)
    with pytest.raises(AudiotkError, match=told):
        audioset.read_labels(root / "balanced_train_segments.csv", root / "class_labels_indices.csv")


def test_a_segment_that_starts_or_ends_elsewhere_is_another_one(tmp_path: Path) -> None:
    rows = [f"-0SdAVK79lg,{times},/m/09x0r" for times in ("0,10", "0,9.5", "5.001,15", "5.002,15")]
    root = fake_audioset(tmp_path, rows)
    labels = audioset.read_labels(root / "balanced_train_segments.csv", root / "class_labels_indices.csv")
    expected = ("0@0.000-10.000", "0@0.000-9.500", "5001@0.000-9.999", "5002@0.000-9.998")
    assert labels.segments.tolist() == [f"-0SdAVK79lg_{name}" for name in expected]


def test_audioset_classes_once_each(tmp_path: Path) -> None:
    names = tmp_path / "classes.csv"
    names.write_text('index,mid,display_name\n0,/m/1,"Speech"\n1,/m/2,Music\n2,/m/1,Rain\n')
    with pytest.raises(AudiotkError, match=r"classes\.csv line 4: expected each mid once, '/m/1' is repeated"):
        audioset.read_classes(names)
    names.write_text('index,mid,display_name\n0,/m/1,"Speech"\n1,/m/2, Speech\n')
    with pytest.raises(AudiotkError, match=r"line 3: expected each display_name once, 'Speech' is repeated"):
        audioset.read_classes(names)


# ------------------------------------------------------------------------------------------------ folder


def test_class_folders(tmp_path: Path) -> None:
    for number, name in enumerate(["dog/a.wav", "dog/deep/b.flac", "rain/a.ogg", ".hidden/x.wav"]):
        sound(tmp_path / name, number)
    (tmp_path / "rain" / "notes.txt").write_text("not a sound, and no problem")
    sound(tmp_path / "stray.wav", 9)
    dataset = folder.load(tmp_path)
    assert dataset.classes == ("dog", "rain")
    assert labels_of(dataset) == {("dog/a.wav", "dog"): 1, ("dog/deep/b.flac", "dog"): 1, ("rain/a.ogg", "rain"): 1}
    assert dataset.problems["recording"].tolist() == ["stray.wav"]
    assert dataset.sources.loc["folder"].tolist() == [True, True]


def many(root: Path, count: int, columns: str, row: str) -> Path:
    for number in range(count):
        sound(root / f"{number}.wav", number, 1.0)
    (root / "labels.csv").write_text(
        columns + "\n" + "".join(row.format(n=n, g=n // 2, c="ab"[n % 2]) for n in range(count))
    )
    return root


def test_csv_of_files_with_groups(tmp_path: Path) -> None:
    dataset = folder.load(many(tmp_path, 40, "path,label,group", "{n}.wav,{c},person{g}\n"))
    assert dataset.recordings["group"].nunique() == 20
    assert set(dataset.split) == {"train", "val", "test"}
    assert dataset.split.value_counts()["train"] in range(24, 33)
    assert_no_group_crosses(dataset)


def test_csv_of_files_with_several_labels_none_and_a_split(tmp_path: Path) -> None:
    for number in range(3):
        sound(tmp_path / f"{number}.wav", number)
    table = tmp_path / "my.csv"
    table.write_text(
        "path,label,split,note\n0.wav,dog; rain,train,x\n1.wav,,val,\n2.wav,dog,test,y\n./0.wav,wind,train,\n"
    )
    for dataset in (folder.load(table), folder.load(tmp_path, labels=table), folder.load(tmp_path, labels="my.csv")):
        assert labels_of(dataset) == {
            ("0.wav", "dog"): 1, ("0.wav", "rain"): 1, ("0.wav", "wind"): 1, ("2.wav", "dog"): 1,
            ("1.wav", "dog"): 0, ("1.wav", "rain"): 0, ("1.wav", "wind"): 0,
        }  # fmt: skip
        assert dataset.split.to_dict() == {"0.wav": "train", "1.wav": "val", "2.wav": "test"}


def test_csv_of_ranges(tmp_path: Path) -> None:
    for number in range(2):
        sound(tmp_path / f"{number}.wav", number, 4.0)
    rows = "0.wav,0.5,1.5,dog\n0.wav,1.0,2.0,dog;rain\n0.wav,3.0,4.0,\n1.wav,0,4,rain\n"
    (tmp_path / "labels.csv").write_text("path,start_s,end_s,label\n" + rows)
    dataset = folder.load(tmp_path)
    assert dataset.sources.loc["folder"].tolist() == [False, False]
    cells = set(
        zip(
            dataset.annotations["segment"], dataset.annotations["class_name"], dataset.annotations["value"], strict=True
        )
    )
    known = {
        ("0.wav@0.500-1.500", "dog", 1.0), ("0.wav@1.000-2.000", "dog", 1.0), ("0.wav@1.000-2.000", "rain", 1.0),
        ("0.wav@3.000-4.000", "dog", 0.0), ("0.wav@3.000-4.000", "rain", 0.0), ("1.wav@0.000-4.000", "rain", 1.0),
    }  # fmt: skip
    assert cells == known
    full = folder.load(tmp_path, complete=True).annotations
    absent = set(zip(full["segment"], full["class_name"], full["value"], strict=True)) - known
    assert absent == {
        ("0.wav@0.000-0.500", "dog", 0.0), ("0.wav@2.000-4.000", "dog", 0.0), ("0.wav@0.000-1.000", "rain", 0.0),
        ("0.wav@2.000-4.000", "rain", 0.0), ("1.wav@0.000-4.000", "dog", 0.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,lable\n0.wav,dog\n", r"\['label'\] are missing"),
        ("path,label\n../0.wav,dog\n", "line 2: expected the name of a file inside"),
        ("path,label\n0.wav,dog\n/etc/passwd,dog\n", "line 3: expected the name of a file inside"),
        ("path,label\na/../../0.wav,dog\n", "inside"),
        ("path,label\n,dog\n", "inside"),
        ("path,start_s,label\n0.wav,0,dog\n", "both columns"),
        ("path,start_s,end_s,label\n0.wav,0,x,dog\n", "line 2: expected 0 <= start_s < end_s, got '0' to 'x'"),
        ("path,start_s,end_s,label\n0.wav,0,1,dog\n0.wav,1,0.5,dog\n", "line 3: expected 0 <= start_s"),
        ("path,start_s,end_s,label\n0.wav,0,inf,dog\n", "line 2"),
        ("path,start_s,end_s,label\n0.wav,0,9,dog\n", r"labels\.csv line 2: end_s 9 lies behind the end of '0\.wav'"),
        ("path,label,group\n0.wav,dog,a\n0.wav,rain,b\n", r"labels\.csv: recording '0\.wav' has more than one group"),
        ("path,label,split\n0.wav,dog,train\n1.wav,dog,mine\n", r"labels\.csv line 3: split: .*got 'mine'"),
        ("path,label\n0.wav,\n", "no label at all"),
        ("", "cannot be read as CSV"),
        ("\n\n", "cannot be read as CSV"),
        ("path,label\n", r"labels\.csv: holds no rows"),
        ("path,label,label\n0.wav,dog,rain\n", r"columns \['label'\] occur twice"),
        ("path,label\n0.wav,dog\n1.wav,dog,rain\n", r"labels\.csv line 3: expected 2 cells, got 3: .*'rain'"),
        ("path,label\n0.wav,dog\n1.wav\n", r"labels\.csv line 3: expected 2 cells, got 1"),
        ("path,label\n\n0.wav,dog\n,\n\n../1.wav,dog\n", r"labels\.csv line 6: expected the name of a file inside"),
        ("path,start_s,end_s,label\n\n0.wav,0,1,dog\n0.wav,1,0,dog\n", r"labels\.csv line 4: expected 0 <= start_s"),
        ("path,start_s,end_s,label\r\n\r\n0.wav,0,9,dog\r\n", r"labels\.csv line 3: end_s 9"),
        ('path,label\n"0.wav",dog\n"1.wav,dog\n', r"labels\.csv line 3: cannot be read as CSV"),
        ('path,label,note\n0.wav,dog,"two\nlines"\n../1.wav,dog,\n', r"labels\.csv line 4: .*inside"),
    ],
)
def test_a_broken_csv_is_one_error(tmp_path: Path, content: str, words: str) -> None:
    for number in range(2):
        sound(tmp_path / f"{number}.wav", number)
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(AudiotkError, match=words):
        folder.load(tmp_path)


@pytest.mark.parametrize("head", ["path,label", "path,label,", "path, label,,"])
def test_a_comma_at_the_end_of_every_row_changes_nothing(tmp_path: Path, head: str) -> None:
    for number in range(2):
        sound(tmp_path / f"{number}.wav", number)
    (tmp_path / "labels.csv").write_text(f"{head}\n0.wav,dog,\n\n1.wav,dog; rain,\n")
    known = {("0.wav", "dog"): 1, ("1.wav", "dog"): 1, ("1.wav", "rain"): 1}
    assert labels_of(folder.load(tmp_path)) == known


def test_split_folders(tmp_path: Path) -> None:
    names = ["train/dog/a.wav", "train/rain/deep/b.wav", "Validation/dog/c.wav", "eval/rain/d.wav"]
    for number, name in enumerate(names):
        sound(tmp_path / name, number)
    sound(tmp_path / "train" / "stray.wav", 8)
    dataset = folder.load(tmp_path)
    assert dataset.classes == ("dog", "rain")
    assert dataset.split[names].tolist() == ["train", "train", "val", "test"]
    found_labels = labels_of(dataset)
    assert found_labels == dict.fromkeys(zip(names, ["dog", "rain", "dog", "rain"], strict=True), 1)
    assert dataset.problems["recording"].tolist() == ["train/stray.wav"]
    sound(tmp_path / "cat" / "e.wav", 9)  # now not all folders are named after splits
    assert folder.load(tmp_path).classes == ("Validation", "cat", "eval", "train")


def test_split_folders_without_classes_or_a_test_set(tmp_path: Path) -> None:
    for number, name in enumerate(["train/a.wav", "test/b.wav"]):
        sound(tmp_path / name, number)
    with pytest.raises(AudiotkError, match=r"no class folders .*\['test', 'train'\], which are named after splits"):
        folder.load(tmp_path)
    sound(tmp_path / "train" / "dog" / "c.wav", 2)
    with pytest.warns(UserWarning, match=r"no recording is in val or test; give some recordings that split"):
        assert folder.load(tmp_path).split.to_dict() == {"train/dog/c.wav": "train"}


def test_csv_paths_with_backslashes(tmp_path: Path) -> None:
    sound(tmp_path / "dogs" / "near" / "a.wav", 0)
    odd = sound(tmp_path / "b\\c.wav", 1)  # on POSIX a backslash may be part of a name
    (tmp_path / "labels.csv").write_text("path,label\ndogs\\near\\a.wav,dog\nb\\c.wav,dog\n")
    dataset = folder.load(tmp_path)
    assert dataset.recordings["path"].tolist() == [str(tmp_path / "dogs" / "near" / "a.wav"), str(odd)]
    assert dataset.recordings["recording"][0] == "dogs/near/a.wav"
    (tmp_path / "labels.csv").write_text("path,label\n..\\a.wav,dog\n")
    with pytest.raises(AudiotkError, match="line 2: expected the name of a file inside"):
        folder.load(tmp_path)


@pytest.mark.parametrize("where", ["", ",0,1"])
@pytest.mark.parametrize("turn", [False, True])
def test_a_row_that_names_a_class_beats_one_that_names_none(tmp_path: Path, where: str, turn: bool) -> None:
    for number in range(2):
        sound(tmp_path / f"{number}.wav", number, 1.0)
    rows = [f"0.wav{where},", f"0.wav{where},dog"]
    text = "\n".join([*(rows[::-1] if turn else rows), f"1.wav{where},rain"])
    (tmp_path / "labels.csv").write_text(f"path{',start_s,end_s' if where else ''},label\n{text}\n")
    lines = "line 3 says .*, line 2" if turn else "line 2 says .*, line 3"
    with pytest.warns(UserWarning, match=rf"labels\.csv: {lines} .*names \['dog'\]; what is named counts"):
        found_labels = labels_of(folder.load(tmp_path))
    assert found_labels["0.wav", "dog"] == 1
    assert found_labels.get(("0.wav", "rain")) == (0 if where else None)


def test_copies_of_a_file_never_cross_splits(tmp_path: Path) -> None:
    many(tmp_path, 30, "path,label,group", "{n}.wav,{c},person{n}\n")
    for copy, original in [(1, 0), (2, 1), (17, 9)]:
        shutil.copy(tmp_path / f"{original}.wav", tmp_path / f"{copy}.wav")
    with pytest.warns(UserWarning, match=r"3 group\(s\) hold exact copies"):
        dataset = folder.load(tmp_path)
    group = dataset.recordings.set_index("recording")["group"]
    assert group["0.wav"] == group["1.wav"] == group["2.wav"]
    assert group["9.wav"] == group["17.wav"]
    assert group.nunique() == 27
    assert_no_group_crosses(dataset)
    (tmp_path / "labels.csv").write_text("path,label,split\n9.wav,dog,train\n17.wav,dog,test\n")
    with pytest.warns(match="exact copies"), pytest.raises(AudiotkError, match="more than one split"):
        folder.load(tmp_path)


def test_the_folder_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    many(tmp_path, 30, "path,label", "{n}.wav,{c}\n")
    first, again, other = (folder.load(tmp_path, seed=seed).split for seed in (0, 0, 1))
    pd.testing.assert_series_equal(first, again)
    assert not first.equals(other)


# ------------------------------------------------------------------------------------------------ archives


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return path


def test_unpack(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"top-master/audio/x.wav": b"abc", "top-master/": b"", "other.txt": b"y"})
    archives.unpack(archive, tmp_path / "out", strip="top-master/")
    assert (tmp_path / "out" / "audio" / "x.wav").read_bytes() == b"abc"
    assert (tmp_path / "out" / "other.txt").read_bytes() == b"y"


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt"])
def test_unpack_refuses_to_leave_its_folder(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {name: b"evil"})
    with pytest.raises(AudiotkError, match="inside"):
        archives.unpack(archive, tmp_path / "out")
    assert [file.name for file in tmp_path.rglob("*.txt")] == []


def test_unpack_notices_a_broken_archive(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.bin": np.random.default_rng(0).bytes(10_000)})
    content = bytearray(archive.read_bytes())
    content[5_000] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(AudiotkError, match="cannot be extracted"):
        archives.unpack(archive, tmp_path / "out")
    archive.write_bytes(b"no archive at all")
    with pytest.raises(AudiotkError, match="not a ZIP archive"):
        archives.unpack(archive, tmp_path / "out")


def split_zip(archive: Path, sizes: list[int]) -> None:
    """Cut a ZIP into parts as ``zip -s`` does: positions count from the start of their part, whose number is noted."""
    content = bytearray(archive.read_bytes())
    starts = np.cumsum([0, *sizes])

    def place(position: int) -> tuple[int, int]:
        part = int(np.searchsorted(starts, position, side="right")) - 1
        return part, position - int(starts[part])

    end = content.rfind(b"PK\x05\x06")
    directory = int.from_bytes(content[end + 16 : end + 20], "little")
    at = directory
    while content[at : at + 4] == b"PK\x01\x02":
        part, position = place(int.from_bytes(content[at + 42 : at + 46], "little"))
        content[at + 34 : at + 36] = part.to_bytes(2, "little")
        content[at + 42 : at + 46] = position.to_bytes(4, "little")
        at += 46 + sum(int.from_bytes(content[at + n : at + n + 2], "little") for n in (28, 30, 32))
    part, position = place(directory)
    content[end + 4 : end + 6] = len(sizes).to_bytes(2, "little")
    content[end + 6 : end + 8] = part.to_bytes(2, "little")
    content[end + 16 : end + 20] = position.to_bytes(4, "little")
    for number, size in enumerate(sizes):
        archive.with_suffix(f".z{number + 1:02}").write_bytes(content[starts[number] : starts[number] + size])
    archive.write_bytes(content[starts[-1] :])


@pytest.mark.parametrize("sizes", [[20_000], [3_000, 40_000, 30_000]])
def test_unpack_joins_the_parts_of_a_split_archive(tmp_path: Path, sizes: list[int]) -> None:
    files = {f"d/{n}.bin": np.random.default_rng(n).bytes(10_000) for n in range(10)}
    archive = make_zip(tmp_path / "a.zip", files)
    split_zip(archive, sizes)
    assert len(list(tmp_path.iterdir())) == len(sizes) + 1
    archives.unpack(archive, tmp_path / "out")
    assert {
        str(file.relative_to(tmp_path / "out")): file.read_bytes() for file in (tmp_path / "out").rglob("*.bin")
    } == files
    (tmp_path / "a.z01").unlink()
    with pytest.raises(AudiotkError, match=r"of [24] parts are there"):
        archives.unpack(archive, tmp_path / "out")


@pytest.mark.skipif(shutil.which("zip") is None, reason="the command zip is not installed")
def test_unpack_reads_what_zip_splits(tmp_path: Path) -> None:
    import subprocess

    content = np.random.default_rng(0).bytes(200_000)
    (tmp_path / "x.bin").write_bytes(content)
    (tmp_path / "y.bin").write_bytes(content[::-1])
    subprocess.run(["zip", "-q", "-s", "64k", "a.zip", "x.bin", "y.bin"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.z06").exists()
    archives.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "x.bin").read_bytes() == content
    assert (tmp_path / "out" / "y.bin").read_bytes() == content[::-1]


def test_download_of_esc50(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_esc50(tmp_path / "fake")
    files = {f"ESC-50-master/{file.relative_to(fake)}": file.read_bytes() for file in fake.rglob("*.*")}

    def retrieve(url: str, known_hash: str | None, fname: str, path: Path, progressbar: bool) -> str:
        assert url == esc50.URL
        return str(make_zip(path / fname, files))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    dataset = esc50.load(tmp_path / "new", download=True)
    assert len(dataset.recordings) == 36
    assert not list((tmp_path / "new").glob("*.zip"))
    monkeypatch.setattr(pooch, "retrieve", None)
    assert len(esc50.load(tmp_path / "new", download=True).recordings) == 36  # nothing is fetched twice


def test_download_of_fsd50k_asks_for_every_part_with_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, asked = fake_fsd50k(tmp_path / "fake"), {}

    def retrieve(url: str, known_hash: str | None, fname: str, path: Path, progressbar: bool) -> str:
        asked[fname] = known_hash
        top = fname.rsplit(".", 1)[0]
        if fname.endswith(".zip"):
            files = {str(file.relative_to(fake)): file.read_bytes() for file in (fake / top).rglob("*.*")}
            make_zip(path / fname, files)
            parts = {"FSD50K.dev_audio": 5, "FSD50K.eval_audio": 1}.get(top, 0)
            if parts:
                split_zip(path / fname, [100] * parts)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(fsd50k.load(tmp_path / "new", download=True).recordings) == 9
    assert asked == {name: f"md5:{md5}" for name, md5 in fsd50k.MD5.items()}
    assert not list((tmp_path / "new").glob("*.z*"))


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("MD5 hash does not match")])
def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def retrieve(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    for name in ("esc50", "fsd50k"):
        with pytest.raises(AudiotkError, match=f"{error}.*so that the root holds"):
            datasets.load(name, tmp_path / name, download=True)


def test_volumes_read_like_one_file(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x": np.random.default_rng(0).bytes(5_000)})
    whole = archive.read_bytes()
    split_zip(archive, [1_000, 2_000])
    stream = io.BufferedReader(archives._Volumes(archive), 64)
    assert len(stream.read()) == len(whole)
    stream.seek(900)
    assert stream.read(200) == whole[900:1100]
