"""TorchServe behind nginx: one public port with TLS and keys."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from drills.access import Access
from drills.engine import TorchServeEngine, free_port

KEY = "drill"


class FrontEngine(TorchServeEngine):
    """``thermoscale serve --front``.

    Attributes:
        keys: file of the keys that the front accepts.
    """

    name = "torchserve behind nginx"

    def __init__(self, archives: Sequence[Path], folder: Path, output: Path, *, workers: int = 2) -> None:
        super().__init__(archives, folder, output, workers=workers)
        secrets = output.with_suffix(".keys")
        secrets.mkdir()
        for entered in (secrets, secrets.parent):
            entered.chmod(0o755)  # nginx's workers are another user
        certificate, private_key, self.keys = secrets / "cert.pem", secrets / "key.pem", secrets / "keys"
        write_keys(self.keys, {KEY: "drill"})
        _make_certificate(certificate, private_key)
        port = free_port()
        self.access = Access(f"https://localhost:{port}", f"localhost:{port}", KEY, certificate)
        self._front = [f"--front-port={port}", f"--cert={certificate}", f"--key={private_key}", f"--keys={self.keys}"]

    def options(self) -> list[str]:
        return [*super().options(), "--front", *self._front]


def write_keys(path: Path, names: Mapping[str, str]) -> None:
    """Replace the keys file in one step.

    Args:
        names: key -> name of its owner.
    """
    lines = [f"{hashlib.sha256(key.encode()).hexdigest()}  {name}\n" for key, name in names.items()]
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(lines), "utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)


def _make_certificate(certificate: Path, private_key: Path) -> None:
    """For localhost, its own authority."""
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(private_key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True, timeout=30)
