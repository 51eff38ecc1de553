"""What the data sets of real audio share: the files that are there, and paths that stay inside."""

from __future__ import annotations

import csv
import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audiotk.audio import probe
from audiotk.tables import PROBLEM_COLUMNS, SPLITS, AudiotkError

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".aac", ".mp4", ".webm")


def read_csv(path: Path, columns: Iterable[str | int], hint: str, header: bool = True) -> pd.DataFrame:
    """A CSV of text cells that has at least `columns`; `hint` says where the file comes from.

    Parameters
    ----------
    path, columns, hint
        As above.
    header
        The first row holds the names of the columns; else they are 0, 1, ...

    Returns
    -------
    pandas.DataFrame
        Index line: where in the file each row starts, from 1. Rows without any content are left out.

    Raises
    ------
    AudiotkError
        The file is missing or no CSV, has no rows, lacks a column or has one twice, or a row has too many or too few
        cells (named by its line).
    """
    rows = _csv_rows(path, hint)
    names: list[str | int] = list(range(len(rows[0][1])))
    if header:
        names = [cell.strip() for cell in rows.pop(0)[1]]
        while names[-1] == "":  # what a comma at the end of each line makes
            names.pop()
    twice = [name for name in dict.fromkeys(names) if name != "" and names.count(name) > 1]
    if twice:
        raise AudiotkError(f"{path}: columns {twice} occur twice, expected each name once, found {names}")
    missing = [name for name in columns if name not in names]
    if missing:
        raise AudiotkError(f"{path}: columns {missing} are missing, found {names}. {hint}")
    if not rows:
        raise AudiotkError(f"{path}: holds no rows, only the names of its columns. {hint}")
    width = len(names)
    for line, cells in rows:
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            told = "put quotes around a cell that holds a comma, and write a comma for each empty cell"
            raise AudiotkError(f"{path} line {line}: expected {width} cells, got {len(cells)}: {cells}; {told}")
    index = pd.Index([line for line, _ in rows], name="line")
    return pd.DataFrame([cells[:width] for _, cells in rows], index=index, columns=names, dtype="str")


def _csv_rows(path: Path, hint: str) -> list[tuple[int, list[str]]]:
    """The line each row starts at, and its cells; at least one row."""
    rows: list[tuple[int, list[str]]] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader, line = csv.reader(stream, skipinitialspace=True, strict=True), 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows.append((line, cells))
                line = reader.line_num + 1
    except FileNotFoundError as err:
        raise AudiotkError(f"{path}: is not there. {hint}") from err
    except (OSError, UnicodeDecodeError) as err:
        raise AudiotkError(f"{path}: cannot be read as CSV: {err}") from err
    except csv.Error as err:
        raise AudiotkError(f"{path} line {line}: cannot be read as CSV: {err}") from err
    if not rows:
        raise AudiotkError(f"{path}: cannot be read as CSV: it is empty. {hint}")
    return rows


def folder_of(root: str | Path | None, name: str, hint: str) -> Path:
    """`root` as an existing folder."""
    if root is None or not Path(root).is_dir():
        raise AudiotkError(f"{name}: expected a folder as root, got {root!r}. {hint}")
    return Path(root)


def inside(root: Path, name: str, what: str) -> str:
    """The path of `name` in `root`; links in `root` are followed, but a name may not climb out of it."""
    top = os.path.abspath(root)
    path = os.path.normpath(os.path.join(top, name))
    if not name or not path.startswith(top + os.sep):
        raise AudiotkError(f"{what}: expected the name of a file inside {top}, got {name!r}")
    return path


def tell_empty(split: pd.Series, name: str, advice: str) -> pd.Series:
    """`split`, with a warning if train, val or test has no recording; `advice` says how to get some."""
    empty = [part for part in SPLITS if part not in set(split)]
    if empty:
        warnings.warn(f"{name}: no recording is in {' or '.join(empty)}; {advice}", stacklevel=4)
    return split


def present(wanted: pd.DataFrame, hint: str, workers: int | None, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The recordings whose file can be read.

    Parameters
    ----------
    wanted
        Columns recording, path, group and any others, which are kept.
    hint
        What to do if there is nothing at all.

    Returns
    -------
    recordings, problems : pandas.DataFrame
        `wanted` with duration_s and sr, unreadable rows left out; and those rows with the reason.
    """
    files, failed = probe(wanted["path"].unique().tolist(), workers, progress)
    if len(wanted) and not len(files):
        raise AudiotkError(f"none of {len(wanted)} recordings can be read; first: {failed['reason'].iloc[0]}. {hint}")
    recordings = wanted.merge(files[["path", "duration_s", "sr"]], on="path", how="left")
    reason = wanted["path"].map(failed.set_index("path")["reason"])
    problems = wanted.assign(reason=reason)[list(PROBLEM_COLUMNS)].dropna(subset="reason")
    return recordings.dropna(subset="duration_s").reset_index(drop=True), problems.reset_index(drop=True)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def join_duplicates(recordings: pd.DataFrame) -> pd.Series:
    """The group of each recording after groups that hold the same file (size and SHA-256) became one.

    Without this a copy of a training file under another name could be in the test set.
    """
    sizes = recordings["path"].map(os.path.getsize)
    suspects = sizes.duplicated(keep=False)
    content = recordings["path"].where(~suspects, recordings["path"].where(suspects).map(sha256, na_action="ignore"))
    group, names = pd.factorize(recordings["group"], sort=True)
    same, contents = pd.factorize(content)
    size = len(names) + len(contents)
    links = coo_array((np.ones(len(group)), (group, len(names) + same)), shape=(size, size))
    _, part = connected_components(links, directed=False)
    first = pd.Series(names).groupby(part[: len(names)]).transform("first")  # the smallest name of each part
    joined = int((first.to_numpy() != np.asarray(names)).sum())
    if joined:
        warnings.warn(
            f"{joined} group(s) hold exact copies of files of other groups and were joined to them", stacklevel=3
        )
    return pd.Series(first.to_numpy()[group], index=recordings.index, dtype="str")
