"""Notebook 06: equal steps, controls that are what they say, repairs by the rules, numbers that can be traced."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from scipy.stats import kendalltau
from small_mixtures import small_case, tones_without

from audiotk import metrics, noise, paper_figures, relabel, stats
from audiotk.experiments import label_correction as experiment
from audiotk.experiments import polyphony, run_folder
from audiotk.results import append_results, read_results
from audiotk.tables import Labels
from audiotk.teachers.readings import common_threshold

TINY = {**experiment.QUICK, "epochs": 1, "model_options": {"mels": 16, "n_fft": 512, "hop": 512, "width": 0.25}}


def test_the_mark_of_chance_leaves_the_number_of_a_bar_free():
    numbers = {"mask_precision": [0.04, 0.5, np.nan], "chance": [0.1, 0.1, np.nan], "correction_precision": np.nan}
    figure = paper_figures.repairs(pd.DataFrame({**numbers, "errors": 9, "left": 8}, index=["a", "b", "c"]))
    place = {text.get_text(): text.get_position()[0] for text in figure.axes[1].texts}
    assert place == {"4%": pytest.approx(0.14), "50%": pytest.approx(0.54), "none": pytest.approx(0.04)}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    out = tmp_path_factory.mktemp("label_correction")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "QUICK", TINY)
        return experiment.run(small_case(out), "smoke", [0, 1], out, jobs=1)


def noisy(n=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.choice([1.0, 0.0, np.nan], size=(n, classes), p=[0.2, 0.7, 0.1])
    names = [f"s{k}" for k in range(n)]
    columns = [f"c{k}" for k in range(classes)]
    scores = pd.DataFrame(rng.random((n, classes)) ** rng.uniform(0.3, 3, classes), index=names, columns=columns)
    return Labels.from_frame(pd.DataFrame(values, index=names, columns=columns)), scores


# --- the labels -------------------------------------------------------------------------------------------------------


def test_random_mask_hides_as_many_absent_cells_of_each_class_and_nothing_else():
    given, scores = noisy()
    rule = relabel.correct(given, scores).labels
    masked = experiment.random_mask(given, rule, np.random.default_rng(1))
    before, after, by_rule = given.frame(), masked.frame(), rule.frame()
    changed = (before == 0) & ~(after == 0)
    assert (changed.sum() == ((before == 0) & ~(by_rule == 0)).sum()).all()
    assert changed.sum().nunique() > 1  # rates differ between classes
    assert after.where(changed).isna().all(axis=None)
    pd.testing.assert_frame_equal(after.where(~changed), before.where(~changed))
    chosen = [experiment.random_mask(given, rule, np.random.default_rng(k)).frame().isna() for k in range(200)]
    share = sum(one.astype(float) for one in chosen) / 200
    rate = changed.sum() / (before == 0).sum()
    for name in before:  # each absent cell as often as any other
        assert share.loc[before[name] == 0, name].std() < 0.06
        assert share.loc[before[name] == 0, name].mean() == pytest.approx(rate[name], abs=1e-9)
    assert masked == experiment.random_mask(given, rule, np.random.default_rng(1))


def test_rows_of_table_2_are_the_rules_of_the_papers():
    """Textbook twin: each rule cell by cell, from its words."""
    given, seen = noisy()
    _, unseen = noisy(seed=5)
    made = experiment.repaired(given, seen, unseen, np.random.default_rng(0))
    assert set(made) == {*experiment.ROWS, experiment.RANDOM, experiment.FOLDS} - {experiment.RAW}
    y, p = given.frame().astype(float), seen.astype(float)
    absent, present = y == 0, y == 1
    missing = y.mask(absent & (p > 0.95), 1.0)
    both = missing.mask(present & (p < 0.05), 0.0)
    unsure = absent & (p > 0.5) & (p < 0.95)
    expected = {
        "correct missing": missing,
        "correct both": both,
        "correct + mask missing": missing.mask(unsure),
        "correct + mask both": both.mask(unsure | (present & (p > 0.05) & (p < 0.5))),
        "mean threshold, any class": y.mask(absent & (p > p.where(present).mean()), 1.0),
    }
    highest = pd.DataFrame(False, index=y.index, columns=y.columns)
    for name in y:
        count = int(np.ceil(0.05 * absent[name].sum()))
        highest.loc[p.loc[absent[name], name].nlargest(count).index, name] = True
    expected |= {"percentile, mask": y.mask(highest), "percentile, correct": y.mask(highest, 1.0)}
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(made[name].frame().astype(float), frame, check_names=False, obj=name)
    assert made[experiment.FOLDS] == relabel.correct(given, unseen).labels


def test_out_of_fold_teachers_never_heard_what_they_score(tmp_path, monkeypatch):
    case = small_case(tmp_path)
    config = experiment.config_of(case.seconds, "smoke")
    calls = []

    def without_training(arms, val, score_on, seeds, out, jobs=None):
        (arm,), asked = arms, score_on["asked"]
        calls.append((arm, asked))
        scores = pd.DataFrame(0.5, index=asked.segments["segment"], columns=arm.labels.classes)
        return {(arm.name, seeds[0]): {"asked": scores}}

    monkeypatch.setattr(experiment, "train_arms", without_training)
    scores = experiment.out_of_fold(case, config, 3, tmp_path)
    assert scores.index.tolist() == case.given.segments.tolist()
    assert len(calls) == experiment.N_FOLDS
    train = case.material["train"]
    sound = dict(zip(train.segments["segment"], train.waves, strict=True))
    for arm, asked in calls:
        known = arm.material
        assert set(known.segments["group"]).isdisjoint(asked.segments["group"])
        assert known.segments["segment"].tolist() == arm.labels.segments.tolist()
        assert arm.config.epoch_size == len(train.segments)  # half the data, as many steps
        for part in (known, asked):
            for name, wave in zip(part.segments["segment"], part.waves, strict=True):
                np.testing.assert_array_equal(wave, sound[name])


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_arms_take_equally_many_steps_but_the_one_that_takes_twice(outcome):
    n, steps = len(outcome.case.given.segments), {}
    for arm in outcome.arms:
        config = json.loads((run_folder(outcome.folder / "runs", arm, 1) / "config.json").read_text())
        steps[arm] = config["epochs"] * -(-(config["epoch_size"] or n) // config["batch_size"])
        assert config["sequences"] is None  # the quick variant that is shipped mixes within a batch
        assert config["mix"] == "join"
        history = (run_folder(outcome.folder / "runs", arm, 1) / "history.jsonl").read_text().splitlines()
        assert len(history) == config["epochs"]
    assert steps.pop(experiment.TWICE) == 2 * steps[experiment.RAW]
    assert set(steps.values()) == {steps[experiment.RAW]}
    assert set(outcome.arms) == {
        *experiment.ROWS, experiment.TWICE, experiment.RANDOM, experiment.FOLDS, experiment.TRUE
    }  # fmt: skip


def test_at_paper_scale_no_arm_stops_early():
    """P1's plateau with an early stop would make "twice as long" the same run as "raw labels", bit for bit."""
    config = experiment.config_of(10.0, "paper")
    assert (config.schedule, config.stop_after, config.epochs) == ("plateau", None, 600)
    longer = experiment.twice(config)
    assert (longer.stop_after, longer.epochs) == (None, 1200)


