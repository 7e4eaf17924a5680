"""The handler's own decisions, without a server around it."""

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thermoscale.torchserve as torchserve
from thermoscale.errors import BundleError, InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.resources import resource_folder
from thermoscale.service import Reply
from thermoscale.torchserve import BundleHandler, one_line
from thermoscale.torchserve_report import Report

with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # ts leaves its version.txt open
    from ts.utils.util import PredictionException, list_classes_from_module


class Answering:
    """A service that returns or raises what it is given."""

    def __init__(self, outcome: Reply | Exception) -> None:
        self.outcome = outcome
        self.seen: list[Mapping[str, bytes]] = []
        self.observed: dict[str, Any] = {}

    def predict_bytes(self, parts: Mapping[str, bytes], observed: dict[str, Any], _begun: float) -> Reply:
        self.seen.append(parts)
        observed |= self.observed
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def handler_with(outcome: Reply | Exception) -> tuple[BundleHandler, Answering]:
    handler, service = BundleHandler(), Answering(outcome)
    handler._service = service  # type: ignore[assignment]
    handler._report = Report("amun", "1.2.3")
    return handler, service


class Context:
    """What a handler uses of TorchServe's context."""

    def __init__(self, model_dir: Path = Path(), headers: Mapping[str, str] | None = None) -> None:
        self.system_properties = {"model_dir": str(model_dir)}
        self.content_types: dict[int, str] = {}
        self.headers = [dict(headers or {})]

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return self.headers[index]

    def get_request_id(self, index: int) -> str:
        return ["5f0c2a9b"][index]

    def set_response_content_type(self, index: int, value: str) -> None:
        self.content_types[index] = value


def failure(
    outcome: Exception, parts: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> PredictionException:
    with pytest.raises(PredictionException) as caught:
        handler_with(outcome)[0].handle([parts or {"body": bytearray(b"PK")}], Context(headers=headers))
    return caught.value


@pytest.mark.parametrize(
    ("part", "headers", "logged"),
    [
        (bytearray(b"mine"), {"X-Thermoscale-Request-Id": "the front's"}, "mine"),
        (None, {"X-Thermoscale-Request-Id": "the front's"}, "the front's"),
        (bytearray(b"\xff" + b"a" * 5000), {}, "\ufffd" + "a" * 127),
        (None, {}, None),
    ],
)
def test_a_failure_is_logged_under_the_callers_id(
    capsys: pytest.CaptureFixture[str], part: bytearray | None, headers: Mapping[str, str], logged: str | None
) -> None:
    failure(InvalidInput("no"), {"body": bytearray(b"PK")} | ({"request_id": part} if part else {}), headers)
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (record["request_id"], record["server_id"]) == (logged, "5f0c2a9b")


@given(st.text(max_size=3000))
def test_a_message_is_always_one_short_line_of_printable_ascii(text: str) -> None:
    line = one_line(InvalidInput(text))
    assert line.isascii()
    assert line == "" or line.isprintable()
    assert len(line) <= 1100


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=900))
def test_a_plain_message_is_passed_on_unchanged(text: str) -> None:
    assert one_line(InvalidInput(text)) == text


def test_parts_reach_the_service_as_bytes_and_the_reply_goes_out_as_it_is() -> None:
    handler, service = handler_with(Reply(b"II*", "image/tiff"))
    context = Context()
    assert handler.handle([{"body": bytearray(b"PK"), "time": "2020-01-01"}], context) == [b"II*"]
    assert service.seen == [{"body": b"PK", "time": b"2020-01-01"}]
    assert context.content_types == {0: "image/tiff"}


def test_an_answer_is_counted_with_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    handler, service = handler_with(Reply(b"PK", "application/octet-stream"))
    stages = {"decode_ms": 1.0, "network_ms": 2.0, "assemble_ms": 3.0, "encode_ms": 4.0}
    service.observed = {"values": {}, "meta": {"handler_ms": stages}, "drift": None}
    handler.handle([{"body": bytearray(b"PK")}], Context())
    lines = written(capsys, "outcome:ok")
    assert "stage:decode" in lines[1]


