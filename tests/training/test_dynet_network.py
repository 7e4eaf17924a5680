"""DyNet: one static graph with masks is the network with the absent neurons removed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thermoscale_train.losses import mean_square_present
from thermoscale_train.models.dynet import DyNet, DyNetConfig
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig

M, H = 9, 6


def removed(whole: DyNet, slots: torch.Tensor, hcrs: torch.Tensor) -> DyNet:
    """A really smaller network: only the columns of ``slots`` and the rows of ``hcrs``."""
    config = whole.config
    small = DyNet(DyNetConfig(len(slots), len(hcrs), config.hidden, config.layers, config.alpha_mean, config.alpha_sd))
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    state["perceptron.0.weight"] = state["perceptron.0.weight"][:, slots]
    last = f"perceptron.{2 * config.layers}"
    for part in ("weight", "bias"):
        state[f"{last}.{part}"] = state[f"{last}.{part}"][hcrs]
    small.load_state_dict(state)
    return small


@given(
    seed=st.integers(0, 50),
    slots=st.sets(st.integers(0, M - 1), min_size=1),
    hcrs=st.sets(st.integers(0, H - 1), min_size=1),
)
@settings(max_examples=25, deadline=None)
def test_masks_equal_removed_neurons_forward_and_backward(seed: int, slots: set[int], hcrs: set[int]) -> None:
    torch.manual_seed(seed)
    whole = DyNet(DyNetConfig(M, H, hidden=8, layers=2, alpha_mean=0.3, alpha_sd=2.0))
    slot, hcr = torch.tensor(sorted(slots)), torch.tensor(sorted(hcrs))
    small = removed(whole, slot, hcr)
    alpha, truth = torch.randn(4, M), torch.randn(4, H)
    valid, present = torch.zeros(4, M, dtype=torch.bool), torch.zeros(4, H, dtype=torch.bool)
    valid[:, slot], present[:, hcr] = True, True
    hidden = torch.where(valid, alpha, float("nan"))
    got = whole(hidden, valid, present)
    wanted = small(
        alpha[:, slot], torch.ones(4, len(slot), dtype=torch.bool), torch.ones(4, len(hcr), dtype=torch.bool)
    )
    assert torch.isnan(got[~present]).all()
    assert torch.allclose(got[:, hcr], wanted, atol=1e-5)

    mean_square_present(got, torch.where(present, truth, float("nan"))).backward()
    mean_square_present(wanted, truth[:, hcr]).backward()
    first, last = whole.perceptron[0].weight.grad, whole.perceptron[-1].weight.grad
    assert torch.allclose(first[:, slot], small.perceptron[0].weight.grad, atol=1e-5)
    assert torch.allclose(last[hcr], small.perceptron[-1].weight.grad, atol=1e-5)
    absent = torch.ones(M, dtype=torch.bool)
    absent[slot] = False
    assert (first[:, absent] == 0).all()


def test_the_widths_are_those_of_the_paper() -> None:
    linear = [m for m in DyNet(DyNetConfig()).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(2000, 128), *[(128, 128)] * 4, (128, 256)]
    linear = [m for m in RatioNet(RatioNetConfig()).modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [40, 40, 40, 10, 10, 1]


def test_ratio_net_works_in_physical_units() -> None:
    torch.manual_seed(0)
    plain = RatioNet(RatioNetConfig())
    scaled = RatioNet(
        RatioNetConfig(distance_offset=5.0, distance_scale=2.0, a2_offset=1.0, a2_scale=3.0, delta_scale=4.0)
    )
    scaled.load_state_dict({**plain.state_dict(), **{k: v for k, v in scaled.state_dict().items() if "perc" not in k}})
    distance, a2 = torch.rand(7) * 20, torch.randn(7)
    assert torch.allclose(scaled(distance, a2), 4 * plain((distance - 5) / 2, (a2 - 1) / 3), atol=1e-5)


def test_the_loss_is_a_mean_over_the_hcrs_present() -> None:
    truth = torch.tensor([[1.0, float("nan")], [3.0, 5.0]])
    prediction = torch.tensor([[2.0, float("nan")], [3.0, 3.0]])
    assert mean_square_present(prediction, truth).item() == pytest.approx((1 + 0 + 4) / 3)
    assert mean_square_present(prediction[:1, 1:], truth[:1, 1:]).item() == 0.0
