"""Search a million embeddings by text or by example: exact, in blocks, from a file that stays on the disk.

>>> embeddings = Embeddings.load("runs/embeddings")
>>> found = embeddings.search(teacher.embed_text(["rain on a tin roof"]), k=20)      # by text
>>> found = embeddings.search(["a.wav@0.000-10.000", "b.wav@0.000-10.000"], k=20)    # by example
>>> figures.players(sounds(found, dataset.recordings), 16000)                        # hear it
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from audiotk import audio
from audiotk.files import atomic, cores
from audiotk.tables import AudiotkError, check_segments

BLOCK = 8192  # vectors that are compared at once: they fit into a processor's cache as float32
FOUND_COLUMNS = ["query", "rank", "similarity", "segment", "recording", "start_s", "end_s"]


@dataclass(frozen=True)
class Embeddings:
    """Vectors of unit norm, one a segment.

    Attributes
    ----------
    vectors
        float16 or float32 [shape=(n, dim)], in memory or a memory map; cosines of float16 ones are right to 1e-3.
    segments
        A *segments* table of n rows.
    about
        Who made them, as JSON can hold it.
    """

    vectors: np.ndarray
    segments: pd.DataFrame
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", check_segments(self.segments))
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.segments) or self.vectors.dtype.kind != "f":
            raise AudiotkError(
                f"embeddings: expected floats of shape ({len(self.segments)}, dim), one row a segment, got "
                f"{self.vectors.dtype} of shape {self.vectors.shape}"
            )

    def __repr__(self) -> str:
        return f"Embeddings({self.vectors.shape[0]:,} segments x {self.vectors.shape[1]} {self.vectors.dtype})"

    def save(self, folder: str | Path) -> Path:
        """Write vectors.npy, segments.parquet and about.json; the last one, by which a folder is known, comes last."""
        folder = Path(folder)
        (folder / "about.json").unlink(missing_ok=True)
        with atomic(folder / "vectors.npy") as draft:
            kept = np.lib.format.open_memmap(draft, "w+", self.vectors.dtype, self.vectors.shape)
            for start in range(0, len(kept), BLOCK):
                kept[start : start + BLOCK] = self.vectors[start : start + BLOCK]
            kept.flush()
        with atomic(folder / "segments.parquet") as draft:
            self.segments.to_parquet(draft, index=False)
        with atomic(folder / "about.json") as draft:
            about = {**self.about, "rows": len(self.vectors)}
            draft.write_text(json.dumps(about, indent=1, ensure_ascii=False), "utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Embeddings:
        """Open what :meth:`save` wrote; the vectors stay on the disk.

        Raises
        ------
        AudiotkError
            A file is missing or damaged, or they do not belong together.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / "about.json").read_text("utf-8"))
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            segments = pd.read_parquet(folder / "segments.parquet")
        except (OSError, ValueError, pa.ArrowException) as err:
            raise AudiotkError(f"{folder}: expected what Embeddings.save writes: {err}") from err
        if not isinstance(about, dict) or about.pop("rows", None) != len(vectors):
            raise AudiotkError(f"{folder}: its files do not belong together; write them again")
        return cls(vectors, segments, about)

    def of(self, segments: Sequence[str]) -> np.ndarray:
        """The mean direction of some segments: float32 [shape=(1, dim)]."""
        rows = pd.Index(self.segments["segment"]).get_indexer(pd.Index(segments))
        if not len(rows) or (rows < 0).any():
            raise AudiotkError(f"search: expected segments that are there, got {list(segments)[:3]}")
        return _unit(np.asarray(self.vectors[rows], np.float32).mean(axis=0, keepdims=True))

    def search(self, query: np.ndarray | Sequence[str], k: int = 20, threads: int | None = None) -> pd.DataFrame:
        """The `k` segments most similar to each query; see :func:`search`."""
        return search(self, query, k, threads)


