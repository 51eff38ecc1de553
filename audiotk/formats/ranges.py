"""Labelled time ranges as other programs keep them, before they become segments and annotations of a data set.

What a label file says is a table of ranges *and* the recordings that somebody went through: one that was checked and
found empty has no range, and is not the same as one that nobody has heard.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.files import atomic
from audiotk.tables import AudiotkError

RANGE_COLUMNS = {
    "recording": "str",
    "start_s": "float64",
    "end_s": "float64",
    "class_name": "str",
    "low_hz": "float64",
    "high_hz": "float64",
    "note": "str",
    "labeler": "str",
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Ranges:
    """What label files say.

    Attributes
    ----------
    table
        Columns recording, start_s, end_s, class_name, low_hz, high_hz (NaN: all frequencies), note and labeler (may be
        ""). The last four are filled in where they are missing, other columns are left out. ``start_s == end_s`` is a
        point in time.
    checked
        Every recording that was gone through, empty ones included; those of `table` are added.

    Raises
    ------
    AudiotkError
        A column is missing, an id or class is empty, or a time or frequency is not finite, negative or reversed.
    """

    table: pd.DataFrame
    checked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        table = _checked_table(self.table)
        names = dict.fromkeys([*self.checked, *table["recording"].unique()])
        if any(not isinstance(name, str) or not name for name in names):
            raise AudiotkError(f"ranges: expected names of recordings in checked, got {list(names)[:5]}")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "checked", tuple(names))

    def __len__(self) -> int:
        return len(self.table)

    def of(self, recording: str) -> Ranges:
        """The ranges of one recording, which has to be among `checked`."""
        if recording not in self.checked:
            raise AudiotkError(f"ranges: recording {recording!r} is not among the {len(self.checked)} checked ones")
        return Ranges(self.table[self.table["recording"] == recording], (recording,))

    def __repr__(self) -> str:
        empty = len(set(self.checked) - set(self.table["recording"]))
        classes = self.table["class_name"].nunique()
        return f"Ranges({len(self)} of {classes} classes in {len(self.checked)} recordings, {empty} of them empty)"


Ranged = Ranges | pd.DataFrame
PathLike = str | Path


def as_ranges(ranges: Ranged) -> Ranges:
    """A table of ranges (``store.segments()``, say) as :class:`Ranges`."""
    return ranges if isinstance(ranges, Ranges) else Ranges(ranges)


def _checked_table(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the columns and types of `RANGE_COLUMNS`, every row sound."""
    missing = [name for name in list(RANGE_COLUMNS)[:4] if name not in table.columns]
    if missing:
        raise AudiotkError(f"ranges: columns {missing} are missing, found {list(table.columns)}")
    columns: dict[str, Any] = {}
    for name, dtype in RANGE_COLUMNS.items():
        try:
            if dtype == "float64":
                columns[name] = np.asarray(table[name], dtype=float) if name in table else np.full(len(table), np.nan)
            else:
                empty = pd.Series("", index=table.index)
                columns[name] = table.get(name, empty).fillna("").astype("str").to_numpy(dtype=object)
        except (ValueError, TypeError) as err:
            raise AudiotkError(f"ranges: column {name!r} cannot be read as {dtype}: {err}") from err
    typed = pd.DataFrame(columns).astype(RANGE_COLUMNS)
    start, end, low, high = (typed[name].to_numpy() for name in ("start_s", "end_s", "low_hz", "high_hz"))
    faults = {
        "0 <= start_s <= end_s": ~(np.isfinite(start) & np.isfinite(end) & (start >= 0) & (end >= start)),
        "0 <= low_hz <= high_hz or NaN": (low < 0) | (high < 0) | (high < low) | np.isinf(low) | np.isinf(high),
        "a recording and a class_name": ((typed["recording"] == "") | (typed["class_name"] == "")).to_numpy(),
    }
    for expected, bad in faults.items():
        if bad.any():
            row = int(bad.argmax())
            raise AudiotkError(f"ranges: expected {expected}, got in row {row}: {typed.iloc[row, :6].to_dict()}")
    return typed


