"""Closure: does the fine result, averaged over a coarse cell, give the coarse value; and what to do if not."""

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.numerics.grids import area_mean, interpolate, paint_cells


def closure_residual(fine: Array, coarse: Array, coarse_index: IntArray) -> FloatArray:
    """``coarse [h, w]`` minus the area mean of ``fine [H, W]``; NaN where either is missing."""
    means = area_mean(fine, coarse_index, (coarse.shape[0], coarse.shape[1]))
    return (coarse.astype(np.float64) - means).astype(np.float32)


def closure_weight(residual: Array, sigma_k: float | None) -> float:
    """Share of the residual to correct: ``max(0, 1 - sigma_k**2 / var(residual))``, 1 for ``sigma_k = None``.

    Where the residual varies no more than the noise of a coarse pixel, correcting it would copy that noise
    into the result: exact correction lowered the RMSE by 11 % with clean coarse data and raised it
    by 14 % with 1 K noise (METHODS 3).

    Args:
        residual: ``[h, w]``, NaN where unknown.
        sigma_k: 1-sigma error of a coarse pixel in the unit of the scenes.

    Raises:
        InvalidInput: ``sigma_k`` is negative or not finite.
    """
    if sigma_k is None:
        return 1.0
    if not np.isfinite(sigma_k) or sigma_k < 0.0:
        raise InvalidInput(f"sigma_k is {sigma_k}, needed a finite number >= 0, or None for an exact correction")
    known = residual[~np.isnan(residual)].astype(np.float64)
    variance = float(known.var()) if known.size else 0.0
    if sigma_k == 0.0:
        return 1.0
    return max(0.0, 1.0 - sigma_k**2 / variance) if variance > 0.0 else 0.0


def correct_closure(fine: Array, coarse: Array, coarse_index: IntArray, *, sigma_k: float | None) -> FloatArray:
    """Add the weighted residual to ``fine``: afterwards the residual of every cell is ``1 - weight`` times what it was.

    The residual is spread bilinearly, so that no cell borders appear, and what the bilinear field misses
    of a cell's mean is added evenly over the cell. Cells without a residual, and pixels outside all
    cells, keep their values; NaN stays NaN.

    Args:
        fine: ``[H, W]``.
        coarse: ``[h, w]``.
        sigma_k: see :func:`closure_weight`; None corrects exactly.
    """
    residual = closure_residual(fine, coarse, coarse_index)
    share = np.float32(closure_weight(residual, sigma_k)) * residual
    smooth = interpolate(share, coarse_index, order=1)
    missed = share - area_mean(np.where(np.isnan(fine), np.nan, smooth), coarse_index, share.shape[-2:])
    correction = smooth.astype(np.float64) + paint_cells(missed, coarse_index)
    return (fine + np.where(np.isnan(correction), 0.0, correction)).astype(np.float32)
