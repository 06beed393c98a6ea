"""Bytes of one client's connection: lines and raw data in, pieces out, never waiting past the server's end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

from sim_device.servers.protocol_server import TICK_S

#: Longest line: a mask of 4096 channels has 1 kB.
MAX_LINE = 8192


class Gone(Exception):
    """The client has gone, or the server ends."""


class ClientSocket:
    """A connection.

    Args:
        sock: Connected.
        ending: Set when the server ends.
    """

    def __init__(self, sock: socket.socket, ending: threading.Event) -> None:
        self._sock, self._ending = sock, ending
        self._buffer = bytearray()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(TICK_S)

    def line(self) -> bytes:
        """Return the next line without its end.

        Raises:
            Gone: There is none, or it is longer than ``MAX_LINE``.
        """
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > MAX_LINE:
                raise Gone("a line without an end")
            self._more(65536)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def exactly(self, n: int) -> bytes:
        """Return the next ``n`` bytes."""
        while len(self._buffer) < n:
            self._more(min(n - len(self._buffer), 1 << 16))
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    def skip(self, n: int) -> None:
        """Read ``n`` bytes and forget them."""
        while n > 0:
            n -= len(self.exactly(min(n, 1 << 16)))

    def send(self, *pieces: bytes | memoryview) -> None:
        """Send pieces, one after the other, without copying them together."""
        left: list[memoryview] = [memoryview(p) for p in pieces if len(p)]
        while left:
            try:
                sent = self._sock.sendmsg(left)
            except TimeoutError:
                self._check()
                continue
            except OSError as error:
                raise Gone(str(error)) from error
            left = _after(left, sent)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _more(self, at_most: int) -> None:
        while True:
            self._check()
            try:
                data = self._sock.recv(at_most)
            except TimeoutError:
                continue
            except OSError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("closed by the client")
            self._buffer += data
            return

    def _check(self) -> None:
        if self._ending.is_set():
            raise Gone("the server ends")


def _after(pieces: Sequence[memoryview], n: int) -> list[memoryview]:
    """What is left of ``pieces`` behind the first ``n`` bytes."""
    for i, piece in enumerate(pieces):
        if n < len(piece):
            return [piece[n:], *pieces[i + 1 :]]
        n -= len(piece)
    return []
