"""The packages laion-clap and msclap themselves as teachers: what the design cards name, and the oracles of our tests.

Both are made dependable without changing their numbers: a window has exactly the length that their models hear, so that
they have nothing to crop at random; their weights are read safely and must all fit; and while they are imported and
built, their questions to the network are answered from the checkpoint and from the folder of the tokenizer.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher, checked_waves, unit
from audiotk.teachers.clap import on_device, repeated
from audiotk.teachers.state import read_tensors
from audiotk.teachers.texts import load_tokenizer
from audiotk.teachers.weights import LAION, MICROSOFT, find_tokenizer, find_weights

__all__ = ["LaionClapPackage", "MsClapPackage", "laion_package", "ms_package"]

BATCH = 8  # windows at once; the packages would take a whole list, at 170 MB a window


class LaionClapPackage(Teacher):
    """`laion_clap.CLAP_Module`: 10 s at 48 kHz -> 512 numbers.

    Parameters
    ----------
    weights, sha256, tokenizer, device
        As in `audiotk.teachers.laion.LaionClap`.
    int16
        Cut sound to 16 bit first, as the package's calls for files do.

    Raises
    ------
    AudiotkError
        The package is not installed, or there are no weights or such that do not fit.
    """

    name = "laion-clap-package"
    sr = 48000
    window_s = 10.0

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str | Path | None = None,
        device: str = "cpu",
        int16: bool = True,
    ) -> None:
        from audiotk.teachers.laion import clap_model

        path, self.checksum = find_weights(weights, LAION, sha256)
        tensors = read_tensors(path)
        ours = clap_model(tensors, path).config  # also tells another model's file apart
        audio, text = ours.audio_config, ours.text_config
        folder = find_tokenizer(tokenizer, "roberta-base")
        reader = load_tokenizer("RobertaTokenizerFast", folder, text.vocab_size, text.pad_token_id)
        amodel = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}[audio.patch_embeds_hidden_size]
        self.module = laion_package(_roberta_config(text), reader, amodel, audio.enable_fusion, device)
        _strictly(self.module.model, tensors, ("text_branch.embeddings.position_ids",), path)
        self.device, self.int16, self.dim = on_device(device), int16, self.module.model.joint_embed_shape
        self.logit_scale = float(self.module.model.logit_scale_a.exp())

    def fingerprint(self) -> dict[str, Any]:
        """With the setting that changes the numbers."""
        return super().fingerprint() | {"int16": self.int16}

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound [shape=(n,)] repeated as often as it fits wholly, then zeros."""
        return repeated(self, wave, whole=True)

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples)] -> [shape=(n, dim), float32]."""
        waves = checked_waves(self, waves)

        def few(part: np.ndarray) -> Tensor:
            sound = part if self.int16 else torch.from_numpy(part).to(self.device)  # of tensors nothing is cut
            return torch.as_tensor(self.module.get_audio_embedding_from_data(sound, use_tensor=not self.int16))

        return _in_parts(waves, few, self.dim)

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Texts -> [shape=(n, dim), float32]."""
        with torch.inference_mode():
            return unit(np.asarray(self.module.get_text_embedding(list(texts)), np.float32))


