"""Losses over what is valid; everything in the unit of the quantity (K for LST)."""

import torch
from torch import Tensor
from torch.nn import functional


def huber(prediction: Tensor, truth: Tensor, valid: Tensor, bend: float) -> Tensor:
    """Mean Huber loss where ``valid``: squared below ``bend``, linear beyond; 0 if nothing is valid. Equal shapes."""
    loss = functional.huber_loss(prediction, torch.where(valid, truth, prediction), delta=bend, reduction="none")
    return loss.sum() / valid.sum().clamp(min=1)


def closure(prediction: Tensor, cells: Tensor, coarse: Tensor, pixels_per_cell: int) -> Tensor:
    """Mean ``|mean of the prediction over a coarse cell - coarse value|`` over the cells that are wholly seen.

    Args:
        prediction: ``[B, H, W]``.
        cells: ``[B, H, W]`` int64, coarse cell of each pixel, -1 where it is not to be used.
        coarse: ``[B, n_cells]``, NaN where there is no value.
        pixels_per_cell: fine pixels of a whole cell.
    """
    batch, n_cells = coarse.shape
    bins = torch.where(cells >= 0, cells, n_cells).flatten(1)
    total = prediction.new_zeros(batch, n_cells + 1).scatter_add(1, bins, prediction.flatten(1))
    count = prediction.new_zeros(batch, n_cells + 1).scatter_add(1, bins, torch.ones_like(bins, dtype=total.dtype))
    whole = (count[:, :n_cells] == pixels_per_cell) & torch.isfinite(coarse)
    residual = total[:, :n_cells] / pixels_per_cell - torch.where(whole, coarse, torch.zeros_like(coarse))
    return torch.where(whole, residual.abs(), torch.zeros_like(residual)).sum() / whole.sum().clamp(min=1)


def mean_square_present(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error where ``truth`` is not NaN; 0 if it is nowhere.

    ``prediction`` may be NaN where ``truth`` is: absent outputs get neither loss nor gradient. Dividing by the outputs
    present keeps the size of a step independent of how many there are.
    """
    present = torch.isfinite(truth)
    residual = torch.where(present, prediction, torch.zeros_like(prediction)) - torch.where(
        present, truth, torch.zeros_like(truth)
    )
    return residual.square().sum() / present.sum().clamp(min=1)
