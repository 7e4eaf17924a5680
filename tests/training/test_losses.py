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
