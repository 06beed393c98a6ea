"""SRS.indication: bytes written out by hand for each profile, both ways, segments, and mutated messages."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from hil.errors import WireError
from hil.formats.fapi import (
    PROFILES,
    SRS_INDICATION,
    BeamformingReport,
    ChannelMatrix,
    Profile,
    SrsIndication,
    SrsPdu,
    decode_segment,
    decode_srs_indication,
    encode_segments,
    encode_srs_indication,
)

H = np.array([[[[1, -2], [300, 4]], [[5, 6], [-7, 0x1234]]]], np.int16)  # [port 1, sensor 2, prg 2, component]
INDICATION = SrsIndication(1000, 13, (SrsPdu(0x01020304, 0x4601, 31, -126, 1, 1, ChannelMatrix(4, H)),))


def by_hand(profile: Profile) -> bytes:
    """The body, field by field."""
    iq = struct.pack("<8h", *H.ravel().tolist())
    if profile == "packed":
        value = struct.pack("<BHHHH", 1, 2, 1, 4, 2) + iq
        head = struct.pack("<HHHB", 1000, 13, 0, 1) + struct.pack("<IHHhBB", 0x01020304, 0x4601, 31, -126, 1, 1)
        return head + struct.pack("<HI", 0, len(value)) + value
    value = struct.pack(">BHHHH", 1, 2, 1, 4, 2) + iq
    padded = value + bytes(-len(value) % 4)
    # pushed as words of a little-endian host: each comes out the other way round
    words = b"".join(padded[i : i + 4][::-1] for i in range(0, len(padded), 4))
    head = struct.pack(">HHHB", 1000, 13, 0, 1) + struct.pack(">IHHhBB", 0x01020304, 0x4601, 31, -126, 1, 1)
    return head + struct.pack(">HI", 0, len(value)) + words


@pytest.mark.parametrize("profile", PROFILES)
def test_the_body_is_the_bytes_of_its_description(profile: Profile) -> None:
    assert encode_srs_indication(INDICATION, profile) == by_hand(profile)
    read = decode_srs_indication(by_hand(profile), profile)
    assert read.pdus[0]._replace(report=None) == INDICATION.pdus[0]._replace(report=None)
    report = read.pdus[0].report
    assert isinstance(report, ChannelMatrix) and report.prg_size == 4
    np.testing.assert_array_equal(report.h, H)
    assert report.h.dtype == np.int16


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", (np.int8, np.int16, np.float32))
def test_every_representation_comes_back(profile: Profile, dtype: type) -> None:
    rng = np.random.default_rng(1)
    h = rng.integers(-100, 100, (2, 3, 5, 2)).astype(dtype)
    pdu = SrsPdu(1, 2, None, None, 2, 1, ChannelMatrix(1, h))
    beams = SrsPdu(1, 3, 0, 0, 0, 1, BeamformingReport(2, 1, 12.5, (np.array([-64.0, 10.0, np.nan, 63.0]),)))
    silent = SrsPdu(1, 4, 5, 6, 1, 0, None)
    body = encode_srs_indication(SrsIndication(5, 6, (pdu, beams, silent)), profile)
    first, second, third = decode_srs_indication(body, profile).pdus
    assert (first.timing_advance, first.timing_advance_ns) == (None, None)
    assert isinstance(first.report, ChannelMatrix) and first.report.h.dtype == dtype
    np.testing.assert_array_equal(first.report.h, h)
    assert isinstance(second.report, BeamformingReport) and second.report.wideband_snr_db == 12.5
    np.testing.assert_array_equal(second.report.snr_db[0], [-64.0, 10.0, np.nan, 63.0])
    assert third == silent


def test_the_matrix_is_indexed_by_port_antenna_and_prg() -> None:
    body = by_hand("packed")
    flat = np.frombuffer(body, "<i2", 8, len(body) - 16).reshape(-1, 2)
    n_g, n_p = 2, 2
    for u, g, p in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)):
        np.testing.assert_array_equal(flat[u * n_g * n_p + g * n_p + p], H[u, g, p])


@pytest.mark.parametrize(("profile", "size"), [("nfapi", 16), ("nfapi-18", 18), ("packed", 6)])
def test_headers(profile: Profile, size: int) -> None:
    (datagram,) = encode_segments(b"body", profile, sequence=7, time_us=1 << 33, phy=3)
    assert len(datagram) == size + 4
    segment = decode_segment(datagram, profile)
    assert (segment.message, segment.body, segment.more) == (SRS_INDICATION, b"body", False)
    assert segment.sequence == (None if profile == "packed" else 7)
    if profile == "nfapi":
        assert datagram[:16] == struct.pack(">HHHHII", 3, 0x88, 20, 7, 0, 0)


def test_a_large_message_travels_in_segments() -> None:
    body = bytes(range(256)) * 1000
    segments = [decode_segment(d, "nfapi") for d in encode_segments(body, "nfapi", sequence=300, time_us=0)]
    assert b"".join(s.body for s in segments) == body
    assert [s.number for s in segments] == list(range(5))
    assert [s.more for s in segments] == [True] * 4 + [False]
    assert {s.sequence for s in segments} == {300 % 256}


@pytest.mark.parametrize("profile", PROFILES)
def test_messages_cut_anywhere_are_refused(profile: Profile) -> None:
    body = by_hand(profile)
    for n in range(len(body)):
        with pytest.raises(WireError):
            decode_srs_indication(body[:n], profile)
    with pytest.raises(WireError, match="says"):
        decode_segment(encode_segments(body, profile, sequence=1, time_us=0)[0][:-1], profile)


def test_a_wrong_profile_is_told() -> None:
    body = encode_srs_indication(SrsIndication(1000, 13, ()), "packed")
    with pytest.raises(WireError, match="is the profile right"):
        decode_srs_indication(body, "nfapi")


@pytest.mark.parametrize("profile", PROFILES)
def test_mutated_messages_are_refused_or_read(profile: Profile) -> None:
    rng = random.Random(3)
    (good,) = encode_segments(encode_srs_indication(INDICATION, profile), profile, sequence=1, time_us=0)
    n_refused = n_read = 0
    for _ in range(10_000 // len(PROFILES) + 1):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            segment = decode_segment(bytes(bad), profile)
            decode_srs_indication(segment.body, profile)
            n_read += 1
        except WireError:
            n_refused += 1
    assert n_refused > 300 and n_read > 300
