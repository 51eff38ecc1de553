"""What a room holds when no dog is heard: devices with their noise floors, four silences, seven kinds of ambience.

Steady sounds are power spectra, added up and drawn as one Gaussian noise (cheap, and of known level); sounds that
come and go are waveforms. A spectrum holds power per bin of an rfft and its sum is the mean square of the signal.

==============  =====================================================================================================
silence kind    what it is
==============  =====================================================================================================
clean           almost nothing: a quiet room through a good device
noisy           broadband room noise, no single source stands out
transitional    the level moves: fading in and out, gain control recovering, a far thump and its reverberation
device          the noise floor of the microphone (hiss, hum, converter tones) is louder than the room
==============  =====================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from audiotk.oscillators import Wave, decay, formants, harmonics, noise, rise_and_fall, shaped
from audiotk.synthesis import ring

SILENCE_KINDS = ("clean", "noisy", "transitional", "device")
AMBIENT_KINDS = ("fan", "hum", "traffic", "rain", "babble", "music", "bowl")
MOVING_KINDS = ("traffic", "rain", "babble", "music", "bowl")
KINDS = (*SILENCE_KINDS, *AMBIENT_KINDS)

# (lowest, highest) level in dBFS at the microphone
LEVELS_DBFS = {
    "room": (-76.0, -64.0),
    "clean": (-82.0, -70.0),
    "noisy": (-52.0, -36.0),
    "transitional": (-60.0, -42.0),
    "fan": (-52.0, -32.0),
    "hum": (-54.0, -36.0),
    "traffic": (-52.0, -32.0),
    "rain": (-52.0, -32.0),
    "babble": (-50.0, -32.0),
    "music": (-50.0, -32.0),
    "bowl": (-48.0, -30.0),
}

Spectrum = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Device:
    """A recorder: pass band (Hz), slope (dB per octave), a resonance, and its own noise.

    Attributes
    ----------
    floor_dbfs, floor_slope_db
        Level of the hiss and its slope in dB per octave.
    hum_hz, hum_dbfs
        Mains frequency that leaks in and its level.
    tones
        (Hz, dBFS) of converter and clock tones.
    """

    low_hz: float
    high_hz: float
    slope_db: float
    peak_hz: float
    peak_db: float
    floor_dbfs: float
    floor_slope_db: float
    hum_hz: float
    hum_dbfs: float
    tones: tuple[tuple[float, float], ...]


DEVICES = {
    "phone": Device(110, 7600, 0.6, 2600, 4, -74, -1.5, 50, -110, ((4000.0, -92.0),)),
    "camera": Device(220, 6200, -0.5, 1700, 6, -60, -0.5, 50, -68, ((1000.0, -76.0), (2000.0, -80.0), (3000.0, -82.0))),
    "laptop": Device(140, 7200, 0.2, 3400, 5, -64, -3.0, 60, -84, ((5400.0, -80.0), (121.0, -70.0))),
    "studio": Device(40, 7900, 0.0, 5000, 1, -84, -1.0, 50, -100, ()),
    "speaker": Device(90, 7000, -1.0, 900, 3, -68, 1.5, 60, -78, ((6250.0, -82.0),)),
}


def response(device: Device, f: Spectrum) -> Spectrum:
    """Amplitude response of a device at the frequencies `f` (Hz)."""
    g = np.maximum(f, 1.0)
    band = 1 / np.sqrt((1 + (device.low_hz / g) ** 4) * (1 + (g / device.high_hz) ** 12))
    peak = (device.peak_db / (1 + (2.5 * np.log2(g / device.peak_hz)) ** 2) + device.slope_db * np.log2(g / 1000)) / 20
    return band * 10**peak


def level_to_power(level_dbfs: float) -> float:
    """Mean square of a signal whose RMS is `level_dbfs` re full scale 1.0."""
    return float(10 ** (level_dbfs / 10))


def _scaled(spectrum: Spectrum, level_dbfs: float) -> Spectrum:
    """`spectrum` so that its sum is the power of `level_dbfs`."""
    return spectrum * (level_to_power(level_dbfs) / spectrum.sum())


def _slope(f: Spectrum, db_per_octave: float, low_hz: float, high_hz: float) -> Spectrum:
    g = np.maximum(f, 1.0)
    return 10 ** (db_per_octave * np.log2(g / 1000) / 10) / ((1 + (low_hz / g) ** 4) * (1 + (g / high_hz) ** 4))


def _lines(f: Spectrum, base_hz: float, weights: npt.ArrayLike, width_hz: float = 0.0) -> Spectrum:
    """Harmonics of `base_hz` with power `weights`, as single bins or as bell curves of `width_hz`."""
    spectrum, step = np.zeros_like(f), f[1]
    reach = int(np.ceil(3 * width_hz / step))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / max(width_hz, step)) ** 2)
    for k, weight in enumerate(np.atleast_1d(weights), start=1):
        middle = round(k * base_hz / step)
        if middle + reach < len(f) and middle - reach > 0:
            spectrum[middle - reach : middle + reach + 1] += weight * bell / bell.sum()
    return spectrum


def device_floor(device: Device, f: Spectrum) -> Spectrum:
    """Power per bin of a device's own noise."""
    spectrum = _scaled(_slope(f, device.floor_slope_db, 60, 0.95 * f[-1]), device.floor_dbfs)
    if device.hum_dbfs > -100:
        spectrum += _scaled(_lines(f, device.hum_hz, [1, 0.5, 0.7, 0.2, 0.3, 0.1, 0.15]), device.hum_dbfs)
    for tone_hz, dbfs in device.tones:
        if tone_hz < f[-1]:
            spectrum += _scaled(_lines(f, tone_hz, [1.0], 0.3), dbfs)
    return spectrum


