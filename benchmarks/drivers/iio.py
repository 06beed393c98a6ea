"""The IIO driver beside libiio used plainly: int16 frames to bare ``refill()``, complex64 to pyadi-iio's ``rx()``.

All read one simulated device that sends as fast as it is asked, in turns in each round, over connections that stay
open. Before, the driver's samples are compared with the device's. Rates are of complex samples over all channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, Row, median_ci95
from blocks.front_end.to_complex import to_complex
from drivers.embedded import EmbeddedDevice
from drivers.iio import Iio
from hil.frame import Frame
from sim_device.device import XlArrayDevice
from sim_device.servers.iiod.server import IiodServer
from sim_device.servers.quantise import quantise

I16 = npt.NDArray[np.int16]

#: Channels, and samples a channel in a block: 1 MiB, and 4 MiB where there are many.
CASES = ((4, 65536), (16, 16384), (256, 4096))
#: Blocks in the loop that the device repeats.
_LOOP_BLOCKS = 2
_FULL_SCALE = 32768.0
_AXES = ("snapshot", "sensor", "component")
#: A read takes no longer.
_READ_S = 5.0


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s = (5, 0.3) if quick else (15, 0.5)
    report = Report("drivers.iio")
    for n_channels, n_samples in CASES:
        yield from _rates(report, n_channels, n_samples, rounds, slice_s)
    yield _age(report, 40 if quick else 400)


def _device(n_channels: int) -> dict[str, Any]:
    source = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 20.0, 0.0]}, "power_db": -20.0}
    return {
        "array": {"kind": "ula", "n": n_channels},
        "sources": [source],
        "frequency_hz": 2.4e9,
        "sample_rate_hz": 1e6,
    }


def _rates(report: Report, n_channels: int, n_samples: int, rounds: int, slice_s: float) -> Iterator[Row]:
    import adi
    import iio

    class Plain(adi.rx_tx.rx_def):  # type: ignore[misc]
        _complex_data, _device_name = True, ""
        _control_device_name, _rx_data_device_name = "hil-array-phy", "hil-array-adc"

    params = {"model": "iio", "loop_ticks": _LOOP_BLOCKS * n_samples, "device": _device(n_channels)}
    with ExitStack() as stack:
        server = EmbeddedDevice("sim_device.servers.iiod", params)
        stack.callback(server.close)
        addresses = server.addresses(120.0)
        if addresses is None:
            raise RuntimeError(f"the simulated device did not start: {server.last_words()}")
        uri = addresses["uri"]
        context = iio.Context(uri)
        adc = context.find_device("hil-array-adc")
        for channel in adc.channels:
            channel.enabled = True
        buffer = iio.Buffer(adc, n_samples)
        plain = Plain(uri=uri)
        plain.rx_buffer_size = n_samples
        driver = Iio("radio", uri=uri, n_samples=n_samples)
        stack.callback(driver.close)
        driver.open()
        _check(driver, n_channels, n_samples)
        turns: dict[str, Callable[[], int]] = {
            "refill()": lambda: _refill(buffer),
            "int16 frames": lambda: len(_frames(driver)),
            "rx()": lambda: _done(plain.rx()),
            "complex64 frames": lambda: sum(1 for f in _frames(driver) if to_complex(f["iq"], _AXES, _FULL_SCALE).size),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
        for _ in range(rounds):
            for name, turn in turns.items():
                taken[name].append(_rate(turn, slice_s))
        plain.rx_destroy_buffer()
    case = f"{n_channels} channels, blocks of {n_samples}"
    scale = n_samples * n_channels / 1e6
    rates = {name: np.array([rate for rate, _ in pairs]) * scale for name, pairs in taken.items()}
    shares = {name: float(np.median([share for _, share in pairs])) for name, pairs in taken.items()}
    for name, beside, target in (
        ("refill()", None, None),
        ("int16 frames", "refill()", 0.8),
        ("rx()", None, None),
        ("complex64 frames", "rx()", 5.0),
    ):
        median, ci95 = median_ci95(rates[name])
        ratio = None if beside is None else float(np.median(rates[name] / rates[beside]))
        yield report.add(case, name, median, "MS/s", n=rounds, ci95=ci95, against=beside, ratio=ratio,
                         ratio_at_least=target)  # fmt: skip
        yield report.add(case, f"{name}: CPU of the reader", shares[name], "cores", n=rounds)


def _check(driver: Iio, n_channels: int, n_samples: int) -> None:
    """The driver gives the samples of the device, block after block.

    Raises:
        AssertionError: It does not.
    """
    samples = XlArrayDevice("twin", **_device(n_channels), real_time=False).samples(0, _LOOP_BLOCKS * n_samples)
    loop = quantise(samples).transpose(1, 0, 2).reshape(_LOOP_BLOCKS, n_samples, n_channels, 2)
    got: list[I16] = []
    while len(got) < 2 * _LOOP_BLOCKS:
        got += [f["iq"] for f in _frames(driver)]
    first = next((k for k in range(_LOOP_BLOCKS) if np.array_equal(got[0], loop[k])), None)
    if first is None or any(not np.array_equal(g, loop[(first + k) % _LOOP_BLOCKS]) for k, g in enumerate(got)):
        raise AssertionError(f"{n_channels} channels: the driver's samples are not the device's")


def _frames(driver: Iio) -> list[Frame]:
    reading = driver.read(_READ_S)
    return [f for _, f in reading or () if f.header.kind == "data"]


def _done(result: object) -> int:
    return 1


def _refill(buffer: Any) -> int:
    buffer.refill()
    return 1


def _rate(turn: Callable[[], int], slice_s: float) -> tuple[float, float]:
    """Blocks a second, and cores that this process took; what waited before is not counted."""
    for _ in range(6):
        turn()
    n, cpu_s, start_s = 0, time.process_time(), time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < slice_s:
        n += turn()
    return n / elapsed_s, (time.process_time() - cpu_s) / elapsed_s


def _age(report: Report, n_frames: int) -> Row:
    """How old the last sample of a block is when ``read`` returns it: the device keeps to the clock, and its samples
    tell which ticks they are."""
    import threading

    n_channels, n_samples, length = 4, 4096, 1 << 16
    device = {**_device(n_channels), "real_time": True, "sample_rate_hz": 1e6}
    server = IiodServer({"model": "iio", "loop_ticks": length, "device": device})
    thread = threading.Thread(target=server.run)
    thread.start()
    driver = Iio("radio", uri=server.uri, n_samples=n_samples)
    ages_s: list[float] = []
    try:
        driver.open()
        loop = server.feed.counts(0, length).transpose(1, 0, 2)
        keys = {loop[t : t + 2].tobytes(): t for t in range(length - 1)}
        while len(ages_s) < n_frames:
            for frame in _frames(driver):
                now_ns = time.time_ns()
                last = keys.get(frame["iq"][-2:].tobytes())
                if last is None:
                    continue  # the block ends where the loop begins anew
                now = server.feed.now_tick()
                tick = now - (now - last - 2) % length
                ages_s.append((now_ns - server.feed.utc_ns(tick)) / 1e9)
    finally:
        driver.close()
        server.end()
        thread.join()
        server.close()
    median, ci95 = median_ci95(ages_s)
    return report.add(f"{n_channels} channels, blocks of {n_samples} at 1 MS/s", "age of the last sample", 1e3 * median,
                      "ms", n=n_frames, ci95=None if ci95 is None else (1e3 * ci95[0], 1e3 * ci95[1]))  # fmt: skip
