"""PEL and PE-CML against loops over every cell, their properties, and the counts of the real AudioSet label files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import twins_relabel as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from strategies_relabel import labels_of, repairs

import audiotk.relabel.audit
from audiotk.datasets.audioset import read_classes, read_segments
from audiotk.datasets.raters import mini_ontology
from audiotk.ontology import Ontology
from audiotk.relabel import (
    coselected,
    coselection,
    mask_children,
    parent_expand,
    pe_cml,
    statistics,
)
from audiotk.tables import AudiotkError, Labels

AUDIOSET = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "audioset"
MODES = st.sampled_from(["all", "unambiguous", "mask"])


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Segments two at a time, so that the borders of blocks are met."""
    kept, audiotk.relabel.audit.BLOCK = audiotk.relabel.audit.BLOCK, 2
    yield
    audiotk.relabel.audit.BLOCK = kept


@pytest.fixture(scope="module")
def mini():
    return Ontology.from_records(mini_ontology())


def one(ontology, present, classes=None, default=0.0):
    """Labels of one segment."""
    classes = list(ontology.names) if classes is None else classes
    columns = [classes.index(name) for name in present]
    return Labels.from_cells(["s"], classes, [0] * len(columns), columns, [1] * len(columns), default)


def named(labels, value="present"):
    row = labels.frame().iloc[0]
    return set(row.index[row.isna() if value == "unknown" else row == 1])


# --- twins ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(repairs(), MODES, st.sampled_from([None, "all", "list"]))
def test_the_rules_equal_their_twins(case, mode, vocabulary):
    ontology, parents, labels, frame = case
    if vocabulary == "list":  # all nodes but the last that the labels do not have, by id
        spare = [name for name in parents if name not in frame.columns]
        vocabulary = [f"/m/{name}" for name in [*frame.columns, *spare[:-1]]]
    result = parent_expand(labels, ontology, mode, vocabulary)
    wanted = frame.columns if vocabulary is None else [*parents] if vocabulary == "all" else vocabulary
    full = twins.widen(frame, [name.removeprefix("/m/") for name in wanted], labels.default)
    ours = result.labels.frame().rename(columns=lambda name: name.removeprefix("/m/"))
    twins.frames_equal(ours, twins.pel(full, parents, mode))
    twins.frames_equal(labels.frame(), frame)  # the input is as it was

    masked = pe_cml(labels, ontology, mode, vocabulary)
    expected = twins.cml(twins.pel(full, parents, mode), parents, full)
    ours = masked.labels.frame().rename(columns=lambda name: name.removeprefix("/m/"))
    twins.frames_equal(ours, expected)
    assert mask_children(result.labels, ontology, labels).labels == masked.labels
    unset = 3 if np.isnan(labels.default) else 2
    assert unset not in [*result.labels.cells.data, *masked.labels.cells.data]  # the default is not stored
    assert (result.audit.rule, masked.audit.rule) == ("pel", "pe-cml")


@settings(max_examples=30)
@given(repairs(), repairs())
def test_mask_children_equals_its_twin_with_other_originals(case, other):
    ontology, parents, labels, frame = case
    twins.frames_equal(mask_children(labels, ontology).labels.frame(), twins.cml(frame, parents))
    donor = other[3]
    original = pd.DataFrame(
        np.resize(donor.to_numpy(), frame.shape) if donor.size else np.zeros(frame.shape), frame.index, frame.columns
    )
    original = original[list(original.columns[::-1])]
    ours = mask_children(labels, ontology, labels_of(original, np.nan))
    twins.frames_equal(ours.labels.frame(), twins.cml(frame, parents, original))
    assert ours.audit.rule == "cml"


