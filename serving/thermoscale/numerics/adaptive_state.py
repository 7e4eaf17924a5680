"""What a fit of the adaptive mode leaves behind: a few small arrays beside the library they were learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from thermoscale.arrays import Array, require_keys, require_shape
from thermoscale.errors import InvalidInput
from thermoscale.numerics.adaptive_library import SIGNAL, Variances
from thermoscale.numerics.adaptive_members import MEMBERS
from thermoscale.numerics.adaptive_time import KINDS, Variogram

COVARIANCES = ("free_signal", "free_noise", "tied_signal", "tied_noise")
NO_CLASS = 255


@dataclass(frozen=True, eq=False)
class AdaptiveState:
    """All float64 but ``labels``. Unless said otherwise in standard deviations of the library (``scales[1]``).

    Attributes:
        labels: ``[H, W]`` uint8 class of each fine pixel; 255: no library date has a value there.
        scales: mean and standard deviation of the library (unit of the quantity), median gap between its dates (days),
            share of the finest detail that is kept.
        gap_mean, gap_covariance: ``[T]``, ``[T, T]`` of the library's dates, to fill their gaps.
        variograms: ``[2, 3]`` of the pattern and of the scene's mean: kind, length, nugget.
        variances: ``[4, 7]``: :data:`COVARIANCES` x ``adaptive_library.SIGNAL``.
        stack: ``[2, 4]``: weights of :data:`MEMBERS` in detail and in level.
        class_variance: ``[K]`` mean squared error of each class on left-out dates.
        spread: ``[5]`` variance = spread[0] + spread[1] class + spread[2] disagreement of near dates + spread[3] misfit
            to the coarse scene, at least spread[4].
        calibration: ``[2, m]`` logarithm of the modelled standard deviation, and the factor that makes it 1 sigma.
        comparable: ``[T, n]`` bool: the cell's fine pixels were seen well enough to compare it with the coarse scene.
    """

    labels: Array
    scales: Array
    gap_mean: Array
    gap_covariance: Array
    variograms: Array
    variances: Array
    stack: Array
    class_variance: Array
    spread: Array
    calibration: Array
    comparable: Array

    def __post_init__(self) -> None:
        n_dates, n_knots = len(self.gap_mean), self.calibration.shape[-1]
        wanted: dict[str, tuple[int | str, ...]] = {
            "labels": ("H", "W"),
            "scales": (4,),
            "gap_mean": (n_dates,),
            "gap_covariance": (n_dates, n_dates),
            "variograms": (2, 3),
            "variances": (len(COVARIANCES), len(SIGNAL)),
            "stack": (2, len(MEMBERS)),
            "class_variance": ("K",),
            "spread": (5,),
            "calibration": (2, n_knots),
            "comparable": (n_dates, "n"),
        }
        for name, shape in wanted.items():
            require_shape(f"adaptive {name}", getattr(self, name), shape)
        if self.labels.dtype != np.uint8 or not (self.labels[self.labels != NO_CLASS] < len(self.class_variance)).all():
            raise InvalidInput(f"adaptive labels: needed uint8 classes below {len(self.class_variance)}, or {NO_CLASS}")

    @property
    def variogram_pair(self) -> tuple[Variogram, Variogram]:
        """Of the pattern and of the scene's mean."""
        pattern, mean = (
            Variogram(KINDS[int(kind)], length, nugget) for kind, length, nugget in self.variograms.tolist()
        )
        return pattern, mean

    def components(self, name: str) -> Variances:
        """Variances of one of :data:`COVARIANCES`."""
        return dict(zip(SIGNAL, self.variances[COVARIANCES.index(name)].tolist(), strict=True))

    def to_arrays(self) -> dict[str, Array]:
        """Every attribute, as a bundle stores them in ``region/adaptive_<name>.npy``."""
        return {name: getattr(self, name) for name in ADAPTIVE_NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "AdaptiveState":
        """Read what :meth:`to_arrays` wrote.

        Raises:
            InvalidInput: a missing or unknown name, or arrays that do not fit together.
        """
        require_keys("adaptive state", arrays, set(ADAPTIVE_NAMES), set())
        return cls(**arrays)


ADAPTIVE_NAMES = tuple(field.name for field in fields(AdaptiveState))
