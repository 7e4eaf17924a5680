"""Requests to an I-USTFM bundle: named values in, result arrays out. Keys: FORMATS, ``docs/wire-format.md``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.answer import Answer
from thermoscale.arrays import Array, Network, require_keys
from thermoscale.bundle.manifest import Manifest
from thermoscale.errors import BundleError, InvalidInput
from thermoscale.fields import as_array, read_text
from thermoscale.formats import Georeference, Series, canonical_time
from thermoscale.geo.alignment import Grid, outer_bounds, require_same_grid
from thermoscale.geo.longitude import centre_longitude, local_time
from thermoscale.numerics.adaptive_state import ADAPTIVE_NAMES, AdaptiveState
from thermoscale.numerics.grids import cell_counts
from thermoscale.numerics.triples import ORDERS, TripleOrder, enumerate_triples
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region
from thermoscale.pipelines.iustfm_coarse import require_suspects
from thermoscale.pipelines.iustfm_config import ADAPTIVE
from thermoscale.pipelines.iustfm_table import ratio_table
from thermoscale.pipelines.region import REGION_NAMES
from thermoscale.pipelines.windows import require_window
from thermoscale.request_values import (
    read_image,
    read_number,
    read_time_pairs,
    read_window,
    read_yes_no,
    require_few_pixels,
    require_few_triples,
    require_short_work,
    require_small_reply,
)
from thermoscale.wire.limits import Limits
from thermoscale.wire.reply_form import ReplyForm

DYNET_GRAPH, RATIO_NET_GRAPH = "dynet.onnx", "ratio_net.onnx"
LAYERS = {"lst": np.float32, "spread_k": np.float32, "iqr_k": np.float32, "n_triples": np.uint8, "flags": np.uint8}
REMEMBERED_TARGETS = 2
"""Target images whose ratios are kept, so that the windows of one ask DyNet once: at most 20 MB each."""

_SECONDS_PER_PIXEL_AND_TRIPLE = 2e-8
"""With RatioNet on one thread of an ordinary processor (13 to 20 ns measured); the closed form is twice as fast."""

_OPTIONAL = {"window", "triples", "mode", "order", "past_only", "min_baseline_k", "suspects"}
_SERIES_KEYS = {field.name for field in fields(Series)}
_GRIDS = ("coarse", "fine")


class IustfmRequests:
    """Values: ``time`` and ``coarse``, or ``time`` and a Series of own scenes; ``window``, ``triples``, ``mode``,
    ``order`` (or ``past_only``), ``min_baseline_k``, ``suspects``."""

    def __init__(self, pipeline: Iustfm, georeference: Mapping[str, Any] | None, modes: Sequence[str]) -> None:
        """``modes``: those that the bundle has, the default first."""
        self._pipeline = pipeline
        self._modes = tuple(modes)
        self._grids = _bundle_grids(pipeline.region, georeference)
        self._longitude = centre_longitude(self._grids["fine"]) if self._grids else None

    def answer(
        self, values: Mapping[str, Any], grids: Mapping[str, Grid], limits: Limits, form: ReplyForm | None
    ) -> Answer:
        """See :class:`thermoscale.answer.Requests`."""
        own = "fine" in values
        needed = {"coarse", "coarse_time", "fine", "fine_time", "time"} if own else {"coarse", "time"}
        require_keys("request to iustfm", values, needed, _OPTIONAL | (_SERIES_KEYS - needed if own else set()))
        window = require_window(
            read_window(values["window"]) if "window" in values else None, self._pipeline.region.fine_shape
        )
        require_few_pixels(window.height, window.width, limits)
        require_small_reply(window.height, window.width, LAYERS, form, limits)
        self._require_place(grids)
        series = self._series(values) if own else None
        time = canonical_time(read_text("time", values["time"]))
        order = _read_order(values)
        pairs = read_time_pairs(values["triples"], limits) if "triples" in values else None
        min_baseline_k = read_number("min_baseline_k", values["min_baseline_k"]) if "min_baseline_k" in values else None
        mode = self._pipeline.choose_mode(
            read_text("mode", values["mode"]) if "mode" in values else None,
            triples=pairs,
            series=series,
            min_baseline_k=min_baseline_k,
        )
        if mode != ADAPTIVE:
            n_triples = self._count_triples(series, time, order or "ordered") if pairs is None else len(pairs)
            require_few_triples(n_triples, limits)
            pixels = window.height * window.width
            require_short_work(pixels * n_triples * _SECONDS_PER_PIXEL_AND_TRIPLE, form, limits)
        result = self._pipeline.predict(
            None if own else read_image("coarse", values["coarse"]),
            time,
            window=window,
            triples=pairs,
            mode=mode,
            order=order,
            series=series,
            min_baseline_k=min_baseline_k,
            suspects=require_suspects(read_text("suspects", values["suspects"])) if "suspects" in values else "warn",
        )
        local = None if self._longitude is None else local_time(time, self._longitude)
        facts = {"dates_used": result["dates_used"], "mode": result["mode"], **result["facts"]}
        facts |= {"times": {"utc": time, "local": local}}
        fine = self._grids.get("fine")
        place = Georeference(fine.crs, fine.transform) if fine else None
        return Answer({name: result[name] for name in LAYERS}, facts, (window.row, window.col), place)

    def describe(self) -> dict[str, Any]:
        """See :class:`thermoscale.answer.Requests`; only the bundle's own place will do."""
        region, grids = self._pipeline.region, self._grids
        fine, coarse = grids.get("fine"), grids.get("coarse")
        pixels = cell_counts(region.coarse_index, region.coarse_shape)
        return {
            "footprint": None if fine is None else {**asdict(fine), "bounds": outer_bounds(fine)},
            "grid": {
                "scale_factor": float(np.sqrt(np.median(pixels[pixels > 0]))),
                "fine_shape": region.fine_shape,
                "coarse_shape": region.coarse_shape,
                "coarse_crs": None if coarse is None else coarse.crs,
                "coarse_transform": None if coarse is None else coarse.transform,
            },
            "library_dates": list(region.library_time),
            "factors": [],
            "modes": list(self._modes),
        }

    def _series(self, values: Mapping[str, Any]) -> Series:
        """Own scenes; their link to the coarse grid is the bundle's unless they bring one."""
        arrays = {name: value for name, value in values.items() if name in _SERIES_KEYS}
        series = Series.from_arrays({"coarse_index": np.asarray(self._pipeline.region.coarse_index), **arrays})
        places = {"coarse": series.coarse_georeference, "fine": series.fine_georeference}
        shapes = {"coarse": series.coarse.shape[1:], "fine": series.fine.shape[1:]}
        self._require_place(
            {name: Grid(place.crs, place.transform, shapes[name]) for name, place in places.items() if place}
        )
        return series

    def _require_place(self, grids: Mapping[str, Grid]) -> None:
        """Whatever says where it lies must lie where the bundle does."""
        for name in grids.keys() & self._grids.keys():
            require_same_grid(f"the bundle's {name} grid", self._grids[name], name, grids[name])

    def _count_triples(self, series: Series | None, time: str, order: TripleOrder) -> int:
        times = self._pipeline.region.library_time if series is None else series.fine_time
        others = [other for other in times if other != time]
        return len(enumerate_triples(others, time, order))


