"""Steering vectors together with their derivatives in azimuth, elevation and inverse range."""

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

Array = Any  # NumPy or torch


class SteeringDerivatives(NamedTuple):
    """A steering vector and its derivatives, each ``[..., sensor]`` complex."""

    a: Array
    azimuth: Array  # per rad
    elevation: Array  # per rad
    inverse_range: Array  # per 1/m


def steering_derivatives(
    position_m: Array,
    azimuth_rad: Array,
    elevation_rad: Array,
    inverse_range_per_m: Array,
    wavelength_m: float,
    *,
    amplitude: bool = True,
) -> SteeringDerivatives:
    r"""Exact spherical-wave steering vector and its analytic derivatives.

    With ``s = u . p``, ``q = |p|^2``, ``k = 1/r``, ``R = r_m / r = sqrt(1 - 2 k s + k^2 q)`` and the path difference
    ``rho = (k q - 2 s) / (1 + R)`` of :func:`hil.wavefront.path_difference`::

        d rho / ds = -1 / R                            d ln(1/R) / ds = k / R^2
        d rho / dk = (q - rho (k q - s) / R) / (1 + R)  d ln(1/R) / dk = (s - k q) / R^2

    which hold at ``k = 0`` too, where ``d rho / dk = (q - s^2) / 2`` is the Fresnel curvature.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        azimuth_rad: ``[...]`` rad, one shape, kind and precision with the next two.
        elevation_rad: ``[...]`` rad.
        inverse_range_per_m: ``[...]`` 1/m, at least 0.
        wavelength_m: Metres.
        amplitude: Whether ``a`` has the factor ``r / r_m``.
    """
    xp = array_namespace(inverse_range_per_m)
    sin_az, cos_az = xp.sin(azimuth_rad)[..., None], xp.cos(azimuth_rad)[..., None]
    sin_el, cos_el = xp.sin(elevation_rad)[..., None], xp.cos(elevation_rad)[..., None]
    k = inverse_range_per_m[..., None]
    x, y, z = position_m[:, 0], position_m[:, 1], position_m[:, 2]
    q = x * x + y * y + z * z
    forward = sin_az * x + cos_az * y
    s = cos_el * forward + sin_el * z
    kq_s = k * q - s
    root = xp.sqrt(1 + k * (kq_s - s))
    rho = (kq_s - s) / (1 + root)
    wavenumber = 2 * np.pi / wavelength_m
    a = xp.exp(-1j * wavenumber * rho)
    log_s = (1j * wavenumber) / root
    log_k = (-1j * wavenumber) * ((q - rho * kq_s / root) / (1 + root))
    if amplitude:
        a = a / root
        log_s = log_s + k / root**2
        log_k = log_k - kq_s / root**2
    a_s = a * log_s
    return SteeringDerivatives(
        a=a,
        azimuth=a_s * (cos_el * (cos_az * x - sin_az * y)),
        elevation=a_s * (cos_el * z - sin_el * forward),
        inverse_range=a * log_k,
    )
