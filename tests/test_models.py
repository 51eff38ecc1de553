"""Networks against the sizes the papers print, a slow twin of the attention, and checkpoints that cannot lie."""

from __future__ import annotations

import copy
import json
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotk.errors import AudiotkError
from audiotk.files import package_commit
from audiotk.losses import masked_bce
from audiotk.models import (
    DEMO,
    MODELS,
    MelCNN,
    WaveformModel,
    build,
    count_macs,
    count_parameters,
    macs_by_layer,
)
from audiotk.models.acdnet import _AttentionLayer
from audiotk.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

SMALL: dict[str, dict[str, Any]] = {  # a fraction of a second of audio, to be quick
    "melcnn": {"sr": 8000, "clip_s": 0.5, "mels": 20, "n_fft": 256, "hop": 80},
    "acdnet": {"sr": 8000, "clip_s": 0.5, "width": 0.25},
    "rawcnn": {"sr": 8000, "clip_s": 0.5, "filters": (8, 8, 8), "kernels": (17, 16, 9), "dense": (16, 8)},
}
NAMES = sorted(MODELS)


def small(name: str, n_classes: int = 3, seed: int = 0) -> WaveformModel:
    return build(name, n_classes, rng=np.random.default_rng(seed), **SMALL[name])


def noise(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, (batch, samples)).astype(np.float32))


# --- sizes ------------------------------------------------------------------------------------------------------------

# parameters and MACs of each block of the reconstruction, counted by hand from its definition
ACDNET_BLOCKS = [
    (3200, 441_332_736), (4962, 70_090_752), (53248, 408_354_816), (68994, 265_125_888),
    (102400, 199_606_272), (7650, 6_761_472), (7168, 3_333_120),
]  # fmt: skip


def test_acdnet_meets_the_papers_numbers() -> None:
    model = build("acdnet", 11)
    assert count_parameters(model) == 248_337  # P1: 248.54 K
    assert count_parameters(model) == pytest.approx(248_540, rel=1e-3)
    macs = macs_by_layer(model)
    for i, (parameters, expected) in enumerate(ACDNET_BLOCKS):
        assert count_parameters(model.get_submodule(f"blocks.{i}")) == parameters
        assert sum(m for name, m in macs.items() if name.startswith(f"blocks.{i}.")) == expected
    assert macs["head"] == 64 * 11
    assert count_macs(model) == 1_394_605_760
    assert count_macs(model) + 5e6 == pytest.approx(1.40e9, rel=2e-3)  # P1: 1.40 G including features


def test_acdnet_map_sizes() -> None:
    sizes = []
    for pools, bins in (((5, 1, 1, 1, 1, 1, 2), 2), ((2, 2, 2, 1, 1, 1, 1), 2)):
        model = build("acdnet", 11, time_pools=pools, width=0.125)
        with torch.no_grad():
            last = model.eval().get_submodule("blocks")(model.get_submodule("front")(torch.zeros(1, 160000)))
        assert last.shape[3] == bins
        sizes.append(last.shape[2])
    assert sizes == [62, 78]  # P1 prints (62, 2)
    assert (
        count_macs(build("acdnet", 11, time_pools=(2, 2, 2, 1, 1, 1, 1))) == 1_430_108_864
    )  # models.md: 1.435 G with FFT


def test_acdnet_parts_that_no_count_shows() -> None:
    model = build("acdnet", 11)
    depthwise = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert [m.dilation for m in depthwise] == [(1, 1), (2, 2), (1, 1), (2, 2), (1, 1), (2, 2), (1, 1)]
    for i in range(7):  # a linear bottleneck: the last layers of a block are norm and pooling, without activation
        kinds = [type(m).__name__ for m in model.get_submodule(f"blocks.{i}").children()]
        assert kinds[-3:] == ["Conv2d", "BatchNorm2d", "MaxPool2d"]
    wave = noise(1, model.samples)
    last = model.eval().get_submodule("blocks")(model.get_submodule("front")(wave))
    torch.testing.assert_close(model.embed(wave), last.mean(2).flatten(1))  # average pooling of time, (1, 32 * 2)
    assert all(m.weight.detach().eq(0.25).all() for m in model.modules() if isinstance(m, torch.nn.PReLU))


