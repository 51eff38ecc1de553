"""The experiments behind the notebooks, at a size of seconds: same test for all arms, numbers that can be traced."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from audiotk import audio, events, experiments, labels, metrics
from audiotk.experiments import clip_or_range, clip_or_range_checks, quickstart
from audiotk.results import append_results, read_results
from audiotk.shards import StoredWaves
from audiotk.tables import AudiotkError, Labels, make_windows
from audiotk.train import TrainConfig

SMALL = {"mels": 16, "n_fft": 512, "hop": 400, "width": 0.25}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    out = tmp_path_factory.mktemp("clip_or_range")
    dataset = clip_or_range.load("embedded", str(out / "data"), "smoke")
    return clip_or_range.run(dataset, "smoke", [0, 1], out, jobs=1)


def test_every_arm_is_tested_on_the_same_segments(outcome):
    assert {arm for arm, _ in outcome.scores} == set(outcome.arms)
    assert {seed for _, seed in outcome.scores} == {0, 1}
    for scores in outcome.scores.values():
        assert scores.index.tolist() == outcome.test.segments["segment"].tolist()
    assert set(outcome.test.segments["recording"]).isdisjoint(outcome.dataset.part("train")["recording"])


def test_numbers_are_those_of_the_metrics(outcome):
    """The table's values against the metrics computed directly, averaged over seeds."""
    found = clip_or_range.statistics(outcome)
    table = clip_or_range.table(found).set_index(["metric", "arm"])["value"]
    for arm in (clip_or_range.RANGES, clip_or_range.CLIPS):
        keys = [(arm, seed) for seed in outcome.seeds]
        maps = [metrics.mean_average_precision(outcome.scores[key], outcome.truth) for key in keys]
        rates = [
            events.false_positives_per_hour(
                outcome.scores[key], outcome.truth, outcome.test.segments, outcome.thresholds[key]
            ).loc["(all)", "per_hour"]
            for key in keys
        ]
        assert table["mAP", arm] == pytest.approx(np.mean(maps))
        assert table["false positives per hour", arm] == pytest.approx(np.mean(rates))
    shares = table[table.index.get_level_values("metric").str.startswith("fires on")]
    assert shares.between(0, 1).all()


def test_claims_and_results_fit_together(outcome, tmp_path):
    found = clip_or_range.statistics(outcome)
    summary = clip_or_range.table(found)
    ledger = clip_or_range.claims(outcome, found, "embedded", "smoke")
    assert ledger.index.tolist() == ["B1.1", "B1.2", "B1.3", "B1.4", "B1.5", "B1.6"]
    assert ledger.loc["B1.5", "verdict"] == "needs data we lack", "there it is a parameter of the synthesis"
    beside = [
        clip_or_range_checks.baselines(found),
        clip_or_range_checks.silence_by_class(outcome),
        clip_or_range_checks.confused_or_silent(outcome),
        clip_or_range_checks.ranges_a_clip(outcome.dataset),
    ]
    append_results(tmp_path, clip_or_range.results(summary, ledger, "embedded", "smoke", beside))
    rows = read_results(tmp_path)
    [counted] = rows[rows["metric"] == "labelled ranges a clip, beyond one"].to_dict("records")
    assert (counted["experiment"], counted["split"]) == ("clip_or_range: training clips", "train")
    by_class = rows[(rows["experiment"] == "clip_or_range: silence") & (rows["metric"] == "fires on silence")]
    assert set(by_class["class_name"]) == set(outcome.truth.classes)
    effects = rows[rows["experiment"].str.startswith("B1.")].set_index("experiment")
    assert set(effects.index) == set(ledger.index[ledger["value"].notna()])
    assert effects.loc["B1.1", "arm"] == "time ranges minus clip labels"
    for name, value in effects["value"].items():
        assert value == pytest.approx(ledger.loc[name, "value"])
    by_arm = summary[summary["metric"] == "mean score where absent"].set_index("arm")["value"]
    expected = by_arm[clip_or_range.RANGES] - by_arm[clip_or_range.CLIPS]
    assert ledger.loc["B1.3", "value"] == pytest.approx(expected)


