"""Your own recordings: folders named after classes, or a CSV of files and labels.

====================  =============================================  ==================================================
form                  how                                            what a label means
====================  =============================================  ==================================================
class folders         ``root/CLASS/any/depth/x.wav``                 the whole recording has this one class
split folders         ``root/SPLIT/CLASS/any/depth/x.wav``           the same; read so if all folders in the root are
                                                                     named after a split
CSV of files          ``path,label[,group][,split]``                 the whole recording has these classes and no other;
                                                                     several as ``dog;rain``, none as an empty cell
CSV of time ranges    ``path,start_s,end_s,label[,group][,split]``   active through the whole range; nothing is known
                                                                     about the rest, unless ``complete=True``
====================  =============================================  ==================================================

A split is named train, val (or valid, validation) or test (or eval), in any case. Paths are relative to the root;
backslashes are read as slashes where no file has them in its name. Further columns are ignored. If one row says that a
file or range holds none of the classes and another row names some for it, the named ones count, and a warning tells.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.datasets.found import SOUND_SUFFIXES, folder_of, inside, join_duplicates, present, read_csv, tell_empty
from audiotk.tables import (
    PROBLEM_COLUMNS,
    AudiotkError,
    Dataset,
    check_split,
    grouped_split,
    make_annotations,
    make_segments,
    make_sources,
    segment_id,
    whole_recordings,
)

HINT = (
    "folder: pass a folder of class folders (root/CLASS/x.wav or root/train/CLASS/x.wav), or labels=CSV with columns "
    "path,label or path,start_s,end_s,label."
)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "eval": "test"}


def load(
    root: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    complete: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> Dataset:
    """Load a folder of recordings with labels, in one of the forms above.

    Without a ``split`` column or split folders 70 / 15 / 15 % become train / val / test, by group and class. Without a
    ``group`` column each recording is its own group; exact copies of a file always share one. Source ``folder``: whole-
    recording labels are closed and weak; range labels are neither.

    Parameters
    ----------
    root
        The folder, or the CSV itself.
    labels
        The CSV (default: ``labels.csv`` in `root` if there is one, else class folders).
    complete
        For time ranges: each recording was heard in full, so outside of its ranges a class is absent (value 0).
    seed
        Of the draw of the split.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Raises
    ------
    AudiotkError
        No recordings, a broken row (named by its line), a path that leads out of `root`, or a group in several splits.
    """
    if root is not None and str(root).lower().endswith(".csv"):
        root, labels = Path(root).parent, Path(root)
    folder = folder_of(root, "folder", HINT)
    if labels is None and (folder / "labels.csv").exists():
        labels = folder / "labels.csv"
    if labels is not None and not Path(labels).exists():
        labels = folder / labels
    rows, stray = _class_folders(folder) if labels is None else (_rows(folder, Path(labels)), None)
    wanted = _recordings(rows, labels or folder)
    recordings, problems = present(wanted, HINT, workers, progress)
    recordings["group"] = join_duplicates(recordings)
    rows = rows[rows["recording"].isin(recordings["recording"])]
    classes = sorted({name for names in rows["names"] for name in names})
    if not classes:
        raise AudiotkError(f"{labels or folder}: holds no label at all. {HINT}")
    ranges = "start_s" in rows.columns
    if ranges:
        cells = _range_cells(rows, recordings, classes, complete, labels or folder)
    else:
        cells = _file_cells(rows, recordings, classes)
    segments = cells.drop_duplicates("segment")
    return Dataset(
        name="folder",
        recordings=recordings[["recording", "path", "duration_s", "sr", "group"]],
        segments=make_segments(segments["recording"], segments["start_s"], segments["end_s"]),
        annotations=make_annotations(
            cells["segment"], cells["class_name"], cells["value"], "folder", _written(labels or folder)
        ),
        split=_split(recordings, rows, seed),
        classes=classes,
        sources=make_sources(folder="" if ranges else "closed weak"),
        problems=problems if stray is None else pd.concat([problems, stray], ignore_index=True),
    )


def _written(path: str | Path) -> pd.Timestamp:
    return pd.Timestamp(os.stat(path).st_mtime_ns // 1000, unit="us", tz="UTC")


def _class_folders(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Columns recording, path, names (and split) of the files in class folders; a problems table of the others."""
    found = [*folder.glob("[!.]*"), *folder.glob("[!.]*/**/*")]
    files = sorted(file for file in found if file.suffix.lower() in SOUND_SUFFIXES and file.is_file())
    parts = [file.relative_to(folder).parts for file in files]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    depth = 2 if tops and tops <= set(SPLIT_NAMES) else 1  # of the class folders
    table = pd.DataFrame(
        {"recording": ["/".join(part) for part in parts], "path": [str(file.absolute()) for file in files]}
    )
    table["names"] = [[part[depth - 1]] for part in parts]
    placed = np.array([len(part) > depth for part in parts], dtype=bool)
    if not placed.any():
        told = f" in its folders {sorted(tops)}, which are named after splits" if depth == 2 else ""
        raise AudiotkError(f"{folder}: holds no class folders with sound files{told}. {HINT}")
    if depth == 2:
        table["split"] = [SPLIT_NAMES.get(part[0].lower(), "") for part in parts]
    stray = table[~placed].assign(reason="lies in no class folder, so it has no label")
    return table[placed].reset_index(drop=True), stray[list(PROBLEM_COLUMNS)]


