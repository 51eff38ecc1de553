"""One core: ACDnet as ONNX, with its front end, beside torch and YAMNet: `python benchmarks/bench_export.py`.

Prints seconds of sound per second of one core and its ratio to eager torch. One recording of 10 s at a time, as a
device hears them; all take turns in this one run and the best turn of each counts, in CPU time of this process. Exits
with 1 if scores of the two differ by more than 1e-4, for networks whose scores differ from sound to sound. YAMNet
hears the same 10 s as 0.975 s windows without overlap; it is left out, with the reason, where its file or LiteRT is not
there (--yamnet PATH; default ../shared/data/models/yamnet.tflite).
"""

from __future__ import annotations

import argparse
import sys
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
MOST, LEAST = 1e-4, 0.3  # difference of scores from torch's, and of a class from sound to sound


def eager(model: WaveformModel, wave: np.ndarray) -> Callable[[], None]:
    tensor = torch.from_numpy(wave)

    def run() -> None:
        with torch.inference_mode():
            model(tensor).sigmoid()

    return run


def sounds(model: WaveformModel, rng: np.random.Generator) -> np.ndarray:
    """Noise, a tone, rumble and clicks of `clip_s`, at 16 bits: float32 (4, samples)."""
    noise = rng.normal(0, 0.1, (4, model.samples))
    noise[1] = noise[1] / 1000 + 0.5 * np.sin(2 * np.pi * 440 / model.sr * np.arange(model.samples))
    noise[2] = np.cumsum(noise[2]) / np.abs(np.cumsum(noise[2])).max()
    noise[3] *= np.where(np.arange(model.samples) % (model.sr // 2) < 100, 5, 0.001)
    return (np.round(noise.clip(-1, 1) * 32767) / 32768).astype(np.float32)


def lively(name: str, rng: np.random.Generator, **options: int) -> tuple[WaveformModel, np.ndarray]:
    """A network whose scores differ from sound to sound, as those of a trained one do, and the sounds."""
    model = build(name, 11, rng=rng, **options)
    waves = sounds(model, rng)
    with torch.no_grad():
        for _ in range(3):  # norms take the statistics of sound
            model.train()(torch.from_numpy(waves))
        last = [layer for layer in model.eval().head.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight.div_(model(torch.from_numpy(waves)).std(0)[:, None])
        last.bias.zero_().sub_(model(torch.from_numpy(waves)).mean(0))
    return model, waves


def exported(model: WaveformModel, waves: np.ndarray, folder: Path) -> tuple[Callable[[], None], float, float]:
    """One pass of the first sound in onnxruntime, the largest difference of scores from torch's, and their spread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(export_onnx(model, folder / f"{model.name}.onnx")), options)
    with torch.inference_mode():
        expected = model(torch.from_numpy(waves)).sigmoid().numpy()
    difference = float(np.abs(session.run(["scores"], {"waveform": waves})[0] - expected).max())
    return lambda: session.run(["scores"], {"waveform": waves[:1]}), difference, float(np.ptp(expected, axis=0).min())


def yamnet(path: Path, rng: np.random.Generator) -> Callable[[], object]:
    teacher = Yamnet(path)
    windows = round(CLIP_S / teacher.window_s)
    waves = rng.normal(0, 0.1, (windows, teacher.samples)).astype(np.float32)
    return lambda: teacher.own_scores(waves)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--yamnet", type=Path, default=YAMNET)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    passes: dict[str, Callable[[], object]] = {}
    notes: dict[str, str] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("acdnet", {}), ("melcnn", {}), ("rawcnn", {"sr": 8000})):
            model, waves = lively(name, rng, **options)
            passes[f"{name}, torch eager"] = eager(model, waves[:1])
            notes[f"{name}, torch eager"] = f"{count_parameters(model):,} parameters"
            passes[f"{name}, ONNX"], difference, spread = exported(model, waves, Path(folder))
            notes[f"{name}, ONNX"] = (
                f"scores differ by {difference:.1e} at most, from sound to sound by {spread:.2f} or more"
            )
            wrong += [name] * (difference > MOST or spread < LEAST)
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
    if wrong:
        told = f"differ by more than {MOST:g} from torch's, or by less than {LEAST:g} from sound to sound"
        print(f"{', '.join(wrong)}: scores {told}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
