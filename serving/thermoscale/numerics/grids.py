"""The two grids: which coarse cell holds a fine pixel, means over cells, and values carried back.

The link between the grids is ``coarse_index`` [H, W] int32: ``row * w + col`` of the coarse cell that holds
the centre of the fine pixel, -1 where there is none. Nothing else is assumed: on the fine grid the cells may
be parallelograms (MODIS on UTM) and the scale factor need not be whole (30.9).
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array, FloatArray, IntArray, require_shape
from thermoscale.errors import InvalidInput

Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a * col + b * row + c, y = d * col + e * row + f; pixel corner, rasterio's order."""

DoubleArray = npt.NDArray[np.float64]
ToCoarse = Callable[[DoubleArray, DoubleArray], tuple[DoubleArray, DoubleArray]]

BORDER_DIGITS = 9
"""Decimals of a cell kept before flooring: a centre on a border must not fall to a side by a rounding error."""
NO_WEIGHT = 1e-9
"""An interpolation weight that is zero but for rounding."""
BLOCK_PIXELS = 1 << 17
"""Fine pixels interpolated at once: keeps the work arrays in the cache and bounds the memory."""


def regular_index(coarse_shape: tuple[int, int], fine_shape: tuple[int, int]) -> IntArray:
    """Index of two grids with the same bounds and parallel axes; the scale factor need not be whole.

    A centre exactly on a border belongs to the later cell.

    Returns:
        ``coarse_index`` [H, W]; no pixel is outside.
    """
    rows, cols = (
        (2 * np.arange(n_fine) + 1) * n_coarse // (2 * n_fine)
        for n_coarse, n_fine in zip(coarse_shape, fine_shape, strict=True)
    )
    return (rows[:, None] * coarse_shape[1] + cols).astype(np.int32)


def index_from_transforms(
    coarse_transform: Transform,
    coarse_shape: tuple[int, int],
    fine_transform: Transform,
    fine_shape: tuple[int, int],
    to_coarse: ToCoarse | None = None,
) -> IntArray:
    """Index of two georeferenced grids.

    Args:
        coarse_transform, fine_transform: pixel (corner) to CRS, each in its own CRS.
        to_coarse: maps x, y [H, W] in the fine CRS to the coarse CRS; None = the same CRS.

    Returns:
        ``coarse_index`` [H, W]; -1 outside the coarse grid and where ``to_coarse`` has no finite answer.

    Raises:
        InvalidInput: a coarse transform that cannot be inverted.
    """
    a, b, c, d, e, f = fine_transform
    row, col = np.arange(fine_shape[0])[:, None] + 0.5, np.arange(fine_shape[1]) + 0.5
    x, y = a * col + b * row + c, d * col + e * row + f
    if to_coarse is not None:
        x, y = to_coarse(x, y)
        placed = np.isfinite(x) & np.isfinite(y)  # projections answer inf where they cannot
        x, y = np.where(placed, x, np.nan), np.where(placed, y, np.nan)
    a, b, c, d, e, f = coarse_transform
    area = a * e - b * d
    if area == 0 or not np.isfinite(area):
        raise InvalidInput(f"coarse transform {coarse_transform} has no area: it cannot be inverted")
    cols = _floor((e * (x - c) - b * (y - f)) / area)
    rows = _floor((a * (y - f) - d * (x - c)) / area)
    inside = (rows >= 0) & (rows < coarse_shape[0]) & (cols >= 0) & (cols < coarse_shape[1])
    return np.where(inside, rows * coarse_shape[1] + cols, -1).astype(np.int32)


def cell_counts(coarse_index: IntArray, coarse_shape: tuple[int, int]) -> IntArray:
    """Number of fine pixels in each coarse cell, [h, w]: the area weights of the project."""
    _require_index(coarse_index, coarse_shape)
    return _cell_sums(coarse_index, coarse_shape, None).astype(np.int32)


