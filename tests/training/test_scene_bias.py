"""The bias of a coarse sensor: what a linear function of the scene can know is known, and nothing is made up."""

import pytest
import torch

from thermoscale_train.models.scene_bias import SceneBias, scene_moments


def scenes(n: int, n_factors: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    thumb = 290 + 5 * torch.randn(n, 1, 1, 1) + torch.rand(n, 1, 1, 1) * torch.randn(n, 1 + n_factors, 32, 32)
    return thumb, torch.ones_like(thumb)


def test_moments_are_weighted_by_what_is_valid() -> None:
    thumb, valid = scenes(3)
    valid[:, :, 16:] = 0.0
    expected = scene_moments(thumb[:, :, :16], valid[:, :, :16])
    assert torch.allclose(scene_moments(torch.where(valid > 0, thumb, 0.0), valid), expected, atol=1e-3)
    assert torch.allclose(expected[:, 0], thumb[:, 0, :16].mean(dim=(1, 2)), atol=1e-3)
    assert torch.allclose(expected[:, 1], thumb[:, 0, :16].std(dim=(1, 2), unbiased=False), atol=1e-3)


def test_a_scene_without_any_valid_cell_has_finite_moments() -> None:
    assert torch.isfinite(scene_moments(torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32))).all()


def test_a_linear_bias_is_found_again() -> None:
    moments = scene_moments(*scenes(40))
    bias = 0.5 - 0.1 * (moments[:, 0] - 290.0) + moments[:, 1]
    model = SceneBias(1)
    model.fit(moments, bias)
    assert torch.allclose(model(moments)[:, 0], bias, atol=0.02)


def test_a_bias_that_is_noise_leaves_its_mean() -> None:
    moments = scene_moments(*scenes(200))
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1))
    model = SceneBias(1)
    model.fit(moments, noise)
    assert model.offset.item() == pytest.approx(noise.mean().item(), abs=1e-6)
    assert model(moments).std() < 0.3 * noise.std()


def test_one_scene_gives_its_bias_to_all() -> None:
    moments = scene_moments(*scenes(3, n_factors=0))
    model = SceneBias(0)
    model.fit(moments[:1], torch.tensor([2.0]))
    assert torch.allclose(model(moments), torch.full((3, 1), 2.0))
