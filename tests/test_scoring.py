"""Scoring: every sound is heard whole, once, in the same way, whoever does it and however often it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from toy_teacher import Toy, ToyTagger, heard_windows

from audiotk import audio
from audiotk.decode import stream_ranges
from audiotk.scores import open_scores
from audiotk.scoring import listen
from audiotk.scoring.hearing import ahead
from audiotk.scoring.windows import GRACE_S, cut_windows
from audiotk.tables import AudiotkError, make_segments, whole_recordings
from audiotk.teachers import Prompts
from audiotk.teachers.readings import Reading

PROMPTS = Prompts({"dog": ("dog barking",), "rain": ("rain", "heavy rain")}, "a sound of ", ("silence", "a room"))
HERE = Path(__file__).parent


def write_recordings(folder: Path, durations_s: list[float], sr: int = 11025, seed: int = 0) -> pd.DataFrame:
    """Noise of changing colour, one WAV a duration; a *recordings* table."""
    rng = np.random.default_rng(seed)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, duration_s in enumerate(durations_s):
        wave = np.cumsum(rng.normal(size=round(duration_s * sr)))
        wave = 0.3 * wave / np.abs(wave).max() + 0.02 * rng.normal(size=len(wave))
        path = folder / f"r{number:03}.wav"
        sf.write(path, wave, sr, subtype="PCM_16")
        rows.append((f"r{number:03}", str(path), len(wave) / sr, sr, f"g{number}"))
    return pd.DataFrame(rows, columns=["recording", "path", "duration_s", "sr", "group"])


@pytest.fixture
def recordings(tmp_path: Path) -> pd.DataFrame:
    return write_recordings(tmp_path / "sound", [1.2, 0.3, 2.0, 0.7, 1.0, 3.3])


# --- windows ----------------------------------------------------------------------------------------------------------


@given(
    spans=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 60_000)), min_size=1, max_size=5),
    window_ms=st.integers(100, 12_000),
    share=st.floats(0.05, 1.0),
)
def test_windows_cover_every_segment_and_stay_inside(
    spans: list[tuple[int, int]], window_ms: int, share: float
) -> None:
    sr, window_s = 1000, window_ms / 1000
    starts, lengths = np.array(spans).T / 1000
    segments = make_segments([f"r{i}" for i in range(len(spans))], starts, starts + lengths)
    windows = cut_windows(segments, sr, window_s, share * window_s)
    assert windows["row"].is_monotonic_increasing
    for row, mine in windows.groupby("row"):
        first, last = spans[int(row)][0], sum(spans[int(row)])  # type: ignore[call-overload]
        assert mine["first"].iloc[0] == first
        assert (np.diff(mine["first"]) > 0).all()
        assert ((mine["first"] >= first) & (mine["last"] <= last)).all()
        assert (mine["first"].to_numpy()[1:] <= mine["last"].to_numpy()[:-1]).all(), "a gap"
        assert last - mine["last"].iloc[-1] <= round(GRACE_S * sr)
        assert ((mine["last"] - mine["first"]) == min(round(window_s * sr), last - first)).all()


def test_microsoft_clap_hears_ten_seconds_twice() -> None:
    windows = cut_windows(make_segments(["a", "b", "c"], 0.0, [10.0, 7.04, 7.06]), 100, 7.0)
    assert windows.to_numpy().tolist() == [[0, 0, 700], [0, 300, 1000], [1, 0, 700], [2, 0, 700], [2, 6, 706]]


@pytest.mark.parametrize("hop_s", [0.0, -1.0, 0.6])
def test_a_hop_that_leaves_gaps_is_refused(recordings: pd.DataFrame, tmp_path: Path, hop_s: float) -> None:
    with pytest.raises(AudiotkError, match="0 < hop_s <= window_s"):
        listen(recordings, None, Toy(), tmp_path / "heard", hop_s=hop_s)


# --- reading files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("sr", [8000, 22050, 44100])
def test_streamed_ranges_are_those_of_load(tmp_path: Path, suffix: str, sr: int) -> None:
    path = tmp_path / f"x.{suffix}"
    sf.write(path, 0.2 * np.random.default_rng(0).normal(size=22050 * 6), 22050)
    ranges = [(0.0, 1.0), (0.5, 1.5), (0.5, 0.75), (3.0, 4.0), (3.2, 6.0)]
    for (start_s, end_s), wave in zip(ranges, stream_ranges(path, sr, ranges), strict=True):
        if suffix == "mp3":  # a seek leaves traces, so these are compared with the whole
            loaded = audio.load(path, sr)[0][round(start_s * sr) : round(end_s * sr)]
            np.testing.assert_allclose(wave, loaded, atol=1e-6)
        else:
            np.testing.assert_array_equal(wave, audio.load(path, sr, start_s, end_s)[0])


def test_an_hour_is_never_in_memory(tmp_path: Path) -> None:
    path, sr = tmp_path / "hour.flac", 16000
    with sf.SoundFile(path, "w", sr, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * sr, np.float32))
    columns = {"recording": "hour", "path": str(path), "duration_s": 3600.0, "sr": sr, "group": "g"}
    recordings = pd.DataFrame([columns])
    listen(recordings.assign(duration_s=1.0), None, Toy(), tmp_path / "first", progress=False)  # what loads only once
    tracemalloc.start()
    heard = listen(recordings, None, Toy(), tmp_path / "heard", progress=False, batch_size=32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(heard.windows) == 7200
    assert peak < 40e6  # the hour is 230 MB in float32


# --- the numbers ------------------------------------------------------------------------------------------------------


def twin(recordings: pd.DataFrame, segments: pd.DataFrame, teacher: Toy, hop_s: float, aggregate: str) -> np.ndarray:
    """Scores by a plain loop: P1's softmax of each segment."""
    paths = recordings.set_index("recording")["path"]
    vectors = (
        teacher.embed_text(["a sound of dog barking"]),
        teacher.embed_text(["a sound of rain", "a sound of heavy rain"]),
    )
    classes = np.stack([v.astype(float).mean(0) / np.linalg.norm(v.astype(float).mean(0)) for v in vectors])
    table = []
    for _, row in segments.iterrows():
        windows, start = [], row["start_s"]
        while True:
            wave, _ = audio.load(paths[row["recording"]], 8000, start, min(start + 0.5, row["end_s"]))
            windows.append(teacher.embed_audio(np.pad(wave, (0, 4000 - len(wave)))[None])[0].astype(float))
            if row["end_s"] - start - 0.5 <= GRACE_S:
                break
            start = min(start + hop_s, row["end_s"] - 0.5)
        told = np.stack(windows)
        told = told.mean(0, keepdims=True) if aggregate == "embedding" else told
        cosines = told / np.linalg.norm(told, axis=1, keepdims=True) @ classes.T
        shares = np.exp(20 * cosines) / np.exp(20 * cosines).sum(1, keepdims=True)
        table.append(shares.max(0) if aggregate == "max" else shares.mean(0))
    return np.stack(table)


