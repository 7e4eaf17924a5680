"""Predictions over gRPC: extra ``client``, grpcio and protobuf."""

from pathlib import Path
from urllib.parse import urlsplit

from thermoscale.client.access import authorization, read_ca
from thermoscale.client.base import MAX_REPLY_BYTES, RETRIES, Client, Request
from thermoscale.client.errors import error_of_grpc
from thermoscale.client.grpc_messages import NEEDS_CLIENT_EXTRA, PREDICTIONS_METHOD, load_messages
from thermoscale.client.retry import Deadline
from thermoscale.errors import InvalidInput, Unavailable

_ENVELOPE_BYTES = 1024  # what a message holds beside the reply
_BACKOFF_MS = (("initial", 100), ("max", 1000))  # between attempts to connect; grpcio's own grow to 2 minutes


class GrpcClient(Client):
    """gRPC: one channel.

    Args:
        address: host:port, or https://host:port for TLS.
        key: for a server that asks for one.
        ca: as of :class:`RestClient`; implies TLS. Default: those that grpcio brings.
        retries: further attempts, 0 for none.
        max_reply_bytes: a larger reply is refused.

    Raises:
        InvalidInput: no such address, a key that cannot be one, or that would travel unencrypted.
        Unavailable: grpcio or protobuf is missing.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        ca: Path | str | None = None,
        retries: int = RETRIES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        try:
            import grpc
        except ImportError as error:
            raise Unavailable(NEEDS_CLIENT_EXTRA) from error
        split = urlsplit(address if "://" in address else f"//{address}")
        if split.scheme not in ("", "http", "https") or not split.hostname or split.path.strip("/"):
            raise InvalidInput(f"gRPC address is {address!r}, needed for example 127.0.0.1:7070")
        tls = split.scheme == "https" or ca is not None
        self.address, self.retries = address, retries
        self._metadata = tuple(authorization(key, split.hostname, tls=tls).items())
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", max_reply_bytes + _ENVELOPE_BYTES),
            *((f"grpc.{name}_reconnect_backoff_ms", wait_ms) for name, wait_ms in _BACKOFF_MS),
        ]
        if tls:
            credentials = grpc.ssl_channel_credentials(read_ca(ca) if ca else None)
            self._channel = grpc.secure_channel(split.netloc, credentials, options)
        else:
            self._channel = grpc.insecure_channel(split.netloc, options)
        messages = load_messages()
        self._errors, self._message = grpc.RpcError, messages.request
        self._predictions = self._channel.unary_unary(
            PREDICTIONS_METHOD,
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )

    def close(self) -> None:
        self._channel.close()

    def _send(self, request: Request, deadline: Deadline) -> bytes:
        message = self._message(
            model_name=request.model, model_version=request.version or "", input=dict(request.parts)
        )
        metadata = (*self._metadata, *request.headers.items())
        try:
            reply = self._predictions(message, timeout=deadline.left_s(), metadata=metadata)
        except self._errors as error:
            if error.code().name == "DEADLINE_EXCEEDED":
                deadline.left_s()  # raises, unless that was the server's own patience
            received = dict((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))
            raise error_of_grpc(error.code().name, error.details() or "", received) from error
        return bytes(reply.prediction)
