"""Compression of chunks: none, or one of MCAP's two where its package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hil.errors import RecordingError
from hil.wire import Buffer

Compression = Literal["none", "lz4", "zstd"]

_PIECE_BYTES = 1 << 20


def compress(data: Buffer, method: Compression) -> Buffer:
    """Return ``data`` compressed.

    Raises:
        RecordingError: The method's package is not installed.
    """
    if method == "none":
        return data
    try:
        if method == "lz4":
            import lz4.frame  # type: ignore[import-untyped]

            packed: bytes = lz4.frame.compress(data)
            return packed
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(data)
    except ImportError as error:
        raise RecordingError(_missing(method)) from error


def decompress(data: bytes, method: str, size: int) -> bytes:
    """Return the ``size`` bytes that ``data`` unpacks to; memory is taken as they come, not as ``size`` says.

    Raises:
        RecordingError: Not this method's data, or another size.
    """
    try:
        unpacked = b"".join(_pieces(data, method, size))
    except ImportError as error:
        raise RecordingError(_missing(method)) from error
    except (RuntimeError, ValueError, EOFError, MemoryError, _zstd_error()) as error:
        raise RecordingError(f"not {method} data: {error}") from error
    if len(unpacked) != size:
        raise RecordingError(f"{method or 'uncompressed'} data: expected {size} bytes, got {len(unpacked)}")
    return unpacked


def _pieces(data: bytes, method: str, size: int) -> Iterator[bytes]:
    """Unpack ``data`` until it ends or is longer than ``size``."""
    if method == "":
        yield data
    elif method == "lz4":
        import lz4.frame

        decompressor = lz4.frame.LZ4FrameDecompressor()
        given, done = data, 0
        while done <= size and not decompressor.eof:
            piece = decompressor.decompress(given, max_length=_PIECE_BYTES)
            if not piece and not decompressor.eof:
                return  # cut off
            given, done = b"", done + len(piece)
            yield piece
    elif method == "zstd":
        import zstandard

        done = 0
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            while done <= size and (piece := reader.read(_PIECE_BYTES)):
                done += len(piece)
                yield piece
    else:
        raise RecordingError(f"compression {method[:20]!r} is not known, only lz4 and zstd")


def _zstd_error() -> type[Exception]:
    try:
        import zstandard
    except ImportError:
        return RuntimeError
    return zstandard.ZstdError


def _missing(method: str) -> str:
    package = {"zstd": "zstandard"}.get(method, method)
    return f"{method} compression needs the package {package}: pip install {package}, or record without compression"
