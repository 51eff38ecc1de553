"""Notebooks 03 and 04: the accident, equal steps, promoted negatives, what is never trained on, empty findings."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiotk import audio, figures, ghost_figures, mining
from audiotk.experiments import ghost_claims, ghost_sounds, ghosts, real_ghosts, silence_energy
from audiotk.experiments.ghosts import Ghosts
from audiotk.resample import Statistic
from audiotk.results import append_results, read_results
from audiotk.tables import AudiotkError

ENDS = ["value", "low", "high"]


def weaker_of(changed, metric, arm) -> list[float]:
    """The higher of both tables' rows: the same draws in tables and claims."""
    rows = [changed[name].loc[arm, ENDS].astype(float) for name in (metric, f"{metric}{ghosts.AT_TEST}")]
    return np.maximum(*rows).tolist()


@pytest.fixture(scope="module")
def parts() -> Ghosts:
    return ghosts.prepare(ghosts.load("embedded", "", "smoke"), "smoke")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("ghosts")


@pytest.fixture(scope="module")
def mined(parts, out):
    return ghost_sounds.mine(parts, [0], out, jobs=1)


def test_only_segments_without_event_get_a_class_by_accident(parts):
    truth, said = parts.truth["train"].frame(), parts.labels.frame()
    changed = ((truth != said) & ~(truth.isna() & said.isna())).any(axis=1)
    assert changed.equals(parts.accidents[changed.index] & (said == 1).any(axis=1))
    assert (truth[parts.accidents] == 0).all(axis=None)
    assert ((said[parts.accidents] == 1).sum(axis=1) == 1).all()
    free = (truth == 0).all(axis=1)
    assert 0.3 < parts.accidents.sum() / free.sum() < 0.7


def test_no_group_is_in_two_parts(parts):
    groups = [set(part.segments["group"]) for part in (parts.train, parts.pool, parts.val, parts.test)]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_mined_are_false_by_a_log_that_errs_and_have_places(parts, mined):
    found = mined[0].false_positives
    truth, scores = parts.truth["pool"].frame(), mined[0].scores["pool"]
    assert len(found) == len(mined[0].vectors) > 10
    told = ghost_sounds.truth_of(parts, found)
    assert [truth.loc[row.segment, row.class_name] for row in found.itertuples()] == list(told)
    assert set(told) <= {0, 1}
    every = ((truth == 1) & (scores[truth.columns] > mined[0].thresholds[truth.columns])).to_numpy().sum()
    assert 0 < (told == 1).sum() < 0.3 * every  # of the true detections a tenth is called false
    for row in found.to_dict("records"):
        assert row["score"] > mined[0].thresholds[row["class_name"]]
    assert found["level_dbfs"].notna().all()


