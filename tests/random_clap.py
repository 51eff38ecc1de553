"""Random weights in the released formats, and small tokenizers: stand-ins for files that could not be had.

The names of the tensors are those of the packages' own models (laion-clap, msclap), so the packages can read these
files too and are the oracles of the tests. Audio towers have their real size; text towers have few layers and a small
vocabulary unless asked otherwise.

>>> files = laion_files(folder, text_layers=1)     # files.weights, files.tokenizer
>>> LaionClap(files.weights, tokenizer=files.tokenizer)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

TEXTS = (
    "This is a sound of dog barking", "This is a sound of heavy rain on a roof", "This is a sound of a woman singing",
    "a truck passes by while birds sing in the morning", "glass breaks", "keyboard typing, then a door is closed",
    "an engine that idles", "crying baby", "someone laughs out loud", "This is a sound of a siren far away",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Where a checkpoint and its tokenizer lie."""

    weights: Path
    tokenizer: Path


def laion_files(folder: Path, amodel: str = "HTSAT-tiny", fusion: bool = False, text_layers: int = 1) -> Files:
    """A checkpoint as LAION's: names with ``module.``, numpy numbers beside the weights, and its tokenizer.

    Parameters
    ----------
    folder
        Where to write; made when missing.
    amodel
        ``HTSAT-tiny`` or ``HTSAT-base``, as laion_clap names them.
    fusion
        With the weights for longer sound.
    text_layers
        Of RoBERTa (the released ones have 12).
    """
    tokenizer = roberta_tokenizer(folder / "roberta")
    state = randomize(laion_shapes(amodel, fusion, text_layers, vocabulary(tokenizer)), seed=len(amodel) + fusion)
    rows = state["text_branch.embeddings.position_embeddings.weight"].shape[0]
    state["text_branch.embeddings.position_ids"] = torch.arange(rows)[None]
    weights = folder / f"laion-{amodel}{'-fusion' * fusion}.pt"
    held = {"epoch": np.int64(3), "name": "random", "best": np.float64(0.5), "optimizer": {"state": {}}}
    torch.save(held | {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, weights)
    return Files(weights, tokenizer)


def ms_files(folder: Path, text_layers: int = 1) -> Files:
    """A checkpoint as Microsoft's of 2023, and its tokenizer; the released one has 12 layers of GPT-2."""
    tokenizer = gpt2_tokenizer(folder / "gpt2")
    state = randomize(ms_shapes(text_layers, vocabulary(tokenizer)), seed=7)
    for layer in range(text_layers):  # what transformers of 2023 kept with the weights
        state[f"caption_encoder.base.h.{layer}.attn.bias"] = torch.ones(1, 1, 1024, 1024, dtype=torch.uint8).tril()
        state[f"caption_encoder.base.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    weights = folder / "ms.pth"
    torch.save({"model": state}, weights)
    return Files(weights, tokenizer)


# --- tensors of the packages' models ----------------------------------------------------------------------------------


def laion_shapes(amodel: str, fusion: bool, text_layers: int, rows: int) -> dict[str, Tensor]:
    """Tensors of laion_clap's own model."""
    from audiotk.teachers.packages import laion_package

    return laion_package(roberta_config(text_layers, rows), None, amodel, fusion).model.state_dict()


def ms_shapes(text_layers: int, rows: int) -> dict[str, Tensor]:
    """Tensors of msclap's own model."""
    from audiotk.teachers.packages import ms_package

    return ms_package(gpt2_config(text_layers, rows), None, None).clap.state_dict()


def roberta_config(layers: int, rows: int) -> Any:
    from transformers import RobertaConfig

    return RobertaConfig(
        vocab_size=rows, num_hidden_layers=layers, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    )


def gpt2_config(layers: int, rows: int) -> Any:
    from transformers import GPT2Config

    return GPT2Config(vocab_size=rows, n_layer=layers)


def randomize(shapes: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Values for tensors, each from its name and `seed` alone, of a size that makes every part of a model matter.

    Norms get statistics of spectrograms in dB, biases are not zero, and attention is not uniform. What follows from
    the sizes (spectrogram, masks, numbers of positions) is kept.
    """
    made = {}
    for name, tensor in sorted(shapes.items()):
        draw = torch.empty(tensor.shape).normal_(generator=torch.Generator().manual_seed(seed + crc32(name.encode())))
        if "_extractor." in name or name.endswith("attn_mask") or not tensor.dtype.is_floating_point:
            made[name] = tensor.clone()
        elif name.endswith(("logit_scale", "logit_scale_a", "logit_scale_t")):
            made[name] = math.log(1 / 0.07) + 0.1 * draw
        elif name.endswith("running_mean"):
            made[name] = -40 + 5 * draw
        elif name.endswith("running_var"):
            made[name] = 300 + 20 * draw.abs()
        elif tensor.ndim == 1:
            made[name] = 0.1 * draw + (1 if name.endswith("weight") else 0)
        elif "embeddings" in name or name.endswith(("wte.weight", "wpe.weight", "bias_table")):
            made[name] = 0.5 * draw
        else:
            made[name] = draw / math.sqrt(draw[0].numel())
    return made


# --- tokenizers -------------------------------------------------------------------------------------------------------


def roberta_tokenizer(folder: Path) -> Path:
    """A byte-level BPE trained on `TEXTS`, with RoBERTa's special tokens at their places."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    return _tokenizer(folder, specials, ["<mask>"])


def gpt2_tokenizer(folder: Path) -> Path:
    """The same with GPT-2's: ``!`` is token 0, ``<|endoftext|>`` the last."""
    return _tokenizer(folder, [], ["<|endoftext|>"])


def _tokenizer(folder: Path, first: list[str], last: list[str]) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXTS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.model.save(str(folder))
    path = folder / "vocab.json"
    vocab = json.loads(path.read_text("utf-8"))
    vocab |= {token: len(vocab) + n for n, token in enumerate(last)}
    path.write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    return folder


def vocabulary(tokenizer: Path) -> int:
    """Tokens of a tokenizer in a folder."""
    return len(json.loads((tokenizer / "vocab.json").read_text("utf-8")))
