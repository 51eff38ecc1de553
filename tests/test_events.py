"""events: false positives against a painted grid, event F1 against a slow matching, known truths for PSDS."""

import inspect
import sys

import numpy as np
import pandas as pd
import pytest
import twins_metrics as twins
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import events, metrics
from audiotk.tables import AudiotkError, make_annotations, make_segments

CLASSES = ["bark", "howl"]


def table(start: list[float], length: float = 1.0, recording: str = "r") -> pd.DataFrame:
    return make_segments([recording] * len(start), np.array(start), np.array(start) + length)


def frame(segments: pd.DataFrame, **columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(segments.segment), dtype=float)


# ---------------------------------------------------------------- false positives


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([0, 1, 3, 12]))
def test_false_positives_equal_a_painted_grid(seed, n, gap) -> None:
    """Random segments of any length and overlap on a 0.1 s grid, in two recordings, with unknown cells."""
    rng = np.random.default_rng(seed)
    cells = {
        (int(r), int(a), int(a + d)) for r, a, d in zip(*rng.integers([0, 0, 1], [2, 99, 20], (n, 3)).T, strict=True)
    }
    rows = np.array(sorted(cells))
    segments = make_segments([f"r{r}" for r in rows[:, 0]], rows[:, 1] / 10, rows[:, 2] / 10)
    scores = frame(segments, bark=rng.random(len(rows)), howl=rng.random(len(rows)))
    labels = frame(segments, **{name: rng.choice([0, 0, 1, np.nan], len(rows)) for name in CLASSES})
    found = events.false_positives_by_recording(scores, labels, segments, 0.4, merge_gap_s=gap / 10)
    sums = found.groupby("class_name")[["false_positives", "absent_s", "fired_s"]].sum()
    for name in CLASSES:
        expected = twins.false_positives(scores[name].to_numpy(), labels[name].to_numpy(), segments, 0.4, gap)
        got = sums.loc[name].to_numpy() * [1, 10, 10]
        assert got == pytest.approx(expected)


def test_rate_by_hand() -> None:
    """Two runs of firing segments in 6 s judged absent; the true bark and the unknown stretch are not counted."""
    segments = table([0, 1, 2, 3, 4, 5, 6, 7])
    labels = frame(segments, bark=[0, 0, 0, 1, 0, 0, np.nan, 0], howl=[1] * 8)
    scores = frame(segments, bark=[0.9, 0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1], howl=[0.9] * 7 + [0.1])
    rates = events.false_positives_per_hour(scores, labels, segments, 0.5)
    bark = rates.loc["bark"]
    assert (bark.false_positives, bark.hours, bark.per_hour) == (2, 6 / 3600, pytest.approx(1200))
    assert (bark.share_fired, bark.recall) == (0.5, 1.0)
    assert rates.note["howl"] == "no absent audio"
    assert rates.note[metrics.ALL] == "left out: howl"
    assert rates.per_hour[metrics.ALL] == pytest.approx(1200)
    each = events.false_positives_per_hour(scores, labels, segments, 0.5, merge_gap_s=None)
    assert each.false_positives["bark"] == 3
    one = events.false_positives_per_hour(scores, labels, segments, 0.5, merge_gap_s=3.0)
    assert one.false_positives["bark"] == 1


def test_a_score_equal_to_the_threshold_does_not_fire() -> None:
    segments = table([0, 2, 4])
    scores, labels = frame(segments, bark=[0.5, 0.6, 0.5]), frame(segments, bark=[0, 0, 1])
    bark = events.false_positives_per_hour(scores, labels, segments, 0.5).loc["bark"]
    assert (bark.false_positives, bark.recall) == (1, 0)


