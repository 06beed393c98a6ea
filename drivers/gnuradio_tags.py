"""Tags of a stream of GNU Radio as time, frequency and rate of the items behind them, and what a change of them means.

A radio's source block puts ``rx_time``, ``rx_rate`` and ``rx_freq`` at its first item and wherever something changed.
A time that is later than the count of items says is how it tells of samples that the hardware lost (the count of items
goes on); one that is earlier is a clock that was set back.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from drivers.ledger import Ledger
from hil.formats.gr_zeromq import Tag
from hil.frame import Frame

_NS_PER_S = 1_000_000_000
#: A longer gap in the time is a clock that was set, no loss.
MAX_LOSS_S = 3600.0
#: Tags that wait for their items.
MAX_WAITING = 65_536


class _Waiting(NamedTuple):
    item: int
    order: int
    key: str
    value: Any


class TagClock:
    """Time of items, and the changes that tags tell of.

    Attributes:
        lost: Samples so far that the hardware took and the stream does not have.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._at: tuple[int, int] | None = None
        self._waiting: list[_Waiting] = []
        self._n = 0

    def put(self, tags: tuple[Tag, ...]) -> None:
        """Keep what tags say until their item comes."""
        for tag in tags:
            if tag.key in _READ and len(self._waiting) < MAX_WAITING:
                heapq.heappush(self._waiting, _Waiting(tag.offset, self._n, tag.key, tag.value))
                self._n += 1

    @property
    def next_item(self) -> int | None:
        """The item before which the next tag stands."""
        return self._waiting[0].item if self._waiting else None

    def time_ns(self, item: int, sample_rate_hz: float | None) -> int | None:
        """Time of an item, where tags have told."""
        if self._at is None or not sample_rate_hz:
            return None
        first, time_ns = self._at
        return time_ns + _ns(item - first, sample_rate_hz)

    def apply(self, item: int, ledger: Ledger, before: Callable[[], list[Frame]]) -> list[Frame]:
        """Let all tags up to ``item`` hold.

        Args:
            item: The next that is given.
            ledger: Gets rate, frequency and epochs.
            before: Called where something changes: gives the frames of the items before.

        Returns:
            These frames, and the events.
        """
        told: dict[str, Any] = {}
        at = item
        while self._waiting and self._waiting[0].item <= item:
            waiting = heapq.heappop(self._waiting)
            value = _READ[waiting.key](waiting.value)
            if value is None:
                return [ledger.event("bad_tag", key=waiting.key, value=str(waiting.value)[:80])]
            told[waiting.key], at = value, waiting.item
        before_hz, rate_hz = ledger.sample_rate_hz, told.get("rx_rate", ledger.sample_rate_hz)
        frequency_hz = told.get("rx_freq", ledger.frequency_hz)
        expected_ns = self.time_ns(at, before_hz)
        time_ns = told.get("rx_time", expected_ns)
        off_s = 0.0 if time_ns is None or expected_ns is None else (time_ns - expected_ns) / _NS_PER_S
        n_off = round(off_s * (before_hz or 0.0))
        changed = rate_hz != before_hz or frequency_hz != ledger.frequency_hz or n_off
        out = before() if changed else []
        if time_ns is not None:
            self._at = at, time_ns
        if n_off and 0 < off_s < MAX_LOSS_S:
            self.lost += n_off
            out.append(ledger.event("overflow", samples=n_off))
        elif n_off:
            out.append(ledger.event("clock_jump", seconds=off_s))
        known_hz, ledger.sample_rate_hz = ledger.sample_rate_hz, rate_hz
        if known_hz not in (None, rate_hz):
            out += ledger.new_epoch("sample_rate", ticks_go_on=True, sample_rate_hz=rate_hz)
        known_hz, ledger.frequency_hz = ledger.frequency_hz, frequency_hz
        if known_hz not in (None, frequency_hz):
            out += ledger.new_epoch("retune", ticks_go_on=True, frequency_hz=frequency_hz)
        return out


def _ns(n_samples: int, sample_rate_hz: float) -> int:
    numerator, denominator = sample_rate_hz.as_integer_ratio()
    return n_samples * _NS_PER_S * denominator // numerator


def read_time(value: Any) -> int | None:
    """Nanoseconds of ``rx_time``: a tuple of whole seconds and the fraction."""
    if not isinstance(value, tuple) or len(value) < 2:
        return None
    seconds, fraction = value[0], value[1]
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 1 << 33:
        return None
    if not isinstance(fraction, float) or not 0 <= fraction < 1:
        return None
    return seconds * _NS_PER_S + round(fraction * _NS_PER_S)


def read_hz(value: Any) -> float | None:
    """A frequency or rate above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return float(value)


_READ = {"rx_time": read_time, "rx_freq": read_hz, "rx_rate": read_hz}