def test_numbers_are_those_of_the_metrics(outcome):
    truth, summary = outcome.case.truth, experiment.table(outcome).set_index(["metric", "arm"])
    y = truth["test"].frame()
    for arm in (experiment.RAW, experiment.BEST):
        every = [outcome.scores[arm, seed] for seed in outcome.seeds]
        maps = [metrics.mean_average_precision(one["test"], truth["test"]) for one in every]
        right = []
        for one in every:
            level = common_threshold(one["val"], truth["val"])  # never chosen on test
            right.append(((one["test"].loc[y.index, y.columns] > level) == (y == 1)).mean().mean())
        assert summary.loc[("mAP", arm), "value"] == pytest.approx(np.mean(maps))
        assert summary.loc[("accuracy", arm), "value"] == pytest.approx(np.mean(right))
    apart = summary.loc[("mAP", experiment.BEST)]
    assert apart["difference"] == pytest.approx(apart["value"] - summary.loc[("mAP", experiment.RAW), "value"])
    assert summary.loc[("mAP", experiment.RAW), ["difference", "difference_low", "difference_high"]].tolist() == [
        0,
        0,
        0,
    ]


def test_a_class_that_nobody_can_learn_is_left_out_by_name(tmp_path, monkeypatch):
    lost = [("val", "high"), ("train", "low")]
    dataset = tones_without(tmp_path / "tones", lost)
    monkeypatch.setattr(polyphony.datasets, "load", lambda *_, **__: dataset)
    monkeypatch.setattr(experiment, "QUICK", TINY)
    with pytest.warns(UserWarning, match=r"left out are 'low' .*, 'high' \(nowhere present in validation\)"):
        case = experiment.load("esc50", "", "smoke", tmp_path)
    found = experiment.run(case, "smoke", [0], tmp_path, jobs=1)
    assert {tuple(labels.classes) for labels in found.labels.values()} == {("middle",)}
    assert experiment.table(found)["value"].notna().all()
    assert experiment.claims(found, "esc50", "smoke")["value"].notna().all()


