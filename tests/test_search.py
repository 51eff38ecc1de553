"""Search is exact: equal to sorting all cosines, whatever the blocks, threads and storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import search as module
from audiotk.search import Embeddings, by_recording, search, sounds
from audiotk.tables import AudiotkError, make_segments


def make(n: int, dim: int = 8, dtype: str = "float16", seed: int = 0) -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    segments = make_segments([f"r{i % 7}" for i in range(n)], np.arange(n), np.arange(n) + 1.0)
    return Embeddings(vectors.astype(dtype), segments, {"teacher": "none"})


def twin(embeddings: Embeddings, query: np.ndarray, k: int) -> list[str]:
    """Ids by a plain sort."""
    cosines = embeddings.vectors.astype(np.float64) @ (query / np.linalg.norm(query))
    order = sorted(range(len(cosines)), key=lambda row: (-cosines[row], row))
    return list(embeddings.segments["segment"].iloc[order[:k]])


@settings(max_examples=50)
@given(
    n=st.integers(1, 300),
    k=st.integers(1, 40),
    block=st.integers(1, 64),
    threads=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_search_equals_a_plain_sort(n: int, k: int, block: int, threads: int, seed: int) -> None:
    embeddings = make(n, dtype="float32", seed=seed)
    queries = np.random.default_rng(seed + 1).normal(size=(3, 8))
    before, module.BLOCK = module.BLOCK, block
    try:
        found = search(embeddings, queries, k, threads)
    finally:
        module.BLOCK = before
    for number, query in enumerate(queries):
        mine = found[found["query"] == number]
        assert list(mine["rank"]) == list(range(1, min(k, n) + 1))
        assert list(mine["segment"]) == twin(embeddings, query, k)
        assert mine["similarity"].is_monotonic_decreasing


def test_equal_vectors_come_in_the_order_of_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 10)
    embeddings = Embeddings(np.ones((95, 4), np.float16) / 2, make(95).segments)
    found = search(embeddings, np.ones(4), 30, threads=3)
    assert list(found["segment"]) == list(embeddings.segments["segment"][:30])


def test_an_example_finds_itself_first_and_half_precision_finds_the_same(tmp_path: Path) -> None:
    full, half = make(1000, 64, "float32"), make(1000, 64, "float16")
    name = full.segments["segment"][17]
    assert search(full, [name], 1)["segment"][0] == name
    a, b = (set(search(one, [name], 10)["segment"]) for one in (full, half))
    assert len(a & b) >= 9
    loaded = Embeddings.load(half.save(tmp_path / "embeddings"))
    assert isinstance(loaded.vectors, np.memmap)
    assert loaded.about == {"teacher": "none"}
    pd.testing.assert_frame_equal(search(half, [name], 10), search(loaded, [name], 10))


def test_best_of_each_recording_and_its_sound(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.sin(np.arange(32000) / 9), 16000)
    segments = make_segments(["a", "a", "b"], [0.0, 1.0, 0.0], [1.0, 2.0, 1.0])
    embeddings = Embeddings(np.eye(3, dtype=np.float32), segments)
    found = search(embeddings, np.array([0.9, 0.5, 0.7]), 3)
    assert list(by_recording(found).index) == ["a", "b"]
    recordings = pd.DataFrame({"recording": ["a"], "path": [str(tmp_path / "a.wav")]})
    caption, wave = sounds(found[:1], recordings)[0]
    assert caption.startswith("a@0.000-1.000: 0.7")
    assert len(wave) == 16000
    with pytest.raises(AudiotkError, match="recording 'b'"):
        sounds(found, recordings)


def test_bad_queries_and_files(tmp_path: Path) -> None:
    embeddings = make(5)
    with pytest.raises(AudiotkError, match="queries of 8 numbers"):
        search(embeddings, np.ones(7))
    with pytest.raises(AudiotkError, match="k >= 1"):
        search(embeddings, np.ones(8), 0)
    for bad in (np.zeros(8), np.full(8, np.nan)):
        with pytest.raises(AudiotkError, match="no direction"):
            search(embeddings, bad)
    with pytest.raises(AudiotkError, match="segments that are there"):
        search(embeddings, ["nobody"])
    with pytest.raises(AudiotkError, match="one row a segment"):
        Embeddings(embeddings.vectors[:3], embeddings.segments)
    folder = embeddings.save(tmp_path / "e")
    np.save(folder / "vectors.npy", embeddings.vectors[:3])
    with pytest.raises(AudiotkError, match="do not belong together"):
        Embeddings.load(folder)
    np.save(folder / "vectors.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(AudiotkError, match=r"expected what Embeddings\.save"):
        Embeddings.load(folder)
    with pytest.raises(AudiotkError, match=r"expected what Embeddings\.save"):
        Embeddings.load(tmp_path / "nowhere")
    assert len(search(Embeddings(np.zeros((0, 4), np.float16), embeddings.segments[:0]), np.ones(4))) == 0
