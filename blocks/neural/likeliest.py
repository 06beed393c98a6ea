"""Estimates of several origins, and the one that the samples make the likeliest: no truth enters."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Search
from blocks.subspace.greedy_likelihood import greedy_likelihood
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import NearFieldEstimate, near_field_from_subspace
from blocks.subspace.refine_music import music_depth
from blocks.subspace.separate_close import leaves_noise_alone
from blocks.subspace.signal_subspace import signal_subspace, signal_subspace_from_samples
from blocks.subspace.steering_rows import steering_matrix
from hil.errors import EstimationError

C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


def explains(estimate: NearFieldEstimate, moments: Moments, dictionary: Search) -> bool:
    """As many sources as asked for, and what they leave of the samples is noise: nothing likelier is to be found.

    The largest eigenvalue of what is left is tested
    (:func:`blocks.subspace.separate_close.leaves_noise_alone`), so a source far below the noise is not missed.
    """
    if not 0 < estimate.n_requested == len(estimate.azimuth_rad):
        return False
    return leaves_noise_alone(moments, steering_matrix(dictionary, estimate.azimuth_rad, estimate.inverse_range_per_m))


def likeliest(
    moments: Moments, dictionary: Search, n_sources: int, estimates: Sequence[NearFieldEstimate]
) -> NearFieldEstimate:
    """The best of ``estimates``, of plain MUSIC on the samples and of greedy likelihood, each refined by likelihood.

    The likelihood has many local minima. A network starts it well where sources are coherent, MUSIC where they are
    not, and :func:`blocks.subspace.greedy_likelihood.greedy_likelihood` in either case where they are apart; of what
    they end in the one that leaves least power unexplained is taken, among those with the most sources. Where sources
    are not coherent the result is therefore no less likely than what MUSIC gives.

    A source of the result is resolved where the others alone leave more than noise.

    Args:
        moments: Covariance or samples.
        dictionary: Model and grid.
        n_sources: 1 .. N - 1.
        estimates: Refined already, ``polish=True`` of
            :func:`blocks.subspace.near_field_music.near_field_from_subspace`.
    """
    x = moments.matrix
    signal = signal_subspace_from_samples(x, n_sources) if moments.is_samples else signal_subspace(x, n_sources)
    tried = [*estimates, near_field_from_subspace(signal, moments, dictionary)]
    with contextlib.suppress(EstimationError):  # no further candidate then
        tried.append(_greedy(signal, moments, dictionary, n_sources))
    best = min(tried, key=lambda one: (-len(one.azimuth_rad), _unexplained(one, moments, dictionary)))
    steering = steering_matrix(dictionary, best.azimuth_rad, best.inverse_range_per_m)
    needed = [not leaves_noise_alone(moments, np.delete(steering, i, axis=1)) for i in range(steering.shape[1])]
    return replace(best, resolved=np.array(needed, dtype=bool))


def _greedy(signal: Complex, moments: Moments, dictionary: Search, n_sources: int) -> NearFieldEstimate:
    fit = greedy_likelihood(moments, dictionary, n_sources)
    az, k = fit.azimuth_rad, fit.inverse_range_per_m
    return NearFieldEstimate(
        azimuth_rad=az,
        inverse_range_per_m=k,
        depth=music_depth(signal.astype(np.complex128, copy=False), dictionary, az, k),
        resolved=np.ones(len(az), dtype=bool),
        n_requested=n_sources,
        fraunhofer_m=dictionary.fraunhofer_m,
        power=fit.power,
        noise_power=fit.noise_power,
        covariance=fit.covariance,
    )


def _unexplained(estimate: NearFieldEstimate, moments: Moments, dictionary: Search) -> float:
    if len(estimate.azimuth_rad) == 0:
        return np.inf
    at = estimate.azimuth_rad, estimate.inverse_range_per_m
    try:
        return refine_maximum_likelihood(moments, dictionary, *at, max_iterations=0).cost
    except EstimationError:
        return np.inf  # two sources on one spot: no fit
