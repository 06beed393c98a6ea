"""Near-field MUSIC of many frames at once, NumPy or torch: one dictionary product, one descent of all nulls."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.data_check import require_power
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.sample_covariance import sample_covariance
from blocks.subspace.search_nulls import DISTINCT_STEPS, FOUND_DEPTH, RESOLVED_DEPTH
from blocks.subspace.spectrum import signal_projection
from blocks.subspace.steering_rows import Coordinate
from hil.errors import EstimationError, ParamError

Array = Any  # NumPy or torch

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

    azimuth_rad: Array
    inverse_range_per_m: Array
    depth: Array
    found: Array
    resolved: Array


def near_field_music_batch(x: Array, dictionary: Dictionary, n_sources: int) -> BatchEstimate:
    """2D MUSIC ([NF] Section II-C2) of ``[batch, sensor, snapshot]``, off the grid, covariances included.

    The estimates of :func:`blocks.subspace.near_field_music.near_field_music_samples` without its rarer
    steps: sources that show no null of their own on the grid are reported as not found (``found``), where the other
    projects known ones out and goes on; no likelihood fit, no powers. For training loops, Monte Carlo and arrays in
    parallel. Torch arrays may be on any device; the dictionary is copied there in each call.

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
    if x.shape[2] < n_sources:
        raise EstimationError(
            f"near_field_music_batch: {n_sources} sources asked of {x.shape[2]} snapshots, which tell at most "
            f"{x.shape[2]} apart"
        )
    xp = namespace(x)
    covariance = sample_covariance(x)
    require_power("near_field_music_batch", covariance)
    signal = xp.flip(xp.linalg.eigh(covariance)[1][..., -n_sources:], axis=-1)
    return near_field_batch_from_subspace(signal, dictionary)


def near_field_batch_from_subspace(signal: Array, dictionary: Dictionary) -> BatchEstimate:
    """The search itself, from orthonormal signal subspaces ``[batch, sensor, source]``."""
    xp = namespace(signal)
    n_batch, _, n_sources = signal.shape
    grid = dictionary.grid
    projection = signal_projection(constant(dictionary.conjugate, signal), xp.astype(signal, xp.complex64, copy=False))
    projection = xp.reshape(projection, (n_batch, grid.n_azimuth, grid.n_range))
    exact = xp.astype(signal, xp.complex128, copy=False)
    if isinstance(exact, np.ndarray):
        exact = np.ascontiguousarray(exact)
    first = _descend(exact, dictionary, _highest_maxima(projection, n_sources, grid.wraps))
    doubtful = ~xp.all(first.resolved, axis=-1)
    if not bool(xp.any(doubtful)):
        return first
    # a side lobe of a strong source may be higher on the grid than a source that lies between its points
    (again,) = xp.nonzero(doubtful) if isinstance(exact, np.ndarray) else xp.nonzero(doubtful, as_tuple=True)
    start = _highest_maxima(projection[again], n_sources + SPARE, grid.wraps)
    second = _descend(exact[again], dictionary, start)
    for whole, part in zip(first, second, strict=True):
        whole[again] = part
    return first


def _descend(signal: Array, dictionary: Dictionary, start: Array) -> BatchEstimate:
    """Descend from grid points ``[batch, peak]``; keep the deepest distinct nulls, one a source."""
    xp = namespace(signal)
    n_sources = signal.shape[-1]
    model, box = search_box(dictionary)
    grid = dictionary.grid
    azimuths = constant(dictionary.azimuth_rad, signal)[start // grid.n_range]
    inverse_ranges = constant(dictionary.inverse_range_per_m, signal)[start % grid.n_range]
    point = xp.stack([azimuths, xp.full_like(azimuths, grid.elevation_rad), inverse_ranges], axis=-1)
    free: tuple[Coordinate, ...] = ("azimuth",) if grid.n_range == 1 else ("azimuth", "inverse_range")
    ended = descend_nulls(signal, model, point, box, free, tolerance=1e-3)
    azimuth, k, depth = ended.point[..., 0], ended.point[..., 2], ended.depth
    inside = (k < float(box.high[2])) | (grid.n_range == 1)
    chosen, found = [], []
    for _ in range(n_sources):  # deepest first; what converged to the same null drops out
        best = xp.argmin(depth, axis=-1)[:, None]
        chosen.append(best)
        found.append(xp.take_along_axis(depth, best, axis=-1) <= FOUND_DEPTH)
        d_az = xp.abs(azimuth - xp.take_along_axis(azimuth, best, axis=-1))
        d_az = xp.minimum(d_az, 2 * np.pi - d_az) if grid.wraps else d_az
        d_k = xp.abs(k - xp.take_along_axis(k, best, axis=-1))
        same = (d_az < DISTINCT_STEPS * float(box.step[0])) & (d_k < DISTINCT_STEPS * float(box.step[2]))
        depth = xp.where(same, xp.full_like(depth, np.inf), depth)
    take, there = xp.concatenate(chosen, axis=-1), xp.concatenate(found, axis=-1)
    at = {
        name: xp.take_along_axis(values, take, axis=-1)
        for name, values in (("az", azimuth), ("k", k), ("depth", ended.depth), ("ok", ended.converged & inside))
    }
    nothing = xp.full_like(at["az"], np.nan)
    final = xp.where(there, at["depth"], xp.ones_like(nothing))
    return BatchEstimate(
        xp.where(there, at["az"], nothing),
        xp.where(there, at["k"], nothing),
        final,
        there,
        there & (final < RESOLVED_DEPTH) & at["ok"],
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


def _highest_maxima(values: Array, n_wanted: int, wraps: bool) -> Array:
    """Flat indices of the ``n_wanted`` highest local maxima of each ``[azimuth, range]``, ``[batch, n_wanted]``.

    Where there are fewer, points that are none follow: they descend into a null that is there already, and drop out.
    """
    xp = namespace(values)
    n_batch, n_azimuth, n_range = values.shape
    if n_azimuth * n_range <= n_wanted:
        raise ParamError(f"near_field_music_batch: {n_azimuth * n_range} grid points for {n_wanted} starting points")
    lowest = xp.full_like(values[:, :1], -np.inf)
    before, after = (values[:, -1:], values[:, :1]) if wraps else (lowest, lowest)
    rows = xp.concatenate([before, values, after], axis=1)
    rows = xp.maximum(xp.maximum(rows[:, :-2], rows[:, 2:]), rows[:, 1:-1])
    edge = xp.full_like(rows[..., :1], -np.inf)
    around = xp.concatenate([edge, rows, edge], axis=2)
    highest = xp.maximum(xp.maximum(around[..., :-2], around[..., 2:]), around[..., 1:-1])
    flat = xp.reshape(xp.where(values >= highest, values, values - 1), (n_batch, -1))
    if isinstance(flat, np.ndarray):
        return np.argpartition(-flat, n_wanted, axis=1)[:, :n_wanted]
    return xp.argsort(flat, axis=-1, descending=True)[:, :n_wanted]
