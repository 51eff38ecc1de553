"""What the notebooks call: sound and labels of a data set as training material, and arms trained over seeds.

One module a notebook: 00 :mod:`~audiotk.experiments.quickstart`, 01 :mod:`~audiotk.experiments.label_segments`, 02
:mod:`~audiotk.experiments.clip_or_range` (with :mod:`~audiotk.experiments.clip_or_range_checks`), 03
:mod:`~audiotk.experiments.ghost_sounds` (with :mod:`~audiotk.experiments.ghost_claims`) and 04
:mod:`~audiotk.experiments.silence_energy` (both on
:mod:`~audiotk.experiments.ghosts`, with real sound from :mod:`~audiotk.experiments.real_ghosts`; promotions that were
recorded elsewhere come from :mod:`~audiotk.experiments.replay`), 05 :mod:`~audiotk.experiments.label_joining` and 06
:mod:`~audiotk.experiments.label_correction` (both on :mod:`~audiotk.experiments.polyphony` and, for P1's own data,
:mod:`~audiotk.experiments.p1_data`), 07 :mod:`~audiotk.experiments.zero_shot` and
:mod:`~audiotk.experiments.zero_shot_students` (with :mod:`~audiotk.experiments.zero_shot_told` and
:mod:`~audiotk.experiments.zero_shot_cost`), 08 :mod:`~audiotk.experiments.audioset_relabeling`, 09
:mod:`~audiotk.experiments.transfer`, with its networks in :mod:`~audiotk.experiments.transfer_training` and its tables
in :mod:`~audiotk.experiments.transfer_tables`. Notebooks 08 and 09 share :mod:`~audiotk.experiments.hierarchies` (their
data), and 08 also has :mod:`~audiotk.experiments.rule_quality`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from audiotk import audio, shards
from audiotk.experiments.devices import at_once, own_gpu
from audiotk.files import atomic
from audiotk.models.checkpoints import load_checkpoint
from audiotk.resample import Statistic
from audiotk.stats import Interval, bootstrap, paired_bootstrap
from audiotk.tables import AudiotkError, Dataset, Labels, make_segments, make_windows, whole_recordings
from audiotk.train import TrainConfig, train

SCALES = ("smoke", "demo", "paper")
MOST_BYTES = 4e9
COARSE = {
    "mels": 40,
    "n_fft": 1024,
    "hop": 512,
}  # MelCNN on a coarse spectrogram: half the time, no worse on embedded data
SMALL = {
    **COARSE,
    "hop": 1024,
    "width": 0.5,
}  # a third of the time, no worse on few segments


@dataclass(frozen=True)
class Material:
    """Segments with their sound: row i of `waves` (n, samples), float32 at `sr` Hz, is row i of `segments`.

    `segments` has the further column group.
    """

    segments: pd.DataFrame
    waves: Any  # an array, a memory map or shards.StoredWaves
    sr: int
    problems: pd.DataFrame

    @property
    def unit(self) -> pd.Series:
        """Group (person, device, upload) of each segment, index segment: what intervals resample."""
        return self.segments.set_index("segment")["group"]

    def first(self, recordings: int) -> Material:
        """The segments of the first so many recordings; the sound is not copied."""
        rows = int((pd.factorize(self.segments["recording"])[0] < recordings).sum())
        return replace(self, segments=self.segments[:rows], waves=self.waves[:rows])

    def on_disk(self, folder: str | Path) -> Material:
        """The same with the sound in a file of `folder`, so that processes share it instead of each holding a copy.

        Stored sound is shared as it is.
        """
        if not isinstance(self.waves, np.ndarray):
            return self
        path = Path(folder) / f"waves-{secrets.token_hex(4)}.npy"
        with atomic(path) as draft:
            np.save(draft, self.waves)
        return replace(self, waves=np.load(path, mmap_mode="r"))


def load_material(
    dataset: Dataset,
    split: str,
    sr: int,
    window_s: float | None = None,
    hop_s: float | None = None,
    progress: bool = True,
    most_bytes: float = MOST_BYTES,
) -> Material:
    """Read one split as windows (default: whole recordings); files that cannot be read are in `problems`.

    More sound than `most_bytes` is not held in memory, but decoded into files of the cache, once
    (:class:`audiotk.shards.StoredWaves`).

    Raises
    ------
    AudiotkError
        The split has no recording, or none that can be read; the disk has no room for much sound.
    """
    recordings = dataset.part(split)
    if recordings.empty:
        raise AudiotkError(
            f"{dataset.name}: the {split} split holds no recording ({len(dataset.recordings)} in all, "
            f"{dataset.recordings['group'].nunique()} groups); add recordings of other groups, or say in a split "
            "column which recordings are train, val and test"
        )
    return read_windows(recordings, sr, window_s, hop_s, progress, most_bytes)


def read_windows(
    recordings: pd.DataFrame,
    sr: int,
    window_s: float | None,
    hop_s: float | None = None,
    progress: bool = False,
    most_bytes: float = np.inf,
) -> Material:
    """Read `recordings` as windows (None: whole), see :func:`load_material`."""
    segments = whole_recordings(recordings) if window_s is None else make_windows(recordings, window_s, hop_s)
    return read_segments(recordings, segments, sr, window_s, progress, most_bytes)


def read_segments(
    recordings: pd.DataFrame,
    segments: pd.DataFrame,
    sr: int,
    window_s: float | None,
    progress: bool = False,
    most_bytes: float = np.inf,
) -> Material:
    """Read `segments` of `recordings`, each as `window_s` seconds (None: of the longest), see :func:`load_material`."""
    longest_s = (segments["end_s"] - segments["start_s"]).max() if window_s is None else window_s
    waves: Any
    if len(segments) * longest_s * sr * 4 > most_bytes:
        waves = shards.StoredWaves(recordings, segments, sr, window_s, progress=progress)
        segments, problems = waves.segments, waves.problems
    else:
        waves, segments, problems = audio.load_segments(recordings, segments, sr, window_s, progress=progress)
    if not len(segments):
        raise AudiotkError(f"none of {len(recordings)} recordings can be read; the first: {problems['reason'].iloc[0]}")
    groups = recordings.set_index("recording")["group"]
    return Material(segments.assign(group=segments["recording"].map(groups)), waves, sr, problems)


def labelled_segments(dataset: Dataset, recordings: pd.DataFrame) -> pd.DataFrame:
    """One segment a recording: the one that was labelled as a whole, if there is one, else all of it.

    They differ where the file of a segment of AudioSet is the whole video.
    """
    whole = dataset.sources.index[dataset.sources["closed"] & dataset.sources["weak"]]
    named = dataset.annotations.loc[dataset.annotations["source"].isin(whole), "segment"].unique()
    found = dataset.segments[dataset.segments["segment"].isin(named)]
    found = found[~found["recording"].duplicated(keep=False)].set_index("recording").reindex(recordings["recording"])
    start_s = found["start_s"].fillna(0.0).to_numpy()
    end_s = np.where(found["end_s"].isna(), recordings["duration_s"], found["end_s"])
    return make_segments(recordings["recording"], start_s, end_s)


def labelled_windows(dataset: Dataset, recordings: pd.DataFrame, window_s: float) -> pd.DataFrame:
    """Windows as of :func:`audiotk.tables.make_windows` in the :func:`labelled_segments` of recordings."""
    part = labelled_segments(dataset, recordings)
    windows = make_windows(recordings.assign(duration_s=(part["end_s"] - part["start_s"]).to_numpy()), window_s)
    shift_s = windows["recording"].map(part.set_index("recording")["start_s"])
    return make_segments(windows["recording"], windows["start_s"] + shift_s, windows["end_s"] + shift_s)


@dataclass(frozen=True)
class Arm:
    """One variant of an experiment: what it is trained on, and how."""

    name: str
    material: Material
    labels: Labels
    config: TrainConfig
    weights: np.ndarray | None = None  # how often each row is drawn, see `train`
    backgrounds: np.ndarray | None = None
    start: Path | None = None  # a checkpoint of the same classes whose weights training begins with


def train_arms(
    arms: Sequence[Arm],
    val: tuple[Material, Labels],
    score_on: Mapping[str, Material],
    seeds: Sequence[int],
    out: str | Path,
    jobs: int | None = None,
) -> dict[tuple[str, int], dict[str, pd.DataFrame]]:
    """Train each arm with each seed, and score materials with the best epoch of each.

    Parameters
    ----------
    arms
        Names have to differ.
    val
        Material and labels that choose the epoch, the same for all arms.
    score_on
        Materials to score, by name.
    seeds
        One training run each; the seed replaces that of the arm's config.
    out
        Run folders go to ``out/ARM-seedN``; a finished one is not trained again, a killed one goes on.
    jobs
        Processes, each with one thread and, where there are any, a GPU of its own; default: as many as there are GPUs,
        else processors.

    Returns
    -------
    dict
        (arm, seed) -> name of material -> scores, a DataFrame (n_segments, n_classes).
    """
    return train_tasks([(arm, seed) for arm in arms for seed in seeds], val, score_on, out, jobs)


def train_tasks(
    tasks: Sequence[tuple[Arm, int]],
    val: tuple[Material, Labels],
    score_on: Mapping[str, Material],
    out: str | Path,
    jobs: int | None = None,
) -> dict[tuple[str, int], dict[str, pd.DataFrame]]:
    """:func:`train_arms` of pairs of an arm and a seed: where the material of an arm depends on the seed."""
    folders = [run_folder(out, arm.name, seed) for arm, seed in tasks]
    if len(set(folders)) != len(tasks):
        raise AudiotkError(f"arms and seeds have to differ, got {[(arm.name, seed) for arm, seed in tasks]}")
    jobs = at_once(jobs, len(tasks))
    order = np.argsort([-_cost(arm) for arm, _ in tasks], kind="stable")  # the longest first, so none is left over
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", max_nbytes="1M")
    calls = (joblib.delayed(_train_one)(*tasks[i], folders[i], val, dict(score_on)) for i in order)
    results: dict[tuple[str, int], dict[str, pd.DataFrame]] = {}
    for i, scores in zip(
        order, tqdm(parallel(calls), total=len(tasks), desc="training runs", disable=len(tasks) < 2), strict=True
    ):
        results[tasks[i][0].name, tasks[i][1]] = scores
    return {(arm.name, seed): results[arm.name, seed] for arm, seed in tasks}


def run_folder(out: str | Path, arm: str, seed: int) -> Path:
    """Where :func:`train_arms` keeps a run."""
    return Path(out) / f"{arm.replace(' ', '-')}-seed{seed}"


def _train_one(
    arm: Arm, seed: int, folder: Path, val: tuple[Material, Labels], score_on: dict[str, Material]
) -> dict[str, pd.DataFrame]:
    config = replace(arm.config, seed=seed)
    more: dict[str, Any] = {"weights": arm.weights, "backgrounds": arm.backgrounds, "progress": False}
    if arm.start is not None:
        more["start"] = load_checkpoint(arm.start)
    with one_thread(), own_gpu():
        run = train(config, arm.material.waves, arm.labels, val[0].waves, val[1], folder, **more)
        return {name: run.score(part.waves, part.segments["segment"]) for name, part in score_on.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread of the CPU, so that no number depends on how many runs are trained at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interval_text(values: Mapping[Any, Any]) -> str:
    """``0.512 [0.437, 0.590]`` from value, low and high; "unbounded" without ends, "no spread" where they are one."""
    form = ",.0f" if values["value"] >= 100 else ".3f"
    if np.isnan([values["low"], values["high"]]).any():
        return f"{values['value']:{form}} [unbounded]"
    if np.isclose(values["low"], values["high"], rtol=0, atol=1e-9):  # not "[1.000, 1.000]", which looks certain
        return f"{values['value']:{form}} no spread"
    return f"{values['value']:{form}} [{values['low']:{form}}, {values['high']:{form}}]"


def intervals_wide(table: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Rows of value, low and high as text "value [low, high]", over two of their columns, in the order of the rows."""
    text = table.assign(text=[interval_text(item) for item in table.to_dict("records")])
    wide = text.pivot(index=index, columns=columns, values="text").rename_axis(index=None, columns=None)
    return wide.loc[list(dict.fromkeys(table[index])), list(dict.fromkeys(table[columns]))]


