"""Registers of the ADC's interface core, of which the status register counts: it says that samples were lost."""

from __future__ import annotations

import errno
import threading

from sim_device.servers.iiod.attributes import plain
from sim_device.servers.iiod.context import Attribute, fail

STATUS = 0x80000088
OVERFLOW = 4


class Registers:
    """Registers behind the debug attribute ``direct_reg_access``.

    A write of ``ADDRESS`` chooses what the next read gives, ``ADDRESS VALUE`` writes: to the status register, ones
    clear. All clients share the chosen address, as they do in the kernel.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address = 0
        self._values: dict[int, int] = {}
        self.n_overflows = 0

    def overflow(self) -> None:
        """Samples were lost."""
        with self._lock:
            self._values[STATUS] = self._values.get(STATUS, 0) | OVERFLOW
            self.n_overflows += 1

    def attribute(self) -> Attribute:
        return Attribute("direct_reg_access", self._read, self._write)

    def _read(self) -> str:
        with self._lock:
            return f"0x{self._values.get(self._address, 0):X}"

    def _write(self, text: str) -> None:
        try:
            numbers = [int(word, 0) for word in plain(text).split()]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or not all(0 <= n < 1 << 32 for n in numbers):
            raise fail(errno.EINVAL, f"expected an address, or address and value, got {text[:40]!r}")
        with self._lock:
            self._address = numbers[0]
            if len(numbers) == 2:
                if self._address == STATUS:
                    self._values[STATUS] = self._values.get(STATUS, 0) & ~numbers[1]
                elif self._address in self._values or len(self._values) < 1024:
                    self._values[self._address] = numbers[1]
