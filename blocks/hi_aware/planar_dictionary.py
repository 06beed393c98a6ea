"""Search grid of planar arrays in any plane: azimuth, elevation and range of its points, and their steering vectors."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.null_descent import Model, descend_nulls
from blocks.subspace.planar_grid import PlanarGrid, planar_grid
from blocks.subspace.planar_music import planar_music
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.wavefront import direction_vector

F64 = npt.NDArray[np.float64]

#: Ranges tried along each source found, a step of the grid: the cost is as narrow as they are apart where directions
#: and ranges are coupled, as on a ring.
RANGES_A_STEP = 8


class Points(NamedTuple):
    """Azimuth and elevation, rad, and inverse range, 1/m, each ``[point]``."""

    azimuth_rad: F64
    elevation_rad: F64
    inverse_range_per_m: F64


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanarDictionary:
    """Grid over the half space before a planar array, which it does not tell from the one behind.

    Attributes:
        model: Array and wavefront.
        grid: That of the same array turned into the x-z plane.
        turn: Rotation into that plane, ``[xyz, xyz]``: ``p' = turn p``.
    """

    model: Model
    grid: PlanarGrid
    turn: F64

    @property
    def conjugate(self) -> npt.NDArray[np.complex64]:
        """``a^H / |a|``, ``[point, sensor]``."""
        return self.grid.conjugate

    @property
    def inverse_range_limits_per_m(self) -> tuple[float, float]:
        """Where refinement may go, 1/m."""
        box = self.grid.box
        return float(box.low[2]), float(box.high[2])

    def nulls(self, signal: npt.NDArray[np.complexfloating[Any, Any]]) -> tuple[Points, F64]:
        """Nulls of the MUSIC cost of a subspace ``[sensor, source]`` and their depth, deepest first."""
        found = planar_music(signal, self.grid)
        turned = np.stack([found.azimuth_rad, found.elevation_rad, found.inverse_range_per_m], axis=-1)
        points, depth = self._along_ranges(np.broadcast_to(signal, (len(turned), *signal.shape)), turned)
        order = np.argsort(depth)
        return Points(*(values[order] for values in points)), depth[order]

    def settled(self, alone: npt.NDArray[np.complexfloating[Any, Any]], index: npt.NDArray[np.intp]) -> Points:
        """Off the grid from points ``[source]`` of it, to the largest response of each column ``[sensor, source]``."""
        n_range = len(self.grid.inverse_range_per_m)
        at_v, at_u = np.nonzero(self.grid.visible)
        elevation = np.arcsin(self.grid.v[at_v[index // n_range]])
        azimuth = np.arcsin(np.clip(self.grid.u[at_u[index // n_range]] / np.cos(elevation), -1, 1))
        turned = np.stack([azimuth, elevation, self.grid.inverse_range_per_m[index % n_range]], axis=-1)
        unit = alone / np.maximum(np.linalg.norm(alone, axis=0), 1e-300)
        return self._along_ranges(unit.T[:, :, None], turned)[0]

    def _along_ranges(self, signal: npt.NDArray[np.complexfloating[Any, Any]], turned: F64) -> tuple[Points, F64]:
        """Deepest null of each ``signal [source, sensor, any]`` over all ranges, from ``turned [source, 3]``.

        At each of many ranges the direction is descended to; from the deepest on, all three together. From one range
        alone a valley that bends would be crept along.
        """
        box = self.grid.box
        ranges = np.linspace(box.low[2], box.high[2], RANGES_A_STEP * len(self.grid.inverse_range_per_m))
        start = np.repeat(turned[:, None], len(ranges), axis=1)
        start[..., 2] = ranges
        exact = signal.astype(np.complex128)
        fixed = descend_nulls(exact, self.grid.model, start, box, ("azimuth", "elevation"), max_iterations=6)
        best = fixed.depth.argmin(axis=1)
        start = fixed.point[np.arange(len(best)), best][:, None]
        ended = descend_nulls(exact, self.grid.model, start, box, self.grid.free, tolerance=1e-3)
        az, el, k = np.moveaxis(ended.point[:, 0], -1, 0)
        return Points(*_turned(self.turn, az, el), k), ended.depth[:, 0]


def planar_dictionary(
    array: ArrayGeometry, wavelength_m: float, *, range_min_m: float | None = None, amplitude: bool = True
) -> PlanarDictionary:
    """Half a beam in each sine along the plane, 2 rad of curvature; the last 4 are kept.

    Args:
        array: In any plane, with an extent in both of its directions.
        wavelength_m: Metres.
        range_min_m: Nearest range; absent: the Fresnel distance.
        amplitude: Whether near elements receive more than far ones.

    Raises:
        ParamError: A line or a body, or a grid that is too large.
    """
    return _built(array, float(wavelength_m), range_min_m, amplitude)


@lru_cache(maxsize=4)
def _built(array: ArrayGeometry, wavelength_m: float, range_min_m: float | None, amplitude: bool) -> PlanarDictionary:
    turn = turn_into_xz(array.channel_position_m)
    if turn is None:
        raise ParamError(
            f"planar_dictionary: the elements of {array.array_id!r} lie in no one plane, or on a line, which sees no "
            "elevation; search at one elevation (Grid.coarse, the block's elevation='fixed')"
        )
    position = array.channel_position_m
    turned = array if np.array_equal(turn, np.eye(3)) else ArrayGeometry(position_m=position @ turn.T)
    grid = planar_grid(turned, wavelength_m, range_min_m=range_min_m, amplitude=amplitude)
    return PlanarDictionary(model=Model(position, wavelength_m, amplitude), grid=grid, turn=turn)


def turn_into_xz(position_m: F64) -> F64 | None:
    """Rotation ``[xyz, xyz]`` of the plane that elements ``[sensor, xyz]`` lie in into x-z; ``None``: there is none.

    The normal becomes +y: of its two directions the one towards +y, or +z for a level array, or +x. What is level in
    the plane becomes x. An array in x-z is not turned.
    """
    _, extent, axes = np.linalg.svd(position_m - position_m.mean(axis=0))
    if len(extent) < 3 or extent[2] > 1e-6 * extent[0] or extent[1] < 1e-3 * extent[0]:
        return None
    normal = np.where(np.abs(axes[2]) < 1e-9, 0.0, axes[2])
    normal *= np.sign(next(normal[i] for i in (1, 2, 0) if normal[i] != 0)) / np.linalg.norm(normal)
    across = np.cross(normal, [0.0, 0.0, 1.0])
    across = across / np.linalg.norm(across) if np.linalg.norm(across) > 1e-9 else np.array([1.0, 0.0, 0.0])
    turn: F64 = np.stack([across, normal, np.cross(across, normal)])
    return np.where(np.abs(turn - np.round(turn)) < 1e-12, np.round(turn), turn)


def _turned(turn: F64, azimuth_rad: F64, elevation_rad: F64) -> tuple[F64, F64]:
    """Direction in the turned frame, in the array's own."""
    u = direction_vector(azimuth_rad, elevation_rad) @ turn
    return np.arctan2(u[..., 0], u[..., 1]), np.arcsin(np.clip(u[..., 2], -1, 1))
