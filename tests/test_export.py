"""Models as ONNX files: the scores of torch, whatever the sound, the number and the length of the waveforms."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from audiotk import models
from audiotk.errors import AudiotkError
from audiotk.features import CompressedSTFT, LogMel
from audiotk.models.checkpoints import save_checkpoint
from audiotk.models.export import _front, export_onnx
from audiotk.teachers.onnx import OnnxTagger
from audiotk.teachers.prompts import Prompts

TINY = {
    "acdnet": models.DEMO["acdnet"],
    "melcnn": {**models.DEMO["melcnn"], "width": 0.25},
    "rawcnn": models.DEMO["rawcnn"],
}


def sounds(sr, samples):
    """Noise, silence, noise with a silent half, a loud tone, a very quiet one, and full-scale clipping.

    Tones are dithered to 16 bits: without any noise floor, some bins hold nothing but the rounding of either way.
    """
    rng = np.random.default_rng(0)
    time_s = np.arange(samples) / sr
    noise = rng.normal(0, 0.1, samples)
    half = noise * (time_s < time_s[-1] / 2)
    tone = np.sin(2 * np.pi * 440 * time_s)
    dither = rng.normal(0, 1 / 32768, samples)
    rows = [noise, 0 * noise, half, 0.9 * tone + dither, 1e-4 * tone + dither, np.sign(tone)]
    return (np.round(np.clip(np.stack(rows), -1, 1) * 32767) / 32768).astype(np.float32)


def trained(name, seed=0, n_classes=5, **options):
    """A network whose norms have seen sound, and whose scores differ from sound to sound."""
    model = models.build(name, n_classes, rng=np.random.default_rng(seed), **options)
    wave = torch.as_tensor(sounds(model.sr, model.samples))
    with torch.no_grad():
        model.train()
        for _ in range(3):
            model(wave)
        last = [layer for layer in model.eval().head.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight.div_(model(wave).std(0).max())
        last.bias.zero_().sub_(model(wave).mean(0))
    return model


def torch_scores(model, waves):
    with torch.inference_mode():
        return model(torch.as_tensor(waves)).sigmoid().numpy()


def onnx_scores(path, waves):
    return onnxruntime.InferenceSession(str(path)).run(["scores"], {"waveform": waves})[0]


@pytest.mark.parametrize("name", TINY)
def test_scores_are_those_of_torch(name, tmp_path):
    model = trained(name, **TINY[name])
    path = export_onnx(model, tmp_path / "model.onnx")
    waves = sounds(model.sr, model.samples)
    expected = torch_scores(model, waves)
    assert np.ptp(expected, axis=0).max() > 0.3  # else equal scores would say nothing
    np.testing.assert_allclose(onnx_scores(path, waves), expected, atol=1e-4)
    np.testing.assert_allclose(onnx_scores(path, waves[:1]), expected[:1], atol=1e-4)
    assert model.training is False
    np.testing.assert_array_equal(torch_scores(model, waves), expected)  # the model itself is as it was


@pytest.mark.parametrize("name", ["acdnet", "melcnn"])
def test_other_lengths(name, tmp_path):
    model = trained(name, **TINY[name])
    path = export_onnx(model, tmp_path / "model.onnx")
    for samples in (model.samples // 2, model.samples + 1234):
        waves = sounds(model.sr, samples)
        np.testing.assert_allclose(onnx_scores(path, waves), torch_scores(model, waves), atol=1e-4)


def test_acdnet_of_the_paper(tmp_path):
    """Not digital silence: there ACDnet enlarges the rounding of float32 beyond 1e-4, whoever computes it."""
    model = trained("acdnet", n_classes=11)
    path = export_onnx(model, tmp_path / "model.onnx")
    waves = sounds(model.sr, model.samples)[[0, 2, 3, 4, 5]]
    expected = torch_scores(model, waves)
    assert np.ptp(expected, axis=0).max() > 0.3  # else equal scores would say nothing
    np.testing.assert_allclose(onnx_scores(path, waves), expected, atol=1e-4)


@pytest.mark.parametrize("front", [CompressedSTFT(8000), LogMel(8000, 256, 100, 20), LogMel(8000, 512, 512, 16)])
def test_front_ends_as_convolutions(front):
    """Beside a loud tone the quiet bins, compressed or as logarithms, show the rounding most."""
    wave = torch.as_tensor(sounds(8000, 8000))
    difference = (_front(front)(wave) - front(wave)).abs().amax((1, 2, 3))
    assert difference[[0, 1, 2, 4, 5]].max() < 1e-4
    assert difference[3] < 2e-2


def test_a_checkpoint_says_its_classes_and_a_teacher_reads_the_file(tmp_path):
    model = trained("melcnn", **TINY["melcnn"])
    names = ["Ärger, laut", "b" * 200, "c" * 20_000, "d", "e"]  # lengths of one, two and three bytes
    save_checkpoint(tmp_path / "best.pt", model, names, {})
    path = export_onnx(tmp_path / "best.pt", tmp_path / "model.onnx")
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert about == {"classes": names, "sr": 16000, "clip_s": 4.0, "model": "melcnn"}
    held = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in held.items()} == about
    teacher = OnnxTagger(path, names, sr=about["sr"], normalise="none", window_s=about["clip_s"])
    waves = sounds(model.sr, model.samples)
    found = teacher.scores(waves, Prompts({name: (name,) for name in names}))
    np.testing.assert_allclose(found, torch_scores(model, waves), atol=1e-4)


def test_bad_input(tmp_path):
    with pytest.raises(AudiotkError, match="no such file"):
        export_onnx(tmp_path / "nothing.pt", tmp_path / "model.onnx")
    with pytest.raises(AudiotkError, match="front end CompressedSTFT or LogMel, got Identity"):
        _front(torch.nn.Identity())
    model = models.build("melcnn", 2, **TINY["melcnn"])
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(AudiotkError, match=r"folder\.onnx"):
        export_onnx(model, tmp_path / "folder.onnx")


def test_the_command(tmp_path, capsys):
    from audiotk.__main__ import main

    model = trained("rawcnn", **TINY["rawcnn"])
    save_checkpoint(tmp_path / "run" / "best.pt", model, list("abcde"), {})
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out.onnx")]) == 0
    assert "out.onnx" in capsys.readouterr().out
    assert (tmp_path / "out.onnx").exists()
    assert main(["export", str(tmp_path), str(tmp_path / "out.onnx")]) == 2
    assert "best.pt" in capsys.readouterr().err
