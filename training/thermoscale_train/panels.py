"""Pictures of a prediction beside its truth: coarse, prediction, truth on one colour scale, and the error."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import FloatArray, Quantity

SPREAD_PERCENT = (1.0, 99.0)


@dataclass(frozen=True)
class Panel:
    """What one picture shows; all images ``[H, W]`` but ``coarse`` ``[h, w]``, unit of ``quantity``, NaN = no data.

    Attributes:
        title: above the picture.
        subtitles: of coarse, prediction and truth; the error's is made from its RMSE and bias.
        pixel: side of a fine pixel with its unit, such as "232 m"; empty where it is unknown.
    """

    title: str
    subtitles: tuple[str, str, str]
    coarse: FloatArray
    prediction: FloatArray
    truth: FloatArray
    quantity: Quantity
    pixel: str = ""


def draw_panel(panel: Panel, path: Path) -> Path:
    """Write ``panel`` as a PNG: three images on one colour scale and the error on a symmetric one of its own."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(15.5, 4.3), layout="constrained", dpi=110)
    axes = figure.subplots(1, 4)
    figure.suptitle(panel.title, fontsize=14)
    extent = (0, panel.truth.shape[1], panel.truth.shape[0], 0)
    low, high = common_range([panel.coarse, panel.prediction, panel.truth])
    images = (panel.coarse, panel.prediction, panel.truth)
    for axis, image, subtitle in zip(axes, images, panel.subtitles, strict=False):
        shown = _show(axis, image, subtitle, extent, "inferno", low, high)
    figure.colorbar(
        shown, ax=list(axes[:3]), shrink=0.95, pad=0.01, label=_label(panel.quantity), extend="both", aspect=30
    )
    error = panel.prediction - panel.truth
    limit = symmetric_limit(error)
    shown = _show(axes[3], error, _error_title(error, panel.quantity), extent, "RdBu_r", -limit, limit)
    unit = _unit(panel.quantity)
    figure.colorbar(
        shown, ax=axes[3], shrink=0.95, label=f"prediction - truth{unit and f',{unit}'}", extend="both", aspect=30
    )
    axes[0].set_ylabel(f"fine pixels{' of ' + panel.pixel if panel.pixel else ''}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def common_range(images: Sequence[FloatArray]) -> tuple[float, float]:
    """One range for all images: the 1st to the 99th percentile of their values, so that one outlier hides nothing."""
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    low, high = np.percentile(values, SPREAD_PERCENT) if values.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def symmetric_limit(error: FloatArray) -> float:
    """The 99th percentile of the absolute error: the scale of the error runs from minus that to that."""
    values = np.abs(error[np.isfinite(error)])
    return (float(np.percentile(values, SPREAD_PERCENT[1])) if values.size else 0.0) or 1.0


def _show(
    axis: Any,
    image: FloatArray,
    title: str,
    extent: tuple[int, int, int, int],
    colours: str,
    low: float,
    high: float,
) -> Any:
    axis.set_facecolor("0.75")  # no data
    axis.set_title(title, fontsize=11)
    axis.tick_params(labelsize=8)
    return axis.imshow(image, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")


def _error_title(error: FloatArray, quantity: Quantity) -> str:
    values = error[np.isfinite(error)]
    if not values.size:
        return "error: no pixel with both"
    rmse, bias = float(np.sqrt(np.mean(values**2))), float(values.mean())
    return f"error: RMSE {rmse:.3g}{_unit(quantity)}, bias {bias:+.2g}{_unit(quantity)}"


def _label(quantity: Quantity) -> str:
    names = {"lst": "land surface temperature", "reflectance": "reflectance"}
    return names.get(quantity.name, quantity.name) + ("" if quantity.unit == "1" else f", {quantity.unit}")


def _unit(quantity: Quantity) -> str:
    return "" if quantity.unit == "1" else f" {quantity.unit}"
