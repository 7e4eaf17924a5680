"""AMUN: the untrained network is interpolation, tiles are exact, nothing of a tile is a statistic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thermoscale.errors import InvalidInput
from thermoscale.numerics.tiling import predict_tiled
from thermoscale_train.models.amun import Amun, AmunNetConfig
from thermoscale_train.models.receptive import halo_px, receptive_radius
from thermoscale_train.models.views import VIEWS, View, behind_lst


def make(
    depth: int = 1, *, n_factors: int = 2, seed: int = 0, untrained: bool = False, pool: int = 4, patch_px: int = 1
) -> Amun:
    torch.manual_seed(seed)
    config = AmunNetConfig(
        groups=tuple((i,) for i in range(n_factors)),
        factor_offset=(0.4,) * n_factors,
        factor_scale=(0.2,) * n_factors,
        detail_scale=2.0,
        width=4,
        depth=depth,
        growth=4,
        heads=2,
        pool=pool,
        patch_px=patch_px,
    )
    network = Amun(config)
    if not untrained:
        nn.init.normal_(network.head.weight)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                nn.init.constant_(module.bias, 1.0)  # few units, so none may be dead
    return network.eval()


def scene(shape: tuple[int, int], n_factors: int = 2, seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    coarse = 300 + 10 * torch.randn(1, 1, *shape, generator=generator)
    factors = torch.rand(1, n_factors, *shape, generator=generator)
    valid = (torch.rand(1, 1 + n_factors, *shape, generator=generator) > 0.1).float()
    return coarse, factors, valid


def context_of(network: Amun, seed: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    n = 1 + network.config.n_factors
    thumb = 300 * torch.rand(1, n, 32, 32, generator=generator)
    with torch.no_grad():
        return network.context(thumb, torch.ones_like(thumb))


@pytest.mark.parametrize("patch_px", [1, 2, 4])
def test_the_untrained_network_returns_its_interpolated_coarse_input(patch_px: int) -> None:
    network = make(untrained=True, patch_px=patch_px)
    coarse, factors, valid = scene((16, 16))
    with torch.no_grad():
        lst, _ = network(coarse, factors, valid, *context_of(network))
    assert torch.equal(lst, coarse)


@pytest.mark.parametrize("aspect", [None, (1, 0)])
def test_with_eight_views_the_answer_turns_with_the_scene(aspect: tuple[int, int] | None) -> None:
    plain = make(patch_px=2)
    one = Amun(replace(plain.config, aspect=aspect)).eval()
    one.load_state_dict(plain.state_dict())
    eight = Amun(one.config, views=8).eval()
    eight.load_state_dict(one.state_dict())
    coarse, factors, valid = scene((32, 32))
    thumb = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    share = torch.ones_like(thumb)

    def answer(network: Amun, view: View) -> torch.Tensor:
        with torch.no_grad():
            images = (view.of(coarse), view.of(factors, aspect), view.of_valid(valid, behind_lst(aspect)))
            lst, spread = network(*images, *network.context(view.of(thumb, behind_lst(aspect)), view.of(share)))
        return view.undo(torch.cat([lst, spread]))

    for view in VIEWS[1:]:
        assert torch.allclose(answer(eight, view), answer(eight, VIEWS[0]), atol=2e-4, rtol=0)
        assert not torch.allclose(answer(one, view), answer(one, VIEWS[0]), atol=2e-2, rtol=0)
    mean = torch.stack([answer(one, view)[0] for view in VIEWS]).mean(dim=0)
    assert torch.allclose(mean, answer(eight, VIEWS[0])[0], atol=2e-4, rtol=0)


def test_the_gate_starts_at_one_and_the_bias_at_zero() -> None:
    *_, gate, bias = context_of(make(untrained=True))
    assert torch.equal(gate, torch.ones_like(gate))
    assert torch.equal(bias, torch.zeros_like(bias))


@pytest.mark.parametrize(("depth", "patch_px"), [(1, 1), (2, 1), (3, 1), (1, 4), (2, 2)])
def test_no_pixel_beyond_the_receptive_radius_matters_and_one_at_it_does(depth: int, patch_px: int) -> None:
    network = make(depth, pool=8, patch_px=patch_px)
    radius, multiple = receptive_radius(network.config), network.config.multiple_px
    side = -(-(2 * radius + 2 * multiple) // multiple) * multiple
    coarse, factors, valid = scene((side, side))
    context = context_of(network)
    reach = 0
    for phase in range(multiple):
        at = side // 2 // multiple * multiple + phase
        coarse.requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(coarse, factors, valid, *context)[0][0, 0, at, at], coarse)
        rows = torch.nonzero(gradient[0, 0].abs().sum(1))[:, 0]
        reach = max(reach, int(rows.max()) - at, at - int(rows.min()))
    assert radius - multiple <= reach <= radius


@pytest.mark.parametrize(("depth", "patch_px"), [(2, 1), (1, 4)])
@given(row=st.integers(0, 5), col=st.integers(0, 5), seed=st.integers(0, 3))
@settings(max_examples=4, deadline=None)
def test_tiles_with_a_halo_give_the_whole_scene(depth: int, patch_px: int, row: int, col: int, seed: int) -> None:
    network = make(depth=depth, seed=seed, patch_px=patch_px)
    multiple, halo = network.config.multiple_px, halo_px(network.config)
    context = context_of(network)
    shape, pad = (24, 20), halo + multiple
    coarse, factors, valid = scene(shape, seed=seed)
    image = torch.cat([coarse, factors, valid], dim=1)[0].numpy()

    def tile(parts: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(parts))[None]
        with torch.no_grad():
            return network(x[:, :1], x[:, 1:3], x[:, 3:], *context)[0][0, 0].numpy()

    origin = (row * multiple, col * multiple)
    tiled = predict_tiled(
        tile,
        image,
        tile_px=2 * halo + 4 * multiple,
        overlap_px=multiple,
        halo_px=halo,
        origin=origin,
        multiple_px=multiple,
    )
    bottom, right = (-length % multiple for length in shape)
    padded = np.pad(image, ((0, 0), (pad, pad + bottom), (pad, pad + right)), mode="edge")
    whole = tile(padded)[pad : pad + shape[0], pad : pad + shape[1]]
    assert np.abs(tiled - whole).max() < 1e-3


def test_what_is_not_valid_does_not_matter() -> None:
    network = make()
    coarse, factors, valid = scene((16, 16))
    changed = torch.where(valid[:, 1:] > 0, factors, 99.0)
    context = context_of(network)
    with torch.no_grad():
        for a, b in zip(
            network(coarse, factors, valid, *context), network(coarse, changed, valid, *context), strict=True
        ):
            assert torch.equal(a, b)
        thumb, share = 300 * torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        share[:, :, :16] = 0.5
        emptied = torch.where(share > 0, thumb, 0.0)
        for a, b in zip(network.context(thumb, share), network.context(emptied, share), strict=True):
            assert torch.equal(a, b)


def test_a_scene_of_any_number_of_factors_has_a_network() -> None:
    network = make(n_factors=0)
    coarse, _, valid = scene((16, 16), n_factors=0)
    with torch.no_grad():
        lst, _ = network(coarse, None, valid, *context_of(network))
    assert lst.shape == coarse.shape
    assert not torch.equal(lst, coarse)


def test_each_tile_of_a_batch_may_have_its_own_context() -> None:
    network = make()
    coarse, factors, valid = scene((16, 16))
    first, second = context_of(network, 3), context_of(network, 4)
    together = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    with torch.no_grad():
        batch, _ = network(coarse.repeat(2, 1, 1, 1), factors.repeat(2, 1, 1, 1), valid.repeat(2, 1, 1, 1), *together)
        alone, _ = network(coarse, factors, valid, *second)
    assert torch.allclose(batch[1:], alone, atol=1e-3)


def test_impossible_sizes_are_refused() -> None:
    unit = {"factor_offset": (0.0,), "factor_scale": (1.0,)}
    good = {"detail_scale": 1.0, **unit}
    with pytest.raises(InvalidInput, match="heads"):
        AmunNetConfig(groups=((0,),), width=6, heads=4, **good)
    with pytest.raises(InvalidInput, match="exactly once"):
        AmunNetConfig(groups=((0,), (0,)), **good)
    with pytest.raises(InvalidInput, match="pool 8 is not a multiple of patch_px 3"):
        AmunNetConfig(groups=((0,),), patch_px=3, **good)
