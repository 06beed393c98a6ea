"""TCP ports of ZeroMQ sockets that a server binds, loses and binds again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import zmq

from hil.errors import ControlError


def bind_port(sock: zmq.Socket[bytes], host: str, port: int) -> int:
    """Bind ``sock`` and return its port; 0: the system chooses. A socket that cannot be bound is closed.

    Raises:
        ControlError: The port cannot be had.
    """
    try:
        sock.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        sock.close(0)
        raise ControlError(f"cannot bind port {port} of {host}: {error}; choose another") from error
    return int(sock.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0").rpartition(":")[2])


def bind_again(bind: Callable[[], None], ending: threading.Event, every_s: float) -> None:
    """Call ``bind`` until the port, which is let go of a little later than its socket is closed, is free."""
    while not ending.wait(every_s):
        try:
            bind()
            return
        except ControlError:
            continue  # not free yet
