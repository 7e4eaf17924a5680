"""Which variogram foretells library dates best, each left out in turn."""

from collections.abc import Sequence

import numpy as np

from thermoscale.arrays import Array
from thermoscale.numerics.adaptive_library import LibraryView
from thermoscale.numerics.adaptive_time import EVEN, Variogram, time_weights

CANDIDATES = (
    *(Variogram("linear", 1.0, nugget) for nugget in (1e-6, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)),
    *(Variogram("root", 1.0, nugget) for nugget in (1e-6, 0.03, 0.1, 0.3, 1.0)),
    *(
        Variogram("matern", length, nugget)
        for length in (1.0, 2.0, 4.0, 8.0, 16.0)
        for nugget in (0.01, 0.03, 0.1, 0.3, 1.0)
    ),
)
_SAMPLE = 100_000


def choose_variograms(
    fine: Array, view: LibraryView, coarse: Array, times: Array, targets: Sequence[int]
) -> tuple[Variogram, Variogram]:
    """Of the pattern and of the scene's mean.

    An error that is the same over a cell counts by what the coarse scene cannot mend of it: noise / (noise + error).

    Args:
        fine: ``[T, N]``. coarse: ``[T, n]`` NaN where not comparable. times: ``[T]``. targets: dates to leave out.
    """
    if len(fine) < 3:
        return EVEN, EVEN
    pixels = np.flatnonzero(view.grid.inside)
    pixels = pixels[:: max(1, len(pixels) // _SAMPLE)]
    means = view.scene_mean[:, None]
    whole = _mean_products(fine[:, pixels] - means)
    detail = _mean_products(fine[:, pixels] - view.cell_fine[:, view.grid.index[pixels]])
    first = choose(whole, times, targets)
    cell_error = np.mean([_error(whole - detail, times, date, first) for date in targets])
    noise = _noise(coarse - view.cell_fine)
    share = noise / (noise + max(float(cell_error), 0.0) + 1e-12)
    centred = view.scene_mean - view.scene_mean.mean()
    pattern = choose(detail + share * (whole - detail), times, targets)
    return pattern, choose(np.outer(centred, centred), times, targets)


def choose(products: Array, times: Array, targets: Sequence[int]) -> Variogram:
    """The candidate with the least mean root-mean-square error; ``products [T, T]`` of the dates' fields.

    A later candidate must be better by a thousandth: simple ones stand first.
    """
    best, least = EVEN, np.inf
    for variogram in CANDIDATES:
        error = float(np.mean([np.sqrt(max(_error(products, times, date, variogram), 0.0)) for date in targets]))
        if error < least * 0.999:
            best, least = variogram, error
    return best


def _error(products: Array, times: Array, date: int, variogram: Variogram) -> float:
    """Mean squared error of ``date`` from the other dates."""
    rest = np.delete(np.arange(len(times)), date)
    weights = time_weights(times[rest], float(times[date]), variogram)
    explained = weights @ products[np.ix_(rest, rest)] @ weights - 2 * weights @ products[rest, date]
    return float(products[date, date] + explained)


def _noise(departure: Array) -> float:
    """Variance of coarse minus fine cell means ``[T, n]`` that is neither a date's offset nor the cell's own."""
    seen = np.isfinite(departure)
    values = (
        departure
        - np.array([row[ok].mean() if ok.any() else 0.0 for row, ok in zip(departure, seen, strict=True)])[:, None]
    )
    own = np.where(seen, values, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
    n_dates = len(departure)
    return float(((values - own)[seen] ** 2).mean() * n_dates / max(n_dates - 1, 1)) if seen.any() else 0.0


def _mean_products(fields: Array) -> Array:
    products: Array = fields @ fields.T / fields.shape[1]
    return products
