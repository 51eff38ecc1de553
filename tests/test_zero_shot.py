"""The experiment of notebook 07: honest thresholds, equal numbers by a plain way, and clear refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score
from small_mixtures import tones

from audiotk.experiments import zero_shot, zero_shot_told
from audiotk.experiments.polyphony import COUNTS, compose
from audiotk.resample import Statistic
from audiotk.scores import open_scores
from audiotk.tables import SPLITS, AudiotkError, Dataset, Labels
from audiotk.teachers.readings import common_threshold


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return zero_shot.load("embedded", "", "smoke", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def outcome(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> zero_shot.Outcome:
    return zero_shot.run(dataset, "prototypes", "", "", [0, 1], tmp_path_factory.mktemp("out"))


def value(statistic: Statistic) -> float:
    return float(statistic.of(np.ones((1, len(statistic.recordings))))[0])


def test_examples_come_from_training_and_from_the_seed(dataset: Dataset) -> None:
    first, again, other = (zero_shot_told.by_example(dataset, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.prototypes.vectors, again.prototypes.vectors)
    assert not np.array_equal(first.prototypes.vectors, other.prototypes.vectors)
    assert first.classes == dataset.classes
    assert set(first.prototypes.counts[:-1]) <= {1, 2, 3}


def test_test_recordings_choose_nothing(outcome: zero_shot.Outcome, dataset: Dataset) -> None:
    asked = outcome.first
    for split, heard in asked.heard.items():
        assert set(heard.segments["recording"]) <= set(dataset.part(split)["recording"])
    reading = next(iter(asked.readings().values()))
    _, level = zero_shot.at_threshold(outcome)
    assert level == common_threshold(asked.scores("val", reading), asked.truth["val"])


def test_the_comparison_is_that_of_scikit_learn(outcome: zero_shot.Outcome) -> None:
    table = zero_shot.compare(outcome).set_index(["arm", "metric"])
    assert set(table.index.get_level_values("arm")) == {
        zero_shot.P1, "cosine", "sigmoid, fitted", "against background",
    }  # fmt: skip
    truth = outcome.first.truth["test"].frame()
    found = []
    for asked in outcome.asked.values():
        scores = asked.scores("test", asked.readings()["cosine"])
        both = [name for name in truth if 0 < truth[name].sum() < len(truth)]
        known = {name: truth[name].notna() for name in both}
        found.append(np.mean([average_precision_score(truth[n][known[n]], scores[n][known[n]]) for n in both]))
    assert table.loc[("cosine", "mAP"), "value"] == pytest.approx(np.mean(found))
    rows = zero_shot.results(outcome, table.reset_index(), "embedded", "smoke")
    assert {row["metric"] for row in rows} == {"mAP", "macro F1", "AP"}


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(40)]
    scores = pd.DataFrame(rng.random((40, 3)), names, list("abc"))
    y = pd.DataFrame((rng.random((40, 3)) < 0.3).astype(float), names, list("abc"))
    y.iloc[0] = 1
    unit = pd.Series(names, names)
    found = value(zero_shot.f1_statistic(scores, Labels.from_frame(y), 0.6, unit))
    assert found == pytest.approx(f1_score(y, scores > 0.6, average="macro"))
    y["a"] = np.where(np.arange(40) % 2, np.nan, y["a"])
    known = y["a"].notna()
    parts = [f1_score(y["a"][known], scores["a"][known] > 0.6), *(f1_score(y[n], scores[n] > 0.6) for n in "bc")]
    assert value(zero_shot.f1_statistic(scores, Labels.from_frame(y), 0.6, unit)) == pytest.approx(np.mean(parts))


def test_what_is_kept_and_what_is_heard(outcome: zero_shot.Outcome) -> None:
    about = open_scores(zero_shot.keep(outcome)).about
    assert about["aggregate"] == "max"
    assert about["teacher"]["checksum"] == outcome.first.teacher.checksum
    _, level = zero_shot.at_threshold(outcome)
    assert set(about["thresholds"].values()) == {level}
    alarms, misses = zero_shot.errors(outcome, 3)
    assert len(alarms) == len(misses) == 3
    assert all(len(wave) > 16000 for _, wave in (*alarms, *misses))


def test_a_person_chooses_examples_that_hold_nothing_else(tmp_path: Path) -> None:
    mixed = compose(tones(tmp_path / "tones"), {"train": 30, "val": 20, "test": 24}, tmp_path / "mixtures")
    held = zero_shot_told.taught_by(mixed).groupby("segment")["class_name"].agg(set)
    asked: dict[str, list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero_shot_told.Examples, "fit", lambda *told, **_: asked.update(told[3]))
        zero_shot_told.by_example(mixed, 30, 0)
    for name, segments in asked.items():
        assert {name} == set.intersection(*(held[one] for one in segments))
        several = [len(held[one]) > 1 for one in segments]
        assert several == sorted(several)
        assert 0 < sum(several) < len(several)


def without(dataset: Dataset, name: str, split: str) -> Dataset:
    """No recording of the split holds the class any more."""
    kept = dataset.recordings["recording"].map(dataset.split) == split
    there = dataset.segments[dataset.segments["recording"].isin(dataset.recordings["recording"][kept])]["segment"]
    notes = dataset.annotations
    gone = (notes["class_name"] == name) & notes["segment"].isin(there) & (notes["value"] == 1)
    return replace(dataset, annotations=notes[~gone].reset_index(drop=True))


def test_a_class_without_examples_is_left_out_by_name(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="embedded: left out, as no training recording holds an example: howl"):
        found = zero_shot.run(without(dataset, "howl", "train"), "examples", "", "", [0], tmp_path)
    left = [name for name in dataset.classes if name != "howl"]
    assert list(found.dataset.classes) == list(zero_shot.usual_scores(found).columns) == left
    assert set(zero_shot.by_class(found).index) <= {*left, "mean (mAP)"}
    nothing = dataset
    for name in dataset.classes:
        nothing = without(nothing, name, "train")
    with pytest.raises(AudiotkError, match="no training recording in which a class is present"):
        zero_shot.run(nothing, "examples", "", "", [0], tmp_path)


def test_without_a_class_in_validation_no_sigmoid_is_fitted(dataset: Dataset, tmp_path: Path) -> None:
    found = zero_shot.run(without(dataset, "howl", "val"), "examples", "", "", [0], tmp_path)
    with pytest.warns(UserWarning, match="no sigmoid is fitted; .* but for howl it lacks"):
        table = zero_shot.compare(found)
    assert set(table["arm"]) == {zero_shot.P1, "cosine", "against background"}
    assert table["value"].notna().all()


def test_real_recordings_are_heard_as_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of notebook 05's numbers, each from recordings of its own split, with several classes at once."""
    sources = tones(tmp_path / "tones")
    monkeypatch.setattr(zero_shot.datasets, "load", lambda *_, **__: sources)
    mixed = zero_shot.load("esc50", "", "smoke", tmp_path)
    assert mixed.split.value_counts().to_dict() == dict(zip(SPLITS, COUNTS["smoke"], strict=True))
    assert mixed.annotations.groupby("segment")["class_name"].nunique().max() > 1
    for parts, split in zip(mixed.recordings["parts"], mixed.recordings["recording"].map(mixed.split), strict=True):
        assert {sources.split[name] for name in parts.split("+")} == {split}


