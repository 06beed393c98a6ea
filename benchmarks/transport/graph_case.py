"""A whole graph: a source in its process, a sink in another, the runtime's own loops between them."""

from __future__ import annotations

from benchmarks.transport.graph_nodes import Count, Flood
from hil.graph import EdgeKind, Graph


def throughput(edge: EdgeKind, n_bytes: int, n_frames: int) -> float:
    """Run ``n_frames`` through; return bytes a second at the sink.

    Raises:
        ValueError: Not all frames came.
    """
    graph = Graph("flood")
    source = graph.add(Flood("flood", n_frames=n_frames, n_bytes=n_bytes))
    sink = graph.add(Count("count", n_bytes=n_bytes))
    graph.connect(source, sink, edge=edge)
    told = graph.run()["nodes"]["count"]["stats"]
    if told["n_frames"] != n_frames:
        raise ValueError(f"{told['n_frames']} frames came of {n_frames}")
    return float(told["bytes_per_s"])
