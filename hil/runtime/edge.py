"""The two ends of an edge, whatever carries it, and how they are made from a plain description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import zmq

from hil.frame import Frame
from hil.graph import EdgeKind
from hil.runtime.frame_client import FrameClient
from hil.runtime.frame_server import FrameServer
from hil.runtime.queue import Policy, SendQueue
from hil.runtime.shm_edge import ShmReceiver, ShmSender, supported
from hil.runtime.shm_pool import ShmPool


class Sender(Protocol):
    """The producing end: queues frames by a policy, hands them on as the consumer's credit allows."""

    def offer(self, frame: Frame) -> bool: ...
    def service(self) -> None: ...
    def arm(self) -> bool: ...
    def disarm(self) -> None: ...
    @property
    def handles(self) -> Sequence[Any]: ...
    @property
    def queues(self) -> Sequence[SendQueue[Any]]: ...
    @property
    def drained(self) -> bool: ...
    def close(self) -> None: ...


class Receiver(Protocol):
    """The consuming end: frames one at a time, each valid until the next call."""

    def receive(self) -> Frame | None: ...
    def release(self) -> None: ...
    def arm(self) -> bool: ...
    def disarm(self) -> None: ...
    @property
    def handles(self) -> Sequence[Any]: ...
    def close(self) -> None: ...


class EdgeSpec(NamedTuple):
    """One edge between workers, as plain values.

    Attributes:
        name: Unique on this host; names files in shared memory.
        label: ``"sim.iq -> music.iq"``, for people.
        contiguous: The producer is a source, whose frames are numbered without gaps.
    """

    name: str
    label: str
    kind: EdgeKind
    source: tuple[str, str]
    sink: tuple[str, str]
    source_worker: str
    sink_worker: str
    capacity: int
    policy: Policy
    contiguous: bool
    endpoint: str


def open_sender(spec: EdgeSpec, directory: Path, pool: ShmPool, context: zmq.Context[Any]) -> Sender:
    """Make the producing end of ``spec``."""
    if spec.kind == "shm":
        return ShmSender(spec.name, directory, pool, capacity=spec.capacity, policy=spec.policy, label=spec.label)
    return FrameServer(
        spec.endpoint,
        capacity=spec.capacity,
        policy=spec.policy,
        exclusive=True,
        name=spec.label,
        context=context,
    )


def open_receiver(spec: EdgeSpec, directory: Path, run: str, context: zmq.Context[Any]) -> Receiver:
    """Make the consuming end of ``spec``; its endpoint must be the bound one."""
    if spec.kind == "shm":
        return ShmReceiver(spec.name, directory, pool_prefix(run, spec.source_worker))
    return FrameClient(spec.endpoint, progress=directory / f"{spec.name}.counts", context=context)


def pool_prefix(run: str, worker: str) -> str:
    """Prefix of the shared-memory files of one worker."""
    return f"{run}.{worker}"


def default_kind() -> EdgeKind:
    """Shared memory where this machine allows it, else a local socket."""
    return "shm" if supported() else "ipc"
