"""A worker process: ``python -m hil.runtime.process ADDRESS WORKER INCARNATION``, started by the supervisor.

It asks the supervisor for its part of the graph, tells where it has bound its edges, and works. It answers requests
and sends heartbeats from the loop itself, never from a thread: silence means that the loop hangs.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq

from hil.errors import HilError
from hil.graph import Placement
from hil.runtime.control import call_verb, describe, node_verbs
from hil.runtime.edge import EdgeSpec, pool_prefix
from hil.runtime.memory import keep_freed_memory
from hil.runtime.plan import NodeSpec, WorkerPlan, make_node, make_worker, open_incoming, open_outgoing
from hil.runtime.shm_edge import ShmSender
from hil.runtime.shm_pool import ShmPool
from hil.runtime.worker import Aborted, Worker
from hil.source import Source

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.2
#: How often a loop looks for messages of its supervisor.
LOOK_S = 0.01
_PR_SET_PDEATHSIG = 1


class Agent:
    """The worker's side of the line to its supervisor."""

    def __init__(self, address: str, name: str, incarnation: int) -> None:
        self._context: zmq.Context[Any] = zmq.Context.instance()
        self._line = self._context.socket(zmq.DEALER)
        self._line.setsockopt(zmq.LINGER, 2000)
        self._line.setsockopt(zmq.ROUTING_ID, f"{name}#{incarnation}".encode())
        self._line.connect(address)
        self._incarnation = incarnation
        self._worker: Worker | None = None
        self._next_look = self._next_beat = 0.0
        self._ended_inputs: list[str] = []
        self._stop = False
        self.terminated = False

    def say(self, kind: str, **fields: Any) -> None:
        self._line.send(msgpack.packb({"type": kind, **fields}, default=_plain))

    def wait(self, kind: str) -> dict[str, Any]:
        """Return the supervisor's next message of ``kind``; heartbeats go on."""
        while True:
            self._beat_if_due()
            if self.terminated:
                raise Aborted("terminated")
            if self._line.poll(50):
                message: dict[str, Any] = msgpack.unpackb(self._line.recv())
                if message["type"] == kind:
                    return message
                self._handle(message)

    def run(self, spec: dict[str, Any], edges: Callable[[dict[str, str]], dict[str, EdgeSpec]]) -> None:
        """Make the worker that ``spec`` describes and run it to its end."""
        plan = WorkerPlan(**{**spec["plan"], "placement": Placement(**spec["plan"]["placement"])})
        directory, run = Path(spec["directory"]), spec["run"]
        nodes = [make_node(NodeSpec(*n)) for n in spec["nodes"]]
        pool = ShmPool(pool_prefix(run, plan.placement.worker))
        progress = Progress(directory / f"{plan.placement.worker}.progress", [n.name for n in nodes])
        outgoing = open_outgoing(plan, edges({}), directory, pool, self._context)
        bound = {o.label: getattr(o.sender, "endpoint", "") for outs in outgoing.values() for o in outs}
        self.say("bound", endpoints=bound)
        go = self.wait("go")
        incoming = open_incoming(plan, edges(go["endpoints"]), directory, run, self._context)
        worker = make_worker(
            plan,
            nodes,
            outgoing,
            incoming,
            self.tick,
            epoch_base={s.name: progress.next_epoch(s.name) for s in nodes} if self._incarnation else None,
            max_frames=spec["max_frames"],
            progress=progress.note,
        )
        self._worker = worker
        try:
            if self._incarnation:
                for node in nodes:
                    node.restarted()
            worker.setup()
            for node in nodes:
                seq = progress.last(node.name)
                if isinstance(node, Source) and seq is not None:
                    node.resume(seq)
            worker.open()
            self.say("running", stats=worker.stats())
            inherited = [o.sender for outs in outgoing.values() for o in outs if isinstance(o.sender, ShmSender)]
            while not worker.finished:
                worker.step(0.02)
                self._obey(worker)
                if inherited and self._incarnation and not any(s.inherited for s in inherited):
                    inherited = []
                    pool.sweep()
            worker.run()
            self.say("done", stats=worker.stats())
        finally:
            worker.close()
            pool.close()

    def tick(self) -> None:
        """Look after the supervisor; called by the worker often, also while it waits."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        if self.terminated:
            raise Aborted("terminated")
        while self._line.poll(0):
            self._handle(msgpack.unpackb(self._line.recv()))
        self._beat_if_due()

    def _beat_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            self.say("heartbeat", stats=self._worker.stats() if self._worker is not None else None)

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "abort":
            raise Aborted("the supervisor ended this worker")
        if kind == "stop":
            self._stop = True
        elif kind == "pause" and self._worker is not None:
            self._worker.paused = message["paused"]
        elif kind == "discard" and self._worker is not None:
            self._worker.discard(message["edge"])
        elif kind == "end_input":
            self._ended_inputs.append(message["edge"])
        elif kind == "request":
            self.say("answer", id=message["id"], **self._answer(message))

    def _obey(self, worker: Worker) -> None:
        """What must not be done in the middle of a frame."""
        if self._stop:
            self._stop = False
            worker.stop_sources()
        while self._ended_inputs:
            worker.end_input(self._ended_inputs.pop(0))

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        worker = self._worker
        if worker is None:
            return {"ok": False, "error": "the worker is not running yet", "error_kind": "ControlError"}
        node, verb, args = worker.nodes[message["node"]], message["verb"], message["args"]
        try:
            if verb == "describe":
                value: Any = describe(node)
            elif verb == "set":
                node.set_params(**args)
                value = describe(node)["params"]
            else:
                value = call_verb(node, node_verbs(node), verb, args)
        except HilError as error:
            return {"ok": False, "error": str(error), "error_kind": type(error).__name__}
        except Exception as error:
            log.exception("request %s to %s failed", verb, node.name)
            return {"ok": False, "error": f"{type(error).__name__}: {error}", "error_kind": "ControlError"}
        return {"ok": True, "value": value}


class Progress:
    """Number and epoch of the last frame that each source handed on, in a file that survives the process."""

    def __init__(self, path: Path, names: list[str]) -> None:
        size = 16 * max(len(names), 1)
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._words = memoryview(self._map).cast("Q")
        self._index = {name: 2 * i for i, name in enumerate(names)}

    def note(self, name: str, seq: int, epoch: int) -> None:
        place = self._index[name]
        self._words[place], self._words[place + 1] = seq + 1, epoch

    def last(self, name: str) -> int | None:
        word = self._words[self._index[name]]
        return word - 1 if word else None

    def next_epoch(self, name: str) -> int:
        """One above that of the last frame: a source that is restarted knows nothing of the epochs before."""
        return self._words[self._index[name] + 1] + 1


def edge_specs(plain: list[list[Any]], endpoints: dict[str, str]) -> dict[str, EdgeSpec]:
    """Edges as they came over the line, with the addresses at which they were bound."""
    edges = {}
    for values in plain:
        edge = EdgeSpec(*values)
        edge = edge._replace(source=(edge.source[0], edge.source[1]), sink=(edge.sink[0], edge.sink[1]))
        edges[edge.label] = edge._replace(endpoint=endpoints.get(edge.label) or edge.endpoint)
    return edges


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, which blocks put into their statistics, as plain values."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def main(argv: list[str]) -> int:
    address, name, incarnation = argv[0], argv[1], int(argv[2])
    logging.basicConfig(
        level=os.environ.get("HIL_LOG", "WARNING"),
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s {name}: %(message)s",
    )
    # The parent gets Ctrl-C and decides; a parent that dies takes this process along, politely, so files are flushed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    keep_freed_memory()
    agent = Agent(address, name, incarnation)

    def terminate(signum: int, frame: object) -> None:
        agent.terminated = True

    signal.signal(signal.SIGTERM, terminate)
    if os.getppid() == 1:  # it died before the line above
        return 1
    try:
        agent.say("hello", pid=os.getpid())
        spec = agent.wait("spec")
        agent.run(spec, lambda endpoints: edge_specs(spec["edges"], endpoints))
    except Aborted:
        return 0
    except Exception as error:
        text = str(error) if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
        agent.say("error", error_kind=type(error).__name__, text=text, traceback=traceback.format_exc())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
