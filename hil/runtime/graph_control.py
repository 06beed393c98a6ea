"""The control plane of a running graph: its own verbs, and ``NODE.VERB`` handed to the worker of the node."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hil.block import Node
from hil.errors import ControlError
from hil.graph import MAIN, Graph
from hil.params import params_to_plain
from hil.runtime.control import Deferred, call_verb, describe, node_verbs
from hil.runtime.plan import Plan
from hil.runtime.summary import Totals
from hil.runtime.tap import is_tap
from hil.runtime.workers import Workers

_VERBS = "describe, get, set, start, pause, stop, stats, and NODE.VERB"


class Owner(NamedTuple):
    """What the control plane may do to the run."""

    stop: Callable[[str], None]
    pause: Callable[[bool], None]
    totals: Callable[[], Totals]
    events: list[dict[str, Any]]


class GraphControl:
    """Handles the requests to one running graph; a :class:`hil.runtime.control.ControlServer` calls it."""

    def __init__(self, graph: Graph, plan: Plan, workers: Workers, owner: Owner) -> None:
        self._graph, self._plan, self._workers, self._owner = graph, plan, workers, owner

    def __call__(self, verb: str, args: dict[str, Any]) -> Any:
        """Verbs of the graph, and ``NODE.VERB`` for those of a node."""
        node, _, inner = verb.rpartition(".")
        if node:
            return self._ask_node(node, inner, args)
        match verb:
            case "describe":
                return self._describe(**args)
            case "stats":
                return self._owner.totals().summary(
                    duration_s=None, events=self._owner.events, restarts=self._workers.restarts
                )
            case "get" | "set":
                return self._get_or_set(verb, args)
            case "stop":
                self._owner.stop("asked to")
                return "stopping"
            case "pause" | "start":
                self._owner.pause(verb == "pause")
                return "paused" if verb == "pause" else "running"
        raise ControlError(f"unknown verb {verb!r}: there are {_VERBS}")

    def _describe(self, node: str | None = None) -> Any:
        if node is not None:
            return describe(self._node(node))
        return {
            "graph": self._graph.name,
            "pid": os.getpid(),
            "nodes": {
                name: {
                    "class": type(n).__name__,
                    "worker": self._plan.worker_of(name),
                    "params": params_to_plain(n.params),
                    "verbs": list(node_verbs(n)),
                }
                for name, n in self._graph.nodes.items()
                if not is_tap(name)
            },
            "connections": [c.label for c in self._graph.connections if not is_tap(c.sink[0])],
        }

    def _get_or_set(self, verb: str, args: dict[str, Any]) -> Any:
        path = args.get("path", "")
        name, _, parameter = path.partition(".")
        if verb == "get" and not path:
            return {n: params_to_plain(node.params) for n, node in self._graph.nodes.items() if not is_tap(n)}
        node = self._node(name)
        if parameter and parameter not in type(node.params).__struct_fields__:
            known = ", ".join(type(node.params).__struct_fields__) or "none"
            raise ControlError(f"{name!r} has no parameter {parameter!r}: it has {known}")
        if verb == "get":
            plain = params_to_plain(node.params)
            return plain[parameter] if parameter else plain
        if not parameter or "value" not in args:
            raise ControlError("set takes path=NODE.PARAMETER and value=...")
        node.params = node.with_params({parameter: args["value"]})  # refused here before the worker is asked
        return self._ask_node(name, "set", {parameter: args["value"]})

    def _ask_node(self, name: str, verb: str, args: dict[str, Any]) -> Any | Deferred:
        node = self._node(name)
        worker = self._plan.worker_of(name)
        if worker == MAIN:
            if verb == "set":
                node.set_params(**args)
                return params_to_plain(node.params)
            return describe(node) if verb == "describe" else call_verb(node, node_verbs(node), verb, args)
        return self._workers.request(worker, name, verb, args)

    def _node(self, name: str) -> Node:
        if name not in self._graph.nodes:
            known = ", ".join(n for n in self._graph.nodes if not is_tap(n))
            raise ControlError(f"no node {name!r}: there are {known}")
        return self._graph.nodes[name]
