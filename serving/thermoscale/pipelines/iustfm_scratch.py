"""The arrays one thread computes a block of pixels in: allocated once, used for block after block."""

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.pipelines.library import Library
from thermoscale.pipelines.region import Region
from thermoscale.pipelines.windows import Window

FLOATS_AT_ONCE = 5 << 19
"""Values of all scenes and triples of a block: 10 MB, so memory does not grow with the number of triples."""


def block_pixels(most: int, n_triples: int, n_dates: int) -> int:
    """Pixels of a block: few enough for the memory, enough for numpy's calls not to matter."""
    return max(1, min(most, FLOATS_AT_ONCE // (n_triples + n_dates)))


class Scratch:
    """P pixels of one block, flattened.

    Attributes:
        scenes: ``{time: [P]}`` fine values, NaN = no data.
        labels: ``[P]`` intp HCR, ``n_hcr`` for none.
        values: ``[n_triples][P]`` answers; ``spare`` is one row more.
        change, distance: ``[P]`` of the triple at work, ``post - pre`` and its absolute value.
        floats, ints, places: ``[P]`` float32, int32 and intp arrays for intermediate results.
    """

    def __init__(self, times: list[str], n_triples: int, capacity: int) -> None:
        self._floats = np.empty((len(times) + n_triples + 7, capacity), np.float32)
        self._ints = np.empty((2, capacity), np.int32)
        self._places = np.empty((3, capacity), np.intp)
        self._times = times
        self._n_triples = n_triples

    def load(self, library: Library, region: Region, block: Window, n_hcr: int) -> None:
        """Bring in the scenes and labels of ``block``."""
        n_pixels, n_dates = block.height * block.width, len(self._times)
        shape = (block.height, block.width)
        floats = [row[:n_pixels] for row in self._floats]
        self.scenes = dict(zip(self._times, floats, strict=False))
        for time, scene in self.scenes.items():
            library.read_fine(time, block.slices, scene.reshape(shape))
        self.values: list[FloatArray] = floats[n_dates : n_dates + self._n_triples]
        self.change, self.distance, self.spare, *self.floats = floats[n_dates + self._n_triples :]
        self.ints: list[Array] = [row[:n_pixels] for row in self._ints]
        self.labels, *self.places = (row[:n_pixels] for row in self._places)
        # -1 is the largest unsigned number: one minimum sends it to n_hcr.
        unsigned = np.ascontiguousarray(region.labels[block.slices], np.int32).view(np.uint32)
        np.copyto(self.labels.reshape(shape), np.minimum(unsigned, np.uint32(n_hcr)), casting="unsafe")
