"""Throughput of the served AMUN pipeline against its own networks, and of the networks against the machine.

    .venv/bin/python tests/benchmarks/bench_amun.py [--threads 2] [--repeat 7] [--side 384] [--without-compile]

One JSON object on standard output, progress on standard error. The network has the shipped structure and random
weights. Every round times everything in turn and the best round counts; all ratios are of one run. ``*_cpu`` compares
processor time, which other people's work disturbs less than the clock:

- ``pipeline`` answers a scene whose context is known, ``pipeline_with_context`` one never seen before, ``session``
  runs the same tiles, cut before, through onnxruntime alone. Halo and overlap are in both, so neither pays for them;
  ``kept_share`` says which part of the tiles' pixels becomes the answer.
- ``matmul_*`` is onnxruntime's product of two square matrices: the best size is the machine's peak.
- ``tile_*`` is one tile by onnxruntime, torch and torch.compile.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from measuring import measure, say
from onnx_flops import flops

from thermoscale.arrays import Array
from thermoscale.numerics.tiling import read_tile, tile_windows
from thermoscale.pipelines.amun import Amun, prepare_tile_inputs
from thermoscale.pipelines.amun_config import VIEW_COUNTS
from thermoscale.runtime.ort import open_session
from thermoscale.testing.worlds import make_pairs
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.config import load_amun_settings
from thermoscale_train.networks import amun_tile
from thermoscale_train.onnx_graphs import OPSET, amun_graphs, write_graph
from thermoscale_train.random_amun import random_amun

GOAL = 0.95
SCALE_FACTOR = 4
MATMUL_SIDES = (512, 1024, 2048)
SAME_ANSWER_K = 1e-3

Feed = dict[str, Array]


def raw_session(path: Path, threads: int) -> Callable[[Feed], list[Array]]:
    """The graph in onnxruntime with nothing of ours around it, under the options that the service uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)  # type: ignore[no-any-return]


def tile_feeds(pipeline: Amun, coarse: Array, factors: Array, context: dict[str, Array]) -> list[Feed]:
    """What the tile network is given for this scene."""
    parts = prepare_tile_inputs(pipeline.config, coarse, factors)
    grid, shape = pipeline.config.tile_grid, parts[0].shape[1:]
    given = {name: value for name, value in context.items() if name != "id"}
    names = ("coarse", "factors", "valid")
    return [
        {**{name: read_tile(part, corner, grid)[None] for name, part in zip(names, parts, strict=True)}, **given}
        for corner in tile_windows((shape[0], shape[1]), grid)
    ]


def matmul_tasks(folder: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """Products of square matrices."""
    tasks: dict[str, Callable[[], Any]] = {}
    for side in MATMUL_SIDES:
        tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [side, side]) for name in "abc"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])], "bench", tensors[:2], tensors[2:]
        )
        opset = [onnx.helper.make_opsetid("", OPSET)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), folder / f"{side}.onnx")
        session, values = raw_session(folder / f"{side}.onnx", threads), np.ones((side, side), np.float32)
        tasks[f"matmul_{side}"] = lambda session=session, values=values: session({"a": values, "b": values})
    return tasks


