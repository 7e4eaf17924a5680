"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; a test that asks for it skips where there is none."""
    name = os.environ.get("THERMOSCALE_DATA")
    if not name:
        pytest.skip("THERMOSCALE_DATA is not set: no real data")
    return Path(name)