def test_printed_numbers_are_those_of_table_2(outcome):
    words = experiment.words(experiment.table(outcome))
    assert words.loc[experiment.BEST, ["accuracy, P1", "mAP, P1"]].tolist() == ["0.899", "0.767"]
    assert words.loc["percentile, correct", ["accuracy, P1", "mAP, P1"]].tolist() == ["0.864", "0.720"]
    assert words.loc[experiment.RANDOM, "mAP, P1"] == ""
    apart = experiment.differences(experiment.table(outcome))
    assert apart.loc[experiment.BEST, "printed"] == pytest.approx(0.026)
    assert apart.loc["percentile, correct", "printed"] == pytest.approx(-0.021)
    assert np.isnan(apart.loc[experiment.TRUE, "printed"])


def test_quality_is_that_of_the_labels_the_students_got(outcome):
    found = experiment.quality(outcome)
    truth, given = outcome.case.truth["train"], outcome.case.given
    own = [
        noise.repair_quality(truth, given, outcome.labels["percentile, mask", seed]).loc["(all)"]
        for seed in outcome.seeds
    ]
    assert found.loc["percentile, mask", "masked"] == pytest.approx(np.mean([one["masked"] for one in own]))
    assert found.loc["percentile, mask", "left"] == pytest.approx(np.mean([one["left"] for one in own]))
    assert (found["errors"] == found["errors"].iloc[0]).all()
    assert experiment.TRUE not in found.index


def test_controls_are_compared_with_what_they_control(outcome):
    found, own = experiment.against_controls(outcome), experiment.table(outcome).set_index(["metric", "arm"])["value"]
    pairs = {
        (experiment.BEST, experiment.RANDOM), (experiment.BEST, experiment.TWICE),
        (experiment.BEST, experiment.FOLDS), (experiment.RAW, experiment.TRUE),
    }  # fmt: skip
    assert set(found.index) == {f"{arm} minus {baseline}" for arm, baseline in pairs}
    for arm, baseline in pairs:
        line = found.loc[f"{arm} minus {baseline}"]
        assert line["value"] == pytest.approx(own["mAP", arm] - own["mAP", baseline])
        assert line["low"] <= line["value"] <= line["high"]
    unknown = replace(outcome, scores={key: one for key, one in outcome.scores.items() if key[0] != experiment.TRUE})
    assert set(found.index) - set(experiment.against_controls(unknown).index) == {
        f"{experiment.RAW} minus {experiment.TRUE}"
    }


@pytest.mark.parametrize("rival", ["RAW", "RANDOM"])
def test_the_best_has_to_beat_raw_labels_and_a_random_mask(outcome, rival):
    """Whichever of the two is as good as "correct + mask missing", the effect of P1.3b is none."""
    best, other = experiment.BEST, getattr(experiment, rival)
    truth = outcome.case.truth
    ideal = {split: truth[split].frame().astype(float) for split in ("val", "test")}
    scores = {key: ({split: 1 - one for split, one in ideal.items()}) for key in outcome.scores}
    scores |= {(arm, seed): ideal for arm in (best, other) for seed in outcome.seeds}
    line = experiment.claims(replace(outcome, scores=scores), "esc50", "demo").loc["P1.3b"]
    assert line[["value", "low", "high"]].tolist() == [0, 0, 0]
    scores |= {(other, seed): scores["correct both", seed] for seed in outcome.seeds}
    line = experiment.claims(replace(outcome, scores=scores), "esc50", "demo").loc["P1.3b"]
    assert line["low"] > 0


def test_claims_and_results_fit_together(outcome, tmp_path):
    rival = experiment.runner_up(outcome)
    assert rival in experiment.ROWS
    assert rival != experiment.BEST
    summary, ledger = experiment.table(outcome), experiment.claims(outcome, "esc50", "smoke")
    assert ledger.index.tolist() == ["P1.3a", "P1.3b", "P1.3c", "P1.3d"]
    assert set(ledger["verdict"]) == {stats.INCONCLUSIVE}  # smoke, and two seeds
    controls = experiment.against_controls(outcome)
    ends = summary.set_index(["metric", "arm"]).loc[("mAP", "percentile, correct")]
    assert ledger.loc["P1.3a", ["low", "high"]].tolist() == ends[["difference_low", "difference_high"]].tolist()
    append_results(tmp_path, experiment.results(outcome, summary, controls, ledger, "esc50", "smoke"))
    rows = read_results(tmp_path)
    value = rows[rows["metric"] == "mAP"].set_index(["experiment", "arm"])["value"]
    own = value[experiment.EXPERIMENT]
    name = f"{experiment.BEST} minus the best of {experiment.RAW} and {experiment.RANDOM}"
    least = own[experiment.BEST] - max(own[experiment.RAW], own[experiment.RANDOM])
    assert value["P1.3b", name] == ledger.loc["P1.3b", "value"] == pytest.approx(least)
    for arm in set(outcome.arms) - {experiment.RAW}:
        assert own[f"{arm} minus {experiment.RAW}"] == pytest.approx(own[arm] - own[experiment.RAW])
    assert own[controls.index].tolist() == controls["value"].tolist()
    assert value["P1.3c", f"{experiment.BEST} minus {rival}"] == pytest.approx(own[experiment.BEST] - own[rival])
    assert rows.set_index("experiment").loc["P1.3d", "value"] == ledger.loc["P1.3d", "value"]
    assert set(rows.loc[rows["split"] == "train", "metric"]) >= {"mask precision", "correction precision"}


