"""Loading and features: 10 s recordings a second from 44.1 kHz files to a 16 kHz log-mel, ours against a librosa loop.

Both sides read the same files in the same run, in turns; the best of the repeats counts. Ours is ``audio.load`` and
``features.LogMel``, in one thread for each core, each of which takes a recording from its file to its features;
theirs is ``librosa.load(sr=16000)``, ``melspectrogram`` and ``power_to_db``, one file after the other. Sound: real
ESC-10 recordings in pairs where they are (``../shared/data`` or ``AUDIOTK_TEST_DATA``), else synthetic noise.

Then an epoch of batches in random order, each wave decoded anew, against the same epoch from
shards (``shards.StoredWaves``, pages in memory), and what it takes to write these.

    python benchmarks/bench_loading.py --n 60
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
import torch

from audiotk.audio import load, load_rows
from audiotk.features import LogMel
from audiotk.models.predict import Waves
from audiotk.shards import StoredWaves
from audiotk.tables import whole_recordings

SR, FILE_SR, SECONDS = 16_000, 44_100, 10
MEL = {"n_fft": 1024, "hop_length": 320, "n_mels": 64}


def make_files(folder: Path, n: int, suffix: str) -> list[Path]:
    """`n` files of 10 s: two ESC-10 recordings each, or noise."""
    data = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    real = sorted((data / "esc10" / "audio").glob("*.ogg"))
    rng = np.random.default_rng(0)
    paths = []
    for k in range(n):
        if real:
            parts = [sf.read(real[(2 * k + i) % len(real)], dtype="float32")[0] for i in (0, 1)]
            wave = np.resize(np.concatenate(parts), SECONDS * FILE_SR)
        else:
            wave = 0.1 * rng.standard_normal(SECONDS * FILE_SR).astype(np.float32)
        paths.append(folder / f"{k}{suffix}")
        sf.write(paths[-1], wave, FILE_SR)
    return paths


def by_librosa(paths: list[Path]) -> None:
    for path in paths:
        wave, sr = librosa.load(path, sr=SR)
        librosa.power_to_db(librosa.feature.melspectrogram(y=wave, sr=sr, **MEL))


def by_audiotk(paths: list[Path], front: LogMel, workers: int | None) -> None:
    def features(path: Path) -> torch.Tensor:
        wave, _ = load(path, sr=SR)
        with torch.inference_mode():
            return front(torch.from_numpy(wave)[None])

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for _ in pool.map(features, paths):
            pass


class Anew:
    """Waves that are decoded each time that they are asked for."""

    def __init__(self, segments: pd.DataFrame) -> None:
        self.segments = segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        some = self.segments.iloc[rows].reset_index(drop=True)
        return load_rows(some["recording"], some, SR, SR * SECONDS, None, progress=False)[0]


def epoch(waves: Waves, batch_size: int = 32) -> None:
    order = np.random.default_rng(0).permutation(len(waves))
    for start in range(0, len(order), batch_size):
        waves[order[start : start + batch_size]]


def epochs(paths: list[Path], folder: Path, repeats: int) -> dict[str, float]:
    """Best CPU seconds of an epoch either way, and those of writing the shards."""
    names = [str(path) for path in paths]
    recordings = pd.DataFrame({"recording": names, "path": names, "duration_s": float(SECONDS), "sr": FILE_SR})
    segments = whole_recordings(recordings)
    begin = time.process_time()
    stored = StoredWaves(recordings, segments, SR, folder=folder)
    writing = time.process_time() - begin
    sides = {"decoded anew": Anew(segments), "from shards": stored}
    best = dict.fromkeys(sides, np.inf)
    for _ in range(repeats):
        for name, waves in sides.items():
            best[name] = min(best[name], seconds(lambda waves=waves: epoch(waves))[1])
    return {**best, "writing the shards": writing}


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    time.sleep(0.3)  # numpy's BLAS threads keep a core busy for a while after the other side's last product
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60, help="files of each format")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side")
    parser.add_argument("--workers", type=int, default=None, help="threads of ours (default: one for each core)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # every core has a thread of ours already
    front = LogMel(SR)
    rows, passes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".ogg", ".flac", ".wav"):
            paths = make_files(Path(folder), options.n, suffix)
            sides = {
                "librosa loop": lambda paths=paths: by_librosa(paths),
                "audiotk": lambda paths=paths: by_audiotk(paths, front, options.workers),
            }
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
            for _ in range(options.repeats + 1):  # the first turn warms up
                for name, work in sides.items():
                    times[name].append(seconds(work))
            best = {name: np.min(turns[1:], axis=0) for name, turns in times.items()}
            for name, (wall, cpu) in best.items():
                ratio = best["librosa loop"][0] / wall
                rows.append((suffix[1:].upper(), name, options.n / wall, 1e3 * cpu / options.n, ratio))
            spent = epochs(paths, Path(folder) / "shards", options.repeats)
            passes += [
                (suffix[1:].upper(), name, 1e3 * cpu / options.n, spent["decoded anew"] / cpu)
                for name, cpu in spent.items()
            ]
    print(f"{os.cpu_count()} cores, {options.n} recordings of {SECONDS} s, best of {options.repeats}")
    print(f"{'format':8}{'side':16}{'recordings/s':>14}{'CPU ms each':>14}{'ratio':>8}")
    for kind, name, rate, cpu, ratio in rows:
        print(f"{kind:8}{name:16}{rate:14.0f}{cpu:14.2f}{ratio:8.2f}")
    print(f"\n{'format':8}{'epoch':20}{'CPU ms each':>14}{'ratio':>8}")
    for kind, name, cpu, ratio in passes:
        print(f"{kind:8}{name:20}{cpu:14.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
