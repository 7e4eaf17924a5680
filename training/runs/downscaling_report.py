"""Downscaling evaluations as an HTML file, tables on standard output: python downscaling_report.py FOLDER HTML.

FOLDER holds ``<experiment>_seed<n>.json`` of ``thermoscale-train evaluate amun``. A value is the mean over scenes, then
over seeds; the range is that of RMSE over seeds, where seeds differ.
"""

import argparse
import io
import json
import re
import sys
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from thermoscale_train.report import STYLE

COLUMNS = ("rmse", "ubrmse", "bias", "mae", "cc", "ssim", "edge", "closure", "coverage", "seconds")
RIVAL = "bicubic_closed"
Evaluation = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("html", type=Path, help="file to write")
    args = parser.parse_args()
    found = read_results(args.folder)
    body = "".join(section(name, seeds) for name, seeds in found.items())
    args.html.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Downscaling</title>'
        f"<style>{STYLE}</style><body><h1>Downscaling</h1>\n{body}</body></html>\n",
        encoding="utf-8",
    )
    sys.stdout.write("\n\n".join(markdown(name, seeds) for name, seeds in found.items()) + "\n")


def read_results(folder: Path) -> dict[str, list[Evaluation]]:
    """Experiment -> its evaluations, one for each seed."""
    found: dict[str, list[Evaluation]] = {}
    for path in sorted(folder.glob("*_seed*.json")):
        name = re.sub(r"_seed\d+$", "", path.stem)
        found.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def table(seeds: Sequence[Evaluation]) -> list[list[str]]:
    """Header and one row for each method, lowest RMSE first."""
    methods = [name for name in seeds[0]["methods"] if all(name in one["methods"] for one in seeds)]
    rmse = {name: [one["methods"][name]["rmse"] for one in seeds] for name in methods}
    reference = np.mean(rmse[RIVAL]) if RIVAL in rmse else np.nan
    rows = [["method", "over seeds", f"/ {RIVAL}", *COLUMNS]]
    for name in sorted(methods, key=lambda name: float(np.mean(rmse[name]))):
        span = "-" if np.ptp(rmse[name]) == 0.0 else f"{min(rmse[name]):.3f} to {max(rmse[name]):.3f}"
        values = [[one["methods"][name][column] for one in seeds] for column in COLUMNS]
        numbers = ["-" if None in each else f"{np.mean(each):.3f}" for each in values]
        rows.append([name, span, f"{np.mean(rmse[name]) / reference:.3f}", *numbers])
    return rows


def markdown(name: str, seeds: Sequence[Evaluation]) -> str:
    """The table of one experiment."""
    header, *rows = table(seeds)
    lines = [f"### {name}, {about(seeds)}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def about(seeds: Sequence[Evaluation]) -> str:
    """How much was judged."""
    told = sorted({one["settings"].get("seed", 0) for one in seeds})
    return f"{len(seeds[0]['dates_used'])} scenes, seeds {', '.join(map(str, told))}"


def section(name: str, seeds: Sequence[Evaluation]) -> str:
    """One experiment: methods, scenes, kinds of ground, settings."""
    settings = escape(json.dumps(seeds[0]["settings"], indent=1))
    parts = (
        f"<h2>{escape(name)}</h2><p>{about(seeds)}. K but for cc, ssim, edge and coverage.</p>",
        html_table(table(seeds)),
        f"<h3>RMSE of each scene</h3>{picture(seeds)}",
        f"<h3>By kind of ground, RMSE, first seed</h3>{html_table(strata(seeds[0]))}",
        f"<details><summary>Settings</summary><pre>{settings}</pre></details>",
    )
    return "\n".join(parts)


def strata(evaluation: Evaluation) -> list[list[str]]:
    """RMSE pooled over the pixels of each stratum, a column for each method."""
    methods = list(evaluation["methods"])
    rmse = {(row["stratum"], row["method"]): row["rmse"] for row in evaluation.get("strata", [])}
    names = list(dict.fromkeys(stratum for stratum, _ in rmse))
    numbers = [[rmse.get((name, method)) for method in methods] for name in names]
    shown = [["-" if value is None else f"{value:.3f}" for value in row] for row in numbers]
    return [["stratum", *methods], *([name, *row] for name, row in zip(names, shown, strict=True))]


def picture(seeds: Sequence[Evaluation]) -> str:
    """Boxes of the scenes' RMSE (mean over seeds), a box for each method of :func:`table`."""
    methods = [row[0] for row in table(seeds)[1:]]
    scenes = seeds[0]["dates_used"]
    cases = [{(case["method"], case["id"]): case["rmse"] for case in one["cases"]} for one in seeds]
    values = [[float(np.mean([one[method, scene] for one in cases])) for scene in scenes] for method in methods]
    figure = Figure(figsize=(9, 0.45 * len(methods) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(values[::-1], tick_labels=methods[::-1], orientation="horizontal", showmeans=True)
    axes.set_xlabel("RMSE of a scene, K; triangle: mean")
    axes.grid(axis="x", alpha=0.4)
    png = io.BytesIO()
    figure.savefig(png, dpi=110, format="png")
    return f'<img alt="RMSE of each scene by method" src="data:image/png;base64,{b64encode(png.getvalue()).decode()}">'


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """First row is the header."""
    header, *others = (
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(("th", *["td"] * (len(rows) - 1)), rows, strict=True)
    )
    lines = "".join(f"<tr>{line}</tr>" for line in (header, *others))
    return f'<div class="wide"><table>{lines}</table></div>'


if __name__ == "__main__":
    main()