@settings(max_examples=30)
@given(repairs())
def test_coselection_equals_its_twin(case):
    ontology, parents, labels, frame = case
    assert coselected(labels, ontology) == twins.coselected(frame, parents)
    names = list(frame.columns)
    ours = coselection(labels, [(a, b) for a in names for b in names])
    both = [[((frame[a] == 1) & (frame[b] == 1)).sum(), (frame[a] == 1).sum()] for a in names for b in names]
    assert ours == both
    told = statistics(labels, ontology)
    assert (told["segments"], told["classes"]) == frame.shape
    assert told["labels_per_segment"] * len(frame) == pytest.approx((frame == 1).to_numpy().sum())
    assert told["masked_per_segment"] * len(frame) == pytest.approx(frame.isna().to_numpy().sum())


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(repairs(), MODES)
def test_expanding_is_idempotent_and_monotone(case, mode):
    ontology, _, labels, frame = case
    result = parent_expand(labels, ontology, mode).labels
    again = parent_expand(result, ontology, mode)
    assert again.labels == result
    assert again.audit.cells == 0
    more = frame.copy()
    more.iloc[:, :1] = 1.0
    larger = parent_expand(labels_of(more, 0.0), ontology, mode).labels.frame()
    assert (larger.to_numpy() == 1)[result.frame().to_numpy() == 1].all()
    assert (result.frame().to_numpy() == 1)[frame.to_numpy() == 1].all()


@settings(max_examples=30)
@given(repairs(), MODES)
def test_a_mask_never_hits_what_expanding_made_present(case, mode):
    ontology, _, labels, _ = case
    expanded = parent_expand(labels, ontology, mode).labels.frame() == 1
    masked = pe_cml(labels, ontology, mode).labels.frame()
    assert ((masked == 1) == expanded).all(axis=None)
    assert ((mask_children(labels, ontology).labels.frame() == 1) == (labels.frame() == 1)).all(axis=None)


@settings(max_examples=30)
@given(repairs(), MODES)
def test_unambiguous_is_within_all_and_mask_marks_the_difference(case, mode):
    ontology, _, labels, _ = case
    every, sure, marked = (parent_expand(labels, ontology, m).labels.frame() for m in ("all", "unambiguous", "mask"))
    assert ((sure == 1) <= (every == 1)).all(axis=None)
    assert ((marked == 1) == (sure == 1)).all(axis=None)
    assert marked.isna()[(every == 1) & (sure != 1)].fillna(True).all(axis=None)


