from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import store_writers
from hypothesis import given, settings
from hypothesis import strategies as st
from store_writers import segment

from audiotk.__main__ import main
from audiotk.errors import AudiotkError
from audiotk.store import Store, StoreUnavailable, appending, make_operation, open_store, operations_of, storage
from audiotk.store.operations import Operation
from audiotk.store.storage import StoreDamaged
from audiotk.tables import Dataset, check_recordings

KILLS = int(os.environ.get("AUDIOTK_KILLS", "25"))
RECORDINGS = pd.DataFrame(
    {
        "recording": ["r", "q"],
        "path": ["r.wav", "q.wav"],
        "duration_s": [10.0, 5.0],
        "sr": [16000, 8000],
        "group": ["g", ""],
    }
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as store:
        yield store


def op(kind: str, labeler: str = "ann", recording: str = "r", **payload: Any) -> Operation:
    return make_operation(kind, labeler, recording, **payload)


def undo(target: Operation) -> Operation:
    return op("undo", target.labeler, target.recording, target=target.uuid)


def seg(number: int = 0, labeler: str = "ann", recording: str = "r", class_name: str = "dog", **more: Any) -> Operation:
    place = {"id": f"s{number}", "start_s": number, "end_s": number + 1.5, "class_name": class_name}
    return op("segment", labeler, recording, **(place | more))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_after_opening_again(path: Path) -> None:
    written = [
        seg(1, note="why"),
        op("heard", ranges=[[0, 2], [1, 4]]),
        op("claim", class_name="dog", verdict="confirmed"),
    ]
    with open_store(path) as store:
        assert store.append(written) == [1, 2, 3]
        name = store.id
    with open_store(path, create=False) as store:
        assert store.id == name
        state = store.state("r")
        read = store.operations()
    assert (
        state.segments[0].items() >= {"id": "s1", "start_s": 1.0, "end_s": 2.5, "note": "why", "labeler": "ann"}.items()
    )
    assert (state.heard, state.verdicts) == ([(0.0, 4.0)], {"dog": "confirmed"})
    assert read["uuid"].tolist() == [operation.uuid for operation in written]
    assert read["payload"].tolist() == [operation.payload for operation in written]
    assert abs(read["at"].iloc[0] - pd.Timestamp.now("UTC")) < pd.Timedelta("1h")


def test_the_same_operation_again_is_acknowledged_again(store: Store) -> None:
    first, second = seg(1), seg(2)
    assert store.append([first, first]) == [1, 1]
    assert store.append([second, first]) == [2, 1]
    later = Operation(first.uuid, "segment", "ann", "r", first.payload, tool="another version")
    assert store.append([later]) == [1]
    assert len(store.operations()) == 2
    assert store.append([]) == []


@pytest.mark.parametrize(
    "change",
    [{"payload": seg(2).payload}, {"labeler": "bob"}, {"recording": "q"}, {"kind": "delete"}],
)
def test_the_same_uuid_with_other_content_is_refused(store: Store, change: dict[str, Any]) -> None:
    first = seg(1)
    store.append([first])
    if change == {"kind": "delete"}:
        change["payload"] = {"id": "s1"}
    fields = {name: getattr(first, name) for name in Operation.__slots__} | change
    with pytest.raises(AudiotkError, match=f"{next(iter(change))}.* differ"):
        store.append([seg(3), Operation(**fields)])
    with pytest.raises(AudiotkError, match="differ"):  # also within one call
        store.append([other := seg(4), Operation(other.uuid, "note", "ann", "r", {"text": ""})])
    assert len(store.operations()) == 1


def test_a_resend_with_another_time_or_teacher_is_acknowledged_and_what_is_stored_stays(store: Store) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    first = op("note", text="x", uuid="u", at=when, seen_teacher=True)
    later = op("note", text="x", uuid="u", at=when + timedelta(seconds=1), seen_teacher=False)
    assert store.append([first]) == store.append([later]) == store.append([op("note", text="x", uuid="u")]) == [1]
    kept = store.operations().iloc[0]
    assert (kept["at"], kept["seen_teacher"]) == (pd.Timestamp(when), True)


def test_no_time_is_to_come(store: Store) -> None:
    before = pd.Timestamp.now("UTC")
    store.append([op("note", text="x", at=datetime(2999, 1, 1, tzinfo=UTC), uuid="u"), op("note", text="y")])
    store.append([op("note", text="x", at=datetime(2999, 1, 1, tzinfo=UTC), uuid="u")])
    first, second = store.operations()["at"]
    assert before <= first <= second <= pd.Timestamp.now("UTC")
    assert store.state("r", as_of=second).notes[0]["text"] == "y"


def test_a_clock_that_was_put_back_does_not_reorder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([op("claim", class_name="dog", verdict="unsure")])

    class Back(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(zone) - timedelta(hours=1)

    monkeypatch.setattr(appending, "datetime", Back)
    store.append([op("claim", class_name="dog", verdict="confirmed")])
    assert store.state("r").verdicts == {"dog": "confirmed"}


def test_what_was_done_offline_counts_from_when_it_was_done(store: Store) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    hours = [noon + timedelta(hours=k) for k in range(4)]
    late = op("claim", class_name="dog", verdict="confirmed", at=hours[2])
    store.append([late, seg(1, class_name="cat", at=hours[3])])
    early = [op("claim", class_name="dog", verdict="unsure", at=hours[0]), made := seg(1, at=hours[1])]
    store.append([*early, op("undo", target=made.uuid, at=hours[2])])  # sent when the line was back
    told = [store.state("r", "ann", as_of=hour) for hour in hours]
    assert [state.verdicts["dog"] for state in told] == ["unsure", "unsure", "confirmed", "confirmed"]
    assert [[row["class_name"] for row in state.segments] for state in told] == [[], ["dog"], [], ["cat"]]
    assert store.state("r", "ann") == told[-1]
    assert told[-1].undoable[-1] == store.operations()["uuid"].iloc[1]  # the last that was done, not stored
    assert store.claims()["verdict"].tolist() == ["confirmed"]


def test_all_or_nothing(store: Store) -> None:
    store.register(RECORDINGS)
    before = len(store.operations())
    wrong = [
        (Operation("u", "segment", "ann", "r", {"id": "s"}), "missing"),
        (seg(9), "lies outside of recording 'r'"),
        (op("heard", recording="q", ranges=[(0, 5.002)]), "lies outside of recording 'q'"),
        (op("undo", target="nobody"), "no operation 'nobody'"),
        (undo(seg(1)), "no operation"),
        (op("undo", uuid="own", target="own"), "no operation 'own'"),
    ]
    for operation, told in wrong:
        with pytest.raises(AudiotkError, match=told):
            store.append([seg(1), seg(2), operation])
        assert len(store.operations()) == before


def test_a_recording_bounds_what_comes_with_it_and_the_last_registration_counts(store: Store) -> None:
    about = {"path": "n", "sr": 8000, "group": ""}
    with pytest.raises(AudiotkError, match="lasts 4"):
        store.append([op("recording", "", "n", duration_s=4, **about), seg(3, recording="n")])
    store.append([seg(50, recording="n")])  # not registered: nothing is known of its end
    store.append([op("recording", "", "n", duration_s=4, **about), op("recording", "", "n", duration_s=5, **about)])
    outside = seg(3.6, recording="n")
    with pytest.raises(AudiotkError, match="lasts 5"):
        store.append([outside])
    store.append([seg(3.5, recording="n")])
    assert store.state("n").about == {"path": "n", "duration_s": 5.0, "sr": 8000, "group": "", "claim": None}


def test_what_was_acknowledged_is_acknowledged_again_though_the_recording_became_shorter(store: Store) -> None:
    store.register(RECORDINGS)
    late = seg(8)
    store.append([late])
    store.register(RECORDINGS.assign(duration_s=3.0))
    assert store.append([late]) == [3]


def test_undo_only_of_ones_own_on_the_same_recording(store: Store) -> None:
    mine = seg(1)
    store.append([mine])
    for wrong in (op("undo", "bob", target=mine.uuid), op("undo", recording="q", target=mine.uuid)):
        with pytest.raises(AudiotkError, match="cannot take back"):
            store.append([wrong])
    store.register(RECORDINGS)
    registration = store.operations("q")["uuid"].iloc[0]
    with pytest.raises(AudiotkError, match="register the recording again"):
        store.append([op("undo", recording="q", target=registration)])
    store.append([back := undo(mine)])
    assert store.segments().empty
    assert store.state("r", "ann").redoable == [back.uuid]
    store.append([undo(back)])
    assert len(store.segments()) == 1
    assert store.append([done := seg(5), undo(done)])  # both in one call
    assert store.segments()["segment"].tolist() == ["s1"]


def test_nothing_can_be_changed_or_deleted(store: Store) -> None:
    store.append([seg(1)])
    for command in ("UPDATE operations SET labeler = 'bob'", "DELETE FROM operations"):
        with (
            closing(sqlite3.connect(str(store.url.database))) as other,
            pytest.raises(sqlite3.IntegrityError, match="append"),
        ):
            other.execute(command)


HOSTILE = [
    "'; DROP TABLE operations; --", '"quoted" \\ back', "two\nlines\r\n\ttab", "<script>alert(1)</script>",
    "%s {x} ${y}", "\u202eright to left", "na\u00efve \U0001f415 \u200b", "e\u0301 \u00e9", " leading and trailing ",
    "x" * 1000, "NULL", "../../etc",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_comes_back_unchanged(store: Store, text: str, tmp_path: Path) -> None:
    store.append([op("recording", "", text, path=text, duration_s=9, sr=1, group=text, claim=text)])
    hostile = op("segment", text, text, id=text, start_s=0, end_s=1, class_name=text, note=text)
    store.append(
        [hostile, op("note", text, text, text=text), op("claim", text, text, class_name=text, verdict="unsure")]
    )
    row = store.segments(labeler=text).iloc[0]
    assert {row[name] for name in ("recording", "segment", "class_name", "labeler", "note")} == {text}
    assert store.recordings().iloc[0][["recording", "path", "group", "claim"]].tolist() == [text] * 4
    state = store.state(text, text)
    assert (state.notes[0]["text"], state.verdicts) == (text, {text: "unsure"})
    assert store.labelers() == [text]
    assert store.check().ok
    store.export_parquet(tmp_path / "x.parquet")
    with open_store(tmp_path / "other.sqlite") as other:
        other.merge(tmp_path / "x.parquet")
        assert other.state(text, text) == state


def test_a_long_note_is_kept(store: Store) -> None:
    text = "<é'\n>" * 20_000
    store.append([op("note", text=text)])
    assert store.state("r").notes[0]["text"] == text


def test_register_writes_only_what_is_new(store: Store) -> None:
    assert store.register(RECORDINGS, {"r": "dog"}) == 2
    assert store.register(RECORDINGS) == 0  # claims None keeps them
    assert store.register(RECORDINGS, {"r": "dog"}) == 0
    assert store.register(RECORDINGS.assign(sr=1)) == 2
    found = store.recordings()
    assert found[["recording", "claim", "sr"]].values.tolist() == [["q", None, 1], ["r", "dog", 1]]
    assert len(check_recordings(found)) == 2
    assert store.recordings(limit=1)["recording"].tolist() == ["q"]
    assert store.recordings(limit=5, start=1)["recording"].tolist() == ["r"]


def test_register_changes_only_the_claims_that_are_named(store: Store) -> None:
    store.register(RECORDINGS, {"q": "dog"})
    assert store.register(RECORDINGS, {"r": "cat"}) == 1
    assert store.recordings()["claim"].tolist() == ["dog", "cat"]
    assert store.register(RECORDINGS, {"q": None}) == 1  # named: taken away
    assert store.recordings()["claim"].tolist() == [None, "cat"]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_labels_as_of_a_date(store: Store) -> None:
    days = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3)]
    made = seg(1, at=days[0])
    store.append([made, seg(2, at=days[1])])
    store.append([make_operation("undo", "ann", "r", target=made.uuid, at=days[2])])
    names = {day: store.segments(as_of=day)["segment"].tolist() for day in days}
    assert list(names.values()) == [["s1"], ["s1", "s2"], ["s2"]]
    assert store.segments(as_of="2026-01-02")["segment"].tolist() == ["s1"]  # a date is its midnight, UTC
    assert store.segments(as_of="2026-01-02T13:00+01:00")["segment"].tolist() == ["s1", "s2"]
    assert store.state("r", "ann", as_of=days[1]).undoable[0] == made.uuid
    assert len(store.operations(as_of=days[1])) == 2
    assert len(store.dataset_tables(as_of=days[0])[1]) == 1
    for wrong in ("yesterday or so", float("nan")):
        with pytest.raises(AudiotkError, match="as_of: expected a date"):
            store.segments(as_of=wrong)  # type: ignore[arg-type]


def test_tables_of_what_is_left(store: Store) -> None:
    gone = seg(3)
    store.append([seg(1), seg(2, "bob", recording="q"), gone, undo(gone), op("heard", "bob", ranges=[(0, 1), (1, 2)])])
    store.append([op("judgement", start_s=1, end_s=2, class_name="dog", value=0)])
    store.append([op("judgement", start_s=1, end_s=2, class_name="dog", value=None, reason="far", segment_id="r@a-b")])
    store.append([op("judgement", start_s=2, end_s=3, class_name="dog", value=1)])
    assert store.labelers() == ["ann", "bob"]
    assert store.segments()["segment"].tolist() == ["s1", "s2"]
    assert store.segments("bob")[["recording", "start_s"]].values.tolist() == [["q", 2.0]]
    assert store.heard().values.tolist() == [["r", "bob", 0.0, 2.0]]
    told = store.judgements()
    assert told["segment"].tolist() == ["r@a-b", "r@2.000-3.000"]
    np.testing.assert_array_equal(told["value"], [np.nan, 1])
    assert store.operations(recording="q", labeler="bob")["seq"].tolist() == [2]
    assert store.operations(after_seq=7)["seq"].tolist() == [8]


def test_tables_of_an_empty_store_have_their_columns(store: Store) -> None:
    for table in (
        store.operations(),
        store.segments(),
        store.claims(),
        store.heard(),
        store.judgements(),
        store.recordings(),
    ):
        assert len(table) == 0
        assert "recording" in table.columns
    assert [len(table) for table in store.dataset_tables()] == [0, 0, 0]
    assert (store.labelers(), store.check().operations) == ([], 0)


def test_tables_make_a_dataset(store: Store) -> None:
    store.register(RECORDINGS)
    store.append(
        [seg(1), op("heard", ranges=[(0, 5)]), op("claim", class_name="dog", verdict="confirmed"), seg(2, "bob")]
    )
    segments, annotations, sources = store.dataset_tables()
    split = pd.Series({"r": "train", "q": "test"})
    dataset = Dataset("mine", store.recordings(), segments, annotations, split, ["dog"], sources)
    assert annotations.groupby("source")["value"].agg(["sum", "size"]).values.tolist() == [[1, 3], [1, 1]]
    assert list(dataset.sources.index) == ["human:ann", "human:bob"]


# --- twin -------------------------------------------------------------------------------------------------------------


class Twin:
    """A list of all operations, asked anew for everything."""

    def __init__(self) -> None:
        self.log: list[Operation] = []

    def counts(self, operation: Operation) -> bool:
        undos = [o for o in self.log if o.kind == "undo" and o.payload["target"] == operation.uuid]
        return not any(self.counts(o) for o in undos)

    def last(self, kinds: tuple[str, ...], *fields: str) -> dict[tuple[Any, ...], Operation]:
        found = {}
        for o in sorted(self.log, key=lambda o: o.at or datetime.now(UTC)):
            if o.kind in kinds and self.counts(o):
                found[(o.recording, o.labeler, *(o.payload[name] for name in fields))] = o
        return found

    def segments(self) -> set[tuple[Any, ...]]:
        left = [(key, o) for key, o in self.last(("segment", "delete"), "id").items() if o.kind == "segment"]
        return {(*key, o.payload["start_s"], o.payload["class_name"]) for key, o in left}

    def claims(self) -> set[tuple[Any, ...]]:
        return {(*key, o.payload["verdict"]) for key, o in self.last(("claim",), "class_name").items()}

    def heard(self) -> dict[tuple[str, str], set[int]]:
        seconds: dict[tuple[str, str], set[int]] = {}
        for o in self.log:
            if o.kind == "heard" and self.counts(o):
                for start, end in o.payload["ranges"]:
                    seconds.setdefault((o.recording, o.labeler), set()).update(range(int(start), int(end)))
        return seconds


days = st.integers(1, 28).map(lambda day: datetime(2026, 1, day, tzinfo=UTC))
names = {"labeler": st.sampled_from(["ann", "bob"]), "recording": st.sampled_from(["r", "q"]), "at": st.none() | days}
number, name = st.integers(0, 4), st.sampled_from(["dog", "cat"])
verdict = st.sampled_from(["unsure", "open"])
free_acts = st.one_of(
    st.builds(seg, number, class_name=name, **names),
    st.builds(lambda n, **who: op("delete", id=f"s{n}", **who), number, **names),
    st.builds(lambda c, v, **who: op("claim", class_name=c, verdict=v, **who), st.none() | name, verdict, **names),
    st.builds(lambda a, b, **who: op("heard", ranges=[(a, a + 2), (b, b + 1)], **who), number, number, **names),
    st.tuples(st.just("undo"), st.integers(0, 30)),
    st.tuples(st.just("again"), st.integers(0, 30)),
)


@settings(max_examples=25)
@given(st.lists(free_acts, max_size=25), st.integers(1, 6))
def test_the_store_equals_a_naive_list(acts: list[Any], size: int) -> None:
    twin, sent = Twin(), []
    for act in acts:
        if isinstance(act, tuple):
            if not twin.log:
                continue
            old = twin.log[act[1] % len(twin.log)]
            act = undo(old) if act[0] == "undo" else old
        sent.append(act)
        if act not in twin.log:
            twin.log.append(act)
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "labels.sqlite") as store:
        for start in range(0, len(sent), size):
            store.append(sent[start : start + size])
        segments, claims, heard = store.segments(), store.claims(), store.heard()
        assert store.operations()["uuid"].tolist() == [operation.uuid for operation in twin.log]
        rows = segments[["recording", "labeler", "segment", "start_s", "class_name"]].itertuples(index=False, name=None)
        assert set(rows) == twin.segments()
        assert len(segments) == len(twin.segments())
        rows = claims[["recording", "labeler", "class_name", "verdict"]].itertuples(index=False, name=None)
        assert set(rows) == twin.claims()
        seconds: dict[tuple[str, str], set[int]] = {}
        for row in heard.to_dict("records"):
            seconds.setdefault((row["recording"], row["labeler"]), set()).update(
                range(int(row["start_s"]), int(row["end_s"]))
            )
        assert seconds == twin.heard()
        for who in ("ann", "bob"):
            shown = {(s["id"], s["start_s"], s["class_name"]) for s in store.state("r", who).segments}
            assert shown == {(*key[2:],) for key in twin.segments() if key[:2] == ("r", who)}
        assert store.check().ok


