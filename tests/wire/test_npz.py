"""Bodies from the wire: whatever the bytes are, they give arrays or InvalidInput."""

import io
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thermoscale.errors import InvalidInput
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import _directory, decode_npz, encode_npz, json_of, text_of

LIMITS = Limits()
SMALL = Limits(max_inflated_bytes=2**20, ratio_free_bytes=2**16, max_arrays=4)
DTYPES = st.sampled_from([np.dtype(t) for t in ("f4", "f8", ">f4", "f2", "u1", "i4", ">i8", "u2", "?", "U3", ">U2")])
UNICODE = {"alphabet": st.characters(codec="utf-8")}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES, elements=UNICODE))
NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z")
BODY = encode_npz(
    {"coarse": np.arange(20, dtype=np.float32).reshape(4, 5), "time": "2020-10-02", "window": np.arange(4)}
)


def zipped(**members: bytes) -> bytes:
    """A deflated zip of ``<name>.npy`` members with exactly these bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(header: str, values: bytes = b"") -> bytes:
    """A .npy of version 1 with any header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + values


def decode_or_refuse(body: bytes) -> dict[str, np.ndarray] | None:
    try:
        return decode_npz(body, SMALL)
    except InvalidInput:
        return None


@given(st.dictionaries(NAMES, ARRAYS, max_size=4))
@settings(deadline=None, max_examples=50)
def test_decode_after_encode_gives_the_same_arrays(arrays):
    got = decode_npz(encode_npz(arrays), LIMITS)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype.newbyteorder("=")
        assert got[name].shape == array.shape
        assert got[name].flags.owndata


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_refused_or_give_arrays(body):
    decode_or_refuse(body)


@given(
    st.binary(max_size=200),
    st.text(alphabet="{}()[]'\"descr:fortran_orderTrueFalseshape,<>fUO48 0123456789\\", max_size=80),
)
@settings(deadline=None, max_examples=100)
def test_any_member_is_refused_or_gives_an_array(values, header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the Python parser, over odd literals
        decode_or_refuse(zipped(x=npy(header, values)))
    decode_or_refuse(zipped(x=values))


@given(
    st.sampled_from(["<f4", "|u1", "<U1", "<i8", "|b1", "<c8", "|O", "<M8[s]", "V8", "<f4,<f4", "", "<U0", "|S3"]),
    hnp.array_shapes(max_side=2**40),
    st.binary(max_size=64),
)
@settings(deadline=None, max_examples=100)
def test_any_type_and_shape_is_refused_or_fits_the_bytes(descr, shape, values):
    body = zipped(x=npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}", values))
    got = decode_or_refuse(body)
    assert got is None or got["x"].nbytes == len(values)


@given(st.integers(0, len(BODY) - 1))
@settings(deadline=None, max_examples=50)
def test_a_truncated_body_is_refused(length):
    with pytest.raises(InvalidInput, match=r"npz"):
        decode_npz(BODY[:length], LIMITS)


@given(st.integers(0, len(BODY) * 8 - 1))
@settings(deadline=None, max_examples=200)
def test_a_flipped_bit_is_refused_or_leaves_every_value_as_it_was(bit):
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    got = decode_or_refuse(bytes(changed))
    if got is not None:
        whole = [array.tobytes() for array in decode_npz(BODY, LIMITS).values()]
        assert all(array.tobytes() in whole for array in got.values())  # a name may change, a value never


def test_arrays_in_fortran_order_keep_their_values():
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    np.testing.assert_array_equal(decode_npz(encode_npz({"x": array}), LIMITS)["x"], array)


def test_compressed_bodies_are_read_too():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(5))
    np.testing.assert_array_equal(decode_npz(stream.getvalue(), LIMITS)["x"], np.arange(5))


def test_text_and_dicts_travel_as_text():
    got = decode_npz(
        encode_npz({"time": "2020-10-02T18:30Z", "meta": {"unit": "K", "n": None, "name": "Zürich"}}), LIMITS
    )
    assert text_of("time", got["time"]) == "2020-10-02T18:30Z"
    assert json_of("meta", got["meta"]) == {"unit": "K", "n": None, "name": "Zürich"}


def test_a_pickled_member_is_refused_and_its_code_does_not_run():
    class Attack:
        def __reduce__(self):
            return pytest.fail, ("the pickle was loaded",)

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(
            "coarse.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}", pickle.dumps(Attack()))
        )
    with pytest.raises(InvalidInput, match="never unpickled"):
        decode_npz(stream.getvalue(), LIMITS)


def test_an_object_array_of_numpy_is_refused():
    stream = io.BytesIO()
    np.savez(stream, coarse=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match=r"coarse.*never unpickled"):
        decode_npz(stream.getvalue(), LIMITS)


def test_a_bare_pickle_is_refused():
    with pytest.raises(InvalidInput, match=r"not a complete \.npz"):
        decode_npz(pickle.dumps({"coarse": [1.0]}), LIMITS)


