"""From grids of the MUSIC cost to distinct nulls off the grid, many frames at once, NumPy or torch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.search_nulls import DISTINCT_STEPS, FOUND_DEPTH, RESOLVED_DEPTH
from blocks.subspace.steering_rows import Coordinate
from hil.errors import ParamError

Array = Any  # NumPy or torch

#: Local maxima that are descended beyond the number of sources of a line: side lobes may stand higher on a coarse grid.
SPARE = 2


class BatchEstimate(NamedTuple):
    """Nulls of each frame, deepest first.

    Attributes:
        azimuth_rad: ``[batch, source]``; NaN where ``found`` is False, so that it cannot be taken for a direction.
        inverse_range_per_m: ``[batch, source]`` 1/m; NaN likewise.
        depth: MUSIC cost, ``[batch, source]``; 1 where nothing was found.
        found: There is a distinct null, ``[batch, source]``.
        resolved: It is deep, converged and inside the searched ranges, ``[batch, source]``.
        elevation_rad: ``[batch, source]``; NaN likewise.
    """

    azimuth_rad: Array
    inverse_range_per_m: Array
    depth: Array
    found: Array
    resolved: Array
    elevation_rad: Array


class BatchSearch(NamedTuple):
    """What a grid tells the descent.

    Attributes:
        model: Array and wavefront.
        box: Limits and steps.
        free: Coordinates that move.
        point: Azimuth, elevation, inverse range ``[..., 3]`` of flat indices into the grid, in the kind of the signal.
        place: Coordinates ``[..., 3]`` of points ``[..., 3]`` in which ``box.step`` counts: two nulls are one where
            they agree in all.
        wraps: The first of them is an azimuth on a full circle.
    """

    model: Model
    box: Box
    free: tuple[Coordinate, ...]
    point: Callable[[Array], Array]
    place: Callable[[Array], Array]
    wraps: bool


def nulls_of_projection(signal: Array, projection: Array, search: BatchSearch, *, spare: int = SPARE) -> BatchEstimate:
    """Descend from the highest maxima of each grid, and where that leaves a doubt from a few more.

    Args:
        signal: Orthonormal ``[batch, sensor, source]`` complex128.
        projection: Of the grid's steering vectors in it, ``[batch, ...]`` real, any number of axes.
        search: The grid.
        spare: Local maxima beyond the number of sources that are descended where there is a doubt.
    """
    xp, n_sources = namespace(signal), signal.shape[-1]
    first = descend_distinct(signal, search, search.point(_highest_maxima(projection, n_sources, search.wraps)))
    doubtful = ~xp.all(first.resolved, axis=-1)
    if not bool(xp.any(doubtful)):
        return first
    # a side lobe of a strong source may be higher on the grid than a source that lies between its points
    (again,) = xp.nonzero(doubtful) if isinstance(signal, np.ndarray) else xp.nonzero(doubtful, as_tuple=True)
    n_more = min(n_sources + spare, int(np.prod(projection.shape[1:])) - 1)
    start = search.point(_highest_maxima(projection[again], n_more, search.wraps))
    second = descend_distinct(signal[again], search, start)
    for whole, part in zip(first, second, strict=True):
        whole[again] = part
    return first


def descend_distinct(signal: Array, search: BatchSearch, start: Array) -> BatchEstimate:
    """Descend from points ``[batch, peak, 3]``; keep the deepest distinct nulls, one a source."""
    xp = namespace(signal)
    ended = descend_nulls(signal, search.model, start, search.box, search.free, tolerance=1e-3)
    point, depth = ended.point, ended.depth
    inside = (point[..., 2] < float(search.box.high[2])) | ("inverse_range" not in search.free)
    place = search.place(point)
    near = constant(DISTINCT_STEPS * search.box.step, place)
    chosen, found = [], []
    for _ in range(signal.shape[-1]):  # deepest first; what converged to the same null drops out
        best = xp.argmin(depth, axis=-1)[:, None]
        chosen.append(best)
        found.append(xp.take_along_axis(depth, best, axis=-1) <= FOUND_DEPTH)
        apart = xp.abs(place - xp.take_along_axis(place, best[..., None], axis=-2))
        if search.wraps:
            turn = xp.minimum(apart[..., :1], 2 * np.pi - apart[..., :1])
            apart = xp.concatenate([turn, apart[..., 1:]], axis=-1)
        depth = xp.where(xp.all(apart < near, axis=-1), xp.full_like(depth, np.inf), depth)
    take, there = xp.concatenate(chosen, axis=-1), xp.concatenate(found, axis=-1)
    azimuth, elevation, k = (xp.take_along_axis(point[..., i], take, axis=-1) for i in range(3))
    nothing = xp.full_like(azimuth, np.nan)
    final = xp.where(there, xp.take_along_axis(ended.depth, take, axis=-1), xp.ones_like(nothing))
    sure = xp.take_along_axis(ended.converged & inside, take, axis=-1)
    return BatchEstimate(
        xp.where(there, azimuth, nothing),
        xp.where(there, k, nothing),
        final,
        there,
        there & (final < RESOLVED_DEPTH) & sure,
        xp.where(there, elevation, nothing),
    )


def _highest_maxima(values: Array, n_wanted: int, wraps: bool) -> Array:
    """Flat indices of the ``n_wanted`` highest local maxima of each grid ``[batch, ...]``, ``[batch, n_wanted]``.

    Points on the border count. Where there are fewer, points that are none follow: they descend into a null that is
    there already, and drop out. ``wraps``: the first axis of the grid is a circle.
    """
    xp = namespace(values)
    n_points = int(np.prod(values.shape[1:]))
    if n_points <= n_wanted:
        raise ParamError(f"search of nulls: {n_points} grid points for {n_wanted} starting points")
    highest = values
    for axis in range(1, values.ndim):
        end, start = _along(axis, slice(-1, None)), _along(axis, slice(0, 1))
        edge = xp.full_like(highest[start], -np.inf)
        before, after = (highest[end], highest[start]) if wraps and axis == 1 else (edge, edge)
        padded = xp.concatenate([before, highest, after], axis=axis)
        around = xp.maximum(padded[_along(axis, slice(None, -2))], padded[_along(axis, slice(2, None))])
        highest = xp.maximum(around, highest)
    if isinstance(values, np.ndarray) and len(values) == 1:  # the few that there are, not an order of all points
        few = np.flatnonzero((values >= highest) & (values > 0))
        if len(few) >= n_wanted:
            return few[np.argsort(-values.ravel()[few])[:n_wanted]][None]
    flat = xp.reshape(xp.where(values >= highest, values, values - 1), (len(values), -1))
    if isinstance(flat, np.ndarray):
        return np.argpartition(-flat, n_wanted, axis=1)[:, :n_wanted]
    return xp.argsort(flat, axis=-1, descending=True)[:, :n_wanted]


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)
