"""Homogeneous change regions: k-means on the time series of fine pixels, with merging and splitting (METHODS 1.2)."""

from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.numerics.normalize import fit_channel_stats, standardize

MIN_DATES_SHARE = 0.5
MAX_FITTED_PIXELS = 100_000
MAX_ROUNDS = 10


@dataclass(frozen=True)
class Regroup:
    """Merging and splitting after k-means, in the manner of ISODATA; in standard deviations of a whole date.

    Attributes:
        merge_closer: classes whose centres are closer (root mean square over the dates) become one; 0 merges none.
        split_wider: a class whose standard deviation on some date is larger becomes two; 0 splits none.
        h_max: classes at most.
    """

    merge_closer: float
    split_wider: float
    h_max: int

    def __post_init__(self) -> None:
        if min(self.merge_closer, self.split_wider) < 0.0:
            raise InvalidInput(f"merge_closer {self.merge_closer} and split_wider {self.split_wider} must be >= 0")

    @property
    def wanted(self) -> bool:
        """Is there anything to do?"""
        return self.merge_closer > 0.0 or self.split_wider > 0.0


def fit_hcr(fine: FloatArray, n_hcr: int, seed: int, regroup: Regroup | None = None) -> IntArray:
    """Clusters of pixels that change alike.

    Each date is standardised by its own median and spread. A pixel missing on some dates takes that date's median
    there; one missing on more than half of them gets no HCR. Large scenes are clustered on a sample of the pixels,
    and every pixel then joins the nearest centre. Deterministic for a seed.

    Args:
        fine: ``[T, H, W]``, NaN = no data. Dates that are judged later must not be among them.
        n_hcr: clusters wanted; fewer if there are fewer distinct pixels.
        regroup: merges and splits the clusters of k-means.

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
    labels[enough] = _cluster(features, n_hcr, seed, regroup)
    return labels


def _cluster(features: FloatArray, n_hcr: int, seed: int, regroup: Regroup | None) -> IntArray:
    from sklearn.cluster import KMeans  # slow to import

    rng = np.random.default_rng(seed)
    fitted = features
    if len(features) > MAX_FITTED_PIXELS:
        fitted = features[np.sort(rng.choice(len(features), MAX_FITTED_PIXELS, replace=False))]
    n_distinct = len(np.unique(fitted, axis=0))
    means = KMeans(min(n_hcr, n_distinct), n_init=1, max_iter=100, random_state=seed).fit(fitted)
    for _ in range(MAX_ROUNDS if regroup is not None and regroup.wanted else 0):
        assert regroup is not None
        centres = _merged(_split(means.cluster_centers_, fitted, means.labels_, regroup), regroup.merge_closer)
        if np.array_equal(centres, means.cluster_centers_):
            break
        means = KMeans(len(centres), init=centres, n_init=1, max_iter=100, random_state=seed).fit(fitted)
    nearest = means.predict(features)
    # Clusters without a pixel would leave holes in the numbering.
    return np.unique(nearest, return_inverse=True)[1].astype(np.int32)


def _split(centres: Array, features: FloatArray, labels: IntArray, regroup: Regroup) -> Array:
    """Two centres, one standard deviation to either side, for each class too wide; the widest first."""
    if regroup.split_wider <= 0.0:
        return centres
    spread = np.stack([features[labels == c].std(axis=0) for c in range(len(centres))])
    widest = np.argsort(-spread.max(axis=1), kind="stable")[: max(0, regroup.h_max - len(centres))]
    wide = [c for c in widest if spread[c].max() > regroup.split_wider]
    step = np.zeros_like(centres)
    for c in wide:
        step[c, spread[c].argmax()] = spread[c].max()
    return np.concatenate([centres - step, (centres + step)[wide]])


def _merged(centres: Array, merge_closer: float) -> Array:
    """The closest pairs become their mean, each centre at most once; a centre stays where it is otherwise."""
    distance = np.sqrt(np.square(centres[:, None] - centres[None]).mean(axis=-1))
    first, second = np.triu_indices(len(centres), 1)
    order = np.argsort(distance[first, second], kind="stable")
    centres, gone = centres.copy(), np.zeros(len(centres), bool)
    taken = gone.copy()
    for a, b in zip(first[order], second[order], strict=True):
        if distance[a, b] >= merge_closer:
            break
        if not (taken[a] or taken[b]):
            centres[a] = (centres[a] + centres[b]) / 2
            taken[[a, b]], gone[b] = True, True
    return centres[~gone]
