"""Time of the boards: one tick count that all of them sample by, and what each board calls it.

All boards hang on the same sample clock (the tick of the sample function is the truth); a board's own time is that tick
plus an offset which a host sets, at once or at the next pulse a second. The pulses come with whole seconds of the
device's time where the time source is external; a board that is left to its internal source has pulses of its own,
so that boards nobody synchronised are as far apart as real ones.
"""

from __future__ import annotations

import threading
import time

from sim_device.servers.sample_feed import SampleFeed

_NS_PER_S = 1_000_000_000
#: From board to board, where each has a pulse of its own.
INTERNAL_PULSE_SKEW_NS = 137_000_000


class RadioClock:
    """Now, in ticks. It always goes on; where samples are read faster than time goes, it goes with them."""

    def __init__(self, feed: SampleFeed) -> None:
        self._feed = feed
        self._lock = threading.Lock()
        self._anchor_ns, self._anchor_tick, self._rate_hz = time.monotonic_ns(), 0, feed.sample_rate_hz

    def now(self) -> int:
        """The first tick that has not come yet."""
        if self._feed.real_time:
            return self._feed.now_tick()
        with self._lock:
            now_ns, rate_hz = time.monotonic_ns(), self._feed.sample_rate_hz
            tick = self._anchor_tick + int((now_ns - self._anchor_ns) * self._rate_hz / _NS_PER_S)
            if rate_hz != self._rate_hz or self._feed.head > tick:
                tick = max(tick, self._feed.head)
                self._anchor_ns, self._anchor_tick, self._rate_hz = now_ns, tick, rate_hz
            return tick

    def time_ns(self, tick: int) -> int:
        return self._feed.device.time_ns(tick)

    def tick_at(self, time_ns: int) -> int:
        """First tick at or after a device time, by the newest state of the device."""
        state = self._feed.device.state
        numerator, denominator = float(state.sample_rate_hz).as_integer_ratio()
        return state.tick - (-(time_ns - state.time_ns) * numerator) // (_NS_PER_S * denominator)


class Timekeeper:
    """What one board calls a tick.

    Args:
        clock: Of all boards.
        index: Of this one.
    """

    def __init__(self, clock: RadioClock, index: int) -> None:
        self._clock, self._index = clock, index
        self._lock = threading.Lock()
        self._offset = self._offset_before = 0
        self._changed_at: int | None = None  # from this tick on the offset holds, before it the one before
        self._at_pulse: tuple[int, int] | None = None  # number of a pulse to come, ticks that the board shall call it
        self.external = False

    def now(self) -> int:
        """Board time, ticks."""
        tick = self._clock.now()
        return tick + self.offset(tick)

    def offset(self, tick: int) -> int:
        """Board time less tick, at a tick of the present."""
        with self._lock:
            if self._at_pulse is not None:
                pulse, value = self._at_pulse
                edge = self._edge(pulse)
                if tick >= edge:
                    self._change(edge, value - edge)
            return self._offset if self._changed_at is None or tick >= self._changed_at else self._offset_before

    def at_last_pulse(self) -> int:
        """Board time that was latched at the last pulse, ticks."""
        tick = self._clock.now()
        offset = self.offset(tick)
        return self._edge(self._pulse(tick)) + offset

    def set(self, ticks: int, at_next_pulse: bool) -> None:
        """Let now, or the next pulse, be ``ticks``."""
        tick = self._clock.now()
        self.offset(tick)
        with self._lock:
            if at_next_pulse:
                self._at_pulse = (self._pulse(tick) + 1, ticks)
            else:
                self._change(tick, ticks - tick)

    def jump(self, tick: int, ticks: int) -> None:
        """Let the board's time jump by ``ticks`` at a tick."""
        with self._lock:
            self._change(tick, self._offset + ticks)

    def _change(self, tick: int, offset: int) -> None:
        self._changed_at, self._offset_before, self._offset = tick, self._offset, offset
        self._at_pulse = None

    def _skew_ns(self) -> int:
        return 0 if self.external else self._index * INTERNAL_PULSE_SKEW_NS

    def _pulse(self, tick: int) -> int:
        """Number of the last pulse at or before ``tick``."""
        pulse = (self._clock.time_ns(tick) - self._skew_ns()) // _NS_PER_S
        return pulse if self._edge(pulse) <= tick else pulse - 1

    def _edge(self, pulse: int) -> int:
        return self._clock.tick_at(pulse * _NS_PER_S + self._skew_ns())
