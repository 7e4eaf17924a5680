"""k-means HCRs: what changes alike is together, deterministic, and gaps stay gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import Undetermined
from thermoscale_train.data.hcr_clusters import fit_hcr


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
