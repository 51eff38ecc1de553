"""Labels: a segment x class matrix of present (1), absent (0) and unknown (NaN), small enough for AudioSet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from audiotk.errors import AudiotkError
from audiotk.files import atomic


class Labels:
    """Segment x class matrix of 1 (present), 0 (absent) and NaN (unknown), sparse around a default.

    Only cells that differ from `default` are stored (5 bytes each, plus 4 a segment), so 2 M segments x 527 classes
    with a few labels each take tens of megabytes. Labels are derived from annotations and not edited: every method
    returns new labels.

    Parameters
    ----------
    segments
        Segment ids, unique.
    classes
        Class names, unique.
    cells
        scipy CSR matrix (n_segments, n_classes) of int8 codes: 1 present, 2 absent, 3 unknown; not stored = `default`.
    default
        0.0 (absent) or NaN (unknown).
    """

    def __init__(self, segments: Any, classes: Any, cells: sparse.csr_array, default: float = np.nan) -> None:
        self.segments = pd.Index(segments, dtype="str", name="segment")
        self.classes = pd.Index(classes, dtype="str", name="class_name")
        for noun, index in (("segment", self.segments), ("class", self.classes)):
            if index.has_duplicates:
                raise AudiotkError(f"labels: {noun} {index[index.duplicated()][0]!r} occurs twice")
        if cells.shape != self.shape:
            raise AudiotkError(f"labels: expected cells of shape {self.shape}, got {cells.shape}")
        if not (default == 0 or np.isnan(default)):
            raise AudiotkError(f"labels: expected a default of 0 (absent) or NaN (unknown), got {default}")
        self.default = float(default)
        self.cells = cells

    @classmethod
    def from_cells(
        cls, segments: Any, classes: Any, rows: Any, cols: Any, values: Any, default: float = np.nan
    ) -> Labels:
        """Labels from positions and values (1, 0, NaN) of single cells; all others are `default`.

        Raises
        ------
        AudiotkError
            A position lies outside, a value is none of 1, 0, NaN, or a cell is given twice.
        """
        shape = (len(segments), len(classes))
        rows, cols = np.asarray(rows, dtype=np.int64).ravel(), np.asarray(cols, dtype=np.int64).ravel()
        codes = _encode(np.asarray(values).ravel())
        if not len(rows) == len(cols) == len(codes):
            raise AudiotkError(
                f"labels: {len(rows)} rows, {len(cols)} columns and {len(codes)} values differ in length"
            )
        if len(rows) and (rows.min() < 0 or cols.min() < 0 or rows.max() >= shape[0] or cols.max() >= shape[1]):
            raise AudiotkError(f"labels: a cell lies outside of {shape[0]} segments x {shape[1]} classes")
        keep = codes != _encode(np.array([default]))[0]
        positions = (rows[keep].astype(np.int32), cols[keep].astype(np.int32))
        cells = sparse.coo_array((codes[keep], positions), shape=shape).tocsr()
        if cells.nnz != keep.sum():
            raise AudiotkError("labels: a cell is given twice")
        return cls(segments, classes, cells, default)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, default: float | None = None) -> Labels:
        """Labels from a DataFrame of 1 / 0 / NaN; `default` is the more frequent of 0 and NaN unless given."""
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
        if default is None:
            default = 0.0 if (values == 0).sum() >= np.isnan(values).sum() else np.nan
        differs = ~np.isnan(values) if np.isnan(default) else values != default
        rows, cols = np.nonzero(differs)
        return cls.from_cells(frame.index, frame.columns, rows, cols, values[rows, cols], default)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of segments, number of classes."""
        return len(self.segments), len(self.classes)

    def dense(self, rows: Any = None) -> np.ndarray:
        """Values of `rows` (positions, a slice or a mask; default all): float32 (n_rows, n_classes) of 1 / 0 / NaN."""
        codes = (self.cells if rows is None else self.cells[rows]).toarray()
        return np.array([self.default, 1.0, 0.0, np.nan], dtype=np.float32)[codes]

    def frame(self) -> pd.DataFrame:
        """All values as a DataFrame, index segment, one float32 column a class."""
        return pd.DataFrame(self.dense(), index=self.segments, columns=self.classes)

    def select(self, segments: Any = None, classes: Any = None) -> Labels:
        """Labels of the named segments and classes, in the order given.

        Raises
        ------
        AudiotkError
            A segment or class is not there.
        """
        cells = self.cells
        chosen = []
        for noun, index, names in (("segment", self.segments, segments), ("class", self.classes, classes)):
            if names is None:
                chosen.append(index)
                continue
            names = pd.Index(names, dtype="str")
            at = index.get_indexer(names)
            if (at < 0).any():
                raise AudiotkError(f"labels: {noun} {names[at < 0][0]!r} is not there ({int((at < 0).sum())} missing)")
            cells = cells[at] if noun == "segment" else cells[:, at]
            chosen.append(names)
        return Labels(chosen[0], chosen[1], sparse.csr_array(cells), self.default)

    def counts(self) -> pd.DataFrame:
        """Number of present, absent and unknown segments of each class."""
        stored = {
            name: np.bincount(self.cells.indices[self.cells.data == code], minlength=len(self.classes))
            for code, name in ((1, "present"), (2, "absent"), (3, "unknown"))
        }
        table = pd.DataFrame(stored, index=self.classes)
        rest = "unknown" if np.isnan(self.default) else "absent"
        table[rest] += len(self.segments) - table.sum(axis=1)
        return table

    def to_parquet(self, path: str | Path) -> None:
        """Write one row a segment: its id, the class positions that differ from the default, and their codes."""
        offsets = pa.array(self.cells.indptr, type=pa.int64())
        columns = {
            "segment": pa.array(self.segments, type=pa.large_string()),
            "classes": pa.LargeListArray.from_arrays(offsets, pa.array(self.cells.indices, type=pa.int32())),
            "codes": pa.LargeListArray.from_arrays(offsets, pa.array(self.cells.data, type=pa.int8())),
        }
        about = {
            "format": 1,
            "classes": list(self.classes),
            "default": "unknown" if np.isnan(self.default) else "absent",
        }
        table = pa.table(columns).replace_schema_metadata({"audiotk.labels": json.dumps(about)})
        with atomic(path) as draft:
            pq.write_table(table, draft)

    @classmethod
    def from_parquet(cls, path: str | Path) -> Labels:
        """Read what :meth:`to_parquet` wrote.

        Raises
        ------
        AudiotkError
            The file cannot be read, was not written by audiotk, or its cells are damaged (row and segment are named).
        """
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as err:
            raise AudiotkError(f"{path}: cannot be read as Parquet: {err}") from err
        classes, default = _about(path, table.schema)
        segments = _column(path, table, "segment", pa.large_string())
        cells = _cells(path, table, segments, len(classes))
        try:
            return cls(segments.to_pandas(), classes, cells, default)
        except AudiotkError as err:
            raise AudiotkError(f"{path}: {err}") from err

    def __eq__(self, other: object) -> bool:
        """Same segments, classes and values in the same order, whatever the default."""
        if not isinstance(other, Labels):
            return NotImplemented
        if not (self.segments.equals(other.segments) and self.classes.equals(other.classes)):
            return False
        steps = range(0, len(self.segments), 65536)
        blocks = (slice(start, start + 65536) for start in steps)
        return all(np.array_equal(self.dense(b), other.dense(b), equal_nan=True) for b in blocks)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        total = self.counts().sum()
        cells = ", ".join(f"{total[name]:,} {name}" for name in ("present", "absent", "unknown"))
        return f"Labels({self.shape[0]:,} segments x {self.shape[1]} classes: {cells})"


