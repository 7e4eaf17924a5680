"""What a tuning leaves: the best settings as TOML, the Pareto table of RMSE and latency, a picture of its progress."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscale_train.tune_problem import Problem, to_toml
from thermoscale_train.tune_space import Space, Table, with_values
from thermoscale_train.tune_trial import write_atomically

if TYPE_CHECKING:
    from thermoscale_train.tune_study import Trial


def write_report(problem: Problem, known: Table, space: Space, trials: Sequence["Trial"], out: Path) -> dict[str, Any]:
    """Write ``best.toml`` and ``convergence.png``; return the verb's JSON object, its best None if all failed."""
    completed = [trial for trial in trials if trial.status == "completed" and trial.rmse is not None]
    best = min(completed, key=_rmse, default=None)
    if best is not None:
        text = f"Best of {len(trials)} trials of {problem.network}: trial {best.index}, held-out RMSE {best.rmse:.4f}."
        settings = with_values(known, space, best.parameters)
        write_atomically(out / "best.toml", to_toml(settings, text))
        _draw(trials, problem.network, out / "convergence.png")
    return {
        "network": problem.network,
        "best": best and {**asdict(best), "settings": str(out / "best.toml")},
        "pareto": [asdict(trial) for trial in pareto(completed)],
        "trials": [asdict(trial) for trial in trials],
    }


def pareto(trials: Sequence["Trial"]) -> list["Trial"]:
    """The completed trials that no other beats in both RMSE and latency, most accurate first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (_rmse(trial), _latency(trial))):
        if not front or _latency(trial) < _latency(front[-1]):
            front.append(trial)
    return front


def as_text(report: dict[str, Any]) -> str:
    """For people: how the trials ended, the Pareto table, where the best settings are."""
    ends = [trial["status"] for trial in report["trials"]]
    counts = ", ".join(f"{ends.count(end)} {end.replace('_', ' ')}" for end in dict.fromkeys(ends))
    lines = [f"{len(ends)} trials of {report['network']}: {counts}"]
    lines += [f"trial {row['index']} failed: {row['reason']}" for row in report["trials"] if row["status"] == "failed"]
    if report["best"] is None:
        return "\n".join([*lines, "no trial was completed"])
    lines += ["", "Pareto front", f"{'trial':>5} {'RMSE':>9} {'ms':>9}  settings"]
    for row in report["pareto"]:
        settings = ", ".join(f"{key} {_short(value)}" for key, value in row["parameters"].items())
        lines.append(f"{row['index']:>5} {row['rmse']:>9.4f} {row['latency_ms']:>9.3f}  {settings}")
    return "\n".join([*lines, "", f"best settings: {report['best']['settings']}"])


def _draw(trials: Sequence["Trial"], network: str, path: Path) -> None:
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7.5, 4.2), layout="constrained", dpi=110)
    axis = figure.subplots()
    styles = {"completed": ("o", "tab:blue"), "early_stopped": ("v", "tab:gray")}
    for status, (marker, colour) in styles.items():
        shown = [trial for trial in trials if trial.status == status and trial.rmse is not None]
        axis.scatter([t.index for t in shown], [_rmse(t) for t in shown], marker=marker, c=colour, label=status)
    best = list(accumulate((_rmse(t) if t.status == "completed" else float("inf") for t in trials), min))
    axis.step([trial.index for trial in trials], best, where="post", color="tab:red", label="best so far")
    for trial in trials:
        if trial.status == "failed":
            axis.axvline(trial.index, color="tab:orange", linestyle=":", linewidth=1)
    axis.set(title=f"Tuning of {network} (dotted: failed)", xlabel="trial", ylabel="held-out RMSE")
    axis.legend()
    figure.savefig(path)


def _rmse(trial: "Trial") -> float:
    return float("inf") if trial.rmse is None else trial.rmse


def _latency(trial: "Trial") -> float:
    return float("inf") if trial.latency_ms is None else trial.latency_ms


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
