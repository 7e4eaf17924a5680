"""Pairs on common ground as series of three undated scenes: python two_library_dates.py PAIRS FOLDER [--simulated].

Writes FOLDER/<id>-<id>-<id>.npz for every three scenes with at least 24 x 24 coarse cells in common, to be judged by
``thermoscale-train evaluate iustfm --targets undated``. In the pairs of aster_modis_europe 145-173-176 is the ground of
aster_modis_triple (the same values but for 0.005 K of rounding).
"""

import argparse
import sys
from pathlib import Path

from thermoscale.geo.datasets import read_pairs, write_series
from thermoscale_train.data.common_ground import common_grounds, undated_series
from thermoscale_train.data.simulated import simulate_coarse

MIN_SIDE = 24

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pairs", type=Path, help=".npz or folder, see FORMATS")
parser.add_argument("folder", type=Path, help="where the series go")
parser.add_argument("--simulated", action="store_true", help="coarse scenes are the cell means of the fine ones")
args = parser.parse_args()

pairs = read_pairs(args.pairs)
pairs = simulate_coarse(pairs) if args.simulated else pairs
args.folder.mkdir(parents=True, exist_ok=True)
for ground in common_grounds(pairs, MIN_SIDE):
    names = [str(scene) if pairs.id is None else pairs.id[scene] for scene in ground.scenes]
    write_series(args.folder / f"{'-'.join(names)}.npz", undated_series(pairs, ground))
    sys.stdout.write(f"{'-'.join(names)}: {ground.extent[0]} x {ground.extent[1]} coarse cells\n")