def row(
    experiment: str,
    arm: str,
    metric: str,
    value: float | Interval,
    *,
    seed: int | None,
    data: str,
    scale: str,
    split: str = "test",
    class_name: str | None = None,
) -> dict[str, Any]:
    """One row of ``results.jsonl`` from a number or an interval."""
    bounds: dict[str, Any] = {"value": value, "low": None, "high": None, "n": None}
    if isinstance(value, Interval):
        bounds = {name: getattr(value, name) for name in bounds}
    place = {"data": data, "scale": scale, "split": split, "metric": metric, "class_name": class_name}
    return {"experiment": experiment, "arm": arm, "seed": seed, **place, **bounds}


def first_readable(recordings: pd.DataFrame, names: Iterable[str], count: int) -> list[str]:
    """The first `count` of `names` whose sound can be read; the others show up among the problems of a material."""
    paths = recordings.set_index("recording")["path"]
    found: list[str] = []
    for name in names:
        if len(found) == count:
            break
        try:
            audio.load(str(paths[name]), sr=16000)
        except AudiotkError:
            continue
        found.append(name)
    return found


def mean_over_seeds(by_seed: Mapping[int, Statistic], rng: np.random.Generator) -> Interval:
    """Mean of a number over seeds, with its interval over groups of the test set (and seeds, if there are several)."""
    if len(by_seed) == 1:
        return bootstrap(next(iter(by_seed.values())), rng)
    zero = {key: Statistic(one.recordings, lambda counts: np.zeros(len(counts))) for key, one in by_seed.items()}
    return paired_bootstrap(by_seed, zero, rng)


