"""IIO radios: AD9361, FMComms5, and any device with complex channels of 16 bits behind libiio."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from drivers.base import Capabilities
from drivers.iio_control import IioControl, RadioState, Setting, control_of
from drivers.iio_library import IioTrouble, import_libiio, probe, why
from drivers.iio_reader import IioBlock, IioReader
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from hil.errors import ControlError, DriverError
from hil.frame import Frame
from hil.params import Count, Hz, Index, Seconds
from hil.streams import RAW_IQ_INTERLEAVED, port_of

#: Devices whose samples are read, where a context has several that could be.
_USUAL_ADCS = ("cf-ad9361-A", "cf-ad9361-lpc")
#: Times that a thread hung in libiio is left behind before the process shall end.
_MAX_HUNG = 3

GainMode = Literal["manual", "slow_attack", "fast_attack", "hybrid"]
Gain = Annotated[float, Meta(ge=-200, le=200, extra_json_schema={"unit": "dB"})]


class IioParams(LiveParams, frozen=True, kw_only=True):
    """Where the radio is and how to set it; a setting that is absent is left as the device has it."""

    adc: Annotated[str | None, Meta(description="IIO device whose samples are read; absent: found")] = None
    channels: Annotated[tuple[Index, ...], Meta(description="complex channels to read; empty: all")] = ()
    frequency_hz: Annotated[Hz | None, Meta(description="centre frequency of all local oscillators")] = None
    sample_rate_hz: Annotated[Hz | None, Meta(description="of all channels")] = None
    bandwidth_hz: Annotated[Hz | None, Meta(description="of the analogue filters")] = None
    gain_db: Annotated[Gain | None, Meta(description="of all receivers; their gain mode becomes manual")] = None
    gain_mode: Annotated[GainMode | None, Meta(description="who sets the gain")] = None
    kernel_buffers: Annotated[Count, Meta(le=64, description="blocks in the device's own queue")] = 4
    poll_s: Annotated[
        Seconds, Meta(le=60, description="how often the device is asked for overflows and for what it is set to")
    ] = 0.25


class Iio(LiveDriver):
    """Samples of an IIO radio as int16 ``[snapshot, sensor, component]``, as the device gives them.

    The device has no time and does not number its samples: ``sample_start`` counts the samples that came, ``time_ns``
    is the host's clock when a block arrived less what the block lasts. Samples that the device loses are told by an
    event ``overflow`` with ``samples: null``: it says that there were some since it was last asked, not how many.
    """

    params: IioParams
    outputs = {"iq": port_of(RAW_IQ_INTERLEAVED)}
    verbs = ("tune", "set_gain", "set_gain_mode", "set_sample_rate", "set_bandwidth", "radio")
    server_module = "sim_device.servers.iiod"

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._iio: Any = None
        self._context: Any = None
        self._adc: Any = None
        self._pairs: list[Any] = []
        self._control: IioControl | None = None
        self._reader: IioReader | None = None
        self._why_lost = ""
        self._state: RadioState | None = None
        self._capabilities = Capabilities()
        self._hung: list[Any] = []
        self._tick = 0
        self._n = {"overflows": 0, "short_reads": 0}
        # in this order: a rate may move what comes after it
        names: tuple[Setting, ...] = ("sample_rate_hz", "bandwidth_hz", "frequency_hz", "gain_db", "gain_mode")
        asked = {what: getattr(self.params, what) for what in names}
        self._settings: dict[tuple[Setting, int | None], float | str] = {
            (what, None): value for what, value in asked.items() if value is not None
        }

    # -- LiveDriver ------------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        try:
            self._iio = import_libiio()
            probe(self.uri, timeout_s)
            self._open_context(timeout_s)
            self._find_channels()
            self._control = control_of(self._context, self._adc)
        except IioTrouble as error:
            raise self.failure(*error.trouble) from error
        except OSError as error:
            raise self.failure(f"cannot open {self.uri}", *why(error)) from error
        self._apply_settings()
        self._state = self._control.state()
        limits = self._control.limits()
        self._capabilities = Capabilities(
            channels=len(self._pairs) // 2,
            tune_hz=limits["tune_hz"],
            gain_db=limits["gain_db"],
            sample_rate_hz=limits["sample_rate_hz"],
            timebase="host",
            sync=True,
        )
        frequency_hz = self._state.frequency_hz[0] if self._state.frequency_hz else self.params.frequency_hz
        ledger = self.keep_ledger(len(self._pairs) // 2, frequency_hz, {"raw": self._raw()})
        ledger.sample_rate_hz = self._state.sample_rate_hz or self.params.sample_rate_hz
        self._start_reader()

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        if self._why_lost:
            raise ConnectionLost(f"libiio: {self._why_lost}")
        assert self._reader is not None
        try:
            block = self._reader.get(timeout_s)
        except OSError as error:
            raise ConnectionLost(f"libiio: {error}") from error
        return [] if block is None else [("iq", frame) for frame in self._frames(block)]

    def disconnect(self) -> None:
        if self._reader is not None and not self._reader.close():
            # what a hung thread uses must not be freed under it
            self._hung.append((self._reader, self._context, self._adc, self._pairs, self._control))
        self._reader = self._control = self._adc = self._context = None
        self._why_lost = ""
        self._pairs = []
        if len(self._hung) > _MAX_HUNG:
            raise self.failure(
                "libiio hangs", f"{len(self._hung)} reads did not end when they were cancelled", "restart the process"
            )

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **self._n}

    # -- verbs -----------------------------------------------------------------------------------------------------

    def tune(self, frequency_hz: Hz) -> int:
        """Set the centre frequency of all local oscillators. Return the epoch."""
        return self._set("retune", "frequency_hz", frequency_hz)

    def set_gain(self, gain_db: Gain, receiver: Index | None = None) -> int:
        """Set the gain of one receiver or of all, in the gain mode manual. Return the epoch."""
        return self._set("gain", "gain_db", gain_db, receiver)

    def set_gain_mode(self, mode: GainMode, receiver: Index | None = None) -> int:
        """Let the device (slow_attack, fast_attack, hybrid) or the user (manual) set the gain. Return the epoch."""
        return self._set("gain", "gain_mode", mode, receiver)

    def set_sample_rate(self, sample_rate_hz: Hz) -> int:
        """Set the sample rate. Return the epoch."""
        return self._set("sample_rate", "sample_rate_hz", sample_rate_hz)

    def set_bandwidth(self, bandwidth_hz: Hz) -> int:
        """Set the bandwidth of the analogue filters. Return the epoch."""
        return self._set("bandwidth", "bandwidth_hz", bandwidth_hz)

    def radio(self) -> dict[str, Any]:
        """Return what the device says of frequency, rate and gains."""
        return _plain(self._connected().state())

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open_context(self, timeout_s: float) -> None:
        self._context = self._iio.Context(self.uri)
        self._context.set_timeout(max(1, round(1000 * min(timeout_s, self.params.silence_s))))

    def _find_channels(self) -> None:
        """Find the device whose samples are read, and its channels.

        Raises:
            IioTrouble: There is none, or its samples are of a kind that is not read here.
        """
        able = {d.name or d.id: d for d in self._context.devices if len(_scan(d)) > 1}
        wanted = [self.params.adc] if self.params.adc else [n for n in _USUAL_ADCS if n in able] or sorted(able)
        if not wanted or wanted[0] not in able:
            has = ", ".join(able) or "none"
            raise IioTrouble(
                f"{self.uri} has no receiver {self.params.adc or ''}".rstrip(),
                f"devices with buffered complex channels: {has}",
                "correct `adc`, or load the firmware that has it",
            )
        self._adc = able[wanted[0]]
        scan = _scan(self._adc)
        for channel in scan:
            form = channel.data_format
            if form.length != 16 or form.is_be or not form.is_signed or form.repeat > 1:
                raise IioTrouble(
                    f"{self._adc.name} {channel.id} has samples of {form.length} bits",
                    "little-endian signed integers of 16 bits are read",
                    "read another device, or change its format",
                )
        chosen = self.params.channels or tuple(range(len(scan) // 2))
        missing = [c for c in chosen if c >= len(scan) // 2]
        if missing or list(chosen) != sorted(set(chosen)):
            raise IioTrouble(
                f"channels {list(chosen)} of {self._adc.name} cannot be read",
                f"it has complex channels 0 to {len(scan) // 2 - 1}, which come in rising order",
                "correct `channels`; the order of elements is for `array.channel_map`",
            )
        self._pairs = [channel for c in chosen for channel in scan[2 * c : 2 * c + 2]]

    def _raw(self) -> dict[str, float]:
        form = self._pairs[0].data_format
        return {"full_scale": float(1 << (form.bits - 1 + form.shift)), "offset": 0.0}

    def _apply_settings(self) -> None:
        """Put to the device what the parameters say, and what verbs have changed since."""
        for (what, receiver), value in self._settings.items():
            try:
                self._connected().set(what, value, receiver)
            except ControlError as error:
                _, _, reason = str(error).partition(": ")
                raise self.failure(f"{self.uri} cannot be set to {what}={value}", reason, f"correct {what}") from error

    def _start_reader(self) -> None:
        p = self.params
        try:
            self._reader = IioReader(
                self._iio, self._adc, self._pairs, p.n_samples, p.kernel_buffers, self._connected(), p.poll_s
            )
        except OSError as error:
            raise self.failure(f"cannot read {self._adc.name} of {self.uri}", *why(error)) from error

    def _connected(self) -> IioControl:
        if self._control is None:
            raise ControlError(f"{self.name}: the device is gone; it is looked for")
        return self._control

    def _set(self, event: str, what: Setting, value: float | str, receiver: int | None = None) -> int:
        """Change a setting between two buffers, so that no frame has samples from before and after it."""
        control, ledger = self._connected(), self.ledger
        assert ledger is not None and self._reader is not None
        try:
            control.check(what, value, receiver)
            if not self._reader.close():
                self._why_lost = "it does not let go of the buffer"
                raise ControlError(f"{what}: libiio does not let go of the buffer; the device is looked for again")
            try:
                control.set(what, value, receiver)
                self._settings[what, receiver] = value
            finally:
                self._state = control.state()
                self._note_state(self._state)
                self._waiting += [("iq", f) for f in ledger.new_epoch(event, ticks_go_on=True, **_plain(self._state))]
                self._start_reader()
        except (OSError, DriverError) as error:  # what a device that goes meanwhile makes of a question
            self._why_lost = str(error)
            raise ControlError(
                f"{self.name}: {what}={value}: the device has gone: {error}; it is looked for, then give it again"
            ) from error
        return ledger.epoch

    def _note_state(self, state: RadioState) -> None:
        assert self.ledger is not None
        if state.frequency_hz:
            self.ledger.frequency_hz = state.frequency_hz[0]
        if state.sample_rate_hz is not None:
            self.ledger.sample_rate_hz = state.sample_rate_hz

    def _frames(self, block: IioBlock) -> list[Frame]:
        ledger = self.ledger
        assert ledger is not None
        out: list[Frame] = []
        if block.overflow:
            self._n["overflows"] += 1
            out.append(ledger.event("overflow", samples=None, since_s=self.params.poll_s))
        n = 0 if block.samples is None else len(block.samples)
        if n < block.n_expected:
            self._n["short_reads"] += 1
            out.append(ledger.event("short_read", samples=n, expected=block.n_expected))
        if block.samples is not None:
            lasted_ns = round(n / ledger.sample_rate_hz * 1e9) if ledger.sample_rate_hz else 0
            out += ledger.data(
                tick=self._tick,
                n_samples=n,
                time_ns=block.arrived_ns - lasted_ns,
                timebase="host",
                iq=(block.samples, "snapshot sensor component", "count"),
            )
            self._tick += n
        if block.state is not None and block.state != self._state:
            out += self._changed(block.state)
        return out

    def _changed(self, state: RadioState) -> list[Frame]:
        """Somebody else changed a setting: a new epoch, from about the frame where it was found out."""
        ledger, before = self.ledger, self._state
        assert ledger is not None and before is not None
        self._state = state
        self._note_state(state)
        if state.frequency_hz != before.frequency_hz:
            event = "retune"
        else:
            event = "sample_rate" if state.sample_rate_hz != before.sample_rate_hz else "gain"
        return ledger.new_epoch(event, ticks_go_on=True, found_within_s=self.params.poll_s, **_plain(state))


def _scan(device: Any) -> list[Any]:
    """Input scan elements of a device, by index."""
    return sorted((c for c in device.channels if c.scan_element and not c.output), key=lambda c: c.index)


def _plain(state: RadioState) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in state._asdict().items()}