def test_a_zip_bomb_is_refused_by_its_declared_size_without_inflating_it():
    body = zipped(coarse=bytes(64 * 2**20))
    assert len(body) < 2**17
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="inflates from"):
        decode_npz(body, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_zip_bomb_that_lies_about_its_size_is_not_inflated_beyond_it():
    body = bytearray(zipped(coarse=bytes(64 * 2**20)))
    real, claimed = struct.pack("<I", 64 * 2**20), struct.pack("<I", 1000)
    assert body.count(real) == 2  # local header and directory
    body = bytes(body).replace(real, claimed)
    tracemalloc.start()
    with pytest.raises(InvalidInput):
        decode_npz(body, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_body_that_inflates_too_many_times_is_refused_even_below_the_size_limit():
    with pytest.raises(InvalidInput, match=r"more than 200 times.*uncompressed"):
        decode_npz(zipped(coarse=bytes(2**19)), SMALL)


def test_an_empty_scene_that_is_small_may_inflate_any_number_of_times():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.full((100, 100), np.nan, np.float32))
    assert np.isnan(decode_npz(stream.getvalue(), SMALL)["x"]).all()


def test_a_header_that_claims_a_huge_shape_is_refused_before_memory_is_taken():
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}"
    with pytest.raises(InvalidInput, match=r"claims shape .* 4000000000000 bytes, but 16 are there"):
        decode_npz(zipped(coarse=npy(header, bytes(16))), LIMITS)


def test_a_header_that_is_itself_huge_is_refused():
    with pytest.raises(InvalidInput, match="header of 60000 bytes"):
        decode_npz(zipped(coarse=npy("{" + " " * 59_998 + "}")), LIMITS)


def test_text_of_characters_that_do_not_exist_is_refused():
    header = "{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}"
    for character in (0x110000, 0xFFFFFFFF, 0xD800):
        with pytest.raises(InvalidInput, match="Unicode"):
            decode_npz(zipped(x=npy(header, struct.pack("<I", character))), LIMITS)


def test_a_body_above_the_size_limit_is_refused():
    with pytest.raises(InvalidInput, match="at most 10 are allowed"):
        decode_npz(BODY, Limits(max_body_bytes=10))


def test_too_many_arrays_are_refused():
    with pytest.raises(InvalidInput, match="holds 5 arrays, at most 4"):
        decode_npz(encode_npz({f"a{i}": np.zeros(1) for i in range(5)}), SMALL)


@pytest.mark.parametrize(("entries", "comment"), [(2000, b""), (2000, b"a comment"), (2**16, b"")])
def test_a_directory_of_very_many_entries_is_refused_before_it_is_read(entries, comment, monkeypatch):
    """However it is found: by a plain end record, one with a comment, or a zip64 one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = comment
        for number in range(entries):
            archive.writestr(f"a{number}.npy", b"")
    monkeypatch.delattr(zipfile, "ZipFile")
    with pytest.raises(InvalidInput, match="far more than the 4 arrays"):
        decode_npz(stream.getvalue(), SMALL)


@given(
    st.binary(max_size=30),
    st.lists(st.tuples(st.integers(1, 90), st.integers(0, 255)), max_size=6),
    st.binary(max_size=30),
)
def test_no_damage_hides_an_entry_from_the_count(before, changes, after):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(5):
            archive.writestr(f"a{number}.npy", b"")
    body = bytearray(stream.getvalue())
    for place, value in changes:
        body[-place] = value
    body = before + bytes(body) + after
    try:
        entries = len(zipfile.ZipFile(io.BytesIO(body)).infolist())
    except Exception:
        return
    assert _directory(body).count(b"PK\x01\x02") >= entries


@pytest.mark.parametrize("name", ["../x.npy", "x.txt", "1x.npy", "a/b.npy", "é.npy", "x.npy\n", "x" * 80 + ".npy"])
def test_members_with_other_names_are_refused(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4)))
    with pytest.raises(InvalidInput, match="needed distinct members"):
        decode_npz(stream.getvalue(), LIMITS)


def test_a_member_that_is_there_twice_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", b"1")
        archive.writestr("x.npy", b"2")
    with pytest.raises(InvalidInput, match="distinct"):
        decode_npz(stream.getvalue(), LIMITS)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_cannot_be_bounded_are_refused(method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("x.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4)))
    with pytest.raises(InvalidInput, match="stored or deflated"):
        decode_npz(stream.getvalue(), LIMITS)


def test_an_empty_body_names_the_header_that_curl_needs():
    with pytest.raises(InvalidInput, match="Content-Type: application/octet-stream"):
        decode_npz(b"", LIMITS)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array([1j]), np.array(["2020"], "M8[s]"), {"a": float("nan")}]
)
def test_values_that_would_need_pickle_or_are_no_json_are_not_encoded(value):
    with pytest.raises(InvalidInput, match=r"^x "):
        encode_npz({"x": value})


def test_names_that_are_no_identifier_are_not_encoded():
    with pytest.raises(InvalidInput, match="not a name"):
        encode_npz({"a-b": np.zeros(1)})


def test_text_is_asked_for_where_numbers_are():
    with pytest.raises(InvalidInput, match=r"time is float64 \[2\], needed one text"):
        text_of("time", np.zeros(2))


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[1]", "a JSON list"), ("[" * 100_000, "not JSON")])
def test_json_that_is_no_object_is_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        json_of("meta", np.array(text))
