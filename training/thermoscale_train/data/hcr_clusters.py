"""Homogeneous change regions: k-means on the time series of fine pixels (METHODS 1.2)."""

import numpy as np

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.errors import Undetermined
from thermoscale.numerics.normalize import fit_channel_stats, standardize

MIN_DATES_SHARE = 0.5
MAX_FITTED_PIXELS = 100_000


def fit_hcr(fine: FloatArray, n_hcr: int, seed: int) -> IntArray:
    """Clusters of pixels that change alike.

    Each date is standardised by its own median and spread. A pixel missing on some dates takes that date's median
    there; one missing on more than half of them gets no HCR. Large scenes are clustered on a sample of the pixels,
    and every pixel then joins the nearest centre. Deterministic for a seed.

    Args:
        fine: ``[T, H, W]``, NaN = no data. Dates that are judged later must not be among them.
        n_hcr: clusters wanted; fewer if there are fewer distinct pixels.

    Returns:
        labels ``[H, W]`` int32, 0 .. n - 1, -1 = none.

    Raises:
        Undetermined: no pixel has enough dates.
    """
    fine = fine[np.isfinite(fine).any(axis=(1, 2))]
    enough = np.isfinite(fine).mean(axis=0) >= MIN_DATES_SHARE if len(fine) else np.zeros(fine.shape[1:], bool)
    if not enough.any():
        raise Undetermined(f"no pixel is valid on half of the {len(fine)} dates: no HCR can be found")
    features = np.nan_to_num(standardize(fine, fit_channel_stats(fine))[:, enough].T, nan=0.0)
    labels = np.full(fine.shape[1:], -1, np.int32)
    labels[enough] = _cluster(features, n_hcr, seed)
    return labels


def _cluster(features: FloatArray, n_hcr: int, seed: int) -> IntArray:
    from sklearn.cluster import KMeans  # slow to import

    rng = np.random.default_rng(seed)
    fitted = features
    if len(features) > MAX_FITTED_PIXELS:
        fitted = features[np.sort(rng.choice(len(features), MAX_FITTED_PIXELS, replace=False))]
    n_distinct = len(np.unique(fitted, axis=0))
    means = KMeans(min(n_hcr, n_distinct), n_init=1, max_iter=100, random_state=seed).fit(fitted)
    nearest = means.predict(features)
    # Clusters without a pixel would leave holes in the numbering.
    return np.unique(nearest, return_inverse=True)[1].astype(np.int32)
