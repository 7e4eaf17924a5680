"""The Java process stays inside its stated bound whatever is sent to it at once."""

import contextlib
import http.client
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from torchserve.breakable import WIRES

from thermoscale.server.launcher import TorchServe
from thermoscale.server.setup import JVM_MB

pytestmark = pytest.mark.server

BODIES, BODY = 10, os.urandom(48 * 2**20)
"""480 MB at once: each is held several times on its way."""


def test_a_crowd_of_large_bodies_stays_inside_the_bound_and_leaves_a_ready_server(server: TorchServe) -> None:
    assert server._process is not None
    java = psutil.Process(server._process.pid)
    start_mb, seen_mb, done = java.memory_info().rss >> 20, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen_mb.append(java.memory_info().rss >> 20)

    def send(wire: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # TorchServe closes what it has no room for
            WIRES[wire](server, "amun", {"body": BODY}, 60.0)

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(BODIES) as crowd:
        list(crowd.map(send, ["REST", "gRPC"] * (BODIES // 2)))
    done.set()
    watching.join()
    assert max(seen_mb) > start_mb + 400, "a crowd that needs no memory proves nothing"
    assert max(seen_mb) < JVM_MB
    server.wait_ready(30)
