"""AudioSet: segments of 10 s of YouTube videos with the present ones of 527 classes, from the official CSV files.

J. F. Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017,
doi:10.1109/ICASSP.2017.7952261. The labels are public (CC BY 4.0); the sound is not and cannot be downloaded here.

A root holds ``class_labels_indices.csv``, one or more ``*_segments.csv`` and, if there is sound, a folder ``audio``
with files at any depth, named ``YTID_30.wav`` (start in seconds) or ``YTID_30000_40000.flac`` (start and end in
milliseconds) for a cut segment, or ``YTID.m4a`` for a segment or the whole video; a ``Y`` in front is allowed. A file
named by its YTID alone is the whole video if it is more than 1 s longer than the segment or reaches the segment's end.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from audiotk.audio import probe
from audiotk.datasets.found import SOUND_SUFFIXES, folder_of, read_csv, sha256, tell_empty
from audiotk.decode import GRACE_S
from audiotk.files import atomic
from audiotk.tables import AudiotkError, Dataset, Labels, make_sources

PAGE = "https://research.google.com/audioset/download.html"
FILES = f"The CSV files of AudioSet (class_labels_indices.csv, balanced_train_segments.csv and others) are on {PAGE}"
HINT = (
    "AudioSet: put class_labels_indices.csv and balanced_train_segments.csv (or others) of "
    f"{PAGE} into the root. Its sound is on YouTube and cannot be downloaded by audiotk; files that "
    "you have go into the folder audio/ as YTID_START.wav, or run with labels only."
)
AT = pd.Timestamp("2017-03-05", tz="UTC")  # time of writing of all annotations: the paper's
NUMBER = r"\d+(?:\.\d+)?"
LABELS = r'(?P<labels>"[^"]*"|[^",]*)'  # several are quoted; a lone quote or a comma without quotes is a broken row
ROW = rf"^\s*(?P<ytid>[\w-]{{11}})\s*,\s*(?P<start>{NUMBER})\s*,\s*(?P<end>{NUMBER})\s*,\s*{LABELS}\s*$"
TOTALS = {"num_segs": "rows", "num_positive_labels": "labels"}  # what a header counts
NAME = rf"^Y?(?P<ytid>[\w-]{{11}})(?:_(?P<first>{NUMBER})(?:_(?P<second>{NUMBER}))?)?$"
SHARES = (0.1, 0.1)  # of val and test where there is no official evaluation set
LONGEST_S = 3e6  # end of a segment: more than any video has; below it ids are computed exactly, see _segment_ids
LONGER_S = 1.0  # a file that is longer than its segment by more than this is no cut
SHORT_S = 0.5  # a whole video may end this much before the segment does
MANIFEST = ("path", "bytes", "mtime_ns", "duration_s", "sr", "reason", "sha256")


def read_classes(root: str | Path) -> pd.DataFrame:
    """The vocabulary: columns mid (``/m/09x0r``) and display_name (``Speech``; may hold commas), in official order.

    `root` is the CSV file, or the folder of ``class_labels_indices.csv``.
    """
    path, hint = Path(root), FILES
    if path.is_dir() or path.suffix != ".csv":
        path, hint = path / "class_labels_indices.csv", HINT
    table = read_csv(path, ["index", "mid", "display_name"], hint)
    for name in ("mid", "display_name"):
        table[name] = table[name].str.strip()
        if (twice := table[name].duplicated()).any():
            row = int(twice.to_numpy().argmax())
            told = f"expected each {name} once, {table[name].iloc[row]!r} is repeated"
            raise AudiotkError(f"{path} line {table.index[row]}: {told}")
    return table[["mid", "display_name"]].reset_index(drop=True)


def read_segments(path: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read an official segments CSV, with any number of ``#`` header lines; two million rows take seconds.

    Warns if the header counts another number of rows or labels than there are: the file has been cut, or edited.

    Returns
    -------
    segments : pandas.DataFrame
        Columns line, ytid, start_s, end_s.
    positives : pandas.DataFrame
        Columns row (of `segments`) and mid, one row a label.

    Raises
    ------
    AudiotkError
        The file is missing, or a row is broken (named with its line and content).
    """
    try:
        text = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
        lines = pc.split_pattern(pa.scalar(text.decode("utf-8"), pa.large_string()), "\n").values
    except (OSError, UnicodeDecodeError) as err:
        raise AudiotkError(f"{path}: cannot be read: {err}. {FILES}") from err
    used = pc.invert(pc.match_substring_regex(lines, r"^\s*(?:#|$)"))
    number = np.flatnonzero(used.to_numpy(zero_copy_only=False)) + 1  # lines count from 1
    rows = pc.extract_regex(lines.filter(used), ROW)
    if rows.null_count:
        _broken(path, lines, number[pc.index(rows.is_null(), True).as_py()], 'a row YTID,start,end,"/m/..,/m/.."')
    field = {name: pc.struct_field(rows, name) for name in ("ytid", "start", "end", "labels")}
    segments = pd.DataFrame(
        {
            "line": number,
            "ytid": field["ytid"].to_pandas(),
            "start_s": field["start"].cast(pa.float64()).to_numpy(),
            "end_s": field["end"].cast(pa.float64()).to_numpy(),
        }
    )
    if (segments["start_s"] >= segments["end_s"]).any():
        _broken(path, lines, number[(segments["start_s"] >= segments["end_s"]).argmax()], "start < end")
    if (late := segments["end_s"] > LONGEST_S).any():
        _broken(path, lines, number[late.argmax()], f"an end of at most {LONGEST_S:,.0f} s")
    mids = pc.split_pattern(pc.utf8_trim(field["labels"], '"'), ",")
    named = pd.DataFrame({"row": pc.list_parent_indices(mids).to_numpy()})
    named["mid"] = pc.utf8_trim_whitespace(pc.list_flatten(mids)).to_pandas()
    if (named["mid"] == "").any():
        _broken(path, lines, number[named.loc[named["mid"] == "", "row"].iloc[0]], "labels without empty ones")
    header = " ".join(lines.filter(pc.invert(used)).to_pylist())
    for (name, noun), found in zip(TOTALS.items(), (len(segments), len(named)), strict=True):
        if (said := re.search(rf"\b{name}=(\d+)", header)) and int(said[1]) != found:
            told = f"its header says {said[0]}, but it has {found} {noun}: fetch it again, unless it was cut on purpose"
            warnings.warn(f"{path}: {told}", stacklevel=2)
            break
    return segments, named


