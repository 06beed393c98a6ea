"""A recording that is read: frames in the order in which they were written."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Self

from hil.errors import RecordingError
from hil.frame import Frame
from hil.record.writer import needs_packages
from hil.wire import DEFAULT_LIMITS, Limits

log = logging.getLogger(__name__)


class ReadFile:
    """A file that is only read, at any place.

    Raises:
        RecordingError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror}") from error

    def read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise RecordingError(f"cannot read {self.path}: {error.strerror}") from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Recording(ABC):
    """A file of frames. A context manager.

    Attributes:
        path: Where it is.
        format: ``mcap`` or ``sigmf``.
        closed: Whether its writer closed it. One that was not is read as far as it goes.
        problems: What is wrong with it, in words; reading may find more.
    """

    format: str

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.closed = True
        self.problems: list[str] = []

    @abstractmethod
    def streams(self) -> tuple[str, ...]:
        """Names of the streams in it, in the order in which they begin."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    @abstractmethod
    def _walk(self, streams: Collection[str] | None) -> Iterator[tuple[int, Frame]]:
        """Logged time and frame of each message, damaged ones left out and named in ``problems``."""

    def frames(self, streams: Collection[str] | None = None, start_s: float = 0.0) -> Iterator[Frame]:
        """Read frames in the order in which they were written.

        Args:
            streams: Those wanted, all where ``None``.
            start_s: Leave out what was logged in the first so many seconds; of the descriptors among it the last
                of each stream comes first, so that geometry is known.

        Raises:
            RecordingError: A stream that is wanted is not there.
        """
        unknown = set(streams or ()) - set(self.streams())
        if unknown:
            has = ", ".join(self.streams()) or "none"
            raise RecordingError(f"{self.path} has no stream {', '.join(sorted(unknown))!r}, it has {has}")
        return self._from(streams, round(start_s * 1e9))

    def _from(self, streams: Collection[str] | None, skip_ns: int) -> Iterator[Frame]:
        start_ns: int | None = None
        descriptors: dict[str, Frame] = {}
        for log_ns, frame in self._walk(streams):
            if start_ns is None:
                start_ns = log_ns
            if skip_ns > 0 and log_ns - start_ns < skip_ns:
                if frame.header.kind == "descriptor":
                    descriptors[frame.header.stream] = frame
                continue
            skip_ns = 0
            yield from descriptors.values()
            descriptors = {}
            yield frame

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            log.warning("%s: %s", self.path, text)
            self.problems.append(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_recording(path: str | Path, *, limits: Limits = DEFAULT_LIMITS, frame_samples: int = 1024) -> Recording:
    """Open the recording at ``path``: ``.mcap``, ``.sigmf-meta``, ``.sigmf-data`` or a ``.sigmf`` archive.

    Args:
        path: Where.
        limits: What is accepted; see :class:`hil.wire.Limits`.
        frame_samples: Samples a frame of a SigMF recording that does not say how it was framed.

    Raises:
        RecordingError: It is not there, of no known kind, unreadable from its first byte on, or a package is missing.
    """
    path = Path(path)
    if path.suffix == ".mcap":
        with needs_packages(path):
            from hil.record.mcap_reader import McapRecording

        return McapRecording(path, limits)
    if path.suffix in (".sigmf-meta", ".sigmf-data", ".sigmf"):
        with needs_packages(path):
            from hil.record.sigmf_reader import SigmfRecording

        return SigmfRecording(path, limits, frame_samples)
    raise RecordingError(f"{path}: expected a name that ends in .mcap, .sigmf-meta, .sigmf-data or .sigmf")
