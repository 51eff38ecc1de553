"""``audiotk score`` and the sound it finds, called as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from audiotk.__main__ import main
from audiotk.datasets.sounds import find
from audiotk.scores import open_scores
from audiotk.search import Embeddings
from audiotk.tables import AudiotkError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.wav", "deep/er/b.flac", "deep/c.WAV"):
        path = tmp_path / "sound" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, 0.1 * rng.normal(size=16000), 8000)
    (tmp_path / "sound" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "sound" / "notes.txt").write_text("no sound")
    (tmp_path / "prompts.yaml").write_text("classes: {dog: barking, rain: [rain, drops]}\nbackground: [hum]\n")
    return tmp_path / "sound"


def score(folder: Path, *more: str, teacher: str = "toy_teacher:Toy", audio: str | None = None) -> int:
    out = str(folder.parent / "out")
    return main(["score", "--teacher", teacher, "--audio", audio or str(folder), "--out", out, "--quiet", *more])


def test_score_writes_scores_problems_and_embeddings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = str(folder.parent / "prompts.yaml")
    more = ["--prompts", prompts, "--threshold", "0.4", "--hop-s", "0.25", "--embeddings", "-o", "slow_s", "0.0"]
    assert score(folder, *more) == 0
    told, warned = capsys.readouterr()
    about = json.loads(told)
    assert (about["segments"], about["classes"], about["problems"]) == (3, 2, 1)
    assert "warning" in warned
    scores = open_scores(about["scores"])
    assert list(scores.segments) == [f"{name}@0.000-2.000" for name in ("a.wav", "deep/c.WAV", "deep/er/b.flac")]
    assert scores.about["thresholds"] == {"dog": 0.4, "rain": 0.4}
    problems = pd.read_csv(about["problems_file"])
    assert list(problems["recording"]) == ["broken.wav"]
    assert Embeddings.load(about["embeddings"]).vectors.shape == (3, 16)
    assert score(folder, "--prompts", prompts, "--reading", "background") == 0


def test_score_by_processes_is_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    prompts = str(folder.parent / "prompts.yaml")
    assert score(folder, "--prompts", prompts, "--jobs", "2") == 0
    first = pd.read_parquet(folder.parent / "out" / "scores.parquet")
    (folder.parent / "out").rename(folder.parent / "before")
    assert score(folder, "--prompts", prompts) == 0
    second = pd.read_parquet(folder.parent / "out" / "scores.parquet")
    np.testing.assert_allclose(first[["dog", "rain"]], second[["dog", "rain"]], atol=1e-5)


def test_own_classes_need_no_prompts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(folder, teacher="toy_teacher:ToyTagger") == 0
    assert list(open_scores(json.loads(capsys.readouterr().out)["scores"]).classes) == ["loud", "low", "high"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "needs --prompts"),
        (["--prompts", "nothing.yaml"], "cannot be read"),
        (["--prompts", "p1", "--hop-s", "0"], "0 < hop_s"),
        (["--prompts", "p1", "-o", "weights", "a", "-o", "weights", "b"], "given twice"),
        (["--prompts", "p1", "-o", "colour", "red"], "unknown option colour"),
        (["--prompts", "p1", "--jobs", "0"], "--jobs: expected 1 or more"),
        (["--prompts", "p1", "--reading", "background"], "name no background"),
        (["--prompts", "p1", "--reading", "own"], "toy gives embeddings; use softmax"),
        (["--prompts", "p1", "--hop-s", "nan"], "0 < hop_s"),
        (["--prompts", "p1", "--threshold", "7"], "a number from 0 to 1"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert score(folder, *more) == 2
    assert told in capsys.readouterr().err
    assert not (folder.parent / "out").exists(), "told before anything is heard"


@pytest.mark.parametrize("more", [["--aggregate", "embedding"], ["--embeddings"], ["--reading", "softmax"]])
def test_a_tagger_is_not_asked_for_what_it_has_not(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert score(folder, *more, teacher="toy_teacher:ToyTagger") == 2
    assert "gives scores" in capsys.readouterr().err
    assert not (folder.parent / "out").exists()


def test_names_and_ranges_that_are_none_are_problems(folder: Path) -> None:
    import os

    os.rename(os.fsencode(folder / "a.wav"), os.fsencode(folder) + b"/\xff.wav")
    _, segments, problems = find(folder)
    assert len(segments) == 2
    assert set(problems["reason"].str.contains("not UTF-8")) == {True, False}
    (folder / "list.csv").write_text("path,start_s,end_s\ndeep/c.WAV,0,1\ndeep/c.WAV,1,9\n")
    _, segments, problems = find(folder / "list.csv")
    assert list(segments["end_s"]) == [1.0]
    assert "ends behind the recording" in problems["reason"][0]


def test_a_csv_of_files_and_ranges(folder: Path) -> None:
    csv = folder / "list.csv"
    csv.write_text("path,start_s,end_s\na.wav,0.5,1.5\na.wav,,\ndeep/c.WAV,0,1\nbroken.wav,0,1\na.wav,0.5,1.5\n")
    recordings, segments, problems = find(csv)
    assert list(segments["segment"]) == ["a.wav@0.500-1.500", "a.wav@0.000-2.000", "deep/c.WAV@0.000-1.000"]
    assert list(recordings["recording"]) == ["a.wav", "deep/c.WAV"]
    assert list(problems["recording"]) == ["broken.wav"]
    csv.write_text("path\na.wav\n")
    assert list(find(csv)[1]["segment"]) == ["a.wav@0.000-2.000"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("path\n../elsewhere.wav\n", "inside"),
        ("path\n/etc/passwd\n", "inside"),
        ("path,start_s,end_s\na.wav,zero,1\n", "line 2: start_s: expected seconds, got 'zero'"),
        ("path,start_s,end_s\na.wav,1,0.5\n", "start_s < end_s"),
        ("file\na.wav\n", "columns \\['path'\\] are missing"),
        ("path,start_s\na.wav,1\n", "has a column start_s, and the other end is missing"),
        ("path\nno.wav\n", "none of 1 recordings can be read"),
    ],
)
def test_a_wrong_csv_says_what_is_wrong(folder: Path, rows: str, told: str) -> None:
    (folder / "list.csv").write_text(rows)
    with pytest.raises(AudiotkError, match=told):
        find(folder / "list.csv")


def test_a_folder_without_sound_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="holds no sound file"):
        find(tmp_path)
    with pytest.raises(AudiotkError, match="expected a folder"):
        find(tmp_path / "nowhere")