def test_the_listener_promotes_and_training_uses_it(parts, mined, out):
    told = ghost_sounds.listen(parts, mined[0], out)
    assert len(told) > 0
    assert ghost_sounds.listen(parts, mined[0], out).equals(told), "what was promoted stays"
    idle = replace(mined[0], seed=9)  # nobody promoted anything for this one
    outcome = ghost_sounds.train_again(parts, [*mined, idle], out, jobs=1)
    arms = {arm for arm, _ in outcome.scores}
    assert outcome.scores[ghost_sounds.OUTPUTS, 9].equals(mined[0].scores["test"]), "the loop left it as it was"
    assert not outcome.scores[ghost_sounds.OUTPUTS, 0].equals(mined[0].scores["test"])
    assert arms == {ghost_sounds.RAW, ghost_sounds.OUTPUTS, ghost_sounds.ZEROS, ghost_sounds.RANDOM, ghost_sounds.CLEAN}
    fires = (mined[0].scores["val"][parts.classes] > mined[0].thresholds).any(axis=1)
    silent = (parts.truth["val"].frame() == 0).all(axis=1)
    assert outcome.quiet[ghost_sounds.RAW] == pytest.approx(fires[silent].mean()), "of validation, not of test"
    epochs = {len((path / "history.jsonl").read_text().splitlines()) for path in (out / "runs").iterdir()}
    assert epochs == {parts.epochs}
    summary = ghosts.table(outcome.found)
    assert set(ghosts.wide(summary).columns) <= set(ghosts.SHOWN)
    repeatable = ghost_claims.repeatability(parts, mined)
    ledger = ghost_claims.claims(parts, outcome, repeatable, "embedded", "smoke")
    assert ledger.index.tolist() == ["B2.1", "B2.2", "B2.3"]
    agreed = ghost_claims.agreement(repeatable)
    assert not set(ledger["verdict"]) & {"reproduced", "not reproduced"}, "smoke decides nothing"
    changed = ghosts.changes(outcome.found, ghost_sounds.RAW)
    assert tuple(changed) == ghosts.COMPARED
    assert all(set(table.index) == arms - {ghost_sounds.RAW} for table in changed.values())
    assert weaker_of(changed, ghosts.QUIET, outcome.way) == pytest.approx(
        ledger.loc["B2.3", ENDS].tolist(), nan_ok=True
    )
    rows = ghost_claims.result_rows(summary, changed, agreed, ledger, outcome, "embedded", "smoke")
    effect = next(row for row in rows if row["experiment"] == "B2.3")
    assert effect["arm"] == f"{outcome.way} minus {ghost_sounds.RAW}, {ghosts.WEAKER}"
    assert len(rows) == len(summary) + len(changed) * len(arms) + ledger["value"].notna().sum() + len(agreed)
    beside = ghost_claims.against_random(outcome)
    assert tuple(beside) == ghosts.COMPARED
    means = [
        np.mean([one.value() for one in outcome.found[ghosts.QUIET][arm].values()])
        for arm in (outcome.way, ghost_sounds.RANDOM)
    ]
    assert beside[ghosts.QUIET].value == pytest.approx(means[0] / means[1] - 1, nan_ok=True)
    assert str(outcome.way) in ghost_claims.against_random_in_words(outcome)
    assert [row["arm"] for row in rows if row["metric"].endswith("share of random negatives")] == [outcome.way] * 5
    assert ghost_sounds.promotion_quality(parts, mined, out)["promoted"].tolist() == [
        mining.promoted(ghosts.store_of(out, 0), parts.door)[0]["segment"].nunique()
    ]
    for figure in (
        ghost_figures.clusters(ghost_sounds.clusters(parts, mined[0])),
        ghost_figures.by_level(ghost_claims.levels(parts, outcome)),
        ghost_figures.floors(parts.floors),
        ghost_figures.changes(changed, 0.2),
    ):
        assert figure.axes
    assert "fewer than 20" in ghost_figures.by_level(ghost_claims.levels(parts, outcome)).axes[0].get_title()
    page = ghost_figures.table(ghosts.wide(summary)).data
    assert page.count("<th") - page.count("<thead") == page.count('<th style="text-align:left;white-space:normal">')
    assert page.count("<td") == page.count('<td style="text-align:left;white-space:normal">') > 0


