"""Losses against their slow obvious twins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.numerics.closure import closure_residual
from thermoscale.numerics.grids import regular_index
from thermoscale_train import losses


@given(seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_closure_is_the_mean_absolute_residual_of_the_cells_wholly_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fine, coarse = rng.normal(300, 5, (12, 8)).astype(np.float32), rng.normal(300, 5, (3, 2)).astype(np.float32)
    coarse[rng.integers(3), rng.integers(2)] = np.nan
    index = regular_index((3, 2), (12, 8))
    wanted = np.nanmean(np.abs(closure_residual(fine, coarse, index)))
    cells = torch.from_numpy(index.astype(np.int64))[None]
    got = losses.closure(torch.from_numpy(fine)[None], cells, torch.from_numpy(coarse).reshape(1, -1), 16)
    assert got.item() == pytest.approx(wanted, rel=1e-4)


def test_a_cell_that_is_cut_has_no_closure() -> None:
    index = torch.from_numpy(regular_index((1, 2), (4, 8)).astype(np.int64))[None]
    prediction, coarse = torch.zeros(1, 4, 8), torch.tensor([[3.0, 100.0]])
    assert losses.closure(prediction[:, :, :7], index[:, :, :7], coarse, 16).item() == 3.0


def test_huber_sees_valid_pixels_only_and_bends() -> None:
    prediction = torch.tensor([0.0, 0.0, 0.0], requires_grad=True)
    truth = torch.tensor([0.5, 3.0, float("nan")])
    loss = losses.huber(prediction, truth, torch.isfinite(truth), 1.0)
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2)
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == pytest.approx([-0.25, -0.5, 0.0])
    assert losses.huber(prediction[2:], truth[2:], torch.tensor([False]), 1.0).item() == 0.0


@given(seed=st.integers(0, 100), bend=st.sampled_from([0.0, 0.7]))
@settings(max_examples=25, deadline=None)
def test_the_loss_of_ratios_is_its_slow_twin(seed: int, bend: float) -> None:
    rng = np.random.default_rng(seed)
    answer, truth, slope = rng.normal(size=(3, 4, 6))
    truth[rng.random(truth.shape) < 0.4] = np.nan
    weight = rng.integers(1, 9, truth.shape).astype(float)
    total = count = 0.0
    for a, t, w, s in zip(answer.ravel(), truth.ravel(), weight.ravel(), slope.ravel(), strict=True):
        if np.isfinite(t):
            error = abs((a - t) * s)
            total += w * (error**2 if not bend else error**2 / 2 if error < bend else bend * (error - bend / 2))
            count += w
    got = losses.ratio_loss(*(torch.from_numpy(x) for x in (answer, truth, weight, slope)), bend)
    assert got.item() == pytest.approx(total / count if count else 0.0)


def test_absent_hcrs_get_neither_loss_nor_gradient() -> None:
    answer = torch.tensor([[2.0, float("nan")], [3.0, 3.0]], requires_grad=True)
    truth = torch.tensor([[1.0, float("nan")], [3.0, 5.0]])
    one = torch.ones_like(truth)
    loss = losses.ratio_loss(answer, truth, one, one, 0.0)
    assert loss.item() == pytest.approx((1 + 0 + 4) / 3)
    loss.backward()
    assert answer.grad is not None
    assert answer.grad[0, 1] == 0.0
    assert losses.ratio_loss(answer[:1, 1:], truth[:1, 1:], one[:1, 1:], one[:1, 1:], 0.0).item() == 0.0
