"""P1's own setting on small fakes: trained on one data set, validated and tested on another; and what must not be."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from test_datasets import DATA, fake_esc50
from test_plans import values
from toy_teacher import Toy

from audiotk import datasets, labels, teachers
from audiotk.datasets.joined import join
from audiotk.experiments import (
    label_correction,
    label_joining,
    labelled_windows,
    p1_data,
    polyphony,
    zero_shot,
    zero_shot_students,
    zero_shot_told,
)
from audiotk.experiments.plans import plan
from audiotk.experiments.zero_shot_told import words_for
from audiotk.ontology.classmaps import read_class_map
from audiotk.tables import AudiotkError, Dataset, Labels, whole_recordings
from audiotk.teachers import Prompts
from audiotk.teachers.examples import Examples

MAP = 'unused,dog,nature,windnoise\nWhistling,Dog,Rain,Wind\n,Bark,Wind,\n,,"Chirp, tweet",\n'
NAMES = ("Dog", "Bark", "Rain", "Wind", "Chirp, tweet", "Whistling")
TONES = dict(zip(NAMES, (300, 500, 900, 1500, 2500, 4000), strict=True))
SETS = [("Dog", "Bark"), ("Rain",), ("Wind",), ("Chirp, tweet", "Dog"), ("Whistling",)]
OF_P1 = {"Dog": {"dog"}, "Bark": {"dog"}, "Rain": {"nature"}, "Wind": {"nature", "windnoise"},
         "Chirp, tweet": {"nature"}, "Whistling": set()}  # fmt: skip


def tone(path: Path, names: tuple[str, ...], seed: int, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * 16000)) / 16000
    wave = sum(0.1 * np.sin(2 * np.pi * TONES[name] * t) for name in names)
    sf.write(path, wave + np.random.default_rng(seed).normal(0, 0.01, len(t)), 16000)
    return path


def fake_audioset(root: Path, count: int = 30, first: int = 0) -> Path:
    """`count` videos; every fifth file is the whole video of 12 s, of which the segment is the second second."""
    mids = {name: f"/m/{number:03d}" for number, name in enumerate(NAMES)}
    root.mkdir(parents=True)
    rows = [f'{number},{mid},"{name}"' for number, (name, mid) in enumerate(mids.items())]
    (root / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    lines = []
    for k in range(first, first + count):
        video, named = f"video{k:06d}", SETS[k % len(SETS)]
        whole = k % 5 == 4
        lines.append(f'{video}, {int(whole)}, {int(whole) + 1}, "{",".join(mids[name] for name in named)}"')
        tone(root / "audio" / (f"{video}.wav" if whole else f"{video}_0.wav"), named, k, 12.0 if whole else 1.0)
    (root / "balanced_train_segments.csv").write_text("\n".join(lines) + "\n")
    return root


def fake_fsd50k(root: Path) -> Path:
    """Per set of labels one training, three validation and three test files, one of each three too short."""
    parts = {"dev": [], "eval": []}
    for number, named in enumerate(SETS):
        shorts = ",".join(name.replace(", ", "_and_") for name in named)
        for k in range(4):
            parts["dev"].append((str(100 + 10 * number + k), shorts, "val" if k else "train", named, k))
        for k in range(1, 4):
            parts["eval"].append((str(200 + 10 * number + k), shorts, "test", named, k))
    (root / "FSD50K.ground_truth").mkdir(parents=True)
    (root / "FSD50K.metadata").mkdir()
    vocabulary = "\n".join(f"{k},{name.replace(', ', '_and_')},/m/{k}" for k, name in enumerate(NAMES))
    (root / "FSD50K.ground_truth" / "vocabulary.csv").write_text(vocabulary + "\n")
    for part, rows in parts.items():
        table = pd.DataFrame([row[:3] for row in rows], columns=["fname", "labels", "split"])
        table.to_csv(root / "FSD50K.ground_truth" / f"{part}.csv", index=False)
        info = {row[0]: {"uploader": f"uploader {row[0]}"} for row in rows}
        (root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(info))
        for name, _, _, named, k in rows:
            tone(root / f"FSD50K.{part}_audio" / f"{name}.wav", named, int(name), 0.4 if k == 3 else 0.9)
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The map lies in the root of AudioSet."""
    top = tmp_path_factory.mktemp("roots")
    found = {"fsd50k": fake_fsd50k(top / "fsd50k"), "audioset": fake_audioset(top / "audioset")}
    (found["audioset"] / p1_data.CLASS_MAP).write_text(MAP)
    return {name: str(path) for name, path in found.items()}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p1_data, "FILES", {"val": (0.8, 2), "test": (0.5, 2)})
    monkeypatch.setattr(polyphony, "LONGEST_S", 1.0)