def area_mean(
    fine: Array, coarse_index: IntArray, coarse_shape: tuple[int, int], *, min_share: float = 0.5
) -> FloatArray:
    """Mean of the valid fine pixels of each coarse cell.

    Args:
        fine: [..., H, W], NaN = no data.
        min_share: a cell needs at least this share of its fine pixels valid, and one valid pixel in any case.

    Returns:
        [..., h, w] float32, NaN where too few pixels are valid.
    """
    if fine.shape[-2:] != coarse_index.shape:
        raise InvalidInput(f"fine has shape {list(fine.shape)}, needed [..., H, W] = {list(coarse_index.shape)}")
    counts = cell_counts(coarse_index, coarse_shape)
    means = np.full((*fine.shape[:-2], *coarse_shape), np.nan, np.float32)
    for band in np.ndindex(fine.shape[:-2]):
        valid = ~np.isnan(fine[band])
        gap_free = bool(valid.all())
        n_valid = counts if gap_free else _cell_sums(coarse_index, coarse_shape, valid)
        sums = _cell_sums(coarse_index, coarse_shape, fine[band] if gap_free else np.where(valid, fine[band], 0))
        enough = n_valid >= np.maximum(min_share * counts, 1)
        means[band][enough] = sums[enough] / n_valid[enough]
    return means


def paint_cells(coarse: Array, coarse_index: IntArray) -> FloatArray:
    """Give every fine pixel the value of its cell: [..., h, w] -> [..., H, W] float32, NaN where the index is -1."""
    _require_index(coarse_index, coarse.shape[-2:])
    flat = coarse.reshape(*coarse.shape[:-2], -1).astype(np.float32, copy=False)
    nowhere = np.full((*flat.shape[:-1], 1), np.nan, np.float32)
    return np.concatenate([flat, nowhere], axis=-1)[..., coarse_index]


def coarse_coordinates(coarse_index: IntArray, coarse_shape: tuple[int, int]) -> tuple[DoubleArray, DoubleArray]:
    """Where the centres of the fine pixels lie on the coarse grid, in cells; 0.0 is the centre of the first cell.

    An affine map fitted to the borders between cells, which lie within half a fine pixel of where the index
    changes: exact for regular blocks, and exact up to that sampling for sheared cells. A direction in which fewer
    than three cells are seen is fitted to the index itself. A pixel is never placed outside its own cell.

    Returns:
        rows, cols, [H, W] float64 each; pixels with index -1 are extrapolated.

    Raises:
        InvalidInput: every pixel is outside.
    """
    _require_index(coarse_index, coarse_shape)
    if not (coarse_index >= 0).any():
        raise InvalidInput("coarse_index holds no cell: every fine pixel is outside the coarse grid")
    if np.array_equal(coarse_index, regular_index(coarse_shape, (coarse_index.shape[0], coarse_index.shape[1]))):
        rows, cols = (
            (np.arange(n_fine) + 0.5) * n_coarse / n_fine - 0.5
            for n_coarse, n_fine in zip(coarse_shape, coarse_index.shape, strict=True)
        )
        return np.repeat(rows[:, None], cols.size, axis=1), np.repeat(cols[None], rows.size, axis=0)
    inside = coarse_index >= 0
    row, col = coarse_index // coarse_shape[1], coarse_index % coarse_shape[1]
    return _fit_coordinate(row, inside), _fit_coordinate(col, inside)


def fill_nearest(coarse: Array) -> FloatArray:
    """Give NaN cells the value of the nearest valid cell (Euclidean, in cells); all NaN stays NaN.

    Args:
        coarse: [..., h, w].
    """
    filled = coarse.astype(np.float32)
    for band in np.ndindex(coarse.shape[:-2]):
        valid = ~np.isnan(coarse[band])
        if valid.any() and not valid.all():
            rows, cols = np.nonzero(~valid)
            filled[band][rows, cols] = filled[band][_nearest_valid(valid, rows, cols)]
    return filled


def interpolate(coarse: Array, coarse_index: IntArray, *, order: Literal[1, 3], fill: bool = False) -> FloatArray:
    """Interpolate coarse values at the centres of the fine pixels.

    Args:
        coarse: [..., h, w], NaN = no data. Cells beyond the edge repeat the edge.
        order: 1 bilinear; 3 bicubic (Keys 1981, a = -0.5). Bilinear drops NaN cells and renormalises the
            weights; bicubic becomes bilinear wherever it would need a NaN cell.
        fill: also answer where the own cell is NaN or the index is -1: bilinear on :func:`fill_nearest`.

    Returns:
        [..., H, W] float32; without ``fill`` NaN where the own cell is NaN or the index is -1.

    Raises:
        InvalidInput: another order, or an index that does not fit.
    """
    if order not in (1, 3):
        raise InvalidInput(f"order is {order}, needed 1 (bilinear) or 3 (bicubic)")
    rows, cols = coarse_coordinates(coarse_index, (coarse.shape[-2], coarse.shape[-1]))
    fine = np.where(np.isnan(paint_cells(coarse, coarse_index)), np.float32(np.nan), np.float32(0))
    has_gaps = fill and bool(np.isnan(fine).any())
    filled = fill_nearest(coarse) if has_gaps else coarse
    for block in _row_blocks(coarse_index.shape):
        gap, at = np.isnan(fine[..., block, :]), (rows[block], cols[block])
        values = _bilinear(coarse, *at) if order == 1 else _bicubic(coarse, *at)
        outside = _bilinear(filled, *at) if has_gaps else np.nan
        fine[..., block, :] = np.where(gap, outside, values)
    return fine


