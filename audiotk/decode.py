"""One sound file, read exactly (header checks, seeking, ranges), and threads over many. Use :mod:`audiotk.audio`.

Every fault is an :class:`AudiotkError` that names the file and the reason.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, floor, gcd, isfinite, prod
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from tqdm.auto import tqdm

from audiotk.files import cores
from audiotk.tables import AudiotkError

PathLike = str | os.PathLike[str]
Frames = Callable[[int, int], np.ndarray]
QUALITY = "HQ"  # soxr's; librosa calls it soxr_hq
GRACE_S = 0.001  # an end may lie this far behind the recording's: segment ids are in milliseconds
CONTEXT = 256  # input frames read on each side of a range, times the decimation factor: soxr's filter and a margin
JOIN_S = 1.0  # segments of one recording that are no further apart are decoded in one go ...
RUN_S = 600.0  # ... up to this length, which bounds the memory of a worker
SCRATCH = 1 << 22  # samples that are read at a time, and that a thread keeps memory for
MPEG_LEAD = 11_520  # frames that are decoded before those wanted from an MP3: ten of its own
DENSEST = 8192  # frames in a byte of file: more than any coding can hold (FLAC at its best: 65,535 frames in 12 bytes)


def whole_hz(sr: float) -> int:
    if not (isfinite(sr) and sr > 0 and sr == int(sr)):
        raise AudiotkError(f"sample rate: expected a whole number of Hz > 0, got {sr!r}")
    return int(sr)


def open_sound(path: PathLike) -> sf.SoundFile:
    """The opened file, its header checked."""
    try:
        if not os.path.isfile(path):
            reason = "is a folder, expected a sound file" if os.path.isdir(path) else "no such file"
            raise AudiotkError(f"{path}: {reason}")
        if os.path.getsize(path) == 0:
            raise AudiotkError(f"{path}: is empty (0 bytes)")
        handle = sf.SoundFile(path)
    except sf.LibsndfileError as err:
        if err.code != 1:  # 1: format not recognised, so audioread may have a decoder for it
            raise AudiotkError(f"{path}: cannot be read as sound: {err.error_string}") from err
        handle = _open_by_audioread(path)
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be opened: {err}") from err
    fault = _header_fault(handle, path)
    if fault:
        handle.close()
        raise AudiotkError(f"{path}: {fault}")
    return handle


def _open_by_audioread(path: PathLike) -> sf.SoundFile:
    """What soundfile does not know (M4A, WebM, ...), decoded whole into memory; audioread mostly needs ffmpeg."""
    import audioread

    try:
        with audioread.audio_open(str(path)) as source:
            sr, channels, pcm = source.samplerate, source.channels, b"".join(source)
    except (audioread.DecodeError, EOFError) as err:
        known = "expected WAV, FLAC, OGG, MP3 or AIFF (for M4A, WebM and the like install ffmpeg)"
        raise AudiotkError(f"{path}: is not a sound file that can be read; {known}") from err
    form = {"format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
    return sf.SoundFile(io.BytesIO(pcm), samplerate=sr, channels=channels, **form)


def _header_fault(handle: sf.SoundFile, path: PathLike) -> str | None:
    """Why the file cannot hold what its header promises, or None."""
    if handle.channels < 1 or handle.samplerate < 1:
        return f"the header says {handle.channels} channels at {handle.samplerate} Hz"
    if handle.format in ("WAV", "WAVEX", "RF64", "AIFF"):  # libsndfile silently shortens; its log tells
        size = re.search(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", handle.extra_info)
        if size and int(size[2]) < int(size[1]) < 0x7FFFF000:  # above: the length that streaming writers leave
            return f"is truncated: the header says {size[1]} bytes of samples, {size[2]} are there"
    if handle.format == "OGG" and _ogg_ends_early(path):
        return "is truncated: its last Ogg page is not complete"
    if handle.frames < 1:
        return "holds no samples"
    held = os.path.getsize(path)
    if handle.format != "RAW" and handle.frames > DENSEST * held:  # RAW: already decoded, of another size than the file
        promised = f"{handle.frames:,} samples ({handle.frames / handle.samplerate / 3600:,.1f} h)"
        return f"its header is damaged: it says {promised}, which cannot be in a file of {held:,} bytes"
    return None


def _ogg_ends_early(path: PathLike) -> bool:
    """Whether the last Ogg page (RFC 3533: header of 27 bytes, lacing table, body) runs past the end of the file."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) - 65_307 - 27))  # 65,307: the largest page
        tail = stream.read()
    at = tail.rfind(b"OggS")
    lacing = tail[at + 27 : at + 27 + tail[at + 26]] if 0 <= at < len(tail) - 26 else b""
    return at < 0 or len(tail) < at + 27 or at + 27 + tail[at + 26] + sum(lacing) > len(tail)


