"""Synthetic worlds with a known answer: a dated series for fusion, and pairs with factors for downscaling.

Everything is deterministic from the seed. Temperatures are kelvin. The worlds are clear-sky and simple on purpose:
what a method should be able to recover, and what not, can be read from the few lines that make the truth.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.formats import Pairs, Series
from thermoscale.testing.fields import block_mean, cloud_map, patches, shifted, smooth_field

CRS = "EPSG:32647"
FINE_PIXEL_M = 100.0
CORNER_M = (500_000.0, 5_300_000.0)
LAPSE_K_PER_M = 0.0065
UTC_OFFSET_HOURS = 6.6  # local solar time at 99 degrees east


class LandCover(NamedTuple):
    """Mean surface temperature of a class and how far it swings over the year and over the day, K."""

    name: str
    base_k: float
    seasonal_k: float
    diurnal_k: float


LAND_COVERS = (
    LandCover("water", 285.0, 8.0, 1.0),
    LandCover("forest", 286.0, 10.0, 4.0),
    LandCover("crop", 288.0, 13.0, 8.0),
    LandCover("bare", 291.0, 16.0, 13.0),
    LandCover("urban", 292.0, 13.0, 9.0),
)


@dataclass(frozen=True)
class World:
    """A series and what is true behind it.

    Attributes:
        series: what the sensors saw: noise, clouds and misregistration included.
        truth: ``[Tc, H, W]`` float32 K, the fine image of EVERY coarse date, without noise, clouds or gaps.
        land_cover: ``[H, W]`` int32, index into :data:`LAND_COVERS`.
        elevation: ``[H, W]`` float32 m.
    """

    series: Series
    truth: FloatArray
    land_cover: IntArray
    elevation: FloatArray


def make_series(
    seed: int,
    *,
    fine_shape: tuple[int, int] = (120, 120),
    scale_factor: int = 10,
    n_dates: int = 24,
    days_between: int = 8,
    fine_every: int = 3,
    class_change: bool = True,
    smooth_change_k: float = 0.5,
    weather_k: float = 2.0,
    class_weather_k: float = 0.0,
    coarse_noise_k: float = 0.3,
    fine_noise_k: float = 0.3,
    cloud_share: float = 0.0,
    shift_px: tuple[int, int] = (0, 0),
) -> World:
    """A world seen by a daily coarse sensor and, every ``fine_every`` dates, by a fine one.

    With ``smooth_change_k=0`` and no noise every land cover changes as one: one change ratio per class is exact.
    With ``class_change=False`` all classes swing alike, so fine(target) = fine(other) + a smooth field.

    Args:
        fine_shape: ``(H, W)``, multiples of ``scale_factor``.
        smooth_change_k: standard deviation of a smooth field drawn anew for every date, K.
        weather_k: standard deviation of the offset of a whole date, K.
        class_weather_k: the same of each class on each date: rain wets the bare soil more than the forest.
        coarse_noise_k, fine_noise_k: sensor noise per pixel, K.
        cloud_share: mean share of a scene under clouds; both sensors miss what is under them.
        shift_px: misregistration of the coarse sensor in fine pixels (rows, columns).
    """
    rng = np.random.default_rng(seed)
    elevation = 800.0 + 300.0 * smooth_field(rng, fine_shape, fine_shape[0] / 6)
    land_cover = patches(rng, fine_shape, len(LAND_COVERS), fine_shape[0] / 12)
    texture = 0.8 * smooth_field(rng, fine_shape, 1.5)
    days = 5.0 + days_between * np.arange(n_dates)
    hours = 10.5 + rng.uniform(-0.7, 0.7, n_dates)
    signal = class_signal(days, hours, class_change=class_change)
    signal += weather_k * rng.standard_normal((n_dates, 1))
    change = [smooth_change_k * smooth_field(rng, fine_shape, fine_shape[0] / 4) for _ in range(n_dates)]
    if class_weather_k > 0.0:
        signal += class_weather_k * rng.standard_normal(signal.shape)
    still = texture - LAPSE_K_PER_M * (elevation - 800.0)
    truth = signal[:, land_cover] + still + np.stack(change)

    clouds = np.stack(
        [cloud_map(rng, fine_shape, cloud_share * rng.uniform(0.0, 2.0), scale_factor * 2.0) for _ in days]
    )
    coarse: Array = block_mean(shifted(truth, shift_px), scale_factor)
    coarse = coarse + coarse_noise_k * rng.standard_normal(coarse.shape)
    coarse[block_mean(clouds, scale_factor) > 0.5] = np.nan
    fine = truth + fine_noise_k * rng.standard_normal(truth.shape)
    fine[clouds] = np.nan
    times, dated = _times(days, hours), np.arange(1, n_dates, fine_every)
    arrays: dict[str, Any] = {
        "coarse": coarse.astype(np.float32),
        "coarse_time": times,
        "fine": fine[dated].astype(np.float32),
        "fine_time": times[dated],
        "coarse_local_hour": hours.astype(np.float32),
        "fine_local_hour": hours[dated].astype(np.float32),
        "fine_crs": CRS,
        "fine_transform": np.array(transform_of(1)),
        "coarse_crs": CRS,
        "coarse_transform": np.array(transform_of(scale_factor)),
    }
    if coarse_noise_k > 0.0:
        arrays["coarse_error"] = np.full(n_dates, coarse_noise_k, np.float32)
    return World(Series.from_arrays(arrays), truth.astype(np.float32), land_cover, elevation.astype(np.float32))


def make_yearly(
    seed: int, *, n_years: int = 9, coarse_shape: tuple[int, int] = (16, 16), scale_factor: int = 11
) -> Series:
    """One fine scene a year in the same season, each with a coarse partner that is exactly its cell means.

    Like a series of yearly 30 m LST epochs (METHODS 4): scenes of nearly one mean, whose detail of many sizes partly
    stays and partly is new every year, on parcels of which a quarter changes its use from one year to the next.
    """
    rng = np.random.default_rng(seed)
    shape = (coarse_shape[0] * scale_factor, coarse_shape[1] * scale_factor)
    lasting, n_parcels = _detail(rng, shape), 40
    parcels = patches(rng, shape, n_parcels, 6.0)
    use = rng.standard_normal(n_parcels)
    fine = []
    for _ in range(n_years):
        use = np.where(rng.random(n_parcels) < 0.25, rng.standard_normal(n_parcels), use)
        contrast, weather = 1.0 + 0.2 * rng.standard_normal(), 1.2 * rng.standard_normal()
        noise = 0.4 * rng.standard_normal(shape)
        fine.append(305.0 + weather + 2.0 * contrast * lasting + 0.9 * use[parcels] + 1.4 * _detail(rng, shape) + noise)
    times = np.array([f"{2000 + year}-07-15T12:00Z" for year in range(n_years)])
    scenes = np.stack(fine).astype(np.float32)
    arrays = {"fine": scenes, "fine_time": times, "coarse": block_mean(scenes, scale_factor), "coarse_time": times}
    return Series.from_arrays(arrays)


def _detail(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Detail of many sizes, ``[H, W]`` of variance 1: octaves from 1.5 to 48 pixels, the larger the stronger."""
    octaves = [size**0.5 * smooth_field(rng, shape, size) for size in (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)]
    total = np.sum(octaves, axis=0)
    detail: Array = total / total.std()
    return detail


