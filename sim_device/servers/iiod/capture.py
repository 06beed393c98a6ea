"""What fills a client's buffers: blocks of consecutive samples, and a gap where the client was too slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from sim_device.servers.iiod.radio import Radio
from sim_device.servers.iiod.registers import Registers
from sim_device.servers.quantise import I16

#: Ticks that the converter's own memory holds while no block is free.
_FIFO_TICKS = 1024


class Capture:
    """The kernel's queue of blocks for one open buffer.

    In real time blocks fill one after the other from when the buffer was opened. When all of them are full and the
    converter's own memory too, samples are lost: the overflow bit is set, and filling goes on once a block is free, at
    what comes then. As fast as it can, a block is full when it is asked for.

    Args:
        radio: What is sampled.
        registers: Of the device, for the overflow bit.
        n_samples: Samples a channel in a block.
        n_blocks: Blocks in the queue.
    """

    def __init__(self, radio: Radio, registers: Registers, n_samples: int, n_blocks: int) -> None:
        self._radio, self._registers = radio, registers
        self.n_samples, self.n_blocks = n_samples, n_blocks
        self._full: deque[int] = deque()
        self._next = radio.feed.now_tick()

    def lose(self, n_samples: int) -> None:
        """Lose samples before the next block that is not full yet, on command."""
        self._next += n_samples
        self._registers.overflow()

    def take(self, timeout_s: float) -> int | None:
        """Return the first tick of the next block, ``None`` where it is not full in time."""
        feed = self._radio.feed
        if not feed.real_time:
            tick = self._next
            self._next += self.n_samples
            feed.head = max(feed.head, self._next)  # the block was filled, whatever the client reads of it
            return tick
        self._fill()
        if not self._full:
            feed.wait_until(self._next + self.n_samples, timeout_s)
            self._fill()
        return self._full.popleft() if self._full else None

    def _fill(self) -> None:
        now = self._radio.feed.now_tick()
        while len(self._full) < self.n_blocks and self._next + self.n_samples <= now:
            self._full.append(self._next)
            self._next += self.n_samples
        if len(self._full) == self.n_blocks and self._next + _FIFO_TICKS < now:
            self._next = now
            self._registers.overflow()


class Interleaver:
    """Samples as a buffer has them: one tick after the other, all channels of a mask in scan order.

    Args:
        radio: What is sampled.
    """

    def __init__(self, radio: Radio) -> None:
        self._radio = radio
        self._loops: dict[tuple[int, ...], I16] = {}

    def pieces(self, tick: int, n: int, scan: Sequence[int]) -> list[memoryview]:
        """Bytes of ticks ``tick .. tick + n - 1`` of scan elements ``scan``, in pieces that follow one another."""
        if self._radio.loop_ticks is None:
            return [_bytes(_interleaved(self._radio.counts(tick, n), scan))]
        period = self._loop((self._radio.feed.loop_version, *scan))
        self._radio.counts(tick + n - 1, 1)  # time goes on
        length, pieces = len(period), []
        while n > 0:
            start = tick % length
            piece = period[start : start + n]
            pieces.append(_bytes(piece))
            tick, n = tick + len(piece), n - len(piece)
        return pieces

    def _loop(self, key: tuple[int, ...]) -> I16:
        """The period of scan elements ``key[1:]``, of version ``key[0]``."""
        if key not in self._loops:
            assert self._radio.loop_ticks is not None
            while len(self._loops) >= 4:
                self._loops.pop(next(iter(self._loops)))
            self._loops[key] = _interleaved(self._radio.counts(0, self._radio.loop_ticks), key[1:])
        return self._loops[key]


def _interleaved(counts: I16, scan: Sequence[int]) -> I16:
    """``[channel, n, component]`` to ``[n, scan element]``, where element ``2 channel + component`` is chosen."""
    every = counts.transpose(1, 0, 2).reshape(counts.shape[1], -1)
    return np.ascontiguousarray(every if len(scan) == every.shape[1] else every[:, list(scan)]).astype(
        "<i2", copy=False
    )


def _bytes(samples: I16) -> memoryview:
    return samples.data.cast("B")
