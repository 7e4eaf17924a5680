"""A bundle opened: what goes in, what comes out, what is refused."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale import open_bundle
from thermoscale.amun_requests import LAYERS as AMUN_LAYERS
from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden, read_golden
from thermoscale.bundle.manifest import read_manifest
from thermoscale.bundle.write import write_bundle
from thermoscale.client import decode_reply
from thermoscale.errors import BundleError, InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.geo.alignment import window_georeference
from thermoscale.geo.rasters import Raster, decode_geotiff, encode_geotiff
from thermoscale.iustfm_requests import _SECONDS_PER_PIXEL_AND_TRIPLE
from thermoscale.iustfm_requests import LAYERS as IUSTFM_LAYERS
from thermoscale.request_values import require_short_work
from thermoscale.service import Service
from thermoscale.testing.bundles import (
    linear_series,
    linear_truth,
    tiny_amun_config,
    tiny_amun_request,
    write_tiny_amun,
    write_tiny_iustfm,
)
from thermoscale.wire.geotiff import decode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz, encode_npz, json_of
from thermoscale.wire.reply_form import ReplyForm

LIMITS = Limits()
SERIES = linear_series()
TIME = SERIES.coarse_time[2]
COARSE = SERIES.coarse[2]
UTM = "EPSG:32631"
COARSE_TRANSFORM = (800.0, 0.0, 500_000.0, 0.0, -800.0, 5_000_000.0)


@pytest.fixture(scope="module")
def amun_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_amun(tmp_path_factory.mktemp("bundles") / "amun" / "0.0.1")


@pytest.fixture(scope="module")
def iustfm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_iustfm(tmp_path_factory.mktemp("bundles") / "iustfm" / "0.0.1")


@pytest.fixture(scope="module")
def amun(amun_folder: Path) -> Service:
    return open_bundle(amun_folder)


@pytest.fixture(scope="module")
def iustfm(iustfm_folder: Path) -> Service:
    return open_bundle(iustfm_folder)


def amun_request() -> dict:
    return tiny_amun_request(tiny_amun_config())


def iustfm_request() -> dict:
    return {"coarse": COARSE, "time": TIME}


def raster(values: np.ndarray, *, names=("lst",), transform=COARSE_TRANSFORM, tags=None) -> bytes:
    return encode_geotiff(
        Raster(np.atleast_3d(values).reshape(-1, *values.shape[-2:]), UTM, transform, names, tags or {})
    )


def test_amun_answers_with_every_array_of_the_format(amun: Service) -> None:
    reply = amun.predict(amun_request())
    assert set(reply) == {"lst", "spread_k", "flags", "closure", "meta"}
    assert reply["lst"].shape == reply["spread_k"].shape == reply["flags"].shape == (48, 64)
    assert reply["lst"].dtype == reply["spread_k"].dtype == np.float32
    assert reply["flags"].dtype == np.uint8
    assert np.isfinite(reply["closure"])


def test_iustfm_answers_with_every_array_of_the_format(iustfm: Service) -> None:
    reply = iustfm.predict(iustfm_request())
    assert set(reply) == {"lst", "spread_k", "iqr_k", "n_triples", "flags", "meta"}
    np.testing.assert_allclose(reply["lst"], linear_truth(0, 2), atol=0.05)
    assert reply["n_triples"].dtype == reply["flags"].dtype == np.uint8


def test_meta_says_what_answered_and_how(iustfm: Service, amun: Service, iustfm_folder: Path) -> None:
    meta = iustfm.predict({**iustfm_request(), "request_id": "r-1"})["meta"]
    assert meta["bundle"] == "iustfm"
    assert meta["version"] == "0.0.1"
    assert meta["digest"] == read_manifest(iustfm_folder).digest
    assert meta["request_id"] == "r-1"
    assert meta["note"] == "clear-sky skin temperature, not air temperature"
    assert meta["unit"] == "K"
    assert meta["times"] == {"utc": TIME, "local": "2020-03-15T10:42"}  # UTM 31, on its central meridian 3 degrees east
    assert all(pre < TIME < post for pre, post in meta["dates_used"])
    assert {"decode_ms", "network_ms", "assemble_ms", "encode_ms", "total_ms"} == set(meta["handler_ms"])
    json.dumps(meta, allow_nan=False)
    other = amun.predict(amun_request())["meta"]
    assert len(other["context_id"]) == 16
    assert other["request_id"] != amun.predict(amun_request())["meta"]["request_id"]


def test_meta_tells_the_order_the_bias_and_the_findings_on_the_coarse_scene(iustfm: Service) -> None:
    meta = iustfm.predict(iustfm_request())["meta"]
    assert meta["order"] == "ordered"
    assert meta["bias_applied"] == pytest.approx(0.0, abs=0.01)
    assert set(meta["bias"]["library"]) == {time for pair in meta["dates_used"] for time in pair}
    assert [finding["name"] for finding in meta["findings"]] == ["range", "pattern", "seam", "drift"]
    assert not any(finding["passed"] is False for finding in meta["findings"])
    assert meta["warnings"] == []


def test_masked_cells_are_cells_without_data_on_every_wire(iustfm: Service) -> None:
    hidden = np.zeros(COARSE.shape, bool)
    hidden[2, 3] = True
    masked = np.ma.masked_array(COARSE, hidden)
    expected = iustfm.predict({"coarse": np.where(hidden, np.nan, COARSE), "time": TIME})
    for reply in (
        iustfm.predict({"coarse": masked, "time": TIME}),
        decode_reply(iustfm.predict_bytes({"body": encode_npz({"coarse": masked, "time": TIME})}).body),
    ):
        np.testing.assert_array_equal(reply["lst"], expected["lst"])
        np.testing.assert_array_equal(reply["flags"], expected["flags"])
    with pytest.raises(InvalidInput, match="masked array of bool"):
        iustfm.predict({"coarse": np.ma.masked_array(hidden, hidden), "time": TIME})


def test_order_and_baseline_choose_the_triples_on_every_wire(iustfm: Service) -> None:
    ordered = iustfm.predict(iustfm_request())["meta"]["dates_used"]
    for value in ("unordered", np.array("unordered")):
        meta = iustfm.predict({**iustfm_request(), "order": value})["meta"]
        assert meta["order"] == "unordered"
        assert [pair for pair in meta["dates_used"] if pair in ordered] == ordered
        assert len(meta["dates_used"]) > len(ordered)
    late = {**iustfm_request(), "time": "2024-01-01"}
    past = [iustfm.predict({**late, **choice})["meta"] for choice in ({"past_only": True}, {"order": "past_only"})]
    assert past[0]["dates_used"] == past[1]["dates_used"]
    assert past[0]["order"] == past[1]["order"] == "past_only"
    parts = {"body": encode_npz(iustfm_request()), "min_baseline_k": b"13"}
    fewer = decode_reply(iustfm.predict_bytes(parts).body)["meta"]["dates_used"]
    assert fewer == iustfm.predict({**iustfm_request(), "min_baseline_k": 13.0})["meta"]["dates_used"]
    assert 0 < len(fewer) < len(ordered)


def test_a_strange_coarse_scene_is_told_in_meta_or_refused(iustfm: Service) -> None:
    strange = {**iustfm_request(), "coarse": COARSE + np.float32(30.0)}
    meta = iustfm.predict(strange)["meta"]
    assert any("range" in warning or "drift" in warning for warning in meta["warnings"])
    reply = iustfm.predict_bytes({"body": encode_npz(strange), "reply": b"geotiff"})
    assert decode_reply(reply.body)["meta"]["warnings"] == meta["warnings"]
    with pytest.raises(Undetermined, match="coarse scene of"):
        iustfm.predict({**strange, "suspects": "refuse"})


def test_bytes_and_memory_give_one_answer(amun: Service, iustfm: Service) -> None:
    for service, request in ((amun, amun_request()), (iustfm, iustfm_request())):
        reply = service.predict_bytes({"body": encode_npz(request)})
        arrays = decode_npz(reply.body, LIMITS)
        expected = service.predict(request)
        assert arrays.keys() == expected.keys()
        for name in expected.keys() - {"meta"}:
            np.testing.assert_array_equal(arrays[name], expected[name])
        meta = json_of("meta", arrays["meta"])
        assert meta["digest"] == expected["meta"]["digest"]
        assert meta["handler_ms"]["encode_ms"] > 0
        assert meta["handler_ms"]["total_ms"] >= meta["handler_ms"]["network_ms"]


def test_times_count_from_when_the_work_began(amun):
    begun = time.perf_counter() - 5.0
    reply = amun.predict_bytes({"body": amun.golden_request()}, begun=begun)
    times = decode_reply(reply.body)["meta"]["handler_ms"]
    assert 5000.0 < times["decode_ms"] < times["total_ms"]


def test_the_golden_request_gets_the_golden_answer(amun: Service, amun_folder: Path) -> None:
    arrays = decode_npz(amun.predict_bytes({"body": amun.golden_request()}).body, LIMITS)
    _, outputs = read_golden(amun_folder / GOLDEN_NAME)
    np.testing.assert_allclose(arrays["lst"], outputs["lst"], atol=1e-3)


def test_windows_come_as_lists_arrays_and_text(iustfm: Service) -> None:
    whole = iustfm.predict(iustfm_request())["lst"]
    for window in ([8, 16, 10, 20], np.array([8, 16, 10, 20]), "8,16,10,20", "[8, 16, 10, 20]", np.array("8,16,10,20")):
        part = iustfm.predict({**iustfm_request(), "window": window})["lst"]
        np.testing.assert_array_equal(part, whole[8:18, 16:36])


def test_options_of_iustfm_reach_the_pipeline(iustfm: Service) -> None:
    pair = [["2020-01-15T10:30Z", "2020-04-15T10:30Z"]]
    for triples in (pair, np.array(pair), json.dumps(pair)):
        meta = iustfm.predict({**iustfm_request(), "triples": triples, "mode": "closed_form"})["meta"]
        assert meta["dates_used"] == pair
    late = {"coarse": SERIES.coarse[4], "time": SERIES.coarse_time[4]}
    for yes in (True, np.array(True), "true", 1):
        used = iustfm.predict({**late, "past_only": yes})["meta"]["dates_used"]
        assert all(post < SERIES.coarse_time[4] for _, post in used)
    assert iustfm.predict({**late, "past_only": False})["meta"]["dates_used"] != used


def test_own_scenes_answer_like_the_library(iustfm: Service) -> None:
    arrays = SERIES.to_arrays()
    own = iustfm.predict({**arrays, "time": TIME})
    stored = iustfm.predict(iustfm_request())
    np.testing.assert_allclose(own["lst"], stored["lst"], atol=0.05)
    plain = {name: arrays[name] for name in ("coarse", "coarse_time", "fine", "fine_time")}
    np.testing.assert_array_equal(iustfm.predict({**plain, "time": TIME})["lst"], own["lst"])


def test_factors_come_in_any_order_if_they_are_named(tmp_path: Path) -> None:
    service = open_bundle(write_tiny_amun(tmp_path / "b", factor_names=("ndvi", "elevation")))
    config = tiny_amun_config(factor_names=("ndvi", "elevation"))
    request = tiny_amun_request(config)
    swapped = {**request, "factors": request["factors"][::-1], "factor_names": ["elevation", "ndvi"]}
    assert service.predict(swapped)["meta"]["context_id"] == service.predict(request)["meta"]["context_id"]
    with pytest.raises(InvalidInput, match="albedo"):
        service.predict({**request, "factor_names": ["ndvi", "albedo"]})


def test_a_context_travels_from_one_request_to_the_next(amun: Service) -> None:
    first = amun.predict({**amun_request(), "context": "return"})
    again = amun.predict({**amun_request(), "context": first["context"]})
    assert again["meta"]["context_id"] == first["meta"]["context_id"]
    assert "context" not in again
    with pytest.raises(InvalidInput, match="k is float32"):
        amun.predict({**amun_request(), "context": first["context"][:-2000]})
    with pytest.raises(InvalidInput, match="'return'"):
        amun.predict({**amun_request(), "context": "please"})


def test_a_geotiff_goes_in_and_comes_out_with_its_place(iustfm: Service) -> None:
    reply = iustfm.predict_bytes({"body": raster(COARSE, tags={"time": TIME})})
    assert reply.content_type == "image/tiff"
    out = decode_geotiff(reply.body, max_pixels=10**6)
    assert out.transform == (100.0, 0.0, 500_000.0, 0.0, -100.0, 5_000_000.0)
    np.testing.assert_allclose(out.values[0], linear_truth(0, 2), atol=0.05)
    arrays = decode_geotiff_reply(reply.body, LIMITS)
    assert {"lst", "spread_k", "iqr_k", "n_triples", "flags", "meta"} <= arrays.keys()


def test_a_windows_geotiff_lies_where_the_window_lies(iustfm: Service) -> None:
    parts = {"coarse": raster(COARSE), "time": TIME.encode(), "window": b"8,16,10,20", "request_id": b"7"}
    out = decode_geotiff(iustfm.predict_bytes(parts).body, max_pixels=10**6)
    assert out.shape == (10, 20)
    whole = Raster(np.zeros((1, 48, 64), np.float32), UTM, (100.0, 0.0, 500_000.0, 0.0, -100.0, 5_000_000.0), ("lst",))
    assert out.transform == window_georeference(whole.georeference, 8, 16).transform


def test_a_geotiff_of_codes_is_rounded_to_a_hundredth_and_says_so(iustfm: Service) -> None:
    parts = {"coarse": raster(COARSE), "time": TIME.encode()}
    exact = decode_reply(iustfm.predict_bytes(parts).body)
    codes = iustfm.predict_bytes({**parts, "encoding": b"uint16"})
    rounded = decode_reply(codes.body)
    assert (exact["meta"]["encoding"], exact["meta"]["rounded_to"]) == ("float32", None)
    assert (rounded["meta"]["encoding"], rounded["meta"]["rounded_to"]) == ("uint16", 0.01)
    for name in ("lst", "spread_k", "iqr_k"):
        np.testing.assert_allclose(rounded[name], exact[name], atol=0.00502)
    for name in ("n_triples", "flags"):
        np.testing.assert_array_equal(rounded[name], exact[name])
        assert rounded[name].dtype == np.uint8
    with pytest.raises(InvalidInput, match="only a GeoTIFF has"):
        iustfm.predict_bytes({"body": encode_npz(iustfm_request()), "encoding": b"uint16"})
    with pytest.raises(InvalidInput, match="encoding is 'int8', needed one of"):
        iustfm.predict_bytes({**parts, "encoding": b"int8"})


def test_a_request_may_name_files_where_that_is_allowed(
    iustfm_folder: Path, iustfm: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "coarse.tif").write_bytes(raster(COARSE))
    (tmp_path / "body.npz").write_bytes(encode_npz(iustfm_request()))
    named = {"coarse_file": str(tmp_path / "coarse.tif").encode(), "time": TIME.encode()}
    with pytest.raises(InvalidInput, match=r"reads none: send its bytes as coarse .*THERMOSCALE_FILE_ROOTS"):
        iustfm.predict_bytes(named)
    monkeypatch.setenv("THERMOSCALE_FILE_ROOTS", str(tmp_path))
    service = open_bundle(iustfm_folder)
    reply = service.predict_bytes(named)
    assert reply.content_type == "image/tiff"
    whole = service.predict_bytes({"body_file": str(tmp_path / "body.npz").encode()})
    expected = iustfm.predict(iustfm_request())["lst"]
    for body in (reply.body, whole.body):
        np.testing.assert_allclose(decode_reply(body)["lst"], expected, atol=1e-4)
    monkeypatch.setenv("THERMOSCALE_FILE_ROOTS", "data")
    with pytest.raises(InvalidInput, match="THERMOSCALE_FILE_ROOTS names 'data', needed absolute"):
        open_bundle(iustfm_folder)


def test_amun_takes_rasters_and_gives_npz_if_asked(amun: Service) -> None:
    request = amun_request()
    fine = (200.0, 0.0, 500_000.0, 0.0, -200.0, 5_000_000.0)
    parts = {
        "coarse": raster(request["coarse"]),
        "factors": raster(request["factors"], names=("ndvi",), transform=fine),
    }
    arrays = decode_npz(amun.predict_bytes({**parts, "reply": b"npz"}).body, LIMITS)
    np.testing.assert_allclose(arrays["lst"], amun.predict(request)["lst"], atol=1e-4)
    out = decode_geotiff(amun.predict_bytes(parts).body, max_pixels=10**6)
    assert out.transform == fine


def test_an_npz_request_may_ask_for_a_geotiff(iustfm: Service) -> None:
    reply = iustfm.predict_bytes({"body": encode_npz({**iustfm_request(), "reply": "geotiff"})})
    assert decode_geotiff(reply.body, max_pixels=10**6).shape == (48, 64)


def test_a_bundle_describes_itself_on_every_wire(amun: Service, iustfm: Service) -> None:
    for service in (amun, iustfm):
        for parts in ({"ask": b"description", "request_id": b"r-1"}, {"body": encode_npz({"ask": "description"})}):
            reply = service.predict_bytes(parts)
            assert reply.content_type == "application/json"
            assert json.loads(reply.body) == json.loads(json.dumps(service.describe()))
        described = service.describe()
        assert described["digest"] == service.manifest.digest
        assert described["model"] == described["pipeline"] == service.pipeline
        assert described["limits"]["max_triples"] == LIMITS.max_triples
    assert amun.describe()["factors"] == [{"name": "ndvi", "unit": "1", "range": (-2.0, 2.0)}]
    assert amun.describe()["footprint"] is None


def test_a_description_says_where_and_when_a_bundle_answers(iustfm: Service) -> None:
    described = iustfm.describe()
    assert described["footprint"]["bounds"] == (500_000.0, 4_995_200.0, 506_400.0, 5_000_000.0)
    assert described["footprint"]["shape"] == described["grid"]["fine_shape"] == (48, 64)
    assert described["grid"]["scale_factor"] == 8.0
    assert described["grid"]["coarse_transform"] == COARSE_TRANSFORM
    assert described["library_dates"] == list(SERIES.fine_time)
    for mode in described["modes"]:
        assert iustfm.predict({**iustfm_request(), "mode": mode})["meta"]["mode"] == mode
    assert iustfm.predict(iustfm_request())["meta"]["mode"] == described["modes"][0]


def test_a_description_is_asked_for_alone_and_by_its_name(iustfm: Service) -> None:
    with pytest.raises(InvalidInput, match=r"unknown keys .'time'"):
        iustfm.predict_bytes({"ask": b"description", "time": TIME.encode()})
    with pytest.raises(InvalidInput, match="ask is 'price', needed 'description'"):
        iustfm.predict_bytes({"ask": b"price"})


def test_an_expired_request_is_not_computed(iustfm: Service) -> None:
    late, early = {**iustfm_request(), "expires": time.time() - 5}, {**iustfm_request(), "expires": time.time() + 60}
    for ask in (iustfm.predict, lambda request: iustfm.predict_bytes({"body": encode_npz(request)})):
        with pytest.raises(Unavailable, match=r"expired 5\.\d s ago"):
            ask(late)
        ask(early)
    parts = {"body": encode_npz(iustfm_request()), "expires": b"12.5"}
    with pytest.raises(Unavailable, match="expired"):
        iustfm.predict_bytes(parts)
    with pytest.raises(InvalidInput, match="expires is 'soon', needed a number"):
        iustfm.predict_bytes({**parts, "expires": b"soon"})


def wrong(change: dict) -> Callable[[dict], dict]:
    return lambda request: {**request, **change}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (wrong({"surprise": 1}), "surprise"),
        (lambda r: {k: v for k, v in r.items() if k != "coarse"}, "missing keys .'coarse'"),
        (lambda r: {**r, "coarse": r["coarse"] - 273.15}, "Celsius"),
        (lambda r: {**r, "coarse": np.full_like(r["coarse"], np.nan)}, "all NaN"),
        (lambda r: {**r, "coarse": np.full_like(r["coarse"], np.inf)}, "infinite"),
        (lambda r: {**r, "coarse": r["coarse"][0]}, "shape"),
        (wrong({"coarse": np.zeros((0, 0))}), "empty|shape"),
        (wrong({"coarse": np.array("hot")}), "shape|type"),
        (wrong({"coarse": [[1], [2, 3]]}), "regular"),
        (wrong({"window": [0, 0, 1000, 1]}), "not inside"),
        (wrong({"window": "all"}), "window"),
        (wrong({"window": [0.5, 0, 1, 1]}), "whole numbers"),
        (wrong({"request_id": 7}), "request_id"),
        (wrong({"request_id": "r" * 1000}), "at most 128"),
    ],
)
def test_what_does_not_fit_is_refused_by_both_pipelines(spoil, says: str, amun: Service, iustfm: Service) -> None:
    for service, request in ((amun, amun_request()), (iustfm, iustfm_request())):
        with pytest.raises(InvalidInput, match=says):
            service.predict(spoil(request))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"past_only": "maybe"}, "past_only"),
        ({"triples": "[["}, "JSON"),
        ({"triples": [["2020-01-15"]]}, "triples"),
        ({"mode": "magic"}, "mode"),
        ({"order": "random"}, "order is 'random', needed one of"),
        ({"order": "unordered", "past_only": True}, "past_only is true"),
        ({"min_baseline_k": "far"}, "min_baseline_k is 'far', needed a number"),
        ({"min_baseline_k": [1.0, 2.0]}, "min_baseline_k"),
        ({"min_baseline_k": "nan"}, "finite"),
        ({"min_baseline_k": -1}, "min_baseline_k is -1"),
        ({"suspects": "ignore"}, "suspects is 'ignore', needed one of"),
        ({"time": 5}, "time"),
    ],
)
def test_iustfm_names_the_option_it_does_not_understand(change: dict, says: str, iustfm: Service) -> None:
    with pytest.raises(InvalidInput, match=says):
        iustfm.predict({**iustfm_request(), **change})


def test_a_date_that_the_library_cannot_bracket_is_undetermined(iustfm: Service) -> None:
    with pytest.raises(Undetermined, match="past_only"):
        iustfm.predict({**iustfm_request(), "time": "2024-01-01"})


def test_a_raster_on_another_grid_is_refused_with_both_grids(iustfm: Service) -> None:
    moved = (800.0, 0.0, 500_800.0, 0.0, -800.0, 5_000_000.0)
    with pytest.raises(InvalidInput, match="another grid"):
        iustfm.predict_bytes({"body": raster(COARSE, transform=moved, tags={"time": TIME})})
    elsewhere = {**SERIES.to_arrays(), "fine_transform": np.array([100.0, 0, 0, 0, -100.0, 0]), "time": TIME}
    with pytest.raises(InvalidInput, match="another grid"):
        iustfm.predict(elsewhere)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"body": b""},
        {"body": b"PK\x03\x04 broken"},
        {"body": b"II*\x00 broken"},
        {"body": b"hello"},
        {"coarse": b"\xff\xfe\xfd"},
        {"coarse": b"x" * 100_000},
        {"body": encode_npz({"coarse": COARSE, "time": TIME}), "time": TIME.encode()},
        {"body": encode_npz({"coarse": COARSE, "time": TIME, "reply": "jpeg"})},
    ],
)
def test_bytes_that_are_no_request_are_refused(parts: dict[str, bytes], iustfm: Service) -> None:
    with pytest.raises(InvalidInput):
        iustfm.predict_bytes(parts)


def test_the_parts_of_a_request_are_counted(iustfm_folder: Path) -> None:
    service = open_bundle(iustfm_folder)
    many = {f"p{number}": encode_npz({f"a{number}": np.zeros(1)}) for number in range(101)}
    with pytest.raises(InvalidInput, match="the request has 101 parts, at most 16 are allowed"):
        service.predict_bytes(many)
    service.limits = Limits(max_parts=2)
    assert service.predict_bytes({"body": encode_npz({"coarse": COARSE}), "time": TIME.encode()}).body


def test_the_parts_of_a_request_share_one_budget_of_inflated_bytes(iustfm_folder: Path) -> None:
    service = open_bundle(iustfm_folder)
    service.limits = Limits(max_inflated_bytes=2**20)
    half = encode_npz({"x": np.zeros(2**16 - 20)})
    for third in (encode_npz({"z": np.zeros(100)}), raster(COARSE)):
        parts = {"a": half, "b": half.replace(b"x.npy", b"y.npy"), "coarse": third}
        with pytest.raises(InvalidInput, match=r"coarse inflates from .* all parts so far to .*, at most 1048576 are"):
            service.predict_bytes(parts)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["body", "coarse", "time", "reply"]), st.binary(max_size=60), max_size=3))
def test_any_bytes_give_an_error_of_ours(iustfm: Service, parts: dict[str, bytes]) -> None:
    with pytest.raises(ThermoscaleError):
        iustfm.predict_bytes(parts)


def test_work_that_is_too_large_is_refused_before_it_begins(amun_folder: Path, iustfm_folder: Path) -> None:
    for folder, request in ((amun_folder, amun_request()), (iustfm_folder, iustfm_request())):
        service = open_bundle(folder)
        service.limits = Limits(max_pixels=100)
        with pytest.raises(InvalidInput, match="pixels"):
            service.predict(request)
        body = encode_npz(request)
        for reply in (b"npz", b"geotiff"):
            service.limits = Limits(max_reply_bytes=1000)
            with pytest.raises(InvalidInput, match=r"could have \d+ bytes, at most 1000 .* a window, or for reply"):
                service.predict_bytes({"body": body, "reply": reply})
        assert service.predict(request)["lst"].size > 1000  # in memory there is no reply
    service.limits = Limits(max_triples=2)
    with pytest.raises(InvalidInput, match="6 triples, at most 2"):
        service.predict(iustfm_request())


def test_a_window_of_a_scene_whose_reply_is_too_large_is_answered(amun_folder: Path) -> None:
    request = amun_request()
    large = ReplyForm("npz", "float32").largest_bytes(48, 64, AMUN_LAYERS)
    service = open_bundle(amun_folder, limits=Limits(max_reply_bytes=large - 1))
    with pytest.raises(InvalidInput, match=f"could have {large} bytes, at most {large - 1} are"):
        service.predict_bytes({"body": encode_npz(request)})
    assert service.predict_bytes({"body": encode_npz({**request, "window": [0, 0, 47, 64]})}).body


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["npz", "float32", "uint16"]), st.integers(1, 48), st.integers(1, 64))
def test_no_reply_is_larger_than_predicted(iustfm: Service, amun: Service, form: str, height: int, width: int) -> None:
    wanted = {"reply": "npz"} if form == "npz" else {"reply": "geotiff", "encoding": form}
    predicted = ReplyForm(wanted["reply"], wanted.get("encoding", "float32"))
    for service, request, layers in ((iustfm, iustfm_request(), IUSTFM_LAYERS), (amun, amun_request(), AMUN_LAYERS)):
        body = service.predict_bytes({"body": encode_npz({**request, **wanted, "window": [0, 0, height, width]})}).body
        assert len(body) <= predicted.largest_bytes(height, width, layers)


def test_work_that_would_take_too_long_is_refused_on_the_wire(amun_folder: Path, iustfm_folder: Path) -> None:
    amun, iustfm = open_bundle(amun_folder), open_bundle(iustfm_folder)
    amun.requests._tile_network.fastest_s = 1000.0  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match=r"would take about \d+000 s, at most 100 s are allowed: ask for a window"):
        amun.predict_bytes({"body": encode_npz(amun_request())})
    iustfm.limits = Limits(max_pixels=10**9, max_reply_bytes=10**12)
    with pytest.raises(InvalidInput, match="would take about 369 s"):
        require_short_work(48 * 64 * 6e6 * _SECONDS_PER_PIXEL_AND_TRIPLE, ReplyForm("npz", "float32"), iustfm.limits)


def test_a_request_is_stopped_between_two_tiles_when_its_time_is_over(amun_folder: Path) -> None:
    service = open_bundle(amun_folder)
    network = service.requests._tile_network  # type: ignore[attr-defined]
    calls = []

    def slow(arrays: dict) -> dict:
        calls.append(1)
        time.sleep(0.3)
        return answer(arrays)

    answer, network._network = network._network, slow
    with pytest.raises(Unavailable, match=r"stopped after 0\.\d s of work: the time for this request is over"):
        service.predict({**amun_request(), "expires": time.time() + 0.2})
    assert len(calls) == 1


@pytest.mark.parametrize("where", ["decode_parts", "encode_reply"])
def test_want_of_memory_anywhere_is_unavailable(where: str, iustfm: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(f"thermoscale.service.{where}", fail)
    with pytest.raises(Unavailable, match="not enough memory"):
        iustfm.predict_bytes({"body": encode_npz(iustfm_request())})


@pytest.mark.parametrize("name", ["amun.onnx", "golden.npz", "manifest.json"])
def test_one_flipped_byte_closes_a_bundle(name: str, amun_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(amun_folder, tmp_path / "bundle")
    body = bytearray((copy / name).read_bytes())
    body[len(body) // 2] ^= 1
    (copy / name).write_bytes(bytes(body))
    with pytest.raises(BundleError):
        open_bundle(copy)


def rewrite(folder: Path, out: Path, *, config=None, without: str | None = None, golden: bytes | None = None) -> Path:
    """The bundle once more, with something changed, and every hash right."""
    manifest = read_manifest(folder)
    contents = {name: folder / name for name in manifest.files if name != without}
    if golden is not None:
        contents[GOLDEN_NAME] = golden
    return write_bundle(
        out,
        pipeline=manifest.pipeline,
        version=manifest.version,
        quantity=manifest.quantity,
        sky=manifest.sky,
        config={**manifest.config, **(config or {})},
        training=manifest.training,
        metrics=manifest.metrics,
        versions=manifest.versions,
        contents=contents,
        georeference=manifest.georeference,
    )


def test_a_bundle_that_does_not_reproduce_its_golden_sample_never_opens(amun_folder: Path, tmp_path: Path) -> None:
    inputs, outputs = read_golden(amun_folder / GOLDEN_NAME)
    golden = encode_golden(inputs, {**outputs, "lst": outputs["lst"] + 0.01})
    with pytest.raises(BundleError, match=r"golden.*differs by 0\.01"):
        open_bundle(rewrite(amun_folder, tmp_path / "b", golden=golden))
    spoiled = encode_golden({**inputs, "coarse": inputs["coarse"] - 273.15}, outputs)
    with pytest.raises(BundleError, match="own golden sample"):
        open_bundle(rewrite(amun_folder, tmp_path / "c", golden=spoiled))


@pytest.mark.parametrize("without", ["amun.onnx", "amun_context.onnx", "golden.npz"])
def test_an_amun_bundle_needs_all_its_files(without: str, amun_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        open_bundle(rewrite(amun_folder, tmp_path / "b", without=without))


@pytest.mark.parametrize("without", ["region/labels.npy", "ratio_net.onnx", "golden.npz"])
def test_an_iustfm_bundle_needs_its_region_and_the_network_of_its_mode(
    without: str, iustfm_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError):
        open_bundle(rewrite(iustfm_folder, tmp_path / "b", without=without))


@pytest.mark.parametrize("config", [{"tile_px": 8}, {"surprise": 1}, {"quantity": "reflectance"}])
def test_a_config_that_does_not_fit_closes_a_bundle(config: dict, amun_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        open_bundle(rewrite(amun_folder, tmp_path / "b", config=config))


def test_an_iustfm_bundle_without_dynet_pools_ratios(iustfm_folder: Path, tmp_path: Path) -> None:
    service = open_bundle(rewrite(iustfm_folder, tmp_path / "b", without="dynet.onnx"))
    np.testing.assert_allclose(service.predict(iustfm_request())["lst"], linear_truth(0, 2), atol=0.05)


def test_a_bundle_without_a_place_still_answers_geotiffs_and_says_so(tmp_path: Path) -> None:
    service = open_bundle(write_tiny_iustfm(tmp_path / "b", georeferenced=False))
    reply = service.predict_bytes({"body": encode_npz({**iustfm_request(), "reply": "geotiff"})})
    assert not json.loads(str(decode_geotiff_reply(reply.body, LIMITS)["meta"]))["georeferenced"]
