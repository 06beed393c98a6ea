"""Signal subspace: the leading eigenvectors of a sample covariance, by the cheapest route that fits the sizes."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from scipy.linalg import lapack

from blocks.subspace.data_check import require_finite
from blocks.subspace.model_order import EigenvalueSummary
from hil.errors import EstimationError, ParamError

Array = Any  # NumPy or torch
Complex = npt.NDArray[np.complexfloating[Any, Any]]

_LAPACK = {
    np.dtype(np.complex64): (lapack.cheevr, lapack.cheevr_lwork, lapack.cpotrf),
    np.dtype(np.complex128): (lapack.zheevr, lapack.zheevr_lwork, lapack.zpotrf),
}


class Subspaces(NamedTuple):
    """Full split of ``[..., N, N]``: eigenvalues descending ``[..., N]``, ``[..., N, M]`` and ``[..., N, N - M]``."""

    eigenvalues: Array
    signal: Array
    noise: Array


class Leading(NamedTuple):
    """Leading eigenpairs ``[n]`` descending, ``[sensor, n]``, and what model order needs of the rest."""

    eigenvalues: Array
    vectors: Array
    summary: EigenvalueSummary


def split_subspaces(covariance: Array, n_sources: int) -> Subspaces:
    """Signal and noise subspace by a full eigendecomposition, [NF] Section II-C1. NumPy or torch, batched.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
        n_sources: ``M``, 0 .. N.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    if not 0 <= n_sources <= n:
        raise ParamError(f"split_subspaces: expected 0 <= n_sources <= {n} sensors, got {n_sources}")
    require_finite("split_subspaces", covariance, "the covariances")
    eigenvalues, vectors = xp.linalg.eigh(covariance)
    vectors = xp.flip(vectors, axis=-1)
    return Subspaces(xp.flip(eigenvalues, axis=-1), vectors[..., :n_sources], vectors[..., n_sources:])


def signal_subspace(covariance: Complex, n_sources: int) -> Complex:
    """The ``n_sources`` leading eigenvectors ``[sensor, source]`` of one covariance, largest first; NumPy.

    By LAPACK's ``heevr`` on a subset: half the time of the full decomposition at 64 sensors, a fifth at 256.

    Args:
        covariance: ``[sensor, sensor]`` Hermitian, complex64 or complex128.
        n_sources: 1 .. N.

    Raises:
        EstimationError: Not finite, no power, or LAPACK did not converge.
    """
    _check("signal_subspace", covariance, n_sources, "sensors")
    return _heevr(covariance, n_sources)[1]


def signal_subspace_from_samples(x: Complex, n_sources: int) -> Complex:
    """As :func:`signal_subspace` straight from samples ``[sensor, snapshot]``.

    With ``T < N`` through the ``T x T`` Gram matrix: if ``X^H X / T v = lambda v`` then ``X v / sqrt(T lambda)`` is an
    eigenvector of ``X X^H / T``.
    """
    n, t = x.shape
    if t >= n:
        return signal_subspace(x @ x.conj().T / t, n_sources)
    gram = x.conj().T @ x / t
    _check("signal_subspace_from_samples", gram, n_sources, "snapshots")
    return _from_gram(x, *_heevr(gram, n_sources))


