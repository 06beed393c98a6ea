"""A plain ring in shared memory: what an edge costs without headers, policies, sleep or restarts.

Slots of one size and one sequence word each, ``0`` free and ``k + 1`` full with frame ``k``; the writer copies, the
reader gets a view. Both spin, giving up the processor at each turn. One writer, one reader, x86-64's order of stores.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

N_SLOTS = 4
_HEADER = 4096
_SLOT_HEADER = 64  # sequence word, time of sending


class PlainRing:
    """One end of the ring at ``path``; whoever comes first makes it."""

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        size = _HEADER + N_SLOTS * n_bytes
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._words = memoryview(memory)[:_HEADER].cast("Q")
        bytes_ = np.frombuffer(memory, np.uint8)
        self._slots = [bytes_[_HEADER + i * n_bytes : _HEADER + (i + 1) * n_bytes] for i in range(N_SLOTS)]

    def write(self, seq: int, array: U8, sent_ns: int) -> None:
        """Copy ``array`` into slot ``seq`` once that is free."""
        words, word = self._words, seq % N_SLOTS * (_SLOT_HEADER // 8)
        while words[word]:
            os.sched_yield()
        np.copyto(self._slots[seq % N_SLOTS], array)
        words[word + 1] = sent_ns
        words[word] = seq + 1

    def read(self, seq: int) -> tuple[U8, int]:
        """Return a view of frame ``seq``, which holds until :meth:`release`, and when it was sent."""
        words, word = self._words, seq % N_SLOTS * (_SLOT_HEADER // 8)
        while words[word] != seq + 1:
            os.sched_yield()
        return self._slots[seq % N_SLOTS], words[word + 1]

    def release(self, seq: int) -> None:
        self._words[seq % N_SLOTS * (_SLOT_HEADER // 8)] = 0

    def drained(self) -> bool:
        return not any(self._words[i * (_SLOT_HEADER // 8)] for i in range(N_SLOTS))
