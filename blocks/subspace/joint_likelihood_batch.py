"""Joint maximum likelihood of many frames at once, NumPy or torch: :mod:`blocks.subspace.joint_likelihood` batched."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from blocks.subspace.array_kind import at_least, constant, namespace
from blocks.subspace.data_check import require_finite, require_power
from blocks.subspace.implicit_gradient import attach_gradient, follows_gradient
from blocks.subspace.null_descent import COORDINATES, Box, Model
from blocks.subspace.steering_rows import Coordinate, steering_rows
from hil.errors import ParamError

Array = Any  # NumPy or torch


class BatchFit(NamedTuple):
    """Sources fitted jointly in each frame; where sources of a frame coincide its values are NaN.

    Attributes:
        point: Azimuth, elevation, inverse range, ``[..., source, 3]``.
        source_covariance: Of the complex gains, ``[..., source, source]``.
        noise_power: Per sensor, ``[...]``.
        covariance: Of each source's free coordinates, ``[..., source, free, free]``: stochastic Cramer-Rao bound there.
        cost: ``tr(P_A^perp R) / tr R``, ``[...]``.
        converged: The last step was below the tolerance, ``[...]``.
    """

    point: Array
    source_covariance: Array
    noise_power: Array
    covariance: Array
    cost: Array
    converged: Array


class _State(NamedTuple):
    cost: Array  # [...]
    gradient: Array  # [..., source * free]
    hessian: Array
    projected: Array  # D^H P_perp D
    seen: Array  # A^+ R A^+H
    inverse_gram: Array


def refine_jointly_batch(
    covariance: Array,
    n_snapshots: float,
    model: Model,
    start: Array,
    box: Box,
    free: Sequence[Coordinate],
    *,
    max_iterations: int = 15,
    tolerance: float = 0.02,
) -> BatchFit:
    """As :func:`blocks.subspace.joint_likelihood.refine_jointly`, frames in leading axes.

    All frames take the same number of steps; those that have converged ride along. In torch the result has the exact
    gradient in the covariance (:mod:`blocks.subspace.implicit_gradient`).

    Args:
        covariance: ``[..., sensor, sensor]`` complex128.
        n_snapshots: In each.
        model: Array and wavefront.
        start: ``[..., source, 3]``, leading axes and kind as ``covariance``; fewer sources than sensors.
        box: Limits; a step is at most ``box.step``.
        free: The coordinates that move.
        max_iterations: Evaluations.
        tolerance: In standard deviations of the estimate.

    Raises:
        EstimationError: Not finite, or no power.
    """
    xp = namespace(covariance)
    n_sensors, n_sources = covariance.shape[-1], start.shape[-2]
    if not 1 <= n_sources < n_sensors or not free:
        raise ParamError(
            f"refine_jointly_batch: {n_sources} sources, {n_sensors} sensors, coordinates {list(free)}; expected "
            "fewer sources than sensors and at least one coordinate"
        )
    require_power("refine_jointly_batch", covariance)
    require_finite("refine_jointly_batch", start, "the starting points")
    columns = [COORDINATES.index(name) for name in free]
    if follows_gradient(covariance):
        return _with_gradient(covariance, n_snapshots, model, start, box, free, max_iterations, tolerance)
    low, high, longest = (
        constant(np.tile(side[columns], n_sources), start) for side in (box.low, box.high, box.step)
    )  # fmt: skip
    power = xp.real(xp.linalg.trace(covariance)) if xp is not np else np.trace(covariance, axis1=-2, axis2=-1).real
    point, state = start, _evaluate(xp, covariance, power, model, start, free)
    damping, converged = xp.zeros_like(power), power < -np.inf
    for _ in range(max_iterations):
        here = _flat(xp, point, columns)
        held = (here <= low) & (state.gradient > 0) | (here >= high) & (state.gradient < 0)
        step, size = _step(xp, state, held, damping)
        step = step / at_least(xp.max(xp.abs(step) / longest, axis=-1), 1.0)[..., None]
        trial = _placed(xp, point, columns, xp.minimum(xp.maximum(here + step, low), high))
        new = _evaluate(xp, covariance, power, model, trial, free)
        # a step of one standard deviation has this size in the metric of the Hessian
        small = size <= tolerance * xp.sqrt(state.cost / ((n_sensors - n_sources) * 2 * n_snapshots))
        better = (new.cost <= state.cost) & ~converged
        point = xp.where(better[..., None, None], trial, point)
        state = _State(*(_where(xp, better, a, b) for a, b in zip(new, state, strict=True)))
        damping = xp.where(better, 0.1 * damping, at_least(10 * damping, 0.1))
        converged = converged | small
        if bool(xp.all(converged)):
            break
    point = _where(xp, xp.isnan(state.cost), xp.full_like(point, np.nan), point)
    return _fit(xp, state, point, power, n_sensors, n_snapshots, converged)


def _fit(
    xp: Any, state: _State, point: Array, power: Array, n_sensors: int, n_snapshots: float, converged: Array
) -> BatchFit:
    n_sources = point.shape[-2]
    noise_power = state.cost / (n_sensors - n_sources)
    gains = state.seen - noise_power[..., None, None] * state.inverse_gram
    bound = _covariance(xp, state, gains, noise_power / (2 * n_snapshots), n_sources)
    return BatchFit(point, gains, noise_power, bound, state.cost / power, converged)


def _with_gradient(
    covariance: Array,
    n_snapshots: float,
    model: Model,
    start: Array,
    box: Box,
    free: Sequence[Coordinate],
    max_iterations: int,
    tolerance: float,
) -> BatchFit:
    xp = namespace(covariance)
    columns, power = [COORDINATES.index(name) for name in free], xp.real(xp.linalg.trace(covariance))
    ended = refine_jointly_batch(
        covariance.detach(), n_snapshots, model, start.detach(), box, free, max_iterations=max_iterations,
        tolerance=tolerance,
    )  # fmt: skip
    spoilt = xp.isnan(ended.cost)
    fine = xp.where(spoilt[..., None, None], start.detach(), ended.point)

    def gradient_of(values: Array) -> Array:
        return _evaluate(xp, covariance, power, model, _placed(xp, fine, columns, values), free).gradient

    here = _flat(xp, fine, columns)
    low, high = (constant(np.tile(side[columns], start.shape[-2]), here) for side in (box.low, box.high))
    held = (here <= low) | (here >= high) | spoilt[..., None]
    point = _placed(xp, fine, columns, attach_gradient(here, gradient_of, held))
    state = _evaluate(xp, covariance, power, model, point, free)
    point = _where(xp, spoilt, xp.full_like(point, np.nan), point)
    return _fit(xp, state, point, power, covariance.shape[-1], n_snapshots, ended.converged)


def _where(xp: Any, chosen: Array, a: Array, b: Array) -> Array:
    return xp.where(xp.reshape(chosen, (*chosen.shape, *(1,) * (a.ndim - chosen.ndim))), a, b)


def _flat(xp: Any, point: Array, columns: list[int]) -> Array:
    return xp.reshape(point[..., columns], (*point.shape[:-2], -1))


def _placed(xp: Any, point: Array, columns: list[int], flat: Array) -> Array:
    values = xp.reshape(flat, (*point.shape[:-1], len(columns)))
    return xp.stack([values[..., columns.index(i)] if i in columns else point[..., i] for i in range(3)], axis=-1)


def _step(xp: Any, state: _State, held: Array, damping: Array) -> tuple[Array, Array]:
    inverse_scale = 1 / xp.sqrt(at_least(xp.linalg.diagonal(state.hessian), 1e-300))
    inverse_scale = xp.where(held, xp.zeros_like(inverse_scale), inverse_scale)
    eye = constant(np.eye(held.shape[-1]), state.gradient)
    scaled = state.hessian * (inverse_scale[..., :, None] * inverse_scale[..., None, :])
    diagonal = damping[..., None] + 1e-9 + xp.where(held, xp.ones_like(inverse_scale), xp.zeros_like(inverse_scale))
    step = -xp.linalg.solve(scaled + diagonal[..., None] * eye, (state.gradient * inverse_scale)[..., None])[..., 0]
    return step * inverse_scale, xp.max(xp.abs(step), axis=-1)


def _evaluate(
    xp: Any, covariance: Array, power: Array, model: Model, point: Array, free: Sequence[Coordinate]
) -> _State:
    rows = steering_rows(
        model.position_m,
        point[..., 0],
        point[..., 1],
        point[..., 2],
        model.wavelength_m,
        amplitude=model.amplitude,
        wanted=free,
    )  # (..., source, 1 + free, sensor)
    n_sources, n_free = point.shape[-2], len(free)
    a = xp.matrix_transpose(rows[..., 0, :])
    d = xp.matrix_transpose(xp.reshape(rows[..., 1:, :], (*rows.shape[:-3], n_sources * n_free, rows.shape[-1])))
    a_h = _adjoint(xp, a)
    gram = a_h @ a
    # coincident sources have a singular Gram matrix, which would stop the whole batch: theirs becomes NaN
    singular = xp.abs(xp.linalg.det(gram / rows.shape[-1])) < 1e-14
    eye = constant(np.eye(n_sources), power)
    inverse = xp.linalg.inv(gram + singular[..., None, None] * (rows.shape[-1] * eye))
    pinv_h = a @ inverse
    r_pinv_h = covariance @ pinv_h
    seen = _adjoint(xp, pinv_h) @ r_pinv_h + singular[..., None, None] * eye
    explained = xp.sum(xp.real(xp.matrix_transpose(gram) * seen), axis=(-2, -1))
    cost = xp.where(singular, xp.full_like(power, np.nan), at_least(power - explained, 0.0))
    d_perp = d - pinv_h @ (a_h @ d)
    projected = _adjoint(xp, d_perp) @ d_perp
    owner = [i // n_free for i in range(n_sources * n_free)]
    gradient = -2 * xp.sum(xp.real(xp.conj(r_pinv_h)[..., owner] * d_perp), axis=-2)
    # element (i, j) is multiplied by S(owner j, owner i)
    weight = xp.matrix_transpose(seen[..., owner, :][..., owner])
    return _State(cost, gradient, 2 * xp.real(projected * weight), projected, seen, inverse)


def _covariance(xp: Any, state: _State, gains: Array, factor: Array, n_sources: int) -> Array:
    """Stochastic bound, ``P A^H R^-1 A P = P S^-1 P`` with ``S = A^+ R A^+H``."""
    size = state.projected.shape[-1]
    n_free = size // n_sources
    owner = [i // n_free for i in range(size)]
    seen = gains @ xp.linalg.solve(state.seen, gains)
    information = xp.real(state.projected * xp.matrix_transpose(seen[..., owner, :][..., owner]))
    scale = xp.sqrt(at_least(xp.linalg.diagonal(information), 1e-200))
    scaled = information / (scale[..., :, None] * scale[..., None, :])
    # sources on one spot or endfire have no information: the ridge bounds what is claimed of them
    bound = xp.linalg.inv(scaled + 1e-9 * constant(np.eye(size), factor))
    bound = bound / (scale[..., :, None] * scale[..., None, :]) * factor[..., None, None]
    blocks = [bound[..., i : i + n_free, i : i + n_free] for i in range(0, size, n_free)]
    return xp.stack(blocks, axis=-3)


def _adjoint(xp: Any, x: Array) -> Array:
    return xp.conj(xp.matrix_transpose(x))
