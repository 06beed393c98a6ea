"""Starts the workers of a graph, watches them, restarts the dead, ends them all; answers the control plane.

The process that calls ``run`` is the supervisor. It is also the worker ``main``, for blocks that cannot live elsewhere:
those with a callback, and all of them in an inline run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import zmq

from hil.block import Block
from hil.errors import BlockError, ControlError, DriverError, EdgeOverflow, HilError, WorkerError
from hil.frame import Frame
from hil.graph import MAIN, Graph
from hil.params import Params, convert_params, params_to_plain
from hil.port import Port
from hil.runtime import registry
from hil.runtime.control import ControlServer, Deferred, call_verb, describe, node_verbs
from hil.runtime.edge import pool_prefix
from hil.runtime.plan import WorkerPlan, make_plan, make_worker, node_spec, open_incoming, open_outgoing
from hil.runtime.prometheus import serve_metrics
from hil.runtime.shm_pool import SHM_DIRECTORY, ShmPool
from hil.runtime.summary import Totals
from hil.runtime.worker import Worker
from hil.source import Source

log = logging.getLogger(__name__)

#: Until a worker has said "running": imports, dictionaries, device.
START_TIMEOUT_S = 120.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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


class Tap(Block):
    """Calls a function of the supervising process with each frame, of whatever kind."""

    inputs = {"x": Port.any()}
    own_worker = False

    def __init__(self, name: str, callback: Callable[[Frame], None]) -> None:
        super().__init__(name)
        self._callback = callback

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        self._callback(frame)
        return []


class _Process:
    """What the supervisor knows of one worker process."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.name = plan.placement.worker
        self.popen: subprocess.Popen[bytes] | None = None
        self.incarnation = 0
        self.phase = "new"  # new, started, bound, running, done, waiting (for its restart), gone
        self.heard = 0.0
        self.starts_at = 0.0
        self.restarts: deque[float] = deque()
        self.n_restarts = 0
        self.was_running = False
        self.report: dict[str, Any] | None = None
        self.stats: dict[str, Any] | None = None
        self.stats_before: list[dict[str, Any]] = []

    @property
    def identity(self) -> bytes:
        return f"{self.name}#{self.incarnation}".encode()

    @property
    def ended(self) -> bool:
        return self.phase in ("done", "gone")


