"""Where is nothing to hear, what kind of nothing is it, and how to make more of it: the four silences.

==============  =====================================================================================================
silence kind    how it is told from a stretch without events
==============  =====================================================================================================
transitional    the level moves: the loudest frame is more than `STEADY_DB` above the 10th percentile
clean           steady and below `CLEAN_DBFS`, or within `FLOOR_DB` of the noise floor of its device
device          steady, up to `LIFT_DB` above the floor, of its spectrum (half octaves differ by up to `LIKE_DB` RMS)
noisy           steady, and louder or of another spectrum
==============  =====================================================================================================

"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk import audio
from audiotk.backgrounds import SILENCE_KINDS
from audiotk.energy import FAINT_DB, FRAME_S, SILENT_DBFS, STEADY_DB, NoiseFloor, frame_levels, mean_power
from audiotk.oscillators import shaped
from audiotk.tables import AudiotkError, make_segments

CLEAN_DBFS = -70.0
FLOOR_DB = 3.0
LIKE_DB = 3.5
LIFT_DB = 18.0


def quiet_stretches(
    recordings: pd.DataFrame,
    floors: Mapping[str, NoiseFloor],
    within_db: float = FAINT_DB,
    shortest_s: float = 0.5,
    by: str = "device",
    progress: bool = False,
) -> pd.DataFrame:
    """Where recordings stay close to the noise floor of their device.

    Parameters
    ----------
    recordings
        A recordings table; files that cannot be read are passed over (:func:`audiotk.audio.probe` lists them).
    floors
        Of :func:`noise_floors`.
    within_db
        A frame (0.1 s) is quiet if its level is at most so far above the floor.
    shortest_s
        Shorter stretches are dropped.

    Returns
    -------
    DataFrame
        segment, recording, start_s, end_s and kind (of :func:`silence_kind`).
    """
    rows = []
    device = recordings[by].fillna("").astype("str") if by in recordings else pd.Series("", index=recordings.index)
    if unknown := sorted(set(device) - set(floors)):
        raise AudiotkError(
            f"quiet stretches: no noise floor of {by} {unknown[0]!r}; there are those of {sorted(floors)}"
        )
    known = zip(recordings.to_dict("records"), device, strict=True)
    for row, name in tqdm(known, total=len(recordings), desc="quiet stretches", disable=not progress):
        floor = floors[name]
        try:
            wave, sr = audio.load(row["path"], sr=floor.sr)
        except AudiotkError:
            continue
        quiet = frame_levels(wave, sr) <= floor.level_dbfs + within_db
        edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
        for first, last in edges.reshape(-1, 2) * FRAME_S:
            end = min(float(last), float(row["duration_s"]))
            if end - first >= shortest_s - 1e-9:
                kind = silence_kind(wave[round(first * sr) : round(end * sr)], floor)
                rows.append((row["recording"], float(first), end, kind))
    table = pd.DataFrame(rows, columns=["recording", "start_s", "end_s", "kind"])
    places = make_segments(table["recording"].to_numpy(), table["start_s"].to_numpy(), table["end_s"].to_numpy())
    return places.assign(kind=table["kind"].astype("str"))


def silence_kind(wave: np.ndarray, floor: NoiseFloor) -> str:
    """Which of the four silences a stretch without events (n,), at ``floor.sr`` Hz, is, by the rules of the module."""
    levels = np.maximum(frame_levels(wave, floor.sr), SILENT_DBFS)
    if levels.max() - np.quantile(levels, 0.1) > STEADY_DB:
        return "transitional"
    level = max(float(audio.level_dbfs(wave)), SILENT_DBFS)
    if level < max(CLEAN_DBFS, floor.level_dbfs + FLOOR_DB):
        return "clean"
    if level > floor.level_dbfs + LIFT_DB:
        return "noisy"
    n = 2 * (len(floor.spectrum) - 1)
    own = mean_power(wave[: max(n, len(wave) // n * n)], n)
    apart = _octaves(own, floor.sr) - _octaves(floor.spectrum, floor.sr)
    return "device" if np.sqrt(np.mean((apart - apart.mean()) ** 2)) <= LIKE_DB else "noisy"


def _octaves(power: np.ndarray, sr: int) -> np.ndarray:
    """Level in dB of each half octave from 100 Hz up."""
    hz = np.linspace(0.0, sr / 2, len(power))
    edges = 100.0 * 2.0 ** np.arange(0.0, np.log2(sr / 200.0), 0.5)
    band = np.searchsorted(edges, hz, side="right") - 1
    inside = band >= 0
    sums = np.bincount(band[inside], weights=power[inside], minlength=len(edges))
    return 10 * np.log10(np.maximum(sums, 1e-12))


# --- more silence of one's own ----------------------------------------------------------------------------------------


def make_silence(kind: str, n: int, floor: NoiseFloor, rng: np.random.Generator) -> np.ndarray:
    """`n` samples of one kind of silence as the device of `floor` would record it.

    clean: the device's own noise, at -90 to -70 dBFS. device: the same 4 to 16 dB above its floor, as automatic gain
    lifts it. noisy: the device's noise, and room noise 10 to 30 dB above it (at most -35 dBFS) of a slope of 0 to -9 dB
    per octave. transitional: as noisy, with one or two edges where the level jumps or fades by 15 to 30 dB, as before
    and after an event that was cut away.

    Returns
    -------
    numpy.ndarray [shape=(n,), dtype=float32]
        At ``floor.sr`` Hz, full scale 1.

    Raises
    ------
    AudiotkError
        Unknown kind.
    """
    if kind not in SILENCE_KINDS:
        raise AudiotkError(f"silence: expected a kind of {', '.join(SILENCE_KINDS)}, got {kind!r}")
    own = _like(floor, n, rng)
    if kind == "clean":
        return _at(own, rng.uniform(-90.0, -70.0))
    if kind == "device":
        return _at(own, floor.level_dbfs + rng.uniform(4.0, 16.0))
    own = _at(own, floor.level_dbfs)
    slope = rng.uniform(0.0, 9.0) / 6.02
    room = shaped(n, lambda f: np.maximum(f, 50.0) ** -slope, floor.sr, rng)
    loud = min(-35.0, floor.level_dbfs + rng.uniform(10.0, 30.0))
    noisy = own + _at(room, loud)
    return noisy if kind == "noisy" else (noisy * _edges(n, floor.sr, rng) + own).astype(np.float32)


def _like(floor: NoiseFloor, n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (n,) with the spectrum of a noise floor."""
    known_hz = np.linspace(0.0, floor.sr / 2, len(floor.spectrum))
    return shaped(n, lambda f: np.sqrt(np.interp(f, known_hz, floor.spectrum)), floor.sr, rng)


def _at(wave: np.ndarray, level_dbfs: float) -> np.ndarray:
    gain = 10 ** ((level_dbfs - max(float(audio.level_dbfs(wave)), -300.0)) / 20)
    return (wave * gain).astype(np.float32)


def _edges(n: int, sr: int, rng: np.random.Generator) -> np.ndarray:
    """Gain (n,) that falls, rises or both, between 1 and -15 to -30 dB, within 10 to 400 ms."""
    low = -rng.uniform(15.0, 30.0)
    at = np.sort(rng.uniform(0.15, 0.85, size=rng.integers(1, 3))) * n
    level, t = np.full(n, rng.choice([0.0, low])), np.arange(n)
    for place in at:
        width = rng.uniform(0.01, 0.4) * sr
        share = np.clip((t - place) / width, 0.0, 1.0)
        to = low if level[min(int(place), n - 1)] > low / 2 else 0.0
        level += (to - level) * share
    return 10 ** (level / 20)
