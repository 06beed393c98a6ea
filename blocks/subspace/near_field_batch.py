"""Near-field MUSIC of many frames at once, NumPy or torch: one dictionary product, one descent of all nulls."""

from functools import lru_cache
from typing import Any

import numpy as np

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.data_check import require_power
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.null_batch import BatchEstimate, BatchSearch, nulls_of_projection
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.sample_covariance import sample_covariance
from blocks.subspace.spectrum import signal_projection
from hil.errors import EstimationError, ParamError

Array = Any  # NumPy or torch


def near_field_music_batch(x: Array, dictionary: Dictionary, n_sources: int) -> BatchEstimate:
    """2D MUSIC ([NF] Section II-C2) of ``[batch, sensor, snapshot]``, off the grid, covariances included.

    The estimates of :func:`blocks.subspace.near_field_music.near_field_music_samples` without its rarer
    steps: sources that show no null of their own on the grid are reported as not found (``found``), where the other
    projects known ones out and goes on; no likelihood fit, no powers. For training loops, Monte Carlo and arrays in
    parallel; with a dictionary of plane waves it is far-field MUSIC. Torch arrays may be on any device; the dictionary
    is copied there in each call.

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
    grid = dictionary.grid
    projection = signal_projection(constant(dictionary.conjugate, signal), xp.astype(signal, xp.complex64, copy=False))
    projection = xp.reshape(projection, (len(signal), grid.n_azimuth, grid.n_range))
    exact = xp.astype(signal, xp.complex128, copy=False)
    if isinstance(exact, np.ndarray):
        exact = np.ascontiguousarray(exact)
    model, box = search_box(dictionary)

    def point(index: Array) -> Array:
        azimuth = constant(dictionary.azimuth_rad, exact)[index // grid.n_range]
        k = constant(dictionary.inverse_range_per_m, exact)[index % grid.n_range]
        return xp.stack([azimuth, xp.full_like(azimuth, grid.elevation_rad), k], axis=-1)

    search = BatchSearch(
        model=model,
        box=box,
        free=("azimuth",) if grid.n_range == 1 else ("azimuth", "inverse_range"),
        point=point,
        place=lambda points: points,
        wraps=grid.wraps,
    )
    return nulls_of_projection(exact, projection, search)


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
