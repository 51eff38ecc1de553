"""Embeddings, clusters, how repeatable they are, the picture, and what is suggested to hear."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from audiotk import embed, models, stats
from audiotk.embed import clusters as clusters_module
from audiotk.embed import repeat
from audiotk.embed.clusters import Space
from audiotk.tables import AudiotkError
from audiotk.teachers.base import Teacher, unit


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def planted(n: int = 400, k: int = 5, dim: int = 32, seed: int = 0, scattered: float = 0.2) -> tuple[np.ndarray, ...]:
    """Rows around k centres, a share of them scattered (-1); their clusters, and groups that are unrelated to these."""
    draw = rng(seed)
    truth = draw.integers(k, size=n)
    rows = draw.normal(size=(k, dim))[truth] * 2 + 0.5 * draw.normal(size=(n, dim))
    far = draw.random(n) < scattered
    rows[far], truth[far] = 3 * draw.normal(size=(far.sum(), dim)), -1
    return rows.astype(np.float32), truth, draw.integers(24, size=n)


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_student_embeddings_are_what_its_head_sees() -> None:
    import torch

    model = models.build("melcnn", 3, sr=16000, clip_s=1.0, rng=rng())
    model.train()
    model.norm.eval()
    waves = rng(1).normal(0, 0.1, (5, 16000)).astype(np.float32)
    found = embed.embed_student(model, waves, batch_size=2)
    assert found.shape == (5, model.embed_dim)
    assert found.dtype == np.float32
    assert (model.training, model.norm.training) == (True, False)  # left as they were
    with torch.inference_mode():
        model.eval()
        logits = model(torch.as_tensor(waves))
        torch.testing.assert_close(model.head(torch.as_tensor(found)), logits, atol=1e-5, rtol=1e-4)
    assert embed.embed_student(model, waves[:0]).shape == (0, model.embed_dim)


class Loudness(Teacher):
    name, sr, window_s, dim = "loudness", 1000, 0.1, 2

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        return unit(np.stack([np.abs(waves).mean(axis=1), np.ones(len(waves))], axis=1)).astype(np.float32)


def test_a_teacher_hears_long_segments_in_windows_and_short_ones_filled_up() -> None:
    teacher = Loudness()
    waves = rng().normal(size=(3, 230)).astype(np.float32)
    found = embed.embed_teacher(teacher, waves, batch_size=2)
    windows = [waves[:, at : at + 100] for at in (0, 50, 100, 130)]  # half a window apart, and one at the end
    np.testing.assert_allclose(found, unit(np.mean([teacher.embed_audio(w) for w in windows], axis=0)), rtol=1e-5)
    short = embed.embed_teacher(teacher, waves[:, :40])
    np.testing.assert_allclose(short, teacher.embed_audio(np.pad(waves[:, :40], ((0, 0), (0, 60)))), rtol=1e-6)
    silent = Loudness()
    silent.dim = 0
    with pytest.raises(AudiotkError, match="no embeddings"):
        embed.embed_teacher(silent, waves)


def test_logmel_embeddings_tell_a_tone_from_noise_and_need_no_weights() -> None:
    time = np.arange(16000) / 16000
    waves = np.stack([np.sin(2 * np.pi * 440 * time), rng().normal(size=16000)]).astype(np.float32)
    found = embed.embed_logmel(waves, 16000, batch_size=1)
    assert found.shape == (2, 384)
    assert found[0].std() > 2 * found[1].std()
    with pytest.raises(AudiotkError, match="NaN"):
        embed.embed_logmel(np.full((1, 16000), np.nan), 16000)


def test_importing_loads_neither_torch_nor_umap() -> None:
    script = "import sys, audiotk.embed, audiotk.validator; print({'torch', 'umap', 'numba'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


# --- clusters ---------------------------------------------------------------------------------------------------------


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    rows = rng().normal(size=(50, 8)) @ rng(1).normal(size=(8, 8))
    space = Space.fit(rows.astype(np.float32), 3)
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(space.place(rows)), np.abs(left * values)[:, :3], rtol=1e-3, atol=1e-3)
    assert Space.fit(np.outer(np.arange(9.0), np.ones(4)), 3).axes.shape == (4, 1)  # a line has one direction


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(seed: int) -> None:
    rows, truth, _ = planted(seed=seed)
    labels = embed.cluster(rows, rng())
    inside = truth >= 0
    assert adjusted_rand_score(truth[inside], labels[inside]) > 0.95
    assert (labels[~inside] == -1).mean() > 0.5
    assert list(np.bincount(labels[labels >= 0])) == sorted(np.bincount(labels[labels >= 0]), reverse=True)
    np.testing.assert_array_equal(labels, embed.cluster(rows, rng(99)))  # nothing is drawn


def test_many_rows_are_clustered_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, truth, _ = planted(1200, scattered=0.1)
    whole = embed.cluster(rows, rng())
    monkeypatch.setattr(clusters_module, "MOST", 400)
    labels = embed.cluster(rows, rng())
    assert adjusted_rand_score(whole, labels) > 0.9
    np.testing.assert_array_equal(labels, embed.cluster(rows, rng()))
    assert len(embed.find_clusters(rows, rng()).rows) == 400
    assert adjusted_rand_score(truth, labels) > 0.85


def test_further_rows_join_the_nearest_cluster_in_reach() -> None:
    rows, truth, _ = planted()
    found = embed.find_clusters(rows[:300], rng())
    joined = found.assign(np.vstack([rows[300:], np.full((1, 32), 50.0), np.full((1, 32), np.nan)]).astype(np.float32))
    inside = truth[300:] >= 0
    assert adjusted_rand_score(truth[300:][inside], joined[:-2][inside]) > 0.8
    assert list(joined[-2:]) == [-1, -1]  # far away, and nowhere
    near = np.linalg.norm(found.space.place(rows[300:])[:, None] - found.points, axis=2)  # the plain way
    label, distance = found.labels[near.argmin(axis=1)], near.min(axis=1)
    np.testing.assert_array_equal(joined[:-2], np.where((label >= 0) & (distance <= found.reach[label]), label, -1))
    np.testing.assert_array_equal(found.assign(rows[:300]), found.labels)
    with pytest.raises(AudiotkError, match="rows of 32 numbers"):
        found.assign(rows[:, :5])


def test_equal_rows_are_clustered_and_joined() -> None:
    rows = np.repeat(rng().normal(size=(4, 8)), 30, axis=0)
    found = embed.find_clusters(rows, rng())
    assert adjusted_rand_score(np.repeat(np.arange(4), 30), found.labels) == 1
    np.testing.assert_array_equal(found.assign(rows), found.labels)
    with pytest.warns(UserWarning, match="all 50 rows are equal"):
        same = embed.find_clusters(np.ones((50, 8)), rng())
    assert list(same.assign(np.array([np.ones(8), np.zeros(8)]))) == [0, -1]


@pytest.mark.parametrize(
    ("rows", "said", "labels"),
    [
        (np.zeros((0, 4)), "0 rows are fewer than the 5", []),
        (np.ones((1, 4)), "1 rows are fewer", [-1]),
        (rng().normal(size=(4, 4)), "4 rows are fewer", [-1] * 4),
        (np.ones((6, 4)), "one cluster of everything", [0] * 6),
        (rng().normal(size=(200, 4)) * 1e30, "one heap|scattered", None),
        (np.full((6, 4), np.inf), "6 of 6 rows hold NaN", [-1] * 6),
    ],
)
def test_what_is_no_finding_is_said(rows: np.ndarray, said: str, labels: list[int] | None) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = embed.cluster(rows, rng(), min_size=None if len(rows) < 50 else 60)
    assert re.search(said, " ".join(str(one.message) for one in told))
    assert {one.category for one in told} == {UserWarning}
    assert labels is None or list(found) == labels


def test_rows_that_are_not_finite_are_left_out_and_bad_tables_refused() -> None:
    rows, _, _ = planted()
    broken = rows.copy()
    broken[[3, 50]] = np.nan
    with pytest.warns(UserWarning, match="2 of 400 rows hold NaN or infinity"):
        labels = embed.cluster(broken, rng())
    good = np.delete(np.arange(400), [3, 50])
    np.testing.assert_array_equal(labels[good], embed.cluster(rows[good], rng()))
    assert list(labels[[3, 50]]) == [-1, -1]
    for bad in (np.ones(5), np.ones((5, 0)), np.array([["a"]])):
        with pytest.raises(AudiotkError, match=r"expected embeddings as numbers of shape \(n, dim\)"):
            embed.cluster(bad, rng())
    with pytest.raises(AudiotkError, match="min_size of at least 2"):
        embed.cluster(rows, rng(), min_size=1)


# --- repeatable? ------------------------------------------------------------------------------------------------------


def slow_agreement(a: np.ndarray, b: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> float:
    """Cohen's kappa of pairs of rows of different groups, each as often as both groups were drawn; pair by pair."""
    both = one = two = every = 0.0
    for i, j in combinations(range(len(a)), 2):
        if groups[i] != groups[j]:
            weight = counts[groups[i]] * counts[groups[j]]
            t, u = a[i] == a[j] >= 0, b[i] == b[j] >= 0
            both, one, two, every = both + weight * (t and u), one + weight * t, two + weight * u, every + weight
    if not every:
        return np.nan
    observed = (both + every - one - two + both) / every
    chance = (one * two + (every - one) * (every - two)) / every**2
    return 0.0 if chance > 1 - 1e-12 else (observed - chance) / (1 - chance)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 16), st.integers(1, 5), st.integers(0, 4))
