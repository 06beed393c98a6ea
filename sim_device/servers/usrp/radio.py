"""The radio block of a board: registers of its channels, and the commands that start and stop them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

#: FPGA compatibility, major and minor, that UHD 4.3 expects of a radio.
COMPAT = 0 << 16 | 1
NOC_ID = 0x12AD1000

COMPAT_NUM, TIME_LO, TIME_HI, CHANNEL_BASE, CHANNEL_STRIDE = 0x00, 0x04, 0x08, 0x1000, 0x80
#: Registers of a channel, offsets.
RADIO_WIDTH, RX_STATUS, RX_CMD, RX_NUM_WORDS_LO, RX_NUM_WORDS_HI, RX_TIME_LO, RX_TIME_HI = (
    0x04, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x24,
)  # fmt: skip
RX_MAX_WORDS_PER_PKT, RX_ERR_PORT, RX_ERR_REM_PORT, RX_ERR_REM_EPID, RX_ERR_ADDR, RX_DATA, RX_HAS_TIME = (
    0x28, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x70,
)  # fmt: skip
TX_IDLE_VALUE = 0x40
#: Words of RX_CMD, and its timed bit.
CMD_STOP, CMD_FINITE, CMD_CONTINUOUS, CMD_TIMED = 0, 1, 2, 1 << 31
#: What the radio reports.
ERROR_LATE, ERROR_OVERRUN = 1, 2

_SC16_ONE_A_CYCLE = 32 << 16 | 1
_COMMAND_SLOTS = 32


class StreamCommand(NamedTuple):
    """Attributes:
    n_samples: ``None``: until stopped.
    board_tick: When, in board time; ``None``: at once.
    """

    n_samples: int | None
    board_tick: int | None


class RadioChannel:
    """One receive channel: registers, and commands that wait for the streaming thread."""

    def __init__(self) -> None:
        self.registers: dict[int, int] = {RX_MAX_WORDS_PER_PKT: 64, RX_HAS_TIME: 1}
        self.commands: list[StreamCommand | None] = []  # None: stop
        self._lock = threading.Lock()

    @property
    def samples_per_packet(self) -> int:
        return max(1, min(self.registers[RX_MAX_WORDS_PER_PKT], 1 << 14))

    def write(self, address: int, value: int) -> bool:
        """Write a register. Return whether a command came with it."""
        self.registers[address] = value
        if address != RX_CMD:
            return False
        with self._lock:
            kind = value & 3
            if kind == CMD_STOP:
                self.commands = [None]  # a stop empties the queue
                return True
            n = self._wide(RX_NUM_WORDS_LO) & (1 << 48) - 1 if kind == CMD_FINITE else None
            if len(self.commands) < _COMMAND_SLOTS:
                self.commands.append(StreamCommand(n, self._wide(RX_TIME_LO) if value & CMD_TIMED else None))
        return True

    def take_command(self) -> tuple[bool, StreamCommand | None]:
        """Whether a command waits, and the oldest."""
        with self._lock:
            return (True, self.commands.pop(0)) if self.commands else (False, None)

    def read(self, address: int) -> int:
        if address == RADIO_WIDTH:
            return _SC16_ONE_A_CYCLE
        if address == RX_STATUS:
            return _COMMAND_SLOTS - len(self.commands)
        if address == RX_DATA:  # the loopback test of a starting host: it reads what it let the transmitter idle at
            return self.registers.get(TX_IDLE_VALUE, 0)
        return self.registers.get(address, 0)

    def _wide(self, low: int) -> int:
        return self.registers.get(low, 0) | self.registers.get(low + 4, 0) << 32


class Radio:
    """All channels behind one control port.

    Args:
        n_channels: Of the board.
        now: Board time, ticks.
    """

    def __init__(self, n_channels: int, now: Callable[[], int]) -> None:
        self._now, self._latched = now, 0
        self.channels = [RadioChannel() for _ in range(n_channels)]
        self._others: dict[int, int] = {}

    def write(self, address: int, value: int) -> RadioChannel | None:
        """Write a register. Return the channel that got a command."""
        channel, offset = self._channel(address)
        if channel is None:
            self._others[address] = value  # switches and lights of the front panel: they read back
            return None
        return channel if channel.write(offset, value) else None

    def read(self, address: int) -> int:
        if address == COMPAT_NUM:
            return COMPAT
        if address == TIME_LO:  # the high word goes with it
            self._latched = self._now()
            return self._latched & 0xFFFFFFFF
        if address == TIME_HI:
            return self._latched >> 32 & 0xFFFFFFFF
        channel, offset = self._channel(address)
        return self._others.get(address, 0) if channel is None else channel.read(offset)

    def _channel(self, address: int) -> tuple[RadioChannel | None, int]:
        index, offset = divmod(address - CHANNEL_BASE, CHANNEL_STRIDE)
        return (self.channels[index], offset) if 0 <= index < len(self.channels) else (None, address)