def _broken(path: str | Path, lines: pa.Array, number: int, expected: str) -> None:
    raise AudiotkError(f"{path} line {number}: expected {expected}, got {lines[int(number) - 1].as_py()!r}")


def read_labels(segments_csv: str | Path, classes_csv: str | Path) -> Labels:
    """Labels of a segments CSV, without its sound; a label that is not named is absent, as everybody uses AudioSet.

    Parameters
    ----------
    segments_csv, classes_csv
        The official files; full AudioSet takes some 4 s and 1 GB.

    Returns
    -------
    Labels
        Segments in the order of the file, with the ids that :func:`load` gives them without sound
        (``YTID_STARTMS@0.000-10.000``); classes are display names. A label named twice in a row counts once.

    Raises
    ------
    AudiotkError
        A file is missing, has no rows or a broken one, a label is not among the classes, or a segment occurs twice.
    """
    classes = read_classes(classes_csv)
    table, named = read_segments(segments_csv)
    if table.empty:
        raise AudiotkError(f'{segments_csv}: expected rows YTID,start,end,"/m/..,/m/..", got none. {FILES}')
    code = _codes(named, table, classes, segments_csv, classes_csv)
    key = np.sort(named["row"].to_numpy() * len(classes) + code)  # of a cell; nearly sorted already
    key = key[np.diff(key, prepend=-1) > 0]
    line = table["line"].to_numpy()
    del named, code
    table = table.assign(recording=_recordings(table), start_s=0.0, end_s=table["end_s"] - table["start_s"])
    ids = _segment_ids(table)
    if (twice := ids.duplicated()).any():
        row = int(twice.argmax())
        both = f"lines {line[int((ids == ids[row]).argmax())]} and {line[row]} are both {ids[row]!r}"
        raise AudiotkError(f"{segments_csv}: expected each segment once, {both} ({int(twice.sum())} such)")
    rows, columns = np.divmod(key, len(classes))
    return Labels.from_cells(ids, classes["display_name"], rows, columns, np.ones(len(key), np.float32), default=0.0)