def test_rawcnn_meets_table_two() -> None:
    lengths: list[int] = []
    model = build("rawcnn", 18, sr=8000)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv1d):
            layer.register_forward_hook(lambda _layer, _inputs, output: lengths.append(output.shape[2]))
    model.eval()(torch.zeros(1, 80000))
    assert lengths == [26662, 8883, 2957, 982, 324, 105, 33, 9, 1]
    assert model.min_samples == 80000
    sizes = [count_parameters(build("rawcnn", n, sr=8000)) for n in (18, 55, 72, 176, 632)]
    assert sizes[0] == 1_744_914
    assert sizes[-1] == 1_824_120
    assert all(1.74e6 < size < 1.83e6 for size in sizes)  # P2: 1.8 M


def test_melcnn_sizes() -> None:
    assert count_parameters(build("melcnn", 10)) == 115_322
    assert count_parameters(build("melcnn", 10, deeper=True)) > 2.5 * 115_322
    assert count_macs(build("melcnn", 10)) == 16 * 501 * 64 * 9 + 32 * 250 * 32 * 9 * 16 + 64 * 125 * 16 * 9 * 32 + (
        128 * 62 * 8 * 9 * 64 + 128 * 128 + 128 * 10
    )
    assert build("melcnn", 10, width=0.5).embed_dim == 64


def test_demo_variants_are_narrow() -> None:
    sizes = {name: count_parameters(build(name, 6, **DEMO[name])) for name in NAMES}
    assert sizes == {"acdnet": 18_416, "melcnn": 114_758, "rawcnn": 77_046}  # models.md: 18 K, 115 K, 77 K


def test_counting_leaves_the_model_as_it_was() -> None:
    model = small("melcnn")
    before = copy.deepcopy(model.state_dict())
    model.train()
    model.get_submodule("norm").eval()
    macs = count_macs(model, 8000)
    assert model.training
    assert not model.get_submodule("norm").training
    assert count_macs(model, 16000) > 1.5 * macs
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks for m in model.modules())


