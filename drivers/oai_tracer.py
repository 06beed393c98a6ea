"""Channel estimates of a live OpenAirInterface base station, by its T tracer."""

from __future__ import annotations

import select
import socket
import time
from typing import Annotated, Any

from msgspec import Meta

from drivers.base import Capabilities
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from drivers.tracer_frames import EVENTS, TracerFrames, TracerSrs
from hil.array_params import build_array
from hil.errors import DriverError, WireError
from hil.formats.t_tracer import (
    MAX_TEXT,
    PORT,
    TEXT,
    TEXT_END,
    EventFormat,
    Record,
    decode_event,
    encode_enable,
    parse_messages,
    split_records,
    text_chunk,
    wanted_bytes,
)
from hil.frame import Frame
from hil.streams import RAW_CFR, port_of

_BUFFER = 8 << 20
#: So much is read from the socket before frames are given out.
_MOST_AT_ONCE = 2 << 20


class OaiTracerParams(LiveParams, frozen=True, kw_only=True):
    """``uri`` is ``tcp://host:2021``."""

    srs: Annotated[TracerSrs, Meta(description="carrier and sounded band, which the feed does not tell")] = TracerSrs()


class OaiTracer(LiveDriver):
    """Channel frequency responses of terminals at an OpenAirInterface base station, as its SRS processing gives them.

    One frame a terminal, port, symbol and occasion, antennas together, counts of an arbitrary scale. The time is that
    at which the base station logged the estimate, UTC of its host. Events are found by name in the text that the base
    station sends, never by number. What is missing of an occasion is told (``incomplete``) and the occasion lost.
    """

    params: OaiTracerParams
    outputs = {"cfr": port_of(RAW_CFR)}
    server_module = "sim_device.servers.gnodeb"

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._socket: socket.socket | None = None
        self._memory = bytearray(_BUFFER)
        self._filled = self._taken = 0
        self._frames: TracerFrames | None = None
        self._heard: list[Record] = []

    def capabilities(self) -> Capabilities:
        channels = None if self._frames is None else self._frames.n_antennas
        return Capabilities(channels=channels, timebase="utc", sync=True)

    def connect(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        host, port = self._address()
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise self.failure(
                f"no T tracer at {self.uri}", str(error), "start the base station with --T_stdout 2, or correct `uri`"
            ) from error
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setblocking(False)
        self._filled = self._taken = 0
        try:
            formats = self._read_formats(end_s)
            wanted = EVENTS[self.params.srs.estimate]
            if wanted not in formats:
                raise self.failure(
                    f"the base station at {self.uri} has no event {wanted}",
                    f"its T_messages names {len(formats)} others",
                    "give srs.estimate=interpolated, or run a release that has it",
                )
            self._begin(formats, end_s)
        except WireError as error:
            raise self.failure(
                f"{self.uri} does not speak the T tracer's protocol", str(error), "correct `uri` (port 2021)"
            ) from error
        except ConnectionLost as error:
            raise self.failure(
                f"{self.uri} closed the connection", str(error), "see the base station's log: is another tracer on?"
            ) from error

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        assert self._frames is not None
        try:
            records = self._heard or self._records(timeout_s)
            self._heard = []
        except WireError as error:
            raise ConnectionLost(f"the stream lost its place: {error}") from error
        out: list[Frame] = []
        for record in records:
            out += self._frames.take(record)
        if not records:
            out += self._frames.idle()
        return [("cfr", f) for f in out]

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _address(self) -> tuple[str, int]:
        scheme, _, rest = self.uri.rpartition("://")
        host, colon, port = rest.rpartition(":")
        if not colon:
            host, port = rest, str(PORT)
        if scheme not in ("", "tcp") or not host or not port.isascii() or not port.isdigit():
            raise self.failure(f"uri {self.uri!r} is no address", "expected tcp://host:port", "correct `uri`")
        return host.strip("[]"), int(port)

    def _read_formats(self, end_s: float) -> dict[str, EventFormat]:
        text = b""
        while time.monotonic() < end_s:
            for record in self._records(max(0.0, end_s - time.monotonic())):
                if record.type == TEXT:
                    text += text_chunk(record.payload)
                    if len(text) > MAX_TEXT:
                        raise WireError(f"a text of T_messages of more than {MAX_TEXT} bytes")
                elif record.type == TEXT_END:
                    return parse_messages(text.decode(errors="replace"))
        raise self.failure(
            f"{self.uri} did not send its T_messages",
            f"{len(text)} bytes of it came in time",
            "see that this is a T tracer (port 2021); raise connect_timeout_s on a slow link",
            DriverError,
        )

    def _begin(self, formats: dict[str, EventFormat], end_s: float) -> None:
        """Turn the events on; where it is not known how many antennas there are, learn it."""
        assert self._socket is not None
        p = self.params.srs
        event = formats[EVENTS[p.estimate]]
        n_antennas = p.n_antennas
        if n_antennas is None and self.params.array is not None:
            n_antennas = len(build_array(self.params.array, 1, p.frequency_hz).channel_map)
        if n_antennas is None and self.ledger is not None:
            n_antennas = len(self.ledger.array.channel_map)
        numbers = {e.number for name, e in formats.items() if name == event.name or "SRS_TOA" in name}
        self._socket.sendall(encode_enable(len(formats), numbers))
        heard: list[Record] = []
        if n_antennas is None:
            n_antennas = self._count_antennas(event, heard, end_s)
        ledger = self.keep_ledger(n_antennas, p.frequency_hz, {"cfr": {"scale": "arbitrary"}})
        self._frames = TracerFrames(p, formats, ledger, n_antennas, live=True, before=self._frames)
        self._heard = heard

    def _count_antennas(self, event: EventFormat, heard: list[Record], end_s: float) -> int:
        """How many antennas an occasion has: those that were named when a second occasion begins."""
        seen: dict[tuple[int, int, int], set[int]] = {}
        while time.monotonic() < end_s:
            for record in self._records(max(0.0, end_s - time.monotonic())):
                heard.append(Record(record.time_ns, record.type, memoryview(bytes(record.payload))))
                if record.type == event.number:
                    values = decode_event(event, record.payload)
                    key = int(values["rnti"]), int(values["frame"]), int(values.get("slot", -1))
                    seen.setdefault(key, set()).add(int(values["antenna"]))
            if len(seen) > 1:
                return 1 + max(a for antennas in seen.values() for a in antennas)
        raise self.failure(
            f"no channel estimates came from {self.uri}",
            "no terminal is connected, or it has no SRS",
            "attach a terminal (SRS on in the base station's configuration), or give srs.n_antennas to wait without",
        )

    def _records(self, timeout_s: float) -> list[Record]:
        """Records that come within ``timeout_s``; their memory is valid until the next call."""
        assert self._socket is not None
        ready, _, _ = select.select([self._socket], [], [], max(0.0, timeout_s))
        if not ready:
            return []
        self._compact()
        end = min(len(self._memory), self._filled + _MOST_AT_ONCE)
        view, before = memoryview(self._memory), self._filled
        while self._filled < end:
            try:
                n = self._socket.recv_into(view[self._filled : end])
            except BlockingIOError:
                break
            except OSError as error:
                if self._filled > before:
                    break  # first what came; the next call finds the same
                raise ConnectionLost(str(error)) from error
            if n == 0:
                if self._filled > before:
                    break
                raise ConnectionLost("the base station closed the connection")
            self._filled += n
        records, taken = split_records(view[: self._filled])
        self._taken = taken
        return records

    def _compact(self) -> None:
        """Move what is left of the last read to the front, and make room for a record that is larger than that."""
        rest = self._filled - self._taken
        if self._taken:
            self._memory[:rest] = self._memory[self._taken : self._filled]
        self._filled, self._taken = rest, 0
        wanted = wanted_bytes(memoryview(self._memory)[:rest])
        if wanted > len(self._memory):
            self._memory = self._memory + bytearray(wanted - len(self._memory))
