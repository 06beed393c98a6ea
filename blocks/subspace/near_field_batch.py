"""Near-field MUSIC of many frames at once: one product with the dictionary, one descent of all nulls."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Dictionary
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.sample_covariance import sample_covariance
from blocks.subspace.search_nulls import DISTINCT_STEPS, FOUND_DEPTH, RESOLVED_DEPTH
from blocks.subspace.spectrum import signal_projection
from blocks.subspace.steering_rows import Coordinate
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]

#: Local maxima that are descended beyond the number of sources: side lobes may stand higher on a coarse grid.
SPARE = 2


class BatchEstimate(NamedTuple):
    """Nulls of each frame, deepest first.

    Attributes:
        azimuth_rad: ``[batch, source]``; NaN where ``found`` is False, so that it cannot be taken for a direction.
        inverse_range_per_m: ``[batch, source]`` 1/m; NaN likewise.
        depth: MUSIC cost, ``[batch, source]``; 1 where nothing was found.
        found: There is a distinct null, ``[batch, source]``.
        resolved: It is deep, converged and inside the searched ranges, ``[batch, source]``.
    """

    azimuth_rad: F64
    inverse_range_per_m: F64
    depth: F64
    found: npt.NDArray[np.bool_]
    resolved: npt.NDArray[np.bool_]


def near_field_music_batch(x: Complex, dictionary: Dictionary, n_sources: int) -> BatchEstimate:
    """2D MUSIC ([NF] Section II-C2) of ``[batch, sensor, snapshot]``, off the grid, covariances included.

    The estimates of :func:`blocks.subspace.near_field_music.near_field_music_samples` without its rarer
    steps: sources that show no null of their own on the grid are reported as not found (``found``), where the other
    projects known ones out and goes on; no likelihood fit, no powers. For training loops, Monte Carlo and arrays in
    parallel.

    Args:
        x: Samples, ``[batch, sensor, snapshot]``.
        dictionary: Model and grid; the coarse one is the fastest.
        n_sources: The same in all frames, 1 .. N - 1.
    """
    if x.ndim != 3 or x.shape[1] != len(dictionary.position_m) or not 1 <= n_sources < x.shape[1]:
        raise ParamError(
            f"near_field_music_batch: expected [batch, sensor={len(dictionary.position_m)}, snapshot] and fewer "
            f"sources than sensors, got {list(x.shape)} and {n_sources}"
        )
    covariance = sample_covariance(x)
    if not np.isfinite(np.trace(covariance, axis1=-2, axis2=-1)).all():
        raise EstimationError("near_field_music_batch: the samples are not finite")
    signal = np.linalg.eigh(covariance)[1][..., : -n_sources - 1 : -1]
    return near_field_batch_from_subspace(signal, dictionary)


def near_field_batch_from_subspace(signal: Complex, dictionary: Dictionary) -> BatchEstimate:
    """The search itself, from orthonormal signal subspaces ``[batch, sensor, source]``."""
    n_batch, _, n_sources = signal.shape
    projection = signal_projection(dictionary.conjugate, signal.astype(np.complex64, copy=False))
    grid = dictionary.grid
    projection = projection.reshape(n_batch, grid.n_azimuth, grid.n_range)
    exact = np.ascontiguousarray(signal, dtype=np.complex128)
    first = _descend(exact, dictionary, _highest_maxima(projection, n_sources, grid.wraps))
    again = np.flatnonzero(~first.resolved.all(axis=1))
    if len(again):
        # a side lobe of a strong source may be higher on the grid than a source that lies between its points
        start = _highest_maxima(projection[again], n_sources + SPARE, grid.wraps)
        second = _descend(exact[again], dictionary, start)
        for whole, part in zip(first, second, strict=True):
            whole[again] = part
    return first


def _descend(signal: npt.NDArray[np.complex128], dictionary: Dictionary, start: npt.NDArray[np.intp]) -> BatchEstimate:
    """Descend from grid points ``[batch, peak]``; keep the deepest distinct nulls, one a source."""
    n_batch, _, n_sources = signal.shape
    model, box = search_box(dictionary)
    grid = dictionary.grid
    point = np.empty((*start.shape, 3))
    point[..., 0] = dictionary.azimuth_rad[start // grid.n_range]
    point[..., 1] = grid.elevation_rad
    point[..., 2] = dictionary.inverse_range_per_m[start % grid.n_range]
    free: tuple[Coordinate, ...] = ("azimuth",) if grid.n_range == 1 else ("azimuth", "inverse_range")
    ended = descend_nulls(signal, model, point, box, free, tolerance=1e-3)
    azimuth, k, depth = ended.point[..., 0], ended.point[..., 2], ended.depth.copy()
    inside = (k < box.high[2]) | (grid.n_range == 1)
    rows = np.arange(n_batch)
    chosen = np.empty((n_batch, n_sources), dtype=np.intp)
    found = np.empty((n_batch, n_sources), dtype=bool)
    for source in range(n_sources):  # deepest first; what converged to the same null drops out
        best = depth.argmin(axis=1)
        chosen[:, source], found[:, source] = best, depth[rows, best] <= FOUND_DEPTH
        d_az = np.abs(azimuth - azimuth[rows, best][:, None])
        d_az = np.minimum(d_az, 2 * np.pi - d_az) if grid.wraps else d_az
        d_k = np.abs(k - k[rows, best][:, None])
        depth[(d_az < DISTINCT_STEPS * box.step[0]) & (d_k < DISTINCT_STEPS * box.step[2])] = np.inf
    take = rows[:, None], chosen
    final = np.where(found, ended.depth[take], 1.0)
    return BatchEstimate(
        np.where(found, azimuth[take], np.nan),
        np.where(found, k[take], np.nan),
        final,
        found,
        found & (final < RESOLVED_DEPTH) & ended.converged[take] & inside[take],
    )


@lru_cache(maxsize=8)
def search_box(dictionary: Dictionary) -> tuple[Model, Box]:
    """Model and limits of a dictionary for :func:`blocks.subspace.null_descent.descend_nulls`."""
    grid = dictionary.grid
    k_low, k_high = grid.inverse_range_limits_per_m
    limit = np.pi / 2 if grid.spacing == "sine" else np.inf
    box = Box(
        np.array([-limit, -np.pi / 2, k_low]),
        np.array([limit, np.pi / 2, k_high]),
        np.array([grid.azimuth_step_rad, 1.0, grid.inverse_range_step_per_m or 1.0]),
    )
    return Model(dictionary.position_m, dictionary.wavelength_m, dictionary.amplitude), box


def _highest_maxima(values: npt.NDArray[np.float32], n_wanted: int, wraps: bool) -> npt.NDArray[np.intp]:
    """Flat indices of the ``n_wanted`` highest local maxima of each ``[azimuth, range]``, ``[batch, n_wanted]``.

    Where there are fewer, points that are none follow: they descend into a null that is there already, and drop out.
    """
    n_batch, n_azimuth, n_range = values.shape
    padded = np.full((n_batch, n_azimuth + 2, n_range + 2), -np.inf, dtype=values.dtype)
    padded[:, 1:-1, 1:-1] = values
    if wraps:
        padded[:, 0, 1:-1], padded[:, -1, 1:-1] = values[:, -1], values[:, 0]
    along = np.maximum(np.maximum(padded[:, :, :-2], padded[:, :, 2:]), padded[:, :, 1:-1])
    highest = np.maximum(np.maximum(along[:, :-2], along[:, 2:]), along[:, 1:-1])
    flat = np.where(values >= highest, values, values - 1).reshape(n_batch, -1)
    if flat.shape[1] <= n_wanted:
        raise ParamError(f"near_field_music_batch: {flat.shape[1]} grid points for {n_wanted} starting points")
    return np.argpartition(-flat, n_wanted, axis=1)[:, :n_wanted]
