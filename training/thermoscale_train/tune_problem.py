"""What one trial of a tuning does: fit with some settings, without what is judged, and return RMSE and latency.

No Ax here: this is what the trial processes import.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from thermoscale.errors import InvalidInput
from thermoscale.geo.datasets import read_pairs, read_series
from thermoscale_train.config import (
    AmunSettings,
    DyNetSettings,
    IustfmSettings,
    RatioNetSettings,
    load_amun_settings,
    load_iustfm_settings,
)
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.data.split import split_by_ground
from thermoscale_train.fit import fit_amun
from thermoscale_train.fit_iustfm import rehearse_iustfm
from thermoscale_train.models.amun import THUMBNAIL_PX
from thermoscale_train.models.dynet import DyNet, DyNetConfig
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig
from thermoscale_train.tune_space import Table

Told = Callable[[int, float], bool]
"""Told (step, best RMSE so far); True ends the trial."""

DYNET_SAMPLES, RATIO_NET_PIXELS, REPEATS = 256, 65_536, 5
DYNET_STATE = "dynet_rehearsal.pt"
"""What ``train_iustfm`` calls the state of DyNet on the library without the held-out dates."""


@dataclass(frozen=True)
class Problem:
    """Everything that the trials of one tuning have in common.

    Attributes:
        network: "amun", "dynet" or "ratio_net".
        data: pairs for amun, else a series. seed: of every fit.
        config: TOML of the known settings of ``network``, None for the shipped ones.
        dynet_config: for ratio_net, the settings of the DyNet below it; None for the shipped ones.
        hold_out: dates of the series that take no part at all.
        experiment: "real" or "simulated" pairs.
        valid_share, test_share: of the scenes; those of valid give the score, those of test take no part.
    """

    network: str
    data: Path
    seed: int
    config: Path | None = None
    dynet_config: Path | None = None
    hold_out: tuple[str, ...] = ()
    experiment: str = "real"
    valid_share: float = 0.15
    test_share: float = 0.25

    def known(self) -> Table:
        """The known settings, which are the first trial, as tables."""
        return as_table(self._load(self.config))

    def _load(self, path: Path | None) -> AmunSettings | DyNetSettings | RatioNetSettings:
        if self.network == "amun":
            return load_amun_settings(path)
        if self.network == "dynet":
            return load_iustfm_settings(path).dynet
        return load_iustfm_settings(self.dynet_config, path).ratio_net

    def score(self, config: Path, folder: Path, told: Told) -> dict[str, float]:
        """Fit with the settings in ``config``; the state of the fit is kept in ``folder``.

        Returns:
            ``rmse`` on what was held out, unit of the data, for amun without what no scene foretells of its mean;
            ``latency_ms`` of the network on one thread.
        """
        if self.network == "amun":
            return _score_amun(self, load_amun_settings(config), folder, told)
        if self.network == "dynet":
            return _score_dynet(self, load_iustfm_settings(config, None).dynet, folder, told)
        return _score_ratio_net(self, load_iustfm_settings(self.dynet_config, config), folder, told)


def as_table(settings: AmunSettings | DyNetSettings | RatioNetSettings) -> Table:
    """Settings as the tables of their TOML."""
    tables = asdict(settings)
    return {
        section: {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        for section, values in tables.items()
    }


def to_toml(table: Mapping[str, Mapping[str, Any]], comment: str) -> str:
    """Settings as the fit reads them. JSON's strings, numbers, booleans and lists are TOML's."""
    lines = [f"# {line}" for line in comment.splitlines()]
    for section, values in table.items():
        lines += ["", f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _score_amun(problem: Problem, settings: AmunSettings, folder: Path, told: Told) -> dict[str, float]:
    """RMSE on the ground that is held out to validate."""
    pairs = read_pairs(problem.data)
    if problem.experiment == "simulated":
        pairs = simulate_coarse(pairs)
    shares = {"valid": problem.valid_share, "test": problem.test_share}
    shares = {"train": 1.0 - sum(shares.values()), **{name: share for name, share in shares.items() if share > 0.0}}
    folds = split_by_ground(pairs, shares)
    if "valid" not in folds:
        raise InvalidInput(f"shares are {shares}: valid must be positive")
    settings = replace(settings, refit=replace(settings.refit, steps=0))
    checkpoint = fit_amun(
        pairs.subset(folds["train"]),
        pairs.subset(folds["valid"]),
        settings,
        seed=problem.seed,
        resume=folder / "amun.pt",
        on_score=lambda _name, step, best: told(step, best),
    )
    network, config = checkpoint.build(), checkpoint.config
    channels, side = 1 + len(config.factor_names), config.tile_px
    thumb = torch.zeros(1, channels, THUMBNAIL_PX, THUMBNAIL_PX)
    context = network.context(thumb, torch.ones_like(thumb))
    coarse, valid = torch.full((1, 1, side, side), 290.0), torch.ones(1, channels, side, side)
    factors = torch.zeros(1, channels - 1, side, side) if channels > 1 else None
    core_px = side - 2 * config.halo_px
    tile_ms = _milliseconds(lambda: network(coarse, factors, valid, *context))
    return {"rmse": checkpoint.metrics["valid"]["rmse_detail"], "latency_ms": tile_ms * 1e6 / core_px**2}


def _score_dynet(problem: Problem, settings: DyNetSettings, folder: Path, told: Told) -> dict[str, float]:
    """RMSE of the closed form on DyNet's ratios. RatioNet takes no part: one step of it, on few samples."""
    below = load_iustfm_settings().ratio_net
    ratio_net = replace(
        below,
        samples=replace(below.samples, pool=1000, triples=2),
        training=replace(below.training, steps=1, evaluate_every=1),
    )
    scores = _rehearse(problem, IustfmSettings(settings, ratio_net), folder, "DyNet", told)
    sizes = settings.network
    network = DyNet(DyNetConfig(sizes.m_max, sizes.h_max, sizes.hidden, sizes.layers)).eval()
    alpha = torch.zeros(DYNET_SAMPLES, sizes.m_max)
    valid, present = torch.ones_like(alpha) > 0, torch.ones(DYNET_SAMPLES, sizes.h_max) > 0
    return {"rmse": scores["rmse_closed_form"], "latency_ms": _milliseconds(lambda: network(alpha, valid, present))}


