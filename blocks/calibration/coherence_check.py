"""Watch whether channels keep their phases relative to one another."""

from __future__ import annotations

import math
from collections import deque
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.calibration.coherence import phase_stability, relative_phase
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.frame import NO_LOSS, Frame
from hil.params import Count, Index, Params
from hil.port import Port, field
from hil.streams import IQ, port_of

C64 = npt.NDArray[np.complex64]
F64 = npt.NDArray[np.float64]


class CoherenceCheckParams(Params, frozen=True):
    n_snapshots: Annotated[Count, Meta(le=1 << 22, description="of one phase")] = 4096
    n_phases: Annotated[int, Meta(ge=2, le=65_536, description="the newest so many are looked at")] = 32
    reference: Annotated[Index, Meta(description="sensor that the others are compared with")] = 0
    tolerance_rad: Annotated[float, Meta(gt=0, le=math.pi, description="coherent channels deviate less, rms")] = 0.1
    least_coherence: Annotated[float, Meta(ge=0, le=1, description="below it nothing is said of a channel")] = 0.3


class CoherenceCheck(Block):
    """Phase of each channel against a reference over time: deviation, drift, and an event when it is too much.

    It needs a common signal (a noise source, or any sources that stand still). Frames whose ``meta`` says
    ``coherent: false`` name the ``worst`` channel; the event ``coherence`` comes when that changes. An epoch begins
    anew. Channels below ``least_coherence`` are of no evidence and listed as ``unheard``.
    """

    params: CoherenceCheckParams
    inputs = {"iq": port_of(IQ)}
    outputs = {
        "coherence": Port.of(
            phase_rad=field("float64", "sensor", "rad"),
            coherence=field("float64", "sensor"),
            deviation_rad=field("float64", "sensor", "rad"),
            drift_rad_per_s=field("float64", "sensor", "rad/s"),
            largest_step_rad=field("float64", "sensor", "rad"),
        )
    }

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._coherent: bool | None = None
        self._newest: dict[str, Any] = {}
        self._events: list[Frame] = []

    def setup(self) -> None:
        self._epoch: int | None = None
        self._taken: list[C64] = []
        self._n_taken = 0
        self._phases: deque[F64] = deque(maxlen=self.params.n_phases)
        self._times_s: deque[float] = deque(maxlen=self.params.n_phases)

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        out = super().feed(port, frame)
        events, self._events = self._events, []
        return [*(("coherence", event) for event in events), *out]

    def process(self, iq: C64) -> Result:
        p, header = self.params, self.header
        if header.epoch != self._epoch:
            self.setup()
            self._epoch = header.epoch
        self._taken.append(iq.copy())
        self._n_taken += iq.shape[1]
        if self._n_taken < p.n_snapshots:
            return None
        samples = np.concatenate(self._taken, axis=1)
        self._taken, self._n_taken = [], 0
        found = relative_phase(samples, p.reference)
        self._phases.append(found.phase_rad)
        self._times_s.append(self._time_s())
        if len(self._phases) < 2:
            return None
        stability = phase_stability(np.array(self._phases), np.array(self._times_s))
        heard = found.coherence >= p.least_coherence
        worst = int(np.argmax(np.where(heard, stability.deviation_rad, -1.0)))
        coherent = bool(stability.deviation_rad[worst] <= p.tolerance_rad)
        told = {
            "coherent": coherent,
            "worst": worst,
            "deviation_rad": float(stability.deviation_rad[worst]),
            "drift_rad_per_s": float(stability.drift_rad_per_s[worst]),
            "unheard": np.flatnonzero(~heard).tolist(),
        }
        self._newest = told
        if coherent != self._coherent and (self._coherent is not None or not coherent):
            meta = {"event": "coherence", **told}
            self._events.append(
                Frame(header.replace(kind="event", stream=f"{self.name}.coherence", arrays=(), lost=NO_LOSS, meta=meta))
            )
        self._coherent = coherent
        return Out({**found._asdict(), **stability._asdict()}, {"meta": told})

    def stats(self) -> dict[str, Any]:
        return dict(self._newest)

    def _time_s(self) -> float:
        h = self.header
        if h.sample_start is not None and h.sample_rate_hz is not None:
            return h.sample_start / h.sample_rate_hz
        if h.time_ns is not None:
            return h.time_ns / 1e9
        raise EstimationError(f"{self.name}: {h.stream!r} has neither sample_start and sample_rate_hz nor time_ns")
