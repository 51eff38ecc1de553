"""A saved model explains itself: weights, classes, sampling rate, how it was made, and by which code.

The file is torch's zip format holding tensors and one JSON text, nothing else, so that reading one never runs code
from it (`weights_only=True`).
"""

from __future__ import annotations

import json
import pickle
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiotk.errors import AudiotkError
from audiotk.files import atomic, package_commit
from audiotk.models import WaveformModel, build

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "audiotk-checkpoint"
VERSION = 1  # raised when an older reader could not understand the file
META = ("model", "options", "classes", "sr", "clip_s", "config", "metrics", "commit", "versions")


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` returns; the model is on the asked device and in evaluation mode."""

    model: WaveformModel
    classes: tuple[str, ...]
    sr: int
    clip_s: float
    config: dict[str, Any]
    metrics: dict[str, Any] | None
    commit: str | None
    versions: dict[str, str | None]


def save_checkpoint(
    path: str | Path,
    model: WaveformModel,
    classes: Sequence[str],
    config: Mapping[str, Any] | Any,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; a crash leaves the old file or none, never half of one.

    Parameters
    ----------
    path : str or Path
    model : WaveformModel
        From `models.build`; unwrap it first if Fabric or DDP wrapped it (`fabric_model.module`).
    classes : sequence of str
        Names of the outputs, in order.
    config, metrics : mapping or dataclass
        Anything JSON can hold; tuples come back as lists, paths as text, numpy numbers as numbers.

    Raises
    ------
    AudiotkError
        Not one of our models, classes that do not match its outputs, or a value that JSON cannot hold.
    """
    if not isinstance(model, WaveformModel):
        raise AudiotkError(
            f"save_checkpoint: expected a model from models.build, got {type(model).__name__}; unwrap it first"
        )
    meta = {
        "model": model.name,
        "options": model.options,
        "classes": _check_classes(classes, model.n_classes, str(path)),
        "sr": model.sr,
        "clip_s": model.clip_s,
        "config": config,
        "metrics": metrics,
        "commit": package_commit(),
        "versions": _versions(),
    }
    payload = {
        "format": FORMAT,
        "version": VERSION,
        "meta": json.dumps(meta, default=_plain),
        "weights": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    with atomic(path) as draft:
        torch.save(payload, draft)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint and rebuild its model; code pickled into the file is refused, not run.

    Raises
    ------
    AudiotkError
        Missing file, not a checkpoint, pickled code, missing keys, a newer format, or weights that do not fit.
    """
    payload = _read(Path(path))
    try:
        meta = json.loads(payload["meta"])
    except json.JSONDecodeError as err:
        raise AudiotkError(f"{path}: its description is not JSON ({err}); the file is damaged") from err
    missing = sorted(set(META) - set(meta)) if isinstance(meta, dict) else list(META)
    if missing:
        raise AudiotkError(f"{path}: the description lacks {', '.join(missing)}; the file is damaged")
    classes = _check_classes(meta["classes"], None, str(path))
    try:
        model = build(
            meta["model"], len(classes), sr=meta["sr"], clip_s=meta["clip_s"],
            rng=np.random.default_rng(0),  # these weights are overwritten; torch's random state stays as it is
            **meta["options"],
        )  # fmt: skip
        model.load_state_dict(payload["weights"], strict=True)
    except (AudiotkError, RuntimeError, TypeError) as err:
        raise AudiotkError(f"{path}: does not fit a {meta['model']} of this version of audiotk: {err}") from err
    return Checkpoint(
        model=model.to(device).eval(),
        classes=tuple(classes),
        sr=model.sr,
        clip_s=model.clip_s,
        config=meta["config"],
        metrics=meta["metrics"],
        commit=meta["commit"],
        versions=meta["versions"],
    )


def _read(path: Path) -> dict[str, Any]:
    """The payload of a file that is a checkpoint of a version we know."""
    if not path.is_file():
        raise AudiotkError(f"{path}: there is no such file; expected a checkpoint written by save_checkpoint")
    if not zipfile.is_zipfile(path):
        raise AudiotkError(f"{path}: is not a checkpoint (not a torch zip file), or it was cut off while copying")
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise AudiotkError(
            f"{path}: holds pickled Python code or objects and was refused; a checkpoint of audiotk holds tensors "
            "and text only. Nothing of it was run"
        ) from err
    except (RuntimeError, EOFError, KeyError) as err:
        raise AudiotkError(f"{path}: is not a checkpoint, or damaged: {err}") from err
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise AudiotkError(f"{path}: is a torch file, but not a checkpoint written by audiotk's save_checkpoint")
    version = payload.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise AudiotkError(
            f"{path}: has checkpoint format {version}, this audiotk reads up to {VERSION}; update audiotk"
        )
    weights = payload.get("weights")
    if not isinstance(payload.get("meta"), str) or not isinstance(weights, dict):
        raise AudiotkError(f"{path}: lacks its description or its weights; the file is damaged")
    return payload


def _check_classes(classes: Any, n_classes: int | None, where: str) -> list[str]:
    """Class names as a list: text, no doubles, and `n_classes` of them (None: any number)."""
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(c, str) for c in classes)
    if not named or not classes or len(set(classes)) != len(classes) or n_classes not in (None, len(classes)):
        wanted = "" if n_classes is None else f"{n_classes} "
        raise AudiotkError(f"{where}: expected {wanted}different class names, one an output, got {classes!r}")
    return list(classes)


def _plain(value: Any) -> Any:
    """For JSON: numpy, paths and dataclasses as plain values; anything else is refused."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise AudiotkError(f"save_checkpoint: config and metrics must be plain, got {type(value).__name__} {value!r}")


def _versions() -> dict[str, str | None]:
    try:
        own: str | None = metadata.version("audiotk")
    except metadata.PackageNotFoundError:
        own = None  # run from a folder without installing
    return {"audiotk": own, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
