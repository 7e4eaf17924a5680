"""Predictions over REST, with the standard library and numpy only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from thermoscale.client.access import authorization, tls_context
from thermoscale.client.base import MAX_REPLY_BYTES, RETRIES, TIMEOUT_S, Client, Request, json_object
from thermoscale.client.errors import error_of_http
from thermoscale.client.http import Connections, HttpReply, encode_multipart
from thermoscale.client.retry import Deadline
from thermoscale.errors import InvalidInput, Unavailable


class RestClient(Client):
    """REST: ``POST /predictions/<model>[/<version>]`` on kept connections.

    Args:
        url: http://host:port or https://host:port, with a path before ``/predictions`` if there is one.
        key: for a server that asks for one.
        ca: PEM file of the authority that signed the server's certificate; default: those that the system trusts.
        retries: further attempts, 0 for none.
        max_reply_bytes: a larger reply is refused.

    Raises:
        InvalidInput: no such address, a key that cannot be one, or that would travel unencrypted.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        ca: Path | str | None = None,
        retries: int = RETRIES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InvalidInput(f"REST address is {url!r}, needed for example http://127.0.0.1:8080")
        self.url, self.retries = url.rstrip("/"), retries
        tls = split.scheme == "https"
        self._headers = authorization(key, split.hostname, tls=tls)
        self._prefix = split.path.rstrip("/")
        self._connections = Connections(split.netloc, tls_context(ca, tls=tls), max_reply_bytes)

    def models(self, *, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
        """Name and versions of every model, as the front lists them.

        Raises:
            InvalidInput: a server without the front, which answers no such question.
            Unavailable: no answer.
        """
        status, body = self.request("GET", "/v1/models", timeout_s=timeout_s)
        if status == 404:
            raise InvalidInput(f"{self.url} lists no models, a server without the front does not: name a model")
        if status != 200:
            raise error_of_http(status, {}, body)
        found: list[dict[str, Any]] = json_object(body)["models"]
        return found

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain", timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes]:
        """One exchange, whatever its answer: status and body.

        Raises:
            Unavailable: no connection, or it broke, or no answer in time.
        """
        reply = self._exchange(method, path, body, {"content-type": content_type}, Deadline(timeout_s))
        return reply.status, reply.body

    def close(self) -> None:
        self._connections.close()

    def _send(self, request: Request, deadline: Deadline) -> bytes:
        path = "/predictions/" + "/".join(quote(name, safe="") for name in (request.model, request.version) if name)
        body, content_type = request.parts.get("body", b""), "application/octet-stream"
        if request.parts.keys() != {"body"}:
            body, content_type = encode_multipart(request.parts)
        return self._ok("POST", path, body, {"content-type": content_type, **request.headers}, deadline)

    def _ok(self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> bytes:
        reply = self._exchange(method, path, body, headers, deadline)
        if reply.status != 200:
            raise error_of_http(reply.status, reply.headers, reply.body)
        return reply.body

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: Deadline
    ) -> HttpReply:
        try:
            return self._connections.exchange(method, self._prefix + path, body, {**self._headers, **headers}, deadline)
        except Unavailable as error:
            error.args = (f"no answer from {self.url}{path}: {error}",)
            raise
