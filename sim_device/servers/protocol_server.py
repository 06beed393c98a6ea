"""What all protocol servers share: parameters, threads, faults on command, a control socket, an end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, cast

import zmq
from msgspec import Meta

from hil.errors import ControlError
from hil.params import Count, Params, convert_params, params_schema, params_to_plain, params_type
from hil.runtime.control import ControlServer, call_verb
from sim_device.device import XlArrayDevice
from sim_device.paths import get_path, with_path
from sim_device.servers.protocol_faults import FaultBoard, FaultKind
from sim_device.servers.sample_feed import SampleFeed

log = logging.getLogger(__name__)

#: Longest wait before an end is noticed; threads of servers wait no longer in one go.
TICK_S = 0.05
#: How long a thread may take to notice that the server ends.
_JOIN_S = 5.0


class ServerParams(Params, frozen=True, kw_only=True):
    """Parameters of any protocol server."""

    device: Annotated[dict[str, Any], Meta(description="the simulated array, see docs/sim-device.md")] = {}
    host: Annotated[str, Meta(description="address to listen at")] = "127.0.0.1"
    loop_ticks: Annotated[
        Annotated[Count, Meta(le=1 << 24)] | None,
        Meta(description="compute so many samples once and repeat them, to feed a client at full speed"),
    ] = None


class ProtocolServer:
    """One simulated device behind a hardware protocol.

    Subclasses bind their sockets in ``__init__`` (after ``super().__init__``), start threads with :meth:`thread` in
    :meth:`begin`, look at :attr:`ending` at least every ``TICK_S`` and close their sockets in :meth:`close`.

    Attributes:
        feed: Samples and time.
        faults: What a client may be shown to go wrong.
        ending: Set when the server shall end.
    """

    #: Name of the family: "iiod", "usrp" ...
    family: ClassVar[str] = ""
    fault_kinds: ClassVar[tuple[FaultKind, ...]] = ()
    #: Parameters of the device that this family has other defaults for.
    device_defaults: ClassVar[Mapping[str, Any]] = {}
    params: ServerParams

    verbs: ClassVar[tuple[str, ...]] = ("describe", "get", "set", "stats", "fault")

    def __init__(self, params: Mapping[str, Any], control_endpoint: str = "tcp://127.0.0.1:*") -> None:
        kind = cast(type[ServerParams], params_type(type(self)))
        self.params = convert_params(kind, params, f"server {self.family!r}")
        self.feed = SampleFeed(self.make_device(), self.params.loop_ticks)
        self.faults = FaultBoard(self.fault_kinds)
        self.ending = threading.Event()
        self.n_threads_failed = 0
        self._threads: list[threading.Thread] = []
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self.control = ControlServer(self._handle, control_endpoint, context=self._context)
        except BaseException:
            self._context.term()
            raise

    def make_device(self) -> XlArrayDevice:
        return XlArrayDevice(self.family, **{**self.device_defaults, **self.params.device})

    @property
    def addresses(self) -> dict[str, Any]:
        """How to reach it: at least ``uri`` (as its driver takes it), ``channels``, ``control`` and ``pid``."""
        channels = self.feed.n_channels
        return {"uri": self.uri, "channels": channels, "control": self.control.endpoint, "pid": os.getpid()}

    @property
    def uri(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no uri")

    def begin(self) -> None:
        """Start the threads that serve clients."""
        raise NotImplementedError(f"{type(self).__name__} has no begin()")

    def thread(self, target: Callable[..., None], *args: Any) -> None:
        """Run ``target`` in a thread that :meth:`close` waits for. What it raises is logged, and counted in
        ``stats()``; the server goes on for other clients."""

        def guarded() -> None:
            try:
                target(*args)
            except Exception:
                if not self.ending.is_set():
                    self.n_threads_failed += 1
                    log.exception("%s: a thread of the server failed", self.family)

        self._threads = [t for t in self._threads if t.is_alive()]
        thread = threading.Thread(target=guarded, daemon=True, name=f"{self.family}:{target.__name__}")
        self._threads.append(thread)
        thread.start()

    def run(self) -> None:
        """Serve until :meth:`end`."""
        self.begin()
        while not self.ending.is_set():
            self.control.poll(TICK_S)

    def end(self) -> None:
        """Let :meth:`run` return. May be called from a signal handler or another thread."""
        self.ending.set()

    def close(self) -> None:
        """End threads and the control socket; subclasses close their own sockets first."""
        self.ending.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                log.warning("%s: thread %s did not end in %s s", self.family, thread.name, _JOIN_S)
        self.control.close()
        self._context.term()

    # -- verbs -----------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what the device is: parameters with schema, verbs, faults that it can do, addresses."""
        return {
            "name": self.family,
            "kind": type(self).__name__,
            "params": params_to_plain(self.params),
            "schema": params_schema(type(self.params)),
            "device": params_to_plain(self.feed.device.params),
            "verbs": sorted({*self.verbs, *self.feed.device.verbs}),
            "faults": list(self.fault_kinds),
            **self.addresses,
        }

    def get(self, path: str = "") -> Any:
        """Return the device's parameter at a dotted path, all of them for an empty one."""
        return get_path(params_to_plain(self.feed.device.params), path)

    def set(self, path: str, value: Any) -> Any:
        """Set the device's parameter at a dotted path, from the first sample on that nobody has read. Return it."""
        plain = with_path(params_to_plain(self.feed.device.params), path, value)
        field = path.partition(".")[0]
        self.feed.command("set", {field: plain[field]})
        return self.get(path)

    def fault(self, kind: FaultKind, amount: float | None = None) -> list[str]:
        """Let the protocol go wrong once: stall, drop_connection, short_read, ... Return what it can do."""
        if kind == "retune" and kind in self.fault_kinds:
            self.feed.command("tune", {"frequency_hz": self.feed.frequency_hz * 1.01 if amount is None else amount})
            self.faults.n_done[kind] += 1
        elif kind == "clock_jump" and kind in self.fault_kinds:
            self.feed.jump(1.0 if amount is None else amount)
            self.faults.n_done[kind] += 1
        else:
            self.faults.put(kind, amount)
        return list(self.fault_kinds)

    def stats(self) -> dict[str, Any]:
        """Return counters: samples read, faults done and waiting; when tick 0 was, by the device's clock."""
        return {
            "tick": self.feed.head,
            "tick_0_utc_ns": self.feed.utc_ns(0),
            "faults_done": dict(self.faults.n_done),
            "faults_waiting": self.faults.n_waiting,
            "threads_failed": self.n_threads_failed,
        }

    def _handle(self, verb: str, args: dict[str, Any]) -> Any:
        if verb in self.verbs:
            return call_verb(self, self.verbs, verb, args)
        device = self.feed.device
        if verb not in device.verbs:
            raise ControlError(f"unknown verb {verb!r}: there are {', '.join(sorted({*self.verbs, *device.verbs}))}")
        return self.feed.command(verb, args)
