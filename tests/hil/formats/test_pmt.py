"""PMT against bytes that GNU Radio 3.10.5.1 made (vectors/pmt_gnuradio.json), and against bytes that are none."""

import contextlib
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import WireError
from hil.formats import gr_zeromq, pmt
from hil.formats.gr_zeromq import Tag
from hil.formats.pmt import Pair, Uint64

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "pmt_gnuradio.json").read_text())["cases"]
META = {"b": 2.5, "a": 3}
VALUES = {
    "true": True, "false": False, "nil": None, "symbol": "hello", "int": -5, "int64": 2**40,
    "double": 1.5, "complex": 1 + 2j, "pair": Pair(1, 2), "list": Pair(1, Pair(2, Pair(3, None))), "dict": META,
    "uint64": Uint64(2**63 + 5), "vector": [7, 7], "tuple": (Uint64(5), 0.25), "empty_dict": None,
    "pdu": Pair(META, np.array([1 + 2j, 3j], np.complex64)), "pdu_nil": Pair(None, np.array([1, 2, 3], np.uint8)),
    "u8": np.array([1, 255], "u1"), "s8": np.array([1, -2], "i1"), "u16": np.array([9], "u2"),
    "s16": np.array([1, -2], "i2"), "u32": np.array([9], "u4"), "s32": np.array([-9], "i4"), "u64": np.array([9], "u8"),
    "s64": np.array([-9], "i8"), "f32": np.array([1, 2], "f4"), "f64": np.array([9], "f8"),
    "c32": np.array([1j], "c8"), "c64": np.array([9j], "c16"),
}  # fmt: skip


def same(a, b):
    if isinstance(b, Pair):
        return isinstance(a, Pair) and same(a.car, b.car) and same(a.cdr, b.cdr)
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("name", VECTORS)
def test_bytes_that_gnu_radio_made(name):
    data = bytes.fromhex(VECTORS[name])
    value, end = pmt.decode(data)
    assert end == len(data)
    assert same(value, VALUES[name])
    assert pmt.encode(value) == data


def test_every_case_has_a_vector():
    assert set(VECTORS) == set(VALUES)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=20),
    st.complex_numbers(allow_nan=False),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=4),
        st.tuples(inner, inner).map(lambda two: Pair(*two)),
    ),
    max_leaves=12,
)


@given(values, st.binary(max_size=10))
def test_there_and_back(value, before):
    data = pmt.encode(value)
    assert pmt.decode(before + data, len(before)) == (value, len(before) + len(data))


@pytest.mark.parametrize(
    "value", [object(), np.zeros((2, 2)), np.zeros(1, bool), 2**64, "x" * 70_000, {1: {2: object()}}]
)
def test_what_pmt_has_nothing_for(value):
    with pytest.raises(WireError, match="pmt:"):
        pmt.encode(value)


def test_limits():
    nested = [1]
    for _ in range(40):
        nested = [nested]
    with pytest.raises(WireError, match="deeper"):
        pmt.encode(nested)
    with pytest.raises(WireError, match="deeper"):
        pmt.decode(bytes([pmt.VECTOR, 0, 0, 0, 1]) * 100 + bytes([pmt.NIL]))
    with pytest.raises(WireError, match="chain"):
        pmt.decode(bytes([pmt.PAIR, pmt.NIL]) * 5000 + bytes([pmt.NIL]))
    with pytest.raises(WireError, match="announced"):
        pmt.decode(struct.pack(">BBIBx", pmt.UNIFORM, 10, 2**31, 1))
    with pytest.raises(WireError, match="announced"):
        pmt.decode(struct.pack(">BI", pmt.VECTOR, 2**31))
    with pytest.raises(WireError, match="key of a dict"):
        pmt.decode(bytes([pmt.DICT]) + pmt.encode(Pair([1], 2)) + bytes([pmt.NIL]))
    with pytest.raises(WireError, match="ends within"):
        pmt.decode(b"")


# -- tags ------------------------------------------------------------------------------------------------------------


def test_bytes_of_a_header_with_tags():
    tags = [Tag(7, "rx_freq", 2.5), Tag(9, "x", None, "me")]
    expected = bytes.fromhex("f05f 01 0500000000000000 0200000000000000")
    expected += struct.pack("<Q", 7) + b"\x02\x00\x07rx_freq" + b"\x04" + struct.pack(">d", 2.5) + b"\x01"
    expected += struct.pack("<Q", 9) + b"\x02\x00\x01x" + b"\x06" + b"\x02\x00\x02me"
    assert gr_zeromq.encode_tags(5, tags) == expected
    assert gr_zeromq.decode_tags(expected + b"items") == (5, tuple(tags), len(expected))
    assert gr_zeromq.HEAD_BYTES == 19


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xf0\x5f\x01", "at least 19 bytes"),
        (bytes(30), "begins with 0x5FF0"),
        (struct.pack("<HBQQ", 0x5FF0, 2, 0, 0), "version 1"),
        (struct.pack("<HBQQ", 0x5FF0, 1, 0, 2**40), "tags in 19 bytes"),
        (struct.pack("<HBQQ", 0x5FF0, 1, 0, 2) + bytes(4), "ends after 0"),
        (struct.pack("<HBQQQ", 0x5FF0, 1, 0, 1, 0) + b"\x06\x06\x06", "key of a tag"),
    ],
)
def test_headers_that_are_none(data, why):
    with pytest.raises(WireError, match=why):
        gr_zeromq.decode_tags(data)


def test_ten_thousand_damaged_messages():
    rng = random.Random(1)
    wholes = [bytes.fromhex(v) for v in VECTORS.values()]
    tagged = gr_zeromq.encode_tags(5, [Tag(7, "rx_time", (Uint64(5), 0.5)), Tag(9, "rx_freq", 1e9, "radio")])
    for n in range(10_000):
        wire = bytearray(rng.choice(wholes) if n % 2 else tagged)
        for _ in range(rng.randint(1, 4)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        data = bytes(wire[: rng.randint(0, len(wire) + 5)])
        with contextlib.suppress(WireError):
            pmt.decode(data) if n % 2 else gr_zeromq.decode_tags(data)
