"""Reads an IIO buffer in a thread of its own: libiio waits in C, and a driver's read must return in time."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from drivers.iio_control import IioControl, RadioState
from drivers.memory_pool import MemoryPool

I16 = npt.NDArray[np.int16]

#: Blocks that wait for the driver; then the thread waits, and the device loses samples and says so.
_QUEUE = 4
#: How long a thread may take to end by itself, as the buffer can then be closed in peace; and once it was cancelled.
_PATIENCE_S, _JOIN_S = 0.25, 1.0


class IioBlock(NamedTuple):
    """What one refill gave.

    Attributes:
        samples: ``[snapshot, sensor, component]``, or ``None`` for nothing.
        n_expected: Samples a channel that were asked for.
        arrived_ns: Host time, UTC.
        overflow: Samples were lost since the last block that says so, before this one or in it.
        state: What the radio said when it was asked after this block; ``None``: it was not.
    """

    samples: I16 | None
    n_expected: int
    arrived_ns: int
    overflow: bool = False
    state: RadioState | None = None


def _extent_of(iio: ModuleType, buffer: Any) -> Callable[[], tuple[int, int, int]]:
    """A function that returns start, end and step of a buffer's samples.

    It keeps the interpreter's lock, unlike pylibiio's: these calls take nanoseconds, and to get the lock back from a
    thread that is busy may take longer than the refill.
    """
    library, pointer = ctypes.PyDLL(iio._lib._name), buffer._buffer
    functions = [getattr(library, f"iio_buffer_{name}") for name in ("start", "end", "step")]
    for function, result in zip(functions, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t), strict=True):
        function.restype, function.argtypes = result, [type(pointer)]
    start, end, step = functions
    return lambda: (start(pointer), end(pointer), step(pointer))


class IioReader:
    """Opens the buffer of a device and reads it.

    Args:
        iio: The module.
        adc: ``iio.Device``.
        channels: ``iio.Channel``: in-phase and quadrature of each sensor, in scan order; enabled here, others disabled.
        n_samples: A channel and refill.
        n_blocks: Of the kernel's queue.
        control: Asked between blocks.
        poll_s: How often.

    Raises:
        OSError: The buffer cannot be opened.
    """

    def __init__(
        self,
        iio: ModuleType,
        adc: Any,
        channels: Sequence[Any],
        n_samples: int,
        n_blocks: int,
        control: IioControl,
        poll_s: float,
    ) -> None:
        self._iio, self._channels, self._n = iio, list(channels), n_samples
        self._control, self._poll_s = control, poll_s
        for channel in adc.channels:
            if channel.scan_element:
                channel.enabled = False
        for channel in self._channels:
            channel.enabled = True
        adc.set_kernel_buffers_count(n_blocks)
        self._buffer = iio.Buffer(adc, n_samples, False)
        self._extent = _extent_of(iio, self._buffer)
        self._pool = MemoryPool(2 * n_samples * len(self._channels))
        self._waiting: queue.SimpleQueue[IioBlock | Exception] = queue.SimpleQueue()
        self._room = threading.Semaphore(_QUEUE)
        self._views: dict[int, I16] = {}
        self._ending = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="iio-reader")
        self._thread.start()

    def get(self, timeout_s: float) -> IioBlock | None:
        """Return the next block; ``None`` where there is none in time.

        Raises:
            Exception: What the reading thread met.
        """
        try:
            item = self._waiting.get(timeout=timeout_s) if timeout_s > 0 else self._waiting.get_nowait()
        except queue.Empty:
            return None
        self._room.release()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> bool:
        """End the thread and close the buffer. False where libiio does not let go: both are then left behind."""
        self._ending.set()
        if self._buffer is None:
            return True
        self._room.release()  # it may wait for room
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive() or self._failed:
            self._buffer.cancel()  # ends a refill that waits; to close the buffer then asks the device nothing
            self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            return False
        # left to the garbage collector it may be freed after its context, which ends the process
        self._iio._buffer_destroy(self._buffer._buffer)
        self._buffer._buffer = None
        self._buffer = None
        return True

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            polled_s = time.monotonic()
            while not self._ending.is_set():
                self._buffer.refill()
                arrived_ns = time.time_ns()
                block = IioBlock(self._copy(), self._n, arrived_ns)
                if time.monotonic() - polled_s >= self._poll_s:
                    block = block._replace(overflow=self._control.overflowed(), state=self._control.state())
                    polled_s = time.monotonic()
                self._put(block)
        except Exception as error:
            self._failed = True
            self._put(error.with_traceback(None))  # a traceback would hold the buffer

    def _copy(self) -> I16 | None:
        """The samples of the buffer in memory of their own."""
        columns = len(self._channels)
        start, end, step = self._extent()
        if step != 2 * columns:
            return self._chosen()
        n = min((end - start) // (2 * columns), self._n)
        if n == 0:
            return None
        out = self._pool.take().view(np.int16)[: n * columns]
        np.copyto(out, self._view(start)[: n * columns])
        return out.reshape(n, columns // 2, 2)

    def _view(self, start: int) -> I16:
        """All of the buffer, which libiio keeps at one address, or at a few in turns."""
        view = self._views.get(start)
        if view is None:
            n_items = self._n * len(self._channels)
            memory = (ctypes.c_int16 * n_items).from_address(start)
            view = self._views[start] = np.ctypeslib.as_array(memory)
        return view

    def _chosen(self) -> I16 | None:
        """The same where another client has more channels enabled: the device then gives all of them to all."""
        rows = [np.frombuffer(c.read(self._buffer, raw=True), np.int16) for c in self._channels]
        n = min(map(len, rows))
        if n == 0:
            return None
        return np.ascontiguousarray(np.stack([row[:n] for row in rows], axis=1)).reshape(n, -1, 2)

    def _put(self, item: IioBlock | Exception) -> None:
        self._room.acquire()
        self._waiting.put(item)
