"""Embedded data: ten-second recordings of dogs at home, made from a seed, with true time ranges and the labels people
have.

Nothing is downloaded. Recordings are written once as 16-bit WAV files and reused. Each group is one dog with its own
home and device; the splits share none. One recording in five (`quiet_share`) holds nothing but one silence kind or
background.

=============  =======================================================================================================
source         what it says
=============  =======================================================================================================
truth          time ranges: 1 for each event (its audible extent), 0 for all the rest of the recording, class by class
scraped        one class for the whole recording: the one it was searched by (which is in it, with up to three other
               events); a quiet recording has none, but for a share `mislabeled_silence` that got a random class
noisy          every class for the whole recording; of the present ones a share `missing_rate` is 0, of the absent
               ones a share `wrong_rate` is 1
rater:A, B, C  the whole recording in names of the AudioSet ontology: see :mod:`audiotk.datasets.raters`
=============  =======================================================================================================

What is tied on purpose: with probability `background_bias` / 2 a recording has the background that goes with the
searched class (a bowl with eating, traffic with barking, ...; :data:`audiotk.soundscapes.HABITAT`), in every split
alike. Nothing else links classes to backgrounds, rooms or devices.
"""

from __future__ import annotations

import hashlib
import json
import os
import wave as wavfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from audiotk.backgrounds import AMBIENT_KINDS, SILENCE_KINDS
from audiotk.datasets import raters
from audiotk.files import atomic, cache_dir
from audiotk.soundscapes import Home, choose_background, choose_events, make_home, render
from audiotk.synthesis import CLASSES, Wave
from audiotk.tables import SPLITS, AudiotkError, Dataset, make_annotations, make_segments, make_sources, segment_id

VERSION = 5  # of the generator: raise it when the same settings give other sounds
PER_DOG = 7  # recordings of one dog
BLOCK = 16  # recordings made and noted together
AT = pd.Timestamp("2024-01-01", tz="UTC")  # the time of writing of all annotations


class Settings(NamedTuple):
    """What the sound depends on; the number of recordings is not part of it."""

    seed: int
    sr: int
    duration_s: float
    quiet_share: float
    background_bias: float
    overlap: float
    min_snr_db: float


