"""Off-grid refinement of MUSIC nulls: damped Gauss-Newton in azimuth and inverse range, all peaks at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import real_gram
from blocks.subspace.dictionary import Search
from blocks.subspace.steering_rows import steering_rows

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
    dictionary: Search,
    azimuth_rad: F64,
    inverse_range_per_m: F64,
    *,
    max_iterations: int = 12,
    tolerance: float = 1e-4,
) -> Nulls:
    r"""Descend the MUSIC cost from each starting point.

    The cost :math:`f = \|P_w \tilde a\|^2`, ``a`` of unit norm, is a sum of squares that vanishes at a source, so
    Gauss-Newton with the Hessian :math:`2 \mathrm{Re}(\tilde a_i^H P_w \tilde a_j)` converges like Newton without
    second derivatives and always descends. A step that does not lower the cost is taken back and damped. Inverse
    range stays within the grid's limits; at a bound that the gradient pushes on, azimuth moves alone.

    Args:
        signal: Orthonormal ``U_s``, ``[sensor, source]`` complex128.
        dictionary: Model and grid; its steps limit a step and scale the tolerance.
        azimuth_rad: Starting points ``[peak]``.
        inverse_range_per_m: Starting points ``[peak]``.
        max_iterations: At most so many evaluations of the cost.
        tolerance: A peak has converged when its step is below this part of a grid step; that step is still taken.
    """
    limits = _Limits.of(dictionary)
    peaks = [_Peak(float(az), float(k)) for az, k in zip(azimuth_rad, inverse_range_per_m, strict=True)]
    moving = peaks
    for _ in range(max_iterations):
        if not moving:
            break
        trial = np.array([[peak.trial_az, peak.trial_k] for peak in moving])
        for peak, cost in zip(moving, _costs(signal, dictionary, trial[:, 0], trial[:, 1]), strict=True):
            peak.advance(cost, limits, tolerance)
        moving = [peak for peak in moving if not peak.converged]
    azimuth, k, depth = np.array([[p.az, p.k, p.cost.f] for p in peaks]).reshape(-1, 3).T
    if dictionary.grid.wraps:
        azimuth = (azimuth - dictionary.grid.azimuth_min_rad) % (2 * np.pi) + dictionary.grid.azimuth_min_rad
    inside = (k < limits.k_high) | limits.one_range
    return Nulls(azimuth, k, depth, np.array([p.converged for p in peaks], dtype=bool) & inside)


def music_depth(
    signal: npt.NDArray[np.complex128], dictionary: Search, azimuth_rad: F64, inverse_range_per_m: F64
) -> F64:
    """MUSIC cost of unit-norm steering vectors at any points ``[point]``, 0 .. 1."""
    return np.array([cost.f for cost in _costs(signal, dictionary, azimuth_rad, inverse_range_per_m)])


class _Cost(NamedTuple):
    """Cost, gradient and Gauss-Newton Hessian in (azimuth, 1/r) at one point."""

    f: float
    g_az: float
    g_k: float
    h_az: float
    h_az_k: float
    h_k: float


class _Limits(NamedTuple):
    k_low: float
    k_high: float
    one_range: bool
    az_limit: float
    step_az: float
    step_k: float

    @classmethod
    def of(cls, dictionary: Search) -> "_Limits":
        grid = dictionary.grid
        low, high = grid.inverse_range_limits_per_m
        return cls(
            k_low=low,
            k_high=high,
            one_range=grid.n_range == 1,
            az_limit=np.pi / 2 if grid.spacing == "sine" else np.inf,
            step_az=grid.azimuth_step_rad,
            step_k=grid.inverse_range_step_per_m,
        )


class _Peak:
    """One descent: where it stands, where it tries next. Plain floats: a handful of peaks is no work for arrays."""

    def __init__(self, az: float, k: float) -> None:
        self.az = self.trial_az = az
        self.k = self.trial_k = k
        self.cost = _Cost(np.inf, 0.0, 0.0, 0.0, 0.0, 0.0)
        self.damping = 0.0
        self.converged = False

    def advance(self, cost: _Cost, limits: _Limits, tolerance: float) -> None:
        """Accept or refuse the trial point, whose cost came, and choose the next."""
        if cost.f <= self.cost.f:
            self.az, self.k, self.cost = self.trial_az, self.trial_k, cost
            self.damping *= 0.1
        else:
            self.damping = max(10 * self.damping, 0.1)
        c = self.cost
        held = limits.one_range or (self.k <= limits.k_low and c.g_k > 0) or (self.k >= limits.k_high and c.g_k < 0)
        h_az, h_k = max(c.h_az * (1 + self.damping), 1e-300), c.h_k * (1 + self.damping)
        determinant = h_az * h_k - c.h_az_k**2
        # where the array cannot tell range from azimuth the Hessian is singular, and azimuth moves alone
        if held or determinant <= 1e-12 * h_az * h_k:
            d_az, d_k = -c.g_az / h_az, 0.0
        else:
            d_az = (c.h_az_k * c.g_k - h_k * c.g_az) / determinant
            d_k = (c.h_az_k * c.g_az - h_az * c.g_k) / determinant
        size = max(abs(d_az) / limits.step_az, abs(d_k) / limits.step_k)
        shrink = max(1.0, size)
        self.trial_az = min(max(self.az + d_az / shrink, -limits.az_limit), limits.az_limit)
        self.trial_k = min(max(self.k + d_k / shrink, limits.k_low), limits.k_high)
        if size * (1 + self.damping) < tolerance:
            self.az, self.k, self.converged = self.trial_az, self.trial_k, True


def _costs(
    signal: npt.NDArray[np.complex128], dictionary: Search, azimuth_rad: F64, inverse_range_per_m: F64
) -> list[_Cost]:
    """Cost at each point ``[peak]``."""
    b = steering_rows(  # (peak, 3, sensor)
        dictionary.position_m,
        azimuth_rad,
        dictionary.grid.elevation_rad,
        inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    )
    c = b @ signal.conj()  # (peak, 3, source)
    gram = real_gram(b)
    noise = gram - real_gram(c)
    return [_normalized(g, n) for g, n in zip(gram.tolist(), noise.tolist(), strict=True)]


def _normalized(gram: list[list[float]], noise: list[list[float]]) -> _Cost:
    """From the Gram matrices of (a, a_az, a_k), whole and in the noise subspace, to those of ``a / |a|``."""
    norm = gram[0][0]
    along_az, along_k = gram[0][1] / norm, gram[0][2] / norm
    f, n_az, n_k = noise[0][0] / norm, noise[0][1] / norm, noise[0][2] / norm
    return _Cost(
        f=f,
        g_az=2 * (n_az - along_az * f),
        g_k=2 * (n_k - along_k * f),
        h_az=2 * (noise[1][1] / norm - 2 * along_az * n_az + along_az**2 * f),
        h_az_k=2 * (noise[1][2] / norm - along_az * n_k - along_k * n_az + along_az * along_k * f),
        h_k=2 * (noise[2][2] / norm - 2 * along_k * n_k + along_k**2 * f),
    )
