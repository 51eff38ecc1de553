"""Read the tensors of a file without running anything of it, and put them into a model, all of them or none."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError

__all__ = ["fit", "htsat_config", "htsat_tensors", "read_tensors"]


def read_tensors(path: Path, keys: tuple[str, ...] = ("state_dict", "model")) -> dict[str, Tensor]:
    """Tensors by name, of a file by torch.save or of a ``.safetensors``; big ones are mapped, not read.

    Parameters
    ----------
    path
        The file. Code pickled into it is refused and not run; numpy's numbers, which training scripts save with the
        weights, are allowed.
    keys
        Under which of these the tensors may be, in a file that holds more than they; ``module.`` before all names,
        which training on several GPUs leaves behind, is removed.

    Raises
    ------
    AudiotkError
        The file holds pickled objects, is cut, is no such file, or holds no tensors.
    """
    held = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    for key in keys:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise AudiotkError(f"{path}: holds no table of tensors; is it a file of the weights of a model?")
    if all(name.startswith("module.") for name in held):
        return {name.removeprefix("module."): value for name, value in held.items()}
    return dict(held)


def _torch_file(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as err:  # of bytes that are no pickle the reader makes any error there is
        raise AudiotkError(f"{path}: {_trouble(path, zipped, err)}") from err


def _trouble(path: Path, zipped: bool, err: Exception) -> str:
    """What is wrong with a file that torch could not read."""
    with open(path, "rb") as file:
        start = file.read(256).lstrip()
    if start[:1] == b"<":
        return "is a web page, not the weights; fetch the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights; fetch the file itself"
    if start.startswith(b"PK") and not zipped:
        return "was cut off; fetch it again"
    refused = [line for line in str(err).splitlines() if "GLOBAL " in line]  # the line that names what was refused
    if isinstance(err, pickle.UnpicklingError) and refused:
        told = refused[0].partition("GLOBAL ")[2].split()[0]
        return f"holds pickled Python objects ({told}) and was refused; nothing of it was run"
    return f"is no file of weights, or damaged ({str(err).strip().partition(chr(10))[0]})"


def _numbers() -> list[Any]:
    """Of numpy, what a pickled number needs, under the names of numpy 1 and 2; none of these can run code."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = ("float16", "float32", "float64", "int32", "int64", "bool")
    return [*((scalar, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as err:
        raise AudiotkError(f"{path}: is no safetensors file, or damaged ({err})") from err


def fit(model: nn.Module, tensors: Mapping[str, Tensor], constants: Mapping[str, Tensor], where: str | Path) -> None:
    """Put copies of `tensors` and `constants` into a model made on the meta device; names and shapes must all match.

    Raises
    ------
    AudiotkError
        A tensor is missing, too many or of another shape; the text names the first ones.
    """
    wanted = model.state_dict()
    told = []
    if missing := sorted(set(wanted) - set(tensors) - set(constants)):
        told.append(f"lacks {_few(missing)}")
    if extra := sorted(set(tensors) - set(wanted)):
        told.append(f"holds {_few(extra)}, which the model does not have")
    both = [name for name in wanted if name in tensors]
    if other := [name for name in both if tensors[name].shape != wanted[name].shape]:
        name = other[0]
        told.append(f"has {name} of shape {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}")
    if told:
        raise AudiotkError(f"{where}: does not fit a {type(model).__name__}: it {'; it '.join(told)}")
    copies = {name: tensors[name].to(wanted[name].dtype, copy=True) for name in both}
    rest = {name: value for name, value in constants.items() if name in wanted and name not in copies}
    model.load_state_dict(copies | rest, strict=True, assign=True)
    if left := [name for name, value in [*model.named_parameters(), *model.named_buffers()] if value.is_meta]:
        raise AudiotkError(f"{where}: this version of transformers also wants {_few(left)}; update transformers")
    model.eval().requires_grad_(False)


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# --- the names of HTS-AT ----------------------------------------------------------------------------------------------

DROPPED = ("spectrogram_extractor.", "logmel_extractor.", "tscam_conv.", "head.")  # our own mel; classes of AudioSet
PARTS = {
    ".norm1.": ".layernorm_before.", ".norm2.": ".layernorm_after.", ".attn.proj.": ".attention.output.dense.",
    ".attn.": ".attention.self.", ".mlp.fc1.": ".intermediate.dense.", ".mlp.fc2.": ".output.dense.",
}  # fmt: skip


def htsat_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors of HTS-AT under `prefix` by the names that transformers' `ClapAudioModel` has for them.

    Dropped are what we compute ourselves (spectrogram, masks, numbers of positions) and the heads for AudioSet.
    """
    renamed = {}
    for whole, tensor in tensors.items():
        if not whole.startswith(prefix):
            continue
        name = whole.removeprefix(prefix)
        if name.startswith(DROPPED) or name.endswith((".attn_mask", ".relative_position_index")):
            continue
        name = f"audio_encoder.{'batch_norm' + name[3:] if name.startswith('bn0.') else name}"
        if ".attn.qkv." in name:  # (3 C, C) or (3 C,)
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.self.{part}.")] = third
            continue
        for old, new in PARTS.items():
            if old in name:
                name = name.replace(old, new)
                break
        renamed[name] = tensor
    return renamed


def htsat_config(renamed: Mapping[str, Tensor], where: str | Path) -> dict[str, Any]:
    """Options of `ClapAudioConfig`, read from the shapes of what `htsat_tensors` gave.

    Raises
    ------
    AudiotkError
        There is no HTS-AT among the tensors.
    """
    patches = renamed.get("audio_encoder.patch_embed.proj.weight")
    if patches is None or patches.ndim != 4:
        raise AudiotkError(
            f"{where}: has no HTS-AT (no patch_embed.proj.weight) among its tensors; is it another model?"
        )
    depths: list[int] = []
    heads: list[int] = []
    while (table := renamed.get(_table(len(depths), 0))) is not None:
        heads.append(int(table.shape[-1]))
        depths.append(sum(_table(len(depths), block) in renamed for block in range(100)))
    width = int(patches.shape[0])
    fusion = "audio_encoder.patch_embed.mel_conv2d.weight" in renamed
    return {
        "patch_embeds_hidden_size": width, "hidden_size": width * 2 ** max(len(depths) - 1, 0), "depths": depths,
        "num_attention_heads": heads, "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None,
    }  # fmt: skip


def _table(stage: int, block: int) -> str:
    return f"audio_encoder.layers.{stage}.blocks.{block}.attention.self.relative_position_bias_table"
