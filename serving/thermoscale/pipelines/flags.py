"""Bits of the ``flags`` layer, one meaning per bit in both pipelines."""

COARSE_MISSING = 1 << 0
FILLED_THROUGH_HCR = 1 << 1
CLIPPED_TO_TRAINING_RANGE = 1 << 2
OUTSIDE_LIBRARY_RANGE = 1 << 3
FALLBACK_USED = 1 << 4
