"""The adaptive mode of a bundle, where the settings ask for it and the place allows it."""

from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale_train.adaptive.fit import fit_adaptive
from thermoscale_train.config import IustfmSettings

MIN_DATES = 2


def adaptive_or_none(library: Series, settings: IustfmSettings, seed: int) -> AdaptiveState | None:
    """The state fitted to the fine dates of ``library``; dates to be judged later must not be in it."""
    chosen = settings.adaptive
    n_cells = library.coarse.shape[1] * library.coarse.shape[2]
    if chosen is None or not chosen.enabled or n_cells > chosen.most_cells or len(library.fine_time) < MIN_DATES:
        return None
    return fit_adaptive(library, chosen, seed=seed)
