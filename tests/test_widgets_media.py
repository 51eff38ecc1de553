"""Peaks, tiles and chunks against slow twins and known sounds; long, compressed, silent, broken and changing files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import audio
from audiotk.errors import AudiotkError
from audiotk.widgets import decoded
from audiotk.widgets import media as module
from audiotk.widgets.media import Media, NotYet, Shelf, mel_hz, peaks_of, to_int16
from audiotk.widgets.mel import tile_frames

SR = 16000
NOISE = (np.random.default_rng(0).standard_normal(3 * SR) * 0.1).astype(np.float32)


def written(path: Path, wave: np.ndarray, sr: int = SR, **kind: Any) -> Path:
    sf.write(path, wave, sr, **kind)
    return path


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Media:
    found = Media(written(tmp_path_factory.mktemp("media") / "noise.wav", NOISE))
    assert found.wait(timeout_s=30)
    return found


@pytest.fixture(scope="module")
def pcm(noise: Media) -> np.ndarray:
    return sf.read(noise.path, dtype="int16")[0]


# --- peaks ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 3 * SR - 2), st.integers(2, 3 * SR), st.integers(1, 900))
def test_peaks_miss_nothing_and_are_exact_when_short(
    noise: Media, pcm: np.ndarray, first: int, length: int, n: int
) -> None:
    last = min(first + length, len(pcm))
    found = noise.peaks(first / SR, last / SR, n)
    assert (found.start_s, found.end_s, found.until_s) == (first / SR, last / SR, last / SR)
    assert found.pairs.shape == (n, 2)
    edges = first + (last - first) * np.arange(n + 1) / n
    exact = (last - first) / n < 2 * module.BLOCK
    for part in range(0, n, max(1, n // 7)):
        if exact:
            low, high = int(edges[part]), max(int(edges[part]) + 1, int(edges[part + 1]))
            assert found.pairs[part].tolist() == [pcm[low:high].min(), pcm[low:high].max()]
        else:  # whole stored blocks: those that begin in this part
            low, high = int(edges[part] / 256) * 256, int(edges[part + 1] / 256) * 256
            high = high if part < n - 1 else -(-last // 256) * 256
            assert found.pairs[part].tolist() == [pcm[low:high].min(), pcm[low:high].max()]


def test_more_parts_than_samples_repeat_values(noise: Media, pcm: np.ndarray) -> None:
    found = noise.peaks(1.0, 1.0 + 3 / SR, 9)
    assert found.pairs[:, 0].tolist() == found.pairs[:, 1].tolist() == np.repeat(pcm[SR : SR + 3], 3).tolist()
    assert len(noise.peaks(0, 3, 10**6).pairs) == 4000


def test_quiet_sound_is_not_lost_to_rounding(tmp_path: Path) -> None:
    quiet = Media(written(tmp_path / "q.wav", NOISE * 1e-3))
    assert 2 <= quiet.peaks(0, 3, 10).pairs.max() <= 20


@pytest.mark.parametrize(
    "bad", [(-2.0, -1.0), (3.5, 4.0), (2.0, 2.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_ranges_outside_of_the_recording_are_refused(noise: Media, bad: tuple[float, float]) -> None:
    for ask in (lambda: noise.peaks(*bad, 10), lambda: noise.chunk(*bad)):
        with pytest.raises(AudiotkError, match=r"noise\.wav: expected a range"):
            ask()


def test_a_range_a_rounding_behind_the_end_is_put_on_it(tmp_path: Path) -> None:
    """A table of recordings may say 10.005 s where the file has 10.000."""
    found = Media(written(tmp_path / "n.wav", NOISE[: 16 * 512 * 5]))  # 2.56 s: tiles of 5.12 s, zoom 0, begin there
    end = found.duration_s
    chunk, start_s, end_s = found.chunk(end, end + 0.005)
    assert (len(chunk), start_s, end_s) == (1, end - 1 / SR, end)
    assert found.peaks(end + 0.01, end + 0.02, 5).pairs.shape == (5, 2)
    tile_end = Media(written(tmp_path / "t.wav", np.tile(NOISE, 2)[: int(5.12 * SR)]))
    assert tile_end.tile(0, 1).shape == (96, 1)
    for bad in ((end + 0.05, end + 1), (end, end), (end, end - 1)):
        with pytest.raises(AudiotkError, match="expected a range"):
            found.chunk(*bad)


# --- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sr", [8000, 16000, 44100])
def test_bands_are_those_of_librosa(sr: int) -> None:
    np.testing.assert_allclose(mel_hz(sr), librosa.mel_frequencies(98, fmin=0, fmax=sr / 2)[1:-1], rtol=1e-9)


def twin_column(pcm: np.ndarray, sr: int, zoom: int, frame: int) -> np.ndarray:
    """One column of a tile, the slow way: the loudest of the windows spread over the frame."""
    window, filters = module.analysis(sr)
    size, hop = len(window), 0.01 * 4**zoom * sr
    each = min(max(1, int(np.ceil(hop / size))), 32) if zoom else 1
    best = np.zeros(96)
    for part in range(each):
        centre = round((frame + (part + 0.5) / each) * hop)
        piece = np.zeros(size)
        for at in range(size):
            if 0 <= (place := centre - size // 2 + at) < len(pcm):
                piece[at] = pcm[place] / 32768
        best = np.maximum(best, np.abs(np.fft.rfft(piece * window)) ** 2 @ filters)
    level = 10 * np.log10(np.maximum(best, 1e-12))
    return np.clip((level + 90) * 255 / 80, 0, 255)[::-1]


@pytest.mark.parametrize(("zoom", "frame"), [(0, 0), (0, 150), (0, 299), (1, 3), (2, 18), (3, 4)])
def test_tiles_equal_a_slow_twin(noise: Media, pcm: np.ndarray, zoom: int, frame: int) -> None:
    found = noise.tile(zoom, 0)[:, frame]
    np.testing.assert_allclose(found, twin_column(pcm, SR, zoom, frame), atol=0.6)


def test_tiles_lie_on_one_grid(tmp_path: Path) -> None:
    """A tile looks the same whatever comes after it, and what was shown before."""
    wave = np.tile(NOISE, 4)
    whole, cut = Media(written(tmp_path / "a.wav", wave)), Media(written(tmp_path / "b.wav", wave[: 9 * SR]))
    assert whole.tile(0, 1).shape == (96, 512)
    assert cut.tile(0, 1).shape == (96, 900 - 512)
    np.testing.assert_array_equal(whole.tile(0, 1)[:, :380], cut.tile(0, 1)[:, :380])
    assert whole.tile(0, 1) is whole.tile(0, 1)  # kept


@pytest.mark.parametrize(("sr", "hz"), [(8000, 500.0), (16000, 1000.0), (44100, 6000.0), (96000, 30000.0), (300, 60.0)])
def test_a_sine_is_as_bright_as_it_is_loud_and_in_its_band(tmp_path: Path, sr: int, hz: float) -> None:
    wave = 10 ** (-30 / 20) * np.sin(2 * np.pi * hz * np.arange(2 * sr) / sr)
    picture = Media(written(tmp_path / "s.wav", wave, sr)).tile(0, 0)
    column = picture[::-1, 100].astype(float)
    assert abs(int(column.argmax()) - int(np.abs(mel_hz(sr) - hz).argmin())) <= 1
    assert column.max() * 80 / 255 - 90 == pytest.approx(-30, abs=2)


def test_silence_is_black_and_a_click_shows_at_every_zoom(tmp_path: Path) -> None:
    wave = np.zeros(60 * SR, np.float32)
    wave[40 * SR : 40 * SR + 800] = NOISE[:800] * 5
    found = Media(written(tmp_path / "c.wav", wave))
    for zoom in range(4):
        hop_s = 0.01 * 4**zoom
        index, frame = divmod(int(40.025 / hop_s), 512)
        picture = found.tile(zoom, index)
        assert picture[:, frame].max() > 100
        assert picture[:, max(frame - 12, 0) : max(frame - 10, 0)].max(initial=0) == 0


def test_frames_and_tiles_count_the_recording() -> None:
    assert tile_frames(5.0, 0, 0) == 500
    assert tile_frames(5.12, 0, 0) == 512
    assert tile_frames(5.125, 0, 1) == 1
    assert tile_frames(0.001, 3, 0) == 1
    for zoom, index in ((0, 1), (0, -1), (10, 0), (-1, 0)):
        with pytest.raises(AudiotkError, match="tile: expected"):
            tile_frames(5.0, zoom, index)


# --- sound ------------------------------------------------------------------------------------------------------------


def test_chunks_are_the_samples_of_the_file(noise: Media, pcm: np.ndarray) -> None:
    chunk, start_s, end_s = noise.chunk(1.00001, 2.5)
    np.testing.assert_array_equal(chunk, pcm[SR : int(2.5 * SR)])
    assert (start_s, end_s) == (1.0, 2.5)
    chunk, start_s, end_s = noise.chunk(2.9, 99)  # clipped
    np.testing.assert_array_equal(chunk, pcm[round(2.9 * SR) :])


def test_a_chunk_fits_into_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    found = Media(written(tmp_path / "a.wav", NOISE))
    chunk, start_s, end_s = found.chunk(1.0, 3.0)
    assert (len(chunk), start_s, end_s) == (1000, 1.0, 1.0 + 1000 / SR)


@pytest.mark.parametrize(("sr", "played"), [(96000, 48000), (250000, 48000), (50000, 48000), (4000, 8000), (300, 8000)])
def test_rates_that_no_browser_plays_are_resampled(tmp_path: Path, sr: int, played: int) -> None:
    hz = sr / 20 if sr < 8000 else 1000.0
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(2 * sr) / sr)
    found = Media(written(tmp_path / "r.wav", wave, sr))
    whole = audio.resample(wave.astype(np.float32), sr, played)
    for start, end in ((0.0, 2.0), (0.33, 1.1), (1.5, 2.0)):
        chunk, start_s, end_s = found.chunk(start, end)
        assert found.play_sr == played
        assert (start_s, end_s) == (pytest.approx(start, abs=0.005), pytest.approx(end, abs=0.005))
        first = round(start_s * played)
        inner = slice(played // 20, len(chunk) - played // 20)
        np.testing.assert_allclose(chunk[inner] / 32768, whole[first : first + len(chunk)][inner], atol=2e-3)


def test_stereo_is_mixed_down_and_loud_floats_are_clipped(tmp_path: Path) -> None:
    stereo = Media(written(tmp_path / "st.wav", np.stack([NOISE, -NOISE], axis=1)))
    assert np.abs(stereo.chunk(0, 3)[0]).max() <= 1
    loud = Media(written(tmp_path / "f.wav", np.array([2.0, -2.0, 0.5] * 100), subtype="FLOAT"))
    assert loud.chunk(0, 1)[0][:3].tolist() == [32767, -32768, 16384]


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac"])
@pytest.mark.parametrize("in_memory_s", [120.0, 0.5])
def test_compressed_sound_is_cut_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, in_memory_s: float
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_S", in_memory_s)
    monkeypatch.setattr(module, "STEP", 8192)  # several steps
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path / f"n.{suffix}", NOISE)
    whole, ended = to_int16(audio.load(path)[0]), threading.Event()
    found = Media(path, on_scanned=lambda _: ended.set())
    for first, last in ((30_000, 31_000), (100, 5000), (40_000, len(whole)), (0, 100)):
        chunk, *_ = found.chunk(first / SR, last / SR)
        np.testing.assert_allclose(chunk, whole[first:last], atol=suffix == "mp3")  # its decoder is not reproducible
    assert ended.wait(30)
    assert found.peaks(0, 3, 20).pairs[:, 1].max() == pytest.approx(whole.max(), abs=1)
    kept = list((tmp_path / "cache").glob("pcm/*.i16"))
    assert len(kept) == (in_memory_s < 1 and suffix != "flac")
    if kept:
        before = kept[0].stat().st_mtime_ns
        again = Media(path)
        np.testing.assert_allclose(again.chunk(1.0, 2.0)[0], whole[SR : 2 * SR], atol=suffix == "mp3")
        assert again.wait(timeout_s=30)
        assert kept[0].stat().st_mtime_ns == before


def test_what_is_decoded_is_answered_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", SR)
    gate, real = threading.Event(), module.read_frames

    def slow(handle: Any, path: Any, first: int, last: int) -> np.ndarray:
        if first >= SR:
            gate.wait(30)
        return real(handle, path, first, last)

    monkeypatch.setattr(module, "read_frames", slow)
    told: list[Media] = []
    found = Media(written(tmp_path / "n.ogg", NOISE), on_scanned=told.append)
    assert len(found.chunk(0.2, 0.8)[0]) == round(0.6 * SR)  # does not wait for the rest
    early = found.peaks(0, 3, 50, timeout_s=0.01)
    assert early.until_s == 1.0
    assert np.abs(early.pairs[:16]).min() > 0
    assert not early.pairs[18:].any()
    assert not found.wait(timeout_s=0)
    gate.set()
    assert found.wait(timeout_s=30)
    assert found.peaks(0, 3, 50).until_s == 3.0


class Gate:
    """Lets the first so many steps of a scan pass, and the rest when opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.opened, self.reads, real = threading.Event(), [0], module.read_frames

        def slow(handle: Any, path: Any, first: int, last: int) -> np.ndarray:
            if first >= at:
                assert self.opened.wait(60)
            self.reads.append(first)
            return real(handle, path, first, last)

        monkeypatch.setattr(module, "STEP", SR)
        monkeypatch.setattr(module, "read_frames", slow)


