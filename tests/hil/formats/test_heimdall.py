"""Headers of heimdall against the compiler's own layout, and against bytes that are none."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import WireError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1, HeaderV2

#: The struct as C declares it: native alignment puts the padding in.
NATIVE = "@II16sIIIQQQIQIIQIII32IIIII192II"

V1 = HeaderV1(
    frame_type=heimdall.CALIBRATION, hardware_id=b"KrakenSDR".ljust(16, b"\0"), unit_id=3, n_channels=5, input_type=1,
    frequency_hz=433_920_000, adc_rate_hz=2_400_000, sample_rate_hz=1_200_000, n_samples=65536,
    time_ms=1_700_000_000_123, block=17, cpi=9, integration=2**40, data_type=3, bits=32, overdrive=0b10010,
    gain_tenth_db=tuple(range(32)), delay_sync=1, iq_sync=0, sync_state=4, noise_source=1, version=7,
)  # fmt: skip
V2 = HeaderV2(2, 3, 4, 1, 7, 0, 1, (433_920_000.0, 433_920_032.0), (19.75, -1.0))


def test_version_1_is_the_native_struct() -> None:
    assert struct.calcsize(NATIVE) == heimdall.V1_BYTES
    native = struct.pack(NATIVE, heimdall.SYNC_WORD, *V1[:16], *V1.gain_tenth_db, *V1[17:21], *(0,) * 192, V1.version)
    assert heimdall.encode_v1(V1) == native
    assert heimdall.decode_v1(native) == V1
    assert V1.payload_bytes == 5 * 65536 * 8


def test_version_2_bytes() -> None:
    expected = bytes.fromhex("4d434851 00000002 00000003 00000004 00000001 00000007 00000000 00000001")
    expected += struct.pack("<4f", 433_920_000.0, 19.75, 433_920_032.0, -1.0)
    assert heimdall.encode_v2(V2) == expected
    assert heimdall.decode_v2(b"xy" + expected, 2) == V2
    assert (V2.header_bytes, V2.payload_bytes) == (48, 12)


def test_a_header_that_has_not_come_whole_is_waited_for() -> None:
    whole = heimdall.encode_v2(V2)
    assert all(heimdall.decode_v2(whole[:n]) is None for n in range(len(whole)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n_channels": 0}, "0 channels"),
        ({"n_channels": 33}, "33 channels"),
        ({"n_samples": heimdall.MAX_CPI_SAMPLES + 1}, "samples cannot be"),
        ({"frame_type": 6}, "frame type 6"),
        ({"bits": 16}, "16 bits"),
        ({"sample_rate_hz": 0}, "without a sample rate"),
    ],
)
def test_a_header_of_version_1_that_cannot_be_is_refused(change: dict[str, int], why: str) -> None:
    with pytest.raises(WireError, match=why):
        heimdall.decode_v1(heimdall.encode_v1(V1._replace(**change)))


def test_packets_of_the_other_version_are_told() -> None:
    with pytest.raises(WireError, match="version 2"):
        heimdall.decode_v1(heimdall.encode_v2(V2).ljust(1024, b"\0"))
    with pytest.raises(WireError, match="has 1024 bytes, got 3"):
        heimdall.decode_v1(b"abc")


@given(st.binary(max_size=40), st.binary(max_size=20))
def test_the_next_packet_is_found_behind_anything(before: bytes, after: bytes) -> None:
    packet = heimdall.encode_v2(V2)
    if heimdall.MAGIC in before + packet[:3]:
        return
    assert heimdall.find_v2(before + packet + after) == (len(before), V2)


def test_a_mark_with_implausible_counts_is_passed_over() -> None:
    false = heimdall.MAGIC + struct.pack(">7I", 6, 100, 4, 0, 0, 0, 0)
    too_long = heimdall.MAGIC + struct.pack(">7I", 5, 65537, 4, 0, 0, 0, 0)
    assert heimdall.find_v2(false + too_long + heimdall.encode_v2(V2)) == (len(false + too_long), V2)


def test_half_a_mark_at_the_end_is_kept() -> None:
    assert heimdall.find_v2(b"abcMC") == (3, None)
    assert heimdall.find_v2(b"abc") == (3, None)


def test_commands() -> None:
    frequency = heimdall.encode_control_v1("FREQ", 433_920_000)
    assert frequency == b"FREQ" + (433_920_000).to_bytes(8, "little") + bytes(116)
    assert heimdall.decode_control_v1(frequency, 5) == ("FREQ", (433_920_000,))
    gain = heimdall.encode_control_v1("GAIN", 9, 14, 27, 37, 77)
    assert heimdall.decode_control_v1(gain, 5) == ("GAIN", (9, 14, 27, 37, 77))
    assert heimdall.decode_control_v1(heimdall.encode_control_v1("INIT"), 5) == ("INIT", ())
    with pytest.raises(WireError, match="unknown command"):
        heimdall.decode_control_v1(bytes(128), 5)
    line = heimdall.encode_control_v2("set_gain", gain=20.0, channel=0)
    assert line == b'{"set_gain": {"gain": 20.0, "channel": 0}}\n'
    assert heimdall.decode_control_v2(line) == ("set_gain", {"gain": 20.0, "channel": 0})
    assert heimdall.decode_control_v2(b'{"command": "set_gain", "gain": 1}') == ("set_gain", {"gain": 1})
    for bad in (b"", b"[]", b"{}", b'{"a": 1}', b"\xff", b"[" * 100_000):
        with pytest.raises(WireError):
            heimdall.decode_control_v2(bad)


def test_answers_of_version_2() -> None:
    assert heimdall.status_v2(b'{"status": "ok"}') == ""
    assert heimdall.status_v2(b'{"status": "error", "message": "no"}') == "no"
    assert heimdall.status_v2(b'{"settings": {}}') is None
    assert heimdall.status_v2(b"nonsense") is None


def test_the_nearest_gain() -> None:
    assert heimdall.nearest_gain_tenth_db(20.0) == 197
    assert heimdall.nearest_gain_tenth_db(100.0) == 496


def test_ten_thousand_damaged_headers() -> None:
    rng = random.Random(1)
    first, second = bytearray(heimdall.encode_v1(V1)), bytearray(heimdall.encode_v2(V2) + bytes(12))
    for _ in range(10_000):
        one, two = bytearray(first), bytearray(second)
        for wire in (one, two):
            for _ in range(rng.randint(1, 6)):
                wire[rng.randrange(len(wire))] = rng.randrange(256)
        try:
            header = heimdall.decode_v1(one)
            assert header.payload_bytes <= heimdall.MAX_CPI_SAMPLES * 32 * 8
        except WireError:
            pass
        place, found = heimdall.find_v2(two[: rng.randint(0, len(two))])
        assert found is None or found.payload_bytes <= 5 * 65536 * 2
        assert 0 <= place <= len(two)


def test_bytes_to_samples() -> None:
    raw = np.array([0, 127, 128, 255], np.uint8)
    np.testing.assert_allclose((raw - heimdall.OFFSET) / heimdall.FULL_SCALE, [-1, -1 / 255, 1 / 255, 1])
