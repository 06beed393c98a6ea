"""From positions of single frames to tracks with identities."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.tracking.multi_target_tracker import MultiTargetTracker, TrackState
from blocks.tracking.track_model import TrackModel
from hil.block import Block, Result
from hil.errors import EstimationError
from hil.frame import AnyArray
from hil.streams import POSITIONS, TRACKS, port_of


class TrackerParams(TrackModel, frozen=True):
    position_std_m: Annotated[
        float,
        Meta(gt=0, extra_json_schema={"unit": "m"}, description="Taken for positions that come without a covariance"),
    ] = 0.1


class Tracker(Block):
    """Follow each source through misses, false detections, lost frames and crossings.

    Confirmed tracks only go out. The array's centre comes from its descriptor; without one it is the origin. Where
    there is a descriptor the tracks carry their angles and range in the array's frame, and where detections carry a
    power, that of each track's last one. Time runs by the headers' ``time_ns``; frames that were lost are bridged by
    it. A time that steps back starts all over where the epoch or the timebase changed with it, else the frame is
    skipped.
    """

    params: TrackerParams
    inputs = {"positions": port_of(POSITIONS)}
    outputs = {"tracks": port_of(TRACKS)}

    def setup(self) -> None:
        if not hasattr(self, "_tracker"):
            self._tracker = MultiTargetTracker(self.params)
            self._clock: tuple[int, str | None, int] | None = None
            self._power_db: dict[int, float] = {}
        self._tracker.set_model(self.params)

    def process(self, positions: dict[str, AnyArray]) -> Result:
        position_m = positions["position_m"]
        covariance_m2 = positions.get("covariance_m2")
        if covariance_m2 is None:
            covariance_m2 = np.tile(self.params.position_std_m**2 * np.eye(3), (len(position_m), 1, 1))
        origin_m = np.zeros(3) if self.array is None else self.array.origin_m
        tracks = self._tracker.step(self._time_ns(), position_m, covariance_m2, origin_m)

        out: dict[str, AnyArray] = {
            "id": np.array([t.id for t in tracks], dtype=np.int64),
            "position_m": np.array([t.position_m for t in tracks]).reshape(-1, 3),
            "covariance_m2": np.array([t.covariance[:3, :3] for t in tracks]).reshape(-1, 3, 3),
            "velocity_m_per_s": np.array([t.velocity_m_per_s for t in tracks]).reshape(-1, 3),
            "coasting": np.array([t.coasting for t in tracks], dtype=bool),
        }
        if self.array is not None:
            x, y, z = self.array.from_world(out["position_m"]).T
            out["range_m"] = np.sqrt(x**2 + y**2 + z**2)
            out["azimuth_rad"] = np.arctan2(x, y)
            out["elevation_rad"] = np.arctan2(z, np.hypot(x, y))
        self._power_db = self._last_power_db(tracks, positions.get("power_db"))
        if len(self._power_db) == len(tracks):
            out["power_db"] = np.array([self._power_db[t.id] for t in tracks], dtype=np.float64)
        return out

    def stats(self) -> dict[str, Any]:
        """How many tracks there are, were confirmed, and have ended."""
        if not hasattr(self, "_tracker"):
            return {}
        t = self._tracker
        return {
            "tracks": t.n_confirmed - t.n_ended,
            "tentative": t.n_tentative,
            "confirmed": t.n_confirmed,
            "ended": t.n_ended,
        }

    def _time_ns(self) -> int:
        h = self.header
        if h.time_ns is None:
            raise EstimationError(f"{self.name}: frames of {h.stream!r} have no time_ns: the source must stamp them")
        if self._clock is not None:
            epoch, timebase, time_ns = self._clock
            if h.timebase != timebase or (h.epoch != epoch and h.time_ns <= time_ns):
                self._tracker.restart()
        self._clock = (h.epoch, h.timebase, h.time_ns)
        return h.time_ns

    def _last_power_db(self, tracks: list[TrackState], power_db: AnyArray | None) -> dict[int, float]:
        """Power of each track's newest detection that had one; tracks that never had are left out."""
        known = {t.id: self._power_db[t.id] for t in tracks if t.id in self._power_db}
        if power_db is not None:
            known |= {t.id: float(power_db[t.detection]) for t in tracks if t.detection is not None}
        return known
