"""The messages of one chunk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

from hil.errors import RecordingError
from hil.record import mcap_format as mcap
from hil.record.compression import decompress
from hil.record.mcap_format import ChannelInfo, ChunkInfo
from hil.record.mcap_scan import RandomAccess


class Message(NamedTuple):
    """One message: its channel, when it was logged, where it lies in its chunk, and its content."""

    channel: int
    topic: str
    encoding: str
    log_ns: int
    at: int
    data: memoryview


def chunk_messages(
    file: RandomAccess, chunk: ChunkInfo, channels: MutableMapping[int, ChannelInfo]
) -> Iterator[Message]:
    """Read ``chunk``; the channels that it describes are added to ``channels``.

    Raises:
        RecordingError: The chunk is damaged; says where.
    """
    where = f"chunk at byte {chunk.start}"
    try:
        data = file.read(chunk.data_start, chunk.data_length)
        if len(data) != chunk.data_length:
            raise RecordingError(f"expected {chunk.data_length} bytes, the file has {len(data)}")
        content = decompress(data, chunk.compression, chunk.uncompressed_size)
        if chunk.crc and zlib.crc32(content) != chunk.crc:
            raise RecordingError(f"its checksum is {zlib.crc32(content):#010x}, expected {chunk.crc:#010x}")
        yield from _walk(memoryview(content), channels)
    except RecordingError as error:
        raise RecordingError(f"{where}: {error}") from error


def message_of(content: memoryview, at: int, channels: MutableMapping[int, ChannelInfo]) -> Message:
    """The message whose record content is ``content``."""
    if len(content) < mcap.MESSAGE_FIELDS.size:
        raise RecordingError(f"a message of {len(content)} bytes at byte {at} is shorter than its own fields")
    number, _, log_ns, _ = mcap.MESSAGE_FIELDS.unpack_from(content)
    channel = channels.get(number)
    if channel is None:
        raise RecordingError(f"the message at byte {at} is of channel {number}, which is not described")
    return Message(number, channel.topic, channel.encoding, log_ns, at, content[mcap.MESSAGE_FIELDS.size :])


def _walk(content: memoryview, channels: MutableMapping[int, ChannelInfo]) -> Iterator[Message]:
    at = 0
    while at < len(content):
        if at + mcap.RECORD_HEAD.size > len(content):
            raise RecordingError(f"{len(content) - at} bytes are left over")
        opcode, length = mcap.RECORD_HEAD.unpack_from(content, at)
        start = at + mcap.RECORD_HEAD.size
        if length > len(content) - start:
            raise RecordingError(f"the record at byte {at} has {length} bytes, {len(content) - start} are left")
        body = content[start : start + length]
        if opcode == mcap.CHANNEL:
            number, channel = mcap.read_channel(body)
            channels[number] = channel
        elif opcode == mcap.MESSAGE:
            yield message_of(body, at, channels)
        at = start + length
