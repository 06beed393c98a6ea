"""The core of a board behind control port 0: which blocks and endpoints there are, and how they are connected."""

from __future__ import annotations

from sim_device.servers.usrp import radio

#: Protocol of RFNoC, of the backend of a block, and the device type of an E320.
PROTOCOL, DEVICE_TYPE = 0x0100, 0xE320
_BACKEND_PROTOCOL = 1
_CTRL_FIFO_LOG2, _MAX_ASYNC_MESSAGES, _MTU_LOG2 = 9, 16, 10
_EDGES_AT = 0x10000


class Core:
    """Registers as :mod:`rfnoc_core_kernel` of the FPGA lays them out.

    Each port of the control crossbar has a slot of 64 bytes: 0 the core, then the endpoints, then the radio.

    Args:
        n_channels: Endpoints, and channels of the radio.
    """

    def __init__(self, n_channels: int) -> None:
        self.device_id = 0
        self._n = n_channels
        self.radio_port = 1 + n_channels
        self._edges = [self._edge((self.radio_port, c), (1 + c, 0)) for c in range(n_channels)]
        self._edges += [self._edge((1 + c, 0), (self.radio_port, c)) for c in range(n_channels)]

    def read(self, address: int) -> int:
        if address >= _EDGES_AT:
            return dict(enumerate([len(self._edges), *self._edges])).get((address - _EDGES_AT) // 4, 0)
        slot, register = address // 64, address % 64 // 4
        if slot == 0:
            static_router, crossbar, transports, blocks = 1 << 31, 1 << 30, 1 << 20, 1 << 10
            values = {
                0: 0x12C6 << 16 | PROTOCOL,
                1: static_router | crossbar | transports | blocks | self._n,
                2: len(self._edges),
                3: DEVICE_TYPE << 16 | self.device_id,
                4: self._n,
            }
        elif slot == self.radio_port:
            values = {
                0: _BACKEND_PROTOCOL | self._n << 6 | self._n << 12 | _CTRL_FIFO_LOG2 << 18 | _MAX_ASYNC_MESSAGES << 24,
                1: radio.NOC_ID,
                2: 1 << 1 | _MTU_LOG2 << 2,  # flushed
            }
        else:
            values = {}
        return values.get(register, 0)

    @staticmethod
    def _edge(source: tuple[int, int], destination: tuple[int, int]) -> int:
        return source[0] << 22 | source[1] << 16 | destination[0] << 6 | destination[1]
