"""An append-only file whose end is always known to be good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hil.errors import RecordingError
from hil.wire import Buffer

#: How many pieces one system call takes.
_IOV_MAX = 512


class AppendFile:
    """A file that grows by whole pieces: one that does not fit is taken back, so that the file ends before it.

    What :meth:`append` wrote survives the death of the process; only :meth:`sync` makes it survive a loss of power.

    Args:
        path: Where.
        existing: What to do with a file that is there: ``refuse``, ``overwrite`` or ``append`` to it.

    Raises:
        RecordingError: The file exists or cannot be opened.
    """

    def __init__(self, path: Path, existing: str = "refuse") -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        flags |= {"refuse": os.O_EXCL, "overwrite": os.O_TRUNC, "append": 0}[existing]
        self.path = path
        try:
            self._fd = os.open(path, flags, 0o644)
        except FileExistsError as error:
            raise RecordingError(f"{path} exists: choose another path, or overwrite=true to replace it") from error
        except OSError as error:
            raise RecordingError(f"cannot record to {path}: {error.strerror}") from error
        self.size = os.lseek(self._fd, 0, os.SEEK_END)

    def append(self, pieces: Sequence[Buffer]) -> None:
        """Write ``pieces`` one after another.

        Raises:
            OSError: They do not fit. The file is as it was before.
        """
        views: list[memoryview] = [v for v in (memoryview(piece) for piece in pieces) if v.nbytes]
        left = sum(v.nbytes for v in views)
        try:
            while left:
                written = os.writev(self._fd, views[:_IOV_MAX])
                left -= written
                while views and written >= views[0].nbytes:
                    written -= views.pop(0).nbytes
                if written:
                    views[0] = views[0][written:]
        except OSError:
            self.truncate(self.size)
            raise
        self.size = os.lseek(self._fd, 0, os.SEEK_CUR)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
