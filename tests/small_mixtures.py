"""A data set of tones, one class each, small enough to mix and train on in a test."""

from dataclasses import replace

import numpy as np
import pandas as pd

from audiotk import audio, datasets

HERTZ = {"low": 300, "middle": 1200, "high": 3600}
SR = 16000


def tones(folder, per_class=10, seconds=1.0):
    """Recordings of one tone each, in train, val and test; two recordings of a class and split are one source."""
    rng = np.random.default_rng(0)
    rows, time_s = [], np.arange(round(SR * seconds)) / SR
    for split in ("train", "val", "test"):
        for name, hertz in HERTZ.items():
            for k in range(per_class):
                wave = 0.2 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time_s) + rng.normal(
                    0, 0.02, len(time_s)
                )
                audio.save(folder / f"{split}-{name}{k}.wav", wave.astype("float32"), SR)
                rows.append((f"{split}-{name}{k}.wav", name, f"{split}-{name}-{k // 2}", split))
    pd.DataFrame(rows, columns=["path", "label", "group", "split"]).to_csv(folder / "labels.csv", index=False)
    return datasets.load("folder", str(folder))


def tones_without(folder, lost):
    """:func:`tones` without the recordings of a class in a split, for each (split, class) of `lost`."""
    dataset = tones(folder)
    names = dataset.recordings["recording"]
    gone = names.map(lambda name: any(name.startswith(f"{split}-{one}") for split, one in lost))
    kept = dataset.recordings[~gone].reset_index(drop=True)
    segments = dataset.segments[dataset.segments["recording"].isin(kept["recording"])].reset_index(drop=True)
    notes = dataset.annotations[dataset.annotations["segment"].isin(segments["segment"])].reset_index(drop=True)
    return replace(
        dataset, recordings=kept, segments=segments, annotations=notes, split=dataset.split[kept["recording"]]
    )


def small_case(folder, counts=(30, 20, 24)):
    """A case of notebooks 05 and 06 from mixtures of :func:`tones`."""
    from audiotk import labels, noise
    from audiotk.experiments import load_material
    from audiotk.experiments.polyphony import MISSING, WRONG, Case, compose

    sizes = dict(zip(("train", "val", "test"), counts, strict=True))
    dataset = compose(tones(folder / "tones"), sizes, folder / "mixtures")
    material = {split: load_material(dataset, split, SR, progress=False) for split in sizes}
    truth = {split: labels.resolve(dataset, part.segments, ["truth"]) for split, part in material.items()}
    return Case(dataset, material, noise.inject(truth["train"], MISSING, WRONG, rng=np.random.default_rng(0)), truth)
