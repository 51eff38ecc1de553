"""One core: ACDnet as ONNX, with its front end, beside torch and YAMNet: `python benchmarks/bench_export.py`.

Prints seconds of sound per second of one core and its ratio to eager torch. One recording of 10 s at a time, as a
device hears them; all take turns in this one run and the best turn of each counts, in CPU time of this process. YAMNet
hears the same 10 s as 0.975 s windows without overlap; it is left out, with the reason, where its file or LiteRT is not
there (--yamnet PATH; default ../shared/data/models/yamnet.tflite).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from audiotk.errors import AudiotkError
from audiotk.models import WaveformModel, build, count_parameters
from audiotk.models.export import export_onnx
from audiotk.teachers.yamnet import Yamnet

YAMNET = Path(__file__).parents[2] / "shared" / "data" / "models" / "yamnet.tflite"
CLIP_S = 10.0


def eager(model: WaveformModel, wave: np.ndarray) -> Callable[[], None]:
    tensor = torch.from_numpy(wave)

    def run() -> None:
        with torch.inference_mode():
            model(tensor).sigmoid()

    return run


def exported(model: WaveformModel, wave: np.ndarray, folder: Path) -> tuple[Callable[[], None], float]:
    """One pass in onnxruntime, and the largest difference of its scores from torch's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(export_onnx(model, folder / f"{model.name}.onnx")), options)
    with torch.inference_mode():
        expected = model(torch.from_numpy(wave)).sigmoid().numpy()
    difference = float(np.abs(session.run(["scores"], {"waveform": wave})[0] - expected).max())
    return lambda: session.run(["scores"], {"waveform": wave}), difference


def yamnet(path: Path, rng: np.random.Generator) -> Callable[[], object]:
    teacher = Yamnet(path)
    windows = round(CLIP_S / teacher.window_s)
    waves = rng.normal(0, 0.1, (windows, teacher.samples)).astype(np.float32)
    return lambda: teacher.own_scores(waves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--yamnet", type=Path, default=YAMNET)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    passes: dict[str, Callable[[], object]] = {}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("acdnet", {}), ("melcnn", {}), ("rawcnn", {"sr": 8000})):
            model = build(name, 11, rng=rng, **options).eval()
            wave = rng.normal(0, 0.1, (1, model.samples)).astype(np.float32)
            passes[f"{name}, torch eager"] = eager(model, wave)
            notes[f"{name}, torch eager"] = f"{count_parameters(model):,} parameters"
            passes[f"{name}, ONNX"], difference = exported(model, wave, Path(folder))
            notes[f"{name}, ONNX"] = f"scores differ by at most {difference:.1e}"
        try:
            passes["yamnet, TFLite"] = yamnet(arguments.yamnet, rng)
        except AudiotkError as err:
            print(f"yamnet left out: {err}")
        seconds = dict.fromkeys(passes, float("inf"))
        for turn in range(arguments.turns + 1):  # the first turn warms up
            for key, run in passes.items():
                start = time.process_time()
                run()
                if turn:
                    seconds[key] = min(seconds[key], time.process_time() - start)
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, one thread, one recording of 10 s a call")
    print(f"{'':22} {'s of sound/s':>12} {'vs ACDnet eager':>15}")
    for key, spent in seconds.items():
        ratio = seconds["acdnet, torch eager"] / spent
        print(f"{key:22} {CLIP_S / spent:12.1f} {ratio:15.2f}  {notes.get(key, '')}")


if __name__ == "__main__":
    main()
