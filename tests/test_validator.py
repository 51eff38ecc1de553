"""The second stage: proposals, the validator's probabilities, and scores with both stages in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from audiotk import metrics
from audiotk.tables import AudiotkError, make_segments
from audiotk.validator import NUMBERS, Validator, detections, validated


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def proposals(n: int = 800, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Detections whose truth depends on the embedding, by class in another way, on level, and hardly on the score."""
    draw = rng(seed)
    table = pd.DataFrame({
        "class_name": draw.choice(["bark", "howl"], n),
        "score": draw.uniform(0.1, 1, n),
        "level_dbfs": draw.normal(-40, 10, n),
        "flatness": draw.uniform(0, 0.5, n),
        "duration_s": draw.uniform(0.5, 4, n),
    })  # fmt: skip
    vectors = draw.normal(size=(n, 6))
    sign = np.where(table["class_name"] == "bark", 1.0, -1.0)
    z = 2 * sign * vectors[:, 0] + 0.1 * (table["level_dbfs"] + 40) + table["score"] - 1.5
    return table, vectors, draw.random(n) < 1 / (1 + np.exp(-z)), draw.integers(20, size=n)


@pytest.fixture(scope="module")
def fitted() -> Validator:
    return Validator.fit(*proposals(), rng())


def loss(right: np.ndarray, p: np.ndarray) -> float:
    return float(-np.log(np.where(right, p, 1 - p)).mean())


def test_it_learns_what_the_score_does_not_say_and_is_calibrated(fitted: Validator) -> None:
    table, vectors, right, _ = proposals(4000, seed=1)
    p = fitted.scores(table, vectors)
    assert loss(right, p) < 0.75 * loss(right, np.full(4000, right.mean()))
    for low in np.arange(0, 1, 0.2):  # a tenth more or less than it says, whatever it says
        chosen = (p >= low) & (p < low + 0.2)
        assert abs(p[chosen].mean() - right[chosen].mean()) < 0.1
    assert fitted.classes == ("bark", "howl")
    assert fitted.dim == 6
    assert fitted.about["detections"] == 800
    assert fitted.about["groups"] == 20
    assert abs(fitted.about["log_loss"] - loss(right, p)) < 0.1  # what cross-fitting promised


