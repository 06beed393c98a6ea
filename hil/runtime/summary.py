"""Totals of a run over all workers and their earlier lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hil.runtime.metrics import Histogram
from hil.runtime.tap import is_tap

_NODE_COUNTS = ("frames_in", "frames_out", "bytes_in", "skipped", "unmatched")
_EDGE_COUNTS = ("frames", "bytes", "dropped", "lost_in_flight", "blocked_ms")


class Totals:
    """Adds up what workers report (:meth:`hil.runtime.worker.Worker.stats`)."""

    def __init__(self, graph: str) -> None:
        self.graph = graph
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: dict[str, dict[str, Any]] = {}
        self.service: dict[str, Histogram] = {}
        self.age: dict[str, Histogram] = {}

    def add(self, stats: Mapping[str, Any]) -> None:
        for name, node in stats["nodes"].items():
            total = self.nodes.setdefault(name, {**dict.fromkeys(_NODE_COUNTS, 0), "stats": {}})
            for key in _NODE_COUNTS:
                total[key] += node[key]
            total["stats"] = node["stats"] or total["stats"]
            self.service.setdefault(name, Histogram()).merge(Histogram.from_plain(node["service"]))
            self.age.setdefault(name, Histogram()).merge(Histogram.from_plain(node["age"]))
        for label, edge in stats["edges"].items():
            total = self.edges.setdefault(label, dict.fromkeys(_EDGE_COUNTS, 0))
            for key in _EDGE_COUNTS:
                total[key] += edge[key]
            total["depth"], total["capacity"] = edge["depth"], edge["capacity"]

    def summary(
        self, *, duration_s: float | None, events: Sequence[Mapping[str, Any]], restarts: Mapping[str, int]
    ) -> dict[str, Any]:
        """One plain object: what came, what was dropped and why, how long it took."""
        visible = {n: t for n, t in self.nodes.items() if not is_tap(n)}
        drops: dict[str, int] = {}
        for edge in self.edges.values():
            for cause, key in (("edge_full", "dropped"), ("worker_died", "lost_in_flight")):
                if edge[key]:
                    drops[cause] = drops.get(cause, 0) + edge[key]
        for cause in ("skipped", "unmatched"):
            n = sum(node[cause] for node in visible.values())
            if n:
                drops[cause] = n
        result: dict[str, Any] = {
            "graph": self.graph,
            "frames": {name: node["frames_out"] or node["frames_in"] for name, node in visible.items()},
            "drops": drops,
            "latency": {
                name: {"service": self.service[name].summary(), "age": self.age[name].summary()} for name in visible
            },
            "nodes": visible,
            "edges": self.edges,
            "restarts": dict(restarts),
            "events": list(events),
        }
        if duration_s is not None:
            result["duration_s"] = duration_s
        return result
