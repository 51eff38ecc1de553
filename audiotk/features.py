"""Front ends: what a network sees of a waveform.

Both are `nn.Module`s without parameters, (B, samples) -> (B, channels, T, F), computed in float32 even under autocast,
so that a bf16 run sees the same features as a float32 run. T = time frames, F = frequency bins or mel bands.

>>> CompressedSTFT(sr=16000)(torch.zeros(2, 160000)).shape
torch.Size([2, 2, 624, 257])
>>> LogMel(sr=16000)(torch.zeros(2, 160000)).shape
torch.Size([2, 1, 501, 64])
"""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError

__all__ = ["CompressedSTFT", "LogMel", "check_wave"]


def check_wave(wave: Tensor, min_samples: int, sr: int, what: str) -> Tensor:
    """Return `wave` as float32 after checking that it is (B, samples), floating, and at least `min_samples` long.

    Raises
    ------
    AudiotkError
        Says what was expected, what came, and the shortest input in seconds.
    """
    if wave.ndim != 2:
        raise AudiotkError(
            f"{what}: expected a waveform batch of shape (B, samples), got shape {tuple(wave.shape)}; "
            "one recording is wave[None, :], and several channels are mixed down first"
        )
    if not wave.is_floating_point():
        raise AudiotkError(f"{what}: expected floating-point samples with full scale 1.0, got {wave.dtype}")
    if wave.shape[1] < min_samples:
        raise AudiotkError(
            f"{what}: needs at least {min_samples} samples ({min_samples / sr:.3f} s at {sr} Hz), "
            f"got {wave.shape[1]} ({wave.shape[1] / sr:.3f} s); pad the audio or use a longer segment"
        )
    return wave.float()


class CompressedSTFT(nn.Module):
    """Complex spectrum with magnitudes compressed by a power and phases kept (P1, section 2.2).

    Waveform (B, samples) -> (B, 2, T, F): real and imaginary part, T = (samples - n_fft) // hop + 1 frames
    (no centring, no padding: frame t covers samples t * hop ... t * hop + n_fft), F = n_fft / 2 + 1 bins.

    X -> X * (|X|^2 + eps) ** ((power - 1) / 2), which is |X| ** power with the phase of X wherever |X| >> 1e-6, and
    has a finite gradient at X = 0 (digital silence gives exact zeros).

    Parameters
    ----------
    sr : int
        Sampling rate in Hz; used only for the default window and for messages.
    n_fft : int, optional
        Window length in samples (periodic Hann); default 32 ms (512 at 16 kHz).
    hop : int, optional
        Samples from frame to frame; default half a window.
    power : float
        Compression exponent; 0.3 in P1, 1 is none.
    """

    eps = 1e-12  # power at which compression turns linear: 160 dB under a full-scale sine at its bin
    window: Tensor

    def __init__(self, sr: int = 16000, n_fft: int | None = None, hop: int | None = None, power: float = 0.3) -> None:
        super().__init__()
        self.sr = sr
        self.n_fft = 2 * round(0.016 * sr) if n_fft is None else n_fft
        self.hop = self.n_fft // 2 if hop is None else hop
        self.power = power
        _check_frames(self.n_fft, self.hop)
        if not 0 < power <= 1:
            raise AudiotkError(f"CompressedSTFT: power must be in (0, 1], got {power}")
        self.channels, self.bins = 2, self.n_fft // 2 + 1
        self.register_buffer("window", _hann(self.n_fft), persistent=False)

    def frames(self, samples: int) -> int:
        """Number of frames of an input of so many samples."""
        return max(0, (samples - self.n_fft) // self.hop + 1)

    def min_samples(self, frames: int = 1) -> int:
        """Shortest input that gives so many frames."""
        return self.n_fft + (frames - 1) * self.hop

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, 2, T, F), laid out channels-last in memory, as the convolutions like it."""
        wave = check_wave(wave, self.min_samples(), self.sr, "CompressedSTFT")
        with torch.autocast(wave.device.type, enabled=False):
            return _in_parts(wave, self._compressed).permute(0, 3, 1, 2)

    def _compressed(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, T, F, 2)."""
        spectrum = _spectrum(wave, self.window, self.hop)  # (B, T, F), complex
        gain = (_power(spectrum) + self.eps).pow((self.power - 1) / 2)  # (B, T, F)
        return torch.view_as_real(spectrum) * gain[..., None]