def _codes(
    named: pd.DataFrame, table: pd.DataFrame, classes: pd.DataFrame, path: str | Path, classes_path: str | Path
) -> np.ndarray:
    """Position in `classes` of each label that :func:`read_segments` found in `path`."""
    known = pa.array(classes["mid"], type=pa.large_string())
    code = pc.index_in(pa.array(named["mid"], type=pa.large_string()), value_set=known).fill_null(-1).to_numpy()
    if (code < 0).any():
        first = named.iloc[(code < 0).argmax()]
        line = table["line"].iloc[first["row"]]
        raise AudiotkError(f"{path} line {line}: expected labels of {Path(classes_path).name}, got {first['mid']!r}")
    return code


def load(
    root: str | Path | None = None,
    *,
    segments: str | Sequence[str] | None = None,
    audio: str | Path | None = None,
    manifest_path: str | Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> Dataset:
    """Load AudioSet's labels and as much of its sound as is there.

    ``recording`` is ``YTID_STARTMS`` and ``group`` the YTID. If a file of `segments` has ``eval`` in its name it is the
    test set and 10 % of the other videos are the validation set; else 10 % each. Source ``audioset`` is closed (a class
    that is not named counts as absent, as everybody uses it) and weak. Class names are display names. A further
    column of recordings, unbalanced, is true for segments of a file with ``unbalanced`` in its name.

    Parameters
    ----------
    root
        Folder of the CSV files.
    segments
        Names of segment CSVs in `root`; default: all.
    audio
        Folder of the sound files; default: ``audio`` in `root` if there is one, else labels only: then each recording
        has an empty path, the segment's length as duration and a sample rate of 1.
    manifest_path
        Where :func:`manifest` keeps what it found.
    seed
        Of the draw of the split.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Raises
    ------
    AudiotkError
        Files are missing (the text says what to put where) or a row is broken.
    """
    folder = folder_of(root, "audioset", HINT)
    audio = folder / "audio" if audio is None and (folder / "audio").is_dir() else audio
    classes = read_classes(folder)
    table, positives = _read_all(folder, segments, classes)
    if audio is None:
        kept, problems = table.assign(path="", duration_s=table["end_s"] - table["start_s"], sr=1), None
        kept["end_s"], kept["start_s"] = kept["duration_s"], 0.0
    else:
        kept, problems = _with_sound(table, manifest(table, audio, manifest_path, False, workers, progress))
    ids = _segment_ids(kept)
    row = pd.Series(np.arange(len(kept)), index=kept.index).reindex(positives["row"].to_numpy())
    there = row.notna().to_numpy()
    annotations = pd.DataFrame({"segment": ids.take(row[there].astype("int64").to_numpy())})
    annotations["class_name"] = classes["display_name"].take(positives["code"].to_numpy()[there]).array
    annotations = annotations.assign(value=1.0, source="audioset", at=AT)
    kept = kept.reset_index(drop=True)
    options = {} if problems is None else {"problems": problems}
    return Dataset(
        name="audioset",
        recordings=kept[["recording", "path", "duration_s", "sr", "group", "unbalanced"]],
        segments=pd.DataFrame({"segment": ids.array, **kept[["recording", "start_s", "end_s"]]}),
        annotations=annotations,
        split=_split(kept, np.random.default_rng(seed)),
        classes=classes["display_name"].tolist(),
        sources=make_sources(audioset="closed weak"),
        **options,
    )


def manifest(
    segments: pd.DataFrame,
    audio: str | Path,
    path: str | Path | None = None,
    checksums: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Which segments have sound.

    Parameters
    ----------
    segments
        Columns ytid, start_s, end_s, as from :func:`read_segments`.
    audio
        Folder of the sound files.
    path
        A ``.parquet`` or ``.csv`` file that keeps the answer; files whose size and time of change are the same are not
        looked at again.
    checksums
        Compute the SHA-256 of each file, too.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Returns
    -------
    pandas.DataFrame
        Index of `segments`; columns ytid, start_s, end_s, available (bool), path, bytes, mtime_ns, duration_s, sr,
        sha256 and reason (why it is not available).
    """
    chosen = _match(segments, folder_of(audio, "audioset", HINT))
    files = pd.DataFrame({"path": chosen.dropna().unique()}).astype("str")
    stats = [os.stat(name) for name in files["path"]]
    files["bytes"], files["mtime_ns"] = [one.st_size for one in stats], [one.st_mtime_ns for one in stats]
    known = _read_manifest(path)
    files = files.merge(known, on=["path", "bytes", "mtime_ns"], how="left")
    new = files["duration_s"].isna() & files["reason"].isna()
    probed, failed = probe(files.loc[new, "path"].tolist(), workers, progress)
    for column, source in (("duration_s", probed), ("sr", probed), ("reason", failed)):
        files[column] = files[column].where(~new, files["path"].map(source.set_index("path")[column]))
    files["reason"] = files["reason"].astype("str")
    if checksums:
        missing = files["sha256"].isna()
        files["sha256"] = files["sha256"].where(~missing, files["path"].where(missing).map(sha256, na_action="ignore"))
    if path is not None:
        with atomic(Path(path)) as draft:
            files[list(MANIFEST)].to_parquet(draft) if _is_parquet(path) else files[list(MANIFEST)].to_csv(
                draft, index=False
            )
    table = segments[["ytid", "start_s", "end_s"]].assign(path=chosen)
    table = table.reset_index().merge(files, on="path", how="left").set_index("index").rename_axis(None)
    table["reason"] = table["reason"].mask(table["path"].isna(), f"no file in {audio}")
    return table.assign(available=table["duration_s"].notna())


def _is_parquet(path: str | Path) -> bool:
    return str(path).endswith(".parquet")


def _read_manifest(path: str | Path | None) -> pd.DataFrame:
    """What an earlier :func:`manifest` wrote, or no rows."""
    types = {"path": "str", "duration_s": "float64", "sr": "float64", "reason": "str", "sha256": "str"}
    if path is None or not Path(path).exists():
        return pd.DataFrame(columns=list(MANIFEST)).astype({"bytes": "int64", "mtime_ns": "int64", **types})
    try:
        table = pd.read_parquet(path) if _is_parquet(path) else pd.read_csv(path)
        return table[list(MANIFEST)].astype(types)
    except (OSError, KeyError, ValueError) as err:
        raise AudiotkError(f"{path}: is not a manifest of audiotk ({err}); delete it to make it again") from err


def _match(segments: pd.DataFrame, audio: Path) -> pd.Series:
    """The path of each segment's file in `audio`, missing where there is none; cut files come before whole videos."""
    paths = [os.path.join(base, name) for base, _, names in os.walk(audio) for name in sorted(names)]
    files = pd.DataFrame({"path": sorted(path for path in paths if path.lower().endswith(SOUND_SUFFIXES))}, dtype="str")
    stem = files["path"].map(lambda path: os.path.splitext(os.path.basename(path))[0])
    parts = stem.str.extract(NAME).astype({"first": "float64", "second": "float64"})
    files = files.assign(**parts).dropna(subset="ytid")
    pairs = segments[["ytid", "start_s", "end_s"]].reset_index(names="row").merge(files, on="ytid")
    fits = pd.Series(False, index=pairs.index)
    for unit in (1.0, 1000.0):  # seconds or milliseconds
        start = pairs["first"].isna() | ((pairs["first"] - pairs["start_s"] * unit).abs() < 0.5e-3 * unit)
        fits |= start & (pairs["second"].isna() | ((pairs["second"] - pairs["end_s"] * unit).abs() < 0.5e-3 * unit))
    best = pairs[fits].sort_values("first", na_position="last", kind="stable").drop_duplicates("row")
    return best.set_index("row")["path"].reindex(segments.index)


def _read_all(
    folder: Path, names: str | Sequence[str] | None, classes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Segments of all files (recording, group, ytid, start_s, end_s, and two flags) and their labels (row, code)."""
    if names is None:
        names = sorted(file.name for file in folder.glob("*segments*.csv"))
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise AudiotkError(f"{folder}: holds no segments CSV. {HINT}")
    tables, labels, count = [], [], 0
    for name in names:
        table, named = read_segments(folder / name)
        code = _codes(named, table, classes, folder / name, "class_labels_indices.csv")
        tables.append(table.assign(held_out="eval" in name, unbalanced="unbalanced" in name))
        labels.append(pd.DataFrame({"row": named["row"].to_numpy() + count, "code": code}))
        count += len(table)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(recording=_recordings(table), group=table["ytid"]), pd.concat(labels, ignore_index=True)


def _recordings(table: pd.DataFrame) -> pd.Series:
    """``YTID_STARTMS``; the few different starts are formatted once each."""
    code, starts = pd.factorize((table["start_s"] * 1000).round().astype("int64"))
    return table["ytid"] + pd.Series([f"_{ms}" for ms in starts], dtype="str").take(code).array


def _with_sound(table: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Segments with sound, as ranges of their files, and a problems table of the others."""
    length, duration = table["end_s"] - table["start_s"], found["duration_s"].astype("float64")
    stem = found["path"].map(lambda path: os.path.splitext(os.path.basename(path))[0], na_action="ignore").fillna("")
    long = (duration > length + LONGER_S) | (duration + GRACE_S >= table["end_s"])
    whole = ~stem.str.contains(r".{11}_[\d.]+") & long
    short = whole & (duration < table["end_s"] - SHORT_S)
    told = "the whole video (" + duration.round(3).astype("str") + " s) ends before the segment does, at "
    told += table["end_s"].round(3).astype("str") + " s; a file that is a cut has to be named YTID_START"
    reason = found["reason"].mask(short, told)
    lost = ~found["available"] | short
    if lost.all():
        raise AudiotkError(f"none of {len(table)} segments has sound; first: {reason.iloc[0]}. {HINT}")
    problems = pd.DataFrame({"recording": table["recording"], "path": found["path"], "reason": reason})[lost].fillna("")
    kept = table[~lost].assign(
        path=found["path"], duration_s=found["duration_s"], sr=found["sr"].fillna(0).astype("int64")
    )
    kept["start_s"] = kept["start_s"].where(whole[~lost], 0.0)
    kept["end_s"] = np.minimum(kept["start_s"] + length[~lost], kept["duration_s"])
    return kept, problems.reset_index(drop=True)


def _segment_ids(table: pd.DataFrame) -> pd.Series:
    """:func:`audiotk.tables.segment_id` of many rows; the few different ranges are formatted once each."""
    start, end = ((table[name] * 1000).round().to_numpy(dtype="int64") for name in ("start_s", "end_s"))
    code, kinds = pd.factorize(start * (end.max(initial=0) + 1) + end)
    pairs = (divmod(int(kind), int(end.max(initial=0)) + 1) for kind in kinds)
    text = pd.Series([f"@{first / 1000:.3f}-{last / 1000:.3f}" for first, last in pairs], dtype="str")
    return table["recording"].reset_index(drop=True) + text.take(code).array


def _split(table: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """Each video to one split; with a held-out file that is the test set."""
    video, names = pd.factorize(table["group"])
    draw = rng.random(len(names))[video]
    test = table["held_out"].to_numpy()
    if not test.any():
        test = draw < SHARES[1]
        draw = draw - SHARES[1]
    parts = np.where(test, "test", np.where(draw < SHARES[0], "val", "train"))
    split = pd.Series(parts, index=table["recording"].to_numpy())
    advice = "add more segments with sound (eval_segments.csv is the official test set), or draw with another seed"
    return tell_empty(split, "audioset", advice)
