"""Students of a zero-shot teacher: their labels, test recordings that choose nothing, and numbers by a plain way."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from toy_teacher import Toy, ToyTagger

from audiotk import metrics, stats
from audiotk.augment import Sources
from audiotk.experiments import polyphony, quickstart, zero_shot, zero_shot_cost
from audiotk.experiments import zero_shot_students as students
from audiotk.experiments.polyphony import MISSING, WRONG
from audiotk.experiments.zero_shot_students import CORRECTED, HUMAN, STUDENTS, TEACHER, TRUE, ZERO_SHOT
from audiotk.models import build, count_macs, count_parameters
from audiotk.results import append_results, read_results
from audiotk.shards import StoredWaves
from audiotk.tables import Labels, make_windows
from audiotk.teachers.readings import common_threshold
from audiotk.train import TrainConfig


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    dataset = zero_shot.load("embedded", "", "smoke", tmp_path_factory.mktemp("data"))
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
        windows = make_windows(recordings, students.window_s(outcome.dataset))
        heard = zero_shot.ask(
            outcome.dataset, asked.teacher, asked.prompts, windows, outcome.out / "heard", ["train"]
        ).scores("train", reading)
        pd.testing.assert_frame_equal(
            labels.frame() == 1, heard.loc[labels.segments, labels.classes] > level, check_names=False
        )


def test_numbers_do_not_depend_on_the_number_of_jobs(outcome, taught, tmp_path):
    """Both seeds at once, in processes, as one after the other, bit for bit; and torch is left with its threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = students.run(outcome, "smoke", [1], tmp_path / "alone", jobs=1)
        assert torch.get_num_threads() == 2
        both = students.run(outcome, "smoke", [0, 1], tmp_path / "both", jobs=2)
    finally:
        torch.set_num_threads(threads)
    for found in (both, taught):
        for arm in (*STUDENTS, TEACHER):
            for split, scores in alone.scores[arm, 1].items():
                pd.testing.assert_frame_equal(found.scores[arm, 1][split], scores, check_exact=True)


def test_people_err_at_the_stated_rates(outcome, taught):
    assert students.STUDENTS == (TRUE, HUMAN, ZERO_SHOT, CORRECTED)
    for seed in taught.seeds:
        assert taught.taught[TRUE, seed] == taught.truth["train"]
        assert taught.taught[HUMAN, seed] == taught.taught[HUMAN, taught.seeds[0]]
    best = Labels.from_frame(pd.DataFrame(np.random.default_rng(1).random((4000, 3)) < 0.3, dtype=float))
    given = students.human(outcome.dataset, best)
    assert given[TRUE] is best
    x, y = given[HUMAN].dense(), best.dense()
    assert (x[y == 1] == 0).mean() == pytest.approx(MISSING, abs=0.02)
    assert (x[y == 0] == 1).mean() == pytest.approx(WRONG, abs=0.005)
    dataset = outcome.dataset
    notes = dataset.annotations
    noisy = replace(dataset, annotations=notes[notes["source"] != "truth"], sources=dataset.sources.drop(index="truth"))
    assert students.human(noisy, best) == {HUMAN: best}


def test_correction_only_adds_or_hides(taught):
    """P1's best rule touches absent cells only."""
    for seed in taught.seeds:
        before, after = (taught.taught[arm, seed].dense() for arm in (ZERO_SHOT, CORRECTED))
        assert (after[before == 1] == 1).all()
        assert (before != after).any()


def test_it_is_said_how_much_the_correction_changed(taught):
    before = pd.DataFrame([[1.0, 0.0, 0.0, 0.0, 0.0]] * 2)
    after = [pd.DataFrame([[1.0, 1.0, np.nan, np.nan, 0.0], row]) for row in ([1.0, 1.0, 1.0, 0.0, 0.0], before.loc[0])]
    made = {(ZERO_SHOT, seed): Labels.from_frame(before) for seed in taught.seeds}
    made |= {(CORRECTED, seed): Labels.from_frame(one) for seed, one in zip(taught.seeds, after, strict=True)}
    told = students.correction_words(replace(taught, taught=made))
    assert told.startswith("Mean over seeds: of 10 cells the correction added a class in 2 (20.0%) and made 2 (20.0%) ")
    assert "what P1.4 measures is the mask" in told


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
    assert quality.loc[TRUE].tolist() == [1.0, 1.0, pytest.approx(np.isnan(taught.truth["train"].dense()).mean())]
    assert 0.5 < quality.loc[HUMAN, "recall"] < 0.9
    truth, labels = taught.truth["train"].frame(), [taught.taught[ZERO_SHOT, seed].frame() for seed in taught.seeds]
    recall = np.mean([((one == 1) & (truth == 1)).to_numpy().sum() / (truth == 1).to_numpy().sum() for one in labels])
    assert quality.loc[ZERO_SHOT, "recall"] == pytest.approx(recall)


