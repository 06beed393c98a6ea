"""Frames as runs of bytes."""

import struct

import numpy as np
import pytest

from hil.errors import WireError
from hil.record.packing import pack_parts, unpack_frame
from hil.wire import Limits, encode
from tests.hil.record.streams import descriptor, iq, same, truth


def packed(frame) -> bytes:
    return b"".join(bytes(memoryview(piece)) for piece in pack_parts(encode(frame)))


@pytest.mark.parametrize("frame", [iq(3), truth(4), descriptor(), iq(0, n_snapshots=1)], ids=repr)
def test_round_trip_is_aligned_and_owns_its_memory(frame):
    came = unpack_frame(packed(frame))
    assert same(came, frame)
    for array in came.arrays.values():
        assert array.ctypes.data % 64 == 0


def test_layout_is_as_described():
    data = packed(iq(1))
    n, zero = struct.unpack_from("<II", data)
    lengths = struct.unpack_from(f"<{n}Q", data, 8)
    assert (n, zero) == (3, 0)
    assert data[64 : 64 + lengths[0]] == b"sim.iq"
    assert data[128] == 0xDE or data[128] & 0xF0 == 0x80  # a MessagePack map
    assert data[-lengths[2] :] == iq(1)["iq"].tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 8 bytes, got 0"),
        (packed(iq(1))[:-1], "its 3 parts take .* bytes, got"),
        (packed(iq(1)) + b"\0", "its 3 parts take .* bytes, got"),
        (struct.pack("<II", 1 << 31, 0), "expected up to 66 parts in 8 bytes, got 2147483648"),
        (struct.pack("<IIQQ", 2, 0, (1 << 64) - 1, 1), "its 2 parts take"),
    ],
)
def test_lengths_that_lie_are_refused(data, message):
    with pytest.raises(WireError, match=message):
        unpack_frame(data)


def test_limits_hold():
    with pytest.raises(WireError, match="the limit is 100"):
        unpack_frame(packed(iq(1)), Limits(array_bytes=100))


def test_mutated_bytes_are_refused_or_read():
    rng = np.random.default_rng(3)
    good = [packed(f) for f in (iq(1), truth(2), descriptor())]
    refused = 0
    for _ in range(3000):
        data = bytearray(good[int(rng.integers(3))])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        data = data[: int(rng.integers(1, 2 * len(data)))]
        try:
            unpack_frame(data)
        except WireError:
            refused += 1
    assert refused > 1000
