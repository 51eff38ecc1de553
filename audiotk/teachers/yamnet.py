"""YAMNet: a tagger of 521 AudioSet classes in 4 MB, run by LiteRT (``ai-edge-litert``) on a CPU.

M. Plakal and D. Ellis, TensorFlow Models, Apache-2.0. Measured on 240 recordings of ESC-10 (mean score over windows
with 50 % overlap, the best of the ten classes in `ESC10`): 95.8 % are right; see ``tests/test_teachers_yamnet.py``.

>>> teacher = Yamnet("yamnet.tflite")                    # beside it: yamnet_class_map.csv
>>> teacher.scores(waves, Prompts.read(ESC10)).shape     # waves (n, 15600) at 16 kHz
(n, 10)
"""

from __future__ import annotations

import math
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher, checked_waves
from audiotk.teachers.tagger import checked_scores, read_classes, tagger_checksum
from audiotk.teachers.weights import teachers_dir

__all__ = ["ESC10", "Yamnet"]

ESC10 = Path(__file__).with_name("prompts_esc10_yamnet.yaml")  # ESC-10's classes in YAMNet's words
FILE, CLASS_MAP = "yamnet.tflite", "yamnet_class_map.csv"
PACKAGE = "ai-edge-litert"
CONVOLUTIONS, DENSE = ("CONV_2D", "DEPTHWISE_CONV_2D"), "FULLY_CONNECTED"


class Yamnet(Teacher):
    """YAMNet as a TFLite file: 0.975 s at 16 kHz -> 521 independent scores (sigmoids).

    The file hears one window at a time, about 3 ms of one core each, so batches save nothing, change nothing, and what
    it says of a window depends on that window alone. LiteRT computes with the XNNPACK delegate: other builds of it (or
    none) round the 8-bit weights in another way, so versions are part of the fingerprint. May be used from several
    threads: each gets an interpreter of its own.

    Parameters
    ----------
    weights
        The file; default ``teachers/yamnet.tflite`` in the cache folder (`audiotk.files.cache_dir`).
    class_map
        CSV with a column ``display_name``; default ``yamnet_class_map.csv`` beside the weights.
    threads
        Of one invocation; more than 1 hardly helps a network this small.

    Raises
    ------
    AudiotkError
        ``ai-edge-litert`` is not installed, a file is not there or no such model, or the class map does not fit.
    """

    name, sr, window_s, says = "yamnet", 16000, 0.975, "sigmoid"

    def __init__(
        self, weights: str | Path | None = None, class_map: str | Path | None = None, threads: int = 1
    ) -> None:
        path = Path(weights) if weights is not None else teachers_dir() / FILE
        named = Path(class_map) if class_map is not None else path.with_name(CLASS_MAP)
        for file in (path, named):
            if not file.is_file():
                raise AudiotkError(
                    f"{file}: there is no such file; YAMNet needs {FILE} (TensorFlow's model for audio classification, "
                    f"4 MB) and {CLASS_MAP}: give their paths, or put both into {teachers_dir()}"
                )
        if threads < 1:
            raise AudiotkError(f"yamnet: expected at least 1 thread, got {threads}")
        self.classes = read_classes(named)
        self.checksum = tagger_checksum(path, self.classes)
        self.path, self.threads = path, threads
        self._content = path.read_bytes()
        self._own = threading.local()  # the interpreter of each thread
        self._interpreter()

    def own_scores(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, 15600), float32, full scale 1.0] -> scores [shape=(n, 521), float32]."""
        waves = checked_waves(self, waves)
        interpreter, given, told = self._interpreter()
        scores = np.empty((len(waves), len(self.classes)), np.float32)
        for row, wave in enumerate(waves):
            interpreter.set_tensor(given, wave[None])
            interpreter.invoke()
            scores[row] = interpreter.get_tensor(told)[0]
        return checked_scores(self.name, scores, scores.shape)

    def fingerprint(self) -> dict[str, Any]:
        """With the runtime, on which the numbers depend a little."""
        return super().fingerprint() | {"runtime": f"{PACKAGE} {metadata.version(PACKAGE)}"}

    def size(self) -> tuple[int, int]:
        """Weights, and multiply-accumulates for one window, read from the file's graph: (0, 0) without a convolution.

        Counted are convolutions and dense layers from the first convolution on, each with its bias. What comes before
        is front end, though some of it has the form of dense layers: the Fourier transform and the mel filters.
        """
        graph = _read(self.path, self._content, self.threads)  # not made ready: no delegate has taken operations over
        shapes = {part["index"]: tuple(map(int, part["shape"])) for part in graph.get_tensor_details()}
        weights = products = 0
        for operation in graph._get_ops_details():  # in the order in which they run
            kind = operation["op_name"]
            if kind not in CONVOLUTIONS and not (kind == DENSE and weights):
                continue
            kernel, *bias = (shapes[place] for place in operation["inputs"][1:] if place >= 0)
            weights += sum(map(math.prod, (kernel, *bias)))
            # kernels are (out, rows, columns, in), (1, rows, columns, out) if depthwise, or (out, in)
            each = math.prod(kernel[1:3]) if kind == "DEPTHWISE_CONV_2D" else math.prod(kernel[1:])
            products += math.prod(shapes[operation["outputs"][0]]) * each
        return weights, products

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local())

    def _interpreter(self) -> tuple[Any, int, int]:
        """This thread's interpreter, and its numbers of the input and of the scores."""
        if not hasattr(self._own, "parts"):
            interpreter = _open(self.path, self._content, self.threads)
            self._own.parts = (interpreter, *self._check(interpreter))
        parts: tuple[Any, int, int] = self._own.parts
        return parts

    def _check(self, interpreter: Any) -> tuple[int, int]:
        """Numbers of the input and of the scores, if the model is one of one window in and one score a class out."""
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        shapes = [tuple(part["shape"]) for part in (*inputs, *outputs)]
        floats = all(part["dtype"] is np.float32 for part in (*inputs, *outputs))
        if len(inputs) != 1 or shapes[0] != (1, self.samples) or not floats:
            raise AudiotkError(f"{self.path}: expected one input (1, {self.samples}) of float32, got shapes {shapes}")
        fits = [part["index"] for part in outputs if tuple(part["shape"]) == (1, len(self.classes))]
        if len(fits) != 1:
            raise AudiotkError(
                f"{self.path}: no output of shape (1, {len(self.classes)}), one score for each class of the class map; "
                f"outputs have the shapes {shapes[1:]}"
            )
        return inputs[0]["index"], fits[0]


def _read(path: Path, content: bytes, threads: int) -> Any:
    """A TFLite interpreter that is not yet ready."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as err:
        raise AudiotkError(f"yamnet: needs {PACKAGE} ({err}); run: pip install {PACKAGE}") from err
    try:
        return Interpreter(model_content=content, num_threads=threads)
    except (ValueError, RuntimeError) as err:
        raise AudiotkError(f"{path}: is not a TFLite model, or damaged: {err}") from err


def _open(path: Path, content: bytes, threads: int) -> Any:
    """A TFLite interpreter that is ready to be invoked."""
    interpreter = _read(path, content, threads)
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as err:
        raise AudiotkError(f"{path}: is not a TFLite model, or damaged: {err}") from err
    return interpreter