def class_signal(days: Array, hours: Array, *, class_change: bool = True) -> Array:
    """Temperature of every class on every date, ``[T, n_classes]`` float64 K: base + season + time of day.

    Args:
        days: ``[T]`` day of the year. The year is warmest on day 200.
        hours: ``[T]`` local solar time. The day is warmest at 13:30.
    """
    base, seasonal, diurnal = np.array([cover[1:] for cover in LAND_COVERS]).T
    if not class_change:
        seasonal, diurnal = np.full_like(base, seasonal.mean()), np.full_like(base, diurnal.mean())
    season = np.cos(2.0 * np.pi * (np.asarray(days) - 200.0) / 365.25)[:, None]
    time_of_day = np.cos(2.0 * np.pi * (np.asarray(hours) - 13.5) / 24.0)[:, None]
    signal: Array = base + seasonal * season + diurnal * time_of_day
    return signal


def transform_of(
    scale_factor: int, corner_px: tuple[int, int] = (0, 0)
) -> tuple[float, float, float, float, float, float]:
    """Transform of the grid with ``scale_factor`` whose corner is ``corner_px`` (row, col) of its own pixels away."""
    side = FINE_PIXEL_M * scale_factor
    return (side, 0.0, CORNER_M[0] + corner_px[1] * side, 0.0, -side, CORNER_M[1] - corner_px[0] * side)


