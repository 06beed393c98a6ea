"""Samples out of a GNU Radio flowgraph: its unmodified ZeroMQ sinks PUB, PUSH and REP, with and without tags, or PDUs.

Channels come interleaved in one sink (items that are vectors, one entry a channel) or out of a sink each. With tags
the count of items shows what a PUB sink dropped, and ``rx_time``, ``rx_freq``, ``rx_rate`` become time, frequency and
rate of the headers. Without them nothing of this is known: ``sample_start`` counts what came, the time is the host's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import zmq
from msgspec import Meta

from drivers.base import Capabilities
from drivers.gnuradio_address import Form, parse_address
from drivers.gnuradio_tags import TagClock, read_hz, read_time
from drivers.ledger import Ledger
from drivers.live import ConnectionLost, LiveDriver, LiveParams
from drivers.pace import Pace
from drivers.sample_joiner import Joined, Piece, SampleJoiner
from drivers.zmq_feeds import Feeds
from hil.errors import DriverTimeout, ParamError, WireError
from hil.formats import gr_zeromq, pmt
from hil.frame import Frame
from hil.params import Count, Hz
from hil.streams import IQ, RAW_IQ, port_of

_KINDS = {"sub": zmq.SUB, "pull": zmq.PULL, "req": zmq.REQ}
#: How each kind of item is joined: int16 in-phase and quadrature move as one.
_DTYPES = {"complex64": np.dtype(np.complex64), "int16": np.dtype(np.uint32)}
#: Messages that one fetch takes before it gives what they make.
_BATCH = 64
#: A flowgraph that was started anew has counted no further than its rate allows, its clock being off by no more.
_CLOCK_OFF, _START_S = 1.01, 0.1
#: A channel is not read on while so many frames of it wait for the others.
_MAX_AHEAD = 64

Message = tuple[int, list[zmq.Frame]]


class GnuRadioParams(LiveParams, frozen=True, kw_only=True):
    form: Annotated[Form, Meta(description="what the flowgraph's sinks are set to")] = Form()
    item: Annotated[
        Literal["complex64", "int16"], Meta(description="int16: in-phase and quadrature, interleaved shorts")
    ] = "complex64"
    full_scale: Annotated[float, Meta(gt=0, description="counts of full scale 1, for int16")] = 32768.0
    sample_rate_hz: Annotated[Hz | None, Meta(description="where no tag rx_rate says")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="where no tag rx_freq says")] = None
    tag_timebase: Annotated[Literal["device", "utc"], Meta(description="what the tag rx_time counts from")] = "device"
    hwm: Annotated[Count, Meta(le=65_536, description="messages that may wait in a socket")] = 256


class GnuRadio(LiveDriver):
    """Samples from GNU Radio's ZeroMQ sinks, ``uri="tcp://HOST:PORT"``, or several with commas, one a channel."""

    params: GnuRadioParams
    server_module = "sim_device.servers.gnuradio"
    outputs = {"iq": port_of(IQ)}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        if self.params.item == "int16":
            self.outputs = {"iq": port_of(RAW_IQ)}  # type: ignore[misc]
        self._dtype = _DTYPES[self.params.item]
        self._feeds: Feeds | None = None
        self._form = self.params.form
        self._n_feeds = 0
        self._backlog: list[Message] = []
        self._clock = TagClock()
        self._expected: list[int] = []
        #: Of the connection that was whole last, for the next.
        self._before = self._expected, self._clock
        self._joiner = SampleJoiner(1, 1, 1, self._dtype)
        self._pace, self._came = Pace(), 0
        self.n_bad_messages = 0

    def capabilities(self) -> Capabilities:
        timebase = self.params.tag_timebase if self._form.content == "tagged" else "host"
        n = self._n_feeds * self._form.vlen if self._n_feeds else None
        return Capabilities(channels=n, timebase=timebase, sync=True)

    # -- the device ------------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        endpoints = self._read_address()
        try:
            self._feeds = Feeds(_KINDS[self._form.socket], endpoints, key=self._form.key.encode(), hwm=self.params.hwm)
            up = self._feeds.wait_up(end_s)
            self._begin(len(endpoints))
            self._backlog = self._first_messages(end_s) if up else []
        except zmq.ZMQError as error:
            raise self.failure("there is no such address", f"{endpoints}: {error}", "correct `uri`") from error
        except ConnectionLost as error:
            raise self.failure(
                "the flowgraph does not answer",
                str(error),
                f"its sink must be one that {self._form.socket} connects to",
            ) from error
        if not up:
            raise self.failure(
                f"nothing answers at {', '.join(self._feeds.down)}",
                f"no connection in {timeout_s:g} s",
                "start the flowgraph with its ZeroMQ sink, or correct `uri`",
                DriverTimeout,
            )
        silent = set(range(len(endpoints))) - {i for i, _ in self._backlog}
        if self._form.content != "pdu" and silent:
            raise self.failure(
                f"nothing comes from {', '.join(endpoints[i] for i in sorted(silent))}",
                f"it is connected, but no message came in {timeout_s:g} s",
                "see whether the flowgraph runs" + (", and its key" if self._form.key else ""),
                DriverTimeout,
            )
        tags = self._look_at(self._backlog)
        self.ticks_go_on = self._is_the_same(self._before[0])
        if self.ticks_go_on:
            self._expected, self._clock = self._before
        self._keep(tags)
        self._before = self._expected, self._clock

    def fetch(self, timeout_s: float) -> list[tuple[str, Frame]]:
        assert self.ledger is not None and self._feeds is not None, "fetch() before connect()"
        end_s = time.monotonic() + timeout_s
        out: list[Frame] = []
        n = 0
        while not out or (n < _BATCH and not any(f.header.kind == "data" for f in out)):
            messages, self._backlog = self._backlog or self._receive(end_s), []
            if not messages:
                break
            n += len(messages)
            for i, parts in messages:
                out += self._taken(i, parts[-1], self.ledger)
            out += self._frames(self.ledger)
        return [("iq", frame) for frame in out]

    def disconnect(self) -> None:
        if self._feeds is not None:
            self._feeds.close()
        if self.ledger is not None:  # what is left belongs to the epoch that ends here
            self._waiting += [("iq", frame) for frame in self._flushed(self.ledger)]
        self._feeds, self._backlog = None, []

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "bad_messages": self.n_bad_messages}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read_address(self) -> list[str]:
        try:
            endpoints, self._form = parse_address(self.uri, self.params.form)
        except ParamError as error:
            raise self.failure("there is no such address", str(error), "correct `uri`") from error
        form = self._form
        self.may_be_silent = form.content == "pdu"
        if len(endpoints) > 1 and form.content == "pdu":
            raise self.failure("PDUs come from one socket", f"{len(endpoints)} are given", "interleave the channels")
        if len(endpoints) > 1 and form.content == "stream" and form.socket == "sub":
            raise self.failure(
                "channels of several PUB sinks without tags cannot be put side by side",
                "nothing tells which of their items belong together",
                "set pass_tags, or use PUSH or REP sinks, or interleave the channels in one sink",
            )
        if form.content == "pdu" and form.socket == "req":
            raise self.failure("PDUs are read by sub and pull", "socket is req", "use a PUB or PUSH message sink")
        return endpoints

    def _begin(self, n_feeds: int) -> None:
        """Forget what was of the connection before."""
        self._n_feeds = n_feeds
        self._joiner = SampleJoiner(n_feeds, self._form.vlen, self.params.n_samples, self._dtype)
        self._clock = TagClock()
        self._expected = [0] * n_feeds
        self._pace, self._came = Pace(), 0

    def _is_the_same(self, expected: Sequence[int]) -> bool:
        """Whether the flowgraph that answers is the one that was lost: its items are further than those of one that was
        started meanwhile can be, so that what is missing is known and what its tags told still holds."""
        if self.ledger is None or self.ledger.sample_rate_hz is None or self._form.content != "tagged":
            return False
        gone_s = time.monotonic() - self._heard_s
        newer = self.ledger.sample_rate_hz * (_CLOCK_OFF * gone_s + _START_S)
        firsts = {i: gr_zeromq.decode_tags(parts[-1].buffer).offset for i, parts in reversed(self._backlog)}
        return all(item > newer and item >= expected[i] for i, item in firsts.items())

    def _receive(self, end_s: float, of: Collection[int] | None = None) -> list[Message]:
        """Take what has come of the feeds ``of``, or of all."""
        assert self._feeds is not None
        limit = _MAX_AHEAD * self.params.n_samples
        chosen = range(self._n_feeds) if of is None else of
        wanted = [i in chosen and self._joiner.n_waiting(i) < limit for i in range(self._n_feeds)]
        if self._form.socket == "req":
            for i, want in enumerate(wanted):
                if want:
                    self._feeds.ask(i, self.params.n_samples.to_bytes(4, "little"))
        return self._feeds.receive(end_s, wanted)

    def _first_messages(self, end_s: float) -> list[Message]:
        """Wait for the first message of each feed, unless messages are rare."""
        out: list[Message] = []
        silent = set() if self._form.content == "pdu" else set(range(self._n_feeds))
        while silent and (messages := self._receive(end_s, silent)):
            out += messages
            silent -= {i for i, _ in messages}
        return out

    def _look_at(self, messages: list[Message]) -> tuple[gr_zeromq.Tag, ...]:
        """See whether messages are of the form that was declared; return the tags of the first.

        Raises:
            DriverError: They are not.
        """
        form, n_bytes = self._form, self._item_bytes
        for _, parts in messages:
            data = memoryview(parts[-1].buffer)
            try:
                header = gr_zeromq.decode_tags(data) if form.content == "tagged" else None
            except WireError as error:
                raise self.failure(
                    "the stream has no tags", str(error), "set pass_tags in the sink, or form.content=stream"
                ) from error
            rest = (len(data) - (header.n_bytes if header else 0)) % n_bytes
            if rest and form.content == "stream" and gr_zeromq.has_tags(data):
                raise self.failure(
                    "the stream has tags", "its messages begin as those with tags", "set form.content=tagged"
                )
            if rest:
                raise self.failure(
                    f"items are not of {n_bytes} bytes",
                    f"a message of {len(data)} bytes came",
                    "correct form.vlen and item to those of the sink",
                )
            if header is not None:
                return header.tags
        return ()

    def _keep(self, tags: tuple[gr_zeromq.Tag, ...]) -> None:
        """Make the ledger, or give it what the first tags say."""
        p = self.params
        told = {tag.key: read_hz(tag.value) for tag in tags if tag.key in ("rx_freq", "rx_rate")}
        known = self.ledger.frequency_hz if self.ledger is not None and self.ticks_go_on else p.frequency_hz
        raw = {"raw": {"full_scale": p.full_scale}} if p.item == "int16" else {}
        try:
            ledger = self.keep_ledger(self._n_feeds * self._form.vlen, told.get("rx_freq") or known, raw)
        except ParamError as error:
            raise self.failure(
                "the array cannot be laid out", str(error), "give frequency_hz, or an array with its own measures"
            ) from error
        ledger.sample_rate_hz = told.get("rx_rate") or ledger.sample_rate_hz or p.sample_rate_hz

    @property
    def _item_bytes(self) -> int:
        return self._dtype.itemsize * self._form.vlen

    # -- messages --------------------------------------------------------------------------------------------------

    def _taken(self, i: int, frame: zmq.Frame, ledger: Ledger) -> list[Frame]:
        """Take one message of feed ``i``; return the events that it makes, or its frame where it is a PDU."""
        data = memoryview(frame.buffer)
        try:
            if self._form.content == "pdu":
                return self._pdu(data, ledger)
            item, tags, place = gr_zeromq.TagHeader(self._expected[i], (), 0)
            if self._form.content == "tagged":
                item, tags, place = gr_zeromq.decode_tags(data)
        except WireError as error:
            return self._bad_message(ledger, str(error))
        out: list[Frame] = []
        n, rest = divmod(len(data) - place, self._item_bytes)
        bad = self._bad_message(ledger, f"it ends within an item, after {n}") if rest else []
        if item < self._expected[i]:  # the flowgraph was started anew
            out += self._frames(ledger) + self._flushed(ledger) + ledger.new_epoch("restart")
            self._begin(self._n_feeds)
            self._before = self._expected, self._clock
        self._expected[i] = item + n
        self._clock.put(tags)
        items = np.frombuffer(data, self._dtype, n * self._form.vlen, place)
        self._joiner.put(i, Piece(item, items.reshape(n, self._form.vlen).T))
        if bad and self._form.content == "stream":  # nothing else tells where it is: no frame goes across it
            out += self._frames(ledger) + self._flushed(ledger)
        return out + bad

    def _bad_message(self, ledger: Ledger, why: str) -> list[Frame]:
        """What cannot be read is left out: with tags the next message shows how much that was."""
        self.n_bad_messages += 1
        return [ledger.event("corrupt", why=why, samples=None)]

    def _frames(self, ledger: Ledger) -> list[Frame]:
        """Frames of what has come of all channels, and events where tags stand."""
        out: list[Frame] = []
        joiner, clock = self._joiner, self._clock
        while True:
            tagged = clock.next_item
            joined = joiner.take(tagged)
            if joined is None and (tagged is None or joiner.next_item is None or joiner.next_item < tagged):
                return out
            if joined is None:  # all before the tag has been given, but for a frame that is not whole
                out += clock.apply(int(joiner.next_item or 0), ledger, lambda: self._flushed(ledger))
            else:
                out += self._data(joined, ledger)

    def _flushed(self, ledger: Ledger) -> list[Frame]:
        joined = self._joiner.flush()
        return self._data(joined, ledger) if joined else []

    def _data(self, joined: Joined, ledger: Ledger) -> list[Frame]:
        samples, n = joined.samples, joined.samples.shape[1]
        axes, unit = "sensor snapshot", "FS"
        if self.params.item == "int16":
            samples, axes, unit = samples.view(np.int16).reshape(len(samples), n, 2), f"{axes} component", "count"
        time_ns, rate_hz = self._clock.time_ns(joined.item, ledger.sample_rate_hz), ledger.sample_rate_hz
        arrived_ns = time.time_ns() - (round(n / rate_hz * 1e9) if rate_hz else 0)
        self._came += n
        out: list[Frame] = []
        if rate_hz and self._form.content == "stream":
            missing_s = self._pace.missing_s(self._came / rate_hz, time.monotonic())
            if missing_s is not None:
                out.append(ledger.unnumbered_gap(missing_s))
        return out + ledger.data(
            tick=joined.item + self._clock.lost,
            n_samples=n,
            time_ns=arrived_ns if time_ns is None else time_ns,
            timebase="host" if time_ns is None else self.params.tag_timebase,
            iq=(samples, axes, unit),
        )

    def _pdu(self, data: memoryview, ledger: Ledger) -> list[Frame]:
        """A message as a frame of its own. Nothing tells what went missing before it."""
        message, _ = pmt.decode(data)
        if not isinstance(message, pmt.Pair) or not isinstance(message.cdr, np.ndarray):
            raise WireError("a PDU is a pair of a dict and a uniform vector")
        samples = message.cdr
        wanted = np.dtype(self.params.item)
        n, rest = divmod(samples.size, self._form.vlen * (2 if self.params.item == "int16" else 1))
        if samples.dtype != wanted or rest or not n:
            raise WireError(
                f"a PDU of {samples.size} {samples.dtype.name}, expected {wanted.name} of {self._form.vlen} channels"
            )
        meta = message.car if isinstance(message.car, dict) else {}
        self._clock.put(tuple(gr_zeromq.Tag(0, str(key), value) for key, value in meta.items() if key != "rx_time"))
        out = self._clock.apply(0, ledger, list)
        time_ns = read_time(meta.get("rx_time"))
        axes, unit = "sensor snapshot", "FS"
        shaped = samples.reshape(n, self._form.vlen, -1)
        if self.params.item == "int16":
            shaped, axes, unit = shaped.transpose(1, 0, 2), f"{axes} component", "count"
        else:
            shaped = shaped[..., 0].T
        ledger.next_tick = None
        return out + ledger.data(
            tick=None,
            n_samples=n,
            time_ns=time.time_ns() if time_ns is None else time_ns,
            timebase="host" if time_ns is None else self.params.tag_timebase,
            iq=(np.ascontiguousarray(shaped), axes, unit),
        )
