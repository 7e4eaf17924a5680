"""The short form of ``make drill``: faults under load, few requests, one server for all of them."""

from collections.abc import Iterator

import pytest
from drills.stage import SHORT, Stage
from drills.suite import SHORT_DRILLS, run_drill

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage("torchserve", tmp_path_factory.mktemp("d"), SHORT)
    yield stage
    stage.close()


@pytest.mark.parametrize("name", SHORT_DRILLS)
def test_a_fault_gives_no_wrong_answer_and_passes_by_itself(stage: Stage, name: str) -> None:
    row = run_drill(name, stage)
    assert row.passed, row.to_json()