def test_all_four_sets_of_clusters_are_told(parts, mined, out):
    rng, groups = np.random.default_rng(0), np.repeat([f"dog{k}" for k in range(12)], 30)
    several = np.resize(np.unique(groups), len(parts.pool.segments))
    pool = replace(parts.pool, segments=parts.pool.segments.assign(group=several))
    heap = rng.normal(size=(len(groups), 12))
    blobs = rng.normal(size=(8, 12))[rng.integers(8, size=len(groups))] + 0.3 * heap  # the same in each group
    rows = pd.DataFrame({"segment": np.arange(len(groups)).astype(str), "group": groups})
    made = [
        replace(mined[0], seed=seed, false_positives=rows, vectors=blobs, positives=heap, positive_groups=groups)
        for seed in (0, 1)
    ]
    repeatable = ghost_claims.repeatability(replace(parts, pool=pool), made)
    agreed = ghost_claims.agreement(repeatable)
    assert list(agreed.index) == ["false positives", "true positives", "shuffled", "unclustered"]
    assert agreed.loc["false positives", "low"] > 0.9
    assert (agreed["value"].iloc[1:] < 0.5).all()
    means = {name: np.mean([one.value() for one in by_seed.values()]) for name, by_seed in repeatable.items()}
    assert agreed["value"].to_dict() == pytest.approx(means)
    nothing = pd.DataFrame(columns=["metric", "arm", "value", "low", "high", "n"])
    outcome = ghost_sounds.Outcome({}, {}, {}, {}, pd.Series(dtype=float), pd.DataFrame())
    ledger = pd.DataFrame({"value": []})
    told = ghost_claims.result_rows(nothing, {}, agreed, ledger, outcome, "embedded", "demo")
    assert {row["arm"]: (row["value"], row["low"], row["n"]) for row in told} == {
        name: tuple(agreed.loc[name, ["value", "low", "n"]]) for name in agreed.index
    }
    append_results(out / "told", told)
    assert set(read_results(out / "told")["split"]) == {"train"}


def test_promoted_segments_are_a_quarter_of_what_is_drawn_and_held_out_ones_never(parts, mined, out):
    ghost_sounds.listen(parts, mined[0], out)
    base = ghost_sounds.Arm("raw", parts.train, ghosts.with_concepts(parts.labels, mining.THEMES), ghosts.config(parts))
    arms = ghost_sounds._promoted_arms(parts, base, mined[0], out)
    held = set(parts.val.segments["recording"]) | set(parts.test.segments["recording"])
    n = len(parts.train.segments)
    for arm in arms:
        assert arm.config == base.config, "as many steps"
        assert arm.weights[n:].sum() == pytest.approx(ghost_sounds.SHARE)
        assert not set(arm.material.segments["recording"]) & held
        extra = arm.labels.frame().iloc[n:]
        assert not (extra[parts.classes] == 1).any(axis=None), "negatives only"
    outputs, zeros, random = (arm.labels.frame().iloc[n:] for arm in arms)
    assert (outputs[list(mining.THEMES)].sum(axis=1) == 1).all()
    assert zeros[list(mining.THEMES)].isna().all(axis=None)
    assert len(outputs) == len(zeros) == len(random)


def test_kinds_are_those_of_thresholds_of_validation():
    metrics = [*ghosts.SHOWN, "fires on ambience at equal test recall", "fires on hum", "fires on clean"]
    summary = pd.DataFrame({"metric": metrics, "arm": "a", "value": 0.5})
    assert list(ghosts.by_kind(summary)) == ["clean", "hum"]


def test_changes_are_relative_and_paired_in_each_metric():
    units = pd.Index([f"group{k}" for k in range(12)])
    rate = np.random.default_rng(0).uniform(1, 9, len(units))  # groups differ much more than the arms do

    def arm(factor: float) -> dict[int, Statistic]:
        return {seed: Statistic(units, lambda counts: factor * counts @ rate / counts.sum(axis=1)) for seed in range(3)}

    found = {metric: {"base": arm(1.0), "half": arm(0.5), "same": arm(1.0)} for metric in (*ghosts.COMPARED[1:], "mAP")}
    tables = ghosts.changes(found, "base")
    assert tuple(tables) == ghosts.COMPARED[1:], "what was not measured has no table, and mAP is none of them"
    for table in tables.values():
        assert list(table.index) == ["half", "same"]
        np.testing.assert_allclose(table[["value", "low", "high"]], [[-0.5] * 3, [0.0] * 3], atol=1e-9)
    summary = pd.DataFrame(columns=["metric", "arm", "value", "low", "high", "n"])
    rows = ghosts.results("x", summary, tables, "base", pd.DataFrame({"value": []}), {}, "embedded", "demo")
    assert {(row["metric"], row["arm"]) for row in rows} == {
        (f"{metric}, change as a share of base", name) for metric in tables for name in ("half", "same")
    }
    figure = ghost_figures.changes(tables)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert [title.replace("\n", " ") for title in titles] == list(tables)
    assert max(len(line) for title in titles for line in title.split("\n")) <= 34
    assert 100 * figure.get_figwidth() <= 900, "type is as large on a page as it was drawn"
    with pytest.raises(AudiotkError, match="got none"):
        ghost_figures.changes({})


