"""Requests of real sizes to the pipelines, by name."""

from typing import Any, NamedTuple

import numpy as np
from places import TARGET

from thermoscale.arrays import Array

SCALE_FACTOR, N_FACTORS = 4, 2
WINDOW_PX = 256


class Request(NamedTuple):
    """Named arrays for one model."""

    model: str
    arrays: dict[str, Any]


def iustfm_request(coarse: Array, window_px: int | None, seed: int = 0) -> Request:
    """A target image and a window of it somewhere in the scene, or the whole scene."""
    arrays: dict[str, Any] = {"coarse": coarse, "time": TARGET}
    if window_px is not None:
        last = 31 * coarse.shape[0] - window_px
        corner = np.random.default_rng(seed).integers(0, last, 2)
        arrays["window"] = np.array([*corner, window_px, window_px])
    return Request("iustfm", arrays)


def other_target(request: Request, number: int) -> Request:
    """The same place with a target image that was not seen before."""
    return Request(request.model, {**request.arrays, "coarse": request.arrays["coarse"] + np.float32(1e-3 * number)})


def amun_request(side_px: int) -> Request:
    """A scene of ``side_px`` x ``side_px`` fine pixels with two factors, without gaps."""
    rng, cells = np.random.default_rng(0), side_px // SCALE_FACTOR
    coarse = rng.normal(290, 5, (cells, cells)).astype(np.float32)
    factors = rng.uniform(0, 1, (N_FACTORS, cells * SCALE_FACTOR, cells * SCALE_FACTOR)).astype(np.float32)
    return Request("amun", {"coarse": coarse, "factors": factors})