@settings(max_examples=30)
@given(repairs(), MODES, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_classes_and_the_default_make_no_difference(case, mode, random):
    ontology, _, labels, frame = case
    result = pe_cml(labels, ontology, mode).labels.frame()
    rows, columns = list(frame.index), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    for default in (0.0, np.nan):
        moved = pe_cml(labels_of(frame.loc[rows, columns], default), ontology, mode).labels.frame()
        twins.frames_equal(moved.loc[frame.index, frame.columns], result)


def test_cells_in_no_order_and_stored_defaults_are_read_as_values(mini):
    names = ["Dog", "Bark", "Animal", "Rain"]
    tidy = Labels.from_cells(["a", "b"], names, [0, 1, 1], [1, 3, 0], [1, 1, np.nan], 0.0)
    parts = (np.array([2, 1, 2, 3, 1], np.int8), np.array([3, 1, 1, 0, 3]), np.array([0, 2, 5]))
    messy = Labels(["a", "b"], names, sparse.csr_array(parts, shape=(2, 4)), 0.0)
    assert messy == tidy
    stored = [part.copy() for part in parts]
    result = pe_cml(messy, mini)
    assert result.labels == pe_cml(tidy, mini).labels
    assert result.audit.table().equals(pe_cml(tidy, mini).audit.table())
    for before, after in zip(stored, (messy.cells.data, messy.cells.indices, messy.cells.indptr), strict=True):
        assert np.array_equal(before, after)
    assert result.labels.cells.has_canonical_format
    assert result.labels.cells.indices.dtype == np.int32


# --- examples ---------------------------------------------------------------------------------------------------------


def test_parents_children_and_siblings_of_the_embedded_hierarchy(mini):
    howl = parent_expand(one(mini, ["Howl"]), mini).labels
    assert "Howl" in named(howl)
    assert named(howl) - {"Howl"} == set(mini.ancestors("Howl")) >= {"Dog", "Canidae, dogs, wolves", "Animal"}
    dog = pe_cml(one(mini, ["Dog", "Rain"]), mini).labels
    assert named(dog, "unknown") == set(mini.descendants("Dog")) | set(mini.descendants("Rain"))
    assert named(pe_cml(one(mini, ["Dog", "Bark"]), mini).labels, "unknown") == set(mini.descendants("Bark"))


def test_an_unknown_or_absent_parent_becomes_present_and_a_judged_child_unknown(mini):
    frame = pd.DataFrame([[1.0, np.nan, 0.0, 0.0]], ["s"], ["Dog", "Animal", "Domestic animals, pets", "Bark"])
    result = pe_cml(Labels.from_frame(frame), mini)
    twins.frames_equal(result.labels.frame(), frame.assign(Animal=1.0, Bark=np.nan, **{frame.columns[2]: 1.0}))
    told = result.audit.table().set_index("class_name")
    assert told.loc["Animal", "before"] == "unknown"
    assert told.loc["Bark", "after"] == "unknown"


@pytest.mark.parametrize("default", [0.0, np.nan])
def test_labels_of_nothing(mini, default):
    for labels in (one(mini, [], default=default), Labels.from_cells([], ["Dog"], [], [], [], default)):
        for rule in (parent_expand, mask_children, pe_cml):
            result = rule(labels, mini)
            assert result.labels == labels
            assert result.audit.cells == 0
            assert result.audit.table().empty
    assert statistics(Labels.from_cells([], ["Dog"], [], [], [], default), mini)["labels_per_segment"] == 0
    single = Labels.from_cells(["s"], ["Dog"], [0], [0], [1], default)
    assert pe_cml(single, mini).labels == single


def test_a_larger_vocabulary_comes_behind_the_classes_of_the_labels(mini):
    ids = [mini.ids[mini.position(name)] for name in ("Bark", "Dog")]
    result = parent_expand(Labels.from_cells(["s"], ids, [0], [0], [1], 0.0), mini, vocabulary="all").labels
    assert list(result.classes[:2]) == ids
    assert set(result.classes) == set(mini.ids)
    named_all = parent_expand(one(mini, ["Bark"], ["Bark", "Dog"]), mini, vocabulary="all").labels
    assert named(named_all) == {"Bark", *mini.ancestors("Bark")}
    wide = parent_expand(one(mini, ["Bark"], ["Bark", "Dog"]), mini, vocabulary=["Animal", "Dog", "Bark"]).labels
    assert list(wide.classes) == ["Bark", "Dog", "Animal"]
    assert named(wide) == {"Bark", "Dog", "Animal"}


def test_what_does_not_fit_is_refused(mini):
    labels = one(mini, ["Bark"], ["Bark", "Dog"])
    with pytest.raises(AudiotkError, match="Barkk"):
        parent_expand(Labels.from_cells(["s"], ["Barkk"], [0], [0], [1], 0.0), mini)
    with pytest.raises(AudiotkError, match=r"expected multi_parent .* got 'some'"):
        pe_cml(labels, mini, "some")
    with pytest.raises(AudiotkError, match="class 'Bark' of the labels is not in the vocabulary"):
        parent_expand(labels, mini, vocabulary=["Dog", "Animal"])
    with pytest.raises(AudiotkError, match="got '527'"):
        parent_expand(labels, mini, vocabulary="527")
    with pytest.raises(AudiotkError, match="class 'Rain' of the original is not in the labels"):
        mask_children(labels, mini, one(mini, [], ["Rain"]))
    with pytest.raises(AudiotkError, match="other segments"):
        mask_children(labels, mini, Labels.from_cells(["t"], ["Dog"], [], [], [], 0.0))
    with pytest.raises(AudiotkError, match="'Rain' is not among the 2 classes"):
        coselection(labels, [("Bark", "Rain")])


# --- AudioSet ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audioset():
    if not (AUDIOSET / "balanced_train_segments.csv").exists():
        pytest.skip("AudioSet's label files are not there")
    audiotk.relabel.audit.BLOCK = 4096
    classes, (segments, positives) = (
        read_classes(AUDIOSET),
        read_segments(AUDIOSET / "balanced_train_segments.csv"),
    )
    column = pd.Index(classes["mid"]).get_indexer(positives["mid"])
    cells = (positives["row"], column, np.ones(len(positives)))
    yield (
        Labels.from_cells(segments["ytid"], classes["display_name"], *cells, 0.0),
        Ontology.read(AUDIOSET / "ontology.json"),
    )
    audiotk.relabel.audit.BLOCK = 2


def test_golden_counts_of_the_balanced_set(audioset):
    """science.md section 5."""
    labels, ontology = audioset
    told = statistics(labels, ontology)
    assert (told["segments"], labels.cells.nnz, round(told["labels_per_segment"], 3)) == (22160, 52882, 2.386)
    assert told["parent_coselected"] == (10689, 27859)
    for vocabulary, present, masked in ((None, 3.592, 19.91), ("all", 5.597, 24.48)):
        told = statistics(parent_expand(labels, ontology, vocabulary=vocabulary).labels, ontology)
        assert (round(told["labels_per_segment"], 3), told["masked_per_segment"]) == (present, 0)
        assert told["classes"] == (632 if vocabulary else 527)
        told = statistics(pe_cml(labels, ontology, vocabulary=vocabulary).labels, ontology)
        assert (round(told["labels_per_segment"], 3), round(told["masked_per_segment"], 2)) == (present, masked)


def test_multi_parent_options_on_the_balanced_set(audioset):
    """Counted once more with sets, segment by segment."""
    labels, ontology = audioset
    some = labels.select(labels.segments[:300])
    parents = {name: ontology.parents(name) for name in ontology.names}
    vocabulary = set(labels.classes)
    rows = [set(labels.classes[some.cells[[k]].indices]) for k in range(300)]
    sure = [row.union(*(twins.climb(name, parents, vocabulary) for name in row)) for row in rows]
    every = [row.union(*(twins.ancestors(name, parents) & vocabulary for name in row)) for row in rows]
    ours = parent_expand(some, ontology, "mask").labels.counts().sum()
    assert ours["present"] == sum(map(len, sure))
    assert ours["unknown"] == sum(len(a - b) for a, b in zip(every, sure, strict=True)) > 0


def test_the_examples_of_the_paper(audioset):
    labels, ontology = audioset
    classes = list(labels.classes)
    guitar = named(parent_expand(one(ontology, ["Electric guitar"], classes), ontology).labels)
    assert guitar - {"Electric guitar"} == {"Guitar", "Plucked string instrument", "Musical instrument", "Music"}
    for name, count in (("Guitar", 6), ("Music", 149), ("Animal", 64), ("Electric guitar", 0)):
        assert len(named(mask_children(one(ontology, [name], classes), ontology).labels, "unknown")) == count
    pairs = [("Electric guitar", "Guitar"), ("Rain", "Water")]
    by_name = coselection(labels, pairs)
    assert by_name == coselection(labels, [("/m/02sgy", "/m/0342h"), ("/m/06mb1", "/m/0838f")], ontology)
    for (child, parent), (both, alone) in zip(pairs, by_name, strict=True):
        is_child, is_parent = (labels.dense()[:, classes.index(name)] == 1 for name in (child, parent))
        assert (both, alone) == ((is_child & is_parent).sum(), is_child.sum())


@pytest.mark.parametrize("collide", [False, True])
@pytest.mark.parametrize("default", [0.0, np.nan])
def test_repeated_sets_of_labels_are_gathered_rightly(mini, monkeypatch, default, collide):
    """Each different set of labels is worked out once; also where all sets have the same hash."""
    rng = np.random.default_rng(0)
    values = rng.choice([1.0, 0.0, np.nan], size=(6, len(mini.names)), p=[0.05, 0.6, 0.35])
    kind = rng.integers(6, size=100)
    distinct = Labels.from_frame(pd.DataFrame(values, columns=mini.names), default)
    many = Labels.from_frame(pd.DataFrame(values[kind], columns=mini.names), default)
    if collide:
        monkeypatch.setattr(np.random, "default_rng", lambda seed: ZeroGenerator())
    for rule in (parent_expand, mask_children, pe_cml):
        labels, audit = rule(many, mini)
        np.testing.assert_array_equal(labels.dense(), rule(distinct, mini).labels.dense()[kind])
        assert list(labels.segments) == list(many.segments)
        changed = ~((labels.dense() == many.dense()) | (np.isnan(labels.dense()) & np.isnan(many.dense())))
        assert audit.cells == changed.sum() > 0


class ZeroGenerator:
    """All weights 0: every set of labels hashes to the same number."""

    def integers(self, high, size, dtype):
        return np.zeros(size, dtype)
