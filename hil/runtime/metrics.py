"""Counters and latency histograms, cheap enough to be kept for every block and edge of every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SUB_BITS = 4  # 16 buckets an octave: a quantile is within 3 % of the value


class Histogram:
    """Durations in nanoseconds by logarithmic buckets; mergeable, of bounded size."""

    __slots__ = ("buckets", "count", "maximum", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.maximum = 0

    def add(self, duration_ns: int) -> None:
        value = duration_ns if duration_ns > 0 else 0
        shift = value.bit_length() - _SUB_BITS - 1
        bucket = value if shift <= 0 else (shift << _SUB_BITS) + (value >> shift)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += value
        if value > self.maximum:
            self.maximum = value

    def quantile_ns(self, q: float) -> float | None:
        """The ``q`` quantile, or ``None`` where nothing was counted."""
        if not self.count:
            return None
        rank = q * (self.count - 1)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                return min(_middle(bucket), float(self.maximum))
        return float(self.maximum)

    def merge(self, other: Histogram) -> None:
        for bucket, n in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + n
        self.count += other.count
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def summary(self) -> dict[str, Any]:
        """Milliseconds, for people and JSON."""
        if not self.count:
            return {"n": 0}
        p50, p99 = self.quantile_ns(0.5), self.quantile_ns(0.99)
        assert p50 is not None and p99 is not None
        return {
            "n": self.count,
            "p50_ms": p50 / 1e6,
            "p99_ms": p99 / 1e6,
            "max_ms": self.maximum / 1e6,
            "mean_ms": self.total / self.count / 1e6,
        }

    def to_plain(self) -> dict[str, Any]:
        return {"b": list(self.buckets.items()), "n": self.count, "t": self.total, "m": self.maximum}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Histogram:
        histogram = cls()
        histogram.buckets = {int(k): int(n) for k, n in plain["b"]}
        histogram.count, histogram.total, histogram.maximum = plain["n"], plain["t"], plain["m"]
        return histogram


def _middle(bucket: int) -> float:
    shift = (bucket >> _SUB_BITS) - 1
    if shift <= 0:
        return float(bucket)
    mantissa = (bucket & ((1 << _SUB_BITS) - 1)) + (1 << _SUB_BITS)
    return float((mantissa << shift) + (1 << shift) / 2)


class NodeMetrics:
    """What one block or source has done.

    Attributes:
        service: Time of ``process`` a frame, blocks that follow inline not included.
        age: How old a frame was, since this host received it from the device, when it was emitted here.
    """

    __slots__ = ("age", "bytes_in", "frames_in", "frames_out", "service", "skipped")

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.bytes_in = 0
        self.skipped = 0
        self.service = Histogram()
        self.age = Histogram()

    def to_plain(self) -> dict[str, Any]:
        return {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "bytes_in": self.bytes_in,
            "skipped": self.skipped,
            "service": self.service.to_plain(),
            "age": self.age.to_plain(),
        }


class EdgeMetrics:
    """What went through one edge."""

    __slots__ = ("bytes", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0


def merged(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total
