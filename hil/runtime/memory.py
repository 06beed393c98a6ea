"""How a process keeps its memory."""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: The largest that glibc takes; larger messages are mapped and unmapped one by one.
_MMAP_BYTES = 32 * 1024 * 1024
_TRIM_BYTES = 256 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for what is allocated next; return whether it does.

    ZeroMQ allocates each message that it receives. By default glibc gives that memory back to the system when it is
    freed, and every page of the next message is mapped and cleared anew, which takes as long as to copy it. For
    processes that move frames all the time; what such a process holds does not shrink below its peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False  # not glibc
    kept = mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
    return bool(kept)
