"""How loud is it, how loud is its device when there is nothing to hear, and the energy gate.

Levels are in dBFS after the mean (DC) is removed (:func:`audiotk.audio.level_dbfs`), over frames of `FRAME_S` seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import librosa
import numpy as np
import pandas as pd
from scipy import fft, ndimage
from tqdm.auto import tqdm

from audiotk import audio
from audiotk.tables import AudiotkError, Labels

FRAME_S = 0.1
STEADY_DB = 12.0
FAINT_DB = 15.0  # above the noise floor of a device: what stays below is faint
SOUND_COLUMNS = ("level_dbfs", "flatness", "centroid_hz")
FURTHER_COLUMNS = ("loudest_dbfs", "spread_db", "tonality")
SPECTRUM_S = 0.064
NEIGHBOURS = 25  # bins of a spectrum (about 390 Hz) whose median is the noise that a tone stands out of
STANDS_OUT = 4.0  # power of a tone's bin over that median
BLOCK_S = 600.0  # of sound that is held at a time
SILENT_DBFS = -120.0  # what digital silence counts as where numbers have to be finite


# --- what sound is like -----------------------------------------------------------------------------------------------


def frame_levels(wave: np.ndarray, sr: int, frame_s: float = FRAME_S) -> np.ndarray:
    """Level of each whole frame of `frame_s` seconds, side by side: (..., n) -> (..., T) in dBFS.

    A wave shorter than a frame is one frame. Digital silence is -inf.
    """
    n = min(round(frame_s * sr), wave.shape[-1])
    if n < 1:
        raise AudiotkError(f"levels: expected a frame of a sample or more, got {frame_s} s at {sr} Hz")
    frames = wave.shape[-1] // n
    return np.asarray(audio.level_dbfs(wave[..., : frames * n].reshape(*wave.shape[:-1], frames, n)))


def describe(recordings: pd.DataFrame, segments: pd.DataFrame, sr: int = 16000, progress: bool = False) -> pd.DataFrame:
    """What each segment sounds like, in numbers that people can check by eye.

    Parameters
    ----------
    recordings, segments
        Tables; a segment may occur more than once in `segments`.
    sr
        Hz; sound is resampled to it.
    progress
        Show a progress bar.

    Returns
    -------
    DataFrame, index segment
        level_dbfs; flatness (mean spectral flatness of 64 ms frames, 0 a tone to 1 white noise); centroid_hz (mean
        spectral centroid); loudest_dbfs (level of the loudest 0.1 s); spread_db (that minus the 10th percentile of
        the levels of 0.1 s); tonality (:func:`tonality`; NaN below 64 ms and of digital silence). Digital silence
        counts as -120 dBFS. NaN where a file cannot be read (with a warning).
    """
    places = segments.drop_duplicates("segment")[["segment", "recording", "start_s", "end_s"]]
    parts = []
    bar = tqdm(total=len(places), desc="describe sound", disable=not progress)
    for waves, heard in _blocks(recordings, places, sr):
        parts.append(describe_waves(waves, heard["segment"], sr))
        bar.update(len(heard))
    bar.close()
    columns = [*SOUND_COLUMNS, *FURTHER_COLUMNS]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=columns, dtype=float)
    return found.reindex(pd.Index(places["segment"], dtype="str", name="segment"))


def _blocks(recordings: pd.DataFrame, places: pd.DataFrame, sr: int) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Sound of segments of equal length, not too much at a time; what cannot be read is left out with a warning."""
    samples = ((places["end_s"] - places["start_s"]) * sr).round().astype(int)
    for n, part in places.groupby(samples, sort=False):
        step = max(1, int(BLOCK_S * sr // max(int(n), 1)))
        for start in range(0, len(part), step):
            waves, heard, _ = audio.load_segments(recordings, part[start : start + step].reset_index(drop=True), sr)
            if len(heard):
                yield waves, heard


def describe_waves(waves: np.ndarray, segments: Sequence[str] | pd.Series, sr: int) -> pd.DataFrame:
    """The table of :func:`describe` for sound in memory (n, samples) at `sr` Hz, with the name of each segment."""
    n_fft = min(1024 * sr // 16000, waves.shape[1])
    magnitude = np.abs(librosa.stft(waves, n_fft=n_fft, hop_length=max(1, n_fft // 2), center=False))  # (B, F, T)
    levels = np.maximum(frame_levels(waves, sr), SILENT_DBFS)
    numbers = {
        "level_dbfs": np.maximum(audio.level_dbfs(waves), SILENT_DBFS),
        "flatness": librosa.feature.spectral_flatness(S=magnitude).mean(axis=(1, 2)),
        "centroid_hz": librosa.feature.spectral_centroid(S=magnitude, sr=sr, n_fft=n_fft).mean(axis=(1, 2)),
        "loudest_dbfs": levels.max(axis=1),
        "spread_db": levels.max(axis=1) - np.quantile(levels, 0.1, axis=1),
        "tonality": tonality(waves, sr) if waves.shape[1] >= _frame(sr) else np.nan,
    }
    return pd.DataFrame(numbers, index=pd.Index(list(segments), dtype="str", name="segment"), dtype=float)


def tonality(waves: np.ndarray, sr: int) -> np.ndarray:
    """Share of the power that stands out of its neighbourhood in the spectrum: 0 for noise, near 1 for tones.

    Of the mean power spectrum over 64 ms Hann frames, half overlapping; a bin stands out where it holds more than 4
    times the median of the 25 bins around it, and then with all above that median.

    Parameters
    ----------
    waves
        [shape=(n, samples)] at `sr` Hz, at least a frame long.

    Returns
    -------
    numpy.ndarray [shape=(n,), float64]
        NaN for digital silence and where a sample is not finite.
    """
    waves = np.atleast_2d(np.asarray(waves, np.float64))
    n = _frame(sr)
    if waves.ndim != 2 or waves.shape[1] < n:
        raise AudiotkError(f"tonality: expected waves (n, samples) of at least {SPECTRUM_S} s, got shape {waves.shape}")
    found = np.full(len(waves), np.nan)
    for row, wave in enumerate(waves):
        if not np.isfinite(wave).all():
            continue
        frames = np.lib.stride_tricks.sliding_window_view(wave - wave.mean(), n)[:: n // 2]  # (T, n)
        power = np.square(np.abs(fft.rfft(frames * np.hanning(n + 1)[:-1], axis=1))).mean(axis=0)[1:]  # (n / 2,)
        if (total := power.sum()) > 0:
            around = ndimage.median_filter(power, NEIGHBOURS, mode="nearest")
            found[row] = np.where(power > STANDS_OUT * around, power - around, 0.0).sum() / total
    return found


def _frame(sr: int) -> int:
    return 2 * round(SPECTRUM_S / 2 * sr)  # samples, even


# --- noise floors ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoiseFloor:
    """What a device records when there is nothing to hear.

    level_dbfs is the level of its quietest stretches, spectrum their mean power by frequency (n_fft / 2 + 1, sum 1) at
    `sr` Hz; seconds and recordings say how much sound that rests on.
    """

    device: str
    level_dbfs: float
    spectrum: np.ndarray
    sr: int
    seconds: float
    recordings: int


def noise_floors(
    recordings: pd.DataFrame,
    sr: int = 16000,
    share: float = 0.1,
    by: str = "device",
    most: int = 50,
    progress: bool = False,
) -> dict[str, NoiseFloor]:
    """The noise floor of each device, from the quietest moments of its recordings.

    Of each recording the quietest `share` of the frames (0.1 s) is taken as having nothing to hear; the floor is the
    level that a tenth of these frames stay under, its spectrum the mean over frames within 6 dB of it. Devices that
    were never recorded in a quiet room get a floor that is too high: what is in their quietest moments.

    Parameters
    ----------
    recordings
        A recordings table; without a column `by` all are one device, "".
    sr
        Hz.
    share
        In (0, 1].
    by
        Column that says which recordings share a floor: device, group.
    most
        Recordings of a device that are read at most, spread evenly over the table.
    progress
        Show a progress bar.

    Raises
    ------
    AudiotkError
        No recording of a device can be read, or `share` is out of range.
    """
    if not 0 < share <= 1:
        raise AudiotkError(f"noise floor: expected a share in (0, 1], got {share}")
    device = recordings[by].fillna("").astype("str") if by in recordings else pd.Series("", index=recordings.index)
    floors = {}
    for name, part in tqdm(list(recordings.groupby(device, sort=True)), desc="noise floors", disable=not progress):
        chosen = part.iloc[np.unique(np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(int))]
        frames = [found for row in chosen.to_dict("records") if (found := _quietest(row, sr, share)) is not None]
        if not frames:
            raise AudiotkError(f"noise floor: none of {len(chosen)} recordings of device {name!r} can be read")
        floors[str(name)] = _floor(str(name), np.concatenate(frames), sr, len(frames))
    return floors


def _quietest(row: Mapping[str, Any], sr: int, share: float) -> np.ndarray | None:
    """The quietest frames of a recording (T, n), None if it cannot be read."""
    try:
        wave, _ = audio.load(row["path"], sr=sr)
    except AudiotkError:
        return None
    n = round(FRAME_S * sr)
    frames = wave[: len(wave) // n * n].reshape(-1, n)
    if not len(frames):
        return None
    order = np.argsort(audio.level_dbfs(frames), kind="stable")
    return frames[order[: max(1, round(share * len(frames)))]]


def _floor(name: str, frames: np.ndarray, sr: int, recordings: int) -> NoiseFloor:
    levels = np.maximum(audio.level_dbfs(frames), SILENT_DBFS)
    level = float(np.quantile(levels, 0.1))
    quiet = frames[levels <= level + 6.0]
    n = frames.shape[1]
    return NoiseFloor(name, level, mean_power(quiet.ravel(), n), sr, len(quiet) * n / sr, recordings)


def mean_power(wave: np.ndarray, n: int) -> np.ndarray:
    """Mean power by frequency (n / 2 + 1) of frames of n samples, sum 1 (flat for digital silence)."""
    frames = np.pad(wave, (0, -len(wave) % n)).reshape(-1, n)
    power = (np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * np.hanning(n))) ** 2).mean(axis=0)
    return power / power.sum() if power.sum() > 0 else np.full(len(power), 1 / len(power))


def low_information(sound: pd.DataFrame, floor_dbfs: pd.Series | float) -> pd.Series:
    """Segments in which nothing stands out: steady, or faint from beginning to end.

    Steady: the loudest 0.1 s is at most `STEADY_DB` above the 10th percentile. Faint: the loudest 0.1 s is at most
    `FAINT_DB` above the noise floor of the device. The rule looks at sound alone, not at labels, so that it can be used
    on any data; a steady event (a long howl, an engine) counts as steady, too.

    Parameters
    ----------
    sound
        Of :func:`describe`.
    floor_dbfs
        Noise floor of each segment's device, index segment, or one for all.

    Returns
    -------
    Series
        bool, index segment; False where the sound is not known.
    """
    faint = sound["loudest_dbfs"] <= floor_dbfs + FAINT_DB
    return (faint | (sound["spread_db"] <= STEADY_DB)).rename("low")


# --- the gate ---------------------------------------------------------------------------------------------------------


def fit_gate(
    sound: pd.DataFrame, labels: Labels | pd.DataFrame, device: pd.Series | None = None, keep: float = 0.99
) -> pd.Series:
    """The level under which nothing is said, for each device: the highest that keeps a share of what is present.

    Parameters
    ----------
    sound
        Of :func:`describe`, of validation segments; the gate looks at loudest_dbfs, the loudest 0.1 s.
    labels
        Of the same segments.
    device
        Index segment; None: one gate for all, named "".
    keep
        Share of the segments with a class present that must stay above, in (0, 1].

    Returns
    -------
    Series
        Threshold in dBFS, index device; -inf (never closed) for a device without any present segment.
    """
    if not 0 < keep <= 1:
        raise AudiotkError(f"gate: expected keep in (0, 1], got {keep}")
    frame = labels.frame() if isinstance(labels, Labels) else labels
    level = sound["loudest_dbfs"].reindex(frame.index)
    device = (
        pd.Series("", index=frame.index) if device is None else device.reindex(frame.index).fillna("").astype("str")
    )
    present = (frame == 1).any(axis=1) & level.notna()
    gates = {}
    for name, part in level.groupby(device, sort=True):
        heard = np.sort(part[present[part.index]].to_numpy())
        gates[str(name)] = float(heard[int(np.floor((1 - keep) * len(heard)))]) if len(heard) else -np.inf
    return pd.Series(gates, name="gate_dbfs", dtype=float).rename_axis("device")


def gate(scores: pd.DataFrame, sound: pd.DataFrame, gates: pd.Series, device: pd.Series | None = None) -> pd.DataFrame:
    """Scores with 0 in segments whose loudest 0.1 s is below the gate of their device; unknown levels pass.

    A device that the gate was not fitted on is an error: its noise floor is not known.
    """
    level = sound["loudest_dbfs"].reindex(scores.index)
    names = (
        pd.Series("", index=scores.index) if device is None else device.reindex(scores.index).fillna("").astype("str")
    )
    if unknown := sorted(set(names) - set(gates.index)):
        raise AudiotkError(f"gate: no threshold for device {unknown[0]!r}; it was fitted on {list(gates.index)}")
    return scores.where(~(level < names.map(gates)), 0.0)


def _named(device: pd.Series | None, index: pd.Index) -> pd.Series:
    """The device of each segment, "" where it is not known."""
    return pd.Series("", index=index) if device is None else device.reindex(index).fillna("").astype("str")