class Supervisor:
    """Runs one graph once."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self._graph = _with_taps(graph, options.on_frame)
        self._graph.validate()
        self._options = options
        self._failure: HilError | None = None
        self._stopping_at: float | None = None
        self._interrupts = 0
        self._paused = False
        self._requests: dict[int, Deferred] = {}
        self._next_request = 0
        self._main: Worker | None = None
        self._ended_inputs: list[str] = []
        self._snapshot = Totals(graph.name)
        self._next_snapshot = 0.0
        self.events: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        self._directory = Path(tempfile.mkdtemp(prefix="hil-"))
        self._context: zmq.Context[Any] = zmq.Context()
        self._plan = make_plan(self._graph, self._directory, inline=self._options.inline)
        self._edges = dict(self._plan.edges)
        self._processes = {n: _Process(p) for n, p in self._plan.workers.items() if n != MAIN}
        self._line = self._context.socket(zmq.ROUTER)
        self._line.setsockopt(zmq.LINGER, 0)
        self._line.bind(f"ipc://{self._directory}/supervisor")
        self._pool = ShmPool(pool_prefix(self._plan.run, MAIN))
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._clean_up)
            self._control = ControlServer(self._handle_request, self._options.control, context=self._context)
            stack.callback(self._control.close)
            stack.enter_context(registry.registered(self._graph.name, self._control.endpoint))
            if self._options.metrics_port is not None:
                stack.enter_context(serve_metrics(self._options.metrics_port, lambda: self._snapshot))
            stack.enter_context(self._signals())
            try:
                self._start_all()
                self._run_to_the_end(start)
            except HilError as error:
                self._fail(error)
                self._shut_down()
            if self._failure is not None:
                raise self._failure
            return self._totals().summary(
                duration_s=time.monotonic() - start,
                events=self.events,
                restarts={n: p.n_restarts for n, p in self._processes.items() if p.n_restarts},
            )

    # -- start -------------------------------------------------------------------------------------------------------

    def _start_all(self) -> None:
        for process in self._processes.values():
            self._spawn(process)
        main = self._plan.workers.get(MAIN)
        outgoing = {}
        if main is not None:
            outgoing = open_outgoing(main, self._edges, self._directory, self._pool, self._context)
            bound = {o.label: getattr(o.sender, "endpoint", "") for outs in outgoing.values() for o in outs}
            self._note_endpoints(bound)
        self._wait_for_phase("bound", START_TIMEOUT_S)
        for process in self._processes.values():
            self._go(process)
        if main is not None:
            nodes = [self._graph.nodes[name] for name in main.nodes]
            incoming = open_incoming(main, self._edges, self._directory, self._plan.run, self._context)
            self._main = make_worker(main, nodes, outgoing, incoming, self._tick, max_frames=self._options.frames)
            self._main.setup()
            self._main.open()
        self._wait_for_phase("running", START_TIMEOUT_S)
        if self._options.on_ready is not None:
            self._options.on_ready(self._control.endpoint)

    def _spawn(self, process: _Process) -> None:
        placement = process.plan.placement
        env = dict(os.environ)
        env.update(dict.fromkeys(_BLAS, str(placement.blas_threads)))
        env["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
        command = [placement.python or sys.executable, "-m", "hil.runtime.process"]
        command += [f"ipc://{self._directory}/supervisor", process.name, str(process.incarnation)]
        try:
            # A session of its own: Ctrl-C is for the supervisor, which then ends the workers in order.
            process.popen = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise WorkerError(f"cannot start worker {process.name!r} with {command[0]}: {error}") from error
        process.phase, process.heard, process.report = "started", time.monotonic(), None

    def _send_spec(self, process: _Process) -> None:
        plan = process.plan
        labels = {*plan.outgoing, *plan.incoming}
        self._say(
            process,
            "spec",
            plan={**plan._asdict(), "placement": plan.placement._asdict()},
            directory=str(self._directory),
            run=self._plan.run,
            nodes=[tuple(node_spec(self._graph.nodes[n])) for n in plan.nodes],
            edges=[tuple(e) for e in self._edges.values() if e.label in labels],
            max_frames=self._options.frames,
        )

    def _go(self, process: _Process) -> None:
        labels = {*process.plan.outgoing, *process.plan.incoming}
        self._say(process, "go", endpoints={label: self._edges[label].endpoint for label in labels})

    def _note_endpoints(self, bound: Mapping[str, str]) -> None:
        for label, endpoint in bound.items():
            if endpoint:
                self._edges[label] = self._edges[label]._replace(endpoint=endpoint)

    def _wait_for_phase(self, phase: str, timeout_s: float) -> None:
        reached = {"bound": ("bound", "running", "done"), "running": ("running", "done")}[phase]
        end = time.monotonic() + timeout_s
        while not all(p.phase in reached or p.phase == "gone" for p in self._processes.values()):
            self._look(0.05)
            if self._main is not None:
                self._main.step(0.0)
            if self._failure is not None:
                raise self._failure
            if self._stopping_at is not None:
                return
            if time.monotonic() > end:
                late = [p.name for p in self._processes.values() if p.phase not in reached]
                raise WorkerError(f"worker {late[0]!r} did not start within {timeout_s:.0f} s")

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _run_to_the_end(self, start: float) -> None:
        end = None if self._options.seconds is None else time.monotonic() + self._options.seconds
        while not self._all_ended():
            if end is not None and time.monotonic() >= end:
                end = None
                self._stop("time is over")
            if self._stopping_at is not None and time.monotonic() > self._stopping_at + self._options.drain_s:
                self._give_up_draining()
                break
            self._step()
        log.info("graph %s ended after %.1f s", self._graph.name, time.monotonic() - start)

    def _step(self) -> None:
        main = self._main
        if main is None or main.finished:
            self._look(0.02)
        else:
            main.step(0.02)
            while self._ended_inputs and main is not None:
                main.end_input(self._ended_inputs.pop(0))

    def _all_ended(self) -> bool:
        main = self._main is None or self._main.finished
        return main and all(p.ended for p in self._processes.values())

    def _tick(self) -> None:
        """Called by the main worker's loop."""
        self._look(0.0)

    def _look(self, timeout_s: float) -> None:
        """Hear the workers and the control plane, and look whether anyone died or hangs."""
        if self._line.poll(int(timeout_s * 1000)):
            with contextlib.suppress(zmq.Again):
                while True:
                    identity, data = self._line.recv_multipart(zmq.NOBLOCK)
                    self._hear(identity, msgpack.unpackb(data))
        self._control.poll()
        now = time.monotonic()
        for process in self._processes.values():
            self._look_after(process, now)
        if self._interrupts and self._stopping_at is None:
            self._stop("interrupted")
        if self._options.metrics_port is not None and now >= self._next_snapshot:
            # The scrape comes in a thread: it gets totals that nobody changes any more.
            self._snapshot, self._next_snapshot = self._totals(), now + 0.5

    def _hear(self, identity: bytes, message: dict[str, Any]) -> None:
        process = next((p for p in self._processes.values() if p.identity == identity), None)
        if process is None:
            return  # of a worker that was replaced
        process.heard = time.monotonic()
        kind = message["type"]
        if kind == "hello":
            self._send_spec(process)
        elif kind == "bound":
            self._note_endpoints(message["endpoints"])
            process.phase = "bound"
            if process.incarnation:
                self._go(process)
        elif kind == "running":
            process.phase, process.was_running = "running", True
            if self._paused:
                self._say(process, "pause", paused=True)
            if self._stopping_at is not None:
                self._say(process, "stop")
        elif kind == "heartbeat":
            process.stats = message["stats"] or process.stats
        elif kind == "done":
            process.stats, process.phase = message["stats"], "done"
        elif kind == "error":
            process.report = message
        elif kind == "answer":
            deferred = self._requests.pop(message["id"], None)
            if deferred is not None:
                if message["ok"]:
                    deferred.resolve(message["value"])
                else:
                    deferred.refuse(message["error"], message["error_kind"])

    def _look_after(self, process: _Process, now: float) -> None:
        if process.ended or process.popen is None:
            return
        if process.phase == "waiting":
            if now >= process.starts_at:
                self._spawn(process)
            return
        if process.popen.poll() is not None:
            self._died(process, now)
            return
        running = process.phase == "running"
        patience_s = process.plan.placement.hang_timeout_s if running else START_TIMEOUT_S
        if now - process.heard > patience_s:
            log.warning("worker %s was silent for %.1f s: killed", process.name, patience_s)
            self._event("worker_hung", process.name, silent_s=patience_s)
            process.popen.kill()
            process.popen.wait()
            self._died(process, now)

    def _died(self, process: _Process, now: float) -> None:
        # Its last words may still be in the socket.
        with contextlib.suppress(zmq.Again):
            while True:
                identity, data = self._line.recv_multipart(zmq.NOBLOCK)
                self._hear(identity, msgpack.unpackb(data))
        if process.phase == "done":
            return
        assert process.popen is not None
        code = process.popen.returncode
        report = process.report
        if code == 0:  # ended on request
            process.phase = "gone"
            return
        how = report["text"] if report is not None else _how_it_died(code)
        self._event("worker_died", process.name, reason=how)
        if report is not None:
            log.debug("worker %s:\n%s", process.name, report["traceback"])
        error = self._as_error(process, report, how)
        while process.restarts and process.restarts[0] < now - 60:
            process.restarts.popleft()
        restarts_left = len(process.restarts) < process.plan.placement.max_restarts
        if not self._can_restart(process, report) or not restarts_left or self._stopping_at is not None:
            process.phase = "gone"
            if report is None and not restarts_left:
                error = WorkerError(f"{error}; it was restarted {len(process.restarts)} times within a minute")
            if self._stopping_at is None or report is not None:
                self._fail(error)
            self._end_inputs_of(process)
            self._discard_outputs_to(process)
            return
        wait_s = _BACKOFF_S[min(len(process.restarts), len(_BACKOFF_S) - 1)]
        log.warning("worker %s died (%s): restarted in %.1f s", process.name, how, wait_s)
        if process.stats is not None:
            process.stats_before.append(process.stats)
            process.stats = None
        process.restarts.append(now)
        process.n_restarts += 1
        process.incarnation += 1
        process.phase, process.starts_at = "waiting", now + wait_s

    def _can_restart(self, process: _Process, report: dict[str, Any] | None) -> bool:
        """Killed, crashed or hung: yes. A device that was there and has gone: yes. An error of a block: no."""
        if not process.was_running:
            return False
        if report is None:
            return True
        nodes = [self._graph.nodes[n] for n in process.plan.nodes]
        finite = any(n.finite for n in nodes if isinstance(n, Source))
        return report["error_kind"] in ("DriverError", "DriverTimeout") and not finite

    def _as_error(self, process: _Process, report: dict[str, Any] | None, how: str) -> HilError:
        if report is None:
            return WorkerError(f"worker {process.name!r} ({', '.join(process.plan.nodes)}) {how}")
        kinds: dict[str, type[HilError]] = {c.__name__: c for c in _all_errors(HilError)}
        kind = kinds.get(report["error_kind"])
        if kind is None:
            return WorkerError(f"worker {process.name!r}: {report['text']}")
        if issubclass(kind, BlockError | EdgeOverflow | DriverError):
            return kind(report["text"])
        return kind(f"worker {process.name!r}: {report['text']}")

    # -- ends --------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        """End the sources; what they gave is worked through."""
        if self._stopping_at is not None:
            return
        log.info("stopping: %s", reason)
        self._stopping_at = time.monotonic()
        for process in self._processes.values():
            if process.phase == "running":
                self._say(process, "stop")
            elif process.phase == "waiting":
                process.phase = "gone"
                self._end_inputs_of(process)
                self._discard_outputs_to(process)
        if self._main is not None:
            self._main.stop_sources()

    def _fail(self, error: HilError) -> None:
        if self._failure is None:
            self._failure = error
        self._stop("failed")

    def _shut_down(self) -> None:
        """After a failure: let what still lives finish, so that recordings are whole."""
        self._stop("failed")
        end = time.monotonic() + self._options.drain_s
        while not self._all_ended() and time.monotonic() < end:
            try:
                self._step()
            except HilError as error:
                log.warning("while shutting down: %s", error)
                self._main = None  # it cannot go on
        for process in self._processes.values():
            if not process.ended:
                self._abort(process)

    def _give_up_draining(self) -> None:
        late = [p.name for p in self._processes.values() if not p.ended]
        log.warning("not drained within %.1f s: %s ended", self._options.drain_s, ", ".join(late) or MAIN)
        self._event("not_drained", ", ".join(late) or MAIN, after_s=self._options.drain_s)
        for process in self._processes.values():
            if not process.ended:
                self._abort(process)

    def _abort(self, process: _Process) -> None:
        """End a worker politely, then not."""
        if process.popen is not None and process.popen.poll() is None:
            process.popen.terminate()
            try:
                process.popen.wait(3.0)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        process.phase = "gone"

    def _end_inputs_of(self, process: _Process) -> None:
        """Nothing will come from ``process`` any more: tell those that it fed."""
        for label in process.plan.outgoing:
            sink = self._edges[label].sink_worker
            if sink == MAIN:
                self._ended_inputs.append(label)
            elif not self._processes[sink].ended:
                self._say(self._processes[sink], "end_input", edge=label)

    def _discard_outputs_to(self, process: _Process) -> None:
        """Nobody will take what is sent to ``process`` any more: tell those that feed it."""
        for label in process.plan.incoming:
            source = self._edges[label].source_worker
            if source == MAIN:
                if self._main is not None:
                    self._main.discard(label)
            elif not self._processes[source].ended:
                self._say(self._processes[source], "discard", edge=label)

    def _clean_up(self) -> None:
        for process in self._processes.values():
            self._abort(process)
        if self._main is not None:
            self._main.close()
        else:
            for name in self._plan.workers[MAIN].nodes if MAIN in self._plan.workers else ():
                self._graph.nodes[name].close()
        self._pool.close()
        self._line.close()
        self._context.destroy(linger=0)
        for path in SHM_DIRECTORY.glob(f"{self._plan.run}.*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C drains and ends; a second one gives up draining; a third is Python's own."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(signum: int, frame: object) -> None:
            self._interrupts += 1
            if self._interrupts == 2 and self._stopping_at is not None:
                self._stopping_at = -float("inf")
            elif self._interrupts > 2:
                raise KeyboardInterrupt

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    # -- control -----------------------------------------------------------------------------------------------------

    def _handle_request(self, verb: str, args: dict[str, Any]) -> Any:
        """Verbs of the graph, and ``NODE.VERB`` for those of a node."""
        node, _, inner = verb.rpartition(".")
        if node:
            return self._ask_node(node, inner, args)
        match verb:
            case "describe":
                return self._describe(**args)
            case "stats":
                return self._totals().summary(duration_s=None, events=self.events, restarts={})
            case "get" | "set":
                return self._get_or_set(verb, args)
            case "stop":
                self._stop("asked to")
                return "stopping"
            case "pause" | "start":
                self._pause(verb == "pause")
                return "paused" if self._paused else "running"
        verbs = "describe, get, set, start, pause, stop, stats, and NODE.VERB"
        raise ControlError(f"unknown verb {verb!r}: there are {verbs}")

    def _describe(self, node: str | None = None) -> Any:
        if node is not None:
            return describe(self._node(node))
        return {
            "graph": self._graph.name,
            "pid": os.getpid(),
            "nodes": {
                name: {
                    "class": type(n).__name__,
                    "worker": MAIN if self._options.inline else self._graph.worker_of(name),
                    "params": params_to_plain(n.params),
                    "verbs": list(node_verbs(n)),
                }
                for name, n in self._graph.nodes.items()
                if not isinstance(n, Tap)
            },
            "connections": [c.label for c in self._graph.connections if not c.sink[0].startswith("tap-")],
        }

    def _get_or_set(self, verb: str, args: dict[str, Any]) -> Any:
        path = args.get("path", "")
        name, _, parameter = path.partition(".")
        if verb == "get" and not path:
            return {n: params_to_plain(self._graph.nodes[n].params) for n in self._graph.nodes}
        node = self._node(name)
        if parameter and parameter not in type(node.params).__struct_fields__:
            known = ", ".join(type(node.params).__struct_fields__) or "none"
            raise ControlError(f"{name!r} has no parameter {parameter!r}: it has {known}")
        if verb == "get":
            plain = params_to_plain(node.params)
            return plain[parameter] if parameter else plain
        if not parameter or "value" not in args:
            raise ControlError("set takes path=NODE.PARAMETER and value=...")
        node.params = _checked(node, {parameter: args["value"]})  # refused here before the worker is asked
        return self._ask_node(name, "set", {parameter: args["value"]})

    def _ask_node(self, name: str, verb: str, args: dict[str, Any]) -> Any:
        node = self._node(name)
        worker = next(w for w, p in self._plan.workers.items() if name in p.nodes)
        if worker == MAIN:
            if verb == "set":
                node.set_params(**args)
                return params_to_plain(node.params)
            return describe(node) if verb == "describe" else call_verb(node, node_verbs(node), verb, args)
        process = self._processes[worker]
        if process.phase != "running":
            raise ControlError(f"worker {worker!r} of {name!r} is not running ({process.phase})")
        deferred = Deferred()
        self._next_request += 1
        self._requests[self._next_request] = deferred
        self._say(process, "request", id=self._next_request, node=name, verb=verb, args=args)
        return deferred

    def _node(self, name: str) -> Any:
        if name not in self._graph.nodes:
            known = ", ".join(n for n in self._graph.nodes if not n.startswith("tap-"))
            raise ControlError(f"no node {name!r}: there are {known}")
        return self._graph.nodes[name]

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for process in self._processes.values():
            if process.phase == "running":
                self._say(process, "pause", paused=paused)
        if self._main is not None:
            self._main.paused = paused

    # -- telling -----------------------------------------------------------------------------------------------------

    def _say(self, process: _Process, kind: str, **fields: Any) -> None:
        self._line.send_multipart([process.identity, msgpack.packb({"type": kind, **fields})])

    def _event(self, event: str, worker: str, **fields: Any) -> None:
        self.events.append({"event": event, "worker": worker, "time_ns": time.time_ns(), **fields})

    def _totals(self) -> Totals:
        totals = Totals(self._graph.name)
        for process in self._processes.values():
            for stats in [*process.stats_before, process.stats]:
                if stats is not None:
                    totals.add(stats)
        if self._main is not None:
            totals.add(self._main.stats())
        return totals


def _with_taps(graph: Graph, on_frame: Mapping[str, Callable[[Frame], None]]) -> Graph:
    """A copy of ``graph`` with a tap at each output that has a callback."""
    copy = Graph(graph.name)
    copy.nodes = dict(graph.nodes)
    copy.connections = list(graph.connections)
    copy.placements = dict(graph.placements)
    copy.exposed = dict(graph.exposed)
    copy._placed = dict(graph._placed)
    for output, callback in on_frame.items():
        tap = copy.add(Tap("tap-" + output.replace(".", "-"), callback))
        copy.connect(output, tap)
        copy.place(tap, worker=MAIN)
    return copy


def _checked(node: Any, changes: dict[str, Any]) -> Params:
    merged = {**params_to_plain(node.params), **changes}
    return convert_params(type(node.params), merged, f"{type(node).__name__} {node.name!r}")


def _how_it_died(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code} and no word"


def _all_errors(cls: type[HilError]) -> Iterator[type[HilError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _all_errors(sub)
