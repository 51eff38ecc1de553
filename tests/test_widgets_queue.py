"""The order of the queue, hidden repeats, the filter, and a teacher's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotk.errors import AudiotkError
from audiotk.tables import make_segments
from audiotk.widgets import teacher as teacher_module
from audiotk.widgets.queue import GAP, Place, Queue, disagreement, make_places, uncertainty
from audiotk.widgets.teacher import Teacher

NAMES = [f"r{number}" for number in range(30)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- order ------------------------------------------------------------------------------------------------------------


def test_given_and_random_orders() -> None:
    assert [place.key for place in make_places(NAMES)] == NAMES
    drawn = [place.recording for place in make_places(NAMES, "random", rng())]
    assert drawn != NAMES
    assert sorted(drawn) == sorted(NAMES)
    assert drawn == [place.recording for place in make_places(NAMES, "random", rng())]
    assert drawn != [place.recording for place in make_places(NAMES, "random", rng(1))]


def test_order_by_worth_is_stable_and_unknown_comes_last() -> None:
    worth = pd.Series({"b": 0.5, "d": 0.9, "c": 0.5})
    assert [place.key for place in make_places(list("abcd"), "uncertain", worth=worth)] == ["d", "b", "c", "a"]


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 99))
def test_repeats_are_as_many_as_asked_and_stand_well_behind(n: int, share: float, seed: int) -> None:
    places = make_places([f"r{i}" for i in range(n)], "given", rng(seed), repeats=share)
    again = [place for place in places if place.again]
    assert len(again) == round(share * n)
    assert len({place.key for place in places}) == len(places) == n + len(again)
    assert [place.recording for place in places if not place.again] == [f"r{i}" for i in range(n)]
    at = {place.key: position for position, place in enumerate(places)}
    for place in again:
        first = at[place.recording]
        assert at[place.key] - first >= min(GAP, n - first - 1)
        assert at[place.key] > first


def test_a_repeat_never_takes_the_name_of_a_recording() -> None:
    places = make_places(["a", "a#2"], "given", rng(), repeats=1.0)
    assert len({place.key for place in places}) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"order": "newest"}, "expected one of given, random"),
        ({"order": "random"}, "need rng"),
        ({"repeats": 0.1}, "need rng"),
        ({"repeats": 1.5}, "a share of 0 to 1"),
        ({"order": "uncertain"}, "needs a teacher"),
    ],
)
def test_what_an_order_lacks_is_said(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AudiotkError, match=words):
        make_places(NAMES, **arguments)


BEST = pd.DataFrame({"dog": [0.9, 0.5, 0.1, np.nan], "cat": [0.5, 0.0, 0.2, 0.4]}, index=list("abcd"))


def test_uncertainty_is_that_of_the_claim_or_of_the_least_sure_class() -> None:
    found = uncertainty(BEST, {"a": "dog", "b": "dog", "d": "dog", "c": "bird"})
    np.testing.assert_allclose(found.to_numpy(), [0.2, 1.0, 0.4, 0.8])


def rows(*said: tuple[str, str, str], verdict: str | None = None) -> pd.DataFrame:
    table = pd.DataFrame(list(said), columns=["recording", "class_name", "labeler"])
    return table if verdict is None else table.assign(verdict=verdict)


def test_disagreement_between_claim_and_teacher_and_labelers() -> None:
    segments = rows(("c", "dog", "ann"), ("c", "dog", "ann"), ("b", "dog", "ann"))
    verdicts = rows(("c", "dog", "ben"), ("a", "dog", "ann"), verdict="not_found")
    found = disagreement(BEST, {"a": "dog", "d": "cat"}, segments, verdicts)
    assert found["a"] == pytest.approx(0.9)  # ann did not find what the teacher gives 0.9
    assert found["b"] == pytest.approx(0.5)
    assert found["c"] == pytest.approx(1.0)  # one labeler found it, the other did not
    assert found["d"] == pytest.approx(0.6)  # the claim against the teacher's 0.4
    without = disagreement(None, {}, segments, verdicts)
    assert without["c"] == pytest.approx(1.0)
    assert without["a"] == without["b"] == 0


# --- filter and steps -------------------------------------------------------------------------------------------------


def make_queue(status: dict[str, str] | None = None) -> Queue:
    titles = {name: f"Title {name}" for name in NAMES}
    queue = Queue([Place(name, name) for name in NAMES], titles, {"r3": "Dog", "r4": "dog"}, lambda: dict(status or {}))
    queue.go_to_first_open()
    return queue


def test_it_begins_where_work_is_left() -> None:
    assert make_queue().position == 0
    assert make_queue({"r0": "confirmed", "r1": "unsure"}).position == 2
    assert make_queue(dict.fromkeys(NAMES, "not_found")).position == 0


def test_steps_stop_at_the_ends() -> None:
    queue = make_queue()
    with pytest.raises(AudiotkError, match="this is the first recording"):
        queue.step(-1)
    assert queue.step(29) == 29
    with pytest.raises(AudiotkError, match="this is the last recording"):
        queue.step(1)
    assert queue.position == 29
    assert queue.step(-29) == 0
    for bad in (-1, 30):
        with pytest.raises(AudiotkError, match="position: expected 0 to 29"):
            queue.go_to(bad)


def test_a_filter_searches_ids_titles_and_claims_and_steps_keep_to_it() -> None:
    queue = make_queue({"r1": "confirmed", "r21": "confirmed"})
    assert queue.matching("DOG", "") == [3, 4]
    assert queue.matching("title r2", "open") == [2, 20, *range(22, 30)]
    assert queue.set_filter("", "confirmed") == 1
    assert queue.is_filtered()
    assert queue.step(1) == 21
    with pytest.raises(AudiotkError, match="last recording that passes the filter"):
        queue.step(1)
    with pytest.raises(AudiotkError, match="no recording passes"):
        queue.set_filter("zebra", "")
    assert queue.matching("", "problem") == []
    queue.problems["r7"] = "broken"
    assert queue.set_filter("", "problem") == 7
    assert queue.row(7)["problem"] == "broken"
    with pytest.raises(AudiotkError, match="expected a status"):
        queue.matching("", "done")
    assert queue.set_filter("", "") == 7
    assert not queue.is_filtered()


def test_progress_counts_what_is_not_open() -> None:
    queue = make_queue({"r1": "confirmed", "r2": "unsure", "r3": "open"})
    assert queue.progress() == {"done": 2, "total": 30}
    assert queue.page(list(range(120)), 2) == list(range(100, 120))


# --- teacher ----------------------------------------------------------------------------------------------------------


def make_scores() -> pd.DataFrame:
    windows = make_segments(["b@x", "a", "a", "b@x"], [0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 1.0, 2.0])
    values = {"cat": [0.1, 0.9, 0.2, 0.3], "dog": [0.4, 0.5, np.nan, 0.7], "bird": [0.0, 0.0, 0.0, 0.0]}
    return pd.DataFrame(values, index=windows["segment"])


def test_scores_come_by_recording_in_order_of_time() -> None:
    teacher = Teacher(make_scores(), ["dog", "cat", "fish"])
    assert teacher.classes == ["dog", "cat"]
    values, times = teacher.of("a") or pytest.fail("no scores")
    np.testing.assert_allclose(values, [[np.nan, 0.2], [0.5, 0.9]])
    np.testing.assert_allclose(times, [[0, 1], [1, 2]])
    assert teacher.of("c") is None
    best = teacher.best()
    np.testing.assert_allclose(best.loc["b@x"], [0.7, 0.3])
    np.testing.assert_allclose(best.loc["a"], [0.5, 0.9])


def test_too_many_scores_are_merged_by_their_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_module, "MOST_BYTES", 200)
    windows = make_segments("a", np.arange(25.0), np.arange(25.0) + 1)
    teacher = Teacher(pd.DataFrame({"dog": np.arange(25) / 25}, index=windows["segment"]), ["dog"])
    values, times = teacher.of("a") or pytest.fail("no scores")
    assert values.nbytes + times.nbytes <= 200
    np.testing.assert_allclose(
        values[:, 0], [0.04, 0.12, 0.2, 0.28, 0.36, 0.44, 0.52, 0.6, 0.68, 0.76, 0.84, 0.92, 0.96]
    )
    assert times[0].tolist() == [0, 2]
    assert times[-1].tolist() == [24, 25]


def test_where_a_score_crosses_a_half() -> None:
    windows = make_segments("a", np.arange(5.0), np.arange(5.0) + 1)
    teacher = Teacher(pd.DataFrame({"dog": [0.1, 0.3, 0.7, 0.9, 0.1]}, index=windows["segment"]), ["dog"])
    assert teacher.crossing("a", "dog", 1.5, "start") == pytest.approx(2.0)
    assert teacher.crossing("a", "dog", 4.4, "end") == pytest.approx(4.0)
    assert teacher.crossing("a", "dog", 0.5, "start") is None  # out of reach
    assert teacher.crossing("a", "cat", 1.5, "start") is None
    assert teacher.crossing("b", "dog", 1.5, "start") is None


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AudiotkError, match="no column is one of the classes"):
        Teacher(make_scores(), ["fish"])
    with pytest.raises(AudiotkError, match=r"expected segment ids like .* got 'noon'"):
        Teacher(pd.DataFrame({"dog": [1.0]}, index=["noon"]), ["dog"])
    assert Teacher(make_scores().iloc[:0], ["dog"]).best().empty