@pytest.mark.parametrize("aggregate", ["embedding", "mean", "max"])
def test_scores_equal_a_plain_loop(recordings: pd.DataFrame, tmp_path: Path, aggregate: str) -> None:
    segments = make_segments(["r005", "r000", "r005", "r001"], [0.0, 0.1, 1.0, 0.0], [3.3, 1.2, 2.25, 0.3])
    heard = listen(recordings, segments, Toy(), tmp_path / "heard", hop_s=0.25, progress=False)
    found = heard.scores(PROMPTS, aggregate=aggregate)
    assert list(found.index) == list(segments["segment"])
    assert list(found.columns) == ["dog", "rain"]
    np.testing.assert_allclose(found, twin(recordings, segments, Toy(), 0.25, aggregate), atol=1e-6)


def test_nothing_depends_on_threads_and_little_on_batches(recordings: pd.DataFrame, tmp_path: Path) -> None:
    def values(name: str, **options: int) -> np.ndarray:
        return listen(recordings, None, Toy(), tmp_path / name, hop_s=0.1, progress=False, **options).values

    first = values("a")
    np.testing.assert_array_equal(first, values("b"))
    np.testing.assert_array_equal(first, values("c", threads=7))
    np.testing.assert_array_equal(first, values("d", shard=5))
    for size in (1, 3, 64):
        np.testing.assert_allclose(first, values(f"e{size}", batch_size=size), atol=1e-5)


