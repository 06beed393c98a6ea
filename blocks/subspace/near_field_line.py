"""Near-field MUSIC on a uniform line: an FFT dictionary finds the basins, the exact wavefront is descended in them."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.data_check import require_finite
from blocks.subspace.fresnel_grid import FresnelGrid
from blocks.subspace.null_batch import BatchEstimate, BatchSearch, descend_distinct, nulls_of_projection
from blocks.subspace.steering_rows import Coordinate
from hil.errors import ParamError

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]


class LineEstimate(NamedTuple):
    """What was found, deepest null first; never more than asked, never filled up.

    Attributes:
        azimuth_rad: ``[source]``.
        inverse_range_per_m: ``[source]`` 1/m; 0 is a plane wave.
        depth: MUSIC cost at the source, 0 .. 1, ``[source]``.
        resolved: The null is deep, and the descent converged inside the searched ranges, ``[source]``.
    """

    azimuth_rad: F64
    inverse_range_per_m: F64
    depth: F64
    resolved: npt.NDArray[np.bool_]

    @property
    def point(self) -> F64:
        """Azimuth, elevation 0, inverse range, ``[source, 3]``: where the next frame's descent may start."""
        return np.stack([self.azimuth_rad, np.zeros_like(self.depth), self.inverse_range_per_m], axis=-1)


def near_field_line(
    signal: npt.NDArray[np.complexfloating[Any, Any]], grid: FresnelGrid, *, start: F64 | None = None
) -> LineEstimate:
    """Sources in a signal subspace ``[sensor, source]``, off the grid, on the exact spherical wavefront.

    For uniform lines of some 64 elements and more it replaces the dictionary of
    :func:`blocks.subspace.near_field_music.near_field_music`; the memory of a dictionary is saved altogether.

    Args:
        signal: Orthonormal.
        grid: From :func:`blocks.subspace.fresnel_grid.fresnel_grid`.
        start: :attr:`LineEstimate.point` of the last frame. Where as many distinct deep nulls as sources are found from
            there, they explain the whole subspace and the grid is not searched; otherwise it is.
    """
    if start is not None and len(start) == signal.shape[-1]:
        exact = _checked(signal[None], grid)
        found = descend_distinct(exact, _search(exact, grid), start[None])
        if found.resolved.all():
            return _of_first(found)
    return _of_first(near_field_line_batch(signal[None], grid))


def near_field_line_batch(signal: Array, grid: FresnelGrid) -> BatchEstimate:
    """As :func:`near_field_line` of many subspaces ``[batch, sensor, source]`` at once. NumPy or torch."""
    exact = _checked(signal, grid)
    projection = grid.projection(signal) * constant(grid.searched.astype(np.float32), signal)
    return nulls_of_projection(exact, projection, _search(exact, grid))


def _checked(signal: Array, grid: FresnelGrid) -> Array:
    n = grid.chirp.shape[1]
    if signal.ndim != 3 or signal.shape[1] != n or not 1 <= signal.shape[2] < n:
        raise ParamError(f"near_field_line: subspace {list(signal.shape[-2:])}, grid of {n} sensors")
    require_finite("near_field_line", signal, "the signal subspaces")
    xp = namespace(signal)
    return xp.astype(signal, xp.complex128, copy=False)


def _search(exact: Array, grid: FresnelGrid) -> BatchSearch:
    def point(index: Array) -> Array:
        xp = namespace(exact)
        u = constant(grid.sine, exact)[index % len(grid.sine)]
        curvature = constant(grid.curvature_per_m, exact)[index // len(grid.sine)]
        k = xp.clip(curvature / xp.clip(1 - u * u, min=1e-9), max=1 / grid.range_min_m)
        return xp.stack([xp.asin(xp.clip(u, -1.0, 1.0)), xp.zeros_like(u), k], axis=-1)

    ranged = len(grid.curvature_per_m) > 1
    free: tuple[Coordinate, ...] = ("azimuth", "inverse_range") if ranged else ("azimuth",)
    return BatchSearch(grid.model, grid.box, free, point, lambda points: points, wraps=False)


def _of_first(batch: BatchEstimate) -> LineEstimate:
    azimuth, k, depth, found, resolved, _ = (values[0] for values in batch)
    return LineEstimate(azimuth[found], k[found], depth[found], resolved[found])
