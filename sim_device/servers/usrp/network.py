"""All sockets of all boards in one thread: the calls are short, and Python runs one thread at a time anyway."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable

from hil.errors import HilError

log = logging.getLogger(__name__)

_POLL_S = 0.05
_MAX_BYTES = 1 << 16
#: Datagrams of one socket in a row, before others have their turn.
_IN_A_ROW = 64

#: What came, and from where. Runs in the network's thread.
Received = Callable[[bytes, tuple[str, int]], None]
#: Bytes that came on a connection to bytes to answer; raises where the connection shall end.
Conversation = Callable[[bytes], bytes]


class Network:
    """Reads sockets until the end.

    Args:
        ending: Set at the end.
    """

    def __init__(self, ending: threading.Event) -> None:
        self._ending = ending
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._connections: dict[socket.socket, str] = {}
        self._drop: set[str] = set()

    def bind_udp(self, address: tuple[str, int], received: Received, buffer_bytes: int | None = None) -> socket.socket:
        """A socket that ``received`` is called for.

        Raises:
            OSError: The address cannot be bound.
        """
        sock = self._keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        if buffer_bytes is not None:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        sock.bind(address)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(sock, received))
        return sock

    def listen_tcp(self, address: tuple[str, int], converse: Callable[[], Conversation]) -> None:
        """Take connections; each has a conversation of its own.

        Raises:
            OSError: The address cannot be bound.
        """
        listener = self._keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(16)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener, address[0], converse))

    def drop_connections(self, host: str) -> None:
        """Close all connections to an address without a word. Any thread."""
        self._drop.add(host)

    def release(self, sockets: list[socket.socket]) -> None:
        """Close sockets that were opened, before the thread runs."""
        for sock in sockets:
            self._forget(sock)

    def opened(self) -> list[socket.socket]:
        """All sockets that are open."""
        return list(self._sockets)

    def run(self) -> None:
        """Work until the end."""
        while not self._ending.is_set():
            for key, _ in self._selector.select(_POLL_S):
                key.data()
            while self._drop:
                host = self._drop.pop()
                for connection in [c for c, at in self._connections.items() if at == host]:
                    self._forget(connection)

    def close(self) -> None:
        for sock in self.opened():
            self._forget(sock)
        self._selector.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _keep(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        sock.setblocking(False)
        return sock

    def _forget(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it was never registered, or is closed
            self._selector.unregister(sock)
        self._connections.pop(sock, None)
        if sock in self._sockets:
            self._sockets.remove(sock)
        sock.close()

    def _receive(self, sock: socket.socket, received: Received) -> None:
        for _ in range(_IN_A_ROW):
            try:
                data, host = sock.recvfrom(_MAX_BYTES)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue  # a host's port has gone; the next datagram is another's
            received(data, host)

    def _accept(self, listener: socket.socket, host: str, converse: Callable[[], Conversation]) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._keep(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection] = host
        conversation = converse()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._talk(connection, conversation))

    def _talk(self, connection: socket.socket, conversation: Conversation) -> None:
        try:
            data = connection.recv(_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if not data:
                raise ConnectionResetError("closed by the host")
            connection.sendall(conversation(data))  # answers are short: one that does not fit ends the connection
        except (OSError, HilError) as error:
            log.debug("connection ends: %s", error)
            self._forget(connection)
