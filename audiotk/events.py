"""How good are scores over time: false positives per hour, event F1, PSDS?

Scores here belong to segments that tile or overlap in time; `segments` says where each one lies. A class *fires* on a
segment when ``score > threshold``, strictly, as in `audiotk.metrics`. Event F1 and PSDS are computed by
sed_scores_eval (Ebbers 2022), which calls the start of a range onset and its end offset; here they are `start_s` and
`end_s`.
"""

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from audiotk.metrics import ALL, Thresholds, aligned, class_thresholds
from audiotk.tables import AudiotkError, Labels

TOUCH_S = 5e-4  # ranges closer than half a millisecond touch: segment ids hold milliseconds

# Bilen 2020 as set in DCASE task 4, 2021-2023. 1: react fast, localize well; 2: do not confuse classes.
PSDS_SCENARIOS: dict[int, dict[str, float | None]] = {
    1: {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "cttc_threshold": None, "alpha_ct": 0.0, "alpha_st": 1.0},
    2: {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}


def _located(segments: pd.DataFrame, wanted: pd.Index) -> pd.DataFrame:
    """Rows of `segments` (recording, start_s, end_s) for each wanted segment, in that order."""
    places = segments.set_index("segment")[["recording", "start_s", "end_s"]]
    missing = wanted.difference(places.index, sort=False)
    if len(missing) or places.index.has_duplicates:
        raise AudiotkError(
            f"segments must hold each of the {len(wanted)} scored segments once; {len(missing)} are missing "
            f"(first: {list(missing[:1])}), {places.index.duplicated().sum()} of its rows are duplicate"
        )
    return places.loc[wanted]


def _runs(code: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, gap_s: float) -> tuple[np.ndarray, ...]:
    """Merge ranges of a recording that overlap, touch or lie at most `gap_s` apart -> (code, start_s, end_s)."""
    if len(code) == 0:
        return code, start_s, end_s
    order = np.lexsort((start_s, code))
    shift = code[order] * (end_s.max() - start_s.min() + gap_s + 1.0)  # recordings one after the other on one axis
    start, end = start_s[order] + shift, np.maximum.accumulate(end_s[order] + shift)
    first = np.flatnonzero(np.concatenate([[True], start[1:] > end[:-1] + gap_s + TOUCH_S]))
    last = np.concatenate([first[1:], [len(code)]]) - 1
    return code[order][first], start[first] - shift[first], end[last] - shift[first]


def false_positives_by_recording(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    segments: pd.DataFrame,
    thresholds: Thresholds,
    merge_gap_s: float | None = 0.0,
) -> pd.DataFrame:
    """False positives of each class in each recording: the table that is summed, or resampled by `audiotk.stats`.

    Only segments judged absent (label 0) count; unknown and present ones are looked at for nothing. Firing segments
    of one recording whose ranges overlap, touch or lie at most `merge_gap_s` seconds apart are one false positive, so
    that neither the hop nor the overlap of the segments changes the count; `merge_gap_s=None` counts each segment. As
    a class that fires all the time is then one long false positive, `fired_s` tells how much of `absent_s` it fired.

    Returns
    -------
    DataFrame
        recording, class_name, false_positives (count), absent_s (union of the ranges judged absent, seconds), fired_s
        (union of those that fire); one row for every recording and class. A class whose threshold is NaN has NaN in
        false_positives and fired_s.

    Raises
    ------
    AudiotkError
        A scored segment is not in `segments`, negative merge_gap_s; or as `metrics.aligned` and
        `metrics.class_thresholds`.
    """
    if merge_gap_s is not None and merge_gap_s < 0:
        raise AudiotkError(f"merge_gap_s must be at least 0 or None, got {merge_gap_s}")
    s, y, ids, classes = aligned(scores, labels)
    limits = class_thresholds(thresholds, classes)
    places = _located(segments, ids)
    code, recordings = pd.factorize(places.recording, sort=True)
    start_s, end_s = places.start_s.to_numpy(np.float64), places.end_s.to_numpy(np.float64)

    def seconds(rows: np.ndarray) -> np.ndarray:
        run, start, end = _runs(code[rows], start_s[rows], end_s[rows], 0.0)
        return np.bincount(run, weights=end - start, minlength=len(recordings))

    tables = []
    for c, name in enumerate(classes):
        absent = y[:, c] == 0
        fires = absent & (s[:, c] > limits[c])
        events = (
            code[fires] if merge_gap_s is None else _runs(code[fires], start_s[fires], end_s[fires], merge_gap_s)[0]
        )
        unset = np.nan if np.isnan(limits[c]) else 0.0
        count = np.bincount(events, minlength=len(recordings)) + unset
        tables.append(
            pd.DataFrame({"recording": recordings, "class_name": name, "false_positives": count,
                          "absent_s": seconds(absent), "fired_s": seconds(fires) + unset})
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def false_positives_per_hour(
    scores: pd.DataFrame,
    labels: Labels | pd.DataFrame,
    segments: pd.DataFrame,
    thresholds: Thresholds,
    merge_gap_s: float | None = 0.0,
) -> pd.DataFrame:
    """False positives per hour of audio judged absent, per class and in all.

    Counted as in `false_positives_by_recording`.
    A rate alone says little: a class that never fires has none. Compare arms at equal recall, with
    ``metrics.thresholds(..., by="recall")`` of each arm's own validation scores, and look at `recall`, the share of
    present segments that fire here.

    Returns
    -------
    DataFrame, index class_name, the last row "(all)"
        per_hour (false positives / hours; in "(all)" the sum of the class rates: what a device that listens for all
        classes raises, mean recall beside it), false_positives, hours (in "(all)" the hours judged absent for at
        least one class), share_fired (of the hours), recall, note. A class with no absent audio or no threshold is
        NaN, named in `note` and left out of "(all)".
    """
    table = false_positives_by_recording(scores, labels, segments, thresholds, merge_gap_s)
    s, y, ids, classes = aligned(scores, labels)
    limits = class_thresholds(thresholds, classes)
    columns = ["false_positives", "absent_s", "fired_s"]
    sums = table.groupby("class_name", sort=False)[columns].sum(min_count=table.recording.nunique()).loc[classes]
    with np.errstate(invalid="ignore", divide="ignore"):
        frame = pd.DataFrame({"hours": sums.absent_s / 3600, "false_positives": sums.false_positives})
        frame["per_hour"] = frame.false_positives / frame.hours
        frame["share_fired"] = sums.fired_s / sums.absent_s
        frame["recall"] = ((s > limits) & (y == 1)).sum(axis=0) / np.where(
            np.isnan(limits), np.nan, (y == 1).sum(axis=0)
        )
    frame["note"] = np.select([np.isnan(limits), frame.hours == 0], ["no threshold", "no absent audio"], "")
    places = _located(segments, ids)[(y == 0).any(axis=1)]
    _, start, end = _runs(pd.factorize(places.recording)[0], places.start_s.to_numpy(), places.end_s.to_numpy(), 0.0)
    frame = _with_mean(frame, ["recall"], ["per_hour", "false_positives"])
    frame.loc[ALL, "hours"] = (end - start).sum() / 3600
    return frame[["per_hour", "false_positives", "hours", "share_fired", "recall", "note"]]


def truth_ranges(annotations: pd.DataFrame, segments: pd.DataFrame, source: str = "truth") -> pd.DataFrame:
    """The ranges in which a source says a class is present; ranges of one class that overlap or touch become one.

    Returns
    -------
    DataFrame
        recording, start_s, end_s, class_name; sorted.

    Raises
    ------
    AudiotkError
        No annotation of this source; an unsure one (value NaN), as event scores need every range judged; a segment
        not in `segments`.
    """
    rows = annotations[annotations.source == source]
    if len(rows) == 0 or rows.value.isna().any():
        raise AudiotkError(
            f"event scores need annotations of source {source!r} and none of them unsure, got {len(rows)}, "
            f"{rows.value.isna().sum()} of them unsure; sources here: {sorted(annotations.source.unique())}. "
            "Leave out classes or recordings with unsure ranges."
        )
    rows = rows[rows.value == 1]
    places = _located(segments, pd.Index(rows.segment.unique())).loc[rows.segment]
    pairs = pd.MultiIndex.from_arrays([places.recording.to_numpy(), rows.class_name.to_numpy()])
    code, unique = pd.factorize(pairs, sort=True)
    run, start, end = _runs(code, places.start_s.to_numpy(np.float64), places.end_s.to_numpy(np.float64), 0.0)
    found = pd.MultiIndex.from_tuples(unique[run], names=["recording", "class_name"]).to_frame(index=False)
    return found.assign(start_s=start, end_s=end)[["recording", "start_s", "end_s", "class_name"]]


def _sed_scores_eval() -> ModuleType:
    try:
        import sed_scores_eval
    except ImportError as error:
        raise AudiotkError(
            f"event F1 and PSDS need the package sed_scores_eval ({error}); pip install 'audiotk[train]' brings it"
        ) from error
    return sed_scores_eval


class _Writable(pd.DataFrame):
    """A DataFrame that hands out writable arrays, which sed_scores_eval <= 0.0.4 needs and pandas 3 refuses.

    Mended there in https://github.com/fgnt/sed_scores_eval/pull/17; delete this class with the next release.
    """

    @property
    def _constructor(self) -> type["_Writable"]:
        return _Writable

    def to_numpy(self, *args: Any, **options: Any) -> np.ndarray:
        return np.array(super().to_numpy(*args, **options))


def _frames(scores: pd.DataFrame, places: pd.DataFrame, recording: str) -> pd.DataFrame:
    """Scores of one recording as adjoining frames; where segments overlap, the mean of those that cover the frame."""
    rows = np.flatnonzero(places.recording.to_numpy() == recording)
    rows = rows[np.lexsort((places.end_s.to_numpy()[rows], places.start_s.to_numpy()[rows]))]
    start, end = places.start_s.to_numpy()[rows].round(3), places.end_s.to_numpy()[rows].round(3)
    edges = np.unique(np.concatenate([start, end]))  # (F + 1,)
    first, last = np.searchsorted(edges, start), np.searchsorted(edges, end)
    segment = np.repeat(np.arange(len(rows)), last - first)  # one entry for every (segment, frame it covers)
    frame = np.arange(len(segment)) - np.repeat(np.cumsum(last - first) - last, last - first)
    covered = np.bincount(frame, minlength=len(edges) - 1)
    if edges[0] > TOUCH_S or (covered == 0).any():
        raise AudiotkError(
            f"event scores need scores that cover each recording from 0 s without a gap; those of {recording!r} "
            f"start at {edges[0]} s and leave {(covered == 0).sum()} gaps. tables.make_windows makes such segments."
        )
    totals = np.zeros((len(edges) - 1, scores.shape[1]))  # (F, C)
    np.add.at(totals, frame, scores.to_numpy(np.float64)[rows][segment])
    columns = ["onset", "offset", *scores.columns]
    return _Writable(np.column_stack([edges[:-1], edges[1:], totals / covered[:, None]]), columns=columns)


def _inputs(scores: pd.DataFrame, segments: pd.DataFrame, truth: pd.DataFrame) -> tuple[dict, dict, dict]:
    """scores, ground truth and durations as sed_scores_eval takes them; classes without an event are left out."""
    places = _located(segments, scores.index)
    aligned(scores, pd.DataFrame(np.nan, index=scores.index, columns=scores.columns))  # finite, no duplicates
    recordings = sorted(places.recording.unique())
    for what, have, known in (
        ("recordings", truth.recording, recordings),
        ("classes", truth.class_name, scores.columns),
    ):
        strange = sorted(set(have) - set(known))
        if strange:
            raise AudiotkError(
                f"truth has {len(strange)} {what} that are not scored, the first is {strange[0]!r}; leave them out"
            )
    with_events = [name for name in scores.columns if (truth.class_name == name).any()]
    if not with_events:
        raise AudiotkError(
            f"event scores need an event of at least one of the {scores.shape[1]} classes, truth has {len(truth)} rows"
        )
    frames = {name: _frames(scores[with_events], places, name) for name in recordings}
    events: dict = {name: [] for name in recordings}
    for name, start, end, class_name in truth[["recording", "start_s", "end_s", "class_name"]].to_numpy(object):
        events[name].append((float(start), float(end), class_name))
    return frames, events, {name: float(table.offset.iloc[-1]) for name, table in frames.items()}


def event_f1(
    scores: pd.DataFrame,
    segments: pd.DataFrame,
    truth: pd.DataFrame,
    thresholds: Thresholds,
    start_collar_s: float = 0.2,
    end_collar_s: float = 0.2,
    end_collar_share: float = 0.2,
) -> pd.DataFrame:
    """Collar-based event F1 (Mesaros 2016).

    Adjoining frames that fire are one event; it is right if its start and end are near those of a true one.

    Parameters
    ----------
    scores : DataFrame [shape=(n, C)]
        Scores of segments that cover each recording from 0 s without a gap; where segments overlap their scores are
        averaged.
    segments : DataFrame
        segment, recording, start_s, end_s of every scored segment.
    truth : DataFrame
        recording, start_s, end_s, class_name as from `truth_ranges`: every event of the scored recordings; what is
        not in it is absent.
    thresholds
        As for `metrics.precision_recall_f1`.
    start_collar_s, end_collar_s, end_collar_share
        The start may differ by start_collar_s, the end by the larger of end_collar_s and end_collar_share times the
        length of the true event. Defaults as in DCASE task 4 (200 ms, 20 %).

    Returns
    -------
    DataFrame, index class_name, the last row "(all)" (macro mean of f1, precision and recall)
        f1, precision, recall, tp, fp, events, note. A class without an event or threshold is NaN, named and left out
        of the mean.

    Raises
    ------
    AudiotkError
        sed_scores_eval is not installed; gaps in the scores; truth of recordings or classes that are not scored; no
        event at all.
    """
    library = _sed_scores_eval()
    limits = pd.Series(class_thresholds(thresholds, scores.columns), index=scores.columns)
    frames, events, _ = _inputs(scores, segments, truth)
    with_events = list(next(iter(frames.values())).columns[2:])
    f1, precision, recall, counts = library.collar_based.fscore(
        frames, events, {name: limits[name] if np.isfinite(limits[name]) else np.inf for name in with_events},
        onset_collar=start_collar_s, offset_collar=end_collar_s, offset_collar_rate=end_collar_share,
    )  # fmt: skip
    columns = ["f1", "precision", "recall", "tp", "fp", "events"]
    rows = {
        name: (f1[name], precision[name], recall[name], *(counts[name][count] for count in ("tps", "fps", "n_ref")))
        for name in with_events if np.isfinite(limits[name])
    }  # fmt: skip
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=np.float64).reindex(scores.columns)
    frame.loc[frame.tp + frame.fp == 0, "precision"] = np.nan
    frame["note"] = np.where(scores.columns.isin(with_events), "", "no event")
    frame.loc[limits.isna().to_numpy(), "note"] = "no threshold"
    return _with_mean(frame, ["f1", "precision", "recall"], ["tp", "fp", "events"])


def psds(
    scores: pd.DataFrame, segments: pd.DataFrame, truth: pd.DataFrame, scenario: int = 1, max_efpr: float = 100.0
) -> pd.DataFrame:
    """Polyphonic sound detection score (Bilen 2020), exact over all thresholds (Ebbers 2022).

    Parameters
    ----------
    scores, segments, truth
        As for `event_f1`.
    scenario : 1 or 2
        The two settings of DCASE task 4, in `PSDS_SCENARIOS`.
    max_efpr : float
        Effective false positives per hour up to which the curve is integrated.

    Returns
    -------
    DataFrame, index class_name, the last row "(all)" (the PSDS; less than the mean of the classes, as it subtracts
    their spread)
        psds, events, note. A class without an event is NaN, named and left out.

    Raises
    ------
    AudiotkError
        Unknown scenario; scenario 2 with events of one class only (it needs another to confuse); or as `event_f1`.
    """
    if scenario not in PSDS_SCENARIOS:
        raise AudiotkError(f"PSDS scenario must be one of {sorted(PSDS_SCENARIOS)}, got {scenario!r}")
    library = _sed_scores_eval()
    frames, events, durations = _inputs(scores, segments, truth)
    counts = truth.class_name.value_counts()
    if len(counts) < 2 and scenario == 2:
        raise AudiotkError(
            f"PSDS scenario 2 counts confusions and needs events of two classes, got only {counts.index[0]!r}"
        )
    total, single, *_ = library.intersection_based.psds(
        frames, events, durations, max_efpr=max_efpr, **PSDS_SCENARIOS[scenario]
    )
    frame = pd.DataFrame({"psds": pd.Series(single, dtype=np.float64), "events": counts}).reindex(scores.columns)
    frame["note"] = np.where(frame.events.isna(), "no event", "")
    frame = _with_mean(frame, [], ["events"])
    frame.loc[ALL, "psds"] = total
    return frame


def _with_mean(frame: pd.DataFrame, means: list[str], sums: list[str]) -> pd.DataFrame:
    """`frame` with a last row "(all)": mean and sum of the classes without a note, and the names of those with one."""
    good, left_out = frame[frame.note == ""], frame.index[frame.note != ""]
    note = f"left out: {', '.join(sorted(map(str, left_out)))}" if len(left_out) else ""
    last = good[means].mean().to_dict() | good[sums].sum(min_count=1).to_dict() | {"note": note}
    return pd.concat([frame, pd.DataFrame([last], index=[ALL])]).rename_axis("class_name")