@pytest.mark.parametrize(("ends", "shown"), [((-0.2, 1.5), (0.0, 1.0)), ((np.nan, np.nan), (np.nan, np.nan))])
def test_no_interval_reaches_past_what_is_possible(ends, shown, outcome, taught, monkeypatch):
    """Average precision and F1 lie in 0 ... 1, whatever the spread over a few seeds; an unbounded interval stays so."""
    for module in (quickstart, zero_shot, students):
        monkeypatch.setattr(module, "mean_over_seeds", lambda *_: stats.Interval(0.8, *ends, 0.95, 5))
    compared = zero_shot.compare(outcome)
    assert set(compared["metric"]) == {"mAP", "macro F1"}
    for table in (compared, zero_shot.by_class(outcome), students.table(taught)):
        np.testing.assert_array_equal(table[["low", "high"]], [shown] * len(table))


def test_claims(taught, tmp_path):
    table = students.table(taught).set_index("arm")["value"]
    ledger = students.claims(taught, "embedded", "demo")
    both = [table[HUMAN] - table[ZERO_SHOT], table[CORRECTED] - table[ZERO_SHOT]]
    assert ledger.loc["P1.4", "value"] == pytest.approx(min(both))
    assert ledger.loc["P1.4", "verdict"] == stats.INCONCLUSIVE  # two seeds
    assert ledger.loc["P1.5", "verdict"] == stats.NEEDS_DATA  # a teacher without a network has no size
    quality, spent = students.label_quality(taught), students.cost(taught, 2)
    rows = students.results(taught, students.table(taught), quality, spent, ledger, "embedded", "demo")
    append_results(tmp_path, rows)
    back = read_results(tmp_path).set_index(["experiment", "arm", "metric"])["value"]
    what = ["students", "training labels", "cost"]
    assert {"P1.4", *(f"zero-shot teacher: {one}" for one in what)} == set(back.index.get_level_values(0))
    for part, table in (("training labels", quality), ("cost", spent)):
        for (arm, metric), value in table.stack(future_stack=True).items():
            assert back[f"zero-shot teacher: {part}", arm, metric] == pytest.approx(value, nan_ok=True)


def by_hand(columns, names="abcd"):
    """Scores that rank the one present segment of four at a place (1: first), so that its AP is 1 / place."""
    rows = [[1.0 if k == 0 else 0.5 + (k < place) for place in columns.values()] for k in range(4)]
    return pd.DataFrame(rows, index=list(names), columns=list(columns))


def test_a_large_teacher_is_compared_in_classes_chosen_on_validation(taught, monkeypatch):
    """The student is ahead in x and y on validation, on test in x and z: what counts is x and y."""
    places = {
        (CORRECTED, "val"): {"x": 1, "y": 1, "z": 2}, (TEACHER, "val"): {"x": 2, "y": 4, "z": 1},
        (CORRECTED, "test"): {"x": 1, "y": 4, "z": 1}, (TEACHER, "test"): {"x": 4, "y": 2, "z": 2},
    }  # fmt: skip
    truth = Labels.from_frame(pd.DataFrame([[1.0] * 3] + [[0.0] * 3] * 3, index=list("abcd"), columns=list("xyz")))
    scores = {
        (arm, seed): {part: by_hand(places.get((arm, part), {"x": 1, "y": 1, "z": 1})) for part in ("val", "test")}
        for arm in (*STUDENTS, TEACHER)
        for seed in taught.seeds
    }
    unit = pd.Series(list("abcd"), index=list("abcd"))
    made = replace(taught, scores=scores, truth={"val": truth, "test": truth}, unit=unit)
    assert students.ahead(made) == ["x", "y"]
    monkeypatch.setattr(students, "parameters", lambda _: 1e9)
    found = students.effects(made)["P1.5"]
    assert found.value == pytest.approx(((1 - 1 / 4) + (1 / 4 - 1 / 2)) / 2)
    config = taught.config
    net = build(config.model, 3, sr=config.sr, clip_s=config.clip_s, **config.model_options)
    monkeypatch.setattr(students, "parameters", lambda _: 100.0 * count_parameters(net))
    assert students.effects(made)["P1.5"] is None  # not over a hundred times as large
    turned = {
        (arm, seed): made.scores[{CORRECTED: TEACHER, TEACHER: CORRECTED}.get(arm, arm), seed] for arm, seed in scores
    }
    assert students.ahead(replace(made, scores=turned)) == ["z"]
    behind = {key: {**one, "val": by_hand({"x": 3, "y": 4, "z": 2})} if key[0] == CORRECTED else one
              for key, one in turned.items()}  # fmt: skip
    behind |= {
        key: {**one, "val": by_hand({"x": 1, "y": 1, "z": 1})} for key, one in turned.items() if key[0] == TEACHER
    }
    assert students.ahead(replace(made, scores=behind)) == ["z"], "ahead in none: the nearest"