def _floor(cells: DoubleArray) -> npt.NDArray[np.int64]:
    """Cell numbers of fractional positions; -1 where the position is not finite or too far for an integer."""
    return np.where(np.abs(cells) < 2**31, np.floor(np.round(cells, BORDER_DIGITS)), -1).astype(np.int64)


def _require_index(coarse_index: IntArray, coarse_shape: tuple[int, ...]) -> None:
    require_shape("coarse_index", coarse_index, ("H", "W"))
    n_cells = coarse_shape[0] * coarse_shape[1]
    low, high = int(coarse_index.min()), int(coarse_index.max())
    if low < -1 or high >= n_cells:
        raise InvalidInput(f"coarse_index ranges from {low} to {high}, needed -1 to {n_cells - 1}")


def _cell_sums(coarse_index: IntArray, coarse_shape: tuple[int, int], weights: Array | None) -> Array:
    """Sums of ``weights`` [H, W] (None = counts) over each cell, [h, w]."""
    bins = coarse_index.ravel() + 1  # bin 0 collects the pixels outside
    flat = None if weights is None else weights.ravel()
    n_bins = coarse_shape[0] * coarse_shape[1] + 1
    return np.bincount(bins, flat, n_bins)[1:].reshape(coarse_shape)


def _fit_coordinate(cell: Array, inside: Array) -> DoubleArray:
    """Fractional coordinate [H, W] from the cell numbers [H, W] along one axis of the coarse grid."""
    rows, cols, targets = np.concatenate([_borders(cell, inside), _borders(cell.T, inside.T)[[1, 0, 2]]], axis=1)
    if np.unique(targets).size < 2:  # one border has no slope
        rows, cols = (axis.astype(np.float64) for axis in np.nonzero(inside))
        targets = cell[inside].astype(np.float64)
    row_0, col_0 = rows.mean(), cols.mean()
    design = np.stack([rows - row_0, cols - col_0, np.ones_like(rows)], axis=1)
    per_row, per_col, at_0 = np.linalg.lstsq(design, targets)[0]
    row, col = np.arange(cell.shape[0])[:, None], np.arange(cell.shape[1])
    fitted = per_row * (row - row_0) + per_col * (col - col_0) + at_0
    coordinate: DoubleArray = np.where(inside, np.clip(fitted, cell - 0.5, cell + 0.5), fitted)
    return coordinate


def _borders(cell: Array, inside: Array) -> DoubleArray:
    """Points half way between vertical neighbours in different cells: [3, n] row, col, coordinate."""
    rows, cols = np.nonzero((cell[:-1] != cell[1:]) & inside[:-1] & inside[1:])
    return np.stack([rows + 0.5, cols, (cell[rows, cols] + cell[rows + 1, cols]) / 2])


def _nearest_valid(valid: Array, rows: Array, cols: Array) -> tuple[Array, Array]:
    """Positions of the valid cells nearest to the cells ``rows``, ``cols`` [n].

    First the nearest valid row within every column, then columns ever further away, until none can be nearer.
    """
    nearest_row = _nearest_row(valid)
    best = np.full(rows.size, np.inf)
    found = np.zeros((2, rows.size), np.int64)
    for away in range(valid.shape[1]):
        for side in (-away, away):
            open_cells = np.nonzero((best > away**2) & (cols + side >= 0) & (cols + side < valid.shape[1]))[0]
            col = cols[open_cells] + side
            row = nearest_row[rows[open_cells], col]
            distance = np.where(row >= 0, (row - rows[open_cells]) ** 2.0 + away**2, np.inf)
            nearer = distance < best[open_cells]
            best[open_cells[nearer]] = distance[nearer]
            found[:, open_cells[nearer]] = row[nearer], col[nearer]
        if (best <= (away + 1) ** 2).all():
            break
    return found[0], found[1]


