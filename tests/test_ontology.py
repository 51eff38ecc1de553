"""Ontology: the golden numbers of AudioSet, a recursive twin on random graphs, and errors that name the culprits."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk.datasets.audioset import read_classes
from audiotk.datasets.raters import PATH, mini_ontology, parents
from audiotk.ontology import Ontology, base_target
from audiotk.tables import AudiotkError

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "audioset"
needs_audioset = pytest.mark.skipif(not (AUDIOSET / "ontology.json").exists(), reason="no AudioSet label files")


# --- the slow twin: recursion on sets, straight from the definitions --------------------------------------------------


def twin_ancestors(up: dict[str, set[str]], node: str) -> set[str]:
    return {found for parent in up[node] for found in {parent} | twin_ancestors(up, parent)}


def twin_nearest(up: dict[str, set[str]], node: str, vocabulary: set[str]) -> set[str]:
    """First nodes of the vocabulary on each way up."""
    found = set()
    for parent in up[node]:
        found |= {parent} if parent in vocabulary else twin_nearest(up, parent, vocabulary)
    return found


def twin_unambiguous(up: dict[str, set[str]], node: str, vocabulary: set[str]) -> set[str]:
    near = twin_nearest(up, node, vocabulary)
    return near | twin_unambiguous(up, min(near), vocabulary) if len(near) == 1 else set()


def relation(matrix, vocabulary) -> set[tuple[str, str]]:
    rows, cols = matrix.nonzero()
    return {(vocabulary[i], vocabulary[j]) for i, j in zip(rows, cols, strict=True)}


def graph(up: dict[str, set[str]]) -> Ontology:
    below = {name: [child for child in up if name in up[child]] for name in up}
    return Ontology.from_records(
        [{"id": f"/{name}", "name": name, "child_ids": [f"/{c}" for c in below[name]]} for name in up]
    )


@st.composite
def dags(draw) -> tuple[dict[str, set[str]], list[str]]:
    """A random graph, name -> names of its parents, in random order of nodes, and a vocabulary in random order."""
    size = draw(st.integers(1, 9))
    names = [f"n{i}" for i in draw(st.permutations(range(size)))]
    up = {
        name: set(draw(st.lists(st.sampled_from(names[:i]), max_size=3))) if i else set()
        for i, name in enumerate(names)
    }
    shuffled = draw(st.permutations(names))
    return {name: up[name] for name in shuffled}, draw(st.lists(st.sampled_from(names), unique=True))


@given(dags())
def test_matrices_are_those_of_the_twin(case):
    up, vocabulary = case
    ontology, kept = graph(up), set(vocabulary)
    expected = {
        "all": {(v, a) for v in vocabulary for a in twin_ancestors(up, v) & kept},
        "unambiguous": {(v, a) for v in vocabulary for a in twin_unambiguous(up, v, kept)},
    }
    for multi_parent, pairs in expected.items():
        for asked in (vocabulary, [f"/{name}" for name in vocabulary]):
            matrix = ontology.closure(asked, multi_parent)
            assert matrix.dtype == bool
            assert matrix.shape == (len(vocabulary),) * 2
            assert relation(matrix, vocabulary) == pairs
    assert expected["unambiguous"] <= expected["all"]
    assert relation(ontology.nearest(vocabulary), vocabulary) == {
        (v, p) for v in vocabulary for p in twin_nearest(up, v, kept)
    }
    assert relation(ontology.direct(vocabulary), vocabulary) == {(v, p) for v in vocabulary for p in up[v] & kept}


@settings(max_examples=40)
@given(dags())
def test_looking_up_is_that_of_the_twin(case):
    up, _ = case
    ontology = graph(up)
    for place, name in enumerate(up):
        assert ontology.parents(name) == tuple(sorted(up[name]))
        assert ontology.children(f"/{name}") == tuple(sorted(child for child in up if name in up[child]))
        assert ontology.ancestors(name) == tuple(sorted(twin_ancestors(up, name)))
        assert ontology.descendants(name) == tuple(sorted(n for n in up if name in twin_ancestors(up, n)))
        assert ontology.position(name) == ontology.position(f"/{name}") == place
        below = ontology.subtree(name)
        assert set(below.names) == {name, *ontology.descendants(name)}
        assert below.roots == (name,)
        assert all(set(below.parents(n)) == up[n] & set(below.names) for n in below.names)
        shortest = [0 if not up[name] else 1 + min(ontology.depth[ontology.position(p)] for p in up[name])]
        assert ontology.depth[place] == shortest[0]
    assert ontology.roots == tuple(name for name in up if not up[name])
    assert ontology.multi_parent == tuple(name for name in up if len(up[name]) > 1)


@settings(max_examples=40)
@given(dags())
def test_files_hold_what_records_say(tmp_path_factory, case):
    up, _ = case
    folder = tmp_path_factory.mktemp("files")
    pairs = [{"parent": p, "child": c} for c in up for p in (sorted(up[c]) or [""])]
    pd.DataFrame(pairs).to_csv(folder / "pairs.csv", index=False)
    (folder / "pairs.json").write_text(json.dumps(pairs))
    below = {name: [c for c in up if name in up[c]] for name in up}
    nested = {name: dict.fromkeys(children) for name, children in below.items()}
    (folder / "nested.json").write_text(json.dumps(nested))
    (folder / "lists.json").write_text(json.dumps(below))
    for file in ("pairs.csv", "pairs.json", "nested.json", "lists.json"):
        ontology = Ontology.read(folder / file)
        assert set(ontology.names) == set(up)
        assert all(set(ontology.parents(name)) == up[name] for name in up)
        assert ontology.ids.tolist() == ontology.names.tolist()


def test_a_node_outside_of_the_vocabulary_cuts_off_nothing():
    #      a        x and y are not in the vocabulary; b has one nearest parent over two ways, c has two
    #    x   y
    #     b    d
    #       c(b, d)
    up = {"a": set(), "x": {"a"}, "y": {"a"}, "b": {"x", "y"}, "d": {"y"}, "c": {"b", "d"}}
    ontology, vocabulary = graph(up), ["c", "a", "b", "d"]
    assert relation(ontology.closure(vocabulary), vocabulary) == {
        ("b", "a"), ("d", "a"), ("c", "b"), ("c", "d"), ("c", "a"),
    }  # fmt: skip
    assert relation(ontology.closure(vocabulary, "unambiguous"), vocabulary) == {("b", "a"), ("d", "a")}
    assert relation(ontology.direct(vocabulary), vocabulary) == {("c", "b"), ("c", "d")}


def test_names_table_and_names_with_commas(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        '\ufeffparent, child, note\n"Animal, any", Dog ,1\n,"Horn, toot",2\n\n"Animal, any",Cat,\n', "utf-8"
    )
    ontology = Ontology.read(path)
    assert ontology.children("Animal, any") == ("Cat", "Dog")
    assert ontology.roots == ("Animal, any", "Horn, toot")
    pairs = pd.DataFrame({"parent": ["1", None], "child": ["2", "3"]})
    named = Ontology.from_pairs(pairs, pd.DataFrame({"id": ["3", "2", "1", "0"], "name": ["c", "b, b", "a", "z"]}))
    assert named.names.tolist() == ["c", "b, b", "a", "z"]
    assert named.parents("2") == named.parents("b, b") == ("a",)
    assert named.roots == ("c", "a", "z")


# --- the mini ontology and AudioSet's ---------------------------------------------------------------------------------


def test_mini_ontology():
    ontology = Ontology.from_json(PATH)
    assert Ontology.from_records(mini_ontology()).nodes.equals(ontology.nodes)
    assert {name: ontology.parents(name) for name in ontology.names} == {
        name: tuple(sorted(above)) for name, above in parents().items()
    }
    assert set(ontology.ancestors("Howl")) == {
        "Dog", "Domestic animals, pets", "Animal", "Canidae, dogs, wolves", "Wild animals",
    }  # fmt: skip
    assert ontology.position("/m/0bt9lr") == ontology.position("Dog")
    assert ontology.nodes["abstract"].sum() > 0
    assert repr(ontology).startswith("Ontology(70 nodes, 67 edges, 7 roots, ")


@pytest.fixture(scope="module")
def audioset() -> Ontology:
    return Ontology.read(AUDIOSET / "ontology.json")


@pytest.fixture(scope="module")
def vocabulary() -> pd.DataFrame:
    return read_classes(AUDIOSET)


@needs_audioset
def test_golden_numbers(audioset, vocabulary):
    """Numbers of the official files, as stated in the design's section on P2."""
    assert len(audioset) == 632
    assert len(audioset.edges) == audioset.direct(audioset.ids).nnz == 670
    assert len(audioset.roots) == 7
    assert audioset.nodes["abstract"].sum() == 23
    assert audioset.nodes["blacklisted"].sum() == 67
    assert len(audioset.multi_parent) == 38
    assert audioset.depth.max() == 5  # "maximum depth of 6 levels"
    for names in (vocabulary["mid"], vocabulary["display_name"]):
        assert audioset.closure(names).nnz == 835
        assert audioset.closure(names, "unambiguous").nnz == 731
    np.testing.assert_array_equal(audioset.names[audioset.positions(vocabulary["mid"])], vocabulary["display_name"])
    kept = audioset.nodes.iloc[audioset.positions(vocabulary["mid"])]
    assert kept["blacklisted"].sum() == 12
    left = audioset.nodes.drop(kept.index)
    assert (~left["abstract"] & ~left["blacklisted"]).sum() == 28


