"""Promotions made by hand in the explorer, and a run without a person that trains with exactly these."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_widgets_explorer import ask

from audiotk import mining
from audiotk.experiments import ghost_sounds, ghosts, replay
from audiotk.runs import notebook_parameters
from audiotk.store import open_store
from audiotk.tables import AudiotkError
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
