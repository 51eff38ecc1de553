"""Your own recordings: folders named after classes, or a CSV of files and labels.

====================  =============================================  ==================================================
form                  how                                            what a label means
====================  =============================================  ==================================================
class folders         ``root/CLASS/any/depth/x.wav``                 the whole recording has this one class
CSV of files          ``path,label[,group][,split]``                 the whole recording has these classes and no other;
                                                                     several as ``dog;rain``, none as an empty cell
CSV of time ranges    ``path,start_s,end_s,label[,group][,split]``   active through the whole range; nothing is known
                                                                     about the rest, unless ``complete=True``
====================  =============================================  ==================================================

Paths are relative to the root. Further columns are ignored.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.datasets.found import SOUND_SUFFIXES, folder_of, inside, join_duplicates, present, read_csv
from audiotk.tables import (
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
    "folder: pass a folder of class folders (root/CLASS/x.wav), or labels=CSV with columns path,label or "
    "path,start_s,end_s,label."
)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


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

    Without a ``split`` column 70 / 15 / 15 % become train / val / test, by group and class. Without a ``group`` column
    each recording is its own group; exact copies of a file always share one. Source ``folder``: whole-recording labels
    are closed and weak; range labels are neither.

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
    rows, stray = (_class_folders(folder), _stray(folder)) if labels is None else (_rows(folder, Path(labels)), None)
    wanted = _recordings(rows)
    recordings, problems = present(wanted, HINT, workers, progress)
    recordings["group"] = join_duplicates(recordings)
    rows = rows[rows["recording"].isin(recordings["recording"])]
    classes = sorted({name for names in rows["names"] for name in names})
    if not classes:
        raise AudiotkError(f"{labels or folder}: holds no label at all. {HINT}")
    ranges = "start_s" in rows.columns
    cells = _range_cells(rows, recordings, classes, complete) if ranges else _file_cells(rows, recordings, classes)
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


def _class_folders(folder: Path) -> pd.DataFrame:
    """Columns line, recording, path, names: the sound files of each class folder."""
    files = sorted(
        file for file in folder.glob("[!.]*/**/*") if file.suffix.lower() in SOUND_SUFFIXES and file.is_file()
    )
    if not files:
        raise AudiotkError(f"{folder}: holds no class folders with sound files. {HINT}")
    names = [file.relative_to(folder).as_posix() for file in files]
    columns = {"line": range(len(files)), "recording": names, "path": [str(file.absolute()) for file in files]}
    table = pd.DataFrame(columns)
    return table.assign(names=table["recording"].map(lambda name: [name.split("/")[0]]))


def _stray(folder: Path) -> pd.DataFrame:
    """A problems table of sound files that lie beside the class folders."""
    files = sorted(file for file in folder.glob("[!.]*") if file.suffix.lower() in SOUND_SUFFIXES and file.is_file())
    rows = [(file.name, str(file.absolute()), "lies in no class folder, so it has no label") for file in files]
    return pd.DataFrame(rows, columns=["recording", "path", "reason"])


def _rows(folder: Path, labels: Path) -> pd.DataFrame:
    """The CSV with columns line, recording, path, names and, as far as they are there, start_s, end_s, group, split."""
    table = read_csv(labels, ["path", "label"], HINT)
    if ("start_s" in table) != ("end_s" in table):
        raise AudiotkError(f"{labels}: expected both columns start_s and end_s or none, found {list(table.columns)}")
    rows = pd.DataFrame({"line": table.index + 2})
    pairs = zip(table["path"], rows["line"], strict=True)
    rows["path"] = [inside(folder, name.strip(), f"{labels} line {line}") for name, line in pairs]
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
            raise AudiotkError(f"{labels} line {first + 2}: expected 0 <= start_s < end_s, got {came}")
    for column in ("group", "split"):
        if column in table:
            rows[column] = table[column].str.strip()
    return rows


def _recordings(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a recording; its group and split have to be the same in all its rows."""
    for column in (name for name in ("group", "split") if name in rows):
        kinds = rows.groupby("recording")[column].nunique()
        if (kinds > 1).any():
            raise AudiotkError(f"folder: recording {kinds.idxmax()!r} has more than one {column}; expected one")
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


def _range_cells(rows: pd.DataFrame, recordings: pd.DataFrame, classes: list[str], complete: bool) -> pd.DataFrame:
    """As :func:`_file_cells` for ranges; an empty label says that the range holds none of the classes."""
    length = rows["recording"].map(recordings.set_index("recording")["duration_s"])
    if (rows["end_s"] > length + 0.001).any():
        late = rows.assign(length=length)[rows["end_s"] > length + 0.001].iloc[0]
        raise AudiotkError(
            f"folder: line {late['line']}: end_s {late['end_s']} lies behind the end of {late['recording']!r} "
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
    return cells.drop_duplicates(["segment", "class_name"])


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
        return check_split(recordings.set_index("recording")["split"], recordings)
    first = (
        rows.drop_duplicates("recording").set_index("recording")["names"].map(lambda names: names[0] if names else "")
    )
    return grouped_split(recordings, SHARES, np.random.default_rng(seed), first)
