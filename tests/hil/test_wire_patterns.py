"""A header whose like was read before reads as if it were the first."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil import wire
from hil.errors import WireError
from hil.frame import ArraySpec, Header

COUNT = st.integers(0, (1 << 63) - 1) | st.integers(120, 300)
ARRAYS = (ArraySpec("iq", "complex64", (4, 8), ("sensor", "snapshot"), "FS"),)


def header(seq, start, time_ns, host_ns, stream):
    return Header(
        stream=stream,
        seq=seq,
        sample_start=start,
        time_ns=time_ns,
        timebase=None if time_ns is None else "utc",
        host_time_ns=host_ns,
        arrays=ARRAYS,
    )


HEADERS = st.builds(
    header,
    COUNT,
    st.none() | COUNT,
    st.none() | COUNT | st.integers(-(1 << 63), -1),
    st.none() | COUNT,
    st.sampled_from(["sim.iq", "£seq\u00a3epoch"]),
)


def read(data):
    try:
        return wire.decode_header(data)
    except WireError as error:
        return str(error)


def read_afresh(data):
    wire._patterns.clear()
    wire._known_arrays.clear()
    return read(data)


@settings(deadline=None)
@given(st.lists(HEADERS, min_size=2, max_size=6))
def test_headers_are_read_as_they_were_written(headers):
    wire._patterns.clear()
    for _ in range(2):
        for h in headers:
            assert wire.decode_header(wire.encode_header(h)) == h


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_changes_no_answer(seed):
    rng = random.Random(seed)
    first = header(1000, 64000, 1_700_000_000_000_000_000, 1_700_000_000_000_000_000, "sim.iq")
    data = wire.encode_header(first)
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice([0x00, 0x7F, 0x80, 0xC3, 0xCF, 0xD3, 0xFF])
        afresh = read_afresh(bytes(changed))
        read_afresh(data)  # remembers
        assert wire._patterns
        assert read(bytes(changed)) == afresh