def search(
    embeddings: Embeddings, query: np.ndarray | Sequence[str], k: int = 20, threads: int | None = None
) -> pd.DataFrame:
    """The `k` segments most similar to each query, by cosine; exact: every vector is compared.

    Parameters
    ----------
    embeddings
        Where to search.
    query
        Vectors [shape=(dim,) or (q, dim)], as of ``teacher.embed_text``, or ids of segments as one example.
    k
        How many of each query.
    threads
        Default: one a processor.

    Returns
    -------
    pandas.DataFrame
        query (number), rank (from 1), similarity, segment, recording, start_s, end_s. Equal ones by order of segments.

    Raises
    ------
    AudiotkError
        `k` below 1, or a query of another dimension, of no direction, or of unknown segments.
    """
    vectors = embeddings.vectors
    wanted = np.atleast_2d(query if isinstance(query, np.ndarray) else embeddings.of(query)).astype(np.float32)
    if k < 1 or wanted.shape[1] != vectors.shape[1]:
        raise AudiotkError(
            f"search: expected k >= 1 and queries of {vectors.shape[1]} numbers, got {k}, {wanted.shape}"
        )
    if not (np.isfinite(wanted).all() and np.linalg.norm(wanted, axis=1).all()):
        raise AudiotkError("search: a query is zero, NaN or infinite; it has no direction to look in")
    wanted = _unit(wanted)
    k = min(k, len(vectors))
    starts = np.array_split(np.arange(0, len(vectors), BLOCK), min(threads or cores(), -(-len(vectors) // BLOCK) or 1))
    with ThreadPoolExecutor(len(starts)) as pool:
        parts = list(pool.map(lambda mine: _best(vectors, wanted, mine, k), starts))
    value, row = (np.concatenate(both, axis=1) for both in zip(*parts, strict=True))  # (q, threads * k)
    order = np.lexsort((row, -value), axis=1)[:, :k]
    value, row = np.take_along_axis(value, order, 1), np.take_along_axis(row, order, 1)
    found = embeddings.segments.iloc[row.ravel()].reset_index(drop=True)
    found["query"], found["rank"] = np.repeat(np.arange(len(wanted)), k), np.tile(np.arange(1, k + 1), len(wanted))
    found["similarity"] = value.ravel()
    return found[FOUND_COLUMNS]


def _best(vectors: np.ndarray, wanted: np.ndarray, starts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows of the k best vectors (first ones of equal ones) in some blocks [shape=(q, k) at most]."""
    import torch  # only here: whoever makes or describes embeddings needs none

    value = np.zeros((len(wanted), 0), np.float32)
    row = np.zeros((len(wanted), 0), np.int64)
    for start in starts:
        part = np.array(vectors[start : start + BLOCK])  # (b, dim), a copy in memory
        block = torch.from_numpy(part).float().numpy()  # from float16 seven times as fast as numpy
        near = wanted @ block.T  # (q, b)
        if value.shape[1] == k and not (near > value.min(axis=1, keepdims=True)).any():
            continue
        value = np.concatenate([value, near], axis=1)
        row = np.concatenate([row, np.broadcast_to(np.arange(start, start + len(block)), near.shape)], axis=1)
        order = np.argsort(-value, axis=1, kind="stable")[:, :k]
        value, row = np.take_along_axis(value, order, 1), np.take_along_axis(row, order, 1)
    return value, row


def by_recording(found: pd.DataFrame) -> pd.Series:
    """The highest similarity of each recording that was found: as `worth` the order of the labeler's queue."""
    return found.groupby("recording")["similarity"].max().sort_values(ascending=False)


def sounds(found: pd.DataFrame, recordings: pd.DataFrame, sr: int = 16000) -> list[tuple[str, np.ndarray]]:
    """(caption, wave at `sr`) of what was found, for :func:`audiotk.figures.players`; AudiotkError if one is gone."""
    paths = recordings.set_index("recording")["path"]
    if len(lost := pd.Index(found["recording"]).difference(paths.index)):
        raise AudiotkError(f"search: recording {lost[0]!r} was found, but is not in the recordings table")
    rows = found[["segment", "similarity", "recording", "start_s", "end_s"]].to_numpy(dtype=object)
    return [
        (f"{segment}: {similarity:.3f}", audio.load(paths[recording], sr, start_s, end_s)[0])
        for segment, similarity, recording, start_s, end_s in rows
    ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
