"""The training loop of all three networks: an optimiser, a schedule, scores in its own unit, the best weights win.

Batches are functions of the step, never of how often something was drawn before, so a resumed run is the same run.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from thermoscale_train.checkpoint import load_state, save_state
from thermoscale_train.config import TrainingSettings
from thermoscale_train.muon import Muon

State = dict[str, Tensor]

MATRIX_RATE = 8.0
"""Learning rate of Muon over that of Adam beside it. Chosen for AMUN (training/docs/downscaling.md)."""

OnScore = Callable[[str, int, float], bool]
"""Told (name of the run, step, best score so far) at every evaluation; True ends the run there."""


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        state: the best weights. best_step, best_score: when and how good they were.
        history: (step, training loss, score) at every evaluation.
    """

    state: State
    best_step: int
    best_score: float
    history: tuple[tuple[int, float, float], ...]


@dataclass
class _Progress:
    step: int = 0
    best_step: int = 0
    best_score: float = math.inf
    history: tuple[tuple[int, float, float], ...] = ()


def train(
    network: nn.Module,
    loss_at: Callable[[int], Tensor],
    score: Callable[[], float],
    settings: TrainingSettings,
    *,
    name: str,
    progress: bool = False,
    resume: Path | None = None,
    on_score: OnScore | None = None,
) -> Outcome:
    """Minimise ``loss_at(step)`` and keep the weights with the lowest ``score()``; the network ends with them.

    Args:
        loss_at: loss of the batch that belongs to a step. The network is in training mode.
        score: RMSE on the validation data; the network is in evaluation mode, without gradients.
        name: of the progress bar (standard error).
        resume: file that keeps the state of the run; continued if it exists.
        on_score: told every score before the state is kept, so that a run that is continued has told them all.
    """
    optimisers = _optimisers(network, settings)
    schedules = [_schedule(optimiser, settings) for optimiser in optimisers]
    done, best = _Progress(), copy.deepcopy(network.state_dict())
    if resume is not None and resume.exists():
        done, best = _restore(resume, network, optimisers, schedules)
    bar = tqdm(total=settings.steps, initial=done.step, desc=name, disable=not progress, leave=True)
    while done.step < settings.steps and not _exhausted(done, settings):
        loss = _step(network, optimisers, loss_at, done.step)
        done.step += 1
        if settings.schedule == "cosine":
            for schedule in schedules:
                schedule.step()
        bar.update()
        if done.step % settings.evaluate_every and done.step != settings.steps:
            continue
        value = _score(network, score)
        if settings.schedule == "plateau":
            for schedule in schedules:
                schedule.step(value)
        done.history = (*done.history, (done.step, loss, value))
        if value < done.best_score:
            done.best_step, done.best_score, best = done.step, value, copy.deepcopy(network.state_dict())
        bar.set_postfix(loss=f"{loss:.3g}", score=f"{value:.4g}", best=f"{done.best_score:.4g}")
        ended = on_score is not None and on_score(name, done.step, done.best_score)
        if resume is not None:
            _keep(resume, done, best, network, optimisers, schedules)
        if ended:
            break
    bar.close()
    network.load_state_dict(best)
    network.eval()
    return Outcome(best, done.best_step, done.best_score, done.history)


def _step(network: nn.Module, optimisers: list[Optimizer], loss_at: Callable[[int], Tensor], step: int) -> float:
    network.train()
    network.zero_grad(set_to_none=True)
    loss = loss_at(step)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


def _score(network: nn.Module, score: Callable[[], float]) -> float:
    network.eval()
    with torch.no_grad():
        return score()


def _optimisers(network: nn.Module, settings: TrainingSettings) -> list[Optimizer]:
    """Adam for every weight; or Muon for matrices and kernels, and Adam for what is left."""
    rate, decay = settings.learning_rate, settings.weight_decay
    weights = list(network.parameters())
    if settings.optimiser == "adam":
        return [Adam(weights, rate, weight_decay=decay)]
    matrices = [weight for weight in weights if weight.ndim > 1 and len(weight) > 1]
    others = [weight for weight in weights if weight.ndim <= 1 or len(weight) == 1]
    return [Muon(matrices, MATRIX_RATE * rate, weight_decay=decay), Adam(others, rate)]


def _schedule(optimiser: Optimizer, settings: TrainingSettings) -> Any:
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)


def _exhausted(done: _Progress, settings: TrainingSettings) -> bool:
    since = sum(step > done.best_step for step, _, _ in done.history)
    return 0 < settings.patience <= since


def _keep(
    path: Path, done: _Progress, best: State, network: nn.Module, optimisers: list[Optimizer], schedules: list[Any]
) -> None:
    save_state(
        path,
        {
            "progress": vars(done),
            "best": best,
            "network": network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "schedules": [schedule.state_dict() for schedule in schedules],
        },
    )


def _restore(
    path: Path, network: nn.Module, optimisers: list[Optimizer], schedules: list[Any]
) -> tuple[_Progress, State]:
    stored = load_state(path)
    network.load_state_dict(stored["network"])
    for name, parts in (("optimisers", optimisers), ("schedules", schedules)):
        for part, state in zip(parts, stored[name], strict=True):
            part.load_state_dict(state)
    progress = dict(stored["progress"])
    progress["history"] = tuple(tuple(row) for row in progress["history"])
    return _Progress(**progress), stored["best"]
