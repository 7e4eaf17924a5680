"""AMUN on GeoTIFFs larger than memory: factors read by windows, rows written as they are done, one COG at the end.

The answer is :meth:`thermoscale.service.Service.predict`'s for the whole scene. Only the coarse image is held whole.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermoscale.amun_requests import AmunRequests, fine_place
from thermoscale.arrays import FloatArray
from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.factor_ranges import require_factor
from thermoscale.geo.alignment import Grid, require_same_bounds
from thermoscale.geo.rasters import Raster, read_raster
from thermoscale.geo.windowed import (
    WindowedRaster,
    block_cache,
    create_rows,
    finish_cog,
    open_windowed,
    write_rows,
)
from thermoscale.mosaic_work import State, Work
from thermoscale.numerics.closure import closure_residual
from thermoscale.numerics.grids import regular_index
from thermoscale.pipelines.amun import Amun, AmunConfig, pack_context, unpack_context
from thermoscale.pipelines.amun_strips import AmunStrips, ReadFactors
from thermoscale.pipelines.windows import Window
from thermoscale.service import Service, open_bundle
from thermoscale.wire.geotiff import reply_tags

DEFAULT_MEMORY_MB = 176
BANDS = ("lst", "spread_k", "flags")
_MB = 10**6
_CACHE_SHARE = 0.3
"""Of the memory, for decoded blocks: rows of tiles overlap, and their common blocks are needed again."""
_STRIP_BYTES = 80
"""Per pixel of a strip: float64 sums and weight of the blend, the answers, their masks."""
_TILE_BYTES, _TILE_BYTES_OF_A_FACTOR = 160, 16
"""Per pixel of the tiles whose inputs are prepared together: interpolation, and three copies of each factor."""
_READ_BYTES, _READ_BYTES_OF_A_FACTOR = 60, 4
"""Per pixel of rows that are read for the thumbnail."""
_DISK_BYTES = 33
"""Per pixel on the disk, at most: raster so far and COG, three bands of float32 each, and twice the COG's overviews."""


class Scene(NamedTuple):
    """An open scene: coarse image in memory, factors on the disk.

    Attributes:
        grid: the fine grid.
        block_rows: height of the factor file's blocks.
    """

    coarse: FloatArray
    grid: Grid
    read_factors: ReadFactors
    block_rows: int


class Plan(NamedTuple):
    """How much is in memory at once; see :func:`plan`."""

    cache_bytes: int
    tiles_at_once: int
    rows_at_once: int


