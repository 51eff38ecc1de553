"""metrics: scikit-learn and slow twins as oracles, and every metric through the same invariances."""

import inspect

import numpy as np
import pandas as pd
import pytest
import twins_metrics as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, precision_recall_fscore_support

from audiotk import events, metrics
from audiotk.tables import AudiotkError, Labels, make_segments

CLASSES = ["bark", "howl", "whine", "fan"]


def case(seed: int, n: int = 60, unknown: float = 0.2, levels: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores in [0, 1] (of few `levels`, so that many tie) and labels of 1 / 0 / NaN, four classes."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 4)) < 0.3).astype(float)
    s = np.clip(0.3 * y + 0.7 * rng.random((n, 4)), 0, 1)
    if levels:
        s = np.round(s * levels) / levels
    y[rng.random((n, 4)) < unknown] = np.nan
    ids = pd.Index(PLACES.segment[:n])
    return pd.DataFrame(s, index=ids, columns=CLASSES), pd.DataFrame(y, index=ids, columns=CLASSES)


GRID = np.arange(60)  # `case` scores 1 s at a hop of 0.5 s, 20 segments a recording
PLACES = make_segments([f"r{i // 20}" for i in GRID], GRID % 20 * 0.5, GRID % 20 * 0.5 + 1.0)


# ---------------------------------------------------------------- every metric, the same invariances

METRICS = {
    "average_precision": metrics.average_precision,
    "mean_average_precision": metrics.mean_average_precision,
    "mean_scores": metrics.mean_scores,
    "calibration": metrics.calibration,
    "reliability": metrics.reliability,
    "thresholds": lambda s, y: metrics.thresholds(s, y, by="f1"),
    "precision_recall_f1": lambda s, y: metrics.precision_recall_f1(s, y, 0.5),
    "confusion": lambda s, y: metrics.confusion(s, y, 0.5),
    "false_positives_by_recording": lambda s, y: events.false_positives_by_recording(s, y, PLACES, 0.5),
    "false_positives_per_hour": lambda s, y: events.false_positives_per_hour(s, y, PLACES, 0.5),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def test_no_metric_is_forgotten() -> None:
    found = {
        name
        for module in (metrics, events)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters)[:2] == ["scores", "labels"]
    }
    assert found - {"aligned", "aligned_probabilities"} == set(METRICS)


def flat(result: pd.DataFrame | pd.Series | float) -> pd.DataFrame:
    """A result in one canonical order of rows and columns."""
    frame = pd.DataFrame({"value": [result]}, index=["all"]) if isinstance(result, float) else pd.DataFrame(result)
    if isinstance(frame.index, pd.RangeIndex):  # a long table: its text columns and bin edges are the key
        frame = frame.set_index([name for name in frame.columns if name in ("recording", "class_name", "low", "high")])
    return frame.sort_index().sort_index(axis=1)


def assert_same(a: pd.DataFrame | pd.Series | float, b: pd.DataFrame | pd.Series | float) -> None:
    pd.testing.assert_frame_equal(flat(a), flat(b), rtol=1e-12, check_column_type=False, check_index_type=False)


@every_metric
@pytest.mark.parametrize("levels", [None, 4])
def test_order_of_segments_and_classes_does_not_matter(metric, levels) -> None:
    scores, labels = case(0, levels=levels)
    rng = np.random.default_rng(1)
    rows, other_rows = rng.permutation(len(scores)), rng.permutation(len(scores))
    columns, other_columns = rng.permutation(CLASSES), rng.permutation(CLASSES)
    shuffled = metric(scores.iloc[rows][columns], labels.iloc[other_rows][other_columns])
    assert_same(metric(scores, labels), shuffled)


@every_metric
def test_labels_and_dataframe_agree(metric) -> None:
    scores, labels = case(2)
    assert_same(metric(scores, labels), metric(scores, Labels.from_frame(labels)))
    assert_same(metric(scores, labels), metric(scores, Labels.from_frame(labels, default=0.0)))


@every_metric
def test_scores_of_masked_cells_do_not_matter(metric) -> None:
    scores, labels = case(3)
    other = scores.where(labels.notna(), 1 - scores)
    assert not other.equals(scores)
    assert_same(metric(scores, labels), metric(other, labels))


@every_metric
def test_scores_of_known_cells_do_matter(metric) -> None:
    """The twin of the test above: a metric that ignores everything would pass all invariances."""
    scores, labels = case(3)
    with pytest.raises(AssertionError):
        assert_same(metric(scores, labels), metric(1 - scores, labels))


@every_metric
def test_the_input_is_not_changed(metric) -> None:
    scores, labels = case(4)
    before = scores.copy(), labels.copy()
    metric(scores, labels)
    pd.testing.assert_frame_equal(scores, before[0])
    pd.testing.assert_frame_equal(labels, before[1])


@every_metric
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.iloc[1:], "labels have 60, scores have 59; 1 missing"),
        (lambda s: pd.concat([s, s.iloc[:1].set_axis(["r9@0.000-1.000"])]), r"1 not in labels \['r9@0.000-1.000'\]"),
        (lambda s: pd.concat([s, s.iloc[:1]]), "1 duplicate segments"),
        (lambda s: s.drop(columns="fan"), "same classes: labels have 4, scores have 3"),
        (lambda s: s.rename(columns={"fan": "hum"}), "not in labels"),
        (lambda s: s.mask(s == s.iloc[5, 1]), "finite, but 1 cells are not; the first is nan"),
        (lambda s: s.where(s != s.iloc[5, 1], np.inf), "the first is inf"),
        (lambda s: s.astype(np.float16), "float16"),
        (lambda s: s.astype(str), "must be float32 or float64"),
        (lambda s: s.to_numpy(), "must be a DataFrame"),
    ],
)
def test_bad_scores_raise(metric, spoil, message) -> None:
    scores, labels = case(5)
    with pytest.raises(AudiotkError, match=message):
        metric(spoil(scores), labels)


