"""What a process frees stays with it, up to a bound."""

import subprocess
import sys

import pytest

PROBE = """
import resource, sys
import numpy as np
from thermoscale.runtime.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(40):
    arrays = [np.ones(10 << 20, np.uint8) for _ in range(4)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    """Page faults of a process that makes and drops four arrays of 10 MB, 40 times."""
    done = subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_is_not_taken_anew_each_time() -> None:
    assert faults("keep") < 0.5 * faults("give back")
