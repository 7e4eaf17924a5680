"""Archives for the benchmark of serving: the echo, and bundles of real sizes with random weights."""

import json
import zipfile
from pathlib import Path

import numpy as np
from networks import open_networks
from places import SEASONS, TARGET, make_case

from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden
from thermoscale.bundle.write import write_bundle
from thermoscale.pipelines.iustfm import Iustfm
from thermoscale.pipelines.region import REGION_NAMES
from thermoscale.release.mar import pack
from thermoscale.testing.bundles import write_tiny_amun

ECHO = "echo"
VERSION = "0.0.1"
LIGHT_TILE_PX = 416


def pack_echo(store: Path) -> Path:
    """``echo.mar``: one file, no code of ours."""
    path = store / f"{ECHO}.mar"
    model = {"modelName": ECHO, "handler": "echo_handler.py", "modelVersion": VERSION}
    manifest = {"createdOn": "", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(Path(__file__).with_name("echo_handler.py"), "echo_handler.py")
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return path


def pack_iustfm(folder: Path, store: Path, side: int) -> Path:
    """A place of ``side`` x ``side`` fine pixels, seven dates, networks of the published sizes."""
    work = folder / "iustfm"
    work.mkdir()
    networks = open_networks(work, threads=1)
    case = make_case(side, SEASONS, 4, 0.0, work / "region")
    window = np.array([0, 0, 64, 64])
    golden = Iustfm(case.config, case.region, *networks).predict(case.coarse, TARGET, window=tuple(window.tolist()))
    outputs = {name: value for name, value in golden.items() if isinstance(value, np.ndarray)}
    inputs = {"coarse": case.coarse, "time": TARGET, "window": window}
    graphs = {f"{name}.onnx": work / f"{name}.onnx" for name in ("dynet", "ratio_net")}
    region = {f"region/{name}.npy": work / "region" / f"{name}.npy" for name in REGION_NAMES}
    bundle = write_bundle(
        folder / "iustfm-bundle",
        pipeline="iustfm",
        version=VERSION,
        quantity=case.config.quantity,
        sky="clear-sky",
        config=case.config.to_json(),
        training={"source": "random weights"},
        metrics={},
        versions={"numpy": np.__version__},
        contents={**graphs, **region, GOLDEN_NAME: encode_golden(inputs, outputs)},
    )
    return pack(bundle, store)


def write_amun(folder: Path) -> Path:
    """The bundle of the shipped structure with random weights, two factors, scale factor 4."""
    from thermoscale_train.config import load_amun_settings
    from thermoscale_train.export import export_amun
    from thermoscale_train.random_amun import random_amun

    return export_amun(random_amun(load_amun_settings()), folder / "amun-bundle", version=VERSION)


def pack_light_amun(folder: Path, store: Path) -> Path:
    """Two factors, scale factor 4, the shipped tiles, and networks that compute next to nothing."""
    bundle = write_tiny_amun(
        folder / "light-bundle", version=VERSION, factor_names=("ndvi", "elevation"), tile_px=LIGHT_TILE_PX
    )
    return pack(bundle, store)