def test_a_tagger_gives_its_own_classes_or_pools_them(recordings: pd.DataFrame, tmp_path: Path) -> None:
    heard = listen(recordings, None, ToyTagger(), tmp_path / "heard", progress=False)
    own = heard.scores()
    assert list(own.columns) == ["loud", "low", "high"]
    pooled = heard.scores(Prompts({"pitch": ("low", "high"), "level": "loud"}), aggregate="max")
    values = heard.values[heard.windows["row"] == 2]
    assert pooled["pitch"].iloc[2] == pytest.approx(values[:, 1:].max())
    with pytest.raises(AudiotkError, match="has no class 'mid'"):
        heard.scores(Prompts({"pitch": ("mid",)}))
    with pytest.raises(AudiotkError, match="use 'mean' or 'max'"):
        heard.scores(aggregate="embedding")
    with pytest.raises(AudiotkError, match="no embeddings"):
        heard.embeddings()


def test_scores_keep_what_they_depend_on(recordings: pd.DataFrame, tmp_path: Path) -> None:
    heard = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    reading = Reading("background", 7.0)
    heard.write_scores(tmp_path / "s.parquet", PROMPTS, reading, "max", {"dog": 0.2, "rain": 0.4})
    found = open_scores(tmp_path / "s.parquet")
    assert Reading(**found.about["reading"]) == reading
    assert Prompts(**found.about["prompts"]) == PROMPTS
    assert found.about["thresholds"] == {"dog": 0.2, "rain": 0.4}
    assert found.about["aggregate"] == "max"
    assert found.about["teacher"]["checksum"] == found.about["teacher"]["heard"]["checksum"] == "a"
    written = pd.read_parquet(tmp_path / "s.parquet").set_index("segment")
    np.testing.assert_allclose(written, heard.scores(PROMPTS, reading, "max"), atol=1e-6)
    with pytest.raises(AudiotkError, match="class 'rain' has none"):
        heard.write_scores(tmp_path / "t.parquet", PROMPTS, thresholds={"dog": 0.2})


# --- nothing twice ----------------------------------------------------------------------------------------------------


