"""The table that stands for RatioNet where a bundle is served: built when it is opened, measured, or refused."""

import logging
from dataclasses import replace

from thermoscale.arrays import Network
from thermoscale.numerics.ratio_table import (
    LARGEST_ERROR_K,
    RESOLUTIONS,
    TARGET_ERROR_K,
    Range,
    RatioTable,
    build_ratio_table,
    table_error,
)
from thermoscale.pipelines.iustfm_config import IustfmConfig

_LOG = logging.getLogger(__name__)


def ratio_table(config: IustfmConfig, ratio_net: Network) -> RatioTable | None:
    """The smallest table that errs less than ``TARGET_ERROR_K``, else the finest one, if it is good enough.

    Returns:
        None where no table comes within ``LARGEST_ERROR_K`` of the network: pixels then go through the network itself,
        which the log says. ``error_k`` of a table is what export stores in the manifest.
    """
    table = measured_table(config, ratio_net)
    if table is None:
        _LOG.warning(
            "RatioNet is served directly, pixel by pixel: its range of a2 holds the pole, and so do the guards"
        )
        return None
    if not table.error_k <= allowed_error(config):
        _LOG.warning(
            "RatioNet is served directly, pixel by pixel: a table of %d x %d nodes errs by %.3g %s, allowed are %g",
            *RESOLUTIONS[-1],
            table.error_k,
            config.physical.unit,
            allowed_error(config),
        )
        return None
    return table


def measured_table(config: IustfmConfig, ratio_net: Network) -> RatioTable | None:
    """The table that :func:`ratio_table` judges, however much it errs; None where the ranges of a2 hold the pole."""
    ranges = _usable_range(config, config.range_a2_negative), _usable_range(config, config.range_a2_positive)
    if any(bounds is not None and 0.0 in bounds for bounds in ranges):
        return None
    for nodes in RESOLUTIONS:
        table = build_ratio_table(ratio_net, config.range_distance, *ranges, nodes=nodes)
        error = error_against(config, ratio_net, table)
        if error <= TARGET_ERROR_K * config.physical.kelvin:
            break
    return replace(table, error_k=error)


def error_against(config: IustfmConfig, ratio_net: Network, table: RatioTable) -> float:
    """Largest difference of ``table`` from ``ratio_net`` in changes that the quantity allows, in its unit."""
    return table_error(ratio_net, table, largest_delta=config.physical.high - config.physical.low)


def allowed_error(config: IustfmConfig) -> float:
    """``LARGEST_ERROR_K`` in the unit of the quantity."""
    return LARGEST_ERROR_K * config.physical.kelvin


def _usable_range(config: IustfmConfig, bounds: Range | None) -> Range | None:
    """``bounds`` without what the guard around the pole keeps away from RatioNet."""
    if bounds is None:
        return None
    nearest = config.guards.min_abs_one_plus_alpha
    if bounds[1] <= 0:
        return bounds[0], min(bounds[1], max(bounds[0], -nearest))
    return max(bounds[0], min(bounds[1], nearest)), bounds[1]
