"""The driver of heimdall beside a plain loop over its socket, and by the clock at ten times the rate of a KrakenSDR.

Plainly, a socket is read into memory that is used again, and nothing is looked at but the length of what follows.
By the clock the simulated unit takes 24 MS/s of each of its five channels; what it takes and nobody fetches is lost.
Samples are compared with the device's before. Rates are of complex samples over all channels, or of each channel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.drivers.rig import ByClock, data_of, in_turns, read_by_clock, simulated, turn_row
from benchmarks.report import Report, Row
from drivers.heimdall import Heimdall
from drivers.heimdall_address import parse_address
from hil.formats import heimdall
from hil.frame import Frame
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.heimdall.version2 import to_bytes

MODULE = "sim_device.servers.heimdall"
N_CHANNELS, RATE_HZ, TIMES = 5, 2.4e6, 10
#: Samples a channel in a frame of version 1 and in a packet of version 2; the loop that the device repeats.
N_SAMPLES = {1: 1 << 20, 2: 1 << 15}
LOOP_TICKS = 1 << 21
_NS_PER_S = 1e9


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s, seconds = (3, 0.3, 1.0) if quick else (15, 0.5, 10.0)
    report = Report("drivers")
    loop = XlArrayDevice("twin", **_device(RATE_HZ), real_time=False).samples(0, LOOP_TICKS)
    for version in (1, 2):
        yield from _rates(report, version, loop, rounds, slice_s)
    for version in (1, 2):
        yield from _by_clock(report, version, loop, seconds)


def _device(rate_hz: float) -> dict[str, Any]:
    array = {"kind": "uca", "n": N_CHANNELS, "radius_m": 0.294}
    return {"array": array, "frequency_hz": 433.92e6, "sample_rate_hz": rate_hz, "noise_power_db": -20.0}


def _params(version: int, rate_hz: float, real_time: bool) -> dict[str, Any]:
    device = {**_device(rate_hz), "real_time": real_time}
    return {
        "version": version, "n_samples": N_SAMPLES[version], "loop_ticks": LOOP_TICKS, "calibration_s": 0.0,
        "device": device,
    }  # fmt: skip


def _case(version: int) -> str:
    return f"heimdall {version}, {N_CHANNELS} channels, {N_SAMPLES[version]} a frame"


def _rates(report: Report, version: int, loop: npt.NDArray[np.complex64], rounds: int, slice_s: float) -> Iterator[Row]:
    """As fast as it gives. Each contestant has a device of its own: version 1 serves one client."""
    params = _params(version, RATE_HZ, real_time=False)
    with ExitStack() as stack:
        driver = Heimdall("radio", uri=stack.enter_context(simulated(MODULE, params))["uri"], sample_rate_hz=RATE_HZ)
        stack.callback(driver.close)
        driver.open()
        _check(driver, version, loop)
        plain = _plain(stack, version, stack.enter_context(simulated(MODULE, params))["uri"])
        taken = in_turns({"plain socket": plain, "driver": lambda: _n_read(driver)}, rounds, slice_s)
    yield turn_row(report, _case(version), taken, "plain socket", "MS/s", scale=1e-6)
    yield turn_row(report, _case(version), taken, "driver", "MS/s", scale=1e-6, against="plain socket")


def _n_read(driver: Heimdall) -> int:
    return sum(frame["iq"].shape[0] * frame["iq"].shape[1] for frame in data_of(driver))


def _plain(stack: ExitStack, version: int, uri: str) -> Callable[[], int]:
    """A function that reads a frame and returns how many samples it has."""
    address = parse_address(uri)
    sock = stack.enter_context(socket.create_connection((address.host, address.port)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    head = bytearray(heimdall.V1_BYTES if version == 1 else heimdall.HeaderV2(N_CHANNELS, N_SAMPLES[2]).header_bytes)
    n = N_CHANNELS * N_SAMPLES[version]
    payload = bytearray(n * (8 if version == 1 else 2))
    if version == 1:
        sock.sendall(heimdall.START)

    def read() -> int:
        for memory in (memoryview(head), memoryview(payload)):
            filled = 0
            while filled < len(memory):
                filled += sock.recv_into(memory[filled:])
        if version == 1:
            sock.sendall(heimdall.NEXT)
        return n

    return read


def _check(driver: Heimdall, version: int, loop: npt.NDArray[np.complex64]) -> None:
    """The driver's frames are the device's samples of their ticks.

    Raises:
        AssertionError: They are not.
    """
    expected: npt.NDArray[Any] = loop if version == 1 else to_bytes(loop)
    n_compared = 0
    while n_compared < 2 * LOOP_TICKS:
        for frame in data_of(driver):
            start, n = frame.header.sample_start, frame["iq"].shape[1]
            assert start is not None
            place = start % LOOP_TICKS
            if not np.array_equal(frame["iq"], expected[:, place : place + n]):
                raise AssertionError(f"heimdall {version}: the driver's samples are not the device's")
            n_compared += n


def _by_clock(report: Report, version: int, loop: npt.NDArray[np.complex64], seconds: float) -> Iterator[Row]:
    rate_hz = TIMES * RATE_HZ
    with ExitStack() as stack:
        addresses = stack.enter_context(simulated(MODULE, _params(version, rate_hz, real_time=True)))
        with ControlClient(addresses["control"]) as control:
            began_ns = control.request("stats")["tick_0_utc_ns"]
        ticks = Ticks(to_bytes(loop) if version == 2 else None, began_ns, rate_hz)
        driver = Heimdall("radio", uri=addresses["uri"], sample_rate_hz=rate_hz)
        stack.callback(driver.close)
        driver.open()
        read = read_by_clock(driver, seconds, ticks.age)
    case = f"{_case(version)}, by the clock at {rate_hz / 1e6:g} MS/s"
    yield from _clock_rows(report, case, read, ticks.lost(read), rate_hz)


def _clock_rows(report: Report, case: str, read: ByClock, lost: int, rate_hz: float) -> Iterator[Row]:
    rate = read.n_samples / read.seconds
    yield report.add(
        case, "driver: each channel", rate / 1e6, "MS/s", n=read.n_frames, at_least=0.99 * rate_hz / 1e6,
        cpu_share=read.cpu_share, age_ms=read.age_ms,
    )  # fmt: skip
    yield report.add(case, "driver: lost", lost, "samples", n=read.n_frames, at_most=0)


class Ticks:
    """Which samples frames have, and so how old they are and what is missing.

    Version 1 numbers its frames. Packets of version 2 have no number: theirs is read from their samples, which repeat
    themselves after :data:`LOOP_TICKS`, and from the clock.

    Args:
        loop: What version 2 repeats, ``[channel, tick, component]``; ``None`` for version 1.
        began_ns: UTC of tick 0.
        rate_hz: Ticks a second.
    """

    def __init__(self, loop: npt.NDArray[np.uint8] | None, began_ns: int, rate_hz: float) -> None:
        self._began_ns, self._rate_hz = began_ns, rate_hz
        # packets begin at whole multiples of their length, whatever was lost; all of them were compared before
        starts = () if loop is None else range(0, LOOP_TICKS, N_SAMPLES[2])
        self._places = {_key(loop, t): t for t in starts if loop is not None}
        self._first: int | None = None
        self._end = 0

    def age(self, frame: Frame, now_ns: int) -> float:
        """Seconds since the last sample of ``frame`` was there."""
        n = frame["iq"].shape[1]
        now = round((now_ns - self._began_ns) / _NS_PER_S * self._rate_hz)
        start = frame.header.sample_start
        if self._places:
            start = now - n - (now - n - self._places[_key(frame["iq"], 0)]) % LOOP_TICKS
        assert start is not None
        if self._first is None:
            self._first = start
        self._end = start + n
        return (now - self._end) / self._rate_hz

    def lost(self, read: ByClock) -> int:
        """Samples of each channel between the first frame and the last that did not come."""
        assert self._first is not None
        return self._end - self._first - read.n_samples


def _key(samples: npt.NDArray[np.uint8], place: int) -> bytes:
    """The first samples of a packet in ``[channel, tick, component]``."""
    return samples[:, place : place + 4].tobytes()
