"""What a GNU Radio flowgraph sends: samples of the array out of a PUB, PUSH or REP sink, or PDUs."""

from __future__ import annotations

import logging
import threading
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
import zmq
from msgspec import Meta

from hil.formats import gr_zeromq, pmt
from hil.params import Count, Seconds
from sim_device.servers.gnuradio.stream_clock import StreamClock
from sim_device.servers.protocol_faults import FaultKind
from sim_device.servers.protocol_server import TICK_S, ProtocolServer, ServerParams
from sim_device.servers.zmq_ports import bind_again, bind_port

log = logging.getLogger(__name__)

C64 = npt.NDArray[np.complex64]
#: Frames of one message.
Parts = list[bytes | bytearray | memoryview]

_SOCKETS = {"pub": zmq.PUB, "push": zmq.PUSH, "rep": zmq.REP}
#: What connects to each.
PEERS = {"pub": "sub", "push": "pull", "rep": "req"}
#: A source that is behind the clock by so many messages loses them.
_MAX_BEHIND = 16


class GnuRadioParams(ServerParams, frozen=True, kw_only=True):
    socket: Annotated[Literal["pub", "push", "rep"], Meta(description="kind of the sink")] = "pub"
    content: Annotated[
        Literal["stream", "tagged", "pdu"], Meta(description="items alone, items with tags, or messages")
    ] = "tagged"
    layout: Annotated[
        Literal["vector", "channels"], Meta(description="all channels in one item, or a sink a channel")
    ] = "vector"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="of the first sink, the others follow; 0: the system chooses")
    ] = 0
    n_samples: Annotated[Count, Meta(le=1 << 20, description="samples a channel in a message, at most")] = 1638
    key: Annotated[str, Meta(max_length=64, description="PUB: sent before each message; empty: none")] = ""
    hwm: Annotated[Count, Meta(le=65_536, description="messages that wait for a receiver; PUB drops beyond")] = 100
    tag_every_s: Annotated[Seconds, Meta(description="repeat tags so often, device time; 0: where they change")] = 1.0

    def __post_init__(self) -> None:
        if self.content == "pdu" and self.socket == "rep":
            raise ValueError("PDUs go out of pub and push")
        if self.key and self.socket != "pub":
            raise ValueError("a key goes out of pub only")


