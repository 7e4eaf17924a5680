"""``thermoscale-train demo``: the whole path once, on held-out data: fit, export, pack, serve, predict, judge, draw."""

import argparse
import json
import os
import shutil
import sys
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from thermoscale.arrays import QUANTITIES
from thermoscale.release.mar import pack
from thermoscale.service import Service, open_bundle
from thermoscale.wire.npz import encode_npz
from thermoscale_train.config import AmunSettings, IustfmSettings, load_amun_settings, load_iustfm_settings
from thermoscale_train.demo_data import DemoData, real_data, synthetic_data
from thermoscale_train.demo_pictures import draw
from thermoscale_train.demo_server import ask_in_process, ask_torchserve
from thermoscale_train.evaluate_amun import amun_request, evaluate_amun
from thermoscale_train.evaluate_iustfm import evaluate_iustfm
from thermoscale_train.export import export_amun, export_iustfm
from thermoscale_train.fit import fit_amun, fit_iustfm
from thermoscale_train.summary import installed_versions, pipeline_summary, table

VERSION = "0.1.0-demo"
LEFT_OUT = "left out (--in-process)"

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Where the demo writes; everything an earlier demo left there is replaced."""

    out: Path = Path("build/demo")
    exported: Path = Path("exported")
    model_store: Path = Path("model_store")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the demo."""
    parser.add_argument("--in-process", action="store_true", help="leave TorchServe out; summary.json says so")
    parser.add_argument("--out", type=Path, default=Places.out, help="pictures, GeoTIFFs, summary.json (build/demo)")
    parser.add_argument("--exported", type=Path, default=Places.exported, help="bundles (exported)")
    parser.add_argument("--model-store", type=Path, default=Places.model_store, help="archives (model_store)")
    parser.add_argument("--seed", type=int, default=0, help="of the fits and of the synthetic world (default 0)")


def run(args: argparse.Namespace) -> int:
    """Run the demo on THERMOSCALE_DATA, or on a synthetic world where that is not set; 0."""
    folder = os.environ.get("THERMOSCALE_DATA")
    data = real_data(Path(folder)) if folder else synthetic_data(args.seed)
    places = Places(args.out, args.exported, args.model_store)
    settings = (_short(load_amun_settings()), load_iustfm_settings())
    summary = run_demo(data, settings, places, seed=args.seed, in_process=args.in_process, progress=True)
    pictures = "\n".join(f"  {places.out / name}" for name in summary["pictures"])
    sys.stdout.write(f"{table(summary)}\n\npictures:\n{pictures}\nsummary: {places.out / 'summary.json'}\n")
    return 0


def _short(settings: AmunSettings) -> AmunSettings:
    """A quarter of the steps: the synthetic world is easy, and a demo should not keep anybody waiting."""
    training = replace(settings.training, steps=settings.training.steps // 4)
    return replace(settings, training=training, refit=replace(settings.refit, steps=settings.refit.steps // 4))


def run_demo(
    data: DemoData,
    settings: tuple[AmunSettings, IustfmSettings],
    places: Places,
    *,
    seed: int,
    in_process: bool,
    progress: bool,
) -> dict[str, Any]:
    """Every step in order; returns what ``summary.json`` holds.

    Raises:
        Unavailable: the server does not start.
        BundleError: torch, onnxruntime, Service or the wires disagree.
    """
    steps = _Steps(progress, count=7 if in_process else 8)
    bundles = fit_and_export(data, settings, places.exported, seed, progress, steps)
    services = {name: open_bundle(folder) for name, folder in bundles.items()}
    requests = {
        "amun": amun_request(services["amun"], data.fold("test"), 0),
        "iustfm": {"coarse": data.series.coarse_at(data.shown), "time": data.shown},
    }
    places.out.mkdir(parents=True, exist_ok=True)
    for name, request in requests.items():
        (places.out / f"{name}_request.npz").write_bytes(encode_npz(request))
    if in_process:
        answers = steps.run("predict", lambda: ask_in_process(services, requests))
    else:
        archives = steps.run("pack", lambda: [pack(folder, places.model_store) for folder in bundles.values()])
        answers = steps.run("serve", lambda: ask_torchserve(archives, services, requests, places.out / "logs"))
    evaluations = {
        "amun": steps.run("judge amun", lambda: evaluate_amun(data.fold("test"), bundle=bundles["amun"])),
        "iustfm": steps.run("judge iustfm", lambda: evaluate_iustfm(data.series, bundle=bundles["iustfm"])),
    }
    files = draw(data, services, requests, places.out)
    steps.close()
    return _write_summary(data, services, evaluations, answers, files, steps, in_process, places.out)


def fit_and_export(
    data: DemoData,
    settings: tuple[AmunSettings, IustfmSettings],
    exported: Path,
    seed: int,
    progress: bool,
    steps: "_Steps",
) -> dict[str, Path]:
    """Both pipelines fitted without the held-out grounds and dates, as bundles ``exported/<pipeline>/<VERSION>``.

    A version is immutable; this one is the demo's own, and what an earlier demo wrote under it is removed first.
    """
    for name in ("amun", "iustfm"):
        shutil.rmtree(exported / name / VERSION, ignore_errors=True)
    amun = steps.run(
        "fit amun",
        lambda: fit_amun(data.fold("train"), data.fold("valid"), settings[0], seed=seed, progress=progress),
    )
    iustfm = steps.run("fit iustfm", lambda: fit_iustfm(data.library, settings[1], seed=seed, progress=progress))
    return {
        "amun": steps.run("export amun", lambda: export_amun(amun, exported, version=VERSION)),
        "iustfm": steps.run("export iustfm", lambda: export_iustfm(iustfm, exported, version=VERSION)),
    }


class _Steps:
    """A progress bar over the steps, and how long each took."""

    def __init__(self, progress: bool, *, count: int) -> None:
        self.seconds: dict[str, float] = {}
        self._bar = tqdm(total=count, desc="demo", disable=not progress, unit="step")

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do ``work`` as the step ``name``."""
        self._bar.set_postfix_str(name)
        start = clock.perf_counter()
        answer = work()
        self.seconds[name] = round(clock.perf_counter() - start, 2)
        self._bar.update()
        return answer

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def _write_summary(
    data: DemoData,
    services: dict[str, Service],
    evaluations: dict[str, dict[str, Any]],
    answers: dict[str, dict[str, Any]],
    files: dict[str, list[str]],
    steps: "_Steps",
    in_process: bool,
    out: Path,
) -> dict[str, Any]:
    versions = installed_versions()
    pipelines = {
        name: pipeline_summary(service, evaluations[name], QUANTITIES[service.manifest.quantity].unit) | answers[name]
        for name, service in services.items()
    }
    summary = {
        "data": data.describe(),
        "server": LEFT_OUT if in_process else f"torchserve {versions['torchserve']}",
        "pipelines": pipelines,
        "versions": versions,
        "seconds": {**steps.seconds, "total": round(sum(steps.seconds.values()), 2)},
        **files,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary
