"""What the scene's context is for: python seams_picture.py BUNDLE PAIRS PICTURE [--scene N] [--experiment simulated].

Downscales one scene twice, with the scene's context and with a context for each tile of its own, draws both answers
and their difference, and writes the gradient across tile borders over that elsewhere as JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from thermoscale.amun_requests import AmunRequests
from thermoscale.arrays import FloatArray
from thermoscale.geo.datasets import read_pairs
from thermoscale.numerics.tiling import TileGrid
from thermoscale.service import open_bundle
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.panels import common_range
from thermoscale_train.seams import border_gradient_ratio, predict_with_own_contexts


def draw(shared: FloatArray, own: FloatArray, grid: TileGrid, path: Path) -> None:
    """Both answers on one colour scale and their difference; ticks stand where the core of a tile begins."""
    figure = Figure(figsize=(13.0, 4.2), layout="constrained", dpi=90)
    axes = figure.subplots(1, 3)
    low, high = common_range([shared, own])
    limit = float(np.nanmax(np.abs(own - shared))) or 1.0
    drawn = [
        (shared, "context of the scene", {"cmap": "inferno", "vmin": low, "vmax": high}),
        (own, "each tile its own context", {"cmap": "inferno", "vmin": low, "vmax": high}),
        (own - shared, "difference", {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
    ]
    for axis, (image, title, colours) in zip(axes, drawn, strict=True):
        shown = axis.imshow(image, interpolation="nearest", **colours)
        figure.colorbar(shown, ax=axis, shrink=0.9, label="K")
        axis.set_title(title)
        axis.set_xticks(range(grid.halo_px - grid.before_px + grid.stride_px, image.shape[1], grid.stride_px))
        axis.set_yticks(range(grid.halo_px - grid.before_px + grid.stride_px, image.shape[0], grid.stride_px))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", type=Path, help="folder of an AMUN bundle with factors")
parser.add_argument("pairs", type=Path, help=".npz or folder, see FORMATS")
parser.add_argument("picture", type=Path, help="PNG to write")
parser.add_argument("--scene", type=int, default=0, help="which of the pairs, by position")
parser.add_argument("--experiment", choices=("real", "simulated"), default="real")
args = parser.parse_args()

requests = open_bundle(args.bundle).requests
pairs = read_pairs(args.pairs)
pairs = simulate_coarse(pairs) if args.experiment == "simulated" else pairs
if not isinstance(requests, AmunRequests) or pairs.factors is None:
    parser.error("needed a bundle of amun, and pairs with its factors")
pipeline, grid = requests.pipeline, requests.pipeline.config.tile_grid
coarse, factors = pairs.coarse[args.scene], pairs.factors[args.scene]
shared = pipeline.predict(coarse, factors)["lst"]
own = predict_with_own_contexts(pipeline, coarse, factors)
draw(shared, own, grid, args.picture)
found = {
    "tiles": vars(grid),
    "border_gradient_ratio": {
        "context_of_the_scene": border_gradient_ratio([shared], grid),
        "own_contexts": border_gradient_ratio([own], grid),
        "difference": border_gradient_ratio([own - shared], grid),
    },
    "largest_difference_k": float(np.nanmax(np.abs(own - shared))),
}
sys.stdout.write(json.dumps(found, indent=2) + "\n")
