"""All checks of a machine that is to serve, in the order in which they would hurt."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from thermoscale.doctor.finding import Finding
from thermoscale.doctor.machine import (
    available_memory_mb,
    check_clock,
    check_folder,
    check_memory,
    check_python,
    check_sockets,
)
from thermoscale.doctor.packages import check_drift, check_onnxruntime
from thermoscale.doctor.ports import check_port
from thermoscale.doctor.programs import check_java, check_nginx


@dataclass(frozen=True)
class Plan:
    """What a server is going to be given.

    Attributes:
        ports: use -> port, on loopback.
        front_port: the public port; None: no front.
        workers: processes of all archives together.
        log_folder: of the server.
        constraints: file of the versions that were tried together.
    """

    ports: dict[str, int]
    front_port: int | None
    workers: int
    log_folder: Path
    constraints: Path


def examine(plan: Plan) -> list[Finding]:
    """Every check of ``plan`` on this machine."""
    temp = Path(tempfile.gettempdir())
    findings = [
        check_python(),
        check_onnxruntime(),
        check_drift(plan.constraints),
        check_java(),
        check_nginx(needed=plan.front_port is not None),
        *(check_port(use, port) for use, port in plan.ports.items()),
    ]
    if plan.front_port is not None:
        findings.append(check_port("front", plan.front_port, "0.0.0.0"))
    return [
        *findings,
        check_memory(plan.workers, available_memory_mb()),
        check_folder("temporary folder", temp),
        check_sockets(temp),
        check_folder("log folder", plan.log_folder),
        check_clock(),
    ]
