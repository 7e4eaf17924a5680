"""Requests to an AMUN bundle: named values in, result arrays out. Keys: FORMATS, ``docs/wire-format.md``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from thermoscale.answer import Answer
from thermoscale.arrays import Array, require_keys, require_shape
from thermoscale.bundle.manifest import Manifest
from thermoscale.errors import BundleError, InvalidInput
from thermoscale.factor_ranges import known_bounds
from thermoscale.fields import read_text, read_texts
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid
from thermoscale.numerics.tiling import tile_windows
from thermoscale.pipelines.amun import Amun, AmunConfig, pack_context, unpack_context
from thermoscale.pipelines.windows import require_window
from thermoscale.request_values import (
    is_text,
    read_image,
    read_window,
    require_few_pixels,
    require_short_work,
    require_small_reply,
)
from thermoscale.runtime.timed import TimedNetwork
from thermoscale.wire.limits import Limits
from thermoscale.wire.reply_form import ReplyForm

TILE_GRAPH, CONTEXT_GRAPH = "amun.onnx", "amun_context.onnx"
LAYERS = {"lst": np.float32, "spread_k": np.float32, "flags": np.uint8}
_RETURN_CONTEXT = "return"


class AmunRequests:
    """Values: ``coarse``; ``factors`` if the bundle has any, ``factor_names`` to give them in another order;
    ``window``; ``context``, the vector of an earlier reply, or the text ``return`` to get one."""

    def __init__(self, pipeline: Amun, tile_network: TimedNetwork) -> None:
        """``tile_network`` is the one that ``pipeline`` asks for every tile."""
        self.pipeline = pipeline
        self._tile_network = tile_network

    def answer(
        self, values: Mapping[str, Any], grids: Mapping[str, Grid], limits: Limits, form: ReplyForm | None
    ) -> Answer:
        """See :class:`thermoscale.answer.Requests`."""
        config = self.pipeline.config
        factor_keys = {"factors"} if config.factor_names else set[str]()
        optional = {"window", "context"} | ({"factor_names"} if config.factor_names else set[str]())
        require_keys("request to amun", values, {"coarse"} | factor_keys, optional)
        coarse = read_image("coarse", values["coarse"])
        require_shape("coarse", coarse, ("h", "w"))
        height, width = coarse.shape[0] * config.scale_factor, coarse.shape[1] * config.scale_factor
        require_few_pixels(height, width, limits)
        window = require_window(read_window(values["window"]) if "window" in values else None, (height, width))
        require_small_reply(window.height, window.width, LAYERS, form, limits)
        tiles = tile_windows((window.height, window.width), config.tile_grid, origin=window[:2])
        require_short_work(len(tiles) * self._tile_network.fastest_s, form, limits)
        context, wanted = self._context(values)
        result = self.pipeline.predict(coarse, self._factors(values), window=window, context=context)
        arrays = {name: np.asarray(result[name]) for name in LAYERS}
        arrays["closure"] = np.asarray(result["closure"], np.float32)
        if wanted:
            arrays["context"] = pack_context(result["context"])
        facts = {"context_id": result["context_id"]}
        return Answer(arrays, facts, (window.row, window.col), fine_place(grids, config.scale_factor))

    def describe(self) -> dict[str, Any]:
        """See :class:`thermoscale.answer.Requests`; any place will do."""
        config = self.pipeline.config
        return {
            "footprint": None,
            "grid": {
                "scale_factor": config.scale_factor,
                "fine_shape": None,
                "coarse_shape": None,
                "coarse_crs": None,
                "coarse_transform": None,
            },
            "library_dates": [],
            "factors": [
                {"name": name, "unit": unit, "range": known_bounds(name, unit)}
                for name, unit in zip(config.factor_names, config.factor_units, strict=True)
            ],
            "modes": [],
        }

    def _context(self, values: Mapping[str, Any]) -> tuple[dict[str, Any] | None, bool]:
        """The context that came with the request, and whether the reply shall hold one."""
        if "context" not in values:
            return None, False
        if is_text(values["context"]):
            text = read_text("context", values["context"])
            if text != _RETURN_CONTEXT:
                raise InvalidInput(f"context is {text!r:.40}, needed an earlier reply's vector or {_RETURN_CONTEXT!r}")
            return None, True
        packed = read_image("context", values["context"])
        config = self.pipeline.config
        return unpack_context(packed, config.thumbnail_px**2, config.views), False

    def _factors(self, values: Mapping[str, Any]) -> Array | None:
        """Factors in the bundle's order."""
        names = self.pipeline.config.factor_names
        if not names:
            return None
        factors = read_image("factors", values["factors"])
        if "factor_names" not in values:
            return factors
        require_shape("factors", factors, (len(names), "H", "W"))
        given = read_texts("factor_names", values["factor_names"], len(names))
        if sorted(given) != sorted(names):
            raise InvalidInput(f"factor_names are {list(given)}, needed {list(names)} in any order")
        return factors[[given.index(name) for name in names]]


def open_amun(manifest: Manifest, networks: Mapping[str, TimedNetwork]) -> AmunRequests:
    """The pipeline of a bundle whose graphs are ``networks``, by file name.

    Raises:
        BundleError: one of the two graphs is missing.
    """
    missing = sorted({CONTEXT_GRAPH, TILE_GRAPH} - networks.keys())
    if missing:
        raise BundleError(f"amun bundle {manifest.version} lacks the graphs {missing}")
    config = AmunConfig.from_json(manifest.config)
    return AmunRequests(Amun(config, networks[CONTEXT_GRAPH], networks[TILE_GRAPH]), networks[TILE_GRAPH])


def fine_place(grids: Mapping[str, Grid], scale_factor: int) -> Georeference | None:
    """Where the fine grid lies: the factors' own grid, or the coarse grid divided."""
    if "factors" in grids:
        return Georeference(grids["factors"].crs, grids["factors"].transform)
    if "coarse" not in grids:
        return None
    a, b, c, d, e, f = grids["coarse"].transform
    s = scale_factor
    return Georeference(grids["coarse"].crs, (a / s, b / s, c, d / s, e / s, f))
