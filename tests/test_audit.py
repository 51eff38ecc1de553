"""Audits against a comparison of every cell; rules one after the other; changes recorded as annotations and undone."""

import numpy as np
import pandas as pd
import pytest
import twins_relabel as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_relabel import NODES, label_frames, labels_of

import audiotk.relabel.audit
from audiotk.labels import resolve
from audiotk.relabel.audit import Audit, Relabeled, compose, record
from audiotk.tables import AudiotkError, Dataset, Labels, make_annotations, make_sources, whole_recordings

WORD = {1.0: "present", 0.0: "absent"}
AT = pd.Timestamp("2024-05-01 12:00", tz="UTC")


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    kept, audiotk.relabel.audit.BLOCK = audiotk.relabel.audit.BLOCK, 2
    yield
    audiotk.relabel.audit.BLOCK = kept


@st.composite
def pairs_of_labels(draw):
    """Frames before and after; after may have further classes."""
    before = draw(label_frames(NODES[: draw(st.integers(1, 3))]))
    classes = [*before.columns, *NODES[3 : 3 + draw(st.integers(0, 2))]]
    after = draw(label_frames(classes, max_segments=5))
    n = min(len(before), len(after))
    return before.iloc[:n], after.iloc[:n].set_axis(before.index[:n])


def audit_of(before, after, default=0.0, rule="some"):
    return Audit(rule, labels_of(before, default), labels_of(after, default))


@settings(max_examples=50)
@given(pairs_of_labels(), st.sampled_from([0.0, np.nan]), st.integers(0, 9))
def test_an_audit_equals_the_comparison_of_every_cell(frames, default, n):
    before, after = frames
    audit = audit_of(before, after, default)
    expected = twins.changes(before, after, default)
    assert audit.cells == len(expected)

    listed = audit.changes()
    assert list(listed.columns) == ["segment", "class_name", "before", "after", "rule"]
    assert set(listed["rule"]) <= {"some"}
    keys = list(zip(listed["segment"], listed["class_name"], strict=True))
    assert keys == sorted(expected, key=lambda cell: (after.index.get_loc(cell[0]), after.columns.get_loc(cell[1])))
    pairs = [tuple(pair) for pair in listed[["before", "after"]].to_numpy()]
    assert str(pairs) == str([tuple(map(np.float64, expected[key])) for key in keys])

    counts = pd.Series(
        [(name, WORD.get(old, "unknown"), WORD.get(new, "unknown")) for (_, name), (old, new) in expected.items()],
        dtype=object,
    ).value_counts()
    table = audit.table()
    assert list(table.columns) == ["rule", "class_name", "before", "after", "cells"]
    ours = {(a, b, c): cells for a, b, c, cells in zip(*(table[k] for k in table.columns[1:]), strict=True)}
    assert ours == counts.to_dict()

    some = audit.sample(n, np.random.default_rng(0))
    assert len(some) == min(n, len(expected))
    assert some.merge(listed).shape == some.shape
    assert not some.duplicated().any()

    notes = audit.annotations(AT)
    assert notes["at"].eq(AT).all()
    assert notes.dtypes.astype(str).to_dict() == {
        "segment": "str", "class_name": "str", "value": "float64", "source": "str", "at": "datetime64[us, UTC]"
    }  # fmt: skip
    assert set(notes["source"]) <= {"relabel:some"}
    assert notes["value"].equals(listed["after"].rename("value"))


def test_each_changed_cell_is_as_likely_to_be_drawn():
    before = pd.DataFrame(0.0, [f"s{k}" for k in range(5)], ["a", "b"])
    audit = audit_of(before, 1 - before)
    drawn = pd.concat([audit.sample(3, np.random.default_rng(k)) for k in range(400)])
    share = drawn.groupby(["segment", "class_name"]).size() / 400
    assert len(share) == 10
    assert share.between(0.2, 0.4).all()  # 0.3, more than four standard deviations each way
    with pytest.raises(AudiotkError, match="n >= 0"):
        audit.sample(-1, np.random.default_rng(0))


def test_labels_that_do_not_belong_together_are_refused():
    frame = pd.DataFrame([[1.0, 0.0]], ["s"], ["a", "b"])
    with pytest.raises(AudiotkError, match="different segments"):
        audit_of(frame, frame.set_axis(["t"]))
    with pytest.raises(AudiotkError, match="begin with the classes"):
        audit_of(frame, frame[["b", "a"]])
    with pytest.raises(AudiotkError, match="default was 0"):
        Audit("some", labels_of(frame, 0.0), labels_of(frame, np.nan))


# --- chains -----------------------------------------------------------------------------------------------------------


def put(value, *cells):
    """A rule that writes `value` into cells (segment, class)."""

    def rule(labels):
        frame = labels.frame()
        for cell in cells:
            frame.loc[cell] = value
        after = Labels.from_frame(frame, labels.default)
        return Relabeled(after, Audit("put", labels, after))

    return rule


@pytest.fixture
def dataset():
    """Two recordings with closed, weak labels of three classes."""
    names = ["r0", "r1"]
    recordings = pd.DataFrame({"recording": names, "path": "", "duration_s": 10.0, "sr": 1, "group": names})
    segments = whole_recordings(recordings)
    notes = make_annotations(segments["segment"], ["a", "b"], 1.0, "crowd", pd.Timestamp("2020-01-01", tz="UTC"))
    split = pd.Series("train", index=names)
    return Dataset(
        "toy", recordings, segments, notes, split, ["a", "b", "c"], make_sources(crowd="closed weak", expert="")
    )


def test_rules_one_after_the_other_recorded_and_undone(dataset):
    labels = resolve(dataset, dataset.segments, ["crowd"])
    s0, s1 = labels.segments
    steps = [
        put(1.0, (s0, "c"), (s1, "c")),
        put(np.nan, (s0, "c"), (s0, "a")),
        put(1.0, (s0, "c")),
        put(0.0, (s1, "b")),
    ]
    final, audits = compose(labels, steps)
    assert [audit.rule for audit in audits] == ["put", "put-2", "put-3", "put-4"]
    assert [audit.cells for audit in audits] == [2, 2, 1, 1]
    assert final.frame().loc[s0].tolist()[1:] == [0.0, 1.0]
    assert np.isnan(final.frame().loc[s0, "a"])

    recorded = record(dataset, audits, "crowd", AT)
    sources = [f"relabel:{audit.rule}" for audit in audits]
    assert recorded.sources.loc[sources].to_dict("list") == {"closed": [False] * 4, "weak": [True] * 4}
    assert resolve(recorded, recorded.segments, [*sources[::-1], "crowd"]) == final
    assert resolve(recorded, recorded.segments, ["crowd"]) == labels
    assert resolve(recorded, recorded.segments, [sources[1], sources[0], "crowd"]) == audits[1].after
    assert len(dataset.annotations) == 2  # the data set that was given is as it was

    with pytest.raises(AudiotkError, match="'relabel:put' is there already"):
        record(recorded, audits[:1], "crowd")
    with pytest.raises(AudiotkError, match="'relabel:put' is there already"):
        record(dataset, [audits[0], audits[0]], "crowd")
    with pytest.raises(AudiotkError, match="source 'nobody' is not among"):
        record(dataset, audits, "nobody")


def test_no_rules(dataset):
    labels = resolve(dataset, dataset.segments, ["crowd"])
    assert compose(labels, []) == (labels, ())
    assert record(dataset, [], "crowd").annotations.equals(dataset.annotations)
