"""Whatever arrives, the sender learns what is wrong with it, and the same worker answers the next request."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import rasterio

from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.geo.rasters import IDENTITY, NO_CRS, Raster, encode_geotiff
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import linear_series, tiny_amun_config, tiny_amun_request
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server

SERIES = linear_series()
TARGET = SERIES.coarse_time[2]


def amun(**changes: Any) -> bytes:
    """A good request with some arrays replaced; None leaves one out."""
    arrays = {**tiny_amun_request(tiny_amun_config()), **changes}
    return encode_npz({name: value for name, value in arrays.items() if value is not None})


def iustfm(**changes: Any) -> bytes:
    return encode_npz({"coarse": SERIES.coarse_at(TARGET), "time": TARGET, **changes})


def coarse() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(tiny_amun_request(tiny_amun_config())["coarse"])


def infinite() -> bytes:
    scene = coarse()
    scene[2, 3] = np.inf
    return amun(coarse=scene)


def pickled() -> bytes:
    """An .npz whose array runs code when it is unpickled."""

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("this must never run",))

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        archive.writestr("coarse.npy", header.getvalue() + pickle.dumps([Harmful()]))
    return stream.getvalue()


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, coarse=np.zeros((4096, 4096), np.float32))
    return stream.getvalue()


def placed(crs: str, transform: tuple[float, ...]) -> bytes:
    scene = SERIES.coarse_at(TARGET)[np.newaxis]
    return encode_geotiff(Raster(scene, crs, transform, ("coarse",), {"time": TARGET}))  # type: ignore[arg-type]


def shifted() -> bytes:
    a, b, c, d, e, f = SERIES.coarse_transform or ()
    return placed("EPSG:32631", (a, b, c + 400.0, d, e, f))


def geotiff_bomb(bands: int) -> bytes:
    """A few hundred bytes that declare bands of 5000 x 5000 pixels and hold none of them."""
    size = {"count": bands, "height": 5000, "width": 5000, "blockxsize": 4096, "blockysize": 4096}
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(*(SERIES.coarse_transform or ()))}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", dtype="uint8", sparse_ok=True, tiled=True, **size, **place):
            pass
        return bytes(memory.read())


BAD = {
    "a wrong key": ("amun", lambda: amun(coarse=None, course=coarse()), "course"),
    "a key too many": ("iustfm", lambda: iustfm(factors=coarse()), "factors"),
    "a wrong shape": ("amun", lambda: amun(coarse=coarse()[np.newaxis]), r"coarse has shape \[1, 12, 16\]"),
    "factors of a wrong size": ("amun", lambda: amun(factors=np.zeros((1, 5, 7), np.float32)), "factors"),
    "a scene of another place": ("iustfm", lambda: iustfm(coarse=coarse()), "coarse has shape"),
    "degrees Celsius": ("amun", lambda: amun(coarse=coarse() - 273.15), "Celsius"),
    "Celsius for the other model": ("iustfm", lambda: iustfm(coarse=SERIES.coarse_at(TARGET) - 273.15), "Celsius"),
    "nothing but NaN": ("amun", lambda: amun(coarse=np.full_like(coarse(), np.nan)), "coarse is all NaN"),
    "an infinite value": ("amun", infinite, "coarse holds 1 infinite"),
    "an empty scene": ("amun", lambda: amun(coarse=np.zeros((0, 0), np.float32)), "coarse is empty"),
    "text for numbers": ("amun", lambda: amun(coarse=np.full((12, 16), "warm")), "coarse"),
    "a time that is none": ("iustfm", lambda: iustfm(time="yesterday"), "yesterday"),
    "a window outside": ("iustfm", lambda: iustfm(window=np.array([40, 60, 40, 40])), "window"),
    "an unknown mode": ("iustfm", lambda: iustfm(mode="magic"), "magic"),
    "a truncated npz": ("amun", lambda: amun()[:-200], "not a complete .npz"),
    "a pickled npz": ("amun", pickled, "coarse"),
    "a zip bomb": ("amun", zip_bomb, "inflates"),
    "a GeoTIFF without CRS": ("iustfm", lambda: placed(NO_CRS, IDENTITY), "CRS"),
    "a GeoTIFF on another grid": ("iustfm", shifted, "coarse"),
    "a truncated GeoTIFF": ("iustfm", lambda: shifted()[:300], "GeoTIFF"),
    "a GeoTIFF bomb": ("iustfm", lambda: geotiff_bomb(1), "coarse inflates from"),
    "a GeoTIFF bomb of many bands": ("iustfm", lambda: geotiff_bomb(20), "coarse has 20 bands"),
    "an empty body": ("amun", lambda: b"", "no body"),
    "random bytes": ("amun", lambda: np.random.default_rng(3).bytes(5000), "not a complete .npz"),
    "letters outside ASCII": ("iustfm", lambda: iustfm(mode="Käse"), r"K\\xe4se|mode"),
}


def rest_outcome(client: RestClient, model: str, body: bytes) -> tuple[str, str]:
    status, reply = client.request("POST", f"/predictions/{model}", body, "application/octet-stream")
    return str(status), json.loads(reply)["message"] if status != 200 else ""


def grpc_outcome(client: GrpcClient, model: str, body: bytes) -> tuple[str, str]:
    try:
        client.predict_bytes(model, {"body": body})
    except ThermoscaleError as error:
        return error.__cause__.code().name, str(error)  # type: ignore[union-attr]
    return "OK", ""


OUTCOME: dict[str, Callable[[Any, str, bytes], tuple[str, str]]] = {"rest": rest_outcome, "grpc": grpc_outcome}
REFUSED = {"rest": "400", "grpc": "INVALID_ARGUMENT"}


@pytest.mark.parametrize("wire", ["rest", "grpc"])
@pytest.mark.parametrize("name", BAD)
def test_is_refused_by_name_and_the_worker_lives_on(
    server: TorchServe, clients: Mapping[str, RestClient | GrpcClient], wire: str, name: str
) -> None:
    model, make_body, words = BAD[name]
    before = server.workers(model)

    status, message = OUTCOME[wire](clients[wire], model, make_body())

    assert status == REFUSED[wire], message
    assert re.search(words, message), message
    good = amun() if model == "amun" else iustfm()
    assert OUTCOME[wire](clients[wire], model, good)[0] in ("200", "OK")
    assert server.workers(model) == before


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_data_that_determine_no_answer_are_told_apart_from_bad_requests(
    clients: Mapping[str, RestClient | GrpcClient], wire: str
) -> None:
    too_early = iustfm(time="2019-01-01")
    status, message = OUTCOME[wire](clients[wire], "iustfm", too_early)
    assert status == {"rest": "422", "grpc": "FAILED_PRECONDITION"}[wire]
    assert "2019-01-01" in message


def test_a_form_body_that_torchserve_swallows_is_explained(clients: Mapping[str, RestClient | GrpcClient]) -> None:
    rest = clients["rest"]
    assert isinstance(rest, RestClient)
    status, reply = rest.request("POST", "/predictions/amun", amun(), "application/x-www-form-urlencoded")
    assert status == 400
    assert "Content-Type: application/octet-stream" in json.loads(reply)["message"]


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_part_with_a_name_that_is_none_is_named(clients: Mapping[str, RestClient | GrpcClient], wire: str) -> None:
    with pytest.raises(InvalidInput, match="'We-ird'") as caught:
        clients[wire].predict_bytes("amun", {"body": amun(), "We-ird": amun()})
    assert "form" not in str(caught.value)
