"""A worker: some nodes of a graph, the edges that cross its border, one loop.

The loop takes frames from receivers and sources, hands them to blocks, and results on: by a call to blocks of the same
worker, over senders to others. It never waits for anything without looking after its owner (``tick``), so a worker
that is silent is a worker that hangs in a block or a device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import zmq

from hil.block import Block, Node
from hil.errors import BlockError, EdgeOverflow, EstimationError, HilError
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.runtime.edge import Receiver, Sender
from hil.runtime.metrics import EdgeMetrics, NodeMetrics
from hil.source import Source

log = logging.getLogger(__name__)

#: The longest that a worker sleeps.
NAP_S = 0.02
#: How long a source may wait for its device in one read.
READ_S = 0.1


class Aborted(HilError):
    """The owner wants the worker to end now."""


class Incoming:
    """A receiver, the input that it feeds, and the number of the last frame where these are without gaps."""

    def __init__(self, receiver: Receiver, node: str, port: str, *, contiguous: bool, label: str) -> None:
        self.receiver = receiver
        self.node = node
        self.port = port
        self.contiguous = contiguous
        self.label = label
        self.ended = False
        self.last_seq: int | None = None
        self.metrics = EdgeMetrics()

    def accounted(self, header: Header) -> Header:
        """Add to the header what went missing and was not reported by anyone: what a producer took with it."""
        last, self.last_seq = self.last_seq, header.seq
        if last is None or header.seq <= last:
            return header  # the first, or a source that began anew
        silent = header.seq - last - 1 - header.lost.frames
        if silent <= 0:
            return header
        return header._replace(lost=header.lost.plus(Loss(frames=silent)))


class Outgoing:
    """A sender and what it carried."""

    def __init__(self, sender: Sender, label: str) -> None:
        self.sender = sender
        self.label = label
        self.metrics = EdgeMetrics()
        self.blocked_ns = 0
        self.discarded = False


class Worker:
    """Runs nodes.

    Args:
        nodes: In any order.
        inline: For each output, the inputs of this worker that it feeds.
        outgoing: For each output, the senders that carry it.
        incoming: The receivers.
        upstream: For each block, from how many connections it must hear the end before it has ended.
        tick: Called often, also while waiting; raises :class:`Aborted` to end the worker.
        epoch_base: What to add to the epochs of each source that was restarted, so that they rise.
        max_frames: A source ends after so many data frames of its first output, and what its others have for them.
        progress: Told number and epoch of each data frame of a source before it is handed on, for a restarted one.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inline: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
        outgoing: Mapping[tuple[str, str], Sequence[Outgoing]],
        incoming: Sequence[Incoming],
        upstream: Mapping[str, int],
        *,
        tick: Callable[[], None],
        epoch_base: Mapping[str, int] | None = None,
        max_frames: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.metrics = {name: NodeMetrics() for name in self.nodes}
        self.outgoing = outgoing
        self.incoming = list(incoming)
        self.paused = False
        self._inline = inline
        self._upstream = dict(upstream)
        self._tick = tick
        self._epoch_base = epoch_base or {}
        self._max_frames = max_frames
        self._progress = progress
        self._sources = {n.name: n for n in nodes if isinstance(n, Source)}
        self._blocks = {n.name: n for n in nodes if isinstance(n, Block)}
        self._first_output = {name: next(iter(s.outputs), "") for name, s in self._sources.items()}
        self._last_header: dict[tuple[str, str], Header] = {}
        self._n_read = dict.fromkeys(self._sources, 0)
        self._last_seq = dict.fromkeys(self._sources, -1)
        self._reached: dict[str, dict[str, int]] = {name: {} for name in self._sources}
        self._ready: set[str] = set()  # nodes that have what their stats() tell

    # -- life --------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Let each block allocate."""
        for block in self._blocks.values():
            self._guard(block, None, block.set_up)
            self._ready.add(block.name)
            self._tick()

    def open(self) -> None:
        """Let each source connect to its device."""
        for source in self._sources.values():
            source.setup()
            source.open()
            self._ready.add(source.name)
            self._tick()

    def run(self) -> None:
        """Work until all nodes have ended and all that they gave has been taken."""
        while not self.finished:
            self.step(NAP_S)
        for out in self._senders():
            while not (out.sender.drained or out.discarded):
                out.sender.service()
                self._tick()
                self._sleep([out.sender], NAP_S)

    @property
    def finished(self) -> bool:
        return not self._sources and not self._blocks

    def step(self, nap_s: float) -> bool:
        """Read, receive and compute once; sleep up to ``nap_s`` where there was nothing to do. True: there was."""
        self._tick()
        busy = False
        for name in list(self._sources):
            busy |= self._read(name, 0.0 if self.incoming else READ_S)
        for incoming in self.incoming:
            busy |= self._receive(incoming)
        if not busy:
            for out in self._senders():
                out.sender.service()
            self._sleep([*(i.receiver for i in self.incoming), *(o.sender for o in self._senders())], nap_s)
        return busy

    def stop_sources(self) -> None:
        """End the sources: what they gave is still worked through."""
        for name in list(self._sources):
            self._end_source(name)

    def end_input(self, label: str) -> None:
        """The producer of the edge ``label`` has gone for good: what it sent is worked through, then the input ends."""
        for incoming in self.incoming:
            if incoming.label == label and not incoming.ended:
                while self._receive(incoming):
                    pass
                if not incoming.ended:
                    incoming.ended = True
                    eof = Header(stream=label, seq=max(incoming.last_seq or 0, 0), kind="eof")
                    self._ended(incoming.node, incoming.port, eof)

    def discard(self, label: str) -> None:
        """Nobody will consume the edge ``label`` any more: what is sent on it is dropped, nobody waits for room."""
        for out in self._senders():
            out.discarded |= out.label == label

    def close(self) -> None:
        """Release nodes and edges; each is released even where another fails to be."""
        for node in self.nodes.values():
            try:
                node.close()
            except Exception:
                log.exception("closing %s failed", node.name)
        for incoming in self.incoming:
            incoming.receiver.close()
        for out in self._senders():
            out.sender.close()

    def stats(self) -> dict[str, Any]:
        """What nodes and edges did, as plain values."""
        return {
            "nodes": {
                name: {
                    **self.metrics[name].to_plain(),
                    "unmatched": node.n_unmatched if isinstance(node, Block) else 0,
                    "stats": node.stats() if name in self._ready else {},
                }
                for name, node in self.nodes.items()
            },
            "edges": {
                out.label: {
                    "frames": out.metrics.frames,
                    "bytes": out.metrics.bytes,
                    "depth": sum(q.depth for q in out.sender.queues),
                    "capacity": sum(q.capacity for q in out.sender.queues),
                    "dropped": sum(q.n_dropped for q in out.sender.queues),
                    "lost_in_flight": sum(q.n_lost_in_flight for q in out.sender.queues)
                    + getattr(out.sender, "n_abandoned", 0),
                    "blocked_ms": out.blocked_ns / 1e6,
                }
                for out in self._senders()
            },
        }

    # -- frames in ---------------------------------------------------------------------------------------------------

    def _receive(self, incoming: Incoming) -> bool:
        if incoming.ended:
            return False
        frame = incoming.receiver.receive()
        if frame is None:
            return False
        header = frame.header
        if header.kind == "eof":
            incoming.receiver.release()
            incoming.ended = True
            self._ended(incoming.node, incoming.port, header)
            return True
        if header.kind == "data":
            incoming.metrics.frames += 1
            incoming.metrics.bytes += frame.n_bytes
            if incoming.contiguous:
                frame.header = incoming.accounted(header)
        self._feed(incoming.node, incoming.port, frame)
        incoming.receiver.release()
        return True

    def _read(self, name: str, timeout_s: float) -> bool:
        if self.paused:
            return False
        source = self._sources[name]
        reading = source.read(timeout_s)
        if reading is None:
            self._end_source(name)
            return True
        if not reading:
            if self._enough(name):  # what belongs to the last frame does not come
                self._end_source(name)
            return False
        now = time.time_ns()
        metrics = self.metrics[name]
        reached = self._reached[name]
        beyond = False
        for port, frame in reading:
            header = frame.header
            if header.host_time_ns is None:
                header = header._replace(host_time_ns=now)
            if self._epoch_base:
                header = header._replace(epoch=header.epoch + self._epoch_base[name])
            frame.header = header
            if header.kind == "data":
                if self._enough(name) and (port == self._first_output[name] or header.seq > self._last_seq[name]):
                    beyond = True
                    continue
                if port == self._first_output[name]:
                    self._n_read[name] += 1
                    self._last_seq[name] = header.seq
                reached[port] = header.seq
                metrics.frames_out += 1
                metrics.bytes_in += frame.n_bytes
                if self._progress is not None:
                    self._progress(name, header.seq, header.epoch)
            self._dispatch(name, port, frame)
        complete = all(reached.get(port, -1) >= self._last_seq[name] for port in source.outputs)
        if self._enough(name) and (beyond or complete):
            self._end_source(name)
        return True

    def _enough(self, name: str) -> bool:
        return self._max_frames is not None and self._n_read[name] >= self._max_frames

    def _feed(self, name: str, port: str, frame: Frame) -> None:
        block = self._blocks.get(name)
        if block is None:
            return  # it has ended
        is_data = frame.header.kind == "data"
        metrics = self.metrics[name]
        start = time.perf_counter_ns()
        try:
            results = block.feed(port, frame)
        except EstimationError as error:
            if block.on_estimation_error == "fail":
                raise _block_error(block, frame.header, error) from error
            metrics.skipped += 1
            log.warning("%s: skipped frame #%d: %s", name, frame.header.seq, error)
            results = [(out, _skip_event(block, out, frame.header, error)) for out in block.outputs]
        except Exception as error:
            raise _block_error(block, frame.header, error) from error
        if is_data:
            metrics.frames_in += 1
            metrics.bytes_in += frame.n_bytes
            metrics.service.add(time.perf_counter_ns() - start)
        self._deliver(name, metrics, results)

    def _deliver(self, name: str, metrics: NodeMetrics, results: Iterable[tuple[str, Frame]]) -> None:
        for out, frame in results:
            if frame.header.kind == "data":
                metrics.frames_out += 1
                received = frame.header.host_time_ns
                if received is not None:
                    metrics.age.add(time.time_ns() - received)
            self._dispatch(name, out, frame)

    # -- frames out --------------------------------------------------------------------------------------------------

    def _dispatch(self, name: str, port: str, frame: Frame) -> None:
        key = (name, port)
        self._last_header[key] = frame.header
        for out in self.outgoing.get(key, ()):
            if out.discarded:
                continue
            if not out.sender.offer(frame):
                self._wait_for_room(out, frame)
            if frame.header.kind == "data":
                out.metrics.frames += 1
                out.metrics.bytes += frame.n_bytes
        for node, node_port in self._inline.get(key, ()):
            self._feed(node, node_port, frame)

    def _wait_for_room(self, out: Outgoing, frame: Frame) -> None:
        start = time.perf_counter_ns()
        while not out.discarded:
            self._tick()
            self._sleep([out.sender], NAP_S)
            out.sender.service()
            if out.sender.offer(frame):
                break
        out.blocked_ns += time.perf_counter_ns() - start

    def _sleep(self, ends: Sequence[Sender | Receiver], nap_s: float) -> None:
        if not ends:
            time.sleep(nap_s)
            return
        poller = zmq.Poller()
        ready = False
        for end in ends:
            for handle in end.handles:
                poller.register(handle, zmq.POLLIN)
            ready |= end.arm()
        if not ready:
            poller.poll(int(nap_s * 1000))
        for end in ends:
            end.disarm()

    # -- ends --------------------------------------------------------------------------------------------------------

    def _end_source(self, name: str) -> None:
        if self._sources.pop(name, None) is not None:
            self._announce_end(name)

    def _ended(self, name: str, port: str, eof: Header) -> None:
        """One connection into block ``name`` has ended."""
        block = self._blocks.get(name)
        if block is None:
            return
        self._guard(block, eof, lambda: block.feed(port, Frame(eof)))
        self._upstream[name] -= 1
        if self._upstream[name] > 0:
            return
        self._deliver(name, self.metrics[name], self._guard(block, None, block.finish))
        del self._blocks[name]
        self._announce_end(name)

    def _announce_end(self, name: str) -> None:
        node = self.nodes[name]
        for port in node.outputs:
            lost = node.untold_loss(port) if isinstance(node, Block) else NO_LOSS
            last = self._last_header.get((name, port), Header(stream=f"{name}.{port}", seq=0))
            eof = Frame(last._replace(kind="eof", stream=f"{name}.{port}", arrays=(), meta={}, lost=lost))
            for out in self.outgoing.get((name, port), ()):
                out.sender.offer(eof)  # not data: always has room
            for to, to_port in self._inline.get((name, port), ()):
                self._ended(to, to_port, eof.header)

    def _guard(self, block: Block, header: Header | None, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            raise _block_error(block, header, error) from error

    def _senders(self) -> list[Outgoing]:
        return [out for outs in self.outgoing.values() for out in outs]


def _block_error(block: Block, header: Header | None, error: Exception) -> HilError:
    """Name the block, the frame and the cause. What already does is handed on."""
    if isinstance(error, BlockError | Aborted | EdgeOverflow):
        return error
    cause = str(error) if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
    where = f" at frame #{header.seq} of {header.stream!r} (epoch {header.epoch})" if header is not None else ""
    return BlockError(f"block {block.name!r} ({type(block).__name__}) failed{where}: {cause}")


def _skip_event(block: Block, port: str, header: Header, error: EstimationError) -> Frame:
    meta = {"event": "skipped", "block": block.name, "reason": str(error)}
    return Frame(header._replace(kind="event", stream=f"{block.name}.{port}", arrays=(), meta=meta, lost=NO_LOSS))
