"""Descent of the MUSIC cost in azimuth, elevation and inverse range, many points of many covariances at once.

NumPy or torch; in torch the nulls have a gradient in the subspace.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import at_least, constant, namespace, real_gram
from blocks.subspace.implicit_gradient import attach_gradient, follows_gradient
from blocks.subspace.steering_rows import Coordinate, steering_rows

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]
COORDINATES: tuple[Coordinate, ...] = ("azimuth", "elevation", "inverse_range")


class Model(NamedTuple):
    """The wavefront that is fitted, and where.

    Attributes:
        position_m: Sensors in channel order, ``[sensor, xyz]`` metres.
        wavelength_m: Metres.
        amplitude: Whether steering vectors have the factor ``r / r_m``.
    """

    position_m: F64
    wavelength_m: float
    amplitude: bool


class Box(NamedTuple):
    """Limits of azimuth (rad), elevation (rad), inverse range (1/m), and the longest step along each, ``[3]``."""

    low: F64
    high: F64
    step: F64


class Descent(NamedTuple):
    """Where the descents ended.

    Attributes:
        point: Azimuth, elevation, inverse range, ``[..., peak, 3]``.
        depth: MUSIC cost there, 0 .. 1, ``[..., peak]``.
        converged: The last step was below tolerance, ``[..., peak]``.
    """

    point: Array
    depth: Array
    converged: Array


def descend_nulls(
    signal: Array,
    model: Model,
    start: Array,
    box: Box,
    free: Sequence[Coordinate],
    *,
    max_iterations: int = 20,
    tolerance: float = 1e-4,
) -> Descent:
    r"""Levenberg-Marquardt on :math:`f = 1 - \|U_s^H a\|^2 / \|a\|^2` from every starting point together.

    The arithmetic of :func:`blocks.subspace.refine_music.refine_music`, for any of the three coordinates, with the
    points of all covariances in one array: for hundreds of points some ten times as fast a point. A coordinate at its
    limit, on which the gradient pushes, is held. Points that have converged ride along until all have. In torch the
    result has the exact gradient in ``signal`` (:mod:`blocks.subspace.implicit_gradient`).

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]`` complex128.
        model: Array and wavefront.
        start: ``[..., peak, 3]``; leading axes and kind as ``signal``.
        box: Limits; the tolerance is relative to its steps.
        free: The coordinates that move; the others stay.
        max_iterations: At most so many evaluations.
        tolerance: A point has converged when its step is below this part of ``box.step``; the step is taken.
    """
    xp = namespace(signal)
    columns = [COORDINATES.index(name) for name in free]
    if follows_gradient(signal):
        return _with_gradient(signal, model, start, box, free, max_iterations, tolerance)
    low, high, longest = (constant(side[columns], start) for side in (box.low, box.high, box.step))
    point = trial = start
    cost, gradient, hessian = _evaluate(xp, signal, model, trial, columns)
    damping = xp.zeros_like(cost)
    converged = cost < -np.inf  # none
    for iteration in range(max_iterations):
        if iteration:
            new_cost, new_gradient, new_hessian = _evaluate(xp, signal, model, trial, columns)
            better = (new_cost <= cost) & ~converged
            damping = xp.where(better, 0.1 * damping, at_least(10 * damping, 0.1))
            point = xp.where(better[..., None], trial, point)
            cost = xp.where(better, new_cost, cost)
            gradient = xp.where(better[..., None], new_gradient, gradient)
            hessian = xp.where(better[..., None, None], new_hessian, hessian)
        here = point[..., columns]
        step = _step(xp, gradient, hessian, damping, (here <= low) & (gradient > 0) | (here >= high) & (gradient < 0))
        size = xp.max(xp.abs(step) / longest, axis=-1)
        moved = xp.minimum(xp.maximum(here + step / at_least(size, 1.0)[..., None], low), high)
        arrived = ~converged & (size * (1 + damping) < tolerance)
        point = _placed(xp, point, columns, xp.where(arrived[..., None], moved, here))
        converged = converged | arrived
        if bool(xp.all(converged)):
            break
        trial = _placed(xp, point, columns, xp.where(converged[..., None], point[..., columns], moved))
    return Descent(point, cost, converged)


def _with_gradient(
    signal: Array,
    model: Model,
    start: Array,
    box: Box,
    free: Sequence[Coordinate],
    max_iterations: int,
    tolerance: float,
) -> Descent:
    """The descent without a graph, then :func:`blocks.subspace.implicit_gradient.attach_gradient`. Torch."""
    xp = namespace(signal)
    columns = [COORDINATES.index(name) for name in free]
    ended = descend_nulls(
        signal.detach(), model, start.detach(), box, free, max_iterations=max_iterations, tolerance=tolerance
    )

    def gradient_of(values: Array) -> Array:
        return _evaluate(xp, signal, model, _placed(xp, ended.point, columns, values), columns)[1]

    here = ended.point[..., columns]
    held = (here <= constant(box.low[columns], here)) | (here >= constant(box.high[columns], here))
    point = _placed(xp, ended.point, columns, attach_gradient(here, gradient_of, held))
    return Descent(point, _evaluate(xp, signal, model, point, columns)[0], ended.converged)


def _placed(xp: Any, point: Array, columns: list[int], values: Array) -> Array:
    """``point [..., 3]`` with ``values [..., coordinate]`` in ``columns``."""
    if xp is np:
        out = np.array(point, dtype=np.float64)
        out[..., columns] = values
        return out
    parts = [values[..., columns.index(i)] if i in columns else point[..., i] for i in range(3)]
    return xp.stack(parts, axis=-1)


def _step(xp: Any, gradient: Array, hessian: Array, damping: Array, held: Array) -> Array:
    """``-(H + damping diag H)^-1 g`` with held coordinates fixed, ``[..., coordinate]``."""
    n = gradient.shape[-1]
    diagonal = at_least(xp.linalg.diagonal(hessian), 1e-300)
    inverse_scale = xp.where(held, xp.zeros_like(diagonal), 1 / xp.sqrt(diagonal))
    scaled = hessian * (inverse_scale[..., :, None] * inverse_scale[..., None, :])
    # a ridge of 1e-9: where the array cannot tell two coordinates apart the step is short, not undefined
    grown = xp.where(held, xp.ones_like(diagonal), 1 + damping[..., None] + 1e-9)
    g = gradient * inverse_scale
    if n == 1:
        return -g / grown * inverse_scale
    if n == 2:
        a, c, b = grown[..., 0], grown[..., 1], scaled[..., 0, 1]
        determinant = a * c - b * b
        first, second = (b * g[..., 1] - c * g[..., 0]) / determinant, (b * g[..., 0] - a * g[..., 1]) / determinant
        return xp.stack([first, second], axis=-1) * inverse_scale
    eye = constant(np.eye(n), gradient)
    return -xp.linalg.solve(scaled * (1 - eye) + grown[..., None] * eye, g[..., None])[..., 0] * inverse_scale


def _evaluate(xp: Any, signal: Array, model: Model, point: Array, columns: list[int]) -> tuple[Array, Array, Array]:
    """Cost ``[..., peak]``, gradient ``[..., peak, coordinate]`` and Gauss-Newton Hessian of unit-norm vectors."""
    b = steering_rows(
        model.position_m,
        point[..., 0],
        point[..., 1],
        point[..., 2],
        model.wavelength_m,
        amplitude=model.amplitude,
        wanted=[COORDINATES[i] for i in columns],
    )
    shape = (*b.shape[:-3], -1, b.shape[-1])
    c = xp.reshape(xp.reshape(xp.conj(b), shape) @ signal, (*b.shape[:-1], signal.shape[-1]))
    gram = real_gram(b)
    noise = gram - real_gram(c)
    norm = gram[..., :1, 0]
    f = noise[..., 0, 0] / norm[..., 0]
    along, n_along = gram[..., 0, 1:] / norm, noise[..., 0, 1:] / norm
    cross = along[..., :, None] * n_along[..., None, :]
    hessian = 2 * (
        noise[..., 1:, 1:] / norm[..., None]
        - cross
        - xp.matrix_transpose(cross)
        + along[..., :, None] * along[..., None, :] * f[..., None, None]
    )
    return f, 2 * (n_along - along * f[..., None]), hessian
