"""USRPs through UHD: any number of boards as one coherent receiver, in a process under the Python that has UHD.

Frames are int16 ``[sensor, snapshot, component]`` as the device gives them, numbered by its own ticks. What is lost is
the difference of ticks, so it is exact; UHD says why: ``overflow`` (a device overran, and UHD restarted all of them: a
new epoch, as phases may differ after a restart), ``sequence_error`` (packets were lost on the network). A jump of the
ticks without either is the device's clock (``clock_jump``, a new epoch). Samples that were taken while a device was
retuned belong to neither setting: they are left out and counted as lost.
"""

from __future__ import annotations

import functools
import time
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from drivers import uhd_interpreter
from drivers.base import Capabilities
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from drivers.uhd_interpreter import Interpreter
from drivers.uhd_link import UhdLink
from hil.errors import ControlError, DriverTimeout
from hil.frame import Frame
from hil.params import Hz, Index
from hil.streams import RAW_IQ, port_of

FULL_SCALE = 32768.0
#: A child tells that it is alive five times a second.
_HANG_S = 5.0
#: Longest that a command takes: some are many calls to each board.
_ANSWER_S = 15.0
_NS_PER_S = 1_000_000_000
#: Frames that are handed over in one go.
_BATCH = 64

#: What went wrong (the child's stage): in words, and what to do.
_REMEDIES = {
    "import": ("UHD cannot be imported", f"install {uhd_interpreter.PACKAGE}, or choose another `interpreter`"),
    "find": ("no USRP answers", "see to power and network, or correct `uri` (try `uhd_find_devices --args {args}`)"),
    "claimed": ("the USRP is in use", "end the other program that has it"),
    "compat": ("the USRP's firmware does not fit this UHD", "update one of them (`uhd_image_loader`) so that they fit"),
    "open": ("the USRP cannot be opened", "see what `uhd_usrp_probe --args {args}` says"),
    "channels": ("there is no such channel", "correct `channels`"),
    "rate": ("the sample rate cannot be had", "correct `sample_rate_hz`, or give another master_clock_rate in `uri`"),
    "frequency": ("the frequency cannot be had", "correct `frequency_hz`"),
    "gain": ("the gain cannot be had", "correct `gain_db`"),
    "antenna": ("there is no such antenna", "correct `antennas`"),
    "clock_source": ("there is no such clock source", "correct `clock_source`"),
    "time_source": ("there is no such time source", "correct `time_source`"),
    "pulse": ("the boards have no common time", "connect a pulse a second, or choose another `time_source`"),
    "time": ("the boards have no common time", "give all boards the same pulse and reference"),
}


class UhdParams(LiveParams, frozen=True, kw_only=True):
    uri: Annotated[
        str | None, Meta(description="device arguments as UHD takes them: addr=192.168.10.2, or addr0=...,addr1=...")
    ] = None
    interpreter: Annotated[
        str | None, Meta(description="Python that has UHD; absent: the first that `hil doctor` finds")
    ] = None
    channels: Annotated[tuple[Index, ...] | None, Meta(description="which, board by board; absent: all")] = None
    sample_rate_hz: Hz = 1e6
    frequency_hz: Annotated[Hz | None, Meta(description="absent: what the device starts with")] = None
    gain_db: Annotated[
        float | None, Meta(description="of all channels; absent: the device's", extra_json_schema={"unit": "dB"})
    ] = None
    antennas: Annotated[tuple[str, ...] | None, Meta(description="of each channel, e.g. RX2; absent: UHD's")] = None
    clock_source: Annotated[
        str | None, Meta(description="internal, external, gpsdo; absent: external for several boards")
    ] = None
    time_source: Annotated[str | None, Meta(description="the same of the pulse a second")] = None
    set_time: Annotated[
        Literal["zero", "utc"],
        Meta(description="what the pulse is called: 0, or the host's UTC (right where the pulse comes from GPS)"),
    ] = "zero"
    start_delay_s: Annotated[
        float, Meta(gt=0, le=5, description="channels start so much later", extra_json_schema={"unit": "s"})
    ] = 0.2
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="for the first connection", extra_json_schema={"unit": "s"})
    ] = 20.0


class _Change(NamedTuple):
    """A setting that a device took on: samples before ``from_tick`` have the old one, from ``settled_tick`` the new."""

    event: str
    value: float
    from_tick: int
    settled_tick: int


