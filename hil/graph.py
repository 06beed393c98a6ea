"""A graph: nodes, connections, where they run. Drawing it opens nothing; ``run`` does.

::

    graph = Graph("receiver")
    sim = graph.add(XlArray("sim", embedded=True))
    music = graph.add(NearFieldMusic("music", n_sources=2))
    graph.connect("sim.iq", "music.iq")
    summary = graph.run(seconds=10, on_frame={"music.estimates": print})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar

from hil.block import Block, Node
from hil.errors import GraphError
from hil.frame import AnyArray, Frame, Header
from hil.port import Port, check_connection
from hil.runtime.queue import POLICIES, Policy
from hil.source import Source

EdgeKind = Literal["shm", "tcp", "ipc"]

#: The worker that is the process which calls ``run``.
MAIN = "main"
#: The worker of all blocks that were not placed.
SHARED = "blocks"

N = TypeVar("N", bound=Node)


class Connection(NamedTuple):
    """An edge as drawn. ``kind`` is for edges between workers: shared memory unless told otherwise."""

    source: tuple[str, str]
    sink: tuple[str, str]
    policy: Policy = "block"
    capacity: int = 16
    kind: EdgeKind | None = None

    @property
    def label(self) -> str:
        return f"{'.'.join(self.source)} -> {'.'.join(self.sink)}"


class Placement(NamedTuple):
    """How one worker is run.

    Attributes:
        blas_threads: Threads of BLAS and torch; more than one on busy cores spin against each other.
        hang_timeout_s: Silent for longer, it is taken to hang, killed and started again.
        max_restarts: Within a minute; one more ends the run.
        python: Interpreter; ``None``: this one.
    """

    worker: str
    blas_threads: int = 1
    hang_timeout_s: float = 10.0
    max_restarts: int = 5
    python: str | None = None


class Graph:
    """Nodes and connections."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.nodes: dict[str, Node] = {}
        self.connections: list[Connection] = []
        self._placed: dict[str, str] = {}
        self.placements: dict[str, Placement] = {}
        self.exposed: dict[str, str] = {}

    def add(self, node: N) -> N:
        """Add a block or source; its name must be new.

        Raises:
            GraphError: The name is taken, or cannot be one.
        """
        if not node.name.replace("_", "a").replace("-", "a").isalnum():
            raise GraphError(f"{node.name!r} cannot be the name of a node: use letters, digits, '_' and '-'")
        if node.name in self.nodes:
            raise GraphError(f"there is a node {node.name!r} already ({type(self.nodes[node.name]).__name__})")
        self.nodes[node.name] = node
        return node

    def connect(
        self,
        source: str | Node,
        sink: str | Node,
        *,
        policy: Policy = "block",
        capacity: int = 16,
        edge: EdgeKind | None = None,
    ) -> Self:
        """Connect an output to an input, ``"sim.iq"`` to ``"music.iq"``; a node stands for its only port.

        Args:
            policy: What happens when ``capacity`` frames wait: ``block``, ``drop_oldest``, ``drop_newest``, ``fail``.
            capacity: Frames that may wait, those in work included.
            edge: What carries frames between workers: ``shm`` (default), ``tcp``, ``ipc``.

        Raises:
            GraphError: No such node or port; the input is taken; a policy or capacity that is none.
            PortError: What flows does not fit; names both ends and what differs.
        """
        a, b = self._end(source, output=True), self._end(sink, output=False)
        if policy not in POLICIES:
            raise GraphError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
        least = 2 if policy == "drop_oldest" else 1  # one in work, and one that may still be dropped
        if capacity < least:
            raise GraphError(f"capacity must be at least {least} with policy {policy!r}, got {capacity}")
        taken = next((c for c in self.connections if c.sink == b), None)
        if taken is not None:
            raise GraphError(f"input {'.'.join(b)} is fed by {'.'.join(taken.source)} already")
        given, wanted = self.nodes[a[0]], self.nodes[b[0]]
        check_connection(
            given.outputs[a[1]], given.sizes(), ".".join(a), wanted.inputs[b[1]], wanted.sizes(), ".".join(b)
        )
        self.connections.append(Connection(a, b, policy, capacity, edge))
        return self

    def place(
        self,
        *nodes: str | Node,
        worker: str,
        blas_threads: int = 1,
        hang_timeout_s: float = 10.0,
        max_restarts: int = 5,
        python: str | None = None,
    ) -> Self:
        """Run ``nodes`` in the worker process ``worker`` (``"main"``: the process that calls ``run``).

        Raises:
            GraphError: No such node.
        """
        for node in nodes:
            name = node if isinstance(node, str) else node.name
            if name not in self.nodes:
                raise GraphError(f"cannot place {name!r}: the graph has {', '.join(self.nodes) or 'no nodes'}")
            self._placed[name] = worker
        self.placements[worker] = Placement(worker, blas_threads, hang_timeout_s, max_restarts, python)
        return self

    def expose(self, **streams: str) -> Self:
        """Give outputs public names: ``expose(positions="tracker.tracks", truth="sim.truth", iq="sim.iq")``.

        Commands look for these: ``positions`` (or ``estimates``, ``pose``) is printed, ``truth`` beside it, all of them
        are recorded and drawn.

        Raises:
            GraphError: No such output.
        """
        for name, output in streams.items():
            self.exposed[name] = ".".join(self._end(output, output=True))
        return self

    def worker_of(self, name: str) -> str:
        """Where a node runs: where it was placed; a source by itself; all others together."""
        if name in self._placed:
            return self._placed[name]
        node = self.nodes[name]
        alone = isinstance(node, Source) or getattr(node, "own_worker", False)
        return name if alone else SHARED

    def validate(self) -> None:
        """Check the whole drawing.

        Raises:
            GraphError: Nothing to run, an input that nothing feeds, a circle, names that collide.
        """
        if not any(isinstance(n, Source) for n in self.nodes.values()):
            raise GraphError(f"graph {self.name!r} has no source: add a driver")
        fed = {c.sink for c in self.connections}
        for name, node in self.nodes.items():
            for port, declared in node.inputs.items():
                if (name, port) not in fed and not declared.latest:
                    raise GraphError(f"input {name}.{port} is fed by nothing: connect it")
            if isinstance(node, Block) and node.inputs and not any((name, p) in fed for p in node.inputs):
                raise GraphError(f"block {name!r} is fed by nothing: connect it")
        self.order()

    def order(self) -> list[str]:
        """Names of all nodes, each after those that feed it.

        Raises:
            GraphError: There is a circle; names the nodes on it.
        """
        feeders = {name: {c.source[0] for c in self.connections if c.sink[0] == name} for name in self.nodes}
        ordered: list[str] = []
        while feeders:
            free = [name for name, before in feeders.items() if not before.intersection(feeders)]
            if not free:
                raise GraphError(
                    f"nodes feed one another in a circle: {', '.join(feeders)}; feed back by control instead"
                )
            ordered += free
            for name in free:
                del feeders[name]
        return ordered

    def run(
        self,
        *,
        seconds: float | None = None,
        frames: int | None = None,
        on_frame: Mapping[str, Callable[[Frame], None]] | None = None,
        inline: bool = False,
        control: str = "tcp://127.0.0.1:*",
        on_ready: Callable[[str], None] | None = None,
        metrics_port: int | None = None,
        drain_s: float = 10.0,
    ) -> dict[str, Any]:
        """Run until the sources end, ``seconds`` or source ``frames`` are over, or Ctrl-C; return the summary.

        Args:
            on_frame: For outputs by name, what to call in this process with each of their frames (all kinds).
            inline: All in this process, for tests and debuggers; no worker is started.
            control: Where the control plane of the graph is bound.
            on_ready: Called with the control plane's address when all workers run.
            metrics_port: Serve Prometheus metrics on this port (0: any free one).
            drain_s: How long, after the sources have ended, the other nodes may take for what is left.

        Raises:
            GraphError, PortError: The drawing cannot run.
            RunError: A block, worker or edge failed; names it, the frame and the cause.
            DriverError: A device could not be opened.
        """
        from hil.runtime.supervisor import Options, Supervisor  # no transport before it is needed

        options = Options(
            seconds=seconds,
            frames=frames,
            on_frame=dict(on_frame or {}),
            inline=inline,
            control=control,
            on_ready=on_ready,
            metrics_port=metrics_port,
            drain_s=drain_s,
        )
        return Supervisor(self, options).run()

    def run_once(self, inputs: Mapping[str, AnyArray | Frame] | AnyArray | Frame) -> dict[str, Frame]:
        """Send one frame through the blocks in this process; return the newest frame of each open output.

        Args:
            inputs: By input name (``"music.iq"``), for the inputs that no connection feeds or that a source does; an
                array or frame alone is for the only one.

        Raises:
            GraphError: Inputs are missing or unknown.
        """
        blocks = {n: b for n, b in self.nodes.items() if isinstance(b, Block)}
        inner = [c for c in self.connections if c.source[0] in blocks]
        fed = {c.sink for c in inner}
        open_inputs = [f"{n}.{p}" for n, b in blocks.items() for p in b.inputs if (n, p) not in fed]
        if not isinstance(inputs, Mapping):
            if len(open_inputs) != 1:
                raise GraphError(
                    f"one array for {len(open_inputs)} open inputs ({', '.join(open_inputs)}): give them by name"
                )
            inputs = {open_inputs[0]: inputs}
        unknown = set(inputs) - set(open_inputs)
        if unknown:
            raise GraphError(f"no open input {sorted(unknown)[0]!r}: there are {', '.join(open_inputs)}")
        pending = [(tuple(name.split(".", 1)), self._as_frame(name, x)) for name, x in inputs.items()]
        results: dict[str, Frame] = {}
        rank = {name: i for i, name in enumerate(self.order())}
        while pending:
            pending.sort(key=lambda p: rank[p[0][0]])
            (name, port), frame = pending.pop(0)
            for out, made in blocks[name].feed(port, frame):
                onward = [c.sink for c in inner if c.source == (name, out)]
                pending += [(sink, made) for sink in onward]
                if not onward and made.header.kind == "data":
                    results[f"{name}.{out}"] = made
        return results

    def to_text(self) -> str:
        """The graph in words, a line a connection, for people."""
        lines = [
            f"{name} ({type(node).__name__}) in worker {self.worker_of(name)}" for name, node in self.nodes.items()
        ]
        for c in self.connections:
            inline = self.worker_of(c.source[0]) == self.worker_of(c.sink[0])
            how = "inline" if inline else f"{c.kind or 'shm'}, {c.policy}, up to {c.capacity} frames"
            lines.append(f"  {c.label}: {how}")
        return "\n".join(lines)

    def _end(self, end: str | Node, *, output: bool) -> tuple[str, str]:
        side = "output" if output else "input"
        name, _, port = (end if isinstance(end, str) else end.name).partition(".")
        node = self.nodes.get(name)
        if node is None:
            raise GraphError(f"no node {name!r} in graph {self.name!r}: it has {', '.join(self.nodes) or 'none'}")
        ports: Mapping[str, Port] = node.outputs if output else node.inputs
        if not port:
            if len(ports) != 1:
                which = ", ".join(f"{name}.{p}" for p in ports) or "none"
                raise GraphError(f"{name!r} has {len(ports)} {side}s ({which}): say which one")
            port = next(iter(ports))
        if port not in ports:
            raise GraphError(f"{name!r} has no {side} {port!r}: it has {', '.join(ports) or 'none'}")
        return name, port

    def _as_frame(self, name: str, x: AnyArray | Frame) -> Frame:
        if isinstance(x, Frame):
            return x
        node, port = name.split(".", 1)
        declared = self.nodes[node].inputs[port]
        if declared.fields is None or declared.single is None:
            raise GraphError(f"input {name} takes several arrays: give a Frame")
        f = declared.fields[declared.single]
        return Frame.of(Header(stream=name, seq=0), **{declared.single: (x, " ".join(f.axes), f.unit)})
