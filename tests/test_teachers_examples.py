"""Prompt by example: log-mel statistics against slow twins, prototypes, their file, and how well they tell classes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import pytest

from audiotk import audio, datasets, metrics
from audiotk.errors import AudiotkError
from audiotk.labels import resolve
from audiotk.scoring import listen
from audiotk.tables import Dataset, Labels, make_segments, whole_recordings
from audiotk.teachers import Prompts, load
from audiotk.teachers.base import Teacher, unit
from audiotk.teachers.examples import Examples
from audiotk.teachers.logmel import LogMelStatistics
from audiotk.teachers.prototypes import DEFAULT_SCALE, Prototypes, fit_scale, mean_vectors
from audiotk.teachers.readings import Reading

SR = 16000


def noise(n: int, seed: int = 0, samples: int = SR) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (n, samples)).astype(np.float32)


# --- log-mel statistics -----------------------------------------------------------------------------------------------


def test_statistics_are_those_of_a_slow_twin() -> None:
    wave = noise(1)[0] * np.linspace(0, 1, SR, dtype=np.float32)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = [wave[start : start + 1024] * taper for start in range(0, SR - 1024 + 1, 320)]
    power = np.abs(np.fft.rfft(frames)).T ** 2  # (513, T)
    filters = librosa.filters.mel(sr=SR, n_fft=1024, n_mels=64, dtype=np.float64)
    mel = np.log(np.maximum(filters @ power, 1e-10))  # (64, T)
    quantiles = np.quantile(mel, (0.1, 0.5, 0.9), axis=1)
    movement = np.abs(np.diff(mel, axis=1)).mean(axis=1)
    wanted = np.concatenate([mel.mean(axis=1), mel.std(axis=1), *quantiles, movement])
    found = LogMelStatistics().statistics(wave[None])[0]
    assert found.shape == (LogMelStatistics.dim,) == (384,)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_window_is_heard_alike_in_any_batch() -> None:
    raw = LogMelStatistics()
    statistics = raw.statistics(noise(12))
    space = raw.standardised(statistics, np.arange(12) // 4)
    embeddings = space.embed_audio(noise(12))
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(space.embed_audio(noise(12)[5:6])[0], embeddings[5], atol=1e-6)
    assert space.embed_audio(noise(0)).shape == (0, 384)
    assert np.isfinite(space.embed_audio(np.zeros((1, SR), np.float32))).all()


def test_standardised_by_windows_of_its_groups() -> None:
    raw = LogMelStatistics()
    statistics, groups = raw.statistics(noise(12)), np.arange(12) // 4
    space = raw.standardised(statistics, groups)
    standard = (statistics - statistics.mean(axis=0)) / np.maximum(statistics.std(axis=0), 1e-3)
    within = np.concatenate([standard[groups == g] - standard[groups == g].mean(axis=0) for g in range(3)])
    covariance = within.T @ within / 12
    mixed = 0.5 * covariance + 0.5 * np.trace(covariance) / 384 * np.eye(384)
    gram = space.parts["whiten"].astype(float) @ space.parts["whiten"].T.astype(float)
    np.testing.assert_allclose(gram @ mixed, np.eye(384), atol=1e-3)
    assert space.checksum != raw.checksum
    alone = raw.standardised(statistics, np.arange(12))  # no two windows of a group: nothing to whiten by
    assert np.isfinite(alone.embed_audio(noise(2))).all()


def test_settings_that_do_not_fit() -> None:
    for options in ({"sr": 4000}, {"window_s": 0.05}, {"window_s": float("nan")}):
        with pytest.raises(AudiotkError, match="expected sr >= 8000"):
            LogMelStatistics(**options)
    with pytest.raises(AudiotkError, match="got no spread"):
        LogMelStatistics(center=np.zeros(384))
    with pytest.raises(AudiotkError, match="expected center"):
        LogMelStatistics(center=np.zeros(3), spread=np.ones(384), whiten=np.eye(384))
    with pytest.raises(AudiotkError, match="nothing to standardise by"):
        LogMelStatistics().embed_audio(noise(1))
    with pytest.raises(AudiotkError, match="some windows and the group"):
        LogMelStatistics().standardised(np.zeros((0, 384)), np.zeros(0))


# --- prototypes -------------------------------------------------------------------------------------------------------


class Levels(Teacher):
    """A space of two numbers: mean level of the first and of the second half of a window of 0.1 s."""

    name, sr, window_s, dim, checksum = "levels", 8000, 0.1, 2, "1"

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        halves = np.abs(waves).reshape(len(waves), 2, -1).mean(axis=2)
        return unit(halves).astype(np.float32)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recordings of 0.1 s: three loud in the first half ("a"), three in the second ("b"), one even, one unreadable."""
    rows = []
    for number, (first, second) in enumerate(
        [(0.5, 0.0), (0.5, 0.1), (0.5, 0.2), (0.0, 0.5), (0.1, 0.5), (0.2, 0.5), (0.3, 0.3)]
    ):
        wave = np.repeat(np.array([first, second], np.float32), 400)
        rows.append((f"r{number}", str(audio.save(tmp_path / f"r{number}.wav", wave, 8000))))
    (tmp_path / "r7.wav").write_bytes(b"RIFF")
    recordings = pd.DataFrame([*rows, ("r7", str(tmp_path / "r7.wav"))], columns=["recording", "path"])
    return recordings, make_segments(recordings["recording"], 0.0, 0.1)


