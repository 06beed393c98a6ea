"""What drivers of live devices share: they connect, lose their device, wait, find it again, and tell of all of it.

A subclass says how to connect, fetch and disconnect; when and how often that is tried, what is told meanwhile, and how
long a device may be gone is the same for all of them.
"""

from __future__ import annotations

import logging
import time
from typing import Annotated, Any

from msgspec import Meta

from drivers.base import Driver
from drivers.embedded import START_S, EmbeddedDevice
from drivers.ledger import Ledger
from hil.array_params import Array, build_array
from hil.errors import DriverError
from hil.frame import Frame
from hil.params import Count, Params, Seconds
from hil.source import Reading

log = logging.getLogger(__name__)

#: Waits between attempts to find a device again: the first, and the longest.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
#: An event about a device that is gone: at most one in so long.
_GONE_EVERY_S = 1.0


class ConnectionLost(DriverError):
    """The device has gone or hangs; :class:`LiveDriver` looks for it again."""


class LiveParams(Params, frozen=True, kw_only=True):
    """Parameters that all drivers of live devices have."""

    uri: Annotated[str | None, Meta(description="where the device is")] = None
    embedded: Annotated[bool, Meta(description="start the simulated device as a child process")] = False
    device: Annotated[dict[str, Any], Meta(description="parameters of the embedded device's server")] = {}
    array: Annotated[Array | None, Meta(description="where the antennas are; absent: a line, half a wavelength")] = None
    n_samples: Annotated[Count, Meta(le=1 << 24, description="samples a channel in a frame")] = 4096
    connect_timeout_s: Annotated[Seconds, Meta(le=600, description="for the first connection")] = 10.0
    silence_s: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description="a device silent for so long counts as gone",
            extra_json_schema={"unit": "s"},
        ),
    ] = 3.0
    reconnect_s: Annotated[
        Seconds | None, Meta(description="give up after looking for a lost device for so long; absent: never")
    ] = None

    def __post_init__(self) -> None:
        if self.embedded == (self.uri is not None):
            raise ValueError("give either uri (of a device) or embedded=true (and device={...})")


