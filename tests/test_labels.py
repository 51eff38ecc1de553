"""Labels from annotations: against a slow reading, sample by sample in time."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import labels
from audiotk.tables import (
    AudiotkError,
    Dataset,
    make_annotations,
    make_segments,
    make_sources,
    make_windows,
)

CLASSES = ("bark", "howl", "whine")


def dataset(rows, sources, duration_s=4.0):
    """Two recordings; rows are (recording, start_s, end_s, class_name, value, source)."""
    recordings = pd.DataFrame(
        {"recording": ["a", "b"], "path": "x.wav", "duration_s": duration_s, "sr": 16000, "group": ["g", "h"]}
    )
    table = pd.DataFrame(rows, columns=["recording", "start_s", "end_s", "class_name", "value", "source"])
    unique = table.drop_duplicates(["recording", "start_s", "end_s"])
    segments = make_segments(unique["recording"].to_numpy(), unique["start_s"].to_numpy(), unique["end_s"].to_numpy())
    ids = [f"{r}@{s:.3f}-{e:.3f}" for r, s, e in zip(table.recording, table.start_s, table.end_s, strict=True)]
    annotations = make_annotations(ids, table["class_name"], table["value"], table["source"])
    split = pd.Series(["train", "test"], index=["a", "b"])
    return Dataset("toy", recordings, segments, annotations, split, CLASSES, sources)


def slow(data, windows, sources, inherit_weak, min_overlap, step=0.05):
    """The rules of `labels.resolve` on a grid of `step` seconds, cell by cell."""
    out = np.full((len(windows), len(CLASSES)), np.nan)
    where = data.segments.set_index("segment")
    for i, w in enumerate(windows.itertuples()):
        grid = np.arange(round(w.start_s / step), round(w.end_s / step))
        for j, name in enumerate(CLASSES):
            for source in sources:
                rows = data.annotations[data.annotations["source"] == source]
                rows = rows.assign(
                    **{c: where.loc[rows["segment"], c].to_numpy() for c in ("recording", "start_s", "end_s")}
                )
                rows = rows[rows["recording"] == w.recording]
                present, unsure, absent, heard = False, False, set(), set()
                for r in rows.itertuples():
                    steps = set(range(round(r.start_s / step), round(r.end_s / step)))
                    shared = steps & set(grid)
                    heard |= shared
                    if r.class_name != name or not shared:
                        continue
                    enough = len(shared) >= min_overlap * min(len(steps), len(grid)) - 1e-9
                    if data.sources.loc[source, "weak"]:
                        enough = shared == steps or (enough and inherit_weak)
                    if r.value == 1 and enough:
                        present = True
                    elif r.value == 1 or np.isnan(r.value):
                        unsure = True
                    else:
                        absent |= shared
                if present or unsure:
                    out[i, j] = 1.0 if present else np.nan
                    break
                if absent == set(grid) or (data.sources.loc[source, "closed"] and heard == set(grid)):
                    out[i, j] = 0.0
                    break
    return out


ranges = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 14),
    st.integers(1, 16),
    st.sampled_from(CLASSES),
    st.sampled_from([1.0, 0.0, np.nan]),
    st.sampled_from(["ann", "bob"]),
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ranges, min_size=1, max_size=14, unique_by=lambda r: (r[0], r[1], r[2], r[3], r[5])),
    flags=st.lists(st.sampled_from(["", "closed", "weak", "closed weak"]), min_size=2, max_size=2),
    inherit_weak=st.booleans(),
    min_overlap=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_resolve_equals_slow_reading(rows, flags, inherit_weak, min_overlap):
    rows = [(r, s * 0.25, min(s * 0.25 + d * 0.25, 4.0), c, v, source) for r, s, d, c, v, source in rows]
    rows = list({(*r[:4], r[5]): r for r in rows}.values())
    data = dataset(rows, make_sources(ann=flags[0], bob=flags[1]))
    windows = make_windows(data.recordings, 1.0, 0.5)
    got = labels.resolve(data, windows, ("ann", "bob"), inherit_weak=inherit_weak, min_overlap=min_overlap)
    expected = slow(data, windows, ("ann", "bob"), inherit_weak, min_overlap)
    np.testing.assert_array_equal(got.dense(), expected.astype(np.float32))


def test_clip_label_makes_every_window_a_bark_unless_told_otherwise():
    data = dataset([("a", 0, 4, "bark", 1.0, "scraped")], make_sources(scraped="closed weak"))
    windows = make_windows(data.recordings, 1.0)
    lie = labels.resolve(data, windows, ["scraped"]).frame()
    honest = labels.resolve(data, windows, ["scraped"], inherit_weak=False).frame()
    assert lie.loc["a@2.000-3.000"].tolist() == [1, 0, 0]
    assert np.isnan(honest.loc["a@2.000-3.000", "bark"])
    assert honest.loc["a@2.000-3.000", "howl"] == 0
    assert lie.loc["b@0.000-1.000"].isna().all()  # nobody looked at recording b


def test_boundary_of_a_range_is_unknown():
    data = dataset([("a", 0.9, 1.9, "bark", 1.0, "truth"), ("a", 0, 0.9, "bark", 0.0, "truth")], make_sources(truth=""))
    got = labels.resolve(data, make_windows(data.recordings, 1.0)).frame()["bark"]
    assert np.isnan(got["a@0.000-1.000"])  # 0.1 s of the bark
    assert got["a@1.000-2.000"] == 1
    assert np.isnan(got["a@2.000-3.000"])  # unheard


def test_overlapping_zero_ranges_do_not_count_twice():
    data = dataset([("a", 0, 0.6, "bark", 0.0, "truth"), ("a", 0.1, 0.7, "bark", 0.0, "truth")], make_sources(truth=""))
    assert np.isnan(labels.resolve(data, make_windows(data.recordings, 1.0)).frame().loc["a@0.000-1.000", "bark"])


def test_latest_annotation_wins_and_nothing_is_edited():
    data = dataset([("a", 0, 4, "bark", 1.0, "human:ann")], make_sources(**{"human:ann": ""}))
    later = make_annotations("a@0.000-4.000", "bark", 0.0, "human:ann", pd.Timestamp.now("UTC") + pd.Timedelta(hours=1))
    before = data.annotations.copy()
    changed = dataclasses.replace(data, annotations=pd.concat([later, data.annotations]))
    assert labels.resolve(changed, sources=["human:ann"]).frame().loc["a@0.000-4.000", "bark"] == 0
    pd.testing.assert_frame_equal(data.annotations, before)


def test_a_surer_source_overrides_only_what_it_decided():
    rows = [("a", 0, 4, "bark", 1.0, "scraped"), ("a", 0, 1, "bark", 0.0, "human:ann")]
    data = dataset(rows, make_sources(**{"scraped": "closed weak", "human:ann": ""}))
    got = labels.resolve(data, make_windows(data.recordings, 1.0), ["human:ann", "scraped"]).frame()["bark"]
    assert got["a@0.000-1.000"] == 0
    assert got["a@1.000-2.000"] == 1


def test_unknown_source_is_named():
    data = dataset([("a", 0, 4, "bark", 1.0, "truth")], make_sources(truth=""))
    with pytest.raises(AudiotkError, match=r"\['typo'\] are not among \['truth'\]"):
        labels.resolve(data, sources=["typo"])
    with pytest.raises(AudiotkError, match="min_overlap"):
        labels.resolve(data, min_overlap=0)


def test_millions_of_cells_stay_sparse():
    n = 50_000
    recordings = pd.DataFrame(
        {
            "recording": [f"r{i}" for i in range(n)],
            "path": "x",
            "duration_s": 10.0,
            "sr": 16000,
            "group": [str(i) for i in range(n)],
        }
    )
    segments = make_segments(recordings["recording"], 0.0, 10.0)
    names = [f"c{i}" for i in range(527)]
    annotations = make_annotations(segments["segment"], np.resize(names, n), 1.0, "audioset")
    split = pd.Series("train", index=recordings["recording"])
    data = Dataset("big", recordings, segments, annotations, split, names, make_sources(audioset="closed weak"))
    got = labels.resolve(data, segments, ["audioset"])
    assert got.cells.nnz == n
    assert got.default == 0


def test_clip_labels_name_the_class_that_lasts_longest():
    rows = [("a", 0, 1, "bark", 1.0, "truth"), ("a", 2, 3.5, "howl", 1.0, "truth"), ("b", 0, 4, "bark", 0.0, "truth")]
    data = labels.with_clip_labels(dataset(rows, make_sources(truth="")), "truth")
    got = labels.resolve(data, sources=["scraped"]).frame()
    assert got.loc["a@0.000-4.000"].tolist() == [0, 1, 0]
    assert got.loc["b@0.000-4.000"].tolist() == [0, 0, 0]