def test_bad_labels_raise() -> None:
    scores, labels = case(5)
    with pytest.raises(AudiotkError, match=r"1 cells are not, the first is 0\.5"):
        metrics.average_precision(scores, labels.assign(bark=[0.5, *labels.bark[1:]]))
    with pytest.raises(AudiotkError, match="got ndarray"):
        metrics.average_precision(scores, labels.to_numpy())
    with pytest.raises(AudiotkError, match="labels hold 1 duplicate segments"):
        metrics.average_precision(scores, labels.set_axis([labels.index[1], *labels.index[1:]]))


# ---------------------------------------------------------------- single metrics against oracles


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 40), st.sampled_from([None, 2, 5]))
def test_ap_equals_scikit_learn_and_the_textbook(seed, n, levels) -> None:
    scores, labels = case(seed, n=n, levels=levels)
    table = metrics.average_precision(scores, labels)
    for name in CLASSES:
        y, s = labels[name].to_numpy(), scores[name].to_numpy()
        known = ~np.isnan(y)
        row = table.loc[name]
        assert (row.positives, row.negatives, row.masked) == ((y == 1).sum(), (y == 0).sum(), (~known).sum())
        if row.note:
            assert np.isnan(row.ap)
            assert row.positives == 0 or row.negatives == 0
        else:
            assert row.ap == average_precision_score(y[known], s[known])
            assert row.ap == pytest.approx(twins.average_precision(s, y), abs=1e-12)


def test_ap_of_float32_scores_is_that_of_float64() -> None:
    scores, labels = case(6, levels=50)
    single = scores.astype(np.float32)
    assert_same(metrics.average_precision(single, labels), metrics.average_precision(single.astype(np.float64), labels))


def test_classes_without_both_labels_are_named_and_left_out() -> None:
    scores, labels = case(7)
    labels["bark"] = labels.bark.where(labels.bark != 1, 0.0)
    labels["howl"] = labels.howl.where(labels.howl != 0, 1.0)
    labels["whine"] = np.nan
    table = metrics.average_precision(scores, labels)
    assert table.note.to_dict() == {"bark": "no positive", "howl": "no negative", "whine": "nothing known", "fan": ""}
    assert metrics.mean_average_precision(scores, labels) == table.ap["fan"]
    with pytest.raises(AudiotkError, match="none of 3 has both"):
        metrics.mean_average_precision(scores.drop(columns="fan"), labels.drop(columns="fan"))


