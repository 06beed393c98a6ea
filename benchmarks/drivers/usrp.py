"""The UHD driver beside a plain loop of MultiUSRP's recv(): 8 channels of 4 boards at rising rates.

The simulated boards keep to the clock and lose samples where their host, or they themselves, do not keep up; the number
asked for is the highest rate at which nothing was lost. Boards, driver and child share the machine's cores. Before,
the driver's samples are compared with the device's. Rates are samples a second of each channel.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.drivers.rig import data_of, read_by_clock, simulated
from benchmarks.report import Report, Row
from drivers.uhd import Uhd
from drivers.uhd_interpreter import first_usable
from hil.frame import Frame
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise

MODULE = "sim_device.servers.usrp"
N_CHANNELS, N_SAMPLES, LOOP_TICKS = 8, 10_000, 100_000
RATES_HZ = (4e6, 5e6, 6e6, 8e6, 10e6)
QUICK_RATES_HZ = (1e6, 4e6)
_PLAIN = Path(__file__).with_name("usrp_plain.py")


class Turn(NamedTuple):
    """One reading at one rate.

    Attributes:
        rate_hz: Samples a second of each channel that came.
        lost: Samples of each channel that did not.
        cpu_share: Processor seconds a second of the reading processes.
        age_ms: Of a frame: since its last sample was taken.
    """

    rate_hz: float
    lost: int
    cpu_share: float
    age_ms: float | None = None


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: two rates, once."""
    found = first_usable()
    if found is None:
        raise RuntimeError("no Python has UHD: install python3-uhd")
    report = Report("drivers")
    rates_hz, rounds, seconds = (QUICK_RATES_HZ, 1, 2.0) if quick else (RATES_HZ, 3, 2.5)
    highest = {"recv()": 0.0, "driver": 0.0}
    for rate_hz in rates_hz:
        turns: dict[str, list[Turn]] = {"recv()": [], "driver": []}
        for _ in range(rounds):
            turns["recv()"].append(_plain_turn(found.path, rate_hz, seconds))
            turns["driver"].append(_driver_turn(found.path, rate_hz, seconds))
        case = f"usrp, {N_CHANNELS} channels by the clock at {rate_hz / 1e6:g} MS/s"
        for name, taken in turns.items():
            if all(t.lost == 0 for t in taken):
                highest[name] = max(highest[name], rate_hz)
            ages_ms = [t.age_ms for t in taken if t.age_ms is not None]
            yield report.add(
                case, f"{name}: each channel", float(np.median([t.rate_hz for t in taken])) / 1e6, "MS/s", n=rounds,
                cpu_share=float(np.median([t.cpu_share for t in taken])),
                age_ms=float(np.median(ages_ms)) if ages_ms else None,
            )  # fmt: skip
            yield report.add(case, f"{name}: lost", float(np.median([t.lost for t in taken])), "samples", n=rounds)
        if all(t.lost for taken in turns.values() for t in taken):
            break  # neither will keep up with more
    for name, against in (("recv()", None), ("driver", "recv()")):
        ratio = None if against is None or not highest[against] else highest[name] / highest[against]
        yield report.add(f"usrp, {N_CHANNELS} channels", f"{name}: highest rate without a gap", highest[name] / 1e6,
                         "MS/s", n=rounds, against=against, ratio=ratio)  # fmt: skip


def _device(rate_hz: float) -> dict[str, Any]:
    array = {"kind": "ula", "n": N_CHANNELS}
    return {"array": array, "frequency_hz": 2.4e9, "sample_rate_hz": rate_hz, "noise_power_db": -20.0}


def _params(rate_hz: float) -> dict[str, Any]:
    return {"host": "auto", "loop_ticks": LOOP_TICKS, "device": _device(rate_hz)}


def _plain_turn(interpreter: str, rate_hz: float, seconds: float) -> Turn:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"UHD_LOG_CONSOLE_LEVEL": "error", "UHD_LOG_FASTPATH_DISABLE": "1"}
    with ExitStack() as stack:
        uri = stack.enter_context(simulated(MODULE, _params(rate_hz)))["uri"]
        command = [interpreter, str(_PLAIN), uri, str(rate_hz), str(N_SAMPLES), str(seconds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + seconds)
    if done.returncode != 0:
        raise RuntimeError(f"plain MultiUSRP failed: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Turn(told["rate_hz"], told["lost"], told["cpu_share"])


def _driver_turn(interpreter: str, rate_hz: float, seconds: float) -> Turn:
    loop = quantise(XlArrayDevice("twin", **_device(rate_hz), real_time=False).samples(0, LOOP_TICKS))
    with ExitStack() as stack:
        addresses = stack.enter_context(simulated(MODULE, _params(rate_hz)))
        control = stack.enter_context(ControlClient(addresses["control"]))
        driver = Uhd(
            "radio", uri=addresses["uri"], interpreter=interpreter, sample_rate_hz=rate_hz, n_samples=N_SAMPLES,
            set_time="utc", frequency_hz=2.4e9,
        )  # fmt: skip
        stack.callback(driver.close)
        driver.open()
        stats = control.request("stats")
        first: list[Frame] = []
        while len(first) < 3:
            first += data_of(driver)
        _check(first, stats["tick_offsets"], loop)
        began_ns, offset = stats["tick_0_utc_ns"], stats["tick_offsets"][0]

        def age(frame: Frame, now_ns: int) -> float:
            assert frame.header.sample_start is not None
            end = frame.header.sample_start - offset + frame["iq"].shape[1]
            return (now_ns - began_ns) / 1e9 - end / rate_hz

        children = [p.pid for p in psutil.Process().children() if p.pid != addresses["pid"]]
        read = read_by_clock(driver, seconds, age, children=children)
    return Turn(read.n_samples / read.seconds, read.lost_samples, read.cpu_share, read.age_ms)


def _check(frames: list[Frame], offsets: list[int], loop: npt.NDArray[np.int16]) -> None:
    """The frames are the device's samples of their ticks.

    Raises:
        AssertionError: They are not.
    """
    for frame in frames:
        start = frame.header.sample_start
        assert start is not None
        ticks = (start - offsets[0] + np.arange(frame["iq"].shape[1])) % LOOP_TICKS
        if len(set(offsets)) != 1 or not np.array_equal(frame["iq"], loop[:, ticks]):
            raise AssertionError("the driver's samples are not the device's")