def ids(*numbers: int) -> list[str]:
    return [f"r{number}@0.000-0.100" for number in numbers]


def test_a_class_is_the_mean_of_its_examples(halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    teacher = Examples.fit(Levels(), *halves, {"a": ids(0, 1, 2), "b": ids(3, 4, 5)}, background=ids(6))
    wanted = unit(unit(np.array([[0.5, 0.0], [0.5, 0.1], [0.5, 0.2]])).mean(axis=0))
    np.testing.assert_allclose(teacher.prototypes.vectors[0], wanted, atol=1e-3)
    assert teacher.classes == ("a", "b")
    assert teacher.prototypes.background == ("background",)
    assert teacher.prototypes.counts == (3, 3, 1)
    heard = teacher.hear(np.repeat(np.array([[0.5, 0.0], [0.0, 0.5]], np.float32), 400, axis=1))
    cosines = teacher.similarities(heard, None)
    assert cosines.shape == (2, 3)  # with the background
    assert cosines[0, 0] > 0.97 > cosines[0, 2] > cosines[0, 1]
    scores = teacher.scores(np.full((1, 800), 0.1, np.float32))
    np.testing.assert_allclose(scores, 0.5, atol=1e-3)  # a softmax over two classes; the background is none


def test_prompts_name_prototypes(halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    teacher = Examples.fit(Levels(), *halves, {"a": ids(0), "b": ids(3)}, background={"even": ids(6)})
    vectors = teacher.class_vectors(Prompts({"both": ("a", "b"), "second": ("b",)}, "This is ", ("even",)))
    np.testing.assert_allclose(vectors, unit(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])), atol=1e-3)
    np.testing.assert_array_equal(teacher.class_vectors(None), teacher.prototypes.vectors)
    with pytest.raises(
        AudiotkError, match="none of 'dog barking'; prompts name what there are some of: 'a', 'b', 'even'"
    ):
        teacher.class_vectors(Prompts({"dog": ("dog barking",)}))


