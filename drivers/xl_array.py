"""The simulated array, over its sockets: what a graph reads where no hardware is."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import zmq
from msgspec import Meta

from drivers.base import Capabilities, Driver
from drivers.embedded import START_S, EmbeddedDevice
from drivers.xl_array_verbs import XlArrayVerbs
from hil.errors import ControlError, DriverTimeout
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.params import Params, Seconds
from hil.runtime.control import ControlClient
from hil.runtime.frame_client import FrameClient
from hil.source import Reading
from hil.streams import IQ, TRUTH, port_of

#: Frames that one read returns at most, so that a fast device does not keep the caller.
_BATCH = 16
#: Events about a device that is gone: at most one in so long.
_GONE_EVERY_S = 1.0
#: How long a device may take to answer a command; one that was restarted, and has just been heard.
_ANSWER_S, _RESTART_ANSWER_S = 2.0, 0.5

log = logging.getLogger(__name__)


class XlArrayParams(Params, frozen=True):
    """Where the simulated array is, or what to start."""

    endpoint: Annotated[str | None, Meta(description="frames of a running device, tcp://127.0.0.1:5555")] = None
    control_endpoint: Annotated[str | None, Meta(description="its control socket; absent: as the device tells")] = None
    embedded: Annotated[bool, Meta(description="start the device as a child process, with the parameters `device`")] = (
        False
    )
    device: Annotated[dict[str, Any], Meta(description="parameters of the embedded device")] = {}
    module: Annotated[str, Meta(description="Python module that is the embedded device")] = "sim_device.serve"
    connect_timeout_s: Annotated[Seconds, Meta(le=600)] = 10.0

    def __post_init__(self) -> None:
        if self.embedded == (self.endpoint is not None):
            raise ValueError("give either endpoint (of a running device) or embedded=true (and device={...})")


@dataclass
class _Life:
    """One life of the device, from its start to its end: how its numbers map to those of this driver's streams."""

    instance: str
    seq_base: int
    epoch_base: int
    began_now: bool  # while this driver listened; else it runs since who knows when
    n_reconnects: int = 0
    started: bool = False


@dataclass
class _Stream:
    """One stream of the device."""

    port: str
    client: FrameClient
    life: _Life | None = None
    reconnects_seen: int = 0
    reconnects_of_life: int = 0
    resumed: int | None = None  # last number that was delivered before this driver was started again
    next_seq: int | None = None  # device's number of the frame after the last that came
    n_samples: int = 0  # in a frame
    ended: bool = False


@dataclass
class _Counters:
    frames: int = 0
    frames_lost: int = 0
    samples_lost: int = 0
    samples_clipped: int = 0
    reconnects: int = 0