def _read_order(values: Mapping[str, Any]) -> TripleOrder | None:
    """``order``, or what ``past_only`` stands for; both only if they agree; None where the request asks for none."""
    past_only = "past_only" in values and read_yes_no("past_only", values["past_only"])
    if "order" not in values:
        return "past_only" if past_only else None
    text = read_text("order", values["order"])
    for order in ORDERS:
        if text == order and not (past_only and order != "past_only"):
            return order
    raise InvalidInput(
        f"order is {text!r:.40}{' and past_only is true' if past_only else ''}, needed one of {list(ORDERS)}; "
        "past_only = true means order = past_only"
    )


def open_iustfm(folder: Path, manifest: Manifest, networks: Mapping[str, Network], threads: int = 1) -> IustfmRequests:
    """The pipeline of the bundle in ``folder``; graphs that the bundle does not hold are left out.

    Raises:
        BundleError: a region file is missing or no plain array.
    """
    region = Region.from_arrays({name: _open_array(folder / "region" / f"{name}.npy") for name in REGION_NAMES})
    config = IustfmConfig.from_json(manifest.config)
    dynet, ratio_net = networks.get(DYNET_GRAPH), networks.get(RATIO_NET_GRAPH)
    pipeline = Iustfm(
        config,
        region,
        dynet,
        ratio_net,
        table=None if ratio_net is None else ratio_table(config, ratio_net),
        threads=threads,
        remembered=REMEMBERED_TARGETS,
        adaptive=_open_adaptive(folder) if config.adaptive else None,
    )
    pipeline.prepare()
    have = {"closed_form": True, "rationet": ratio_net is not None, ADAPTIVE: config.adaptive}
    modes = sorted((mode for mode in have if have[mode]), key=lambda mode: mode != config.mode)
    return IustfmRequests(pipeline, manifest.georeference, modes)


def _open_adaptive(folder: Path) -> AdaptiveState:
    """The state in the bundle's region."""
    names = {name: folder / "region" / f"adaptive_{name}.npy" for name in ADAPTIVE_NAMES}
    return AdaptiveState.from_arrays({name: _open_array(path) for name, path in names.items()})


def _open_array(path: Path) -> Array:
    """A memory map: the workers of one version share it."""
    try:
        return as_array(path.name, np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {error}") from error


def _bundle_grids(region: Region, georeference: Mapping[str, Any] | None) -> dict[str, Grid]:
    if georeference is None:
        return {}
    shapes = {"coarse": region.coarse_shape, "fine": region.fine_shape}
    return {
        name: Grid(georeference[f"{name}_crs"], tuple(georeference[f"{name}_transform"]), shapes[name])
        for name in _GRIDS
    }
