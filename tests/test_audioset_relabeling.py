"""Notebook 08's experiment: counts against loops and P2's examples, rules against known truth, honest verdicts."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from audiotk import datasets, stats
from audiotk.datasets import embedded
from audiotk.datasets.raters import PATH, RATERS, mini_ontology
from audiotk.errors import AudiotkError, NotForThisData
from audiotk.experiments import audioset_relabeling as experiment
from audiotk.experiments import hierarchies, rule_quality
from audiotk.noise import repair_quality
from audiotk.relabel import coselected, parent_expand, pe_cml, record
from audiotk.results import append_results, read_results

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "audioset"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return experiment.load("embedded", str(tmp_path_factory.mktemp("relabel")), "smoke")


@pytest.fixture(scope="module")
def audioset():
    if not (AUDIOSET / "balanced_train_segments.csv").exists():
        pytest.skip(f"no AudioSet labels at {AUDIOSET}; AUDIOTK_TEST_DATA may name another folder")
    return experiment.load("audioset", str(AUDIOSET), "smoke")


def present(labels):
    """Set of present classes of each segment."""
    frame = labels.frame() == 1
    return {segment: set(frame.columns[row]) for segment, row in zip(frame.index, frame.to_numpy(), strict=True)}


# --- the cases --------------------------------------------------------------------------------------------------------


def test_each_recording_has_the_labels_of_one_rater(case):
    raters, mine = list(RATERS.index), present(case.labels)
    theirs = {name: present(labels) for name, labels in case.by_source.items()}
    recordings = case.dataset.recordings["recording"].tolist()
    assert list(theirs) == raters
    assert all(mine.values())
    for segment, names in mine.items():
        k = recordings.index(segment.split("@")[0])
        assert names == theirs[raters[k % 3]][segment]
    silent = {f"{name}@0.000-10.000" for name in recordings} - set(mine)
    assert len(silent) < 0.1 * len(recordings)
    assert case.labels.counts()["unknown"].sum() == 0


def test_truth_is_closed_and_holds_all_that_raters_tick(case):
    truth = case.truth
    assert parent_expand(truth, case.ontology).labels == truth
    there = present(truth)
    for labels in case.by_source.values():
        assert all(names <= there[segment] for segment, names in present(labels).items())
    events = embedded.events(case.dataset)
    barks = {f"{name}@0.000-10.000" for name in events.loc[events["class_name"] == "bark", "recording"]}
    assert barks & set(there)
    for segment, names in there.items():
        assert ("Bark" in names) == (segment in barks)
        assert "Bark" not in names or {"Dog", "Animal", "Domestic animals, pets"} <= names


def test_other_data_is_refused(tmp_path):
    with pytest.raises(NotForThisData, match="esc50: this experiment is about labels of a hierarchy"):
        hierarchies.load("esc50", str(tmp_path), "demo")
    with pytest.raises(AudiotkError, match="scale: expected one of"):
        hierarchies.load("embedded", str(tmp_path), "huge")


def test_labels_of_the_evaluation_set_alone_load_without_a_warning(tmp_path):
    shutil.copy(PATH, tmp_path / "ontology.json")
    ids = {node["name"]: node["id"] for node in mini_ontology()}
    names = ["Bark", "Dog", "Music"]
    rows = [f'{number},{ids[name]},"{name}"' for number, name in enumerate(names)]
    (tmp_path / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    labels = [f'--PJHxphWE{n},0,10,"{ids["Bark"]},{ids["Dog"]}"' for n in range(3)]
    (tmp_path / "eval_segments.csv").write_text("\n".join(labels) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case = hierarchies.load("audioset", str(tmp_path), "demo")
    assert present(case.labels) == {f"--PJHxphWE{n}_0@0.000-10.000": {"Bark", "Dog"} for n in range(3)}
    with pytest.warns(UserWarning, match="no recording is in train or val"):
        datasets.load("audioset", str(tmp_path))


# --- counts -----------------------------------------------------------------------------------------------------------


def test_pairs_against_a_loop(case):
    there = present(case.labels)
    asked = both = 0
    expected = {}
    for names in there.values():
        for child in names:
            for parent in set(case.ontology.parents(child)) & set(case.labels.classes):
                found = expected.setdefault((child, parent), [0, 0])
                found[0] += parent in names
                found[1] += 1
                asked, both = asked + 1, both + (parent in names)
    edges = experiment.edges(case).set_index(["child", "parent"])
    for pair, (together, n) in expected.items():
        assert edges.loc[pair, ["both", "n"]].tolist() == [together, n]
        assert edges.loc[pair, "part"] in {pair[1], *case.ontology.ancestors(pair[1])} & set(case.ontology.roots)
    assert edges["n"].sum() == asked
    assert coselected(case.labels, case.ontology) == (both, asked)


def test_shares_by_part_are_those_of_the_pairs(case):
    table = experiment.by_part(case)
    for source, labels in case.by_source.items():
        edges = experiment.edges(case, labels).groupby("part")[["both", "n"]].sum()
        edges.loc["everywhere"] = edges.sum()
        mine = table[table["arm"] == source].set_index("metric")
        assert set(mine.index) == set(edges.index[edges["n"] > 0])
        for part, item in mine.iterrows():
            assert item["value"] == pytest.approx(edges.loc[part, "both"] / edges.loc[part, "n"])
            assert item["pairs"] == edges.loc[part, "n"]
            assert np.isnan(item["low"]) or item["low"] <= item["value"] <= item["high"]
    overall = table[table["metric"] == "everywhere"].set_index("arm")["value"]
    assert overall.is_monotonic_increasing  # rates 0.35, 0.50, 0.65
    assert set(table["n"]) == {case.group.nunique()}


def test_more_groups_than_units_are_joined_whole(case, monkeypatch):
    monkeypatch.setattr(experiment, "MOST_UNITS", 5)
    unit = experiment._units(case.group, np.random.default_rng(0))
    assert unit.nunique() == 5
    assert (unit.groupby(case.group).nunique() == 1).all()


def test_labels_and_masks_of_each_segment(case):
    found = experiment.schemes(case, "all")
    frame = found["PE-CML"].frame()
    table = experiment.per_segment(found["PE-CML"])
    assert table["labels"].tolist() == (frame == 1).sum(axis=1).tolist()
    assert table["masked"].tolist() == frame.isna().sum(axis=1).tolist()
    assert (experiment.per_segment(found["PEL"])["labels"] == table["labels"]).all()
    counts = experiment.counts(case, found)
    assert list(counts.index) == list(found["PE-CML"].classes)
    assert counts["OL"].isna().sum() == len(case.ontology) - len(case.labels.classes)
    assert counts["PEL"].sum() == table["labels"].sum()
    assert counts["masked"].sum() == table["masked"].sum()


def test_overview_counts_shared_nodes_under_each_root(case):
    table = experiment.overview(case)
    assert list(table.index) == list(case.ontology.roots)
    hubbub = "Hubbub, speech noise, speech babble"
    roots = {"Human sounds", "Channel, environment and background"}
    assert roots <= set(case.ontology.ancestors(hubbub))
    assert table["classes"].sum() == len(case.labels.classes) + 1
    touched = sum(any("Animal" in case.ontology.ancestors(n) or n == "Animal" for n in names)
                  for names in present(case.labels).values())  # fmt: skip
    assert table.loc["Animal", "segments"] == touched


def test_what_p2_prints_beside_the_balanced_training_set(audioset):
    table = experiment.compared(audioset)
    assert table.loc["parent ticked too, all pairs", "ours"] == "10,689 of 27,859 (38 %)"
    assert table.loc["the same, parents by restrictions", "ours"] == "10,689 of 28,290 (38 %)"
    assert table.loc["the same, parents by restrictions", "remark"].endswith("37.8 % in place of 38.4 %")
    remarks = {"OL": "527 classes", "PEL, all nodes": "632 nodes", "PEL, classes only": "527 classes"}
    for scheme, remark in remarks.items():
        assert table.loc[f"labels a segment, {scheme}", "remark"] == remark
    ends = binomtest(46, 65).proportion_ci(method="wilson")  # each segment is of another video
    assert table.loc["Electric guitar > Guitar", "ours"] == "46 of 65 (71 %)"
    assert table.loc["Electric guitar > Guitar", "interval"] == f"{100 * ends.low:.0f} to {100 * ends.high:.0f} %"
    assert table.loc["Rain > Water", "printed"] == "24 of 3,392 (0.71 %)"
    assert table.loc["labels a segment, OL", "ours"] == "2.386"
    assert table.loc["labels a segment, PEL, all nodes", "ours"] == "5.597"
    assert table.loc["labels a segment, PEL, classes only", "ours"] == "3.592"
    assert table.loc["masked a segment, PE-CML, all nodes", "ours"] == "24.476"
    assert table.loc["masked a segment, PE-CML, classes only", "ours"] == "19.912"
    there = present(audioset.labels.select(classes=["Guitar", *experiment_children(audioset, "Guitar")]))
    guitars = [names for names in there.values() if "Guitar" in names]
    some = sum(len(names) > 1 for names in guitars)
    assert table.loc["Guitar > any child", "ours"].startswith(f"{some} of {len(guitars)} ")
    classes = experiment.overview(audioset)[["classes", "P2: classes"]].astype(str)
    printed = classes[classes["P2: classes"] != "–"]
    assert len(printed) == 4
    assert (printed["classes"] == printed["P2: classes"]).all()


def test_parents_by_restrictions_against_a_loop(case):
    nodes = case.ontology.nodes.set_index("name")
    free = nodes.index[~(nodes["abstract"] | nodes["blacklisted"])]
    pairs = [
        parent in names
        for names in present(case.labels).values()
        for child in names
        for parent in set(case.ontology.parents(child)) & set(free)
    ]
    ours = experiment.compared(case).loc["the same, parents by restrictions", "ours"]
    assert ours.startswith(f"{sum(pairs):,} of {len(pairs):,} (")


def test_intervals_of_shares_know_groups(case):
    """All segments of a group say the same: the interval is as wide as that of one segment a group."""
    n, rng = len(case.labels.segments), np.random.default_rng(0)
    number = np.arange(n) % 20
    group = pd.Series(number, index=case.labels.segments)
    asked, both = np.ones(n), (number < 10).astype(float)
    alone = replace(case, group=pd.Series(np.arange(n), index=case.labels.segments))
    low, high = experiment._share_ends(alone, both, asked, rng)
    ends = binomtest(int(both.sum()), n).proportion_ci(method="wilson")
    assert (low, high) == (ends.low, ends.high)
    low, high = experiment._share_ends(replace(case, group=group), both, asked, rng)
    wide = binomtest(10, 20).proportion_ci(method="wilson")
    assert high - low == pytest.approx(wide.high - wide.low, abs=0.12)
    assert high - low > 1.4 * (ends.high - ends.low)
    several = experiment._share_ends(alone, both * 2, asked * 2, rng)  # two pairs in each segment are not independent
    assert several == pytest.approx((ends.low, ends.high), abs=0.05)


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, "100 %"), (0.9997, "100 %"), (0.386, "39 %"), (0.0071, "0.71 %"), (0.048, "4.8 %"), (0.0, "0 %")],
)
def test_shares_in_words(share, told):
    assert experiment._percent(share) == told


def experiment_children(case, name):
    return [child for child in case.ontology.children(name) if child in case.labels.classes]


# --- quality ----------------------------------------------------------------------------------------------------------


def test_quality_of_the_rules(case):
    found = rule_quality.quality(case)
    first, second = (rules["PEL"].loc["(all)"] for rules in found.values())
    assert first["correction_precision"] == 1  # nobody ticks what is not there
    assert first["correction_recall"] > 0.3
    assert 0 < second["wrong"] < 0.2 * case.labels.counts()["present"].sum()
    assert second["correction_precision"] < 1
    for rules in found.values():
        both = rules["PE-CML"].loc["(all)"]
        assert both["corrected"] == rules["PEL"].loc["(all)", "corrected"]
        assert both["mask_precision"] > both["chance"]
        assert rules["CML alone"].loc["(all)", "corrected"] == 0
    direct = repair_quality(case.truth, case.labels, pe_cml(case.labels, case.ontology).labels)
    pd.testing.assert_frame_equal(found["raters as simulated"]["PE-CML"], direct)
    words = rule_quality.quality_words(found)
    assert len(words) == 2 * len(rule_quality.RULES)
    grouped = rule_quality.by_kind(case, found["raters as simulated"]["PE-CML"])
    for column in ("missing", "repaired", "masked_errors", "left"):
        assert grouped[column].sum() == direct.loc["(all)", column]
    leaves = grouped[grouped.index.str.endswith(", leaves")]
    assert leaves["repaired"].sum() == 0  # a leaf is nobody's ancestor


def test_quality_of_the_rules_that_need_a_teacher(case):
    alone, trained = rule_quality.taught(case).values()
    assert list(alone) == list(trained) == list(rule_quality.TAUGHT)
    truth = case.truth.counts()
    whole = alone["correct missing"].loc["(all)"]
    assert whole["missing"] == pytest.approx(0.3 * truth["present"].sum(), rel=0.1)
    assert whole["wrong"] == pytest.approx(0.1 * truth["present"].sum(), rel=0.15)
    by_class = alone["correct missing"].loc[truth.index]
    many = truth["present"] > 100
    assert (
        (by_class["missing"] / truth["present"])[many].between(0.15, 0.45).all()
    )  # in each class, not just on average
    assert (by_class["wrong"] / truth["present"])[many & (truth["absent"] > truth["present"])].between(0.02, 0.25).all()
    for found in (alone, trained):
        table = pd.DataFrame({rule: each.loc["(all)"] for rule, each in found.items()}).T
        masking = table[table["masked"] > 0]
        assert set(masking.index) == {"percentile, mask", "correct + mask missing", "correct + mask both"}
        assert (masking["mask_precision"] > 1.5 * masking["chance"]).all()
        assert (table["corrected"] > 0).sum() == 7
        assert table.loc["correct missing", "correction_precision"] > 0.85
        both = table.loc[["percentile, mask", "percentile, correct"]]
        assert both["masked_errors"].iloc[0] == both["corrected_right"].iloc[1]  # the same cells
    for rule in alone:  # who repeats errors finds fewer of them
        one, other = (each[rule].loc["(all)", ["repaired", "masked_errors"]].sum() for each in (alone, trained))
        assert other < 0.85 * one
    assert len(rule_quality.quality_words({"a": alone})) == len(rule_quality.TAUGHT)


def test_only_so_many_segments_are_scored(case, monkeypatch):
    monkeypatch.setattr(rule_quality, "MOST_SEGMENTS", 20)
    table = rule_quality.taught(case)["independent teacher"]["correct missing"]
    assert table.loc["(all)", "judged"] == 20 * len(case.labels.classes)


def test_without_truth_the_labels_are_taken_for_it(case):
    truth, ticked = rule_quality.known(replace(case, truth=None))
    assert truth == parent_expand(case.labels, case.ontology).labels
    there = present(truth)
    assert all(names <= there[segment] for segment, names in present(ticked).items())
    assert ticked != case.labels
    assert rule_quality.known(replace(case, truth=None))[1] == ticked


# --- traced, undone, claimed ------------------------------------------------------------------------------------------


def test_leaving_the_source_out_undoes_a_rule(case):
    after, audit = pe_cml(case.labels, case.ontology)
    recorded = record(case.dataset, [audit], case.source)
    orders = [["relabel:pe-cml", case.source], [case.source]]
    table = experiment.believed(case, recorded, after.classes, orders)
    mean = experiment.per_segment(after).mean()
    first, second = table.index
    assert table.loc[first, ["labels", "masked"]].tolist() == pytest.approx(mean.tolist())
    assert table["same as OL"].tolist() == [False, True]
    assert table.loc[second, "masked"] == 0


def test_simulated_raters_are_no_test_of_the_claims(case, tmp_path):
    ledger = experiment.claims(case, "embedded", "smoke")
    assert ledger.index.tolist() == ["P2.1", "P2.2"]
    assert set(ledger["verdict"]) == {stats.NEEDS_DATA}
    assert ledger["value"].isna().all()
    found = rule_quality.quality(case) | rule_quality.taught(case)
    rows = experiment.results(case, experiment.by_part(case), found, ledger, "embedded", "smoke")
    append_results(tmp_path, rows)
    read = read_results(tmp_path)
    names = {"audioset_relabeling", "audioset_relabeling: raters", "audioset_relabeling: quality"}
    assert set(read["experiment"]) == names
    quality = read[read["experiment"] == "audioset_relabeling: quality"]
    assert set(quality["arm"]) == {*rule_quality.RULES, *rule_quality.TAUGHT}
    labels = read[(read["metric"] == "labels a segment, classes") & (read["arm"] == "OL")]["value"]
    assert labels.tolist() == [pytest.approx(experiment.per_segment(case.labels)["labels"].mean())]


def test_claims_on_a_part_of_audioset(audioset, monkeypatch):
    ledger = experiment.claims(audioset, "audioset", "demo")
    assert set(ledger["verdict"]) == {stats.NEEDS_DATA}
    assert ledger.loc["P2.1", "value"] == pytest.approx(0.52 - 10689 / 27859)
    assert ledger.loc["P2.2", "value"] == pytest.approx(1 - 24.476 / 28.7, abs=1e-4)
    assert ledger.loc["P2.2", "low"] < ledger.loc["P2.2", "value"] < ledger.loc["P2.2", "high"]
    with monkeypatch.context() as other:
        other.setitem(experiment.PER_SEGMENT, "labels, OL", 5.0)  # the third number counts, too
        assert experiment.effects(audioset)["P2.2"].value == pytest.approx(1 - 2.38637 / 5, abs=1e-4)
    monkeypatch.setattr(experiment, "WHOLE_SIZE", 22160)  # as if this were all of it, but not the excerpt
    ledger = experiment.claims(audioset, "audioset", "demo")
    assert ledger["verdict"].tolist() == ["not reproduced", stats.NEEDS_DATA]
    monkeypatch.undo()
    monkeypatch.setattr(experiment, "EXCERPT_SIZE", 22160)  # as if this were it
    ledger = experiment.claims(audioset, "audioset", "demo")
    rule = stats.claims().loc["P2.2"]
    interval = stats.Interval(*ledger.loc["P2.2", ["value", "low", "high"]], 0.95, 1)
    expected = stats.verdict(interval, rule["direction"], rule["smallest_effect"])
    assert ledger["verdict"].tolist() == [stats.NEEDS_DATA, expected]
    assert expected != stats.NEEDS_DATA
