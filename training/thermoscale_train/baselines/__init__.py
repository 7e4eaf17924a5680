"""What every pipeline is compared with: one file each, one call signature per task, ids as in FORMATS."""

from collections.abc import Callable, Mapping

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.formats import Series
from thermoscale_train.baselines.estarfm import estarfm
from thermoscale_train.baselines.fdc import fdc_median, fdc_median_residual, fdc_nearest
from thermoscale_train.baselines.fitfc import fitfc
from thermoscale_train.baselines.interpolation import (
    bicubic,
    bicubic_closed,
    bilinear,
    fusion_bicubic,
    fusion_bilinear,
    nearest,
)
from thermoscale_train.baselines.persistence import persistence
from thermoscale_train.baselines.starfm import starfm
from thermoscale_train.baselines.time_interp import time_interp
from thermoscale_train.baselines.ustfm import ustfm

FusionMethod = Callable[[Series, FloatArray, str], FloatArray]
"""``method(library, coarse_target [h, w], time) -> [H, W]``; the library holds no image of ``time``.

Raises Undetermined where the library does not determine an answer, such as no date on one side of ``time``.
"""

DownscalingMethod = Callable[[FloatArray, FloatArray | None, IntArray], FloatArray]
"""``method(coarse [h, w], factors [F, H, W] | None, coarse_index [H, W]) -> [H, W]``."""

FUSION: Mapping[str, FusionMethod] = {
    "bilinear": fusion_bilinear,
    "bicubic": fusion_bicubic,
    "persistence": persistence,
    "time_interp": time_interp,
    "fdc_nearest": fdc_nearest,
    "fdc_median": fdc_median,
    "fdc_median_residual": fdc_median_residual,
    "starfm": starfm,
    "estarfm": estarfm,
    "fitfc": fitfc,
    "ustfm": ustfm,
}

DOWNSCALING: Mapping[str, DownscalingMethod] = {
    "nearest": nearest,
    "bilinear": bilinear,
    "bicubic": bicubic,
    "bicubic_closed": bicubic_closed,
}
