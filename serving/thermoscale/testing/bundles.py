"""Tiny bundles whose answer is known: real files, real ONNX graphs, a real golden sample, no training.

- amun: lst = bicubic coarse, without gaps in between;
- iustfm: every HCR of a clip has the mean change ratio of the clip's cells, RatioNet divides exactly. In a world where
  every pixel changes by one ratio per triple (:func:`linear_series`), the answer is the truth.
"""

from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden
from thermoscale.bundle.write import write_bundle
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import Guards
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.pipelines.amun import Amun, AmunConfig
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region, encode_library
from thermoscale.testing.graphs import (
    amun_context_graph,
    amun_tile_graph,
    dynet_graph,
    ratio_net_graph,
)

_CRS = "EPSG:32631"
_CHANNELS = 2
_TRAINING = {"source": "thermoscale.testing.bundles: nothing was trained"}


def write_tiny_amun(
    folder: Path,
    *,
    version: str = "0.0.1",
    scale_factor: int = 4,
    factor_names: tuple[str, ...] = ("ndvi",),
    coarse_shape: tuple[int, int] = (12, 16),
    tile_px: int = 32,
    seed: int = 0,
) -> Path:
    """Write an AMUN bundle that returns its interpolated coarse image, as the folder ``folder``.

    ``coarse_shape`` is that of the golden sample only; the bundle answers any scene.
    """
    config = tiny_amun_config(scale_factor=scale_factor, factor_names=factor_names, tile_px=tile_px)
    tokens, n_factors = config.thumbnail_px**2, len(factor_names)
    graphs = {
        "amun.onnx": amun_tile_graph(_CHANNELS, tokens, n_factors=n_factors, tile_px=config.tile_px),
        "amun_context.onnx": amun_context_graph(
            _CHANNELS, tokens, n_factors=n_factors, thumbnail_px=config.thumbnail_px
        ),
    }
    inputs = tiny_amun_request(config, coarse_shape, seed)
    result = Amun(config, thumbnail_tokens, identity).predict(inputs["coarse"], inputs.get("factors"))
    outputs = {"lst": result["lst"], "flags": result["flags"], "closure": np.float32(result["closure"])}
    return write_bundle(
        folder,
        pipeline="amun",
        version=version,
        quantity=config.quantity,
        sky="clear-sky",
        config=config.to_json(),
        training=_TRAINING,
        metrics={},
        versions={"numpy": np.__version__},
        contents={**graphs, GOLDEN_NAME: encode_golden(inputs, outputs)},
    )


def tiny_amun_config(
    *, scale_factor: int = 4, factor_names: tuple[str, ...] = ("ndvi",), tile_px: int = 32
) -> AmunConfig:
    """Small tiles with a halo of 4, blended over 8."""
    return AmunConfig(
        factor_names=factor_names,
        factor_units=("1",) * len(factor_names),
        scale_factor=scale_factor,
        tile_px=tile_px,
        halo_px=4,
        overlap_px=8,
        multiple_px=8,
        context_px=(64, 64),
    )


