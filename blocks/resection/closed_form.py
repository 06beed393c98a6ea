"""Pose from bearings in closed form."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]


class Pose(NamedTuple):
    """Position on the map in metres, ``[xy]``, and heading clockwise from its +y in radians."""

    position_m: F64
    heading_rad: float


def check_bearings(azimuth_rad: npt.ArrayLike, beacon_m: npt.ArrayLike) -> tuple[F64, F64]:
    """Return both as arrays.

    Raises:
        EstimationError: Fewer than three beacons at different places, other shapes, values not finite.
    """
    azimuth, beacon = np.asarray(azimuth_rad, dtype=np.float64), np.asarray(beacon_m, dtype=np.float64)
    if azimuth.ndim != 1 or beacon.shape != (len(azimuth), 2):
        raise EstimationError(
            f"resection: expected azimuths [beacon] and beacons [beacon, xy], "
            f"got {list(azimuth.shape)} and {list(beacon.shape)}"
        )
    if not (np.isfinite(azimuth).all() and np.isfinite(beacon).all()):
        raise EstimationError("resection: a bearing or a beacon's position is not finite; leave that beacon out")
    n_places = len(np.unique(beacon, axis=0)) if len(beacon) else 0
    if n_places < 3:
        raise EstimationError(
            f"resection: {n_places} beacons at different places; position and heading are three unknowns: "
            f"three or more are needed"
        )
    return azimuth, beacon


def resect_closed_form(azimuth_rad: npt.ArrayLike, beacon_m: npt.ArrayLike) -> Pose:
    r"""Least-squares pose without iteration or first guess.

    A beacon ``b`` seen at azimuth ``a`` from ``p`` under heading ``h`` lies along :math:`[\sin(a+h), \cos(a+h)]`, so
    the cross product vanishes. Turned by ``h`` it is linear and homogeneous in
    :math:`(\cos h, \sin h, q_x, q_y)`, ``q`` being ``p`` turned by ``h``:

    .. math:: (b_x\cos a - b_y\sin a)\,c - (b_x\sin a + b_y\cos a)\,s - \cos a\,q_x + \sin a\,q_y = 0

    Three beacons are solved exactly, more in the algebraic least-squares sense: rows are weighted by the distance of
    the solution before, so that all bearings count alike. The sign is that which sees the beacons in front.

    Args:
        azimuth_rad: Azimuth of each beacon in the array frame, ``[beacon]``, from +y towards +x.
        beacon_m: Their positions on the map, ``[beacon, xy]``.

    Raises:
        EstimationError: As :func:`check_bearings`; or no position sees all of them so.
    """
    azimuth, beacon = check_bearings(azimuth_rad, beacon_m)
    centre = beacon.mean(0)
    size = float(np.sqrt(((beacon - centre) ** 2).sum(-1).mean()))
    b = (beacon - centre) / size
    c, s = np.cos(azimuth), np.sin(azimuth)
    rows = np.stack([b[:, 0] * c - b[:, 1] * s, -(b[:, 0] * s + b[:, 1] * c), -c, s], axis=-1)
    weight = np.ones(len(azimuth))
    for _ in range(3):
        solution = np.linalg.svd(rows * weight[:, None])[2][-1]
        norm = float(np.hypot(solution[0], solution[1]))
        if norm < 1e-9:
            raise EstimationError("resection: these bearings are those of a receiver at infinity")
        cos_h, sin_h, qx, qy = solution / norm
        # q = (x cos h - y sin h, x sin h + y cos h)
        position = np.array([qx * cos_h + qy * sin_h, -qx * sin_h + qy * cos_h])
        difference = b - position
        weight = 1 / np.maximum(np.hypot(difference[:, 0], difference[:, 1]), 1e-3)
    heading = float(np.arctan2(sin_h, cos_h))
    along = difference[:, 0] * np.sin(azimuth + heading) + difference[:, 1] * np.cos(azimuth + heading)
    if (weight * along).sum() < 0:
        heading = float(np.angle(-np.exp(1j * heading)))
    return Pose(position * size + centre, heading)
