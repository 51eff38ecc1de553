"""What all models share, and how their size is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.features import check_wave

__all__ = ["WaveformModel", "count_macs", "count_parameters", "macs_by_layer", "macs_while"]

Change = Callable[[Tensor], Tensor]


class WaveformModel(nn.Module):
    """A classifier of waveforms that can say what it is.

    Attributes
    ----------
    name : str
        What `models.build` calls it.
    n_classes, sr, clip_s : int, int, float
        Outputs, sampling rate in Hz, and the duration in seconds it was built for (other lengths work too).
    options : dict
        Every further option with its resolved value: `build(name, n_classes, sr=sr, clip_s=clip_s, **options)`
        gives the same network again.
    embed_dim : int
        Size of an embedding.
    min_samples : int
        Shortest input; shorter ones raise AudiotkError with the limit in seconds.
    """

    name: str = ""
    embed_dim: int
    min_samples: int
    front: nn.Module
    head: nn.Module

    def __init__(self, n_classes: int, sr: int, clip_s: float, **options: Any) -> None:
        super().__init__()
        if n_classes < 1 or sr < 1 or not 0 < clip_s < float("inf"):
            raise AudiotkError(
                f"{self.name}: expected n_classes >= 1, sr >= 1 Hz and clip_s > 0 s, "
                f"got n_classes={n_classes}, sr={sr}, clip_s={clip_s}"
            )
        self.n_classes, self.sr, self.clip_s, self.options = int(n_classes), int(sr), float(clip_s), options

    @property
    def samples(self) -> int:
        """Samples in `clip_s` seconds."""
        return round(self.clip_s * self.sr)

    def forward(self, wave: Tensor, change: Change | None = None, frames: bool = False) -> Any:
        """Waveform (B, samples) -> logits (B, n_classes); the sigmoid is in the loss or the metric.

        `change` is applied to what the front end gives (for masks on the spectrogram in training). With `frames` the
        result is that of :meth:`with_frames`.
        """
        if frames:
            return self.with_frames(wave, change)
        return self.head(self.embed(wave, change))

    def with_frames(self, wave: Tensor, change: Change | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, n_classes) and frame logits (B, T, n_classes) in one pass, for models that hear frames."""
        raise AudiotkError(f"{self.name}: has no scores of single frames; use melcnn")

    def frame_levels(self, wave: Tensor) -> Tensor:
        """Level in dBFS of each frame of :meth:`with_frames`: (B, samples) -> (B, T)."""
        raise AudiotkError(f"{self.name}: has no scores of single frames; use melcnn")

    def embed(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> embeddings (B, embed_dim), what the head sees."""
        raise NotImplementedError

    def hear(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> the front end's (B, channels, T, F), changed by `change`."""
        spectrogram = self.front(self.check(wave))
        return spectrogram if change is None else change(spectrogram)

    def check(self, wave: Tensor) -> Tensor:
        """Checked waveform in float32; AudiotkError on a wrong shape or type or a too short input."""
        return check_wave(wave, self.min_samples, self.sr, self.name)

    def start_from(self, other: WaveformModel, head: bool = False) -> None:
        """Take the weights of another network of the same shape (fine-tuning); the output layer's only with `head`.

        Raises
        ------
        AudiotkError
            `other` has another name or other options, or was built for other audio.
        """
        mine, its = ((m.name, m.sr, m.clip_s, m.options) for m in (self, other))
        if mine != its:
            raise AudiotkError(f"start_from: expected weights of a network {mine}, got {its}")
        last = [name for name, layer in self.head.named_modules(prefix="head") if isinstance(layer, nn.Linear)][-1]
        weights = {name: value for name, value in other.state_dict().items() if head or not name.startswith(f"{last}.")}
        self.load_state_dict(weights, strict=False)

    def finish(self) -> None:
        """Last step of a constructor: refuse a `clip_s` too short for the net, lay out 2-D filters channels-last."""
        if self.samples < self.min_samples:
            raise AudiotkError(
                f"{self.name}: clip_s={self.clip_s} s is too short, these options need at least "
                f"{self.min_samples / self.sr:.3f} s at {self.sr} Hz"
            )
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)  # the faster layout, on CPU and GPU


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_macs(model: WaveformModel, samples: int | None = None) -> int:
    """Multiply-accumulates of one forward pass for one recording of `samples` (default: `clip_s`).

    Counted: convolutions and dense layers. Not counted: the front end (about 5 M for P1's STFT of 10 s), norms,
    activations, pooling, biases, and the products with the context vector in ACDnet's attention.
    """
    return sum(macs_by_layer(model, samples).values())


def macs_by_layer(model: WaveformModel, samples: int | None = None) -> dict[str, int]:
    """Multiply-accumulates of each convolution and dense layer, by module name; see `count_macs`."""
    modes = {module: module.training for module in model.modules()}
    wave = torch.zeros(1, model.samples if samples is None else samples, device=next(model.parameters()).device)

    def hear() -> None:
        with torch.no_grad():
            model.eval()(wave)

    try:
        return macs_while(model, hear)
    finally:
        for module, training in modes.items():
            module.training = training


def macs_while(model: nn.Module, act: Callable[[], Any]) -> dict[str, int]:
    """Multiply-accumulates of each convolution and dense layer of `model` while `act()` runs, by module name."""
    macs: dict[str, int] = {}

    def counter(name: str) -> Any:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            macs[name] = macs.get(name, 0) + output.numel() * layer.weight[0].numel()

        return hook

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(counter(name)) for name, layer in layers]
    try:
        act()
    finally:
        for hook in hooks:
            hook.remove()
    return macs