def test_mean_scores_by_hand() -> None:
    ids = ["a", "b", "c"]
    scores = pd.DataFrame({"bark": [5.0, -1.0, 100.0], "howl": [2.0, 3.0, 4.0]}, index=ids)
    labels = pd.DataFrame({"bark": [1, 0, np.nan], "howl": [0.0, 0, 0]}, index=ids)
    table = metrics.mean_scores(scores, labels)
    assert table.loc["bark", ["present", "absent"]].tolist() == [5.0, -1.0]
    assert np.isnan(table.present["howl"])
    assert table.absent["howl"] == 3.0
    assert table.absent[metrics.ALL] == pytest.approx((-1 + 2 + 3 + 4) / 4)


@pytest.mark.parametrize("n_bins", [1, 10, 15])
@pytest.mark.parametrize("levels", [None, 10])
def test_calibration_equals_textbook(n_bins, levels) -> None:
    scores, labels = case(8, levels=levels)
    if levels:  # scores on the edges of bins: only 0, 0.5 and 1 are the same float however they are computed
        scores = (scores * 2).round() / 2
    table = metrics.calibration(scores, labels, n_bins)
    cells = [(name, scores[name].to_numpy(), labels[name].to_numpy()) for name in CLASSES]
    for name, s, y in [*cells, (metrics.ALL, scores.to_numpy().ravel(), labels.to_numpy().ravel())]:
        known = ~np.isnan(y)
        assert table.ece_error[name] == pytest.approx(twins.ece(s, y, n_bins), abs=1e-12)
        assert table.brier_error[name] == pytest.approx(brier_score_loss(y[known], s[known]), abs=1e-12)


def test_calibration_knows_a_calibrated_forecast() -> None:
    """Known truth: labels drawn with the stated probability are calibrated, the same scores squared are not."""
    rng = np.random.default_rng(0)
    p = pd.DataFrame(rng.random((20000, 1)), columns=["bark"])
    labels = (pd.DataFrame(rng.random((20000, 1)), columns=["bark"]) < p).astype(float)
    assert metrics.calibration(p, labels).ece_error["bark"] < 0.015
    assert metrics.calibration(p**2, labels).ece_error["bark"] == pytest.approx(1 / 2 - 1 / 3, abs=0.015)


def test_calibration_refuses_logits() -> None:
    scores, labels = case(9)
    with pytest.raises(AudiotkError, match=r"between 0 and 1, got .* apply the sigmoid"):
        metrics.calibration(scores * 8 - 4, labels)
    with pytest.raises(AudiotkError, match="n_bins must be at least 1, got 0"):
        metrics.reliability(scores, labels, 0)


def test_reliability_table_holds_the_calibration_error() -> None:
    scores, labels = case(10)
    table = metrics.reliability(scores, labels, 7)
    gap = (table.n * (table.mean_score - table.share_present).abs()).groupby(table.class_name).sum()
    n = table.groupby("class_name").n.sum()
    expected = metrics.calibration(scores, labels, 7)
    assert (gap / n)[expected.index].to_numpy() == pytest.approx(expected.ece_error.to_numpy())
    assert n[metrics.ALL] == labels.notna().to_numpy().sum()
    inside = table[table.n > 0]
    assert ((inside.mean_score >= inside.low - 1e-12) & (inside.mean_score <= inside.high + 1e-12)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3, 8]), st.sampled_from(["recall", "f1", "fpr"]), st.floats(0, 1))
def test_thresholds_keep_their_promise(seed, levels, by, at) -> None:
    """Against every threshold that could have been chosen."""
    scores, labels = case(seed, n=25, levels=levels)
    chosen = metrics.thresholds(scores, labels, by=by, at=at)
    rates = metrics.precision_recall_f1(scores, labels, chosen)
    for name in CLASSES:
        s, y = scores[name].to_numpy(), labels[name].to_numpy()
        if np.isnan(chosen[name]):
            assert ((y == 0) if by == "fpr" else (y == 1)).sum() == 0
            continue
        row = rates.loc[name]
        limits = np.array([-1.0, *np.unique(s[~np.isnan(y)])])  # score > limit: all the sets that can fire
        tp, fp = ((s > limits[:, None]) & (y == 1)).sum(axis=1), ((s > limits[:, None]) & (y == 0)).sum(axis=1)
        if by == "f1":
            assert row.f1 == (2 * tp / (tp + fp + row.positives)).max()
        elif by == "recall":
            assert row.recall >= at
            assert row.fp == fp[tp / row.positives >= at].min()
        else:
            assert row.fpr <= at
            assert row.tp == tp[fp / row.negatives <= at].max()


