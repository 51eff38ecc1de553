"""HTS-AT, the audio tower of every CLAP here: the weights of transformers' module in a lean forward pass, same numbers.

What is spared, against the stock pass: a block of a Swin transformer works on windows of 8 x 8 tokens and shifts them
every second time; here tokens are kept in the order of their windows, so that shift, partition and merging are one
gather of rows each. Query, key and value are one product, the position bias and the mask of shifted windows are made
once, attention is torch's fused one. On a CPU a stage takes as few recordings at a time as its cache likes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Htsat", "position_index"]

CPU_TOKENS = 4096  # tokens that a stage works on at once: 1.5 MB in the first stage of HTSAT-tiny


class Htsat(nn.Module):
    """Log-mel spectrograms (B, T, mels) in dB -> features (B, width), float32; the input is float32 as well.

    Parameters
    ----------
    encoder
        A `ClapAudioEncoder` of transformers, which is taken apart and cannot be used afterwards. Of one with fusion the
        path for sound that is not longer than a window is taken, which is all that a teacher ever hears.
    dtype
        Of the weights and of everything between the patches and the last mean.
    """

    first: Tensor

    def __init__(self, encoder: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.ratio = int(encoder.freq_ratio)  # pieces of time that are stacked along frequency to make a square
        self.mel_norm, self.norm = encoder.batch_norm, encoder.norm.to(dtype)
        self.frames = int(encoder.spec_size * self.ratio)
        proj = encoder.patch_embed.proj
        self.patch = int(proj.kernel_size[0])
        self.patches = nn.Linear(self.patch**2, proj.out_channels, dtype=dtype)
        with torch.no_grad():
            self.patches.weight.copy_(proj.weight[:, 0].flatten(1))
            self.patches.bias.copy_(proj.bias)
        self.patch_norm = encoder.patch_embed.norm.to(dtype)
        side = int(encoder.patch_embed.grid_size[0])
        self.stages = nn.ModuleList()
        for stage in encoder.layers:
            self.stages.append(_Stage(stage, side, dtype))
            side //= 2
        first: Any = self.stages[0]
        self.register_buffer("first", first.orders[0], persistent=False)  # (tokens,)
        self.eval().requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, T, mels) -> (B, width)."""
        stats: Any = self.mel_norm
        scale = stats.weight * (stats.running_var + stats.eps).rsqrt()  # (mels,)
        mel = (mel - stats.running_mean) * scale + stats.bias
        if mel.shape[1] != self.frames:
            size = (self.frames, mel.shape[2])
            mel = F.interpolate(mel[:, None], size, mode="bicubic", align_corners=True)[:, 0]
        b, _, mels = mel.shape
        p, r = self.patch, self.ratio
        # time is cut into r pieces, one under the other: a token is a patch of p mels x p frames of one piece
        x = mel.view(b, r, self.frames // r // p, p, mels // p, p)  # (B, piece, T / r / p, p frames, mels / p, p mels)
        x = x.permute(0, 1, 4, 2, 5, 3).reshape(b, -1, p * p)  # (B, tokens row by row, p * p)
        x = x.index_select(1, self.first).to(self.dtype)  # tokens in the order of the first windows
        x = self.patch_norm(self.patches(x))  # (B, tokens, C)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x).float().mean(1)  # (B, width)


class _Stage(nn.Module):
    """Blocks on a square of `side` x `side` tokens, then four tokens become one of twice the width."""

    merge: Tensor

    def __init__(self, stage: Any, side: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.tokens = side**2
        self.blocks = nn.ModuleList()
        shifts = []
        for block in stage.blocks:
            window = int(block.window_size)
            shifts.append(0 if side <= window else int(block.shift_size))
            self.blocks.append(_Block(block, side, shifts[-1], dtype))
        self.orders = [window_order(side, window, shift) for shift in shifts]
        for n, order in enumerate(self.orders):  # rows of the order before -> rows of this block's order
            before = self.orders[max(n - 1, 0)]
            self.register_buffer(f"step{n}", before.argsort()[order], persistent=False)
        self.merging = stage.downsample is not None
        if self.merging:
            self.merge_norm, self.reduction = stage.downsample.norm.to(dtype), stage.downsample.reduction.to(dtype)
            self.register_buffer("merge", merge_order(side, window, self.orders[-1]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, C) -> (B, tokens / 4, 2 C), or the same shape in the last stage."""
        at_once = max(1, CPU_TOKENS // self.tokens)
        if x.device.type == "cpu" and len(x) > at_once and not torch.compiler.is_compiling():
            return torch.cat([self._few(part) for part in x.split(at_once)])
        return self._few(x)

    def _few(self, x: Tensor) -> Tensor:
        for n, block in enumerate(self.blocks):
            if n and self.orders[n] is not self.orders[n - 1]:
                x = x.index_select(1, self.get_buffer(f"step{n}"))
            x = block(x)
        if not self.merging:
            return x
        b, _, c = x.shape
        x = x.index_select(1, self.merge).view(b, -1, 4 * c)  # (B, tokens / 4, 4 C)
        return self.reduction(self.merge_norm(x))  # (B, tokens / 4, 2 C)


class _Block(nn.Module):
    """Attention inside windows and a perceptron, both added to what came in; tokens lie in the order of the windows."""

    bias: Tensor

    def __init__(self, block: Any, side: int, shift: int, dtype: torch.dtype) -> None:
        super().__init__()
        attention = block.attention.self
        self.heads, self.window, self.shifted = int(attention.num_attention_heads), int(block.window_size), shift > 0
        self.norm1, self.norm2 = block.layernorm_before.to(dtype), block.layernorm_after.to(dtype)
        self.proj = block.attention.output.dense.to(dtype)
        self.fc1, self.fc2 = block.intermediate.dense.to(dtype), block.output.dense.to(dtype)
        parts = (attention.query, attention.key, attention.value)
        self.qkv = nn.Linear(parts[0].in_features, 3 * parts[0].out_features, dtype=dtype)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            self.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        table = attention.relative_position_bias_table.detach()  # (15 * 15, heads)
        bias = table[position_index(self.window).flatten()].T.reshape(1, self.heads, self.window**2, self.window**2)
        if self.shifted:
            bias = bias + shift_mask(side, self.window, shift)[:, None]  # (windows, heads, tokens, tokens)
        self.register_buffer("bias", bias.to(dtype).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, C) -> the same shape."""
        b, n, c = x.shape
        inside = self.window**2
        windows = b * n // inside
        qkv = self.qkv(self.norm1(x)).view(windows, inside, 3, self.heads, c // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B * windows, heads, tokens of a window, C / heads)
        bias = self.bias.repeat(b, 1, 1, 1) if self.shifted and b > 1 else self.bias
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = self.proj(heard.transpose(1, 2).reshape(b, n, c)).add_(x)
        return self.fc2(F.gelu(self.fc1(self.norm2(x)))).add_(x)


# --- orders of tokens -------------------------------------------------------------------------------------------------


def window_order(side: int, window: int, shift: int) -> Tensor:
    """Row-by-row numbers of the tokens of a square, in the order of its windows after a shift to the left and up."""
    window = min(window, side)
    grid = torch.arange(side * side).view(side, side).roll((-shift, -shift), (0, 1))
    count = side // window
    return grid.view(count, window, count, window).transpose(1, 2).flatten()  # (side * side,)


def merge_order(side: int, window: int, order: Tensor) -> Tensor:
    """Where in `order` the four tokens of every token of the next stage stand, those in the order of its windows."""
    place = order.argsort().view(side, side)  # where the token at a row and column stands
    corners = [place[row::2, column::2].flatten() for column in range(2) for row in range(2)]  # 4 x (tokens / 4,)
    return torch.stack(corners, dim=1)[window_order(side // 2, window, 0)].flatten()  # (tokens,)


def position_index(window: int) -> Tensor:
    """Row of the table of position biases for every pair of tokens of a window [shape=(window ** 2, window ** 2)]."""
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = at[:, :, None] - at[:, None, :] + window - 1  # (2, window ** 2, window ** 2), 0 .. 2 * window - 2
    return apart[0] * (2 * window - 1) + apart[1]


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """-100 between tokens that a shift brought together from opposite edges, else 0 [shape=(windows, tokens, same)]."""
    edge = torch.arange(side)
    region = (edge >= side - window).long() + (edge >= side - shift).long()  # of the shifted square: 0, 1, 2
    regions = (3 * region[:, None] + region).flatten()[window_order(side, window, 0)].view(-1, window**2)
    return torch.where(regions[:, None] == regions[..., None], 0.0, -100.0)
