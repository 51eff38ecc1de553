"""Notebook 01: the simulated labeler, what is read from the store, training on it, its figure, its door, its page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from audiotk import audio, coverage_figures, labels
from audiotk.agreement import agreement
from audiotk.doctor import find_chromium
from audiotk.errors import AudiotkError, NotForThisData
from audiotk.events import truth_ranges
from audiotk.experiments import label_segments as experiment
from audiotk.experiments import label_training
from audiotk.experiments.simulated_labeler import BEGIN, CAREFUL, Habits, claims_of, simulate_labeling
from audiotk.formats.cutting import export_segments
from audiotk.results import append_results, read_results
from audiotk.store import Store, make_operation, open_store
from audiotk.store.operations import check_inside
from audiotk.tables import Dataset
from audiotk.widgets.entrance import Entrance

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_label_segments.ipynb"
FAULTLESS = Habits(start_s=0, end_s=0, late_s=0, miss=0, miss_short=0, confuse=0, merge_s=0, whole=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return experiment.load("embedded", str(tmp_path_factory.mktemp("data")), "smoke")


@pytest.fixture(scope="module")
def recordings(dataset: Dataset) -> pd.DataFrame:
    return experiment.choose(dataset, "smoke")


@pytest.fixture(scope="module")
def folder_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Recordings of 2 s that have clip labels alone; "low" sounds in the second half of each of its clips."""
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    time_s = np.arange(2 * 8000) / 8000
    for name, hertz in (("low", 300), ("high", 1800)):
        for place in range(16):
            wave = 0.2 * np.sin(2 * np.pi * hertz * time_s) * (time_s > 1) + 0.01 * rng.normal(size=len(time_s))
            audio.save(root / name / f"{name}{place}.wav", wave.astype("float32"), 8000)
    return experiment.load("folder", str(root), "smoke")


def simulated(dataset: Dataset, names: list[str], seed: int = 0, habits: Habits = CAREFUL) -> list[Any]:
    return simulate_labeling(dataset, names, "ann", np.random.default_rng(seed), habits)


def labelled(dataset: Dataset, recordings: pd.DataFrame, path: Path, habits: Habits = FAULTLESS) -> experiment.Labeled:
    """Read from a store what a simulated labeler left."""
    store = open_store(path)
    store.append(simulated(dataset, recordings["recording"].tolist(), habits=habits))
    return experiment.read(dataset, recordings, store, "ann")


# --- the simulated labeler --------------------------------------------------------------------------------------------


def test_the_same_seed_does_the_same_and_more_recordings_change_nothing(dataset: Dataset) -> None:
    names = dataset.part("train")["recording"].tolist()
    assert simulated(dataset, names) == simulated(dataset, names)  # uuids and times included
    assert simulated(dataset, names, seed=1) != simulated(dataset, names)
    first = simulated(dataset, names[:3])
    assert simulated(dataset, names)[: len(first)] == first


def test_operations_are_valid_and_in_order(dataset: Dataset) -> None:
    names = dataset.recordings["recording"].tolist()
    operations = simulated(dataset, names)
    durations = dataset.recordings.set_index("recording")["duration_s"]
    for operation in operations:
        check_inside(operation, durations[operation.recording])
    times = [operation.at for operation in operations]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert times[0] is not None
    assert times[0] > BEGIN
    assert len({operation.uuid for operation in operations}) == len(operations)
    kinds = {operation.kind for operation in operations}
    assert kinds == {"recording", "heard", "segment", "undo", "claim"}  # slips happen, and are taken back
    assert len({time.date() for time in times if time}) == 2  # so that there is a yesterday to ask about