def test_all_classes_add_up() -> None:
    segments = table([0, 2, 4])
    labels, scores = (
        frame(segments, bark=[0, 0, 1], howl=[np.nan, 0, 0]),
        frame(segments, bark=[1, 0, 0], howl=[1, 1, 0]),
    )
    rates = events.false_positives_per_hour(scores, labels, segments, 0.5)
    assert rates.per_hour.tolist() == pytest.approx([1800, 1800, 3600])
    assert rates.hours.tolist() == pytest.approx([2 / 3600, 2 / 3600, 3 / 3600])
    assert rates.recall[metrics.ALL] == 0.0  # bark missed; howl has no present segment


def test_a_class_without_threshold_is_named() -> None:
    segments = table([0, 1])
    labels, scores = frame(segments, bark=[0, 0], howl=[0, 0]), frame(segments, bark=[1, 1], howl=[1, 0])
    limits = pd.Series({"bark": np.nan, "howl": 0.5})
    rates = events.false_positives_per_hour(scores, labels, segments, limits)
    assert rates.loc["bark", ["per_hour", "false_positives", "share_fired", "recall"]].isna().all()
    assert rates.note.tolist() == ["no threshold", "", "left out: bark"]
    assert rates.false_positives[metrics.ALL] == 1


def test_overlap_of_segments_does_not_change_a_rate() -> None:
    """The same 60 s and the same firing stretch, seen at hop 1 s and at hop 0.25 s."""
    rates = []
    for hop in (1.0, 0.25):
        segments = table(list(np.arange(0, 59 + hop / 2, hop)))
        fires = (segments.start_s >= 20) & (segments.end_s <= 30)
        scores, labels = frame(segments, bark=fires.to_numpy()), frame(segments, bark=[0] * len(segments))
        rates.append(events.false_positives_per_hour(scores, labels, segments, 0.5).drop(columns="recall"))
    pd.testing.assert_frame_equal(*rates)


def test_bad_segments_raise() -> None:
    segments = table([0, 1])
    scores, labels = frame(segments, bark=[1, 1]), frame(segments, bark=[0, 0])
    with pytest.raises(AudiotkError, match="each of the 2 scored segments once; 1 are missing"):
        events.false_positives_per_hour(scores, labels, segments.iloc[:1], 0.5)
    with pytest.raises(AudiotkError, match="1 of its rows are duplicate"):
        events.false_positives_per_hour(scores, labels, pd.concat([segments, segments.iloc[:1]]), 0.5)
    with pytest.raises(AudiotkError, match="merge_gap_s must be at least 0 or None, got -1"):
        events.false_positives_per_hour(scores, labels, segments, 0.5, merge_gap_s=-1)


# ---------------------------------------------------------------- events over time


