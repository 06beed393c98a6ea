"""Descent of the MUSIC cost in azimuth, elevation and inverse range, many points of many covariances at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.steering_rows import Coordinate, steering_rows

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

    point: F64
    depth: F64
    converged: npt.NDArray[np.bool_]


def descend_nulls(
    signal: C128,
    model: Model,
    start: F64,
    box: Box,
    free: Sequence[Coordinate],
    *,
    max_iterations: int = 20,
    tolerance: float = 1e-4,
) -> Descent:
    r"""Levenberg-Marquardt on :math:`f = 1 - \|U_s^H a\|^2 / \|a\|^2` from every starting point together.

    The arithmetic of :func:`blocks.subspace.refine_music.refine_music`, for any of the three coordinates, with the
    points of all covariances in one array: for hundreds of points some ten times as fast a point. A coordinate at its
    limit, on which the gradient pushes, is held. Points that have converged ride along until all have.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]`` complex128.
        model: Array and wavefront.
        start: ``[..., peak, 3]``; leading axes as ``signal``.
        box: Limits; the tolerance is relative to its steps.
        free: The coordinates that move; the others stay.
        max_iterations: At most so many evaluations.
        tolerance: A point has converged when its step is below this part of ``box.step``; the step is taken.
    """
    columns = np.array([COORDINATES.index(name) for name in free])
    low, high, longest = box.low[columns], box.high[columns], box.step[columns]
    point = np.array(start, dtype=np.float64)
    trial = point.copy()
    cost, gradient, hessian = _evaluate(signal, model, trial, columns)
    damping = np.zeros(cost.shape)
    converged = np.zeros(cost.shape, dtype=bool)
    for iteration in range(max_iterations):
        if iteration:
            new_cost, new_gradient, new_hessian = _evaluate(signal, model, trial, columns)
            better = (new_cost <= cost) & ~converged
            damping = np.where(better, 0.1 * damping, np.maximum(10 * damping, 0.1))
            point = np.where(better[..., None], trial, point)
            cost = np.where(better, new_cost, cost)
            gradient = np.where(better[..., None], new_gradient, gradient)
            hessian = np.where(better[..., None, None], new_hessian, hessian)
        here = point[..., columns]
        step = _step(gradient, hessian, damping, (here <= low) & (gradient > 0) | (here >= high) & (gradient < 0))
        size = (np.abs(step) / longest).max(axis=-1)
        moved = np.clip(here + step / np.maximum(size, 1.0)[..., None], low, high)
        arrived = ~converged & (size * (1 + damping) < tolerance)
        point[..., columns] = np.where(arrived[..., None], moved, here)
        converged = converged | arrived
        if converged.all():
            break
        trial = point.copy()
        trial[..., columns] = np.where(converged[..., None], point[..., columns], moved)
    return Descent(point, cost, converged)


def _step(gradient: F64, hessian: F64, damping: F64, held: npt.NDArray[np.bool_]) -> F64:
    """``-(H + damping diag H)^-1 g`` with held coordinates fixed, ``[..., coordinate]``."""
    n = gradient.shape[-1]
    diagonal = np.maximum(np.diagonal(hessian, axis1=-2, axis2=-1), 1e-300)
    scale = np.where(held, np.inf, np.sqrt(diagonal))
    scaled = hessian / (scale[..., :, None] * scale[..., None, :])
    # a ridge of 1e-9: where the array cannot tell two coordinates apart the step is short, not undefined
    grown = np.where(held, 1.0, 1 + damping[..., None] + 1e-9)
    g = gradient / scale
    if n == 1:
        return -g / grown / scale
    if n == 2:
        a, c, b = grown[..., 0], grown[..., 1], scaled[..., 0, 1]
        determinant = a * c - b * b
        first, second = (b * g[..., 1] - c * g[..., 0]) / determinant, (b * g[..., 0] - a * g[..., 1]) / determinant
        return np.stack([first, second], axis=-1) / scale
    index = np.arange(n)
    scaled[..., index, index] = grown
    return -np.linalg.solve(scaled, g[..., None])[..., 0] / scale


def _evaluate(signal: C128, model: Model, point: F64, columns: npt.NDArray[np.intp]) -> tuple[F64, F64, F64]:
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
    conjugate = b.conj()
    shape = (*b.shape[:-3], -1, b.shape[-1])
    c = (conjugate.reshape(shape) @ signal).reshape((*b.shape[:-1], signal.shape[-1]))
    gram = _real_gram(b)
    noise = gram - _real_gram(c)
    norm = gram[..., :1, 0]
    f = noise[..., 0, 0] / norm[..., 0]
    along, n_along = gram[..., 0, 1:] / norm, noise[..., 0, 1:] / norm
    cross = along[..., :, None] * n_along[..., None, :]
    hessian = 2 * (
        noise[..., 1:, 1:] / norm[..., None]
        - cross
        - np.swapaxes(cross, -1, -2)
        + along[..., :, None] * along[..., None, :] * f[..., None, None]
    )
    return f, 2 * (n_along - along * f[..., None]), hessian


def _real_gram(v: npt.NDArray[Any]) -> F64:
    """``Re(v v^H)`` of each ``[row, column]`` matrix, as one real product of twice the columns."""
    flat = v.view(np.float64)
    return flat @ np.swapaxes(flat, -1, -2)
