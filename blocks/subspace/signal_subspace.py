"""Signal subspace: the leading eigenvectors of a sample covariance, by the cheapest route that fits the sizes."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from scipy.linalg import lapack

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
    eigenvalues, vectors = xp.linalg.eigh(covariance)
    vectors = xp.flip(vectors, axis=-1)
    return Subspaces(xp.flip(eigenvalues, axis=-1), vectors[..., :n_sources], vectors[..., n_sources:])


def leading_eigenpairs(covariance: Complex, n_leading: int, n_snapshots: float) -> Leading:
    """The ``n_leading`` largest eigenpairs of one covariance by LAPACK's ``heevr`` on a subset; NumPy.

    About half the time of the full decomposition at 64 sensors and a fifth at 256. The log determinant comes from a
    Cholesky factor, so model order costs no further eigenvalues. With fewer snapshots than sensors the covariance
    is singular and the full spectrum is taken instead; :func:`leading_from_samples` is faster there.

    Args:
        covariance: ``[sensor, sensor]`` Hermitian, complex64 or complex128.
        n_leading: 1 .. N.
        n_snapshots: Snapshots in it, for the summary.

    Raises:
        EstimationError: Not finite, not Hermitian positive, or LAPACK did not converge.
    """
    n = covariance.shape[-1]
    if not 1 <= n_leading <= n:
        raise ParamError(f"leading_eigenpairs: expected 1 <= n_leading <= {n} sensors, got {n_leading}")
    trace = float(np.trace(covariance).real)
    if not (np.isfinite(trace) and trace > 0):
        raise EstimationError(f"leading_eigenpairs: the covariance has trace {trace}; expected a finite positive one")
    if n_snapshots < n:
        values, vectors = _heevr(covariance, n, n)
        return _leading_of_spectrum(values, vectors, n_leading, n, n_snapshots)
    values, vectors = _heevr(covariance, n_leading, n)
    _, _, potrf = _LAPACK[covariance.dtype]
    factor, info = potrf(covariance, lower=True, clean=False)
    if info != 0:
        raise EstimationError(
            f"leading_eigenpairs: the covariance of {n_snapshots:g} snapshots and {n} sensors is not positive definite "
            f"(Cholesky stopped at {info}); noise-free or repeated snapshots"
        )
    log_determinant = 2 * float(np.log(np.diagonal(factor).real).sum())
    return Leading(
        values, vectors, EigenvalueSummary(values, np.float64(trace), np.float64(log_determinant), n, n_snapshots)
    )


def leading_from_samples(x: Complex, n_leading: int) -> Leading:
    """As :func:`leading_eigenpairs` straight from samples: with ``T < N`` through the ``T x T`` Gram matrix.

    If ``X^H X / T v = lambda v`` then ``u = X v / sqrt(T lambda)`` is an eigenvector of ``X X^H / T``.

    Args:
        x: ``[sensor, snapshot]`` complex64 or complex128.
        n_leading: 1 .. min(N, T).
    """
    n, t = x.shape
    if t >= n:
        return leading_eigenpairs(x @ x.conj().T / t, n_leading, t)
    if not 1 <= n_leading <= t:
        raise ParamError(f"leading_from_samples: expected 1 <= n_leading <= {t} snapshots, got {n_leading}")
    gram = x.conj().T @ x / t
    trace = float(np.trace(gram).real)
    if not (np.isfinite(trace) and trace > 0):
        raise EstimationError(f"leading_from_samples: the samples have power {trace}; expected a finite positive one")
    leading = leading_eigenpairs(gram, n_leading, n)
    scale = np.sqrt(t * leading.eigenvalues)
    if not (scale > 0).all():
        raise EstimationError(f"leading_from_samples: the samples have rank below {n_leading}; ask for fewer")
    return leading._replace(vectors=(x @ leading.vectors) / scale.astype(x.real.dtype))


def _heevr(matrix: Complex, n_leading: int, n: int) -> tuple[npt.NDArray[Any], Complex]:
    heevr, heevr_lwork, _ = _LAPACK[matrix.dtype]
    work = {}
    if n > 64:  # below, the default workspace is as fast and the query costs more than it saves
        lwork, lrwork, liwork, _ = heevr_lwork(n, lower=True)
        work = {"lwork": int(lwork.real), "lrwork": int(lrwork), "liwork": int(liwork)}
    values, vectors, found, _, info = heevr(matrix, range="I", il=n - n_leading + 1, iu=n, lower=True, **work)
    if info != 0 or found != n_leading:
        raise EstimationError(
            f"leading_eigenpairs: LAPACK heevr gave info {info} and {found} of {n_leading} eigenpairs"
        )
    return values[:n_leading][::-1].astype(np.float64), vectors[:, ::-1]


def _leading_of_spectrum(
    values: npt.NDArray[Any], vectors: Complex, n_leading: int, n: int, n_snapshots: float
) -> Leading:
    p = min(n, int(n_snapshots))
    kept = np.maximum(values[:p], np.finfo(vectors.real.dtype).eps * values[0])
    summary = EigenvalueSummary(kept, kept.sum(), np.log(kept).sum(), p, float(max(n, n_snapshots)))
    return Leading(values[:n_leading], vectors[:, :n_leading], summary)