def soundscape(seed: int, hop: float = 0.1, recordings: int = 3, seconds: int = 10) -> tuple[pd.DataFrame, ...]:
    """scores, segments, truth: frames of `hop` seconds; random events at least 0.2 s apart; scores = truth + noise."""
    rng = np.random.default_rng(seed)
    n, tables, values, truth = round(seconds / hop), [], [], []
    for r in range(recordings):
        start = np.arange(n) * hop
        tables.append(make_segments([f"r{r}"] * n, start, start + hop))
        active = np.zeros((n, 2))
        for c, name in enumerate(CLASSES):
            edges = np.sort(rng.choice(np.arange(1, n // 2), 6, replace=False)) * 2
            for first, last in edges.reshape(3, 2):
                active[first:last, c] = 1
                truth.append((f"r{r}", first * hop, last * hop, name))
        values.append(np.clip(0.7 * active + 0.3 * rng.random((n, 2)), 0, 1))
    segments = pd.concat(tables, ignore_index=True)
    scores = pd.DataFrame(np.concatenate(values), index=pd.Index(segments.segment), columns=CLASSES)
    return scores, segments, pd.DataFrame(truth, columns=["recording", "start_s", "end_s", "class_name"])


def runs(fires: np.ndarray, hop: float) -> list[tuple[float, float]]:
    """Ranges of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], fires.astype(int), [0]])))
    return [(a * hop, b * hop) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_event_f1_equals_a_slow_matching(seed) -> None:
    scores, segments, truth = soundscape(seed)
    rng = np.random.default_rng(seed)
    scores = (scores + 0.6 * rng.random(scores.shape)).round(2)  # now frames fire that should not, and the reverse
    found = events.event_f1(scores, segments, truth, 0.72)
    for c, name in enumerate(CLASSES):
        tp = fp = 0
        for recording in segments.recording.unique():
            rows = (segments.recording == recording).to_numpy()
            true = truth[(truth.recording == recording) & (truth.class_name == name)]
            counts = twins.collar_counts(
                runs(scores.to_numpy()[rows, c] > 0.72, 0.1),
                list(zip(true.start_s, true.end_s, strict=True)),
                *(0.2, 0.2, 0.2),
            )
            tp, fp = tp + counts[0], fp + counts[1]
        row = found.loc[name]
        assert (row.tp, row.fp, row.events) == (tp, fp, (truth.class_name == name).sum())
        assert row.f1 == pytest.approx(2 * tp / (tp + fp + row.events))
    assert found.f1[metrics.ALL] == pytest.approx(found.f1[CLASSES].mean())
    assert found.tp.iloc[:2].sum() > 0 and found.fp.iloc[:2].sum() > 0  # noqa: PT018  (the comparison saw both)


def test_perfect_scores_are_perfect() -> None:
    scores, segments, truth = soundscape(0)
    assert (events.event_f1(scores, segments, truth, 0.5).f1 == 1).all()
    assert events.psds(scores, segments, truth, 1).psds.to_numpy() == pytest.approx(1)
    assert events.psds(scores, segments, truth, 2).psds.to_numpy() == pytest.approx(1)


def test_psds_by_hand() -> None:
    """One class, two events in 36 s, 1/100 hour. The first is found without a false positive, the second only after
    one, that is at 100 an hour: up to 100 the curve is at one half, from there to 200 at one."""
    segments = make_segments(["r"] * 36, np.arange(36), np.arange(36) + 1.0)
    values = np.full(36, 0.1)
    values[[5, 15, 25]] = [0.9, 0.7, 0.5]  # true, false, true
    truth = pd.DataFrame({"recording": "r", "start_s": [5.0, 25.0], "end_s": [6.0, 26.0], "class_name": "bark"})
    found = events.psds(frame(segments, bark=values), segments, truth, max_efpr=200.0)
    assert found.psds["bark"] == pytest.approx((0.5 * 100 + 1.0 * 100) / 200)
    assert found.events["bark"] == 2


def test_silent_recordings_count_for_event_scores() -> None:
    """A recording without an event costs false positives, and hours."""
    scores, segments, truth = soundscape(1)
    more = table(list(np.arange(10.0)), recording="silent")
    quiet = frame(more, bark=[0.0] * 10, howl=[0.0] * 10)
    loud = frame(more, bark=[0, 1] * 5, howl=[0.0] * 10)
    both = pd.concat([segments, more])
    f1 = [events.event_f1(pd.concat([scores, s]), both, truth, 0.5) for s in (quiet, loud)]
    assert [t.fp["bark"] for t in f1] == [0, 5]
    assert events.psds(pd.concat([scores, loud]), both, truth).psds["bark"] < 1


def test_overlapping_segments_are_averaged() -> None:
    segments = table([0, 1, 2], length=2.0)
    scores = frame(segments, bark=[0.0, 1.0, 0.5])
    found = events._frames(scores, segments.set_index("segment").loc[scores.index], "r")
    assert found.onset.tolist() == [0, 1, 2, 3]
    assert found.offset.tolist() == [1, 2, 3, 4]
    assert found.bark.tolist() == [0, 0.5, 0.75, 0.5]


def test_no_event_metric_is_forgotten() -> None:
    found = {
        name
        for name, function in inspect.getmembers(events, inspect.isfunction)
        if list(inspect.signature(function).parameters)[:3] == ["scores", "segments", "truth"] and name[0] != "_"
    }
    assert found == {"event_f1", "psds"}  # each in the test below


@pytest.mark.parametrize("metric", [lambda *a: events.event_f1(*a, 0.6), events.psds, lambda *a: events.psds(*a, 2)])
def test_order_does_not_matter_for_event_scores(metric) -> None:
    scores, segments, truth = soundscape(2)
    rng = np.random.default_rng(0)
    noisy = (scores + 0.5 * rng.random(scores.shape)).round(2)
    shuffled = noisy.iloc[rng.permutation(len(noisy))][CLASSES[::-1]]
    other = metric(shuffled, segments.sample(frac=1, random_state=0), truth.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(metric(noisy, segments, truth), other.loc[[*CLASSES, metrics.ALL]])


def test_class_without_event_or_threshold_is_named() -> None:
    scores, segments, truth = soundscape(3)
    barks = truth[truth.class_name == "bark"]
    found = events.event_f1(scores, segments, barks, 0.5)
    assert found.note.tolist() == ["", "no event", "left out: howl"]
    assert found.f1[metrics.ALL] == found.f1["bark"] == 1
    assert events.psds(scores, segments, barks).note.tolist() == ["", "no event", "left out: howl"]
    unset = events.event_f1(scores, segments, truth, pd.Series({"bark": np.nan, "howl": 0.5}))
    assert unset.note.tolist() == ["no threshold", "", "left out: bark"]
    assert np.isnan(unset.f1["bark"])
    with pytest.raises(AudiotkError, match=r"needs events of two classes, got only 'bark'"):
        events.psds(scores, segments, barks, scenario=2)


def test_bad_event_input_raises() -> None:
    scores, segments, truth = soundscape(4)
    with pytest.raises(AudiotkError, match=r"leave 1 gaps"):
        events.event_f1(scores.drop(scores.index[7]), segments, truth, 0.5)
    with pytest.raises(AudiotkError, match=r"start at 0.1 s"):
        events.psds(scores.drop(scores.index[0]), segments, truth)
    with pytest.raises(AudiotkError, match="1 classes that are not scored, the first is 'howl'"):
        events.psds(scores[["bark"]], segments, truth)
    with pytest.raises(AudiotkError, match="1 recordings that are not scored, the first is 'r0'"):
        events.psds(scores[~scores.index.str.startswith("r0@")], segments, truth)
    with pytest.raises(AudiotkError, match="scenario must be one of"):
        events.psds(scores, segments, truth, scenario=3)
    with pytest.raises(AudiotkError, match="an event of at least one of the 2 classes, truth has 0 rows"):
        events.psds(scores, segments, truth.iloc[:0])
    with pytest.raises(AudiotkError, match="finite"):
        events.psds(scores * np.nan, segments, truth)


def test_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    with pytest.raises(AudiotkError, match=r"need the package sed_scores_eval .*audiotk\[train\]"):
        events.event_f1(*soundscape(0), 0.5)


def test_truth_ranges_join_what_touches() -> None:
    segments = pd.concat([table([0, 1, 5], recording="a"), table([1.5], recording="b")], ignore_index=True)
    ids = segments.segment.tolist()
    annotations = pd.concat(
        [
            make_annotations(ids, "bark", [1.0, 1.0, 1.0, 1.0], "truth"),
            make_annotations(ids[:2], "howl", [0.0, 1.0], "truth"),
            make_annotations(ids[:1], "whine", [1.0], "human:ann"),
        ]
    )
    found = events.truth_ranges(annotations, segments)
    assert found.to_numpy().tolist() == [
        ["a", 0.0, 2.0, "bark"],
        ["a", 5.0, 6.0, "bark"],
        ["a", 1.0, 2.0, "howl"],
        ["b", 1.5, 2.5, "bark"],
    ]
    with pytest.raises(AudiotkError, match=r"source 'dcase' .* got 0"):
        events.truth_ranges(annotations, segments, "dcase")
    unsure = pd.concat([annotations, make_annotations(ids[3:], "howl", [np.nan], "truth")])
    with pytest.raises(AudiotkError, match="1 of them unsure"):
        events.truth_ranges(unsure, segments)
