"""What the CLAP teachers share: sound through a spectrogram, HTS-AT and a projection; texts through tokens and a tower.

What was checked here: with random weights in the real architectures the embeddings agree with those of the packages
laion-clap 1.1.7 and msclap 1.3.4 and of transformers (``tests/test_teachers_clap.py``). The released files could not be
had: that their tensors are named as the packages' own models name them is an assumption, and a file of which one tensor
has another name is refused, not half loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher, checked_waves
from audiotk.teachers.htsat import Htsat
from audiotk.teachers.mel import ClapMel
from audiotk.teachers.texts import TextReader, tokenizer_checksum

__all__ = ["DTYPES", "AudioTower", "Clap", "embedding_dtype", "on_device", "repeated"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
VERSION = 1  # raised when the same weights give other numbers
BATCH = {"cpu": 8}  # windows at once; 64 elsewhere


class AudioTower(nn.Module):
    """Waveforms (B, samples), float32 -> embeddings of unit norm (B, dim), float32.

    Parameters
    ----------
    mel
        Makes the spectrogram, in float32 whatever `dtype` is.
    encoder
        `ClapAudioEncoder` of transformers, of which the weights are taken over.
    projection
        From its features to embeddings, in float32.
    dtype
        Of HTS-AT.
    int16
        Cut the sound to 16 bit first, as the package laion-clap does.
    """

    def __init__(
        self, mel: ClapMel, encoder: Any, projection: nn.Module, dtype: torch.dtype, int16: bool = False
    ) -> None:
        super().__init__()
        self.mel, self.htsat, self.projection, self.int16 = mel, Htsat(encoder, dtype), projection, int16

    def forward(self, wave: Tensor) -> Tensor:
        """(B, samples) -> (B, dim)."""
        if self.int16:
            wave = ((wave.clamp(-1, 1) * 32767).to(torch.int16).double() / 32767).float()
        features = self.htsat(self.mel(wave))  # (B, width)
        return F.normalize(self.projection(features), dim=-1)  # (B, dim)


class Clap(Teacher):
    """A CLAP model whose audio tower is ours and whose text tower is transformers'.

    Subclasses call :meth:`_set_up`. Numbers are the same in every run on the same machine, and within 1e-5 for any
    number of windows at once.
    """

    def _set_up(
        self,
        tower: AudioTower,
        text: TextReader,
        *,
        logit_scale: float,
        checksum: str,
        device: torch.device,
        dtype: str,
        compile: bool,
        batch: int | None,
    ) -> None:
        """Keep the parts, and put the audio tower where it computes."""
        self.device = device
        self.dtype, self.int16 = dtype, tower.int16
        self.tower = tower.to(self.device)
        self.dim = _dim_of(tower.projection)
        self.logit_scale, self.checksum = float(logit_scale), checksum
        self.batch = batch or BATCH.get(self.device.type, 64)
        if self.batch < 1:
            raise AudiotkError(f"{self.name}: expected a batch of at least 1 window, got {batch}")
        self._text = text
        self._hear: Any = torch.compile(self.tower, dynamic=False) if compile else self.tower
        self._same_size = compile  # a compiled model is compiled again for every number of windows

    def fingerprint(self) -> dict[str, Any]:
        """With the settings that change the numbers; the tokenizer is not part of it, as it changes no embedding."""
        settings = {
            "dtype": self.dtype,
            "int16": self.int16,
            "mel": self.tower.mel.settings.about(),
            "version": VERSION,
        }
        return super().fingerprint() | settings

    def about(self) -> dict[str, Any]:
        """With the tokenizer, which scores depend on."""
        return super().about() | {"tokenizer": self.tokenizer_checksum}

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples)] -> embeddings of unit norm [shape=(n, dim), float32], `batch` at a time.

        Raises
        ------
        AudiotkError
            Windows of another shape, or not finite; embeddings that are not (a damaged file of weights, or numbers too
            large for float16).
        """
        waves = checked_waves(self, waves)
        found = np.empty((len(waves), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(waves), self.batch):
                part = torch.from_numpy(np.ascontiguousarray(waves[start : start + self.batch]))
                n = len(part)
                if self._same_size and n < self.batch:
                    part = F.pad(part, (0, 0, 0, self.batch - n))
                found[start : start + n] = self._heard(part.to(self.device))[:n].cpu().numpy()
        if not np.isfinite(found).all():
            raise AudiotkError(f"{self.name}: gave embeddings that are not finite; damaged weights, or try float32")
        return found

    @property
    def tokenizer_checksum(self) -> str:
        """SHA-256 of the tokenizer's definition, in hex; belongs to scores, as the prompts do."""
        return tokenizer_checksum(self._text.tokenizer)

    def _heard(self, part: Tensor) -> Tensor:
        try:
            return self._hear(part)
        except torch._dynamo.exc.BackendCompilerFailed as err:
            raise AudiotkError(
                f"{self.name}: cannot be compiled here ({str(err).partition(chr(10))[0]}); use compile=False"
            ) from err

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Texts -> embeddings of unit norm [shape=(len(texts), dim), float32].

        Raises
        ------
        AudiotkError
            No tokenizer, or one of another model; a text that is empty or longer than the model reads.
        """
        with torch.inference_mode():
            return F.normalize(self._text(texts), dim=-1).cpu().numpy()


def _dim_of(projection: nn.Module) -> int:
    return [module for module in projection.modules() if isinstance(module, nn.Linear)][-1].out_features


def embedding_dtype(dtype: str) -> torch.dtype:
    """The dtype of that name; AudiotkError for one that is none of `DTYPES`."""
    if dtype not in DTYPES:
        raise AudiotkError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype]


def on_device(device: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    AudiotkError
        torch does not know it, or it is not there.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as err:
        raise AudiotkError(f"device {device!r}: cannot be used: {str(err).partition(chr(10))[0]}") from err
    return found


def repeated(teacher: Teacher, wave: np.ndarray, whole: bool) -> np.ndarray:
    """Sound shorter than a window, repeated to fill it.

    Parameters
    ----------
    teacher
        Whose window is filled.
    wave
        The sound [shape=(n,)].
    whole
        True: only whole repetitions, then zeros; False: the last repetition is cut.

    Raises
    ------
    AudiotkError
        No sound at all, or more than a window.
    """
    samples = teacher.samples
    if wave.ndim != 1 or not 0 < len(wave) <= samples:
        raise AudiotkError(f"{teacher.name}: expected sound of 1 to {samples} samples, got shape {wave.shape}")
    if whole:
        tiled = np.tile(wave, samples // len(wave))
        return np.pad(tiled, (0, samples - len(tiled)))
    return np.tile(wave, -(-samples // len(wave)))[:samples]
