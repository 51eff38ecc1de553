"""Where does a model fire although the class is judged absent, and what does it sound like there?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from audiotk import energy
from audiotk.events import TOUCH_S
from audiotk.metrics import Thresholds, aligned, class_thresholds
from audiotk.resample import Statistic, ratio_statistic
from audiotk.tables import SEGMENT_COLUMNS, AudiotkError, Dataset, Labels, check_recordings, check_segments

FALSE_POSITIVE_COLUMNS = {
    **SEGMENT_COLUMNS,
    "class_name": "str",
    "score": "float64",
    "event_start_s": "float64",
    "event_end_s": "float64",
    "windows": "int64",
    **dict.fromkeys(energy.SOUND_COLUMNS, "float64"),
    "group": "str",
    "device": "str",
    "path": "str",
}


def false_positives(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    segments: pd.DataFrame,
    recordings: pd.DataFrame,
    thresholds: Thresholds,
    *,
    merge_gap_s: float = 0.0,
    progress: bool = False,
) -> pd.DataFrame:
    """Events in which a class fires where it was judged absent, the surest first.

    Only segments judged absent (label 0) count; where a class is present or unknown, nothing is held against the model.
    Firing segments of one recording and class that overlap, touch or lie at most `merge_gap_s` seconds apart are one
    event, as in :func:`audiotk.events.false_positives_per_hour`. An event is represented by its peak: the segment with
    the highest score (the first of equal ones), which is what gets embedded, heard and promoted.

    Parameters
    ----------
    scores, labels
        The same segments and classes, in any order.
    segments, recordings
        Their places and files. `recordings` may have a column device.
    thresholds
        One for all classes or one for each; a class without threshold (NaN) never fires.
    merge_gap_s
        Seconds, at least 0.
    progress
        Show a progress bar while sound is read.

    Returns
    -------
    DataFrame
        segment, recording, start_s, end_s (of the peak; (segment, class_name) is unique), class_name, score,
        event_start_s, event_end_s, windows (segments that fire), level_dbfs, flatness, centroid_hz (of the peak, see
        :func:`audiotk.energy.describe`; NaN where a file cannot be read, which is warned about), group, device ("" if
        unknown), path. No false positive: the same columns without a row.

    Raises
    ------
    AudiotkError
        A table does not fit the others, or `merge_gap_s` is negative.
    """
    if not merge_gap_s >= 0:
        raise AudiotkError(f"merge_gap_s must be at least 0, got {merge_gap_s}")
    s, y, ids, classes = aligned(scores, labels)
    fires = (y == 0) & (s > class_thresholds(thresholds, classes))  # NaN > x is false
    rows, columns = np.nonzero(fires)
    places = check_segments(segments, check_recordings(recordings)).set_index("segment")
    if len(missing := ids.difference(places.index)):
        raise AudiotkError(f"segments: {len(missing)} scored segments are missing, the first is {missing[0]!r}")
    found = places.loc[ids[rows], ["recording", "start_s", "end_s"]].reset_index(names="segment")
    found["class_name"], found["score"] = classes[columns].astype("str"), s[rows, columns]
    return finished(_merged(found, merge_gap_s), recordings, progress)


def _merged(fired: pd.DataFrame, gap_s: float) -> pd.DataFrame:
    """One row an event from one row a firing segment."""
    fired = fired.sort_values(["class_name", "recording", "start_s", "end_s"], kind="stable")
    key = [fired["class_name"], fired["recording"]]
    before = fired.groupby(key)["end_s"].cummax().groupby(key).shift(fill_value=-np.inf)
    fired["event"] = (fired["start_s"] > before + gap_s + TOUCH_S).cumsum()
    by_event = fired.groupby("event")
    about = by_event.agg(event_start_s=("start_s", "min"), event_end_s=("end_s", "max"), windows=("segment", "size"))
    peaks = fired.loc[by_event["score"].idxmax()]
    peaks = peaks.merge(about, left_on="event", right_index=True).drop(columns="event")
    return peaks.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def finished(found: pd.DataFrame, recordings: pd.DataFrame, progress: bool) -> pd.DataFrame:
    """The events with what their peaks sound like and where their recordings come from."""
    sound = energy.describe(recordings, found, progress=progress)
    found = found.merge(sound, left_on="segment", right_index=True, how="left")
    table = recordings.set_index("recording")
    for name in ("group", "device", "path"):
        known = table[name] if name in table else pd.Series("", index=table.index)
        found[name] = found["recording"].map(known).fillna("").astype("str")
    return check_false_positives(found)


def check_false_positives(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` as a valid *false positives* table; further columns (cluster, theme, x, y) are kept behind.

    Raises
    ------
    AudiotkError
        A column is missing or of the wrong type, a segment and class occur twice, or a score is not finite.
    """
    if not isinstance(table, pd.DataFrame) or not set(FALSE_POSITIVE_COLUMNS) <= set(table.columns):
        got = list(table.columns) if isinstance(table, pd.DataFrame) else type(table).__name__
        raise AudiotkError(f"false positives: expected columns {list(FALSE_POSITIVE_COLUMNS)}, got {got}")
    order = [*FALSE_POSITIVE_COLUMNS, *(name for name in table.columns if name not in FALSE_POSITIVE_COLUMNS)]
    try:
        table = table[order].reset_index(drop=True).astype(FALSE_POSITIVE_COLUMNS)
    except (ValueError, TypeError) as err:
        raise AudiotkError(f"false positives: a column has the wrong type: {err}") from err
    twice = table.duplicated(["segment", "class_name"])
    if twice.any():
        row = table[twice].iloc[0]
        raise AudiotkError(f"false positives: {row['segment']} and {row['class_name']} occur twice; expected once")
    if not np.isfinite(table["score"]).all():
        raise AudiotkError(f"false positives: row {int((~np.isfinite(table['score'])).argmax())} has no finite score")
    return table


