"""What the verbs of the command line share: how one is declared, reaches a server, shows its result."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thermoscale.client import RETRIES, TIMEOUT_S, Client, GrpcClient, RestClient
from thermoscale.errors import InvalidInput

KEY_VARIABLE = "THERMOSCALE_KEY"
PORTS = {"rest": 8080, "grpc": 7070, "management": 8081, "metrics": 8082}


def add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Declare one verb, with ``--json``; ``run`` returns the exit code."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)
    return parser


def show(args: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    """Print ``fields`` as JSON where that was asked for, else ``text``."""
    print(json.dumps(fields, indent=2) if args.json else text, flush=True)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def add_ports_options(parser: argparse.ArgumentParser) -> None:
    """The loopback ports of a server, ``<use>_port`` for each use in :data:`PORTS`."""
    for use, port in PORTS.items():
        parser.add_argument(f"--{use}-port", type=int, default=port, help="default %(default)s; 0: any free one")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Where a request goes that ``--url`` or ``--grpc`` sends to a server, and how long it may take."""
    parser.add_argument("--model", help="amun or iustfm, on a server")
    parser.add_argument("--version", help="of the bundle on a server; default: the server's")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, help="seconds for a server to answer, default %(default)s"
    )
    add_access_options(parser)


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """How a server knows us, and we it."""
    parser.add_argument(
        "--key-file", type=Path, help=f"file with the key for a server that asks for one; default: ${KEY_VARIABLE}"
    )
    parser.add_argument("--ca", type=Path, help="PEM file of the authority of the server's certificate")


def open_client(args: argparse.Namespace) -> Client:
    """The client of ``--url``, or else of ``--grpc``; use it in a ``with`` statement."""
    return rest_client(args) if args.url else grpc_client(args)


def rest_client(args: argparse.Namespace, retries: int = RETRIES) -> RestClient:
    """The client of ``--url``."""
    return RestClient(args.url, key=_read_key(args), ca=args.ca, retries=retries)


def grpc_client(args: argparse.Namespace, retries: int = RETRIES) -> GrpcClient:
    """The client of ``--grpc``."""
    return GrpcClient(args.grpc, key=_read_key(args), ca=args.ca, retries=retries)


def _read_key(args: argparse.Namespace) -> str | None:
    if args.key_file is None:
        return os.environ.get(KEY_VARIABLE)
    try:
        text: str = args.key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read a key from {args.key_file}: {error}") from error
    return text
