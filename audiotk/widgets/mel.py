"""The grid of log-mel tiles, their bands and windows."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np

from audiotk.tables import AudiotkError

MELS, TILE, HOP_S, ZOOMS = 96, 512, 0.01, 10  # zoom z: frames of HOP_S * 4**z, TILE of them in a tile
FLOOR_DB, TOP_DB = -90.0, -10.0  # dB re a full-scale sine at which a tile is 0 and 255
END_S = 0.02  # a range may begin so much behind the end, where tables and headers were rounded


def tile_frames(duration_s: float, zoom: int, index: int) -> int:
    """Frames of a tile: frame j of a zoom covers j * hop to (j + 1) * hop seconds, hop = 0.01 * 4**zoom."""
    if not 0 <= zoom < ZOOMS:
        raise AudiotkError(f"tile: expected a zoom of 0 to {ZOOMS - 1}, got {zoom}")
    hop_s = HOP_S * 4**zoom
    whole = ceil(round(duration_s / hop_s, 6))
    frames = min(TILE, whole - index * TILE)
    if index > 0 and frames < 1 and index * TILE * hop_s <= duration_s + END_S:
        frames = 1  # of nothing, behind the end
    if index < 0 or frames < 1:
        raise AudiotkError(f"tile: expected an index of 0 to {(whole - 1) // TILE} at zoom {zoom}, got {index}")
    return frames


def mel_hz(sr: int) -> np.ndarray:
    """Centre of each mel band in Hz, ascending (96,): Slaney's scale, linear to 1 kHz, from 0 to half the rate."""
    return _mel_points(sr)[1:-1]


def _mel_points(sr: int) -> np.ndarray:
    top = sr / 2
    mel = top * 3 / 200 if top < 1000 else 15 + np.log(top / 1000) * 27 / np.log(6.4)
    mels = np.linspace(0, mel, MELS + 2)
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))


@lru_cache(maxsize=16)
def analysis(sr: int) -> tuple[np.ndarray, np.ndarray]:
    """Window (size,) and mel filters (bins, 96) such that a full-scale sine gives power 1 in its band."""
    size = max(64, 1 << round(np.log2(0.05 * sr)))
    window = np.hanning(size + 1)[:-1]
    points, bins = _mel_points(sr), np.arange(size // 2 + 1) * sr / size
    rise = (bins[:, None] - points[:-2]) / np.diff(points)[:-1]
    fall = (points[2:] - bins[:, None]) / np.diff(points)[1:]
    filters = np.maximum(0, np.minimum(rise, fall))
    empty = np.flatnonzero(filters.max(axis=0) == 0)  # narrower than the distance of two bins
    filters[np.abs(bins[:, None] - points[1:-1]).argmin(axis=0)[empty], empty] = 1
    filters /= filters.max(axis=0)
    return (window * (2 / window.sum())).astype(np.float32), filters.astype(np.float32)
