"""What the verbs of the command line share: how one is declared, how it shows its result."""

import argparse
import json
from collections.abc import Callable
from typing import Any


def add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Declare one verb, with ``--json``; ``run`` returns the exit code."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)
    return parser


def show(args: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    """Print ``fields`` as JSON where that was asked for, else ``text``."""
    print(json.dumps(fields, indent=2) if args.json else text, flush=True)
