"""How predictions are reached over both wires: addresses; key and certificate where the server asks for them."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from thermoscale.client import GrpcClient, RestClient

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Access:
    """Both wires of one server.

    Attributes:
        rest_url: http(s)://host:port.
        grpc_address: host:port.
        key: None where none is asked for.
        ca: certificate of the server's authority; None for plain connections.
    """

    rest_url: str
    grpc_address: str
    key: str | None = None
    ca: Path | None = None

    @property
    def credentials(self) -> dict[str, str]:
        """Header, or metadata, of every raw request."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[str, RestClient | GrpcClient]]:
        """Wire -> client; they send nothing a second time, so that what the server does is seen."""
        with (
            RestClient(self.rest_url, key=self.key, ca=self.ca, retries=0) as rest,
            GrpcClient(self.grpc_address, key=self.key, ca=self.ca, retries=0) as over_grpc,
        ):
            yield {"rest": rest, "grpc": over_grpc}

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A TCP connection of the REST wire."""
        split = urlsplit(self.rest_url)
        with socket.create_connection((split.hostname, split.port), timeout=_TIMEOUT_S) as plain:
            if self.ca is None:
                yield plain
                return
            context = ssl.create_default_context(cafile=str(self.ca))
            with context.wrap_socket(plain, server_hostname=split.hostname) as encrypted:
                yield encrypted

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel."""
        if self.ca is None:
            with grpc.insecure_channel(self.grpc_address) as channel:
                yield channel
        else:
            with grpc.secure_channel(self.grpc_address, grpc.ssl_channel_credentials(self.ca.read_bytes())) as channel:
                yield channel
