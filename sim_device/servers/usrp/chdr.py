"""CHDR packets, 64 bits wide: the words on the wire and what they say.

Layout: the RFNoC specification, chapter 2 (packet header, control, stream status, stream command); words are
little-endian. Every parser takes bytes from outside: what is no packet raises :class:`~hil.errors.WireError`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hil.errors import WireError

#: Packet types.
MANAGEMENT, STREAM_STATUS, STREAM_COMMAND, CONTROL, DATA, DATA_WITH_TIME = 0, 1, 2, 4, 6, 7
#: Operations of a control transaction, and its outcome.
OP_SLEEP, OP_WRITE, OP_READ, OP_READ_WRITE, OP_BLOCK_WRITE, OP_BLOCK_READ, OP_POLL = range(7)
STATUS_OKAY, STATUS_ERROR = 0, 1
#: Operations of a stream command.
STREAM_INIT, STREAM_PING, STREAM_RESYNC = 0, 1, 2

WORD = 8


class Packet(NamedTuple):
    """A packet without its metadata words.

    Attributes:
        kind: Packet type.
        dst_epid: Endpoint that it goes to.
        seq: Number, 16 bits, of each source and destination.
        timestamp: Ticks; ``None`` where the type has none.
        payload: The words behind header, time and metadata.
        eob: End of burst.
    """

    kind: int
    dst_epid: int
    seq: int
    timestamp: int | None
    payload: bytes
    eob: bool = False


def parse_packet(data: bytes) -> Packet:
    """Take a datagram apart.

    Raises:
        WireError: It is no CHDR packet.
    """
    if len(data) < WORD:
        raise WireError(f"CHDR: a packet has at least {WORD} bytes, got {len(data)}")
    (header,) = struct.unpack_from("<Q", data)
    length, kind, n_metadata = header >> 16 & 0xFFFF, header >> 53 & 7, header >> 48 & 31
    first = WORD * (2 if kind == DATA_WITH_TIME else 1)
    start = first + WORD * n_metadata
    if not start <= length <= len(data):
        raise WireError(f"CHDR: length {length}, but {start} bytes of header and {len(data)} of packet")
    timestamp = struct.unpack_from("<Q", data, WORD)[0] if kind == DATA_WITH_TIME else None
    return Packet(kind, header & 0xFFFF, header >> 32 & 0xFFFF, timestamp, data[start:length], bool(header >> 57 & 1))


def header_word(kind: int, dst_epid: int, seq: int, length: int, eob: bool = False) -> int:
    """The first word of a packet of ``length`` bytes."""
    return dst_epid | length << 16 | (seq & 0xFFFF) << 32 | kind << 53 | int(eob) << 57


def build_packet(kind: int, dst_epid: int, seq: int, payload: bytes) -> bytes:
    """A packet without time and metadata."""
    return struct.pack("<Q", header_word(kind, dst_epid, seq, WORD + len(payload))) + payload


class Control(NamedTuple):
    """A control transaction: a register of a port of the control crossbar is read or written.

    Attributes:
        data: 32-bit words, at most 15.
        timestamp: Ticks at which it shall happen, or ``None``.
    """

    dst_port: int
    src_port: int
    seq: int
    src_epid: int
    address: int
    op: int
    data: tuple[int, ...]
    timestamp: int | None = None
    is_ack: bool = False
    byte_enable: int = 0xF
    status: int = STATUS_OKAY

    def pack(self) -> bytes:
        """As a payload, padded to whole words."""
        head = (
            self.dst_port | self.src_port << 10 | len(self.data) << 20 | self.seq << 24
            | (self.timestamp is not None) << 30 | self.is_ack << 31 | self.src_epid << 32
        )  # fmt: skip
        op = self.address | self.byte_enable << 20 | self.op << 24 | self.status << 30
        out = struct.pack("<Q", head)
        if self.timestamp is not None:
            out += struct.pack("<Q", self.timestamp)
        out += struct.pack(f"<{1 + len(self.data)}I", op, *self.data)
        return out + bytes(-len(out) % WORD)


def parse_control(payload: bytes) -> Control:
    """Take the payload of a control packet apart.

    Raises:
        WireError: It is none.
    """
    if len(payload) < 2 * WORD:
        raise WireError(f"CHDR control: at least {2 * WORD} bytes, got {len(payload)}")
    (head,) = struct.unpack_from("<Q", payload)
    n_data, timed = head >> 20 & 15, head >> 30 & 1
    at = WORD * (1 + timed)
    if len(payload) < at + 4 * (1 + n_data):
        raise WireError(f"CHDR control: {n_data} data words do not fit in {len(payload)} bytes")
    timestamp = struct.unpack_from("<Q", payload, WORD)[0] if timed else None
    op, *data = struct.unpack_from(f"<{1 + n_data}I", payload, at)
    return Control(
        dst_port=head & 0x3FF,
        src_port=head >> 10 & 0x3FF,
        seq=head >> 24 & 0x3F,
        src_epid=head >> 32 & 0xFFFF,
        address=op & 0xFFFFF,
        op=op >> 24 & 15,
        data=tuple(data),
        timestamp=timestamp,
        is_ack=bool(head >> 31 & 1),
        byte_enable=op >> 20 & 15,
        status=op >> 30 & 3,
    )


class StreamStatus(NamedTuple):
    """How much of a stream has arrived, and what there is room for. Counts are since the stream began."""

    src_epid: int
    status: int
    capacity_bytes: int
    capacity_packets: int
    bytes_done: int
    packets_done: int


def parse_stream_status(payload: bytes) -> StreamStatus:
    """Take the payload of a stream status packet apart.

    Raises:
        WireError: It is none.
    """
    if len(payload) < 3 * WORD:
        raise WireError(f"CHDR stream status: at least {3 * WORD} bytes, got {len(payload)}")
    first, second, n_bytes = struct.unpack_from("<3Q", payload)
    return StreamStatus(
        src_epid=first & 0xFFFF,
        status=first >> 16 & 15,
        capacity_bytes=first >> 24,
        capacity_packets=second & 0xFFFFFF,
        bytes_done=n_bytes,
        packets_done=second >> 24,
    )


def stream_command(src_epid: int, op: int, n_packets: int, n_bytes: int) -> bytes:
    """Payload of a stream command."""
    return struct.pack("<2Q", src_epid | op << 16 | (n_packets & (1 << 40) - 1) << 24, n_bytes)
