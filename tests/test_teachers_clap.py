"""CLAP teachers against their packages, on the same random weights in the real architectures.

The released files could not be had; see `random_clap` for what stands in for them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_clap import TEXTS, Files, laion_files, ms_files, vocabulary

from audiotk.errors import AudiotkError
from audiotk.teachers import load
from audiotk.teachers.base import Teacher, unit
from audiotk.teachers.laion import LaionClap, clap_model
from audiotk.teachers.local import TransformersClap
from audiotk.teachers.msclap import MsClap
from audiotk.teachers.packages import LaionClapPackage, MsClapPackage
from audiotk.teachers.prompts import P1, Prompts
from audiotk.teachers.state import read_tensors
from audiotk.teachers.weights import digest

SAME = 1e-5  # of numbers of unit vectors; what the tests print is near 1e-7
SOME = [*TEXTS, "wow! it barks! louder!", "x" * 40]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def big_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that goes when the tests end: pytest would keep gigabytes."""
    folder = tmp_path_factory.mktemp("clap")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def laion(big_files: Path) -> Files:
    return laion_files(big_files)


@pytest.fixture(scope="module")
def fused(big_files: Path) -> Files:
    return laion_files(big_files, fusion=True)


@pytest.fixture(scope="module")
def microsoft(big_files: Path) -> Files:
    return ms_files(big_files)


@pytest.fixture(scope="module")
def ours(laion: Files) -> LaionClap:
    return LaionClap(laion.weights, tokenizer=laion.tokenizer)


def sounds(teacher: Teacher) -> np.ndarray:
    """Noise, a chirp in digital silence, a short loud click and quiet noise, all as long as a window (4, samples)."""
    rng = np.random.default_rng(3)
    n = teacher.samples
    time = np.arange(n) / teacher.sr
    chirp = np.where((time > 2) & (time < 4), 0.5 * np.sin(2 * np.pi * 300 * time**2), 0)
    click = np.eye(1, n, n // 3)[0] * 0.9
    return np.stack([0.2 * rng.standard_normal(n), chirp, click, 1e-3 * rng.standard_normal(n)]).astype(np.float32)


# --- agreement with the packages --------------------------------------------------------------------------------------


def test_laion_agrees_with_its_package(laion: Files, ours: LaionClap) -> None:
    package = LaionClapPackage(laion.weights, tokenizer=laion.tokenizer, int16=False)
    waves = sounds(ours)
    heard = ours.embed_audio(waves)
    assert heard.shape == (4, 512)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(heard, axis=1), 1, atol=1e-6)
    assert (heard @ heard.T).min() < 0.5  # the random network tells sounds apart
    np.testing.assert_allclose(heard, package.embed_audio(waves), atol=SAME)
    np.testing.assert_allclose(ours.embed_text(SOME), package.embed_text(SOME), atol=SAME)
    assert ours.logit_scale == pytest.approx(package.logit_scale)
    assert (ours.dim, ours.checksum) == (package.dim, package.checksum)
    assert ours.checksum == digest(laion.weights)
    cut = LaionClap(laion.weights, tokenizer=laion.tokenizer, int16=True)
    package.int16 = True
    quiet = waves[3:]
    np.testing.assert_allclose(cut.embed_audio(quiet), package.embed_audio(quiet), atol=SAME)
    assert np.abs(cut.embed_audio(quiet) - heard[3:]).max() > 10 * SAME
    assert cut.fingerprint() != ours.fingerprint()


@pytest.mark.parametrize("seconds", [0.03, 1.7, 4.9, 9.99, 10.0])
def test_laion_fills_as_its_package_does(laion: Files, ours: LaionClap, seconds: float) -> None:
    from laion_clap.training.data import get_audio_features

    sound = np.random.default_rng(1).standard_normal(round(48000 * seconds)).astype(np.float32)
    made = get_audio_features({}, torch.from_numpy(sound), 480000, "rand_trunc", "repeatpad", {})["waveform"]
    np.testing.assert_array_equal(ours.fill(sound), made.numpy())


def test_laion_with_fusion_agrees_with_its_package(fused: Files) -> None:
    teacher = LaionClap(fused.weights, tokenizer=fused.tokenizer)
    package = LaionClapPackage(fused.weights, tokenizer=fused.tokenizer, int16=False)
    waves = sounds(teacher)[:2]
    np.testing.assert_allclose(teacher.embed_audio(waves), package.embed_audio(waves), atol=SAME)


