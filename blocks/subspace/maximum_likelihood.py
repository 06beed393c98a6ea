"""Deterministic maximum likelihood of azimuths and inverse ranges on the grid's model and within its limits."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Search
from blocks.subspace.joint_likelihood import refine_jointly, source_power
from blocks.subspace.moments import Moments
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.steering_rows import Coordinate

F64 = npt.NDArray[np.float64]


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
            With one range on the grid it is known: zero, and azimuth has the smaller bound of one unknown.
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
    r""":func:`blocks.subspace.joint_likelihood.refine_jointly` of all azimuths and, where the grid has some, ranges.

    It finds the minimum in whose basin it starts: start from MUSIC. ``max_iterations=0`` fits powers and covariance at
    the given points.

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
    grid = dictionary.grid
    k_low, k_high = grid.inverse_range_limits_per_m
    free: tuple[Coordinate, ...] = ("azimuth",) if grid.n_range == 1 else ("azimuth", "inverse_range")
    start = np.empty((len(azimuth_rad), 3))
    start[:, 0], start[:, 1], start[:, 2] = azimuth_rad, grid.elevation_rad, inverse_range_per_m
    box = Box(np.array([-np.inf, -np.inf, k_low]), np.array([np.inf, np.inf, k_high]), np.full(3, np.inf))
    model = Model(dictionary.position_m, dictionary.wavelength_m, dictionary.amplitude)
    fit = refine_jointly(moments, model, start, box, free, max_iterations=max_iterations, tolerance=tolerance)
    covariance = fit.covariance
    if len(free) == 1:
        covariance = np.zeros((len(start), 2, 2))
        covariance[:, 0, 0] = fit.covariance[:, 0, 0]
    return SourceFit(
        fit.point[:, 0], fit.point[:, 2], source_power(fit, moments), fit.noise_power, covariance, fit.cost
    )  # fmt: skip