def test_a_fall_counts_as_far_as_it_is_there_at_both_thresholds():
    units = pd.Index([f"group{k}" for k in range(12)])
    rate = np.random.default_rng(0).uniform(1, 9, len(units))

    def arm(*factors: float) -> dict[int, Statistic]:
        return {
            seed: Statistic(units, lambda counts, factor=factor: factor * counts @ rate / counts.sum(axis=1))
            for seed, factor in enumerate(factors)
        }

    at = f"x{ghosts.AT_TEST}"
    found = {"x": {"base": arm(1, 1), "new": arm(0.2, 0.2)}, at: {"base": arm(1, 1), "new": arm(0.6, 1.0)}}
    ours, exact = (ghosts.change(found, name, "new", "base") for name in ("x", at))
    told = ghosts.weaker(found, "x", "new", "base")
    assert (told.value, told.high) == (exact.value, exact.high), "the weaker fall"
    assert told.low == ours.low > exact.low, "each end by itself"
    assert ghosts.weaker({"x": found["x"]}, "x", "new", "base") is None
    assert ghosts.weaker({**found, at: {"base": arm(1, 1), "new": arm(1)}}, "x", "new", "base") is None, "other seeds"
    assert ghosts.weaker(found, "x", "", "base") is None


def test_the_way_of_promotion_is_the_one_that_fires_less():
    def outcome(**quiet):
        return ghost_sounds.Outcome({}, {}, {}, {}, pd.Series(quiet, dtype=float), pd.DataFrame())

    assert outcome(**{ghost_sounds.RAW: 0.1, ghost_sounds.OUTPUTS: 0.3, ghost_sounds.ZEROS: 0.2}).way == (
        ghost_sounds.ZEROS
    )
    assert outcome(**{ghost_sounds.OUTPUTS: 0.2, ghost_sounds.ZEROS: 0.2}).way == ghost_sounds.OUTPUTS
    assert outcome(**{ghost_sounds.OUTPUTS: np.nan, ghost_sounds.ZEROS: np.nan}).way == ghost_sounds.OUTPUTS
    assert outcome(**{ghost_sounds.RAW: 0.1}).way == ""


@pytest.mark.parametrize("number", [0, 1])
def test_little_found_still_ends_with_a_table(parts, mined, out, tmp_path, number):
    silent = {part: pd.DataFrame(0.1, parts_of.segments["segment"], [*parts.classes, *mining.THEMES])
              for part, parts_of in (("val", parts.val), ("pool", parts.pool), ("test", parts.test))}  # fmt: skip
    told = silent["pool"] * 0
    absent = parts.truth["pool"].frame()[parts.classes].eq(0).all(axis=1)
    told.loc[absent[absent].index[:number], parts.classes[0]] = 0.99
    for run in ("accidental-silence-seed0", "labels-without-accident-seed0"):
        if (out / "runs" / run).exists():  # trained before: no need to do it again
            shutil.copytree(out / "runs" / run, tmp_path / "runs" / run)
    with pytest.warns(UserWarning, match="fewer than"):
        little = ghost_sounds._mined(parts, 0, {**silent, "pool": told}, tmp_path)
    assert little.false_positives["cluster"].tolist() == [-1] * number, "one is no cluster"
    assert len(little.vectors) == number
    assert len(ghost_sounds.with_map(little).false_positives) == number
    assert ghost_sounds.listen(parts, little, tmp_path).empty
    assert ghost_sounds.clusters(parts, little).empty
    assert ghost_figures.clusters(ghost_sounds.clusters(parts, little)).axes
    outcome = ghost_sounds.train_again(parts, [little], tmp_path, jobs=1)
    assert {arm for arm, _ in outcome.scores} == {ghost_sounds.RAW, ghost_sounds.CLEAN}
    repeatable = ghost_claims.repeatability(parts, [little])
    assert ghost_claims.agreement(repeatable).empty
    assert figures.intervals(ghost_claims.agreement(repeatable), ghost_claims.INDEX).axes
    ledger = ghost_claims.claims(parts, outcome, repeatable, "embedded", "smoke")
    assert ledger.loc[["B2.2", "B2.3"], "verdict"].tolist() == ["needs data we lack"] * 2
    assert ghost_claims.against_random_in_words(outcome) == "nothing was promoted"
    assert not ghosts.wide(ghosts.table(outcome.found)).empty


