"""The driver of srsRAN's ZeroMQ radio beside a plain loop over its sockets.

Four channels, a REQ socket each; each contestant has a radio of its own that answers as fast as it is asked. Plainly,
all sockets are asked and their answers taken and let go of. The driver's samples are compared with the device's before.
Rates are of complex samples over all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import zmq

from benchmarks.drivers.rig import data_of, in_turns, simulated, turn_row
from benchmarks.report import Report, Row
from drivers.srsran import SrsRan
from sim_device.device import XlArrayDevice

MODULE = "sim_device.servers.srsran"
N_CHANNELS, N_SAMPLES, LOOP_TICKS, RATE_HZ = 4, 11_520, 1 << 16, 11.52e6


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s = (2, 0.3) if quick else (15, 0.5)
    report = Report("drivers")
    params = {"n_samples": N_SAMPLES, "loop_ticks": LOOP_TICKS, "device": _device()}
    with ExitStack() as stack:
        uri = stack.enter_context(simulated(MODULE, params))["uri"]
        driver = SrsRan("radio", uri=uri, n_samples=N_SAMPLES, sample_rate_hz=RATE_HZ, frequency_hz=3.5e9)
        stack.callback(driver.close)
        driver.open()
        _check(driver)
        plain = _plain(stack, stack.enter_context(simulated(MODULE, params))["uri"])
        contestants = {
            "plain sockets": plain,
            "driver": lambda: sum(frame["iq"].size for frame in data_of(driver)),
        }
        taken = in_turns(contestants, rounds, slice_s)
    case = f"srsran, {N_CHANNELS} channels, answers of {N_SAMPLES}"
    yield turn_row(report, case, taken, "plain sockets", "MS/s", scale=1e-6)
    yield turn_row(report, case, taken, "driver", "MS/s", scale=1e-6, against="plain sockets")


def _device() -> dict[str, Any]:
    return {
        "array": {"kind": "ula", "n": N_CHANNELS}, "frequency_hz": 3.5e9, "sample_rate_hz": RATE_HZ,
        "noise_power_db": -20.0, "real_time": False,
    }  # fmt: skip


def _plain(stack: ExitStack, uri: str) -> Callable[[], int]:
    """A function that asks all channels once and returns how many samples came."""
    host, _, ports = uri.removeprefix("srsran://").partition(":")
    context = stack.enter_context(zmq.Context())
    sockets = [stack.enter_context(context.socket(zmq.REQ)) for _ in ports.split(",")]
    for sock, port in zip(sockets, ports.split(","), strict=True):
        sock.connect(f"tcp://{host}:{port}")

    def read() -> int:
        for sock in sockets:
            sock.send(b"\xff")
        return sum(len(sock.recv(copy=False).buffer) // 8 for sock in sockets)

    return read


def _check(driver: SrsRan) -> None:
    """The driver's frames are the device's samples of their ticks.

    Raises:
        AssertionError: They are not.
    """
    loop = XlArrayDevice("twin", **_device()).samples(0, LOOP_TICKS)
    n_compared = 0
    while n_compared < 2 * LOOP_TICKS:
        for frame in data_of(driver):
            start, n = frame.header.sample_start, frame["iq"].shape[1]
            assert start is not None
            if not np.array_equal(frame["iq"], loop.take(np.arange(start, start + n), axis=1, mode="wrap")):
                raise AssertionError("srsran: the driver's samples are not the device's")
            n_compared += n
