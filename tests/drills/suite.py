"""All drills by name."""

from collections.abc import Callable

from drills import crowds, kills
from drills.stage import Row, Stage
from thermoscale.errors import Unavailable

DRILLS: dict[str, Callable[[Stage], Row]] = {
    "worker": kills.worker_killed,
    "workers": kills.all_workers_killed,
    "server": kills.server_killed,
    "launcher": kills.launcher_killed,
    "clients": crowds.many_clients,
    "queue": crowds.full_queue,
}


def run_drill(name: str, stage: Stage) -> Row:
    """One drill; a server that does not even start is a defect of the drill, not the end of the suite."""
    try:
        return DRILLS[name](stage)
    except Unavailable as error:
        return Row(name, stage.name, defects=[str(error)])