def test_all_arms_of_notebook_04(parts, tmp_path):
    outcome = silence_energy.run(parts, [0], tmp_path, "smoke", jobs=1)
    arms = {arm for arm, _ in outcome.scores}
    assert len(arms) == 2 + silence_energy.AGAIN + 4 + 3  # deployed, trained again, deeper and longer, without training
    assert {silence_energy.GATE, silence_energy.VALIDATOR, *silence_energy.INFORMED, *silence_energy.USELESS} <= arms
    gated, raw = outcome.scores[silence_energy.GATE, 0], outcome.scores[silence_energy.DEPLOYED, 0]
    assert ((gated == raw) | (gated == 0)).all(axis=None)
    ledger = silence_energy.claims(outcome, "embedded", "smoke")
    assert ledger.index.tolist() == ["B2.4", "B2.5", "B2.6", "B2.7"]
    assert ledger["value"].notna().all()
    changed = silence_energy.changed(outcome)
    assert tuple(changed) == ghosts.COMPARED
    told = weaker_of(changed, ghosts.QUIET, silence_energy.TOGETHER)
    assert told == pytest.approx(ledger.loc["B2.5", ENDS].tolist(), nan_ok=True)
    silent = ghosts.weaker(outcome.found, "fires on silence", silence_energy.OUTPUTS, silence_energy.RAW)
    assert [silent.value, silent.low, silent.high] == pytest.approx(ledger.loc["B2.4", ENDS].tolist(), nan_ok=True)
    rows = silence_energy.result_rows(ghosts.table(outcome.found), changed, ledger, "embedded", "smoke")
    shifts = [row for row in rows if "change as a share of" in row["metric"]]
    assert len(shifts) == len(ghosts.COMPARED) * (len(arms) - 1)
    cost = silence_energy.cost(parts, outcome)
    assert cost.loc[silence_energy.DEEP, "MACs"] > 1.3 * cost.loc[silence_energy.DEPLOYED, "MACs"]
    assert cost.loc[silence_energy.VALIDATOR, "MACs"] < 1.01 * cost.loc[silence_energy.DEPLOYED, "MACs"]
    assert cost.notna().all(axis=None)
    assert cost.loc[silence_energy.VALIDATOR, "ms a segment"] > cost.loc[silence_energy.DEPLOYED, "ms a segment"]
    needed = (raw > silence_energy.FLOOR).any(axis=1).mean()
    assert cost[silence_energy.NEED].to_dict() == {
        silence_energy.DEPLOYED: 1, silence_energy.DEEP: 1, silence_energy.VALIDATOR: pytest.approx(needed)
    }  # fmt: skip


def test_a_seed_with_too_few_verdicts_leaves_its_model_as_it_was():
    one, two, judged = ({"test": pd.DataFrame([value])} for value in (1.0, 2.0, 3.0))
    told = {(silence_energy.DEPLOYED, 0): one, (silence_energy.DEPLOYED, 1): two, (silence_energy.VALIDATOR, 1): judged}
    filled = silence_energy._filled(told, [0, 1])
    assert filled[silence_energy.VALIDATOR, 0] is one
    assert filled[silence_energy.VALIDATOR, 1] is judged
    assert {arm for arm, _ in filled} == {silence_energy.DEPLOYED, silence_energy.VALIDATOR}


