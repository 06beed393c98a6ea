"""IQ from srsRAN's ZeroMQ radio: a REQ socket a channel, one byte asked for each answer of raw complex64.

Time is the count of samples, which all channels share from the start of the connection on: ``time_ns`` is that count at
the sample rate, in the timebase ``device``. The protocol numbers nothing. An answer that does not come whole (the
connection broke, or it ends within a sample) leaves a channel shifted against the others by nobody knows how much:
the driver then connects all channels anew, and frames of several channels say ``meta = {"usable": false}`` from there
on, until both sides are started anew or their alignment is measured.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import zmq
from msgspec import Meta

from drivers.base import Capabilities
from drivers.ledger import Ledger
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from drivers.sample_joiner import Joined, Piece, SampleJoiner
from drivers.zmq_feeds import Feeds
from hil.errors import DriverTimeout, ParamError
from hil.frame import Frame
from hil.params import Hz
from hil.streams import IQ, port_of

_ITEM_BYTES = 8
_ASK = b"\xff"
#: A channel is not asked while so many frames of it wait for the others.
_MAX_AHEAD = 16
_FIX = "correct `uri`: srsran://HOST:PORT,PORT with a port a channel, or tcp://HOST:PORT,tcp://HOST:PORT"


class SrsRanParams(LiveParams, frozen=True, kw_only=True):
    sample_rate_hz: Annotated[Hz, Meta(description="of the cell (base_srate); the protocol does not tell")] = 11.52e6
    frequency_hz: Annotated[Hz | None, Meta(description="of the cell; the protocol does not tell")] = None


class SrsRan(LiveDriver):
    """srsRAN's ZeroMQ radio, ``uri="tcp://HOST:2000,tcp://HOST:2002"`` or ``"srsran://HOST:2000,2002"``."""

    params: SrsRanParams
    server_module = "sim_device.servers.srsran"
    outputs = {"iq": port_of(IQ)}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._feeds: Feeds | None = None
        self._joiner = SampleJoiner(1, 1, 1, np.dtype(np.complex64))
        self._came: list[int] = []
        self._backlog: list[tuple[int, list[zmq.Frame]]] = []
        self._in_step = True

    def capabilities(self) -> Capabilities:
        return Capabilities(channels=len(self._came) or None, timebase="device", sync=True)

    def connect(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        endpoints = self._endpoints()
        try:
            self._feeds = Feeds(zmq.REQ, endpoints)
            up = self._feeds.wait_up(end_s)
        except zmq.ZMQError as error:
            raise self.failure("there is no such address", f"{endpoints}: {error}", _FIX) from error
        except ConnectionLost as error:
            raise self.failure(
                "the radio does not answer", str(error), "it must be srsRAN's `tx` side: a ZeroMQ REP socket"
            ) from error
        if not up:
            raise self.failure(
                f"nothing answers at {', '.join(self._feeds.down)}",
                f"no connection in {timeout_s:g} s",
                "start srsRAN with device_driver zmq, or correct `uri` (its tx_port)",
                DriverTimeout,
            )
        if self.ledger is not None and len(endpoints) > 1:
            self._in_step = False  # an answer that was under way is lost, and not in all channels
        self._came = [0] * len(endpoints)
        self._joiner = SampleJoiner(len(endpoints), 1, self.params.n_samples, np.dtype(np.complex64))
        silent = set(range(len(endpoints)))
        while silent and (messages := self._receive(end_s, silent)):
            self._backlog += messages
            silent -= {i for i, _ in messages}
        if silent:
            raise self.failure(
                f"nothing comes from {', '.join(endpoints[i] for i in sorted(silent))}",
                f"it is connected, but did not answer in {timeout_s:g} s",
                "srsRAN sends while its cell runs: see to its log",
                DriverTimeout,
            )
        try:
            ledger = self.keep_ledger(len(endpoints), self.params.frequency_hz)
        except ParamError as error:
            raise self.failure(
                "the array cannot be laid out", str(error), "give frequency_hz, or an array with its own measures"
            ) from error
        ledger.sample_rate_hz = self.params.sample_rate_hz

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        assert self.ledger is not None, "fetch() before connect()"
        end_s = time.monotonic() + timeout_s
        out: list[Frame] = []
        while not out:
            messages, self._backlog = self._backlog or self._receive(end_s), []
            if not messages:
                break
            for i, parts in messages:
                self._take(i, parts)
            while (joined := self._joiner.take()) is not None:
                out += self._data(joined, self.ledger)
        return [("iq", frame) for frame in out]

    def disconnect(self) -> None:
        if self._feeds is not None:
            self._feeds.close()
        self._feeds, self._backlog = None, []

    # -- inside ----------------------------------------------------------------------------------------------------

    def _endpoints(self) -> list[str]:
        uri = self.uri
        if uri.startswith("srsran://"):
            host, _, ports = urlsplit(uri).netloc.rpartition(":")
            if host and all(p.isdecimal() and 0 < int(p) < 65536 for p in ports.split(",")):
                return [f"tcp://{host}:{port}" for port in ports.split(",")]
        else:
            endpoints = [part.strip() for part in uri.split(",")]
            if all(e.startswith(("tcp://", "ipc://")) for e in endpoints):
                return endpoints
        raise self.failure("there is no such address", repr(uri), _FIX)

    def _receive(self, end_s: float, of: Collection[int] | None = None) -> list[tuple[int, list[zmq.Frame]]]:
        """Ask channels (those of ``of``, or all) and take their answers."""
        assert self._feeds is not None
        limit = _MAX_AHEAD * self.params.n_samples
        chosen = range(len(self._came)) if of is None else of
        wanted = [i in chosen and self._joiner.n_waiting(i) < limit for i in range(len(self._came))]
        for i, want in enumerate(wanted):
            if want:
                self._feeds.ask(i, _ASK)
        return self._feeds.receive(end_s, wanted)

    def _take(self, i: int, parts: list[zmq.Frame]) -> None:
        data = memoryview(parts[-1].buffer)
        n, rest = divmod(len(data), _ITEM_BYTES)
        if rest:
            # the count of this channel is not known from here on, nor whether it is still in step with the others
            raise ConnectionLost(f"channel {i}: an answer of {len(data)} bytes ends within a sample: it is damaged")
        self._joiner.put(i, Piece(self._came[i], np.frombuffer(data, np.complex64).reshape(1, n)))
        self._came[i] += n

    def _data(self, joined: Joined, ledger: Ledger) -> list[Frame]:
        rate_hz = self.params.sample_rate_hz
        numerator, denominator = rate_hz.as_integer_ratio()
        meta = {} if self._in_step else {"usable": False, "why": "channels may be shifted since the connection broke"}
        return ledger.data(
            meta=meta,
            tick=joined.item,
            n_samples=joined.samples.shape[1],
            time_ns=joined.item * 1_000_000_000 * denominator // numerator,
            timebase="device",
            iq=(joined.samples, "sensor snapshot", "FS"),
        )
