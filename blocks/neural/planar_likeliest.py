"""As :mod:`blocks.neural.likeliest`, of planar arrays: several origins, and the one that the samples make likeliest."""

import contextlib
from collections.abc import Sequence

import numpy as np

from blocks.subspace.moments import Moments
from blocks.subspace.planar_grid import PlanarSearch
from blocks.subspace.planar_likelihood import PlanarSources, greedy_planar, planar_from_subspace, planar_steering
from blocks.subspace.separate_close import leaves_noise_alone
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from hil.errors import EstimationError


def settled_in_space(found: PlanarSources, moments: Moments, grid: PlanarSearch) -> PlanarSources:
    """``found`` itself where it leaves noise alone, else :func:`likeliest_in_space`."""
    if explains_in_space(found, moments, grid):
        return found
    return likeliest_in_space(moments, grid, found.n_requested, [found])


def explains_in_space(found: PlanarSources, moments: Moments, grid: PlanarSearch) -> bool:
    """As many sources as asked for, and what they leave of the samples is noise: nothing likelier is to be found."""
    if found.fit is None or len(found.fit.point) < found.n_requested:
        return False
    return leaves_noise_alone(moments, planar_steering(grid.model, found.fit.point))


def likeliest_in_space(
    moments: Moments, grid: PlanarSearch, n_sources: int, found: Sequence[PlanarSources]
) -> PlanarSources:
    """The best of ``found``, of plain MUSIC on the samples and of greedy likelihood, each refined by likelihood.

    The one with the most sources, and of these the one that leaves least power unexplained; no truth enters. A source
    of the result is resolved where the others alone leave more than noise.

    Args:
        moments: Of samples.
        grid: Model and grid.
        n_sources: 1 .. N - 1.
        found: Refined already.
    """
    signal = signal_subspace_from_samples(moments.matrix, n_sources)
    fits = [one.fit for one in (*found, planar_from_subspace(signal, moments, grid)) if one.fit is not None]
    with contextlib.suppress(EstimationError):  # no further candidate then
        fits.append(greedy_planar(moments, grid, n_sources))
    if not fits:
        return PlanarSources(None, np.zeros(0, dtype=bool), n_sources)
    best = min(fits, key=lambda fit: (-len(fit.point), fit.cost))
    steering = planar_steering(grid.model, best.point)
    needed = [not leaves_noise_alone(moments, np.delete(steering, i, axis=1)) for i in range(len(best.point))]
    return PlanarSources(best, np.array(needed, dtype=bool), n_sources)
