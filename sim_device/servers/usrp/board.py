"""One board: its CHDR socket, what packets to it do, and what it sends by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hil.errors import WireError
from sim_device.servers.usrp import chdr
from sim_device.servers.usrp.core import Core
from sim_device.servers.usrp.endpoint import StreamEndpoint
from sim_device.servers.usrp.management import (
    CROSSBAR,
    TRANSPORT,
    ManagedNode,
    NodeInfo,
    parse_management,
    run_transaction,
)
from sim_device.servers.usrp.network import Network
from sim_device.servers.usrp.radio import (
    RX_ERR_ADDR,
    RX_ERR_PORT,
    RX_ERR_REM_EPID,
    RX_ERR_REM_PORT,
    Radio,
)
from sim_device.servers.usrp.radio_clock import Timekeeper

log = logging.getLogger(__name__)

CHDR_PORT = 49153
_BUFFER_BYTES = 4 << 20
_IPV4_UDP = 1  # kind of transport


class _Transport:
    def __init__(self, board: Board) -> None:
        self._board = board

    def info(self) -> NodeInfo:
        return NodeInfo(self._board.core.device_id, TRANSPORT, 0, _IPV4_UDP)

    def write(self, address: int, value: int) -> None:
        """The transport has nothing to set."""

    def read(self, address: int) -> int:
        return 0

    def next_node(self, port: int | None) -> ManagedNode | None:
        return self._board.crossbar


class _Crossbar:
    """Port 0 is the transport, the others the endpoints. Its routes are kept as it has one endpoint a port."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._routes: dict[int, int] = {}

    def info(self) -> NodeInfo:
        n_ports, n_managed = 1 + len(self._board.endpoints), 1
        return NodeInfo(self._board.core.device_id, CROSSBAR, 0, n_managed << 8 | n_ports)

    def write(self, address: int, value: int) -> None:
        self._routes[address] = value

    def read(self, address: int) -> int:
        return self._routes.get(address, 0)

    def next_node(self, port: int | None) -> ManagedNode | None:
        if port == 0:
            return self._board.transport
        if port is not None and port <= len(self._board.endpoints):
            return self._board.endpoints[port - 1]
        return None


