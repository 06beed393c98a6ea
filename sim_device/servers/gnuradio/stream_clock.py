"""Which sample of the device an item of a GNU Radio stream is, and what tags stand where.

Items are counted without gaps. Where the hardware lost samples the count of items goes on, and a tag with a new time
tells of it, as a radio's source block does.
"""

from __future__ import annotations

from typing import NamedTuple

from hil.formats.gr_zeromq import Tag
from hil.formats.pmt import Uint64
from sim_device.servers.sample_feed import SampleFeed

_NS_PER_S = 1_000_000_000
#: Places that are remembered; items before the oldest are of its stretch.
_MAX_STRETCHES = 1024


class Stretch(NamedTuple):
    """Items whose samples follow one another, under one frequency and rate.

    Attributes:
        item: The first.
        skipped: Samples that the device took and the stream did not get, before it.
        frequency_hz: Centre frequency.
        sample_rate_hz: ...
    """

    item: int
    skipped: int
    frequency_hz: float
    sample_rate_hz: float


class StreamClock:
    """Items to samples.

    Args:
        feed: The device.
        origin: Its tick of item 0.
        tag_every_s: Tags are repeated so often, device time; 0: never.
    """

    def __init__(self, feed: SampleFeed, origin: int, tag_every_s: float) -> None:
        self._feed, self._every_s = feed, tag_every_s
        self._stretches = [Stretch(0, origin, feed.frequency_hz, feed.sample_rate_hz)]
        self._jump_ns = feed.utc_ns(0)

    @property
    def newest(self) -> Stretch:
        return self._stretches[-1]

    def tick(self, item: int) -> int:
        """The device's tick of an item."""
        return item + self._at(item).skipped

    def skip(self, item: int, n: int) -> None:
        """Let the hardware lose ``n`` samples before ``item``, which nobody has read."""
        self._begin(item, self.newest.skipped + n)

    def follow(self, item: int) -> None:
        """Take over what commands have changed, from the item of that tick on, or from ``item`` where it is past."""
        state = self._feed.device.state
        newest = self.newest
        if (state.frequency_hz, state.sample_rate_hz) != (newest.frequency_hz, newest.sample_rate_hz):
            self._begin(max(item, state.tick - newest.skipped), newest.skipped)
        if (now_ns := self._feed.utc_ns(0)) != self._jump_ns:  # the clock jumped
            self._jump_ns = now_ns
            self._begin(item, newest.skipped)

    def length(self, item: int, n: int) -> int:
        """How many of ``n`` items from ``item`` on are of one stretch."""
        ends = [s.item for s in self._stretches if s.item > item]
        return min(n, min(ends, default=item + n) - item)

    def tags(self, item: int, n: int) -> list[Tag]:
        """Tags of items ``item .. item + n - 1``: at the first of each stretch, and now and then."""
        at = {s.item for s in self._stretches if item <= s.item < item + n}
        period = round(self._every_s * self._at(item).sample_rate_hz)
        if period:
            at |= set(range(-(-item // period) * period, item + n, period))
        return [tag for place in sorted(at) for tag in self._tags_at(place)]

    def values(self, item: int) -> dict[str, object]:
        """Time, frequency and rate at an item, by the keys that GNU Radio has for them."""
        stretch, ns = self._at(item), self._feed.utc_ns(self.tick(item))
        return {
            "rx_time": (Uint64(ns // _NS_PER_S), ns % _NS_PER_S / _NS_PER_S),
            "rx_rate": float(stretch.sample_rate_hz),
            "rx_freq": float(stretch.frequency_hz),
        }

    def _tags_at(self, item: int) -> list[Tag]:
        return [Tag(item, key, value, "sim_device") for key, value in self.values(item).items()]

    def _begin(self, item: int, skipped: int) -> None:
        state = self._feed.device.state
        stretch = Stretch(item, skipped, state.frequency_hz, state.sample_rate_hz)
        self._stretches = [*(s for s in self._stretches if s.item < item), stretch][-_MAX_STRETCHES:]

    def _at(self, item: int) -> Stretch:
        return next((s for s in reversed(self._stretches) if s.item <= item), self._stretches[0])
