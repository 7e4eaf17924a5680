"""The report's plots, each one PNG: agreement pixel by pixel, errors per HCR, single triples, and coarse noise."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from thermoscale.arrays import Array, Quantity
from thermoscale_train.evidence import NOISE_K, Evidence
from thermoscale_train.panels import Panel, common_range, draw_panel

DOTS_PER_INCH = 90
DENSITY_BINS = 160


def triptych(evidence: Evidence, quantity: Quantity) -> bytes:
    """Coarse, prediction, truth and error of one target."""
    subtitles = ("coarse", f"prediction, {evidence.method}", "truth")
    images = (evidence.coarse, evidence.prediction, evidence.truth)
    with TemporaryDirectory() as folder:
        return draw_panel(Panel(evidence.time, subtitles, *images, quantity), Path(folder) / "panel.png").read_bytes()


def density(evidence: Sequence[Evidence], quantity: Quantity) -> bytes:
    """Prediction against truth, all pixels of all targets, and the line on which both agree."""
    from matplotlib.colors import LogNorm  # slow to import

    truth = np.concatenate([part.truth.ravel() for part in evidence])
    prediction = np.concatenate([part.prediction.ravel() for part in evidence])
    both = np.isfinite(truth) & np.isfinite(prediction)
    figure, axis = _figure((6.4, 5.6))
    low, high = common_range([truth[both], prediction[both]])
    span = ((low, high), (low, high))
    counts, edges, _ = np.histogram2d(truth[both], prediction[both], bins=DENSITY_BINS, range=span)
    colours = LogNorm(1.0, max(2.0, float(counts.max())))
    shown = axis.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, norm=colours, cmap="viridis")
    figure.colorbar(shown, ax=axis, label="pixels")
    axis.plot([low, high], [low, high], color="crimson", linewidth=1.0)
    axis.set(xlabel=f"truth{_in_unit(quantity)}", ylabel=f"prediction{_in_unit(quantity)}", aspect="equal")
    axis.set_title(f"{evidence[0].method}: {both.sum():,} pixels of {len(evidence)} targets")
    return _png(figure)


def boxes_per_hcr(evidence: Evidence, quantity: Quantity) -> bytes:
    """Errors of one target in each HCR, coldest HCR first; whiskers hold 90 % of the pixels."""
    error = evidence.prediction - evidence.truth
    known = np.isfinite(error) & (evidence.labels >= 0)
    labels = evidence.labels[known]
    present = np.unique(labels)
    means = [float(evidence.truth[known][labels == hcr].mean()) for hcr in present]
    order = [int(present[i]) for i in np.argsort(means)]
    figure, axis = _figure((11.0, 4.2))
    axis.boxplot(
        [error[known][labels == hcr] for hcr in order],
        whis=(5, 95),
        showfliers=False,
        widths=0.7,
        medianprops={"color": "crimson"},
    )
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    axis.set_xticks(range(1, len(order) + 1), [str(hcr) for hcr in order], fontsize=7, rotation=90)
    axis.set(xlabel="HCR, coldest (lowest) first", ylabel=f"prediction - truth{_in_unit(quantity)}")
    axis.set_title(f"{evidence.method}, target {evidence.time}: error in each HCR")
    return _png(figure)


def boxes_per_target(evidence: Sequence[Evidence], quantity: Quantity) -> bytes:
    """Mean error of each HCR, one box for each target: HCRs are fitted anew for every target."""
    biases = [_hcr_biases(part) for part in evidence]
    figure, axis = _figure((11.0, 4.0))
    axis.boxplot(biases, whis=(5, 95), widths=0.6, medianprops={"color": "crimson"}, flierprops={"markersize": 3})
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    names = [part.time[:10] for part in evidence]
    axis.set_xticks(range(1, len(names) + 1), names, rotation=45, ha="right", fontsize=8)
    axis.set_ylabel(f"mean error of an HCR{_in_unit(quantity)}")
    axis.set_title(f"{evidence[0].method}: bias of the HCRs of each target")
    return _png(figure)


def triples_by_baseline(evidence: Sequence[Evidence], quantity: Quantity, min_baseline: float) -> bytes | None:
    """RMSE of every triple alone against its baseline; None where no triple answers alone."""
    scores = [score for part in evidence for score in part.triples]
    if not scores:
        return None
    baseline, error, coverage = np.array(scores).T
    figure, axis = _figure((8.0, 4.8))
    shown = axis.scatter(baseline, error, c=coverage, s=14, cmap="viridis_r", vmin=0.0, vmax=1.0, alpha=0.8)
    figure.colorbar(shown, ax=axis, label="share of the pixels it answers")
    axis.axvline(min_baseline, color="crimson", linestyle="--", linewidth=1.0, label="guard")
    axis.set_yscale("log")
    axis.set(xlabel=f"baseline{_in_unit(quantity)}", ylabel=f"RMSE where it answers{_in_unit(quantity)}")
    axis.set_title(f"{len(scores)} single triples of {len(evidence)} targets, closed form")
    axis.legend(loc="upper right")
    return _png(figure)


def noise_sweep(evidence: Sequence[Evidence], quantity: Quantity) -> bytes:
    """Mean RMSE over the targets with more and more noise on the target's coarse image."""
    figure, axis = _figure((7.0, 4.6))
    levels = np.array(NOISE_K) * quantity.kelvin
    for method in evidence[0].noise:
        means: Array = np.mean([part.noise[method] for part in evidence], axis=0)
        drawn = method == evidence[0].method
        axis.plot(levels, means, marker="o", linewidth=2.4 if drawn else 1.2, label=method)
    axis.set(xlabel=f"noise added to the coarse image, 1 sigma{_in_unit(quantity)}", ylabel=f"RMSE{_in_unit(quantity)}")
    axis.set_ylim(bottom=0.0)
    axis.set_title("What noise of the target's coarse image costs")
    axis.grid(alpha=0.3)
    axis.legend()
    return _png(figure)


def _hcr_biases(evidence: Evidence) -> Array:
    """Mean error of every HCR that has a predicted pixel."""
    error = evidence.prediction - evidence.truth
    known = np.isfinite(error) & (evidence.labels >= 0)
    labels = evidence.labels[known]
    counts = np.bincount(labels)
    totals = np.bincount(labels, error[known].astype(np.float64))
    biases: Array = totals[counts > 0] / counts[counts > 0]
    return biases


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=size, layout="constrained", dpi=DOTS_PER_INCH)
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _in_unit(quantity: Quantity) -> str:
    return f" ({quantity.name})" if quantity.unit == "1" else f", {quantity.unit}"
