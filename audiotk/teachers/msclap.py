"""Microsoft CLAP 2023 (Elizalde et al.), the teacher of P1: HTS-AT and GPT-2, read safely from the released file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.teachers.clap import AudioTower, Clap, embedding_dtype, on_device, repeated
from audiotk.teachers.laion import constants
from audiotk.teachers.mel import ClapMel, MelSettings
from audiotk.teachers.state import fit, htsat_config, htsat_tensors, read_tensors
from audiotk.teachers.texts import TextReader, load_tokenizer
from audiotk.teachers.weights import MICROSOFT, find_tokenizer, find_weights

__all__ = ["END", "MsClap", "Towers", "towers"]

END = " <|endoftext|>"  # the package puts it behind every text and embeds the text by what this token has read
PAD = "!"  # token 0 of GPT-2
# The package makes its mel filters for 32 kHz and hears sound at 44.1 kHz through them; so did the weights in training.
MEL = MelSettings(sr=32000, hop=320)


class MsClap(Clap):
    """Microsoft CLAP 2023: 7 s at 44.1 kHz -> 1024 numbers.

    Parameters
    ----------
    weights
        Path of ``CLAP_weights_2023.pth``; default: the cache, else a download.
    sha256
        What the file's hash must be.
    tokenizer
        Folder with GPT-2's ``vocab.json`` and ``merges.txt``; default: the cache, else a download. Only asked for when
        the first text comes.
    device, dtype, compile, batch
        As in `audiotk.teachers.laion.LaionClap`.

    Raises
    ------
    AudiotkError
        No weights, or such that do not fit, are damaged or hold pickled objects.

    References
    ----------
    Elizalde et al., Natural language supervision for general-purpose audio representations. ICASSP 2024.
    """

    name = "msclap"
    sr = 44100
    window_s = 7.0

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str | Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        compile: bool = False,
        batch: int | None = None,
    ) -> None:
        of, place = embedding_dtype(dtype), on_device(device)
        path, checksum = find_weights(weights, MICROSOFT, sha256)
        both = towers(read_tensors(path, ("model",)), path)
        tower = AudioTower(ClapMel(MEL), both.audio.audio_encoder, both.audio_projection, of)
        text, projection = both.text.to(place), both.text_projection.to(place)

        def find() -> Any:
            folder = find_tokenizer(tokenizer, "gpt2")
            return load_tokenizer("GPT2TokenizerFast", folder, text.config.vocab_size, 0, pad=PAD)

        def encode(numbers: Tensor, mask: Tensor) -> Tensor:
            """(n, tokens) twice -> (n, dim), from where the last token stands if no `!` were in the text."""
            hidden = text(input_ids=numbers, attention_mask=mask).last_hidden_state  # (n, tokens, width)
            last = numbers.ne(0).sum(1) - 1  # (n,); an exclamation mark is token 0 too: the package counts like this
            return projection(hidden[torch.arange(len(hidden), device=hidden.device), last])

        self._set_up(
            tower, TextReader(self.name, find, encode, END, place), logit_scale=both.logit_scale.exp().item(),
            checksum=checksum, device=place, dtype=dtype, compile=compile, batch=batch,
        )  # fmt: skip

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound [shape=(n,)] repeated to the end of the window, as the package does."""
        return repeated(self, wave, whole=False)


class Towers(nn.Module):
    """The two towers and their projections; `audio` is transformers' `ClapAudioModel`, `text` its `GPT2Model`."""

    def __init__(self, audio: Any, text: Any, widths: tuple[int, int, int]) -> None:
        super().__init__()
        audio_width, text_width, dim = widths
        self.audio: Any = audio
        self.text: Any = text
        self.audio_projection, self.text_projection = _Projection(audio_width, dim), _Projection(text_width, dim)
        self.logit_scale = nn.Parameter(torch.zeros(()))


class _Projection(nn.Module):
    """(n, width) -> (n, dim): one linear layer, a second one added to it, and a norm over the numbers."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(x)  # (n, dim)
        return self.layer_norm(x + self.linear2(F.gelu(x)))


def towers(tensors: Mapping[str, Tensor], where: str | Path) -> Towers:
    """The model with the tensors of Microsoft's file; sizes are read from their shapes.

    Raises
    ------
    AudiotkError
        Another model's tensors, or one is missing, too many, or of another shape.
    """
    from transformers import ClapAudioConfig, GPT2Config, GPT2Model
    from transformers.models.clap.modeling_clap import ClapAudioModel

    audio = htsat_tensors(tensors, "audio_encoder.base.htsat.")
    options = htsat_config(audio, where)
    embeddings = {"rows": "caption_encoder.base.wte.weight", "places": "caption_encoder.base.wpe.weight"}
    dims = "audio_encoder.projection.linear1.weight"
    if absent := [name for name in (*embeddings.values(), dims) if name not in tensors]:
        raise AudiotkError(f"{where}: lacks {absent[0]}; expected Microsoft's CLAP_weights_2023.pth (HTS-AT and GPT-2)")
    rows, width = tensors[embeddings["rows"]].shape
    layers = len({name.split(".")[3] for name in tensors if name.startswith("caption_encoder.base.h.")})
    text_config = GPT2Config(
        vocab_size=rows,
        n_positions=len(tensors[embeddings["places"]]),
        n_embd=width,
        n_layer=layers,
        n_head=width // 64,
    )
    with torch.device("meta"):
        sizes = (options["hidden_size"], int(width), int(tensors[dims].shape[0]))
        model = Towers(ClapAudioModel(ClapAudioConfig(**options)), GPT2Model(text_config), sizes)
    fit(model, _renamed(tensors) | {f"audio.{name}": tensor for name, tensor in audio.items()}, constants(model), where)
    return model


PREFIXES = {
    "caption_encoder.base.": "text.", "caption_encoder.projection.": "text_projection.",
    "audio_encoder.projection.": "audio_projection.",
}  # fmt: skip


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All but HTS-AT by our names; masks, which older versions of transformers kept with the weights, are dropped."""
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("audio_encoder.base.") or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        for old, new in PREFIXES.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor
    return renamed
