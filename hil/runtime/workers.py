"""The worker processes of a graph: started, told what to do, heard, restarted when they die or hang.

A worker that was killed, crashed or hung is started again with back-off, as is one whose device has gone. One whose
block raised an error is not: it would again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgpack
import zmq

from hil.errors import BlockError, ControlError, DriverError, EdgeOverflow, HilError, WorkerError
from hil.graph import MAIN, Graph
from hil.runtime.control import Deferred
from hil.runtime.edge import EdgeSpec
from hil.runtime.plan import Plan, WorkerPlan, node_spec
from hil.source import Source

log = logging.getLogger(__name__)

#: Until a worker has said "running": imports, dictionaries, device.
START_TIMEOUT_S = 120.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Phase = Literal["new", "started", "bound", "running", "waiting", "done", "gone"]


class WorkerProcess:
    """What is known of one worker. ``waiting``: for its restart; ``done``: by itself; ``gone``: otherwise."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.name = plan.placement.worker
        self.popen: subprocess.Popen[bytes] | None = None
        self.incarnation = 0
        self.phase: Phase = "new"
        self.heard = 0.0
        self.starts_at = 0.0
        self.restarts: deque[float] = deque()
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


class Owner(NamedTuple):
    """Whom the workers' fate concerns."""

    failed: Callable[[HilError], None]
    event: Callable[..., None]
    end_main_input: Callable[[str], None]
    discard_main_output: Callable[[str], None]


