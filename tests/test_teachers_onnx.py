"""ONNX taggers, made here by torch: a MelCNN that gives the same numbers, and models that do not fit."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.models import MelCNN, build
from audiotk.teachers import Prompts, load
from audiotk.teachers.onnx import OnnxTagger

CLASSES = ["dog", "cat", "rain"]
SR, SAMPLES = 8000, 4000


class Exportable(nn.Module):
    """A MelCNN whose spectrum is a convolution, as ONNX's exporter has no real FFT of frames."""

    def __init__(self, model: MelCNN) -> None:
        super().__init__()
        self.model = model
        window = model.front.window.double()  # (n_fft,)
        angle = 2 * torch.pi * torch.outer(torch.arange(len(window) // 2 + 1), torch.arange(len(window))) / len(window)
        basis = torch.cat([angle.double().cos(), angle.double().sin()]) * window  # (2 F, n_fft)
        self.register_buffer("basis", basis.float()[:, None])

    def forward(self, wave: Tensor) -> Tensor:
        front = self.model.front
        padded = nn.functional.pad(wave, (front.n_fft // 2, front.n_fft // 2))[:, None]
        parts = nn.functional.conv1d(padded, self.basis, stride=front.hop).square()  # (B, 2 F, T)
        power = parts[:, : front.n_fft // 2 + 1] + parts[:, front.n_fft // 2 + 1 :]
        mel = (power.transpose(1, 2) @ front.filters).clamp(min=front.floor).log()  # (B, T, mels)
        mel = self.model.norm(mel.transpose(1, 2)).transpose(1, 2)[:, None]
        last = self.model.blocks(mel).mean(3)
        return self.model.head(self.model.dense(last.mean(2) + last.amax(2)))


class Linear(nn.Module):
    """Anything that is quick: waveform -> numbers; several inputs or outputs if asked for."""

    def __init__(self, outputs: int = 3, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(SAMPLES, outputs)
        self.scale = scale

    def forward(self, wave: Tensor) -> Tensor:
        return self.layer(wave) * self.scale


def export(
    path: Path, model: nn.Module, *waves: Tensor, fixed: bool = False, outputs: tuple[str, ...] = ("out",)
) -> Path:
    inputs = [f"in{number}" for number in range(len(waves))]
    axes = {} if fixed else {name: {0: "n"} for name in (*inputs, *outputs)}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), waves, buffer, input_names=inputs, output_names=list(outputs), dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip
    path.write_bytes(buffer.getvalue())
    return path


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n, SAMPLES)).astype(np.float32)


@pytest.fixture(scope="module")
def melcnn() -> MelCNN:
    model = build("melcnn", 3, sr=SR, clip_s=0.5, mels=20, n_fft=256, hop=80, rng=np.random.default_rng(0))
    assert isinstance(model, MelCNN)
    return model.eval()


@pytest.mark.parametrize("fixed", [False, True])
def test_an_exported_melcnn_gives_the_numbers_of_torch(melcnn: MelCNN, tmp_path: Path, fixed: bool) -> None:
    path = export(tmp_path / "a.onnx", Exportable(melcnn), torch.zeros(1 if fixed else 2, SAMPLES), fixed=fixed)
    teacher = OnnxTagger(path, CLASSES, sr=SR, normalise="sigmoid", window_s=0.5)
    waves = noise(5)
    with torch.inference_mode():
        wanted = torch.sigmoid(melcnn(torch.from_numpy(waves)))
    scores = teacher.own_scores(waves)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    np.testing.assert_allclose(teacher.own_scores(waves[2:3])[0], scores[2], atol=1e-5)
    assert teacher.one_by_one is fixed
    assert np.array_equal(pickle.loads(pickle.dumps(teacher)).own_scores(waves), scores)
    assert teacher.own_scores(waves[:0]).shape == (0, 3)
    assert teacher.scores(waves, Prompts({"pet": ("dog", "cat")})).shape == (5, 1)


def test_numbers_become_scores_as_stated(tmp_path: Path) -> None:
    path = export(tmp_path / "a.onnx", Linear(scale=8.0), torch.zeros(2, SAMPLES))
    options: dict[str, Any] = {"weights": path, "class_map": CLASSES, "sr": SR}
    soft = load("onnx", normalise="softmax", **options)
    sigmoid = load("onnx", normalise="sigmoid", **options)
    np.testing.assert_allclose(soft.own_scores(noise(4)).sum(axis=1), 1, atol=1e-6)
    odds = sigmoid.own_scores(noise(4)).astype(np.float64)
    odds /= 1 - odds
    np.testing.assert_allclose(soft.own_scores(noise(4)), odds / odds.sum(axis=1, keepdims=True), atol=1e-5)
    assert (soft.says, sigmoid.says) == ("softmax", "sigmoid")
    assert soft.window_s == 0.5
    assert soft.fingerprint() != sigmoid.fingerprint()
    with pytest.raises(AudiotkError, match="logits need normalise"):
        load("onnx", normalise="none", **options).own_scores(100 * noise(4))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"normalise": "logits"}, "expected one of sigmoid"),
        ({"class_map": CLASSES[:2]}, r"expected an output of shape \(n, 2\)"),
        ({"window_s": 1.0}, r"expected 0.5 s \(4000 samples"),
        ({"sr": 0}, "sr >= 1"),
        ({"input": "wave"}, "has no input 'wave'; it has in0"),
        ({"output": "scores"}, "has no output 'scores'; it has out"),
        ({"device": "abacus"}, "device: expected one of"),
        ({"weights": "nothing.onnx"}, "cannot be read"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    path = export(tmp_path / "a.onnx", Linear(), torch.zeros(2, SAMPLES))
    with pytest.raises(AudiotkError, match=told):
        load("onnx", **{"weights": path, "class_map": CLASSES, "sr": SR, "normalise": "sigmoid", **options})


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    class Two(Linear):
        def forward(self, wave: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
            return self.layer(wave + other)

    class Both(Linear):
        def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return self.layer(wave), self.layer(-wave)

    options: dict[str, Any] = {"class_map": CLASSES, "sr": SR, "normalise": "sigmoid"}
    wave = torch.zeros(2, SAMPLES)
    two = export(tmp_path / "two.onnx", Two(), wave, wave)
    with pytest.raises(AudiotkError, match="has 2 inputs"):
        OnnxTagger(two, **options)
    with pytest.raises(AudiotkError, match="expected one, the waveform"):
        OnnxTagger(two, input="in0", **options)
    both = export(tmp_path / "both.onnx", Both(), wave, outputs=("scores", "other"))
    with pytest.raises(AudiotkError, match=r"has 2 outputs; say output=\.\.\., one of scores, other"):
        OnnxTagger(both, **options)
    scores = OnnxTagger(both, output="scores", **options).own_scores(noise(2))
    np.testing.assert_allclose(OnnxTagger(both, output="other", **options).own_scores(-noise(2)), scores, atol=1e-6)
    with pytest.raises(AudiotkError, match=r"expected an input of shape \(n, samples\)"):
        OnnxTagger(export(tmp_path / "a.onnx", Linear(), wave, fixed=True), **options)
    import onnx

    model = onnx.load(both)
    onnx.save(model, tmp_path / "parts.onnx", save_as_external_data=True, location="parts.bin", size_threshold=0)
    with pytest.raises(AudiotkError, match="with all of its weights inside"):
        OnnxTagger(tmp_path / "parts.onnx", output="scores", **options)
    (tmp_path / "b.onnx").write_bytes(b"not a model")
    with pytest.raises(AudiotkError, match="is not an ONNX model"):
        OnnxTagger(tmp_path / "b.onnx", **options)
