"""The demo's pictures and GeoTIFFs of one held-out scene of each pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import LST, QUANTITIES, FloatArray
from thermoscale.formats import Georeference
from thermoscale.geo.rasters import NO_CRS, Raster, write_raster
from thermoscale.service import Service
from thermoscale_train.demo_data import DemoData
from thermoscale_train.evaluate_amun import scene_ids
from thermoscale_train.panels import Panel, draw_panel
from thermoscale_train.summary import served_method

LAYERS = {"amun": ("lst", "flags"), "iustfm": ("lst", "spread_k", "iqr_k", "n_triples", "flags")}
NO_PLACE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def draw(
    data: DemoData, services: Mapping[str, Service], requests: Mapping[str, Mapping[str, Any]], out: Path
) -> dict[str, list[str]]:
    """One picture and three GeoTIFFs (coarse, prediction with its quality layers, truth) of each pipeline.

    Returns:
        ``pictures`` and ``rasters``: file names in ``out``.
    """
    answers = {name: service.predict(requests[name]) for name, service in services.items()}
    panels = {"amun": _amun_panel(data, answers["amun"]), "iustfm": _iustfm_panel(data, services, answers["iustfm"])}
    pictures = [draw_panel(panel, out / f"{name}.png").name for name, panel in panels.items()]
    test = data.fold("test")
    places = {
        "amun": (coarse_place(test.fine_georeference(0), test.scale_factor), test.fine_georeference(0)),
        "iustfm": (data.series.coarse_georeference, data.series.fine_georeference),
    }
    rasters = []
    for name, panel in panels.items():
        layers = {layer: answers[name][layer].astype(np.float32) for layer in LAYERS[name]}
        coarse, fine = places[name]
        rasters += [
            _write(out / f"{name}_coarse.tif", {"coarse": panel.coarse}, coarse),
            _write(out / f"{name}_prediction.tif", layers, fine),
            _write(out / f"{name}_truth.tif", {"fine": panel.truth}, fine),
        ]
    return {"pictures": pictures, "rasters": rasters}


def coarse_place(fine: Georeference | None, scale_factor: float) -> Georeference | None:
    """The coarse grid with the same corner as ``fine``."""
    if fine is None:
        return None
    a, b, c, d, e, f = fine.transform
    s = scale_factor
    return Georeference(fine.crs, (a * s, b * s, c, d * s, e * s, f))


def _amun_panel(data: DemoData, answer: Mapping[str, Any]) -> Panel:
    test = data.fold("test")
    if test.fine is None:
        raise AssertionError("the demo's pairs have a truth")
    fine_px, coarse_px = data.amun_pixel
    return Panel(
        title=f"AMUN: scene {scene_ids(test)[0]}, ground that no fit has seen",
        subtitles=(f"coarse, {coarse_px}", f"prediction, {fine_px}", f"truth, {fine_px}"),
        coarse=test.coarse[0],
        prediction=answer["lst"],
        truth=test.fine[0],
        quantity=LST,
        pixel=fine_px,
    )


def _iustfm_panel(data: DemoData, services: Mapping[str, Service], answer: Mapping[str, Any]) -> Panel:
    fine_px, coarse_px = data.iustfm_pixel
    mode = served_method(services["iustfm"]).removeprefix("iustfm_")
    return Panel(
        title=f"I-USTFM ({mode}): {data.shown[:10]}, a date that no fit has seen",
        subtitles=(f"coarse, {coarse_px}", f"prediction, {fine_px}", f"truth, {fine_px}"),
        coarse=data.series.coarse_at(data.shown),
        prediction=answer["lst"],
        truth=data.series.fine_at(data.shown),
        quantity=QUANTITIES[data.series.quantity],
        pixel=fine_px,
    )


def _write(path: Path, layers: Mapping[str, FloatArray], place: Georeference | None) -> str:
    crs, transform = (NO_CRS, NO_PLACE) if place is None else (place.crs, place.transform)
    write_raster(path, Raster(np.stack(list(layers.values())), crs, transform, tuple(layers)))
    return path.name