@needs_audioset
def test_bridging_keeps_the_ancestors_of_77_labels(audioset, vocabulary):
    names = vocabulary["mid"].tolist()
    up = {i: {*audioset.ids[audioset.positions(audioset.parents(i))]} for i in audioset.ids}
    kept = set(names)
    stops = {i: up[i] & kept for i in names}
    lost = [i for i in names if twin_ancestors(stops, i) != twin_ancestors(up, i) & kept]
    assert len(lost) == 77
    pairs = {(i, a) for i in names for a in twin_ancestors(up, i) & kept}
    assert relation(audioset.closure(names), names) == pairs


@needs_audioset
@pytest.mark.parametrize(
    ("root", "size"),
    [("Human sounds", 72), ("Sounds of things", 176), ("Source-ambiguous sounds", 55), ("Natural sounds", 18)],
)
def test_base_target_sizes(audioset, vocabulary, root, size):
    """P2, Table I."""
    names = vocabulary["display_name"].tolist()
    base, target = base_target(audioset, root, names)
    assert len(target) == size
    assert sorted(base + target) == sorted(names)
    assert set(target) == set(audioset.descendants(root)) & set(names)
    assert [name for name in names if name in target] == target


@needs_audioset
def test_examples_of_p2(audioset, vocabulary):
    names = pd.Index(vocabulary["display_name"])
    up = audioset.closure(names)
    above = names[up[[names.get_loc("Electric guitar")]].indices]
    assert set(above) == {"Guitar", "Plucked string instrument", "Musical instrument", "Music"}
    sizes = up.sum(axis=0)
    assert [sizes[names.get_loc(n)] for n in ("Guitar", "Music", "Animal", "Electric guitar")] == [6, 149, 64, 0]


