r"""Bounds of estimators that assume a wrong model: pseudo-true parameters, MCRB, bias and LB of [HI] Section V-A.

By automatic differentiation of the assumed mean, so that any model will do: ``y ~ CN(mu_true, sigma^2 I)`` is fitted
with ``mu(eta)``. With ``eps = mu_true - mu(eta)`` and ``D = d mu / d eta``::

    C = (2 / sigma^2) Re{ sum conj(eps) d^2 mu - D^H D }
    J = (2 / sigma^2)^2 Re{D^H eps} Re{D^H eps}^T + (2 / sigma^2) Re{D^H D}
    MCRB = C^-1 J C^-1,    LB = MCRB + (eta_pseudo - eta_true)(...)^T

[HI] Eqs. (41) to (45), with the Hermitian transposes that (44) and (45) lack and the density of circular noise (see
:mod:`blocks.bounds.impaired`). Needs PyTorch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hil.errors import EstimationError
from hil.wavefront import Model, direction_vector, path_difference

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]
#: Real unknowns ``[unknown]`` to the mean, complex of any shape.
Mean = Callable[[torch.Tensor], torch.Tensor]


class MisspecifiedBound(NamedTuple):
    """Pseudo-true unknowns ``[unknown]`` and matrices ``[unknown, unknown]``: bias, MCRB, and their sum, LB."""

    pseudo_true: F64
    bias: F64
    mcrb: F64
    lower_bound: F64


def near_field_mean(
    position_m: F64,
    wavelength_m: float,
    waveforms: npt.NDArray[Any],
    *,
    coefficient: npt.NDArray[Any] | None = None,
    model: Model = "exact",
    amplitude: bool = False,
) -> Mean:
    """Mean ``diag(c) A(theta, r) diag(beta) S`` as function of ``[Re beta, Im beta, theta, r]``, [HI] Section V.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        wavelength_m: Metres.
        waveforms: ``S [source, column]``, or a factor of its Gram matrix.
        coefficient: ``c [sensor]``; absent: all intact.
        model: Of the wavefront; ``fresnel`` is [HI] Eq. (2).
        amplitude: Whether a near element receives more.
    """
    s = torch.tensor(np.asarray(waveforms, dtype=np.complex128))
    c = torch.ones(len(position_m), dtype=torch.complex128)
    if coefficient is not None:
        c = torch.tensor(np.asarray(coefficient, dtype=np.complex128))
    position = torch.tensor(np.array(position_m))

    def mean(unknown: torch.Tensor) -> torch.Tensor:
        real, imag, azimuth, range_m = unknown.reshape(4, -1)
        u = direction_vector(azimuth, torch.zeros_like(azimuth))
        path, gain = path_difference(position, u, 1 / range_m, model=model)
        a = torch.exp(-2j * np.pi / wavelength_m * path)
        a = a * gain if amplitude else a
        faded: torch.Tensor = c[:, None] * (a.transpose(0, 1) @ (torch.complex(real, imag)[:, None] * s))
        return faded

    return mean


def fisher_information(mean: Mean, unknown: F64, noise_power: float) -> F64:
    """``(2 / sigma^2) Re{D^H D}``, ``[unknown, unknown]``."""
    jacobian = _jacobian(mean, torch.tensor(unknown))
    return (2 / noise_power * (jacobian.T @ jacobian)).numpy()


def pseudo_true(mean: Mean, true_mean: C128, start: F64, *, max_iterations: int = 100) -> F64:
    """Unknowns that minimize the Kullback-Leibler divergence, [HI] Eq. (40): least squares on the noiseless data.

    Levenberg-Marquardt from ``start`` (the truth): the minimum in whose basin the truth lies.

    Raises:
        EstimationError: No convergence.
    """
    target = _as_real(torch.tensor(true_mean))
    unknown, damping = torch.tensor(start), 1e-6
    residual = target - _as_real(mean(unknown))
    for _ in range(max_iterations):
        jacobian = _jacobian(mean, unknown)
        scale = torch.linalg.vector_norm(jacobian, dim=0)
        scaled = jacobian / scale
        hessian = scaled.T @ scaled + damping * torch.eye(len(unknown), dtype=torch.float64)
        step = torch.linalg.solve(hessian, scaled.T @ residual)
        moved = unknown + step / scale
        new = target - _as_real(mean(moved))
        if torch.dot(new, new) <= torch.dot(residual, residual) * (1 + 1e-14):
            unknown, residual, damping = moved, new, damping * 0.1
        else:
            damping = max(10 * damping, 1e-6)
        if float(torch.linalg.vector_norm(step)) < 1e-9 * float(torch.linalg.vector_norm(target)):
            return unknown.numpy()
    raise EstimationError(
        f"pseudo_true: no convergence in {max_iterations} steps; start nearer, or the model is too wrong"
    )


def misspecified_bound(mean: Mean, true_mean: C128, true_unknown: F64, noise_power: float) -> MisspecifiedBound:
    """Bounds of estimators that assume ``mean`` while the data have ``true_mean``.

    Args:
        mean: Assumed model.
        true_mean: Noiseless data, of the shape that ``mean`` gives.
        true_unknown: What the estimates are compared with, and the start of the search for the pseudo-true ones.
        noise_power: ``sigma^2``.
    """
    at = pseudo_true(mean, true_mean, true_unknown)
    unknown = torch.tensor(at)
    jacobian = _jacobian(mean, unknown)
    eps = _as_real(torch.tensor(true_mean)) - _as_real(mean(unknown))

    def along_eps(v: torch.Tensor) -> torch.Tensor:
        return torch.dot(eps, _as_real(mean(v)))

    curvature = torch.autograd.functional.hessian(along_eps, unknown)  # type: ignore[no-untyped-call]
    information, score = jacobian.T @ jacobian, jacobian.T @ eps
    c = (2 / noise_power * (curvature - information)).numpy()
    j = ((2 / noise_power) ** 2 * torch.outer(score, score) + 2 / noise_power * information).numpy()
    scale = np.sqrt(np.abs(np.diagonal(c)))
    inverse = np.linalg.inv(c / np.outer(scale, scale)) / np.outer(scale, scale)
    error = at - true_unknown
    mcrb, bias = inverse @ j @ inverse, np.outer(error, error)
    return MisspecifiedBound(at, bias, mcrb, mcrb + bias)


def _as_real(values: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(values).reshape(-1)


def _jacobian(mean: Mean, unknown: torch.Tensor) -> torch.Tensor:
    """``[2 mean, unknown]``, a product with the Jacobian an unknown: there are far fewer unknowns than means."""
    columns = [
        torch.autograd.functional.jvp(lambda v: _as_real(mean(v)), unknown, direction)[1]  # type: ignore[no-untyped-call]
        for direction in torch.eye(len(unknown), dtype=unknown.dtype)
    ]
    return torch.stack(columns, dim=1)
