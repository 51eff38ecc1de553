"""Files of weights: where they are looked for, and that no bad one is loaded, run or half loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audiotk.errors import AudiotkError
from audiotk.teachers import weights
from audiotk.teachers.laion import clap_model
from audiotk.teachers.msclap import towers
from audiotk.teachers.state import htsat_config, htsat_tensors, read_tensors


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def test_a_path_comes_first_then_the_cache(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "630k-audioset-best.pt").write_bytes(b"cached")
    (tmp_path / "mine.pt").write_bytes(b"mine")
    assert weights.find_weights(tmp_path / "mine.pt", weights.LAION)[0] == tmp_path / "mine.pt"
    path, checksum = weights.find_weights(None, weights.LAION)
    assert path == cache / "630k-audioset-best.pt"
    assert checksum == weights.digest(path)
    assert weights.find_weights("630k-audioset-best.pt", weights.LAION, checksum.upper())[0] == path
    with pytest.raises(AudiotkError, match=f"has the SHA-256 {checksum}, expected 00ff"):
        weights.find_weights(None, weights.LAION, "00ff")
    with pytest.raises(AudiotkError, match=r"nowhere.pt: there is no such file"):
        weights.find_weights(tmp_path / "nowhere.pt", weights.LAION)


@pytest.mark.parametrize(("released", "page"), [(weights.LAION, "lukewys"), (weights.MICROSOFT, "microsoft/msclap")])
def test_offline_the_error_says_which_file_to_put_where(
    cache: Path, released: tuple[weights.Released, ...], page: str
) -> None:
    with pytest.raises(AudiotkError) as caught:
        weights.find_weights(None, released)
    told = str(caught.value)
    assert "HF_HUB_OFFLINE" in told
    assert f"download {released[0].file} from huggingface.co/{page}" in told
    assert told.endswith(f"and put it into {cache}")


def test_a_download_goes_to_the_cache_or_says_why_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    asked: list[Any] = []

    def retrieve(url: str, known: str | None, fname: str, path: Path, progressbar: bool) -> str:
        asked.append((url, known, progressbar))
        (path / fname).write_bytes(b"fetched")
        return str(path / fname)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert weights.find_weights(None, weights.MICROSOFT)[0].read_bytes() == b"fetched"
    assert weights.find_weights(None, weights.MICROSOFT)[0].parent == cache
    assert asked == [("https://huggingface.co/microsoft/msclap/resolve/main/CLAP_weights_2023.pth", None, True)]

    def broken(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", broken)
    with pytest.raises(AudiotkError, match=r"download failed \(no route\); download 630k-best.pt from"):
        weights.find_weights("630k-best.pt", weights.LAION)


def test_a_tokenizer_is_looked_for_in_the_cache(cache: Path) -> None:
    folder = cache / "gpt2"
    with pytest.raises(AudiotkError, match=r"vocab.json from huggingface.co/openai-community/gpt2"):
        weights.find_tokenizer(None, "gpt2")
    folder.mkdir(parents=True)
    for file in weights.TOKENIZER_FILES:
        (folder / file).touch()
    assert weights.find_tokenizer(None, "gpt2") == folder


# --- bad files --------------------------------------------------------------------------------------------------------


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, burst = tmp_path / "bomb.pt", tmp_path / "burst"
    held = {"state_dict": {"a": torch.zeros(2)}, "epoch": Bomb(burst)}
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        AudiotkError, match=r"holds pickled Python objects \(\w+.mkdir\) and was refused; nothing of it was run"
    ):
        read_tensors(path)
    assert not burst.exists()


def write_html(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>Sign in</html>")


def write_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def write_cut(path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, path)
    path.write_bytes(path.read_bytes()[:200_000])


def write_list(path: Path) -> None:
    torch.save([1, 2, 3], path)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (write_html, "is a web page"),
        (write_pointer, "pointer of Git LFS"),
        (write_cut, "was cut off"),
        (write_list, "holds no table of tensors"),
        (lambda path: path.write_bytes(b"abc" * 1000), "is no file of weights, or damaged"),
        (lambda path: path.write_bytes(b""), "is no file of weights, or damaged"),
        (lambda path: torch.save({}, path), "holds no table of tensors"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, write: Callable[[Path], Any], told: str) -> None:
    write(tmp_path / "x.pt")
    with pytest.raises(AudiotkError, match=told):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path: Path, zipped: bool) -> None:
    held = {"epoch": np.int64(3), "best": np.float64(0.5), "state_dict": {"module.a": torch.ones(2)}}
    torch.save(held, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert read_tensors(tmp_path / "x.pt")["a"].tolist() == [1, 1]


def test_numbers_of_numpy_1_are_read(tmp_path: Path) -> None:
    held = {"epoch": np.int64(3), "state_dict": {"a": torch.ones(2)}}
    torch.save(held, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "x.pt").read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "x.pt").write_bytes(old)  # protocol 2 writes names as lines, so they may change their length
    assert read_tensors(tmp_path / "x.pt")["a"].tolist() == [1, 1]


# --- weights that do not fit ------------------------------------------------------------------------------------------


def small_laion() -> dict[str, torch.Tensor]:
    """Names of a checkpoint with one stage of one block, 8 wide; enough to be told what is wrong with it."""
    block, text, layer = "audio_branch.layers.0.blocks.0.", "text_branch.", "text_branch.encoder.layer.0."
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale_a": (), "logit_scale_t": (),
        "audio_branch.bn0.num_batches_tracked": (), "audio_branch.patch_embed.proj.weight": (8, 1, 4, 4),
        "audio_branch.tscam_conv.weight": (3, 3), f"{block}attn.relative_position_bias_table": (225, 2),
        f"{text}embeddings.word_embeddings.weight": (10, 64), f"{text}embeddings.position_embeddings.weight": (12, 64),
        f"{text}embeddings.token_type_embeddings.weight": (1, 64), f"{block}attn.qkv.weight": (24, 8),
        f"{block}attn.qkv.bias": (24,), f"{block}attn.proj.weight": (8, 8), f"{block}mlp.fc1.weight": (32, 8),
        f"{block}mlp.fc2.weight": (8, 32), "audio_projection.0.weight": (16, 8), "audio_projection.2.weight": (16, 16),
        "text_projection.0.weight": (16, 64), "text_projection.2.weight": (16, 16),
        f"{layer}intermediate.dense.weight": (128, 64), f"{layer}output.dense.weight": (64, 128),
        f"{text}pooler.dense.weight": (64, 64), "audio_branch.norm.weight": (8,),
    }  # fmt: skip
    for name in [*shapes]:
        if name.endswith(("proj.weight", "fc1.weight", "fc2.weight", "dense.weight", "0.weight", "2.weight")):
            shapes[name.replace(".weight", ".bias")] = shapes[name][:1]
    for name in ("query", "key", "value"):
        shapes |= {f"{layer}attention.self.{name}.weight": (64, 64), f"{layer}attention.self.{name}.bias": (64,)}
    shapes |= {f"{layer}attention.output.dense.weight": (64, 64), f"{layer}attention.output.dense.bias": (64,)}
    norms = {
        f"{block}norm1": 8, f"{block}norm2": 8, "audio_branch.norm": 8, "audio_branch.patch_embed.norm": 8,
        f"{text}embeddings.LayerNorm": 64, f"{layer}attention.output.LayerNorm": 64, f"{layer}output.LayerNorm": 64,
        "audio_branch.bn0": 64,
    }  # fmt: skip
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"audio_branch.bn0.running_mean": (64,), "audio_branch.bn0.running_var": (64,)}
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def test_all_tensors_must_fit() -> None:
    good = small_laion()
    model = clap_model(good, "good.pt")
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    table = "audio_branch.layers.0.blocks.0.attn.relative_position_bias_table"
    without = {name: value for name, value in good.items() if name != "audio_branch.norm.weight"}
    with pytest.raises(
        AudiotkError, match=r"bad.pt: does not fit a ClapModel: it lacks audio_model.audio_encoder.norm.w"
    ):
        clap_model(without, "bad.pt")
    with pytest.raises(AudiotkError, match="it holds audio_transform2, zebra, which the model does not have"):
        clap_model(good | {"zebra": torch.ones(1), "audio_transform2": torch.ones(1)}, "bad.pt")
    with pytest.raises(AudiotkError, match=r"bias_table of shape \(9, 2\), expected \(225, 2\)"):
        clap_model(good | {table: torch.ones(9, 2)}, "bad.pt")


def test_another_architecture_is_named() -> None:
    other = {"conv1.weight": torch.zeros(3, 3)}
    with pytest.raises(AudiotkError, match="has no HTS-AT"):
        clap_model(other, "resnet.pt")
    with pytest.raises(AudiotkError, match="has no HTS-AT"):
        towers(small_laion(), "laion.pt")
    with pytest.raises(AudiotkError, match="expected a checkpoint of LAION-CLAP with HTS-AT and RoBERTa"):
        clap_model({name: value for name, value in small_laion().items() if "text" not in name}, "audio.pt")
    renamed = {f"audio_encoder.base.htsat.{name[13:]}": value for name, value in small_laion().items()}
    with pytest.raises(AudiotkError, match=r"lacks caption_encoder.base.wte.weight"):
        towers(renamed, "half.pth")


def test_sizes_are_read_from_shapes() -> None:
    told = htsat_config(htsat_tensors(small_laion(), "audio_branch."), "x")
    assert (told["depths"], told["num_attention_heads"], told["hidden_size"]) == ([1], [2], 8)
    assert not told["enable_fusion"]


def test_the_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from audiotk.teachers import packages

    def absent(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(packages, "importlib", SimpleNamespace(import_module=absent))
    with pytest.raises(AudiotkError, match="pip install --no-deps msclap"):
        packages._import("msclap", "msclap")


def test_finding_weights_needs_no_torch() -> None:
    script = (
        "import sys, audiotk.teachers, audiotk.teachers.weights as w; print({'torch', 'transformers'} & {*sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
