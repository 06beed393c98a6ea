"""Several devices as one array: two FMComms5, four USRPs, two KrakenSDRs."""

from __future__ import annotations

import importlib
import threading
import time
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from drivers.base import Capabilities, Driver
from drivers.device_member import DeviceMember
from drivers.device_timeline import DeviceTimeline, Turn
from drivers.ledger import Ledger
from drivers.sample_joiner import Joined, Piece, SampleJoiner
from hil.array_params import Array, build_array
from hil.errors import ControlError, DriverError, DriverTimeout
from hil.frame import AnyArray, Frame
from hil.params import Count, Hz, Index, Params, Seconds
from hil.port import Port
from hil.runtime.control import call_verb, node_verbs
from hil.source import Reading

#: Axes of samples that can be put together, by name.
_AXES = (("sensor", "snapshot"), ("component", "sensor", "snapshot"))
#: How long a command may take in the device's thread.
_COMMAND_S = 10.0
#: How long threads may take to end.
_JOIN_S = 5.0


class Device(Params, frozen=True):
    """One device of the array. Its channels come after those of the devices before it."""

    driver: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$", description="MODULE:CLASS, e.g. drivers.iio:Iio")]
    params: Annotated[dict[str, Any], Meta(description="of the driver")] = {}
    name: Annotated[str | None, Meta(description="in events and errors; absent: its number")] = None


class DeviceArrayParams(Params, frozen=True):
    devices: Annotated[tuple[Device, ...], Meta(min_length=2, max_length=64)]
    align: Annotated[
        Literal["tick", "time", "start"],
        Meta(
            description="tick: devices count samples together; time: their clocks agree; start: neither, samples are "
            "put together as they come and an alignment block finds the delays"
        ),
    ] = "tick"
    array: Annotated[
        Array | None, Meta(description="channel_map: element of each channel, devices in order; absent: a line")
    ] = None
    n_samples: Annotated[Count, Meta(le=1 << 24, description="samples a channel in a frame")] = 4096
    open_timeout_s: Annotated[Seconds, Meta(le=600, description="for all devices")] = 60.0
    wait_s: Annotated[Seconds, Meta(le=600, description="of samples of one device that wait for the others")] = 1.0
    when_lost: Annotated[
        Literal["wait", "fail"],
        Meta(description="a device that is lost: no frames until it is back, or end the run"),
    ] = "wait"


class DeviceArray(Driver):
    """Frames with the channels of all devices, of samples that all of them have.

    Each device is read by its own driver in a thread of its own. Reading begins when all are open; the first frame
    begins with the first sample that all have. What only some have is lost for the array, and counted. A new epoch of
    any device is one of the array. While a device is lost there are no frames (an array without some of its elements is
    another array): the event ``disconnected`` names it, the others are read on and what they give is counted as lost;
    with its return a new epoch begins.

    Frames are ``[sensor, snapshot, component]`` as the devices give them, or complex64 ``[sensor, snapshot]``.
    """

    params: DeviceArrayParams
    outputs = {"iq": Port.any()}
    verbs = ("tune", "set_gain", "ask_device")

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._members: list[DeviceMember] = []
        self._go, self._woken = threading.Event(), threading.Event()
        self._ledger: Ledger | None = None
        self._resumed: int | None = None
        self._joiner: SampleJoiner | None = None
        self._timeline: DeviceTimeline | None = None
        self._waiting: list[tuple[str, Frame]] = []
        self._held: list[Frame | None] = []
        self._form: tuple[Any, ...] | None = None
        self._counts: list[int] = []
        self._item = np.dtype(np.complex64)
        self._raw: dict[int, dict[str, Any]] = {}

    def capabilities(self) -> Capabilities:
        each = [m.driver.capabilities() for m in self._members]
        if not each:
            return Capabilities()
        channels = [c.channels for c in each]
        return Capabilities(
            channels=sum(c for c in channels if c is not None) if None not in channels else None,
            tune_hz=_common([c.tune_hz for c in each]),
            gain_db=_common([c.gain_db for c in each]),
            sample_rate_hz=None,
            timebase=each[0].timebase,
            sync=self.params.align != "start" and all(c.sync for c in each),
        )

    # -- Source ----------------------------------------------------------------------------------------------------

    def resume(self, seq: int) -> None:
        self._resumed = seq

    def open(self) -> None:
        end = time.monotonic() + self.params.open_timeout_s
        names = [d.name or str(i) for i, d in enumerate(self.params.devices)]
        if len(set(names)) < len(names):
            raise self.failure("devices need names of their own", f"got {', '.join(names)}", "correct `devices`")
        for name, device in zip(names, self.params.devices, strict=True):
            self._members.append(
                DeviceMember(lambda d=device, n=name: self._make(d, n), name, self._go, self._woken)  # type: ignore[misc]
            )
        for member in self._members:
            if not member.opened.wait(max(0.0, end - time.monotonic())):
                raise self.failure(
                    f"device {member.name!r} is not open after {self.params.open_timeout_s:g} s",
                    "its driver still tries",
                    "see to the device, or raise open_timeout_s",
                    DriverTimeout,
                )
            self._raise_failure(member)
        self._timeline = DeviceTimeline(names, self.params.align)
        self._held = [None] * len(names)
        self._go.set()

    def read(self, timeout_s: float) -> Reading:
        end = time.monotonic() + timeout_s
        while True:
            self._woken.clear()
            out = self._collect()
            left_s = end - time.monotonic()
            if out or left_s <= 0:
                return out
            if self._ended:
                return self._at_end()
            self._woken.wait(left_s)

    def close(self) -> None:
        for member in self._members:
            member.stop()
        hung = [m.name for m in self._members if not m.join(_JOIN_S)]
        self._members = []
        if hung:
            raise self.failure(f"device {hung[0]!r} hangs", f"it did not end in {_JOIN_S:g} s", "restart the process")

    def stats(self) -> dict[str, Any]:
        told = {} if self._ledger is None else self._ledger.stats()
        return {**told, "devices": {m.name: m.driver.stats() for m in self._members}}

    # -- verbs -----------------------------------------------------------------------------------------------------

    def tune(self, frequency_hz: Hz) -> list[Any]:
        """Set the centre frequency of all devices, one after the other. Return what each answers."""
        return [self.ask_device(i, "tune", {"frequency_hz": frequency_hz}) for i in range(len(self._members))]

    def set_gain(self, gain_db: float) -> list[Any]:
        """Set the gain of all devices, one after the other. Return what each answers."""
        return [self.ask_device(i, "set_gain", {"gain_db": gain_db}) for i in range(len(self._members))]

    def ask_device(self, device: Index, verb: str, args: dict[str, Any]) -> Any:
        """Call a verb of one device's driver."""
        if device >= len(self._members):
            raise ControlError(f"{self.name}: ask_device: device {device}, there are {len(self._members)}")
        member = self._members[device]
        return member.call(lambda: call_verb(member.driver, node_verbs(member.driver), verb, args), _COMMAND_S)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _make(self, device: Device, name: str) -> Driver:
        module_name, _, class_name = device.driver.partition(":")
        try:
            made = getattr(importlib.import_module(module_name), class_name)(f"{self.name}/{name}", **device.params)
        except (ImportError, AttributeError) as error:
            raise self.failure(
                f"device {name!r}: there is no driver {device.driver}", str(error), "correct `driver`: MODULE:CLASS"
            ) from error
        if not isinstance(made, Driver):
            raise self.failure(
                f"device {name!r}: {device.driver} is no driver", f"it is a {type(made).__name__}", "correct `driver`"
            )
        return made

    def _raise_failure(self, member: DeviceMember) -> None:
        if member.failure is not None:
            if isinstance(member.failure, DriverError):
                raise member.failure
            raise self.failure(
                f"device {member.name!r} failed",
                f"{type(member.failure).__name__}: {member.failure}",
                "see the traceback above",
            ) from member.failure

    def _collect(self) -> list[tuple[str, Frame]]:
        """What has come of all devices, put together as far as all of them have it."""
        out: list[Frame] = []
        for index, member in enumerate(self._members):
            while (frame := self._next_of(index, member)) is not None:
                out += self._taken(index, frame)
            self._raise_failure(member)
        if self._joiner is not None:
            out += self._frames()
        return [("iq", frame) for frame in out]

    def _next_of(self, index: int, member: DeviceMember) -> Frame | None:
        """The next frame of a device that is not too far ahead of the others."""
        frame, self._held[index] = self._held[index] or member.take(), None
        if frame is None:
            return None
        assert self._timeline is not None
        joiner, rate = self._joiner, frame.header.sample_rate_hz
        ahead = 0 if joiner is None else joiner.n_waiting(index)
        most = max(2 * self.params.n_samples, round(self.params.wait_s * (rate or 0.0)))
        if frame.header.kind == "data" and ahead > most and self._timeline.away_from is None:
            self._held[index] = frame
            return None
        if frame.header.kind == "data" and self._joiner is None and not self._learn(index, frame):
            self._held[index] = frame  # the others have to say first how many channels they have
            return None
        return frame

    def _learn(self, index: int, frame: Frame) -> bool:
        """Note the form of a device's samples; true once that of all is known, and a frame can be put together."""
        if self._form is None and index:
            return False
        spec = frame.header.arrays[0]
        form = (spec.dtype, tuple(sorted(spec.axes)), frame.header.sample_rate_hz)
        if spec.dtype not in ("complex64", "int16", "uint8", "int8") or form[1] not in _AXES:
            raise self.failure(
                f"device {self._members[index].name!r} gives samples that cannot be put together",
                f"{_form_words(form)}",
                "use a driver that gives complex64 or raw samples of up to 16 bits",
            )
        self._form = self._form or form
        if form != self._form:
            raise self.failure(
                f"device {self._members[index].name!r} gives other samples than {self._members[0].name!r}",
                f"{_form_words(form)}, not {_form_words(self._form)}",
                "set all devices to the same rate and kind",
            )
        if len(self._counts) <= index:
            if len(self._counts) < index:
                return False
            self._counts.append(spec.shape[spec.axes.index("sensor")])
        if len(self._counts) < len(self._members):
            return False
        first = self._held[0]
        assert first is not None, "the first device's frame is held until all are known"
        self._begin(first)
        return True

    def _begin(self, frame: Frame) -> None:
        assert self._timeline is not None
        n = sum(self._counts)
        array = build_array(self.params.array, n, frame.header.frequency_hz)
        if len(array.channel_map) != n:
            raise self.failure(
                "the array does not fit the devices",
                f"{len(array.channel_map)} channels are declared, the devices give {self._counts}",
                "correct `array` (its channel_map), or choose the channels to read",
            )
        for index in self._raw:
            self._check_raw(index)
        self._timeline.begin(frame.header)
        first = np.cumsum([0, *self._counts])
        devices = [
            {"name": m.name, "driver": type(m.driver).__name__, "channels": list(range(int(a), int(b)))}
            for m, a, b in zip(self._members, first, first[1:], strict=False)
        ]
        extra = {"devices": devices, **({"raw": self._raw[0]} if self._raw.get(0) else {})}
        self._ledger = Ledger(f"{self.name}.iq", array, extra)
        if self._resumed is not None:
            self._ledger.resume(self._resumed)
        self._ledger.sample_rate_hz = frame.header.sample_rate_hz
        self._ledger.frequency_hz = frame.header.frequency_hz
        spec = frame.header.arrays[0]
        # the two components of a sample travel as one item
        self._item = np.dtype(np.complex64 if spec.dtype == "complex64" else f"u{2 * np.dtype(spec.dtype).itemsize}")
        self._joiner = SampleJoiner(len(self._members), self._counts, self.params.n_samples, self._item)

    def _taken(self, index: int, frame: Frame) -> list[Frame]:
        """Take a frame of a device: samples wait for those of the others, events are told."""
        timeline, header = self._timeline, frame.header
        assert timeline is not None
        name = self._members[index].name
        if header.kind == "descriptor":
            self._raw[index] = dict(header.meta.get("raw", {}))
            if self._joiner is not None:
                self._check_raw(index)
            return []
        if header.kind == "event":
            return self._event(index, name, frame)
        if header.kind != "data" or self._joiner is None:
            return []
        spec = header.arrays[0]
        n = spec.shape[spec.axes.index("snapshot")]
        try:
            item = timeline.item_of(index, header, n)
        except DriverError as error:
            raise self.failure(*error.args) from error
        samples = _items(frame[spec.name], spec.axes, self._item)
        if (end := timeline.away_from) is not None and item + n > end:
            timeline.discard(item + n)
            samples = samples[:, : max(0, end - item)]
        self._joiner.put(index, Piece(item, samples))
        return []

    def _check_raw(self, index: int) -> None:
        first, raw = self._raw.get(0, {}), self._raw[index]
        if raw != first:
            raise self.failure(
                f"device {self._members[index].name!r} has another full scale than {self._members[0].name!r}",
                f"{raw or 'none'}, not {first or 'none'}",
                "use devices of one kind",
            )

    def _event(self, index: int, name: str, frame: Frame) -> list[Frame]:
        timeline, header = self._timeline, frame.header
        assert timeline is not None
        meta = {**header.meta, "device": name}
        told = timeline.event(index, header, meta)
        if meta["event"] == "disconnected" and self.params.when_lost == "fail":
            raise self.failure(f"device {name!r} is lost", str(meta.get("why", "")), "see to the device")
        if told is None or self._ledger is None:
            return []
        return [self._ledger.event(**told)]

    def _frames(self) -> list[Frame]:
        """Frames that are whole, up to where an epoch of some device begins, then that epoch."""
        joiner, timeline = self._joiner, self._timeline
        assert joiner is not None and timeline is not None
        out: list[Frame] = []
        while True:
            turn = timeline.next_turn
            joined = joiner.take(None if turn is None else turn.item)
            if joined is None and turn is not None and (joiner.next_item is not None and joiner.next_item >= turn.item):
                rest = joiner.flush()
                if rest is not None:
                    out += self._frame(rest)
                out += self._turned(turn)
                timeline.turned()
                continue
            if joined is None:
                return out
            out += self._frame(joined)

    def _turned(self, turn: Turn) -> list[Frame]:
        ledger, timeline = self._ledger, self._timeline
        assert ledger is not None and timeline is not None
        ledger.frequency_hz = timeline.common_frequency_hz
        meta = dict(turn.meta)
        return ledger.new_epoch(meta.pop("event"), ticks_go_on=True, **meta)

    def _frame(self, joined: Joined) -> list[Frame]:
        ledger, timeline = self._ledger, self._timeline
        assert ledger is not None and timeline is not None
        n = joined.samples.shape[1]
        told = timeline.frame(joined.item, n)
        if not told.is_loss:
            ledger.next_tick = joined.item  # a device that gives samples now and then has lost none between
        if joined.samples.dtype == np.complex64:
            iq: tuple[AnyArray, str, str] = (joined.samples, "sensor snapshot", "FS")
        else:
            assert self._form is not None
            parts = joined.samples.view(self._form[0]).reshape(len(joined.samples), n, 2)
            iq = (parts, "sensor snapshot component", "count")
        # told here and not with all that was collected: an epoch that begins behind this frame tells its own
        described = ledger.descriptor_due()
        return described + ledger.data(
            tick=joined.item,
            n_samples=n,
            time_ns=told.time_ns,
            timebase=told.timebase,
            clipped=told.clipped,
            meta=told.meta,
            iq=iq,
        )

    @property
    def _ended(self) -> bool:
        """Whether no further sample can be had of all devices."""
        over = [m.ended and held is None for m, held in zip(self._members, self._held, strict=True)]
        used = [self._joiner is None or not self._joiner.n_waiting(i) for i in range(len(over))]
        return all(over) or any(a and b for a, b in zip(over, used, strict=True))

    def _at_end(self) -> Reading:
        """A device's stream has ended: give what is whole, then end."""
        for member in self._members:
            self._raise_failure(member)
        rest = None if self._joiner is None else self._joiner.flush()
        return None if rest is None else [("iq", f) for f in self._frame(rest)]


def _items(samples: AnyArray, axes: tuple[str, ...], dtype: np.dtype[Any]) -> AnyArray:
    """``[channel, item]``: a view, the components of one sample as one item."""
    if samples.dtype == dtype:
        return samples if axes[0] == "sensor" else samples.T
    items = np.ascontiguousarray(samples).view(dtype)[..., 0]
    return items if axes[0] == "sensor" else items.T


def _form_words(form: tuple[Any, ...]) -> str:
    return f"{form[0]} [{', '.join(form[1])}] at {form[2]} Hz"


def _common(limits: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [limit for limit in limits if limit is not None]
    if len(known) < len(limits):
        return None
    return max(a for a, _ in known), min(b for _, b in known)
