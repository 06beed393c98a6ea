"""The records of an MCAP file (https://mcap.dev/spec, version 0), written and read by the package ``mcap``.

Its records are used, and not its ``Writer`` and its readers, because a recorder needs what these lack:

- ``Writer`` cannot go on in a file that a killed process left, as its index begins with what it wrote itself; it
  describes a channel in one chunk only, so that all is lost with that one; and it has let go of a chunk that the disk
  did not take.
- ``StreamReader`` reads the samples of a chunk in order to step over it, and ends at the first thing that is wrong.
- ``breakup_chunk`` makes all records of a chunk at once, and unpacks whatever size the data have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Protocol, TypeVar

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, McapRecord, Message, Schema

from hil.errors import RecordingError
from hil.record.packing import DESCRIPTION

ENCODING = "hil-frame-v1"
SCHEMA = Schema(id=1, name=ENCODING, encoding=ENCODING, data=DESCRIPTION.encode())
#: The longest record that is read into memory, and the most that a chunk may unpack to.
MAX_RECORD_BYTES = 2 << 30
#: Channels are kept as long as a file is read.
MAX_CHANNEL_BYTES = 1 << 20
#: Opcode and length, which stand before the content of a record.
HEAD = struct.Struct("<BQ")

R = TypeVar("R", bound=McapRecord)


class RandomAccess(Protocol):
    """What is read: some bytes from an offset, fewer at the end."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...


def packed(*records: McapRecord) -> bytes:
    """``records`` one after another, each behind its opcode and length."""
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return builder.end()


def parsed(kind: type[R], content: bytes, *fields: int) -> R:
    """The record of ``kind`` whose content is ``content``. Data that are cut off come as far as they go.

    Raises:
        RecordingError: It is none.
    """
    read: Any = kind.read  # type: ignore[attr-defined]  # a static method that each of them has
    try:
        record: R = read(ReadDataStream(BytesIO(content)), *fields)
    except (McapError, struct.error, ValueError, OverflowError) as error:
        reason = str(error) or "it is too short"
        raise RecordingError(f"no {kind.__name__.lower()} in {len(content)} bytes: {reason}") from error
    return record


def channel(content: bytes) -> Channel:
    if len(content) > MAX_CHANNEL_BYTES:
        raise RecordingError(f"a channel of {len(content)} bytes, the limit is {MAX_CHANNEL_BYTES}")
    return parsed(Channel, content)


def message(content: bytes) -> Message:
    return parsed(Message, content, len(content))


def walk(file: RandomAccess, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Opcode of each record from ``at`` on, and offset and length of its content, which is not read.

    Raises:
        RecordingError: There is no whole record.
    """
    while at < file.size:
        head = file.read(at, HEAD.size)
        opcode, length = HEAD.unpack(head) if len(head) == HEAD.size else (Opcode.MESSAGE, file.size)
        if opcode == 0:
            raise RecordingError(f"damaged at byte {at} of {file.size}: no record begins there")
        if at + HEAD.size + length > file.size:
            raise RecordingError(f"not closed: {file.size - at} bytes of an incomplete record at the end, byte {at}")
        at += HEAD.size
        yield opcode, at, length
        at += length
