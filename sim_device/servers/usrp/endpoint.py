"""A stream endpoint of a board: where a stream leaves towards the host, and how far it may run ahead of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sim_device.servers.usrp import chdr
from sim_device.servers.usrp.management import STREAM_ENDPOINT, ManagedNode, NodeInfo

#: Registers that management packets write and read (RFNoC specification, stream endpoint).
EPID_SELF, RESET_AND_FLUSH, OSTRM_CTRL_STATUS, OSTRM_DST_EPID = 0x00, 0x04, 0x08, 0x0C
OSTRM_FC_FREQ_BYTES_LO, OSTRM_FC_FREQ_BYTES_HI, OSTRM_FC_FREQ_PKTS, OSTRM_FC_HEADROOM = 0x10, 0x14, 0x18, 0x1C
OSTRM_BUFF_CAP_BYTES_LO, OSTRM_BUFF_CAP_BYTES_HI, OSTRM_BUFF_CAP_PKTS = 0x20, 0x24, 0x28

_FC_ENABLED, _SETUP_PENDING = 1 << 31, 1 << 29
_RESYNC_BYTES = 3 * chdr.WORD
#: A host hears of the counts on this side so often, so that lost packets do not fill the window for ever.
_RESYNC_EVERY = 64


class StreamEndpoint:
    """One stream endpoint with one data output.

    Args:
        device_id: Function that gives the board's device number.
        instance: Of this endpoint on the board.
        send: ``(datagram, destination endpoint)`` to the host.
    """

    def __init__(self, device_id: Callable[[], int], instance: int, send: Callable[[bytes, int], None]) -> None:
        self._device_id, self._instance, self._send = device_id, instance, send
        self._lock = threading.Lock()
        self.registers: dict[int, int] = {}
        self._configured = self._pending = False
        self.seq = 0
        self._command_seq = 0
        self._sent = self._done = self._capacity = (0, 0)  # (bytes, packets)
        self._since_resync = 0

    @property
    def epid(self) -> int:
        return self.registers.get(EPID_SELF, 0)

    @property
    def dst_epid(self) -> int:
        return self.registers.get(OSTRM_DST_EPID, 0)

    @property
    def configured(self) -> bool:
        """Whether a host has opened the stream."""
        return self._configured

    # -- a managed node --------------------------------------------------------------------------------------------

    def info(self) -> NodeInfo:
        # control, data, one input, one output, reports stream errors
        return NodeInfo(self._device_id(), STREAM_ENDPOINT, self._instance, 1 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 14)

    def next_node(self, port: int | None) -> ManagedNode | None:
        return None

    def write(self, address: int, value: int) -> None:
        with self._lock:
            self.registers[address] = value
            if address == RESET_AND_FLUSH and value & 1:
                self._reset()
            elif address == OSTRM_CTRL_STATUS and value & 1:
                self._reset()
                self._pending = True
                self._send_command(
                    chdr.STREAM_INIT,
                    self.registers.get(OSTRM_FC_FREQ_PKTS, 0),
                    self.registers.get(OSTRM_FC_FREQ_BYTES_LO, 0) | self.registers.get(OSTRM_FC_FREQ_BYTES_HI, 0) << 32,
                )

    def read(self, address: int) -> int:
        with self._lock:
            if address == OSTRM_CTRL_STATUS:
                state = _SETUP_PENDING if self._pending else _FC_ENABLED if self._configured else 0
                return state | self.registers.get(address, 0) & 0x7E
            n_bytes, n_packets = self._capacity
            counters = {
                OSTRM_BUFF_CAP_BYTES_LO: n_bytes & 0xFFFFFFFF,
                OSTRM_BUFF_CAP_BYTES_HI: n_bytes >> 32,
                OSTRM_BUFF_CAP_PKTS: n_packets,
            }
            return counters.get(address, self.registers.get(address, 0))

    # -- flow control ----------------------------------------------------------------------------------------------

    def stream_status(self, status: chdr.StreamStatus) -> None:
        """The host tells what it has taken."""
        with self._lock:
            self._capacity = status.capacity_bytes, status.capacity_packets
            self._done = status.bytes_done, status.packets_done
            if self._pending:
                self._pending, self._configured = False, True

    def room(self, packet_bytes: int) -> int:
        """How many packets of a size the host has room for."""
        with self._lock:
            if not self._configured:
                return 0
            headroom = self.registers.get(OSTRM_FC_HEADROOM, 0)
            n_bytes = self._capacity[0] - (headroom & 0xFFFF) - (self._sent[0] - self._done[0])
            n_packets = self._capacity[1] - (headroom >> 16 & 0xFF) - (self._sent[1] - self._done[1])
            return max(0, min(n_bytes // packet_bytes, n_packets))

    def take_seq(self, n_packets: int, n_bytes: int) -> int:
        """Number the next packets, which go out now. Return the first number."""
        with self._lock:
            seq = self.seq
            self.seq = (self.seq + n_packets) & 0xFFFF
            self._sent = self._sent[0] + n_bytes, self._sent[1] + n_packets
            self._since_resync += n_packets
            return seq

    def resync_if_due(self, force: bool = False) -> None:
        """Tell the host what was sent, now and then: packets lost on the way are no longer waited for."""
        with self._lock:
            if self._configured and (force or self._since_resync >= _RESYNC_EVERY):
                n_bytes, n_packets = self._sent
                self._send_command(chdr.STREAM_RESYNC, n_packets, n_bytes)
                self._sent = n_bytes + _RESYNC_BYTES, n_packets + 1
                self._since_resync = 0

    def _send_command(self, op: int, n_packets: int, n_bytes: int) -> None:
        payload = chdr.stream_command(self.epid, op, n_packets, n_bytes)
        packet = chdr.build_packet(chdr.STREAM_COMMAND, self.dst_epid, self._command_seq, payload)
        self._command_seq += 1
        self._send(packet, self.dst_epid)

    def _reset(self) -> None:
        self._configured = self._pending = False
        self.seq = self._command_seq = self._since_resync = 0
        self._sent = self._done = self._capacity = (0, 0)
