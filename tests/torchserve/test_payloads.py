"""Over either wire: descriptions, codes, named files, and what is refused before it is computed."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from torchserve.test_same_answer import MODELS, TARGET, WIRES, geotiff_parts, request_for

from thermoscale import Service
from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server

Clients = Mapping[str, RestClient | GrpcClient]
Services = Mapping[str, Service]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_describes_itself(wire: str, model: str, clients: Clients, services: Services) -> None:
    for parts in ({"ask": b"description"}, {"body": encode_npz({"ask": "description"})}):
        assert json.loads(clients[wire].predict_bytes(model, parts)) == json.loads(
            json.dumps(services[model].describe())
        )


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_codes_are_the_answer_rounded(wire: str, model: str, clients: Clients, services: Services) -> None:
    body = clients[wire].predict_bytes(model, {**geotiff_parts(model), "encoding": b"uint16"})
    got, expected = decode_reply(body), services[model].predict(request_for(model))
    assert (got["meta"]["encoding"], got["meta"]["rounded_to"]) == ("uint16", 0.01)
    np.testing.assert_allclose(got["lst"], expected["lst"], atol=0.00502)
    np.testing.assert_array_equal(got["flags"], expected["flags"])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS)
def test_files_inside_the_allowed_folder_are_read(
    wire: str, model: str, clients: Clients, file_root: Path, tmp_path: Path
) -> None:
    parts, named = geotiff_parts(model), {}
    for name, content in parts.items():
        path = file_root / f"{model}-{wire}-{name}.tif"
        path.write_bytes(content)
        named[f"{name}_file"] = str(path).encode()
    client = clients[wire]
    by_name, by_bytes = (decode_reply(client.predict_bytes(model, each)) for each in (named, parts))
    np.testing.assert_array_equal(by_name["lst"], by_bytes["lst"])
    (tmp_path / "coarse.tif").write_bytes(b"x")
    (file_root / f"{model}-{wire}-out").symlink_to(tmp_path / "coarse.tif")
    for outside in (tmp_path / "coarse.tif", file_root / f"{model}-{wire}-out", "/etc/passwd"):
        with pytest.raises(InvalidInput, match="in no folder that requests may read from"):
            client.predict_bytes(model, {"coarse_file": str(outside).encode(), "time": TARGET.encode()})


@pytest.mark.parametrize("wire", WIRES)
def test_what_nobody_waits_for_any_more_is_not_computed(wire: str, clients: Clients) -> None:
    parts = {"body": encode_npz(request_for("iustfm")), "expires": str(time.time() - 3).encode()}
    with pytest.raises(Unavailable, match=r"expired \d+\.\d s ago: nothing was computed"):
        clients[wire].predict_bytes("iustfm", parts)