def test_a_description_is_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    handler_with(Reply(b"{}", "application/json"))[0].handle([{"ask": bytearray(b"description")}], Context())
    assert len(written(capsys, "outcome:described")) == 1


def written(capsys: pytest.CaptureFixture[str], outcome: str) -> list[str]:
    """The lines about one answer, which follow it; other tests' answers may come before."""
    deadline, text = time.monotonic() + 10.0, ""
    while outcome not in text and time.monotonic() < deadline:
        time.sleep(0.01)
        text += capsys.readouterr().out
    lines = text.splitlines()
    return lines[next(at for at, line in enumerate(lines) if outcome in line) :]


@pytest.mark.parametrize(("kind", "code"), [(InvalidInput, 400), (Undetermined, 422), (Unavailable, 503)])
def test_our_errors_keep_their_words_and_status(kind: type[ThermoscaleError], code: int) -> None:
    error = failure(kind("coarse is empty"))
    assert (error.error_code, error.message) == (code, "coarse is empty")


@pytest.mark.parametrize("unknown", [KeyError("secret"), ZeroDivisionError("secret"), MemoryError("secret")])
def test_an_unknown_error_tells_the_caller_nothing_but_where_to_look(unknown: Exception) -> None:
    error = failure(unknown)
    assert (error.error_code, error.message) == (500, torchserve.INTERNAL_TEXT.format("5f0c2a9b"))


@pytest.mark.parametrize("header", ["Content-Type", "content-type"])
@pytest.mark.parametrize("scrap", ["PK\ufffd\x03", '{"coarse": [[290.0]]}', "We-ird"])
def test_a_body_taken_for_a_form_is_explained(scrap: str, header: str) -> None:
    headers = {header: "application/x-www-form-urlencoded; charset=utf-8"}
    error = failure(KeyError(), {scrap: bytearray(b"rest")}, headers)
    assert error.error_code == 400
    assert "Content-Type: application/octet-stream" in error.message


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "multipart/form-data; boundary=b"}])
@pytest.mark.parametrize(("name", "shown"), [("We-ird", "'We-ird'"), ("größe", r"'gr\xf6\xdfe'"), ("", "''")])
def test_a_part_with_a_name_that_is_none_is_named(name: str, shown: str, headers: Mapping[str, str]) -> None:
    error = failure(KeyError(), {"coarse": bytearray(b"PK"), name: bytearray(b"PK")}, headers)
    assert error.error_code == 400
    assert shown in error.message
    assert "form" not in error.message


def test_a_very_long_name_of_a_part_is_cut() -> None:
    assert len(failure(KeyError(), {"A" * 5000: bytearray(b"PK")}).message) < 200


def test_code_that_is_not_the_archives_own_is_never_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BundleError, match="does not carry its own code"):
        BundleHandler().initialize(Context(tmp_path))
    assert caplog.records[-1].message.startswith(f"{torchserve.NEVER_READY} ")


def test_a_bundle_of_the_other_pipeline_is_never_ready(
    bundles: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / torchserve.BUNDLE_FOLDER).symlink_to(bundles["amun"])
    monkeypatch.setattr(torchserve, "__file__", str(tmp_path / "thermoscale" / "torchserve.py"))

    class Other(BundleHandler):
        pipeline = "iustfm"

    with pytest.raises(BundleError, match="the bundle is for amun, the handler for iustfm"):
        Other().initialize(Context(tmp_path))


@pytest.mark.parametrize("model", ["amun", "iustfm"])
def test_a_handler_file_holds_the_one_class_torchserve_looks_for(model: str) -> None:
    path = resource_folder("handlers") / f"{model}_handler.py"
    module = SimpleNamespace(__name__=f"{model}_handler")
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    (found,) = list_classes_from_module(module)
    assert issubclass(found, BundleHandler)
    assert found.pipeline == model
