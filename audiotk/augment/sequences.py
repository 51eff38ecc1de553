"""P1's Algorithm 1: each training sequence is made of several cut and changed sources whose labels are joined.

S. Braun, H. Gamper, "Multi-label audio classification with a noisy zero-shot teacher" (arXiv:2407.14712, here P1),
sections 3.1 and 3.2. A sequence is the sum of 1 to I_max *tracks*. A track is filled with pieces of recordings, one
after the other; a piece is cut at a random start and end, played faster or slower and higher or lower, filtered and
put into a room. Behind the sum come distortion, codec and level.

What is random in a sequence comes from (seed, epoch, place in the epoch) alone: a sequence is the same however many
processes make it, and in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from audiotk.augment.batches import MIXES
from audiotk.augment.effects import CODECS, DISTORTIONS, distort, draw_path, stretch, through_codec
from audiotk.errors import AudiotkError
from audiotk.synthesis import Wave

WEAK = ("keep", "unknown")
MIN_OVERLAP = 0.5  # of the shorter one of piece and range, as in labels.resolve: less of it makes a class unknown
GRACE_S = 0.002


@dataclass(frozen=True)
class Recipe:
    """How a sequence is made. P1 names the effects; their probabilities and ranges are our choice."""

    cut: bool = True  # pieces with a random start and end; False: from the start, as long as they are
    min_cut_s: float = 5.0  # P1; a shorter recording is taken whole
    stretch: float = 0.5  # probability of another pitch and speed
    semitones: float = 2.0  # at most, up or down
    rate: float = 1.15  # at most, faster or slower
    spectral: float = 0.5  # probability of a smooth random equaliser
    band_pass: float = 0.25
    reverb: float = 0.25
    level_db: float = 2.0  # of a track, standard deviation; P1: 2
    distortion: float = 0.2
    codec: float = 0.3
    out_level_db: float = 4.0  # of the sequence, standard deviation
    weak: str = "keep"  # what a cut makes of a present class without a range: "keep" (P1) or "unknown"

    def __post_init__(self) -> None:
        chances = ("stretch", "spectral", "band_pass", "reverb", "distortion", "codec")
        for name in chances:
            if not 0 <= getattr(self, name) <= 1:
                raise AudiotkError(f"recipe: expected {name} in 0..1, a probability, got {getattr(self, name)!r}")
        if self.weak not in WEAK:
            raise AudiotkError(f"recipe: expected weak to be one of {WEAK}, got {self.weak!r}")
        if not (self.min_cut_s > 0 and 1 <= self.rate <= 4 and 0 <= self.semitones <= 24):
            raise AudiotkError(f"recipe: expected min_cut_s > 0, rate in 1..4 and semitones in 0..24, got {self}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Recipe:
        """A recipe from plain values, for example from a config; an unknown name is an error."""
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise AudiotkError(f"recipe: unknown options {unknown}; known are {sorted(known)}")
        return cls(**options)

    @classmethod
    def plain(cls, **changes: Any) -> Recipe:
        """Cut, concatenate, set levels: no effect that changes the sound."""
        none = dict.fromkeys(("stretch", "spectral", "band_pass", "reverb", "distortion", "codec"), 0.0)
        return cls(**{**none, **changes})


class Sources:
    """Waves that know how long each one really is, and where in it each class is heard.

    ``sources[rows]`` are the waves of `waves`, so this may stand wherever those do.

    Parameters
    ----------
    waves
        (n, samples) or anything that gives waves by row; short ones are padded at their end.
    lengths_s
        (n,) seconds without the padding; default: all of it.
    ranges
        For each row float (k, 3): start_s, end_s, number of the class. A present class without any is a weak label.
    """

    def __init__(self, waves: Any, lengths_s: Any = None, ranges: Sequence[np.ndarray] | None = None) -> None:
        for noun, part in (("lengths_s", lengths_s), ("ranges", ranges)):
            if part is not None and len(part) != len(waves):
                raise AudiotkError(f"sources: expected {noun} for each of {len(waves)} waves, got {len(part)}")
        self.waves, self.ranges = waves, ranges
        self.lengths_s = None if lengths_s is None else np.asarray(lengths_s, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.waves)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wave: np.ndarray = self.waves[rows]
        return wave

    @property
    def shape(self) -> tuple[int, int]:
        """Number and length of the waves."""
        return len(self), int(self.waves.shape[1])

    def part(self, rows: np.ndarray) -> Sources:
        """The sources of some rows; nothing is read or copied."""
        lengths_s = None if self.lengths_s is None else self.lengths_s[rows]
        return Sources(_Rows(self, rows), lengths_s, None if self.ranges is None else [self.ranges[k] for k in rows])


class _Rows:
    """Some rows of sources, in the place of waves."""

    def __init__(self, sources: Sources, rows: np.ndarray) -> None:
        self.sources, self.rows = sources, np.asarray(rows)
        self.shape = len(self.rows), sources.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.sources[self.rows[rows]]


class Made(NamedTuple):
    """One sequence: `wave` (samples,), `targets` (C,), `ranges` (k, 3) of the classes whose places are known."""

    wave: Wave
    targets: np.ndarray
    ranges: np.ndarray


class Sequences:
    """Makes training sequences.

    Parameters
    ----------
    sources
        Waves by row at `sr` Hz, or :class:`Sources`.
    targets
        (n, C) of 1 / 0 / NaN.
    recipe
        How.
    sr, samples
        Sample rate in Hz and length of a sequence.
    mix, max_sources
        "none": one track; "join": 1 to `max_sources` tracks, labels joined by Kleene OR (P1); "vanilla": two tracks
        a x + (1 - a) y with labels alike, a uniform in 0..1; x and y have levels of their own, as tracks always do.
    seed
        Of everything.
    workers
        Processes that make sequences; 0: a thread beside the one that trains.

    Raises
    ------
    AudiotkError
        An unknown mix, or no source.
    """

    def __init__(
        self,
        sources: Any,
        targets: np.ndarray,
        recipe: Recipe,
        *,
        sr: int,
        samples: int,
        mix: str = "join",
        max_sources: int = 2,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        if mix not in MIXES or max_sources < 1 or not len(targets) or len(sources) != len(targets):
            raise AudiotkError(
                f"sequences: expected a mix of {MIXES}, max_sources >= 1 and as many targets as sources (at least 1), "
                f"got {mix!r}, {max_sources}, {len(targets)} and {len(sources)}"
            )
        self.sources = sources if isinstance(sources, Sources) else Sources(sources)
        self.targets, self.recipe, self.sr, self.samples = targets, recipe, sr, samples
        self.mix, self.max_sources, self.seed, self.workers = mix, max_sources, seed, workers
        self._loader: DataLoader[Any] | None = None
        self._plan: list[list[tuple[int, int, int]]] = []

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Wave, np.ndarray]:
        """Wave and targets of (epoch, place, row): place `place` of the epoch begins with recording `row`."""
        made = self.make(*key)
        return made.wave, made.targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loader": None, "_plan": []}  # what a process that makes sequences needs

    def batches(self, epoch: int, order: np.ndarray, blocks: Sequence[np.ndarray]) -> Iterator[tuple[Any, Any]]:
        """Waves (B, samples) and targets (B, C) of each block of places; `order` is the row of each place."""
        self._plan[:] = [[(epoch, int(place), int(order[place])) for place in block] for block in blocks]
        if self._loader is None:  # one for all epochs, so that its processes stay; the plan of an epoch is sent to them
            self._loader = DataLoader(
                self,  # type: ignore[arg-type]
                batch_sampler=_Plan(self._plan),
                num_workers=self.workers,
                persistent_workers=self.workers > 0,
                prefetch_factor=4 if self.workers else None,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # else torch's global one would be drawn from
            )
        return _ahead(iter(self._loader))

    def make(self, epoch: int, place: int, row: int) -> Made:
        """One sequence that begins with recording `row`."""
        rng = np.random.default_rng([self.seed, epoch, place])
        count = {"none": 1, "vanilla": 2}.get(self.mix) or int(rng.integers(1, self.max_sources + 1))
        rows = [row, *(int(other) for other in rng.integers(len(self.targets), size=count - 1))]
        tracks = [self._track(one, rng) for one in rows]
        shares = np.ones(count)
        if self.mix == "vanilla":
            shares[0] = rng.random()
            shares[1] = 1 - shares[0]
            targets = shares[0] * tracks[0].targets + shares[1] * tracks[1].targets
        else:
            targets = join([track.targets for track in tracks])
        levels = shares * 10 ** (rng.normal(0.0, self.recipe.level_db, count) / 20)
        wave = np.sum([np.float32(a) * track.wave for a, track in zip(levels, tracks, strict=True)], axis=0)
        ranges = np.concatenate([track.ranges for track in tracks])
        return Made(self._behind_microphone(wave, rng), targets.astype(np.float32), ranges)

    def _track(self, row: int, rng: np.random.Generator) -> Made:
        """Pieces of `row` and then of random recordings until the sequence is full."""
        wave, at, targets, ranges = np.zeros(self.samples, np.float32), 0, [], []
        while at < self.samples:
            piece = self._piece(row, self.samples - at, rng)
            wave[at : at + len(piece.wave)] = piece.wave
            targets.append(piece.targets)
            ranges.append(piece.ranges + np.array([at, at, 0]) / self.sr)
            at += len(piece.wave)
            row = int(rng.integers(len(self.targets)))
        return Made(wave, join(targets), np.concatenate(ranges))

    def _piece(self, row: int, room: int, rng: np.random.Generator) -> Made:
        """A part of a recording, changed; at most `room` samples long."""
        recipe, sources = self.recipe, self.sources
        source = np.asarray(sources[np.array([row])])[0]
        whole = len(source)
        if sources.lengths_s is not None:
            whole = min(whole, max(1, round(sources.lengths_s[row] * self.sr)))
        start, length = 0, whole
        if recipe.cut:
            length = int(rng.integers(min(whole, round(recipe.min_cut_s * self.sr)), whole + 1))
            start = int(rng.integers(whole - length + 1))
        rate, semitones = 1.0, 0.0
        if rng.random() < recipe.stretch:
            rate = float(recipe.rate ** rng.uniform(-1, 1))
            semitones = float(rng.uniform(-1, 1) * recipe.semitones)
        length = min(length, int(np.ceil(room * rate)))
        wave = source[start : start + length]
        if (rate, semitones) != (1.0, 0.0):
            wave = stretch(wave, self.sr, rate, semitones, int(rng.integers(2**31)))[:room]
        path = draw_path(self.sr, recipe.spectral, recipe.band_pass, recipe.reverb, rng)
        if path is not None:
            wave = path(wave, self.sr)
        span = (start / self.sr, (start + length) / self.sr)
        targets, kept = self._heard(row, span, cut=length < whole)
        return Made(wave, targets, (kept - np.array([span[0], span[0], 0])) / np.array([rate, rate, 1]))

    def _heard(self, row: int, span: tuple[float, float], cut: bool) -> tuple[np.ndarray, np.ndarray]:
        """Targets of the seconds `span` of a recording, and what of its labelled ranges lies there (same clock)."""
        targets = self.targets[row].astype(np.float64)
        ranges = np.empty((0, 3)) if self.sources.ranges is None else self.sources.ranges[row].reshape(-1, 3)
        located = np.isin(np.arange(len(targets)), ranges[:, 2].astype(int))
        if cut and self.recipe.weak == "unknown":
            targets[(targets == 1) & ~located] = np.nan
        kept = np.column_stack([ranges[:, :2].clip(*span), ranges[:, 2]])
        kept_s, range_s = kept[:, 1] - kept[:, 0], ranges[:, 1] - ranges[:, 0]
        enough = kept_s >= MIN_OVERLAP * np.minimum(range_s, span[1] - span[0]) - GRACE_S
        for name in np.flatnonzero(located & (targets == 1)):
            mine = ranges[:, 2] == name
            some = (kept_s[mine] > GRACE_S).any()
            targets[name] = 1.0 if (enough & (kept_s > 0))[mine].any() else np.nan if some else 0.0
        return targets, kept[kept_s > GRACE_S]

    def _behind_microphone(self, wave: Wave, rng: np.random.Generator) -> Wave:
        recipe = self.recipe
        if rng.random() < recipe.distortion:
            wave = distort(wave, str(rng.choice(DISTORTIONS)), float(rng.uniform(0, 0.7)))
        if rng.random() < recipe.codec:
            wave = through_codec(wave, self.sr, str(rng.choice(list(CODECS))), float(rng.random()))
        return wave * np.float32(10 ** (rng.normal(0.0, recipe.out_level_db) / 20))


def join(targets: Sequence[np.ndarray]) -> np.ndarray:
    """Kleene OR of targets (C,): 1 if any is 1, else NaN if any is, else 0; as `batches.kleene_or` for many."""
    every = np.stack(targets)  # (k, C)
    return np.where((every == 1).any(axis=0), 1.0, np.where(np.isnan(every).any(axis=0), np.nan, 0.0))


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same, the next one being made while the current one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


class _Plan:
    """The batches of the present epoch, for the loader: a list that is filled anew for each one."""

    def __init__(self, plan: list[list[tuple[int, int, int]]]) -> None:
        self._plan = plan

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        return iter(self._plan)

    def __len__(self) -> int:
        return len(self._plan)
