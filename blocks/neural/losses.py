"""What the networks are trained on: the spectrum at the true places, and eigenvalues that tell how many there are."""

from __future__ import annotations

import math

import torch

Tensor = torch.Tensor


def spectrum_loss(projector: Tensor, steering: Tensor, present: Tensor) -> Tensor:
    r"""Inverse MUSIC spectrum summed over the true sources, [NF] Eq. (14).

    .. math:: l_{sp} = \sum_m \|U_W^H a(\theta_m, \rho_m)\|^2

    Steering vectors are of norm 1 here, so each term lies in 0 .. 1.

    Args:
        projector: On the noise subspace, ``[batch, sensor, sensor]``.
        steering: ``[batch, source, sensor]``, norm 1.
        present: Which of the sources are there, ``[batch, source]``.

    Returns:
        ``[batch]``.
    """
    cost = (steering.conj() * (projector @ steering.mT).mT).sum(-1).real
    return torch.where(present, cost, torch.zeros_like(cost)).sum(-1)


def threshold_loss(eigenvalues: Tensor, n_sources: Tensor, threshold: float) -> Tensor:
    r"""``(lambda_M - L)(lambda_{M+1} - L)``, [NF] Eq. (15): negative where the threshold lies between the two.

    Args:
        eigenvalues: Descending, ``[batch, sensor]``.
        n_sources: ``[batch]``, 1 .. N - 1.
        threshold: ``Lambda``.
    """
    at = eigenvalues.gather(-1, n_sources[:, None] - 1)[:, 0]
    behind = eigenvalues.gather(-1, n_sources[:, None])[:, 0]
    return (at - threshold) * (behind - threshold)


def order_loss(eigenvalues: Tensor, n_sources: Tensor) -> Tensor:
    r"""Logarithm of arithmetic over geometric mean of the noise eigenvalues, [NF] Eq. (16): 0 where they are equal.

    What MDL and AIC measure at the true order; at least 0.

    Args:
        eigenvalues: Descending, above 0, ``[batch, sensor]``.
        n_sources: ``[batch]``, 0 .. N - 1.
    """
    n = eigenvalues.shape[-1]
    noise = torch.arange(n, device=eigenvalues.device) >= n_sources[:, None]
    count = noise.sum(-1)
    zero = torch.zeros_like(eigenvalues)
    arithmetic = torch.where(noise, eigenvalues, zero).sum(-1) / count
    # the logarithm is taken of ones where there is no noise eigenvalue, so that no infinity meets the mask
    logs = torch.where(noise, torch.where(noise, eigenvalues, torch.ones_like(eigenvalues)).log(), zero).sum(-1) / count
    return arithmetic.log() - logs


def criterion_loss(eigenvalues: Tensor, n_sources: Tensor, n_snapshots: int, temperature: float) -> Tensor:
    r"""Cross-entropy of the number of sources under ``softmax(-MDL / temperature)``, in nats.

    Beyond [NF]: Eq. (16) makes noise eigenvalues equal and says nothing of those of weak sources, which then drown.
    Here the criterion itself is the classifier (:func:`blocks.subspace.model_order.criterion_values`).

    Args:
        eigenvalues: Descending, above 0, ``[batch, sensor]``.
        n_sources: ``[batch]``, 0 .. N - 1.
        n_snapshots: ``T`` of the criterion.
        temperature: Criterion's units for one nat.
    """
    n = eigenvalues.shape[-1]
    order = torch.arange(n, device=eigenvalues.device, dtype=eigenvalues.dtype)
    total = eigenvalues.flip(-1).cumsum(-1).flip(-1)
    logs = eigenvalues.log().flip(-1).cumsum(-1).flip(-1)
    left = n - order
    value = n_snapshots * (left * (total / left).log() - logs) + order * (2 * n - order) / 2 * math.log(n_snapshots)
    return torch.nn.functional.cross_entropy(-value / temperature, n_sources, reduction="none")
