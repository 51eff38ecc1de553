"""The explorer of false positives in Python: selections, samples, the bound, promotions, undo, odd input, messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from toy_ghosts import make_door, make_ghosts, write_recordings

from audiotk import audio, mining
from audiotk.tables import AudiotkError, Labels, make_segments
from audiotk.widgets import ClusterExplorer
from audiotk.widgets.base import esm
from audiotk.widgets.explorer_fallback import ExplorerFallback
from audiotk.widgets.explorer_picture import _names
from audiotk.widgets.explorer_points import NO_PLACE, colouring, scaled
from audiotk.widgets.explorer_sample import PAGE, counted, distances, select
from audiotk.widgets.explorer_scatter import ScatterLink
from audiotk.widgets.explorer_truth import still_firing
from audiotk.widgets.explorer_widget import ExplorerWidget, from_bits, to_bits

Make = Callable[..., ClusterExplorer]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_recordings(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def ghosts(recordings: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    return make_ghosts(recordings, 600)


@pytest.fixture
def make(recordings: pd.DataFrame, ghosts: tuple[pd.DataFrame, np.ndarray], tmp_path: Path) -> Make:
    def build(table: pd.DataFrame | None = None, vectors: Any = None, **options: Any) -> ClusterExplorer:
        given: dict[str, Any] = {"labeler": "anna", "rng": np.random.default_rng(1), "door": make_door(recordings)}
        store = options.pop("store", tmp_path / "labels.sqlite")
        table = ghosts[0] if table is None else table
        return ClusterExplorer(table, ghosts[1] if vectors is None else vectors, store, **given | options)

    return build


def all_false(explorer: ClusterExplorer) -> pd.DataFrame:
    return explorer.points[["segment", "class_name"]].assign(verdict="false")


def ask(widget: Any, **message: Any) -> dict[str, Any]:
    """What the widget answers to a message."""
    answers: list[tuple[dict[str, Any], Any]] = []
    widget.send = lambda content, buffers=None: answers.append((content, buffers))
    widget.receive({"id": 1, **message})
    widget.drain()
    return answers[-1][0] | {"buffers": answers[-1][1]}


# --- suggested themes -------------------------------------------------------------------------------------------------


def fired_at(folder: Path) -> pd.DataFrame:
    """What fires on hums (of 100 Hz, with a little noise) and on white noise of one level, from the files."""
    rng, time = np.random.default_rng(3), np.arange(2 * 16_000) / 16_000
    rows = []
    for k in range(8):
        noise = rng.normal(size=len(time))
        hum = sum(np.sin(2 * np.pi * 100 * n * time + n) / n for n in range(1, 9)) + 0.1 * noise
        wave = hum if k % 2 else noise
        path = folder / f"{k}.wav"
        audio.save(path, (wave * 10 ** (-45 / 20) / wave.std()).astype(np.float32), 16_000)
        rows.append({"recording": str(k), "path": str(path), "duration_s": 2.0, "sr": 16_000, "group": str(k)})
    recordings = pd.DataFrame(rows)
    segments = make_segments(recordings["recording"], 0.0, 2.0)
    scores = pd.DataFrame({"Dog bark": np.linspace(0.9, 0.6, 8)}, index=pd.Index(segments["segment"], name="segment"))
    return mining.false_positives(scores, Labels.from_frame(scores * 0), segments, recordings, 0.5)


def test_a_hum_and_a_noise_of_one_level_get_other_themes(make: Make, tmp_path: Path) -> None:
    found = fired_at(tmp_path)
    assert found["level_dbfs"].to_numpy() == pytest.approx(-45, abs=0.1)
    found["cluster"] = found["recording"].astype(int) % 2
    vectors = np.random.default_rng(0).normal(size=(8, 4)) + 5 * found[["cluster"]].to_numpy()
    explorer = make(found, vectors)
    table = explorer.clusters.set_index("cluster")
    assert table["theme"].to_dict() == {0: "neg_silence", 1: "neg_ambient"}
    assert "broadband noise" in table["reason"][0]
    assert "tones stand out" in table["reason"][1]
    explorer.select(cluster=1)
    assert ask(ExplorerWidget(explorer), type="hello")["selection"]["theme"] == "neg_ambient"
    # without tonality both are told by flatness alone
    assert "coloured noise" in make(found.drop(columns="tonality"), vectors).clusters.set_index("cluster")["reason"][1]


def test_a_teacher_that_is_sure_suggests_the_theme(make: Make, tmp_path: Path) -> None:
    found = fired_at(tmp_path)
    found["cluster"] = found["recording"].astype(int) % 2
    found["is_true"] = [False] * 6 + [True] * 2  # the last two are events: what the teacher says of them is left out
    vectors = np.random.default_rng(0).normal(size=(8, 4)) + 5 * found[["cluster"]].to_numpy()
    said = pd.DataFrame({"neg_hard": np.where(found["cluster"] == 1, 0.9, 0.45), "neg_silence": 0.4})
    said.iloc[6:] = [0.0, 1.0]
    table = make(found, vectors, prompt_scores=said).clusters.set_index("cluster")
    assert table["theme"][[0, 1]].tolist() == ["neg_silence", "neg_hard"]
    assert table["reason"][1].startswith("the teacher says neg_hard (0.90, a lead of 0.50); tones stand out")
    assert table["reason"][0].endswith("not clear")
    given = make(found.assign(theme="neg_ambient"), vectors, prompt_scores=said).clusters
    assert set(given["theme"]) == {"neg_ambient"}
    assert set(given["reason"][given["cluster"] >= 0]) == {"given"}
    with pytest.raises(AudiotkError, match="a row for each of 8 false positives, got 7 rows"):
        make(found, vectors, prompt_scores=said[:7])
    with pytest.raises(AudiotkError, match="got 'rain'"):
        make(found, vectors, prompt_scores=said.rename(columns={"neg_hard": "rain"}))


# --- the sample -------------------------------------------------------------------------------------------------------


def test_a_sample_has_random_members_and_the_chosen_ones(ghosts: tuple[pd.DataFrame, np.ndarray]) -> None:
    vectors = ghosts[1]
    rows = np.flatnonzero(ghosts[0]["cluster"] == 0)
    positives = vectors[rows[:2]] + 0.001
    found = select(rows, vectors, [str(row) for row in rows], 7, name="cluster 0", positives=positives)
    why = pd.Series(dict(found.page))
    assert why.value_counts().to_dict() == {"random": 6, "nearest": 3, "border": 2, "medoid": 1}
    assert why.index.is_unique
    assert set(why.index) <= set(rows)
    assert found.page[0][1] == "medoid"
    rest = np.setdiff1d(rows, found.order[: found.drawn])  # slow twins, over those that were not drawn
    apart = np.array([[np.linalg.norm(vectors[a] - vectors[b]) for b in rest] for a in rest])
    medoid = rest[apart.sum(axis=1).argmin()]
    assert found.page[0][0] == medoid
    near = [min(np.linalg.norm(vectors[row] - one) for one in positives) for row in rest]
    closest = [row for row in rest[np.argsort(near, kind="stable")] if row != medoid][:3]
    assert set(why[why == "nearest"].index) == set(closest)
    away = apart[list(rest).index(medoid)]
    farthest = [row for row in rest[np.argsort(-away)] if row != medoid and row not in closest][:2]
    assert set(why[why == "border"].index) == set(farthest)


def test_the_random_members_are_a_fair_sample_and_go_on_until_all_are_shown() -> None:
    vectors, rows = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40)
    counts = np.zeros(40)
    for seed in range(600):
        found = select(rows, vectors, [f"{row}" for row in rows], seed, name="x")
        counts[found.order[: found.drawn]] += 1
    expected = 600 * 6 / 40
    assert abs(counts - expected).max() < 5 * np.sqrt(expected * (1 - 6 / 40))
    pages = [found]
    while pages[-1].more() is not pages[-1]:
        pages.append(pages[-1].more())
    shown = [row for page in pages for row, why in page.page if why == "random"]
    assert sorted(shown) == list(rows)
    assert pages[-1].drawn == 40


def test_the_same_members_are_shown_again_whatever_came_before(make: Make) -> None:
    first, second = make(), make()
    first.select(cluster=2)
    second.select(cluster=0)
    pd.testing.assert_frame_equal(first.sample, second.select(cluster=2))
    rows = np.flatnonzero(first.points["cluster"] == 2)
    assert second.select(rows=rows[::-1])["point"].tolist() == first.sample["point"].tolist()  # a lasso of the same
    other = make(rng=np.random.default_rng(2))
    assert other.select(cluster=2)["point"].tolist() != first.sample["point"].tolist()


def test_small_and_odd_selections() -> None:
    vectors = np.full((30, 4), np.nan)
    found = select(np.arange(30), vectors, [str(row) for row in range(30)], 0, name="x")
    assert [why for _, why in found.page] == ["random"] * PAGE
    one = select(np.array([4]), vectors, ["4"], 0, name="x")
    assert one.page == ((4, "random"),)
    same = select(np.arange(30), np.ones((30, 4)), [str(row) for row in range(30)], 0, name="x")
    assert len(dict(same.page)) == PAGE
    assert distances(np.zeros((1, 2)), np.array([[3.0, 4.0]])).item() == pytest.approx(5.0)


def test_the_bound_counts_random_members_and_can_only_be_lowered_by_others() -> None:
    random_ones = [("false", True)] * 8
    bound = counted(random_ones)
    assert (bound.heard, bound.right) == (8, 8)
    assert bound.low == pytest.approx(0.05 ** (1 / 8))
    assert counted([*random_ones, ("false", False), ("unsure", True), ("unsure", False)]).low == bound.low
    lower = counted([*random_ones, ("true", False)])
    assert (lower.heard, lower.right, lower.true) == (9, 8, 1)
    assert lower.low < bound.low
    assert counted([]).low == 0.0


def test_the_bound_holds_for_a_listener_who_hears_two_pages() -> None:
    """Known truth: 80 % of a cluster are false; the bound may exceed that in at most 5 % of samples (and some luck)."""
    rng, above = np.random.default_rng(3), 0
    rows, vectors = np.arange(200), np.random.default_rng(0).normal(size=(200, 2))
    for turn in range(300):
        is_true = rng.permutation(200) < 40
        found = select(rows, vectors, [f"{row}" for row in rows], turn, name="x").more()
        heard = {int(row) for row in found.order[: found.drawn]}
        told = [("true" if is_true[row] else "false", row in heard) for row in heard | set(found.hard)]
        above += counted(told).low > 0.8
    assert above <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)


# --- verdicts, promotions, undo ---------------------------------------------------------------------------------------


def test_hear_promote_and_undo_are_in_the_store(make: Make) -> None:
    explorer = make()
    suggested = explorer.clusters.set_index("cluster")["theme"][1]
    sample = explorer.select(cluster=1)
    assert len(sample) == PAGE
    assert (sample["verdict"] == "").all()
    explorer.judge(0, "false")
    explorer.judge(1, "true")
    explorer.judge(2, "unsure")
    assert explorer.sample["verdict"].tolist()[:4] == ["false", "true", "unsure", ""]
    kept = explorer.store.judgements("anna").set_index("segment")["value"]
    assert kept[sample["segment"][:3]].fillna(-1).tolist() == [0.0, 1.0, -1.0]
    explorer.undo()
    assert explorer.sample["verdict"].tolist()[:3] == ["false", "true", ""]
    explorer.judge(2, "unsure")
    with pytest.raises(AudiotkError, match="must not be trained on"):
        explorer.promote("neg_hard")
    assert explorer.store.promotions().empty  # nothing is written then
    before = explorer.selection.rows  # type: ignore[union-attr]
    explorer.narrow()
    selection = explorer.selection
    assert selection is not None
    allowed = ~explorer.points["group"].eq("site3").to_numpy()
    assert selection.rows.tolist() == [row for row in before if allowed[row]]
    name = explorer.promote("neg_hard", note="a fan")
    told = explorer.store.promotions()
    left_out = set(sample["segment"][[1, 2]])
    expected = set(explorer.points["segment"].iloc[selection.rows]) - left_out
    assert set(told["segment"]) == expected
    assert set(told["promotion"]) == {name}
    assert mining.promotions(explorer.store)["note"].tolist() == ["a fan"]
    row = explorer.clusters.set_index("cluster").loc[1]
    assert row["theme"] == "neg_hard" != suggested  # the table says what the cluster is now
    assert row["reason"] == "promoted"
    assert row["promoted"] == len(expected)
    assert explorer.promote("neg_hard") == name  # the same again is the same promotion, as after a lost answer
    assert len(explorer.store.promotions()) == len(told)
    assert explorer.undo() == "promotion"
    assert explorer.store.promotions().empty
    assert explorer.clusters["promoted"].sum() == 0


def test_a_new_kernel_knows_all_and_can_undo_it(make: Make) -> None:
    first = make()
    first.select(cluster=0)
    first.judge_by(all_false(first))
    first.more()
    first.judge_by(all_false(first))
    first.narrow()
    first.promote("neg_ambient")
    second = make(rng=np.random.default_rng(99))  # even with another seed
    pd.testing.assert_frame_equal(second.clusters, first.clusters)
    row = second.clusters.set_index("cluster").loc[0]
    assert (row["heard"], row["right"]) == (18, 18)
    assert row["purity_low"] == pytest.approx(0.05 ** (1 / 18))
    assert [second.undo() for _ in range(3)] == ["promotion", "judgement", "judgement"]
    assert second.clusters.set_index("cluster")["promoted"].sum() == 0
    assert re.search("22 heard by [a-z]+, 0 promoted by anybody", make().progress)
    other = make(labeler="ben")
    assert "0 heard" in other.progress
    with pytest.raises(AudiotkError, match="nothing to undo"):
        other.undo()


def test_what_a_promotion_rests_on_is_what_the_bound_counts(make: Make) -> None:
    explorer = make()
    explorer.select(cluster=0)
    explorer.judge_by(all_false(explorer))
    explorer.narrow()
    purity = explorer.purity
    explorer.promote("neg_hard")
    told = mining.promotions(explorer.store).iloc[0]
    assert (told["heard"], told["right"]) == (purity.heard, purity.right)
    assert told["purity_low"] == pytest.approx(purity.low)


def test_without_a_door_nothing_is_promoted(make: Make) -> None:
    explorer = make(door=None)
    explorer.select(cluster=0)
    assert explorer.refusals().nunique() == 1
    with pytest.raises(AudiotkError, match="no door was given"):
        explorer.promote("neg_hard")


def test_a_selection_that_is_refused_as_a_whole(make: Make, recordings: pd.DataFrame) -> None:
    explorer = make(door=make_door(recordings, held_out=12))
    explorer.select(cluster=0)
    with pytest.raises(AudiotkError, match=r"every recording in cluster 0 is refused: it is held out \(test\)"):
        explorer.narrow()


def test_known_truth_or_a_recorded_store_judge_in_place_of_a_listener(make: Make, tmp_path: Path) -> None:
    explorer = make()
    sample = explorer.select(cluster=0)
    segments = pd.Index(explorer.points["segment"].unique())
    names = sorted(explorer.points["class_name"].unique())
    values = pd.DataFrame(0.0, index=segments, columns=names)
    values.loc[sample["segment"][0], sample["class_name"][0]] = 1.0
    values.loc[sample["segment"][1], sample["class_name"][1]] = np.nan
    assert explorer.judge_by(Labels.from_frame(values)) == PAGE
    assert explorer.sample["verdict"].tolist() == ["true", "unsure", *["false"] * (PAGE - 2)]
    assert explorer.judge_by(Labels.from_frame(values)) == 0
    replay = make(store=tmp_path / "replayed.sqlite", labeler="replayed")
    replay.select(cluster=0)
    assert replay.judge_by(tmp_path / "labels.sqlite") == PAGE
    assert replay.sample["verdict"].tolist() == explorer.sample["verdict"].tolist()
    replay.select(cluster=1)
    assert replay.judge_by(explorer.store) == 0
    with pytest.raises(AudiotkError, match="the truth lacks segment"):
        replay.judge_by(Labels.from_frame(values.iloc[:1]))
    with pytest.raises(AudiotkError, match="expected verdicts"):
        replay.judge_by(pd.DataFrame({"segment": ["a"]}))


# --- what still fires -------------------------------------------------------------------------------------------------


def test_after_retraining_by_events_and_by_scores(make: Make) -> None:
    explorer = make()
    assert explorer.clusters["still"].isna().all()
    points = explorer.points
    fired = points[points["cluster"] != 1].copy()
    fired["event_start_s"] += 0.5  # still overlapping
    table = explorer.after(fired).set_index("cluster")
    slow = [
        any(
            (one.recording, one.class_name) == (new.recording, new.class_name)
            and one.event_start_s < new.event_end_s
            and new.event_start_s < one.event_end_s
            for new in fired.itertuples()
        )
        for one in points.head(80).itertuples()
    ]
    assert explorer.still is not None
    assert explorer.still[:80].tolist() == slow
    assert table["still"].sum() == explorer.still.sum() < len(points)
    scores = points.pivot_table(index="segment", columns="class_name", values="score")
    np.testing.assert_array_equal(still_firing(points, scores, 0.8), points["score"] > 0.8)
    by_class = pd.Series(0.6, index=scores.columns)
    np.testing.assert_array_equal(still_firing(points, scores, by_class), points["score"] > 0.6)
    with pytest.raises(AudiotkError, match="scores need thresholds"):
        explorer.after(scores)
    with pytest.raises(AudiotkError, match="the scores lack segment"):
        explorer.after(scores.iloc[1:], 0.5)
    assert make().after(points.iloc[:0])["still"].sum() == 0


def test_after_counts_what_others_have_promoted_since(make: Make) -> None:
    explorer, other = make(), make(labeler="ben")
    other.select(cluster=0)
    other.narrow()
    other.promote("neg_ambient")
    promoted = other.clusters["promoted"].sum()
    explorer.after(explorer.points.iloc[:0])
    assert explorer.clusters["promoted"].sum() == promoted > 0
    assert f"0 heard by {explorer.labeler}, {promoted} promoted by anybody" in explorer.progress


def test_numbers_of_clusters_on_the_picture_do_not_lie_on_each_other() -> None:
    place = {"x": [0, 0, 0, 0.01, 0.01, 1.0], "y": [0, 0, 0, 0.01, 0.01, 1.0]}
    points = pd.DataFrame({**place, "cluster": [5, 5, 5, 6, 6, 7]})
    axes = Figure().subplots()
    _names(axes, points)
    assert [text.get_text() for text in axes.texts] == ["5", "7"], "that of the larger one"


# --- odd input --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("number", "vectors", "words"),
    [
        (0, np.zeros((0, 3)), "no false positive"),
        (1, np.ones((1, 3)), "a single false positive"),
        (30, np.ones((30, 3)), "All embeddings are the same"),
        (30, np.full((30, 3), np.nan), "30 of 30 without a place on the map"),
    ],
)
def test_odd_points_are_told_in_words_and_shown_in_a_table(
    number: int, vectors: np.ndarray, words: str, make: Make, ghosts: tuple[pd.DataFrame, np.ndarray]
) -> None:
    table = ghosts[0].head(number).drop(columns=["cluster", "x", "y"])
    explorer = make(table, vectors)
    assert words in " ".join(explorer.notes)
    assert explorer.clusters["size"].sum() == number
    told = ask(explorer.make_widget(), type="hello")
    assert told["type"] == "explorer"
    assert ask(explorer.make_widget(), type="points")["type"] == "points"
    assert len(explorer.picture().axes) == 2
    if number:
        (cluster,) = explorer.clusters["cluster"]
        assert len(explorer.select(cluster=cluster)) == min(number, PAGE)


def test_points_without_embedding_or_sound_are_told_and_kept(
    make: Make, ghosts: tuple[pd.DataFrame, np.ndarray]
) -> None:
    table, vectors = ghosts[0].copy(), ghosts[1].copy()
    table.loc[:4, "path"] = ""
    table.loc[:1, ["x", "y"]] = np.nan
    vectors[:2] = np.nan
    explorer = make(table, vectors)
    assert "2 of" in explorer.notes[0]
    assert "5 have no sound file" in explorer.notes[1]
    assert (scaled(explorer.points)[:2] == NO_PLACE).all()
    sample = explorer.select(rows=range(6))
    assert (sample.set_index("point")["silent"] != "").sum() == 5


def test_true_events_are_shown_and_never_selected(make: Make, ghosts: tuple[pd.DataFrame, np.ndarray]) -> None:
    table = ghosts[0].assign(is_true=np.arange(len(ghosts[0])) % 4 == 0)
    explorer = make(table)
    assert explorer.clusters["size"].sum() == (~table["is_true"]).sum()
    for cluster in explorer.clusters["cluster"]:
        assert not explorer.select(cluster=cluster)["is_true"].any()
    assert "nearest" in set(explorer.select(cluster=0)["why"])
    assert not explorer.select(rows=range(40))["is_true"].any()
    with pytest.raises(AudiotkError, match="no false positive is among"):
        explorer.select(rows=[0, 4])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labeler": " "}, "labeler"),
        ({"rng": 3}, "random generator"),
        ({"map": "webgl"}, "expected a map of"),
        ({"vectors": np.zeros((3, 2))}, "expected embeddings of shape"),
        ({"positives": np.zeros((3, 2))}, "positives: expected shape"),
        ({"settings": {"colour": 1}}, "settings"),
    ],
)
def test_bad_arguments(options: dict[str, Any], words: str, make: Make) -> None:
    with pytest.raises(AudiotkError, match=words):
        make(**options)


def test_bad_calls(make: Make) -> None:
    explorer = make()
    for call in (explorer.more, explorer.narrow, lambda: explorer.judge(0, "false"), lambda: explorer.purity):
        with pytest.raises(AudiotkError, match="nothing is selected"):
            call()
    for rows, words in (([-1], "rows of 0 to"), ([10_000], "rows of 0 to"), ([], "no false positive"), ([0.5], "rows")):
        with pytest.raises(AudiotkError, match=words):
            explorer.select(rows=rows)
    with pytest.raises(AudiotkError, match="no cluster 77"):
        explorer.select(cluster=77)
    with pytest.raises(AudiotkError, match="one of them"):
        explorer.select()
    explorer.select(cluster=0)
    with pytest.raises(AudiotkError, match="verdict of false, true, unsure"):
        explorer.judge(0, "present")
    with pytest.raises(AudiotkError, match="row of the sample"):
        explorer.judge(12, "false")


# --- the browser ------------------------------------------------------------------------------------------------------


def test_bits_go_both_ways() -> None:
    for count in (0, 1, 7, 8, 9, 1000):
        rows = np.random.default_rng(count).random(count) < 0.3
        np.testing.assert_array_equal(from_bits(to_bits(rows), count), np.flatnonzero(rows))
    for text, count in (("?", 8), ("AAA=", 8), (to_bits(np.ones(9, bool)), 20)):
        with pytest.raises(AudiotkError, match="bits"):
            from_bits(text, count)


def test_messages_say_what_the_explorer_does_and_a_repeated_one_changes_nothing(make: Make) -> None:
    explorer = make()
    widget = explorer.make_widget()
    assert ask(widget, type="hello")["count"] == len(explorer.points)
    told = ask(widget, type="select", cluster=1)
    sample = told["selection"]["sample"]
    assert [row["point"] for row in sample] == explorer.sample["point"].tolist()
    op = {"uuid": "u1", "kind": "judgement", "row": sample[0]["point"], "value": 0, "why": "random"}
    op["key"] = told["selection"]["key"]
    for _ in range(2):
        answer = ask(widget, type="op", op=op)
        assert (answer["type"], answer["uuid"], answer["word"]) == ("ack", "u1", "false")
        assert len(answer["undoable"]) == 1
    door = ask(widget, type="door")
    held = explorer.points["group"].iloc[explorer.selection.rows].eq("site3").sum()  # type: ignore[union-attr]
    assert door["refused"] == held > 0
    assert "held out (test)" in door["reasons"][0]
    promote = {
        "uuid": "u2",
        "kind": "promote",
        "rows": told["selection"]["rows"],
        "key": op["key"],
        "name": "cluster 1",
    }
    promote |= {"theme": "neg_hard", "note": ""}
    refused = ask(widget, type="op", op=promote)
    assert refused["type"] == "nack"
    assert "must not be trained on" in refused["text"]
    assert not refused["retry"]
    narrow = ask(widget, type="narrow")
    promote["rows"] = narrow["selection"]["rows"]
    for _ in range(2):  # the answer was lost, say
        done = ask(widget, type="op", op=promote)
        assert done["type"] == "ack"
    assert len(from_bits(done["promoted"][0], len(explorer.points))) == len(explorer.store.promotions())
    target = done["undoable"][-1]
    undo = {"uuid": "u3", "kind": "undo", "what": target["kind"], "target": target["target"]}
    for _ in range(2):
        assert ask(widget, type="op", op=undo)["type"] == "ack"
    assert explorer.store.promotions().empty
    for bad in ({}, {"uuid": "x"}, {"uuid": "x", "kind": "judgement", "row": 10**6}, op | {"uuid": "y", "value": 2}):
        assert ask(widget, type="op", op=bad)["type"] == "nack"


def test_the_scripts_are_one_module_that_fetches_nothing() -> None:
    text = esm("explorer", ExplorerWidget.shared)
    assert text.count("export default") == 1
    assert "import " not in [line[:7] for line in text.splitlines()]
    assert len(text.encode()) <= 120_000
    assert re.findall(r"\w+://[^\s\"'`]+", text) == []
    assert "innerHTML" not in text


def test_points_travel_as_places_and_codes(make: Make) -> None:
    explorer = make()
    told = ask(explorer.make_widget(), type="points")
    place = np.frombuffer(told["buffers"][0], np.uint16).reshape(-1, 2)
    points = explorer.points
    for axis, name in enumerate("xy"):  # one scale for both
        np.testing.assert_allclose(np.corrcoef(place[:, axis], points[name])[0, 1], 1, atol=1e-6)
    spans = np.ptp(points[["x", "y"]].to_numpy(), axis=0)
    np.testing.assert_allclose(np.ptp(place.astype(float), axis=0) / spans, 65534 / spans.max(), rtol=1e-3)
    for about, raw in zip(told["colourings"], told["buffers"][1:-1], strict=True):
        code = np.frombuffer(raw, np.uint16)
        if about["by"] in ("class", "device"):
            column = {"class": "class_name", "device": "device"}[about["by"]]
            assert [about["names"][at] for at in code] == points[column].tolist()
    cluster = np.frombuffer(told["buffers"][1], np.uint16)
    assert (cluster == 0).tolist() == (points["cluster"] == -1).tolist()
    quiet = colouring(points.assign(level_dbfs=np.nan), "level")[1]
    assert (quiet == 255).all()


def test_what_is_done_from_code_is_told_to_the_browser(make: Make) -> None:
    explorer = make()
    told: list[dict[str, Any]] = []
    explorer.widget.send = lambda content, buffers=None: told.append(content)  # type: ignore[method-assign]
    explorer.select(cluster=2)
    explorer.judge(0, "false")
    assert [message["type"] for message in told] == ["state", "state"]
    assert told[0]["selection"]["name"] == "cluster 2"
    assert told[1]["selection"]["sample"][0]["verdict"] == "false"


def test_headless_is_a_picture_and_no_widget(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    explorer = make(map="scatter")
    explorer.select(cluster=0)
    explorer.narrow()
    explorer.promote("neg_silence")
    shown = explorer._repr_mimebundle_()
    assert shown["image/png"].startswith(b"\x89PNG")
    assert "false positives in 6 clusters" in shown["text/plain"]
    texts = [text.get_text() for axes in explorer.picture().axes for text in axes.texts]
    assert {"0", "5", "hollow: promoted", "unassigned"} <= set(texts)
    assert not any("noise" in text for text in texts)
    with pytest.raises(AudiotkError, match="AUDIOTK_HEADLESS"):
        _ = explorer.widget


# --- without custom widgets -------------------------------------------------------------------------------------------


def test_the_fallback_hears_judges_promotes_and_undoes(make: Make, recordings: pd.DataFrame) -> None:
    explorer = make(door=make_door(recordings, held_out=0))
    fallback = ExplorerFallback(explorer, canvas=FigureCanvasAgg)
    fallback.do(fallback.play)
    assert "select a cluster" in fallback.status.value
    fallback.cluster.value = 1
    assert bytes(fallback.player.value).startswith(b"RIFF")
    for word in ("false", "true"):
        fallback.buttons[word].click()
    assert explorer.sample["verdict"].tolist()[:3] == ["false", "true", ""]
    fallback.theme.value = "neg_ambient"
    fallback.buttons["promote"].click()
    assert set(explorer.store.promotions()["theme"]) == {"neg_ambient"}
    for _ in range(2):
        fallback.buttons["undo"].click()
    assert explorer.store.promotions().empty
    assert explorer.sample["verdict"].tolist()[:2] == ["false", ""]
    place = explorer.points.loc[explorer.points["cluster"] == 0, ["x", "y"]]
    (x, y), half = place.median(), 0.4
    fallback._selector.onselect(
        [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    )
    inside = (explorer.points[["x", "y"]] - [x, y]).abs().max(axis=1) < half
    assert explorer.selection is not None
    assert explorer.selection.rows.tolist() == np.flatnonzero(inside).tolist()
    fallback._selector.onselect([(90, 90), (91, 90), (91, 91)])
    assert "no false positive is among" in fallback.status.value
    assert len(explorer.selection.rows) == inside.sum()


# --- jupyter-scatter --------------------------------------------------------------------------------------------------


def test_an_echo_of_the_mouse_does_not_wipe_a_lasso_and_a_later_click_takes_a_cluster(make: Make) -> None:
    pytest.importorskip("jscatter", reason="no jupyter-scatter here")
    explorer, now, told = make(map="scatter"), [0.0], list[str]()
    link = ScatterLink(explorer, told.append, clock=lambda: now[0])
    scatter = link.scatter.widget
    scatter.selection = np.arange(50)
    assert explorer.selection is not None
    assert (explorer.selection.name, len(explorer.selection.rows), told) == ("lasso", 50, [""])
    for echo in (np.array([7]), None):
        now[0] += 0.075
        scatter.selection = echo
        assert len(explorer.selection.rows) == 50
        assert len(scatter.selection) == 50
    now[0] += 2.0
    scatter.selection = np.array([7])
    assert explorer.selection.cluster == explorer.points["cluster"][7]
    assert len(scatter.selection) == len(explorer.selection.rows)
    explorer.select(cluster=0)
    link.show()
    assert explorer.selection.cluster == 0  # and not taken for a lasso
    first = link.scatter
    for by in ("class", "level", "device", "theme", "cluster"):
        link.colour(by)
    assert link.scatter is first  # one WebGL context
    now[0] += 2.0
    scatter.selection = None
    assert explorer.selection is None


def test_what_goes_wrong_in_a_lasso_of_the_scatter_is_told(make: Make, ghosts: tuple[pd.DataFrame, np.ndarray]) -> None:
    pytest.importorskip("jscatter", reason="no jupyter-scatter here")
    told: list[str] = []
    table = ghosts[0].assign(is_true=np.arange(len(ghosts[0])) < 20)
    table.loc[table.index[-5:], "x"] = np.nan
    explorer = make(table, map="scatter")
    link = ScatterLink(explorer, told.append)
    link.scatter.widget.selection = np.arange(10)
    assert "no false positive is among" in told[0]
    link.scatter.widget.selection = np.arange(10, 30)
    assert explorer.selection is not None
    assert explorer.selection.rows.tolist() == list(range(20, 30))
    explorer.select(rows=range(len(table) - 10, len(table)))
    link.show()
    assert len(link.scatter.widget.selection) == 5  # the others have no place
