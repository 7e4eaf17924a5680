"""Fit of the adaptive mode: everything that ``thermoscale.numerics.adaptive_*`` needs, learnt in the library alone."""
