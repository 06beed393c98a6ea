"""The base station as a server: a thread that measures slot by slot, and the ports that tell of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from msgspec import Meta

from hil.errors import DriverError, ParamError
from hil.formats.fapi import Profile
from hil.formats.srs import Srs
from hil.formats.t_tracer import encode_record, encode_text
from hil.params import Count
from sim_device.device import XlArrayDevice
from sim_device.servers.gnodeb.cell import Cell, Occasion
from sim_device.servers.gnodeb.fapi_port import FapiPort, Representation
from sim_device.servers.gnodeb.messages import TEXTS, Encoded, Form, encode_occasion, formats_of
from sim_device.servers.gnodeb.record_file import greeting_of, open_to_write, records_of
from sim_device.servers.gnodeb.tracer_port import TracerPort
from sim_device.servers.protocol_server import TICK_S, ProtocolServer, ServerParams
from sim_device.srs.terminals import Terminal

#: A server that is late by more goes on from now and leaves out what it had no time for.
_LATEST_S = 0.5
#: In real time, what is due is given at once every so often.
_STEP_S = 0.001


class GnodebParams(ServerParams, frozen=True, kw_only=True):
    """Parameters of the simulated base station."""

    port: Annotated[int, Meta(ge=0, le=65535, description="of the T tracer; 0: any that is free")] = 0
    srs: Annotated[Srs, Meta(description="carrier, and the SRS resource of every terminal")] = Srs()
    first_rnti: Annotated[int, Meta(ge=1, le=0xFFEF, description="of the first source of the scene")] = 0x4601
    timing_advance: Annotated[bool, Meta(description="terminals send earlier, so that they arrive together")] = True
    form: Annotated[Form, Meta(description="of the events: older ones have no port, and antenna 0 only")] = "newer"
    scale: Annotated[float, Meta(gt=0, le=1e9, description="counts of a full-scale channel")] = 32768.0
    fapi_to: Annotated[str | None, Meta(description="host:port that SRS.indication goes to by UDP")] = None
    fapi_profile: Annotated[Profile, Meta(description="byte order")] = "nfapi"
    fapi_representation: Annotated[Representation, Meta(description="of the channel matrix")] = "int16"
    fapi_report: Annotated[
        Literal["codebook", "beam_management"], Meta(description="channel matrix, or signal-to-noise ratios")
    ] = "codebook"
    prg_size: Annotated[Count, Meta(le=275, description="resource blocks of one value of FAPI")] = 1
    speed: Annotated[
        float, Meta(gt=0, le=1000, description="in real time: how much faster than the air's clock slots go by")
    ] = 1.0
    loop_occasions: Annotated[
        Annotated[Count, Meta(le=1000)] | None,
        Meta(description="measure each terminal so often and repeat that, to feed a client at full speed"),
    ] = None
    record_to: Annotated[str | None, Meta(description="write what a client with all events gets into a file")] = None
    replay_from: Annotated[str | None, Meta(description="give the records of this file instead of a scene")] = None


class GnodebServer(ProtocolServer):
    """5G base station: channel estimates of sounding reference signals by T tracer and FAPI."""

    family = "gnodeb"
    fault_kinds = ("stall", "drop_connection", "short_read", "corrupt", "lose_packets", "clock_jump")
    params: GnodebParams
    device_defaults: ClassVar[Mapping[str, Any]] = {
        "array": {"kind": "ula", "n": 4, "array_id": "gnodeb"},
        "frequency_hz": 3.5e9,
        "noise_power_db": -40.0,
        "sources": [
            {"id": i + 1, "power_db": -20.0, "motion": {"kind": "bearing", "azimuth_rad": azimuth, "range_m": range_m}}
            for i, (azimuth, range_m) in enumerate(((0.4, 40.0), (-0.3, 90.0), (0.1, 150.0)))
        ],
    }
    verbs = (*ProtocolServer.verbs, "duplicate_antennas")

    def __init__(self, params: Mapping[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        p = self.params
        self._duplicated = False
        self._n_to_lose = 0
        self._n = {"occasions": 0, "late": 0, "lost_on_command": 0}
        self._cell = Cell(self.feed, p.srs, p.first_rnti, p.timing_advance)
        self._formats = formats_of(p.form)
        self._templates: dict[tuple[tuple[int, int], frozenset[int]], Encoded] = {}
        self._measured: dict[tuple[int, int], Occasion] = {}
        self._file: BinaryIO | None = None
        self._tracer: TracerPort | None = None
        self._fapi: FapiPort | None = None
        try:
            if p.replay_from is not None:
                greeting_of(p.replay_from)
            try:
                self._tracer = TracerPort((p.host, p.port), self._greeting, self.ending, self.faults, self.thread)
            except OSError as error:
                raise DriverError(
                    f"server 'gnodeb': cannot listen at {p.host}:{p.port}: {error.strerror}; choose another port"
                ) from error
            if p.fapi_to is not None:
                self._fapi = FapiPort(
                    address_of(p.fapi_to),
                    p.fapi_profile,
                    p.fapi_representation,
                    p.prg_size,
                    p.fapi_report,
                    p.scale,
                    self.faults,
                )
            if p.record_to is not None:
                self._file = open_to_write(p.record_to)
                self._file.write(self._greeting())
        except BaseException:
            self.close()
            raise

    def make_device(self) -> XlArrayDevice:
        told = {**self.device_defaults, **self.params.device}
        return XlArrayDevice(self.family, **{**told, "sample_rate_hz": self.params.srs.sample_rate_hz})

    @property
    def uri(self) -> str:
        assert self._tracer is not None
        host, port = self._tracer.address
        return f"tcp://{host}:{port}"

    @property
    def addresses(self) -> dict[str, Any]:
        return {**super().addresses, "fapi_to": self.params.fapi_to, "fapi_profile": self.params.fapi_profile}

    def begin(self) -> None:
        assert self._tracer is not None
        self.thread(self._tracer.accept)
        self.thread(self._produce if self.params.replay_from is None else self._replay, self._tracer)

    def close(self) -> None:
        self.ending.set()
        if self._tracer is not None:
            self._tracer.close()
        super().close()
        if self._fapi is not None:
            self._fapi.close()
        if self._file is not None:
            self._file.close()

    def duplicate_antennas(self, on: bool) -> None:
        """Give the estimates of the first half of the antennas twice, as base stations with several radio units may."""
        self._duplicated = on
        self._templates.clear()

    def stats(self) -> dict[str, Any]:
        told = super().stats()
        clients = 0 if self._tracer is None else len(self._tracer.clients)
        dropped = 0 if self._tracer is None else self._tracer.n_dropped
        return {**told, **self._n, "clients": clients, "dropped": dropped}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _greeting(self) -> bytes:
        if self.params.replay_from is not None:
            return greeting_of(self.params.replay_from)
        return encode_text(TEXTS[self.params.form], self.feed.utc_ns(self.feed.head))

    def _produce(self, tracer: TracerPort) -> None:
        """Go through the slots: in real time as they come, else as fast as somebody takes what they give."""
        feed, cell = self.feed, self._cell
        slot_s = 0.01 / self.params.srs.slots_per_frame / self.params.speed
        # the slot that begins next; as fast as it can: the first
        passed_slots = feed.now_tick() / cell.slot_ticks
        number, began_s = math.ceil(passed_slots), time.monotonic() - passed_slots * slot_s
        while not self.ending.is_set():
            if self._fapi is not None and (fault := self.faults.take("stall")):
                self.ending.wait(1.0 if fault.amount is None else fault.amount)
            slot = cell.next_slot(number)
            if slot is None or not (feed.real_time or self._is_heard(tracer)):
                self.ending.wait(TICK_S)
                continue
            if feed.real_time:
                ahead_s = began_s + slot * slot_s - time.monotonic()
                if ahead_s > 0:
                    self.ending.wait(min(max(ahead_s, _STEP_S), TICK_S))
                    continue
                if ahead_s < -_LATEST_S:
                    passed = int(-ahead_s / slot_s)
                    self._n["late"] += passed
                    number = slot + passed
                    continue
            measured = [self._measure(terminal, slot) for terminal in cell.sounding(slot)]
            self._tell(tracer, [occasion for occasion in measured if not self._lost_on_command()])
            number = slot + 1
            feed.head = max(feed.head, number * cell.slot_ticks)
            if self._fapi is not None and not feed.real_time:
                self.ending.wait(_STEP_S)  # nothing on UDP says that the other side is behind

    def _is_heard(self, tracer: TracerPort) -> bool:
        return bool(self._fapi or self._file or any(client.enabled for client in tracer.clients))

    def _measure(self, terminal: Terminal, number: int) -> Occasion:
        n_loop = self.params.loop_occasions
        if n_loop is None:
            return self._cell.measure(terminal, number)
        key = terminal.rnti, number // terminal.srs.period_slots % n_loop
        if key not in self._measured:
            self._measured[key] = self._cell.measure(terminal, number)
        frame, slot = self._cell.frame_and_slot(number)
        return self._measured[key]._replace(frame=frame, slot=slot, tick=number * self._cell.slot_ticks)

    def _lost_on_command(self) -> bool:
        """Whether this occasion is one of those that were ordered to be lost."""
        if fault := self.faults.take("lose_packets"):
            self._n_to_lose = int(fault.amount or 1)
        if self._n_to_lose == 0:
            return False
        self._n_to_lose -= 1
        self._n["lost_on_command"] += 1
        if self._fapi is not None:
            self._fapi.skip()
        return True

    def _tell(self, tracer: TracerPort, occasions: list[Occasion]) -> None:
        """Tell of the occasions of one slot."""
        self._n["occasions"] += len(occasions)
        clients = [c for c in tracer.clients if c.enabled]
        for wanted in {c.enabled for c in clients}:
            data = self._records(occasions, wanted)
            for client in clients:
                if client.enabled == wanted and data:
                    client.put(data, wait=not self.feed.real_time)
        for occasion in occasions:
            time_ns = self.feed.utc_ns(occasion.tick)
            if self._file is not None:
                encoded = encode_occasion(occasion, self._formats, self._all_events, self.params.scale)
                encoded.stamp(time_ns, occasion.frame)
                self._file.write(b"".join(encoded.records))
            if self._fapi is not None:
                if fault := self.faults.take("stall"):
                    self.ending.wait(1.0 if fault.amount is None else fault.amount)
                self._fapi.send(occasion, time_ns // 1000, self._place_in_loop(occasion))

    def _records(self, occasions: list[Occasion], wanted: frozenset[int]) -> bytes:
        """Records of the events in ``wanted``."""
        parts: list[bytearray] = []
        for occasion in occasions:
            encoded = self._encode(occasion, wanted)
            encoded.stamp(self.feed.utc_ns(occasion.tick), occasion.frame)
            parts += encoded.records
        return b"".join(parts)

    def _place_in_loop(self, occasion: Occasion) -> tuple[int, int] | None:
        """Which of the measurements that are repeated it is; ``None`` where each is made anew."""
        loop, terminal = self.params.loop_occasions, occasion.terminal
        if loop is None:
            return None
        return terminal.rnti, occasion.tick // self._cell.slot_ticks // terminal.srs.period_slots % loop

    def _encode(self, occasion: Occasion, wanted: frozenset[int]) -> Encoded:
        cut_to = None
        if fault := self.faults.take("short_read"):
            cut_to = self.params.srs.n_fft // 2 if fault.amount is None else int(fault.amount)
        place = self._place_in_loop(occasion)
        if place is not None and cut_to is None and (place, wanted) in self._templates:
            return self._templates[place, wanted]
        encoded = encode_occasion(
            occasion, self._formats, wanted, self.params.scale, duplicated=self._duplicated, cut_to=cut_to
        )
        if place is not None and cut_to is None:
            self._templates[place, wanted] = encoded
        return encoded

    @property
    def _all_events(self) -> frozenset[int]:
        return frozenset(event.number for event in self._formats.values())

    def _replay(self, tracer: TracerPort) -> None:
        """Give the file's records to whoever turned them on, at the pace at which they were written."""
        assert self.params.replay_from is not None
        while not self.ending.is_set() and not any(client.enabled for client in tracer.clients):
            self.ending.wait(TICK_S)
        began_s, first_ns = time.monotonic(), None
        for record in records_of(self.params.replay_from):
            if record.type < 0:
                continue
            first_ns = record.time_ns if first_ns is None else first_ns
            due_s = began_s + (record.time_ns - first_ns) / 1e9 / self.params.speed
            while self.feed.real_time and time.monotonic() < due_s and not self.ending.is_set():
                self.ending.wait(min(TICK_S, max(0.0, due_s - time.monotonic())))
            if self.ending.is_set():
                return
            data = encode_record(record.type, bytes(record.payload), record.time_ns)
            for client in tracer.clients:
                if record.type in client.enabled:
                    client.put(data, wait=not self.feed.real_time)
            self._n["occasions"] += 1


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``.

    Raises:
        ParamError: It is none.
    """
    host, _, port = text.removeprefix("udp://").rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ParamError(f"fapi_to: expected host:port, got {text!r}")
    return host, int(port)
