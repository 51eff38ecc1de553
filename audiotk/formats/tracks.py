"""Audacity label tracks and Raven selection tables. Use :mod:`audiotk.formats`."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

import pandas as pd

from audiotk.formats.ranges import (
    PathLike,
    Ranged,
    Ranges,
    Reading,
    as_ranges,
    is_number,
    lines_of,
    one_recording,
    plain,
    seconds,
    table_of,
    write_text,
)
from audiotk.tables import AudiotkError

RAVEN_NAMES = ("annotation", "species", "common name", "label", "class", "type", "call type", "tags", "tag", "name")
# What Raven itself writes beside the annotations: nothing of this can be a column of labels.
RAVEN_OWN = {
    "selection", "view", "channel", "begin file", "end file", "begin path", "end path", "begin date", "end date",
    "begin clock time", "end clock time", "begin date time", "notes", "note", "confidence", "score",
}  # fmt: skip


# --- Audacity ---------------------------------------------------------------------------------------------------------


def read_audacity(
    path: PathLike, recording: str | None = None, unnamed: str | None = None, encoding: str = "utf-8-sig"
) -> Ranges:
    """Read an Audacity label track: ``start TAB end TAB label``, then perhaps a line ``\\ TAB low Hz TAB high Hz``.

    Parameters
    ----------
    path
        The exported text file. A line with one time is a point label, as is one with two equal times.
    recording
        Its recording; default: the file's name without ``.txt``.
    unnamed
        Class of labels without text; None refuses them.
    encoding
        Of the file.

    Raises
    ------
    AudiotkError
        A line cannot be read; it is named.
    """
    reading = Reading(path, unnamed)
    recording = Path(path).name.removesuffix(".txt") if recording is None else recording
    reading.check("its name", recording)
    entries: list[tuple[int, list[str], list[str]]] = []  # line, cells, cells of the line of frequencies
    for line, text in lines_of(reading.text(encoding)):
        if not text.startswith("\\"):
            entries.append((line, text.split("\t"), []))
        elif not entries:
            raise reading.fault(f"line {line}", "a label before its frequencies", text)
        elif not entries[-1][2]:  # Audacity: further lines that begin with \ are for versions to come
            entries[-1][2].extend(text.split("\t"))
    for line, cells, band in entries:
        where = f"line {line}"
        if len(cells) == 2 and not is_number(cells[1]):
            cells = [cells[0], *cells]  # a point
        if len(cells) not in (2, 3):
            raise reading.fault(where, "start, end and label with tabs between", cells)
        if band and len(band) != 3:
            raise reading.fault(f"line {line + 1}", "\\, low and high Hz with tabs between", band)
        low, high = ("" if is_number(cell) and float(cell) == -1 else cell for cell in band[1:] or ["", ""])  # not set
        reading.add(where, recording, cells[0], cells[1], cells[2] if len(cells) == 3 else "", low, high)
    return reading.ranges()


def write_audacity(ranges: Ranged, path: PathLike, overwrite: bool = False) -> Path:
    """Write the ranges of one recording as an Audacity label track; see :func:`read_audacity`.

    Raises
    ------
    AudiotkError
        Several recordings, a label with a tab or a line break, a file that is there already.
    """
    ranges = as_ranges(ranges)
    one_recording(ranges, "audacity")
    plain(ranges.table["class_name"], "audacity")
    lines = []
    for row in ranges.table.sort_values("start_s", kind="stable").to_dict("records"):
        lines.append(f"{seconds(row['start_s'])}\t{seconds(row['end_s'])}\t{row['class_name']}\n")
        if pd.notna(row["low_hz"]) or pd.notna(row["high_hz"]):
            lines.append(f"\\\t{seconds(row['low_hz']) or '-1.0'}\t{seconds(row['high_hz']) or '-1.0'}\n")
    return write_text(path, "".join(lines), overwrite)


# --- Raven ------------------------------------------------------------------------------------------------------------


def read_raven(
    path: PathLike,
    recording: str | None = None,
    column: str | None = None,
    recordings: pd.DataFrame | None = None,
    unnamed: str | None = None,
    encoding: str = "utf-8-sig",
) -> Ranges:
    """Read a Raven selection table.

    Times of a table run over all files that were open. Where ``File Offset (s)`` is there, it is the start within the
    file that ``Begin Path`` (or ``Begin File``) names; without it, all selections have to be of one file.

    Parameters
    ----------
    path
        The table, text with tabs.
    recording
        The recording of a table that names no file; default: the table's name without ``.Table.1.selections.txt``.
    column
        Column of the labels. Default: Annotation, Species or the like, or the only column that is not Raven's own.
    recordings
        Recordings table, to turn paths into ids; default: a file's name without suffix is its recording.
    unnamed
        Class of selections without a label; None refuses them.
    encoding
        Of the file.

    Raises
    ------
    AudiotkError
        A column is missing or its choice not clear, a line cannot be read, a selection runs over two files.
    """
    reading = Reading(path, unnamed)
    rows = table_of(reading, encoding, quoted=False, needs=("Begin Time (s)", "End Time (s)"))
    label = _raven_column(reading, rows[0][1], column)
    whole = recording or re.sub(r"(?i)(\.Table\.?\d+)?(\.selections?(\.table)?)?\.txt$", "", Path(path).name)
    names = _raven_names(reading, rows, recordings)
    kept: dict[tuple[str, ...], tuple[str, dict[str, str], str]] = {}
    for line, row in rows[1:]:
        where = f"line {line}"
        file, last = _raven_file(row, "begin"), _raven_file(row, "end")
        if file and last and PureWindowsPath(file).name != PureWindowsPath(last).name:
            raise reading.fault(where, f"a selection within one file ({file})", last)
        view = row.get("view", "").lower()
        key = (row.get("selection") or where, file, row["begin time (s)"], row["end time (s)"])
        twin = kept.get(key, ("", {"view": view}, ""))[1].get("view", "").lower()
        if twin == view:  # else: one selection listed in two views; the spectrogram's row has the frequencies
            kept[(*key, where) if key in kept else key] = (where, row, names.get(file, whole))
        elif "spectrogram" in view:
            kept[key] = (where, row, names.get(file, whole))
    for where, row, name in kept.values():
        start, end = (reading.number(where, name, row[name.lower()]) for name in ("Begin Time (s)", "End Time (s)"))
        if row.get("file offset (s)"):
            begin = reading.number(where, "File Offset (s)", row["file offset (s)"])
            start, end = begin, begin + (end - start)
        band = row.get("low freq (hz)", ""), row.get("high freq (hz)", "")
        reading.add(where, name, start, end, row[label.lower()], *band, note=row.get("notes", ""))
    if not kept:
        reading.check("its name", whole)
    return reading.ranges()


def write_raven(
    ranges: Ranged,
    path: PathLike,
    recordings: pd.DataFrame | None = None,
    column: str = "Annotation",
    overwrite: bool = False,
) -> Path:
    """Write a Raven selection table; see :func:`read_raven`.

    Parameters
    ----------
    ranges
        Of one recording, or of several with `recordings`. Several are written as one sequence of files, in the order
        of `recordings`: times run on, and Begin Path and File Offset say where each selection lies. An empty recording
        cannot be told in such a table and is refused; write to a folder instead.
    path
        The file.
    recordings
        Columns recording, path, duration_s.
    column
        Name of the column of labels.
    overwrite
        Replace the file if it is there.
    """
    ranges = as_ranges(ranges)
    plain([column, *ranges.table["class_name"], *ranges.table["note"]], "raven")
    begins: dict[str, tuple[str, float]] = {}
    if recordings is None:
        one_recording(ranges, "raven (without recordings)")
    else:
        begins = _sequence(ranges, recordings)
    heads = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]
    heads += ["Begin Path", "File Offset (s)"] * bool(begins)
    notes = bool((ranges.table["note"] != "").any())
    lines = [[*heads, column, *["Notes"] * notes]]
    for number, row in enumerate(ranges.table.to_dict("records"), start=1):
        file, begin = begins.get(row["recording"], ("", 0.0))
        view = "Waveform 1" if pd.isna(row["low_hz"]) and pd.isna(row["high_hz"]) else "Spectrogram 1"
        times = [seconds(begin + row["start_s"]), seconds(begin + row["end_s"])]
        place = [file, seconds(row["start_s"])] if begins else []
        band = [seconds(row["low_hz"]), seconds(row["high_hz"])]
        lines.append([str(number), view, "1", *times, *band, *place, row["class_name"], *[row["note"]] * notes])
    return write_text(path, "".join("\t".join(cells) + "\n" for cells in lines), overwrite)


def _raven_file(row: dict[str, str], end: str) -> str:
    return row.get(f"{end} path", "") or row.get(f"{end} file", "")


def _raven_column(reading: Reading, heads: dict[str, str], column: str | None) -> str:
    """Which column holds the labels; `heads` maps lower-case names to those in the file."""
    if column is not None:
        if column.lower() not in heads:
            raise reading.fault("line 1", f"a column {column!r}", list(heads.values()))
        return column
    named = [name for name in RAVEN_NAMES if name in heads]
    free = [name for name in heads if name and name not in RAVEN_OWN and "(" not in name]
    if len(named or free) == 1:
        return (named or free)[0]
    raise reading.fault("line 1", "one column of labels (pass column= to choose it)", list(heads.values()))


def _raven_names(
    reading: Reading, rows: list[tuple[int, dict[str, str]]], recordings: pd.DataFrame | None
) -> dict[str, str]:
    """The recording of each file that the table names."""
    files = list(dict.fromkeys(filter(None, (_raven_file(row, "begin") for _, row in rows[1:]))))
    if len(files) > 1 and "file offset (s)" not in rows[0][1]:
        told = "column 'File Offset (s)': without it, times over several files cannot be placed"
        raise reading.fault("line 1", told, list(rows[0][1].values()))
    if recordings is None:
        names = {file: PureWindowsPath(file).stem for file in files}
    else:
        known = dict(zip(recordings["path"].astype(str), recordings["recording"], strict=True))
        known |= {Path(file).name: name for file, name in reversed(known.items())}
        missing = [file for file in files if file not in known and PureWindowsPath(file).name not in known]
        if missing:
            raise reading.fault("Begin Path", "a path of the recordings table", missing[0])
        names = {file: known.get(file) or known[PureWindowsPath(file).name] for file in files}
    if len(set(names.values())) < len(names):
        raise reading.fault("Begin Path", "files that differ in name (or pass recordings=)", files[:5])
    return names


def _sequence(ranges: Ranges, recordings: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Path and begin in seconds of each recording, one after the other."""
    missing = set(ranges.checked) - set(recordings["recording"])
    empty = [name for name in ranges.checked if name not in set(ranges.table["recording"])]
    if missing or empty:
        told = f"not in recordings: {sorted(missing)[:3]}" if missing else f"without a range: {empty[:3]}"
        raise AudiotkError(f"raven: {told}; a table of several files needs both (or write to a folder)")
    begins: dict[str, tuple[str, float]] = {}
    at = 0.0
    for name, file, length in zip(recordings["recording"], recordings["path"], recordings["duration_s"], strict=True):
        begins[name], at = (str(file), at), at + float(length)
    plain([file for file, _ in begins.values()], "raven")
    return begins
