"""AMUN without a trained network: with an identity or a blur inside, every answer is known."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics.grids import interpolate, paint_cells, regular_index
from thermoscale.pipelines.amun import Amun, AmunConfig, pack_context, prepare_tile_inputs, thumbnail, unpack_context
from thermoscale.pipelines.amun_context import context_id
from thermoscale.pipelines.amun_inputs import overlap_shares
from thermoscale.pipelines.flags import COARSE_MISSING, FALLBACK_USED
from thermoscale.testing.bundles import identity, thumbnail_tokens, tiny_amun_config, tiny_amun_request

LAW = settings(max_examples=25, deadline=None)
CONFIG = tiny_amun_config()
RADIUS = 4


def blur(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A network with a receptive radius of 4 that uses everything it is given, context included."""
    image = inputs["coarse"][0, 0].astype(np.float64)
    if "factors" in inputs:
        image = image + 3.0 * inputs["factors"][0, 0] * inputs["valid"][0, 1]
    padded = np.pad(image, RADIUS)
    total = np.zeros_like(image)
    for row in range(2 * RADIUS + 1):
        for col in range(2 * RADIUS + 1):
            total += padded[row : row + image.shape[0], col : col + image.shape[1]]
    mean = total / (2 * RADIUS + 1) ** 2 + 0.01 * inputs["gate"][0, 0] + inputs["bias"][0, 0]
    lst = mean[None, None].astype(np.float32)
    return {"lst": lst, "spread": lst / 100}


def pipeline(network=identity, config: AmunConfig = CONFIG) -> Amun:
    return Amun(config, thumbnail_tokens, network)


def windows(height: int, width: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    def box(corner: tuple[int, int]) -> st.SearchStrategy[tuple[int, int, int, int]]:
        row, col = corner
        return st.tuples(st.just(row), st.just(col), st.integers(1, height - row), st.integers(1, width - col))

    return st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)).flatmap(box)


@LAW
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_an_identity_network_gives_the_bicubic_coarse_image(h: int, w: int, scale: int, seed: int) -> None:
    coarse = np.random.default_rng(seed).uniform(270, 310, (h, w)).astype(np.float32)
    config = tiny_amun_config(scale_factor=scale, factor_names=())
    result = pipeline(config=config).predict(coarse, None)
    expected = interpolate(coarse, regular_index((h, w), (h * scale, w * scale)), order=3)
    np.testing.assert_allclose(result["lst"], expected, atol=1e-4)
    assert not result["flags"].any()


@pytest.mark.parametrize("network", [identity, blur])
@LAW
@given(window=windows(48, 64), seed=st.integers(0, 100))
def test_a_window_is_the_crop_of_the_whole_scene(network, window: tuple[int, int, int, int], seed: int) -> None:
    request = tiny_amun_request(CONFIG, (12, 16), seed)
    whole = pipeline(network).predict(**request)
    part = pipeline(network).predict(**request, window=window)
    row, col, height, width = window
    for name in ("lst", "flags"):
        crop = whole[name][row : row + height, col : col + width]
        np.testing.assert_allclose(part[name], crop, atol=1e-6)
    assert part["context_id"] == whole["context_id"]


