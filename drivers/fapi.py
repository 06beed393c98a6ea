"""Channel estimates of a base station's lower half, by FAPI SRS.indication on UDP."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from drivers.base import Capabilities
from drivers.embedded import START_S, EmbeddedDevice
from drivers.live import LiveDriver, LiveParams
from drivers.srs_occasions import FrameClock, Occasions, same_antennas
from hil.errors import WireError
from hil.formats.fapi import (
    MAX_MESSAGE,
    SRS_INDICATION,
    ChannelMatrix,
    Profile,
    Segment,
    SrsIndication,
    SrsPdu,
    decode_segment,
    decode_srs_indication,
)
from hil.formats.srs import FRAME_S, FRAMES_PER_CYCLE, SUBCARRIERS_PER_RB
from hil.frame import Frame, Loss
from hil.params import Count, Hz, Index, Params
from hil.port import Port

_LARGEST_DATAGRAM = 65_535
_BUFFER = 4 << 20
#: Slots come as the host's clock says, or later where they were kept. Others are of a base station started anew.
_EARLY_S, _LATE_S = 0.1, 0.7
#: Indications that are read before frames are given out.
_MOST_AT_ONCE = 256


class FapiSrs(Params, frozen=True, kw_only=True):
    """What SRS.indication does not tell."""

    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre of the carrier")] = 3.5e9
    scs_khz: Annotated[Literal[15, 30, 60, 120], Meta(description="subcarrier spacing")] = 30
    n_rb: Annotated[Count, Meta(le=275, description="resource blocks of the carrier")] = 273
    first_subcarrier: Annotated[
        Index, Meta(description="where the first value is taken; the next ones follow a PRG apart")
    ] = 0
    period_slots: Annotated[
        Annotated[int, Meta(ge=1, le=2560)] | None,
        Meta(description="between occasions of a terminal; absent: learnt from what comes"),
    ] = None


class FapiParams(LiveParams, frozen=True, kw_only=True):
    """``uri`` is where indications are received, ``udp://0.0.0.0:50011``: the base station is told to send there."""

    profile: Annotated[Profile, Meta(description="byte order and header")] = "nfapi"
    srs: Annotated[FapiSrs, Meta(description="carrier and sounded band")] = FapiSrs()


