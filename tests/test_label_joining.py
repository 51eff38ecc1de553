"""Notebook 05, and the data of 05 and 06: nothing crosses a split, arms differ in the mix alone, numbers are traced."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_mixtures import SR, small_case, tones, tones_without
from test_datasets import fake_fsd50k

from audiotk import audio, experiments, labels, metrics, stats
from audiotk.experiments import label_joining as experiment
from audiotk.experiments import p1_data, polyphony, run_folder, zero_shot
from audiotk.ontology.classmaps import ClassMap
from audiotk.results import append_results, read_results
from audiotk.tables import AudiotkError, Dataset, make_annotations, make_sources, whole_recordings
from audiotk.train import train


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    out = tmp_path_factory.mktemp("label_joining")
    return experiment.run(small_case(out), "smoke", [0, 1], out, jobs=1)


def history(outcome, arm, seed):
    return (run_folder(outcome.folder / "runs", arm, seed) / "history.jsonl").read_text().splitlines()


# --- the data ---------------------------------------------------------------------------------------------------------


def test_mixtures_are_the_sum_of_their_parts_and_have_all_their_labels(tmp_path):
    dataset = tones(tmp_path / "tones")
    made = polyphony.compose(dataset, {"train": 25, "test": 25}, tmp_path / "mixtures")
    truth = labels.resolve(made, whole_recordings(made.recordings), ["truth"]).frame()
    path = dataset.recordings.set_index("recording")["path"]
    sizes = set()
    for item, (_, cells) in zip(made.recordings.to_dict("records"), truth.iterrows(), strict=True):
        parts = item["parts"].split("+")
        sizes.add(len(parts))
        named = {re.search(r"-([a-z]+)\d", part)[1] for part in parts}
        assert set(cells.index[cells == 1]) == named
        assert (cells[~cells.index.isin(named)] == 0).all()
        waves = np.stack([audio.load(path[part], sr=SR)[0] for part in parts])
        mixed = audio.load(item["path"], sr=SR)[0]
        found, *_ = np.linalg.lstsq(waves.T, mixed, rcond=None)
        assert np.square(waves.T @ found - mixed).sum() < 1e-4 * np.square(mixed).sum()
        levels_db = 20 * np.log10(found)
        assert np.abs(levels_db - levels_db.mean()).max() < 8  # N(0, 2) dB
    assert sizes == {1, 2, 3}


def test_no_source_is_in_two_blocks_or_splits(tmp_path):
    dataset = tones(tmp_path / "tones")
    source = dataset.recordings.set_index("recording")["group"]
    made = polyphony.compose(dataset, {"train": 40, "val": 20, "test": 20}, tmp_path / "mixtures")
    block_of = {}
    for item in made.recordings.to_dict("records"):
        names = [source[part] for part in item["parts"].split("+")]
        assert len(set(names)) == len(names)  # parts of one mixture are of different sources
        for name in names:
            assert name.startswith(made.split[item["recording"]])
            assert block_of.setdefault(name, item["group"]) == item["group"]
    assert len(set(block_of.values())) == 9  # 15 sources a split, 5 to a block
    again = polyphony.compose(dataset, {"train": 40, "val": 20, "test": 20}, tmp_path / "mixtures")
    pd.testing.assert_frame_equal(again.recordings, made.recordings)


def test_a_source_that_cannot_be_read_is_left_out_and_told(tmp_path):
    dataset = tones(tmp_path / "tones", per_class=6)
    broken = Path(dataset.recordings["path"][0])
    broken.write_bytes(broken.read_bytes()[:44])  # a header, and no sound behind it
    mixed = polyphony.compose(dataset, {"train": 12, "val": 6, "test": 6}, tmp_path / "mixtures")
    name = dataset.recordings["recording"][0]
    assert len(mixed.recordings) == 24
    assert not mixed.recordings["parts"].str.split("+").map(lambda parts: name in parts).any()
    assert mixed.problems["path"].tolist() == [str(broken)]


def test_mixtures_of_other_recordings_are_made_anew(tmp_path):
    """The same names, labels, lengths and folder, but other sound: nothing of the first set may be heard again."""
    counts = {"train": 6, "test": 6}
    original = tones(tmp_path / "tones")
    first = polyphony.compose(original, counts, tmp_path / "mixtures")
    heard = [audio.load(path, sr=SR)[0] for path in first.recordings["path"]]
    for dataset in (tones(tmp_path / "others"), original):  # another root; the same files with other content
        for path in dataset.recordings["path"]:
            audio.save(path, -0.5 * audio.load(path, sr=SR)[0], SR, overwrite=True)
        again = polyphony.compose(dataset, counts, tmp_path / "mixtures")
        assert again.recordings["parts"].tolist() == first.recordings["parts"].tolist()
        for path, wave in zip(again.recordings["path"], heard, strict=True):
            np.testing.assert_allclose(audio.load(path, sr=SR)[0], -0.5 * wave, atol=1e-3)


def test_training_labels_have_errors_and_the_others_have_none(tmp_path):
    case = polyphony.load("embedded", str(tmp_path), "smoke", tmp_path)
    assert set(case.truth) == {"train", "val", "test"}
    assert case.given != case.truth["train"]
    given, truth = case.given.frame(), case.truth["train"].frame()
    assert ((given == 0) & (truth == 1)).sum().sum() > 0
    assert case.seconds == 4.0
    groups = {split: set(part.segments["group"]) for split, part in case.material.items()}
    assert groups["train"].isdisjoint(groups["test"] | groups["val"])
    assert groups["val"].isdisjoint(groups["test"])


def test_p1_chooses_long_files_and_so_many_of_a_class():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"recording": [str(k) for k in range(60)], "duration_s": rng.uniform(2, 10, 60)})
    truth = labels.Labels.from_cells(
        table["recording"], ["a", "b"], range(60), [k % 2 for k in range(60)], [1.0] * 60, 0.0
    )
    chosen = p1_data.choose_files(table, truth, 5.0, 7, np.random.default_rng(1))
    assert (chosen["duration_s"] >= 5).all()
    assert chosen["recording"].astype(int).mod(2).value_counts().to_dict() == {0: 7, 1: 7}
    again = p1_data.choose_files(table, truth, 5.0, 7, np.random.default_rng(1))
    assert chosen.equals(again)
    with pytest.raises(AudiotkError, match="no recording is at least 30 s long"):
        p1_data.choose_files(table, truth, 30.0, 7, rng)


def test_real_recordings_are_read_as_they_are(tmp_path, monkeypatch):
    """FSD50K in its official layout: P1's choice of files is written down, and padding is never cut out."""
    monkeypatch.setattr(p1_data, "FILES", {"val": (0.2, 1), "test": (0.2, 1)})
    monkeypatch.setattr(polyphony, "MOST_BYTES", 1.0)  # too large for memory
    with pytest.warns(UserWarning, match=r"left out are 'Bark' \(nowhere present in validation\)"):
        case = polyphony.load("fsd50k", str(fake_fsd50k(tmp_path / "root")), "smoke", tmp_path)
    assert case.truth.keys() == {"val", "test"}  # nobody knows the truth of the training labels
    manifest = pd.read_csv(tmp_path / "manifest.csv", dtype=str)
    assert set(manifest["split"]) == {"train", "val", "test"}
    assert len(manifest[manifest["split"] == "val"]) == 2  # Dog, Rain; no validation file barks
    train = case.material["train"].waves
    assert train.shape == (3, 160_000)
    np.testing.assert_allclose(train.lengths_s, 0.3, atol=0.001)
    assert case.shortened == 0
    assert "How many are wrong is not known" in repr(case)
    some = train.part(np.array([2, 0]))
    np.testing.assert_array_equal(some[np.array([0, 1])], train[np.array([2, 0])])
    assert some.part(np.array([1])).shape == (1, 160_000)
    assert len(case.given.segments) == 3


