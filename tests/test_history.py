from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk.errors import AudiotkError
from audiotk.labels import resolve
from audiotk.store.history import active, dataset_tables, replay, subtract, union
from audiotk.store.operations import Operation, check_inside, check_operation, make_operation, to_text
from audiotk.tables import Dataset, make_segments

START = datetime(2026, 1, 1, tzinfo=UTC)


def op(kind: str, labeler: str = "ann", recording: str = "r", **payload: Any) -> Operation:
    return make_operation(kind, labeler, recording, at=START, **payload)


def seg(start_s: float, end_s: float, class_name: str = "dog", labeler: str = "ann", **more: Any) -> Operation:
    more = {"id": f"{labeler}{class_name}{start_s}", **more}
    return op("segment", labeler, start_s=start_s, end_s=end_s, class_name=class_name, **more)


def heard(*ranges: tuple[float, float], labeler: str = "ann") -> Operation:
    return op("heard", labeler, ranges=ranges)


def claim(class_name: str | None, verdict: str, labeler: str = "ann") -> Operation:
    return op("claim", labeler, class_name=class_name, verdict=verdict)


def undo(target: Operation) -> Operation:
    return op("undo", target.labeler, target.recording, target=target.uuid)


# --- checks -----------------------------------------------------------------------------------------------------------

GOOD: dict[str, dict[str, Any]] = {
    "recording": {"path": "a.wav", "duration_s": 10, "sr": 16000, "group": "g"},
    "segment": {"id": "s", "start_s": 1, "end_s": 2, "class_name": "dog"},
    "delete": {"id": "s"},
    "claim": {"class_name": None, "verdict": "open"},
    "heard": {"ranges": [(0, 1)]},
    "note": {"text": ""},
    "judgement": {"start_s": 0, "end_s": 1, "class_name": "dog", "value": None},
    "undo": {"target": "x"},
}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("segment", {"start_s": math.nan}, "start_s: expected a finite number, got nan"),
    ("segment", {"end_s": math.inf}, "end_s: expected a finite number"),
    ("segment", {"start_s": -0.1}, "expected 0 <= start_s < end_s, got -0.1 to 2.0 s"),
    ("segment", {"end_s": 0.5}, "expected 0 <= start_s < end_s"),
    ("segment", {"end_s": 1.0}, "expected 0 <= start_s < end_s"),
    ("segment", {"start_s": "1"}, "start_s: expected a finite number, got '1'"),
    ("segment", {"end_s": 10**400}, "end_s: expected a finite number"),
    ("segment", {"start_s": True}, "start_s: expected a finite number, got True"),
    ("segment", {"end_s": 10.002}, "outside of recording 'r', which lasts 10.000 s"),
    ("segment", {"class_name": ""}, "class_name: expected a name, got an empty one"),
    ("segment", {"class_name": None}, "class_name: expected text, got None"),
    ("segment", {"class_name": "a\0b"}, "without NUL"),
    ("segment", {"note": "\ud800"}, "broken Unicode"),
    ("segment", {"note": "x" * 100_001}, "at most 100,000 characters"),
    ("segment", {"class_name": "x" * 1_001}, "at most 1,000 characters"),
    ("segment", {"loudness": 3}, "expected a payload of id, start_s"),
    ("delete", {"id": 7}, "id: expected text, got 7"),
    ("claim", {"verdict": "perhaps"}, "verdict: expected one of confirmed, not_found, unsure, open"),
    ("claim", {"verdict": ["open"]}, "verdict: expected one of"),
    ("heard", {"ranges": []}, "expected a list of"),
    ("heard", {"ranges": [(0, 1, 2)]}, r"expected \[start_s, end_s\]"),
    ("heard", {"ranges": "ab"}, "expected a list of"),
    ("heard", {"ranges": [(0, 1), (3, 2)]}, "got 3.0 to 2.0 s"),
    ("heard", {"ranges": [(0, 11)]}, "outside of recording"),
    ("judgement", {"value": 0.5}, "value: expected 1, 0 or None, got 0.5"),
    ("judgement", {"value": math.nan}, "value: expected a finite number"),
    ("recording", {"duration_s": 0}, "expected a number > 0"),
    ("recording", {"sr": 1.5}, "expected a whole number of Hz"),
    ("undo", {"target": None}, "target: expected text"),
]