class XlArray(XlArrayVerbs, Driver):
    """Frames of the simulated array, with the truth.

    A device that is restarted goes on in a new epoch (an event ``reconnect`` tells of it) with frame numbers that
    follow on; a frame number that is missing is a frame that is lost, and counted in the next header. While the device
    is gone, reads return in time with nothing, or with an event ``disconnected`` once a second. A gap in the numbers
    before a device that was restarted was first heard again is what its new life had sent meanwhile; what its old life
    took with it cannot be known.
    """

    params: XlArrayParams
    outputs = {"iq": port_of(IQ), "truth": port_of(TRUTH)}
    verbs = XlArrayVerbs.names

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._device: EmbeddedDevice | None = None
        self._context: zmq.Context[Any] | None = None
        self._streams: list[_Stream] = []
        self._control: ControlClient | None = None
        self._lives: dict[str, _Life] = {}
        self._pending: list[tuple[str, Frame]] = []
        self._resumed: int | None = None
        self._top_seq = self._top_epoch = -1
        self._gone_since: float | None = None
        self._told_gone = 0.0
        self._last = Header(stream=f"{self.name}.iq", seq=0)
        self._count = _Counters()
        self._capabilities = Capabilities()

    # -- Source ----------------------------------------------------------------------------------------------------

    def resume(self, seq: int) -> None:
        self._resumed = self._top_seq = seq

    def open(self) -> None:
        end = time.monotonic() + self.params.connect_timeout_s
        endpoint, control_endpoint = self._addresses()
        self._context = zmq.Context()
        self._streams = [
            _Stream(port, FrameClient(endpoint, streams=[port], context=self._context), resumed=self._resumed)
            for port in self.outputs
        ]
        first = [self._first_descriptor(stream, endpoint, end) for stream in self._streams]
        try:
            self._connect_control(control_endpoint, first[0].header, _ANSWER_S)
            params = self.ask("describe")["params"]
            self._start_life()
        except ControlError as error:
            raise self.failure("the device takes no commands", str(error), "correct control_endpoint") from error
        self._capabilities = Capabilities(
            channels=len(first[0].header.meta["array"]["channel_map"]),
            tune_hz=(0.0, 1e12),
            gain_db=(-120.0, 120.0),
            sample_rate_hz=(0.0, 1e11),
            timebase="utc" if params["real_time"] else "device",
            sync=True,
        )

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def read(self, timeout_s: float) -> Reading:
        if self._streams and all(s.ended for s in self._streams):
            return None
        end = time.monotonic() + timeout_s
        while True:
            out, self._pending = [*self._pending, *self._fetch()], []
            left_s = end - time.monotonic()
            if out or left_s <= 0 or all(s.ended for s in self._streams):
                break
            poller = zmq.Poller()
            for stream in self._streams:
                poller.register(stream.client.socket, zmq.POLLIN)
            # woken now and then, as the clients look for a device that was restarted
            poller.poll(math.ceil(min(left_s, 0.1) * 1000))
        return out or self._look_after_device()

    def close(self) -> None:
        for stream in self._streams:
            stream.client.close()
        if self._control is not None:
            self._control.close()
        if self._context is not None:
            self._context.term()
        if self._device is not None:
            self._device.close()
        self._streams, self._control, self._context, self._device = [], None, None, None

    def stats(self) -> dict[str, Any]:
        return {**asdict(self._count), "connected": self._gone_since is None}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _addresses(self) -> tuple[str, str | None]:
        p = self.params
        if p.endpoint is not None:
            return p.endpoint, p.control_endpoint
        # it waits for the verb start, which open() sends once it listens: nothing is given before
        self._device = EmbeddedDevice(p.module, {"autostart": False, **p.device})
        addresses = self._device.addresses()
        if addresses is None:
            status = self._device.status
            why = f"not ready in {START_S:g} s" if status is None else f"it ended with status {status}"
            raise self.failure(
                f"{p.module} did not start", f"{why}: {self._device.last_words()}", "correct `device`, see its message"
            )
        return addresses["endpoint"], addresses["control"]

    def _first_descriptor(self, stream: _Stream, endpoint: str, end: float) -> Frame:
        while (left_s := end - time.monotonic()) > 0:
            frame = stream.client.receive(min(left_s, 0.1))
            if frame is not None and frame.header.kind == "descriptor":
                stream.reconnects_seen = stream.client.n_reconnects
                self._pending += self._described(stream, frame)
                return frame
        raise self.failure(
            f"no simulated array answers at {endpoint}",
            f"nothing came for {self.params.connect_timeout_s} s",
            f"start one with `python -m sim_device.serve --endpoint {endpoint}`, or correct the endpoint",
            DriverTimeout,
        )

    def _connect_control(self, endpoint: str | None, descriptor: Header, timeout_s: float) -> None:
        endpoint = endpoint or descriptor.meta.get("link", {}).get("control")
        if endpoint is None:
            raise ControlError("it does not tell where its control socket is: give control_endpoint")
        if self._control is not None:
            self._control.close()
        self._control = ControlClient(endpoint, timeout_s, context=self._context)

    def ask(self, verb: str, **args: Any) -> Any:
        if self._control is None:
            raise ControlError(f"{self.name}: {verb}: the driver is not open")
        return self._control.request(verb, **args)

    def _start_life(self) -> None:
        """Let the device begin once all streams listen; one that is running takes no notice."""
        life = self._streams[0].life
        if life is not None and not life.started and all(s.life is life for s in self._streams):
            self.ask("start")
            life.started = True

    # -- frames ----------------------------------------------------------------------------------------------------

    def _fetch(self) -> list[tuple[str, Frame]]:
        """What has come, up to a batch of each stream, in the order of frame numbers."""
        out: list[tuple[str, Frame]] = []
        for stream in self._streams:
            for _ in range(_BATCH):
                frame = None if stream.ended else stream.client.receive(0.0)
                if frame is None:
                    break
                out += self._taken(stream, frame)
        out.sort(key=lambda item: item[1].header.seq)
        return out

    def _taken(self, stream: _Stream, frame: Frame) -> list[tuple[str, Frame]]:
        kind = frame.header.kind
        if kind == "eof":
            stream.ended = True
            stream.client.release()
            return []
        if kind == "descriptor":
            return self._described(stream, frame)
        life = stream.life
        assert life is not None, "a server describes each stream before its first frame"
        header = self._accounted(stream, life, frame.header) if kind == "data" else frame.header
        return [(stream.port, self._translated(stream, life, Frame(header, frame.arrays)))]

    def _described(self, stream: _Stream, frame: Frame) -> list[tuple[str, Frame]]:
        """A descriptor says which life of the device speaks. It comes first on every new connection."""
        link = frame.header.meta.get("link", {})
        instance = str(link.get("instance", ""))
        before, out = stream.life, []
        reconnected = stream.client.n_reconnects != stream.reconnects_seen
        stream.reconnects_seen = stream.client.n_reconnects
        life = self._lives.get(instance)
        if life is None:
            first = not self._lives
            began_now = not first or self._device is not None
            life = self._lives[instance] = _Life(
                instance, self._top_seq + 1 if began_now else 0, 0 if first else self._top_epoch + 1, began_now
            )
            if not first:
                self._count.reconnects += 1
        if life is not before:
            stream.life, stream.reconnects_of_life = life, 0
            stream.next_seq = 0 if life.began_now else None
        elif reconnected:
            stream.reconnects_of_life += 1
            if stream.reconnects_of_life > life.n_reconnects:
                life.n_reconnects += 1
                self._count.reconnects += 1
        if before is not None and (life is not before or reconnected):
            event = frame.header.replace(kind="event", meta={"event": "reconnect", "restarted": life is not before})
            out.append((stream.port, self._translated(stream, life, Frame(event))))
        if before is not None:  # also where the device did not answer at the descriptor before
            self._begin_again(life, frame.header)
        return [*out, (stream.port, self._translated(stream, life, frame))]

    def _begin_again(self, life: _Life, descriptor: Header) -> None:
        """Find the control socket of a device that was restarted, and let it begin."""
        if life.started:
            return
        try:
            self._connect_control(self.params.control_endpoint, descriptor, _RESTART_ANSWER_S)
            self._start_life()
        except ControlError as error:
            log.warning("%s: the device was restarted, but takes no commands yet: %s", self.name, error)

    def _accounted(self, stream: _Stream, life: _Life, header: Header) -> Header:
        """Add to the header what went missing and the device did not report: what the connection lost."""
        if not life.began_now and stream.resumed is not None:
            if header.seq <= stream.resumed:  # the device began anew as well
                life.seq_base, stream.next_seq = stream.resumed + 1, 0
            else:
                stream.next_seq = stream.resumed + 1
            stream.resumed = None
        if "snapshot" in (axes := header.arrays[0].axes):
            stream.n_samples = header.arrays[0].shape[axes.index("snapshot")]
        expected = header.seq if stream.next_seq is None else stream.next_seq
        silent = header.seq - expected - header.lost.frames
        stream.next_seq = header.seq + 1
        if silent > 0:
            lost = header.lost.plus(Loss(frames=silent, samples=silent * stream.n_samples))
            header = header.replace(lost=lost)
        if stream.port == "iq":
            self._count.frames += 1
            self._count.frames_lost += header.lost.frames
            self._count.samples_lost += header.lost.samples
            self._count.samples_clipped += header.lost.clipped
        return header

    def _translated(self, stream: _Stream, life: _Life, frame: Frame) -> Frame:
        header = frame.header
        header = header.replace(
            stream=f"{self.name}.{stream.port}",
            seq=header.seq + life.seq_base,
            epoch=header.epoch + life.epoch_base + life.n_reconnects,
            host_time_ns=time.time_ns(),
        )
        if header.kind == "data":
            self._top_seq = max(self._top_seq, header.seq)
        self._top_epoch = max(self._top_epoch, header.epoch)
        if stream.port == "iq":
            self._last = header
        return Frame(header, frame.arrays)

    def _look_after_device(self) -> Reading:
        """Nothing came: say so where the device is gone."""
        if all(s.ended for s in self._streams):
            return None
        if self._device is not None and self._device.status is not None:
            raise self.failure(
                f"the embedded device ended with status {self._device.status}",
                self._device.last_words(),
                "start the driver again",
            )
        now = time.monotonic()
        if all(s.ended or s.client.connected for s in self._streams):
            self._gone_since = None
            return []
        if any(s.ended for s in self._streams):
            return None  # the device ended its stream and has gone
        self._gone_since = self._gone_since or now
        if now - self._told_gone < _GONE_EVERY_S:
            return []
        self._told_gone = now
        meta = {"event": "disconnected", "seconds": now - self._gone_since}
        event = self._last.replace(kind="event", arrays=(), lost=NO_LOSS, meta=meta, host_time_ns=time.time_ns())
        return [("iq", Frame(event))]