def test_the_wait_for_what_is_not_decoded_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, called = Gate(monkeypatch, SR), threading.Event()
    found = Media(written(tmp_path / "n.ogg", NOISE), patience_s=0.01)
    assert found.wait(SR, 60)
    assert len(found.chunk(0, 1)[0]) == SR
    asks = (lambda: found.chunk(0.5, 2.0), lambda: found.tile(0, 0), lambda: found.peaks(1.5, 2, 900))
    for ask in asks:
        with pytest.raises(NotYet, match=r"s of n\.ogg is still being decoded; try again") as told:
            ask()
    assert (told.value.media, told.value.frames) == (found, 2 * SR)
    early = threading.Event()
    found.when_read(SR, early.set)
    assert early.is_set()  # was read before
    found.when_read(2 * SR, called.set)
    assert not called.is_set()
    gate.opened.set()
    assert called.wait(60)
    assert found.wait(timeout_s=60)
    for ask in asks:
        ask()


def test_what_waits_hears_of_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, called = Gate(monkeypatch, SR), threading.Event()
    found = Media(written(tmp_path / "n.ogg", NOISE), patience_s=0.01)
    found.when_read(3 * SR, called.set)
    monkeypatch.setattr(module, "peaks_of", lambda *_: (_ for _ in ()).throw(AudiotkError("broken")))
    gate.opened.set()
    assert called.wait(60)
    with pytest.raises(AudiotkError, match="broken"):
        found.chunk(2, 3)


