"""Runs one graph: starts its workers, is itself the worker ``main``, ends them all in order.

``main`` is for blocks that cannot live elsewhere: those with a callback, and all of them in an inline run.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import zmq

from hil.errors import HilError, WorkerError
from hil.frame import Frame
from hil.graph import MAIN, Graph
from hil.runtime import graph_control, leftovers, registry, workers
from hil.runtime.control import ControlServer
from hil.runtime.edge import pool_prefix
from hil.runtime.plan import make_plan, make_worker, open_incoming, open_outgoing
from hil.runtime.prometheus import serve_metrics
from hil.runtime.shm_pool import ShmPool
from hil.runtime.summary import Totals
from hil.runtime.tap import with_taps
from hil.runtime.worker import NAP_S, Outgoing, Worker

log = logging.getLogger(__name__)

_SNAPSHOT_S = 0.5


class Options(NamedTuple):
    """How to run; see :meth:`hil.graph.Graph.run`."""

    seconds: float | None = None
    frames: int | None = None
    on_frame: Mapping[str, Callable[[Frame], None]] = {}
    inline: bool = False
    control: str = "tcp://127.0.0.1:*"
    on_ready: Callable[[str], None] | None = None
    metrics_port: int | None = None
    drain_s: float = 10.0


class Supervisor:
    """Runs one graph once."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self._graph = with_taps(graph, options.on_frame)
        self._graph.validate()
        self._options = options
        self._failure: HilError | None = None
        self._stopped_at: float | None = None
        self._interrupts = 0
        self._main: Worker | None = None
        self._main_ended_inputs: list[str] = []
        self._snapshot = Totals(graph.name)
        self._next_snapshot = 0.0
        self._events: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Run to the end; return the summary. Raises what :meth:`hil.graph.Graph.run` says."""
        with contextlib.ExitStack() as stack:
            leftovers.sweep()
            self._directory = stack.enter_context(leftovers.run_directory())
            self._context: zmq.Context[Any] = zmq.Context()
            stack.callback(self._context.destroy, linger=0)
            self._plan = make_plan(self._graph, self._directory, inline=self._options.inline)
            self._pool = ShmPool(pool_prefix(self._plan.run, MAIN))
            stack.callback(self._pool.close)
            stack.callback(self._close_main)
            self._workers = workers.Workers(
                self._graph,
                self._plan,
                self._directory,
                self._context,
                workers.Owner(self._fail, self._event, self._main_ended_inputs.append, self._discard),
                self._options.frames,
            )
            stack.callback(self._workers.close)
            owner = graph_control.Owner(self._stop, self._pause, self._totals, self._events)
            handler = graph_control.GraphControl(self._graph, self._plan, self._workers, owner)
            self._control = ControlServer(handler, self._options.control, context=self._context)
            stack.callback(self._control.close)
            stack.enter_context(registry.registered(self._graph.name, self._control.endpoint))
            if self._options.metrics_port is not None:
                stack.enter_context(serve_metrics(self._options.metrics_port, lambda: self._snapshot))
            stack.enter_context(self._signals())
            start = time.monotonic()
            try:
                self._start()
                self._run_to_the_end()
            except HilError as error:  # of the worker main, or of a start
                self._fail(error)
                self._close_main()
                self._shut_down()
            if self._failure is not None:
                raise self._failure
            return self._totals().summary(
                duration_s=time.monotonic() - start, events=self._events, restarts=self._workers.restarts
            )

    # -- start -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._workers.spawn_all()
        plan = self._plan.workers.get(MAIN)
        outgoing: dict[tuple[str, str], list[Outgoing]] = {}
        if plan is not None:
            outgoing = open_outgoing(plan, self._workers.edges, self._directory, self._pool, self._context)
            bound = {o.label: getattr(o.sender, "endpoint", "") for outs in outgoing.values() for o in outs}
            self._workers.note_endpoints(bound)
        self._wait_until("bound")
        if self._stopped_at is not None:
            # A worker that has not said hello yet would not hear that it may go on, and be waited for in vain.
            self._workers.abort_unstarted()
            return
        self._workers.connect_all()
        if plan is not None:
            nodes = [self._graph.nodes[name] for name in plan.nodes]
            incoming = open_incoming(plan, self._workers.edges, self._directory, self._plan.run, self._context)
            self._main = make_worker(
                plan, nodes, outgoing, incoming, lambda: self._look(0.0), max_frames=self._options.frames
            )
            self._main.setup()
            self._main.open()
        self._wait_until("running")
        if self._options.on_ready is not None:
            self._options.on_ready(self._control.endpoint)

    def _wait_until(self, phase: Literal["bound", "running"]) -> None:
        end = time.monotonic() + workers.START_TIMEOUT_S
        while not self._workers.all_reached(phase) and self._stopped_at is None:
            self._look(0.05)
            if self._main is not None:
                self._main.step(0.0)
            if time.monotonic() > end:
                raise WorkerError(
                    f"worker {self._workers.late[0]!r} did not start within {workers.START_TIMEOUT_S:.0f} s"
                )
        if self._failure is not None:
            raise self._failure

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run_to_the_end(self) -> None:
        end = None if self._options.seconds is None else time.monotonic() + self._options.seconds
        while not self._all_ended():
            if end is not None and time.monotonic() >= end:
                end = None
                self._stop("time is over")
            if self._stopped_at is not None and time.monotonic() > self._stopped_at + self._options.drain_s:
                late = ", ".join(self._workers.late) or MAIN
                log.warning("not drained within %.1f s: %s ended", self._options.drain_s, late)
                self._event("not_drained", late, after_s=self._options.drain_s)
                self._workers.abort_all()
                break
            self._step()

    def _step(self) -> None:
        main = self._main
        if main is None or main.finished:
            self._look(NAP_S)
            return
        main.step(NAP_S)
        while self._main_ended_inputs:
            main.end_input(self._main_ended_inputs.pop(0))

    def _all_ended(self) -> bool:
        return (self._main is None or self._main.finished) and self._workers.all_ended

    def _look(self, timeout_s: float) -> None:
        """Look after workers, control plane and signals; the main worker calls it often."""
        self._workers.look(timeout_s)
        self._control.poll()
        if self._interrupts:
            self._stop("interrupted")
        now = time.monotonic()
        if self._options.metrics_port is not None and now >= self._next_snapshot:
            # The scrape comes in a thread: it gets totals that nobody changes any more.
            self._snapshot, self._next_snapshot = self._totals(), now + _SNAPSHOT_S

    # -- ends --------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        """End the sources; what they gave is worked through."""
        if self._stopped_at is not None:
            return
        log.info("stopping: %s", reason)
        self._stopped_at = time.monotonic()
        self._workers.stop()
        if self._main is not None:
            self._main.stop_sources()

    def _fail(self, error: HilError) -> None:
        if self._failure is None:
            self._failure = error
        self._stop("failed")

    def _shut_down(self) -> None:
        """After a failure: let what still lives finish, so that recordings are whole."""
        self._workers.main_failed()
        self._workers.abort_unstarted()
        end = time.monotonic() + self._options.drain_s
        while not self._workers.all_ended and time.monotonic() < end:
            self._look(NAP_S)

    def _close_main(self) -> None:
        main, self._main = self._main, None
        if main is not None:
            main.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C drains and ends; a second one gives up draining; a third is Python's own."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(signum: int, frame: object) -> None:
            self._interrupts += 1
            if self._interrupts == 2 and self._stopped_at is not None:
                self._stopped_at = -float("inf")
            elif self._interrupts > 2:
                raise KeyboardInterrupt

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    # -- for others --------------------------------------------------------------------------------------------------

    def _pause(self, paused: bool) -> None:
        self._workers.pause(paused)
        if self._main is not None:
            self._main.paused = paused

    def _discard(self, label: str) -> None:
        if self._main is not None:
            self._main.discard(label)

    def _event(self, event: str, worker: str, **fields: Any) -> None:
        self._events.append({"event": event, "worker": worker, "time_ns": time.time_ns(), **fields})

    def _totals(self) -> Totals:
        totals = Totals(self._graph.name)
        for stats in self._workers.stats():
            totals.add(stats)
        if self._main is not None:
            totals.add(self._main.stats())
        return totals