def sample_range(handle: sf.SoundFile, path: PathLike, sr: int, start_s: float, end_s: float | None) -> tuple[int, int]:
    """First and last sample at `sr` of a range in seconds."""
    duration_s = handle.frames / handle.samplerate
    end_s = duration_s if end_s is None else end_s
    inside = isfinite(start_s) and isfinite(end_s) and 0 <= start_s < end_s <= duration_s + GRACE_S
    first = round(start_s * sr) if inside else 0
    last = min(round(end_s * sr), floor(handle.frames * sr / handle.samplerate + 0.5)) if inside else 0
    if first >= last:
        expected = f"expected 0 <= start_s < end_s <= {duration_s:.3f} s (and at least one sample)"
        raise AudiotkError(f"{path}: {expected}, got {start_s} to {end_s}")
    return first, last


def read_samples(
    handle: sf.SoundFile, path: PathLike, sr: int, first: int, last: int, frames: Frames | None = None
) -> np.ndarray:
    """Samples `first` to `last`, counted at `sr`, with as much context as makes them those of the whole recording.

    `frames` reads frames of the file in place of :func:`read_frames`.
    """
    frames = frames or partial(read_frames, handle, path)
    if sr == handle.samplerate:
        return frames(first, last).copy()
    begin, end, skip = _frames_for(handle, sr, first, last)
    wave = soxr.resample(frames(begin, end), handle.samplerate, sr, quality=QUALITY)
    return wave[skip : skip + last - first]