class Workers:
    """All worker processes of one run."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        directory: Path,
        context: zmq.Context[Any],
        owner: Owner,
        max_frames: int | None,
    ) -> None:
        self._graph, self._plan, self._directory, self._owner = graph, plan, directory, owner
        self._max_frames = max_frames
        self.edges: dict[str, EdgeSpec] = dict(plan.edges)
        self.processes = {n: WorkerProcess(p) for n, p in plan.workers.items() if n != MAIN}
        self._stopping = False
        self._paused = False
        self._requests: dict[int, Deferred] = {}
        self._next_request = 0
        self._address = f"ipc://{directory}/supervisor"
        self._line = context.socket(zmq.ROUTER)
        self._line.setsockopt(zmq.LINGER, 0)
        self._line.bind(self._address)

    @property
    def all_ended(self) -> bool:
        return all(p.ended for p in self.processes.values())

    @property
    def late(self) -> list[str]:
        """Names of those that have not ended."""
        return [p.name for p in self.processes.values() if not p.ended]

    @property
    def restarts(self) -> dict[str, int]:
        return {n: p.incarnation for n, p in self.processes.items() if p.incarnation}

    def all_reached(self, phase: Literal["bound", "running"]) -> bool:
        beyond = {"bound": ("bound", "running"), "running": ("running",)}[phase]
        return all(p.ended or p.phase in beyond for p in self.processes.values())

    def stats(self) -> Iterator[dict[str, Any]]:
        """What workers have reported, their earlier lives included."""
        for process in self.processes.values():
            yield from process.stats_before
            if process.stats is not None:
                yield process.stats

    # -- orders ------------------------------------------------------------------------------------------------------

    def spawn_all(self) -> None:
        """Start the processes, after each node was found fit to travel.

        Raises:
            GraphError: One is not.
        """
        for process in self.processes.values():
            for name in process.plan.nodes:
                node_spec(self._graph.nodes[name])
        for process in self.processes.values():
            self._spawn(process)

    def connect_all(self) -> None:
        """All have bound their edges: let them connect."""
        for process in self.processes.values():
            self._go(process)

    def note_endpoints(self, bound: Mapping[str, str]) -> None:
        """Where edges were bound."""
        for label, endpoint in bound.items():
            if endpoint:
                self.edges[label] = self.edges[label]._replace(endpoint=endpoint)

    def stop(self) -> None:
        """End the sources; what they gave is worked through. The dead are not started again."""
        self._stopping = True
        for process in self.processes.values():
            if process.phase == "running":
                self._say(process, "stop")
            elif process.phase == "waiting":
                self._give_up(process)

    def abort_unstarted(self) -> None:
        """End those that do not run yet: they have nothing to finish."""
        for process in self.processes.values():
            if process.phase in ("new", "started", "bound"):
                if process.popen is not None:
                    process.popen.kill()
                    process.popen.wait()
                self._give_up(process)

    def pause(self, paused: bool) -> None:
        """Hold the sources, or let them go on."""
        self._paused = paused
        for process in self.processes.values():
            if process.phase == "running":
                self._say(process, "pause", paused=paused)

    def request(self, worker: str, node: str, verb: str, args: dict[str, Any]) -> Deferred:
        """Ask a node of a worker; the answer comes later.

        Raises:
            ControlError: The worker is not running.
        """
        process = self.processes[worker]
        if process.phase != "running":
            raise ControlError(f"worker {worker!r} of {node!r} is not running ({process.phase})")
        deferred = Deferred()
        self._next_request += 1
        self._requests[self._next_request] = deferred
        self._say(process, "request", id=self._next_request, node=node, verb=verb, args=args)
        return deferred

    def abort_all(self) -> None:
        """End what still lives: politely, so that files are flushed, then not."""
        alive = [p for p in self.processes.values() if p.popen is not None and p.popen.poll() is None]
        for process in alive:
            assert process.popen is not None
            process.popen.terminate()
        end = time.monotonic() + 3.0
        for process in alive:
            assert process.popen is not None
            try:
                process.popen.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        for process in self.processes.values():
            if not process.ended:
                process.phase = "gone"

    def close(self) -> None:
        self.abort_all()
        self._line.close()

    # -- watching ----------------------------------------------------------------------------------------------------

    def look(self, timeout_s: float) -> None:
        """Hear the workers, waiting at most ``timeout_s``; see whether anyone died or hangs."""
        if self._line.poll(int(timeout_s * 1000)):
            self._hear_all()
        now = time.monotonic()
        for process in self.processes.values():
            self._look_after(process, now)

    def _look_after(self, process: WorkerProcess, now: float) -> None:
        if process.ended or process.popen is None:
            return
        if process.phase == "waiting":
            if now >= process.starts_at:
                self._spawn(process)
            return
        if process.popen.poll() is not None:
            self._hear_all()  # its last words may still be in the socket
            if process.phase != "done":
                self._died(process, now)
            return
        patience_s = process.plan.placement.hang_timeout_s if process.phase == "running" else START_TIMEOUT_S
        if now - process.heard > patience_s:
            log.warning("worker %s was silent for %.1f s: killed", process.name, patience_s)
            self._owner.event("worker_hung", process.name, silent_s=patience_s)
            process.popen.kill()
            process.popen.wait()
            self._died(process, now)

    def _died(self, process: WorkerProcess, now: float) -> None:
        assert process.popen is not None
        code, report = process.popen.returncode, process.report
        if code == 0:  # ended on request
            process.phase = "gone"
            return
        how = report["text"] if report is not None else _how_it_died(code)
        self._owner.event("worker_died", process.name, reason=how)
        if report is not None:
            log.debug("worker %s:\n%s", process.name, report["traceback"])
        while process.restarts and process.restarts[0] < now - 60:
            process.restarts.popleft()
        enough = len(process.restarts) >= process.plan.placement.max_restarts
        if self._stopping or enough or not self._can_restart(process):
            if report is not None or not self._stopping:
                self._owner.failed(self._as_error(process, how, repeatedly=enough))
            self._give_up(process)
            return
        wait_s = _BACKOFF_S[min(len(process.restarts), len(_BACKOFF_S) - 1)]
        log.warning("worker %s died (%s): restarted in %.1f s", process.name, how, wait_s)
        if process.stats is not None:
            process.stats_before.append(process.stats)
            process.stats = None
        process.restarts.append(now)
        process.incarnation += 1
        process.phase, process.starts_at = "waiting", now + wait_s

    def _can_restart(self, process: WorkerProcess) -> bool:
        if process.report is None:  # killed: perhaps so soon that it could not say that it runs
            return process.was_running or process.phase == "bound"
        if not process.was_running:
            return False
        nodes = [self._graph.nodes[n] for n in process.plan.nodes]
        finite = any(n.finite for n in nodes if isinstance(n, Source))
        return process.report["error_kind"] in ("DriverError", "DriverTimeout") and not finite

    def _give_up(self, process: WorkerProcess) -> None:
        """Nothing will come from ``process`` any more, nor be taken by it: tell its neighbours."""
        process.phase = "gone"
        for label in process.plan.outgoing:
            self._tell_neighbour(self.edges[label].sink_worker, "end_input", label, self._owner.end_main_input)
        for label in process.plan.incoming:
            self._tell_neighbour(self.edges[label].source_worker, "discard", label, self._owner.discard_main_output)

    def main_failed(self) -> None:
        """The worker ``main`` takes and gives nothing any more."""
        for label, edge in self.edges.items():
            if edge.sink_worker == MAIN:
                self._tell_neighbour(edge.source_worker, "discard", label, self._owner.discard_main_output)
            elif edge.source_worker == MAIN:
                self._tell_neighbour(edge.sink_worker, "end_input", label, self._owner.end_main_input)

    def _tell_neighbour(self, worker: str, what: str, label: str, if_main: Callable[[str], None]) -> None:
        if worker == MAIN:
            if_main(label)
        elif not self.processes[worker].ended:
            self._say(self.processes[worker], what, edge=label)

    def _as_error(self, process: WorkerProcess, how: str, *, repeatedly: bool) -> HilError:
        report = process.report
        if report is None:
            times = f"; it was restarted {len(process.restarts)} times within a minute" if repeatedly else ""
            return WorkerError(f"worker {process.name!r} ({', '.join(process.plan.nodes)}) {how}{times}")
        kinds: dict[str, type[HilError]] = {c.__name__: c for c in _all_errors(HilError)}
        kind = kinds.get(report["error_kind"], WorkerError)
        if issubclass(kind, BlockError | EdgeOverflow | DriverError):  # they say where
            return kind(how)
        return kind(f"worker {process.name!r}: {how}")

    # -- the line ----------------------------------------------------------------------------------------------------

    def _spawn(self, process: WorkerProcess) -> None:
        placement = process.plan.placement
        env = dict(os.environ)
        env.update(dict.fromkeys(_BLAS, str(placement.blas_threads)))
        env["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
        command = [placement.python or sys.executable, "-m", "hil.runtime.process"]
        command += [self._address, process.name, str(process.incarnation)]
        try:
            # A session of its own: Ctrl-C is for the supervisor, which then ends the workers in order.
            process.popen = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise WorkerError(f"cannot start worker {process.name!r} with {command[0]}: {error}") from error
        process.phase, process.heard, process.report = "started", time.monotonic(), None

    def _say(self, process: WorkerProcess, kind: str, **fields: Any) -> None:
        self._line.send_multipart([process.identity, msgpack.packb({"type": kind, **fields})])

    def _send_spec(self, process: WorkerProcess) -> None:
        plan = process.plan
        labels = {*plan.outgoing, *plan.incoming}
        self._say(
            process,
            "spec",
            plan={**plan._asdict(), "placement": plan.placement._asdict()},
            directory=str(self._directory),
            run=self._plan.run,
            nodes=[tuple(node_spec(self._graph.nodes[n])) for n in plan.nodes],
            edges=[tuple(e) for e in self.edges.values() if e.label in labels],
            max_frames=self._max_frames,
        )

    def _go(self, process: WorkerProcess) -> None:
        labels = {*process.plan.outgoing, *process.plan.incoming}
        self._say(process, "go", endpoints={label: self.edges[label].endpoint for label in labels})

    def _hear_all(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                identity, data = self._line.recv_multipart(zmq.NOBLOCK)
                process = next((p for p in self.processes.values() if p.identity == identity), None)
                if process is not None:  # else of one that was replaced
                    self._hear(process, msgpack.unpackb(data))

    def _hear(self, process: WorkerProcess, message: dict[str, Any]) -> None:
        process.heard = time.monotonic()
        match message["type"]:
            case "hello":
                self._send_spec(process)
            case "bound":
                self.note_endpoints(message["endpoints"])
                process.phase = "bound"
                if process.incarnation:
                    self._go(process)
            case "running":
                process.phase, process.was_running = "running", True
                process.stats = message["stats"]
                if self._paused:
                    self._say(process, "pause", paused=True)
                if self._stopping:
                    self._say(process, "stop")
            case "heartbeat":
                process.stats = message["stats"] or process.stats
            case "done":
                process.stats, process.phase = message["stats"], "done"
            case "error":
                process.report = message
            case "answer":
                deferred = self._requests.pop(message["id"], None)
                if deferred is not None and message["ok"]:
                    deferred.resolve(message["value"])
                elif deferred is not None:
                    deferred.refuse(message["error"], message["error_kind"])


def _how_it_died(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code} and no word"


def _all_errors(cls: type[HilError]) -> Iterator[type[HilError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _all_errors(sub)
