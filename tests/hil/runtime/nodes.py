"""Nodes for tests of the runtime: importable by worker processes."""

from __future__ import annotations

import os
import signal
import time
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from hil.array import ArrayGeometry
from hil.block import Block, Result
from hil.descriptor import descriptor_frame
from hil.errors import DriverError, EstimationError
from hil.frame import Frame, Header
from hil.params import Params
from hil.port import Port
from hil.source import Reading, Source


class CounterParams(Params, frozen=True):
    n_frames: int = 10
    n_snapshots: Annotated[int, Meta(ge=1)] = 8
    period_s: float = 0.0
    die_at: int = -1
    die_once_at: int = -1
    hang_once_at: int = -1
    fail_open: bool = False


class Counter(Source):
    """Frame ``k`` holds ``k`` everywhere; counts on across a restart."""

    params: CounterParams
    outputs = {"iq": Port("complex64", "sensor snapshot", "FS", name="iq")}
    finite = True
    verbs = ("poke",)

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._seq = 0
        self._described = False
        self._resumed = False
        self.poked = 0

    def poke(self, times: Annotated[int, Meta(ge=1, le=9)] = 1) -> int:
        """Count pokes."""
        self.poked += times
        return self.poked

    def open(self) -> None:
        if self.params.fail_open:
            raise DriverError("no device at tcp://nowhere: switch it on")

    def resume(self, seq: int) -> None:
        self._seq = seq + 1
        self._resumed = True

    def read(self, timeout_s: float) -> Reading:
        p = self.params
        if self._seq >= p.n_frames:
            return None
        header = Header(
            stream=f"{self.name}.iq",
            seq=self._seq,
            sample_start=self._seq * p.n_snapshots,
            sample_rate_hz=1e6,
            time_ns=self._seq * 1000,
            timebase="device",
        )
        if not self._described:
            self._described = True
            return [("iq", descriptor_frame(header, ArrayGeometry.ula(2, 0.5)))]
        if self._seq == p.die_at or (self._seq == p.die_once_at and not self._resumed):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._seq == p.hang_once_at and not self._resumed:
            time.sleep(60)
        if p.period_s:
            time.sleep(p.period_s)
        x = np.full((2, p.n_snapshots), self._seq, np.complex64)
        self._seq += 1
        return [("iq", Frame.of(header, iq=(x, "sensor snapshot", "FS")))]


class ScaleParams(Params, frozen=True):
    factor: Annotated[float, Meta(ge=-100, le=100)] = 2.0
    delay_s: float = 0.0
    fail_at: int = -1
    skip_at: int = -1
    die_once_at: int = -1
    marker: str = ""


class Scale(Block):
    """Multiply; die, fail, skip or dawdle on request."""

    params: ScaleParams
    inputs = {"x": Port("complex64", "sensor snapshot", "FS")}
    outputs = {"y": Port("complex64", "sensor snapshot", "FS")}

    def process(self, x: Any) -> Result:
        p = self.params
        seq = self.header.seq
        if seq == p.fail_at:
            raise ValueError("cannot take the root of a banana")
        if seq == p.skip_at:
            raise EstimationError("nothing in it")
        if seq == p.die_once_at and not os.path.exists(p.marker):
            with open(p.marker, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        if p.delay_s:
            time.sleep(p.delay_s)
        return (x * np.complex64(p.factor)).astype(np.complex64)


class PairSum(Block):
    """Add two streams, joined by time."""

    inputs = {
        "a": Port("complex64", "sensor snapshot", "FS"),
        "b": Port("complex64", "sensor snapshot", "FS"),
    }
    outputs = {"y": Port("complex64", "sensor snapshot", "FS")}

    def process(self, a: Any, b: Any) -> Result:
        return a + b


class LastSum(Block):
    """Gives the sum of all at the end."""

    inputs = {"x": Port("complex64", "sensor snapshot", "FS")}
    outputs = {"y": Port("complex64", "sensor", "FS")}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._sum = np.zeros(2, np.complex64)

    def process(self, x: Any) -> Result:
        self._sum = self._sum + x.sum(axis=1)
        return None

    def flush(self) -> Result:
        return self._sum


class LateTruth(Counter):
    """Its second output tells of a frame one read later."""

    outputs = {**Counter.outputs, "truth": Port("float64", "", name="truth")}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._due: Header | None = None

    def read(self, timeout_s: float) -> Reading:
        if self._due is not None:
            header, self._due = self._due.replace(stream=f"{self.name}.truth"), None
            return [("truth", Frame.of(header, truth=(np.array(float(header.seq)), "", "")))]
        reading = super().read(timeout_s)
        if reading and reading[0][1].header.kind == "data":
            self._due = reading[0][1].header
        return reading
