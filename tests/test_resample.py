"""resample: every statistic at counts of one is its metric, and at any counts the slow twin on repeated rows."""

import inspect

import numpy as np
import pandas as pd
import pytest
import twins_metrics as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from audiotk import events, metrics, resample
from audiotk.tables import AudiotkError, Labels, make_segments

CLASSES = ["bark", "howl", "whine"]


def case(seed: int, n: int = 40, recordings: int = 7, levels: int | None = None) -> tuple[pd.DataFrame, ...]:
    """scores in [0, 1], labels 1 / 0 / NaN, segments; recordings of unequal length."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.integers(recordings, size=n))
    segments = make_segments([f"r{r}" for r in place], np.arange(n) * 1.0, np.arange(n) + 1.0)
    y = (rng.random((n, 3)) < 0.35).astype(float)
    s = np.clip(0.3 * y + 0.7 * rng.random((n, 3)), 0, 1)
    y[rng.random((n, 3)) < 0.15] = np.nan
    if levels:
        s = np.round(s * levels) / levels
    index = pd.Index(segments.segment)
    return pd.DataFrame(s, index, CLASSES), pd.DataFrame(y, index, CLASSES), segments


def recording_of(segments: pd.DataFrame) -> pd.Series:
    return segments.set_index("segment").recording


def ece_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    rows = np.concatenate([np.repeat(np.flatnonzero(code == g), int(n)) for g, n in enumerate(counts)])
    return twins.ece(s[rows].ravel(), y[rows].ravel(), 15) if np.isfinite(y[rows]).any() else np.nan


def absent_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    weight = counts[code][:, None] * (y == 0)
    means = [(weight[:, c] * s[:, c]).sum() / weight[:, c].sum() for c in range(s.shape[1]) if weight[:, c].sum()]
    return float(np.mean(means)) if means else np.nan


def confusion_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    rates = []
    for present, fired in ((0, 1), (1, 0)):
        only = [i for i in range(len(y)) if y[i, present] == 1 and all(y[i, c] == 0 for c in range(3) if c != present)]
        weight = sum(counts[code[i]] for i in only)
        if weight:
            rates.append(sum(counts[code[i]] * (s[i, fired] > 0.4) for i in only) / weight)
    return float(np.mean(rates)) if rates else np.nan


def rate_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    """Segments of `case` never overlap but follow each other by the second within a recording."""
    total = 0.0
    for c in range(s.shape[1]):
        fires = (s[:, c] > 0.4) & (y[:, c] == 0)
        new = fires & ~np.concatenate([[False], fires[:-1] & (code[1:] == code[:-1])])
        if (y[:, c] == 0).any():
            seconds = (counts[code] * (y[:, c] == 0)).sum()
            total += (counts[code] * new).sum() / (seconds / 3600) if seconds else np.nan
    return total


def fired_share_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    """Segments of `case` last a second each."""
    weight, shares = counts[code], []
    for c in range(s.shape[1]):
        absent = y[:, c] == 0
        if weight[absent].sum():
            shares.append(weight[absent & (s[:, c] > 0.4)].sum() / weight[absent].sum())
    return float(np.mean(shares)) if shares else np.nan


def recall_of(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    rows = np.concatenate([np.repeat(np.flatnonzero(code == g), int(n)) for g, n in enumerate(counts)])
    hits = [s[rows, c][y[rows, c] == 1] > 0.4 for c in range(s.shape[1])]
    return float(np.mean([h.mean() for h in hits if len(h)])) if any(len(h) for h in hits) else np.nan


PAIRS = [("bark", "howl"), ("howl", "bark")]
STATISTICS = {  # name: (statistic, slow twin on counts)
    "map_statistic": (lambda s, y, g: resample.map_statistic(s, y, recording_of(g)), twins.resampled_map),
    "absent_score_statistic": (lambda s, y, g: resample.absent_score_statistic(s, y, recording_of(g)), absent_of),
    "calibration_statistic": (lambda s, y, g: resample.calibration_statistic(s, y, recording_of(g)), ece_of),
    "confusion_statistic": (
        lambda s, y, g: resample.confusion_statistic(s, y, 0.4, recording_of(g), PAIRS),
        confusion_of,
    ),
    "false_positive_statistic": (
        lambda s, y, g: resample.false_positive_statistic(events.false_positives_by_recording(s, y, g, 0.4)),
        rate_of,
    ),
    "fired_share_statistic": (
        lambda s, y, g: resample.fired_share_statistic(events.false_positives_by_recording(s, y, g, 0.4)),
        fired_share_of,
    ),
    "recall_statistic": (lambda s, y, g: resample.recall_statistic(s, y, 0.4, recording_of(g)), recall_of),
}
every_statistic = pytest.mark.parametrize("name", STATISTICS)


def test_no_statistic_is_forgotten() -> None:
    found = {name for name, _ in inspect.getmembers(resample, inspect.isfunction) if name.endswith("_statistic")}
    built_of_others = {"ratio_statistic", "weighted_statistic", "order_statistic"}  # the second: test_transfer.py
    assert found - built_of_others == set(STATISTICS)


@every_statistic
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 2, 6]), recordings=st.integers(1, 12))
def test_statistic_equals_the_twin_on_repeated_rows(name, seed, levels, recordings) -> None:
    """Given the same counts, also those in which classes lose all their positives or negatives."""
    make, slow = STATISTICS[name]
    scores, labels, segments = case(seed, levels=levels, recordings=recordings)
    statistic = make(scores, labels, segments)
    code = statistic.recordings.get_indexer(segments.recording)
    counts = np.concatenate(
        [
            np.ones((1, len(statistic.recordings))),
            np.eye(len(statistic.recordings)),
            resample.resample_counts(len(statistic.recordings), 5, np.random.default_rng(seed)),
        ]
    )
    expected = [slow(scores.to_numpy(), labels.to_numpy(), code, row) for row in counts]
    assert statistic.of(counts) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


@every_statistic
def test_order_labels_and_masked_scores_do_not_matter(name) -> None:
    make, _ = STATISTICS[name]
    scores, labels, segments = case(1)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(scores))
    other = scores.where(labels.notna(), 1 - scores).iloc[order][CLASSES[::-1]]
    one = make(scores, labels, segments)
    two = make(other, Labels.from_frame(labels), segments.sample(frac=1, random_state=0))
    assert one.recordings.equals(two.recordings)
    counts = resample.resample_counts(len(one.recordings), 10, rng)
    assert one.of(counts) == pytest.approx(two.of(counts), abs=1e-12)


def test_statistics_are_the_metrics() -> None:
    scores, labels, segments = case(2)
    recordings = recording_of(segments)
    assert resample.map_statistic(scores, labels, recordings).value() == pytest.approx(
        metrics.mean_average_precision(scores, labels), abs=1e-12
    )
    ap = metrics.average_precision(scores, labels).ap
    assert resample.map_statistic(scores, labels, recordings, "howl").value() == pytest.approx(ap["howl"], abs=1e-12)
    assert resample.absent_score_statistic(scores, labels, recordings).value() == pytest.approx(
        metrics.mean_scores(scores, labels).absent[CLASSES].mean()
    )
    assert resample.calibration_statistic(scores, labels, recordings).value() == pytest.approx(
        metrics.calibration(scores, labels).ece_error[metrics.ALL]
    )
    matrix = metrics.confusion(scores, labels, 0.4)
    assert resample.confusion_statistic(scores, labels, 0.4, recordings, PAIRS).value() == pytest.approx(
        np.mean([matrix.loc["bark", "howl"], matrix.loc["howl", "bark"]])
    )
    table = events.false_positives_by_recording(scores, labels, segments, 0.4)
    assert resample.false_positive_statistic(table).value() == pytest.approx(
        events.false_positives_per_hour(scores, labels, segments, 0.4).per_hour[metrics.ALL]
    )
    assert resample.fired_share_statistic(table).value() == pytest.approx(
        events.false_positives_per_hour(scores, labels, segments, 0.4).share_fired[CLASSES].mean()
    )
    assert resample.recall_statistic(scores, labels, 0.4, recordings).value() == pytest.approx(
        metrics.precision_recall_f1(scores, labels, 0.4).recall.mean()
    )


def test_work_in_chunks_is_the_same(monkeypatch) -> None:
    scores, labels, segments = case(3)
    statistic = resample.map_statistic(scores, labels, recording_of(segments))
    counts = resample.resample_counts(len(statistic.recordings), 50, np.random.default_rng(0))
    whole = statistic.of(counts)
    monkeypatch.setattr(resample, "CHUNK", 40)
    assert np.array_equal(whole, statistic.of(counts))


def test_counts_are_draws_with_replacement() -> None:
    counts = resample.resample_counts(50, 2000, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.12)
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.02)  # binomial(50, 1 / 50)


def test_classes_without_threshold_or_absent_audio_are_left_out_of_the_rate() -> None:
    scores, labels, segments = case(4)
    labels["whine"] = 1.0
    limits = pd.Series({"bark": 0.4, "howl": np.nan, "whine": 0.4})
    table = events.false_positives_by_recording(scores, labels, segments, limits)
    only = events.false_positives_per_hour(scores[["bark"]], labels[["bark"]], segments, 0.4)
    assert resample.false_positive_statistic(table).value() == pytest.approx(only.per_hour["bark"])


def by_hand() -> pd.DataFrame:
    """Four recordings of two dogs, as from events.false_positives_by_recording; howl has no threshold."""
    bark = pd.DataFrame(
        {
            "recording": ["a1", "a2", "b1", "b2"],
            "class_name": "bark",
            "false_positives": [1.0, 3.0, 0.0, 2.0],
            "absent_s": [10.0, 50.0, 20.0, 20.0],
            "fired_s": [10.0, 20.0, 0.0, 4.0],
        }
    )
    howl = bark.assign(class_name="howl", false_positives=np.nan, fired_s=np.nan)
    whine = bark.assign(class_name="whine", false_positives=1.0, absent_s=10.0, fired_s=[1.0, 2.0, 3.0, 4.0])
    return pd.concat([bark, howl, whine], ignore_index=True)


DOGS = pd.Series({"b2": "Bo", "b1": "Bo", "a2": "Ace", "a1": "Ace", "z9": "Zoe"})


def test_false_positives_of_groups_are_summed_before_the_ratio() -> None:
    statistic = resample.false_positive_statistic(by_hand(), DOGS)
    assert statistic.recordings.tolist() == ["Ace", "Bo"]
    bark, whine = [4 / 60, 2 / 40, 6 / 100], [2 / 20, 2 / 20, 4 / 40]  # Ace, Bo, both; each a second
    expected = 3600 * (np.array(bark) + whine)
    assert statistic.of(np.array([[1.0, 0], [0, 1], [1, 1]])) == pytest.approx(expected)
    alone = resample.false_positive_statistic(by_hand())
    assert alone.recordings.tolist() == ["a1", "a2", "b1", "b2"]
    assert alone.value() == pytest.approx(statistic.value())  # only what is drawn together differs
    assert alone.of(np.array([[2.0, 0, 1, 0]])) == pytest.approx(3600 * (2 / 40 + 3 / 30))


def test_fired_share_by_hand() -> None:
    statistic = resample.fired_share_statistic(by_hand(), DOGS)
    expected = [(30 / 60 + 3 / 20) / 2, (4 / 40 + 7 / 20) / 2, (34 / 100 + 10 / 40) / 2]
    assert statistic.of(np.array([[1.0, 0], [0, 1], [1, 1]])) == pytest.approx(expected)
    alone = resample.fired_share_statistic(by_hand())
    assert alone.of(np.array([[2.0, 0, 1, 0]])) == pytest.approx([(20 / 40 + 5 / 30) / 2])


def test_firing_all_the_time_is_few_false_positives_but_the_whole_share() -> None:
    segments = make_segments(["r"] * 60, np.arange(60) * 1.0, np.arange(60) + 1.0)
    labels = pd.DataFrame({"bark": 0.0}, index=pd.Index(segments.segment))
    always, sometimes = labels + 1, labels.assign(bark=(np.arange(60) % 10 == 0) * 1.0)
    tables = [events.false_positives_by_recording(s, labels, segments, 0.5) for s in (always, sometimes)]
    assert [resample.false_positive_statistic(t).value() for t in tables] == pytest.approx([60, 360])
    assert [resample.fired_share_statistic(t).value() for t in tables] == pytest.approx([1, 0.1])


@pytest.mark.parametrize("make", [resample.false_positive_statistic, resample.fired_share_statistic])
def test_units_are_checked_and_nothing_left_is_undefined(make) -> None:
    with pytest.raises(AudiotkError, match=r"unit must be .* 1 of 4 recordings are missing \(first: \['a1'\]\)"):
        make(by_hand(), DOGS.drop("a1"))
    with pytest.raises(AudiotkError, match="unit is missing for recording 'b1'"):
        make(by_hand(), DOGS.where(DOGS.index != "b1"))
    assert np.isnan(make(by_hand().query("class_name == 'howl'")).value())


def test_groups_as_units_of_segments_are_their_recordings_pooled() -> None:
    """A dog drawn twice is all its recordings drawn twice, for every statistic of segments."""
    scores, labels, segments = case(6)
    dog_of = {f"r{r}": f"dog{r % 3}" for r in range(7)}
    dogs = recording_of(segments).map(dog_of)
    for name, (make, _) in STATISTICS.items():
        if not name.startswith(("false", "fired")):
            single = make(scores, labels, segments)
            grouped = make(scores, labels, segments.assign(recording=segments.segment.map(dogs)))
            counts = resample.resample_counts(3, 20, np.random.default_rng(0))
            spread = counts[:, grouped.recordings.get_indexer(single.recordings.map(dog_of))]
            assert grouped.of(counts) == pytest.approx(single.of(spread), nan_ok=True), name


@pytest.mark.parametrize("unset", [["bark"], ["howl"], ["bark", "howl"], ["whine"]])
def test_confusion_and_recall_leave_classes_without_threshold_out(unset) -> None:
    scores, labels, segments = case(7)
    limits = pd.Series(0.4, index=CLASSES).where(~pd.Index(CLASSES).isin(unset))
    recording = recording_of(segments)
    matrix = metrics.confusion(scores, labels, limits)
    cells = pd.Series([matrix.loc[pair] for pair in PAIRS])
    found = resample.confusion_statistic(scores, labels, limits, recording, PAIRS).value()
    assert found == pytest.approx(cells.mean(), nan_ok=True)
    assert np.isnan(found) == (unset == ["bark", "howl"])
    recall = metrics.precision_recall_f1(scores, labels, limits).recall
    assert recall.isna().sum() == len(unset)
    assert resample.recall_statistic(scores, labels, limits, recording).value() == pytest.approx(recall.mean())
    assert np.isnan(resample.recall_statistic(scores, labels, np.nan, recording).value())


def test_calibration_of_logits_is_refused_as_by_the_metric() -> None:
    scores, labels, segments = case(8)
    for wrong, n_bins in ((scores * 20, 15), (scores - 0.5, 15), (scores, 0)):
        with pytest.raises(AudiotkError) as one:
            metrics.calibration(wrong, labels, n_bins)
        with pytest.raises(AudiotkError) as two:
            resample.calibration_statistic(wrong, labels, recording_of(segments), n_bins)
        assert str(one.value) == str(two.value)


def test_ratio_refuses_what_it_cannot_sum() -> None:
    one = pd.DataFrame({"a": [1.0, 2.0]}, index=["x", "y"])
    where = pd.Series(["r", "q"], index=["x", "y"])
    with pytest.raises(AudiotkError, match="equal index and columns"):
        resample.ratio_statistic(one, one.rename(columns={"a": "b"}), where)
    with pytest.raises(AudiotkError, match="must not hold NaN"):
        resample.ratio_statistic(one, one.where(one > 1), where)
    with pytest.raises(AudiotkError, match=r"1 of 2 segments are missing \(first: \['y'\]\)"):
        resample.ratio_statistic(one, one, where.iloc[:1])
    with pytest.raises(AudiotkError, match="recording_of_segment is missing for segment 'y'"):
        resample.ratio_statistic(one, one, where.where(where == "r"))


def test_bad_classes_raise() -> None:
    scores, labels, segments = case(5)
    with pytest.raises(AudiotkError, match=r"class_name must be one of .* got 'meow'"):
        resample.map_statistic(scores, labels, recording_of(segments), "meow")
    with pytest.raises(AudiotkError, match=r"pairs .* 'meow'"):
        resample.confusion_statistic(scores, labels, 0.4, recording_of(segments), [("bark", "meow")])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8))
def test_order_is_kendalls_tau_ties_included(pairs) -> None:
    units = pd.Index(["a", "b"])

    def weighed(number: float) -> resample.Statistic:
        return resample.Statistic(units, lambda counts: number * counts[:, 0])

    parts = {f"arm {k}": weighed(float(ours)) for k, (ours, _) in enumerate(pairs)}
    expected = {f"arm {k}": float(theirs) for k, (_, theirs) in enumerate(pairs)}
    found = resample.order_statistic(parts, expected).of(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    tau = kendalltau([ours for ours, _ in pairs], [theirs for _, theirs in pairs]).statistic
    assert found == pytest.approx([tau, tau, np.nan], nan_ok=True)  # in the last one all arms are equal


def test_order_needs_arms_on_the_same_units() -> None:
    one, other = (resample.Statistic(pd.Index([name]), lambda counts: counts[:, 0]) for name in "ab")
    for parts in ({"x": one}, {"x": one, "y": other}):
        with pytest.raises(AudiotkError, match="two arms or more on the same units"):
            resample.order_statistic(parts, {"x": 1.0, "y": 2.0})