def _nearest_row(valid: Array) -> Array:
    """For every cell the row of the nearest valid cell of its column, -1 where the column has none."""
    n_rows = valid.shape[0]
    row = np.arange(n_rows)[:, None]
    above = np.maximum.accumulate(np.where(valid, row, -1), axis=0)
    below = np.minimum.accumulate(np.where(valid, row, n_rows)[::-1], axis=0)[::-1]
    use_above = (above >= 0) & ((row - above <= below - row) | (below == n_rows))
    return np.where(use_above, above, np.where(below < n_rows, below, -1))


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, BLOCK_PIXELS // shape[1])
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _linear_weights(t: DoubleArray) -> list[DoubleArray]:
    return [1 - t, t]


def _keys_weights(t: DoubleArray) -> list[DoubleArray]:
    return [
        t * (-0.5 + t * (1 - 0.5 * t)),
        1 + t * t * (1.5 * t - 2.5),
        t * (0.5 + t * (2 - 1.5 * t)),
        t * t * (0.5 * t - 0.5),
    ]


def _bilinear(coarse: Array, rows: DoubleArray, cols: DoubleArray) -> Array:
    """Bilinear over the valid cells; NaN where none of the four is valid."""
    total, missing = _weighted_sum(coarse, rows, cols, _linear_weights, first=0)
    present = np.asarray(1 - missing)
    result: Array = np.divide(total, present, out=np.full(total.shape, np.nan), where=present > NO_WEIGHT)
    return result


def _bicubic(coarse: Array, rows: DoubleArray, cols: DoubleArray) -> Array:
    """Bicubic, bilinear where a NaN cell would be needed."""
    total, missing = _weighted_sum(coarse, rows, cols, _keys_weights, first=-1)
    lacking = np.asarray(missing >= NO_WEIGHT)
    return np.where(lacking, _bilinear(coarse, rows, cols), total) if lacking.any() else total


def _weighted_sum(
    coarse: Array,
    rows: DoubleArray,
    cols: DoubleArray,
    weights: Callable[[DoubleArray], list[DoubleArray]],
    *,
    first: int,
) -> tuple[Array, Any]:
    """Separable weighted sum of the cells around each position, NaN counted as 0.

    Returns:
        The sum, and the absolute weight that fell on NaN cells (the number 0 where there is no NaN at all).
    """
    invalid = np.isnan(coarse)
    zeroed = np.where(invalid, 0, coarse).astype(np.float64)
    n_rows, n_cols = coarse.shape[-2:]
    if (rows == rows[:, :1]).all() and (cols == cols[:1]).all():  # parallel axes: one after the other is 4 times faster
        down, right = _taps(rows[:, 0], weights, first, n_rows), _taps(cols[0], weights, first, n_cols)
        total = _along_axes(zeroed, down, right)
        if not invalid.any():
            return total, 0.0
        absolute = [[(cell, np.abs(weight)) for cell, weight in taps] for taps in (down, right)]
        return total, _along_axes(invalid.astype(np.float64), *absolute)
    total = np.zeros((*coarse.shape[:-2], *rows.shape))
    missing: Any = np.zeros(total.shape) if invalid.any() else 0.0
    for row, row_weight in _taps(rows, weights, first, n_rows):
        for col, col_weight in _taps(cols, weights, first, n_cols):
            weight = row_weight * col_weight
            total += weight * zeroed[..., row, col]
            if invalid.any():
                missing += np.abs(weight) * invalid[..., row, col]
    return total, missing


Taps = list[tuple[IntArray, DoubleArray]]
"""The cells that a position along one axis reads, nearest the edge repeated, each with its weight."""


def _taps(
    positions: DoubleArray, weights: Callable[[DoubleArray], list[DoubleArray]], first: int, n_cells: int
) -> Taps:
    cell_0 = np.floor(positions)
    return [
        (np.clip(cell_0 + (first + i), 0, n_cells - 1).astype(np.intp), weight)
        for i, weight in enumerate(weights(positions - cell_0))
    ]


def _along_axes(values: Array, down: Taps, right: Taps) -> Array:
    """Weighted sums of ``values`` [..., h, w] along the rows, then along the columns, [..., H, W]."""
    columns = sum(weight[:, None] * values[..., cell, :] for cell, weight in down)
    total: Array = np.asarray(sum(weight * np.take(columns, cell, axis=-1) for cell, weight in right))
    return total
