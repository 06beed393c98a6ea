"""KrakenSDR: coherent channels from its data acquisition, heimdall, in version 1 or 2 of the protocol.

Version 1 gives complex64 with a frame index (what is missing is counted exactly) and the time in milliseconds UTC.
Version 2 gives bytes, without a number and without a time: ``sample_start`` counts what came, the time is the host's.
Frames in which the receiver hears its noise source, is not synchronized or has not settled say so in the header:
``meta = {"usable": false, "why": "...", "noise_source": true}``.
"""

from __future__ import annotations

import socket
import time
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from drivers.base import Capabilities
from drivers.heimdall_address import Address, parse_address
from drivers.heimdall_reader import Commands, ReaderV1, ReaderV2, connect
from drivers.heimdall_state import FrameState, StateV1, StateV2
from drivers.ledger import Ledger
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from hil.errors import ControlError, DriverTimeout, ParamError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1
from hil.frame import AnyArray, Frame
from hil.params import Hz, Index, Seconds
from hil.streams import IQ, RAW_IQ_BYTES, port_of

#: Longest wait for the answer to a command.
_ANSWER_S = 5.0
#: A clock that is off by more than this from the count of samples has jumped.
CLOCK_JUMP_S = 0.25


class HeimdallParams(LiveParams, frozen=True, kw_only=True):
    require_sync: Annotated[
        bool,
        Meta(description="flag frames before the unit has corrected its channels; false: the graph does that"),
    ] = True
    sample_rate_hz: Annotated[Hz, Meta(description="version 2 only, whose packets do not tell")] = 2.4e6
    settle_s: Annotated[Seconds, Meta(le=600, description="version 2: data settle for so long after a retune")] = 3.0
    noise_settle_s: Annotated[
        Seconds, Meta(le=600, description="version 2: ... and for so long after the noise source went off")
    ] = 0.75


