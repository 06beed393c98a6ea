"""iiod as a protocol server: unmodified libiio clients connect to the simulated array."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from hil.errors import ParamError
from sim_device.device import XlArrayDevice
from sim_device.servers.iiod import ad9361_chip
from sim_device.servers.iiod.ad9361_board import FMCOMMS2, FMCOMMS5, board
from sim_device.servers.iiod.buffers import Buffers
from sim_device.servers.iiod.context import Context
from sim_device.servers.iiod.generic import BITS, LIMITS, MAX_CHANNELS, generic
from sim_device.servers.iiod.radio import Radio
from sim_device.servers.iiod.registers import Registers
from sim_device.servers.iiod.session import Services, Session
from sim_device.servers.iiod.wire import ClientSocket
from sim_device.servers.protocol_faults import FaultKind
from sim_device.servers.protocol_server import TICK_S, ProtocolServer, ServerParams

_MAX_CLIENTS = 64
_N_CHANNELS = {"ad9361": 2, "fmcomms5": 4}


class IiodParams(ServerParams, frozen=True, kw_only=True):
    """Parameters of the server."""

    model: Annotated[
        Literal["ad9361", "fmcomms5", "iio"], Meta(description="2 channels, 4, or as many as the array has")
    ] = "ad9361"
    port: Annotated[int, Meta(ge=0, le=65535, description="30431 is libiio's own; 0: any that is free")] = 0


class IiodServer(ProtocolServer):
    """iiod of libiio 0.24 on the simulated array.

    ``lose_packets`` and ``clock_jump`` are not among the faults: the protocol runs over TCP and its devices have no
    clock.
    """

    family: ClassVar[str] = "iiod"
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = (
        "stall",
        "drop_connection",
        "short_read",
        "error",
        "corrupt",
        "overrun",
        "retune",
    )
    device_defaults: ClassVar[Mapping[str, Any]] = {
        "frequency_hz": 2.4e9,
        "sample_rate_hz": 3e6,
        "real_time": False,
    }
    params: IiodParams

    def __init__(self, params: Mapping[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__(params, control_endpoint)
        self.registers = Registers()
        try:
            self.context, radio = self._make_context()
            if self.params.loop_ticks is not None:  # brought into the converter's form before anybody waits for it
                radio.counts(0, 1)
                self.feed.head = 0
            self._socket = socket.create_server((self.params.host, self.params.port))
        except OSError as error:
            super().close()
            raise ParamError(
                f"server 'iiod': {self.params.host}:{self.params.port} cannot be bound: {error}; another server has "
                f"it, so choose another port, or 0"
            ) from error
        except BaseException:
            super().close()
            raise
        self._socket.settimeout(TICK_S)
        self.buffers = Buffers(radio, self.registers)
        self._services = Services(self.context, self.buffers, self.faults, self.ending)
        self._clients: set[ClientSocket] = set()
        self._lock = threading.Lock()
        self.n_accepted = 0

    def make_device(self) -> XlArrayDevice:
        n = _N_CHANNELS.get(self.params.model)
        array = {"kind": "ula", "n": 8 if n is None else n}
        device = XlArrayDevice(self.family, **{**self.device_defaults, "array": array, **self.params.device})
        n_channels = len(device.array.channel_map)
        if n is not None and n_channels != n:
            raise ParamError(
                f"server 'iiod': model {self.params.model} has {n} channels, device.array has {n_channels}; "
                f"correct the array, or use model iio"
            )
        if n_channels > MAX_CHANNELS:
            raise ParamError(f"server 'iiod': a context has at most {MAX_CHANNELS} channels, got {n_channels}")
        return device

    def _make_context(self) -> tuple[Context, Radio]:
        model, loop_ticks = self.params.model, self.params.loop_ticks
        description = f"simulated {model}, {self.feed.n_channels} channels"
        if model == "iio":
            radio = Radio(self.feed, 1, BITS, LIMITS, LIMITS.bandwidth_hz.high, loop_ticks)
            return generic(radio, self.registers, description), radio
        names = FMCOMMS2 if model == "ad9361" else FMCOMMS5
        limits = ad9361_chip.LIMITS
        for what in ("frequency_hz", "sample_rate_hz", "gain_db"):
            low, _, high = getattr(limits, what)
            if not low <= (value := getattr(self.feed, what)) <= high:
                raise ParamError(f"server 'iiod': device.{what}={value:g}: an AD9361 has {low:g} .. {high:g}")
        radio = Radio(self.feed, len(names.chips), ad9361_chip.BITS, limits, 18e6, loop_ticks)
        return board(radio, self.registers, names, description), radio

    @property
    def uri(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"ip:{host}:{port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def begin(self) -> None:
        self.thread(self._accept)

    def close(self) -> None:
        self.ending.set()
        self._socket.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()
        super().close()

    def stats(self) -> dict[str, Any]:
        return {
            **super().stats(),
            "clients": len(self._clients),
            "clients_seen": self.n_accepted,
            "overflows": self.registers.n_overflows,
        }

    def _accept(self) -> None:
        while not self.ending.is_set():
            try:
                sock, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                if self.ending.is_set():
                    return  # it was closed
                raise
            with self._lock:
                if len(self._clients) >= _MAX_CLIENTS:
                    sock.close()
                    continue
                client = ClientSocket(sock, self.ending)
                self._clients.add(client)
                self.n_accepted += 1
            self.thread(self._serve, client)

    def _serve(self, client: ClientSocket) -> None:
        try:
            Session(client, self._services).serve()
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()
