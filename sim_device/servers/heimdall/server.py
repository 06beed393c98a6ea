"""A KrakenSDR behind heimdall: a data port and a control port, in version 1 or 2 of the protocol."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from hil.errors import ControlError, WireError
from hil.params import Count, Hz, Seconds
from sim_device.servers.heimdall.receiver import Receiver
from sim_device.servers.heimdall.version1 import Version1
from sim_device.servers.heimdall.version2 import Version2
from sim_device.servers.protocol_faults import FaultKind
from sim_device.servers.protocol_server import TICK_S, ProtocolServer, ServerParams

log = logging.getLogger(__name__)

#: A unit with its five antennas on a circle, half a wavelength apart at this frequency.
_FREQUENCY_HZ = 433.92e6
_RADIUS_M = 0.294
#: Longest packet of version 2.
_MAX_V2_SAMPLES = 65536
#: A command is at most so long.
_MAX_COMMAND_BYTES = 4096


class HeimdallParams(ServerParams, frozen=True, kw_only=True):
    version: Annotated[Literal[1, 2], Meta(description="of the protocol")] = 1
    port: Annotated[int, Meta(ge=0, le=65535, description="for data; 0: the system chooses")] = 0
    control_port: Annotated[int, Meta(ge=0, le=65535, description="for commands; 0: the system chooses")] = 0
    n_samples: Annotated[
        Count, Meta(le=1 << 22, description="samples a channel in a frame (coherent processing interval)")
    ] = 16384
    adc_rate_hz: Annotated[Hz, Meta(description="of the converters; the samples may be decimated")] = 2.4e6
    calibration_s: Annotated[
        Seconds, Meta(le=600, description="a calibration after each start and retune takes so long, device time")
    ] = 1.0
    corrects: Annotated[
        bool, Meta(description="apply what was measured; false: delays and phases are left to who reads")
    ] = True

    def __post_init__(self) -> None:
        if self.version == 2 and self.n_samples > _MAX_V2_SAMPLES:
            raise ValueError(f"version 2 sends at most {_MAX_V2_SAMPLES} samples a packet, got {self.n_samples}")


class HeimdallServer(ProtocolServer):
    """KrakenSDR's heimdall: five coherent channels with a noise source, protocol version 1 or 2."""

    family = "heimdall"
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = (
        "stall", "drop_connection", "short_read", "error", "corrupt", "lose_packets", "overrun", "clock_jump", "retune",
    )  # fmt: skip
    device_defaults = {
        "array": {"kind": "uca", "n": 5, "radius_m": _RADIUS_M, "array_id": "kraken"},
        "frequency_hz": _FREQUENCY_HZ,
        "sample_rate_hz": 2.4e6,
    }
    params: HeimdallParams
    verbs = (*ProtocolServer.verbs, "recalibrate")

    def __init__(self, params: dict[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        p = self.params
        self.receiver = Receiver(self.feed, p.calibration_s, p.corrects, p.loop_ticks)
        self._listeners: list[socket.socket] = []
        try:
            self._data, self._commands = self._listen(p.port), self._listen(p.control_port)
            most = 5 if p.version == 2 else 32
            if self.feed.n_channels > most:
                raise ControlError(f"heimdall {p.version} has at most {most} channels, got {self.feed.n_channels}")
        except BaseException:
            self.close()
            raise
        kind = Version1 if p.version == 1 else Version2
        self.protocol = kind(self.receiver, self.faults, self.ending, p.n_samples, p.adc_rate_hz)

    @property
    def uri(self) -> str:
        data, commands = (s.getsockname()[1] for s in (self._data, self._commands))
        return f"heimdall://{self.params.host}:{data}?version={self.params.version}&control={commands}"

    def begin(self) -> None:
        self.thread(self._accept, self._data, self.protocol.serve_data)
        self.thread(self._accept, self._commands, self._serve_commands)
        self.thread(self.protocol.produce)

    def close(self) -> None:
        self.ending.set()
        for listener in self._listeners:
            listener.close()
        super().close()

    def recalibrate(self) -> None:
        """Begin a calibration with the noise source, as after a retune."""
        self.receiver.recalibrate(max(self.feed.head, self.feed.now_tick()))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listeners.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.params.host, port))
        except OSError as error:
            raise ControlError(f"cannot bind port {port} of {self.params.host}: {error}; choose another") from error
        listener.listen()
        listener.settimeout(TICK_S)
        return listener

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        """Serve each client in a thread of its own."""
        while not self.ending.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(TICK_S)
            self.thread(self._closing(serve), client)

    def _closing(self, serve: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
        def served(client: socket.socket) -> None:
            with client:
                try:
                    serve(client)
                except (ConnectionError, WireError) as error:
                    log.info("heimdall: a client is gone: %s", error)

        return served

    def _serve_commands(self, client: socket.socket) -> None:
        """Answer commands until the client goes."""
        waiting = b""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            while not self.ending.is_set():
                if not selector.select(TICK_S):
                    continue
                more = client.recv(_MAX_COMMAND_BYTES)
                if not more:
                    return
                waiting += more
                while (taken := self.protocol.next_command(waiting)) is not None:
                    command, waiting = taken
                    client.sendall(self._answer(command))
                if len(waiting) > _MAX_COMMAND_BYTES:
                    raise WireError(f"a command of more than {_MAX_COMMAND_BYTES} bytes")

    def _answer(self, command: bytes) -> bytes:
        try:
            if self.faults.take("error"):
                raise ControlError("commanded to refuse this one")
            for verb, args in self.protocol.verbs_of(command):
                self.feed.command(verb, args)
        except (ControlError, WireError) as error:
            return self.protocol.refusal(str(error))
        return self.protocol.done()
