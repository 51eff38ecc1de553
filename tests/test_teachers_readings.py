"""Prompts and readings: P1's numbers, textbook twins, and what each reading promises."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiotk.metrics import precision_recall_f1
from audiotk.tables import AudiotkError
from audiotk.teachers import P1, Prompts, load
from audiotk.teachers.readings import KINDS, P1_THRESHOLD, Reading, as_thresholds, common_threshold, fit_sigmoid

COSINES = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(11)), elements=st.floats(-1, 1))


def test_table_1_of_p1() -> None:
    found = Prompts.read(P1)
    assert found.prefix == "This is a sound of "
    assert list(found.classes) == [
        "voice", "music", "cat", "dog", "clapping", "urban", "machinery", "nature", "windnoise", "alarm", "gunshot",
    ]  # fmt: skip
    texts = [text for _, text in found.texts()]
    assert texts[0] == "This is a sound of speech or singing"
    assert texts[5] == "This is a sound of an urban environment like traffic and city noise"
    assert texts[8] == "This is a sound of wind noise distorting the microphone"
    assert texts[10] == "This is a sound of gunshots and explosions"


def test_prompts_are_numbered_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("prefix: 'a '\nclasses:\n  cat: [meow, purr]\n  dog: bark\nbackground: [hum]\n")
    found = Prompts.read(path)
    assert found.texts() == [(0, "a meow"), (0, "a purr"), (1, "a bark"), (2, "a hum")]
    assert Prompts(**found.about()) == found
    assert Prompts(**found.about()).checksum == found.checksum
    assert Prompts(found.classes, "an ").checksum != found.checksum


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("classes: {}", "expected classes with their texts"),
        ("classes: {cat: }", "class 'cat': expected a text"),
        ("classes: {cat: []}", "class 'cat': expected a text"),
        ("classes: {cat: [3]}", "class 'cat': expected a text"),
        ("classes: {no: barking}", "expected a text as class name, got False; put it in quotes"),
        ("classes: {cat: meow, cat: purr}", "'cat' stands twice"),
        ("classes: {cat: meow}\nprefiks: x", "unknown key 'prefiks'"),
        ("- cat", "expected the keys"),
        ("classes: {cat: [meow}", "cannot be read as a YAML"),
        ("classes: !!python/object/apply:os.system [echo]", "cannot be read as a YAML"),
        ("classes: {cat: meow}\nprefix: [a]", "expected a text as prefix"),
    ],
)
def test_wrong_prompts_say_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(AudiotkError, match=told) as caught:
        Prompts.read(tmp_path / "p.yaml")
    assert "p.yaml" in str(caught.value)
    with pytest.raises(AudiotkError, match="cannot be read"):
        Prompts.read(tmp_path / "nothing.yaml")


def test_without_its_scale_p1s_threshold_is_out_of_reach() -> None:
    cosines = np.array([[0.5, *[0.0] * 10]])
    assert Reading("softmax", 1.0).scores(cosines)[0, 0] == pytest.approx(0.1415, abs=1e-4)  # teachers.md: 0.14
    assert Reading("softmax", 100.0).scores(cosines)[0, 0] > P1_THRESHOLD


@given(COSINES, st.floats(0.1, 100))
def test_a_softmax_allows_at_most_four_above_a_fifth(cosines: np.ndarray, scale: float) -> None:
    shares = Reading("softmax", scale).scores(cosines)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert ((shares > P1_THRESHOLD).sum(axis=1) <= 4).all()


@given(COSINES, st.floats(0.1, 50))
def test_readings_of_one_class_do_not_depend_on_the_others(cosines: np.ndarray, scale: float) -> None:
    sigmoid = Reading("sigmoid", slope=(3.0,) * 8, intercept=(-1.0,) * 8)
    for reading in (Reading("cosine"), Reading("background", scale), sigmoid):
        found = reading.scores(cosines, 8)
        assert found.shape == (len(cosines), 8)
        assert ((found >= 0) & (found <= 1)).all()
        other = cosines.copy()
        other[:, 1:8] = -other[:, 1:8]
        np.testing.assert_array_equal(found[:, 0], reading.scores(other, 8)[:, 0])


@given(COSINES)
def test_against_background_is_a_softmax_with_the_class_alone(cosines: np.ndarray) -> None:
    found = Reading("background", 20.0).scores(cosines, 8)
    for c in range(8):
        both = np.exp(20 * cosines[:, [c, 8, 9, 10]])
        np.testing.assert_allclose(found[:, c], both[:, 0] / both.sum(axis=1), rtol=1e-9)


def test_readings_come_back_and_refuse_nonsense() -> None:
    for reading in (Reading("softmax", 5.0), Reading("sigmoid", slope=(1.0, 2.0), intercept=(0.0, 1.0))):
        assert Reading(**reading.about()) == reading
    assert set(KINDS) == {"softmax", "cosine", "sigmoid", "background", "own"}
    for bad, told in (
        ({"kind": "softmix"}, "expected one of softmax"),
        ({"scale": 0.0}, "scale > 0"),
        ({"kind": "sigmoid"}, "fit_sigmoid"),
        ({"slope": (1.0,), "intercept": (1.0,)}, "fit_sigmoid"),
    ):
        with pytest.raises(AudiotkError, match=told):
            Reading(**bad)  # type: ignore[arg-type]
    with pytest.raises(AudiotkError, match="name no background"):
        Reading("background").scores(np.zeros((1, 3)), 3)
    with pytest.raises(AudiotkError, match="fitted to 1 classes, asked about 3"):
        Reading("sigmoid", slope=(1.0,), intercept=(1.0,)).scores(np.zeros((1, 3)))


def known_case(n: int = 4000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cosines, and labels drawn from the sigmoids 12 x - 3 and 8 x + 1."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.8, (n, 2))
    share = 1 / (1 + np.exp(-(x * [12.0, 8.0] + [-3.0, 1.0])))
    y = (rng.random((n, 2)) < share).astype(float)
    names = [f"s{i}" for i in range(n)]
    return pd.DataFrame(x, names, ["a", "b"]), pd.DataFrame(y, names, ["a", "b"])


def test_a_sigmoid_is_found_again() -> None:
    x, y = known_case()
    found = fit_sigmoid(x, y)
    np.testing.assert_allclose(found.slope, [12, 8], rtol=0.1)
    np.testing.assert_allclose(found.intercept, [-3, 1], atol=0.35)
    y.iloc[::3, 0] = np.nan  # unknown labels take no part
    turned = fit_sigmoid(x[["b", "a"]], y[["a", "b"]])
    assert turned.slope[0] == pytest.approx(found.slope[0 + 1])
    assert turned.slope[1] == pytest.approx(12, rel=0.15)


def test_a_separable_class_stays_finite_and_a_class_of_one_kind_is_refused() -> None:
    x = pd.DataFrame({"a": np.linspace(0, 1, 20)}, index=[f"s{i}" for i in range(20)])
    y = (x > 0.5).astype(float)
    found = fit_sigmoid(x, y)
    assert 0 < found.slope[0] < 1000
    with pytest.raises(AudiotkError, match="class 'a' has 0 present and 20 absent"):
        fit_sigmoid(x, 0 * y)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_common_threshold_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 14))
    names = [f"s{i}" for i in range(n)]
    s = pd.DataFrame(rng.choice([0.1, 0.2, 0.3, 0.5, 0.9], (n, 3)), names, list("abc"))
    y = pd.DataFrame(rng.choice([0, 1, np.nan], (n, 3)), names, list("abc"))
    y.iloc[0] = 1

    def f1(threshold: float) -> float:
        return float(np.nanmean(precision_recall_f1(s, y, threshold)["f1"]))

    judged = s.where(y.notna()).loc[:, (y == 1).any()].to_numpy()
    levels = [-1.0, *[(a + b) / 2 for a, b in pairwise(np.unique(judged[np.isfinite(judged)]))]]
    found = common_threshold(s, y)
    assert f1(found) == pytest.approx(max(f1(level) for level in levels))
    assert not any(f1(level) >= f1(found) - 1e-12 and level > found + 1e-9 for level in levels)


def test_a_threshold_needs_something_present() -> None:
    s = pd.DataFrame({"a": [0.1, 0.2]}, index=["x", "y"])
    with pytest.raises(AudiotkError, match="nothing to choose by"):
        common_threshold(s, 0 * s)
    assert as_thresholds(0.2, ["a", "b"]) == {"a": 0.2, "b": 0.2}
    with pytest.raises(AudiotkError, match="class 'b' has none"):
        as_thresholds({"a": 0.2}, ["a", "b"])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("clapp", {}, "expected one of laion-clap"),
        ("nowhere:Mine", {}, "cannot be loaded"),
        ("audiotk.teachers:Nobody", {}, "cannot be loaded"),
        ("pathlib:Path", {}, "expected a subclass"),
        ("toy_teacher:Toy", {"wheights": "x"}, "unknown option wheights; known: weights, slow_s"),
    ],
)
def test_teachers_that_cannot_be_loaded_say_why(name: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(AudiotkError, match=told):
        load(name, **options)
