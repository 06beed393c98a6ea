"""MUSIC of planar arrays: azimuth and elevation, and a range for each direction."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import namespace
from blocks.subspace.data_check import require_finite
from blocks.subspace.null_batch import BatchEstimate, BatchSearch, nulls_of_projection
from blocks.subspace.planar_grid import PlanarSearch, free_coordinates, grid_points, search_box
from hil.errors import ParamError

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]


class PlanarEstimate(NamedTuple):
    """What was found, deepest null first; never more than asked, never filled up.

    Attributes:
        azimuth_rad: ``[source]``.
        elevation_rad: ``[source]``.
        inverse_range_per_m: ``[source]`` 1/m; 0 is a plane wave.
        depth: MUSIC cost at the source, 0 .. 1, ``[source]``.
        resolved: The null is deep, and the descent converged inside the searched ranges, ``[source]``.
    """

    azimuth_rad: F64
    elevation_rad: F64
    inverse_range_per_m: F64
    depth: F64
    resolved: npt.NDArray[np.bool_]


def planar_music(signal: npt.NDArray[np.complexfloating[Any, Any]], grid: PlanarSearch) -> PlanarEstimate:
    """Directions and ranges of the sources in a signal subspace ``[sensor, source]``, off the grid.

    Every (direction, range) that is a local maximum of the projection is descended in all coordinates at once, so each
    direction gets its range, and two sources in one direction get two. Exact spherical wavefront; sources in front of
    the array (an array in a plane does not tell front from back). [IRS] decouples the two searches instead, which
    costs the aperture that its smoothing takes.

    Args:
        signal: Orthonormal; sensors as in the grid.
        grid: :func:`blocks.subspace.planar_grid.planar_grid`, or for plane waves on uniform rectangles
            :func:`blocks.subspace.rectangle_grid.rectangle_grid`.
    """
    batch = planar_music_batch(signal[None], grid)
    az, k, depth, found, resolved, el = (values[0] for values in batch)
    return PlanarEstimate(az[found], el[found], k[found], depth[found], resolved[found])


def planar_music_batch(signal: Array, grid: PlanarSearch) -> BatchEstimate:
    """As :func:`planar_music` of many subspaces ``[batch, sensor, source]`` at once. NumPy or torch."""
    n_sensors = len(grid.model.position_m)
    if signal.ndim != 3 or signal.shape[1] != n_sensors or not 1 <= signal.shape[2] < n_sensors:
        raise ParamError(
            f"planar_music: subspace {list(signal.shape[-2:])}, grid of {n_sensors} sensors; expected as many sensors "
            "and fewer sources"
        )
    require_finite("planar_music", signal, "the signal subspaces")
    xp = namespace(signal)
    exact = xp.astype(signal, xp.complex128, copy=False)

    def place(points: Array) -> Array:
        az, el, k = (points[..., i] for i in range(3))
        return xp.stack([xp.sin(az) * xp.cos(el), xp.sin(el), k], axis=-1)  # azimuth means little near the poles

    search = BatchSearch(
        grid.model, search_box(grid), free_coordinates(grid), partial(grid_points, grid), place, wraps=False
    )
    return nulls_of_projection(exact, grid.projection(signal), search, spare=signal.shape[2] + 2)
