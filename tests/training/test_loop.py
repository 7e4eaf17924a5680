"""The training loop: the best weights win, a resumed run is the same run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from thermoscale.errors import InvalidInput
from thermoscale_train.checkpoint import load_state, save_state
from thermoscale_train.config import TrainingSettings
from thermoscale_train.loop import Outcome, train

SETTINGS = TrainingSettings(
    steps=12,
    batch=4,
    optimiser="adam",
    learning_rate=0.1,
    weight_decay=0.0,
    schedule="cosine",
    evaluate_every=3,
    patience=0,
)


def fit_line(settings: TrainingSettings, resume: Path | None = None, stop_after: int | None = None) -> Outcome:
    torch.manual_seed(0)
    network = nn.Linear(2, 2)  # Muon leaves the bias to Adam

    def loss_at(step: int) -> torch.Tensor:
        if step == stop_after:
            raise KeyboardInterrupt
        x = torch.rand(settings.batch, 2, generator=torch.Generator().manual_seed(step))
        return (network(x) - 3 * x).square().mean()

    def score() -> float:
        return float((network.weight - 3 * torch.eye(2)).abs().sum() + network.bias.abs().sum())

    return train(network, loss_at, score, settings, name="line", resume=resume)


@pytest.mark.parametrize(("schedule", "optimiser"), [("cosine", "adam"), ("plateau", "adam"), ("cosine", "muon")])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, schedule: str, optimiser: str) -> None:
    settings = replace(SETTINGS, schedule=schedule, optimiser=optimiser)
    whole = fit_line(settings)
    with pytest.raises(KeyboardInterrupt):
        fit_line(settings, tmp_path / "run.pt", stop_after=8)
    resumed = fit_line(settings, tmp_path / "run.pt")
    assert resumed.history == whole.history
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


def test_the_weights_with_the_lowest_score_win() -> None:
    scores = iter([3.0, 1.0, 2.0, 2.0])
    network = nn.Linear(1, 1)
    seen = []

    def score() -> float:
        seen.append(network.weight.item())
        return next(scores)

    outcome = train(network, lambda _: network.weight.square().sum(), score, SETTINGS, name="x")
    assert (outcome.best_step, outcome.best_score) == (6, 1.0)
    assert network.weight.item() == seen[1]
    assert not network.training


def test_patience_stops_early() -> None:
    network = nn.Linear(1, 1)
    outcome = train(network, lambda _: network.weight.sum(), lambda: 1.0, replace(SETTINGS, patience=2), name="patient")
    assert [step for step, _, _ in outcome.history] == [3, 6, 9]


def test_a_state_file_is_whole_or_not_there(tmp_path: Path) -> None:
    class Unsaveable:
        def __reduce__(self) -> str:
            raise RuntimeError("no")

    save_state(tmp_path / "s.pt", {"a": 1})
    with pytest.raises(RuntimeError):
        save_state(tmp_path / "s.pt", {"a": Unsaveable()})
    assert load_state(tmp_path / "s.pt") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s.pt"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"junk"])
def test_a_broken_state_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.pt").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"s\.pt"):
        load_state(tmp_path / "s.pt")


def test_unknown_schedules_optimisers_and_empty_runs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="optimiser is 'sgd'"):
        replace(SETTINGS, optimiser="sgd")
    with pytest.raises(InvalidInput, match="schedule"):
        replace(SETTINGS, schedule="linear")
    with pytest.raises(InvalidInput, match="steps 0"):
        replace(SETTINGS, steps=0)
