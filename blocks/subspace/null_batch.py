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
    first = descend_distinct(signal, search, search.point(highest_maxima(projection, n_sources, search.wraps)))
    doubtful = ~xp.all(first.resolved, axis=-1)
    if not bool(xp.any(doubtful)):
        return first
    # a side lobe of a strong source may be higher on the grid than a source that lies between its points
    (again,) = xp.nonzero(doubtful)
    n_more = min(n_sources + spare, int(np.prod(projection.shape[1:])) - 1)
    start = search.point(highest_maxima(projection[again], n_more, search.wraps))
    second = descend_distinct(signal[again], search, start)
    for whole, part in zip(first, second, strict=True):
        whole[again] = part
    return first


def descend_distinct(signal: Array, search: BatchSearch, start: Array) -> BatchEstimate:
    """Descend from points ``[batch, peak, 3]``; keep the deepest distinct nulls, one a source."""
    xp = namespace(signal)
    ended = descend_nulls(signal, search.model, start, search.box, search.free, tolerance=1e-3)
    inside = (ended.point[..., 2] < float(search.box.high[2])) | ("inverse_range" not in search.free)
    sure = xp.astype(ended.converged & inside, ended.depth.dtype)
    peaks = xp.concatenate([ended.depth[..., None], ended.point, sure[..., None]], axis=-1)
    peaks = xp.take_along_axis(peaks, xp.argsort(ended.depth, axis=-1)[..., None], axis=-2)  # deepest first
    kept = _kept(search, peaks[..., 0], peaks[..., 1:4])
    n_peaks = kept.shape[-1]
    behind = constant(np.arange(n_peaks), peaks) + xp.where(kept, 0, n_peaks)
    take = xp.argsort(behind, axis=-1)[..., : signal.shape[-1]]
    peaks, there = xp.take_along_axis(peaks, take[..., None], axis=-2), xp.take_along_axis(kept, take, axis=-1)
    nothing = constant(np.array([1.0, np.nan, np.nan, np.nan, 0.0]), peaks)
    peaks = xp.where(there[..., None], peaks, nothing)
    depth, azimuth, elevation, k, settled = (peaks[..., i] for i in range(5))
    return BatchEstimate(azimuth, k, depth, there, there & (depth < RESOLVED_DEPTH) & (settled > 0), elevation)


def _kept(search: BatchSearch, depth: Array, point: Array) -> Array:
    """Which peaks, deepest first, are deep enough and no other that is kept, ``[batch, peak]``."""
    xp = namespace(depth)
    place = search.place(point)
    apart = xp.abs(place[..., :, None, :] - place[..., None, :, :])
    if search.wraps:
        turn = xp.minimum(apart[..., :1], 2 * np.pi - apart[..., :1])
        apart = xp.concatenate([turn, apart[..., 1:]], axis=-1)
    same = xp.all(apart < constant(DISTINCT_STEPS * search.box.step, place), axis=-1)
    kept = depth <= FOUND_DEPTH
    for i in range(1, depth.shape[-1]):
        kept[..., i] &= ~xp.any(same[..., i, :i] & kept[..., :i], axis=-1)
    return kept


def highest_maxima(values: Array, n_wanted: int, wraps: bool) -> Array:
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