def test_it_is_said_how_many_recordings_lose_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(p1_data, "FILES", {"val": (0.2, 1), "test": (0.2, 1)})
    monkeypatch.setattr(polyphony, "LONGEST_S", 0.2)  # all files have 0.3 s
    with pytest.warns(UserWarning, match=r"left out are 'Bark' \(nowhere present in validation\)"):
        case = polyphony.load("fsd50k", str(fake_fsd50k(tmp_path / "root")), "smoke", tmp_path)
    assert case.shortened == sum(len(part.segments) for part in case.material.values())
    assert f"Of {case.shortened} recordings longer than 0.2 s only the start is used" in repr(case)


def test_names_of_fsd50k_find_their_class_of_p1():
    recordings = pd.DataFrame(
        {"recording": ["1", "2", "3"], "path": ["x"] * 3, "duration_s": 1.0, "sr": 16000, "group": ["a", "b", "c"]}
    )
    segments = whole_recordings(recordings)
    notes = make_annotations(
        segments["segment"], ["Chirp_and_tweet", "Dishes_and_pots_and_pans", "Rain"], 1.0, "fsd50k"
    )
    dataset = Dataset(
        "fsd50k", recordings, segments, notes, pd.Series("train", index=["1", "2", "3"]),
        ["Chirp_and_tweet", "Dishes_and_pots_and_pans", "Rain"], make_sources(fsd50k="closed weak"),
    )  # fmt: skip
    pairs = [("Chirp, tweet", "nature"), ("Rain", "nature"), ("Rain", "noise"), ("Siren", "alarm")]
    known = ClassMap(
        ("alarm", "nature", "noise"), pd.DataFrame(pairs, columns=["label", "class_name"]), ("Dishes, pots, and pans",)
    )
    mapped = p1_data.in_p1_classes(dataset, known)
    assert mapped.classes == ("nature", "noise")  # no member of "alarm" is there
    found = labels.resolve(mapped, segments, ["fsd50k"]).frame()
    assert found["nature"].tolist() == [1, 0, 1]
    assert found["noise"].tolist() == [0, 0, 1]


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_arms_differ_in_the_mix_and_in_nothing_else(outcome):
    configs = {
        arm: json.loads((run_folder(outcome.folder / "runs", arm, 0) / "config.json").read_text())
        for arm in experiment.ARMS
    }
    mixes = {arm: (one.pop("mix"), one.pop("max_sources")) for arm, one in configs.items()}
    assert mixes == experiment.ARMS
    assert all(one == configs[experiment.NONE] for one in configs.values())
    assert configs[experiment.NONE]["sequences"] == {
        "min_cut_s": 0.5, "stretch": 0.0, "codec": 0.0, "spectral": 0.1, "band_pass": 0.1, "reverb": 0.1,
        "distortion": 0.1,
    }  # fmt: skip
    for arm in experiment.ARMS:
        assert len(history(outcome, arm, 0)) == configs[arm]["epochs"]