class LiveDriver(Driver):
    """Base of drivers of live devices. Subclasses implement ``connect``, ``fetch`` and ``disconnect``.

    Attributes:
        ledger: Accounts of the first output; made by ``connect`` through :meth:`keep_ledger`.
        uri: Where the device is.
    """

    params: LiveParams
    #: Python module of the simulated device, started where ``embedded``.
    server_module: str = ""

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self.uri = self.params.uri or ""
        self.ledger: Ledger | None = None
        self.n_reconnects = 0
        self._device: EmbeddedDevice | None = None
        self._resumed: int | None = None
        self._gone_since: float | None = None
        self._why_gone = ""
        self._next_try_s = self._told_gone_s = 0.0
        self._wait_s = FIRST_WAIT_S
        self._heard_s = time.monotonic()
        self._waiting: list[tuple[str, Frame]] = []

    # -- for subclasses --------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        """Connect to ``self.uri`` and call :meth:`keep_ledger`.

        Raises:
            DriverError: Says what, why and what to do (see :meth:`failure`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no connect()")

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        """Return what came within ``timeout_s``, numbered by the ledger.

        Raises:
            ConnectionLost: The device has gone; it is looked for again.
            DriverError: It can never go on.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fetch()")

    def disconnect(self) -> None:
        """Let go of the device. Called after each loss and at the end, also where ``connect`` failed half-way."""
        raise NotImplementedError(f"{type(self).__name__} has no disconnect()")

    def keep_ledger(self, n_channels: int, frequency_hz: float | None, extra: dict[str, Any] | None = None) -> Ledger:
        """Return the ledger of the first output: made at the first connection, kept through later ones.

        Raises:
            DriverError: The declared array has another number of channels than the device.
        """
        port = next(iter(self.outputs))
        if self.ledger is None:
            array = build_array(self.params.array, n_channels, frequency_hz)
            if len(array.channel_map) != n_channels:
                raise self.failure(
                    "the array does not fit the device",
                    f"{len(array.channel_map)} channels are declared, the device gives {n_channels}",
                    "correct `array` (its channel_map), or choose the channels to read",
                )
            self.ledger = Ledger(f"{self.name}.{port}", array, extra)
            if self._resumed is not None:
                self.ledger.resume(self._resumed)
        self.ledger.frequency_hz = frequency_hz
        return self.ledger

    # -- Source ----------------------------------------------------------------------------------------------------

    def resume(self, seq: int) -> None:
        self._resumed = seq

    def open(self) -> None:
        if self.params.embedded:
            self.uri = self._start_device()
        try:
            self.connect(self.params.connect_timeout_s)
        except BaseException:
            self.disconnect()
            raise
        self._heard_s = time.monotonic()
        assert self.ledger is not None, "connect() keeps a ledger"
        self._waiting = [(next(iter(self.outputs)), self.ledger.descriptor())]

    def read(self, timeout_s: float) -> Reading:
        ledger, port = self.ledger, next(iter(self.outputs))
        assert ledger is not None, "read() before open()"
        if self._waiting:
            out, self._waiting = self._waiting, []
            return out
        if self._gone_since is not None:
            return self._look_for_device(timeout_s)
        try:
            out = self.fetch(timeout_s)
            now = time.monotonic()
            if any(frame.header.kind == "data" for _, frame in out):
                self._heard_s = now
                return [*((port, f) for f in ledger.descriptor_due()), *out]
            if now - self._heard_s > self.params.silence_s and self.may_be_silent is False:
                raise ConnectionLost(f"nothing came for {self.params.silence_s} s")
            return out
        except ConnectionLost as error:
            log.warning("%s: lost the device: %s", self.name, error)
            self.disconnect()
            self._gone_since = time.monotonic()
            self._why_gone = str(error)
            self._wait_s = FIRST_WAIT_S
            self._next_try_s = self._gone_since + self._wait_s
            self._told_gone_s = self._gone_since
            return [(port, ledger.event("disconnected", why=self._why_gone, seconds=0.0))]

    #: Whether ``connect`` found that the device has counted on since the connection before: what is missing is known.
    ticks_go_on: bool = False

    #: Whether a device that gives nothing may be well: one that was stopped on purpose, or a feed of rare events.
    may_be_silent: bool = False

    def close(self) -> None:
        self.disconnect()
        if self._device is not None:
            self._device.close()
            self._device = None

    def stats(self) -> dict[str, Any]:
        told = {} if self.ledger is None else self.ledger.stats()
        return {**told, "reconnects": self.n_reconnects, "connected": self._gone_since is None}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _look_for_device(self, timeout_s: float) -> Reading:
        ledger, port = self.ledger, next(iter(self.outputs))
        assert ledger is not None
        assert self._gone_since is not None
        now = time.monotonic()
        gone_s = now - self._gone_since
        if now >= self._next_try_s:
            try:
                self.connect(max(timeout_s, 0.5))
            except DriverError as error:
                self.disconnect()
                self._why_gone = str(error)
                limit_s = self.params.reconnect_s
                if limit_s is not None and gone_s > limit_s:
                    raise self.failure(
                        f"the device has been gone for {gone_s:.1f} s", self._why_gone, "see to the device"
                    ) from error
                self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
                self._next_try_s = time.monotonic() + self._wait_s
            else:
                self._gone_since = None
                self._heard_s = time.monotonic()
                self.n_reconnects += 1
                again = ledger.new_epoch("reconnect", ticks_go_on=self.ticks_go_on, seconds=gone_s)
                return [(port, f) for f in again]
        else:
            time.sleep(max(0.0, min(timeout_s, self._next_try_s - now)))
        if time.monotonic() - self._told_gone_s < _GONE_EVERY_S:
            return []
        self._told_gone_s = time.monotonic()
        return [(port, ledger.event("disconnected", why=self._why_gone, seconds=gone_s))]

    def _start_device(self) -> str:
        self._device = EmbeddedDevice(self.server_module, self.params.device)
        addresses = self._device.addresses()
        if addresses is None:
            status = self._device.status
            why = f"not ready in {START_S:g} s" if status is None else f"it ended ({status})"
            raise self.failure(
                f"{self.server_module} did not start", f"{why}: {self._device.last_words()}", "correct `device`"
            )
        uri: str = addresses["uri"]
        return uri
