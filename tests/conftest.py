"""Fixtures that many tests share."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thermoscale_train.config import AmunSettings, IustfmSettings, load_amun_settings, load_iustfm_settings
from thermoscale_train.demo import VERSION, Places, run_demo
from thermoscale_train.demo_data import DemoData, synthetic_data


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; a test that asks for it skips where there is none."""
    name = os.environ.get("THERMOSCALE_DATA")
    if not name:
        pytest.skip("THERMOSCALE_DATA is not set: no real data")
    return Path(name)


def small_settings() -> tuple[AmunSettings, IustfmSettings]:
    """The shipped settings with hardly any training: the path is tested, not the skill."""
    amun, iustfm = load_amun_settings(), load_iustfm_settings()
    dynet, ratio_net = iustfm.dynet, iustfm.ratio_net
    few = {"steps": 10, "evaluate_every": 10}
    return (
        replace(
            amun,
            network=replace(amun.network, width=4, growth=4, depth=2, heads=2),
            samples=replace(amun.samples, crop_px=64, margin_px=8),
            training=replace(amun.training, batch=2, **few),
            refit=replace(amun.refit, steps=5),
        ),
        IustfmSettings(
            replace(
                dynet,
                region=replace(dynet.region, n_hcr=6),
                samples=replace(dynet.samples, pool=128),
                training=replace(dynet.training, **few),
            ),
            replace(
                ratio_net,
                samples=replace(ratio_net.samples, pool=2000, triples=8),
                training=replace(ratio_net.training, batch=256, **few),
            ),
        ),
    )


@pytest.fixture(scope="session")
def small_world() -> DemoData:
    return synthetic_data(3, scene_cells=10, n_dates=36)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The demo's folders under one root, in which an earlier demo left something."""
    root = tmp_path_factory.mktemp("demo")
    earlier = root / "exported" / "amun" / VERSION
    earlier.mkdir(parents=True)
    (earlier / "of_an_earlier_demo").touch()
    return Places(root / "build" / "demo", root / "exported", root / "model_store")


@pytest.fixture(scope="session")
def summary(small_world: DemoData, places: Places) -> Mapping[str, Any]:
    """One quick demo in process: everything `make demo` leaves, but for archives and skill."""
    return run_demo(small_world, small_settings(), places, seed=0, in_process=True, progress=False)
