"""On which sample of the array each sample of a device falls, and what devices said of their samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from hil.errors import DriverError
from hil.frame import Header, Timebase

Align = Literal["tick", "time", "start"]
_NS_PER_S = 1_000_000_000


class Turn(NamedTuple):
    """A new epoch.

    Attributes:
        item: The first sample of it.
        meta: Of its event.
    """

    item: int
    meta: Mapping[str, Any]


class FrameTold(NamedTuple):
    """What devices said of the samples of one frame.

    Attributes:
        time_ns: Of its first sample, by the clock of the first device.
        timebase: Of that.
        meta: Noise source, usability, gains.
        clipped: Samples at a converter's limit, all devices, since the last frame.
        is_loss: What is missing before it was lost; otherwise the devices took no samples there.
    """

    time_ns: int | None
    timebase: Timebase | None
    meta: dict[str, Any]
    clipped: int
    is_loss: bool


class _Stretch(NamedTuple):
    first: int
    last: int
    header: Header


class _Device:
    """What is known of one device."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.offset: int | None = None
        self.head = 0
        self.next_tick: int | None = None
        self.away = False
        self.events: list[dict[str, Any]] = []
        self.stretches: deque[_Stretch] = deque()
        self.frequency_hz: float | None = None


class DeviceTimeline:
    """Counts the samples of all devices on one line.

    ``tick``: a device's own count is that of the array. ``time``: devices whose clocks agree; the array's count is that
    of the first device. ``start``: what came first of each device is sample 0 of the array; after
    a reconnection a device goes on where the others are.

    Args:
        names: Of the devices.
        align: How.
    """

    def __init__(self, names: list[str], align: Align) -> None:
        self._names, self._align = names, align
        self._devices = [_Device() for _ in names]
        self._first: Header | None = None
        self._turns: list[Turn] = []
        self._losses: list[int] = []
        self._clipped = 0

    def begin(self, first: Header) -> None:
        """The first frame of the first device: where clocks are compared, its count is that of the array."""
        self._first = first

    @property
    def away_from(self) -> int | None:
        """Where the samples of a device end that is lost, and has not given any again."""
        return min((d.head for d in self._devices if d.away), default=None)

    @property
    def common_frequency_hz(self) -> float | None:
        """What all devices are tuned to, if it is the same."""
        tuned = {d.frequency_hz for d in self._devices}
        return tuned.pop() if len(tuned) == 1 else None

    @property
    def next_turn(self) -> Turn | None:
        """The next epoch that began with some device."""
        return self._turns[0] if self._turns else None

    def turned(self) -> None:
        """That epoch has begun for the array."""
        self._turns.pop(0)

    def discard(self, item: int) -> None:
        """Samples of a device before ``item`` are let go, as another has none."""
        self._losses.append(item)

    def event(self, index: int, header: Header, meta: dict[str, Any]) -> dict[str, Any] | None:
        """An event of a device; return what is told of it at once."""
        device = self._devices[index]
        if meta["event"] == "disconnected":
            device.away = True
            return meta
        if meta["event"] == "gap":
            return None  # the array's own gap tells of it
        if device.epoch is not None and header.epoch != device.epoch:
            device.events.append(meta)
            return None
        if "samples" in meta and meta["samples"] is None:
            # it is not known how far its samples have moved against those of the others
            device.events.append({**meta, "aligned": False})
            device.offset = device.offset if self._align == "tick" else None
        return meta

    def item_of(self, index: int, header: Header, n: int) -> int:
        """Where the first of ``n`` samples of a device falls.

        Raises:
            DriverError: The device has no count, or no time, as ``align`` needs; its arguments are what, why and fix.
        """
        device, name = self._devices[index], self._names[index]
        tick = device.next_tick if header.sample_start is None else header.sample_start
        if tick is None:
            tick = 0
        back = device.next_tick is not None and tick < device.next_tick
        if device.offset is None or back:
            device.offset = self._offset(index, name, header, tick)
        item = tick + device.offset
        if device.epoch is not None and (header.epoch != device.epoch or device.away or device.events):
            meta = device.events[-1] if device.events else {"event": "epoch", "device": name}
            self._turns.append(Turn(item, meta))
            self._turns.sort(key=lambda t: t.item)
            device.events = []
        if header.lost.samples or header.lost.frames:
            self._losses.append(item)
        self._clipped += header.lost.clipped
        device.epoch, device.away, device.frequency_hz = header.epoch, False, header.frequency_hz
        device.next_tick, device.head = tick + n, item + n
        device.stretches.append(_Stretch(item, item + n, header))
        return item

    def frame(self, item: int, n: int) -> FrameTold:
        """What was said of samples ``item .. item + n - 1``. Frames are asked for in order."""
        headers: list[Header] = []
        gains: list[float] = []
        time_ns: int | None = None
        timebase: Timebase | None = None
        for index, device in enumerate(self._devices):
            while device.stretches and device.stretches[0].last <= item:
                device.stretches.popleft()
            own = [s for s in device.stretches if s.first < item + n]
            headers += [s.header for s in own]
            if own and index == 0:
                time_ns, timebase = _time_at(own[0], item), own[0].header.timebase
            gain = own[-1].header.meta.get("gain_db") if own else None
            gains += list(gain) if isinstance(gain, list | tuple) else [] if gain is None else [float(gain)]
        meta: dict[str, Any] = {}
        if any("noise_source" in h.meta for h in headers):
            meta["noise_source"] = any(bool(h.meta.get("noise_source")) for h in headers)
        if any("usable" in h.meta for h in headers):
            meta["usable"] = all(bool(h.meta.get("usable", True)) for h in headers)
            why = next((h.meta["why"] for h in headers if h.meta.get("why")), None)
            meta.update({} if why is None else {"why": why})
        if gains:
            meta["gain_db"] = gains
        is_loss = any(behind <= item for behind in self._losses)
        self._losses = [behind for behind in self._losses if behind > item]
        told = FrameTold(time_ns, timebase, meta, self._clipped, is_loss)
        self._clipped = 0
        return told

    def _offset(self, index: int, name: str, header: Header, tick: int) -> int:
        if self._align == "start":
            # a device that comes (back) later goes on where the others are
            heads = [d.head for i, d in enumerate(self._devices) if i != index and d.epoch is not None]
            came_before = self._devices[index].epoch is not None
            return (max(heads, default=0) if came_before else 0) - tick
        if header.timebase in (None, "host"):
            raise DriverError(
                f"device {name!r} cannot be aligned by {self._align}",
                "it has no clock and no count of its own, the host stamps what comes",
                "use align=start and an alignment block behind it (FollowCalibration with max_delay_samples)",
            )
        if self._align == "tick":
            return 0
        times = [header.time_ns, None if self._first is None else self._first.time_ns]
        if None in times or header.time_ns is None or header.sample_rate_hz is None:
            raise DriverError(
                f"device {name!r} cannot be aligned by time",
                "its frames have no time, or no sample rate",
                "use align=tick or align=start",
            )
        first = self._first
        assert first is not None and first.time_ns is not None, "begin() comes first"
        later = (header.time_ns - first.time_ns) * Fraction(header.sample_rate_hz) / _NS_PER_S
        return round(later) + (first.sample_start or 0) - tick


def _time_at(stretch: _Stretch, item: int) -> int | None:
    header = stretch.header
    if header.time_ns is None or header.sample_rate_hz is None:
        return None
    return header.time_ns + round((item - stretch.first) * _NS_PER_S / header.sample_rate_hz)
