"""Bearings of known beacons to the posterior of own pose: the estimate of least mean square error."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from blocks.resection.closed_form import check_bearings
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]


class PosePosterior(NamedTuple):
    """Mean and covariance of (x, y, heading) given the bearings.

    Attributes:
        position_m: ``[xy]`` metres.
        heading_rad: Circular mean, clockwise from +y of the map.
        covariance: ``[3, 3]`` m and rad.
    """

    position_m: F64
    heading_rad: float
    covariance: F64


def pose_posterior(
    azimuth_rad: npt.ArrayLike,
    beacon_m: npt.ArrayLike,
    bearing_std_rad: npt.ArrayLike,
    *,
    degrees_of_freedom: float = 4.0,
    distance_exponent: float = 0.0,
    reference_m: float = 1.0,
    n_cells: int = 48,
    n_headings: int = 25,
) -> PosePosterior:
    r"""Posterior mean of the pose by integration over a grid.

    Bearing errors are Student-t (multipath has heavy tails), the heading is uniform, and the prior of position is a
    Gaussian about the beacons' centre with the beacons' own spread: a receiver that hears them is more likely among
    them than far away. Near the circle through all beacons least squares is drawn along a long, bent valley; its mean
    is the estimate of least mean square error, and its spread says how long the valley is.

    Args:
        azimuth_rad: Azimuth of each beacon in the array frame, ``[beacon]``.
        beacon_m: ``[beacon, xy]`` metres.
        bearing_std_rad: Standard deviation at ``reference_m``, ``[beacon]`` or one for all.
        degrees_of_freedom: Of the Student-t.
        distance_exponent: The deviation grows with distance to this power.
        reference_m: Distance at which ``bearing_std_rad`` holds.
        n_cells: Cells along each side of the grid. A first one reaches half an extent beyond the beacons, a second one
            five deviations about what the first one found.
        n_headings: Headings about the best one of each cell, over +-4 deviations.

    Raises:
        EstimationError: Fewer than three beacons at different places; values not finite.
    """
    azimuth, beacon = check_bearings(azimuth_rad, beacon_m)
    std0 = np.broadcast_to(np.asarray(bearing_std_rad, dtype=np.float64), azimuth.shape)
    if not (std0 > 0).all():
        raise EstimationError(f"resection: bearing deviations must be above 0, got {std0.tolist()}")
    low, high = beacon.min(0), beacon.max(0)
    margin = 0.5 * float((high - low).max())
    low, high = low - margin, high + margin
    shape = (degrees_of_freedom, distance_exponent, reference_m, n_headings)
    step = (high - low) / (n_cells - 1)
    first = _integrate(azimuth, beacon, std0, low, high, n_cells, *shape)
    reach = 5 * np.sqrt(np.diag(first.covariance)[:2]) + 2 * step
    low, high = np.maximum(first.position_m - reach, low), np.minimum(first.position_m + reach, high)
    return _integrate(azimuth, beacon, std0, low, high, n_cells, *shape)


def _integrate(
    azimuth: F64,
    beacon: F64,
    std0: F64,
    low: F64,
    high: F64,
    n_cells: int,
    degrees_of_freedom: float,
    distance_exponent: float,
    reference_m: float,
    n_headings: int,
) -> PosePosterior:
    """Mean and covariance over one grid of positions; headings are about the best one of each cell."""
    x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(low[i], high[i], n_cells) for i in range(2)), indexing="ij"))
    dx, dy = beacon[:, :1] - x, beacon[:, 1:] - y  # [beacon, cell]
    near = np.maximum(np.hypot(dx, dy), reference_m / 8)
    std = std0[:, None] * (near / reference_m) ** distance_exponent
    deviation = np.arctan2(dx, dy) - azimuth[:, None]  # the heading, were this bearing exact
    best = np.angle((np.exp(1j * deviation) / std**2).sum(0))
    left = np.angle(np.exp(1j * (deviation - best)))
    turn = 4 * float(std.max()) * np.linspace(-1, 1, n_headings)
    error = left[:, :, None] - turn  # [beacon, cell, heading]
    error = np.angle(np.exp(1j * error)) if np.abs(left).max() + turn.max() > np.pi else error
    nu = degrees_of_freedom
    log_p = (-0.5 * (nu + 1) * np.log1p((error / std[:, :, None]) ** 2 / nu)).sum(0) - np.log(std).sum(0)[:, None]
    centre, spread = beacon.mean(0), beacon.var(0).mean()
    log_p = log_p - 0.5 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)[:, None] / spread
    p = np.exp(log_p - logsumexp(log_p))

    cell = p.sum(1)
    position = np.array([cell @ x, cell @ y])
    heading = float(np.angle((p * np.exp(1j * (best[:, None] + turn))).sum()))
    off = np.angle(np.exp(1j * (best[:, None] + turn - heading)))
    centred = np.stack([np.broadcast_to((x - position[0])[:, None], p.shape).ravel(),
                        np.broadcast_to((y - position[1])[:, None], p.shape).ravel(), off.ravel()])  # fmt: skip
    covariance: F64 = (centred * p.ravel()) @ centred.T
    return PosePosterior(position, heading, covariance)
