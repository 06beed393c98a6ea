"""Faults on command: what a server does wrong, once, because somebody asked for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal, NamedTuple, get_args

from hil.errors import ControlError

#: stall: give nothing for ``amount`` s. drop_connection: close the connection without a word. short_read: give
#: ``amount`` samples (default: half) of one answer and end it there. error: answer once with error number ``amount``.
#: corrupt: change ``amount`` bytes of one message. lose_packets: leave out ``amount`` packets, or frames.
#: overrun: lose ``amount`` samples and say so as the hardware does. clock_jump: the device's time moves by ``amount``
#: s. retune: the device retunes by itself to ``amount`` Hz.
FaultKind = Literal[
    "stall",
    "drop_connection",
    "short_read",
    "error",
    "corrupt",
    "lose_packets",
    "overrun",
    "clock_jump",
    "retune",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


class ProtocolFault(NamedTuple):
    kind: FaultKind
    amount: float | None


class FaultBoard:
    """Faults that wait to happen. Commands put them on, the threads that serve clients take them off.

    Args:
        kinds: What this protocol can do wrong.
    """

    def __init__(self, kinds: tuple[FaultKind, ...]) -> None:
        self.kinds = kinds
        self._lock = threading.Lock()
        self._waiting: dict[FaultKind, deque[ProtocolFault]] = {kind: deque() for kind in kinds}
        self.n_done = dict.fromkeys(kinds, 0)

    def put(self, kind: FaultKind, amount: float | None = None) -> None:
        """Let ``kind`` happen once, as soon as it can.

        Raises:
            ControlError: This protocol has no such fault.
        """
        if kind not in self._waiting:
            raise ControlError(f"fault {kind!r}: this device can do {', '.join(self.kinds)}")
        with self._lock:
            self._waiting[kind].append(ProtocolFault(kind, amount))

    def take(self, *kinds: FaultKind) -> ProtocolFault | None:
        """Take the oldest waiting fault of the first of ``kinds`` that has one; whoever takes it does it."""
        with self._lock:
            for kind in kinds:
                waiting = self._waiting.get(kind)
                if waiting:
                    self.n_done[kind] += 1
                    return waiting.popleft()
        return None

    @property
    def n_waiting(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting.values()))
