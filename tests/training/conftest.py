"""Tiny data sets and settings, so that a whole fit takes a second."""

from dataclasses import replace

import pytest

from thermoscale.formats import Pairs, Series
from thermoscale.testing.worlds import make_pairs, make_series
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint
from thermoscale_train.config import (
    AmunSamples,
    AmunSettings,
    AmunStructure,
    AmunTiles,
    IustfmSettings,
    TrainingSettings,
    load_amun_settings,
    load_iustfm_settings,
)
from thermoscale_train.fit import fit_amun, fit_iustfm


def few_steps(settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, steps=6, batch=4, evaluate_every=3)


@pytest.fixture(scope="session")
def amun_settings() -> AmunSettings:
    shipped = load_amun_settings()
    return AmunSettings(
        network=AmunStructure(width=4, depth=1, growth=4, heads=2, token_patches=2, max_patch_px=2),
        tiles=AmunTiles(tile_px=96, overlap_px=4),
        samples=AmunSamples(crop_px=32, margin_px=4),
        loss=replace(shipped.loss, closure_weight=0.1),
        training=few_steps(shipped.training),
        refit=replace(shipped.refit, steps=2),
    )


@pytest.fixture(scope="session")
def iustfm_settings() -> IustfmSettings:
    shipped = load_iustfm_settings()
    dynet, ratio_net = shipped.dynet, shipped.ratio_net
    return IustfmSettings(
        dynet=replace(
            dynet,
            region=replace(dynet.region, n_hcr=6),
            network=replace(dynet.network, m_max=60, h_max=8, hidden=8, layers=2),
            samples=replace(dynet.samples, pool=40),
            training=few_steps(dynet.training),
        ),
        ratio_net=replace(
            ratio_net,
            samples=replace(ratio_net.samples, pool=500, triples=5),
            training=few_steps(ratio_net.training),
            selection=replace(ratio_net.selection, held_out_dates=2),
        ),
    )


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    return make_pairs(0, n_grounds=3, scenes_per_ground=2, coarse_shape=(10, 10), factor_gap_share=0.1)


@pytest.fixture(scope="session")
def series() -> Series:
    return make_series(0, fine_shape=(40, 40), scale_factor=8, n_dates=24, days_between=14).series


@pytest.fixture(scope="session")
def amun_checkpoint(pairs: Pairs, amun_settings: AmunSettings) -> AmunCheckpoint:
    return fit_amun(pairs.subset(range(4)), pairs.subset((4, 5)), amun_settings, seed=0)


@pytest.fixture(scope="session")
def iustfm_checkpoint(series: Series, iustfm_settings: IustfmSettings) -> IustfmCheckpoint:
    return fit_iustfm(series, iustfm_settings, seed=0)