def test_microsoft_agrees_with_its_package(microsoft: Files) -> None:
    teacher = MsClap(microsoft.weights, tokenizer=microsoft.tokenizer)
    package = MsClapPackage(microsoft.weights, tokenizer=microsoft.tokenizer)
    waves = sounds(teacher)
    heard = teacher.embed_audio(waves)
    assert heard.shape == (4, 1024)
    np.testing.assert_allclose(heard, package.embed_audio(waves), atol=SAME)
    np.testing.assert_allclose(teacher.embed_text(SOME), package.embed_text(SOME), atol=SAME)
    assert teacher.logit_scale == pytest.approx(package.logit_scale)
    short = waves[0, : teacher.sr * 2 + 77]
    package.wrapper.read_audio = lambda path, resample: (torch.from_numpy(short)[None], teacher.sr)
    as_file = unit(package.wrapper.get_audio_embeddings(["short.wav"]).numpy())  # the package fills it
    np.testing.assert_allclose(teacher.embed_audio(teacher.fill(short)[None]), as_file, atol=SAME)
    scores = teacher.scores(waves, Prompts.read(P1))
    assert scores.shape == (4, len(Prompts.read(P1).classes))
    np.testing.assert_allclose(scores.sum(1), 1)


def test_a_base_model_is_told_by_its_shapes(big_files: Path) -> None:
    files = laion_files(big_files, "HTSAT-base")
    teacher = LaionClap(files.weights, tokenizer=files.tokenizer)
    package = LaionClapPackage(files.weights, tokenizer=files.tokenizer, int16=False)
    assert teacher.tower.htsat.norm.normalized_shape == (1024,)
    waves = sounds(teacher)[:1]
    np.testing.assert_allclose(teacher.embed_audio(waves), package.embed_audio(waves), atol=SAME)


# --- agreement with transformers --------------------------------------------------------------------------------------


def write_folder(folder: Path, files: Files, fusion: bool) -> Any:
    """A folder of save_pretrained with the weights of a checkpoint; the model."""
    from transformers import ClapFeatureExtractor, RobertaTokenizerFast

    model = clap_model(read_tensors(files.weights), files.weights)
    model.save_pretrained(folder)
    truncation = "fusion" if fusion else "rand_trunc"
    ClapFeatureExtractor(frequency_min=50, truncation=truncation).save_pretrained(folder)
    RobertaTokenizerFast.from_pretrained(str(files.tokenizer)).save_pretrained(folder)
    return model


@pytest.mark.parametrize("fusion", [False, True])
def test_a_folder_agrees_with_transformers(
    big_files: Path, request: pytest.FixtureRequest, fusion: bool, ours: LaionClap
) -> None:
    from transformers import ClapFeatureExtractor

    files = request.getfixturevalue("fused" if fusion else "laion")
    folder = big_files / f"folder{fusion}"
    stock = write_folder(folder, files, fusion)
    teacher = load("transformers", weights=folder)
    assert isinstance(teacher, TransformersClap)
    waves = sounds(teacher)[:2]
    short = waves[0, :123456]
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    made = extractor([*waves, short], sampling_rate=48000, return_tensors="pt")
    longer = torch.zeros(3, 1, dtype=torch.bool)  # the extractor marks a random one
    with torch.inference_mode():
        features = stock.audio_model(made["input_features"], is_longer=longer).pooler_output
        wanted = unit(stock.audio_projection(features).numpy())
    heard = teacher.embed_audio(np.stack([*waves, teacher.fill(short)]))
    np.testing.assert_allclose(heard, wanted, atol=SAME)
    if not fusion:
        np.testing.assert_allclose(heard[:2], ours.embed_audio(waves), atol=SAME)
        np.testing.assert_allclose(teacher.embed_text(SOME), ours.embed_text(SOME), atol=SAME)
        assert "frequency_min" not in teacher.fingerprint()
        assert teacher.fingerprint()["mel"]["fmin"] == 50


