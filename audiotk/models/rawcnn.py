"""RawCNN, the network on raw audio of P2 (Grzywalski & Botteldooren), Table II."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.models.base import Change, WaveformModel

__all__ = ["RawCNN"]


class RawCNN(WaveformModel):
    """Nine valid 1-D convolutions, then dense 256, 128, N; ELU and batch norm after every layer but the last.

    P2 uses 8 kHz and 10 s: build it with `sr=8000`. The output lengths of the nine convolutions are then 26662, 8883,
    2957, 982, 324, 105, 33, 9, 1, and it has 1.74 M (18 outputs) to 1.82 M (632) parameters. Embedding: the 128 values
    of the next-to-last layer before ELU and norm, as in P2.

    Other lengths: what is left of time after the convolutions is averaged (P2's own length leaves one position, where
    this changes nothing). A network built for shorter audio (`clip_s`) shortens each kernel that is longer than what
    reaches it, so its last map has one position; `options["kernels"]` says the result.

    Parameters
    ----------
    n_classes, sr, clip_s
        See `WaveformModel`.
    filters, kernels : sequences of int of equal length
        One convolution each; stride 3, the last one 1.
    dense : sequence of int
        Hidden dense layers; the last of them is the embedding.
    """

    name = "rawcnn"

    def __init__(
        self,
        n_classes: int,
        *,
        sr: int = 16000,
        clip_s: float = 10.0,
        filters: Sequence[int] = (64, 64, 96, 96, 128, 128, 192, 192, 256),
        kernels: Sequence[int] = (17, 16, 15, 14, 13, 12, 9, 9, 9),
        dense: Sequence[int] = (256, 128),
    ) -> None:
        if len(filters) != len(kernels) or min([*filters, *kernels, *dense], default=0) < 1 or not dense:
            raise AudiotkError(
                "rawcnn: expected as many filters as kernels, at least one dense layer, and sizes of at least 1, "
                f"got filters={tuple(filters)}, kernels={tuple(kernels)}, dense={tuple(dense)}"
            )
        strides = [3] * (len(filters) - 1) + [1]
        kernels = _fit(kernels, strides, round(clip_s * sr))
        super().__init__(n_classes, sr, clip_s, filters=list(filters), kernels=kernels, dense=list(dense))
        self.min_samples = 1
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            self.min_samples = (self.min_samples - 1) * stride + kernel
        convolutions: list[nn.Module] = []
        for ci, co, kernel, stride in zip([1, *filters[:-1]], filters, kernels, strides, strict=True):
            convolutions += [nn.Conv1d(ci, co, kernel, stride), nn.ELU(), nn.BatchNorm1d(co)]
        self.convolutions = nn.Sequential(*convolutions)
        hidden: list[nn.Module] = []
        for i, (ci, co) in enumerate(zip([filters[-1], *dense[:-1]], dense, strict=True)):
            hidden += [*([nn.ELU(), nn.BatchNorm1d(ci)] if i else []), nn.Linear(ci, co)]
        self.dense = nn.Sequential(*hidden)
        self.embed_dim = dense[-1]
        self.head = nn.Sequential(nn.ELU(), nn.BatchNorm1d(self.embed_dim), nn.Linear(self.embed_dim, n_classes))
        self.finish()

    def embed(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> (B, 128): the next-to-last layer before ELU and norm, without `change`."""
        if change is not None:
            raise AudiotkError("rawcnn: hears the waveform itself and has no spectrogram to change")
        if self.training and len(wave) < 2:
            raise AudiotkError("rawcnn: its batch norms need at least 2 recordings a training batch, got 1")
        with torch.autocast(wave.device.type, enabled=False):  # the wave in float32, as the other front ends hear it
            x = self.convolutions[0](self.check(wave)[:, None])  # (B, 1, samples) -> (B, 64, T0)
        return self.dense(self.convolutions[1:](x).mean(2))  # (B, 256, T') -> (B, 128)


def _fit(kernels: Sequence[int], strides: Sequence[int], length: int) -> list[int]:
    """Kernels no longer than what reaches them from an input of `length` samples."""
    fitted = []
    for kernel, stride in zip(kernels, strides, strict=True):
        fitted.append(max(1, min(kernel, length)))
        length = (length - fitted[-1]) // stride + 1
    return fitted
