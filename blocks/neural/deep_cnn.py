"""DeepCNN: a classifier of cells from the covariance, a baseline of [NF] Section IV-A3.

Papageorgiou, Sellathurai and Eldar, "Deep networks for direction-of-arrival estimation in low SNR", IEEE Trans. Signal
Process. 69, 2021: convolutions over real part, imaginary part and phase of the sample covariance, dense layers, one
output a direction. Adapted to the near field: one output for each cell of azimuth and range. Narrower than theirs (64
channels for 256, 256 units for 4096), so that it can be trained on one processor core.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from blocks.neural.autocorrelation import autocorrelation
from blocks.neural.places import Places, places_error, searched_ranges
from hil.array import ArrayGeometry
from hil.params import Count, Params

Tensor = torch.Tensor
Batch = dict[str, Any]


class DeepCnnConfig(Params, frozen=True):
    channels: Annotated[Count, Meta(le=1024)] = 64
    units: Annotated[Count, Meta(le=8192, description="of each of the two dense layers")] = 256
    n_azimuth: Annotated[int, Meta(ge=3, le=721, description="cells, uniform in the sine")] = 61
    n_range: Annotated[int, Meta(ge=3, le=512, description="cells, uniform in the inverse range")] = 11
    azimuth_limit_rad: Annotated[float, Meta(gt=0, lt=1.5707963)] = np.pi / 3
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class DeepCnn(nn.Module):
    """The network, its loss and its error on a batch.

    Args:
        config: What it is.
        array: Of at least 8 sensors.
        wavelength_m: Metres.
    """

    gives_places = True

    sine: Tensor
    inverse_range_per_m: Tensor

    def __init__(self, config: DeepCnnConfig, array: ArrayGeometry, wavelength_m: float) -> None:
        super().__init__()
        self.config = config
        c, n = config.channels, len(array.channel_map)
        nearest, farthest = searched_ranges(array, wavelength_m)
        limit = float(np.sin(config.azimuth_limit_rad))
        self.register_buffer("sine", torch.linspace(-limit, limit, config.n_azimuth), False)
        self.register_buffer("inverse_range_per_m", torch.linspace(1 / farthest, 1 / nearest, config.n_range), False)
        side = (n - 3) // 2 + 1 - 3
        convolutions: list[nn.Module] = [nn.Conv2d(3, c, 3, stride=2), nn.BatchNorm2d(c), nn.ReLU()]
        for _ in range(3):
            convolutions += [nn.Conv2d(c, c, 2), nn.BatchNorm2d(c), nn.ReLU()]
        dense: list[nn.Module] = [nn.Flatten()]
        for width in (c * side * side, config.units):
            dense += [nn.Linear(width, config.units), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*convolutions, *dense, nn.Linear(config.units, config.n_azimuth * config.n_range))

    def logits(self, samples: Tensor) -> Tensor:
        """Of each cell to hold a source, ``[batch, azimuth, range]``, from ``[batch, sensor, snapshot]``."""
        covariance = autocorrelation(samples.to(torch.complex64), 1)[:, 0]
        power = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
        scaled = covariance / power.clamp(min=torch.finfo(power.dtype).tiny)
        out: Tensor = self.layers(torch.stack([scaled.real, scaled.imag, scaled.angle()], dim=1))
        return out.reshape(-1, self.config.n_azimuth, self.config.n_range)

    def forward(self, samples: Tensor, n_sources: int) -> Places:
        """The ``n_sources`` highest peaks, each the centre of mass of its three by three cells."""
        chance = torch.sigmoid(self.logits(samples))
        padded = nn.functional.pad(chance, (1, 1, 1, 1))
        around = padded.unfold(1, 3, 1).unfold(2, 3, 1).flatten(-2)  # [batch, azimuth, range, 9]
        peak = torch.where(chance >= around.amax(-1), chance, chance - 1).flatten(1)
        at = peak.topk(n_sources, dim=-1).indices
        weight = around.flatten(1, 2).gather(1, at[..., None].expand(-1, -1, 9)) + 1e-9
        weight = weight / weight.sum(-1, keepdim=True)
        step = torch.arange(9, device=at.device)
        row = (weight * (step // 3 - 1)).sum(-1) + at // self.config.n_range
        column = (weight * (step % 3 - 1)).sum(-1) + at % self.config.n_range
        return Places(torch.asin(_between(self.sine, row)), 1 / _between(self.inverse_range_per_m, column))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy of the cells, the true place being shared between the four nearest.

        Args:
            batch: ``samples``, ``azimuth_rad``, ``range_m`` (NaN where there is no source), ``n_sources`` as tensors.
        """
        logits = self.logits(batch["samples"])
        row = _place(self.sine, torch.sin(batch["azimuth_rad"]))
        column = _place(self.inverse_range_per_m, 1 / batch["range_m"])
        target = torch.zeros_like(logits).flatten(1)
        for i in (0, 1):
            for j in (0, 1):
                r, c = row.floor() + i, column.floor() + j
                share = (1 - (row - r).abs()) * (1 - (column - c).abs())
                inside = (share > 0) & (r < self.config.n_azimuth) & (c < self.config.n_range)
                cell = torch.where(inside, r * self.config.n_range + c, torch.zeros_like(r)).long()
                target.scatter_add_(1, cell, torch.where(inside, share, torch.zeros_like(share)).to(target.dtype))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.flatten(1), target.clamp(max=1), reduction="none")
        return loss.sum(-1).mean(), {}

    def error(self, batch: Batch, cutoff_m: float) -> dict[str, float]:
        """See :func:`blocks.neural.places.places_error`."""
        return places_error(self, batch, cutoff_m)


def _place(axis: Tensor, value: Tensor) -> Tensor:
    """Where ``value`` lies on an even axis, in steps; NaN stays."""
    return ((value - axis[0]) / (axis[1] - axis[0])).clamp(0, len(axis) - 1)


def _between(axis: Tensor, place: Tensor) -> Tensor:
    return axis[0] + place.clamp(0, len(axis) - 1) * (axis[1] - axis[0])
