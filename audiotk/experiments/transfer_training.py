"""The networks behind notebook 09: base models of one split, and target models built on them in P2's three ways.

P2 is T. Grzywalski, D. Botteldooren, "Automatic re-labeling of Google AudioSet for improved quality of learned features
and pre-training", sections IV and V.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from audiotk import losses, metrics
from audiotk.experiments import one_thread
from audiotk.experiments.devices import own_gpu
from audiotk.files import atomic
from audiotk.models import WaveformModel
from audiotk.models.predict import Waves, predict_logits
from audiotk.tables import SPLITS, Labels
from audiotk.train import TrainConfig, train

BASE, FEATURES, TUNED, SCRATCH = "base model", "features + MLP", "fine-tuning", "from scratch"
Parts = Mapping[str, Labels]  # labels of train, val and test


class Key(NamedTuple):
    """One trained model of a split: how, on which base labels, on which target labels, on which share of the targets.

    `base` is "" from scratch; `target` is "" for a base model, which is tested on its own labels.
    """

    way: str
    base: str
    target: str
    share: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How long everything is trained, and with which network; `shares` of the target recordings give the curve."""

    config: TrainConfig
    base_epochs: int
    target_epochs: int
    mlp_epochs: int
    shares: tuple[float, ...]
    mlp_hidden: int = 256  # P2


@dataclass(frozen=True)
class Split:
    """Base and target labels by labeling (OL, PEL, PE-CML); `problem` says why it cannot be used, "" if it can."""

    root: str
    base: Mapping[str, Parts]
    target: Mapping[str, Parts]
    problem: str = ""


@dataclass(frozen=True)
class Rows:
    """Some rows of waves: a Waves itself."""

    waves: Waves
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.waves[self.rows[rows]]


@one_thread()
@own_gpu()
def train_split(
    split: Split, waves: Waves, segments: pd.Index, recipe: Recipe, seed: int, folder: Path
) -> dict[Key, pd.DataFrame]:
    """Train everything that P2 compares within one split, on one thread and, if there is any, one GPU.

    Parameters
    ----------
    split
        Labels; their segments are among `segments`, in which row i is row i of `waves`.
    recipe, seed
        How long, and the seed of weights, order of batches and subsets of the targets.
    folder
        Of the runs of :func:`audiotk.train.train`; finished ones are used again.

    Returns
    -------
    dict
        Key -> logits of the split's test segments, float32, index segment, columns classes.
    """
    theirs, ours = (_sound(side, waves, segments) for side in (split.base, split.target))
    trainer = _Trainer(recipe, seed, folder)
    found: dict[Key, pd.DataFrame] = {}
    bases: dict[str, WaveformModel] = {}
    for scheme, labels in split.base.items():
        bases[scheme] = trainer.train(f"base-{scheme}", recipe.base_epochs, theirs, labels)
        found[Key(BASE, scheme, "")] = logits_of(bases[scheme], theirs["test"], labels["test"])
    inside = {base: {part: features(model, some) for part, some in ours.items()} for base, model in bases.items()}
    for scheme in split.target:
        for share in recipe.shares if scheme == next(iter(split.target)) else (1.0,):
            found |= _targets(split, found, trainer, bases, ours, inside, scheme, share)
    return found


def _targets(
    split: Split,
    found: Mapping[Key, pd.DataFrame],
    trainer: _Trainer,
    bases: Mapping[str, WaveformModel],
    ours: Mapping[str, Rows],
    inside: Mapping[str, Mapping[str, np.ndarray]],
    scheme: str,
    share: float,
) -> dict[Key, pd.DataFrame]:
    """Target models of one labeling and share; a labeling that equals an earlier one is not trained again."""
    labels = split.target[scheme]
    keys = [Key(way, base, scheme, share) for base in bases for way in (FEATURES, TUNED)]
    keys.append(Key(SCRATCH, "", scheme, share))
    for other in split.target:
        if keys[-1]._replace(target=other) in found and dict(labels) == dict(split.target[other]):
            return {key: found[key._replace(target=other)] for key in keys}
    order = np.random.default_rng(trainer.seed).permutation(len(ours["train"]))
    kept = np.sort(order[: max(2, math.ceil(share * len(order)))])
    some = {**ours, "train": Rows(ours["train"].waves, ours["train"].rows[kept])}
    less = {**labels, "train": labels["train"].select(segments=labels["train"].segments[kept])}
    result: dict[Key, pd.DataFrame] = {}
    for key in keys:
        if key.way == FEATURES:
            x, name = inside[key.base], f"features-{key.base}-{scheme}-{share:g}"
            net: nn.Module = trainer.mlp(name, x["train"][kept], less["train"], x["val"], less["val"])
            result[key] = logits_of(net, x["test"], labels["test"])
        else:
            name = f"{key.way.replace(' ', '-')}-{key.base or 'nothing'}-{scheme}-{share:g}"
            net = trainer.train(name, trainer.recipe.target_epochs, some, less, bases.get(key.base))
            result[key] = logits_of(net, ours["test"], labels["test"])
    return result