class GnuRadioServer(ProtocolServer):
    """GNU Radio's ZeroMQ sinks on the simulated array: PUB, PUSH or REP, with and without tags, or PDUs."""

    family = "gnuradio"
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = (
        "stall", "drop_connection", "short_read", "corrupt", "lose_packets", "overrun", "clock_jump", "retune",
    )  # fmt: skip
    device_defaults = {"array": {"kind": "ula", "n": 4}}
    params: GnuRadioParams

    def __init__(self, params: dict[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        p = self.params
        self._lock = threading.Lock()
        self._n_sinks = 1 if p.layout == "vector" else self.feed.n_channels
        self._sinks: list[zmq.Socket[bytes]] = []
        self._ports: list[int] = []
        self._clock: StreamClock | None = None
        try:
            for i in range(self._n_sinks):
                self._ports.append(p.port + i if p.port else 0)
                self._bind(i)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        p = self.params
        ports = ",".join(map(str, self._ports))
        channels = self.feed.n_channels if p.layout == "vector" else 1
        options = {"socket": PEERS[p.socket], "content": p.content, "vlen": channels}
        if p.key:
            options["key"] = p.key
        return f"gnuradio://{p.host}:{ports}?{urlencode(options)}"

    def begin(self) -> None:
        self._clock = StreamClock(self.feed, self.feed.now_tick(), self.params.tag_every_s)
        if self.params.socket == "rep":
            for i in range(self._n_sinks):
                self.thread(self._answer, i)
        else:
            self.thread(self._stream)

    def close(self) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join(10 * TICK_S)
        for sink in self._sinks:
            sink.close(0)
        super().close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _bind(self, i: int) -> None:
        """Make sink ``i``, at the port that it had."""
        p = self.params
        sink = self._context.socket(_SOCKETS[p.socket])
        sink.setsockopt(zmq.LINGER, 0)
        if p.socket != "rep":  # REP drops its answer where the other side has not told in time that it took the last
            sink.setsockopt(zmq.SNDHWM, p.hwm)
        sink.setsockopt(zmq.SNDTIMEO, round(TICK_S * 1000))
        sink.setsockopt(zmq.RCVTIMEO, round(TICK_S * 1000))
        sink.setsockopt(zmq.MAXMSGSIZE, 1024)
        self._ports[i] = bind_port(sink, p.host, self._ports[i])
        self._sinks[i : i + 1] = [sink]

    def _rebind(self, i: int) -> None:
        """Drop the connections of sink ``i``."""
        self._sinks[i].close(0)
        bind_again(lambda: self._bind(i), self.ending, TICK_S)

    def _stream(self) -> None:
        """Send to all sinks, in step."""
        feed, clock, item = self.feed, self._clock, 0
        assert clock is not None
        while not self.ending.is_set():
            n, stalled = self.params.n_samples, self.faults.take("stall")
            if stalled is not None:
                self.ending.wait(5.0 if stalled.amount is None else stalled.amount)
            if self.faults.take("drop_connection") is not None:
                for i in range(self._n_sinks):
                    self._rebind(i)
            behind = feed.now_tick() - clock.tick(item) if feed.real_time else 0
            if behind > _MAX_BEHIND * n:
                clock.skip(item, behind)
            if (fault := self.faults.take("lose_packets")) is not None:
                item += n * max(1, round(fault.amount or 1))  # the sink dropped them: the count of items goes on
            self._overrun(clock, item)
            clock.follow(item)
            n = clock.length(item, n)
            if not feed.wait_until(clock.tick(item) + n, TICK_S):
                continue
            if not self._send_all(self._messages(clock, item, n)):
                continue
            item += n

    def _overrun(self, clock: StreamClock, item: int) -> None:
        if (fault := self.faults.take("overrun")) is not None:
            clock.skip(item, round(fault.amount or self.params.n_samples))

    def _send_all(self, messages: list[Parts]) -> bool:
        """Send a message to each sink; false: nobody takes it, and none was sent."""
        for i, parts in enumerate(messages):
            while True:
                try:
                    self._sinks[i].send_multipart(parts)
                    break
                except zmq.Again:
                    if i == 0 or self.ending.is_set():
                        return False
        return True

    def _answer(self, i: int) -> None:
        """Serve sink ``i``: a REP socket gives at most what is asked for."""
        item, feed, clock = 0, self.feed, self._clock
        assert clock is not None
        while not self.ending.is_set():
            try:
                request = self._sinks[i].recv()
            except zmq.Again:
                continue
            if len(request) != 4:
                self._sinks[i].send(b"")  # it must be answered, and that is no request
                continue
            n = min(int.from_bytes(request, "little") or 1, self.params.n_samples)
            if (fault := self.faults.take("stall")) is not None:
                self.ending.wait(5.0 if fault.amount is None else fault.amount)
            if self.faults.take("drop_connection") is not None:
                self._rebind(i)
                continue
            with self._lock:
                if (fault := self.faults.take("overrun")) is not None:
                    # not before the items that any sink has given: all channels lose the same
                    ahead = max(0, feed.head - clock.tick(item))
                    clock.skip(item + ahead, round(fault.amount or n))
                clock.follow(max(item, feed.head - clock.newest.skipped))
                n = clock.length(item, n)
            while not feed.wait_until(clock.tick(item) + n, TICK_S):
                if self.ending.is_set():
                    return
            self._sinks[i].send_multipart(self._message(clock, item, n, i, self._items(clock, item, n)))
            item += n

    def _items(self, clock: StreamClock, item: int, n: int) -> C64:
        return self.feed.samples(clock.tick(item), n)

    def _messages(self, clock: StreamClock, item: int, n: int) -> list[Parts]:
        samples = self._items(clock, item, n)
        return [self._message(clock, item, n, i, samples) for i in range(self._n_sinks)]

    def _message(self, clock: StreamClock, item: int, n: int, i: int, samples: C64) -> Parts:
        """One message of sink ``i``: ``samples`` ``[channel, n]``."""
        p = self.params
        own = np.ascontiguousarray(samples.T if p.layout == "vector" else samples[i])
        items = own.reshape(-1).view(np.uint8).data
        if (fault := self.faults.take("short_read")) is not None:  # it ends within an item
            items = items[: len(items) - 3 if fault.amount is None else 8 * round(fault.amount) + 5]
        body: bytes | bytearray | memoryview = items
        if p.content == "tagged":
            body = gr_zeromq.encode_tags(item, clock.tags(item, n)) + items
        elif p.content == "pdu":
            meta = {**clock.values(item), "channel": i} if p.layout == "channels" else clock.values(item)
            body = pmt.encode(pmt.Pair(meta, np.frombuffer(items, np.complex64, len(items) // 8)))
        if (fault := self.faults.take("corrupt")) is not None:
            body = bytearray(body)
            for place in range(max(1, round(fault.amount or 1))):
                body[place % len(body)] ^= 0xFF
        return [p.key.encode(), body] if p.key else [body]
