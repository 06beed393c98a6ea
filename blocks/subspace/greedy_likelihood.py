"""Maximum likelihood without a start: sources are added and moved one by one, each to where it explains most."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.alternating_projection import sources_one_by_one
from blocks.subspace.dictionary import Search
from blocks.subspace.maximum_likelihood import SourceFit, refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.separate_close import leaves_noise_alone
from blocks.subspace.spectrum import local_maxima
from blocks.subspace.steering_rows import steering_matrix
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


def greedy_likelihood(moments: Moments, dictionary: Search, n_sources: int) -> SourceFit:
    """Fit ``n_sources`` to the whole covariance, no subspace in between.

    :func:`blocks.subspace.alternating_projection.sources_one_by_one` on the dictionary's grid, refined by
    :func:`blocks.subspace.maximum_likelihood.refine_maximum_likelihood`. Coherent sources are no special case. It may
    still end in a local minimum, the more often the more sources there are.

    Args:
        moments: Covariance or samples.
        dictionary: Model and grid.
        n_sources: 1 .. N - 1; fewer come out where two of them would coincide.

    Raises:
        EstimationError: The moments have no power.
    """
    *_, last = sources_one_by_one(moments, _AzimuthsAndRanges(moments, dictionary), n_sources)
    return last


def explain_all(moments: Moments, dictionary: Search, max_sources: int) -> SourceFit:
    """The fewest sources that leave noise alone (:func:`blocks.subspace.separate_close.leaves_noise_alone`).

    Decides the number of sources where eigenvalues cannot: coherent sources have one. Each source has four unknowns, a
    single signal vector of N sensors 2 N - 1 figures: beyond (2 N - 1) / 4 coherent sources fewer explain it too.

    Args:
        moments: Covariance or samples.
        dictionary: Model and grid.
        max_sources: The most that are tried, 1 .. N - 2.

    Raises:
        EstimationError: The moments have no power.
    """
    for fit in sources_one_by_one(moments, _AzimuthsAndRanges(moments, dictionary), max_sources):
        if leaves_noise_alone(moments, steering_matrix(dictionary, fit.azimuth_rad, fit.inverse_range_per_m)):
            return fit
    return fit


class _AzimuthsAndRanges(NamedTuple):
    """:class:`blocks.subspace.alternating_projection.Places` of a dictionary: azimuth and inverse range."""

    moments: Moments
    dictionary: Search

    def projection(self, basis: C128) -> npt.NDArray[Any]:
        return self.dictionary.projection(basis)

    def highest(self, power: npt.NDArray[Any], n: int) -> list[F64]:
        return list(np.stack(self.dictionary.point(local_maxima(power, wraps=self.dictionary.grid.wraps)[:n]), axis=-1))

    def steering(self, places: F64) -> C128:
        return steering_matrix(self.dictionary, *places.T)

    def fitted(self, places: F64) -> SourceFit | None:
        try:
            return refine_maximum_likelihood(self.moments, self.dictionary, *places.T, tolerance=0.3)
        except EstimationError:
            return None

    def of(self, fit: SourceFit) -> F64:
        return np.stack([fit.azimuth_rad, fit.inverse_range_per_m], axis=-1)
