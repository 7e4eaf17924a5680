"""Over either wire, in any format, a server gives the answer of the same bundle opened in this process."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from thermoscale import Service
from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.errors import InvalidInput
from thermoscale.geo.rasters import Raster, encode_geotiff
from thermoscale.server.launcher import TorchServe
from thermoscale.server.setup import WORKERS
from thermoscale.testing.bundles import linear_series, linear_truth, tiny_amun_config, tiny_amun_request
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server

Clients = Mapping[str, RestClient | GrpcClient]
Services = Mapping[str, Service]
WIRES = ("rest", "grpc")
MODELS = ("amun", "iustfm")
UTM = "EPSG:32631"
SERIES = linear_series()
TARGET = SERIES.coarse_time[2]


def request_for(model: str) -> dict[str, Any]:
    """A scene that is not the golden one."""
    if model == "amun":
        return tiny_amun_request(tiny_amun_config(), coarse_shape=(9, 20), seed=5)
    return {"coarse": SERIES.coarse_at(TARGET) + np.float32(0.5), "time": TARGET}


def assert_same(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal arrays, and metadata that differ in nothing but request id and timings."""
    assert got.keys() == expected.keys()
    for name in expected.keys() - {"meta"}:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
        assert np.asarray(got[name]).dtype == np.asarray(expected[name]).dtype
    changing = {"request_id", "handler_ms"}
    stable, wanted = ({k: v for k, v in d["meta"].items() if k not in changing} for d in (got, expected))
    assert stable == wanted


def geotiff(array: np.ndarray, transform: tuple[float, ...], tags: dict[str, str] | None = None) -> bytes:
    bands = array if array.ndim == 3 else array[np.newaxis]
    names = tuple("ndvi" if array.ndim == 3 else "coarse" for _ in bands)
    return encode_geotiff(Raster(bands, UTM, transform, names, tags or {}))  # type: ignore[arg-type]


def geotiff_parts(model: str) -> dict[str, bytes]:
    request = request_for(model)
    if model == "iustfm":
        tags = {"time": TARGET}
        return {"body": geotiff(request["coarse"], SERIES.coarse_transform or (), tags)}
    return {
        "coarse": geotiff(request["coarse"], (400.0, 0.0, 5e5, 0.0, -400.0, 5e6)),
        "factors": geotiff(request["factors"], (100.0, 0.0, 5e5, 0.0, -100.0, 5e6)),
    }


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_an_npz_request_gives_the_answer_of_the_service(
    clients: Clients, services: Services, wire: str, model: str
) -> None:
    request = request_for(model)
    assert_same(clients[wire].predict(model, request), services[model].predict(request))


@pytest.mark.parametrize("wire", WIRES)
def test_a_served_scene_is_the_truth_of_a_linear_world(clients: Clients, wire: str) -> None:
    got = clients[wire].predict("iustfm", {"coarse": SERIES.coarse_at(TARGET), "time": TARGET})
    np.testing.assert_allclose(got["lst"], linear_truth(0, 2), atol=0.05)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_geotiff_parts_give_a_geotiff_with_the_same_pixels(
    clients: Clients, services: Services, wire: str, model: str
) -> None:
    parts = geotiff_parts(model)
    body = clients[wire].predict_bytes(model, parts)
    assert_same(decode_reply(body), decode_reply(services[model].predict_bytes(parts).body))
    assert body[:2] in (b"II", b"MM")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_the_request_chooses_the_format_of_the_reply(
    clients: Clients, services: Services, wire: str, model: str
) -> None:
    expected = services[model].predict(request_for(model))
    got = clients[wire].predict(model, request_for(model), reply="geotiff")
    np.testing.assert_array_equal(got["lst"], expected["lst"])
    as_npz = clients[wire].predict_bytes(model, {**geotiff_parts(model), "reply": b"npz"})
    assert as_npz[:2] == b"PK"
    np.testing.assert_allclose(decode_reply(as_npz)["lst"], expected["lst"], atol=1e-4)


@pytest.mark.parametrize("wire", WIRES)
def test_small_values_may_be_parts_beside_the_body(clients: Clients, services: Services, wire: str) -> None:
    parts = {
        "body": encode_npz({"coarse": request_for("iustfm")["coarse"]}),
        "time": TARGET.encode(),
        "window": b"8,8,16,24",
        "request_id": b"mine",
    }
    got = decode_reply(clients[wire].predict_bytes("iustfm", parts))
    whole = services["iustfm"].predict(request_for("iustfm"))["lst"]
    np.testing.assert_array_equal(got["lst"], whole[8:24, 8:32])
    assert got["meta"]["request_id"] == "mine"


@pytest.mark.parametrize("wire", WIRES)
def test_a_version_can_be_named(clients: Clients, wire: str) -> None:
    request = request_for("amun")
    assert clients[wire].predict("amun", request, version="0.0.1")["meta"]["version"] == "0.0.1"
    with pytest.raises(InvalidInput, match=r"9\.9\.9"):
        clients[wire].predict("amun", request, version="9.9.9")


@pytest.mark.parametrize("wire", WIRES)
def test_an_unknown_model_is_named(clients: Clients, wire: str) -> None:
    with pytest.raises(InvalidInput, match="ustfm2"):
        clients[wire].predict("ustfm2", request_for("amun"))


def test_many_callers_at_once_each_get_their_own_answer(clients: Clients, services: Services) -> None:
    requests = [tiny_amun_request(tiny_amun_config(), seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: clients[WIRES[i % 2]].predict("amun", requests[i]), range(8)))
    for request, answer in zip(requests, got, strict=True):
        assert_same(answer, services["amun"].predict(request))


def test_every_worker_is_ready_and_known_by_its_process_id(server: TorchServe) -> None:
    workers = [worker for model in MODELS for worker in server.workers(model)]
    assert {worker.status for worker in workers} == {"READY"}
    assert len({worker.pid for worker in workers}) == WORKERS * len(MODELS)