def test_a_labeler_without_an_error_says_the_truth(dataset: Dataset, tmp_path: Path) -> None:
    table = dataset.recordings
    labeled = labelled(dataset, table, tmp_path / "l.sqlite")
    truth = truth_ranges(dataset.annotations, dataset.segments)
    keys = ["recording", "class_name", "start_s", "end_s"]
    found = labeled.segments[keys].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(found, truth[keys].sort_values(keys, ignore_index=True), atol=6e-4, rtol=0)
    answers = experiment.answers(labeled)
    there = set(zip(truth["recording"], truth["class_name"], strict=True))
    for name, claim in claims_of(dataset).items():
        expected = "confirmed" if (name, claim) in there else "not_found"
        assert answers.loc[name, "verdict"] == expected
        assert answers.loc[name, "truly"] == ("yes" if expected == "confirmed" else "no")
    assert {"confirmed", "not_found"} <= set(answers["verdict"])
    assert (answers["heard"] == 1).all()


def test_errors_come_at_the_rates_that_are_asked_for(dataset: Dataset) -> None:
    names = dataset.recordings["recording"].tolist()
    truth = truth_ranges(dataset.annotations, dataset.segments)

    def count(**habits: float) -> pd.DataFrame:
        made = simulated(dataset, names, habits=replace(FAULTLESS, **habits))
        left = {op.payload["id"]: op.payload for op in made if op.kind == "segment"}  # the last one counts
        return pd.DataFrame(left.values(), columns=["id", "start_s", "end_s", "class_name", "note"])

    assert len(count(miss=1.0)) == 0
    half = len(count(miss=0.5)) / len(truth)
    assert abs(half - 0.5) < 3 * np.sqrt(0.25 / len(truth))  # three standard deviations of a share
    assert set(count(confuse=1.0)["class_name"]) <= set(dataset.classes)
    assert len(count(merge_s=10.0)) == len(truth.groupby(["recording", "class_name"]))
    late = count(late_s=0.2)["end_s"].mean() - count()["end_s"].mean()
    assert 0.1 < late < 0.2  # the ends of recordings stop some
    heard = [
        op.payload["ranges"]
        for op in simulated(dataset, names, habits=replace(FAULTLESS, whole=0.0))
        if op.kind == "heard"
    ]
    assert all(ranges[0][0] == 0 and 5 <= ranges[0][1] <= 9.5 for ranges in heard)


def test_verdicts_of_what_was_missed_or_not_heard(dataset: Dataset, tmp_path: Path) -> None:
    truth = truth_ranges(dataset.annotations, dataset.segments)
    there = set(zip(truth["recording"], truth["class_name"], strict=True))
    names = [name for name, claim in claims_of(dataset).items()]
    made = simulated(dataset, names, habits=replace(FAULTLESS, miss=1.0))
    said = {op.recording: op.payload["verdict"] for op in made if op.kind == "claim"}
    assert said == {
        name: "unsure" if (name, claim) in there else "not_found" for name, claim in claims_of(dataset).items()
    }
    made = simulated(dataset, names, habits=replace(FAULTLESS, whole=0.0))
    said = {op.recording: op.payload["verdict"] for op in made if op.kind == "claim"}
    assert "not_found" not in said.values()  # nobody who left half way may say so
    assert set(names) - set(said)


# --- the recorded run -------------------------------------------------------------------------------------------------