def _rows(folder: Path, labels: Path) -> pd.DataFrame:
    """The CSV with columns line, recording, path, names and, as far as they are there, start_s, end_s, group, split."""
    table = read_csv(labels, ["path", "label"], HINT)
    if ("start_s" in table) != ("end_s" in table):
        raise AudiotkError(f"{labels}: expected both columns start_s and end_s or none, found {list(table.columns)}")
    rows = table.index.to_frame(index=False)
    table = table.reset_index(drop=True)
    pairs = zip(table["path"], rows["line"], strict=True)
    rows["path"] = [_path(folder, name.strip(), f"{labels} line {line}") for name, line in pairs]
    rows["recording"] = [Path(os.path.relpath(path, folder)).as_posix() for path in rows["path"]]
    rows["names"] = table["label"].map(lambda cell: [name.strip() for name in cell.split(";") if name.strip()])
    for column in ("start_s", "end_s"):
        if column in table:
            rows[column] = pd.to_numeric(table[column], errors="coerce").round(3)
    if "start_s" in rows:
        bad = ~(np.isfinite(rows["end_s"]) & (rows["start_s"] >= 0) & (rows["start_s"] < rows["end_s"]))
        if bad.any():
            first = int(np.argmax(bad))
            came = f"{table['start_s'].iloc[first]!r} to {table['end_s'].iloc[first]!r}"
            raise AudiotkError(f"{labels} line {rows['line'].iloc[first]}: expected 0 <= start_s < end_s, got {came}")
    if "group" in table:
        rows["group"] = table["group"].str.strip()
    if "split" in table:
        rows["split"] = table["split"].str.strip().str.lower().map(SPLIT_NAMES)
        if rows["split"].isna().any():
            first = int(rows["split"].isna().argmax())
            came = f"got {table['split'].iloc[first]!r}"
            raise AudiotkError(
                f"{labels} line {rows['line'].iloc[first]}: split: expected one of {list(SPLIT_NAMES)}, {came}"
            )
    _tell_contradiction(rows, labels)
    return rows


def _path(folder: Path, name: str, what: str) -> str:
    """The path of `name`, which Windows may have written."""
    path = inside(folder, name, what)
    return inside(folder, name.replace("\\", "/"), what) if "\\" in name and not os.path.exists(path) else path


def _tell_contradiction(rows: pd.DataFrame, labels: Path) -> None:
    """Warn if one row says "none of the classes" of what another row names classes for."""
    keys = [name for name in ("recording", "start_s", "end_s") if name in rows]
    named = rows["names"].map(len) > 0
    both = rows.loc[~named, ["line", *keys]].merge(rows.loc[named, ["line", "names", *keys]], on=keys)
    if len(both):
        empty, line, names = both.loc[0, ["line_x", "line_y", "names"]]
        told = f"line {empty} says that none of the classes is there, line {line} of the same sound names {names}"
        warnings.warn(f"{labels}: {told}; what is named counts ({len(both)} such pair(s))", stacklevel=4)


