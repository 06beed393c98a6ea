"""What the families share: a simulated device in a process of its own, contestants in turns, reading by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.drivers.meter import Meter, age_of
from benchmarks.report import Report, Row, median_ci95
from drivers.base import Driver
from drivers.embedded import EmbeddedDevice
from hil.frame import Frame

#: A device computes its loop before it is ready.
_START_S = 180.0
#: No read takes longer.
_READ_S = 5.0
#: What waited in a connection is read in this part of a turn, and not counted.
_WARM = 0.2
#: Before reading by the clock is counted, what has waited is read.
_SETTLE_S = 1.0


@contextmanager
def simulated(module: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A simulated device in a process of its own; its addresses.

    Raises:
        RuntimeError: It does not start.
    """
    server = EmbeddedDevice(module, params)
    try:
        addresses = server.addresses(_START_S)
        if addresses is None:
            raise RuntimeError(f"the simulated device did not start: {server.last_words()}")
        yield addresses
    finally:
        server.close()


def data_of(driver: Driver, timeout_s: float = _READ_S) -> list[Frame]:
    """The data frames of one read."""
    return [frame for _, frame in driver.read(timeout_s) or () if frame.header.kind == "data"]


class Turns(NamedTuple):
    """What one contestant did.

    Attributes:
        rates: Of each round, a second.
        cpu_share: Processor seconds of this process a second, median of the rounds.
    """

    rates: npt.NDArray[np.float64]
    cpu_share: float


def in_turns(contestants: Mapping[str, Callable[[], int]], rounds: int, slice_s: float) -> dict[str, Turns]:
    """Let each go on for ``slice_s`` in each round.

    Args:
        contestants: A call reads something and returns how much.
        rounds: How often.
        slice_s: How long a turn is.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, turn in contestants.items():
            taken[name].append(_turn(turn, slice_s))
    return {
        name: Turns(np.array([rate for rate, _ in pairs]), float(np.median([share for _, share in pairs])))
        for name, pairs in taken.items()
    }


def _turn(turn: Callable[[], int], slice_s: float) -> tuple[float, float]:
    end_s = time.perf_counter() + _WARM * slice_s
    turn()
    while time.perf_counter() < end_s:
        turn()
    n, cpu_s, start_s = 0, time.process_time(), time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < slice_s:
        n += turn()
    return n / elapsed_s, (time.process_time() - cpu_s) / elapsed_s


def turn_row(
    report: Report,
    case: str,
    taken: Mapping[str, Turns],
    name: str,
    unit: str,
    *,
    scale: float = 1.0,
    against: str | None = None,
    ratio_at_least: float | None = None,
) -> Row:
    """The row of one contestant: median rate, and the median of its ratios to ``against`` of the same rounds."""
    rates = taken[name].rates
    median, ci95 = median_ci95(rates * scale)
    ratio = None if against is None else float(np.median(rates / taken[against].rates))
    return report.add(
        case, name, median, unit, n=len(rates), ci95=ci95, against=against, ratio=ratio,
        ratio_at_least=ratio_at_least, cpu_share=taken[name].cpu_share,
    )  # fmt: skip


class ByClock(NamedTuple):
    """What was read of a device that keeps to the clock.

    Attributes:
        seconds: Between the first frame that was counted and the last.
        n_frames: That came then.
        n_samples: A channel, in them.
        lost_frames: What the device numbered and did not come.
        lost_samples: ...
        cpu_share: Processor seconds a second of this process.
        ages_s: Of each frame that tells: since its last sample was there.
    """

    seconds: float
    n_frames: int
    n_samples: int
    lost_frames: int
    lost_samples: int
    cpu_share: float
    ages_s: tuple[float, ...]

    @property
    def age_ms(self) -> float | None:
        """Median."""
        return float(np.median(self.ages_s)) * 1e3 if self.ages_s else None


def read_by_clock(
    driver: Driver,
    seconds: float,
    age: Callable[[Frame, int], float | None] = age_of,
    *,
    axis: str = "snapshot",
    children: Sequence[int] = (),
) -> ByClock:
    """Read for ``seconds`` once what has waited is read.

    Args:
        driver: Open.
        seconds: ...
        age: Seconds since the last sample of a frame was there at a UTC time.
        axis: What is counted.
        children: Processes of the driver.
    """
    end_s = time.perf_counter() + _SETTLE_S
    while time.perf_counter() < end_s:
        data_of(driver)
    n_frames = n_samples = lost_frames = lost_samples = 0
    ages_s: list[float] = []
    first_s = last_s = 0.0
    with Meter(children) as meter:
        start_s = time.perf_counter()
        while time.perf_counter() - start_s < seconds:
            for frame in data_of(driver):
                now_s, now_ns = time.perf_counter(), time.time_ns()
                if not first_s:
                    first_s = last_s = now_s
                    continue  # what comes after it is counted
                spec = frame.header.arrays[0]
                n_frames, n_samples = n_frames + 1, n_samples + spec.shape[spec.axes.index(axis)]
                lost_frames += frame.header.lost.frames
                lost_samples += frame.header.lost.samples
                age_s = age(frame, now_ns)
                if age_s is not None:
                    ages_s.append(age_s)
                last_s = now_s
    return ByClock(last_s - first_s, n_frames, n_samples, lost_frames, lost_samples, meter.cpu_share, tuple(ages_s))
