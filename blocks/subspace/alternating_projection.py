"""Sources one after the other, each where it explains most of the data, for any search and any likelihood fit."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from blocks.subspace.moments import Moments
from blocks.subspace.separate_close import leaves_noise_alone
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

#: Places that each source is tried at.
N_STARTS = 4
#: How often each source may be taken out and put where it explains most, given the others.
N_PASSES = 3


class _Fit(Protocol):
    @property
    def cost(self) -> float: ...


Fit = TypeVar("Fit", bound=_Fit)


class Places(Protocol[Fit]):
    """A grid to look for a source on, and a fit of several sources; a place is a row of coordinates."""

    def projection(self, basis: C128) -> npt.NDArray[Any]:
        """``|B^H a|^2 / |a|^2`` on the grid, any number of axes, of ``B [sensor, any]``."""

    def highest(self, power: npt.NDArray[Any], n: int) -> Sequence[F64]:
        """Places of the ``n`` highest local maxima of such a grid."""

    def steering(self, places: F64) -> C128:
        """``[sensor, source]`` of ``[source, coordinate]``."""

    def fitted(self, places: F64) -> Fit | None:
        """Sources refined together from there; None where two of them have run into one."""

    def of(self, fit: Fit) -> F64:
        """Its places ``[source, coordinate]``."""


def sources_one_by_one(moments: Moments, places: Places[Fit], n_sources: int) -> Iterator[Fit]:
    r"""Fits of one source, of two, and so on to ``n_sources`` or until a further one would coincide with another.

    Alternating projection, Ziskind and Wax 1988 Eqs. (20)-(23): the next source is where

    .. math:: \frac{a^H P_A^\perp \hat R P_A^\perp a}{\|P_A^\perp a\|^2}

    is largest; unlike theirs, all sources found so far are then refined together. Where they leave more than noise,
    each is taken out in turn and put where it explains most.

    Args:
        moments: Covariance or samples.
        places: Where to look, and the fit.
        n_sources: 1 .. N - 1.

    Raises:
        EstimationError: No source fits the data.
    """
    if not 1 <= n_sources < moments.n_sensors:
        raise ParamError(f"greedy likelihood: expected 1 <= n_sources < {moments.n_sensors} sensors, got {n_sources}")
    root = _root(moments)
    fit = _with_one(root, places, None)
    if fit is None:
        raise EstimationError("greedy likelihood: no source fits the data")
    yield fit
    for _ in range(n_sources - 1):
        more = _with_one(root, places, places.of(fit))
        if more is None:
            return
        fit = _rearranged(moments, root, places, more)
        yield fit


def _rearranged(moments: Moments, root: C128, places: Places[Fit], fit: Fit) -> Fit:
    for _ in range(N_PASSES):
        before = fit.cost
        for i in range(len(places.of(fit))):
            if leaves_noise_alone(moments, places.steering(places.of(fit))):
                return fit
            moved = _with_one(root, places, np.delete(places.of(fit), i, axis=0))
            if moved is not None and moved.cost < fit.cost:
                fit = moved
        if fit.cost > 0.999 * before:
            break
    return fit


def _with_one(root: C128, places: Places[Fit], known: F64 | None) -> Fit | None:
    """One source more, where it explains most; None where it would coincide with another."""
    tried = []
    for start in _starts(root, places, known):
        one = places.fitted(start[None] if known is None else np.concatenate([known, start[None]]))
        tried += [one] if one is not None else []
    return min(tried, key=lambda one: one.cost) if tried else None


def _root(moments: Moments) -> C128:
    """``B [sensor, dimension]`` with ``B B^H = R``."""
    x = moments.matrix
    covariance = x @ x.conj().T / moments.n_snapshots if moments.is_samples else x
    values, vectors = np.linalg.eigh(covariance)
    root: C128 = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _starts(root: C128, places: Places[Fit], known: F64 | None) -> Sequence[F64]:
    if known is None:
        return places.highest(places.projection(root), N_STARTS)
    q, _ = np.linalg.qr(places.steering(known))
    left = places.projection(root - q @ (q.conj().T @ root))
    # next to a known source both vanish: no other is looked for where less than 1 % of a is left
    share = 1 - places.projection(q)
    return places.highest(np.where(share < 0.01, 0, left / np.maximum(share, 0.01)).astype(np.float32), N_STARTS)
