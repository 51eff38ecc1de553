"""False positives made up for the explorer's tests: blobs of embeddings, their places on a map, and some sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from audiotk import mining

SR, SECONDS, WINDOW_S = 16_000, 12.0, 1.6
CLASSES = ("Dog bark", "Speech", "Door knock", "Glass break", "Siren", "Baby cry", "Rain")
THEMES = mining.THEMES
DEVICES = ("AudioMoth", "phone", "Zoom H5")


def write_recordings(folder: Path, number: int = 12) -> pd.DataFrame:
    """A recordings table of short files, in groups of three, each with a rhythm and a pitch of its own."""
    rng, time = np.random.default_rng(5), np.arange(int(SR * SECONDS)) / SR
    rows = []
    for k in range(number):
        beat = (time * (1 + k % 3)) % 1
        wave = 0.3 * np.exp(-8 * beat) * np.sin(2 * np.pi * (300 + 90 * (k % 12)) * time * (1 - 0.1 * beat))
        wave += 0.004 * (1 + k % 5) * rng.normal(size=len(time))
        wave += (k % 4 == 1) * 0.1 * np.sin(2 * np.pi * (120 + 40 * (k % 7)) * time)
        wave += (k % 4 == 2) * 0.08 * rng.normal(size=len(time)) * (np.sin(2 * np.pi * 0.7 * time) > 0)
        path = folder / f"rec{k:03}.wav"
        sf.write(path, wave.astype("float32"), SR)
        about = {"recording": path.stem, "path": str(path), "duration_s": SECONDS, "sr": SR}
        rows.append(about | {"group": f"site{k // 3}", "device": DEVICES[k % 3]})
    return pd.DataFrame(rows)


def make_ghosts(
    recordings: pd.DataFrame, number: int, clusters: int = 6, seed: int = 0, scattered: float = 0.08
) -> tuple[pd.DataFrame, np.ndarray]:
    """A false positives table with cluster, theme, x and y, and embeddings (n, 8); `scattered` of them unassigned."""
    rng = np.random.default_rng(seed)
    of = rng.choice(clusters, number, p=np.sort(rng.dirichlet(np.full(clusters, 2.0)))[::-1])
    alone = rng.random(number) < scattered
    centres = rng.normal(size=(clusters, 8)) * 4
    embeddings = (np.where(alone[:, None], 0, centres[of]) + rng.normal(size=(number, 8))).astype(np.float32)
    turn, spread = 2 * np.pi * 0.618 * np.arange(clusters), 1.45 * np.sqrt(np.arange(clusters) + 0.6)
    middle = np.stack([np.cos(turn) * spread, np.sin(turn) * spread], axis=1)
    angle, own = rng.uniform(0, np.pi, clusters)[of], rng.normal(size=(number, 2)) * [0.5, 0.2]
    bent = own[:, 1] + 0.3 * np.sin(2.2 * own[:, 0])
    place = middle[of] + np.stack(
        [own[:, 0] * np.cos(angle) - bent * np.sin(angle), own[:, 0] * np.sin(angle) + bent * np.cos(angle)], axis=1
    )
    away, around = 1.15 * spread[-1] * np.sqrt(rng.random(number)), rng.uniform(0, 2 * np.pi, number)
    place[alone] = np.stack([away * np.cos(around), away * np.sin(around)], axis=1)[alone]
    about = recordings.iloc[rng.integers(len(recordings), size=number)].reset_index(drop=True)
    start = np.round(np.linspace(0, SECONDS - WINDOW_S - 0.2, number) + rng.uniform(0, 0.1, number), 3)
    start = rng.permutation(start)
    table = about[["recording", "group", "device", "path"]].assign(start_s=start, end_s=np.round(start + WINDOW_S, 3))
    names = zip(table["recording"], table["start_s"], table["end_s"], strict=True)
    table["segment"] = [f"{name}@{a:.3f}-{b:.3f}" for name, a, b in names]
    kinds = np.array(CLASSES, dtype=object)
    table["class_name"] = np.where(rng.random(number) < 0.85, kinds[of % 7], kinds[rng.integers(7, size=number)])
    table["score"] = np.round(rng.uniform(0.5, 0.99, number), 3)
    table = table.assign(event_start_s=table["start_s"], event_end_s=table["end_s"], windows=1)
    table["level_dbfs"] = np.round(-55 + 3.0 * (of % 12) + 4 * rng.normal(size=number), 1)
    table = table.assign(flatness=rng.random(number), centroid_hz=900.0, cluster=np.where(alone, -1, of))
    table = table.assign(theme=np.array(THEMES, dtype=object)[of % 3], x=place[:, 0], y=place[:, 1])
    kept = ~table.duplicated(["segment", "class_name"]).to_numpy()
    return mining.check_false_positives(table[kept].astype({"class_name": "str"})), embeddings[kept]


def make_door(recordings: pd.DataFrame, held_out: int = 3) -> mining.Door:
    """A door behind which the last `held_out` recordings, a group of their own, are test."""
    split = pd.Series("train", index=recordings["recording"])
    split.iloc[len(split) - held_out :] = "test"
    return mining.Door(recordings, split)
