"""Label files that nest: JAMS, Praat TextGrid and Label Studio tasks. Use :mod:`audiotk.formats`."""

from __future__ import annotations

import json
import re
import uuid
import warnings
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from audiotk.formats.ranges import (
    PathLike,
    Ranged,
    Ranges,
    Reading,
    as_ranges,
    by_recording,
    durations,
    one_recording,
    plain,
    seconds,
    write_text,
)
from audiotk.tables import AudiotkError

UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file


def write_jams(ranges: Ranged, path: PathLike, recordings: pd.DataFrame | None = None, overwrite: bool = False) -> Path:
    """Write the ranges of one recording as JAMS: namespace ``tag_open``, one annotation for each labeler.

    Parameters
    ----------
    ranges, path, overwrite
        What to write, the file, and whether to replace it.
    recordings
        Recordings table that has its length; default: where the last range ends.
    """
    ranges = as_ranges(ranges)
    name = one_recording(ranges, "jams")
    length = _length(ranges, recordings, name)
    tracks = []
    rows = by_recording(ranges)[name]
    for labeler in dict.fromkeys(row["labeler"] for row in rows) or [""]:
        data = [
            {"time": row["start_s"], "duration": row["end_s"] - row["start_s"], "value": row["class_name"],
             "confidence": None}
            for row in rows if row["labeler"] == labeler
        ]  # fmt: skip
        about = {
            "curator": {"name": "", "email": ""}, "annotator": {"name": labeler} if labeler else {}, "version": "",
            "corpus": "", "annotation_tools": "audiotk", "annotation_rules": "", "validation": "",
            "data_source": "manual",
        }  # fmt: skip
        track = {"namespace": "tag_open", "time": 0.0, "duration": length, "data": data}
        tracks.append({**track, "annotation_metadata": about, "sandbox": {}})
    file = {"title": name, "artist": "", "release": "", "duration": length, "identifiers": {}, "jams_version": "0.3.4"}
    return _write_json({"annotations": tracks, "file_metadata": file, "sandbox": {}}, path, overwrite)


def write_textgrid(
    ranges: Ranged, path: PathLike, recordings: pd.DataFrame | None = None, overwrite: bool = False
) -> Path:
    """Write the ranges of one recording as a Praat TextGrid: one tier for each class, points in a tier of their own.

    Intervals of a tier may not overlap: a class that overlaps itself (two labelers, say) gets ``CLASS (2)`` and so on.

    Parameters
    ----------
    ranges, path, overwrite
        What to write, the file, and whether to replace it.
    recordings
        Recordings table that has its length; default: where the last range ends.
    """
    ranges = as_ranges(ranges)
    name = one_recording(ranges, "textgrid")
    plain(ranges.table["class_name"], "textgrid")
    length = _length(ranges, recordings, name)
    tiers = [tier for class_name, rows in ranges.table.groupby("class_name") for tier in _tiers(str(class_name), rows)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0.0", f"xmax = {seconds(length)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers) or 1}", "item []:"]
    taken: set[str] = set()
    for number, (kind, class_name, rows) in enumerate(tiers or [("IntervalTier", "no ranges", [])], start=1):
        titles = [class_name, *(f"{class_name} ({n})" for n in range(2, len(tiers) + 2))]
        title = next(one for one in titles if one not in taken)
        taken.add(title)
        body = _points(rows) if kind == "TextTier" else _intervals(rows, length)
        lines += [f"    item [{number}]:", f'        class = "{kind}"', f'        name = "{_quoted(title)}"']
        lines += ["        xmin = 0.0", f"        xmax = {seconds(length)}", *(f"        {line}" for line in body)]
    return write_text(path, "\n".join(lines) + "\n", overwrite)


