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
    inverse_root = 1 / root
    one_root = 1 + root
    rho = (kq_s - s) / one_root
    slope = kq_s * inverse_root  # dR / dk
    j_wavenumber = 2j * np.pi / wavelength_m
    a = xp.exp(-j_wavenumber * rho)
    log_k = -j_wavenumber * ((q - rho * slope) / one_root)
    if amplitude:
        a = a * inverse_root
        log_k = log_k - slope * inverse_root
        a_s = a * (inverse_root * (k * inverse_root + j_wavenumber))
    else:
        a_s = a * (inverse_root * j_wavenumber)
    return SteeringDerivatives(
        a=a,
        azimuth=a_s * (cos_el * (cos_az * x - sin_az * y)),
        elevation=a_s * (cos_el * z - sin_el * forward),
        inverse_range=a * log_k,
    )


def by_parameter(steering: SteeringDerivatives, inverse_range_per_m: Array) -> dict[str, Array]:
    """Derivatives by the name of the parameter, ``[..., sensor]``; ``range`` is per metre, by the chain rule."""
    slope = -(inverse_range_per_m * inverse_range_per_m)[..., None]
    return {
        "azimuth": steering.azimuth,
        "elevation": steering.elevation,
        "inverse_range": steering.inverse_range,
        "range": steering.inverse_range * slope,
    }
