"""What the teachers share that come as one file with classes of its own: the class map, the checksum, the check."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiotk.errors import AudiotkError
from audiotk.teachers.weights import digest

__all__ = ["checked_scores", "read_classes", "tagger_checksum"]

NAMES = (
    "display_name",
    "class_name",
    "class",
    "label",
    "name",
)  # columns that hold class names, the first found counts


def read_classes(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Class names in the order of a model's outputs.

    Parameters
    ----------
    source
        A CSV file with a column ``display_name``, ``class_name``, ``class``, ``label`` or ``name`` (and perhaps
        ``index``, which then has to count the rows from 0), a JSON file that holds a list of names, or the names.

    Raises
    ------
    AudiotkError
        The file cannot be read or is neither, or a name is empty or occurs twice.
    """
    if isinstance(source, str | Path):
        path, where = Path(source), str(source)
        names = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
    else:
        names, where = list(source), "classes"
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise AudiotkError(f"{where}: expected a list of class names, got {names!r:.80}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise AudiotkError(f"{where}: class {twice[0]!r} occurs twice")
    return tuple(names)


def tagger_checksum(path: Path, classes: Sequence[str]) -> str:
    """SHA-256 of a file of weights together with the names of its classes, in hex.

    Raises
    ------
    AudiotkError
        The file cannot be read.
    """
    return hashlib.sha256(json.dumps([digest(path), list(classes)]).encode()).hexdigest()


def checked_scores(name: str, scores: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`scores` as float32 if they are of `shape` and in [0, 1].

    Raises
    ------
    AudiotkError
        They are not; NaN is not either.
    """
    if scores.shape != shape:
        raise AudiotkError(f"{name}: expected scores of shape {shape}, the model gave {scores.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        bad = scores[~((scores >= 0) & (scores <= 1))][0]
        raise AudiotkError(
            f"{name}: expected scores in [0, 1], the model gave {bad}; logits need normalise='sigmoid' or 'softmax'"
        )
    return scores.astype(np.float32, copy=False)


def _read_json(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as err:
        raise AudiotkError(f"{path}: cannot be read as a JSON list of class names: {err}") from err
    if not isinstance(found, list):
        raise AudiotkError(f"{path}: expected a JSON list of class names, got {type(found).__name__}")
    return found


def _read_csv(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise AudiotkError(f"{path}: cannot be read as a CSV file of class names: {err}") from err
    columns = list(rows[0]) if rows else []
    column = next((name for name in NAMES if name in columns), None)
    if column is None:
        raise AudiotkError(f"{path}: expected a CSV file with one of the columns {', '.join(NAMES)}, got {columns}")
    if "index" in columns and [row["index"] for row in rows] != [str(number) for number in range(len(rows))]:
        raise AudiotkError(f"{path}: column index: expected the rows numbered from 0 in order")
    return [row[column] for row in rows]
