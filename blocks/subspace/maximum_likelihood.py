"""Deterministic maximum likelihood: all sources refined jointly, their powers, and the estimate's covariance."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Search
from blocks.subspace.steering_rows import steering_rows
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


def require_moments(who: str, moments: Moments, cost: float) -> None:
    """Refuse moments without power, or that have made the cost of a fit no number."""
    if not (moments.trace > 0 and np.isfinite(cost)):
        raise EstimationError(
            f"{who}: the data have power {moments.trace}, of which a fit leaves {cost}; expected finite ones above zero"
        )


class SourceFit(NamedTuple):
    """Sources fitted jointly.

    Attributes:
        azimuth_rad: ``[source]``.
        inverse_range_per_m: ``[source]``.
        power: Power at the array's centre, ``[source]``, unit of the covariance; at least what could be told from
            noise, ``noise_power / (N sqrt(T))``.
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
    dictionary: Search,
    azimuth_rad: F64,
    inverse_range_per_m: F64,
    *,
    max_iterations: int = 8,
    tolerance: float = 0.02,
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
        tolerance: Stop with the step that is below this part of the estimate's own standard deviation.

    Raises:
        EstimationError: Sources coincide, so that their powers cannot be told apart.
    """
    k_low, k_high = dictionary.grid.inverse_range_limits_per_m
    az, k = np.array(azimuth_rad, dtype=np.float64), np.array(inverse_range_per_m, dtype=np.float64)
    one_range = dictionary.grid.n_range == 1
    state = _evaluate(moments, dictionary, az, k)
    require_moments("refine_maximum_likelihood", moments, state.cost)
    damping = 0.0
    for _ in range(max_iterations):
        held = (k <= k_low) & (state.gradient[1::2] > 0) | (k >= k_high) & (state.gradient[1::2] < 0) | one_range
        step, size = _newton_step(state, held, damping)
        new_az, new_k = az + step[::2], np.clip(k + step[1::2], k_low, k_high)
        # a step of one standard deviation has size sqrt(sigma^2 / 2T) in the metric of the Hessian
        if size < tolerance * np.sqrt(state.noise_power / (2 * moments.n_snapshots)):
            az, k = new_az, new_k
            break
        new = _evaluate(moments, dictionary, new_az, new_k)
        if new.cost <= state.cost:
            az, k, state, damping = new_az, new_k, new, damping * 0.1
        elif damping > 1e4:
            break
        else:
            damping = max(10 * damping, 0.1)
    power = np.maximum(state.power, _power_floor(moments, state.noise_power))
    return SourceFit(
        az, k, power, state.noise_power, _covariance(moments, state, one_range), state.cost / moments.trace
    )


def _power_floor(moments: Moments, noise_power: float) -> float:
    return noise_power / (moments.n_sensors * float(np.sqrt(moments.n_snapshots)))


def _newton_step(state: "_State", held: npt.NDArray[np.bool_], damping: float) -> tuple[F64, float]:
    """Damped Gauss-Newton step ``[2 * source]``, inverse range fixed where ``held``, and its largest scaled part."""
    scale = np.sqrt(np.maximum(np.diagonal(state.hessian), 1e-300))
    scaled = state.hessian / (scale[:, None] * scale) + damping * np.eye(len(scale))
    gradient = state.gradient / scale
    if held.any():
        fixed = 2 * np.flatnonzero(held) + 1
        scaled[fixed, :], scaled[:, fixed], gradient[fixed] = 0.0, 0.0, 0.0
        scaled[fixed, fixed] = 1.0
    step = -np.linalg.solve(scaled, gradient)
    return step / scale, float(np.abs(step).max())


class _State(NamedTuple):
    cost: float
    gradient: F64  # [2 * source], (azimuth, 1/r) of each source in turn
    hessian: F64  # [2 * source, 2 * source]
    projected: C128  # D^H P_perp D
    seen_covariance: C128  # S = A^+ R A^+H
    source_covariance: C128  # P = S - sigma^2 (A^H A)^-1
    power: F64
    noise_power: float


def _evaluate(moments: Moments, dictionary: Search, azimuth_rad: F64, inverse_range_per_m: F64) -> _State:
    m = len(azimuth_rad)
    rows = steering_rows(
        dictionary.position_m,
        azimuth_rad,
        dictionary.grid.elevation_rad,
        inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    )
    a = rows[:, 0].T  # (sensor, source)
    d = rows[:, 1:].reshape(2 * m, -1).T  # (sensor, 2 source)
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
    seen = pinv_h.conj().T @ r_pinv_h
    cost = max(moments.trace - float((gram.T * seen).sum().real), 0.0)
    d_perp = d - pinv_h @ (a.conj().T @ d)
    projected = d_perp.conj().T @ d_perp
    # (A^+ R P_perp D) at (source of column i, i)
    cross = r_pinv_h.conj().T @ d_perp
    columns = np.arange(2 * m)
    owner = columns >> 1
    gradient = -2 * cross[owner, columns].real
    hessian = 2 * (projected * seen[owner, owner[:, None]]).real
    noise_power = cost / (moments.n_sensors - m)
    source_covariance = seen - noise_power * inverse
    power = np.diagonal(source_covariance).real
    return _State(cost, gradient, hessian, projected, seen, source_covariance, power, noise_power)


def _covariance(moments: Moments, state: _State, one_range: bool) -> F64:
    """Stochastic Cramer-Rao bound of each source's (azimuth, 1/r) at the estimate, ``[source, 2, 2]``.

    With one range on the grid it is known: its rows are zero and azimuth has the smaller bound of one unknown.
    """
    m = len(state.power)
    # S = A^+ R A^+H = P + sigma^2 (A^H A)^-1 makes P A^H R^-1 A P = P S^-1 P, positive even where P is not
    p = state.source_covariance
    try:
        seen = p @ np.linalg.solve(state.seen_covariance, p)
    except np.linalg.LinAlgError as error:
        raise EstimationError("maximum likelihood: coherent sources without any noise have no covariance") from error
    owner = np.arange(2 * m) >> 1
    information = (state.projected * seen[owner, owner[:, None]]).real
    if one_range:
        known = np.arange(1, 2 * m, 2)
        information[known, :] = information[:, known] = 0.0
        information[known, known] = 1.0
    scale = np.sqrt(np.maximum(np.diagonal(information), 1e-200))
    # sources on one spot or an endfire direction have no information: the ridge bounds what is claimed of them
    scaled = information / np.outer(scale, scale) + 1e-9 * np.eye(2 * m)
    bound = np.linalg.inv(scaled) / np.outer(scale, scale) * (state.noise_power / (2 * moments.n_snapshots))
    if one_range:
        bound[known, known] = 0.0
    sources = np.arange(m)
    return bound.reshape(m, 2, m, 2)[sources, :, sources, :]
