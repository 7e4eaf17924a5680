"""Data sets in memory: ``Series`` for fusion, ``Pairs`` for downscaling, and their times and places.

Attribute names are the keys of the files. Reading is strict: a missing or unknown key is refused with
both lists. Nothing here touches the disk; :mod:`thermoscale.geo.datasets` reads and writes the files.
"""

from thermoscale.fields import Georeference, Transform
from thermoscale.pairs import Pairs
from thermoscale.series import Series
from thermoscale.times import canonical_time, format_time, parse_time

__all__ = ["Georeference", "Pairs", "Series", "Transform", "canonical_time", "format_time", "parse_time"]
