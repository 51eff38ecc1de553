"""ACDnet, the 250 K parameter network of P1 (Braun & Gamper, arXiv 2407.14712, section 2.2): a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.features import CompressedSTFT
from audiotk.models.base import Change, WaveformModel

__all__ = ["ACDnet"]

WIDTHS = (32, 64, 128, 256, 128, 64, 32)  # P1, section 2.2
KINDS = "CACACAC"  # alternating inverted residual (C) and attention (A) blocks


class ACDnet(WaveformModel):
    """Inverted residual and linear attention blocks on a compressed complex spectrum.

    **A reconstruction, not the authors' network.** As printed in P1 the network does not close: seven 2 x 2 poolings
    take 624 x 257 to 4 x 2, not to the printed (62, 2), and plain inverted residuals miss the parameter or the MAC
    count. A search over pooling schedules, expansion, attention width and depth found hundreds of configurations that
    agree with both printed numbers (248.54 K parameters, 1.40 G MACs); this is the plainest of them. It has 248,337
    parameters for 11 classes and 1.395 G MACs in convolutions and dense layers (1.400 G with the FFT). So a match
    with the printed numbers is not evidence of identity.

    Seven blocks of widths 32, 64, 128, 256, 128, 64, 32 and kinds C A C A C A C; max-pooling after each; depthwise
    dilation (2, 2) in blocks 2, 4, 6. The 32 x 62 x 2 map of 10 s is averaged over time into 64 features, which are
    the embedding, and mapped to the classes by one dense layer.

    Parameters
    ----------
    n_classes, sr, clip_s
        See `WaveformModel`.
    n_fft, hop : int, optional
        Window and hop in samples; default 32 ms and 16 ms.
    width : float
        Multiplies all seven widths (0.25 at demo scale).
    first_hidden : int, optional
        Hidden channels of block 1, by far the most expensive one; default twice its width.
    time_pools, frequency_pools : seven int each
        Max-pooling after each block. `time_pools=(2, 2, 2, 1, 1, 1, 1)` is the literal reading of P1's 2 x 2 pools
        while they fit: (78, 2) and 1.435 G MACs.
    """

    name = "acdnet"

    def __init__(
        self,
        n_classes: int,
        *,
        sr: int = 16000,
        clip_s: float = 10.0,
        n_fft: int | None = None,
        hop: int | None = None,
        width: float = 1.0,
        first_hidden: int | None = None,
        time_pools: Sequence[int] = (5, 1, 1, 1, 1, 1, 2),
        frequency_pools: Sequence[int] = (2, 2, 2, 2, 2, 2, 2),
    ) -> None:
        front = CompressedSTFT(sr, n_fft, hop)
        widths = [round(w * width) for w in WIDTHS]
        if min(widths) < 4:
            raise AudiotkError(f"acdnet: width must keep every block at 4 channels or more, got width={width}")
        hidden = 2 * widths[0] if first_hidden is None else first_hidden
        super().__init__(
            n_classes, sr, clip_s,
            n_fft=front.n_fft, hop=front.hop, width=width, first_hidden=hidden,
            time_pools=list(time_pools), frequency_pools=list(frequency_pools),
        )  # fmt: skip
        bins = _pooled(front.bins, frequency_pools)
        self.front = front
        self.min_samples = front.min_samples(_least_frames(time_pools))
        blocks: list[nn.Module] = []
        for i, (ci, co) in enumerate(zip([front.channels, *widths], widths, strict=False)):
            dilation = 2 if i % 2 else 1
            block = (
                _attention_block(ci, co, dilation)
                if KINDS[i] == "A"
                else _inverted_residual(ci, hidden if i == 0 else 2 * co, co, dilation)
            )
            pool = (time_pools[i], frequency_pools[i])
            blocks.append(nn.Sequential(*block, nn.MaxPool2d(pool)) if max(pool) > 1 else block)
        self.blocks = nn.Sequential(*blocks)
        self.embed_dim = widths[-1] * bins
        self.head = nn.Linear(self.embed_dim, n_classes)
        self.finish()

    def embed(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> (B, 64): the last map averaged over time (B, channels * bins)."""
        x = self.hear(wave, change)  # (B, 2, T, F)
        return self.blocks(x).mean(2).flatten(1)  # (B, 32, T', F') -> (B, 32, F') -> (B, 32 * F')


def _pooled(size: int, pools: Sequence[int]) -> int:
    """Frequency bins left after all poolings; AudiotkError if none is, or if there are not seven poolings."""
    if len(pools) != len(WIDTHS) or min(pools) < 1:
        raise AudiotkError(f"acdnet: expected {len(WIDTHS)} poolings of at least 1, got {tuple(pools)}")
    left = size
    for pool in pools:
        left //= pool
    if left < 1:
        raise AudiotkError(f"acdnet: frequency_pools {tuple(pools)} leave nothing of {size} frequency bins")
    return left


def _least_frames(pools: Sequence[int]) -> int:
    """Frames that leave one frame after all poolings."""
    _pooled(10**9, pools)
    least = 1
    for pool in pools:
        least *= pool
    return least


def _unit(conv: nn.Conv2d, activation: bool = True) -> list[nn.Module]:
    """Convolution, batch norm and, unless told otherwise, PReLU."""
    co = conv.out_channels
    return [conv, nn.BatchNorm2d(co), *([nn.PReLU(co)] if activation else [])]


def _pointwise(ci: int, co: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(ci, co, 1, bias=bias)


def _depthwise(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)


def _inverted_residual(ci: int, hidden: int, co: int, dilation: int) -> nn.Sequential:
    """Block C: expand, depthwise 3 x 3, project without activation; no shortcut."""
    return nn.Sequential(
        *_unit(_pointwise(ci, hidden)),
        *_unit(_depthwise(hidden, dilation)),
        *_unit(_pointwise(hidden, co), activation=False),
    )


def _attention_block(ci: int, co: int, dilation: int) -> nn.Sequential:
    """Block A: depthwise 3 x 3, reduce to co / 4, two attention layers, expand; no outer shortcut."""
    d = co // 4
    return nn.Sequential(
        *_unit(_depthwise(ci, dilation)),
        _pointwise(ci, d),
        _AttentionLayer(d),
        _AttentionLayer(d),
        nn.GroupNorm(1, d),
        *_unit(_pointwise(d, co), activation=False),
    )


class _AttentionLayer(nn.Module):
    """Separable self-attention (Mehta & Rastegari, TMLR 2023) over all time-frequency positions, then a small MLP."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, d)
        self.qkv = _pointwise(d, 1 + 2 * d, bias=True)
        self.out = _pointwise(d, d, bias=True)
        self.ffn = nn.Sequential(
            nn.GroupNorm(1, d), _pointwise(d, d, bias=True), nn.SiLU(), _pointwise(d, d, bias=True)
        )
        self.d = d

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, T, F) -> (B, d, T, F)."""
        q, k, v = self.qkv(self.norm(x)).split([1, self.d, self.d], dim=1)  # (B, 1 | d | d, T, F)
        weight = q.flatten(2).float().softmax(-1).view_as(q)  # (B, 1, T, F), sums to one, under autocast, too
        context = (k * weight).sum((2, 3), keepdim=True)  # (B, d, 1, 1)
        x = x + self.out(torch.relu(v) * context)
        return x + self.ffn(x)