def test_the_order_of_table_2_is_that_of_the_printed_map(outcome):
    """Scores of graded quality in the printed order give 1, in the reverse order -1, and ours what scipy says."""
    truth = outcome.case.truth["test"].frame().astype(float)
    noise_of_all = np.random.default_rng(0).normal(size=truth.shape)
    rank = pd.Series({arm: printed[1] for arm, printed in experiment.PRINTED.items()}).rank()

    def graded(quality):
        scores = {
            (arm, seed): {**outcome.scores[arm, seed], "test": truth * quality[arm] + noise_of_all}
            for arm in experiment.ROWS
            for seed in outcome.seeds
        }
        return experiment.claims(replace(outcome, scores=scores | others), "esc50", "demo").loc["P1.3d"]

    others = {key: one for key, one in outcome.scores.items() if key[0] not in experiment.ROWS}
    assert graded(rank / 4)["value"] == pytest.approx(1)
    assert graded(-rank / 4)["value"] == pytest.approx(-1)
    found = experiment.statistics(outcome)["mAP"]
    taus = [kendalltau([found[arm][seed].value() for arm in experiment.ROWS], list(rank))[0] for seed in outcome.seeds]
    assert experiment.claims(outcome, "esc50", "demo").loc["P1.3d", "value"] == pytest.approx(np.mean(taus))


def test_with_one_seed_rows_name_it_and_nothing_is_concluded(outcome, tmp_path):
    def of_one(mapping):
        return {key: one for key, one in mapping.items() if key[1] == 1}

    single = replace(outcome, seeds=[1], scores=of_one(outcome.scores), labels=of_one(outcome.labels))
    summary, ledger = experiment.table(single), experiment.claims(single, "esc50", "demo")
    truth, unit = outcome.case.truth["test"], outcome.case.unit
    alone = stats.bootstrap_map(outcome.scores[experiment.RAW, 1]["test"], truth, unit, np.random.default_rng(0))
    line = summary.set_index(["metric", "arm"]).loc[("mAP", experiment.RAW)]
    assert line[["value", "low", "high"]].tolist() == pytest.approx([alone.value, alone.low, alone.high], abs=0.05)
    assert set(ledger["verdict"]) == {stats.INCONCLUSIVE}
    controls = experiment.against_controls(single)
    append_results(tmp_path, experiment.results(single, summary, controls, ledger, "esc50", "demo"))
    assert set(read_results(tmp_path)["seed"]) == {1}


def test_the_figure_hides_no_interval():
    table = pd.DataFrame(
        {
            "difference": [0.0, 0.1, -0.05, 0.5, -0.6],
            "low": [0.0, np.nan, -0.5, 0.45, -0.7],
            "high": [0.0, np.nan, 0.1, 0.55, -0.5],
            "printed": [0.0, 0.02, np.nan, 0.1, np.nan],
        },
        index=["base", "unbounded", "to the left", "beyond, right", "beyond, left"],
    )
    (axes,) = paper_figures.against_baseline(table, "base").axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    dotted = [
        names[round(part[0][1])]
        for lines in axes.collections if isinstance(lines, LineCollection) and lines.get_linestyle()[0][1] is not None
        for part in lines.get_segments()
    ]  # fmt: skip
    assert dotted == ["unbounded"]
    arrows = [
        (names[round(y)], x)
        for marks in axes.collections if isinstance(marks, PathCollection)
        for x, y in marks.get_offsets()
    ]  # fmt: skip
    assert arrows == [
        ("to the left", -0.3), ("beyond, left", -0.3), ("beyond, right", 0.3)
    ]  # fmt: skip
    assert axes.get_xlim() == (-0.3, 0.3)
