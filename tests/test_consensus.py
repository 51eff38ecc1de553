"""Disagreements case by case, and the majority: known truths and properties."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk.agreement import agreement, heard_whole, read_said
from audiotk.agreement.consensus import consensus
from audiotk.agreement.disagreements import CASE_COLUMNS, disagreements, find_cases, find_clusters
from audiotk.errors import AudiotkError

Row = tuple[str, float, float, str]
COLUMNS = ["labeler", "start_s", "end_s", "class_name", "recording"]


def marks(*rows: Row) -> pd.DataFrame:
    """Segments of recording r from rows (labeler, start_s, end_s, class_name)."""
    table = pd.DataFrame([(*row, "r") for row in rows], columns=COLUMNS)
    return table.astype({"start_s": float, "end_s": float, "labeler": "str", "class_name": "str", "recording": "str"})


def whole(*labelers: str, seconds: float = 10.0) -> pd.DataFrame:
    return heard_whole(pd.DataFrame({"recording": ["r"], "duration_s": [seconds]}), labelers)


def first(table: pd.DataFrame) -> dict[Any, Any]:
    assert len(table) == 1
    return table.iloc[0].to_dict()


def test_missed() -> None:
    found = first(disagreements(marks(("ann", 1, 2, "Dog")), whole("ann", "ben")))
    assert (found["kind"], found["missed_by"], found["disputed_s"]) == ("missed", "ben", 1.0)
    assert found["told"] == "ann: Dog 1.000-2.000 s; ben: nothing"
    assert found["says"] == {"ann": ((1.0, 2.0, "Dog"),), "ben": ()}


def test_boundary() -> None:
    """One long segment against two short ones within it is one case, disputed where only one of both is."""
    table = marks(("ann", 1, 4, "Dog"), ("ben", 1, 1.5, "Dog"), ("ben", 3, 4, "Dog"))
    found = first(disagreements(table, whole("ann", "ben")))
    assert (found["kind"], found["start_s"], found["end_s"], found["missed_by"]) == ("boundary", 1.0, 4.0, "")
    assert found["disputed_s"] == pytest.approx(1.5)
    assert len(found["says"]["ben"]) == 2


def test_other_class() -> None:
    found = first(disagreements(marks(("ann", 1, 2, "Dog"), ("ben", 1.3, 2.1, "Cat")), whole("ann", "ben")))
    assert (found["kind"], found["class_name"], found["missed_by"]) == ("class", "Cat / Dog", "")
    assert found["disputed_s"] == pytest.approx(1.1)
    apart = disagreements(marks(("ann", 1, 2, "Dog"), ("ben", 1.4, 2.6, "Cat")), whole("ann", "ben"))
    assert apart["kind"].tolist() == ["missed", "missed"]
    three = marks(("ann", 1, 2, "Dog"), ("ben", 1.3, 2.1, "Cat"), ("eve", 1.2, 2, "Wolf"))
    assert first(disagreements(three, whole("ann", "ben", "eve")))["class_name"] == "Cat / Dog / Wolf"
    own = marks(("ann", 1, 2, "Dog"), ("ann", 1, 2, "Cat"))
    assert disagreements(own, whole("ann", "ben"))["class_name"].tolist() == ["Cat", "Dog"]  # both by one: two cases


def test_the_longest_dispute_comes_first_and_agreement_is_left_out() -> None:
    table = marks(
        ("ann", 1, 2, "Dog"), ("ben", 1.1, 2.1, "Dog"),
        ("ann", 4, 4.5, "Dog"), ("ben", 6, 9, "Dog"), ("ben", 5, 6, "Cat"),
    )  # fmt: skip
    found = disagreements(table, whole("ann", "ben"))
    assert found["disputed_s"].tolist() == [3.0, 1.0, 0.5]
    assert found["missed_by"].tolist() == ["ann", "ann", "ben"]
    empty = disagreements(marks(("ann", 1, 2, "Dog"), ("ben", 1, 2, "Dog")), whole("ann", "ben"))
    assert empty.empty
    assert empty.dtypes.astype(str).to_dict() == CASE_COLUMNS


def test_who_has_not_heard_has_no_say() -> None:
    table = marks(("ann", 1, 2, "Dog"), ("ben", 6, 7, "Dog"), ("eve", 6, 7, "Dog"))
    heard = pd.concat([whole("ann", "eve"), whole("ben", seconds=5.0)])
    told = disagreements(table, heard)["told"].tolist()
    assert told == [
        "ann: Dog 1.000-2.000 s; ben: nothing; eve: nothing",
        "ann: nothing; eve: Dog 6.000-7.000 s",  # what ben never played is not his
    ]


def test_repeats_and_unknown_names() -> None:
    table = marks(("ann", 1, 2, "Dog"), ("ann (again)", 5, 6, "Dog"))
    heard = whole("ann", "ann (again)", "ben")
    assert disagreements(table, heard)["start_s"].tolist() == [1.0]
    assert len(disagreements(table, heard, ["ann", "ann (again)"])) == 2
    for names, said in ((["ann"], "at least two"), (["ann", "ann"], "at least two"), (["ann", "zoe"], "zoe")):
        with pytest.raises(AudiotkError, match=said):
            disagreements(table, heard, names)
    with pytest.raises(AudiotkError, match="at least two"):
        consensus(table[:1], whole("ann"))
    with pytest.raises(AudiotkError, match="k of 1 to 2"):
        consensus(table, heard, k=3)


# --- majority ---------------------------------------------------------------------------------------------------------


def test_two_of_three_make_a_range_of_medians() -> None:
    table = marks(
        ("ann", 1.0, 2.0, "Dog"), ("ben", 1.1, 2.1, "Dog"), ("eve", 1.6, 2.0, "Dog"),  # eve is too late
        ("ann", 5, 6, "Cat"),  # one against two
        ("ann", 7.0, 8.0, "Cat"), ("ben", 7.1, 8.1, "Cat"), ("eve", 7.05, 8.2, "Cat"),
    )  # fmt: skip
    found = consensus(table, whole("ann", "ben", "eve"))
    assert found.open.empty
    rows = found.ranges[["start_s", "end_s", "support", "heard_by", "labeler"]].to_numpy(object).tolist()
    assert rows[0] == [pytest.approx(1.05), pytest.approx(2.05), 2, 3, "consensus"]
    assert rows[1] == [pytest.approx(7.05), pytest.approx(8.1), 3, 3, "consensus"]
    assert found.ranges["end_spread_s"].tolist() == pytest.approx([0.1, 0.2])
    assert found.heard[["start_s", "end_s"]].to_numpy().tolist() == [[0.0, 10.0]]


def test_what_is_not_settled() -> None:
    """A tie, a majority that is not within the collar, and what only one has heard."""
    tie = consensus(marks(("ann", 1, 2, "Dog")), whole("ann", "ben"))
    assert (first(tie.open)["kind"], len(tie.ranges)) == ("missed", 0)
    assert tie.heard[["start_s", "end_s"]].to_numpy().tolist() == [[0.0, 1.0], [2.0, 10.0]]
    blurred = consensus(marks(("ann", 1, 2, "Dog"), ("ben", 1.5, 3, "Dog")), whole("ann", "ben", "eve"))
    assert first(blurred.open)["kind"] == "boundary"
    other = consensus(marks(("ann", 1, 2, "Dog"), ("ben", 1, 2, "Cat")), whole("ann", "ben"))
    assert first(other.open)["kind"] == "class"
    alone = consensus(marks(("ann", 8, 9, "Dog")), pd.concat([whole("ann"), whole("ben", seconds=5)]))
    assert first(alone.open)["kind"] == "alone"
    assert alone.heard["end_s"].tolist() == [5.0]


def test_votes_that_are_needed() -> None:
    table = marks(("ann", 1, 2, "Dog"), ("ben", 1, 2, "Dog"), ("ann", 5, 6, "Dog"))
    heard = whole("ann", "ben", "eve", "joe")
    assert consensus(table, heard).ranges.empty  # two of four are a tie
    assert consensus(table, heard).open["start_s"].tolist() == [1.0]
    assert consensus(table, heard, k=2).ranges["start_s"].tolist() == [1.0]
    assert consensus(table, heard, k=1).ranges["start_s"].tolist() == [1.0, 5.0]
    blurred = consensus(marks(("ann", 1, 2, "Dog"), ("ben", 1.5, 3, "Dog")), heard, k=2)
    assert len(blurred.open) == 1  # two say there is something, if not where; that two say no does not settle it
    strict = consensus(table, heard, k=4)
    assert (len(strict.ranges), len(strict.open)) == (0, 2)


labels = st.tuples(
    st.sampled_from(["ann", "ben", "eve"]), st.integers(0, 30), st.integers(1, 12), st.sampled_from(["Dog", "Cat"])
).map(lambda row: (row[0], row[1] / 10, (row[1] + row[2]) / 10, row[3]))


@given(st.lists(labels, max_size=9, unique=True))
@settings(max_examples=20)
def test_every_segment_is_agreed_or_in_one_case(rows: list[Row]) -> None:
    """With two labelers the agreed ones are those that the event F1 counts as matched."""
    rows = [row for row in rows if row[0] != "eve"]
    table, heard = marks(*rows), whole("ann", "ben")
    said = read_said(table, heard)
    clusters = find_clusters(said, ["ann", "ben"])
    cases = find_cases(said, clusters, ["ann", "ben"])
    agreed = [cluster for cluster in clusters if cluster.agreed]
    last = agreement(table, heard).iloc[-1]
    assert len(agreed) == last["matched"]
    found = [(who, *span) for case in cases for who, spans in case.says.items() for span in spans]
    found += [(who, *span, cluster.class_name) for cluster in agreed for who, span in cluster.spans.items()]
    assert sorted(found) == sorted(rows)
    for case in cases:
        assert set(case.says) == {"ann", "ben"}
        assert 0 < case.disputed_s <= case.reach[1] - case.reach[0] + 1e-9
        assert (case.kind == "missed") == (len(case.classes) == 1 and bool(case.missed_by))


@given(st.lists(labels, max_size=9, unique=True), st.sampled_from([None, 1, 2, 3]))
@settings(max_examples=20)
def test_names_do_not_matter_to_the_majority(rows: list[Row], k: int | None) -> None:
    swap = {"ann": "ben", "ben": "eve", "eve": "ann"}
    heard = whole("ann", "ben", "eve")
    one = consensus(marks(*rows), heard, k=k)
    other = consensus(marks(*((swap[row[0]], *row[1:]) for row in rows)), heard, k=k)
    if len({(row[1], row[2]) for row in rows}) == len(rows):  # no ties for a name to break
        pd.testing.assert_frame_equal(one.ranges.round(6), other.ranges.round(6))
        assert len(one.open) == len(other.open)
    assert (one.ranges["support"] >= (k or 2)).all()


@given(st.lists(labels, max_size=5, unique=True))
@settings(max_examples=12)
def test_three_who_say_the_same_settle_everything(rows: list[Row]) -> None:
    own = sorted({row[1:] for row in rows}, key=str)
    table = marks(*((who, *row) for who in ("ann", "ben", "eve") for row in own))
    found = consensus(table, whole("ann", "ben", "eve"), k=3)
    assert found.open.empty
    assert disagreements(table, whole("ann", "ben", "eve")).empty
    ranges = found.ranges[["start_s", "end_s", "class_name"]]
    assert sorted(map(tuple, ranges.to_numpy(object).tolist()), key=str) == own
    assert (found.ranges["start_spread_s"] == 0).all()


def test_a_cluster_is_never_wider_than_the_collar() -> None:
    """A chain of three, each within the collar of the next: the ends do not belong together."""
    table = marks(("ann", 1.0, 2.0, "Dog"), ("ben", 1.15, 2.15, "Dog"), ("eve", 1.3, 2.3, "Dog"))
    found = consensus(table, whole("ann", "ben", "eve"))
    assert found.ranges["support"].tolist() == [2]
    assert found.ranges["start_spread_s"].tolist() == pytest.approx([0.15])
    wide = consensus(table, whole("ann", "ben", "eve"), collar_s=0.3)
    assert wide.ranges[["start_s", "support"]].to_numpy().tolist() == [[1.15, 3]]
