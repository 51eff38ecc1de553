"""Sound in and out: WAV, FLAC, OGG, MP3 and AIFF through soundfile, the rest through audioread. Nobody else decodes.

Waves are float32, mono (the mean of all channels), full scale 1.0. Resampling is soxr at quality ``HQ``, which is what
librosa calls ``soxr_hq``. A range that is read alone equals the same range of the whole recording (to about 1e-6).

One file that cannot be read is an :class:`AudiotkError` with its path and the reason; in batch work it is skipped,
listed in a *problems* table and counted in a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile as sf
import soxr

from audiotk.decode import (
    QUALITY,
    PathLike,
    fill_rows,
    in_threads,
    open_sound,
    read_frames,
    read_samples,
    sample_range,
    whole_hz,
)
from audiotk.files import atomic
from audiotk.tables import PROBLEM_COLUMNS, AudiotkError, check_segments

WRITABLE = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16")}


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: `sr` in Hz, `frames` samples in each of `channels`, `format` as ``WAV/PCM_16``."""

    path: str
    sr: int
    channels: int
    frames: int
    duration_s: float
    format: str


INFO_COLUMNS = list(AudioInfo.__annotations__)


def info(path: PathLike) -> AudioInfo:
    """Sample rate, channels and length of a file, without decoding it.

    Raises
    ------
    AudiotkError
        The file is missing, empty, a folder, no sound, has no samples, or is shorter than its header says.
    """
    with open_sound(path) as handle:
        if handle.format in ("FLAC", "MP3", "MPEG"):  # their headers promise a length that only decoding can confirm
            read_frames(handle, path, handle.frames - 1, handle.frames)
        duration_s = handle.frames / handle.samplerate
        kind = f"{handle.format}/{handle.subtype}"
        return AudioInfo(str(path), handle.samplerate, handle.channels, handle.frames, duration_s, kind)


