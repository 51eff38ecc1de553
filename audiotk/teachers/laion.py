"""LAION-CLAP (Wu et al. 2023): a released checkpoint, read safely into the modules of transformers' `ClapModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotk.errors import AudiotkError
from audiotk.teachers.clap import AudioTower, Clap, embedding_dtype, on_device, repeated
from audiotk.teachers.htsat import position_index
from audiotk.teachers.mel import ClapMel, MelSettings
from audiotk.teachers.state import fit, htsat_config, htsat_tensors, read_tensors
from audiotk.teachers.texts import TextReader, load_tokenizer
from audiotk.teachers.weights import LAION, find_tokenizer, find_weights

__all__ = ["LaionClap", "clap_model", "constants", "text_reader"]

# The second, small networks behind the embeddings are of the training only.
DROPPED = ("audio_branch.", "audio_transform.", "text_transform.", "text_branch.embeddings.position_ids")


class LaionClap(Clap):
    """LAION-CLAP with HTS-AT and RoBERTa: 10 s at 48 kHz -> 512 numbers.

    HTSAT-tiny (``630k-*.pt``), HTSAT-base (``music_*.pt``) and the models with fusion are told apart by their tensors.
    Fusion looks at sound that is longer than a window as a whole; here longer sound is heard in several windows, each
    on its own, so that path is never taken.

    Parameters
    ----------
    weights
        Path of a checkpoint, or the name of a released one (see `audiotk.teachers.weights.LAION`), which is looked for
        in the cache and else downloaded; default ``630k-audioset-best.pt``.
    sha256
        What the file's hash must be.
    tokenizer
        Folder with RoBERTa's ``vocab.json`` and ``merges.txt``; default: the cache, else a download. Only asked for
        when the first text comes.
    device
        As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    dtype
        Of HTS-AT: ``float32``, ``bfloat16`` or ``float16``. Faster only where the processor has it (a CPU with AMX or
        AVX-512 BF16, a GPU); elsewhere several times slower. Spectrogram, projection, the last norm and texts are
        float32 always. bfloat16 moved single numbers of an embedding by up to 1.5e-3 (cosine above 0.9999) on random
        weights.
    compile
        Let torch.compile make faster code of it, which takes a minute and needs a C++ compiler on a CPU.
    int16
        Cut sound to 16 bit first, as the package does; changes embeddings of quiet sound by up to 4e-3.
    batch
        Windows at once; default 8, on a GPU 64.

    Raises
    ------
    AudiotkError
        No weights, or such that do not fit, are damaged or hold pickled objects.

    References
    ----------
    Wu et al., Large-scale contrastive language-audio pretraining with feature fusion and keyword-to-caption
    augmentation. ICASSP 2023.
    """

    name = "laion-clap"
    sr = 48000
    window_s = 10.0

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str | Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        compile: bool = False,
        int16: bool = False,
        batch: int | None = None,
    ) -> None:
        of, place = embedding_dtype(dtype), on_device(device)
        path, checksum = find_weights(weights, LAION, sha256)
        model = clap_model(read_tensors(path), path)
        fusion = model.config.audio_config.enable_fusion
        mel = ClapMel(MelSettings(scale="htk" if fusion else "slaney"))
        tower = AudioTower(mel, model.audio_model.audio_encoder, model.audio_projection, of, int16)
        rows, pad_id = model.config.text_config.vocab_size, model.config.text_config.pad_token_id

        def find() -> Any:
            return load_tokenizer("RobertaTokenizerFast", find_tokenizer(tokenizer, "roberta-base"), rows, pad_id)

        self._set_up(
            tower, text_reader(self.name, model, find, place), logit_scale=model.logit_scale_a.exp().item(),
            checksum=checksum, device=place, dtype=dtype, compile=compile, batch=batch,
        )  # fmt: skip

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound [shape=(n,)] repeated as often as it fits wholly, then zeros, as the package does."""
        return repeated(self, wave, whole=True)


def text_reader(name: str, model: Any, find: Callable[[], Any], device: torch.device) -> TextReader:
    """Texts through the text tower and projection of a `ClapModel`, moved to `device`; `find` gives the tokenizer."""
    text_model, projection = model.text_model.to(device), model.text_projection.to(device)

    def encode(numbers: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) twice -> (n, dim)."""
        return projection(text_model(input_ids=numbers, attention_mask=mask).pooler_output)

    return TextReader(name, find, encode, device=device)


def clap_model(tensors: Mapping[str, Tensor], where: str | Path) -> Any:
    """A `ClapModel` with the tensors of a checkpoint of laion_clap; its sizes are read from their shapes.

    Raises
    ------
    AudiotkError
        Another model's tensors, or one is missing, too many, or of another shape.
    """
    from transformers import ClapConfig, ClapModel

    audio = htsat_tensors(tensors, "audio_branch.")
    config = ClapConfig(
        audio_config=htsat_config(audio, where),
        text_config=_text_config(tensors, where),
        projection_dim=_shape(tensors, "audio_projection.2.weight", where)[0],
    )
    renamed = {f"audio_model.{name}": tensor for name, tensor in audio.items()}
    for name, tensor in tensors.items():
        if not name.startswith(DROPPED):
            renamed[_renamed(name)] = tensor
    with torch.device("meta"):
        model = ClapModel(config)
    fit(model, renamed, constants(model), where)
    return model


def constants(model: Any) -> dict[str, Tensor]:
    """What a `ClapModel` keeps among its weights although it follows from its sizes."""
    found = {}
    for name, value in model.state_dict().items():
        if name.endswith("position_ids"):
            found[name] = torch.arange(value.shape[-1])[None]
        elif name.endswith("token_type_ids"):
            found[name] = torch.zeros(value.shape, dtype=torch.long)
        elif name.endswith("relative_position_index"):
            found[name] = position_index(round(value.shape[0] ** 0.5))
    return found


def _renamed(name: str) -> str:
    """Name in laion_clap -> name in `ClapModel`, for all but the audio tower."""
    for part in ("audio_projection", "text_projection"):
        for old, new in (("0", "linear1"), ("2", "linear2")):
            if name.startswith(f"{part}.{old}."):
                return name.replace(f"{part}.{old}.", f"{part}.{new}.")
    return f"text_model.{name.removeprefix('text_branch.')}" if name.startswith("text_branch.") else name


def _text_config(tensors: Mapping[str, Tensor], where: str | Path) -> dict[str, Any]:
    """Options of `ClapTextConfig` from the shapes of a RoBERTa; 64 numbers a head, as all of that family have."""
    rows, width = _shape(tensors, "text_branch.embeddings.word_embeddings.weight", where)
    layers = 0
    while f"text_branch.encoder.layer.{layers}.output.dense.weight" in tensors:
        layers += 1
    return {
        "vocab_size": rows, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64,
        "intermediate_size": _shape(tensors, "text_branch.encoder.layer.0.intermediate.dense.weight", where)[0],
        "max_position_embeddings": _shape(tensors, "text_branch.embeddings.position_embeddings.weight", where)[0],
        "type_vocab_size": _shape(tensors, "text_branch.embeddings.token_type_embeddings.weight", where)[0],
        "layer_norm_eps": 1e-5,  # RoBERTa's; the default of ClapTextConfig, 1e-12, shifts embeddings by 4e-4
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip


def _shape(tensors: Mapping[str, Tensor], name: str, where: str | Path) -> tuple[int, ...]:
    if name not in tensors:
        raise AudiotkError(f"{where}: lacks {name}; expected a checkpoint of LAION-CLAP with HTS-AT and RoBERTa")
    return tuple(tensors[name].shape)