def test_effects_against_both_baselines_are_of_the_same_draws(outcome):
    found = clip_or_range.statistics(outcome)
    ledger = clip_or_range.claims(outcome, found, "embedded", "smoke")
    beside = clip_or_range_checks.baselines(found).set_index(["metric", "arm"])
    metrics_of = {
        "B1.1": "false positives per hour, relative change",
        "B1.2": "bark/howl confusion",
        "B1.3": "mean score where absent",
    }
    assert list(dict.fromkeys(beside.index.get_level_values("metric"))) == list(metrics_of.values())
    numbers = ["value", "low", "high"]
    for name, metric in metrics_of.items():
        claimed = pd.to_numeric(ledger.loc[name, numbers]).to_numpy()
        np.testing.assert_array_equal(beside.loc[(metric, "time ranges minus clip labels"), numbers], claimed)
    means = clip_or_range.table(found).set_index(["metric", "arm"])["value"]
    expected = means["mean score where absent", "time ranges"] - means["mean score where absent", "whole clips"]
    assert beside.loc[("mean score where absent", "time ranges minus whole clips"), "value"] == pytest.approx(expected)


def test_each_class_on_silence_and_bark_where_only_howl_is(outcome):
    """The shares against counts by hand, averaged over seeds."""
    arm, quiet = clip_or_range.CLIPS, clip_or_range.quiet_kinds(outcome).isin(clip_or_range.SILENT)
    truth = outcome.truth.frame()
    howl = (truth["howl"] == 1) & (truth.drop(columns="howl") == 0).all(axis=1)
    fires = [outcome.scores[arm, seed]["bark"] > outcome.thresholds[arm, seed]["bark"] for seed in outcome.seeds]
    by_class = clip_or_range_checks.silence_by_class(outcome).set_index(["class_name", "arm"])["value"]
    both = clip_or_range_checks.confused_or_silent(outcome).set_index(["metric", "arm"])["value"]
    assert quiet.any()
    assert (
        by_class["bark", arm]
        == both["bark on silence", arm]
        == pytest.approx(np.mean([f[quiet].mean() for f in fires]))
    )
    assert both["bark where only howl is", arm] == pytest.approx(np.mean([f[howl].mean() for f in fires]))
    shown = clip_or_range.intervals_wide(clip_or_range_checks.confused_or_silent(outcome), "arm", "metric")
    assert list(shown.index) == outcome.arms


