r"""Stochastic Cramer-Rao bound of sources seen by elements with unknown phases or factors.

Model ``y(t) ~ CN(0, R)``, ``R = diag(c) A P A^H diag(c)^H + sigma^2 I``: [HI] Eq. (5) with Gaussian waveforms. ``P``
(any positive definite) and ``sigma^2`` are unknown, which takes in the gains. The information of ``T`` snapshots is
that of Slepian and Bangs, ``T tr(R^-1 R_i R^-1 R_j)``. For waveforms that are unknown constants or known see
:mod:`blocks.bounds.impaired`, which this nears with growing signal.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.bounds.cramer_rao import Parameter
from blocks.bounds.invert_information import invert_information
from blocks.bounds.steering_derivative import by_parameter, steering_derivatives

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


def impaired_stochastic_crb(
    position_m: F64,
    azimuth_rad: F64,
    elevation_rad: F64,
    range_m: F64,
    wavelength_m: float,
    source_covariance: npt.NDArray[Any],
    coefficient: npt.NDArray[Any],
    noise_power: float,
    n_snapshots: int,
    *,
    unknown_phase: npt.ArrayLike = (),
    unknown_factor: npt.ArrayLike = (),
    parameters: Sequence[Parameter] = ("azimuth", "range"),
    amplitude: bool = True,
) -> F64:
    """Bound with the covariance of the waveforms unknown.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        azimuth_rad: ``[source]`` rad.
        elevation_rad: ``[source]`` rad.
        range_m: ``[source]`` metres.
        wavelength_m: Metres.
        source_covariance: ``P [source, source]`` at the array's centre.
        coefficient: ``c [sensor]``.
        noise_power: ``sigma^2`` per sensor and snapshot.
        n_snapshots: ``T``.
        unknown_phase: Elements whose ``|c|`` is known and phase is not.
        unknown_factor: Elements whose ``c`` is unknown altogether.
        parameters: Which of each source are unknown.
        amplitude: Whether the steering vector has the factor ``r / r_m``.

    Returns:
        ``[source, parameter, source, parameter]`` in rad and m (1/m for inverse range).

    Raises:
        ParamError: The information is singular.
    """
    k = 1 / np.asarray(range_m)
    s = steering_derivatives(position_m, azimuth_rad, elevation_rad, k, wavelength_m, amplitude=amplitude)
    c, p = np.asarray(coefficient), np.asarray(source_covariance, dtype=np.complex128)
    intact = s.a.T
    a = c[:, None] * intact
    of = by_parameter(s, k)
    derivatives = np.stack([c * of[name][i] for i in range(len(k)) for name in parameters])
    power, vectors = np.linalg.eigh(a @ p @ a.conj().T)
    whitener = (vectors / np.sqrt(np.maximum(power, 0) + noise_power)) @ vectors.conj().T
    whole = intact @ p @ a.conj().T  # row n: of element n had it c = 1, with the others as they are
    coefficients = [_row(whole, n, 1j * c[n]) for n in np.asarray(unknown_phase, int)]
    coefficients += [_row(whole, n, unit) for n in np.asarray(unknown_factor, int) for unit in (1, 1j)]
    changes = [*_of_sources(a, derivatives, p), *coefficients]
    rows = np.stack([(whitener @ change @ whitener).ravel() for change in changes])
    rows = np.concatenate([rows.real, rows.imag], axis=1)
    information = n_snapshots * (rows @ rows.T)
    fix = "fewer unknown elements or parameters, or sources apart"
    bound = invert_information(information, "impaired_stochastic_crb", fix)
    shape = len(k), len(parameters)
    return bound[: len(derivatives), : len(derivatives)].reshape(*shape, *shape)


def _of_sources(a: C128, derivatives: C128, p: C128) -> Iterator[C128]:
    """Derivatives of ``R [sensor, sensor]`` by the parameters of each source, then by P and sigma^2."""
    n, n_sources = a.shape
    for i, row in enumerate(derivatives):
        yield _both(np.outer(row, p[i * n_sources // len(derivatives)] @ a.conj().T))
    for i in range(n_sources):
        yield np.outer(a[:, i], a[:, i].conj())
        for j in range(i):
            yield from (_both(unit * np.outer(a[:, i], a[:, j].conj())) for unit in (1, 1j))
    yield np.eye(n, dtype=np.complex128)


def _row(whole: C128, element: int, factor: complex) -> C128:
    """Derivative by what ``factor`` an element's coefficient changes by."""
    half = np.zeros_like(whole)
    half[element] = factor * whole[element]
    return _both(half)


def _both(half: C128) -> C128:
    return half + half.conj().T