def test_agreement_is_kappa_of_pairs_of_different_groups(seed: int, n: int, n_groups: int, k: int) -> None:
    draw = rng(seed)
    a, b = draw.integers(-1, k, size=(2, n)) if k else np.full((2, n), -1)
    groups = draw.integers(n_groups, size=n)
    statistic = embed.agreement(a, b, groups, range(n_groups))
    counts = draw.integers(0, 3, size=(4, n_groups)).astype(float)
    slow = [slow_agreement(a, b, groups, row) for row in counts]
    np.testing.assert_allclose(statistic.of(counts), slow, atol=1e-9)


def test_agreement_of_rows_of_their_own_is_the_adjusted_rand_index() -> None:
    a, b = rng().integers(4, size=(2, 60))
    assert embed.agreement(a, b, np.arange(60)).value() == pytest.approx(adjusted_rand_score(a, b))
    assert embed.agreement(a, a, np.arange(60)).value() == pytest.approx(1)
    both = embed.agreement([a, a], [a, b], np.arange(60)).value()
    assert both == pytest.approx((1 + adjusted_rand_score(a, b)) / 2)
    with pytest.raises(AudiotkError, match="not among the units"):
        embed.agreement(a, b, np.arange(60), range(59))
    with pytest.raises(AudiotkError, match="a label a row"):
        embed.agreement(a, b, np.arange(59))


