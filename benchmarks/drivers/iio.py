"""The IIO driver beside libiio used plainly: int16 frames to bare ``refill()``, complex64 to pyadi-iio's ``rx()``.

All read one simulated device that sends as fast as it is asked, in turns in each round, over connections that stay
open. Before, the driver's samples are compared with the device's. Rates are of complex samples over all channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.drivers.rig import Turns, data_of, in_turns, read_by_clock, simulated, turn_row
from benchmarks.report import Report, Row, median_ci95
from blocks.front_end.to_complex import to_complex
from drivers.iio import Iio
from hil.frame import Frame
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise

MODULE = "sim_device.servers.iiod"
#: Channels, and samples a channel in a block: 1 MiB, and 4 MiB where there are many.
CASES = ((4, 65536), (16, 16384), (256, 4096))
#: Blocks in the loop that the device repeats.
_LOOP_BLOCKS = 2
_FULL_SCALE = 32768.0
_AXES = ("snapshot", "sensor", "component")
#: By the clock: channels, samples a channel in a block and in the loop, rate.
_CLOCK_CHANNELS, _CLOCK_SAMPLES, _CLOCK_LOOP, _CLOCK_HZ = 4, 4096, 1 << 16, 1e6


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s, seconds = (5, 0.3, 1.0) if quick else (15, 0.5, 5.0)
    report = Report("drivers")
    for n_channels, n_samples in CASES:
        yield from _rates(report, n_channels, n_samples, rounds, slice_s)
    yield _by_clock(report, seconds)


def _device(n_channels: int) -> dict[str, Any]:
    source = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 20.0, 0.0]}, "power_db": -20.0}
    return {
        "array": {"kind": "ula", "n": n_channels},
        "sources": [source],
        "frequency_hz": 2.4e9,
        "sample_rate_hz": _CLOCK_HZ,
    }


def _loop(n_channels: int, n_ticks: int) -> npt.NDArray[np.int16]:
    """What the device repeats, ``[snapshot, sensor, component]``."""
    samples = XlArrayDevice("twin", **_device(n_channels), real_time=False).samples(0, n_ticks)
    return np.ascontiguousarray(quantise(samples).transpose(1, 0, 2))


def _rates(report: Report, n_channels: int, n_samples: int, rounds: int, slice_s: float) -> Iterator[Row]:
    params = {"model": "iio", "loop_ticks": _LOOP_BLOCKS * n_samples, "device": _device(n_channels)}
    with simulated(MODULE, params) as addresses:
        taken = _take_turns(addresses["uri"], n_channels, n_samples, rounds, slice_s)
    case = f"iio, {n_channels} channels, blocks of {n_samples}"
    for name, against, target in (
        ("refill()", None, None),
        ("int16 frames", "refill()", 0.8),
        ("rx()", None, None),
        ("complex64 frames", "rx()", 5.0),
    ):
        yield turn_row(report, case, taken, name, "MS/s", scale=n_samples * n_channels / 1e6, against=against,
                       ratio_at_least=target)  # fmt: skip


def _take_turns(uri: str, n_channels: int, n_samples: int, rounds: int, slice_s: float) -> dict[str, Turns]:
    """Let the four read. What libiio has open is let go of here, while the device is still there."""
    import adi
    import iio

    class Plain(adi.rx_tx.rx_def):  # type: ignore[misc]
        _complex_data, _device_name = True, ""
        _control_device_name, _rx_data_device_name = "hil-array-phy", "hil-array-adc"

    context = iio.Context(uri)
    adc = context.find_device("hil-array-adc")
    for channel in adc.channels:
        channel.enabled = True
    with ExitStack() as stack:
        buffer = iio.Buffer(adc, n_samples)
        stack.callback(_destroy, iio, buffer)
        plain = Plain(uri=uri)
        plain.rx_buffer_size = n_samples
        stack.callback(plain.rx_destroy_buffer)
        driver = Iio("radio", uri=uri, n_samples=n_samples)
        stack.callback(driver.close)
        driver.open()
        _check(driver, n_channels, n_samples)

        def refill() -> int:
            buffer.refill()
            return 1

        def rx() -> int:
            plain.rx()
            return 1

        def complex_frames() -> int:
            return sum(to_complex(frame["iq"], _AXES, _FULL_SCALE).shape[0] > 0 for frame in data_of(driver))

        contestants = {
            "refill()": refill,
            "int16 frames": lambda: len(data_of(driver)),
            "rx()": rx,
            "complex64 frames": complex_frames,
        }
        return in_turns(contestants, rounds, slice_s)


def _destroy(iio: Any, buffer: Any) -> None:
    """Let go of a buffer now: left to the garbage collector it would be asked of a device that has gone."""
    iio._buffer_destroy(buffer._buffer)
    buffer._buffer = None


def _check(driver: Iio, n_channels: int, n_samples: int) -> None:
    """The driver gives the samples of the device, block after block.

    Raises:
        AssertionError: It does not.
    """
    loop = _loop(n_channels, _LOOP_BLOCKS * n_samples).reshape(_LOOP_BLOCKS, n_samples, n_channels, 2)
    got: list[npt.NDArray[np.int16]] = []
    while len(got) < 2 * _LOOP_BLOCKS:
        got += [f["iq"] for f in data_of(driver)]
    first = next((k for k in range(_LOOP_BLOCKS) if np.array_equal(got[0], loop[k])), None)
    if first is None or any(not np.array_equal(g, loop[(first + k) % _LOOP_BLOCKS]) for k, g in enumerate(got)):
        raise AssertionError(f"{n_channels} channels: the driver's samples are not the device's")


def _by_clock(report: Report, seconds: float) -> Row:
    """How old the last sample of a block is when ``read`` returns it: the device keeps to the clock, and its samples
    tell which ticks they are."""
    loop = _loop(_CLOCK_CHANNELS, _CLOCK_LOOP)
    places = {loop[t : t + 2].tobytes(): t for t in range(_CLOCK_LOOP - 1)}
    device = {**_device(_CLOCK_CHANNELS), "real_time": True}
    params = {"model": "iio", "loop_ticks": _CLOCK_LOOP, "device": device}
    with simulated(MODULE, params) as addresses, ExitStack() as stack:
        with ControlClient(addresses["control"]) as control:
            began_ns = control.request("stats")["tick_0_utc_ns"]
        driver = Iio("radio", uri=addresses["uri"], n_samples=_CLOCK_SAMPLES)
        stack.callback(driver.close)
        driver.open()

        def age(frame: Frame, now_ns: int) -> float | None:
            last = places.get(frame["iq"][-2:].tobytes())
            now = (now_ns - began_ns) / 1e9 * _CLOCK_HZ
            return None if last is None else (now - last - 2) % _CLOCK_LOOP / _CLOCK_HZ

        read = read_by_clock(driver, seconds, age)
    _, ci95 = median_ci95([1e3 * age_s for age_s in read.ages_s])
    return report.add(
        f"iio, {_CLOCK_CHANNELS} channels, blocks of {_CLOCK_SAMPLES}, by the clock at {_CLOCK_HZ / 1e6:g} MS/s",
        "int16 frames: age of the last sample", read.age_ms or 0.0, "ms", n=read.n_frames, ci95=ci95,
        cpu_share=read.cpu_share,
    )  # fmt: skip
