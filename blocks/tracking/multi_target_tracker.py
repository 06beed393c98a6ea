"""Several targets, identities kept: Kalman filters of Stone Soup under global nearest neighbour association."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2
from stonesoup.models.transition.linear import LinearGaussianTimeInvariantTransitionModel
from stonesoup.predictor.kalman import KalmanPredictor
from stonesoup.types.detection import Detection
from stonesoup.types.hypothesis import SingleHypothesis
from stonesoup.types.prediction import GaussianMeasurementPrediction, GaussianStatePrediction
from stonesoup.types.state import GaussianState
from stonesoup.updater.kalman import KalmanUpdater

from blocks.tracking.associate import associate
from blocks.tracking.innovations import Innovations, innovations
from blocks.tracking.track_model import TrackModel
from blocks.tracking.unresolved import unresolved
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]


class TrackState(NamedTuple):
    """One confirmed track after a frame.

    Attributes:
        id: Whole number from 0, never used again.
        position_m: ``[xyz]`` metres.
        velocity_m_per_s: ``[xyz]``.
        covariance: Of position and velocity, ``[6, 6]``.
        age_s: Since its first detection.
        coasting: The newest frame had no detection of it: position and covariance are predicted.
        detection: Index of its detection in the newest frame, or None when coasting.
    """

    id: int
    position_m: F64
    velocity_m_per_s: F64
    covariance: F64
    age_s: float
    coasting: bool
    detection: int | None


@dataclass
class _Track:
    state: GaussianState
    born_ns: int
    seen_ns: int
    detection: int | None
    id: int | None = None  # given when confirmed
    hits: int = 1
    shares: bool = False  # its last detection came of two sources that the array did not resolve
    misses: int = 0  # of a tentative track: all; of a confirmed one: since the last hit


def _make_predictor(acceleration_psd_m2_per_s3: float, dt_s: float) -> KalmanPredictor:
    eye, zero = np.eye(3), np.zeros((3, 3))
    transition = np.block([[eye, dt_s * eye], [zero, eye]])
    noise = np.block([[dt_s**3 / 3 * eye, dt_s**2 / 2 * eye], [dt_s**2 / 2 * eye, dt_s * eye]])
    return KalmanPredictor(
        LinearGaussianTimeInvariantTransitionModel(
            transition_matrix=transition, covariance_matrix=acceleration_psd_m2_per_s3 * noise
        )
    )


class MultiTargetTracker:
    """Constant-velocity tracks in three dimensions from positions with covariances.

    State ``[x, y, z, vx, vy, vz]``; transition ``F = [[1, dt], [0, 1]]``, noise ``q [[dt^3/3, dt^2/2], [dt^2/2, dt]]``
    for each axis (Bar-Shalom, Li and Kirubarajan, Estimation with Applications to Tracking and Navigation, Section
    6.2.2), by Stone Soup's Kalman predictor and updater; in ``inverse_range`` the update is an extended one. The
    confirmed tracks choose their detections first, the tentative ones from what is left.
    """

    def __init__(self, model: TrackModel) -> None:
        self.n_confirmed = 0
        self.n_ended = 0
        self._tracks: list[_Track] = []
        self._time_ns: int | None = None
        self._updater = KalmanUpdater(None, force_symmetric_covariance=True)
        self.set_model(model)

    def set_model(self, model: TrackModel) -> None:
        """Go on with another model and other rules; tracks and identities stay."""
        self.model = model
        self._gate = float(chi2.ppf(model.gate_probability, 3))
        self._predictor = lru_cache(maxsize=32)(partial(_make_predictor, model.acceleration_psd_m2_per_s3))

    def restart(self) -> None:
        """End all tracks and take any time for the next frame's; identities go on counting."""
        self._drop(lambda t: True)
        self._time_ns = None

    def step(
        self, time_ns: int, position_m: F64, covariance_m2: F64, origin_m: npt.ArrayLike = (0.0, 0.0, 0.0)
    ) -> list[TrackState]:
        """Take one frame's positions; return the confirmed tracks, by identity.

        Args:
            time_ns: Time of the frame, later than the last one's.
            position_m: ``[detection, xyz]`` metres; may have length 0.
            covariance_m2: ``[detection, xyz, xyz]`` m^2, positive semidefinite.
            origin_m: The array's centre in the frame of the positions, ``[xyz]`` metres.

        Raises:
            EstimationError: Time does not rise; a position or covariance is not finite; a position is at the origin
                (in ``inverse_range``); a covariance is indefinite. The frame is then as if it had not come.
        """
        origin = np.asarray(origin_m, dtype=np.float64)
        self._check(time_ns, position_m, covariance_m2, origin)
        self._drop(lambda t: time_ns - t.seen_ns > self.model.max_gap_s * 1e9)
        dt_s = 0.0 if self._time_ns is None else (time_ns - self._time_ns) * 1e-9
        noise = covariance_m2 + self.model.position_floor_m**2 * np.eye(3)
        predictor = self._predictor(dt_s)
        predictions = [predictor.predict(t.state) for t in self._tracks]
        seen = None
        if predictions and len(position_m):
            mean = np.stack([p.state_vector[:, 0] for p in predictions]).astype(np.float64)
            covariance = np.stack([p.covar for p in predictions])
            seen = innovations(mean, covariance, position_m, noise, origin, self.model.space)

        self._time_ns = time_ns
        free = self._update(predictions, seen, time_ns, len(position_m), origin)
        self._end(time_ns)
        for d in free:
            covariance = np.zeros((6, 6))
            covariance[:3, :3] = noise[d]
            covariance[3:, 3:] = self.model.speed_std_m_per_s**2 * np.eye(3)
            state = GaussianState(np.concatenate([position_m[d], np.zeros(3)]), covariance)
            self._tracks.append(_Track(state, born_ns=time_ns, seen_ns=time_ns, detection=d))
        self._confirm()
        return sorted(self._snapshot(t, t.id) for t in self._tracks if t.id is not None)

    @property
    def n_tentative(self) -> int:
        return sum(t.id is None for t in self._tracks)

    def _check(self, time_ns: int, position_m: F64, covariance_m2: F64, origin_m: F64) -> None:
        if self._time_ns is not None and time_ns <= self._time_ns:
            raise EstimationError(f"tracker: time {time_ns} ns is not after the last frame's {self._time_ns} ns")
        if not (np.isfinite(position_m).all() and np.isfinite(covariance_m2).all()):
            raise EstimationError("tracker: a position or covariance is not finite; leave out what has no position")
        if self.model.space == "inverse_range" and (position_m == origin_m).all(axis=-1).any():
            raise EstimationError("tracker: a position is that of the array's centre, where no source can be")

    def _update(
        self,
        predictions: Sequence[GaussianStatePrediction],
        seen: Innovations | None,
        time_ns: int,
        n_detections: int,
        origin_m: F64,
    ) -> list[int]:
        """Associate and update; tracks without a detection keep their prediction. Return the detections left over."""
        for track, prediction in zip(self._tracks, predictions, strict=True):
            prediction.prior = None  # it refers to the state before it, and that to the one before: all of history
            track.state, track.detection = prediction, None
        free = list(range(n_detections))
        if seen is None:
            return free
        confirmed = [i for i, t in enumerate(self._tracks) if t.id is not None]
        tentative = [i for i, t in enumerate(self._tracks) if t.id is None]
        pairs = dict(associate(seen.mahalanobis2, seen.log_determinant, self._gate, confirmed, free))
        coasting = [i for i in confirmed if time_ns - self._tracks[i].seen_ns <= self.model.coast_s * 1e9]
        position_m = np.stack([p.state_vector[:3, 0] for p in predictions]).astype(np.float64)
        before = {i for i in coasting if self._tracks[i].shares}
        shared = unresolved(seen, coasting, pairs, self._gate, position_m, origin_m, self.model.resolution_rad, before)
        pairs = {i: d for i, d in pairs.items() if d not in shared}
        sharers = set().union(*shared.values())
        for i, track in enumerate(self._tracks):
            track.shares = i in sharers or (track.shares and i not in pairs)
        free = [d for d in free if d not in shared]
        free = [d for d in free if d not in pairs.values()]
        pairs |= associate(seen.mahalanobis2, seen.log_determinant, self._gate, tentative, free)

        for i, d in pairs.items():
            expected = GaussianMeasurementPrediction(
                seen.predicted[i], seen.covariance[i, d], cross_covar=seen.cross[i]
            )
            hypothesis = SingleHypothesis(predictions[i], Detection(seen.measured[d]), expected)
            track = self._tracks[i]
            track.state = self._updater.update(hypothesis)
            track.detection, track.seen_ns = d, time_ns
        return [d for d in free if d not in pairs.values()]

    def _end(self, time_ns: int) -> None:
        for track in self._tracks:
            if track.detection is None:
                track.misses += 1
            else:
                track.hits += 1
                track.misses = track.misses if track.id is None else 0
        self._drop(lambda t: self._is_over(t, time_ns - t.seen_ns))

    def _is_over(self, track: _Track, unseen_ns: int) -> bool:
        m = self.model
        if track.id is None:
            return track.misses > m.confirm_window - m.confirm_hits
        return track.misses > m.coast_frames and unseen_ns > m.coast_s * 1e9

    def _confirm(self) -> None:
        for track in self._tracks:
            if track.id is None and track.hits >= self.model.confirm_hits:
                track.id, track.misses = self.n_confirmed, 0
                self.n_confirmed += 1

    def _drop(self, ended: Callable[[_Track], bool]) -> None:
        self.n_ended += sum(t.id is not None and ended(t) for t in self._tracks)
        self._tracks = [t for t in self._tracks if not ended(t)]

    def _snapshot(self, track: _Track, number: int) -> TrackState:
        assert self._time_ns is not None
        mean = np.array(track.state.state_vector[:, 0], dtype=np.float64)
        return TrackState(
            id=number,
            position_m=mean[:3],
            velocity_m_per_s=mean[3:],
            covariance=np.array(track.state.covar, dtype=np.float64),
            age_s=(self._time_ns - track.born_ns) * 1e-9,
            coasting=track.detection is None,
            detection=track.detection,
        )
