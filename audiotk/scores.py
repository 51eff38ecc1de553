"""Scores of a teacher or student, in memory or in a Parquet file that is larger than memory: a few classes at a time.

A threshold is compared with scores in *their* type: it is rounded to it first. So a score that was written as 0.95 is
equal to the threshold 0.95, not above it, as float16 (where 0.95 is 0.9502), as float32 (0.94999999) and as float64.
Scores of different types may stand in one table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audiotk.files import atomic
from audiotk.tables import AudiotkError, Labels

GROUP_CELLS = 16_000_000  # scores in a row group of a file, at most this many and one part more are held when writing
READ_BYTES = 64_000_000  # scores of a file that are in memory at a time, about
ABOUT = "audiotk.scores"  # metadata of a file: JSON of what its scores depend on
ADVICE = "scores are probabilities; put logits through a sigmoid first, and leave out segments that have none"


def write_scores(
    path: str | Path,
    scores: pd.DataFrame | Iterable[pd.DataFrame],
    dtype: str = "float16",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write scores to a Parquet file: column ``segment`` and one column of `dtype` a class; wholly or not at all.

    Parameters
    ----------
    path
        File to write.
    scores
        One frame (index segment, one float column a class), or frames that come one after the other with the same
        classes; these are not held together.
    dtype
        ``float16`` (3 significant digits), ``float32`` or ``float64``.
    about
        What the scores depend on (teacher, prompts, thresholds, ...), as JSON can hold it; see :attr:`Scores.about`.

    Raises
    ------
    AudiotkError
        A score is NaN or outside [0, 1], a part has other classes, or there is no part.
    """
    if dtype not in ("float16", "float32", "float64"):
        raise AudiotkError(f"scores: expected dtype float16, float32 or float64, got {dtype!r}")
    parts = scores if isinstance(scores, Iterable) and not isinstance(scores, pd.DataFrame) else [scores]
    with atomic(path) as draft:
        writer: pq.ParquetWriter | None = None
        waiting: list[pa.Table] = []
        try:
            for part in parts:
                if not isinstance(part, pd.DataFrame):
                    raise AudiotkError(f"scores: expected a DataFrame or several, got {type(part).__name__}")
                classes = list(part.columns) if writer is None else writer.schema.names[1:]
                table = _arrow(part, classes, dtype)
                table = table.replace_schema_metadata({ABOUT: json.dumps(dict(about or {}), ensure_ascii=False)})
                writer = writer or pq.ParquetWriter(draft, table.schema, use_dictionary=["segment"], compression="lz4")
                waiting.append(table)
                if sum(len(held) for held in waiting) * len(classes) >= GROUP_CELLS:
                    _write(writer, waiting)
            if writer is None:
                raise AudiotkError(f"{path}: there are no scores to write")
            _write(writer, waiting)
        finally:
            if writer is not None:
                writer.close()