@pytest.mark.parametrize(("kind", "change", "told"), BAD, ids=[f"{kind} {change}"[:50] for kind, change, _ in BAD])
def test_what_cannot_be_is_refused(kind: str, change: dict[str, Any], told: str) -> None:
    check_inside(op(kind, **GOOD[kind]), 10.0)
    with pytest.raises(AudiotkError, match=told):
        check_inside(op(kind, **(GOOD[kind] | change)), 10.0)


@pytest.mark.parametrize("kind", GOOD)
def test_every_required_field_is_asked_for(kind: str) -> None:
    optional = {"claim", "note", "reason", "segment_id"} if kind != "claim" else set()
    for name in GOOD[kind].keys() - optional:
        with pytest.raises(AudiotkError, match=f"{name} missing"):
            op(kind, **{key: value for key, value in GOOD[kind].items() if key != name})


def test_who_and_what_are_asked_for() -> None:
    good = op("note", text="x")
    for change, told in (
        ({"kind": "shout"}, "one of the kinds"),
        ({"kind": ["note"]}, "one of the kinds"),
        ({"labeler": ""}, "labeler: expected a name"),
        ({"recording": ""}, "recording: expected a name"),
        ({"uuid": ""}, "uuid: expected a name"),
        ({"seen_teacher": 1}, "seen_teacher: expected True or False"),
        ({"at": datetime(2026, 1, 1)}, "at: expected a datetime with time zone"),
        ({"payload": None}, "expected a payload"),
    ):
        fields = {name: getattr(good, name) for name in Operation.__slots__} | change
        with pytest.raises(AudiotkError, match=told):
            check_operation(Operation(**fields))
    assert op("recording", "", **GOOD["recording"]).labeler == ""


def test_payloads_become_plain_and_complete() -> None:
    made = op("segment", id="s", start_s=np.float32(0.5), end_s=np.int64(2), class_name="dog")
    assert made.payload == {"id": "s", "start_s": 0.5, "end_s": 2.0, "class_name": "dog", "note": ""}
    assert to_text(made.payload) == '{"class_name":"dog","end_s":2.0,"id":"s","note":"","start_s":0.5}'
    assert check_operation(made) == made
    assert math.copysign(1, seg(-0.0, 1, id="s").payload["start_s"]) == 1  # its id would begin with a minus
    assert op("judgement", start_s=0, end_s=1, class_name="a", value=np.int64(1)).payload["value"] == 1


# --- replay -----------------------------------------------------------------------------------------------------------


def test_the_last_segment_of_an_id_counts_and_labelers_do_not_touch_each_other() -> None:
    history = [
        seg(1, 2, id="a"), seg(3, 4, id="b"), seg(5, 6, id="a", labeler="bob"), seg(1, 2.5, "cat", id="a"),
        op("delete", id="b"), op("delete", "bob", id="nothing"),
    ]  # fmt: skip
    rows = replay("r", history).segments
    assert [(row["id"], row["labeler"], row["class_name"], row["end_s"]) for row in rows] == [
        ("a", "ann", "cat", 2.5),
        ("a", "bob", "dog", 6.0),
    ]
    assert [row["labeler"] for row in replay("r", history, "bob").segments] == ["bob"]


def test_undo_of_a_deletion_and_of_a_change_gives_the_former_segment() -> None:
    made, changed, gone = seg(1, 2, id="a"), seg(1, 3, id="a"), op("delete", id="a")
    history = [made, changed, gone]
    assert replay("r", history).segments == []
    history.append(undo(gone))
    assert replay("r", history).segments[0]["end_s"] == 3
    history.append(undo(changed))
    assert replay("r", history).segments[0]["end_s"] == 2
    history.append(undo(history[-1]))  # redo
    assert replay("r", history).segments[0]["end_s"] == 3


