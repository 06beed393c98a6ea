"""Running summary of position errors: fixed memory, mergeable."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from blocks.evaluation.assignment import Assignment, assign
from blocks.evaluation.log_histogram import LogHistogram
from blocks.evaluation.rmspe import rmspe
from hil.errors import ParamError


class FrameError(NamedTuple):
    """Errors of one frame.

    Attributes:
        assignment: Matched pairs, missed and false.
        range_error_m: Estimated less true distance from the origin, ``[pair]`` metres.
        angle_error_rad: Angle between the estimated and the true direction from the origin, ``[pair]``, 0..pi.
        rmspe_m: [NF] Eq. (23) of this frame.
        mean_distance_m: Mean over sources of the distance, of this frame.
    """

    assignment: Assignment
    range_error_m: npt.NDArray[np.float64]
    angle_error_rad: npt.NDArray[np.float64]
    rmspe_m: float
    mean_distance_m: float


@dataclass
class PositionError:
    """Add frames one by one, read :meth:`summary` at any time.

    Args:
        gate_m: An estimate farther from every source is false, and the source missed, metres.
        cutoff_m: Cost of a missed or extra source in the RMSPE, metres; see :func:`~blocks.evaluation.rmspe.rmspe`.
    """

    gate_m: float
    cutoff_m: float
    n_frames: int = field(default=0, init=False)
    n_pairs: int = field(default=0, init=False)
    n_missed: int = field(default=0, init=False)
    n_false: int = field(default=0, init=False)
    _sum: dict[str, float] = field(init=False, repr=False)
    _distance: LogHistogram = field(default_factory=LogHistogram, init=False, repr=False)

    def __post_init__(self) -> None:
        self._sum = dict.fromkeys(("distance2", "range2", "angle2", "rmspe", "rmspe2", "mean_distance"), 0.0)

    def add(
        self, estimate_m: npt.ArrayLike, truth_m: npt.ArrayLike, origin_m: npt.ArrayLike = (0.0, 0.0, 0.0)
    ) -> FrameError:
        """Match one frame's estimates to the truth and count it in.

        Args:
            estimate_m: ``[estimate, xyz]`` metres.
            truth_m: ``[truth, xyz]`` metres, the same frame.
            origin_m: Point that ranges and directions are measured from, ``[xyz]`` metres: the array's centre.

        Raises:
            ParamError: The arrays are not two lists of finite points.
        """
        estimate, truth = np.asarray(estimate_m, dtype=np.float64), np.asarray(truth_m, dtype=np.float64)
        pairs = assign(estimate, truth, self.gate_m)
        origin = np.asarray(origin_m, dtype=np.float64)
        seen, true = estimate[pairs.estimate] - origin, truth[pairs.truth] - origin
        range_error = np.linalg.norm(seen, axis=-1) - np.linalg.norm(true, axis=-1)
        # atan2 keeps its digits at the small angles where arccos of the scalar product has none.
        angle_error = np.arctan2(np.linalg.norm(np.cross(seen, true), axis=-1), (seen * true).sum(-1))
        errors = FrameError(
            assignment=pairs,
            range_error_m=range_error,
            angle_error_rad=angle_error,
            rmspe_m=rmspe(estimate, truth, self.cutoff_m, order=2),
            mean_distance_m=rmspe(estimate, truth, self.cutoff_m, order=1),
        )
        self.n_frames += 1
        self.n_pairs += len(pairs.distance_m)
        self.n_missed += pairs.n_missed
        self.n_false += pairs.n_false
        self._sum["distance2"] += float((pairs.distance_m**2).sum())
        self._sum["range2"] += float((range_error**2).sum())
        self._sum["angle2"] += float((angle_error**2).sum())
        self._sum["rmspe"] += errors.rmspe_m
        self._sum["rmspe2"] += errors.rmspe_m**2
        self._sum["mean_distance"] += errors.mean_distance_m
        self._distance.add(pairs.distance_m)
        return errors

    def merge(self, other: Self) -> None:
        """Take in what ``other`` counted.

        Raises:
            ParamError: It was counted by other rules.
        """
        mine, theirs = ((e.gate_m, e.cutoff_m) for e in (self, other))
        if mine != theirs:
            raise ParamError(f"PositionError.merge: expected gate and cut-off {mine} m, got {theirs} m")
        self.n_frames += other.n_frames
        self.n_pairs += other.n_pairs
        self.n_missed += other.n_missed
        self.n_false += other.n_false
        for name, value in other._sum.items():
            self._sum[name] += value
        self._distance.merge(other._distance)

    def summary(self) -> dict[str, Any]:
        """Return plain values; what cannot be said yet is None.

        ``n`` matched pairs in ``n_frames`` frames, ``missed`` and ``false`` by the gate. Over the pairs: ``rmse_m``,
        ``median_error_m`` and ``p80_error_m`` (within 0.46 %), ``range_rmse_m``, ``angle_rmse_rad``. Over the frames,
        with the cut-off for missed and extra sources: ``rmspe_m`` is the mean of the mean distance, the figure of the
        published implementation of [NF]; ``rmspe_eq23_m`` the mean of Eq. (23); ``rmspe_rms_m`` the root mean square
        of Eq. (23).
        """

        def per(total: str, n: int, root: bool) -> float | None:
            if n == 0:
                return None
            mean = self._sum[total] / n
            return math.sqrt(mean) if root else mean

        return {
            "n": self.n_pairs,
            "n_frames": self.n_frames,
            "missed": self.n_missed,
            "false": self.n_false,
            "rmse_m": per("distance2", self.n_pairs, True),
            "median_error_m": self._distance.quantile(0.5),
            "p80_error_m": self._distance.quantile(0.8),
            "range_rmse_m": per("range2", self.n_pairs, True),
            "angle_rmse_rad": per("angle2", self.n_pairs, True),
            "rmspe_m": per("mean_distance", self.n_frames, False),
            "rmspe_eq23_m": per("rmspe", self.n_frames, False),
            "rmspe_rms_m": per("rmspe2", self.n_frames, True),
            "gate_m": self.gate_m,
            "cutoff_m": self.cutoff_m,
        }
