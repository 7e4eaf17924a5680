"""The simulated experiment: the coarse image is the mean of the fine one, so the truth is exact (METHODS 2)."""

from dataclasses import replace

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.numerics.grids import area_mean, regular_index


def simulate_coarse(pairs: Pairs) -> Pairs:
    """The pairs with every coarse cell replaced by the mean of its fine pixels, NaN where fewer than half are valid.

    Raises:
        InvalidInput: the pairs have no fine scenes.
    """
    if pairs.fine is None:
        raise InvalidInput("pairs have no fine scenes: there is nothing to average")
    h, w = pairs.coarse.shape[1:]
    index = regular_index((h, w), pairs.fine_shape)
    return replace(pairs, coarse=area_mean(pairs.fine, index, (h, w)))