def test_what_was_heard_is_not_heard_again(recordings: pd.DataFrame, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "heard"
    teacher = Toy(log=str(log))
    first = listen(recordings, None, teacher, out, progress=False)
    count = heard_windows(log)
    assert count == len(first.windows)
    again = listen(recordings, None, teacher, out, progress=False)
    assert heard_windows(log) == count
    np.testing.assert_array_equal(first.values, again.values)
    half = listen(recordings, None, teacher, out, hop_s=0.25, progress=False)  # every other window is an old one
    assert heard_windows(log) - count < len(half.windows)
    (tmp_path / "sound").rename(tmp_path / "moved")
    moved = recordings.assign(path=recordings["path"].str.replace("/sound/", "/moved/"))
    count = heard_windows(log)
    np.testing.assert_array_equal(listen(moved, None, teacher, out, progress=False).values, first.values)
    assert heard_windows(log) == count, "a folder that was moved is known by its checksums"


def test_other_weights_and_changed_files_are_heard_anew(recordings: pd.DataFrame, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "heard"
    first = listen(recordings, None, Toy(log=str(log)), out, progress=False)
    count = heard_windows(log)
    listen(recordings, None, Toy("b", log=str(log)), out, progress=False)
    assert heard_windows(log) == 2 * count
    assert len(list(out.iterdir())) == 2
    path = recordings["path"][2]
    wave, sr = sf.read(path)
    sf.write(path, wave[::-1], sr, subtype="PCM_16")  # as long as before
    again = listen(recordings, None, Toy(log=str(log)), out, progress=False)
    assert heard_windows(log) == 2 * count + 4
    mine = first.windows["row"].to_numpy() == 2
    assert (np.abs(again.values[mine] - first.values[mine]).max(axis=1) > 1e-4).all()
    np.testing.assert_array_equal(again.values[~mine], first.values[~mine])


def test_one_sound_under_two_names_and_overlapping_segments(tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "sound", [2.0])
    twice = pd.concat([recordings, recordings.assign(recording="copy")], ignore_index=True)
    segments = make_segments(["r000", "copy", "r000"], [0.0, 0.0, 0.5], [2.0, 2.0, 1.5])
    log = tmp_path / "log"
    heard = listen(twice, segments, Toy(log=str(log)), tmp_path / "heard", progress=False)
    assert heard_windows(log) == 4
    scores = heard.scores(PROMPTS)
    np.testing.assert_array_equal(scores.iloc[0], scores.iloc[1])


# --- bad files, bad disks ---------------------------------------------------------------------------------------------


def test_bad_files_are_reported_and_the_others_heard(recordings: pd.DataFrame, tmp_path: Path) -> None:
    Path(recordings["path"][1]).write_bytes(b"no sound at all")
    Path(recordings["path"][3]).write_bytes(b"")
    whole = Path(recordings["path"][5]).read_bytes()
    Path(recordings["path"][5]).write_bytes(whole[: len(whole) // 2])
    Path(recordings["path"][0]).unlink()
    with pytest.warns(UserWarning, match="could not hear 4 recording"):
        heard = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    assert list(heard.segments["recording"]) == ["r002", "r004"]
    assert list(heard.problems["recording"]) == ["r000", "r001", "r003", "r005"]
    for reason, word in zip(
        heard.problems["reason"], ["no such file", "not a sound", "empty", "truncated"], strict=True
    ):
        assert word in reason
    assert list(heard.scores(PROMPTS).index) == list(heard.segments["segment"])
    Path(recordings["path"][5]).write_bytes(whole)  # mended: heard now, and only this one
    with pytest.warns(UserWarning, match="could not hear 3 recording"):
        again = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    assert list(again.segments["recording"]) == ["r002", "r004", "r005"]


def test_nan_of_a_teacher_is_a_problem_of_that_recording(recordings: pd.DataFrame, tmp_path: Path) -> None:
    loud = 0.9 * np.sign(np.sin(np.arange(8000)))
    sf.write(recordings["path"][4], loud, 8000)
    with pytest.warns(UserWarning, match="gives NaN"):
        heard = listen(recordings, None, Toy(nan_above=0.8), tmp_path / "heard", progress=False)
    assert list(heard.problems["recording"]) == ["r004"]


def test_what_a_teacher_refuses_does_not_end_the_run(recordings: pd.DataFrame, tmp_path: Path) -> None:
    class Picky(Toy):
        def embed_audio(self, waves: np.ndarray) -> np.ndarray:
            if np.abs(waves).max() > 0.8:
                raise AudiotkError("too loud")
            return super().embed_audio(waves)

    sf.write(recordings["path"][4], 0.9 * np.sign(np.sin(np.arange(8000))), 8000)
    with pytest.warns(UserWarning, match="refuses a window"):
        heard = listen(recordings, None, Picky(), tmp_path / "heard", progress=False, batch_size=64)
    assert list(heard.problems["recording"]) == ["r004"]
    assert "refuses a window of it: too loud" in heard.problems["reason"][0]
    whole = listen(recordings.drop(index=4), None, Toy(), tmp_path / "toy", progress=False)
    np.testing.assert_allclose(heard.values, whole.values, atol=1e-5)


def test_segments_beside_a_fault_are_kept(tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "sound", [3.0])
    path, log = Path(recordings["path"][0]), tmp_path / "log"
    flac = path.with_suffix(".flac")
    sf.write(flac, *sf.read(path))
    data = flac.read_bytes()
    flac.write_bytes(data[: len(data) * 2 // 3])  # the header still says three seconds
    recordings["path"] = str(flac)
    segments = make_segments("r000", [0.0, 1.0, 2.5], [1.0, 1.5, 3.0])
    with pytest.warns(UserWarning, match="could not hear 1 recording"):
        heard = listen(recordings, segments, Toy(log=str(log)), tmp_path / "heard", progress=False)
    assert list(heard.segments["start_s"]) == [0.0, 1.0]
    count = heard_windows(log)
    with pytest.warns(UserWarning, match="could not hear 1 recording"):
        listen(recordings, segments, Toy(log=str(log)), tmp_path / "heard", progress=False)
    assert heard_windows(log) == count, "what was heard beside the fault is kept"
    with pytest.raises(AudiotkError, match="end_s within the recording"):
        listen(recordings, make_segments("r000", 0.0, 5.0), Toy(), tmp_path / "heard")


def test_a_reason_is_that_of_now(recordings: pd.DataFrame, tmp_path: Path) -> None:
    path = Path(recordings["path"][2])
    states = ((None, "no such file"), (b"junk", "not a sound file"), (b"", "is empty"), (None, "no such file"))
    for content, told in states:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.warns(UserWarning, match=told):
            listen(recordings, None, Toy(), tmp_path / "heard", progress=False)


def test_what_was_read_before_stays_when_a_file_changes(recordings: pd.DataFrame, tmp_path: Path) -> None:
    first = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    before = listen(recordings, None, Toy(), tmp_path / "other", progress=False).values
    for path in recordings["path"]:
        wave, sr = sf.read(path)
        sf.write(path, wave[::-1], sr, subtype="PCM_16")
    listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    np.testing.assert_array_equal(first.values, before)  # read from the disk only now


def test_files_of_equal_size_are_not_read_twice(
    recordings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = write_recordings(tmp_path / "same", [1.0] * 8)
    listen(same[:4], None, Toy(), tmp_path / "heard", progress=False)
    read: list[str] = []
    monkeypatch.setattr("audiotk.scoring.plan._checksum", lambda path: read.append(path) or "?")
    listen(same, None, Toy(), tmp_path / "heard", progress=False)
    assert read == []


def test_a_long_recording_is_kept_in_pieces_and_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = write_recordings(tmp_path / "sound", [6.0, 1.0])
    whole = listen(recordings, None, Toy(), tmp_path / "whole", progress=False)
    scores = whole.scores(PROMPTS)
    monkeypatch.setattr("audiotk.scoring.plan.PIECE", 5)
    monkeypatch.setattr("audiotk.scoring.heard.BLOCK", 16)
    pieces = listen(recordings, None, Toy(), tmp_path / "pieces", progress=False, shard=5)
    assert len(pieces.paths) == 3
    np.testing.assert_allclose(pieces.values, whole.values, atol=1e-5)
    pd.testing.assert_frame_equal(pieces.scores(PROMPTS), scores, atol=1e-5)
    many = listen(recordings, make_segments("r000", np.arange(5), np.arange(5) + 1.0), Toy(), tmp_path / "pieces")
    pd.testing.assert_index_equal(many.scores(PROMPTS).index, pd.Index(many.segments["segment"]))


def test_nothing_that_can_be_heard_is_an_error(tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "sound", [1.0])
    Path(recordings["path"][0]).write_bytes(b"x")
    with pytest.raises(AudiotkError, match=r"none of 1 segments can be heard; first: .*not a sound file"):
        listen(recordings, None, Toy(), tmp_path / "heard", progress=False)


def test_a_damaged_part_is_made_again(recordings: pd.DataFrame, tmp_path: Path) -> None:
    first = listen(recordings, None, Toy(), tmp_path / "heard", progress=False, shard=3)
    part = first.paths[0]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged and will be made again"):
        again = listen(recordings, None, Toy(), tmp_path / "heard", progress=False, shard=3)
    np.testing.assert_array_equal(first.values, again.values)


def test_a_teacher_without_a_checksum_is_refused(recordings: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match="expected a name, a checksum"):
        listen(recordings, None, Toy(""), tmp_path / "heard", progress=False)


def test_odd_folders_and_relative_paths(
    recordings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    monkeypatch.chdir(tmp_path)
    relative = recordings.assign(path=recordings["path"].map(lambda path: os.path.relpath(path, tmp_path)))
    log = tmp_path / "log"
    again = listen(relative, None, Toy(log=str(log)), "heard", progress=False)
    assert heard_windows(log) == 0
    odd = listen(relative, None, Toy(), "audio=x [1]/path=y", progress=False)  # no partitions of a data set
    for found in (again, odd, listen(relative, None, Toy(), "audio=x [1]/path=y", progress=False)):
        np.testing.assert_array_equal(found.values, whole.values)


def test_a_folder_of_another_teacher_is_refused(recordings: pd.DataFrame, tmp_path: Path) -> None:
    heard = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    about = heard.parts.folder / "about.json"
    about.write_text(about.read_text().replace('"a"', '"b"'))
    with pytest.raises(AudiotkError, match="holds what another teacher heard"):
        listen(recordings, None, Toy(), tmp_path / "heard", progress=False)


def test_a_full_disk_loses_nothing_that_was_written(
    recordings: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, written = tmp_path / "log", []
    real = pq.write_table

    def full(table: object, path: Path, **options: object) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        real(table, path, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(AudiotkError, match="No space left on device"):
        listen(recordings, None, Toy(log=str(log)), tmp_path / "heard", progress=False, shard=4)
    monkeypatch.undo()
    before = heard_windows(log)
    heard = listen(recordings, None, Toy(log=str(log)), tmp_path / "heard", progress=False, shard=4)
    assert heard_windows(log) < before + len(heard.windows)
    assert not list(heard.parts.folder.glob(".*"))


def test_an_error_in_a_reader_comes_out_and_stops_the_threads() -> None:
    def work(item: int) -> object:
        yield from range(100)
        if item == 2:
            raise ZeroDivisionError
        yield item

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(item for item, _ in ahead(range(50), work, 3))  # type: ignore[arg-type]
    assert sorted(set(seen)) in ([], [0, 1, 2])
    next(ahead(range(50), work, 3))  # type: ignore[arg-type]
    deadline = time.time() + 20
    while threading.active_count() > 1 and any("ThreadPool" in t.name for t in threading.enumerate()):
        assert time.time() < deadline, "threads of a reader that is gone still run"
        time.sleep(0.05)


# --- killed -----------------------------------------------------------------------------------------------------------


def rows_of(folder: Path) -> pd.DataFrame:
    """All windows that the parts of a folder hold."""
    return pd.concat([pq.read_table(path).to_pandas() for path in sorted(folder.glob("*/part-*.parquet"))])


def test_a_killed_run_goes_on_with_nothing_twice_and_nothing_missing(tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "sound", [1.5] * 24)
    recordings.to_parquet(tmp_path / "recordings.parquet")
    whole = listen(recordings, None, Toy(), tmp_path / "whole", progress=False, shard=6)
    script = (
        "import sys, pandas as pd; from toy_teacher import Toy; from audiotk.scoring import listen; "
        "listen(pd.read_parquet(sys.argv[1]), None, Toy(slow_s=0.02), sys.argv[2], shard=6, progress=False)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "recordings.parquet"), str(tmp_path / "killed")]
    rng = np.random.default_rng(0)
    for _ in range(3):
        before = len(list((tmp_path / "killed").glob("*/part-*")))
        run = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(HERE)})
        while run.poll() is None and len(list((tmp_path / "killed").glob("*/part-*"))) <= before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        run.kill()
        assert run.wait() == -signal.SIGKILL, "it was to be killed, but ended by itself"
    heard = listen(recordings, None, Toy(), tmp_path / "killed", progress=False, shard=6)
    np.testing.assert_allclose(heard.values, whole.values, atol=1e-5)
    rows = rows_of(tmp_path / "killed")
    assert not rows[["audio", "first", "last"]].duplicated().any()
    assert len(rows) == len(whole.windows)


# --- a cluster --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiotk.scoring.cluster import local
    from audiotk.teachers import load

    monkeypatch.setenv("PYTHONPATH", str(HERE))
    recordings = write_recordings(tmp_path / "sound", [2.0] * 20)
    Path(recordings["path"][7]).write_bytes(b"no sound")
    log = tmp_path / "log"
    with pytest.warns(UserWarning, match="could not hear 1 recording"):
        whole = listen(recordings, None, Toy(), tmp_path / "whole", progress=False, shard=4)
    killed: list[int] = []

    def kill_one(client: object) -> None:
        while heard_windows(log) < 6:
            time.sleep(0.02)
        pids = client.run(os.getpid)  # type: ignore[attr-defined]
        killed.append(int(log.read_text().split()[-2]))
        assert killed[0] in pids.values()
        os.kill(killed[0], signal.SIGKILL)

    with local(3) as client:
        assert len(client.nthreads()) == 3
        teacher = load("toy_teacher:Toy", slow_s=0.05, log=str(log))
        hand = threading.Thread(target=kill_one, args=(client,))
        hand.start()
        with pytest.warns(UserWarning, match="could not hear 1 recording"):
            heard = listen(
                recordings, None, teacher, tmp_path / "c", client=client, progress=False, shard=4, batch_size=4
            )
        hand.join()
        np.testing.assert_allclose(heard.values, whole.values, atol=1e-5)
        rows = rows_of(tmp_path / "c")
        assert len(rows[rows["reason"].isna()]) == len(whole.windows) == 76
        assert not rows[["path", "first", "last"]].duplicated().any()
        workers = {line.split()[0] for line in log.read_text().splitlines()}
        assert len(workers) >= 2
        assert heard_windows(log) <= 76 + 2 * 8, "a dead worker costs what it had not finished, no more"
        # what is not loaded by name goes to the workers as it is
        thrown = listen(recordings[:3], None, Toy("z"), tmp_path / "d", client=client, progress=False)
        np.testing.assert_allclose(thrown.values, whole.values[:12], atol=1e-5)


def test_a_worker_with_other_weights_is_refused(recordings: pd.DataFrame, tmp_path: Path) -> None:
    from audiotk.scoring import cluster
    from audiotk.scoring.hearing import Job

    job = Job(recordings["path"][0], ((0, 4000),))
    task = cluster.Task(("toy_teacher:Toy", {"weights": "b"}), "another key", str(tmp_path), 8, 1)
    with pytest.raises(AudiotkError, match="other weights or options than who asks"):
        cluster._hear([job], task, None)


def test_whole_recordings_are_the_default(recordings: pd.DataFrame, tmp_path: Path) -> None:
    heard = listen(recordings, None, Toy(), tmp_path / "heard", progress=False)
    pd.testing.assert_frame_equal(heard.segments, whole_recordings(recordings))
    with pytest.raises(AudiotkError, match="batch_size and shard of 1 or more"):
        listen(recordings, None, Toy(), tmp_path / "heard", batch_size=0)
    with pytest.raises(AudiotkError, match="a recording that is in the recordings table"):
        listen(recordings, make_segments("elsewhere", 0, 1), Toy(), tmp_path / "heard")
