"""Robust statistics per channel. Export bakes them into the graph; the manifest repeats them for people."""

from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput

IQR_PER_SIGMA = 1.349
"""Interquartile range of a normal distribution with standard deviation 1."""


@dataclass(frozen=True)
class ChannelStats:
    """standardized = (value - offset) / scale, both [C] float32 in the channel's unit.

    Raises:
        InvalidInput: different lengths, a value that is not finite, or a scale that is not positive.
    """

    offset: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        if self.offset.ndim != 1 or self.offset.shape != self.scale.shape:
            raise InvalidInput(
                f"offset has shape {list(self.offset.shape)}, scale {list(self.scale.shape)}: needed [C] twice"
            )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise InvalidInput(
                f"offset {self.offset} and scale {self.scale}: needed finite offsets and positive scales"
            )


def fit_channel_stats(values: Array) -> ChannelStats:
    """Median and IQR / 1.349 of every channel; a channel without spread gets scale 1.

    Args:
        values: [C, ...], NaN = no data.

    Raises:
        InvalidInput: a channel without a valid value.
    """
    quartiles = np.stack([_quartiles(number, channel) for number, channel in enumerate(values)])
    low, middle, high = quartiles.T
    scale = ((high - low) / IQR_PER_SIGMA).astype(np.float32)
    return ChannelStats(offset=middle.astype(np.float32), scale=np.where(scale > 0, scale, np.float32(1)))


def standardize(values: Array, stats: ChannelStats) -> FloatArray:
    """Physical units to standardized values, [C, ...] float32; NaN stays NaN."""
    offset, scale = _along_channels(values, stats)
    return (values.astype(np.float32, copy=False) - offset) / scale


def destandardize(values: Array, stats: ChannelStats) -> FloatArray:
    """Standardized values back to physical units, [C, ...] float32."""
    offset, scale = _along_channels(values, stats)
    return values.astype(np.float32, copy=False) * scale + offset


def _quartiles(number: int, channel: Array) -> Array:
    valid = channel[~np.isnan(channel)].astype(np.float64)
    if not valid.size:
        raise InvalidInput(f"channel {number} has no valid value: leave it out")
    return np.percentile(valid, [25, 50, 75])


def _along_channels(values: Array, stats: ChannelStats) -> tuple[FloatArray, FloatArray]:
    if values.shape[:1] != stats.offset.shape:
        raise InvalidInput(f"values have shape {list(values.shape)}, needed {stats.offset.size} channels first")
    shape = (-1, *[1] * (values.ndim - 1))
    return stats.offset.reshape(shape), stats.scale.reshape(shape)
