"""Prototypes: one vector a class, the mean of a few examples; kept in one file that runs no code when it is read."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from audiotk.errors import AudiotkError
from audiotk.files import atomic
from audiotk.teachers.base import unit

__all__ = ["Prototypes", "fit_scale", "mean_vectors"]

FORMAT = "audiotk-prototypes 1"
SCALES = (1.0, 100.0)  # where a logit scale is looked for; CLAP's lie between 18 and 100
DEFAULT_SCALE = 10.0  # where no class has two examples to fit one by


@dataclass(frozen=True)
class Prototypes:
    """Classes as vectors in the space of a teacher.

    Attributes
    ----------
    classes, background
        Names of the classes, and of what is none of them.
    counts
        How many examples each was made of, classes first.
    vectors
        Unit norm, float32 [shape=(C + B, dim)], classes first.
    logit_scale
        See :func:`fit_scale`.
    space
        `Teacher.fingerprint` of the space.
    arrays
        What the space was standardised by, if it was (`audiotk.teachers.logmel`).

    Raises
    ------
    AudiotkError
        Names that occur twice, or arrays that do not fit them.
    """

    classes: tuple[str, ...]
    background: tuple[str, ...]
    counts: tuple[int, ...]
    vectors: np.ndarray
    logit_scale: float
    space: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = (*self.classes, *self.background)
        if not self.classes or len(set(names)) != len(names) or len(self.counts) != len(names):
            raise AudiotkError(f"prototypes: expected different names, at least one class, got {names}")
        shape, good = np.shape(self.vectors), np.isfinite(self.vectors).all()
        if len(shape) != 2 or shape[0] != len(names) or not good or not 0 < self.logit_scale < np.inf:
            raise AudiotkError(
                f"prototypes: expected a finite vector for each of {len(names)} names, got shape {shape}"
            )

    @property
    def checksum(self) -> str:
        """SHA-256 of everything in it, in hex."""
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for name, array in sorted({"vectors": self.vectors, **self.arrays}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file, wholly or not at all.

        Raises
        ------
        AudiotkError
            It cannot be written.
        """
        about = np.array(json.dumps({"format": FORMAT, "checksum": self.checksum, **self._about()}))
        arrays: dict[str, Any] = {"about": about, "vectors": self.vectors, **self.arrays}
        with atomic(path) as draft, open(draft, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: str | Path) -> Prototypes:
        """Read what :meth:`save` wrote.

        Raises
        ------
        AudiotkError
            The file is missing, damaged or something else; nothing pickled is read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays.pop("about")))
            found_format, checksum = about.pop("format"), about.pop("checksum")
            lists: dict[str, Any] = {name: tuple(about.pop(name)) for name in ("classes", "background", "counts")}
            found = cls(vectors=arrays.pop("vectors"), arrays=arrays, **lists, **about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as err:
            raise AudiotkError(f"{path}: cannot be read as prototypes that audiotk saved: {err}") from err
        if found_format != FORMAT or found.checksum != checksum:
            raise AudiotkError(f"{path}: is damaged, or of another version of audiotk ({found_format})")
        return found

    def _about(self) -> dict[str, Any]:
        """All but the arrays, as JSON can hold it."""
        told = asdict(self)
        return {name: told[name] for name in ("classes", "background", "counts", "logit_scale", "space")}


def mean_vectors(examples: Sequence[np.ndarray]) -> np.ndarray:
    """Unit means of the examples [shapes=(n_examples, dim)] of each class: float32 [shape=(n_classes, dim)]."""
    return unit(np.stack([np.asarray(rows, np.float64).mean(axis=0) for rows in examples])).astype(np.float32)


def fit_scale(examples: Sequence[np.ndarray], ids: Sequence[Sequence[str]]) -> float:
    """The logit scale under which a softmax best tells the class of an example that was left out.

    Each example is compared with the prototype of its class made without it and those of the others as they are; the
    scale has the highest likelihood of the right classes, between 1 and 100. Where the space was standardised by these
    examples (log-mel statistics), that is a little too sure. 10 where no class has two examples.

    Parameters
    ----------
    examples
        Vectors of the examples of each class [shapes=(n_examples, dim)].
    ids
        Their segments; another class of the same segment does not count as wrong.
    """
    prototypes = mean_vectors(examples).astype(np.float64)
    rows, right = [], []
    for own, vectors in enumerate(examples):
        total = np.sum(vectors, axis=0, dtype=np.float64)
        for vector, name in zip(vectors if len(vectors) > 1 else (), ids[own], strict=len(vectors) > 1):
            cosines = prototypes @ vector  # (C,)
            cosines[[name in others for others in ids]] = -np.inf
            cosines[own] = unit(total - vector) @ vector
            rows.append(cosines)
            right.append(own)
    if not rows or len(examples) < 2:
        return DEFAULT_SCALE
    cosines, hit = np.stack(rows), np.array(right)

    def loss(log_scale: float) -> float:
        scaled = np.exp(log_scale) * cosines
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(hit)), hit]))

    found = minimize_scalar(loss, bounds=tuple(np.log(SCALES)), method="bounded")
    return round(float(np.exp(found.x)), 3)
