"""``thermoscale-train evaluate``: judge methods on a data set; one JSON object as in FORMATS, or a table for people."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.geo.datasets import read_pairs, read_series
from thermoscale_train import evaluate_amun, evaluate_iustfm
from thermoscale_train.config import load_amun_settings, load_forest_settings, load_iustfm_settings
from thermoscale_train.data.folds import read_folds, spatial_folds
from thermoscale_train.downscaling_models import FITTED, DownscalingSettings
from thermoscale_train.evaluate_amun import scene_ids
from thermoscale_train.evaluate_iustfm import Budget, StationTable
from thermoscale_train.report import write_report
from thermoscale_train.scoring import lines_of_excluded, load_schema, table
from thermoscale_train.stations import StationPlace, table_of_stations

DRAWN = "iustfm_rationet"
"""Method that a report draws unless told otherwise."""

N_FOLDS = 5
"""Spatial blocks of ``--split ground`` without ``--folds``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two tasks and their options."""
    tasks = parser.add_subparsers(dest="pipeline", required=True, metavar="{iustfm,amun}")
    fusion = tasks.add_parser(
        "iustfm", help="fusion: predict the fine scene of a date", description=evaluate_iustfm.__doc__
    )
    fusion.add_argument("--series", type=Path, required=True, help=".npz or folder, see FORMATS")
    fusion.add_argument(
        "--leave-one-date-out",
        action="store_true",
        help="hold out every target in turn and fit to the rest; this is what happens without --bundle",
    )
    fusion.add_argument(
        "--targets",
        choices=evaluate_iustfm.TARGETS,
        default="interior",
        help="usable fine dates to predict: interior ones (default); every one, with unordered triples at both ends; "
        "undated: every one of dates that are stand-ins for unknown ones, placed half-way among the others",
    )
    fusion.add_argument("--dynet-config", type=Path, help="TOML of the fits; default the shipped one")
    fusion.add_argument("--ratio-net-config", type=Path, help="TOML of the fits; default the shipped one")
    fusion.add_argument("--adaptive-config", type=Path, help="TOML of the fits; default the shipped one")
    _add_common(fusion, evaluate_iustfm.METHODS)
    fusion.add_argument("--seed", type=int, default=0, help="of the fits (default 0)")
    fusion.add_argument(
        "--full-fits", action="store_true", help="train as long as the settings say; default: a budget for each target"
    )
    cores = min(2, os.cpu_count() or 1)
    fusion.add_argument("--processes", type=int, default=cores, help="targets judged at a time (default %(default)s)")
    _add_stations(fusion)
    fusion.add_argument("--report", type=Path, metavar="HTML", help="also write tables and pictures as one HTML file")
    fusion.add_argument("--report-method", choices=evaluate_iustfm.METHODS, default=DRAWN, help="default %(default)s")
    downscaling = tasks.add_parser("amun", help="downscaling: refine a coarse scene", description=evaluate_amun.__doc__)
    downscaling.add_argument("--pairs", type=Path, required=True, help=".npz or folder, see FORMATS")
    downscaling.add_argument(
        "--experiment",
        choices=evaluate_amun.EXPERIMENTS,
        default="real",
        help="real: the coarse scenes as they are (default); simulated: cell means of the fine ones",
    )
    _add_common(downscaling, evaluate_amun.METHODS)
    downscaling.add_argument(
        "--split",
        choices=["ground"],
        help="fit the forests and AMUN to scenes on other ground, once for every fold; without it, or --bundle, only "
        "methods that need no fit are judged",
    )
    downscaling.add_argument("--folds", type=Path, metavar="JSON", help="names of the folds' scenes; default: 5 bands")
    downscaling.add_argument("--amun-config", type=Path, help="TOML of the fits; default the shipped one")
    downscaling.add_argument("--forest-config", type=Path, help="TOML of the fits; default the shipped one")
    downscaling.add_argument("--seed", type=int, default=0, help="of the fits (default 0)")
    downscaling.add_argument("--work", type=Path, metavar="DIR", help="keeps AMUN's fits; goes on from them")


def run(args: argparse.Namespace) -> int:
    """Evaluate, check the result against its schema, and write it; 0.

    Raises:
        ThermoscaleError: the result breaks its schema, a mistake of this program; it names the file that keeps it.
    """
    result = _evaluate_iustfm(args) if args.pipeline == "iustfm" else _evaluate_amun(args)
    text = json.dumps(result, indent=2, allow_nan=False)
    try:
        jsonschema.validate(json.loads(text), load_schema())
    except jsonschema.ValidationError as error:
        # Hours of fits may stand behind the result: it is kept, under a name that no reader takes for a good one.
        kept = (args.out or Path(f"evaluate-{args.pipeline}.json")).with_suffix(".invalid.json")
        _write(kept, text)
        raise ThermoscaleError(
            f"the result breaks its schema, {error.json_path}: {error.message}; kept in {kept}"
        ) from error
    if args.out is not None:
        _write(args.out, text)
    sys.stdout.write((text if args.json else _for_people(result)) + "\n")
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _for_people(result: dict[str, Any]) -> str:
    parts = [table(result) if result["cases"] else "\n".join(lines_of_excluded(result))]
    if "stations" in result:
        parts.append(table_of_stations(result["stations"]))
    return "\n\n".join(parts)


def choose_methods(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """``all``, or a list of METHOD ids separated by commas.

    Raises:
        InvalidInput: an id that is not in ``known``.
    """
    if text == "all":
        return tuple(known)
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InvalidInput(f"unknown methods {unknown}; needed all, or some of {','.join(known)}")
    return chosen


def _add_common(parser: argparse.ArgumentParser, methods: Sequence[str]) -> None:
    parser.add_argument("--bundle", type=Path, help="judge this finished bundle on what it has never seen")
    parser.add_argument("--methods", default="all", help=f"all (default), or some of {','.join(methods)}")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")


def _add_stations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stations", type=Path, metavar="CSV", help="towers: time or local_time, lst_k[, station...]")
    parser.add_argument("--station-at", metavar="NAME,LAT,LON", help="where the tower of a CSV without places stands")
    parser.add_argument("--station-utc-offset", type=float, metavar="HOURS", help="of local_time, ahead of UTC")
    parser.add_argument("--station-window", type=int, choices=(1, 3), default=1, help="side of the averaged square, px")


def _stations(args: argparse.Namespace) -> StationTable | None:
    if args.stations is None:
        return None
    place = StationPlace(utc_offset_hours=args.station_utc_offset)
    if args.station_at is not None:
        name, *numbers = args.station_at.split(",")
        try:
            latitude, longitude = (float(number) for number in numbers)
        except ValueError:
            raise InvalidInput(f"--station-at is {args.station_at!r}, needed NAME,LATITUDE,LONGITUDE") from None
        place = replace(place, name=name, latitude=latitude, longitude=longitude)
    return StationTable(args.stations, place, args.station_window)


def _evaluate_iustfm(args: argparse.Namespace) -> dict[str, Any]:
    known = evaluate_iustfm.METHODS
    if args.targets == "undated":
        known = tuple(method for method in known if method not in evaluate_iustfm.NEED_THE_ORDER)
    methods = choose_methods(args.methods, known)
    if args.report is not None and args.report_method not in methods:
        raise InvalidInput(f"--report draws {args.report_method}, which is not among --methods {','.join(methods)}")
    result, evidence = evaluate_iustfm.evaluate_with_evidence(
        read_series(args.series),
        bundle=args.bundle,
        methods=methods,
        settings=load_iustfm_settings(args.dynet_config, args.ratio_net_config, args.adaptive_config),
        budget=None if args.full_fits else Budget(),
        seed=args.seed,
        processes=args.processes,
        targets=args.targets,
        stations=_stations(args),
        drawn=None if args.report is None else args.report_method,
        progress=True,
    )
    if args.report is not None:
        sys.stderr.write(f"report: {write_report(result, evidence, args.report)}\n")
    return result


def _evaluate_amun(args: argparse.Namespace) -> dict[str, Any]:
    methods = choose_methods(args.methods, evaluate_amun.METHODS)
    if args.bundle is None and args.split is None and args.methods != "all":
        unfitted = sorted(set(methods) & set(FITTED))
        if unfitted:
            raise InvalidInput(
                f"methods {unfitted} need --split ground, which fits them, or, for amun, --bundle FOLDER"
            )
    if args.folds is not None and args.split is None:
        raise InvalidInput("--folds needs --split ground")
    pairs = read_pairs(args.pairs)
    folds = None
    if args.split is not None:
        folds = spatial_folds(pairs, N_FOLDS) if args.folds is None else read_folds(args.folds, scene_ids(pairs))
    return evaluate_amun.evaluate_amun(
        pairs,
        bundle=args.bundle,
        folds=folds,
        fitted=DownscalingSettings(load_amun_settings(args.amun_config), load_forest_settings(args.forest_config)),
        seed=args.seed,
        methods=methods,
        experiment=args.experiment,
        progress=True,
        work=args.work,
    )