def p1(roots: dict[str, str]) -> tuple[str, str, str, str]:
    return "fsd50k", roots["fsd50k"], "audioset", roots["audioset"]


@pytest.fixture
def dataset(roots: dict[str, str]) -> Dataset:
    return p1_data.load(*p1(roots))


def test_each_part_is_of_the_data_set_that_p1_takes_it_from(dataset: Dataset, roots: dict[str, str]) -> None:
    table = dataset.recordings.assign(split=dataset.recordings["recording"].map(dataset.split))
    assert set(table.loc[table["split"] == "train", "data"]) == {"audioset"}
    assert set(table.loc[table["split"] != "train", "data"]) == {"fsd50k"}
    alone = datasets.load("audioset", roots["audioset"])
    assert set(dataset.part("train")["recording"]) == set(alone.part("train")["recording"])
    val, test = dataset.part("val"), dataset.part("test")
    assert val["recording"].str.startswith("1").all()
    assert test["recording"].str.startswith("2").all()
    assert (val["duration_s"] >= 0.8).all()
    assert (test["duration_s"] >= 0.5).all()
    assert set(val["recording"].str[-1]) & {"0"}  # a training file of FSD50K's development set validates, too


def test_labels_are_those_of_the_map(dataset: Dataset) -> None:
    """A class is there if any of its labels is; a recording of unused labels only has none, and is trained on."""
    assert dataset.classes == ("dog", "nature", "windnoise")
    told = labels.resolve(dataset, dataset.segments, list(dataset.sources.index)).frame()
    assert told.notna().all().all()
    for segment, row in told.iterrows():
        name = str(segment).split("@")[0]
        number = int(name[5:11]) % len(SETS) if name.startswith("video") else int(name[1])
        assert set(row.index[row == 1]) == set().union(*(OF_P1[one] for one in SETS[number]))
    train = dataset.segments[dataset.segments["recording"].isin(dataset.part("train")["recording"])]
    assert (told.loc[train["segment"]].sum(axis=1) == 0).any()


def test_balanced_choice_of_files(dataset: Dataset) -> None:
    """Two test files for each class, more where a file has several; never one without a class."""
    test = dataset.part("test")
    truth = labels.resolve(dataset, whole_recordings(test), list(dataset.sources.index)).frame()
    assert (truth.sum(axis=1) > 0).all()
    assert (truth.sum() >= 2).all()
    assert len(test) <= 6


def test_of_a_whole_video_only_the_labelled_second_is_heard(dataset: Dataset) -> None:
    train = dataset.part("train")
    long = train[train["duration_s"] > 2]
    assert len(long)
    windows = labelled_windows(dataset, train, 0.5).set_index("recording")
    assert set(windows.loc[long["recording"], "start_s"]) == {1.0, 1.5}
    assert set(windows.drop(index=long["recording"])["start_s"]) == {0.0, 0.5}
    truth = labels.resolve(dataset, windows.reset_index(), list(dataset.sources.index))
    assert truth.frame().notna().all().all()


def test_examples_and_background_are_of_the_labelled_second(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(Examples, "fit", lambda *asked, background: given.append((*asked[2:], background)))
    zero_shot_told.by_example(dataset, 3, 0)
    segments, chosen, background = given[0]
    train = dataset.part("train")
    videos = set(train.loc[train["duration_s"] > 2, "recording"])
    windows = segments[segments["recording"].isin(videos)]
    assert set(windows["recording"]) == videos
    assert (windows["start_s"] == 1.0).all()
    assert (windows["end_s"] == 2.0).all()
    assert {name.rsplit("@", 1)[0] for name in background} <= videos  # only there no class is heard
    assert len(background) == len(videos)
    assert set(chosen) == set(dataset.classes)


def test_only_what_happens_to_recordings_of_crossing_uploaders_is_told(roots: dict[str, str], tmp_path: Path) -> None:
    """One who is in training and validation, one who is in training and evaluation: the first one's all validate."""
    shutil.copytree(roots["fsd50k"], tmp_path / "fsd50k")
    place = tmp_path / "fsd50k" / "FSD50K.metadata" / "dev_clips_info_FSD50K.json"
    info = json.loads(place.read_text())
    info["101"], info["110"] = info["100"], {"uploader": "uploader 211"}
    place.write_text(json.dumps(info))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = p1_data.load("fsd50k", str(tmp_path / "fsd50k"), "audioset", roots["audioset"])
    told = " ".join(str(one.message) for one in caught if "uploaders" in str(one.message))
    assert "1 development recordings of evaluation uploaders are left out" in told
    assert "went to train" not in told
    assert set(dataset.part("train")["data"]) == {"audioset"}


def test_the_map_lies_in_either_root(roots: dict[str, str], tmp_path: Path) -> None:
    assert p1_data.class_map(*roots.values()) is not None
    (tmp_path / p1_data.CLASS_MAP).write_text(MAP + "Thump,,,\n")
    with pytest.raises(AudiotkError, match="differ; expected the same class map"):
        p1_data.class_map(roots["audioset"], str(tmp_path))
    known = p1_data.class_map(roots["audioset"])
    assert known is not None
    assert known.classes == read_class_map(Path(roots["audioset"]) / p1_data.CLASS_MAP).classes
    (tmp_path / "no map").mkdir()
    with pytest.raises(AudiotkError, match=r"write the names of their classes in two ways.*acd_class_mapping\.csv"):
        p1_data.load("fsd50k", roots["fsd50k"], "audioset", str(tmp_path / "no map"))


def test_the_real_map_on_the_real_labels_of_audioset() -> None:
    """As the class map itself says, cell by cell."""
    folder = DATA / "audioset"
    if not (folder / p1_data.CLASS_MAP).exists():
        pytest.skip(f"no labels of AudioSet at {folder}; AUDIOTK_TEST_DATA may name another folder")
    known = read_class_map(folder / p1_data.CLASS_MAP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = datasets.load("audioset", folder)
    plain = labels.resolve(dataset, dataset.segments, ["audioset"])
    mapped = p1_data.in_p1_classes(dataset, known)
    assert list(mapped.classes) == list(Prompts.read(teachers.P1).classes)  # those of Table 1
    assert labels.resolve(mapped, dataset.segments, ["audioset"]) == known.apply(plain)


# --- what must not be -------------------------------------------------------------------------------------------------


def folder(root: Path, names: dict[str, int], first: int = 0) -> str:
    for split in ("train", "val", "test"):
        for place, (name, count) in enumerate(names.items()):
            for k in range(count):
                seed = first + 100 * place + 10 * len(split) + k
                tone(root / split / name / f"{first}-{split}-{name}-{k}.wav", (NAMES[place],), seed)
    return str(root)


def test_any_two_data_sets_that_share_classes(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"dog": 2, "cat": 2, "cow": 2})
    two = folder(tmp_path / "two", {"owl": 2, "cat": 2, "dog": 2}, first=5)
    with pytest.warns(UserWarning, match="left out are 1 classes of folder") as told:
        dataset = p1_data.load("folder", two, "folder", one)
    texts = [str(one.message) for one in told]
    assert any("'cow'" in text for text in texts)
    assert any("'owl'" in text for text in texts)
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.sources.index) == ["train: folder", "folder"]
    truth = labels.resolve(dataset, whole_recordings(dataset.recordings), list(dataset.sources.index)).frame()
    for segment, row in truth.iterrows():
        for name in dataset.classes:
            assert row[name] == float(f"-{name}-" in str(segment))  # of a cow or an owl both are absent
    assert {split: len(dataset.part(split)) for split in ("train", "val", "test")} == {"train": 6, "val": 6, "test": 6}


def test_train_on_esc50_and_test_on_a_folder(tmp_path: Path) -> None:
    esc = str(fake_esc50(tmp_path / "esc50"))
    names = datasets.load("esc50", esc).classes
    dataset = p1_data.load("folder", folder(tmp_path / "mine", dict.fromkeys(names, 2)), "esc50", esc)
    assert set(dataset.classes) == set(names)
    assert set(dataset.part("train")["data"]) == {"esc50"}
    assert set(dataset.part("val")["data"]) | set(dataset.part("test")["data"]) == {"folder"}


