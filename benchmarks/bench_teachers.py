"""Teachers: speed beside the packages', scaling, memory, and search: `python benchmarks/bench_teachers.py`.

All weights are random ones of the real architectures, written to a temporary folder; speed does not depend on what a
model learnt. Everything that is compared runs in turns in this one run, and the best turn of each counts; trust ratios.

speed    recordings per second, 10 s each at 16 and 48 kHz, from files to embeddings: laion_clap's list call, the same
         eight files a call, msclap's file loop, a loop over transformers' ClapModel, and ours in fp32 and bf16
workers  decode-bound scoring by one and by two single-threaded Dask workers
tasks    what the scheduler takes for the shards of two million recordings
memory   of this process while 10,000 recordings are scored
search   in a million embeddings of 512 numbers, float16, on the disk

Options: --only NAME, --files N, --turns N.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from random_clap import laion_files, ms_files

from audiotk.decode import open_sound, read_frames
from audiotk.scoring import SHARD, listen
from audiotk.scoring.cluster import local
from audiotk.scoring.hearing import Job
from audiotk.search import Embeddings, search
from audiotk.tables import make_segments
from audiotk.teachers import load
from audiotk.teachers.base import Teacher, unit

RATES = (16000, 48000)


def write(folder: Path, n: int, seconds: float, sr: int, suffix: str = "wav") -> pd.DataFrame:
    """Recordings of noise: a *recordings* table."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    wave = (0.2 * rng.normal(size=round(seconds * sr) + n)).astype(np.float32)
    rows = []
    for number in range(n):
        path = folder / f"{number}.{suffix}"
        sf.write(path, wave[number : number + round(seconds * sr)], sr)
        rows.append((str(number), str(path), seconds, sr, str(number)))
    return pd.DataFrame(rows, columns=["recording", "path", "duration_s", "sr", "group"])


def best(arms: dict[str, Callable[[], int]], turns: int) -> dict[str, float]:
    """Recordings per second of each arm: the best of several turns; arms take turns."""
    found = dict.fromkeys(arms, 0.0)
    for turn in range(turns):
        for name, arm in arms.items():
            start = time.perf_counter()
            count = arm()
            found[name] = max(found[name], count / (time.perf_counter() - start))
            print(f"  turn {turn + 1}: {name}", file=sys.stderr)
    return found


