"""MelCNN: the small log-mel network that B2 names and nobody defines."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.features import LogMel
from audiotk.models.base import Change, WaveformModel

__all__ = ["MelCNN"]

WIDTHS = (16, 32, 64, 128)
POOL = 2 ** len(WIDTHS)  # mel frames (and bands) that end in one position of the last map


class MelCNN(WaveformModel):
    """Four convolution blocks on a log-mel spectrogram, pooled as the small CNNs of PANNs (arXiv 1912.10211).

    Batch norm of each mel band; four blocks of 3 x 3 convolution, batch norm, ReLU and 2 x 2 max-pooling with 16, 32,
    64, 128 channels; mean over frequency; mean + max over time; dense 128, ReLU (the embedding), dense to the classes.
    115 K parameters for 10 classes.

    Parameters
    ----------
    n_classes, sr, clip_s
        See `WaveformModel`.
    mels, n_fft, hop, floor
        See `LogMel`; defaults 64 bands, 64 ms window, 20 ms hop.
    width : float
        Multiplies the channels and the dense layer.
    deeper : bool
        Two convolutions a block instead of one: the "more depth" arm of claim B2.6.
    """

    name = "melcnn"
    front: LogMel

    def __init__(
        self,
        n_classes: int,
        *,
        sr: int = 16000,
        clip_s: float = 10.0,
        mels: int = 64,
        n_fft: int | None = None,
        hop: int | None = None,
        floor: float = 1e-10,
        width: float = 1.0,
        deeper: bool = False,
    ) -> None:
        front = LogMel(sr, n_fft, hop, mels, floor=floor)
        super().__init__(
            n_classes, sr, clip_s,
            mels=mels, n_fft=front.n_fft, hop=front.hop, floor=floor, width=width, deeper=deeper,
        )  # fmt: skip
        if mels < POOL:
            raise AudiotkError(f"melcnn: needs at least {POOL} mel bands for its four poolings, got {mels}")
        widths = [round(w * width) for w in WIDTHS]
        if min(widths) < 1:
            raise AudiotkError(f"melcnn: width={width} leaves a block without channels")
        self.front = front
        self.min_samples = front.min_samples(POOL)
        self.norm = nn.BatchNorm1d(mels)
        self.blocks = nn.Sequential(
            *(_block(ci, co, 2 if deeper else 1) for ci, co in zip([1, *widths], widths, strict=False))
        )
        self.embed_dim = widths[-1]
        self.dense = nn.Sequential(nn.Linear(widths[-1], self.embed_dim), nn.ReLU())
        self.head = nn.Linear(self.embed_dim, n_classes)
        self.finish()

    def embed(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> (B, 128): the dense layer after its ReLU."""
        return self._pooled(self._frames(wave, change))

    def with_frames(self, wave: Tensor, change: Change | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, n_classes) and :meth:`frame_logits` (B, T, n_classes) in one pass."""
        x = self._frames(wave, change)  # (B, C, T)
        return self.head(self._pooled(x)), self.head(self.dense(2 * x.transpose(1, 2)))

    def frame_logits(self, wave: Tensor) -> Tensor:
        """What the network hears over time: (B, samples) -> logits (B, T, n_classes) at `frame_times`.

        The classifier is applied to each frame of the last map as if the whole recording sounded like that frame:
        mean + max over time of a constant are twice the frame. So a recording whose map is constant has the same
        frame logits as its logits; in general the two differ, because a recording's mean also holds its quiet parts.
        Each frame sees about 1 s around it (four 3 x 3 convolutions with pooling), and the convolutions are trained
        only through the recording's label, so this is a picture of evidence, not an event detector.
        """
        return self.head(self.dense(2 * self._frames(wave).transpose(1, 2)))

    def frame_times(self, samples: int) -> np.ndarray:
        """Centres in seconds of the T frames of `frame_logits`, float64 (T,); one frame is 16 hops (0.32 s) long."""
        mel_frame = np.arange(self.front.frames(samples) // POOL) * POOL + (POOL - 1) / 2
        return mel_frame * self.front.hop / self.sr

    def frame_levels(self, wave: Tensor) -> Tensor:
        """Level in dBFS of each frame of `frame_logits`, after its mean is removed: (B, samples) -> (B, T).

        -inf for digital silence.
        """
        n = POOL * self.front.hop
        length = self.front.frames(wave.shape[1]) // POOL * n  # up to a hop longer than the wave
        frames = nn.functional.pad(wave, (0, self.front.hop))[:, :length].unflatten(1, (-1, n))  # (B, T, n)
        return 10 * frames.var(2, correction=0).log10()

    def _pooled(self, frames: Tensor) -> Tensor:
        """Last map (B, C, T) -> embeddings (B, 128)."""
        return self.dense(frames.mean(2) + frames.amax(2))

    def _frames(self, wave: Tensor, change: Change | None = None) -> Tensor:
        """Waveform (B, samples) -> last map averaged over frequency, (B, channels, T)."""
        mel = self.hear(wave, change)  # (B, 1, T, mels)
        mel = self.norm(mel[:, 0].transpose(1, 2)).transpose(1, 2)[:, None]
        return self.blocks(mel).mean(3)  # (B, C, T / 16, mels / 16) -> (B, C, T / 16)


def _block(ci: int, co: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        layers += [nn.Conv2d(co if i else ci, co, 3, padding=1, bias=False), nn.BatchNorm2d(co), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))
