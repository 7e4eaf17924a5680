"""Whatever arrives, the answer is a reply or one of our errors: soon, in bounded memory, without a crash."""

import io
import json
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thermoscale import open_bundle
from thermoscale.client import decode_reply
from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.geo.rasters import Raster, encode_geotiff
from thermoscale.service import Service
from thermoscale.testing.bundles import (
    linear_series,
    tiny_amun_config,
    tiny_amun_request,
    write_tiny_amun,
    write_tiny_iustfm,
)
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

SERIES = linear_series()
TIME = SERIES.coarse_time[2]
LIMITS = Limits(max_inflated_bytes=2**22, ratio_free_bytes=2**20, max_pixels=2**16, max_reply_bytes=2**22)
MOST_SECONDS = 5.0  # of processor time; a good request takes 0.02
# GDAL quotes bytes of the file in its messages, and rasterio reports on standard error that it cannot log them as text.
pytestmark = pytest.mark.filterwarnings("ignore:.*rasterio._env.log_error:pytest.PytestUnraisableExceptionWarning")
fuzz = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("bundles")
    return {"amun": write_tiny_amun(where / "amun"), "iustfm": write_tiny_iustfm(where / "iustfm")}


@pytest.fixture(scope="module")
def services(folders: dict[str, Path]) -> dict[str, Service]:
    return {name: open_bundle(folder, limits=LIMITS) for name, folder in folders.items()}


def tif(values: np.ndarray, side: float, names: tuple[str, ...], **tags: str) -> bytes:
    place = (side, 0.0, 500_000.0, 0.0, -side, 5_000_000.0)
    return encode_geotiff(Raster(values.reshape(-1, *values.shape[-2:]), "EPSG:32631", place, names, tags))


def deflated(arrays: dict) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


AMUN = tiny_amun_request(tiny_amun_config())
IUSTFM = {"coarse": SERIES.coarse[2], "time": np.array(TIME)}
GOOD = [
    ("iustfm", {"body": encode_npz(IUSTFM)}),
    ("iustfm", {"body": deflated({**IUSTFM, "window": np.array([4, 4, 9, 9]), "reply": np.array("geotiff")})}),
    ("iustfm", {"body": encode_npz({**SERIES.to_arrays(), "time": TIME})}),
    ("iustfm", {"coarse": tif(IUSTFM["coarse"], 800.0, ("lst",)), "time": TIME.encode(), "encoding": b"uint16"}),
    ("amun", {"body": encode_npz(AMUN)}),
    ("amun", {"coarse": tif(AMUN["coarse"], 800.0, ("lst",)), "factors": tif(AMUN["factors"], 200.0, ("ndvi",))}),
]


def answer_or_refuse(service: Service, parts: dict[str, bytes]) -> None:
    start = time.process_time()
    try:
        reply = service.predict_bytes(parts)
    except ThermoscaleError as error:
        says = str(error)
    else:
        says = f"{decode_reply(reply.body)['lst'].shape}"
    assert says
    assert time.process_time() - start < MOST_SECONDS


def test_the_good_ones_are_answered(services: dict[str, Service]) -> None:
    for name, parts in GOOD:
        assert services[name].predict_bytes(parts).body


@fuzz
@given(st.sampled_from(range(len(GOOD))), st.floats(0, 1, exclude_max=True))
def test_a_truncated_part_is_refused(services: dict[str, Service], good: int, share: float) -> None:
    name, parts = GOOD[good]
    largest = max(parts, key=lambda part: len(parts[part]))
    cut = parts[largest][: int(share * len(parts[largest]))]
    with pytest.raises(InvalidInput):
        services[name].predict_bytes({**parts, largest: cut})


@fuzz
@given(
    st.sampled_from(range(len(GOOD))),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1),
)
def test_flipped_bits_give_a_reply_or_an_error(services: dict[str, Service], good: int, flips: list) -> None:
    name, parts = GOOD[good]
    largest = max(parts, key=lambda part: len(parts[part]))
    body = bytearray(parts[largest])
    for share, bit in flips:
        body[int(share * len(body))] ^= 1 << bit
    answer_or_refuse(services[name], {**parts, largest: bytes(body)})


@fuzz
@given(st.sampled_from(range(len(GOOD))), st.integers(0, 1500), st.binary(min_size=1, max_size=12))
def test_overwritten_headers_give_a_reply_or_an_error(
    services: dict[str, Service], good: int, at: int, patch: bytes
) -> None:
    name, parts = GOOD[good]
    for part, body in parts.items():
        if len(body) > at + len(patch):
            parts = {**parts, part: body[:at] + patch + body[at + len(patch) :]}
    answer_or_refuse(services[name], parts)


KEYS = sorted(
    {"coarse", "time", "window", "mode", "order", "past_only", "min_baseline_k", "suspects", "triples", "factors"}
    | {"factor_names", "context", "reply", "encoding", "request_id", "expires", "ask"}
    | SERIES.to_arrays().keys()
)
TYPES = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i8", "u8", "?", "c8", "U3", ">U2", "S4", "M8[s]"])
VALUES = st.one_of(
    TYPES.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))),
    hnp.arrays("f4", (6, 8), elements=st.floats(150, 400, width=32)),
    st.text(max_size=12).map(np.array),
    st.just(np.zeros(2, "V3")),
    st.sampled_from([np.array(text) for text in (TIME, "adaptive", "[[]]", "1e999", "nan", "9" * 5000, "0,0,9,9")]),
)


