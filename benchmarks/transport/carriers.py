"""What can carry frames between two processes, each behind the same four calls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgpack
import numpy as np
import zmq

from benchmarks.transport.payload import C64, N_SENSORS, FrameMaker
from benchmarks.transport.plain_ring import U8, PlainRing
from hil.frame import Frame
from hil.runtime.edge import Receiver, Sender
from hil.runtime.frame_client import FrameClient
from hil.runtime.frame_server import FrameServer
from hil.runtime.memory import keep_freed_memory
from hil.runtime.shm_edge import ShmReceiver, ShmSender
from hil.runtime.shm_pool import ShmPool

CAPACITY = 16
_NAP_MS = 20


class Received(NamedTuple):
    seq: int
    array: C64
    sent_ns: int


class Producing(Protocol):
    """``make`` is the source's part of the work, ``send`` the carrier's; what is timed for throughput is the latter."""

    endpoint: str

    def make(self, seq: int, array: C64, sent_ns: int) -> Any: ...
    def send(self, made: Any) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...


class Consuming(Protocol):
    def receive(self) -> Received: ...
    def release(self) -> None: ...
    def close(self) -> None: ...


class EdgeProducer:
    """The producing end of an edge, driven as a worker drives it."""

    def __init__(self, sender: Sender, n_bytes: int, pool: ShmPool | None = None) -> None:
        self._sender, self._pool = sender, pool
        self._frames = FrameMaker(n_bytes)
        self.endpoint: str = getattr(sender, "endpoint", "")

    def make(self, seq: int, array: C64, sent_ns: int) -> Frame:
        return self._frames.make(seq, array, sent_ns)

    def send(self, made: Frame) -> None:
        while not self._sender.offer(made):
            sleep_on(self._sender)
            self._sender.service()

    def drain(self) -> None:
        self._sender.service()
        while not self._sender.drained:
            sleep_on(self._sender)
            self._sender.service()

    def close(self) -> None:
        self._sender.close()
        if self._pool is not None:
            self._pool.close()


class EdgeConsumer:
    """The consuming end of an edge, driven as a worker drives it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def receive(self) -> Received:
        while True:
            frame = self._receiver.receive()
            if frame is not None:
                header = frame.header
                return Received(header.seq, frame.arrays["iq"], header.host_time_ns or 0)
            sleep_on(self._receiver)

    def release(self) -> None:
        self._receiver.release()

    def close(self) -> None:
        self._receiver.close()


def sleep_on(end: Sender | Receiver) -> None:
    """Sleep until ``end`` may go on, as :class:`hil.runtime.worker.Worker` does."""
    poller = zmq.Poller()
    for handle in end.handles:
        poller.register(handle, zmq.POLLIN)
    if not end.arm():
        poller.poll(_NAP_MS)
    end.disarm()


class BareProducer:
    """pyzmq as it comes: a MessagePack header and the payload, not copied."""

    def __init__(self, transport: str, directory: Path) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, CAPACITY)
        self._socket.bind("tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{directory}/bare")
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def make(self, seq: int, array: C64, sent_ns: int) -> tuple[dict[str, Any], C64]:
        return {"seq": seq, "dtype": "complex64", "shape": array.shape, "sent_ns": sent_ns}, array

    def send(self, made: tuple[dict[str, Any], C64]) -> None:
        header, array = made
        self._socket.send_multipart([msgpack.packb(header), array], copy=False)  # type: ignore[list-item]

    def drain(self) -> None:
        """It cannot know; its payloads do not change, so nothing has to be waited for."""

    def close(self) -> None:
        self._socket.close(linger=0)


class BareConsumer:
    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, CAPACITY)
        self._socket.connect(endpoint)

    def receive(self) -> Received:
        head, payload = self._socket.recv_multipart(copy=False)
        header: dict[str, Any] = msgpack.unpackb(head.buffer)
        array = np.frombuffer(payload.buffer, header["dtype"]).reshape(header["shape"])
        return Received(header["seq"], array, header["sent_ns"])

    def release(self) -> None:
        """The memory of a message is freed with its last view."""

    def close(self) -> None:
        self._socket.close(linger=0)


class RingProducer:
    endpoint = ""

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._ring = PlainRing(path, n_bytes)

    def make(self, seq: int, array: C64, sent_ns: int) -> tuple[int, U8, int]:
        return seq, array.reshape(-1).view(np.uint8), sent_ns

    def send(self, made: tuple[int, U8, int]) -> None:
        self._ring.write(*made)

    def drain(self) -> None:
        while not self._ring.drained():
            time.sleep(0.001)

    def close(self) -> None:
        """The mapping goes with the process."""


class RingConsumer:
    def __init__(self, path: Path, n_bytes: int) -> None:
        self._ring = PlainRing(path, n_bytes)
        self._seq = 0

    def receive(self) -> Received:
        view, sent_ns = self._ring.read(self._seq)
        return Received(self._seq, view.view(np.complex64).reshape(N_SENSORS, -1), sent_ns)

    def release(self) -> None:
        self._ring.release(self._seq)
        self._seq += 1

    def close(self) -> None:
        """The mapping goes with the process."""


def producer(kind: str, name: str, directory: Path, n_bytes: int) -> Producing:
    """Make the producing end of a carrier: ``edge-shm``, ``edge-tcp``, ``edge-ipc``, ``bare-tcp``, ``ring``, ...

    ``kept-tcp`` is ``bare-tcp`` whose receiver keeps freed memory, as workers do.
    """
    match kind.split("-"):
        case ["edge", "shm"]:
            pool = ShmPool(f"{name}.pool")
            sender = ShmSender(name, directory, pool, capacity=CAPACITY, policy="block", label="bench")
            return EdgeProducer(sender, n_bytes, pool)
        case ["edge", transport]:
            endpoint = "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{directory}/edge"
            server = FrameServer(endpoint, capacity=CAPACITY, policy="block", exclusive=True, name="bench")
            return EdgeProducer(server, n_bytes)
        case ["bare" | "kept", transport]:
            return BareProducer(transport, directory)
        case ["ring"]:
            return RingProducer(directory / "ring", n_bytes)
    raise ValueError(f"no carrier {kind!r}")


def consumer(kind: str, name: str, directory: Path, n_bytes: int, endpoint: str) -> Consuming:
    """Make the consuming end."""
    match kind.split("-"):
        case ["edge", "shm"]:
            return EdgeConsumer(ShmReceiver(name, directory, f"{name}.pool"))
        case ["edge", _]:
            keep_freed_memory()  # as every worker does
            return EdgeConsumer(FrameClient(endpoint))
        case ["bare", _]:
            return BareConsumer(endpoint)
        case ["kept", _]:
            keep_freed_memory()
            return BareConsumer(endpoint)
        case ["ring"]:
            return RingConsumer(directory / "ring", n_bytes)
    raise ValueError(f"no carrier {kind!r}")
