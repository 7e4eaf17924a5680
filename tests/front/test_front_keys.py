"""Keys, limits of each client, and what the log says of them."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.server.front_setup import FrontLimits, require_keys

LineOf = Callable[[str, str], str]


def replace(path: Path, text: str) -> None:
    """As an operator should: a new file in place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def test_a_key_counts_from_the_next_request_on_and_no_longer_than_it_is_there(
    start_front: Any, keys: Path, key_line: LineOf
) -> None:
    with start_front(keys) as public:

        def status(key: str) -> int:
            return int(public.ask("POST", "/predictions/echo", b"x", key=key).status)

        assert (status("correct-horse"), status("new")) == (200, 401)
        replace(keys, key_line("new", "new"))
        assert (status("correct-horse"), status("new")) == (401, 200)
        replace(keys, "")
        assert status("new") == 401


def test_no_request_is_lost_while_keys_come_and_go(start_front: Any, keys: Path, key_line: LineOf) -> None:
    statuses: Counter[int] = Counter()
    with start_front(keys, limits=FrontLimits(rate_per_s=10_000, burst=10_000)) as public:
        stopped = threading.Event()

        def load() -> None:
            connection = public.connection()
            while not stopped.is_set():
                connection.request("POST", "/predictions/echo", b"x" * 1000, {"Authorization": "Bearer correct-horse"})
                response = connection.getresponse()
                statuses[response.status if response.read() == b"x" * 1000 else -1] += 1
            connection.close()

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(40):
            replace(keys, key_line("correct-horse", "tests") + key_line(f"guest {number}", "guest") * (number % 3))
            time.sleep(0.03)
        stopped.set()
        for thread in threads:
            thread.join()
    assert statuses.keys() == {200}
    assert statuses[200] > 100


def test_keys_that_cannot_be_read_are_a_503_until_they_can(start_front: Any, keys: Path) -> None:
    with start_front(keys) as public:
        hidden = keys.rename(keys.with_name("hidden"))
        got = public.ask("POST", "/predictions/echo", b"x")
        assert got.status == 503
        assert "its error log says why" in got.json["message"]
        assert public.ask("GET", "/readyz", key=None).json == {"ready": False}
        hidden.rename(keys)
        assert public.ask("POST", "/predictions/echo", b"x").status == 200


def test_a_front_that_cannot_read_its_keys_does_not_start(start_front: Any, keys: Path) -> None:
    keys.chmod(0)
    with pytest.raises((InvalidInput, Unavailable), match=r"cannot read .*keys, needed read permission|Permission"):  # noqa: SIM117
        with start_front(keys):
            pass


@pytest.mark.parametrize(
    "line", ["secret  alice", "0" * 64, "g" * 64 + "  alice", "0" * 64 + "  a b", "A" * 64 + "  a"]
)
def test_a_file_with_anything_else_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"# ours\n\n{'0' * 64}  alice\n{line}\n")
    with pytest.raises(InvalidInput, match="keys line 4: needed"):
        require_keys(tmp_path / "keys")


def test_a_keys_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        require_keys(tmp_path / "keys")


def test_each_client_has_a_limit_of_its_own(start_front: Any, keys: Path) -> None:
    with start_front(keys, limits=FrontLimits(rate_per_s=1, burst=3)) as public:

        def until_refused(key: str) -> tuple[list[int], Any]:
            answers = [public.ask("POST", "/predictions/echo", b"x", key=key) for _ in range(12)]
            refused = [answer for answer in answers if answer.status == 429]
            assert refused
            return [answer.status for answer in answers if answer.status != 429], refused[0]

        passed, refused = until_refused("correct-horse")
        assert passed[:4] == [200] * 4
        assert refused.headers["Retry-After"] == "1"
        assert refused.json["message"].startswith("more requests than this client may send")
        assert until_refused("another")[0][:4] == [200] * 4
        assert set(until_refused("guessed")[0]) == {401}


def test_open_requests_of_a_client_are_limited(start_front: Any, keys: Path) -> None:
    with start_front(keys, limits=FrontLimits(open_requests=2)) as public:
        slow = [threading.Thread(target=public.ask, args=("POST", "/predictions/slow", b"x")) for _ in range(2)]
        for thread in slow:
            thread.start()
        time.sleep(0.3)
        assert public.ask("POST", "/predictions/echo", b"x").status == 429
        for thread in slow:
            thread.join()
        assert public.ask("POST", "/predictions/echo", b"x").status == 200


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(InvalidInput, match="burst is 0, needed at least 1"):
        FrontLimits(burst=0)


def test_the_log_names_the_key_and_never_holds_one(start_front: Any, keys: Path, tmp_path: Path) -> None:
    with start_front(keys, log_folder=tmp_path) as public:
        public.ask("POST", "/predictions/echo?key=correct-horse", b"x", X_Request_Id="mine")
        public.ask("POST", "/predictions/echo", b"x", key="guessed-horse")
        with public.channel() as channel:
            public.call(channel, "echo")
    lines = [json.loads(line) for line in (tmp_path / "front.log").read_text().splitlines()]
    path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    seen = [(line["key"], line["path"], line["status"], line["grpc_status"]) for line in lines[-3:]]
    assert seen == [
        ("tests", "/predictions/echo", 200, ""), ("", "/predictions/echo", 401, ""), ("tests", path, 200, "0"),
    ]  # fmt: skip
    assert lines[-3]["request_id"] == "mine"
    for log in ("front.log", "front-error.log"):
        assert "horse" not in (tmp_path / log).read_text()