def read_labelstudio(
    path: PathLike, under: str = "annotations", unnamed: str | None = None, encoding: str = "utf-8-sig"
) -> Ranges:
    """Read the tasks of a Label Studio project (export format JSON, not JSON_MIN).

    A recording is ``data.recording`` of its task, or else the name of the first sound file in ``data``, without the
    folder, what an upload put before it, and the suffix. A task counts as checked if it has an annotation that was
    submitted; skipped (cancelled) ones count for nothing. Regions are results of type ``labels``; the text of a region
    is its note. Results of other types (a choice about the whole task, say) are left out with a warning.

    Parameters
    ----------
    path
        The exported JSON.
    under
        ``annotations`` (of people) or ``predictions`` (of models). They are never mixed.
    unnamed
        Class of regions without a label; None refuses them.
    encoding
        Of the file.

    Raises
    ------
    AudiotkError
        No such JSON; a task or result cannot be read: it is named by its number, from 1.
    """
    if under not in ("annotations", "predictions"):
        raise AudiotkError(f"labelstudio: expected under='annotations' or 'predictions', got {under!r}")
    reading = Reading(path, unnamed)
    try:
        tasks = json.loads(reading.text(encoding))
    except json.JSONDecodeError as err:
        raise reading.fault(f"line {err.lineno}", "JSON", err.msg) from err
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise reading.fault("top", "a list of tasks, each with data (export as JSON, not JSON_MIN)", str(tasks)[:80])
    left_out: Counter[str] = Counter()
    for number, task in enumerate(tasks, start=1):
        where = f"task {number}"
        name = _task_recording(reading, where, task["data"])
        for made in _entries(reading, where, task, under):
            if not made.get("was_cancelled"):
                reading.check(where, name)
                _read_results(reading, where, name, made, left_out)
    if left_out:
        told = ", ".join(f"{count} of type {kind}" for kind, count in sorted(left_out.items()))
        warnings.warn(f"{path}: only results of type labels are ranges; left out {told}", stacklevel=2)
    return reading.ranges()


def write_labelstudio(
    ranges: Ranged,
    path: PathLike,
    recordings: pd.DataFrame | None = None,
    under: str = "annotations",
    url: str = "{path}",
    from_name: str = "label",
    to_name: str = "audio",
    overwrite: bool = False,
) -> Path:
    """Write Label Studio tasks, one for each checked recording.

    Parameters
    ----------
    ranges, path, overwrite
        What to write, the file, and whether to replace it.
    recordings
        Recordings table with path (what the tasks point to) and duration_s; default: the recording is the path.
    under
        ``annotations``, or ``predictions`` for pre-annotations that people are to correct; the labeler then is the
        model version.
    url
        Pattern of what a task points to, with ``{path}`` and ``{recording}``: ``/data/local-files/?d={path}``.
    from_name, to_name
        Names of the tags ``<Labels>`` and ``<Audio>`` in the project's labeling interface; its value is ``$audio``.
    """
    if under not in ("annotations", "predictions"):
        raise AudiotkError(f"labelstudio: expected under='annotations' or 'predictions', got {under!r}")
    ranges = as_ranges(ranges)
    lengths = durations(recordings)
    paths = (
        {} if recordings is None else dict(zip(recordings["recording"], recordings["path"].astype(str), strict=True))
    )
    tasks = []
    for name, rows in by_recording(ranges).items():
        entries: list[dict[str, Any]] = []
        for labeler in dict.fromkeys(row["labeler"] for row in rows) or [""]:
            mine = [row for row in rows if row["labeler"] == labeler]
            entries.append({"result": [_region(row, lengths.get(name), from_name, to_name) for row in mine]})
            if under == "predictions":
                entries[-1]["model_version"] = labeler
        target = url.replace("{recording}", name).replace("{path}", paths.get(name, name))
        tasks.append({"data": {"audio": target, "recording": name}, under: entries})
    return _write_json(tasks, path, overwrite)


# --- the parts of each ------------------------------------------------------------------------------------------------


def _length(ranges: Ranges, recordings: pd.DataFrame | None, name: str) -> float:
    """Length of a recording in seconds, at least to the end of its last range."""
    length = max([durations(recordings).get(name, 0.0), *ranges.table["end_s"]])
    if length <= 0:
        raise AudiotkError(f"recording {name!r}: its length is not known; pass recordings= (recording, duration_s)")
    return float(length)


def _write_json(content: Any, path: PathLike, overwrite: bool) -> Path:
    return write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", overwrite)


def _quoted(text: str) -> str:
    return text.replace('"', '""')


def _tiers(class_name: str, rows: pd.DataFrame) -> list[tuple[str, str, list[dict[Any, Any]]]]:
    """Kind, class and ranges in order of each tier that a class needs."""
    is_point = rows["end_s"] == rows["start_s"]
    lanes: list[list[dict[Any, Any]]] = []
    for row in rows[~is_point].sort_values(["start_s", "end_s"], kind="stable").to_dict("records"):
        lane = next((one for one in lanes if one[-1]["end_s"] <= row["start_s"]), None)
        if lane is None:
            lanes.append([row])
        else:
            lane.append(row)
    points = rows[is_point].sort_values("start_s").drop_duplicates("start_s").to_dict("records")
    found = [("IntervalTier", class_name, lane) for lane in lanes]
    return found + [("TextTier", class_name, points)] * bool(points)


