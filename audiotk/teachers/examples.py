"""Prompt by example: a class is the mean of a few segments in which it is heard, in the space of any teacher.

Without a teacher the space is log-mel statistics, which needs no weights, no download and no torch. That is not CLAP:
it tells classes apart that sound different, and has no idea what they mean.

>>> teacher = Examples.fit(None, recordings, segments, {"dog": ["r1@0.000-1.500", ...], "cat": [...]})
>>> teacher.scores(waves)                      # waves (n, samples) -> (n, 2), a softmax over its classes
>>> teacher.save("pets.npz"); Examples("pets.npz")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.decode import stream_ranges
from audiotk.errors import AudiotkError
from audiotk.scoring.windows import cut_windows
from audiotk.tables import PROBLEM_COLUMNS, Labels, check_segments, no_problems
from audiotk.teachers.base import Teacher, unit
from audiotk.teachers.logmel import LogMelStatistics
from audiotk.teachers.prompts import Prompts
from audiotk.teachers.prototypes import Prototypes, fit_scale, mean_vectors

__all__ = ["Examples"]

BACKGROUND = "background"
BATCH = 8  # windows at once


class Examples(Teacher):
    """Classes by example, as prototypes in a space of embeddings.

    Its `classes` are those it has examples of. With prompts, each text is the name of one of its prototypes (classes or
    background), and a prefix is ignored; several texts are averaged. Without prompts (None) these are all of them.

    An event is mostly shorter than the segment it is heard in, so the highest score of the windows ("max") tells more
    than the mean embedding where windows are short, as those of log-mel statistics are.

    Parameters
    ----------
    weights
        File that :meth:`save` wrote, or prototypes.
    space
        The teacher whose embeddings they were made of; None for log-mel statistics, which are in the file.

    Attributes
    ----------
    prototypes : Prototypes
        The vectors and how they came about.
    problems : pandas.DataFrame
        Columns recording, path, reason: what :meth:`fit` could not read.

    Raises
    ------
    AudiotkError
        The file cannot be read, or the space is another one.
    """

    name, aggregate = "examples", "max"

    def __init__(self, weights: str | Path | Prototypes, space: Teacher | None = None) -> None:
        self.prototypes = weights if isinstance(weights, Prototypes) else Prototypes.read(weights)
        wanted = self.prototypes.space
        if space is None:
            if wanted.get("teacher") != LogMelStatistics.name:
                raise AudiotkError(
                    f"examples: were made in the space of {wanted.get('teacher')!r}; give that, space=..."
                )
            space = LogMelStatistics(wanted["sr"], wanted["window_s"], **self.prototypes.arrays)
        if space.fingerprint() != wanted:
            raise AudiotkError(f"examples: were made in the space {wanted}, got {space.fingerprint()}")
        self.space, self.problems = space, no_problems()
        self.sr, self.window_s, self.dim = space.sr, space.window_s, space.dim
        self.classes, self.logit_scale = self.prototypes.classes, self.prototypes.logit_scale
        self.checksum = self.prototypes.checksum

    @classmethod
    def fit(
        cls,
        space: Teacher | None,
        recordings: pd.DataFrame,
        segments: pd.DataFrame,
        labels: Labels | Mapping[str, Sequence[str]],
        *,
        background: Sequence[str] | Mapping[str, Sequence[str]] = (),
        hop_s: float | None = None,
    ) -> Examples:
        """Make prototypes from examples.

        A segment is heard in windows, as in scoring; an example is the unit mean of their embeddings, a prototype the
        unit mean of its examples. Log-mel statistics that were not standardised yet are so by the classes' windows.

        Parameters
        ----------
        space
            A teacher that gives embeddings; None: log-mel statistics.
        recordings, segments
            Tables as in `audiotk.tables`.
        labels
            Class -> ids of a few segments that hold it (and little else), or labels, of which the present ones count.
        background
            Segments that hold none of the classes, as one prototype named "background" or by name; for readings that
            compare classes with it. They may be few and short.
        hop_s
            Distance of windows in seconds; None: half a window.

        Raises
        ------
        AudiotkError
            The space gives no embeddings, a segment or recording is unknown, or a class is left without an example.

        Warns
        -----
        UserWarning
            Recordings that cannot be read; they are in `problems`, and their segments are left out.
        """
        space = LogMelStatistics() if space is None else space
        if not space.dim:
            raise AudiotkError(f"examples: {space.name} gives scores and no embeddings, so it is no space for examples")
        chosen = _chosen(labels, background)
        n_classes = len(chosen) - (len(background) if isinstance(background, Mapping) else bool(background))
        wanted = {name for ids in chosen.values() for name in ids}
        rows = _rows(check_segments(segments), wanted)
        raw = isinstance(space, LogMelStatistics) and not space.parts
        heard, problems = _hear(space, recordings, rows, space.window_s / 2 if hop_s is None else hop_s, raw)
        chosen = {name: [i for i in ids if i in heard] for name, ids in chosen.items()}
        if lost := [name for name, ids in chosen.items() if not ids]:
            told = f"; first problem: {problems['reason'].iloc[0]}" if len(problems) else ""
            raise AudiotkError(f"examples: {lost[0]!r} has no example that can be heard ({len(lost)} such){told}")
        if isinstance(space, LogMelStatistics) and raw:
            space, heard = _standardised(space, heard, list(chosen.values())[:n_classes])
        made = _prototypes(space, heard, chosen, n_classes)
        teacher = cls(made, space)
        teacher.problems = problems
        return teacher

    def save(self, path: str | Path) -> None:
        """Write the prototypes to an ``.npz`` file, wholly or not at all; the weights of the space are not in it."""
        self.prototypes.save(path)

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """As the space does."""
        return self.space.fill(wave)

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> embeddings of the space, unit norm [shape=(n, dim), float32]."""
        return self.space.embed_audio(waves)

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Names of prototypes -> their vectors, unit norm [shape=(len(texts), dim), float32]."""
        names = (*self.classes, *self.prototypes.background)
        if unknown := [text for text in texts if text not in names]:
            told = ", ".join(map(repr, names[:8]))
            raise AudiotkError(
                f"examples: there are none of {unknown[0]!r}; prompts name what there are some of: {told}"
            )
        return self.prototypes.vectors[[names.index(text) for text in texts]]

    def class_vectors(self, prompts: Prompts | None) -> np.ndarray:
        """As `Teacher.class_vectors`; None: all its classes, then all its background."""
        return self.prototypes.vectors if prompts is None else super().class_vectors(replace(prompts, prefix=""))

    def fingerprint(self) -> dict[str, Any]:
        """That of the space: embeddings do not depend on the prototypes, so nothing is heard again for other ones.

        What scores depend on besides is `checksum`.
        """
        return self.space.fingerprint()


def _chosen(
    labels: Labels | Mapping[str, Sequence[str]], background: Sequence[str] | Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Name -> segment ids; classes first, then the background."""
    if isinstance(labels, Labels):
        dense = labels.dense()  # (n, C)
        labels = {name: list(labels.segments[dense[:, c] == 1]) for c, name in enumerate(labels.classes)}
    if isinstance(background, str) or any(isinstance(ids, str) for ids in labels.values()):
        raise AudiotkError("examples: expected several segment ids for a class and for the background, got one text")
    behind = background if isinstance(background, Mapping) else {BACKGROUND: background} if len(background) else {}
    if twice := set(labels) & set(behind):
        raise AudiotkError(f"examples: {sorted(twice)[0]!r} is a class and a background; give one of them another name")
    chosen = {str(name): list(dict.fromkeys(ids)) for name, ids in {**labels, **behind}.items()}
    if not labels or (empty := [name for name, ids in chosen.items() if not ids]):
        raise AudiotkError(f"examples: expected classes with at least one segment each, got none for {empty[0]!r}"
                           if labels else "examples: expected classes with their segments, got none")  # fmt: skip
    return chosen


