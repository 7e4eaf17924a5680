"""The mode ``adaptive`` in the benchmark of I-USTFM: fitted in earnest, but with three library dates left out only."""

import gc
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from measuring import anonymous_mb, extra_mb, extra_rss_mb, measure, say
from places import TARGET, Case

from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.pipelines.iustfm import Iustfm, decode_library
from thermoscale_train.config import load_iustfm_settings
from thermoscale_train.fit_adaptive import adaptive_or_none

LEFT_OUT_DATES = 3
KEPT_DETAIL = 0.9
"""Below 1 every pixel is smoothed as well, which is the dearest case."""
LATER_TARGETS = {4: "2001-04-15T02:50Z", 8: "2002-02-15T02:50Z", 12: "2002-12-15T02:50Z"}
"""Library dates before a target, at the place with twelve dates."""

Task = Callable[[], Any]


@dataclass(frozen=True, eq=False)
class AdaptivePlace:
    """A place and what the mode learnt there."""

    case: Case
    state: AdaptiveState

    @classmethod
    def fit(cls, case: Case) -> "AdaptivePlace":
        """Fit the state of ``case``; where so few dates are left out its quality does not count, nor does time."""
        region, step = case.region, case.config.library_step
        say(f"fit of adaptive, {region.fine_shape[0]} px, {len(region.library_time)} dates")
        arrays = {
            "coarse": decode_library(region.library_coarse, step),
            "fine": decode_library(region.library_fine, step),
            "coarse_time": list(region.library_time),
            "fine_time": list(region.library_time),
            "coarse_index": np.asarray(region.coarse_index),
        }
        settings = load_iustfm_settings()
        assert settings.adaptive is not None
        few = replace(settings, adaptive=replace(settings.adaptive, left_out_dates=LEFT_OUT_DATES))
        state = adaptive_or_none(Series.from_arrays(arrays), few, seed=0)
        assert state is not None
        return cls(case, replace(state, scales=np.append(state.scales[:3], KEPT_DETAIL)))

    def open(self, threads: int, remembered: int = 2) -> Iustfm:
        """The pipeline, ready for requests."""
        case = self.case
        config = replace(case.config, adaptive=True)
        model = Iustfm(config, case.region, None, None, adaptive=self.state, threads=threads, remembered=remembered)
        model.prepare()
        return model

    def predict(self, model: Iustfm, **choices: Any) -> Task:
        """The same target image again and again."""
        return lambda: model.predict(self.case.coarse, **{"time": TARGET, "mode": "adaptive", **choices})

    def predict_new(self, model: Iustfm, **choices: Any) -> Task:
        """Another target image with every call."""
        seen = iter(range(1, 10**6))
        return lambda: model.predict(
            self.case.coarse + np.float32(1e-3 * next(seen)), **{"time": TARGET, "mode": "adaptive", **choices}
        )


def opening(place: AdaptivePlace, threads: int) -> dict[str, float | None]:
    """Seconds and memory of opening; then of the first request for another set of dates (``past_only``).

    ``resident_mb`` and ``peak_mb`` are numpy's, ``anonymous_mb`` is the process's.
    """
    say("opening of adaptive")
    start = time.perf_counter()
    place.open(threads)
    seconds, before = time.perf_counter() - start, anonymous_mb()
    tracemalloc.start()
    model = place.open(threads)
    resident, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    after = anonymous_mb()
    first = place.predict_new(model, order="past_only")
    gc.collect()
    tracemalloc.start()
    first()
    stays, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    place.predict_new(model, time=place.case.region.library_time[1])()  # a third set: the second makes way
    other_dates_s = time.perf_counter() - start
    return {
        "s": seconds,
        "resident_mb": resident / 1e6,
        "peak_mb": peak / 1e6,
        "anonymous_mb": None if before is None or after is None else after - before,
        "other_dates_s": other_dates_s,
        "other_dates_resident_mb": stays / 1e6,
        "other_dates_peak_mb": most / 1e6,
    }


def memory(places: list[AdaptivePlace], threads: int) -> dict[str, dict[str, float | None]]:
    """Extra memory of a request about a new target image, results included: numpy's peak and the process's."""
    found: dict[str, dict[str, float | None]] = {"numpy": {}, "resident": {}}
    for place in places:
        model, name = place.open(threads), f"adaptive_{len(place.case.region.library_time)}_dates"
        found["numpy"][name] = extra_mb(place.predict_new(model))
        found["resident"][name] = extra_rss_mb(place.predict_new(model))
    return found


def scaling(cases: dict[int, AdaptivePlace], many: AdaptivePlace, threads: int, repeat: int) -> dict[str, Any]:
    """Nanoseconds of processor time per pixel and library date, ratios known; ``cases`` by side."""
    tasks: dict[str, Task] = {}
    sizes: dict[str, int] = {}
    for side, place in cases.items():
        name, n_dates = f"adaptive_{side}px_{len(place.case.region.library_time)}_dates", 8
        tasks[name], sizes[name] = place.predict(place.open(threads)), side * side * n_dates
    model = many.open(threads, remembered=len(LATER_TARGETS))
    for n_dates, target in LATER_TARGETS.items():
        name = f"adaptive_{n_dates}_dates"
        tasks[name] = many.predict(model, time=target, order="past_only")
        sizes[name] = int(np.prod(many.case.region.fine_shape)) * n_dates
    timings = measure(tasks, repeat)
    return {name: {**timing, "cpu_ns": 1e9 * timing["cpu_s"] / sizes[name]} for name, timing in timings.items()}