@fuzz
@given(st.sampled_from([0, 1, 2, 4]), st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4))
def test_values_of_any_type_and_shape_give_a_reply_or_an_error(
    services: dict[str, Service], good: int, values: dict
) -> None:
    name, parts = GOOD[good]
    stream = io.BytesIO()
    with np.load(io.BytesIO(parts["body"])) as arrays:
        np.savez(stream, **{**arrays, **values})
    if "ask" not in values:
        answer_or_refuse(services[name], {"body": stream.getvalue()})


@fuzz
@given(st.dictionaries(st.sampled_from([*KEYS, "body", "body_file", "_file"]), st.binary(max_size=40), max_size=4))
def test_any_parts_give_a_reply_or_an_error(services: dict[str, Service], parts: dict) -> None:
    for name, good in GOOD:
        answer_or_refuse(services[name], {**good, **parts})


def zipped(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # over names that are there twice
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def npy(shape: str, values: bytes = b"", descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def sparse_tif(bands: int, side: int, block: int = 512) -> bytes:
    profile = {"count": bands, "height": side, "width": side, "dtype": "float32", "sparse_ok": True, "tiled": True}
    profile |= {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0), "nodata": np.nan}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", blockxsize=block, blockysize=block, **profile):
            pass
        return bytes(memory.read())


def overlapping(n_entries: int) -> bytes:
    """Directory entries of different names that all point to one compressed member of zeros."""
    one = zipped(("a.npy", npy("(1000000,)", bytes(4 * 10**6))))
    start = one.index(b"PK\x01\x02")
    entry, local = one[start : one.index(b"PK\x05\x06")], one[:start]
    directory = b"".join(entry.replace(b"a.npy", b"%c.npy" % (ord("a") + n)) for n in range(n_entries))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, n_entries, n_entries, len(directory), start, 0)
    return local + directory + end


def bombs() -> dict[str, dict[str, bytes]]:
    zeros, inner = bytes(60 * 2**20), zipped(("coarse.npy", npy("(1,)", bytes(4))))
    for _ in range(20):
        inner = zipped(("coarse.npy", inner))
    liar = zipped(("coarse.npy", zeros)).replace(struct.pack("<I", len(zeros)), struct.pack("<I", 1000))
    npzs = {
        "zeros": zipped(("coarse.npy", zeros)),
        "zeros that lie": liar,
        "many zeros": zipped(*((f"a{n}.npy", zeros[: 2**20]) for n in range(64))),
        "overlapping": overlapping(20),
        "nested": inner,
        "npz in npz": zipped(("coarse.npy", GOOD[0][1]["body"])),
        "huge shape": zipped(("coarse.npy", npy("(2000000000, 2000000000)"))),
        "huge shape of nothing": zipped(("coarse.npy", npy("(0, 2000000000)"))),
        "huge item": zipped(("coarse.npy", npy("(1,)", descr="'<U500000000'"))),
        "deep header": zipped(("coarse.npy", npy("(" * 2000))),
        "long header": zipped(("coarse.npy", npy("(1,)" + " " * 60_000))),
        "long number": zipped(("coarse.npy", npy("(" + "9" * 3900 + ",)"))),
        "many entries": zipped(*((f"a{n}.npy", b"") for n in range(3000))),
        "same names": zipped(("coarse.npy", b""), ("coarse.npy", b"")),
        "long text": encode_npz({**IUSTFM, "time": "9" * 10**6}),
        "deep json": encode_npz({**IUSTFM, "triples": "[" * 10**6}),
        "gzip": zlib.compress(zeros),
    }
    parts = {name: {"body": body} for name, body in npzs.items()}
    parts |= {f"tif {side}": {"body": sparse_tif(1, side), "time": TIME.encode()} for side in (1000, 30_000)}
    parts["tif blocks"] = {"body": sparse_tif(1, 64, 16384), "time": TIME.encode()}
    parts["tif bands"] = {"body": sparse_tif(1000, 600), "time": TIME.encode()}
    parts["tif factors"] = {"coarse": GOOD[5][1]["coarse"], "factors": sparse_tif(60, 8000)}
    parts["many parts"] = {f"p{n}": npzs["nested"] for n in range(1000)}
    return parts


MEASURE = """
import json, pickle, resource, sys, time
from thermoscale import open_bundle
from thermoscale.errors import ThermoscaleError

services, bombs = [open_bundle(folder) for folder in sys.argv[2:]], pickle.load(open(sys.argv[1], "rb"))

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

for service in services:
    service.predict_bytes({"body": service.golden_request()})
    service.predict_bytes({"body": service.golden_request(), "reply": b"geotiff"})
worst, before = {}, peak_mb()
for name, parts in bombs.items():
    for service in services:
        start = time.process_time()
        try:
            service.predict_bytes(parts)
        except ThermoscaleError as error:
            worst[name] = [type(error).__name__, time.process_time() - start, peak_mb() - before]
        else:
            worst[name] = ["answered", 0.0, 0.0]
            break
print(json.dumps(worst))
"""


def test_bombs_are_refused_soon_and_in_little_memory(folders: dict[str, Path], tmp_path: Path) -> None:
    """With the limits of a server, in a process of its own, whose memory counts what zlib and GDAL take, too."""
    import pickle

    (tmp_path / "bombs").write_bytes(pickle.dumps(bombs()))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "bombs"), *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name, (kind, seconds, more_mb) in json.loads(done.stdout).items():
        assert kind == "InvalidInput", name
        assert seconds < MOST_SECONDS, name
        assert more_mb < 100, name