def _score_ratio_net(problem: Problem, settings: IustfmSettings, folder: Path, told: Told) -> dict[str, float]:
    """RMSE of RatioNet on DyNet's ratios. DyNet is the same in every trial and trained once, if they do not overlap."""
    shared, own = folder.parent / DYNET_STATE, folder / DYNET_STATE
    if shared.exists() and not own.exists():
        _link(shared, own)
    both = IustfmSettings(settings.dynet, settings.ratio_net)  # nothing else is fitted
    scores = _rehearse(problem, both, folder, "RatioNet", told)
    _link(own, shared)
    network = RatioNet(RatioNetConfig(settings.ratio_net.network.hidden)).eval()
    pixels = torch.ones(RATIO_NET_PIXELS)
    return {"rmse": scores["rmse_rationet"], "latency_ms": _milliseconds(lambda: network(pixels, pixels))}


def _rehearse(problem: Problem, settings: IustfmSettings, folder: Path, network: str, told: Told) -> dict[str, Any]:
    series = read_series(problem.data)
    for time_out in problem.hold_out:
        series = series.without(time_out)
    return rehearse_iustfm(
        series,
        settings,
        seed=problem.seed,
        resume=folder,
        on_score=lambda name, step, best: name.split()[0] == network and told(step, best),
    )


def _link(source: Path, target: Path) -> None:
    """One file under a second name: whole at once, and replacing either name leaves the other alone."""
    with suppress(FileExistsError):
        target.hardlink_to(source)


def _milliseconds(call: Callable[[], object]) -> float:
    """The fastest of a few calls: other trials run beside this one."""
    taken = []
    with torch.no_grad():
        for _ in range(REPEATS):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
    return min(taken) * 1e3
