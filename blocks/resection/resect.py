"""Bearings of known beacons to own position and heading: robust least squares."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from blocks.resection.closed_form import Pose, check_bearings, resect_closed_form
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]

_APART = 0.25  # minima farther apart than this share of the beacons' extent are two
_N_TRIED = 6  # starts that are followed: the closed form's and the most likely of the others
_CHI2_AMBIGUOUS = 4.0  # a second minimum within this cost of the best could as well be true (2 deviations)


class Resection(NamedTuple):
    """A pose and what is known about it.

    Attributes:
        position_m: On the map, ``[xy]`` metres.
        heading_rad: Clockwise from +y of the map, -pi .. pi.
        covariance: Of (x, y, heading), ``[3, 3]``, m and rad; infinite where the beacons do not fix the pose (receiver
            and all beacons on one circle, or on one line).
        residual_rad: Bearing minus the pose's bearing, ``[beacon]``.
        cost: Sum of squared residuals over their variances, robust.
        ambiguous: Another pose explains the bearings nearly as well.
    """

    position_m: F64
    heading_rad: float
    covariance: F64
    residual_rad: F64
    cost: float
    ambiguous: bool


def pose_bearing(position_m: F64, heading_rad: float, beacon_m: F64) -> F64:
    """Azimuths ``[beacon]`` rad in the array frame at which a pose sees beacons ``[beacon, xy]``."""
    difference = beacon_m - position_m
    azimuth: F64 = np.arctan2(difference[:, 0], difference[:, 1]) - heading_rad
    return azimuth


def resect(
    azimuth_rad: npt.ArrayLike,
    beacon_m: npt.ArrayLike,
    bearing_std_rad: npt.ArrayLike,
    *,
    robust_scale: float = 2.0,
    n_starts: int = 4,
) -> Resection:
    r"""Pose that minimizes :math:`\sum_b \rho(\mathrm{wrap}(a_b - \hat a_b(p, h))^2 / \sigma_b^2)`.

    With five beacons or more the loss is Cauchy's, which lets go of a wild bearing altogether. Of four, any three fit
    exactly, and nothing tells which one to let go: then it is soft L1, which only holds large residuals back.
    Several minima can exist, so it starts from the closed form (with five beacons also without each of them) and from
    ``n_starts`` squared places over and around the beacons' extent, the heading of each the best for it, follows the
    most likely ones and keeps the lowest.

    Args:
        azimuth_rad: Azimuth of each beacon in the array frame, ``[beacon]``.
        beacon_m: ``[beacon, xy]`` metres.
        bearing_std_rad: Standard deviation of each bearing, ``[beacon]`` or one for all.
        robust_scale: Deviations about which a residual begins to lose its weight.
        n_starts: Starts along each side.

    Raises:
        EstimationError: Fewer than three beacons at different places; values not finite.
    """
    azimuth, beacon = check_bearings(azimuth_rad, beacon_m)
    std = np.broadcast_to(np.asarray(bearing_std_rad, dtype=np.float64), azimuth.shape)
    if not (std > 0).all():
        raise EstimationError(f"resection: bearing deviations must be above 0, got {std.tolist()}")

    def residual(x: F64) -> F64:
        wrapped: F64 = np.angle(np.exp(1j * (azimuth - pose_bearing(x[:2], float(x[2]), beacon)))) / std
        return wrapped

    def jacobian(x: F64) -> F64:
        return -_bearing_jacobian(x[:2], beacon) / std[:, None]

    loss: Literal["cauchy", "soft_l1"] = "cauchy" if len(azimuth) >= 5 else "soft_l1"
    extent = float(np.ptp(beacon, axis=0).max())
    solutions = []
    starts = [np.array([*s.position_m, s.heading_rad]) for s in _starts(azimuth, beacon, n_starts)]
    promising = sorted(starts[1:], key=lambda x: float(np.log1p(residual(x) ** 2).sum()))[:_N_TRIED]
    for x0 in [starts[0], *promising]:
        solutions.append(
            least_squares(
                residual, x0, jacobian, loss=loss, f_scale=robust_scale, x_scale=np.array([extent, extent, 1.0])
            )
        )
    best = min(solutions, key=lambda s: float(s.cost))
    ambiguous = any(
        2 * float(s.cost - best.cost) < _CHI2_AMBIGUOUS and np.hypot(*(s.x[:2] - best.x[:2])) > _APART * extent
        for s in solutions
        if s.success
    )
    x = best.x
    covariance = _covariance(x[:2], beacon, std)
    left = residual(x) * std
    heading = float(np.angle(np.exp(1j * x[2])))
    return Resection(x[:2].copy(), heading, covariance, left, 2 * float(best.cost), ambiguous)


def _starts(azimuth: F64, beacon: F64, n: int) -> list[Pose]:
    low, high = beacon.min(0), beacon.max(0)
    margin = 0.1 * float((high - low).max())
    places = [
        np.array([x, y])
        for x in np.linspace(low[0] - margin, high[0] + margin, n)
        for y in np.linspace(low[1] - margin, high[1] + margin, n)
    ]
    starts = [Pose(p, float(np.angle(np.exp(1j * (pose_bearing(p, 0.0, beacon) - azimuth)).sum()))) for p in places]
    subsets = [np.arange(len(beacon))]
    if len(beacon) >= 5:
        subsets += [np.delete(subsets[0], i) for i in range(len(beacon))]
    closed = [resect_closed_form(azimuth[s], beacon[s]) for s in subsets if len(np.unique(beacon[s], axis=0)) >= 3]
    return [*closed, *starts]


def _bearing_jacobian(position: F64, beacon: F64) -> F64:
    """Derivative of each azimuth by (x, y, heading), ``[beacon, 3]``."""
    difference = beacon - position
    squared = np.maximum((difference**2).sum(-1), 1e-12)
    return np.stack([-difference[:, 1] / squared, difference[:, 0] / squared, -np.ones(len(beacon))], axis=-1)


def _covariance(position: F64, beacon: F64, std: F64) -> F64:
    """Inverse of the Fisher information of (x, y, heading)."""
    jacobian = _bearing_jacobian(position, beacon)
    information = (jacobian / std[:, None] ** 2).T @ jacobian
    scale = 1 / np.sqrt(np.maximum(np.diag(information), 1e-300))
    normalized = information * scale[:, None] * scale
    if np.linalg.cond(normalized) > 1e10:
        return np.full((3, 3), np.inf)
    covariance: F64 = np.linalg.inv(normalized) * scale[:, None] * scale
    return covariance
