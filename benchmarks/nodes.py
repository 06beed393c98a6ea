"""Nodes of the benchmarks' graphs: importable by worker processes."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from hil.block import Block, Result
from hil.frame import AnyArray, Frame, Header
from hil.params import Count, Params, Seconds
from hil.port import Port
from hil.source import Reading, Source

IQ_PORT = Port("complex64", "sensor snapshot", "FS", name="iq")


class PacedParams(Params, frozen=True):
    n_frames: Annotated[Count, Meta(description="how many frames")] = 100
    period_s: Annotated[Seconds, Meta(le=10, description="from frame to frame; 0: as fast as they go")] = 0.0
    n_snapshots: Annotated[Count, Meta(description="samples of a frame")] = 16
    drop_every: Annotated[int, Meta(ge=0, description="the device loses each so manieth frame; 0: none")] = 0


class Paced(Source):
    """Frames by the clock, numbered without gaps also over restarts. It never waits for anybody to catch up."""

    params: PacedParams
    outputs = {"iq": IQ_PORT}
    finite = False

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._seq = self._n_dropped = 0

    def resume(self, seq: int) -> None:
        self._seq = seq + 1

    def open(self) -> None:
        self._due = time.monotonic()
        shape = (4, self.params.n_snapshots)
        self._header = Frame.of(
            Header(stream=f"{self.name}.iq", seq=0, sample_start=0, sample_rate_hz=1e6),
            iq=(np.zeros(shape, np.complex64), "sensor snapshot", "FS"),
        ).header

    def read(self, timeout_s: float) -> Reading:
        p = self.params
        if self._seq >= p.n_frames:
            return None
        wait_s = self._due - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return []
        self._due += p.period_s
        lost = 0
        if p.drop_every and self._seq % p.drop_every == p.drop_every - 1 and self._seq + 1 < p.n_frames:
            self._seq += 1
            self._n_dropped += 1
            lost = 1
        x = np.full((4, p.n_snapshots), self._seq, np.complex64)
        loss = self._header.lost._replace(frames=lost, samples=lost * p.n_snapshots)
        header = self._header._replace(seq=self._seq, sample_start=self._seq * p.n_snapshots, lost=loss)
        self._seq += 1
        return [("iq", Frame(header, {"iq": x}))]

    def stats(self) -> dict[str, Any]:
        return {"dropped_by_device": self._n_dropped}


def identity(x: AnyArray) -> AnyArray:
    return x


class DelayParams(Params, frozen=True):
    delay_s: Annotated[Seconds, Meta(le=10, description="how long each frame takes")] = 0.0


class Pass(Block):
    """Hands on what comes, after a while."""

    params: DelayParams
    inputs = {"x": IQ_PORT}
    outputs = {"y": IQ_PORT}

    def process(self, x: AnyArray) -> Result:
        if self.params.delay_s:
            time.sleep(self.params.delay_s)
        return identity(x)


class Swallow(Block):
    """Takes all and gives nothing."""

    inputs = {"x": IQ_PORT}

    def process(self, x: AnyArray) -> Result:
        return None


class AgesParams(Params, frozen=True):
    warm_s: Annotated[Seconds, Meta(description="frames so soon after the first do not count")] = 2.0


class Ages(Block):
    """How old frames are, since this host received them from the device, when they come here."""

    params: AgesParams
    inputs = {"x": Port.any()}

    def setup(self) -> None:
        self._ages_ns: list[int] = []
        self._first_ns = 0

    def process(self, x: Any) -> Result:
        now_ns = time.time_ns()
        self._first_ns = self._first_ns or now_ns
        if now_ns - self._first_ns >= self.params.warm_s * 1e9 and self.header.host_time_ns is not None:
            self._ages_ns.append(now_ns - self.header.host_time_ns)
        return None

    def stats(self) -> dict[str, Any]:
        return {"ages_ns": self._ages_ns}