def leading_eigenpairs(covariance: Complex, n_leading: int, n_snapshots: float) -> Leading:
    """The ``n_leading`` largest eigenpairs of one covariance, and what model order needs of the others.

    The log determinant comes from a Cholesky factor, so the others cost no eigenvalues. With fewer snapshots than
    sensors the covariance is singular and all are computed; :func:`leading_from_samples` is faster there.

    Args:
        covariance: ``[sensor, sensor]`` Hermitian, complex64 or complex128.
        n_leading: 1 .. N.
        n_snapshots: Snapshots in it, for the summary.

    Raises:
        EstimationError: Not finite, not positive definite though it has snapshots enough, or no convergence.
    """
    trace = _check("leading_eigenpairs", covariance, n_leading, "sensors")
    n = covariance.shape[-1]
    if n_snapshots < n:
        return _leading_of_spectrum(*_heevr(covariance, n), n_leading, n_snapshots)
    values, vectors = _heevr(covariance, n_leading)
    _, _, potrf = _LAPACK[covariance.dtype]
    factor, info = potrf(covariance, lower=True, clean=False)
    if info != 0:
        raise EstimationError(
            f"leading_eigenpairs: the covariance of {n_snapshots:g} snapshots and {n} sensors is not positive definite "
            f"(Cholesky stopped at {info}); noise-free or repeated snapshots"
        )
    log_determinant = 2 * np.log(np.diagonal(factor).real.astype(np.float64)).sum()
    return Leading(values, vectors, EigenvalueSummary(values, np.float64(trace), log_determinant, n, n_snapshots))


def leading_from_samples(x: Complex, n_leading: int) -> Leading:
    """As :func:`leading_eigenpairs` straight from samples ``[sensor, snapshot]``, ``n_leading`` to ``min(N, T)``."""
    n, t = x.shape
    if t >= n:
        return leading_eigenpairs(x @ x.conj().T / t, n_leading, t)
    gram = x.conj().T @ x / t
    _check("leading_from_samples", gram, n_leading, "snapshots")
    leading = leading_eigenpairs(gram, n_leading, n)
    return leading._replace(vectors=_from_gram(x, leading.eigenvalues, leading.vectors))


def _check(who: str, matrix: Complex, n_wanted: int, what: str) -> float:
    n = matrix.shape[-1]
    if not 1 <= n_wanted <= n:
        raise ParamError(f"{who}: expected 1 .. {n} eigenvectors of {n} {what}, got {n_wanted}")
    trace = float(np.trace(matrix).real)
    if not (np.isfinite(trace) and trace > 0):
        raise EstimationError(f"{who}: the data have power {trace}; expected a finite positive one")
    require_finite(who, matrix)  # LAPACK reads one triangle and makes numbers of what is none
    return trace


def _from_gram(x: Complex, eigenvalues: npt.NDArray[np.float64], vectors: Complex) -> Complex:
    if not eigenvalues[-1] > len(x) * np.finfo(x.dtype).eps * eigenvalues[0]:
        raise EstimationError(f"the samples have rank below {len(eigenvalues)}, the number of eigenvectors asked for")
    return (x @ vectors) / np.sqrt(x.shape[1] * eigenvalues).astype(x.real.dtype)


def _heevr(matrix: Complex, n_leading: int) -> tuple[npt.NDArray[np.float64], Complex]:
    n = matrix.shape[-1]
    heevr, heevr_lwork, _ = _LAPACK[matrix.dtype]
    work = {}
    if n > 64:  # below, the default workspace is as fast and the query costs more than it saves
        lwork, lrwork, liwork, _ = heevr_lwork(n, lower=True)
        work = {"lwork": int(lwork.real), "lrwork": int(lrwork), "liwork": int(liwork)}
    values, vectors, found, _, info = heevr(matrix, range="I", il=n - n_leading + 1, iu=n, lower=True, **work)
    if info != 0 or found != n_leading:
        raise EstimationError(f"LAPACK heevr gave info {info} and {found} of {n_leading} eigenpairs")
    return values[:n_leading][::-1].astype(np.float64), vectors[:, ::-1]


def _leading_of_spectrum(
    values: npt.NDArray[np.float64], vectors: Complex, n_leading: int, n_snapshots: float
) -> Leading:
    p = min(len(values), int(n_snapshots))
    kept = np.maximum(values[:p], np.finfo(vectors.real.dtype).eps * values[0])
    summary = EigenvalueSummary(kept, kept.sum(), np.log(kept).sum(), p, float(max(len(values), n_snapshots)))
    return Leading(values[:n_leading], vectors[:, :n_leading], summary)
