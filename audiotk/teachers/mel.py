"""The log-mel spectrograms that CLAP models were trained on, by `torch.stft`.

They differ from `audiotk.features.LogMel` in what is padded at the edges (mirrored sound), in decibels, and in the mel
filters; a model that was trained on one hears nonsense in another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiotk.errors import AudiotkError

__all__ = ["ClapMel", "MelSettings"]

FLOOR = 1e-10  # of the mel power, -100 dB


@dataclass(frozen=True)
class MelSettings:
    """How a spectrogram is made.

    Attributes
    ----------
    sr
        Sampling rate that the mel filters are made for, in Hz; Microsoft's are made for another than the sound's.
    n_fft, hop
        Window and step, in samples.
    mels, fmin, fmax
        Number of filters, and their lowest and highest frequency in Hz.
    scale
        ``slaney`` (librosa's, of equal area) or ``htk`` (torchaudio's, of equal height; LAION's models with fusion).
    """

    sr: int = 48000
    n_fft: int = 1024
    hop: int = 480
    mels: int = 64
    fmin: float = 50.0
    fmax: float = 14000.0
    scale: Literal["slaney", "htk"] = "slaney"

    def about(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


class ClapMel(nn.Module):
    """Waveform (B, samples), float32 -> (B, T, mels) in dB, T = samples // hop + 1 frames.

    Periodic Hann window, centred frames, edges mirrored, power spectrum, 10 log10(max(power, 1e-10)): what torchlibrosa
    and librosa compute, to rounding.

    Raises
    ------
    AudiotkError
        Settings of which no filters can be made.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, settings: MelSettings) -> None:
        import librosa

        super().__init__()
        self.settings = s = settings
        if not (0 <= s.fmin < s.fmax <= s.sr / 2 and s.n_fft > 0 and s.hop > 0 and s.mels > 0):
            raise AudiotkError(f"mel spectrogram: expected 0 <= fmin < fmax <= sr / 2 and sizes above 0, got {s}")
        of_scale: dict[str, Any] = {"htk": True, "norm": None} if s.scale == "htk" else {"htk": False, "norm": "slaney"}
        filters = librosa.filters.mel(
            sr=s.sr, n_fft=s.n_fft, n_mels=s.mels, fmin=s.fmin, fmax=s.fmax, **of_scale
        )  # (mels, n_fft / 2 + 1)
        self.register_buffer("filters", torch.from_numpy(filters).float().T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(s.n_fft), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, T, mels); on a CPU one recording after the other, whose spectrum stays in its cache."""
        if wave.device.type == "cpu" and len(wave) > 1 and not torch.compiler.is_compiling():
            return torch.cat([self._few(one) for one in wave.split(1)])
        return self._few(wave)

    def _few(self, wave: Tensor) -> Tensor:
        s = self.settings
        spectrum = torch.stft(
            wave, s.n_fft, s.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )  # (B, n_fft / 2 + 1, T)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.filters  # (B, T, mels)
        return 10 * mel.clamp(min=FLOOR).log10()
