"""The voices and habits of invented dogs: eight sound classes as dry waveforms, drawn from a random generator.

Each :class:`Dog` has its own pitch, vocal tract, roughness and tempo, so a split by dog asks a model to generalise to
unheard animals. Voices follow the source-filter idea: a pulse train or noise through formant resonances. Pitch,
duration and brightness were set by looking at real recordings (ESC-50's dogs and sneezes; a test compares them); dogs
lap about three times a second (Gart et al., "Dogs lap using acceleration-driven open pumping", PNAS 112, 2015).

Everything returned is mono and float32, its largest absolute value 1: :mod:`audiotk.soundscapes` sets levels and rooms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audiotk.oscillators import (
    Wave,
    curve,
    decay,
    formants,
    harmonics,
    noise,
    pulses,
    rise_and_fall,
    spaced,
    train,
    wander,
)
from audiotk.tables import AudiotkError

CLASSES = ("bark", "howl", "whine", "growl", "cough", "sneeze", "drinking", "eating")


@dataclass(frozen=True)
class Dog:
    """What stays the same about one animal; frequencies in Hz.

    Attributes
    ----------
    size
        0 (toy dog) to 1 (giant); the other values lean on it.
    tract
        Factor on all formant frequencies (long vocal tracts have low ones).
    bark_hz, howl_hz, whine_hz, growl_hz
        Typical pitch of each voice.
    roughness
        0 (clear voice) to 1 (mostly noise).
    tempo
        Factor on the repetition rates of barks, coughs, laps and chews.
    brightness
        Slope added to the source spectrum, in dB per octave.
    snap
        Factor on the durations of single barks, coughs and sneezes.
    wetness
        0 (dry chewing, hard clicks) to 1 (wet chewing, splashing laps).
    """

    size: float
    tract: float
    bark_hz: float
    howl_hz: float
    whine_hz: float
    growl_hz: float
    roughness: float
    tempo: float
    brightness: float
    snap: float
    wetness: float


def make_dog(rng: np.random.Generator) -> Dog:
    """Draw an individual."""
    size = rng.beta(1.3, 1.3)
    spread = lambda low, high, sd: float((low + (high - low) * size) * np.exp(sd * rng.standard_normal()))  # noqa: E731
    return Dog(
        size=float(size),
        tract=spread(1.3, 0.82, 0.06),
        bark_hz=spread(800.0, 330.0, 0.16),
        howl_hz=spread(720.0, 360.0, 0.14),
        whine_hz=spread(1300.0, 720.0, 0.22),
        growl_hz=spread(125.0, 58.0, 0.14),
        roughness=float(rng.beta(2.0, 2.0)),
        tempo=spread(1.15, 0.9, 0.12),
        brightness=float(rng.normal(0.0, 2.2)),
        snap=spread(0.8, 1.2, 0.12),
        wetness=float(rng.beta(1.5, 1.5)),
    )


def sound(class_name: str, dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    """One event of a class: a single call, or a bout of calls with short pauses, as a person would mark it.

    Parameters
    ----------
    class_name
        One of :data:`CLASSES`.
    dog
        Who makes it.
    sr
        Sample rate in Hz, at least 8000.
    rng
        Source of everything that differs from event to event.

    Returns
    -------
    numpy.ndarray
        float32 (samples,), about 0.1 to 5 s, largest absolute value 1.

    Raises
    ------
    AudiotkError
        Unknown class or sample rate below 8 kHz.
    """
    if class_name not in _MAKERS:
        raise AudiotkError(f"sound: expected one of {CLASSES}, got {class_name!r}")
    if sr < 8000:
        raise AudiotkError(f"sound: expected a sample rate of at least 8000 Hz, got {sr}")
    wave = _MAKERS[class_name](dog, sr, rng)
    return (wave / np.abs(wave).max()).astype(np.float32)


# --- the eight classes -----------------------------------------------------------------------------------------------


def _one_bark(dog: Dog, sr: int, rng: np.random.Generator, pitch_factor: float = 1.0) -> Wave:
    n = int(sr * dog.snap * rng.uniform(0.11, 0.24))
    top = dog.bark_hz * pitch_factor * np.exp(0.08 * rng.standard_normal())
    pitch = top * curve(n, (0.0, rng.uniform(0.55, 0.8)), (rng.uniform(0.2, 0.45), 1.0), (1.0, rng.uniform(0.45, 0.75)))
    pitch *= 1 + wander(n, sr, 150, 0.06 * dog.roughness, rng)
    rough = np.clip(dog.roughness + 0.2 * rng.standard_normal(), 0.1, 1.1)
    source = harmonics(pitch, 0.75, sr) + 0.6 * rough * noise(n, rng)
    centres = dog.tract * np.array([rng.uniform(520, 900), rng.uniform(1150, 1700), 2800.0, 4500.0, 6200.0])
    wave = formants(source, centres, [300, 450, 800, 1200, 1500], [0, -3, -9, -13, -16], sr, dog.brightness - 0.7)
    edge = np.minimum(decay(n, sr, rng.uniform(0.06, 0.13)) * 1.6, 1.0)
    return wave * rise_and_fall(n, sr, rng.uniform(0.008, 0.03), 0.05) * edge


def _bark(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    count = 1 + int(min(rng.poisson(1.8), 6))
    gap = rng.uniform(0.27, 0.55) / dog.tempo
    pieces = [_one_bark(dog, sr, rng) * np.float32(rng.uniform(0.55, 1.0)) for _ in range(count)]
    return train(pieces, spaced(count, gap, 0.15, rng), sr)


def _one_howl(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    n = int(sr * np.clip(np.exp(rng.normal(0.75, 0.4)), 0.9, 4.5))
    top = dog.howl_hz * np.exp(0.12 * rng.standard_normal())
    glide = curve(
        n,
        (0.0, rng.uniform(0.5, 0.8)),
        (rng.uniform(0.1, 0.35), 1.0),
        (rng.uniform(0.6, 0.85), rng.uniform(0.88, 1.05)),
        (1.0, rng.uniform(0.5, 0.85)),
    )
    vibrato = rng.uniform(0.0, 0.02) * np.sin(2 * np.pi * rng.uniform(3.5, 6.5) * np.arange(n) / sr)
    pitch = top * glide * (1 + vibrato + wander(n, sr, 8, 0.008, rng))
    source = harmonics(pitch, 1.1, sr) + 0.10 * (0.3 + dog.roughness) * noise(n, rng)
    centres = [1.15 * top, dog.tract * 1250, dog.tract * 2500]
    wave = formants(source, centres, [300, 350, 500], [0, -8, -18], sr, dog.brightness - 2.0)
    loud = 1 + wander(n, sr, 5, 0.15, rng)
    return wave * rise_and_fall(n, sr, rng.uniform(0.05, 0.4), rng.uniform(0.2, 0.7)) * loud.astype(np.float32)


def _howl(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    pieces, onsets = [_one_howl(dog, sr, rng)], [0.0]
    if rng.random() < 0.25:  # many howls break out of a bark
        lead = _one_bark(dog, sr, rng, pitch_factor=dog.howl_hz / dog.bark_hz)
        pieces, onsets = [lead * np.float32(np.abs(pieces[0]).max() / np.abs(lead).max()), pieces[0]], [0.0, 0.1]
    if rng.random() < 0.2:
        onsets.append(onsets[-1] + len(pieces[-1]) / sr + rng.uniform(0.05, 0.25))
        pieces.append(_one_howl(dog, sr, rng) * np.float32(0.8))
    return train(pieces, onsets, sr)


def _one_whine(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    n = int(sr * rng.uniform(0.2, 1.0))
    top = dog.whine_hz * np.exp(0.2 * rng.standard_normal())
    shape = curve(n, (0.0, rng.uniform(0.65, 1.1)), (rng.uniform(0.3, 0.7), 1.0), (1.0, rng.uniform(0.6, 1.05)))
    shake_hz, depth = rng.uniform(8, 17), rng.uniform(0.0, 0.6)
    shake = np.sin(2 * np.pi * shake_hz * np.arange(n) / sr + rng.uniform(0, 6))
    pitch = top * shape * (1 + 0.012 * depth * shake + wander(n, sr, 20, 0.01, rng))
    source = harmonics(pitch, 1.7, sr) + 0.06 * (0.3 + dog.roughness) * noise(n, rng)
    centres = [dog.tract * 1100, dog.tract * 2300, 3600]
    wave = formants(source, centres, [500, 700, 900], [0, -6, -14], sr, dog.brightness - 1.0)
    return wave * rise_and_fall(n, sr, 0.06, 0.12) * (1 - depth * (0.5 + 0.5 * shake)).astype(np.float32)


def _whine(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    pieces = [_one_whine(dog, sr, rng) * np.float32(rng.uniform(0.5, 1.0)) for _ in range(rng.integers(1, 5))]
    onsets = np.cumsum([0.0, *(len(p) / sr + rng.uniform(0.03, 0.3) for p in pieces[:-1])])
    return train(pieces, list(onsets), sr)


def _growl(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    n = int(sr * np.clip(np.exp(rng.normal(0.45, 0.45)), 0.5, 4.0))
    base = dog.growl_hz * np.exp(0.08 * rng.standard_normal())
    pitch = base * curve(n, (0.0, 0.85), (rng.uniform(0.3, 0.7), rng.uniform(1.0, 1.35)), (1.0, 0.8))
    pitch *= 1 + wander(n, sr, 60, 0.06 + 0.08 * dog.roughness, rng)
    flutter_hz = rng.uniform(17, 34)
    flutter = 0.5 + 0.5 * np.sin(2 * np.pi * flutter_hz * np.arange(n) / sr + wander(n, sr, 10, 0.8, rng))
    source = pulses(pitch, 0.25, sr, rng) + (0.02 + 0.05 * dog.roughness) * noise(n, rng)
    centres = dog.tract * np.array([rng.uniform(420, 640), rng.uniform(1050, 1500), 2500.0, 3700.0])
    wave = formants(source, centres, [120, 200, 350, 500], [0, -6, -14, -18], sr, dog.brightness - 2.0)
    swell = (1 - rng.uniform(0.3, 0.8) * flutter) * (1 + wander(n, sr, 4, 0.2, rng))
    return wave * rise_and_fall(n, sr, rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5)) * swell.astype(np.float32)


def _one_cough(dog: Dog, sr: int, rng: np.random.Generator, honk: float) -> Wave:
    first, n = int(sr * rng.uniform(0.03, 0.07)), int(sr * dog.snap * rng.uniform(0.22, 0.42))
    hiss = noise(n, rng) * (decay(n, sr, 0.09 * dog.snap) + 0.2 * decay(n, sr, 0.2))
    pitch = dog.bark_hz * rng.uniform(0.45, 0.7) * curve(n, (0.0, 1.0), (0.4, 1.15), (1.0, 0.6))
    voice = harmonics(pitch * (1 + wander(n, sr, 120, 0.08, rng)), 0.7, sr) * decay(n, sr, 0.14)
    voice[:first] *= 0.1  # the glottis opens with a burst, then the folds come in
    centres = dog.tract * np.array([rng.uniform(550, 800), rng.uniform(1300, 1800), 2800.0, 4400.0])
    wave = formants(hiss + honk * voice, centres, [180, 260, 500, 900], [0, 0, -3, -6], sr, dog.brightness)
    return wave * rise_and_fall(n, sr, rng.uniform(0.01, 0.04), 0.1)


def _cough(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    count, honk = 1 + int(min(rng.poisson(1.3), 4)), rng.uniform(0.3, 1.6)
    pieces = [_one_cough(dog, sr, rng, honk) * np.float32(rng.uniform(0.5, 1.0)) for _ in range(count)]
    return train(pieces, spaced(count, rng.uniform(0.32, 0.65) / dog.tempo, 0.15, rng), sr)


def _one_sneeze(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    n, attack = int(sr * dog.snap * rng.uniform(0.28, 0.65)), rng.uniform(0.02, 0.08)
    fall = curve(n, (0.0, 1.0), (rng.uniform(0.2, 0.45), 0.9), (1.0, 0.06)).astype(np.float32)
    pitch = dog.bark_hz * rng.uniform(0.5, 0.9) * curve(n, (0.0, 1.3), (1.0, 0.5))
    voice = harmonics(pitch * (1 + wander(n, sr, 100, 0.05, rng)), 0.7, sr)
    source = noise(n, rng) + rng.uniform(0.3, 2.0) * voice * curve(n, (0.0, 1.0), (0.5, 0.3), (1.0, 0.0)).astype(
        np.float32
    )
    centres = dog.tract * np.array([rng.uniform(550, 1300), rng.uniform(1600, 3000), 4300.0, 6000.0])
    wave = formants(source * fall, centres, [300, 450, 900, 1800], [0, -2, -4, -6], sr, dog.brightness - 1.0)
    return wave * rise_and_fall(n, sr, attack, 0.12)


def _sneeze(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    count = 1 + int(min(rng.poisson(0.6), 3))
    pieces = [_one_sneeze(dog, sr, rng) * np.float32(rng.uniform(0.6, 1.0)) for _ in range(count)]
    onsets = spaced(count, rng.uniform(0.45, 0.85) / dog.tempo, 0.15, rng)
    if rng.random() < 0.5:  # the breath drawn before it
        n = int(sr * rng.uniform(0.15, 0.4))
        breath = formants(noise(n, rng), [1600 * dog.tract, 4200], [900, 1800], [0, -3], sr)
        breath *= np.float32(0.2 * np.abs(pieces[0]).max() / np.abs(breath).max())
        lead = n / sr + rng.uniform(0.0, 0.15)
        pieces, onsets = [breath * rise_and_fall(n, sr, 0.1, 0.05), *pieces], [0.0, *(lead + t for t in onsets)]
    return train(pieces, onsets, sr)


def _bubble(sr: int, rng: np.random.Generator, low_hz: float, high_hz: float) -> Wave:
    """A closing water bubble: a short tone that rises as it dies away (Minnaert resonance)."""
    n, start = int(0.06 * sr), rng.uniform(low_hz, high_hz)
    t = np.arange(n) / sr
    tone = np.sin(2 * np.pi * start * (t + rng.uniform(1.0, 5.0) * t**2))
    return (tone * decay(n, sr, rng.uniform(0.006, 0.018)) * rise_and_fall(n, sr, 0.002, 0.01)).astype(np.float32)


def _click(sr: int, rng: np.random.Generator, tau_s: float, low_hz: float) -> Wave:
    """A short burst of noise above about `low_hz`."""
    n = int(6 * tau_s * sr) + 8
    centre = rng.uniform(1.0, 2.2) * low_hz
    return formants(noise(n, rng) * decay(n, sr, tau_s), [centre, 2.1 * centre], [0.5 * centre, centre], [0, -4], sr)


def _lap(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    slosh_n = int(rng.uniform(0.07, 0.14) * sr)
    slosh = formants(noise(slosh_n, rng), [rng.uniform(900, 2200), 4000], [900, 1800], [0, -4], sr)
    pieces = [
        rng.uniform(0.10, 0.4) * slosh * rise_and_fall(slosh_n, sr, 0.03, 0.05),
        rng.uniform(0.5, 1.2) * (1.2 - dog.wetness) * _click(sr, rng, 0.003, 1500),
        *(rng.uniform(0.3, 1.0) * (0.5 + dog.wetness) * _bubble(sr, rng, 450, 1700) for _ in range(rng.integers(1, 4))),
    ]
    onsets = [0.0, *rng.uniform(0.02, 0.11, len(pieces) - 1)]
    return train([p.astype(np.float32) for p in pieces], onsets, sr)


def _drinking(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    gap = rng.uniform(0.27, 0.36) * (0.85 + 0.3 * dog.size) / dog.tempo
    count = max(4, int(rng.uniform(1.4, 4.2) / gap))
    pieces = [_lap(dog, sr, rng) * np.float32(rng.uniform(0.5, 1.0)) for _ in range(count)]
    return train(pieces, spaced(count, gap, 0.08, rng), sr)


def ring(sr: int, rng: np.random.Generator, base_hz: float, tau_s: float) -> Wave:
    """A struck metal or china bowl: inharmonic modes, the high ones dying first."""
    n = int(5 * tau_s * sr)
    modes = base_hz * np.array([1.0, 1.58, 2.24, 2.92, 4.15]) * rng.uniform(0.95, 1.05, 5)
    t = np.arange(n) / sr
    wave = sum(
        rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * f * t) * decay(n, sr, tau_s * base_hz / f)
        for f in modes
        if f < sr / 2
    )
    return np.asarray(wave, np.float32)


def _chew(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    length, count = rng.uniform(0.06, 0.17), int(rng.integers(5, 16))
    low = rng.uniform(900, 2000)
    pieces = [rng.exponential(0.6) * _click(sr, rng, rng.uniform(0.001, 0.004), low) for _ in range(count)]
    thump_n = int(0.07 * sr)
    thump = formants(noise(thump_n, rng), [rng.uniform(180, 400)], [150], [0], sr) * rise_and_fall(
        thump_n, sr, 0.01, 0.05
    )
    pieces.append(rng.uniform(0.3, 1.5) * thump)
    if rng.random() < dog.wetness:
        pieces.append(rng.uniform(0.2, 0.7) * _bubble(sr, rng, 500, 1600))
    return train([p.astype(np.float32) for p in pieces], list(rng.uniform(0.0, length, len(pieces))), sr)


def _eating(dog: Dog, sr: int, rng: np.random.Generator) -> Wave:
    gap = rng.uniform(0.3, 0.5) / dog.tempo
    count = max(4, int(rng.uniform(1.4, 4.2) / gap))
    pieces = [_chew(dog, sr, rng) * np.float32(rng.uniform(0.4, 1.0)) for _ in range(count)]
    onsets = spaced(count, gap, 0.15, rng)
    for onset in rng.uniform(0, onsets[-1], rng.poisson(0.8)):  # the muzzle knocks the bowl
        pieces.append(ring(sr, rng, rng.uniform(500, 1800), 0.04) * np.float32(rng.uniform(0.1, 0.5)))
        onsets.append(float(onset))
    return train(pieces, onsets, sr)


_MAKERS: dict[str, Callable[[Dog, int, np.random.Generator], Wave]] = {
    "bark": _bark,
    "howl": _howl,
    "whine": _whine,
    "growl": _growl,
    "cough": _cough,
    "sneeze": _sneeze,
    "drinking": _drinking,
    "eating": _eating,
}