class Reading:
    """Gathers the ranges of a file that is being read; every complaint names the file and the place in it.

    Parameters
    ----------
    path
        The file.
    unnamed
        Class of ranges without a label; None refuses them.
    """

    def __init__(self, path: PathLike, unnamed: str | None = None) -> None:
        self.path, self.unnamed = Path(path), unnamed
        self.checked: dict[str, None] = {}
        self.rows: list[tuple[Any, ...]] = []

    def fault(self, where: str, expected: str, got: Any) -> AudiotkError:
        """What to raise; `where` is ``line 3`` or the like."""
        return AudiotkError(f"{self.path}, {where}: expected {expected}, got {got!r}")

    def text(self, encoding: str = "utf-8-sig") -> str:
        """All of the file."""
        try:
            return self.path.read_bytes().decode(encoding)
        except FileNotFoundError as err:
            raise AudiotkError(f"{self.path}: no such file") from err
        except OSError as err:
            raise AudiotkError(f"{self.path}: cannot be read: {err.strerror or err}") from err
        except UnicodeDecodeError as err:
            line = err.object[: err.start].count(b"\n") + 1
            told = "save it as UTF-8, or pass encoding='cp1252' or what else it is"
            raise AudiotkError(f"{self.path}, line {line}: expected text in {encoding}; {told}") from err
        except LookupError as err:
            raise AudiotkError(f"{self.path}: encoding {encoding!r} is not known") from err

    def number(self, where: str, what: str, value: Any, empty: float | None = None) -> float:
        """A finite number, from text with a decimal point or from JSON; `empty` is the value of an empty cell."""
        if empty is not None and (value is None or (isinstance(value, str) and not value.strip())):
            return empty
        is_text = isinstance(value, str) and is_number(value)
        if is_text or (isinstance(value, int | float) and not isinstance(value, bool)):
            number = float(value)
            if np.isfinite(number):
                return number
        raise self.fault(where, f"a number with a decimal point as {what}", value)

    def add(
        self,
        where: str,
        recording: str,
        start: Any,
        end: Any,
        class_name: str,
        low: Any = "",
        high: Any = "",
        note: str = "",
        labeler: str = "",
    ) -> None:
        """One range; numbers may be text, as in the file."""
        start_s, end_s = self.number(where, "start", start), self.number(where, "end", end)
        low_hz, high_hz = self.number(where, "low Hz", low, np.nan), self.number(where, "high Hz", high, np.nan)
        if not 0 <= start_s <= end_s:
            raise self.fault(where, "0 <= start <= end in seconds", (start_s, end_s))
        if low_hz < 0 or high_hz < 0 or high_hz < low_hz:
            raise self.fault(where, "0 <= low <= high in Hz", (low_hz, high_hz))
        name = class_name or self.unnamed
        if not name:
            raise self.fault(where, "a label (or pass unnamed='CLASS' to read ranges without one)", class_name)
        self.check(where, recording)
        self.rows.append((recording, start_s, end_s, name, low_hz, high_hz, note, labeler))

    def check(self, where: str, recording: str) -> None:
        """`recording` was gone through."""
        if not recording:
            raise self.fault(where, "the name of a recording", recording)
        self.checked[recording] = None

    def ranges(self) -> Ranges:
        """What was gathered."""
        return Ranges(pd.DataFrame(self.rows, columns=list(RANGE_COLUMNS)), tuple(self.checked))


def write_text(path: PathLike, text: str, overwrite: bool) -> Path:
    """Write UTF-8 wholly or not at all."""
    path = Path(path)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise AudiotkError(
            f"{path}: {err.object[err.start : err.end]!r} in a label cannot be written as UTF-8"
        ) from err
    with atomic(path, overwrite) as draft:
        draft.write_bytes(data)
    return path


def is_number(text: str) -> bool:
    """Whether a cell holds a number as programs write it: ASCII digits and a decimal point."""
    return bool(_NUMBER.fullmatch(text.strip()))


def plain(texts: Iterable[str], format: str) -> None:
    """Refuse texts that a format without quotes cannot hold or would not give back as they were."""
    for text in texts:
        if text != text.strip() or len(text.splitlines()) > 1 or "\t" in text or "\0" in text:
            told = "no tab, line break or space at its ends; rename it, or write CSV or Label Studio JSON"
            raise AudiotkError(f"{format}: a label can have {told}; got {text!r}")


def seconds(value: float) -> str:
    """A number that reads back exactly, without an exponent; "" for NaN."""
    return "" if np.isnan(value) else np.format_float_positional(value, trim="0")


def one_recording(ranges: Ranges, format: str) -> str:
    """The recording of a file that can hold only one."""
    if len(ranges.checked) != 1:
        told = "write to a folder (one file each) or pass ranges.of(recording)"
        raise AudiotkError(f"{format}: a file holds one recording, got {len(ranges.checked)}; {told}")
    return ranges.checked[0]


def by_recording(ranges: Ranges) -> dict[str, list[dict[str, Any]]]:
    """The rows of each checked recording."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ranges.checked}
    columns = [ranges.table[name].tolist() for name in RANGE_COLUMNS]
    for values in zip(*columns, strict=True):
        rows[values[0]].append(dict(zip(RANGE_COLUMNS, values, strict=True)))
    return rows


def durations(recordings: pd.DataFrame | None) -> dict[str, float]:
    """Length in seconds of each recording of a recordings table."""
    if recordings is None:
        return {}
    return dict(zip(recordings["recording"], recordings["duration_s"].astype(float), strict=True))


def joined(lines: Sequence[Sequence[str]], **dialect: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(lines)
    return text.getvalue()


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, and their numbers."""
    for line, content in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if content.strip():
            yield line, content


def table_of(
    reading: Reading, encoding: str, quoted: bool, needs: Sequence[str], delimiter: str = "\t"
) -> list[tuple[int, dict[str, str]]]:
    """Line and cells by lower-case column; the first entry is the header, as the file writes it."""
    text = reading.text(encoding)
    if quoted:
        rows, line = [], 1
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                rows.append((line, cells))
                line = reader.line_num + 1
        except csv.Error as err:
            raise reading.fault(f"line {line}", "quoted cells that end", str(err)) from err
    else:
        rows = [(line, content.split(delimiter)) for line, content in lines_of(text)]
    rows = [(line, cells) for line, cells in rows if any(cell.strip() for cell in cells)]
    heads = [cell.strip() for cell in rows[0][1]] if rows else []
    names = [head.lower() for head in heads]
    if missing := [name for name in needs if name.lower() not in names]:
        raise reading.fault("line 1", f"a header with {', '.join(missing)}", heads)
    if len(set(filter(None, names))) < len([name for name in names if name]):
        raise reading.fault("line 1", "each column once", heads)
    table = [(rows[0][0], dict(zip(names, heads, strict=True)))]
    for line, cells in rows[1:]:
        if any(cell.strip() for cell in cells[len(names) :]):
            raise reading.fault(f"line {line}", f"{len(names)} cells as in the header", cells)
        padded = [*cells, *[""] * (len(names) - len(cells))]  # editors strip what is empty at the end of a line
        table.append((line, dict(zip(names, padded, strict=False))))
    return table
