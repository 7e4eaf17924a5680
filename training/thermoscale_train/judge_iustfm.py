"""Judging I-USTFM on dates that took no part in its training: the served computation, scored as evaluate scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray, Network
from thermoscale.errors import ThermoscaleError, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.numerics.change_ratio import coarse_alpha
from thermoscale.numerics.grids import interpolate
from thermoscale.numerics.hcr import hcr_alpha
from thermoscale.numerics.triples import enumerate_triples
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region, clip_cells, clip_hcr
from thermoscale.pipelines.iustfm_config import ADAPTIVE, MODES
from thermoscale.pipelines.iustfm_pixels import NORMAL_IQR
from thermoscale.pipelines.iustfm_ratios import dynet_ratios
from thermoscale.pipelines.library import stored_library
from thermoscale.pipelines.windows import Window

JUDGED_PX = 256
GOLDEN_PX = 48
ONE_SIGMA = 0.6827
SPREAD_FACTOR_RANGE = (0.1, 10.0)


@dataclass(frozen=True)
class Verdict:
    """Mean over the dates of the RMSE (gaps filled with bilinear coarse), and the calibration of the spread.

    ``spread_factor`` is None where no pixel has an answer of several triples.
    """

    rmse: float
    spread_factor: float | None


class Judge:
    """Held-out dates of one place.

    Args:
        series: holds the coarse and fine scenes of ``times``.
        region: whose library, HCRs and slots were made without them.
        times: fine dates of ``series``.
    """

    def __init__(self, series: Series, region: Region, times: tuple[str, ...]) -> None:
        self._series, self._region, self._times = series, region, times
        self._window = central_window(region.fine_shape, JUDGED_PX)
        place = self._window.slices
        self._truth = [series.fine_at(time)[place] for time in times]
        self._bilinear = [
            interpolate(series.coarse_at(time), series.coarse_index, order=1, fill=True)[place] for time in times
        ]

    def scorer(self, config: IustfmConfig, dynet: Network, ratio_net: Network | None) -> Callable[[], float]:
        """A function that scores the networks as they are when it is called; ``rationet`` where there is a RatioNet."""
        pipeline = Iustfm(config, self._region, dynet, ratio_net)
        return lambda: self._verdict(pipeline, "closed_form" if ratio_net is None else "rationet").rmse

    def verdicts(self, config: IustfmConfig, dynet: Network, ratio_net: Network) -> dict[str, Verdict]:
        """One verdict per mode."""
        pipeline = Iustfm(config, self._region, dynet, ratio_net)
        return {mode: self._verdict(pipeline, mode) for mode in MODES}

    def adaptive_rmse(self, config: IustfmConfig, state: AdaptiveState) -> float:
        """Of the mode ``adaptive``, fitted without the dates as the region was."""
        return self._verdict(Iustfm(config, self._region, None, None, adaptive=state), ADAPTIVE).rmse

    def bilinear_rmse(self) -> float:
        """What the interpolated coarse image would have scored."""
        return float(np.mean([_rmse(a, b) for a, b in zip(self._bilinear, self._truth, strict=True)]))

    def alpha_sd(self, config: IustfmConfig, dynet: Network) -> float:
        """DyNet's error in the change ratio of an HCR over the held-out triples, robust 1 sigma."""
        region, guards = self._region, config.guards.scaled(config.physical)
        library = stored_library(region, config.library_step)
        cells, present = clip_cells(region), clip_hcr(region, config.h_max)
        errors: list[Array] = []
        for time in self._times:
            coarse, fine = self._series.coarse_at(time), self._series.fine_at(time)
            for triple in enumerate_triples(library.times, time):
                if not library.baseline_of(triple.pre, triple.post) >= guards.min_baseline_k:
                    continue
                pre, post = library.coarse_at(triple.pre), library.coarse_at(triple.post)
                alpha = coarse_alpha(pre, coarse, post, guards).reshape(1, -1)
                got = dynet_ratios(config, region, dynet, alpha, cells=cells, hcr_present=present)[0]
                fine_pre, fine_post = library.fine_at(triple.pre), library.fine_at(triple.post)
                true = hcr_alpha(fine_pre, fine, fine_post, region.labels, config.n_hcr)
                errors.append((got - true)[np.isfinite(got - true) & (np.abs(true) <= guards.max_abs_alpha)])
        pooled = np.concatenate(errors) if errors else np.zeros(0)
        return float(np.median(np.abs(pooled)) * 2 / NORMAL_IQR) if pooled.size else 0.0

    def _verdict(self, pipeline: Iustfm, mode: str) -> Verdict:
        errors, ratios = [], []
        for time, truth, bilinear in zip(self._times, self._truth, self._bilinear, strict=True):
            answer = self._answer(pipeline, time, mode)
            lst = answer["lst"] if answer else np.full_like(truth, np.nan)
            errors.append(_rmse(np.where(np.isfinite(lst), lst, bilinear), truth))
            if answer:
                ratios.append(_error_per_spread(lst, truth, answer["iqr_k"]))
        pooled = np.concatenate(ratios) if ratios else np.zeros(0)
        factor = float(np.clip(np.quantile(pooled, ONE_SIGMA), *SPREAD_FACTOR_RANGE)) if pooled.size else None
        return Verdict(float(np.mean(errors)), factor)

    def _answer(self, pipeline: Iustfm, time: str, mode: str) -> dict[str, Any] | None:
        """None where the library cannot answer: every pixel then counts as a gap."""
        try:
            return pipeline.predict(self._series.coarse_at(time), time, mode=mode, window=self._window)
        except Undetermined:
            return None