def steady(kind: str, level_dbfs: float, f: Spectrum, rng: np.random.Generator) -> Spectrum:
    """Power per bin, at the rfft frequencies `f`, of a background that stays the same: fan, hum, or a room noise."""
    if kind == "fan":  # broadband flow noise and the blade passing frequency with its harmonics
        blades = rng.uniform(45, 190)
        flow = _scaled(_slope(f, rng.uniform(-8.0, -3.5), 40, rng.uniform(1500, 5000)), 0.0)
        weights = rng.uniform(0.3, 1.0, 10) / np.arange(1, 11) ** rng.uniform(0.8, 2.2)
        tonal = _lines(f, blades, weights, rng.uniform(0.5, 3.0))
        motor = _lines(f, blades / rng.integers(3, 8), rng.uniform(0.0, 0.1, 12), 0.3)
        return _scaled(flow + rng.uniform(0.02, 0.5) * tonal + 0.3 * motor, level_dbfs)
    if kind == "hum":  # mains and its harmonics from a fridge or a power supply
        weights = np.array([0.6, 1, 0.25, 0.5, 0.15, 0.3, 0.1, 0.2, 0.05, 0.1, 0.04, 0.06]) * rng.uniform(0.3, 1.5, 12)
        buzz = _lines(f, rng.choice([50.0, 60.0]) * rng.uniform(0.999, 1.001), weights, 0.05)
        return _scaled(buzz + _scaled(_slope(f, -6, 40, 2000), 0.0) * 0.15, level_dbfs)
    if kind == "noisy":
        return _scaled(_slope(f, rng.uniform(-5.0, -0.5), 60, rng.uniform(3000, 7000)), level_dbfs)
    return _scaled(_slope(f, rng.uniform(-7.0, -3.0), 30, 6000), level_dbfs)


def draw(spectrum: Spectrum, n: int, rng: np.random.Generator) -> Wave:
    """Gaussian noise (n,) with the given power per bin; `spectrum` belongs to ``rfftfreq(n)``."""
    normal = noise(2 * len(spectrum), rng).view(np.complex64)
    return fft.irfft(normal * (n * np.sqrt(spectrum / 4)).astype(np.float32), n)