class Fapi(LiveDriver):
    """Channel frequency responses from the normalized channel matrix of SRS.indications, one value a PRG.

    One frame a terminal, port and indication, with the matrix's own numbers: int8, int16 or float32. The time is the
    device's, counted from system frame and slot; there is no other in the message. Messages lost on the way show in the
    numbers of their headers (event ``messages_lost``), occasions of a terminal in its period.
    """

    params: FapiParams
    outputs = {"cfr": Port.any()}
    server_module = "sim_device.servers.gnodeb"

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._socket: socket.socket | None = None
        self._early: deque[SrsIndication] = deque()
        self._slots_per_frame = 10 * self.params.srs.scs_khz // 15
        self._clock = self._new_clock()
        self._occasions = Occasions(self.params.srs.period_slots)
        self._sequence: int | None = None
        self._parts: list[Segment] = []
        self._problems: deque[tuple[str, dict[str, Any]]] = deque(maxlen=64)
        self._same: list[list[int]] = []
        self._n_lost_messages = self._n_without_matrix = 0

    def capabilities(self) -> Capabilities:
        channels = None if self.ledger is None else len(self.ledger.array.channel_map)
        return Capabilities(channels=channels, timebase="device", sync=True)

    def connect(self, timeout_s: float) -> None:
        if self._socket is None:
            self._bind()
        self._sequence, self._parts = None, []
        end_s = time.monotonic() + timeout_s
        without = 0
        while time.monotonic() < end_s:
            for indication in self._indications(max(0.0, end_s - time.monotonic())):
                matrices = [p.report for p in indication.pdus if isinstance(p.report, ChannelMatrix)]
                without += not matrices
                if matrices:
                    self._early.append(indication)
            if self._early:
                n_antennas = next(
                    p.report.h.shape[1] for p in self._early[0].pdus if isinstance(p.report, ChannelMatrix)
                )
                self.keep_ledger(n_antennas, self.params.srs.frequency_hz, {"cfr": {"scale": "arbitrary"}})
                return
        if self._problems:
            why = f"what came there cannot be read: {self._problems[-1][1].get('why')}"
            fix = f"is the profile {self.params.profile!r} right? Others are nfapi, nfapi-18, packed"
        elif without:
            why = f"{without} came without a channel matrix (beam management reports, or none)"
            fix = "configure SRS of usage codebook in the base station"
        else:
            why, fix = "nothing came", "let the base station send its P7 messages there, and attach a terminal"
        raise self.failure(f"no SRS.indication at {self.uri}", why, fix)

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        assert self.ledger is not None
        indications = list(self._early) or self._indications(timeout_s)
        self._early.clear()
        out = [self.ledger.event(event, **values) for event, values in self._problems]
        self._problems.clear()
        for indication in indications:
            for pdu in indication.pdus:
                out += self._frames(indication, pdu)
        return [("cfr", frame) for frame in out]

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def stats(self) -> dict[str, Any]:
        told = {"messages_lost": self._n_lost_messages, "without_matrix": self._n_without_matrix}
        return {**super().stats(), **told}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _new_clock(self) -> FrameClock:
        return FrameClock(FRAMES_PER_CYCLE * self._slots_per_frame, FRAME_S / self._slots_per_frame)

    def _start_device(self) -> str:
        """The simulated base station sends to a socket that is there before it."""
        self.uri = self.uri or "udp://127.0.0.1:0"
        self._bind()
        assert self._socket is not None
        host, port = self._socket.getsockname()
        told = {"fapi_profile": self.params.profile, **self.params.device, "fapi_to": f"{host}:{port}"}
        self._device = EmbeddedDevice(self.server_module, told)
        if self._device.addresses() is None:
            why = f"not ready in {START_S:g} s, or it ended: {self._device.last_words()}"
            raise self.failure(f"{self.server_module} did not start", why, "correct `device`")
        return f"udp://{host}:{port}"

    def _bind(self) -> None:
        scheme, _, rest = self.uri.rpartition("://")
        host, _, port = rest.rpartition(":")
        if scheme not in ("", "udp") or not host or not port.isascii() or not port.isdigit():
            raise self.failure(f"uri {self.uri!r} is no address", "expected udp://host:port", "correct `uri`")
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        listener.setblocking(False)
        try:
            listener.bind((host, int(port)))
        except (OSError, OverflowError) as error:
            listener.close()
            raise self.failure(
                f"cannot receive at {self.uri}", str(error), "give an address of this host and a free port"
            ) from error
        self._socket = listener

    def _indications(self, timeout_s: float) -> list[SrsIndication]:
        """What comes within ``timeout_s``."""
        assert self._socket is not None
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return []
        out: list[SrsIndication] = []
        while len(out) < _MOST_AT_ONCE:
            try:
                datagram = self._socket.recv(_LARGEST_DATAGRAM)
            except BlockingIOError:
                break
            try:
                body = self._whole(decode_segment(datagram, self.params.profile))
                if body is not None:
                    out.append(decode_srs_indication(body, self.params.profile))
            except WireError as error:
                self._problems.append(("corrupt", {"why": str(error)}))
        return out

    def _whole(self, segment: Segment) -> bytes | None:
        """Put segments together; the body of an SRS.indication when it is whole."""
        if segment.sequence is not None and segment.number == 0:
            if self._sequence is not None:
                lost = (segment.sequence - self._sequence - 1) % 256
                if lost:
                    self._n_lost_messages += lost
                    self._problems.append(("messages_lost", {"messages": lost}))
            self._sequence = segment.sequence
            self._parts = []
        if segment.number != len(self._parts) or segment.sequence != self._sequence:
            self._parts = []
            raise WireError(f"segment {segment.number} of message {segment.sequence} came without those before it")
        self._parts.append(segment)
        if sum(len(part.body) for part in self._parts) > MAX_MESSAGE:
            self._parts = []
            raise WireError(f"a message of more than {MAX_MESSAGE} bytes")
        if segment.more:
            return None
        parts, self._parts = self._parts, []
        return b"".join(part.body for part in parts) if segment.message == SRS_INDICATION else None

    def _frames(self, indication: SrsIndication, pdu: SrsPdu) -> list[Frame]:
        ledger = self.ledger
        assert ledger is not None
        if not isinstance(pdu.report, ChannelMatrix):
            self._n_without_matrix += 1
            return []
        place = indication.sfn * self._slots_per_frame + indication.slot
        now_s, out = time.monotonic(), list[Frame]()
        if not self._clock.follows(place, now_s, _EARLY_S, _LATE_S):
            self._clock, self._sequence = self._new_clock(), None
            self._occasions.forget()
            out += ledger.new_epoch("restart")
        count = self._clock.unwrap(place, now_s)
        h = pdu.report.h
        if h.shape[1] != len(ledger.array.channel_map):
            why = f"{h.shape[1]} antennas of rnti {pdu.rnti}, {len(ledger.array.channel_map)} before"
            return [*out, ledger.event("corrupt", why=why)]
        step = SUBCARRIERS_PER_RB * pdu.report.prg_size
        number = self.params.srs.first_subcarrier + step * np.arange(h.shape[2], dtype=np.float64)
        offset_hz = (number - SUBCARRIERS_PER_RB * self.params.srs.n_rb // 2) * (self.params.srs.scs_khz * 1e3)
        lost = self._occasions.missed(pdu.rnti, count) * h.shape[0]
        for port, iq in enumerate(h):
            meta: dict[str, Any] = {"frame": indication.sfn, "slot": indication.slot, "port": port}
            if pdu.timing_advance_ns is not None:
                meta["toa_ns"] = [pdu.timing_advance_ns]
            same = same_antennas(iq)
            if same:
                meta["duplicate_antennas"] = same
            if same != self._same:
                self._same = same
                out.append(ledger.event("duplicate_antennas", antennas=same))
            out += ledger.data(
                tick=None,
                n_samples=0,
                time_ns=round(count * FRAME_S / self._slots_per_frame * 1e9),
                timebase="device",
                lost=Loss(frames=lost if port == 0 else 0),
                meta=meta,
                cfr=(np.ascontiguousarray(iq), "sensor subcarrier component", "count"),
                subcarrier_hz=(offset_hz, "subcarrier", "Hz"),
                rnti=(np.array(pdu.rnti, np.int64), "", ""),
            )
        return out
