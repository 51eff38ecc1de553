"""YAMNet, with its real weights on real recordings where these are at hand; and class maps."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audiotk import datasets, metrics
from audiotk.errors import AudiotkError
from audiotk.experiments import zero_shot_cost, zero_shot_students
from audiotk.models import build, count_parameters
from audiotk.scoring import listen
from audiotk.tables import make_segments
from audiotk.teachers import Prompts, load
from audiotk.teachers.tagger import checked_scores, read_classes
from audiotk.teachers.yamnet import ESC10, Yamnet

DATA = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS = DATA / "models" / "yamnet.tflite"
TOLD = {  # average precision, by the README of the test data
    "dog": 0.993, "rain": 0.921, "sea_waves": 0.894, "crying_baby": 1.000, "clock_tick": 0.989, "sneezing": 0.971,
    "helicopter": 0.883, "chainsaw": 1.000, "rooster": 0.956, "crackling_fire": 0.856,
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher() -> Yamnet:
    if not WEIGHTS.exists():
        pytest.skip(f"no weights at {WEIGHTS}; AUDIOTK_TEST_DATA may name another folder")
    return Yamnet(WEIGHTS)


def noise(n: int, samples: int = 15600) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n, samples)).astype(np.float32)


@pytest.mark.slow
def test_on_real_recordings_it_is_as_good_as_was_measured(teacher: Yamnet, tmp_path: Path) -> None:
    if not (DATA / "esc10").is_dir():
        pytest.skip(f"no recordings at {DATA / 'esc10'}; AUDIOTK_TEST_DATA may name another folder")
    dataset = datasets.load("esc50", DATA / "esc10")
    hop_s = teacher.window_s / 2
    # the figures are of windows on the grid alone: the rest behind the last one (up to a hop) was not heard
    hops = np.floor((dataset.recordings["duration_s"] - teacher.window_s) / hop_s)
    whole = make_segments(dataset.recordings["recording"], 0.0, teacher.window_s + hops * hop_s)
    heard = listen(dataset.recordings, whole, teacher, tmp_path, hop_s=hop_s, progress=False)
    scores = heard.scores(Prompts.read(ESC10))  # mean over the windows
    category = dataset.recordings["category"]
    labels = pd.DataFrame({name: category.eq(name).to_numpy() for name in TOLD}, index=scores.index).astype(float)
    assert (scores.idxmax(axis=1).to_numpy() == category.to_numpy()).mean() == pytest.approx(0.958, abs=0.01)
    found = metrics.average_precision(scores, labels)["ap"]
    assert found.to_dict() == {name: pytest.approx(value, abs=0.01) for name, value in TOLD.items()}


def test_a_window_is_heard_alike_in_any_batch_thread_and_copy(teacher: Yamnet) -> None:
    waves = noise(6)
    scores = teacher.own_scores(waves)
    assert scores.shape == (6, 521)
    assert scores.dtype == np.float32
    assert np.array_equal(teacher.own_scores(waves[::-1])[::-1], scores)
    assert np.array_equal(teacher.own_scores(waves[3:4])[0], scores[3])
    with ThreadPoolExecutor(2) as pool:
        assert all(np.array_equal(one, scores) for one in pool.map(teacher.own_scores, [waves] * 4))
    assert np.array_equal(pickle.loads(pickle.dumps(teacher)).own_scores(waves), scores)
    assert teacher.own_scores(waves[:0]).shape == (0, 521)


def test_its_size_is_the_published_one(teacher: Yamnet) -> None:
    """Its authors' README: 3.7 M weights, and 69.2 M multiplies for each 0.96 s."""
    assert zero_shot_cost.parameters(teacher) == pytest.approx(3.7e6, rel=0.01)
    assert zero_shot_cost.macs(teacher) == pytest.approx(69.2e6, rel=0.001)
    found = zero_shot_cost.parameters(pickle.loads(pickle.dumps(teacher)))
    # by hand, MobileNet v1: the first kernel, thirteen depthwise and pointwise pairs, the dense layer
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    pairs = sum(9 * a + a + a * b + b for a, b in pairwise(widths))
    assert found == 9 * 32 + 32 + pairs + 1024 * 521 + 521
    config = zero_shot_students.recipe("demo", 5.0)
    student = build(config.model, 10, sr=config.sr, clip_s=config.clip_s, **config.model_options)
    assert found > zero_shot_students.SMALLER * count_parameters(student)  # so that P1.5 has a verdict


def test_it_is_found_in_the_cache(teacher: Yamnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path))
    with pytest.raises(AudiotkError, match=r"put both into .*teachers"):
        load("yamnet")
    (tmp_path / "teachers").mkdir()
    for path in (WEIGHTS, WEIGHTS.with_name("yamnet_class_map.csv")):
        (tmp_path / "teachers" / path.name).write_bytes(path.read_bytes())
    assert load("yamnet").fingerprint() == teacher.fingerprint()


def test_scores_need_names_that_it_knows(teacher: Yamnet) -> None:
    assert teacher.scores(noise(2), Prompts({"pets": ("Dog", "Cat")}, background=("Silence",))).shape == (2, 1)
    with pytest.raises(AudiotkError, match="has no class 'dog barking'"):
        teacher.scores(noise(2), Prompts({"dog": ("dog barking",)}))
    with pytest.raises(AudiotkError, match="no embeddings"):
        teacher.embed_audio(noise(1))


def test_what_is_no_yamnet_is_refused(teacher: Yamnet, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("index,display_name\n0,Dog\n", "utf-8")
    with pytest.raises(AudiotkError, match=r"no output of shape \(1, 1\)"):
        Yamnet(WEIGHTS, few)
    broken = tmp_path / "yamnet.tflite"
    broken.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(AudiotkError, match="is not a TFLite model"):
        Yamnet(broken, WEIGHTS.with_name("yamnet_class_map.csv"))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "index,display_name\n0,Dog\n2,Cat\n", "numbered from 0"),
        ("a.csv", "mid\n/m/1\n", "one of the columns"),
        ("a.csv", "", "one of the columns"),
        ("a.csv", "name\nDog\nDog\n", "occurs twice"),
        ("a.json", '{"0": "Dog"}', "expected a JSON list"),
        ("a.json", '["Dog", ""]', "expected a list of class names"),
        ("a.json", "[", "cannot be read as a JSON"),
    ],
)
def test_class_maps_that_are_none(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(AudiotkError, match=told):
        read_classes(tmp_path / name)


def test_class_maps(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('mid,display_name,x\n/m/1,"Waves, surf",1\n/m/2,Dog,2\n', "utf-8-sig")
    (tmp_path / "a.json").write_text(json.dumps(["Waves, surf", "Dog"]), "utf-8")
    assert read_classes(tmp_path / "a.csv") == read_classes(tmp_path / "a.json") == ("Waves, surf", "Dog")
    assert read_classes(["Waves, surf", "Dog"]) == ("Waves, surf", "Dog")


@pytest.mark.parametrize("scores", [np.array([[1.5]]), np.array([[np.nan]]), np.array([[-0.1]]), np.zeros((1, 2))])
def test_scores_that_are_none(scores: Any) -> None:
    with pytest.raises(AudiotkError, match="expected scores"):
        checked_scores("tagger", scores, (1, 1))