def on_scale(table: pd.DataFrame, highest: float | np.ndarray = 1.0) -> pd.DataFrame:
    """`table` with low and high cut to 0 ... `highest`: the spread over a few seeds may reach past what is possible."""
    return table.assign(low=table["low"].clip(lower=0.0), high=np.minimum(table["high"], highest))


def check_judged(dataset: Dataset) -> Dataset:
    """`dataset` if its labelled ranges say where a class is absent, too.

    Raises
    ------
    AudiotkError
        Only presence was judged: nothing can be learnt or tested.
    """
    judged = dataset.annotations["value"] == 0
    if not (judged.any() or dataset.sources["closed"].any()):
        raise AudiotkError(
            f"{dataset.name}: every annotation says that a class is present, none that one is absent, so there is "
            "nothing to tell it from. If each recording was heard in full, say so with complete=True "
            "(-p complete true): a class is then absent outside of its ranges. Otherwise add ranges with an empty "
            "label: heard, no event"
        )
    return dataset


def check_scale(scale: str) -> str:
    """`scale` if it is one of `SCALES`."""
    if scale not in SCALES:
        raise AudiotkError(f"scale: expected one of {', '.join(SCALES)}, got {scale!r}")
    return scale


def _cost(arm: Arm) -> float:
    return arm.config.epochs * (arm.config.epoch_size or len(arm.material.waves)) * arm.material.waves.shape[1]
