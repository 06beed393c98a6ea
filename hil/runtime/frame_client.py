"""The side that receives frames, see :mod:`hil.runtime.frame_protocol`."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import zmq

from hil.errors import WireError
from hil.frame import Frame
from hil.runtime.curve import CurveClient
from hil.runtime.frame_protocol import ANSWER_TIMEOUT_S, COUNT, HELLO_INTERVAL_S, PROTOCOL
from hil.wire import DEFAULT_LIMITS, Limits, decode


class FrameClient:
    """Receives frames from a :class:`FrameServer`; finds it again after a restart of either side.

    Args:
        endpoint: Where the server is bound.
        streams: Names of the streams wanted; none: all.
        progress: A file that keeps the counts of this consumer for the one that takes its place if it is killed.
        limits: What is accepted; anything beyond is refused before memory is taken for it.

    Attributes:
        n_reconnects: How often another instance of the server was met, or the connection begun anew.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        streams: Sequence[str] = (),
        progress: Path | None = None,
        context: zmq.Context[Any] | None = None,
        curve: CurveClient | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.endpoint = endpoint
        self.n_reconnects = 0
        self._streams, self._limits = list(streams), limits
        self.socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.RCVHWM, 0)  # credit limits what is in flight
        self.socket.setsockopt(zmq.MAXMSGSIZE, limits.array_bytes)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self.socket.setsockopt(zmq.ROUTING_ID, b"hil" + os.urandom(8))
        if curve is not None:
            curve.apply(self.socket)
        self.socket.connect(endpoint)
        self._generation = 0
        self._welcomed = False
        self._finished = 0
        self._holding = False
        # Instance of the server, frames begun and finished with; numbers of the server's count.
        self._words = _counts(progress)
        self._heard = self._asked = time.monotonic()
        self._unanswered_since: float | None = None
        self._hello()

    @property
    def connected(self) -> bool:
        """Whether a server has answered, and still does."""
        since = self._unanswered_since
        return self._welcomed and (since is None or time.monotonic() - since < ANSWER_TIMEOUT_S)

    @property
    def handles(self) -> list[zmq.Socket[bytes]]:
        """What to poll for frames."""
        return [self.socket]

    def arm(self) -> bool:
        """About to sleep on ``handles``; true: do not."""
        return False

    def disarm(self) -> None:
        """Awake again."""

    def receive(self, timeout_s: float = 0.0) -> Frame | None:
        """Return the next frame, or ``None`` where none came in time. Finishes with the frame before.

        Raises:
            WireError: What came is no frame; the stream goes on with the next one.
        """
        self.release()
        end = time.monotonic() + timeout_s
        while True:
            try:
                stream = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                self.keep_alive()
                wait_s = min(end - time.monotonic(), HELLO_INTERVAL_S)
                if wait_s <= 0:
                    return None
                self.socket.poll(int(wait_s * 1000 + 0.999))
                continue
            frame = self._take(stream)
            if frame is not None:
                return frame

    def keep_alive(self) -> None:
        """Say hello again where nothing was heard for a while; to be called while idle."""
        now = time.monotonic()
        if now - self._heard < HELLO_INTERVAL_S or now - self._asked < HELLO_INTERVAL_S:
            return
        if self._welcomed and not self.connected:
            self._begin_anew()
        self._hello()

    def release(self) -> None:
        """Finish with the frame received last: its arrays are not used any more, the server may send another."""
        if self._holding:
            self._holding = False
            self._finished += 1
            self._words[2] += 1
            self.socket.send_multipart([b"ack", COUNT.pack(self._finished)])

    def _take(self, stream: bytes) -> Frame | None:
        """Receive the rest of one message; return the frame that it is, ``None`` where it is for this client alone."""
        socket = self.socket
        self._heard = time.monotonic()
        self._unanswered_since = None
        more = socket.getsockopt(zmq.RCVMORE)
        if not stream:
            self._answer(socket.recv_multipart() if more else [])
            return None
        parts: list[Any] = [stream]
        if more:
            parts.append(socket.recv())
            more = socket.getsockopt(zmq.RCVMORE)
        while more:
            part = socket.recv(copy=False)
            parts.append(part.buffer)
            more = part.more
        if not self._welcomed:
            return None  # of a connection that was lost
        self._holding = True
        self._words[1] += 1
        return decode(parts, self._limits)

    def _begin_anew(self) -> None:
        """Give the connection up: what the server has sent on it, except what was begun, it sends again."""
        self._generation += 1
        self._welcomed = False
        self._unanswered_since = None
        self._finished = 0
        self.n_reconnects += 1

    def close(self) -> None:
        with contextlib.suppress(zmq.Again):  # where it never connected
            self.socket.send_multipart([b"bye"], zmq.NOBLOCK)
        self.socket.close()

    def _hello(self) -> None:
        self._asked = time.monotonic()
        self._unanswered_since = self._unanswered_since or self._asked
        hello = {"v": PROTOCOL, "generation": self._generation, "streams": self._streams}
        if self._words[0]:
            hello["instance"], hello["met"] = self._words[0].to_bytes(8, "little"), list(self._words[1:])
        data = msgpack.packb(hello)
        with contextlib.suppress(zmq.Again):  # not connected yet: asked again later
            self.socket.send_multipart([b"hello", data], zmq.NOBLOCK)

    def _answer(self, parts: list[bytes]) -> None:
        if len(parts) != 4 or parts[0] != b"welcome" or {len(p) for p in parts[1:]} != {COUNT.size}:
            raise WireError(f"{self.endpoint}: answered {parts[:1]!r}, which is not of this protocol")
        instance, generation, first = (COUNT.unpack(p)[0] for p in parts[1:])
        if generation != self._generation:
            return  # of a hello that was given up
        again = instance == self._words[0]
        if again and self._welcomed:
            if first > self._words[1]:  # what was sent before this answer has not come: the connection broke
                self._begin_anew()
                self._hello()
            return
        if not again:
            # A server that was restarted counts from zero; it has sent nothing before this answer.
            self._finished = 0
            self.n_reconnects += self._words[0] != 0
        self._words[0], self._words[1], self._words[2] = instance, first, first
        self._welcomed = True


def _counts(progress: Path | None) -> memoryview:
    """Three words, in a file where they shall survive this process."""
    if progress is None:
        return memoryview(bytearray(24)).cast("Q")
    with progress.open("a+b") as file:
        file.truncate(24)
        return memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")
