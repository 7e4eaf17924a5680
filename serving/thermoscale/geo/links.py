"""The coarse_index of two georeferenced grids."""

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import IntArray
from thermoscale.errors import InvalidInput
from thermoscale.geo.alignment import OnGrid, parse_crs
from thermoscale.numerics.grids import index_from_transforms

Coordinates = npt.NDArray[np.float64]


def link_grids(coarse: OnGrid, fine: OnGrid) -> IntArray:
    """For every fine pixel the coarse cell that holds its centre: row * w + col, -1 outside; [H, W].

    The grids may have different CRS: then the cells are sheared on the fine grid.

    Raises:
        InvalidInput: no fine pixel lies in any coarse cell, or a CRS is not understood.
        Unavailable: rasterio is missing.
    """
    source, target = parse_crs("the fine grid", fine.crs), parse_crs("the coarse grid", coarse.crs)

    def to_coarse(x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        from rasterio import warp

        mapped_x, mapped_y = warp.transform(source, target, x.ravel(), y.ravel())
        return np.reshape(mapped_x, x.shape), np.reshape(mapped_y, y.shape)

    mapping = None if source == target else to_coarse
    index = index_from_transforms(coarse.transform, coarse.shape, fine.transform, fine.shape, mapping)
    if (index < 0).all():
        raise InvalidInput("the coarse and the fine grid do not overlap: check CRS and transform of both")
    return index