def test_more_examples_are_asked_for_and_more_are_better_than_one(outcome: zero_shot.Outcome) -> None:
    table = zero_shot.sensitivity(outcome)
    assert list(table.index) == [f"{n} examples" for n in zero_shot.VARIED]
    assert table.loc["10 examples", "mean"] > table.loc["1 examples", "mean"]


def test_a_teacher_that_reads_text_is_asked_in_several_ways(dataset: Dataset, tmp_path: Path) -> None:
    found = zero_shot.run(dataset, "toy_teacher:Toy", "", "", [0, 1, 2], tmp_path)
    assert list(found.asked) == [0]  # it does not depend on the seed
    assert found.first.prompts is not None
    assert found.first.prompts.classes["bark"] == ("a dog barking",)
    assert len(zero_shot.sensitivity(found)) == len(zero_shot.PREFIXES) + 1


def test_classes_without_words_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("classes: {bark: barking}")
    with pytest.raises(AudiotkError, match="class 'howl' of embedded has none"):
        zero_shot.run(dataset, "toy_teacher:Toy", "", str(tmp_path / "p.yaml"), [0], tmp_path)
    with pytest.raises(AudiotkError, match="toy-tagger: has no class"):
        zero_shot.run(dataset, "toy_teacher:ToyTagger", "", "", [0], tmp_path)