def test_a_group_drawn_twice_is_not_evidence_of_itself() -> None:
    labels, groups = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])  # each cluster is one recording
    assert embed.agreement(labels, labels, groups).of(np.array([[2.0, 2.0], [1.0, 1.0]])).tolist() == [0, 0]


def test_planted_clusters_are_repeatable_and_tight_and_their_nulls_are_not() -> None:
    rows, _, groups = planted(scattered=0.1)
    found = embed.compare(rows, groups, rows[:300] + 1, groups[:300], rng(), splits=3)
    value = {name: one.repeatable.value() for name, one in found.items()}
    assert value["false positives"] > 0.85
    assert max(value["shuffled"], value["unclustered"]) < 0.4
    assert abs(found["shuffled"].tight.value()) < 0.05 < 0.3 < found["false positives"].tight.value()
    assert len(found["false positives"].labels) == len(found["true positives"].labels) == 300
    table = found["false positives"].table
    assert list(table.columns) == ["cluster", "members", "groups", "jaccard"]
    assert (table["jaccard"][:5] > 0.6).all()
    arms = [{0: found[name].repeatable} for name in ("false positives", "unclustered")]
    effect = stats.paired_bootstrap(*arms, rng(), n_boot=200)
    assert 0.3 < effect.low < effect.value < effect.high
    again = embed.compare(rows, groups, rows[:300] + 1, groups[:300], rng(), splits=3)
    assert {name: one.repeatable.value() for name, one in again.items()} == value


