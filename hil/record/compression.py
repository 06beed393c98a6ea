"""Compression of chunks: none, or one of MCAP's two where its package is installed."""

from __future__ import annotations

from typing import Literal

from hil.errors import RecordingError
from hil.wire import Buffer

Compression = Literal["none", "lz4", "zstd"]


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
    """Return the ``size`` bytes that ``data`` unpacks to, never more whatever ``data`` says.

    Raises:
        RecordingError: Not this method's data, or another size.
    """
    try:
        if method == "":
            unpacked = data
        elif method == "lz4":
            import lz4.frame

            unpacked = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        elif method == "zstd":
            import zstandard

            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
                unpacked = reader.read(size + 1)
        else:
            raise RecordingError(f"compression {method!r} is not known, only lz4 and zstd")
    except ImportError as error:
        raise RecordingError(_missing(method)) from error
    except (RuntimeError, ValueError, EOFError, MemoryError, _zstd_error()) as error:
        raise RecordingError(f"not {method} data: {error}") from error
    if len(unpacked) != size:
        raise RecordingError(f"{method or 'uncompressed'} data: expected {size} bytes, got {len(unpacked)}")
    return unpacked


def _zstd_error() -> type[Exception]:
    try:
        import zstandard
    except ImportError:
        return RuntimeError
    return zstandard.ZstdError


def _missing(method: str) -> str:
    package = {"zstd": "zstandard"}.get(method, method)
    return f"{method} compression needs the package {package}: pip install {package}, or record without compression"
