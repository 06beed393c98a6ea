"""Boards of two channels each, at consecutive loopback addresses, that an unmodified UHD 4.3 takes for USRPs."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from hil.errors import DriverError, ParamError
from sim_device.servers.protocol_faults import FaultKind
from sim_device.servers.protocol_server import ProtocolServer, ServerParams
from sim_device.servers.usrp.board import CHDR_PORT, Board
from sim_device.servers.usrp.discovery import DISCOVERY_PORT, discovery_answer
from sim_device.servers.usrp.mpm import Motherboard
from sim_device.servers.usrp.network import Network
from sim_device.servers.usrp.radio_clock import RadioClock, Timekeeper
from sim_device.servers.usrp.rpc import RpcConversation
from sim_device.servers.usrp.streaming import Streaming

RPC_PORT = 49601
CHANNELS_A_BOARD = 2
#: Addresses that are tried where any will do.
_TRIES = 50


class UsrpServerParams(ServerParams, frozen=True, kw_only=True):
    """Parameters of the simulated USRPs."""

    host: Annotated[
        str, Meta(description="address of the first board, the others follow; auto: free ones of 127.0.0.0/8")
    ] = "127.0.0.1"
    fifo_s: Annotated[
        float,
        Meta(gt=0, le=60, description="a host behind by more overruns the radio", extra_json_schema={"unit": "s"}),
    ] = 0.5
    mtu: Annotated[int, Meta(ge=576, le=9000, description="longest IP packet, bytes")] = 9000


class _Unit:
    """A board with all that listens at its address."""

    def __init__(self, server: UsrpServer, index: int, address: str) -> None:
        network, timekeeper = server.network, Timekeeper(server.clock, index)
        self.board = Board(index, address, CHANNELS_A_BOARD, timekeeper, server.wake, network)
        self.motherboard = Motherboard(
            self.board, f"51A000{index:X}", server.feed, server.base_gain_db, server.params.mtu, server.faults
        )
        network.listen_tcp((address, RPC_PORT), lambda: RpcConversation(self.motherboard.call))
        self._discovery = network.bind_udp((address, DISCOVERY_PORT), self._discovered)

    def _discovered(self, request: bytes, host: tuple[str, int]) -> None:
        answer = discovery_answer(request, self.motherboard)
        if answer is not None:
            with contextlib.suppress(OSError):  # it has gone, or is where no answer reaches it
                self._discovery.sendto(answer, host)


class UsrpServer(ProtocolServer):
    """USRPs (E320, two channels a board) as UHD 4.3 sees them: MPM discovery and calls, CHDR."""

    family = "usrp"
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = (
        "stall", "drop_connection", "error", "corrupt", "lose_packets", "overrun", "clock_jump", "retune",
    )  # fmt: skip
    device_defaults = {"array": {"kind": "ula", "n": 2}, "frequency_hz": 2.4e9, "sample_rate_hz": 1e6}
    params: UsrpServerParams

    def __init__(self, params: Mapping[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        self.units: list[_Unit] = []
        self.network = Network(self.ending)
        self._streaming: Streaming | None = None
        try:
            n, rest = divmod(self.feed.n_channels, CHANNELS_A_BOARD)
            if rest:
                raise ParamError(
                    f"server 'usrp': a board has {CHANNELS_A_BOARD} channels, the array has {self.feed.n_channels}: "
                    f"give it an even number"
                )
            self.clock = RadioClock(self.feed)
            self.base_gain_db = self.feed.gain_db
            self.feed.counts(0, 1)  # what is repeated is brought into the radio's form before anybody waits for it
            self.units = self._bind(n)
            boards = [u.board for u in self.units]
            self._streaming = Streaming(self.feed, self.clock, boards, self.faults, self.params.fifo_s, self.ending)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        """Device arguments for UHD."""
        if len(self.units) == 1:
            return f"addr={self.units[0].board.address}"
        return ",".join(f"addr{i}={u.board.address}" for i, u in enumerate(self.units))

    def wake(self) -> None:
        if self._streaming is not None:
            self._streaming.wake()

    def begin(self) -> None:
        assert self._streaming is not None
        self.thread(self._streaming.run)
        self.thread(self.network.run)

    def close(self) -> None:
        super().close()
        self.network.close()

    def stats(self) -> dict[str, Any]:
        streaming = self._streaming
        assert streaming is not None
        told = {"packets": streaming.n_packets, "overruns": streaming.n_overruns, "late": streaming.n_late}
        now = self.clock.now()
        return {
            **super().stats(),
            **told,
            "datagrams_refused": sum(u.board.n_refused for u in self.units),
            # board time less tick of the sample function
            "tick_offsets": [u.board.timekeeper.offset(now) for u in self.units],
        }

    def fault(self, kind: FaultKind, amount: float | None = None) -> list[str]:
        """Let the protocol go wrong once: stall, drop_connection, corrupt ... Return what it can do."""
        if kind == "drop_connection":
            for unit in self.units:
                self.network.drop_connections(unit.board.address)
                unit.motherboard.release()
            assert self._streaming is not None
            self._streaming.forget_hosts()
            self.faults.n_done[kind] += 1
            return list(self.fault_kinds)
        if kind == "clock_jump":
            self.faults.put(kind, amount)  # the boards' time jumps, in the midst of a stream
            return list(self.fault_kinds)
        return super().fault(kind, amount)

    def _bind(self, n: int) -> list[_Unit]:
        host = self.params.host
        chosen = random.SystemRandom()
        tries = _TRIES if host == "auto" else 1
        for left in reversed(range(tries)):
            first = host
            if host == "auto":
                first = f"127.{chosen.randint(1, 254)}.{chosen.randint(0, 254)}.{chosen.randint(1, 254 - n)}"
            units: list[_Unit] = []
            before = self.network.opened()
            try:
                for i in range(n):
                    units.append(_Unit(self, i, str(ipaddress.IPv4Address(first) + i)))
            except (OSError, ValueError) as error:
                self.network.release([s for s in self.network.opened() if s not in before])
                if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and left:
                    continue
                ports = f"UDP {DISCOVERY_PORT}, TCP {RPC_PORT}, UDP {CHDR_PORT}"
                raise DriverError(
                    f"server 'usrp': {n} boards from {first} on ({ports}): {error}; give another `host`, or auto"
                ) from error
            else:
                return units
        raise AssertionError("unreachable")
