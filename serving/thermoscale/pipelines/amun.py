"""AMUN: one coarse image and fine surface factors in, one fine image out.

The networks are passed in and speak physical units:

    context: thumb, thumb_valid [1, 1+F, P, P] -> k, v [V, C, P*P], gate [V, G], bias [1, 1]
    tile: coarse [1, 1, T, T], factors [1, F, T, T], valid [1, 1+F, T, T], context -> lst, spread [1, 1, T, T]

Tiles lie on one global grid whose origin is the scene's corner. Their outer halo is read and discarded, and nothing
but the context knows of the rest of the scene, so an answer does not depend on how the scene was cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray, Network, require_quantity, require_shape
from thermoscale.numerics.closure import closure_residual
from thermoscale.numerics.grids import cell_counts, paint_cells
from thermoscale.numerics.tiling import Blend, read_tile, tile_windows
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale.pipelines.amun_context import CONTEXT_NAMES, context_id, pack_context, unpack_context
from thermoscale.pipelines.amun_inputs import (
    fillable,
    fine_shape,
    fine_to_coarse,
    prepare_tile_inputs,
    require_factors,
    thumbnail,
)
from thermoscale.pipelines.flags import COARSE_MISSING, FALLBACK_USED
from thermoscale.pipelines.windows import Window, require_window

__all__ = [
    "Amun",
    "AmunConfig",
    "context_id",
    "fine_shape",
    "fine_to_coarse",
    "pack_context",
    "prepare_tile_inputs",
    "thumbnail",
    "unpack_context",
]


class Amun:
    """The pipeline: context once per scene, tiles of the global grid, one blended image."""

    def __init__(self, config: AmunConfig, context_network: Network, tile_network: Network) -> None:
        self.config = config
        self._context_network = context_network
        self._tile_network = tile_network

    def context(self, coarse: FloatArray, factors: FloatArray | None) -> dict[str, Any]:
        """What the tiles know of the whole scene: arrays ``k``, ``v``, ``gate``, ``bias`` and their ``id``."""
        return self.context_of(*thumbnail(self.config, coarse, factors))

    def context_of(self, thumb: FloatArray, thumb_valid: FloatArray) -> dict[str, Any]:
        """The context of the scene with this thumbnail (:func:`thermoscale.pipelines.amun_inputs.thumbnail`)."""
        outputs = self._context_network({"thumb": thumb, "thumb_valid": thumb_valid})
        context = {name: outputs[name] for name in CONTEXT_NAMES}
        return {**context, "id": context_id(context)}

    def predict(
        self,
        coarse: Array,
        factors: Array | None,
        *,
        window: Sequence[int] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Downscale a scene, or one window of it.

        Args:
            coarse: ``[h, w]`` in the unit of the config's quantity, NaN = no data.
            factors: ``[F, H, W]`` in their units, NaN = no data; None if the config names none.
            window: row, col, height, width in fine pixels; the answer is that crop of the whole scene's answer.
            context: what :meth:`context` gave for a larger scene; default: the context of this one. With the
                context of the scene, a chunk whose corner is a multiple of ``multiple_px`` gets the scene's values
                wherever it holds a halo of ``halo_px`` and three coarse cells around them.

        Returns:
            ``lst`` float32 and ``flags`` uint8 on the window, ``closure`` (RMSE of the closure residual over the
            coarse cells that lie wholly in the window, NaN if none), ``context`` and ``context_id``.

            A missing coarse cell beside a valid one is filled by interpolation; farther ones are NaN. Both carry
            flag bit 0. Bit 4: no tile around this pixel held a coarse value, the network was not asked.

        Raises:
            InvalidInput: arrays of another shape, type or unit; a window outside the scene.
        """
        coarse = require_quantity("coarse", coarse, self.config.physical)
        require_shape("coarse", coarse, ("h", "w"))
        factors = require_factors(self.config, coarse, factors)
        chosen = require_window(window, fine_shape(self.config, coarse))
        context = self.context(coarse, factors) if context is None else context
        index = fine_to_coarse(self.config, coarse)[chosen.slices]
        (lst, spread), asked = self._predict_window(coarse, factors, chosen, context)
        lost = np.isnan(coarse) & ~fillable(coarse)
        lst[lost.ravel()[index]] = spread[lost.ravel()[index]] = np.nan
        flags = np.where(np.isnan(paint_cells(coarse, index)), COARSE_MISSING, 0)
        flags = np.where(asked, flags, flags | FALLBACK_USED).astype(np.uint8)
        closure = _closure(lst, coarse, index, self.config.scale_factor)
        images = {"lst": lst, "spread_k": spread, "flags": flags}
        return {**images, "closure": closure, "context": context, "context_id": context["id"]}

    def _predict_window(
        self, coarse: FloatArray, factors: FloatArray, chosen: Window, context: Mapping[str, Any]
    ) -> tuple[FloatArray, Array]:
        """``lst`` and ``spread_k`` on the window, and where the network was asked; elsewhere it is interpolated."""
        coarse_fine, filled, valid = prepare_tile_inputs(self.config, coarse, factors)
        image, grid = np.concatenate([coarse_fine, filled, valid]), self.config.tile_grid
        blend = Blend((chosen.height, chosen.width), grid, layers=2)
        for row, col in tile_windows((chosen.height, chosen.width), grid, origin=chosen[:2]):
            tile = read_tile(image, (row + chosen.row, col + chosen.col), grid)
            if tile[1 + len(factors)].any():
                blend.add((row, col), self.predict_tile(tile, context))
        blended = blend.result()
        asked = np.isfinite(blended[0])
        blended[0] = np.where(asked, blended[0], coarse_fine[0][chosen.slices])
        return blended, asked

    def predict_tile(self, tile: FloatArray, context: Mapping[str, Any]) -> FloatArray:
        """``lst`` and ``spread_k`` ``[2, T, T]`` of one tile ``[2 + 2F, T, T]``: coarse, factors, valid.

        A network without factors has no such input.
        """
        n_factors = len(self.config.factor_names)
        inputs = {"coarse": tile[None, :1], "valid": tile[None, 1 + n_factors :]}
        if n_factors:
            inputs["factors"] = tile[None, 1 : 1 + n_factors]
        answers = self._tile_network({**inputs, **{name: context[name] for name in CONTEXT_NAMES}})
        return np.concatenate([answers["lst"][0], answers["spread"][0]])


def _closure(lst: FloatArray, coarse: FloatArray, index: IntArray, scale_factor: int) -> float:
    """RMSE of the closure residual over the coarse cells that lie wholly inside the window."""
    whole = cell_counts(index, coarse.shape) == scale_factor**2
    residual = closure_residual(lst, coarse, index)[whole]
    residual = residual[np.isfinite(residual)].astype(np.float64)
    return float(np.sqrt(np.mean(residual**2))) if residual.size else float("nan")
