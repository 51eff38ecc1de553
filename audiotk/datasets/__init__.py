"""Data sets by name. Each module has ``load(root, ...)``, which gives an :class:`audiotk.tables.Dataset`."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from audiotk.tables import AudiotkError, Dataset

NAMES = ("embedded", "esc50", "fsd50k", "audioset", "folder")


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Load the data set `name` (one of `NAMES`) from `root`; `options` are those of the module's own ``load``.

    Raises
    ------
    AudiotkError
        An unknown name or option, or no `root` for a data set that needs one.
    """
    if name not in NAMES:
        raise AudiotkError(f"data set: expected one of {', '.join(NAMES)}, got {name!r}")
    reader = import_module(f"audiotk.datasets.{name}").load
    known = [option for option in inspect.signature(reader).parameters if option != "root"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AudiotkError(f"data set {name!r}: unknown options {unknown}; expected some of {known}")
    dataset: Dataset = reader(root, **options)
    return dataset
