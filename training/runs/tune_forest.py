"""Choose the settings of the random forest: python tune_forest.py PAIRS [--experiments simulated,real] > JSON.

Only development ground is looked at: the scenes that fold A's turn trains and validates with (5 spatial bands, as in
``evaluate amun --split ground``), never fold A's own. They are cut into 3 bands; each is predicted by a forest of the
scenes that do not overlap it. From the settings of ``--start`` one is varied at a time and the best value kept, until a
whole round changes nothing: started from the frozen settings it ends with them. The score of a setting is the mean over
experiments of RMSE / bicubic's RMSE, with or without residual, whichever is lower: the rival may choose. ``--trees``
and ``--pixels`` are smaller than the frozen ones; more of them lowered the error of every setting that was tried.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.formats import Pairs
from thermoscale.geo.datasets import read_pairs
from thermoscale.numerics.grids import interpolate, regular_index
from thermoscale_train.baselines.random_forest import fit_forest
from thermoscale_train.config import ForestSettings, load_forest_settings
from thermoscale_train.data.folds import overlapping, spatial_folds, turns
from thermoscale_train.data.simulated import simulate_coarse

GRID: dict[str, list[Any]] = {
    "windows_px": [(), (3,), (7,), (3, 7)],
    "min_leaf": [5, 20, 80, 200],
    "max_features": [0.33, 0.5, 1.0],
    "max_depth": [8, 14, 0],
}
N_FOLDS, N_BANDS = 5, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help=".npz or folder, see FORMATS")
    parser.add_argument("--experiments", default="simulated,real", help="default %(default)s")
    parser.add_argument("--trees", type=int, default=20, help="default %(default)s")
    parser.add_argument("--pixels", type=int, default=1000, help="of every scene, default %(default)s")
    parser.add_argument("--start", type=Path, help="TOML to start from; default the shipped one")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    args = parser.parse_args()

    pairs = read_pairs(args.pairs)
    first = turns(pairs, spatial_folds(pairs, N_FOLDS))[0]
    development = pairs.subset(sorted((*first.train, *first.valid)))
    variants = {"simulated": simulate_coarse(development), "real": development}
    chosen = {name: variants[name] for name in args.experiments.split(",")}
    start = replace(load_forest_settings(args.start), trees=args.trees, pixels_per_scene=args.pixels)
    best, tried = search(start, chosen, args.seed)
    ids = [str(row) for row in range(len(development))] if development.id is None else development.id
    told = {"development": list(ids), "best": asdict(best), "tried": tried}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


def search(
    start: ForestSettings, experiments: Mapping[str, Pairs], seed: int
) -> tuple[ForestSettings, list[dict[str, object]]]:
    """The best settings, and every setting tried with its scores, in order."""
    scores: dict[ForestSettings, float] = {}
    tried: list[dict[str, object]] = []

    def score(settings: ForestSettings) -> float:
        if settings not in scores:
            found = {name: rmse_of(pairs, settings, seed) for name, pairs in experiments.items()}
            ratios = [min(plain, closed) / bicubic for plain, closed, bicubic in found.values()]
            scores[settings] = float(np.mean(ratios))
            named = {
                name: dict(zip(("random_forest", "random_forest_residual", "bicubic"), values, strict=True))
                for name, values in found.items()
            }
            tried.append({"settings": asdict(settings), "score": scores[settings], "rmse": named})
            sys.stderr.write(f"{scores[settings]:.4f} {asdict(settings)}\n")
        return scores[settings]

    best, before = start, None
    while best != before:
        before = best
        for key, values in GRID.items():
            best = min((replace(best, **{key: value}) for value in values), key=score)
    return best, tried


def rmse_of(pairs: Pairs, settings: ForestSettings, seed: int) -> tuple[float, float, float]:
    """RMSE (K, mean over scenes) of the forest, the forest with residual and bicubic, every scene on unseen ground."""
    assert pairs.fine is not None
    index = regular_index((pairs.coarse.shape[1], pairs.coarse.shape[2]), pairs.fine_shape)
    overlaps, errors = overlapping(pairs), []
    for test in spatial_folds(pairs, N_BANDS).values():
        others = [row for row in range(len(pairs)) if not overlaps[row, list(test)].any()]
        forest = fit_forest(pairs.subset(others), settings, seed=seed)
        for row in test:
            scene = pairs.coarse[row], None if pairs.factors is None else pairs.factors[row], index
            answers = (
                forest.predict(*scene),
                forest.predict_with_residual(*scene),
                interpolate(pairs.coarse[row], index, order=3),
            )
            errors.append([_rmse(answer, pairs.fine[row]) for answer in answers])
    plain, closed, bicubic = np.mean(errors, axis=0).tolist()
    return plain, closed, bicubic


def _rmse(answer: FloatArray, truth: FloatArray) -> float:
    return float(np.sqrt(np.nanmean((answer.astype(np.float64) - truth) ** 2)))


if __name__ == "__main__":
    main()
