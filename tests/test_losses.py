"""Masked losses against a textbook loop and against torch, with exact gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audiotk.errors import AudiotkError
from audiotk.losses import energy_penalty, masked_bce, masked_mse

Loss = Callable[..., torch.Tensor]
LOSSES = [masked_bce, masked_mse]


def slow(loss: Loss, logits: torch.Tensor, targets: torch.Tensor, denominator: str) -> float:
    """Textbook twin: one cell at a time."""
    total, valid = 0.0, 0
    for z, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        if math.isnan(y):
            continue
        p = 1 / (1 + math.exp(-z))
        total += (p - y) ** 2 if loss is masked_mse else -(y * math.log(p) + (1 - y) * math.log(1 - p))
        valid += 1
    return total / max(1, logits.numel() if denominator == "all" else valid)


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)


@st.composite
def cells(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    shape = draw(shapes)
    logits = draw(hnp.arrays(np.float64, shape, elements=st.floats(-8, 8)))
    targets = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0, math.nan, 0.3])))
    return torch.from_numpy(logits), torch.from_numpy(targets)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("denominator", ["all", "valid"])
@settings(max_examples=60, deadline=None)
@given(case=cells())
def test_equals_the_textbook_loop(loss: Loss, denominator: str, case: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = case
    assert float(loss(logits, targets, denominator)) == pytest.approx(
        slow(loss, *case, denominator), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("denominator", ["all", "valid"])
@settings(max_examples=60, deadline=None)
@given(case=cells())
def test_gradient_is_exactly_zero_where_unknown(
    loss: Loss, denominator: str, case: tuple[torch.Tensor, torch.Tensor]
) -> None:
    logits, targets = case
    logits.requires_grad_()
    loss(logits, targets, denominator).backward()
    known = ~targets.isnan()
    p = logits.detach().sigmoid()
    slope = (p - targets) if loss is masked_bce else 2 * (p - targets) * p * (1 - p)
    count = targets.numel() if denominator == "all" else max(1, int(known.sum()))
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all()
    torch.testing.assert_close(logits.grad[known], slope[known] / count)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_broken_logit_in_an_unknown_cell_does_no_harm(loss: Loss, bad: float) -> None:
    logits = torch.tensor([[0.5, bad]], requires_grad=True)
    value = loss(logits, torch.tensor([[1.0, math.nan]]), weight=torch.tensor([1.0, math.nan]))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad[0, 0] != 0
    assert logits.grad[0, 1] == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_broken_logit_in_a_known_cell_is_not_hidden(loss: Loss) -> None:
    assert loss(torch.tensor([[math.nan, 0.0]]), torch.tensor([[1.0, math.nan]])).isnan()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("denominator", ["all", "valid"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4)])
def test_all_unknown_or_empty_is_zero(loss: Loss, denominator: str, shape: tuple[int, int]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = loss(logits, torch.full(shape, math.nan), denominator)
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_equals_torch_when_everything_is_known() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(6, 5, generator=generator)
    targets = torch.rand(6, 5, generator=generator).round()
    weight = torch.rand(5, generator=generator)
    for denominator in ("all", "valid"):
        torch.testing.assert_close(
            masked_bce(logits, targets, denominator), torch.nn.BCEWithLogitsLoss()(logits, targets)
        )
        torch.testing.assert_close(
            masked_bce(logits, targets, denominator, weight), torch.nn.BCEWithLogitsLoss(weight)(logits, targets)
        )
        torch.testing.assert_close(
            masked_mse(logits, targets, denominator), torch.nn.MSELoss()(logits.sigmoid(), targets)
        )


def test_the_two_denominators_on_a_worked_case() -> None:
    # log 2 for a logit of 0, whatever the label: 2 known cells of 4
    logits = torch.zeros(2, 2)
    targets = torch.tensor([[1.0, math.nan], [math.nan, 0.0]])
    assert float(masked_bce(logits, targets)) == pytest.approx(math.log(2) / 2)
    assert float(masked_bce(logits, targets, "valid")) == pytest.approx(math.log(2))
    assert float(masked_mse(logits, targets)) == pytest.approx(0.125)
    assert float(masked_mse(logits, targets, "valid")) == pytest.approx(0.25)


def test_masking_a_row_is_leaving_it_out() -> None:
    logits, targets = torch.tensor([[1.0, -2.0], [3.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    masked = targets.clone()
    masked[1] = math.nan
    for loss in LOSSES:
        torch.testing.assert_close(loss(logits, masked, "valid"), loss(logits[:1], targets[:1]))
        torch.testing.assert_close(loss(logits, masked, "all"), loss(logits[:1], targets[:1]) / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_logits_stay_finite(loss: Loss) -> None:
    logits = torch.tensor([[1e4, -1e4, 1e4]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.0, 1.0, 1.0]]))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.full((300, 300), 3.0, dtype=dtype)
    value = masked_bce(logits, torch.zeros(300, 300))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(math.log1p(math.exp(3)), rel=1e-5)


def test_integer_targets_are_labels_too() -> None:
    logits = torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(
        masked_bce(logits, torch.tensor([[1, 0]])), masked_bce(logits, torch.tensor([[1.0, 0.0]]))
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_wrong_input_is_refused(loss: Loss) -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(AudiotkError, match=r"shape \(2, 3\), got \(3,\)"):
        loss(logits, torch.zeros(3))
    for bad in (2.0, -0.1, math.inf, -math.inf):
        with pytest.raises(AudiotkError, match=r"in \[0, 1\]"):
            loss(logits, torch.full((2, 3), bad))
    with pytest.raises(AudiotkError, match="'all' or 'valid', got 'mean'"):
        loss(logits, torch.zeros(2, 3), "mean")
    with pytest.raises(AudiotkError, match="broadcasts"):
        loss(logits, torch.zeros(2, 3), weight=torch.ones(2))


def test_energy_penalty_counts_quiet_frames_only():
    logits = torch.tensor([[[2.0, -1.0], [5.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    levels = torch.tensor([[-70.0, -20.0], [-float("inf"), -50.0]])
    loss = energy_penalty(logits, levels, -60.0)
    quiet = logits.detach()[[0, 1], [0, 0]]
    twin = -torch.log(1 - torch.sigmoid(quiet)).mean()
    torch.testing.assert_close(loss.detach(), twin)
    loss.backward()
    assert (logits.grad[0, 1] == 0).all()
    assert (logits.grad[1, 1] == 0).all()
    assert (logits.grad[0, 0] > 0).all()


def test_energy_penalty_without_a_quiet_frame_is_zero():
    logits = torch.ones(2, 3, 4, requires_grad=True)
    loss = energy_penalty(logits, torch.zeros(2, 3), -60.0)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