def test_replaying_again_adds_nothing(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> None:
    before = experiment.replay(dataset, recordings, tmp_path).operations()
    store = experiment.replay(dataset, recordings, tmp_path)
    pd.testing.assert_frame_equal(store.operations(), before)
    assert store.labelers() == ["replayed", "second"]
    assert len(list(tmp_path.glob("*.sqlite"))) == 1
    fewer = experiment.replay(dataset, recordings[:3], tmp_path)  # another recorded run, another file
    assert fewer.url != store.url
    assert set(fewer.recordings()["recording"]) == set(recordings["recording"][:3])


def test_nothing_is_replayed_without_true_ranges(folder_data: Dataset, tmp_path: Path) -> None:
    chosen = experiment.choose(folder_data, "smoke")
    store = experiment.replay(folder_data, chosen, tmp_path)
    assert len(store.operations()) == 0
    with pytest.raises(NotForThisData, match="no labeler can be replayed; label some recordings above"):
        experiment.read(folder_data, chosen, store, experiment.REPLAYED)
    with pytest.raises(AudiotkError, match="bob has not labelled anything here yet"):
        experiment.read(folder_data, chosen, store, "bob")
    with pytest.raises(NotForThisData, match="true time ranges"):
        simulated(folder_data, chosen["recording"].tolist())


def test_recordings_come_from_train_with_the_claimed_classes_in_turn(dataset: Dataset, folder_data: Dataset) -> None:
    for one in (dataset, folder_data):
        chosen = experiment.choose(one, "smoke")["recording"]
        assert len(chosen) == 5
        assert set(chosen) <= set(one.part("train")["recording"])
    claims = claims_of(folder_data).reindex(experiment.choose(folder_data, "smoke")["recording"])
    assert claims[:2].nunique() == claims[2:4].nunique() == 2


# --- what is read from the store --------------------------------------------------------------------------------------


def by_hand(dataset: Dataset, recordings: pd.DataFrame, path: Path) -> tuple[Store, list[str]]:
    """Three recordings: one half heard with two overlapping segments, one not found, one marked without listening."""
    store, names = open_store(path), recordings["recording"].tolist()
    claims = claims_of(dataset)
    store.register(recordings, claims.to_dict())
    day = [pd.Timestamp(f"2026-02-0{k}T10:00", tz="UTC").to_pydatetime() for k in (1, 2, 3)]
    one = {"start_s": 1.0, "end_s": 2.0, "class_name": claims[names[0]]}
    slip = make_operation("segment", "bob", names[0], id="s2", start_s=1.5, end_s=3.0, class_name="<b>$x$", at=day[0])
    store.append([
        make_operation("heard", "bob", names[0], ranges=[[0.0, 5.0]], at=day[0]),
        make_operation("segment", "bob", names[0], id="s1", **one, at=day[0]),
        slip,
        make_operation("claim", "bob", names[0], class_name=claims[names[0]], verdict="confirmed", at=day[0]),
        make_operation("heard", "bob", names[1], ranges=[[0.0, 4.0], [4.0, 10.0]], at=day[1]),
        make_operation("claim", "bob", names[1], class_name=claims[names[1]], verdict="not_found", at=day[1]),
        make_operation("undo", "bob", names[0], target=slip.uuid, at=day[2]),
        make_operation("segment", "bob", names[2], id="s3", start_s=0.0, end_s=1.0, class_name="howl", at=day[2]),
        make_operation("heard", "eve", names[3], ranges=[[0.0, 1.0]], at=day[2]),
    ])  # fmt: skip
    return store, names


def test_answers_history_and_days_of_labels_made_by_hand(
    dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path
) -> None:
    store, names = by_hand(dataset, recordings, tmp_path / "l.sqlite")
    labeled = experiment.read(dataset, recordings, store, "bob")
    assert repr(labeled) == "bob: 2 segments; 3 of 5 recordings worked on, 0.2 min heard"
    answers = experiment.answers(labeled)
    assert answers.index.tolist() == names
    assert answers["verdict"].tolist() == ["confirmed", "not_found", "open", "open", "open"]
    assert answers["heard"].tolist() == [0.5, 1.0, 0.0, 0.0, 0.0]
    assert answers["of_claim"].tolist()[:2] == [1, 0]
    assert (answers["of_claim"] + answers["others"]).tolist() == [1, 0, 1, 0, 0]

    history = experiment.history(labeled)
    assert history["operation"].tolist()[-1] == "undo: segment <b>$x$ 1.50–3.00 s"
    claim = claims_of(dataset)[names[0]]
    # several of one moment: `as_of` that moment has them all
    assert history["segments"].tolist() == [f"{claim}, <b>$x$"] * 4 + [claim]

    days = experiment.as_of(labeled)
    assert days.index.tolist() == ["2026-02-01", "2026-02-02", "2026-02-03"]
    assert days["segments"].tolist() == [2, 2, 2]
    assert days["answers"].tolist() == [1, 2, 2]
    classes = len(dataset.classes)
    assert days["present_s"].tolist() == [1.0, 1.0, 2.0]  # <b>$x$ is no class of this data set
    assert days["absent_s"].tolist() == [5 * classes - 1, 15 * classes - 1, 15 * classes - 1]
    assert experiment.as_of(labeled, days=1).index.tolist() == ["2026-02-03"]


def test_everyone_is_compared_with_everyone(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> None:
    store, names = by_hand(dataset, recordings, tmp_path / "l.sqlite")
    segments, heard, pairs = experiment.said(experiment.read(dataset, recordings, store, "bob"))
    assert pairs == [("bob", "eve"), ("bob", "truth"), ("eve", "truth")]
    assert set(heard["recording"]) <= set(names)
    assert set(segments["recording"]) <= set(names)
    perfect = labelled(dataset, recordings, tmp_path / "perfect.sqlite")
    segments, heard, pairs = experiment.said(perfect)
    total = agreement(segments, heard, pairs).query("class_name == '(all)'")
    assert total["f1"].tolist() == [1.0]
    told = experiment.dispute(experiment.read(dataset, recordings, store, "bob"))
    mine = told["segments"]
    assert set(mine["recording"]) == {told["title"]}
    assert Path(told["sound"]).exists()
    assert experiment.dispute(perfect)["cases"].empty  # nothing to see, and no error


# --- training ---------------------------------------------------------------------------------------------------------


def test_labels_without_an_error_are_the_true_labels(
    dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path
) -> None:
    lesson = label_training.resolve(labelled(dataset, recordings, tmp_path / "l.sqlite"))
    frames = {arm: given.frame() for arm, given in lesson.labels.items()}
    pd.testing.assert_frame_equal(frames[label_training.RANGES], frames[label_training.TRUE])
    claimed = labels.resolve(dataset, lesson.material.segments, ["scraped"]).frame()
    pd.testing.assert_frame_equal(frames[label_training.CLIPS], claimed)
    quality = label_training.quality(lesson)
    assert quality.loc[label_training.RANGES, ["present_right", "absent_right", "found"]].tolist() == [1, 1, 1]


def test_quality_against_a_loop(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> None:
    hasty = Habits(0.2, 0.3, 0.2, 0.2, 0.3, 0.3, 0.5, 0.3)
    lesson = label_training.resolve(labelled(dataset, recordings, tmp_path / "l.sqlite", hasty))
    table = label_training.quality(lesson)
    true = lesson.labels[label_training.TRUE].frame()
    for arm in label_training.ARMS:
        given, counts = (
            lesson.labels[arm].frame(),
            dict.fromkeys(["p", "pr", "a", "ar", "t", "f", "present", "absent"], 0),
        )
        for segment in given.index:
            for name in given.columns:
                said, is_so = given.loc[segment, name], true.loc[segment, name]
                counts["present"] += said == 1
                counts["absent"] += said == 0
                if np.isnan(is_so):
                    continue
                counts["p"] += said == 1
                counts["pr"] += said == 1 and is_so == 1
                counts["a"] += said == 0
                counts["ar"] += said == 0 and is_so == 0
                counts["t"] += is_so == 1
                counts["f"] += said == 1 and is_so == 1
        row = table.loc[arm]
        assert [row["present"], row["absent"]] == [counts["present"], counts["absent"]]
        assert row["unknown"] == given.size - counts["present"] - counts["absent"]
        expected = [counts["pr"] / counts["p"], counts["ar"] / counts["a"], counts["f"] / counts["t"]]
        assert row[["present_right", "absent_right", "found"]].tolist() == pytest.approx(expected)


@pytest.fixture(scope="module")
def learnt(dataset: Dataset, recordings: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    out = tmp_path_factory.mktemp("out")
    store = experiment.replay(dataset, recordings, out)
    labeled = experiment.read(dataset, recordings, store, experiment.REPLAYED)
    lesson = label_training.resolve(labeled)
    return labeled, lesson, label_training.learn(lesson, "smoke", [0], out, jobs=1), out


def test_both_arms_learn_from_the_same_windows_and_are_tested_alike(learnt: Any, dataset: Dataset) -> None:
    labeled, lesson, outcome, _ = learnt
    assert list(outcome.arms) == ["labelled ranges", "clip labels"]
    for scores in outcome.scores.values():
        assert scores.columns.tolist() == lesson.classes
        assert scores.index.tolist() == outcome.test.segments["segment"].tolist()
    assert set(lesson.material.segments["recording"]) == set(labeled.touched["recording"])
    assert set(outcome.test.segments["recording"]) <= set(dataset.part("test")["recording"])
    for arm in label_training.ARMS:
        counts = lesson.labels[arm].counts().loc[lesson.classes]
        assert (counts[["present", "absent"]] > 0).all(axis=None)


def test_results_are_rows_that_can_be_read(learnt: Any, tmp_path: Path) -> None:
    labeled, _, outcome, _ = learnt
    summary = label_training.compare(outcome)
    agreed = agreement(*experiment.said(labeled))
    export = export_segments(labeled.store, tmp_path / "export", labelers=[labeled.labeler], progress=False)
    append_results(tmp_path, experiment.results(labeled, agreed, export, summary, "embedded", "smoke"))
    rows = read_results(tmp_path).set_index(["arm", "metric"])["value"]
    assert rows["replayed", "expansion factor"] == export.expansion
    assert rows["replayed", "clean samples a clip label"] == export.per_label
    assert rows["replayed", "segments a recording"] == len(labeled.segments) / 5
    assert rows["replayed", "share heard"] == pytest.approx(
        (labeled.heard["end_s"] - labeled.heard["start_s"]).sum() / 50
    )
    assert sum(rows["replayed", f"claims {name}"] for name in ("confirmed", "not found", "unsure", "open")) == 5
    total = agreed[agreed["class_name"] == "(all)"].set_index(["one", "other"])
    assert rows["replayed and truth", "event F1"] == total.loc[("replayed", "truth"), "f1"]
    assert {arm for arm, metric in rows.index if metric == "mAP"} == set(label_training.ARMS)


def test_more_labels_start_new_runs(learnt: Any, dataset: Dataset, recordings: pd.DataFrame) -> None:
    labeled, lesson, outcome, out = learnt
    fewer = label_training.resolve(experiment.read(dataset, recordings[:4], labeled.store, labeled.labeler))
    assert fewer.key != lesson.key == label_training.resolve(labeled).key
    assert outcome.folder == out / "replayed" / f"runs-smoke-{lesson.key}"
    assert labeled.folder(out).parent == replace(labeled, labeler="../../etc").folder(out).parent == out


def test_a_person_on_recordings_whose_truth_nobody_knows(folder_data: Dataset, tmp_path: Path) -> None:
    chosen = experiment.choose(folder_data, "smoke")
    store = open_store(tmp_path / "labels.sqlite")
    claims = claims_of(folder_data)
    store.register(chosen, claims.to_dict())
    for number, name in enumerate(chosen["recording"]):
        store.append([
            make_operation("heard", "bob", name, ranges=[[0.0, 2.0]]),
            make_operation("segment", "bob", name, id=f"s{number}", start_s=0.9, end_s=2.0, class_name=claims[name]),
            make_operation("claim", "bob", name, class_name=claims[name], verdict="confirmed"),
        ])  # fmt: skip
    labeled = experiment.read(folder_data, chosen, store, "bob")
    assert "truly" not in experiment.answers(labeled)
    assert experiment.said(labeled)[2] == []
    lesson = label_training.resolve(labeled)
    assert set(lesson.labels) == set(label_training.ARMS)
    assert label_training.quality(lesson).columns.tolist() == ["present", "absent", "unknown"]
    outcome = label_training.learn(lesson, "smoke", [0], tmp_path, jobs=1)
    assert label_training.compare(outcome)["value"].notna().any()


def test_marks_without_listening_teach_nothing(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> None:
    store = open_store(tmp_path / "l.sqlite")
    name = recordings["recording"].iloc[0]
    store.append([make_operation("segment", "bob", name, id="s", start_s=0.0, end_s=9.0, class_name="bark")])
    lesson = label_training.resolve(experiment.read(dataset, recordings, store, "bob"))
    assert lesson.labels[label_training.RANGES].counts()["absent"].sum() == 0  # nothing was heard
    with pytest.raises(AudiotkError, match="label more recordings"):
        label_training.learn(lesson, "smoke", [0], tmp_path, jobs=1)


# --- figure and door --------------------------------------------------------------------------------------------------


def test_the_coverage_shows_what_the_store_holds(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> None:
    store, names = by_hand(dataset, recordings, tmp_path / "l.sqlite")
    labeled = experiment.read(dataset, recordings, store, "bob")
    odd = recordings.assign(recording=[*names[:4], "<b>$\\frac$"])
    answers = experiment.answers(labeled)
    answers.loc[names[1], "claim"] = "$\\notlatex"
    figure = coverage_figures.coverage(odd, labeled.segments, labeled.heard, answers, dataset.classes)
    figure.savefig(tmp_path / "figure.png")  # names that are no formulas are drawn as they are
    axes = figure.axes[0]
    bars = [(round(bar.get_y() + bar.get_height() / 2, 3), bar.get_x(), bar.get_width(), to_hex(bar.get_facecolor()))
            for bar in axes.patches]  # fmt: skip
    heard = sorted(bar[:3] for bar in bars if bar[3] == coverage_figures.HEARD)
    assert heard == [(0, 0.0, 5.0), (1, 0.0, 10.0)]
    assert sum(bar[3] == coverage_figures.UNHEARD for bar in bars) == len(odd)
    marks = sorted(bar[:3] for bar in bars if bar[3] not in (coverage_figures.HEARD, coverage_figures.UNHEARD))
    assert marks == [(0, 1.0, 1.0), (2, 0.0, 1.0)]
    verdicts = {text.xy[1]: text.get_text() for text in axes.texts if hasattr(text, "xy")}
    assert verdicts == {0: "✓ confirmed", 1: "✗ not found", 2: "open", 3: "open", 4: ""}  # the last has no claim
    lanes = [text.get_text() for text in axes.get_yticklabels()]
    assert [lanes[1], lanes[4]] == [f"{names[1]}\n“$\\notlatex”", "<b>$\\frac$\nno claim"]
    with pytest.raises(AudiotkError, match="at least one recording"):
        coverage_figures.coverage(odd[:0], labeled.segments, labeled.heard, answers, dataset.classes)


def test_overlapping_segments_share_a_lane(recordings: pd.DataFrame) -> None:
    rows = [("bark", 0.0, 4.0), ("howl", 2.0, 6.0), ("bark", 5.0, 7.0), ("whine", 6.5, 8.0)]
    segments = pd.DataFrame(rows, columns=["class_name", "start_s", "end_s"]).assign(
        recording=recordings["recording"][0]
    )
    nothing = pd.DataFrame({"recording": [], "start_s": [], "end_s": [], "claim": [], "verdict": []})
    figure = coverage_figures.coverage(recordings[:1], segments, nothing, nothing, ["bark", "howl", "whine"])
    bars = [bar for bar in figure.axes[0].patches if to_hex(bar.get_facecolor()) != coverage_figures.UNHEARD]
    assert len(bars) == 4
    for one in bars:
        for other in bars:
            apart = one.get_x() >= other.get_x() + other.get_width() or other.get_x() >= one.get_x() + one.get_width()
            assert one is other or apart or one.get_y() != pytest.approx(other.get_y())
    assert len({round(bar.get_y(), 6) for bar in bars}) == 2


@pytest.fixture
def door(dataset: Dataset, recordings: pd.DataFrame, tmp_path: Path) -> Any:
    example = experiment.replay(dataset, recordings, tmp_path / "out")
    claims = claims_of(dataset).reindex(recordings["recording"])
    return lambda **options: Entrance(
        recordings, dataset.classes, tmp_path / "labels.sqlite", (example, "replayed"), claims=claims, **options
    )


def test_the_door_shows_the_example_where_nobody_is(door: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    desk = door()
    before = len(desk.store.operations())
    assert desk._repr_mimebundle_()["image/png"].startswith(b"\x89PNG")
    assert (desk.labeler, repr(desk)) == ("replayed", "nobody labels here yet; the example is by 'replayed'")
    assert len(desk.store.operations()) == before
    assert not (tmp_path / "labels.sqlite").exists()
    person = door(labeler="bob")
    assert person._repr_mimebundle_()["image/png"].startswith(b"\x89PNG")
    assert person.labeler == "bob"


def test_a_name_opens_the_door(door: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("AUDIOTK_HEADLESS", raising=False)
    desk = door()
    _, line, fault = desk.widget.children
    name, button = line.children
    example = desk.store
    before = len(example.operations())
    for wrong, told in (("  ", "expected the name of who labels"), ("replayed", "the recorded example; give your own")):
        name.value = wrong
        button.click()
        assert told in fault.value
        assert desk.store is example
    name.value = "bob"
    button.click()
    assert desk.widget.children == (desk.desk.widget,)
    assert desk.labeler == "bob"
    assert desk.store.url != example.url
    assert (tmp_path / "labels.sqlite").exists()
    desk.store.append([make_operation("heard", "bob", "r", ranges=[[0.0, 1.0]])])
    assert len(example.operations()) == before  # what people do never comes into the recorded run
    assert example.labelers() == ["replayed", "second"]


def test_faults_at_the_door_are_shown_as_text(door: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("AUDIOTK_HEADLESS", raising=False)
    (tmp_path / "labels.sqlite").write_bytes(b"no store at all" * 1000)
    desk = door()
    _, line, fault = desk.widget.children
    line.children[0].value = "<img src=x onerror=alert(1)> (again)"
    line.children[1].click()
    assert "must not end with" in fault.value
    assert "<img" not in fault.value
    line.children[0].value = "bob"
    line.children[1].click()
    assert "labels.sqlite" in fault.value


# --- the notebook and its page ----------------------------------------------------------------------------------------


def test_the_page_runs_nothing_but_the_labeling() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    tags = [set(cell["metadata"].get("tags", ())) for cell in cells]
    shows = next(place for place, cell in enumerate(cells) if "Entrance(" in "".join(cell["source"]))
    code = [cell["cell_type"] == "code" for cell in cells]
    assert not any("after-labeling" in tags[place] for place in range(shows + 1) if code[place])
    assert all("after-labeling" in found for found in tags[shows + 1 :])
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"voila .*--TagRemovePreprocessor\.remove_cell_tags=after-labeling\b", makefile)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_the_page_asks_for_a_name_and_keeps_an_answer(dataset: Dataset, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (make setup brings it)")
    from lab_server import CHROMIUM, PATIENCE_S, Tab, voila
    from lab_server import ROOT as LABELER

    notebook = tmp_path / "notebooks" / NOTEBOOK.name
    notebook.parent.mkdir()
    root = Path(dataset.recordings["path"].iloc[0]).parents[2]
    text = NOTEBOOK.read_text("utf-8").replace(r"scale = \"demo\"", r"scale = \"smoke\"")
    notebook.write_text(text.replace(r"data_root = \"\"", rf"data_root = \"{root}\""), "utf-8")
    with voila(notebook, tmp_path / "home") as server, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        tab = Tab(page)
        page.goto(f"{server.url}?token={server.token}", timeout=PATIENCE_S * 1000)
        page.get_by_placeholder("your name").fill("bob")
        page.get_by_role("button", name="Start labeling").click()
        page.wait_for_selector(f"{LABELER}[data-ready=true]")
        page.focus(LABELER)
        page.keyboard.press("n")
        tab.wait_saved()
        page.wait_for_function("() => true")
        assert page.get_by_text("What became of the claims").count() == 0
        tab.check()
        browser.close()
    store = open_store(notebook.parent / "labels.sqlite", create=False)
    assert store.claims("bob")["verdict"].tolist() == ["not_found"]
    assert not list(notebook.parent.glob("runs/*/*/runs-*"))  # nothing was trained