def test_every_clip_with_a_label_counts_for_the_ranges_a_clip(tmp_path):
    """Also one in which nothing was found: 12 clips with two ranges and 12 without any are one range a clip."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        audio.save(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 8000 * 4).astype("float32"), 8000)
        here = [(0.5, 1.0, "bark"), (2.0, 3.5, "howl")] if i % 2 else [(0.0, 4.0, "")]
        rows += [(f"{i}.wav", *each, "train" if i < 16 else "test" if i < 20 else "val") for each in here]
    table = pd.DataFrame(rows, columns=["path", "start_s", "end_s", "label", "split"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    dataset = clip_or_range.load("folder", str(tmp_path / "labels.csv"), "smoke", complete=True)
    counted = clip_or_range_checks.ranges_a_clip(dataset).iloc[0]
    assert (counted["value"], counted["n"]) == (pytest.approx(0.0), 16)


def test_pictures_have_what_they_show(outcome):
    found = clip_or_range.statistics(outcome)
    kinds = clip_or_range.by_kind(clip_or_range.table(found))
    assert set(kinds.index) == set(outcome.arms)
    worst = clip_or_range.most_wrong(outcome)
    assert clip_or_range.ranges(outcome.dataset, worst)["class_name"].nunique() >= 2
    lines = clip_or_range.timeline(outcome, worst)
    assert set(lines) == {clip_or_range.RANGES, clip_or_range.CLIPS}
    # the scores at the centre of a test window are those of the test
    window = outcome.test.segments.query("recording == @worst").iloc[2]
    expected = np.mean([outcome.scores[clip_or_range.CLIPS, seed].loc[window["segment"]] for seed in (0, 1)], axis=0)
    at = lines[clip_or_range.CLIPS].loc[(window["start_s"] + window["end_s"]) / 2]
    np.testing.assert_allclose(at, expected, atol=1e-5)
    pooled = clip_or_range.reliability(outcome)[clip_or_range.CLIPS]
    judged = outcome.truth.counts()[["present", "absent"]].to_numpy().sum()
    assert pooled["n"].sum() == 2 * judged


def test_clip_labels_come_from_ranges_where_a_data_set_has_no_others(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        audio.save(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 8000 * 4).astype("float32"), 8000)
        rows += [(f"{i}.wav", 0.5, 1.0, "bark"), (f"{i}.wav", 2.0, 3.5, "howl")]
    pd.DataFrame(rows, columns=["path", "start_s", "end_s", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(AudiotkError, match="-p complete true"):
        clip_or_range.load("folder", str(tmp_path / "labels.csv"), "smoke")
    dataset = clip_or_range.load("folder", str(tmp_path / "labels.csv"), "smoke", complete=True)
    clips = labels.resolve(dataset, sources=["scraped"]).frame()
    assert (clips["howl"] == 1).all()
    assert (clips["bark"] == 0).all()
    windows = labels.resolve(dataset, make_windows(dataset.recordings, 1.0), ["folder"]).frame()
    assert windows["howl"].value_counts().to_dict() == {0.0: 24, 1.0: 24}  # heard in full: no range means absent


def test_experiment_without_ranges_says_what_it_needs(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("bark", "howl"):
        for i in range(6):
            audio.save(tmp_path / name / f"{i}.wav", rng.normal(0, 0.1, 8000).astype("float32"), 8000)
    with pytest.raises(AudiotkError, match=r"no source of this data set gives ranges.*data=embedded"):
        clip_or_range.load("folder", str(tmp_path), "smoke")
    with pytest.raises(AudiotkError, match="expected one of smoke, demo, paper, got 'tiny'"):
        quickstart.load("folder", str(tmp_path), "tiny")


def test_quickstart_on_a_folder_with_a_broken_file(tmp_path):
    rng = np.random.default_rng(0)
    time_s = np.arange(8000) / 8000
    for name, hertz in (("low", 300), ("high", 1800)):
        for i in range(12):
            wave = 0.3 * np.sin(2 * np.pi * hertz * time_s) + rng.normal(0, 0.05, 8000)
            audio.save(tmp_path / name / f"{name}{i}.wav", wave.astype("float32"), 8000)
    (tmp_path / "low" / "broken.wav").write_text("this is no sound")
    dataset = quickstart.load("folder", str(tmp_path), "smoke")
    assert len(dataset.recordings) == 24
    assert len(dataset.problems) == 1
    config = dataclasses.replace(quickstart.recipe(dataset, "smoke"), epochs=8)
    assert config.clip_s == 1.0
    material = quickstart.read(dataset, config)
    assert len(quickstart.problems(dataset, material)) == 1
    lazy = experiments.load_material(dataset, "test", config.sr, config.clip_s, most_bytes=1)  # too large for memory
    assert isinstance(lazy.waves, StoredWaves)
    np.testing.assert_allclose(lazy.waves[np.arange(len(lazy.waves))], material["test"].waves, rtol=0, atol=2**-16)
    labels = quickstart.resolve(dataset, {"test": lazy})["test"]
    arm = experiments.Arm("much", lazy, labels, dataclasses.replace(config, epochs=1))
    val = material["val"], quickstart.resolve(dataset, material)["val"]
    assert len(experiments.train_arms([arm], val, {"test": lazy}, [0], tmp_path / "much")["much", 0]["test"]) == len(
        lazy.segments
    )
    truth = quickstart.resolve(dataset, material)
    runs = quickstart.fit(config, material, truth, [3, 4], tmp_path / "runs")
    scores = quickstart.score(runs, material["test"])
    assert not scores[3].equals(scores[4])
    table = quickstart.evaluate(scores, truth["test"], material["test"])
    mean = table.loc["mean (mAP)"]
    values = [metrics.mean_average_precision(one, truth["test"]) for one in scores.values()]
    assert mean["value"] == pytest.approx(np.mean(values))
    assert not mean["low"] > mean["value"]  # with four recordings the interval may be unbounded: NaN
    rows = quickstart.results(table, seeds=[3, 4], data="folder", scale="smoke")
    assert [(row["class_name"], row["seed"]) for row in rows if row["metric"] == "mAP"] == [(None, None)]
    wrong = quickstart.mistakes(scores, truth["test"])
    judged = truth["test"].frame()
    assert all(judged.loc[item.segment, item.class_name] == 0 for item in wrong.itertuples())
    assert wrong["score"].is_monotonic_decreasing


def test_arms_must_differ(tmp_path):
    material = experiments.Material(
        make_windows(pd.DataFrame({"recording": ["a"], "duration_s": [1.0]}), 1.0), np.zeros((1, 8)), 8, pd.DataFrame()
    )
    empty = Labels.from_cells(material.segments["segment"], ["c"], [], [], [])
    arm = experiments.Arm("same", material, empty, TrainConfig(model_options=SMALL))
    with pytest.raises(AudiotkError, match="arms and seeds have to differ"):
        experiments.train_arms([arm, arm], (material, empty), {}, [0], tmp_path)


def test_intervals_resample_groups_not_files(tmp_path):
    """Eight files of two dogs are two units."""
    rng = np.random.default_rng(0)
    rows = []
    for split in ("train", "val", "test"):
        for i in range(8):
            audio.save(tmp_path / f"{split}{i}.wav", rng.normal(0, 0.1, 8000).astype("float32"), 8000)
            rows.append((f"{split}{i}.wav", "bark" if i % 2 else "howl", f"{split}-dog{i // 4}", split))
    table = pd.DataFrame(rows, columns=["path", "label", "group", "split"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    dataset = quickstart.load("folder", str(tmp_path), "smoke")
    test = experiments.load_material(dataset, "test", 8000)
    truth = labels.resolve(dataset, test.segments, ["folder"])
    scores = pd.DataFrame(rng.random((8, 2)), index=test.segments["segment"], columns=list(dataset.classes))
    assert (quickstart.evaluate({0: scores}, truth, test)["n"] == 2).all()
    one = test.first(4)
    with pytest.raises(AudiotkError, match=r"4 segments of 1 group\(s\)"):
        quickstart.check_testable(truth.select(one.segments["segment"]), one)


def test_a_recording_that_breaks_late_is_not_chosen_for_the_picture(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("bark", "howl"):
        for i in range(8):
            audio.save(tmp_path / name / f"{i}.wav", rng.normal(0, 0.1, 8000).astype("float32"), 8000)
    dataset = quickstart.load("folder", str(tmp_path), "smoke")
    first = next(iter(quickstart.choose(dataset)))
    soundfile.write(tmp_path / first, np.full(8000, np.nan, "float32"), 8000, subtype="FLOAT")
    again = quickstart.choose(dataset)
    assert first not in again
    assert len(again) == 2


def test_arms_take_equally_many_steps(outcome):
    """Every arm sees as many batches an epoch, also the one of whole clips."""
    steps = set()
    for arm in outcome.arms:
        config = TrainConfig.from_dict(
            json.loads((experiments.run_folder(outcome.folder, arm, 0) / "config.json").read_text())
        )
        steps.add((-(-config.epoch_size // config.batch_size), config.epochs))
    assert len(steps) == 1


def test_recordings_of_one_class_each_can_be_shown(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        audio.save(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 8000 * 2).astype("float32"), 8000)
        rows.append((f"{i}.wav", 0.5, 1.0, "bark" if i % 2 else "howl"))
    pd.DataFrame(rows, columns=["path", "start_s", "end_s", "label"]).to_csv(tmp_path / "labels.csv", index=False)
    dataset = clip_or_range.load("folder", str(tmp_path), "smoke", complete=True)
    assert len(clip_or_range.choose(dataset)) >= 1
    done = clip_or_range.run(dataset, "smoke", [0], tmp_path / "out", jobs=1)
    assert clip_or_range.most_wrong(done) in set(dataset.part("test")["recording"])
    found = clip_or_range.statistics(done)
    beside = [clip_or_range_checks.silence_by_class(done), clip_or_range_checks.confused_or_silent(done)]
    assert beside[0]["value"].isna().all(), "no window is silent"
    ledger = clip_or_range.claims(done, found, "folder", "smoke")
    rows = clip_or_range.results(clip_or_range.table(found), ledger, "folder", "smoke", beside)
    assert not [one for one in rows if one["metric"].endswith("on silence")]
    assert ledger.loc["B1.5", ["value", "verdict"]].tolist() == [0.0, "not reproduced"], (
        "a range a clip: none beyond one"
    )


def test_very_short_recordings_are_padded_to_a_second(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("bark", "howl"):
        for i in range(6):
            audio.save(tmp_path / name / f"{i}.wav", rng.normal(0, 0.1, 1200).astype("float32"), 8000)  # 0.15 s
    dataset = quickstart.load("folder", str(tmp_path), "smoke")
    config = quickstart.recipe(dataset, "smoke")
    material = quickstart.read(dataset, config)
    assert config.clip_s == 1.0
    assert material["train"].waves.shape[1] == config.sr
    quickstart.fit(config, material, quickstart.resolve(dataset, material), [0], tmp_path / "runs")


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((0.5123, 0.437, 0.59), "0.512 [0.437, 0.590]"),
        ((1.0, 1.0, 1.0), "1.000 no spread"),  # which is no certainty, and should not look like it
        ((0.5, np.nan, np.nan), "0.500 [unbounded]"),
        ((2129.4, 1543.0, 2837.0), "2,129 [1,543, 2,837]"),
    ],
)
def test_intervals_in_words_look_no_surer_than_they_are(numbers, told):
    assert experiments.interval_text(dict(zip(("value", "low", "high"), numbers, strict=True))) == told
