"""Muon: steps are orthogonal matrices of a known size, and minimise."""

import pytest
import torch
from torch import nn

from thermoscale_train.muon import STEP_RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 5)])
def test_orthogonal_keeps_the_singular_vectors_and_levels_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    assert values.min() > 0.02 * values.max()
    levelled = left.T @ orthogonal(matrix) @ right.T
    diagonal = levelled.diag()
    assert torch.allclose(levelled, diagonal.diag(), atol=1e-3)
    assert 0.6 < diagonal.min() <= diagonal.max() < 1.25


def test_nothing_is_made_of_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_a_step_has_the_size_that_adams_have() -> None:
    kernel = nn.Parameter(torch.zeros(16, 8, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    Muon([kernel], 1e-2, weight_decay=0.0).step()
    rms = float(kernel.detach().square().mean().sqrt())
    assert rms == pytest.approx(1e-2 * STEP_RMS, rel=0.2)


def test_weights_decay_by_the_learning_rate_times_the_decay() -> None:
    weight = nn.Parameter(torch.eye(3))
    weight.grad = torch.zeros(3, 3)
    Muon([weight], 0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, 0.95 * torch.eye(3))


def test_it_minimises() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs, truth = torch.randn(256, 12, generator=draw), torch.randn(6, 12, generator=draw)
    weight = nn.Parameter(torch.zeros(6, 12))
    optimiser = Muon([weight], 1.0, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 60)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (inputs @ (weight - truth).T).square().mean()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-2 * losses[0]