def _intervals(rows: list[dict[Any, Any]], length: float) -> list[str]:
    """The lines of a tier: its ranges, and intervals without text between, so that all of the time is covered."""
    parts: list[tuple[float, float, str]] = []
    at = 0.0
    for row in [*rows, {"start_s": length, "end_s": length, "class_name": ""}]:
        if row["start_s"] > at:
            parts.append((at, row["start_s"], ""))
        if row["end_s"] > row["start_s"]:
            parts.append((row["start_s"], row["end_s"], row["class_name"]))
        at = row["end_s"]
    lines = [f"intervals: size = {len(parts)}"]
    for number, (start, end, text) in enumerate(parts, start=1):
        lines += [f"intervals [{number}]:", f"    xmin = {seconds(start)}", f"    xmax = {seconds(end)}"]
        lines.append(f'    text = "{_quoted(text)}"')
    return lines


def _points(rows: list[dict[Any, Any]]) -> list[str]:
    lines = [f"points: size = {len(rows)}"]
    for number, row in enumerate(rows, start=1):
        lines += [f"points [{number}]:", f"    number = {seconds(row['start_s'])}"]
        lines.append(f'    mark = "{_quoted(row["class_name"])}"')
    return lines


def _entries(reading: Reading, where: str, task: dict[str, Any], under: str) -> list[dict[str, Any]]:
    found = task.get(under, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise reading.fault(where, f"a list under {under}", str(found)[:80])
    return found


def _task_recording(reading: Reading, where: str, data: Any) -> str:
    """The recording that a task is about."""
    texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    if not texts:
        raise reading.fault(where, "data with the address of a sound file", data)
    if isinstance(data.get("recording"), str) and data["recording"]:
        return data["recording"]
    address = data.get("audio") if isinstance(data.get("audio"), str) else texts[0]
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]  # /data/local-files/?d=folder/name.wav
    name = PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
    return PurePosixPath(UPLOADED.sub("", name, count=1) if "/upload/" in parts.path else name).stem


def _read_results(reading: Reading, where: str, recording: str, made: dict[str, Any], left_out: Counter[str]) -> None:
    """The regions of one annotation or prediction."""
    results = made.get("result", [])
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise reading.fault(where, "a list under result", str(results)[:80])
    who = made.get("completed_by", made.get("model_version", ""))
    who = who.get("email", who.get("id", "")) if isinstance(who, dict) else who
    regions = {str(one.get("id")) for one in results if one.get("type") == "labels"}
    notes: dict[str, list[str]] = {}
    for one in results:
        key = str(one.get("id"))
        if one.get("type") == "textarea" and key in regions:
            notes.setdefault(key, []).extend(_texts(reading, where, _part(reading, where, one).get("text")))
        elif one.get("type") != "labels":
            left_out[str(one.get("type"))] += 1
    for number, one in enumerate(results, start=1):
        if one.get("type") != "labels":
            continue
        value, place = _part(reading, where, one), f"{where}, result {number}"
        kept: Any = one.get("meta")
        kept = kept if isinstance(kept, dict) else {}
        note = "\n".join(notes.get(str(one.get("id"))) or _texts(reading, place, kept.get("text")))
        labeler = str(kept.get("labeler", "" if who is None else who))
        for label in _texts(reading, place, value.get("labels")) or [""]:
            band = kept.get("low_hz"), kept.get("high_hz")
            reading.add(place, recording, value.get("start"), value.get("end"), label, *band, note, labeler)


def _texts(reading: Reading, where: str, value: Any) -> list[str]:
    """A text or a list of them."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise reading.fault(where, "text", value)
    return texts


def _part(reading: Reading, where: str, result: dict[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    if not isinstance(value, dict):
        raise reading.fault(where, "a value in each result", str(result)[:80])
    return value


def _region(row: dict[Any, Any], length: float | None, from_name: str, to_name: str) -> dict[str, Any]:
    """One region as Label Studio keeps it; what it has no place for goes to ``meta``."""
    about: dict[str, Any] = {key: row[key] for key in ("low_hz", "high_hz") if pd.notna(row[key])}
    about |= {"text": [row["note"]]} if row["note"] else {}
    about |= {"labeler": row["labeler"]} if row["labeler"] else {}
    key = uuid.uuid5(uuid.NAMESPACE_OID, repr(sorted(row.items()))).hex[:10]
    region: dict[str, Any] = {
        "id": key, "from_name": from_name, "to_name": to_name, "type": "labels", "origin": "manual",
        "value": {"start": row["start_s"], "end": row["end_s"], "channel": 0, "labels": [row["class_name"]]},
    }  # fmt: skip
    region |= {"original_length": length} if length is not None else {}
    return {**region, "meta": about} if about else region
