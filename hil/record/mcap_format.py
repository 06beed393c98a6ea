"""The records of an MCAP file that recordings use (https://mcap.dev/spec, version 0), little-endian.

Written here and not taken from a library, because a recorder needs what libraries lack: pieces that go to the file
without being copied together, going on in a file that a killed process left, and a reader that trusts no length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hil.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
ENCODING = "hil-frame-v1"

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, DATA_END = 0x0B, 0x0F

RECORD_HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<BQHIQQ")  # opcode, length, channel, sequence, log time, publish time
MESSAGE_FIELDS = struct.Struct("<HIQQ")
CHUNK_FIELDS = struct.Struct("<QQQI")  # first and last log time, uncompressed size, its crc


class ChunkInfo(NamedTuple):
    """One chunk: where its record lies, where and how its content is packed, and its log times."""

    start: int
    length: int
    data_start: int
    data_length: int
    compression: str
    uncompressed_size: int
    crc: int
    first_ns: int
    last_ns: int


@dataclass
class IndexedChunk:
    """A chunk, where the message index of each of its channels lies, and how long these are together."""

    chunk: ChunkInfo
    offsets: dict[int, int] = field(default_factory=dict)
    index_length: int = 0


class ChannelInfo(NamedTuple):
    """One stream: its name and the encoding of its messages."""

    topic: str
    encoding: str


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


def text_map(values: Mapping[str, str]) -> bytes:
    packed = b"".join(text(k) + text(v) for k, v in values.items())
    return struct.pack("<I", len(packed)) + packed


def record(opcode: int, content: bytes) -> bytes:
    return RECORD_HEAD.pack(opcode, len(content)) + content


def schema_record(schema_id: int, name: str, data: bytes) -> bytes:
    return record(SCHEMA, struct.pack("<H", schema_id) + text(name) + text(name) + struct.pack("<I", len(data)) + data)


def channel_record(channel_id: int, schema_id: int, topic: str) -> bytes:
    return record(CHANNEL, struct.pack("<HH", channel_id, schema_id) + text(topic) + text(ENCODING) + text_map({}))


def message_index_record(channel_id: int, entries: list[tuple[int, int]]) -> bytes:
    packed = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return record(MESSAGE_INDEX, struct.pack("<HI", channel_id, len(packed)) + packed)


def chunk_index_record(indexed: IndexedChunk) -> bytes:
    chunk = indexed.chunk
    offsets = b"".join(struct.pack("<HQ", *item) for item in indexed.offsets.items())
    return record(
        CHUNK_INDEX,
        struct.pack("<QQQQI", chunk.first_ns, chunk.last_ns, chunk.start, chunk.length, len(offsets))
        + offsets
        + struct.pack("<Q", indexed.index_length)
        + text(chunk.compression)
        + struct.pack("<QQ", chunk.data_length, chunk.uncompressed_size),
    )


def statistics_record(n_schemas: int, n_chunks: int, first_ns: int, last_ns: int, counts: Mapping[int, int]) -> bytes:
    packed = b"".join(struct.pack("<HQ", *item) for item in counts.items())
    fields = struct.pack("<QHIIIIQQ", sum(counts.values()), n_schemas, len(counts), 0, 0, n_chunks, first_ns, last_ns)
    return record(STATISTICS, fields + struct.pack("<I", len(packed)) + packed)


def read_text(view: memoryview, at: int) -> tuple[str, int]:
    """Return the text at ``at`` and where it ends.

    Raises:
        RecordingError: It reaches beyond ``view`` or is no UTF-8.
    """
    end = at + 4
    if end <= len(view):
        end += int.from_bytes(view[at : at + 4], "little")
    if at + 4 > len(view) or end > len(view):
        raise RecordingError(f"a text at byte {at} of a record of {len(view)} bytes reaches beyond it")
    try:
        return str(view[at + 4 : end], "utf-8"), end
    except UnicodeDecodeError as error:
        raise RecordingError(f"a text at byte {at} of a record is no UTF-8") from error


def read_channel(content: memoryview) -> tuple[int, ChannelInfo]:
    """Return number, name and encoding of the channel that ``content`` describes."""
    if len(content) < 4:
        raise RecordingError(f"a channel record has at least 4 bytes, got {len(content)}")
    topic, at = read_text(content, 4)
    encoding, _ = read_text(content, at)
    return int.from_bytes(content[:2], "little"), ChannelInfo(topic, encoding)