def test_what_does_not_fit_is_named(tmp_path: Path, roots: dict[str, str]) -> None:
    one = folder(tmp_path / "one", {"dog": 2, "cat": 2})
    with pytest.raises(AudiotkError, match=r"no class is both in folder \(train\) and in folder.*cat.*Dog"):
        p1_data.load("folder", folder(tmp_path / "two", {"Dog": 2, "Cat": 2}, 5), "folder", one)
    with pytest.raises(AudiotkError, match=r"recording in both folder \(train\) and folder: .*0-test-.*\.wav"):
        join(*_swapped(datasets.load("folder", one)))
    other = tmp_path / "copy"
    folder(other, {"dog": 2, "cat": 2}, first=5)
    shutil.copy(tmp_path / "one/train/dog/0-train-dog-0.wav", other / "val/dog/another name.wav")
    with pytest.raises(AudiotkError, match=r"1 file\(s\) of folder .* are the same: .*dog-0\.wav and .*another"):
        p1_data.load("folder", str(other), "folder", one)
    with pytest.raises(AudiotkError, match=r"train_root='x' needs train_data"):
        p1_data.load("folder", one, "", "x")
    with pytest.raises(AudiotkError, match=r"train_root='x' needs train_data"):
        polyphony.load("embedded", "", "smoke", tmp_path, "", "x")
    silent = tmp_path / "silent"
    shutil.copytree(roots["audioset"], silent, ignore=shutil.ignore_patterns("audio"))
    with pytest.raises(AudiotkError, match="audioset: has labels but no sound"):
        p1_data.load("fsd50k", roots["fsd50k"], "audioset", str(silent))
    with pytest.raises(AudiotkError, match="data set: expected one of"):
        p1_data.load("fsd50k", roots["fsd50k"], "audio set", roots["audioset"])