def _recordings(rows: pd.DataFrame, labels: str | Path) -> pd.DataFrame:
    """One row a recording; its group and split have to be the same in all its rows."""
    for column in (name for name in ("group", "split") if name in rows):
        kinds = rows.groupby("recording")[column].nunique()
        if (kinds > 1).any():
            raise AudiotkError(f"{labels}: recording {kinds.idxmax()!r} has more than one {column}; expected one")
    first = rows.drop_duplicates("recording").reset_index(drop=True)
    group = first["group"].mask(first["group"] == "", first["recording"]) if "group" in first else first["recording"]
    return first.assign(group=group)[["recording", "path", "group", *(["split"] if "split" in first else [])]]


def _file_cells(rows: pd.DataFrame, recordings: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """One row a label: segment (the whole recording), recording, start_s, end_s, class_name, value."""
    whole = whole_recordings(recordings)
    cells = rows[["recording", "names"]].merge(whole, on="recording")
    named = cells.explode("names").dropna(subset="names").drop_duplicates(["segment", "names"]).assign(value=1.0)
    empty = cells[~cells["segment"].isin(named["segment"])].drop_duplicates("segment")
    absent = empty.drop(columns="names").merge(pd.DataFrame({"names": classes}), how="cross").assign(value=0.0)
    return pd.concat([named, absent], ignore_index=True).rename(columns={"names": "class_name"})


def _range_cells(
    rows: pd.DataFrame, recordings: pd.DataFrame, classes: list[str], complete: bool, labels: str | Path
) -> pd.DataFrame:
    """As :func:`_file_cells` for ranges; an empty label says that the range holds none of the classes."""
    length = rows["recording"].map(recordings.set_index("recording")["duration_s"])
    if (rows["end_s"] > length + 0.001).any():
        late = rows.assign(length=length)[rows["end_s"] > length + 0.001].iloc[0]
        raise AudiotkError(
            f"{labels} line {late['line']}: end_s {late['end_s']} lies behind the end of {late['recording']!r} "
            f"({late['length']:.3f} s)"
        )
    rows = rows.assign(end_s=np.minimum(rows["end_s"], length))
    value = rows["names"].map(len).gt(0).astype(float)
    names = rows["names"].map(lambda names: names or classes)
    cells = rows[["recording", "start_s", "end_s"]].assign(class_name=names, value=value).explode("class_name")
    if complete:
        cells = pd.concat([cells, _gaps(cells[cells["value"] == 1.0], recordings, classes)], ignore_index=True)
    triples = zip(cells["recording"], cells["start_s"], cells["end_s"], strict=True)
    cells = cells.assign(segment=[segment_id(*triple) for triple in triples])
    cells = cells.reset_index(drop=True).sort_values("value", ascending=False, kind="stable")  # 1 goes before 0
    return cells.drop_duplicates(["segment", "class_name"]).sort_index()


def _gaps(active: pd.DataFrame, recordings: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Value 0 for each class in the parts of each recording (at least 1 ms long) where it is not active."""
    ranges = {key: part.sort_values("start_s") for key, part in active.groupby(["recording", "class_name"])}
    found = []
    for recording, duration_s in zip(recordings["recording"], recordings["duration_s"], strict=True):
        for name in classes:
            at = 0.0
            part = ranges.get((recording, name))
            for start_s, end_s in [] if part is None else zip(part["start_s"], part["end_s"], strict=True):
                found.append((recording, at, start_s, name))
                at = max(at, end_s)
            found.append((recording, at, duration_s, name))
    table = pd.DataFrame(found, columns=["recording", "start_s", "end_s", "class_name"]).assign(value=0.0)
    return table[table["end_s"] - table["start_s"] >= 0.001]


def _split(recordings: pd.DataFrame, rows: pd.DataFrame, seed: int) -> pd.Series:
    if "split" in recordings:
        advice = "give some recordings that split, or leave the splits out to have them drawn"
        return tell_empty(check_split(recordings.set_index("recording")["split"], recordings), "folder", advice)
    first = (
        rows.drop_duplicates("recording").set_index("recording")["names"].map(lambda names: names[0] if names else "")
    )
    return grouped_split(recordings, SHARES, np.random.default_rng(seed), first)