def test_numbers_are_those_of_the_metrics(outcome):
    truth, table = outcome.case.truth["test"], experiment.by_class(outcome).set_index(["class_name", "arm"])["value"]
    for arm in [*experiment.ARMS, outcome.reference]:
        every = [metrics.average_precision(one, truth)["ap"] for one in outcome.by_seed(arm).values()]
        assert table[experiment.MEAN, arm] == pytest.approx(np.mean([one.mean() for one in every]))
        assert table["low", arm] == pytest.approx(np.mean([one["low"] for one in every]))
    words = experiment.words(experiment.by_class(outcome))
    assert list(words.columns) == [*experiment.ARMS, outcome.reference]
    assert words.index[-1] == experiment.MEAN


def test_teacher_is_heard_on_the_test_segments(outcome):
    for scores in outcome.teacher.values():
        assert set(scores.index) == set(outcome.case.material["test"].segments["segment"])
        assert metrics.mean_average_precision(scores, outcome.case.truth["test"]) > 0.6  # tones are easy


def test_a_teacher_by_example_is_not_called_zero_shot(outcome):
    assert outcome.reference == "teacher (examples)"
    assert outcome.about_teacher().startswith("teacher (examples): not trained, but told the classes of")
    assert f" {zero_shot.SHOTS} of each class" in outcome.about_teacher()
    asked = replace(outcome, teacher_name="msclap")
    assert "zero-shot teacher" in set(experiment.by_class(asked)["arm"])
    assert asked.about_teacher().startswith("zero-shot teacher: never trained")


def test_a_class_that_nobody_can_learn_is_left_out_by_name(tmp_path, monkeypatch):
    lost = [("val", "high"), ("train", "low")]
    dataset = tones_without(tmp_path / "tones", lost)
    monkeypatch.setattr(polyphony.datasets, "load", lambda *_, **__: dataset)
    told = r"left out are 'low' \(nowhere present in training.*\), 'high' \(nowhere present in validation\)"
    with pytest.warns(UserWarning, match=told):
        case = experiment.load("esc50", "", "smoke", tmp_path)
    assert case.dataset.classes == ("middle",)
    assert {tuple(found.classes) for found in [case.given, *case.truth.values()]} == {("middle",)}
    found = experiment.run(case, "smoke", [0], tmp_path, jobs=1)
    assert set(experiment.by_class(found)["class_name"]) == {"middle", experiment.MEAN}
    assert experiment.claims(found, "esc50", "smoke")["value"].notna().all()


def test_without_any_class_to_learn_nothing_is_trained(tmp_path, monkeypatch):
    lost = [("val", "high"), ("train", "low"), ("train", "middle")]
    dataset = tones_without(tmp_path / "tones", lost)
    monkeypatch.setattr(polyphony.datasets, "load", lambda *_, **__: dataset)
    with pytest.raises(AudiotkError, match="present and absent in training and in validation labels, got none"):
        experiment.load("esc50", "", "smoke", tmp_path)


def test_a_teacher_that_cannot_be_asked_is_found_out_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "train_arms", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(AudiotkError, match="nobody"):
        experiment.run(small_case(tmp_path), "smoke", [0], tmp_path, teacher="nobody")


