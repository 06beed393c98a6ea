"""Frames to be carried, and the check that they came whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil.frame import Frame, Header

C64 = npt.NDArray[np.complex64]

N_SENSORS = 64
#: Different payloads, sent in turn: few enough to stay in the cache, as samples that were just computed do.
N_PAYLOADS = 4
_N_CHECKED = 16


def payloads(n_bytes: int) -> list[C64]:
    """``N_PAYLOADS`` arrays ``[sensor, snapshot]`` of ``n_bytes`` each, the same in every process."""
    rng = np.random.default_rng(n_bytes)
    shape = (N_SENSORS, n_bytes // 8 // N_SENSORS)
    return [
        (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64) for _ in range(N_PAYLOADS)
    ]


class Checker:
    """Compares frames that came with those that were to come: number, size, and bytes spread over the payload."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        stride = n_bytes // 8 // _N_CHECKED
        self._where = np.append(np.arange(_N_CHECKED) * stride, n_bytes // 8 - 1)
        self._expected = [p.reshape(-1)[self._where].tobytes() for p in payloads(n_bytes)]
        self._next = 0

    def begin(self, seq: int) -> None:
        """The next frame is to be number ``seq``."""
        self._next = seq

    def check(self, seq: int, array: C64) -> None:
        """Check one frame.

        Raises:
            ValueError: It is another one, or not whole.
        """
        if seq != self._next:
            raise ValueError(f"frame #{seq} came, expected #{self._next}")
        self._next += 1
        if array.nbytes != self._n_bytes:
            raise ValueError(f"frame #{seq} has {array.nbytes} bytes, expected {self._n_bytes}")
        if array.reshape(-1)[self._where].tobytes() != self._expected[seq % N_PAYLOADS]:
            raise ValueError(f"frame #{seq} came with other samples than were sent")


class FrameMaker:
    """Makes frames as a device does whose header changes in its counts only."""

    def __init__(self, n_bytes: int) -> None:
        array = payloads(n_bytes)[0]
        header = Header(
            stream="sim.iq",
            seq=0,
            epoch=1,
            sample_start=0,
            sample_rate_hz=1e6,
            frequency_hz=5e9,
            time_ns=0,
            timebase="device",
            host_time_ns=0,
            array_id="ula-64",
        )
        self._header = Frame.of(header, iq=(array, "sensor snapshot", "FS")).header

    def make(self, seq: int, array: C64, sent_ns: int) -> Frame:
        """Frame ``seq``; ``host_time_ns`` tells when it was sent."""
        start = seq * array.shape[1]
        header = self._header._replace(seq=seq, sample_start=start, time_ns=start * 1000, host_time_ns=sent_ns)
        return Frame(header, {"iq": array})
