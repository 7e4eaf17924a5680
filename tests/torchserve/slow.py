"""An AMUN archive that takes as long as it is told, and writes down what it computes."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thermoscale.server.readiness import Golden
from thermoscale.testing.archives import altered

QUEUE_SIZE = 2
CONFIG = f"batchSize: 1\nresponseTimeout: 60\nstartupTimeout: 60\njobQueueSize: {QUEUE_SIZE}\n"
HANDLER = '''
import os
import time
from pathlib import Path

from thermoscale.torchserve import BundleHandler


class SlowHandler(BundleHandler):
    """While a file ``sleep`` with seconds lies beside the log: sleeps so long before it computes, and says so there."""

    pipeline = "amun"

    def initialize(self, context):
        super().initialize(context)
        requests, logs = self._service._requests, Path(os.environ["LOG_LOCATION"])
        answer = requests.answer

        def slowly(*values):
            if (logs / "sleep").exists():
                with (logs / "computed").open("a") as computed:
                    computed.write("begun\\n")
                time.sleep(float((logs / "sleep").read_text()))
            return answer(*values)

        object.__setattr__(requests, "answer", slowly)
'''


def slow(archive: Path, target: Path) -> Path:
    """A slow copy of an AMUN archive, with a short queue."""
    return altered(archive, target, {"amun_handler.py": HANDLER, "amun.yaml": CONFIG})


def begun(logs: Path) -> int:
    """How many requests were begun since ``sleep`` was laid down."""
    return len((logs / "computed").read_text().splitlines()) if (logs / "computed").exists() else 0


def sleep_in_work(logs: Path, seconds: float) -> None:
    """From now on every request takes so long."""
    (logs / "computed").unlink(missing_ok=True)
    (logs / "sleep").write_text(str(seconds))


def body_of(golden: Golden) -> bytes:
    """The golden request as an .npz."""
    stream = io.BytesIO()
    np.savez(stream, **golden.inputs)  # type: ignore[arg-type]
    return stream.getvalue()


def wait_until(happened: Callable[[], bool], timeout_s: float) -> float:
    """Seconds until it happened; fails after ``timeout_s``."""
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < timeout_s
        time.sleep(0.05)
    return time.monotonic() - start
