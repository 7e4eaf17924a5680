"""Name the folds of a Pairs file: python name_folds.py PAIRS JSON [--count 5].

The folds are spatial bands of equally many scenes (``thermoscale_train.data.folds.spatial_folds``), the same that
``evaluate amun --split ground`` makes by itself; the file holds ids only and goes to ``--folds``.
"""

import argparse
from pathlib import Path

from thermoscale.geo.datasets import read_pairs
from thermoscale_train.data.folds import spatial_folds, write_folds
from thermoscale_train.evaluate_amun import scene_ids

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pairs", type=Path, help=".npz or folder, see FORMATS")
parser.add_argument("json", type=Path, help="file to write")
parser.add_argument("--count", type=int, default=5, help="folds, default %(default)s")
args = parser.parse_args()

pairs = read_pairs(args.pairs)
about = (
    f"{args.pairs.parent.name}: {args.count} bands of equally many scenes along the axis in which their corners "
    f"spread farther. Made by: python training/runs/name_folds.py PAIRS JSON --count {args.count}"
)
write_folds(args.json, spatial_folds(pairs, args.count), scene_ids(pairs), about)
