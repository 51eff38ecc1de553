"""Promotions made by hand in the explorer, and a run without a person that trains with exactly these."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_widgets_explorer import ask

from audiotk import datasets, mining
from audiotk.experiments import ghost_sounds, ghosts, real_ghosts, replay
from audiotk.runs import notebook_parameters
from audiotk.store import open_store, operations_of
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, Dataset, make_windows
from audiotk.widgets import ClusterExplorer

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "03_ghost_sounds.ipynb"


@pytest.fixture(scope="module")
def parts():
    return ghosts.prepare(ghosts.load("embedded", "", "smoke"), "smoke")


@pytest.fixture(scope="module")
def mined(parts, tmp_path_factory):
    return ghost_sounds.mine(parts, [0], tmp_path_factory.mktemp("ghosts"), jobs=1)[0]


@pytest.fixture(scope="module")
def recorded(parts, mined, tmp_path_factory):
    """A store in which Anna judged a sample, promoted one cluster, promoted another and took that back."""
    path = tmp_path_factory.mktemp("elsewhere") / "anna.sqlite"
    explorer = ClusterExplorer(
        mined.false_positives, mined.vectors, path, labeler="anna", rng=np.random.default_rng(0), door=parts.door,
        recordings=parts.dataset, positives=mined.positives,
    )  # fmt: skip
    widget, number = explorer.make_widget(), iter(range(1000))

    def say(**op):
        answer = ask(widget, type="op", op={"uuid": f"u{next(number)}", **op})
        assert answer["type"] == "ack", answer
        return answer

    ask(widget, type="hello")
    clusters = explorer.clusters["cluster"].tolist()
    for place, cluster in enumerate(clusters[:2]):
        told = ask(widget, type="select", cluster=cluster)["selection"]
        for k, row in enumerate(told["sample"]):
            say(kind="judgement", row=row["point"], value=1 if k == 1 else 0, why=row["why"], key=told["key"])
        promoted = say(kind="promote", rows=told["rows"], key=told["key"], name=f"cluster {cluster}",
                       theme=("neg_hard", "neg_ambient")[place], note="by ear")  # fmt: skip
    last = promoted["undoable"][-1]
    say(kind="undo", what=last["kind"], target=last["target"])
    explorer.store.close()
    assert len(mining.promotions(path)) == 1
    return path


def base(parts):
    labels = ghosts.with_concepts(parts.labels, mining.THEMES)
    return ghost_sounds.Arm(ghost_sounds.RAW, parts.train, labels, ghosts.config(parts))


def test_a_run_without_a_person_trains_with_what_was_recorded(parts, mined, recorded, tmp_path):
    replay.check(recorded, parts.door)
    told = ghost_sounds.listen(parts, mined, tmp_path, recorded)
    store = ghosts.store_of(tmp_path, 0)
    pd.testing.assert_frame_equal(told, mining.promotions(recorded))  # evidence: who, when, heard, right, bound, note
    assert told[["labeler", "note", "theme"]].to_numpy().tolist() == [["anna", "by ear", "neg_hard"]]
    assert told["heard"].iloc[0] > told["right"].iloc[0] > 0
    for ours, theirs in zip(mining.promoted(store, parts.door), mining.promoted(recorded, parts.door), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    with open_store(store) as ours, open_store(recorded) as theirs:
        assert len(ours.judgements("anna")) == len(theirs.judgements("anna")) > 10
    segments = mining.promoted(recorded, parts.door)[0]
    for arm in ghost_sounds._promoted_arms(parts, base(parts), mined, tmp_path)[:2]:  # with outputs, and zeros
        extra = arm.material.segments["segment"].iloc[len(parts.train.segments) :]
        assert sorted(extra) == sorted(segments["segment"])
    pd.testing.assert_frame_equal(ghost_sounds.listen(parts, mined, tmp_path, recorded), told)  # the cell again
    assert replay.who({0: told}, recorded) == f"seed 0: 1 promotion by anna, recorded in {recorded}"


def test_an_export_and_a_run_of_the_simulated_listener_are_replayed_whole_too(parts, mined, recorded, tmp_path):
    with open_store(recorded) as opened:
        opened.export_parquet(tmp_path / "anna.parquet")
    told = ghost_sounds.listen(parts, mined, tmp_path / "a", tmp_path / "anna.parquet")
    pd.testing.assert_frame_equal(told, mining.promotions(recorded))
    ghost_sounds.listen(parts, mined, tmp_path / "b")
    whole = mining.promotions(ghosts.store_of(tmp_path / "b", 0))
    assert len(whole) > 1
    mining.take_back(ghosts.store_of(tmp_path / "b", 0), whole["promotion"].iloc[-1], labeler=replay.LISTENER)
    told = ghost_sounds.listen(parts, mined, tmp_path / "c", ghosts.store_of(tmp_path / "b", 0))
    pd.testing.assert_frame_equal(told, whole[:-1])  # what is not recorded is not made up for


def test_without_a_recording_the_simulated_listener_promotes_and_that_is_said(parts, mined, tmp_path):
    told = ghost_sounds.listen(parts, mined, tmp_path)
    assert set(told["labeler"]) == {replay.LISTENER}
    empty = told[:0]
    assert replay.who({0: told, 1: empty}).splitlines() == [
        f"seed 0: {len(told)} promotions by a simulated listener, who knows the truth",
        "seed 1: 0 promotions",
    ]
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]]
    assert notebook_parameters(NOTEBOOK)["promotions"] == ""
    place = {text: next(k for k, cell in enumerate(cells) if text in cell)
             for text in ("replay.check(promotions", "experiment.mine(", "replay.who(told, promotions)")}  # fmt: skip
    assert place["replay.check(promotions"] < place["experiment.mine("] < place["replay.who(told, promotions)"]


def test_what_cannot_be_replayed_is_told_before_anything_is_trained(parts, mined, recorded, tmp_path):
    replay.check("", parts.door)
    with pytest.raises(AudiotkError, match=r"there is no file .*gone\.sqlite; name a store"):
        replay.check(tmp_path / "gone.sqlite", parts.door)
    assert not (tmp_path / "gone.sqlite").exists()
    with open_store(tmp_path / "empty.sqlite"):
        pass
    with pytest.raises(AudiotkError, match=r"empty\.sqlite holds no promotion that counts"):
        replay.check(tmp_path / "empty.sqlite", parts.door)
    held = mining.promoted(recorded, parts.door)[0]["recording"].iloc[0]
    door = mining.Door(parts.dataset.recordings, parts.dataset.split.where(parts.dataset.split.index != held, "test"))
    with pytest.raises(AudiotkError, match=r"anna\.sqlite does not fit these data: .*held out"):
        replay.check(recorded, door)
    ghost_sounds.listen(parts, mined, tmp_path)
    before = mining.promotions(ghosts.store_of(tmp_path, 0))
    with pytest.raises(AudiotkError, match="already holds"):
        ghost_sounds.listen(parts, mined, tmp_path, recorded)
    pd.testing.assert_frame_equal(mining.promotions(ghosts.store_of(tmp_path, 0)), before)


# --- a name stands for other sound ------------------------------------------------------------------------------------


def door_of(dataset: Dataset) -> mining.Door:
    return mining.Door(dataset.recordings, dataset.split)


def promote_some(dataset: Dataset, store: Path) -> Path:
    """Promotions of windows of the first three training recordings."""
    windows = make_windows(dataset.part("train").iloc[:3], 2.0)
    points = windows.assign(class_name=dataset.classes[0])
    mining.promote(store, points, "neg_hard", door_of(dataset), labeler="anna")
    return store


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


def embedded_data(root: Path, n_train: int = 3, **options) -> Dataset:
    return datasets.load("embedded", root, n_train=n_train, n_val=1, n_test=1, **options)


def test_made_recordings_are_the_same_at_every_scale_and_on_every_machine(shelf, tmp_path):
    recorded = promote_some(embedded_data(shelf), tmp_path / "a.sqlite")
    shutil.copytree(shelf, tmp_path / "here")
    replay.check(recorded, door_of(embedded_data(tmp_path / "here", n_train=4)))
    with pytest.raises(AudiotkError, match=r"3 promoted .*train-00000: made as embedded-\w+ there, embedded-\w+ here"):
        replay.check(recorded, door_of(embedded_data(shelf, seed=1)))


def test_real_recordings_of_another_scale_or_version_have_other_sound(tmp_path, monkeypatch):
    root = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "esc10"
    if not root.exists():
        pytest.skip(f"no real data at {root}")
    monkeypatch.setattr(real_ghosts, "sizes", lambda *_: (2, 2, 1, 1, 1))
    recorded = promote_some(real_ghosts.load(str(root), "smoke"), tmp_path / "a.sqlite")
    replay.check(recorded, door_of(real_ghosts.load(str(root), "smoke")))
    told = r"other sound; train-00000: made as real-ghosts-\w+ there, .*Run with the data, scale and version"
    for name, value in (("VERSION", real_ghosts.VERSION + 1), ("sizes", lambda *_: (3, 2, 1, 1, 1))):
        with monkeypatch.context() as context:
            context.setattr(real_ghosts, name, value)
            other = door_of(real_ghosts.load(str(root), "smoke"))
        with pytest.raises(AudiotkError, match=told):
            replay.check(recorded, other)


def test_a_recording_of_another_length_or_group_is_another(shelf, tmp_path):
    """Recorded sound: its folder may have any name, and a store may have been written on Windows."""
    dataset = embedded_data(shelf)
    operations = operations_of(promote_some(dataset, tmp_path / "a.sqlite"))

    def there(path: str) -> list[Operation]:
        return [replace(one, payload={**one.payload, "path": path}) if one.kind == "recording" else one
                for one in operations]  # fmt: skip

    made = dataset.recordings.set_index("recording")
    here = made.assign(path="/elsewhere/old takes/one.wav")
    assert replay._differences(there(r"C:\takes\one.flac"), here) == {}
    for change, told in (
        ({"duration_s": 9.5}, "length in s 10.0 there, 9.5 here"),
        ({"group": "b"}, "group train-dog-"),
    ):
        assert told in replay._differences(there("one.wav"), here.assign(**change))["train-00001"]
    found = replay._differences(there(r"C:\takes\one.flac"), made)
    assert found["train-00002"].startswith("made as recorded sound there, embedded-")
    windows = made.loc["train-00000", "path"].replace("/", "\\")
    assert "train-00000" not in replay._differences(there(windows), made)
    unnamed = [one for one in operations if one.kind != "recording"]
    assert "not registered" in replay._differences(unnamed, made)["train-00000"]


def test_what_counts_is_what_was_registered_when_a_recording_was_promoted(shelf, tmp_path):
    """Somebody went on in the same store with other sound: of both promotions each has its own."""
    one, other = embedded_data(shelf), embedded_data(shelf, seed=1)
    recorded = promote_some(one, tmp_path / "a.sqlite")
    replay.check(recorded, door_of(one))
    promote_some(other, recorded)
    for dataset in (one, other):
        with pytest.raises(AudiotkError, match="3 promoted recordings have the name of one here and other sound"):
            replay.check(recorded, door_of(dataset))
    mining.take_back(recorded, mining.promotions(recorded)["promotion"].iloc[-1], labeler="anna")
    replay.check(recorded, door_of(one))
