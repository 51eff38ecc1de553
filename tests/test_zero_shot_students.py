"""Students of a zero-shot teacher: their labels, test recordings that choose nothing, and numbers by a plain way."""

import numpy as np
import pandas as pd
import pytest

from audiotk import metrics, stats
from audiotk.experiments import zero_shot
from audiotk.experiments import zero_shot_students as students
from audiotk.experiments.zero_shot_students import CORRECTED, HUMAN, STUDENTS, TEACHER, ZERO_SHOT
from audiotk.results import append_results, read_results
from audiotk.teachers.readings import common_threshold


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    dataset = zero_shot.load("embedded", "", "smoke")
    return zero_shot.run(dataset, "examples", "", "", [0, 1], tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def taught(outcome, tmp_path_factory):
    return students.run(outcome, "smoke", [0, 1], tmp_path_factory.mktemp("students"), jobs=1)


def test_labels_are_what_the_teacher_says_above_its_threshold(outcome, taught):
    for seed, asked in outcome.asked.items():
        labels = taught.taught[ZERO_SHOT, seed]
        recordings = outcome.dataset.part("train")
        assert len(labels.segments) == len(recordings)
        reading = next(iter(asked.readings().values()))
        level = common_threshold(asked.scores("val", reading), asked.truth["val"])
        windows = students.make_windows(recordings, students.window_s(outcome.dataset))
        heard = zero_shot.ask(
            outcome.dataset, asked.teacher, asked.prompts, windows, outcome.out / "heard", ["train"]
        ).scores("train", reading)
        pd.testing.assert_frame_equal(
            labels.frame() == 1, heard.loc[labels.segments, labels.classes] > level, check_names=False
        )


def test_correction_only_adds_or_hides(taught):
    """P1's best rule touches absent cells only, and the human labels are those of the data set."""
    for seed in taught.seeds:
        before, after = (taught.taught[arm, seed].dense() for arm in (ZERO_SHOT, CORRECTED))
        assert (after[before == 1] == 1).all()
        assert taught.taught[HUMAN, seed] == taught.truth["train"]


def test_numbers_are_those_of_the_metrics(taught):
    table = students.table(taught).set_index("arm")["value"]
    classes = students.by_class(taught)
    for arm in (*STUDENTS, TEACHER):
        each = [
            metrics.mean_average_precision(taught.scores[arm, s]["test"], taught.truth["test"]) for s in taught.seeds
        ]
        assert table[arm] == pytest.approx(np.mean(each))
        assert classes.loc[arm].mean() == pytest.approx(np.mean(each))
    quality = students.label_quality(taught)
    assert quality.loc[HUMAN].tolist() == [1.0, 1.0, pytest.approx(np.isnan(taught.truth["train"].dense()).mean())]
    truth, labels = taught.truth["train"].frame(), [taught.taught[ZERO_SHOT, seed].frame() for seed in taught.seeds]
    recall = np.mean([((one == 1) & (truth == 1)).to_numpy().sum() / (truth == 1).to_numpy().sum() for one in labels])
    assert quality.loc[ZERO_SHOT, "recall"] == pytest.approx(recall)


def test_claims(taught, tmp_path):
    table = students.table(taught).set_index("arm")["value"]
    ledger = students.claims(taught, "embedded", "demo")
    both = [table[HUMAN] - table[ZERO_SHOT], table[CORRECTED] - table[ZERO_SHOT]]
    assert ledger.loc["P1.4", "value"] == pytest.approx(min(both))
    assert ledger.loc["P1.4", "verdict"] == stats.INCONCLUSIVE  # two seeds
    assert ledger.loc["P1.5", "verdict"] == stats.NEEDS_DATA  # a teacher without a network has no size
    append_results(tmp_path, students.results(taught, students.table(taught), ledger, "embedded", "demo"))
    assert {"P1.4", "zero-shot teacher: students"} == set(read_results(tmp_path)["experiment"])


def test_a_large_teacher_is_compared_in_classes_chosen_on_validation(taught, monkeypatch):
    monkeypatch.setattr(students, "parameters", lambda _: 1e9)
    classes = students.ahead(taught)
    gains = {
        name: np.mean(
            [
                metrics.average_precision(taught.scores[CORRECTED, s]["val"], taught.truth["val"]).loc[name, "ap"]
                - metrics.average_precision(taught.scores[TEACHER, s]["val"], taught.truth["val"]).loc[name, "ap"]
                for s in taught.seeds
            ]
        )
        for name in taught.truth["val"].classes
    }
    assert set(classes) <= {name for name, gain in gains.items() if gain > 0}
    found = students.effects(taught)["P1.5"]
    if not classes:
        assert found is None
        return
    table = students.by_class(taught)
    assert found.value == pytest.approx((table.loc[CORRECTED, classes] - table.loc[TEACHER, classes]).mean())


def test_cost_is_side_by_side(taught):
    table = students.cost(taught, 2)
    assert table.index.tolist() == ["teacher: examples", "student: melcnn"]
    assert table.loc["student: melcnn", "parameters"] < 40_000
    assert (table["seconds of sound per second"] > 0).all()
    assert students.recipe("paper", 10.0).model == "acdnet"
