"""ESPRIT: directions of plane waves from the shift between two overlapping halves of a uniform line."""

from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace

from blocks.subspace.data_check import degenerate_as_estimation_error, require_finite, require_power
from blocks.subspace.line_direction import LinePhases, sorted_phases
from hil.errors import ParamError

Array = Any  # NumPy or torch


def esprit(signal: Array, method: Literal["ls", "tls"] = "tls") -> LinePhases:
    r"""Eigenvalues of :math:`\Psi` in :math:`U_1 \Psi = U_2`, Roy and Kailath 1989. NumPy or torch, batched.

    ``U_1`` and ``U_2`` are the signal subspace without its last and first sensor. Least squares takes the error to be
    in ``U_2`` alone; total least squares in both: :math:`\Psi = -V_{12} V_{22}^{-1}` of the right singular vectors of
    :math:`[U_1\,U_2]`. Plane waves on a uniform line of up to half a wavelength; needs neither grid nor calibration of
    the elements' common pattern, and its cost grows with ``N M^2`` only.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``; fewer sources than sensors.
        method: ``ls`` or ``tls``.
    """
    if method not in ("ls", "tls"):
        raise ParamError(f"esprit: expected method 'ls' or 'tls', got {method!r}")
    xp = array_namespace(signal)
    n, m = signal.shape[-2:]
    _check("esprit", n, m)
    require_finite("esprit", signal, "the signal subspace")
    with degenerate_as_estimation_error("esprit"):
        psi = _shift(xp, signal[..., :-1, :], signal[..., 1:, :], method)
        return sorted_phases(xp.linalg.eigvals(psi))


def _shift(xp: Any, first: Array, second: Array, method: str) -> Array:
    m = first.shape[-1]
    if method == "ls":
        adjoint = xp.conj(xp.matrix_transpose(first))
        return xp.linalg.solve(adjoint @ first, adjoint @ second)
    both = xp.concat([first, second], axis=-1)
    # right singular vectors from the 2M x 2M Gram matrix, eigenvalues ascending: the first M are the noise
    _, v = xp.linalg.eigh(xp.conj(xp.matrix_transpose(both)) @ both)
    return -xp.matrix_transpose(
        xp.linalg.solve(xp.matrix_transpose(v[..., m:, :m]), xp.matrix_transpose(v[..., :m, :m]))
    )


def esprit_variance(covariance: Array, n_sources: int, n_snapshots: float) -> Array:
    r"""Variance of each phase of :func:`esprit`, first order in the noise (Rao and Hari 1989). NumPy or torch, batched.

    With eigenvectors :math:`x_k` of :math:`\Psi` and rows :math:`q_k^H` of their inverse, the error of the phase is
    :math:`\mathrm{Im}(g_k^H \delta U_s x_k)`, :math:`g_k^H = q_k^H U_1^+ (J_2 - \psi_k J_1) / \psi_k`, where ``J_1``
    and ``J_2`` drop the last and the first sensor; of the perturbation only what is in the noise subspace counts:

    .. math:: \frac{\sigma^2}{2T} \|U_w^H g_k\|^2 \sum_i |x_{k,i}|^2 \lambda_i / (\lambda_i - \sigma^2)^2

    Least and total least squares share it.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
        n_sources: 1 .. N - 1.
        n_snapshots: In the covariance.

    Returns:
        ``[..., source]`` rad^2, in the order of :func:`esprit`.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    _check("esprit_variance", n, n_sources)
    require_power("esprit_variance", covariance)
    values, vectors = xp.linalg.eigh(covariance)
    strong, signal = values[..., n - n_sources :], vectors[..., n - n_sources :]
    noise_power = xp.mean(values[..., : n - n_sources], axis=-1)[..., None]
    first = signal[..., :-1, :]
    adjoint = xp.conj(xp.matrix_transpose(first))
    pseudo_inverse = xp.linalg.solve(adjoint @ first, adjoint)
    psi, x = xp.linalg.eig(pseudo_inverse @ signal[..., 1:, :])
    weight = xp.linalg.inv(x) @ pseudo_inverse  # (..., source, sensor - 1)
    zero = xp.zeros_like(weight[..., :1])
    g = xp.concat([zero, weight], axis=-1) / psi[..., None] - xp.concat([weight, zero], axis=-1)
    inside = g @ signal
    outside = xp.sum(_square(xp, g), axis=-1) - xp.sum(_square(xp, inside), axis=-1)
    spread = strong / xp.clip(strong - noise_power, min=1e-300) ** 2
    variance = noise_power / (2 * n_snapshots) * outside * xp.sum(_square(xp, x) * spread[..., :, None], axis=-2)
    order = xp.argsort(xp.atan2(xp.imag(psi), xp.real(psi)), axis=-1)
    return xp.take_along_axis(variance, order, axis=-1)


def _square(xp: Any, x: Array) -> Array:
    return xp.real(x) ** 2 + xp.imag(x) ** 2


def unitary_esprit(covariance: Array, n_sources: int) -> LinePhases:
    r"""Unitary ESPRIT, Haardt and Nossek 1995: real arithmetic, forward-backward averaged. NumPy or torch, batched.

    A unitary ``Q`` maps the centro-Hermitian average to the real :math:`Q^H R_{fb} Q`; its real signal subspace ``E``
    fulfils :math:`K_1 E \Upsilon = K_2 E`, whose eigenvalues are :math:`\tan(\omega / 2)`. Decorrelates a pair of
    coherent waves; phases come out on the circle by construction where the eigenvalues are real.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
        n_sources: 1 .. N - 1.

    Returns:
        As :func:`esprit`; the radius is 1 where the eigenvalue is real, which is the method's own test of
        reliability, and ``|1 + j v| / |1 - j v|`` where it is not.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    _check("unitary_esprit", n, n_sources)
    require_power("unitary_esprit", covariance)
    q = xp.asarray(left_real(n), dtype=covariance.dtype)
    q_sub = xp.asarray(left_real(n - 1), dtype=covariance.dtype)
    # the real part of Q^H R Q is Q^H R_fb Q: the averaging costs nothing
    real = xp.real(xp.conj(xp.matrix_transpose(q)) @ covariance @ q)
    _, vectors = xp.linalg.eigh(real)
    e = vectors[..., :, n - n_sources :]
    shift = xp.conj(xp.matrix_transpose(q_sub)) @ q[1:, :]
    k1, k2 = xp.real(shift), xp.imag(shift)
    left, right = k1 @ e, k2 @ e
    adjoint = xp.matrix_transpose(left)
    upsilon = xp.linalg.solve(adjoint @ left, adjoint @ right)
    values = xp.linalg.eigvals(upsilon)
    values = values * (1 + 0j)  # torch and NumPy differ on whether real eigenvalues come as complex ones
    return sorted_phases((1 + 1j * values) / (1 - 1j * values))


def left_real(n: int) -> np.ndarray:
    """Sparse unitary ``Q`` of order ``n`` with ``J Q* = Q``, ``[n, n]`` complex128."""
    half = n // 2
    eye, flipped = np.eye(half), np.eye(half)[::-1]
    q = np.zeros((n, n), dtype=np.complex128)
    q[:half, :half], q[:half, n - half :] = eye, 1j * eye
    q[n - half :, :half], q[n - half :, n - half :] = flipped, -1j * flipped
    q /= np.sqrt(2)
    if n % 2:
        q[half, half] = 1
    return q


def _check(who: str, n_sensors: int, n_sources: int) -> None:
    if not 1 <= n_sources < n_sensors:
        raise ParamError(f"{who}: expected 1 .. {n_sensors - 1} sources of {n_sensors} sensors, got {n_sources}")