def golden_request(series: Series, config: IustfmConfig, region: Region) -> dict[str, Array]:
    """A small request that the pipeline can answer: the middle of the place on some date with a coarse scene.

    The pooled closed form is asked, which needs no network; whatever it answers, the networks answer, too.

    Raises:
        Undetermined: there is no such date, so nothing could be served.
    """
    pipeline = Iustfm(config_without_networks(config), region, None, None)
    window = central_window(region.fine_shape, GOLDEN_PX)
    times = sorted(set(series.coarse_time), key=lambda time: (time not in region.library_time, time))
    reasons = []
    for time in times[1:] + times[:1]:
        coarse = series.coarse_at(time)
        for past_only in (False, True):
            try:
                answer = pipeline.predict(coarse, time, window=window, order="past_only" if past_only else "ordered")
            except ThermoscaleError as error:
                reasons.append(f"{time}: {error}")
                continue
            if np.isfinite(answer["lst"]).any():
                request = {"coarse": coarse.copy(), "time": np.asarray(time), "window": np.array(window, np.int32)}
                return {**request, **({"past_only": np.asarray(True)} if past_only else {})}
    raise Undetermined(f"the library answers on no date with a coarse scene; {'; '.join(reasons[:3])}")


def config_without_networks(config: IustfmConfig) -> IustfmConfig:
    """The same place, served in the one mode that needs no network."""
    return IustfmConfig(**{**vars(config), "mode": "closed_form"})


def central_window(shape: tuple[int, int], side: int) -> Window:
    """The middle of a grid, at most ``side`` square."""
    height, width = min(side, shape[0]), min(side, shape[1])
    return Window((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def _error_per_spread(lst: FloatArray, truth: FloatArray, iqr: FloatArray) -> Array:
    known = np.isfinite(lst) & np.isfinite(truth) & (iqr > 0)
    errors: Array = np.abs(lst - truth)[known] / (iqr[known] / NORMAL_IQR)
    return errors


def _rmse(lst: FloatArray, truth: FloatArray) -> float:
    valid = np.isfinite(truth) & np.isfinite(lst)
    return float(np.sqrt(np.mean((lst - truth)[valid].astype(np.float64) ** 2)))
