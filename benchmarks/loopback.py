"""Ports of this host."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port on the loopback interface that is free now, for a peer that cannot choose one itself."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
