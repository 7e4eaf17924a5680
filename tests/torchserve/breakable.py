"""An AMUN archive that does on request what must never happen, and raw calls over both wires."""

import http.client
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from thermoscale.client.grpc_messages import PREDICTIONS_METHOD, load_messages
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.archives import altered

RESPONSE_TIMEOUT_S = 3
CONFIG = f"batchSize: 1\nresponseTimeout: {RESPONSE_TIMEOUT_S}\nstartupTimeout: 60\njobQueueSize: 1\n"
HANDLER = '''
import os
import time

from thermoscale.torchserve import BundleHandler


class BreakableHandler(BundleHandler):
    """Obeys the part ``order``: sleep <seconds>, die, fail."""

    pipeline = "amun"

    def handle(self, data, context):
        order, _, value = bytes(data[0].pop("order", b"")).decode().partition(" ")
        if order == "sleep":
            time.sleep(float(value))
        if order == "die":
            os._exit(1)
        service = self._service
        try:
            if order == "fail":
                self._service = None
            return super().handle(data, context)
        finally:
            self._service = service
'''


class Outcome(NamedTuple):
    """Status and text as they came, without the line that TorchServe appends over gRPC."""

    status: str
    text: str
    body: bytes


def breakable(archive: Path, target: Path) -> Path:
    """A copy of an AMUN archive that obeys orders, with a queue of one request and a short response timeout."""
    return altered(archive, target, {"amun_handler.py": HANDLER, "amun.yaml": CONFIG})


def rest(server: TorchServe, path: str, parts: Mapping[str, bytes], timeout_s: float = 30.0) -> Outcome:
    """``POST /predictions/<path>`` with one part as the body, or several as a form."""
    body, content_type = parts.get("body", b""), "application/octet-stream"
    if parts.keys() != {"body"}:
        body, content_type = _form(parts)
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=timeout_s)
    try:
        connection.request("POST", f"/predictions/{path}", body, {"Content-Type": content_type})
        response = connection.getresponse()
        return Outcome(str(response.status), _message(response.status, content := response.read()), content)
    finally:
        connection.close()


def call(server: TorchServe, path: str, parts: Mapping[str, bytes], timeout_s: float = 30.0) -> Outcome:
    """``Predictions`` with the model and version in ``path``."""
    model, _, version = path.partition("/")
    messages = load_messages()
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=unlimited) as channel:
        method = channel.unary_unary(
            PREDICTIONS_METHOD, messages.request.SerializeToString, messages.response.FromString
        )
        try:
            request = messages.request(model_name=model, model_version=version, input=dict(parts))
            return Outcome("OK", "", bytes(method(request, timeout=timeout_s).prediction))
        except grpc.RpcError as error:
            details = error.details() or ""
            return Outcome(error.code().name, details.partition("\n")[0], details.encode())


WIRES: dict[str, Any] = {"REST": rest, "gRPC": call}


def _message(status: int, content: bytes) -> str:
    import json

    return json.loads(content)["message"] if status != 200 and content else ""


def _form(parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    body = io.BytesIO()
    for name, content in parts.items():
        head = f'--b0undary\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        body.write(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + b"\r\n")
    body.write(b"--b0undary--\r\n")
    return body.getvalue(), "multipart/form-data; boundary=b0undary"
