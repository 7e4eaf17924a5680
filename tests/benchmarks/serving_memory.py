"""Memory of the server's processes after some requests and after ten times as many."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measuring import say
from serving_machine import memory_mb

GOAL_GROWTH = 0.03
CLIENTS = 2


def growth(send: Callable[[int], Any], pids: dict[str, int], few: int, many: int) -> dict[str, Any]:
    """Megabytes of each process after ``few`` and after ``many`` requests in all; two clients send them."""
    found: dict[str, Any] = {"requests": [few, many]}
    with ThreadPoolExecutor(CLIENTS) as pool:
        before = {name: memory_mb(pid) for name, pid in pids.items()}
        for _ in pool.map(send, range(few)):
            pass
        early = {name: memory_mb(pid) for name, pid in pids.items()}
        for number, _ in enumerate(pool.map(send, range(few, many)), few):
            if number % 100 == 0:
                say(f"memory {number}/{many}")
        late = {name: memory_mb(pid) for name, pid in pids.items()}
    for name in pids:
        ratios = {f"growth_{kind}": late[name][f"{kind}_mb"] / early[name][f"{kind}_mb"] - 1 for kind in ("rss", "uss")}
        found[name] = {"at_start": before[name], "after_few": early[name], "after_many": late[name], **ratios}
    return found
