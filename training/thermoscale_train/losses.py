"""Losses over what is valid; everything in the unit of the quantity (K for LST)."""

import torch
from torch import Tensor
from torch.nn import functional


def huber(prediction: Tensor, truth: Tensor, valid: Tensor, bend: float) -> Tensor:
    """Mean Huber loss where ``valid``: squared below ``bend``, linear beyond; 0 if nothing is valid. Equal shapes."""
    loss = functional.huber_loss(prediction, torch.where(valid, truth, prediction), delta=bend, reduction="none")
    return loss.sum() / valid.sum().clamp(min=1)


def laplace(error: Tensor, spread: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``|error| / spread + log(spread)`` where ``valid``: the spread of least loss is the mean absolute error.

    Unlike the squared error it lets the few pixels that are far off be far off. Equal shapes; 0 if nothing is valid.
    """
    known = torch.where(valid, error, torch.zeros_like(error)).abs() / spread + spread.log()
    return torch.where(valid, known, torch.zeros_like(known)).sum() / valid.sum().clamp(min=1)


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


def ratio_loss(answer: Tensor, truth: Tensor, weight: Tensor, slope: Tensor, bend: float) -> Tensor:
    """Weighted mean loss of DyNet's answers where ``truth`` is not NaN; 0 if it is nowhere. All ``[B, h_max]``.

    Args:
        answer, truth: in the network's space. Absent outputs get neither loss nor gradient.
        weight: of each HCR, not negative. Dividing by their sum keeps a step independent of how many HCRs there are.
        slope: what an error of 1 is worth. It may turn errors of a ratio into errors of LST.
        bend: squared below, linear beyond, in the unit of ``slope``; 0 is squared everywhere.
    """
    present = torch.isfinite(truth)
    zero = torch.zeros_like(answer)
    error = (torch.where(present, answer, zero) - torch.where(present, truth, zero)) * torch.where(present, slope, zero)
    loss = functional.huber_loss(error, zero, delta=bend, reduction="none") if bend > 0.0 else error.square()
    counted = torch.where(present, weight, zero)
    return (counted * loss).sum() / counted.sum().clamp(min=torch.finfo(answer.dtype).tiny)