def torch_tasks(
    checkpoint: AmunCheckpoint, feed: Feed, expected: Array, threads: int, compiled: bool
) -> tuple[dict[str, Callable[[], Any]], str | None]:
    """One tile by torch and by torch.compile, and why the second cannot run."""
    torch.set_num_threads(threads)
    function, tensors = amun_tile(checkpoint.build()), [torch.from_numpy(value) for value in feed.values()]

    def task(call: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return call(*tensors)

        np.testing.assert_allclose(run()[0].numpy(), expected, atol=SAME_ANSWER_K, rtol=0)
        return run

    tasks: dict[str, Callable[[], Any]] = {"tile_torch": task(function)}
    if not compiled:
        return tasks, "not asked for"
    try:
        say("torch.compile")
        tasks["tile_torch_compile"] = task(torch.compile(function))
    except RuntimeError as error:
        return tasks, str(error).splitlines()[0]
    return tasks, None


def run(threads: int, repeat: int, side: int, views: int, compiled: bool, folder: Path) -> dict[str, Any]:
    """Everything, as one JSON object."""
    one_view = random_amun(load_amun_settings(), scale_factor=SCALE_FACTOR)
    checkpoint = replace(one_view, config=replace(one_view.config, views=views))
    for name, graph in amun_graphs(checkpoint).items():
        say(f"export {name}")
        write_graph(folder / name, graph, {})
    networks = (open_session(folder / name, threads=threads) for name in ("amun_context.onnx", "amun.onnx"))
    pipeline, session = Amun(checkpoint.config, *networks), raw_session(folder / "amun.onnx", threads)
    cells = side // SCALE_FACTOR
    pairs = make_pairs(1, n_grounds=1, scenes_per_ground=1, coarse_shape=(cells, cells), scale_factor=SCALE_FACTOR)
    assert pairs.factors is not None
    coarse, factors = pairs.coarse[0], pairs.factors[0]
    context = pipeline.context(coarse, factors)
    feeds = tile_feeds(pipeline, coarse, factors, context)
    of_torch, no_compile = torch_tasks(checkpoint, feeds[0], session(feeds[0])[0], threads, compiled)
    tasks: dict[str, Callable[[], Any]] = {
        "session": lambda: [session(feed) for feed in feeds],
        "pipeline": lambda: pipeline.predict(coarse, factors, context=context),
        "pipeline_with_context": lambda: pipeline.predict(coarse, factors),
        "tile_onnxruntime": lambda: session(feeds[0]),
        **of_torch,
        **matmul_tasks(folder, threads),
    }
    timings = measure(tasks, repeat)
    tile_flops = flops(folder / "amun.onnx")
    best, cpu = ({name: timing[key] for name, timing in timings.items()} for key in ("s", "cpu_s"))
    matmul, matmul_cpu = (max(2 * n**3 / took[f"matmul_{n}"] for n in MATMUL_SIDES) for took in (best, cpu))
    shares = {
        name: {"share": best["session"] / best[name], "share_of_cpu": cpu["session"] / cpu[name]}
        for name in ("pipeline", "pipeline_with_context")
    }
    grid = checkpoint.config.tile_grid
    return {
        "schema_version": 1,
        "setting": {
            "side_px": side,
            "views": views,
            "tiles": len(feeds),
            "grid": vars(grid),
            "threads": threads,
            "repeat": repeat,
        },
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "onnxruntime": onnxruntime.__version__},
        "timings": timings,
        "goals": {name: {"goal": GOAL, **share, "reached": share["share"] >= GOAL} for name, share in shares.items()},
        "kept_share": side**2 / (len(feeds) * grid.tile_px**2),
        "megapixels_per_s": side**2 / best["pipeline"] / 1e6,
        "tile_gflop": tile_flops / 1e9,
        "session_gflop_per_s": tile_flops * len(feeds) / best["session"] / 1e9,
        "matmul_gflop_per_s": matmul / 1e9,
        "share_of_matmul": tile_flops * len(feeds) / best["session"] / matmul,
        "share_of_matmul_cpu": tile_flops * len(feeds) / cpu["session"] / matmul_cpu,
        "times_onnxruntime": {name: best[name] / best["tile_onnxruntime"] for name in of_torch},
        "no_torch_compile": no_compile,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7, help="rounds; the best one counts")
    parser.add_argument("--side", type=int, default=384, help="fine pixels of the scene")
    parser.add_argument("--views", type=int, default=1, choices=VIEW_COUNTS, help="of the network on each tile")
    parser.add_argument("--without-compile", action="store_true", help="leave out torch.compile, which takes a minute")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(args.threads, args.repeat, args.side, args.views, not args.without_compile, Path(folder))
    say("")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
