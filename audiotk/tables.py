"""The contract: the tables every part of audiotk hands to the next, with their columns, units and checks.

===========  ==================================================  =====================================================
noun         columns                                             note
===========  ==================================================  =====================================================
recordings   recording, path, duration_s, sr, group              one audio file; ``group`` (person, device, upload) is
                                                                 the unit of splitting
segments     segment, recording, start_s, end_s                  what gets a label; the id holds the other three
annotations  segment, class_name, value, source, at              append-only; value 1, 0 or NaN (looked and unsure);
                                                                 no row = never looked
sources      index source; closed, weak                          how to read the annotations of a source
split        Series, index recording: train / val / test         constant within a group
problems     recording, path, reason                             files that batch work skipped
labels       :class:`Labels`, segment x class                    1 / 0 / NaN, always derived, never edited
scores       DataFrame, index segment, one float column a class  teacher and student alike
===========  ==================================================  =====================================================

Times are in seconds from the start of the recording, sample rates in Hz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from audiotk.errors import AudiotkError as AudiotkError
from audiotk.tristate import Labels as Labels

RECORDING_COLUMNS = {
    "recording": "str",
    "path": "str",
    "duration_s": "float64",
    "sr": "int64",
    "group": "str",
}
SEGMENT_COLUMNS = {"segment": "str", "recording": "str", "start_s": "float64", "end_s": "float64"}
ANNOTATION_COLUMNS = {
    "segment": "str",
    "class_name": "str",
    "value": "float64",
    "source": "str",
    "at": "datetime64[us, UTC]",
}
PROBLEM_COLUMNS = {"recording": "str", "path": "str", "reason": "str"}
SPLITS = ("train", "val", "test")


def _typed(table: pd.DataFrame, columns: Mapping[str, str], noun: str) -> pd.DataFrame:
    """`table` with exactly `columns` first, in the stated dtypes; further columns are kept behind."""
    if not isinstance(table, pd.DataFrame):
        raise AudiotkError(f"{noun}: expected a DataFrame with columns {list(columns)}, got {type(table).__name__}")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise AudiotkError(
            f"{noun}: columns {missing} are missing; expected {list(columns)}, got {list(table.columns)}"
        )
    order = [*columns, *(name for name in table.columns if name not in columns)]
    table = table[order].reset_index(drop=True)
    for name, dtype in columns.items():
        if table[name].dtype == dtype:
            continue
        if dtype == "str" and table[name].isna().any():
            raise AudiotkError(f"{noun}: column {name!r} is empty in row {int(table[name].isna().argmax())}")
        try:
            if dtype.startswith("datetime64"):
                table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[us, UTC]")
            else:
                table[name] = table[name].astype(dtype)  # type: ignore[call-overload]
        except (ValueError, TypeError) as err:
            raise AudiotkError(f"{noun}: column {name!r} cannot be read as {dtype}: {err}") from err
    for name in (name for name, dtype in columns.items() if dtype == "str"):
        if table[name].isna().any():
            raise AudiotkError(f"{noun}: column {name!r} is empty in row {int(table[name].isna().argmax())}")
    return table


def _refuse(bad: pd.Series | np.ndarray, table: pd.DataFrame, noun: str, expected: str) -> None:
    """Raise with the first offending row if any of `bad` is true."""
    mask = np.asarray(bad, dtype=bool)
    if mask.any():
        row = int(mask.argmax())
        came = ", ".join(f"{name}={table[name].iloc[row]!r}" for name in table.columns[:5])
        raise AudiotkError(f"{noun}: expected {expected}; {int(mask.sum())} row(s) differ, first row {row}: {came}")


def _place(names: Any, known: Any) -> np.ndarray:
    """Position of each name in `known`, -1 where it is not there (much quicker than `isin` for millions of names)."""
    return pd.Index(known).get_indexer(pd.Index(names))


def check_recordings(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` as a valid *recordings* table.

    Raises
    ------
    AudiotkError
        A column is missing or of the wrong type, an id occurs twice, a duration or sample rate is not positive.
    """
    table = _typed(table, RECORDING_COLUMNS, "recordings")
    _refuse(table["recording"].duplicated(), table, "recordings", "each recording id once")
    _refuse(~(np.isfinite(table["duration_s"]) & (table["duration_s"] > 0)), table, "recordings", "duration_s > 0")
    _refuse(table["sr"] <= 0, table, "recordings", "sr > 0 Hz")
    return table


