"""Frames of heimdall out of a socket, a piece at a time: what has come is kept while the rest is waited for."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.live import ConnectionLost
from drivers.memory_pool import MemoryPool
from hil.errors import WireError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1, HeaderV2

#: Asked of the system for what waits in a connection.
_RECEIVE_BYTES = 4 << 20
_NOTHING: npt.NDArray[np.uint8] = np.empty(0, np.uint8)


class Pieces:
    """Reads a socket into given memory; a time-out loses nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fill(self, memory: memoryview, filled: int, end_s: float) -> int:
        """Read until ``memory`` is full or the clock says ``end_s``; return how much of it is filled.

        Raises:
            ConnectionLost: The other side has gone.
        """
        while filled < len(memory):
            left_s = end_s - time.monotonic()
            self._socket.settimeout(max(left_s, 0.0))
            try:
                n = self._socket.recv_into(memory[filled:])
            except (TimeoutError, BlockingIOError):
                return filled
            except OSError as error:
                raise ConnectionLost(f"the connection broke: {error}") from error
            if n == 0:
                within = f" within a frame, after {filled} of {len(memory)} bytes" if filled else ""
                raise ConnectionLost(f"the device closed the connection{within}")
            filled += n
        return filled


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection with a large receive buffer.

    Raises:
        OSError: There is none.
    """
    error: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(timeout_s)
            sock.connect(address)
        except OSError as failed:
            sock.close()
            error = failed
        else:
            return sock
    raise error or OSError(f"{host} has no address")


class ReaderV1:
    """Frames of version 1. The next one is asked for as soon as one has come whole: one request is out at a time.

    Args:
        sock: Connected to the data port.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._pieces, self._socket = Pieces(sock), sock
        self._head = bytearray(heimdall.V1_BYTES)
        self._filled = 0
        self._header: HeaderV1 | None = None
        self._pool = MemoryPool(0)
        self._payload = _NOTHING
        self._ask(heimdall.START)

    def read(self, end_s: float) -> tuple[HeaderV1, npt.NDArray[np.complex64]] | None:
        """The next frame ``[sensor, snapshot]``; ``None``: it has not come whole by ``end_s``.

        Raises:
            ConnectionLost: The device has gone, or sends what is no frame.
        """
        if self._header is None:
            self._filled = self._pieces.fill(memoryview(self._head), self._filled, end_s)
            if self._filled < heimdall.V1_BYTES:
                return None
            try:
                self._header = heimdall.decode_v1(self._head)
            except WireError as error:
                # there is nothing to go on from: the length of what follows is not known
                raise ConnectionLost(f"a header was damaged: {error}") from error
            h = self._header
            n_bytes = 8 * h.n_channels * h.n_samples
            if n_bytes != self._pool.n_bytes:
                self._pool = MemoryPool(n_bytes)
            self._payload, self._filled = self._pool.take(), 0
        self._filled = self._pieces.fill(self._payload.data, self._filled, end_s)
        if self._filled < len(self._payload):
            return None
        h = self._header
        frame = h, self._payload.view(np.complex64).reshape(h.n_channels, h.n_samples)
        self._payload = _NOTHING
        self._header, self._filled = None, 0
        self._ask(heimdall.NEXT)
        return frame

    def leave(self) -> None:
        """Tell the device that no more is wanted, where it is still there."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(0.1)
            self._socket.sendall(heimdall.QUIT)

    def _ask(self, request: bytes) -> None:
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(request)
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error}") from error


class ReaderV2:
    """Packets of version 2, found again by their mark and plausible counts where bytes were damaged.

    Args:
        sock: Connected to the data port.

    Attributes:
        skipped: Bytes that belonged to no packet, before the one that was read last.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._pieces = Pieces(sock)
        self._head = bytearray()
        self._header: HeaderV2 | None = None
        self._pool = MemoryPool(0)
        self._payload = _NOTHING
        self._filled = 0
        self._usual_bytes = heimdall.V2_FIXED_BYTES
        self._skipping = self.skipped = 0

    def read(self, end_s: float) -> tuple[HeaderV2, npt.NDArray[np.uint8]] | None:
        """The next packet ``[sensor, snapshot, component]``; ``None``: it has not come whole by ``end_s``.

        Raises:
            ConnectionLost: The device has gone.
        """
        while self._header is None:
            place, header = heimdall.find_v2(self._head)
            self._skipping += place
            del self._head[:place]
            if header is None:
                if not self._more(end_s):
                    return None
                continue
            self._header, self._usual_bytes = header, header.header_bytes
            if header.payload_bytes != self._pool.n_bytes:
                self._pool = MemoryPool(header.payload_bytes)
            self._payload = self._pool.take()
            rest = self._head[header.header_bytes :]
            self._filled = min(len(rest), len(self._payload))
            self._payload[: self._filled] = np.frombuffer(rest, np.uint8)[: self._filled]
            self._head = rest[self._filled :]
        h = self._header
        self._filled = self._pieces.fill(self._payload.data, self._filled, end_s)
        if self._filled < len(self._payload):
            return None
        samples = self._payload.reshape(h.n_channels, h.n_samples, 2)
        self._header, self._payload = None, _NOTHING
        self.skipped, self._skipping = self._skipping, 0
        return h, samples

    def _more(self, end_s: float) -> bool:
        """Read what is missing of a header: as long as the last one was, else as long as it says."""
        known = len(self._head) >= heimdall.V2_FIXED_BYTES
        wanted = heimdall.V2_FIXED_BYTES + (8 * int.from_bytes(self._head[4:8], "big") if known else 0)
        wanted = max(wanted, self._usual_bytes)
        piece = bytearray(max(wanted - len(self._head), 1))
        n = self._pieces.fill(memoryview(piece), 0, end_s)
        self._head += piece[:n]
        return n > 0


class Commands:
    """The control port, one command and one answer at a time.

    Args:
        sock: Connected to it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def ask_v1(self, command: str, *values: int, timeout_s: float) -> str:
        """Send a command of version 1; return why it was not done, nothing where it was.

        Raises:
            OSError: No answer.
        """
        self._socket.settimeout(timeout_s)
        self._socket.sendall(heimdall.encode_control_v1(command, *values))
        answer = b""
        while len(answer) < heimdall.CONTROL_BYTES:
            more = self._socket.recv(heimdall.CONTROL_BYTES - len(answer))
            if not more:
                raise OSError("the device closed the connection")
            answer += more
        return "" if answer.startswith(heimdall.DONE) else f"it answered {answer[:16].rstrip(bytes(1))!r}"

    def send_v2(self, command: str, timeout_s: float, **values: Any) -> str:
        """Send a command of version 2; return why it was not done, nothing where it was.

        The device also tells its settings now and then, in lines without a ``status``: they are passed over.

        Raises:
            OSError: No answer.
        """
        end, line = time.monotonic() + timeout_s, b""
        self._socket.settimeout(timeout_s)
        self._socket.sendall(heimdall.encode_control_v2(command, **values))
        while True:
            while b"\n" not in line:
                self._socket.settimeout(max(end - time.monotonic(), 1e-3))
                more = self._socket.recv(4096)
                if not more:
                    raise OSError("the device closed the connection")
                line += more
            answer, _, line = line.partition(b"\n")
            status = heimdall.status_v2(answer)
            if status is not None:
                return status

    def close(self) -> None:
        self._socket.close()
