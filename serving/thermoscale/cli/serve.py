"""The verbs ``serve`` and ``ready``: run a server, and ask whether one gives the golden answers."""

import argparse
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscale.cli.front import add_front_options, front_of
from thermoscale.cli.parts import add_access_options, add_ports_options, add_verb, grpc_client, rest_client, say, show
from thermoscale.client import RestClient
from thermoscale.errors import Unavailable
from thermoscale.server.readiness import Golden, all_ready, read_golden_of, read_workers, require_golden
from thermoscale.server.setup import DRAIN_TIMEOUT_S, NEEDS_SERVE_EXTRA, START_TIMEOUT_S, WORKERS, free_ports

if TYPE_CHECKING:
    from thermoscale.server.launcher import TorchServe

_POLL_S = 0.5


def add_serve_verbs(verbs: Any) -> None:
    """Declare both."""
    _add_serve(add_verb(verbs, "serve", serve, "serve archives on loopback until interrupted"))
    _add_ready(add_verb(verbs, "ready", ready, "exit 0 if a server gives the golden answers"))


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archives", type=Path, nargs="+", help="model_store/<pipeline>-<version>.mar")
    add_ports_options(parser)
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes for each archive, default %(default)s")
    parser.add_argument("--log-folder", type=Path, default=Path("logs"), help="default %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=START_TIMEOUT_S, help="seconds to become ready, default %(default)s"
    )
    parser.add_argument(
        "--drain-timeout",
        type=float,
        default=DRAIN_TIMEOUT_S,
        help="seconds for requests in work after SIGTERM, default %(default)s",
    )
    add_front_options(parser)


def _add_ready(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("goldens", type=Path, nargs="+", metavar="BUNDLE", help="bundle or archive that is served")
    parser.add_argument("--url", required=True, help="REST address, for example http://127.0.0.1:8080")
    parser.add_argument("--grpc", help="gRPC address, to be asked too")
    parser.add_argument("--management", help="REST address of the management API, for the state of the workers")
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds to keep asking, default: ask once")
    add_access_options(parser)


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: then take no new requests, answer those in work, and end with code 0."""
    try:
        from thermoscale.server.launcher import TorchServe  # here: no other verb may need the extra serve
    except ImportError as error:
        raise Unavailable(NEEDS_SERVE_EXTRA) from error
    ports = free_ports(
        rest=args.rest_port, grpc=args.grpc_port, management=args.management_port, metrics=args.metrics_port
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        server = TorchServe(args.archives, workers=args.workers, ports=ports, log_folder=args.log_folder)
        front = front_of(args, server)
        say(f"starting TorchServe, log in {args.log_folder} ...")
        with server:
            server.wait_ready(args.timeout)
            try:
                with front or nullcontext():
                    addresses = _addresses(server) | ({"public": front.url} if front else {})
                    show(args, addresses, "\n".join(f"{name:10} {address}" for name, address in addresses.items()))
                    server.keep_running(args.timeout, say)
            except KeyboardInterrupt:
                if not server.drain(args.drain_timeout):
                    say(f"requests still in work after {args.drain_timeout:g} s are cut")
    except KeyboardInterrupt:
        pass
    say("stopped")
    return 0


def _addresses(server: "TorchServe") -> dict[str, str]:
    return {
        "rest": server.rest_url,
        "grpc": server.grpc_address,
        "management": server.management_url,
        "metrics": server.metrics_url,
    }


def ready(args: argparse.Namespace) -> int:
    """Exit code 0 if workers and golden answers are as they should be, else an error that says what is not."""
    goldens = [read_golden_of(path) for path in args.goldens]
    deadline = time.monotonic() + args.timeout
    while True:
        try:
            differences = {golden.model: _require_ready(args, golden) for golden in goldens}
            break
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
    worst = {model: float(f"{difference:.3g}") for model, difference in differences.items()}
    show(args, {"ready": True, "largest_difference_k": worst}, f"ready: {', '.join(worst)}")
    return 0


def _require_ready(args: argparse.Namespace, golden: Golden) -> float:
    """Largest difference from the golden answer over the wires that were named."""
    if args.management:
        workers = read_workers(RestClient(args.management), golden.model, golden.version)
        if not all_ready(workers):
            raise Unavailable(f"workers of {golden.model}: {[worker.status for worker in workers]}, needed READY")
    with rest_client(args, retries=0) as rest:
        difference = require_golden(rest, golden)
    if args.grpc:
        with grpc_client(args, retries=0) as client:
            difference = max(difference, require_golden(client, golden))
    return difference


def _interrupt(*_: object) -> None:
    """End :func:`serve` once; later signals must not disturb the clean-up."""
    for repeated in (signal.SIGTERM, signal.SIGINT):
        signal.signal(repeated, signal.SIG_IGN)
    raise KeyboardInterrupt
