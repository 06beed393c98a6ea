"""Frames over a ZeroMQ socket, to any number of consumers, each with a queue and credit of its own.

Protocol, all multipart, on ROUTER (server) and DEALER (client):

========================================  =============================================================
client -> server
``hello``, map                            generation, the streams wanted (none: all), protocol version; where it has
                                          met a server before: which instance, frames begun and finished with
``ack``, u64                              finished with that many frames since ``hello``
``bye``
server -> client
stream, header, arrays ...                a frame, see :mod:`hil.wire`
empty, ``welcome``, instance,             answers each hello; frames follow for this generation only, the first of
generation, first                         them having the number ``first``
========================================  =============================================================

A client that hears nothing says hello again, so it finds a server that was restarted; frames that arrive before the
welcome of the newest generation belong to a lost connection and are discarded; the server sends them again, except the
one that the client had begun. A welcome also tells a client how many frames were sent before it, so that one whose
connection broke knows what it has missed. A consumer that is killed has its counts in a file, so that the one that
takes its place can tell: acknowledgements that were still on their way at that moment would not.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from hil.errors import EdgeOverflow, RunError, WireError
from hil.frame import NO_LOSS, AnyArray, Frame
from hil.runtime.curve import CurveClient, CurveServer, require_keys
from hil.runtime.queue import Item, Policy, SendQueue
from hil.wire import DEFAULT_LIMITS, Limits, decode, encode, encode_header

log = logging.getLogger(__name__)

PROTOCOL = 1
#: A client that has heard nothing for so long says hello again.
HELLO_INTERVAL_S = 0.25
#: ... and begins a new generation when that is not answered either.
ANSWER_TIMEOUT_S = 2.0
#: A server that is kept busy sending looks so often who else wants frames.
POLL_INTERVAL_S = 0.02
#: A server for whose clients frames wait looks so often whether they are still there.
PROBE_INTERVAL_S = 1.0
_COUNT = struct.Struct("<Q")


class _Client:
    def __init__(self, identity: bytes, queue: SendQueue[list[Any]]) -> None:
        self.identity = identity
        self.queue = queue
        self.generation = 0
        self.streams: frozenset[str] = frozenset()
        self.acknowledged = 0

    def wants(self, stream: str) -> bool:
        return not self.streams or stream in self.streams


class FrameServer:
    """Sends frames to whoever says hello.

    Args:
        endpoint: Where to bind; a port ``*`` is chosen by the system.
        capacity: Frames that may wait for a client.
        policy: What happens when they are more.
        exclusive: There is one consumer: frames wait for it before it came, and one that comes anew takes the place of
            the one before. Otherwise a frame is for those who are connected.
        curve: Keys, needed unless the endpoint is on this host.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:*",
        *,
        capacity: int = 16,
        policy: Policy = "block",
        exclusive: bool = False,
        name: str = "",
        context: zmq.Context[Any] | None = None,
        curve: CurveServer | None = None,
    ) -> None:
        require_keys(endpoint, curve)
        self._instance = os.urandom(8)
        self._capacity, self._policy = capacity, policy
        self._name = name or endpoint
        self.socket = (context or zmq.Context.instance()).socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.setsockopt(zmq.SNDHWM, 0)  # credit limits what is in flight
        self.socket.setsockopt(zmq.MAXMSGSIZE, 64 * 1024)  # a client sends small messages only
        try:
            if curve is not None:
                curve.apply(self.socket)
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise RunError(f"cannot bind {endpoint}: {error}; choose another port") from error
        self.endpoint: str = self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._clients: dict[bytes, _Client] = {}
        self._orphan = self._new_queue() if exclusive else None
        self._exclusive = exclusive
        self._descriptors: dict[str, Frame] = {}
        self._polled = self._probed = time.monotonic()

    @property
    def n_clients(self) -> int:
        return len(self._clients)

    @property
    def queues(self) -> list[SendQueue[list[Any]]]:
        """The queue of each client, and of the one still to come."""
        return [c.queue for c in self._clients.values()] + ([self._orphan] if self._orphan is not None else [])

    @property
    def handles(self) -> list[zmq.Socket[bytes]]:
        """What to poll for acknowledgements."""
        return [self.socket]

    def offer(self, frame: Frame) -> bool:
        """Queue ``frame`` for each client that wants it. False: a ``block`` queue is full, try again after a poll.

        The arrays are referred to until each client has finished with them: do not write into them again. Views of
        shared memory, which is not the caller's to keep, are copied.
        """
        header = frame.header
        if header.kind == "descriptor":
            self._descriptors[header.stream] = frame
        if time.monotonic() - self._polled > POLL_INTERVAL_S or any(
            len(c.queue.in_flight) >= c.queue.window for c in self._clients.values()
        ):
            self.poll()  # credit may have come, or a client
        queues = [c.queue for c in self._clients.values() if c.wants(header.stream)]
        if self._orphan is not None:
            queues.append(self._orphan)
        if self._policy == "block" and header.kind == "data":
            for queue in queues:
                if not queue.has_room():
                    return False
        if queues:
            for array in frame.arrays.values():
                if array.base is not None and _is_shared(array):
                    frame = Frame(header, {name: _own(a) for name, a in frame.arrays.items()})
                    break
            parts = encode(frame)
            for queue in queues:
                queue.offer(Item(header, parts))
            self.pump()
        return True

    def send(self, frame: Frame, timeout_s: float | None = None) -> None:
        """Queue ``frame``, waiting for room where the policy is ``block``.

        Raises:
            EdgeOverflow: No room came within ``timeout_s``, or the policy is ``fail``.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.offer(frame):
            if end is not None and time.monotonic() >= end:
                raise EdgeOverflow(f"{self._name}: no consumer took a frame for {timeout_s} s")
            self.poll(0.1)
            self._probe()

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve hellos and acknowledgements, waiting at most ``timeout_s`` for the first of them."""
        self._polled = time.monotonic()
        if self.socket.poll(int(timeout_s * 1000)):
            while True:
                try:
                    identity, kind, *rest = self.socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                except ValueError:
                    continue  # a message of fewer parts than a client sends
                self._serve(identity, kind, rest)
        if time.monotonic() - self._probed > PROBE_INTERVAL_S:
            self._probe()
        self.pump()

    def service(self) -> None:
        """Serve what waits."""
        self.poll()

    def arm(self) -> bool:
        """About to sleep on ``handles``; true: do not."""
        return False

    def disarm(self) -> None:
        """Awake again."""

    def pump(self) -> None:
        """Hand to the transport what credit allows."""
        for client in list(self._clients.values()):
            while (item := client.queue.next_sendable()) is not None:
                if not self._transmit(client, item):
                    break

    def drain(self, timeout_s: float) -> bool:
        """Wait until each client has finished with all that is queued; false where it has not in time."""
        end = time.monotonic() + timeout_s
        while not self.drained:
            if time.monotonic() >= end:
                return False
            self.poll(0.05)
            self._probe()
        return True

    @property
    def drained(self) -> bool:
        return all(q.empty for q in self.queues)

    def close(self) -> None:
        self.socket.close()

    def _new_queue(self) -> SendQueue[list[Any]]:
        return SendQueue(self._capacity, self._policy, self._name)

    def _serve(self, identity: bytes, kind: bytes, rest: list[bytes]) -> None:
        client = self._clients.get(identity)
        if kind == b"ack" and client is not None and len(rest) == 1 and len(rest[0]) == _COUNT.size:
            count = _COUNT.unpack(rest[0])[0]
            client.queue.acknowledge(count - client.acknowledged)
            client.acknowledged = max(count, client.acknowledged)
        elif kind == b"hello" and len(rest) == 1:
            self._hello(identity, client, rest[0])
        elif kind == b"bye" and client is not None:
            self._forget(client)
        elif client is None and kind == b"ack":
            pass  # of a client that said bye, or of another life of this server
        else:
            log.warning("%s: ignored a message %r that is not of this protocol", self._name, kind[:16])

    def _hello(self, identity: bytes, client: _Client | None, data: bytes) -> None:
        try:
            fields = msgpack.unpackb(data)
            generation, streams = int(fields["generation"]), frozenset(map(str, fields["streams"]))
            version = fields["v"]
            met = [int(n) for n in fields["met"]] if fields.get("instance") == self._instance else None
            begun, finished = met if met is not None else (0, 0)
            _COUNT.pack(generation)  # it is answered with
        except (ValueError, KeyError, TypeError, OverflowError, struct.error) as error:
            log.warning("%s: ignored a hello that is none: %s", self._name, error)
            return
        if version != PROTOCOL:
            log.warning(
                "%s: a client speaks protocol %r, this server %d: update the older side", self._name, version, PROTOCOL
            )
            return
        if client is None or client.generation != generation:
            if client is None:
                queue = self._take_over()
                client = self._clients[identity] = _Client(identity, queue)
            else:
                queue = client.queue
            if met is not None:
                queue.acknowledge(max(0, finished - queue.first_in_flight))
            queue.consumer_died(begun=met is None or begun > finished)
            client.generation, client.streams, client.acknowledged = generation, streams, 0
            self._welcome(client)
            waiting = [item.header for item in client.queue.waiting]
            for frame in self._descriptors.values():
                if not client.wants(frame.header.stream) or frame.header in waiting:
                    continue
                client.queue.waiting.appendleft(Item(frame.header, encode(frame)))
        else:
            if met is not None:  # acknowledgements may have been lost with a connection
                client.acknowledged += len(client.queue.acknowledge(finished - client.queue.first_in_flight))
            self._welcome(client)

    def _take_over(self) -> SendQueue[list[Any]]:
        """The queue for a client that is new: its own, or the one of the consumer whose place it takes."""
        if not self._exclusive:
            return self._new_queue()
        if self._orphan is not None:
            queue, self._orphan = self._orphan, None
            return queue
        (before,) = self._clients.values()
        del self._clients[before.identity]
        return before.queue

    def _welcome(self, client: _Client) -> None:
        queue = client.queue
        first = _COUNT.pack(queue.first_in_flight + len(queue.in_flight))
        generation = _COUNT.pack(client.generation)
        try:
            self.socket.send_multipart([client.identity, b"", b"welcome", self._instance, generation, first])
        except zmq.ZMQError:
            self._forget(client)

    def _transmit(self, client: _Client, item: Item[list[Any]]) -> bool:
        parts = item.payload
        if item.header.lost != NO_LOSS:  # what the queue added is not in the bytes that all clients share
            parts = [parts[0], encode_header(item.header), *parts[2:]]
        send, last = self.socket.send, len(parts) - 1
        try:
            send(client.identity, zmq.SNDMORE)
            for i, part in enumerate(parts):
                # What is small is copied sooner than it is kept.
                send(part, zmq.SNDMORE if i < last else 0, copy=i < 2)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            log.info("%s: a consumer has gone", self._name)
            self._forget(client)
            return False
        return True

    def _probe(self) -> None:
        """Find out whether those for whom frames wait are still there."""
        self._probed = time.monotonic()
        for client in list(self._clients.values()):
            if client.queue.waiting:
                self._welcome(client)

    def _forget(self, client: _Client) -> None:
        if self._clients.pop(client.identity, None) is not None and self._exclusive:
            self._orphan = client.queue  # what was in flight is settled when the next one says hello


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
            self.socket.send_multipart([b"ack", _COUNT.pack(self._finished)])

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
        if len(parts) != 4 or parts[0] != b"welcome" or {len(p) for p in parts[1:]} != {_COUNT.size}:
            raise WireError(f"{self.endpoint}: answered {parts[:1]!r}, which is not of this protocol")
        instance, generation, first = (_COUNT.unpack(p)[0] for p in parts[1:])
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


def _own(array: AnyArray) -> AnyArray:
    """``array``, copied where it is a view of shared memory."""
    return array.copy() if _is_shared(array) else array


def _is_shared(array: AnyArray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


def _counts(progress: Path | None) -> memoryview:
    """Three words, in a file where they shall survive this process."""
    if progress is None:
        return memoryview(bytearray(24)).cast("Q")
    with progress.open("a+b") as file:
        file.truncate(24)
        return memoryview(mmap.mmap(file.fileno(), 24)).cast("Q")
