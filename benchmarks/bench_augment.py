"""How fast training sequences are made, and whether training waits for them: `python benchmarks/bench_augment.py`.

1. Sequences of 10 s a second on one thread: P1's Algorithm 1 as it is here (label-join, up to two tracks), next to the
   same effects at the same probabilities from audiomentations and torch-audiomentations where they are installed
   (`pip install --no-deps audiomentations torch-audiomentations`, with what they import), all in one run, taking turns;
   the best turn counts, by CPU time of this process. The others neither cut nor join labels nor keep ranges; they get
   their tracks ready-made, and sum them. What each of them lacks is printed.
2. Share of the time that a training step waits for its batch, by number of worker processes, with the real networks. A
   machine with as many cores as workers and one more for training should wait for next to nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from audiotk.augment import Recipe, Sequences
from audiotk.losses import masked_bce
from audiotk.models import build
from audiotk.soundscapes import impulse_response

SR, SAMPLES, CLASSES = 16000, 160_000, 11
RECIPE = Recipe()


def material(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.05, (rows, SAMPLES)).astype(np.float32), (rng.random((rows, CLASSES)) < 0.2).astype("f4")


def ours(waves: np.ndarray, targets: np.ndarray) -> Callable[[int], Any]:
    sequences = Sequences(waves, targets, RECIPE, sr=SR, samples=SAMPLES)
    return lambda k: sequences.make(0, k, k % len(waves))


def tracks(waves: np.ndarray, k: int) -> np.ndarray:
    """One or two ready-made tracks."""
    rng = np.random.default_rng(k)
    return waves[rng.integers(len(waves), size=rng.integers(1, 3))]


def by_audiomentations(waves: np.ndarray, room: Path) -> tuple[Callable[[int], Any], str]:
    import audiomentations as am

    r = RECIPE
    source = am.Compose(
        [
            am.TimeStretch(1 / r.rate, r.rate, p=r.stretch),
            am.PitchShift(-r.semitones, r.semitones, p=r.stretch),
            am.SevenBandParametricEQ(p=r.spectral),
            am.BandPassFilter(p=r.band_pass),
            am.ApplyImpulseResponse(str(room), p=r.reverb),
            am.Gain(-4, 4, p=1.0),
        ]
    )
    behind = [am.TanhDistortion(p=r.distortion), am.Gain(-8, 8, p=1.0)]
    lacks = "joined labels, ranges, cuts"
    try:
        import fast_mp3_augment  # noqa: F401

        behind.insert(1, am.Mp3Compression(p=r.codec))
    except ImportError:
        lacks += ", codec (its MP3 needs another package)"
    post = am.Compose(behind)

    def make(k: int) -> np.ndarray:
        mixed = np.sum([source(track, SR) for track in tracks(waves, k)], axis=0)
        changed: np.ndarray = post(mixed, SR)
        return changed

    return make, lacks


def by_torch_audiomentations(waves: np.ndarray, _: Path) -> tuple[Callable[[int], Any], str]:
    import torch_audiomentations as ta

    r = RECIPE
    told = {"sample_rate": SR, "output_type": "tensor"}
    source = [
        ta.PitchShift(-r.semitones, r.semitones, p=r.stretch, **told),
        ta.BandPassFilter(p=r.band_pass, **told),
        ta.Gain(-4, 4, p=1.0, **told),
    ]

    def make(k: int) -> torch.Tensor:
        mixed = torch.from_numpy(tracks(waves, k))[:, None]
        for effect in source:
            mixed = effect(mixed, sample_rate=SR)
        return mixed.sum(0)

    # its ApplyImpulseResponse asks torchaudio for what newer ones do not have
    return make, "joined labels, ranges, cuts, time stretch, equaliser, rooms, distortion, codec"


def speed(count: int, turns: int) -> None:
    waves, targets = material(64)
    room = Path(tempfile.mkdtemp()) / "room.wav"
    soundfile.write(room, impulse_response(SR, 0.5, 1.0, np.random.default_rng(0)) * 0.5, SR)
    makers: dict[str, tuple[Callable[[int], Any], str]] = {"audiotk": (ours(waves, targets), "")}
    for name, maker in (("audiomentations", by_audiomentations), ("torch-audiomentations", by_torch_audiomentations)):
        try:
            makers[name] = maker(waves, room)
        except ImportError as err:
            print(f"{name}: left out ({err})")
    seconds = dict.fromkeys(makers, float("inf"))
    for turn in range(turns + 1):  # the first turn warms up
        for name, (make, _) in makers.items():
            start = time.process_time()
            for k in range(count if turn else 2):
                make(k)
            if turn:
                seconds[name] = min(seconds[name], time.process_time() - start)
    print(f"{'':22} {'sequences/s':>11} {'audiotk is':>11}  lacks")
    for name, (_, lacks) in makers.items():
        print(f"{name:22} {count / seconds[name]:11.1f} {seconds[name] / seconds['audiotk']:10.2f}x  {lacks}")


def waiting(network: str, workers: int, steps: int, batch: int) -> tuple[float, float]:
    """Share of the wall time of a step that it waits for its batch, and steps a second."""
    waves, targets = material(64)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(network, CLASSES, rng=np.random.default_rng(0)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    sequences = Sequences(waves, targets, RECIPE, sr=SR, samples=SAMPLES, workers=workers)
    order = np.arange((steps + 3) * batch) % len(waves)
    batches = sequences.batches(0, order, np.array_split(np.arange(len(order)), steps + 3))
    waited, started = 0.0, 0.0
    for step in range(steps + 3):
        if step == 3:  # workers have started, and the first steps are slow
            waited, started = 0.0, time.perf_counter()
        before = time.perf_counter()
        wave, target = next(batches)
        waited += time.perf_counter() - before
        optimizer.zero_grad()
        masked_bce(model(wave.to(device)), target.to(device)).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
    spent = time.perf_counter() - started
    return waited / spent, steps / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="sequences of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="training steps; 0: leave them out")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"sequences of 10 s at {SR} Hz, 1 thread, {arguments.count} a turn")
    speed(arguments.count, arguments.turns)
    if arguments.steps:
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 1 thread"
        print(f"\ntraining on {where}, batch {arguments.batch}")
        print(f"{'network':8} {'workers':>7} {'sequences/s':>11} {'waits':>7}")
        for network in ("acdnet", "melcnn"):
            for workers in arguments.workers:
                share, rate = waiting(network, workers, arguments.steps, arguments.batch)
                print(f"{network:8} {workers:7} {rate * arguments.batch:11.1f} {share:7.1%}", flush=True)


if __name__ == "__main__":
    main()
