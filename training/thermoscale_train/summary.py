"""``summary.json`` of the demo, the same as a table, and plain words where a pipeline loses."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thermoscale.service import Service
from thermoscale_train.evaluate_target import MODES

VERSIONED = ("thermoscale", "torch", "onnxruntime", "onnx", "numpy", "rasterio", "torchserve")
FUSION_COLUMNS = ("bilinear", "bicubic", "persistence", "fdc_nearest", "fdc_median")
DOWNSCALING_COLUMNS = ("bilinear", "bicubic")
METHOD_OF_MODE = {mode: method for method, mode in MODES.items()}
MUST_BEAT = {"amun": ("bilinear", "bicubic"), "iustfm": ("bilinear", "bicubic", "persistence", "fdc_nearest")}


def served_method(service: Service) -> str:
    """The METHOD id of what a bundle answers when a request names no mode."""
    if service.pipeline == "amun":
        return "amun"
    return METHOD_OF_MODE[service.manifest.config["mode"]]


def pipeline_summary(service: Service, evaluation: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """RMSE and bias of the prediction and of what it has to beat, on data that no fit has seen.

    Args:
        evaluation: the object of ``evaluate --bundle``.
        unit: of RMSE and bias.
    """
    methods = evaluation["methods"]
    method = served_method(service)
    scores = {name: {"rmse": row["rmse"], "bias": row["bias"]} for name, row in methods.items()}
    prediction = scores.pop(method)
    return {
        "bundle": f"exported/{service.pipeline}/{service.manifest.version}",
        "digest": service.manifest.digest,
        "method": method,
        "unit": unit,
        "judged_on": sorted({case["id"] for case in evaluation["cases"]}),
        "prediction": prediction,
        "interpolation": {name: scores.get(name) for name in ("bilinear", "bicubic")},
        "persistence": scores.get("persistence"),
        "f1_plus_delta_c": {name: scores[name] for name in ("fdc_nearest", "fdc_median") if name in scores} or None,
        "other_methods": {
            name: row
            for name, row in scores.items()
            if name not in ("bilinear", "bicubic", "persistence", "fdc_nearest", "fdc_median")
        },
        "verdict": verdict(method, prediction, {name: scores[name] for name in MUST_BEAT[service.pipeline]}, unit),
    }


def verdict(
    method: str, prediction: Mapping[str, float], others: Mapping[str, Mapping[str, float]], unit: str
) -> list[str]:
    """One sentence per baseline, most of all where the pipeline loses."""
    sentences = []
    for name, scores in others.items():
        word = "beats" if prediction["rmse"] < scores["rmse"] else "LOSES to"
        figures = f"RMSE {format_value(prediction['rmse'], unit)} against {format_value(scores['rmse'], unit)}"
        sentences.append(f"{method} {word} {name}: {figures}")
    return sentences


def installed_versions() -> dict[str, str | None]:
    """Of Python and of everything that computed or served; None for what is not installed."""
    return {"python": platform.python_version(), **{name: _version_or_none(name) for name in VERSIONED}}


def format_value(value: float, unit: str, *, sign: bool = False) -> str:
    """Four significant digits with the unit; a unit of 1 is not written."""
    return f"{value:{'+' if sign else ''}.4g}" + ("" if unit == "1" else f" {unit}")


def table(summary: Mapping[str, Any]) -> str:
    """The summary for people."""
    lines = [f"data: {summary['data']['source']}", f"server: {summary['server']}"]
    for name, part in summary["pipelines"].items():
        lines += ["", f"{name} ({part['bundle']}), held out: {summary['data'][name]['held_out']}"]
        lines.append(f"  {'':24}{'RMSE':>14}{'bias':>14}")
        lines += [_row(label, scores, part["unit"]) for label, scores in _rows(part)]
        lines.append("  latency " + ", ".join(f"{wire} {ms:.1f} ms" for wire, ms in part["latency_ms"].items()))
        lines += [f"  {sentence}" for sentence in part["verdict"]]
    return "\n".join(lines)


def _version_or_none(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _rows(part: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, float]]]:
    rows = [(f"{part['method']} (served)", part["prediction"]), *part["interpolation"].items()]
    if part["persistence"]:
        rows.append(("persistence", part["persistence"]))
    return [*rows, *(part["f1_plus_delta_c"] or {}).items(), *part["other_methods"].items()]


def _row(label: str, scores: Mapping[str, float], unit: str) -> str:
    rmse, bias = format_value(scores["rmse"], unit), format_value(scores["bias"], unit, sign=True)
    return f"  {label:24}{rmse:>14}{bias:>14}"
