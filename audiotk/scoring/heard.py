"""What was heard, read in any way: prompts, reading and aggregation change nothing of what a teacher has to hear."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.scores import write_scores
from audiotk.scoring.parts import Parts
from audiotk.search import Embeddings
from audiotk.tables import AudiotkError
from audiotk.teachers.base import Teacher, unit
from audiotk.teachers.prompts import Prompts
from audiotk.teachers.readings import Reading, as_thresholds

AGGREGATES = {
    "embedding": "the mean of the windows' embeddings is read",
    "mean": "each window is read, and their scores averaged",
    "max": "each window is read, and the highest score counts",
}
MOST_BYTES = 1e9  # more than this is held in a file
BLOCK = 16_000_000  # numbers (windows x width) that are read at once, about


@dataclass(frozen=True)
class Heard:
    """What :func:`audiotk.scoring.listen` returns.

    Attributes
    ----------
    teacher
        Who heard.
    segments
        The segments that were heard, in the given order.
    windows
        row (of `segments`, rising), first, last (samples at the teacher's rate), part and place (where it is kept).
    problems
        A *problems* table: recordings that could not be heard.
    parts, paths
        Where it is kept.
    """

    teacher: Teacher
    segments: pd.DataFrame
    windows: pd.DataFrame
    problems: pd.DataFrame
    parts: Parts
    paths: list[Path]

    def __repr__(self) -> str:
        told = f"{len(self.segments):,} segments in {len(self.windows):,} windows by {self.teacher.name}"
        return f"Heard({told}, {len(self.problems)} problems, {self.parts.folder})"

    @cached_property
    def values(self) -> np.ndarray:
        """Embeddings, or scores of the teacher's own classes, of each window: float32 [shape=(n_windows, width)]."""
        shape = (len(self.windows), self.parts.width)
        values: np.ndarray
        if 4 * shape[0] * shape[1] > MOST_BYTES:
            file = tempfile.TemporaryFile(dir=self.parts.folder)  # noqa: SIM115 (lives as long as the map of it)
            values = np.memmap(file, np.float32, "w+", shape=shape)
        else:
            values = np.empty(shape, np.float32)
        place = self.windows["place"].to_numpy()
        for part, rows in self.windows.groupby("part").indices.items():
            values[rows] = self.parts.heard(self.paths[part], place[rows])  # type: ignore[call-overload]
        return values

    def similarities(self, prompts: Prompts | None = None, aggregate: str | None = None) -> pd.DataFrame:
        """One number a segment and class before it is read as a score: cosines, or scores of own classes pooled.

        Of the mean embedding for "embedding", else the mean or highest of the windows.
        """
        blocks = list(self._blocks(prompts, None, aggregate))
        return pd.concat(blocks) if blocks else self._frame(np.zeros((0, len(self.classes(prompts)))), 0, prompts)

    def scores(
        self, prompts: Prompts | None = None, reading: Reading | None = None, aggregate: str | None = None
    ) -> pd.DataFrame:
        """A *scores* table: index segment, one column a class, float64 in [0, 1].

        Parameters
        ----------
        prompts
            Classes and what they mean to the teacher; None: its own classes.
        reading
            How a similarity becomes a score; None: P1's softmax with the teacher's scale, own scores of a tagger.
        aggregate
            One of `AGGREGATES`; None: what suits the teacher (`Teacher.aggregate`).

        Raises
        ------
        AudiotkError
            Prompts, reading or aggregate do not fit this teacher.
        """
        blocks = list(self._blocks(prompts, reading or self.reading(), aggregate))
        return pd.concat(blocks) if blocks else self._frame(np.zeros((0, len(self.classes(prompts)))), 0, prompts)

    def write_scores(
        self,
        path: str | Path,
        prompts: Prompts | None = None,
        reading: Reading | None = None,
        aggregate: str | None = None,
        thresholds: float | Mapping[str, float] | None = None,
        dtype: str = "float32",
    ) -> None:
        """Write the scores to a Parquet file, with all that they and `thresholds` depend on (``Scores.about``)."""
        reading = reading or self.reading()
        classes = self.classes(prompts)
        about = {
            "teacher": {**self.teacher.about(), "heard": self.parts.about},
            "prompts": None if prompts is None else prompts.about(),
            "reading": reading.about(),
            "aggregate": aggregate or self.teacher.adds_up,
            "thresholds": None if thresholds is None else as_thresholds(thresholds, classes),
        }
        write_scores(path, self._blocks(prompts, reading, aggregate), dtype, about)

    def embeddings(self, dtype: str = "float16") -> Embeddings:
        """The mean embedding of each segment, of unit norm, to search in."""
        if not self.teacher.dim:
            raise AudiotkError(f"{self.teacher.name}: gives scores and no embeddings, so there is nothing to search in")
        vectors = np.empty((len(self.segments), self.teacher.dim), dtype)
        for rows, firsts, values in self._slices():
            vectors[rows] = unit(_mean(values, firsts))
        return Embeddings(vectors, self.segments, {"teacher": self.parts.about})

    def reading(self) -> Reading:
        """What `scores` does unless told otherwise."""
        return Reading("softmax", self.teacher.logit_scale) if self.teacher.dim else Reading("own")

    def classes(self, prompts: Prompts | None) -> list[str]:
        """Names of the classes."""
        return list(self.teacher.classes if prompts is None else prompts.classes)

    def _blocks(
        self, prompts: Prompts | None, reading: Reading | None, aggregate: str | None
    ) -> Iterator[pd.DataFrame]:
        aggregate = aggregate or self.teacher.adds_up
        check_question(self.teacher, prompts, reading, aggregate)
        n_classes = len(self.classes(prompts))
        for rows, firsts, values in self._slices():
            if aggregate == "embedding":
                values, firsts = _mean(values, firsts), np.arange(len(firsts))
            told = self.teacher.similarities(values, prompts)  # (windows, C + B)
            told = told[:, :n_classes] if reading is None else reading.scores(told, n_classes)  # (windows, C)
            merged = np.maximum.reduceat(told, firsts) if aggregate == "max" else _mean(told, firsts)
            yield self._frame(merged, rows.start, prompts)

    def _slices(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Segments in blocks: which, where the windows of each begin among the block's, and the windows' numbers."""
        edges = np.searchsorted(self.windows["row"].to_numpy(), np.arange(len(self.segments) + 1))
        start, most = 0, max(1, BLOCK // self.parts.width)
        while start < len(self.segments):
            stop = max(start + 1, int(np.searchsorted(edges, edges[start] + most, side="right")) - 1)
            mine = edges[start : stop + 1]
            yield slice(start, stop), mine[:-1] - mine[0], self.values[mine[0] : mine[-1]]
            start = stop

    def _frame(self, values: np.ndarray, start: int, prompts: Prompts | None) -> pd.DataFrame:
        names = self.segments["segment"].iloc[start : start + len(values)]
        columns = pd.Index(self.classes(prompts), dtype="str", name="class_name")
        return pd.DataFrame(values, index=pd.Index(names, name="segment"), columns=columns)


def check_question(
    teacher: Teacher, prompts: Prompts | None, reading: Reading | None, aggregate: str | None = None
) -> None:
    """Whether a teacher can be asked in this way, before it hears anything.

    Raises
    ------
    AudiotkError
        Prompts, reading or aggregate do not fit the teacher, or it lacks what it needs to read prompts.
    """
    aggregate = aggregate or teacher.adds_up
    if aggregate not in AGGREGATES:
        raise AudiotkError(f"aggregate: expected one of {', '.join(AGGREGATES)}, got {aggregate!r}")
    if aggregate == "embedding" and not teacher.dim:
        raise AudiotkError(f"aggregate 'embedding': {teacher.name} gives scores only; use 'mean' or 'max'")
    if reading is not None and (reading.kind == "own") == bool(teacher.dim) and reading.kind != "sigmoid":
        raise AudiotkError(
            f"reading {reading.kind!r}: {teacher.name} gives {'embeddings' if teacher.dim else 'scores of its own'}; "
            f"use {'softmax, cosine, background' if teacher.dim else 'own'} or a fitted sigmoid"
        )
    told = teacher.similarities(np.zeros((1, teacher.width)), prompts)
    if reading is not None:
        reading.scores(told, len(teacher.classes if prompts is None else prompts.classes))


def _mean(values: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Mean over the windows of each segment: float64 [shape=(n_segments, width)]."""
    counts = np.diff(np.append(firsts, len(values)))
    return np.add.reduceat(values.astype(np.float64), firsts) / counts[:, None]
