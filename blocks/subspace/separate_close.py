"""Sources too close for nulls of their own: found by maximum likelihood, kept where they are told apart for sure."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from blocks.subspace.dictionary import Search
from blocks.subspace.maximum_likelihood import SourceFit, refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.refine_music import music_depth
from blocks.subspace.search_nulls import RESOLVED_DEPTH, remaining_projection
from blocks.subspace.spectrum import local_maxima
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]

SEPARATION_SIGMA = 4.0  # a split of one source by noise reaches two to three
TRACY_WIDOM = 2.0  # noise is above it about once in 10,000 times
N_STARTS = 2
MAX_ITERATIONS = 15


def separate_close(
    signal: npt.NDArray[np.complex128], moments: Moments, dictionary: Search, fit: SourceFit, n_sources: int
) -> SourceFit:
    """Add sources to ``fit`` until there are ``n_sources``, or none is left that can be told from the others.

    Each starts where the signal subspace, with the present sources projected out (RAP-MUSIC), is largest on the
    grid; all are then fitted together. Two wavefronts closer than the beam have one null in the MUSIC cost, yet the
    likelihood separates them down to the Cramer-Rao bound. Signal directions whose power noise alone can have are not
    searched for.

    Args:
        signal: ``[sensor, n_sources]`` orthonormal.
        moments: Covariance or samples.
        dictionary: Model and grid.
        fit: The sources that have nulls; at least one.
        n_sources: How many there should be.
    """
    n_sources = min(n_sources, n_above_noise(signal, moments))
    while len(fit.azimuth_rad) < n_sources:
        remaining = remaining_projection(signal, dictionary, fit.azimuth_rad, fit.inverse_range_per_m)
        starts = local_maxima(remaining, wraps=dictionary.grid.wraps)[:N_STARTS]
        points = zip(*dictionary.point(starts), strict=True)
        tried = [_with_source(moments, dictionary, fit, float(az), float(k)) for az, k in points]
        kept = [one for one in tried if one is not None and _tells_apart(signal, dictionary, one)]
        if not kept:
            return fit
        fit = min(kept, key=lambda one: one.cost)
    return fit


def n_above_noise(signal: npt.NDArray[np.complex128], moments: Moments) -> int:
    """How many leading eigenvalues are larger than white noise alone gives.

    They are tested one by one, each against the mean of those that are left (Kritchman and Nadler 2009).

    Args:
        signal: Leading eigenvectors, largest first, ``[sensor, source]``.
        moments: Covariance or samples that they are of.
    """
    eigenvalues = (signal.conj() * moments.times(signal)).sum(axis=0).real
    left = moments.trace
    for i, value in enumerate(eigenvalues.tolist()):
        dimension = moments.n_sensors - i
        if value <= largest_of_noise(dimension, moments.n_snapshots) * left / dimension:
            return i
        left -= value
    return len(eigenvalues)


def largest_of_noise(dimension: int, n_snapshots: float) -> float:
    r"""What the largest eigenvalue of unit white noise is below, but for once in some 10,000 times.

    Of ``p`` dimensions and ``T`` snapshots it is :math:`(\mu + q s) / T` with :math:`\mu = (\sqrt{p} + \sqrt{T})^2`,
    :math:`s = (\sqrt{p} + \sqrt{T}) (p^{-1/2} + T^{-1/2})^{1/3}` and ``q`` of the Tracy-Widom law of complex data
    (Johansson 2000).
    """
    root_p, root_t = np.sqrt(dimension), np.sqrt(n_snapshots)
    spread = (root_p + root_t) * (1 / root_p + 1 / root_t) ** (1 / 3)
    return float(((root_p + root_t) ** 2 + TRACY_WIDOM * spread) / n_snapshots)


def leaves_noise_alone(moments: Moments, steering: npt.NDArray[np.complex128]) -> bool:
    """Whether what sources ``[sensor, source]`` do not explain is white noise, by its largest eigenvalue.

    False: a source is missing, one is not where it was said to be, or the wavefront or the calibration is another.
    """
    q, _ = np.linalg.qr(steering)
    if moments.is_samples:
        left = moments.matrix - q @ (q.conj().T @ moments.matrix)
        gram = left @ left.conj().T if left.shape[0] <= left.shape[1] else left.conj().T @ left
        matrix = gram / moments.n_snapshots
    else:
        half = moments.matrix - q @ (q.conj().T @ moments.matrix)
        matrix = half - (half @ q) @ q.conj().T
    last = len(matrix) - 1
    (largest,) = eigh(matrix, eigvals_only=True, subset_by_index=(last, last), check_finite=False)
    dimension = moments.n_sensors - steering.shape[1]
    mean = float(np.trace(matrix).real) / dimension
    return bool(largest <= largest_of_noise(dimension, moments.n_snapshots) * mean)


def separation(azimuth_rad: F64, inverse_range_per_m: F64, covariance: F64, *, full_circle: bool = False) -> F64:
    """Distance of each pair of sources in standard deviations of their difference, ``[source, source]``.

    Args:
        azimuth_rad: ``[source]``.
        inverse_range_per_m: ``[source]``.
        covariance: Of the two, ``[source, 2, 2]``; a zero variance is a parameter that was known.
        full_circle: Azimuths are on a circle.
    """
    d_az = azimuth_rad[:, None] - azimuth_rad
    if full_circle:
        d_az = (d_az + np.pi) % (2 * np.pi) - np.pi
    difference = np.stack([d_az, inverse_range_per_m[:, None] - inverse_range_per_m], axis=-1)
    both = covariance[:, None] + covariance[None, :]
    unknown = both[..., 1, 1] > 0
    determinant = np.where(unknown, both[..., 0, 0] * both[..., 1, 1] - both[..., 0, 1] ** 2, 1.0)
    x, y = difference[..., 0], difference[..., 1]
    joint = (both[..., 1, 1] * x**2 - 2 * both[..., 0, 1] * x * y + both[..., 0, 0] * y**2) / determinant
    return np.sqrt(np.where(unknown, joint, x**2 / both[..., 0, 0]))


def _with_source(
    moments: Moments, dictionary: Search, fit: SourceFit, azimuth_rad: float, inverse_range_per_m: float
) -> SourceFit | None:
    azimuth = np.append(fit.azimuth_rad, azimuth_rad)
    inverse_range = np.append(fit.inverse_range_per_m, inverse_range_per_m)
    try:
        return refine_maximum_likelihood(moments, dictionary, azimuth, inverse_range, max_iterations=MAX_ITERATIONS)
    except EstimationError:
        return None  # the descent ran two sources into one: from this start there is no further source


def _tells_apart(signal: npt.NDArray[np.complex128], dictionary: Search, fit: SourceFit) -> bool:
    """All sources lie in the signal subspace, inside the search, and are distinct beyond doubt."""
    low, high = dictionary.grid.inverse_range_limits_per_m
    if low < high and (fit.inverse_range_per_m >= high).any():
        return False
    if (music_depth(signal, dictionary, fit.azimuth_rad, fit.inverse_range_per_m) > RESOLVED_DEPTH).any():
        return False
    apart = separation(
        fit.azimuth_rad, fit.inverse_range_per_m, fit.covariance, full_circle=dictionary.grid.wraps
    ) + np.diag(np.full(len(fit.azimuth_rad), np.inf))
    return bool((apart > SEPARATION_SIGMA).all())
