"""The options of ``serve`` that ask for a front."""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thermoscale.cli.front import add_front_options, front_of
from thermoscale.errors import InvalidInput
from thermoscale.server import front_setup
from thermoscale.server.front_setup import NEEDS_NGINX

SERVER: Any = SimpleNamespace(
    rest_url="http://127.0.0.1:1", grpc_address="127.0.0.1:2", management_url="http://127.0.0.1:3"
)


def parsed(*options: str) -> argparse.Namespace:
    """What ``serve`` would be given."""
    parser = argparse.ArgumentParser()
    add_front_options(parser)
    return parser.parse_args(options, argparse.Namespace(log_folder=None, drain_timeout=30.0))


def test_no_front_is_opened_unasked() -> None:
    assert front_of(parsed(), SERVER) is None


@pytest.mark.parametrize(
    ("options", "missing"),
    [([], "--keys, --cert, --key"), (["--keys", "k"], "--cert, --key"), (["--front-insecure"], "--keys")],
)
def test_what_it_needs_is_named(options: list[str], missing: str) -> None:
    with pytest.raises(InvalidInput, match=f"--front needs {missing}: see"):
        front_of(parsed("--front", *options), SERVER)


def test_it_listens_where_it_is_told(keys: Path) -> None:
    insecure = front_of(parsed("--front", "--keys", str(keys), "--front-insecure", "--front-port", "7"), SERVER)
    assert insecure is not None
    assert insecure.url == "http://127.0.0.1:7"
    secure = front_of(parsed("--front", "--keys", str(keys), "--cert", "c", "--key", "k"), SERVER)
    assert secure is not None
    assert secure.url == "https://127.0.0.1:8443"


def test_without_nginx_the_server_stays_on_loopback_and_says_why(
    keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(front_setup, "_SYSTEM_FOLDERS", ())
    assert front_of(parsed("--front", "--keys", str(keys), "--cert", "c", "--key", "k"), SERVER) is None
    assert capsys.readouterr().err == f"no public port, serving on loopback only: {NEEDS_NGINX}\n"
