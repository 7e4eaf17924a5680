"""What a worker tells about each request on its standard output: metrics of all, one log record of each that failed.

A record is one JSON object in one line, without headers, keys or bodies, that ``config/log4j2.xml`` knows by its
beginning.

What is told of an answer is told later, of several at once: TorchServe's frontend parses these lines when it should
pass on the reply, or the next request.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from thermoscale.torchserve_metrics import DESCRIBED, INTERNAL, OK, metric_lines, outcome_of, stage_seconds

EVENT = "request_failed"

_MAX_TEXT = 300
_MAX_TRACE = 8000
_TELL_S = 0.25

_log = logging.getLogger(__name__)


class Report:
    """Writes the metrics and records of one model's version."""

    def __init__(self, model: str, version: str) -> None:
        self._model, self._version = model, version
        self._writing = threading.Lock()
        self._answers: deque[tuple[Mapping[str, Any], float]] = deque()
        self._some = threading.Event()
        self._counter: threading.Thread | None = None

    def answered(self, observed: Mapping[str, Any], total_ms: float) -> None:
        """Count an answer, soon; a description has neither stages nor drift.

        Args:
            observed: of ``Service.predict_bytes``.
        """
        if self._counter is None:
            self._counter = threading.Thread(target=self._count, name="report", daemon=True)
            self._counter.start()
        told = {name: observed[name] for name in ("meta", "drift") if name in observed}  # what is large may go
        self._answers.append((told, total_ms))
        if not self._some.is_set():  # to wake a thread costs more than all else here
            self._some.set()

    def _count(self) -> None:
        while True:
            self._some.wait()
            time.sleep(_TELL_S)
            self._some.clear()
            lines = []
            while self._answers:
                lines.append(self._lines(*self._answers.popleft()))
            self._write("".join(lines))

    def _lines(self, observed: Mapping[str, Any], total_ms: float) -> str:
        try:
            if "drift" not in observed:
                return metric_lines(self._model, self._version, DESCRIBED)
            seconds = stage_seconds(observed["meta"]["handler_ms"], total_ms)
            return metric_lines(self._model, self._version, OK, seconds, observed["drift"])
        except Exception:
            _log.exception("an answer was not counted")
            return ""

    def failed(self, error: Exception, text: str, request_id: str | None, server_id: str, total_ms: float) -> None:
        """Record and count a failure; only an error that nobody raised on purpose brings its trace.

        Args:
            text: what the caller is told; the record holds its first 300 characters.
            request_id: the caller's own, if there is one.
            server_id: TorchServe's id of the request, in the reply's header ``x-request-id`` over REST.
        """
        outcome = outcome_of(error)
        record: dict[str, Any] = {
            "event": EVENT,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "model": self._model,
            "version": self._version,
            "request_id": request_id,
            "server_id": server_id,
            "outcome": outcome,
            "total_ms": round(total_ms, 3),
            "text": text[:_MAX_TEXT],
        }
        if outcome == INTERNAL:
            record["trace"] = "".join(traceback.format_exception(error))[-_MAX_TRACE:]
        self._write(json.dumps(record) + "\n" + metric_lines(self._model, self._version, outcome))

    def _write(self, lines: str) -> None:
        with self._writing:
            sys.stdout.write(lines)
            sys.stdout.flush()