def speed(folder: Path, files: int, turns: int) -> None:
    """The table of arms and the deviation of bf16."""
    laion, microsoft = laion_files(folder / "laion", text_layers=1), ms_files(folder / "ms", text_layers=1)
    package = load("laion-clap-package", weights=laion.weights, tokenizer=laion.tokenizer)
    ms_package = load("msclap-package", weights=microsoft.weights, tokenizer=microsoft.tokenizer)
    ms_package.wrapper.read_audio = types.MethodType(read_by_soundfile, ms_package.wrapper)  # type: ignore[attr-defined]
    tables = [write(folder / str(sr), files // 2, 10.0, sr) for sr in RATES]
    recordings = pd.concat([table.assign(recording=table["path"]) for table in tables], ignore_index=True)
    paths = recordings["path"].tolist()
    ours = {
        f"{name} {dtype}": load(name, weights=made.weights, tokenizer=made.tokenizer, dtype=dtype)
        for name, made in (("laion-clap", laion), ("msclap", microsoft))
        for dtype in ("float32", "bfloat16")
    }
    number = iter(range(10**6))

    quick = any(word in Path("/proc/cpuinfo").read_text() for word in ("avx512_bf16", "amx_bf16"))
    if not quick:
        print("this processor has no bf16 of its own: bf16 is several times slower here and left out")

    def scored(teacher: Teacher, **options: Any) -> Callable[[], int]:
        def run() -> int:
            listen(recordings, None, teacher, folder / f"heard-{next(number)}", progress=False, **options)
            return len(paths)

        return run

    def by_list(size: int) -> Callable[[], int]:
        def run() -> int:
            with torch.no_grad():
                for start in range(0, len(paths), size):
                    package.module.get_audio_embedding_from_filelist(paths[start : start + size])  # type: ignore[attr-defined]
            return len(paths)

        return run

    def by_ms() -> int:
        for path in paths:
            ms_package.wrapper.get_audio_embeddings([path], resample=True)  # type: ignore[attr-defined]
        return len(paths)

    arms = {
        "laion_clap, whole list": by_list(len(paths)),
        "laion_clap, 8 files a call": by_list(8),
        "laion_clap, 1 file a call": by_list(1),
        "transformers loop": transformers_loop(laion.weights, paths),
        "msclap file loop": by_ms,
        **{f"audiotk {name}": scored(teacher) for name, teacher in ours.items() if quick or "float32" in name},
    }
    with local(2) as client:
        listen(
            recordings[:4], None, ours["laion-clap float32"], folder / "warm", client=client, progress=False, shard=2
        )
        arms["audiotk laion-clap float32, 2 processes"] = scored(ours["laion-clap float32"], client=client, shard=4)
        found = best(arms, turns)
    list_call, one_best = (
        found["laion_clap, whole list"],
        max(v for n, v in found.items() if n.startswith("laion_clap")),
    )
    print(f"{len(paths)} recordings of 10 s, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{'':42} {'per second':>10} {'x their list':>13} {'x their best':>13}")
    for name, value in found.items():
        peer = (found["msclap file loop"],) * 2 if "msclap" in name else (list_call, one_best)
        print(f"{name:42} {value:10.2f} {value / peer[0]:13.2f} {value / peer[1]:13.2f}")
    for name in ("laion-clap", "msclap"):
        waves = np.random.default_rng(1).normal(0, 0.1, (8, ours[f"{name} float32"].samples)).astype(np.float32)
        exact, quick = (ours[f"{name} {dtype}"].embed_audio(waves) for dtype in ("float32", "bfloat16"))
        print(f"{name}: bf16 against fp32: cosine {1 - (exact * quick).sum(1).min():.1e} below 1 at most")


def read_by_soundfile(self: object, path: str, resample: bool = True) -> tuple[torch.Tensor, int]:
    """msclap's reader, which wants TorchCodec here: the same, by soundfile and torchaudio."""
    import torchaudio.functional as F

    with open_sound(path) as handle:
        wave, sr = torch.from_numpy(read_frames(handle, path, 0, handle.frames).copy())[None], handle.samplerate
    return (F.resample(wave, sr, 44100), 44100) if resample and sr != 44100 else (wave, sr)


def transformers_loop(weights: Path, paths: list[str]) -> Callable[[], int]:
    """What the documentation of transformers shows: feature extractor and ClapModel, a file at a time."""
    import librosa
    from transformers import ClapFeatureExtractor

    from audiotk.teachers.laion import clap_model
    from audiotk.teachers.state import read_tensors

    model = clap_model(read_tensors(weights), weights).eval()
    extract = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")

    def run() -> int:
        for path in paths:
            wave, _ = librosa.load(path, sr=48000)
            with torch.inference_mode():
                model.get_audio_features(**extract(wave, sampling_rate=48000, return_tensors="pt"))
        return len(paths)

    return run


class Statistics(Teacher):
    """A teacher that costs next to nothing, so that decoding and resampling count."""

    name, sr, window_s, dim, checksum = "statistics", 16000, 10.0, 8, "1"

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        return unit(np.abs(waves.reshape(len(waves), 8, -1)).mean(axis=2) + 1e-6)


def workers(folder: Path, files: int, turns: int) -> None:
    """Recordings per second by one and two workers."""
    sound = write(folder / "one", 1, 30.0, 44100, "ogg")["path"][0]  # copied: encoding would take longer than all else
    recordings = write(folder / "ogg", 5 * files, 0.1, 44100, "ogg").assign(duration_s=30.0)
    for path in recordings["path"]:
        shutil.copy(sound, path)
    found = {}
    for jobs in (1, 2):
        with local(jobs) as client:
            listen(recordings[:8], None, Statistics(), folder / f"warm{jobs}", client=client, progress=False, shard=2)
            arm = lambda turn, jobs=jobs, client=client: listen(  # noqa: E731
                recordings, None, Statistics(), folder / f"heard{jobs}-{turn}", client=client, progress=False, shard=24
            )
            times = []
            for turn in range(turns):
                start = time.perf_counter()
                arm(turn)
                times.append(time.perf_counter() - start)
            found[jobs] = len(recordings) / min(times)
    print(f"{len(recordings)} OGG recordings of 30 s at 44.1 kHz, load {os.getloadavg()[0]:.1f}: "
          f"{found[1]:.1f} a second by one worker, {found[2]:.1f} by two: {found[2] / found[1]:.2f}x")  # fmt: skip


def tasks(folder: Path, files: int, turns: int) -> None:
    """Shards of two million recordings of one window, handed out as scoring does, to a task that hears nothing."""
    from distributed import as_completed

    count = 2_000_000 // SHARD
    job = Job("/somewhere/on/a/shared/disk/with/a/long/name/0123456789.wav", ((0, 160_000),))
    with local(2) as client:
        client.gather(client.map(len, [[job]] * 10, pure=False))
        start = time.perf_counter()
        shards = iter([[job] * SHARD] * count)
        futures = as_completed(client.map(len, list(islice(shards, 24)), pure=False))
        for future in futures:
            future.result()
            for shard in islice(shards, 1):
                futures.add(client.submit(len, shard, pure=False))
        spent_s = time.perf_counter() - start
    print(
        f"{count:,} tasks, the shards of two million recordings: {spent_s:.1f} s, {1e3 * spent_s / count:.2f} ms each"
    )


def memory(folder: Path, files: int, turns: int) -> None:
    """Resident memory after each thousand recordings."""
    recordings = write(folder / "small", 100, 2.0, 16000)
    many = pd.concat([recordings.assign(recording=f"{k}-" + recordings["recording"]) for k in range(100)])
    names = []
    for number, path in enumerate(many["path"]):  # 10,000 files of their own: links would be known by their checksum
        name = folder / "many" / f"{number}.wav"
        name.parent.mkdir(exist_ok=True)
        data = bytearray(Path(path).read_bytes())
        data[60:64] = number.to_bytes(4, "little")
        name.write_bytes(data)
        names.append(str(name))
    many = many.assign(path=names).reset_index(drop=True)
    process, seen = psutil.Process(), []

    class Watched(Statistics):
        heard = 0

        def embed_audio(self, waves: np.ndarray) -> np.ndarray:
            Watched.heard += len(waves)
            if Watched.heard % 1000 < len(waves):
                seen.append(process.memory_info().rss / 2**20)
            return super().embed_audio(waves)

    listen(many, None, Watched(), folder / "heard-many", progress=False)
    print("MB after each 1,000 of 10,000 recordings: " + ", ".join(f"{value:.0f}" for value in seen))


def search_in_a_million(folder: Path, files: int, turns: int) -> None:
    """Seconds for k = 20."""
    n, dim, rng = 1_000_000, 512, np.random.default_rng(0)
    vectors = np.empty((n, dim), np.float16)
    for start in range(0, n, 50_000):
        vectors[start : start + 50_000] = unit(rng.standard_normal((50_000, dim), np.float32))
    Embeddings(vectors, make_segments(np.arange(n).astype(str), 0.0, 1.0)).save(folder / "million")
    del vectors
    embeddings = Embeddings.load(folder / "million")
    for queries in (1, 16):
        query = rng.normal(size=(queries, dim))
        times = []
        for _ in range(max(turns, 3)):
            start = time.perf_counter()
            search(embeddings, query, 20)
            times.append(time.perf_counter() - start)
        print(f"{queries} queries in {n:,} embeddings, k = 20: {min(times):.2f} s (first time {times[0]:.2f} s)")


PARTS = {"speed": speed, "workers": workers, "tasks": tasks, "memory": memory, "search": search_in_a_million}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--files", type=int, default=48, help="recordings of the table of speed")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder), arguments.files, arguments.turns)


if __name__ == "__main__":
    main()
