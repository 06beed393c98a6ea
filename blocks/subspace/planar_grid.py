"""Search grid of planar arrays: azimuth, elevation and range, by a dictionary."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import at_least, constant, namespace
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.range_music import range_grid
from blocks.subspace.spectrum import signal_projection
from blocks.subspace.steering_rows import Coordinate
from hil.array import ArrayGeometry, fresnel_distance
from hil.errors import ParamError
from hil.wavefront import path_difference

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]

#: Largest dictionary, bytes: beyond it the search would page.
MOST_BYTES = 1 << 30


class PlanarSearch(Protocol):
    """A grid uniform in the sines ``u`` (along x) and ``v`` (along z) and in inverse range, and projections on it."""

    @property
    def model(self) -> Model: ...
    @property
    def u(self) -> F64: ...  # [u]
    @property
    def v(self) -> F64: ...  # [v]
    @property
    def inverse_range_per_m(self) -> F64: ...  # [range]

    def projection(self, signal: Array) -> Array:
        """Part of each steering vector in orthonormal subspaces ``[..., sensor, source]``, 0 where nothing is visible.

        NumPy or torch; ``[..., v, u, range]`` real, 0 .. 1.
        """


def grid_points(grid: PlanarSearch, index: Array) -> Array:
    """Azimuth, elevation, inverse range ``[..., 3]`` of flat indices ``[...]`` into a projection. NumPy or torch.

    In float64; indices that are not visible give the direction on the horizon next to them.
    """
    xp, n_range, n_u = namespace(index), len(grid.inverse_range_per_m), len(grid.u)
    k = constant(grid.inverse_range_per_m, index)[index % n_range]
    u = constant(grid.u, index)[index // n_range % n_u]
    elevation = xp.asin(xp.clip(constant(grid.v, index)[index // n_range // n_u], -1.0, 1.0))
    azimuth = xp.asin(xp.clip(u / at_least(xp.cos(elevation), 1e-9), -1.0, 1.0))
    return xp.stack([azimuth, elevation, k], axis=-1)


def search_box(grid: PlanarSearch) -> Box:
    """Limits of the descent: half a step beyond the nearest range, so that noise does not push a source out."""
    k = grid.inverse_range_per_m
    k_step = float(k[1] - k[0]) if len(k) > 1 else 1.0
    k_high = float(k[-1]) + (k_step / 2 if len(k) > 1 else 0.0)
    step = np.array([grid.u[1] - grid.u[0], grid.v[1] - grid.v[0], k_step])
    return Box(np.array([-np.pi / 2, -np.pi / 2, 0.0]), np.array([np.pi / 2, np.pi / 2, k_high]), step)


def free_coordinates(grid: PlanarSearch) -> tuple[Coordinate, ...]:
    """Coordinates that the search moves: the range only where the grid has some."""
    ranged = len(grid.inverse_range_per_m) > 1
    return ("azimuth", "elevation", "inverse_range") if ranged else ("azimuth", "elevation")


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanarGrid:
    """A :class:`PlanarSearch` for any array in the x-z plane: its dictionary is written out.

    Attributes:
        model: Array and wavefront.
        u: ``[u]``.
        v: ``[v]``.
        inverse_range_per_m: ``[range]``.
        visible: ``[v, u]``, inside the unit circle.
        conjugate: ``a^H / |a|`` of the visible points, ``[point * range, sensor]`` complex64, Fortran order.
    """

    model: Model
    u: F64
    v: F64
    inverse_range_per_m: F64
    visible: npt.NDArray[np.bool_]
    conjugate: npt.NDArray[np.complex64]

    @property
    def box(self) -> Box:
        return search_box(self)

    @property
    def free(self) -> tuple[Coordinate, ...]:
        return free_coordinates(self)

    def projection(self, signal: Array) -> Array:
        """See :class:`PlanarSearch`; in complex64."""
        xp = namespace(signal)
        values = signal_projection(constant(self.conjugate, signal), xp.astype(signal, xp.complex64, copy=False))
        batch, n_range = tuple(signal.shape[:-2]), len(self.inverse_range_per_m)
        cube = constant(np.zeros((*batch, self.visible.size, n_range), dtype=np.float32), signal)
        cube[..., constant(np.flatnonzero(self.visible), signal), :] = xp.reshape(values, (*batch, -1, n_range))
        return xp.reshape(cube, (*batch, *self.visible.shape, n_range))


def planar_grid(
    array: ArrayGeometry,
    wavelength_m: float,
    *,
    range_min_m: float | None = None,
    far_field_only: bool = False,
    amplitude: bool = False,
) -> PlanarGrid:
    """Half a beam in each sine, 2 rad of curvature; the last 4 are kept.

    Args:
        array: In the x-z plane to a quarter of a wavelength, with an extent along both axes.
        wavelength_m: Metres.
        range_min_m: Nearest range; absent: the Fresnel distance.
        far_field_only: Plane waves alone.
        amplitude: Whether near elements receive more than far ones.
    """
    return _planar_grid(array, float(wavelength_m), range_min_m, far_field_only, amplitude)


@lru_cache(maxsize=4)
def _planar_grid(
    array: ArrayGeometry, wavelength_m: float, range_min_m: float | None, far_field_only: bool, amplitude: bool
) -> PlanarGrid:
    position, aperture = array.channel_position_m, array.aperture_m
    extent = np.ptp(position, axis=0)
    if extent[1] > wavelength_m / 4 or min(extent[0], extent[2]) < wavelength_m / 4:
        raise ParamError(
            f"planar_grid: expected an array in the x-z plane with an extent along both axes, got extents {extent} m; "
            "a line sees no elevation: use near_field_music or far_field_music"
        )
    u, v = (np.linspace(-1, 1, int(np.ceil(4 * extent[axis] / wavelength_m)) + 1) for axis in (0, 2))
    nearest = range_min_m if range_min_m is not None else fresnel_distance(aperture, wavelength_m)
    k = np.zeros(1) if far_field_only else range_grid(aperture, wavelength_m, nearest)
    visible = inside_circle(u, v)
    n_points = int(visible.sum()) * len(k)
    if n_points * len(position) * 8 > MOST_BYTES:
        raise ParamError(
            f"planar_grid: a dictionary of {n_points} points and {len(position)} sensors needs more than "
            f"{MOST_BYTES >> 30} GiB; raise range_min_m, or search plane waves (rectangle_grid) and take ranges by "
            "range_music"
        )
    at_v, at_u = np.nonzero(visible)
    direction = np.stack([u[at_u], np.sqrt(1 - u[at_u] ** 2 - v[at_v] ** 2), v[at_v]], axis=-1)
    conjugate = np.empty((n_points, len(position)), dtype=np.complex64, order="F")
    for i, inverse_range in enumerate(k):
        path, gain = path_difference(position, direction, np.full(len(direction), inverse_range))
        layer = np.exp(2j * np.pi / wavelength_m * path) * (gain if amplitude else 1)
        conjugate[i :: len(k)] = layer / np.linalg.norm(layer, axis=-1, keepdims=True)
    return PlanarGrid(
        model=Model(position, wavelength_m, amplitude),
        u=u,
        v=v,
        inverse_range_per_m=k,
        visible=visible,
        conjugate=conjugate,
    )


def inside_circle(u: F64, v: F64) -> npt.NDArray[np.bool_]:
    """Which sines ``u`` and ``v`` are of a direction, ``[v, u]``."""
    inside: npt.NDArray[np.bool_] = v[:, None] ** 2 + u**2 < 1
    return inside
