"""Where the elements of an array really are, learned beside a network from samples whose places are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from hil.array import ArrayGeometry
from hil.wavefront import steering_vector_polar

Tensor = torch.Tensor

#: Added to the Gram matrix of unit steering vectors: two sources on one spot keep a finite gradient.
_LOADING = 1e-6


class LearnedPositions(nn.Module):
    r"""Offsets of the elements from where they are said to be, in wavelengths: ``[channel, xyz]`` parameters.

    A calibration that is learned with the network ([NF] challenge C2), and apart from it: the offsets have a loss of
    their own, the concentrated likelihood of the samples given the true places,

    .. math:: \log \frac{\mathrm{tr}(P_A^\perp \hat R)}{\mathrm{tr} \hat R},

    which holds for coherent sources as for others and does not depend on the network. An offset that no source tells
    (across the plane that sources lie in) stays zero. A common shift of all elements is not told either and does no
    harm: it moves places by its own length.

    Args:
        array: As it is said to be.
        wavelength_m: Metres.
    """

    nominal_m: Tensor

    def __init__(self, array: ArrayGeometry, wavelength_m: float) -> None:
        super().__init__()
        self._array, self.wavelength_m = array, wavelength_m
        self.register_buffer("nominal_m", torch.from_numpy(np.array(array.channel_position_m)), persistent=False)
        self.offset = nn.Parameter(torch.zeros(len(array.channel_map), 3))

    def forward(self) -> Tensor:
        """Positions ``[channel, xyz]`` m, float64."""
        return self.nominal_m + self.wavelength_m * self.offset.double()

    def array(self) -> ArrayGeometry:
        """The array with its elements where they were learned to be."""
        position_m = np.array(self._array.position_m)
        position_m[list(self._array.channel_map)] = self().detach().cpu().numpy()
        return replace(self._array, position_m=position_m)

    def misfit(
        self,
        samples: Tensor,
        azimuth_rad: Tensor,
        range_m: Tensor,
        present: Tensor,
        amplitude: bool,
        *,
        elevation_rad: Tensor | float = 0.0,
    ) -> Tensor:
        """Logarithm of the part of the power that sources at these places leave unexplained, ``[batch]``.

        Args:
            samples: ``[batch, channel, snapshot]`` complex.
            azimuth_rad: ``[batch, source]``, anything where there is no source.
            range_m: ``[batch, source]``, likewise.
            present: Which sources are there, ``[batch, source]``.
            amplitude: Near elements receive more.
            elevation_rad: ``[batch, source]``, or of all sources.
        """
        azimuth_rad = torch.where(present, azimuth_rad, torch.zeros_like(azimuth_rad))
        range_m = torch.where(present, range_m, torch.full_like(range_m, self.wavelength_m))
        steering = steering_vector_polar(
            self(), azimuth_rad, range_m, self.wavelength_m, elevation_rad=elevation_rad, amplitude=amplitude
        )
        steering = steering / torch.linalg.vector_norm(steering, dim=-1, keepdim=True) * present[..., None]
        gram = steering.conj() @ steering.mT  # (source, source)
        gram = gram + torch.diag_embed(torch.where(present, _LOADING, 1.0)).to(gram.dtype)
        seen = steering.conj() @ samples.to(steering.dtype)  # (source, snapshot)
        explained = (seen.conj() * torch.linalg.solve(gram, seen)).real.sum((-1, -2))
        power = (samples.real.double() ** 2 + samples.imag.double() ** 2).sum((-1, -2))
        return torch.log((1 - explained / power.clamp(min=1e-30)).clamp(min=1e-9))


def learned_array(model: nn.Module) -> ArrayGeometry | None:
    """The array as ``model`` learned it; None where it did not look for its elements."""
    positions = getattr(model, "positions", None)
    return positions.array() if isinstance(positions, LearnedPositions) else None


def array_as_learned(model: nn.Module, array: ArrayGeometry) -> ArrayGeometry:
    """The array to model wavefronts with: as ``model`` learned it, or as it is said to be."""
    learned = learned_array(model)
    return array if learned is None else learned
