"""Steering vectors and the derivatives a descent asks for, stacked; lean, for a handful of points at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.dictionary import Search

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]
Coordinate = Literal["azimuth", "elevation", "inverse_range"]


def steering_rows(
    position_m: F64,
    azimuth_rad: Array,
    elevation_rad: float | Array,
    inverse_range_per_m: Array,
    wavelength_m: float,
    *,
    amplitude: bool,
    wanted: Sequence[Coordinate] = ("azimuth", "inverse_range"),
) -> Array:
    r"""``a`` and its derivatives in the ``wanted`` coordinates, ``[..., 1 + wanted, sensor]``; NumPy or torch.

    The mathematics of :func:`blocks.bounds.steering_derivative.steering_derivatives` (which see), which it must agree
    with; here derivatives that nobody asked for are not computed and everything is written into one array: half the
    time at 15 sensors, where the number of NumPy calls is what costs. For torch it calls that function.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        azimuth_rad: ``[...]``.
        elevation_rad: One for all, or ``[...]``.
        inverse_range_per_m: ``[...]`` 1/m, at least 0.
        wavelength_m: Metres.
        amplitude: Whether ``a`` has the factor ``r / r_m``.
        wanted: In the order of the result.
    """
    if not isinstance(azimuth_rad, np.ndarray):
        return _stacked(
            position_m, azimuth_rad, elevation_rad, inverse_range_per_m, wavelength_m, amplitude, wanted
        )  # fmt: skip
    directions = _directions(azimuth_rad, elevation_rad, "elevation" in wanted)
    s, s_az, *s_el = directions @ position_m.T  # u . p and its derivatives, one small product
    k = inverse_range_per_m[..., None]
    q = np.vecdot(position_m, position_m)
    kq_s = k * q - s
    twice = kq_s - s
    root = np.sqrt(1 + k * twice)
    inverse_root, one_root = 1 / root, 1 + root
    rho = twice / one_root
    j_wavenumber = 2j * np.pi / wavelength_m
    rows = np.empty((*rho.shape[:-1], 1 + len(wanted), rho.shape[-1]), dtype=np.complex128)
    a = np.exp(-j_wavenumber * rho)
    log_s = j_wavenumber * inverse_root  # d ln a / ds
    if amplitude:
        a *= inverse_root
        log_s.real = k * (inverse_root * inverse_root)
    rows[..., 0, :] = a
    for i, coordinate in enumerate(wanted, start=1):
        if coordinate == "azimuth":
            log_a = log_s * s_az
        elif coordinate == "elevation":
            log_a = log_s * s_el[0]
        else:
            slope = kq_s * inverse_root
            log_a = j_wavenumber * ((rho * slope - q) / one_root)
            if amplitude:
                log_a.real = -slope * inverse_root
        np.multiply(a, log_a, out=rows[..., i, :])
    return rows


def _directions(azimuth_rad: F64, elevation_rad: float | F64, with_elevation: bool) -> F64:
    """Unit vectors and their derivatives in azimuth and, where asked, elevation, ``[derivative, ..., xyz]``."""
    sin_az, cos_az = np.sin(azimuth_rad), np.cos(azimuth_rad)
    sin_el, cos_el = np.sin(elevation_rad), np.cos(elevation_rad)
    u = np.zeros((2 + with_elevation, *azimuth_rad.shape, 3))
    across, along = cos_el * sin_az, cos_el * cos_az
    u[0, ..., 0], u[0, ..., 1], u[0, ..., 2] = across, along, sin_el
    u[1, ..., 0], u[1, ..., 1] = along, -across
    if with_elevation:
        u[2, ..., 0], u[2, ..., 1], u[2, ..., 2] = -sin_el * sin_az, -sin_el * cos_az, cos_el
    return u


def _stacked(
    position_m: F64,
    azimuth_rad: Array,
    elevation_rad: float | Array,
    inverse_range_per_m: Array,
    wavelength_m: float,
    amplitude: bool,
    wanted: Sequence[Coordinate],
) -> Array:
    xp = namespace(azimuth_rad)
    elevation = elevation_rad if not isinstance(elevation_rad, float) else xp.full_like(azimuth_rad, elevation_rad)
    found = steering_derivatives(
        constant(position_m, azimuth_rad),
        azimuth_rad,
        elevation,
        inverse_range_per_m,
        wavelength_m,
        amplitude=amplitude,
    )
    return xp.stack([found.a, *(getattr(found, name) for name in wanted)], axis=-2)


def steering_matrix(search: Search, azimuth_rad: Array, inverse_range_per_m: Array) -> Array:
    """``A [sensor, source]`` of the array and wavefront that ``search`` has, at its elevation.

    Args:
        search: Model of the wavefront.
        azimuth_rad: ``[source]``.
        inverse_range_per_m: ``[source]`` 1/m.
    """
    rows = steering_rows(
        search.position_m,
        azimuth_rad,
        search.grid.elevation_rad,
        inverse_range_per_m,
        search.wavelength_m,
        amplitude=search.amplitude,
        wanted=(),
    )
    return rows[:, 0].T
