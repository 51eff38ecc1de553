"""What was heard, on the disk: a folder a teacher, with Parquet parts that appear whole or not at all.

A row is one window: the SHA-256 of the file (``audio``), its samples ``first`` to ``last`` at the teacher's rate, and
what the teacher gave (``heard``). So a window is found again when the file was moved, whatever the hop or the segment
was. Path, size and time of the file spare reading it again to know that it is the same. A file that could not be read
is a row with a ``reason``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from audiotk.decode import QUALITY
from audiotk.files import atomic
from audiotk.tables import AudiotkError
from audiotk.teachers.base import Teacher

FORMAT = 1
ABOUT = "about.json"
STALE_S = 86_400  # a draft of a killed process is removed when it is this old
FILE_COLUMNS = ["audio", "path", "size", "mtime_ns"]
INDEX_COLUMNS = [*FILE_COLUMNS, "first", "last", "reason"]


def schema(width: int) -> pa.Schema:
    """Of a part; `width` numbers a window."""
    fields = [(name, pa.string() if name in ("audio", "path", "reason") else pa.int64()) for name in INDEX_COLUMNS]
    return pa.schema([*fields, ("heard", pa.list_(pa.float32(), width))])


class Parts:
    """The folder of one teacher below `out`.

    Parameters
    ----------
    out
        The folder that keeps what all teachers heard.
    teacher
        Whose numbers these are: its :meth:`~audiotk.teachers.Teacher.fingerprint` and the resampler are the key.
    make
        Make the folder; else it has to be there.

    Raises
    ------
    AudiotkError
        The folder cannot be made, or holds something else; or the teacher has no name or checksum.
    """

    def __init__(self, out: str | Path, teacher: Teacher, make: bool = True) -> None:
        if not (teacher.name and teacher.checksum and teacher.width):
            raise AudiotkError(
                f"teacher {teacher.name!r}: expected a name, a checksum and dim or classes, got checksum="
                f"{teacher.checksum!r} and {teacher.width} numbers a window; without them its numbers would be mixed up"
            )
        about = {"format": FORMAT, "resampler": f"soxr {QUALITY}", "width": teacher.width, **teacher.fingerprint()}
        self.about: dict[str, Any] = json.loads(json.dumps(about))
        text = json.dumps(self.about, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        name = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in teacher.name)
        self.folder, self.width = Path(out) / f"{name}-{self.key[:12]}", teacher.width
        if not make and not (self.folder / ABOUT).exists():
            told = "it sees another disk, or has other weights or options than who asks"
            raise AudiotkError(f"{self.folder}: is not there for this worker: {told}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise AudiotkError(f"{self.folder}: cannot be made: {err.strerror or err}") from err
        self._check()

    def _check(self) -> None:
        place = self.folder / ABOUT
        if not place.exists():
            with atomic(place) as draft:
                draft.write_text(json.dumps(self.about, indent=1, ensure_ascii=False), "utf-8")
            return
        try:
            found = json.loads(place.read_text("utf-8"))
        except (OSError, ValueError) as err:
            raise AudiotkError(f"{place}: cannot be read: {err}; remove it to have it written anew") from err
        if found != self.about:
            raise AudiotkError(f"{self.folder}: holds what another teacher heard ({found!r:.200}); use another folder")

    def write(self, table: pa.Table) -> Path:
        """Write a part; its name is made of which windows of which sound it holds, so equal work replaces itself."""
        digest = hashlib.sha256()
        for name in ("audio", "first", "last", "path", "reason"):
            digest.update(repr(table[name].to_pylist()).encode("utf-8", "surrogatepass"))
        path = self.folder / f"part-{digest.hexdigest()[:20]}.parquet"
        with atomic(path) as draft:
            pq.write_table(table, draft, compression="zstd", use_dictionary=["audio", "path", "reason"])
        return path

    def paths(self) -> list[Path]:
        """All parts, by name; drafts that a process left a day ago or longer are removed."""
        for draft in self.folder.glob(".part-*.parquet"):
            if time.time() - draft.stat().st_mtime > STALE_S:
                draft.unlink(missing_ok=True)
        return sorted(self.folder.glob("part-*.parquet"))

    def index(self) -> tuple[list[Path], pd.DataFrame]:
        """The readable parts, and one row a window or failure: `INDEX_COLUMNS`, part (number), row (in the part).

        A damaged part is announced by a warning and left out, so that its windows are heard again.
        """
        paths: list[Path] = []
        tables: list[pa.Table] = []
        for path in self.paths():
            try:
                found = pq.read_table(path, schema=schema(self.width), columns=INDEX_COLUMNS, partitioning=None)
            except (OSError, pa.ArrowException) as err:
                warnings.warn(f"{path}: is damaged and will be made again; remove it: {err}", stacklevel=2)
                continue
            places = {"part": np.full(len(found), len(paths), np.int32), "row": np.arange(len(found), dtype=np.int32)}
            tables.append(found.append_column("part", [places["part"]]).append_column("row", [places["row"]]))
            paths.append(path)
        if not tables:
            empty = schema(self.width).empty_table().select(INDEX_COLUMNS)
            return [], empty.to_pandas().assign(part=np.int32(0), row=np.int32(0))
        return paths, pa.concat_tables(tables).to_pandas()

    def heard(self, path: Path, rows: np.ndarray) -> np.ndarray:
        """Numbers of some rows of a part: float32 [shape=(len(rows), width)]."""
        try:
            table = pq.read_table(path, schema=schema(self.width), columns=["heard"], partitioning=None)
        except (OSError, pa.ArrowException) as err:
            raise AudiotkError(f"{path}: is damaged: {err}; score again, it will be made anew") from err
        column = table["heard"].combine_chunks()
        return column.take(pa.array(rows)).flatten().to_numpy().reshape(len(rows), self.width)


def table_of(rows: Sequence[tuple[Any, ...]], heard: np.ndarray, width: int) -> pa.Table:
    """A part from rows (`INDEX_COLUMNS`) and the numbers of the first ``len(heard)`` of them; the rest has none."""
    columns = zip(INDEX_COLUMNS, zip(*rows, strict=True) if rows else [()] * len(INDEX_COLUMNS), strict=True)
    wanted = schema(width)
    arrays = {name: pa.array(values, wanted.field(name).type) for name, values in columns}
    lists = pa.FixedSizeListArray.from_arrays(pa.array(heard.reshape(-1), pa.float32()), width)
    arrays["heard"] = pa.concat_arrays([lists, pa.nulls(len(rows) - len(heard), lists.type)])
    return pa.table([arrays[name] for name in wanted.names], wanted)


def file_key(path: str) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; (-1, -1) if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