@LAW
@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 100))
def test_chunks_with_the_scenes_context_agree_with_the_scene(down: int, right: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(270, 310, (28, 28)).astype(np.float32)
    factors = rng.uniform(0, 1, (1, 112, 112)).astype(np.float32)
    amun = pipeline(blur)
    whole = amun.predict(coarse, factors)
    top, left, size = 2 * down, 2 * right, 20  # coarse cells; 8 fine pixels are a multiple of multiple_px
    chunk = coarse[top : top + size, left : left + size]
    fine = np.s_[4 * top : 4 * (top + size), 4 * left : 4 * (left + size)]
    part = amun.predict(chunk, factors[:, *fine], context=whole["context"])
    margin = CONFIG.halo_px + 3 * CONFIG.scale_factor
    inner = np.s_[margin:-margin, margin:-margin]
    np.testing.assert_allclose(part["lst"][inner], whole["lst"][fine][inner], atol=1e-3)


def test_without_the_scenes_context_a_chunk_differs() -> None:
    request = tiny_amun_request(CONFIG, (12, 16))
    amun = pipeline(blur)
    chunk = {"coarse": request["coarse"][:8], "factors": request["factors"][:, :32]}
    assert amun.context(**chunk)["id"] != amun.context(**request)["id"]


@LAW
@given(st.integers(0, 11), st.integers(0, 15), st.integers(0, 100))
def test_a_missing_coarse_cell_is_filled_flagged_and_stays_local(row: int, col: int, seed: int) -> None:
    coarse = np.random.default_rng(seed).uniform(270, 310, (12, 16)).astype(np.float32)
    config = tiny_amun_config(factor_names=())
    full = pipeline(config=config).predict(coarse, None)
    coarse[row, col] = np.nan
    gap = pipeline(config=config).predict(coarse, None)
    assert np.isfinite(gap["lst"]).all()
    cell = paint_cells(np.isnan(coarse).astype(np.float32), regular_index((12, 16), (48, 64))) == 1
    np.testing.assert_array_equal(gap["flags"], np.where(cell, COARSE_MISSING, 0))
    rows, cols = np.indices((48, 64))
    far = (np.abs(rows - (4 * row + 1.5)) > 10) | (np.abs(cols - (4 * col + 1.5)) > 10)  # bicubic: two cells and a half
    np.testing.assert_allclose(gap["lst"][far], full["lst"][far], atol=1e-4)


def test_cells_far_from_any_value_stay_empty_and_tiles_without_value_never_reach_the_network() -> None:
    coarse = np.full((40, 40), np.nan, np.float32)
    coarse[:3] = 290.0
    seen = []

    def watched(inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(inputs["valid"][0, 0].any())
        return identity(inputs)

    config = tiny_amun_config(factor_names=())
    result = pipeline(watched, config).predict(coarse, None)
    assert all(seen)
    assert len(seen) < len(range(0, 160, 16)) ** 2 / 2
    assert np.isfinite(result["lst"][:16]).all()
    assert np.isnan(result["lst"][16:]).all()
    assert (result["flags"][12:] & COARSE_MISSING).all()
    assert (result["flags"][-1] & FALLBACK_USED).all()


def test_missing_factors_reach_the_network_as_zero_and_not_valid() -> None:
    request = tiny_amun_request(CONFIG)
    _, factors, valid = prepare_tile_inputs(CONFIG, **request)
    gap = np.isnan(request["factors"])
    assert not factors[gap].any()
    np.testing.assert_array_equal(valid[1:], np.where(gap, 0.0, 1.0))
    assert np.isnan(request["factors"][gap]).all()  # the request itself is untouched


def test_closure_is_zero_for_a_flat_scene_and_nan_for_a_window_smaller_than_a_cell() -> None:
    request = tiny_amun_request(CONFIG)
    flat = {**request, "coarse": np.full_like(request["coarse"], 290.0)}
    assert pipeline().predict(**flat)["closure"] == pytest.approx(0.0, abs=1e-4)
    assert np.isnan(pipeline().predict(**flat, window=(1, 1, 4, 4))["closure"])


@LAW
@given(st.integers(1, 40), st.integers(1, 90))
def test_every_thumbnail_cell_is_covered_once_and_every_pixel_is_used_once(n_cells: int, n_pixels: int) -> None:
    shares = overlap_shares(n_cells, n_pixels)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares.sum(axis=0), n_cells / n_pixels)


def test_the_thumbnail_holds_area_means_and_valid_shares() -> None:
    coarse = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) + 200.0
    coarse[0, 0] = np.nan
    coarse[2:4, 2:4] = np.nan
    thumb, share = thumbnail(tiny_amun_config(factor_names=()), coarse, None)
    assert thumb.shape == share.shape == (1, 1, 32, 32)
    for row in range(32):
        for col in range(32):
            block = coarse[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            valid = block[np.isfinite(block)]
            assert share[0, 0, row, col] == pytest.approx(valid.size / 4)
            assert thumb[0, 0, row, col] == pytest.approx(valid.mean() if valid.size else 0.0, rel=1e-6)


@pytest.mark.parametrize("views", [1, 8])
def test_a_context_survives_packing(views: int) -> None:
    rng, shapes = np.random.default_rng(0), {"k": (views, 6, 1024), "v": (views, 6, 1024), "gate": (views, 3)}
    context = {name: rng.random(shape, np.float32) for name, shape in {**shapes, "bias": (1, 1)}.items()}
    back = unpack_context(pack_context(context), 1024, views)
    assert back["id"] == context_id(context)
    for name in ("k", "v", "gate", "bias"):
        np.testing.assert_array_equal(back[name], context[name])


@pytest.mark.parametrize("packed", [np.zeros(10, np.float32), np.zeros((2, 3)), np.full(5000, np.nan), np.zeros(4097)])
def test_an_impossible_context_is_refused(packed: Array) -> None:
    with pytest.raises(InvalidInput, match="context"):
        unpack_context(packed, 1024, 1)


def test_a_context_of_one_view_is_refused_where_eight_are_asked() -> None:
    packed = pack_context(pipeline().context(**tiny_amun_request(CONFIG)))
    with pytest.raises(InvalidInput, match="another bundle"):
        unpack_context(packed, 1024, 8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"coarse": np.full((12, 16), 20.0)}, "Celsius"),
        ({"coarse": np.full((12, 16), np.nan)}, "all NaN"),
        ({"coarse": np.full((12, 16), np.inf)}, "infinite"),
        ({"coarse": np.zeros((0, 0))}, "NaN|empty"),
        ({"coarse": np.full((2, 12, 16), 290.0)}, "needed .h, w."),
        ({"factors": None}, "factors are missing"),
        ({"factors": np.zeros((2, 48, 64))}, "needed .1, 48, 64."),
        ({"factors": np.full((1, 48, 64), "x")}, "needed numbers"),
        ({"factors": np.full((1, 48, 64), np.inf)}, "infinite"),
        ({"window": (0, 0, 49, 64)}, "not inside"),
        ({"window": (0, 0, 0, 4)}, "not inside"),
        ({"window": (0, 0, 4)}, "needed 4"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(change: dict, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        pipeline().predict(**{**tiny_amun_request(CONFIG), **change})


def test_a_config_survives_json() -> None:
    assert AmunConfig.from_json(CONFIG.to_json()) == CONFIG


@pytest.mark.parametrize(
    "change",
    [
        {"tile_px": 8},
        {"scale_factor": 0},
        {"quantity": "air"},
        {"factor_units": ()},
        {"factor_names": ("a", "a"), "factor_units": ("1", "1")},
    ],
)
def test_an_impossible_config_is_refused(change: dict) -> None:
    with pytest.raises(InvalidInput):
        replace(CONFIG, **change)


def test_a_config_with_a_missing_or_unknown_key_is_refused_by_name() -> None:
    data = CONFIG.to_json()
    with pytest.raises(InvalidInput, match="tile_px"):
        AmunConfig.from_json({key: value for key, value in data.items() if key != "tile_px"})
    with pytest.raises(InvalidInput, match="surprise"):
        AmunConfig.from_json({**data, "surprise": 1})
