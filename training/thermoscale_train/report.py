"""``evaluate --report``: an evaluation as one HTML file; its pictures are inside, as base64."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from thermoscale.arrays import QUANTITIES, Quantity
from thermoscale_train import report_pictures as pictures
from thermoscale_train.evidence import Evidence

COLUMNS = (
    "rmse", "rmse_valid", "mae", "bias", "ubrmse", "cc", "ssim", "psnr", "edge", "closure",
    "coverage", "spread_coverage", "crps", "seconds",
)  # fmt: skip
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2em } img { max-width: 100%; display: block; margin: .8em 0 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25em .6em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } tr.drawn { background: #fff3d6 } td.best { font-weight: bold }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 12px }
"""
HIGHER_IS_BETTER = {"cc", "ssim", "psnr", "coverage"}
LOWER_IS_BETTER = {"rmse", "rmse_valid", "mae", "ubrmse", "crps", "seconds"}


def write_report(result: Mapping[str, Any], evidence: Sequence[Evidence], path: Path) -> Path:
    """Write the report of a fusion evaluation.

    Args:
        result: of ``evaluate iustfm``.
        evidence: of every target, for one method; may be empty, then there are tables only.
    """
    quantity = QUANTITIES[result["settings"]["quantity"]]
    drawn = evidence[0].method if evidence else ""
    parts = [_summary(result, quantity, drawn), _methods_table(result, drawn), _cases_table(result)]
    if evidence:
        parts += _plots(result, evidence, quantity)
    if "stations" in result:
        parts.append(_stations_table(result["stations"]))
    parts.append(f"<h2>Settings</h2><pre>{escape(json.dumps(result['settings'], indent=1))}</pre>")
    body = "\n".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Fusion report</title>'
        f"<style>{STYLE}</style><body>\n{body}\n</body></html>\n",
        encoding="utf-8",
    )
    return path


def _summary(result: Mapping[str, Any], quantity: Quantity, drawn: str) -> str:
    targets = result["settings"]["targets"]
    ranked = sorted(result["methods"], key=lambda name: _rank(result["methods"][name]["rmse"]))
    lines = [
        f"{len(targets)} held-out targets, {escape(result['settings']['held_out'])}; values are {quantity.name}"
        f"{'' if quantity.unit == '1' else ', ' + quantity.unit}.",
        f"Lowest mean RMSE: {escape(', '.join(ranked[:3]))}. oracle_alpha knows the truth: a ceiling, no method.",
    ]
    if drawn:
        lines.append(f"Pictures show {escape(drawn)}.")
    lines += [f"Excluded: {escape(item['id'])}, {escape(item['reason'])}." for item in result["excluded"]]
    bundle = result["settings"]["bundle"]
    title = "one date left out at a time" if bundle is None else f"{bundle} on dates it has not seen"
    return f"<h1>Fusion, {escape(title)}</h1>" + "".join(f"<p>{line}</p>" for line in lines)


def _methods_table(result: Mapping[str, Any], drawn: str) -> str:
    """Means over the targets, lowest RMSE first; the best value of a column is bold, the oracle's aside."""
    methods = result["methods"]
    best = {column: _best(methods, column) for column in COLUMNS}
    rows = [_row("th", ("method", *COLUMNS))]
    for name in sorted(methods, key=lambda name: _rank(methods[name]["rmse"])):
        cells = [_cell(methods[name].get(column), methods[name].get(column) == best[column]) for column in COLUMNS]
        mark = ' class="drawn"' if name == drawn else ""
        rows.append(f"<tr{mark}><td>{escape(name)}</td>{''.join(cells)}</tr>")
    note = "<p>Gaps are filled with bilinear coarse before scoring, except for rmse_valid.</p>"
    return f'<h2>Methods</h2>{note}<div class="wide"><table>{"".join(rows)}</table></div>'


def _cases_table(result: Mapping[str, Any]) -> str:
    """RMSE of every method on every target."""
    methods = list(result["methods"])
    rmse = {(case["id"], case["method"]): case["rmse"] for case in result["cases"]}
    triples = {case["id"]: case["n_triples"] for case in result["cases"] if case.get("n_triples") is not None}
    rows = [_row("th", ("target", "triples", *methods))]
    for time in result["settings"]["targets"]:
        values = {name: rmse.get((time, name)) for name in methods}
        known = [value for name, value in values.items() if value is not None and name != "oracle_alpha"]
        cells = [_cell(values[name], bool(known) and values[name] == min(known)) for name in methods]
        rows.append(f"<tr><td>{escape(time)}</td><td>{triples.get(time, '-')}</td>{''.join(cells)}</tr>")
    return f'<h2>RMSE of each target</h2><div class="wide"><table>{"".join(rows)}</table></div>'


def _plots(result: Mapping[str, Any], evidence: Sequence[Evidence], quantity: Quantity) -> list[str]:
    guard = result["settings"]["guards"]["min_baseline_k"] * quantity.kelvin
    middle = _of_median_rmse(result, evidence)
    plots = (
        ("Agreement, pixel by pixel", pictures.density(evidence, quantity)),
        ("What coarse noise costs", pictures.noise_sweep(evidence, quantity)),
        ("Single triples", pictures.triples_by_baseline(evidence, quantity, guard)),
        ("Errors by HCR", pictures.boxes_per_hcr(middle, quantity)),
        ("Bias of HCRs, target by target", pictures.boxes_per_target(evidence, quantity)),
    )
    parts = [f"<h2>{title}</h2>{_image(title, png)}" for title, png in plots if png is not None]
    triptychs = [_image(f"target {part.time}", pictures.triptych(part, quantity)) for part in evidence]
    return [*parts, "<h2>Targets</h2><p>Grey: no value.</p>" + "".join(triptychs)]


def _of_median_rmse(result: Mapping[str, Any], evidence: Sequence[Evidence]) -> Evidence:
    """The target that is neither the best nor the worst."""
    rmse = {case["id"]: case["rmse"] for case in result["cases"] if case["method"] == evidence[0].method}
    return sorted(evidence, key=lambda part: _rank(rmse[part.time]))[len(evidence) // 2]


def _stations_table(stations: Mapping[str, Any]) -> str:
    columns = ("station", "time", "method", "value", "tower", "difference")
    rows = [_row("th", columns)]
    rows += [_row("td", [_text(row[column]) for column in columns]) for row in stations["rows"]]
    skipped = "".join(f"<p>{escape(item['station'])}: {escape(item['reason'])}</p>" for item in stations["skipped"])
    title = f"<h2>Towers</h2><p>{escape(stations['source'])}, {stations['side_px']} x {stations['side_px']} pixels.</p>"
    return f'{title}{skipped}<div class="wide"><table>{"".join(rows)}</table></div>'


def _best(methods: Mapping[str, Mapping[str, Any]], column: str) -> float | None:
    values = [scores.get(column) for name, scores in methods.items() if name != "oracle_alpha"]
    known = [float(value) for value in values if value is not None]
    if not known or column not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return None
    return max(known) if column in HIGHER_IS_BETTER else min(known)


def _cell(value: float | None, bold: bool) -> str:
    mark = ' class="best"' if bold and value is not None else ""
    return f"<td{mark}>{_text(value)}</td>"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _image(title: str, png: bytes) -> str:
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{b64encode(png).decode("ascii")}">'


def _rank(value: float | None) -> float:
    return float("inf") if value is None else value