class LogMel(nn.Module):
    """Natural logarithm of a mel power spectrogram, filters and framing as librosa's defaults.

    Waveform (B, samples) -> (B, 1, T, mels), T = samples // hop + 1. **Centred**: the input is padded with n_fft / 2
    zeros on both sides, so frame t is centred on sample t * hop. Slaney mel scale and area norm, power spectrum,
    log(max(power, floor)); digital silence gives log(floor) everywhere.

    Parameters
    ----------
    sr : int
        Sampling rate in Hz.
    n_fft : int, optional
        Window length in samples (periodic Hann); default 64 ms (1024 at 16 kHz).
    hop : int, optional
        Samples from frame to frame; default 20 ms (320 at 16 kHz).
    mels : int
        Number of mel bands between `fmin` and `fmax` (Hz; default sr / 2).
    floor : float
        Lower bound of the mel power. The default 1e-10 is about 13 dB under the quantisation noise of 16-bit audio,
        so noise floors of devices stay visible and differ from digital silence.

    See Also
    --------
    librosa.feature.melspectrogram : the oracle in the tests.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sr: int = 16000,
        n_fft: int | None = None,
        hop: int | None = None,
        mels: int = 64,
        fmin: float = 0.0,
        fmax: float | None = None,
        floor: float = 1e-10,
    ) -> None:
        super().__init__()
        self.sr, self.mels, self.floor = sr, mels, floor
        self.n_fft = 2 * round(0.032 * sr) if n_fft is None else n_fft
        self.hop = round(0.02 * sr) if hop is None else hop
        _check_frames(self.n_fft, self.hop)
        if mels < 1 or floor <= 0:
            raise AudiotkError(f"LogMel: mels must be at least 1 and floor above 0, got mels={mels}, floor={floor}")
        top = sr / 2 if fmax is None else fmax
        if not 0 <= fmin < top <= sr / 2:
            raise AudiotkError(f"LogMel: expected 0 <= fmin < fmax <= {sr / 2} Hz, got fmin={fmin}, fmax={top}")
        self.channels, self.bins = 1, mels
        self.register_buffer("window", _hann(self.n_fft), persistent=False)
        filters = _mel_filters(sr, self.n_fft, mels, fmin, top)
        self.register_buffer("filters", filters, persistent=False)
        self.blocks = _blocks(filters)

    def frames(self, samples: int) -> int:
        """Number of frames of an input of so many samples."""
        return samples // self.hop + 1

    def min_samples(self, frames: int = 1) -> int:
        """Shortest input that gives so many frames."""
        return max(1, (frames - 1) * self.hop)

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, 1, T, mels)."""
        wave = check_wave(wave, 1, self.sr, "LogMel")
        with torch.autocast(wave.device.type, enabled=False):
            return _in_parts(wave, self._log_mel)[:, None]

    def _log_mel(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, T, mels)."""
        padded = nn.functional.pad(wave, (self.n_fft // 2, self.n_fft // 2))
        power = _power(_spectrum(padded, self.window, self.hop))  # (B, T, n_fft / 2 + 1)
        parts = [power[..., bins] @ self.filters[bins, bands] for bins, bands in self.blocks]
        return torch.cat(parts, dim=-1).clamp(min=self.floor).log()


def _spectrum(wave: Tensor, window: Tensor, hop: int) -> Tensor:
    """Spectra of windowed frames, (B, samples) -> complex (B, T, F)."""
    return torch.fft.rfft(wave.unfold(1, len(window), hop) * window)


def _power(spectrum: Tensor) -> Tensor:
    """|X|^2 by parts: several times faster than abs() on a CPU, and with a gradient at 0."""
    return spectrum.real.square() + spectrum.imag.square()


def _in_parts(wave: Tensor, front: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `front` to a few rows at a time on a CPU, so that its intermediate arrays stay in the cache."""
    rows = max(1, 2**18 // wave.shape[1])
    if wave.device.type != "cpu" or len(wave) <= rows:
        return front(wave)
    return torch.cat([front(part) for part in wave.split(rows)])


def _check_frames(n_fft: int, hop: int) -> None:
    if n_fft < 2 or n_fft % 2 or not 1 <= hop <= n_fft:
        raise AudiotkError(f"expected an even n_fft >= 2 and 1 <= hop <= n_fft, got n_fft={n_fft}, hop={hop}")


def _hann(n_fft: int) -> Tensor:
    """Periodic Hann window, (n_fft,)."""
    return torch.hann_window(n_fft, periodic=True, dtype=torch.float64).float()


def _blocks(filters: Tensor, mels: int = 16) -> list[tuple[slice, slice]]:
    """FFT bins that each few mel bands look at: most of `filters` is zeros, and this multiplies a quarter of it."""
    blocks = []
    for start in range(0, filters.shape[1], mels):
        bands = slice(start, start + mels)
        seen = filters[:, bands].any(dim=1).nonzero()
        blocks.append((slice(int(seen[0]), int(seen[-1]) + 1), bands))
    return blocks


def _mel_filters(sr: int, n_fft: int, mels: int, fmin: float, fmax: float) -> Tensor:
    """Slaney filters, (n_fft / 2 + 1, mels)."""
    # in float64 first: a filter between two bins would otherwise be an all-zero band, which is an error here
    filters = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=mels, fmin=fmin, fmax=fmax, dtype=np.float64)
    empty = int((filters.sum(axis=1) == 0).sum())
    if empty:
        raise AudiotkError(
            f"LogMel: {empty} of {mels} mel bands hold no FFT bin with n_fft={n_fft} at {sr} Hz; "
            "use fewer mels or a larger n_fft"
        )
    return torch.from_numpy(filters.T.astype(np.float32))
