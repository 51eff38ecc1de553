"""What happens to one sound on its way to a training sequence (P1, section 3.1): float32 (n,) in, float32 (n,) out.

Effects of a *source* (filters, reverberation, pitch and time) and effects *behind the microphone* (distortion, codec).
Only :func:`stretch` moves anything in time, and says how: a moment t of its input is heard at t / rate.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from python_stretch import Signalsmith
from scipy import fft

from audiotk.errors import AudiotkError
from audiotk.soundscapes import impulse_response
from audiotk.synthesis import Wave

CODECS = {  # name: format, subtype, compression levels (0 best, 1 worst); all come with libsndfile
    "mp3": ("MP3", "MPEG_LAYER_III", (0.3, 0.95)),
    "vorbis": ("OGG", "VORBIS", (0.3, 1.0)),
    "mu-law": ("WAV", "ULAW", None),
}
DISTORTIONS = ("tanh", "clip", "rectify")


@dataclass(frozen=True)
class Path:
    """What a source passes before the microphone: the gains of a filter and the impulse response of a room.

    `edges_hz` is the pass band (0 and infinity: all), `bumps` are (centre in Hz, octaves, dB) of a smooth equaliser.
    """

    edges_hz: tuple[float, float] = (0.0, np.inf)
    bumps: tuple[tuple[float, float, float], ...] = ()
    room: Wave | None = None

    def gains(self, hertz: np.ndarray) -> np.ndarray:
        """Amplitude at each frequency, without phase: the equaliser times a fourth-order Butterworth band."""
        octave = np.log2(np.maximum(hertz, 1.0))
        level_db = np.zeros(len(hertz))
        for centre, width, peak_db in self.bumps:
            level_db += peak_db * np.exp(-0.5 * ((octave - np.log2(centre)) / width) ** 2)
        low, high = self.edges_hz
        under = 1 / (1 + (low / np.maximum(hertz, 1e-3)) ** 8) if low > 0 else 1.0
        over = 1 / (1 + (hertz / high) ** 8) if np.isfinite(high) else 1.0
        return (10 ** (level_db / 20) * np.sqrt(under * over)).astype(np.float32)

    def __call__(self, wave: Wave, sr: int) -> Wave:
        """`wave` through filter and room in one product of spectra; the first sample stays in place."""
        more = 0 if self.room is None else len(self.room)
        size = fft.next_fast_len(len(wave) + max(more, sr // 50), real=True)
        spectrum = fft.rfft(wave, size) * self.gains(fft.rfftfreq(size, 1 / sr))
        if self.room is not None:
            spectrum *= fft.rfft(self.room, size)
        return fft.irfft(spectrum, size)[: len(wave)].astype(np.float32)


def draw_path(sr: int, spectral: float, band_pass: float, reverb: float, rng: np.random.Generator) -> Path | None:
    """A random path with each part at its probability; None if there is none (our ranges: P1 prints no numbers)."""
    parts = rng.random(3) < (spectral, band_pass, reverb)
    if not parts.any():
        return None
    edges, bumps, room = (0.0, np.inf), [], None
    if parts[0]:
        centres = np.exp(rng.uniform(np.log(100), np.log(0.45 * sr), 3))
        bumps = [
            (float(c), float(w), float(g))
            for c, w, g in zip(centres, rng.uniform(0.5, 2, 3), rng.normal(0, 4, 3), strict=True)
        ]
    if parts[1]:
        edges = (
            float(np.exp(rng.uniform(np.log(20), np.log(400)))),
            float(sr * np.exp(rng.uniform(np.log(0.18), np.log(0.5)))),
        )
    if parts[2]:
        room = impulse_response(sr, float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.3, 3.0)), rng)
    return Path(edges, tuple(bumps), room)


def stretch(wave: Wave, sr: int, rate: float, semitones: float, seed: int = 0) -> Wave:
    """Play `rate` times as fast, and `semitones` higher: (n,) -> (round(n / rate),), by Signalsmith Stretch.

    Events keep their places to within about 10 ms: what was at t is at t / rate.
    """
    if not 0.25 <= rate <= 4 or abs(semitones) > 24:
        raise AudiotkError(f"stretch: expected a rate of 0.25 to 4 and up to 24 semitones, got {rate} and {semitones}")
    machine = Signalsmith.Stretch(seed)
    machine.configure(1, round(0.1 * sr), round(0.04 * sr))  # its preset's are 120 and 30 ms: a quarter faster
    machine.setTimeFactor(rate)
    machine.setTransposeSemitones(semitones)
    n = round(len(wave) / rate)
    padded = np.pad(wave, (0, max(0, sr // 4 - len(wave))))  # a shorter one than its windows would be lost
    made = np.asarray(machine.process(np.ascontiguousarray(padded[None], dtype=np.float32)))[0]
    return np.pad(made, (0, max(0, n - len(made))))[:n]


def distort(wave: Wave, kind: str, amount: float) -> Wave:
    """A non-linear function of each sample, relative to the loudest one: `amount` in 0 (none) to 1 (strong).

    "tanh" saturates softly, "clip" hard, "rectify" adds even harmonics.
    """
    if kind not in DISTORTIONS or not 0 <= amount <= 1:
        raise AudiotkError(f"distort: expected one of {DISTORTIONS} and an amount in 0..1, got {kind!r}, {amount}")
    peak = np.float32(np.abs(wave).max(initial=0.0))
    if peak == 0:
        return wave
    x = wave / peak
    if kind == "tanh":
        drive = np.float32(1 + 9 * amount)
        x = np.tanh(drive * x) / np.tanh(drive)
    elif kind == "clip":
        x = np.clip(x, -1 + 0.9 * amount, 1 - 0.9 * amount)
    else:
        x = x + np.float32(0.5 * amount) * (np.abs(x) - np.abs(x).mean())
    return (peak * x).astype(np.float32)


def through_codec(wave: Wave, sr: int, codec: str, level: float = 0.5) -> Wave:
    """Encode and decode in memory, at `level` 0 (best) to 1 (worst) of the codec's range; no shift in time.

    Samples beyond full scale are scaled down to it for the codec, and up again behind it.
    """
    if codec not in CODECS or not 0 <= level <= 1:
        raise AudiotkError(f"codec: expected one of {tuple(CODECS)} and a level in 0..1, got {codec!r}, {level}")
    form, subtype, levels = CODECS[codec]
    options = {} if levels is None else {"compression_level": levels[0] + level * (levels[1] - levels[0])}
    scale = max(1.0, float(np.abs(wave).max(initial=0.0)) * 1.01)
    file = io.BytesIO()
    soundfile.write(file, wave / np.float32(scale), sr, format=form, subtype=subtype, **options)
    file.seek(0)
    heard = soundfile.read(file, dtype="float32")[0]
    return np.pad(heard, (0, max(0, len(wave) - len(heard))))[: len(wave)] * np.float32(scale)