class Heimdall(LiveDriver):
    """KrakenSDR behind heimdall, ``uri="heimdall://HOST"`` (version 1) or ``"heimdall://HOST:8091"`` (version 2).

    ``n_samples`` means nothing here: the device chooses how long its frames are, and each is one frame of the stream.
    """

    params: HeimdallParams
    server_module = "sim_device.servers.heimdall"
    outputs = {"iq": port_of(IQ)}
    verbs: ClassVar[tuple[str, ...]] = ("tune", "set_gain")

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        version = int(self.params.device.get("version", 1))
        if self.params.uri is not None:
            version = parse_address(self.params.uri).version
        if version == 2:
            self.outputs = {"iq": port_of(RAW_IQ_BYTES)}  # type: ignore[misc]
        self._version = version
        self._socket: socket.socket | None = None
        self._reader: ReaderV1 | ReaderV2 | None = None
        self._commands: Commands | None = None
        self._first: tuple[Any, AnyArray] | None = None
        self._state: StateV1 | StateV2 = self._new_state()
        self._n_channels: int | None = None
        self._frame_s = 0.0
        self.n_resyncs = 0

    def capabilities(self) -> Capabilities:
        gains = heimdall.TUNER_GAINS_TENTH_DB
        return Capabilities(
            channels=self._n_channels,
            tune_hz=heimdall.TUNER_HZ,
            gain_db=(gains[0] / 10, gains[-1] / 10),
            timebase="utc" if self._version == 1 else "host",
            sync=True,
        )

    # -- the device ------------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        address = self._address()
        where = f"{address.host}:{address.port}"
        end = time.monotonic() + max(timeout_s, 2 * self._frame_s + 0.5 if self.ledger else 0.0)
        try:
            self._socket = connect(address.host, address.port, timeout_s)
        except OSError as error:
            raise self.failure(
                f"no heimdall answers at {where}",
                str(error),
                "start it on the KrakenSDR (version 1 listens at port 5000, version 2 at 8091), or correct `uri`",
            ) from error
        try:
            self._reader = ReaderV1(self._socket) if address.version == 1 else ReaderV2(self._socket)
            self._first = self._reader.read(end)
        except ConnectionLost as error:
            raise self.failure(
                f"what answers at {where} does not speak heimdall {address.version}",
                str(error),
                "correct `uri`: heimdall://HOST:PORT?version=1 or 2",
            ) from error
        if self._first is None:
            raise self.failure(
                f"heimdall at {where} gives nothing",
                f"it is connected, but no frame came in {timeout_s:g} s",
                "see to its log; "
                + ("version 2 listens at port 8091" if address.version == 1 else "version 1 listens at port 5000"),
                DriverTimeout,
            )
        header = self._first[0]
        if self._n_channels not in (None, header.n_channels):
            raise self.failure(
                "the device has changed", f"it had {self._n_channels} channels, now {header.n_channels}", "start anew"
            )
        self._n_channels = header.n_channels
        frequency_hz = float(header.frequency_hz if isinstance(header, HeaderV1) else header.frequency_hz[0])
        raw = {"raw": {"full_scale": heimdall.FULL_SCALE, "offset": heimdall.OFFSET}} if address.version == 2 else {}
        ledger = self.keep_ledger(header.n_channels, frequency_hz, raw)
        ledger.sample_rate_hz = float(
            header.sample_rate_hz if isinstance(header, HeaderV1) else self.params.sample_rate_hz
        )

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        reader, ledger = self._reader, self.ledger
        assert reader is not None and ledger is not None, "fetch() before connect()"
        got = self._first or reader.read(time.monotonic() + timeout_s)
        self._first = None
        if got is None:
            return []
        self._heard_s = time.monotonic()  # a frame without samples is a sign of life as well
        header, samples = got
        if isinstance(header, HeaderV1):
            assert isinstance(self._state, StateV1)
            frames = self._frames(ledger, self._state.next(header, ledger), samples)
        else:
            assert isinstance(reader, ReaderV2) and isinstance(self._state, StateV2)
            frames = self._frames(ledger, self._state.next(header, ledger, reader.skipped), samples)
            self.n_resyncs += reader.skipped > 0
        return [("iq", frame) for frame in frames]

    def disconnect(self) -> None:
        if isinstance(self._reader, ReaderV1):
            self._reader.leave()
        for part in (self._socket, self._commands):
            if part is not None:
                part.close()
        self._socket = self._reader = self._commands = self._first = None
        self._state.disconnected()

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "resyncs": self.n_resyncs, "frames_not_usable": self._state.n_not_usable}

    # -- verbs -----------------------------------------------------------------------------------------------------

    def tune(self, frequency_hz: Annotated[float, Meta(ge=heimdall.TUNER_HZ[0], le=heimdall.TUNER_HZ[1])]) -> float:
        """Set the centre frequency of all channels. The new epoch begins with the first frame that says so."""
        if self._version == 1:
            self._command("FREQ", round(frequency_hz))
        else:
            self._command("set_frequency", frequency=round(frequency_hz))
        return float(round(frequency_hz))

    def set_gain(self, gain_db: Annotated[float, Meta(ge=0, le=60)], channel: Index | None = None) -> float:
        """Set the gain of all channels, or of one: the nearest that the tuners have, which is returned."""
        n = self._n_channels
        if n is None or (channel is not None and channel >= n):
            raise ControlError(f"{self.name}: set_gain: channel {channel}, there are {n or 'none before it is open'}")
        gain = heimdall.nearest_gain_tenth_db(gain_db)
        chosen = range(n) if channel is None else (channel,)
        if self._version == 1:
            known = self._state.gain_tenth_db
            self._command("GAIN", *(gain if c in chosen else known[c] for c in range(n)))
        else:
            for c in chosen:
                self._command("set_gain", gain=gain / 10, channel=c)
        return gain / 10

    # -- inside ----------------------------------------------------------------------------------------------------

    def _address(self) -> Address:
        try:
            return parse_address(self.uri)
        except ParamError as error:
            raise self.failure("there is no such address", str(error), "correct `uri`") from error

    def _new_state(self) -> StateV1 | StateV2:
        p = self.params
        if self._version == 1:
            return StateV1(require_sync=p.require_sync, clock_jump_s=CLOCK_JUMP_S)
        return StateV2(
            require_sync=p.require_sync,
            sample_rate_hz=p.sample_rate_hz,
            settle_s=p.settle_s,
            noise_settle_s=p.noise_settle_s,
        )

    def _frames(self, ledger: Ledger, state: FrameState, samples: AnyArray) -> list[Frame]:
        """Events, then the samples."""
        if not samples.size:
            if state.lost.frames:
                ledger.lose(state.lost)
            return state.events
        n_samples = samples.shape[1]
        self._frame_s = n_samples / (ledger.sample_rate_hz or 1.0)
        axes, unit = ("sensor snapshot", "FS") if self._version == 1 else ("sensor snapshot component", "count")
        return state.events + ledger.data(
            tick=state.tick,
            n_samples=n_samples,
            time_ns=state.time_ns,
            timebase="utc" if self._version == 1 else "host",
            lost=state.lost,
            meta=state.meta,
            iq=(samples, axes, unit),
        )

    def _command(self, command: str, *values: int, **named: Any) -> None:
        """Send a command to the control port.

        Raises:
            ControlError: It was refused, or not answered.
        """
        address = self._address()
        where = f"{self.name}: {command} to {address.host}:{address.control_port}"
        try:
            why, first = "", self._commands is None
            if self._commands is None:
                self._commands = Commands(connect(address.host, address.control_port, _ANSWER_S))
            if address.version == 2:
                why = self._commands.send_v2(command, _ANSWER_S, **named)
            else:
                if first:
                    why = self._commands.ask_v1("INIT", timeout_s=_ANSWER_S)
                why = why or self._commands.ask_v1(command, *values, timeout_s=_ANSWER_S)
        except OSError as error:
            if self._commands is not None:
                self._commands.close()
                self._commands = None
            raise ControlError(f"{where}: {error}; see whether the control port is right") from error
        if why:
            raise ControlError(f"{where}: refused: {why}")
