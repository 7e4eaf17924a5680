"""The floor of a server: a TorchServe handler that reads the body and returns bytes of the asked size.

Request and reply begin with 16 bytes: the request with the size of the reply and how many seconds to stay busy, the
reply with the seconds that the handler took. The worker imports nothing else and, like ours, logs no line for a
request.
"""

import logging
import struct
import time
from typing import Any

REQUEST_HEAD = struct.Struct("<Qd")
REPLY_HEAD = struct.Struct("<dd")


class EchoHandler:
    """TorchServe wants exactly one class here."""

    def initialize(self, _context: Any) -> None:
        logging.getLogger().setLevel(logging.WARNING)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        start = time.perf_counter()
        body = bytes(data[0]["body"])
        size, busy_s = REQUEST_HEAD.unpack_from(body)
        while time.perf_counter() - start < busy_s:
            pass
        context.set_response_content_type(0, "application/octet-stream")
        rest = bytes(size - REPLY_HEAD.size)
        return [REPLY_HEAD.pack(time.perf_counter() - start, 0.0) + rest]
