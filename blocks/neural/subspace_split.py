"""Eigendecomposition whose gradient is finite where that of a subspace is: torch, batched, any number of sources."""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor

#: Eigenvalues of the two subspaces that are closer than this part of the largest are treated as so far apart.
SMALLEST_GAP = 1e-6


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, covariance: Tensor, n_sources: Tensor) -> tuple[Tensor, Tensor]:
        ascending, vectors = torch.linalg.eigh(covariance)
        eigenvalues, vectors = ascending.flip(-1), vectors.flip(-1)
        ctx.save_for_backward(eigenvalues, vectors, n_sources)
        return eigenvalues, vectors

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> tuple[Tensor, None]:
        eigenvalues, vectors, n_sources = ctx.saved_tensors
        n = eigenvalues.shape[-1]
        signal = torch.arange(n, device=eigenvalues.device) < n_sources[..., None]
        across = signal[..., :, None] != signal[..., None, :]
        gap = eigenvalues[..., None, :] - eigenvalues[..., :, None]  # (i, j): lambda_j - lambda_i
        smallest = SMALLEST_GAP * eigenvalues[..., :1, None].abs()
        gap = torch.where(gap.abs() < smallest, torch.where(gap < 0, -smallest, smallest), gap)
        weight = torch.where(across, 1 / gap, torch.zeros_like(gap))
        inner = weight * (vectors.mH @ grad_vectors) + torch.diag_embed(grad_values).to(vectors.dtype)
        grad = vectors @ inner @ vectors.mH
        return (grad + grad.mH) / 2, None


def subspace_split(covariance: Tensor, n_sources: Tensor) -> tuple[Tensor, Tensor]:
    r"""Eigenvalues, descending, and eigenvectors of Hermitian matrices, split behind ``n_sources``.

    The gradient is that of functions which do not change when the basis is turned *within* the signal or *within* the
    noise subspace: a projector, the MUSIC cost, the eigenvalues of ESPRIT's rotation. Only differences between an
    eigenvalue of the signal and one of the noise enter, so equal eigenvalues inside a subspace (a surrogate of low rank
    has many) do no harm, where the general gradient of an eigendecomposition is infinite. [NF] Algorithm 2 needs it.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian; complex128 is advisable.
        n_sources: ``[...]`` integers, 1 .. N - 1, one a matrix.

    Returns:
        ``[..., sensor]`` real and ``[..., sensor, sensor]``, columns in the order of the eigenvalues.
    """
    values, vectors = _Split.apply(covariance, n_sources)  # type: ignore[no-untyped-call]
    return values, vectors


def noise_projector(vectors: Tensor, n_sources: Tensor) -> Tensor:
    """``U_W U_W^H`` of the eigenvectors that :func:`subspace_split` gives, ``[..., sensor, sensor]``."""
    noise = torch.arange(vectors.shape[-1], device=vectors.device) >= n_sources[..., None]
    kept = vectors * noise[..., None, :]
    return kept @ kept.mH