# --- threads and processes --------------------------------------------------------------------------------------------


def test_threads_share_a_store(store: Store) -> None:
    failed: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for k in range(25):
                store.append([segment(f"w{who}", "r", k)])
                assert len(store.state("r", f"w{who}").segments) == k + 1
        except BaseException as err:
            failed.append(err)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.operations()["seq"].tolist() == list(range(1, 151))


def test_threads_that_open_one_new_store_at_once(path: Path) -> None:
    found: list[str] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        with open_store(path) as store:
            found.append(store.id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


@pytest.fixture(scope="module")
def start() -> Callable[..., Any]:
    """Starts a process of store_writers that shares nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audiotk.store", "sqlalchemy.dialects.postgresql.psycopg"])

    def begin(work: Callable[..., None], *arguments: Any) -> Any:
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    return begin


def many_writers(place: str, start: Callable[..., Any], tmp_path: Path) -> None:
    """Eight writers and two labelers at once on one recording: each has its own names, none is lost or doubled."""
    counts = dict.fromkeys((f"w{k}" for k in range(8)), 12) | {"ann": 20, "bob": 20}
    work = [
        start(store_writers.write, place, who, count, seed, tmp_path / who)
        for seed, (who, count) in enumerate(counts.items())
    ]
    for process in work:
        process.join()
    assert [process.exitcode for process in work] == [0] * 10
    with open_store(place, create=False) as store:
        told = store.operations().set_index("uuid")["seq"].to_dict()
        acknowledged = dict(line.split() for who in counts for line in (tmp_path / who).read_text().splitlines())
        assert {uuid: str(number) for uuid, number in told.items()} == acknowledged
        assert set(told) == {f"{who}-{k}" for who, count in counts.items() for k in range(count)}
        assert sorted(told.values()) == list(range(1, 137))
        assert store.segments().groupby("labeler").size().to_dict() == counts
        assert store.check().ok


def test_eight_writers_and_two_labelers(path: Path, start: Callable[..., Any], tmp_path: Path) -> None:
    many_writers(str(path), start, tmp_path)


def acknowledged(side: Path) -> list[str]:
    """uuids on the side, but for a line that was cut off."""
    return side.read_text().split("\n")[:-1] if side.exists() else []


def test_killed_writers_lose_nothing_that_was_acknowledged(
    path: Path, start: Callable[..., Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    told: dict[str, list[str]] = {}
    for kill in range(KILLS):
        who, side = f"w{kill}", tmp_path / f"side{kill}"
        process = start(store_writers.write_until_killed, str(path), who, side)
        wanted = 3 * int(rng.integers(0, 8))
        while process.is_alive() and len(acknowledged(side)) < wanted:
            time.sleep(0.001)
        time.sleep(rng.exponential(0.002))  # anywhere in the next append, or while the store is opened
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        told[who] = acknowledged(side)
        if kill % 5 == 0:  # another process goes on at once
            with open_store(path) as store:
                store.append([segment("survivor", "r", kill)])
    with open_store(path, create=False) as store:
        assert store.check().problems == []
        present = set(store.operations()["uuid"])
        for who, uuids in told.items():
            assert set(uuids) <= present
            mine = {int(uuid.rsplit("-", 1)[1]) for uuid in present if uuid.startswith(f"{who}-")}
            assert mine == set(range(len(mine)))  # nothing between is missing
            assert len(mine) % 3 == 0  # a batch is there wholly or not at all
            assert len(uuids) <= len(mine) <= len(uuids) + 3
    assert sum(map(len, told.values())) > KILLS


def test_a_store_that_was_open_before_a_fork(path: Path, start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(store_writers.write_across_a_fork, str(path), tmp_path / "status")
    process.join(60)
    assert (tmp_path / "status").read_text() == "0"
    with open_store(path) as store:
        assert store.segments().groupby("labeler").size().to_dict() == {"before": 1, "child": 20, "parent": 20}
        assert store.check().ok


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs to be root and allowed to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(store: Store) -> int:
    """Append until the disk is full; returns how many were acknowledged."""
    for done in range(10_000):
        pair = [op("note", text=name * 1000, uuid=f"{name}{done}") for name in "ab"]
        try:
            store.append(pair)
        except StoreUnavailable:
            return done
    raise AssertionError("the disk was never full")


def test_a_full_disk_is_told_and_writing_goes_on_when_there_is_space(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    with open_store(small_disk / "labels.sqlite") as store:
        done = fill(store)
        with pytest.raises(StoreUnavailable, match=r"free some space. Nothing of this call was written"):
            store.append([op("note", text="x" * 5000)])
        assert len(store.operations()) == 2 * done
        assert store.check().ok
        ballast.unlink()
        store.append([op("note", text="a" * 1000, uuid=f"a{done}")])
        assert len(store.operations()) == 2 * done + 1
    with open_store(small_disk / "labels.sqlite") as store:
        assert store.check().ok
        assert len(store.operations()) == 2 * done + 1


def test_a_full_file_is_told(store: Store) -> None:
    def limit(connection: Any, *rest: object) -> None:
        connection.execute("PRAGMA max_page_count=60")

    sa.event.listen(store._engine, "checkout", limit)
    done = fill(store)
    assert len(store.operations()) == 2 * done
    assert store.check().ok


def test_a_read_only_disk(small_disk: Path) -> None:
    path = small_disk / "labels.sqlite"
    with open_store(path) as store:
        store.append([seg(1)])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with open_store(path, create=False) as store:
        assert store.segments()["segment"].tolist() == ["s1"]
        assert store.check().ok
        with pytest.raises(StoreUnavailable, match="open for reading only; make it writable"):
            store.append([seg(2)])
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with open_store(path) as store:
        assert len(store.segments()) == 1
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnavailable, match="writable"):
        store.append([seg(2)])
    with pytest.raises(StoreUnavailable, match="writable"):
        open_store(path)
    with pytest.raises(StoreUnavailable, match="Read-only file system"):
        open_store(small_disk / "new" / "labels.sqlite")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert store.append([seg(2)]) == [2]
    store.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_file(store: Store, path: Path) -> None:
    store.append([seg(1)])
    store.close()
    path.chmod(0o444)
    with pytest.raises(StoreUnavailable, match="writable"), open_store(path) as again:
        again.append([seg(2)])


def test_a_file_that_only_others_may_write(start: Callable[..., Any]) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs to be root, to become somebody else")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (out := folder / "out").touch()
        out.chmod(0o666)
        with open_store(folder / "labels.sqlite") as store:
            store.append([seg(1)])
        for mode in (0o444, 0o644):
            (folder / "labels.sqlite").chmod(mode)
            start(store_writers.read_as_nobody, str(folder / "labels.sqlite"), out).join()
            assert out.read_text().startswith("1 segments, then StoreUnavailable: ")
            assert sorted(os.listdir(folder)) == ["labels.sqlite", "out"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_under_an_open_store(store: Store, path: Path, replaced: bool) -> None:
    store.append([seg(1)])
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink()
    if replaced:
        open_store(path).close()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        store.append([seg(2)])


def test_a_locked_file_is_waited_for_and_then_told(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_S", 0.05)
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another process keeps it locked"):
            store.append([seg(1)])
        monkeypatch.setattr(storage, "PATIENCE_S", 60.0)
        with pytest.raises(StoreUnavailable, match="another process keeps it locked"):
            store.append([seg(1)], patience_s=0.01)
        assert store.segments().empty  # reading goes on
        other.execute("ROLLBACK")
    assert store.append([seg(1)]) == [1]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="is not there"):
        open_store(tmp_path / "labels.sqlite", create=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(AudiotkError, match="folder cannot be made"):
        open_store(tmp_path / "file" / "labels.sqlite")
    with pytest.raises(StoreUnavailable):
        open_store(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_an_empty_file_is_a_new_store_and_other_databases_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    open_store(tmp_path / "empty").close()
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE birds (name)")
    before = (tmp_path / "other").read_bytes()
    with pytest.raises(AudiotkError, match=r"something else \(tables birds\)"):
        open_store(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == before


@pytest.mark.parametrize("place", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "://"])
def test_places_that_cannot_hold_a_store(place: str) -> None:
    with pytest.raises(AudiotkError, match="store: expected"):
        open_store(place)


def test_a_path_is_a_url_and_odd_names_are_names(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?mode=ro & 'more' é.sqlite"
    with open_store(path) as store:
        store.append([seg(1)])
    assert len(open_store(path).segments()) == 1
    plain = tmp_path / "a.sqlite"
    open_store(f"sqlite:///{plain}").close()
    assert plain.exists()


# --- damage -----------------------------------------------------------------------------------------------------------


def filled(path: Path, count: int = 400) -> None:
    with open_store(path) as store:
        store.append([seg(k % 7, recording=f"r{k}", note=f"the note {k:05d}") for k in range(count)])


def overwrite(path: Path, at: int, new: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(new)


SHORT = 140  # operations in the small store that is damaged page by page


def damages(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """The file with each page in turn torn, lost, or written over by another."""
    rng = np.random.default_rng(0)
    for at in range(4096, len(whole) - 4096, 4096):
        other = int(rng.integers(1, len(whole) // 4096)) * 4096
        yield f"torn {at}", whole[: at + 2048] + rng.bytes(2048) + whole[at + 4096 :]
        yield f"noise {at}", whole[:at] + rng.bytes(4096) + whole[at + 4096 :]
        yield f"emptied {at}", whole[: at + 3] + b"\0\0" + whole[at + 5 :]  # a page that says it has no cells
        yield f"page of {other} at {at}", whole[:at] + whole[other : other + 4096] + whole[at + 4096 :]


def alone(path: Path) -> set[str]:
    """Twin: uuids of the operations that can be read one by one, with all that they said."""
    found = set()
    with closing(sqlite3.connect(path)) as connection:
        for number in range(1, SHORT + 1):
            try:
                rows = connection.execute("SELECT * FROM operations WHERE seq = ?", (number,)).fetchall()
                found |= {row[1] for row in rows if storage.crc_of(*row[:-1]) == row[-1]}
            except (sqlite3.Error, UnicodeDecodeError):
                continue
    return found


def test_an_export_of_any_damaged_page_is_whole_or_refused_and_salvage_saves_all_there_is(path: Path) -> None:
    with open_store(path) as store:
        store.append([seg(k % 7, recording=f"r{k % 9}", note="x" * 300, uuid=f"u{k:03d}") for k in range(SHORT)])
    whole, out = path.read_bytes(), path.with_name("x.parquet")
    every = {f"u{k:03d}" for k in range(SHORT)}
    harmed = 0
    for what, content in damages(whole):
        path.write_bytes(content)
        try:
            store = open_store(path, read_only=True)
        except AudiotkError:  # the schema's page
            continue
        try:
            assert store.export_parquet(out) == (SHORT, 0), what
            assert {operation.uuid for operation in operations_of(out)} == every
            assert len(operations_of(store)) == SHORT
        except StoreDamaged:
            assert not out.exists()
            harmed += 1
        out.unlink(missing_ok=True)
        single = alone(path)
        try:
            written, lost = store.export_parquet(out, salvage=True)
        except StoreDamaged:
            assert not single, what
            continue
        saved = {operation.uuid for operation in operations_of(out)}
        assert single <= saved <= every, what
        assert written == len(saved) == SHORT - lost or not single, what
        out.unlink()
    assert harmed > 50


def test_an_export_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("a good one")
    store.append([seg(1)])
    with pytest.raises(AudiotkError, match="will not be overwritten"):
        store.export_parquet(tmp_path / "x.parquet", salvage=True)
    assert (tmp_path / "x.parquet").read_text() == "a good one"


def test_looking_at_a_store_changes_nothing(store: Store, tmp_path: Path) -> None:
    store.append([seg(1)])
    copy = store.backup(tmp_path / "deep" / "copy.sqlite")
    store.close()
    for path in (copy, Path(str(store.url.database))):
        before, beside = path.read_bytes(), sorted(os.listdir(path.parent))
        for command in (["check"], ["export", str(tmp_path / f"{path.stem}.parquet")], ["backup", f"{tmp_path}/b"]):
            assert main(["store", command[0], str(path), *command[1:]]) == 0
        Path(f"{tmp_path}/b").unlink()
        for how in ({"create": False}, {"create": True}, {"read_only": True}):
            with open_store(path, **how) as opened:
                assert len(opened.segments()) == 1
        assert path.read_bytes() == before
        assert [name for name in os.listdir(path.parent) if name not in beside and "parquet" not in name] == []
    with open_store(copy, read_only=True) as opened, pytest.raises(StoreUnavailable, match="for reading only"):
        opened.append([seg(2)])
    with open_store(copy) as opened:
        opened.append([seg(2)])
        assert copy.read_bytes()[18:20] == b"\2\2"  # a log again, now that it is written


def test_a_log_that_a_killed_process_left_is_read_and_left(store: Store, path: Path, tmp_path: Path) -> None:
    store.append([seg(1)])
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", tmp_path / f"left.sqlite{end}")
    left = {end: Path(f"{tmp_path}/left.sqlite{end}").read_bytes() for end in ("", "-wal")}
    with open_store(tmp_path / "left.sqlite", read_only=True) as opened:
        assert opened.segments()["segment"].tolist() == ["s1"]
    assert {end: Path(f"{tmp_path}/left.sqlite{end}").read_bytes() for end in left} == left


def test_one_changed_letter_is_found(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path)
    at = path.read_bytes().index(b"the note 00123")
    overwrite(path, at, b"THE")
    with open_store(path) as store:
        with pytest.raises(StoreDamaged, match=r"operation 124 is not what was written.*audiotk store check"):
            store.state("r123")
        assert len(store.state("r124").segments) == 1  # what is whole goes on
        report = store.check()
        assert not report.ok
        assert len(report.problems) == 1
        assert "operation 124" in report.problems[0]
    assert main(["store", "check", str(path)]) == 1
    assert "problem: operation 124" in capsys.readouterr().out


def test_a_destroyed_page_is_told_and_the_rest_can_be_saved(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path)
    page = path.read_bytes().index(b"the note 00123") // 4096
    overwrite(path, page * 4096, b"\xff" * 4096)
    with open_store(path) as store:
        with pytest.raises(StoreDamaged, match=r"is damaged.*audiotk store check.*backup.*--salvage"):
            store.segments()
        with pytest.raises(StoreDamaged):
            store.export_parquet(path.with_name("x.parquet"))
        assert not path.with_name("x.parquet").exists()
    saved, new = path.with_name("saved.parquet"), path.with_name("new.sqlite")
    assert main(["store", "export", str(path), str(saved)]) == 2
    assert main(["store", "export", str(path), str(saved), "--salvage"]) == 1
    assert "could not be read" in capsys.readouterr().err
    assert main(["store", "merge", str(new), str(saved)]) == 0
    with open_store(new) as store:
        notes = set(store.segments()["note"])
        assert store.check().ok
    assert 350 < len(notes) < 400
    assert notes < {f"the note {k:05d}" for k in range(400)}


def test_random_damage_is_told_or_does_no_harm(path: Path) -> None:
    filled(path, 60)
    whole = path.read_bytes()
    with open_store(path) as store:
        truth = store.segments()
    rng = np.random.default_rng(0)
    told = harmless = 0
    for _ in range(80):
        path.write_bytes(whole)
        overwrite(path, int(rng.integers(0, len(whole))), rng.bytes(int(rng.integers(1, 200))))
        try:
            with open_store(path) as store:
                report = store.check()
                left = store.segments()
        except AudiotkError:  # any other error is a failure
            told += 1
            continue
        same = left.equals(truth)
        assert same or not report.ok
        assert len(left.merge(truth)) == len(left)  # what is given is what was written
        harmless += same
    assert told > 20
    assert harmless > 5


def test_a_destroyed_beginning(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(path)
    overwrite(path, 0, os.urandom(4096))
    with pytest.raises(StoreDamaged, match=r"is damaged \(file is not a database\).*audiotk store check"):
        open_store(path)
    assert main(["store", "check", str(path)]) == 1
    assert "restore the last backup" in capsys.readouterr().err


def test_a_file_that_is_no_store(path: Path) -> None:
    path.write_text("recording,start_s\n" * 1000)
    with pytest.raises(StoreDamaged, match="not a database"):
        open_store(path)


def test_a_cut_file(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamaged, match="audiotk store check"), open_store(path) as store:
        store.segments()


def test_check_finds_what_breaks_the_rules(path: Path) -> None:
    filled(path, 5)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER operations_stay")
        other.execute("DROP TRIGGER operations_are_kept")
        other.execute("DELETE FROM operations WHERE seq = 3")
        row = storage.to_row(6, Operation("u", "undo", "bob", "r0", {"target": "x"}, datetime(2026, 1, 1, tzinfo=UTC)))
        other.execute(
            f"INSERT INTO operations ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values())
        )
        row = storage.to_row(7, Operation("v", "shout", "bob", "r0", {}, datetime(2026, 1, 1, tzinfo=UTC)))
        other.execute(
            f"INSERT INTO operations ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values())
        )
        other.commit()
    with open_store(path) as store:
        problems = store.check().problems
    assert [problem.split(":")[0] for problem in problems[:2]] == ["operations 3 to 3 are missing", "operation 6"]
    assert "takes back what is not there" in problems[1]
    assert "one of the kinds" in problems[2]


# --- schema, backup, export -------------------------------------------------------------------------------------------


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    filled(path, 3)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE meta SET value = '7' WHERE name = 'schema'")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(AudiotkError, match=r"newer audiotk \(schema 7.*update audiotk"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_store_of_an_older_version_is_migrated_after_a_backup(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 3)
    steps = {
        1: lambda connection: connection.exec_driver_sql("CREATE TABLE first (x)"),
        2: lambda connection: connection.exec_driver_sql("CREATE TABLE second (x)"),
    }
    monkeypatch.setattr(storage, "MIGRATIONS", steps | {2: lambda connection: connection.exec_driver_sql("NO SQL")})
    monkeypatch.setattr(storage, "SCHEMA", 3)
    with pytest.raises(AudiotkError):
        open_store(path)  # the second step fails: nothing of the first stays
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() == ("1",)
        assert other.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('first', 'second')").fetchone() == (0,)
    monkeypatch.setattr(storage, "MIGRATIONS", steps)
    with open_store(path) as store:
        assert len(store.segments()) == 3
        assert set(sa.inspect(store._engine).get_table_names()) >= {"first", "second"}
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() == ("3",)
    monkeypatch.undo()
    with open_store(f"{path}.schema1", create=False) as old:
        assert len(old.segments()) == 3


def test_backup_while_open(store: Store, path: Path, tmp_path: Path) -> None:
    store.append([seg(1)])
    copy = store.backup(tmp_path / "deep" / "copy.sqlite")
    store.append([seg(2)])
    assert os.listdir(copy.parent) == ["copy.sqlite"]  # one file, nothing beside it
    assert copy.read_bytes()[18:20] == b"\1\1"  # and without a log, so that a read-only disk can hold it
    with open_store(copy) as other:
        assert other.segments()["segment"].tolist() == ["s1"]
        assert other.id == store.id
    for taken in (copy, path):
        with pytest.raises(AudiotkError, match="will not be overwritten"):
            store.backup(taken)


def test_export_and_merge_bring_everything_once(store: Store, tmp_path: Path) -> None:
    store.register(RECORDINGS)
    store.append([first := seg(1, seen_teacher=True), undo(first), seg(2), op("heard", ranges=[(0, 1)])])
    assert store.export_parquet(tmp_path / "x.parquet") == (6, 0)
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert table["seq"].tolist() == [1, 2, 3, 4, 5, 6]
    with open_store(tmp_path / "other.sqlite") as other:
        other.append([seg(1, "bob")])
        assert other.merge(tmp_path / "x.parquet") == 6
        assert other.merge(store) == 0
        assert other.merge(store.url.database) == 0
        assert other.state("r", "ann") == store.state("r", "ann")
        pd.testing.assert_frame_equal(
            other.operations(after_seq=1).drop(columns="seq"), store.operations().drop(columns="seq")
        )
        assert store.merge(other) == 1
    with pytest.raises(AudiotkError, match="cannot be read as an exported store"):
        store.merge(tmp_path / "none.parquet")
    with pytest.raises(AudiotkError, match="is not there"):
        store.merge(tmp_path / "none.sqlite")


def test_the_latest_word_counts_however_stores_are_merged(tmp_path: Path) -> None:
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    for name, first, second in (("ab", "a", "b"), ("ba", "b", "a")):
        with open_store(tmp_path / f"{name}-a") as a, open_store(tmp_path / f"{name}-b") as b:
            a.append(
                [seg(1, class_name="cat", at=days[0]), op("claim", class_name="dog", verdict="unsure", at=days[1])]
            )
            a.append([gone := op("note", text="no", at=days[3]), op("undo", target=gone.uuid, at=days[3])])
            b.append([op("claim", class_name="dog", verdict="not_found", at=days[0]), seg(1, at=days[2])])
            b.append([op("note", text="yes", at=days[0])])
            stores = {"a": a, "b": b}
            stores[first].merge(stores[second])
            state = stores[first].state("r", "ann")
            assert state.verdicts == {"dog": "unsure"}
            assert [row["class_name"] for row in state.segments] == ["dog"]
            assert [row["text"] for row in state.notes] == ["yes"]
            assert stores[first].state("r", as_of=days[0]).verdicts == {"dog": "not_found"}


def test_a_merge_keeps_what_is_registered_here(store: Store, tmp_path: Path) -> None:
    store.register(RECORDINGS[:1], {"r": "dog"})
    with open_store(tmp_path / "other.sqlite") as other:
        other.register(RECORDINGS.assign(path=["/there/r.wav", "/there/q.wav"]), {"q": "cat"})
        other.append([seg(1)])
        assert store.merge(other) == 2
        assert store.merge(other) == 0
    assert store.recordings()[["recording", "path", "claim"]].values.tolist() == [
        ["q", "/there/q.wav", "cat"], ["r", "r.wav", "dog"],
    ]  # fmt: skip


def test_a_mistyped_merge_leaves_no_new_store(tmp_path: Path) -> None:
    for wrong in ("none.sqlite", "none.parquet"):
        assert main(["store", "merge", str(tmp_path / "typo.sqlite"), str(tmp_path / wrong)]) == 2
    assert os.listdir(tmp_path) == []


def test_command_line(store: Store, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.append([seg(1), seg(2, "bob", recording="q")])
    assert main(["store", "check", str(path)]) == 0
    assert capsys.readouterr().out == "2 operations by 2 labelers on 2 recordings\nnothing is wrong\n"
    assert main(["store", "backup", str(path), str(tmp_path / "b.sqlite")]) == 0
    assert main(["store", "backup", str(path), str(tmp_path / "b.sqlite")]) == 2
    assert main(["store", "export", str(path), str(tmp_path / "e.parquet")]) == 0
    assert main(["store", "check", str(tmp_path / "absent.sqlite")]) == 2
    assert "is not there" in capsys.readouterr().err
    assert not (tmp_path / "absent.sqlite").exists()


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def postgres_programs() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A private PostgreSQL server that listens on a socket in its own folder only."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="audiotk-pg-") as name:
        folder, user = Path(name), None
        if os.geteuid() == 0:  # a server does not run as root
            try:
                shutil.chown(folder, "postgres")
            except LookupError:
                pytest.skip("root without a user named postgres cannot start PostgreSQL")
            user = "postgres"

        def call(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=True, timeout=60)

        call("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        call("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            call("pg_ctl", "stop", "-m", "fast")


@pytest.fixture
def schema(server: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty schema of its own."""
    name = request.node.name
    engine = sa.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"


def test_postgresql_round_trip(schema: str, store: Store, tmp_path: Path) -> None:
    store.register(RECORDINGS, {"r": HOSTILE[3]})
    store.append([seg(k, note=text) for k, text in enumerate(HOSTILE[:8])])
    store.append(
        [gone := seg(4), undo(gone), op("heard", ranges=[(0, 5)]), op("claim", class_name="dog", verdict="confirmed")]
    )
    with open_store(schema) as team:
        assert team.merge(store) == len(store.operations())
        pd.testing.assert_frame_equal(team.operations(), store.operations())
        assert team.state("r", "ann") == store.state("r", "ann")
        for mine, theirs in zip(team.dataset_tables(), store.dataset_tables(), strict=True):
            pd.testing.assert_frame_equal(mine, theirs)
        pd.testing.assert_frame_equal(team.recordings(), store.recordings())
        assert team.check() == store.check()
        assert team.append([gone]) == [11]
        with pytest.raises(AudiotkError, match="differ"):
            team.append([seg(1), Operation(gone.uuid, "note", "ann", "r", {"text": ""})])
        for side in (team, store):  # what was refused leaves no gap in the numbers
            side.append([op("note", text="x", uuid="last")])
        assert team.operations()["seq"].tolist() == store.operations()["seq"].tolist()
        assert team.export_parquet(tmp_path / "x.parquet") == (len(store.operations()), 0)
        with pytest.raises(AudiotkError, match="pg_dump"):
            team.backup(tmp_path / "copy")
        with team._engine.begin() as connection, pytest.raises(sa.exc.DBAPIError, match="append"):
            connection.exec_driver_sql("DELETE FROM operations")
        name = team.id
    assert open_store(schema).id == name


def test_postgresql_writers_at_once(schema: str, start: Callable[..., Any], tmp_path: Path) -> None:
    many_writers(schema, start, tmp_path)


def test_postgresql_writers_are_waited_for_and_then_told(schema: str) -> None:
    with open_store(schema) as team, open_store(schema) as other:
        with storage.writing(other._engine), pytest.raises(StoreUnavailable, match="lock timeout"):
            team.append([seg(1)], patience_s=0.05)
        assert team.append([seg(1)]) == [1]


def test_a_server_that_is_away(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreUnavailable, match="cannot be reached now") as told:
        open_store("postgresql://" + f"ann:secret@/labels?host={tmp_path}")
    assert "secret" not in str(told.value)