def judged_absent(detections: pd.DataFrame, dataset: Dataset, sources: tuple[str, ...] = ("truth",)) -> pd.DataFrame:
    """The detections of a log that labels call false: those whose class is judged absent in their whole range.

    Unknown is not false: of recordings that nobody labelled nothing is left.

    Parameters
    ----------
    detections
        As :func:`audiotk.mining.read_log` gives them.
    dataset
        Holds recordings of the same names, and annotations.
    sources
        Who is believed, in this order; see :func:`audiotk.labels.resolve`.
    """
    from audiotk import labels

    known = detections[detections["recording"].isin(dataset.recordings["recording"])]
    places = known[list(SEGMENT_COLUMNS)].drop_duplicates("segment")
    if places.empty:
        return detections[:0]
    names = [name for name in dict.fromkeys(known["class_name"]) if name in dataset.classes]
    truth = labels.resolve(dataset, places, sources, names).frame().stack()
    pairs = pd.MultiIndex.from_frame(known[["segment", "class_name"]])
    return known[(truth.reindex(pairs) == 0).to_numpy()].reset_index(drop=True)


# --- where they lie ---------------------------------------------------------------------------------------------------


def by_level(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    sound: pd.DataFrame,
    thresholds: Thresholds,
    edges_db: np.ndarray | None = None,
) -> pd.DataFrame:
    """How often each class fires where it is absent, by the level of the segment.

    Parameters
    ----------
    scores, labels, thresholds
        As for :func:`false_positives`.
    sound
        Index segment, column level_dbfs, of :func:`audiotk.energy.describe`.
    edges_db
        Edges of the bins in dBFS, rising; default steps of 5 from -90 to 0. Levels outside go to the outer bins.

    Returns
    -------
    DataFrame
        class_name, low_dbfs, high_dbfs, absent (segments judged absent), fires (of them), share (NaN without any).
    """
    s, y, ids, classes = aligned(scores, labels)
    edges = np.arange(-90.0, 1.0, 5.0) if edges_db is None else np.asarray(edges_db, dtype=float)
    fires = (y == 0) & (s > class_thresholds(thresholds, classes))
    level = sound["level_dbfs"].reindex(ids).to_numpy()
    known = ~np.isnan(level)
    place = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, len(edges) - 2)
    tables = []
    for c, name in enumerate(classes):
        absent, fired = (
            np.bincount(place[known & cells], minlength=len(edges) - 1) for cells in (y[:, c] == 0, fires[:, c])
        )
        share = np.divide(fired, absent, out=np.full(len(absent), np.nan), where=absent > 0)
        about = {"class_name": name, "low_dbfs": edges[:-1], "high_dbfs": edges[1:]}
        tables.append(pd.DataFrame({**about, "absent": absent, "fires": fired, "share": share}))
    return pd.concat(tables, ignore_index=True)


def concentration(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    low: pd.Series,
    thresholds: Thresholds,
    recording_of_segment: pd.Series,
) -> tuple[Statistic, Statistic]:
    """Do false positives concentrate on the segments `low`? The share of them there, and the share of absent cells.

    Equal shares: false positives are spread as the audio is. All classes are pooled.

    Parameters
    ----------
    scores, labels, thresholds
        As for :func:`false_positives`.
    low
        Index segment, bool: low-information audio, as :func:`audiotk.energy.low_information` says.
    recording_of_segment
        Unit of each segment (recording or, better, its group).

    Returns
    -------
    tuple of Statistic
        Of false positives (firing segments, not events) and of cells judged absent, for
        :func:`audiotk.stats.paired_bootstrap`.
    """
    s, y, ids, classes = aligned(scores, labels)
    absent = y == 0
    fires = absent & (s > class_thresholds(thresholds, classes))
    there = low.reindex(ids).astype("boolean").fillna(False).to_numpy(dtype=float)
    pair = []
    for cells in (fires, absent):
        count = pd.DataFrame({"all": cells.sum(axis=1).astype(float)}, index=ids)
        pair.append(ratio_statistic(count.mul(there, axis=0), count, recording_of_segment))
    return pair[0], pair[1]
