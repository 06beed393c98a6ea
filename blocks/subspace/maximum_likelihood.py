"""Deterministic maximum likelihood: all sources refined jointly, their powers, and the estimate's covariance."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.dictionary import Dictionary
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


class Moments(NamedTuple):
    """The sample covariance, as itself or as the samples it comes from, whichever is the cheaper to multiply with."""

    matrix: C128
    is_samples: bool
    n_sensors: int
    n_snapshots: float
    trace: float

    @classmethod
    def of_covariance(cls, covariance: C128, n_snapshots: float) -> Self:
        """From ``[sensor, sensor]`` complex128 of ``n_snapshots``."""
        return cls(covariance, False, len(covariance), float(n_snapshots), float(np.trace(covariance).real))

    @classmethod
    def of_samples(cls, x: C128) -> Self:
        """From ``[sensor, snapshot]`` complex128."""
        return cls(x, True, x.shape[0], float(x.shape[1]), float(np.vdot(x, x).real) / x.shape[1])

    def times(self, v: C128) -> C128:
        """``R v`` for ``v [sensor, n]``."""
        if self.is_samples:
            return self.matrix @ (self.matrix.conj().T @ v) / self.n_snapshots
        return self.matrix @ v


class SourceFit(NamedTuple):
    """Sources fitted jointly.

    Attributes:
        azimuth_rad: ``[source]``.
        inverse_range_per_m: ``[source]``.
        power: Power at the array's centre, ``[source]``, unit of the covariance.
        noise_power: Per sensor.
        covariance: Of (azimuth, inverse range) of each source, ``[source, 2, 2]``: the stochastic Cramer-Rao bound
            at the estimate, which maximum likelihood reaches at many snapshots and MUSIC with uncorrelated sources.
        cost: ``tr(P_A^perp R) / tr R``: the part of the power that the sources do not explain.
    """

    azimuth_rad: F64
    inverse_range_per_m: F64
    power: F64
    noise_power: float
    covariance: F64
    cost: float


def refine_maximum_likelihood(
    moments: Moments,
    dictionary: Dictionary,
    azimuth_rad: F64,
    inverse_range_per_m: F64,
    *,
    max_iterations: int = 8,
    tolerance: float = 1e-4,
) -> SourceFit:
    r"""Minimize :math:`V = \mathrm{tr}(P_A^\perp \hat R)` over all azimuths and inverse ranges together.

    Gauss-Newton with the gradient and Hessian of Viberg, Ottersten and Kailath 1991 (Eqs. 27, 28)::

        V_i  = -2 Re (A^+ R P_perp D)_ii          H = 2 Re [(D^H P_perp D) o (A^+ R A^+H)^T]

    Coherent sources are allowed. It finds the minimum in whose basin it starts: start from MUSIC.
    ``max_iterations=0`` fits powers and covariance at the given points.

    Args:
        moments: Covariance or samples.
        dictionary: Model and search bounds.
        azimuth_rad: ``[source]``, at least one and fewer than sensors.
        inverse_range_per_m: ``[source]``.
        max_iterations: Gauss-Newton steps.
        tolerance: Stop when a step is below this part of the estimate's own standard deviation.

    Raises:
        EstimationError: Sources coincide, so that their powers cannot be told apart.
    """
    k_low, k_high = float(dictionary.inverse_range_per_m[0]), float(dictionary.inverse_range_per_m[-1])
    az, k = np.array(azimuth_rad, dtype=np.float64), np.array(inverse_range_per_m, dtype=np.float64)
    one_range = dictionary.grid.n_range == 1
    state = _evaluate(moments, dictionary, az, k)
    damping = 0.0
    for _ in range(max_iterations):
        gradient, hessian = state.gradient.copy(), state.hessian
        held = (k <= k_low) & (gradient[1::2] > 0) | (k >= k_high) & (gradient[1::2] < 0) | one_range
        free = np.ones(len(gradient), dtype=bool)
        free[1::2] = ~held
        scale = np.sqrt(np.diagonal(hessian))[free]
        scaled = hessian[np.ix_(free, free)] / np.outer(scale, scale) + damping * np.eye(len(scale))
        step = np.zeros_like(gradient)
        step[free] = -np.linalg.solve(scaled, gradient[free] / scale) / scale
        new_k = np.clip(k + step[1::2], k_low, k_high)
        new = _evaluate(moments, dictionary, az + step[::2], new_k)
        if new.cost <= state.cost * (1 + 1e-14):
            az, k, state, damping = az + step[::2], new_k, new, damping * 0.1
        else:
            damping = max(10 * damping, 0.1)
            if damping > 1e4:
                break
            continue
        # curvature in units of noise: a step of one standard deviation has norm sqrt(sigma^2 / 2T)
        deviation = np.sqrt(state.noise_power / (2 * moments.n_snapshots))
        if np.abs(step[free] * scale).max(initial=0.0) < tolerance * deviation:
            break
    return SourceFit(az, k, state.power, state.noise_power, _covariance(moments, state), state.cost / moments.trace)


class _State(NamedTuple):
    cost: float
    gradient: F64  # [2 * source], (azimuth, 1/r) of each source in turn
    hessian: F64  # [2 * source, 2 * source]
    projected: C128  # D^H P_perp D
    gram: C128  # A^H A
    source_covariance: C128  # A^+ R A^+H, noise not yet taken off
    power: F64
    noise_power: float


def _evaluate(moments: Moments, dictionary: Dictionary, azimuth_rad: F64, inverse_range_per_m: F64) -> _State:
    m = len(azimuth_rad)
    steering = steering_derivatives(
        dictionary.position_m,
        azimuth_rad,
        np.full(m, dictionary.grid.elevation_rad),
        inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    )
    a = steering.a.T  # (sensor, source)
    d = np.stack([steering.azimuth, steering.inverse_range], axis=1).reshape(2 * m, -1).T  # (sensor, 2 source)
    gram = a.conj().T @ a
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError as error:
        raise EstimationError(
            f"maximum likelihood: {m} sources at azimuths {azimuth_rad} rad and inverse ranges {inverse_range_per_m} "
            "1/m coincide; give distinct starting points"
        ) from error
    pinv_h = a @ inverse  # (A^+)^H
    r_pinv_h = moments.times(pinv_h)
    source_covariance = pinv_h.conj().T @ r_pinv_h
    cost = max(moments.trace - float(np.einsum("ij,ji->", gram, source_covariance).real), 0.0)
    d_perp = d - pinv_h @ (a.conj().T @ d)
    projected = d_perp.conj().T @ d_perp
    # (A^+ R P_perp D) at (source of column i, i)
    cross = r_pinv_h.conj().T @ d_perp
    gradient = -2 * cross[np.arange(2 * m) // 2, np.arange(2 * m)].real
    hessian = 2 * (projected * np.repeat(np.repeat(source_covariance.T, 2, axis=0), 2, axis=1)).real
    noise_power = cost / (moments.n_sensors - m)
    power = np.diagonal(source_covariance).real - noise_power * np.diagonal(inverse).real
    return _State(
        cost, gradient, hessian, projected, gram, source_covariance - noise_power * inverse, power, noise_power
    )


def _covariance(moments: Moments, state: _State) -> F64:
    """Stochastic Cramer-Rao bound of each source's (azimuth, 1/r) at the estimate, ``[source, 2, 2]``."""
    m = len(state.power)
    eigenvalues, vectors = np.linalg.eigh(state.source_covariance)
    # a source too weak to have positive estimated power gets the power it would need to be seen at all
    floor = state.noise_power / (moments.n_sensors * np.sqrt(moments.n_snapshots))
    p = (vectors * np.maximum(eigenvalues, floor)) @ vectors.conj().T
    gp = state.gram @ p
    seen = p @ np.linalg.solve(gp + state.noise_power * np.eye(m), gp)  # P A^H R^-1 A P
    information = (state.projected * np.repeat(np.repeat(seen.T, 2, axis=0), 2, axis=1)).real
    scale = np.sqrt(np.maximum(np.diagonal(information), 1e-300))
    # sources on one spot or an endfire direction have no information: the ridge bounds what is claimed of them
    scaled = information / np.outer(scale, scale) + 1e-9 * np.eye(2 * m)
    bound = np.linalg.inv(scaled) / np.outer(scale, scale) * (state.noise_power / (2 * moments.n_snapshots))
    return np.stack([bound[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(m)])