def _swells(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """Vehicles that pass: bell curves in dB over a floor, as an amplitude (n,)."""
    t = np.arange(0, n, 160) / sr
    level = np.full(len(t), -6.0)
    for _ in range(rng.integers(0, 4)):
        level = np.maximum(level, rng.uniform(0, 9) - 9 * np.abs((t - rng.uniform(0, t[-1])) / rng.uniform(0.8, 2.5)))
    return np.interp(np.arange(n), np.arange(0, n, 160), 10 ** (level / 20)).astype(np.float32)


def _traffic(n: int, sr: int, rng: np.random.Generator) -> Wave:
    corner, slope = rng.uniform(300, 1200), rng.uniform(0.8, 1.6)
    rumble = shaped(n, lambda f: 1 / (1 + (np.maximum(f, 25) / corner) ** 2) ** (slope / 2) * (f > 25), sr, rng)
    return rumble * _swells(n, sr, rng)


def _rain(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """A wash of far drops (noise) and near drops (clicks of several pitches)."""
    slope, corner = rng.uniform(-0.8, 0.45), rng.uniform(3000, 9000)
    wash = shaped(n, lambda f: (np.maximum(f, 150) / 1000) ** slope / (1 + (f / corner) ** 2), sr, rng)
    drops = np.zeros(n, np.float32)
    kernel_n = int(0.012 * sr)
    for _ in range(4):
        kernel = formants(noise(kernel_n, rng), [rng.uniform(900, 6000)], [1500], [0], sr)
        kernel *= decay(kernel_n, sr, 0.002)
        at = rng.integers(0, n - kernel_n, rng.poisson(rng.uniform(3, 40) * n / sr))
        gains = rng.exponential(1.0, len(at)).astype(np.float32)
        np.add.at(drops, at[:, None] + np.arange(kernel_n), gains[:, None] * kernel)
    return wash + np.float32(rng.uniform(0.2, 1.2)) * drops / np.sqrt(np.mean(drops**2) + np.float32(1e-12))


def _syllables(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """One talker: about four voiced syllables a second, each with its vowel; fricatives; pauses between phrases."""
    wave = np.zeros(n, np.float32)
    low, tract = rng.uniform(95, 230), rng.uniform(0.9, 1.2)
    t, phrase = rng.uniform(0.0, 0.5), 0
    while t < n / sr - 0.4:
        m = int(sr * rng.uniform(0.12, 0.28))
        pitch = low * np.linspace(rng.uniform(0.95, 1.3), rng.uniform(0.8, 1.05), m)
        vowel = tract * np.array([rng.uniform(280, 800), rng.uniform(900, 2300), 2700.0])
        voice = formants(harmonics(pitch, 1.0, sr), vowel, [90, 130, 220], [0, -6, -14], sr, -1.0)
        start = int(t * sr)
        wave[start : start + m] += rng.uniform(0.4, 1.0) * (voice * rise_and_fall(m, sr, 0.04, 0.08))[: n - start]
        if rng.random() < 0.35:
            k = int(0.08 * sr)
            hiss = formants(noise(k, rng), [rng.uniform(3500, 6500)], [2000], [0], sr)
            wave[start : start + k] += 0.15 * (hiss * rise_and_fall(k, sr, 0.02, 0.03))[: n - start]
        phrase += 1
        t += m / sr * rng.uniform(0.8, 1.3) + (rng.uniform(0.3, 0.9) if phrase % 9 == 8 else 0.0)
    return wave


def _babble(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """A television or people next door: two talkers, and their echo shifted to stand for more of them."""
    voices = _syllables(n, sr, rng) + np.float32(rng.uniform(0.2, 0.9)) * _syllables(n, sr, rng)
    return voices + np.float32(rng.uniform(0.2, 0.6)) * np.roll(voices[::-1], int(rng.integers(n)))


def _music(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """Chords and a melody in a key: plucked or held notes with four partials."""
    wave = np.zeros(n, np.float32)
    scale = 110 * 2 ** (rng.uniform(0, 1) + np.array([0, 2, 3, 5, 7, 8, 10, 12, 14, 15, 17, 19]) / 12)
    beat, held = rng.uniform(0.25, 0.6), rng.uniform(0.15, 0.8)
    for step in range(int(n / sr / beat)):
        for note in rng.choice(scale, size=3 if step % 4 == 0 else 1) * rng.choice([1.0, 2.0]):
            m = int(sr * beat * (3.5 if step % 4 == 0 else 1.5))
            start = int(step * beat * sr)
            tone = harmonics(np.full(m, note), 1.3, sr) if note > 500 else _partials(m, note, sr)
            piece = tone * rise_and_fall(m, sr, 0.01, 0.1) * decay(m, sr, held)
            wave[start : start + m] += piece[: n - start] * np.float32(rng.uniform(0.4, 1.0))
    return wave


def _partials(m: int, note_hz: float, sr: int) -> Wave:
    angle = (2 * np.pi * note_hz * np.arange(m) / sr % (2 * np.pi)).astype(np.float32)
    tones = np.sin(angle) + 0.5 * np.sin(2 * angle) + 0.3 * np.sin(3 * angle) + 0.15 * np.sin(4 * angle)
    return tones.astype(np.float32, copy=False)


def bowl_movement(sr: int, rng: np.random.Generator) -> Wave:
    """A bowl pushed over the floor: scraping noise through the bowl's modes, and a few knocks (0.4 to 1.6 s)."""
    n = int(sr * rng.uniform(0.4, 1.6))
    base, tau = rng.uniform(350, 1500), rng.uniform(0.03, 0.2)
    modes = base * np.array([1.0, 1.58, 2.24, 2.92])
    scrape = formants(noise(n, rng), modes, modes * 0.06, [0, -3, -5, -8], sr)
    jerk = np.interp(np.arange(n), np.linspace(0, n, 12), rng.exponential(0.5, 12)).astype(np.float32)
    wave = scrape / np.abs(scrape).max() * jerk * rise_and_fall(n, sr, 0.05, 0.1)
    for start in rng.integers(0, n, rng.integers(1, 5)):
        piece = ring(sr, rng, base, tau)[: n - start]
        wave[start : start + len(piece)] += rng.uniform(0.2, 1.0) * piece
    return wave.astype(np.float32)


_MOVING = {"traffic": _traffic, "rain": _rain, "babble": _babble, "music": _music}


def moving(
    kind: str, level_dbfs: float, n: int, sr: int, rng: np.random.Generator
) -> tuple[Wave, list[tuple[float, float]]]:
    """A background that comes and goes: (n,) float32 at the microphone, and the (start_s, end_s) ranges where it is
    heard.

    `level_dbfs` is its level over these ranges. Traffic, rain, babble and music last throughout, a bowl moves in
    stretches.
    """
    if kind != "bowl":
        wave, spans = _MOVING[kind](n, sr, rng), [(0.0, n / sr)]
        power = float(np.mean(wave**2))
    else:
        wave, spans = np.zeros(n, np.float32), []
        for onset in np.sort(rng.uniform(0, 0.9, rng.integers(2, 6))) * n / sr:
            onset = round(onset, 2)
            piece, start = bowl_movement(sr, rng), round(onset * sr)
            wave[start : start + len(piece)] += piece[: n - start]
            spans.append((float(onset), float(min(n / sr, onset + np.ceil(len(piece) / sr * 1000) / 1000))))
        spans = _merged(spans)
        power = float(np.sum(wave**2)) / sr / sum(end - start for start, end in spans)
    return wave * np.float32(np.sqrt(level_to_power(level_dbfs) / power)), spans


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted spans with overlapping ones joined."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def transitions(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """Gain (n,) of a recording whose level moves: steps of 6 to 20 dB as gain control recovers, fades at both ends."""
    t = np.arange(0, n + 160, 160) / sr
    level = np.zeros(len(t))
    for _ in range(rng.integers(2, 6)):
        step_db, middle, width = rng.uniform(6, 20) * rng.choice([-1, 1]), rng.uniform(0, t[-1]), rng.uniform(0.02, 0.4)
        level += step_db * special.expit((t - middle) / width)
    level -= level.mean()
    fade = rng.uniform(0.05, 1.5)
    level += 20 * np.log10(np.clip(np.minimum(t, t[-1] - t) / fade, 0.03, 1.0))
    return np.interp(np.arange(n), t * sr, 10 ** (np.clip(level, -30, 14) / 20)).astype(np.float32)


def thumps(n: int, sr: int, rng: np.random.Generator) -> Wave:
    """None to two far doors or steps, (n,): low, dull, 0.3 s each, -50 to -36 dBFS."""
    wave, size = np.zeros(n, np.float32), int(0.3 * sr)
    for _ in range(rng.integers(0, 3)):
        piece = formants(noise(size, rng), [rng.uniform(60, 160)], [60], [0], sr) * decay(size, sr, 0.06)
        start = int(rng.uniform(0, 0.9) * n)
        wave[start : start + size] += (10 ** (rng.uniform(-50, -36) / 20) / piece.std() * piece)[: n - start]
    return wave
