"""Size and speed of the networks, in one run and on one thread: `python benchmarks/bench_models.py`.

Prints for each network its parameters, multiply-accumulates of one segment, segments per second forward (no gradient)
and in training (forward, loss, backward, AdamW step), and its training speed relative to MelCNN at the same duration.
Seconds are CPU time of this process, so waiting for a busy machine does not count; the networks take turns and the
best of the turns counts.

`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456` before the command makes glibc keep
memory: about twice as fast for ACDnet, at more memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from audiotk.losses import masked_bce
from audiotk.models import DEMO, WaveformModel, build, count_macs, count_parameters

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "melcnn": ("melcnn", {}),
    "melcnn deeper": ("melcnn", {"deeper": True}),
    "rawcnn": ("rawcnn", {"sr": 8000}),
    "acdnet": ("acdnet", {}),
    "melcnn demo": ("melcnn", DEMO["melcnn"]),
    "rawcnn demo": ("rawcnn", DEMO["rawcnn"]),
    "acdnet demo": ("acdnet", DEMO["acdnet"]),
}


def forward_pass(model: WaveformModel, wave: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        model.eval()
        with torch.inference_mode():
            model(wave)

    return run


def training_pass(model: WaveformModel, wave: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    targets = torch.zeros(len(wave), model.n_classes)

    def run() -> None:
        model.train()
        optimizer.zero_grad()
        masked_bce(model(wave), targets).backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    models, passes = {}, {}
    for label, (name, options) in VARIANTS.items():
        model = models[label] = build(name, 11, rng=rng, **options)
        wave = torch.from_numpy(rng.normal(0, 0.1, (arguments.batch, model.samples)).astype(np.float32))
        passes[label, "forward"], passes[label, "train"] = forward_pass(model, wave), training_pass(model, wave)
    seconds = dict.fromkeys(passes, float("inf"))
    for turn in range(arguments.turns + 1):  # the first turn warms up
        for key, run in passes.items():
            start = time.process_time()
            run()
            if turn:
                seconds[key] = min(seconds[key], time.process_time() - start)

    print(f"torch {torch.__version__}, 1 thread, batch {arguments.batch}, 11 classes")
    print(f"{'network':14} {'s':>3} {'parameters':>10} {'M MACs':>8} {'forward/s':>9} {'train/s':>8} {'vs melcnn':>9}")
    for label, model in models.items():
        speed = {kind: arguments.batch / seconds[label, kind] for kind in ("forward", "train")}
        base = "melcnn demo" if label.endswith("demo") else "melcnn"
        ratio = seconds[base, "train"] / seconds[label, "train"]
        print(
            f"{label:14} {model.clip_s:3.0f} {count_parameters(model):10,} {count_macs(model) / 1e6:8.1f} "
            f"{speed['forward']:9.1f} {speed['train']:8.1f} {ratio:9.3f}"
        )


if __name__ == "__main__":
    main()