def test_claims_and_notes_last_word_counts() -> None:
    history = [claim("dog", "unsure"), claim(None, "not_found"), claim("dog", "confirmed"), claim("dog", "open", "bob")]
    history += [op("note", text="a"), op("note", text="b"), op("note", "bob", text="c"), op("note", "bob", text="")]
    state = replay("r", history, "ann")
    assert state.verdicts == {None: "not_found", "dog": "confirmed"}
    assert [row["text"] for row in replay("r", history).notes] == ["b"]
    assert replay("r", history).verdicts["dog"] == "open"  # of several labelers the latest


def test_the_latest_counts_though_it_was_stored_first() -> None:
    def at(hour: int, operation: Operation) -> Operation:
        return replace(operation, at=START + timedelta(hours=hour))

    made, listened = seg(1, 2, id="a"), heard((0, 4))
    history = [
        at(5, seg(1, 3, id="a")), at(4, claim("dog", "confirmed")), at(1, made), at(2, claim("dog", "unsure")),
        at(6, listened), at(5, undo(listened)),  # by a clock that is slow
    ]  # fmt: skip
    state = replay("r", history, "ann")
    assert state.segments[0]["end_s"] == 3
    assert state.verdicts == {"dog": "confirmed"}
    assert state.heard == [], "what is taken back stays so"
    assert state.undoable == [history[place].uuid for place in (2, 3, 1, 0)]
    assert dataset_tables(active(history))[1]["value"].tolist() == [1.0]


def test_state_of_a_recording_without_operations() -> None:
    state = replay("r", [])
    assert (state.about, state.segments, state.claims, state.heard, state.notes) == (None, [], [], [], [])


@given(st.lists(st.sampled_from(["do", "undo", "redo"]), max_size=30))
def test_undo_and_redo_are_the_two_stacks_of_an_editor(acts: list[str]) -> None:
    """Twin: an editor that keeps every picture it has shown."""
    history: list[Operation] = []
    shown: list[frozenset[str]] = [frozenset()]
    later: list[frozenset[str]] = []
    by_uuid: dict[str, Operation] = {}
    for number, act in enumerate(acts):
        state = replay("r", history, "ann")
        if act == "do":
            history.append(seg(number, number + 1, id=f"s{number}"))
            shown.append(shown[-1] | {f"s{number}"})
            later = []
        elif act == "undo" and state.undoable:
            history.append(undo(by_uuid[state.undoable[-1]]))
            later.append(shown.pop())
        elif act == "redo" and state.redoable:
            history.append(undo(by_uuid[state.redoable[-1]]))
            shown.append(later.pop())
        by_uuid = {operation.uuid: operation for operation in history}
        state = replay("r", history, "ann")
        assert {row["id"] for row in state.segments} == shown[-1]
        assert (len(state.undoable), len(state.redoable)) == (len(shown) - 1, len(later))


def test_what_was_heard_is_not_for_the_undo_key_but_can_be_taken_back() -> None:
    listened = heard((0, 5))
    history = [seg(1, 2), listened]
    assert replay("r", history, "ann").undoable == [history[0].uuid]
    assert replay("r", [*history, undo(listened)], "ann").heard == []
    assert active([listened, undo(listened)]) == []


# --- ranges -----------------------------------------------------------------------------------------------------------

cells = st.lists(
    st.tuples(st.integers(0, 19), st.integers(1, 6)).map(lambda p: (p[0] / 2, (p[0] + p[1]) / 2)), max_size=6
)


def painted(pairs: Any) -> np.ndarray:
    """Twin: half seconds that ranges on their grid cover."""
    grid = np.zeros(26, dtype=bool)
    for start, end in pairs:
        grid[round(start * 2) : round(end * 2)] = True
    return grid


@given(cells, cells)
def test_union_and_subtraction_are_those_of_painted_cells(pairs: Any, holes: Any) -> None:
    for made, expected in (
        (union(pairs), painted(pairs)),
        (subtract(pairs, holes), painted(pairs) & ~painted(holes)),
    ):
        assert (painted(made) == expected).all()
        assert all(a[1] < b[0] for a, b in pairwise(made))


