"""Likelihood of sources in front of a planar array: from a subspace's nulls, or from nothing."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.alternating_projection import sources_one_by_one
from blocks.subspace.joint_likelihood import JointFit, refine_jointly
from blocks.subspace.moments import Moments
from blocks.subspace.null_batch import highest_maxima
from blocks.subspace.null_descent import Model
from blocks.subspace.planar_grid import PlanarSearch, free_coordinates, grid_points, search_box
from blocks.subspace.planar_music import planar_music
from blocks.subspace.steering_rows import steering_rows
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class PlanarSources(NamedTuple):
    """What was found; never more than asked, never filled up.

    Attributes:
        fit: Places, powers and bounds; None where no source was found.
        resolved: The null is deep, and the search converged to it inside the searched ranges, ``[source]``.
        n_requested: How many sources were asked for.
    """

    fit: JointFit | None
    resolved: npt.NDArray[np.bool_]
    n_requested: int


def planar_from_subspace(
    signal: Complex, moments: Moments, grid: PlanarSearch, *, polish: bool = True
) -> PlanarSources:
    """Nulls of a signal subspace ``[sensor, source]``, all sources then fitted to the data together.

    Args:
        signal: Orthonormal; of the data, or of a covariance that something else has made.
        moments: The data.
        grid: Model and grid.
        polish: Refine by likelihood; otherwise powers and bounds are those at the nulls.
    """
    found = planar_music(signal, grid)
    if len(found.depth) == 0:
        return PlanarSources(None, found.resolved, signal.shape[1])
    point = np.stack([found.azimuth_rad, found.elevation_rad, found.inverse_range_per_m], axis=-1)
    return PlanarSources(_fitted(moments, grid, point, 15 if polish else 0), found.resolved, signal.shape[1])


def greedy_planar(moments: Moments, grid: PlanarSearch, n_sources: int) -> JointFit:
    """Fit ``n_sources`` to the whole covariance, no subspace in between.

    :func:`blocks.subspace.alternating_projection.sources_one_by_one` in azimuth, elevation and range. Coherent sources
    are no special case.

    Args:
        moments: Covariance or samples.
        grid: Model and grid.
        n_sources: 1 .. N - 1; fewer come out where two of them would coincide.

    Raises:
        EstimationError: The moments have no power.
    """
    *_, last = sources_one_by_one(moments, _InSpace(moments, grid), n_sources)
    return last


def planar_steering(model: Model, point: F64) -> C128:
    """``A [sensor, source]`` of azimuth, elevation and inverse range ``[source, 3]``."""
    az, el, k = point.T
    rows = steering_rows(model.position_m, az, el, k, model.wavelength_m, amplitude=model.amplitude, wanted=())
    steering: C128 = rows[:, 0].T
    return steering


def _fitted(moments: Moments, grid: PlanarSearch, point: F64, max_iterations: int, tolerance: float = 0.02) -> JointFit:
    free = free_coordinates(grid)
    return refine_jointly(
        moments, grid.model, point, search_box(grid), free, max_iterations=max_iterations, tolerance=tolerance
    )


class _InSpace(NamedTuple):
    """:class:`blocks.subspace.alternating_projection.Places`: azimuth, elevation, inverse range."""

    moments: Moments
    grid: PlanarSearch

    def projection(self, basis: C128) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self.grid.projection(basis)
        return values

    def highest(self, power: npt.NDArray[Any], n: int) -> list[F64]:
        return list(grid_points(self.grid, highest_maxima(power[None], n, wraps=False)[0]))

    def steering(self, places: F64) -> C128:
        return planar_steering(self.grid.model, places)

    def fitted(self, places: F64) -> JointFit | None:
        try:
            return _fitted(self.moments, self.grid, places, 8, tolerance=0.3)
        except EstimationError:
            return None

    def of(self, fit: JointFit) -> F64:
        return fit.point