def _rows(segments: pd.DataFrame, wanted: set[str]) -> pd.DataFrame:
    """The rows of the wanted segments."""
    rows = segments[segments["segment"].isin(wanted)].reset_index(drop=True)
    if unknown := sorted(wanted - set(rows["segment"])):
        raise AudiotkError(f"examples: segment {unknown[0]!r} is not in the segments table ({len(unknown)} such)")
    return rows


def _hear(
    space: Teacher, recordings: pd.DataFrame, segments: pd.DataFrame, hop_s: float, raw: bool
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """What the space gives for the windows of each segment that can be read, and the problems."""
    hear: Callable[[np.ndarray], np.ndarray] = space.statistics if raw else space.embed_audio  # type: ignore[attr-defined]
    paths = dict(zip(recordings["recording"], recordings["path"], strict=True))
    windows = cut_windows(segments, space.sr, space.window_s, hop_s)
    heard: dict[str, np.ndarray] = {}
    failed: list[tuple[str, str, str]] = []
    for row, group in windows.groupby("row"):
        segment, recording = str(segments["segment"][row]), str(segments["recording"][row])
        if recording not in paths:
            raise AudiotkError(f"examples: recording {recording!r} of a segment is not in the recordings table")
        ranges = [
            (first / space.sr, last / space.sr) for first, last in zip(group["first"], group["last"], strict=True)
        ]
        try:
            waves = [
                wave if len(wave) == space.samples else space.fill(wave)
                for wave in stream_ranges(paths[recording], space.sr, ranges)
            ]
        except AudiotkError as err:
            failed.append((recording, str(paths[recording]), str(err)))
            continue
        parts = [hear(np.stack(waves[at : at + BATCH])) for at in range(0, len(waves), BATCH)]
        heard[segment] = np.concatenate(parts)
    problems = pd.DataFrame(failed, columns=list(PROBLEM_COLUMNS)).astype(PROBLEM_COLUMNS)
    problems = problems.drop_duplicates("recording").reset_index(drop=True)
    if len(problems):
        warnings.warn(
            f"examples: {len(problems)} recording(s) cannot be read, see problems; first: {problems['reason'].iloc[0]}",
            stacklevel=3,
        )
    return heard, problems


def _standardised(
    space: LogMelStatistics, heard: dict[str, np.ndarray], classes: list[list[str]]
) -> tuple[LogMelStatistics, dict[str, np.ndarray]]:
    """Log-mel statistics standardised by the windows of the classes, and the embeddings of what was heard."""
    windows = [(heard[i], place) for place, ids in enumerate(classes) for i in ids]
    groups = np.repeat([place for _, place in windows], [len(rows) for rows, _ in windows])
    space = space.standardised(np.concatenate([rows for rows, _ in windows]), groups)
    return space, {name: space.place(rows) for name, rows in heard.items()}


def _prototypes(
    space: Teacher, heard: dict[str, np.ndarray], chosen: dict[str, list[str]], n_classes: int
) -> Prototypes:
    """Prototypes of the chosen segments, from the embeddings of their windows; the first `n_classes` are classes."""
    vectors = {name: unit(windows.mean(axis=0, dtype=np.float64)) for name, windows in heard.items()}
    names, ids = tuple(chosen), list(chosen.values())
    examples = [np.stack([vectors[i] for i in own]) for own in ids]  # (n_examples, dim) each
    return Prototypes(
        classes=names[:n_classes],
        background=names[n_classes:],
        counts=tuple(map(len, examples)),
        vectors=mean_vectors(examples),
        logit_scale=fit_scale(examples[:n_classes], ids[:n_classes]),
        space=space.fingerprint(),
        arrays=space.parts if isinstance(space, LogMelStatistics) else {},
    )
