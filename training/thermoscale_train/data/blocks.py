"""One fine scene as Pairs of blocks: each block is a scene of its own ground, its coarse image the cell means."""

from collections.abc import Sequence

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference, Pairs
from thermoscale.geo.alignment import window_georeference
from thermoscale.numerics.grids import area_mean, regular_index


def cut_blocks(
    fine: FloatArray,
    factors: FloatArray,
    names: Sequence[str],
    units: Sequence[str],
    georeference: Georeference,
    *,
    block_px: int,
    scale_factor: int,
) -> Pairs:
    """Pairs of every whole block, row by row; what is left over at the lower and right border is dropped.

    Args:
        fine: ``[H, W]`` K. factors: ``[F, H, W]`` on the same grid, with ``names`` and ``units``.
        georeference: of the fine grid.
        block_px: side of a block, fine pixels; a multiple of ``scale_factor``.

    Returns:
        Pairs with ids ``r<row>c<col>`` of the block's first fine pixel, and ``corner`` in coarse cells.

    Raises:
        InvalidInput: a block that holds no whole number of coarse cells, or does not fit into the scene.
    """
    if block_px % scale_factor or block_px > min(fine.shape):
        raise InvalidInput(
            f"blocks of {block_px} px in a scene of {list(fine.shape)}: needed a multiple of {scale_factor} that fits"
        )
    rows, cols = (range(0, length - block_px + 1, block_px) for length in fine.shape)
    origins = [(row, col) for row in rows for col in cols]
    truth = np.stack([fine[row : row + block_px, col : col + block_px] for row, col in origins])
    cells = (block_px // scale_factor, block_px // scale_factor)
    places = [window_georeference(georeference, row, col).transform for row, col in origins]
    return Pairs.from_arrays(
        {
            "coarse": area_mean(truth, regular_index(cells, (block_px, block_px)), cells),
            "fine": truth,
            "factors": np.stack([factors[:, row : row + block_px, col : col + block_px] for row, col in origins]),
            "factor_names": list(names),
            "factor_units": list(units),
            "corner": np.array(origins, np.int32) // scale_factor,
            "id": [f"r{row}c{col}" for row, col in origins],
            "crs": georeference.crs,
            "transform": np.array(places),
        }
    )