def test_base_target_takes_shared_nodes_and_the_root_itself():
    up = {"a": set(), "b": set(), "both": {"a", "b"}, "below": {"both"}, "only b": {"b"}}
    assert base_target(graph(up), "/a", ["only b", "below", "/both", "a", "b"]) == (
        ["only b", "b"],
        ["below", "/both", "a"],
    )


# --- errors -----------------------------------------------------------------------------------------------------------


def node(key: str, *children: str, name: str | None = None) -> dict:
    return {"id": key, "name": key.upper() if name is None else name, "child_ids": list(children)}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([node("a", "b"), node("b", "c"), node("c", "a"), node("d", "a")], ["cycle", "a (A)", "b (B)", "c (C)"]),
        ([node("a", "a"), node("b", "a")], ["cycle", "a (A) -> a (A)"]),
        ([node("a", "b", "x"), node("b", "y")], ["'x' of 'a'", "'y' of 'b'"]),
        ([node("a"), node("a", name="B")], ["'a' (id a, row 0)", "'a' (id a, row 1)"]),
        ([node("a", name="N"), node("b"), node("c", name="N")], ["'N' (id a, row 0)", "'N' (id c, row 2)"]),
        ([node("a", name="b"), node("b")], ["node 'a'", "'b'"]),
        ([node("a"), {"id": "b"}], ["node 1", "'name'"]),
        ([node("a"), {"name": "b"}], ["node 1", "'id'"]),
        ([node("a"), "b"], ["node 1", "'b'"]),
        ([{"id": "a", "name": "A", "child_ids": "b"}], ["node 0", "'child_ids'"]),
        ([{"id": "a", "name": "A", "restrictions": [1]}], ["(a)", "'restrictions'"]),
        ([], ["list of nodes", "[]"]),
        ("nodes", ["list of nodes"]),
    ],
)
def test_broken_records(records, told):
    with pytest.raises(AudiotkError) as caught:
        Ontology.from_records(records, where="my.json")
    assert "my.json" in str(caught.value)
    for part in told:
        assert part in str(caught.value)


