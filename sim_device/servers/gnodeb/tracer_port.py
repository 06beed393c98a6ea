"""The TCP side of a T tracer: clients come and go, say which events they want, and get them."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable

from hil.errors import WireError
from hil.formats.t_tracer import read_enable
from sim_device.servers.protocol_faults import FaultBoard

log = logging.getLogger(__name__)

#: Longest wait before an end is noticed.
_TICK_S = 0.05
#: Occasions that wait for a client; the real one drops events too when its buffer is full.
DEPTH = 256
_SEND_BUFFER = 4 << 20


class _Gone(Exception):
    """The client has closed, or the server ends."""


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, greeting: bytes, ending: threading.Event, faults: FaultBoard) -> None:
        self.connection, self._ending, self._faults = connection, ending, faults
        self.enabled: frozenset[int] = frozenset()
        self.open = True
        self.n_dropped = 0
        self._greeting = greeting
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        connection.settimeout(_TICK_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def put(self, data: bytes, *, wait: bool) -> None:
        """Queue ``data``; where the queue is full, wait for room or drop it."""
        with self._changed:
            while wait and len(self._waiting) >= DEPTH and self.open and not self._ending.is_set():
                self._changed.wait(_TICK_S)
            if len(self._waiting) >= DEPTH:
                self.n_dropped += 1
            elif self.open:
                self._waiting.append(data)
                self._changed.notify_all()

    def listen(self) -> None:
        """Read what the client wants until it goes."""
        try:
            for enabled in read_enable(self._receive):
                self.enabled = enabled
        except WireError as error:
            log.warning("%s", error)
        except (_Gone, OSError) as error:
            log.info("a client of the T tracer is gone: %s", error)
        self.close()

    def serve(self) -> None:
        """Send what waits until the client goes."""
        try:
            self._send(memoryview(self._greeting))
            while True:
                with self._changed:
                    while not self._waiting:
                        if self._ending.is_set() or not self.open:
                            raise _Gone
                        self._changed.wait(_TICK_S)
                    data = self._waiting.popleft()
                    self._changed.notify_all()
                if self._faults.take("drop_connection"):
                    raise _Gone
                if fault := self._faults.take("corrupt"):
                    data = corrupted(data, int(fault.amount or 16))
                if fault := self._faults.take("stall"):
                    self._ending.wait(1.0 if fault.amount is None else fault.amount)
                self._send(memoryview(data))
        except (_Gone, OSError) as error:
            log.info("a client of the T tracer is gone: %s", error)
        self.close()

    def close(self) -> None:
        with self._changed:
            self.open = False
            self._waiting.clear()
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _send(self, data: memoryview) -> None:
        while data:
            if self._ending.is_set() or not self.open:
                raise _Gone
            with contextlib.suppress(TimeoutError):
                data = data[self.connection.send(data) :]

    def _receive(self, n: int) -> bytes:
        parts = b""
        while len(parts) < n:
            if self._ending.is_set() or not self.open:
                raise _Gone
            with contextlib.suppress(TimeoutError):
                part = self.connection.recv(n - len(parts))
                if not part:
                    raise _Gone
                parts += part
        return parts


class TracerPort:
    """Listens for clients.

    Args:
        address: Host and port, 0: any.
        greeting: Sent to each first.
        ending: Set when the server ends.
        faults: What shall go wrong.
        thread: Starts a thread that the server waits for.
    """

    def __init__(
        self,
        address: tuple[str, int],
        greeting: Callable[[], bytes],
        ending: threading.Event,
        faults: FaultBoard,
        thread: Callable[..., None],
    ) -> None:
        self._greeting, self._ending, self._faults, self._thread = greeting, ending, faults, thread
        self._listener = socket.create_server(address)
        self._listener.settimeout(_TICK_S)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._lock = threading.Lock()
        self._clients: list[Client] = []
        self._n_dropped = 0

    @property
    def clients(self) -> list[Client]:
        """Those that are connected now."""
        with self._lock:
            self._n_dropped += sum(c.n_dropped for c in self._clients if not c.open)
            self._clients = [c for c in self._clients if c.open]
            return list(self._clients)

    @property
    def n_dropped(self) -> int:
        """Occasions that clients were too slow for."""
        return self._n_dropped + sum(c.n_dropped for c in self._clients)

    def accept(self) -> None:
        """Take clients until the server ends."""
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._ending.is_set():
                    return  # it was closed
                raise
            client = Client(connection, self._greeting(), self._ending, self._faults)
            with self._lock:
                self._clients.append(client)
            self._thread(client.listen)
            self._thread(client.serve)

    def close(self) -> None:
        self._listener.close()
        for client in self._clients:
            client.close()


def corrupted(data: bytes, n: int) -> bytes:
    """``data`` with ``n`` of its first bytes turned over."""
    n = min(n, len(data))
    return bytes(b ^ 0xFF for b in data[:n]) + data[n:]