def _times(days: Array, hours: Array) -> Array:
    """ISO times ``[T]`` str in UTC, minutes."""
    minutes = np.round((days - 1.0) * 1440.0 + (hours - UTC_OFFSET_HOURS) * 60.0).astype("timedelta64[m]")
    times = np.datetime64("2020-01-01T00:00", "m") + minutes
    return np.array([f"{time}Z" for time in times])


def make_pairs(
    seed: int,
    *,
    n_grounds: int = 4,
    scenes_per_ground: int = 3,
    coarse_shape: tuple[int, int] = (16, 16),
    scale_factor: int = 4,
    coarse_noise_k: float = 0.3,
    bias_k: float = 0.0,
    factor_gap_share: float = 0.0,
) -> Pairs:
    """Pairs whose fine detail depends on two factors, ndvi and elevation, by one law for all scenes.

    Scenes of one ground overlap (their ``corner`` says how); grounds are far apart. So a split by ground is needed,
    and ``group`` names the right one.

    Args:
        bias_k: standard deviation of a per-scene bias of the coarse sensor, K.
        factor_gap_share: share of the ndvi that is missing, in patches.
    """
    rng = np.random.default_rng(seed)
    height, width = coarse_shape
    ground_shape = ((height + height // 2) * scale_factor, (width + width // 2) * scale_factor)
    columns: dict[str, list[Any]] = {"fine": [], "factors": [], "coarse": [], "corner": [], "group": []}
    for ground in range(n_grounds):
        ndvi, elevation = _ground(rng, ground_shape)
        for _ in range(scenes_per_ground):
            row, col = rng.integers(0, height // 2 + 1), rng.integers(0, width // 2 + 1)
            window = np.s_[
                row * scale_factor : (row + height) * scale_factor,
                col * scale_factor : (col + width) * scale_factor,
            ]
            fine = fine_from_factors(ndvi[window], elevation[window], 295.0 + 5.0 * rng.standard_normal())
            fine = fine + 0.5 * smooth_field(rng, fine.shape, fine.shape[0] / 4)
            noise = coarse_noise_k * rng.standard_normal(coarse_shape) + bias_k * rng.standard_normal()
            gaps = cloud_map(rng, fine.shape, factor_gap_share, 4.0)
            columns["fine"].append(fine)
            columns["coarse"].append(block_mean(fine, scale_factor) + noise)
            columns["factors"].append(np.stack([np.where(gaps, np.nan, ndvi[window]), elevation[window]]))
            columns["corner"].append((row, col + ground * 10 * width))
            columns["group"].append(ground)
    arrays: dict[str, Any] = {key: np.array(columns[key], np.float32) for key in ("fine", "factors", "coarse")}
    arrays |= {key: np.array(columns[key], np.int32) for key in ("corner", "group")}
    arrays |= {"factor_names": np.array(["ndvi", "elevation"]), "factor_units": np.array(["1", "m"])}
    arrays["id"] = np.array([str(number) for number in range(len(columns["fine"]))])
    arrays["crs"] = CRS
    corners = arrays["corner"] * scale_factor
    arrays["transform"] = np.array([transform_of(1, (int(row), int(col))) for row, col in corners])
    return Pairs.from_arrays(arrays)


def fine_from_factors(ndvi: Array, elevation: Array, base_k: float) -> Array:
    """The law of :func:`make_pairs`, K: bare ground is up to 12 K warmer than full cover, and it cools with height."""
    cover = np.clip((ndvi - 0.1) / 0.7, 0.0, 1.0)
    fine: Array = base_k + 12.0 * (0.5 - cover**1.5) - LAPSE_K_PER_M * (elevation - 800.0)
    return fine


def _ground(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    """One piece of land: ndvi in fields with soft borders, and elevation in m."""
    fields = patches(rng, shape, 6, 5.0)
    greenness = rng.uniform(0.1, 0.85, 6)
    ndvi = np.clip(greenness[fields] + 0.06 * smooth_field(rng, shape, 2.0), -0.1, 0.95)
    return ndvi, 800.0 + 350.0 * smooth_field(rng, shape, shape[0] / 6)
