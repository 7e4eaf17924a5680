"""All drills by name."""

import traceback
from collections.abc import Callable

from drills import bodies, crowds, folders, golden, keys, kills, leavers
from drills.stage import Row, Stage

DRILLS: dict[str, Callable[[Stage], Row]] = {
    "worker": kills.worker_killed,
    "workers": kills.all_workers_killed,
    "server": kills.server_killed,
    "launcher": kills.launcher_killed,
    "rest-bodies": bodies.malformed_rest,
    "grpc-bodies": bodies.malformed_grpc,
    "hangups": leavers.hangups,
    "cancels": leavers.cancels,
    "clients": crowds.many_clients,
    "queue": crowds.full_queue,
    "disk": folders.disk_full,
    "store": folders.store_removed,
    "store-server": folders.store_removed_for_server,
    "golden": golden.broken_golden,
    "keys": keys.rotation,
}

SHORT_DRILLS = ("worker", "rest-bodies", "grpc-bodies", "hangups", "cancels", "clients", "server", "launcher")
"""Those that share one server, and are quick with :data:`drills.stage.SHORT`."""


def run_drill(name: str, stage: Stage) -> Row:
    """One drill; whatever ends it early is a defect of its row, not the end of the suite."""
    try:
        return DRILLS[name](stage)
    except Exception as error:
        traceback.print_exc()
        return stage.row(name, defects=[f"{type(error).__name__}: {error}"])
