"""Views of a scene: what turns with the ground, and what stays with its channel."""

import numpy as np
import pytest
import torch

from thermoscale.errors import InvalidInput
from thermoscale_train.data.factor_groups import aspect_channels
from thermoscale_train.models.views import VIEWS, View

ASPECT = (1, 2)


def terrain(elevation: torch.Tensor) -> torch.Tensor:
    """Elevation ``[H, W]``, rows from north to south -> elevation, sine and cosine of the aspect, inside its border."""
    south, east = (torch.from_numpy(part) for part in np.gradient(elevation.numpy()))
    steepness = torch.sqrt(south**2 + east**2)
    return torch.stack([elevation, -east / steepness, south / steepness])  # downhill, against the gradient


@pytest.fixture
def elevation() -> torch.Tensor:
    return torch.rand(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("view", VIEWS)
def test_the_aspect_of_a_turned_landscape_is_the_turned_aspect(view: View, elevation: torch.Tensor) -> None:
    torch.testing.assert_close(view.of(terrain(elevation), ASPECT), terrain(view.of(elevation)))


@pytest.mark.parametrize("view", VIEWS)
def test_validity_stays_with_the_values_of_its_channel(view: View, elevation: torch.Tensor) -> None:
    image = terrain(elevation)
    image[1, 3, 4] = torch.nan
    image[2, 7, 9] = torch.nan
    seen = view.of(image, ASPECT)
    assert torch.equal(view.of_valid(torch.isfinite(image).double(), ASPECT), torch.isfinite(seen).double())


@pytest.mark.parametrize("view", VIEWS)
def test_undo_gives_the_image_back(view: View, elevation: torch.Tensor) -> None:
    assert torch.equal(view.undo(view.of(elevation)), elevation)


def test_no_two_views_are_the_same(elevation: torch.Tensor) -> None:
    seen = [view.of(elevation) for view in VIEWS]
    assert all(torch.equal(a, b) == (a is b) for a in seen for b in seen)


def test_the_aspect_is_two_factors_or_none() -> None:
    assert aspect_channels(("ndvi", "aspect_cos", "slope", "aspect_sin")) == (3, 1)
    assert aspect_channels(("ndvi", "slope")) is None
    for names in (("aspect",), ("aspect_sin", "ndvi"), ("aspect_sin", "aspect_cos", "aspect")):
        with pytest.raises(InvalidInput, match="aspect_sin and aspect_cos"):
            aspect_channels(names)