@pytest.mark.parametrize("in_memory_s", [120.0, 0.5])
def test_the_scan_of_what_is_put_away_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory_s: float) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_S", in_memory_s)
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "cache"))
    gate, called, told = Gate(monkeypatch, SR), threading.Event(), []
    shelf = Shelf(size=1, on_scanned=lambda media: told.append(media.path.name))
    found = shelf.get(written(tmp_path / "n.ogg", NOISE))
    assert found.wait(SR, 60)
    scans = [thread for thread in threading.enumerate() if thread.name == "audiotk-scan"]
    found.when_read(3 * SR, called.set)
    written(tmp_path / "m.wav", NOISE[:100])
    shelf.get(tmp_path / "m.wav")
    assert called.wait(60)  # who waits may ask again, of a recording opened anew
    gate.opened.set()
    for thread in scans:
        thread.join(60)
    assert "n.ogg" not in told
    assert 2 * SR not in gate.reads
    assert not list((tmp_path / "cache").rglob("*.i16"))
    with pytest.raises(NotYet):
        found.chunk(2, 3)
    assert len(shelf.get(tmp_path / "n.ogg").chunk(0, 1)[0]) == SR
    shelf.close()


def test_old_decoded_files_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "CACHE_BYTES", 1000)
    folder = tmp_path / "pcm"
    folder.mkdir()
    for age, name in enumerate(("new.i16", "old.i16", "other.txt", ".killed.i16")):
        (folder / name).write_bytes(bytes(400))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    (folder / ".being-written.i16").write_bytes(bytes(400))
    decoded.make_room(folder, 500)
    assert {path.name for path in folder.iterdir()} == {"new.i16", "other.txt", ".being-written.i16"}


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_silence_is_a_problem_and_sound_is_not(tmp_path: Path, noise: Media) -> None:
    for value, words in ((0.0, "is silent"), (0.25, "is constant")):
        found = Media(written(tmp_path / "z.wav", np.full(SR, value)))
        assert found.wait(timeout_s=30)
        assert words in (found.problem() or "")
    assert noise.problem() is None


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated"])
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not sound")
    elif kind == "truncated":
        path.write_bytes(written(tmp_path / "y.wav", NOISE).read_bytes()[:5000])
    with pytest.raises(AudiotkError, match=r"x\.wav"):
        Media(path)


