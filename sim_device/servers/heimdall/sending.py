"""Sending to a client that may be slow or gone, from a server that may end meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

from sim_device.servers.protocol_server import TICK_S

Bytes = bytes | bytearray | memoryview


def send_all(
    client: socket.socket, parts: Sequence[Bytes], ending: threading.Event, limit_s: float | None = None
) -> bool:
    """Send ``parts`` one after the other; false where the server ends, or where it takes longer than ``limit_s``.

    Raises:
        ConnectionError: The client has gone.
    """
    end = None if limit_s is None else time.monotonic() + limit_s
    for part in parts:
        left = memoryview(part).cast("B")
        while left:
            try:
                left = left[client.send(left) :]
            except TimeoutError:
                if ending.is_set() or (end is not None and time.monotonic() > end):
                    return False
    return True


def pause(seconds: float, ending: threading.Event) -> None:
    """Do nothing for a while, unless the server ends; a tick at a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not ending.wait(TICK_S):
        pass
