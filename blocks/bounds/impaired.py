r"""Cramer-Rao bound of sources seen by elements with unknown phases or factors, and with or without known waveforms.

Model ``y(t) = diag(c) A(eta) diag(beta) s(t) + w(t)``, ``w`` white circular of power ``sigma^2``: [HI] Eq. (5). The
information is ``(2 / sigma^2) Re{D^H D}`` over all unknowns; [HI] Eq. (46) has half of it, as its Eq. (38) is the
density of noise with power ``sigma^2`` in each of two real dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.bounds.cramer_rao import Parameter
from blocks.bounds.invert_information import invert_information
from blocks.bounds.steering_derivative import by_parameter, steering_derivatives

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


def impaired_crb(
    position_m: F64,
    azimuth_rad: F64,
    elevation_rad: F64,
    range_m: F64,
    wavelength_m: float,
    waveforms: npt.NDArray[Any],
    coefficient: npt.NDArray[Any],
    noise_power: float,
    *,
    unknown_phase: npt.ArrayLike = (),
    unknown_factor: npt.ArrayLike = (),
    known_waveforms: bool = True,
    parameters: Sequence[Parameter] = ("azimuth", "range"),
    amplitude: bool = True,
) -> F64:
    """Bound with the gain of each source unknown.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        azimuth_rad: ``[source]`` rad.
        elevation_rad: ``[source]`` rad.
        range_m: ``[source]`` metres.
        wavelength_m: Metres.
        waveforms: ``beta_k s_k(t) [source, snapshot]``, what reaches the array's centre; only their Gram matrix
            matters, so that a factor of it with as many columns as sources gives the same.
        coefficient: ``c [sensor]``.
        noise_power: Per sensor and snapshot.
        unknown_phase: Elements whose ``|c|`` is known and phase is not. None of these two: [HI] Eq. (47), faults known.
        unknown_factor: Elements whose ``c`` is unknown altogether.
        known_waveforms: ``s`` is known (pilots) and only ``beta`` is not; else every sample of every source is unknown.
        parameters: Which of each source are unknown.
        amplitude: Whether the steering vector has the factor ``r / r_m``.

    Returns:
        ``[source, parameter, source, parameter]`` in rad and m (1/m for inverse range).

    Raises:
        ParamError: The information is singular.
    """
    k = 1 / np.asarray(range_m)
    s = steering_derivatives(position_m, azimuth_rad, elevation_rad, k, wavelength_m, amplitude=amplitude)
    of = by_parameter(s, k)
    n_sources, n = s.a.shape
    # a factor of the Gram matrix: as many columns as sources hold all information
    b = np.linalg.qr(np.asarray(waveforms).conj().T)[1].conj().T if waveforms.shape[1] > n_sources else waveforms
    c = np.asarray(coefficient)
    model = s.a.T @ b  # (sensor, column)
    columns = [(c * of[name][i])[:, None] * b[i] for i in range(n_sources) for name in parameters]
    for i in range(n_sources):
        gains = [b[i]] if known_waveforms else list(np.eye(b.shape[1]))
        columns += [factor * (c * s.a[i])[:, None] * g for g in gains for factor in (1, 1j)]
    for element in np.asarray(unknown_phase, dtype=int):
        columns.append(_row(n, element, 1j * c[element] * model[element]))
    for element in np.asarray(unknown_factor, dtype=int):
        columns += [_row(n, element, factor * model[element]) for factor in (1, 1j)]
    d = np.stack(columns).reshape(len(columns), -1)
    information = 2 / noise_power * (d.conj() @ d.T).real
    fix = "fewer unknown elements or parameters, or sources apart"
    bound = invert_information(information, "impaired_crb", fix)
    p = len(parameters)
    return bound[: n_sources * p, : n_sources * p].reshape(n_sources, p, n_sources, p)


def _row(n: int, element: int, values: C128) -> C128:
    full = np.zeros((n, len(values)), np.complex128)
    full[element] = values
    return full
