"""The side that sends frames, see :mod:`hil.runtime.frame_protocol`."""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from typing import Any

import msgpack
import numpy as np
import zmq

from hil.errors import EdgeOverflow, RunError
from hil.frame import NO_LOSS, AnyArray, Frame
from hil.runtime.curve import CurveServer, require_keys
from hil.runtime.frame_protocol import COUNT, POLL_INTERVAL_S, PROBE_INTERVAL_S, PROTOCOL
from hil.runtime.queue import Item, Policy, SendQueue
from hil.wire import encode, encode_header

log = logging.getLogger(__name__)


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
        if time.monotonic() - self._polled > POLL_INTERVAL_S or any(
            len(c.queue.in_flight) >= c.queue.window for c in self._clients.values()
        ):
            self.poll()  # credit may have come, or a client
        if header.kind == "descriptor":
            self._descriptors[header.stream] = frame  # not before: a client that has just come would get it twice
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
        if kind == b"ack" and client is not None and len(rest) == 1 and len(rest[0]) == COUNT.size:
            count = COUNT.unpack(rest[0])[0]
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
            COUNT.pack(generation)  # it is answered with
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
        first = COUNT.pack(queue.first_in_flight + len(queue.in_flight))
        generation = COUNT.pack(client.generation)
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
        """Find out whether those who have not finished with all that was queued are still there."""
        self._probed = time.monotonic()
        for client in list(self._clients.values()):
            if not client.queue.empty:
                self._welcome(client)

    def _forget(self, client: _Client) -> None:
        if self._clients.pop(client.identity, None) is not None and self._exclusive:
            self._orphan = client.queue  # what was in flight is settled when the next one says hello


def _own(array: AnyArray) -> AnyArray:
    """``array``, copied where it is a view of shared memory."""
    return array.copy() if _is_shared(array) else array


def _is_shared(array: AnyArray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)
