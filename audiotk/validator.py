"""A second stage: is a detection right? It looks at the sound around a detection and says how probable that is.

The first stage proposes: every segment and class whose score is above a low threshold, the *floor*. The validator sees
the embedding, level, flatness, duration and score of each proposal and gives a probability, which takes the place of
the score. So one threshold still decides, and a system with a validator is compared with one without at equal recall.

>>> found = detections(scores, segments, 0.1, energy.describe(recordings, segments))
>>> right = labels.frame().stack().reindex(pd.MultiIndex.from_frame(found[["segment", "class_name"]])).to_numpy()
>>> known = np.isfinite(right)
>>> validator = Validator.fit(found[known], vectors[found["row"][known]], right[known], groups[known], rng)
>>> later = detections(other_scores, other_segments, 0.1, energy.describe(recordings, other_segments))
>>> validated(other_scores, later, validator.scores(later, other_vectors[later["row"]]), 0.1)     # a table of scores
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit

from audiotk.events import TOUCH_S
from audiotk.files import atomic
from audiotk.metrics import Thresholds, class_thresholds
from audiotk.tables import AudiotkError

__all__ = ["Validator", "detections", "validated"]

FORMAT = "audiotk-validator 1"
NUMBERS = ("level_dbfs", "flatness", "duration_s")
SURE = 1e-6  # scores are kept this far from 0 and 1, so that they have a logit
STRENGTHS = (0.003, 0.01, 0.03, 0.1)  # of the weights (C of scikit-learn), of which cross-fitting chooses
FOLDS = 5
ARRAYS = ("center", "spread", "weights")
Column = Sequence[Any] | np.ndarray | pd.Series


@dataclass(frozen=True)
class Validator:
    """A calibrated logistic regression on what is around a detection.

    Inputs: the logit of the score, `numbers`, their squares, the embedding, and the class; and all of them once more
    for each class, so that classes share what they have in common and differ where the data say so. On embedded data
    this was better than one model for all classes and than boosted trees.

    Attributes
    ----------
    classes
        Classes that it knows.
    numbers
        Columns of the detections that it looks at, besides score.
    center, spread
        What inputs are standardised by [shape=(F,)].
    weights
        Of the standardised inputs, then of the inputs of each class, the last one the constant
        [shape=(F + len(classes) * (F + 1) + 1,)].
    slope, offset
        Calibration: the probability is the logistic function of slope * z + offset.
    about
        strength, log_loss and brier (out of fold), detections, groups, right (share).
    """

    classes: tuple[str, ...]
    numbers: tuple[str, ...]
    center: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    slope: float = 1.0
    offset: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.center)
        shapes = (np.shape(self.center), np.shape(self.spread), np.shape(self.weights))
        good = all(
            np.isfinite(part).all() for part in (self.center, self.spread, self.weights, self.slope, self.offset)
        )
        if shapes != ((size,), (size,), (size + len(self.classes) * (size + 1) + 1,)) or not good:
            raise AudiotkError(
                f"validator: its arrays do not fit {len(self.classes)} classes, or are not finite: {shapes}"
            )

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return len(self.center) - 2 * (1 + len(self.numbers))

    @classmethod
    def fit(
        cls,
        detections: pd.DataFrame,
        embeddings: np.ndarray,
        right: Column,
        groups: Column,
        rng: np.random.Generator,
        *,
        numbers: Sequence[str] = NUMBERS,
    ) -> Validator:
        """Fit on detections whose truth is known; strength and calibration come from groups that a fit did not see.

        The detections should come from recordings that the first stage was not trained on: on those it was, its scores
        look better than they will be.

        Parameters
        ----------
        detections
            Columns class_name, score (0 to 1) and `numbers` [n rows].
        embeddings
            Of the segment of each detection [shape=(n, dim)].
        right
            Whether the class is there: True or 1, False or 0 [shape=(n,)].
        groups
            The group of each (person, device, upload) [shape=(n,)].
        rng
            Draws the folds of groups.
        numbers
            Columns to look at.

        Raises
        ------
        AudiotkError
            NaN or infinity in anything (the first place is named), a missing column, other numbers of rows, fewer than
            two groups, or folds without right or without wrong detections.
        """
        classes = tuple(sorted(detections["class_name"].astype(str).unique())) if "class_name" in detections else ()
        inputs, codes = _inputs(detections, embeddings, tuple(numbers), classes)
        right = _right(right, len(inputs))
        folds = _folds(groups, len(inputs), rng)
        center, spread = inputs.mean(axis=0), inputs.std(axis=0)
        spread = np.where(spread > 1e-9 * np.maximum(np.abs(center), 1.0), spread, 1.0)
        design = _design((inputs - center) / spread, codes, len(classes))
        if lacking := [fold for fold in np.unique(folds) if len(np.unique(right[folds != fold])) < 2]:
            raise AudiotkError(
                f"validator: expected right and wrong detections outside of each of {folds.max() + 1} folds of groups, "
                f"got {int(right.sum())} right of {len(right)} ({len(lacking)} folds without); give more groups"
            )
        unseen = {strength: _out_of_fold(design, right, folds, strength) for strength in STRENGTHS}
        losses = {strength: _log_loss(right, expit(z)) for strength, z in unseen.items()}
        best = min(losses, key=lambda strength: losses[strength])
        slope, offset = _platt(unseen[best], right)
        p = expit(slope * unseen[best] + offset)
        about = {
            "strength": best, "log_loss": _log_loss(right, p), "brier": float(np.square(p - right).mean()),
            "detections": len(right), "groups": len(np.unique(np.asarray(groups, object).astype(str))),
            "right": float(right.mean()),
        }  # fmt: skip
        return cls(classes, tuple(numbers), center, spread, _weights(design, right, best), slope, offset, about)

    def scores(self, detections: pd.DataFrame, embeddings: np.ndarray) -> np.ndarray:
        """The probability that each detection is right: float64 [shape=(n,)].

        Raises
        ------
        AudiotkError
            A class it does not know, embeddings of another width, a missing column, NaN or infinity.
        """
        if (width := np.shape(embeddings)[-1:]) != (self.dim,):
            raise AudiotkError(f"validator: was fitted on embeddings of {self.dim} numbers, got {width}")
        inputs, codes = _inputs(detections, embeddings, self.numbers, self.classes)
        z = _design((inputs - self.center) / self.spread, codes, len(self.classes)) @ self.weights
        return expit(self.slope * z + self.offset)

    def calibrated(self, detections: pd.DataFrame, embeddings: np.ndarray, right: Column) -> Validator:
        """The same with `slope` and `offset` fitted on other detections, as of validation recordings."""
        raw = logit(np.clip(self.scores(detections, embeddings), 1e-12, 1 - 1e-12))
        slope, offset = _platt((raw - self.offset) / self.slope, _right(right, len(raw)))
        parts = {name: getattr(self, name) for name in ("classes", "numbers", *ARRAYS, "about")}
        return Validator(**parts, slope=slope, offset=offset)

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file, wholly or not at all."""
        told = {name: getattr(self, name) for name in ("classes", "numbers", "slope", "offset", "about")}
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        with atomic(path) as draft, open(draft, "wb") as file:
            np.savez(file, json=np.array(json.dumps({"format": FORMAT, **told})), **arrays)

    @classmethod
    def read(cls, path: str | Path) -> Validator:
        """Read what :meth:`save` wrote.

        Raises
        ------
        AudiotkError
            The file is missing, damaged or something else; nothing pickled is read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ARRAYS}
                told = json.loads(str(file["json"]))
            if (found := told.pop("format")) != FORMAT:
                raise ValueError(f"its format is {found!r}, this audiotk reads {FORMAT!r}")
            told |= {name: tuple(told[name]) for name in ("classes", "numbers")}
            return cls(**told, **arrays)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as err:
            raise AudiotkError(f"{path}: cannot be read as a validator that audiotk saved: {err}") from err


def detections(scores: pd.DataFrame, segments: pd.DataFrame, floor: Thresholds, sound: pd.DataFrame) -> pd.DataFrame:
    """What the first stage proposes: each segment and class with a score above the floor.

    Parameters
    ----------
    scores
        Index segment, one column a class.
    segments
        Place of each scored segment.
    floor
        One for all classes or one for each: low, as what is below is never looked at. NaN: none of this class.
    sound
        Index segment, columns as `energy.describe` gives them.

    Returns
    -------
    pandas.DataFrame
        row (of `scores`), segment, class_name, score, duration_s (of all segments of the recording and class that fire
        in one piece), then the columns of `sound`.

    Raises
    ------
    AudiotkError
        A scored segment is not in `segments` or not in `sound`.
    """
    for name, index in (("segments", pd.Index(segments["segment"])), ("sound", sound.index)):
        if len(missing := scores.index.difference(index, sort=False)) or index.has_duplicates:
            raise AudiotkError(
                f"detections: {name} must hold each scored segment once; {len(missing)} are missing "
                f"(first: {list(missing[:1])}), {index.duplicated().sum()} are duplicate"
            )
    row, column = np.nonzero(scores.to_numpy(np.float64) > class_thresholds(floor, scores.columns))  # > NaN is false
    places = segments.set_index("segment").loc[scores.index[row], ["recording", "start_s", "end_s"]]
    found = pd.DataFrame({
        "row": row, "segment": scores.index[row], "class_name": scores.columns[column],
        "score": scores.to_numpy(np.float64)[row, column], **{name: places[name].to_numpy() for name in places},
    })  # fmt: skip
    fired = found.sort_values(["class_name", "recording", "start_s"], kind="stable")
    key = [fired["class_name"], fired["recording"]]
    before = fired.groupby(key)["end_s"].cummax().groupby(key).shift(fill_value=-np.inf)
    pieces = fired.groupby((fired["start_s"] > before + TOUCH_S).cumsum())
    found["duration_s"] = pieces["end_s"].transform("max") - pieces["start_s"].transform("min")
    heard = sound.loc[found["segment"]].reset_index(drop=True)
    return pd.concat([found[["row", "segment", "class_name", "score", "duration_s"]], heard], axis=1)


def validated(
    scores: pd.DataFrame, detections: pd.DataFrame, probability: np.ndarray, floor: Thresholds
) -> pd.DataFrame:
    """Scores with the second stage in them: floor + (1 - floor) * probability where the first stage proposed something.

    What was not proposed keeps its score, which is not above the floor; so all proposals rank above all else, among
    themselves by the validator alone, and one threshold above the floor turns both stages at once. (The product of
    score and probability would count the score twice, as the validator has seen it, and could rank a proposal below
    what was not even looked at; the minimum would keep a low score that the validator found too low.)

    Parameters
    ----------
    scores
        As for :func:`detections`, with the same floor.
    detections
        As :func:`detections` gives them.
    probability
        Of each, as :meth:`Validator.scores` gives it [shape=(n,)].

    Raises
    ------
    AudiotkError
        Other numbers of rows, a probability outside 0 to 1, or detections of other scores or another floor.
    """
    probability, values = np.asarray(probability, np.float64), scores.to_numpy(np.float64, copy=True)
    limits = class_thresholds(floor, scores.columns)
    if probability.shape != (len(detections),) or not ((probability >= 0) & (probability <= 1)).all():
        raise AudiotkError(f"validated: expected a probability of each of {len(detections)} detections, in 0 to 1")
    row, column = (index.get_indexer(pd.Index(detections[name])) for index, name in
                   ((scores.index, "segment"), (scores.columns, "class_name")))  # fmt: skip
    fires = np.zeros(values.shape, bool)
    fires[row, column] = True
    if (row < 0).any() or (column < 0).any() or not np.array_equal(fires, values > limits):
        raise AudiotkError("validated: the detections are not those of these scores above this floor; make them again")
    values[row, column] = limits[column] + (1 - limits[column]) * probability
    return pd.DataFrame(values, scores.index, scores.columns)


def _inputs(
    detections: pd.DataFrame, embeddings: np.ndarray, numbers: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Score's logit and numbers, their squares, embeddings [shape=(n, F)]; number of the class of each row."""
    if missing := [name for name in ("class_name", "score", *numbers) if name not in detections]:
        raise AudiotkError(f"validator: the detections have no column {missing[0]!r}, got {list(detections.columns)}")
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or len(embeddings) != len(detections) or embeddings.dtype.kind not in "fiu":
        raise AudiotkError(f"validator: expected an embedding of each of {len(detections)} detections, got "
                           f"{embeddings.dtype} of shape {embeddings.shape}")  # fmt: skip
    for name in ("score", *numbers):
        _finite(detections[name].to_numpy(np.float64), name, detections)
    _finite(embeddings, "an embedding", detections)
    score = detections["score"].to_numpy(np.float64)
    if not ((score >= 0) & (score <= 1)).all():
        raise AudiotkError(f"validator: expected scores in 0 to 1, got {score.min()} to {score.max()}")
    codes = pd.Index(classes).get_indexer(pd.Index(detections["class_name"].astype(str)))
    if (codes < 0).any():
        odd = detections["class_name"].iloc[int((codes < 0).argmax())]
        raise AudiotkError(f"validator: was fitted on classes {list(classes)} and does not know {odd!r}")
    plain = np.column_stack([logit(np.clip(score, SURE, 1 - SURE)), detections[list(numbers)].to_numpy(np.float64)])
    return np.hstack([plain, np.square(plain), embeddings.astype(np.float64)]), codes


