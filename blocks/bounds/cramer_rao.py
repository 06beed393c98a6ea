r"""Cramer-Rao bounds of azimuth, elevation and range of narrowband near-field sources, for any array.

Model ``x(t) = A(eta) s(t) + w(t)``, ``w`` white circular of power ``sigma^2`` per sensor, sigma^2 unknown, T snapshots.
The variance of inverse range stays finite in the far field; that of range grows as r^4.
"""

from collections.abc import Sequence
from typing import Any, Literal

from array_api_compat import array_namespace

from blocks.bounds.invert_information import invert_information
from blocks.bounds.steering_derivative import by_parameter, steering_derivatives
from hil.errors import ParamError

Array = Any  # NumPy or torch
Parameter = Literal["azimuth", "elevation", "range", "inverse_range"]


def conditional_crb(
    position_m: Array,
    azimuth_rad: Array,
    elevation_rad: Array,
    range_m: Array,
    wavelength_m: float,
    source_covariance: Array,
    noise_power: float,
    n_snapshots: int,
    *,
    parameters: Sequence[Parameter] = ("azimuth", "range"),
    amplitude: bool = True,
) -> Array:
    r"""Deterministic (conditional) bound: the waveforms are unknown constants.

    .. math:: \frac{\sigma^2}{2T} \left[\mathrm{Re}\{(D^H P_A^\perp D) \odot (\hat P^T \otimes 1)\}\right]^{-1}

    Stoica and Nehorai, "MUSIC, maximum likelihood, and Cramer-Rao bound", 1989, Eq. (4.6), for several parameters a
    source; the conditional bound of [NF] Section IV.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        azimuth_rad: ``[source]`` rad.
        elevation_rad: ``[source]`` rad.
        range_m: ``[source]`` metres from the array's centre.
        wavelength_m: Metres.
        source_covariance: ``P = S S^H / T`` at the array's centre, ``[source, source]``.
        noise_power: ``sigma^2`` per sensor, in the unit of ``source_covariance``.
        n_snapshots: ``T``.
        parameters: Which are unknown; the others are known. A line array does not observe elevation.
        amplitude: Whether the steering vector has the factor ``r / r_m``.

    Returns:
        Covariance bound ``[source, parameter, source, parameter]`` in rad and m (1/m for inverse range).

    Raises:
        ParamError: More unknowns than the array can tell, or the sources coincide: the information is singular.
    """
    a, d = _steering(position_m, azimuth_rad, elevation_rad, range_m, wavelength_m, parameters, amplitude)
    return _bound(a, d, source_covariance, noise_power, n_snapshots, len(parameters))


def stochastic_crb(
    position_m: Array,
    azimuth_rad: Array,
    elevation_rad: Array,
    range_m: Array,
    wavelength_m: float,
    source_covariance: Array,
    noise_power: float,
    n_snapshots: int,
    *,
    parameters: Sequence[Parameter] = ("azimuth", "range"),
    amplitude: bool = True,
) -> Array:
    r"""Stochastic (unconditional) bound: the waveforms are Gaussian with unknown covariance ``P``.

    .. math:: \frac{\sigma^2}{2T}
              \left[\mathrm{Re}\{(D^H P_A^\perp D) \odot ((P A^H R^{-1} A P)^T \otimes 1)\}\right]^{-1}

    Stoica and Nehorai, "Performance study of conditional and unconditional direction-of-arrival estimation", 1990.
    Arguments, result and errors as :func:`conditional_crb`; never below it for the same ``P``.
    """
    xp = array_namespace(azimuth_rad)
    a, d = _steering(position_m, azimuth_rad, elevation_rad, range_m, wavelength_m, parameters, amplitude)
    p = xp.astype(source_covariance, a.dtype)
    covariance = a @ p @ _hermitian(xp, a) + noise_power * xp.eye(a.shape[0], dtype=a.dtype)
    seen = p @ _hermitian(xp, a) @ xp.linalg.solve(covariance, a @ p)
    return _bound(a, d, seen, noise_power, n_snapshots, len(parameters))


def _steering(
    position_m: Array,
    azimuth_rad: Array,
    elevation_rad: Array,
    range_m: Array,
    wavelength_m: float,
    parameters: Sequence[Parameter],
    amplitude: bool,
) -> tuple[Array, Array]:
    """``A [sensor, source]`` and its derivatives ``D [sensor, source * parameter]``."""
    xp = array_namespace(azimuth_rad)
    k = 1 / range_m
    steering = steering_derivatives(position_m, azimuth_rad, elevation_rad, k, wavelength_m, amplitude=amplitude)
    columns = by_parameter(steering, k)
    unknown = [name for name in parameters if name not in columns]
    if unknown or not parameters:
        raise ParamError(f"Cramer-Rao bound: expected parameters among {sorted(columns)}, got {list(parameters)}")
    d = xp.stack([columns[name] for name in parameters], axis=1)  # (source, parameter, sensor)
    return xp.permute_dims(steering.a, (1, 0)), xp.permute_dims(xp.reshape(d, (-1, d.shape[-1])), (1, 0))


def _bound(a: Array, d: Array, p: Array, noise_power: float, n_snapshots: int, n_parameters: int) -> Array:
    xp = array_namespace(a)
    gram = _hermitian(xp, a) @ a
    projected = d - a @ xp.linalg.solve(gram, _hermitian(xp, a) @ d)
    p = xp.astype(p, a.dtype)
    tiled = xp.repeat(xp.repeat(xp.permute_dims(p, (1, 0)), n_parameters, axis=0), n_parameters, axis=1)
    information = xp.real((_hermitian(xp, d) @ projected) * tiled)
    fix = "ask for fewer parameters (a line array sees no elevation) or separate the sources"
    inverse = invert_information(information, "Cramer-Rao bound", fix, smallest=1e-12)
    bound = inverse * (noise_power / (2 * n_snapshots))
    n_sources = a.shape[1]
    return xp.reshape(bound, (n_sources, n_parameters, n_sources, n_parameters))


def _hermitian(xp: Any, a: Array) -> Array:
    return xp.conj(xp.permute_dims(a, (1, 0)))
