"""How many sources: MDL and AIC on the eigenvalues of a sample covariance, a plain threshold, a share of energy."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from msgspec import Meta

from hil.block import Block, Result
from hil.errors import EstimationError, ParamError
from hil.params import Params
from hil.port import Port
from hil.streams import COVARIANCE, port_of

Array = Any  # NumPy or torch
Criterion = Literal["mdl", "aic"]


class EigenvalueSummary(NamedTuple):
    """All that the criteria need: the largest eigenvalues, and sum and log-sum of all of them.

    Attributes:
        leading: The ``n_leading`` largest eigenvalues, descending, ``[..., n_leading]``.
        total: Sum of all ``dimension`` eigenvalues (the trace), ``[...]``.
        log_total: Sum of the logarithms of all (the log determinant), ``[...]``.
        dimension: ``p``, number of eigenvalues that are not zero by construction.
        n_snapshots: ``n``, at least ``p``.
    """

    leading: Array
    total: Array
    log_total: Array
    dimension: int
    n_snapshots: float


def eigenvalue_summary(eigenvalues: Array, n_snapshots: float) -> EigenvalueSummary:
    """Summary of a full spectrum.

    Fewer snapshots than sensors leave ``N - T`` eigenvalues zero. The rest are those of the ``T x T`` Gram matrix,
    which is a covariance of dimension ``T`` seen ``N`` times: the criteria then run with the two exchanged.

    Args:
        eigenvalues: Of the ``[N, N]`` sample covariance, any order, ``[..., N]`` real.
        n_snapshots: ``T`` (effective number where snapshots are weighted).
    """
    xp = array_namespace(eigenvalues)
    n = eigenvalues.shape[-1]
    p = min(n, int(n_snapshots))
    descending = xp.flip(xp.sort(eigenvalues, axis=-1), axis=-1)[..., :p]
    if not bool(xp.all(descending > 0)):
        raise EstimationError(
            f"model order: expected {p} positive eigenvalues of {n} sensors and {n_snapshots:g} snapshots, "
            f"the smallest is {float(xp.min(descending)):.3g}; noise-free or singular data have no model order"
        )
    # the nonzero eigenvalues of X X^H / T and of X^H X / N differ by a factor, to which the criteria are blind
    return EigenvalueSummary(
        leading=descending,
        total=xp.sum(descending, axis=-1),
        log_total=xp.sum(xp.log(descending), axis=-1),
        dimension=p,
        n_snapshots=max(float(n), float(n_snapshots)),
    )


def criterion_values(summary: EigenvalueSummary, criterion: Criterion = "mdl") -> Array:
    r"""Value of the criterion for each number of sources, ``[..., order]`` for 0 .. len(leading) or p - 1.

    [NF] Eq. (9) with the number of free parameters of Wax and Kailath 1985 (complex eigenvectors, less their norms
    and mutual orthogonality), which the paper's :math:`2M(N-M)+1` simplifies:

    .. math:: n (p - M) \log \frac{\frac{1}{p-M} \sum_{i>M} \lambda_i}{(\prod_{i>M} \lambda_i)^{1/(p-M)}}
              + \frac{M (2p - M) + 1}{2} \zeta, \qquad \zeta = \log n \text{ (MDL)}, \; 2 \text{ (AIC)}

    Only the leading eigenvalues, trace and log determinant enter: no full eigendecomposition is needed.
    """
    if criterion not in ("mdl", "aic"):
        raise ParamError(f"model order: expected criterion 'mdl' or 'aic', got {criterion!r}")
    xp = array_namespace(summary.leading)
    p, n = summary.dimension, summary.n_snapshots
    leading = summary.leading[..., : p - 1]
    zero = xp.zeros_like(leading[..., :1])
    rest = summary.total[..., None] - xp.concat([zero, xp.cumulative_sum(leading, axis=-1)], axis=-1)
    log_rest = summary.log_total[..., None] - xp.concat([zero, xp.cumulative_sum(xp.log(leading), axis=-1)], axis=-1)
    order = xp.arange(leading.shape[-1] + 1, dtype=leading.dtype)
    remaining = p - order
    fit = n * (remaining * xp.log(rest / remaining) - log_rest)
    zeta = float(np.log(n)) if criterion == "mdl" else 2.0
    return fit + 0.5 * zeta * (order * (2 * p - order) + 1)


def model_order(summary: EigenvalueSummary, criterion: Criterion = "mdl") -> Array:
    """Number of sources that minimizes the criterion, ``[...]`` integers; at most ``len(leading)`` and ``p - 1``."""
    xp = array_namespace(summary.leading)
    return xp.argmin(criterion_values(summary, criterion), axis=-1)


def threshold_order(eigenvalues: Array, threshold: float) -> Array:
    """Number of eigenvalues ``[..., N]`` above ``threshold``, [NF] Eq. (8)."""
    xp = array_namespace(eigenvalues)
    return xp.sum(xp.astype(eigenvalues > threshold, xp.int64), axis=-1)


def energy_order(eigenvalues: Array, share: float) -> Array:
    """Least number of leading eigenvalues ``[..., N]`` whose sum is at least ``share`` of the trace, ``[...]``.

    Counts the noise in: it suits high SNR, where ``share`` is well above ``1 - N sigma^2 / trace`` it counts noise.

    Args:
        eigenvalues: Any order, not negative, ``[..., N]`` real.
        share: In (0, 1).
    """
    if not 0 < share < 1:
        raise ParamError(f"energy_order: expected 0 < share < 1, got {share}")
    xp = array_namespace(eigenvalues)
    descending = xp.flip(xp.sort(eigenvalues, axis=-1), axis=-1)
    below = xp.cumulative_sum(descending, axis=-1) < share * xp.sum(descending, axis=-1)[..., None]
    return xp.sum(xp.astype(below, xp.int64), axis=-1) + 1


class ModelOrderParams(Params, frozen=True):
    criterion: Annotated[
        Literal["mdl", "aic", "threshold", "energy"], Meta(description="mdl is consistent, aic finds weaker sources")
    ] = "mdl"
    threshold: Annotated[float, Meta(gt=0, description="Least eigenvalue of a source, for criterion threshold")] = 1.0
    energy_share: Annotated[float, Meta(gt=0, lt=1, description="Share of the power, for criterion energy")] = 0.95


class ModelOrder(Block):
    """Number of sources in each covariance."""

    params: ModelOrderParams
    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"order": Port("int64", "", name="n_sources")}

    def process(self, arrays: dict[str, Any]) -> Result:
        if not np.isfinite(arrays["covariance"]).all():
            raise EstimationError(f"{self.name}: the covariance is not finite")
        eigenvalues = np.linalg.eigvalsh(arrays["covariance"])
        if self.params.criterion == "threshold":
            return np.array(threshold_order(eigenvalues, self.params.threshold), dtype=np.int64)
        if self.params.criterion == "energy":
            return np.array(energy_order(eigenvalues, self.params.energy_share), dtype=np.int64)
        if (n := int(arrays["n_snapshots"])) < len(eigenvalues):  # those that are zero but for rounding
            eigenvalues = eigenvalues[-n:]
        return np.array(model_order(eigenvalue_summary(eigenvalues, n), self.params.criterion), dtype=np.int64)
