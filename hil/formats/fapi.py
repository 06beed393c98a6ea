"""Small Cell Forum FAPI 222: SRS.indication, in the byte orders in which it is met.

What differs between sources is a named profile of one codec:

- ``nfapi``: OpenAirInterface's nFAPI on UDP. A 16-byte P7 header and a big-endian body. The report's value is pushed as
  32-bit words of a little-endian host: on the wire every 4 bytes are swapped, and once they are swapped back the
  fields before the matrix are big-endian and its int16 little-endian.
- ``nfapi-18``: the same under the newer P7 header with a 32-bit length, 18 bytes.
- ``packed``: little-endian throughout, nothing swapped, behind ``u16 id, u32 length``: messages in shared memory.

None of them was checked against the bytes of a product.
"""

from __future__ import annotations

import struct
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from hil.errors import WireError

SRS_INDICATION = 0x88
Profile = Literal["nfapi", "nfapi-18", "packed"]
PROFILES: tuple[Profile, ...] = get_args(Profile)

Usage = Literal["beam_management", "codebook", "non_codebook", "antenna_switching"]
USAGES: tuple[Usage, ...] = get_args(Usage)
#: Representations of H: dtype and bytes of a complex value. The last is a vendor's.
REPRESENTATIONS: dict[int, np.dtype[Any]] = {0: np.dtype("i1"), 1: np.dtype("i2"), 2: np.dtype("f4")}
#: No valid timing advance, and no valid one in ns.
NO_TIMING_ADVANCE, NO_TIMING_ADVANCE_NS = 0xFFFF, -0x8000
#: Most values of one matrix, and most PDUs and bytes of one message, that are believed.
MAX_VALUES, MAX_PDUS, MAX_MESSAGE = 1 << 22, 255, 1 << 25

_MORE = 0x8000


class Layout(NamedTuple):
    """Byte order of a profile: of header and body, of the fields before a matrix, of its values."""

    header: struct.Struct
    order: Literal["<", ">"]
    report_order: Literal["<", ">"]
    value_order: Literal["<", ">"]
    swapped_words: bool


LAYOUTS: dict[Profile, Layout] = {
    "nfapi": Layout(struct.Struct(">HHHHII"), ">", ">", "<", True),
    "nfapi-18": Layout(struct.Struct(">HHIHII"), ">", ">", "<", True),
    "packed": Layout(struct.Struct("<HI"), "<", "<", "<", False),
}


class ChannelMatrix(NamedTuple):
    """Normalized channel I/Q matrix: ``h`` ``[port, sensor, prg, component]``, and blocks of a PRG."""

    prg_size: int
    h: npt.NDArray[Any]


class BeamformingReport(NamedTuple):
    """Signal-to-noise ratios, ``[prg]`` dB of each reported symbol; NaN: not valid."""

    prg_size: int
    n_symbols: int
    wideband_snr_db: float
    snr_db: tuple[npt.NDArray[np.float64], ...]


class SrsPdu(NamedTuple):
    """What one terminal's SRS gave. ``report`` is ``None`` where it is of a kind that is not read here."""

    handle: int
    rnti: int
    timing_advance: int | None
    timing_advance_ns: int | None
    usage: int
    report_type: int
    report: ChannelMatrix | BeamformingReport | None


class SrsIndication(NamedTuple):
    sfn: int
    slot: int
    pdus: tuple[SrsPdu, ...]


class Segment(NamedTuple):
    """A datagram of a message. ``sequence`` counts messages of a PHY, modulo 256; packed messages have none."""

    phy: int
    message: int
    sequence: int | None
    number: int
    more: bool
    time_us: int | None
    body: bytes


# -- the P7 header -------------------------------------------------------------------------------------------------


