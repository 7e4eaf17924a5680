"""The report: one file, every picture inside, and the numbers of the result in its tables."""

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale.formats import Series
from thermoscale_train.config import IustfmSettings
from thermoscale_train.evaluate import add_arguments, run
from thermoscale_train.evaluate_iustfm import evaluate_with_evidence
from thermoscale_train.evidence import NOISE_K, Evidence
from thermoscale_train.report import write_report

METHODS = ("bilinear", "time_interp", "iustfm_closed_form", "iustfm_rationet", "oracle_alpha")


@pytest.fixture(scope="module")
def judged(series: Series, iustfm_settings: IustfmSettings) -> tuple[dict[str, Any], list[Evidence]]:
    few = series.select_fine(series.fine_time[:4])
    return evaluate_with_evidence(few, methods=METHODS, settings=iustfm_settings, drawn="iustfm_closed_form")


def test_noise_costs_bilinear_and_leaves_what_never_looks_at_the_coarse_image(judged: Any) -> None:
    for part in judged[1]:
        assert len(set(part.noise["time_interp"])) == 1
        assert len(part.noise["bilinear"]) == len(NOISE_K)
        assert part.noise["bilinear"][-1] > part.noise["bilinear"][0]


def test_evidence_without_noise_is_the_scored_case(judged: Any) -> None:
    rmse = {(case["id"], case["method"]): case["rmse"] for case in judged[0]["cases"]}
    for part in judged[1]:
        for method, scores in part.noise.items():
            if (part.time, method) in rmse:
                assert scores[0] == pytest.approx(rmse[part.time, method], rel=1e-4)


def test_single_triples_have_the_baselines_of_their_dates(judged: Any, series: Series) -> None:
    part = judged[1][0]
    means = {time: float(np.nanmean(series.fine_at(time))) for time in series.fine_time}
    possible = [abs(a - b) for a in means.values() for b in means.values()]
    assert part.triples
    for score in part.triples:
        assert min(abs(score.baseline - other) for other in possible) < 0.01
        assert 0.0 < score.coverage <= 1.0


def test_the_report_is_one_file_with_its_pictures_inside(judged: Any, tmp_path: Path) -> None:
    text = write_report(*judged, tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    images = re.findall(r'src="([^"]*)"', text)
    assert len(images) == 5 + len(judged[1])
    for image in images:
        head, data = image.split(",")
        assert head == "data:image/png;base64"
        assert b64decode(data).startswith(b"\x89PNG")
    for method in METHODS:
        assert f"<td>{method}</td>" in text
    assert not re.search(r"https?://", text)


def test_names_cannot_break_out_of_the_report(judged: Any, tmp_path: Path) -> None:
    result, _ = judged
    spoiled = {**result, "excluded": [{"id": "<script>", "reason": "a & b"}]}
    text = write_report(spoiled, [], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "a &amp; b" in text


def test_a_target_without_any_prediction_or_triple_is_drawn_all_the_same(judged: Any, tmp_path: Path) -> None:
    result, evidence = judged
    empty = [replace_fields(part, prediction=np.full_like(part.prediction, np.nan), triples=()) for part in evidence]
    text = write_report(result, empty, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Single triples" not in text


def replace_fields(part: Evidence, **changes: Any) -> Evidence:
    return part._replace(**changes)


def test_towers_and_excluded_dates_are_listed(judged: Any, tmp_path: Path) -> None:
    row = {"station": "P", "time": "t", "method": "bilinear", "value": None, "tower": 290.0, "difference": None}
    stations = {"source": "a.csv", "side_px": 1, "rows": [row], "skipped": [{"station": "Q", "reason": "outside"}]}
    text = write_report({**judged[0], "stations": stations}, [], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Q: outside" in text
    assert "<h1>Fusion, one date left out at a time</h1>" in text
    settings = {**judged[0]["settings"], "bundle": "iustfm 1.0.0 (abc)"}
    of_bundle = write_report({**judged[0], "settings": settings}, [], tmp_path / "b.html").read_text(encoding="utf-8")
    assert "<h1>Fusion, iustfm 1.0.0 (abc) on dates it has not seen</h1>" in of_bundle
    assert "<td>290</td>" in text


def test_the_drawn_method_must_be_among_the_judged(tmp_path: Path, series: Series) -> None:
    import argparse

    from thermoscale.errors import InvalidInput

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["iustfm", "--series", "none.npz", "--methods", "bilinear", "--report", str(tmp_path / "r.html")]
    with pytest.raises(InvalidInput, match="iustfm_rationet, which is not among"):
        run(parser.parse_args(words))
