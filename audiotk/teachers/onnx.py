"""Any tagger as an ONNX file: waveform in, one number a class out. Run by onnxruntime, on a CPU unless told otherwise.

>>> teacher = OnnxTagger("tagger.onnx", "classes.csv", sr=32000, window_s=10.0, normalise="sigmoid")
>>> teacher.scores(waves, Prompts({"dog": ("Bark", "Growling")}))    # waves (n, 320000) -> (n, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher, checked_waves
from audiotk.teachers.tagger import checked_scores, read_classes, tagger_checksum

__all__ = ["OnnxTagger"]

NORMALISE = {
    "sigmoid": "the model gives logits of independent classes",
    "softmax": "the model gives logits of which one class is right",
    "none": "the model gives scores in [0, 1] already",
}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
BATCH = 16  # windows at once, at most


class OnnxTagger(Teacher):
    """An ONNX model of ``waveform (n, samples) -> (n, classes)``, both float32; n may be fixed to 1.

    A model that hears one window at a time says the same in any batch; of the others the numbers agree within 1e-5 for
    any number of windows at once, if the model itself keeps its windows apart. May be used from several threads.

    Parameters
    ----------
    weights
        The file, with all of its weights inside (no external data).
    class_map
        Names of its classes in the order of its outputs: a CSV or JSON file or the names, see
        `audiotk.teachers.tagger.read_classes`.
    sr
        Sampling rate in Hz that the model was made for; the file does not tell.
    normalise
        How its numbers become scores: ``sigmoid`` or ``softmax`` of logits, or ``none`` for scores; see `NORMALISE`.
        It is what the teacher `says`.
    window_s
        Length of a window in seconds; default: what the model's input asks for, if that is fixed.
    input, output
        Their names, where the model has several.
    threads
        Of one call.
    device
        ``cpu``, or ``cuda`` with onnxruntime-gpu.

    Raises
    ------
    AudiotkError
        ``onnxruntime`` is not installed, a file cannot be read, or classes, window or names do not fit the model.
    """

    name = "onnx"

    def __init__(
        self,
        weights: str | Path,
        class_map: str | Path | Sequence[str],
        *,
        sr: int,
        normalise: str,
        window_s: float | None = None,
        input: str | None = None,
        output: str | None = None,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        if normalise not in NORMALISE:
            told = "; ".join(f"{name}: {meaning}" for name, meaning in NORMALISE.items())
            raise AudiotkError(f"onnx: normalise: expected one of {told}; got {normalise!r}")
        if sr < 1 or threads < 1:
            raise AudiotkError(f"onnx: expected sr >= 1 Hz and threads >= 1, got sr={sr}, threads={threads}")
        self.path, self.sr, self.says, self.device, self.threads = Path(weights), int(sr), normalise, device, threads
        self.classes = read_classes(class_map)
        self.checksum = tagger_checksum(self.path, self.classes)
        self._content = self.path.read_bytes()
        self._session = _open(self.path, self._content, threads, device)
        given = _chosen(self.path, "input", self._session.get_inputs(), input)
        told = _chosen(self.path, "output", self._session.get_outputs(), output)
        self.input, self.output = given.name, told.name
        self.one_by_one = given.shape[0] == 1
        self.window_s = _window_s(self.path, given.shape, self.sr, window_s)
        _check_shape(self.path, told.shape, len(self.classes))
        self._run(np.zeros((1, self.samples), np.float32))  # what the shapes do not tell

    def own_scores(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32, full scale 1.0] -> scores [shape=(n, len(classes)), float32].

        Raises
        ------
        AudiotkError
            Windows of another shape, or numbers of the model that are no scores.
        """
        waves = checked_waves(self, waves)
        step = 1 if self.one_by_one else BATCH
        parts = [self._run(waves[start : start + step]) for start in range(0, len(waves), step)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def fingerprint(self) -> dict[str, Any]:
        """With what else changes the numbers: how they are normalised, the output, and the runtime."""
        import onnxruntime

        runtime = f"onnxruntime {onnxruntime.__version__} {self.device}"
        return super().fingerprint() | {"normalise": self.says, "output": self.output, "runtime": runtime}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._session = _open(self.path, self._content, self.threads, self.device)

    def _run(self, waves: np.ndarray) -> np.ndarray:
        """Scores of some windows, (n, samples) -> (n, C), float32."""
        try:
            (told,) = self._session.run([self.output], {self.input: np.ascontiguousarray(waves)})
        except Exception as err:  # onnxruntime's errors have no other base
            raise AudiotkError(f"{self.path}: cannot hear windows of shape {waves.shape}: {err}") from err
        wanted = (len(waves), len(self.classes))
        if told.shape != wanted:
            raise AudiotkError(f"{self.path}: expected an output of shape {wanted}, got {told.shape}")
        logits = told.astype(np.float64)  # (n, C)
        if self.says == "sigmoid":
            logits = expit(logits)
        elif self.says == "softmax":
            logits = softmax(logits, axis=1)
        return checked_scores(str(self.path), logits, wanted)


def _open(path: Path, content: bytes, threads: int, device: str) -> Any:
    """A session of onnxruntime on the bytes that were hashed; they cannot name further files."""
    try:
        import onnxruntime
    except ImportError as err:
        raise AudiotkError(f"onnx: needs onnxruntime ({err}); run: pip install onnxruntime") from err
    have = onnxruntime.get_available_providers()
    if PROVIDERS.get(device) not in have:
        raise AudiotkError(
            f"device: expected one of {[d for d, name in PROVIDERS.items() if name in have]}, got {device!r}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=[PROVIDERS[device]])
    except Exception as err:  # as in OnnxTagger._run
        raise AudiotkError(f"{path}: is not an ONNX model with all of its weights inside, or damaged: {err}") from err


def _chosen(path: Path, noun: str, have: Sequence[Any], name: str | None) -> Any:
    """The input or output of that name, or the only one; it has to be float32."""
    names = [one.name for one in have]
    if name is None and len(have) != 1:
        raise AudiotkError(f"{path}: has {len(have)} {noun}s; say {noun}=..., one of {', '.join(names)}")
    if name is not None and name not in names:
        raise AudiotkError(f"{path}: has no {noun} {name!r}; it has {', '.join(names)}")
    found = have[0] if name is None else have[names.index(name)]
    if noun == "input" and len(have) > 1:
        raise AudiotkError(f"{path}: asks for the inputs {', '.join(names)}; expected one, the waveform")
    if found.type != "tensor(float)":
        raise AudiotkError(f"{path}: {noun} {found.name!r}: expected float32, got {found.type}")
    return found


def _window_s(path: Path, shape: Sequence[Any], sr: int, window_s: float | None) -> float:
    """Length of a window, by the model's input and by what was asked for."""
    if len(shape) != 2 or (isinstance(shape[0], int) and shape[0] != 1):
        raise AudiotkError(f"{path}: expected an input of shape (n, samples) or (1, samples), got {tuple(shape)}")
    fixed = shape[1] if isinstance(shape[1], int) else None
    if window_s is None:
        if fixed is None:
            raise AudiotkError(f"{path}: hears windows of any length; say which, window_s=...")
        return fixed / sr
    if not 0 < window_s < float("inf") or (fixed is not None and round(window_s * sr) != fixed):
        wanted = "seconds > 0" if fixed is None else f"{fixed / sr} s ({fixed} samples at {sr} Hz)"
        raise AudiotkError(f"{path}: window_s: expected {wanted}, got {window_s}")
    return float(window_s)


def _check_shape(path: Path, shape: Sequence[Any], n_classes: int) -> None:
    if len(shape) not in (0, 2) or (len(shape) == 2 and isinstance(shape[1], int) and shape[1] != n_classes):
        raise AudiotkError(
            f"{path}: expected an output of shape (n, {n_classes}), one number for each name of the class map, "
            f"got {tuple(shape)}"
        )