def _encode(values: np.ndarray) -> np.ndarray:
    """int8 codes 1 present, 2 absent, 3 unknown of values 1, 0, NaN."""
    values = values.astype(np.float64)
    codes = np.where(np.isnan(values), 3, np.where(values == 1, 1, 2)).astype(np.int8)
    if not (np.isnan(values) | (values == 0) | (values == 1)).all():
        raise AudiotkError("labels: expected values 1, 0 or NaN")
    return codes


def _about(path: str | Path, schema: pa.Schema) -> tuple[list[str], float]:
    """Classes and default of a file of labels."""
    try:
        about = json.loads((schema.metadata or {}).get(b"audiotk.labels", b"{}"))
    except (ValueError, RecursionError) as err:
        raise AudiotkError(f"{path}: its metadata audiotk.labels cannot be read as JSON: {err}") from err
    told = about.get("format") if isinstance(about, dict) else about
    if told != 1:
        raise AudiotkError(f"{path}: expected labels written by audiotk (format 1), got format {str(told)[:60]}")
    classes, default = about.get("classes"), about.get("default")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise AudiotkError(f"{path}: expected a list of class names in its metadata, got {str(classes)[:60]}")
    if default not in ("unknown", "absent"):
        raise AudiotkError(f"{path}: expected the default 'unknown' or 'absent' in its metadata, got {default!r}")
    return classes, np.nan if default == "unknown" else 0.0


