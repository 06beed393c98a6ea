"""MUSIC of planar arrays: azimuth and elevation, and a range for each direction."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import at_least, constant, namespace
from blocks.subspace.data_check import require_finite
from blocks.subspace.null_batch import BatchEstimate, BatchSearch, descend_distinct, nulls_of_projection
from blocks.subspace.planar_grid import PlanarSearch, free_coordinates, grid_points, search_box
from blocks.subspace.steering_rows import steering_rows
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
    direction gets its range, and two sources in one direction get two. Where that leaves sources out, those found are
    projected out and the rest is searched again. Exact spherical wavefront; sources in front of
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
    found = nulls_of_projection(exact, grid.projection(signal), search, spare=signal.shape[2] + 2)
    return _behind_the_known(exact, grid, search, found)


def _behind_the_known(signal: Array, grid: PlanarSearch, search: BatchSearch, found: BatchEstimate) -> BatchEstimate:
    """Where sources are missing: descend once more from where, the known ones projected out, most is left.

    Two sources a beam apart may have one maximum on the grid, though each has a null of its own.
    """
    xp = namespace(signal)
    for _ in range(signal.shape[-1] - 1):
        doubtful = ~xp.all(found.resolved, axis=-1)
        if not bool(xp.any(doubtful)):
            break
        (again,) = xp.nonzero(doubtful)
        part = BatchEstimate(*(values[again] for values in found))
        start = _most_left(signal[again], grid, part)[..., None, :]
        known = xp.stack([part.azimuth_rad, part.elevation_rad, part.inverse_range_per_m], axis=-1)
        known = xp.where(part.found[..., None], known, start)
        more = descend_distinct(signal[again], search, xp.concatenate([known, start], axis=-2))
        for whole, new in zip(found, more, strict=True):
            whole[again] = new
    return found


def _most_left(signal: Array, grid: PlanarSearch, found: BatchEstimate) -> Array:
    r"""Point ``[batch, 3]`` of the highest projection once known sources are projected out (RAP-MUSIC).

    Mosher and Leahy 1999. With ``Q`` an orthonormal basis of the known steering vectors and ``V`` one of
    ``P_Q^perp U_s``: ``|V^H a|^2 / (|a|^2 - |Q^H a|^2)``. Known are those that are resolved, else the deepest.
    """
    xp, n_sources = namespace(signal), signal.shape[-1]
    order = constant(np.arange(n_sources), signal)
    known = xp.where(xp.any(found.resolved, axis=-1)[..., None], found.resolved, found.found & (order == 0))
    az, el, k = (
        xp.where(known, values, xp.zeros_like(values))
        for values in (found.azimuth_rad, found.elevation_rad, found.inverse_range_per_m)
    )
    model = grid.model
    rows = steering_rows(model.position_m, az, el, k, model.wavelength_m, amplitude=model.amplitude, wanted=())
    basis, size, _ = xp.linalg.svd(xp.matrix_transpose(rows[..., 0, :] * known[..., None]), full_matrices=False)
    q = basis * (size > 1e-6 * size[..., :1])[..., None, :]
    rest, _, _ = xp.linalg.svd(signal - q @ (xp.conj(xp.matrix_transpose(q)) @ signal), full_matrices=False)
    v = rest * (order < n_sources - xp.sum(xp.astype(known, order.dtype), axis=-1)[..., None])[..., None, :]
    explained, left = grid.projection(q), grid.projection(v)
    # next to a known source both vanish: no other is looked for where less than 1 % of a is left
    power = xp.where(explained > 0.99, xp.zeros_like(left), left / at_least(1 - explained, 0.01))
    return grid_points(grid, xp.argmax(xp.reshape(power, (len(power), -1)), axis=-1))
