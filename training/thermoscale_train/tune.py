"""``thermoscale-train tune``: search the settings of a fit with Ax, in parallel processes, through any kill.

What the folder holds: ``problem.json`` (what is tuned, and on what), ``study.sqlite`` (Ax), ``trials/NNNN`` (see
``tune_trial``), and after every run ``best.toml`` and ``convergence.png``.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from thermoscale.errors import InvalidInput
from thermoscale_train import tune_report
from thermoscale_train.config import CONFIG_FOLDER
from thermoscale_train.tune_problem import Problem, to_toml
from thermoscale_train.tune_space import Parameter, Space, Table, known_parameters, read_space, with_values
from thermoscale_train.tune_trial import (
    RESULT,
    SETTINGS,
    STOP,
    Result,
    locked,
    read_result,
    read_scores,
    run_trial,
    start_worker,
    write_atomically,
)

if TYPE_CHECKING:
    from thermoscale_train.tune_study import Study

POLL_S = 0.3
FIRST_STOP_SHARE = 0.25
"""No trial is stopped before this share of the known settings' steps."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the verb ``tune``."""
    networks = parser.add_subparsers(dest="network", required=True, metavar="{dynet,ratio_net,amun}")
    dynet = networks.add_parser("dynet", help="closed form on DyNet's ratios, held-out dates of a series")
    ratio_net = networks.add_parser("ratio_net", help="RatioNet on DyNet's ratios, held-out dates of a series")
    amun = networks.add_parser("amun", help="downscaling, held-out ground of pairs")
    for fusion in (dynet, ratio_net):
        fusion.add_argument("--series", type=Path, required=True, help=".npz or folder, see FORMATS")
        fusion.add_argument("--hold-out", action="append", default=[], metavar="TIME", help="a date that takes no part")
    ratio_net.add_argument("--dynet-config", type=Path, help="TOML of the DyNet below; default the shipped one")
    amun.add_argument("--pairs", type=Path, required=True, help=".npz or folder, see FORMATS")
    amun.add_argument("--experiment", choices=("real", "simulated"), default="real", help="default %(default)s")
    amun.add_argument("--valid-share", type=float, default=0.15, help="of the scenes, score the trials (0.15)")
    amun.add_argument("--test-share", type=float, default=0.25, help="of the scenes, take no part (0.25); 0 for none")
    for network in (dynet, ratio_net, amun):
        network.add_argument("--trials", type=int, required=True, help="in all, those of earlier runs included")
        network.add_argument("--out", type=Path, help="folder, continued if it is there; default build/tune/<network>")
        network.add_argument("--jobs", type=int, default=2, help="processes, one thread each; default %(default)s")
        network.add_argument("--seed", type=int, default=0, help="default %(default)s")
        network.add_argument("--config", type=Path, help="known settings, the first trial; default the shipped ones")
        network.add_argument("--search", type=Path, help="search space; default training/configs/search_<network>.toml")
        network.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Go on until there are ``--trials``, then report."""
    if min(args.trials, args.jobs) < 1:
        raise InvalidInput(f"--trials {args.trials} and --jobs {args.jobs} must be 1 or more")
    problem = _problem(args)
    known = problem.known()
    space = read_space(args.search or CONFIG_FOLDER / f"search_{problem.network}.toml", problem.network, known)
    out: Path = args.out or Path("build") / "tune" / problem.network
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "lock", wait=False):
        _require_same(out / "problem.json", _identity(problem, known, space))
        study = _open_study(out, space, known, problem.seed)
        Tuning(problem, known, space, out, study).run(args.trials, args.jobs)
        report = tune_report.write_report(problem, known, space, study.trials, out)
    text = json.dumps(report, indent=2, allow_nan=False) if args.json else tune_report.as_text(report)
    sys.stdout.write(text + "\n")
    return 0 if report["best"] else 1


class Tuning:
    """Trials of one study in processes of their own.

    One pool per process, so that a process that dies (memory) takes its own trial with it and no other.
    """

    def __init__(self, problem: Problem, known: Table, space: Space, out: Path, study: "Study") -> None:
        self._problem, self._known, self._space, self._study = problem, known, space, study
        self._trials = out / "trials"
        self._running: dict[Future[None], tuple[int, ProcessPoolExecutor]] = {}

    def run(self, limit: int, jobs: int) -> None:
        """Finish what a killed tuning had begun, then propose until there are ``limit`` trials."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes: numpy and scikit-learn read it when they load
        waiting = list(self._study.unfinished().items())
        idle = [_pool() for _ in range(jobs)]
        bar = tqdm(total=limit, initial=len(self._study.trials) - len(waiting), desc=self._problem.network)
        try:
            while True:
                while idle and (trial := waiting.pop(0) if waiting else self._study.propose(limit)):
                    self._start(*trial, idle.pop())
                if not self._running:
                    break
                idle += self._collect()
                bar.update(len(self._study.trials) - len(self._running) - len(waiting) - bar.n)
        finally:
            bar.close()
            for pool in [*idle, *(pool for _, pool in self._running.values())]:
                pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, index: int, parameters: Mapping[str, Parameter], pool: ProcessPoolExecutor) -> None:
        folder = self._folder(index)
        folder.mkdir(parents=True, exist_ok=True)
        table = with_values(self._known, self._space, parameters)
        write_atomically(folder / SETTINGS, to_toml(table, f"Trial {index} of a tuning of {self._problem.network}."))
        self._running[pool.submit(run_trial, self._problem, folder)] = index, pool

    def _collect(self) -> list[ProcessPoolExecutor]:
        """Pass on the scores, end what is behind, and give back the pools of the trials that have ended."""
        ended, _ = wait(self._running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future, (index, _) in self._running.items():
            self._pass_on(index, judged=future not in ended)
        free = []
        for future in ended:
            index, pool = self._running.pop(future)
            try:
                future.result()
            except BrokenProcessPool:
                pool = _pool()
            self._finish(index)
            free.append(pool)
        return free

    def _pass_on(self, index: int, *, judged: bool) -> None:
        folder = self._folder(index)
        scores = read_scores(folder)
        new = [score for score in scores if self._study.record(index, *score)]
        if judged and new and not (folder / STOP).exists() and self._study.should_stop(index):
            (folder / STOP).touch()

    def _finish(self, index: int) -> None:
        folder = self._folder(index)
        result = read_result(folder)
        if result is None:
            result = Result("failed", 0.0, reason="its process died, perhaps for want of memory")
            write_atomically(folder / RESULT, json.dumps(vars(result)))
        self._study.finish(index, result)

    def _folder(self, index: int) -> Path:
        return self._trials / f"{index:04d}"


def _pool() -> ProcessPoolExecutor:
    """One process; spawned, because a fork would inherit the threads of torch."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start_worker)


def _problem(args: argparse.Namespace) -> Problem:
    common = {"network": args.network, "seed": args.seed, "config": _absolute(args.config)}
    if args.network == "amun":
        shares = {"valid_share": args.valid_share, "test_share": args.test_share}
        return Problem(data=args.pairs.resolve(), experiment=args.experiment, **shares, **common)
    below = _absolute(getattr(args, "dynet_config", None))
    return Problem(data=args.series.resolve(), hold_out=tuple(args.hold_out), dynet_config=below, **common)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _open_study(out: Path, space: Space, known: Table, seed: int) -> "Study":
    from thermoscale_train.tune_study import Study  # Ax is slow to import, and no trial needs it

    first_stop = max(1, round(FIRST_STOP_SHARE * known["training"]["steps"]))
    return Study(out / "study.sqlite", space, known_parameters(known, space), seed=seed, first_stop=first_stop)


def _identity(problem: Problem, known: Table, space: Space) -> dict[str, Any]:
    """Everything that must not change between two runs in one folder."""
    paths = {"data": _digest(problem.data), "config": known, "dynet_config": None}
    if problem.dynet_config is not None:
        paths["dynet_config"] = _digest(problem.dynet_config)
    identity = {**vars(problem), **paths, "space": [{"kind": type(one).__name__, **vars(one)} for one in space]}
    normal: dict[str, Any] = json.loads(json.dumps(identity))
    return normal


def _digest(path: Path) -> str:
    """Of a file, or of all files of a folder by name."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}")
    digest = sha256()
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(file.name.encode() + b"\0" + sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _require_same(path: Path, identity: dict[str, Any]) -> None:
    """A folder is continued only by the same problem: scores of different problems cannot be compared."""
    if not path.exists():
        write_atomically(path, json.dumps(identity, indent=2))
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in identity if stored.get(name) != identity[name]]
    if changed:
        raise InvalidInput(
            f"{path.parent} holds a tuning with other {', '.join(changed)}; continue it with what {path.name} says, "
            "or give another --out"
        )
