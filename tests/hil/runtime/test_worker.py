"""What a worker tells of nodes that are not set up yet."""

from __future__ import annotations

from typing import Any

from hil.block import Block, Port
from hil.runtime.worker import Worker


class Slow(Block):
    """Has what it tells from ``setup`` on, as blocks do."""

    inputs = {"iq": Port("complex64", "sensor snapshot")}
    outputs = {}

    def setup(self) -> None:
        self._n_seen = 3

    def stats(self) -> dict[str, Any]:
        return {"seen": self._n_seen}


def test_heartbeats_between_set_ups_tell_of_those_that_are_done():
    told = []
    worker = Worker([Slow("first"), Slow("second")], {}, {}, [], {}, tick=lambda: told.append(worker.stats()["nodes"]))
    before = worker.stats()["nodes"]
    assert {name: node["stats"] for name, node in before.items()} == {"first": {}, "second": {}}
    worker.setup()
    assert [{name: node["stats"] for name, node in nodes.items()} for nodes in told] == [
        {"first": {"seen": 3}, "second": {}},
        {"first": {"seen": 3}, "second": {"seen": 3}},
    ]