def encode_segments(
    body: bytes, profile: Profile, *, sequence: int, time_us: int, phy: int = 0, largest: int = 60_000
) -> list[bytes]:
    """The datagrams of one SRS.indication; a packed message is one."""
    header = LAYOUTS[profile].header
    if profile == "packed":
        return [header.pack(SRS_INDICATION, len(body)) + body]
    pieces = [body[i : i + largest] for i in range(0, len(body), largest)] or [b""]
    if len(pieces) > 128:
        raise WireError(f"fapi: a message of {len(body)} bytes needs {len(pieces)} segments, the header counts 128")
    out = []
    for number, piece in enumerate(pieces):
        segment = (_MORE if number + 1 < len(pieces) else 0) | number << 8 | sequence & 0xFF
        length = header.size + len(piece)
        out.append(header.pack(phy, SRS_INDICATION, length, segment, 0, time_us & 0xFFFFFFFF) + piece)
    return out


def decode_segment(datagram: bytes, profile: Profile) -> Segment:
    """Take a datagram apart.

    Raises:
        WireError: Shorter than its header, or of another length than that says.
    """
    header = LAYOUTS[profile].header
    if len(datagram) < header.size:
        raise WireError(f"fapi: {len(datagram)} bytes, a header of profile {profile!r} has {header.size}")
    if profile == "packed":
        message, length = header.unpack_from(datagram)
        phy, segment, sequence, time_us, expected = 0, 0, None, None, header.size + length
    else:
        phy, message, expected, segment, _, time_us = header.unpack_from(datagram)
        sequence = segment & 0xFF
    if expected != len(datagram):
        raise WireError(f"fapi: {len(datagram)} bytes came, the header of profile {profile!r} says {expected}")
    more = bool(segment & _MORE)
    return Segment(phy, message, sequence, segment >> 8 & 0x7F, more, time_us, datagram[header.size :])


# -- the body ------------------------------------------------------------------------------------------------------


def encode_srs_indication(indication: SrsIndication, profile: Profile) -> bytes:
    """The body of an SRS.indication."""
    layout = LAYOUTS[profile]
    parts = [struct.pack(layout.order + "HHHB", indication.sfn, indication.slot, 0, len(indication.pdus))]
    for pdu in indication.pdus:
        ta = NO_TIMING_ADVANCE if pdu.timing_advance is None else pdu.timing_advance
        ta_ns = NO_TIMING_ADVANCE_NS if pdu.timing_advance_ns is None else pdu.timing_advance_ns
        value = b"" if pdu.report is None else _encode_report(pdu.report, layout)
        parts.append(
            struct.pack(layout.order + "IHHhBB", pdu.handle, pdu.rnti, ta, ta_ns, pdu.usage, pdu.report_type)
            + struct.pack(layout.order + "HI", 0, len(value))
            + (_swap_words(value) if layout.swapped_words else value)
        )
    return b"".join(parts)


def decode_srs_indication(body: bytes, profile: Profile) -> SrsIndication:
    """Read the body of an SRS.indication.

    Raises:
        WireError: It is too short or too long, or says what cannot be.
    """
    layout = LAYOUTS[profile]
    try:
        sfn, slot, _, n_pdus = struct.unpack_from(layout.order + "HHHB", body)
        at = 7
        pdus = []
        for _ in range(n_pdus):
            handle, rnti, ta, ta_ns, usage, report_type = struct.unpack_from(layout.order + "IHHhBB", body, at)
            tag, length = struct.unpack_from(layout.order + "HI", body, at + 12)
            at += 18
            on_wire = length + -length % 4 if layout.swapped_words else length
            if on_wire > len(body) - at:
                raise WireError(f"fapi: report of {length} bytes (tag {tag}), {len(body) - at} are left")
            value = body[at : at + on_wire]
            at += on_wire
            report = _decode_report(
                (_swap_words(value) if layout.swapped_words else value)[:length], usage, report_type, layout
            )
            timing = None if ta == NO_TIMING_ADVANCE else ta, None if ta_ns == NO_TIMING_ADVANCE_NS else ta_ns
            pdus.append(SrsPdu(handle, rnti, *timing, usage, report_type, report))
    except struct.error as error:
        raise WireError(f"fapi: SRS.indication ends early, in {len(body)} bytes") from error
    if at != len(body):
        raise WireError(f"fapi: SRS.indication of {len(body)} bytes, {at} were read")
    if sfn > 1023 or slot > 159:
        raise WireError(f"fapi: frame {sfn} (0 .. 1023), slot {slot} (0 .. 159): is the profile right?")
    return SrsIndication(sfn, slot, tuple(pdus))


