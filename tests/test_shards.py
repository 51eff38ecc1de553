"""Decoded sound on the disk: the waves of load_segments, written once, kept over a kill, never stale or clipped."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from audiotk import audio, shards
from audiotk.shards import StoredWaves, to_int16
from audiotk.tables import AudiotkError, make_windows, whole_recordings

SR = 8000
CLOSE = 2**-16 + 2e-6  # rounding, and what the grouping of reads changes in resampling


def recordings_of(paths):
    found = [audio.info(path) for path in paths if path.suffix != ".txt"]
    known = {one.path: (one.duration_s, one.sr) for one in found}
    rows = [(path.name, str(path), *known.get(str(path), (1.0, SR))) for path in paths]
    return pd.DataFrame(rows, columns=["recording", "path", "duration_s", "sr"])


@pytest.fixture
def some(tmp_path):
    """Recordings of several kinds in windows of 0.5 s, in a random order: 20 rows, 8 to a shard."""
    rng = np.random.default_rng(0)
    paths = []
    for name, sr, seconds in (("a.wav", SR, 2.0), ("b.flac", 44100, 2.5), ("c.ogg", 16000, 3.0), ("d.wav", SR, 2.5)):
        paths.append(tmp_path / "sounds" / name)
        paths[-1].parent.mkdir(exist_ok=True)
        sf.write(paths[-1], rng.normal(0, 0.1, round(sr * seconds)), sr)
    recordings = recordings_of(paths)
    segments = make_windows(recordings, 0.5).sample(frac=1.0, random_state=0).reset_index(drop=True)
    return recordings, segments, tmp_path / "shelf"


def store(recordings, segments, folder, **options):
    return StoredWaves(recordings, segments, SR, folder=folder, shard_bytes=8 * 4000 * 2, **options)


def count_decoded(monkeypatch):
    """A list that gets the number of rows of each call that decodes, from now on."""
    decoded, decode = [], shards.load_rows

    def counted(paths, *arguments, **options):
        decoded.append(len(paths))
        return decode(paths, *arguments, **options)

    monkeypatch.setattr(shards, "load_rows", counted)
    return decoded


def test_stored_waves_are_those_that_were_decoded(some):
    recordings, segments, folder = some
    expected, _, _ = audio.load_segments(recordings, segments, SR)
    stored = store(*some)
    assert (len(stored), stored.shape) == (20, (20, 4000))
    assert len(list(stored.folder.glob("*.npy"))) == 3
    assert stored.folder.parent == folder
    rows = np.array([3, 19, 3, 0, 11])
    for chosen in (rows, slice(5, 17), np.arange(20) % 3 == 0, 4, np.arange(20)[::-1]):
        np.testing.assert_allclose(stored[chosen], expected[np.atleast_1d(np.arange(20)[chosen])], rtol=0, atol=CLOSE)
        np.testing.assert_array_equal(stored[chosen], stored[np.arange(20)][np.atleast_1d(np.arange(20)[chosen])])
    assert stored[rows].dtype == np.float32
    pd.testing.assert_frame_equal(stored.segments, segments)
    exact = segments["recording"].isin(["a.wav", "d.wav"]).to_numpy()  # 16 bits at their own rate
    np.testing.assert_array_equal(stored[exact], expected[exact])
    whole = np.load(stored.folder / "0000.npy")
    assert (whole.dtype, whole.shape) == (np.int16, (8, 4000))
    assert (stored.folder / "0000.npy").stat().st_size == 128 + shards.stored_bytes(8, 4000)


def test_what_is_stored_is_not_decoded_again(some, monkeypatch):
    first = store(*some)
    decoded = count_decoded(monkeypatch)
    again = store(*some)
    assert decoded == []
    np.testing.assert_array_equal(again[:], first[:])


@pytest.mark.parametrize("what", ["file", "segments", "rate", "length", "ids"])
def test_what_has_changed_is_decoded_again(some, what):
    recordings, segments, folder = some
    before = store(*some)
    options = {}
    if what == "file":
        path = Path(recordings["path"][0])
        wave, sr = sf.read(path)
        stat = path.stat()
        sf.write(path, -wave, sr)  # of the same size
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif what == "segments":
        segments = segments[:-1]
    elif what == "ids":
        segments = segments.assign(segment=segments["segment"] + "x")
    elif what == "length":
        options["duration_s"] = 0.25
    sr = SR // 2 if what == "rate" else SR
    after = StoredWaves(recordings, segments, sr, folder=folder, shard_bytes=64000, **options)
    assert after.folder != before.folder
    if what == "file":
        rows = (segments["recording"] == "a.wav").to_numpy()
        np.testing.assert_array_equal(after[rows], -before[rows])
        np.testing.assert_array_equal(after[~rows], before[~rows])


def test_a_killed_process_goes_on_with_what_is_missing(some, monkeypatch):
    recordings, segments, folder = some
    segments = segments[:16]  # two shards
    monkeypatch.setattr(shards, "BLOCK_BYTES", 4 * 4000 * 4)  # of two blocks each
    whole = store(recordings, segments, folder / "whole")
    decode, calls = shards.load_rows, []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode(*arguments, **options)

    monkeypatch.setattr(shards, "load_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        store(recordings, segments, folder / "killed")
    kept = {path: path.stat().st_mtime_ns for path in (folder / "killed").rglob("*.npy")}
    assert len(kept) == 1
    monkeypatch.setattr(shards, "load_rows", decode)
    decoded = count_decoded(monkeypatch)
    resumed = store(recordings, segments, folder / "killed")
    assert sum(decoded) == 8
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    np.testing.assert_array_equal(resumed[:], whole[:])
    assert not [path for path in resumed.folder.iterdir() if path.name.startswith(".")]  # no drafts


def test_what_a_killed_process_was_writing_is_removed_a_day_later(some):
    """A real SIGKILL; until then the draft could be that of a process which is alive, here or elsewhere."""
    folder = store(*some).folder
    whole = set(folder.iterdir())
    script = (
        "import sys, time; from audiotk.files import atomic\n"
        "with atomic(sys.argv[1]) as draft: draft.touch(); print('here', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, str(folder / "0001.npy")]  # as shards are written
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    (draft,) = set(folder.iterdir()) - whole
    store(*some)
    assert draft.exists()
    at = time.time() - 25 * 3600
    for path in folder.iterdir():
        os.utime(path, (at, at))
    store(*some)
    assert set(folder.iterdir()) == whole


def test_two_processes_share_the_work(some, monkeypatch):
    """Another one writes everything while the first is at its first shard: it then has nothing left to do."""
    decode, other = shards.load_rows, []

    def meanwhile(*arguments, **options):
        monkeypatch.setattr(shards, "load_rows", decode)
        other.append(store(*some))
        decoded.extend(count_decoded(monkeypatch))
        return decode(*arguments, **options)

    decoded = []
    monkeypatch.setattr(shards, "load_rows", meanwhile)
    mine = store(*some)
    assert decoded == []
    np.testing.assert_array_equal(mine[:], other[0][:])


def test_bad_files_are_reported_as_ever_and_tried_again(some, monkeypatch):
    recordings, segments, folder = some
    broken = Path(recordings["path"][1]).with_name("broken.txt")
    broken.write_text("no sound")
    gone = broken.with_name("gone.txt")
    recordings = pd.concat([recordings, recordings_of([broken, gone])], ignore_index=True)
    more = make_windows(recordings[-2:], 0.5)
    late = segments[segments["recording"] == "a.wav"][:1].assign(segment="late", start_s=9.0, end_s=9.5)
    segments = pd.concat([more[:1], segments, more[1:], late], ignore_index=True)
    with pytest.warns(UserWarning, match="skipped 3 of 6 recordings") as told:
        waves, found, problems = audio.load_segments(recordings, segments, SR)
    with pytest.warns(UserWarning, match="skipped") as again:
        stored = store(recordings, segments, folder)
    assert str(again[-1].message) == str(told[-1].message)
    pd.testing.assert_frame_equal(stored.segments, found)
    pd.testing.assert_frame_equal(stored.problems, problems)
    np.testing.assert_allclose(stored[:], waves, rtol=0, atol=CLOSE)
    with pytest.warns(UserWarning, match="skipped 3 of 6"):
        again = store(recordings, segments, folder)
    pd.testing.assert_frame_equal(again.problems, problems)


def hiccup(monkeypatch, rows=(0,)):
    """From now on some rows of all that is decoded cannot be read."""
    decode = shards.load_rows

    def bad(paths, segments, *arguments, **options):
        waves, _ = decode(paths, segments, *arguments, **options)
        here = [row for row in rows if row < len(paths)]
        waves[here] = 0
        return waves, [(row, segments["recording"][row], paths[row], "the network is away") for row in here]

    monkeypatch.setattr(shards, "load_rows", bad)


@pytest.fixture
def lacking(some, monkeypatch):
    """Shards of which three rows each could not be read, and can be now; what they should hold."""
    with monkeypatch.context() as away:
        hiccup(away, (0, 2, 3))
        with pytest.warns(UserWarning, match="the network is away"):
            stored = store(*some)
    assert len(stored) == 11
    return stored, store(*some[:2], some[2] / "whole")


def test_what_could_not_be_read_is_put_in_its_place_later(some, monkeypatch, lacking):
    before, whole = lacking
    monkeypatch.setattr(shards, "BLOCK_BYTES", 2 * 4000 * 4)  # two rows at once
    rows = np.flatnonzero(whole.segments["segment"].isin(before.segments["segment"]))
    inodes = {path: path.stat().st_ino for path in before.folder.glob("*.npy")}
    decoded = count_decoded(monkeypatch)
    with monkeypatch.context() as away:
        hiccup(away, (1,))
        with pytest.warns(UserWarning, match="the network is away"):
            better = store(*some)
    assert (len(better), decoded) == (17, [2, 1] * 3)
    found = np.flatnonzero(whole.segments["segment"].isin(better.segments["segment"]))
    np.testing.assert_allclose(better[:], whole[found], rtol=0, atol=CLOSE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = store(*some)
    np.testing.assert_allclose(after[:], whole[:], rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(after[rows], whole[rows])  # not touched
    assert {path: path.stat().st_ino for path in after.folder.glob("*.npy")} == inodes
    assert {path.stat().st_size for path in inodes} == {path.stat().st_size for path in whole.folder.glob("*.npy")}
    np.testing.assert_array_equal(before[:], whole[rows])  # opened before, read only now


def test_who_has_shards_keeps_them_while_others_complete_them(some, monkeypatch, lacking):
    """Another process does all that is lacking while the first tries it again, and reads whenever the first decodes."""
    decode, other = shards.load_rows, []

    def meanwhile(*arguments, **options):
        if not other:
            monkeypatch.setattr(shards, "load_rows", decode)
            other.append(store(*some))
            monkeypatch.setattr(shards, "load_rows", meanwhile)
        np.testing.assert_allclose(pickle.loads(pickle.dumps(other[0]))[:], lacking[1][:], rtol=0, atol=CLOSE)
        return decode(*arguments, **options)

    monkeypatch.setattr(shards, "load_rows", meanwhile)
    mine = store(*some)
    np.testing.assert_allclose(other[0][:], lacking[1][:], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(mine[:], lacking[1][:], rtol=0, atol=CLOSE)


def test_a_kill_leaves_rows_lacking_that_were_put_in_their_place(some, monkeypatch, lacking):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(StoredWaves, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            store(*some)
    decoded = count_decoded(monkeypatch)
    np.testing.assert_allclose(store(*some)[:], lacking[1][:], rtol=0, atol=CLOSE)
    assert decoded == [3, 3, 3]


def test_a_damaged_shard_is_not_completed(some, lacking):
    path = lacking[0].folder / "0001.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudiotkError, match=r"0001\.npy: rows that can be read now .*delete"):
        store(*some)


def test_loud_and_faint_sound_keeps_its_level(tmp_path):
    """Nothing is clipped, and 16 bits are those under the peak."""
    rng = np.random.default_rng(0)
    levels = (3.7, 1.0, 0.3, 1e-4, 0.0)
    for k, level in enumerate(levels):
        wave = rng.uniform(-level, level, SR)
        sf.write(tmp_path / f"{k}.wav", wave, SR, subtype="FLOAT")
    recordings = recordings_of([tmp_path / f"{k}.wav" for k in range(len(levels))])
    expected, segments, _ = audio.load_segments(recordings, whole_recordings(recordings), SR)
    stored = StoredWaves(recordings, segments, SR, folder=tmp_path)[:]
    for level, wave, known in zip(levels, stored, expected, strict=True):
        np.testing.assert_allclose(wave, known, rtol=1e-6, atol=level * 2**-15)
    assert np.abs(stored[0]).max() > 3.6
    np.testing.assert_allclose(stored[:4].max(axis=1), expected[:4].max(axis=1), rtol=1e-4)


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(-4, 4, width=32)))
def test_sixteen_bits_hold_any_wave(waves):
    whole, full = to_int16(waves)
    assert whole.dtype == np.int16
    back = whole / 2**15 * full[:, None]
    peak = np.abs(waves).max(axis=1, keepdims=True)
    assert (np.abs(back - waves) <= 2**-16 * np.maximum(1, peak) * (1 + 1e-4)).all()
    assert (np.abs(back - waves) <= np.maximum(2**-15 * peak * (1 + 1e-4), 2**-80)).all()


@given(arrays.arrays(np.int16, (3, 5)))
def test_sixteen_bits_come_back_exactly(whole):
    waves = whole.astype(np.float32) / 2**15
    back, full = to_int16(waves)
    np.testing.assert_array_equal((back * (full[:, None] / 2**15)).astype(np.float32), waves)


def test_a_full_disk_is_an_error(some, monkeypatch):
    folder = some[2]
    usage = shards.shutil.disk_usage(".")
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda _: usage._replace(free=159_999))
    decoded = count_decoded(monkeypatch)
    with pytest.raises(AudiotkError, match=r"decoded sound takes 0.0 GB more.*set AUDIOTK_CACHE to a larger disk"):
        store(*some)  # 20 rows of 8,000 bytes
    assert decoded == []
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda _: usage._replace(free=160_000))

    def full(waves):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards, "to_int16", full)  # somebody else filled it meanwhile
    with pytest.raises(AudiotkError, match=r"\.npy: cannot be written: No space left on device"):
        store(*some)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_damaged_shard_is_an_error(some):
    stored = store(*some)
    path = stored.folder / "0001.npy"
    path.write_bytes(path.read_bytes()[:1000])
    stored[:8]
    with pytest.raises(AudiotkError, match=r"0001\.npy: is missing or damaged .*delete"):
        stored[8]


def test_processes_get_the_folder_and_not_the_sound(some):
    stored = store(*some)
    stored[:]
    assert len(pickle.dumps(stored)) < 20_000
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(stored.__getitem__)([row]) for row in (3, 17))
    np.testing.assert_array_equal(np.concatenate(found), stored[[3, 17]])


def test_no_segments_give_no_waves(some):
    recordings, segments, folder = some
    stored = store(recordings, segments[:0], folder)
    assert (len(stored), stored[:].shape) == (0, (0, 0))
