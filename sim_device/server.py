"""A device on two sockets: frames on one, control requests on the other.

In real time the stream keeps to the clock: a client that falls behind loses the newest frames, and a device that falls
behind by more than ``FIFO_S`` passes over frames; both are counted in the next header. Otherwise the device's time goes
on only as fast as frames are taken, and while somebody takes them: nothing is lost.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any

import zmq
from msgspec import Meta

from hil.errors import ControlError, EdgeOverflow
from hil.frame import Frame
from hil.params import params_to_plain
from hil.runtime.control import ControlServer, call_verb, describe
from hil.runtime.frame_server import FrameServer
from sim_device.device import XlArrayDevice
from sim_device.paths import get_path, with_path

log = logging.getLogger(__name__)

LOOPBACK = "tcp://127.0.0.1:*"
#: How far a real-time device may fall behind before it passes over frames: the depth of its sample buffer.
FIFO_S = 0.25
#: Longest wait before commands and signals are looked at.
_IDLE_S = 0.05
#: How long clients may take to fetch what is left when the stream ends.
_DRAIN_S = 10.0
_NS_PER_S = 1_000_000_000


class DeviceServer:
    """Runs a device on two sockets.

    Args:
        params: Parameters of :class:`~sim_device.device.XlArrayDevice`.
        endpoint: Where frames are served.
        control_endpoint: Where control requests are answered.
    """

    verbs = ("describe", "get", "set", "start", "stop", "stats", "stall")

    def __init__(self, params: Mapping[str, Any], endpoint: str = LOOPBACK, control_endpoint: str = LOOPBACK) -> None:
        self.device = XlArrayDevice(**params)
        p = self.device.params
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[FrameServer | ControlServer] = []
        try:
            self.frames = FrameServer(
                endpoint,
                capacity=p.queue_frames,
                policy="drop_newest" if p.real_time else "block",
                name=self.device.name,
                context=self._context,
            )
            self._sockets.append(self.frames)
            self.control = ControlServer(self._handle, control_endpoint, context=self._context)
            self._sockets.append(self.control)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self.frames.socket, zmq.POLLIN)
        self._poller.register(self.control.socket, zmq.POLLIN)
        # tells one life of the device from the next, so that a driver knows when ticks and frames count from 0 again
        self._link = {"instance": os.urandom(8).hex(), "control": self.control.endpoint}
        self._stopping = threading.Event()
        self._streaming = self._was_started = False
        self._origin_ns = 0  # on the monotonic clock, of device time 0
        self._stalled_until = 0.0
        self._descriptors_due = 0.0

    @property
    def addresses(self) -> dict[str, Any]:
        return {"endpoint": self.frames.endpoint, "control": self.control.endpoint, "pid": os.getpid()}

    def end(self) -> None:
        """Let :meth:`run` return. May be called from a signal handler or another thread."""
        self._stopping.set()

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()
        self._context.term()

    def run(self) -> None:
        """Serve until :meth:`end`, or until the stream has ended and was fetched."""
        p = self.device.params
        self.device.samples(0, p.n_snapshots)  # what the first frame costs more than others is not to cost frames
        if p.real_time if p.autostart is None else p.autostart:
            self.start()
        while not self._stopping.is_set():
            self._describe()
            wait_s = self._wait_s()
            if wait_s > 0:
                self._poller.poll(math.ceil(min(wait_s, _IDLE_S) * 1000))
            self.control.poll()
            self.frames.poll()
            if self._wait_s() > 0:
                continue
            self._catch_up()
            ended = self.device.ended
            for frame in self.device.step():
                self._send(frame)
            if ended:
                if not self.frames.drain(_DRAIN_S):
                    log.warning("%s: the stream ended, but not all of it was fetched in time", self.device.name)
                return

    # -- verbs -----------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what the device is: parameters with schema, ports, verbs, addresses."""
        told = describe(self.device)
        own = {v: (getattr(self, v).__doc__ or "").partition("\n")[0] for v in self.verbs}
        return {**told, "control_verbs": own, **self.addresses, "streaming": self._streaming}

    def get(self, path: str = "") -> Any:
        """Return the parameter at a dotted path, all parameters for an empty one."""
        return get_path(params_to_plain(self.device.params), path)

    def set(self, path: str, value: Any) -> Any:
        """Set the parameter at a dotted path from the next frame on. Return it."""
        plain = with_path(params_to_plain(self.device.params), path, value)
        field = path.partition(".")[0]
        self.device.set_params(**{field: plain[field]})
        return self.get(path)

    def start(self) -> None:
        """Let the stream run; after a stop it goes on in a new epoch."""
        if self._streaming:
            return
        device = self.device
        now_ns = time.monotonic_ns()
        if not self._was_started:
            self._origin_ns = now_ns
            device.time_origin_ns = time.time_ns() if device.params.real_time else 0
        else:
            tick = device.tick
            if device.params.real_time:  # the clock went on while the stream stood
                behind_ns = now_ns - self._origin_ns - device.time_ns(tick)
                tick += max(0, int(behind_ns * device.params.sample_rate_hz / _NS_PER_S))
            device.restart(tick)
        self._streaming = self._was_started = True

    def stop(self) -> None:
        """Let the stream stand until it is started again."""
        self._streaming = False

    def stats(self) -> dict[str, Any]:
        """Return counters: frames, samples dropped and clipped, frames lost to overrun, clients, drops by client."""
        return {
            **self.device.stats(),
            "streaming": self._streaming,
            "clients": self.frames.n_clients,
            "frames_dropped": sum(q.n_dropped for q in self.frames.queues),
        }

    def stall(self, seconds: Annotated[float, Meta(ge=0, le=3600)]) -> None:
        """Give no frames for a while; in real time what is missed meanwhile is lost."""
        self._stalled_until = time.monotonic() + seconds

    # -- inside ----------------------------------------------------------------------------------------------------

    def _handle(self, verb: str, args: dict[str, Any]) -> Any:
        if verb in self.verbs:
            return call_verb(self, self.verbs, verb, args)
        if verb not in self.device.verbs:
            raise ControlError(
                f"unknown verb {verb!r}: there are {', '.join(sorted({*self.verbs, *self.device.verbs}))}"
            )
        return call_verb(self.device, self.device.verbs, verb, args)

    def _wait_s(self) -> float:
        """How long until the next frame is to be given; 0: now."""
        device, now = self.device, time.monotonic()
        if not self._streaming:
            return _IDLE_S
        if now < self._stalled_until:
            return self._stalled_until - now
        if not device.params.real_time:
            return 0.0 if self.frames.n_clients or device.ended else _IDLE_S
        return -self._behind_ns() / _NS_PER_S

    def _behind_ns(self) -> int:
        """Time since the last sample of the next frame was there."""
        device = self.device
        there_ns = self._origin_ns + device.time_ns(device.tick + device.params.n_snapshots)
        return time.monotonic_ns() - there_ns

    def _catch_up(self) -> None:
        device = self.device
        if not device.params.real_time or self._behind_ns() < FIFO_S * _NS_PER_S:
            return
        period_ns = device.params.frame_ticks * _NS_PER_S / device.params.sample_rate_hz
        n = int(self._behind_ns() / period_ns)
        if device.params.n_frames is not None:
            n = min(n, device.params.n_frames - device.seq)
        if n > 0:
            device.overrun(n)

    def _describe(self) -> None:
        now = time.monotonic()
        if now >= self._descriptors_due:
            self._descriptors_due = now + self.device.params.descriptor_period_s
            for frame in [*self.device.announcements(), *self.device.descriptors()]:
                self._send(frame)

    def _send(self, frame: Frame) -> None:
        header = frame.header
        if header.kind == "descriptor":
            frame = Frame(header.replace(meta={**header.meta, "link": self._link}))
        while not self._stopping.is_set():
            try:
                self.frames.send(frame, timeout_s=_IDLE_S)
                return
            except EdgeOverflow:  # nobody took one yet; commands are answered meanwhile
                self.control.poll()