# --- behaviour --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_classes", [1, 7])
def test_shapes_for_any_length_and_class_count(name: str, n_classes: int) -> None:
    model = small(name, n_classes).eval()
    for samples in (model.min_samples, model.samples, 2 * model.samples + 13):
        assert model(noise(2, samples)).shape == (2, n_classes)
        assert model.embed(noise(2, samples)).shape == (2, model.embed_dim)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_of_the_embedding(name: str) -> None:
    model, wave = small(name).eval(), noise(3, 4000)
    torch.testing.assert_close(model.head(model.embed(wave)), model(wave))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    model, wave = small(name).eval(), noise(4, 4000)
    torch.testing.assert_close(model(wave)[2:3], model(wave[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_batch_can_be_learned(name: str) -> None:
    model = small(name, 2).train()
    wave = noise(4, 4000)
    wave[::2] *= torch.sin(torch.arange(4000) * 0.5)
    targets = torch.tensor([[1.0, 0.0], [0.0, float("nan")]]).repeat(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = masked_bce(model(wave), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_silence_gives_finite_logits_and_gradients(name: str) -> None:
    model = small(name).train()
    wave = torch.zeros(2, 4000, requires_grad=True)
    model(wave).sum().backward()
    assert wave.grad is not None
    assert wave.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.eval()(wave).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_too_short_says_how_long(name: str) -> None:
    model = small(name)
    with pytest.raises(
        AudiotkError, match=rf"{name}: needs at least {model.min_samples} samples \(0\.\d+ s at 8000 Hz\)"
    ):
        model(noise(2, model.min_samples - 1))
    with pytest.raises(AudiotkError, match=r"\(B, samples\)"):
        model(torch.zeros(2, 1, 4000))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_stays_close(name: str) -> None:
    model, wave = small(name).eval(), noise(4, 4000)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(wave).float()
    torch.testing.assert_close(rough, model(wave).detach(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["acdnet", "melcnn"])
def test_a_change_is_made_to_what_the_front_end_gives(name: str) -> None:
    model, wave = small(name).eval(), noise(2, 4000)
    seen: list[torch.Size] = []

    def silenced(spectrogram: torch.Tensor) -> torch.Tensor:
        seen.append(spectrogram.shape)
        return model.front(torch.zeros(2, 4000))

    torch.testing.assert_close(model(wave, silenced), model(torch.zeros(2, 4000)))
    assert not torch.allclose(model(wave), model(wave, silenced))
    assert seen == [model.front(wave).shape] * 2


def test_rawcnn_has_no_spectrogram_to_change() -> None:
    with pytest.raises(AudiotkError, match="no spectrogram to change"):
        small("rawcnn").eval()(noise(2, 4000), lambda spectrogram: spectrogram)


def test_attention_equals_its_textbook_twin() -> None:
    torch.random.default_generator.manual_seed(0)
    d, layer = 4, _AttentionLayer(4)
    x = noise(2, d * 15).reshape(2, d, 5, 3)

    def linear(conv: Any, value: np.ndarray) -> np.ndarray:  # (positions, in) -> (positions, out)
        return value @ conv.weight.detach().numpy()[:, :, 0, 0].T + conv.bias.detach().numpy()

    def norm(value: np.ndarray) -> np.ndarray:
        return (value - value.mean()) / np.sqrt(value.var() + 1e-5)

    for b in range(2):
        flat = x[b].reshape(d, 15).T.numpy().astype(np.float64)
        mixed = linear(layer.qkv, norm(flat))
        q, k, v = mixed[:, 0], mixed[:, 1 : 1 + d], mixed[:, 1 + d :]
        share = np.exp(q) / np.exp(q).sum()
        context = sum(share[p] * k[p] for p in range(15))
        y = flat + linear(layer.out, np.maximum(v, 0) * context)
        inner = linear(layer.ffn[1], norm(y))
        y = y + linear(layer.ffn[3], inner / (1 + np.exp(-inner)))
        np.testing.assert_allclose(layer(x)[b].detach().reshape(d, 15).T.numpy(), y, rtol=1e-4, atol=1e-5)


def test_rawcnn_of_other_lengths() -> None:
    short = build("rawcnn", 5, sr=8000, clip_s=4.0)
    assert short.options["kernels"] == [17, 16, 15, 14, 13, 12, 9, 9, 1]  # the last one shortened
    assert short.min_samples <= 32000
    assert build("rawcnn", 5, sr=8000, clip_s=4.0, **short.options).options == short.options
    long, wave = build("rawcnn", 5, sr=8000, filters=(4,) * 9).eval(), noise(1, 100000)
    maps = long.get_submodule("convolutions")(wave[:, None])
    assert maps.shape[2] > 1
    torch.testing.assert_close(long.embed(wave), long.get_submodule("dense")(maps.mean(2)))


def test_rawcnn_embedding_is_before_elu_and_norm() -> None:
    model = build("rawcnn", 18, sr=8000)
    assert model.embed_dim == 128
    assert isinstance(model.get_submodule("dense")[-1], torch.nn.Linear)
    assert [type(m).__name__ for m in model.head] == ["ELU", "BatchNorm1d", "Linear"]


def test_rawcnn_says_that_it_cannot_train_on_one() -> None:
    model = small("rawcnn").train()
    with pytest.raises(AudiotkError, match="at least 2 recordings"):
        model(noise(1, 4000))


def test_frame_logits_of_a_steady_sound_are_its_logits() -> None:
    model = small("melcnn").eval()
    assert isinstance(model, MelCNN)
    constant = noise(2, 128)[:, :, None].repeat(1, 1, 6)  # a map that does not change over time
    model._frames = lambda wave, change=None: constant  # type: ignore[method-assign]
    frames = model.frame_logits(noise(2, 8000))
    assert frames.shape == (2, 6, 3)
    torch.testing.assert_close(frames, model(noise(2, 8000))[:, None].repeat(1, 6, 1))


def test_melcnn_pools_time_by_mean_plus_max() -> None:
    model = small("melcnn").eval()
    assert isinstance(model, MelCNN)
    event = torch.zeros(1, 128, 5)
    event[:, :, 2] = noise(1, 128).abs()
    model._frames = lambda wave, change=None: event  # type: ignore[method-assign]
    torch.testing.assert_close(model.embed(noise(1, 8000)), model.dense(1.2 * event[:, :, 2]))


def test_frame_logits_follow_the_sound() -> None:
    model = build("melcnn", 4, sr=8000, clip_s=4.0, rng=np.random.default_rng(3)).eval()
    assert isinstance(model, MelCNN)
    quiet = 1e-3 * noise(1, 32000)
    burst = quiet.clone()
    burst[:, 16000:18000] += noise(1, 2000, seed=1)  # 2.00 s to 2.25 s
    change = (model.frame_logits(burst) - model.frame_logits(quiet)).abs().sum(2)[0].detach().numpy()
    times = model.frame_times(32000)
    assert len(times) == len(change) == 12
    assert abs(times[change.argmax()] - 2.125) < 0.32
    assert change[np.abs(times - 2.125) > 1.0].max() < 1e-3  # far from the burst nothing changes
    np.testing.assert_allclose(times[:2], [0.15, 0.47])


# --- build ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_seeded_weights_leave_the_global_state_alone(name: str) -> None:
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = small(name, seed=1), small(name, seed=1), small(name, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_one_generator_gives_different_models() -> None:
    rng = np.random.default_rng(0)
    first, second = (build("melcnn", 3, rng=rng) for _ in range(2))
    assert not torch.equal(first.head.weight, second.head.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_options_rebuild_the_same_network(name: str) -> None:
    model = small(name)
    twin = build(name, model.n_classes, sr=model.sr, clip_s=model.clip_s, **model.options)
    assert twin.options == model.options
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    json.dumps(model.options)
    assert (model.name, model.n_classes, model.sr, model.clip_s) == (name, 3, 8000, 0.5)


def test_unknown_names_and_options_list_the_known_ones() -> None:
    with pytest.raises(AudiotkError, match="unknown model 'acdnett'; known: acdnet, melcnn, rawcnn"):
        build("acdnett", 3)
    with pytest.raises(AudiotkError, match="melcnn: unknown option mel; known: sr, clip_s, mels"):
        build("melcnn", 3, mel=64)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("melcnn", {"clip_s": 0.2}, "clip_s=0.2 s is too short.*at least 0.300 s"),
        ("melcnn", {"mels": 10}, "at least 16 mel bands"),
        ("melcnn", {"width": 0.01}, "without channels"),
        ("melcnn", {"clip_s": float("nan")}, "clip_s > 0"),
        ("melcnn", {"sr": 0}, "n_fft"),
        ("acdnet", {"clip_s": 0.1}, "too short"),
        ("acdnet", {"width": 0.05}, "at 4 channels or more"),
        ("acdnet", {"time_pools": (2, 2)}, "expected 7 poolings"),
        ("acdnet", {"frequency_pools": (2, 2, 2, 2, 2, 2, 5)}, "leave nothing of 257"),
        ("rawcnn", {"filters": (4, 4)}, "as many filters as kernels"),
        ("rawcnn", {"dense": ()}, "at least one dense layer"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AudiotkError, match=message):
        build(name, 3, **options)


def test_no_classes_is_refused() -> None:
    with pytest.raises(AudiotkError, match="n_classes >= 1"):
        build("melcnn", 0)


# --- checkpoints ------------------------------------------------------------------------------------------------------

CLASSES = ["bark", "howl", "Niño, 犬"]


@dataclass(frozen=True)
class Config:
    lr: float
    betas: tuple[float, float]
    data: Path


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_round_trip(name: str, tmp_path: Path) -> None:
    model = small(name).train()
    for _ in range(3):
        model(noise(4, 4000))  # batch norms have seen something
    path = tmp_path / "new" / "best.pt"
    config = Config(np.float32(0.25), (0.9, 0.99), Path("here"))  # type: ignore[arg-type]
    save_checkpoint(path, model, CLASSES, config, {"mAP": np.float64(0.5), "ap": np.array([1, 2])})
    state = torch.get_rng_state()
    loaded = load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, Checkpoint)
    assert not loaded.model.training
    assert (loaded.classes, loaded.sr, loaded.clip_s) == (tuple(CLASSES), 8000, 0.5)
    assert loaded.config == {"lr": 0.25, "betas": [0.9, 0.99], "data": "here"}
    assert loaded.metrics == {"mAP": 0.5, "ap": [1, 2]}
    assert loaded.commit == package_commit()
    assert loaded.versions["torch"] == torch.__version__
    assert set(loaded.versions) == {"audiotk", "torch", "numpy", "python"}
    assert torch.equal(loaded.model(noise(2, 4000)), model.eval()(noise(2, 4000)))
    assert os.listdir(path.parent) == ["best.pt"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(path, small("melcnn"), CLASSES, {"epoch": 1})

    def killed(payload: Any, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, small("melcnn"), CLASSES, {"epoch": 2})
    assert os.listdir(tmp_path) == ["best.pt"]
    assert load_checkpoint(path).config == {"epoch": 1}


def test_what_cannot_be_explained_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with pytest.raises(AudiotkError, match="expected 3 different class names"):
        save_checkpoint(path, small("melcnn"), ["a", "b"], {})
    with pytest.raises(AudiotkError, match="expected 3 different class names"):
        save_checkpoint(path, small("melcnn"), ["a", "b", "b"], {})
    with pytest.raises(AudiotkError, match="expected 3 different class names"):
        save_checkpoint(path, small("melcnn"), "abc", {})
    with pytest.raises(AudiotkError, match="must be plain, got Generator"):
        save_checkpoint(path, small("melcnn"), CLASSES, {"rng": np.random.default_rng(0)})
    with pytest.raises(AudiotkError, match="unwrap it first"):
        save_checkpoint(path, torch.nn.DataParallel(small("melcnn")), CLASSES, {})  # type: ignore[arg-type]
    assert not path.exists()


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("where", ["alone", "in config", "plain pickle", "zipped pickle"])
def test_pickled_code_is_refused_and_not_run(where: str, tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "owned"
    evil = Malicious(target)
    if where == "alone":
        torch.save(evil, path)
    elif where == "in config":
        save_checkpoint(path, small("melcnn"), CLASSES, {})
        torch.save({**torch.load(path, weights_only=True), "extra": evil}, path)
    elif where == "plain pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(evil))
            archive.writestr("archive/version", "3")
    with pytest.raises(AudiotkError, match=r"evil\.pt: (holds pickled Python code|is not a checkpoint)"):
        load_checkpoint(path)
    assert not target.exists()
    if where in ("alone", "in config"):  # the trap works: without weights_only it goes off
        torch.load(path, weights_only=False)
        assert target.exists()


def edited(path: Path, **changes: Any) -> None:
    """Rewrite a saved checkpoint with changed top-level keys; None removes one."""
    save_checkpoint(path, small("melcnn"), CLASSES, {})
    payload = {**torch.load(path, weights_only=True), **changes}
    torch.save({k: v for k, v in payload.items() if v is not None}, path)


def meta(**changes: Any) -> str:
    """The description of a small MelCNN with changed entries; "removed" leaves one out."""
    whole = {
        "model": "melcnn", "options": small("melcnn").options, "classes": CLASSES, "sr": 8000, "clip_s": 0.5,
        "config": {}, "metrics": None, "commit": None, "versions": {},
    }  # fmt: skip
    return json.dumps({k: v for k, v in (whole | changes).items() if v != "removed"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a checkpoint written by audiotk"),
        ({"format": None}, "not a checkpoint written by audiotk"),
        ({"version": 99}, "has checkpoint format 99, this audiotk reads up to 1; update"),
        ({"weights": None}, "lacks its description or its weights"),
        ({"meta": None}, "lacks its description or its weights"),
        ({"meta": "{"}, "is not JSON"),
        ({"meta": "[]"}, "lacks model"),
        ({"meta": meta(classes="removed", sr="removed")}, "lacks classes, sr"),
        ({"meta": meta(classes=CLASSES[:2])}, "does not fit a melcnn.*size mismatch for head"),
        ({"meta": meta(classes=["a", "a"])}, "different class names"),
        ({"meta": meta(classes=5)}, "different class names"),
        ({"meta": meta(model="gpt")}, "unknown model 'gpt'"),
        ({"meta": meta(options={"magic": 1})}, "unknown option magic"),
        ({"meta": meta(options={"mels": "many"})}, "does not fit a melcnn"),
        ({"meta": meta(options=None)}, "does not fit a melcnn"),
        ({"weights": {}}, "Missing key"),
        ({"weights": {"head.weight": 3}}, "does not fit a melcnn"),
    ],
)
def test_damaged_checkpoints_say_what_is_wrong(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    edited(path, **changes)
    with pytest.raises(AudiotkError, match=rf"(?s)broken\.pt.*{message}"):
        load_checkpoint(path)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(AudiotkError, match="no such file"):
        load_checkpoint(path)
    for content in (b"", b"not a model", b"PK\x03\x04rest"):
        path.write_bytes(content)
        with pytest.raises(AudiotkError, match="is not a checkpoint"):
            load_checkpoint(path)
    save_checkpoint(path, small("melcnn"), CLASSES, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudiotkError, match="is not a checkpoint"):
        load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(AudiotkError, match="is not a checkpoint"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(AudiotkError, match="not a checkpoint written by audiotk"):
        load_checkpoint(path)