@dataclass(frozen=True)
class _Trainer:
    recipe: Recipe
    seed: int
    folder: Path

    def train(
        self, name: str, epochs: int, waves: Mapping[str, Rows], labels: Parts, start: WaveformModel | None = None
    ) -> WaveformModel:
        """The network of the best epoch, chosen on validation labels of the same labeling."""
        config = replace(self.recipe.config, epochs=epochs, seed=self.seed)
        run = train(
            config, waves["train"], labels["train"], waves["val"], labels["val"], self.folder / name,
            start=start, progress=False,
        )  # fmt: skip
        return run.checkpoint("cuda" if torch.cuda.is_available() else "cpu").model

    def mlp(self, name: str, x: np.ndarray, labels: Labels, val_x: np.ndarray, val_labels: Labels) -> nn.Module:
        """:func:`fit_mlp`, kept in the folder; what was made of other data or another recipe is made anew."""
        path = self.folder / f"{name}.pt"
        stamp = _stamp(x, labels, val_x, val_labels, self.recipe, self.seed)
        if path.exists() and (kept := torch.load(path, weights_only=True))["stamp"] == stamp:
            known = _mlp(x.shape[1], self.recipe.mlp_hidden, len(labels.classes))
            known.load_state_dict(kept["weights"])
            return known.eval()
        net = fit_mlp(x, labels, val_x, val_labels, self.recipe, self.seed)
        with atomic(path) as draft:
            torch.save({"stamp": stamp, "weights": net.state_dict()}, draft)
        return net


def _stamp(x: np.ndarray, labels: Labels, val_x: np.ndarray, val_labels: Labels, recipe: Recipe, seed: int) -> str:
    """Digest of all that :func:`fit_mlp` is given."""
    digest = hashlib.sha256(json.dumps([asdict(recipe), seed], sort_keys=True).encode())
    for array, known in ((x, labels), (val_x, val_labels)):
        digest.update("\n".join([*known.segments, *known.classes]).encode())
        for part in (array, known.cells.indptr, known.cells.indices, known.cells.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _mlp(inputs: int, hidden: int, classes: int) -> nn.Sequential:
    """P2's classifier of features: dense, ELU, batch norm, dense."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.BatchNorm1d(hidden), nn.Linear(hidden, classes))


def fit_mlp(
    x: np.ndarray, labels: Labels, val_x: np.ndarray, val_labels: Labels, recipe: Recipe, seed: int
) -> nn.Module:
    """:func:`_mlp` of features (n, d), trained; the epoch with the best validation mAP.

    Loss, optimiser and batches as for networks that hear; of equal epochs the later one, as in
    :func:`audiotk.train.train`.
    """
    config = recipe.config
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        net = _mlp(x.shape[1], recipe.mlp_hidden, len(labels.classes))
    optimizer = torch.optim.Adam(net.parameters(), config.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, config.gamma)
    inputs, targets = torch.as_tensor(x), torch.as_tensor(labels.dense())
    best, kept = -np.inf, net.state_dict()
    for epoch in range(recipe.mlp_epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(x))
        for rows in np.array_split(order, -(-len(x) // config.batch_size)):
            loss = losses.masked_mse(net(inputs[rows]), targets[rows], config.denominator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        reached = metrics.mean_average_precision(logits_of(net, val_x, val_labels), val_labels)
        if reached >= best:
            best, kept = reached, copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
    return net.eval()


class _Embedding(nn.Module):
    """A network that ends with its embedding."""

    def __init__(self, model: WaveformModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave: Tensor) -> Tensor:
        return self.model.embed(wave)


def features(model: WaveformModel, waves: Waves) -> np.ndarray:
    """Embeddings (n, d) float32: in RawCNN the next-to-last layer before non-linearity and norm, as in P2."""
    return predict_logits(_Embedding(model).train(model.training), waves)


def logits_of(net: nn.Module, inputs: Waves, labels: Labels) -> pd.DataFrame:
    """Logits as a table in the order of the labels; their order is all that average precision looks at."""
    return pd.DataFrame(predict_logits(net, inputs, 64), index=labels.segments, columns=labels.classes)


def _sound(side: Mapping[str, Parts], waves: Waves, segments: pd.Index) -> dict[str, Rows]:
    """Waves of train, val and test; all labelings are of the same segments."""
    parts = next(iter(side.values()))
    return {name: Rows(waves, segments.get_indexer(parts[name].segments)) for name in SPLITS}


def problem_of(split: Split, unit: pd.Series) -> str:
    """Why a split cannot be trained or tested, in words; "" if it can. `unit`: group of each segment."""
    for side, labelings in (("base", split.base), ("target", split.target)):
        for scheme, parts in labelings.items():
            for name, labels in parts.items():
                if told := _lacking(labels, name, unit):
                    return f"{side} ({len(labels.classes)} classes), {scheme}, {name}: {told}"
    return ""


def _lacking(labels: Labels, name: str, unit: pd.Series) -> str:
    groups = int(unit.reindex(labels.segments).nunique())
    if groups < 2:
        return f"{len(labels.segments)} recordings of {groups} group(s), at least 2 groups are needed"
    counts = labels.counts()
    usable = (counts["present"] > 0) & (counts["absent"] > 0)
    return "" if usable.any() else "no class is present in some recordings and absent in others"
