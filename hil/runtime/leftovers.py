"""What a run keeps on the host while it lasts, and what it leaves there when it is killed.

A run is named after its directory, and the names of its shared memory begin with that name. It holds a lock on a file
in the directory, which the kernel lets go with the process however that ends. So the next run that begins can tell
what belongs to nobody any more, also where process numbers are used again or are those of another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hil.runtime.shm_pool import SHM_DIRECTORY

log = logging.getLogger(__name__)

_LOCK = "lock"


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A directory for the sockets and small files of one run; what carries its name goes when the context ends."""
    directory = Path(tempfile.mkdtemp(prefix=f"hil-{os.getpid()}-"))
    try:
        with (directory / "unlocked").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (directory / "unlocked").rename(directory / _LOCK)  # so that nobody meets it before it is locked
            yield directory
    finally:
        _remove(directory)


def sweep() -> list[str]:
    """Remove what runs left that were killed; return their names. Runs of other users are theirs to sweep."""
    swept = []
    for path in Path(tempfile.gettempdir()).glob(f"hil-*-*/{_LOCK}"):
        try:
            with path.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path.parent)
        except OSError:  # it lives, is another user's, or another sweep was quicker
            continue
        swept.append(path.parent.name)
    if swept:
        log.info("removed what killed runs had left: %s", ", ".join(swept))
    return swept


def _remove(directory: Path) -> None:
    for path in SHM_DIRECTORY.glob(f"{directory.name}.*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