def _swapped(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """A data set, and the same with its parts renamed: its test recordings are trained on."""
    other = dataset.split.replace({"train": "test", "test": "train"})
    return replace(dataset, split=other), dataset


def test_a_shared_video_or_person_is_found(tmp_path: Path, roots: dict[str, str]) -> None:
    again = fake_audioset(tmp_path / "audioset", 30)
    text = (again / "balanced_train_segments.csv").read_text().replace(", 0, 1,", ", 0, 0.9,")
    (again / "balanced_train_segments.csv").unlink()
    (again / "eval_segments.csv").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second = _with_val(datasets.load("audioset", again))
    with pytest.raises(AudiotkError, match=r"in both audioset \(train\) and audioset: .*video"):
        join(datasets.load("audioset", roots["audioset"]), second)


def _with_val(dataset: Dataset) -> Dataset:
    split = dataset.split.copy()
    split.iloc[:3] = "val"
    return replace(dataset, split=split)


def test_recordings_of_freesound_have_two_names(dataset: Dataset) -> None:
    """ESC-50 names a recording's source in its group, FSD50K in its id."""
    fsd = replace(dataset.only(dataset.recordings["recording"][dataset.recordings["data"] == "fsd50k"]), name="fsd50k")
    ours = dataset.only(dataset.part("train")["recording"])
    same = fsd.recordings["recording"].iloc[0]
    esc = replace(ours, name="esc50", recordings=ours.recordings.assign(group=same))
    with pytest.raises(AudiotkError, match=f"1 recordings of Freesound in both esc50 and fsd50k: '{same}'"):
        join(esc, fsd)


# --- notebooks 05, 06 and 07 ------------------------------------------------------------------------------------------


def test_all_three_experiments_run_on_p1s_setting_as_planned(
    roots: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(label_correction.QUICK, "epochs", 1)
    names = dict(zip(("data", "data_root", "train_data", "train_root"), p1(roots), strict=True))
    asked = {**names, "scale": "smoke", "seeds": "[0]"}
    case = label_joining.load(*p1(roots)[:2], "smoke", tmp_path / "05", *p1(roots)[2:])
    assert "How many are wrong is not known" in repr(case)
    manifest = pd.read_csv(tmp_path / "05" / "manifest.csv", dtype=str)
    assert set(zip(manifest["data"], manifest["split"], strict=True)) == {
        ("audioset", "train"), ("fsd50k", "val"), ("fsd50k", "test"),
    }  # fmt: skip
    assert sorted(manifest["recording"]) == sorted(case.dataset.recordings["recording"])
    joined = label_joining.run(case, "smoke", [0], tmp_path / "05", jobs=1)
    assert set(joined.scores) == {(arm, 0) for arm in label_joining.ARMS}
    ours = label_joining.by_class(joined)
    assert set(ours["class_name"]) == {"dog", "nature", "windnoise", label_joining.MEAN}
    corrected = label_correction.run(case, "smoke", [0], tmp_path / "06", jobs=1)
    assert label_correction.TRUE not in corrected.arms
    dataset = zero_shot.load(*p1(roots)[:2], "smoke", tmp_path / "07", False, *p1(roots)[2:])
    pd.testing.assert_frame_equal(dataset.recordings, case.dataset.recordings)
    teacher = zero_shot.run(dataset, "examples", "", "", [0], tmp_path / "07")
    students = zero_shot_students.run(teacher, "smoke", [0], tmp_path / "07", jobs=1)
    assert students.arms == ["human labels", "teacher's labels", "corrected"]
    assert len(students.truth["train"].segments) == len(dataset.part("train"))
    for name in ("05", "06", "07"):
        planned = plan(name, values(name, **asked))
        assert planned is not None
        assert f"{len(dataset.part('train'))} train, {len(dataset.part('val'))} val" in planned.data
        assert {stage.rows for stage in planned.stages} == {len(dataset.part("train"))}
        assert {stage.classes for stage in planned.stages} == {3}
        runs = list((tmp_path / name).rglob("config.json"))
        assert sum(stage.runs for stage in planned.stages) == len(runs), name


def test_a_plan_looks_into_both_roots(roots: dict[str, str], tmp_path: Path) -> None:
    asked = {"data": "fsd50k", "data_root": roots["fsd50k"], "train_data": "audioset", "scale": "smoke"}
    with pytest.raises(AudiotkError, match="nowhere"):
        plan("05", values("05", **asked, train_root=str(tmp_path / "nowhere")))
    broken = tmp_path / "audioset"
    shutil.copytree(roots["audioset"], broken)
    for path in (broken / "audio").iterdir():
        path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(AudiotkError, match="audioset"), pytest.warns(UserWarning, match="skipped 30 of 30"):
        plan("07", values("07", **asked, train_root=str(broken)))


class Noted(Toy):
    """Remembers what it was asked."""

    asked: list[str] = []  # noqa: RUF012

    def embed_text(self, texts: list[str]) -> np.ndarray:
        self.asked.extend(texts)
        return super().embed_text(texts)


def test_of_p1s_classes_the_teacher_is_asked_table_1(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noted, "asked", [])
    zero_shot.run(dataset, "test_p1_data:Noted", "", "", [0], tmp_path).first.similarities("test")
    monkeypatch.setattr(Noted, "asked", asked := Noted.asked)
    assert set(asked) == {
        "This is a sound of dog barking",
        "This is a sound of nature sounds like wind, water, fire, animals",
        "This is a sound of wind noise distorting the microphone",
    }


def test_table_1_is_for_p1s_classes_and_not_for_any_dog(tmp_path: Path) -> None:
    table = Prompts.read(teachers.P1)
    mine = datasets.load("folder", folder(tmp_path / "two", {"dog": 1, "cat": 1}))
    assert words_for(mine, Toy()).classes["dog"] == ("dog",)
    every = datasets.load("folder", _eleven(tmp_path / "eleven", list(table.classes)))
    assert words_for(every, Toy()).classes == table.classes


def _eleven(root: Path, names: list[str]) -> str:
    for place, name in enumerate(names):
        for k in range(3):
            tone(root / ("train", "val", "test")[k] / name / f"{name}{k}.wav", ("Dog",), 3 * place + k, 0.1)
    return str(root)


def test_a_label_of_one_data_set_says_nothing_of_the_other(dataset: Dataset) -> None:
    """Each source speaks of its own recordings alone."""
    for name in dataset.sources.index:
        told: Labels = labels.resolve(dataset, dataset.segments, [name])
        recording = dataset.segments.set_index("segment")["recording"][told.segments]
        own = recording.map(dataset.recordings.set_index("recording")["data"]).to_numpy() == name
        assert told.frame()[~own].isna().all().all()
        assert told.frame()[own].notna().all().all()
