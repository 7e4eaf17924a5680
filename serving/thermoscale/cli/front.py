"""The options of ``serve`` that open a public port, and the front that they ask for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thermoscale.cli.parts import say
from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.server.front_setup import FrontLimits, Tls

if TYPE_CHECKING:
    from thermoscale.server.front import Front
    from thermoscale.server.launcher import TorchServe

_LOOPBACK = "127.0.0.1"


def add_front_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    limits = FrontLimits()
    group = parser.add_argument_group("public port", "nginx with TLS, keys and limits before the loopback ports")
    group.add_argument("--front", action="store_true", help="open it, once the server is ready")
    group.add_argument("--front-port", type=int, default=8443, help="REST and gRPC, default %(default)s")
    group.add_argument("--front-host", help="address to listen on, default 0.0.0.0; with --front-insecure 127.0.0.1")
    group.add_argument("--cert", type=Path, help="PEM: certificate and its chain")
    group.add_argument("--key", type=Path, help="PEM: private key of the certificate")
    group.add_argument("--keys", type=Path, help="lines '<sha256 of a client key>  <name>'; read for every request")
    group.add_argument("--front-insecure", action="store_true", help="plain HTTP/1.1 on loopback, REST only")
    group.add_argument(
        "--front-rate", type=int, default=limits.rate_per_s, help="requests a second of one key, default %(default)s"
    )
    group.add_argument(
        "--front-burst", type=int, default=limits.burst, help="requests at once beyond that, default %(default)s"
    )


def front_of(args: argparse.Namespace, server: "TorchServe") -> "Front | None":
    """The front before ``server``, not started; None where none is asked for, or where nginx is missing: that is said.

    Raises:
        InvalidInput: an option that it needs is missing or wrong.
    """
    if not args.front:
        return None
    from thermoscale.server.front import Front  # here: it needs psutil, of the extra serve

    needed = ["keys"] if args.front_insecure else ["keys", "cert", "key"]
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if missing:
        raise InvalidInput(f"--front needs {', '.join(missing)}: see docs/operations.md, The front")
    try:
        return Front(
            rest=urlsplit(server.rest_url).netloc,
            grpc=server.grpc_address,
            management=urlsplit(server.management_url).netloc,
            keys=args.keys,
            tls=None if args.front_insecure else Tls(args.cert, args.key),
            host=args.front_host or (_LOOPBACK if args.front_insecure else "0.0.0.0"),
            port=args.front_port,
            log_folder=args.log_folder,
            drain_s=args.drain_timeout,
            limits=FrontLimits(rate_per_s=args.front_rate, burst=args.front_burst),
        )
    except Unavailable as missing_program:
        say(f"no public port, serving on loopback only: {missing_program}")
        return None
