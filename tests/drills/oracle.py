"""What a request should be answered with: by the same bundle, opened in this process."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from thermoscale import Service
from thermoscale.bundle.golden import compare_golden
from thermoscale.client import decode_reply
from thermoscale.errors import BundleError, ThermoscaleError
from thermoscale.service import GOLDEN_TOLERANCE_K
from thermoscale.testing.bundles import linear_series, tiny_amun_config, tiny_amun_request
from thermoscale.wire.npz import encode_npz


@dataclass(frozen=True)
class Case:
    """One request: the model it is for, its body, and whether it is sent as a form of several parts."""

    model: str
    body: bytes = field(repr=False)
    as_form: bool = False

    @property
    def parts(self) -> dict[str, bytes]:
        """What the clients send."""
        return {"body": self.body, **({"request_id": b"drill"} if self.as_form else {})}


class Oracle:
    """Knows the outcome of every request.

    Args:
        services: (model, version) -> the opened bundle.
    """

    def __init__(self, services: Mapping[tuple[str, str], Service]) -> None:
        self._services = dict(services)
        self._known: dict[tuple[Case, str], dict[str, Any] | ThermoscaleError] = {}
        self._lock = threading.Lock()

    @cached_property
    def cases(self) -> list[Case]:
        """Quick requests, some for each model, none of them a golden sample."""
        series, config = linear_series(), tiny_amun_config()
        target = series.coarse_time[2]
        amun = [tiny_amun_request(config, seed=seed) for seed in (1, 2, 3)]
        iustfm: list[dict[str, Any]] = [
            {"coarse": series.coarse_at(target) + kelvin, "time": target} for kelvin in (0.25, 0.5, 0.75)
        ]
        return [Case("amun", encode_npz(arrays)) for arrays in amun] + [
            Case("iustfm", encode_npz(arrays)) for arrays in iustfm
        ]

    @cached_property
    def slow_case(self) -> Case:
        """A request of about half a second: something to be in the middle of."""
        return slow_case(120)

    def expected_error(self, case: Case) -> type[ThermoscaleError] | None:
        """The class of the error that ``case`` deserves, None if it deserves an answer."""
        (version,) = (version for model, version in self._services if model == case.model)
        outcome = self._outcome(case, version)
        return type(outcome) if isinstance(outcome, ThermoscaleError) else None

    def is_right(self, case: Case, reply: bytes) -> bool:
        """Whether ``reply`` is the answer of the version that its meta names: within 1e-3 K, NaN in the same places."""
        got = decode_reply(reply)
        if (case.model, got["meta"]["version"]) not in self._services:
            return False
        expected = self._outcome(case, got["meta"]["version"])
        if isinstance(expected, ThermoscaleError):
            return False
        try:
            compare_golden({name: expected[name] for name in expected if name != "meta"}, got, GOLDEN_TOLERANCE_K)
        except BundleError:
            return False
        return True

    def _outcome(self, case: Case, version: str) -> dict[str, Any] | ThermoscaleError:
        key = (case, version)
        with self._lock:  # the answers of one bundle are computed once, and by one thread
            if key not in self._known:
                try:
                    body = self._services[case.model, version].predict_bytes(case.parts).body
                    self._known[key] = decode_reply(body)
                except ThermoscaleError as error:
                    self._known[key] = error
            return self._known[key]


def slow_case(cells: int) -> Case:
    """An AMUN scene of ``cells`` x ``cells`` coarse cells: 120 take about 0.5 s, 40 about 0.1 s."""
    return Case("amun", encode_npz(tiny_amun_request(tiny_amun_config(), coarse_shape=(cells, cells))))
