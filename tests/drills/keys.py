"""A key is replaced by another while the first is in use."""

import time
from typing import Any

from drills.front_engine import KEY, FrontEngine, write_keys
from drills.load import steady_load
from drills.oracle import Case
from drills.stage import Row, Stage
from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import InvalidInput

_NEW = "rotated"


def rotation(stage: Stage) -> Row:
    """A new key works at once, a removed one is refused at once, and the callers of a third notice nothing."""
    row, engine = stage.row("key rotation"), stage.engine()
    if not isinstance(engine, FrontEngine):
        row.skipped = "only the front asks for keys"
        return row
    case = stage.oracle.cases[0]
    with engine.access.clients() as clients, steady_load(clients, stage.oracle, row.tally):
        time.sleep(1.0)
        for names, accepted in (({KEY: "drill", _NEW: "new"}, True), ({KEY: "drill"}, False)):
            write_keys(engine.keys, names)
            row.defects.extend(_asked(engine, case, accepted=accepted))
        time.sleep(1.0)
    if row.tally.errors:
        row.defects.append("callers with the same key all the time had errors")
    return row


def _asked(engine: FrontEngine, case: Case, *, accepted: bool) -> list[str]:
    """What is amiss when the new key is used on both wires."""
    options: dict[str, Any] = {"key": _NEW, "ca": engine.access.ca, "retries": 0}
    defects = []
    for client in (RestClient(engine.access.rest_url, **options), GrpcClient(engine.access.grpc_address, **options)):
        with client:
            try:
                client.predict_bytes(case.model, case.parts)
                answered = True
            except InvalidInput:
                answered = False
        if answered != accepted:
            defects.append(f"{type(client).__name__}: the new key is {'refused' if accepted else 'still accepted'}")
    return defects
