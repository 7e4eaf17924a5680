"""DyNet: one static graph with masks is the network with the absent neurons removed."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thermoscale.errors import InvalidInput
from thermoscale_train.losses import ratio_loss
from thermoscale_train.models.dynet import SPACES, DyNet, DyNetConfig, into_space
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig

M, H = 9, 6


def removed(whole: DyNet, slots: torch.Tensor, hcrs: torch.Tensor) -> DyNet:
    """A really smaller network: only the columns of ``slots`` and the rows of ``hcrs``."""
    config = whole.config
    small = DyNet(replace(config, m_max=len(slots), h_max=len(hcrs)))
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    state["perceptron.0.weight"] = state["perceptron.0.weight"][:, slots]
    last = f"perceptron.{2 * config.layers}"
    for part in ("weight", "bias"):
        state[f"{last}.{part}"] = state[f"{last}.{part}"][hcrs]
    if config.pooled:
        state["weights"] = state["weights"][slots][:, hcrs]
    small.load_state_dict(state)
    return small


@given(
    seed=st.integers(0, 50),
    slots=st.sets(st.integers(0, M - 1), min_size=1),
    hcrs=st.sets(st.integers(0, H - 1), min_size=1),
    space=st.sampled_from(SPACES),
    pooled=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_masks_equal_removed_neurons_forward_and_backward(
    seed: int, slots: set[int], hcrs: set[int], space: str, pooled: bool
) -> None:
    torch.manual_seed(seed)
    config = DyNetConfig(M, H, hidden=8, layers=2, alpha_mean=0.3, alpha_sd=2.0, space=space, pooled=pooled)
    whole = DyNet(config, torch.rand(M, H))
    nn.init.normal_(whole.perceptron[-1].weight)
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
    assert torch.allclose(got[:, hcr], wanted, atol=1e-5, rtol=1e-3)

    everything = torch.ones(4, len(slot), dtype=torch.bool)
    one = torch.ones_like(truth)
    ratio_loss(whole.answer(hidden, valid), torch.where(present, truth, float("nan")), one, one, 0.0).backward()
    ratio_loss(small.answer(alpha[:, slot], everything), truth[:, hcr], one[:, hcr], one[:, hcr], 0.0).backward()
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


def trained_ratio_net(distance_offset: float = 0.0, distance_scale: float = 1.0) -> RatioNet:
    """With a head that is not zero, as after training."""
    torch.manual_seed(0)
    ratio_net = RatioNet(RatioNetConfig(distance_offset=distance_offset, distance_scale=distance_scale))
    nn.init.normal_(ratio_net.perceptron[-1].weight)
    return ratio_net


def test_an_untrained_ratio_net_is_the_closed_form() -> None:
    distance, a2 = torch.rand(99) * 20, torch.cat([torch.linspace(-6, -0.1, 50), torch.linspace(0.1, 6, 49)])
    torch.testing.assert_close(RatioNet(RatioNetConfig())(distance, a2), distance / a2)


def test_ratio_net_corrects_the_quotient_and_works_in_physical_units() -> None:
    """A ten times finer unit with ten times larger statistics gives ten times the step."""
    distance, a2 = torch.rand(7) * 20, torch.tensor([-6.0, -1.0, -0.1, 0.1, 1.0, 2.0, 6.0])
    kelvin, tenths = trained_ratio_net(5.0, 2.0), trained_ratio_net(50.0, 20.0)
    torch.testing.assert_close(tenths(10 * distance, a2), 10 * kelvin(distance, a2))
    assert (kelvin(distance, a2) - distance / a2).abs().max() > 1e-3


def test_ratio_net_is_smooth_where_the_target_is_close_to_the_earlier_date() -> None:
    """There a2 jumps from plus to minus infinity."""
    distance, a2 = torch.full((2,), 10.0), torch.tensor([-1e6, 1e6])
    step = trained_ratio_net()(distance, a2)
    torch.testing.assert_close(step[0], step[1], atol=1e-4, rtol=0.0)


@given(seed=st.integers(0, 50), space=st.sampled_from(SPACES))
@settings(max_examples=25, deadline=None)
def test_an_untrained_network_with_pooling_is_the_pooling(seed: int, space: str) -> None:
    """Slow twin: weighted means per HCR in the network's space; the plain mean where an HCR is in no valid slot."""
    torch.manual_seed(seed)
    weights = torch.rand(M, H) * (torch.rand(M, H) > 0.5)
    dynet = DyNet(DyNetConfig(M, H, 8, 2, 0.3, 2.0, space, pooled=True), weights)
    alpha, valid = torch.rand(3, M) * 4, torch.rand(3, M) > 0.3
    valid[:, 0] = True
    got = dynet(torch.where(valid, alpha, float("nan")), valid, torch.ones(3, H, dtype=torch.bool))
    for row in range(3):
        known = into_space(alpha[row][valid[row]], space)
        for hcr in range(H):
            weight = weights[valid[row], hcr]
            mean = (known * weight).sum() / weight.sum() if weight.sum() > 0 else known.mean()
            wanted = mean if space == "alpha" else 1 / mean - 1
            assert got[row, hcr].item() == pytest.approx(wanted.item(), rel=1e-3, abs=1e-4)


def test_beta_is_finite_everywhere_and_comes_back() -> None:
    alpha = torch.tensor([[-5.0, -1.2, -1.0, -0.999, 0.0, 1.0, 5.0, 1e6]])
    beta = into_space(alpha, "beta")
    assert (beta.abs() <= 10.0 + 1e-4).all()
    dynet = DyNet(DyNetConfig(1, 1, 8, 1, space="beta", pooled=True), torch.ones(1, 1))
    everywhere = torch.ones(8, 1, dtype=torch.bool)
    back = dynet(alpha.T, everywhere, everywhere).ravel()
    away = (alpha[0] + 1).abs() > 0.1
    assert torch.allclose(back[away][:-1], alpha[0][away][:-1], atol=1e-4)
    assert back[-1].item() == pytest.approx(49.0, rel=1e-4)


def test_another_space_is_refused() -> None:
    with pytest.raises(InvalidInput, match="space is 'gamma'"):
        DyNetConfig(space="gamma")
