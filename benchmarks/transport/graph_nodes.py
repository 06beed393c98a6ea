"""Source and sink for measuring a whole graph."""

from __future__ import annotations

import time
from typing import Annotated, Any

from msgspec import Meta

from benchmarks.transport.payload import C64, N_PAYLOADS, Checker, FrameMaker, payloads
from hil.block import Block, Result
from hil.frame import Frame
from hil.params import Params
from hil.port import Port
from hil.source import Reading, Source


class FloodParams(Params, frozen=True):
    n_frames: Annotated[int, Meta(ge=1, description="how many frames")] = 100
    n_bytes: Annotated[int, Meta(ge=4096, description="bytes of a frame")] = 524288


class Flood(Source):
    """Frames as fast as they are taken."""

    params: FloodParams
    outputs = {"iq": Port("complex64", "sensor snapshot", "FS", name="iq")}
    finite = True

    def open(self) -> None:
        self._arrays = payloads(self.params.n_bytes)
        self._frames = FrameMaker(self.params.n_bytes)
        self._seq = 0

    def read(self, timeout_s: float) -> Reading:
        if self._seq >= self.params.n_frames:
            return None
        array: C64 = self._arrays[self._seq % N_PAYLOADS]
        frame: Frame = self._frames.make(self._seq, array, time.time_ns())
        self._seq += 1
        return [("iq", frame)]


class CountParams(Params, frozen=True):
    n_bytes: Annotated[int, Meta(ge=4096, description="bytes of a frame")] = 524288


class Count(Block):
    """Checks each frame; its statistics tell bytes a second."""

    params: CountParams
    inputs = {"iq": Port("complex64", "sensor snapshot", "FS", name="iq")}

    def setup(self) -> None:
        self._checker = Checker(self.params.n_bytes)
        self._n = 0
        self._first_ns = self._last_ns = 0

    def process(self, iq: C64) -> Result:
        self._checker.check(self.header.seq, iq)
        self._n += 1
        self._last_ns = time.perf_counter_ns()
        self._first_ns = self._first_ns or self._last_ns
        return None

    def stats(self) -> dict[str, Any]:
        seconds = (self._last_ns - self._first_ns) / 1e9
        return {
            "n_frames": self._n,
            "bytes_per_s": (self._n - 1) * self.params.n_bytes / seconds if seconds > 0 else 0.0,
        }