def load(
    path: PathLike, sr: int | None = None, start_s: float = 0.0, end_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a range of a recording, and only that range, as a mono wave.

    Ogg Vorbis is the exception: it is decoded from its start up to `end_s`, because libsndfile can land on the wrong
    sample when it seeks there (its issue 885).

    Parameters
    ----------
    path
        Sound file; several channels are averaged.
    sr
        Wanted sample rate in Hz; None keeps the file's.
    start_s, end_s
        Range in seconds; `end_s` None reads to the end, and may lie 1 ms behind it.

    Returns
    -------
    wave : numpy.ndarray [shape=(n,), dtype=float32]
        Samples ``round(start_s * sr)`` to ``round(end_s * sr)`` of the recording at `sr`.
    sr : int
        Its sample rate in Hz.

    Raises
    ------
    AudiotkError
        The file cannot be read, is truncated or holds NaN or infinite samples, or the range is not inside it.
    """
    with open_sound(path) as handle:
        sr = handle.samplerate if sr is None else whole_hz(sr)
        first, last = sample_range(handle, path, sr, start_s, end_s)
        return read_samples(handle, path, sr, first, last), sr


def resample(wave: np.ndarray, sr: int, to_sr: int) -> np.ndarray:
    """Resample a wave [shape=(..., n)] from `sr` to `to_sr` Hz along its last axis; soxr, quality HQ, float32."""
    wave = np.asarray(wave, dtype=np.float32)
    if sr == to_sr:
        return wave
    flat = wave.reshape(-1, wave.shape[-1])
    rows = [soxr.resample(row, whole_hz(sr), whole_hz(to_sr), quality=QUALITY) for row in flat]
    return np.stack(rows).reshape(*wave.shape[:-1], -1)


def level_dbfs(wave: np.ndarray, axis: int = -1) -> Any:
    """Level in dB re full scale: RMS after the mean (DC) is removed, so a full-scale square is 0 and a sine -3.01.

    Parameters
    ----------
    wave
        Samples, full scale 1.0 [shape=(..., n)].
    axis
        The axis of time.

    Returns
    -------
    float or numpy.ndarray [shape=(...)]
        ``-inf`` for digital silence and for a constant; NaN where a sample is NaN.
    """
    wave = np.moveaxis(np.asarray(wave), axis, -1)
    if wave.shape[-1] == 0:
        raise AudiotkError(f"level_dbfs: expected at least one sample, got a wave of shape {wave.shape}")
    wave = wave.astype(np.float64) - wave[..., :1]  # the first sample goes first, so that a constant becomes exactly 0
    wave -= wave.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        level = 10.0 * np.log10(np.mean(np.square(wave), axis=-1))
    return level if level.ndim else float(level)


def save(path: PathLike, wave: np.ndarray, sr: int, overwrite: bool = False) -> Path:
    """Write a wave [shape=(n,) or (n, channels)] as 16-bit WAV or FLAC, by suffix; it appears whole or not at all.

    Samples beyond full scale are clipped.

    Raises
    ------
    AudiotkError
        Another suffix, an empty or non-finite wave, or a file that is there already (unless `overwrite`).
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise AudiotkError(f"{path}: expected a name that ends in {' or '.join(WRITABLE)}, got {path.suffix!r}")
    if path.exists() and not overwrite:
        raise AudiotkError(f"{path}: is there already; pass overwrite=True to replace it")
    if np.size(wave) == 0 or not np.isfinite(wave).all():
        raise AudiotkError(f"{path}: expected finite samples to write, got shape {np.shape(wave)} or NaN/inf in it")
    kind, subtype = WRITABLE[path.suffix.lower()]
    with atomic(path, overwrite) as draft:
        try:
            sf.write(draft, wave, whole_hz(sr), format=kind, subtype=subtype)
        except sf.SoundFileError as err:
            raise AudiotkError(f"{path}: cannot be written: {err}") from err
    return path


def cut(
    path: PathLike,
    out: PathLike,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    sr: int | None = None,
    fade_s: float = 0.0,
    duration_s: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a range of a recording to a mono file of its own.

    Parameters
    ----------
    path, start_s, end_s, sr
        As in :func:`load`.
    out
        A name that ends in ``.wav`` or ``.flac`` (both 16 bit).
    fade_s
        Length of a raised-cosine fade at both ends, in seconds.
    duration_s
        Zeros are added behind a shorter range up to this length; nothing is ever cut off.
    overwrite
        Replace `out` if it is there.

    Raises
    ------
    AudiotkError
        As :func:`load` and :func:`save`, and if the fades do not fit into the range.
    """
    wave, sr = load(path, sr, start_s, end_s)
    ramp = round(fade_s * sr)
    if ramp < 0 or 2 * ramp > len(wave):
        raise AudiotkError(f"{path}: two fades of {fade_s} s do not fit into {len(wave) / sr:.3f} s")
    if ramp:
        rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)).astype(np.float32)
        wave[:ramp] *= rise
        wave[-ramp:] *= rise[::-1]
    missing = 0 if duration_s is None else round(duration_s * sr) - len(wave)
    return save(out, np.pad(wave, (0, max(missing, 0))), sr, overwrite)


def probe(
    paths: Sequence[PathLike], workers: int | None = None, progress: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`info` of many files in threads.

    Returns
    -------
    files : pandas.DataFrame
        Columns path, sr, channels, frames, duration_s, format; readable files in the given order.
    problems : pandas.DataFrame
        Columns recording (here the path, too), path, reason; one row for each of the other files.
    """

    found = _look(paths, workers, progress)
    files = pd.DataFrame([asdict(one) for one in found if isinstance(one, AudioInfo)], columns=INFO_COLUMNS)
    failed = [(str(path), str(path), one) for path, one in zip(paths, found, strict=True) if isinstance(one, str)]
    return files.astype({"path": "str", "format": "str"}), problem_table(failed, len(found))


def load_segments(
    recordings: pd.DataFrame,
    segments: pd.DataFrame,
    sr: int,
    duration_s: float | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Read many segments in threads, each recording once; the result does not depend on the number of threads.

    Parameters
    ----------
    recordings, segments
        Tables as in :mod:`audiotk.tables`.
    sr
        Sample rate of the waves in Hz.
    duration_s
        Length of every wave in seconds (default: the longest segment); longer segments lose their end, shorter ones get
        zeros behind.
    workers
        Threads; default: one for each core.
    progress
        Show a progress bar.

    Returns
    -------
    waves : numpy.ndarray [shape=(n_ok, samples), dtype=float32]
        The segments that could be read, in the given order.
    segments : pandas.DataFrame
        Their rows.
    problems : pandas.DataFrame
        Columns recording, path, reason: what was skipped, in the given order.
    """
    segments = check_segments(segments)
    samples = samples_of(segments, sr, duration_s)
    waves, failed = load_rows(paths_of(recordings, segments), segments, sr, samples, workers, progress)
    if not failed:
        return waves, segments, problem_table([], 0)
    bad = sorted({row for row, *_ in failed})
    problems = problem_table(_unique(failed), segments["recording"].nunique())
    return np.delete(waves, bad, axis=0), segments.drop(index=bad).reset_index(drop=True), problems


def _look(paths: Sequence[PathLike], workers: int | None, progress: bool) -> list[AudioInfo | str]:
    """:func:`info` of each path, or the reason why there is none."""

    def work(path: PathLike) -> AudioInfo | str:
        try:
            return info(path)
        except AudiotkError as err:
            return str(err)

    return list(in_threads(work, list(paths), workers, progress, "probe"))


def problem_table(failed: Sequence[tuple[str, str, str]], of: int) -> pd.DataFrame:
    """The problems table of `failed` (recording, path, reason), announced by a warning."""
    table = pd.DataFrame(list(failed), columns=list(PROBLEM_COLUMNS)).astype(PROBLEM_COLUMNS)
    if len(table):
        told = f"skipped {table['recording'].nunique()} of {of} recordings, see the problems table; first: "
        warnings.warn(told + table["reason"].iloc[0], stacklevel=3)
    return table


def _unique(failed: Sequence[tuple[int, str, str, str]]) -> list[tuple[str, str, str]]:
    """Failures without their row, each once (a broken recording fails with all its segments)."""
    return list(dict.fromkeys((recording, path, reason) for _, recording, path, reason in sorted(failed)))


def paths_of(recordings: pd.DataFrame, segments: pd.DataFrame) -> pd.Series:
    """The path of each segment's recording."""
    paths = segments["recording"].map(recordings.set_index("recording")["path"])
    if paths.isna().any():
        unknown = segments.loc[paths.isna(), "recording"].iloc[0]
        raise AudiotkError(f"segments: recording {unknown!r} is not in the recordings table")
    return paths


def samples_of(segments: pd.DataFrame, sr: int, duration_s: float | None) -> int:
    """Length of a wave in samples."""
    if duration_s is None:
        duration_s = float((segments["end_s"] - segments["start_s"]).max()) if len(segments) else 0.0
    if not (isfinite(duration_s) and duration_s >= 0):
        raise AudiotkError(f"duration_s: expected seconds > 0, got {duration_s!r}")
    return round(duration_s * whole_hz(sr))


def load_rows(
    paths: pd.Series, segments: pd.DataFrame, sr: int, samples: int, workers: int | None, progress: bool
) -> tuple[np.ndarray, list[tuple[int, str, str, str]]]:
    """Waves [shape=(len(segments), samples)] and (row, recording, path, reason) of what could not be read."""
    waves = np.zeros((len(segments), samples), np.float32)
    rows_of = list(paths.groupby(paths, sort=False).indices.items())
    starts, ends = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    names, ids = segments["recording"].to_numpy(), segments["segment"].to_numpy()

    def work(item: tuple[str, np.ndarray]) -> list[tuple[int, str, str, str]]:
        path, rows = item
        try:
            bad = fill_rows(path, sr, waves, rows, starts[rows], ends[rows])
        except AudiotkError as err:
            return [(int(row), names[row], path, str(err)) for row in rows]
        return [(row, names[row], path, f"segment {ids[row]}: {reason}") for row, reason in bad]

    return waves, [one for found in in_threads(work, rows_of, workers, progress, "load") for one in found]
