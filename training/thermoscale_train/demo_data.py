"""What the demo works on: real samples from the folder named by THERMOSCALE_DATA, or a synthetic world."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series
from thermoscale.geo.datasets import read_pairs, read_series
from thermoscale.testing.worlds import make_pairs, make_series
from thermoscale_train.data.split import ground_groups, interior_dates, split_by_ground, spread_out
from thermoscale_train.usable import UsableRule, usable_dates

SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
HELD_OUT_DATES = 4
PAIRS_FILE, SERIES_FOLDER = Path("aster_modis_europe") / "pairs.npz", Path("saltonsea_nir")

# `corner` of aster_modis_europe is row and column in MODIS tile h18v04 at 1 km (data README). Checked: scenes 145, 173
# and 176 equal the GeoTIFFs of aster_modis_triple, which carry this CRS and grid, to the pixel.
TILE_CORNER_M = (0.0, 5_559_752.598333)
MODIS_PIXEL_M = 926.625433055833
MODIS_CRS = (
    'PROJCS["MODIS sinusoidal",GEOGCS["unknown",DATUM["unknown",SPHEROID["MODIS sphere",6371007.181,0]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Sinusoidal"],'
    'PARAMETER["longitude_of_center",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


@dataclass(frozen=True)
class DemoData:
    """Pairs and a series, split so that nothing that is judged takes part in a fit.

    Attributes:
        source: one sentence for the summary.
        amun_pixel, iustfm_pixel: side of a fine and of a coarse pixel, for the pictures.
        folds: fold (train, valid, test) -> rows of ``pairs``; scenes of one ground stay together.
        held_out: dates of ``series`` that only the judge sees, fine and coarse.
    """

    source: str
    pairs: Pairs
    series: Series
    amun_pixel: tuple[str, str]
    iustfm_pixel: tuple[str, str]
    folds: dict[str, tuple[int, ...]]
    held_out: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The held-out date that is asked for and drawn."""
        return self.held_out[len(self.held_out) // 2]

    @property
    def library(self) -> Series:
        """The series as if the held-out dates had never been observed."""
        library = self.series
        for time in self.held_out:
            library = library.without(time)
        return library

    def fold(self, name: str) -> Pairs:
        """The scenes of one fold."""
        return self.pairs.subset(self.folds[name])

    def describe(self) -> dict[str, Any]:
        """For ``summary.json``: which data, and what was kept out of every fit."""
        folds = {
            name: f"{len(rows)} scenes, separate grounds: {self._grounds(rows)}" for name, rows in self.folds.items()
        }
        usable, excluded = usable_dates(self.library, UsableRule())
        return {
            "source": self.source,
            "amun": {**folds, "held_out": folds["test"]},
            "iustfm": {
                "quantity": self.series.quantity,
                "library": usable,
                "excluded": [vars(exclusion) for exclusion in excluded],
                "held_out": ", ".join(self.held_out),
            },
        }

    def _grounds(self, rows: Sequence[int]) -> int:
        return len(set(ground_groups(self.pairs)[list(rows)].tolist()))


def real_data(folder: Path) -> DemoData:
    """ASTER and MODIS scenes of Europe for AMUN, Salton Sea near-infrared reflectance for I-USTFM.

    Raises:
        InvalidInput: the folder lacks one of the two.
    """
    missing = [str(path) for path in (PAIRS_FILE, SERIES_FOLDER) if not (folder / path).exists()]
    if missing:
        raise InvalidInput(f"THERMOSCALE_DATA={folder} lacks {missing}; unset it for a synthetic world")
    pairs = on_modis_grid(read_pairs(folder / PAIRS_FILE))
    return _split(
        "real: aster_modis_europe (MODIS to ASTER LST) for AMUN, saltonsea_nir (near-infrared reflectance) for I-USTFM",
        pairs,
        read_series(folder / SERIES_FOLDER),
        amun_pixel=("232 m", "927 m"),
        iustfm_pixel=("70 m", "490 m"),
    )


def synthetic_data(seed: int = 0, *, scene_cells: int = 24, n_dates: int = 60) -> DemoData:
    """A synthetic world: pairs whose detail follows from ndvi and elevation, and a series of changing land covers.

    Args:
        scene_cells: coarse cells along a side of a pair; also of the series.
    """
    return _split(
        f"synthetic (thermoscale.testing.worlds, seed {seed})",
        make_pairs(seed, n_grounds=8, scenes_per_ground=3, coarse_shape=(scene_cells, scene_cells)),
        make_series(
            seed, fine_shape=(6 * scene_cells, 6 * scene_cells), scale_factor=6, n_dates=n_dates, cloud_share=0.05
        ).series,
        amun_pixel=("100 m", "400 m"),
        iustfm_pixel=("100 m", "600 m"),
    )


def on_modis_grid(pairs: Pairs) -> Pairs:
    """``pairs`` with the CRS and the transforms that follow from ``corner``."""
    if pairs.corner is None:
        raise InvalidInput("pairs have no corner: their place on the MODIS grid is unknown")
    transforms = np.zeros((len(pairs), 6))
    transforms[:, 0], transforms[:, 4] = MODIS_PIXEL_M / pairs.scale_factor, -MODIS_PIXEL_M / pairs.scale_factor
    transforms[:, 2] = TILE_CORNER_M[0] + pairs.corner[:, 1] * MODIS_PIXEL_M
    transforms[:, 5] = TILE_CORNER_M[1] - pairs.corner[:, 0] * MODIS_PIXEL_M
    return replace(pairs, crs=MODIS_CRS, transform=transforms)


def _split(
    source: str, pairs: Pairs, series: Series, *, amun_pixel: tuple[str, str], iustfm_pixel: tuple[str, str]
) -> DemoData:
    usable: Sequence[str] = usable_dates(series, UsableRule())[0]
    return DemoData(
        source=source,
        pairs=pairs,
        series=series,
        amun_pixel=amun_pixel,
        iustfm_pixel=iustfm_pixel,
        folds=split_by_ground(pairs, SHARES),
        held_out=spread_out(interior_dates(usable), HELD_OUT_DATES),
    )
