"""Off-grid refinement of MUSIC nulls: damped Gauss-Newton in azimuth and inverse range, all peaks at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.dictionary import Dictionary

F64 = npt.NDArray[np.float64]


class Nulls(NamedTuple):
    """Refined nulls, all ``[peak]``.

    Attributes:
        azimuth_rad: Azimuth.
        inverse_range_per_m: Inverse range, within the grid's.
        depth: MUSIC cost there, ``1 - |U_s^H a|^2 / |a|^2``: 0 is a vector of the signal subspace.
        converged: The last step was below tolerance, and not held by the nearest range.
    """

    azimuth_rad: F64
    inverse_range_per_m: F64
    depth: F64
    converged: npt.NDArray[np.bool_]


def refine_music(
    signal: npt.NDArray[np.complex128],
    dictionary: Dictionary,
    azimuth_rad: F64,
    inverse_range_per_m: F64,
    *,
    max_iterations: int = 12,
    tolerance: float = 1e-5,
) -> Nulls:
    r"""Descend the MUSIC cost from each starting point.

    The cost :math:`f = \|P_w \tilde a\|^2`, ``a`` of unit norm, is a sum of squares that vanishes at a source, so
    Gauss-Newton with the Hessian :math:`2 \mathrm{Re}(\tilde a_i^H P_w \tilde a_j)` converges like Newton without
    second derivatives and always descends. A step that does not lower the cost is taken back and damped. Inverse
    range stays between 0 and that of the nearest range; at a bound that the gradient pushes on, azimuth moves alone.

    Args:
        signal: Orthonormal ``U_s``, ``[sensor, source]`` complex128.
        dictionary: Model and grid; its steps limit a step and scale the tolerance.
        azimuth_rad: Starting points ``[peak]``.
        inverse_range_per_m: Starting points ``[peak]``.
        max_iterations: At most so many evaluations of the cost after the first.
        tolerance: Largest step at convergence, in grid steps.
    """
    grid = dictionary.grid
    k_low, k_high = float(dictionary.inverse_range_per_m[0]), float(dictionary.inverse_range_per_m[-1])
    one_range = grid.n_range == 1
    step_az = (grid.azimuth_max_rad - grid.azimuth_min_rad) / grid.n_azimuth
    step_k = (k_high - k_low) / max(grid.n_range - 1, 1) or 1.0

    az, k = azimuth_rad.astype(np.float64), inverse_range_per_m.astype(np.float64)
    cost, gradient, hessian = _cost(signal, dictionary, az, k)
    damping = np.zeros_like(cost)
    last_step = np.full_like(cost, np.inf)
    for _ in range(max_iterations):
        held = (k <= k_low) & (gradient[:, 1] > 0) | (k >= k_high) & (gradient[:, 1] < 0) | one_range
        h00, h11 = hessian[:, 0, 0] * (1 + damping), hessian[:, 1, 1] * (1 + damping)
        h01 = np.where(held, 0.0, hessian[:, 0, 1])
        g0, g1 = gradient[:, 0], np.where(held, 0.0, gradient[:, 1])
        determinant = h00 * h11 - h01 * h01
        # a singular Hessian (the array cannot tell the two apart there) leaves the scaled gradient
        good = determinant > 1e-12 * h00 * h11
        safe = np.where(good, determinant, 1.0)
        d_az = np.where(good, (h01 * g1 - h11 * g0) / safe, -g0 / np.maximum(h00, 1e-300))
        d_k = np.where(good, (h01 * g0 - h00 * g1) / safe, 0.0)
        shrink = np.maximum(1.0, np.maximum(np.abs(d_az) / step_az, np.abs(d_k) / step_k))
        new_az = az + d_az / shrink
        if grid.spacing == "sine":
            new_az = np.clip(new_az, -np.pi / 2, np.pi / 2)
        new_k = np.clip(k + d_k / shrink, k_low, k_high)
        new_cost, new_gradient, new_hessian = _cost(signal, dictionary, new_az, new_k)
        moved = np.maximum(np.abs(new_az - az) / step_az, np.abs(new_k - k) / step_k)
        # rounding of a cost near 1 is 1e-16: a step that changes less than that is as good as any
        better = new_cost <= cost + 1e-15
        last_step = np.where(better, moved, last_step)
        damping = np.where(better, damping * 0.1, np.maximum(10 * damping, 0.1))
        az, k, cost = np.where(better, new_az, az), np.where(better, new_k, k), np.where(better, new_cost, cost)
        gradient = np.where(better[:, None], new_gradient, gradient)
        hessian = np.where(better[:, None, None], new_hessian, hessian)
        if (moved < tolerance).all():
            last_step = np.minimum(last_step, moved)
            break
    if grid.wraps:
        az = (az - grid.azimuth_min_rad) % (2 * np.pi) + grid.azimuth_min_rad
    on_near_edge = (k >= k_high) & (not one_range)
    return Nulls(az, k, cost, (last_step < 1e3 * tolerance) & ~on_near_edge)


def _cost(
    signal: npt.NDArray[np.complex128], dictionary: Dictionary, azimuth_rad: F64, inverse_range_per_m: F64
) -> tuple[F64, F64, F64]:
    """Cost ``[peak]``, gradient ``[peak, 2]`` and Gauss-Newton Hessian ``[peak, 2, 2]`` in (azimuth, 1/r)."""
    elevation = np.full_like(azimuth_rad, dictionary.grid.elevation_rad)
    steering = steering_derivatives(
        dictionary.position_m,
        azimuth_rad,
        elevation,
        inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    )
    b = np.stack([steering.a, steering.azimuth, steering.inverse_range], axis=1)  # (peak, 3, sensor)
    c = b.conj() @ signal  # (peak, 3, source)
    gram = (b.conj() @ b.transpose(0, 2, 1)).real
    noise = gram - (c @ c.conj().transpose(0, 2, 1)).real
    # derivatives of a / |a|: take from each column its part along a
    norm = gram[:, 0, 0]
    along = gram[:, 0, 1:] / norm[:, None]
    f = noise[:, 0, 0] / norm
    cross = noise[:, 0, 1:] / norm[:, None] - along * f[:, None]
    square = noise[:, 1:, 1:] / norm[:, None, None]
    mixed = along[:, :, None] * (noise[:, 0, 1:] / norm[:, None])[:, None, :]
    square = square - mixed - mixed.transpose(0, 2, 1) + along[:, :, None] * along[:, None, :] * f[:, None, None]
    return f, 2 * cross, 2 * square
