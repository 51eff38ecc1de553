"""Train a model on waveforms and tri-state labels: one loop, the best epoch by validation mAP, exact resume.

The same loop runs on a CPU, a GPU, or many (Lightning Fabric): one run gets four GPUs by a script that calls
:func:`train`, started as ``torchrun --nproc-per-node=4 script.py``. A run is a folder:
``config.json``, ``history.jsonl`` (one line an epoch), ``best.pt`` (a checkpoint that explains itself) and ``last.pt``
(what resuming needs). Calling :func:`train` again with the same arguments continues a killed run, or returns a
finished one without training, also on a machine of another precision.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from audiotk import metrics, models
from audiotk.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from audiotk.models.predict import Waves, predict_logits, score
from audiotk.tables import AudiotkError, Labels
from audiotk.train.batches import batches, make_sequences, order_of, steps
from audiotk.train.checks import check_data, check_fabric, checked_weights, fingerprint
from audiotk.train.config import TrainConfig as TrainConfig
from audiotk.train.state import TrainState, begun_in

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BF16_SINCE = (8, 0)  # compute capability; all of AMD's can


@dataclass(frozen=True)
class Run:
    """A finished training run in its folder."""

    folder: Path
    config: TrainConfig
    history: pd.DataFrame  # epoch, loss, val_map, lr
    best_epoch: int

    def checkpoint(self, device: str = "cpu") -> Checkpoint:
        """The model of the best epoch."""
        return load_checkpoint(self.folder / "best.pt", device)

    def score(self, waves: Waves, segments: Any) -> pd.DataFrame:
        """Scores of the best epoch's model, see :func:`audiotk.models.predict.score`."""
        return score(self.checkpoint("cuda" if torch.cuda.is_available() else "cpu"), waves, segments)


