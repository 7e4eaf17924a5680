"""The library as the fit works on it: scaled, free of gaps, with classes; and each date left out of it in turn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_grid import CellGrid
from thermoscale.numerics.adaptive_library import LibraryView, bias_of_coarse, fill_gaps, view_library
from thermoscale.times import parse_time
from thermoscale_train.config import AdaptiveSettings

_CLUSTERED_PIXELS = 4000
_CELLS_PER_CLASS = 6
_CLASSES_PER_DATE = 8  # of few dates: classes of one scene are slices of its values, and finer ones copy its noise


@dataclass(frozen=True, eq=False)
class Scenes:
    """T dates, ascending, in standard deviations of the library.

    Attributes:
        seen: ``[N]`` some date has a value. grid: without the pixels never seen.
        raw, fine: ``[T, N]`` with and without gaps. coarse: ``[T, n]`` all, NaN = missing.
        comparable: ``[T, n]``. times: ``[T]`` median gaps. scale: mean, standard deviation, median gap in days.
        gap_mean, gap_covariance: what gaps were filled with.
    """

    grid: CellGrid
    seen: Array
    raw: Array
    fine: Array
    coarse: Array
    comparable: Array
    times: Array
    scale: tuple[float, float, float]
    gap_mean: Array
    gap_covariance: Array

    @property
    def compared(self) -> Array:
        """``[T, n]`` coarse scenes, NaN where fine pixels do not allow to compare."""
        return np.where(self.comparable, self.coarse, np.nan)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The library without one date, and what a coarse scene freed of its bias says about it.

    Attributes:
        date: position. rest: ``[T - 1]``. labels: ``[N]``. coarse: ``[n]``. truth: ``[n]`` cell means of the date.
        cells: ``[m]`` cells that teach variances.
    """

    date: int
    rest: Array
    labels: Array
    view: LibraryView
    coarse: Array
    truth: Array
    cells: Array


def scale_scenes(series: Series, min_cover: float) -> Scenes:
    """The fine dates of ``series``."""
    order = np.argsort(series.fine_time)
    times = [series.fine_time[i] for i in order]
    raw = series.fine[order].reshape(len(times), -1).astype(np.float64)
    seen = np.logical_or.reduce(np.isfinite(raw), axis=0)
    base, unit = float(np.nanmean(raw)), float(np.nanstd(raw)) + 1e-12
    days = np.array([float((parse_time(t) - parse_time(times[0])).astype(np.float64)) / 1440 for t in times])
    gap = max(float(np.median(np.diff(days))), 1e-6)
    index = np.where(seen.reshape(series.coarse_index.shape), series.coarse_index, np.int32(-1))
    grid = CellGrid(index, (series.coarse.shape[1], series.coarse.shape[2]))
    raw = (raw - base) / unit
    mean, covariance = _moments(raw)
    coarse = np.stack([series.coarse_at(time).ravel() for time in times]).astype(np.float64)
    cover = np.stack([grid.mean(np.isfinite(scene).astype(float)) for scene in raw])
    return Scenes(
        grid=grid,
        seen=seen,
        raw=raw,
        fine=fill_gaps(raw, mean, covariance),
        coarse=(coarse - base) / unit,
        comparable=cover >= min_cover,
        times=days / gap,
        scale=(base, unit, gap),
        gap_mean=mean,
        gap_covariance=covariance,
    )


def classify(fine: Array, n_classes: int, seed: int) -> Array:
    """k-means classes ``[N]`` of the pixels' series ``fine [T, N]``; centres from a sample."""
    from sklearn.cluster import KMeans  # slow to import

    features = ((fine - fine.mean(1, keepdims=True)) / (fine.std(1, keepdims=True) + 1e-12)).T.astype(np.float32)
    sample = np.random.default_rng(seed).choice(len(features), min(_CLUSTERED_PIXELS, len(features)), replace=False)
    chosen = features[np.sort(sample)]
    n_classes = min(n_classes, len(np.unique(chosen, axis=0)))
    means = KMeans(n_classes, n_init=1, max_iter=15, random_state=seed).fit(chosen)
    labels: Array = np.unique(means.predict(features), return_inverse=True)[1].ravel()
    return labels


def view_scenes(scenes: Scenes, dates: Array, labels: Array) -> LibraryView:
    """The library of ``dates`` alone."""
    return view_library([(slice(None), scenes.fine[dates])], len(dates), labels, scenes.grid)


def n_classes(scenes: Scenes, settings: AdaptiveSettings, n_dates: int) -> int:
    """Of ``n_dates`` dates: as set, or so few that each has some cells and is told apart by enough dates."""
    return max(2, min(settings.classes, scenes.grid.n // _CELLS_PER_CLASS, _CLASSES_PER_DATE * n_dates))


def leave_out(scenes: Scenes, settings: AdaptiveSettings, seed: int) -> Iterator[LeftOut]:
    """Interior dates in turn, evenly spaced, at most ``left_out_dates``; all dates where there are fewer than four."""
    n_dates, rng = len(scenes.times), np.random.default_rng(seed)
    for date in targets(n_dates, settings.left_out_dates):
        rest = np.delete(np.arange(n_dates), date)
        labels = classify(scenes.fine[rest], n_classes(scenes, settings, len(rest)), seed)
        view = view_scenes(scenes, rest, labels)
        coarse = scenes.coarse[date] + bias_of_coarse(scenes.compared[rest], view.cell_fine)
        good = np.flatnonzero(np.isfinite(scenes.compared[date]) & (scenes.grid.count > 0))
        cells = rng.permutation(good)[: settings.cells]
        yield LeftOut(date, rest, labels, view, coarse, scenes.grid.mean(scenes.fine[date]), cells)


def targets(n_dates: int, most: int) -> list[int]:
    """Positions of the dates to leave out; none of a single date."""
    inner = np.arange(1, n_dates - 1) if n_dates >= 4 else np.arange(n_dates if n_dates > 1 else 0)
    places = np.unique(np.linspace(0, len(inner) - 1, min(len(inner), most)).round()).astype(int)
    return [int(date) for date in inner[places]]


def _moments(raw: Array) -> tuple[Array, Array]:
    """Mean ``[T]`` and covariance ``[T, T]`` over the pixels that every date has."""
    full = np.isfinite(raw).all(axis=0)
    if full.sum() < 10:
        return np.nan_to_num(np.nanmean(raw, axis=1)), np.eye(len(raw))
    covariance = np.atleast_2d(np.cov(raw[:, full]))
    return raw[:, full].mean(1), covariance + 1e-3 * np.trace(covariance) / len(raw) * np.eye(len(raw))