def tiny_amun_request(config: AmunConfig, coarse_shape: tuple[int, int] = (12, 16), seed: int = 0) -> dict[str, Any]:
    """A request with one missing coarse cell and, if the config names factors, a few missing factor pixels."""
    rng = np.random.default_rng(seed)
    coarse = (290.0 + 5.0 * rng.standard_normal(coarse_shape)).astype(np.float32)
    coarse[coarse_shape[0] // 2, 1] = np.nan
    if not config.factor_names:
        return {"coarse": coarse}
    fine_shape = (coarse_shape[0] * config.scale_factor, coarse_shape[1] * config.scale_factor)
    factors = rng.uniform(0.0, 1.0, (len(config.factor_names), *fine_shape)).astype(np.float32)
    factors[:, :3, :5] = np.nan
    return {"coarse": coarse, "factors": factors}


def write_tiny_iustfm(
    folder: Path,
    *,
    version: str = "0.0.1",
    fine_shape: tuple[int, int] = (48, 64),
    scale_factor: int = 8,
    mode: str = "rationet",
    georeferenced: bool = True,
    seed: int = 0,
) -> Path:
    """Write an I-USTFM bundle of the place of :func:`linear_series`; the target of its golden sample is not in it."""
    series = linear_series(seed, fine_shape=fine_shape, scale_factor=scale_factor)
    config, region = tiny_iustfm_config(mode=mode), tiny_region(series)
    target = series.coarse_time[2]
    inputs = {"coarse": series.coarse_at(target), "time": np.array(target)}
    result = Iustfm(config, region, mean_ratio, division).predict(inputs["coarse"], target)
    outputs = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
    graphs = {"dynet.onnx": dynet_graph(config.m_max, config.h_max), "ratio_net.onnx": ratio_net_graph()}
    arrays = {f"region/{name}.npy": value for name, value in region.to_arrays().items()}
    return write_bundle(
        folder,
        pipeline="iustfm",
        version=version,
        quantity=config.quantity,
        sky="clear-sky",
        config=config.to_json(),
        training=_TRAINING,
        metrics={},
        versions={"numpy": np.__version__},
        contents={**graphs, **arrays, GOLDEN_NAME: encode_golden(inputs, outputs)},
        georeference=_place(series) if georeferenced else None,
    )


def tiny_iustfm_config(*, mode: str = "rationet") -> IustfmConfig:
    """Four HCRs, wide training ranges, the published guards; the spread of its exact answers needs no factor."""
    return IustfmConfig(
        n_hcr=4,
        h_max=8,
        m_max=64,
        guards=Guards(),
        mode=mode,
        range_distance=(0.0, 200.0),
        range_a2_negative=(-20.0, -0.01),
        range_a2_positive=(0.01, 20.0),
        spread_factors={"rationet": 1.0, "closed_form": 1.0},
        published=mode,
    )


def linear_series(seed: int = 0, *, fine_shape: tuple[int, int] = (48, 64), scale_factor: int = 8) -> Series:
    """Six dates of one place, five with a fine image; every pixel changes by one ratio per triple.

    fine(t) = pattern_0 + s(t) * pattern_1, so that alpha is the same everywhere and the closed form is exact. The third
    date has a coarse image only: its truth is :func:`linear_truth`.
    """
    fine = np.stack([linear_truth(seed, date, fine_shape) for date in range(len(_SEASON))])
    coarse_shape = (fine_shape[0] // scale_factor, fine_shape[1] // scale_factor)
    index = regular_index(coarse_shape, fine_shape)
    times = [f"2020-{month:02d}-15T10:30Z" for month in range(1, len(_SEASON) + 1)]
    dated = [date for date in range(len(_SEASON)) if date != 2]
    arrays: dict[str, Any] = {
        "coarse": area_mean(fine, index, coarse_shape),
        "coarse_time": times,
        "fine": fine[dated],
        "fine_time": [times[date] for date in dated],
        "coarse_index": index,
        "fine_crs": _CRS,
        "fine_transform": (100.0, 0.0, 500_000.0, 0.0, -100.0, 5_000_000.0),
        "coarse_crs": _CRS,
        "coarse_transform": (100.0 * scale_factor, 0.0, 500_000.0, 0.0, -100.0 * scale_factor, 5_000_000.0),
    }
    return Series.from_arrays(arrays)


_SEASON = (0.0, 0.35, 0.6, 1.0, 0.8, 0.2)


def linear_truth(seed: int, date: int, fine_shape: tuple[int, int] = (48, 64)) -> FloatArray:
    """The fine image ``[H, W]`` of one date of :func:`linear_series`, K."""
    rng = np.random.default_rng(seed)
    still = 280.0 + rng.normal(0.0, 2.0, fine_shape)
    swing = rng.uniform(15.0, 25.0, fine_shape)
    truth: FloatArray = (still + _SEASON[date] * swing).astype(np.float32)
    return truth


def tiny_region(series: Series) -> Region:
    """Four HCRs in a chequered pattern, two clips side by side, all fine dates of ``series`` as the library."""
    height, width = series.fine.shape[1:]
    rows, cols = np.indices((height, width))
    labels: IntArray = (2 * (rows // 4 % 2) + cols // 6 % 2).astype(np.int32)
    half = width // 2
    partners = [series.coarse_time.index(time) for time in series.fine_time]
    return Region(
        labels=labels,
        coarse_index=series.coarse_index,
        slots=np.arange(series.coarse[0].size, dtype=np.int32),
        clips=np.array([[0, 0, height, half], [0, half, height, width - half]], np.int32),
        library_time=series.fine_time,
        library_coarse=encode_library(series.coarse[partners], 0.01),
        library_fine=encode_library(series.fine, 0.01),
    )


def _place(series: Series) -> dict[str, Any]:
    return {
        "fine_crs": series.fine_crs,
        "fine_transform": list(series.fine_transform or ()),
        "coarse_crs": series.coarse_crs,
        "coarse_transform": list(series.coarse_transform or ()),
    }


# What the graphs compute, in numpy: the golden sample must not be made by the program that checks it.


def identity(inputs: Any) -> dict[str, Array]:
    return {"lst": inputs["coarse"], "spread": np.zeros_like(inputs["coarse"])}


def thumbnail_tokens(inputs: Any) -> dict[str, Array]:
    lst = inputs["thumb"][:, :1]
    weighted = lst * inputs["thumb_valid"][:, :1]
    k, v = (np.tile(image.reshape(1, 1, -1), (1, _CHANNELS, 1)) for image in (lst, weighted))
    return {"k": k, "v": v, "gate": weighted.mean(axis=(2, 3)), "bias": np.zeros((1, 1), np.float32)}


def mean_ratio(inputs: Any) -> dict[str, Array]:
    kept = np.where(inputs["valid"], inputs["alpha"], 0.0)
    mean = kept.sum(axis=1, keepdims=True) / inputs["valid"].sum(axis=1, keepdims=True)
    return {"alpha_hcr": np.where(inputs["hcr_present"], mean, np.nan).astype(np.float32)}


def division(inputs: Any) -> dict[str, Array]:
    return {"delta": inputs["distance"] / inputs["a2"]}
