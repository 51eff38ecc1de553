"""Sound in and out: every format, exact ranges, each kind of bad file, and batches that survive them."""

import os
import struct
import threading
import tracemalloc
import warnings
from pathlib import Path

import audioread
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import audio, decode
from audiotk.tables import AudiotkError, make_segments, make_windows

DATA = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
FORMATS = {  # name: (sample rate, soundfile options, largest error of the coding)
    "pcm16.wav": (44100, {"subtype": "PCM_16"}, 1e-4),
    "pcm24.wav": (44100, {"subtype": "PCM_24"}, 1e-6),
    "float.wav": (44100, {"subtype": "FLOAT"}, 1e-7),
    "a.flac": (44100, {}, 1e-4),
    "a.aiff": (44100, {}, 1e-4),
    "a.ogg": (44100, {}, 0.2),
    "opus.ogg": (48000, {"format": "OGG", "subtype": "OPUS"}, 0.3),
    "a.mp3": (44100, {}, 0.2),
}


def noise(sr: int, seconds: float, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Noise whose level rises and falls, so that a shift by one sample shows everywhere."""
    shape = (round(sr * seconds), channels) if channels > 1 else round(sr * seconds)
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)


def wav_bytes(channels: int = 1, sr: int = 16000, data: bytes = bytes(200), bits: int = 16) -> bytes:
    """A WAV file by hand, so that the header can lie."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, sr, sr * block, block, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def write(path: Path, wave: np.ndarray, sr: int = 16000, **options: str) -> Path:
    sf.write(path, wave, sr, **options)
    return path


def count_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of frames of each read from now on."""
    frames: list[int] = []
    read = sf.SoundFile.read

    def counted(self: sf.SoundFile, *args: object, **options: object) -> np.ndarray:
        data = read(self, *args, **options)
        frames.append(len(data))
        return data

    monkeypatch.setattr(sf.SoundFile, "read", counted)
    return frames


def recordings_of(paths: list[Path], duration_s: float, sr: int) -> pd.DataFrame:
    names = [path.name for path in paths]
    columns = {"recording": names, "path": [str(path) for path in paths], "group": names}
    return pd.DataFrame({**columns, "duration_s": duration_s, "sr": sr})


# ------------------------------------------------------------------------------------------------ one file


@pytest.mark.parametrize("name", FORMATS)
def test_info_and_load_of_every_format(tmp_path: Path, name: str) -> None:
    sr, options, error = FORMATS[name]
    wave = noise(sr, 1.5)
    path = write(tmp_path / name, wave, sr, **options)
    found = audio.info(path)
    assert (found.sr, found.channels, found.frames, found.duration_s) == (sr, 1, len(wave), 1.5)
    got, got_sr = audio.load(path)
    assert got_sr == sr
    assert got.dtype == np.float32
    assert got.shape == wave.shape
    assert np.sqrt(np.mean((got - wave) ** 2)) < error


def test_pcm16_is_read_as_libsndfile_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(16000, 0.5))
    np.testing.assert_array_equal(audio.load(path)[0], sf.read(path, dtype="float32")[0])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sr", [None, 16000])
def test_a_range_equals_the_range_of_the_whole(tmp_path: Path, name: str, sr: int | None) -> None:
    file_sr, options, _ = FORMATS[name]
    path = write(tmp_path / name, noise(file_sr, 8.0), file_sr, **options)
    whole, rate = audio.load(path, sr)
    for start_s, end_s in [(0.0, 0.5), (0.123, 1.0), (3.0, 3.001), (2.5, 7.5), (7.2, 7.9), (7.95, 8.0), (6.6, None)]:
        got, _ = audio.load(path, sr, start_s, end_s)
        last = len(whole) if end_s is None else round(end_s * rate)
        np.testing.assert_allclose(got, whole[round(start_s * rate) : last], atol=2e-6, rtol=0)


RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000]


@pytest.mark.parametrize("file_sr", RATES)
@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000])
def test_a_range_is_exact_for_every_pair_of_rates(tmp_path: Path, file_sr: int, sr: int) -> None:
    wave = noise(file_sr, 2.5)
    path = write(tmp_path / "a.wav", wave, file_sr, subtype="FLOAT")
    whole, _ = audio.load(path, sr)
    np.testing.assert_array_equal(whole, wave if sr == file_sr else soxr.resample(wave, file_sr, sr, quality="HQ"))
    for start_s, end_s in [(0.0, 0.4), (0.777, 1.9), (1.2345, 2.5)]:
        got, _ = audio.load(path, sr, start_s, end_s)
        expected = whole[round(start_s * sr) : round(end_s * sr)]
        np.testing.assert_allclose(got, expected, atol=2e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    file_sr=st.sampled_from([8000, 22050, 44100, 48000]),
    sr=st.sampled_from([7919, 16000, 44100]),
    start=st.floats(0, 1.9),
    length=st.floats(0.001, 2.0),
)
def test_any_range_is_exact(
    tmp_path_factory: pytest.TempPathFactory, file_sr: int, sr: int, start: float, length: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"range{file_sr}.wav"
    if not path.exists():
        write(path, noise(file_sr, 2.0), file_sr, subtype="FLOAT")
    end = min(start + length, 2.0)
    whole, _ = audio.load(path, sr)
    expected = whole[round(start * sr) : round(end * sr)]
    if not len(expected):
        with pytest.raises(AudiotkError, match="at least one sample"):
            audio.load(path, sr, start, end)
        return
    np.testing.assert_allclose(audio.load(path, sr, start, end)[0], expected, atol=5e-6, rtol=0)


def test_only_the_asked_range_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "long.flac", noise(44100, 30.0), 44100)
    frames = count_frames(monkeypatch)
    audio.load(path, 16000, 20.0, 21.0)
    assert 44100 <= sum(frames) < 44100 * 1.1


def test_vorbis_is_exact_to_the_last_page() -> None:
    """libsndfile 1.2.2 lands up to 832 samples off here when it seeks into the last Ogg page (its issue 885)."""
    path = DATA / "esc10" / "audio" / "2-122104-A-0.ogg"
    if not path.exists():
        pytest.skip(f"{path.name} of the real test data is not here (set AUDIOTK_TEST_DATA)")
    whole, sr = audio.load(path)
    for start_s in np.arange(3.5, 4.9, 0.1):
        got, _ = audio.load(path, None, start_s, start_s + 0.1)
        np.testing.assert_array_equal(got, whole[round(start_s * sr) : round((start_s + 0.1) * sr)])


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("channels", [2, 6])
def test_several_channels_are_averaged(tmp_path: Path, channels: int, subtype: str) -> None:
    wave = noise(48000, 0.5, channels=channels)
    path = write(tmp_path / "a.wav", wave, 48000, subtype=subtype)
    assert audio.info(path).channels == channels
    np.testing.assert_allclose(audio.load(path)[0], wave.mean(axis=1), atol=1e-4 if subtype == "PCM_16" else 1e-7)


def test_an_end_may_lie_a_millisecond_behind_the_last_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(16000, 1.0))
    assert len(audio.load(path, 8000, 0.5, 1.0009)[0]) == 4000
    with pytest.raises(AudiotkError, match=r"1\.000 s.*got 0\.5 to 1\.002"):
        audio.load(path, 8000, 0.5, 1.002)


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [(-0.1, 0.5), (0.5, 0.5), (0.6, 0.5), (0.0, 2.0), (1.0, None), (np.nan, 0.5), (0.0, np.nan), (0.0, np.inf)],
)
def test_a_range_outside_is_refused(tmp_path: Path, start_s: float, end_s: float | None) -> None:
    path = write(tmp_path / "a.wav", noise(16000, 1.0))
    with pytest.raises(AudiotkError, match=r"a\.wav: expected 0 <= start_s < end_s <= 1\.000 s"):
        audio.load(path, 16000, start_s, end_s)


@pytest.mark.parametrize("sr", [0, -1, 16000.5, np.nan, np.inf])
def test_a_sample_rate_that_is_none_is_refused(tmp_path: Path, sr: float) -> None:
    path = write(tmp_path / "a.wav", noise(16000, 0.1))
    with pytest.raises(AudiotkError, match="whole number of Hz"):
        audio.load(path, sr)  # type: ignore[arg-type]


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """One file of every kind that cannot be read, and words its error has to hold."""
    wave = noise(44100, 2.0)
    spoiled = {"nan.wav": np.nan, "inf.wav": np.inf}
    made = {"folder.wav": "folder", "missing.wav": "no such file"}
    (folder / "folder.wav").mkdir()
    raw = {
        "empty.wav": (b"", "empty"),
        "text.wav": (b"not a sound at all\n" * 50, "not a sound file"),
        "nosamples.wav": (wav_bytes(data=b""), "no samples"),
        "nochannels.wav": (wav_bytes(channels=0), "cannot be read as sound"),
        "norate.wav": (wav_bytes(sr=0), "cannot be read as sound"),
    }
    for name, (content, words) in raw.items():
        (folder / name).write_bytes(content)
        made[name] = words
    for name, value in spoiled.items():
        write(folder / name, np.where(np.arange(len(wave)) == 44100, value, wave), 44100, subtype="FLOAT")
        made[name] = r"NaN or infinite samples, the first at 1\.000 s"
    for suffix, share in [("wav", 0.5), ("wav", 0.99), ("flac", 0.6), ("aiff", 0.7), ("ogg", 0.8), ("mp3", 0.5)]:
        whole = write(folder / f"whole.{suffix}", wave, 44100).read_bytes()
        name = f"cut{share}.{suffix}"
        (folder / name).write_bytes(whole[: int(len(whole) * share)])
        (folder / f"whole.{suffix}").unlink()
        made[name] = "truncated"
    return {name: (folder / name, words) for name, words in made.items()}


BAD_NAMES = [
    "folder.wav", "missing.wav", "empty.wav", "text.wav", "nosamples.wav", "nochannels.wav", "norate.wav", "nan.wav",
    "inf.wav", "cut0.5.wav", "cut0.99.wav", "cut0.6.flac", "cut0.7.aiff", "cut0.8.ogg", "cut0.5.mp3",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_input_is_one_error_with_file_and_reason(tmp_path: Path, name: str) -> None:
    path, words = bad_files(tmp_path)[name]
    with pytest.raises(AudiotkError, match=words) as caught:
        audio.load(path, 16000)
    assert str(path) in str(caught.value)
    if name not in ("nan.wav", "inf.wav"):  # what no header tells
        with pytest.raises(AudiotkError, match=words):
            audio.info(path)


def test_no_bad_file_is_forgotten(tmp_path: Path) -> None:
    assert sorted(bad_files(tmp_path)) == sorted(BAD_NAMES)


def lying_mp3(path: Path, count: int) -> Path:
    """A second of MP3 whose Xing header says that it has `count` MPEG frames of 576 samples."""
    content = bytearray(write(path, noise(16000, 1.0, channels=2), 16000, format="MP3").read_bytes())
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert at > 0
    assert content[at + 7] & 1, "the header has a number of frames"
    content[at + 8 : at + 12] = struct.pack(">I", count)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("count", "words"), [(0x00A4000F, r"header is damaged: it says .* \(.* h\)"), (40_000, "truncated")]
)
def test_a_header_that_promises_too_much_costs_no_memory(tmp_path: Path, count: int, words: str) -> None:
    path = lying_mp3(tmp_path / "a.mp3", count)
    tracemalloc.start()
    try:
        for read in (audio.info, audio.load):
            with pytest.raises(AudiotkError, match=words) as caught:
                read(path)
            assert str(path) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 80e6  # 40,000 frames would be 184 MB
    finally:
        tracemalloc.stop()
    good = write(tmp_path / "b.wav", noise(16000, 1.0))
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        files, problems = audio.probe([path, good])
    assert files["path"].tolist() == [str(good)]
    assert problems["path"].tolist() == [str(path)]
    recordings = recordings_of([path, good], 1000.0, 16000)
    segments = make_segments(recordings["recording"], [500.0, 0.0], [501.0, 1.0])
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        waves, segments, problems = audio.load_segments(recordings, segments, 16000)
    assert waves.shape == (1, 16000)
    assert segments["recording"].tolist() == ["b.wav"]
    assert problems["path"].tolist() == [str(path)]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_reading_in_blocks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, channels: int
) -> None:
    path = write(tmp_path / name, noise(16000, 2.0, channels=channels))
    whole, _ = audio.load(path)
    part, _ = audio.load(path, 8000, 0.3, 1.7)
    monkeypatch.setattr(decode, "SCRATCH", 1001)
    frames = count_frames(monkeypatch)
    np.testing.assert_allclose(audio.load(path)[0], whole, atol=1e-7, rtol=0)
    lead = decode.MPEG_LEAD if name == "a.mp3" else 0
    assert max(frames) <= 1001 + lead
    assert sum(frames) == 32000 or lead
    np.testing.assert_allclose(audio.load(path, 8000, 0.3, 1.7)[0], part, atol=2e-6, rtol=0)


def test_a_long_silence_in_few_bytes_is_no_damaged_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.zeros(8000 * 600), 8000)
    assert audio.info(path).duration_s == 600
    assert not audio.load(path)[0].any()


def test_a_wav_of_unknown_length_from_a_pipe_is_read(tmp_path: Path) -> None:
    content = bytearray(wav_bytes(data=bytes(3200)))
    content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(content)
    assert audio.load(tmp_path / "piped.wav")[0].shape == (1600,)


def test_what_soundfile_does_not_know_goes_through_audioread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(16000, 1.0)
    path = write(tmp_path / "a.m4a", wave, format="WAV")
    opened = sf.SoundFile

    def refuse(file: object, *args: object, **kwargs: object) -> sf.SoundFile:
        if file == path:
            raise sf.LibsndfileError(1, "Format not recognised: ")
        return opened(file, *args, **kwargs)

    monkeypatch.setattr(sf, "SoundFile", refuse)
    expected = np.round(wave * 32768) / 32768

    class Source:
        samplerate, channels = 16000, 1

        def __enter__(self) -> "Source":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __iter__(self):  # type: ignore[no-untyped-def]
            yield (expected * 32768).astype("<i2").tobytes()

    monkeypatch.setattr(audioread, "audio_open", lambda _: Source())
    np.testing.assert_allclose(audio.load(path, None, 0.25, 0.75)[0], expected[4000:12000], atol=1e-6)


# ------------------------------------------------------------------------------------------------ level, save, cut


def test_levels_of_known_waves() -> None:
    t = np.arange(48000) / 48000
    sine = np.sin(2 * np.pi * 100 * t)
    assert audio.level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert audio.level_dbfs(np.sign(np.sin(2 * np.pi * 100 * t + 1e-6))) == pytest.approx(0.0, abs=1e-3)
    assert audio.level_dbfs(0.5 + 0.1 * sine) == pytest.approx(-23.0103, abs=1e-3)
    assert audio.level_dbfs(np.zeros(100)) == -np.inf
    assert audio.level_dbfs(np.full(100, 0.1, np.float32)) == -np.inf
    assert np.isnan(audio.level_dbfs(np.array([0.0, np.nan, 1.0])))
    stack = np.stack([sine, 0.1 * sine]).astype(np.float32)
    np.testing.assert_allclose(audio.level_dbfs(stack), [-3.0103, -23.0103], atol=1e-3)
    np.testing.assert_allclose(audio.level_dbfs(stack.T, axis=0), [-3.0103, -23.0103], atol=1e-3)
    with pytest.raises(AudiotkError, match="at least one sample"):
        audio.level_dbfs(np.zeros(0))


@given(gain_db=st.floats(-60, 20), dc=st.floats(-1, 1))
def test_level_follows_gain_and_ignores_dc(gain_db: float, dc: float) -> None:
    wave = noise(8000, 0.2).astype(np.float64)
    moved = audio.level_dbfs(wave * 10 ** (gain_db / 20) + dc)
    assert moved == pytest.approx(audio.level_dbfs(wave) + gain_db, abs=1e-6)


def test_resampling_keeps_a_tone_and_any_leading_shape() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    got = audio.resample(np.stack([[tone, -tone]] * 3), 44100, 16000)
    assert got.shape == (3, 2, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(got[2, 1, 500:-500], -expected[500:-500], atol=1e-3)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_cut_round_trip(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a.wav", noise(44100, 3.0), 44100)
    out = audio.cut(path, tmp_path / "new" / f"b{suffix}", 1.0, 2.5)
    assert audio.info(out).format == f"{suffix[1:].upper()}/PCM_16"
    np.testing.assert_allclose(audio.load(out)[0], audio.load(path, None, 1.0, 2.5)[0], atol=1e-4)
    assert sorted(file.name for file in out.parent.iterdir()) == [out.name]


def test_cut_fades_pads_and_resamples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.full(16000, 0.5, np.float32))
    out = audio.cut(path, tmp_path / "b.wav", 0.2, 0.6, sr=8000, fade_s=0.1, duration_s=1.0)
    wave, sr = audio.load(out)
    assert (sr, len(wave)) == (8000, 8000)
    assert abs(wave[0]) < 0.001
    np.testing.assert_allclose(wave[800:2400], 0.5, atol=0.01)
    np.testing.assert_allclose(wave[:800] + wave[:800][::-1], 0.5, atol=0.01)  # a raised cosine adds up
    assert not wave[3200:].any()
    with pytest.raises(AudiotkError, match="do not fit"):
        audio.cut(path, tmp_path / "c.wav", 0.2, 0.3, fade_s=0.06)


def test_cut_never_overwrites_unasked_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", noise(16000, 1.0))
    before = path.read_bytes()
    with pytest.raises(AudiotkError, match="overwrite=True"):
        audio.cut(path, path, 0.0, 0.5)
    assert path.read_bytes() == before

    def dies(file: Path, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(sf, "write", dies)
    with pytest.raises(AudiotkError, match="No space left"):
        audio.cut(path, path, 0.0, 0.5, overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    monkeypatch.undo()
    audio.cut(path, path, 0.0, 0.5, overwrite=True)
    assert audio.info(path).duration_s == 0.5


@pytest.mark.parametrize("wave", [np.zeros(0), np.array([0.0, np.nan])])
def test_save_refuses_what_is_no_sound(tmp_path: Path, wave: np.ndarray) -> None:
    with pytest.raises(AudiotkError, match="finite samples"):
        audio.save(tmp_path / "a.wav", wave, 16000)
    with pytest.raises(AudiotkError, match=r"\.wav or \.flac"):
        audio.save(tmp_path / "a.mp3", np.zeros(10), 16000)


# ------------------------------------------------------------------------------------------------ many files


def test_probe_keeps_the_order_and_lists_the_broken(tmp_path: Path) -> None:
    bad = bad_files(tmp_path)
    good = [write(tmp_path / f"good{n}.wav", noise(8000 * n, 0.5), 8000 * n) for n in (1, 2, 3)]
    paths = [good[2], bad["text.wav"][0], good[0], bad["missing.wav"][0], good[1]]
    with pytest.warns(UserWarning, match="skipped 2 of 5"):
        files, problems = audio.probe(paths, workers=3)
    assert files["path"].tolist() == [str(good[2]), str(good[0]), str(good[1])]
    assert files["sr"].tolist() == [24000, 8000, 16000]
    assert problems["path"].tolist() == [str(paths[1]), str(paths[3])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(audio.probe([], workers=1)[0]) == 0


def some_segments(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four recordings of 6 s in four formats, shuffled segments that overlap, touch and lie apart."""
    paths = [
        write(folder / f"{n}.{s}", noise(44100, 6.0, n), 44100) for n, s in enumerate(["wav", "flac", "ogg", "mp3"])
    ]
    recordings = recordings_of(paths, 6.0, 44100)
    starts, lengths = np.array([0.0, 0.5, 1.0, 4.2, 5.5]), np.array([1.0, 1.0, 0.3, 1.0, 0.5])
    names = np.repeat(recordings["recording"].to_numpy(dtype=object), len(starts))
    segments = make_segments(names, np.tile(starts, 4), np.tile(starts + lengths, 4))
    return recordings, segments.sample(frac=1.0, random_state=0).reset_index(drop=True)


@pytest.mark.parametrize("workers", [1, 4])
def test_segments_equal_single_loads(tmp_path: Path, workers: int) -> None:
    recordings, segments = some_segments(tmp_path)
    waves, found, problems = audio.load_segments(recordings, segments, 16000, workers=workers)
    pd.testing.assert_frame_equal(found, segments)
    assert not len(problems)
    assert waves.shape == (20, 16000)
    path_of = recordings.set_index("recording")["path"]
    for wave, (_, row) in zip(waves, segments.iterrows(), strict=True):
        single, _ = audio.load(path_of[row["recording"]], 16000, row["start_s"], row["end_s"])
        np.testing.assert_allclose(wave[: len(single)], single, atol=2e-6)
        assert not wave[len(single) :].any()


def test_segments_are_cropped_and_padded_to_the_asked_length(tmp_path: Path) -> None:
    recordings, segments = some_segments(tmp_path)
    long, _, _ = audio.load_segments(recordings, segments, 16000, duration_s=1.5)
    short, _, _ = audio.load_segments(recordings, segments, 16000, duration_s=0.25)
    assert (long.shape, short.shape) == ((20, 24000), (20, 4000))
    np.testing.assert_allclose(long[:, :4000], short, atol=2e-6)
    assert not long[:, 16000:].any()


@pytest.mark.parametrize("join_s", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("run_s", [0.5, 600.0])
def test_how_reads_are_joined_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, join_s: float, run_s: float
) -> None:
    recordings, segments = some_segments(tmp_path)
    expected, _, _ = audio.load_segments(recordings, segments, 16000)
    monkeypatch.setattr(decode, "JOIN_S", join_s)
    monkeypatch.setattr(decode, "RUN_S", run_s)
    np.testing.assert_allclose(audio.load_segments(recordings, segments, 16000)[0], expected, atol=2e-6)


def test_overlapping_segments_decode_a_recording_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ogg", noise(44100, 20.0), 44100)
    recordings = recordings_of([path], 20.0, 44100)
    segments = make_windows(recordings, 2.0, 0.5)
    frames = count_frames(monkeypatch)
    waves, _, _ = audio.load_segments(recordings, segments, 16000)
    assert waves.shape == (37, 32000)
    assert frames == [20 * 44100]


def test_broken_recordings_are_skipped_listed_and_counted(tmp_path: Path) -> None:
    bad = bad_files(tmp_path)
    good = [write(tmp_path / f"good{n}.wav", noise(16000, 2.0, n)) for n in range(3)]
    paths = [good[0], *(path for path, _ in bad.values()), good[1], good[2]]
    recordings = recordings_of(paths, 2.0, 16000)
    segments = make_windows(recordings, 1.0)
    with pytest.warns(UserWarning, match=f"skipped {len(bad)} of {len(paths)}"):
        waves, found, problems = audio.load_segments(recordings, segments, 8000, workers=4)
    assert found["recording"].tolist() == [name for n in range(3) for name in [f"good{n}.wav"] * 2]
    assert sorted(problems["recording"]) == sorted(path.name for path, _ in bad.values())
    np.testing.assert_array_equal(waves[2], audio.load(good[1], 8000)[0][:8000])
    for path, reason in zip(problems["path"], problems["reason"], strict=True):
        assert path in reason


def test_a_segment_behind_the_end_is_skipped_alone(tmp_path: Path) -> None:
    recordings = recordings_of([write(tmp_path / "a.wav", noise(16000, 1.0))], 3.0, 16000)  # the table is wrong
    segments = make_segments("a.wav", [0.0, 2.0, 0.5], [0.5, 3.0, 1.0])
    with pytest.warns(UserWarning, match="skipped 1 of 1"):
        waves, found, problems = audio.load_segments(recordings, segments, 16000)
    assert found["start_s"].tolist() == [0.0, 0.5]
    assert waves.shape == (2, 16000)
    assert "a.wav@2.000-3.000" in problems["reason"].item()


def test_segments_of_an_unknown_recording_are_an_error(tmp_path: Path) -> None:
    recordings = recordings_of([tmp_path / "a.wav"], 1.0, 16000)
    with pytest.raises(AudiotkError, match="'b' is not in the recordings table"):
        audio.load_segments(recordings, make_segments("b", 0.0, 1.0), 16000)


def test_no_segments_give_no_waves(tmp_path: Path) -> None:
    waves, found, problems = audio.load_segments(recordings_of([], 1.0, 1), make_segments([], [], []), 16000)
    assert (waves.shape, len(found), len(problems)) == ((0, 0), 0, 0)


def test_no_thread_outlives_a_batch(tmp_path: Path) -> None:
    recordings, segments = some_segments(tmp_path)
    before = threading.active_count()
    audio.load_segments(recordings, segments, 16000, workers=8)
    assert threading.active_count() == before


def test_a_wave_stays_as_it_was_when_more_are_read(tmp_path: Path) -> None:
    """Decoding reuses its memory, so what is handed out has to be a copy."""
    first = write(tmp_path / "a.wav", noise(16000, 1.0, 1), subtype="FLOAT")
    second = write(tmp_path / "b.wav", noise(16000, 1.0, 2))
    for sr in (None, 8000):
        wave, _ = audio.load(first, sr)
        before = wave.copy()
        audio.load(second, sr)
        np.testing.assert_array_equal(wave, before)
