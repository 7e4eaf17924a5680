"""Training samples of DyNet: a random clip of the fine scene x a random triple of library dates (METHODS 1.3)."""

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.errors import Undetermined
from thermoscale.numerics.bias import BiasRule, apply_bias
from thermoscale.numerics.change_ratio import Guards, coarse_alpha
from thermoscale.numerics.hcr import AlphaDefinition, hcr_alpha, mean_per_hcr
from thermoscale.numerics.triples import Triple
from thermoscale.pipelines.iustfm import Region, clip_cells, clip_inputs
from thermoscale.pipelines.iustfm_coarse import free_of_bias
from thermoscale.pipelines.library import Library
from thermoscale_train.config import DyNetSamples, DyNetStructure

RANDOM_CLIPS = 64


@dataclass(frozen=True)
class DyNetPool:
    """N samples.

    Attributes:
        alpha, valid: ``[N, m_max]`` inputs by slot; 0 where not valid.
        truth: ``[N, h_max]`` change ratio of each HCR in the clip, NaN where it is absent or undefined.
        pixels: ``[N, h_max]`` fine pixels of the HCR in the clip.
        distance: ``[N, h_max]`` mean of ``post - pre`` over them, unit of the library, NaN where the HCR is absent.
    """

    alpha: Tensor
    valid: Tensor
    truth: Tensor
    pixels: Tensor
    distance: Tensor

    def batch(self, size: int, slot_dropout: float, rng: np.random.Generator) -> "DyNetPool":
        """``size`` random samples, with a random share of the valid slots hidden in each."""
        rows = torch.from_numpy(rng.integers(0, len(self.alpha), size))
        kept = torch.from_numpy(rng.random((size, self.alpha.shape[1]), np.float32) >= slot_dropout)
        valid = self.valid[rows] & kept
        return DyNetPool(self.alpha[rows], valid, self.truth[rows], self.pixels[rows], self.distance[rows])


def training_triples(library: Library, guards: Guards, order: str) -> list[Triple]:
    """Every triple of library dates whose baseline passes the guard; the target has a fine scene, too.

    Args:
        guards: in the unit of the library.
        order: "ordered" is pre < target < post; "unordered" any target besides two dates pre < post.
    """
    if order == "ordered":
        found = [Triple(*times) for times in combinations(sorted(library.times), 3)]
    else:
        found = [Triple(*times) for times in permutations(sorted(library.times), 3) if times[0] < times[2]]
    return [t for t in found if library.baseline_of(t.pre, t.post) >= guards.min_baseline_k]


def random_clips(fine_shape: tuple[int, int], clip_px: int, count: int, rng: np.random.Generator) -> IntArray:
    """``[count, 4]`` row, col, height, width at random offsets; the side shrinks to the scene."""
    side = np.minimum(clip_px, fine_shape)
    corners = rng.integers(0, np.array(fine_shape) - side + 1, (count, 2))
    return np.concatenate([corners, np.broadcast_to(side, corners.shape)], axis=1).astype(np.int32)


def draw_dynet_pool(
    library: Library,
    region: Region,
    guards: Guards,
    clip_px: int,
    settings: DyNetSamples,
    structure: DyNetStructure,
    rule: BiasRule,
    rng: np.random.Generator,
) -> DyNetPool:
    """``settings.pool`` samples; those without an input or without an HCR are left out.

    Args:
        guards, rule: in the unit of the library.

    Raises:
        Undetermined: no triple passes the baseline guard, or no sample is left.
    """
    triples = training_triples(library, guards, settings.order)
    if not triples:
        raise Undetermined(
            f"no triple of the {len(library.times)} library dates has a baseline of {guards.min_baseline_k:g}; "
            "lower min_baseline_k or bring dates with scenes further apart"
        )
    clips = random_clips(region.fine_shape, clip_px, RANDOM_CLIPS, rng)
    cells = clip_cells(region, clips)
    choices = rng.integers(0, (len(triples), len(clips)), (settings.pool, 2)).tolist()
    inputs: dict[int, FloatArray] = {}
    rows = []
    for number, clip in sorted(choices):
        triple = triples[number]
        if number not in inputs:
            inputs = {number: _coarse_ratios(library, region, triple, guards, rule)}
        alpha, valid = clip_inputs(region, inputs[number], structure.m_max, cells=cells[clip : clip + 1])
        truth = _clip_truth(library, region, triple, clips[clip], settings, structure.h_max, guards)
        if valid.any() and np.isfinite(truth[0]).any():
            rows.append((alpha[0], valid[0], *truth))
    if not rows:
        raise Undetermined(f"no clip of any of {len(triples)} triples has both a coarse ratio and an HCR's ratio")
    return DyNetPool(*(torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True)))


def _coarse_ratios(library: Library, region: Region, triple: Triple, guards: Guards, rule: BiasRule) -> FloatArray:
    """``[1, n_cells]``, of scenes freed of their bias as the pipeline frees them: the target's fine scene is unseen."""
    others = [time for time in library.times if time != triple.target]
    freed, carried, _ = free_of_bias(library, region, rule, others)
    target = apply_bias(library.coarse_at(triple.target), carried.bias)
    return coarse_alpha(freed[triple.pre], target, freed[triple.post], guards).reshape(1, -1)


def _clip_truth(
    library: Library,
    region: Region,
    triple: Triple,
    clip: IntArray,
    settings: DyNetSamples,
    h_max: int,
    guards: Guards,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``[h_max]`` true ratios (NaN for small HCRs and beyond the guard), pixels and distances of the clip's HCRs."""
    row, col, height, width = clip.tolist()
    window = (slice(row, row + height), slice(col, col + width))
    labels = region.labels[window]
    pre, target, post = (library.fine_at(time, window) for time in triple)
    definition: AlphaDefinition = "mean_of_ratios" if settings.definition == "mean_of_ratios" else "ratio_of_sums"
    alpha = hcr_alpha(pre, target, post, labels, h_max, definition)
    pixels = np.bincount(labels[labels >= 0], minlength=h_max)
    known = (pixels >= settings.min_pixels) & (np.abs(alpha) <= guards.max_abs_alpha)
    distance = mean_per_hcr(post - pre, labels, h_max)
    return np.where(known, alpha, np.nan).astype(np.float32), pixels.astype(np.float32), distance
