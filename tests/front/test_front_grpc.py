"""gRPC on the same public port: requests pass, refusals are statuses and not HTTP pages."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from thermoscale.server.front_setup import MAX_REQUEST_BYTES, FrontLimits


@pytest.fixture(scope="module")
def channel(public: Any) -> Iterator[grpc.Channel]:
    """One connection for all tests, so that a refusal must not spoil it."""
    with public.channel() as opened:
        yield opened


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """Name and details of the status that ``call`` fails with."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return failed.value.code().name, failed.value.details()


def test_a_body_of_any_size_goes_there_and_back_unchanged(public: Any, channel: grpc.Channel) -> None:
    for size in (0, 1, 16_000, 8_000_001):
        body = bytes(range(251)) * (size // 251) + b"\xff" * (size % 251)
        assert public.call(channel, "echo", body)[0] == body


def test_the_key_stays_in_the_front_and_the_request_id_comes_back(public: Any, channel: grpc.Channel) -> None:
    reply, metadata = public.call(channel, "metadata", x_request_id="tile-7")
    assert metadata["x-request-id"] == "tile-7"
    seen = json.loads(reply)
    assert seen["x-thermoscale-request-id"] == "tile-7"
    assert "correct-horse" not in json.dumps(seen)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_a_valid_key_the_status_is_unauthenticated(public: Any, channel: grpc.Channel, key: str) -> None:
    code, details = refusal(lambda: public.call(channel, "echo", key=key))
    assert (code, details) == ("UNAUTHENTICATED", "no valid key, needed the header Authorization: Bearer KEY")


def test_a_large_request_without_a_key_is_unauthenticated_and_leaves_the_connection(
    public: Any, channel: grpc.Channel
) -> None:
    assert refusal(lambda: public.call(channel, "echo", bytes(20 * 2**20), key="wrong"))[0] == "UNAUTHENTICATED"
    assert public.call(channel, "echo", b"next")[0] == b"next"


def test_a_request_over_the_limit_is_resource_exhausted(public: Any, channel: grpc.Channel) -> None:
    code, details = refusal(lambda: public.call(channel, "echo", bytes(MAX_REQUEST_BYTES + 1)))
    assert code == "RESOURCE_EXHAUSTED"
    assert f"larger than {MAX_REQUEST_BYTES} bytes" in details
    assert public.call(channel, "echo", b"next")[0] == b"next"


@pytest.mark.parametrize(
    "method",
    ["/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping",
     "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels"],
)  # fmt: skip
def test_every_other_method_is_unimplemented(public: Any, channel: grpc.Channel, method: str) -> None:
    assert refusal(lambda: public.call(channel, "echo", method=method))[0] == "UNIMPLEMENTED"


def test_the_servers_own_error_passes(public: Any, channel: grpc.Channel) -> None:
    assert refusal(lambda: public.call(channel, "busy")) == ("INTERNAL", "queue full")


def test_a_server_that_is_gone_is_unavailable(start_front: Any, keys: Path) -> None:
    with start_front(keys, grpc="127.0.0.1:1") as public, public.channel() as channel:
        code, details = refusal(lambda: public.call(channel, "echo"))
    assert code == "UNAVAILABLE"
    assert "does not answer; try again later" in details


def test_too_many_requests_are_resource_exhausted_with_the_time_to_wait(start_front: Any, keys: Path) -> None:
    with start_front(keys, limits=FrontLimits(rate_per_s=1, burst=2)) as public, public.channel() as channel:
        for _ in range(3):
            public.call(channel, "echo")
        with pytest.raises(grpc.RpcError) as failed:
            public.call(channel, "echo")
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    headers = {**dict(failed.value.initial_metadata() or ()), **dict(failed.value.trailing_metadata() or ())}
    assert headers["retry-after"] == "1"


def test_a_refusal_is_one_frame_of_headers_with_status_200(public: Any) -> None:
    """What gRPC calls trailers-only; curl sees it as an HTTP/2 answer without a body."""
    url = f"{public.front.url}/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    line = ["curl", "-sS", "-i", "--http2", "--cacert", str(public.tls.certificate), "-X", "POST", url]
    got = subprocess.run(line, capture_output=True, text=True, timeout=20).stdout.lower()
    assert got.startswith("http/2 200")
    for header in ("content-type: application/grpc", "grpc-status: 16", "grpc-message: no valid key", "x-request-id: "):
        assert header in got
    assert got.endswith("\n\n")