def test_threshold_between_neighbouring_floats_still_separates() -> None:
    low = 0.1
    scores = pd.DataFrame({"bark": [low, np.nextafter(low, 1)]}, index=["a", "b"])
    labels = pd.DataFrame({"bark": [0.0, 1.0]}, index=["a", "b"])
    chosen = metrics.thresholds(scores, labels, by="f1")
    assert metrics.precision_recall_f1(scores, labels, chosen).f1["bark"] == 1.0


def test_thresholds_refuse_what_they_do_not_know() -> None:
    scores, labels = case(11)
    with pytest.raises(AudiotkError, match="by must be"):
        metrics.thresholds(scores, labels, by="accuracy")  # type: ignore[arg-type]
    with pytest.raises(AudiotkError, match=r"at in \[0, 1\]"):
        metrics.thresholds(scores, labels, at=80)
    with pytest.raises(AudiotkError, match=r"missing \['fan'\]"):
        metrics.precision_recall_f1(scores, labels, pd.Series(0.5, index=CLASSES[:3]))


def test_precision_recall_f1_equals_scikit_learn() -> None:
    scores, labels = case(12)
    limits = pd.Series([0.3, 0.5, 0.6, 0.4], index=CLASSES)
    table = metrics.precision_recall_f1(scores, labels, limits[::-1])
    for name in CLASSES:
        known = labels[name].notna()
        fires = scores[name][known] > limits[name]
        p, r, f, _ = precision_recall_fscore_support(labels[name][known], fires, average="binary")
        assert table.loc[name, ["precision", "recall", "f1"]].astype(float).tolist() == pytest.approx([p, r, f])
        assert table.fpr[name] == (fires & (labels[name][known] == 0)).sum() / (labels[name] == 0).sum()
        assert table.loc[name, ["tp", "fp", "fn", "tn"]].sum() == known.sum()


def test_undefined_rates_are_nan_not_zero() -> None:
    scores, labels = case(13)
    labels["bark"] = labels.bark.where(labels.bark != 1, 0.0)
    table = metrics.precision_recall_f1(scores, labels, pd.Series([0.5, 2.0, np.nan, 0.5], index=CLASSES))
    assert table.loc["bark", ["recall", "f1"]].isna().all()
    assert table.precision["bark"] == 0.0
    assert np.isnan(table.precision["howl"])  # nothing fires
    assert table.recall["howl"] == 0.0
    assert table.loc["whine", ["precision", "recall", "f1", "fpr"]].isna().all()
    assert table.note["whine"] == "no threshold"


def test_a_score_equal_to_the_threshold_does_not_fire() -> None:
    scores = pd.DataFrame({"bark": [0.5, 0.6]}, index=["a", "b"])
    labels = pd.DataFrame({"bark": [1.0, 1.0]}, index=["a", "b"])
    assert metrics.precision_recall_f1(scores, labels, 0.5).tp["bark"] == 1


def test_confusion_by_hand() -> None:
    """bark fires on one of two lone howls; a segment with both classes or with an unknown one counts nowhere."""
    labels = pd.DataFrame(
        [[0, 1], [0, 1], [1, 0], [1, 1], [np.nan, 1], [0, 0]],
        columns=["bark", "howl"],
        index=list("abcdef"),
        dtype=float,
    )
    scores = pd.DataFrame(
        [[0.9, 0.9], [0.1, 0.2], [0.9, 0.1], [0.9, 0.9], [0.9, 0.9], [0.1, 0.9]],
        columns=["bark", "howl"],
        index=list("abcdef"),
    )
    table = metrics.confusion(scores, labels, 0.5)
    assert table.loc["howl"].tolist() == [0.5, 0.5, 2]
    assert table.loc["bark"].tolist() == [1.0, 0.0, 1]
    assert table.loc[metrics.NONE].tolist() == [0.0, 1.0, 1]
    unset = metrics.confusion(scores, labels, pd.Series({"bark": np.nan, "howl": 0.5}))
    assert unset["bark"].isna().all()
    assert unset["howl"].tolist() == table["howl"].tolist()
