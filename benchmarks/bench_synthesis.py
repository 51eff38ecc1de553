"""How fast the embedded data is made, on one core: ``python benchmarks/bench_synthesis.py [number of recordings]``.

Prints seconds of sound per second of work, the writing of WAV files included: by the clock, and by processor time (the
clock also counts what else the machine does).
"""

from __future__ import annotations

import sys
import tempfile
import time

from audiotk.datasets import embedded


def main(count: int = 128) -> None:
    with tempfile.TemporaryDirectory() as root:
        embedded.load(
            root, n_train=1, n_val=0, n_test=0, seed=99, workers=1
        )  # imports, plans of the Fourier transforms
        for name in ("made and written", "found again"):
            clock, cpu = time.perf_counter(), time.process_time()
            data = embedded.load(root, n_train=count, n_val=0, n_test=0, workers=1)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            sound_s = data.recordings["duration_s"].sum()
            print(f"{name}: {count} recordings, {sound_s:.0f} s of sound")
            print(f"  clock     {clock:7.2f} s  {sound_s / clock:8.0f} x real time")
            print(f"  processor {cpu:7.2f} s  {sound_s / cpu:8.0f} x real time")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
