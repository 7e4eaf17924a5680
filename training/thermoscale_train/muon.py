"""Muon: an optimiser whose step for a weight matrix is its momentum made orthogonal.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of a step as in
J. Liu et al., "Muon is Scalable for LLM Training" (arXiv 2502.16982). torch.optim.Muon takes no kernels of
convolutions, and works in bfloat16, which CPUs without it emulate several times slower than float32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
STEP_RMS = 0.2
"""Root mean square of a step over its learning rate: that of Adam in practice (Liu et al.)."""
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of Jordan et al.: a x + b x^3 + c x^5 moves singular values x of (0, 1] towards 1, in five rounds to 0.7 ... 1.2."""
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Steps for matrices and kernels ``[out, ...]``, each taken as the matrix of ``out`` rows.

    Args:
        weight_decay: weights shrink by this times the learning rate at every step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, *, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = orthogonal(self._look_ahead(parameter))
                rate = group["lr"] * STEP_RMS * max(direction.shape) ** 0.5
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                parameter.add_(direction.view_as(parameter), alpha=-rate)

    def _look_ahead(self, parameter: nn.Parameter) -> Tensor:
        """The momentum with this gradient counted twice (Nesterov), as a matrix."""
        assert parameter.grad is not None
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(parameter.grad, 1.0 - MOMENTUM)
        return parameter.grad.lerp(momentum, MOMENTUM).flatten(1)


def orthogonal(matrix: Tensor) -> Tensor:
    """``U V'`` of ``matrix = U S V'`` ``[m, n]``, roughly: singular values of 0.7 to 1.2, those near 0 less.

    Newton-Schulz rounds on the smaller Gram matrix alone, since all of them share its eigenvectors.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    unit = matrix / matrix.norm().clamp(min=1e-7)
    gram = unit @ unit.T
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    rounds, (a, b, c) = one, _QUINTIC
    for _ in range(_ROUNDS):
        factor = a * one + b * gram + c * gram @ gram
        rounds, gram = factor @ rounds, factor @ gram @ factor
    levelled: Tensor = rounds @ unit
    return levelled