class Uhd(LiveDriver):
    """USRPs, ``uri="addr0=192.168.10.2,addr1=192.168.10.3"``; channels in the order of boards are sensors."""

    params: UhdParams
    server_module = "sim_device.servers.usrp"
    outputs = {"iq": port_of(RAW_IQ)}
    verbs: ClassVar[tuple[str, ...]] = ("tune", "set_gain", "set_sample_rate")

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._link: UhdLink | None = None
        self._opened: dict[str, Any] = {}
        self._changes: list[_Change] = []
        self._told: list[dict[str, Any]] = []
        self._cause: str | None = None
        self._n_requests = 0
        self.n_troubles: dict[str, int] = {}

    def capabilities(self) -> Capabilities:
        o = self._opened
        if not o:
            return Capabilities(timebase=self._timebase, sync=True)
        return Capabilities(
            channels=o["n_channels"],
            tune_hz=tuple(o["tune_hz"]),
            gain_db=tuple(o["gain_range_db"]),
            sample_rate_hz=tuple(o["rates_hz"]),
            timebase=self._timebase,
            sync=True,
        )

    @functools.cached_property
    def interpreter(self) -> str:
        """The Python that has UHD.

        Raises:
            DriverError: There is none.
        """
        chosen = self.params.interpreter
        found: Interpreter | None = uhd_interpreter.probe(chosen) if chosen else uhd_interpreter.first_usable()
        if found is not None and found.version is not None:
            return found.path
        tried = [found] if found else uhd_interpreter.find_interpreters()
        raise self.failure(
            "there is no Python that has UHD",
            "; ".join(f"{i.path}: {i.why_not}" for i in tried),
            f"install {uhd_interpreter.PACKAGE}, or give another `interpreter`",
        )

    # -- the device ------------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        p, end = self.params, time.monotonic() + timeout_s
        config = {
            "args": self.uri,
            "timeout_s": timeout_s,
            "channels": p.channels,
            "sample_rate_hz": p.sample_rate_hz,
            "frequency_hz": p.frequency_hz,
            "gain_db": p.gain_db,
            "antennas": p.antennas,
            "clock_source": p.clock_source,
            "time_source": p.time_source,
            "set_time": p.set_time,
            "start_delay_s": p.start_delay_s,
            "n_samples": p.n_samples,
            **self._set,
        }
        self._told, self._changes, self._cause = [], [], None
        self._link = UhdLink(self.interpreter, config)
        opened = self._wait_opened(self._link, end + _HANG_S)
        if opened["kind"] == "failed":
            what, fix = _REMEDIES[opened["stage"]]
            why = "UHD finds none there" if opened["stage"] == "find" else opened["why"]
            raise self.failure(f"{what} at {self.uri}", why, fix.format(args=self.uri))
        if self._opened and opened["n_channels"] != self._opened["n_channels"]:
            before, now = self._opened["n_channels"], opened["n_channels"]
            raise self.failure("the device has changed", f"it had {before} channels, now {now}", "start anew")
        self._opened = opened
        ledger = self.keep_ledger(
            opened["n_channels"],
            opened["frequency_hz"],
            {
                "raw": {"full_scale": FULL_SCALE, "offset": 0.0},
                "gain_db": opened["gain_db"],
                "device": {"driver": "uhd", "name": opened["name"], "boards": opened["n_boards"]},
            },
        )
        ledger.sample_rate_hz = opened["sample_rate_hz"]
        self._link.map_ring(opened["n_slots"], opened["n_channels"], p.n_samples)

    @functools.cached_property
    def _set(self) -> dict[str, float]:
        """What verbs set, by its name in the configuration: a device that was lost gets it again."""
        return {}

    def _wait_opened(self, link: UhdLink, end: float) -> dict[str, Any]:
        while (left_s := end - time.monotonic()) > 0:
            messages = link.receive(left_s)
            if messages is None:
                raise self.failure(
                    f"the process that opens {self.uri} has ended",
                    link.last_words(),
                    f"run `uhd_usrp_probe --args {self.uri}`",
                )
            if messages:
                self._told = messages[1:]
                return messages[0]
        raise self.failure(
            f"the USRP at {self.uri} does not open",
            f"UHD was not done in {self.params.connect_timeout_s:g} s",
            "see what `uhd_usrp_probe` does, or give it more time (connect_timeout_s)",
            DriverTimeout,
        )

    def disconnect(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        link = self._link
        assert link is not None, "fetch() before connect()"
        self._listen(link, 0.0 if self._told else timeout_s)
        told, self._told = self._told[:_BATCH], self._told[_BATCH:]
        out: list[Frame] = []
        for message in told:
            if message["kind"] == "data":
                out += self._data(link, message)
            elif message["kind"] == "trouble":
                out += self._trouble(message)
        return [("iq", frame) for frame in out]

    def _listen(self, link: UhdLink, timeout_s: float) -> None:
        messages = link.receive(timeout_s)
        if messages is None:
            if self._told:
                return  # first what it has told before
            raise ConnectionLost(f"the process that has UHD has ended: {link.last_words()}")
        self._told += messages
        if time.monotonic() - link.heard_s > _HANG_S:
            raise ConnectionLost(f"the process that has UHD has been silent for {_HANG_S:g} s")

    # -- frames ----------------------------------------------------------------------------------------------------

    def _data(self, link: UhdLink, message: dict[str, Any]) -> list[Frame]:
        ledger = self.ledger
        assert ledger is not None
        assert ledger.sample_rate_hz is not None
        tick, n = message["tick"], message["n"]
        out: list[Frame] = []
        while self._changes and tick + n > self._changes[0].from_tick:
            if tick < self._changes[0].settled_tick:
                link.skip()
                self._cause = self._cause or "settling"
                return []
            out += self._changed(self._changes.pop(0))
        off = 0 if ledger.next_tick is None else tick - ledger.next_tick
        if off and (self._cause is None or off < 0):
            # every packet came and none was reported lost: it is the clock
            seconds = off / ledger.sample_rate_hz
            out += ledger.new_epoch("clock_jump", ticks=off, seconds=seconds)
        self._cause = None
        samples = link.take(message["slot"], n)
        out += ledger.data(
            tick=tick,
            n_samples=n,
            time_ns=_time_ns(tick, ledger.sample_rate_hz),
            timebase=self._timebase,
            iq=(samples, "sensor snapshot component", "count"),
        )
        return out

    def _trouble(self, message: dict[str, Any]) -> list[Frame]:
        ledger = self.ledger
        assert ledger is not None
        what = message["what"]
        self.n_troubles[what] = self.n_troubles.get(what, 0) + 1
        values = {k: v for k, v in message.items() if k not in ("kind", "what")}
        again = self._cause == what == "overflow"  # each channel reports; UHD restarts all of them once
        self._cause = what
        if what == "overflow":
            return [] if again else ledger.new_epoch(what, ticks_go_on=True, **values)
        return [ledger.event(what, **values)]

    def _changed(self, change: _Change) -> list[Frame]:
        ledger = self.ledger
        assert ledger is not None
        if change.event == "retune":
            ledger.frequency_hz = change.value
            return ledger.new_epoch("retune", ticks_go_on=True, frequency_hz=change.value)
        ledger.extra["gain_db"] = change.value
        return ledger.new_epoch("gain", ticks_go_on=True, gain_db=change.value)

    @property
    def _timebase(self) -> Literal["utc", "device"]:
        return "utc" if self.params.set_time == "utc" else "device"

    # -- verbs -----------------------------------------------------------------------------------------------------

    def tune(self, frequency_hz: Hz) -> int:
        """Set the centre frequency of all channels. Return the epoch that begins with it."""
        answer = self._ask("tune", frequency_hz)
        self._set["frequency_hz"] = frequency_hz
        return self._change("retune", answer)

    def set_gain(self, gain_db: float) -> int:
        """Set the gain of all channels. Return the epoch that begins with it."""
        answer = self._ask("set_gain", gain_db)
        self._set["gain_db"] = gain_db
        return self._change("gain", answer)

    def set_sample_rate(self, sample_rate_hz: Hz) -> int:
        """Set the sample rate: all channels stop, get the time anew, and start again. Return the epoch."""
        answer = self._ask("set_sample_rate", sample_rate_hz)
        self._set["sample_rate_hz"] = sample_rate_hz
        ledger = self.ledger
        assert ledger is not None
        assert self._link is not None
        # what came before the answer is of the old rate, and of ticks that have begun anew
        old = [m for m in self._told if m["kind"] == "data" and m["before_answer"]]
        for _ in old:
            self._link.skip()
        self._told = [m for m in self._told if m["kind"] != "data" or not m["before_answer"]]
        self._changes, self._cause = [], None
        ledger.sample_rate_hz = answer["value"]
        self._waiting += [("iq", f) for f in ledger.new_epoch("sample_rate", sample_rate_hz=answer["value"])]
        return ledger.epoch

    def _change(self, event: str, answer: dict[str, Any]) -> int:
        assert self.ledger is not None
        self._changes.append(_Change(event, answer["value"], answer["from_tick"], answer["settled_tick"]))
        return self.ledger.epoch + len(self._changes)

    def _ask(self, verb: str, value: float) -> dict[str, Any]:
        """Let the child do something; what it tells meanwhile waits.

        Raises:
            ControlError: It refused, or does not answer.
        """
        link = self._link
        if link is None:
            raise ControlError(f"{self.name}: {verb}: the device is not connected")
        self._n_requests += 1
        link.send({"id": self._n_requests, "verb": verb, "value": value})
        end = time.monotonic() + _ANSWER_S
        while (left_s := end - time.monotonic()) > 0:
            for i, message in enumerate(messages := link.receive(left_s) or []):
                if message["kind"] == "answer" and message["id"] == self._n_requests:
                    self._told += messages[:i]
                    for told in self._told:
                        told["before_answer"] = True
                    self._told += [{"before_answer": False, **m} for m in messages[i + 1 :]]
                    if "error" in message:
                        raise ControlError(f"{self.name}: {verb}: {message['error']}")
                    return message
            if not messages:
                break
            self._told += messages
        raise ControlError(f"{self.name}: {verb}: the process that has UHD does not answer")

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **{f"n_{what}": n for what, n in self.n_troubles.items()}}


def _time_ns(tick: int, sample_rate_hz: float) -> int:
    """Time of a tick, integer nanoseconds, rounded down."""
    numerator, denominator = float(sample_rate_hz).as_integer_ratio()
    return tick * _NS_PER_S * denominator // numerator
