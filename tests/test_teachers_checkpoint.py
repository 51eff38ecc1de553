"""A checkpoint of audiotk as a teacher: the scores of predict.score, and its embeddings as a space for examples."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from audiotk.errors import AudiotkError
from audiotk.models import build
from audiotk.models.checkpoints import load_checkpoint, save_checkpoint
from audiotk.models.predict import score
from audiotk.teachers import Prompts, load

SMALL = {"sr": 8000, "clip_s": 0.5, "mels": 20, "n_fft": 256, "hop": 80}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pt"
    save_checkpoint(path, build("melcnn", 3, rng=np.random.default_rng(0), **SMALL), ["dog", "cat", "rain"], {})
    return path


@pytest.fixture
def waves() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (40, 4000)).astype(np.float32)


def test_scores_are_those_of_the_model(weights: Path, waves: np.ndarray) -> None:
    teacher = load("audiotk", weights=weights)
    assert (teacher.classes, teacher.sr, teacher.window_s, teacher.says) == (
        ("dog", "cat", "rain"),
        8000,
        0.5,
        "sigmoid",
    )
    wanted = score(load_checkpoint(weights), waves, [f"s{number}" for number in range(len(waves))])
    scores = teacher.own_scores(waves)
    assert scores.dtype == np.float32
    assert np.array_equal(scores, wanted.to_numpy().astype(np.float32))
    np.testing.assert_allclose(teacher.own_scores(waves[7:8])[0], scores[7], atol=1e-5)
    assert teacher.own_scores(waves[:0]).shape == (0, 3)
    pooled = teacher.scores(waves, Prompts({"pet": ("dog", "cat")}))
    np.testing.assert_array_equal(pooled[:, 0], scores[:, :2].max(axis=1).astype(np.float64))
    assert np.array_equal(pickle.loads(pickle.dumps(teacher)).own_scores(waves), scores)


def test_embeddings_are_those_of_the_model(weights: Path, waves: np.ndarray) -> None:
    teacher = load("audiotk", weights=weights, as_embeddings=True)
    assert teacher.width == teacher.dim == load_checkpoint(weights).model.embed_dim
    embeddings = teacher.embed_audio(waves)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(teacher.embed_audio(waves[7:8])[0], embeddings[7], atol=1e-5)
    assert teacher.fingerprint() != load("audiotk", weights=weights).fingerprint()
    for ask in (teacher.own_scores, load("audiotk", weights=weights).embed_audio):
        with pytest.raises(AudiotkError):
            ask(waves)


def test_what_cannot_be_loaded(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="no such file"):
        load("audiotk", weights=tmp_path / "best.pt")
    with pytest.raises(AudiotkError, match="device 'abacus'"):
        load("audiotk", weights=weights, device="abacus")
