"""What past_only and unordered triples cost: the table of serving/docs/todays-map.md (pytest -s shows it)."""

from pathlib import Path

import numpy as np
import pytest

from thermoscale.arrays import QUANTITIES
from thermoscale.errors import Undetermined
from thermoscale.geo.datasets import read_series
from thermoscale.numerics.triples import ORDERS
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig
from thermoscale_train.config import load_iustfm_settings
from thermoscale_train.data.region import library_step, make_region
from thermoscale_train.usable import UsableRule, usable_dates


@pytest.mark.data
def test_a_map_without_later_dates_costs_accuracy_and_any_two_dates_cost_none(data_folder: Path) -> None:
    """Pooled ratios, closed form: no network, so nothing but the triples differs."""
    series = read_series(data_folder / "saltonsea_nir")
    series = series.select_fine(usable_dates(series, UsableRule())[0])
    dynet, step = load_iustfm_settings().dynet, library_step(series.quantity)
    errors: dict[str, list[float]] = {order: [] for order in ORDERS}
    for time in series.fine_time[1:-1]:
        region = make_region(series.without(time), dynet.region, dynet.network.m_max, 0)
        config = IustfmConfig(
            n_hcr=int(region.labels.max()) + 1,
            h_max=dynet.network.h_max,
            m_max=dynet.network.m_max,
            guards=dynet.guards,
            mode="closed_form",
            range_distance=(0.0, 0.0),
            range_a2_negative=None,
            range_a2_positive=None,
            library_step=step,
            quantity=series.quantity,
        )
        pipeline = Iustfm(config, region, None, None)
        for order in ORDERS:
            errors[order].append(_rmse(pipeline, series.coarse_at(time), time, order, series.fine_at(time)))
    answered = ~np.isnan(list(errors.values())).any(axis=0)
    kelvin = QUANTITIES[series.quantity].kelvin
    means = {order: float(np.array(values)[answered].mean() / kelvin) for order, values in errors.items()}
    print(f"\nRMSE x {kelvin} on {int(answered.sum())} of {answered.size} dates that every order answers: {means}")
    assert means["past_only"] > 1.1 * means["ordered"]
    assert means["unordered"] < 1.05 * means["ordered"]


def _rmse(pipeline: Iustfm, coarse: np.ndarray, time: str, order, truth: np.ndarray) -> float:
    try:
        lst = pipeline.predict(coarse, time, order=order)["lst"]
    except Undetermined:
        return np.nan
    return float(np.sqrt(np.nanmean(np.square(lst - truth, dtype=np.float64))))
