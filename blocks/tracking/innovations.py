"""Detections against predictions: where a filter would see each, and how likely they belong together."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.tracking.inverse_point import inverse_point, inverse_point_jacobian
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]


class Innovations(NamedTuple):
    """All pairs of track and detection, in the space of the measurement.

    Attributes:
        measured: ``z``, ``[detection, 3]``.
        predicted: ``h(x)``, ``[track, 3]``.
        cross: ``P H^T``, ``[track, 6, 3]``.
        covariance: ``S = H P H^T + R``, ``[track, detection, 3, 3]``.
        mahalanobis2: ``(z - h)^T S^-1 (z - h)``, ``[track, detection]``.
        log_determinant: ``log |S|``, ``[track, detection]``; with the former -2 log-likelihood but for a constant.
    """

    measured: F64
    predicted: F64
    cross: F64
    covariance: F64
    mahalanobis2: F64
    log_determinant: F64


def innovations(
    mean: F64,
    covariance: F64,
    position_m: F64,
    position_covariance_m2: F64,
    origin_m: F64,
    space: Literal["inverse_range", "cartesian"],
) -> Innovations:
    """Compare each predicted state with each detected position.

    Args:
        mean: Predicted positions and velocities, ``[track, 6]``, m and m/s.
        covariance: Of these, ``[track, 6, 6]``.
        position_m: ``[detection, xyz]`` metres.
        position_covariance_m2: ``[detection, xyz, xyz]`` m^2, positive definite. In ``inverse_range`` it is turned at
            the detection's own position, which undoes a linear conversion from angles and inverse range exactly.
        origin_m: The array's centre, ``[xyz]`` metres.
        space: ``cartesian`` takes positions as they are; ``inverse_range`` the
            :func:`~blocks.tracking.inverse_point.inverse_point` of both, linearized at the prediction (extended
            Kalman filter).

    Raises:
        EstimationError: A covariance is not positive definite.
    """
    if space == "inverse_range":
        measured, predicted = inverse_point(position_m, origin_m), inverse_point(mean[:, :3], origin_m)
        turn = inverse_point_jacobian(position_m, origin_m)
        noise = turn @ position_covariance_m2 @ np.swapaxes(turn, -1, -2)
        jacobian = inverse_point_jacobian(mean[:, :3], origin_m)
    else:
        measured, predicted, noise = position_m, mean[:, :3], position_covariance_m2
        jacobian = np.broadcast_to(np.eye(3), (len(mean), 3, 3))
    cross = covariance[:, :, :3] @ np.swapaxes(jacobian, -1, -2)
    spread = (jacobian @ cross[:, :3, :])[:, None] + noise[None]
    try:
        root = np.linalg.cholesky(spread)
    except np.linalg.LinAlgError as error:
        raise EstimationError("tracker: the covariance of a position is not positive semidefinite") from error
    whitened = np.linalg.solve(root, (measured[None] - predicted[:, None])[..., None])[..., 0]
    log_determinant = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
    return Innovations(measured, predicted, cross, spread, (whitened**2).sum(-1), log_determinant)
