"""Label files of other programs, in and out: :func:`read` and :func:`write`, or the function of a format.

============  =====  ==================================================================================================
format        does   holds, besides recording, range and class
============  =====  ==================================================================================================
csv           r, w   everything, empty recordings too (a row with a recording and nothing else)
audacity      r, w   frequencies; one recording a file. A label track of Audacity
raven         r, w   frequencies; one recording a file, or several by Begin Path and File Offset. A selection table
dcase         r, w   empty recordings. The TSV of DCASE and DESED: filename, onset, offset, event_label
labelstudio   r, w   frequencies, notes, empty recordings; labelers. JSON tasks of Label Studio
jams          w      labelers; one recording a file
textgrid      w      one recording a file, a tier for each class. Praat
============  =====  ==================================================================================================

:func:`to_operations` and :func:`from_store` take ranges into a store and out of it. All that a file can say of a
recording is "these are its ranges" or "it is empty": that half of it was heard, or that one class of ten was decided,
it cannot (:func:`from_store` warns, and does not call such a recording empty).

Where one recording makes a file, a folder of them holds many, empty ones included. What is not listed for a format is
not written by it. Nothing is guessed: a file that cannot be understood is refused with its name and the line.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pandas as pd

from audiotk.datasets.found import SOUND_SUFFIXES
from audiotk.formats.documents import read_labelstudio, write_jams, write_labelstudio, write_textgrid
from audiotk.formats.ranges import (
    RANGE_COLUMNS,
    PathLike,
    Ranged,
    Ranges,
    Reading,
    as_ranges,
    by_recording,
    durations,
    joined,
    plain,
    seconds,
    table_of,
    write_text,
)
from audiotk.formats.tracks import read_audacity, read_raven, write_audacity, write_raven
from audiotk.store import Store
from audiotk.store.history import subtract
from audiotk.store.operations import Operation, counts, make_operation
from audiotk.tables import AudiotkError

MISSED_S = 0.1  # a gap in what was heard that still counts as heard

# --- DCASE and CSV ----------------------------------------------------------------------------------------------------


def read_dcase(path: PathLike, unnamed: str | None = None, encoding: str = "utf-8-sig") -> Ranges:
    """Read strong labels of DCASE or DESED: tab-separated, with a header, its columns in any order.

    The columns are ``filename``, ``onset``, ``offset``, ``event_label``. A recording is a file name without its
    suffix. A row with a file name and nothing else is a file that was checked and is empty.

    Raises
    ------
    AudiotkError
        There is no such header, or a line cannot be read.
    """
    reading = Reading(path, unnamed)
    rows = table_of(reading, encoding, quoted=True, needs=("filename", "onset", "offset", "event_label"))
    for line, row in rows[1:]:
        name = row["filename"]
        suffix = next((one for one in SOUND_SUFFIXES if name.lower().endswith(one)), "")
        recording = name[: len(name) - len(suffix)]
        if any(row[key].strip() for key in ("onset", "offset", "event_label")):
            reading.add(f"line {line}", recording, row["onset"], row["offset"], row["event_label"])
        else:
            reading.check(f"line {line}", recording)
    return reading.ranges()


def write_dcase(ranges: Ranged, path: PathLike, suffix: str = ".wav", overwrite: bool = False) -> Path:
    """Write strong labels as DCASE and DESED do; an empty recording gets a row of its own. See :func:`read_dcase`.

    Parameters
    ----------
    ranges, path, overwrite
        As in :func:`write_raven`.
    suffix
        Put behind each recording to make a file name.
    """
    ranges = as_ranges(ranges)
    plain([*ranges.checked, *ranges.table["class_name"]], "dcase")
    if suffix not in SOUND_SUFFIXES:
        raise AudiotkError(f"dcase: expected a suffix of {SOUND_SUFFIXES}, got {suffix!r}")
    lines = [["filename", "onset", "offset", "event_label"]]
    for name, rows in by_recording(ranges).items():
        times = [[name + suffix, seconds(row["start_s"]), seconds(row["end_s"]), row["class_name"]] for row in rows]
        lines += times or [[name + suffix, "", "", ""]]
    return write_text(path, joined(lines, delimiter="\t", lineterminator="\n"), overwrite)


def read_csv(path: PathLike, unnamed: str | None = None, encoding: str = "utf-8-sig") -> Ranges:
    """Read a CSV with the columns of :class:`audiotk.formats.ranges.Ranges` in any order; further columns are left out.

    Raises
    ------
    AudiotkError
        recording, start_s, end_s or class_name is missing, or a line cannot be read.
    """
    reading = Reading(path, unnamed)
    rows = table_of(reading, encoding, quoted=True, needs=tuple(RANGE_COLUMNS)[:4], delimiter=",")
    for line, row in rows[1:]:
        cells = [row.get(name, "") for name in RANGE_COLUMNS]
        if any(cell.strip() for cell in cells[1:]):
            reading.add(f"line {line}", *cells)
        else:
            reading.check(f"line {line}", cells[0])
    return reading.ranges()


def write_csv(ranges: Ranged, path: PathLike, overwrite: bool = False) -> Path:
    """Write all of `ranges` as CSV (RFC 4180); see :func:`read_csv`."""
    lines = [list(RANGE_COLUMNS)]
    for name, rows in by_recording(as_ranges(ranges)).items():
        cells = [[seconds(row[key]) if kind == "float64" else row[key] for key, kind in RANGE_COLUMNS.items()]
                 for row in rows]  # fmt: skip
        lines += cells or [[name, *[""] * (len(RANGE_COLUMNS) - 1)]]
    return write_text(path, joined(lines), overwrite)


# --- all formats ------------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[..., Ranges]] = {
    "csv": read_csv, "audacity": read_audacity, "raven": read_raven, "dcase": read_dcase,
    "labelstudio": read_labelstudio,
}  # fmt: skip
WRITERS: dict[str, Callable[..., Path]] = {
    "csv": write_csv, "audacity": write_audacity, "raven": write_raven, "dcase": write_dcase,
    "labelstudio": write_labelstudio, "jams": write_jams, "textgrid": write_textgrid,
}  # fmt: skip
SUFFIXES = {".csv": "csv", ".tsv": "dcase", ".json": "labelstudio", ".jams": "jams", ".textgrid": "textgrid"}
ONE_EACH = {"audacity": ".txt", "raven": ".Table.1.selections.txt", "jams": ".jams", "textgrid": ".TextGrid"}


def read(path: PathLike, format: str | None = None, **options: Any) -> Ranges:
    """Read a label file, or a folder of them where one recording makes a file.

    Parameters
    ----------
    path
        File or folder.
    format
        One of `READERS`; default: by suffix, and by the first line of a ``.txt``. A folder needs it.
    options
        Those of the format's own function, ``read_raven`` for raven.

    Raises
    ------
    AudiotkError
        The format is not known or clear, an option is unknown, a folder holds no such file, or a file is not in order.
    """
    path = Path(path)
    reader = _chosen(READERS, format or ("" if path.is_dir() else _format_of(path)), path, options)
    if not path.is_dir():
        return reader(path, **options)
    if format not in ONE_EACH or "recording" in options:
        raise AudiotkError(f"{path}: is a folder, expected a file (folders: audacity or raven, without recording=)")
    files = sorted(file for file in path.iterdir() if file.name.lower().endswith(".txt") and file.is_file())
    if not files:
        raise AudiotkError(f"{path}: holds no .txt, expected one for each recording")
    parts = [reader(file, **options) for file in files]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Ranges(table, tuple(name for part in parts for name in part.checked))


def write(ranges: Ranged, path: PathLike, format: str | None = None, **options: Any) -> list[Path]:
    """Write ranges to a file, or to a folder with a file for each recording; nothing is replaced by default.

    Parameters
    ----------
    ranges
        A table with recording, start_s, end_s and class_name, or :class:`Ranges` where empty recordings matter.
    path
        A file; or a folder (an existing one, or a name without suffix) for audacity, raven, jams and textgrid.
    format
        One of `WRITERS`; default: by suffix (``.txt``: audacity, or raven if the name ends in ``.selections.txt``).
    options
        Those of the format's own function, ``write_raven`` for raven; all know ``overwrite``.

    Returns
    -------
    list of Path
        The files.
    """
    path, ranges = Path(path), as_ranges(ranges)
    format = format or _format_of(path)
    writer = _chosen(WRITERS, format, path, options)
    if format not in ONE_EACH or not (path.is_dir() or not path.suffix):
        return [writer(ranges, path, **options)]
    names = [name + ONE_EACH[format] for name in ranges.checked]
    for name in names:
        if Path(name).name != name or PureWindowsPath(name).name != name or name.startswith(".") or "\0" in name:
            raise AudiotkError(f"{format}: recording cannot be a file name in {path}: {name!r}; write CSV instead")
    if len({name.casefold() for name in names}) < len(names):
        raise AudiotkError(f"{format}: recordings that differ only in case cannot be files of one folder: {path}")
    return [writer(ranges.of(one), path / name, **options) for one, name in zip(ranges.checked, names, strict=True)]


# --- the store --------------------------------------------------------------------------------------------------------


def from_store(
    store: Store,
    labelers: Sequence[str] | None = None,
    as_of: datetime | str | None = None,
    classes: Sequence[str] | None = None,
    complete: bool = False,
) -> Ranges:
    """The segments of a store; checked are the recordings in which they are all that there is.

    That is known if somebody heard the recording from start to end (but for gaps of 0.1 s) and decided on every class:
    confirmed with a segment, not found, or a word on all classes; and if that holds for everyone with a segment in it.
    Of other recordings with labels a file cannot say that there may be more; a warning counts them.

    Parameters
    ----------
    store, labelers, as_of
        The labels: whose (default: all, but for hidden repeats), and when (default: now).
    classes
        Which; default: all, also those that nobody named yet, so that it takes a word on all classes ("nothing else
        here"). Give :func:`to_operations` the same.
    complete
        Leave out the segments in recordings that are not checked; then read back, the file says nothing new.
    """
    parts = store.segments(as_of=as_of), store.claims(as_of=as_of), store.heard(as_of=as_of)
    segments, claims, heard = (
        part[part["labeler"].map(lambda name: counts(name, labelers)).astype(bool)] for part in parts
    )
    if classes is not None:
        segments = segments[segments["class_name"].isin(classes)]
    done = _finished(segments, claims, heard, durations(store.recordings()), classes)
    who = segments.groupby("recording")["labeler"].unique().to_dict()
    checked = {name for name, one in done if all((name, other) in done for other in who.get(name, ()))}
    if complete:
        segments = segments[segments["recording"].isin(checked)]
    elif rest := sorted({*segments["recording"], *claims.loc[claims["verdict"] != "open", "recording"]} - checked):
        warnings.warn(
            f"store: {len(rest)} recordings have labels, but were not heard from start to end, or not decided for "
            f"{'every class (classes= names those that matter)' if classes is None else 'each of classes'}: there may "
            f"be more than their segments, which a file cannot say (complete=True leaves them out); first {rest[:3]}",
            stacklevel=2,
        )
    return Ranges(segments, tuple(sorted(checked)))


def _finished(
    segments: pd.DataFrame,
    claims: pd.DataFrame,
    heard: pd.DataFrame,
    lengths: dict[str, float],
    classes: Sequence[str] | None,
) -> set[tuple[str, str]]:
    """(recording, labeler) of those who heard all of a recording and decided on each of `classes` (None: all) in it."""
    marked = set(zip(segments["recording"], segments["labeler"], segments["class_name"], strict=True))
    said: dict[tuple[str, str], dict[Any, bool]] = {}  # class (None: every class) -> whether it is decided
    for row in claims.to_dict("records"):
        key, name = (row["recording"], row["labeler"]), None if pd.isna(row["class_name"]) else row["class_name"]
        there = name is None or (*key, name) in marked  # else "confirmed" says that it is somewhere
        said.setdefault(key, {})[name] = row["verdict"] == "not_found" or (row["verdict"] == "confirmed" and there)
    found = set()
    for (recording, labeler), part in heard.groupby(["recording", "labeler"]):
        key = str(recording), str(labeler)
        words = said.get(key, {})
        asked = [None, *words] if classes is None else classes
        decided = bool(words) and all(words.get(name, words.get(None, False)) for name in asked)
        pairs = part[["start_s", "end_s"]].to_numpy().tolist()
        if decided and key[0] in lengths and not subtract([(0.0, lengths[key[0]])], pairs, MISSED_S):
            found.add(key)
    return found


def to_operations(
    ranges: Ranged, labeler: str, recordings: pd.DataFrame | None = None, classes: Sequence[str] | None = None
) -> list[Operation]:
    """What a store has to append to hold `ranges`; a second time it changes nothing, not even what was edited since.

    Parameters
    ----------
    ranges
        What was read.
    labeler
        Whose they are, where a range does not say.
    recordings
        Recordings table. If given, every checked recording counts as heard from start to end, with all that there is
        marked: what is not in `ranges` is absent. Default: only the ranges are known. The file does not say which.
    classes
        With `recordings`: the classes that were looked for, and so may be absent. Default: whatever a class is.

    Raises
    ------
    AudiotkError
        A range is a point in time, or a checked recording is not in `recordings`.
    """
    ranges = as_ranges(ranges)
    table = ranges.table.assign(labeler=ranges.table["labeler"].replace("", labeler))
    if (points := table["end_s"] <= table["start_s"]).any():
        told = table[points].iloc[0, :4].to_dict()
        raise AudiotkError(f"store: {points.sum()} ranges are points in time, expected start_s < end_s; first: {told}")
    if table[["low_hz", "high_hz"]].notna().any(axis=None):
        warnings.warn("store: segments have no frequencies; those of the ranges are left out", stacklevel=2)
    made = []
    for row in table.to_dict("records"):
        key = _key("segment", *row.values())
        about = {name: row[name] for name in ("start_s", "end_s", "class_name", "note")}
        made.append(make_operation("segment", row["labeler"], row["recording"], uuid=key, id=key, **about))
    if recordings is None:
        return made
    lengths = durations(recordings)
    if missing := [name for name in ranges.checked if name not in lengths]:
        raise AudiotkError(f"store: {len(missing)} checked recordings are not in recordings, first {missing[0]!r}")
    who = table.groupby("recording")["labeler"].unique().to_dict()
    found = set(zip(table["recording"], table["labeler"], table["class_name"], strict=True))
    for name in ranges.checked:
        for one in who.get(name, [labeler]):
            whole = [[0.0, lengths[name]]]
            made.append(make_operation("heard", one, name, uuid=_key("heard", one, name), ranges=whole))
            for class_name in [None] if classes is None else classes:
                there = name in who if class_name is None else (name, one, class_name) in found
                about = {"class_name": class_name, "verdict": "confirmed" if there else "not_found"}
                key = _key("claim", one, name, *[] if class_name is None else [class_name])
                made.append(make_operation("claim", one, name, uuid=key, **about))
    return made


def _key(*about: Any) -> str:
    return str(uuid5(NAMESPACE_OID, repr(about)))


# --- within -----------------------------------------------------------------------------------------------------------


def _chosen(
    known: dict[str, Callable[..., Any]], format: str, path: Path, options: dict[str, Any]
) -> Callable[..., Any]:
    """The function of a format, if it knows the options."""
    if format not in known:
        raise AudiotkError(f"{path}: expected format= one of {', '.join(known)}, got {format!r}")
    allowed = set(inspect.signature(known[format]).parameters) - {"ranges", "path"}
    if unknown := set(options) - allowed:
        raise AudiotkError(f"{format}: unknown options {sorted(unknown)}, expected some of {sorted(allowed)}")
    return known[format]


def _format_of(path: Path) -> str:
    """The format that a file's name, or the first line of a ``.txt``, tells."""
    if path.suffix.lower() != ".txt":
        return SUFFIXES.get(path.suffix.lower(), path.suffix)
    starts_as_raven = path.is_file() and path.read_bytes()[:40].lstrip(b"\xef\xbb\xbf").startswith(b"Selection\t")
    return (
        "raven"
        if starts_as_raven or path.name.lower().endswith((".selections.txt", ".selection.table.txt"))
        else "audacity"
    )
