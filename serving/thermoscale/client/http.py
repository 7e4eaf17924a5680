"""HTTP exchanges over kept connections, each bounded by one deadline and by a size.

A kept connection saves the TCP and TLS handshakes of every further call. Threads may share one :class:`Connections`:
a connection belongs to the call that took it until the whole reply has been read.
"""

import contextlib
import io
import select
import socket
import ssl
import time
import uuid
import weakref
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple

from thermoscale.client.access import UNTRUSTED
from thermoscale.client.retry import Deadline
from thermoscale.errors import InvalidInput, Unavailable

MAX_IDLE_S = 30.0
"""An idle connection is not used again after this: nginx closes its own after 75 s, firewalls forget them silently."""

_MAX_KEPT = 8
_BUFFER_BYTES = 1 << 16


class HttpReply(NamedTuple):
    """Status, headers with names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connections:
    """Kept connections to one address; they close with :meth:`close`, or when nobody holds this object any more.

    Args:
        address: host:port.
        tls: None for plain HTTP.
        max_reply_bytes: a larger reply is refused before it is read.
    """

    def __init__(self, address: str, tls: ssl.SSLContext | None, max_reply_bytes: int) -> None:
        self._address, self._tls, self._max_reply_bytes = address, tls, max_reply_bytes
        self._idle: deque[tuple[float, HTTPConnection]] = deque()
        weakref.finalize(self, _close_all, self._idle)

    def close(self) -> None:
        """Close the connections that no call is using."""
        _close_all(self._idle)

    def exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: Deadline
    ) -> HttpReply:
        """Send one request and read its whole reply.

        Raises:
            Unavailable: no connection, or it broke, or no answer in time.
            InvalidInput: the reply is larger than ``max_reply_bytes``.
        """
        kept = self._take()
        connection = kept or self._connect(deadline)
        try:
            reply = self._exchange(connection, method, path, body, headers, deadline)
        except BaseException as error:
            connection.close()
            if kept:  # the others are as old: the next attempt begins with a new one
                self.close()
            if isinstance(error, (OSError, HTTPException)):
                raise _broken(error, deadline) from error
            raise
        if connection.sock is not None and len(self._idle) < _MAX_KEPT:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()
        return reply

    def _take(self) -> HTTPConnection | None:
        """The connection used last, unless it is old or the server has closed it."""
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if time.monotonic() - since < MAX_IDLE_S and not _has_news(connection.sock):
                return connection
            connection.close()
        return None

    def _connect(self, deadline: Deadline) -> HTTPConnection:
        timeout_s = deadline.left_s()
        if self._tls is None:
            connection = HTTPConnection(self._address, timeout=timeout_s)
        else:
            connection = HTTPSConnection(self._address, timeout=timeout_s, context=self._tls)
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise _broken(error, deadline) from error
        return connection

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str],
        deadline: Deadline,
    ) -> HttpReply:  # fmt: skip
        """One exchange on ``connection``, which has no socket any more if the server closes it afterwards."""
        plain: Any = connection.sock
        bounded: Any = _BoundedSocket(plain, deadline)
        connection.sock = bounded
        # A server that refuses a large body answers before it has read all of it, and closes.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            content = _read(response, self._max_reply_bytes)
        if connection.sock is bounded:
            connection.sock = plain
        return HttpReply(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def encode_multipart(parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Body and content type; every part is sent as a file, because TorchServe would decode fields as text."""
    boundary = uuid.uuid4().hex
    chunks = []
    for name, content in parts.items():
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
        head = f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
        chunks += [head.encode("ascii", "replace"), content, b"\r\n"]
    chunks.append(f"--{boundary}--\r\n".encode("ascii"))
    return b"".join(chunks), f"multipart/form-data; boundary={boundary}"


class _BoundedSocket:
    """What ``http.client`` asks of a socket; no operation outlasts the deadline, however slowly bytes drip in."""

    def __init__(self, plain: socket.socket, deadline: Deadline) -> None:
        self._plain, self._deadline = plain, deadline

    def sendall(self, content: bytes) -> None:
        """Send everything: the timeout of a socket bounds the whole of its ``sendall``."""
        self._plain.settimeout(self._deadline.left_s())
        self._plain.sendall(content)

    def makefile(self, _: str) -> io.BufferedReader:
        """A stream to read from, which outlives :meth:`close` as that of a socket does."""
        raw = self._plain.makefile("rb", buffering=0)
        return io.BufferedReader(_BoundedReader(raw, self._plain, self._deadline), _BUFFER_BYTES)

    def close(self) -> None:
        """Close the socket itself."""
        self._plain.close()


class _BoundedReader(io.RawIOBase):
    """``raw``, the stream of ``plain``, until the deadline."""

    def __init__(self, raw: Any, plain: socket.socket, deadline: Deadline) -> None:
        self._raw, self._plain, self._deadline = raw, plain, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._plain.settimeout(self._deadline.left_s())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _read(response: HTTPResponse, most: int) -> bytes:
    """The whole body; ``HTTPResponse.read`` tells a body that breaks off only when it is asked for all of it."""
    if response.length is None:
        content = response.read(most + 1)
    else:
        content = response.read() if response.length <= most else b""
    if len(content) > most or response.length:
        raise InvalidInput(f"the reply has more than {most} bytes: ask for a window, or raise max_reply_bytes")
    return content


def _broken(error: Exception, deadline: Deadline) -> Unavailable:
    if isinstance(error, TimeoutError):
        return Unavailable(f"no answer within {deadline.timeout_s:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unavailable(UNTRUSTED.format(error.verify_message))
    broken = Unavailable(str(error) or type(error).__name__)
    if isinstance(error, ConnectionError):
        broken.retry_after_s = 0.0
        broken.may_have_begun = not isinstance(error, ConnectionRefusedError)
    return broken


def _has_news(plain: socket.socket) -> bool:
    """Something to read on an idle connection: the server has closed it, or speaks out of turn."""
    poll = select.poll()
    poll.register(plain, select.POLLIN)
    return bool(poll.poll(0))


def _close_all(idle: deque[tuple[float, HTTPConnection]]) -> None:
    while idle:
        idle.pop()[1].close()
