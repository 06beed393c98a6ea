"""From a drawn graph to what each worker is told, as plain values that travel to another process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from hil.block import Node
from hil.errors import GraphError
from hil.graph import MAIN, Graph, Placement
from hil.params import params_to_plain
from hil.runtime.edge import EdgeSpec, default_kind, open_receiver, open_sender
from hil.runtime.shm_pool import ShmPool
from hil.runtime.worker import Incoming, Outgoing, Worker
from hil.source import Source

#: The module name under which a worker loads the script that was run as ``__main__``.
_SCRIPT = "hil_script"


class NodeSpec(NamedTuple):
    """How to make a node again: class, name, parameters; the file where the class is in no importable module."""

    name: str
    module: str
    qualname: str
    file: str | None
    params: dict[str, Any]


class WorkerPlan(NamedTuple):
    """What one worker runs."""

    placement: Placement
    nodes: tuple[str, ...]
    inline: tuple[tuple[str, str, str, str], ...]
    outgoing: tuple[str, ...]
    incoming: tuple[str, ...]
    upstream: dict[str, int]


class Plan(NamedTuple):
    """A graph, placed."""

    run: str
    workers: dict[str, WorkerPlan]
    edges: dict[str, EdgeSpec]

    def worker_of(self, node: str) -> str:
        return next(name for name, plan in self.workers.items() if node in plan.nodes)


def make_plan(graph: Graph, directory: Path, *, inline: bool) -> Plan:
    """Place each node and decide what carries each connection. The run is named after its ``directory``."""
    run = directory.name
    where = {name: MAIN if inline else graph.worker_of(name) for name in graph.nodes}
    edges: dict[str, EdgeSpec] = {}
    inner: dict[str, list[tuple[str, str, str, str]]] = {}
    for i, c in enumerate(graph.connections):
        a, b = where[c.source[0]], where[c.sink[0]]
        if a == b:
            inner.setdefault(a, []).append((*c.source, *c.sink))
            continue
        kind = c.kind or default_kind()
        name = f"{run}.e{i}"
        endpoint = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{directory}/e{i}", "shm": ""}[kind]
        producer = graph.nodes[c.source[0]]
        contiguous = isinstance(producer, Source) and producer.contiguous
        edges[c.label] = EdgeSpec(
            name, c.label, kind, c.source, c.sink, a, b, c.capacity, c.policy, contiguous, endpoint
        )
    upstream = dict.fromkeys(graph.nodes, 0)
    for c in graph.connections:
        upstream[c.sink[0]] += 1
    workers = {}
    for worker in dict.fromkeys(where.values()):
        nodes = tuple(n for n in graph.order() if where[n] == worker)
        workers[worker] = WorkerPlan(
            placement=graph.placements.get(worker, Placement(worker)),
            nodes=nodes,
            inline=tuple(inner.get(worker, ())),
            outgoing=tuple(label for label, e in edges.items() if e.source_worker == worker),
            incoming=tuple(label for label, e in edges.items() if e.sink_worker == worker),
            upstream={n: upstream[n] for n in nodes if upstream[n]},
        )
    return Plan(run, workers, edges)


def node_spec(node: Node) -> NodeSpec:
    """Describe ``node`` so that another process can make it.

    Raises:
        GraphError: Its class is not at the top level of a module.
    """
    cls = type(node)
    if "<locals>" in cls.__qualname__:
        raise GraphError(
            f"class {cls.__qualname__} of node {node.name!r} is defined inside a function: define it in a module, "
            "or run the graph with inline=True"
        )
    file = None
    if cls.__module__ == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is None:
            raise GraphError(
                f"class {cls.__qualname__} of node {node.name!r} was typed in: put it into a file, "
                "or run with inline=True"
            )
        file = str(Path(file).resolve())
    return NodeSpec(node.name, cls.__module__, cls.__qualname__, file, params_to_plain(node.params))


def make_node(spec: NodeSpec) -> Node:
    """Make the node that ``spec`` describes.

    Raises:
        GraphError: Its class cannot be imported here.
    """
    try:
        found: Any = _load_script(spec.file) if spec.file else importlib.import_module(spec.module)
        for part in spec.qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, OSError) as error:
        raise GraphError(f"node {spec.name!r}: cannot import {spec.module}:{spec.qualname}: {error}") from error
    node: Node = found(spec.name, **spec.params)
    return node


def _load_script(file: str) -> Any:
    if _SCRIPT not in sys.modules:
        module_spec = importlib.util.spec_from_file_location(_SCRIPT, file)
        if module_spec is None or module_spec.loader is None:
            raise ImportError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[_SCRIPT] = module
        module_spec.loader.exec_module(module)
    return sys.modules[_SCRIPT]


def open_outgoing(
    plan: WorkerPlan, edges: dict[str, EdgeSpec], directory: Path, pool: ShmPool, context: zmq.Context[Any]
) -> dict[tuple[str, str], list[Outgoing]]:
    """Bind the producing ends of a worker."""
    outgoing: dict[tuple[str, str], list[Outgoing]] = {}
    for label in plan.outgoing:
        edge = edges[label]
        outgoing.setdefault(edge.source, []).append(Outgoing(open_sender(edge, directory, pool, context), label))
    return outgoing


def open_incoming(
    plan: WorkerPlan, edges: dict[str, EdgeSpec], directory: Path, run: str, context: zmq.Context[Any]
) -> list[Incoming]:
    """Connect the consuming ends of a worker."""
    return [
        Incoming(
            open_receiver(edges[label], directory, run, context),
            *edges[label].sink,
            contiguous=edges[label].contiguous,
            label=label,
        )
        for label in plan.incoming
    ]


def make_worker(
    plan: WorkerPlan,
    nodes: list[Node],
    outgoing: dict[tuple[str, str], list[Outgoing]],
    incoming: list[Incoming],
    tick: Callable[[], None],
    *,
    epoch_base: Mapping[str, int] | None = None,
    max_frames: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Worker:
    """Put a worker together."""
    inline: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for a, a_port, b, b_port in plan.inline:
        inline.setdefault((a, a_port), []).append((b, b_port))
    return Worker(
        nodes,
        inline,
        outgoing,
        incoming,
        plan.upstream,
        tick=tick,
        epoch_base=epoch_base,
        max_frames=max_frames,
        progress=progress,
    )
