"""Hands frames of a running graph to functions of the process that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.block import Block
from hil.frame import Frame
from hil.graph import MAIN, Graph
from hil.port import Port

_PREFIX = "tap-"


class Tap(Block):
    """Calls a function of the supervising process with each frame, of whatever kind."""

    inputs = {"x": Port.any()}

    def __init__(self, name: str, callback: Callable[[Frame], None]) -> None:
        super().__init__(name)
        self._callback = callback

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        self._callback(frame)
        return []


def is_tap(name: str) -> bool:
    """Whether a node's name is that of a tap, which people need not see."""
    return name.startswith(_PREFIX)


def with_taps(graph: Graph, on_frame: Mapping[str, Callable[[Frame], None]]) -> Graph:
    """A copy of ``graph`` with a tap at each output that has a callback."""
    copy = Graph(graph.name)
    copy.nodes = dict(graph.nodes)
    copy.connections = list(graph.connections)
    copy.placements = dict(graph.placements)
    copy.exposed = dict(graph.exposed)
    copy._placed = dict(graph._placed)
    for output, callback in on_frame.items():
        tap = copy.add(Tap(_PREFIX + output.replace(".", "-"), callback))
        copy.connect(output, tap)
        copy.place(tap, worker=MAIN)
    return copy
