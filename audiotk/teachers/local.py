"""A CLAP model in a local folder, as transformers' `save_pretrained` writes it; the network is never asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotk.errors import AudiotkError
from audiotk.teachers.clap import AudioTower, Clap, embedding_dtype, on_device, repeated
from audiotk.teachers.laion import constants, text_reader
from audiotk.teachers.mel import ClapMel, MelSettings
from audiotk.teachers.state import fit, read_tensors
from audiotk.teachers.texts import load_tokenizer
from audiotk.teachers.weights import digest

__all__ = ["TransformersClap"]

# What ClapFeatureExtractor takes for a setting that its file does not have. Its lowest frequency is 0; LAION trained
# with 50 Hz, and the difference shifts embeddings by 5e-2: the file of a model trained with 50 must say so.
EXTRACTOR = {
    "sampling_rate": 48000, "hop_length": 480, "max_length_s": 10, "fft_window_size": 1024, "feature_size": 64,
    "frequency_min": 0, "frequency_max": 14000, "truncation": "fusion", "padding": "repeatpad",
}  # fmt: skip
PADDINGS = ("repeatpad", "repeat", "pad")


class TransformersClap(Clap):
    """A `ClapModel` from a folder, with the spectrogram, window and filling that its feature extractor's file states.

    Weights are read from ``model.safetensors`` (also in parts), else from ``pytorch_model.bin`` if it holds nothing but
    tensors. All must fit. The random crops of the feature extractor and its random choice of one sound that is treated
    as longer than the others are left out: a window is exactly as long as the model hears.

    Parameters
    ----------
    weights
        The folder, with ``config.json``, ``preprocessor_config.json``, the weights and the files of the tokenizer.
    device, dtype, compile, batch
        As in `audiotk.teachers.laion.LaionClap`.

    Raises
    ------
    AudiotkError
        A file is missing or damaged, is of another model, or weights do not fit.
    """

    name = "transformers"

    def __init__(
        self,
        weights: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        compile: bool = False,
        batch: int | None = None,
    ) -> None:
        folder, of, place = Path(weights), embedding_dtype(dtype), on_device(device)
        if not folder.is_dir():
            raise AudiotkError(f"{folder}: is no folder; expected one that save_pretrained of transformers wrote")
        settings = _extractor(folder)
        self.sr, self.window_s = int(settings["sampling_rate"]), float(settings["max_length_s"])
        self.padding = settings["padding"]
        model, checksum = _model(folder)
        tower = AudioTower(ClapMel(_mel(settings)), model.audio_model.audio_encoder, model.audio_projection, of)
        text = model.config.text_config

        def find() -> Any:
            return load_tokenizer("AutoTokenizer", folder, text.vocab_size, text.pad_token_id, exact=False)

        self._set_up(
            tower, text_reader(self.name, model, find, place), logit_scale=model.logit_scale_a.exp().item(),
            checksum=checksum, device=place, dtype=dtype, compile=compile, batch=batch,
        )  # fmt: skip

    def fingerprint(self) -> dict[str, Any]:
        """With how short sound is filled."""
        return super().fingerprint() | {"padding": self.padding}

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound [shape=(n,)] as long as a window: repeated, repeated wholly and padded, or padded, as the file says."""
        if self.padding == "pad":
            return super().fill(wave)
        return repeated(self, wave, whole=self.padding == "repeatpad")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise AudiotkError(f"{path}: cannot be read as JSON: {err}") from err
    if not isinstance(found, dict):
        raise AudiotkError(f"{path}: expected settings by name, got {type(found).__name__}")
    return found


def _extractor(folder: Path) -> dict[str, Any]:
    """Settings of the feature extractor; in newer folders they are part of the processor's file."""
    whole = folder / "processor_config.json"
    if (path := folder / "preprocessor_config.json").is_file():
        found = _json(path)
    elif (path := whole).is_file() and "feature_extractor" in (both := _json(whole)):
        found = dict(both["feature_extractor"])
    else:
        raise AudiotkError(f"{folder}: has no preprocessor_config.json, which says how sound becomes a spectrogram")
    settings = EXTRACTOR | {name: found[name] for name in EXTRACTOR if name in found}
    if settings["padding"] not in PADDINGS or settings["truncation"] not in ("fusion", "rand_trunc"):
        raise AudiotkError(
            f"{path}: expected padding of {', '.join(PADDINGS)} and truncation of fusion, rand_trunc, "
            f"got {settings['padding']!r} and {settings['truncation']!r}"
        )
    return settings


def _mel(settings: dict[str, Any]) -> MelSettings:
    """With fusion the filters are torchaudio's, else librosa's, as LAION trained them."""
    return MelSettings(
        sr=settings["sampling_rate"], n_fft=settings["fft_window_size"], hop=settings["hop_length"],
        mels=settings["feature_size"], fmin=settings["frequency_min"], fmax=settings["frequency_max"],
        scale="htk" if settings["truncation"] == "fusion" else "slaney",
    )  # fmt: skip


def _model(folder: Path) -> tuple[Any, str]:
    """The model with its weights, and the SHA-256 of the hashes of their files."""
    from transformers import ClapConfig, ClapModel

    settings = _json(folder / "config.json")
    if settings.get("model_type") != "clap":
        raise AudiotkError(f"{folder}: holds a model of type {settings.get('model_type')!r}, expected 'clap'")
    try:
        with torch.device("meta"):
            model = ClapModel(ClapConfig.from_dict(settings))
    except (ValueError, TypeError, KeyError) as err:
        raise AudiotkError(f"{folder}: its config.json makes no model: {err}") from err
    paths = _files(folder)
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors |= read_tensors(path)
    fixed = constants(model)
    fit(model, {name: tensor for name, tensor in tensors.items() if name not in fixed}, fixed, folder)
    return model, hashlib.sha256("".join(digest(path) for path in paths).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """Files of weights, safetensors before others."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            return [folder / part for part in sorted(set(_json(index).get("weight_map", {}).values()))]
    raise AudiotkError(f"{folder}: has neither model.safetensors nor pytorch_model.bin")
