"""Review of a rule: the sample against plain counting, intervals against twins and known truth, keeping of verdicts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from audiotk.errors import AudiotkError
from audiotk.labels import resolve
from audiotk.ontology import Ontology
from audiotk.relabel import audit as audit_module
from audiotk.relabel.audit import Audit
from audiotk.scores import Scores
from audiotk.store import open_store
from audiotk.store.storage import StoreUnavailable
from audiotk.tables import Dataset, Labels, make_annotations, make_segments, make_sources
from audiotk.widgets import RuleReview
from audiotk.widgets.review import ReviewWidget
from audiotk.widgets.verdicts import draw, estimate, placed, scores_of, wanted, wilson

NAN = np.nan
CLASSES = ["a", "b", "c, d"]


def some_audit(n: int = 40, seed: int = 0) -> Audit:
    """Labels of n segments, n / 2 recordings, before and after a rule that changes about half of all cells."""
    rng = np.random.default_rng(seed)
    segments = make_segments(
        [f"r{k // 2:02}" for k in range(n)], [float(k % 2) for k in range(n)], [k % 2 + 1.0 for k in range(n)]
    )
    before = rng.choice([0.0, 1.0, NAN], (n, 3), p=[0.7, 0.2, 0.1])
    after = np.where(rng.random((n, 3)) < 0.5, rng.choice([0.0, 1.0, NAN], (n, 3)), before)
    first, second = (pd.DataFrame(values, index=segments["segment"], columns=CLASSES) for values in (before, after))
    return Audit("rule", Labels.from_frame(first, 0.0), Labels.from_frame(second, 0.0))


def review(audit: Audit | None = None, scores: Any = None, **options: Any) -> RuleReview:
    given: dict[str, Any] = {"labeler": "anna", "rng": np.random.default_rng(1)}
    return RuleReview(some_audit() if audit is None else audit, scores, **given | options)


# --- the sample -------------------------------------------------------------------------------------------------------


def as_set(cells: pd.DataFrame) -> set[tuple[Any, ...]]:
    return {(s, c, str(b), str(a)) for s, c, b, a in cells[["segment", "class_name", "before", "after"]].to_numpy()}


@pytest.mark.parametrize("block", [3, 32768])
def test_as_many_as_there_are_are_all_changes(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "BLOCK", block)
    audit = some_audit()
    cells, strata = draw(audit, np.random.default_rng(0), n=500)
    everything = audit.changes()
    assert len(cells) == len(everything) == strata["cells"].sum() == strata["drawn"].sum()
    assert as_set(cells) == as_set(everything)
    assert cells[["segment", "class_name"]].equals(everything[["segment", "class_name"]])  # in the order of the labels
    counted = everything.groupby("class_name").size()
    assert strata.groupby("class_name")["cells"].sum().to_dict() == counted.to_dict()
    assert (strata["change"][cells["stratum"]].array == cells["change"]).all()


def test_blocks_do_not_matter_and_equal_seeds_draw_equal_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = some_audit()
    whole = draw(audit, np.random.default_rng(3), n=20)[0]
    monkeypatch.setattr(audit_module, "BLOCK", 7)
    assert draw(audit, np.random.default_rng(3), n=20)[0].equals(whole)
    assert not draw(audit, np.random.default_rng(4), n=20)[0].equals(whole)


def test_every_changed_cell_is_drawn_equally_often() -> None:
    audit = some_audit()
    rng, total, times = np.random.default_rng(0), audit.cells, 100
    drawn = pd.concat([draw(audit, rng, n=20)[0] for _ in range(times)])
    counts = drawn.groupby(["segment", "class_name"]).size()
    expected = times * 20 / total
    assert len(counts) == total
    assert ((counts - expected) ** 2 / expected).sum() < total + 4 * np.sqrt(2 * total)  # chi square


def test_of_each_class_and_change_so_many_or_all_there_are() -> None:
    cells, strata = draw(some_audit(), np.random.default_rng(0), per_class=4)
    sizes = cells.groupby(["class_name", "change"]).size()
    assert (strata["drawn"] == np.minimum(strata["cells"], 4)).all()
    assert sizes.sort_index().to_list() == strata.set_index(["class_name", "change"])["drawn"].sort_index().to_list()


def lopsided(n: int = 900) -> Audit:
    """Of 3 * n cells one in 30 is added and ten in 30 are masked."""
    segments = make_segments([f"r{k:04}" for k in range(n)], [0.0] * n, [1.0] * n)
    before = np.zeros((n, 3))
    after = np.where(np.arange(3 * n).reshape(n, 3) % 3 == 0, NAN, before)
    after[::10, 1] = 1.0
    first, second = (pd.DataFrame(values, index=segments["segment"], columns=CLASSES) for values in (before, after))
    return Audit("rule", Labels.from_frame(first, 0.0), Labels.from_frame(second, 0.0))


def test_of_each_change_so_many_each_cell_equally_often() -> None:
    audit, rng = some_audit(), np.random.default_rng(0)
    cells, strata = draw(audit, rng, per_change=4)
    sizes = strata.groupby("change")["cells"].sum()
    assert len(sizes) > 4
    assert cells["change"].value_counts().to_dict() == sizes.clip(upper=4).to_dict()
    assert strata.groupby("change")["drawn"].sum().to_dict() == sizes.clip(upper=4).to_dict()
    assert as_set(cells) <= as_set(audit.changes())
    times = 150
    drawn = pd.concat([draw(audit, rng, per_change=4)[0] for _ in range(times)])
    for change, part in drawn.groupby("change"):
        counts, expected = part.groupby(["segment", "class_name"]).size(), times * min(4, sizes[change]) / sizes[change]
        assert len(counts) == sizes[change]
        assert ((counts - expected) ** 2 / expected).sum() < sizes[change] + 4 * np.sqrt(2 * sizes[change])


def test_rare_corrections_are_drawn_beside_many_masks_by_default() -> None:
    audit = lopsided()
    cells, _ = draw(audit, np.random.default_rng(0))
    assert cells["change"].value_counts().to_dict() == {"absent → present": 50, "absent → unknown": 50}
    few, _ = draw(audit, np.random.default_rng(0), n=60)
    assert few["change"].value_counts()["absent → present"] < 15
    segments = audit.after.segments
    frame = pd.DataFrame(0.0, index=segments, columns=CLASSES)
    frame.loc[segments[::20], CLASSES[1]] = 1.0  # every second added label is right
    found = review(audit, per_change=80)
    found.judge_by(Labels.from_frame(frame, 0.0))
    table = found.precision()
    added = table.loc["absent → present"]
    assert added["n"] == 80
    assert added["low"] < 0.5 < added["high"]
    assert added["value"] == pytest.approx(0.5, abs=0.1)


def test_only_the_named_classes() -> None:
    cells, strata = draw(some_audit(), np.random.default_rng(0), n=500, classes=["c, d"])
    assert set(cells["class_name"]) == set(strata["class_name"]) == {"c, d"}
    assert len(cells) == (some_audit().changes()["class_name"] == "c, d").sum()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 0}, "n >= 1"),
        ({"n": 3, "per_class": 2}, "one of them; got n=3, per_class=2"),
        ({"per_change": 3, "per_class": 2}, "one of them"),
        ({"per_change": 0}, "per_change >= 1"),
        ({"classes": ["e"]}, "'e'"),
        ({"per_class": -1}, ">= 1"),
    ],
)
def test_samples_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AudiotkError, match=told):
        draw(some_audit(), np.random.default_rng(0), **options)
    with pytest.raises(AudiotkError, match="at most 2,000"):
        draw(some_audit(4000), np.random.default_rng(0), n=2001)


# --- the estimate -----------------------------------------------------------------------------------------------------


def judged(right: Any, unit: Any = None, stratum: Any = 0) -> pd.DataFrame:
    unit = np.arange(len(right)) if unit is None else unit
    return pd.DataFrame({"right": np.asarray(right, float), "unit": unit, "stratum": stratum})


@given(st.integers(1, 60), st.data())
def test_single_cells_of_each_unit_have_wilsons_interval(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    found = estimate(judged([1] * hits + [0] * (n - hits) + [NAN] * 3))
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.value, found.n) == (hits / n, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_golden() -> None:
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)  # 8 of 10, as in Brown, Cai & DasGupta 2001


def test_copies_within_a_unit_tell_nothing_new() -> None:
    single, copies = judged([1] * 14 + [0] * 6), judged(np.repeat([1] * 14 + [0] * 6, 5), np.repeat(np.arange(20), 5))
    alone, five = estimate(single), estimate(copies)
    assert five.n == alone.n == 20
    assert five.high - five.low == pytest.approx(alone.high - alone.low, rel=0.12)
    loose = estimate(judged(np.repeat([1] * 14 + [0] * 6, 5)))
    assert loose.high - loose.low < 0.6 * (five.high - five.low)


def test_when_all_are_right_each_unit_counts_once() -> None:
    found = estimate(judged(np.ones(30), np.repeat(np.arange(6), 5)))
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 6))


def test_strata_are_weighted_by_their_size() -> None:
    cells = judged([1, 1, 1, 0, 0, 0, 1, NAN], stratum=[0, 0, 0, 0, 1, 1, 1, 1])
    found = estimate(cells, pd.Series([900, 100]))
    assert found.value == pytest.approx(0.9 * 3 / 4 + 0.1 * 1 / 3)
    assert estimate(cells).value == pytest.approx(4 / 7)
    assert (
        found.high - found.low
        > estimate(judged([1, 1, 1, 0, 0, 0, 1])).high - estimate(judged([1, 1, 1, 0, 0, 0, 1])).low
    )


def test_nothing_judged_is_no_estimate() -> None:
    found = estimate(judged([NAN, NAN]))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n == 0


@pytest.mark.parametrize(("share", "units", "mean"), [(0.9, 40, 3), (0.95, 25, 4), (0.6, 12, 3)])
def test_intervals_hold_the_truth_where_recordings_resemble_themselves(share: float, units: int, mean: int) -> None:
    rng, held, times = np.random.default_rng(5), 0, 250
    for _ in range(times):
        chance = rng.beta(2 * share, 2 * (1 - share), units)  # correlation within a unit: 1/3
        unit = np.repeat(np.arange(units), 1 + rng.poisson(mean - 1, units))
        found = estimate(judged(rng.random(len(unit)) < chance[unit], unit))
        held += found.low <= share <= found.high
    assert 0.90 <= held / times <= 0.995


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "present", "absent"),
    [(0, 1, 1, 0), (1, 0, 0, 1), (NAN, 1, 1, 0), (NAN, 0, 0, 1), (0, NAN, 1, 0), (1, NAN, 0, 1)],
)
def test_a_change_is_right_if_it_took_an_error_away(before: float, after: float, present: int, absent: int) -> None:
    index = make_segments("r", 0.0, 1.0)["segment"]
    old, new = (
        Labels.from_frame(pd.DataFrame([[value]], index=index, columns=["x"]), NAN) for value in (before, after)
    )
    found = review(Audit("rule", old, new))
    assert found.cells["right"].isna().all()
    for verdict, right in (("present", present), ("absent", absent), ("unsure", NAN)):
        found.judge(0, verdict)
        np.testing.assert_equal(found.cells["right"][0], float(right))
    row = found.precision().iloc[0]
    assert row["meaning"] == ("old label wrong" if np.isnan(after) else "new label right")
    assert (row["n"], row["unsure"], row["open"], row["cells"]) == (0, 1, 0, 1)


def test_a_truth_that_answers_gives_the_rules_true_precision() -> None:
    audit = some_audit()
    truth = Labels.from_frame(
        pd.DataFrame(
            np.random.default_rng(9).integers(0, 2, (40, 3)).astype(float), index=audit.after.segments, columns=CLASSES
        )
    )
    found = review(audit, n=500)
    found.judge_by(truth)
    changes = audit.changes()
    real = truth.frame().stack().loc[list(zip(changes["segment"], changes["class_name"], strict=True))].to_numpy()
    right = np.where(changes["after"].isna(), real != changes["before"], real == changes["after"])
    words = {1.0: "present", 0.0: "absent"}
    named = [
        f"{words.get(b, 'unknown')} → {words.get(a, 'unknown')}" for b, a in changes[["before", "after"]].to_numpy()
    ]
    expected = pd.Series(right).groupby(named).mean()
    assert found.precision()["value"].sort_index().to_dict() == pytest.approx(expected.to_dict())
    each = found.precision(by_class=True)
    assert each["n"].sum() == audit.cells
    assert not each["provisional"].any()


def test_provisional_until_all_are_judged_unless_in_random_order() -> None:
    surest, shuffled = review(n=12), review(n=12, order="random")
    for found in (surest, shuffled):
        for cell in range(5):
            found.judge(cell, "present")
    assert surest.precision().query("open > 0")["provisional"].all()
    assert not shuffled.precision()["provisional"].any()
    shuffled.judge(8, "present")  # chosen, not drawn
    change = shuffled.cells["change"][8]
    before = shuffled.cells["change"][5:8] == change
    assert shuffled.precision().loc[change, "provisional"] == before.any()


def test_orders() -> None:
    audit = some_audit()
    values = np.random.default_rng(2).random((40, 2)).round(3)
    scores = pd.DataFrame(values, index=audit.after.segments, columns=["a", "b"])  # none for the third class
    cells = review(audit, scores, n=500).cells
    assert cells["confidence"].dropna().is_monotonic_decreasing
    assert cells["confidence"].isna().to_numpy()[-1]
    assert (cells["confidence"].isna() == (cells["class_name"] == "c, d")).all()
    expected = np.where(wanted(cells) == 1, cells["score"], 1 - cells["score"])
    np.testing.assert_allclose(cells["confidence"], expected)
    assert review(audit, scores, n=500, order="doubtful").cells["confidence"].dropna().is_monotonic_increasing
    assert review(audit, scores, n=500, order="class").cells["class_name"].is_monotonic_increasing
    with pytest.raises(AudiotkError, match="none of the"):
        scores_of(cells, Scores(pd.DataFrame([[0.5]], index=["x@0.000-1.000"], columns=["a"])))


def test_annotations_overrule_the_rule() -> None:
    segments = make_segments(["r0", "r1", "r2", "r3"], 0.0, 10.0)
    old = Labels.from_frame(pd.DataFrame(0.0, index=segments["segment"], columns=["a"]))
    new = Labels.from_frame(pd.DataFrame(1.0, index=segments["segment"], columns=["a"]), default=0.0)
    recordings = pd.DataFrame(
        {"recording": ["r0", "r1", "r2", "r3"], "path": "", "duration_s": 10.0, "sr": 16000, "group": "g"}
    )
    notes = make_annotations(segments["segment"], "a", 1.0, "relabel:rule")
    split = pd.Series("train", index=recordings["recording"])
    sources = make_sources(**{"relabel:rule": "weak"})
    dataset = Dataset("d", recordings, segments, notes, split, ["a"], sources)
    found = review(Audit("rule", old, new), recordings=dataset)
    for cell, verdict in enumerate(["absent", "unsure", "present"]):
        found.judge(cell, verdict)
    assert found.annotations()["value"].tolist()[::2] == [0.0, 1.0]
    recorded = found.record(found.record(dataset))  # the source is there the second time
    labels = resolve(recorded, sources=["human:anna", "relabel:rule"]).frame()["a"]
    np.testing.assert_array_equal(labels, [0.0, NAN, 1.0, 1.0])
    assert recorded.sources.loc["human:anna", "weak"]
    with pytest.raises(AudiotkError, match="exact ranges"):
        found.record(
            Dataset(
                "d", recordings, segments, notes, split, ["a"], pd.concat([sources, make_sources(**{"human:anna": ""})])
            )
        )


# --- tables -----------------------------------------------------------------------------------------------------------


def test_recordings_give_sound_titles_and_units_where_they_can() -> None:
    cells = pd.DataFrame({"segment": ["a@b@0.500-2.000", "b@0.000-1.000", "c@0.000-1.000"]})
    table = pd.DataFrame(
        {
            "recording": ["a@b", "b"],
            "path": ["x.wav", ""],
            "duration_s": 9.0,
            "sr": 8000,
            "group": ["g", "g"],
            "title": ["A", "B"],
        }
    )
    found = placed(cells, table, None)
    assert found["recording"].tolist() == ["a@b", "b", "c"]
    assert found["start_s"].tolist() == [0.5, 0.0, 0.0]
    assert found["unit"].tolist() == ["g", "g", "c"]
    assert found["title"].tolist() == ["A", "B", "c"]
    assert [bool(text) for text in found["silent"]] == [False, True, True]


def test_ids_that_tell_nothing_need_segments() -> None:
    cells = pd.DataFrame({"segment": ["first"]})
    with pytest.raises(AudiotkError, match="'first' does not tell"):
        placed(cells, None, None)
    table = pd.DataFrame({"segment": ["first"], "recording": ["r"], "start_s": [1.0], "end_s": [2.5]})
    assert placed(cells, None, table)["end_s"].tolist() == [2.5]
    with pytest.raises(AudiotkError, match="'other'"):
        placed(pd.DataFrame({"segment": ["other"]}), None, table)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labeler": " "}, "labeler"),
        ({"rng": None}, r"rng=np\.random\.default_rng"),
        ({"rng": 3}, "rng: .* got 3"),
        ({"order": "best"}, "order"),
        ({"settings": {"colour": 1}}, "settings"),
    ],
)
def test_what_cannot_be_made(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AudiotkError, match=told):
        review(**options)


def test_a_rule_that_changed_nothing_can_be_reviewed() -> None:
    labels = some_audit().before
    found = review(Audit("rule", labels, labels))
    assert len(found.cells) == len(found.precision()) == len(found.annotations()) == 0
    found.picture().canvas.draw()
    assert hello(found.make_widget())["rows"] == []


# --- the widget -------------------------------------------------------------------------------------------------------


def ask(widget: ReviewWidget, **message: Any) -> dict[str, Any]:
    """What the widget answers, as the browser gets it."""
    sent: list[Any] = []
    widget.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    widget.receive(message)
    widget.drain()
    assert len(sent) == 1
    told: dict[str, Any] = json.loads(json.dumps(sent[0], allow_nan=False))
    return told


def hello(widget: ReviewWidget) -> dict[str, Any]:
    return ask(widget, type="hello", id=1)


def say(widget: ReviewWidget, uuid: str, cell: Any, value: Any, **more: Any) -> dict[str, Any]:
    return ask(widget, type="op", op={"uuid": uuid, "kind": "judgement", "cell": cell, "value": value, **more})


@pytest.fixture
def make_stored(tmp_path: Path) -> Callable[..., RuleReview]:
    return lambda **options: review(n=10, store=tmp_path / "labels.sqlite", **options)


def test_the_browser_gets_all_cells() -> None:
    ontology = Ontology.from_records(
        [{"id": "p", "name": "Parent", "child_ids": ["a"]}, {"id": "a", "name": "a", "child_ids": []}]
    )
    audit = some_audit()
    scores = pd.DataFrame(0.25, index=audit.after.segments, columns=["a", "b"])
    found = review(audit, scores, n=30, ontology=ontology)
    told = hello(found.make_widget())
    assert (told["type"], told["id"], told["rule"], told["stored"], len(told["rows"])) == (
        "review",
        1,
        "rule",
        False,
        30,
    )
    for row, cell in zip(told["rows"], found.cells.to_dict("records"), strict=True):
        assert row["above"] == (["Parent"] if cell["class_name"] == "a" else [])
        assert row["score"] == (None if cell["class_name"] == "c, d" else 0.25)
        assert row["masked"] == np.isnan(cell["after"])
        assert row["accept"] == ("absent" if cell["after"] == 0 else "present")
        assert row["silent"].startswith("no recordings")
    assert [row["value"] for row in told["estimates"]] == [None] * len(told["estimates"])


def test_a_verdict_is_on_the_disk_when_it_is_acknowledged(make_stored: Callable[..., RuleReview]) -> None:
    found = make_stored()
    told = say(found.make_widget(), "u1", 3, 0)
    assert (told["type"], told["uuid"], told["cell"], told["verdict"]) == ("ack", "u1", 3, "absent")
    cell = found.cells.iloc[3]
    assert found.store is not None
    with open_store(Path(str(found.store.url.database))) as other:
        row = other.judgements().iloc[0]
    assert (row["segment"], row["class_name"], row["value"], row["labeler"]) == (
        cell["segment"],
        cell["class_name"],
        0.0,
        "anna",
    )
    assert row["reason"] == f"relabel:rule {cell['change']}"
    again = make_stored()
    assert again.cells["verdict"].tolist() == found.cells["verdict"].tolist() == ["", "", "", "absent", *[""] * 6]
    assert again.annotations().equals(found.annotations().assign(at=again.annotations()["at"]))
    assert make_stored(labeler="ben").cells["verdict"].tolist() == [""] * 10
    assert again.id == found.id


def test_the_last_verdict_counts_and_undo_brings_the_one_before(make_stored: Callable[..., RuleReview]) -> None:
    found = make_stored()
    widget = found.make_widget()
    say(widget, "u1", 2, 1)
    told = say(widget, "u2", 2, None)
    assert told["undoable"][-1] == {"uuid": "u2", "cell": 2, "before": "present"}
    assert say(widget, "u2", 2, None)["undoable"] == told["undoable"]  # sent twice
    undone = ask(widget, type="op", op={"uuid": "u3", "kind": "undo", "target": "u2"})
    assert (undone["cell"], undone["verdict"], len(undone["undoable"])) == (2, "present", 1)
    assert make_stored().cells["verdict"][2] == "present"
    assert ask(widget, type="op", op={"uuid": "u4", "kind": "undo", "target": "u1"})["verdict"] == ""
    assert make_stored().cells["verdict"][2] == ""
    assert ask(widget, type="op", op={"uuid": "u5", "kind": "undo", "target": "never"})["type"] == "ack"


def test_an_undo_that_comes_after_a_restart(make_stored: Callable[..., RuleReview]) -> None:
    say(make_stored().make_widget(), "u1", 2, 1)
    after = make_stored()
    ask(after.make_widget(), type="op", op={"uuid": "u2", "kind": "undo", "target": "u1"})
    assert after.cells["verdict"][2] == make_stored().cells["verdict"][2] == ""


@pytest.mark.parametrize(
    ("cell", "value"), [(10, 1), (-1, 1), ("0", 1), (True, 1), (None, 1), (0, 2), (0, True), (0, "present"), (0, 0.5)]
)
def test_what_is_no_verdict_is_refused_for_good(cell: Any, value: Any, make_stored: Callable[..., RuleReview]) -> None:
    found = make_stored()
    told = say(found.make_widget(), "u1", cell, value)
    assert (told["type"], told["retry"]) == ("nack", False)
    assert (found.cells["verdict"] == "").all()


def test_a_store_that_is_busy_is_asked_again(
    make_stored: Callable[..., RuleReview], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = make_stored()
    widget = found.make_widget()

    def full(operations: Any, patience_s: float) -> Any:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(found.store, "append", full)
        told = say(widget, "u1", 0, 1)
        assert (told["type"], told["retry"], told["text"]) == ("nack", True, "the disk is full")
        assert found.cells["verdict"][0] == ""
    assert say(widget, "u1", 0, 1)["type"] == "ack"


def test_verdicts_from_many_threads(make_stored: Callable[..., RuleReview]) -> None:
    found = make_stored()
    widget = found.make_widget()
    widget.send = lambda content, buffers=None: None  # type: ignore[method-assign]
    messages = [
        {"type": "op", "op": {"uuid": f"u{k}", "kind": "judgement", "cell": k, "value": k % 2}} for k in range(10)
    ]
    threads = [threading.Thread(target=widget.receive, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.cells["verdict"].tolist() == make_stored().cells["verdict"].tolist() == ["absent", "present"] * 5


def test_sound_that_is_not_there_is_told(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "recording": [f"r{k:02}" for k in range(20)],
            "path": str(tmp_path / "gone.wav"),
            "duration_s": 9.0,
            "sr": 8000,
            "group": "g",
        }
    )
    widget = review(recordings=table, n=5).make_widget()
    row = hello(widget)["rows"][0]
    told = ask(widget, type="open", id=4, recording=row["recording"])
    assert (told["id"], told["readable"]) == (4, False)
    assert "gone.wav" in told["problem"]


def test_headless_is_a_picture_and_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    found = review(n=20)
    for cell in range(9):
        found.judge(cell, ["present", "absent", "unsure"][cell % 3])
    shown = found._repr_mimebundle_()
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown["text/plain"] == "RuleReview('rule' by 'anna': 9 of 20 cells judged)"
    texts = [text.get_text() for axes in found.picture().axes for text in axes.texts]
    assert any("provisional" in text for text in texts)
    assert "and 8 more" in texts
    with pytest.raises(AudiotkError, match="AUDIOTK_HEADLESS"):
        _ = found.widget


def test_hostile_names_are_text_in_the_picture() -> None:
    index = make_segments("$\\frac{1$ <b>", 0.0, 1.0)["segment"]
    old, new = (Labels.from_frame(pd.DataFrame([[value]], index=index, columns=["$x_{$"]), NAN) for value in (0.0, 1.0))
    review(Audit("$^$", old, new), labeler="$").picture().canvas.draw()