class Board:
    """Attributes:
    index: Of this board.
    address: That it has.
    timekeeper: Its time.
    """

    def __init__(
        self,
        index: int,
        address: str,
        n_channels: int,
        timekeeper: Timekeeper,
        commanded: Callable[[], None],
        network: Network,
    ) -> None:
        self.index, self.address, self.timekeeper = index, address, timekeeper
        self._commanded = commanded
        self.core = Core(n_channels)
        self.radio = Radio(n_channels, timekeeper.now)
        self.transport, self.crossbar = _Transport(self), _Crossbar(self)
        self.endpoints = [StreamEndpoint(lambda: self.core.device_id, i, self.send) for i in range(n_channels)]
        self._hosts: dict[int, tuple[str, int]] = {}  # host endpoint: where it is
        self._error_seq = 0
        self.n_refused = 0
        self.socket = network.bind_udp((address, CHDR_PORT), self.receive, _BUFFER_BYTES)

    # -- packets ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, host: tuple[str, int]) -> None:
        """Do what a datagram asks for; what is none of ours is counted."""
        try:
            self.handle(data, host)
        except WireError as error:
            self.n_refused += 1
            log.debug("board %s: %s", self.address, error)

    def handle(self, data: bytes, host: tuple[str, int]) -> None:
        """Do what a datagram asks for.

        Raises:
            WireError: It is none of ours.
        """
        packet = chdr.parse_packet(data)
        if packet.kind == chdr.MANAGEMENT:
            self._manage(packet, host)
        elif packet.kind == chdr.CONTROL:
            self._control(packet, host)
        elif packet.kind == chdr.STREAM_STATUS:
            status = chdr.parse_stream_status(packet.payload)
            for endpoint in self.endpoints:
                if endpoint.epid == packet.dst_epid:
                    endpoint.stream_status(status)
            self._commanded()

    def host_of(self, epid: int) -> tuple[str, int] | None:
        """Where the host endpoint ``epid`` is, as it told."""
        return self._hosts.get(epid)

    def send(self, data: bytes, epid: int) -> None:
        """Send to a host endpoint; one that never told where it is gets nothing."""
        host = self._hosts.get(epid)
        if host is not None:
            self._send_to(data, host)

    def _send_to(self, data: bytes, host: tuple[str, int]) -> None:
        try:
            self.socket.sendto(data, host)
        except OSError as error:
            log.debug("board %s: to %s: %s", self.address, host, error)

    def _manage(self, packet: chdr.Packet, host: tuple[str, int]) -> None:
        transaction = parse_management(packet.payload)

        def advertised(epid: int) -> None:
            self._hosts[epid] = host

        answer = run_transaction(transaction, self.transport, advertised)
        if answer is not None:
            turned = answer._replace(src_epid=packet.dst_epid)
            payload = turned.pack()
            self._send_to(chdr.build_packet(chdr.MANAGEMENT, transaction.src_epid, packet.seq, payload), host)

    # -- registers -------------------------------------------------------------------------------------------------

    def _control(self, packet: chdr.Packet, host: tuple[str, int]) -> None:
        request = chdr.parse_control(packet.payload)
        if request.is_ack:
            return  # a host acknowledges what the radio reported
        status, data = self._access(request)
        answer = request._replace(
            dst_port=request.src_port,
            src_port=request.dst_port,
            src_epid=packet.dst_epid,
            is_ack=True,
            status=status,
            data=data or request.data,
            timestamp=None,
        )
        self._send_to(chdr.build_packet(chdr.CONTROL, request.src_epid, packet.seq, answer.pack()), host)

    def _access(self, request: chdr.Control) -> tuple[int, tuple[int, ...]]:
        """Outcome, and the data read."""
        in_block = request.op in (chdr.OP_BLOCK_READ, chdr.OP_BLOCK_WRITE)
        addresses = [request.address + 4 * i * in_block for i in range(max(1, len(request.data)))]
        if request.dst_port not in (0, self.core.radio_port):
            return chdr.STATUS_ERROR, ()
        if request.op in (chdr.OP_READ, chdr.OP_BLOCK_READ):
            target = self.core if request.dst_port == 0 else self.radio
            return chdr.STATUS_OKAY, tuple(target.read(a) for a in addresses)
        if request.op in (chdr.OP_WRITE, chdr.OP_BLOCK_WRITE):
            if request.dst_port == self.core.radio_port:
                for address, value in zip(addresses, request.data, strict=False):
                    if self.radio.write(address, value) is not None:
                        self._commanded()
            return chdr.STATUS_OKAY, ()
        return (chdr.STATUS_OKAY if request.op == chdr.OP_SLEEP else chdr.STATUS_ERROR), ()

    def report(self, channel: int, error: int, board_tick: int) -> None:
        """Tell the host of an overrun or a late command, where it asked to be told."""
        registers = self.radio.channels[channel].registers
        epid = registers.get(RX_ERR_REM_EPID, 0)
        message = chdr.Control(
            dst_port=registers.get(RX_ERR_REM_PORT, 0) & 0x3FF,
            src_port=registers.get(RX_ERR_PORT, self.core.radio_port) & 0x3FF,
            seq=self._error_seq & 0x3F,
            src_epid=self.endpoints[0].epid,
            address=registers.get(RX_ERR_ADDR, 0) & 0xFFFFF,
            op=chdr.OP_WRITE,
            data=(error,),
            timestamp=board_tick,
        )
        self._error_seq += 1
        self.send(chdr.build_packet(chdr.CONTROL, epid, self._error_seq, message.pack()), epid)
