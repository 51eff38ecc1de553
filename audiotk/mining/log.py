"""Detections that a deployed model logged, as a table that can be mined, judged by ear and promoted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from audiotk import audio
from audiotk.mining.false_positives import finished
from audiotk.tables import AudiotkError, Dataset, check_recordings, no_problems, segment_id

COLUMNS = {  # ours: what logs call it
    "path": ("path", "file", "filename"),
    "start_s": ("start_s", "start", "onset"),
    "end_s": ("end_s", "end", "offset"),
    "class_name": ("class_name", "class", "label", "event_label"),
    "score": ("score", "confidence", "probability"),
}
SHOWN = 5


def read_log(
    path: str | Path,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    dataset: Dataset | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read a log of detections: CSV or Parquet with path, start, end, class and score, one row a detection.

    A detection is not yet a false positive: whether the class is there, labels say
    (:func:`audiotk.mining.judged_absent`) or somebody who listens (``widgets.ClusterExplorer``).

    Parameters
    ----------
    path
        The log. Further columns group and device (text) are used, others ignored.
    root
        Folder of the recordings, in which relative paths of the log start; default that of the log. A path outside of
        it is refused.
    columns
        Our name -> the name in the log, where it is none of those in `COLUMNS`.
    dataset
        Its recordings keep their names, groups and devices; other files get their path as name and group.
    progress
        Show a progress bar.

    Returns
    -------
    detections : DataFrame
        The columns of :func:`audiotk.mining.false_positives`; event and peak are the logged range.
    recordings : DataFrame
        The recordings that the log speaks about.
    problems : DataFrame
        recording, path, reason: missing and unreadable files, rows outside of their file; left out and counted.

    Raises
    ------
    AudiotkError
        The log cannot be read, a column is missing, or no row is left.
    """
    path = Path(path)
    rows = _rows(path, dict(columns or {}))
    if rows.empty:
        raise AudiotkError(f"{path}: the log holds no detection")
    base = Path(os.path.realpath(path.parent if root is None else root))
    rows["file"] = [_inside(base, told) for told in rows["path"]]
    files = rows["file"].dropna().unique().tolist()
    infos, unreadable = audio.probe(files, progress=progress)
    recordings = _recordings(infos, rows, base, dataset)
    by_file = recordings.assign(file=recordings["path"].map(os.path.realpath)).set_index("file")
    rows["recording"] = rows["file"].map(by_file["recording"])
    duration_s = rows["file"].map(by_file["duration_s"])
    inside = (rows["start_s"] >= 0) & (rows["start_s"] < rows["end_s"]) & (rows["end_s"] <= duration_s + 0.001)
    good = rows["recording"].notna() & inside & rows["score"].between(0, 1)
    problems = _problems(rows[~good], unreadable, duration_s)
    rows = rows[good]
    if rows.empty:
        first = problems["reason"].iloc[0]
        raise AudiotkError(f"{path}: none of {len(good)} detections can be used; the first: {first}")
    rows = rows.sort_values("score", ascending=False, kind="stable")
    keys = zip(rows["recording"], rows["start_s"], rows["end_s"], strict=True)
    found = rows[["recording", "start_s", "end_s", "class_name", "score"]].assign(
        segment=[segment_id(*key) for key in keys], event_start_s=rows["start_s"], event_end_s=rows["end_s"], windows=1
    )
    found = found.drop_duplicates(["segment", "class_name"], ignore_index=True)
    return finished(found, recordings, progress), recordings, problems


def _rows(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """The log with our column names; score and times as numbers."""
    try:
        told = pd.read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else pd.read_csv(path)
    except (OSError, ValueError, ImportError) as err:
        raise AudiotkError(f"{path}: cannot be read as CSV or Parquet: {err}") from err
    if unknown := set(columns) - {*COLUMNS, "group", "device"}:
        raise AudiotkError(f"columns: expected names of {list(COLUMNS)}, got {sorted(unknown)}")
    if lost := [told_as for told_as in columns.values() if told_as not in told]:
        raise AudiotkError(f"{path}: there is no column {lost[0]!r}; there are {list(told.columns)}")
    names = {ours: [columns[ours]] if ours in columns else list(known) for ours, known in COLUMNS.items()}
    chosen = {ours: next((name for name in known if name in told), None) for ours, known in names.items()}
    if missing := [ours for ours, name in chosen.items() if name is None]:
        raise AudiotkError(
            f"{path}: no column for {', '.join(missing)}; expected {names[missing[0]]}, got {list(told.columns)}; "
            "say which it is with columns="
        )
    rows = pd.DataFrame({ours: told[name] for ours, name in chosen.items()})
    for ours in ("start_s", "end_s", "score"):
        rows[ours] = pd.to_numeric(rows[ours], errors="coerce")
    for ours in ("group", "device"):
        rows[ours] = told.get(columns.get(ours, ours), "")
    if (empty := rows[["path", "class_name"]].isna().any(axis=1)).any():
        raise AudiotkError(f"{path}: path or class is empty in row {int(empty.argmax())}")
    return rows.astype({"path": "str", "class_name": "str"}).fillna({"group": "", "device": ""})


def _inside(base: Path, told: str) -> str | None:
    """The real path of a file that a log names, None if it leaves the folder `base`."""
    file = Path(os.path.realpath(base / told))
    return str(file) if file.is_relative_to(base) else None


def _recordings(infos: pd.DataFrame, rows: pd.DataFrame, base: Path, dataset: Dataset | None) -> pd.DataFrame:
    """A recordings table of the readable files; those of `dataset` keep what it says of them."""
    first = rows.drop_duplicates("file").set_index("file")
    table = pd.DataFrame({"path": infos["path"], "duration_s": infos["duration_s"], "sr": infos["sr"]})
    table["recording"] = [os.path.relpath(file, base) for file in table["path"]]
    for name in ("group", "device"):
        table[name] = table["path"].map(first[name]).astype("str")
    table["group"] = table["group"].where(table["group"] != "", table["recording"])
    if dataset is not None:
        known = dataset.recordings.assign(file=dataset.recordings["path"].map(os.path.realpath)).set_index("file")
        mine = table["path"].isin(known.index)
        for name in ("recording", "group", *(["device"] if "device" in known else [])):
            table.loc[mine, name] = table.loc[mine, "path"].map(known[name])
    return check_recordings(table)


def _problems(bad: pd.DataFrame, unreadable: pd.DataFrame, duration_s: pd.Series) -> pd.DataFrame:
    """Why rows of the log are left out."""
    reasons = unreadable.set_index("path")["reason"]
    out = []
    for place, row, length_s in zip(bad.index, bad.to_dict("records"), duration_s.reindex(bad.index), strict=True):
        if pd.isna(row["file"]):
            reason = f"row {place}: {row['path']} lies outside of the folder of the log; say root="
        elif row["file"] in reasons.index:
            reason = str(reasons[row["file"]])
        elif not 0 <= row["score"] <= 1:
            reason = f"row {place}: expected a score in 0 to 1, got {row['score']}"
        else:
            told = f"{row['start_s']} to {row['end_s']} s does not lie in the file, which lasts {length_s:.3f} s"
            reason = f"row {place}: {told}"
        out.append((str(row["path"]), str(row["file"]), reason))
    return pd.DataFrame(out, columns=list(no_problems().columns), dtype="str").drop_duplicates(ignore_index=True)