def _write(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> None:
    """Write what waits as row groups of GROUP_CELLS scores, and forget it."""
    if waiting:
        table = pa.concat_tables(waiting).combine_chunks()
        waiting.clear()
        writer.write_table(table, row_group_size=max(1, GROUP_CELLS // max(1, table.num_columns - 1)))


def _arrow(part: pd.DataFrame, classes: list[str], dtype: str) -> pa.Table:
    """One checked part as an Arrow table with `classes` in that order."""
    names = _names(part.columns)
    if set(names) != set(classes) or "segment" in names:
        odd = sorted(set(names) ^ set(classes))[:1] or ["segment"]
        raise AudiotkError(f"scores: expected the same classes in each part and none called 'segment'; see {odd[0]!r}")
    segments = pd.Index(part.index, dtype="str")
    values = np.ascontiguousarray(_floats(part[classes].to_numpy(), classes, "scores").T)  # (n_classes, n_segments)
    for name, column in zip(classes, values, strict=True):
        _checked(column, name, segments, "scores")
    columns = [
        pa.array(segments, type=pa.string()),
        *map(pa.array, _half(values) if dtype == "float16" else np.abs(values).astype(dtype)),
    ]
    return pa.table(columns, names=["segment", *classes])


def open_scores(source: Any) -> Scores:
    """Scores from a DataFrame (index segment, one float column a class), a Parquet file of them, or Scores."""
    return source if isinstance(source, Scores) else Scores(source)


class Scores:
    """Scores by segment and class; a file is read a few columns at a time, as often as asked.

    Parameters
    ----------
    source
        DataFrame (index segment, one float column a class) or path of a Parquet file with a column ``segment`` and one
        float column a class, as :func:`write_scores` writes it.

    Attributes
    ----------
    segments, classes
        Ids and names in the order of the source.
    about
        What :func:`write_scores` was told the scores depend on; empty where nothing was.

    Raises
    ------
    AudiotkError
        The source is of another type, the file cannot be read, or a segment or class is empty or occurs twice.
    """

    def __init__(self, source: pd.DataFrame | str | Path) -> None:
        self._file: pq.ParquetFile | None = None
        self.name = "scores"
        self.about: dict[str, Any] = {}
        if isinstance(source, pd.DataFrame):
            self._frame = source
            segments, classes = source.index, _names(source.columns)
        elif not isinstance(source, str | os.PathLike):
            raise AudiotkError(f"scores: expected a DataFrame or a Parquet path, got {type(source).__name__}")
        else:
            self.name = str(source)
            try:
                self._file = pq.ParquetFile(source)
                names = self._file.schema_arrow.names
                if "segment" not in names:
                    raise AudiotkError(f"{source}: expected a column 'segment' and one a class, got {names[:5]} ...")
                segments = pd.Index(self._file.read(["segment"])["segment"].to_pandas())
                self.about = _about(source, self._file.schema_arrow)
            except (OSError, pa.ArrowInvalid) as err:
                raise AudiotkError(f"{source}: cannot be read as Parquet: {err}") from err
            classes = [name for name in names if name not in ("segment", "__index_level_0__")]
        self.segments = pd.Index(segments, dtype="str", name="segment")
        self.classes = pd.Index(classes, dtype="str", name="class_name")
        for noun, index in (("segment", self.segments), ("class", self.classes)):
            if (empty := index.isna()).any():
                raise AudiotkError(f"{self.name}: {noun} number {int(empty.argmax())}: expected a name, got none")
            if pc.count_distinct(_text(index)).as_py() < len(index):  # an Index would keep what it needs to know this
                raise AudiotkError(f"{self.name}: {noun} {index[index.duplicated()][0]!r} occurs twice")

    def columns(self, labels: Labels) -> Iterator[tuple[int, np.ndarray]]:
        """Class position in `labels` and scores of that class in the row order of `labels`, in their own float type.

        Raises
        ------
        AudiotkError
            A segment or class of the labels has no scores or the other way round, or a score is NaN or outside [0, 1]
            (named with segment, class and value).
        """
        order = self._order(labels)
        for place, name, values in self._read(list(labels.classes)):
            values = values if order is None else values[order]
            yield place, _checked(values, name, labels.segments, self.name)

    def blocks(self, labels: Labels, width: int = 32) -> Iterator[tuple[slice, np.ndarray]]:
        """As :meth:`columns`, `width` classes together: positions, and scores of shape (n_segments, width).

        float32 unless the scores are float64.
        """
        block: list[np.ndarray] = []
        for place, values in self.columns(labels):
            block.append(values.astype(np.float32) if values.dtype == np.float16 else values)
            if len(block) == width or place == len(labels.classes) - 1:
                yield slice(place + 1 - len(block), place + 1), np.stack(block).T
                block = []

    def by_class(self, classes: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Name and scores of each named class in the order of `segments`, in their own float type; no labels needed.

        Raises
        ------
        AudiotkError
            There is no such class, or a score is NaN or outside [0, 1].
        """
        if unknown := [name for name in classes if name not in self.classes]:
            raise AudiotkError(f"{self.name}: there is no class {unknown[0]!r}")
        for _, name, values in self._read(list(classes)):
            yield name, _checked(values, name, self.segments, self.name)

    def at(self, segments: Any, classes: Any) -> np.ndarray:
        """Scores of single cells: float64, one for each pair of a segment id and a class name."""
        ids, names = pd.Index(segments, dtype="str"), pd.Index(classes, dtype="str")
        rows = _places(ids, self.segments)
        if (rows < 0).any():
            raise AudiotkError(f"{self.name}: there is no segment {ids[rows < 0][0]!r}")
        code, wanted = pd.factorize(names)
        if (self.classes.get_indexer(wanted) < 0).any():
            raise AudiotkError(f"{self.name}: there is no class {wanted.difference(self.classes)[0]!r}")
        found = np.full(len(rows), np.nan)
        for place, name, values in self._read(list(wanted)):
            mine = code == place
            found[mine] = _checked(values[rows[mine]], name, self.segments.take(rows[mine]), self.name)
        return found

    def _read(self, names: list[str]) -> Iterator[tuple[int, str, np.ndarray]]:
        """Number, name and scores of each class of `names`, in the rows' own order."""
        if self._file is None:
            at = self.classes.get_indexer(pd.Index(names, dtype="str"))
            for place, name in enumerate(names):
                yield place, name, _floats(self._frame.iloc[:, at[place]].to_numpy(), name, self.name)
            return
        types = self._file.schema_arrow
        width = max(1, READ_BYTES // (8 * max(1, len(self.segments))))
        if all(types.field(name).type == pa.float16() for name in names):
            width *= 4
        for start in range(0, len(names), width):
            some = names[start : start + width]
            table = self._file.read(columns=some)
            for place, name in enumerate(some, start):
                yield place, name, _floats(table[name].to_numpy(), name, self.name)

    def _order(self, labels: Labels) -> np.ndarray | None:
        """Row of each segment of the labels, None where the order is the same; both sides have to match."""
        for noun, ours, theirs in (
            ("class", self.classes, labels.classes),
            ("segment", self.segments, labels.segments),
        ):
            order = None if ours.equals(theirs) else _places(theirs, ours)
            if order is not None and (order < 0).any():
                lost = theirs[order < 0]
                raise AudiotkError(
                    f"{self.name}: {noun} {lost[0]!r} of the labels has no scores ({len(lost)} such); score it, or "
                    "leave it out of the labels with select()"
                )
            if len(ours) != len(theirs):
                extra = ours.difference(theirs, sort=False)
                raise AudiotkError(
                    f"{self.name}: {noun} {extra[0]!r} is not in the labels ({len(extra)} such); leave it out"
                )
        return order


def _about(path: str | os.PathLike[str], schema: pa.Schema) -> dict[str, Any]:
    """What a file says that its scores depend on."""
    try:
        about = json.loads((schema.metadata or {}).get(ABOUT.encode(), b"{}"))
    except (ValueError, RecursionError) as err:
        raise AudiotkError(f"{path}: its metadata {ABOUT} cannot be read as JSON: {err}") from err
    if not isinstance(about, dict):
        raise AudiotkError(f"{path}: expected an object in its metadata {ABOUT}, got {type(about).__name__}")
    return about


def comparable(values: np.ndarray, *thresholds: float) -> tuple[np.ndarray, ...]:
    """Scores and thresholds as arrays that can be compared quickly and exactly: thresholds take the scores' type.

    float16 scores in [0, 1] are compared by their bits, which rise with the value.
    """
    rounded = np.array(thresholds, dtype=np.float64).astype(values.dtype)
    if values.dtype == np.float16:
        values, rounded = values.view(np.int16), rounded.view(np.int16)
    return values, *rounded


def exceeds(values: np.ndarray, level: float) -> np.ndarray:
    """Where scores are above a `level` that was computed: exactly, without rounding it."""
    below = np.array(level, dtype=np.float64).astype(values.dtype)
    if below.astype(np.float64) > level:
        below = np.nextafter(below, np.array(-1, dtype=values.dtype))
    scores, border = comparable(values, float(below))
    return scores > border


def _half(values: np.ndarray) -> np.ndarray:
    """Scores in [0, 1] as float16, rounded as numpy does; ten times quicker where many are below 2**-14.

    Processors take a detour for each such (subnormal) result; there float16 counts in steps of 2**-24.
    """
    if values.dtype == np.float16:
        return values
    small = values < 2.0**-14
    half = np.where(small, 0, values).astype(np.float16)
    steps = np.rint(np.where(small, values, 0) * values.dtype.type(2.0**24)).astype(np.uint16)
    return np.where(small, steps.view(np.float16), half)


def _names(columns: pd.Index) -> list[str]:
    """Class names of a frame of scores."""
    return list(pd.Index(columns, dtype="str"))


def _text(index: pd.Index) -> pa.Array:
    """Ids or names as one Arrow array."""
    return pa.array(index, type=pa.large_string())


def _places(wanted: pd.Index, known: pd.Index) -> np.ndarray:
    """Position of each id in `known`, -1 where it is not there; takes less time and memory than an Index does."""
    return pc.index_in(_text(wanted), value_set=_text(known)).fill_null(-1).to_numpy()


def _floats(values: np.ndarray, name: Any, where: str) -> np.ndarray:
    """Values in float16, 32 or 64."""
    if values.dtype in (np.float16, np.float32, np.float64):
        return values
    if values.dtype.kind not in "biuf":
        raise AudiotkError(f"{where}: class {str(name)[:60]}: expected floats, got {values.dtype}; see astype(float)")
    return values.astype(np.float64)


def _checked(values: np.ndarray, name: str, segments: pd.Index, where: str) -> np.ndarray:
    """The values with 0 for -0; refuses a score that is NaN or outside [0, 1]."""
    if not len(values):
        return values
    if values.dtype == np.float16:  # the bits of [0, 1] are 0 to 0x3C00
        fine = values.view(np.uint16).max() <= 0x3C00
    else:
        fine = values.min() >= 0 and values.max() <= 1
    if fine:
        return values
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        row = int(bad.argmax())
        raise AudiotkError(
            f"{where}: segment {segments[row]!r}, class {name!r}: expected a score in [0, 1], got {values[row]} "
            f"({int(bad.sum())} such in this class); {ADVICE}"
        )
    return np.abs(values)
