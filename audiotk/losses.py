"""Losses for labels with unknown cells: targets are 1 (present), 0 (absent) or NaN (unknown).

An unknown cell adds nothing to the loss and gets a gradient of exactly zero, whatever its logit is; a batch in which
everything is unknown has loss 0. Targets between 0 and 1 (vanilla mixup) are allowed. Both losses take logits.

Denominators: `"all"` divides by the number of cells, unknown ones included, which is what "zero weight" means in P1
and P2; so a batch with fewer known cells makes a smaller step. `"valid"` divides by the number of known cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audiotk.errors import AudiotkError

__all__ = ["energy_penalty", "masked_bce", "masked_mse"]


def masked_bce(logits: Tensor, targets: Tensor, denominator: str = "all", weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over the known cells, from logits (P1).

    Parameters
    ----------
    logits : Tensor (B, C), or any shape
    targets : Tensor of the same shape
        Values in [0, 1], or NaN = unknown.
    denominator : {"all", "valid"}
        Divide the sum by the number of all cells (the papers) or of the known cells.
    weight : Tensor, optional
        Factor of each cell, broadcast to the shape of the logits (e.g. (C,) for one a class); the denominator still
        counts cells, as in `torch.nn.BCEWithLogitsLoss`.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits).

    Raises
    ------
    AudiotkError
        Shapes differ, a target is outside [0, 1], or an unknown denominator.
    """
    logits, targets, known = _known_cells(logits, targets, denominator)
    cells = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _average(cells, known, denominator, weight)


def masked_mse(logits: Tensor, targets: Tensor, denominator: str = "all", weight: Tensor | None = None) -> Tensor:
    """Squared error of the probabilities, (sigmoid(logits) - targets)^2, over the known cells (P2).

    **Takes logits**, as `masked_bce` does and as the models return them; arguments and errors are the same.
    """
    logits, targets, known = _known_cells(logits, targets, denominator)
    return _average((logits.sigmoid() - targets).square(), known, denominator, weight)


def _known_cells(logits: Tensor, targets: Tensor, denominator: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets with 0 in the unknown cells, and the mask of the known ones."""
    if logits.shape != targets.shape:
        raise AudiotkError(f"expected targets of the logits' shape {tuple(logits.shape)}, got {tuple(targets.shape)}")
    if denominator not in ("all", "valid"):
        raise AudiotkError(f"expected denominator 'all' or 'valid', got {denominator!r}")
    if bool(((targets < 0) | (targets > 1)).any()):  # NaN compares false, infinity is caught
        raise AudiotkError("expected targets in [0, 1] or NaN for unknown, got values outside")
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    targets = targets.to(logits.dtype)
    known = targets.isfinite()
    zero = logits.new_zeros(())
    # replaced before the loss: NaN * 0 is NaN, in the sum and in the gradient
    return torch.where(known, logits, zero), torch.where(known, targets, zero), known


def _average(cells: Tensor, known: Tensor, denominator: str, weight: Tensor | None) -> Tensor:
    if weight is not None:
        try:
            weight = weight.expand_as(cells)
        except RuntimeError as err:
            raise AudiotkError(
                f"expected a weight that broadcasts to {tuple(cells.shape)}, got {tuple(weight.shape)}"
            ) from err
        cells = cells * weight
    total = torch.where(known, cells, cells.new_zeros(())).sum()
    count = cells.new_tensor(float(cells.numel())) if denominator == "all" else known.sum().to(cells.dtype)
    return total / count.clamp(min=1)


def energy_penalty(frame_logits: Tensor, levels_dbfs: Tensor, below_dbfs: float) -> Tensor:
    """Mean cross-entropy of "nothing is here" over the frames below a level: confident events on near silence cost.

    Parameters
    ----------
    frame_logits : Tensor [shape=(B, T, C)]
    levels_dbfs : Tensor [shape=(B, T)]
        Level of each frame; -inf for digital silence.
    below_dbfs
        Frames under it count.

    Returns
    -------
    Tensor [shape=()]
        0, with a gradient of 0, where no frame is below. -log(1 - sigmoid) grows with the logit without end, so that
        the surest predictions are pushed most.
    """
    quiet = (levels_dbfs < below_dbfs).to(frame_logits.dtype)[..., None]  # (B, T, 1)
    cells = quiet * torch.nn.functional.softplus(frame_logits)
    return cells.sum() / torch.clamp(quiet.sum() * frame_logits.shape[-1], min=1.0)
