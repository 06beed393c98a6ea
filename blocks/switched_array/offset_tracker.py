"""Follow the carrier offset of one emitter from packet to packet."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]


class OffsetState(NamedTuple):
    """Offset before a packet: mean and standard deviation, radians a slot; NaN and inf while not locked."""

    mean_rad: float
    std_rad: float


_UNKNOWN = OffsetState(np.nan, np.inf)


class OffsetTracker:
    """Random-walk Kalman filter of one emitter's carrier offset, with a gate.

    A crystal drifts slowly while a free search over bearing and offset now and then takes a wrong lobe. The filter
    starts at the median of the first packets, widens with time, takes in what lies within its gate, and starts anew
    after as many packets in a row outside.

    Args:
        n_start: Packets before it locks, and packets in a row outside the gate after which it starts anew.
        jitter_rad: Scatter of the offset from packet to packet beyond the measurement's own deviation, rad a slot.
        drift_rad_per_sqrt_s: Random walk of the offset.
        gate: Deviations beyond which a packet is not believed.
    """

    def __init__(
        self,
        *,
        n_start: int = 7,
        jitter_rad: float = 0.005,
        drift_rad_per_sqrt_s: float = 0.001,
        gate: float = 4.0,
    ) -> None:
        if n_start < 1 or not (jitter_rad > 0 and drift_rad_per_sqrt_s >= 0 and gate > 0):
            raise ParamError(
                f"OffsetTracker: expected n_start >= 1, jitter and gate above 0, got {n_start}, {jitter_rad}, {gate}"
            )
        self._n_start, self._jitter, self._drift, self._gate = n_start, jitter_rad, drift_rad_per_sqrt_s, gate
        self._waiting: list[float] = []
        self._mean = np.nan
        self._variance = np.inf
        self._time_s: float | None = None

    @property
    def locked(self) -> bool:
        return bool(np.isfinite(self._mean))

    def predict(self, time_s: float | None) -> OffsetState:
        """Offset to expect at ``time_s``; a clock that is unknown or went back adds no drift."""
        if not self.locked:
            return _UNKNOWN
        elapsed = 0.0 if time_s is None or self._time_s is None else max(time_s - self._time_s, 0.0)
        return OffsetState(self._mean, float(np.sqrt(self._variance + self._drift**2 * elapsed + self._jitter**2)))

    def update(self, time_s: float | None, offset_rad: float, std_rad: float) -> bool:
        """Take in one packet's offset from a search without prior. Returns whether it was believed."""
        state = self.predict(time_s)
        if not self.locked or abs(offset_rad - state.mean_rad) > self._gate * float(np.hypot(state.std_rad, std_rad)):
            self._waiting.append(offset_rad)
            if len(self._waiting) >= self._n_start:
                centre = float(np.median(self._waiting))
                spread = 1.4826 * float(np.median(np.abs(np.array(self._waiting) - centre)))
                self._mean, self._variance = centre, max(spread, self._jitter) ** 2
                self._waiting, self._time_s = [], time_s
            return False
        self._waiting = []
        predicted = state.std_rad**2 - self._jitter**2
        gain = predicted / (predicted + self._jitter**2 + std_rad**2)
        self._mean = state.mean_rad + gain * (offset_rad - state.mean_rad)
        self._variance = (1 - gain) * predicted
        self._time_s = time_s
        return True


def track_offsets(
    emitter: npt.ArrayLike, time_s: npt.ArrayLike, offset_rad: npt.ArrayLike, std_rad: npt.ArrayLike
) -> tuple[F64, F64]:
    """Run one tracker an emitter over packets in the order of their arrival.

    Args:
        emitter: Who sent each packet, ``[packet]``.
        time_s: When, seconds; a step back (a new run) adds no drift.
        offset_rad: Offset by a search without prior, radians a slot.
        std_rad: Its standard deviation.

    Returns:
        Offset to expect at each packet by the packets before it, and its standard deviation, each ``[packet]``; NaN
        and inf while the tracker is not locked.
    """
    trackers: dict[int, OffsetTracker] = {}
    mean, deviation = [], []
    for who, when, offset, std in zip(
        np.asarray(emitter).tolist(),
        np.asarray(time_s).tolist(),
        np.asarray(offset_rad).tolist(),
        np.asarray(std_rad).tolist(),
        strict=True,
    ):
        tracker = trackers.setdefault(int(who), OffsetTracker())
        state = tracker.predict(when)
        mean.append(state.mean_rad)
        deviation.append(state.std_rad)
        tracker.update(when, offset, std)
    return np.array(mean, dtype=np.float64), np.array(deviation, dtype=np.float64)