class Net(Toy):
    """A teacher made of torch modules, one of them in a holder as checkpoints are."""

    def __init__(self):
        super().__init__()
        self.ear = nn.Conv1d(1, 4, 8, stride=8)  # 4 x 500 outputs of 8 products
        self.holder = type("Held", (), {"model": nn.Linear(4, 16)})()

    def embed_audio(self, waves):
        with torch.no_grad():
            return self.holder.model(self.ear(torch.as_tensor(waves)[:, None]).mean(-1)).numpy()


def test_cost_of_a_teacher_by_hand(monkeypatch):
    """Windows of half a second: those that overlap by half bring a quarter of a second each."""
    net = Net()
    assert zero_shot_cost.parameters(net) == 4 * 8 + 4 + 4 * 16 + 16
    assert zero_shot_cost.macs(net) == 4 * 500 * 8 + 4 * 16
    assert np.isnan([zero_shot_cost.parameters(Toy()), zero_shot_cost.macs(Toy())]).all()
    clock = iter([0.0, 2.0, 0.0, 2.0])
    monkeypatch.setattr(zero_shot_cost.time, "perf_counter", lambda: next(clock))
    tagger, teacher = ToyTagger(), Toy()
    monkeypatch.setattr(Toy, "adds_up", "embedding")
    monkeypatch.setattr(ToyTagger, "adds_up", "score")
    assert zero_shot_cost.speed(teacher, 16) == 16 * 0.5 / 2
    assert zero_shot_cost.speed(tagger, 16) == 16 * 0.25 / 2


def test_cost_is_side_by_side(taught, monkeypatch):
    monkeypatch.setattr(students, "speed", lambda *_: 200.0)
    monkeypatch.setattr(students, "macs", lambda _: 3e6)
    table = students.cost(taught, 2)
    ours, theirs = table.loc["student: melcnn"], table.loc["teacher: examples"]
    config, n = taught.config, len(taught.truth["test"].classes)
    net = build(config.model, n, sr=config.sr, clip_s=config.clip_s, **config.model_options)
    assert ours["parameters"] == count_parameters(net) < 40_000
    assert ours["M multiply-accumulates a second of sound"] == pytest.approx(count_macs(net) / config.clip_s / 1e6)
    assert ours["seconds of sound per second"] > 0
    teacher = taught.teacher.first.teacher
    assert theirs["M multiply-accumulates a second of sound"] == pytest.approx(3 / zero_shot_cost.hop_s(teacher))
    assert np.isnan(theirs["parameters"])
    assert theirs["hours for a million of 10 s"] == pytest.approx(1e7 / 200 / 3600)


def test_paper_scale_is_that_of_notebooks_05_and_06():
    assert asdict(students.recipe("paper", 10.0)) == asdict(polyphony.recipe(10.0, "paper"))
    assert asdict(students.recipe("paper", 10.0)) == asdict(
        TrainConfig(
            model="acdnet", clip_s=10.0, epochs=600, epoch_size=10_000, lr=1e-4, schedule="plateau",
            plateau_epochs=150, mix="join", sequences={}, workers=4,
        )
    )  # fmt: skip


def test_much_sound_is_not_held_in_memory(outcome, tmp_path, monkeypatch):
    config = students.recipe("smoke", 4.0)
    small = students.read(outcome.dataset, "val", config, tmp_path).waves
    assert isinstance(small, Sources)
    assert isinstance(small.waves, np.memmap)
    monkeypatch.setattr(students, "MOST_BYTES", 1e3)
    large = students.read(outcome.dataset, "val", config, tmp_path).waves
    assert isinstance(large.waves, StoredWaves)
    np.testing.assert_allclose(large[np.arange(3)], small[np.arange(3)], rtol=0, atol=2**-16)
    np.testing.assert_array_equal(large.lengths_s, small.lengths_s)


def test_a_student_is_trained_on_one_thread(taught, tmp_path, monkeypatch):
    """Also in this process, which then has its threads again."""
    seen = []

    def spy(*_, **__):
        seen.append(torch.get_num_threads())
        raise RuntimeError("enough")

    monkeypatch.setattr(students, "train", spy)
    material = {split: SimpleNamespace(waves=None) for split in students.SPLITS}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="enough"):
            students._train_seed(taught.config, 0, material, taught.truth, {HUMAN: taught.truth["train"]}, tmp_path)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)
