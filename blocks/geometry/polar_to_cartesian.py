"""Polar estimates to Cartesian positions, with their covariance."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from msgspec import Meta

from hil.block import Block, Result
from hil.errors import EstimationError
from hil.params import Params
from hil.streams import ESTIMATES, POSITIONS, port_of
from hil.wavefront import direction_vector

Array = Any  # NumPy or torch


def polar_to_cartesian(azimuth_rad: Array, elevation_rad: Array, range_m: Array) -> Array:
    """Positions in the array frame, ``[..., xyz]`` metres.

    Args:
        azimuth_rad: From +y towards +x, ``[...]``.
        elevation_rad: Towards +z, ``[...]``.
        range_m: From the array's centre, finite, ``[...]``. A plane wave has no position: leave it out.
    """
    return range_m[..., None] * direction_vector(azimuth_rad, elevation_rad)


def cartesian_to_polar(position_m: Array) -> tuple[Array, Array, Array]:
    """Azimuth (-pi .. pi), elevation rad and range m, each ``[...]``, of points ``[..., xyz]`` off the origin."""
    xp = array_namespace(position_m)
    x, y, z = position_m[..., 0], position_m[..., 1], position_m[..., 2]
    across = xp.hypot(x, y)
    return xp.atan2(x, y), xp.atan2(z, across), xp.hypot(across, z)


def cartesian_covariance(azimuth_rad: Array, elevation_rad: Array, range_m: Array, polar_covariance: Array) -> Array:
    r"""Covariance of position, to first order: :math:`J C J^T`.

    Columns of ``J``: ``r du/d azimuth``, ``r du/d elevation``, ``-r^2 u`` (for inverse range). Good while the standard
    deviation of inverse range is well below inverse range itself: at a third of it the true distribution of range is
    already skewed.

    Args:
        azimuth_rad: ``[...]``.
        elevation_rad: ``[...]``.
        range_m: ``[...]``, finite.
        polar_covariance: Of (azimuth, elevation, inverse range), ``[..., 3, 3]``, rad and 1/m.

    Returns:
        ``[..., 3, 3]`` m^2. A parameter that was known (variance zero) adds nothing.
    """
    xp = array_namespace(azimuth_rad)
    sin_az, cos_az, sin_el, cos_el = (
        xp.sin(azimuth_rad),
        xp.cos(azimuth_rad),
        xp.sin(elevation_rad),
        xp.cos(elevation_rad),
    )
    zero = xp.zeros_like(sin_az)
    jacobian = xp.stack(
        [
            xp.stack([cos_el * cos_az, -cos_el * sin_az, zero], axis=-1) * range_m[..., None],
            xp.stack([-sin_el * sin_az, -sin_el * cos_az, cos_el], axis=-1) * range_m[..., None],
            -direction_vector(azimuth_rad, elevation_rad) * (range_m * range_m)[..., None],
        ],
        axis=-1,
    )
    return jacobian @ polar_covariance @ xp.matrix_transpose(jacobian)


def has_position(
    range_m: npt.NDArray[np.float64], polar_covariance: npt.NDArray[np.float64] | None, n_sigma: float
) -> npt.NDArray[np.bool_]:
    """Which sources ``[source]`` have a range: finite, and inverse range ``n_sigma`` deviations above a plane wave."""
    finite = np.isfinite(range_m)
    if polar_covariance is None:
        return finite
    deviation = np.sqrt(polar_covariance[:, 2, 2])
    return finite & (1 / range_m >= n_sigma * deviation)


class PolarToCartesianParams(Params, frozen=True):
    n_sigma: Annotated[
        float,
        Meta(ge=0, description="A source has a position where its inverse range is so many deviations above zero"),
    ] = 3.0


class PolarToCartesian(Block):
    """Estimates to positions in the world frame.

    ``positions`` has the sources whose range the wavefront tells; ``directions`` has the others: plane waves.
    """

    params: PolarToCartesianParams
    inputs = {"estimates": port_of(ESTIMATES)}
    outputs = {"positions": port_of(POSITIONS), "directions": port_of(ESTIMATES)}

    def process(self, arrays: dict[str, Any]) -> Result:
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        covariance = arrays.get("polar_covariance")
        near = has_position(arrays["range_m"], covariance, self.params.n_sigma)
        positions = {name: values[near] for name, values in arrays.items()}
        azimuth, elevation, range_m = (positions[name] for name in ("azimuth_rad", "elevation_rad", "range_m"))
        positions["position_m"] = self.array.to_world(polar_to_cartesian(azimuth, elevation, range_m))
        if covariance is not None:
            own = cartesian_covariance(azimuth, elevation, range_m, positions.pop("polar_covariance"))
            positions["covariance_m2"] = self.array.rotation @ own @ self.array.rotation.T
        return positions, {name: values[~near] for name, values in arrays.items()}
