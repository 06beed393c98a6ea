"""A peak with a gradient: the place of the largest value, softened in a window round it."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def maskpeak(spectrum: Tensor, places: Tensor, half_width: int) -> Tensor:
    r"""Softmax-weighted mean of the places in a window round the highest value, [NF] Eq. (25).

    .. math:: \hat\rho = (\rho^{mask})^T \, \mathrm{softmax}(P(\rho^{mask}))

    The window is shifted where it would leave the grid, so that it has ``2 L + 1`` places everywhere.

    Args:
        spectrum: ``[..., place]``.
        places: ``[place]``.
        half_width: ``L``, 0 .. (places - 1) / 2; with 0 the result is the grid's own peak, without gradient.

    Returns:
        ``[...]``.
    """
    n, width = spectrum.shape[-1], 2 * half_width + 1
    first = (spectrum.argmax(-1) - half_width).clamp(0, n - width)
    window = first[..., None] + torch.arange(width, device=spectrum.device)
    weight = torch.softmax(spectrum.gather(-1, window), dim=-1)
    return (weight * places[window]).sum(-1)
