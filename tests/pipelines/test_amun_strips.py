"""Strips of a scene against the scene in one piece, with a network that uses everything it is given."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.pipelines.amun import Amun, AmunConfig, thumbnail
from thermoscale.pipelines.amun_strips import AmunStrips
from thermoscale.pipelines.windows import Window
from thermoscale.testing.bundles import thumbnail_tokens, tiny_amun_config

LAW = settings(max_examples=25, deadline=None)
CONFIG = tiny_amun_config(factor_names=("ndvi", "albedo"))


def shifted_sum(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Depends on pixels on all sides, on both factors, on what is valid and on the context; NaN at times."""
    image = inputs["coarse"][0, 0] + 0.01 * inputs["gate"][0, 0]
    image = image + np.roll(inputs["factors"][0, 0], 3, 0) + 2 * np.roll(inputs["factors"][0, 1], -4, 1)
    image = image + np.roll(inputs["valid"][0].sum(axis=0), -2, 0)
    lst = np.where(inputs["factors"][:, 0] > 0.97, np.nan, image)[None].astype(np.float32)
    return {"lst": lst, "spread": lst / 100}


def scene(config: AmunConfig, shape: tuple[int, int], missing: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Coarse and factors with lone gaps, and with an empty region of a random corner and size."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(280, 300, shape).astype(np.float32)
    fine = (len(config.factor_names), shape[0] * config.scale_factor, shape[1] * config.scale_factor)
    factors = rng.uniform(0, 1, fine).astype(np.float32)
    for image in (coarse, *factors):
        image[rng.uniform(size=image.shape) < missing / 4] = np.nan
        top, left = rng.integers(0, image.shape[0]), rng.integers(0, image.shape[1])
        image[top : top + int(missing * image.shape[0]), left : left + int(missing * image.shape[1])] = np.nan
    coarse[0, 0] = 290.0
    return coarse, factors


def reader(factors: FloatArray):
    def read(window: Window) -> FloatArray:
        assert min(window) >= 0
        part = factors[:, *window.slices]
        assert part.shape[1:] == (window.height, window.width), "a read outside the file"
        return part.copy()

    return read


def predict(strips: AmunStrips, context: Mapping[str, Array]) -> tuple[Array, Array]:
    carry, found = strips.nothing_carried(), []
    for number in range(len(strips.rows)):
        found.append(strips.predict(number, carry, context))
        carry = found[-1].carry
    return np.concatenate([strip.lst for strip in found]), np.concatenate([strip.flags for strip in found])


@LAW
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    tiles_at_once=st.integers(1, 6),
    missing=st.sampled_from([0.0, 0.2, 0.8, 1.0]),
    halo_overlap=st.sampled_from([(4, 8), (0, 8), (8, 0), (4, 0), (4, 16), (2, 20)]),
    scale=st.integers(1, 7),
    seed=st.integers(0, 100),
)
def test_strips_are_the_scene(
    shape: tuple[int, int], tiles_at_once: int, missing: float, halo_overlap: tuple[int, int], scale: int, seed: int
) -> None:
    config = replace(CONFIG, halo_px=halo_overlap[0], overlap_px=halo_overlap[1], scale_factor=scale)
    coarse, factors = scene(config, shape, missing, seed)
    amun = Amun(config, thumbnail_tokens, shifted_sum)
    whole = amun.predict(coarse, factors)
    strips = AmunStrips(amun, coarse, reader(factors), tiles_at_once=tiles_at_once)
    lst, flags = predict(strips, whole["context"])
    np.testing.assert_allclose(lst, whole["lst"], atol=1e-3)
    np.testing.assert_array_equal(flags, whole["flags"])


@LAW
@given(shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), rows=st.integers(1, 90), seed=st.integers(0, 100))
def test_the_context_of_a_scene_does_not_depend_on_how_it_was_read(
    shape: tuple[int, int], rows: int, seed: int
) -> None:
    coarse, factors = scene(CONFIG, shape, 0.3, seed)
    seen = []

    def watched(inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(inputs)
        return thumbnail_tokens(inputs)

    AmunStrips(Amun(CONFIG, watched, shifted_sum), coarse, reader(factors), tiles_at_once=1).context(rows)
    thumb, thumb_valid = thumbnail(CONFIG, coarse, factors)
    np.testing.assert_allclose(seen[0]["thumb"], thumb, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(seen[0]["thumb_valid"], thumb_valid, rtol=1e-6, atol=1e-6)


def test_strips_end_where_the_next_begin_and_cover_the_scene() -> None:
    strips = AmunStrips(Amun(CONFIG, thumbnail_tokens, shifted_sum), np.full((50, 3), 290.0), None, tiles_at_once=1)
    assert strips.rows[0].start == 0
    assert strips.rows[-1].stop == 200
    assert all(upper.stop == lower.start for upper, lower in zip(strips.rows, strips.rows[1:], strict=False))


def test_where_no_tile_holds_a_coarse_value_neither_network_nor_factors_are_asked() -> None:
    coarse, factors = scene(CONFIG, (40, 40), 0.0, 0)
    coarse[:, 10:] = np.nan
    asked, read = [], []

    def network(inputs: Mapping[str, Array]) -> dict[str, Array]:
        asked.append(inputs["valid"][0, 0].any())
        return shifted_sum(inputs)

    def read_and_note(window: Window) -> FloatArray:
        read.append(window)
        return reader(factors)(window)

    strips = AmunStrips(Amun(CONFIG, thumbnail_tokens, network), coarse, read_and_note, tiles_at_once=1)
    predict(strips, Amun(CONFIG, thumbnail_tokens, network).context(coarse, factors))
    assert all(asked)
    assert max(window.col for window in read) < 40
    assert len(asked) == len(read)


def test_a_coarse_image_in_celsius_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Celsius"):
        AmunStrips(Amun(CONFIG, thumbnail_tokens, shifted_sum), np.full((5, 5), 20.0), None, tiles_at_once=1)
