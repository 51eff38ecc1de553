"""Sound without labels: every file below a folder, or what a CSV names, to be heard by a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.datasets.found import SOUND_SUFFIXES, folder_of, inside, present, read_csv
from audiotk.tables import PROBLEM_COLUMNS, AudiotkError, check_recordings, make_segments, whole_recordings

HINT = (
    "Expected a folder with sound files, or a CSV with a column path (relative to the CSV's folder) and, for parts of "
    "files, columns start_s and end_s."
)


def find(
    source: str | Path, workers: int | None = None, progress: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Recordings and segments of a folder (with all folders in it) or a CSV.

    Parameters
    ----------
    source
        A folder: each sound file whole. A CSV: column path, relative to its folder and inside of it; with columns
        start_s and end_s (seconds; both empty: whole) its ranges.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Returns
    -------
    recordings, segments, problems : pandas.DataFrame
        Ids of recordings are their paths in the folder; unreadable files are among the problems, with their reason.

    Raises
    ------
    AudiotkError
        No such folder or CSV, no sound in it, a path that leads out of the folder, or a range that is no range.
    """
    source, unnamed = Path(source), []
    if source.suffix.lower() == ".csv" and not source.is_dir():
        folder, rows = source.parent, read_csv(source, ["path"], HINT)
        paths = [inside(folder, name, f"{source} line {line}") for line, name in rows["path"].items()]
    else:
        folder = folder_of(source, "sound", HINT)
        rows = pd.DataFrame()
        paths = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES and p.is_file())
        paths, unnamed = [p for p in paths if _is_text(p)], [p for p in paths if not _is_text(p)]
        if not paths:
            raise AudiotkError(f"{folder}: holds no sound file ({', '.join(SOUND_SUFFIXES[:6])}, ...). {HINT}")
    top = Path(inside(folder, "x", "sound")).parent if rows.shape[1] else folder
    names = [Path(path).relative_to(top).as_posix() for path in paths]
    wanted = pd.DataFrame({"recording": names, "path": paths, "group": names}, dtype="str")
    recordings, problems = present(wanted.drop_duplicates("recording"), HINT, workers, progress)
    recordings, problems = check_recordings(recordings), pd.concat([problems, _unnamed(unnamed)], ignore_index=True)
    columns = {"start_s", "end_s"} & set(rows.columns)
    if len(columns) == 1:
        raise AudiotkError(f"{source}: has a column {columns.pop()}, and the other end is missing. {HINT}")
    if not columns:
        return recordings, whole_recordings(recordings), problems
    segments = _ranges(rows, names, recordings, source)
    late = segments["end_s"] > segments["recording"].map(recordings.set_index("recording")["duration_s"]) + 0.001
    outside = segments[late].merge(recordings, on="recording")
    outside["reason"] = "segment " + outside["segment"] + " ends behind the recording"
    problems = pd.concat([problems, outside[list(PROBLEM_COLUMNS)]], ignore_index=True)
    return recordings, segments[~late].reset_index(drop=True), problems


def _is_text(path: str) -> bool:
    """Whether a name is UTF-8, as tables need it."""
    return not any("\ud800" <= sign <= "\udfff" for sign in path)


def _unnamed(paths: list[str]) -> pd.DataFrame:
    """Problems: files whose name is no text."""
    shown = [path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for path in paths]
    rows = {"recording": shown, "path": shown, "reason": ["its name is not UTF-8; rename it"] * len(shown)}
    return pd.DataFrame(rows).astype(PROBLEM_COLUMNS)


def _ranges(rows: pd.DataFrame, names: list[str], recordings: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Segments of the readable recordings; an empty range is the whole of one."""
    spans = rows[["start_s", "end_s"]].assign(recording=names)
    for column in ("start_s", "end_s"):
        text = spans[column].str.strip()
        spans[column] = pd.to_numeric(text.where(text != "", "nan"), errors="coerce")
        if (bad := spans[column].isna() & (text != "")).any():
            line = bad.index[int(bad.argmax())]
            raise AudiotkError(f"{source} line {line}: {column}: expected seconds, got {text[line]!r}")
    spans = spans.merge(recordings[["recording", "duration_s"]], on="recording").drop_duplicates()
    start_s = np.where(spans["start_s"].isna(), 0.0, spans["start_s"])
    end_s = np.where(spans["end_s"].isna(), spans["duration_s"], spans["end_s"])
    return make_segments(spans["recording"], start_s, end_s)