def _frames_for(handle: sf.SoundFile, sr: int, first: int, last: int) -> tuple[int, int, int]:
    """First and last frame to read for samples at `sr`, and how many samples of the result come before `first`."""
    common = gcd(sr, handle.samplerate)
    up, down = sr // common, handle.samplerate // common
    context = CONTEXT * ceil(down / up)
    begin = max(0, first * down // up - context) // down * down  # a frame that falls on a sample at `sr`
    end = min(handle.frames, last * down // up + context + 1)
    return begin, end, first - begin // down * up


def stream_ranges(path: PathLike, sr: int, ranges: Sequence[tuple[float, float]]) -> Iterator[np.ndarray]:
    """The wave of each range in seconds, one after the other; what lies between first start and last end is read once.

    Parameters
    ----------
    path, sr
        As in :func:`audiotk.audio.load`, whose waves these are.
    ranges
        start_s and end_s, by rising starts. Memory holds one range (and what overlaps it), never the recording.

    Raises
    ------
    AudiotkError
        As :func:`audiotk.audio.load`; the ranges before the fault were given already.
    """
    with open_sound(path) as handle:
        held, at = np.zeros(0, np.float32), 0  # frames that were read, from frame `at`

        def frames(begin: int, end: int) -> np.ndarray:
            nonlocal held, at
            if not at <= begin <= at + len(held):
                held, at = held[:0], begin
            held, at = held[begin - at :], begin
            if end > at + len(held):
                held = np.concatenate([held, read_frames(handle, path, at + len(held), end)])
            return held[: end - at]

        for start_s, end_s in ranges:
            first, last = sample_range(handle, path, sr, start_s, end_s)
            yield read_samples(handle, path, sr, first, last, frames)


def read_frames(handle: sf.SoundFile, path: PathLike, first: int, last: int) -> np.ndarray:
    """Frames `first` to `last` at the file's own rate, mixed down, float32; valid until this thread's next call."""
    step = SCRATCH // handle.channels
    if last - first <= step:
        return _read_block(handle, path, first, last)
    # memory grows with the sound that is really there, not with what a header promises
    blocks = [_read_block(handle, path, at, min(at + step, last)).copy() for at in range(first, last, step)]
    return np.concatenate(blocks)


def _read_block(handle: sf.SoundFile, path: PathLike, first: int, last: int) -> np.ndarray:
    """:func:`read_frames` of at most `SCRATCH` samples.

    The decoder of MP3 is off for some frames after each seek, and soundfile ends each read with one: so reading starts
    earlier there.
    """
    lead = min(first, MPEG_LEAD) if handle.subtype.startswith("MPEG") else 0
    try:
        _go_to(handle, first - lead)
    except sf.SoundFileError as err:
        raise _undecodable(handle, path, first, err) from err
    return _read_on(handle, path, first - lead, last)[lead:]


def _undecodable(handle: sf.SoundFile, path: PathLike, first: int, err: sf.SoundFileError) -> AudiotkError:
    at_s = first / handle.samplerate
    return AudiotkError(f"{path}: cannot be decoded from {at_s:.3f} s on, truncated? ({err})")


def _read_on(handle: sf.SoundFile, path: PathLike, first: int, last: int) -> np.ndarray:
    """Frames `first` to `last` from where `handle` stands, which is `first`."""
    whole_numbers = handle.subtype == "PCM_16"  # libsndfile's own conversion to float takes three times as long
    shape = (last - first, handle.channels) if handle.channels > 1 else (last - first,)
    try:
        data = handle.read(out=_scratch("int16" if whole_numbers else "float32", shape))
    except sf.SoundFileError as err:
        raise _undecodable(handle, path, first, err) from err
    if len(data) < last - first:
        ends_s, says_s = (first + len(data)) / handle.samplerate, handle.frames / handle.samplerate
        ends = f"sound ends after {ends_s:.3f} s" if len(data) else f"there is no sound at {ends_s:.3f} s"
        raise AudiotkError(f"{path}: is truncated: {ends}, the header says {says_s:.3f} s")
    wave = np.multiply(data, np.float32(2**-15), out=_scratch("float32", shape)) if whole_numbers else data
    if wave.ndim == 2:
        wave = wave @ np.full(wave.shape[1], 1 / wave.shape[1], np.float32)  # (n, channels) -> (n,)
    if not whole_numbers and not np.isfinite(wave).all():
        at = (first + int(np.argmin(np.isfinite(wave)))) / handle.samplerate
        raise AudiotkError(f"{path}: holds NaN or infinite samples, the first at {at:.3f} s")
    return wave


_memory = threading.local()


def _scratch(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array to overwrite, one a thread and type: fresh memory for each file costs as much as reading a WAV."""
    size = prod(shape)
    held: dict[str, np.ndarray] = _memory.__dict__
    if dtype not in held or held[dtype].size < size:
        held[dtype] = np.empty(size, dtype)
    return held[dtype][:size].reshape(shape)


def _go_to(handle: sf.SoundFile, frame: int) -> None:
    """Seek exactly. Vorbis is decoded up to `frame`: libsndfile's seek can be wrong by hundreds of samples there."""
    if handle.subtype != "VORBIS":
        handle.seek(frame)
        return
    if handle.tell() > frame:
        handle.seek(0)
    scratch = np.empty((65_536, handle.channels), np.float32)
    while handle.tell() < frame:
        if not len(handle.read(out=scratch[: frame - handle.tell()])):
            return  # the read that follows comes short and says so


def fill_rows(
    path: str, sr: int, waves: np.ndarray, rows: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[tuple[int, str]]:
    """Write the segments of one recording into their `rows` of `waves`; returns rows whose range is not inside it."""
    bad: list[tuple[int, str]] = []
    wanted: list[tuple[int, int, int]] = []  # first and last sample at `sr`, row
    with open_sound(path) as handle:
        for row, start_s, end_s in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
            try:
                first, last = sample_range(handle, path, sr, start_s, end_s)
                wanted.append((first, min(last, first + waves.shape[1]), row))
            except AudiotkError as err:
                bad.append((row, str(err)))
        for run in _runs(sorted(wanted), sr):
            begin = run[0][0]
            wave = read_samples(handle, path, sr, begin, max(last for _, last, _ in run))
            for first, last, row in run:
                waves[row, : last - first] = wave[first - begin : last - begin]
    return bad


def _runs(wanted: list[tuple[int, int, int]], sr: int) -> Iterator[list[tuple[int, int, int]]]:
    """Group sorted ranges that overlap or nearly touch, so that each group is decoded once."""
    run: list[tuple[int, int, int]] = []
    reach = 0
    for one in wanted:
        if run and (one[0] > reach + JOIN_S * sr or one[1] > run[0][0] + RUN_S * sr):
            yield run
            run = []
        reach = max(one[1], reach if run else 0)
        run.append(one)
    if run:
        yield run


def in_threads(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int | None, progress: bool, what: str
) -> Iterator[Any]:
    """Results of `work` in the order of `items`; what is still waiting is dropped if the caller stops."""
    pool = ThreadPoolExecutor(workers or cores())
    try:
        yield from tqdm(pool.map(work, items), total=len(items), desc=what, disable=not progress)
    finally:
        pool.shutdown(cancel_futures=True)
