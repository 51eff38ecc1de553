"""Ten seconds at home with a dog: a room, a device, backgrounds and events with known ranges, levels and SNR.

:func:`render` draws one soundscape from a :class:`Home` and a random generator. The path of a sound: event -> impulse
response of the room -> response of the device, plus backgrounds through the device, plus the device's own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from audiotk.backgrounds import (
    AMBIENT_KINDS,
    DEVICES,
    KINDS,
    LEVELS_DBFS,
    MOVING_KINDS,
    device_floor,
    draw,
    level_to_power,
    moving,
    response,
    steady,
    thumps,
    transitions,
)
from audiotk.oscillators import Wave, noise
from audiotk.synthesis import CLASSES, Dog, make_dog, sound
from audiotk.tables import AudiotkError

# loudness of a class one metre away (dBFS of its RMS while active), before distance and habit
SOURCE_DBFS = {"bark": -13.0, "howl": -15.0, "whine": -25.0, "growl": -26.0,
               "cough": -23.0, "sneeze": -22.0, "drinking": -31.0, "eating": -30.0}  # fmt: skip
# what tends to be heard around a class besides itself
COMPANIONS = {
    "bark": ("howl", "growl", "whine", "bark"),
    "howl": ("bark", "whine", "howl"),
    "whine": ("bark", "howl", "whine", "eating"),
    "growl": ("bark", "eating", "growl", "whine"),
    "cough": ("sneeze", "drinking", "cough", "eating"),
    "sneeze": ("cough", "whine", "sneeze", "bark"),
    "drinking": ("eating", "cough", "drinking", "sneeze"),
    "eating": ("drinking", "growl", "eating", "cough"),
}
# the background that tends to be there when people search for a class (`background_bias`)
HABITAT = {"bark": "traffic", "howl": "music", "whine": "fan", "growl": "babble",
           "cough": "hum", "sneeze": "babble", "drinking": "hum", "eating": "bowl"}  # fmt: skip
FRAME_S = 0.01
AUDIBLE_DB = 25.0  # an event ends where it is this far under its own loudest frame ...
UNDER_BACKGROUND_DB = 6.0  # ... or this far under the background


@dataclass(frozen=True)
class Home:
    """A dog, its room and the device that hears it.

    `positions`: impulse responses with their distance loss in dB; `habits`: two usual backgrounds; `loudness_db`: of
    this dog.
    """

    dog: Dog
    device: str
    rt60_s: float
    positions: tuple[tuple[Wave, float], ...]
    habits: tuple[str, ...]
    loudness_db: float


class Soundscape(NamedTuple):
    """`wave` float32 (n,) in [-1, 1]; `background`: without the events; `events`, `backgrounds`: one dict a row."""

    wave: Wave
    background: Wave
    events: list[dict[str, Any]]
    backgrounds: list[dict[str, Any]]


def impulse_response(sr: int, rt60_s: float, distance_m: float, rng: np.random.Generator) -> Wave:
    """A room: direct sound, eight early reflections, a diffuse tail that loses its high frequencies first.

    Parameters
    ----------
    sr
        Sample rate in Hz.
    rt60_s
        Time in which the tail falls by 60 dB (at 500 Hz; twice as fast at 8 kHz).
    distance_m
        Source to microphone; sets the ratio of direct to reverberant energy (equal at 1.2 m).
    rng
        Source of the reflections.

    Returns
    -------
    numpy.ndarray
        float32, 0.75 * rt60_s long, of energy 1.
    """
    n = int(sr * 0.75 * rt60_s)
    t = np.arange(n) / sr
    bright = noise(n, rng)
    dull = np.convolve(noise(n, rng), np.hanning(int(sr / 1500) + 3), mode="same")
    dull /= dull.std()
    tail = 0.6 * bright * np.exp(-13.8 * t / rt60_s) + dull * np.exp(-6.9 * t / rt60_s)
    tail *= (1 - np.exp(-t / 0.006)) / np.sqrt(np.sum(tail**2))
    h = tail * (distance_m / 1.2)
    early = (rng.uniform(0.002, 0.04, 8) * sr).astype(int)
    h[np.minimum(early, n - 1)] += rng.uniform(-0.5, 0.5, 8) * np.exp(-early / (0.025 * sr))
    h[0] += 1.0
    return (h / np.sqrt(np.sum(h**2))).astype(np.float32)


def make_home(sr: int, rng: np.random.Generator) -> Home:
    """Draw a dog, a device and a room with three places in it."""
    dog = make_dog(rng)
    rt60 = float(np.clip(np.exp(rng.normal(-1.05, 0.4)), 0.15, 0.9))
    distances = rng.uniform([0.4, 1.0, 2.0], [1.0, 2.0, 4.5])
    losses = 10 * np.log10(1.2 / (1 / distances**2 + 0.2))  # direct sound by 1/r, over a diffuse field
    positions = tuple((impulse_response(sr, rt60, d, rng), float(x)) for d, x in zip(distances, losses, strict=True))
    habits = tuple(str(kind) for kind in rng.choice(AMBIENT_KINDS, 2, replace=False))
    return Home(dog, str(rng.choice(list(DEVICES))), rt60, positions, habits, float(rng.normal(0, 3)))


def frame_power(wave: npt.NDArray[Any], sr: int) -> npt.NDArray[np.float64]:
    """Mean square in frames of 10 ms, (n // frame,)."""
    size = int(FRAME_S * sr)
    return np.square(wave[: len(wave) // size * size], dtype=np.float64).reshape(-1, size).mean(1)


def choose_background(searched: str, home: Home, bias: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Kinds behind an event recording: its habitat at probability `bias` / 2, else a home's habit or a silence."""
    if rng.random() < bias / 2:
        return (HABITAT[searched],)
    draw_ = rng.random()
    if draw_ < 0.4:
        return (str(rng.choice(["clean", "noisy", "device"])),)
    if draw_ < 0.85:
        return (str(rng.choice(home.habits)),)
    return tuple(str(kind) for kind in rng.choice(AMBIENT_KINDS, 2, replace=False))


def choose_events(searched: str, rng: np.random.Generator) -> list[str]:
    """The searched class first, then none to three companions."""
    extra = int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))
    usual = rng.choice(COMPANIONS[searched], extra)
    return [searched, *(str(c) if rng.random() < 0.8 else str(rng.choice(CLASSES)) for c in usual)]


@lru_cache(maxsize=2 * len(DEVICES))
def _device_spectra(name: str, n: int, sr: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Frequencies of an rfft of n samples, and a device's response and noise floor there (do not change them)."""
    f = fft.rfftfreq(n, 1 / sr)
    return f, response(DEVICES[name], f), device_floor(DEVICES[name], f)


def make_background(
    kinds: tuple[str, ...], home: Home, n: int, sr: int, rng: np.random.Generator
) -> tuple[Wave, list[tuple[float, float, str]]]:
    """Everything that is not an event, (n,) float32, and its stretches (start_s, end_s, kind).

    Where a moving bowl is the only kind, the moments in between are stretches of "clean".
    """
    duration_s = n / sr
    f, through, power = _device_spectra(home.device, n, sr)
    if "device" in kinds:  # automatic gain lifts the floor when the room is quiet
        power = power * level_to_power(rng.uniform(6, 16))
    if "clean" in kinds:
        power = power * level_to_power(-8.0)
    else:
        power = power + through**2 * steady("room", rng.uniform(*LEVELS_DBFS["room"]), f, rng)
    extra = np.zeros(n, np.float32)
    stretches: list[tuple[float, float, str]] = []
    for kind in kinds:
        spans = [(0.0, duration_s)]
        if kind in MOVING_KINDS:
            wave, spans = moving(kind, rng.uniform(*LEVELS_DBFS[kind]), n, sr, rng)
            extra += wave
        elif kind != "device":
            power = power + through**2 * steady(kind, rng.uniform(*LEVELS_DBFS[kind]), f, rng)
        stretches += [(start, end, kind) for start, end in spans]
    if kinds == ("bowl",):
        edges = [0.0, *(edge for start, end, _ in stretches for edge in (start, end)), duration_s]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        stretches += [(start, end, "clean") for start, end in gaps if end - start >= 0.01]
    if "transitional" in kinds:
        extra += thumps(n, sr, rng)
    wave = draw(power, n, rng)
    if extra.any():
        wave += fft.irfft(fft.rfft(extra) * through.astype(np.float32), n)
    return (wave * transitions(n, sr, rng) if "transitional" in kinds else wave), stretches


def make_event(class_name: str, home: Home, sr: int, rng: np.random.Generator) -> tuple[Wave, float]:
    """One event as the device hears it: wave (samples,) of RMS 1 over its active part, and its level in dBFS."""
    dry = sound(class_name, home.dog, sr, rng)
    room, loss_db = home.positions[rng.integers(len(home.positions))]
    size = fft.next_fast_len(len(dry) + len(room), real=True)
    grid = np.geomspace(20, sr / 2, 200)
    through = np.interp(fft.rfftfreq(size, 1 / sr), grid, response(DEVICES[home.device], grid)).astype(np.float32)
    wet = fft.irfft(fft.rfft(dry, size) * fft.rfft(room, size) * through, size)
    power = frame_power(wet, sr)
    wet /= np.float32(np.sqrt(power[power > 0.01 * power.max()].mean()))
    return wet, SOURCE_DBFS[class_name] + home.loudness_db + rng.normal(0, 5) - loss_db


def audible_range(power: npt.NDArray[np.float64], behind: npt.NDArray[np.float64]) -> tuple[int, int]:
    """First and one past the last frame in which an event (power per frame) can be heard against what is behind it."""
    heard = power > power.max() * 10 ** (-AUDIBLE_DB / 10)
    over = heard & (power > behind * 10 ** (-UNDER_BACKGROUND_DB / 10))
    frames = np.flatnonzero(over if over.any() else heard)
    return int(frames[0]), int(frames[-1]) + 1


def _place(
    wave: Wave, level: float, behind: Wave, sr: int, onset: int, min_snr_db: float
) -> tuple[Wave, dict[str, Any]]:
    """`wave` at sample `onset`, cut where the recording ends and loud enough for `min_snr_db`; and the event's row."""
    n = len(behind)
    piece = wave[: n - onset] * np.float32(10 ** (level / 20))
    back = frame_power(behind[onset : onset + len(piece)], sr)
    power = frame_power(piece, sr)
    for _ in range(3):  # a louder event is heard for longer, which changes its mean level: settle
        first, last = audible_range(power, back)
        snr = 10 * np.log10(power[first:last].mean() / back[first:last].mean())
        if snr >= min_snr_db:
            break
        gain = 10 ** ((min_snr_db + 0.1 - snr) / 20)
        piece, power = piece * np.float32(gain), power * gain**2
    first, last = audible_range(power, back)
    level = 10 * np.log10(power[first:last].mean())
    start_s, end_s = onset / sr + first * FRAME_S, min(onset / sr + last * FRAME_S, n / sr)
    row = {"start_s": round(start_s, 3), "end_s": round(end_s, 3),
           "snr_db": float(level - 10 * np.log10(back[first:last].mean())), "level_dbfs": float(level),
           "cut": len(wave) > n - onset}  # fmt: skip
    return piece, row


def _free_onset(
    length: int, class_name: str, rows: list[dict[str, Any]], n: int, sr: int, overlap: float, rng: np.random.Generator
) -> int | None:
    """An onset (samples) 0.3 s from all events of its class and, unless overlap is drawn, from the others; or None."""
    together, frame = rng.random() < overlap, int(FRAME_S * sr)
    for _ in range(12):
        onset = int(rng.uniform(0, max(n - min(length, int(1.5 * sr)), 1))) // frame * frame
        start, end = onset / sr, min((onset + length) / sr, n / sr)
        rivals = [r for r in rows if r["class_name"] == class_name or not together]
        if all(end + 0.3 <= r["start_s"] or start >= r["end_s"] + 0.3 for r in rivals):
            return onset
    return None


def render(
    home: Home,
    kinds: tuple[str, ...],
    class_names: list[str],
    rng: np.random.Generator,
    *,
    sr: int = 16000,
    duration_s: float = 10.0,
    overlap: float = 0.35,
    min_snr_db: float = -3.0,
) -> Soundscape:
    """Draw one soundscape.

    Parameters
    ----------
    home
        From :func:`make_home`, with the same `sr`.
    kinds
        Backgrounds: one silence kind or one or more ambient kinds.
    class_names
        Events in order of importance; one that finds no place after twelve draws is left out (never the first).
    rng
        Source of all chance.
    sr, duration_s
        Sample rate in Hz, length in seconds.
    overlap
        Probability that an event may overlap events of other classes.
    min_snr_db
        Fainter events are raised to it.

    Returns
    -------
    Soundscape
        ``events`` rows: class_name, start_s, end_s (audible extent), snr_db and level_dbfs (means over that extent,
        against the background alone), cut (runs over the end). ``backgrounds`` rows: start_s, end_s, kind,
        level_dbfs.

    Raises
    ------
    AudiotkError
        Unknown kind or class, or a silence kind together with other kinds.
    """
    unknown = [k for k in kinds if k not in KINDS] + [c for c in class_names if c not in CLASSES]
    if unknown or not kinds or (len(kinds) > 1 and not set(kinds) <= set(AMBIENT_KINDS)):
        raise AudiotkError(
            f"render: expected one of {KINDS} or several of {AMBIENT_KINDS}, and classes of {CLASSES};"
            f" got {kinds}, {class_names}"
        )
    n = round(duration_s * sr)
    background, stretches = make_background(kinds, home, n, sr, rng)
    wave = background.copy()
    events: list[dict[str, Any]] = []
    for class_name in class_names:
        heard, level = make_event(class_name, home, sr, rng)
        onset = _free_onset(len(heard), class_name, events, n, sr, overlap, rng)
        if onset is None:
            continue
        piece, row = _place(heard, level, background, sr, onset, min_snr_db)
        wave[onset : onset + len(piece)] += piece
        events.append({"class_name": class_name, **row})
    loudest = float(np.abs(wave).max())
    if loudest > 0.97:  # the device turns its gain down
        gain = 0.97 / loudest
        wave, background = wave * np.float32(gain), background * np.float32(gain)
        for row in events:
            row["level_dbfs"] += 20 * np.log10(gain)
    events.sort(key=lambda row: (row["start_s"], row["class_name"]))
    stretches = [*stretches, *([] if "transitional" in kinds else _between(events, duration_s))]
    backgrounds = [{"start_s": round(low, 3), "end_s": round(high, 3), "kind": kind,
                    "level_dbfs": _level_dbfs(background[round(low * sr) : round(high * sr)])}
                   for low, high, kind in stretches]  # fmt: skip
    return Soundscape(wave, background, events, backgrounds)


def _level_dbfs(wave: Wave) -> float:
    return float(10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-20))


def _between(events: list[dict[str, Any]], duration_s: float) -> list[tuple[float, float, str]]:
    """The 0.15 s before and 0.4 s after events, as far as no event is heard: (start_s, end_s, "transitional")."""
    busy = [(row["start_s"], row["end_s"]) for row in events]
    edges = sorted({edge for span in busy for edge in span} | {0.0, duration_s})
    found = []
    for low, high in pairwise(edges):
        if any(start < high and end > low for start, end in busy):
            continue
        after = low + 0.4 if low > 0 else low  # an event has just ended here
        before = high - 0.15 if high < duration_s else high
        spans = [(low, high)] if after >= before else [(low, after), (before, high)]
        found += [(start, end, "transitional") for start, end in spans if end - start > 0.02]
    return found if busy else []
