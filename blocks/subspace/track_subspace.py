"""Signal subspace that follows a stream: block power steps from the last frame's, and PAST snapshot by snapshot."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import at_least, namespace
from blocks.subspace.signal_subspace import signal_subspace, signal_subspace_from_samples
from hil.errors import EstimationError, ParamError

Array = Any  # NumPy or torch
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class Ritz(NamedTuple):
    """Approximate leading eigenpairs.

    Attributes:
        eigenvalues: Descending ``[..., n]``.
        vectors: Orthonormal ``[..., sensor, n]``.
        residual: :math:`\\|R v - \\lambda v\\| / \\lambda` of each, ``[..., n]``: with ``lambda`` over the gap to the
            next eigenvalue not in the block, a bound of the vector's angle to the true one.
    """

    eigenvalues: Array
    vectors: Array
    residual: Array


def block_power_step(data: Array, previous: Array, *, samples: bool = True, n_steps: int = 1) -> Ritz:
    r"""Orthogonal iteration with a Rayleigh-Ritz step from a known subspace; ``N T n`` operations, no covariance.

    Each step takes the angle down by :math:`\lambda_{n+1} / \lambda_n`, so it applies where the last frame's subspace
    is near, and a few columns beyond the sources (guards) are carried so that this ratio is that of noise eigenvalues
    over the weakest source. It does not see a source that is orthogonal to the whole block: noise, in practice, leads
    it there within a few frames. NumPy or torch, batched.

    Args:
        data: Samples ``[..., sensor, snapshot]``, or covariances ``[..., sensor, sensor]``.
        previous: ``[..., sensor, n]`` of full rank, in the dtype of ``data``.
        samples: Which of the two ``data`` is.
        n_steps: Steps.
    """
    if previous.shape[-2] != data.shape[-2]:
        raise ParamError(f"block_power_step: data of {data.shape[-2]} sensors, subspace of {previous.shape[-2]}")
    xp = namespace(data)
    adjoint = _adjoint(xp, data) if samples else data
    seen = _times(data, adjoint, previous, samples)
    if not bool(xp.isfinite(xp.sum(seen))):
        raise EstimationError("block_power_step: the data are not finite")
    for _ in range(n_steps):
        q, _ = xp.linalg.qr(seen)
        seen = _times(data, adjoint, q, samples)
    small = _adjoint(xp, q) @ seen
    values, rotation = xp.linalg.eigh(0.5 * (small + _adjoint(xp, small)))
    values, rotation = xp.flip(values, axis=-1), xp.flip(rotation, axis=-1)
    if not bool(xp.all(values[..., 0] > 0)):
        raise EstimationError(
            f"block_power_step: the data have leading power {float(xp.min(values[..., 0]))}; expected a positive one"
        )
    vectors = q @ rotation
    off = seen @ rotation - vectors * values[..., None, :]
    size = xp.sqrt(xp.sum(xp.real(off) ** 2 + xp.imag(off) ** 2, axis=-2))
    return Ritz(values, vectors, size / at_least(values, float(xp.finfo(values.dtype).tiny)))


def _times(data: Array, adjoint: Array, v: Array, samples: bool) -> Array:
    return data @ (adjoint @ v) / data.shape[-1] if samples else data @ v


def _adjoint(xp: Any, x: Array) -> Array:
    return xp.conj(xp.matrix_transpose(x))


def past_update(vectors: Array, inverse: Array, snapshot: Array, forgetting: float) -> tuple[Array, Array]:
    r"""One snapshot of PAST (projection approximation subspace tracking, Yang 1995, Table I), ``N n`` operations.

    It applies where every snapshot must count at once and a frame's worth is no unit; a frame of ``T`` snapshots is
    followed faster and nearer by :func:`block_power_step`. ``vectors`` span the subspace and become orthonormal in the
    limit only: orthonormalize before MUSIC. NumPy or torch, batched.

    Args:
        vectors: ``W``, ``[..., sensor, n]``.
        inverse: ``P``, the inverse covariance of ``W^H x``, ``[..., n, n]``.
        snapshot: ``[..., sensor]``.
        forgetting: ``beta`` in (0, 1]; memory of ``1 / (1 - beta)`` snapshots.

    Returns:
        New ``vectors`` and ``inverse``.
    """
    if not 0 < forgetting <= 1:
        raise ParamError(f"past_update: expected 0 < forgetting <= 1, got {forgetting}")
    xp = namespace(vectors)
    x = snapshot[..., None]
    y = _adjoint(xp, vectors) @ x
    h = inverse @ y
    gain = h / (forgetting + xp.real(_adjoint(xp, y) @ h))
    shrunk = (inverse - gain @ _adjoint(xp, h)) / forgetting
    error = x - vectors @ y
    return vectors + error @ _adjoint(xp, gain), 0.5 * (shrunk + _adjoint(xp, shrunk))


class SubspaceTracker:
    """Leading subspace of frame after frame: warm where that is enough, from scratch where it is not.

    The Ritz residuals decide: while those of the sources stay below ``tolerance`` times their gap to the guards, one
    step is the answer; else steps are added up to ``max_steps``, then everything is computed anew. A check by
    measurement, not by assumption: a jump, a new source and a first frame all show as residuals.

    Args:
        n_sources: Columns wanted.
        n_guards: Columns carried beyond them.
        tolerance: Largest angle error, relative to 1 rad, by the residual bound.
        max_steps: Most steps before starting anew.

    ``n_warm`` and ``n_cold`` count the two, ``was_warm`` tells which the last one was.
    """

    def __init__(self, n_sources: int, *, n_guards: int = 2, tolerance: float = 0.02, max_steps: int = 3) -> None:
        if n_sources < 1 or n_guards < 1 or not 0 < tolerance < 1 or max_steps < 1:
            raise ParamError(
                f"SubspaceTracker: expected n_sources, n_guards, max_steps >= 1 and 0 < tolerance < 1, got "
                f"{n_sources}, {n_guards}, {max_steps} and {tolerance}"
            )
        self.n_sources, self.n_guards = n_sources, n_guards
        self.tolerance, self.max_steps = tolerance, max_steps
        self.n_warm = 0
        self.n_cold = 0
        self.was_warm = False
        self._block: Complex | None = None

    def forget(self) -> None:
        """Start anew with the next frame: after a retune, for example."""
        self._block = None

    def update(self, data: Complex, *, samples: bool = True) -> Complex:
        """Signal subspace ``[sensor, source]`` of samples ``[sensor, snapshot]`` or of a covariance."""
        n_block = min(self.n_sources + self.n_guards, *data.shape)
        if n_block <= self.n_sources:
            raise EstimationError(
                f"SubspaceTracker: {self.n_sources} sources of data {list(data.shape)}; expected more sensors and "
                "snapshots than sources"
            )
        if self._block is not None and self._block.shape == (data.shape[0], n_block):
            vectors = self._block.astype(data.dtype, copy=False)
            for _ in range(self.max_steps):
                ritz = block_power_step(data, vectors, samples=samples)
                vectors = ritz.vectors
                values = ritz.eigenvalues
                gap = values[: self.n_sources] - values[self.n_sources]
                error = ritz.residual[: self.n_sources] * values[: self.n_sources]
                if (error <= self.tolerance * gap).all():
                    self._block = vectors
                    self.n_warm += 1
                    self.was_warm = True
                    return vectors[:, : self.n_sources]
        self._block = None
        vectors = signal_subspace_from_samples(data, n_block) if samples else signal_subspace(data, n_block)
        self._block = vectors
        self.n_cold += 1
        self.was_warm = False
        return vectors[:, : self.n_sources]