def check_segments(table: pd.DataFrame, recordings: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return `table` as a valid *segments* table; with `recordings`, segments also have to lie inside of theirs."""
    table = _typed(table, SEGMENT_COLUMNS, "segments")
    _refuse(table["segment"].duplicated(), table, "segments", "each segment id once")
    inside = np.isfinite(table["start_s"]) & np.isfinite(table["end_s"]) & (table["start_s"] >= 0)
    _refuse(~(inside & (table["end_s"] > table["start_s"])), table, "segments", "0 <= start_s < end_s")
    if recordings is not None:
        place = _place(table["recording"], recordings["recording"])
        _refuse(place < 0, table, "segments", "a recording that is in the recordings table")
        duration = recordings["duration_s"].to_numpy()[place]
        _refuse(table["end_s"] > duration + 0.001, table, "segments", "end_s within the recording (1 ms of grace)")
    return table


def check_annotations(table: pd.DataFrame, segments: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return `table` as a valid *annotations* table; with `segments`, each segment id has to be known."""
    table = _typed(table, ANNOTATION_COLUMNS, "annotations")
    known = table["value"].isin([0.0, 1.0]) | table["value"].isna()
    _refuse(~known, table, "annotations", "value 1 (present), 0 (absent) or NaN (looked and unsure)")
    if segments is not None:
        _refuse(
            ~table["segment"].isin(segments["segment"]),
            table,
            "annotations",
            "a segment in the segments table",
        )
    return table


def check_split(split: pd.Series, recordings: pd.DataFrame) -> pd.Series:
    """Return `split` (index recording) if each recording has one of train / val / test and no group crosses."""
    if split.index.has_duplicates:
        raise AudiotkError(f"split: recording {split.index[split.index.duplicated()][0]!r} occurs twice")
    place = _place(recordings["recording"], split.index)
    missing = recordings.loc[place < 0, "recording"]
    if len(missing):
        raise AudiotkError(f"split: {len(missing)} recording(s) have no split, first {missing.iloc[0]!r}")
    unknown = set(split) - set(SPLITS)
    if unknown:
        raise AudiotkError(f"split: expected {SPLITS}, got {sorted(map(str, unknown))}")
    split = split.iloc[place].astype("str").rename("split").rename_axis("recording")
    part = pd.Index(SPLITS).get_indexer(pd.Index(split))
    code, groups = pd.factorize(recordings["group"])
    first = np.full(len(groups), -1)
    first[code[::-1]] = part[::-1]  # the split of each group's first recording
    crossing = np.unique(code[part != first[code]])
    if len(crossing):
        raise AudiotkError(
            f"split: group {groups[crossing[0]]!r} is in more than one split ({len(crossing)} such groups)"
        )
    return split


def check_sources(sources: pd.DataFrame) -> pd.DataFrame:
    """Return `sources` (index source, bool columns closed and weak).

    ``closed``: every class was asked, so where a source annotated a segment at all, a class it did not name is absent.
    ``weak``: value 1 means "somewhere in the segment"; not weak means active through the whole range.
    """
    missing = {"closed", "weak"} - set(sources.columns)
    if missing:
        raise AudiotkError(f"sources: columns {sorted(missing)} are missing; expected closed and weak")
    return sources[["closed", "weak"]].astype(bool).rename_axis("source")


def make_sources(**flags: str) -> pd.DataFrame:
    """Sources from words, as in ``make_sources(truth="", scraped="closed weak")``; see :func:`check_sources`."""
    for name, words in flags.items():
        if unknown := set(words.split()) - {"closed", "weak"}:
            raise AudiotkError(f"sources: {name!r} has unknown words {sorted(unknown)}; expected closed, weak or none")
    rows = {
        name: {"closed": "closed" in words.split(), "weak": "weak" in words.split()} for name, words in flags.items()
    }
    return check_sources(pd.DataFrame.from_dict(rows, orient="index", columns=["closed", "weak"]))


def segment_id(recording: str, start_s: float, end_s: float) -> str:
    """The id of a segment: recording, start and end in milliseconds, as ``REC@1.200-2.800``."""
    return f"{recording}@{start_s:.3f}-{end_s:.3f}"


def make_segments(recording: Any, start_s: Any, end_s: Any) -> pd.DataFrame:
    """A segments table from array-likes of equal length (scalars are repeated); ids by :func:`segment_id`."""
    names, starts, ends = np.broadcast_arrays(np.asarray(recording, dtype=object), start_s, end_s)
    triples = zip(names.ravel(), starts.ravel().astype(float), ends.ravel().astype(float), strict=True)
    ids = [segment_id(name, start, end) for name, start, end in triples]
    columns = {"segment": ids, "recording": names.ravel(), "start_s": starts.ravel(), "end_s": ends.ravel()}
    return check_segments(pd.DataFrame(columns).astype(SEGMENT_COLUMNS))


def make_annotations(segment: Any, class_name: Any, value: Any, source: Any, at: Any = None) -> pd.DataFrame:
    """An annotations table from array-likes or scalars; `at` is the time of writing, by default now (UTC)."""
    at = pd.Timestamp.now("UTC") if at is None else at
    arrays = [np.atleast_1d(np.asarray(part, dtype=object)) for part in (segment, class_name, value, source)]
    arrays = list(np.broadcast_arrays(*arrays))
    table = pd.DataFrame(dict(zip(("segment", "class_name", "value", "source"), arrays, strict=True)))
    table["at"] = at
    return check_annotations(table)


def whole_recordings(recordings: pd.DataFrame) -> pd.DataFrame:
    """One segment a recording, from 0 to its end."""
    return make_segments(recordings["recording"], 0.0, recordings["duration_s"])


def make_windows(recordings: pd.DataFrame, window_s: float, hop_s: float | None = None) -> pd.DataFrame:
    """Segments of `window_s` seconds every `hop_s` (default: `window_s`) seconds, as many as fit in each recording.

    A recording shorter than `window_s` gives one segment, all of it. If more than a twentieth of `hop_s` remains at
    the end, one more window ends with the recording; a shorter remainder (a rounded file length) is left out.
    """
    hop_s = window_s if hop_s is None else hop_s
    if not (window_s > 0 and 0 < hop_s <= window_s):
        raise AudiotkError(f"windows: expected 0 < hop_s <= window_s, got window_s={window_s} and hop_s={hop_s}")
    names, starts, ends = [], [], []
    for recording, duration in zip(recordings["recording"], recordings["duration_s"], strict=True):
        last = max(duration - window_s, 0.0)
        grid = np.arange(0.0, last + 1e-6, hop_s)
        if last - grid[-1] > 0.05 * hop_s:
            grid = np.append(grid, last)
        names.append(np.repeat(np.asarray(recording, dtype=object), len(grid)))
        starts.append(grid)
        ends.append(np.minimum(grid + window_s, duration))
    if not names:
        return make_segments([], [], [])
    return make_segments(np.concatenate(names), np.concatenate(starts), np.concatenate(ends))


def grouped_split(
    recordings: pd.DataFrame,
    shares: Mapping[str, float],
    rng: np.random.Generator,
    stratify: pd.Series | None = None,
) -> pd.Series:
    """Split recordings so that no group crosses.

    Groups are drawn in random order within their stratum (`stratify`: index recording, one class name each; a group
    belongs to its most frequent one; strata with fewer groups than splits are drawn together). Each split gets one
    group of every stratum; then each further group goes to the split that is furthest below its share.

    Parameters
    ----------
    recordings
        A recordings table.
    shares
        Share of the recordings for each of train / val / test; they have to add up to 1.
    rng
        Source of the order.
    stratify
        Class of each recording, to keep class proportions; optional.

    Returns
    -------
    pandas.Series
        Index recording, values train / val / test.
    """
    if set(shares) - set(SPLITS) or not np.isclose(sum(shares.values()), 1.0):
        raise AudiotkError(f"split: expected shares of {SPLITS} that add up to 1, got {dict(shares)}")
    stratum = pd.Series("all", index=recordings["recording"]) if stratify is None else stratify
    table = recordings[["recording", "group"]].assign(stratum=recordings["recording"].map(stratum).fillna("all"))
    groups = table.groupby("group").agg(size=("recording", "size"), stratum=("stratum", lambda s: s.mode().iloc[0]))
    wanted = [name for name in shares if shares[name] > 0]
    small = groups.groupby("stratum")["size"].transform("size") < len(wanted)
    groups.loc[small, "stratum"] = "(small strata together)"
    chosen: dict[str, str] = {}
    for _, members in groups.groupby("stratum"):
        counts = dict.fromkeys(wanted, 0.0)
        enough = len(members) >= len(wanted)
        for place, group in enumerate(rng.permutation(members.index.to_numpy(dtype=object))):
            goal = sum(counts.values()) + 1
            lacking = {name: shares[name] * goal - counts[name] for name in wanted}
            target = wanted[place] if enough and place < len(wanted) else max(lacking, key=lacking.__getitem__)
            chosen[group] = target
            counts[target] += float(members.loc[group, "size"])
    split = pd.Series(recordings["group"].map(chosen).to_numpy(), index=recordings["recording"].to_numpy())
    return check_split(split, recordings)


def no_problems() -> pd.DataFrame:
    """An empty *problems* table."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in PROBLEM_COLUMNS.items()})


@dataclass(frozen=True)
class Dataset:
    """What each data set gives: checked tables that belong together.

    Attributes
    ----------
    name
        Name of the data set.
    recordings, segments, annotations, split, sources, problems
        See the module's docstring.
    classes
        Names of the classes, in the order of model outputs.
    """

    name: str
    recordings: pd.DataFrame
    segments: pd.DataFrame
    annotations: pd.DataFrame
    split: pd.Series
    classes: Sequence[str]
    sources: pd.DataFrame
    problems: pd.DataFrame = field(default_factory=no_problems)

    def __post_init__(self) -> None:
        put = object.__setattr__  # the one way to normalise a frozen dataclass
        put(self, "recordings", check_recordings(self.recordings))
        put(self, "segments", check_segments(self.segments, self.recordings))
        put(self, "annotations", check_annotations(self.annotations, self.segments))
        put(self, "split", check_split(self.split, self.recordings))
        put(self, "sources", check_sources(self.sources))
        put(self, "problems", _typed(self.problems, PROBLEM_COLUMNS, "problems"))
        put(self, "classes", tuple(self.classes))
        if len(set(self.classes)) != len(self.classes):
            raise AudiotkError(f"dataset {self.name!r}: a class name occurs twice in {list(self.classes)}")
        unknown = set(self.annotations["source"].unique()) - set(self.sources.index)
        if unknown:
            raise AudiotkError(f"dataset {self.name!r}: sources {sorted(unknown)} are not in the sources table")

    def part(self, split: str) -> pd.DataFrame:
        """The recordings of one split (train, val or test)."""
        if split not in SPLITS:
            raise AudiotkError(f"split: expected one of {SPLITS}, got {split!r}")
        return self.recordings[self.recordings["recording"].map(self.split) == split].reset_index(drop=True)

    def only(self, recordings: pd.Series) -> Dataset:
        """The same with these recordings (ids) only; the problems stay."""
        kept = self.recordings[_place(self.recordings["recording"], recordings) >= 0]
        segments = self.segments[_place(self.segments["recording"], kept["recording"]) >= 0]
        annotations = self.annotations[_place(self.annotations["segment"], segments["segment"]) >= 0]
        return replace(self, recordings=kept, segments=segments, annotations=annotations)

    def __repr__(self) -> str:
        hours = self.recordings["duration_s"].sum() / 3600
        return (
            f"Dataset({self.name!r}: {len(self.recordings):,} recordings, {hours:.2f} h, {len(self.classes)} classes, "
            f"{len(self.annotations):,} annotations by {', '.join(self.sources.index)}, {len(self.problems)} problems)"
        )
