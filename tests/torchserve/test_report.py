"""What a worker writes about a request: lines that TorchServe's pattern takes, records that are JSON."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thermoscale import errors
from thermoscale.drift import Drift
from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.resources import resource_folder
from thermoscale.torchserve_metrics import DESCRIBED, INTERNAL, OK, OUTCOME_OF_ERROR, metric_lines, outcome_of
from thermoscale.torchserve_metrics import stage_seconds as stages_of
from thermoscale.torchserve_report import EVENT, Report

TORCHSERVE_PATTERN = re.compile(
    r"\[METRICS\]\s*([\w\s]+)\.([\w\s]+):([0-9\-,.e]+)\|#([^|]*)(\|#type:([^|,]+))?\|#hostname:([^,]+),([^,]+)(,(.*))?"
)
"""``WorkerLifeCycle`` and ``Metric.parse`` of TorchServe 0.12: what does not match is dropped."""

EVERYTHING = Drift(300.0, {"coarse": 0.5, "factors": 1e-3}, dict.fromkeys(("coarse_missing", "fallback_used"), 0.25))
HANDLER_MS = {"decode_ms": 1.0, "network_ms": 2.0, "assemble_ms": 3.0, "encode_ms": 4.0, "total_ms": 10.0}


def declared() -> dict[str, tuple[str, str, list[str]]]:
    """Name -> kind, unit and labels in ``config/metrics.yaml``."""
    content = yaml.safe_load((resource_folder("config") / "metrics.yaml").read_text())
    return {
        metric["name"]: (kind.upper(), metric["unit"], metric["dimensions"])
        for kind, metrics in content["model_metrics"].items()
        for metric in metrics
    }


def parsed(lines: str) -> list[tuple[str, str, float, dict[str, str], str]]:
    """Name, unit, value, labels and kind of each line."""
    found = []
    for line in lines.splitlines():
        match = TORCHSERVE_PATTERN.fullmatch(line)
        assert match, line
        labels = dict(label.split(":") for label in match[4].split(","))
        found.append((match[1], match[2], float(match[3]), labels, match[6]))
    return found


def test_every_line_is_one_that_torchserve_takes_and_that_is_declared() -> None:
    lines = parsed(metric_lines("amun", "0.1.0", OK, stages_of(HANDLER_MS, 10.5), EVERYTHING))
    assert {name for name, *_ in lines} == declared().keys()
    for name, unit, _, labels, kind in lines:
        assert (kind, unit, list(labels)) == declared()[name]
    seconds = {labels["stage"]: value for _, _, value, labels, kind in lines if kind == "HISTOGRAM"}
    assert seconds == {"decode": 0.001, "network": 0.002, "assemble": 0.003, "encode": 0.004, "total": 0.0105}


@given(st.floats(0.0, 1e6), st.floats(-50.0, 1e3), st.floats(0.0, 1.0))
def test_no_value_breaks_a_line(seconds: float, mean: float, share: float) -> None:
    drift = Drift(mean, {"coarse": share}, {"fallback_used": share})
    for name, _, value, _, _ in parsed(metric_lines("amun", "1.0.0-rc.1", OK, {"total": seconds}, drift)):
        assert value >= 0.0, name


def test_what_a_reply_does_not_time_is_the_rest() -> None:
    assert stages_of({**HANDLER_MS, "encode_ms": None}, 11.0)["encode"] == pytest.approx(0.005)


def test_every_error_has_an_outcome_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ThermoscaleError)]
    assert set(OUTCOME_OF_ERROR) == set(kinds) - {ThermoscaleError}
    assert len({*OUTCOME_OF_ERROR.values(), OK, DESCRIBED, INTERNAL}) == len(OUTCOME_OF_ERROR) + 3


@pytest.mark.parametrize(("error", "outcome"), [(InvalidInput("x"), "invalid_input"), (KeyError("x"), INTERNAL)])
def test_an_outcome_is_a_class_of_errors_never_its_text(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome


def failed(capsys: pytest.CaptureFixture[str], error: Exception, text: str) -> tuple[dict[str, Any], str]:
    Report("amun", "0.1.0").failed(error, text, "mine", "server-id", 12.3456)
    record, metrics = capsys.readouterr().out.split("\n", 1)
    return json.loads(record), metrics


def test_a_failure_is_one_record_and_one_count(capsys: pytest.CaptureFixture[str]) -> None:
    record, metrics = failed(capsys, InvalidInput("no"), "coarse is empty")
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "event": EVENT, "model": "amun", "version": "0.1.0", "request_id": "mine", "server_id": "server-id",
        "outcome": "invalid_input", "total_ms": 12.346, "text": "coarse is empty",
    }  # fmt: skip
    ((name, _, value, labels, _),) = parsed(metrics)
    assert (name, value, labels["outcome"]) == ("thermoscale_requests_total", 1.0, "invalid_input")


def test_only_an_unknown_error_brings_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        record, _ = failed(capsys, error, "internal error")
    assert "test_only_an_unknown_error" in record["trace"]


@given(st.text(), st.text(), st.text(max_size=300))
def test_nothing_that_a_caller_sends_makes_a_second_line(text: str, request_id: str, message: str) -> None:
    lines: list[str] = []
    report = Report("amun", "0.1.0")
    report._write = lines.append  # type: ignore[method-assign]
    report.failed(KeyError(message), text, request_id, "server-id", 1.0)
    record, metric = lines[0].rstrip("\n").split("\n")
    assert record.isascii()
    assert record.startswith('{"event": ')
    assert len(record) < 12 * 8_500
    assert parsed(metric)


def test_answers_are_counted_soon_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    report, written = Report("amun", "0.1.0"), ""
    for _ in range(3):
        report.answered({"values": {}}, 1.0)
    deadline = time.monotonic() + 10.0
    while written.count("\n") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
        written += capsys.readouterr().out
    assert [labels["outcome"] for *_, labels, _ in parsed(written)] == [DESCRIBED] * 3


def test_an_answer_that_cannot_be_counted_does_not_end_the_counting(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    report, written = Report("amun", "0.1.0"), ""
    report.answered({"values": {}, "drift": None}, 1.0)
    report.answered({"values": {}}, 1.0)
    deadline = time.monotonic() + 10.0
    while not written and time.monotonic() < deadline:
        time.sleep(0.01)
        written += capsys.readouterr().out
    assert len(parsed(written)) == 1
    assert "was not counted" in caplog.text


def test_the_log_configuration_knows_a_record_by_its_beginning() -> None:
    text = (Path(resource_folder("config")) / "log4j2.xml").read_text().replace("&quot;", '"')
    patterns = set(re.findall(r'regex="(\\\{.*?\.\*)" onM', text))
    assert len(patterns) == 1
    assert re.fullmatch(patterns.pop(), json.dumps({"event": EVENT, "time": ""}))