class MsClapPackage(Teacher):
    """`msclap.CLAP`, version 2023: 7 s at 44.1 kHz -> 1024 numbers.

    Parameters
    ----------
    weights, sha256, tokenizer, device
        As in `audiotk.teachers.msclap.MsClap`; the package itself knows ``cpu`` and ``cuda``.

    Raises
    ------
    AudiotkError
        The package is not installed, or there are no weights or such that do not fit.
    """

    name = "msclap-package"
    sr = 44100
    window_s = 7.0

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        from audiotk.teachers.msclap import PAD, towers

        path, self.checksum = find_weights(weights, MICROSOFT, sha256)
        tensors = read_tensors(path, ("model",))
        config = towers(tensors, path).text.config
        folder = find_tokenizer(tokenizer, "gpt2")
        reader = load_tokenizer("GPT2TokenizerFast", folder, config.vocab_size, 0, pad=PAD)
        self.wrapper = ms_package(config, reader, on_device(device))
        _strictly(self.wrapper.clap, tensors, (".attn.bias", ".attn.masked_bias"), path)
        self.device = on_device(device)
        self.dim = int(self.wrapper.args.d_proj)
        self.logit_scale = float(self.wrapper.clap.logit_scale.exp())

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound [shape=(n,)] repeated to the end of the window."""
        return repeated(self, wave, whole=False)

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples)] -> [shape=(n, dim), float32]."""
        waves = checked_waves(self, waves)

        def few(part: np.ndarray) -> Tensor:
            sound = torch.from_numpy(part)[:, None].to(self.device)  # (n, 1, samples), as it collates files
            return self.wrapper._get_audio_embeddings(sound)

        return _in_parts(waves, few, self.dim)

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Texts -> [shape=(n, dim), float32]."""
        return unit(self.wrapper.get_text_embeddings(list(texts)).cpu().numpy())


def laion_package(roberta: Any, tokenizer: Any, amodel: str, fusion: bool, device: str = "cpu") -> Any:
    """A `CLAP_Module` whose text tower is made of the config `roberta`; nothing is asked of the network.

    On import the package loads three tokenizers, on construction two RoBERTas, all from the hub.
    """
    import transformers

    model = transformers.RobertaModel(roberta)
    answers: list[tuple[Any, Any]] = [(transformers.RobertaModel, model)]
    answers += [(getattr(transformers, f"{kind}Tokenizer"), tokenizer) for kind in ("Roberta", "Bert", "Bart")]
    with ExitStack() as stack:
        for loader, answer in answers:
            stack.enter_context(mock.patch.object(loader, "from_pretrained", _always(answer)))
        module = _import("laion_clap", "laion-clap").CLAP_Module(enable_fusion=fusion, device=device, amodel=amodel)
    module.tokenize = tokenizer
    return module.eval()


def ms_package(gpt2: Any, tokenizer: Any, device: torch.device | None) -> Any:
    """A `msclap.CLAP` whose text tower is made of the config `gpt2`; its weights are still random."""
    import transformers

    _import("msclap", "msclap")
    wrapper = importlib.import_module("msclap.CLAPWrapper")
    clap = importlib.import_module("msclap.models.clap")
    no_file = SimpleNamespace(load=lambda *_, **__: {"model": {}}, device=torch.device, cuda=torch.cuda)
    on_gpu = device is not None and device.type == "cuda"
    with (
        mock.patch.object(clap, "AutoModel", SimpleNamespace(from_pretrained=_always(transformers.GPT2Model(gpt2)))),
        mock.patch.object(wrapper, "AutoTokenizer", SimpleNamespace(from_pretrained=_always(tokenizer or mock.Mock()))),
        mock.patch.object(wrapper, "torch", no_file),
    ):
        made = wrapper.CLAPWrapper("weights are put in by audiotk", version="2023", use_cuda=on_gpu)
    if tokenizer is not None:  # transformers 5 has no encode_plus any more
        made.tokenizer = SimpleNamespace(encode_plus=lambda text, **options: tokenizer(text, **options))
    return made


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Undo what the packages do to everybody's warnings and logging when they are imported."""
    from transformers import logging

    level = logging.get_verbosity()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.set_verbosity(level)


def _import(module: str, distribution: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError as err:
        raise AudiotkError(
            f"the package {distribution} cannot be imported ({err}); run: pip install --no-deps {distribution} "
            "(without its own requirements, which are out of date), and pip install audiotk[train]"
        ) from err


def _strictly(model: torch.nn.Module, tensors: dict[str, Tensor], dropped: tuple[str, ...], where: Path) -> None:
    """Load all tensors but those whose names end in one of `dropped`."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(dropped)}
    try:
        model.load_state_dict(kept, strict=True)
    except RuntimeError as err:
        raise AudiotkError(f"{where}: does not fit the package's model: {err}") from err
    model.eval().requires_grad_(False)


def _in_parts(waves: np.ndarray, few: Callable[[np.ndarray], Tensor], dim: int) -> np.ndarray:
    """Embeddings of unit norm, `BATCH` windows at a time and without what training would need."""
    found = np.empty((len(waves), dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(waves), BATCH):
            found[start : start + BATCH] = few(waves[start : start + BATCH]).cpu().numpy()
    return unit(found)


def _roberta_config(text: Any) -> Any:
    """RoBERTa's config from that of a `ClapTextModel`."""
    from transformers import RobertaConfig

    same = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
    )  # fmt: skip
    return RobertaConfig(**{name: getattr(text, name) for name in same})
