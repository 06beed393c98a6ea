"""The GNU Radio driver beside GNU Radio's own source block and a plain loop over a ZeroMQ socket.

All read items of four channels, with tags, out of a PUSH sink that sends as fast as they are taken; each has a sink of
its own. Plainly, messages are taken and let go of. The driver gives ``[sensor, snapshot]``: it turns the items over.
Its samples are compared with the device's before. Rates are of complex samples over all channels.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks.drivers.rig import Turns, data_of, in_turns, read_by_clock, simulated, turn_row
from benchmarks.report import Report, Row
from benchmarks.transport.gnuradio_lane import PYTHON, missing
from drivers.gnuradio import GnuRadio
from sim_device.device import XlArrayDevice

MODULE = "sim_device.servers.gnuradio"
N_CHANNELS, N_SAMPLES, LOOP_TICKS = 4, 16384, 1 << 16
_RATE_HZ, _CLOCK_HZ = 1e6, 10e6
_PLAIN = Path(__file__).with_name("gnuradio_plain.py")


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s, seconds = (2, 0.3, 1.0) if quick else (11, 0.5, 5.0)
    report = Report("drivers")
    yield from _rates(report, rounds, slice_s)
    yield from _by_clock(report, seconds)


def _params(rate_hz: float, real_time: bool) -> dict[str, Any]:
    device = {
        "array": {"kind": "ula", "n": N_CHANNELS}, "frequency_hz": 2.4e9, "sample_rate_hz": rate_hz,
        "noise_power_db": -20.0, "real_time": real_time,
    }  # fmt: skip
    return {
        "socket": "push", "content": "tagged", "layout": "vector", "n_samples": N_SAMPLES, "loop_ticks": LOOP_TICKS,
        "device": device,
    }  # fmt: skip


def _rates(report: Report, rounds: int, slice_s: float) -> Iterator[Row]:
    params = _params(_RATE_HZ, real_time=False)
    case = f"gnuradio, {N_CHANNELS} channels, messages of {N_SAMPLES}"
    peers: list[tuple[float, float]] = []
    with ExitStack() as stack:
        driver = GnuRadio("radio", uri=stack.enter_context(simulated(MODULE, params))["uri"], n_samples=N_SAMPLES)
        stack.callback(driver.close)
        driver.open()
        _check(driver)
        plain = _plain(stack, stack.enter_context(simulated(MODULE, params))["uri"])
        why = missing()
        peer = None if why else _endpoint(stack.enter_context(simulated(MODULE, params))["uri"])
        taken: dict[str, Turns] = {}
        rates: dict[str, list[Turns]] = {"plain socket": [], "driver": []}
        for _ in range(rounds):
            one = in_turns({"plain socket": plain, "driver": lambda: _n_read(driver)}, 1, slice_s)
            for name, turns in one.items():
                rates[name].append(turns)
            if peer is not None:
                peers.append(_peer(peer, slice_s))
    for name, turned in rates.items():
        taken[name] = _joined([(float(t.rates[0]), t.cpu_share) for t in turned])
    yield turn_row(report, case, taken, "plain socket", "MS/s", scale=1e-6)
    if peers:
        taken["pull_source"] = _joined(peers)
        yield turn_row(report, case, taken, "pull_source", "MS/s", scale=1e-6)
        yield turn_row(report, case, taken, "driver", "MS/s", scale=1e-6, against="pull_source")
    yield turn_row(report, case, taken, "driver", "MS/s", scale=1e-6, against="plain socket")


def _joined(pairs: list[tuple[float, float]]) -> Turns:
    return Turns(np.array([rate for rate, _ in pairs]), float(np.median([share for _, share in pairs])))


def _n_read(driver: GnuRadio) -> int:
    return sum(frame["iq"].size for frame in data_of(driver))


def _endpoint(uri: str) -> str:
    """Of the only sink."""
    return "tcp://" + uri.removeprefix("gnuradio://").partition("?")[0]


def _plain(stack: ExitStack, uri: str) -> Callable[[], int]:
    """A function that takes a message and returns how many samples it has, tags aside."""
    context = stack.enter_context(zmq.Context())
    sock = stack.enter_context(context.socket(zmq.PULL))
    sock.connect(_endpoint(uri))
    # all but the tags of the message are items
    return lambda: len(sock.recv(copy=False).buffer) // (8 * N_CHANNELS) * N_CHANNELS


def _peer(endpoint: str, seconds: float) -> tuple[float, float]:
    """Rate and processor time of GNU Radio's source block.

    Raises:
        RuntimeError: It failed.
    """
    assert PYTHON is not None
    # -I: not from this folder, which has a gnuradio of its own
    command = [PYTHON, "-I", str(_PLAIN), endpoint, str(N_CHANNELS), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + seconds)
    if done.returncode:
        raise RuntimeError(f"GNU Radio failed: {done.stderr.strip().splitlines()[-1:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told["rate_hz"], told["cpu_share"]


def _check(driver: GnuRadio) -> None:
    """The driver's frames are the device's samples of their ticks.

    Raises:
        AssertionError: They are not.
    """
    loop = XlArrayDevice("twin", **_params(_RATE_HZ, real_time=False)["device"]).samples(0, LOOP_TICKS)
    n_compared = 0
    while n_compared < 2 * LOOP_TICKS:
        for frame in data_of(driver):
            start, n = frame.header.sample_start, frame["iq"].shape[1]
            assert start is not None
            if not np.array_equal(frame["iq"], loop.take(np.arange(start, start + n), axis=1, mode="wrap")):
                raise AssertionError("gnuradio: the driver's samples are not the device's")
            n_compared += n


def _by_clock(report: Report, seconds: float) -> Iterator[Row]:
    params = _params(_CLOCK_HZ, real_time=True)
    with simulated(MODULE, params) as addresses, ExitStack() as stack:
        driver = GnuRadio("radio", uri=addresses["uri"], n_samples=N_SAMPLES, tag_timebase="utc")
        stack.callback(driver.close)
        driver.open()
        read = read_by_clock(driver, seconds)
    case = f"gnuradio, {N_CHANNELS} channels, by the clock at {_CLOCK_HZ / 1e6:g} MS/s"
    rate = read.n_samples / read.seconds / 1e6
    yield report.add(case, "driver: each channel", rate, "MS/s", n=read.n_frames, cpu_share=read.cpu_share,
                     age_ms=read.age_ms)  # fmt: skip
    yield report.add(case, "driver: lost", read.lost_samples, "samples", n=read.n_frames)