def test_clusters_that_are_recordings_are_not_repeatable() -> None:
    groups = rng().integers(24, size=400)
    rows = rng(1).normal(size=(24, 32))[groups] * 3 + rng(2).normal(size=(400, 32))
    found = embed.stability(rows, groups, rng(), splits=3)
    assert len(found.table) > 10
    assert (found.table["groups"] == 1).all()
    assert abs(found.repeatable.value()) < 0.1


def test_nulls_keep_what_they_say() -> None:
    rows = np.maximum(rng().normal(size=(500, 3)) @ rng(1).normal(size=(3, 10)), 0)  # with ties, as behind a ReLU
    for null in (embed.shuffled, embed.unclustered):
        np.testing.assert_array_equal(np.sort(null(rows, rng()), axis=0), np.sort(rows, axis=0))
    plain = rng().normal(size=(2000, 3)) @ rng(1).normal(size=(3, 10))
    correlations = [
        np.corrcoef(one.T) for one in (plain, embed.unclustered(plain, rng()), embed.shuffled(plain, rng()))
    ]
    assert np.abs(correlations[0] - correlations[1]).max() < 0.1
    assert np.abs(correlations[2] - np.eye(10)).max() < 0.1


def test_the_nearest_row_of_another_group_is_the_plain_one() -> None:
    rows, _, groups = planted(60)
    slow = [min(np.linalg.norm(rows[i] - rows[j]) for j in range(60) if groups[j] != groups[i]) for i in range(60)]
    np.testing.assert_allclose(repeat._nearest_other(rows, groups, np.arange(60)), slow, rtol=1e-4)


def test_stability_of_many_rows_is_that_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _, groups = planted(900, scattered=0.1)
    monkeypatch.setattr(repeat, "MOST", 400)
    found = embed.stability(rows, groups, rng(), splits=2)
    assert len(found.labels) == 900
    assert found.repeatable.value() > 0.8


def test_stability_refuses_what_it_cannot_halve() -> None:
    rows, _, groups = planted(60)
    with pytest.raises(AudiotkError, match="at least 4, got 3"):
        embed.stability(rows, groups % 3, rng())
    with pytest.raises(AudiotkError, match="1 of them not finite"):
        embed.stability(np.vstack([rows[:59], np.full((1, 32), np.nan)]), groups, rng())
    with pytest.raises(AudiotkError, match="among the units"):
        embed.stability(rows, groups, rng(), units=[1, 2])


# --- the picture ------------------------------------------------------------------------------------------------------


def test_the_picture_keeps_neighbours_repeats_itself_and_has_no_place_for_nan() -> None:
    rows, truth, _ = planted(200, scattered=0.0)
    rows[7] = np.nan
    rows[11] = rows[12]
    with pytest.warns(UserWarning, match="1 of 200 rows hold NaN"):
        places = embed.map_2d(rows, rng())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = embed.map_2d(rows, rng())
    np.testing.assert_array_equal(places, again)
    assert np.isnan(places[7]).all()
    assert np.isfinite(np.delete(places, 7, axis=0)).all()
    assert list(places[11]) == list(places[12])
    good = np.delete(np.arange(200), 7)
    apart = np.linalg.norm(places[good, None] - places[good], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (truth[good][apart.argmin(axis=1)] == truth[good]).mean() > 0.95


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((40, 3)), np.eye(3), np.eye(9)[:, :1]])
def test_the_picture_of_almost_nothing(rows: np.ndarray) -> None:
    places = embed.map_2d(rows, rng())
    assert places.shape == (len(rows), 2)
    assert np.isfinite(places).all()


def test_the_picture_refuses_bad_settings() -> None:
    with pytest.raises(AudiotkError, match="neighbors of at least 2"):
        embed.map_2d(np.eye(3), rng(), neighbors=1)


# --- what to hear -----------------------------------------------------------------------------------------------------