def test_the_cost_of_a_validator_in_words_weighs_time_with_the_segments_that_need_it():
    arms = [silence_energy.DEPLOYED, silence_energy.DEEP, silence_energy.VALIDATOR]
    spent = pd.DataFrame({silence_energy.MS: [2.0, 5.0, 3.0], silence_energy.NEED: [1.0, 1.0, 0.5]}, index=arms)
    told = silence_energy.cost_in_words(spent)
    assert "1.50 times" in told
    assert "above 0.02 in any class (here: 50% of the test segments), 1.25 times on average" in told
    assert "2.50 times with the deeper net" in told
    told = silence_energy.cost_in_words(spent.assign(**{silence_energy.NEED: 1.0}))
    assert "(here: all test segments), and 2.50 times" in told, "nothing is saved"
    assert "average" not in told


def test_made_silence_is_labelled_as_what_it_is(parts):
    base = silence_energy.Arm("a", parts.train, ghosts.with_concepts(parts.labels, silence_energy.CONCEPTS),
                              ghosts.config(parts))  # fmt: skip
    made = silence_energy.made_silence(parts, ("clean", "device"), np.random.default_rng(0), n=6)
    with_outputs = silence_energy.nothing(made, base, silence_energy.CONCEPTS).frame()
    assert with_outputs["neg_clean"].tolist() == [1, 0, 1, 0, 1, 0]
    assert with_outputs["neg_device"].tolist() == [0, 1, 0, 1, 0, 1]
    assert (with_outputs[[*parts.classes, "neg_noisy"]] == 0).all(axis=None)
    assert silence_energy.nothing(made, base, ()).frame()[list(silence_energy.CONCEPTS)].isna().all(axis=None)


# --- real sound -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def esc10() -> Path:
    root = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "esc10"
    if not root.exists():
        pytest.skip(f"no real data at {root}")
    return root


@pytest.fixture(scope="module")
def real(esc10):
    return real_ghosts.load(str(esc10), "smoke")


def test_composed_events_are_where_the_truth_says(real):
    events = real.annotations[(real.annotations["source"] == "truth") & (real.annotations["value"] == 1)]
    places = events.merge(real.segments, on="segment").merge(real.recordings[["recording", "path"]], on="recording")
    louder = 0
    for row in places.to_dict("records"):
        wave, sr = audio.load(row["path"])
        inside = wave[round(row["start_s"] * sr) : round(row["end_s"] * sr)]
        louder += np.square(inside).mean() > np.square(wave).mean()
    assert louder > 0.8 * len(places)


def test_no_source_is_in_two_groups_or_parts(real):
    rows = real.recordings.assign(split=real.recordings["recording"].map(real.split))
    used = rows.assign(source=rows["sources"].str.split(";")).explode("source")
    used = used[used["source"] != ""]
    assert (used.groupby("source")["group"].nunique() == 1).all()
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    assert set(real.split) == {"train", "val", "test"}


def test_real_recordings_are_the_same_again(real, esc10):
    again = real_ghosts.load(str(esc10), "smoke")
    pd.testing.assert_frame_equal(real.recordings, again.recordings)
    pd.testing.assert_frame_equal(real.annotations, again.annotations)


def test_esc_without_dogs_is_refused(esc10, tmp_path):
    meta = pd.read_csv(esc10 / "meta" / "esc50.csv")
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").symlink_to(esc10 / "audio")
    meta[meta["category"] != "dog"].to_csv(tmp_path / "meta" / "esc50.csv", index=False)
    with pytest.raises(AudiotkError, match="no recording of dog"):
        real_ghosts.load(str(tmp_path), "smoke")
