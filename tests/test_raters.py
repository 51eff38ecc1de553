"""Raters: a real piece of the AudioSet ontology, ticked at the stated rates."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from audiotk.backgrounds import KINDS
from audiotk.datasets.raters import (
    NODE_NAMES,
    PATH,
    RATERS,
    abstract_names,
    mini_ontology,
    node_ids,
    parents,
    tick,
    true_nodes,
)
from audiotk.synthesis import CLASSES

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "audioset"


def ancestors(name: str) -> set[str]:
    """Textbook closure."""
    up = parents()
    return {a for parent in up[name] for a in ({parent} | ancestors(parent))}


def test_ontology_is_a_dag_with_enough_of_everything() -> None:
    nodes = mini_ontology()
    assert json.loads(PATH.read_text(encoding="utf-8")) == nodes
    ids = [node["id"] for node in nodes]
    assert len(nodes) >= 40
    assert len(set(ids)) == len({node["name"] for node in nodes}) == len(nodes)
    assert all(child in ids for node in nodes for child in node["child_ids"])
    for name in parents():
        assert name not in ancestors(name)  # recursion would not end on a cycle that misses `name`
    assert sum(len(up) > 1 for up in parents().values()) >= 3
    assert {"Human sounds", "Respiratory sounds"} <= abstract_names()
    mini_ontology()[0]["name"] = "changed"
    assert mini_ontology() == nodes


def test_classes_and_backgrounds_have_nodes() -> None:
    names = {node["name"] for node in mini_ontology()}
    assert set(NODE_NAMES.values()) <= names
    assert set(CLASSES) | set(KINDS) - {"transitional"} == set(NODE_NAMES)
    assert node_ids()["bark"] == "/m/05tny_"
    assert not set(NODE_NAMES.values()) & abstract_names()
    assert ancestors("Howl") >= {"Dog", "Animal", "Wild animals"}


def test_nodes_are_those_of_audioset() -> None:
    if not (AUDIOSET / "ontology.json").exists():
        pytest.skip("no AudioSet ontology (set AUDIOTK_TEST_DATA)")
    real = {node["id"]: node for node in json.loads((AUDIOSET / "ontology.json").read_text(encoding="utf-8"))}
    kept = {node["id"] for node in mini_ontology()}
    for node in mini_ontology():
        assert node["name"] == real[node["id"]]["name"]
        assert node["restrictions"] == real[node["id"]]["restrictions"]
        assert node["child_ids"] == [child for child in real[node["id"]]["child_ids"] if child in kept]


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_parents_are_ticked_at_their_rate(rate: float) -> None:
    rng, names = np.random.default_rng(0), ["Bark", "Cough", "Rain", "Slosh"]
    up, trials = parents(), 600
    asked = ticked = 0
    for _ in range(trials):
        got = tick(names, rate, 0.0, 0.0, rng)
        assert set(names) <= set(got)
        assert not set(got) & abstract_names()
        for parent in {p for name in got for p in up[name]} - abstract_names():
            asked += 1
            ticked += parent in got
    assert ticked / asked == pytest.approx(rate, abs=4 * np.sqrt(0.25 / asked))


def test_general_and_missed_labels_come_at_their_rate() -> None:
    rng = np.random.default_rng(1)
    got = [tick(["Howl"], 0.0, 0.4, 0.2, rng) for _ in range(3000)]
    assert np.mean([g == [] for g in got]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([g == ["Howl"] for g in got]) == pytest.approx(0.8 * 0.6, abs=0.04)
    both = [g[0] for g in got if g and g != ["Howl"]]
    assert set(both) == {"Dog", "Canidae, dogs, wolves"}
    assert np.mean([name == "Dog" for name in both]) == pytest.approx(0.5, abs=0.06)
    assert tick(["Cough"], 0.0, 1.0, 0.0, rng) == ["Cough"]  # its only parent is abstract


def test_raters_tick_parents_about_half_of_the_time() -> None:
    assert RATERS["parent_rate"].mean() == pytest.approx(0.5, abs=0.05)
    assert RATERS.index.str.startswith("rater:").all()


def test_silence_is_not_named_beside_an_event() -> None:
    assert "Silence" in true_nodes([], ["clean"], 0.3)
    assert "Silence" not in true_nodes(["bark"], ["clean"], 0.3)
    assert true_nodes(["bark", "bark"], ["fan", "hum"], 0.6) == [
        "Bark",
        "Inside, large room or hall",
        "Mains hum",
        "Mechanical fan",
    ]
