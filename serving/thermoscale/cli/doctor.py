"""The verb ``doctor``: will a server run on this machine, and if not, what is to be done."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thermoscale.cli.parts import PORTS, add_ports_options, add_verb, show
from thermoscale.doctor.examine import Plan, examine
from thermoscale.doctor.finding import FAIL, Finding
from thermoscale.doctor.packages import shipped_constraints
from thermoscale.server.setup import WORKERS


def add_doctor_verb(verbs: Any) -> None:
    """Declare it; its options are those of ``serve`` where they mean the same."""
    parser = add_verb(verbs, "doctor", doctor, "can a server run here? exit 1 if something is missing")
    add_ports_options(parser)
    parser.add_argument("--front", action="store_true", help="serve --front is meant: nginx is needed, too")
    parser.add_argument("--front-port", type=int, default=8443, help="default %(default)s")
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help="processes of all archives together, default %(default)s"
    )
    parser.add_argument("--log-folder", type=Path, default=Path("logs"), help="default %(default)s")
    parser.add_argument(
        "--constraints", type=Path, default=shipped_constraints(), help="exact versions; default: those of this release"
    )


def doctor(args: argparse.Namespace) -> int:
    """Print every finding; exit code 1 if any of them is a failure."""
    findings = examine(
        Plan(
            ports={use: port for use in PORTS if (port := getattr(args, f"{use}_port"))},
            front_port=args.front_port if args.front else None,
            workers=args.workers,
            log_folder=args.log_folder,
            constraints=args.constraints,
        )
    )
    well = all(finding.state != FAIL for finding in findings)
    show(args, {"ok": well, "findings": [dataclasses.asdict(finding) for finding in findings]}, _report(findings))
    return 0 if well else 1


def _report(findings: Sequence[Finding]) -> str:
    def lines() -> Iterator[str]:
        for finding in findings:
            yield f"{finding.state:<5} {finding.name:<24} {finding.text}"
            if finding.next_step:
                yield f"{'':30} -> {finding.next_step}"

    return "\n".join(lines())
