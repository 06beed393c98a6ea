"""Sample covariance of array snapshots: of one block, or exponentially averaged over blocks."""

from typing import Any

from array_api_compat import array_namespace

Array = Any  # NumPy or torch


def sample_covariance(x: Array) -> Array:
    r"""Sample covariance :math:`\hat R = \frac{1}{T} \sum_t x(t) x^H(t)`, [NF] Section II-C1.

    Args:
        x: Samples, ``[..., sensor, snapshot]`` complex. The mean is not removed: carriers have none.

    Returns:
        ``[..., sensor, sensor]`` of the dtype of ``x``, unit of ``x`` squared. Complex64 input accumulates in
        complex64: relative error about 1e-7, which eigenvalues 60 dB below the largest feel; cast first for those.
    """
    xp = array_namespace(x)
    return (x @ xp.conj(xp.matrix_transpose(x))) / x.shape[-1]


def exponential_covariance(previous: Array, x: Array, forgetting: float) -> Array:
    r"""One step of :math:`R \leftarrow \beta R + (1 - \beta) \hat R(x)`.

    Args:
        previous: ``R`` so far, ``[..., sensor, sensor]``.
        x: The new block, ``[..., sensor, snapshot]``.
        forgetting: ``beta`` in [0, 1); equal blocks average over ``effective_snapshots`` of them.
    """
    return forgetting * previous + (1 - forgetting) * sample_covariance(x)


def effective_snapshots(n_snapshots: int, forgetting: float, n_blocks: int | None = None) -> float:
    r"""Snapshots of a block average with the same variance as the exponential average.

    :math:`T / \sum_i w_i^2` with weights ``w``: the first block has weight ``beta^(n-1)``, later ones
    ``(1 - beta) beta^i``. ``n_blocks`` absent: the steady state ``T (1 + beta) / (1 - beta)``.
    """
    if n_blocks is None:
        return n_snapshots * (1 + forgetting) / (1 - forgetting)
    tail = forgetting ** (2 * (n_blocks - 1))
    squares = tail + (1 - forgetting) / (1 + forgetting) * (1 - tail)
    return n_snapshots / squares
