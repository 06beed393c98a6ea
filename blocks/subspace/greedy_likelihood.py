"""Maximum likelihood without a start: sources are added and moved one by one, each to where it explains most."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Search
from blocks.subspace.maximum_likelihood import SourceFit, refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.separate_close import leaves_noise_alone
from blocks.subspace.spectrum import local_maxima
from blocks.subspace.steering_rows import steering_matrix
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

#: Places that each source is tried at.
N_STARTS = 4
#: How often each source may be taken out and put where it explains most, given the others.
N_PASSES = 3


def greedy_likelihood(moments: Moments, dictionary: Search, n_sources: int) -> SourceFit:
    r"""Fit ``n_sources`` to the whole covariance, no subspace in between.

    Alternating projection, Ziskind and Wax 1988 Eqs. (20)-(23), on the dictionary's grid: the next source is where

    .. math:: \frac{a^H P_A^\perp \hat R P_A^\perp a}{\|P_A^\perp a\|^2}

    is largest; unlike theirs, all sources found so far are then refined together
    (:func:`blocks.subspace.maximum_likelihood.refine_maximum_likelihood`). Where they leave more than noise, each is
    taken out in turn and put where it explains most. Coherent sources are no special case. It may still end in a local
    minimum, the more often the more sources there are.

    Args:
        moments: Covariance or samples.
        dictionary: Model and grid.
        n_sources: 1 .. N - 1; fewer come out where two of them would coincide.

    Raises:
        EstimationError: The moments have no power.
    """
    *_, last = _growing(moments, dictionary, n_sources)
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
    for fit in _growing(moments, dictionary, max_sources):
        if leaves_noise_alone(moments, steering_matrix(dictionary, fit.azimuth_rad, fit.inverse_range_per_m)):
            return fit
    return fit


def _growing(moments: Moments, dictionary: Search, n_sources: int) -> Iterator[SourceFit]:
    """One source, two, and so on."""
    if not 1 <= n_sources < moments.n_sensors:
        raise ParamError(f"greedy likelihood: expected 1 <= n_sources < {moments.n_sensors} sensors, got {n_sources}")
    root = _root(moments)
    fit = _with_one(moments, root, dictionary, None)
    if fit is None:
        raise EstimationError("greedy likelihood: no source fits the data")
    yield fit
    for _ in range(n_sources - 1):
        more = _with_one(moments, root, dictionary, fit)
        if more is None:
            return
        fit = _rearranged(moments, root, dictionary, more)
        yield fit


def _rearranged(moments: Moments, root: C128, dictionary: Search, fit: SourceFit) -> SourceFit:
    for _ in range(N_PASSES):
        before = fit.cost
        for i in range(len(fit.azimuth_rad)):
            if leaves_noise_alone(moments, steering_matrix(dictionary, fit.azimuth_rad, fit.inverse_range_per_m)):
                return fit
            others = fit._replace(
                azimuth_rad=np.delete(fit.azimuth_rad, i), inverse_range_per_m=np.delete(fit.inverse_range_per_m, i)
            )
            moved = _with_one(moments, root, dictionary, others)
            if moved is not None and moved.cost < fit.cost:
                fit = moved
        if fit.cost > 0.999 * before:
            break
    return fit


def _with_one(moments: Moments, root: C128, dictionary: Search, fit: SourceFit | None) -> SourceFit | None:
    """One source more, where it explains most; None where it would coincide with another."""
    starts = _starts(root, dictionary, fit)
    tried = [one for az, k in starts if (one := _with(moments, dictionary, fit, az, k)) is not None]
    return min(tried, key=lambda one: one.cost) if tried else None


def _root(moments: Moments) -> C128:
    """``B [sensor, dimension]`` with ``B B^H = R``."""
    x = moments.matrix
    covariance = x @ x.conj().T / moments.n_snapshots if moments.is_samples else x
    values, vectors = np.linalg.eigh(covariance)
    root: C128 = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _starts(root: C128, dictionary: Search, fit: SourceFit | None) -> list[tuple[float, float]]:
    if fit is None:
        power = dictionary.projection(root)
    else:
        q, _ = np.linalg.qr(steering_matrix(dictionary, fit.azimuth_rad, fit.inverse_range_per_m))
        left = dictionary.projection(root - q @ (q.conj().T @ root))
        # next to a known source both vanish: no other is looked for where less than 1 % of a is left
        share = 1 - dictionary.projection(q)
        power = np.where(share < 0.01, 0, left / np.maximum(share, 0.01)).astype(np.float32)
    best = local_maxima(power, wraps=dictionary.grid.wraps)[:N_STARTS]
    azimuth, k = dictionary.point(best)
    return list(zip(azimuth.tolist(), k.tolist(), strict=True))


def _with(
    moments: Moments, dictionary: Search, fit: SourceFit | None, azimuth_rad: float, inverse_range_per_m: float
) -> SourceFit | None:
    az, k = np.array([azimuth_rad]), np.array([inverse_range_per_m])
    if fit is not None:
        az, k = np.append(fit.azimuth_rad, az), np.append(fit.inverse_range_per_m, k)
    try:
        return refine_maximum_likelihood(moments, dictionary, az, k, tolerance=0.3)
    except EstimationError:
        return None  # two sources have run into one: from this start there is no further source
