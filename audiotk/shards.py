"""Decoded sound on the disk, for sets larger than memory: each recording is decoded once, not once an epoch.

A folder of shards: ``0007.npy`` holds rows of 16-bit samples, ``0007.json`` the full scale of each row and what could
not be read. A row's full scale is the least power of two that holds its peak, or a peak above 1 itself: so nothing is
ever clipped, recordings of 16 bits at their own rate come back exactly, and all others within 2^-16 of it. The folder's
name is a digest of the files (path, size, time of change), the segments, rate and length: what has changed is decoded
again. A shard is there whole or not at all, so a killed process goes on with what is missing; what it was writing is
removed a day later.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk.audio import load_rows, paths_of, problem_table, samples_of
from audiotk.files import atomic, cache_dir
from audiotk.tables import AudiotkError, check_segments

LAYOUT = 1  # raise it where the same sound would be stored in another way
SHARD_BYTES = 1e9
BLOCK_BYTES = 2e8  # of float32 that are decoded before they are written
DRAFT_S = 24 * 3600  # without a change, and a draft is left over
LOWEST = -64  # power of two under which full scale is not lowered


class StoredWaves:
    """The waves of :func:`audiotk.audio.load_segments` from shards, which are written where they are missing.

    ``waves[rows]`` with an index, slice, mask or array of rows of `segments` gives float32 [shape=(B, samples)].

    Parameters
    ----------
    recordings, segments, sr, duration_s, workers, progress
        As in :func:`audiotk.audio.load_segments`.
    folder
        Of all such sound; default: :func:`sound_dir`.
    shard_bytes
        Size of a shard.

    Attributes
    ----------
    segments
        The rows that can be read.
    problems
        Columns recording, path, reason: what was left out. It is tried again each time.
    folder
        Of these shards; it may be deleted when nobody reads it.

    Raises
    ------
    AudiotkError
        The disk has too little room, the folder cannot be written; on reading: a shard has vanished or is damaged.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        segments: pd.DataFrame,
        sr: int,
        duration_s: float | None = None,
        folder: str | Path | None = None,
        workers: int | None = None,
        progress: bool = False,
        shard_bytes: float = SHARD_BYTES,
    ) -> None:
        segments = check_segments(segments).reset_index(drop=True)
        self.sr, self.samples = sr, samples_of(segments, sr, duration_s)
        self._per = max(1, int(shard_bytes // max(1, stored_bytes(1, self.samples))))  # rows of a shard
        paths = paths_of(recordings, segments)
        key = _digest(segments, paths, [LAYOUT, sr, self.samples, self._per])
        self.folder = (sound_dir() if folder is None else Path(folder)) / key
        self._maps: dict[int, np.ndarray] = {}
        self._write_missing(segments, paths, workers, progress)
        told = [json.loads(self._about(k).read_text("utf8")) for k in range(self._count(segments))]
        failed = [(recording, path, reason) for one in told for _, recording, path, reason in one["failed"]]
        self.problems = problem_table(list(dict.fromkeys(failed)), segments["recording"].nunique())
        bad = {row for one in told for row, *_ in one["failed"]}
        self._rows = np.array([row for row in range(len(segments)) if row not in bad], dtype=np.int64)
        self._scales = np.concatenate([np.zeros(0), *(one["scales"] for one in told)])[self._rows]
        self.segments = segments.iloc[self._rows].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def shape(self) -> tuple[int, int]:
        """Number and length of the waves."""
        return len(self), self.samples

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        shard, place = np.divmod(self._rows[chosen], self._per)
        waves = np.empty((len(chosen), self.samples), np.float32)
        for k in np.unique(shard):
            here = shard == k
            waves[here] = self._shard(int(k))[place[here]]
        waves *= (self._scales[chosen] / 2**15).astype(np.float32)[:, None]
        return waves

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a process that gets this opens the files itself

    def _shard(self, k: int) -> np.ndarray:
        if k not in self._maps:
            try:
                self._maps[k] = np.load(self._sound(k), mmap_mode="r")
            except (OSError, ValueError) as err:
                raise AudiotkError(
                    f"{self._sound(k)}: is missing or damaged ({err}); delete {self.folder} and start again"
                ) from err
        return self._maps[k]

    def _sound(self, k: int) -> Path:
        return self.folder / f"{k:04d}.npy"

    def _about(self, k: int) -> Path:
        return self.folder / f"{k:04d}.json"

    def _is_there(self, k: int) -> bool:
        return self._sound(k).exists() and self._about(k).exists()

    def _count(self, segments: pd.DataFrame) -> int:
        return -(-len(segments) // self._per)

    def _of(self, k: int, segments: pd.DataFrame) -> range:
        """Rows of a shard."""
        return range(k * self._per, min((k + 1) * self._per, len(segments)))

    def _write_missing(self, segments: pd.DataFrame, paths: pd.Series, workers: int | None, progress: bool) -> None:
        """Write the shards that are not there, in random order: processes that do this at once share the work."""
        self._sweep()
        missing = [k for k in range(self._count(segments)) if not self._is_there(k)]
        for k in sorted({*range(self._count(segments))} - {*missing}):
            self._fill(k, segments, paths, workers)
        rows = sum(len(self._of(k, segments)) for k in missing)
        _check_room(self.folder, stored_bytes(rows, self.samples))
        with tqdm(
            total=rows, desc=f"decode {rows:,} of {len(segments):,} segments", disable=not (progress and missing)
        ) as bar:
            for k in np.random.default_rng().permutation(missing):
                own = self._of(int(k), segments)
                if not self._is_there(int(k)):
                    self._write(int(k), own, segments, paths, workers)
                bar.update(len(own))

    def _sweep(self) -> None:
        """Remove what killed processes had begun to write.

        Only by age: the number of a process says nothing about another machine or container that shares the disk, and
        who is alive writes a block every few minutes.
        """
        for draft in self.folder.glob(".[0-9]*"):
            with suppress(OSError):  # renamed or removed by now
                if time.time() - draft.stat().st_mtime > DRAFT_S:
                    draft.unlink()

    def _fill(self, k: int, segments: pd.DataFrame, paths: pd.Series, workers: int | None) -> None:
        """Try again what a shard lacks, and put in its place what can be read now.

        No other row is touched, and the shard stays the same file: others may be reading it. That a row is there is
        said after it was written, so a kill leaves it lacking; of two processes the last says what it has itself.
        """
        about = json.loads(self._about(k).read_text("utf8"))
        failed, scales, first = [], about["scales"], k * self._per
        for some in _blocks([row for row, *_ in about["failed"]], self.samples):
            waves, bad = _decode(segments, paths, some, self.sr, self.samples, workers)
            failed += bad
            found = sorted(set(some) - {row for row, *_ in bad})
            whole, full = to_int16(waves[np.isin(some, found)])
            if found:
                self._put(k, np.array(found) - first, whole)
            for row, scale in zip(found, full.tolist(), strict=True):
                scales[row - first] = scale
        if len(failed) < len(about["failed"]):
            self._tell(k, scales, failed)

    def _put(self, k: int, places: np.ndarray, whole: np.ndarray) -> None:
        """Write some rows of a shard in their places; not by a memory map, which a full disk would kill."""
        try:
            sound = np.load(self._sound(k), mmap_mode="r")
            with open(self._sound(k), "r+b") as file:
                for place, row in zip(places, whole, strict=True):
                    file.seek(sound.offset + int(place) * row.nbytes)
                    file.write(row.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except (OSError, ValueError) as err:
            raise AudiotkError(
                f"{self._sound(k)}: rows that can be read now cannot be put in it ({err}); make the folder "
                f"writable, or delete {self.folder} and start again"
            ) from err

    def _tell(self, k: int, scales: list[float], failed: list[tuple[int, str, str, str]]) -> None:
        with atomic(self._about(k)) as text:
            text.write_text(json.dumps({"scales": scales, "failed": failed}), encoding="utf8")

    def _write(self, k: int, own: range, segments: pd.DataFrame, paths: pd.Series, workers: int | None) -> None:
        scales: list[float] = []
        failed: list[tuple[int, str, str, str]] = []
        header = {"descr": "<i2", "fortran_order": False, "shape": (len(own), self.samples)}
        with atomic(self._sound(k)) as draft:
            with open(draft, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for some in _blocks(own, self.samples):
                    waves, bad = _decode(segments, paths, some, self.sr, self.samples, workers)
                    whole, full = to_int16(waves)
                    file.write(whole.tobytes())
                    scales, failed = scales + full.tolist(), failed + bad
            self._tell(k, scales, failed)


def sound_dir() -> Path:
    """Where decoded sound is kept: ``sound`` in :func:`audiotk.files.cache_dir`."""
    return cache_dir() / "sound"


def stored_bytes(rows: int, samples: int) -> int:
    """Bytes that so many rows of so many samples take on the disk."""
    return 2 * rows * samples


def to_int16(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """16-bit samples of waves [shape=(n, samples)] and the full scale of each row: sample / 2^15 * full scale."""
    top = np.maximum(waves.max(axis=1, initial=0.0) * 2**15 / np.float64(2**15 - 1), -waves.min(axis=1, initial=0.0))
    mantissa, exponent = np.frexp(top)
    power = np.ldexp(1.0, np.maximum(exponent - (mantissa == 0.5), LOWEST))  # the least one that is not below the peak
    full = np.where(top > 1, top, power)
    return np.rint(waves * (2**15 / full)[:, None]).astype("<i2"), full


def _blocks(rows: Any, samples: int) -> Iterator[list[int]]:
    size = max(1, int(BLOCK_BYTES // max(1, 4 * samples)))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def _decode(
    segments: pd.DataFrame, paths: pd.Series, rows: list[int], sr: int, samples: int, workers: int | None
) -> tuple[np.ndarray, list[tuple[int, str, str, str]]]:
    """Waves of some rows, zeros where there are none; (row, recording, path, reason) of those."""
    some, files = segments.iloc[rows].reset_index(drop=True), paths.iloc[rows].reset_index(drop=True)
    waves, failed = load_rows(files, some, sr, samples, workers, progress=False)
    return waves, sorted((rows[row], recording, path, reason) for row, recording, path, reason in failed)


def _digest(segments: pd.DataFrame, paths: pd.Series, layout: list[int]) -> str:
    """Of the files, of what is cut out of them, and of how it is stored."""
    codes, files = pd.factorize(paths)
    digest = hashlib.sha256(json.dumps(layout).encode())
    for path in files:
        try:
            found = os.stat(path)
            size, changed = found.st_size, found.st_mtime_ns
        except OSError:
            size, changed = -1, -1
        digest.update(f"{os.path.abspath(path)}\n{size} {changed}\n".encode("utf8", "surrogateescape"))
    digest.update("\n".join([*segments["recording"], *segments["segment"]]).encode("utf8", "surrogateescape"))
    for array in (codes, segments["start_s"], segments["end_s"]):
        digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(place).free


def _check_room(folder: Path, needed: int) -> None:
    if needed > (free := free_bytes(folder)):
        raise AudiotkError(
            f"{folder.parent}: decoded sound takes {needed / 1e9:,.1f} GB more there, but {free / 1e9:,.1f} GB are "
            "free; make room (older sound in that folder may be deleted), or set AUDIOTK_CACHE to a larger disk"
        )