def downscale(
    bundle: Path,
    coarse: Path,
    factors: Path | None,
    out: Path,
    *,
    memory_mb: int = DEFAULT_MEMORY_MB,
    progress: Callable[[int, int], None] = lambda *_: None,
    say: Callable[[str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Downscale GeoTIFFs of any height to the COG ``out``.

    Stopped at any moment and called again with the same bundle and inputs, it goes on after the last finished strip;
    the bands are then bit for bit those of an undisturbed run with the same ``memory_mb``. What is done so far lies in
    ``.<name of out>.work`` beside ``out``.

    Args:
        coarse: one band, unit of the bundle's quantity.
        factors: a band for each of the bundle's factors, named by its description; None for a bundle without any.
        memory_mb: for the work, beside the program, the networks and the coarse image.
        progress: is told the strips that are done, and all.
        say: is told what a person should know.

    Returns:
        ``meta`` of the result.

    Raises:
        InvalidInput: the files do not fit the bundle or each other, or the memory holds not even one row of tiles.
        BundleError: see :func:`thermoscale.service.open_bundle`.
        Unavailable: rasterio is missing, the disk is full, or another process works on ``out``.
    """
    if out.resolve() in {path.resolve() for path in (coarse, factors) if path}:
        raise InvalidInput(f"{out} is an input, too: name another result")
    service = open_bundle(bundle)
    amun = _amun_of(service)
    sizes = plan(amun.config, _width_of(factors, coarse, amun.config), memory_mb)
    work = Work(out)
    with block_cache(sizes.cache_bytes), _open_scene(amun.config, coarse, factors) as scene, work.locked():
        strips = AmunStrips(amun, scene.coarse, scene.read_factors, tiles_at_once=sizes.tiles_at_once)
        key = {"bundle": service.manifest.digest, "coarse": _stamp(coarse), "factors": factors and _stamp(factors)}
        state = _continue(work, key, len(strips.rows), say)
        if state is None:
            say("reading the scene once, for its context")
            state = _begin(service, work, scene, strips, sizes.rows_at_once, key)
        context = unpack_context(state.context, amun.config.thumbnail_px**2, amun.config.views)
        state = _predict(work, key, state, strips, context, progress)
        closure = _closure(work.raster, scene.coarse, amun.config, sizes.rows_at_once)
        tags = reply_tags(state.meta, {"closure": closure}, [], georeferenced=True)
        finish_cog(work.raster, tags, work.cog, out)
        work.forget()
    return state.meta


def plan(config: AmunConfig, width: int, memory_mb: int) -> Plan:
    """Divide the memory between decoded blocks, the strip at work, and the inputs of as many tiles as then fit.

    Args:
        width: of the fine grid.

    Raises:
        InvalidInput: not even one tile fits; the message says how much is needed.
    """
    grid, n_factors = config.tile_grid, len(config.factor_names)
    tile_bytes = grid.tile_px * (_TILE_BYTES + n_factors * _TILE_BYTES_OF_A_FACTOR)
    strip_bytes = _STRIP_BYTES * width * (grid.stride_px + grid.overlap_px)
    cache_bytes = int(_CACHE_SHARE * memory_mb * _MB)
    rest = memory_mb * _MB - cache_bytes - strip_bytes
    if rest < grid.tile_px * tile_bytes:
        needed = (strip_bytes + grid.tile_px * tile_bytes) / (1 - _CACHE_SHARE) / _MB
        raise InvalidInput(
            f"{memory_mb} MB of memory are too few for {width} columns in tiles of {grid.tile_px} pixels with "
            f"{n_factors} factors, needed at least {int(needed) + 1} MB"
        )
    tiles = (rest // tile_bytes - grid.tile_px) // grid.stride_px + 1
    rows = rest // (width * (_READ_BYTES + n_factors * _READ_BYTES_OF_A_FACTOR))
    return Plan(cache_bytes, int(tiles), max(1, int(rows)))


def _amun_of(service: Service) -> Amun:
    if not isinstance(service.requests, AmunRequests):
        raise InvalidInput(f"the bundle is of {service.pipeline}, needed one of amun: fusion has no large scenes")
    return service.requests.pipeline


def _width_of(factors: Path | None, coarse: Path, config: AmunConfig) -> int:
    """Columns of the fine grid."""
    with open_windowed(factors or coarse) as raster:
        return raster.grid.shape[1] * (1 if factors else config.scale_factor)


@contextmanager
def _open_scene(config: AmunConfig, coarse_path: Path, factors_path: Path | None) -> Iterator[Scene]:
    """The scene of two files that fit each other and the bundle.

    Raises:
        InvalidInput: they do not; the message names file, CRS, transform and shape.
    """
    coarse = read_raster(coarse_path)
    if len(coarse.values) != 1:
        raise InvalidInput(f"{coarse_path} has the bands {list(coarse.names)}, needed one: the coarse image")
    if (factors_path is None) != (not config.factor_names):
        needed = f"a file with the bands {list(config.factor_names)}" if config.factor_names else "none"
        raise InvalidInput(f"factors are {factors_path}, needed {needed}")
    if factors_path is None:
        place = fine_place({"coarse": coarse.grid}, config.scale_factor)
        assert place is not None
        shape = (coarse.shape[0] * config.scale_factor, coarse.shape[1] * config.scale_factor)
        yield Scene(coarse.values[0], Grid(place.crs, place.transform, shape), _no_factors, 1)
        return
    with open_windowed(factors_path) as factors:
        _require_fit(config, str(coarse_path), coarse, factors)
        yield Scene(coarse.values[0], factors.grid, _reader(config, factors), factors.block_rows)


def _require_fit(config: AmunConfig, coarse_name: str, coarse: Raster, factors: WindowedRaster) -> None:
    require_same_bounds(factors.name, factors.grid, coarse_name, coarse.grid)
    needed = (coarse.shape[0] * config.scale_factor, coarse.shape[1] * config.scale_factor)
    if factors.grid.shape != needed:
        ratios = [round(fine / n, 4) for fine, n in zip(factors.grid.shape, coarse.shape, strict=True)]
        raise InvalidInput(
            f"{factors.name} has shape {list(factors.grid.shape)}, transform {factors.grid.transform} and is {ratios} "
            f"times finer than {coarse_name} of shape {list(coarse.shape)}, transform {coarse.transform}; the bundle "
            f"needs exactly {config.scale_factor}, which is {list(needed)}: resample one of them"
        )
    if sorted(factors.names) != sorted(config.factor_names):
        raise InvalidInput(
            f"{factors.name} has the bands {list(factors.names)}, needed {list(config.factor_names)} in any order"
        )


def _reader(config: AmunConfig, factors: WindowedRaster) -> ReadFactors:
    bands = [factors.names.index(name) for name in config.factor_names]

    def read(window: Window) -> FloatArray:
        values = factors.read(bands, *window.slices)
        for name, unit, factor in zip(config.factor_names, config.factor_units, values, strict=True):
            require_factor(name, unit, factor)
        return values

    return read


def _no_factors(window: Window) -> FloatArray:
    return np.zeros((0, window.height, window.width), np.float32)


def _stamp(path: Path) -> list[Any]:
    """What changes when a file does."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _continue(work: Work, key: Mapping[str, Any], total: int, say: Callable[[str], None]) -> State | None:
    """The state of earlier work on the same, if there is any."""
    earlier, state = work.key(), work.read(key)
    if state is not None:
        say(f"going on after {state.done} of {total} strips, found in {work.folder}")
    elif earlier is not None:
        others = sorted(name for name in key if earlier.get(name) != key[name])
        say(f"the work in {work.folder} had another {' and '.join(others)}: starting anew")
    return state


def _begin(
    service: Service, work: Work, scene: Scene, strips: AmunStrips, rows_at_once: int, key: Mapping[str, Any]
) -> State:
    """Read all factors once, for the context of the scene; make the raster."""
    work.forget()
    needed, free = _DISK_BYTES * int(np.prod(scene.grid.shape)), shutil.disk_usage(work.folder).free
    if free < needed:
        raise Unavailable(f"the disk of {work.folder.parent} has {free // _MB} MB free, needed {needed // _MB} MB")
    whole_blocks = rows_at_once // scene.block_rows * scene.block_rows
    context = strips.context(whole_blocks or rows_at_once)
    create_rows(work.raster, scene.grid, BANDS)
    meta = service.meta({"context_id": context["id"]})
    state = State(0, pack_context(context), strips.nothing_carried(), meta)
    work.save(key, state)
    return state


def _predict(
    work: Work,
    key: Mapping[str, Any],
    state: State,
    strips: AmunStrips,
    context: Mapping[str, Any],
    progress: Callable[[int, int], None],
) -> State:
    """The strips that are not done yet."""
    progress(state.done, len(strips.rows))
    for number in range(state.done, len(strips.rows)):
        strip = strips.predict(number, state.carry, context)
        if len(strip.lst):
            write_rows(work.raster, strip.row, np.stack([strip.lst, strip.spread_k, strip.flags.astype(np.float32)]))
        state = state._replace(done=number + 1, carry=strip.carry)
        work.save(key, state)
        progress(state.done, len(strips.rows))
    return state


def _closure(path: Path, coarse: FloatArray, config: AmunConfig, rows_at_once: int) -> float:
    """RMSE of the closure residual over all coarse cells, float32 as in every reply."""
    step, scale, total, count = max(1, rows_at_once // config.scale_factor), config.scale_factor, 0.0, 0
    with open_windowed(path) as raster:
        for first in range(0, len(coarse), step):
            cells = coarse[first : first + step]
            rows = slice(first * scale, (first + len(cells)) * scale)
            lst = raster.read([0], rows, slice(0, raster.grid.shape[1]))[0]
            shape = (cells.shape[0], cells.shape[1])
            residual = closure_residual(lst, cells, regular_index(shape, (lst.shape[0], lst.shape[1])))
            known = residual[np.isfinite(residual)].astype(np.float64)
            total, count = total + float(np.sum(known**2)), count + known.size
    return float(np.float32(np.sqrt(total / count))) if count else float("nan")