def load(
    root: str | Path | None = None,
    n: int = 200,
    *,
    seed: int = 0,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    sr: int = 16000,
    duration_s: float = 10.0,
    quiet_share: float = 0.2,
    background_bias: float = 0.5,
    overlap: float = 0.35,
    min_snr_db: float = -3.0,
    missing_rate: float = 0.2,
    wrong_rate: float = 0.02,
    mislabeled_silence: float = 0.0,
    workers: int | None = None,
    progress: bool = False,
) -> Dataset:
    """Make (or find) the recordings and return them with their labels.

    Recording k of a split is the same whatever the number of recordings: a larger `n_train` only adds recordings and
    leaves those of val and test alone. A run that was killed goes on where it stopped.

    Parameters
    ----------
    root
        Folder to write to; files go to ``root/embedded-<hash of the settings>/<split>/``. Default: the cache folder.
    n
        Recordings in all: 60 % train, 20 % val, 20 % test; `n_train`, `n_val`, `n_test` override their part.
    seed
        Non-negative; another seed means other dogs, homes and recordings.
    sr, duration_s
        Sample rate in Hz (at least 8000) and length of each recording in seconds (at least 4).
    quiet_share
        Share of recordings without any event (0 to 0.9).
    background_bias
        Half of it is the probability that a recording has its class's typical background.
    overlap
        Probability that an event may overlap other events.
    min_snr_db
        Events are at least this much above the background behind them (mean over the audible extent).
    missing_rate, wrong_rate
        Errors of the source "noisy": share of present classes marked 0, of absent classes marked 1.
    mislabeled_silence
        Share of the quiet recordings to which the source "scraped" gives a class.
    workers
        Threads; default: the number of processors, at most 8. The bytes do not depend on it.
    progress
        Show a progress bar while recordings are made.

    Returns
    -------
    Dataset
        ``recordings`` has further columns: device, rt60_s, searched (class, "" if quiet), quiet_kind ("" if not quiet),
        background (kinds joined by +), n_events, polyphony (most events at once), snr_db (of the first event of the
        searched class).

    Raises
    ------
    AudiotkError
        An option is out of range, or the folder cannot be written (for instance: disk full).
    """
    counts = _counts(n, n_train, n_val, n_test)
    settings = Settings(seed, sr, *map(float, (duration_s, quiet_share, background_bias, overlap, min_snr_db)))
    _check(settings, missing_rate, wrong_rate, mislabeled_silence)
    folder = _folder(root, settings)
    blocks = [(split, b) for split, count in counts.items() for b in range(-(-count // BLOCK))]
    made = _make(folder, blocks, settings, workers, progress)
    wanted = [block[: counts[split] - b * BLOCK] for (split, b), block in zip(blocks, made, strict=True)]
    notes = [note for block in wanted for note in block]
    recordings = pd.DataFrame([note["recording"] for note in notes])
    recordings["path"] = [str(folder / path) for path in recordings["path"]]
    split = pd.Series(recordings.pop("split").to_numpy(), index=recordings["recording"], name="split")
    parts = [
        raters.truth(notes),
        raters.scraped(notes, mislabeled_silence, partial(_label_rng, settings, 3)),
        raters.noisy(notes, missing_rate, wrong_rate, partial(_label_rng, settings, 4)),
        raters.hierarchy(notes, partial(_label_rng, settings, 5)),
    ]
    segments = pd.concat(parts)[["recording", "start_s", "end_s"]].drop_duplicates()
    labels = pd.concat(parts, ignore_index=True)
    ids = [segment_id(*key) for key in zip(labels["recording"], labels["start_s"], labels["end_s"], strict=True)]
    return Dataset(
        name="embedded",
        recordings=recordings,
        segments=make_segments(segments["recording"], segments["start_s"], segments["end_s"]),
        annotations=make_annotations(ids, labels["class_name"], labels["value"], labels["source"], AT),
        split=split,
        classes=CLASSES,
        sources=make_sources(
            truth="", **dict.fromkeys(["scraped", "noisy"], "closed weak"), **dict.fromkeys(raters.RATERS.index, "weak")
        ),
    )


def events(dataset: Dataset) -> pd.DataFrame:
    """True events: recording, class_name, start_s, end_s (audible extent), snr_db, level_dbfs, cut (by the end)."""
    return _noted(dataset, "events", ["recording", "class_name", "start_s", "end_s", "snr_db", "level_dbfs", "cut"])


def backgrounds(dataset: Dataset) -> pd.DataFrame:
    """What is behind the events: recording, start_s, end_s, kind, level_dbfs (of all but the events, over that range).

    Kinds are those of :mod:`audiotk.backgrounds`. Besides the recording's own kinds, the moments before and after
    events are rows of kind "transitional".
    """
    return _noted(dataset, "backgrounds", ["recording", "start_s", "end_s", "kind", "level_dbfs"])


def quiet_kinds(dataset: Dataset, segments: pd.DataFrame) -> pd.Series:
    """Kind of silence or background of each segment in which no event is heard (not even in part), else NaN.

    The kind is the one that covers most of the segment; a tie goes to "transitional", then to the louder one. Index:
    segment.
    """
    heard = segments.merge(events(dataset)[["recording", "start_s", "end_s"]], on="recording", suffixes=("", "_event"))
    heard = heard[(heard["start_s"] < heard["end_s_event"]) & (heard["end_s"] > heard["start_s_event"])]
    free = segments[~segments["segment"].isin(heard["segment"])]
    behind = free.merge(backgrounds(dataset), on="recording", suffixes=("", "_kind"))
    behind["cover"] = behind[["end_s", "end_s_kind"]].min(axis=1) - behind[["start_s", "start_s_kind"]].max(axis=1)
    behind["first"] = behind["kind"] == "transitional"
    best = behind[behind["cover"] > 0].sort_values(["cover", "first", "level_dbfs"])
    return best.drop_duplicates("segment", keep="last").set_index("segment")["kind"].reindex(segments["segment"])


# --- making the recordings -------------------------------------------------------------------------------------------


def _counts(n: int, *parts: int | None) -> dict[str, int]:
    fifth = round(0.2 * n)
    default = dict(zip(SPLITS, (n - 2 * fifth, fifth, fifth), strict=True))
    counts = {s: default[s] if part is None else part for s, part in zip(SPLITS, parts, strict=True)}
    if n < 0 or min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise AudiotkError(f"embedded: expected at least one recording and no negative count, got {counts}")
    return counts


def _check(settings: Settings, *rates: float) -> None:
    if settings.seed < 0 or settings.sr < 8000 or settings.duration_s < 4 or settings.sr * settings.duration_s > 1e8:
        raise AudiotkError(
            f"embedded: expected seed >= 0, sr >= 8000 Hz, 4 s <= duration_s (<= 1e8 samples), got {settings}"
        )
    shares = (settings.quiet_share / 0.9, settings.background_bias, settings.overlap, *rates)
    if not all(0 <= share <= 1 for share in shares) or not -20 <= settings.min_snr_db <= 40:
        raise AudiotkError(
            "embedded: expected shares and rates in 0..1 (quiet_share up to 0.9) and min_snr_db in -20..40,"
            f" got {settings} and missing, wrong, mislabeled = {rates}"
        )


def _folder(root: str | Path | None, settings: Settings) -> Path:
    """The folder of these settings, with the settings written in it."""
    text = json.dumps({"version": VERSION, **settings._asdict()}, indent=1)
    name = f"embedded-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder = Path(cache_dir() if root is None else root) / name
    if not (folder / "settings.json").exists():
        with atomic(folder / "settings.json") as draft:
            draft.write_text(text, encoding="utf-8")
    return folder


def _rng(settings: Settings, split: str, role: int, k: int) -> np.random.Generator:
    """The generator of one thing: role 0 a home, 1 a recording, 2 the order of classes, 3 to 5 the labels."""
    return np.random.default_rng([settings.seed, SPLITS.index(split), role, k])


def _label_rng(settings: Settings, role: int, note: Mapping[str, Any]) -> np.random.Generator:
    return _rng(settings, note["recording"]["split"], role, int(note["recording"]["recording"].split("-")[1]))


@lru_cache(maxsize=64)
def _home(settings: Settings, split: str, dog: int) -> Home:
    return make_home(settings.sr, _rng(settings, split, 0, dog))


def _script(settings: Settings, split: str, k: int) -> tuple[str, str]:
    """(searched class, "") or ("", quiet kind) of recording k.

    Classes come in shuffled rounds of eight, quiet recordings take silences and ambiences in turn.
    """
    before = int(k * settings.quiet_share + 1e-9)
    if int((k + 1) * settings.quiet_share + 1e-9) > before:
        kinds = AMBIENT_KINDS if before % 2 else SILENCE_KINDS
        return "", kinds[before // 2 % len(kinds)]
    order = _rng(settings, split, 2, (k - before) // len(CLASSES)).permutation(CLASSES)
    return str(order[(k - before) % len(CLASSES)]), ""


def make_recording(settings: Settings, split: str, k: int) -> tuple[Wave, dict[str, Any]]:
    """Recording k of a split: its waveform, and a note of what is known about it (recording, events, backgrounds)."""
    rng, home = _rng(settings, split, 1, k), _home(settings, split, k // PER_DOG)
    searched, quiet_kind = _script(settings, split, k)
    kinds = (quiet_kind,) if quiet_kind else choose_background(searched, home, settings.background_bias, rng)
    names = choose_events(searched, rng) if searched else []
    options = {name: getattr(settings, name) for name in ("sr", "duration_s", "overlap", "min_snr_db")}
    scene = render(home, kinds, names, rng, **options)
    name = f"{split}-{k:05d}"
    own = [row["snr_db"] for row in scene.events if row["class_name"] == searched]
    row = {
        "recording": name,
        "path": f"{split}/{name}.wav",
        "duration_s": len(scene.wave) / settings.sr,
        "sr": settings.sr,
        "group": f"{split}-dog-{k // PER_DOG:04d}",
        "split": split,
        "device": home.device,
        "rt60_s": round(home.rt60_s, 3),
        "searched": searched,
        "quiet_kind": quiet_kind,
        "background": "+".join(kinds),
        "n_events": len(scene.events),
        "polyphony": _polyphony(scene.events),
        "snr_db": own[0] if own else None,
    }
    told = {"events": scene.events, "backgrounds": scene.backgrounds}
    return scene.wave, {"recording": row, **{k: [{"recording": name, **r} for r in rows] for k, rows in told.items()}}


def _polyphony(rows: list[dict[str, Any]]) -> int:
    """Most events at once."""
    return max((sum(r["start_s"] <= row["start_s"] < r["end_s"] for r in rows) for row in rows), default=0)


def _write_wav(path: Path, wave: Wave, sr: int) -> None:
    with atomic(path) as draft, wavfile.open(str(draft), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sr)
        file.writeframes(np.round(wave * 32767).astype("<i2").tobytes())


def _block(folder: Path, split: str, b: int, settings: Settings) -> list[dict[str, Any]]:
    """Notes of recordings b * BLOCK ... (b + 1) * BLOCK - 1; made and written unless the block is complete."""
    note_path = folder / split / f"block-{b:05d}.json"
    size = 44 + 2 * round(settings.duration_s * settings.sr)
    if note_path.exists():
        notes = json.loads(note_path.read_text(encoding="utf-8"))
        sizes = [_size(folder / note["recording"]["path"]) for note in notes]
        if all(found == size for found in sizes):
            return notes
    notes = []
    for k in range(b * BLOCK, (b + 1) * BLOCK):
        wave, note = make_recording(settings, split, k)
        path = folder / note["recording"]["path"]
        if _size(path) != size:
            _write_wav(path, wave, settings.sr)
        notes.append(note)
    with atomic(note_path) as draft:
        draft.write_text(json.dumps(notes), encoding="utf-8")
    return notes


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _make(
    folder: Path, blocks: list[tuple[str, int]], settings: Settings, workers: int | None, progress: bool
) -> list[list[dict[str, Any]]]:
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = [pool.submit(_block, folder, split, b, settings) for split, b in blocks]
        try:
            return [job.result() for job in tqdm(jobs, "embedded recordings", unit="block", disable=not progress)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _noted(dataset: Dataset, what: str, columns: list[str]) -> pd.DataFrame:
    """Rows of a kind from the notes beside the recordings of `dataset`."""
    if dataset.name != "embedded":
        raise AudiotkError(f"embedded: expected a data set from embedded.load, got {dataset.name!r}")
    paths = [Path(path) for path in dataset.recordings["path"]]
    places = {path.parent / f"block-{int(path.stem.split('-')[1]) // BLOCK:05d}.json" for path in paths}
    notes = [note for place in sorted(places) for note in json.loads(place.read_text(encoding="utf-8"))]
    wanted = set(dataset.recordings["recording"])
    rows = [row for note in notes if note["recording"]["recording"] in wanted for row in note[what]]
    return pd.DataFrame(rows, columns=columns)