def _swap_words(value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return np.frombuffer(padded, ">u4").astype("<u4").tobytes()


def _encode_report(report: ChannelMatrix | BeamformingReport, layout: Layout) -> bytes:
    order = layout.report_order
    if isinstance(report, BeamformingReport):
        wide = _snr_byte(np.array([report.wideband_snr_db]))
        parts = [struct.pack(order + "HB", report.prg_size, report.n_symbols) + wide + bytes([len(report.snr_db)])]
        parts += [struct.pack(order + "H", len(snr)) + _snr_byte(snr) for snr in report.snr_db]
        return b"".join(parts)
    n_u, n_g, n_p, _ = report.h.shape
    kinds = [r for r, dtype in REPRESENTATIONS.items() if dtype == report.h.dtype]
    if not kinds:
        raise WireError(f"fapi: a matrix of {report.h.dtype}, expected one of {list(REPRESENTATIONS.values())}")
    head = struct.pack(order + "BHHHH", kinds[0], n_g, n_u, report.prg_size, n_p)
    return head + report.h.astype(report.h.dtype.newbyteorder(layout.value_order)).tobytes()


def _decode_report(
    value: bytes, usage: int, report_type: int, layout: Layout
) -> ChannelMatrix | BeamformingReport | None:
    if not value or report_type == 0:
        return None
    if usage == USAGES.index("beam_management"):
        return _decode_beamforming(value, layout)
    if usage not in (USAGES.index("codebook"), USAGES.index("non_codebook")):
        return None
    kind, n_g, n_u, prg_size, n_p = struct.unpack_from(layout.report_order + "BHHHH", value)
    if kind not in REPRESENTATIONS:
        raise WireError(f"fapi: representation {kind} of the channel matrix, expected {list(REPRESENTATIONS)}")
    n_values = n_g * n_u * n_p
    dtype = REPRESENTATIONS[kind].newbyteorder(layout.value_order)
    expected = 9 + 2 * n_values * dtype.itemsize
    if n_values > MAX_VALUES or expected != len(value):
        raise WireError(f"fapi: matrix [{n_u}, {n_g}, {n_p}] takes {expected} bytes, {len(value)} came")
    h = np.frombuffer(value, dtype, 2 * n_values, 9).reshape(n_u, n_g, n_p, 2)
    return ChannelMatrix(prg_size, h.astype(dtype.newbyteorder("="), copy=False))


def _decode_beamforming(value: bytes, layout: Layout) -> BeamformingReport:
    prg_size, n_symbols, wide, n_reported = struct.unpack_from(layout.report_order + "HBBB", value)
    at, snr = 5, []
    for _ in range(n_reported):
        (n_p,) = struct.unpack_from(layout.report_order + "H", value, at)
        if at + 2 + n_p > len(value):
            raise WireError(f"fapi: {n_p} ratios of a beamforming report, {len(value) - at - 2} bytes are left")
        snr.append(_snr_db(value[at + 2 : at + 2 + n_p]))
        at += 2 + n_p
    if at != len(value):
        raise WireError(f"fapi: beamforming report of {len(value)} bytes, {at} were read")
    return BeamformingReport(prg_size, n_symbols, float(_snr_db(bytes([wide]))[0]), tuple(snr))


def _snr_byte(snr_db: npt.NDArray[np.float64]) -> bytes:
    steps = np.clip(np.rint(2 * (np.nan_to_num(snr_db) + 64)), 0, 254)
    return np.where(np.isnan(snr_db), 255, steps).astype(np.uint8).tobytes()


def _snr_db(value: bytes) -> npt.NDArray[np.float64]:
    byte = np.frombuffer(value, np.uint8)
    return np.where(byte == 255, np.nan, byte / 2 - 64)
