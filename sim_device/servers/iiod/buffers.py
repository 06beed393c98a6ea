"""Open buffers: who has which channels of which device, and where each stands."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator

from sim_device.servers.iiod.capture import Capture, Interleaver
from sim_device.servers.iiod.context import IioDevice, fail
from sim_device.servers.iiod.radio import Radio
from sim_device.servers.iiod.registers import Registers
from sim_device.servers.iiod.wire import Gone
from sim_device.servers.protocol_server import TICK_S

#: Blocks in the kernel's queue, unless a client sets another number.
_N_BLOCKS = 4
#: Ticks that are computed in one go.
_CHUNK = 1 << 14


class Buffers:
    """The buffers of all devices. Any thread may call.

    Clients that have the same device open share the layout of its samples: all channels that any of them enabled, as
    the real daemon does. Each has blocks of its own.

    Args:
        radio: What inputs sample.
        registers: Of the input, for its overflow bit.
    """

    def __init__(self, radio: Radio, registers: Registers) -> None:
        self.radio, self.registers = radio, registers
        self.interleaver = Interleaver(radio)
        self.lock = threading.Lock()
        self.open_masks: dict[str, list[int]] = {}
        self._n_blocks: dict[str, int] = {}

    def set_blocks(self, device: IioDevice, n: int) -> None:
        if n < 1:
            raise fail(errno.EINVAL, "a queue needs a block")
        self._n_blocks[device.id] = n

    def open(self, device: IioDevice, n_samples: int, mask: int) -> OpenBuffer:
        """Open a device.

        Raises:
            OSError: EINVAL: no samples, or no channel that has any.
        """
        scan = sum(1 << k for k, c in enumerate(device.ordered) if c.scan is not None)
        if not mask & scan or n_samples < 1:
            raise fail(errno.EINVAL, f"{device.name}: no samples are asked for")
        opened = OpenBuffer(self, device, n_samples, mask & scan, self._n_blocks.get(device.id, _N_BLOCKS))
        with self.lock:
            self.open_masks.setdefault(device.id, []).append(opened.mask)
        return opened


class OpenBuffer:
    """One client's open buffer."""

    def __init__(self, buffers: Buffers, device: IioDevice, n_samples: int, mask: int, n_blocks: int) -> None:
        self._buffers, self._device, self.mask = buffers, device, mask
        self.n_samples = n_samples
        self.is_output = device.scan_channels[0].direction == "output"
        self._capture = Capture(buffers.radio, buffers.registers, n_samples, n_blocks)

    def close(self) -> None:
        with self._buffers.lock:
            self._buffers.open_masks[self._device.id].remove(self.mask)

    def lose(self, n_samples: int) -> None:
        self._capture.lose(n_samples)

    def take(self, timeout_s: float | None, ending: threading.Event) -> int:
        """Return the first tick of the next block.

        Raises:
            OSError: ETIMEDOUT.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (tick := self._capture.take(TICK_S)) is None:
            if ending.is_set():
                raise Gone("the server ends")
            if end is not None and time.monotonic() > end:
                raise fail(errno.ETIMEDOUT, "no block was full in time")
        return tick

    def layout(self) -> tuple[list[int], bytes]:
        """Scan elements in the samples, and the line that tells of them."""
        mask = 0
        with self._buffers.lock:
            for other in self._buffers.open_masks[self._device.id]:
                mask |= other
        scan = [c.scan.index for k, c in enumerate(self._device.ordered) if c.scan is not None and mask >> k & 1]
        return scan, f"{mask:0{8 * self._device.mask_words}x}\n".encode()

    def pieces(self, tick: int, n_bytes: int, scan: list[int]) -> Iterator[list[memoryview]]:
        """``n_bytes`` of samples from ``tick`` on."""
        step = 2 * len(scan)
        if n_bytes == 0:
            yield []
        chunk = self.n_samples if self._buffers.radio.loop_ticks is not None else _CHUNK
        while n_bytes > 0:
            n = min(chunk, -(-n_bytes // step))
            pieces = self._buffers.interleaver.pieces(tick, n, scan)
            cut = n * step - n_bytes
            if cut > 0:
                pieces[-1] = pieces[-1][:-cut]
            yield pieces
            tick, n_bytes = tick + n, n_bytes - n * step
