"""The messages of one chunk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, MutableMapping

from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Message

from hil.errors import RecordingError
from hil.record.compression import decompress
from hil.record.mcap_format import HEAD, MAX_RECORD_BYTES, RandomAccess, channel, message, parsed, walk


class _Content:
    """What a chunk holds, read as a file is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


def chunk_messages(
    file: RandomAccess, index: ChunkIndex, channels: MutableMapping[int, Channel]
) -> Iterator[tuple[Channel, Message]]:
    """Read the chunk at ``index``; the channels that it describes are added to ``channels``.

    Raises:
        RecordingError: The chunk is damaged; says where.
    """
    try:
        content = _Content(_unpacked(file, index))
        for opcode, at, length in walk(content):
            if opcode == Opcode.CHANNEL:
                described = channel(content.read(at, length))
                channels[described.id] = described
            elif opcode == Opcode.MESSAGE:
                yield message_of(content.read(at, length), channels)
    except RecordingError as error:
        raise RecordingError(f"chunk at byte {index.chunk_start_offset}: {error}") from error


def message_of(content: bytes, channels: MutableMapping[int, Channel]) -> tuple[Channel, Message]:
    """The message whose record content is ``content``, and its channel."""
    came = message(content)
    if came.channel_id not in channels:
        raise RecordingError(f"a message of {len(content)} bytes is of channel {came.channel_id}, not described")
    return channels[came.channel_id], came


def _unpacked(file: RandomAccess, index: ChunkIndex) -> bytes:
    if max(index.chunk_length, index.uncompressed_size) > MAX_RECORD_BYTES:
        raise RecordingError(f"{index.uncompressed_size} bytes, the limit is {MAX_RECORD_BYTES}")
    chunk = parsed(Chunk, file.read(index.chunk_start_offset + HEAD.size, index.chunk_length - HEAD.size))
    content = decompress(chunk.data, chunk.compression, chunk.uncompressed_size)
    if chunk.uncompressed_crc and zlib.crc32(content) != chunk.uncompressed_crc:
        raise RecordingError(f"its checksum is {zlib.crc32(content):#010x}, expected {chunk.uncompressed_crc:#010x}")
    return content
