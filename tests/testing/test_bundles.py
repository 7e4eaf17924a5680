"""The tiny bundles: their graphs compute what their numpy twins compute, and they open like any other bundle."""

from pathlib import Path

import numpy as np
import pytest

from thermoscale import open_bundle
from thermoscale.runtime.ort import open_session
from thermoscale.testing.bundles import (
    division,
    identity,
    linear_series,
    linear_truth,
    mean_ratio,
    thumbnail_tokens,
    write_tiny_amun,
    write_tiny_iustfm,
)
from thermoscale.testing.graphs import amun_context_graph, amun_tile_graph, dynet_graph, ratio_net_graph

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


TILE = {"coarse": normal(1, 1, 8, 8), "factors": normal(1, 2, 8, 8), "valid": normal(1, 3, 8, 8)}
CONTEXT = {"k": normal(1, 2, 16), "v": normal(1, 2, 16), "gate": normal(1, 1), "bias": np.zeros((1, 1), np.float32)}


@pytest.mark.parametrize(
    ("graph", "twin", "inputs"),
    [
        (amun_tile_graph(2, 16, n_factors=2, tile_px=8), identity, TILE | CONTEXT),
        (
            amun_context_graph(2, 16, n_factors=2, thumbnail_px=4),
            thumbnail_tokens,
            {"thumb": normal(1, 3, 4, 4), "thumb_valid": normal(1, 3, 4, 4)},
        ),
        (
            dynet_graph(6, 4),
            mean_ratio,
            {
                "alpha": np.where(RNG.random((3, 6)) < 0.2, np.nan, normal(3, 6)).astype(np.float32),
                "valid": np.array([[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0]], bool),
                "hcr_present": RNG.random((3, 4)) < 0.5,
            },
        ),
        (ratio_net_graph(), division, {"distance": np.abs(normal(9)), "a2": normal(9) + 3}),
    ],
)
def test_a_graph_computes_what_its_numpy_twin_computes(graph: bytes, twin, inputs: dict, tmp_path: Path) -> None:
    if "alpha" in inputs:
        inputs["valid"] &= np.isfinite(inputs["alpha"]) | ~inputs["valid"].any()
        inputs["alpha"] = np.where(inputs["valid"], np.nan_to_num(inputs["alpha"]), inputs["alpha"])
    (tmp_path / "graph.onnx").write_bytes(graph)
    got, expected = open_session(tmp_path / "graph.onnx")(inputs), twin(inputs)
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize("names", [(), ("ndvi",), ("ndvi", "elevation")])
def test_a_tiny_amun_bundle_opens_with_any_number_of_factors(names: tuple[str, ...], tmp_path: Path) -> None:
    service = open_bundle(write_tiny_amun(tmp_path / "amun" / "0.0.1", factor_names=names))
    request = {"coarse": np.full((3, 3), 290.0, np.float32)}
    if names:
        request["factors"] = np.zeros((len(names), 12, 12), np.float32)
    np.testing.assert_allclose(service.predict(request)["lst"], 290.0)


@pytest.mark.parametrize("mode", ["rationet", "closed_form"])
def test_a_tiny_iustfm_bundle_knows_the_truth(mode: str, tmp_path: Path) -> None:
    service = open_bundle(write_tiny_iustfm(tmp_path / "iustfm" / "0.0.1", mode=mode))
    series = linear_series()
    result = service.predict({"coarse": series.coarse[2], "time": series.coarse_time[2]})
    np.testing.assert_allclose(result["lst"], linear_truth(0, 2), atol=0.05)