def test_a_fault_in_the_middle_is_told_and_the_rest_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", SR)
    wave = NOISE.copy()
    wave[int(1.5 * SR)] = np.nan
    found = Media(written(tmp_path / "nan.wav", wave, subtype="FLOAT"))
    found.wait()
    assert "NaN" in (found.problem() or "")
    assert len(found.chunk(0.0, 1.0)[0]) == SR
    assert found.peaks(0.0, 3.0, 20).until_s == 1.0
    with pytest.raises(AudiotkError, match="NaN"):
        found.chunk(1.0, 2.0)
    with pytest.raises(AudiotkError, match="NaN"):
        found.peaks(1.2, 3.0, 3)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_S", 0.5)
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "file"))
    ended = threading.Event()
    found = Media(written(tmp_path / "n.ogg", NOISE), on_scanned=lambda _: ended.set())
    assert ended.wait(30)
    assert not found.wait(timeout_s=0)
    assert "cannot be" in (found.problem() or "")
    with pytest.raises(AudiotkError, match="cannot be"):
        found.chunk(0, 1)


def test_a_file_that_changes_while_open_is_not_mixed(tmp_path: Path) -> None:
    path, shelf = written(tmp_path / "n.wav", NOISE), Shelf(size=2)
    first = shelf.get(path)
    assert shelf.get(path) is first
    written(path, NOISE[:SR])
    with pytest.raises(AudiotkError, match="changed on the disk"):
        shelf.get(path)
    second = shelf.get(path, again=True)
    assert second.duration_s == 1.0
    assert shelf.get(path) is second
    path.unlink()
    with pytest.raises(AudiotkError, match="No such file"):
        shelf.get(path)
    for name in ("a", "b"):
        shelf.get(written(tmp_path / f"{name}.wav", NOISE))
    assert len(shelf._open) == 2


# --- snapping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.8, 0.97, 1.0, 1.2, 1.45])
@pytest.mark.parametrize("floor_db", [-60, -200])
def test_edges_snap_to_where_the_sound_begins_and_ends(tmp_path: Path, at: float, floor_db: float) -> None:
    wave = 10 ** (floor_db / 20) * NOISE * 10
    wave[SR : 2 * SR] += 0.3 * np.sin(2 * np.pi * 440 * np.arange(SR) / SR).astype(np.float32)
    found = Media(written(tmp_path / "t.wav", wave))
    assert found.snap(at, "start") == pytest.approx(1.0, abs=0.012)
    assert found.snap(3.0 - at, "end") == pytest.approx(2.0, abs=0.012)
    assert found.snap(0.2, "start") is None  # too far


def test_noise_without_an_edge_moves_nothing(noise: Media) -> None:
    assert noise.snap(1.5, "start") is None
    assert peaks_of(np.arange(10, dtype=np.int16), np.array([0, 4])).tolist() == [[0, 3], [4, 9]]
