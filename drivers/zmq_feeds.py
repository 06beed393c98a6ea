"""ZeroMQ sockets that samples come from, one or several, with an eye on their connections.

ZeroMQ connects again by itself and says nothing; here a connection that breaks is told, as what came before and after
it need not belong together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from drivers.live import ConnectionLost

#: A longer message is no message: ZeroMQ closes the connection before it is taken.
MAX_MESSAGE_BYTES = 64 << 20
_OTHER_KIND = "the other side is another kind of socket, or none of ZeroMQ's"
_LOST = {
    int(zmq.EVENT_DISCONNECTED): "the connection was closed",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): _OTHER_KIND,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): _OTHER_KIND,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "the other side wants keys",
}
_EVENTS = sum(_LOST) | int(zmq.EVENT_HANDSHAKE_SUCCEEDED)


class Feeds:
    """Sockets connected to ``endpoints``.

    Args:
        kind: ``zmq.SUB``, ``zmq.PULL`` or ``zmq.REQ``.
        endpoints: A socket each.
        key: What a SUB socket subscribes to.
        hwm: Messages that wait, a socket.

    Raises:
        zmq.ZMQError: An endpoint that is none.
    """

    def __init__(self, kind: int, endpoints: Sequence[str], *, key: bytes = b"", hwm: int = 256) -> None:
        self.endpoints = endpoints
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._monitors: list[zmq.Socket[bytes]] = []
        self._up = [False] * len(endpoints)
        self._asked = [False] * len(endpoints)
        self._poller = zmq.Poller()
        try:
            for endpoint in endpoints:
                sock = self._context.socket(kind)
                self._sockets.append(sock)
                sock.setsockopt(zmq.LINGER, 0)
                sock.setsockopt(zmq.RCVHWM, hwm)
                sock.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
                self._monitors.append(sock.get_monitor_socket(_EVENTS))
                if kind == zmq.SUB:
                    sock.setsockopt(zmq.SUBSCRIBE, key)
                sock.connect(endpoint)
                self._poller.register(sock, zmq.POLLIN)
                self._poller.register(self._monitors[-1], zmq.POLLIN)
        except BaseException:
            self.close()
            raise

    @property
    def down(self) -> list[str]:
        """Endpoints that are not connected."""
        return [e for e, up in zip(self.endpoints, self._up, strict=True) if not up]

    def wait_up(self, end_s: float) -> bool:
        """Wait until all are connected; false where they are not by ``end_s``.

        Raises:
            ConnectionLost: One refused, or went again.
        """
        while self.down and (left_s := end_s - time.monotonic()) > 0:
            self._watch(dict(self._poller.poll(max(1, round(left_s * 1000)))))
        return not self.down

    def ask(self, i: int, request: bytes) -> None:
        """Send ``request`` on REQ socket ``i``, unless its last one has not been answered."""
        if not self._asked[i]:
            self._sockets[i].send(request)
            self._asked[i] = True

    def receive(self, end_s: float, wanted: Sequence[bool] | None = None) -> list[tuple[int, list[zmq.Frame]]]:
        """What has come: at most one message of each socket, ``(socket, parts)``; waits until ``end_s`` for the first.

        Args:
            end_s: Of the monotonic clock.
            wanted: From which sockets; the others keep what they have.

        Raises:
            ConnectionLost: A connection broke.
        """
        while True:
            left_s = end_s - time.monotonic()
            ready = dict(self._poller.poll(max(0, round(left_s * 1000))))
            out = [
                (i, sock.recv_multipart(copy=False))
                for i, sock in enumerate(self._sockets)
                if sock in ready and (wanted is None or wanted[i])
            ]
            for i, _ in out:
                self._asked[i] = False
            # what came whole before the connection broke is taken first
            if out:
                return out
            self._watch(ready)
            if time.monotonic() >= end_s:
                return []
            if wanted is not None and any(s in ready for s in self._sockets):
                time.sleep(min(1e-3, max(left_s, 0.0)))  # only those have something that shall wait

    def close(self) -> None:
        for sock in self._sockets:
            sock.disable_monitor()
            sock.close(0)
        for monitor in self._monitors:
            monitor.close(0)
        self._context.term()

    def _watch(self, ready: Mapping[Any, int]) -> None:
        for i, monitor in enumerate(self._monitors):
            while monitor in ready and monitor.poll(0):
                event = int(recv_monitor_message(monitor)["event"])
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._up[i] = True
                elif event in _LOST:
                    why = _LOST[event] if self._up[i] else _OTHER_KIND  # closed before a word was understood
                    self._up[i] = False
                    raise ConnectionLost(f"{self.endpoints[i]}: {why}")
