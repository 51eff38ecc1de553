"""From similarity to score: how a cosine becomes a number in [0, 1], and the threshold above which a class is present.

A CLAP teacher compares sound and text by a cosine, which is no probability. P1 multiplies it by the checkpoint's logit
scale and puts a softmax over the classes (section 3.4), and calls a class present above 0.2. That makes classes
compete: at most four can be above 0.2, and a class more or a word changed moves all of them. The other readings do not
compete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from audiotk.tables import AudiotkError, Labels

__all__ = ["KINDS", "P1_THRESHOLD", "Reading", "common_threshold", "fit_sigmoid"]

KINDS = {
    "softmax": "softmax over the classes of scaled cosines (P1)",
    "cosine": "the cosine itself, moved to [0, 1] by (1 + cosine) / 2",
    "sigmoid": "a sigmoid a class, fitted on validation labels (Platt)",
    "background": "each class alone against all background prompts, by a softmax of scaled cosines",
    "own": "scores of the teacher's own classes as they are",
}
P1_THRESHOLD = 0.2  # P1, section 4.1, for CLAP's softmax over its 11 prompts


@dataclass(frozen=True)
class Reading:
    """One way to read similarities; ``Reading(**about)`` of :meth:`about` gives it again.

    Attributes
    ----------
    kind
        One of `KINDS`.
    scale
        Factor of cosines before a softmax, mostly the teacher's `logit_scale`. With 1 a softmax is nearly uniform: one
        cosine of 0.5 against ten of 0 gives 0.14.
    slope, intercept
        Of the sigmoids, one a class; see :func:`fit_sigmoid`.

    Raises
    ------
    AudiotkError
        An unknown kind, a scale that is not positive, or a sigmoid that was not fitted.
    """

    kind: str = "softmax"
    scale: float = 1.0
    slope: tuple[float, ...] = ()
    intercept: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise AudiotkError(f"reading: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise AudiotkError(f"reading: expected a scale > 0, got {self.scale!r}")
        object.__setattr__(self, "slope", tuple(self.slope))
        object.__setattr__(self, "intercept", tuple(self.intercept))
        if len(self.slope) != len(self.intercept) or (self.kind == "sigmoid") != bool(self.slope):
            raise AudiotkError("reading: a sigmoid, and only that, has a slope and an intercept a class: fit_sigmoid")

    def scores(self, similarities: np.ndarray, n_classes: int | None = None) -> np.ndarray:
        """Similarities [shape=(n, C + B)] -> scores in [0, 1], float64 [shape=(n, C)].

        Parameters
        ----------
        similarities
            Of C classes, then of B background prompts.
        n_classes
            C; None: there are no background prompts.
        """
        given = np.asarray(similarities, dtype=np.float64)
        classes = given[:, :n_classes]  # (n, C)
        if self.kind == "own":
            return classes
        if self.kind == "cosine":
            return (1 + np.clip(classes, -1, 1)) / 2
        if self.kind == "sigmoid":
            if len(self.slope) != classes.shape[1]:
                raise AudiotkError(f"reading: fitted to {len(self.slope)} classes, asked about {classes.shape[1]}")
            return expit(classes * np.array(self.slope) + np.array(self.intercept))
        if self.kind == "softmax":
            return softmax(self.scale * classes, axis=1)
        against = given[:, classes.shape[1] :]  # (n, B)
        if not against.shape[1]:
            raise AudiotkError("reading 'background': the prompts name no background; add some to compare classes with")
        top = np.logaddexp.reduce(self.scale * against, axis=1, keepdims=True)  # (n, 1)
        return expit(self.scale * classes - top)

    def about(self) -> dict[str, Any]:
        """As JSON can hold it."""
        told = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def fit_sigmoid(similarities: pd.DataFrame, labels: Labels | pd.DataFrame, scale: float = 1.0) -> Reading:
    """One sigmoid a class, fitted on validation labels; classes do not compete, and scores are calibrated.

    Platt's method (1999) with his smoothed targets, so that separable classes stay finite; unknown labels take no part.

    Parameters
    ----------
    similarities
        Index segment, one column a class, from validation recordings.
    labels
        Of the same segments and classes.

    Raises
    ------
    AudiotkError
        A class without a present or without an absent label: nothing to fit to.
    """
    from sklearn.linear_model import LogisticRegression

    from audiotk.metrics import aligned

    s, y, _, classes = aligned(similarities, labels)
    slopes, intercepts = [], []
    for c, name in enumerate(classes):
        known = np.isfinite(y[:, c])
        x, present = s[known, c], y[known, c] == 1
        n_present, n_absent = int(present.sum()), int((~present).sum())
        if not (n_present and n_absent):
            raise AudiotkError(
                f"sigmoid: class {name!r} has {n_present} present and {n_absent} absent labels among those to fit to; "
                "expected some of both"
            )
        target = np.where(present, (n_present + 1) / (n_present + 2), 1 / (n_absent + 2))
        centre, spread = x.mean(), max(float(x.std()), 1e-12)
        both = np.tile((x - centre) / spread, 2)[:, None]  # each segment as present and as absent, by its target
        side = np.repeat([1, 0], len(x))
        fitted = LogisticRegression(C=1e6).fit(both, side, sample_weight=np.concatenate([target, 1 - target]))
        slopes.append(float(fitted.coef_[0, 0]) / spread)
        intercepts.append(float(fitted.intercept_[0]) - slopes[-1] * centre)
    order = [list(classes).index(name) for name in similarities.columns]
    return Reading("sigmoid", scale, tuple(slopes[c] for c in order), tuple(intercepts[c] for c in order))


def common_threshold(scores: pd.DataFrame, labels: Labels | pd.DataFrame) -> float:
    """One threshold for all classes, as P1's 0.2: that of the best macro F1; choose it on validation, then keep it.

    A class fires at score > threshold. Of several equally good ones it is the highest; it lies half way between two
    scores that occur. :func:`audiotk.metrics.thresholds` gives one a class.

    Raises
    ------
    AudiotkError
        No class has a present label.
    """
    from audiotk.metrics import aligned

    s, y, _, _ = aligned(scores, labels)
    judged = [(s[known, c], y[known, c] == 1) for c in range(s.shape[1]) if (known := np.isfinite(y[:, c])).any()]
    judged = [(x, present) for x, present in judged if present.any()]
    if not judged:
        raise AudiotkError("threshold: no class has a present label, so there is nothing to choose by")
    levels = np.unique(np.concatenate([x for x, _ in judged]))  # ascending
    lowest = max(0.0, np.nextafter(levels[0], -np.inf))  # below it everything fires, but for scores of 0
    firing = np.append(lowest, (levels[:-1] + levels[1:]) / 2)
    total = np.zeros(len(firing))
    for x, present in judged:
        fired = len(x) - np.searchsorted(np.sort(x), firing, side="right")
        hit = present.sum() - np.searchsorted(np.sort(x[present]), firing, side="right")
        total += 2 * hit / (fired + present.sum())
    best = np.flatnonzero(total >= total.max() - 1e-12)[-1]
    return float(firing[best])


def as_thresholds(thresholds: float | Mapping[str, float] | pd.Series, classes: Sequence[str]) -> dict[str, float]:
    """One threshold a class; AudiotkError if a class has none."""
    if isinstance(thresholds, int | float):
        return dict.fromkeys(classes, float(thresholds))
    given = dict(thresholds)
    if missing := [name for name in classes if name not in given]:
        raise AudiotkError(f"threshold: class {missing[0]!r} has none; give one number, or one for each class")
    return {name: float(given[name]) for name in classes}