def test_the_cycle_that_is_named_is_one():
    records = [node("a", "b", "c"), node("b", "d"), node("c", "d"), node("d", "e"), node("e", "b", "f"), node("f")]
    with pytest.raises(AudiotkError) as caught:
        Ontology.from_records(records)
    way = [part.split()[0] for part in str(caught.value).split("parent: ")[1].split(" -> ")]
    assert way[0] == way[-1]
    assert sorted(way[1:]) == ["b", "d", "e"]
    below = {record["id"]: record["child_ids"] for record in records}
    assert all(child in below[parent] for child, parent in pairwise(way))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '[{"id": "a", ', "line 1"),
        ("a.json", '{"Animal": {"Dog": {}}, "Animal": {"Cat": {}}}', "Animal"),
        ("a.json", '{"name": "Animal", "children": []}', "'Animal'"),
        ("a.json", '{"Animal": {"Dog": {"Animal": {}}}}', "cycle"),
        ("a.json", "[" * 200000, "a.json"),
        ("a.json", "3", "list of nodes"),
        ("a.csv", "parent,kid\na,b\n", "child"),
        ("a.csv", "", "missing"),
        ("a.csv", "parent,child\na,b\na,\n", "('a', '')"),
        ("a.csv", "parent,child\nAnimal,Dog\nAnimal,Bee, wasp\n", "line 3"),
        ("a.csv", "parent,child\nAnimal\n", "line 2"),
        ("a.csv", 'parent,child\nAnimal,"Dog\n', "a.csv"),
        ("a.csv", "parent,child\na,b\nb,a\n", "cycle"),
        ("a.txt", "", ".json"),
    ],
)
def test_broken_files(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(AudiotkError) as caught:
        Ontology.read(tmp_path / name)
    assert told in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(AudiotkError, match=r"none\.json"):
        Ontology.read(tmp_path / "none.json")
    (tmp_path / "a.csv").write_bytes(b"parent,child\n\xff\xfe,b\n")
    with pytest.raises(AudiotkError, match=r"a\.csv"):
        Ontology.read(tmp_path / "a.csv")


def test_unknown_nodes_are_named_with_similar_ones():
    ontology = Ontology.from_json(PATH)
    with pytest.raises(AudiotkError, match=r"1 unknown: 'Dgo'; similar to 'Dgo': 'Dog'"):
        ontology.position("Dgo")
    with pytest.raises(AudiotkError, match=r"7 unknown: '0', '1', '2', '3', '4' and 2 more"):
        ontology.closure(["Dog", *map(str, range(7))])
    with pytest.raises(AudiotkError, match="/m/0bt9lr"):
        ontology.closure(["Dog", "Cat", "/m/0bt9lr"])
    with pytest.raises(AudiotkError, match="multi_parent 'all' or 'unambiguous', got 'mask'"):
        ontology.closure(["Dog"], "mask")
    with pytest.raises(AudiotkError, match="9"):
        Ontology.from_pairs(pd.DataFrame({"parent": ["1"], "child": ["9"]}), pd.DataFrame({"id": ["1"], "name": ["a"]}))
    with pytest.raises(AudiotkError, match="twice: 1"):
        Ontology.from_pairs(
            pd.DataFrame({"parent": [""], "child": ["1"]}), pd.DataFrame({"id": ["1", "1"], "name": ["a", "b"]})
        )