def test_claims_and_results_fit_together(outcome, tmp_path):
    ledger = experiment.claims(outcome, "esc50", "smoke")
    assert ledger.index.tolist() == ["P1.1", "P1.2a", "P1.2b", "P1.2c", "P1.2d"]
    assert set(ledger["verdict"][1:]) == {stats.INCONCLUSIVE}  # smoke, and two seeds
    table = experiment.by_class(outcome)
    append_results(tmp_path, experiment.results(outcome, table, ledger, "esc50", "smoke"))
    rows = read_results(tmp_path)
    mean = rows[rows["metric"] == "mAP"].set_index(["experiment", "arm"])["value"]
    value = {arm: mean[experiment.EXPERIMENT, arm] for arm in experiment.ARMS}
    for name, (arm, baseline) in experiment.COMPARED.items():
        assert mean[name, f"{arm} minus {baseline}"] == pytest.approx(value[arm] - value[baseline])
        assert ledger.loc[name, "value"] == pytest.approx(value[arm] - value[baseline])
    assert set(rows.loc[rows["metric"] == "AP", "class_name"]) == {"low", "middle", "high"}


def test_with_one_seed_intervals_are_over_recordings_and_rows_name_the_seed(outcome, tmp_path):
    scores = {key: one for key, one in outcome.scores.items() if key[1] == 1}
    single = replace(outcome, seeds=[1], scores=scores, teacher={1: outcome.teacher[1]})
    table, ledger = experiment.by_class(single), experiment.claims(single, "esc50", "demo")
    truth, unit = outcome.case.truth["test"], outcome.case.unit
    for arm in experiment.ARMS:
        alone = stats.bootstrap_map(scores[arm, 1], truth, unit, np.random.default_rng(0), n_boot=4000)
        line = table[(table["arm"] == arm) & (table["class_name"] == experiment.MEAN)].iloc[0]
        assert line[["value", "low", "high"]].tolist() == pytest.approx([alone.value, alone.low, alone.high], abs=0.05)
        assert line["n"] == unit.nunique()
    assert set(ledger["verdict"][1:]) == {stats.INCONCLUSIVE}
    append_results(tmp_path, experiment.results(single, table, ledger, "esc50", "demo"))
    assert set(read_results(tmp_path)["seed"]) == {1}
    assert "with one seed (1)" in experiment.intervals_over(single.seeds)
    assert "over seeds" in experiment.intervals_over(outcome.seeds)


def test_an_interrupted_run_ends_with_the_same_scores_whatever_the_number_of_jobs(outcome, tmp_path, monkeypatch):
    """The fixture ran undisturbed in one process; this one is stopped in its second training, and goes on in two."""
    case, trained = small_case(tmp_path), []

    def once(*told, **more):
        if trained:
            raise KeyboardInterrupt
        trained.append(told)
        return train(*told, **more)

    with monkeypatch.context() as patch:
        patch.setattr(experiments, "train", once)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(case, "smoke", [0], tmp_path, jobs=1)
    assert len(list((tmp_path / "runs").glob("*/history.jsonl"))) == 1
    assert not list(tmp_path.glob("waves-*"))  # the sound that processes share
    again = experiment.run(case, "smoke", [0], tmp_path, jobs=2)
    assert set(again.scores) == {(arm, 0) for arm in experiment.ARMS}
    for key, scores in again.scores.items():
        pd.testing.assert_frame_equal(scores, outcome.scores[key], check_exact=True)
    pd.testing.assert_frame_equal(again.teacher[0], outcome.teacher[0], check_exact=True)


def test_acdnet_has_the_printed_size():
    """Golden numbers: 248,337 parameters and 1.395 G MACs as built, 248.54 K and 1.40 G in P1, section 2.2."""
    table = experiment.size()
    assert table.loc["parameters", "ours"] == 248_337
    assert table.loc["MACs", "ours"] == pytest.approx(1.3946e9, rel=1e-4)
    assert table["relative_difference"].abs().max() == pytest.approx(0.00385, abs=1e-5)


def test_pictures_show_sequences_with_several_labels(outcome):
    shown = experiment.made(outcome.case, "smoke")
    assert len(shown) == 3
    assert all(" + " in title and len(wave) == SR for title, wave in shown)
    lines = experiment.histories(outcome)
    assert list(lines) == list(experiment.ARMS)
    counts = experiment.label_counts(outcome.case)
    assert list(counts) == ["train, as given", "train, in truth", "validation", "test"]


def test_paper_scale_has_the_settings_of_p1(outcome):
    config = polyphony.recipe(outcome.case.seconds, "paper")
    assert (config.model, config.optimizer, config.lr, config.schedule) == ("acdnet", "adamw", 1e-4, "plateau")
    assert (config.plateau_epochs, config.epoch_size, config.loss, config.mix, config.max_sources) == (
        150,
        10_000,
        "bce",
        "join",
        2,
    )
    assert config.sequences == {}  # the defaults of augment.Recipe
    assert config.stop_after is None  # else arms end at different steps
