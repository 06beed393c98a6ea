"""Ranges along known directions: one-dimensional MUSIC a source."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.data_check import require_finite
from blocks.subspace.null_descent import Box, Model, descend_nulls
from hil.errors import ParamError
from hil.wavefront import direction_vector, path_difference

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]


class Ranges(NamedTuple):
    """One range a direction, as inverse range ``[..., direction]`` 1/m (0: plane wave), and the MUSIC cost there."""

    inverse_range_per_m: Array
    depth: Array


def range_music(
    signal: Array,
    model: Model,
    azimuth_rad: Array,
    elevation_rad: Array,
    inverse_range_per_m: F64,
) -> Ranges:
    """Deepest null of the MUSIC cost along each direction, [HI] Eq. (34), then off the grid. Any array.

    NumPy or torch, batched.

    Exact spherical wavefront. A direction that is off moves the range: refine both together afterwards
    (:func:`blocks.subspace.null_descent.descend_nulls`).

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``.
        model: Array and wavefront.
        azimuth_rad: ``[..., direction]``; leading axes and kind as ``signal``.
        elevation_rad: ``[..., direction]``.
        inverse_range_per_m: Grid to search, ascending and uniform, at least 0, ``[range]``; steps of 2 rad of phase at
            the edge of the aperture miss nothing.
    """
    k = inverse_range_per_m
    if len(k) < 2 or k[0] < 0 or not (np.diff(k) > 0).all():
        raise ParamError(f"range_music: expected at least two ascending inverse ranges from 0, got {k}")
    require_finite("range_music", signal, "the signal subspace")
    xp = namespace(signal)
    exact = xp.astype(signal, xp.complex128, copy=False)
    grid = constant(np.asarray(k, dtype=np.float64), azimuth_rad)
    path, gain = path_difference(
        model.position_m,
        direction_vector(azimuth_rad, elevation_rad)[..., None, :],
        xp.broadcast_to(grid, (*azimuth_rad.shape, len(k))),
    )  # (..., direction, range, sensor)
    conjugate = xp.exp(2j * np.pi / model.wavelength_m * path) * (gain if model.amplitude else 1)
    flat = xp.reshape(conjugate, (*azimuth_rad.shape[:-1], -1, conjugate.shape[-1]))
    seen = xp.reshape(flat @ exact, (*conjugate.shape[:-1], exact.shape[-1]))
    norm = xp.sum(xp.real(conjugate) ** 2 + xp.imag(conjugate) ** 2, axis=-1)
    depth = 1 - xp.sum(xp.real(seen) ** 2 + xp.imag(seen) ** 2, axis=-1) / norm
    start = xp.stack([azimuth_rad, elevation_rad, grid[xp.argmin(depth, axis=-1)]], axis=-1)
    step = np.array([1.0, 1.0, k[1] - k[0]])
    box = Box(np.array([-np.inf, -np.inf, k[0]]), np.array([np.inf, np.inf, k[-1]]), step)
    ended = descend_nulls(exact, model, start, box, ("inverse_range",))
    return Ranges(ended.point[..., 2], ended.depth)


def range_grid(aperture_m: float, wavelength_m: float, range_min_m: float) -> F64:
    """Inverse ranges from 0 to ``1 / range_min_m`` in steps of 2 rad of curvature phase at the aperture's edge."""
    edge_phase = np.pi * aperture_m**2 / (4 * wavelength_m * range_min_m)
    return np.linspace(0, 1 / range_min_m, max(3, int(np.ceil(edge_phase / 2)) + 1))
