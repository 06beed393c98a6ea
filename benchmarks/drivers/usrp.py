"""The UHD driver beside a plain loop of MultiUSRP's recv(): 8 channels of 4 boards at rising rates.

The simulated boards keep to the clock and lose samples where their host, or they themselves, do not keep up; the number
asked for is the highest rate at which nothing was lost. Boards, driver and child share the machine's cores. Before,
the driver's samples are compared with the device's. Rates are samples a second of each channel.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.report import Report, Row, median_ci95
from drivers.embedded import EmbeddedDevice
from drivers.uhd import Uhd
from drivers.uhd_interpreter import first_usable
from hil.frame import Frame
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise

N_CHANNELS, N_SAMPLES, LOOP_TICKS = 8, 10_000, 100_000
RATES_HZ = (1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 8e6, 10e6)
QUICK_RATES_HZ = (1e6, 4e6)
_PLAIN = Path(__file__).with_name("usrp_plain.py")


class Turn(NamedTuple):
    """One reading at one rate.

    Attributes:
        rate_hz: Samples a second of each channel that came.
        lost: Samples of each channel that did not.
        cores: Processor seconds a second of the reading processes.
        ages_s: Of frames: since the last sample was taken.
    """

    rate_hz: float
    lost: int
    cores: float
    ages_s: tuple[float, ...] = ()


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: two rates, once."""
    found = first_usable()
    if found is None:
        raise RuntimeError("no Python has UHD: install python3-uhd")
    report = Report("drivers.usrp")
    rates_hz, rounds, seconds = (QUICK_RATES_HZ, 1, 2.0) if quick else (RATES_HZ, 3, 5.0)
    highest = {"driver": 0.0, "recv()": 0.0}
    for rate_hz in rates_hz:
        turns: dict[str, list[Turn]] = {"driver": [], "recv()": []}
        for _ in range(rounds):
            turns["recv()"].append(_plain_turn(found.path, rate_hz, seconds))
            turns["driver"].append(_driver_turn(found.path, rate_hz, seconds))
        case = f"{N_CHANNELS} channels at {rate_hz / 1e6:g} MS/s each"
        for name, against in (("recv()", None), ("driver", "recv()")):
            taken = turns[name]
            if all(t.lost == 0 for t in taken):
                highest[name] = max(highest[name], rate_hz)
            rate = float(np.median([t.rate_hz for t in taken]))
            beside = None if against is None else rate / float(np.median([t.rate_hz for t in turns[against]]))
            yield report.add(case, f"{name}: rate", rate / 1e6, "MS/s", n=rounds, against=against, ratio=beside)
            yield report.add(case, f"{name}: lost", float(np.median([t.lost for t in taken])), "samples", n=rounds)
            yield report.add(case, f"{name}: CPU of the reader", float(np.median([t.cores for t in taken])), "cores",
                             n=rounds)  # fmt: skip
        ages_ms = [1e3 * age for t in turns["driver"] for age in t.ages_s]
        median, ci95 = median_ci95(ages_ms)
        yield report.add(
            case, "driver: age of the last sample beyond the least", median, "ms", n=len(ages_ms), ci95=ci95
        )
    for name, against in (("recv()", None), ("driver", "recv()")):
        ratio = None if against is None or not highest[against] else highest[name] / highest[against]
        yield report.add(f"{N_CHANNELS} channels", f"{name}: highest rate without a gap", highest[name] / 1e6, "MS/s",
                         n=rounds, against=against, ratio=ratio)  # fmt: skip


def _device(rate_hz: float) -> dict[str, Any]:
    array = {"kind": "ula", "n": N_CHANNELS}
    return {"array": array, "frequency_hz": 2.4e9, "sample_rate_hz": rate_hz, "noise_power_db": -20.0}


def _boards(stack: ExitStack, rate_hz: float) -> dict[str, Any]:
    params = {"host": "auto", "loop_ticks": LOOP_TICKS, "device": _device(rate_hz)}
    boards = EmbeddedDevice("sim_device.servers.usrp", params)
    stack.callback(boards.close)
    addresses = boards.addresses(60.0)
    if addresses is None:
        raise RuntimeError(f"the simulated boards did not start: {boards.last_words()}")
    return addresses


def _plain_turn(interpreter: str, rate_hz: float, seconds: float) -> Turn:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"UHD_LOG_CONSOLE_LEVEL": "error", "UHD_LOG_FASTPATH_DISABLE": "1"}
    with ExitStack() as stack:
        uri = _boards(stack, rate_hz)["uri"]
        command = [interpreter, str(_PLAIN), uri, str(rate_hz), str(N_SAMPLES), str(seconds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + seconds)
    if done.returncode != 0:
        raise RuntimeError(f"plain MultiUSRP failed: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Turn(told["rate_hz"], told["lost"], told["cores"])


def _driver_turn(interpreter: str, rate_hz: float, seconds: float) -> Turn:
    with ExitStack() as stack:
        addresses = _boards(stack, rate_hz)
        control = stack.enter_context(ControlClient(addresses["control"]))
        driver = Uhd(
            "radio", uri=addresses["uri"], interpreter=interpreter, sample_rate_hz=rate_hz, n_samples=N_SAMPLES,
            set_time="utc", frequency_hz=2.4e9,
        )  # fmt: skip
        stack.callback(driver.close)
        driver.open()
        readers = [psutil.Process(), *psutil.Process().children()]
        readers = [p for p in readers if p.pid != addresses["pid"]]
        first: list[Frame] = []
        while len(first) < 3:
            first += _frames(driver)
        _check(first, control.request("stats")["tick_offsets"], rate_hz)
        n = lost = 0
        ages_s: list[float] = []
        cpu_s, start_s = _cpu_s(readers), time.perf_counter()
        while (elapsed_s := time.perf_counter() - start_s) < seconds:
            for frame in _frames(driver):
                n += frame["iq"].shape[1]
                lost += frame.header.lost.samples
                assert frame.header.time_ns is not None
                ages_s.append((time.time_ns() - frame.header.time_ns) / 1e9 - frame["iq"].shape[1] / rate_hz)
        # the pulse that UTC was set by is the simulated device's second, not the world's: only changes of age are known
        least = min(ages_s)
        return Turn(n / elapsed_s, lost, (_cpu_s(readers) - cpu_s) / elapsed_s, tuple(a - least for a in ages_s))


def _frames(driver: Uhd) -> list[Frame]:
    return [f for _, f in driver.read(1.0) or () if f.header.kind == "data"]


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(t.user + t.system for t in (p.cpu_times() for p in processes))


def _check(frames: list[Frame], offsets: list[int], rate_hz: float) -> None:
    """The frames are the device's samples of their ticks.

    Raises:
        AssertionError: They are not.
    """
    twin = XlArrayDevice("twin", **{**_device(rate_hz), "sample_rate_hz": rate_hz}, real_time=False)
    loop = quantise(twin.samples(0, LOOP_TICKS))
    for frame in frames:
        start = frame.header.sample_start
        assert start is not None
        ticks = (start - offsets[0] + np.arange(frame["iq"].shape[1])) % LOOP_TICKS
        if len(set(offsets)) != 1 or not np.array_equal(frame["iq"], loop[:, ticks]):
            raise AssertionError("the driver's samples are not the device's")