def _finite(values: np.ndarray, what: str, detections: pd.DataFrame) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise AudiotkError(f"validator: {what} is NaN or infinite in {bad.sum()} of {len(bad)} detections, the first "
                           f"in row {int(bad.argmax())}; leave out what could not be read")  # fmt: skip


def _right(right: Column, n: int) -> np.ndarray:
    values = np.asarray(right, np.float64)
    if values.shape != (n,) or not np.isin(values, (0.0, 1.0)).all():
        raise AudiotkError(f"validator: expected True or False for each of {n} detections, got shape {values.shape}, "
                           f"{int(np.isnan(values).sum())} of them unknown; leave those out")  # fmt: skip
    return values


def _folds(groups: Column, n: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each row; a group is in one."""
    codes, named = pd.factorize(np.asarray(groups, object), sort=False)
    if len(codes) != n or (codes < 0).any() or len(named) < 2:
        raise AudiotkError(f"validator: expected a group of each of {n} detections, two groups or more; got "
                           f"{len(codes)} rows of {len(named)} groups")  # fmt: skip
    return (rng.permutation(len(named)) % FOLDS)[codes]


def _design(standard: np.ndarray, codes: np.ndarray, n_classes: int) -> sparse.csr_array:
    """Shared inputs, inputs and constant of each class, constant [shape=(n, F + C * (F + 1) + 1)].

    A row has but its own class's inputs, so a fit is eight times faster than with the zeros written out.
    """
    n, size = standard.shape
    values = np.column_stack([standard, standard, np.ones((n, 2))])
    own = size + codes[:, None] * (size + 1) + np.arange(size + 1)
    last = size + n_classes * (size + 1)
    columns = np.column_stack([np.tile(np.arange(size), (n, 1)), own, np.full(n, last)])
    starts = np.arange(n + 1) * values.shape[1]
    return sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(n, last + 1))


def _weights(design: sparse.csr_array, right: np.ndarray, strength: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, tol=1e-6, max_iter=2000).fit(design[:, :-1], right)
    return np.append(model.coef_[0], model.intercept_[0])


def _out_of_fold(design: sparse.csr_array, right: np.ndarray, folds: np.ndarray, strength: float) -> np.ndarray:
    z = np.empty(len(right))
    for fold in np.unique(folds):
        z[folds == fold] = design[folds == fold] @ _weights(design[folds != fold], right[folds != fold], strength)
    return z


def _platt(z: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of Platt (1999), targets a little inside 0 and 1 as his; the slope stays positive."""
    n = right.sum()
    target = np.where(right == 1, (n + 1) / (n + 2), 1 / (len(right) - n + 2))

    def loss(at: np.ndarray) -> float:
        logits = np.exp(at[0]) * z + at[1]
        return float(np.mean(np.logaddexp(0, logits) - target * logits))

    found = minimize(loss, [0.0, 0.0])
    return float(np.exp(found.x[0])), float(found.x[1])


def _log_loss(right: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(right * np.log(p) + (1 - right) * np.log(1 - p)))
