"""What a recording is written with, whatever its format."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from hil.errors import RecordingError
from hil.frame import Frame

Existing = Literal["refuse", "overwrite", "append"]
Compression = Literal["none", "lz4", "zstd"]


class StreamRefused(RecordingError):
    """A stream that the format has no place for, beside others that it has."""


class RecordingWriter(Protocol):
    """Writes frames to a file while they come.

    Attributes:
        n_frames: Frames taken.
        n_unflushed: Of these, frames that are not in the file yet.
        oldest_unflushed_s: ``time.monotonic()`` at which the oldest of these came, or ``None``.
        n_bytes: Bytes in the file.
    """

    n_frames: int
    n_unflushed: int
    oldest_unflushed_s: float | None

    @property
    def n_bytes(self) -> int: ...

    def write(self, frame: Frame) -> None:
        """Take ``frame``; its memory may be reused afterwards.

        Raises:
            OSError: The file cannot take it. What was flushed before stays readable.
            StreamRefused: The format has no place for this stream; others may follow.
            RecordingError: The format cannot go on after it.
        """

    def flush(self, *, sync: bool = False) -> None:
        """Put all that was taken into the file, so that it outlives this process; with ``sync`` a loss of power."""

    def close(self, *, discard: bool = False) -> None:
        """Flush, finish the file and close it, also where that fails.

        With ``discard`` what was not flushed is given up, and ``n_unflushed`` stays what that was: for a file that
        cannot take it.
        """


def open_writer(
    path: Path,
    existing: Existing = "refuse",
    *,
    compression: Compression = "none",
    chunk_bytes: int = 1 << 20,
) -> RecordingWriter:
    """Begin a recording in the format that the suffix of ``path`` names: ``.mcap`` or ``.sigmf-meta``.

    Raises:
        RecordingError: The suffix names no format, the file exists or cannot be made, or a package is missing.
    """
    if path.suffix == ".mcap":
        with needs_packages(path):
            from hil.record.mcap_writer import McapWriter

        return McapWriter(path, existing, compression=compression, chunk_bytes=chunk_bytes)
    if path.suffix in (".sigmf-meta", ".sigmf-data"):
        with needs_packages(path):
            from hil.record.sigmf_writer import SigmfWriter

        if compression != "none":
            raise RecordingError(f"{path}: SigMF samples are not compressed; record to .mcap, or compression='none'")
        return SigmfWriter(path, existing, chunk_bytes=chunk_bytes)
    if path.suffix == ".sigmf":
        raise RecordingError(f"{path}: a SigMF archive cannot grow while it is written: record to .sigmf-meta")
    raise RecordingError(f"{path}: expected a name that ends in .mcap or .sigmf-meta")


@contextmanager
def needs_packages(path: Path) -> Iterator[None]:
    """Say which packages are missing for ``path`` where they are imported.

    Raises:
        RecordingError: One is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise RecordingError(
            f"{path}: the package {error.name!r} is not installed: pip install 'hil-receiver[record]'"
        ) from error


def wall_time_ns(frame: Frame) -> int:
    """Time to log ``frame`` at: when this host received it, else its own time, else now; never below 0."""
    header = frame.header
    known = header.host_time_ns if header.host_time_ns is not None else header.time_ns
    return max(0, time.time_ns() if known is None else known)
