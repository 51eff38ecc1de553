"""A teacher's scores over time, as the labeler shows them and the queue orders by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from audiotk.tables import AudiotkError

MOST_BYTES = 1_500_000  # of one recording in a message
THRESHOLD = 0.5


class Teacher:
    """Scores of windows, by recording.

    Parameters
    ----------
    scores
        A *scores* table: index segment (``REC@1.200-2.800``), one column a class; NaN = not scored.
    classes
        The labeler's classes; those without a column have no score.

    Raises
    ------
    AudiotkError
        No class has a column, or a segment id is not of that form.
    """

    def __init__(self, scores: pd.DataFrame, classes: Sequence[str]) -> None:
        self.classes = [name for name in classes if name in scores.columns]
        if not self.classes:
            raise AudiotkError(
                f"teacher: no column is one of the classes {list(classes)}; got {list(scores.columns)[:10]}"
            )
        parts = pd.Series(scores.index.astype("str")).str.extract(r"^(.*)@(\d+\.?\d*)-(\d+\.?\d*)$")
        if parts[0].isna().any():
            bad = scores.index[int(parts[0].isna().to_numpy().argmax())]
            raise AudiotkError(f"teacher: expected segment ids like 'REC@1.200-2.800' as index, got {bad!r}")
        order = np.lexsort((parts[1].astype(float), parts[0].astype(object)))
        names = parts[0].to_numpy(dtype=object)[order]
        self._values = scores[self.classes].to_numpy(dtype=np.float32)[order]  # (rows, classes)
        self._times = parts[[1, 2]].to_numpy(dtype=np.float32)[order]  # (rows, 2)
        firsts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]][: len(names)])
        ends = np.append(firsts, len(names))[1:]
        self._rows = {names[a]: slice(int(a), int(b)) for a, b in zip(firsts, ends, strict=True)}

    def of(self, recording: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Scores float32 (T, C) and ranges float32 (T, 2) of one recording in order of time; None if it has none.

        Where that were too much for a message, neighbours are merged, each class keeping its highest score.
        """
        rows = self._rows.get(recording)
        if rows is None:
            return None
        values, times = self._values[rows], self._times[rows]
        if (merge := -(-4 * values.shape[0] * (values.shape[1] + 2) // MOST_BYTES)) > 1:
            starts = np.arange(0, len(values), merge)
            values = np.fmax.reduceat(values, starts, axis=0)
            times = np.stack([times[starts, 0], np.maximum.reduceat(times[:, 1], starts)], axis=1)
        return values, times

    def best(self) -> pd.DataFrame:
        """The highest score of each class in each recording (index recording); NaN where nothing was scored."""
        names = list(self._rows)
        firsts = [self._rows[name].start for name in names]
        values = np.fmax.reduceat(self._values, firsts, axis=0) if names else self._values
        return pd.DataFrame(values, index=pd.Index(names, name="recording"), columns=self.classes)

    def crossing(self, recording: str, class_name: str, at_s: float, edge: str, reach_s: float = 1.0) -> float | None:
        """Where the score of a class, between the middles of its windows, next crosses 0.5 within reach of `at_s`."""
        found = self.of(recording)
        if found is None or class_name not in self.classes:
            return None
        score = found[0][:, self.classes.index(class_name)].astype(float) - THRESHOLD
        middle = found[1].mean(axis=1, dtype=float)
        rising = (score[:-1] < 0) & (score[1:] >= 0)
        falling = (score[:-1] >= 0) & (score[1:] < 0)
        turns = np.flatnonzero(rising if edge == "start" else falling)
        share = score[turns] / (score[turns] - score[turns + 1])
        times = middle[turns] + share * (middle[turns + 1] - middle[turns])
        near = times[np.abs(times - at_s) <= reach_s]
        return float(near[np.argmin(np.abs(near - at_s))]) if len(near) else None
