"""MessagePack-RPC over TCP, as far as UHD speaks it: requests, answers, notifications."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import msgpack

from hil.errors import HilError, WireError

log = logging.getLogger(__name__)

_RESPONSE = 1
#: No call of a host is longer.
MAX_BYTES = 1 << 20
_POLL_S = 0.05


class RpcError(HilError):
    """What the caller is told of a call that failed."""


def parse_call(message: Any) -> tuple[int | None, str, list[Any]]:
    """Message number (``None``: nobody waits for an answer), method and arguments.

    Raises:
        WireError: It is no call.
    """
    match message:
        case [0, int(number), str(method), list(params)]:
            return number, method, params
        case [2, str(method), list(params)]:
            return None, method, params
    raise WireError(f"msgpack-rpc: expected [0, number, method, arguments], got {str(message)[:80]}")


def new_unpacker() -> msgpack.Unpacker:
    return msgpack.Unpacker(
        raw=False, strict_map_key=False, max_buffer_size=MAX_BYTES, unicode_errors="surrogateescape"
    )


class RpcServer:
    """Listens at one address; one thread a connection.

    Args:
        address: Where to listen.
        call: ``(method, arguments)`` to result; :class:`RpcError` becomes the caller's error.
        thread: Runs a function in a thread.
        ending: Set when all shall end.
    """

    def __init__(
        self,
        address: tuple[str, int],
        call: Callable[[str, list[Any]], Any],
        thread: Callable[..., None],
        ending: threading.Event,
    ) -> None:
        self._call, self._thread, self._ending = call, thread, ending
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(address, backlog=16)
        self._listener.settimeout(_POLL_S)

    def listen(self) -> None:
        """Take connections until the end."""
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_POLL_S)
            with self._lock:
                self._connections.add(connection)
            self._thread(self._serve, connection)

    def drop_connections(self) -> None:
        """Close all connections without a word."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.drop_connections()

    def _serve(self, connection: socket.socket) -> None:
        unpacker = new_unpacker()
        with connection:
            try:
                while not self._ending.is_set():
                    try:
                        data = connection.recv(1 << 16)
                    except TimeoutError:
                        continue
                    if not data:
                        break
                    unpacker.feed(data)
                    for message in unpacker:
                        connection.sendall(self._answer(message))
            except (OSError, ValueError, WireError, msgpack.exceptions.UnpackException) as error:
                log.debug("msgpack-rpc: connection ends: %s", error)
            finally:
                with self._lock:
                    self._connections.discard(connection)

    def _answer(self, message: Any) -> bytes:
        number, method, params = parse_call(message)
        error = result = None
        try:
            result = self._call(method, params)
        except RpcError as failed:
            error = str(failed)
        except (TypeError, ValueError, KeyError, HilError) as failed:
            error = f"{method}: {type(failed).__name__}: {failed}"
        if error is not None:
            log.debug("msgpack-rpc: %s: %s", method, error)
        if number is None:
            return b""
        return bytes(msgpack.packb([_RESPONSE, number, error, result]))
