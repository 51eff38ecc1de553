"""Labelled segments as sound files in class folders: :func:`export_segments`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk import audio
from audiotk.datasets.found import sha256
from audiotk.decode import GRACE_S, in_threads
from audiotk.formats.manifest import MANIFEST, TABLE, Row, file_name, in_order, prepare, read_manifest, write_manifest
from audiotk.store import Store
from audiotk.store.history import subtract, union
from audiotk.store.operations import counts
from audiotk.tables import PROBLEM_COLUMNS, AudiotkError

LONGEST_S = 30.0  # longer negatives are cut into equal pieces
DECIDED = ("confirmed", "not_found")
Verdicts = dict[tuple[Any, Any], dict[Any, str]]
EVERY = 256  # recordings between two writings of the manifest


@dataclass(frozen=True)
class Export:
    """What an export folder holds now, and what was done to it.

    Attributes
    ----------
    out
        The folder.
    manifest
        Columns `MANIFEST`; one row for each file and class: a positive has one, a negative one for each class that was
        decided to be absent there. Times are those of the label, without `pad_s`. As ``manifest.csv`` in the folder.
    problems
        Columns recording, path, reason: what is not in the folder, or not as the store says.
    written, kept
        Files made now, and files that were there already.
    changed
        Files whose content is not what was exported; they are left as they are.
    strays
        Sound files in the folder that are not of this export: other people's, or of labels that are gone.
    expansion
        Positive samples for each recording with a clip label in which something was labelled. Ranges of one class that
        overlap or touch count once. NaN: there are none.
    clips
        Recordings with a clip label that were decided: with any samples, and in all.
    per_label
        Positive samples for each that was decided (B1.5, which states this minus one). NaN: there are none.
    """

    out: Path
    manifest: pd.DataFrame
    problems: pd.DataFrame
    written: int
    kept: int
    changed: tuple[str, ...]
    strays: tuple[str, ...]
    expansion: float
    clips: tuple[int, int]

    @property
    def per_label(self) -> float:
        found, decided = self.clips
        return (self.expansion * found if found else 0.0) / decided if decided else math.nan

    def __repr__(self) -> str:
        counts = self.manifest.drop_duplicates("file")["kind"].value_counts()
        lines = [
            f"{self.out}: {counts.get('positive', 0)} positive and {counts.get('negative', 0)} negative files "
            f"({self.written} written, {self.kept} kept)"
        ]
        if not math.isnan(self.expansion):
            found, decided = self.clips
            lines.append(
                f"{self.per_label:.2f} clean samples a clip label, {self.expansion:.2f} a clip that held any "
                f"({found} of {decided})"
            )
        for name, things in (("problems", len(self.problems)), ("changed", self.changed), ("strays", self.strays)):
            if things:
                lines.append(f"{name}: {things if isinstance(things, int) else len(things)}, see .{name}")
        return "\n".join(lines)


def export_segments(
    store: Store,
    out: str | Path,
    pad_s: float = 0.0,
    fade_s: float = 0.005,
    format: str = "wav",
    *,
    sr: int | None = None,
    negative_s: float | None = 1.0,
    classes: Sequence[str] | None = None,
    labelers: Sequence[str] | None = None,
    as_of: datetime | str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Export:
    """Cut every confirmed segment of a store to a file, in a folder for each class, and negatives beside them.

    A segment is confirmed unless its labeler's last word on its class in that recording is "unsure" or "not found".
    Negatives are what a labeler heard of a recording, less the segments of everyone; they stand for the classes that he
    confirmed or did not find there. A recording gives none if anyone is unsure about it, or confirmed a class in it
    without a segment: that may be anywhere.

    A second call with the same settings makes what is missing and touches nothing else. Files appear whole or not at
    all; none is ever replaced or removed.

    Parameters
    ----------
    store
        Where the labels and recordings are.
    out
        Folder of the files, ``manifest.csv`` and ``export.json`` (settings, and the folder of each class).
    pad_s
        Seconds added to both sides of positives, as far as the recording goes.
    fade_s
        Raised-cosine fades at both ends in seconds, at most a quarter of the file each.
    format
        ``wav`` or ``flac``; mono, 16 bit.
    sr
        Sample rate in Hz; default: that of each recording.
    negative_s
        Shortest negative in seconds; None makes none. Those above 30 s are cut into equal pieces.
    classes, labelers, as_of
        What to export; default: all, as it is now.
    workers, progress
        Threads (default: one for each core), and whether to show a progress bar.

    Returns
    -------
    Export
        A recording that cannot be read, and a segment that lies outside of it, are skipped and listed in its problems.

    Raises
    ------
    AudiotkError
        A setting is not possible or another one than that of the export in `out`, or `out` cannot be written.
    """
    settings: Row = {"pad_s": pad_s, "fade_s": fade_s, "format": format, "sr": sr, "negative_s": negative_s}
    for name, chosen in (("classes", classes), ("labelers", labelers)):
        settings[name] = None if chosen is None else sorted(map(str, chosen))
    settings["as_of"] = None if as_of is None else str(as_of)
    _check(settings)
    out = Path(out)
    plan, problems = _plan(store, settings, as_of)
    folders = prepare(out, settings, plan["class_name"][plan["kind"] == "positive"])
    plan["file"] = [file_name(row, folders, format) for row in plan.to_dict("records")]
    plan = plan.drop_duplicates(["file", "class_name"], ignore_index=True)
    before = {(row["file"], row["class_name"]): row for row in read_manifest(out / TABLE)}
    done, told, counts = _cut_all(out, plan, before, settings, workers, progress)
    manifest = pd.DataFrame(done, columns=list(MANIFEST))
    manifest = manifest.astype({name: "float64" if name.endswith("_s") else "str" for name in MANIFEST})
    held = {str(out / name) for name in manifest["file"]}
    strays = sorted(str(f) for kind in ("wav", "flac") for f in out.rglob(f"*.{kind}") if str(f) not in held)
    expansion, clips = _expansion(store, manifest, labelers, as_of)
    table = pd.DataFrame([*problems, *told], columns=list(PROBLEM_COLUMNS)).astype(PROBLEM_COLUMNS).drop_duplicates()
    return Export(
        out, manifest, table.reset_index(drop=True), counts["written"], counts["kept"],
        tuple(counts["changed"]), tuple(strays), expansion, clips,
    )  # fmt: skip


# --- what to cut ------------------------------------------------------------------------------------------------------


def _check(settings: Row) -> None:
    for name in ("pad_s", "fade_s", "negative_s"):
        value = settings[name]
        if not (name == "negative_s" and value is None) and not (math.isfinite(value) and value >= 0):
            raise AudiotkError(f"export: expected {name} >= 0 in seconds, got {value!r}")
    if settings["negative_s"] == 0:
        raise AudiotkError("export: expected negative_s > 0 in seconds, or None for no negatives, got 0")
    if f".{settings['format']}" not in audio.WRITABLE:
        raise AudiotkError(f"export: expected format wav or flac, got {settings['format']!r}")


def _plan(store: Store, settings: Row, as_of: Any) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """Rows of all files (columns of `MANIFEST` up to kind), and problems."""
    segments, claims = store.segments(as_of=as_of), store.claims(as_of=as_of)
    paths = store.recordings().set_index("recording")["path"].to_dict()
    verdicts: Verdicts = {}  # of each recording and labeler: class (None: every class) -> verdict
    for row in claims.to_dict("records"):
        class_name = None if pd.isna(row["class_name"]) else row["class_name"]
        verdicts.setdefault((row["recording"], row["labeler"]), {})[class_name] = row["verdict"]
    rows: list[Row] = []
    problems: list[tuple[str, str, str]] = []
    for row in segments.to_dict("records"):
        said = verdicts.get((row["recording"], row["labeler"]), {})
        verdict = said.get(row["class_name"], said.get(None))
        if not _chosen(settings, row["labeler"], row["class_name"]):
            continue
        if verdict in ("unsure", "not_found"):
            told = f"segment {row['start_s']:.3f}-{row['end_s']:.3f} s: {row['labeler']} calls {row['class_name']!r}"
            problems.append((row["recording"], paths.get(row["recording"], ""), f"{told} {verdict}"))
            continue
        rows.append({**{str(key): row[key] for key in MANIFEST if key in row}, "kind": "positive"})
    if settings["negative_s"] is not None:
        rows += _negatives(segments, store.heard(as_of=as_of), verdicts, settings)
    unknown = dict.fromkeys(row["recording"] for row in rows if row["recording"] not in paths)
    problems += [(name, "", "is not registered in the store: no path") for name in unknown]
    rows = [{**row, "path": paths[row["recording"]]} for row in rows if row["recording"] in paths]
    plan = pd.DataFrame(rows, columns=[name for name in MANIFEST if name not in ("file", "sha256", "source_stamp")])
    order = ["recording", "start_s", "end_s", "kind", "class_name", "labeler"]
    return plan.sort_values(order, ignore_index=True), problems


def _chosen(settings: Row, labeler: Any, class_name: Any) -> bool:
    labelers, classes = settings["labelers"], settings["classes"]
    return counts(labeler, labelers) and (classes is None or class_name in classes)


def _negatives(segments: pd.DataFrame, heard: pd.DataFrame, verdicts: Verdicts, settings: Row) -> list[Row]:
    """Rows of the negatives: one for each piece and class."""
    named = {name for said in verdicts.values() for name in said if name is not None}
    known = sorted({*segments["class_name"], *named})
    marked = set(zip(segments["recording"], segments["labeler"], segments["class_name"], strict=True))
    unclear = {
        who[0]
        for who, said in verdicts.items()
        for name, verdict in said.items()
        if verdict == "unsure" or (verdict == "confirmed" and name is not None and (*who, name) not in marked)
    }
    taken: dict[Any, list[Any]] = {
        name: part[["start_s", "end_s"]].to_numpy().tolist() for name, part in segments.groupby("recording")
    }
    rows = []
    for (recording, labeler), part in heard.groupby(["recording", "labeler"]):
        said = verdicts.get((recording, labeler), {})
        decided = [
            name
            for name in (known or [""])
            if said.get(name, said.get(None)) in DECIDED and _chosen(settings, labeler, name)
        ]
        if recording in unclear or not decided:
            continue
        pairs = part[["start_s", "end_s"]].to_numpy().tolist()
        for start_s, end_s in subtract(pairs, taken.get(recording, []), settings["negative_s"]):
            pieces = math.ceil((end_s - start_s) / max(LONGEST_S, 2 * settings["negative_s"]))
            edges = [float(edge) for edge in np.linspace(start_s, end_s, pieces + 1).round(6)]
            base = {"recording": recording, "labeler": labeler, "kind": "negative"}
            for begin, end in pairwise(edges):
                rows += [{**base, "start_s": begin, "end_s": end, "class_name": name} for name in decided]
    return rows


# --- cutting ----------------------------------------------------------------------------------------------------------


def _cut_all(
    out: Path,
    plan: pd.DataFrame,
    before: dict[tuple[str, str], Row],
    settings: Row,
    workers: int | None,
    progress: bool,
) -> tuple[list[Row], list[tuple[str, str, str]], Row]:
    """Cut what is missing, recording by recording -> rows of the manifest, problems, counts."""
    sums = {file: row for (file, _), row in before.items()}
    wanted = set(zip(plan["file"], plan["class_name"], strict=True))
    held = {key: row for key, row in before.items() if key in wanted}
    groups = [part.to_dict("records") for _, part in plan.groupby("recording", sort=False)]
    problems: list[tuple[str, str, str]] = []
    counts: Row = {"written": 0, "kept": 0, "changed": []}

    def work(rows: list[Row]) -> list[tuple[str, str, Row]]:
        return _cut_recording(out, rows, sums, settings)

    try:
        for place, results in enumerate(in_threads(work, groups, workers, progress, "cut"), start=1):
            seen: set[str] = set()
            for what, reason, row in results:
                if reason:
                    problems.append((row["recording"], row["path"], reason))
                if what == "failed":
                    held.pop((row["file"], row["class_name"]), None)
                    continue
                held[row["file"], row["class_name"]] = row
                if row["file"] not in seen:
                    seen.add(row["file"])
                    counts[what] += [row["file"]] if what == "changed" else 1
            if place % EVERY == 0:
                write_manifest(out / TABLE, held.values())
    finally:
        write_manifest(out / TABLE, held.values())
    return in_order(held.values()), problems, counts


def _cut_recording(out: Path, rows: list[Row], sums: dict[str, Row], settings: Row) -> list[tuple[str, str, Row]]:
    """(written, kept, changed or failed; problem or ""; row of the manifest) of the files of one recording."""
    source = Path(rows[0]["path"])

    @cache
    def duration_s() -> float:  # asked for only if something has to be cut: a finished export needs no recordings
        return audio.info(source).duration_s

    made: dict[str, tuple[str, str, Row]] = {}
    results = []
    for row in rows:
        if row["file"] not in made:  # else: a negative, for one more class
            made[row["file"]] = _one_file(out, row, sums.get(row["file"]), duration_s, settings)
        what, reason, sums_of = made[row["file"]]
        results.append((what, reason, row | sums_of))
    return results


def _one_file(
    out: Path, row: Row, old: Row | None, duration_s: Callable[[], float], settings: Row
) -> tuple[str, str, Row]:
    """Make one file, or look at the one that is there -> (what was done, problem or "", its checksums)."""
    target, stamp = out / row["file"], _stamp(Path(row["path"]))
    try:
        if not target.resolve().is_relative_to(out.resolve()):
            raise AudiotkError(f"{target}: leads out of the export folder by a link")
        if old and target.exists():
            checksums = {name: old[name] for name in ("sha256", "source_stamp")}
            what = "kept" if _checksum(target) == old["sha256"] else "changed"
        else:
            what, checksum = _cut(target, row, duration_s(), settings)
            checksums = {"sha256": checksum, "source_stamp": stamp}
    except AudiotkError as err:
        return "failed", str(err), {}
    reason = ""
    if what == "changed":
        reason = f"{target}: is not what was exported; it was left as it is"
    elif stamp and checksums["source_stamp"] != stamp:
        reason = "the recording has changed since its segments were cut; export to a new folder"
    return what, reason, checksums


def _cut(target: Path, row: Row, duration_s: float, settings: Row) -> tuple[str, str]:
    """Make one file, or compare one that is there with what it should be -> (written, kept or changed; SHA-256)."""
    source = row["path"]
    if row["end_s"] > duration_s + GRACE_S:
        told = f"segment {row['start_s']:.3f}-{row['end_s']:.3f} s ends behind the recording ({duration_s:.3f} s)"
        raise AudiotkError(f"{source}: {told}")
    pad_s = settings["pad_s"] if row["kind"] == "positive" else 0.0
    start_s, end_s = max(0.0, row["start_s"] - pad_s), min(duration_s, row["end_s"] + pad_s)
    how: Row = {"sr": settings["sr"], "fade_s": min(settings["fade_s"], (end_s - start_s) / 4)}
    if not target.exists():
        audio.cut(source, target, start_s, end_s, **how)
        return "written", _checksum(target)
    with tempfile.TemporaryDirectory() as folder:  # left by a run that was killed before it wrote its manifest?
        fresh = audio.cut(source, Path(folder) / f"fresh{target.suffix}", start_s, end_s, **how)
        wanted = _checksum(fresh)
    return ("kept" if _checksum(target) == wanted else "changed"), wanted


def _stamp(path: Path) -> str:
    """Size and time of change; "" if the file is gone."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _checksum(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be read: {err.strerror or err}") from err


# --- what came of it --------------------------------------------------------------------------------------------------


def _expansion(
    store: Store, manifest: pd.DataFrame, labelers: Sequence[str] | None, as_of: Any
) -> tuple[float, tuple[int, int]]:
    """Samples a clip label, and the clips that hold any and that were decided; see :class:`Export`."""
    recordings = store.recordings()
    clips = set(recordings.loc[recordings["claim"].notna(), "recording"])
    said = [store.segments(as_of=as_of), store.claims(as_of=as_of).query("verdict != 'open'")]
    who = [part[part["labeler"].map(lambda name: counts(name, labelers)).astype(bool)] for part in said]
    decided = clips & {name for part in who for name in part["recording"]}
    positive = manifest[(manifest["kind"] == "positive") & manifest["recording"].isin(clips)]
    ranges = positive.groupby(["recording", "class_name"])[["start_s", "end_s"]]
    samples = sum(len(union(part.to_numpy().tolist())) for _, part in ranges)
    found = positive["recording"].nunique()
    return (samples / found if found else math.nan), (found, len(decided))