def train(
    config: TrainConfig,
    waves: Waves,
    labels: Labels,
    val_waves: Waves,
    val_labels: Labels,
    out: str | Path,
    *,
    weights: np.ndarray | None = None,
    backgrounds: np.ndarray | None = None,
    start: models.WaveformModel | Checkpoint | None = None,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> Run:
    """Train `config.model` and keep the epoch with the best validation mAP (the later one if equal).

    Parameters
    ----------
    config
        Every choice of the run. What is stored of it holds the precision that the run really has, not "auto"; with
        "auto" a finished run is returned whatever precision it was made in, and its config says which.
    waves, val_waves
        Waveforms (n, samples), float32, full scale 1, at ``config.sr``; row i belongs to row i of the labels.
    labels, val_labels
        Tri-state labels; unknown cells take no part in the loss or in the metric.
    out
        Run folder. A killed run in it is continued from its last whole epoch and ends with the same weights as an
        uninterrupted one; a finished run is returned as it is.
    weights
        How often each row is drawn (n,), relative to the others; None: each once an epoch.
    backgrounds
        Sound without any event (m, samples) for ``config.background_share``.
    start
        A trained network of the same shape whose weights, all but the output layer's, training begins with (P2's
        fine-tuning). A checkpoint gives its output layer, too, and has to be of the same classes (a deployed model
        that is trained again). Default: fresh weights.
    fabric
        Lightning Fabric of your own, whose precision then counts; default: :func:`make_fabric`. In mixed precision it
        has to keep waves in float32, as those of :func:`make_fabric` do and Lightning's own do not.
    progress
        Show a progress bar on standard error.

    Returns
    -------
    Run

    Raises
    ------
    AudiotkError
        Rows or classes of waves and labels do not match, nothing can be validated, the loss is not finite, or `out`
        holds a run of other settings, of other data, or begun in another precision; `fabric` rounds waves.
    """
    check_data(waves, labels, val_waves, val_labels)
    any_precision = config.precision == "auto" and fabric is None
    fabric = fabric or make_fabric(config.precision)
    check_fabric(fabric)
    fabric.launch()
    out, here = Path(out), fabric.strategy.precision.precision
    config = replace(config, precision=begun_in(out) or here)
    weights = checked_weights(config, waves, weights, backgrounds)
    known = start if isinstance(start, Checkpoint) else None
    if known is not None and list(known.classes) != list(labels.classes):
        raise AudiotkError(
            f"train: the checkpoint to start from knows {', '.join(known.classes)}, the labels "
            f"{', '.join(labels.classes)}; give its model (start=checkpoint.model) for a new output layer"
        )
    begin = start.model if isinstance(start, Checkpoint) else start
    stamp = fingerprint(config, waves, labels, val_labels, weights, backgrounds, begin, known is not None)
    model = models.build(
        config.model, len(labels.classes), sr=config.sr, clip_s=config.clip_s,
        rng=np.random.default_rng(config.seed), **config.model_options,
    )  # fmt: skip
    if begin is not None:
        model.start_from(begin, head=known is not None)
    state = TrainState(model, config, steps=steps(config, len(waves)), classes=labels.classes)
    wrapped, optimizer = fabric.setup(model, state.optimizer)
    sequences = make_sequences(config, waves, labels)
    history = state.resume(out, stamp, fabric.device)
    if config.precision != here and not (any_precision and _is_done(history, config)):
        raise AudiotkError(
            f"{out}: this run was begun in {config.precision}, here it is {here}; end it on such a machine as it was "
            f'begun on, set precision="{config.precision}", choose another folder, or delete it'
        )
    targets = labels.dense()  # (n, C)
    bar = tqdm(
        initial=len(history), total=config.epochs, desc=f"train {out.name}", disable=not progress, file=sys.stderr
    )
    for epoch in range(len(history), config.epochs):
        if _is_done(history, config):
            break
        total, count = 0.0, 0
        order = order_of(config, len(waves), weights, epoch)
        told = (config, waves, targets, order, epoch, fabric, sequences, backgrounds, state.events)
        for wave, target, change in batches(*told):
            loss = state.loss(wrapped, wave, target, change)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            state.after_step()
            total, count = total + float(loss.detach()) * len(wave), count + len(wave)
        if not np.isfinite(total):
            raise AudiotkError(f"{out}: the loss is {total} in epoch {epoch}; lower the learning rate ({config.lr})")
        logits = _gather_logits(state.kept, val_waves, config.batch_size, fabric)
        val_map = metrics.mean_average_precision(_frame(logits, val_labels), val_labels)
        history.append({"epoch": epoch, "loss": total / count, "val_map": val_map, "lr": state.lr})
        state.after_epoch(val_map)
        if fabric.is_global_zero:
            if _waited(history) == 0:
                about = {"epoch": epoch, "val_map": val_map}
                save_checkpoint(out / "best.pt", state.kept, list(labels.classes), config, about)
            state.save(out, stamp, history)
        bar.update()
        bar.set_postfix(loss=f"{total / count:.4f}", val_mAP=f"{val_map:.3f}")
    bar.close()
    fabric.barrier()
    table = pd.DataFrame(history)
    return Run(out, config, table, best_epoch=len(history) - 1 - _waited(history))


def make_fabric(precision: str = "auto") -> Fabric:
    """Fabric for where we are: the processes that ``torchrun`` started, else one, on torch's current GPU if any.

    Models get their waves in float32 in mixed precision, too (Fabric itself would round these to 8 bits).
    """
    from lightning_fabric import Fabric  # here, since it takes seconds to import
    from lightning_fabric.plugins import MixedPrecision

    class Mixed(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    local, world = int(os.environ.get("LOCAL_WORLD_SIZE", 0)), int(os.environ.get("WORLD_SIZE", 0))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    nodes = world // local if local else 1
    precision = automatic_precision() if precision == "auto" else precision
    mixed = precision.endswith("-mixed")
    how: Any = {"plugins": Mixed(precision, accelerator)} if mixed else {"precision": precision}  # type: ignore[arg-type]
    devices: Any = local or 1
    if accelerator == "cuda" and not local:
        devices = [torch.cuda.current_device()]
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, **how)


def automatic_precision() -> str:
    """What "auto" means here: bf16-mixed where every GPU in sight computes in bf16, else 32-true."""
    if not torch.cuda.is_available():
        return "32-true"
    old = [k for k in range(torch.cuda.device_count()) if torch.cuda.get_device_capability(k) < BF16_SINCE]
    return "32-true" if old and not torch.version.hip else "bf16-mixed"


def _is_done(history: list[dict[str, Any]], config: TrainConfig) -> bool:
    return len(history) >= config.epochs or _waited(history) >= (config.stop_after or np.inf)


def _waited(history: list[dict[str, Any]]) -> int:
    """Epochs since the best validation mAP, the later of equal ones being the best."""
    values = [row["val_map"] for row in history]
    return values[::-1].index(max(values)) if values else 0


def _gather_logits(model: nn.Module, waves: Waves, batch_size: int, fabric: Fabric) -> np.ndarray:
    """Logits (n, C) of all rows on every process, each computing its share with the first one's batch statistics."""
    if fabric.world_size == 1:
        return predict_logits(model, waves, batch_size)
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)
    share = -(-len(waves) // fabric.world_size)
    rows = np.arange(share) * fabric.world_size + fabric.global_rank
    local = predict_logits(model, waves, batch_size, np.minimum(rows, len(waves) - 1))  # (share, C)
    gathered = cast(Tensor, fabric.all_gather(torch.as_tensor(local, device=fabric.device)))  # (world, share, C)
    return gathered.transpose(0, 1).reshape(-1, local.shape[1])[: len(waves)].cpu().numpy()


def _frame(logits: np.ndarray, labels: Labels) -> pd.DataFrame:
    return pd.DataFrame(logits.astype(np.float64), index=labels.segments, columns=labels.classes)
