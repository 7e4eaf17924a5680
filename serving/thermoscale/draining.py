"""The mark of a server that is about to end: its launcher leaves it, its workers look for it.

TorchServe 0.12 cannot be told to take no more requests. So the workers refuse what is not begun, and the launcher waits
for what is (:mod:`thermoscale.drain`).
"""

import os
import tempfile
from pathlib import Path

from thermoscale.errors import Unavailable

MARK_NAME = "draining"


def require_not_draining() -> None:
    """Called by a worker before each request; a worker's temporary folder is its launcher's.

    Raises:
        Unavailable: the launcher is about to end.
    """
    mark = os.path.join(tempfile.gettempdir(), MARK_NAME)
    if os.path.exists(mark):
        Path(f"{mark}-{os.getpid()}").touch()  # whatever was begun before is done
        raise Unavailable("the server is about to end and computed nothing; try again later")
