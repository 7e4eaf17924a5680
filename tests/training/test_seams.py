"""Seams of a real exported network: none with the scene's context, whatever the tiles, windows and chunks."""

from dataclasses import replace

import numpy as np
import pytest

from thermoscale.arrays import FloatArray
from thermoscale.numerics.tiling import TileGrid
from thermoscale.pipelines.amun import Amun
from thermoscale.runtime.ort import open_session
from thermoscale.testing.fields import block_mean
from thermoscale_train.config import load_amun_settings
from thermoscale_train.onnx_graphs import amun_graphs, write_graph
from thermoscale_train.random_amun import random_amun
from thermoscale_train.seams import border_gradient_ratio, predict_with_own_contexts

TILES = (128, 192, 256)
SCALE_FACTOR = 2  # small patches, so that the halo leaves a core to a tile of 128
TOLERANCE_K = 1e-3
CELLS = (180, 180)
CHUNK_CELLS = 104
SHIFT_CELLS = 8

Scene = tuple[FloatArray, FloatArray]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Amun]:
    """One random network of the shipped structure, but narrower, exported for each tile size; no blend hides a seam."""
    shipped, folder = load_amun_settings(), tmp_path_factory.mktemp("seams")
    narrow = replace(shipped, network=replace(shipped.network, width=8, growth=4))
    checkpoint = random_amun(narrow, scale_factor=SCALE_FACTOR)
    found: dict[int, Amun] = {}
    for tile_px in TILES:
        sized = replace(checkpoint, config=replace(checkpoint.config, tile_px=tile_px, overlap_px=0))
        graphs = amun_graphs(sized)
        if not found:
            write_graph(folder / "context.onnx", graphs["amun_context.onnx"], {})
        write_graph(folder / f"{tile_px}.onnx", graphs["amun.onnx"], {})
        networks = (open_session(folder / name) for name in ("context.onnx", f"{tile_px}.onnx"))
        found[tile_px] = Amun(sized.config, *networks)
    return found


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Random at every pixel, so that the mean gradient is the same everywhere, warmer to one side, with gaps."""
    rng = np.random.default_rng(0)
    shape = (CELLS[0] * SCALE_FACTOR, CELLS[1] * SCALE_FACTOR)
    factors = rng.uniform(0.0, 1.0, (2, *shape)) * np.array([1.0, 1500.0])[:, None, None]
    factors[0, 30:50, 60:90] = np.nan
    fine = 290.0 + np.linspace(0.0, 10.0, shape[1]) + rng.normal(0.0, 3.0, shape)
    coarse = block_mean(fine[None], SCALE_FACTOR)[0]
    coarse[40:44, 70:72] = np.nan
    return coarse.astype(np.float32), factors.astype(np.float32)


@pytest.fixture(scope="module")
def answers(pipelines: dict[int, Amun], scene: Scene) -> dict[int, FloatArray]:
    return {tile_px: pipeline.predict(*scene)["lst"] for tile_px, pipeline in pipelines.items()}


def chunk(scene: Scene, row: int, col: int) -> Scene:
    """The scene from coarse cell (row, col) on."""
    coarse, factors = scene
    top, left, size = SCALE_FACTOR * row, SCALE_FACTOR * col, SCALE_FACTOR * CHUNK_CELLS
    cells = coarse[row : row + CHUNK_CELLS, col : col + CHUNK_CELLS]
    return cells, factors[:, top : top + size, left : left + size]


def shifted_chunks(scene: Scene, pipeline: Amun) -> list[Scene]:
    """Chunks whose tile borders together lie all over the scene."""
    shifts = range(0, pipeline.config.tile_grid.stride_px // SCALE_FACTOR, SHIFT_CELLS)
    return [chunk(scene, shift, shift) for shift in shifts if shift + CHUNK_CELLS <= CELLS[0]]


@pytest.mark.parametrize("tile_px", TILES[1:])
def test_the_size_of_the_tiles_does_not_matter(answers: dict[int, FloatArray], tile_px: int) -> None:
    np.testing.assert_allclose(answers[tile_px], answers[TILES[0]], atol=TOLERANCE_K, rtol=0)


@pytest.mark.parametrize("tile_px", TILES)
@pytest.mark.parametrize("window", [(0, 0, 70, 50), (117, 93, 61, 40), (359, 3, 1, 170), (211, 190, 149, 90)])
def test_the_window_does_not_matter(
    pipelines: dict[int, Amun], scene: Scene, answers: dict[int, FloatArray], tile_px: int, window: tuple[int, ...]
) -> None:
    row, col, height, width = window
    part = pipelines[tile_px].predict(*scene, window=window)["lst"]
    crop = answers[TILES[0]][row : row + height, col : col + width]
    np.testing.assert_allclose(part, crop, atol=TOLERANCE_K, rtol=0)


@pytest.mark.parametrize("tile_px", TILES)
@pytest.mark.parametrize(("row", "col"), [(0, 0), (20, 8), (76, 74)])
def test_chunks_with_the_scenes_context_do_not_matter(
    pipelines: dict[int, Amun], scene: Scene, answers: dict[int, FloatArray], tile_px: int, row: int, col: int
) -> None:
    pipeline = pipelines[tile_px]
    part = pipeline.predict(*chunk(scene, row, col), context=pipeline.context(*scene))["lst"]
    top, left, size = (SCALE_FACTOR * cells for cells in (row, col, CHUNK_CELLS))
    margin = pipeline.config.halo_px + 3 * SCALE_FACTOR
    inner = np.s_[margin : size - margin, margin : size - margin]
    of_scene = answers[TILES[0]][top : top + size, left : left + size]
    np.testing.assert_allclose(part[inner], of_scene[inner], atol=TOLERANCE_K, rtol=0)


def test_every_part_of_the_context_matters(
    pipelines: dict[int, Amun], scene: Scene, answers: dict[int, FloatArray]
) -> None:
    pipeline = pipelines[256]
    context = pipeline.context(*scene)
    for name in set(context) - {"id"}:
        other = {**context, name: context[name][..., ::-1] * np.float32(1.1) + np.float32(0.1)}
        changed = pipeline.predict(*scene, context=other)["lst"]
        assert np.nanmean(np.abs(changed - answers[256])) > 20 * TOLERANCE_K, name


@pytest.mark.parametrize("tile_px", TILES)
def test_the_gradient_across_tile_borders_is_that_elsewhere(
    pipelines: dict[int, Amun], scene: Scene, tile_px: int
) -> None:
    pipeline = pipelines[tile_px]
    context = pipeline.context(*scene)
    chunks = [pipeline.predict(*part, context=context)["lst"] for part in shifted_chunks(scene, pipeline)]
    assert border_gradient_ratio(chunks, pipeline.config.tile_grid) == pytest.approx(1.0, abs=0.02)


def test_tiles_with_contexts_of_their_own_leave_seams(pipelines: dict[int, Amun], scene: Scene) -> None:
    pipeline = pipelines[192]
    own = predict_with_own_contexts(pipeline, *scene)
    made = own - pipeline.predict(*scene)["lst"]
    assert np.nanmax(np.abs(made)) > 100 * TOLERANCE_K
    assert border_gradient_ratio([made], pipeline.config.tile_grid) > 1.05


@pytest.mark.parametrize(("overlap_px", "step_k"), [(0, 0.0), (0, 5.0), (4, 5.0)])
def test_the_ratio_counts_a_step_at_every_border(overlap_px: int, step_k: float) -> None:
    grid = TileGrid(tile_px=20 + overlap_px, halo_px=2, overlap_px=overlap_px, multiple_px=4)
    reach, first_core = overlap_px + 1, grid.halo_px - grid.before_px
    rows, cols = ((np.arange(n) - first_core - overlap_px) // grid.stride_px for n in (100, 120))
    steps = step_k * (rows[:, None] + cols)
    ramp = np.add.outer(np.arange(100.0), np.arange(120.0))
    assert border_gradient_ratio([ramp + steps], grid) == pytest.approx((reach + step_k) / reach)