def _column(path: str | Path, table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    """A column without nulls as one array of type `kind`."""
    if table.schema.names.count(name) != 1:
        raise AudiotkError(f"{path}: expected columns segment, classes and codes, got {table.schema.names}")
    try:
        column = table[name].combine_chunks().cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise AudiotkError(f"{path}: column {name!r}: expected {kind}, got {table.schema.field(name).type}") from err
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise AudiotkError(f"{path} row {row}: expected a value in column {name!r}, got none")
    return column


def _cells(path: str | Path, table: pa.Table, segments: pa.Array, n_classes: int) -> sparse.csr_array:
    """The cells of a file of labels, all of them checked: scipy looks at none, and writes where they point to."""
    lists = _column(path, table, "classes", pa.large_list(pa.int32()))
    codes = _column(path, table, "codes", pa.large_list(pa.int8()))
    sizes = lists.value_lengths().to_numpy()

    def refuse(row: int, told: str) -> AudiotkError:
        return AudiotkError(f"{path} row {row}: segment {segments[int(row)].as_py()!r}: {told}; write the file again")

    if (differ := sizes != codes.value_lengths().to_numpy()).any():
        raise refuse(int(differ.argmax()), "expected as many codes as class positions")
    ends = np.cumsum(sizes)
    expected = {"class positions": (0, n_classes - 1), "codes": (1, 3)}
    values = []
    for (noun, (low, high)), column in zip(expected.items(), (lists, codes), strict=True):
        flat = column.flatten()
        found = flat.fill_null(-1).to_numpy()
        if len(found) and (found.min() < low or found.max() > high):
            at = int(((found < low) | (found > high)).argmax())
            row = int(np.searchsorted(ends, at, side="right"))
            raise refuse(row, f"expected {noun} {low} to {high}, got {flat[at].as_py()}")
        values.append(found)
    indptr = np.concatenate(([0], ends)).astype(np.int32 if len(values[0]) < 2**31 else np.int64)
    cells = sparse.csr_array((values[1], values[0], indptr), shape=(len(sizes), n_classes))
    if not cells.has_canonical_format:  # positions do not rise everywhere: is one there twice?
        sorted_cells = cells.sorted_indices()
        again = np.flatnonzero(np.diff(sorted_cells.indices) == 0) + 1
        again = again[~np.isin(again, ends)]  # else it is the first of a row
        if len(again):
            row, place = int(np.searchsorted(ends, again[0], side="right")), sorted_cells.indices[again[0]]
            raise refuse(row, f"class position {place} is there twice")
    return cells
