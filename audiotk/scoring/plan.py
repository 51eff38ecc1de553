"""Which windows are wanted, which of them were heard already, and which files could not be."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.datasets.found import sha256
from audiotk.decode import in_threads
from audiotk.scoring.heard import Heard
from audiotk.scoring.hearing import Job
from audiotk.scoring.parts import FILE_COLUMNS, Parts, file_key
from audiotk.scoring.windows import cut_windows
from audiotk.tables import PROBLEM_COLUMNS, AudiotkError
from audiotk.teachers.base import Teacher

STAT_THREADS, STAT_FILES = 8, 1000  # for network disks; files that a thread looks at in one go
PIECE = 4096  # windows of a file that are heard in one shard, at most: what a killed worker loses of a long recording
UNKNOWN = "?"  # in place of the checksum of a file that was not read yet


class Plan:
    """The windows of some segments, and where the parts of `out` hold them.

    Parameters
    ----------
    recordings, segments
        Checked tables.
    teacher, out, hop_s
        As in :func:`audiotk.scoring.listen`.
    """

    def __init__(
        self, recordings: pd.DataFrame, segments: pd.DataFrame, teacher: Teacher, out: str | Path, hop_s: float | None
    ) -> None:
        place = pd.Index(recordings["recording"]).get_indexer(pd.Index(segments["recording"]))
        paths = recordings["path"].map(os.path.abspath)  # workers may have another working folder
        self.recordings, self.segments, self.teacher = recordings.assign(path=paths), segments, teacher
        self.windows = cut_windows(segments, teacher.sr, teacher.window_s, hop_s)
        code, names = pd.factorize(paths)
        self.windows["file"] = code[place][self.windows["row"]]
        self.paths: list[str] = names.tolist()
        self.parts = Parts(out, teacher)

    def shards(self, size: int) -> Iterator[list[Job]]:
        """Jobs of what was not heard yet, in shards of about `size` windows; long files are cut at `PIECE` windows."""
        missing = self._find()[0] < 0
        left = self.windows.loc[missing, ["file", "first", "last"]].drop_duplicates()
        left = left.sort_values(["file", "first", "last"], kind="stable")
        file, first, last = left.to_numpy().T.tolist() if len(left) else ([], [], [])
        edges = [*np.flatnonzero(np.diff(file, prepend=-1)).tolist(), len(file)]
        edges = sorted({*edges, *range(0, len(file), PIECE)}) if len(file) else edges  # an hour or a day of one file
        jobs: list[Job] = []
        count = 0
        for start, stop in pairwise(edges):
            jobs.append(Job(self.paths[file[start]], tuple(zip(first[start:stop], last[start:stop], strict=True))))
            count += stop - start
            if count >= size:
                yield jobs
                jobs, count = [], 0
        if jobs:
            yield jobs

    def result(self) -> Heard:
        """What was heard; what could not be is announced by a warning.

        Raises
        ------
        AudiotkError
            Nothing at all could be heard.
        """
        at, paths, index = self._find()
        row = self.windows["row"].to_numpy()
        lost = np.zeros(len(self.segments), dtype=bool)
        lost[row[at < 0]] = True
        problems = self._problems(lost, index)
        if len(lost) and lost.all():
            raise AudiotkError(f"none of {len(lost):,} segments can be heard; first: {problems['reason'].iloc[0]}")
        if len(problems):
            told = f"{self.teacher.name} could not hear {len(problems)} recording(s), see the problems"
            warnings.warn(f"{told}; first: {problems['reason'].iloc[0]}", stacklevel=3)
        kept = ~lost[row]
        windows = self.windows.loc[kept, ["row", "first", "last"]].reset_index(drop=True)
        windows["row"] = (np.cumsum(~lost) - 1)[row[kept]]
        windows[["part", "place"]] = index.iloc[at[kept]][["part", "row"]].to_numpy()
        segments = self.segments[~lost].reset_index(drop=True)
        return Heard(self.teacher, segments, windows, problems, self.parts, paths)

    def _find(self) -> tuple[np.ndarray, list[Path], pd.DataFrame]:
        """For each window its row of the index (-1: not heard); the parts; the index (see `Parts.index`)."""
        paths, index = self.parts.index()
        good = index["reason"].isna().to_numpy()
        code, known = pd.factorize(index["audio"])
        audio = pd.Index(known).get_indexer(pd.Index(self._audio(index[good])))[self.windows["file"]]
        keys = pd.MultiIndex.from_arrays([code, index["first"], index["last"]])
        rows = np.flatnonzero(good & ~keys.duplicated())
        if not len(rows):
            return np.full(len(self.windows), -1), paths, index
        wanted = pd.MultiIndex.from_arrays([audio, self.windows["first"], self.windows["last"]])
        found = keys[rows].get_indexer(wanted)
        return np.where((found >= 0) & (audio >= 0), rows[found], -1), paths, index

    def _audio(self, known: pd.DataFrame) -> np.ndarray:
        """SHA-256 of each file as far as it is known.

        A file of the same path, size and time is the same. Another one is read for it only if a known file of its size
        is no longer where it was: so a folder that was moved is not heard again, and new files are not read twice.
        """
        now = self._files()
        files = known[FILE_COLUMNS].drop_duplicates(["path", "size", "mtime_ns"], keep="last")
        audio = now.merge(files, on=["path", "size", "mtime_ns"], how="left")["audio"].to_numpy(dtype=object)
        elsewhere = files[~files["path"].isin(self.paths)]
        gone = {
            size for path, size in zip(elsewhere["path"], elsewhere["size"], strict=True) if not os.path.exists(path)
        }
        maybe = np.flatnonzero(pd.isna(audio) & now["size"].isin(gone).to_numpy())
        audio[maybe] = list(
            in_threads(_checksum, [self.paths[place] for place in maybe], None, len(maybe) > 999, "moved?")
        )
        return np.where(pd.isna(audio), UNKNOWN, audio)

    def _files(self) -> pd.DataFrame:
        """Columns path, size, mtime_ns of each file as it is now."""
        some = [self.paths[start : start + STAT_FILES] for start in range(0, len(self.paths), STAT_FILES)]
        keys = [key for found in in_threads(_keys, some, STAT_THREADS, len(some) > 99, "files") for key in found]
        return pd.DataFrame(keys, columns=["size", "mtime_ns"]).assign(path=pd.Series(self.paths, dtype="str"))

    def _problems(self, lost: np.ndarray, index: pd.DataFrame) -> pd.DataFrame:
        """The *problems* table of recordings of which a segment was lost."""
        names = self.segments.loc[lost, "recording"].drop_duplicates()
        paths = self.recordings.set_index("recording")["path"].loc[names]
        failed = index[index["reason"].notna()].merge(self._files(), on=["path", "size", "mtime_ns"])
        failed = failed.drop_duplicates("path", keep="last")
        reasons = paths.map(failed.set_index("path")["reason"]).fillna("changed while it was read; score again")
        rows = {"recording": names.to_numpy(), "path": paths.to_numpy(), "reason": reasons.to_numpy()}
        return pd.DataFrame(rows).astype(PROBLEM_COLUMNS)


def _keys(paths: list[str]) -> list[tuple[int, int]]:
    return [file_key(path) for path in paths]


def _checksum(path: str) -> str:
    """SHA-256 of a file; `UNKNOWN` if it cannot be read, which whoever is to hear it will report."""
    try:
        return sha256(path)
    except OSError:
        return UNKNOWN
