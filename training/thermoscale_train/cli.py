"""``thermoscale-train``: fit networks, tune their settings, export bundles, evaluate methods, run the demo.

Exit codes: 0 done, 1 it failed, 2 wrong usage or invalid input. Results go to standard output (``--json`` for
machines), progress and messages to standard error.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.geo.datasets import read_pairs, read_series
from thermoscale.pipelines.amun_config import VIEW_COUNTS
from thermoscale_train import demo, evaluate, fusion_study, noise_study, tune
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint, load_checkpoint, save_checkpoint
from thermoscale_train.config import load_amun_settings, load_iustfm_settings
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.data.split import split_by_ground
from thermoscale_train.devices import DEVICES
from thermoscale_train.export import export_amun, export_iustfm
from thermoscale_train.fit import fit_amun, fit_iustfm
from thermoscale_train.fit_iustfm import notes_on

Checkpoint = TypeVar("Checkpoint", AmunCheckpoint, IustfmCheckpoint)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    args = _parser().parse_args(argv)
    args.command = shlex.join(["thermoscale-train", *(sys.argv[1:] if argv is None else argv)])
    try:
        return int(args.run(args))
    except ThermoscaleError as error:
        print(f"thermoscale-train {args.verb}: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 1
    except OSError as error:
        print(f"thermoscale-train {args.verb}: {error}", file=sys.stderr)
        return 1


def fit(args: argparse.Namespace) -> int:
    """Fit and write the checkpoint."""
    checkpoint = _fitted(args)
    save_checkpoint(args.out, checkpoint)
    _report(args, {"checkpoint": str(args.out), **_summary(checkpoint)})
    return 0


def export(args: argparse.Namespace) -> int:
    """Fit unless there is a checkpoint, then write the bundle."""
    checkpoint = _fitted(args) if args.checkpoint is None else load_checkpoint(args.checkpoint)
    if isinstance(checkpoint, AmunCheckpoint) and args.pipeline == "amun":
        checkpoint = replace(checkpoint, config=replace(checkpoint.config, views=args.views))
        bundle = export_amun(checkpoint, args.out, version=args.version)
    elif isinstance(checkpoint, IustfmCheckpoint) and args.pipeline == "iustfm":
        bundle = export_iustfm(checkpoint, args.out, version=args.version)
    else:
        raise InvalidInput(f"{args.checkpoint} is a checkpoint of the other pipeline, not of {args.pipeline}")
    _report(args, {"bundle": str(bundle), **_summary(checkpoint)})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="thermoscale-train", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    fitting = _add_verb(verbs, "fit", fit, "fit networks on a data set and write a checkpoint")
    _add_pipelines(fitting, from_checkpoint=False)
    exporting = _add_verb(verbs, "export", export, "write a bundle, from a checkpoint or fitted right away")
    _add_pipelines(exporting, from_checkpoint=True)
    evaluate.add_arguments(_add_verb(verbs, "evaluate", evaluate.run, "score methods or a bundle on held-out data"))
    tune.add_arguments(_add_verb(verbs, "tune", tune.run, "search the settings of a fit; goes on after a kill"))
    studying = _add_verb(
        verbs, "noise-study", noise_study.run, "what noise of the change ratio costs, on synthetic worlds"
    )
    noise_study.add_arguments(studying)
    comparing = _add_verb(
        verbs, "fusion-study", fusion_study.run, "mode adaptive against all methods, synthetic worlds"
    )
    fusion_study.add_arguments(comparing)
    demo.add_arguments(_add_verb(verbs, "demo", demo.run, "fit, export, pack, serve, predict and judge, all at once"))
    return parser


def _add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _add_pipelines(parser: argparse.ArgumentParser, *, from_checkpoint: bool) -> None:
    pipelines = parser.add_subparsers(dest="pipeline", required=True, metavar="{amun,iustfm}")
    amun = pipelines.add_parser("amun", help="downscaling, from pairs")
    _add_source(amun, "--pairs", from_checkpoint)
    amun.add_argument("--config", type=Path, help="TOML of the fit; default the shipped one")
    amun.add_argument("--experiment", choices=("real", "simulated"), default="real", help="default %(default)s")
    amun.add_argument("--valid-share", type=float, default=0.15, help="of the scenes, choose the weights (0.15)")
    amun.add_argument("--test-share", type=float, default=0.25, help="of the scenes, take no part (0.25); 0 for none")
    amun.add_argument("--device", choices=DEVICES, default="auto", help="of the training; auto is CUDA if there is one")
    if from_checkpoint:
        help_text = "ways to look at each tile, turned and mirrored: more are more exact and as much slower (1)"
        amun.add_argument("--views", type=int, choices=VIEW_COUNTS, default=1, help=help_text)
    iustfm = pipelines.add_parser("iustfm", help="fusion, from a series")
    _add_source(iustfm, "--series", from_checkpoint)
    iustfm.add_argument("--dynet-config", type=Path, help="TOML of the fit; default the shipped one")
    iustfm.add_argument("--ratio-net-config", type=Path, help="TOML of the fit; default the shipped one")
    iustfm.add_argument("--adaptive-config", type=Path, help="TOML of the fit; default the shipped one")
    iustfm.add_argument("--hold-out", action="append", default=[], metavar="TIME", help="a date that takes no part")
    for pipeline in (amun, iustfm):
        _add_common(pipeline, from_checkpoint)


def _add_source(parser: argparse.ArgumentParser, data: str, from_checkpoint: bool) -> None:
    where = parser.add_mutually_exclusive_group(required=True) if from_checkpoint else parser
    where.add_argument(data, type=Path, required=not from_checkpoint, help=".npz or folder, see FORMATS")
    if from_checkpoint:
        where.add_argument("--checkpoint", type=Path, help="written by fit")


def _add_common(parser: argparse.ArgumentParser, from_checkpoint: bool) -> None:
    if from_checkpoint:
        parser.add_argument("--out", type=Path, default=Path("exported"), help="bundles; default %(default)s")
        parser.add_argument("--version", required=True, help="semantic version of the bundle, for example 1.0.0")
    else:
        parser.add_argument("--out", type=Path, required=True, help="checkpoint file to write")
    parser.add_argument("--resume", type=Path, help="folder that keeps an unfinished run; continued if it is there")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _fitted(args: argparse.Namespace) -> AmunCheckpoint | IustfmCheckpoint:
    torch.set_num_threads(args.threads)
    return _fit_amun(args) if args.pipeline == "amun" else _fit_iustfm(args)


def _fit_amun(args: argparse.Namespace) -> AmunCheckpoint:
    pairs = read_pairs(args.pairs)
    if args.experiment == "simulated":
        pairs = simulate_coarse(pairs)
    shares = {"train": 1.0 - args.valid_share - args.test_share, "valid": args.valid_share, "test": args.test_share}
    folds = split_by_ground(pairs, {name: share for name, share in shares.items() if share > 0.0})
    if not folds.keys() >= {"train", "valid"}:
        raise InvalidInput(f"shares are {shares}: train and valid must both be positive")
    checkpoint = fit_amun(
        pairs.subset(folds["train"]),
        pairs.subset(folds["valid"]),
        load_amun_settings(args.config),
        seed=args.seed,
        progress=True,
        resume=None if args.resume is None else args.resume / "amun.pt",
        device=args.device,
    )
    return _with_provenance(checkpoint, args, experiment=args.experiment)


def _fit_iustfm(args: argparse.Namespace) -> IustfmCheckpoint:
    series = read_series(args.series)
    for time in args.hold_out:
        series = series.without(time)
    checkpoint = fit_iustfm(
        series,
        load_iustfm_settings(args.dynet_config, args.ratio_net_config, args.adaptive_config),
        seed=args.seed,
        progress=True,
        resume=args.resume,
    )
    return _with_provenance(checkpoint, args, held_out=list(args.hold_out))


def _with_provenance(checkpoint: Checkpoint, args: argparse.Namespace, **facts: object) -> Checkpoint:
    return replace(checkpoint, training={**checkpoint.training, "command": args.command, **facts})


def _summary(checkpoint: AmunCheckpoint | IustfmCheckpoint) -> dict[str, Any]:
    notes = notes_on(checkpoint) if isinstance(checkpoint, IustfmCheckpoint) else []
    return {"config": checkpoint.config.to_json(), "metrics": checkpoint.metrics, "notes": notes}


def _report(args: argparse.Namespace, result: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    where = result.get("bundle") or result["checkpoint"]
    print("\n".join([f"{where}: {json.dumps(result['metrics'])}", *result["notes"]]))
