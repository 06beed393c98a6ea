"""The same graph with another source: what runs on a device runs on its recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hil.errors import GraphError
from hil.graph import Graph
from hil.source import Source


def only_source(graph: Graph) -> Source:
    """The source of a graph that has one.

    Raises:
        GraphError: It has none, or several.
    """
    sources = [node for node in graph.nodes.values() if isinstance(node, Source)]
    if len(sources) != 1:
        has = ", ".join(s.name for s in sources) or "none"
        raise GraphError(f"a recording takes the place of the only source; graph {graph.name!r} has {has}")
    return sources[0]


def match_streams(source: Source, used: Sequence[str], streams: Sequence[str]) -> dict[str, str]:
    """Which recorded stream each port of ``source`` is: ``sim.iq``, or the only one whose name ends in ``.iq``.

    Args:
        source: Whose place the recording takes.
        used: Its ports that are connected.
        streams: What was recorded.

    Raises:
        GraphError: A port has no stream, or several that it could be.
    """
    found = {}
    for port in used:
        full = f"{source.name}.{port}"
        candidates = [full] if full in streams else [s for s in streams if s.rpartition(".")[2] == port]
        if len(candidates) != 1:
            problem = "none" if not candidates else "several streams"
            raise GraphError(
                f"the recording has {problem} for {full} (of {', '.join(streams) or 'no streams'}); "
                "record that stream, or replay without --into"
            )
        found[port] = candidates[0]
    return found


def replace_source(graph: Graph, source: Source, replacement: Source) -> Graph:
    """A graph like ``graph`` with ``replacement``, which has the same name, in the place of ``source``."""
    other = Graph(graph.name)
    for node in graph.nodes.values():
        other.add(replacement if node is source else node)
    for connection in graph.connections:
        how: dict[str, Any] = {
            "policy": connection.policy,
            "capacity": connection.capacity,
            "edge": connection.kind,
        }
        other.connect(".".join(connection.source), ".".join(connection.sink), **how)
    for name in graph.nodes:
        worker = graph.worker_of(name)
        if worker in graph.placements:
            options = graph.placements[worker]._asdict()
            other.place(name, **options)
    kept = {name: out for name, out in graph.exposed.items() if _is_there(other, out)}
    return other.expose(**kept)


def used_ports(graph: Graph, source: Source) -> list[str]:
    """The ports of ``source`` that are connected."""
    connected = [c.source[1] for c in graph.connections if c.source[0] == source.name]
    return list(dict.fromkeys(connected))


def _is_there(graph: Graph, output: str) -> bool:
    node, _, port = output.partition(".")
    return port in graph.nodes[node].outputs