def test_the_fit_is_the_minimum_of_the_penalised_loss(fitted: Validator) -> None:
    table, vectors, right, _ = proposals()
    logits = np.log(table["score"] / (1 - table["score"]))
    plain = np.column_stack([logits, table[list(NUMBERS)]])
    inputs = np.hstack([plain, plain**2, vectors])
    standard = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    rows = [
        np.concatenate([row, *([*row, 1.0] if own == name else [0.0] * (len(row) + 1) for own in ("bark", "howl"))])
        for row, name in zip(standard, table["class_name"], strict=True)
    ]
    design = np.array(rows)

    def penalised(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = design @ w[:-1] + w[-1]
        value = np.logaddexp(0, z).sum() - z[right].sum() + (w[:-1] ** 2).sum() / 2 / fitted.about["strength"]
        error = 1 / (1 + np.exp(-z)) - right
        return value, np.append(design.T @ error + w[:-1] / fitted.about["strength"], error.sum())

    slow = minimize(penalised, np.zeros(design.shape[1] + 1), jac=True, tol=1e-9)
    np.testing.assert_allclose(fitted.weights, slow.x, atol=2e-3)
    z = fitted.slope * (design @ slow.x[:-1] + slow.x[-1]) + fitted.offset
    np.testing.assert_allclose(fitted.scores(table, vectors), 1 / (1 + np.exp(-z)), atol=5e-3)


def test_it_is_fitted_alike_for_the_same_draws_and_learns_nothing_of_noise() -> None:
    table, vectors, right, groups = proposals(300)
    first, again = (Validator.fit(table, vectors, right, groups, rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.scores(table, vectors), again.scores(table, vectors))
    noise = Validator.fit(table, vectors, rng(5).permutation(right), groups, rng())
    other = proposals(2000, seed=2)
    assert loss(other[2], noise.scores(*other[:2])) < loss(other[2], np.full(2000, other[2].mean())) + 0.05


def test_saved_and_read_it_says_the_same(fitted: Validator, tmp_path: Path) -> None:
    table, vectors, *_ = proposals(50, seed=4)
    fitted.save(tmp_path / "validator.npz")
    read = Validator.read(tmp_path / "validator.npz")
    np.testing.assert_array_equal(read.scores(table, vectors), fitted.scores(table, vectors))
    assert (read.classes, read.numbers, read.about) == (fitted.classes, fitted.numbers, fitted.about)
    (tmp_path / "text.npz").write_text("hello")
    arrays = {name: np.ones(3) for name in ("center", "spread", "weights")}
    np.savez(tmp_path / "other.npz", json=np.array('{"format": "other"}'), **arrays)
    np.savez(tmp_path / "pickled.npz", json=np.array([{}], dtype=object))
    for name in ("text", "other", "pickled", "nothing"):
        with pytest.raises(AudiotkError, match="cannot be read as a validator"):
            Validator.read(tmp_path / f"{name}.npz")


def test_calibration_on_other_detections_undoes_a_shift(fitted: Validator) -> None:
    table, vectors, right, _ = proposals(3000, seed=6)
    rare = right & (rng().random(3000) < 0.2) | ~right  # right ones are rarer there
    table, vectors, right = table[rare], vectors[rare], right[rare]
    half = np.arange(len(right)) % 2 == 0
    shifted = fitted.calibrated(table[half], vectors[half], right[half])
    before, after = (one.scores(table[~half], vectors[~half]) for one in (fitted, shifted))
    assert loss(right[~half], after) < loss(right[~half], before) - 0.02
    assert abs(after.mean() - right[~half].mean()) < 0.03
    assert (np.argsort(after) == np.argsort(before)).all()  # the order stays


def test_bad_input_is_refused_in_words(fitted: Validator) -> None:
    table, vectors, right, groups = proposals(60)
    with pytest.raises(AudiotkError, match="embeddings of 6 numbers"):
        fitted.scores(table, vectors[:, :5])
    broken = vectors.copy()
    broken[7, 2] = np.nan
    with pytest.raises(AudiotkError, match="an embedding is NaN or infinite in 1 of 60 detections, the first in row 7"):
        fitted.scores(table, broken)
    with pytest.raises(AudiotkError, match="level_dbfs is NaN or infinite in 60"):
        fitted.scores(table.assign(level_dbfs=-np.inf), vectors)
    with pytest.raises(AudiotkError, match="no column 'flatness'"):
        fitted.scores(table.drop(columns="flatness"), vectors)
    with pytest.raises(AudiotkError, match="does not know 'cough'"):
        fitted.scores(table.assign(class_name="cough"), vectors)
    with pytest.raises(AudiotkError, match="scores in 0 to 1"):
        fitted.scores(table.assign(score=2.0), vectors)
    with pytest.raises(AudiotkError, match="an embedding of each of 60"):
        fitted.scores(table, vectors[:5])
    unknown = right.astype(float)
    unknown[3] = np.nan
    with pytest.raises(AudiotkError, match="1 of them unknown"):
        Validator.fit(table, vectors, unknown, groups, rng())
    with pytest.raises(AudiotkError, match="two groups or more"):
        Validator.fit(table, vectors, right, np.zeros(60), rng())
    with pytest.raises(AudiotkError, match="got 0 right of 60"):
        Validator.fit(table, vectors, np.zeros(60), groups, rng())


def table_of_scores() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    segments = make_segments(["a"] * 4 + ["b"] * 2, [0, 1, 2, 3, 0, 1], [1, 2, 3, 4, 1, 2])
    scores = pd.DataFrame(
        {"bark": [0.05, 0.9, 0.3, 0.05, 0.1, 0.6], "howl": [0.2, 0.0, 0.0, 0.4, 0.05, 0.05]},
        index=pd.Index(segments["segment"]),
    )
    sound = pd.DataFrame({"level_dbfs": np.arange(6.0), "flatness": 0.1}, index=scores.index)
    return scores, segments, sound


def test_detections_are_what_is_above_the_floor_and_last_as_long_as_it_fires() -> None:
    scores, segments, sound = table_of_scores()
    found = detections(scores, segments, 0.1, sound)
    told = {(row.class_name, row.row): (row.score, row.duration_s, row.level_dbfs) for row in found.itertuples()}
    assert told == {
        ("bark", 1): (0.9, 2.0, 1.0), ("bark", 2): (0.3, 2.0, 2.0), ("bark", 5): (0.6, 1.0, 5.0),
        ("howl", 0): (0.2, 1.0, 0.0), ("howl", 3): (0.4, 1.0, 3.0),
    }  # fmt: skip
    assert set(detections(scores, segments, pd.Series({"bark": np.nan, "howl": 0.3}), sound)["row"]) == {3}
    assert len(detections(scores, segments, 0.95, sound)) == 0
    with pytest.raises(AudiotkError, match="sound must hold each"):
        detections(scores, segments, 0.1, sound[:3])
    with pytest.raises(AudiotkError, match="segments must hold each"):
        detections(scores, segments[:3], 0.1, sound)


def test_both_stages_in_one_score_rank_as_they_should() -> None:
    scores, segments, sound = table_of_scores()
    found = detections(scores, segments, 0.1, sound)
    p = rng().random(len(found))
    both = validated(scores, found, p, 0.1)
    proposed = scores > 0.1
    pd.testing.assert_frame_equal(both.where(~proposed), scores.where(~proposed), check_freq=False)  # all else is kept
    assert both.where(proposed).min().min() >= 0.1 >= both.where(~proposed).max().max()
    again = [both.loc[row.segment, row.class_name] for row in found.itertuples()]
    np.testing.assert_allclose(again, 0.1 + 0.9 * p)
    truth = pd.DataFrame(0.0, scores.index, scores.columns)
    truth.iloc[2, 0] = truth.iloc[3, 1] = 1.0
    perfect = [truth.loc[row.segment, row.class_name] for row in found.itertuples()]
    assert metrics.mean_average_precision(validated(scores, found, np.array(perfect), 0.1), truth) == 1
    for bad in (p[:2], p + 1, p * np.nan):
        with pytest.raises(AudiotkError, match="a probability of each of 5"):
            validated(scores, found, bad, 0.1)
    with pytest.raises(AudiotkError, match="not those of these scores"):
        validated(scores, found, p, 0.25)
