"""A trained model as an ONNX file: waveform in, scores out, the front end inside, run anywhere without torch.

>>> export_onnx("runs/demo/02_clip_or_range_labels/runs/time-ranges-seed0/best.pt", "model.onnx")
>>> session = onnxruntime.InferenceSession("model.onnx")
>>> session.run(["scores"], {"waveform": waves})  # waves (n, samples) float32 at the model's rate -> (n, classes)

An FFT is no operator that every runtime has, so the spectrum is computed by a convolution with sines and cosines.
`audiotk.teachers.onnx.OnnxTagger` with ``normalise="none"`` reads such a file. Classes, sample rate and length are in
its metadata (``session.get_modelmeta().custom_metadata_map``, each value as JSON) and in ``PATH.json`` beside it.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.features import CompressedSTFT, LogMel
from audiotk.files import atomic
from audiotk.models.base import WaveformModel
from audiotk.models.checkpoints import Checkpoint, load_checkpoint

__all__ = ["export_onnx"]

OPSET = 17


def export_onnx(model: WaveformModel | Checkpoint | str | Path, path: str | Path) -> Path:
    """Write a model with its front end as ONNX: ``waveform`` (n, samples) float32 -> ``scores`` (n, classes) in [0, 1].

    Number and length of the waveforms are free (of RawCNN the length is `clip_s`). Scores differ from those of torch by
    the rounding of float32: by less than 1e-4 for sound of 16 bits, whose noise floor lies above that rounding, and for
    digital silence, which has none, by up to a few 1e-4 in ACDnet.

    Parameters
    ----------
    model
        A model, a checkpoint, or the path of one. A bare model knows no class names: they are numbers then.
    path
        The file to write; classes, sample rate (sr), length (clip_s) and model go into its metadata and ``PATH.json``.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    AudiotkError
        The checkpoint cannot be read, the file cannot be written, or the model has a front end that is not known here.
    """
    if isinstance(model, str | Path):
        model = load_checkpoint(model)
    network = model if isinstance(model, WaveformModel) else model.model
    names = [str(k) for k in range(network.n_classes)] if isinstance(model, WaveformModel) else list(model.classes)
    whole = _Whole(network).eval()
    wave = torch.zeros(2, network.samples)
    free = {"waveform": {0: "n", 1: "samples"}, "scores": {0: "n"}}
    if not hasattr(whole.network, "front"):
        del free["waveform"][1]  # its mean over time is over what is left of `clip_s`
    path = Path(path)
    about = {"classes": names, "sr": network.sr, "clip_s": network.clip_s, "model": network.name}
    with atomic(path) as draft, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: its older exporter, and checks of shapes that become constants
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            whole, (wave,), str(draft), input_names=["waveform"], output_names=["scores"], dynamic_axes=free,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        with draft.open("ab") as file:  # a repeated field may follow at the end of a message of protobuf
            file.write(b"".join(_property(key, json.dumps(value)) for key, value in about.items()))
    with atomic(path.with_name(f"{path.name}.json")) as draft:
        draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
    return path


def _property(key: str, value: str) -> bytes:
    """One entry of a model's metadata as protobuf: field 14, metadata_props, of ONNX's ModelProto (key 1, value 2)."""

    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    return field(14, field(1, key.encode()) + field(2, value.encode()))


class _Whole(nn.Module):
    """Waveform to scores, the front end written in operators that ONNX has."""

    def __init__(self, network: WaveformModel) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().float()
        front = getattr(network, "front", None)
        if front is not None:
            self.network.front = _front(front)

    def forward(self, wave: Tensor) -> Tensor:
        return self.network(wave).sigmoid()


def _front(front: nn.Module) -> nn.Module:
    if isinstance(front, CompressedSTFT):
        return _CompressedSTFT(front)
    if isinstance(front, LogMel):
        return _LogMel(front)
    raise AudiotkError(f"export_onnx: expected a front end CompressedSTFT or LogMel, got {type(front).__name__}")


class _Spectrum(nn.Module):
    """Real and imaginary part of windowed frames by one convolution: (B, samples) -> (B, 2, F, T)."""

    weight: Tensor

    def __init__(self, window: Tensor, hop: int) -> None:
        super().__init__()
        n = len(window)
        angle = 2 * np.pi * (np.outer(np.arange(n // 2 + 1), np.arange(n)) % n) / n  # (F, n), exact for large products
        waves = np.concatenate([np.cos(angle), -np.sin(angle)]) * window.double().cpu().numpy()  # (2 F, n)
        self.register_buffer("weight", torch.from_numpy(waves.astype(np.float32))[:, None])
        self.hop, self.bins = hop, n // 2 + 1

    def forward(self, wave: Tensor) -> Tensor:
        both = nn.functional.conv1d(wave[:, None], self.weight, stride=self.hop)  # (B, 2 F, T)
        return torch.stack([both[:, : self.bins], both[:, self.bins :]], dim=1)


class _CompressedSTFT(nn.Module):
    """As :class:`audiotk.features.CompressedSTFT`: (B, samples) -> (B, 2, T, F)."""

    def __init__(self, front: CompressedSTFT) -> None:
        super().__init__()
        self.spectrum = _Spectrum(front.window, front.hop)
        self.exponent, self.eps = (front.power - 1) / 2, front.eps

    def forward(self, wave: Tensor) -> Tensor:
        parts = self.spectrum(wave)
        power = parts.square().sum(1, keepdim=True)  # (B, 1, F, T)
        return (parts * (power + self.eps).pow(self.exponent)).transpose(2, 3)


class _LogMel(nn.Module):
    """As :class:`audiotk.features.LogMel`: (B, samples) -> (B, 1, T, mels)."""

    filters: Tensor

    def __init__(self, front: LogMel) -> None:
        super().__init__()
        self.spectrum = _Spectrum(front.window, front.hop)
        self.register_buffer("filters", front.filters.detach().cpu().clone())
        self.pad, self.floor = front.n_fft // 2, front.floor

    def forward(self, wave: Tensor) -> Tensor:
        power = self.spectrum(nn.functional.pad(wave, (self.pad, self.pad))).square().sum(1)  # (B, F, T)
        return (power.transpose(1, 2) @ self.filters).clamp(min=self.floor).log()[:, None]
