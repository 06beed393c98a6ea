"""One short exchange with a TCP port: what says it first, or what it answers."""

from __future__ import annotations

import contextlib
import socket
import time

#: How long a service that speaks first is given to begin.
FIRST_WORD_S = 0.6


def exchange(
    host: str, port: int, request: bytes, n_bytes: int, timeout_s: float, goodbye: bytes = b""
) -> bytes | None:
    """Send ``request`` and read until ``n_bytes`` came, the other side ends or time is over.

    Returns:
        What came, possibly nothing; ``None`` where nobody listens.
    """
    end_s = time.monotonic() + timeout_s
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except OSError:
        return None
    came = b""
    with connection, contextlib.suppress(OSError):
        if request:
            connection.sendall(request)
        while len(came) < n_bytes and (left_s := end_s - time.monotonic()) > 0:
            connection.settimeout(left_s)
            more = connection.recv(n_bytes - len(came))
            if not more:
                break
            came += more
        if goodbye:
            connection.sendall(goodbye)
    return came
