"""Fitting AMUN: deterministic, gaps take no part, impossible data are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.pipelines.amun import Amun
from thermoscale_train.checkpoint import AmunCheckpoint, load_checkpoint, save_checkpoint
from thermoscale_train.config import AmunSettings, AmunTiles
from thermoscale_train.data.amun_samples import draw_batch, prepare_scenes
from thermoscale_train.data.factor_groups import factor_groups
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.fit_amun import fit_amun, mean_log_spread, mean_rmse
from thermoscale_train.models.receptive import receptive_radius
from thermoscale_train.networks import amun_context_network, amun_tile_network


def test_the_same_seed_gives_the_same_weights(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    again = fit_amun(pairs.subset(range(4)), pairs.subset((4, 5)), amun_settings, seed=0)
    assert all(torch.equal(again.state[name], amun_checkpoint.state[name]) for name in again.state)


def test_what_a_whole_scene_is_off_does_not_choose_the_weights_but_is_learnt(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    valid = pairs.subset((4, 5))
    assert valid.fine is not None
    off = replace(valid, fine=valid.fine + np.array([3.0, -2.0], np.float32)[:, None, None])
    again = fit_amun(pairs.subset(range(4)), off, amun_settings, seed=0)
    scores, before = ([score for *_, score in found.training["history"]] for found in (again, amun_checkpoint))
    assert scores == pytest.approx(before, abs=1e-3)
    assert again.metrics["valid"]["rmse"] > amun_checkpoint.metrics["valid"]["rmse"] + 1.0
    learnt = again.state["scene_bias.offset"] - amun_checkpoint.state["scene_bias.offset"]
    assert float(learnt) == pytest.approx((3.0 - 2.0) / 6, abs=1e-5)


def test_in_the_end_validation_scenes_train_too_and_a_killed_refit_is_the_same_refit(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint, tmp_path: Path
) -> None:
    train, valid = pairs.subset(range(4)), pairs.subset((4, 5))
    without = replace(amun_settings, refit=replace(amun_settings.refit, steps=0))
    fit_amun(train, valid, without, seed=0, resume=tmp_path / "fit.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]
    resumed = fit_amun(train, valid, amun_settings, seed=0, resume=tmp_path / "fit.pt")
    assert all(torch.equal(resumed.state[name], amun_checkpoint.state[name]) for name in resumed.state)
    assert resumed.metrics == amun_checkpoint.metrics
    assert valid.fine is not None
    rough = replace(valid, fine=valid.fine + np.random.default_rng(0).normal(0, 3, valid.fine.shape).astype(np.float32))
    other, chosen = (fit_amun(train, rough, one, seed=0) for one in (amun_settings, without))
    first = fit_amun(train, valid, without, seed=0)
    scenes = prepare_scenes(first.config, valid, amun_settings.samples)
    with torch.no_grad():
        spreads = [mean_log_spread(one.build(), scenes) for one in (first, resumed)]
    assert spreads[0] == pytest.approx(spreads[1], abs=1e-5)
    assert resumed.state["spread_factor"] != first.state["spread_factor"]
    kernel = "lst_stem.0.weight"
    assert torch.equal(chosen.state[kernel], first.state[kernel])
    assert not torch.equal(other.state[kernel], resumed.state[kernel])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(pairs: Pairs, amun_settings: AmunSettings) -> None:
    with pytest.raises(InvalidInput, match="device is cuda, but torch finds none"):
        fit_amun(pairs.subset(range(4)), pairs.subset((4, 5)), amun_settings, seed=0, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_the_same_network(pairs: Pairs, amun_settings: AmunSettings, tmp_path: Path) -> None:
    train, valid, state = pairs.subset(range(4)), pairs.subset((4, 5)), tmp_path / "fit.pt"
    on_cpu = fit_amun(train, valid, amun_settings, seed=0, device="cpu")
    found = fit_amun(train, valid, amun_settings, seed=0, device="cuda", resume=state)
    assert found.training["device"] == "cuda"
    for name, value in found.state.items():
        torch.testing.assert_close(value, on_cpu.state[name], atol=1e-3, rtol=1e-2)
    resumed = fit_amun(train, valid, amun_settings, seed=0, device="cpu", resume=state)
    assert all(torch.equal(resumed.state[name], found.state[name]) for name in found.state)


def test_the_halo_covers_the_receptive_radius(amun_checkpoint: AmunCheckpoint) -> None:
    config = amun_checkpoint.config
    assert receptive_radius(amun_checkpoint.network) <= config.halo_px
    assert config.halo_px % config.multiple_px == 0


def test_training_scores_what_is_served(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    network, config = amun_checkpoint.build(), amun_checkpoint.config
    wide = replace(amun_settings.samples, margin_px=config.halo_px)
    with torch.no_grad():
        trained = mean_rmse(network, prepare_scenes(config, pairs.subset((4,)), wide))
    assert pairs.factors is not None
    assert pairs.fine is not None
    served = Amun(config, amun_context_network(network), amun_tile_network(network))
    lst = served.predict(pairs.coarse[4], pairs.factors[4])["lst"]
    assert trained == pytest.approx(float(np.sqrt(np.mean((lst - pairs.fine[4]) ** 2))), abs=1e-3)


def test_a_checkpoint_survives_its_file(tmp_path: Path, amun_checkpoint: AmunCheckpoint) -> None:
    save_checkpoint(tmp_path / "a.pt", amun_checkpoint)
    read = load_checkpoint(tmp_path / "a.pt")
    assert isinstance(read, AmunCheckpoint)
    assert (read.config, read.network, read.training) == (
        amun_checkpoint.config,
        amun_checkpoint.network,
        amun_checkpoint.training,
    )
    assert all(torch.equal(read.state[name], amun_checkpoint.state[name]) for name in read.state)
    assert np.array_equal(read.golden["factors"], amun_checkpoint.golden["factors"], equal_nan=True)


def test_crops_turn_together_with_their_cells_and_truth(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    config = amun_checkpoint.config
    assert pairs.fine is not None
    index = regular_index((10, 10), pairs.fine_shape)
    exact = replace(pairs, fine=(index % 97 + 250.0)[None].repeat(6, 0).astype(np.float32))
    scenes = prepare_scenes(config, exact, amun_settings.samples)
    batch = draw_batch(scenes, 8, amun_settings.samples, config.multiple_px, np.random.default_rng(0))
    inside = batch.cells >= 0
    assert torch.equal(batch.truth[inside], (batch.cells[inside] % 97 + 250).float())
    assert torch.isnan(batch.truth[~inside]).all()
    assert torch.isfinite(batch.coarse).all()
    assert torch.isfinite(batch.factors).all()


def test_the_aspect_of_a_crop_turns_with_its_ground(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    samples = amun_settings.samples
    scene = prepare_scenes(amun_checkpoint.config, pairs, samples)[0]
    ground = torch.rand(scene.truth.shape, generator=torch.Generator().manual_seed(0))
    scene = replace(scene, truth=ground, factors=downhill(ground[0]))
    batch = draw_batch([scene], 8, samples, amun_checkpoint.config.multiple_px, np.random.default_rng(0), (0, 1))
    inner = (..., slice(1, -1), slice(1, -1))  # a slope needs neighbours
    for truth, factors in zip(batch.truth, batch.factors, strict=True):
        torch.testing.assert_close(factors[inner], downhill(truth[0])[inner])


def downhill(ground: torch.Tensor) -> torch.Tensor:
    """Eastward and northward part ``[2, H, W]`` of the way down."""
    south, east = torch.gradient(ground)
    return torch.stack([-east, south])


def test_every_patch_of_a_crop_covers_one_coarse_cell(
    pairs: Pairs, amun_settings: AmunSettings, amun_checkpoint: AmunCheckpoint
) -> None:
    config = replace(amun_checkpoint.config, scale_factor=4)
    batch = draw_batch(
        prepare_scenes(config, pairs, amun_settings.samples), 8, amun_settings.samples, 4, np.random.default_rng(0)
    )
    patches = torch.nn.functional.pixel_unshuffle(batch.cells.float(), 4)
    assert torch.equal(patches.amin(dim=1), patches.amax(dim=1))


def test_the_patch_divides_the_coarse_cell(pairs: Pairs, amun_settings: AmunSettings) -> None:
    network = replace(amun_settings.network, max_patch_px=8)
    settings = replace(amun_settings, network=network, tiles=AmunTiles(tile_px=200, overlap_px=9))
    checkpoint = fit_amun(pairs.subset(range(4)), pairs.subset((4, 5)), settings, seed=0)
    assert (checkpoint.network.patch_px, checkpoint.network.pool, checkpoint.config.overlap_px) == (4, 8, 8)
    assert checkpoint.config.multiple_px % checkpoint.config.scale_factor == 0


def test_gaps_in_truth_coarse_and_factors_do_not_stop_a_fit(pairs: Pairs, amun_settings: AmunSettings) -> None:
    assert pairs.fine is not None
    coarse, fine = pairs.coarse.copy(), pairs.fine.copy()
    coarse[0, :3, :3], fine[1, :20] = np.nan, np.nan
    fine[2] = np.nan
    checkpoint = fit_amun(replace(pairs, coarse=coarse, fine=fine), pairs.subset((4, 5)), amun_settings, seed=0)
    assert all(torch.isfinite(value).all() for value in checkpoint.state.values())


def test_pairs_without_factors_have_a_network_too(pairs: Pairs, amun_settings: AmunSettings) -> None:
    bare = replace(pairs, factors=None, factor_names=None, factor_units=None)
    checkpoint = fit_amun(bare.subset(range(4)), bare.subset((4, 5)), amun_settings, seed=0)
    assert checkpoint.config.factor_names == ()


def test_impossible_data_are_refused(pairs: Pairs, amun_settings: AmunSettings) -> None:
    bare = replace(pairs, factors=None, factor_names=None, factor_units=None)
    with pytest.raises(InvalidInput, match="to validate with"):
        fit_amun(pairs, bare, amun_settings, seed=0)
    with pytest.raises(InvalidInput, match="no fine scenes"):
        fit_amun(replace(pairs, fine=None), pairs, amun_settings, seed=0)
    with pytest.raises(
        InvalidInput, match="crop_px 9 and margin_px 4 are 8 and 4 in multiples of 4, and leave nothing"
    ):
        fit_amun(pairs, pairs, replace(amun_settings, samples=replace(amun_settings.samples, crop_px=9)), seed=0)
    assert pairs.fine is not None
    cut = replace(bare, fine=pairs.fine[:, :35, :35])
    with pytest.raises(InvalidInput, match=r"3\.5 is not whole"):
        fit_amun(cut, cut, amun_settings, seed=0)


def test_simulated_pairs_have_the_cell_means_as_coarse(pairs: Pairs) -> None:
    simulated = simulate_coarse(pairs)
    assert np.array_equal(simulated.coarse, area_mean(pairs.fine, regular_index((10, 10), (40, 40)), (10, 10)))
    with pytest.raises(InvalidInput, match="no fine scenes"):
        simulate_coarse(replace(pairs, fine=None))


def test_factors_of_one_meaning_share_a_group() -> None:
    names = ("ndvi", "elevation", "red", "slope", "nir", "my_index", "population", "month_sin", "hour")
    assert factor_groups(names) == ((0,), (1, 3), (2, 4), (5,), (6,), (7, 8))