def test_slivers_are_dropped_and_tiny_gaps_closed() -> None:
    assert union([(0, 1), (1 + 1e-9, 2)]) == [(0.0, 2.0)]
    assert subtract([(0, 1)], [(0.0005, 1)]) == []


# --- tables -----------------------------------------------------------------------------------------------------------


def said(history: list[Operation], **how: Any) -> dict[tuple[str, str, str], float]:
    """(who, class, range) -> value."""
    segments, annotations, _ = dataset_tables(active(history), **how)
    rows = annotations.merge(segments, on="segment", validate="many_to_one").to_dict("records")
    return {
        (row["source"].removeprefix("human:"), row["class_name"], f"{row['start_s']:g}-{row['end_s']:g}"): row["value"]
        for row in rows
    }


def test_confirmed_is_one_on_segments_and_zero_on_the_rest_of_what_was_heard() -> None:
    history = [seg(1, 2), seg(1.5, 3), heard((0, 4), (6, 8)), claim("dog", "confirmed")]
    assert said(history) == {
        ("ann", "dog", "1-2"): 1, ("ann", "dog", "1.5-3"): 1,
        ("ann", "dog", "0-1"): 0, ("ann", "dog", "3-4"): 0, ("ann", "dog", "6-8"): 0,
    }  # fmt: skip


def test_not_found_is_zero_where_it_was_heard_only() -> None:
    assert said([heard((0, 4)), claim("dog", "not_found")]) == {("ann", "dog", "0-4"): 0}
    assert said([claim("dog", "not_found")]) == {}


def test_without_a_claim_what_is_around_a_segment_stays_unknown() -> None:
    assert said([seg(1, 2), heard((0, 4))]) == {("ann", "dog", "1-2"): 1}
    assert said([seg(1, 2), heard((0, 4)), claim("dog", "not_found"), claim("dog", "open")]) == {
        ("ann", "dog", "1-2"): 1
    }


def test_unsure_is_nan_around_the_segments() -> None:
    found = said([seg(1, 2), heard((0, 2)), claim("dog", "unsure")])
    assert found.pop(("ann", "dog", "1-2")) == 1
    assert list(found) == [("ann", "dog", "0-1")]
    assert math.isnan(found["ann", "dog", "0-1"])


def test_confirmed_without_a_segment_says_nothing_about_where() -> None:
    history = [heard((0, 4)), claim("dog", "confirmed")]
    assert said(history) == {}
    assert said(history, classes=["dog", "cat"], complete=True) == {("ann", "cat", "0-4"): 0}


def test_a_claim_about_every_class() -> None:
    history = [seg(1, 2), heard((0, 2)), claim(None, "confirmed")]
    assert said(history, classes=["dog", "cat"]) == {
        ("ann", "dog", "1-2"): 1, ("ann", "dog", "0-1"): 0, ("ann", "cat", "0-2"): 0,
    }  # fmt: skip
    found = said([*history, claim("cat", "unsure")], classes=["cat"])
    assert math.isnan(found["ann", "cat", "0-2"])


def test_complete_says_zero_for_every_class_heard() -> None:
    history = [seg(1, 2), heard((0, 2)), claim("cow", "unsure")]
    found = said(history, classes=["dog", "cat", "cow"], complete=True)
    assert math.isnan(found.pop(("ann", "cow", "0-2")))
    assert found == {("ann", "dog", "1-2"): 1, ("ann", "dog", "0-1"): 0, ("ann", "cat", "0-2"): 0}


def test_labelers_stay_apart_and_same_ranges_are_one_segment() -> None:
    history = [seg(1, 2), seg(1, 2, labeler="bob"), seg(1.5, 3, labeler="bob"), heard((0, 3), labeler="bob")]
    history += [claim("dog", "confirmed", "bob"), claim("dog", "not_found")]
    assert said(history) == {
        ("ann", "dog", "1-2"): 1, ("bob", "dog", "1-2"): 1, ("bob", "dog", "1.5-3"): 1, ("bob", "dog", "0-1"): 0,
    }  # fmt: skip
    assert set(said(history, labelers=["ann"])) == {("ann", "dog", "1-2")}
    segments, _, sources = dataset_tables(history)
    assert segments["segment"].is_unique
    assert sources.to_dict("index") == {name: {"closed": False, "weak": False} for name in ("human:ann", "human:bob")}


