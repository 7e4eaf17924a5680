"""DyNet before and during its training: pooled start, slopes of the loss, and every option through a tiny fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from thermoscale.arrays import Network
from thermoscale.errors import InvalidInput
from thermoscale.formats import Series
from thermoscale.numerics.bias import BiasRule
from thermoscale.numerics.change_ratio import Guards, closed_form
from thermoscale.numerics.hcr import mean_per_hcr
from thermoscale.pipelines.iustfm import Region
from thermoscale.pipelines.iustfm_ratios import clip_hcr, dynet_ratios, pooled_ratios
from thermoscale.pipelines.library import stored_library
from thermoscale_train.config import DyNetLoss, DyNetSettings, IustfmSettings
from thermoscale_train.data.dynet_samples import DyNetPool, draw_dynet_pool
from thermoscale_train.data.region import make_region
from thermoscale_train.dynet_start import dynet_loss, lst_slope, pooling_weights, start_dynet, typical_distance
from thermoscale_train.fit_iustfm import fit_iustfm
from thermoscale_train.networks import dynet_network

PAPER = DyNetLoss(error="ratio", bend=0.0, weight="hcr")


@pytest.fixture(scope="module")
def dynet_settings(iustfm_settings: IustfmSettings) -> DyNetSettings:
    return iustfm_settings.dynet


@pytest.fixture(scope="module")
def region(series: Series, dynet_settings: DyNetSettings) -> Region:
    return make_region(series, dynet_settings.region, dynet_settings.network.m_max, 0)


@pytest.fixture(scope="module")
def pool(series: Series, region: Region, dynet_settings: DyNetSettings) -> DyNetPool:
    library, rng = stored_library(region, 0.01), np.random.default_rng(0)
    samples, network = replace(dynet_settings.samples, pool=12), dynet_settings.network
    return draw_dynet_pool(library, region, Guards(), 24, samples, network, BiasRule(), rng)


def test_pixels_and_distances_of_a_whole_scene_are_those_of_its_hcrs(
    series: Series, region: Region, dynet_settings: DyNetSettings
) -> None:
    library, n = stored_library(region, 0.01), dynet_settings.network.h_max
    samples, rng = replace(dynet_settings.samples, pool=8), np.random.default_rng(0)
    pool = draw_dynet_pool(library, region, Guards(), 999, samples, dynet_settings.network, BiasRule(), rng)
    counts = np.bincount(region.labels[region.labels >= 0], minlength=n)
    times = library.times
    pairs = [(a, b) for a in times for b in times if a < b]
    possible = [mean_per_hcr(library.fine_at(b) - library.fine_at(a), region.labels, n) for a, b in pairs]
    for pixels, distance in zip(pool.pixels.numpy(), pool.distance.numpy(), strict=True):
        assert np.array_equal(pixels, counts)
        assert any(np.allclose(distance, known, equal_nan=True) for known in possible)


def test_the_start_answers_what_plain_pooling_answers(
    iustfm_checkpoint: object, series: Series, region: Region, pool: DyNetPool, dynet_settings: DyNetSettings
) -> None:
    """In alpha, over one clip that holds everything, the untrained network is pooled_ratios."""
    in_alpha = replace(dynet_settings.network, space="alpha", pooled=True)
    network: Network = dynet_network(start_dynet(pool, region, in_alpha))
    config = iustfm_checkpoint.config  # type: ignore[attr-defined]
    alpha = np.random.default_rng(0).normal(0, 2, (5, 25)).astype(np.float32)
    alpha[2, 3:9] = np.nan
    whole = replace(region, clips=np.array([[0, 0, *region.fine_shape]], np.int32))
    cells, present = np.ones((1, 25), bool), clip_hcr(whole, config.h_max)
    got = dynet_ratios(config, whole, network, alpha, cells=cells, hcr_present=present)
    assert np.allclose(got, pooled_ratios(config, whole, alpha), atol=1e-4)


def test_every_slot_has_the_shares_of_its_cell(region: Region) -> None:
    weights = pooling_weights(region, 60, 8)
    assert torch.allclose(weights[:25].sum(1), torch.ones(25))
    assert (weights[25:] == 0).all()


@pytest.mark.parametrize("space", ["alpha", "beta"])
def test_the_slope_turns_an_error_of_the_ratio_into_one_of_the_temperature(space: str) -> None:
    pre, post, step = np.float32(280.0), np.float32(292.0), 1e-3
    for alpha in (-3.0, -0.5, 0.0, 2.0):
        changed = alpha + step if space == "alpha" else 1 / (1 / (1 + alpha) + step) - 1
        lst = [float(closed_form(np.float64(pre), np.float64(post), np.float64(a))) for a in (alpha, changed)]
        slope = lst_slope(torch.tensor(alpha), torch.tensor(float(post - pre)), space)
        assert slope.item() * step == pytest.approx(abs(lst[1] - lst[0]), rel=0.05, abs=1e-4)


def test_the_papers_loss_is_the_mean_squared_error_of_alpha(
    pool: DyNetPool, region: Region, dynet_settings: DyNetSettings
) -> None:
    dynet = start_dynet(pool, region, replace(dynet_settings.network, space="alpha", pooled=False))
    got = dynet(pool.alpha, pool.valid, torch.isfinite(pool.truth))
    wanted = (got - pool.truth)[torch.isfinite(pool.truth)].square().mean()
    assert dynet_loss(dynet, pool, PAPER, typical_distance(pool)).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_weighting_by_pixels_lets_large_hcrs_count_more(
    pool: DyNetPool, region: Region, dynet_settings: DyNetSettings
) -> None:
    dynet = start_dynet(pool, region, dynet_settings.network)
    alike = replace(pool, pixels=torch.full_like(pool.pixels, 7.0))
    by_pixels, by_hcr = DyNetLoss("lst", 0.3, "pixels"), DyNetLoss("lst", 0.3, "hcr")
    same, different = (dynet_loss(dynet, p, by_pixels, 1.0).item() for p in (alike, pool))
    assert same == pytest.approx(dynet_loss(dynet, pool, by_hcr, 1.0).item(), rel=1e-5)
    assert different != pytest.approx(same, rel=1e-3)


@pytest.mark.parametrize("definition", ["ratio_of_sums", "mean_of_ratios"])
@pytest.mark.parametrize(("space", "pooled"), [("alpha", False), ("beta", True)])
def test_both_definitions_go_through_a_fit_as_published_and_as_ours(
    series: Series, iustfm_settings: IustfmSettings, definition: str, space: str, pooled: bool
) -> None:
    dynet = iustfm_settings.dynet
    dynet = replace(
        dynet,
        network=replace(dynet.network, space=space, pooled=pooled),
        samples=replace(dynet.samples, definition=definition),
        loss=PAPER if space == "alpha" else DyNetLoss("lst", 0.3, "pixels"),
    )
    checkpoint = fit_iustfm(series, replace(iustfm_settings, dynet=dynet), seed=0)
    assert checkpoint.dynet is not None
    assert (checkpoint.dynet[0].space, checkpoint.dynet[0].pooled) == (space, pooled)
    assert checkpoint.training["settings"]["dynet"]["samples"]["definition"] == definition
    assert all(torch.isfinite(values).all() for values in checkpoint.dynet[1].values())


@pytest.mark.parametrize("wrong", [("k", 0.0, "hcr"), ("lst", -1.0, "hcr"), ("lst", 0.0, "area")])
def test_another_loss_is_refused(wrong: tuple[str, float, str]) -> None:
    with pytest.raises(InvalidInput, match="'ratio' or 'lst'"):
        DyNetLoss(*wrong)