def ghosts(n: int = 120) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rows, truth, groups = planted(n, 3, 8)
    table = pd.DataFrame({"segment": [f"r{g}@{i}.000-{i}.500" for i, g in enumerate(groups)], "class_name": "bark"})
    return table.assign(group=groups), rows, truth


def test_members_are_those_of_the_plain_definition() -> None:
    table, rows, truth = ghosts()
    positives = rows[truth == 0][:2] + 0.01
    heard = embed.members(table, rows, truth, rng(), positives=positives, k=3)
    assert list(heard.columns) == ["cluster", "role", "rank", "row", "segment", "class_name", "distance"]
    for name, part in heard.groupby("cluster"):
        mine = np.flatnonzero(truth == name)
        mean = np.linalg.norm(rows[mine][:, None] - rows[mine], axis=2).mean(axis=1)
        first = part[part["rank"] == 1].set_index("role")["row"]
        assert first["medoid"] == mine[mean.argmin()]
        assert first["border"] == mine[mean.argmax()]
        near = np.linalg.norm(rows[mine][:, None] - positives, axis=2).min(axis=1)
        assert first["near_positive"] == mine[near.argmin()]
        for role, chosen in part.groupby("role"):
            assert len(chosen) == 3
            assert set(chosen["row"]) <= set(mine)
            assert chosen["row"].is_unique
            assert role == "random" or table["group"][chosen["row"]].is_unique
        assert (heard["segment"] == table["segment"][heard["row"]].to_numpy()).all()
    pd.testing.assert_frame_equal(heard, embed.members(table, rows, truth, rng(), positives=positives, k=3))
    assert "near_positive" not in set(embed.members(table, rows, truth, rng())["role"])


def test_members_of_nothing_and_bad_input() -> None:
    table, rows, truth = ghosts()
    assert len(embed.members(table, rows, np.full(120, -1), rng())) == 0
    with pytest.raises(AudiotkError, match="as many rows"):
        embed.members(table, rows[:5], truth, rng())
    broken = rows.copy()
    broken[np.flatnonzero(truth == 0)[0]] = np.nan
    with pytest.raises(AudiotkError, match="not finite"):
        embed.members(table, broken, truth, rng())
    with pytest.raises(AudiotkError, match="positives have 3 numbers"):
        embed.members(table, rows, truth, rng(), positives=np.ones((2, 3)))


def test_themes_follow_the_table_of_rules() -> None:
    sound = pd.DataFrame({
        "level_dbfs": [-70.0, -45, -45, -45, -45, np.nan],
        "flatness": [0.3, 0.1, 0.1, 0.3, 0.02, np.nan],
        "tonality": [0.0, 0.1, 0.8, 0.0, 0.01, np.nan],
        "spread_db": [1.0, 30, 2, 1, 2, np.nan],
    })  # fmt: skip
    found = embed.suggest_themes(sound, np.arange(6))
    assert list(found["theme"]) == ["neg_silence", "neg_hard", "neg_ambient", "neg_silence", "neg_ambient", ""]
    words = [
        "-70 dBFS",
        "30 dB above",
        "tones stand out (0.80",
        "no source stands out",
        "coloured noise",
        "could be read",
    ]
    for reason, word in zip(found["reason"], words, strict=True):
        assert word in reason
    loud = embed.suggest_themes(sound[["level_dbfs", "flatness"]] + [30, 0], [0, -1, -1, 0, 0, 0])
    assert loud["theme"].tolist() == ["neg_hard"]
    assert loud["members"].tolist() == [4]
    asked = pd.DataFrame({"neg_hard": [0.1, 0.4], "neg_ambient": [0.8, 0.5]})
    both = embed.suggest_themes(sound[:2], [0, 1], prompt_scores=asked)
    assert list(both["theme"]) == ["neg_ambient", "neg_hard"]  # a lead of 0.7 decides, one of 0.1 does not
    assert "not clear" in both["reason"][1]
    with pytest.raises(AudiotkError, match="no column 'flatness'"):
        embed.suggest_themes(sound[["level_dbfs"]], np.arange(6))
    with pytest.raises(AudiotkError, match="got 'rain'"):
        embed.suggest_themes(sound[:2], [0, 1], prompt_scores=asked.rename(columns={"neg_hard": "rain"}))
