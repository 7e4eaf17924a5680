"""Fitting I-USTFM: deterministic, held-out dates take no part, few dates give an untrained bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.bias import BiasRule, apply_bias, carry_over
from thermoscale.numerics.change_ratio import Guards, coarse_alpha
from thermoscale.numerics.hcr import hcr_alpha
from thermoscale.pipelines.iustfm_ratios import clip_cells
from thermoscale.pipelines.library import Library
from thermoscale.testing.worlds import make_series
from thermoscale_train.checkpoint import IustfmCheckpoint, load_checkpoint, save_checkpoint
from thermoscale_train.config import IustfmSettings, RatioNetSamples, RegionSettings
from thermoscale_train.data.dynet_samples import draw_dynet_pool, random_clips, training_triples
from thermoscale_train.data.ratio_net_samples import FAR_A2, RatioNetPool, draw_ratio_net_pool
from thermoscale_train.data.region import make_region, served_clips
from thermoscale_train.data.split import interior_dates
from thermoscale_train.fit_iustfm import fit_iustfm

GUARDS = Guards()


def library_of(series: Series) -> Library:
    return Library(series.fine_time, np.stack([series.coarse_at(t) for t in series.fine_time]), series.fine, None)


def test_the_same_seed_gives_the_same_networks(
    series: Series, iustfm_settings: IustfmSettings, iustfm_checkpoint: IustfmCheckpoint
) -> None:
    again = fit_iustfm(series, iustfm_settings, seed=0)
    assert again.config == iustfm_checkpoint.config
    for pair in (again.dynet, iustfm_checkpoint.dynet), (again.ratio_net, iustfm_checkpoint.ratio_net):
        assert pair[0] is not None
        assert pair[1] is not None
        assert all(torch.equal(pair[0][1][name], pair[1][1][name]) for name in pair[0][1])


def test_the_library_holds_every_usable_date_and_the_choice_is_recorded(
    series: Series, iustfm_checkpoint: IustfmCheckpoint
) -> None:
    assert iustfm_checkpoint.region.library_time == series.fine_time
    held = iustfm_checkpoint.training["held_out_for_selection"]
    assert len(held) == 2
    assert set(held) <= set(interior_dates(series.fine_time))
    scores = iustfm_checkpoint.metrics["held_out"]
    assert scores[f"rmse_{iustfm_checkpoint.config.mode}"] == min(scores["rmse_rationet"], scores["rmse_closed_form"])
    assert iustfm_checkpoint.config.published == iustfm_checkpoint.config.mode
    assert set(iustfm_checkpoint.config.spread_factors) == {"rationet", "closed_form"}


def test_an_interrupted_fit_goes_on_where_it_was(
    tmp_path: Path, series: Series, iustfm_settings: IustfmSettings, iustfm_checkpoint: IustfmCheckpoint
) -> None:
    first = fit_iustfm(series, iustfm_settings, seed=0, resume=tmp_path)
    untrained = first.training["steps"][1] == 0  # its final run has nothing to keep
    assert len(list(tmp_path.iterdir())) == 4 - untrained
    second = fit_iustfm(series, iustfm_settings, seed=0, resume=tmp_path)
    assert first.config == second.config == iustfm_checkpoint.config


def test_a_checkpoint_survives_its_file(tmp_path: Path, iustfm_checkpoint: IustfmCheckpoint) -> None:
    save_checkpoint(tmp_path / "i.pt", iustfm_checkpoint)
    read = load_checkpoint(tmp_path / "i.pt")
    assert isinstance(read, IustfmCheckpoint)
    assert read.config == iustfm_checkpoint.config
    assert read.region.library_time == iustfm_checkpoint.region.library_time
    assert np.array_equal(read.region.library_fine, iustfm_checkpoint.region.library_fine)
    assert str(read.golden["time"]) == str(iustfm_checkpoint.golden["time"])
    assert read.georeference == iustfm_checkpoint.georeference


def test_two_dates_give_an_untrained_bundle_and_one_gives_none(series: Series, iustfm_settings: IustfmSettings) -> None:
    two = series.select_fine([series.fine_time[0], series.fine_time[-1]])
    checkpoint = fit_iustfm(two, iustfm_settings, seed=0)
    assert checkpoint.dynet is None
    assert checkpoint.ratio_net is None
    assert checkpoint.config.mode == "closed_form"
    with pytest.raises(Undetermined, match="two usable fine dates"):
        fit_iustfm(series.select_fine(series.fine_time[:1]), iustfm_settings, seed=0)


def test_three_dates_are_enough_to_train(series: Series, iustfm_settings: IustfmSettings) -> None:
    times = [series.fine_time[0], series.fine_time[3], series.fine_time[-1]]
    checkpoint = fit_iustfm(series.select_fine(times), iustfm_settings, seed=0)
    assert checkpoint.dynet is not None
    assert checkpoint.training["held_out_for_selection"] == []
    assert checkpoint.config.spread_factors == {}


def test_ratio_net_stays_the_closed_form_where_no_training_is_better(
    series: Series, iustfm_settings: IustfmSettings
) -> None:
    """Steps so long that they only do harm."""
    ratio_net = iustfm_settings.ratio_net
    harmful = replace(
        ratio_net,
        samples=replace(ratio_net.samples, pool=20_000, triples=40),  # as near to the pole as the held-out ones
        training=replace(ratio_net.training, learning_rate=10.0),
    )
    checkpoint = fit_iustfm(series, replace(iustfm_settings, ratio_net=harmful), seed=0)
    assert checkpoint.training["steps"][1] == 0
    scores = checkpoint.metrics["held_out"]
    assert scores["rmse_rationet"] == pytest.approx(scores["rmse_closed_form"], rel=0.02)
    untrained = checkpoint.build_ratio_net()
    assert untrained is not None
    distance, a2 = torch.rand(9) * 20, torch.linspace(0.1, 6.0, 9)
    torch.testing.assert_close(untrained(distance, a2), distance / a2)


def test_dates_that_never_differ_are_said(series: Series, iustfm_settings: IustfmSettings) -> None:
    flat = replace(iustfm_settings.dynet, guards=Guards(min_baseline_k=100.0))
    with pytest.raises(Undetermined, match="baseline"):
        fit_iustfm(series, replace(iustfm_settings, dynet=flat), seed=0)


@given(height=st.integers(1, 60), width=st.integers(1, 60), clip_px=st.integers(1, 70))
@settings(max_examples=50, deadline=None)
def test_served_clips_cover_every_pixel(height: int, width: int, clip_px: int) -> None:
    seen = np.zeros((height, width), bool)
    for row, col, rows, cols in served_clips((height, width), clip_px):
        assert row + rows <= height
        assert col + cols <= width
        seen[row : row + rows, col : col + cols] = True
    assert seen.all()


@given(seed=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_random_clips_lie_inside(seed: int) -> None:
    clips = random_clips((30, 20), 25, 16, np.random.default_rng(seed))
    assert (clips[:, :2] >= 0).all()
    assert (clips[:, :2] + clips[:, 2:] <= (30, 20)).all()
    assert (clips[:, 2:] == (25, 20)).all()


def test_training_triples_pass_the_guard_and_unordered_ones_hold_the_ordered(series: Series) -> None:
    library = library_of(series)
    ordered, unordered = (set(training_triples(library, GUARDS, order)) for order in ("ordered", "unordered"))
    assert ordered < unordered
    assert all(t.pre < t.target < t.post for t in ordered)
    assert all(t.pre < t.post and t.target not in (t.pre, t.post) for t in unordered)
    assert all(library.baseline_of(t.pre, t.post) >= GUARDS.min_baseline_k for t in unordered)


def test_a_dynet_sample_is_a_clip_of_a_triple(series: Series, iustfm_settings: IustfmSettings) -> None:
    """Slow twin: for every sample some triple and clip give exactly its inputs and its truth."""
    dynet = iustfm_settings.dynet
    region = make_region(series, dynet.region, dynet.network.m_max, 0)
    library = library_of(series)
    few = replace(dynet.samples, pool=6)
    pool = draw_dynet_pool(library, region, GUARDS, 24, few, dynet.network, BiasRule(), np.random.default_rng(5))
    biases = {time: library.bias_of(time, region.coarse_index, BiasRule()) for time in library.times}
    clips = random_clips(region.fine_shape, 24, 64, np.random.default_rng(5))
    cells = clip_cells(region, clips)
    for alpha, valid, truth in zip(pool.alpha.numpy(), pool.valid.numpy(), pool.truth.numpy(), strict=True):
        found = 0
        for triple in training_triples(library, GUARDS, "ordered"):
            own = {**biases, triple.target: carry_over([biases[t] for t in biases if t != triple.target]).bias}
            coarse = coarse_alpha(*(apply_bias(library.coarse_at(t), own[t]) for t in triple), GUARDS).ravel()
            if not np.isin(alpha[valid], coarse).all():
                continue
            for clip, inside in zip(clips, cells, strict=True):
                wanted = inside & np.isfinite(coarse)
                if not np.array_equal(np.flatnonzero(valid), region.slots[wanted]):
                    continue
                window = (slice(clip[0], clip[0] + clip[2]), slice(clip[1], clip[1] + clip[3]))
                true = hcr_alpha(*(library.fine_at(t, window) for t in triple), region.labels[window], 8)
                here = np.isfinite(truth)
                found += bool(
                    np.array_equal(alpha[region.slots[wanted]], coarse[wanted])
                    and np.array_equal(true[here], truth[here])
                )
        assert found >= 1


def test_slot_dropout_hides_slots_and_nothing_else(series: Series, iustfm_settings: IustfmSettings) -> None:
    dynet = iustfm_settings.dynet
    region = make_region(series, dynet.region, dynet.network.m_max, 0)
    pool = draw_dynet_pool(
        library_of(series), region, GUARDS, 40, dynet.samples, dynet.network, BiasRule(), np.random.default_rng(0)
    )
    full = pool.batch(32, 0.0, np.random.default_rng(1))
    thin = pool.batch(32, 0.5, np.random.default_rng(1))
    assert torch.equal(full.alpha, thin.alpha)
    assert not (thin.valid & ~full.valid).any()
    assert 0.3 < thin.valid.sum() / full.valid.sum() < 0.7


def test_a_ratio_net_sample_obeys_the_guards_and_the_algebra() -> None:
    world = make_series(
        1, fine_shape=(40, 40), scale_factor=8, smooth_change_k=0.0, coarse_noise_k=0.0, fine_noise_k=0.0
    )
    series = world.series
    library = library_of(series)
    region = replace(make_region(series, RegionSettings(n_hcr=5, clip_px=0), 60, 0), labels=world.land_cover)
    few = RatioNetSamples(pool=500, triples=5, alpha_error=False, alpha_snr=0.0)

    def drawn(samples: RatioNetSamples, alpha_sd: float) -> RatioNetPool:
        return draw_ratio_net_pool(library, region, 5, GUARDS, "ordered", samples, alpha_sd, np.random.default_rng(0))

    def miss(pool: RatioNetPool) -> float:
        return float((pool.distance / pool.a2 - pool.delta).abs().median())

    pool = drawn(few, 0.0)
    assert (pool.distance >= GUARDS.min_distance_k).all()
    assert (pool.a2.abs() >= GUARDS.min_abs_one_plus_alpha).all()
    ranges = pool.ranges()
    assert ranges.distance == (pool.distance.min(), pool.distance.max())
    assert ranges.a2_positive == (pool.a2[pool.a2 > 0].min(), FAR_A2)
    assert ranges.a2_negative is None or -FAR_A2 == ranges.a2_negative[0] < ranges.a2_negative[1] < 0
    assert miss(pool) < miss(drawn(few, 0.3))
    assert miss(pool) < miss(drawn(replace(few, alpha_snr=50.0), 0.0)) < miss(drawn(replace(few, alpha_snr=2.0), 0.0))
