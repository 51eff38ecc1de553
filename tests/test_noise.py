"""Noise at known rates, and repairs measured against known truth: against loops over every cell."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from audiotk.datasets.raters import abstract_names, mini_ontology, parents, tick
from audiotk.noise import inject, repair_quality, simulate_raters, simulate_teacher
from audiotk.ontology import Ontology
from audiotk.tables import AudiotkError, Labels

NAMES = [node["name"] for node in mini_ontology()]
UP = parents()


@pytest.fixture(scope="module")
def ontology():
    return Ontology.from_records(mini_ontology())


def labels_of(rows, names=NAMES):
    """Labels with default 0 from a list of names a segment."""
    cells = [(i, names.index(name)) for i, row in enumerate(rows) for name in row]
    row, col = np.array(cells, dtype=int).reshape(-1, 2).T
    return Labels.from_cells([f"s{i:06d}" for i in range(len(rows))], names, row, col, np.ones(len(row)), default=0.0)


def names_in(labels):
    frame = labels.frame() == 1
    return [list(frame.columns[row]) for row in frame.to_numpy()]


def within(share, expected, n):
    """Five standard deviations of a share of n draws."""
    assert abs(share - expected) <= 5 * np.sqrt(max(expected * (1 - expected), 1 / n) / n), (share, expected)


# --- raters -----------------------------------------------------------------------------------------------------------


def test_a_careful_rater_ticks_the_truth_and_a_thorough_one_all_parents(ontology):
    truth = labels_of([["Bark", "Rain"], ["Cough"], []])
    rng = np.random.default_rng(0)
    careful = simulate_raters(truth, ontology, 0, 0, 0, rng, raters=1)
    assert list(careful) == ["rater:A"]
    assert careful["rater:A"] == truth
    thorough = simulate_raters(truth, ontology, 1, 0, 0, rng, raters=1)["rater:A"]
    expected = [tick(row, 1.0, 0.0, 0.0, rng) for row in names_in(truth)]
    assert [sorted(row) for row in names_in(thorough)] == expected
    blind = simulate_raters(truth, ontology, 0.5, 0.5, 1, rng, raters=2)
    assert {row for labels in blind.values() for row in map(tuple, names_in(labels))} == {()}


def test_raters_agree_with_those_of_the_embedded_data(ontology):
    """Share of segments in which each class is ticked, and in which each pair is, against `tick` one by one."""
    row, n = ["Howl", "Slosh", "Rain"], 4000
    rates = (0.6, 0.35, 0.2)
    ours = simulate_raters(labels_of([row] * n), ontology, *rates, np.random.default_rng(1), raters=1)["rater:A"]
    rng = np.random.default_rng(2)
    twin = labels_of([tick(row, *rates, rng) for _ in range(n)])
    a, b = (labels.frame().to_numpy() == 1 for labels in (ours, twin))
    assert not a[:, [NAMES.index(name) for name in abstract_names()]].any()
    both_a, both_b = (x.T.astype(float) @ x / n for x in (a, b))
    assert (both_a > 0).sum() > 100
    spread = np.sqrt(np.maximum((both_a + both_b) / 2 * (1 - (both_a + both_b) / 2), 1 / n) * 2 / n)
    assert (np.abs(both_a - both_b) <= 5.5 * spread).all()


def test_each_rater_has_its_own_rates(ontology):
    n = 3000
    truth = labels_of([["Cough"]] * n)  # its parent is abstract: only a miss can take it away
    found = simulate_raters(truth, ontology, 0.5, 0.5, [0.0, 0.3, 0.9], np.random.default_rng(0))
    shares = {name: (labels.frame()["Cough"] == 1).mean() for name, labels in found.items()}
    assert shares["rater:A"] == 1
    within(shares["rater:B"], 0.7, n)
    within(shares["rater:C"], 0.1, n)


def test_a_rater_climbs_only_within_the_vocabulary(ontology):
    few = ["Bark", "Animal"]  # Dog lies between
    truth = labels_of([["Bark"]] * 10, few)
    found = simulate_raters(truth, ontology, 1, 1, 0, np.random.default_rng(0), raters=1)["rater:A"]
    assert found == truth


def test_a_parent_is_asked_once_however_many_ways_lead_to_it():
    nodes = [("top", ["middle", "leaf"]), ("middle", ["leaf"]), ("leaf", [])]
    ontology = Ontology.from_records([{"id": name, "name": name, "child_ids": below} for name, below in nodes])
    n = 4000
    truth = labels_of([["leaf"]] * n, ["top", "middle", "leaf"])
    frame = simulate_raters(truth, ontology, 0.5, 0, 0, np.random.default_rng(0), raters=1)["rater:A"].frame()
    within((frame["top"] == 1).mean(), 0.5, n)  # and not again because of `middle`
    within((frame[["top", "middle"]] == 1).all(axis=1).mean(), 0.25, n)


def test_raters_are_repeatable_and_refuse_nonsense(ontology):
    truth = labels_of([["Bark"], ["Howl"]] * 20)
    one, two = (simulate_raters(truth, ontology, 0.5, 0.5, 0.2, np.random.default_rng(3)) for _ in range(2))
    assert all(one[name] == two[name] for name in ("rater:A", "rater:B", "rater:C"))
    with pytest.raises(AudiotkError, match=r"parent_rate.*\[1\.5\]"):
        simulate_raters(truth, ontology, 1.5, 0, 0, np.random.default_rng(0))
    with pytest.raises(AudiotkError, match="raters: expected 1 to 26"):
        simulate_raters(truth, ontology, 0.5, 0, 0, np.random.default_rng(0), raters=27)
    with pytest.raises(AudiotkError, match="Woof"):
        simulate_raters(labels_of([["Woof"]], ["Woof"]), ontology, 0.5, 0, 0, np.random.default_rng(0))


# --- injected errors --------------------------------------------------------------------------------------------------


def clean(default, n=6000):
    """One third of class a and of b present, c never; every tenth row unknown for a."""
    frame = pd.DataFrame(0.0, index=[f"s{i:06d}" for i in range(n)], columns=["a", "b", "c"])
    frame.loc[frame.index[::3], "a"] = 1.0
    frame.loc[frame.index[1::3], "b"] = 1.0
    frame.loc[frame.index[::10], "a"] = np.nan
    return Labels.from_frame(frame, default)


@pytest.mark.parametrize("default", [0.0, np.nan])
def test_errors_come_at_the_stated_rates(default):
    labels = clean(default)
    noisy = inject(labels, missing={"a": 0.3}, wrong=pd.Series({"b": 0.1, "c": 0.02}), rng=np.random.default_rng(0))
    assert noisy.default == labels.default or np.isnan(noisy.default)
    was, now = labels.frame(), noisy.frame()
    assert (was.isna() == now.isna()).all(axis=None)
    missing, wrong = ((was == 1) & (now == 0)).sum(), ((was == 0) & (now == 1)).sum()
    present, absent = (was == 1).sum(), (was == 0).sum()
    within(missing["a"] / present["a"], 0.3, present["a"])
    within(wrong["b"] / absent["b"], 0.1, absent["b"])
    within(wrong["c"] / absent["c"], 0.02, absent["c"])
    assert missing["b"] == wrong["a"] == 0


@pytest.mark.parametrize("default", [0.0, np.nan])
def test_confusion_names_the_other_class(default):
    labels = clean(default)
    confusion = pd.DataFrame([[0.6, 0.27, 0.09], [0.0, 0.7, 0.18]], index=["a", "b"], columns=["a", "b", "c"])
    noisy = inject(labels, missing=0.5, confusion=confusion, rng=np.random.default_rng(0)).frame()
    was = labels.frame()
    a, b = was.index[was["a"] == 1], was.index[was["b"] == 1]
    within((noisy.loc[a, "b"] == 1).mean(), 0.27, len(a))
    within((noisy.loc[a, "c"] == 1).mean(), 0.09, len(a))
    within((noisy.loc[b, "c"] == 1).mean(), 0.18, len(b))
    within((noisy.loc[a, "a"] == 1).mean(), (1 - 0.36) * 0.5, len(a))  # not confused and not missed
    assert (noisy.loc[a, ["a", "b", "c"]].sum(axis=1) <= 1).all()
    assert noisy["a"].isna().equals(was["a"].isna())


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from([0.0, np.nan]),
    st.integers(0, 99),
)
def test_certain_noise_turns_every_judged_cell_around(rows, default, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rows, index=[f"s{i}" for i in range(len(rows))], columns=["a", "b", "c"])
    labels = Labels.from_frame(frame, default)
    assert inject(labels, rng=rng) == labels
    assert inject(labels, missing=1.0, wrong=1.0, rng=rng) == Labels.from_frame(1 - frame, default)
    swap = pd.DataFrame([[0.0, 1.0], [1.0, 0.0]], index=["a", "b"], columns=["a", "b"])
    expected = frame.copy()
    for name, other in (("a", "b"), ("b", "a")):  # present where the other is, absent where it moved away from
        expected[name] = np.where(frame[name].isna(), np.nan, (frame[other] == 1).astype(float))
    assert inject(labels, missing={"a": 1.0}, confusion=swap, rng=rng) == Labels.from_frame(expected, default)


def test_injection_refuses_nonsense():
    labels, rng = clean(0.0, 30), np.random.default_rng(0)
    with pytest.raises(AudiotkError, match="missing: 'd' is not among"):
        inject(labels, missing={"d": 0.1}, rng=rng)
    with pytest.raises(AudiotkError, match="wrong: expected"):
        inject(labels, wrong={"a": 1.1}, rng=rng)
    with pytest.raises(AudiotkError, match=r"row 'b'.*at most 1"):
        inject(labels, confusion=pd.DataFrame([[0.8, 0.3]], index=["b"], columns=["a", "c"]), rng=rng)


# --- a teacher --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auc", [0.5, 0.8, 0.95])
def test_a_teacher_has_the_stated_quality_and_is_calibrated(auc):
    truth = inject(clean(0.0, 20000).select(classes=["b", "c"]), wrong={"c": 0.02}, rng=np.random.default_rng(0))
    scores = simulate_teacher(truth, auc, np.random.default_rng(1))
    assert scores.index.equals(truth.segments)
    there = truth.frame() == 1
    for name in truth.classes:
        assert roc_auc_score(there[name], scores[name]) == pytest.approx(auc, abs=0.04)
    for name, spread in (("b", 0.02), ("c", 0.01)):
        parts = pd.qcut(scores[name], 5, labels=False, duplicates="drop")
        shares = pd.DataFrame({"said": scores[name], "is": there[name]}).groupby(parts).mean()
        np.testing.assert_allclose(shares["said"], shares["is"], atol=spread)


@pytest.mark.parametrize("default", [0.0, np.nan])
def test_a_teacher_repeats_the_errors_of_labels(default):
    truth = inject(clean(0.0).select(classes=["b", "c"]), wrong={"c": 0.2}, rng=np.random.default_rng(0))
    labels = inject(truth, missing=0.3, wrong=0.1, rng=np.random.default_rng(2)).frame()
    labels.iloc[::7] = np.nan  # unknown: no error, so nothing is repeated
    known, tri = labels.notna().to_numpy(), Labels.from_frame(labels, default)
    expected = np.where(known, labels, truth.frame())
    own, all_repeated, half = (
        simulate_teacher(truth, 0.95, np.random.default_rng(1), tri, share).to_numpy() for share in (0.0, 1.0, 0.5)
    )
    for place in range(2):
        assert roc_auc_score(expected[:, place], all_repeated[:, place]) == pytest.approx(0.95, abs=0.02)
        assert roc_auc_score(truth.dense()[:, place], own[:, place]) == pytest.approx(0.95, abs=0.02)
    errors = expected != truth.dense()
    np.testing.assert_array_equal(half[~errors], own[~errors])
    within((half != own)[errors].mean(), 0.5, errors.sum())


def test_a_teacher_refuses_nonsense():
    truth, rng = clean(0.0, 30), np.random.default_rng(0)
    with pytest.raises(AudiotkError, match="the truth holds unknown cells"):
        simulate_teacher(truth, 0.9, rng)
    truth = truth.select(classes=["b", "c"])
    with pytest.raises(AudiotkError, match=r"expected 0\.5 <= auc < 1.*got 1\.0"):
        simulate_teacher(truth, 1.0, rng)
    with pytest.raises(AudiotkError, match="in the same order"):
        simulate_teacher(truth, 0.9, rng, truth.select(classes=["c", "b"]), 0.5)


# --- quality of repairs -----------------------------------------------------------------------------------------------


def quality_twin(truth, before, after):
    """Textbook: one loop over the cells of one class."""
    n = dict.fromkeys(
        ["judged", "missing", "wrong", "corrected", "corrected_right", "repaired", "masked", "masked_errors", "left"], 0
    )
    for t, b, a in zip(truth, before, after, strict=True):
        if np.isnan(t):
            continue
        known_b, known_a = not np.isnan(b), not np.isnan(a)
        n["judged"] += known_b
        error = known_b and b != t
        n["missing"] += error and t == 1
        n["wrong"] += error and t == 0
        changed = known_a and a != b  # NaN != a is true
        n["corrected"] += changed
        n["corrected_right"] += changed and a == t
        n["repaired"] += error and known_a and a == t
        n["masked"] += known_b and not known_a
        n["masked_errors"] += error and not known_a
        n["left"] += known_a and a != t
    return n


tri = st.sampled_from([0.0, 1.0, np.nan])
default = st.sampled_from([0.0, np.nan])


@given(st.lists(st.lists(tri, min_size=6, max_size=6), min_size=1, max_size=20), default, default, default)
def test_quality_against_a_loop(rows, of_truth, of_before, of_after):
    values = np.array(rows)
    index, names = [f"s{i}" for i in range(len(rows))], ["a", "b"]
    frames = [pd.DataFrame(values[:, 2 * k : 2 * k + 2], index=index, columns=names) for k in range(3)]
    shuffled = [frames[0], frames[1].loc[index[::-1], ["b", "a"]], frames[2]]
    found = repair_quality(*map(Labels.from_frame, shuffled, (of_truth, of_before, of_after)))
    twins = {name: quality_twin(*(frame[name] for frame in frames)) for name in names}
    twins["(all)"] = {key: twins["a"][key] + twins["b"][key] for key in twins["a"]}
    nothing = {0: np.nan}
    for name, n in twins.items():
        errors = n["missing"] + n["wrong"]
        n["correction_precision"] = n["corrected_right"] / nothing.get(n["corrected"], n["corrected"])
        n["correction_recall"] = n["repaired"] / nothing.get(errors, errors)
        n["mask_precision"] = n["masked_errors"] / nothing.get(n["masked"], n["masked"])
        n["mask_recall"] = n["masked_errors"] / nothing.get(errors, errors)
        n["chance"] = errors / nothing.get(n["judged"], n["judged"])
        if name == "(all)":
            masked = {key: n_of["masked"] * np.nan_to_num(n_of["chance"]) for key, n_of in twins.items() if key != name}
            n["chance"] = sum(masked.values()) / nothing.get(n["masked"], n["masked"])
        pd.testing.assert_series_equal(found.loc[name], pd.Series(n), check_names=False, check_dtype=False)
    both = found.loc[names].to_numpy()
    some = ~np.isnan(both).all(axis=0)
    np.testing.assert_allclose(found.loc["(mean)"].to_numpy()[some], np.nanmean(both[:, some], axis=0))


def test_quality_of_known_rules():
    truth = clean(0.0)
    noisy = inject(truth, missing=0.2, wrong=0.05, rng=np.random.default_rng(0))
    perfect = repair_quality(truth, noisy, truth).loc["(all)"]
    assert perfect["correction_precision"] == perfect["correction_recall"] == 1
    assert perfect["left"] == 0 == perfect["masked"]
    all_masked = Labels.from_frame(truth.frame() * np.nan)
    masked = repair_quality(truth, noisy, all_masked).loc["(all)"]
    assert masked["mask_recall"] == 1
    assert masked["mask_precision"] == pytest.approx(masked["chance"])
    nothing = repair_quality(truth, noisy, noisy).loc["(all)"]
    assert nothing[["corrected", "masked"]].tolist() == [0, 0]
    assert nothing["left"] == nothing["missing"] + nothing["wrong"] > 0


def test_a_class_that_labels_lack_has_their_default():
    truth = clean(0.0, 30)
    part = truth.select(classes=["a", "b"])
    table = repair_quality(truth, part, truth)
    assert table.loc["c", "judged"] == 30
    assert table.loc["(all)", "corrected"] == 0
    with pytest.raises(AudiotkError, match="the truth says nothing about 1 class"):
        repair_quality(part, truth, truth)
    with pytest.raises(AudiotkError, match="expected the 30 segments"):
        repair_quality(truth, truth.select(truth.segments[:5]), truth)
