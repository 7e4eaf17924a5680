"""Bodies that somebody sends by mistake or in bad faith, made from a good one; all from a seed."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator

from drills.oracle import Case
from thermoscale.geo.rasters import Raster, encode_geotiff
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz

_BOMB_BYTES = 300 * 2**20
_PLACE = (400.0, 0.0, 5e5, 0.0, -400.0, 5e6)


def malformed_cases(good: list[Case], count: int, seed: int) -> Iterator[Case]:
    """``count`` bodies, every kind in turn; some are harmless after all and deserve their answer."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        case = good[int(rng.integers(len(good)))]
        yield Case(case.model, _KINDS[number % len(_KINDS)](rng, case.body))


def truncated(rng: Generator, body: bytes) -> bytes:
    return body[: int(rng.integers(len(body)))]


def flipped(rng: Generator, body: bytes) -> bytes:
    """One to twenty bits, anywhere."""
    changed = bytearray(body)
    for place in rng.integers(len(body), size=int(rng.integers(1, 21))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def spliced(rng: Generator, body: bytes) -> bytes:
    """A piece replaced by random bytes of another length."""
    start, end = sorted(int(place) for place in rng.integers(len(body), size=2))
    return body[:start] + rng.bytes(int(rng.integers(1, 500))) + body[end:]


def random_bytes(rng: Generator, body: bytes) -> bytes:
    """Often with the first bytes of a format."""
    begin = (b"", b"PK\x03\x04", b"II*\x00", b"MM\x00*", b"\x93NUMPY", b"{")[int(rng.integers(6))]
    return begin + rng.bytes(int(rng.integers(0, 3000)))


def wrong_type(rng: Generator, body: bytes) -> bytes:
    """One array as text, complex numbers, dates, bools, halves, big-endian, records or nothing at all."""
    kinds: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        lambda array: array.astype("U8"),
        lambda array: array.astype(np.complex64),
        lambda array: np.zeros(array.shape, "datetime64[s]"),
        lambda array: np.zeros(array.shape, bool),
        lambda array: np.zeros(array.shape, np.float16),
        lambda array: np.zeros(array.shape, ">f8"),
        lambda array: np.zeros(array.shape, [("a", "f4"), ("b", "i4")]),
        lambda array: array[..., np.newaxis],
        lambda _: np.array(290, np.float32),
        lambda array: np.full(array.shape, -9999.0, np.float32),
        lambda array: np.full(array.shape, np.inf, np.float32),
        lambda _: np.zeros((0, 5), np.float32),
    )
    return _with_coarse(body, kinds[int(rng.integers(len(kinds)))])


def wrong_header(rng: Generator, body: bytes) -> bytes:
    """An array whose header promises another shape, order or type, or is 100 kB long."""
    headers = (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}",
        "{'descr': '<f4', 'fortran_order': 7, 'shape': (12, 16)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'shape': (" + "1," * 50_000 + ")}",
        "[" * 5_000,
        "__import__('os').getpid()",
    )
    header = headers[int(rng.integers(len(headers)))].encode()
    version = int(rng.integers(1, 4))
    length = struct.pack("<H" if version == 1 else "<I", min(len(header), 65535 if version == 1 else len(header)))
    return _zip({"coarse.npy": b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(768)})


def bomb(rng: Generator, body: bytes) -> bytes:
    """Inflates a thousandfold, in one member, in many, or in a zip inside a zip."""
    shape = int(rng.integers(3))
    if shape == 0:
        return _BOMB
    if shape == 1:
        return _zip({f"a{number}.npy": b"" for number in range(int(rng.integers(65, 3000)))})
    return _zip({"coarse.npy": _BOMB, "time.npy": _BOMB})


def odd_zip(rng: Generator, body: bytes) -> bytes:
    """Members twice, in folders, outside, with odd names, encrypted, or compressed in a way that nobody expects."""
    kind = int(rng.integers(5))
    if kind == 0:
        return _flag_encrypted(body)
    if kind == 1:
        return _zip({"coarse.npy": b"x" * 1000}, zipfile.ZIP_LZMA)
    names = (["../../coarse.npy"], ["coarse.npy", "coarse.NPY"], ["größe.npy", ".npy"])[kind - 2]
    return _zip(dict.fromkeys(names, b"\x93NUMPY"))


def geotiff(rng: Generator, body: bytes) -> bytes:
    """A GeoTIFF of the wrong place, cut or with flipped bits."""
    whole = encode_geotiff(Raster(np.full((1, 12, 16), 290, np.float32), "EPSG:32631", _PLACE, ("coarse",), {}))
    return (truncated, flipped, lambda _, same: same)[int(rng.integers(3))](rng, whole)


_KINDS = (truncated, flipped, spliced, random_bytes, wrong_type, wrong_header, bomb, odd_zip, geotiff)


def _with_coarse(body: bytes, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    arrays = decode_npz(body, Limits())
    changed: dict[str, Any] = {**arrays, "coarse": change(arrays["coarse"])}
    stream = io.BytesIO()
    np.savez(stream, **changed)
    return stream.getvalue()


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _flag_encrypted(body: bytes) -> bytes:
    changed = bytearray(body)
    place = changed.rfind(b"PK\x01\x02")
    changed[place + 8] |= 1
    return bytes(changed)


def _zeros() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("coarse.npy", "w") as member:
        for _ in range(_BOMB_BYTES // 2**20):
            member.write(bytes(2**20))
    return stream.getvalue()


_BOMB = _zeros()
