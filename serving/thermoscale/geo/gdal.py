"""The one place that imports rasterio, and the rule for its warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thermoscale.errors import Unavailable


def load_rasterio() -> Any:
    """The module rasterio, imported on first use because it is an extra and needs a system library.

    Raises:
        Unavailable: it is not installed, or cannot be loaded.
    """
    try:
        import rasterio
        import rasterio.shutil
    except ImportError as error:
        raise Unavailable(
            f"GeoTIFF needs rasterio, which cannot be imported ({error}); install it with pip install "
            "'thermoscale[geo]', and the system library libexpat where that is missing (Debian: libexpat1)"
        ) from error
    return rasterio


@contextmanager
def georeference_checked_by_us() -> Iterator[None]:
    """Silence rasterio's warning over files without a georeference: we refuse or mark them ourselves."""
    errors = load_rasterio().errors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        yield
