"""The two fits."""

from thermoscale_train.fit_amun import fit_amun
from thermoscale_train.fit_iustfm import fit_iustfm

__all__ = ["fit_amun", "fit_iustfm"]
