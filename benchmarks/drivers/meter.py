"""Processor time and age of frames while something is read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import psutil

from hil.frame import Frame

_NS_PER_S = 1e9


class Meter:
    """``with Meter() as meter: ...``: the processor time that the reading takes.

    Args:
        children: Processes whose time counts too, e.g. the one that a driver reads in. This one's always does.

    Attributes:
        seconds: How long it lasted.
        cpu_share: Processor seconds a second.
    """

    def __init__(self, children: Sequence[int] = ()) -> None:
        self._processes = [psutil.Process(pid) for pid in (os.getpid(), *children)]
        self.seconds = self.cpu_share = 0.0

    def __enter__(self) -> Meter:
        self._cpu_s, self._start_s = self._cpu(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start_s
        self.cpu_share = (self._cpu() - self._cpu_s) / self.seconds

    def _cpu(self) -> float:
        return sum(t.user + t.system for t in (p.cpu_times() for p in self._processes))


def age_of(frame: Frame, now_ns: int) -> float | None:
    """Seconds since the last sample of ``frame`` was there; ``None`` where its time does not count from an epoch.

    From the time of its first sample and how long it lasts, where that is UTC or the host's clock; else since the host
    received it.
    """
    header = frame.header
    if header.kind != "data":
        return None
    if header.time_ns is not None and header.timebase in ("utc", "host"):
        sizes = dict(zip(header.arrays[0].axes, header.arrays[0].shape, strict=True))
        rate_hz = header.sample_rate_hz
        lasts_s = sizes.get("snapshot", 0) / rate_hz if rate_hz else 0.0
        return (now_ns - header.time_ns) / _NS_PER_S - lasts_s
    return None if header.host_time_ns is None else (now_ns - header.host_time_ns) / _NS_PER_S
