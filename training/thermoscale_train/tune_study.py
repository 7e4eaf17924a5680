"""The Ax experiment of a tuning, in a SQLite file that holds everything at every moment.

Slow to import (seconds): only the process that leads a tuning does.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thermoscale.errors import InvalidInput
from thermoscale_train.tune_space import Parameter, Range, Space
from thermoscale_train.tune_trial import Result


@contextmanager
def quiet_ax() -> Iterator[None]:
    """Around calls into Ax: what it logs, its own deprecations, and those it causes elsewhere, are no news here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(ax|botorch|gpytorch|linear_operator|pandas|torch)\b")
            yield
    finally:
        logging.disable(disabled)


with quiet_ax():
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig, StorageConfig
    from ax.core.trial_status import TrialStatus
    from ax.early_stopping.strategies import PercentileEarlyStoppingStrategy
    from ax.exceptions.core import SearchSpaceExhausted
    from ax.storage.sqa_store.db import create_all_tables, get_engine, init_engine_and_session_factory

NAME, RMSE, LATENCY = "tuning", "rmse", "latency_ms"
STOP_PERCENTILE, MIN_CURVES = 50.0, 3
RANDOM_TRIALS = 6
"""Sobol points, the known settings counted in, before the model of the scores proposes."""


@dataclass(frozen=True)
class Trial:
    """One row of the study; ``status`` is Ax's name of it, in lower case."""

    index: int
    status: str
    parameters: dict[str, Parameter]
    rmse: float | None
    latency_ms: float | None
    reason: str


class Study:
    """The trials of one tuning: proposed, scored, stopped early, stored.

    A trial is stopped early when its RMSE is in the worse half of what the completed trials had at the same step.
    """

    def __init__(self, path: Path, space: Space, known: Mapping[str, Parameter], *, seed: int, first_stop: int) -> None:
        """Open the study in ``path``, or begin it with the known settings as trial 0.

        Args:
            first_stop: no trial is stopped before this step.
        """
        self._seed = seed
        with quiet_ax():
            if not path.exists():
                _begin(path, space, known, seed)
            init_engine_and_session_factory(url=_url(path), force_init=True)
            self._client = Client.load_from_database(NAME, storage_config=StorageConfig(url=_url(path)))
            self._client.set_early_stopping_strategy(
                PercentileEarlyStoppingStrategy(
                    metric_signatures=[RMSE],
                    percentile_threshold=STOP_PERCENTILE,
                    min_progression=first_stop,
                    min_curves=MIN_CURVES,
                    n_best_trials_to_complete=1,
                )
            )
            self._recorded = {index: self._stored_steps(index) for index in self._trials}

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order they were proposed."""
        with quiet_ax():
            return [self._row(index) for index in sorted(self._trials)]

    def unfinished(self) -> dict[int, dict[str, Parameter]]:
        """The trials that are running, or were when the tuning was killed."""
        return {trial.index: trial.parameters for trial in self.trials if trial.status == "running"}

    def propose(self, limit: int) -> tuple[int, dict[str, Parameter]] | None:
        """One more trial, which is then running; None when there are ``limit`` or the search space is exhausted.

        Settings that failed fail again: proposed once more they are abandoned unrun, and Ax looks elsewhere.
        """
        failed = [trial.parameters for trial in self.trials if trial.status == "failed"]
        while len(self._trials) < limit:
            with quiet_ax():
                torch.manual_seed(self._seed + len(self._trials))
                try:
                    ((index, parameters),) = self._client.get_next_trials(max_trials=1).items()
                except SearchSpaceExhausted:
                    return None
                self._recorded[index] = set()
                if parameters not in failed:
                    return index, parameters
                self._client.mark_trial_abandoned(index)
        return None

    def record(self, index: int, step: int, rmse: float) -> bool:
        """Store the best RMSE of a running trial up to ``step``; False for one that is already there."""
        if step in self._recorded[index]:
            return False
        with quiet_ax():
            self._client.attach_data(index, {RMSE: rmse}, progression=step)
        self._recorded[index].add(step)
        return True

    def should_stop(self, index: int) -> bool:
        """Is a running trial behind the others?"""
        with quiet_ax():
            return bool(self._client.should_stop_trial_early(index))

    def finish(self, index: int, result: Result) -> None:
        """Store how a trial ended; its scores have been recorded."""
        with quiet_ax():
            if result.status == "failed":
                self._client.mark_trial_failed(index, failed_reason=result.reason)
                return
            if self._row(index).latency_ms is None:
                self._client.attach_data(index, {LATENCY: result.latency_ms}, progression=max(self._recorded[index]))
            if result.status == "stopped":
                self._client.mark_trial_early_stopped(index)
            else:
                self._client.complete_trial(index)

    @property
    def _trials(self) -> dict[int, Any]:
        """Ax's API lists trials as texts and numbers in a table only; here their types are needed."""
        return dict(self._client._experiment.trials)

    def _row(self, index: int) -> Trial:
        trial = self._trials[index]
        data = self._client._experiment.lookup_data(trial_indices=[index]).df
        last = {name: float(data[data.metric_name == name]["mean"].iloc[-1]) for name in set(data.metric_name)}
        status = TrialStatus(trial.status).name.lower()
        reason = str(trial.status_reason or "")
        return Trial(index, status, dict(trial.arm.parameters), last.get(RMSE), last.get(LATENCY), reason)

    def _stored_steps(self, index: int) -> set[int]:
        data = self._client._experiment.lookup_data(trial_indices=[index]).full_df
        return {int(step) for step in data[data.metric_name == RMSE]["step"]} if len(data) else set()


def _begin(path: Path, space: Space, known: Mapping[str, Parameter], seed: int) -> None:
    """The file appears when it is complete, so a kill leaves a study or none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    init_engine_and_session_factory(url=_url(partial), force_init=True)
    create_all_tables(get_engine())
    client = Client(storage_config=StorageConfig(url=_url(partial)))
    client.configure_experiment(name=NAME, parameters=[_ax_parameter(dimension) for dimension in space])
    client.configure_optimization(objective=f"-{RMSE}, -{LATENCY}")
    client.configure_generation_strategy(
        method="fast",
        initialization_budget=RANDOM_TRIALS,
        initialization_random_seed=seed,
        initialize_with_center=False,  # the known settings are the centre
        allow_exceeding_initialization_budget=True,
    )
    client.attach_trial(parameters=dict(known), arm_name="known")
    get_engine().dispose()
    partial.replace(path)


def _ax_parameter(dimension: Any) -> Any:
    if isinstance(dimension, Range):
        return RangeParameterConfig(
            name=dimension.key,
            bounds=(dimension.encode(dimension.low), dimension.encode(dimension.high)),
            parameter_type="int" if dimension.whole else "float",
            scaling="log" if dimension.log else "linear",
        )
    values = [dimension.encode(value) for value in dimension.values]
    kinds = {str: "str", bool: "bool", int: "int", float: "float"}
    if len({type(value) for value in values}) != 1:
        raise InvalidInput(f"choices of {dimension.key} are of different types: {values}")
    kind = kinds[type(values[0])]
    return ChoiceParameterConfig(
        name=dimension.key, values=values, parameter_type=kind, is_ordered=kind in ("int", "float")
    )


def _url(path: Path) -> str:
    return f"sqlite:///{path}"
