"""Real sound for notebooks 03 and 04: dogs and sneezes of ESC-50 over real weather, engines and fire, or over silence.

ESC-50 has no ranges and no silence, so recordings of 10 s are composed: a background (a real recording of an ambience,
or one of the four silences through a device, :mod:`audiotk.backgrounds`) and up to three events at known places. Every
recording is made within a *block* of a dog, a sneeze and a few ambiences; no source is in two blocks, and blocks are
the groups: those of the highest fold are the test set. Sources of an ambience are spread over the blocks of a part, so
that where there are few of them, those who train and those who mine still hear one each.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk import audio, datasets
from audiotk.backgrounds import SILENCE_KINDS
from audiotk.energy import frame_levels
from audiotk.experiments.ghosts import REAL, SR, sizes
from audiotk.files import atomic, cache_dir
from audiotk.soundscapes import make_background, make_home
from audiotk.tables import AudiotkError, Dataset, make_annotations, make_segments, make_sources, segment_id

EVENTS = ("dog", "sneezing")
AMBIENCES = ("rain", "sea_waves", "helicopter", "crackling_fire")
LENGTH_S, LONGEST_S, FRAME_S = 10.0, 2.5, 0.05  # of a recording, of an event, of the frames that find its ranges
AUDIBLE_DB, GAP_S = 25.0, 0.3  # an event is heard down to so far under its loudest frame; shorter gaps are part of it
SILENT, QUIET = 0.4, 0.3  # share of the recordings whose background is a silence, that hold no event
BEHIND_DBFS, ABOVE_DB = (-48.0, -32.0), (0.0, 20.0)  # level of an ambience, and of events above the background
VAL = 0.35  # share of the sources before the test fold
AT = pd.Timestamp("2024-01-01", tz="UTC")
VERSION = 2  # raise it where the same settings make other sound


def load(root: str, scale: str, seed: int = 0) -> Dataset:
    """Compose the recordings (or find them in the cache folder), with true ranges and one label a recording.

    Returns
    -------
    Dataset
        Sources truth and scraped (the first event's class, of a recording without event a random one).
        ``recordings`` has the columns device, background (kind) and sources (names of the ESC-50 recordings).

    Raises
    ------
    AudiotkError
        ESC-50 is not in `root`, or lacks a dog, a sneeze or an ambience in some part.
    """
    esc = datasets.load("esc50", root or None, esc10=True, val_share=VAL, seed=seed)
    train, pool, val, test, _ = counts = sizes(REAL, scale)
    blocks = _blocks(esc, np.random.default_rng([seed, 0]))
    told = json.dumps([VERSION, seed, counts, sorted(esc.recordings["recording"])])
    folder = cache_dir() / f"real-ghosts-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    rows: list[dict[str, Any]] = []
    ranges: list[tuple[str, float, float, str]] = []
    for split, count in (("train", train + pool), ("val", val), ("test", test)):
        for k in tqdm(range(count), desc=f"compose {split}"):
            block = blocks[split][k * len(blocks[split]) // count]
            row, found = _recording(folder, f"{split}-{k:05d}", block, np.random.default_rng([seed, 1, len(rows)]))
            rows.append({**row, "split": split})
            ranges += [(row["recording"], *each) for each in found]
    recordings = pd.DataFrame(rows)
    parts = recordings.set_index("recording")["split"]
    return _dataset(recordings.drop(columns="split"), ranges, parts, np.random.default_rng([seed, 2]))


def _blocks(esc: Dataset, rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    """Blocks of each part: paths of a source by class, a name and a home with its device."""
    category = esc.annotations.set_index("segment")["class_name"].rename(lambda name: name.rsplit("@", 1)[0])
    table = esc.recordings.assign(split=esc.recordings["recording"].map(esc.split))
    table["category"] = table["recording"].map(category)
    found: dict[str, list[dict[str, Any]]] = {}
    for split, part in table.groupby("split"):
        sources = {name: rng.permutation(sorted(set(rows["group"]))) for name, rows in part.groupby("category")}
        if missing := [name for name in EVENTS if name not in sources]:
            raise AudiotkError(f"esc50: the {split} folds hold no recording of {missing[0]}")
        n = min(len(sources[name]) for name in EVENTS)
        clips = part.groupby(["category", "group"])["path"].agg(list)
        behind: list[dict[str, list[str]]] = [{} for _ in range(n)]
        for name in AMBIENCES:
            ours = sources.get(name, ())
            for k, source in enumerate(ours):
                behind[k * n // len(ours) if len(ours) < n else k % n].setdefault(name, []).extend(clips[name, source])
        if not any(behind):
            raise AudiotkError(f"esc50: the {split} folds hold none of {', '.join(AMBIENCES)}")
        found[str(split)] = [
            {
                "name": f"{split}-block-{k:02d}",
                "events": {name: clips[name, sources[name][k]][0] for name in EVENTS},
                "behind": behind[k],
                "home": make_home(SR, rng),
            }
            for k in range(n)
        ]
    return found


def _recording(
    folder: Path, name: str, block: dict[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], list[tuple[float, float, str]]]:
    """A row of the recordings table, and the ranges (start_s, end_s, class_name) of its events."""
    n = round(LENGTH_S * SR)
    behind = sorted(block["behind"])
    silent = rng.random() < SILENT or not behind
    kind = str(rng.choice(SILENCE_KINDS if silent else behind))
    sources = [] if silent else [str(rng.choice(block["behind"][kind]))]
    wave = make_background((kind,), block["home"], n, SR, rng)[0] if silent else _ambience(sources[0], n, rng)
    ranges: list[tuple[float, float, str]] = []
    for _ in range(0 if rng.random() < QUIET else int(rng.integers(1, 4))):
        event = str(rng.choice(EVENTS))
        piece = _piece(block["events"][event], rng)
        at = int(rng.integers(0, n - len(piece)))
        if any(start < (at + len(piece)) / SR and end > at / SR for start, end, _ in ranges):
            continue
        level = max(float(audio.level_dbfs(wave)), -60.0) + rng.uniform(*ABOVE_DB)
        piece = piece * np.float32(10 ** ((min(level, -12.0) - float(audio.level_dbfs(piece))) / 20))
        wave[at : at + len(piece)] += piece
        ranges += [(at / SR + start, at / SR + end, event) for start, end in _active(piece)]
        sources.append(block["events"][event])
    path = folder / f"{name}.wav"
    if not path.exists():
        with atomic(path) as draft:
            audio.save(draft, wave / max(1.0, float(np.abs(wave).max()) / 0.97), SR)
    row = {"recording": name, "path": str(path), "duration_s": LENGTH_S, "sr": SR, "group": block["name"]}
    about = {"device": block["home"].device, "background": kind, "sources": ";".join(Path(s).stem for s in sources)}
    return {**row, **about}, ranges


def _ambience(path: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """A real ambience (n,), repeated with its reverse so that nothing jumps, from a random place on."""
    wave, _ = audio.load(path, sr=SR)
    both = np.concatenate([wave, wave[::-1]])
    both = np.roll(np.tile(both, -(-n // len(both)) + 1), -int(rng.integers(len(both))))[:n]
    level = max(float(audio.level_dbfs(both)), -100.0)
    return (both * 10 ** ((rng.uniform(*BEHIND_DBFS) - level) / 20)).astype(np.float32)


def _piece(path: str, rng: np.random.Generator) -> np.ndarray:
    """An event: one of the audible stretches of a recording, with what follows within 2.5 s, faded at its ends."""
    wave, _ = audio.load(path, sr=SR)
    stretches = _active(wave)
    start = round(stretches[int(rng.integers(len(stretches)))][0] * SR)
    piece = wave[start : start + round(LONGEST_S * SR)].copy()
    piece = piece[: round(_active(piece)[-1][1] * SR)]
    ramp = np.minimum(np.arange(len(piece)) / (0.005 * SR), 1.0).astype(np.float32)
    return piece * ramp * ramp[::-1]


def _active(wave: np.ndarray) -> list[tuple[float, float]]:
    """Audible ranges (start_s, end_s) of a wave."""
    levels = frame_levels(wave, SR, FRAME_S)
    heard = np.flatnonzero(levels > levels.max() - AUDIBLE_DB)
    if not len(heard):
        return [(0.0, len(wave) / SR)]
    breaks = np.flatnonzero(np.diff(heard) * FRAME_S > GAP_S + FRAME_S)
    firsts, lasts = heard[np.r_[0, breaks + 1]], heard[np.r_[breaks, len(heard) - 1]]
    return [(a * FRAME_S, min((b + 1) * FRAME_S, len(wave) / SR)) for a, b in zip(firsts, lasts, strict=True)]


def _dataset(
    recordings: pd.DataFrame, ranges: list[tuple[str, float, float, str]], split: pd.Series, rng: np.random.Generator
) -> Dataset:
    said = [(name, 0.0, LENGTH_S, label, 0.0, "truth") for name in recordings["recording"] for label in EVENTS]
    said += [(name, start, end, label, 1.0, "truth") for name, start, end, label in ranges]
    first = {name: label for name, _, _, label in reversed(ranges)}
    for name in recordings["recording"]:
        said.append((name, 0.0, LENGTH_S, first.get(name, str(rng.choice(EVENTS))), 1.0, "scraped"))
    table = pd.DataFrame(said, columns=["recording", "start_s", "end_s", "class_name", "value", "source"])
    ids = [segment_id(*key) for key in zip(table["recording"], table["start_s"], table["end_s"], strict=True)]
    places = table.assign(segment=ids).drop_duplicates("segment")
    return Dataset(
        name="esc50 ghosts",
        recordings=recordings,
        segments=make_segments(
            places["recording"].to_numpy(), places["start_s"].to_numpy(), places["end_s"].to_numpy()
        ),
        annotations=make_annotations(ids, table["class_name"], table["value"], table["source"], AT),
        split=split,
        classes=list(EVENTS),
        sources=make_sources(truth="", scraped="closed weak"),
    )