def test_times_of_annotations_are_those_of_the_operations() -> None:
    late = START + timedelta(days=1)
    history = [heard((0, 4)), make_operation("claim", "ann", "r", at=late, class_name="dog", verdict="not_found")]
    assert dataset_tables(history)[1]["at"].tolist() == [pd.Timestamp(late)]


def test_ranges_outside_of_a_recording_that_became_shorter_are_told() -> None:
    history = [seg(1, 9), op("recording", "", path="a", duration_s=5, sr=16000, group="g")]
    with pytest.raises(AudiotkError, match="lies outside of recording 'r'"):
        dataset_tables(history)


def test_nothing_gives_empty_tables() -> None:
    segments, annotations, sources = dataset_tables([])
    assert (len(segments), len(annotations), len(sources)) == (0, 0, 0)


who, what = st.sampled_from(["ann", "bob"]), st.sampled_from(["dog", "cat"])
ranges = st.tuples(st.integers(0, 15), st.integers(1, 5)).map(lambda p: (p[0] / 2, (p[0] + p[1]) / 2))
acts = st.one_of(
    st.builds(lambda w, c, r: seg(*r, c, w, id=f"{c}{r}"), who, what, ranges),
    st.builds(lambda w, r: heard(r, labeler=w), who, ranges),
    st.builds(claim, st.one_of(what, st.none()), st.sampled_from(["confirmed", "not_found", "unsure", "open"]), who),
)


@settings(max_examples=15)
@given(st.lists(acts, max_size=12), st.booleans())
def test_resolved_labels_are_those_of_a_painted_grid(history: list[Operation], complete: bool) -> None:
    """Twin: each half second by the definition, one labeler at a time, through Dataset and labels.resolve."""
    recordings = pd.DataFrame({"recording": ["r"], "path": [""], "duration_s": [13.0], "sr": [1], "group": ["g"]})
    segments, annotations, sources = dataset_tables(history, ["dog", "cat"], ["ann", "bob"], complete)
    split = pd.Series({"r": "train"})
    dataset = Dataset("d", recordings, segments, annotations, split, ["dog", "cat"], sources)
    windows = make_segments("r", np.arange(26) / 2, np.arange(1, 27) / 2)
    for labeler in ("ann", "bob"):
        mine = [operation for operation in history if operation.labeler == labeler]
        listened = painted([pair for o in mine if o.kind == "heard" for pair in o.payload["ranges"]])
        verdicts = {o.payload["class_name"]: o.payload["verdict"] for o in mine if o.kind == "claim"}
        expected = np.full((26, 2), np.nan)
        for column, class_name in enumerate(["dog", "cat"]):
            marks = [o.payload for o in mine if o.kind == "segment" and o.payload["class_name"] == class_name]
            grid = painted([(mark["start_s"], mark["end_s"]) for mark in marks])
            verdict = verdicts.get(class_name, verdicts.get(None, "open"))
            lone = verdicts.get(class_name) == "confirmed" and not marks
            zero = verdict in ("confirmed", "not_found") or (complete and verdict == "open")
            if zero and not lone:
                expected[listened, column] = 0
            expected[grid, column] = 1
        found = resolve(dataset, windows, [f"human:{labeler}"]).dense()
        np.testing.assert_array_equal(found, expected)


def test_hidden_repeats_are_no_labelers_of_their_own():
    said = [
        make_operation("segment", name, "r", id=f"id {name}", start_s=1.0, end_s=2.0, class_name="bark")
        for name in ("Ada", "Ada (again)")
    ]
    assert list(dataset_tables(said)[2].index) == ["human:Ada"]
    assert list(dataset_tables(said, labelers=["Ada (again)"])[2].index) == ["human:Ada (again)"]