def test_labels_say_the_same_as_segments(halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame = pd.DataFrame({"a": [1.0, 1.0, 0.0, np.nan], "b": [0.0, 0.0, 1.0, 0.0]}, index=ids(0, 1, 3, 6))
    from_labels = Examples.fit(Levels(), *halves, Labels.from_frame(frame))
    assert from_labels.checksum == Examples.fit(Levels(), *halves, {"a": ids(0, 1), "b": ids(3)}).checksum


def test_what_cannot_be_read_is_left_out_and_told(halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with pytest.warns(UserWarning, match="1 recording"):
        teacher = Examples.fit(Levels(), *halves, {"a": ids(0, 7), "b": ids(3)})
    assert teacher.problems["recording"].tolist() == ["r7"]
    assert teacher.prototypes.counts == (1, 1)
    with (
        pytest.warns(UserWarning, match="r7"),
        pytest.raises(AudiotkError, match="'a' has no example that can be heard"),
    ):
        Examples.fit(Levels(), *halves, {"a": ids(7), "b": ids(3)})


@pytest.mark.parametrize(
    ("labels", "background", "told"),
    [
        ({}, (), "expected classes"),
        ({"a": []}, (), "got none for 'a'"),
        ({"a": "r0@0.000-0.100"}, (), "got one text"),
        ({"a": ["r9@0.000-0.100"]}, (), "is not in the segments table"),
        ({"background": ["r0@0.000-0.100"]}, ["r1@0.000-0.100"], "is a class and a background"),
    ],
)
def test_examples_that_are_none(
    halves: tuple[pd.DataFrame, pd.DataFrame], labels: Any, background: Any, told: str
) -> None:
    with pytest.raises(AudiotkError, match=told):
        Examples.fit(Levels(), *halves, labels, background=background)


def test_the_file_holds_all_of_it(halves: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    teacher = Examples.fit(Levels(), *halves, {"a": ids(0, 1), "b": ids(3)})
    teacher.save(tmp_path / "protos")
    again = load("examples", weights=tmp_path / "protos", space=Levels())
    assert again.checksum == teacher.checksum
    assert again.fingerprint() == Levels().fingerprint()
    with pytest.raises(AudiotkError, match="in the space of 'levels'; give that"):
        Examples(tmp_path / "protos")
    other = Levels()
    other.checksum = "2"
    with pytest.raises(AudiotkError, match="were made in the space"):
        Examples(tmp_path / "protos", other)


def test_files_that_are_none(halves: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    made = Examples.fit(Levels(), *halves, {"a": ids(0, 1), "b": ids(3)}).prototypes
    made.save(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "pickle": pickle.dumps({"a": 1})}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudiotkError, match="cannot be read as prototypes"):
            Prototypes.read(tmp_path / name)
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "changed.npz", about=file["about"], vectors=file["vectors"][::-1])
        np.savez(tmp_path / "object.npz", about=np.array([{}], dtype=object), vectors=file["vectors"])
        np.savez(tmp_path / "less.npz", about=file["about"])
    for name, told in {
        "changed": "is damaged",
        "object": "cannot be read",
        "less": "cannot be read",
        "no": "cannot be read",
    }.items():
        with pytest.raises(AudiotkError, match=told):
            Prototypes.read(tmp_path / f"{name}.npz")


def test_the_scale_is_that_of_the_highest_likelihood() -> None:
    rng = np.random.default_rng(0)
    centers = unit(rng.normal(size=(4, 16)))
    near = [unit(center + 0.1 * rng.normal(size=(6, 16))) for center in centers]
    far = [unit(center + 0.6 * rng.normal(size=(6, 16))) for center in centers]
    names = [[f"{c}-{i}" for i in range(6)] for c in range(4)]
    assert fit_scale(near, names) > 2 * fit_scale(far, names) > 2

    def loss(scale: float) -> float:
        total = 0.0
        for c in range(4):
            for i in range(6):
                rest = [np.delete(rows, i, axis=0) if k == c else rows for k, rows in enumerate(far)]
                logits = scale * mean_vectors(rest).astype(float) @ far[c][i]
                total += np.log(np.exp(logits).sum()) - logits[c]
        return total

    best = fit_scale(far, names)
    assert loss(best) <= min(loss(best * 0.98), loss(best * 1.02))
    assert fit_scale([rows[:1] for rows in near], [own[:1] for own in names]) == DEFAULT_SCALE
    assert 1 <= fit_scale([near[0], near[0]], [names[0], names[0]]) <= 100  # the same segments twice tell nothing


# --- on embedded data -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("embedded")
    return datasets.load("embedded", root, n_train=48, n_val=1, n_test=32, sr=SR, duration_s=5.0)


def test_log_mel_examples_tell_classes_apart(embedded: Dataset, tmp_path: Path) -> None:
    truth = embedded.annotations.query("source == 'truth' and value == 1").merge(embedded.segments, on="segment")
    truth = truth[truth["recording"].isin(embedded.part("train")["recording"])]
    labels = {name: truth.loc[truth["class_name"] == name, "segment"].tolist()[:6] for name in embedded.classes}
    teacher = Examples.fit(None, embedded.recordings, embedded.segments, labels)
    teacher.save(tmp_path / "a.npz")
    again = load("examples", weights=tmp_path / "a.npz")
    waves = noise(3)
    np.testing.assert_array_equal(again.scores(waves), teacher.scores(waves))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).scores(waves), teacher.scores(waves))
    test = whole_recordings(embedded.part("test"))
    heard = listen(embedded.recordings, test, again, tmp_path, hop_s=0.5, progress=False)
    scores = heard.scores(None, Reading("softmax", teacher.logit_scale), "max")
    wanted = resolve(embedded, test, ["truth"])
    shuffled = scores.set_axis(np.random.default_rng(0).permutation(scores.index))
    assert metrics.mean_average_precision(scores, wanted) > 1.5 * metrics.mean_average_precision(shuffled, wanted)
