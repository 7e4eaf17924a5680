"""The handler that TorchServe runs: the one place, with ``handlers/``, that knows its worker protocol.

Learned by measuring TorchServe 0.12:

- an error is a ``PredictionException``: the right status on both wires; anything else becomes 503;
- its text reaches the HTTP reason phrase, where one byte outside ASCII hangs the worker, and a gRPC trailer of at most
  a few kB;
- replies are bytes; one larger than ``max_response_size`` kills the worker, so the service refuses it first;
- a body sent as ``application/x-www-form-urlencoded``, the default of ``curl --data-binary``, arrives as parts with
  scraps of it for names, or as none; headers arrive with the spelling of the sender, over gRPC there are none.
"""

import gc
import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscale.errors import BundleError, InvalidInput
from thermoscale.in_work import in_work
from thermoscale.runtime.freed_memory import keep_freed_memory
from thermoscale.torchserve_report import Report
from thermoscale.wire.status import INTERNAL, status_of

if TYPE_CHECKING:
    from thermoscale.service import Service

NEVER_READY = "thermoscale is never ready:"
"""Begins the log line of a worker that will not come up, however often it is restarted: model, folder, reason."""

BUNDLE_FOLDER = "bundle"
"""Where an archive holds its bundle."""

INTERNAL_TEXT = "internal error {}; the trace is in the server's log under this id"
"""All that a caller learns of an error that nobody raised on purpose."""

_MAX_MESSAGE = 1000
_FORM = "application/x-www-form-urlencoded"
_FRONT_ID = "x-thermoscale-request-id"
_MAX_ID = 128
_PART_NAME = re.compile(r"[a-z_]{1,64}", re.ASCII)

_log = logging.getLogger(__name__)


class BundleHandler:
    """Serves the bundle of its archive; a subclass names the pipeline."""

    pipeline = ""

    def initialize(self, context: Any) -> None:
        """Open the archive's bundle: hashes, sessions, golden self-test.

        Raises:
            BundleError: the bundle is broken, or not for this handler, or the code is not the archive's own.
        """
        logging.getLogger().setLevel(logging.WARNING)  # TorchServe logs two lines for every request
        logging.getLogger("ts.service").setLevel(logging.CRITICAL)  # and thirty for every refusal, which we log in one
        archive = Path(context.system_properties["model_dir"])
        keep_freed_memory()
        try:
            self._service = self._open(archive)
            self._report = Report(self.pipeline, self._service.manifest.version)
        except Exception as error:
            _log.error("%s %s %s %s: %s", NEVER_READY, self.pipeline, archive, type(error).__name__, one_line(error))
            raise
        gc.freeze()  # what is here now stays: a full collection of it stops some request for 20 ms

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer one request.

        Args:
            data: one mapping of part names to bytes; batchSize is 1, since an error is one for the whole batch.

        Raises:
            PredictionException: with our message and status.
        """
        start, server_id = time.perf_counter(), context.get_request_id(0)
        headers, observed = context.get_all_request_header(0), dict[str, Any](values=data[0])
        try:
            with in_work():
                reply = self._service.predict_bytes(_parts_of(data[0], headers), observed, start)
            self._report.answered(observed, _ms_since(start))
        except Exception as error:
            from ts.utils.util import PredictionException

            status = status_of(error)
            text = INTERNAL_TEXT.format(server_id) if status == INTERNAL else one_line(error)
            request_id = _request_id(observed["values"], headers)
            self._report.failed(error, text, request_id, server_id, _ms_since(start))
            raise PredictionException(text, status.http) from error
        context.set_response_content_type(0, reply.content_type)
        return [reply.body]

    def _open(self, archive: Path) -> "Service":
        _require_own_code(archive)
        # Here and not above: TorchServe hides an ImportError of the handler's file behind a second one.
        from thermoscale.service import open_bundle

        service = open_bundle(archive / BUNDLE_FOLDER)
        if service.manifest.pipeline != self.pipeline:
            raise BundleError(f"the bundle is for {service.manifest.pipeline}, the handler for {self.pipeline}")
        return service


def one_line(error: BaseException) -> str:
    """The message of ``error`` in printable ASCII without line breaks, not too long for a gRPC trailer."""
    text = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _MAX_MESSAGE else printable[:_MAX_MESSAGE] + " ..."


def _parts_of(row: Mapping[str, Any], headers: Mapping[str, Any]) -> dict[str, bytes]:
    """The parts of one request as bytes: TorchServe gives bytearrays, and text for some REST content types.

    Raises:
        InvalidInput: a name that is no word: the sender's own, or a scrap of a body sent as a form.
    """
    odd = [name for name in row if not _PART_NAME.fullmatch(name)]
    if odd and _is_form(headers):
        raise InvalidInput(
            "the body was read as a form; send it with the header Content-Type: application/octet-stream"
        )
    if odd:
        raise InvalidInput(f"a part is called {odd[0][:80]!r}, needed 1 to 64 of the letters a-z and _")
    return {name: value.encode() if isinstance(value, str) else bytes(value) for name, value in row.items()}


def _is_form(headers: Mapping[str, Any]) -> bool:
    return _FORM in (_header(headers, "content-type") or "").lower()


def _request_id(values: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    """The caller's own, however far the request got; over REST the front passes on that of the header."""
    given = values.get("request_id", _header(headers, _FRONT_ID))
    if isinstance(given, bytes | bytearray):
        given = given.decode("utf-8", "replace")
    return None if given is None else str(given)[:_MAX_ID]


def _header(headers: Mapping[str, Any], wanted: str) -> str | None:
    return next((str(text) for name, text in headers.items() if name.lower() == wanted), None)


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000.0


def _require_own_code(archive: Path) -> None:
    """An archive runs the code it was packed and tested with, never what happens to be installed."""
    if not Path(__file__).resolve().is_relative_to(archive.resolve()):
        raise BundleError(f"the archive does not carry its own code: {__file__} is not in {archive}; pack it again")
