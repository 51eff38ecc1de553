"""AudioSet as P2 has it: 80/10/10 by video, and an excerpt in which rare labels come first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiotk import datasets
from audiotk.datasets.raters import mini_ontology
from audiotk.experiments import audioset_relabeling, hierarchies, transfer
from audiotk.experiments.hierarchies import excerpt_of, redrawn
from audiotk.tables import AudiotkError, Dataset, make_annotations, make_sources, whole_recordings

NODES = ["Bark", "Dog", "Music", "Howl"]


def sample(videos: int, each: int = 1) -> Dataset:
    """`each` segments of each video, with labels at random; the later half of the videos is "unbalanced"."""
    names = [(f"v{k:04d}_{n}", f"v{k:04d}", k >= videos // 2) for k in range(videos) for n in range(each)]
    table = pd.DataFrame(names, columns=["recording", "group", "unbalanced"]).assign(path="", duration_s=10.0, sr=1)
    segments = whole_recordings(table)
    rng = np.random.default_rng(0)
    share = np.array([0.6, 0.3, 0.04, 0.01])
    has = rng.random((len(table), 4)) < share
    has[~has.any(axis=1), 0] = True
    row, column = np.nonzero(has)
    notes = make_annotations(segments["segment"].array[row], np.array(NODES)[column], 1.0, "audioset")
    split = pd.Series("train", index=table["recording"])
    return Dataset("audioset", table, segments, notes, split, NODES, make_sources(audioset="closed weak"))


def shuffled(dataset: Dataset, seed: int = 1) -> Dataset:
    """The same rows in another order."""
    tables = {
        name: getattr(dataset, name).sample(frac=1, random_state=seed)
        for name in ("recordings", "segments", "annotations", "split")
    }
    return replace(dataset, **tables)


def counts(dataset: Dataset) -> pd.Series:
    return dataset.annotations["class_name"].value_counts().reindex(NODES, fill_value=0)


@pytest.mark.parametrize("each", [1, 3])
def test_eighty_ten_ten_by_video_whatever_the_order_of_rows(each: int) -> None:
    dataset = sample(200, each)
    drawn = redrawn(dataset)
    videos = drawn.recordings.assign(split=drawn.recordings["recording"].map(drawn.split)).groupby("group")["split"]
    assert (videos.nunique() == 1).all()
    assert videos.first().value_counts().to_dict() == {"train": 160, "val": 20, "test": 20}
    again = redrawn(shuffled(dataset))
    assert again.split.to_dict() == drawn.split.to_dict()
    assert redrawn(dataset, seed=1).split.to_dict() != drawn.split.to_dict()
    order = videos.first().sort_index()
    assert order.ne(order.shift()).sum() > 30  # not the first so many


def test_shares_of_few_videos_are_as_near_as_can_be() -> None:
    for n in (5, 11, 36):
        found = redrawn(sample(n)).split.value_counts()
        assert abs(found.get("train", 0) - 0.8 * n) <= 1
        assert found.sum() == n


def test_an_excerpt_keeps_the_small_sets_and_fills_up_the_rarest_class() -> None:
    dataset = sample(2000)
    kept = dataset.recordings["recording"][~dataset.recordings["unbalanced"]]
    small, all_ = counts(dataset.only(kept)), counts(dataset)
    room = int((all_ - small)["Howl"])
    found = excerpt_of(dataset, len(kept) + 30)
    assert len(found.recordings) == len(kept) + 30
    assert set(kept) <= set(found.recordings["recording"])
    assert counts(found)["Howl"] == all_["Howl"]  # there are fewer, and it stays the rarest
    assert 0 < room < 30
    assert counts(found)["Music"] - small["Music"] >= 30 - room - 5  # then it is the turn of the next
    assert set(excerpt_of(shuffled(dataset), len(kept) + 30).recordings["recording"]) == set(
        found.recordings["recording"]
    )
    other = excerpt_of(dataset, len(kept) + 30, seed=1)
    assert set(other.recordings["recording"]) != set(found.recordings["recording"])
    more = excerpt_of(dataset, len(kept) + 50)
    assert set(found.recordings["recording"]) < set(more.recordings["recording"])


def test_an_excerpt_is_never_less_than_the_small_sets_and_never_more_than_there_is() -> None:
    dataset = sample(60)
    kept = dataset.recordings["recording"][~dataset.recordings["unbalanced"]]
    assert set(excerpt_of(dataset, 3).recordings["recording"]) == set(kept)
    assert len(excerpt_of(dataset, 1000).recordings) == 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """AudioSet's files with the labels of the mini-ontology: 20 balanced, 10 of evaluation, 70 others."""
    ids = {node["name"]: node["id"] for node in mini_ontology()}
    (tmp_path / "ontology.json").write_text(json.dumps(mini_ontology()))
    rows = [f'{number},{ids[name]},"{name}"' for number, name in enumerate(NODES)]
    (tmp_path / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    sizes = {"balanced_train": 20, "eval": 10, "unbalanced_train": 70}
    for place, (name, count) in enumerate(sizes.items()):
        lines = [f'video{place}{k:05d},0,10,"{ids[NODES[(k + place) % 4]]}"' for k in range(count)]
        (tmp_path / f"{name}_segments.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def parts(case: hierarchies.Case) -> dict[str, int]:
    return case.dataset.split.value_counts().to_dict()


def test_what_p2_does_is_the_way_of_scale_paper(root: Path) -> None:
    paper, demo = (hierarchies.load("audioset", str(root), scale) for scale in ("paper", "demo"))
    assert parts(paper) == {"train": 80, "val": 10, "test": 10}
    assert parts(demo)["test"] == 10  # the evaluation set
    assert demo.dataset.split[demo.dataset.split == "test"].index.str.startswith("video1").all()
    asked = hierarchies.load("audioset", str(root), "demo", split="80-10-10")
    assert asked.dataset.split.to_dict() == paper.dataset.split.to_dict()
    assert parts(hierarchies.load("audioset", str(root), "paper", split="official")) == parts(demo)
    assert "split 80-10-10 by video, as in P2" in paper.told
    assert "80-10-10" not in demo.told
    counted = audioset_relabeling.load("audioset", str(root), "paper")  # 08 counts labels of all parts
    assert "split" not in counted.told
    assert parts(counted) == parts(demo)


def test_an_excerpt_is_told(root: Path) -> None:
    case = hierarchies.load("audioset", str(root), "paper", excerpt=50)
    assert len(case.labels.segments) == 50
    assert parts(case) == {"train": 40, "val": 5, "test": 5}
    assert "an excerpt of 50 of 100, rare labels first" in case.told
    assert "excerpt" not in hierarchies.load("audioset", str(root), "paper", excerpt=102_578).told


def test_the_file_of_a_segment_is_known(root: Path) -> None:
    table = datasets.load("audioset", root).recordings
    assert table.loc[table["unbalanced"], "group"].str.startswith("video2").all()
    assert int(table["unbalanced"].sum()) == 70


def test_wrong_settings_are_named(root: Path) -> None:
    with pytest.raises(AudiotkError, match=r"split: expected official or 80-10-10 .* got '90/10'"):
        transfer.load("audioset", str(root), "paper", "90/10")
    with pytest.raises(AudiotkError, match="embedded data have a split of their own"):
        transfer.load("embedded", "", "smoke", "official")
    with pytest.raises(AudiotkError, match="excerpt: expected a number of recordings, or 0 for all, got -1"):
        transfer.load("audioset", str(root), "paper", "", -1)
