"""The Prometheus endpoint of a real server tells what was sent, and the dashboard asks for nothing else."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torchserve.breakable import WIRES

from thermoscale.resources import resource_folder
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request
from thermoscale.torchserve_metrics import STAGES
from thermoscale.wire.npz import encode_npz

parser = pytest.importorskip("prometheus_client.parser", reason="pip install 'thermoscale[dev]'")

REQUEST = tiny_amun_request(tiny_amun_config())
GOOD = encode_npz(REQUEST)
DASHBOARD = json.loads((resource_folder("config") / "dashboard.json").read_text())
Samples = dict[tuple[str, str], float]
SETTLED_S = 1.0
"""After which earlier requests are counted."""


def scrape(server: TorchServe) -> tuple[Samples, set[str]]:
    """(Sample name, its own label) -> value of model amun 0.0.1, and the names of all families."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        families = list(parser.text_string_to_metric_families(answer.read().decode()))
    found: Samples = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = {name: text for name, text in sample.labels.items() if name not in ("Hostname", "le")}
        if (labels.pop("model", None), labels.pop("version", None)) == ("amun", "0.0.1"):
            found[sample.name, next(iter(labels.values()), "")] = sample.value
    return found, {family.name for family in families}


def growth(server: TorchServe, send: Callable[[], object], requests: int) -> Samples:
    """What ``send`` adds once as many requests are counted: workers and frontend count in their own time."""
    time.sleep(SETTLED_S)
    before, _ = scrape(server)
    send()
    deadline = time.monotonic() + 10
    while True:
        after, _ = scrape(server)
        grown = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}
        counted = sum(value for (name, _), value in grown.items() if name == "thermoscale_requests_total")
        if counted >= requests or time.monotonic() > deadline:
            return grown
        time.sleep(0.05)


def send_some(server: TorchServe) -> None:
    """Over each wire: two good requests, one that is refused, one description, one that fails inside."""
    for wire in WIRES.values():
        for parts in (
            {"body": GOOD},
            {"body": GOOD},
            {"body": b"PK"},
            {"ask": b"description"},
            {"body": GOOD, "order": b"fail"},
        ):
            wire(server, "amun", parts)


@pytest.mark.server
def test_counts_and_stages_agree_with_what_was_sent(breakable_server: tuple[TorchServe, Path]) -> None:
    server, _ = breakable_server
    server.wait_ready()
    grown = growth(server, lambda: send_some(server), requests=10)
    outcomes = {label: value for (name, label), value in grown.items() if name == "thermoscale_requests_total"}
    assert outcomes == {"ok": 4, "invalid_input": 2, "described": 2, "internal": 2}
    counts = {label: value for (name, label), value in grown.items() if name == "thermoscale_stage_seconds_count"}
    assert counts == dict.fromkeys(STAGES, 4)
    seconds = {label: value for (name, label), value in grown.items() if name == "thermoscale_stage_seconds_sum"}
    assert sum(value for stage, value in seconds.items() if stage != "total") <= seconds["total"] + 1e-5
    drift = {label or name: value / 4 for (name, label), value in grown.items() if "share" in name or "mean" in name}
    assert drift.keys() == {"thermoscale_coarse_mean_total", "coarse", "factors", "coarse_missing"}
    coarse = np.asarray(REQUEST["coarse"])
    assert drift["thermoscale_coarse_mean_total"] == pytest.approx(np.nanmean(coarse), abs=0.01)
    assert drift["coarse"] == pytest.approx(np.isnan(coarse).mean(), abs=1e-6)


@pytest.mark.server
def test_drifted_input_is_seen(breakable_server: tuple[TorchServe, Path]) -> None:
    server, _ = breakable_server
    coarse = np.array(REQUEST["coarse"]) - 20.0
    coarse[:6] = np.nan
    body = encode_npz({**REQUEST, "coarse": coarse})
    grown = growth(server, lambda: WIRES["REST"](server, "amun", {"body": body}), requests=1)
    assert grown["thermoscale_coarse_mean_total", ""] == pytest.approx(np.nanmean(coarse), abs=0.01)
    assert grown["thermoscale_nan_share_total", "coarse"] >= 0.5


@pytest.mark.server
def test_the_server_gives_what_is_declared_and_nothing_else(breakable_server: tuple[TorchServe, Path]) -> None:
    _, families = scrape(breakable_server[0])
    assert families == {name.removesuffix("_total") for name in declared()}  # the parser's names of counters


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"[a-zA-Z_]\w*(?=[{\[])", text)}
    assert {_base(name) for name in asked} == declared()


def test_every_label_of_the_dashboard_is_declared() -> None:
    labels = {label for metric in _metrics() for label in metric["dimensions"]} | {"le"}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([\w, ]+)\)", target["expr"])
            selected = re.findall(r"(\w+)\s*=~?\s*\"", target["expr"])
            assert {*selected, *(label for group in grouped for label in group.split(", "))} <= labels


def declared() -> set[str]:
    return {metric["name"] for metric in _metrics()}


def _metrics() -> list[Mapping[str, Any]]:
    content = yaml.safe_load((resource_folder("config") / "metrics.yaml").read_text())
    return [metric for section in content.values() for metrics in section.values() for metric in metrics]


def _base(sample: str) -> str:
    return re.sub(r"_(bucket|count|sum|created)$", "", sample)
