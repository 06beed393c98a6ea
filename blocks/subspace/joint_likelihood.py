"""Maximum likelihood over azimuths, elevations, ranges and gains together, for any array and any start."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.moments import Moments, require_moments
from blocks.subspace.null_descent import COORDINATES, Box, Model
from blocks.subspace.steering_rows import Coordinate, steering_rows
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


class JointFit(NamedTuple):
    """Sources fitted jointly.

    Attributes:
        point: Azimuth, elevation, inverse range, ``[source, 3]``.
        source_covariance: Of the complex gains, ``A^+ R A^+H - sigma^2 (A^H A)^-1``, ``[source, source]``: powers on
            its diagonal.
        noise_power: Per sensor.
        covariance: Of each source's free coordinates, ``[source, free, free]``: stochastic Cramer-Rao bound at the
            estimate.
        cost: ``tr(P_A^perp R) / tr R``.
        converged: The last step was below the tolerance.
    """

    point: F64
    source_covariance: C128
    noise_power: float
    covariance: F64
    cost: float
    converged: bool


class _State(NamedTuple):
    cost: float
    gradient: F64  # [source, free]
    hessian: F64
    projected: C128  # D^H P_perp D
    seen: C128  # A^+ R A^+H
    inverse_gram: npt.NDArray[np.complexfloating[Any, Any]]


def refine_jointly(
    moments: Moments,
    model: Model,
    start: F64,
    box: Box,
    free: Sequence[Coordinate],
    *,
    max_iterations: int = 15,
    tolerance: float = 0.02,
) -> JointFit:
    r"""Minimize :math:`\mathrm{tr}(P_A^\perp \hat R)`: the gains are concentrated out, the rest is Gauss-Newton.

    With the gradient and Hessian of Viberg, Ottersten and Kailath 1991 (Eqs. 27, 28)::

        V_i  = -2 Re (A^+ R P_perp D)_ii          H = 2 Re [(D^H P_perp D) o (A^+ R A^+H)^T]

    for any of the three coordinates. Coherent sources are allowed. It ends in the minimum in whose basin it starts:
    start from MUSIC of any kind, root-MUSIC or ESPRIT. ``max_iterations=0`` fits gains and covariance at the start.

    Args:
        moments: Covariance or samples.
        model: Array and wavefront.
        start: Azimuth, elevation, inverse range ``[source, 3]``; fewer sources than sensors.
        box: Limits; a step is at most ``box.step``.
        free: The coordinates that move. A line does not see elevation.
        max_iterations: Gauss-Newton steps.
        tolerance: Stop with the step that is below this part of the estimate's own standard deviation.

    Raises:
        EstimationError: Sources coincide, so that their gains cannot be told apart.
    """
    n_sources = len(start)
    if not 1 <= n_sources < moments.n_sensors or not free:
        raise ParamError(
            f"refine_jointly: {n_sources} sources, {moments.n_sensors} sensors, coordinates {list(free)}; expected "
            "fewer sources than sensors and at least one coordinate"
        )
    columns = [COORDINATES.index(name) for name in free]
    low, high, longest = (side[columns] for side in (box.low, box.high, box.step))
    point = np.array(start, dtype=np.float64)
    state = _evaluate(moments, model, point, free)
    require_moments("refine_jointly", moments, state.cost)
    damping, converged = 0.0, False
    for _ in range(max_iterations):
        here = point[:, columns]
        held = (here <= low) & (state.gradient > 0) | (here >= high) & (state.gradient < 0)
        step, size = _step(state, held, damping)
        step /= max(1.0, float((np.abs(step) / longest).max()))
        trial = point.copy()
        trial[:, columns] = np.minimum(np.maximum(here + step, low), high)
        # a step of one standard deviation has size sqrt(sigma^2 / 2T) in the metric of the Hessian
        if size < tolerance * math.sqrt(state.cost / ((moments.n_sensors - n_sources) * 2 * moments.n_snapshots)):
            point, converged = trial, True
            break
        new = _evaluate(moments, model, trial, free)
        if new.cost <= state.cost:
            point, state, damping = trial, new, 0.1 * damping
        elif damping > 1e4:
            break
        else:
            damping = max(10 * damping, 0.1)
    noise_power = state.cost / (moments.n_sensors - n_sources)
    gains = state.seen - noise_power * state.inverse_gram
    covariance = _covariance(moments, state, gains, noise_power, n_sources)
    return JointFit(point, gains, noise_power, covariance, state.cost / moments.trace, converged)


def powers_at(moments: Moments, model: Model, point: F64, free: Sequence[Coordinate]) -> tuple[F64, F64]:
    """Power ``[source]`` and Cramer-Rao bound ``[source, free, free]`` of sources that stay where they are.

    Power is at least what could be told from noise, ``noise_power / (N sqrt(T))``. No sources give empty arrays.
    """
    if len(point) == 0:
        return np.zeros(0), np.zeros((0, len(free), len(free)))
    here = Box(np.full(3, -np.inf), np.full(3, np.inf), np.ones(3))
    fit = refine_jointly(moments, model, point, here, free, max_iterations=0)
    return source_power(fit, moments), fit.covariance


def source_power(fit: JointFit, moments: Moments) -> F64:
    """Power of each source ``[source]``, at least ``noise_power / (N sqrt(T))``."""
    least = fit.noise_power / (moments.n_sensors * np.sqrt(moments.n_snapshots))
    return np.maximum(np.diagonal(fit.source_covariance).real, least)


def _step(state: _State, held: npt.NDArray[np.bool_], damping: float) -> tuple[F64, float]:
    """Damped Gauss-Newton step ``[source, free]``, fixed where ``held``, and its largest scaled part."""
    fixed = held.ravel()
    scale = np.sqrt(np.maximum(state.hessian.diagonal(), 1e-300))
    scaled = state.hessian / (scale[:, None] * scale)
    scaled.flat[:: len(scale) + 1] += damping + 1e-9
    gradient = state.gradient.ravel() / scale
    if fixed.any():
        scaled[fixed, :], scaled[:, fixed], gradient[fixed] = 0.0, 0.0, 0.0
        scaled[fixed, fixed] = 1.0
    step = -np.linalg.solve(scaled, gradient)
    return (step / scale).reshape(held.shape), float(np.abs(step).max())


def _evaluate(moments: Moments, model: Model, point: F64, free: Sequence[Coordinate]) -> _State:
    az, el, k = point.T
    rows = steering_rows(model.position_m, az, el, k, model.wavelength_m, amplitude=model.amplitude, wanted=free)
    n_sources, n_free = len(point), len(free)
    a, d = rows[:, 0].T, rows[:, 1:].reshape(n_sources * n_free, -1).T
    a_h = a.conj().T
    gram = a_h @ a
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError as error:
        raise EstimationError(
            f"maximum likelihood: of {n_sources} sources some coincide (azimuth, elevation, inverse range {point}); "
            "give distinct starting points"
        ) from error
    pinv_h = a @ inverse
    r_pinv = moments.times(pinv_h).conj().T  # A^+ R
    seen = r_pinv @ pinv_h
    cost = max(moments.trace - float(np.vdot(gram, seen).real), 0.0)
    d_perp = d - pinv_h @ (a_h @ d)
    projected = d_perp.conj().T @ d_perp
    cross = (r_pinv @ d_perp).reshape(n_sources, n_sources, n_free)
    gradient = -2 * np.einsum("iif->if", cross).real  # each source's row at its own columns
    return _State(cost, gradient, 2 * _weighted(projected, seen), projected, seen, inverse)


def _weighted(projected: C128, seen: C128) -> F64:
    """``Re [(D^H P_perp D) o S^T]``, a block of ``free x free`` of each pair of sources weighted by one of ``S``."""
    m, size = len(seen), len(projected)
    blocks = projected.reshape(m, size // m, m, size // m) * seen.T[:, None, :, None]
    return blocks.real.reshape(size, size)


def _covariance(moments: Moments, state: _State, gains: C128, noise_power: float, n_sources: int) -> F64:
    """Stochastic bound, ``P A^H R^-1 A P = P S^-1 P`` with ``S = A^+ R A^+H``."""
    try:
        seen = gains @ np.linalg.solve(state.seen, gains)
    except np.linalg.LinAlgError as error:
        raise EstimationError("maximum likelihood: coherent sources without any noise have no covariance") from error
    information = _weighted(state.projected, seen)
    scale = np.sqrt(np.maximum(information.diagonal(), 1e-200))
    product = scale[:, None] * scale
    scaled = information / product
    # sources on one spot or endfire have no information: the ridge bounds what is claimed of them
    scaled.flat[:: len(scale) + 1] += 1e-9
    bound = np.linalg.inv(scaled) / product * (noise_power / (2 * moments.n_snapshots))
    n_free = len(scale) // n_sources
    return np.einsum("ifig->ifg", bound.reshape(n_sources, n_free, n_sources, n_free)).copy()
