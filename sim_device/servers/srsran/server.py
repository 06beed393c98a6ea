"""The sending side of srsRAN's ZeroMQ radio: a REP socket a channel, complex64 of any length for each byte asked.

Time is the count of samples: nothing is sent that was not asked for, so nothing can be overrun; in real time an answer
waits until its samples are there.
"""

from __future__ import annotations

import threading
from typing import Annotated, Any, ClassVar

import numpy as np
import zmq
from msgspec import Meta

from hil.params import Count
from sim_device.servers.protocol_faults import FaultKind, ProtocolFault
from sim_device.servers.protocol_server import TICK_S, ProtocolServer, ServerParams
from sim_device.servers.zmq_ports import bind_again, bind_port


class SrsRanParams(ServerParams, frozen=True, kw_only=True):
    port: Annotated[
        int, Meta(ge=0, le=65535, description="of the first channel, the others follow; 0: the system chooses")
    ] = 0
    n_samples: Annotated[Count, Meta(le=1 << 20, description="samples in an answer")] = 11_520


class SrsRanServer(ProtocolServer):
    """srsRAN's ZeroMQ radio on the simulated array: a REP socket a channel, raw complex64."""

    family = "srsran"
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = ("stall", "drop_connection", "short_read", "corrupt", "lose_packets")
    device_defaults = {"array": {"kind": "ula", "n": 2}, "sample_rate_hz": 11.52e6, "frequency_hz": 3.5e9}
    params: SrsRanParams

    def __init__(self, params: dict[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        n = self.feed.n_channels
        self._lock = threading.Lock()
        self._sockets: list[zmq.Socket[bytes]] = []
        self._ports = [self.params.port + i if self.params.port else 0 for i in range(n)]
        #: What each channel gives next, counted from the start of its stream, and the tick of that start.
        self._next, self._origin = [0] * n, self.feed.now_tick()
        #: A fault of all channels is taken once, and each does it at its next answer.
        self._due: list[list[ProtocolFault]] = [[] for _ in range(n)]
        try:
            for i in range(n):
                self._bind(i)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        return f"srsran://{self.params.host}:{','.join(map(str, self._ports))}"

    def begin(self) -> None:
        for i in range(len(self._sockets)):
            self.thread(self._answer, i)

    def close(self) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join(10 * TICK_S)
        for sock in self._sockets:
            sock.close(0)
        super().close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _bind(self, i: int) -> None:
        sock = self._context.socket(zmq.REP)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVTIMEO, round(TICK_S * 1000))
        sock.setsockopt(zmq.MAXMSGSIZE, 1024)
        self._ports[i] = bind_port(sock, self.params.host, self._ports[i])
        self._sockets[i : i + 1] = [sock]

    def _rebind(self, i: int) -> None:
        """Drop the connections of channel ``i``."""
        self._sockets[i].close(0)
        bind_again(lambda: self._bind(i), self.ending, TICK_S)

    def _faults_of(self, i: int) -> list[ProtocolFault]:
        """What channel ``i`` shall do wrong now. Connections are dropped in all channels, the rest in one."""
        with self._lock:
            while (fault := self.faults.take(*self.fault_kinds)) is not None:
                for due in self._due if fault.kind == "drop_connection" else [self._due[i]]:
                    due.append(fault)
            mine, self._due[i] = self._due[i], []
        return mine

    def _answer(self, i: int) -> None:
        """Serve channel ``i``."""
        feed = self.feed
        while not self.ending.is_set():
            try:
                self._sockets[i].recv()
            except zmq.Again:
                continue
            faults = {fault.kind: fault for fault in self._faults_of(i)}
            if (fault := faults.get("stall")) is not None:
                self.ending.wait(5.0 if fault.amount is None else fault.amount)
            if "drop_connection" in faults:
                self._rebind(i)
                continue
            if (fault := faults.get("lose_packets")) is not None:
                self._next[i] += self.params.n_samples * max(1, round(fault.amount or 1))
            tick, n = self._origin + self._next[i], self.params.n_samples
            while not feed.wait_until(tick + n, TICK_S):
                if self.ending.is_set():
                    return
            samples = np.ascontiguousarray(feed.samples(tick, n)[i])
            self._next[i] += n
            self._sockets[i].send(self._damaged(samples.view(np.uint8).data, faults))

    @staticmethod
    def _damaged(body: memoryview, faults: dict[FaultKind, ProtocolFault]) -> memoryview | bytearray:
        if (fault := faults.get("short_read")) is not None:  # it ends within a sample
            return body[: len(body) - 3 if fault.amount is None else 8 * round(fault.amount) + 5]
        if (fault := faults.get("corrupt")) is not None:
            damaged = bytearray(body)
            for place in range(max(1, round(fault.amount or 1))):
                damaged[place % len(damaged)] ^= 0xFF
            return damaged
        return body
