"""Slots of a place: every HCR that can be covered is, the draw is the seed's, and what stays uncovered is said."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.formats import Series
from thermoscale_train.config import IustfmSettings, RegionSettings
from thermoscale_train.data.region import _cover, _slots, cells_of_hcr, make_region, slot_facts
from thermoscale_train.fit_iustfm import fit_iustfm

SETTINGS = RegionSettings(n_hcr=6, clip_px=0)


def world(seed: int, n_cells: int, n_hcr: int, density: float) -> np.ndarray:
    """Which HCR is in which cell; some HCRs may be in none."""
    return np.random.default_rng(seed).random((n_cells, n_hcr)) < density


@given(
    seed=st.integers(0, 1000),
    n_cells=st.integers(1, 60),
    n_hcr=st.integers(1, 12),
    density=st.floats(0.0, 0.5),
    more=st.integers(0, 20),
)
@settings(max_examples=50, deadline=None)
def test_as_many_slots_as_hcrs_cover_every_hcr_that_is_in_a_cell(
    seed: int, n_cells: int, n_hcr: int, density: float, more: int
) -> None:
    held = world(seed, n_cells, n_hcr, density)
    slots = _slots(held, n_hcr + more, seed)
    assert np.array_equal(held[slots >= 0].any(axis=0), held.any(axis=0))


@given(
    seed=st.integers(0, 1000),
    n_cells=st.integers(1, 60),
    n_hcr=st.integers(1, 12),
    density=st.floats(0.0, 0.5),
    m_max=st.integers(1, 70),
)
@settings(max_examples=50, deadline=None)
def test_slots_are_numbered_without_holes_and_none_is_wasted(
    seed: int, n_cells: int, n_hcr: int, density: float, m_max: int
) -> None:
    held = world(seed, n_cells, n_hcr, density)
    slots = _slots(held, m_max, seed)
    owned = slots[slots >= 0]
    assert np.array_equal(owned, np.arange(min(m_max, int(held.any(axis=1).sum()))))
    assert not (slots >= 0)[~held.any(axis=1)].any()
    assert np.array_equal(slots, _slots(held, m_max, seed))


def test_too_few_slots_cover_the_commonest_hcrs_first() -> None:
    held = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    assert _cover(held, 1).tolist() == [1]
    assert _cover(held, 9).tolist() == [1, 2]


def test_the_seed_draws_the_rest() -> None:
    held = np.ones((200, 2), bool)
    first, second = (_slots(held, 20, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_cells_of_hcr_counts_linked_and_labelled_pixels_only() -> None:
    labels, index = np.array([[0, 1, -1, 1]]), np.array([[0, 0, 1, -1]])
    assert cells_of_hcr(labels, index, 2).tolist() == [[True, True], [False, False]]


def test_a_place_with_more_cells_than_slots_is_drawn_and_fitted(
    series: Series, iustfm_settings: IustfmSettings
) -> None:
    dynet = replace(iustfm_settings.dynet, network=replace(iustfm_settings.dynet.network, m_max=9))
    checkpoint = fit_iustfm(series, replace(iustfm_settings, dynet=dynet), seed=4)
    assert checkpoint.training["slots"] == {"cells": 25, "used": 9, "seed": 4, "hcr_uncovered": []}
    assert (checkpoint.region.slots >= 0).sum() == 9


def test_hcrs_without_a_slot_are_named_in_a_warning_and_in_the_record(series: Series) -> None:
    with pytest.warns(UserWarning, match="HCRs .* raise m_max"):
        region = make_region(series, RegionSettings(n_hcr=40, clip_px=0), 1, 0)
    uncovered = slot_facts(region, 0)["slots"]["hcr_uncovered"]
    assert uncovered
    inside = np.unique(region.labels[region.coarse_index == np.flatnonzero(region.slots >= 0)[0]])
    assert set(uncovered) == set(range(40)) - set(inside.tolist())


def test_enough_slots_warn_of_nothing(series: Series) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slot_facts(make_region(series, SETTINGS, 60, 0), 0)["slots"]["used"] == 25


def test_split_classes_stay_below_the_width_of_the_network(series: Series) -> None:
    region = make_region(series, replace(SETTINGS, split_wider=0.01), 60, 0, h_max=11)
    assert int(region.labels.max()) + 1 == 11


def test_the_target_date_is_not_among_the_features(series: Series) -> None:
    """What is done to the target's images changes no HCR of the place fitted without it."""
    target = series.fine_time[3]
    spoilt = series.fine.copy()
    spoilt[3] = np.random.default_rng(0).permuted(spoilt[3])
    labels = [make_region(s.without(target), SETTINGS, 60, 0).labels for s in (series, replace(series, fine=spoilt))]
    assert np.array_equal(*labels)
    assert not np.array_equal(labels[0], make_region(replace(series, fine=spoilt), SETTINGS, 60, 0).labels)
