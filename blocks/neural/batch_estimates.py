"""Places from many frames at once by the networks alone, no likelihood fit: Monte Carlo, arrays in parallel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.neural.dcd_estimate import line_azimuths, ranges_along
from blocks.neural.fast_surrogate import FastSurrogate, lagged_covariances
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.near_field_batch import near_field_batch_from_subspace
from blocks.subspace.null_batch import BatchEstimate

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class DcdBatch(NamedTuple):
    """Azimuths ascending, inverse range along each, and MUSIC cost there: ``[batch, source]``."""

    azimuth_rad: F64
    inverse_range_per_m: F64
    depth: F64


def subspacenet_batch(
    network: FastSurrogate, samples: Complex, n_sources: int, dictionary: Dictionary
) -> BatchEstimate:
    """NF-SubspaceNet, [NF] Algorithm 1, off the grid.

    Args:
        network: Trained for the array of the samples.
        samples: ``[batch, sensor, snapshot]``.
        n_sources: The same in all frames.
        dictionary: Model and grid; the coarse one is the fastest.
    """
    return near_field_batch_from_subspace(_leading(network(samples), n_sources), dictionary)


def dcd_batch(
    angle: FastSurrogate,
    distance: FastSurrogate,
    samples: Complex,
    n_sources: int,
    dictionary: Dictionary,
    spacing_wavelengths: float,
) -> DcdBatch:
    """DCD-MUSIC, [NF] Algorithm 3, off the grid.

    Args:
        angle: The network that makes waves plane.
        distance: The one for ranges.
        samples: ``[batch, sensor, snapshot]``.
        n_sources: The same in all frames.
        dictionary: Model, and the nearest range.
        spacing_wavelengths: Of neighbouring elements.
    """
    angle.check(samples)
    correlation = lagged_covariances(samples, max(angle.n_lags, distance.n_lags))
    plane, spherical = (
        _leading(network.of_correlation(correlation, samples.shape[2], scaled=False), n_sources)
        for network in (angle, distance)
    )
    azimuth = line_azimuths(plane, spacing_wavelengths)
    return DcdBatch(azimuth, *ranges_along(spherical, azimuth, dictionary))


def _leading(covariance: C128, n_sources: int) -> C128:
    """Eigenvectors of the largest eigenvalues, ``[batch, sensor, source]``."""
    return np.ascontiguousarray(np.linalg.eigh(covariance)[1][..., : -n_sources - 1 : -1])
