"""Compression of chunks, one of MCAP's two or none.

Not left to the package ``mcap``, which unpacks to whatever size the data have: a small file could fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import lz4.frame
import zstandard

from hil.errors import RecordingError
from hil.record.writer import Compression

_PIECE_BYTES = 1 << 20


def compress(data: bytes, method: Compression) -> bytes:
    """Return ``data`` compressed."""
    if method == "lz4":
        packed: bytes = lz4.frame.compress(data)
        return packed
    if method == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(data)
    return data


def decompress(data: bytes, method: str, size: int) -> bytes:
    """Return the ``size`` bytes that ``data`` unpacks to; memory is taken as they come, not as ``size`` says.

    Raises:
        RecordingError: Not this method's data, or another size.
    """
    try:
        unpacked = b"".join(_pieces(data, method, size))
    except (RuntimeError, ValueError, EOFError, MemoryError, zstandard.ZstdError) as error:
        raise RecordingError(f"not {method} data: {error}") from error
    if len(unpacked) != size:
        raise RecordingError(f"{method or 'uncompressed'} data: expected {size} bytes, got {len(unpacked)}")
    return unpacked


def _pieces(data: bytes, method: str, size: int) -> Iterator[bytes]:
    """Unpack ``data`` until it ends or is longer than ``size``."""
    if method == "":
        yield data
    elif method == "lz4":
        decompressor = lz4.frame.LZ4FrameDecompressor()
        given, done = data, 0
        while done <= size and not decompressor.eof:
            piece = decompressor.decompress(given, max_length=_PIECE_BYTES)
            if not piece and not decompressor.eof:
                return  # cut off
            given, done = b"", done + len(piece)
            yield piece
    elif method == "zstd":
        done = 0
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            while done <= size and (piece := reader.read(_PIECE_BYTES)):
                done += len(piece)
                yield piece
    else:
        raise RecordingError(f"compression {method[:20]!r} is not known, only lz4 and zstd")
