"""Find the chunks of an MCAP file from its front, by the records themselves, so that it need not have been closed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex
from mcap.writer import MCAP0_MAGIC as MAGIC

from hil.errors import RecordingError
from hil.record.mcap_format import HEAD, RandomAccess, channel, parsed, walk

#: So much of a chunk has its fields and the name of its compression; the first of its data follow.
_CHUNK_HEAD_BYTES = 64
#: The same without that name: times, size, checksum, length of the name, length of the data.
_CHUNK_FIELD_BYTES = 8 + 8 + 8 + 4 + 4 + 8


@dataclass
class Scan:
    """What is in a file, and up to where it is whole.

    Attributes:
        chunks: Chunks in the order of the file, as an index has them.
        counts: Messages of each channel, as the index behind each chunk has them.
        loose: Messages outside of chunks: offset and length of their content.
        channels: Channels that are described outside of chunks.
        good_end: Where the last whole record of data ends: what is behind may be cut off.
        closed: The file ends as one that was closed does.
        problems: What is wrong, in words.
    """

    chunks: list[ChunkIndex] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    loose: list[tuple[int, int]] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    good_end: int = len(MAGIC)
    closed: bool = False
    problems: list[str] = field(default_factory=list)


def scan_mcap(file: RandomAccess, name: str) -> Scan:
    """Find the chunks of ``file``.

    Raises:
        RecordingError: It is no MCAP file at all.
    """
    magic = file.read(0, len(MAGIC))
    if magic != MAGIC:
        raise RecordingError(f"{name} is no MCAP file: it begins with {magic!r}, expected {MAGIC!r}")
    scan = Scan()
    try:
        for opcode, at, length in walk(file, len(MAGIC)):
            if opcode == Opcode.DATA_END:
                scan.closed = file.read(max(0, file.size - len(MAGIC)), len(MAGIC)) == MAGIC
                if not scan.closed:
                    scan.problems.append(f"not closed: the index behind byte {at + length} is incomplete")
                return scan
            try:
                _take(scan, file, opcode, at, length)
            except RecordingError as error:
                scan.problems.append(f"damaged at byte {at - HEAD.size}: {error}")
            scan.good_end = at + length
        scan.problems.append(f"not closed: {name} ends at byte {file.size} without a footer")
    except RecordingError as error:
        scan.problems.append(str(error))
    return scan


def _take(scan: Scan, file: RandomAccess, opcode: int, at: int, length: int) -> None:
    if opcode == Opcode.CHUNK:
        chunk = parsed(Chunk, file.read(at, min(length, _CHUNK_HEAD_BYTES)))
        scan.chunks.append(
            ChunkIndex(
                chunk_start_offset=at - HEAD.size,
                chunk_length=HEAD.size + length,
                compression=chunk.compression,
                compressed_size=max(0, length - _CHUNK_FIELD_BYTES - len(chunk.compression.encode())),
                uncompressed_size=chunk.uncompressed_size,
                message_start_time=chunk.message_start_time,
                message_end_time=chunk.message_end_time,
                message_index_offsets={},
                message_index_length=0,
            )
        )
    elif opcode == Opcode.MESSAGE_INDEX and scan.chunks and length >= 6:
        # Not read as a whole: its entries are only counted
        number = int.from_bytes(file.read(at, 2), "little")
        scan.chunks[-1].message_index_offsets[number] = at - HEAD.size
        scan.chunks[-1].message_index_length += HEAD.size + length
        scan.counts[number] += (length - 6) // 16
    elif opcode == Opcode.MESSAGE:
        scan.loose.append((at, length))
    elif opcode == Opcode.CHANNEL:
        described = channel(file.read(at, length))
        scan.channels[described.id] = described
