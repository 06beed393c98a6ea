"""Walk an MCAP file from its front, by the records themselves, so that it need not have been closed."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from hil.errors import RecordingError
from hil.record import mcap_format as mcap
from hil.record.mcap_format import ChannelInfo, ChunkInfo, IndexedChunk

#: The longest record that is read into memory, and the most that a chunk may unpack to.
MAX_RECORD_BYTES = 2 << 30
#: Opcode, length, the fields of a chunk and a compression name of up to 16 bytes.
_HEAD_BYTES = mcap.RECORD_HEAD.size + mcap.CHUNK_FIELDS.size + 4 + 16 + 8


class RandomAccess(Protocol):
    """What is read: some bytes from an offset, fewer at the end."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...


@dataclass
class Scan:
    """What is in a file, and up to where it is whole.

    Attributes:
        chunks: Chunks in the order of the file.
        counts: Messages of each channel, as the index behind each chunk has them.
        loose: Messages outside of chunks: offset and length of their content.
        channels: Channels that are described outside of chunks.
        good_end: Where the last whole record of data ends: what is behind may be cut off.
        closed: The file ends as one that was closed does.
        problems: What is wrong, in words.
    """

    chunks: list[IndexedChunk] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    loose: list[tuple[int, int]] = field(default_factory=list)
    channels: dict[int, ChannelInfo] = field(default_factory=dict)
    good_end: int = 0
    closed: bool = False
    problems: list[str] = field(default_factory=list)


def scan_mcap(file: RandomAccess, name: str) -> Scan:
    """Find the chunks of ``file``.

    Raises:
        RecordingError: It is no MCAP file at all.
    """
    magic = file.read(0, len(mcap.MAGIC))
    if magic != mcap.MAGIC:
        raise RecordingError(f"{name} is no MCAP file: it begins with {magic!r}, expected {mcap.MAGIC!r}")
    scan = Scan(good_end=len(mcap.MAGIC))
    at = len(mcap.MAGIC)
    while True:
        head = file.read(at, _HEAD_BYTES)
        if len(head) < mcap.RECORD_HEAD.size:
            scan.problems.append(f"not closed: {name} ends at byte {file.size} without a footer")
            return scan
        opcode, length = mcap.RECORD_HEAD.unpack_from(head)
        end = at + mcap.RECORD_HEAD.size + length
        if opcode == 0:
            scan.problems.append(f"damaged at byte {at} of {file.size}: no record begins there")
            return scan
        if end > file.size:
            scan.problems.append(f"not closed: {file.size - at} bytes of an incomplete record at the end, byte {at}")
            return scan
        if opcode == mcap.DATA_END:
            scan.closed = file.read(max(0, file.size - len(mcap.MAGIC)), len(mcap.MAGIC)) == mcap.MAGIC
            if not scan.closed:
                scan.problems.append(f"not closed: the index behind byte {end} is incomplete")
            return scan
        try:
            _take(scan, file, opcode, at, length, memoryview(head))
        except RecordingError as error:
            scan.problems.append(f"damaged at byte {at}: {error}")
        at = scan.good_end = end


def _take(scan: Scan, file: RandomAccess, opcode: int, at: int, length: int, head: memoryview) -> None:
    content = at + mcap.RECORD_HEAD.size
    if opcode == mcap.CHUNK:
        scan.chunks.append(IndexedChunk(_chunk(at, length, head)))
    elif opcode == mcap.MESSAGE_INDEX and scan.chunks and length >= 6:
        channel, n_bytes = struct.unpack_from("<HI", head, mcap.RECORD_HEAD.size)
        scan.chunks[-1].offsets[channel] = at
        scan.chunks[-1].index_length += mcap.RECORD_HEAD.size + length
        scan.counts[channel] += n_bytes // 16
    elif opcode == mcap.MESSAGE:
        scan.loose.append((content, length))
    elif opcode == mcap.CHANNEL:
        if length > 1 << 20:
            raise RecordingError(f"a channel record of {length} bytes")
        number, channel = mcap.read_channel(memoryview(file.read(content, length)))
        scan.channels[number] = channel


def _chunk(at: int, length: int, head: memoryview) -> ChunkInfo:
    fields = mcap.RECORD_HEAD.size
    if len(head) < fields + mcap.CHUNK_FIELDS.size:
        raise RecordingError(f"a chunk of {length} bytes is shorter than its own fields")
    first_ns, last_ns, size, crc = mcap.CHUNK_FIELDS.unpack_from(head, fields)
    compression, data_head = mcap.read_text(head, fields + mcap.CHUNK_FIELDS.size)
    data_length = int.from_bytes(head[data_head : data_head + 8], "little")
    data_start = at + data_head + 8
    if data_start + data_length != at + fields + length:
        raise RecordingError(f"a chunk of {length} bytes says that {data_length} of them are its data")
    if max(size, data_length) > MAX_RECORD_BYTES:
        raise RecordingError(f"a chunk of {max(size, data_length)} bytes, the limit is {MAX_RECORD_BYTES}")
    return ChunkInfo(at, fields + length, data_start, data_length, compression, size, crc, first_ns, last_ns)
