"""HCRs: what changes alike is together, merged and split where wanted, deterministic, and gaps stay gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput, Undetermined
from thermoscale_train.data.hcr_clusters import Regroup, fit_hcr


def class_wise(seed: int, n_classes: int = 4, n_dates: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, n_classes, (20, 20))
    classes.ravel()[:n_classes] = np.arange(n_classes)
    levels = 290 + 10 * rng.normal(size=(n_dates, n_classes))
    return levels[:, classes].astype(np.float32), classes


@given(seed=st.integers(0, 20))
@settings(max_examples=5, deadline=None)
def test_a_class_wise_world_is_recovered_up_to_names(seed: int) -> None:
    fine, classes = class_wise(seed)
    labels = fit_hcr(fine, 4, seed=0)
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), classes.ravel(), strict=True)}
    assert len(pairs) == 4
    assert labels.dtype == np.int32


def test_the_seed_decides() -> None:
    fine = np.random.default_rng(0).normal(300, 5, (4, 15, 15)).astype(np.float32)
    assert np.array_equal(fit_hcr(fine, 6, seed=3), fit_hcr(fine, 6, seed=3))


def test_a_pixel_missing_on_most_dates_has_no_hcr_and_one_missing_once_has() -> None:
    fine, _ = class_wise(1)
    fine[:3, 0, 0] = np.nan
    fine[1, 5, 5] = np.nan
    labels = fit_hcr(fine, 4, seed=0)
    assert labels[0, 0] == -1
    assert labels[5, 5] >= 0
    assert (labels >= 0).sum() == labels.size - 1


def test_a_date_without_a_pixel_takes_no_part() -> None:
    fine, _ = class_wise(2)
    with_empty = np.concatenate([fine, np.full_like(fine[:1], np.nan)])
    assert np.array_equal(fit_hcr(with_empty, 4, seed=0), fit_hcr(fine, 4, seed=0))


def test_numbers_have_no_holes_where_there_are_fewer_kinds_of_pixels_than_clusters() -> None:
    fine, _ = class_wise(3)
    assert set(fit_hcr(fine, 45, seed=0).ravel().tolist()) == {0, 1, 2, 3}


def test_nothing_to_cluster_is_said() -> None:
    with pytest.raises(Undetermined, match="no HCR"):
        fit_hcr(np.full((3, 4, 4), np.nan, np.float32), 2, seed=0)


def textured(seed: int, side: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (295 + rng.normal(0, 5, (4, side, side))).astype(np.float32)


@pytest.mark.parametrize("n_hcr", [45, 145, 245])
def test_the_published_numbers_of_classes_all_come_out(n_hcr: int) -> None:
    labels = fit_hcr(textured(0), n_hcr, seed=0)
    assert np.array_equal(np.unique(labels), np.arange(n_hcr))


@given(seed=st.integers(0, 20))
@settings(max_examples=5, deadline=None)
def test_merging_and_splitting_find_the_classes_from_too_many_and_from_too_few(seed: int) -> None:
    levels = np.array([[0, 10, 20, 40], [0, 10, 0, 30]], np.float32)
    classes = np.random.default_rng(seed).integers(0, 4, (20, 20))
    fine = 280 + levels[:, classes] + np.random.default_rng(seed).normal(0, 0.1, (2, 20, 20)).astype(np.float32)
    for n_hcr in (1, 2, 4, 9, 16):
        labels = fit_hcr(fine, n_hcr, seed, Regroup(merge_closer=0.2, split_wider=0.2, h_max=16))
        pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), classes.ravel(), strict=True)}
        assert len(pairs) == 4


def test_merging_alone_never_adds_and_splitting_alone_never_takes_away_beyond_the_limit() -> None:
    fine = textured(1)
    assert int(fit_hcr(fine, 20, 0, Regroup(0.8, 0.0, 50)).max()) + 1 < 20
    assert int(fit_hcr(fine, 20, 0, Regroup(0.0, 0.3, 50)).max()) + 1 == 50
    assert int(fit_hcr(fine, 20, 0, Regroup(0.0, 9.0, 50)).max()) + 1 == 20


def test_regrouping_is_off_by_default_and_deterministic() -> None:
    fine = textured(2, 20)
    assert np.array_equal(fit_hcr(fine, 9, 3), fit_hcr(fine, 9, 3, Regroup(0.0, 0.0, 256)))
    regroup = Regroup(0.4, 0.5, 30)
    assert np.array_equal(fit_hcr(fine, 9, 3, regroup), fit_hcr(fine, 9, 3, regroup))


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="merge_closer -1"):
        Regroup(-1.0, 0.0, 10)
