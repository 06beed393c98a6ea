"""The header that GNU Radio's ZeroMQ blocks put before a stream where tags are passed: one frame holds both.

Little-endian and unaligned, but for the serialized values: ``u16 0x5FF0, u8 version, u64 offset, u64 count``, then for
each tag ``u64 offset`` and key, value, source.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from hil.errors import WireError
from hil.formats import pmt

MAGIC, VERSION = 0x5FF0, 1
_HEAD = struct.Struct("<HBQQ")
_OFFSET = struct.Struct("<Q")
HEAD_BYTES = _HEAD.size
MAX_TAGS = 65_536
#: An unset source, as GNU Radio serializes it.
NO_SOURCE = False


class Tag(NamedTuple):
    """A tag of a stream.

    Attributes:
        offset: Item that it stands at, counted from the start of the stream.
        key: Symbol.
        value: Any.
        source: Who made it.
    """

    offset: int
    key: str
    value: Any
    source: Any = NO_SOURCE


class TagHeader(NamedTuple):
    """What stands before the items.

    Attributes:
        offset: Of the first item, counted from the start of the stream.
        tags: Of these items.
        n_bytes: Where the items begin.
    """

    offset: int
    tags: tuple[Tag, ...]
    n_bytes: int


def encode_tags(offset: int, tags: Sequence[Tag] = ()) -> bytes:
    """Return the header of items that begin at ``offset``."""
    out = [_HEAD.pack(MAGIC, VERSION, offset, len(tags))]
    for tag in tags:
        out += [_OFFSET.pack(tag.offset), pmt.encode(tag.key), pmt.encode(tag.value), pmt.encode(tag.source)]
    return b"".join(out)


def decode_tags(data: bytes | memoryview) -> TagHeader:
    """Read the header of a frame.

    Raises:
        WireError: There is none, or it is damaged.
    """
    if len(data) < HEAD_BYTES:
        raise WireError(f"gnuradio: a frame with tags has at least {HEAD_BYTES} bytes, got {len(data)}")
    magic, version, offset, n = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise WireError(
            f"gnuradio: a frame with tags begins with 0x{MAGIC:04X} and version {VERSION}, got 0x{magic:04X}, {version}"
        )
    if n > min(MAX_TAGS, len(data)):
        raise WireError(f"gnuradio: {n} tags in {len(data)} bytes cannot be")
    place = HEAD_BYTES
    tags: list[Tag] = []
    for _ in range(n):
        if len(data) - place < _OFFSET.size:
            raise WireError(f"gnuradio: {n} tags announced, the frame ends after {len(tags)}")
        (at,) = _OFFSET.unpack_from(data, place)
        place += _OFFSET.size
        key, place = pmt.decode(data, place)
        value, place = pmt.decode(data, place)
        source, place = pmt.decode(data, place)
        if not isinstance(key, str):
            raise WireError(f"gnuradio: the key of a tag is a symbol, got {type(key).__name__}")
        tags.append(Tag(at, key, value, source))
    return TagHeader(offset, tuple(tags), place)


def has_tags(data: bytes | memoryview) -> bool:
    """Whether a frame begins as one with tags does: its first bytes may also be samples by accident."""
    return len(data) >= HEAD_BYTES and _HEAD.unpack_from(data)[:2] == (MAGIC, VERSION)