def test_a_folder_is_refused_with_its_reason(tmp_path: Path, laion: Files) -> None:
    write_folder(tmp_path, laion, False)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(AudiotkError, match=r"has no preprocessor_config.json"):
        TransformersClap(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"padding": "mirror"}')
    with pytest.raises(AudiotkError, match="padding of repeatpad, repeat, pad"):
        TransformersClap(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(AudiotkError, match="no safetensors file"):
        TransformersClap(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(AudiotkError, match=r"neither model.safetensors nor pytorch_model.bin"):
        TransformersClap(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(AudiotkError, match="'bert', expected 'clap'"):
        TransformersClap(tmp_path)
    with pytest.raises(AudiotkError, match="is no folder"):
        TransformersClap(tmp_path / "nowhere")


# --- the same numbers always ------------------------------------------------------------------------------------------


def test_numbers_do_not_depend_on_the_run_or_the_batch(laion: Files, ours: LaionClap) -> None:
    waves = np.concatenate([sounds(ours), sounds(ours)[:1, ::-1]])  # 5 windows
    together = ours.embed_audio(waves)
    np.testing.assert_array_equal(together, ours.embed_audio(waves))
    for batch in (1, 2):
        ours.batch = batch
        np.testing.assert_allclose(ours.embed_audio(waves), together, atol=SAME)
    ours.batch = 8
    alone = np.concatenate([ours.embed_text([text]) for text in SOME])
    np.testing.assert_allclose(alone, ours.embed_text(SOME), atol=SAME)
    again = LaionClap(laion.weights, tokenizer=laion.tokenizer)
    np.testing.assert_array_equal(again.embed_audio(waves[:2]), ours.embed_audio(waves[:2]))
    assert again.fingerprint() == ours.fingerprint()
    assert again.tokenizer_checksum == ours.tokenizer_checksum


def test_bfloat16_stays_near(laion: Files, ours: LaionClap) -> None:
    half = LaionClap(laion.weights, tokenizer=laion.tokenizer, dtype="bfloat16")
    waves = sounds(ours)[:2]
    exact, near = ours.embed_audio(waves), half.embed_audio(waves)
    assert near.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, atol=1e-6)
    assert SAME < np.abs(near - exact).max() < 0.01  # 1.5e-3 on these weights
    assert (near * exact).sum(1).min() > 0.999
    assert half.fingerprint() != ours.fingerprint()


def test_wrong_sound_and_texts_are_refused(ours: LaionClap) -> None:
    with pytest.raises(AudiotkError, match=r"shape \(n, 480000\)"):
        ours.embed_audio(np.zeros((1, 1000), np.float32))
    with pytest.raises(AudiotkError, match="NaN or infinite"):
        ours.embed_audio(np.full((1, 480000), np.nan, np.float32))
    for sound in (np.zeros(0), np.zeros(480001), np.zeros((2, 3))):
        with pytest.raises(AudiotkError, match="1 to 480000 samples"):
            ours.fill(sound)
    with pytest.raises(AudiotkError, match="reads 77 tokens at most"):
        ours.embed_text(["y " * 200])
    for texts in ([], [" "], [3]):
        with pytest.raises(AudiotkError, match="text"):
            ours.embed_text(texts)  # type: ignore[list-item]
    assert ours.embed_audio(np.zeros((0, 480000), np.float32)).shape == (0, 512)
    assert np.isfinite(ours.embed_audio(np.zeros((1, 480000), np.float32))).all()


# --- tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_of_another_model_is_refused(laion: Files, microsoft: Files, tmp_path: Path) -> None:
    teacher = LaionClap(laion.weights, tokenizer=tmp_path)
    assert teacher.embed_audio(sounds(teacher)[:1]).shape == (1, 512)  # sound needs none
    with pytest.raises(AudiotkError, match=r"expected a folder with vocab.json and merges.txt"):
        teacher.embed_text(["a dog"])
    with pytest.raises(AudiotkError, match=f"the text tower {vocabulary(laion.tokenizer)} word embeddings"):
        LaionClap(laion.weights, tokenizer=microsoft.tokenizer).embed_text(["a dog"])
    (tmp_path / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(AudiotkError, match=f"has 5 tokens, the text tower {vocabulary(laion.tokenizer)}"):
        LaionClap(laion.weights, tokenizer=tmp_path).embed_text(["a dog"])  # what transformers makes of no files


def test_without_a_tokenizer_the_error_says_what_goes_where(laion: Files) -> None:
    with pytest.raises(AudiotkError, match=r"vocab.json from huggingface.co/FacebookAI/roberta-base and put it into"):
        LaionClap(laion.weights).embed_text(["a dog"])


def test_a_network_that_hears_no_difference_between_texts_is_refused(laion: Files) -> None:
    teacher = LaionClap(laion.weights, tokenizer=laion.tokenizer)
    teacher._text.encode = lambda numbers, mask: torch.ones(len(numbers), 512)
    with pytest.raises(AudiotkError, match="the same embedding"):
        teacher.embed_text(["a dog"])


# --- options ----------------------------------------------------------------------------------------------------------


def test_wrong_options_are_refused(laion: Files) -> None:
    with pytest.raises(AudiotkError, match="expected one of float32, bfloat16, float16, got 'int8'"):
        LaionClap(laion.weights, dtype="int8")
    with pytest.raises(AudiotkError, match="device 'abacus'"):
        LaionClap(laion.weights, device="abacus")
    with pytest.raises(AudiotkError, match="batch of at least 1"):
        LaionClap(laion.weights, batch=-1)
    with pytest.raises(AudiotkError, match="unknown option colour"):
        load("laion-clap", colour="red")


def test_tests_never_ask_the_network() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
