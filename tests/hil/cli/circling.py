"""A flowgraph for tests: sources that circle, with truth, without a device or an estimator."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import DriverError
from hil.frame import Frame, Header
from hil.graph import Graph
from hil.params import Params
from hil.source import Reading, Source
from hil.streams import POSITIONS, TRUTH, port_of

ARRAY = ArrayGeometry.ula(4, 0.03)


class CirclingParams(Params, frozen=True):
    n_frames: Annotated[int, Meta(ge=0)] = 20
    error_m: float = 0.25
    period_s: float = 0.0
    fail_at: int = -1


class Circling(Source):
    """Frame ``k`` has two sources; estimates are off by ``error_m`` in x."""

    params: CirclingParams
    outputs = {"positions": port_of(POSITIONS), "truth": port_of(TRUTH)}
    finite = True

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._seq = 0

    def read(self, timeout_s: float) -> Reading:
        k = self._seq
        if k >= self.params.n_frames:
            return None
        if k == self.params.fail_at:
            raise DriverError("the cable is out: plug it in")
        time.sleep(self.params.period_s)
        self._seq += 1
        header = Header(stream="circling.truth", seq=k, time_ns=1_000_000 * k, timebase="device", epoch=2)
        turn = 0.1 * k + np.array([0.0, np.pi])
        true = np.stack([3 * np.sin(turn), 10 + 3 * np.cos(turn), 0 * turn], axis=-1)
        seen = true + np.array([self.params.error_m, 0.0, 0.0])
        ids = np.array([7, 8])
        truth = Frame.of(header, position_m=(true, "source xyz", "m"), id=(ids, "source", ""))
        positions = Frame.of(
            header.replace(stream="circling.positions"),
            position_m=(seen, "source xyz", "m"),
            covariance_m2=(np.tile(0.01 * np.eye(3), (2, 1, 1)), "source xyz xyz", "m^2"),
            id=(ids, "source", ""),
        )
        described = [("truth", descriptor_frame(header, ARRAY))] if k == 0 else []
        return [*described, ("positions", positions), ("truth", truth)]


class Group(Params, frozen=True):
    depth: Annotated[int, Meta(ge=1, le=9, description="how deep")] = 1
    free: dict[str, Any] = {}


class Settings(Params, frozen=True):
    source: CirclingParams = CirclingParams()
    group: Group = Group(depth=3)
    label: Annotated[str | None, Meta(description="a name")] = None


def build(settings: Settings) -> Graph:
    graph = Graph("circling")
    source = graph.add(
        Circling(
            "circling",
            n_frames=settings.source.n_frames,
            error_m=settings.source.error_m,
            period_s=settings.source.period_s,
            fail_at=settings.source.fail_at,
        )
    )
    graph.add(Evaluate("evaluate"))
    graph.connect(f"{source.name}.positions", "evaluate.positions")
    graph.connect(f"{source.name}.truth", "evaluate.truth")
    return graph.expose(positions="circling.positions", truth="circling.truth")
